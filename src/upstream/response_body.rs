//! Receives the body of an answer while the rest of the request is sent.

use std::task::{Context, Poll};

use super::attempt::{EndpointAttempt, KeepAlive};
use crate::decide::route::Trailers;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::chunked::{BodyDecoder, Decoded};
use crate::wire::framing::Framing;
use crate::wire::head::ResponseHead;

/// A response body that is being received.
///
/// While it is polled, the rest of the request body is sent as well. When the answer is complete the connection goes
/// back to the pool, before the last chunk is handed out. If the body is dropped earlier, the connection is closed. A
/// body that is cut off ends in an error, so that it never looks complete.
pub struct UpstreamBody<B> {
    /// `None` once the answer is complete or has failed.
    attempt: Option<Box<EndpointAttempt<B>>>,
    decoder: BodyDecoder,
    /// A chunk that was decoded in order to find out whether the answer is complete.
    ahead: Option<Chunk>,
    keep_alive: KeepAlive,
    trailers: Trailers,
    read_wait: ReadWait,
}

/// Whether the next piece is being waited for. The time that the client needs for the last piece does not count against
/// the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadWait {
    No,
    Yes,
}

impl<B: BodySource + Unpin> UpstreamBody<B> {
    pub(super) fn new(attempt: Box<EndpointAttempt<B>>, framing: Framing, head: &ResponseHead, trailers: Trailers) -> Self {
        let mut body = Self {
            attempt: Some(attempt),
            decoder: BodyDecoder::new(framing),
            ahead: None,
            keep_alive: if head.keep_alive && framing != Framing::UntilClose {
                KeepAlive::Yes
            } else {
                KeepAlive::No
            },
            trailers,
            read_wait: ReadWait::No,
        };
        if body.decoder.is_done() {
            body.finish();
        }
        body
    }

    pub(super) const fn nothing() -> Self {
        Self {
            attempt: None,
            decoder: BodyDecoder::Done,
            ahead: None,
            keep_alive: KeepAlive::No,
            trailers: Trailers::Dropped,
            read_wait: ReadWait::No,
        }
    }

    fn finish(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(self.keep_alive);
        }
    }

    /// The answer has failed, so its connection is closed.
    fn fail(&mut self, error: BodyError) -> BodyError {
        if let Some(attempt) = self.attempt.take() {
            attempt.body_failed(error);
        }
        error
    }

    /// Takes the next piece out of what was received.
    fn decode(&mut self) -> Result<Option<Chunk>, BodyError> {
        let Some(attempt) = &mut self.attempt else {
            return Ok(None);
        };
        let decoded = self.decoder.decode(&mut attempt.connection().input)?;
        if self.decoder.is_done() {
            self.finish();
        }
        Ok(match decoded {
            Decoded::Data(data) => Some(Chunk::Data(data)),
            Decoded::Trailers(fields) if self.trailers == Trailers::Forwarded => Some(Chunk::Trailers(fields)),
            Decoded::Trailers(_) | Decoded::End | Decoded::NeedMore => None,
        })
    }

    /// Finds out whether the chunk that is about to be handed out was the last, so that its receiver knows without
    /// another poll.
    fn look_ahead(&mut self) {
        // An error stays in the decoder's state, and the next poll returns it.
        if let Ok(Some(chunk)) = self.decode() {
            self.ahead = Some(chunk);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        loop {
            if let Some(chunk) = self.decode()? {
                return Poll::Ready(Some(Ok(chunk)));
            }
            let Some(attempt) = &mut self.attempt else {
                return Poll::Ready(None);
            };
            match attempt.connection().poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.decoder.finish()?;
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(_)) => self.read_wait = ReadWait::No,
                // Over TLS this includes an end without close_notify, which an attacker on the path could cause.
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(BodyError::Aborted))),
            }
        }
        let Some(attempt) = &mut self.attempt else {
            return Poll::Ready(None);
        };
        if std::mem::replace(&mut self.read_wait, ReadWait::Yes) == ReadWait::No {
            attempt.begin_wait();
        }
        attempt.poll_idle(cx).map(|()| Some(Err(BodyError::Timeout)))
    }
}

impl<B: BodySource + Unpin> BodySource for UpstreamBody<B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        if let Some(attempt) = &mut self.attempt
            && let Err(error) = attempt.send_more(cx)
        {
            // This is not the endpoint's fault, so it is not counted as one.
            self.attempt = None;
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match self.ahead.take() {
            Some(chunk) => Poll::Ready(Some(Ok(chunk))),
            None => self.poll_next(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(chunk))) => {
                self.read_wait = ReadWait::No;
                self.look_ahead();
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.fail(error)))),
            other => other,
        }
    }

    fn is_end(&self) -> bool {
        self.attempt.is_none() && self.ahead.is_none()
    }
}
