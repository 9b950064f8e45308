//! Bodies as streams of chunks, the same trait in both directions.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::fields::Fields;

/// A piece of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Some bytes, never empty.
    Data(Bytes),
    /// The trailer section, which is always last. It is boxed, since it is rare and every chunk would carry its room.
    Trailers(Box<Fields>),
}

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The framing is broken (chunk syntax, short body).
    #[error("the body's framing is broken")]
    Framing,
    /// More bytes than allowed.
    #[error("the body is larger than allowed")]
    TooLarge,
    /// The sender was silent or too slow for longer than allowed.
    #[error("the body did not arrive in time")]
    Timeout,
    /// The sender went away or reset the stream.
    #[error("the sender ended the body early")]
    Aborted,
}

/// A body that is read. After an error or its end it is not polled again.
pub trait BodySource {
    /// The next chunk, `None` at the end. After `Ready(Some(Err))` the message is broken: code that copies it must end
    /// its own message so that it cannot look complete.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>>;

    /// Whether nothing more will come, as far as that is known without polling.
    fn is_end(&self) -> bool;
}

/// The body of a client's request. Its limit is known only after the head was read.
pub trait RequestBody: BodySource {
    /// Ends the body with [`BodyError::TooLarge`] as soon as it is known to be longer than `max` bytes: at once if it
    /// declares a larger length, else when byte `max + 1` arrives.
    fn limit(&mut self, max: u64);
}

/// An empty body.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBody;

impl RequestBody for NoBody {
    fn limit(&mut self, _: u64) {}
}

impl BodySource for NoBody {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        Poll::Ready(None)
    }

    fn is_end(&self) -> bool {
        true
    }
}
