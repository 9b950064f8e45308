//! Where a Redis store is and how it is reached: settings, connections, the primary and its replicas.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo};
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};

use crate::base::fingerprint::PepperChecks;
pub(crate) use cluster::{parse_slots, replicas_of};
pub use dial::{ByteStream, Network, Surroundings};
pub(crate) use dial::{CONNECT_TIMEOUT, Wire};
pub(crate) use fault::{Fault, Retry};
pub(crate) use inspection::{Concerns, inspect_for_ever};
pub(crate) use link::{Duty, Link, LinkState, Live};
pub(crate) use primary_locator::{Whereabouts, left};
pub(crate) use reconnect::Backoff;
pub use registration::Registered;
pub(crate) use registration::{Registration, Seen, Server};
pub use replicas::WaitReplicas;
pub(crate) use replicas::{Missing, Naming, Replication, Wanted};
pub(crate) use sentinel::Account;

mod cluster;
mod dial;
mod fault;
mod inspection;
mod link;
mod majority;
mod primary_locator;
mod reconnect;
mod registration;
mod replicas;
pub(crate) mod reply_guard;
mod sentinel;

/// The port of Redis where none is written, ...
const REDIS_PORT: u16 = 6379;

/// ... and that of Sentinel.
const SENTINEL_PORT: u16 = 26_379;

/// One server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Host (name or address) and port.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads `host`, `host:port` or `[v6]:port` of a Redis server.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_with(text, REDIS_PORT)
    }

    /// Reads the address of a sentinel, likewise.
    #[must_use]
    pub fn parse_sentinel(text: &str) -> Option<Self> {
        Self::parse_with(text, SENTINEL_PORT)
    }

    fn parse_with(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => {
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
                None => (text, Some("")),
            },
        };
        let port = match port? {
            "" => default_port,
            digits => digits.parse().ok().filter(|port| *port != 0)?,
        };
        Self::tcp(host, port)
    }

    /// Where a node of a cluster sends us: `host:port`, an IPv6 host without brackets.
    pub(crate) fn parse_redirect(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::tcp(host, port.parse().ok()?)
    }

    /// A host that a name server or a certificate could know, and a port.
    pub(crate) fn tcp(host: &str, port: u16) -> Option<Self> {
        ServerName::try_from(host).ok()?;
        Some(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Who we are: a user of Redis' own, or the default one.
#[derive(Clone, Default)]
pub struct RedisUser {
    /// The ACL user's name.
    pub name: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
}

impl PartialEq for RedisUser {
    fn eq(&self, other: &Self) -> bool {
        let exposed = |user: &Self| user.password.as_ref().map(|password| password.expose_secret().to_owned());
        self.name == other.name && exposed(self) == exposed(other)
    }
}

/// How servers are verified, and what we show them.
#[derive(Clone)]
pub struct RedisTls {
    /// Authorities and client certificate.
    pub config: Arc<rustls::ClientConfig>,
    /// The name their certificates must have, where it is not the host we connect to.
    pub server_name: Option<ServerName<'static>>,
    /// A digest of everything this was made from, to tell whether a reload changes it.
    pub digest: [u8; 32],
}

impl PartialEq for RedisTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.server_name == other.server_name
    }
}

/// Sentinels, and what they call our primary.
#[derive(Clone, PartialEq)]
pub struct SentinelAccess {
    /// All of them: more than half of this list must agree about where the primary is.
    pub addresses: Vec<Endpoint>,
    /// The primary's name there.
    pub service: String,
    /// Who we are there.
    pub user: RedisUser,
    /// TLS towards them.
    pub tls: Option<RedisTls>,
}

/// How the primary is found.
#[derive(Clone, PartialEq)]
pub enum Servers {
    /// It is always here.
    One(Endpoint),
    /// Sentinels know.
    Sentinels(Box<SentinelAccess>),
    /// Any node of the cluster knows which one has our slot.
    Cluster(Vec<Endpoint>),
}

/// Where Redis is and who we are there.
#[derive(Clone, PartialEq)]
pub struct RedisAccess {
    /// How the primary is found.
    pub servers: Servers,
    /// Who we are.
    pub user: RedisUser,
    /// The number of the database; 0 in a cluster.
    pub database: u32,
    /// TLS, if it is spoken.
    pub tls: Option<RedisTls>,
}

impl fmt::Debug for RedisAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, endpoints) = match &self.servers {
            Servers::One(endpoint) => ("one", std::slice::from_ref(endpoint)),
            Servers::Sentinels(sentinels) => ("sentinels", sentinels.addresses.as_slice()),
            Servers::Cluster(seeds) => ("cluster", seeds.as_slice()),
        };
        f.debug_struct("RedisAccess")
            .field(kind, &endpoints)
            .field("database", &self.database)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// What a URL says.
#[derive(Clone, PartialEq)]
pub struct RedisUrl {
    /// The server.
    pub endpoint: Endpoint,
    /// The user and password it holds.
    pub user: RedisUser,
    /// The database.
    pub database: u32,
    /// Whether it asks for TLS.
    pub scheme: Scheme,
}

/// What a URL asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `redis://`
    Plain,
    /// `rediss://`
    Tls,
}

impl RedisUrl {
    /// Reads a `redis://`, `rediss://` or `redis+unix://` URL.
    ///
    /// # Errors
    /// A text that says what is wrong and repeats nothing of the URL, which may hold a password.
    pub fn parse(url: &SecretString) -> Result<Self, String> {
        let info = url
            .expose_secret()
            .into_connection_info()
            .map_err(|_| "the URL is not redis://[user[:password]@]host[:port][/db] or rediss://…".to_owned())?;
        let (endpoint, scheme) = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err("the URL asks for TLS without verification, which is not supported".into());
            }
            ConnectionAddr::TcpTls { host, port, .. } => (Endpoint::tcp(host, *port), Scheme::Tls),
            ConnectionAddr::Tcp(host, port) => (Endpoint::tcp(host, *port), Scheme::Plain),
            ConnectionAddr::Unix(path) => (Some(Endpoint::Unix(path.clone())), Scheme::Plain),
            _ => (None, Scheme::Plain),
        };
        let settings = info.redis_settings();
        Ok(Self {
            endpoint: endpoint.ok_or("the URL's host is neither a name nor an address")?,
            user: RedisUser {
                name: settings.username().map(str::to_owned),
                password: settings.password().map(SecretString::from),
            },
            database: u32::try_from(settings.db()).map_err(|_| "the URL's database is not a number from 0 on")?,
            scheme,
        })
    }

    /// Access to one server, without TLS of its own.
    #[must_use]
    pub fn into_access(self, tls: Option<RedisTls>) -> RedisAccess {
        RedisAccess {
            servers: Servers::One(self.endpoint),
            user: self.user,
            database: self.database,
            tls,
        }
    }
}

/// Where the store is and how it is used.
#[derive(Clone)]
pub struct RedisSettings {
    /// Where, and as whom.
    pub access: RedisAccess,
    /// Prefix of every key; becomes a hash tag.
    pub key_prefix: String,
    /// Replicas that must have a change before it is acknowledged.
    pub wait_replicas: WaitReplicas,
    /// Deadline of one look-up.
    pub lookup_timeout: Duration,
    /// Oldest usable fact: says how often those are asked who know which server is the primary.
    pub max_age: Duration,
    /// What tells this gateway's peppers from others.
    pub peppers: PepperChecks,
    /// Who reads here to admit by it, and announces itself: look-ups fail while it is not registered. `None` for
    /// what admits nobody.
    pub registered: Option<Registered>,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings")
            .field("access", &self.access)
            .field("key_prefix", &self.key_prefix)
            .field("wait_replicas", &self.wait_replicas)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_url_is_not_repeated() {
        for bad in [
            "http://user:canary-4711@host",
            "redis://user:canary-4711@host/notanumber",
            "rediss://user:canary-4711@host/#insecure",
            "canary-4711",
        ] {
            let error = RedisUrl::parse(&SecretString::from(bad)).err().unwrap();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_url_says_where_who_and_whether_tls() {
        let parse = |url: &str| RedisUrl::parse(&SecretString::from(url)).unwrap();
        let url = parse("rediss://user:pass@redis.example:6380/2");
        assert_eq!(url.endpoint.to_string(), "redis.example:6380");
        assert_eq!((url.user.name.as_deref(), url.database, url.scheme), (Some("user"), 2, Scheme::Tls));
        assert_eq!(url.user.password.unwrap().expose_secret(), "pass");
        assert_eq!(parse("redis://127.0.0.1").endpoint.to_string(), "127.0.0.1:6379");
        assert_eq!(parse("redis://127.0.0.1").scheme, Scheme::Plain);
        assert_eq!(
            parse("redis+unix:///run/redis.sock").endpoint,
            Endpoint::Unix("/run/redis.sock".into())
        );
    }

    #[test]
    fn addresses_are_read_and_what_is_none_is_not() {
        for (text, shown) in [
            ("a.example", "a.example:6379"),
            ("a.example:7000", "a.example:7000"),
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("[::1]:7000", "[::1]:7000"),
            ("[::1]", "[::1]:6379"),
        ] {
            assert_eq!(Endpoint::parse(text).map(|e| e.to_string()).as_deref(), Some(shown));
        }
        assert_eq!(Endpoint::parse_sentinel("s1").unwrap().to_string(), "s1:26379");
        for bad in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "::1",
            "[a]:1",
            "[::1",
            "a b",
            "user@a",
            "redis://a",
        ] {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let access = RedisUrl::parse(&SecretString::from("redis://user:canary-4711@host"))
            .unwrap()
            .into_access(None);
        assert!(!format!("{access:?}").contains("canary"), "{access:?}");
    }
}
