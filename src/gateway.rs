//! The request path, top to bottom: the only file that knows the order of the steps.
//!
//! origin -> headers screened -> target -> route -> rate limits by address -> credential extracted ->
//! facts resolved (the one wait) -> authorized -> rate limits by caller -> outgoing head -> upstream -> returning head -> one access event, always.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::base::denial::Denial;
use crate::base::field_errors::FieldErrors;
use crate::decide::authorize::{AccessRequest, Carried, Permit, authorize, authorize_public};
use crate::decide::extract::extract;
use crate::decide::headers::{OutgoingHead, Scheme, Screened};
use crate::decide::method::Method;
use crate::decide::peer::Origin;
use crate::decide::route::{Access, Destination, EncodedSlashes, NotFound, Route, RouteIndex, Trailers, UpstreamIndex};
use crate::decide::target::RequestTarget;
use crate::issue::fields::Checked;
use crate::resolver::Resolved;
use crate::snapshot::Snapshot;
use crate::upstream::{Forwarded, Outgoing, UpstreamBody};
use crate::wire::body::{BodyError, BodySource, Chunk, RequestBody};
use crate::wire::framing::Framing;
use crate::wire::head::{RequestHead, ResponseHead};

pub use self::exchange::Exchange;
pub use self::trailers::Trailed;
pub use self::worker::{UpstreamRegistry, View, Worker, WorkerParts};

mod exchange;
mod limits;
mod renew;
mod reply;
mod serve;
mod trailers;
mod worker;

/// What is known of a connection before its first request.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The socket's peer.
    pub peer: SocketAddr,
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The server name the client asked for in its TLS handshake, lower case.
    pub sni: Option<Box<str>>,
    /// Index of the listener in the settings.
    pub listener: usize,
}

/// What goes back to the client. `framing` is what the head declares; `body` may be shorter only for
/// `HEAD` (nothing is sent).
pub struct Reply<B> {
    /// Status and fields, without `Date`, framing and `Connection`: those are the server's.
    pub head: ResponseHead,
    /// What the head declares.
    pub framing: Framing,
    /// The body.
    pub body: ReplyBody<B>,
    /// Whether the connection must close after this answer (h1).
    pub close: bool,
    /// The one access event of this request; the server tells it how the answer went, or drops it.
    pub exchange: Exchange,
}

/// A reply's body.
#[expect(
    clippy::large_enum_variant,
    reason = "most replies are the large one: a box would cost each of them an allocation"
)]
pub enum ReplyBody<B> {
    /// Nothing.
    Empty,
    /// Ours.
    Bytes(Bytes),
    /// The upstream's, as it comes.
    Upstream(Trailed<UpstreamBody<Trailed<B>>>),
}

/// What every step of one request may look at.
#[derive(Clone, Copy)]
struct Asked<'a> {
    worker: &'a Rc<Worker>,
    view: &'a Rc<View>,
    connection: &'a Connection,
    head: &'a RequestHead,
}

/// A request that may be forwarded.
struct Admitted<'a> {
    permit: Permit,
    route: &'a Route,
    method: Method,
    target: RequestTarget<'a>,
    origin: Origin,
    screened: Screened,
    /// The body of a served route.
    served: Option<Box<Checked>>,
}

/// Why a request is refused, with what its answer needs to know.
struct Refused {
    denial: Denial,
    route: Option<RouteIndex>,
    allowed: u8,
    /// What is wrong with which field, on served routes.
    details: Option<Box<FieldErrors>>,
    /// Seconds until another try makes sense, where a limit knows.
    retry_after: Option<u64>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            route: None,
            allowed: 0,
            details: None,
            retry_after: None,
        }
    }
}

/// Serves one request. Dropping the future (the client went away) closes whatever it used upstream;
/// the access event is written as aborted.
pub async fn handle<B: RequestBody + Unpin>(worker: &Rc<Worker>, connection: &Connection, head: &RequestHead, body: B) -> Reply<B> {
    let view = worker.view();
    let mut exchange = Exchange::begin(worker, view.clone(), connection, head.version);
    let asked = Asked {
        worker,
        view: &view,
        connection,
        head,
    };
    let mut body = body;
    let mut admitted = match admit(asked, &mut body, &mut exchange).await {
        Ok(admitted) => admitted,
        // Everything about it was in order, and `*` is nobody's path (RFC 9110, section 9.3.7).
        Err(Refused {
            denial: Denial::NoRoute, ..
        }) if head.target == b"*" => return reply::server_options(exchange),
        Err(refused) => return reply::refusal(exchange, &view.snapshot, &refused, head),
    };
    let upstream = match admitted.route.destination {
        Destination::Upstream(upstream) => upstream,
        Destination::Served(issuer) => {
            let served = admitted.served.take().map(|served| *served).unwrap_or_default();
            let issued = Box::pin(serve::answer(asked, &admitted, (issuer, served), &exchange)).await;
            return reply::issued(exchange, &view, &admitted, issued, head);
        }
    };
    match forward(asked, &admitted, upstream, body, &mut exchange).await {
        Ok(forwarded) => {
            let (surface, now) = (exchange.surface(), exchange.now().wall);
            let mut reply = reply::returning(exchange, &view, &admitted, upstream, forwarded);
            renew::refresh(&view, &admitted, (surface, now), head, &mut reply.head.fields);
            reply
        }
        Err(denial) => {
            let refused = Refused {
                route: exchange.route(),
                ..Refused::from(denial)
            };
            reply::refusal(exchange, &view.snapshot, &refused, head)
        }
    }
}

/// Answers a request whose head could not be read.
#[must_use]
pub fn refuse<B>(worker: &Rc<Worker>, connection: &Connection, denial: Denial) -> Reply<B> {
    let view = worker.view();
    let head = RequestHead::default();
    let exchange = Exchange::begin(worker, view.clone(), connection, head.version);
    reply::refusal(exchange, &view.snapshot, &denial.into(), &head)
}

/// Everything that can say no before a byte goes upstream, in its order.
async fn admit<'a, B: RequestBody + Unpin>(asked: Asked<'a>, body: &mut B, exchange: &mut Exchange) -> Result<Admitted<'a>, Refused> {
    let Asked {
        view, connection, head, ..
    } = asked;
    let snapshot = &view.snapshot;
    let origin = snapshot.peers.origin(connection.peer, &head.fields);
    exchange.note_origin(origin, &head.fields);
    let screened = snapshot.headers.screen(head)?;
    let method = Method::parse(&head.method)?;
    exchange.note_method(method);
    let target = RequestTarget::parse(head, method)?;
    exchange.note_target(&target);
    if misdirected(snapshot, connection, &target) {
        return Err(Denial::Misdirected.into());
    }
    let index = snapshot.router.find(&target.host, method, &target.path).map_err(not_found)?;
    let route = &snapshot.routes[index.0];
    exchange.note_route(index);
    let for_route = |denial| Refused {
        route: Some(index),
        ..Refused::from(denial)
    };
    if target.encoded_slash && route.options.encoded_slashes == EncodedSlashes::Refused {
        return Err(for_route(Denial::MalformedTarget));
    }
    if !route.limits.before.is_empty() {
        // Boxed: what few routes need must not make every request's future larger.
        let limited = limits::admit_address(asked, route, origin.client, exchange);
        Box::pin(limited).await.map_err(for_route)?;
    }
    let (permit, served) = match route.destination {
        Destination::Upstream(_) => (permit(asked, route, method, &target, exchange).await.map_err(for_route)?, None),
        Destination::Served(issuer) => {
            let served = serve::admit(asked, (route, issuer), (method, &target), body, exchange);
            let (permit, body) = Box::pin(served).await.map_err(|refused| Refused {
                route: Some(index),
                ..refused
            })?;
            (permit, Some(body))
        }
    };
    if !route.limits.after.is_empty() {
        Box::pin(limits::admit_caller(asked, route, &permit, exchange))
            .await
            .map_err(for_route)?;
    }
    if matches!(head.framing, Framing::Length(length) if length > route.options.max_body) {
        return Err(for_route(Denial::BodyTooLarge));
    }
    Ok(Admitted {
        permit,
        served,
        route,
        method,
        target,
        origin,
        screened,
    })
}

/// Who is calling, and may they?
async fn permit(
    asked: Asked<'_>,
    route: &Route,
    method: Method,
    target: &RequestTarget<'_>,
    exchange: &mut Exchange,
) -> Result<Permit, Denial> {
    let Access::Surfaces { surfaces: accepted, .. } = &route.access else {
        return authorize_public(route);
    };
    let Asked {
        worker,
        view,
        connection,
        head,
    } = asked;
    let surfaces = &view.snapshot.surfaces;
    let extracted = extract(&head.fields, surfaces, accepted)?;
    let surface = &surfaces[extracted.surface.0];
    exchange.note_surface(extracted.surface);
    let Resolved { principal, secret, now } = worker.resolver.resolve(surface, &extracted, exchange.now()).await?;
    exchange.note_principal(&principal);
    let request = AccessRequest {
        route,
        surface_index: extracted.surface,
        surface,
        method,
        presented_mode: extracted.mode,
        carried: Carried::of(&extracted.credential, &head.fields, &target.authority, connection.scheme),
        secret,
        roles: &view.snapshot.roles,
    };
    let permit = authorize(&request, principal, now.wall)?;
    if let Some(principal) = permit.principal() {
        worker.resolver.note_use(&principal.facts, now);
    }
    Ok(permit)
}

/// Whether the certificate this connection was opened with is another one than the requested host
/// has (RFC 9110, section 7.4): a request may not cross from one certificate's host to another's.
fn misdirected(snapshot: &Snapshot, connection: &Connection, target: &RequestTarget<'_>) -> bool {
    let Some(Some(certificates)) = snapshot.certificates.get(connection.listener) else {
        return false;
    };
    connection
        .sni
        .as_deref()
        .is_some_and(|sni| certificates.index_for(sni) != certificates.index_for(&target.host))
}

fn not_found(why: NotFound) -> Refused {
    match why {
        NotFound::NoRoute => Denial::NoRoute.into(),
        NotFound::Method { allowed } => Refused {
            allowed,
            ..Refused::from(Denial::MethodNotAllowed)
        },
    }
}

/// Whose rules trailers are filtered by, on routes that ask for them.
fn trailer_rules(view: &Rc<View>, route: &Route) -> Option<Rc<View>> {
    (route.options.trailers == Trailers::Forwarded).then(|| view.clone())
}

/// Writes the outgoing head and waits for the upstream's.
async fn forward<B: RequestBody + Unpin>(
    asked: Asked<'_>,
    admitted: &Admitted<'_>,
    upstream: UpstreamIndex,
    mut body: B,
    exchange: &mut Exchange,
) -> Result<Forwarded<Trailed<B>>, Denial> {
    let Asked {
        worker,
        view,
        connection,
        head,
    } = asked;
    let Admitted {
        permit,
        route,
        method,
        target,
        ..
    } = admitted;
    let snapshot = &view.snapshot;
    let mut scratch = worker.scratch();
    let facts = OutgoingHead {
        principal: permit.principal().zip(exchange.surface().map(|index| &snapshot.surfaces[index.0])),
        origin: admitted.origin,
        peer: connection.peer.ip(),
        scheme: connection.scheme,
        request_id: exchange.request_id(),
        target,
        credentials: route.options.credentials,
        trailers: route.options.trailers,
    };
    snapshot
        .headers
        .write_outgoing(head, &admitted.screened, &facts, &mut scratch.fields)?;
    scratch.write_target(&route.rewrite, target);
    body.limit(route.options.max_body);
    let body = Trailed::new(body, trailer_rules(view, route));
    let request = Outgoing {
        method: *method,
        target: &scratch.target,
        client_host: target.authority.as_bytes(),
        fields: &scratch.fields,
        framing: head.framing,
        response_timeout: route.options.response_timeout,
        idle_timeout: route.options.idle_timeout,
        trailers: route.options.trailers,
    };
    let answer = view.upstreams[upstream.0].forward(permit, request, body).await;
    worker.return_scratch(scratch);
    match answer {
        Ok(forwarded) => {
            exchange.note_forwarded(upstream, forwarded.endpoint, forwarded.attempts);
            Ok(forwarded)
        }
        Err((error, _body)) => {
            exchange.note_upstream(upstream);
            Err(error.denial())
        }
    }
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
