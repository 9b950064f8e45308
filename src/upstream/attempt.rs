//! One attempt: sends a request and receives its answer over one connection, both at once.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::connection::UpstreamConnection;
use super::lease::{ConnectionOrigin, Lease, Upgraded};
use super::request_writer::{BytesSent, Progress, RequestWriter, SendError, SendState, WaitsFor};
use super::{Cause, Outgoing};
use crate::base::clock;
use crate::decide::method::Method;
use crate::decide::upgrade::Handshake;
use crate::wire::body::{BodyError, BodySource};
use crate::wire::chunked::{BodyDecoder, Decoded, LAST_CHUNK};
use crate::wire::framing::Framing;
use crate::wire::head::{ParseStatus, RequestKind, ResponseError, ResponseHead};
use crate::wire::yield_once::YieldOnce;

/// Most interim answers before the final one. One 100 and a few 103 are usual.
const MAX_INTERIM: u32 = 5;

/// An attempt whose answer has not ended.
pub(super) struct EndpointAttempt<B> {
    lease: Lease,
    request_writer: RequestWriter<B>,
    kind: RequestKind,
    repeatable: Repeatable,
    upgrade: Option<Handshake>,
    reuse: ConnectionReuse,
    response_timeout: Duration,
    idle_timeout: Duration,
    /// When a byte last moved. Once the request is sent, when that was.
    since: Instant,
    yield_once: YieldOnce,
    pump_count: PumpCount,
    interim: u32,
    /// Whether any byte of an answer has come.
    received: AnswerBytes,
    /// How the connection ended, if it ended before the answer was complete.
    broken: Option<Cause>,
}

/// When an attempt begins and how long its answer may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptTiming {
    pub(super) now: Instant,
    pub(super) allowance: Duration,
}

/// Whether the same request may be sent again after some of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeatable {
    /// An idempotent method and no body.
    Yes,
    No,
}

/// Whether this is the first time that the request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PumpCount {
    First,
    Later,
}

/// Whether the connection may carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionReuse {
    /// Unless bytes of either message are left anywhere.
    IfClean,
    /// In no case. The endpoint may take a body for its next request, or may have switched to another protocol whatever
    /// it answered (CVE-2026-73548).
    Never,
}

/// Some services do not read a body where they expect none, and take it for the next request. This is request smuggling
/// past a service: the answer to that request would go to another client.
fn risks_desync(request: &Outgoing<'_>) -> bool {
    let unexpected = matches!(request.method, Method::Get | Method::Head | Method::Delete | Method::Options);
    unexpected && !matches!(request.framing, Framing::None | Framing::Length(0))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerBytes {
    Nothing,
    Something,
}

/// Why an attempt gave no answer.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The connection ended before a byte of the answer.
    Closed,
    /// The bytes are no answer, or no complete one.
    Invalid,
    /// The answer is over a limit of this gateway, which says nothing about the health of the endpoint.
    Oversized,
    /// No byte moved for too long, because of the endpoint.
    Timeout,
    Body(BodyError),
}

impl From<ResponseError> for AttemptError {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::TooLarge => Self::Oversized,
            ResponseError::Malformed | ResponseError::Framing => Self::Invalid,
        }
    }
}

/// Where a failed attempt may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryScope {
    /// It may be repeated on another endpoint.
    Elsewhere,
    /// It may be repeated anywhere, since only the connection was bad.
    Anywhere,
    /// It must not be repeated.
    Never,
}

impl<B: BodySource + Unpin> EndpointAttempt<B> {
    /// Puts the head into the connection's buffer. Nothing is written before the first poll. `allowance` is the time
    /// for the answer, counted from when the request is sent: all attempts together have as much as one.
    pub(super) fn new(
        mut lease: Lease,
        mut request_writer: RequestWriter<B>,
        request: &Outgoing<'_>,
        host: &[u8],
        time: AttemptTiming,
    ) -> Box<Self> {
        let AttemptTiming { now, allowance } = time;
        let buffer = std::mem::take(&mut lease.connection.output);
        request_writer.write_head(request, host, buffer);
        // Boxed, since it is moved along with its answer, through five functions before the last byte is sent.
        Box::new(Self {
            lease,
            request_writer,
            kind: if request.method == Method::Head {
                RequestKind::Head
            } else {
                RequestKind::Other
            },
            repeatable: if request.method.is_idempotent() && matches!(request.framing, Framing::None | Framing::Length(0)) {
                Repeatable::Yes
            } else {
                Repeatable::No
            },
            upgrade: request.upgrade,
            reuse: if risks_desync(request) || request.upgrade.is_some() {
                ConnectionReuse::Never
            } else {
                ConnectionReuse::IfClean
            },
            response_timeout: allowance,
            idle_timeout: request.idle_timeout,
            since: now,
            yield_once: YieldOnce::default(),
            pump_count: PumpCount::First,
            interim: 0,
            received: AnswerBytes::Nothing,
            broken: None,
        })
    }

    pub(super) fn connection(&mut self) -> &mut UpstreamConnection {
        &mut self.lease.connection
    }

    /// Sends the request after the other tasks of the worker that are ready, and waits until the head of the final
    /// answer is there.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(ResponseHead, Framing), AttemptError>> {
        ready!(self.yield_once.poll(cx));
        self.send_more(cx).map_err(AttemptError::Body)?;
        loop {
            if let Some((head, framing)) = self.parse_head()? {
                return Poll::Ready(if self.is_cut_short(cx, framing) {
                    Err(AttemptError::Invalid)
                } else {
                    Ok((head, framing))
                });
            }
            match self.lease.connection.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) if n > 0 => self.received = AnswerBytes::Something,
                Poll::Ready(ended) => {
                    self.broken = Some(how_it_ended(&ended));
                    let unheard = self.received == AnswerBytes::Nothing;
                    return Poll::Ready(Err(if unheard { AttemptError::Closed } else { AttemptError::Invalid }));
                }
            }
        }
        let timer = if self.is_sending() {
            self.idle_timeout
        } else {
            self.response_timeout
        };
        let Some(deadline) = self.since.checked_add(timer) else {
            return Poll::Pending;
        };
        self.lease
            .connection
            .timer
            .poll_expired(cx, deadline)
            .map(|()| Err(self.timeout_error()))
    }

    /// The error of a timeout: the client's while its body is waited for, else the endpoint's.
    fn timeout_error(&self) -> AttemptError {
        if self.is_sending() && self.request_writer.waits_for() == WaitsFor::Client {
            AttemptError::Body(BodyError::Timeout)
        } else {
            AttemptError::Timeout
        }
    }

    const fn is_sending(&self) -> bool {
        matches!(self.request_writer.state(), SendState::Open | SendState::Taken)
    }

    /// Sends what can be sent. Once the endpoint takes no more, only its answer counts.
    ///
    /// # Errors
    /// The client's body failed.
    pub(super) fn send_more(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        if !self.is_sending() {
            return Ok(());
        }
        let polled = self.request_writer.poll_send(cx, &mut self.lease.connection);
        let moved = self.request_writer.take_progress() == Progress::Made;
        let pump_count = std::mem::replace(&mut self.pump_count, PumpCount::Later);
        // A request that is written whole by the first poll counts from the time at which the attempt began.
        if moved && (polled.is_pending() || pump_count == PumpCount::Later) {
            self.since = clock::instant();
        }
        match polled {
            Poll::Ready(Err(SendError::Body(error))) => Err(error),
            Poll::Ready(Ok(()) | Err(SendError::Connection)) | Poll::Pending => Ok(()),
        }
    }

    /// Ready when nothing has moved for the idle timeout.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.since.checked_add(self.idle_timeout) else {
            return Poll::Pending;
        };
        self.lease.connection.timer.poll_expired(cx, deadline)
    }

    /// The wait for the next piece of the answer begins now.
    pub(super) fn begin_wait(&mut self) {
        self.since = clock::instant();
    }

    /// Takes the final head out of the bytes that were received. Interim heads are dropped.
    fn parse_head(&mut self) -> Result<Option<(ResponseHead, Framing)>, AttemptError> {
        if self.lease.connection.input.is_empty() {
            return Ok(None);
        }
        let mut head = self.lease.pool().take_spare_head();
        while !self.lease.connection.input.is_empty() {
            let limits = self.lease.pool().spec().answers;
            let input = &mut self.lease.connection.input;
            let ParseStatus::Complete(length) = head.parse_within(input, limits)? else {
                break;
            };
            input.advance(length);
            match head.status {
                // The bytes after the head are not HTTP. They are passed on only to a client that asked for this
                // protocol.
                101 if self.is_upgraded_by(&head) => {
                    self.lease.succeeded();
                    return Ok(Some((head, Framing::None)));
                }
                101 => return Err(AttemptError::Invalid),
                100..=199 if self.interim >= MAX_INTERIM => return Err(AttemptError::Oversized),
                100..=199 => self.interim += 1,
                _ => {
                    let framing = head.framing(self.kind);
                    self.lease.succeeded();
                    // An answer before the end of the request may concern only a part of it. What is still sent may be
                    // taken for another request.
                    if self.request_writer.state() != SendState::Sent {
                        self.reuse = ConnectionReuse::Never;
                    }
                    return Ok(Some((head, framing)));
                }
            }
        }
        self.lease.pool().recycle(head);
        Ok(None)
    }

    /// Whether the connection has already ended within the body of the answer. Nothing of the answer has been passed on
    /// yet, so the client can be told that there is none. To notice the end, the next bytes are read here: the body
    /// would read them next anyway.
    fn is_cut_short(&mut self, cx: &mut Context<'_>, framing: Framing) -> bool {
        let input = &self.lease.connection.input;
        let missing = match framing {
            Framing::None => false,
            Framing::Length(length) => (input.len() as u64) < length,
            Framing::Chunked => !input.ends_with(LAST_CHUNK),
            Framing::UntilClose => true,
        };
        if !missing {
            return false;
        }
        match (self.lease.connection.poll_read(cx), framing) {
            (Poll::Pending | Poll::Ready(Ok(1..)), _) | (Poll::Ready(Ok(0)), Framing::UntilClose) => false,
            (Poll::Ready(ended @ (Ok(0) | Err(_))), _) => {
                self.broken = Some(how_it_ended(&ended));
                !is_whole(&self.lease.connection.input, framing)
            }
        }
    }

    fn is_upgraded_by(&self, head: &ResponseHead) -> bool {
        let sent = self.request_writer.state() == SendState::Sent;
        sent && self.upgrade.is_some_and(|handshake| handshake.is_met_by(head))
    }

    /// Hands over the connection after a 101, with the bytes that came after the head.
    pub(super) fn into_upgraded(self) -> Upgraded {
        Upgraded::new(self.lease)
    }

    /// Ends a failed attempt: closes its connection, reports to the endpoint's health and to the counters, and returns
    /// where the attempt may be repeated and what was wrong with the endpoint.
    pub(super) fn into_failure(mut self, fault: &AttemptError) -> (RequestWriter<B>, RetryScope, Option<Cause>) {
        let unheard = self.received == AnswerBytes::Nothing;
        let repeatable = self.request_writer.bytes_sent() == BytesSent::No || self.repeatable == Repeatable::Yes;
        let cause = self.cause(fault);
        let retry = match fault {
            AttemptError::Closed if self.lease.origin == ConnectionOrigin::Reused => {
                self.lease.was_stale();
                if repeatable { RetryScope::Anywhere } else { RetryScope::Never }
            }
            AttemptError::Closed | AttemptError::Invalid => {
                self.lease.pool().counters().invalid.increment();
                self.lease.failed(cause.unwrap_or(Cause::AnswerMalformed));
                if repeatable && unheard {
                    RetryScope::Elsewhere
                } else {
                    RetryScope::Never
                }
            }
            AttemptError::Oversized => {
                self.lease.pool().counters().oversized.increment();
                RetryScope::Never
            }
            AttemptError::Timeout => {
                self.lease.pool().counters().timeouts.increment();
                self.lease.failed(Cause::AnswerTimedOut);
                RetryScope::Never
            }
            AttemptError::Body(_) => RetryScope::Never,
        };
        (self.request_writer, retry, cause)
    }

    /// What was wrong with the endpoint. `None` where the client was to blame.
    const fn cause(&self, fault: &AttemptError) -> Option<Cause> {
        match (fault, self.broken) {
            (AttemptError::Closed | AttemptError::Invalid, Some(Cause::Reset)) => Some(Cause::Reset),
            (AttemptError::Closed, _) => Some(Cause::Closed),
            (AttemptError::Invalid, Some(_)) => Some(Cause::AnswerCutShort),
            (AttemptError::Invalid, None) => Some(Cause::AnswerMalformed),
            (AttemptError::Oversized, _) => Some(Cause::AnswerTooLarge),
            (AttemptError::Timeout, _) => Some(Cause::AnswerTimedOut),
            (AttemptError::Body(_), _) => None,
        }
    }

    /// Ends an attempt whose answer is complete. The connection is kept only if nothing of either message is left
    /// anywhere: the request is sent, the answer is read, no byte follows it, and the endpoint lets the connection
    /// carry another request.
    #[expect(clippy::boxed_local, reason = "taken out of its box it would be copied")]
    pub(super) fn finish(mut self: Box<Self>, keep_alive: KeepAlive) {
        if !self.lease.connection.input.is_empty() {
            self.lease.pool().counters().surplus.increment();
            return;
        }
        if keep_alive == KeepAlive::Yes && self.reuse == ConnectionReuse::IfClean && self.request_writer.state() == SendState::Sent {
            self.lease.connection.output = self.request_writer.take_buffer();
            self.lease.park();
        }
    }

    /// Counts an answer whose body was cut off, broken, or too slow.
    pub(super) fn body_failed(&self, error: BodyError) {
        let counters = self.lease.pool().counters();
        match error {
            BodyError::Timeout => counters.timeouts.increment(),
            BodyError::Framing | BodyError::Aborted | BodyError::TooLarge => counters.invalid.increment(),
        }
    }
}

/// How a connection ended: closed, or reset.
fn how_it_ended(read: &std::io::Result<usize>) -> Cause {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Cause::Reset,
        Ok(_) | Err(_) => Cause::Closed,
    }
}

/// Whether the whole body has arrived. It copies the bytes, and is called only when the connection has ended.
fn is_whole(input: &[u8], framing: Framing) -> bool {
    let (mut input, mut decoder) = (BytesMut::from(input), BodyDecoder::new(framing));
    loop {
        match decoder.decode(&mut input) {
            Ok(Decoded::End) => return true,
            Ok(Decoded::Data(_)) => {}
            Ok(Decoded::Trailers(_)) => return true,
            Ok(Decoded::NeedMore) | Err(_) => return false,
        }
    }
}

/// Whether the endpoint lets the connection carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeepAlive {
    Yes,
    No,
}
