//! Where a Redis store is and how it is reached: settings, connections, the primary and its replicas.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo};
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};

use crate::base::fingerprint::PepperChecks;
pub use dial::{ByteStream, Network, RedisEnvironment};
pub(crate) use dial::{CONNECT_TIMEOUT, RedisConnection};
pub(crate) use fault::{RetryRead, StoreFault};
pub(crate) use inspection::{Concerns, inspect_for_ever};
pub(crate) use link::{Link, LinkRole, LinkState, LiveLink};
pub(crate) use primary_locator::{PrimaryLocator, primary_moved};
pub(crate) use reconnect::Backoff;
pub use registration::Registered;
pub(crate) use registration::{GatewayRegistration, KnownList, ServerIdentity};
pub use replicas::WaitReplicas;
pub(crate) use replicas::{LaggingReplica, Naming, PromotableReplicas, Replication};

pub(super) mod cluster;
mod dial;
mod fault;
mod inspection;
mod link;
mod majority;
mod primary_locator;
mod reconnect;
mod registration;
mod replicas;
pub(super) mod reply_guard;
pub(super) mod sentinel;

/// The port of a Redis server whose address names none.
const REDIS_PORT: u16 = 6379;

/// The port of a sentinel whose address names none.
const SENTINEL_PORT: u16 = 26_379;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Host (name or address) and port.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads `host`, `host:port` or `[v6]:port` of a Redis server.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_with(text, REDIS_PORT)
    }

    /// Reads the address of a sentinel, in the same forms.
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

    /// Reads the address in a redirection of a cluster: `host:port`, with an IPv6 host without brackets.
    pub(crate) fn parse_redirect(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::tcp(host, port.parse().ok()?)
    }

    /// `None` unless the host is a valid DNS name or an IP address.
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

/// The ACL user at Redis; the default user if there is no name.
#[derive(Clone, Default)]
pub struct RedisUser {
    pub name: Option<String>,
    pub password: Option<SecretString>,
}

impl PartialEq for RedisUser {
    fn eq(&self, other: &Self) -> bool {
        let exposed = |user: &Self| user.password.as_ref().map(|password| password.expose_secret().to_owned());
        self.name == other.name && exposed(self) == exposed(other)
    }
}

/// How servers are verified, and the client certificate they are shown.
#[derive(Clone)]
pub struct RedisTls {
    pub config: Arc<rustls::ClientConfig>,
    /// The name in their certificates, if it differs from the host of the address.
    pub server_name: Option<ServerName<'static>>,
    /// A digest of the files and settings this was made from. A reload compares it.
    pub digest: [u8; 32],
}

impl PartialEq for RedisTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.server_name == other.server_name
    }
}

/// The sentinels, and their name for our primary.
#[derive(Clone, PartialEq)]
pub struct SentinelAccess {
    /// All sentinels. More than half of this list must agree about where the primary is.
    pub addresses: Vec<Endpoint>,
    pub service: String,
    pub user: RedisUser,
    pub tls: Option<RedisTls>,
}

/// How the primary is found.
#[derive(Clone, PartialEq)]
pub enum Servers {
    One(Endpoint),
    Sentinels(Box<SentinelAccess>),
    /// Seeds of a cluster: any of its nodes knows which one owns our slot.
    Cluster(Vec<Endpoint>),
}

/// Where Redis is, and the user of this gateway there.
#[derive(Clone, PartialEq)]
pub struct RedisAccess {
    /// How the primary is found.
    pub servers: Servers,
    pub user: RedisUser,
    /// The number of the database; 0 in a cluster.
    pub database: u32,
    /// `None` without TLS.
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

#[derive(Clone, PartialEq)]
pub struct RedisUrl {
    pub endpoint: Endpoint,
    /// The user and the password in the URL.
    pub user: RedisUser,
    pub database: u32,
    /// `rediss://` asks for TLS.
    pub scheme: Scheme,
}

/// Whether a URL asks for TLS.
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
    /// What is wrong. The text repeats no part of the URL, because a URL may hold a password.
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

    /// Access to this one server, with the given TLS.
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
    pub access: RedisAccess,
    /// Prefix of every key; becomes a hash tag.
    pub key_prefix: String,
    /// Replicas that must have a change before it is acknowledged.
    pub wait_replicas: WaitReplicas,
    pub lookup_timeout: Duration,
    /// Age limit of facts. It decides how often the witnesses are asked which server is the primary.
    pub max_age: Duration,
    /// Check values of this gateway's peppers.
    pub peppers: PepperChecks,
    /// The gateway that admits requests by what it reads here. It announces itself, and its look-ups fail while it is not
    /// registered. `None` for a process that admits no requests, such as the command line.
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
