//! Writes an answer with back-pressure: the head leaves with the first body bytes, what is there is
//! flushed as soon as nothing more is at hand, and a body that breaks off can never look complete.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::output::Output;
use super::render::Sent;
use super::socket::{Socket, Stream};
use crate::wire::after_others::AfterOthers;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::chunked::{CHUNK_END, LAST_CHUNK, SizeLine, write_trailers};

/// Why an answer was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The client went away or does not read.
    #[error("the client went away")]
    Client(#[source] io::Error),
    /// The body broke off.
    #[error("the answer's body broke off")]
    Body(#[source] BodyError),
    /// Whoever asked for it may not have the rest, or makes others wait.
    #[error("the worker ended it")]
    Cut,
    /// The body was longer or shorter than its head declared.
    #[error("the answer's body is not as long as declared")]
    Length,
}

/// Copies a body to the client. The head already waits in the output.
pub(super) struct AnswerWriter<Io, B> {
    socket: Rc<RefCell<Socket<Io>>>,
    body: B,
    sent: Sent,
    state: State,
    others: AfterOthers,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// There may be more to come.
    Streaming,
    /// The whole answer is in the output.
    Complete,
}

impl<Io: Stream, B: BodySource> AnswerWriter<Io, B> {
    pub(super) fn new(socket: Rc<RefCell<Socket<Io>>>, body: B, sent: Sent) -> Self {
        let state = match sent {
            Sent::Nothing(_) => State::Complete,
            Sent::Length(_) | Sent::Chunked | Sent::UntilClose => State::Streaming,
        };
        Self {
            socket,
            body,
            sent,
            state,
            others: AfterOthers::default(),
            bytes: 0,
        }
    }

    /// Body bytes that were given to the output.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Begins after what else the worker has ready. Ready when everything was handed to the kernel.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let supply = self.poll_supply(cx)?;
            // What came from upstream was taken first: its connection is free for the others.
            ready!(self.others.poll(cx));
            let mut socket = self.socket.borrow_mut();
            match socket.poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Client(error))),
                Poll::Ready(Ok(())) if self.state == State::Complete => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if supply == Supply::Dry => {
                    return socket.poll_reset(cx).map(|error| Err(Broken::Client(error)));
                }
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Moves what is at hand of the body into the output.
    fn poll_supply(&mut self, cx: &mut Context<'_>) -> Result<Supply, Broken> {
        while self.state == State::Streaming && self.socket.borrow().output.has_room() {
            // Not borrowed while the body is polled: it may read the request body from the same socket.
            match self.body.poll_chunk(cx) {
                Poll::Pending => return Ok(Supply::Dry),
                Poll::Ready(Some(Err(error))) => return Err(Broken::Body(error)),
                Poll::Ready(Some(Ok(chunk))) => self.encode(chunk)?,
                Poll::Ready(None) => self.end()?,
            }
        }
        Ok(Supply::More)
    }

    fn encode(&mut self, chunk: Chunk) -> Result<(), Broken> {
        match (chunk, &mut self.sent) {
            (Chunk::Data(data), sent) => {
                self.bytes += data.len() as u64;
                push_data(&mut self.socket.borrow_mut().output, data, sent)?;
                // A complete body of declared length need not be asked for its end: the answer
                // leaves now, with its head.
                if *sent == Sent::Length(0) && self.body.is_end() {
                    self.state = State::Complete;
                }
            }
            (Chunk::Trailers(trailers), Sent::Chunked) => {
                write_trailers(&trailers, self.socket.borrow_mut().output.buffer());
                self.state = State::Complete;
            }
            (Chunk::Trailers(_), _) => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Broken> {
        match self.sent {
            Sent::Length(1..) => return Err(Broken::Length),
            Sent::Chunked => self.socket.borrow_mut().output.push(LAST_CHUNK),
            Sent::Length(0) | Sent::UntilClose | Sent::Nothing(_) => {}
        }
        self.state = State::Complete;
        Ok(())
    }
}

/// Frames one piece.
fn push_data(output: &mut Output, data: Bytes, sent: &mut Sent) -> Result<(), Broken> {
    match sent {
        Sent::Length(left) => {
            *left = left.checked_sub(data.len() as u64).ok_or(Broken::Length)?;
            output.push_data(data, b"");
        }
        Sent::Chunked if !data.is_empty() => {
            output.push(SizeLine::new(data.len()).as_bytes());
            output.push_data(data, CHUNK_END);
        }
        Sent::UntilClose => output.push_data(data, b""),
        Sent::Chunked | Sent::Nothing(_) => {}
    }
    Ok(())
}

/// Whether the body has more at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Supply {
    /// Or the output is full, or the body is at its end.
    More,
    /// Not now.
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

    impl Stream for Client {
        fn make_abrupt(&mut self) {}
    }

    #[tokio::test]
    async fn an_answer_leaves_after_what_else_is_ready() {
        let taken = Rc::default();
        let deadline = clock::instant() + Duration::from_secs(60);
        let mut socket = Socket::new(Client(Rc::clone(&taken)), &Limits::default(), deadline);
        socket.output.push(b"HTTP/1.1 204 No Content\r\n\r\n");
        let mut writer = AnswerWriter::new(Rc::new(RefCell::new(socket)), NoBody, Sent::Nothing(None));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(writer.poll(&mut cx).is_pending());
        assert!(taken.borrow().is_empty(), "the others first");
        assert!(matches!(writer.poll(&mut cx), Poll::Ready(Ok(()))));
        assert!(taken.borrow().ends_with(b"\r\n\r\n"));
    }
}
