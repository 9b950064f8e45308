//! The request path, top to bottom: the only file that knows the order of the steps.
//!
//! origin -> headers screened -> target -> CORS preflight answered -> route -> rate limits by address -> credential extracted ->
//! facts resolved (the one wait) -> authorized -> rate limits by caller -> outgoing head -> upstream -> returning head -> one access event, always.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::base::denial::{Denial, FieldErrors};
use crate::decide::authorize::{Permit, authorize_public};
use crate::decide::cors::Preflight;
use crate::decide::headers::{OutgoingHead, Screened, UriScheme};
use crate::decide::method::Method;
use crate::decide::peer::ClientOrigin;
use crate::decide::route::{Destination, Route, RouteIndex, Trailers, Upgrade, UpstreamIndex};
use crate::decide::target::RequestTarget;
use crate::decide::upgrade::Handshake;
use crate::snapshot::Snapshot;
use crate::upstream::{Forwarded, Outgoing, Unanswered, holders};
use crate::wire::body::{BodySource, RequestBody};
use crate::wire::framing::Framing;
use crate::wire::head::{RequestHead, ResponseHead};

pub use self::body::ReplyBody;
pub use self::exchange::Exchange;
pub use self::live::{Cut, Lifeline};
pub use self::trailers::Trailed;
pub use self::tunnel::Tunnel;
pub use self::worker::{UpstreamRegistry, View, Worker, WorkerParts};

mod body;
mod caller;
mod exchange;
mod find;
mod hook;
mod limits;
mod live;
mod log_in;
mod pages;
mod renew;
mod reply;
mod serve;
mod share;
mod trailers;
mod tunnel;
mod worker;

use self::caller::{Caller, admit, admit_further, doubtful_tenant, identify, look_up};
use self::pages::Stopped;
use self::worker::Scratch;

/// What is known of a connection before its first request.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The socket's peer.
    pub peer: SocketAddr,
    /// Plain or TLS.
    pub scheme: UriScheme,
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
    /// Whether it is a refusal for want of a place in flight, which must not hold one itself.
    pub unplaced: bool,
    /// With a 101: what the connection becomes a tunnel to.
    pub tunnel: Option<Box<Tunnel>>,
    /// The one access event of this request; the server tells it how the answer went, or drops it.
    pub exchange: Exchange,
}

/// What every step of one request may look at.
#[derive(Clone, Copy)]
struct Asked<'a> {
    worker: &'a Rc<Worker>,
    view: &'a Rc<View>,
    connection: &'a Connection,
    head: &'a RequestHead,
}

/// A request that is in order, whoever sends it.
struct Examined<'a> {
    route: &'a Route,
    method: Method,
    target: RequestTarget<'a>,
    origin: ClientOrigin,
    screened: Screened,
    /// The client asks for a WebSocket, in good form, where there may be one.
    upgrade: Option<Handshake>,
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
///
/// Every step but two is an ordinary call: a nested future would be moved with all it holds on every
/// request. The look-up that memory cannot answer is boxed, and the upstream's answer is awaited here.
///
/// `line` is what the request can be cut off by while it is being forwarded.
pub async fn handle<B: RequestBody + Unpin>(
    worker: &Rc<Worker>,
    (connection, line): (&Connection, &Rc<dyn Lifeline>),
    head: &RequestHead,
    body: B,
) -> Reply<B> {
    let view = worker.view();
    let mut exchange = Exchange::begin(worker, view.clone(), (connection, Some(line)), head.version);
    let asked = Asked {
        worker,
        view: &view,
        connection,
        head,
    };
    let examined = match examine(asked, &mut exchange) {
        Ok(examined) => examined,
        // Everything about it was in order, and `*` is nobody's path (RFC 9110, section 9.3.7).
        Err(Stopped::Refused(Refused {
            denial: Denial::NoRoute, ..
        })) if head.target == b"*" => return reply::server_options(exchange),
        Err(Stopped::Refused(refused)) => return reply::refusal(exchange, &view.snapshot, &refused, head),
        Err(Stopped::Preflight(fields)) => return reply::preflight(exchange, fields),
    };
    let route = examined.route;
    if !route.limits.before.is_empty() {
        // Boxed, like everything that few routes need: it must not make every request's future larger.
        let limited = Box::pin(limits::admit_address(asked, route, examined.origin.client, &mut exchange)).await;
        if let Err(denial) = limited {
            return refuse_here(exchange, asked, denial);
        }
    }
    let upstream = match route.destination {
        Destination::Upstream(upstream) => upstream,
        Destination::Served(issuer) => {
            return match exchange.take_place(holders::Caller::at(examined.origin.client)) {
                Ok(()) => Box::pin(serve::serve(asked, &examined, issuer, body, exchange)).await,
                Err(denial) => refuse_here(exchange, asked, denial),
            };
        }
    };
    let identified = match identify(asked, &examined, &mut exchange) {
        Ok(Caller::Unsure(unsure)) => Box::pin(look_up(asked, &examined, unsure, &mut exchange)).await,
        Ok(Caller::Known(known)) => admit(asked, &examined, known, &mut exchange),
        Ok(Caller::Anybody) => authorize_public(route),
        Err(denial) => Err(denial),
    };
    let permit = match identified {
        Ok(permit) => permit,
        Err(denial) => return refuse_here(exchange, asked, denial),
    };
    let doubtful = doubtful_tenant(&examined, &permit);
    if (doubtful.is_some() || !route.limits.after.is_empty())
        && let Err(denial) = Box::pin(admit_further(asked, &examined, (&permit, doubtful), &mut exchange)).await
    {
        return refuse_here(exchange, asked, denial);
    }
    let scratch = match prepare(asked, &examined, &permit, &mut exchange) {
        Ok(scratch) => scratch,
        Err(denial) => return refuse_here(exchange, asked, denial),
    };
    let answer = {
        let (outgoing, body) = (outgoing(head, &examined, &scratch, &exchange), limit(asked, route, body));
        let mut forwarding = pin!(view.upstreams[upstream.0].forward(&permit, outgoing, body));
        exchange.hold(permit, &view, line.kind());
        poll_fn(|cx| match (forwarding.as_mut().poll(cx), exchange.cut()) {
            (_, Some(denial)) => Poll::Ready(Err(denial)),
            (Poll::Ready(answer), None) => Poll::Ready(Ok(answer)),
            (Poll::Pending, None) => Poll::Pending,
        })
        .await
    };
    worker.return_scratch(scratch);
    match answer {
        Ok(answer) => conclude(exchange, asked, &examined, upstream, answer),
        Err(denial) => cut_off(exchange, asked, upstream, denial),
    }
}

/// Passes on what the upstream answered, or says why it did not.
fn conclude<B: BodySource + Unpin>(
    mut exchange: Exchange,
    asked: Asked<'_>,
    examined: &Examined<'_>,
    upstream: UpstreamIndex,
    answer: Result<Forwarded<Trailed<B>>, (Unanswered, Trailed<B>)>,
) -> Reply<B> {
    match answer {
        Ok(forwarded) => {
            exchange.note_forwarded(upstream, forwarded.endpoint, forwarded.attempts);
            pass_back(exchange, asked, examined, forwarded)
        }
        Err((none, _body)) => unanswered(exchange, asked, upstream, &none),
    }
}

/// Passes the upstream's answer on, with a renewed session where one is due.
fn pass_back<B: BodySource + Unpin>(
    exchange: Exchange,
    asked: Asked<'_>,
    examined: &Examined<'_>,
    forwarded: Forwarded<Trailed<B>>,
) -> Reply<B> {
    let (surface, now) = (exchange.surface(), exchange.now().wall);
    let mut reply = reply::returning(exchange, asked.view, examined, forwarded);
    let fields = &mut reply.head.fields;
    reply
        .exchange
        .with_permit(|permit| renew::refresh(asked.view, permit, (surface, now), asked.head, fields));
    reply
}

/// Refuses a request that no endpoint answered.
fn unanswered<B>(mut exchange: Exchange, asked: Asked<'_>, upstream: UpstreamIndex, none: &Unanswered) -> Reply<B> {
    exchange.note_unanswered(upstream, none.trace);
    refuse_here(exchange, asked, none.error.denial())
}

/// Refuses a request whose credential died while it was on its way. Nobody knows what became of it
/// upstream, and its body is not read on: the connection closes.
fn cut_off<B>(mut exchange: Exchange, asked: Asked<'_>, upstream: UpstreamIndex, denial: Denial) -> Reply<B> {
    exchange.note_upstream(upstream);
    exchange.note_cut(denial);
    let mut reply = refuse_here(exchange, asked, denial);
    reply.close = true;
    reply
}

/// Refuses in the dialect of the route that was found.
fn refuse_here<B>(mut exchange: Exchange, asked: Asked<'_>, refused: impl Into<Refused>) -> Reply<B> {
    let refused = Refused {
        route: exchange.route(),
        ..refused.into()
    };
    let unplaced = refused.denial == Denial::Overloaded;
    if unplaced {
        exchange.leave_flight();
    }
    Reply {
        unplaced,
        ..reply::refusal(exchange, &asked.view.snapshot, &refused, asked.head)
    }
}

/// Refuses a request without examining it. `head` is empty, or has `ClientOrigin` alone, if the head could not be read.
#[must_use]
pub fn refuse<B>(worker: &Rc<Worker>, connection: &Connection, head: &RequestHead, denial: Denial) -> Reply<B> {
    let view = worker.view();
    let exchange = Exchange::begin(worker, view.clone(), (connection, None), head.version);
    reply::refusal(exchange, &view.snapshot, &denial.into(), head)
}

/// Everything about a request that can be refused whoever sends it, in its order.
fn examine<'a>(asked: Asked<'a>, exchange: &mut Exchange) -> Result<Examined<'a>, Stopped> {
    let Asked {
        view, connection, head, ..
    } = asked;
    let snapshot = &view.snapshot;
    let origin = snapshot.peers.origin(connection.peer, &head.fields);
    exchange.note_origin(origin, &head.fields);
    let screened = snapshot.headers.screen(head)?;
    if screened.odd_dropped > 0 {
        exchange.note_dropped_fields(screened.odd_dropped);
    }
    let method = Method::parse(&head.method)?;
    exchange.note_method(method);
    let target = RequestTarget::parse(head, method)?;
    exchange.note_target(&target);
    if misdirected(snapshot, connection, &target) {
        return Err(Denial::Misdirected.into());
    }
    if let Some(preflight) = Preflight::of(method, &head.fields)
        && let Some(fields) = pages::grant(snapshot, &preflight, &target, exchange)?
    {
        return Err(Stopped::Preflight(fields));
    }
    let index = match find::find(snapshot, &target, method) {
        Ok(index) => index,
        Err(why) => {
            pages::note_neighbour(snapshot, why, &target, exchange);
            return Err(find::not_found(why).into());
        }
    };
    let route = &snapshot.routes[index.0];
    exchange.note_route(index);
    find::check_forms(snapshot, &target, method, index)?;
    let upgrade = match route.options.upgrade {
        Upgrade::Websocket => Handshake::of(head, &screened),
        Upgrade::Dropped => None,
    };
    Ok(Examined {
        route,
        method,
        target,
        origin,
        screened,
        upgrade,
    })
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

/// Whose rules trailers are filtered by, on routes that ask for them.
fn trailer_rules(view: &Rc<View>, route: &Route) -> Option<Rc<View>> {
    (route.options.trailers == Trailers::Forwarded).then(|| view.clone())
}

/// A handshake has no body that trailers could follow, and its `Connection` says nothing of them.
const fn trailers(examined: &Examined<'_>) -> Trailers {
    match examined.upgrade {
        Some(_) => Trailers::Dropped,
        None => examined.route.options.trailers,
    }
}

/// Takes a place in flight and writes the outgoing head.
fn prepare(asked: Asked<'_>, examined: &Examined<'_>, permit: &Permit, exchange: &mut Exchange) -> Result<Scratch, Denial> {
    exchange.take_place(share::caller(examined.origin.client, permit))?;
    let Asked {
        worker,
        view,
        connection,
        head,
    } = asked;
    let Examined { route, target, .. } = examined;
    if matches!(head.framing, Framing::Length(length) if length > route.options.max_body) {
        return Err(Denial::BodyTooLarge);
    }
    let snapshot = &view.snapshot;
    let mut scratch = worker.scratch();
    let facts = OutgoingHead {
        principal: permit.principal().zip(exchange.surface().map(|index| &snapshot.surfaces[index.0])),
        origin: examined.origin,
        peer: connection.peer.ip(),
        scheme: connection.scheme,
        request_id: exchange.request_id(),
        target,
        credentials: route.options.credentials,
        trailers: trailers(examined),
    };
    snapshot
        .headers
        .write_outgoing(head, &examined.screened, &facts, &mut scratch.fields)?;
    if examined.upgrade.is_some() {
        // Our own, not the client's, whose `Connection` may name more.
        scratch.fields.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    }
    scratch.write_target(&route.rewrite, target);
    Ok(scratch)
}

/// The body as its route lets it through.
fn limit<B: RequestBody + Unpin>(asked: Asked<'_>, route: &Route, mut body: B) -> Trailed<B> {
    body.limit(route.options.max_body);
    Trailed::new(body, trailer_rules(asked.view, route))
}

/// The request as it goes upstream.
fn outgoing<'p>(head: &RequestHead, examined: &'p Examined<'_>, scratch: &'p Scratch, exchange: &'p Exchange) -> Outgoing<'p> {
    let options = &examined.route.options;
    Outgoing {
        now: exchange.resumed(),
        holder: exchange.holder(),
        method: examined.method,
        target: &scratch.target,
        client_host: examined.target.authority.as_bytes(),
        fields: &scratch.fields,
        framing: if examined.upgrade.is_some() { Framing::None } else { head.framing },
        response_timeout: options.response_timeout,
        idle_timeout: options.idle_timeout,
        trailers: trailers(examined),
        upgrade: examined.upgrade,
    }
}
