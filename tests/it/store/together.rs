//! The contract of `CredentialStore` for records that are changed together with others being made.

use std::time::Duration;

use durward::base::principal::CredentialState;
use durward::store::{ChangeError, CredentialChange, NewRecords};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run};
use super::trees::{child, facts, tree};

super::contract::suite! {
    what_is_made_and_what_is_changed_with_it_is_one_step
    a_change_that_is_refused_lets_nothing_be_made
    changes_of_one_record_are_one_change
    what_is_already_so_is_acknowledged_without_an_event
    of_two_that_replace_the_same_record_at_once_both_are_made
}

fn changes(of: &[(&str, CredentialChange)]) -> NewRecords {
    NewRecords {
        changes: of.iter().map(|(id, change)| (credential_id(id), change.clone())).collect(),
        ..NewRecords::default()
    }
}

async fn what_is_made_and_what_is_changed_with_it_is_one_step(fixture: Fixture) {
    tree(&fixture).await;
    let before = fixture.store.find(fingerprint("key")).await.unwrap().position;
    let end = NOW.plus(Duration::from_secs(60));
    let new = NewRecords {
        credentials: vec![record("next", "acme")],
        ..changes(&[("key", CredentialChange::ExpireAt(end)), ("session", CredentialChange::Revoke)])
    };
    let written = fixture.store.create(new, NOW).await.unwrap();
    let ids: Vec<&str> = written.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["next", "key", "session"], "those made, then those changed");
    assert_eq!(written[1].expires_at, Some(end));
    assert_eq!((written[0].epoch, written[1].epoch), (1, 2));
    let found = fixture.store.find(fingerprint("key")).await.unwrap();
    assert_eq!(found.position.0, before.0 + 3, "an event for each");
    assert_eq!(found.facts.unwrap().credential, written[1]);
    let session = fixture.store.find_credential(credential_id("session")).await.unwrap().unwrap();
    assert_eq!(session.state, CredentialState::Revoked { at: NOW });
    super::fixture::until("the event", async || {
        facts(&fixture, "key").await.credential.expires_at == Some(end)
    })
    .await;
}

async fn a_change_that_is_refused_lets_nothing_be_made(fixture: Fixture) {
    tree(&fixture).await;
    fixture.store.create_credential(record("other", "globex")).await.unwrap();
    fixture.store.create_credential(record("dead", "acme")).await.unwrap();
    let revoke = fixture
        .store
        .change_credential(credential_id("dead"), CredentialChange::Revoke, NOW);
    revoke.await.unwrap();
    let before = fixture.store.find(fingerprint("key")).await.unwrap();
    for (refused, why) in [("nobody", "not there"), ("other", "another tenant's"), ("dead", "revoked")] {
        let new = NewRecords {
            credentials: vec![record("next", "acme"), child("its-child", "next", "acme")],
            ..changes(&[("key", CredentialChange::Disable), (refused, CredentialChange::Disable)])
        };
        let answer = fixture.store.create(new, NOW).await;
        assert!(
            matches!(answer, Err(ChangeError::NotFound(_) | ChangeError::Conflict(_))),
            "{why}: {answer:?}"
        );
    }
    // The other way round: what is to be made cannot be.
    let new = NewRecords {
        credentials: vec![record("key", "acme")],
        ..changes(&[("token", CredentialChange::Disable)])
    };
    assert!(matches!(fixture.store.create(new, NOW).await, Err(ChangeError::Taken(_))));
    let after = fixture.store.find(fingerprint("key")).await.unwrap();
    assert_eq!(
        (after.position, after.facts),
        (before.position, before.facts),
        "nothing was written"
    );
    let token = fixture.store.find_credential(credential_id("token")).await.unwrap().unwrap();
    assert_eq!(token.state, CredentialState::Active);
}

async fn changes_of_one_record_are_one_change(fixture: Fixture) {
    tree(&fixture).await;
    let before = fixture.store.find(fingerprint("key")).await.unwrap().position;
    let both = changes(&[("key", CredentialChange::ValidAfter(NOW)), ("key", CredentialChange::Disable)]);
    let written = fixture.store.create(both, NOW).await.unwrap();
    assert_eq!(written.len(), 1);
    assert_eq!(
        (written[0].valid_after, written[0].state, written[0].epoch),
        (Some(NOW), CredentialState::Disabled, 2)
    );
    let found = fixture.store.find(fingerprint("key")).await.unwrap();
    assert_eq!(found.position.0, before.0 + 1);
    assert_eq!(found.facts.unwrap().credential, written[0]);
}

async fn what_is_already_so_is_acknowledged_without_an_event(fixture: Fixture) {
    tree(&fixture).await;
    let before = fixture.store.find(fingerprint("key")).await.unwrap().position;
    let written = fixture
        .store
        .create(changes(&[("key", CredentialChange::Enable)]), NOW)
        .await
        .unwrap();
    assert_eq!((written.len(), written[0].epoch), (1, 1));
    assert_eq!(fixture.store.find(fingerprint("key")).await.unwrap().position, before);
    assert_eq!(fixture.store.create(NewRecords::default(), NOW).await.unwrap(), []);
}

async fn of_two_that_replace_the_same_record_at_once_both_are_made(fixture: Fixture) {
    tree(&fixture).await;
    let racers: Vec<_> = (0..8)
        .map(|i| {
            let store = fixture.store.clone();
            let end = NOW.plus(Duration::from_secs(100 - i));
            let new = NewRecords {
                credentials: vec![record(&format!("next-{i}"), "acme")],
                ..changes(&[("key", CredentialChange::ExpireAt(end))])
            };
            tokio::spawn(async move { store.create(new, NOW).await })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap().unwrap();
    }
    let key = fixture.store.find_credential(credential_id("key")).await.unwrap().unwrap();
    assert_eq!(key.expires_at, Some(NOW.plus(Duration::from_secs(93))), "the nearest end wins");
}
