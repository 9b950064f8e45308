//! A gateway's configuration in a folder of its own: listeners, a store, surfaces, routes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::redis::as_documented_user;

/// Secrets of session tokens in tests.
pub(crate) const SESSION_SECRET: &str = "canary-session-secret-0123456789abcdef0123456789";

/// A folder with `gateway.toml` and `upstreams/`.
pub(crate) struct Site {
    folder: TempDir,
    /// The development certificate (DER) its TLS listener shows.
    pub(crate) root: Vec<u8>,
}

/// Where facts are kept.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// A file below the folder.
    Embedded,
    /// A Redis server, with a pepper shared between gateways.
    Redis {
        /// `redis://127.0.0.1:port`
        url: String,
        /// File with the pepper.
        pepper: PathBuf,
    },
    /// The primary that sentinels name.
    Sentinels {
        /// `127.0.0.1:port`
        addresses: Vec<String>,
        /// What they call the primary.
        service: String,
        /// File with the pepper.
        pepper: PathBuf,
    },
}

/// What differs between sites.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where facts are kept.
    pub(crate) store: Store,
    /// More lines for `[store]`.
    pub(crate) store_lines: String,
    /// More tables for `gateway.toml`.
    pub(crate) tables: String,
    /// Text of `upstreams/main.toml`; `{address}` is the upstream's.
    pub(crate) upstream: String,
}

/// The routes most tests use: given paths needing given scopes, a public one, one for each surface.
pub(crate) const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/v1/orders/**"
methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
access = { surfaces = ["api"], scopes = ["orders:read"] }
max_body = "2GiB"

[[routes]]
path = "/v1/payments/**"
methods = ["GET", "POST"]
access = { surfaces = ["api"], scopes = ["orders:write"] }

[[routes]]
path = "/v1/pairs/**"
methods = ["GET", "POST"]
access = { surfaces = ["pair"], scopes = ["orders:read"] }

[[routes]]
path = "/v1/session/**"
methods = ["GET"]
access = { surfaces = ["session"] }

[[routes]]
path = "/public/**"
methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
access = "public"

[[routes]]
path = "/admin/**"
methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
access = { surfaces = ["api"], scopes = ["admin:all"] }
"#;

impl Plan {
    /// The embedded store and the usual routes.
    pub(crate) fn usual() -> Self {
        Self {
            store: Store::Embedded,
            store_lines: String::new(),
            tables: String::new(),
            upstream: ROUTES.to_owned(),
        }
    }

    /// The usual routes over Redis.
    pub(crate) fn redis(url: &str, pepper: &Path) -> Self {
        Self {
            store: Store::Redis {
                url: url.to_owned(),
                pepper: pepper.to_owned(),
            },
            ..Self::usual()
        }
    }
}

impl Site {
    /// Writes the usual site in front of this upstream.
    pub(crate) fn usual(upstream: SocketAddr) -> Self {
        Self::of(&Plan::usual(), upstream)
    }

    /// Writes a site.
    pub(crate) fn of(plan: &Plan, upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned(), "api.example.com".to_owned()]).unwrap();
        let site = Self {
            root: key.cert.der().to_vec(),
            folder,
        };
        site.write("cert.pem", &key.cert.pem());
        site.write("key.pem", &key.signing_key.serialize_pem());
        site.write("session.secret", SESSION_SECRET);
        site.write("gateway.toml", &gateway_toml(plan));
        let (_, file, password) = as_documented_user();
        site.write(file, password);
        std::fs::create_dir_all(site.folder().join("upstreams")).unwrap();
        site.write("upstreams/main.toml", &plan.upstream.replace("{address}", &upstream.to_string()));
        site
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder().join("gateway.toml")
    }

    /// Reads a file of the site.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder().join(name)).unwrap()
    }

    /// Writes a file of the site.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder().join(name), text).unwrap();
    }
}

fn gateway_toml(plan: &Plan) -> String {
    let mut text = String::from(
        r#"workers = 2

[[listeners]]
name = "plain"
address = "127.0.0.1:0"

[[listeners]]
name = "tls"
address = "127.0.0.1:0"
[[listeners.tls.certificates]]
cert = "cert.pem"
key = "file:key.pem"

[admin]
socket = "state/admin.sock"
probes = "127.0.0.1:0"

[log]
format = "json"

[surfaces.api]
kind = "api_key"
carry = ["bearer", "header:X-Api-Token"]
prefixes = { live = "tlive_", test = "ttest_" }
mode = "live"

[surfaces.pair]
kind = "key_pair"
key_header = "x-api-key"
secret_header = "x-api-secret"
key_prefixes = { live = "pk_live_", test = "pk_test_" }
secret_prefixes = { live = "sk_live_", test = "sk_test_" }

[surfaces.session]
kind = "session_jwt"
carry = ["bearer", "cookie:session"]
secrets = "file:session.secret"
token_kind = "dashboard_session"
record_surface = "api"
"#,
    );
    match &plan.store {
        Store::Embedded => text.push_str("\n[store]\nkind = \"embedded\"\npath = \"state/durward.redb\"\n"),
        Store::Redis { url, pepper } => {
            let _ = write!(
                text,
                "\n[store]\nkind = \"redis\"\nurl = \"{url}\"\npepper = \"file:{}\"\n{}",
                pepper.display(),
                as_documented_user().0
            );
        }
        Store::Sentinels {
            addresses,
            service,
            pepper,
        } => {
            let _ = write!(
                text,
                "\n[store]\nkind = \"redis\"\nsentinels = {addresses:?}\nservice = \"{service}\"\npepper = \"file:{}\"\n",
                pepper.display()
            );
        }
    }
    text.push_str(&plan.store_lines);
    text.push_str(&plan.tables);
    text
}
