//! The contract of `CredentialStore`, case by case, for embedded and Redis, cached and not.

use durward::base::clock::UnixMillis;
use durward::base::fingerprint::Fingerprint;
use durward::base::principal::{CredentialRecord, CredentialState};
use durward::base::scope::Mode;
use durward::store::{ChangeError, CredentialChange, CredentialFilter, Event, EventSubject, IdFilter, StoreError, TenantState, codec};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, surface, tenant, until};

macro_rules! suite {
    ($($case:ident)*) => {
        mod embedded { $(#[test] fn $case() { super::run(async { super::$case(super::Fixture::embedded().await).await }); })* }
        mod redis { $(#[test] fn $case() { super::run(async { super::$case(super::Fixture::redis().await).await }); })* }
        mod cached_embedded { $(#[test] fn $case() { super::run(async { super::$case(super::Fixture::cached_embedded().await).await }); })* }
        mod cached_redis { $(#[test] fn $case() { super::run(async { super::$case(super::Fixture::cached_redis().await).await }); })* }
    };
}
pub(super) use suite;

suite! {
    what_was_created_is_found_by_key_and_by_id
    an_unknown_fingerprint_is_certainly_absent
    a_credential_of_an_unknown_tenant_is_refused
    what_is_taken_is_told_apart_from_a_conflict
    a_record_that_could_not_be_read_back_is_not_written
    lists_are_in_order_of_id_filtered_and_paged
    pages_are_filtered_before_the_cut_and_say_exactly_whether_more_follow
    a_credential_is_disabled_enabled_and_revoked_for_ever
    an_expiry_only_comes_nearer
    a_tenant_is_switched_off_and_on
    changes_of_what_does_not_exist_are_not_found
    every_change_has_its_event_and_positions_grow_by_one
    what_is_already_so_makes_no_event
    a_change_is_seen_by_the_next_look_up
    an_absence_ends_with_the_event_of_its_credential
    concurrent_changes_of_one_record_are_all_made
    f11_a_corrupt_record_is_an_error_and_not_an_absence
    f11_a_swapped_record_is_an_error
    a_stopped_store_is_an_error_and_not_an_absence
    the_store_says_that_it_lives
}

/// Two tenants and a credential of the first.
async fn prepare(fixture: &Fixture) -> CredentialRecord {
    for id in ["acme", "globex"] {
        fixture.store.create_tenant(tenant(id), NOW).await.unwrap();
    }
    fixture.store.create_credential(record("key-1", "acme")).await.unwrap()
}

async fn what_was_created_is_found_by_key_and_by_id(fixture: Fixture) {
    let made = prepare(&fixture).await;
    assert_eq!(made, record("key-1", "acme"));
    for by in [fingerprint("key-1"), Fingerprint::of_id(&surface(), &credential_id("key-1"))] {
        let (credential, owner) = fixture.find(by).await.unwrap().expect("it was created");
        assert_eq!(credential, made);
        assert_eq!((owner.id, owner.active), (tenant("acme"), true));
    }
    assert_eq!(fixture.store.find_credential(credential_id("key-1")).await.unwrap(), Some(made));
    assert_eq!(fixture.store.find_tenant(tenant("acme")).await.unwrap().unwrap().created_at, NOW);
}

async fn an_unknown_fingerprint_is_certainly_absent(fixture: Fixture) {
    prepare(&fixture).await;
    assert_eq!(fixture.find(fingerprint("nobody")).await.unwrap(), None);
    assert_eq!(fixture.store.find_credential(credential_id("nobody")).await.unwrap(), None);
    assert_eq!(fixture.store.find_tenant(tenant("nobody")).await.unwrap(), None);
}

async fn a_credential_of_an_unknown_tenant_is_refused(fixture: Fixture) {
    prepare(&fixture).await;
    let refused = fixture.store.create_credential(record("key-2", "nobody")).await;
    assert!(matches!(refused, Err(ChangeError::NotFound(_))), "{refused:?}");
    assert_eq!(fixture.find(fingerprint("key-2")).await.unwrap(), None);
}

async fn what_is_taken_is_told_apart_from_a_conflict(fixture: Fixture) {
    let first = prepare(&fixture).await;
    let same_id = CredentialRecord {
        fingerprint: fingerprint("another"),
        ..record("key-1", "globex")
    };
    let same_key = CredentialRecord {
        fingerprint: first.fingerprint,
        ..record("key-2", "globex")
    };
    for taken in [same_id, same_key] {
        let refused = fixture.store.create_credential(taken).await;
        assert!(matches!(refused, Err(ChangeError::Taken(_))), "{refused:?}");
    }
    let again = fixture.store.create_tenant(tenant("acme"), NOW).await;
    assert!(matches!(again, Err(ChangeError::Taken(_))), "{again:?}");
    assert_eq!(fixture.find(first.fingerprint).await.unwrap().unwrap().0, first);
    assert_eq!(fixture.find(fingerprint("another")).await.unwrap(), None);
}

async fn a_record_that_could_not_be_read_back_is_not_written(fixture: Fixture) {
    prepare(&fixture).await;
    let unreadable = CredentialRecord {
        name: Some("two\nlines".into()),
        ..record("key-2", "acme")
    };
    let refused = fixture.store.create_credential(unreadable).await;
    assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    assert_eq!(fixture.find(fingerprint("key-2")).await.unwrap(), None);
}

async fn pages_are_filtered_before_the_cut_and_say_exactly_whether_more_follow(fixture: Fixture) {
    prepare(&fixture).await;
    // Of each kind more than a store reads in one round trip.
    for i in 0..90 {
        let id = match i / 30 {
            0 => format!("key_{i:02}"),
            1 => format!("ses_{i:02}"),
            _ => format!("zz-{i:02}"),
        };
        let made = CredentialRecord {
            mode: Some(if i % 15 == 14 { Mode::Test } else { Mode::Live }),
            ..record(&id, "acme")
        };
        fixture.store.create_credential(made).await.unwrap();
    }
    let all = CredentialFilter {
        tenant: Some(tenant("acme")),
        caller_mode: Some(Mode::Test),
        limit: 1_000,
        ..CredentialFilter::default()
    };
    let expected = |ids: &[IdFilter]| -> Vec<&str> {
        let test = ["key_14", "key_29", "ses_44", "ses_59", "zz-74", "zz-89"];
        match ids {
            [IdFilter::NotBeginning(_)] => [&test[..2], &test[4..]].concat(),
            [IdFilter::Beginning(_)] => test[2..4].to_vec(),
            _ => test.to_vec(),
        }
    };
    for of in [Some(tenant("acme")), None] {
        for ids in [IdFilter::All, IdFilter::NotBeginning("ses_"), IdFilter::Beginning("ses_")] {
            for limit in [1, 2, 4, 6, 1_000] {
                let mut seen = Vec::new();
                let mut after = None;
                loop {
                    let filter = CredentialFilter {
                        tenant: of.clone(),
                        ids,
                        limit,
                        after,
                        ..all.clone()
                    };
                    let page = fixture.store.page_credentials(filter).await.unwrap();
                    assert!(page.next.is_none() || page.records.len() == limit);
                    seen.extend(page.records.iter().map(|r| r.id.to_string()).filter(|id| id != "key-1"));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, expected(&[ids]), "{ids:?} {limit}");
            }
        }
    }
}

async fn lists_are_in_order_of_id_filtered_and_paged(fixture: Fixture) {
    prepare(&fixture).await;
    // More than one round trip's worth, made out of order.
    for i in (0..60).rev() {
        let owner = if i % 2 == 0 { "acme" } else { "globex" };
        fixture
            .store
            .create_credential(record(&format!("list-{i:02}"), owner))
            .await
            .unwrap();
    }
    let ids = async |filter: CredentialFilter| -> Vec<String> {
        let listed = fixture.store.list_credentials(filter).await.unwrap();
        listed.iter().map(|r| r.id.to_string()).collect()
    };
    let all = ids(CredentialFilter {
        limit: 1_000,
        ..CredentialFilter::default()
    })
    .await;
    assert_eq!(all.len(), 61);
    assert!(all.is_sorted());
    let page = CredentialFilter {
        after: Some(credential_id("list-03")),
        limit: 2,
        ..CredentialFilter::default()
    };
    assert_eq!(ids(page).await, ["list-04", "list-05"]);
    let of_globex = CredentialFilter {
        tenant: Some(tenant("globex")),
        limit: 3,
        ..CredentialFilter::default()
    };
    assert_eq!(ids(of_globex).await, ["list-01", "list-03", "list-05"]);
    let of_another_surface = CredentialFilter {
        surface: Some(durward::base::ids::SurfaceName::parse("other").unwrap()),
        limit: 10,
        ..CredentialFilter::default()
    };
    assert!(ids(of_another_surface).await.is_empty());
    assert!(ids(CredentialFilter::default()).await.is_empty(), "a limit of zero lists nothing");

    let tenants = fixture.store.list_tenants(None, 10).await.unwrap();
    assert_eq!(tenants.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["acme", "globex"]);
    let rest = fixture.store.list_tenants(Some(tenant("acme")), 10).await.unwrap();
    assert_eq!(rest.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["globex"]);
}

async fn a_credential_is_disabled_enabled_and_revoked_for_ever(fixture: Fixture) {
    prepare(&fixture).await;
    let id = credential_id("key-1");
    let at = UnixMillis(NOW.0 + 5);
    for (epoch, change, state) in [
        (2, CredentialChange::Disable, CredentialState::Disabled),
        (3, CredentialChange::Enable, CredentialState::Active),
        (4, CredentialChange::Revoke, CredentialState::Revoked { at }),
    ] {
        let changed = fixture.store.change_credential(id.clone(), change, at).await.unwrap();
        assert_eq!((changed.state, changed.epoch), (state, epoch));
    }
    for change in [CredentialChange::Enable, CredentialChange::Disable, CredentialChange::ExpireAt(at)] {
        let refused = fixture.store.change_credential(id.clone(), change, at).await;
        assert!(matches!(refused, Err(ChangeError::Conflict(_))), "{refused:?}");
    }
    let later = UnixMillis(at.0 + 1);
    let again = fixture.store.change_credential(id, CredentialChange::Revoke, later).await.unwrap();
    assert_eq!(again.state, CredentialState::Revoked { at }, "the first revocation stands");
    until("the revocation", async || {
        fixture.find(fingerprint("key-1")).await.unwrap().unwrap().0.state == CredentialState::Revoked { at }
    })
    .await;
}

async fn an_expiry_only_comes_nearer(fixture: Fixture) {
    prepare(&fixture).await;
    for (asked, kept) in [(50, 50), (40, 40), (60, 40)] {
        let change = CredentialChange::ExpireAt(UnixMillis(asked));
        let changed = fixture.store.change_credential(credential_id("key-1"), change, NOW).await.unwrap();
        assert_eq!(changed.expires_at, Some(UnixMillis(kept)));
    }
}

async fn a_tenant_is_switched_off_and_on(fixture: Fixture) {
    prepare(&fixture).await;
    fixture.find(fingerprint("key-1")).await.unwrap();
    for (state, active) in [(TenantState::Inactive, false), (TenantState::Active, true)] {
        let changed = fixture.store.set_tenant_active(tenant("acme"), state).await.unwrap();
        assert_eq!(changed.active, active);
        until("the tenant's state", async || {
            fixture.find(fingerprint("key-1")).await.unwrap().unwrap().1.active == active
        })
        .await;
    }
}

async fn changes_of_what_does_not_exist_are_not_found(fixture: Fixture) {
    prepare(&fixture).await;
    let credential = fixture
        .store
        .change_credential(credential_id("nobody"), CredentialChange::Revoke, NOW)
        .await;
    assert!(matches!(credential, Err(ChangeError::NotFound(_))), "{credential:?}");
    let owner = fixture.store.set_tenant_active(tenant("nobody"), TenantState::Active).await;
    assert!(matches!(owner, Err(ChangeError::NotFound(_))), "{owner:?}");
}

async fn every_change_has_its_event_and_positions_grow_by_one(fixture: Fixture) {
    prepare(&fixture).await;
    let id = credential_id("key-1");
    fixture
        .store
        .change_credential(id.clone(), CredentialChange::Revoke, NOW)
        .await
        .unwrap();
    fixture
        .store
        .set_tenant_active(tenant("globex"), TenantState::Inactive)
        .await
        .unwrap();
    let events = fixture.recorder.wait_for(5).await;
    let of_credential = EventSubject::Credential {
        id: id.clone(),
        fingerprints: vec![fingerprint("key-1"), Fingerprint::of_id(&surface(), &id)],
    };
    let of_tenant = |id: &str| EventSubject::Tenant { id: tenant(id) };
    let subjects: Vec<EventSubject> = events.iter().map(|e| e.subject.clone()).collect();
    assert_eq!(
        subjects,
        [
            of_tenant("acme"),
            of_tenant("globex"),
            of_credential.clone(),
            of_credential,
            of_tenant("globex")
        ]
    );
    assert!(events.windows(2).all(|w| w[1].position.0 == w[0].position.0 + 1), "{events:?}");
    let position = fixture.store.find(fingerprint("key-1")).await.unwrap().position;
    assert_eq!(Some(position), events.last().map(|e| e.position));
    assert_eq!(fixture.store.status().applied, position);
}

async fn what_is_already_so_makes_no_event(fixture: Fixture) {
    prepare(&fixture).await;
    let id = credential_id("key-1");
    fixture
        .store
        .change_credential(id.clone(), CredentialChange::Enable, NOW)
        .await
        .unwrap();
    fixture.store.set_tenant_active(tenant("acme"), TenantState::Active).await.unwrap();
    let _ = fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap_err();
    let _ = fixture.store.create_credential(record("key-1", "acme")).await.unwrap_err();
    fixture.store.change_credential(id, CredentialChange::Disable, NOW).await.unwrap();
    let events: Vec<Event> = fixture.recorder.wait_for(4).await;
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!(
        events[3].position.0,
        events[2].position.0 + 1,
        "the next change is the next position"
    );
}

async fn a_change_is_seen_by_the_next_look_up(fixture: Fixture) {
    prepare(&fixture).await;
    for round in 0..20 {
        assert!(fixture.find(fingerprint("key-1")).await.unwrap().is_some());
        let (change, state) = if round % 2 == 0 {
            (CredentialChange::Disable, CredentialState::Disabled)
        } else {
            (CredentialChange::Enable, CredentialState::Active)
        };
        fixture.store.change_credential(credential_id("key-1"), change, NOW).await.unwrap();
        until("the change", async || {
            fixture.find(fingerprint("key-1")).await.unwrap().unwrap().0.state == state
        })
        .await;
    }
}

async fn an_absence_ends_with_the_event_of_its_credential(fixture: Fixture) {
    prepare(&fixture).await;
    assert_eq!(fixture.find(fingerprint("key-2")).await.unwrap(), None);
    fixture.store.create_credential(record("key-2", "acme")).await.unwrap();
    // The clock stands still: only the event can end what was remembered.
    until("the new credential", async || {
        fixture.find(fingerprint("key-2")).await.unwrap().is_some()
    })
    .await;
}

async fn concurrent_changes_of_one_record_are_all_made(fixture: Fixture) {
    prepare(&fixture).await;
    let changes: Vec<_> = (0..8)
        .map(|i| {
            let store = fixture.store.clone();
            let change = CredentialChange::ExpireAt(UnixMillis(1_000 - i));
            tokio::spawn(async move { store.change_credential(credential_id("key-1"), change, NOW).await })
        })
        .collect();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    let record = fixture.store.find_credential(credential_id("key-1")).await.unwrap().unwrap();
    assert_eq!(record.expires_at, Some(UnixMillis(993)));
    let position = fixture.store.find(fingerprint("key-1")).await.unwrap().position;
    let events = fixture.recorder.wait_for(usize::try_from(record.epoch).unwrap() + 2).await;
    assert_eq!(
        events.last().unwrap().position,
        position,
        "as many events as epochs, and two tenants"
    );
}

async fn f11_a_corrupt_record_is_an_error_and_not_an_absence(fixture: Fixture) {
    prepare(&fixture).await;
    let good = codec::encode_credential(&record("key-1", "acme")).unwrap();
    let fixture = fixture.overwrite_credential("key-1", &good[..good.len() - 1]).await;
    for _ in 0..3 {
        let found = fixture.find(fingerprint("key-1")).await;
        assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?}");
    }
    let read = fixture.store.find_credential(credential_id("key-1")).await;
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
    let changed = fixture
        .store
        .change_credential(credential_id("key-1"), CredentialChange::Enable, NOW)
        .await;
    assert!(matches!(changed, Err(ChangeError::Store(StoreError::Corrupt(_)))), "{changed:?}");
    let fixture = fixture.overwrite_credential("key-1", &good).await;
    assert!(fixture.find(fingerprint("key-1")).await.unwrap().is_some(), "the twin is found");
}

async fn f11_a_swapped_record_is_an_error(fixture: Fixture) {
    prepare(&fixture).await;
    fixture.store.create_credential(record("key-2", "globex")).await.unwrap();
    let other = codec::encode_credential(&record("key-2", "globex")).unwrap();
    let fixture = fixture.overwrite_credential("key-1", &other).await;
    let found = fixture.find(fingerprint("key-1")).await;
    assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?}");
    assert!(fixture.find(fingerprint("key-2")).await.unwrap().is_some(), "the twin is found");
}

async fn a_stopped_store_is_an_error_and_not_an_absence(mut fixture: Fixture) {
    prepare(&fixture).await;
    fixture.stop();
    for by in ["key-1", "nobody"] {
        let found = fixture.find(fingerprint(by)).await;
        assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    }
    let made = fixture.store.create_tenant(tenant("new"), NOW).await;
    // A connection that breaks under the question leaves it open whether the change was made.
    assert!(
        matches!(
            made,
            Err(ChangeError::NotMade(StoreError::Unavailable(_)) | ChangeError::Store(StoreError::Unavailable(_)))
        ),
        "{made:?}"
    );
    until("it to say that nothing was changed", async || {
        let made = fixture.store.create_tenant(tenant("new"), NOW).await;
        matches!(made, Err(ChangeError::NotMade(StoreError::Unavailable(_))))
    })
    .await;
    let list = fixture.store.list_tenants(None, 10).await;
    assert!(matches!(list, Err(StoreError::Unavailable(_))), "{list:?}");
    let probe = fixture.store.probe(std::time::Duration::from_secs(5)).await;
    assert!(matches!(probe, Err(StoreError::Unavailable(_))), "{probe:?}");
}

async fn the_store_says_that_it_lives(fixture: Fixture) {
    fixture.store.probe(std::time::Duration::from_secs(5)).await.unwrap();
    assert_eq!(fixture.store.status().reader, durward::store::events::ReaderState::Live);
}
