//! Holds the rules of changes: what each does, and what none may do.

use super::*;
use crate::base::ids::SurfaceName;
use crate::base::scope::ScopeSet;
use crate::store::codec::tests::sample;

const NOW: UnixMillis = UnixMillis(1_000);
const AT: ChangeTimes = ChangeTimes {
    now: NOW,
    watermark: UnixMillis(2_000),
};

fn in_state(state: CredentialState) -> CredentialRecord {
    CredentialRecord { state, ..sample() }
}

#[test]
fn every_change_of_a_living_credential_raises_its_epoch() {
    for (state, change, after) in [
        (CredentialState::Active, CredentialChange::Disable, CredentialState::Disabled),
        (CredentialState::Disabled, CredentialChange::Enable, CredentialState::Active),
        (
            CredentialState::Active,
            CredentialChange::Revoke,
            CredentialState::Revoked { at: NOW },
        ),
        (
            CredentialState::Disabled,
            CredentialChange::Revoke,
            CredentialState::Revoked { at: NOW },
        ),
    ] {
        let before = in_state(state);
        let ChangeOutcome::Changed(changed) = change_credential(&before, &change, AT).unwrap() else {
            panic!("{change:?} of {state:?} changed nothing");
        };
        assert_eq!(changed.state, after);
        assert_eq!(changed.epoch, before.epoch + 1);
    }
}

#[test]
fn what_is_already_so_is_not_changed() {
    for (state, change) in [
        (CredentialState::Active, CredentialChange::Enable),
        (CredentialState::Disabled, CredentialChange::Disable),
        (CredentialState::Revoked { at: UnixMillis(1) }, CredentialChange::Revoke),
    ] {
        assert_eq!(change_credential(&in_state(state), &change, AT).unwrap(), ChangeOutcome::Unchanged);
    }
}

#[test]
fn a_revoked_credential_stays_revoked() {
    let revoked = in_state(CredentialState::Revoked { at: UnixMillis(1) });
    for change in [
        CredentialChange::Enable,
        CredentialChange::Disable,
        CredentialChange::ExpireAt(UnixMillis(9)),
    ] {
        assert!(matches!(change_credential(&revoked, &change, AT), Err(ChangeError::Conflict(_))));
    }
}

#[test]
fn an_expiry_only_comes_nearer() {
    let mut record = sample();
    for (held, asked, kept) in [(None, 50, 50), (Some(50), 40, 40), (Some(50), 50, 50), (Some(50), 60, 50)] {
        record.expires_at = held.map(UnixMillis);
        let expires = match change_credential(&record, &CredentialChange::ExpireAt(UnixMillis(asked)), AT).unwrap() {
            ChangeOutcome::Changed(changed) => changed.expires_at,
            ChangeOutcome::Unchanged => record.expires_at,
        };
        assert_eq!(expires, Some(UnixMillis(kept)));
    }
}

#[test]
fn only_settings_take_settings_and_only_providers_their_people_and_these_people_s_sessions_take_scopes() {
    let scopes = CredentialChange::SetScopes(ScopeSet::default());
    let of = |surface: &str, parent: Option<&str>| {
        let mut record = sample();
        record.surface = SurfaceName::parse(surface).unwrap();
        record.extras_mut().parent = parent.map(|parent| Parent {
            surface: SurfaceName::parse(parent).unwrap(),
            id: CredentialId::parse("above").unwrap(),
        });
        record
    };
    for (record, taken) in [
        (of("provider", None), true),
        (of("account", Some("provider")), true),
        (of("account", None), false),
        (of("account", Some("api")), false),
        (of("provider_settings", Some("provider")), false),
        (of("sign_on", Some("account")), false),
        // The tombstone of a session that no record has hangs on the provider itself.
        (of("sign_on", Some("provider")), false),
        (of("session", Some("sign_on")), true),
        (of("session", Some("account")), false),
        (of("refresh_token", Some("sign_on")), false),
    ] {
        let changed = change_credential(&record, &scopes, AT);
        assert_eq!(matches!(changed, Ok(ChangeOutcome::Changed(_))), taken, "{}", record.surface);
        assert_eq!(matches!(changed, Err(ChangeError::Conflict(_))), !taken, "{}", record.surface);
    }
    let name = CredentialChange::SetName("Acme".into());
    for (record, taken) in [
        (of("provider", None), true),
        (of("provider_settings", Some("provider")), false),
        (of("account", None), false),
    ] {
        let changed = change_credential(&record, &name, AT);
        assert_eq!(matches!(changed, Err(ChangeError::Conflict(_))), !taken, "{}", record.surface);
        if let Ok(ChangeOutcome::Changed(renamed)) = changed {
            assert_eq!((renamed.name.as_deref(), renamed.epoch), (Some("Acme"), record.epoch + 1));
            assert_eq!(change_credential(&renamed, &name, AT).unwrap(), ChangeOutcome::Unchanged);
        }
    }
    let mut settings = of("provider_settings", Some("provider"));
    settings.extras_mut().settings = Some("{}".into());
    let same = CredentialChange::SetSettings("{}".into());
    assert_eq!(change_credential(&settings, &same, AT).unwrap(), ChangeOutcome::Unchanged);
    let other = CredentialChange::SetSettings("{\"a\":1}".into());
    let ChangeOutcome::Changed(changed) = change_credential(&settings, &other, AT).unwrap() else {
        panic!("they are others")
    };
    assert_eq!(changed.settings().map(|text| &**text), Some("{\"a\":1}"));
    assert_eq!(changed.epoch, settings.epoch + 1);
}
