//! The request path, top to bottom. Only this file knows the order of the steps.
//!
//! origin -> headers screened -> target -> CORS preflight answered -> route -> rate limits by address -> credential extracted ->
//! facts resolved (the one wait) -> authorized -> rate limits by caller -> outgoing head -> upstream -> returning head -> one access line, always.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::base::denial::{Denial, FieldErrors};
use crate::decide::authorize::{Check, Permit, authorize_public, report_only};
use crate::decide::cors::Preflight;
use crate::decide::headers::{OutgoingHead, Screened, UriScheme};
use crate::decide::method::Method;
use crate::decide::peer::ClientOrigin;
use crate::decide::route::{Destination, Route, RouteIndex, Trailers, Upgrade, UpstreamIndex};
use crate::decide::target::RequestTarget;
use crate::decide::upgrade::Handshake;
use crate::issue::call::RefusalCause;
use crate::snapshot::Snapshot;
use crate::upstream::quota::QuotaKey;
use crate::upstream::{Forwarded, Outgoing, Unanswered};
use crate::wire::body::{BodySource, RequestBody};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;
use crate::wire::head::RequestHead;

pub use self::access_record::AccessRecord;
pub use self::explain::{ExplainError, ExplainHeader, ExplainListener, ExplainRequest, Explainer, Explanation};
pub use self::open_stream::{AbortReason, StreamControl};
pub use self::response::{GatewayResponse, Persistence, Response, ResponseBody, Tunnel};
pub use self::worker::{UpstreamRegistry, Worker, WorkerParts};

mod access_record;
mod caller;
mod capture;
mod explain;
mod hook;
mod limits;
mod log_in;
mod open_stream;
mod recorder;
mod renew;
mod response;
mod routing;
mod serve;
mod worker;

use self::caller::{Identification, admit, admit_further, identify, look_up, unverified_tenant};
use self::capture::BodyPart;
use self::renew::RenewableToken;
use self::response::FilteredTrailers;
use self::worker::{HeadBuffers, SnapshotView};

/// What is known of a connection before its first request.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Address and port of the other end of the socket.
    pub peer: SocketAddr,
    pub scheme: UriScheme,
    /// The version of TLS: `1.2` or `1.3`.
    pub tls: Option<&'static str>,
    /// The server name the client asked for in its TLS handshake, lower case.
    pub sni: Option<Box<str>>,
    /// Index of the listener in the settings.
    pub listener: usize,
}

/// What every step of one request may read.
#[derive(Clone, Copy)]
struct RequestContext<'a> {
    worker: &'a Rc<Worker>,
    view: &'a Rc<SnapshotView>,
    connection: &'a ConnectionInfo,
    head: &'a RequestHead,
}

impl RequestContext<'_> {
    /// Notes for `explain` that this check comes now. For a request of a client this is one comparison.
    fn begin(self, check: Check) {
        if let Some(trace) = &self.worker.trace {
            trace.begin(check);
        }
    }
}

/// A request that passed every check that does not depend on who sends it.
struct Examined<'a> {
    route: &'a Route,
    method: Method,
    target: RequestTarget<'a>,
    origin: ClientOrigin,
    screened: Screened,
    /// The WebSocket handshake, if the request is a well-formed one and its route allows upgrades.
    upgrade: Option<Handshake>,
}

/// Why a request is refused, with what its response needs to know.
struct RequestRefusal {
    denial: Denial,
    route: Option<RouteIndex>,
    /// The methods that the path takes, for a 405.
    allowed: u8,
    /// What is wrong with which field, on served routes.
    details: Option<Box<FieldErrors>>,
    /// Seconds until another try makes sense, where a limit knows.
    retry_after: Option<u64>,
    /// What exactly was wrong with a sign-on.
    cause: Option<Box<RefusalCause>>,
    /// The cookie with the log-in record of a sign-on that is over.
    ended_log_in: Option<String>,
}

impl From<Denial> for RequestRefusal {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            route: None,
            allowed: 0,
            details: None,
            retry_after: None,
            cause: None,
            ended_log_in: None,
        }
    }
}

/// Why a request is answered as soon as it is examined.
enum EarlyResponse {
    Refused(RequestRefusal),
    /// The request is a preflight that is granted; these are the CORS fields of its response.
    Preflight(Fields),
}

impl<R: Into<RequestRefusal>> From<R> for EarlyResponse {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

/// Serves one request. Dropping the future (the client went away) closes the upstream connection that the request
/// used; the access line is then written as aborted.
///
/// Every step but three is an ordinary call, since a nested future would be moved with all it holds on every
/// request. The look-up that memory cannot answer is boxed, and so is the wait for an identity provider where a session by sign-on
/// is due for renewal. The upstream's answer is awaited in this function.
///
/// `control` aborts the request while it is being forwarded.
pub async fn handle<B: RequestBody + Unpin>(
    worker: &Rc<Worker>,
    connection: &ConnectionInfo,
    control: &Rc<dyn StreamControl>,
    head: &RequestHead,
    body: B,
) -> GatewayResponse<B> {
    let view = worker.view();
    let mut access = AccessRecord::begin(worker, view.clone(), connection, Some(control), head.version);
    let context = RequestContext {
        worker,
        view: &view,
        connection,
        head,
    };
    let examined = match examine(context, &mut access) {
        Ok(examined) => examined,
        Err(early) => return respond_early(access, context, early),
    };
    if let Err(denial) = access.begin_entry(head) {
        return refuse_on_route(access, context, denial);
    }
    let route = examined.route;
    if !route.limits.before.is_empty() {
        // Boxed, like everything that few routes need, so that it does not make every request's future larger.
        let limited = Box::pin(limits::admit_address(context, route, examined.origin.client, &mut access)).await;
        if let Err(denial) = limited {
            return refuse_on_route(access, context, denial);
        }
    }
    let upstream = match route.destination {
        Destination::Upstream(upstream) => upstream,
        Destination::Served(_) if worker.trace.is_some() => return Box::pin(explain::served(context, &examined, access)).await,
        Destination::Served(served_route) => {
            return match access.acquire_slot(QuotaKey::at(examined.origin.client)) {
                Ok(()) => Box::pin(serve::serve(context, &examined, served_route, body, access)).await,
                Err(denial) => refuse_on_route(access, context, denial),
            };
        }
    };
    let identified = match identify(context, &examined, &mut access) {
        Ok(Identification::Incomplete(presented, missing)) => Box::pin(look_up(context, &examined, presented, missing, &mut access)).await,
        Ok(Identification::Known(presented, resolved)) => admit(context, &examined, presented, resolved, &mut access),
        Ok(Identification::Anybody) => authorize_public(route),
        Err(denial) => Err(denial),
    };
    let mut permit = match identified.or_else(|denial| report(route, denial, &mut access)) {
        Ok(permit) => permit,
        Err(denial) => return refuse_on_route(access, context, denial),
    };
    let tenant = unverified_tenant(&examined, &permit);
    if (tenant.is_some() || !route.limits.after.is_empty())
        && let Err(denial) = Box::pin(admit_further(context, &examined, &permit, tenant, &mut access)).await
    {
        permit = match report(route, denial, &mut access) {
            Ok(permit) => permit,
            Err(denial) => return refuse_on_route(access, context, denial),
        };
    }
    let buffers = match prepare(context, &examined, &permit, &mut access) {
        Ok(buffers) => buffers,
        Err(denial) => return refuse_on_route(access, context, denial),
    };
    if worker.trace.is_some() {
        return explain::would_forward(access, context, &examined, &permit, upstream, buffers);
    }
    let due_token = renew::begin(context, &permit, &access);
    let answer = {
        let body = limit_body(context, route, body, &mut access);
        let outgoing = outgoing(head, &examined, &buffers, &access);
        let mut forwarding = pin!(view.upstreams[upstream.0].forward(&permit, outgoing, body));
        access.track_stream(permit, &view, control.kind());
        poll_fn(|cx| match (forwarding.as_mut().poll(cx), access.abort_denial()) {
            (_, Some(denial)) => Poll::Ready(Err(denial)),
            (Poll::Ready(answer), None) => Poll::Ready(Ok(answer)),
            (Poll::Pending, None) => Poll::Pending,
        })
        .await
    };
    worker.return_buffers(buffers);
    match answer {
        Ok(Ok(forwarded)) => {
            let token = match due_token {
                None => None,
                // If the client leaves during this wait, the upstream's connection is closed, as for an answer that nobody takes.
                Some(due) => Box::pin(renew::judged(due, &mut access)).await,
            };
            // The session may have ended during this wait, perhaps by the provider's word.
            if let Some(denial) = access.abort_denial() {
                return refuse_in_flight(access, context, upstream, denial);
            }
            pass_back(access, context, &examined, upstream, forwarded, token.as_ref())
        }
        Ok(Err((none, _body))) => refuse_unanswered(access, context, upstream, &none),
        Err(denial) => refuse_in_flight(access, context, upstream, denial),
    }
}

/// Lets a refused request pass as nobody's where its route only reports, and records the denial.
fn report(route: &Route, denial: Denial, access: &mut AccessRecord) -> Result<Permit, Denial> {
    let permit = report_only(route, denial)?;
    access.note_reported(denial);
    Ok(permit)
}

/// Answers a request as soon as it is examined.
fn respond_early<B>(mut access: AccessRecord, context: RequestContext<'_>, early: EarlyResponse) -> GatewayResponse<B> {
    let recordable = access.begin_entry(context.head);
    match early {
        // The request was in order, and no route can have the path `*` (RFC 9110, section 9.3.7).
        EarlyResponse::Refused(RequestRefusal {
            denial: Denial::NoRoute, ..
        }) if context.head.target == b"*" => response::server_options(access),
        EarlyResponse::Refused(refusal) => response::refusal(access, &context.view.snapshot, &refusal, context.head),
        EarlyResponse::Preflight(fields) => match recordable {
            Ok(()) => response::preflight(access, fields),
            Err(denial) => response::refusal(access, &context.view.snapshot, &denial.into(), context.head),
        },
    }
}

/// Passes the upstream's answer back, with a renewed session where one is due.
fn pass_back<B: BodySource + Unpin>(
    mut access: AccessRecord,
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    upstream: UpstreamIndex,
    forwarded: Forwarded<FilteredTrailers<B>>,
    token: Option<&RenewableToken>,
) -> GatewayResponse<B> {
    access.note_forwarded(upstream, forwarded.endpoint, forwarded.attempts);
    let now = access.now().wall;
    let mut response = response::forwarded(access, context.view, examined, forwarded);
    let fields = &mut response.head.fields;
    if let Some(token) = token {
        response
            .observer
            .with_permit(|permit| renew::refresh(context.view, permit, token, now, fields));
    }
    response
}

/// Refuses a request that no endpoint answered.
fn refuse_unanswered<B>(
    mut access: AccessRecord,
    context: RequestContext<'_>,
    upstream: UpstreamIndex,
    none: &Unanswered,
) -> GatewayResponse<B> {
    access.note_unanswered(upstream, none.trace);
    refuse_on_route(access, context, none.error.denial())
}

/// Refuses a request whose credential became invalid while it was being forwarded. What the upstream has done with the
/// request is unknown, and its body is not read further, so the connection closes.
fn refuse_in_flight<B>(
    mut access: AccessRecord,
    context: RequestContext<'_>,
    upstream: UpstreamIndex,
    denial: Denial,
) -> GatewayResponse<B> {
    access.note_upstream(upstream);
    access.note_denied_in_flight(denial);
    let mut response = refuse_on_route(access, context, denial);
    response.persistence = Persistence::Close;
    response
}

/// Refuses in the dialect of the route that was found.
fn refuse_on_route<B>(mut access: AccessRecord, context: RequestContext<'_>, refusal: impl Into<RequestRefusal>) -> GatewayResponse<B> {
    let refusal = RequestRefusal {
        route: access.route(),
        ..refusal.into()
    };
    let frees_slot = refusal.denial == Denial::Overloaded;
    if frees_slot {
        access.release_slot();
    }
    Response {
        frees_slot,
        ..response::refusal(access, &context.view.snapshot, &refusal, context.head)
    }
}

/// Refuses a request without examining it. If the head could not be read, `head` is empty or has the field `Origin` alone.
#[must_use]
pub fn refuse<B>(worker: &Rc<Worker>, connection: &ConnectionInfo, head: &RequestHead, denial: Denial) -> GatewayResponse<B> {
    let view = worker.view();
    let mut access = AccessRecord::begin(worker, view.clone(), connection, None, head.version);
    // The request is refused, and nothing is done that would have to be on record. A refusal without room is counted.
    let _ = access.begin_entry(head);
    response::refusal(access, &view.snapshot, &denial.into(), head)
}

/// Waits until an entry of the answer is on the disk, before a byte of it is sent (`audit.durable = "each"`). If it cannot
/// be recorded and `audit.on_full` is `refuse`, the client is given a refusal instead. It does not learn what the upstream
/// has done with the request, as after any failure behind the gateway.
///
/// If the client leaves meanwhile, the entry is written all the same, and a second one says how the request ended.
pub async fn record_answer<B>(
    worker: &Rc<Worker>,
    connection: &ConnectionInfo,
    head: &RequestHead,
    mut response: GatewayResponse<B>,
) -> GatewayResponse<B> {
    let Some(receipt) = response.observer.push_answered() else {
        return response;
    };
    let recorded = receipt.await;
    let access = &mut response.observer;
    let denial = if recorded.is_err() && access.refuses_unrecorded() {
        Denial::NotRecordable
    } else if let Some(denial) = access.abort_denial() {
        // The server sends the answer to a request that was aborted before, so it must not be the upstream's.
        access.note_denied_in_flight(denial);
        denial
    } else {
        return response;
    };
    let view = access.view().cloned().unwrap_or_else(|| worker.view());
    let context = RequestContext {
        worker,
        view: &view,
        connection,
        head,
    };
    let mut refusal = refuse_on_route(response.observer, context, denial);
    refusal.persistence = Persistence::Close;
    refusal
}

/// Makes every check that does not depend on who sends the request, in order.
fn examine<'a>(context: RequestContext<'a>, access: &mut AccessRecord) -> Result<Examined<'a>, EarlyResponse> {
    let RequestContext {
        view, connection, head, ..
    } = context;
    let snapshot = &view.snapshot;
    let origin = snapshot.peers.origin(connection.peer, &head.fields);
    access.note_origin(origin, &head.fields);
    context.begin(Check::Headers);
    let screened = snapshot.headers.screen(head)?;
    if screened.odd_dropped > 0 {
        access.note_dropped_fields(screened.odd_dropped);
    }
    context.begin(Check::Method);
    let method = Method::parse(&head.method)?;
    access.note_method(method);
    context.begin(Check::Target);
    let target = RequestTarget::parse(head, method)?;
    access.note_target(&target);
    context.begin(Check::Host);
    if is_misdirected(snapshot, connection, &target) {
        return Err(Denial::Misdirected.into());
    }
    if let Some(preflight) = Preflight::of(method, &head.fields) {
        context.begin(Check::Preflight);
        if let Some(fields) = routing::answer_preflight(snapshot, &preflight, &target, access)? {
            return Err(EarlyResponse::Preflight(fields));
        }
    }
    context.begin(Check::Route);
    let index = match routing::find(snapshot, &target, method) {
        Ok(index) => index,
        Err(why) => {
            routing::choose_cors_of_not_found(snapshot, why, &target, access);
            return Err(routing::not_found(why).into());
        }
    };
    let route = &snapshot.routes[index.0];
    access.note_route(index);
    context.begin(Check::Spelling);
    routing::check_forms(snapshot, &target, method, index)?;
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

/// Whether the connection was opened with another certificate than the requested host has. Such a request is refused,
/// since a request must not cross from the host of one certificate to the host of another (RFC 9110, section 7.4).
fn is_misdirected(snapshot: &Snapshot, connection: &ConnectionInfo, target: &RequestTarget<'_>) -> bool {
    let Some(Some(certificates)) = snapshot.certificates.get(connection.listener) else {
        return false;
    };
    connection
        .sni
        .as_deref()
        .is_some_and(|sni| certificates.index_for(sni) != certificates.index_for(&target.host))
}

/// A handshake has no body that trailers could follow, and its `Connection` field does not announce any.
const fn trailers(examined: &Examined<'_>) -> Trailers {
    match examined.upgrade {
        Some(_) => Trailers::Dropped,
        None => examined.route.options.trailers,
    }
}

/// Takes a slot among the requests in flight and writes the outgoing head.
fn prepare(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    access: &mut AccessRecord,
) -> Result<HeadBuffers, Denial> {
    access.acquire_slot(limits::quota_key(examined.origin.client, permit))?;
    let RequestContext {
        worker,
        view,
        connection,
        head,
    } = context;
    let Examined { route, target, .. } = examined;
    context.begin(Check::Length);
    if matches!(head.framing, Framing::Length(length) if length > route.options.max_body) {
        return Err(Denial::BodyTooLarge);
    }
    let snapshot = &view.snapshot;
    let mut buffers = worker.buffers();
    let facts = OutgoingHead {
        principal: permit.principal().zip(access.surface().map(|index| &snapshot.surfaces[index.0])),
        origin: examined.origin,
        peer: connection.peer.ip(),
        scheme: connection.scheme,
        request_id: access.request_id(),
        target,
        credentials: route.options.credentials,
        trailers: trailers(examined),
    };
    snapshot
        .headers
        .write_outgoing(head, &examined.screened, &facts, &mut buffers.fields)?;
    if examined.upgrade.is_some() {
        // The gateway writes its own field. The client's `Connection` may name further options.
        buffers.fields.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    }
    buffers.write_target(&route.rewrite, target);
    Ok(buffers)
}

/// Limits the body to what the route allows, filters its trailers, and captures it if the route records it.
fn limit_body<B: RequestBody + Unpin>(
    context: RequestContext<'_>,
    route: &Route,
    mut body: B,
    access: &mut AccessRecord,
) -> FilteredTrailers<B> {
    body.limit(route.options.max_body);
    let tap = access.tap(route, BodyPart::Request, &context.head.fields, context.head.framing);
    FilteredTrailers::new(body, context.view, route).tapped(tap)
}

/// The request in the form in which it is forwarded.
fn outgoing<'p>(head: &RequestHead, examined: &'p Examined<'_>, buffers: &'p HeadBuffers, access: &'p AccessRecord) -> Outgoing<'p> {
    let options = &examined.route.options;
    Outgoing {
        now: access.resumed(),
        holder: access.holder(),
        method: examined.method,
        target: &buffers.target,
        client_host: examined.target.authority.as_bytes(),
        fields: &buffers.fields,
        framing: if examined.upgrade.is_some() { Framing::None } else { head.framing },
        response_timeout: options.response_timeout,
        idle_timeout: options.idle_timeout,
        trailers: trailers(examined),
        upgrade: examined.upgrade,
    }
}
