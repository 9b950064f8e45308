//! HTTP/2 connections. The library speaks the protocol, this module decides how long a connection may last.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};

use self::guarded_io::{GuardedIo, LibraryIo};
use self::library::{Library, Unresponsive};
use self::request_body::H2Body;
use self::response::{H2ResponseBody, StreamError};
use self::streams::{StreamHandle, Streams};
use super::context::WorkerContext;
use super::deadline::DeadlineTimer;
use super::service::Service;
use super::tls::ClientStream;
use crate::base::clock;
use crate::base::denial::Denial;
use crate::gateway::{ConnectionInfo, StreamControl};

#[cfg(any(test, feature = "internals"))]
pub use self::header_filter::tables_agree;

mod delivery;
mod flood_guard;
mod frame;
mod guarded_io;
mod header_filter;
mod library;
mod request_body;
mod request_head;
mod response;
mod streams;

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
    let library = Library::new(LibraryIo(Rc::clone(&guarded_io)), &context.limits);
    let mut library = Box::new(library);
    let _end_with_us = AbortStreamsOnDrop(streams);
    let _subscription = poll_fn(|cx| Poll::Ready(context.drain.subscribe(cx.waker().clone()))).await;
    let mut monitor = ConnectionMonitor::new(Rc::clone(&shared), Rc::clone(&guarded_io), began_at);
    poll_fn(|cx| {
        loop {
            let ended = library.poll(cx, |request, respond| {
                let shared_by_stream = Rc::clone(&shared);
                let serve = |handle| serve_stream(shared_by_stream, handle, request, respond);
                shared.streams.spawn(&shared.context.limits, serve);
            });
            if ended.is_ready() {
                return Poll::Ready(());
            }
            shared.streams.wake_at_end(cx);
            match monitor.poll(cx, &mut library) {
                Poll::Ready(ConnectionAction::Abort) => return Poll::Ready(()),
                Poll::Ready(ConnectionAction::GoAway) => library.go_away(),
                Poll::Ready(ConnectionAction::GiveUp) => library.give_up(),
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

/// What the streams of a connection share.
struct ConnectionState<S> {
    context: Rc<WorkerContext<S>>,
    connection: ConnectionInfo,
    streams: Streams,
    served: Cell<u64>,
}

/// A response in the library's form, or why there is none.
type StreamResponse<S> = Result<
    (
        http::Response<()>,
        H2ResponseBody<<S as Service>::Body<H2Body>, <S as Service>::Observer>,
    ),
    StreamError,
>;

/// Serves one stream, on a task of its own. Dropping the future resets the stream, unless its response is complete.
async fn serve_stream<S: Service>(
    shared: Rc<ConnectionState<S>>,
    handle: Rc<StreamHandle>,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = {
        let mut responding = pin!(respond_to(shared, handle, request));
        poll_fn(|cx| match responding.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            // The client may reset the stream meanwhile. Then what is done for it ends here.
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await
    };
    match response {
        None => {}
        Some(Ok((head, body))) => delivery::deliver(respond, head, body).await,
        Some(Err(error)) => {
            tracing::warn!(%error, "the service's response cannot be sent over HTTP/2: the stream is reset");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// Reads the head of a request, and has the service respond to it.
async fn respond_to<S: Service>(
    shared: Rc<ConnectionState<S>>,
    handle: Rc<StreamHandle>,
    request: http::Request<RecvStream>,
) -> StreamResponse<S> {
    let context = &shared.context;
    shared.served.set(shared.served.get() + 1);
    context.counters.h2_requests.add_one();
    let (parts, stream) = request.into_parts();
    let follows = if stream.is_end_stream() {
        request_head::BodyPresence::None
    } else {
        request_head::BodyPresence::Follows
    };
    let mut request_head = context.spares.take_head();
    let read = request_head::read(&parts, follows, &mut request_head);
    drop(parts);
    let body = H2Body::new(stream, request_head.framing, &context.limits, &handle);
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
    let converted = response::respond(response, &request_head.method, &context.date.text(), handle, in_flight);
    context.spares.give_head(request_head);
    converted
}

/// What is to happen to a connection.
enum ConnectionAction {
    Abort,
    /// It takes no further streams and ends with the last one.
    GoAway,
    /// The client did not answer a PING.
    GiveUp,
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
    fn poll(&mut self, cx: &mut Context<'_>, library: &mut Library) -> Poll<ConnectionAction> {
        loop {
            let now = clock::instant();
            self.note_idle(now);
            let next = match self.next_deadline(now) {
                Ok(next) => next,
                Err(verdict) => return Poll::Ready(verdict),
            };
            let read_at = self.guarded_io.borrow().read_at;
            let next = match library.poll_keep_alive(cx, now, read_at) {
                Ok(ask_again) => ask_again.map_or(next, |at| at.min(next)),
                Err(Unresponsive) => return Poll::Ready(ConnectionAction::GiveUp),
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
