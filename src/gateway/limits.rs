//! Limits on the request path: rate limits by address before the credential is looked at and by caller after, and the
//! quota key of a request.

use std::net::IpAddr;

use crate::base::denial::Denial;
use crate::decide::authorize::{Check, Permit};
use crate::decide::rate::{LimitBy, LimitKey, RateLimit, RateVerdict};
use crate::decide::route::Route;
use crate::limit::LimitVerdict;
use crate::upstream::quota::QuotaKey;

use super::{AccessRecord, RequestContext};

/// Applies the rate limits by the client's address. Guesses of credentials must be slowed down before a guess costs
/// anything.
pub(super) async fn admit_address(
    context: RequestContext<'_>,
    route: &Route,
    client: IpAddr,
    access: &mut AccessRecord,
) -> Result<(), Denial> {
    context.begin(Check::AddressLimit);
    for (number, limit) in route.limits.before.iter().enumerate() {
        admit(context, limit, limit.key_of_address(client), number, access).await?;
    }
    Ok(())
}

/// Applies the rate limits by caller, and those of the route as a whole. Only callers who may use the route are
/// counted, so that nobody can use up another's limit.
pub(super) async fn admit_caller(
    context: RequestContext<'_>,
    route: &Route,
    permit: &Permit,
    access: &mut AccessRecord,
) -> Result<(), Denial> {
    if route.limits.after.is_empty() {
        return Ok(());
    }
    context.begin(Check::CallerLimit);
    let first = route.limits.before.len();
    for (number, limit) in route.limits.after.iter().enumerate() {
        // A request that is only reported has no caller who could be counted.
        if permit.reported().is_some() && limit.by != LimitBy::Route {
            continue;
        }
        let key = key_of_caller(limit, permit)?;
        admit(context, limit, key, first + number, access).await?;
    }
    Ok(())
}

fn key_of_caller(limit: &RateLimit, permit: &Permit) -> Result<LimitKey, Denial> {
    if limit.by == LimitBy::Route {
        return Ok(limit.key_of_route());
    }
    // The configuration allows such a limit only on routes that ask for a credential.
    let principal = permit.principal().ok_or(Denial::Internal)?;
    let record = &principal.facts.credential;
    Ok(match limit.by {
        LimitBy::Tenant => limit.key_of_tenant(&record.tenant),
        // Tokens without a record of their own share the record of their tenant. Their subjects tell them apart.
        _ => {
            let subject = principal.token.as_ref().map_or("", |token| token.subject.as_str());
            limit.key_of_credential(&record.surface, &record.id, subject)
        }
    })
}

async fn admit(
    context: RequestContext<'_>,
    limit: &RateLimit,
    key: LimitKey,
    number: usize,
    access: &mut AccessRecord,
) -> Result<(), Denial> {
    let worker = context.worker;
    let verdict = match &worker.trace {
        None => worker.limiter.admit(limit, key, access.now().boot).await,
        Some(_) => worker.limiter.judge(limit, key, access.now().boot).await,
    };
    let verdict = verdict.map_err(|_| Denial::StoreUnavailable)?;
    access.note_wait();
    access.note_limit_verdict(LimitVerdict { limit: number, verdict });
    match verdict {
        RateVerdict::Admitted { .. } => Ok(()),
        RateVerdict::Refused { .. } => Err(Denial::RateLimited),
    }
}

/// The key of the quota of slots and connections that a request counts against.
pub(super) fn quota_key(client: IpAddr, permit: &Permit) -> QuotaKey {
    let quota_key = QuotaKey::at(client);
    let Some(principal) = permit.principal() else {
        return quota_key;
    };
    let record = &principal.facts.credential;
    let credential = record.fingerprint.slot_bits();
    match &principal.token {
        // Tokens without a record of their own share the record of their tenant. Their subjects tell them apart.
        Some(token) if record.is_of_tenant() => quota_key.with_credential(credential ^ mix(token.subject.as_str())),
        _ => quota_key.with_credential(credential),
    }
}

/// Hashes a text to 64 bits (FNV-1a). A signer of tokens could make two subjects collide, and would only make them
/// share one quota.
fn mix(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
