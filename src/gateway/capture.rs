//! Captures bodies for the audit trail while they pass. A body is passed on as it comes: nothing waits for its copy.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::audit::body::{BodyHead, CapturedBodies, CapturedBody};
use crate::audit::mask::Shapes;
use crate::decide::audit::{BodyCapture, RouteAudit};
use crate::decide::route::Route;
use crate::wire::body::{BodyError, BodySource, Chunk, RequestBody};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;

/// Which of the two bodies of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyPart {
    Request,
    Answer,
}

impl BodyPart {
    /// How the route records this body, if it does.
    pub(super) fn capture_of(self, route: &Route) -> Option<&Arc<BodyCapture>> {
        match (&route.options.audit, self) {
            (RouteAudit::On { body, .. }, Self::Request) => body.as_ref(),
            (RouteAudit::On { answer, .. }, Self::Answer) => answer.as_ref(),
            (RouteAudit::Off, _) => None,
        }
    }
}

/// The bodies of one request, shared by its record and by the taps of its bodies.
pub(super) type SharedBodies = Rc<RefCell<CapturedBodies>>;

/// Copies a body that passes.
pub(super) struct BodyTap {
    bodies: SharedBodies,
    part: BodyPart,
}

impl BodyTap {
    /// Begins to capture a body with this head.
    pub(super) fn begin(
        bodies: &SharedBodies,
        part: BodyPart,
        fields: &Fields,
        framing: Framing,
        capture: &Arc<BodyCapture>,
        shapes: Arc<Shapes>,
    ) -> Self {
        let head = BodyHead {
            content_type: fields.all("content-type").next().unwrap_or_default(),
            content_encoding: fields.all("content-encoding").next().unwrap_or_default(),
            length: match framing {
                Framing::Length(length) => Some(length),
                _ => None,
            },
        };
        let body = Some(Box::new(CapturedBody::begin(head, capture.clone(), shapes)));
        let mut shared = bodies.borrow_mut();
        match part {
            BodyPart::Request => shared.body = body,
            BodyPart::Answer => shared.answer = body,
        }
        drop(shared);
        Self {
            bodies: bodies.clone(),
            part,
        }
    }

    /// This was read from the body.
    pub(super) fn note(&self, polled: &Poll<Option<Result<Chunk, BodyError>>>, is_end: bool) {
        match polled {
            Poll::Ready(Some(Ok(Chunk::Data(data)))) => self.push(data, is_end),
            Poll::Ready(None | Some(Ok(Chunk::Trailers(_)))) => self.push(&[], true),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
    }

    /// These bytes passed, and the body ended with them, or not.
    pub(super) fn push(&self, data: &[u8], is_end: bool) {
        let mut shared = self.bodies.borrow_mut();
        let body = match self.part {
            BodyPart::Request => &mut shared.body,
            BodyPart::Answer => &mut shared.answer,
        };
        // Taken, once the entry is written.
        let Some(body) = body else { return };
        body.push(data);
        if is_end {
            body.end();
        }
    }
}

/// The body of a request on a served route, captured if the route records it.
pub(super) struct TappedBody<'b, B> {
    body: &'b mut B,
    tap: Option<BodyTap>,
}

impl<'b, B> TappedBody<'b, B> {
    pub(super) const fn new(body: &'b mut B, tap: Option<BodyTap>) -> Self {
        Self { body, tap }
    }
}

impl<B: RequestBody> BodySource for TappedBody<'_, B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        let polled = self.body.poll_chunk(cx);
        if let Some(tap) = &self.tap {
            tap.note(&polled, self.body.is_end());
        }
        polled
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

impl<B: RequestBody> RequestBody for TappedBody<'_, B> {
    fn limit(&mut self, max: u64) {
        self.body.limit(max);
    }
}
