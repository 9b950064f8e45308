//! What goes back: the upstream's answer without what is not the client's to see, or our refusal.

use std::rc::Rc;

use crate::base::denial::Denial;
use crate::decide::method::Method;
use crate::decide::route::Access;
use crate::dialect::RefusalContext;
use crate::issue::call::Issued;
use crate::limit;
use crate::snapshot::Snapshot;
use crate::upstream::Forwarded;
use crate::wire::body::BodySource;
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;
use crate::wire::head::{RequestHead, ResponseHead};

use super::worker::View;
use super::{Examined, Exchange, Refused, Reply, ReplyBody, Trailed, Tunnel, trailer_rules};

/// The answer's own name for the request, on every answer, so that a caller can quote it.
const REQUEST_ID: &[u8] = b"X-Request-Id";

/// Passes an upstream's answer on.
pub(super) fn returning<B: BodySource + Unpin>(
    mut exchange: Exchange,
    view: &Rc<View>,
    examined: &Examined<'_>,
    forwarded: Forwarded<Trailed<B>>,
) -> Reply<B> {
    let Examined { route, method, .. } = examined;
    let mut head = forwarded.head;
    exchange.note_status(head.status);
    let declared = match method {
        Method::Head => declared_length(&head.fields),
        _ => Framing::None,
    };
    view.snapshot.headers.filter_response(&mut head.fields, route);
    head.fields.push(REQUEST_ID, exchange.request_id().as_bytes());
    if !route.limits.is_empty() {
        limit::push_fields(&route.limits, exchange.standings(), &mut head.fields);
    }
    let (framing, body) = match (method, forwarded.framing) {
        // What a GET would have been answered with (RFC 9110, section 9.3.2).
        (Method::Head, _) => (declared, ReplyBody::Empty),
        (_, Framing::None) => (Framing::None, ReplyBody::Empty),
        (_, framing) => (
            framing,
            ReplyBody::Upstream(Trailed::new(forwarded.body, trailer_rules(view, route))),
        ),
    };
    let tunnel = forwarded.upgraded.map(|upstream| {
        exchange.note_upgraded();
        Box::new(Tunnel::new(upstream, route.options.idle_timeout, &head.fields))
    });
    Reply {
        head,
        framing,
        body,
        // Behind a handshake that was not met, nobody can say what the client has sent already.
        close: examined.upgrade.is_some() && tunnel.is_none(),
        unplaced: false,
        tunnel,
        exchange,
    }
}

/// Refuses in the dialect of the route, or the default one where no route was found.
pub(super) fn refusal<B>(mut exchange: Exchange, snapshot: &Snapshot, refused: &Refused, head: &RequestHead) -> Reply<B> {
    let route = refused.route.and_then(|index| snapshot.routes.get(index.0));
    let dialect = &snapshot.dialects[route.map_or(snapshot.default_dialect, |route| route.dialect).0];
    let scopes = match route.map(|route| &route.access) {
        Some(Access::Surfaces { scopes, .. }) => scopes.joined(),
        _ => "",
    };
    let context = RefusalContext {
        request_id: exchange.request_id(),
        scopes,
        allowed: refused.allowed,
        details: refused.details.as_deref(),
        retry_after: refused.retry_after,
    };
    let refusal = dialect.render(refused.denial, &context);
    exchange.note_denial(refused.denial);
    exchange.note_status(refusal.status);
    let mut fields = Fields::default();
    fields.push(b"Content-Type", &refusal.content_type);
    let wait = match refused.denial {
        Denial::RateLimited => limit::retry_after(exchange.standings()),
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
    if let Some(route) = route {
        limit::push_fields(&route.limits, exchange.standings(), &mut fields);
    }
    fields.push(REQUEST_ID, exchange.request_id().as_bytes());
    let framing = Framing::Length(refusal.body.len() as u64);
    let body = if head.method == b"HEAD" {
        ReplyBody::Empty
    } else {
        ReplyBody::Bytes(refusal.body)
    };
    let close = refused.denial.closes_connection();
    Reply {
        head: ResponseHead {
            status: refusal.status,
            fields,
            ..ResponseHead::default()
        },
        framing,
        body,
        close,
        unplaced: false,
        tunnel: None,
        exchange,
    }
}

/// Answers for an issuer: what it made, or why it made nothing. Never stored by anybody on the way.
pub(super) fn issued<B>(mut exchange: Exchange, examined: &Examined<'_>, issued: Issued) -> Reply<B> {
    exchange.note_status(issued.status);
    exchange.note_done(&issued.done);
    let mut fields = Fields::default();
    if issued.body.is_some() {
        fields.push(b"Content-Type", b"application/json");
    }
    fields.push(b"Cache-Control", b"no-store");
    for (name, value) in &issued.fields {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields.push(REQUEST_ID, exchange.request_id().as_bytes());
    if !examined.route.limits.is_empty() {
        limit::push_fields(&examined.route.limits, exchange.standings(), &mut fields);
    }
    let (framing, body) = match issued.body {
        // 204 has no length (RFC 9110, section 8.6).
        None if issued.status == 204 => (Framing::None, ReplyBody::Empty),
        None => (Framing::Length(0), ReplyBody::Empty),
        Some(body) if examined.method == Method::Head => (Framing::Length(body.len() as u64), ReplyBody::Empty),
        Some(body) => (Framing::Length(body.len() as u64), ReplyBody::Bytes(body.into())),
    };
    Reply {
        head: ResponseHead {
            status: issued.status,
            fields,
            ..ResponseHead::default()
        },
        framing,
        body,
        close: false,
        unplaced: false,
        tunnel: None,
        exchange,
    }
}

/// `OPTIONS *` asks about the server as a whole; there is nothing to say but that it is there.
pub(super) fn server_options<B>(mut exchange: Exchange) -> Reply<B> {
    exchange.note_status(204);
    let mut fields = Fields::default();
    fields.push(b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    fields.push(REQUEST_ID, exchange.request_id().as_bytes());
    bodiless(exchange, fields)
}

/// Answers a granted preflight with these CORS fields.
pub(super) fn preflight<B>(mut exchange: Exchange, mut fields: Fields) -> Reply<B> {
    exchange.note_status(204);
    fields.push(REQUEST_ID, exchange.request_id().as_bytes());
    bodiless(exchange, fields)
}

/// An answer of status 204.
fn bodiless<B>(exchange: Exchange, fields: Fields) -> Reply<B> {
    let head = ResponseHead {
        status: 204,
        fields,
        ..ResponseHead::default()
    };
    Reply {
        head,
        framing: Framing::None,
        body: ReplyBody::Empty,
        close: false,
        unplaced: false,
        tunnel: None,
        exchange,
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
