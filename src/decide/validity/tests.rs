//! Holds the rules of validity: each reason, its order, and its twin.

use super::*;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{IdleTimeout, Parent};
use crate::decide::samples;

const NOW: UnixMillis = UnixMillis(1_000_000);

fn verdict(change: impl FnOnce(&mut Facts)) -> Result<(), Denial> {
    let mut facts = samples::facts("api", "key_1", "acme");
    change(&mut facts);
    check(&facts, NOW)
}

#[test]
fn an_active_credential_of_an_active_tenant_passes() {
    assert_eq!(verdict(|_| ()), Ok(()));
}

#[test]
fn each_state_but_active_is_refused() {
    assert_eq!(
        verdict(|f| f.credential.state = CredentialState::Revoked { at: NOW }),
        Err(Denial::RevokedCredential)
    );
    assert_eq!(
        verdict(|f| f.credential.state = CredentialState::Disabled),
        Err(Denial::DisabledCredential)
    );
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
        |f| f.credential.state = CredentialState::Revoked { at: NOW },
        |f| f.credential.state = CredentialState::Disabled,
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

/// A session on an access token on a key, and their facts.
fn chain() -> Facts {
    let mut facts = samples::facts("session", "s_1", "acme");
    let mut token = samples::facts("access", "at_1", "acme").credential;
    let key = samples::facts("api", "key_1", "acme").credential;
    let on = |record: &CredentialRecord| Parent {
        surface: record.surface.clone(),
        id: record.id.clone(),
    };
    token.extras_mut().parent = Some(on(&key));
    facts.credential.extras_mut().parent = Some(on(&token));
    facts.credential.created_at = UnixMillis(30);
    token.created_at = UnixMillis(20);
    facts.ancestors = vec![token, key];
    facts
}

fn verdict_of_chain(change: impl FnOnce(&mut Facts)) -> Result<(), Denial> {
    let mut facts = chain();
    change(&mut facts);
    check(&facts, NOW)
}

#[test]
fn a_child_lives_while_everything_it_hangs_on_does() {
    assert_eq!(verdict_of_chain(|_| ()), Ok(()));
    for level in [0, 1] {
        for (denial, end) in [
            (
                Denial::RevokedCredential,
                (|r| r.state = CredentialState::Revoked { at: NOW }) as fn(&mut CredentialRecord),
            ),
            (Denial::DisabledCredential, |r| r.state = CredentialState::Disabled),
            (Denial::ExpiredCredential, |r| r.expires_at = Some(NOW)),
            (Denial::EarlyCredential, |r| r.not_before = Some(UnixMillis(NOW.0 + 1))),
            (Denial::ExpiredCredential, |r| r.extras_mut().idle = Some(idle(NOW.0 - 10, 10))),
        ] {
            assert_eq!(verdict_of_chain(|f| end(&mut f.ancestors[level])), Err(denial), "level {level}");
        }
        for twin in [
            (|r| r.expires_at = Some(UnixMillis(NOW.0 + 1))) as fn(&mut CredentialRecord),
            |r| r.not_before = Some(NOW),
            |r| r.extras_mut().idle = Some(idle(NOW.0 - 9, 10)),
        ] {
            assert_eq!(verdict_of_chain(|f| twin(&mut f.ancestors[level])), Ok(()), "level {level}");
        }
    }
}

#[test]
fn what_was_made_before_a_watermark_above_is_dead() {
    // The key's watermark against the token (made at 20), the token's against the session (made at 30).
    for (level, watermark, is_good) in [(1, 20, true), (1, 21, false), (0, 30, true), (0, 31, false), (1, 31, false)] {
        let verdict = verdict_of_chain(|f| f.ancestors[level].valid_after = Some(UnixMillis(watermark)));
        let expected = if is_good { Ok(()) } else { Err(Denial::RevokedCredential) };
        assert_eq!(verdict, expected, "level {level}, watermark {watermark}");
    }
    assert_eq!(
        verdict_of_chain(|f| f.credential.valid_after = Some(UnixMillis(99))),
        Ok(()),
        "a watermark is for what hangs on the record"
    );
}

#[test]
fn a_chain_that_does_not_hold_together_is_never_an_identity() {
    for break_it in [
        (|f| f.ancestors.clear()) as fn(&mut Facts),
        |f| drop(f.ancestors.pop()),
        |f| drop(f.ancestors.remove(0)),
        |f| f.ancestors.reverse(),
        |f| f.ancestors[0].id = CredentialId::parse("at_2").unwrap(),
        |f| f.ancestors[1].tenant = TenantId::parse("evil").unwrap(),
        |f| f.credential.extras = None,
    ] {
        assert_eq!(verdict_of_chain(break_it), Err(Denial::CorruptRecord));
    }
}

#[test]
fn the_credentials_own_end_is_told_before_that_of_its_parent_and_both_before_the_tenants() {
    let dead_parent = |f: &mut Facts| {
        f.ancestors[0].state = CredentialState::Disabled;
        f.tenant.active = false;
    };
    assert_eq!(verdict_of_chain(dead_parent), Err(Denial::DisabledCredential));
    let dead_too = |f: &mut Facts| {
        dead_parent(f);
        f.credential.state = CredentialState::Revoked { at: NOW };
    };
    assert_eq!(verdict_of_chain(dead_too), Err(Denial::RevokedCredential));
    assert_eq!(verdict_of_chain(|f| f.tenant.active = false), Err(Denial::InactiveTenant));
}

fn idle(last_used: i64, timeout: u64) -> IdleTimeout {
    IdleTimeout {
        timeout: Duration::from_millis(timeout),
        last_used: UnixMillis(last_used),
    }
}

#[test]
fn a_sliding_credential_dies_when_it_was_not_used_for_its_timeout() {
    for (unused, is_good) in [(0, true), (9, true), (10, false), (11, false)] {
        let slide = |f: &mut Facts| f.credential.extras_mut().idle = Some(idle(NOW.0 - unused, 10));
        let mut facts = samples::facts("client", "s_1", "acme");
        slide(&mut facts);
        assert_eq!(is_idle(&facts, NOW), !is_good);
        let expected = if is_good { Ok(()) } else { Err(Denial::ExpiredCredential) };
        assert_eq!(check(&facts, NOW), expected, "unused for {unused} ms of 10");
        facts.credential.expires_at = Some(NOW);
        assert_eq!(
            check(&facts, NOW),
            Err(Denial::ExpiredCredential),
            "no use moves the absolute limit"
        );
    }
}

/// The facts of a session with a linked account: sign-on, account, link, provider. Each was made a second after the one that had to
/// be there before; the account is the oldest.
fn linked() -> Facts {
    let mut facts = samples::facts("session", "ses_1", "acme");
    let record = |surface: &str, id: &str, made: i64| {
        let mut record = samples::facts(surface, id, "acme").credential;
        record.created_at = UnixMillis(made);
        record
    };
    let named = |record: &CredentialRecord| Parent {
        surface: record.surface.clone(),
        id: record.id.clone(),
    };
    let (account, provider) = (record("account", "acc_1", 1_000), record("provider", "prv_1", 2_000));
    let (mut link, mut sign_on) = (record("account", "lnk_1", 3_000), record("sign_on", "sgn_1", 4_000));
    link.extras_mut().parent = Some(named(&provider));
    link.extras_mut().account = Some(account.id.clone());
    sign_on.extras_mut().parent = Some(named(&account));
    sign_on.extras_mut().link = Some(named(&link));
    facts.credential.created_at = UnixMillis(5_000);
    facts.credential.extras_mut().parent = Some(named(&sign_on));
    facts.ancestors = vec![sign_on, account, link, provider];
    facts
}

#[test]
fn the_account_the_link_and_the_provider_each_end_a_session_with_a_linked_account() {
    assert_eq!(check(&linked(), NOW), Ok(()));
    for above in 0..4 {
        for (state, denial) in [
            (CredentialState::Disabled, Denial::DisabledCredential),
            (CredentialState::Revoked { at: NOW }, Denial::RevokedCredential),
        ] {
            let mut facts = linked();
            facts.ancestors[above].state = state;
            assert_eq!(check(&facts, NOW), Err(denial), "{above}");
        }
        let mut facts = linked();
        facts.ancestors.remove(above);
        assert_eq!(check(&facts, NOW), Err(Denial::CorruptRecord), "{above} is missing");
    }
}

#[test]
fn a_watermark_of_the_link_ends_what_began_before_it_and_not_the_account_s_next_session() {
    for (above, watermark, expected) in [
        // The sign-on is of 4,000, the session of 5,000; the account is older than all of them.
        (1, 4_001, Err(Denial::RevokedCredential)),
        (1, 4_000, Ok(())),
        (2, 4_001, Err(Denial::RevokedCredential)),
        (2, 4_000, Ok(())),
        (3, 3_001, Err(Denial::RevokedCredential)),
        (3, 3_000, Ok(())),
    ] {
        let mut facts = linked();
        facts.ancestors[above].valid_after = Some(UnixMillis(watermark));
        assert_eq!(check(&facts, NOW), expected, "{above} {watermark}");
    }
}
