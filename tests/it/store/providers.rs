//! The contract of `CredentialStore` for identity providers: a provider with its settings, a person, a sign-on, a session.

use std::sync::Arc;

use durward::base::denial::Denial;
use durward::base::fingerprint::Fingerprint;
use durward::base::ids::{CredentialId, SurfaceName};
use durward::base::principal::{
    CredentialRecord, CredentialState, MAX_REFRESH_TOKEN_TEXT, MAX_SETTINGS, PROVIDER_SETTINGS_SURFACE, PROVIDER_SURFACE, Parent,
    REFRESH_TOKEN_SURFACE, SIGN_ON_SURFACE,
};
use durward::base::scope::{Scope, ScopeSet};
use durward::decide::scope_grants::ScopeGrants;
use durward::decide::validity;
use durward::store::{ChangeError, CredentialChange, EventSubject, NewRecords, RestsOn, StoredFacts};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, until};
use super::trees::{change, facts, tenants};

super::contract::suite! {
    settings_are_found_by_the_id_of_their_provider_and_with_it
    a_session_by_sign_on_is_found_with_its_whole_chain
    what_ends_a_provider_a_person_or_a_sign_on_ends_the_session
    the_ceiling_of_a_provider_bounds_its_people
    scopes_change_for_providers_their_people_and_these_people_s_sessions_only
    a_refresh_token_is_found_with_its_sign_on_and_ends_with_it
    settings_change_where_they_are_and_nowhere_else
    a_sign_on_that_rests_on_changed_settings_is_not_made
}

pub(super) fn of_surface(name: &str, id: &str) -> CredentialRecord {
    let surface = SurfaceName::parse(name).unwrap();
    CredentialRecord {
        surface,
        fingerprint: fingerprint(id),
        mode: None,
        scopes: ScopeSet::default(),
        ..record(id, "acme")
    }
}

pub(super) fn below(parent: &CredentialRecord, mut child: CredentialRecord) -> CredentialRecord {
    child.extras_mut().parent = Some(Parent {
        surface: parent.surface.clone(),
        id: parent.id.clone(),
    });
    child.extras_mut().granted = Some(ScopeSet::default());
    child
}

pub(super) fn scopes(words: &[&str]) -> ScopeSet {
    words.iter().map(|word| Scope::parse(word).unwrap()).collect()
}

fn settings_surface() -> SurfaceName {
    SurfaceName::parse(PROVIDER_SETTINGS_SURFACE).unwrap()
}

fn provider() -> CredentialRecord {
    CredentialRecord {
        scopes: scopes(&["orders:read", "orders:write"]),
        ..of_surface(PROVIDER_SURFACE, "prv_1")
    }
}

fn settings(text: &str) -> CredentialRecord {
    let mut settings = below(&provider(), of_surface(PROVIDER_SETTINGS_SURFACE, "prv_1:settings"));
    settings.fingerprint = Fingerprint::of_id(&settings_surface(), &credential_id("prv_1"));
    settings.extras_mut().settings = Some(text.into());
    settings
}

/// A provider, its settings, a person, a sign-on and a session, made as a first sign-on makes them.
async fn signed_on(fixture: &Fixture) {
    tenants(fixture).await;
    let person = CredentialRecord {
        scopes: scopes(&["orders:read"]),
        ..below(&provider(), of_surface("account", "acc_1"))
    };
    let sign_on = below(&person, of_surface(SIGN_ON_SURFACE, "sgn_1"));
    let session = CredentialRecord {
        scopes: scopes(&["orders:read", "orders:write"]),
        ..below(&sign_on, of_surface("session", "ses_1"))
    };
    for credentials in [vec![provider(), settings("{}")], vec![person, sign_on, session]] {
        let new = NewRecords {
            credentials,
            ..NewRecords::default()
        };
        fixture.store.create(new, NOW).await.unwrap();
    }
}

async fn found_settings(fixture: &Fixture) -> StoredFacts {
    let by = Fingerprint::of_id(&settings_surface(), &credential_id("prv_1"));
    fixture.store.find(by).await.unwrap().facts.expect("they were made")
}

async fn settings_are_found_by_the_id_of_their_provider_and_with_it(fixture: Fixture) {
    signed_on(&fixture).await;
    let found = found_settings(&fixture).await;
    assert_eq!(found.credential.settings().map(|text| &**text), Some("{}"));
    assert_eq!(found.ancestors.iter().map(|a| a.id.as_str()).collect::<Vec<_>>(), ["prv_1"]);
    assert_eq!(found.credential.pepper, None, "an id finds them");
    assert_eq!(
        facts(&fixture, "prv_1").await.credential.settings(),
        None,
        "the provider itself stays small"
    );
}

async fn a_session_by_sign_on_is_found_with_its_whole_chain(fixture: Fixture) {
    signed_on(&fixture).await;
    let key = CredentialRecord {
        scopes: scopes(&["orders:read"]),
        ..below(&of_surface("session", "ses_1"), record("key", "acme"))
    };
    fixture.store.create_credential(key).await.unwrap();
    let found = facts(&fixture, "key").await;
    let above: Vec<&str> = found.ancestors.iter().map(|a| a.id.as_str()).collect();
    assert_eq!(above, ["ses_1", "sgn_1", "acc_1", "prv_1"]);
    let session = facts(&fixture, "ses_1").await;
    assert_eq!(session.hangs_on().unwrap().0.id.as_str(), "acc_1");
}

async fn what_ends_a_provider_a_person_or_a_sign_on_ends_the_session(fixture: Fixture) {
    signed_on(&fixture).await;
    for above in ["prv_1", "acc_1", "sgn_1"] {
        for (step, judged) in [
            (CredentialChange::Disable, Err(Denial::DisabledCredential)),
            (CredentialChange::Enable, Ok(())),
        ] {
            change(&fixture, above, step).await;
            until("the session to follow", async || {
                validity::check(&facts(&fixture, "ses_1").await, NOW) == judged
            })
            .await;
        }
    }
    change(&fixture, "prv_1", CredentialChange::Revoke).await;
    until("the session to end", async || {
        validity::check(&facts(&fixture, "ses_1").await, NOW) == Err(Denial::RevokedCredential)
    })
    .await;
}

async fn the_ceiling_of_a_provider_bounds_its_people(fixture: Fixture) {
    signed_on(&fixture).await;
    let may = async || {
        let found = facts(&fixture, "ses_1").await;
        let grants = ScopeGrants::default();
        let may = grants.effective_scopes(&found).unwrap_or_else(|| found.credential.scopes.clone());
        may.joined().to_owned()
    };
    assert_eq!(may().await, "orders:read", "the person has less than the session was given");
    change(
        &fixture,
        "acc_1",
        CredentialChange::SetScopes(scopes(&["orders:read", "orders:write", "people:write"])),
    )
    .await;
    until("the wider person", async || may().await == "orders:read orders:write").await;
    change(&fixture, "prv_1", CredentialChange::SetScopes(scopes(&["orders:write"]))).await;
    until("the lower ceiling", async || may().await == "orders:write").await;
}

async fn scopes_change_for_providers_their_people_and_these_people_s_sessions_only(fixture: Fixture) {
    signed_on(&fixture).await;
    let wide = scopes(&["a:read", "b:read"]);
    for id in ["prv_1", "acc_1", "ses_1"] {
        let made = fixture.recorder.events().len();
        for _ in 0..2 {
            let set = CredentialChange::SetScopes(wide.clone());
            let changed = fixture.store.change_credential(credential_id(id), set, NOW).await.unwrap();
            assert_eq!(
                (&changed.scopes, changed.epoch),
                (&wide, 2),
                "{id}: the second time it is so already"
            );
        }
        fixture.recorder.wait_for(made + 1).await;
    }
    fixture.store.create_credential(record("key", "acme")).await.unwrap();
    fixture
        .store
        .create_credential(below(&record("key", "acme"), of_surface("account", "acc_2")))
        .await
        .unwrap();
    fixture
        .store
        .create_credential(below(&of_surface("session", "ses_1"), record("key_2", "acme")))
        .await
        .unwrap();
    for id in ["key", "key_2", "acc_2", "sgn_1", "prv_1:settings"] {
        let refused = fixture
            .store
            .change_credential(credential_id(id), CredentialChange::SetScopes(wide.clone()), NOW)
            .await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{id}: {refused:?}");
    }
}

async fn settings_change_where_they_are_and_nowhere_else(fixture: Fixture) {
    signed_on(&fixture).await;
    let id = credential_id("prv_1:settings");
    let made = fixture.recorder.wait_for(7).await.len();
    let set = |text: &str| CredentialChange::SetSettings(text.into());
    let changed = fixture.store.change_credential(id.clone(), set("{\"a\":1}"), NOW).await.unwrap();
    assert_eq!((changed.settings().map(|text| &**text), changed.epoch), (Some("{\"a\":1}"), 2));
    let event = fixture.recorder.wait_for(made + 1).await.pop().unwrap();
    let EventSubject::Credential { fingerprints, .. } = event.subject else {
        panic!("it is about a credential")
    };
    let by_provider = Fingerprint::of_id(&settings_surface(), &credential_id("prv_1"));
    assert!(fingerprints.contains(&by_provider), "who remembers the settings hears of it");
    fixture.store.change_credential(id.clone(), set("{\"a\":1}"), NOW).await.unwrap();
    assert_eq!(found_settings(&fixture).await.credential.epoch, 2, "it is so already");

    for (id, text) in [
        ("prv_1", "{}".to_owned()),
        ("acc_1", "{}".to_owned()),
        ("prv_1:settings", "x".repeat(MAX_SETTINGS + 1)),
        ("prv_1:settings", "{\n}".to_owned()),
    ] {
        let refused = fixture.store.change_credential(credential_id(id), set(&text), NOW).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{id}: {refused:?}");
    }
    let mut with = record("key", "acme");
    with.extras_mut().settings = Some(Arc::from("{}"));
    let mut without = settings("{}");
    without.id = CredentialId::parse("prv_2:settings").unwrap();
    without.fingerprint = fingerprint("prv_2");
    without.extras_mut().settings = None;
    for wrong in [with, without] {
        let refused = fixture.store.create_credential(wrong).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    }
    // The largest settings are stored, and found again.
    let largest = format!("\"{}\"", "x".repeat(MAX_SETTINGS - 2));
    fixture.store.change_credential(id, set(&largest), NOW).await.unwrap();
    let found = found_settings(&fixture).await.credential;
    assert_eq!(found.settings().map(|text| &**text), Some(largest.as_str()));
}

async fn a_refresh_token_is_found_with_its_sign_on_and_ends_with_it(fixture: Fixture) {
    signed_on(&fixture).await;
    let sign_on = of_surface(SIGN_ON_SURFACE, "sgn_1");
    let of_text = |text: Option<String>| {
        let mut token = below(&sign_on, of_surface(REFRESH_TOKEN_SURFACE, "sgn_1:refresh"));
        token.fingerprint = Fingerprint::of_id(&token.surface, &token.id);
        token.extras_mut().settings = text.map(Arc::from);
        token
    };
    for wrong in [None, Some("x".repeat(MAX_REFRESH_TOKEN_TEXT + 1))] {
        let refused = fixture.store.create_credential(of_text(wrong)).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    }
    let token = of_text(Some("{}".into()));
    fixture.store.create_credential(token.clone()).await.unwrap();
    let largest = "x".repeat(MAX_REFRESH_TOKEN_TEXT);
    change(&fixture, "sgn_1:refresh", CredentialChange::SetSettings(largest.as_str().into())).await;
    let found = fixture.store.find(token.fingerprint).await.unwrap().facts.unwrap();
    let above: Vec<&str> = found.ancestors.iter().map(|a| a.id.as_str()).collect();
    assert_eq!(above, ["sgn_1", "acc_1", "prv_1"]);
    assert_eq!(found.credential.settings().map(|text| &**text), Some(largest.as_str()));
    // A look-up of the session reads none of it.
    let session = facts(&fixture, "ses_1").await;
    assert!(session.ancestors.iter().all(|a| a.settings().is_none()));
    change(&fixture, "sgn_1", CredentialChange::Revoke).await;
    let found = fixture.store.find(token.fingerprint).await.unwrap().facts.unwrap();
    let judged = validity::check_found(&found.credential, &found.ancestors, &found.tenant, NOW);
    assert_eq!(judged, Err(Denial::RevokedCredential));
}

async fn a_sign_on_that_rests_on_changed_settings_is_not_made(fixture: Fixture) {
    signed_on(&fixture).await;
    let resting = |on: &StoredFacts, id: &str| NewRecords {
        credentials: vec![below(&provider(), of_surface("account", id))],
        rests_on: RestsOn::found(on),
        ..NewRecords::default()
    };
    let judged = found_settings(&fixture).await;
    fixture.store.create(resting(&judged, "acc_2"), NOW).await.unwrap();
    change(&fixture, "prv_1:settings", CredentialChange::SetSettings("{\"b\":2}".into())).await;
    let late = fixture.store.create(resting(&judged, "acc_3"), NOW).await;
    assert!(matches!(late, Err(ChangeError::Stale)), "{late:?}");
    let judged = found_settings(&fixture).await;
    change(&fixture, "prv_1", CredentialChange::Disable).await;
    let late = fixture.store.create(resting(&judged, "acc_3"), NOW).await;
    assert!(matches!(late, Err(ChangeError::Stale)), "{late:?}");
    let judged = found_settings(&fixture).await;
    assert_eq!(judged.ancestors[0].state, CredentialState::Disabled);
    fixture.store.create(resting(&judged, "acc_3"), NOW).await.unwrap();
}
