//! The contract of `CredentialStore` for what ended long ago: it goes, with its events, and nothing else does.

use std::time::Duration;

use durward::base::principal::IdleTimeout;
use durward::store::sweep::sweep;
use durward::store::{CredentialChange, CredentialFilter};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, tenant, until};
use super::trees::{child, tenants};

super::contract::suite! {
    what_ended_long_ago_is_forgotten_and_nothing_else
    a_parent_goes_after_its_children
    a_use_saves_a_sliding_credential
    a_store_that_forgot_everything_is_not_taken_for_a_lost_one
}

#[test]
fn a_broken_record_keeps_no_other_from_being_forgotten_and_lists_can_do_without_it() {
    run(async {
        let fixture = Fixture::redis().await;
        tenants(&fixture).await;
        ending(&fixture, "b-broken", 10).await;
        ending(&fixture, "c-ended", 10).await;
        let fixture = fixture.overwrite_credential("b-broken", b"garbage").await;
        let whole = CredentialFilter {
            limit: 1_000,
            ..CredentialFilter::default()
        };
        let failed = fixture.store.list_credentials(whole.clone()).await.unwrap_err();
        assert!(failed.to_string().contains("b-broken"), "{failed}");
        let others = CredentialFilter {
            passes_over_broken: true,
            ..whole
        };
        assert_eq!(fixture.store.list_credentials(others).await.unwrap().len(), 1);
        assert_eq!(sweep(&*fixture.store, KEEP, NOW.plus(KEEP + KEEP)).await.unwrap(), 1);
        assert_eq!(fixture.store.find_credential(credential_id("c-ended")).await.unwrap(), None);
    });
}

const KEEP: Duration = Duration::from_secs(3_600);

async fn ending(fixture: &Fixture, id: &str, after: u64) {
    let mut ending = record(id, "acme");
    ending.expires_at = Some(NOW.plus(Duration::from_secs(after)));
    fixture.store.create_credential(ending).await.unwrap();
}

async fn ids(fixture: &Fixture) -> Vec<String> {
    let filter = CredentialFilter {
        limit: 1_000,
        ..CredentialFilter::default()
    };
    let all = fixture.store.list_credentials(filter).await.unwrap();
    all.iter().map(|record| record.id.as_str().to_owned()).collect()
}

async fn what_ended_long_ago_is_forgotten_and_nothing_else(fixture: Fixture) {
    tenants(&fixture).await;
    ending(&fixture, "ended", 10).await;
    ending(&fixture, "later", 20).await;
    for lasting in ["lasting", "revoked"] {
        fixture.store.create_credential(record(lasting, "acme")).await.unwrap();
    }
    let revoke = fixture
        .store
        .change_credential(credential_id("revoked"), CredentialChange::Revoke, NOW);
    revoke.await.unwrap();
    until("the event of its making", async || {
        fixture.find(fingerprint("ended")).await.unwrap().is_some()
    })
    .await;
    let before = fixture.store.find(fingerprint("later")).await.unwrap().position;
    let at = |seconds: u64| NOW.plus(KEEP + Duration::from_secs(seconds));
    assert_eq!(
        sweep(&*fixture.store, KEEP, at(10)).await.unwrap(),
        0,
        "not a millisecond too early"
    );
    assert_eq!(sweep(&*fixture.store, KEEP, at(15)).await.unwrap(), 1);
    assert_eq!(ids(&fixture).await, ["lasting", "later", "revoked"]);
    assert_eq!(
        fixture.store.find(fingerprint("later")).await.unwrap().position.0,
        before.0 + 1,
        "with its event"
    );
    assert_eq!(fixture.store.find(fingerprint("ended")).await.unwrap().facts, None);
    assert_eq!(fixture.store.find_credential(credential_id("ended")).await.unwrap(), None);
    until("its event", async || fixture.find(fingerprint("ended")).await.unwrap().is_none()).await;
    // The same id and key may be made again; those of the tombstone may not.
    fixture.store.create_credential(record("ended", "acme")).await.unwrap();
    assert!(fixture.store.create_credential(record("revoked", "acme")).await.is_err());
}

async fn a_parent_goes_after_its_children(fixture: Fixture) {
    tenants(&fixture).await;
    ending(&fixture, "token", 10).await;
    let mut session = child("session", "token", "acme");
    session.expires_at = Some(NOW.plus(Duration::from_secs(9)));
    fixture.store.create_credential(session).await.unwrap();
    let later = NOW.plus(KEEP + KEEP);
    assert_eq!(sweep(&*fixture.store, KEEP, later).await.unwrap(), 1);
    assert_eq!(ids(&fixture).await, ["token"]);
    assert_eq!(sweep(&*fixture.store, KEEP, later).await.unwrap(), 1);
    assert_eq!(ids(&fixture).await, Vec::<String>::new());
}

async fn a_use_saves_a_sliding_credential(fixture: Fixture) {
    tenants(&fixture).await;
    for id in ["used", "unused"] {
        let mut sliding = record(id, "acme");
        sliding.extras_mut().idle = Some(IdleTimeout {
            timeout: Duration::from_secs(60),
            last_used: NOW,
        });
        fixture.store.create_credential(sliding).await.unwrap();
    }
    let touched = fixture.store.touch(vec![(credential_id("used"), NOW.plus(KEEP))]);
    touched.await.unwrap();
    let at = NOW.plus(KEEP + Duration::from_secs(61));
    assert_eq!(sweep(&*fixture.store, KEEP, at).await.unwrap(), 1);
    assert_eq!(ids(&fixture).await, ["used"]);
    assert_eq!(sweep(&*fixture.store, KEEP, at.plus(KEEP)).await.unwrap(), 1);
}

async fn a_store_that_forgot_everything_is_not_taken_for_a_lost_one(fixture: Fixture) {
    forget_the_only_one(&fixture).await;
    assert_eq!(ids(&fixture).await, Vec::<String>::new());
    assert_eq!(
        fixture.store.find(fingerprint("gone")).await.unwrap().facts,
        None,
        "an absence, not a failure"
    );
    assert_eq!(fixture.store.find_credential(credential_id("gone")).await.unwrap(), None);
    fixture.store.create_tenant(tenant("initech"), NOW).await.unwrap();
    fixture.store.create_credential(record("next", "initech")).await.unwrap();
    assert!(fixture.store.find(fingerprint("next")).await.unwrap().facts.is_some());
}

/// The only credential there is: used, and forgotten.
async fn forget_the_only_one(fixture: &Fixture) {
    tenants(fixture).await;
    let mut gone = record("gone", "acme");
    gone.extras_mut().idle = Some(IdleTimeout {
        timeout: Duration::from_secs(60),
        last_used: NOW,
    });
    fixture.store.create_credential(gone).await.unwrap();
    fixture.store.touch(vec![(credential_id("gone"), NOW.plus(KEEP))]).await.unwrap();
    let forgotten = sweep(&*fixture.store, KEEP, NOW.plus(3 * KEEP)).await.unwrap();
    assert_eq!(forgotten, 1);
}
