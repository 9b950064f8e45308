//! An HTTP/2 request body with the limits and deadlines that every request body has.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::Body as _;
use hyper::body::Incoming;

use crate::base::clock;
use crate::server::deadline::{DeadlineTimer, TransferTimeout};
use crate::snapshot::Limits;
use crate::wire::body::{BodyError, BodySource, Chunk, RequestBody};
use crate::wire::fields::Fields;

use super::streams::StreamHandle;

/// Most trailer fields: as on HTTP/1.
const MAX_TRAILERS: usize = 32;

/// The body of one HTTP/2 request.
pub(in crate::server) struct H2Body {
    request_body: Incoming,
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
    Ended,
    Failed(BodyError),
}

impl H2Body {
    pub(super) fn new(request_body: Incoming, limits: &Limits, handle: &Rc<StreamHandle>) -> Self {
        Self {
            state: if request_body.is_end_stream() {
                BodyState::Ended
            } else {
                BodyState::Open
            },
            request_body,
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
}

impl BodySource for H2Body {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self.state {
            BodyState::Open => {}
            BodyState::Ended => return Poll::Ready(None),
            BodyState::Failed(error) => return Poll::Ready(Some(Err(error))),
        }
        let declared = self.request_body.size_hint().lower();
        if declared.saturating_add(self.received) > self.limit {
            return self.fail(BodyError::TooLarge);
        }
        loop {
            let frame = match Pin::new(&mut self.request_body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => return self.fail(BodyError::Aborted),
                Poll::Ready(None) => {
                    self.state = BodyState::Ended;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let deadline = self.timeout.deadline(clock::instant());
                    ready!(
                        self.timer
                            .get_or_insert_with(|| DeadlineTimer::new(deadline))
                            .poll_until(cx, deadline)
                    );
                    return self.fail(BodyError::Timeout);
                }
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.timeout.note_transfer(data.len(), clock::instant);
                    self.received = self.received.saturating_add(data.len() as u64);
                    self.handle.set_received(self.received);
                    if self.received > self.limit {
                        return self.fail(BodyError::TooLarge);
                    }
                    return Poll::Ready(Some(Ok(Chunk::Data(data))));
                }
                Err(frame) => {
                    let Ok(map) = frame.into_trailers() else { continue };
                    if map.len() > MAX_TRAILERS {
                        return self.fail(BodyError::Framing);
                    }
                    let mut trailers = Fields::default();
                    for (name, value) in &map {
                        trailers.push(name.as_str().as_bytes(), value.as_bytes());
                    }
                    self.state = BodyState::Ended;
                    return Poll::Ready(Some(Ok(Chunk::Trailers(Box::new(trailers)))));
                }
            }
        }
    }

    fn is_end(&self) -> bool {
        self.state == BodyState::Ended || (self.state == BodyState::Open && self.request_body.is_end_stream())
    }
}

impl RequestBody for H2Body {
    fn limit(&mut self, max: u64) {
        self.limit = max;
    }
}
