//! What the audit trail shows of requests: the settings that a reload changes.

use std::sync::Arc;

/// Fields that help to understand a request and hold no secret and no content of people.
pub const DEFAULT_HEADERS: [&str; 8] = [
    "accept",
    "content-encoding",
    "content-length",
    "content-type",
    "idempotency-key",
    "origin",
    "traceparent",
    "user-agent",
];

/// What entries show of a request, a part of the snapshot: `url`, `query` and `headers` of the table `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPolicy {
    pub url: AuditedUrl,
    /// Names of the request's fields that entries show, in lower case.
    pub headers: Vec<String>,
}

impl Default for AuditPolicy {
    fn default() -> Self {
        Self {
            url: AuditedUrl::Redacted { shown: Vec::new() },
            headers: DEFAULT_HEADERS.map(str::to_owned).to_vec(),
        }
    }
}

/// What entries show of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditedUrl {
    /// All names, and the values of these parameters.
    Redacted { shown: Vec<String> },
    /// All names and values, but for what looks like a credential or a card number.
    Full,
}

/// What the trail has of the requests of one route (`[routes.audit]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAudit {
    /// No entries (`audit = "off"`).
    Off,
    On {
        /// The request's body.
        body: Option<Arc<BodyCapture>>,
        /// The answer's body.
        answer: Option<Arc<BodyCapture>>,
    },
}

impl Default for RouteAudit {
    fn default() -> Self {
        Self::On { body: None, answer: None }
    }
}

/// How bodies are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyCapture {
    /// Longest body in bytes that is recorded; of a longer one, type, size and hash.
    pub max: usize,
    /// Media types that are recorded, in lower case without parameters; of others, type, size and hash.
    pub types: Vec<String>,
    /// Members whose values are masked: paths such as `password` (at any depth), `card.*`, `card.number`.
    pub mask: Vec<String>,
}

/// The members of a request's entry that its tenant may be given (`serve = "audit"`). Absent are those that tell about the
/// operator (which gateway and which configuration, the services and their addresses, how old facts were, why a credential
/// proved nothing), about the traffic of others (`seq`), and bodies.
pub const TENANT_MEMBERS: [&str; 24] = [
    "time",
    "request_id",
    "client",
    "tls",
    "version",
    "method",
    "host",
    "path",
    "query",
    "route",
    "surface",
    "credential",
    "subject",
    "mode",
    "scopes_needed",
    "status",
    "denial",
    "took_us",
    "bytes_in",
    "bytes_out",
    "ended",
    "completed",
    "done",
    "headers",
];
