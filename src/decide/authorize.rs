//! The decision: may this principal use this route now? The only maker of [`Permit`].

use std::sync::Arc;

use crate::base::clock::{Now, UnixMillis};
use crate::base::denial::Denial;
use crate::base::principal::{Facts, Principal};
use crate::base::scope::Mode;

use super::method::Method;
use super::route::{Access, Route};
use super::scope_grants::{ScopeGrants, mode_reaches};
use super::surface::{Surface, SurfaceIndex};
use super::validity;

use report_only::is_reported_only;

mod checks;
mod lookup;
mod report_only;
mod site;

pub use super::surface::Proof;
pub use checks::Check;
pub use lookup::{Provenance, fingerprints, provenance};
pub use site::{Carried, may_open};

/// Proof that a request may be forwarded. Only this module can make one; forwarding demands it.
#[must_use]
#[derive(Debug)]
pub struct Permit {
    admitted: Admitted,
}

#[derive(Debug)]
enum Admitted {
    Caller(Principal),
    /// Anybody, on a public route.
    Anybody,
    /// Nobody: the request was refused for this reason, and its route only reports refusals. It has no room for an identity.
    Unadmitted(Denial),
}

impl Permit {
    /// Who was admitted; `None` on public routes, and for a request that was only reported.
    #[must_use]
    pub const fn principal(&self) -> Option<&Principal> {
        match &self.admitted {
            Admitted::Caller(principal) => Some(principal),
            Admitted::Anybody | Admitted::Unadmitted(_) => None,
        }
    }

    /// Why the request would be refused if its route did not only report (`insecure_report_only`).
    #[must_use]
    pub const fn reported(&self) -> Option<Denial> {
        match self.admitted {
            Admitted::Unadmitted(denial) => Some(denial),
            Admitted::Caller(_) | Admitted::Anybody => None,
        }
    }
}

/// What the caller asks for.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The route that was found.
    pub route: &'a Route,
    /// The surface that the credential was extracted for.
    pub surface_index: SurfaceIndex,
    pub surface: &'a Surface,
    pub method: Method,
    /// The mode the credential's prefix tells ([`super::extract::Extracted::mode`]).
    pub presented_mode: Option<Mode>,
    /// Whether the caller's code or the browser attached the credential ([`Carried::of`]).
    pub carried: Carried,
    /// What presenting the credential proved ([`Surface::prove`]).
    pub proof: Proof,
    /// The roles and granted scopes of the configuration.
    pub scope_grants: &'a ScopeGrants,
}

/// Decides whether this principal may use the route at `now`. The facts must be young enough
/// ([`CachedStore::recall`](crate::store::cached::CachedStore::recall) sees to that); everything else is judged here, on every request, in this order:
///
/// 1. the route accepts the surface, and the record is one of that surface;
/// 2. what the kind of credential asks for was proven: the whole key, the secret half, the password, the signature
///    (a wrong secret learns nothing of the record);
/// 3. the modes agree: the prefix's, the record's, and the one the surface is pinned to;
/// 4. credential and what it hangs on, then token, then tenant are in force;
/// 5. a cookie on a changing method comes with proof that the request is not another site's, and a page whose origin
///    may not use cookies uses none on any method;
/// 6. the scopes cover what the route needs: what the record may do now ([`ScopeGrants::effective_scopes`]), which is never
///    more than what it hangs on may do now, but for what its route granted. A token's scopes count only as
///    far as its record's go.
///
/// # Errors
/// [`Denial`]: `WrongSurface`, `WrongSecret`, `WrongMode`, those of [`validity::check`] and
/// [`validity::check_token`], `CrossSite`, `InsufficientScope`; `CorruptRecord` for facts that
/// contradict what was asked; `Internal` when asked about a public route, or about a principal with
/// a token on a key surface or without one on a session surface.
pub fn authorize(request: &AccessRequest<'_>, principal: Principal, now: UnixMillis) -> Result<Permit, Denial> {
    authorize_noting(request, principal, now, |_| {})
}

/// As [`authorize`], and tells each check before it is made.
///
/// # Errors
/// As [`authorize`].
pub fn authorize_noting(
    request: &AccessRequest<'_>,
    principal: Principal,
    now: UnixMillis,
    mut note: impl FnMut(Check),
) -> Result<Permit, Denial> {
    note(Check::Surface);
    let Access::Surfaces { surfaces, scopes: needed } = &request.route.access else {
        return Err(Denial::Internal);
    };
    if !surfaces.contains(&request.surface_index) {
        return Err(Denial::WrongSurface);
    }
    let record = &principal.facts.credential;
    if record.surface != *request.surface.record_surface() {
        return Err(Denial::CorruptRecord);
    }
    note(Check::Possession);
    request.surface.kind.demand(request.proof, record)?;
    note(Check::Mode);
    check_mode(request, &principal.facts)?;
    note(Check::Force);
    check_in_force(request.surface, &principal, now)?;
    note(Check::Origin);
    match request.carried {
        Carried::ByForeignPage => return Err(Denial::CrossSite),
        Carried::ByBrowserUnproven if !request.method.is_safe() => return Err(Denial::CrossSite),
        Carried::ByBrowserUnproven | Carried::ByBrowserProven | Carried::Explicitly => {}
    }
    note(Check::Scopes);
    let principal = narrow(derive(principal, request.scope_grants));
    if !principal.scopes().covers(needed) {
        return Err(Denial::InsufficientScope);
    }
    Ok(Permit {
        admitted: Admitted::Caller(principal),
    })
}

/// Forwards a refused request all the same, as nobody, where its route only reports refusals (`insecure_report_only`).
///
/// # Errors
/// The denial itself, when the route refuses, or when it is none of the reasons that are only reported.
pub fn report_only(route: &Route, denial: Denial) -> Result<Permit, Denial> {
    if route.options.report_only && is_reported_only(denial) {
        return Ok(Permit {
            admitted: Admitted::Unadmitted(denial),
        });
    }
    Err(denial)
}

/// Admits anybody to a public route, as nobody.
///
/// # Errors
/// [`Denial::MissingCredential`] when the route is not public.
pub fn authorize_public(route: &Route) -> Result<Permit, Denial> {
    match route.access {
        Access::Public => Ok(Permit {
            admitted: Admitted::Anybody,
        }),
        Access::Surfaces { .. } => Err(Denial::MissingCredential),
    }
}

/// The mode of the prefix, of the record and of the surface must agree, and a record below a record of one mode never
/// acts in the other.
fn check_mode(request: &AccessRequest<'_>, facts: &Facts) -> Result<(), Denial> {
    let record = &facts.credential;
    let agrees = request.presented_mode.is_none_or(|told| record.mode == Some(told))
        && request.surface.mode.is_none_or(|pinned| record.mode == Some(pinned))
        && facts.ancestors.iter().all(|above| mode_reaches(above.mode, record.mode));
    if agrees { Ok(()) } else { Err(Denial::WrongMode) }
}

fn check_in_force(surface: &Surface, principal: &Principal, now: UnixMillis) -> Result<(), Denial> {
    let facts = &principal.facts;
    match (surface.kind.skew(), &principal.token) {
        (None, None) => validity::check(facts, now),
        (Some(skew), Some(claims)) => {
            let record = validity::check(facts, now);
            // A dead token of an inactive tenant is refused as dead, as a dead key is.
            if matches!(record, Ok(()) | Err(Denial::InactiveTenant)) {
                validity::check_token(claims, &facts.credential, skew, now)?;
            }
            record
        }
        (Some(_), None) | (None, Some(_)) => Err(Denial::Internal),
    }
}

/// When this identity expires by itself: at the expiry of its record, of a record above it, or of its token,
/// whichever is first. An idle timeout does not count, since a request is a use.
#[must_use]
pub fn ends_at(surface: &Surface, principal: &Principal) -> Option<UnixMillis> {
    let facts = &principal.facts;
    let records = std::iter::once(&facts.credential).chain(&facts.ancestors);
    let skew = surface.kind.skew().unwrap_or_default();
    let token = principal.token.as_ref().map(|token| token.expires_at.plus(skew));
    records.filter_map(|record| record.expires_at).chain(token).min()
}

/// The scopes that this caller holds now, as [`authorize`] compares them with those that the route needs.
#[must_use]
pub fn scopes_held(principal: Principal, scope_grants: &ScopeGrants) -> String {
    narrow(derive(principal, scope_grants)).scopes().joined().to_owned()
}

/// Derives the effective scopes of the record.
fn derive(mut principal: Principal, scope_grants: &ScopeGrants) -> Principal {
    principal.record_scopes = scope_grants.effective_scopes(&principal.facts);
    principal
}

/// A token never grants more than its record may do. Tokens of other issuers hang on the record of their tenant,
/// which has no scopes; their scopes come from the token.
fn narrow(mut principal: Principal) -> Principal {
    let Some(claimed) = principal.token.as_ref().and_then(|token| token.scopes.as_ref()) else {
        return principal;
    };
    if principal.facts.credential.is_of_tenant() || principal.record_scopes().covers(claimed) {
        return principal;
    }
    principal.token_scopes = Some(claimed.intersection(principal.record_scopes()));
    principal
}

/// A request that was admitted, and what it is judged by now.
#[derive(Debug, Clone, Copy)]
pub struct Reauthorization<'a> {
    pub permit: &'a Permit,
    /// The surface as it was when the request was admitted.
    pub was: &'a Surface,
    pub method: Method,
    /// The route as it is now.
    pub route: &'a Route,
    /// The surface as it is now.
    pub surface_index: SurfaceIndex,
    pub surface: &'a Surface,
    /// The roles and granted scopes of the present configuration.
    pub scope_grants: &'a ScopeGrants,
}

/// Decides whether a request that was admitted before would be admitted at `now`, by newer facts and the newest
/// configuration. It keeps streams open only as long as they could be opened. The credential itself is not needed:
/// remembered are the key that verified a token and its claims, the fingerprint of a pair's secret half, and the hash
/// that an account's password was verified against.
///
/// # Errors
/// As [`authorize`]; [`Denial::UnknownCredential`] when the facts are those of another record,
/// [`Denial::WrongSurface`] when the surface now takes another kind of credential, [`Denial::InvalidToken`] when the
/// token's key is no longer trusted or the rules for tokens have changed, [`Denial::StoreUnavailable`] when the keys
/// of an issuer are not available, [`Denial::WrongSecret`] when the pair has another secret half or the account
/// another password.
pub fn reauthorize(again: &Reauthorization<'_>, facts: Arc<Facts>, now: Now) -> Result<Permit, Denial> {
    let before = again.permit.principal().ok_or(Denial::Internal)?;
    let (old, new) = (&before.facts.credential, &facts.credential);
    if (&old.id, &old.surface, &old.tenant) != (&new.id, &new.surface, &new.tenant) {
        return Err(Denial::UnknownCredential);
    }
    let proof = again.surface.kind.prove_again(&again.was.kind, before, new, now)?;
    let request = AccessRequest {
        route: again.route,
        surface_index: again.surface_index,
        surface: again.surface,
        method: again.method,
        // The mode of the prefix agreed with that of the record.
        presented_mode: old.mode,
        // The page that sent the request was judged when it was admitted.
        carried: Carried::Explicitly,
        proof,
        scope_grants: again.scope_grants,
    };
    authorize(&request, Principal::new(facts, before.token.clone()), now.wall)
}

#[cfg(test)]
mod tests;
