//! The contract of `CredentialStore` for roles, uses and lists: case by case, for embedded and Redis,
//! cached and not.

use std::time::Duration;

use durward::base::clock::{Clock, UnixMillis};
use durward::base::ids::{RoleId, Subject};
use durward::base::principal::{ClaimValue, IdleTimeout, PasswordHash, RecordClaims, RoleRecord};
use durward::base::scope::{Scope, ScopeSet};
use durward::store::cached::LookupOrigin;
use durward::store::{ChangeError, CredentialChange, CredentialFilter, RoleChange};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, tenant, until};
use super::trees::{change, child, facts, tenants, tree};

super::contract::suite! {
    a_changed_role_reaches_its_holders
    roles_belong_to_one_tenant_and_are_few
    roles_and_passwords_of_a_record_are_replaced
    a_use_is_merged_and_makes_no_event
    a_use_that_another_gateway_told_is_seen_when_facts_are_read_again
    lists_are_filtered_by_parent_subject_claim_and_life
}

fn scopes(words: &[&str]) -> ScopeSet {
    words.iter().map(|word| Scope::parse(word).unwrap()).collect()
}

fn role(name: &str, owner: &str) -> RoleRecord {
    RoleRecord {
        id: RoleId::of_name(name),
        tenant: Some(tenant(owner)),
        name: name.into(),
        description: Some("what it is for".into()),
        scopes: scopes(&["orders:read", "orders:write"]),
        created_at: NOW,
        epoch: 1,
    }
}

async fn a_changed_role_reaches_its_holders(fixture: Fixture) {
    tenants(&fixture).await;
    let clerk = fixture.store.create_role(role("clerk", "acme")).await.unwrap();
    let mut holder = record("holder", "acme");
    holder.extras_mut().roles = vec![clerk.id.clone(), RoleId::of_name("of-the-configuration")];
    fixture.store.create_credential(holder).await.unwrap();
    let held = async || -> Vec<String> {
        let facts = facts(&fixture, "holder").await;
        facts.roles.iter().map(|role| role.scopes.joined().to_owned()).collect()
    };
    assert_eq!(held().await, ["orders:read orders:write"]);
    let narrowed = RoleChange::SetScopes(scopes(&["orders:read"]));
    let changed = fixture.store.change_role(clerk.id.clone(), narrowed.clone()).await.unwrap();
    assert_eq!((changed.scopes.joined(), changed.epoch), ("orders:read", 2));
    until("the narrowed role", async || held().await == ["orders:read"]).await;
    let again = fixture.store.change_role(clerk.id.clone(), narrowed).await.unwrap();
    assert_eq!(again.epoch, 2, "what is already so is not changed");
    fixture.store.delete_role(clerk.id.clone()).await.unwrap();
    until("the deleted role to be gone", async || held().await.is_empty()).await;
    let gone = fixture.store.delete_role(clerk.id).await;
    assert!(matches!(gone, Err(ChangeError::NotFound(_))), "{gone:?}");
    assert!(
        fixture.find(fingerprint("holder")).await.unwrap().is_some(),
        "without its last role it is still found"
    );
}

async fn roles_belong_to_one_tenant_and_are_few(fixture: Fixture) {
    tenants(&fixture).await;
    let clerk = fixture.store.create_role(role("clerk", "acme")).await.unwrap();
    let renamed = RoleChange::Rename {
        name: "Clerk".into(),
        description: None,
    };
    let renamed = fixture.store.change_role(clerk.id.clone(), renamed).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.description.clone()), ("Clerk", None));
    assert_eq!(fixture.store.find_role(clerk.id.clone()).await.unwrap(), Some(renamed.clone()));
    assert_eq!(fixture.store.list_roles(tenant("acme")).await.unwrap(), [renamed]);
    assert!(fixture.store.list_roles(tenant("globex")).await.unwrap().is_empty());
    assert_eq!(fixture.store.find_role(RoleId::of_name("nobody")).await.unwrap(), None);
    // A holder of another tenant holds nothing by it.
    let mut stranger = record("stranger", "globex");
    stranger.extras_mut().roles = vec![clerk.id.clone()];
    fixture.store.create_credential(stranger).await.unwrap();
    assert!(facts(&fixture, "stranger").await.roles.is_empty());
    let again = fixture.store.create_role(role("clerk", "globex")).await;
    assert!(matches!(again, Err(ChangeError::Taken(_))), "{again:?}");
    let nobodys = fixture.store.create_role(role("other", "nobody")).await;
    assert!(matches!(nobodys, Err(ChangeError::NotFound(_))), "{nobodys:?}");
    let mut of_all = role("other", "acme");
    of_all.tenant = None;
    let refused = fixture.store.create_role(of_all).await;
    assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    for i in 1..durward::store::MAX_TENANT_ROLES {
        fixture.store.create_role(role(&format!("role-{i}"), "acme")).await.unwrap();
    }
    let beyond = fixture.store.create_role(role("one-more", "acme")).await;
    assert!(matches!(beyond, Err(ChangeError::Conflict(_))), "{beyond:?}");
    let all = fixture.store.list_roles(tenant("acme")).await.unwrap();
    assert_eq!(all.len(), durward::store::MAX_TENANT_ROLES);
    assert!(all.is_sorted_by(|a, b| a.id < b.id));
}

async fn roles_and_passwords_of_a_record_are_replaced(fixture: Fixture) {
    tree(&fixture).await;
    let clerk = fixture.store.create_role(role("clerk", "acme")).await.unwrap();
    assert!(facts(&fixture, "key").await.roles.is_empty());
    let roles = vec![clerk.id.clone(), clerk.id.clone()];
    change(&fixture, "key", CredentialChange::SetRoles(roles)).await;
    until("the role", async || facts(&fixture, "key").await.roles.len() == 1).await;
    assert_eq!(facts(&fixture, "key").await.credential.roles(), [clerk.id]);
    change(&fixture, "key", CredentialChange::SetRoles(Vec::new())).await;
    until("no role", async || facts(&fixture, "key").await.roles.is_empty()).await;
    assert_eq!(facts(&fixture, "key").await.credential.extras, None);
    let many = (0..=durward::base::principal::MAX_ROLES)
        .map(|i| RoleId::of_name(&i.to_string()))
        .collect();
    let refused = fixture
        .store
        .change_credential(credential_id("key"), CredentialChange::SetRoles(many), NOW)
        .await;
    assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    let hash = PasswordHash::parse("$argon2id$v=19$other").unwrap();
    change(&fixture, "key", CredentialChange::SetPassword(hash.clone())).await;
    until("the password", async || {
        facts(&fixture, "key").await.credential.password() == Some(&hash)
    })
    .await;
    assert_eq!(facts(&fixture, "session").await.ancestors.len(), 2, "the tree still holds together");
}

async fn a_use_is_merged_and_makes_no_event(fixture: Fixture) {
    tenants(&fixture).await;
    let mut sliding = record("sliding", "acme");
    sliding.extras_mut().idle = Some(IdleTimeout {
        timeout: Duration::from_secs(60),
        last_used: UnixMillis(0),
    });
    let made = fixture.store.create_credential(sliding).await.unwrap();
    assert_eq!(made.idle().unwrap().last_used, NOW, "it is used when it is made");
    fixture.store.create_credential(child("below", "sliding", "acme")).await.unwrap();
    let position = fixture.store.find(fingerprint("sliding")).await.unwrap().position;
    let at = |seconds: i64| UnixMillis(NOW.0 + seconds * 1000);
    for (used, known) in [(10, 10), (30, 30), (20, 30)] {
        let uses = vec![(credential_id("sliding"), at(used)), (credential_id("nobody"), at(used))];
        fixture.store.touch(uses).await.unwrap();
        let found = fixture.store.find(fingerprint("sliding")).await.unwrap();
        assert_eq!(found.position, position, "a use is no change");
        assert_eq!(found.facts.unwrap().credential.idle().unwrap().last_used, at(known));
    }
    let below = fixture.store.find(fingerprint("below")).await.unwrap().facts.unwrap();
    assert_eq!(below.ancestors[0].idle().unwrap().last_used, at(30), "also as an ancestor");
    let read = fixture.store.find_credential(credential_id("sliding")).await.unwrap().unwrap();
    assert_eq!((read.idle().unwrap().last_used, read.epoch), (at(30), 1));
    change(&fixture, "sliding", CredentialChange::Disable).await;
    change(&fixture, "sliding", CredentialChange::Enable).await;
    let read = fixture.store.find_credential(credential_id("sliding")).await.unwrap().unwrap();
    assert_eq!(read.idle().unwrap().last_used, at(30), "a change does not lose it");
}

async fn a_use_that_another_gateway_told_is_seen_when_facts_are_read_again(fixture: Fixture) {
    tenants(&fixture).await;
    let mut sliding = record("sliding", "acme");
    sliding.extras_mut().idle = Some(IdleTimeout {
        timeout: Duration::from_secs(60),
        last_used: NOW,
    });
    fixture.store.create_credential(sliding).await.unwrap();
    let known = async || facts(&fixture, "sliding").await.credential.idle().unwrap().last_used;
    assert_eq!(known().await, NOW);
    let used = UnixMillis(NOW.0 + 50_000);
    fixture.store.touch(vec![(credential_id("sliding"), used)]).await.unwrap();
    let Some(cache) = &fixture.cache else {
        assert_eq!(known().await, used);
        return;
    };
    assert_eq!(known().await, NOW, "a use makes no event, so remembered facts do not know it");
    fixture.clock.advance(Duration::from_secs(2));
    let now = fixture.clock.now().boot;
    let newer = cache
        .load_since(fingerprint("sliding"), now, LookupOrigin::Proven)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((newer.credential.idle().unwrap().last_used, newer.sent_at()), (used, now));
    assert_eq!(known().await, used, "and it is remembered");
    let loads = cache.figures().loads;
    cache.load_since(fingerprint("sliding"), now, LookupOrigin::Proven).await.unwrap();
    assert_eq!(cache.figures().loads, loads, "what is young enough is not read again");
}

async fn lists_are_filtered_by_parent_subject_claim_and_life(fixture: Fixture) {
    tree(&fixture).await;
    let mut full = child("full", "key", "acme");
    full.subject = Some(Subject::parse("s-1").unwrap());
    full.extras_mut().claims = RecordClaims::new([("tid".to_owned(), ClaimValue::Text("tx-1".into()))]).unwrap();
    full.expires_at = Some(UnixMillis(NOW.0 + 10));
    fixture.store.create_credential(full).await.unwrap();
    let all = CredentialFilter {
        tenant: Some(tenant("acme")),
        limit: 100,
        ..CredentialFilter::default()
    };
    let ids = async |filter: CredentialFilter| -> Vec<String> {
        let listed = fixture.store.list_credentials(filter).await.unwrap();
        listed.iter().map(|r| r.id.to_string()).collect()
    };
    assert_eq!(ids(all.clone()).await, ["full", "key", "session", "token"]);
    let mut of_key = all.clone();
    of_key.parent = Some(credential_id("key"));
    assert_eq!(ids(of_key).await, ["full", "token"]);
    let mut of_subject = all.clone();
    of_subject.subject = Some(Subject::parse("s-1").unwrap());
    assert_eq!(ids(of_subject).await, ["full"]);
    for (text, found) in [("tx-1", &["full"] as &[&str]), ("tx-2", &[])] {
        let mut of_claim = all.clone();
        of_claim.claim = Some(("tid".into(), text.into()));
        assert_eq!(ids(of_claim).await, found);
    }
    change(&fixture, "token", CredentialChange::Revoke).await;
    let mut live = all;
    live.live_at = Some(UnixMillis(NOW.0 + 9));
    assert_eq!(ids(live.clone()).await, ["full", "key", "session"]);
    live.live_at = Some(UnixMillis(NOW.0 + 10));
    assert_eq!(ids(live).await, ["key", "session"]);
}
