//! HTTP/2 connections. The library speaks the protocol, this module decides how long a connection may last.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use self::guarded_io::{GuardedIo, HyperIo};
use self::request_body::H2Body;
use self::response::{H2ResponseBody, StreamError};
use self::streams::Streams;
use super::context::WorkerContext;
use super::deadline::DeadlineTimer;
use super::service::Service;
use super::tls::ClientStream;
use crate::base::clock;
use crate::base::denial::Denial;
use crate::gateway::{ConnectionInfo, StreamControl};
use crate::wire::head::MAX_HEAD;

#[cfg(any(test, feature = "internals"))]
pub use self::header_filter::tables_agree;

mod flood_guard;
mod frame;
mod guarded_io;
mod header_filter;
mod request_body;
mod request_head;
mod response;
mod streams;

/// Windows of a stream and of the connection, as Envoy's edge guide advises.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// For each stream: bytes that were sent and that the client has not yet taken.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that were reset before they were accepted, and resets by the gateway: the library's own limits, below those
/// of [`flood_guard`] (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 128;
/// How often an idle peer is sent a PING, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// How long a client that was sent GOAWAY may stay connected during a drain when nothing is in flight and nothing
/// moves.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// How much of what a flooding client still sends is read and discarded, and for how long at most, so that a reset does
/// not destroy the GOAWAY on its way.
const LINGER: (usize, Duration) = (256 * 1024, Duration::from_secs(1));

/// Serves one connection until it ends. The first deadline counts from `began_at`.
///
/// Dropping the future closes the connection and the upstream connections that its streams use.
pub(super) async fn serve<S: Service>(io: ClientStream, context: Rc<WorkerContext<S>>, connection: ConnectionInfo, began_at: Instant) {
    let streams = Streams::new(Arc::clone(&context.counters));
    let guarded_io = GuardedIo::new(io, began_at);
    let shared = Rc::new(ConnectionState {
        context: Rc::clone(&context),
        connection,
        streams: streams.clone(),
        served: Cell::new(0),
    });
    let answering = {
        let shared = Rc::clone(&shared);
        // Boxed, since the library moves the future several times on its way to its task.
        service_fn(move |request| Box::pin(serve_stream(Rc::clone(&shared), request)))
    };
    let library = builder(&context, streams.clone()).serve_connection(TokioIo::new(HyperIo(Rc::clone(&guarded_io))), answering);
    let mut library = Box::pin(library);
    let _end_with_us = AbortStreamsOnDrop(streams);
    let _subscription = poll_fn(|cx| Poll::Ready(context.drain.subscribe(cx.waker().clone()))).await;
    let mut monitor = ConnectionMonitor::new(Rc::clone(&shared), Rc::clone(&guarded_io), began_at);
    poll_fn(|cx| {
        loop {
            if library.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            shared.streams.wake_at_end(cx);
            match monitor.poll(cx) {
                Poll::Ready(ConnectionAction::Abort) => return Poll::Ready(()),
                Poll::Ready(ConnectionAction::GoAway) => library.as_mut().graceful_shutdown(),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    drop(library);
    if guarded_io.borrow().flooded.is_some() {
        monitor.close_flooded().await;
    }
}

/// Ends the streams with their connection.
struct AbortStreamsOnDrop(Streams);

impl Drop for AbortStreamsOnDrop {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}

fn builder<S>(context: &WorkerContext<S>, streams: Streams) -> http2::Builder<Streams> {
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
struct ConnectionState<S> {
    context: Rc<WorkerContext<S>>,
    connection: ConnectionInfo,
    streams: Streams,
    served: Cell<u64>,
}

type HyperResponse<S> = Result<http::Response<H2ResponseBody<<S as Service>::Body<H2Body>, <S as Service>::Observer>>, StreamError>;

/// Serves one stream, on a task of its own.
async fn serve_stream<S: Service>(shared: Rc<ConnectionState<S>>, request: http::Request<Incoming>) -> HyperResponse<S> {
    let context = &shared.context;
    shared.served.set(shared.served.get() + 1);
    context.counters.h2_requests.add_one();
    let handle = shared.streams.new_handle(&context.limits);
    let (parts, request_body) = request.into_parts();
    let body = H2Body::new(request_body, &context.limits, &handle);
    let follows = if crate::wire::body::BodySource::is_end(&body) {
        request_head::BodyPresence::None
    } else {
        request_head::BodyPresence::Follows
    };
    let mut request_head = context.spares.take_head();
    let read = request_head::read(&parts, follows, &mut request_head);
    drop(parts);
    let mut in_flight = context.acquire_slot();
    let response = match (read, &in_flight) {
        (Err(denial), _) => {
            context.counters.malformed.add_one();
            // A request that is refused here has no handle by which its slot could be reclaimed, so it holds none.
            in_flight = None;
            context.service.refuse_request(&shared.connection, &request_head, denial).await
        }
        (Ok(()), None) => {
            context
                .service
                .refuse_request(&shared.connection, &request_head, Denial::Overloaded)
                .await
        }
        (Ok(()), Some(_)) => {
            let control: Rc<dyn StreamControl> = handle.clone();
            context.service.handle(&shared.connection, &control, &request_head, body).await
        }
    };
    if response.frees_slot {
        in_flight = None;
    }
    let responded = response::respond(response, &request_head.method, &context.date.text(), handle, in_flight);
    context.spares.give_head(request_head);
    responded
}

/// What is to happen to a connection.
enum ConnectionAction {
    Abort,
    /// It takes no further streams and ends with the last one.
    GoAway,
}

/// Applies the deadlines of a connection: the library has no idle timeout, no greatest age and no deadline of the first
/// byte.
struct ConnectionMonitor<S> {
    shared: Rc<ConnectionState<S>>,
    guarded_io: Rc<RefCell<GuardedIo>>,
    timer: DeadlineTimer,
    first_deadline: Instant,
    retire_at: Instant,
    idle: Duration,
    /// Since when no stream has been served.
    idle_since: Option<Instant>,
    checked_at: Instant,
    goaway_at: Option<Instant>,
}

impl<S: Service> ConnectionMonitor<S> {
    fn new(shared: Rc<ConnectionState<S>>, guarded_io: Rc<RefCell<GuardedIo>>, began_at: Instant) -> Self {
        let (age, idle) = shared.context.spread_times();
        let first_deadline = began_at + shared.context.limits.head_timeout;
        Self {
            shared,
            guarded_io,
            timer: DeadlineTimer::new(first_deadline),
            first_deadline,
            retire_at: began_at + age,
            idle,
            idle_since: Some(began_at),
            checked_at: began_at,
            goaway_at: None,
        }
    }

    /// Closes a connection that was cut off for flooding, in a way that lets the client read why.
    async fn close_flooded(&mut self) {
        self.shared.context.counters.h2_abuse.add_one();
        tracing::warn!(peer = %self.shared.connection.peer, "an HTTP/2 connection was cut off for flooding");
        poll_fn(|cx| {
            self.guarded_io.borrow_mut().send_goaway(cx);
            Poll::Ready(())
        })
        .await;
        let (mut left, deadline) = (LINGER.0, clock::instant() + LINGER.1);
        poll_fn(|cx| match self.guarded_io.borrow_mut().poll_close(cx, &mut left) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.timer.poll_until(cx, deadline),
        })
        .await;
    }

    /// Ready when the connection is to be ended. Otherwise the task is woken when the next deadline passes.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionAction> {
        loop {
            let now = clock::instant();
            self.note_idle(now);
            let next = match self.next_deadline(now) {
                Ok(next) => next,
                Err(verdict) => return Poll::Ready(verdict),
            };
            std::task::ready!(self.timer.poll_until(cx, next));
        }
    }

    fn note_idle(&mut self, now: Instant) {
        if self.shared.streams.len() > 0 {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
    }

    /// The next deadline, or what is to happen because one has passed.
    fn next_deadline(&mut self, now: Instant) -> Result<Instant, ConnectionAction> {
        let limits = &self.shared.context.limits;
        let guarded_io = self.guarded_io.borrow();
        let slow = [
            (!guarded_io.flood_guard.has_begun()).then_some(self.first_deadline),
            guarded_io.flood_guard.block_since().map(|since| since + limits.head_timeout),
        ];
        let stalled = guarded_io.blocked_since.map(|since| since + limits.body_idle);
        drop(guarded_io);
        if slow.iter().flatten().any(|deadline| *deadline <= now) {
            self.shared.context.counters.timed_out.add_one();
            return Err(ConnectionAction::Abort);
        }
        if stalled.is_some_and(|deadline| deadline <= now) {
            self.shared.context.counters.stalled_writes.add_one();
            self.shared.streams.note_slow();
            return Err(ConnectionAction::Abort);
        }
        let check_slow_streams = self.check_slow_streams(now);
        let connection_deadline = self.connection_deadline(now)?;
        let all = slow
            .into_iter()
            .chain([stalled, check_slow_streams, Some(connection_deadline)])
            .flatten();
        Ok(all.min().unwrap_or(connection_deadline))
    }

    /// Ends streams whose clients are too slow. Returns when to check again.
    fn check_slow_streams(&mut self, now: Instant) -> Option<Instant> {
        if self.shared.streams.len() == 0 {
            return None;
        }
        let every = self.shared.context.limits.body_idle / 8;
        if now >= self.checked_at + every {
            self.checked_at = now;
            for _ in 0..self.shared.streams.abort_slow(now) {
                self.shared.context.counters.stalled_writes.add_one();
            }
        }
        Some(self.checked_at + every)
    }

    /// When the connection as a whole comes to its end.
    fn connection_deadline(&mut self, now: Instant) -> Result<Instant, ConnectionAction> {
        if let Some(sent_at) = self.goaway_at {
            let Some(idle_since) = self.idle_since else {
                return Ok(now + CLOSE_TIME);
            };
            let time_left = if self.shared.context.drain.is_closing() {
                CLOSE_TIME
            } else {
                self.shared.context.limits.body_idle
            };
            let deadline = sent_at.max(idle_since).max(self.guarded_io.borrow().wrote_at) + time_left;
            return if deadline <= now {
                Err(ConnectionAction::Abort)
            } else {
                Ok(deadline)
            };
        }
        let context = &self.shared.context;
        let is_worn_out = self.shared.served.get() >= context.limits.requests_per_connection || self.retire_at <= now;
        let idle_at = self.idle_since.map(|since| since + self.idle);
        if is_worn_out || context.drain.is_closing() || idle_at.is_some_and(|at| at <= now) {
            self.goaway_at = Some(now);
            return Err(ConnectionAction::GoAway);
        }
        Ok(idle_at.map_or(self.retire_at, |at| at.min(self.retire_at)))
    }
}
