//! Served routes: the body is read, a credential in it is proven, and durward answers instead of an upstream.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::credential::Credential;
use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::scope::Mode;
use crate::decide::accept::AnswerForm;
use crate::decide::authorize::{AccessRequest, Carried, Permit, Reauthorization, authorize, ends_at, reauthorize};
use crate::decide::extract::{Extracted, cookies_beginning, extract, extract_pair};
use crate::decide::method::Method;
use crate::decide::route::{Access, Route, ServedRouteIndex};
use crate::decide::surface::{AccountFields, BodyField, Carry, SessionRecord, Surface, SurfaceIndex};
use crate::issue::body::{Media, ParsedBody, check_media_type};
use crate::issue::call::{AdmittedCaller, BrowserRequest, IssueError, Issued, PathValues, ServedCall};
use crate::issue::fields::CheckedBody;
use crate::issue::form;
use crate::resolver::Resolved;
use crate::sign_on::log_in_record::LOG_IN_COOKIE;
use crate::sign_on::log_out_record::LOG_OUT_COOKIE;
use crate::snapshot::body_schema::{BodySchema, Forms, UnreadableBody};
use crate::snapshot::served_route::{Action, Hook, ServedRoute, When};
use crate::wire::body::{BodyError, Chunk, RequestBody};
use crate::wire::framing::Framing;

use super::caller::permit;
use super::capture::{BodyPart, TappedBody};
use super::{AccessRecord, Examined, GatewayResponse, RequestContext, RequestRefusal, hook, limits, log_in, refuse_on_route, response};

/// Deadline of the body. These bodies have a few kilobytes, and a slow one holds memory. The server's own timeouts are
/// made for large bodies.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

impl From<IssueError> for RequestRefusal {
    fn from(stop: IssueError) -> Self {
        Self {
            details: stop.details,
            cause: stop.cause,
            // Rounded up, so that a client that waits this long is not refused again.
            retry_after: stop.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            ..Self::from(stop.denial)
        }
    }
}

/// Answers one request on a served route. Once its step has begun, the step runs to its end even if the client
/// leaves.
pub(super) async fn serve<B: RequestBody + Unpin>(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    served_route: ServedRouteIndex,
    mut body: B,
    mut access: AccessRecord,
) -> GatewayResponse<B> {
    let tap = access.tap(examined.route, BodyPart::Request, &context.head.fields, context.head.framing);
    let mut tapped = TappedBody::new(&mut body, tap);
    match issue(context, examined, served_route, &mut tapped, &mut access).await {
        Ok(issued) => response::issued(access, examined, issued),
        Err(refused) => refuse_on_route(access, context, refused),
    }
}

/// How often one call is authorized: once when it is about to be made, and twice more when its facts change meanwhile.
/// Each time, somebody else changed the caller's records in the milliseconds between the decision and the write.
const MAX_AUTHORIZATIONS: usize = 3;

/// What a call is made of, besides its caller.
struct CallInput {
    served_route: ServedRouteIndex,
    body: Arc<CheckedBody>,
    /// The values of a hook's answer. `null` until the service of a hook before the step was asked.
    hook_values: Arc<serde_json::Value>,
}

async fn issue<B: RequestBody + Unpin>(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    served_route: ServedRouteIndex,
    body: &mut B,
    access: &mut AccessRecord,
) -> Result<Issued, RequestRefusal> {
    let (mut permit, body) = admit(context, examined, served_route, body, access).await?;
    if !examined.route.limits.after.is_empty() {
        limits::admit_caller(context, examined.route, &permit, access).await?;
    }
    let mut input = CallInput {
        served_route,
        body: Arc::new(*body),
        hook_values: Arc::default(),
    };
    input.hook_values = ask_hook(context, examined, &permit, &input, access).await?;
    // Time has passed: the body was read, limits were asked, the call waited in the queue, a service was asked. So the
    // caller is authorized again by what is true now, and the store compares once more in the step of the write.
    let mut facts_source = FactsSource::Cached;
    for _ in 0..MAX_AUTHORIZATIONS {
        permit = reauthorize_caller(context, examined, permit, facts_source, &input.body, access).await?;
        let call = make_call(context, examined, &permit, &input, access);
        let (result, permit_back) = take_step(context, examined, permit, call, access).await?;
        permit = permit_back;
        match result {
            Err(stop) if stop.stale => facts_source = FactsSource::Stored,
            Err(stop) => return Err(stop.into()),
            Ok(issued) => return Ok(issued),
        }
    }
    Err(Denial::Overloaded.into())
}

/// Asks the service of a hook before the step. The result is `null` if the route has no such hook.
async fn ask_hook(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    input: &CallInput,
    access: &mut AccessRecord,
) -> Result<Arc<serde_json::Value>, Denial> {
    match hook_of(context, input.served_route, When::Before) {
        None => Ok(Arc::default()),
        Some(hook) => {
            let call = make_call(context, examined, permit, input, access);
            hook::ask_before(context, examined, permit, hook, &call, access).await.map(Arc::new)
        }
    }
}

fn hook_of<'a>(context: RequestContext<'a>, served_route: ServedRouteIndex, when: When) -> Option<&'a Hook> {
    let hook = context.view.snapshot.served_routes.get(served_route.0)?.hook.as_ref()?;
    (hook.when == when).then_some(hook)
}

/// Which facts a repeated authorization uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FactsSource {
    /// The facts in memory, if they are young enough.
    Cached,
    /// The facts that the store has now.
    Stored,
}

/// Authorizes again a caller who was admitted before, as the same request would be authorized now. A log-in whose
/// password has been changed meanwhile is proven again from the start.
async fn reauthorize_caller(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: Permit,
    facts_source: FactsSource,
    body: &CheckedBody,
    access: &mut AccessRecord,
) -> Result<Permit, RequestRefusal> {
    let Some((principal, index)) = permit.principal().zip(access.surface()) else {
        return Ok(permit);
    };
    let (route, snapshot) = (examined.route, &context.view.snapshot);
    let surface = snapshot.surfaces.get(index.0).ok_or(Denial::Internal)?;
    let facts = context
        .worker
        .newest_facts_of(principal, facts_source == FactsSource::Stored)
        .await?;
    let again = Reauthorization {
        permit: &permit,
        was: surface,
        method: examined.method,
        route,
        surface_index: index,
        surface,
        scope_grants: &snapshot.scope_grants,
    };
    match (reauthorize(&again, facts, context.worker.clock.now()), surface.kind.carry()) {
        (Err(Denial::WrongSecret), Carry::Login(fields)) => {
            let target = AccessTarget {
                route,
                surface: index,
                method: examined.method,
            };
            permit_account(context, target, fields, body, access).await
        }
        (judged, _) => Ok(judged?),
    }
}

/// Finds out who is calling a served route, and reads the body. A credential in a header is proven before the body is
/// read, so that the body of an unknown caller is not kept in memory. A credential in the body is proven after the
/// fields of the body were checked.
async fn admit<B: RequestBody + Unpin>(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    served_route: ServedRouteIndex,
    body: &mut B,
    access: &mut AccessRecord,
) -> Result<(Permit, Box<CheckedBody>), RequestRefusal> {
    let (route, method) = (examined.route, examined.method);
    let snapshot = &context.view.snapshot;
    let served_route = snapshot.served_routes.get(served_route.0).ok_or(Denial::Internal)?;
    if method.is_safe() && served_route.action.changes() {
        // A page of another site can send such requests without proof. The configuration refuses such routes.
        return Err(Denial::MethodNotAllowed.into());
    }
    if method == Method::Head && served_route.action.sign_on().is_some() {
        // A sign-on goes on by a request for its answer, and not by one that only asks about it.
        return Err(Denial::MethodNotAllowed.into());
    }
    let Some((index, surface)) = body_surface(&snapshot.surfaces, route) else {
        let permit = permit(context, examined, access).await?;
        return Ok((permit, read_checked(context, served_route, body).await?));
    };
    let checked = read_checked(context, served_route, body).await?;
    access.note_surface(index);
    let target = AccessTarget {
        route,
        surface: index,
        method,
    };
    let permit = match surface.kind.carry() {
        Carry::BodyHalves { key, secret } => permit_pair(context, target, key, secret, &checked, access).await?,
        Carry::Login(fields) => permit_account(context, target, fields, &checked, access).await?,
        Carry::Whole(_) | Carry::Halves { .. } | Carry::Never => return Err(Denial::Internal.into()),
    };
    Ok((permit, checked))
}

/// Takes the step of the route, and notifies the service of a hook after it, if the route has one.
async fn take_step(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: Permit,
    call: ServedCall,
    access: &AccessRecord,
) -> Result<hook::CallOutcome, IssueError> {
    match hook_of(context, call.served_route, When::After) {
        None => Ok((context.worker.engine.serve(call).await, permit)),
        Some(hook) => hook::serve_and_notify(context, examined, permit, hook, call, access).await,
    }
}

/// Builds the call of this caller, under this permit.
fn make_call(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    input: &CallInput,
    access: &AccessRecord,
) -> ServedCall {
    let snapshot = &context.view.snapshot;
    let caller = permit.principal().zip(access.surface());
    let served_route = snapshot.served_routes.get(input.served_route.0);
    let replaced = served_route.and_then(|served_route| replaced_session(context, served_route, access));
    ServedCall {
        snapshot: snapshot.clone(),
        served_route: input.served_route,
        caller: caller.map(|(principal, surface)| AdmittedCaller {
            surface,
            principal: principal.clone(),
            ends_at: snapshot.surfaces.get(surface.0).and_then(|surface| ends_at(surface, principal)),
        }),
        path: PathValues::read(&examined.route.pattern, &examined.target.path),
        query: examined.target.query.map(str::to_owned),
        body: input.body.clone(),
        replaced,
        address: examined.origin.client,
        request_id: access.request_id().to_owned(),
        hook: input.hook_values.clone(),
        browser: served_route.and_then(|served_route| browser_request(context, served_route)),
    }
}

/// The accepted surface whose credentials are presented in the body. The configuration allows no other surface beside
/// it, so there is no choice between body and header.
pub(super) fn body_surface<'s>(surfaces: &'s [Surface], route: &Route) -> Option<(SurfaceIndex, &'s Surface)> {
    let Access::Surfaces { surfaces: accepted, .. } = &route.access else {
        return None;
    };
    let mut known = accepted.iter().filter_map(|index| Some((*index, surfaces.get(index.0)?)));
    known.find(|(_, surface)| surface.is_presented_in_body())
}

async fn read_checked<B: RequestBody + Unpin>(
    context: RequestContext<'_>,
    served_route: &ServedRoute,
    body: &mut B,
) -> Result<Box<CheckedBody>, RequestRefusal> {
    let bytes = tokio::time::timeout(BODY_DEADLINE, read(context, served_route.body.max, body))
        .await
        .map_err(|_| Denial::RequestTimeout)??;
    let checked = CheckedBody::check(&served_route.body, parse(context, &served_route.body, &bytes)?);
    Ok(Box::new(checked.map_err(IssueError::from)?))
}

fn parse(context: RequestContext<'_>, schema: &BodySchema, bytes: &[u8]) -> Result<ParsedBody, Denial> {
    if bytes.is_empty() {
        return Ok(ParsedBody::default());
    }
    let parsed = check_media_type(&context.head.fields).and_then(|media| match (media, schema.forms) {
        (Media::Json, _) => ParsedBody::parse(bytes),
        (Media::Form, Forms::Taken) => form::parse(schema, bytes),
        (Media::Form, Forms::Refused) => Err(Denial::WrongMediaType),
    });
    match (parsed, schema.unreadable) {
        (Err(_), UnreadableBody::Empty) => Ok(ParsedBody::default()),
        (parsed, _) => parsed,
    }
}

async fn read<B: RequestBody + Unpin>(context: RequestContext<'_>, max: usize, body: &mut B) -> Result<Zeroizing<Vec<u8>>, Denial> {
    let limit = max as u64;
    let declared = match context.head.framing {
        Framing::Length(length) if length > limit => return Err(Denial::BodyTooLarge),
        Framing::Length(length) => usize::try_from(length).unwrap_or(max),
        _ => 0,
    };
    body.limit(limit);
    // The whole capacity is reserved at once: a buffer that grows leaves copies of its secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(if declared > 0 || body.is_end() { declared } else { max }));
    while let Some(chunk) = poll_fn(|cx| body.poll_chunk(cx)).await {
        match chunk.map_err(denial_of)? {
            Chunk::Data(data) if data.len() > max.saturating_sub(bytes.len()) => return Err(Denial::BodyTooLarge),
            Chunk::Data(data) => bytes.extend_from_slice(&data),
            Chunk::Trailers(_) => {}
        }
    }
    Ok(bytes)
}

const fn denial_of(error: BodyError) -> Denial {
    match error {
        BodyError::TooLarge => Denial::BodyTooLarge,
        BodyError::Timeout => Denial::RequestTimeout,
        BodyError::Framing => Denial::MalformedFraming,
        BodyError::Aborted => Denial::MalformedRequest,
    }
}

/// What is asked for: a route, the surface of the credential, and the method.
#[derive(Clone, Copy)]
struct AccessTarget<'r> {
    route: &'r Route,
    surface: SurfaceIndex,
    method: Method,
}

/// Proves a key pair in two fields of the body in the same way as one in two headers, with the same work for an unknown
/// key and a wrong secret.
async fn permit_pair(
    context: RequestContext<'_>,
    target: AccessTarget<'_>,
    key: &BodyField,
    secret: &BodyField,
    body: &CheckedBody,
    access: &mut AccessRecord,
) -> Result<Permit, Denial> {
    let surfaces = &context.view.snapshot.surfaces;
    let halves = body.text(&key.name).zip(body.text(&secret.name));
    let (publishable, secret) = halves.ok_or(Denial::MissingCredential)?;
    let extracted = extract_pair(surfaces, target.surface, publishable.as_bytes(), secret.as_bytes())?;
    let surface = surfaces.get(target.surface.0).ok_or(Denial::Internal)?;
    let proven = context
        .worker
        .resolver
        .prove(surface, &extracted, access.client(), access.now())
        .await;
    let resolved = proven.map_err(|why| access.note_unproven(why))?;
    decide(context, target, resolved, extracted.mode, access)
}

/// Proves a log-in: see [`log_in`].
async fn permit_account(
    context: RequestContext<'_>,
    target: AccessTarget<'_>,
    fields: &AccountFields,
    body: &CheckedBody,
    access: &mut AccessRecord,
) -> Result<Permit, RequestRefusal> {
    let surface = context.view.snapshot.surfaces.get(target.surface.0).ok_or(Denial::Internal)?;
    let resolved = log_in::prove(context, surface, fields, body, access).await?;
    Ok(decide(context, target, resolved, None, access)?)
}

fn decide(
    context: RequestContext<'_>,
    target: AccessTarget<'_>,
    resolved: Resolved,
    mode: Option<Mode>,
    access: &mut AccessRecord,
) -> Result<Permit, Denial> {
    let AccessTarget {
        route,
        surface: index,
        method,
    } = target;
    access.note_principal(&resolved.principal);
    let snapshot = &context.view.snapshot;
    let request = AccessRequest {
        route,
        surface_index: index,
        surface: snapshot.surfaces.get(index.0).ok_or(Denial::Internal)?,
        method,
        presented_mode: mode,
        // A page of another site cannot send JSON without a preflight.
        carried: Carried::Explicitly,
        proof: resolved.proof,
        scope_grants: &snapshot.scope_grants,
    };
    let permit = authorize(&request, resolved.principal, resolved.now.wall)?;
    if let Some(principal) = permit.principal() {
        context.worker.resolver.note_use(&principal.facts, resolved.now);
    }
    Ok(permit)
}

/// What a step of single sign-on reads of the request besides.
fn browser_request(context: RequestContext<'_>, served_route: &ServedRoute) -> Option<Box<BrowserRequest>> {
    served_route.action.sign_on()?;
    let fields = &context.head.fields;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let kept = cookies_beginning(fields, LOG_IN_COOKIE).filter_map(|(name, value)| text(name).zip(text(value)));
    let mut log_outs = cookies_beginning(fields, LOG_OUT_COOKIE).filter(|(name, _)| *name == LOG_OUT_COOKIE.as_bytes());
    Some(Box::new(BrowserRequest {
        log_in_records: kept.collect(),
        log_out_record: match (log_outs.next(), log_outs.next()) {
            (Some((_, sealed)), None) => text(sealed),
            _ => None,
        },
        form: AnswerForm::preferred(fields),
    }))
}

/// The session whose cookie is about to be replaced by a new one, if it is valid and has a record of its own.
fn replaced_session(context: RequestContext<'_>, served_route: &ServedRoute, access: &AccessRecord) -> Option<CredentialId> {
    let index = match &served_route.action {
        Action::Mint {
            mints,
            cookie: Some(cookie),
            ..
        } => mints.get(*cookie)?.surface,
        // The session of a sign-on is always set as a cookie.
        Action::SignOn(route) => route.step.mints().first()?.surface,
        _ => return None,
    };
    let surfaces = &context.view.snapshot.surfaces;
    let session = surfaces.get(index.0)?.kind.session().filter(|s| s.record == SessionRecord::Own)?;
    let extracted: Extracted<'_> = extract(&context.head.fields, surfaces, &[index]).ok()?;
    let Credential::Jwt { token, .. } = extracted.credential else {
        return None;
    };
    Some(session.rules.verify_own(token, access.now().wall).ok()?.record)
}
