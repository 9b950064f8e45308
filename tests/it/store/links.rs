//! The contract of `CredentialStore` for linked accounts: an account, a link of it, and a session that began with the link.

use durward::base::denial::Denial;
use durward::base::principal::{CredentialRecord, MAX_ANCESTORS, PROVIDER_SURFACE, Parent, SIGN_ON_SURFACE};
use durward::base::scope::ScopeSet;
use durward::decide::scope_grants::ScopeGrants;
use durward::decide::validity;
use durward::store::{ChangeError, CredentialChange, NewRecords, RestsOn, TenantState};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, tenant, until};
use super::providers::{below, of_surface, scopes};
use super::trees::{change, facts, tenants};

super::contract::suite! {
    a_session_with_a_linked_account_is_found_with_account_link_and_provider
    the_account_the_link_the_provider_and_the_tenant_each_end_the_session
    the_link_bounds_the_session_and_not_the_account
    a_sign_on_with_a_link_is_made_below_both_or_not_at_all
    a_link_without_its_account_is_never_followed
    of_two_links_of_one_person_one_is_made
}

fn named(record: &CredentialRecord) -> Parent {
    Parent {
        surface: record.surface.clone(),
        id: record.id.clone(),
    }
}

fn account(id: &str) -> CredentialRecord {
    CredentialRecord {
        scopes: scopes(&["orders:read", "orders:write"]),
        ..of_surface("account", id)
    }
}

fn provider() -> CredentialRecord {
    CredentialRecord {
        scopes: scopes(&["orders:read", "orders:write"]),
        ..of_surface(PROVIDER_SURFACE, "prv_1")
    }
}

fn link(id: &str, account: &str) -> CredentialRecord {
    let mut link = CredentialRecord {
        scopes: scopes(&["orders:read"]),
        ..below(&provider(), of_surface("account", id))
    };
    link.extras_mut().account = Some(credential_id(account));
    link
}

fn sign_on(id: &str, account: &CredentialRecord, link: &CredentialRecord) -> CredentialRecord {
    let mut sign_on = below(account, of_surface(SIGN_ON_SURFACE, id));
    sign_on.extras_mut().link = Some(named(link));
    sign_on
}

fn session(id: &str, sign_on: &CredentialRecord) -> CredentialRecord {
    CredentialRecord {
        scopes: scopes(&["orders:read", "orders:write"]),
        ..below(sign_on, of_surface("session", id))
    }
}

fn together(credentials: Vec<CredentialRecord>) -> NewRecords {
    NewRecords {
        credentials,
        ..NewRecords::default()
    }
}

/// Two accounts, a provider, a link of the first, and a session that began with it.
async fn linked(fixture: &Fixture) {
    tenants(fixture).await;
    for record in [provider(), account("acc_1"), account("acc_2"), link("lnk_1", "acc_1")] {
        fixture.store.create_credential(record).await.unwrap();
    }
    let note = sign_on("sgn_1", &account("acc_1"), &link("lnk_1", "acc_1"));
    let new = together(vec![note.clone(), session("ses_1", &note)]);
    fixture.store.create(new, NOW).await.unwrap();
}

fn ids(records: &[CredentialRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

async fn a_session_with_a_linked_account_is_found_with_account_link_and_provider(fixture: Fixture) {
    linked(&fixture).await;
    let found = facts(&fixture, "ses_1").await;
    assert_eq!(ids(&found.ancestors), ["sgn_1", "acc_1", "lnk_1", "prv_1"]);
    assert_eq!(found.hangs_on().unwrap().0.id.as_str(), "acc_1", "the person is the account");
    // A second session hangs on the sign-on that is there.
    let second = session("ses_2", &sign_on("sgn_1", &account("acc_1"), &link("lnk_1", "acc_1")));
    fixture.store.create_credential(second).await.unwrap();
    assert_eq!(ids(&facts(&fixture, "ses_2").await.ancestors), ["sgn_1", "acc_1", "lnk_1", "prv_1"]);
    let key = below(&of_surface("session", "ses_1"), record("key", "acme"));
    fixture.store.create_credential(key).await.unwrap();
    let found = facts(&fixture, "key").await;
    assert_eq!(ids(&found.ancestors), ["ses_1", "sgn_1", "acc_1", "lnk_1", "prv_1"]);
    assert_eq!(found.ancestors.len(), MAX_ANCESTORS);
    // The account and the link themselves have the chains that they would have without each other.
    assert_eq!(ids(&facts(&fixture, "acc_1").await.ancestors), [""; 0]);
    assert_eq!(ids(&facts(&fixture, "lnk_1").await.ancestors), ["prv_1"]);
}

async fn the_account_the_link_the_provider_and_the_tenant_each_end_the_session(fixture: Fixture) {
    linked(&fixture).await;
    let becomes = async |what: &str, judged: Result<(), Denial>| {
        until(what, async || validity::check(&facts(&fixture, "ses_1").await, NOW) == judged).await;
    };
    for above in ["prv_1", "lnk_1", "acc_1", "sgn_1"] {
        change(&fixture, above, CredentialChange::Disable).await;
        becomes(above, Err(Denial::DisabledCredential)).await;
        change(&fixture, above, CredentialChange::Enable).await;
        becomes(above, Ok(())).await;
    }
    for (state, judged) in [(TenantState::Inactive, Err(Denial::InactiveTenant)), (TenantState::Active, Ok(()))] {
        fixture.store.set_tenant_active(tenant("acme"), state).await.unwrap();
        becomes("the tenant", judged).await;
    }
    change(&fixture, "acc_1", CredentialChange::EndIssued).await;
    becomes("log out everywhere", Err(Denial::RevokedCredential)).await;
    assert_eq!(validity::check(&facts(&fixture, "acc_1").await, NOW), Ok(()));
}

async fn the_link_bounds_the_session_and_not_the_account(fixture: Fixture) {
    linked(&fixture).await;
    let may = async |id: &str| {
        let found = facts(&fixture, id).await;
        let grants = ScopeGrants::default();
        let may = grants.effective_scopes(&found).unwrap_or_else(|| found.credential.scopes.clone());
        may.joined().to_owned()
    };
    assert_eq!(may("ses_1").await, "orders:read");
    assert_eq!(may("acc_1").await, "orders:read orders:write");
    let wide = scopes(&["orders:read", "orders:write", "people:write"]);
    change(&fixture, "lnk_1", CredentialChange::SetScopes(wide)).await;
    until("the wider link", async || may("ses_1").await == "orders:read orders:write").await;
    change(&fixture, "prv_1", CredentialChange::SetScopes(scopes(&["orders:write"]))).await;
    until("the lower ceiling", async || may("ses_1").await == "orders:write").await;
    change(&fixture, "prv_1", CredentialChange::SetScopes(ScopeSet::default())).await;
    until("no ceiling is nothing", async || may("ses_1").await.is_empty()).await;
    assert_eq!(may("acc_1").await, "orders:read orders:write");
}

async fn a_sign_on_with_a_link_is_made_below_both_or_not_at_all(fixture: Fixture) {
    linked(&fixture).await;
    fixture.store.create_credential(link("lnk_2", "acc_2")).await.unwrap();
    let (one, two) = (account("acc_1"), account("acc_2"));
    let hanging = below(&one, of_surface("account", "acc_3"));
    fixture.store.create_credential(hanging.clone()).await.unwrap();
    fixture.store.create_credential(link("lnk_3", "acc_3")).await.unwrap();
    for (what, wrong) in [
        ("the link of another", sign_on("new", &one, &link("lnk_2", "acc_2"))),
        ("the account of another", sign_on("new", &two, &link("lnk_1", "acc_1"))),
        ("an account as a link", sign_on("new", &one, &two)),
        (
            "an account that hangs on something",
            sign_on("new", &hanging, &link("lnk_3", "acc_3")),
        ),
    ] {
        let refused = fixture.store.create_credential(wrong).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{what}: {refused:?}");
    }
    let missing = sign_on("new", &one, &link("nobody", "acc_1"));
    let refused = fixture.store.create_credential(missing).await;
    assert!(matches!(refused, Err(ChangeError::NotFound(_))), "{refused:?}");
    change(&fixture, "lnk_1", CredentialChange::Revoke).await;
    let ended = sign_on("new", &one, &link("lnk_1", "acc_1"));
    let refused = fixture.store.create_credential(ended).await;
    assert!(matches!(refused, Err(ChangeError::Conflict(_))), "a revoked link: {refused:?}");
    // The twin: the same with what belongs together.
    fixture
        .store
        .create_credential(sign_on("new", &two, &link("lnk_2", "acc_2")))
        .await
        .unwrap();
    assert_eq!(ids(&facts(&fixture, "new").await.ancestors), ["acc_2", "lnk_2", "prv_1"]);
}

async fn a_link_without_its_account_is_never_followed(fixture: Fixture) {
    linked(&fixture).await;
    // Nothing hangs on a link itself: then its account would not be judged.
    for below_link in [
        below(&link("lnk_1", "acc_1"), of_surface("session", "new")),
        below(&link("lnk_1", "acc_1"), of_surface(SIGN_ON_SURFACE, "new")),
    ] {
        let refused = fixture.store.create_credential(below_link).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    }
    assert_eq!(fixture.find(fingerprint("new")).await.unwrap(), None);
    // Records that could not be read back are not written.
    let mut on_a_key = record("key", "acme");
    on_a_key.extras_mut().account = Some(credential_id("acc_1"));
    let mut on_a_session = session("ses_2", &sign_on("sgn_1", &account("acc_1"), &link("lnk_1", "acc_1")));
    on_a_session.extras_mut().link = Some(named(&link("lnk_1", "acc_1")));
    for wrong in [on_a_key, on_a_session] {
        let refused = fixture.store.create_credential(wrong).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    }
}

async fn of_two_links_of_one_person_one_is_made(fixture: Fixture) {
    linked(&fixture).await;
    let judged = fixture.store.find(fingerprint("acc_2")).await.unwrap().facts.unwrap();
    // Found by the same subject, but of another account.
    let mut second = link("lnk_2", "acc_2");
    second.fingerprint = fingerprint("lnk_1");
    let new = NewRecords {
        credentials: vec![second],
        rests_on: RestsOn::found(&judged),
        ..NewRecords::default()
    };
    let refused = fixture.store.create(new, NOW).await;
    assert!(matches!(refused, Err(ChangeError::Taken(_))), "{refused:?}");
    // Of the same account and provider: the id is made of both.
    let mut again = link("lnk_1", "acc_1");
    again.fingerprint = fingerprint("another-subject");
    let refused = fixture.store.create(together(vec![again]), NOW).await;
    assert!(matches!(refused, Err(ChangeError::Taken(_))), "{refused:?}");
    // What rests on an account that was ended meanwhile is not made.
    change(&fixture, "acc_2", CredentialChange::Disable).await;
    let late = NewRecords {
        credentials: vec![link("lnk_2", "acc_2")],
        rests_on: RestsOn::found(&judged),
        ..NewRecords::default()
    };
    let refused = fixture.store.create(late, NOW).await;
    assert!(matches!(refused, Err(ChangeError::Stale)), "{refused:?}");
}
