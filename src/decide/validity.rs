//! Whether facts say that a credential and its token are in force now.

use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::principal::chain::ChainSteps;
use crate::base::principal::{CredentialRecord, CredentialState, Facts, TenantRecord, TokenClaims};

/// Checks that a credential is in force at `now`, by its stored facts alone: the credential, all records above it,
/// and its tenant.
///
/// The first reason that applies is returned, in this order: that of the credential, those of its parent and of the
/// records above, and only for a credential that is otherwise good, that of the tenant. So a revoked key of an
/// inactive tenant is a 401 like any other dead key, and the 403 tells nothing to somebody without a good key.
///
/// # Errors
/// For the record and then for each record above it: [`Denial::RevokedCredential`] (also if it was made before the
/// watermark of a record above, [`CredentialRecord::valid_after`]), [`Denial::DisabledCredential`],
/// [`Denial::ExpiredCredential`] (at or after its expiry, or after its idle timeout), [`Denial::EarlyCredential`]
/// (before its start). [`Denial::InactiveTenant`]. [`Denial::CorruptRecord`] if the facts do not belong together.
pub fn check(facts: &Facts, now: UnixMillis) -> Result<(), Denial> {
    check_found(&facts.credential, &facts.ancestors, &facts.tenant, now)
}

/// As [`check`], for a record, the records above it, and its tenant, read in one step.
///
/// # Errors
/// As [`check`].
pub fn check_found(record: &CredentialRecord, above: &[CredentialRecord], tenant: &TenantRecord, now: UnixMillis) -> Result<(), Denial> {
    if record.tenant != tenant.id {
        return Err(Denial::CorruptRecord);
    }
    check_record(record, now)?;
    // Plain keys have neither extras nor ancestors, and end here.
    if record.extras.is_some() || !above.is_empty() {
        check_ancestors(record, above, tenant, now)?;
    }
    if tenant.active { Ok(()) } else { Err(Denial::InactiveTenant) }
}

fn check_record(record: &CredentialRecord, now: UnixMillis) -> Result<(), Denial> {
    match record.state {
        CredentialState::Revoked { .. } => return Err(Denial::RevokedCredential),
        CredentialState::Disabled => return Err(Denial::DisabledCredential),
        CredentialState::Active => {}
    }
    if record.expires_at.is_some_and(|end| now >= end) || is_idle_too_long(record, now) {
        return Err(Denial::ExpiredCredential);
    }
    if record.not_before.is_some_and(|start| now < start) {
        return Err(Denial::EarlyCredential);
    }
    Ok(())
}

/// A record is in force only while all records above it are, and only if neither it nor a record between was made
/// before a watermark above.
fn check_ancestors(record: &CredentialRecord, above: &[CredentialRecord], tenant: &TenantRecord, now: UnixMillis) -> Result<(), Denial> {
    let mut steps = ChainSteps::from(record);
    let mut oldest = record.created_at;
    let mut is_account_of_link = record.link().is_some();
    for ancestor in above {
        if ancestor.tenant != tenant.id || steps.go_up(ancestor).is_err() {
            return Err(Denial::CorruptRecord);
        }
        check_record(ancestor, now)?;
        if ancestor.valid_after.is_some_and(|watermark| oldest < watermark) {
            return Err(Denial::RevokedCredential);
        }
        // A linked account is older than its link and was not made below it: the watermark of the link, or of the
        // provider, ends sign-ons, and not the account's next one.
        if !is_account_of_link {
            oldest = oldest.min(ancestor.created_at);
        }
        is_account_of_link = ancestor.link().is_some();
    }
    // The parent must be among the facts, so that it can be judged.
    match steps.next() {
        Some(_) => Err(Denial::CorruptRecord),
        None => Ok(()),
    }
}

/// Whether these facts say that the idle timeout of the credential, or of a record above it, has passed. Facts may
/// not include the newest use; a caller that knows it adds it before it asks.
#[must_use]
pub fn is_idle(facts: &Facts, now: UnixMillis) -> bool {
    is_idle_too_long(&facts.credential, now) || facts.ancestors.iter().any(|ancestor| is_idle_too_long(ancestor, now))
}

fn is_idle_too_long(record: &CredentialRecord, now: UnixMillis) -> bool {
    record.idle().is_some_and(|idle| now >= idle.ends_at())
}

/// Checks that a verified token is in force at `now` and hangs on this record. It is checked on every request, since
/// claims may be remembered longer than the token lives.
///
/// # Errors
/// [`Denial::ExpiredCredential`] at or after `exp` + `skew`; [`Denial::RevokedCredential`] if the record's
/// `valid_after` is later than the token's `iat`, or if the token has no `iat` to compare; [`Denial::CorruptRecord`]
/// if the record is not the one that the token names.
pub fn check_token(claims: &TokenClaims, record: &CredentialRecord, skew: Duration, now: UnixMillis) -> Result<(), Denial> {
    if claims.record != record.id {
        return Err(Denial::CorruptRecord);
    }
    if now >= claims.expires_at.plus(skew) {
        return Err(Denial::ExpiredCredential);
    }
    match record.valid_after {
        Some(watermark) if claims.issued_at.is_none_or(|issued| issued < watermark) => Err(Denial::RevokedCredential),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
