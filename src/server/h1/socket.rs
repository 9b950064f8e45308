//! One HTTP/1.1 connection's socket, buffers and timer, shared by what reads the request body and
//! what writes the answer.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::incoming::Incoming;
use super::line::Stall;
use super::output::Output;
use crate::base::clock;
use crate::server::alarm::Alarm;
use crate::server::patience::Patience;
use crate::server::transport::ClientStream;
use crate::snapshot::Limits;
use crate::wire::body::{BodyError, Chunk};
use crate::wire::chunked::Decoded;

/// Read at a time while waiting for a head: most heads fit, and ten thousand idle connections hold 40 MB.
const HEAD_READ: usize = 4 * 1024;
/// Read at a time within a body: large enough that a system call is a small part of its cost.
const BODY_READ: usize = 32 * 1024;
/// Pipelined bytes read ahead while a request is being answered; beyond that the client waits.
const READ_AHEAD: usize = 16 * 1024;
/// A buffer larger than this is given back when a connection becomes idle.
const KEPT_BUFFER: usize = 8 * 1024;

/// A stream that can be ended so that its peer cannot take the end for an orderly one.
pub(in crate::server) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The close that follows is a reset.
    fn make_abrupt(&mut self);
}

impl Stream for ClientStream {
    fn make_abrupt(&mut self) {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        // A failure leaves an orderly close, which is all that is left to do then.
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

/// The socket with its buffers.
pub(super) struct Socket<Io> {
    io: Io,
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) incoming: Incoming,
    pub(super) alarm: Alarm,
    /// The client has sent its last byte; it may still be reading.
    pub(super) at_end: bool,
    /// With a client that has not yet been waited for.
    fresh: Patience,
    /// With the client that takes the answer.
    patience: Patience,
    stall: Rc<Stall>,
}

impl<Io: Stream> Socket<Io> {
    /// The alarm is first set to `first_deadline`.
    pub(super) fn new(io: Io, limits: &Limits, first_deadline: Instant) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            output: Output::default(),
            incoming: Incoming::new(limits),
            alarm: Alarm::new(first_deadline),
            at_end: false,
            fresh: Patience::of_answer(limits, limits.body_idle),
            patience: Patience::of_answer(limits, limits.body_idle),
            stall: Rc::default(),
        }
    }

    /// Reads what is there into `input`: the number of bytes, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        if self.at_end {
            return Poll::Ready(Ok(0));
        }
        if self.input.capacity() - self.input.len() < want / 4 {
            self.input.reserve(want);
        }
        // The future holds no state, so dropping it when it is pending loses nothing.
        let read = pin!(self.io.read_buf(&mut self.input));
        let n = ready!(read.poll(cx))?;
        self.at_end = n == 0;
        Poll::Ready(Ok(n))
    }

    /// Reads more of a head.
    pub(super) fn poll_head_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // An empty buffer whose beginning was consumed takes its room back, without allocating, so
        // that a head is one read.
        if self.input.is_empty() && self.input.capacity() < HEAD_READ {
            self.input.reserve(HEAD_READ);
        }
        self.poll_fill(cx, HEAD_READ)
    }

    /// Ready with an error when the client has reset the connection. Looks only while the request
    /// body is complete (else its reader sees it), keeps what was pipelined, and takes an orderly
    /// end for what it may be: a client that only finished sending.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.incoming.is_complete() && !self.at_end && self.input.len() < READ_AHEAD {
            match self.poll_fill(cx, HEAD_READ) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// The next piece of the request body.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        loop {
            match self.incoming.decode(&mut self.input) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Chunk::Data(data)))),
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Chunk::Trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::NeedMore) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.incoming.take_owed_continue() {
                self.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
                if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
                    return self.fail(BodyError::Aborted);
                }
            }
            match self.poll_fill(cx, BODY_READ) {
                Poll::Ready(Ok(1..)) => self.incoming.patience.receive(0, clock::instant),
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(BodyError::Aborted),
                Poll::Pending => {
                    let deadline = self.incoming.patience.deadline(clock::instant());
                    ready!(self.alarm.poll_until(cx, deadline));
                    return self.fail(BodyError::Timeout);
                }
            }
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Chunk, BodyError>>> {
        self.incoming.fail(error);
        Poll::Ready(Some(Err(error)))
    }

    /// An answer begins: its client has not yet been waited for.
    pub(super) const fn begin_answer(&mut self) {
        self.patience = self.fresh;
    }

    /// Where it stands since when the client has taken nothing.
    pub(super) fn stall(&self) -> Rc<Stall> {
        Rc::clone(&self.stall)
    }

    /// Writes everything that is waiting.
    ///
    /// # Errors
    /// Those of the socket; `TimedOut` when the client took nothing for as long as a body may stand still,
    /// or the answer more slowly than it may.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match self.output.poll_write(&mut self.io, cx) {
                Poll::Ready(Ok(n)) => self.note_taken(n),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_stall(cx),
            }
        }
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(result) => {
                self.note_taken(0);
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_stall(cx),
        }
    }

    /// The client took so much.
    fn note_taken(&mut self, bytes: usize) {
        if self.patience.since().is_some() {
            self.stall.set(None);
        }
        self.patience.receive(bytes, clock::instant);
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = self.patience.deadline(clock::instant());
        self.stall.set(self.patience.since());
        ready!(self.alarm.poll_until(cx, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Gives large buffers back; for connections that become idle.
    pub(super) fn trim(&mut self) {
        if self.input.is_empty() && self.input.capacity() > KEPT_BUFFER {
            self.input = BytesMut::new();
        }
        self.output.trim(KEPT_BUFFER);
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Reads and forgets; ready with the number of bytes, 0 at the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.clear();
        self.poll_fill(cx, BODY_READ)
    }

    /// Reads more of what is not HTTP any more.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_fill(cx, BODY_READ)
    }

    /// Writes once, past the output, which is empty.
    pub(super) fn poll_write_through(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    /// Brings out what was written past the output.
    pub(super) fn poll_flush_through(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Makes the close that follows a reset.
    pub(super) fn make_abrupt(&mut self) {
        self.io.make_abrupt();
    }
}
