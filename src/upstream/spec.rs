//! Upstreams as configured.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::wire::head::ResponseLimits;

/// A named service behind the gateway.
#[derive(Debug, Clone)]
pub struct UpstreamSpec {
    pub name: Arc<str>,
    pub endpoints: Vec<EndpointSpec>,
    /// Deadline for connecting, TLS included. The default is 2 s: an endpoint that needs longer is ill.
    pub connect_timeout: Duration,
    /// Idle connections are closed after this time. The default is 4 s, below Node's 5 s, the shortest in common use.
    pub keep_alive: Duration,
    /// Most connections of one worker to one endpoint. Further requests wait, up to the connect deadline.
    pub max_connections: usize,
    /// The value of the `Host` field that is sent.
    pub host: HostHeader,
    /// How large the head of an answer may be (`response_head`, `response_fields`).
    pub answers: ResponseLimits,
    pub ejection: Ejection,
    /// TLS settings towards the endpoints. `None` is plain HTTP.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl UpstreamSpec {
    /// Whether connections that were made for `other` may serve this one, since nothing about them differs. TLS
    /// settings are compared by identity, since the certificates in equal files may have changed.
    #[must_use]
    pub fn shares_connections_with(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same_tls
            && self.name == other.name
            && self.endpoints == other.endpoints
            && (self.connect_timeout, self.keep_alive) == (other.connect_timeout, other.keep_alive)
            && self.max_connections == other.max_connections
            && self.host == other.host
            && self.answers == other.answers
            && self.ejection == other.ejection
    }
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Host name or IP literal (without brackets).
    pub host: String,
    pub port: u16,
    /// `host[:port]` as a `Host` field would carry it.
    pub authority: String,
    /// The name that its certificate must have, with TLS.
    pub server_name: Option<ServerName<'static>>,
}

/// The value of `Host` that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client asked for.
    Client,
    Endpoint,
    Fixed(String),
}

/// When an endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// After this many failures in a row (connect errors, broken answers, missed deadlines).
    pub failures: u32,
    /// For this long. It is doubled with each repetition, up to 16 times.
    pub duration: Duration,
}
