//! The contract of `CredentialStore` for what a change rests on, for the store's time, and for how much may be made.

use std::time::Duration;

use durward::base::ids::RoleId;
use durward::base::principal::{PasswordHash, RoleRecord};
use durward::base::scope::{Scope, ScopeSet};
use durward::store::{ChangeError, CredentialChange, NewRecords, RecordLimits, RestsOn, RoleChange, TenantState};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, tenant, until};
use super::trees::{change, child, facts, tree};

super::contract::suite! {
    what_rests_on_a_record_that_has_changed_is_not_made
    what_rests_on_unchanged_records_is_made_whatever_else_changes
    what_a_change_rests_on_is_compared_also_when_nothing_is_made
    what_rests_on_a_forgotten_record_is_not_made
    roles_of_what_a_record_hangs_on_come_with_it_and_reach_it
    what_was_made_before_a_log_out_everywhere_has_ended_and_what_is_made_after_lives
    of_a_log_out_and_a_making_at_once_none_survives_that_was_made_before
    the_stores_time_is_never_before_what_it_has_written
    children_of_one_record_are_bounded
    credentials_of_one_tenant_are_bounded
}

fn scopes(words: &[&str]) -> ScopeSet {
    words.iter().map(|word| Scope::parse(word).unwrap()).collect()
}

fn clerk() -> RoleRecord {
    RoleRecord {
        id: RoleId::of_name("clerk"),
        tenant: Some(tenant("acme")),
        name: "clerk".into(),
        description: None,
        scopes: scopes(&["orders:read", "orders:write"]),
        created_at: NOW,
        epoch: 1,
    }
}

/// Makes a record, a change, or both, resting on this.
fn resting(on: &RestsOn, id: &str) -> NewRecords {
    NewRecords {
        credentials: vec![record(id, "acme")],
        changes: vec![(credential_id("other"), CredentialChange::Disable)],
        rests_on: on.clone(),
        ..NewRecords::default()
    }
}

/// The session of a tree two levels deep, whose key holds a role; and another key.
async fn ground(fixture: &Fixture) {
    tree(fixture).await;
    let role = fixture.store.create_role(clerk()).await.unwrap();
    change(fixture, "key", CredentialChange::SetRoles(vec![role.id])).await;
    fixture.store.create_credential(record("other", "acme")).await.unwrap();
}

async fn what_rests_on_a_record_that_has_changed_is_not_made(fixture: Fixture) {
    ground(&fixture).await;
    let store = &fixture.store;
    let hash = PasswordHash::parse("$argon2id$another").unwrap();
    let of = |id: &'static str, what: CredentialChange| async move {
        store.change_credential(credential_id(id), what, NOW).await.map(drop).unwrap();
    };
    for step in 0..9 {
        let judged = RestsOn::facts(&facts(&fixture, "session").await);
        match step {
            0 => of("session", CredentialChange::SetPassword(hash.clone())).await,
            1 => of("key", CredentialChange::EndIssued).await,
            2 => of("token", CredentialChange::ExpireAt(NOW.plus(Duration::from_secs(60)))).await,
            3 => store
                .set_tenant_active(tenant("acme"), TenantState::Inactive)
                .await
                .map(drop)
                .unwrap(),
            4 => store
                .set_tenant_active(tenant("acme"), TenantState::Active)
                .await
                .map(drop)
                .unwrap(),
            5 => {
                let narrower = RoleChange::SetScopes(scopes(&["orders:read"]));
                store.change_role(clerk().id, narrower).await.map(drop).unwrap();
            }
            6 => store.delete_role(clerk().id).await.unwrap(),
            7 => of("key", CredentialChange::SetRoles(Vec::new())).await,
            _ => of("key", CredentialChange::Revoke).await,
        }
        let before = store.find(fingerprint("other")).await.unwrap();
        let refused = store.create(resting(&judged, "made"), NOW).await;
        assert!(matches!(refused, Err(ChangeError::Stale)), "step {step}: {refused:?}");
        let after = store.find(fingerprint("other")).await.unwrap();
        assert_eq!(
            (after.position, after.facts),
            (before.position, before.facts),
            "step {step}: nothing was written"
        );
        assert!(store.find_credential(credential_id("made")).await.unwrap().is_none());
        let anew = RestsOn::facts(&facts(&fixture, "session").await);
        let unmade = NewRecords {
            changes: Vec::new(),
            ..resting(&anew, &format!("made-{step}"))
        };
        store.create(unmade, NOW).await.unwrap();
    }
}

async fn what_rests_on_unchanged_records_is_made_whatever_else_changes(fixture: Fixture) {
    ground(&fixture).await;
    let judged = RestsOn::facts(&facts(&fixture, "session").await);
    fixture.store.create_credential(record("bystander", "acme")).await.unwrap();
    change(&fixture, "bystander", CredentialChange::Revoke).await;
    fixture
        .store
        .set_tenant_active(tenant("globex"), TenantState::Inactive)
        .await
        .unwrap();
    let written = fixture.store.create(resting(&judged, "made"), NOW).await.unwrap();
    assert_eq!(written.len(), 2);
    // A use is no change.
    fixture.store.touch(vec![(credential_id("session"), NOW)]).await.unwrap();
    let again = NewRecords {
        changes: Vec::new(),
        ..resting(&judged, "made-too")
    };
    fixture.store.create(again, NOW).await.unwrap();
}

async fn what_a_change_rests_on_is_compared_also_when_nothing_is_made(fixture: Fixture) {
    ground(&fixture).await;
    let judged = RestsOn::facts(&facts(&fixture, "session").await);
    let only = || NewRecords {
        rests_on: judged.clone(),
        ..NewRecords::default()
    };
    assert_eq!(fixture.store.create(only(), NOW).await.unwrap(), []);
    change(&fixture, "key", CredentialChange::Disable).await;
    assert!(matches!(fixture.store.create(only(), NOW).await, Err(ChangeError::Stale)));
}

async fn what_rests_on_a_forgotten_record_is_not_made(fixture: Fixture) {
    ground(&fixture).await;
    let mut brief = record("brief", "acme");
    brief.expires_at = Some(NOW);
    fixture.store.create_credential(brief).await.unwrap();
    let judged = RestsOn::facts(&facts(&fixture, "brief").await);
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(fixture.store.forget(vec![credential_id("brief")], later).await.unwrap(), 1);
    let refused = fixture.store.create(resting(&judged, "made"), NOW).await;
    assert!(matches!(refused, Err(ChangeError::Stale)), "{refused:?}");
}

async fn roles_of_what_a_record_hangs_on_come_with_it_and_reach_it(fixture: Fixture) {
    ground(&fixture).await;
    let held = async || -> Vec<String> {
        let facts = facts(&fixture, "session").await;
        facts.roles.iter().map(|role| role.scopes.joined().to_owned()).collect()
    };
    until("the role of the key", async || held().await == ["orders:read orders:write"]).await;
    let narrower = RoleChange::SetScopes(scopes(&["orders:read"]));
    fixture.store.change_role(clerk().id, narrower).await.unwrap();
    until("the narrowed role", async || held().await == ["orders:read"]).await;
    fixture.store.delete_role(clerk().id).await.unwrap();
    until("no role", async || held().await.is_empty()).await;
}

async fn what_was_made_before_a_log_out_everywhere_has_ended_and_what_is_made_after_lives(fixture: Fixture) {
    tree(&fixture).await;
    for round in 0..5 {
        let store = &fixture.store;
        let make = async |id: String| {
            let now = store.time().await.unwrap();
            let mut record = child(&id, "key", "acme");
            record.created_at = now;
            let new = NewRecords {
                credentials: vec![record],
                ..NewRecords::default()
            };
            store.create(new, now).await.unwrap().remove(0)
        };
        let before = make(format!("before-{round}")).await;
        // Three changes that must have an order, though all may fall into one millisecond.
        let changed = store
            .change_credential(credential_id("key"), CredentialChange::EndIssued, NOW)
            .await
            .unwrap();
        let after = make(format!("after-{round}")).await;
        let watermark = changed.valid_after.unwrap();
        assert!(before.created_at < watermark, "round {round}: {before:?} {watermark:?}");
        assert!(after.created_at >= watermark, "round {round}: {after:?} {watermark:?}");
    }
}

async fn of_a_log_out_and_a_making_at_once_none_survives_that_was_made_before(fixture: Fixture) {
    tree(&fixture).await;
    for round in 0..10 {
        let judged = RestsOn::facts(&facts(&fixture, "key").await);
        let making = {
            let store = fixture.store.clone();
            tokio::spawn(async move {
                let now = store.time().await.unwrap();
                let mut record = child(&format!("made-{round}"), "key", "acme");
                record.created_at = now;
                let new = NewRecords {
                    credentials: vec![record],
                    rests_on: judged,
                    ..NewRecords::default()
                };
                store.create(new, now).await
            })
        };
        let ended = fixture
            .store
            .change_credential(credential_id("key"), CredentialChange::EndIssued, NOW)
            .await
            .unwrap();
        match making.await.unwrap() {
            // Before the log-out, in the store's order: then it is dead.
            Ok(made) => assert!(made[0].created_at < ended.valid_after.unwrap(), "round {round}"),
            Err(error) => assert!(matches!(error, ChangeError::Stale), "round {round}: {error}"),
        }
    }
}

async fn the_stores_time_is_never_before_what_it_has_written(fixture: Fixture) {
    tree(&fixture).await;
    let far = NOW.plus(Duration::from_secs(3_600));
    let mut made = record("made", "acme");
    made.created_at = far;
    let new = NewRecords {
        credentials: vec![made],
        ..NewRecords::default()
    };
    fixture.store.create(new, far).await.unwrap();
    assert!(fixture.store.time().await.unwrap() >= far);
    let ended = fixture
        .store
        .change_credential(credential_id("made"), CredentialChange::EndIssued, NOW)
        .await
        .unwrap();
    assert!(ended.valid_after.unwrap() > far);
    assert!(fixture.store.time().await.unwrap() >= ended.valid_after.unwrap());
}

fn limited(children: u64, credentials: u64, made: &[(&str, Option<&str>)]) -> NewRecords {
    let made = made.iter().map(|(id, parent)| match parent {
        Some(parent) => child(id, parent, "acme"),
        None => record(id, "acme"),
    });
    NewRecords {
        credentials: made.collect(),
        limits: Some(RecordLimits { children, credentials }),
        ..NewRecords::default()
    }
}

async fn children_of_one_record_are_bounded(fixture: Fixture) {
    // The key of a tree has one child already.
    tree(&fixture).await;
    let create = |children, made: &'static [(&str, Option<&str>)]| fixture.store.create(limited(children, 1_000, made), NOW);
    create(2, &[("second", Some("key"))]).await.unwrap();
    let full = create(2, &[("third", Some("key"))]).await;
    assert!(matches!(full, Err(ChangeError::Full(_))), "{full:?}");
    let together = create(3, &[("third", Some("key")), ("fourth", Some("key"))]).await;
    assert!(matches!(together, Err(ChangeError::Full(_))), "{together:?}");
    create(2, &[("elsewhere", Some("token")), ("nobodys", None)]).await.unwrap();
    // What is forgotten makes room.
    change(&fixture, "second", CredentialChange::ExpireAt(NOW)).await;
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(fixture.store.forget(vec![credential_id("second")], later).await.unwrap(), 1);
    create(2, &[("third", Some("key"))]).await.unwrap();
    let full = create(2, &[("fourth", Some("key"))]).await;
    assert!(matches!(full, Err(ChangeError::Full(_))), "{full:?}");
    // An operator is not bound.
    fixture.store.create_credential(child("operators", "key", "acme")).await.unwrap();
}

async fn credentials_of_one_tenant_are_bounded(fixture: Fixture) {
    // Three credentials.
    tree(&fixture).await;
    let create = |credentials, made: &'static [(&str, Option<&str>)]| fixture.store.create(limited(1_000, credentials, made), NOW);
    create(4, &[("fourth", None)]).await.unwrap();
    let full = create(4, &[("fifth", None)]).await;
    assert!(matches!(full, Err(ChangeError::Full(_))), "{full:?}");
    let together = create(5, &[("fifth", None), ("sixth", None)]).await;
    assert!(matches!(together, Err(ChangeError::Full(_))), "{together:?}");
    let mut brief = record("brief", "acme");
    brief.expires_at = Some(NOW);
    fixture.store.create_credential(brief).await.unwrap();
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(fixture.store.forget(vec![credential_id("brief")], later).await.unwrap(), 1);
    create(5, &[("fifth", None)]).await.unwrap();
}
