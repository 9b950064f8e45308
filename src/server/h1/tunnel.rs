//! A connection that has become a WebSocket: frames both ways until one side, the clock or the
//! gateway ends it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::incoming::MAX_DRAINED;
use super::render::{Asked, Sent};
use super::socket::{Socket, Stream};
use super::{Conversation, DRAIN, Ended};
use crate::base::clock;
use crate::gateway::{Cut, Tunnel};
use crate::server::patience::Patience;
use crate::server::service::{After, Answer, Outcome, Service};
use crate::telemetry::StreamEnd;
use crate::upstream::Upgraded;
use crate::wire::websocket::{Found, Frames, GOING_AWAY, POLICY_VIOLATION, PROTOCOL_ERROR, Sender, close_frame};

/// One end of a tunnel. No more than one read of it is held: what the other end does not take is not
/// read.
trait Pipe {
    fn input(&mut self) -> &mut BytesMut;
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl<Io: Stream> Pipe for Socket<Io> {
    fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_more(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_through(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_through(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self, cx)
    }
}

impl Pipe for Upgraded {
    fn input(&mut self) -> &mut BytesMut {
        Self::input(self)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Self::poll_read(self, cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self, cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self, cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self, cx)
    }
}

/// One direction.
struct Way {
    frames: Frames,
    stage: Stage,
    bytes: u64,
    /// With its receiver, waiting while that takes nothing of what is there.
    patience: Patience,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Everything that was read is written.
    Flushed,
    /// Something may still be held by TLS.
    Written,
    /// The sender has ended; its receiver is yet to be told.
    Ending,
    /// The receiver was told.
    Ended,
}

/// Why a direction broke.
enum Fault {
    /// One of the connections did.
    Broken,
    /// What came is no frame.
    Garbage,
}

impl Way {
    const fn new(frames: Frames, patience: Patience) -> Self {
        Self {
            frames,
            stage: Stage::Flushed,
            bytes: 0,
            patience,
        }
    }

    /// Moves what can be moved. Ready when the sender has ended and the receiver was told.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut impl Pipe, to: &mut impl Pipe) -> Poll<Result<(), Fault>> {
        loop {
            ready!(self.poll_bring(cx, from, to))?;
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(to.poll_shutdown(cx)).map_err(|_| Fault::Broken)?;
                    self.stage = Stage::Ended;
                }
                Stage::Written => {
                    let flushed = to.poll_flush(cx).map_err(|_| Fault::Broken)?;
                    ready!(self.note_taken(flushed.map(|()| 0)));
                    self.stage = Stage::Flushed;
                }
                Stage::Flushed => match ready!(from.poll_read(cx)) {
                    Ok(0) => self.stage = Stage::Ending,
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Err(Fault::Broken)),
                },
            }
        }
    }

    /// Writes what was read, as far as it is frames. The head of one that is not there wholly waits.
    fn poll_bring(&mut self, cx: &mut Context<'_>, from: &mut impl Pipe, to: &mut impl Pipe) -> Poll<Result<(), Fault>> {
        while !from.input().is_empty() {
            let (may_pass, found) = self.frames.check(from.input());
            let frames = from.input().get(..may_pass).unwrap_or_default();
            if frames.is_empty() {
                return Poll::Ready(match found {
                    Found::Frames => Ok(()),
                    Found::Garbage => Err(Fault::Garbage),
                });
            }
            let written = to.poll_write(cx, frames).map_err(|_| Fault::Broken)?;
            match ready!(self.note_taken(written)) {
                0 => return Poll::Ready(Err(Fault::Broken)),
                n => {
                    self.frames.pass(from.input().get(..n).unwrap_or_default());
                    from.input().advance(n);
                    self.bytes += n as u64;
                    self.stage = Stage::Written;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn note_taken(&mut self, polled: Poll<usize>) -> Poll<usize> {
        match polled {
            Poll::Ready(bytes) => self.patience.receive(bytes, clock::instant),
            // Its wait begins, if it has not begun before.
            Poll::Pending => _ = self.patience.deadline(clock::instant()),
        }
        polled
    }

    /// When its receiver has taken nothing for too long, or too little.
    fn deadline(&mut self) -> Option<Instant> {
        let since = self.patience.since()?;
        Some(self.patience.deadline(since))
    }
}

/// Both directions.
struct Ways<'t> {
    upstream: &'t mut Upgraded,
    up: Way,
    down: Way,
    idle_timeout: Duration,
    moved_at: Instant,
    /// Whoever ended first.
    first: Option<StreamEnd>,
}

impl Ways<'_> {
    /// Ready when the tunnel has ended by itself.
    fn poll<Io: Stream>(&mut self, cx: &mut Context<'_>, socket: &mut Socket<Io>) -> Poll<StreamEnd> {
        let before = self.up.bytes + self.down.bytes;
        let up = self.up.poll(cx, socket, self.upstream);
        let down = self.down.poll(cx, self.upstream, socket);
        for (polled, side) in [(&up, StreamEnd::Client), (&down, StreamEnd::Upstream)] {
            match polled {
                Poll::Ready(Err(Fault::Garbage)) => return Poll::Ready(StreamEnd::Protocol),
                Poll::Ready(Err(Fault::Broken)) => return Poll::Ready(StreamEnd::Broken),
                Poll::Ready(Ok(())) => {
                    self.first.get_or_insert(side);
                }
                Poll::Pending => {}
            }
        }
        // Once both have said Close, nobody has anything left to say: who is slow to hang up is not waited for.
        let over = self.up.frames.has_closed() && self.down.frames.has_closed();
        if let Some(first) = self.first.filter(|_| over || (up.is_ready() && down.is_ready())) {
            return Poll::Ready(first);
        }
        if self.up.bytes + self.down.bytes != before {
            self.moved_at = clock::instant();
        }
        socket.stall().set(self.down.patience.since());
        let idle_at = self.moved_at + self.idle_timeout;
        let stuck = [self.up.deadline(), self.down.deadline()].into_iter().flatten();
        let deadline = stuck.chain([idle_at]).min().unwrap_or(idle_at);
        ready!(socket.alarm.poll_until(cx, deadline));
        let now = clock::instant();
        let is_slow = self.down.deadline().is_some_and(|at| at <= now) && !self.down.patience.is_idle(now);
        Poll::Ready(if is_slow { StreamEnd::Slow } else { StreamEnd::Idle })
    }
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The worker has cut it off, and the outcome knows why.
    Cut(Cut),
    /// By itself, or with the gateway.
    End(StreamEnd),
}

impl Stop {
    /// What both sides are told, if anything.
    const fn farewell(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Cut(Cut::Denied) | Self::End(StreamEnd::Denied(_)) => Some((POLICY_VIOLATION, "no longer authorized")),
            Self::Cut(Cut::Displaced) | Self::End(StreamEnd::Slow | StreamEnd::Displaced) => Some((GOING_AWAY, "too slow")),
            Self::End(StreamEnd::Drain) => Some((GOING_AWAY, "the gateway is going away")),
            Self::End(StreamEnd::Idle) => Some((GOING_AWAY, "idle for too long")),
            Self::End(StreamEnd::Protocol) => Some((PROTOCOL_ERROR, "not a frame")),
            Self::End(StreamEnd::Client | StreamEnd::Upstream | StreamEnd::Broken) => None,
        }
    }
}

impl<Io: Stream, S: Service> Conversation<Io, S> {
    /// Tells the client that the connection has switched, and lets it be a tunnel until that ends.
    pub(super) async fn tunnel<B, O: Outcome>(&self, mut answer: Answer<B, O>, asked: Asked, tunnel: Box<Tunnel>) -> Ended {
        let Tunnel {
            mut upstream,
            idle_timeout,
            extensions,
        } = *tunnel;
        answer.head.fields.push(b"Connection", b"Upgrade");
        answer.head.fields.push(b"Upgrade", b"websocket");
        {
            let date = self.context.date.text();
            let mut socket = self.socket.borrow_mut();
            let out = socket.output.buffer();
            asked.write_head(&answer.head, Sent::Nothing(None), After::KeepAlive, &date, out);
        }
        answer.outcome.recycle(answer.head);
        if poll_fn(|cx| self.socket.borrow_mut().poll_flush(cx)).await.is_err() {
            answer.outcome.end_tunnel(StreamEnd::Broken, 0, 0);
            return Ended::Gone;
        }
        let mut ways = Ways {
            upstream: &mut upstream,
            up: Way::new(Frames::new(Sender::Client, extensions), Patience::of_idle(idle_timeout)),
            down: Way::new(
                Frames::new(Sender::Server, extensions),
                Patience::of_answer(&self.context.limits, idle_timeout),
            ),
            idle_timeout,
            moved_at: clock::instant(),
            first: None,
        };
        let stop = poll_fn(|cx| {
            if let Some(why) = self.line.cut_for() {
                return Poll::Ready(Stop::Cut(why));
            }
            if self.context.drain.is_ending() {
                return Poll::Ready(Stop::End(StreamEnd::Drain));
            }
            ways.poll(cx, &mut self.socket.borrow_mut()).map(Stop::End)
        })
        .await;
        if let Some((code, reason)) = stop.farewell() {
            say_farewell(&self.socket, &mut ways, code, reason).await;
        }
        let end = match stop {
            Stop::Cut(_) => StreamEnd::Broken,
            Stop::End(end) => end,
        };
        answer.outcome.end_tunnel(end, ways.up.bytes, ways.down.bytes);
        match end {
            StreamEnd::Broken if !matches!(stop, Stop::Cut(_)) => Ended::Gone,
            _ => Ended::Last,
        }
    }
}

/// Says Close to both sides, where no frame is on its way that a Close would be taken for a part of,
/// and for no longer than a side takes to read that much.
async fn say_farewell<Io: Stream>(socket: &Rc<RefCell<Socket<Io>>>, ways: &mut Ways<'_>, code: u16, reason: &'static str) {
    let frame = |way: &Way, sender| {
        if way.frames.is_between() {
            close_frame(sender, code, reason)
        } else {
            Vec::new()
        }
    };
    let to_client = frame(&ways.down, Sender::Server);
    let to_upstream = frame(&ways.up, Sender::Client);
    let (mut client_rest, mut upstream_rest) = (&to_client[..], &to_upstream[..]);
    let (deadline, mut left) = (clock::instant() + DRAIN, MAX_DRAINED);
    poll_fn(|cx| {
        let mut socket = socket.borrow_mut();
        let client = poll_say(cx, &mut *socket, &mut client_rest);
        let upstream = poll_say(cx, ways.upstream, &mut upstream_rest);
        // What the service still sends must be taken, or closing would reset the connection and the
        // Close could be lost on its way.
        if client.is_ready() && upstream.is_ready() && poll_forget(cx, ways.upstream, &mut left).is_ready() {
            return Poll::Ready(());
        }
        socket.alarm.poll_until(cx, deadline)
    })
    .await;
}

/// Reads and forgets; ready at the end, or when that is too much.
fn poll_forget(cx: &mut Context<'_>, from: &mut impl Pipe, left: &mut u64) -> Poll<()> {
    loop {
        from.input().clear();
        match ready!(from.poll_read(cx)) {
            Ok(n @ 1..) => match left.checked_sub(n as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(()),
            },
            Ok(0) | Err(_) => return Poll::Ready(()),
        }
    }
}

/// Writes and ends; ready when that is done, or cannot be.
fn poll_say(cx: &mut Context<'_>, to: &mut impl Pipe, rest: &mut &[u8]) -> Poll<()> {
    while !rest.is_empty() {
        match ready!(to.poll_write(cx, rest)) {
            Ok(n @ 1..) => *rest = rest.get(n..).unwrap_or_default(),
            Ok(0) | Err(_) => return Poll::Ready(()),
        }
    }
    // An error ends it as well as a success.
    let _ = ready!(to.poll_flush(cx));
    let _ = ready!(to.poll_shutdown(cx));
    Poll::Ready(())
}
