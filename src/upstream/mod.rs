//! Forwarding: each worker's own connections to the services behind, over HTTP/1.1.

use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::quota::{QuotaHolder, QuotaKey};
use crate::base::denial::Denial;
use crate::decide::authorize::Permit;
use crate::decide::method::Method;
use crate::decide::route::Trailers;
use crate::decide::upgrade::Handshake;
use crate::wire::body::{BodyError, BodySource};
use crate::wire::framing::Framing;
use crate::wire::head::ResponseHead;

mod attempt;
mod balance;
mod cause;
mod connect;
mod connection;
mod counters;
mod forward;
mod health;
mod lease;
mod pool;
pub mod quota;
mod request_writer;
mod response_body;
pub mod spec;
mod wait_queue;

pub use self::cause::Cause;
pub use counters::UpstreamCounters;
pub use lease::Upgraded;
pub use pool::UpstreamPool;
pub use response_body::UpstreamBody;

/// A request ready to be written to an endpoint.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The time: what its timeouts count from.
    pub now: Instant,
    /// Who it is from, for shares of the connections, and what its connection can be had back by; without,
    /// it counts against no share.
    pub holder: Option<(QuotaKey, &'a Rc<dyn QuotaHolder>)>,
    pub method: Method,
    /// Request-target in origin form, canonical.
    pub target: &'a [u8],
    /// The client's validated host, for [`spec::HostHeader::Client`].
    pub client_host: &'a [u8],
    /// Every other field, serialised as `Name: value\r\n`, without `Host` and framing.
    pub fields: &'a [u8],
    /// How the body is framed upstream.
    pub framing: Framing,
    /// Deadline for the response head, counted from the end of the request head.
    pub response_timeout: Duration,
    /// How long a body may stand still.
    pub idle_timeout: Duration,
    pub trailers: Trailers,
    /// The handshake a 101 must meet; without one every 101 is invalid. The head of a request with one
    /// holds its `Upgrade` already.
    pub upgrade: Option<Handshake>,
}

/// An answer whose head has arrived.
pub struct Forwarded<B> {
    /// The head as received, 1xx already dealt with; nothing filtered yet.
    pub head: ResponseHead,
    /// The body; the request body's remainder is pumped while it is polled.
    pub body: UpstreamBody<B>,
    /// How the body is framed.
    pub framing: Framing,
    /// After a 101: the connection, which speaks another protocol now. The body is empty then.
    pub upgraded: Option<Upgraded>,
    /// Attempts made, at least 1.
    pub attempts: u32,
    /// Index of the endpoint that answered.
    pub endpoint: usize,
}

/// The last of the attempts that gave no answer, for the access line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttemptTrace {
    /// How many attempts were made.
    pub attempts: u32,
    /// Index of the endpoint that was tried last.
    pub endpoint: Option<usize>,
    /// What went wrong with it; `None` where the client was to blame.
    pub cause: Option<Cause>,
}

/// Why a request got no answer from its upstream.
#[derive(Debug)]
pub struct Unanswered {
    /// What the caller is told, as a denial.
    pub error: UpstreamError,
    /// What the access line tells.
    pub trace: AttemptTrace,
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No endpoint could be reached.
    #[error("no endpoint could be reached")]
    Unreachable,
    /// The response head did not come in time.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The connection broke, or what came was not a response.
    #[error("the upstream gave an invalid answer")]
    Invalid,
    /// The response head is over the upstream's `response_head` or `response_fields`, or there were too many interim answers.
    #[error("the upstream's answer is over `response_head` or `response_fields`")]
    Oversized,
    /// Every connection is in use and the wait for one took too long.
    #[error("the upstream's connections are all in use")]
    Busy,
    /// The client's body failed on the way.
    #[error("the request body failed: {0}")]
    RequestBody(BodyError),
}

impl UpstreamError {
    /// What the caller is told.
    pub const fn denial(&self) -> Denial {
        match self {
            Self::Unreachable => Denial::UpstreamUnreachable,
            Self::Timeout => Denial::UpstreamTimeout,
            Self::Invalid | Self::Oversized => Denial::UpstreamInvalid,
            Self::Busy => Denial::Overloaded,
            Self::RequestBody(BodyError::TooLarge) => Denial::BodyTooLarge,
            Self::RequestBody(BodyError::Timeout) => Denial::RequestTimeout,
            Self::RequestBody(BodyError::Framing | BodyError::Aborted) => Denial::MalformedFraming,
        }
    }
}

impl UpstreamPool {
    /// Forwards one request and answers when the response head has arrived; the request body may
    /// still be flowing then.
    ///
    /// Dropping the future or the returned body closes the connection it used; nothing half-read
    /// is ever used again.
    ///
    /// Trailers of the request are sent as `body` yields them when [`Outgoing::trailers`] says so:
    /// whoever made `body` has already taken the protected names out of them.
    ///
    /// # Errors
    /// [`Unanswered`] with the request body, after the retries that are allowed: only where
    /// nothing was sent, or the method is idempotent, the request has no body and no byte of an
    /// answer came.
    pub fn forward<'p, B: BodySource + Unpin>(
        self: &'p Rc<Self>,
        permit: &Permit,
        request: Outgoing<'p>,
        body: B,
    ) -> impl Future<Output = Result<Forwarded<B>, (Unanswered, B)>> + use<'p, B> {
        // The proof is all that is asked of it.
        let _ = permit;
        forward::forward(self, request, body)
    }
}

#[cfg(test)]
mod tests;
