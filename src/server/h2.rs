//! HTTP/2 connections: the library speaks the protocol, this decides how long it may.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use self::answer::{AnswerBody, Broken};
use self::body::H2Body;
use self::streams::Streams;
use self::wire::{Metered, Wire};
use super::alarm::Alarm;
use super::context::Context;
use super::service::Service;
use super::transport::ClientStream;
use crate::base::clock;
use crate::base::denial::Denial;
use crate::gateway::{Connection, Lifeline};
use crate::wire::head::{MAX_HEAD, RequestHead};

pub use self::front::tables_agree;

mod answer;
mod body;
mod front;
mod head;
mod meter;
mod streams;
mod wire;

/// Windows of a stream and of the connection: what Envoy's edge guide advises.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Sent but not yet taken, for each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams reset before they were accepted, and resets of ours: the library's own guard below the
/// meter's (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 128;
/// An idle peer is asked this often whether it is there, and has this long to answer.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// During a drain, with nothing in flight and nothing moving, the client gets this long to close.
const FAREWELL: Duration = Duration::from_secs(5);
/// So much of what a flooder still sends is read and forgotten, for at most this long, so that a
/// reset does not destroy the reason on its way.
const LINGER: (usize, Duration) = (256 * 1024, Duration::from_secs(1));
/// Heads kept for further streams of the connection.
const KEPT_HEADS: usize = 8;

/// Serves one connection until it ends. `began_at` is what the first deadline counts from.
///
/// Dropping the future closes the connection and whatever its streams use upstream.
pub(super) async fn serve<S: Service>(io: ClientStream, context: Rc<Context<S>>, connection: Connection, began_at: Instant) {
    let streams = Streams::default();
    let wire = Wire::new(io, began_at);
    let shared = Rc::new(Shared {
        context: Rc::clone(&context),
        connection,
        streams: streams.clone(),
        heads: RefCell::default(),
        served: Cell::new(0),
    });
    let answering = {
        let shared = Rc::clone(&shared);
        service_fn(move |request| answer_one(Rc::clone(&shared), request))
    };
    let library = builder(&context, streams.clone()).serve_connection(TokioIo::new(Metered(Rc::clone(&wire))), answering);
    let mut library = Box::pin(library);
    let _end_with_us = CutOffAll(streams);
    let _registration = poll_fn(|cx| Poll::Ready(context.drain.register(cx.waker().clone()))).await;
    let mut watch = Watch::new(Rc::clone(&shared), Rc::clone(&wire), began_at);
    poll_fn(|cx| {
        loop {
            if library.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            shared.streams.poll_ended(cx, &context.counters);
            match watch.poll(cx) {
                Poll::Ready(Verdict::CutOff) => return Poll::Ready(()),
                Poll::Ready(Verdict::GoAway) => library.as_mut().graceful_shutdown(),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    drop(library);
    if wire.borrow().flooded.is_some() {
        watch.leave_flood().await;
    }
}

/// Ends the streams with their connection.
struct CutOffAll(Streams);

impl Drop for CutOffAll {
    fn drop(&mut self) {
        self.0.cut_off_all();
    }
}

fn builder<S>(context: &Context<S>, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(context.limits.h2_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .auto_date_header(false);
    builder
}

/// What the streams of a connection share.
struct Shared<S> {
    context: Rc<Context<S>>,
    connection: Connection,
    streams: Streams,
    heads: RefCell<Vec<RequestHead>>,
    served: Cell<u64>,
}

type Responded<S> = Result<http::Response<AnswerBody<<S as Service>::Body<H2Body>, <S as Service>::Outcome>>, Broken>;

/// One stream. Runs on a task of its own.
async fn answer_one<S: Service>(shared: Rc<Shared<S>>, request: http::Request<Incoming>) -> Responded<S> {
    let context = &shared.context;
    shared.served.set(shared.served.get() + 1);
    context.counters.h2_requests.add_one();
    let offer = shared.streams.offer(&context.limits);
    let (parts, incoming) = request.into_parts();
    let body = H2Body::new(incoming, &context.limits);
    let follows = if crate::wire::body::BodySource::is_end(&body) {
        head::Body::None
    } else {
        head::Body::Follows
    };
    let mut head = shared.heads.borrow_mut().pop().unwrap_or_default();
    let read = head::read(&parts, follows, &mut head);
    drop(parts);
    let mut in_flight = context.place();
    let answer = match (read, &in_flight) {
        (Err(denial), _) => {
            context.counters.malformed.add_one();
            // Nobody could end it for somebody who waits.
            in_flight = None;
            context.service.refuse_request(&shared.connection, &head, denial)
        }
        (Ok(()), None) => context.service.refuse_request(&shared.connection, &head, Denial::Overloaded),
        (Ok(()), Some(_)) => {
            let line: Rc<dyn Lifeline> = offer.clone();
            context.service.handle((&shared.connection, &line), &head, body).await
        }
    };
    if answer.unplaced {
        in_flight = None;
    }
    let responded = answer::respond(answer, &head.method, &context.date.text(), offer, in_flight);
    let mut heads = shared.heads.borrow_mut();
    if heads.len() < KEPT_HEADS {
        heads.push(head);
    }
    responded
}

/// What is to happen to a connection.
enum Verdict {
    /// It ends now.
    CutOff,
    /// It takes no further streams and ends with the last.
    GoAway,
}

/// Judges a connection by the clock: the library has no idle time, no age and no first-byte deadline.
struct Watch<S> {
    shared: Rc<Shared<S>>,
    wire: Rc<RefCell<Wire>>,
    alarm: Alarm,
    first_deadline: Instant,
    retire_at: Instant,
    idle: Duration,
    /// Since when no stream has been served.
    quiet_since: Option<Instant>,
    swept_at: Instant,
    said_goodbye_at: Option<Instant>,
}

impl<S: Service> Watch<S> {
    fn new(shared: Rc<Shared<S>>, wire: Rc<RefCell<Wire>>, began_at: Instant) -> Self {
        let (age, idle) = shared.context.spread_times();
        let first_deadline = began_at + shared.context.limits.head_timeout;
        Self {
            shared,
            wire,
            alarm: Alarm::new(first_deadline),
            first_deadline,
            retire_at: began_at + age,
            idle,
            quiet_since: Some(began_at),
            swept_at: began_at,
            said_goodbye_at: None,
        }
    }

    /// Leaves a connection that was cut off for flooding, so that the client can read why.
    async fn leave_flood(&mut self) {
        self.shared.context.counters.h2_abuse.add_one();
        tracing::warn!(peer = %self.shared.connection.peer, "an HTTP/2 connection was cut off for flooding");
        poll_fn(|cx| {
            self.wire.borrow_mut().say_last_words(cx);
            Poll::Ready(())
        })
        .await;
        let (mut left, deadline) = (LINGER.0, clock::instant() + LINGER.1);
        poll_fn(|cx| match self.wire.borrow_mut().poll_leave(cx, &mut left) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.alarm.poll_until(cx, deadline),
        })
        .await;
    }

    /// Ready when something is to happen; else wakes the task when something may be.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Verdict> {
        loop {
            let now = clock::instant();
            self.note_quiet(now);
            let next = match self.judge(now) {
                Ok(next) => next,
                Err(verdict) => return Poll::Ready(verdict),
            };
            std::task::ready!(self.alarm.poll_until(cx, next));
        }
    }

    fn note_quiet(&mut self, now: Instant) {
        if self.shared.streams.len() > 0 {
            self.quiet_since = None;
        } else {
            self.quiet_since.get_or_insert(now);
        }
    }

    /// The verdict, or when to judge again.
    fn judge(&mut self, now: Instant) -> Result<Instant, Verdict> {
        let limits = &self.shared.context.limits;
        let wire = self.wire.borrow();
        let slow = [
            (!wire.meter.has_begun()).then_some(self.first_deadline),
            wire.meter.block_since().map(|since| since + limits.head_timeout),
        ];
        let stalled = wire.blocked_since.map(|since| since + limits.body_idle);
        drop(wire);
        if slow.iter().flatten().any(|deadline| *deadline <= now) {
            self.shared.context.counters.timed_out.add_one();
            return Err(Verdict::CutOff);
        }
        if stalled.is_some_and(|deadline| deadline <= now) {
            self.shared.context.counters.stalled_writes.add_one();
            self.shared.streams.note_slow();
            return Err(Verdict::CutOff);
        }
        let sweep = self.sweep(now);
        let end = self.end(now)?;
        let all = slow.into_iter().chain([stalled, sweep, Some(end)]).flatten();
        Ok(all.min().unwrap_or(end))
    }

    /// Ends streams whose clients are too slow; when to look again.
    fn sweep(&mut self, now: Instant) -> Option<Instant> {
        if self.shared.streams.len() == 0 {
            return None;
        }
        let every = self.shared.context.limits.body_idle / 8;
        if now >= self.swept_at + every {
            self.swept_at = now;
            for _ in 0..self.shared.streams.cut_off_slow(now) {
                self.shared.context.counters.stalled_writes.add_one();
            }
        }
        Some(self.swept_at + every)
    }

    /// When the connection as a whole comes to its end.
    fn end(&mut self, now: Instant) -> Result<Instant, Verdict> {
        if let Some(said_at) = self.said_goodbye_at {
            let Some(quiet_since) = self.quiet_since else {
                return Ok(now + FAREWELL);
            };
            let patience = if self.shared.context.drain.is_closing() {
                FAREWELL
            } else {
                self.shared.context.limits.body_idle
            };
            let end = said_at.max(quiet_since).max(self.wire.borrow().wrote_at) + patience;
            return if end <= now { Err(Verdict::CutOff) } else { Ok(end) };
        }
        let context = &self.shared.context;
        let worn = self.shared.served.get() >= context.limits.requests_per_connection || self.retire_at <= now;
        let idle_at = self.quiet_since.map(|since| since + self.idle);
        if worn || context.drain.is_closing() || idle_at.is_some_and(|at| at <= now) {
            self.said_goodbye_at = Some(now);
            return Err(Verdict::GoAway);
        }
        Ok(idle_at.map_or(self.retire_at, |at| at.min(self.retire_at)))
    }
}
