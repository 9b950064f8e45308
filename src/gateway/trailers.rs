//! Trailers pass only where a route asks for them, and never under a protected name.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::worker::View;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::fields::Fields;

/// A body whose trailers are filtered, in either direction.
pub struct Trailed<S> {
    source: S,
    /// The rules they are filtered by; without them trailers are dropped.
    rules: Option<Rc<View>>,
}

impl<S> Trailed<S> {
    pub(super) const fn new(source: S, rules: Option<Rc<View>>) -> Self {
        Self { source, rules }
    }
}

impl<S: BodySource + Unpin> BodySource for Trailed<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self.source.poll_chunk(cx) {
            Poll::Ready(Some(Ok(Chunk::Trailers(received)))) => Poll::Ready(self.rules.as_ref().and_then(|view| {
                let mut kept = Fields::default();
                view.snapshot.headers.filter_trailers(&received, &mut kept);
                (!kept.is_empty()).then_some(Ok(Chunk::Trailers(Box::new(kept))))
            })),
            other => other,
        }
    }

    fn is_end(&self) -> bool {
        self.source.is_end()
    }
}
