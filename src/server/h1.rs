//! HTTP/1.1 connections: reads heads, asks the service, writes responses in order, without a task or a channel for each
//! request. This is the hot path.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use self::request_body::{H1Body, MAX_DRAINED};
use self::response_head::{FramingRules, SentFraming};
use self::response_writer::{ResponseWriter, WriteError};
use self::socket::{H1Socket, H1StreamControl, ResettableStream};
use super::context::WorkerContext;
use super::drain::DrainPhase;
use super::service::{ResponseObserver, Service};
use crate::base::clock;
use crate::base::denial::Denial;
use crate::gateway::{ConnectionInfo, Persistence, Response, StreamControl};
use crate::telemetry::StreamEnd;
use crate::wire::body::{BodySource, Chunk};
use crate::wire::head::{EMPTY_LINE, ParseStatus, RequestHead, origin_of_unread};
use crate::wire::yield_once;

mod linger;
mod request_body;
mod response_head;
mod response_writer;
pub(super) mod socket;
mod tunnel;
mod write_buffer;

/// Longest time for draining an unread body, and for the end of a tunnel.
const DRAIN: Duration = Duration::from_secs(1);
/// For this long after a connection was accepted its first request is awaited although the gateway drains, since an
/// honest client sends it at once.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// Serves one connection until it ends, on the task that `waker` wakes. The first deadline counts from `accepted_at`.
///
/// Dropping the future closes the connection and the upstream connection that its request uses.
// Not `async`: the arguments would stay in the future beside what is made of them.
pub(super) fn serve<Io: ResettableStream, S: Service>(
    io: Io,
    context: Rc<WorkerContext<S>>,
    connection: ConnectionInfo,
    accepted_at: Instant,
    waker: Waker,
) -> impl Future<Output = ()> {
    let first_deadline = accepted_at + context.limits.head_timeout;
    let h1_connection = H1Connection::new(io, context, connection, accepted_at, waker);
    async move { h1_connection.run(first_deadline).await }
}

/// Serves the requests of one connection, one after the other.
struct H1Connection<Io, S> {
    socket: Rc<RefCell<H1Socket<Io>>>,
    context: Rc<WorkerContext<S>>,
    connection: ConnectionInfo,
    retire_at: Instant,
    /// Until then the first request is awaited, even while the gateway drains.
    expected_until: Instant,
    idle: Duration,
    /// Aborts the request that the connection is serving.
    h1_control: Rc<H1StreamControl>,
    /// The same handle, in the form in which the service takes it.
    control: Rc<dyn StreamControl>,
}

/// The state of waiting for a head.
#[derive(Default)]
struct HeadWait {
    /// The deadline of the whole head. It is set when the head has begun.
    deadline: Option<Instant>,
    /// Until then the head is awaited even while the gateway drains. `None` after the first request.
    expected_until: Option<Instant>,
    empty_line: EmptyLine,
}

/// Whether an empty line stood before the request line.
#[derive(Default, PartialEq, Eq)]
enum EmptyLine {
    #[default]
    None,
    Skipped,
}

/// The result of reading a head.
enum HeadOutcome {
    Request,
    Refuse(Denial),
    Disconnected,
    /// Nothing came in time, or the gateway is shutting down.
    Idle,
}

/// The state in which a request left the connection.
enum RequestEnd {
    /// The connection has been ready for the next request since this time.
    Reusable(Instant),
    /// The whole response was sent, and it was the last one.
    Last,
    /// The response was cut off.
    CutOff(SentFraming),
    Disconnected,
}

/// What came first: the service's response, or the client's reset.
enum ServiceOutcome<A> {
    Response(A),
    Reset,
}

impl<Io: ResettableStream, S: Service> H1Connection<Io, S> {
    /// A connection whose task is woken by `waker`.
    fn new(io: Io, context: Rc<WorkerContext<S>>, connection: ConnectionInfo, accepted_at: Instant, waker: Waker) -> Self {
        let (age, idle) = context.spread_times();
        let socket = H1Socket::new(io, &context.limits, accepted_at + context.limits.head_timeout);
        let h1_control = H1StreamControl::new(waker, &socket);
        Self {
            socket: Rc::new(RefCell::new(socket)),
            retire_at: accepted_at + age,
            expected_until: accepted_at + FIRST_REQUEST.min(context.limits.head_timeout),
            idle,
            context,
            connection,
            control: h1_control.clone(),
            h1_control,
        }
    }

    /// What only some states need is boxed, so that a connection that waits for a request does not hold its room.
    async fn run(&self, first_deadline: Instant) {
        let _subscription = poll_fn(|cx| Poll::Ready(self.context.drain.subscribe(cx.waker().clone()))).await;
        let mut head = RequestHead::default();
        let mut idle_deadline = first_deadline;
        let mut served: u64 = 0;
        loop {
            let mut wait = HeadWait {
                expected_until: (served == 0).then_some(self.expected_until),
                ..HeadWait::default()
            };
            self.h1_control.reset();
            match poll_fn(|cx| self.poll_head(cx, &mut head, idle_deadline, &mut wait)).await {
                HeadOutcome::Request => {}
                HeadOutcome::Refuse(denial) => return Box::pin(self.refuse_malformed(denial)).await,
                HeadOutcome::Disconnected => return,
                HeadOutcome::Idle => return self.linger().await,
            }
            served += 1;
            self.context.counters.h1_requests.add_one();
            let requested = if head.keep_alive && served < self.context.limits.requests_per_connection {
                Persistence::KeepAlive
            } else {
                Persistence::Close
            };
            match Box::pin(self.serve_request(&head, requested)).await {
                RequestEnd::Reusable(at) => idle_deadline = at + self.idle,
                RequestEnd::Last => return self.linger().await,
                RequestEnd::CutOff(sent) => return self.abort_connection(sent),
                RequestEnd::Disconnected => return,
            }
            self.socket.borrow_mut().give_output(&self.context.spares);
            self.context.spares.give_head(std::mem::take(&mut head));
        }
    }

    fn poll_head(&self, cx: &mut Context<'_>, head: &mut RequestHead, idle_deadline: Instant, wait: &mut HeadWait) -> Poll<HeadOutcome> {
        let mut socket = self.socket.borrow_mut();
        loop {
            if socket.input.first() == Some(&b'\r') && wait.empty_line == EmptyLine::None {
                if socket.input.starts_with(&EMPTY_LINE) {
                    bytes::Buf::advance(&mut socket.input, EMPTY_LINE.len());
                    wait.empty_line = EmptyLine::Skipped;
                    continue;
                }
                if socket.input.len() > 1 {
                    return Poll::Ready(HeadOutcome::Refuse(Denial::MalformedRequest));
                }
            } else if !socket.input.is_empty() {
                if head.method.capacity() == 0 {
                    *head = self.context.spares.take_head();
                }
                match head.parse(&socket.input) {
                    Ok(ParseStatus::Complete(length)) => {
                        bytes::Buf::advance(&mut socket.input, length);
                        return Poll::Ready(HeadOutcome::Request);
                    }
                    Ok(ParseStatus::Partial) => {}
                    Err(denial) => return Poll::Ready(HeadOutcome::Refuse(denial)),
                }
            }
            match socket.poll_head_bytes(cx, &self.context.spares) {
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(HeadOutcome::Disconnected),
                Poll::Pending => {}
            }
            if socket.input.is_empty() {
                let until = if self.context.drain.is_closing() {
                    wait.expected_until
                } else {
                    Some(idle_deadline)
                };
                if let Some(until) = until {
                    ready!(socket.timer.poll_until(cx, until));
                }
                return Poll::Ready(HeadOutcome::Idle);
            }
            let deadline = *wait
                .deadline
                .get_or_insert_with(|| clock::instant() + self.context.limits.head_timeout);
            ready!(socket.timer.poll_until(cx, deadline));
            self.context.counters.timed_out.add_one();
            return Poll::Ready(HeadOutcome::Refuse(Denial::RequestTimeout));
        }
    }

    async fn serve_request(&self, head: &RequestHead, requested: Persistence) -> RequestEnd {
        let number = self.socket.borrow_mut().request_body.begin(head);
        let rules = FramingRules::of(head);
        let Some(mut in_flight) = self.context.acquire_slot() else {
            let response = self
                .context
                .service
                .refuse_request::<H1Body<Io>>(&self.connection, head, Denial::Overloaded)
                .await;
            return self.send_response(response, rules, requested).await;
        };
        let body = H1Body::new(Rc::clone(&self.socket), number);
        let outcome = {
            let mut handling = pin!(self.context.service.handle(&self.connection, &self.control, head, body));
            poll_fn(|cx| match yield_once::poll_noting_yield(|| handling.as_mut().poll(cx)) {
                (Poll::Ready(response), _) => Poll::Ready(ServiceOutcome::Response(response)),
                (Poll::Pending, true) => Poll::Pending,
                (Poll::Pending, false) => self.socket.borrow_mut().poll_reset(cx).map(|_| ServiceOutcome::Reset),
            })
            .await
        };
        let ServiceOutcome::Response(mut response) = outcome else {
            return RequestEnd::Disconnected;
        };
        // The response to an aborted request is sent like any other.
        self.h1_control.reset();
        if response.frees_slot {
            in_flight.release();
        }
        let Some(tunnel) = response.tunnel.take() else {
            return self.send_response(response, rules, requested).await;
        };
        // A tunnel may last for days, so it counts as a connection and no longer as a request.
        drop(in_flight);
        Box::pin(self.tunnel(response, rules, tunnel)).await
    }

    /// Sends a response and prepares the connection for the next request, if there may be one.
    async fn send_response<B: BodySource, O: ResponseObserver>(
        &self,
        response: Response<B, O>,
        rules: FramingRules,
        requested: Persistence,
    ) -> RequestEnd {
        let sent = rules.framing_of(response.head.status, response.framing);
        let persistence = self.persistence(requested, response.persistence, sent, response.observer.began());
        {
            let date = self.context.date.text();
            let mut socket = self.socket.borrow_mut();
            socket.begin_response(&self.context.spares);
            rules.write_head(&response.head, sent, persistence, &date, socket.write_buffer.buffer());
        }
        response.observer.recycle(response.head);
        let mut writer = ResponseWriter::new(Rc::clone(&self.socket), response.body, sent);
        let written = poll_fn(|cx| match self.h1_control.abort_reason() {
            Some(_) => Poll::Ready(Err(WriteError::Aborted)),
            None => writer.poll(cx),
        })
        .await;
        let bytes = writer.bytes();
        // The upstream connection and the rest of the request body are released here.
        drop(writer);
        if let Err(error) = written {
            let is_slow = matches!(&error, WriteError::Client(error) if error.kind() == std::io::ErrorKind::TimedOut);
            response.observer.abort(bytes, is_slow.then_some(StreamEnd::Slow));
            return match error {
                WriteError::Client(_) if is_slow => {
                    self.context.counters.stalled_writes.add_one();
                    RequestEnd::CutOff(sent)
                }
                WriteError::Client(_) => RequestEnd::Disconnected,
                WriteError::Body(_) | WriteError::Length | WriteError::Aborted => RequestEnd::CutOff(sent),
            };
        }
        let at = clock::instant();
        response.observer.finish(bytes, at);
        match persistence {
            Persistence::KeepAlive if self.drain_body().await => RequestEnd::Reusable(at),
            _ => RequestEnd::Last,
        }
    }

    /// Whether the connection goes on after the response to a request that began at this time.
    fn persistence(&self, requested: Persistence, allowed: Persistence, sent: SentFraming, began: Instant) -> Persistence {
        let goes_on = requested == Persistence::KeepAlive
            && allowed == Persistence::KeepAlive
            && sent != SentFraming::UntilClose
            && self.context.drain.phase() == DrainPhase::Serving
            && self.socket.borrow().request_body.may_drain()
            && began < self.retire_at;
        if goes_on { Persistence::KeepAlive } else { Persistence::Close }
    }

    /// Reads the rest of the request body and discards it. Says whether its end was reached.
    async fn drain_body(&self) -> bool {
        if self.socket.borrow().request_body.is_complete() {
            return true;
        }
        let deadline = clock::instant() + DRAIN;
        let mut left = MAX_DRAINED;
        poll_fn(|cx| {
            let mut socket = self.socket.borrow_mut();
            loop {
                match socket.poll_body(cx) {
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Ready(Some(Ok(Chunk::Trailers(_)))) => {}
                    Poll::Ready(Some(Ok(Chunk::Data(data)))) => match left.checked_sub(data.len() as u64) {
                        Some(rest) => left = rest,
                        None => return Poll::Ready(false),
                    },
                    Poll::Pending => return socket.timer.poll_until(cx, deadline).map(|()| false),
                }
            }
        })
        .await
    }

    /// Answers bytes that are no request, and closes.
    async fn refuse_malformed(&self, denial: Denial) {
        if denial != Denial::RequestTimeout {
            self.context.counters.malformed.add_one();
        }
        let mut head = RequestHead::default();
        if let Some(origin) = origin_of_unread(&self.socket.borrow().input) {
            head.fields.push(b"Origin", origin);
        }
        let response = self
            .context
            .service
            .refuse_request::<H1Body<Io>>(&self.connection, &head, denial)
            .await;
        match self.send_response(response, FramingRules::UNREAD, Persistence::Close).await {
            RequestEnd::Reusable(_) | RequestEnd::Last => self.linger().await,
            RequestEnd::CutOff(sent) => self.abort_connection(sent),
            RequestEnd::Disconnected => {}
        }
    }

    /// Ends the connection in the middle of a response. A response that ends with the connection would look complete to
    /// its client, so that connection ends with a reset. So does a connection whose client reads nothing, since the
    /// kernel would keep what the client does not read.
    fn abort_connection(&self, sent: SentFraming) {
        if sent == SentFraming::UntilClose || self.h1_control.stalled_since().is_some() {
            self.socket.borrow_mut().reset_on_close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Worker;
    use crate::server::tls::ClientStream;

    /// The size of the future that a function of five arguments makes, in bytes.
    const fn future_size<A, B, C, D, E, F>(_: &impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_for_a_request_does_not_hold_the_room_of_one() {
        let size = future_size(&serve::<ClientStream, Rc<Worker>>);
        assert!(size <= 640, "{size} bytes for each idle connection");
    }
}
