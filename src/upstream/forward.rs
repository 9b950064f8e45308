//! Forwards one request: makes attempts until an answer comes or no further attempt is allowed.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::attempt::{AttemptError, AttemptTiming, EndpointAttempt, RetryScope};
use super::balance::TriedEndpoints;
use super::lease::ConnectionOrigin;
use super::pool::{CheckoutError, RequestOwner, UpstreamPool};
use super::request_writer::RequestWriter;
use super::response_body::UpstreamBody;
use super::spec::HostHeader;
use super::{AttemptTrace, Cause, Forwarded, Outgoing, Unanswered, UpstreamError};
use crate::base::clock;
use crate::wire::body::BodySource;
use crate::wire::framing::Framing;
use crate::wire::head::ResponseHead;

/// Most attempts of one request: the first, one for a connection that was closed while idle, one for an endpoint that
/// is down. More would multiply the load on a service that is already failing.
const MAX_ATTEMPTS: u32 = 3;

/// Forwards one request. [`UpstreamPool::forward`] demands the permit for it.
pub(super) async fn forward<B: BodySource + Unpin>(
    pool: &Rc<UpstreamPool>,
    request: Outgoing<'_>,
    body: B,
) -> Result<Forwarded<B>, (Unanswered, B)> {
    let request = &request;
    let started = request.now;
    let mut request_writer = RequestWriter::new(body, request);
    let (mut tried, mut now) = (TriedEndpoints::default(), started);
    let owner = request.owner();
    let mut trace = AttemptTrace::default();
    for number in 1..=MAX_ATTEMPTS {
        if number > 1 {
            pool.counters().retries.increment();
        }
        let last = number == MAX_ATTEMPTS;
        // Boxed, since waiting and connecting are rare and every request's future would hold their state.
        let leased = match pool.checkout_idle(tried, owner, now) {
            Ok(lease) => Ok(lease),
            Err(slot) => Box::pin(pool.checkout(slot, tried, owner, now)).await,
        };
        let lease = match leased {
            Ok(lease) => lease,
            Err(CheckoutError::Busy(cause)) => {
                trace.cause = Some(cause);
                return Err((trace.with(UpstreamError::Busy), request_writer.into_body()));
            }
            Err(CheckoutError::Unreachable(endpoint, cause)) => {
                trace = AttemptTrace::of(number, endpoint, Some(cause));
                now = clock::instant();
                if last || now.saturating_duration_since(started) >= request.response_timeout {
                    return Err((trace.with(UpstreamError::Unreachable), request_writer.into_body()));
                }
                tried.add(endpoint);
                continue;
            }
        };
        let endpoint = lease.endpoint();
        if lease.origin == ConnectionOrigin::Fresh {
            now = clock::instant();
        }
        let timing = timing_of(request, number, now);
        let host = host(pool, request, endpoint);
        let mut attempt = EndpointAttempt::new(lease, request_writer, request, host, timing);
        let error = match poll_fn(|cx| attempt.poll_head(cx)).await {
            Ok((head, framing)) => return Ok(answered(attempt, head, framing, request, number, endpoint)),
            Err(error) => error,
        };
        let (unsent, retry, cause) = attempt.into_failure(&error);
        request_writer = unsent;
        trace = AttemptTrace::of(number, endpoint, cause);
        match retry {
            _ if last => return Err((trace.with(error.into()), request_writer.into_body())),
            RetryScope::Never => return Err((trace.with(error.into()), request_writer.into_body())),
            RetryScope::Anywhere => {}
            RetryScope::Elsewhere => tried.add(endpoint),
        }
        now = clock::instant();
    }
    Err((trace.with(UpstreamError::Unreachable), request_writer.into_body()))
}

/// When an attempt begins, and how much of the time for all attempts is left for it.
fn timing_of(request: &Outgoing<'_>, number: u32, now: Instant) -> AttemptTiming {
    let spent = match number {
        1 => Duration::ZERO,
        _ => now.saturating_duration_since(request.now),
    };
    AttemptTiming {
        now,
        allowance: request.response_timeout.saturating_sub(spent),
    }
}

/// The result of an attempt whose response head has arrived.
fn answered<B: BodySource + Unpin>(
    attempt: Box<EndpointAttempt<B>>,
    head: ResponseHead,
    framing: Framing,
    request: &Outgoing<'_>,
    attempts: u32,
    endpoint: usize,
) -> Forwarded<B> {
    let (body, upgraded) = if head.status == 101 {
        (UpstreamBody::nothing(), Some(attempt.into_upgraded()))
    } else {
        (UpstreamBody::new(attempt, framing, &head, request.trailers), None)
    };
    Forwarded {
        body,
        head,
        framing,
        upgraded,
        attempts,
        endpoint,
    }
}

impl AttemptTrace {
    const fn of(attempts: u32, endpoint: usize, cause: Option<Cause>) -> Self {
        Self {
            attempts,
            endpoint: Some(endpoint),
            cause,
        }
    }

    const fn with(self, error: UpstreamError) -> Unanswered {
        Unanswered { error, trace: self }
    }
}

impl<'a> Outgoing<'a> {
    fn owner(&self) -> Option<RequestOwner<'a>> {
        self.holder.map(|(key, holder)| RequestOwner { key, holder })
    }
}

/// The value of `Host` at this endpoint.
fn host<'a>(pool: &'a UpstreamPool, request: &Outgoing<'a>, endpoint: usize) -> &'a [u8] {
    match &pool.spec().host {
        HostHeader::Client => request.client_host,
        HostHeader::Fixed(host) => host.as_bytes(),
        HostHeader::Endpoint => pool.spec().endpoints.get(endpoint).map_or(b"", |e| e.authority.as_bytes()),
    }
}

impl From<AttemptError> for UpstreamError {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Closed | AttemptError::Invalid => Self::Invalid,
            AttemptError::Oversized => Self::Oversized,
            AttemptError::Timeout => Self::Timeout,
            AttemptError::Body(error) => Self::RequestBody(error),
        }
    }
}
