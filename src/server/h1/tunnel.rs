//! A connection that has become a WebSocket: frames in both directions until one side, a timeout or the gateway ends
//! it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::request_body::MAX_DRAINED;
use super::response_head::{FramingRules, SentFraming};
use super::socket::{H1Socket, ResettableStream};
use super::{DRAIN, H1Connection, RequestEnd};
use crate::base::clock;
use crate::gateway::{AbortReason, Persistence, Response, Tunnel};
use crate::server::deadline::TransferTimeout;
use crate::server::service::{ResponseObserver, Service};
use crate::telemetry::StreamEnd;
use crate::upstream::Upgraded;
use crate::wire::websocket::{FrameCheck, FrameSender, Frames, GOING_AWAY, POLICY_VIOLATION, PROTOCOL_ERROR, close_frame};

/// One end of a tunnel. At most one read of it is in memory: while the other end takes nothing, nothing more is read.
trait TunnelEnd {
    fn input(&mut self) -> &mut BytesMut;
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl<Io: ResettableStream> TunnelEnd for H1Socket<Io> {
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

impl TunnelEnd for Upgraded {
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

struct Relay {
    frames: Frames,
    state: RelayState,
    bytes: u64,
    /// Bounds how long the receiver may take nothing of what is waiting.
    timeout: TransferTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RelayState {
    /// Everything that was read is written.
    Flushed,
    /// TLS may still hold bytes that were written.
    Written,
    /// The sender has ended, and the receiver is to be told.
    Ending,
    Ended,
}

enum RelayError {
    /// One of the two connections failed.
    Connection,
    /// What came is no frame.
    NotAFrame,
}

impl Relay {
    const fn new(frames: Frames, timeout: TransferTimeout) -> Self {
        Self {
            frames,
            state: RelayState::Flushed,
            bytes: 0,
            timeout,
        }
    }

    /// Moves what can be moved. Ready when the sender has ended and the receiver was told.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut impl TunnelEnd, to: &mut impl TunnelEnd) -> Poll<Result<(), RelayError>> {
        loop {
            ready!(self.poll_forward(cx, from, to))?;
            match self.state {
                RelayState::Ended => return Poll::Ready(Ok(())),
                RelayState::Ending => {
                    ready!(to.poll_shutdown(cx)).map_err(|_| RelayError::Connection)?;
                    self.state = RelayState::Ended;
                }
                RelayState::Written => {
                    let flushed = to.poll_flush(cx).map_err(|_| RelayError::Connection)?;
                    ready!(self.note_taken(flushed.map(|()| 0)));
                    self.state = RelayState::Flushed;
                }
                RelayState::Flushed => match ready!(from.poll_read(cx)) {
                    Ok(0) => self.state = RelayState::Ending,
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Err(RelayError::Connection)),
                },
            }
        }
    }

    /// Writes what was read, as far as it is frames. The head of a frame waits until it is complete.
    fn poll_forward(&mut self, cx: &mut Context<'_>, from: &mut impl TunnelEnd, to: &mut impl TunnelEnd) -> Poll<Result<(), RelayError>> {
        while !from.input().is_empty() {
            let (may_pass, check) = self.frames.check(from.input());
            let frames = from.input().get(..may_pass).unwrap_or_default();
            if frames.is_empty() {
                return Poll::Ready(match check {
                    FrameCheck::Frames => Ok(()),
                    FrameCheck::Garbage => Err(RelayError::NotAFrame),
                });
            }
            let written = to.poll_write(cx, frames).map_err(|_| RelayError::Connection)?;
            match ready!(self.note_taken(written)) {
                0 => return Poll::Ready(Err(RelayError::Connection)),
                n => {
                    self.frames.pass(from.input().get(..n).unwrap_or_default());
                    from.input().advance(n);
                    self.bytes += n as u64;
                    self.state = RelayState::Written;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn note_taken(&mut self, polled: Poll<usize>) -> Poll<usize> {
        match polled {
            Poll::Ready(bytes) => self.timeout.note_transfer(bytes, clock::instant),
            // This begins the wait, if it has not begun before.
            Poll::Pending => _ = self.timeout.deadline(clock::instant()),
        }
        polled
    }

    /// When the receiver has taken nothing, or too little, for too long.
    fn deadline(&mut self) -> Option<Instant> {
        let waiting_since = self.timeout.waiting_since()?;
        Some(self.timeout.deadline(waiting_since))
    }
}

struct Relays<'t> {
    upstream: &'t mut Upgraded,
    up: Relay,
    down: Relay,
    idle_timeout: Duration,
    last_moved_at: Instant,
    first: Option<StreamEnd>,
}

impl Relays<'_> {
    /// Ready when the tunnel has ended without the gateway.
    fn poll<Io: ResettableStream>(&mut self, cx: &mut Context<'_>, socket: &mut H1Socket<Io>) -> Poll<StreamEnd> {
        let before = self.up.bytes + self.down.bytes;
        let up = self.up.poll(cx, socket, self.upstream);
        let down = self.down.poll(cx, self.upstream, socket);
        for (polled, side) in [(&up, StreamEnd::Client), (&down, StreamEnd::Upstream)] {
            match polled {
                Poll::Ready(Err(RelayError::NotAFrame)) => return Poll::Ready(StreamEnd::Protocol),
                Poll::Ready(Err(RelayError::Connection)) => return Poll::Ready(StreamEnd::Broken),
                Poll::Ready(Ok(())) => {
                    self.first.get_or_insert(side);
                }
                Poll::Pending => {}
            }
        }
        // After both sides have sent Close, a side that is slow to hang up is not waited for.
        let over = self.up.frames.has_closed() && self.down.frames.has_closed();
        if let Some(first) = self.first.filter(|_| over || (up.is_ready() && down.is_ready())) {
            return Poll::Ready(first);
        }
        if self.up.bytes + self.down.bytes != before {
            self.last_moved_at = clock::instant();
        }
        socket.stall_clock().set(self.down.timeout.waiting_since());
        let idle_at = self.last_moved_at + self.idle_timeout;
        let stuck = [self.up.deadline(), self.down.deadline()].into_iter().flatten();
        let deadline = stuck.chain([idle_at]).min().unwrap_or(idle_at);
        ready!(socket.timer.poll_until(cx, deadline));
        let now = clock::instant();
        let is_slow = self.down.deadline().is_some_and(|at| at <= now) && !self.down.timeout.is_fully_idle(now);
        Poll::Ready(if is_slow { StreamEnd::Slow } else { StreamEnd::Idle })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TunnelOutcome {
    /// The worker has aborted it. The observer knows why.
    Aborted(AbortReason),
    /// It ended by itself, by a timeout, or with the gateway.
    Ended(StreamEnd),
}

impl TunnelOutcome {
    /// The Close frame that both sides are sent, if any.
    const fn close_frame_for(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Aborted(AbortReason::Denied) | Self::Ended(StreamEnd::Denied(_)) => Some((POLICY_VIOLATION, "no longer authorized")),
            Self::Aborted(AbortReason::Displaced) | Self::Ended(StreamEnd::Slow | StreamEnd::Displaced) => Some((GOING_AWAY, "too slow")),
            Self::Ended(StreamEnd::Drain) => Some((GOING_AWAY, "the gateway is going away")),
            Self::Ended(StreamEnd::Idle) => Some((GOING_AWAY, "idle for too long")),
            Self::Ended(StreamEnd::Protocol) => Some((PROTOCOL_ERROR, "not a frame")),
            Self::Ended(StreamEnd::Client | StreamEnd::Upstream | StreamEnd::Broken) => None,
        }
    }
}

impl<Io: ResettableStream, S: Service> H1Connection<Io, S> {
    /// Sends the 101 to the client and runs the tunnel to its end.
    pub(super) async fn tunnel<B, O: ResponseObserver>(
        &self,
        mut response: Response<B, O>,
        rules: FramingRules,
        tunnel: Box<Tunnel>,
    ) -> RequestEnd {
        let Tunnel {
            mut upstream,
            idle_timeout,
            extensions,
        } = *tunnel;
        response.head.fields.push(b"Connection", b"Upgrade");
        response.head.fields.push(b"Upgrade", b"websocket");
        {
            let date = self.context.date.text();
            let mut socket = self.socket.borrow_mut();
            let out = socket.write_buffer.buffer();
            rules.write_head(&response.head, SentFraming::Nothing(None), Persistence::KeepAlive, &date, out);
        }
        response.observer.recycle(response.head);
        if poll_fn(|cx| self.socket.borrow_mut().poll_flush(cx)).await.is_err() {
            response.observer.end_tunnel(StreamEnd::Broken, 0, 0);
            return RequestEnd::Disconnected;
        }
        let mut relays = Relays {
            upstream: &mut upstream,
            up: Relay::new(
                Frames::new(FrameSender::Client, extensions),
                TransferTimeout::idle_only(idle_timeout),
            ),
            down: Relay::new(
                Frames::new(FrameSender::Server, extensions),
                TransferTimeout::for_response(&self.context.limits, idle_timeout),
            ),
            idle_timeout,
            last_moved_at: clock::instant(),
            first: None,
        };
        let outcome = poll_fn(|cx| {
            if let Some(why) = self.h1_control.abort_reason() {
                return Poll::Ready(TunnelOutcome::Aborted(why));
            }
            if self.context.drain.is_ending() {
                return Poll::Ready(TunnelOutcome::Ended(StreamEnd::Drain));
            }
            relays.poll(cx, &mut self.socket.borrow_mut()).map(TunnelOutcome::Ended)
        })
        .await;
        if let Some((code, reason)) = outcome.close_frame_for() {
            send_close(&self.socket, &mut relays, code, reason).await;
        }
        let end = match outcome {
            TunnelOutcome::Aborted(_) => StreamEnd::Broken,
            TunnelOutcome::Ended(end) => end,
        };
        response.observer.end_tunnel(end, relays.up.bytes, relays.down.bytes);
        match end {
            StreamEnd::Broken if !matches!(outcome, TunnelOutcome::Aborted(_)) => RequestEnd::Disconnected,
            _ => RequestEnd::Last,
        }
    }
}

/// Sends Close to both sides, where no frame is half sent, since the Close would be taken for a part of that frame.
/// Waits no longer than a side needs to read that much.
async fn send_close<Io: ResettableStream>(socket: &Rc<RefCell<H1Socket<Io>>>, relays: &mut Relays<'_>, code: u16, reason: &'static str) {
    let frame = |relay: &Relay, sender| {
        if relay.frames.is_between() {
            close_frame(sender, code, reason)
        } else {
            Vec::new()
        }
    };
    let to_client = frame(&relays.down, FrameSender::Server);
    let to_upstream = frame(&relays.up, FrameSender::Client);
    let (mut client_rest, mut upstream_rest) = (&to_client[..], &to_upstream[..]);
    let (deadline, mut left) = (clock::instant() + DRAIN, MAX_DRAINED);
    poll_fn(|cx| {
        let mut socket = socket.borrow_mut();
        let client = poll_write_close(cx, &mut *socket, &mut client_rest);
        let upstream = poll_write_close(cx, relays.upstream, &mut upstream_rest);
        // What the upstream still sends is read, since closing with unread bytes would reset the connection and the
        // Close could be lost.
        if client.is_ready() && upstream.is_ready() && poll_discard(cx, relays.upstream, &mut left).is_ready() {
            return Poll::Ready(());
        }
        socket.timer.poll_until(cx, deadline)
    })
    .await;
}

/// Reads and discards. Ready at the end, or after too many bytes.
fn poll_discard(cx: &mut Context<'_>, from: &mut impl TunnelEnd, left: &mut u64) -> Poll<()> {
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

/// Writes and ends the sending side. Ready when that is done or has failed.
fn poll_write_close(cx: &mut Context<'_>, to: &mut impl TunnelEnd, rest: &mut &[u8]) -> Poll<()> {
    while !rest.is_empty() {
        match ready!(to.poll_write(cx, rest)) {
            Ok(n @ 1..) => *rest = rest.get(n..).unwrap_or_default(),
            Ok(0) | Err(_) => return Poll::Ready(()),
        }
    }
    // Errors are ignored, since the connection ends in both cases.
    let _ = ready!(to.poll_flush(cx));
    let _ = ready!(to.poll_shutdown(cx));
    Poll::Ready(())
}
