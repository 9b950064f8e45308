//! Forwarding one request: attempts until an answer comes or none may be made any more.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::balance::Tried;
use super::exchange::{Exchange, Fault, Retry, Time};
use super::lease::Origin;
use super::pool::{For, Refused, UpstreamPool};
use super::receiving::UpstreamBody;
use super::sending::Sending;
use super::spec::HostHeader;
use super::{Cause, Forwarded, Outgoing, Trace, Unanswered, UpstreamError};
use crate::base::clock;
use crate::wire::body::BodySource;
use crate::wire::framing::Framing;
use crate::wire::head::ResponseHead;

/// Most attempts for one request: the first, one for a connection that died idle, one for an
/// endpoint that is down. More would multiply the load on a service that is already failing.
const MAX_ATTEMPTS: u32 = 3;

/// See [`UpstreamPool::forward`], which demands the permit.
pub(super) async fn forward<B: BodySource + Unpin>(
    pool: &Rc<UpstreamPool>,
    request: Outgoing<'_>,
    body: B,
) -> Result<Forwarded<B>, (Unanswered, B)> {
    let request = &request;
    let started = request.now;
    let mut sending = Sending::new(body, request);
    let (mut tried, mut now) = (Tried::default(), started);
    let whom = request.whom();
    let mut trace = Trace::default();
    for attempt in 1..=MAX_ATTEMPTS {
        if attempt > 1 {
            pool.counters().retries.up();
        }
        let last = attempt == MAX_ATTEMPTS;
        // Boxed: waiting and connecting are rare, and every request's future would hold their state.
        let leased = match pool.checkout_idle(tried, whom, now) {
            Ok(lease) => Ok(lease),
            Err(slot) => Box::pin(pool.checkout(slot, tried, whom, now)).await,
        };
        let lease = match leased {
            Ok(lease) => lease,
            Err(Refused::Busy(cause)) => {
                trace.cause = Some(cause);
                return Err((trace.with(UpstreamError::Busy), sending.into_body()));
            }
            Err(Refused::Unreachable(endpoint, cause)) => {
                trace = Trace::of(attempt, endpoint, Some(cause));
                now = clock::instant();
                if last || now.saturating_duration_since(started) >= request.response_timeout {
                    return Err((trace.with(UpstreamError::Unreachable), sending.into_body()));
                }
                tried.add(endpoint);
                continue;
            }
        };
        let endpoint = lease.endpoint();
        if lease.origin == Origin::Fresh {
            now = clock::instant();
        }
        let time = time_of(request, attempt, now);
        let host = host(pool, request, endpoint);
        let mut exchange = Exchange::new(lease, sending, request, host, time);
        let fault = match poll_fn(|cx| exchange.poll_head(cx)).await {
            Ok(received) => return Ok(answered(exchange, received, request, (attempt, endpoint))),
            Err(fault) => fault,
        };
        let (unsent, retry, cause) = exchange.fail(&fault);
        sending = unsent;
        trace = Trace::of(attempt, endpoint, cause);
        match retry {
            _ if last => return Err((trace.with(fault.into()), sending.into_body())),
            Retry::Never => return Err((trace.with(fault.into()), sending.into_body())),
            Retry::Anywhere => {}
            Retry::Elsewhere => tried.add(endpoint),
        }
        now = clock::instant();
    }
    Err((trace.with(UpstreamError::Unreachable), sending.into_body()))
}

/// When an attempt begins, and how much of the time for all attempts is left for it.
fn time_of(request: &Outgoing<'_>, attempt: u32, now: Instant) -> Time {
    let spent = match attempt {
        1 => Duration::ZERO,
        _ => now.saturating_duration_since(request.now),
    };
    Time {
        now,
        allowance: request.response_timeout.saturating_sub(spent),
    }
}

/// The result of an attempt whose response head has arrived.
fn answered<B: BodySource + Unpin>(
    exchange: Box<Exchange<B>>,
    (head, framing): (ResponseHead, Framing),
    request: &Outgoing<'_>,
    (attempts, endpoint): (u32, usize),
) -> Forwarded<B> {
    let (body, upgraded) = if head.status == 101 {
        (UpstreamBody::nothing(), Some(exchange.into_upgraded()))
    } else {
        (UpstreamBody::new(exchange, framing, &head, request.trailers), None)
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

impl Trace {
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
    /// Whom its connection is for.
    fn whom(&self) -> Option<For<'a>> {
        self.holder.map(|(caller, holder)| For { caller, holder })
    }
}

/// What `Host` says at this endpoint.
fn host<'a>(pool: &'a UpstreamPool, request: &Outgoing<'a>, endpoint: usize) -> &'a [u8] {
    match &pool.spec().host {
        HostHeader::Client => request.client_host,
        HostHeader::Fixed(host) => host.as_bytes(),
        HostHeader::Endpoint => pool.spec().endpoints.get(endpoint).map_or(b"", |e| e.authority.as_bytes()),
    }
}

impl From<Fault> for UpstreamError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Closed | Fault::Invalid => Self::Invalid,
            Fault::Oversized => Self::Oversized,
            Fault::Timeout => Self::Timeout,
            Fault::Body(error) => Self::RequestBody(error),
        }
    }
}
