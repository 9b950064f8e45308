//! `[[listeners]]`: where clients connect, and with which certificates.

use std::net::SocketAddr;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::secret::Reference;
use crate::config::source::Located;

/// One listener.
pub const LISTENER: Schema = Schema {
    parts: &[],
    name: "`[[listeners]]`",
    about: "A socket for clients. With `tls` it speaks HTTP/2 and HTTP/1.1, without it HTTP/1.1 only.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "How logs and metrics call it.",
        },
        Key {
            name: "address",
            kind: Kind::Address,
            default: Fallback::Required,
            about: "Where it listens. Port 0 lets the system choose.",
        },
        Key {
            name: "tls",
            kind: Kind::Table(&TLS),
            default: Fallback::Absent("plain HTTP, on loopback only"),
            about: "Certificates; makes it a TLS listener (1.2 and 1.3).",
        },
        Key {
            name: "insecure_plain",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Allows plain HTTP on an address that is not loopback: credentials then cross the network in the clear.",
        },
    ],
};

/// TLS of a listener.
pub const TLS: Schema = Schema {
    parts: &[],
    name: "`[listeners.tls]`",
    about: "Certificates reload with the rest of the configuration, without dropping a connection.",
    keys: &[Key {
        name: "certificates",
        kind: Kind::Tables(&CERTIFICATE),
        default: Fallback::Required,
        about: "Certificates, chosen by the server name the client asks for; the first one serves clients that name none.",
    }],
};

/// One certificate.
pub const CERTIFICATE: Schema = Schema {
    parts: &[],
    name: "`[[listeners.tls.certificates]]`",
    about: "A certificate chain with its key.",
    keys: &[
        Key {
            name: "cert",
            kind: Kind::Path,
            default: Fallback::Required,
            about: "PEM file with the chain, the server's own certificate first.",
        },
        Key {
            name: "key",
            kind: Kind::Secret,
            default: Fallback::Required,
            about: "PEM private key (PKCS #8, PKCS #1 or SEC 1). It must belong to the certificate.",
        },
        Key {
            name: "names",
            kind: Kind::Texts,
            default: Fallback::Absent("the DNS names in the certificate"),
            about: "Names it is used for; `*.example.com` stands for one label.",
        },
        Key {
            name: "insecure_self_signed",
            kind: Kind::Texts,
            default: Fallback::Absent("nothing is created"),
            about: "For development: when both files are missing, `durward serve` creates a self-signed certificate for these names.",
        },
    ],
};

/// One listener as written.
#[derive(Debug)]
pub struct WrittenListener {
    /// Its name.
    pub name: Located<String>,
    /// Its address.
    pub address: Located<SocketAddr>,
    /// Certificates; `None` = plain.
    pub certificates: Option<Vec<WrittenCertificate>>,
    /// Whether plain is allowed off loopback.
    pub insecure_plain: bool,
}

/// One certificate as written.
#[derive(Debug)]
pub struct WrittenCertificate {
    /// PEM chain.
    pub cert: Located<String>,
    /// PEM key.
    pub key: Located<Reference>,
    /// Names it is for; empty = those it contains.
    pub names: Vec<Located<String>>,
    /// Names of a development certificate.
    pub self_signed: Vec<Located<String>>,
}

/// Reads one listener. `None` when it has no name or no address; that is reported.
#[must_use]
pub fn read(section: &Section<'_>) -> Option<WrittenListener> {
    let certificates = section
        .section("tls")
        .map(|tls| tls.some_sections("certificates").iter().filter_map(read_certificate).collect());
    Some(WrittenListener {
        insecure_plain: section.is_set("insecure_plain"),
        certificates,
        name: section.text("name")?,
        address: section.address("address")?,
    })
}

fn read_certificate(section: &Section<'_>) -> Option<WrittenCertificate> {
    let (cert, key) = (section.text("cert"), Reference::read(section, "key"));
    Some(WrittenCertificate {
        names: section.texts("names"),
        self_signed: section.texts("insecure_self_signed"),
        cert: cert?,
        key: key?,
    })
}
