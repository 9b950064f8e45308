//! Served routes: a body is read, a credential in it proven, and an issuer asked instead of an upstream.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::credential::Credential;
use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::scope::Mode;
use crate::decide::authorize::{AccessRequest, Carried, Permit, Reauthorization, authorize, ends_at, reauthorize};
use crate::decide::extract::{Extracted, extract, extract_pair};
use crate::decide::method::Method;
use crate::decide::route::{Access, Route, ServedRouteIndex};
use crate::decide::surface::{AccountFields, BodyField, Carry, SessionRecord, Surface, SurfaceIndex};
use crate::issue::body::{Media, ParsedBody, check_media_type};
use crate::issue::call::{AdmittedCaller, IssueError, Issued, PathValues, ServedCall};
use crate::issue::fields::CheckedBody;
use crate::issue::form;
use crate::resolver::Resolved;
use crate::snapshot::body_schema::{BodySchema, Forms, UnreadableBody};
use crate::snapshot::served_route::{Action, Hook, ServedRoute, When};
use crate::wire::body::{BodyError, Chunk, RequestBody};
use crate::wire::framing::Framing;

use super::caller::permit;
use super::{Asked, Examined, Exchange, Refused, Reply, hook, limits, log_in, refuse_here, reply};

/// A body of a few kilobytes that is not here by now is not coming: slow bodies hold memory, and the
/// server's own limits of silence and rate are made for large ones.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

impl From<IssueError> for Refused {
    fn from(stop: IssueError) -> Self {
        Self {
            details: stop.details,
            // Rounded up: whoever waits so long is not refused again.
            retry_after: stop.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            ..Self::from(stop.denial)
        }
    }
}

/// Serves one request on a served route. It runs to its end even if the client leaves once the issuer
/// was asked.
pub(super) async fn serve<B: RequestBody + Unpin>(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    issuer: ServedRouteIndex,
    mut body: B,
    mut exchange: Exchange,
) -> Reply<B> {
    match issue(asked, examined, issuer, &mut body, &mut exchange).await {
        Ok(issued) => reply::issued(exchange, examined, issued),
        Err(refused) => refuse_here(exchange, asked, refused),
    }
}

/// How often a call whose ground moves under it is judged: when it is about to be made, and twice more. Each time
/// somebody else has changed what it rests on in the milliseconds between the judgement and the write.
const JUDGEMENTS: usize = 3;

async fn issue<B: RequestBody + Unpin>(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    issuer: ServedRouteIndex,
    body: &mut B,
    exchange: &mut Exchange,
) -> Result<Issued, Refused> {
    let (mut permit, body) = admit(asked, examined, issuer, body, exchange).await?;
    if !examined.route.limits.after.is_empty() {
        limits::admit_caller(asked, examined.route, &permit, exchange).await?;
    }
    let body = Arc::new(*body);
    let told = ask_first(asked, examined, &permit, (issuer, &body), exchange).await?;
    // Time has passed: the body was read, limits were asked, the call waited in the queue, a service was asked. So the
    // caller is judged again by what is true now, and the store compares once more in the step of the write.
    let mut newest = Newest::Known;
    for _ in 0..JUDGEMENTS {
        permit = judge_again(asked, examined, permit, (newest, &body), exchange).await?;
        let call = make_call(asked, examined, &permit, (issuer, &body, &told), exchange);
        let (answered, same) = answer(asked, examined, permit, call, exchange).await?;
        permit = same;
        match answered {
            Err(stop) if stop.stale => newest = Newest::Stored,
            Err(stop) => return Err(stop.into()),
            Ok(issued) => return Ok(issued),
        }
    }
    Err(Denial::Overloaded.into())
}

/// Asks the service of a hook before the step; `null` if the issuer has no such hook.
async fn ask_first(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    (issuer, body): (ServedRouteIndex, &Arc<CheckedBody>),
    exchange: &mut Exchange,
) -> Result<Arc<serde_json::Value>, Denial> {
    match hook_of(asked, issuer, When::Before) {
        None => Ok(Arc::default()),
        Some(hook) => {
            let call = make_call(asked, examined, permit, (issuer, body, &Arc::default()), exchange);
            hook::ask(asked, examined, permit, (hook, &call), exchange).await.map(Arc::new)
        }
    }
}

fn hook_of<'a>(asked: Asked<'a>, issuer: ServedRouteIndex, when: When) -> Option<&'a Hook> {
    let hook = asked.view.snapshot.served_routes.get(issuer.0)?.hook.as_ref()?;
    (hook.when == when).then_some(hook)
}

/// By which facts a caller is judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newest {
    /// Those that are young enough to be used.
    Known,
    /// Those that the store has now.
    Stored,
}

/// Judges a caller again who was admitted before, as the same request would be judged now. Who logs in with a
/// password that has been changed meanwhile is judged from the start.
async fn judge_again(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: Permit,
    (newest, body): (Newest, &CheckedBody),
    exchange: &mut Exchange,
) -> Result<Permit, Refused> {
    let Some((principal, index)) = permit.principal().zip(exchange.surface()) else {
        return Ok(permit);
    };
    let (route, snapshot) = (examined.route, &asked.view.snapshot);
    let surface = snapshot.surfaces.get(index.0).ok_or(Denial::Internal)?;
    let facts = asked.worker.newest_facts_of(principal, newest == Newest::Stored).await?;
    let again = Reauthorization {
        permit: &permit,
        was: surface,
        method: examined.method,
        route,
        surface_index: index,
        surface,
        scope_grants: &snapshot.scope_grants,
    };
    match (reauthorize(&again, facts, asked.worker.clock.now()), surface.kind.carry()) {
        (Err(Denial::WrongSecret), Carry::Login(fields)) => {
            permit_account(asked, (route, index, examined.method), fields, body, exchange).await
        }
        (judged, _) => Ok(judged?),
    }
}

/// Who is calling a served route, and with which body. A credential in a header is proven before the
/// body is read, so that nobody else's is kept in memory; one in the body after its fields were found
/// sound.
async fn admit<B: RequestBody + Unpin>(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    issuer: ServedRouteIndex,
    body: &mut B,
    exchange: &mut Exchange,
) -> Result<(Permit, Box<CheckedBody>), Refused> {
    let (route, method) = (examined.route, examined.method);
    let snapshot = &asked.view.snapshot;
    let issuer = snapshot.served_routes.get(issuer.0).ok_or(Denial::Internal)?;
    if method.is_safe() && issuer.action.changes() {
        // A page of another site can cause these without proof; configuration does not load them.
        return Err(Denial::MethodNotAllowed.into());
    }
    let Some((index, surface)) = body_surface(&snapshot.surfaces, route) else {
        let permit = permit(asked, examined, exchange).await?;
        return Ok((permit, read_checked(asked, issuer, body).await?));
    };
    let checked = read_checked(asked, issuer, body).await?;
    exchange.note_surface(index);
    let wanted = (route, index, method);
    let permit = match surface.kind.carry() {
        Carry::BodyHalves { key, secret } => permit_pair(asked, wanted, (key, secret), &checked, exchange).await?,
        Carry::Login(fields) => permit_account(asked, wanted, fields, &checked, exchange).await?,
        Carry::Whole(_) | Carry::Halves { .. } | Carry::Never => return Err(Denial::Internal.into()),
    };
    Ok((permit, checked))
}

/// Asks the issuer, and tells the service of a hook after the step, if the issuer has one.
async fn answer(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: Permit,
    call: ServedCall,
    exchange: &Exchange,
) -> Result<hook::Served, IssueError> {
    match hook_of(asked, call.served_route, When::After) {
        None => Ok((asked.worker.engine.serve(call).await, permit)),
        Some(hook) => hook::serve_and_tell(asked, examined, permit, (hook, call), exchange).await,
    }
}

/// The call of this caller, under this permit.
fn make_call(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    (issuer, body, told): (ServedRouteIndex, &Arc<CheckedBody>, &Arc<serde_json::Value>),
    exchange: &Exchange,
) -> ServedCall {
    let snapshot = &asked.view.snapshot;
    let caller = permit.principal().zip(exchange.surface());
    let replaced = snapshot
        .served_routes
        .get(issuer.0)
        .and_then(|issuer| replaced_session(asked, issuer, exchange));
    ServedCall {
        snapshot: snapshot.clone(),
        served_route: issuer,
        caller: caller.map(|(principal, surface)| AdmittedCaller {
            surface,
            principal: principal.clone(),
            ends_at: snapshot.surfaces.get(surface.0).and_then(|surface| ends_at(surface, principal)),
        }),
        path: PathValues::read(&examined.route.pattern, &examined.target.path),
        query: examined.target.query.map(str::to_owned),
        body: body.clone(),
        replaced,
        address: examined.origin.client,
        request_id: exchange.request_id().to_owned(),
        hook: told.clone(),
    }
}

/// The accepted surface whose credentials are presented in the body. Configuration lets it stand
/// alone, so there is no choice between body and header.
fn body_surface<'s>(surfaces: &'s [Surface], route: &Route) -> Option<(SurfaceIndex, &'s Surface)> {
    let Access::Surfaces { surfaces: accepted, .. } = &route.access else {
        return None;
    };
    let mut known = accepted.iter().filter_map(|index| Some((*index, surfaces.get(index.0)?)));
    known.find(|(_, surface)| surface.is_presented_in_body())
}

async fn read_checked<B: RequestBody + Unpin>(asked: Asked<'_>, issuer: &ServedRoute, body: &mut B) -> Result<Box<CheckedBody>, Refused> {
    let bytes = tokio::time::timeout(BODY_DEADLINE, read(asked, issuer.body.max, body))
        .await
        .map_err(|_| Denial::RequestTimeout)??;
    let checked = CheckedBody::check(&issuer.body, parse(asked, &issuer.body, &bytes)?);
    Ok(Box::new(checked.map_err(IssueError::from)?))
}

fn parse(asked: Asked<'_>, schema: &BodySchema, bytes: &[u8]) -> Result<ParsedBody, Denial> {
    if bytes.is_empty() {
        return Ok(ParsedBody::default());
    }
    let parsed = check_media_type(&asked.head.fields).and_then(|media| match (media, schema.forms) {
        (Media::Json, _) => ParsedBody::parse(bytes),
        (Media::Form, Forms::Taken) => form::parse(schema, bytes),
        (Media::Form, Forms::Refused) => Err(Denial::WrongMediaType),
    });
    match (parsed, schema.unreadable) {
        (Err(_), UnreadableBody::Empty) => Ok(ParsedBody::default()),
        (parsed, _) => parsed,
    }
}

async fn read<B: RequestBody + Unpin>(asked: Asked<'_>, max: usize, body: &mut B) -> Result<Zeroizing<Vec<u8>>, Denial> {
    let limit = max as u64;
    let declared = match asked.head.framing {
        Framing::Length(length) if length > limit => return Err(Denial::BodyTooLarge),
        Framing::Length(length) => usize::try_from(length).unwrap_or(max),
        _ => 0,
    };
    body.limit(limit);
    // Reserved whole: a buffer that grows leaves copies of what it held behind.
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
type Wanted<'w> = (&'w Route, SurfaceIndex, Method);

/// A pair in two fields goes the way of a pair in two headers, with the same work for an unknown half
/// and a wrong one.
async fn permit_pair(
    asked: Asked<'_>,
    wanted: Wanted<'_>,
    (key, secret): (&BodyField, &BodyField),
    body: &CheckedBody,
    exchange: &mut Exchange,
) -> Result<Permit, Denial> {
    let surfaces = &asked.view.snapshot.surfaces;
    let halves = body.text(&key.name).zip(body.text(&secret.name));
    let (publishable, secret) = halves.ok_or(Denial::MissingCredential)?;
    let extracted = extract_pair(surfaces, wanted.1, publishable.as_bytes(), secret.as_bytes())?;
    let surface = surfaces.get(wanted.1.0).ok_or(Denial::Internal)?;
    let presented = (&extracted, exchange.client());
    let proven = asked.worker.resolver.prove(surface, presented, exchange.now()).await;
    let resolved = proven.map_err(|why| exchange.blame(why))?;
    decide(asked, wanted, resolved, extracted.mode, exchange)
}

/// A log-in: see [`log_in`].
async fn permit_account(
    asked: Asked<'_>,
    wanted: Wanted<'_>,
    fields: &AccountFields,
    body: &CheckedBody,
    exchange: &mut Exchange,
) -> Result<Permit, Refused> {
    let surface = asked.view.snapshot.surfaces.get(wanted.1.0).ok_or(Denial::Internal)?;
    let resolved = log_in::prove(asked, surface, fields, body, exchange).await?;
    Ok(decide(asked, wanted, resolved, None, exchange)?)
}

fn decide(asked: Asked<'_>, wanted: Wanted<'_>, resolved: Resolved, mode: Option<Mode>, exchange: &mut Exchange) -> Result<Permit, Denial> {
    let (route, index, method) = wanted;
    exchange.note_principal(&resolved.principal);
    let snapshot = &asked.view.snapshot;
    let request = AccessRequest {
        route,
        surface_index: index,
        surface: snapshot.surfaces.get(index.0).ok_or(Denial::Internal)?,
        method,
        presented_mode: mode,
        // No page of another site can send JSON without asking first.
        carried: Carried::Explicitly,
        proof: resolved.proof,
        scope_grants: &snapshot.scope_grants,
    };
    let permit = authorize(&request, resolved.principal, resolved.now.wall)?;
    if let Some(principal) = permit.principal() {
        asked.worker.resolver.note_use(&principal.facts, resolved.now);
    }
    Ok(permit)
}

/// The session whose cookie a new one is about to replace, if it is a good one with a record of its
/// own.
fn replaced_session(asked: Asked<'_>, issuer: &ServedRoute, exchange: &Exchange) -> Option<CredentialId> {
    let Action::Mint {
        mints,
        cookie: Some(cookie),
        ..
    } = &issuer.action
    else {
        return None;
    };
    let index = mints.get(*cookie)?.surface;
    let surfaces = &asked.view.snapshot.surfaces;
    let session = surfaces.get(index.0)?.kind.session().filter(|s| s.record == SessionRecord::Own)?;
    let extracted: Extracted<'_> = extract(&asked.head.fields, surfaces, &[index]).ok()?;
    let Credential::Jwt { token, .. } = extracted.credential else {
        return None;
    };
    Some(session.rules.verify_own(token, exchange.now().wall).ok()?.record)
}
