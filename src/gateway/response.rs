//! What goes back to the client: the type, its body, and each way a response is made.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::base::denial::Denial;
use crate::decide::accept::AnswerForm;
use crate::decide::method::Method;
use crate::decide::route::{Access, Destination, Route, Trailers};
use crate::dialect::RefusalContext;
use crate::dialect::page::{HtmlPage, RenderedPage, log_out_words, refusal_words};
use crate::issue::call::Issued;
use crate::limit;
use crate::sign_on::log_in_record::remove_cookie;
use crate::snapshot::Snapshot;
use crate::upstream::{Forwarded, Upgraded, UpstreamBody};
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;
use crate::wire::head::{RequestHead, ResponseHead};
use crate::wire::websocket::Extensions;

use super::access_record::AccessRecord;
use super::capture::{BodyPart, BodyTap};
use super::worker::SnapshotView;
use super::{Examined, RequestRefusal};

/// The name under which every response carries the request id, so that a caller can quote it.
const REQUEST_ID: &[u8] = b"X-Request-Id";

/// What goes back to a client. `B` is its body, `O` learns how the delivery ended.
pub struct Response<B, O> {
    /// Status and fields, without `Date`, framing and `Connection`: the server adds those.
    pub head: ResponseHead,
    /// The framing that the head declares. The body is shorter only where it is not sent (`HEAD`).
    pub framing: Framing,
    /// The body. The server does not send it where the request or the status forbids one.
    pub body: B,
    /// Whether the connection may carry another request (HTTP/1 only).
    pub persistence: Persistence,
    /// Whether the request gives back its slot among the requests in flight before the response is sent. A refusal
    /// for want of a slot must not hold one, however slowly its client reads.
    pub frees_slot: bool,
    /// With a 101, over HTTP/1.1: what the connection becomes a tunnel to.
    pub tunnel: Option<Box<Tunnel>>,
    /// Learns how the delivery ended. Dropped unused it counts the response as aborted.
    pub observer: O,
}

/// The gateway's response. Its observer writes the access line of the request.
pub type GatewayResponse<B> = Response<ResponseBody<B>, AccessRecord>;

impl<B> GatewayResponse<B> {
    /// Writes the CORS fields into the head. Every response passes through this function once, whoever made it.
    pub fn add_cors_fields(&mut self, request: &RequestHead) {
        self.observer.apply_cors(&request.fields, &mut self.head.fields);
    }
}

/// Whether a connection goes on after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It may carry further requests.
    KeepAlive,
    Close,
}

/// The body of a response of the gateway.
pub enum ResponseBody<B> {
    Empty,
    Bytes(Bytes),
    Upstream(FilteredTrailers<UpstreamBody<FilteredTrailers<B>>>),
}

impl<B: BodySource + Unpin> BodySource for ResponseBody<B> {
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

/// A body, in either direction, whose trailers pass only where the route asks for them, and never under a protected name.
pub struct FilteredTrailers<S> {
    source: S,
    /// The snapshot whose header policy filters the trailers. Without it every trailer is dropped.
    rules: Option<Rc<SnapshotView>>,
    /// Where the body is recorded, what copies it.
    tap: Option<BodyTap>,
}

impl<S> FilteredTrailers<S> {
    pub(super) fn new(source: S, view: &Rc<SnapshotView>, route: &Route) -> Self {
        let rules = (route.options.trailers == Trailers::Forwarded).then(|| view.clone());
        Self { source, rules, tap: None }
    }

    /// The body, copied by this tap while it passes.
    pub(super) fn tapped(self, tap: Option<BodyTap>) -> Self {
        Self { tap, ..self }
    }
}

impl<S: BodySource + Unpin> BodySource for FilteredTrailers<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        let polled = self.source.poll_chunk(cx);
        if let Some(tap) = &self.tap {
            tap.note(&polled, self.source.is_end());
        }
        match polled {
            Poll::Ready(Some(Ok(Chunk::Trailers(received)))) => Poll::Ready(self.rules.as_ref().and_then(|view| {
                let mut passed = Fields::default();
                view.snapshot.headers.filter_trailers(&received, &mut passed);
                (!passed.is_empty()).then_some(Ok(Chunk::Trailers(Box::new(passed))))
            })),
            other => other,
        }
    }

    fn is_end(&self) -> bool {
        self.source.is_end()
    }
}

/// What a connection becomes after a 101: a tunnel to the upstream, for WebSocket frames and nothing else.
pub struct Tunnel {
    /// The connection to the upstream.
    pub upstream: Upgraded,
    /// The tunnel ends when no byte passes for this long, or when one side takes nothing for this long.
    pub idle_timeout: Duration,
    /// What the handshake agreed on.
    pub extensions: Extensions,
}

impl Tunnel {
    pub(super) fn new(upstream: Upgraded, idle_timeout: Duration, answered: &Fields) -> Self {
        let agreed = answered.all("sec-websocket-extensions").any(|value| !value.is_empty());
        Self {
            upstream,
            idle_timeout,
            extensions: if agreed { Extensions::Agreed } else { Extensions::None },
        }
    }
}

/// Passes an upstream's answer on.
pub(super) fn forwarded<B: BodySource + Unpin>(
    mut access: AccessRecord,
    view: &Rc<SnapshotView>,
    examined: &Examined<'_>,
    forwarded: Forwarded<FilteredTrailers<B>>,
) -> GatewayResponse<B> {
    let Examined { route, method, .. } = examined;
    let mut head = forwarded.head;
    access.note_status(head.status);
    let declared = match method {
        Method::Head => declared_length(&head.fields),
        _ => Framing::None,
    };
    let tap = match (method, forwarded.framing) {
        (Method::Head, _) | (_, Framing::None) => None,
        (_, framing) => access.tap(route, BodyPart::Answer, &head.fields, framing),
    };
    view.snapshot.headers.filter_response(&mut head.fields, route);
    head.fields.push(REQUEST_ID, access.request_id().as_bytes());
    if !route.limits.is_empty() {
        limit::push_fields(&route.limits, access.limit_verdicts(), &mut head.fields);
    }
    let (framing, body) = match (method, forwarded.framing) {
        // The head says what a GET would have been answered with (RFC 9110, section 9.3.2).
        (Method::Head, _) => (declared, ResponseBody::Empty),
        (_, Framing::None) => (Framing::None, ResponseBody::Empty),
        (_, framing) => (
            framing,
            ResponseBody::Upstream(FilteredTrailers::new(forwarded.body, view, route).tapped(tap)),
        ),
    };
    let tunnel = forwarded.upgraded.map(|upstream| {
        access.note_upgraded();
        Box::new(Tunnel::new(upstream, route.options.idle_timeout, &head.fields))
    });
    Response {
        head,
        framing,
        body,
        // After a handshake that was not accepted, the client may already have sent bytes of the other protocol.
        persistence: if examined.upgrade.is_some() && tunnel.is_none() {
            Persistence::Close
        } else {
            Persistence::KeepAlive
        },
        frees_slot: false,
        tunnel,
        observer: access,
    }
}

/// Refuses in the dialect of the route, or in the default one where no route was found.
pub(super) fn refusal<B>(
    mut access: AccessRecord,
    snapshot: &Snapshot,
    refused: &RequestRefusal,
    head: &RequestHead,
) -> GatewayResponse<B> {
    let route = refused.route.and_then(|index| snapshot.routes.get(index.0));
    let dialect = &snapshot.dialects[route.map_or(snapshot.default_dialect, |route| route.dialect).0];
    let scopes = match route.map(|route| &route.access) {
        Some(Access::Surfaces { scopes, .. }) => scopes.joined(),
        _ => "",
    };
    let refusal_context = RefusalContext {
        request_id: access.request_id(),
        scopes,
        allowed: refused.allowed,
        details: refused.details.as_deref(),
        retry_after: refused.retry_after,
    };
    let mut refusal = dialect.render(refused.denial, &refusal_context);
    if let Some(page) = page_of(snapshot, route, refused.denial, head, access.request_id()) {
        refusal.show(page);
    }
    access.note_denial(refused.denial);
    if let Some(cause) = &refused.cause {
        access.note_cause(cause);
    }
    access.note_status(refusal.status);
    let mut fields = Fields::default();
    fields.push(b"Content-Type", &refusal.content_type);
    let wait = match refused.denial {
        Denial::RateLimited => limit::retry_after(access.limit_verdicts()),
        _ => None,
    };
    for (name, value) in &refusal.fields {
        if wait.is_none() || !name.eq_ignore_ascii_case(b"retry-after") {
            fields.push(name, value);
        }
    }
    if let Some(seconds) = wait {
        fields.push(b"Retry-After", seconds.to_string().as_bytes());
    }
    if let Some(cookie) = &refused.ended_log_in {
        fields.push(b"Set-Cookie", remove_cookie(cookie).as_bytes());
    }
    if let Some(route) = route {
        limit::push_fields(&route.limits, access.limit_verdicts(), &mut fields);
    }
    fields.push(REQUEST_ID, access.request_id().as_bytes());
    let framing = Framing::Length(refusal.body.len() as u64);
    let body = if head.method == b"HEAD" {
        ResponseBody::Empty
    } else {
        ResponseBody::Bytes(refusal.body)
    };
    let persistence = if refused.denial.closes_connection() {
        Persistence::Close
    } else {
        Persistence::KeepAlive
    };
    Response {
        head: ResponseHead {
            status: refusal.status,
            fields,
            ..ResponseHead::default()
        },
        framing,
        body,
        persistence,
        frees_slot: false,
        tunnel: None,
        observer: access,
    }
}

/// The page for a refusal that people see: of a step of single sign-on, in a browser.
fn page_of(snapshot: &Snapshot, route: Option<&Route>, denial: Denial, head: &RequestHead, request_id: &str) -> Option<RenderedPage> {
    let Some(Destination::Served(index)) = route.map(|route| route.destination) else {
        return None;
    };
    let sign_on = snapshot.served_routes.get(index.0)?.action.sign_on()?;
    if !sign_on.step.is_seen_by_people() || AnswerForm::preferred(&head.fields) != AnswerForm::Html {
        return None;
    }
    let settings = snapshot.sign_on.as_deref()?;
    let (title, lines) = if sign_on.step.logs_out() {
        log_out_words(denial, &settings.contact)
    } else {
        refusal_words(denial, &settings.contact)
    };
    let page = HtmlPage {
        title,
        lines,
        request_id: Some(request_id),
        ..HtmlPage::default()
    };
    page.render().ok()
}

/// Answers a request of a served route. No cache may store the response.
pub(super) fn issued<B>(mut access: AccessRecord, examined: &Examined<'_>, issued: Issued) -> GatewayResponse<B> {
    access.note_status(issued.status);
    access.note_done(&issued.done);
    let mut fields = Fields::default();
    let has_type = issued.fields.iter().any(|(name, _)| name == "Content-Type");
    if issued.body.is_some() && !has_type {
        fields.push(b"Content-Type", b"application/json");
    }
    fields.push(b"Cache-Control", b"no-store");
    for (name, value) in &issued.fields {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    if let Some(body) = issued.body.as_ref().filter(|_| examined.method != Method::Head)
        && let Some(tap) = access.tap(examined.route, BodyPart::Answer, &fields, Framing::Length(body.len() as u64))
    {
        tap.push(body, true);
    }
    fields.push(REQUEST_ID, access.request_id().as_bytes());
    if !examined.route.limits.is_empty() {
        limit::push_fields(&examined.route.limits, access.limit_verdicts(), &mut fields);
    }
    let (framing, body) = match issued.body {
        // A 204 has no length (RFC 9110, section 8.6).
        None if issued.status == 204 => (Framing::None, ResponseBody::Empty),
        None => (Framing::Length(0), ResponseBody::Empty),
        Some(body) if examined.method == Method::Head => (Framing::Length(body.len() as u64), ResponseBody::Empty),
        Some(body) => (Framing::Length(body.len() as u64), ResponseBody::Bytes(body.into())),
    };
    Response {
        head: ResponseHead {
            status: issued.status,
            fields,
            ..ResponseHead::default()
        },
        framing,
        body,
        persistence: Persistence::KeepAlive,
        frees_slot: false,
        tunnel: None,
        observer: access,
    }
}

/// `OPTIONS *` asks about the server as a whole. The response only shows that the server is there.
pub(super) fn server_options<B>(mut access: AccessRecord) -> GatewayResponse<B> {
    access.note_status(204);
    let mut fields = Fields::default();
    fields.push(b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    fields.push(REQUEST_ID, access.request_id().as_bytes());
    no_content(access, fields)
}

/// Answers a granted preflight with these CORS fields.
pub(super) fn preflight<B>(mut access: AccessRecord, mut fields: Fields) -> GatewayResponse<B> {
    access.note_status(204);
    fields.push(REQUEST_ID, access.request_id().as_bytes());
    no_content(access, fields)
}

/// A response of status 204.
pub(super) fn no_content<B>(access: AccessRecord, fields: Fields) -> GatewayResponse<B> {
    let head = ResponseHead {
        status: 204,
        fields,
        ..ResponseHead::default()
    };
    Response {
        head,
        framing: Framing::None,
        body: ResponseBody::Empty,
        persistence: Persistence::KeepAlive,
        frees_slot: false,
        tunnel: None,
        observer: access,
    }
}

fn declared_length(fields: &Fields) -> Framing {
    fields
        .one("content-length")
        .ok()
        .flatten()
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        .map_or(Framing::None, Framing::Length)
}
