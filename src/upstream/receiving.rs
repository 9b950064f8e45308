//! The answer's body on its way in, while the rest of the request still goes out.

use std::task::{Context, Poll};

use super::exchange::{Exchange, KeepAlive};
use crate::decide::route::Trailers;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::chunked::{BodyDecoder, Decoded};
use crate::wire::framing::Framing;
use crate::wire::head::ResponseHead;

/// A response body that is being received.
///
/// While it is polled, the rest of the request body is sent as well. When the answer is complete
/// the connection goes back to the pool, before the last chunk is handed out; dropped earlier, the
/// connection is closed. A body that is cut off ends in an error, never as if it were complete.
pub struct UpstreamBody<B> {
    /// Until the answer is complete or has failed.
    exchange: Option<Box<Exchange<B>>>,
    decoder: BodyDecoder,
    /// A chunk that was decoded while looking whether the answer is complete.
    ahead: Option<Chunk>,
    keep_alive: KeepAlive,
    trailers: Trailers,
    waiting: Waiting,
}

/// Whether the next piece is being waited for. The time the client takes for the last one is not
/// the endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    No,
    Yes,
}

impl<B: BodySource + Unpin> UpstreamBody<B> {
    pub(super) fn new(exchange: Box<Exchange<B>>, framing: Framing, head: &ResponseHead, trailers: Trailers) -> Self {
        let mut body = Self {
            exchange: Some(exchange),
            decoder: BodyDecoder::new(framing),
            ahead: None,
            keep_alive: if head.keep_alive && framing != Framing::UntilClose {
                KeepAlive::Yes
            } else {
                KeepAlive::No
            },
            trailers,
            waiting: Waiting::No,
        };
        if body.decoder.is_done() {
            body.finish();
        }
        body
    }

    /// The body that is not there.
    pub(super) const fn nothing() -> Self {
        Self {
            exchange: None,
            decoder: BodyDecoder::Done,
            ahead: None,
            keep_alive: KeepAlive::No,
            trailers: Trailers::Dropped,
            waiting: Waiting::No,
        }
    }

    /// The answer is complete.
    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(self.keep_alive);
        }
    }

    /// The answer has failed: its connection is closed.
    fn fail(&mut self, error: BodyError) -> BodyError {
        if let Some(exchange) = self.exchange.take() {
            exchange.body_failed(error);
        }
        error
    }

    /// Takes the next piece out of what was received.
    fn decode(&mut self) -> Result<Option<Chunk>, BodyError> {
        let Some(exchange) = &mut self.exchange else {
            return Ok(None);
        };
        let decoded = self.decoder.decode(&mut exchange.connection().input)?;
        if self.decoder.is_done() {
            self.finish();
        }
        Ok(match decoded {
            Decoded::Data(data) => Some(Chunk::Data(data)),
            Decoded::Trailers(fields) if self.trailers == Trailers::Forwarded => Some(Chunk::Trailers(fields)),
            Decoded::Trailers(_) | Decoded::End | Decoded::NeedMore => None,
        })
    }

    /// Looks whether the chunk that is about to be handed out was the last, so that its receiver
    /// knows without another poll.
    fn look_ahead(&mut self) {
        // An error stays in the decoder's state and is met again by the next poll.
        if let Ok(Some(chunk)) = self.decode() {
            self.ahead = Some(chunk);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        loop {
            if let Some(chunk) = self.decode()? {
                return Poll::Ready(Some(Ok(chunk)));
            }
            let Some(exchange) = &mut self.exchange else {
                return Poll::Ready(None);
            };
            match exchange.connection().poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.decoder.finish()?;
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(_)) => self.waiting = Waiting::No,
                // Over TLS also an end without close_notify, which anybody on the path could cause.
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(BodyError::Aborted))),
            }
        }
        let Some(exchange) = &mut self.exchange else {
            return Poll::Ready(None);
        };
        if std::mem::replace(&mut self.waiting, Waiting::Yes) == Waiting::No {
            exchange.begin_wait();
        }
        exchange.poll_idle(cx).map(|()| Some(Err(BodyError::Timeout)))
    }
}

impl<B: BodySource + Unpin> BodySource for UpstreamBody<B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        if let Some(exchange) = &mut self.exchange
            && let Err(error) = exchange.pump(cx)
        {
            // Not the endpoint's fault, so it is not counted as one.
            self.exchange = None;
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match self.ahead.take() {
            Some(chunk) => Poll::Ready(Some(Ok(chunk))),
            None => self.poll_next(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(chunk))) => {
                self.waiting = Waiting::No;
                self.look_ahead();
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.fail(error)))),
            other => other,
        }
    }

    fn is_end(&self) -> bool {
        self.exchange.is_none() && self.ahead.is_none()
    }
}
