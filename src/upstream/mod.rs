//! Forwarding: each worker's own connections to the upstreams, over HTTP/1.1.

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
    /// The current time, from which the timeouts count.
    pub now: Instant,
    /// The quota key of the request, and the handle by which its connection can be reclaimed. Without them the request
    /// counts against no quota.
    pub holder: Option<(QuotaKey, &'a Rc<dyn QuotaHolder>)>,
    pub method: Method,
    /// Request-target in origin form, canonical.
    pub target: &'a [u8],
    /// The client's validated host, for [`spec::HostHeader::Client`].
    pub client_host: &'a [u8],
    /// Every other field, serialised as `Name: value\r\n`, without `Host` and framing.
    pub fields: &'a [u8],
    /// How the body is framed when it is sent.
    pub framing: Framing,
    /// Deadline for the response head, counted from the end of the request head.
    pub response_timeout: Duration,
    /// How long no byte of a body may move.
    pub idle_timeout: Duration,
    pub trailers: Trailers,
    /// The handshake that a 101 must accept. Without one every 101 is invalid. The fields of a request with a handshake
    /// contain `Upgrade` already.
    pub upgrade: Option<Handshake>,
}

/// An answer whose head has arrived.
pub struct Forwarded<B> {
    /// The head as received, after any 1xx. Nothing is filtered yet.
    pub head: ResponseHead,
    /// The body. The rest of the request body is sent while it is polled.
    pub body: UpstreamBody<B>,
    /// How the body is framed.
    pub framing: Framing,
    /// After a 101: the connection, which has changed its protocol. The body is empty then.
    pub upgraded: Option<Upgraded>,
    /// Attempts made, at least 1.
    pub attempts: u32,
    /// Index of the endpoint that answered.
    pub endpoint: usize,
}

/// The last attempt of a request that got no answer, for the access line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttemptTrace {
    /// How many attempts were made.
    pub attempts: u32,
    /// Index of the endpoint that was tried last.
    pub endpoint: Option<usize>,
    /// What went wrong with it. `None` where the client was to blame.
    pub cause: Option<Cause>,
}

/// Why a request got no answer from its upstream.
#[derive(Debug)]
pub struct Unanswered {
    /// The error, from which the client's denial is made.
    pub error: UpstreamError,
    /// The attempt, for the access line.
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
    /// The connection broke, or the bytes were no response.
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
    /// The denial that the client gets.
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
    /// Forwards one request and returns when the head of the answer has arrived. The request body may still be on its
    /// way then.
    ///
    /// Dropping the future or the returned body closes the connection that it used. A connection with an unread rest is
    /// never used again.
    ///
    /// If [`Outgoing::trailers`] says so, trailers of the request are sent as `body` yields them. The caller has
    /// already removed the protected names from them.
    ///
    /// # Errors
    /// [`Unanswered`] with the request body, after the retries that are allowed: only where nothing was sent, or where
    /// the method is idempotent, the request has no body and no byte of an answer came.
    pub fn forward<'p, B: BodySource + Unpin>(
        self: &'p Rc<Self>,
        permit: &Permit,
        request: Outgoing<'p>,
        body: B,
    ) -> impl Future<Output = Result<Forwarded<B>, (Unanswered, B)>> + use<'p, B> {
        // The permit is only the proof that the request may be forwarded.
        let _ = permit;
        forward::forward(self, request, body)
    }
}

#[cfg(test)]
mod tests;
