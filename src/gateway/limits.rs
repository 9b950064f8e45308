//! Rate limits on the request path: by address before the credential is looked at, by caller after.

use std::net::IpAddr;

use crate::base::denial::Denial;
use crate::decide::authorize::Permit;
use crate::decide::rate::{LimitBy, LimitKey, RateLimit, RateVerdict};
use crate::decide::route::Route;
use crate::limit::Standing;

use super::{Asked, Exchange};

/// Limits by the client's address: whoever guesses credentials must be slowed down before a guess
/// costs anything.
pub(super) async fn admit_address(asked: Asked<'_>, route: &Route, client: IpAddr, exchange: &mut Exchange) -> Result<(), Denial> {
    for (number, limit) in route.limits.before.iter().enumerate() {
        admit(asked, limit, limit.key_of_address(client), number, exchange).await?;
    }
    Ok(())
}

/// Limits by who is calling, and of the route as a whole. Only callers who may use the route are
/// counted: nobody can use up another's share.
pub(super) async fn admit_caller(asked: Asked<'_>, route: &Route, permit: &Permit, exchange: &mut Exchange) -> Result<(), Denial> {
    let first = route.limits.before.len();
    for (number, limit) in route.limits.after.iter().enumerate() {
        let key = key_of_caller(limit, permit)?;
        admit(asked, limit, key, first + number, exchange).await?;
    }
    Ok(())
}

fn key_of_caller(limit: &RateLimit, permit: &Permit) -> Result<LimitKey, Denial> {
    if limit.by == LimitBy::Route {
        return Ok(limit.key_of_route());
    }
    // The configuration allows no such limit on a public route.
    let principal = permit.principal().ok_or(Denial::Internal)?;
    let record = &principal.facts.credential;
    Ok(match limit.by {
        LimitBy::Tenant => limit.key_of_tenant(&record.tenant),
        // Tokens that hang on a tenant share its record; their subjects tell them apart.
        _ => {
            let subject = principal.token.as_ref().map_or("", |token| token.subject.as_str());
            limit.key_of_credential(&record.surface, &record.id, subject)
        }
    })
}

async fn admit(asked: Asked<'_>, limit: &RateLimit, key: LimitKey, number: usize, exchange: &mut Exchange) -> Result<(), Denial> {
    let worker = asked.worker;
    let verdict = worker
        .limiter
        .admit(limit, key, exchange.now().boot)
        .await
        .map_err(|_| Denial::StoreUnavailable)?;
    exchange.note_wait();
    exchange.note_standing(Standing { limit: number, verdict });
    match verdict {
        RateVerdict::Admitted { .. } => Ok(()),
        RateVerdict::Refused { .. } => Err(Denial::RateLimited),
    }
}
