//! The contract of `CredentialStore` for records that hang on others: case by case, for embedded and
//! Redis, cached and not.

use std::time::Duration;

use durward::base::clock::UnixMillis;
use durward::base::denial::Denial;
use durward::base::fingerprint::Fingerprint;
use durward::base::ids::{RoleId, Subject};
use durward::base::principal::{ClaimValue, CredentialRecord, Facts, IdleTimeout, MAX_ANCESTORS, Parent, PasswordHash, RecordClaims};
use durward::decide::validity;
use durward::store::{ChangeError, CredentialChange, EventSubject, NewRecords, TenantState};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, surface, tenant, until};

super::contract::suite! {
    everything_a_record_has_is_found_again
    a_child_is_found_with_everything_it_hangs_on
    what_ends_a_parent_ends_its_children
    a_tenant_ends_its_trees
    log_out_everywhere_ends_what_was_made_before_and_nothing_else
    nothing_hangs_on_what_is_revoked_missing_or_another_tenants
    a_chain_has_an_end
    records_made_together_are_all_made_or_none
    a_tenant_and_its_first_account_are_made_in_one_step
    of_two_that_race_for_a_log_in_name_one_wins_and_the_other_leaves_nothing
    of_a_creation_and_the_revocation_of_its_parent_one_is_first
    a_tenant_is_found_by_its_own_fingerprint
}

/// A record whose parent is `parent`, of the surface of all records here.
pub(super) fn child(id: &str, parent: &str, owner: &str) -> CredentialRecord {
    let mut child = record(id, owner);
    child.extras_mut().parent = Some(Parent {
        surface: surface(),
        id: credential_id(parent),
    });
    child
}

pub(super) async fn tenants(fixture: &Fixture) {
    for id in ["acme", "globex"] {
        fixture.store.create_tenant(tenant(id), NOW).await.unwrap();
    }
}

/// `key` <- `token` <- `session`, of acme.
pub(super) async fn tree(fixture: &Fixture) {
    tenants(fixture).await;
    fixture.store.create_credential(record("key", "acme")).await.unwrap();
    fixture.store.create_credential(child("token", "key", "acme")).await.unwrap();
    fixture.store.create_credential(child("session", "token", "acme")).await.unwrap();
}

pub(super) async fn facts(fixture: &Fixture, id: &str) -> Facts {
    fixture.facts(fingerprint(id)).await.unwrap().expect("it is there")
}

/// Waits until `id` is judged like this: for what the event stream takes, never for the age of facts,
/// since the clock of the cache stands still.
async fn becomes(fixture: &Fixture, id: &str, verdict: Result<(), Denial>) {
    until(&format!("{id} to become {verdict:?}"), async || {
        validity::check(&facts(fixture, id).await, NOW) == verdict
    })
    .await;
}

pub(super) async fn change(fixture: &Fixture, id: &str, change: CredentialChange) {
    fixture.store.change_credential(credential_id(id), change, NOW).await.unwrap();
}

async fn everything_a_record_has_is_found_again(fixture: Fixture) {
    tree(&fixture).await;
    let mut full = child("full", "key", "acme");
    full.subject = Some(Subject::parse("s-1").unwrap());
    let extras = full.extras_mut();
    extras.roles = vec![RoleId::of_name("a"), RoleId::of_name("b")];
    extras.roles.sort();
    extras.claims = RecordClaims::new([
        ("role".to_owned(), ClaimValue::Text("payer \"quoted\"".into())),
        ("perms".to_owned(), ClaimValue::List(vec!["view".into(), "fund".into()])),
    ])
    .unwrap();
    extras.idle = Some(IdleTimeout {
        timeout: Duration::from_secs(60),
        last_used: NOW,
    });
    extras.login = Some("Ann@Example.com".into());
    extras.password = PasswordHash::parse("$argon2id$v=19$x");
    let made = fixture.store.create_credential(full.clone()).await.unwrap();
    assert_eq!(made, full);
    assert_eq!(facts(&fixture, "full").await.credential, full);
    assert_eq!(fixture.store.find_credential(credential_id("full")).await.unwrap(), Some(full));
}

async fn a_child_is_found_with_everything_it_hangs_on(fixture: Fixture) {
    tree(&fixture).await;
    for (id, above) in [("key", &[] as &[&str]), ("token", &["key"]), ("session", &["token", "key"])] {
        let facts = facts(&fixture, id).await;
        let ancestors: Vec<&str> = facts.ancestors.iter().map(|a| a.id.as_str()).collect();
        assert_eq!(ancestors, above, "{id}");
        assert_eq!(validity::check(&facts, NOW), Ok(()));
    }
}

async fn what_ends_a_parent_ends_its_children(fixture: Fixture) {
    tree(&fixture).await;
    for above in ["key", "token"] {
        becomes(&fixture, "session", Ok(())).await;
        change(&fixture, above, CredentialChange::Disable).await;
        becomes(&fixture, "session", Err(Denial::DisabledCredential)).await;
        change(&fixture, above, CredentialChange::Enable).await;
        becomes(&fixture, "session", Ok(())).await;
    }
    change(&fixture, "token", CredentialChange::ExpireAt(NOW)).await;
    becomes(&fixture, "session", Err(Denial::ExpiredCredential)).await;
    becomes(&fixture, "key", Ok(())).await;
    change(&fixture, "key", CredentialChange::Revoke).await;
    becomes(&fixture, "token", Err(Denial::ExpiredCredential)).await;
    fixture.store.create_credential(record("other", "acme")).await.unwrap();
    fixture
        .store
        .create_credential(child("other-child", "other", "acme"))
        .await
        .unwrap();
    becomes(&fixture, "other-child", Ok(())).await;
    change(&fixture, "other", CredentialChange::Revoke).await;
    becomes(&fixture, "other-child", Err(Denial::RevokedCredential)).await;
}

async fn a_tenant_ends_its_trees(fixture: Fixture) {
    tree(&fixture).await;
    becomes(&fixture, "session", Ok(())).await;
    fixture
        .store
        .set_tenant_active(tenant("acme"), TenantState::Inactive)
        .await
        .unwrap();
    becomes(&fixture, "session", Err(Denial::InactiveTenant)).await;
    fixture.store.set_tenant_active(tenant("acme"), TenantState::Active).await.unwrap();
    becomes(&fixture, "session", Ok(())).await;
}

async fn log_out_everywhere_ends_what_was_made_before_and_nothing_else(fixture: Fixture) {
    tree(&fixture).await;
    let mut later = child("later", "key", "acme");
    later.created_at = UnixMillis(NOW.0 + 5);
    fixture.store.create_credential(later).await.unwrap();
    becomes(&fixture, "session", Ok(())).await;
    change(&fixture, "key", CredentialChange::ValidAfter(UnixMillis(NOW.0 + 5))).await;
    becomes(&fixture, "session", Err(Denial::RevokedCredential)).await;
    becomes(&fixture, "token", Err(Denial::RevokedCredential)).await;
    becomes(&fixture, "later", Ok(())).await;
    becomes(&fixture, "key", Ok(())).await;
    change(&fixture, "key", CredentialChange::ValidAfter(NOW)).await;
    let key = fixture.store.find_credential(credential_id("key")).await.unwrap().unwrap();
    assert_eq!(key.valid_after, Some(UnixMillis(NOW.0 + 5)), "it only grows");
}

async fn nothing_hangs_on_what_is_revoked_missing_or_another_tenants(fixture: Fixture) {
    tree(&fixture).await;
    let mut of_another_surface = child("new", "key", "acme");
    of_another_surface.extras_mut().parent.as_mut().unwrap().surface = durward::base::ids::SurfaceName::parse("other").unwrap();
    for missing in [
        child("new", "nobody", "acme"),
        child("new", "key", "globex"),
        child("new", "new", "acme"),
        of_another_surface,
    ] {
        let refused = fixture.store.create_credential(missing).await;
        assert!(matches!(refused, Err(ChangeError::NotFound(_))), "{refused:?}");
    }
    change(&fixture, "key", CredentialChange::Disable).await;
    fixture
        .store
        .create_credential(child("of-a-disabled-one", "key", "acme"))
        .await
        .unwrap();
    change(&fixture, "key", CredentialChange::Revoke).await;
    for parent in ["key", "token"] {
        let refused = fixture.store.create_credential(child("new", parent, "acme")).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    }
    assert_eq!(fixture.find(fingerprint("new")).await.unwrap(), None);
}

async fn a_chain_has_an_end(fixture: Fixture) {
    tree(&fixture).await;
    fixture.store.create_credential(child("third", "session", "acme")).await.unwrap();
    fixture.store.create_credential(child("fourth", "third", "acme")).await.unwrap();
    fixture.store.create_credential(child("fifth", "fourth", "acme")).await.unwrap();
    becomes(&fixture, "fifth", Ok(())).await;
    let above = fixture.facts(fingerprint("fifth")).await.unwrap().expect("it was made").ancestors;
    assert_eq!(above.len(), MAX_ANCESTORS, "the longest chain is read whole");
    let refused = fixture.store.create_credential(child("sixth", "fifth", "acme")).await;
    assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    let together = NewRecords {
        credentials: vec![child("a", "third", "acme"), child("b", "a", "acme"), child("c", "b", "acme")],
        ..NewRecords::default()
    };
    let refused = fixture.store.create(together, NOW).await;
    assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    assert_eq!(fixture.find(fingerprint("a")).await.unwrap(), None);
}

async fn records_made_together_are_all_made_or_none(fixture: Fixture) {
    tree(&fixture).await;
    let before = fixture.store.find(fingerprint("key")).await.unwrap().position;
    let mut unwritable = record("bad", "acme");
    unwritable.name = Some("two\nlines".into());
    let mut same_key = record("bad", "acme");
    same_key.fingerprint = fingerprint("good");
    for bad in [
        unwritable,
        same_key,
        record("good", "acme"),
        record("key", "acme"),
        record("bad", "globex"),
        child("bad", "nobody", "acme"),
    ] {
        let new = NewRecords {
            credentials: vec![record("good", "acme"), bad.clone()],
            ..NewRecords::default()
        };
        let refused = fixture.store.create(new, NOW).await;
        assert!(refused.is_err(), "{bad:?}");
        assert_eq!(fixture.find(fingerprint("good")).await.unwrap(), None, "{bad:?}");
    }
    let found = fixture.store.find(fingerprint("key")).await.unwrap();
    assert_eq!(found.position, before, "nothing was written");
    let new = NewRecords {
        credentials: vec![record("good", "acme"), child("its-child", "good", "acme")],
        ..NewRecords::default()
    };
    let made = fixture.store.create(new, NOW).await.unwrap();
    assert_eq!(made.len(), 2);
    let position = fixture.store.find(fingerprint("key")).await.unwrap().position;
    assert_eq!(position.0, before.0 + 2, "an event for each");
    until("both", async || fixture.find(fingerprint("its-child")).await.unwrap().is_some()).await;
    becomes(&fixture, "its-child", Ok(())).await;
}

async fn a_tenant_and_its_first_account_are_made_in_one_step(fixture: Fixture) {
    // A shared store is begun by an operator.
    fixture.store.create_tenant(tenant("house"), NOW).await.unwrap();
    let sign_up = |owner: &str, id: &str| NewRecords {
        tenant: Some(tenant(owner)),
        credentials: vec![record(id, owner), child(&format!("{id}-session"), id, owner)],
        ..NewRecords::default()
    };
    fixture.store.create(sign_up("first", "ann"), NOW).await.unwrap();
    becomes(&fixture, "ann-session", Ok(())).await;
    let taken = fixture.store.create(sign_up("second", "ann"), NOW).await;
    assert!(matches!(taken, Err(ChangeError::Taken(_))), "{taken:?}");
    assert_eq!(
        fixture.store.find_tenant(tenant("second")).await.unwrap(),
        None,
        "no tenant without its account"
    );
    let taken = fixture.store.create(sign_up("first", "bob"), NOW).await;
    assert!(matches!(taken, Err(ChangeError::Taken(_))), "{taken:?}");
    assert_eq!(fixture.find(fingerprint("bob")).await.unwrap(), None);
    let subjects: Vec<EventSubject> = fixture.recorder.wait_for(4).await.into_iter().map(|e| e.subject).collect();
    assert_eq!(subjects.len(), 4);
    assert_eq!(subjects[1], EventSubject::Tenant { id: tenant("first") });
}

async fn of_two_that_race_for_a_log_in_name_one_wins_and_the_other_leaves_nothing(fixture: Fixture) {
    tenants(&fixture).await;
    let attempts: Vec<_> = (0..8)
        .map(|i| {
            let store = fixture.store.clone();
            let mut account = record(&format!("account-{i}"), &format!("new-{i}"));
            account.fingerprint = fingerprint("ann.example.com");
            let new = NewRecords {
                tenant: Some(account.tenant.clone()),
                credentials: vec![account],
                ..NewRecords::default()
            };
            tokio::spawn(async move { store.create(new, NOW).await })
        })
        .collect();
    let mut won = Vec::new();
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(made) => won.push(made[0].tenant.clone()),
            Err(error) => assert!(matches!(error, ChangeError::Taken(_)), "{error:?}"),
        }
    }
    assert_eq!(won.len(), 1);
    let all = fixture.store.list_tenants(None, 100).await.unwrap();
    let of_sign_ups: Vec<_> = all
        .iter()
        .filter(|t| t.id.as_str().starts_with("new-"))
        .map(|t| t.id.clone())
        .collect();
    assert_eq!(of_sign_ups, won);
}

async fn of_a_creation_and_the_revocation_of_its_parent_one_is_first(fixture: Fixture) {
    tenants(&fixture).await;
    for round in 0..20 {
        let (parent, child_id) = (format!("parent-{round}"), format!("child-{round}"));
        fixture.store.create_credential(record(&parent, "acme")).await.unwrap();
        let store = fixture.store.clone();
        let id = credential_id(&parent);
        let revocation = tokio::spawn(async move { store.change_credential(id, CredentialChange::Revoke, NOW).await });
        let made = fixture.store.create_credential(child(&child_id, &parent, "acme")).await;
        revocation.await.unwrap().unwrap();
        match made {
            Ok(_) => becomes(&fixture, &child_id, Err(Denial::RevokedCredential)).await,
            Err(error) => {
                assert!(matches!(error, ChangeError::Conflict(_)), "{error:?}");
                assert_eq!(fixture.find(fingerprint(&child_id)).await.unwrap(), None);
            }
        }
    }
}

async fn a_tenant_is_found_by_its_own_fingerprint(fixture: Fixture) {
    tenants(&fixture).await;
    let own = Fingerprint::of_tenant(&tenant("acme"));
    let (anchor, owner) = fixture.find(own).await.unwrap().unwrap();
    assert!(anchor.is_of_tenant() && anchor.scopes.is_empty());
    assert_eq!((anchor.id.as_str(), owner.id), ("acme", tenant("acme")));
    fixture
        .store
        .set_tenant_active(tenant("acme"), TenantState::Inactive)
        .await
        .unwrap();
    until("the tenant to be inactive", async || {
        let facts = fixture.facts(own).await.unwrap().unwrap();
        validity::check(&facts, NOW) == Err(Denial::InactiveTenant)
    })
    .await;
    let new = Fingerprint::of_tenant(&tenant("new"));
    assert_eq!(fixture.find(new).await.unwrap(), None);
    fixture.store.create_tenant(tenant("new"), NOW).await.unwrap();
    until("the new tenant", async || fixture.find(new).await.unwrap().is_some()).await;
    let forged = fixture.store.create_credential(anchor).await;
    assert!(
        matches!(forged, Err(ChangeError::Conflict(_))),
        "nobody makes such a record: {forged:?}"
    );
}
