//! The socket of one HTTP/1.1 connection, with its buffers and its timer. The reader of the request body and the writer
//! of the response share it.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::request_body::RequestBodyReader;
use super::write_buffer::WriteBuffer;
use crate::base::clock;
use crate::gateway::{AbortReason, StreamControl};
use crate::server::deadline::{DeadlineTimer, TransferTimeout};
use crate::server::spares::Spares;
use crate::server::tls::ClientStream;
use crate::snapshot::Limits;
use crate::telemetry::StreamKind;
use crate::wire::body::{BodyError, Chunk};
use crate::wire::chunked::Decoded;

/// Bytes per read while waiting for a head. Most heads fit.
const HEAD_READ: usize = 4 * 1024;
/// Bytes per read within a body, so large that a system call is a small part of the cost.
const BODY_READ: usize = 32 * 1024;
/// How many pipelined bytes are read ahead while a request is being answered. Beyond that the client waits.
const READ_AHEAD: usize = 16 * 1024;

/// A stream that can be ended in a way that its peer does not take for an orderly end.
pub(in crate::server) trait ResettableStream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Makes the next close a reset.
    fn reset_on_close(&mut self);
}

impl ResettableStream for ClientStream {
    fn reset_on_close(&mut self) {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        // If this fails, only an orderly close is left.
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

/// The socket with its buffers.
pub(super) struct H1Socket<Io> {
    io: Io,
    pub(super) input: BytesMut,
    pub(super) write_buffer: WriteBuffer,
    pub(super) request_body: RequestBodyReader,
    pub(super) timer: DeadlineTimer,
    /// The client has sent its last byte. It may still be reading.
    pub(super) at_end: bool,
    /// A response timeout in its initial state.
    initial_timeout: TransferTimeout,
    /// Bounds how long the client may take to read the current response.
    response_timeout: TransferTimeout,
    stall_clock: Rc<StallClock>,
}

impl<Io: ResettableStream> H1Socket<Io> {
    /// The timer is first set to `first_deadline`.
    pub(super) fn new(io: Io, limits: &Limits, first_deadline: Instant) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            write_buffer: WriteBuffer::default(),
            request_body: RequestBodyReader::new(limits),
            timer: DeadlineTimer::new(first_deadline),
            at_end: false,
            initial_timeout: TransferTimeout::for_response(limits, limits.body_idle),
            response_timeout: TransferTimeout::for_response(limits, limits.body_idle),
            stall_clock: Rc::default(),
        }
    }

    /// Reads into `input`. Returns the number of bytes, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        if self.at_end {
            return Poll::Ready(Ok(0));
        }
        if self.input.capacity() - self.input.len() < want / 4 {
            self.input.reserve(want);
        }
        // The future holds no state, so nothing is lost when it is dropped while it is pending.
        let read = pin!(self.io.read_buf(&mut self.input));
        let n = ready!(read.poll(cx))?;
        self.at_end = n == 0;
        Poll::Ready(Ok(n))
    }

    /// Reads more of a head. The connection holds no input buffer while it waits for the first byte.
    pub(super) fn poll_head_bytes(&mut self, cx: &mut Context<'_>, spares: &Spares) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            self.input = spares.take_input();
        }
        // Reserving reclaims the room of bytes that were consumed, without an allocation, so that a head takes one
        // read.
        if self.input.is_empty() && self.input.capacity() < HEAD_READ {
            self.input.reserve(HEAD_READ);
        }
        let read = self.poll_fill(cx, HEAD_READ);
        if read.is_pending() && self.input.is_empty() {
            spares.give_input(std::mem::take(&mut self.input));
        }
        read
    }

    /// Ready with an error when the client has reset the connection. Reads only while the request body is complete,
    /// since the body's reader sees a reset before that. Keeps pipelined bytes. An orderly end is not a reset, since
    /// the client may only have finished sending.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.request_body.is_complete() && !self.at_end && self.input.len() < READ_AHEAD {
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
            match self.request_body.decode(&mut self.input) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Chunk::Data(data)))),
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Chunk::Trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::NeedMore) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.request_body.take_owed_continue() {
                self.write_buffer.push(b"HTTP/1.1 100 Continue\r\n\r\n");
                if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
                    return self.fail(BodyError::Aborted);
                }
            }
            match self.poll_fill(cx, BODY_READ) {
                Poll::Ready(Ok(1..)) => self.request_body.timeout.note_transfer(0, clock::instant),
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(BodyError::Aborted),
                Poll::Pending => {
                    let deadline = self.request_body.timeout.deadline(clock::instant());
                    ready!(self.timer.poll_until(cx, deadline));
                    return self.fail(BodyError::Timeout);
                }
            }
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Chunk, BodyError>>> {
        self.request_body.fail(error);
        Poll::Ready(Some(Err(error)))
    }

    /// A response begins. No time of waiting for its client has been counted yet.
    pub(super) fn begin_response(&mut self, spares: &Spares) {
        self.write_buffer.equip(|| spares.take_output());
        self.response_timeout = self.initial_timeout;
    }

    /// The clock that says since when the client has read nothing.
    pub(super) fn stall_clock(&self) -> Rc<StallClock> {
        Rc::clone(&self.stall_clock)
    }

    /// Writes everything in the write buffer.
    ///
    /// # Errors
    /// Those of the socket; `TimedOut` when the client read nothing for the idle time of a body, or reads more slowly
    /// than the least rate.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write_buffer.is_empty() {
            match self.write_buffer.poll_write(&mut self.io, cx) {
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

    /// The client has read this many bytes.
    fn note_taken(&mut self, bytes: usize) {
        if self.response_timeout.waiting_since().is_some() {
            self.stall_clock.set(None);
        }
        self.response_timeout.note_transfer(bytes, clock::instant);
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = self.response_timeout.deadline(clock::instant());
        self.stall_clock.set(self.response_timeout.waiting_since());
        ready!(self.timer.poll_until(cx, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Gives back the output buffer of a response that was sent.
    pub(super) fn give_output(&mut self, spares: &Spares) {
        if let Some(output) = self.write_buffer.take_buffer() {
            spares.give_output(output);
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Reads and discards. Ready with the number of bytes, 0 at the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.clear();
        self.poll_fill(cx, BODY_READ)
    }

    /// Reads more of what follows a protocol upgrade.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_fill(cx, BODY_READ)
    }

    /// Writes directly to the stream. The write buffer is empty then.
    pub(super) fn poll_write_through(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    /// Flushes what was written directly.
    pub(super) fn poll_flush_through(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Makes the next close a reset.
    pub(super) fn reset_on_close(&mut self) {
        self.io.reset_on_close();
    }
}

/// Aborts the current request of a connection. There is one for each connection, since a connection serves one request
/// at a time, in one task.
pub(super) struct H1StreamControl {
    waker: Waker,
    abort: Cell<Option<AbortReason>>,
    stall: Rc<StallClock>,
    /// Bytes of the current request's body that were read.
    received: Rc<Cell<u64>>,
}

/// Since when the client of a connection has read nothing although data is waiting for it.
#[derive(Debug, Default)]
pub(super) struct StallClock(Cell<Option<Instant>>);

impl StallClock {
    pub(super) fn set(&self, since: Option<Instant>) {
        self.0.set(since);
    }
}

impl H1StreamControl {
    pub(super) fn new<Io>(waker: Waker, socket: &H1Socket<Io>) -> Rc<Self> {
        Rc::new(Self {
            waker,
            abort: Cell::new(None),
            stall: Rc::clone(&socket.stall_clock),
            received: socket.request_body.received(),
        })
    }

    /// Why the request is to end, if it is.
    pub(super) fn abort_reason(&self) -> Option<AbortReason> {
        self.abort.get()
    }

    /// Prepares for another request, or for the response to an aborted one: neither is aborted with it.
    pub(super) fn reset(&self) {
        self.abort.set(None);
    }
}

impl StreamControl for H1StreamControl {
    fn kind(&self) -> StreamKind {
        StreamKind::Http1
    }

    fn stalled_since(&self) -> Option<Instant> {
        self.stall.0.get()
    }

    fn received(&self) -> u64 {
        self.received.get()
    }

    fn abort(&self, why: AbortReason) {
        self.abort.set(Some(why));
        self.waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::io::ReadBuf;

    use super::*;

    /// Each piece is what one read gives. Without a piece, a read waits.
    #[derive(Default)]
    struct Pieces(VecDeque<&'static [u8]>);

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(piece) => {
                    buf.put_slice(piece);
                    Poll::Ready(Ok(()))
                }
                None => Poll::Pending,
            }
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl ResettableStream for Pieces {
        fn reset_on_close(&mut self) {}
    }

    #[tokio::test]
    async fn a_connection_that_waits_for_a_request_holds_no_buffer_and_one_within_a_head_does() {
        let spares = Spares::default();
        let mut cx = Context::from_waker(Waker::noop());
        let deadline = clock::instant() + Duration::from_secs(60);
        let mut socket = H1Socket::new(Pieces::default(), &Limits::default(), deadline);
        assert!(socket.poll_head_bytes(&mut cx, &spares).is_pending());
        assert_eq!(socket.input.capacity(), 0, "before the first request");
        socket.io.0.push_back(b"GET / HT");
        assert!(matches!(socket.poll_head_bytes(&mut cx, &spares), Poll::Ready(Ok(8))));
        assert!(socket.poll_head_bytes(&mut cx, &spares).is_pending());
        assert_eq!(&socket.input[..], b"GET / HT", "within a head");
        bytes::Buf::advance(&mut socket.input, 8);
        assert!(socket.poll_head_bytes(&mut cx, &spares).is_pending());
        assert_eq!(socket.input.capacity(), 0, "after a request");
        socket.begin_response(&spares);
        socket.write_buffer.push(b"HTTP/1.1 200 OK\r\n\r\n");
        socket.give_output(&spares);
        assert!(!socket.write_buffer.is_empty(), "what is not sent yet stays");
        assert!(socket.poll_flush(&mut cx).is_ready());
        socket.give_output(&spares);
        assert!(spares.take_output().capacity() > 0, "given back when it was sent");
    }
}
