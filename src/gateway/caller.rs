//! Who is calling, and may they? Between the route and the upstream, for forwarded and served routes alike.

use crate::base::denial::Denial;
use crate::decide::authorize::{AccessRequest, Carried, Permit, authorize, authorize_public};
use crate::decide::extract::{Extracted, extract};
use crate::decide::route::Access;
use crate::decide::surface::Surface;
use crate::resolver::{Recall, Resolved, Unsure};

use super::{Asked, Examined, Exchange};

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

/// Asks for what memory does not hold, and decides.
pub(super) async fn look_up(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    (presented, unsure): (Presented<'_>, Unsure<'_>),
    exchange: &mut Exchange,
) -> Result<Permit, Denial> {
    let Presented { surface, extracted } = &presented;
    let resolved = asked.worker.resolver.resolve(surface, extracted, unsure).await;
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
    let carried = Carried::of(
        &extracted.credential,
        &asked.head.fields,
        &examined.target.authority,
        asked.connection.scheme,
    );
    let request = AccessRequest {
        route: examined.route,
        surface_index: extracted.surface,
        surface,
        method: examined.method,
        presented_mode: extracted.mode,
        carried,
        proof,
        authority: &asked.view.snapshot.authority,
    };
    let permit = authorize(&request, principal, now.wall)?;
    // Browsers let any page open a WebSocket to anywhere, cookies included, and read what comes.
    if examined.upgrade.is_some() && carried == Carried::ByBrowserUnproven {
        return Err(Denial::CrossSite);
    }
    if let Some(principal) = permit.principal() {
        if let Some(segment) = examined.route.options.tenant_segment
            && examined.target.path.split('/').nth(segment) != Some(principal.facts.credential.tenant.as_str())
        {
            return Err(Denial::ForeignTenant);
        }
        asked.worker.resolver.note_use(&principal.facts, now);
    }
    Ok(permit)
}
