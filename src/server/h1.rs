//! HTTP/1.1 connections: reads heads, asks the service, writes answers, in order, without a task or
//! a channel for a request. This is the hot path.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use self::answer::{AnswerWriter, Broken};
use self::body::H1Body;
use self::incoming::MAX_DRAINED;
use self::line::Line;
use self::render::{Asked, Sent};
use self::socket::{Socket, Stream};
use super::context::Context;
use super::drain::Phase;
use super::service::{After, Answer, Outcome, Service};
use crate::base::clock;
use crate::base::denial::Denial;
use crate::gateway::{Connection, Lifeline};
use crate::telemetry::StreamEnd;
use crate::wire::after_others;
use crate::wire::body::{BodySource, Chunk};
use crate::wire::head::{EMPTY_LINE, Progress, RequestHead, origin_of_unread};

mod answer;
mod body;
mod incoming;
mod leave;
mod line;
mod output;
mod render;
pub(super) mod socket;
mod tunnel;

/// Longest time for draining an unread body, and for the end of a tunnel.
const DRAIN: Duration = Duration::from_secs(1);
/// How long after a connection was accepted its first request is waited for although the gateway drains. The request of
/// an honest client follows at once.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// Serves one connection until it ends. `accepted_at` is what the first deadline counts from.
///
/// Dropping the future closes the connection and whatever its request uses upstream.
pub(super) async fn serve<Io: Stream, S: Service>(io: Io, context: Rc<Context<S>>, connection: Connection, accepted_at: Instant) {
    let (age, idle) = context.spread_times();
    let first_deadline = accepted_at + context.limits.head_timeout;
    let socket = Socket::new(io, &context.limits, first_deadline);
    let line = poll_fn(|cx| Poll::Ready(Line::new(cx.waker().clone(), socket.stall()))).await;
    let conversation = Conversation {
        socket: Rc::new(RefCell::new(socket)),
        retire_at: accepted_at + age,
        expected_until: accepted_at + FIRST_REQUEST.min(context.limits.head_timeout),
        idle,
        context,
        connection,
        lifeline: line.clone(),
        line,
    };
    conversation.run(first_deadline).await;
}

/// One connection's requests, one after the other.
struct Conversation<Io, S> {
    socket: Rc<RefCell<Socket<Io>>>,
    context: Rc<Context<S>>,
    connection: Connection,
    retire_at: Instant,
    /// Until then the first request is waited for, even while the gateway drains.
    expected_until: Instant,
    idle: Duration,
    /// What cuts the current request off ...
    line: Rc<Line>,
    /// ... as the service knows it.
    lifeline: Rc<dyn Lifeline>,
}

/// How far the wait for a head has come.
#[derive(Default)]
struct Waiting {
    /// When the head must be whole, once it has begun.
    deadline: Option<Instant>,
    /// Until when it is waited for even while the gateway drains; `None` after the first request.
    expected_until: Option<Instant>,
    empty_line: EmptyLine,
}

/// Whether an empty line stood before the request line.
#[derive(Default, PartialEq, Eq)]
enum EmptyLine {
    #[default]
    NotMet,
    Taken,
}

/// What reading a head came to.
enum Next {
    Request,
    Refuse(Denial),
    /// The client is gone.
    Gone,
    /// Nothing came in time, or the gateway is leaving.
    Idle,
}

/// How an exchange left the connection.
enum Ended {
    /// Ready for the next request since then.
    Clean(Instant),
    /// An answer was sent to its end and was the last one.
    Last,
    /// An answer broke off.
    Broken(Sent),
    /// The client is gone.
    Gone,
}

/// How a service's answer, or the lack of one, came about.
enum Handled<A> {
    Answer(A),
    Reset,
}

impl<Io: Stream, S: Service> Conversation<Io, S> {
    async fn run(&self, first_deadline: Instant) {
        let _registration = poll_fn(|cx| Poll::Ready(self.context.drain.register(cx.waker().clone()))).await;
        let mut head = RequestHead::default();
        let mut idle_deadline = first_deadline;
        let mut served: u64 = 0;
        loop {
            let mut waiting = Waiting {
                expected_until: (served == 0).then_some(self.expected_until),
                ..Waiting::default()
            };
            self.line.renew();
            match poll_fn(|cx| self.poll_head(cx, &mut head, idle_deadline, &mut waiting)).await {
                Next::Request => {}
                Next::Refuse(denial) => return self.refuse_unread(denial).await,
                Next::Gone => return,
                Next::Idle => return self.linger().await,
            }
            served += 1;
            self.context.counters.h1_requests.add_one();
            let wanted = if head.keep_alive && served < self.context.limits.requests_per_connection {
                After::KeepAlive
            } else {
                After::Close
            };
            match self.exchange(&head, wanted).await {
                Ended::Clean(at) => idle_deadline = at + self.idle,
                Ended::Last => return self.linger().await,
                Ended::Broken(sent) => return self.break_off(sent),
                Ended::Gone => return,
            }
            self.socket.borrow_mut().trim();
        }
    }

    fn poll_head(&self, cx: &mut TaskContext<'_>, head: &mut RequestHead, idle_deadline: Instant, waiting: &mut Waiting) -> Poll<Next> {
        let mut socket = self.socket.borrow_mut();
        loop {
            if socket.input.first() == Some(&b'\r') && waiting.empty_line == EmptyLine::NotMet {
                if socket.input.starts_with(&EMPTY_LINE) {
                    bytes::Buf::advance(&mut socket.input, EMPTY_LINE.len());
                    waiting.empty_line = EmptyLine::Taken;
                    continue;
                }
                if socket.input.len() > 1 {
                    return Poll::Ready(Next::Refuse(Denial::MalformedRequest));
                }
            } else if !socket.input.is_empty() {
                match head.parse(&socket.input) {
                    Ok(Progress::Complete(length)) => {
                        bytes::Buf::advance(&mut socket.input, length);
                        return Poll::Ready(Next::Request);
                    }
                    Ok(Progress::Partial) => {}
                    Err(denial) => return Poll::Ready(Next::Refuse(denial)),
                }
            }
            match socket.poll_head_bytes(cx) {
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Gone),
                Poll::Pending => {}
            }
            if socket.input.is_empty() {
                let until = if self.context.drain.is_closing() {
                    waiting.expected_until
                } else {
                    Some(idle_deadline)
                };
                if let Some(until) = until {
                    ready!(socket.alarm.poll_until(cx, until));
                }
                return Poll::Ready(Next::Idle);
            }
            let deadline = *waiting
                .deadline
                .get_or_insert_with(|| clock::instant() + self.context.limits.head_timeout);
            ready!(socket.alarm.poll_until(cx, deadline));
            self.context.counters.timed_out.add_one();
            return Poll::Ready(Next::Refuse(Denial::RequestTimeout));
        }
    }

    /// One request and its answer.
    async fn exchange(&self, head: &RequestHead, wanted: After) -> Ended {
        let number = self.socket.borrow_mut().incoming.begin(head);
        let asked = Asked::of(head);
        let Some(mut in_flight) = self.context.place() else {
            let answer = self
                .context
                .service
                .refuse_request::<H1Body<Io>>(&self.connection, head, Denial::Overloaded);
            return self.answer(answer, asked, wanted).await;
        };
        let body = H1Body::new(Rc::clone(&self.socket), number);
        let handled = {
            let mut handling = pin!(self.context.service.handle((&self.connection, &self.lifeline), head, body));
            poll_fn(|cx| match after_others::observed(|| handling.as_mut().poll(cx)) {
                (Poll::Ready(answer), _) => Poll::Ready(Handled::Answer(answer)),
                (Poll::Pending, true) => Poll::Pending,
                (Poll::Pending, false) => self.socket.borrow_mut().poll_reset(cx).map(|_| Handled::Reset),
            })
            .await
        };
        let Handled::Answer(mut answer) = handled else {
            return Ended::Gone;
        };
        // What was cut off is answered like anything else.
        self.line.renew();
        if answer.unplaced {
            in_flight.leave();
        }
        let Some(tunnel) = answer.tunnel.take() else {
            return self.answer(answer, asked, wanted).await;
        };
        // It may last for days: it counts as a connection, no longer as a request.
        drop(in_flight);
        Box::pin(self.tunnel(answer, asked, tunnel)).await
    }

    /// Sends an answer and makes the connection ready for the next request, if there is to be one.
    async fn answer<B: BodySource, O: Outcome>(&self, answer: Answer<B, O>, asked: Asked, wanted: After) -> Ended {
        let sent = asked.framing_of(answer.head.status, answer.framing);
        let after = self.after(wanted, answer.after, sent, answer.outcome.began());
        {
            let date = self.context.date.text();
            let mut socket = self.socket.borrow_mut();
            asked.write_head(&answer.head, sent, after, &date, socket.output.buffer());
            socket.begin_answer();
        }
        answer.outcome.recycle(answer.head);
        let mut writer = AnswerWriter::new(Rc::clone(&self.socket), answer.body, sent);
        let written = poll_fn(|cx| match self.line.cut_for() {
            Some(_) => Poll::Ready(Err(Broken::Cut)),
            None => writer.poll(cx),
        })
        .await;
        let bytes = writer.bytes();
        // Whatever it used of the request body and upstream ends here.
        drop(writer);
        if let Err(broken) = written {
            let is_slow = matches!(&broken, Broken::Client(error) if error.kind() == std::io::ErrorKind::TimedOut);
            answer.outcome.abort(bytes, is_slow.then_some(StreamEnd::Slow));
            return match broken {
                Broken::Client(_) if is_slow => {
                    self.context.counters.stalled_writes.add_one();
                    Ended::Broken(sent)
                }
                Broken::Client(_) => Ended::Gone,
                Broken::Body(_) | Broken::Length | Broken::Cut => Ended::Broken(sent),
            };
        }
        let at = clock::instant();
        answer.outcome.finish(bytes, at);
        match after {
            After::KeepAlive if self.drain_body().await => Ended::Clean(at),
            _ => Ended::Last,
        }
    }

    /// Whether the connection goes on after an answer to a request of this time.
    fn after(&self, wanted: After, allowed: After, sent: Sent, began: Instant) -> After {
        let goes_on = wanted == After::KeepAlive
            && allowed == After::KeepAlive
            && sent != Sent::UntilClose
            && self.context.drain.phase() == Phase::Serving
            && self.socket.borrow().incoming.may_drain()
            && began < self.retire_at;
        if goes_on { After::KeepAlive } else { After::Close }
    }

    /// Reads what is left of the request body and forgets it; whether its end was reached.
    async fn drain_body(&self) -> bool {
        if self.socket.borrow().incoming.is_complete() {
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
                    Poll::Pending => return socket.alarm.poll_until(cx, deadline).map(|()| false),
                }
            }
        })
        .await
    }

    /// Answers what was not a request, and closes.
    async fn refuse_unread(&self, denial: Denial) {
        if denial != Denial::RequestTimeout {
            self.context.counters.malformed.add_one();
        }
        let mut head = RequestHead::default();
        if let Some(origin) = origin_of_unread(&self.socket.borrow().input) {
            head.fields.push(b"Origin", origin);
        }
        let answer = self.context.service.refuse_request::<H1Body<Io>>(&self.connection, &head, denial);
        match self.answer(answer, Asked::UNREAD, After::Close).await {
            Ended::Clean(_) | Ended::Last => self.linger().await,
            Ended::Broken(sent) => self.break_off(sent),
            Ended::Gone => {}
        }
    }

    /// Ends the connection in the middle of an answer. An answer that ends with the connection
    /// would look complete to its client, so that one ends with a reset. So does one whose client takes
    /// nothing: the kernel would keep what it does not take.
    fn break_off(&self, sent: Sent) {
        if sent == Sent::UntilClose || self.line.stalled_since().is_some() {
            self.socket.borrow_mut().make_abrupt();
        }
    }
}
