//! Finds out who is calling and whether they may use the route, for forwarded and served routes alike.

use crate::base::denial::Denial;
use crate::base::ids::TenantId;
use crate::base::principal::Principal;
use crate::decide::authorize::{AccessRequest, Carried, Check, Permit, authorize, authorize_noting, authorize_public, may_open};
use crate::decide::extract::{Extracted, extract};
use crate::decide::route::{Access, NamedTenant};
use crate::decide::surface::Surface;
use crate::resolver::{Missing, Recall, Resolved};

use super::{AccessRecord, Examined, RequestContext, limits};

/// What is known of the caller without waiting.
pub(super) enum Identification<'a> {
    Anybody,
    Known(CallerCredential<'a>, Resolved),
    /// The store or an external service must be asked.
    Incomplete(CallerCredential<'a>, Missing<'a>),
}

/// A credential and the surface it was presented on.
#[derive(Clone, Copy)]
pub(super) struct CallerCredential<'a> {
    surface: &'a Surface,
    extracted: Extracted<'a>,
}

/// Finds the credential and what memory knows of it.
pub(super) fn identify<'a>(
    context: RequestContext<'a>,
    examined: &Examined<'a>,
    access: &mut AccessRecord,
) -> Result<Identification<'a>, Denial> {
    let Access::Surfaces { surfaces: accepted, .. } = &examined.route.access else {
        if examined.upgrade.is_some() {
            context.begin(Check::Origin);
        }
        if examined.upgrade.is_some()
            && let Some(pages) = context.view.snapshot.cors.of(access.cors())
            && !may_open(&context.head.fields, requested_authority(context, examined), pages)
        {
            return Err(Denial::CorsOrigin);
        }
        return Ok(Identification::Anybody);
    };
    context.begin(Check::Credential);
    let surfaces = &context.view.snapshot.surfaces;
    let extracted = extract(&context.head.fields, surfaces, accepted)?;
    let surface = &surfaces[extracted.surface.0];
    access.note_surface(extracted.surface);
    let presented = CallerCredential { surface, extracted };
    context.begin(Check::Facts);
    let recalled = context.worker.resolver.recall(surface, &extracted, access.now());
    Ok(match recalled.map_err(|why| access.note_unproven(why))? {
        Recall::Known(resolved) => Identification::Known(presented, resolved),
        Recall::Incomplete(missing) => Identification::Incomplete(presented, missing),
    })
}

/// The authority that the client requested. `Origin` is compared with it.
fn requested_authority<'a>(context: RequestContext<'a>, examined: &'a Examined<'_>) -> &'a str {
    examined.origin.authority(&context.head.fields, &examined.target.authority)
}

/// Resolves a credential that memory does not know, then decides.
pub(super) async fn look_up(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    presented: CallerCredential<'_>,
    missing: Missing<'_>,
    access: &mut AccessRecord,
) -> Result<Permit, Denial> {
    let CallerCredential { surface, extracted } = &presented;
    let client = examined.origin.client;
    if let Some(trace) = &context.worker.trace {
        trace.note_missing(&missing);
    }
    let resolved = context.worker.resolver.resolve(surface, extracted, client, missing).await;
    let resolved = resolved.map_err(|why| access.note_unproven(why))?;
    access.note_wait();
    admit(context, examined, presented, resolved, access)
}

/// Identifies and admits the caller of a served route, where a nested future does no harm.
pub(super) async fn permit(context: RequestContext<'_>, examined: &Examined<'_>, access: &mut AccessRecord) -> Result<Permit, Denial> {
    match identify(context, examined, access)? {
        Identification::Anybody => authorize_public(examined.route),
        Identification::Known(presented, resolved) => admit(context, examined, presented, resolved, access),
        Identification::Incomplete(presented, missing) => look_up(context, examined, presented, missing, access).await,
    }
}

/// Decides whether this caller may use the route. Everything that can still refuse the caller is asked here.
pub(super) fn admit(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    presented: CallerCredential<'_>,
    resolved: Resolved,
    access: &mut AccessRecord,
) -> Result<Permit, Denial> {
    let CallerCredential { surface, extracted } = presented;
    let Resolved { principal, proof, now } = resolved;
    access.note_principal(&principal);
    let fields = &context.head.fields;
    let own = || {
        let scheme = examined.origin.scheme(fields, context.connection.scheme);
        (requested_authority(context, examined), scheme)
    };
    let pages = context.view.snapshot.cors.of(access.cors());
    let carried = Carried::of(&extracted.credential, fields, own, pages);
    let request = AccessRequest {
        route: examined.route,
        surface_index: extracted.surface,
        surface,
        method: examined.method,
        presented_mode: extracted.mode,
        carried,
        proof,
        scope_grants: &context.view.snapshot.scope_grants,
    };
    let permit = match &context.worker.trace {
        None => authorize(&request, principal, now.wall)?,
        Some(trace) => authorize_noting(&request, principal, now.wall, |check| trace.begin(check))?,
    };
    // A browser lets any page open a WebSocket to any host, sends the cookies with it, and lets the page read what
    // comes.
    if examined.upgrade.is_some() && carried == Carried::ByBrowserUnproven {
        return Err(Denial::CrossSite);
    }
    if let Some(principal) = permit.principal() {
        if examined.route.options.tenant_segment.is_some() {
            context.begin(Check::Tenant);
        }
        if named_tenant(examined, principal) == Some(NamedTenant::Other) {
            return Err(Denial::ForeignTenant);
        }
        context.worker.resolver.note_use(&principal.facts, now);
    }
    Ok(permit)
}

/// The word in the path where the route expects a tenant's id. `None` on routes without such a segment.
fn named_tenant(examined: &Examined<'_>, principal: &Principal) -> Option<NamedTenant> {
    let segment = examined.route.options.tenant_segment?;
    Some(segment.read(&examined.target.path, &principal.facts.credential.tenant))
}

/// The word in the path of an admitted caller that may be another tenant's id. Only the store knows whether it is one.
pub(super) fn unverified_tenant(examined: &Examined<'_>, permit: &Permit) -> Option<TenantId> {
    match named_tenant(examined, permit.principal()?)? {
        NamedTenant::Word(word) => Some(word),
        NamedTenant::Own | NamedTenant::Other => None,
    }
}

/// The checks of an admitted caller that may have to wait: the rate limits of the route, and whether the path names
/// another tenant.
pub(super) async fn admit_further(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    unverified_tenant: Option<TenantId>,
    access: &mut AccessRecord,
) -> Result<(), Denial> {
    // The rate limits come first, since they bound how many words a caller can have looked up in the store.
    limits::admit_caller(context, examined.route, permit, access).await?;
    let Some(word) = unverified_tenant else { return Ok(()) };
    context.begin(Check::Tenant);
    let is_tenant = context
        .worker
        .resolver
        .is_tenant(&word, examined.origin.client, access.now())
        .await?;
    access.note_wait();
    if is_tenant { Err(Denial::ForeignTenant) } else { Ok(()) }
}
