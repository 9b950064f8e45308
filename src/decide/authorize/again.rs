//! Judging again who was admitted before: what keeps a stream open must be what would open it now.

use std::sync::Arc;

use crate::base::clock::Now;
use crate::base::denial::Denial;
use crate::base::principal::{Facts, Principal};
use crate::decide::authority::Authority;
use crate::decide::method::Method;
use crate::decide::route::Route;
use crate::decide::surface::{Surface, SurfaceIndex};

use super::{AccessRequest, Carried, Permit, authorize};

/// What was admitted, and what it is judged by now.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// What was granted.
    pub permit: &'a Permit,
    /// The surface as it was then.
    pub was: &'a Surface,
    /// The method.
    pub method: Method,
    /// The route as it is now.
    pub route: &'a Route,
    /// The surface as it is now ...
    pub surface_index: SurfaceIndex,
    /// ... and what that is.
    pub surface: &'a Surface,
    /// What the configuration adds to facts now.
    pub authority: &'a Authority,
}

/// Decides whether a request that was admitted once would be admitted at `now`, by newer facts and the
/// newest configuration. The credential itself is not needed: of a token it is remembered which key
/// verified it and what it claimed, of a pair what its secret half hashed to, of an account the hash its
/// password was verified against.
///
/// # Errors
/// As [`authorize`]; [`Denial::UnknownCredential`] when the facts are another record's,
/// [`Denial::WrongSurface`] when the surface takes another kind of credential now,
/// [`Denial::InvalidToken`] when the token's key is no longer trusted or other tokens are asked for,
/// [`Denial::StoreUnavailable`] when an issuer's keys are not to be had, [`Denial::WrongSecret`] when the
/// pair has another secret half, or the account another password.
pub fn authorize_again(again: &Again<'_>, facts: Arc<Facts>, now: Now) -> Result<Permit, Denial> {
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
        // What the prefix told agreed with the record's mode.
        presented_mode: old.mode,
        // Whose page it was is known since the request was admitted.
        carried: Carried::Explicitly,
        proof,
        authority: again.authority,
    };
    authorize(&request, Principal::new(facts, before.token.clone()), now.wall)
}

#[cfg(test)]
mod tests;
