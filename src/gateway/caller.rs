//! Who is calling, and may they? Between the route and the upstream, for forwarded and served routes alike.

use crate::base::denial::Denial;
use crate::base::ids::TenantId;
use crate::base::principal::Principal;
use crate::decide::authorize::{AccessRequest, Carried, Permit, authorize, authorize_public, may_open};
use crate::decide::extract::{Extracted, extract};
use crate::decide::route::{Access, NamedTenant};
use crate::decide::surface::Surface;
use crate::resolver::{Recall, Resolved, Unsure};

use super::{Asked, Examined, Exchange, limits};

/// What is known of the caller without waiting.
pub(super) enum Caller<'a> {
    /// The route asks nobody who they are.
    Anybody,
    /// Memory holds the facts.
    Known((Presented<'a>, Resolved)),
    /// The store must be asked, or somebody else.
    Unsure((Presented<'a>, Unsure<'a>)),
}

/// A credential and the surface it was presented on.
#[derive(Clone, Copy)]
pub(super) struct Presented<'a> {
    surface: &'a Surface,
    extracted: Extracted<'a>,
}

/// Finds the credential and what memory knows of it.
pub(super) fn identify<'a>(asked: Asked<'a>, examined: &Examined<'a>, exchange: &mut Exchange) -> Result<Caller<'a>, Denial> {
    let Access::Surfaces { surfaces: accepted, .. } = &examined.route.access else {
        if examined.upgrade.is_some()
            && let Some(pages) = asked.view.snapshot.cors.of(exchange.cors())
            && !may_open(&asked.head.fields, asked_authority(asked, examined), pages)
        {
            return Err(Denial::CorsOrigin);
        }
        return Ok(Caller::Anybody);
    };
    let surfaces = &asked.view.snapshot.surfaces;
    let extracted = extract(&asked.head.fields, surfaces, accepted)?;
    let surface = &surfaces[extracted.surface.0];
    exchange.note_surface(extracted.surface);
    let presented = Presented { surface, extracted };
    let recalled = asked.worker.resolver.recall(surface, &extracted, exchange.now());
    Ok(match recalled.map_err(|why| exchange.blame(why))? {
        Recall::Known(resolved) => Caller::Known((presented, resolved)),
        Recall::Unsure(unsure) => Caller::Unsure((presented, unsure)),
    })
}

/// The authority that the client asked for, with which `Origin` is compared.
fn asked_authority<'a>(asked: Asked<'a>, examined: &'a Examined<'_>) -> &'a str {
    examined.origin.authority(&asked.head.fields, &examined.target.authority)
}

/// Asks for what memory does not hold, and decides.
pub(super) async fn look_up(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    (presented, unsure): (Presented<'_>, Unsure<'_>),
    exchange: &mut Exchange,
) -> Result<Permit, Denial> {
    let Presented { surface, extracted } = &presented;
    let client = examined.origin.client;
    let resolved = asked.worker.resolver.resolve(surface, (extracted, client), unsure).await;
    let resolved = resolved.map_err(|why| exchange.blame(why))?;
    exchange.note_wait();
    admit(asked, examined, (presented, resolved), exchange)
}

/// Who is calling, and may they? For served routes, where a nested future does no harm.
pub(super) async fn permit(asked: Asked<'_>, examined: &Examined<'_>, exchange: &mut Exchange) -> Result<Permit, Denial> {
    match identify(asked, examined, exchange)? {
        Caller::Anybody => authorize_public(examined.route),
        Caller::Known(known) => admit(asked, examined, known, exchange),
        Caller::Unsure(unsure) => look_up(asked, examined, unsure, exchange).await,
    }
}

/// May this caller use the route? Everything that can still say no is asked here.
pub(super) fn admit(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    (presented, resolved): (Presented<'_>, Resolved),
    exchange: &mut Exchange,
) -> Result<Permit, Denial> {
    let Presented { surface, extracted } = presented;
    let Resolved { principal, proof, now } = resolved;
    exchange.note_principal(&principal);
    let fields = &asked.head.fields;
    let own = || {
        let scheme = examined.origin.scheme(fields, asked.connection.scheme);
        (asked_authority(asked, examined), scheme)
    };
    let pages = asked.view.snapshot.cors.of(exchange.cors());
    let carried = Carried::of(&extracted.credential, fields, own, pages);
    let request = AccessRequest {
        route: examined.route,
        surface_index: extracted.surface,
        surface,
        method: examined.method,
        presented_mode: extracted.mode,
        carried,
        proof,
        scope_grants: &asked.view.snapshot.scope_grants,
    };
    let permit = authorize(&request, principal, now.wall)?;
    // Browsers let any page open a WebSocket to anywhere, cookies included, and read what comes.
    if examined.upgrade.is_some() && carried == Carried::ByBrowserUnproven {
        return Err(Denial::CrossSite);
    }
    if let Some(principal) = permit.principal() {
        if named_tenant(examined, principal) == Some(NamedTenant::Other) {
            return Err(Denial::ForeignTenant);
        }
        asked.worker.resolver.note_use(&principal.facts, now);
    }
    Ok(permit)
}

/// What stands in the path where the route expects a tenant's id; `None` on routes without such a place.
fn named_tenant(examined: &Examined<'_>, principal: &Principal) -> Option<NamedTenant> {
    let segment = examined.route.options.tenant_segment?;
    Some(segment.read(&examined.target.path, &principal.facts.credential.tenant))
}

/// The word in an admitted caller's path that may be another tenant's id. Only the store knows whether it is one.
pub(super) fn doubtful_tenant(examined: &Examined<'_>, permit: &Permit) -> Option<TenantId> {
    match named_tenant(examined, permit.principal()?)? {
        NamedTenant::Word(word) => Some(word),
        NamedTenant::Own | NamedTenant::Other => None,
    }
}

/// The checks of an admitted caller that may have to wait: the limits of the route, and whether the path names another
/// tenant.
pub(super) async fn admit_further(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    (permit, doubtful): (&Permit, Option<TenantId>),
    exchange: &mut Exchange,
) -> Result<(), Denial> {
    // The limits come first: they bound how many words a caller can have looked up in the store.
    limits::admit_caller(asked, examined.route, permit, exchange).await?;
    let Some(word) = doubtful else { return Ok(()) };
    let is_tenant = asked
        .worker
        .resolver
        .is_tenant(&word, examined.origin.client, exchange.now())
        .await?;
    exchange.note_wait();
    if is_tenant { Err(Denial::ForeignTenant) } else { Ok(()) }
}
