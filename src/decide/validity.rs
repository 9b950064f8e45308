//! Whether facts may be used, and whether what they say admits the credential now.

use std::time::Duration;

use crate::base::clock::{Now, UnixMillis};
use crate::base::denial::Denial;
use crate::base::principal::{CredentialRecord, Facts, State, TenantRecord, TokenClaims};

/// Whether a credential is in force at `now`, by its stored facts alone.
///
/// The first reason that applies is told, in this order: revoked, disabled, expired, early, and only
/// for a credential that is otherwise good, inactive tenant. So a revoked key of an inactive tenant
/// is a 401 like any other dead key, and the 403 tells nothing to somebody without a good key.
///
/// # Errors
/// [`Denial::RevokedCredential`], [`Denial::DisabledCredential`], [`Denial::ExpiredCredential`] (at
/// its expiry or after it), [`Denial::EarlyCredential`] (before its not-before),
/// [`Denial::InactiveTenant`], or [`Denial::CorruptRecord`] when the tenant is not the credential's.
pub fn check(record: &CredentialRecord, tenant: &TenantRecord, now: UnixMillis) -> Result<(), Denial> {
    if record.tenant != tenant.id {
        return Err(Denial::CorruptRecord);
    }
    match record.state {
        State::Revoked { .. } => return Err(Denial::RevokedCredential),
        State::Disabled => return Err(Denial::DisabledCredential),
        State::Active => {}
    }
    if record.expires_at.is_some_and(|end| now >= end) {
        return Err(Denial::ExpiredCredential);
    }
    if record.not_before.is_some_and(|start| now < start) {
        return Err(Denial::EarlyCredential);
    }
    if tenant.active { Ok(()) } else { Err(Denial::InactiveTenant) }
}

/// Whether a verified token is in force at `now` and hangs on this record. Asked on every request,
/// since claims may be remembered longer than the token lives (hardening J15).
///
/// # Errors
/// [`Denial::ExpiredCredential`] at `exp` + `skew` or after it; [`Denial::RevokedCredential`] when
/// the record's `valid_after` is later than the token's `iat`, or the token has no `iat` to compare;
/// [`Denial::CorruptRecord`] when the record is not the one the token names.
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

/// Whether facts are young enough to be used: strictly younger than `max_age`, counted on the boot
/// clock from the moment their read was sent (design 6.1). Facts from the future of this clock
/// are none of ours and are not used.
#[must_use]
pub fn facts_age_ok(facts: &Facts, now: Now, max_age: Duration) -> bool {
    facts.sent_at <= now.boot && now.boot.since(facts.sent_at) < max_age
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::BootMillis;
    use crate::base::ids::{CredentialId, TenantId};
    use crate::decide::samples;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn verdict(change: impl FnOnce(&mut Facts)) -> Result<(), Denial> {
        let mut facts = samples::facts("api", "key_1", "acme");
        change(&mut facts);
        check(&facts.credential, &facts.tenant, NOW)
    }

    #[test]
    fn an_active_credential_of_an_active_tenant_passes() {
        assert_eq!(verdict(|_| ()), Ok(()));
    }

    #[test]
    fn each_state_but_active_is_refused() {
        assert_eq!(
            verdict(|f| f.credential.state = State::Revoked { at: NOW }),
            Err(Denial::RevokedCredential)
        );
        assert_eq!(verdict(|f| f.credential.state = State::Disabled), Err(Denial::DisabledCredential));
    }

    #[test]
    fn a_credential_ends_at_its_expiry_and_not_a_millisecond_later() {
        assert_eq!(verdict(|f| f.credential.expires_at = Some(UnixMillis(NOW.0 + 1))), Ok(()));
        for at in [NOW.0, NOW.0 - 1, i64::MIN] {
            assert_eq!(
                verdict(|f| f.credential.expires_at = Some(UnixMillis(at))),
                Err(Denial::ExpiredCredential)
            );
        }
    }

    #[test]
    fn a_credential_begins_at_its_not_before() {
        assert_eq!(verdict(|f| f.credential.not_before = Some(NOW)), Ok(()));
        assert_eq!(
            verdict(|f| f.credential.not_before = Some(UnixMillis(NOW.0 + 1))),
            Err(Denial::EarlyCredential)
        );
    }

    #[test]
    fn an_inactive_tenant_is_told_only_to_holders_of_a_good_credential() {
        assert_eq!(verdict(|f| f.tenant.active = false), Err(Denial::InactiveTenant));
        let dead: [fn(&mut Facts); 4] = [
            |f| f.credential.state = State::Revoked { at: NOW },
            |f| f.credential.state = State::Disabled,
            |f| f.credential.expires_at = Some(NOW),
            |f| f.credential.not_before = Some(UnixMillis(i64::MAX)),
        ];
        for kill in dead {
            let refused = verdict(|f| {
                f.tenant.active = false;
                kill(f);
            });
            assert_eq!(refused.unwrap_err().row().status, 401);
        }
    }

    #[test]
    fn facts_of_two_tenants_are_never_one() {
        assert_eq!(
            verdict(|f| f.tenant.id = TenantId::parse("other").unwrap()),
            Err(Denial::CorruptRecord)
        );
    }

    #[test]
    fn j15_a_remembered_token_still_expires() {
        let facts = samples::facts("account", "acc_1", "acme");
        let claims = samples::claims("acc_1", NOW, NOW.plus(Duration::from_secs(60)));
        let skew = Duration::from_secs(5);
        let at = |seconds| check_token(&claims, &facts.credential, skew, NOW.plus(Duration::from_millis(seconds)));
        assert_eq!(at(0), Ok(()));
        assert_eq!(at(64_999), Ok(()));
        assert_eq!(at(65_000), Err(Denial::ExpiredCredential));
    }

    #[test]
    fn j16_tokens_issued_before_the_watermark_are_dead_and_later_ones_live() {
        let mut facts = samples::facts("account", "acc_1", "acme");
        let mut claims = samples::claims("acc_1", NOW, NOW.plus(Duration::from_secs(60)));
        let mut at = |watermark: i64, issued: Option<UnixMillis>| {
            facts.credential.valid_after = Some(UnixMillis(watermark));
            claims.issued_at = issued;
            check_token(&claims, &facts.credential, Duration::ZERO, NOW)
        };
        assert_eq!(at(NOW.0, Some(NOW)), Ok(()));
        assert_eq!(at(NOW.0 + 1, Some(NOW)), Err(Denial::RevokedCredential));
        assert_eq!(at(NOW.0, None), Err(Denial::RevokedCredential));
    }

    #[test]
    fn a_token_is_never_judged_by_another_record() {
        let facts = samples::facts("account", "acc_1", "acme");
        let mut claims = samples::claims("acc_1", NOW, NOW.plus(Duration::from_secs(60)));
        claims.record = CredentialId::parse("acc_2").unwrap();
        assert_eq!(
            check_token(&claims, &facts.credential, Duration::ZERO, NOW),
            Err(Denial::CorruptRecord)
        );
    }

    #[test]
    fn facts_are_used_below_their_age_limit_only() {
        let mut facts = samples::facts("api", "key_1", "acme");
        facts.sent_at = BootMillis(1_000);
        let max = Duration::from_secs(30);
        let usable = |boot| {
            facts_age_ok(
                &facts,
                Now {
                    wall: NOW,
                    boot: BootMillis(boot),
                },
                max,
            )
        };
        assert!(usable(1_000));
        assert!(usable(30_999));
        assert!(!usable(31_000));
        assert!(!usable(999), "facts from the future");
        assert!(!facts_age_ok(
            &facts,
            Now {
                wall: NOW,
                boot: BootMillis(1_000)
            },
            Duration::ZERO
        ));
    }
}
