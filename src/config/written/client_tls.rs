//! What the gateway shows and trusts as a client of TLS, towards upstreams and stores.

use crate::config::reader::Section;
use crate::config::secret::Reference;
use crate::config::source::{Located, Place};

/// A table of client TLS as written.
#[derive(Debug)]
pub struct WrittenClientTls {
    /// Where the table stands.
    pub at: Place,
    /// The only authorities trusted.
    pub ca: Option<Located<String>>,
    /// Chain the gateway presents.
    pub client_cert: Option<Located<String>>,
    /// Its key.
    pub client_key: Option<Located<Reference>>,
    /// Name the servers' certificates must have.
    pub server_name: Option<Located<String>>,
}

/// Reads such a table, if `section` has one of this name.
pub(super) fn read(section: &Section<'_>, name: &str) -> Option<WrittenClientTls> {
    section.section(name).map(|tls| WrittenClientTls {
        at: tls.at(),
        ca: tls.text("ca"),
        client_cert: tls.text("client_cert"),
        client_key: Reference::read(&tls, "client_key"),
        server_name: tls.text("server_name"),
    })
}
