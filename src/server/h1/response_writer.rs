//! Writes a response with back-pressure. The head leaves with the first bytes of the body, everything is flushed as
//! soon as no more is available, and a body that breaks off never looks complete.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::response_head::SentFraming;
use super::socket::{H1Socket, ResettableStream};
use super::write_buffer::WriteBuffer;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::chunked::{CHUNK_END, LAST_CHUNK, SizeLine, write_trailers};
use crate::wire::yield_once::YieldOnce;

/// Why a response was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The client went away or does not read.
    #[error("the client went away")]
    Client(#[source] io::Error),
    #[error("the response body broke off")]
    Body(#[source] BodyError),
    /// The credential became invalid, or another request waits for the resources of this one.
    #[error("the worker aborted the response")]
    Aborted,
    /// The body was longer or shorter than its head declared.
    #[error("the response body is not as long as declared")]
    Length,
}

/// Copies a body to the client. The head is in the write buffer already.
pub(super) struct ResponseWriter<Io, B> {
    socket: Rc<RefCell<H1Socket<Io>>>,
    body: B,
    sent: SentFraming,
    state: WriterState,
    yield_once: YieldOnce,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterState {
    /// More of the body may come.
    Streaming,
    /// The whole response is in the write buffer.
    Complete,
}

impl<Io: ResettableStream, B: BodySource> ResponseWriter<Io, B> {
    pub(super) fn new(socket: Rc<RefCell<H1Socket<Io>>>, body: B, sent: SentFraming) -> Self {
        let state = match sent {
            SentFraming::Nothing(_) => WriterState::Complete,
            SentFraming::Length(_) | SentFraming::Chunked | SentFraming::UntilClose => WriterState::Streaming,
        };
        Self {
            socket,
            body,
            sent,
            state,
            yield_once: YieldOnce::default(),
            bytes: 0,
        }
    }

    /// How many bytes of the body were put into the write buffer.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Begins after the other tasks of the worker that are ready. Ready when everything was handed to the kernel.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        loop {
            let supply = self.poll_supply(cx)?;
            // The body was taken from the upstream before, so that its connection is free for other requests.
            ready!(self.yield_once.poll(cx));
            let mut socket = self.socket.borrow_mut();
            match socket.poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(WriteError::Client(error))),
                Poll::Ready(Ok(())) if self.state == WriterState::Complete => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if supply == Supply::Dry => {
                    return socket.poll_reset(cx).map(|error| Err(WriteError::Client(error)));
                }
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Moves the available part of the body into the write buffer.
    fn poll_supply(&mut self, cx: &mut Context<'_>) -> Result<Supply, WriteError> {
        while self.state == WriterState::Streaming && self.socket.borrow().write_buffer.has_room() {
            // The socket is not borrowed while the body is polled, since the body may read the request body from the
            // same socket.
            match self.body.poll_chunk(cx) {
                Poll::Pending => return Ok(Supply::Dry),
                Poll::Ready(Some(Err(error))) => return Err(WriteError::Body(error)),
                Poll::Ready(Some(Ok(chunk))) => self.encode(chunk)?,
                Poll::Ready(None) => self.end()?,
            }
        }
        Ok(Supply::More)
    }

    fn encode(&mut self, chunk: Chunk) -> Result<(), WriteError> {
        match (chunk, &mut self.sent) {
            (Chunk::Data(data), sent) => {
                self.bytes += data.len() as u64;
                push_data(&mut self.socket.borrow_mut().write_buffer, data, sent)?;
                // A complete body of declared length need not be polled for its end, so the response leaves now, with
                // its head.
                if *sent == SentFraming::Length(0) && self.body.is_end() {
                    self.state = WriterState::Complete;
                }
            }
            (Chunk::Trailers(trailers), SentFraming::Chunked) => {
                write_trailers(&trailers, self.socket.borrow_mut().write_buffer.buffer());
                self.state = WriterState::Complete;
            }
            (Chunk::Trailers(_), _) => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), WriteError> {
        match self.sent {
            SentFraming::Length(1..) => return Err(WriteError::Length),
            SentFraming::Chunked => self.socket.borrow_mut().write_buffer.push(LAST_CHUNK),
            SentFraming::Length(0) | SentFraming::UntilClose | SentFraming::Nothing(_) => {}
        }
        self.state = WriterState::Complete;
        Ok(())
    }
}

fn push_data(write_buffer: &mut WriteBuffer, data: Bytes, sent: &mut SentFraming) -> Result<(), WriteError> {
    match sent {
        SentFraming::Length(left) => {
            *left = left.checked_sub(data.len() as u64).ok_or(WriteError::Length)?;
            write_buffer.push_data(data, b"");
        }
        SentFraming::Chunked if !data.is_empty() => {
            write_buffer.push(SizeLine::new(data.len()).as_bytes());
            write_buffer.push_data(data, CHUNK_END);
        }
        SentFraming::UntilClose => write_buffer.push_data(data, b""),
        SentFraming::Chunked | SentFraming::Nothing(_) => {}
    }
    Ok(())
}

/// Whether more of the body is available.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Supply {
    /// Also when the buffer is full, or the body is at its end.
    More,
    Dry,
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;
    use crate::base::clock;
    use crate::snapshot::Limits;
    use crate::wire::body::NoBody;

    /// A client that says nothing and takes everything.
    struct Client(Rc<RefCell<Vec<u8>>>);

    impl AsyncRead for Client {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Client {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl ResettableStream for Client {
        fn reset_on_close(&mut self) {}
    }

    #[tokio::test]
    async fn an_answer_leaves_after_what_else_is_ready() {
        let taken = Rc::default();
        let deadline = clock::instant() + Duration::from_secs(60);
        let mut socket = H1Socket::new(Client(Rc::clone(&taken)), &Limits::default(), deadline);
        socket.write_buffer.push(b"HTTP/1.1 204 No Content\r\n\r\n");
        let mut writer = ResponseWriter::new(Rc::new(RefCell::new(socket)), NoBody, SentFraming::Nothing(None));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(writer.poll(&mut cx).is_pending());
        assert!(taken.borrow().is_empty(), "the others first");
        assert!(matches!(writer.poll(&mut cx), Poll::Ready(Ok(()))));
        assert!(taken.borrow().ends_with(b"\r\n\r\n"));
    }
}
