//! The body of a reply: ours, the upstream's as it comes, or none.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::upstream::UpstreamBody;
use crate::wire::body::{BodyError, BodySource, Chunk};

use super::Trailed;

/// A reply's body.
pub enum ReplyBody<B> {
    /// Nothing.
    Empty,
    /// Ours.
    Bytes(Bytes),
    /// The upstream's, as it comes.
    Upstream(Trailed<UpstreamBody<Trailed<B>>>),
}

impl<B: BodySource + Unpin> BodySource for ReplyBody<B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Chunk::Data(std::mem::take(bytes))))),
            Self::Upstream(body) => body.poll_chunk(cx),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Upstream(body) => body.is_end(),
        }
    }
}
