//! An HTTP/2 request body with the limits and deadlines that every request body has.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use crate::base::clock;
use crate::server::deadline::{DeadlineTimer, TransferTimeout};
use crate::snapshot::Limits;
use crate::wire::body::{BodyError, BodySource, Chunk, RequestBody};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;

use super::streams::StreamHandle;

/// Most trailer fields: as on HTTP/1.
const MAX_TRAILERS: usize = 32;

/// The body of one HTTP/2 request.
pub(in crate::server) struct H2Body {
    stream: RecvStream,
    /// The length that the head declares. The library resets the stream if the data has another one.
    declared: u64,
    timeout: TransferTimeout,
    /// Made when the body is first waited for.
    timer: Option<DeadlineTimer>,
    received: u64,
    limit: u64,
    state: BodyState,
    /// Is told how much was read.
    handle: Rc<StreamHandle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Open,
    /// The data has ended, and trailers may follow.
    Trailers,
    Ended,
    Failed(BodyError),
}

impl H2Body {
    /// The body whose head declares this framing.
    pub(super) fn new(stream: RecvStream, framing: Framing, limits: &Limits, handle: &Rc<StreamHandle>) -> Self {
        Self {
            state: if stream.is_end_stream() {
                BodyState::Ended
            } else {
                BodyState::Open
            },
            stream,
            declared: match framing {
                Framing::Length(length) => length,
                Framing::None | Framing::Chunked | Framing::UntilClose => 0,
            },
            timeout: TransferTimeout::new(limits),
            timer: None,
            received: 0,
            limit: u64::MAX,
            handle: Rc::clone(handle),
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Chunk, BodyError>>> {
        self.state = BodyState::Failed(error);
        Poll::Ready(Some(Err(error)))
    }

    /// The next data that is not empty. `None` at the end of the data.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        loop {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // It fails only if the library has no such stream any more. Then nobody waits for the window.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(data)));
                }
                other => return Poll::Ready(other),
            }
        }
    }

    /// Ready when the client has been too slow.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        let deadline = self.timeout.deadline(clock::instant());
        let timer = self.timer.get_or_insert_with(|| DeadlineTimer::new(deadline));
        ready!(timer.poll_until(cx, deadline));
        self.fail(BodyError::Timeout)
    }

    fn take_data(&mut self, data: Bytes) -> Poll<Option<Result<Chunk, BodyError>>> {
        self.timeout.note_transfer(data.len(), clock::instant);
        self.received = self.received.saturating_add(data.len() as u64);
        self.handle.set_received(self.received);
        if self.received > self.limit {
            return self.fail(BodyError::TooLarge);
        }
        Poll::Ready(Some(Ok(Chunk::Data(data))))
    }

    fn take_trailers(&mut self, received: &HeaderMap) -> Poll<Option<Result<Chunk, BodyError>>> {
        if received.len() > MAX_TRAILERS {
            return self.fail(BodyError::Framing);
        }
        let mut trailers = Fields::default();
        for (name, value) in received {
            trailers.push(name.as_str().as_bytes(), value.as_bytes());
        }
        self.state = BodyState::Ended;
        Poll::Ready(Some(Ok(Chunk::Trailers(Box::new(trailers)))))
    }
}

impl BodySource for H2Body {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        if self.declared > self.limit && self.state == BodyState::Open {
            return self.fail(BodyError::TooLarge);
        }
        loop {
            match self.state {
                BodyState::Ended => return Poll::Ready(None),
                BodyState::Failed(error) => return Poll::Ready(Some(Err(error))),
                BodyState::Open => match self.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => return self.take_data(data),
                    Poll::Ready(None) => self.state = BodyState::Trailers,
                    // Also a reset with NO_ERROR: what the client did not end must not look complete.
                    Poll::Ready(Some(Err(_))) => return self.fail(BodyError::Aborted),
                    Poll::Pending => return self.poll_timeout(cx),
                },
                BodyState::Trailers => match self.stream.poll_trailers(cx) {
                    Poll::Ready(Ok(Some(trailers))) => return self.take_trailers(&trailers),
                    Poll::Ready(Ok(None)) => self.state = BodyState::Ended,
                    Poll::Ready(Err(_)) => return self.fail(BodyError::Aborted),
                    Poll::Pending => return self.poll_timeout(cx),
                },
            }
        }
    }

    fn is_end(&self) -> bool {
        self.state == BodyState::Ended || (matches!(self.state, BodyState::Open | BodyState::Trailers) && self.stream.is_end_stream())
    }
}

impl RequestBody for H2Body {
    fn limit(&mut self, max: u64) {
        self.limit = max;
    }
}
