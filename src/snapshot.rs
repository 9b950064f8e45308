//! The resolved configuration. It is complete and immutable, and requests see nothing else of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::audit::settings::AuditSettings;
use crate::base::fingerprint::Peppers;
use crate::base::ids::GatewayId;
use crate::decide::audit::AuditPolicy;
use crate::decide::cors::Cors;
use crate::decide::headers::HeaderPolicy;
use crate::decide::peer::PeerPolicy;
use crate::decide::route::{DialectIndex, Route, Router};
use crate::decide::scope_grants::ScopeGrants;
use crate::decide::surface::Surface;
use crate::dialect::Dialect;
use crate::store::embedded::first_start::PepperLocation;
use crate::store::redis::{RedisAccess, WaitReplicas};
use crate::upstream::spec::UpstreamSpec;

pub mod body_schema;
pub mod provider_route;
pub mod served_route;
pub mod sign_on_route;

use served_route::ServedRoute;
use sign_on_route::SignOnSettings;

/// What a reload replaces as a whole. Indices point into the lists of the same snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// Surfaces, in the order of the configuration.
    pub surfaces: Vec<Surface>,
    pub dialects: Vec<Dialect>,
    /// The dialect of refusals that happen before a route is found.
    pub default_dialect: DialectIndex,
    pub upstreams: Vec<Arc<UpstreamSpec>>,
    pub served_routes: Vec<ServedRoute>,
    /// The roles of the configuration and the scopes that routes grant. They decide, together with the facts, which
    /// scopes a record may use.
    pub scope_grants: ScopeGrants,
    pub routes: Vec<Route>,
    /// Finds a route by host, method and path.
    pub router: Router,
    /// The CORS policies.
    pub cors: Cors,
    /// The headers that are dropped, refused and set.
    pub headers: HeaderPolicy,
    /// The peers that are trusted proxies.
    pub peers: PeerPolicy,
    /// The certificates of each listener, in the order of [`Settings::listeners`]; `None` for a listener without TLS.
    pub certificates: Vec<Option<Arc<CertificateSet>>>,
    /// What the audit trail shows of requests.
    pub audit: AuditPolicy,
    /// What routes of single sign-on share, and how identity providers are reached.
    pub sign_on: Option<Arc<SignOnSettings>>,
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct CertificateSet {
    /// Certified keys with the DNS names they are for (lower case, `*.` for one label), in order; the first is the default.
    pub entries: Vec<(Vec<String>, Arc<rustls::sign::CertifiedKey>)>,
}

impl CertificateSet {
    /// The index of the certificate for a name: an exact match, else a wildcard match, else the first one.
    #[must_use]
    pub fn index_for(&self, name: &str) -> usize {
        let position = |wanted: &str| self.entries.iter().position(|(names, _)| names.iter().any(|n| n == wanted));
        let wildcard = || name.split_once('.').and_then(|(_, parent)| position(&format!("*.{parent}")));
        position(name).or_else(wildcard).unwrap_or(0)
    }
}

/// The settings that only a restart changes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration file it came from.
    pub config_path: PathBuf,
    /// This gateway's name in receipts, if the operator gave one.
    pub id: Option<GatewayId>,
    pub listeners: Vec<ListenerSettings>,
    /// Number of workers; default one for each core.
    pub workers: usize,
    pub store: StoreSettings,
    /// Peppers; see [`Peppers`].
    pub peppers: Peppers,
    pub admin: AdminSettings,
    /// Limits of connections and requests.
    pub limits: Limits,
    pub log_in: LogInSettings,
    pub sign_up: HashingLimits,
    pub log: LogSettings,
    /// The audit trail, if there is one.
    pub audit: Option<AuditSettings>,
    /// An acknowledged revocation holds everywhere after this time (at most 60 s).
    pub revocation_bound: Duration,
    /// How often streams that are still open are judged again.
    pub stream_check: Duration,
}

impl Settings {
    /// The settings that differ from those of the running gateway and so wait for a restart, by their names in the
    /// configuration.
    #[must_use]
    pub fn needing_restart(&self, running: &Self) -> Vec<&'static str> {
        let parts = [
            ("id", self.id != running.id),
            ("listeners", self.listeners != running.listeners),
            ("workers", self.workers != running.workers),
            ("store", !self.store.is_same(&running.store)),
            ("store.pepper", !self.peppers_are(&running.peppers)),
            ("admin", self.admin != running.admin),
            ("limits", self.limits != running.limits),
            ("log_in", self.log_in != running.log_in),
            ("sign_up", self.sign_up != running.sign_up),
            ("log", self.log != running.log),
            ("audit", self.audit != running.audit),
            ("revocation.bound", self.revocation_bound != running.revocation_bound),
            ("revocation.stream_check", self.stream_check != running.stream_check),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    fn peppers_are(&self, running: &Peppers) -> bool {
        self.peppers.checks() == running.checks()
    }
}

impl StoreSettings {
    fn is_same(&self, other: &Self) -> bool {
        let numbers = |s: &Self| {
            (
                (s.max_age, s.absent_age, s.lookup_timeout, s.keep_ended),
                (s.max_lookups, s.unknown_lookups, s.cache_entries, s.absent_entries),
                (s.warm_start, s.warm_start_rate, s.warm_start_time),
            )
        };
        let kinds = match (&self.kind, &other.kind) {
            (StoreKind::Embedded { path: a }, StoreKind::Embedded { path: b }) => a == b,
            (
                StoreKind::Redis {
                    access: a,
                    key_prefix: prefix_a,
                    wait_replicas: wait_a,
                },
                StoreKind::Redis {
                    access: b,
                    key_prefix: prefix_b,
                    wait_replicas: wait_b,
                },
            ) => a == b && prefix_a == prefix_b && wait_a == wait_b,
            _ => false,
        };
        kinds && numbers(self) == numbers(other)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    pub name: String,
    pub address: SocketAddr,
    pub transport: ListenerTransport,
}

/// The transport of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerTransport {
    /// TLS 1.2 and 1.3; ALPN h2 and http/1.1.
    Tls,
    /// Plain HTTP/1.1, on loopback or with an `insecure_` setting.
    Plain,
}

/// The store, and the ages that cached facts may reach.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    pub kind: StoreKind,
    /// Where the first pepper is.
    pub pepper: PepperLocation,
    /// Oldest usable fact (default 30 s, at most bound - 5 s).
    pub max_age: Duration,
    /// How long an absence is remembered (default and at most 5 s).
    pub absent_age: Duration,
    /// Deadline of one look-up (default 250 ms).
    pub lookup_timeout: Duration,
    /// Most look-ups in flight; more are refused at once (default 512).
    pub max_lookups: usize,
    /// How long records that ended by themselves are kept (default 30 days).
    pub keep_ended: Duration,
    /// Most look-ups in a second of credentials that were not in use lately (default 500; no limit with the embedded
    /// store).
    pub unknown_lookups: Option<u32>,
    /// Most credentials that a warm start reads ahead.
    pub warm_start: usize,
    /// Most credentials that a warm start reads ahead in a second.
    pub warm_start_rate: u32,
    /// The longest time of a warm start.
    pub warm_start_time: Duration,
    /// Most credentials in the cache (default 100,000).
    pub cache_entries: u64,
    /// Most absences in the cache (default 50,000).
    pub absent_entries: u64,
}

#[derive(Debug, Clone)]
pub enum StoreKind {
    Embedded {
        path: PathBuf,
    },
    Redis {
        access: Box<RedisAccess>,
        /// Prefix of every key (default `durward`).
        key_prefix: String,
        /// The replicas that must have a change before it is acknowledged (default: all replicas that could be
        /// promoted).
        wait_replicas: WaitReplicas,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// TCP address for `/livez`, `/readyz`, `/metrics` only; loopback unless an `insecure_` setting allows more. `None` = Unix socket only.
    pub probes: Option<SocketAddr>,
}

/// Limits, with their defaults in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections of the process (10,000).
    pub connections: usize,
    /// Open connections of one client address (1,000; /64 for IPv6).
    pub connections_per_address: usize,
    /// TLS handshakes at a time (256).
    pub handshakes: usize,
    /// Requests in flight (4,096), then 503.
    pub requests: usize,
    /// From accept to the end of the TLS handshake (10 s).
    pub handshake_timeout: Duration,
    /// From accept (or handshake) to the first byte, and from the first byte to the end of the head (10 s each).
    pub head_timeout: Duration,
    /// Between requests (60 s).
    pub keep_alive: Duration,
    /// Longest pause within a request body (30 s).
    pub body_idle: Duration,
    /// Lowest rate of a request body after 10 s, in bytes per second (1,024).
    pub body_rate: u64,
    /// Lowest rate at which a client takes an answer, after 10 s of waiting, in bytes per second (1,024).
    pub answer_rate: u64,
    /// Largest share of one address in the requests in flight and in the connections to an endpoint, in percent (75).
    pub address_share: u32,
    /// Largest share of one credential in both, in percent (50).
    pub credential_share: u32,
    /// Requests on one connection (10,000).
    pub requests_per_connection: u64,
    /// Longest life of a connection (1 h, ±10 %).
    pub connection_age: Duration,
    /// HTTP/2 streams at a time on one connection (100).
    pub h2_streams: u32,
    /// Credentials that served routes may make under one record (100,000).
    pub children: u64,
    /// Credentials of one tenant up to which served routes make more (1,000,000).
    pub credentials: u64,
    /// How long after SIGTERM the gateway reports that it is not ready before it closes connections (5 s) ...
    pub drain_delay: Duration,
    /// ... and how long requests in flight may then take (30 s).
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1_000,
            handshakes: 256,
            requests: 4_096,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            body_idle: Duration::from_secs(30),
            body_rate: 1_024,
            answer_rate: 1_024,
            address_share: 75,
            credential_share: 50,
            requests_per_connection: 10_000,
            connection_age: Duration::from_secs(3_600),
            h2_streams: 100,
            children: 100_000,
            credentials: 1_000_000,
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// The limits on attempts at passwords, and on hashing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogInSettings {
    /// Failures are forgotten after this (15 min).
    pub window: Duration,
    /// Failures with one account from one address (10; /64 for IPv6).
    pub tries_per_account_and_address: u32,
    /// Failures from one address, whatever the account (100).
    pub tries_per_address: u32,
    /// Failures with one account from all addresses where it is not known (50).
    pub tries_per_account: u32,
    /// How long an address stays known after a right password (35 days).
    pub known_for: Duration,
    pub hashes: HashingLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashingLimits {
    pub at_once: usize,
    pub waiting: usize,
}

impl Default for LogInSettings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(15 * 60),
            tries_per_account_and_address: 10,
            tries_per_address: 100,
            tries_per_account: 50,
            known_for: Duration::from_secs(35 * 86_400),
            hashes: HashingLimits { at_once: 2, waiting: 48 },
        }
    }
}

/// The format of the logs, and whether they have access lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// JSON lines, or text for people.
    pub format: LogFormat,
    /// Whether access lines are written.
    pub access: AccessLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    Pretty,
}

/// Whether access lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// One line for each request, to standard output.
    On,
    Off,
}

/// The current snapshot, shared by the workers. For each request a worker compares one version number; it takes the
/// lock only when the number has changed.
#[derive(Debug)]
pub struct SharedSnapshot {
    version: AtomicU64,
    current: RwLock<Arc<Snapshot>>,
}

impl SharedSnapshot {
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            version: AtomicU64::new(1),
            current: RwLock::new(Arc::new(snapshot)),
        }
    }

    /// The number of the current snapshot.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the snapshot for all requests that begin from now on.
    pub fn replace(&self, snapshot: Snapshot) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.version.fetch_add(1, Ordering::Release);
    }
}
