//! The peppers a store was written under: what records say of them, how one takes another's place, and
//! that no gateway answers for credentials which it could not find.

use std::sync::Arc;

use durward::base::clock::Clock as _;
use durward::base::fingerprint::{Fingerprint, Pepper, PepperCheck, Peppers};
use durward::base::login::login_fingerprint;
use durward::base::principal::{CredentialRecord, CredentialState};
use durward::decide::surface::{Surface, SurfaceKind};
use durward::resolver::Resolver;
use durward::store::cached::CachedStore;
use durward::store::embedded::EmbeddedStore;
use durward::store::redis::RedisStore;
use durward::store::{
    ChangeError, CredentialChange, CredentialFilter, CredentialStore, EventSubject, FactStore, PepperList, RecordStore, StoreError,
    UnderPepper, codec,
};

use super::fixture::{
    FIRST, Fixture, NOW, PEPPER, control, credential_id, fingerprint, open_redis_with, peppers, record, run, settings, surface, tenant,
    until,
};
use super::wrapper::{Behaviour, Wrapper};
use crate::support::redis::RedisServer;
use crate::support::wait::PATIENCE;

/// Who logs in.
const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

super::contract::suite! {
    a_record_says_under_which_pepper_its_fingerprints_were_made
    credentials_are_listed_by_what_they_depend_on
    an_account_moves_to_another_fingerprint_in_one_step
    what_is_remembered_of_an_account_ends_when_it_moves
    only_accounts_move_and_only_to_a_free_place
    a_list_is_written_over_exactly_the_one_that_was_read
}

fn account(id: &str) -> CredentialRecord {
    let mut record = record(id, "acme");
    record.extras_mut().login = Some(format!("{id}@example.com"));
    record
}

async fn with_acme(fixture: &Fixture) {
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
}

async fn a_record_says_under_which_pepper_its_fingerprints_were_made(fixture: Fixture) {
    with_acme(&fixture).await;
    let lying = CredentialRecord {
        pepper: Some(PepperCheck::from_bytes([9; 32]).mark()),
        ..record("key", "acme")
    };
    let by_id = CredentialRecord {
        fingerprint: Fingerprint::of_id(&surface(), &credential_id("session")),
        ..record("session", "acme")
    };
    for (record, mark) in [(lying, Some(FIRST.mark())), (by_id, None)] {
        let id = record.id.clone();
        assert_eq!(fixture.store.create_credential(record).await.unwrap().pepper, mark);
        let change = fixture.store.change_credential(id.clone(), CredentialChange::Disable, NOW);
        assert_eq!(change.await.unwrap().pepper, mark);
        assert_eq!(fixture.store.find_credential(id).await.unwrap().unwrap().pepper, mark);
    }
}

async fn credentials_are_listed_by_what_they_depend_on(fixture: Fixture) {
    with_acme(&fixture).await;
    let by_id = CredentialRecord {
        fingerprint: Fingerprint::of_id(&surface(), &credential_id("c-session")),
        ..record("c-session", "acme")
    };
    for record in [record("a-key", "acme"), record("b-key", "acme"), by_id] {
        fixture.store.create_credential(record).await.unwrap();
    }
    let unmarked = CredentialRecord {
        pepper: None,
        ..record("b-key", "acme")
    };
    let fixture = fixture
        .overwrite_credential("b-key", &codec::encode_credential(&unmarked).unwrap())
        .await;
    let other = PepperCheck::from_bytes([9; 32]).mark();
    for (mark, oldest, expected) in [
        (FIRST.mark(), FIRST.mark(), &["a-key", "b-key"][..]),
        (FIRST.mark(), other, &["a-key"]),
        (other, other, &["b-key"]),
    ] {
        let filter = CredentialFilter {
            pepper: Some(UnderPepper {
                mark,
                oldest: Some(oldest),
            }),
            limit: 10,
            ..CredentialFilter::default()
        };
        let listed = fixture.store.list_credentials(filter).await.unwrap();
        let ids: Vec<&str> = listed.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, expected);
    }
}

async fn an_account_moves_to_another_fingerprint_in_one_step(fixture: Fixture) {
    with_acme(&fixture).await;
    let made = fixture.store.create_credential(account("ann")).await.unwrap();
    fixture.recorder.wait_for(2).await;
    let moved = fixture.store.move_login(credential_id("ann"), fingerprint("new")).await.unwrap();
    let expected = CredentialRecord {
        fingerprint: fingerprint("new"),
        epoch: made.epoch + 1,
        ..made.clone()
    };
    assert_eq!(moved, expected);
    let event = fixture.recorder.wait_for(3).await.pop().unwrap();
    let EventSubject::Credential { id, fingerprints } = event.subject else {
        panic!("{event:?}")
    };
    assert_eq!(id, credential_id("ann"));
    let own = Fingerprint::of_id(&surface(), &credential_id("ann"));
    assert_eq!(fingerprints, [fingerprint("new"), own, made.fingerprint]);
    for by in [fingerprint("new"), own] {
        assert_eq!(fixture.find(by).await.unwrap().unwrap().0, expected);
    }
    // Absences are proven by the number of entries.
    for gone in [made.fingerprint, fingerprint("nobody")] {
        assert_eq!(fixture.find(gone).await.unwrap(), None);
    }
    let again = fixture.store.move_login(credential_id("ann"), fingerprint("new")).await.unwrap();
    assert_eq!(again, expected);
    fixture.store.create_credential(account("bob")).await.unwrap();
    assert_eq!(fixture.recorder.wait_for(4).await.len(), 4, "no event of what is so already");
    let taken = CredentialRecord {
        fingerprint: made.fingerprint,
        ..account("eve")
    };
    fixture.store.create_credential(taken).await.expect("the old place is free");
}

async fn what_is_remembered_of_an_account_ends_when_it_moves(fixture: Fixture) {
    with_acme(&fixture).await;
    fixture.store.create_credential(account("ann")).await.unwrap();
    until("the account", async || fixture.find(fingerprint("ann")).await.unwrap().is_some()).await;
    assert_eq!(fixture.find(fingerprint("new")).await.unwrap(), None);
    fixture.store.move_login(credential_id("ann"), fingerprint("new")).await.unwrap();
    until("its new place", async || fixture.find(fingerprint("new")).await.unwrap().is_some()).await;
    until("its old place", async || fixture.find(fingerprint("ann")).await.unwrap().is_none()).await;
}

async fn only_accounts_move_and_only_to_a_free_place(fixture: Fixture) {
    with_acme(&fixture).await;
    fixture.store.create_credential(record("key", "acme")).await.unwrap();
    for id in ["ann", "bob"] {
        fixture.store.create_credential(account(id)).await.unwrap();
    }
    let to = async |id: &str, name: &str| fixture.store.move_login(credential_id(id), fingerprint(name)).await;
    assert!(matches!(to("nobody", "new").await, Err(ChangeError::NotFound(_))));
    assert!(matches!(to("key", "new").await, Err(ChangeError::Conflict(_))));
    assert!(matches!(to("ann", "bob").await, Err(ChangeError::Taken(_))));
    let revoke = fixture.store.change_credential(credential_id("ann"), CredentialChange::Revoke, NOW);
    revoke.await.unwrap();
    assert_eq!(fixture.find(fingerprint("bob")).await.unwrap().unwrap().0.id, credential_id("bob"));
    let moved = to("ann", "new").await.unwrap();
    assert!(
        matches!(moved.state, CredentialState::Revoked { .. }),
        "what has ended stays so, and keeps its place taken"
    );
    assert!(matches!(to("bob", "new").await, Err(ChangeError::Taken(_))));
}

async fn a_list_is_written_over_exactly_the_one_that_was_read(fixture: Fixture) {
    with_acme(&fixture).await;
    let list = fixture.store.peppers().await.unwrap();
    assert_eq!(list, PepperList::of(FIRST));
    let leaving = list.leaving(FIRST, Some("word"));
    assert!(fixture.store.set_peppers(list.clone(), leaving.clone()).await.unwrap());
    assert!(!fixture.store.set_peppers(list.clone(), leaving.clone()).await.unwrap(), "stale");
    assert_eq!(fixture.store.peppers().await.unwrap(), leaving);
    assert!(fixture.store.set_peppers(leaving, list.clone()).await.unwrap());
    assert_eq!(fixture.store.peppers().await.unwrap(), list);
}

/// The list of a store as marks.
async fn marks(store: &dyn CredentialStore) -> Vec<String> {
    let list = store.peppers().await.unwrap();
    list.listed().iter().map(|listed| listed.check.mark().to_string()).collect()
}

/// As `durward peppers drop` does when it found nothing.
async fn drop_first(store: &dyn CredentialStore) {
    let list = store.peppers().await.unwrap();
    let check = list.listed()[0].check;
    assert!(store.set_peppers(list.clone(), list.without(check)).await.unwrap());
}

fn assert_foreign<T: std::fmt::Debug>(result: Result<T, StoreError>, says: &str) {
    match result {
        Err(StoreError::Foreign(why)) => assert!(why.contains(says), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn in_a_file_a_pepper_takes_the_place_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("durward.redb");
    // A program that another test has just begun holds the file until it is running: it was given our open files.
    let open = |first, others: &[u8]| {
        crate::support::wait::until("the file to be free", PATIENCE, || {
            match EmbeddedStore::open(&path, &peppers(first, others)) {
                Err(StoreError::Unavailable(why)) if why.contains("another process") => None,
                opened => Some(opened),
            }
        })
    };
    run(async {
        let store = open(0x0a, &[]).unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("old", "acme")).await.unwrap();
    });
    run(async {
        let store = open(0x0b, &[0x0a]).unwrap();
        assert_eq!(marks(&store).await, ["0a0a0a0a", "0b0b0b0b"]);
        let made = store.create_credential(record("new", "acme")).await.unwrap();
        assert_eq!(made.pepper.unwrap().to_string(), "0b0b0b0b");
        assert!(store.find(fingerprint("old")).await.unwrap().facts.is_some());
    });
    assert_foreign(open(0x0b, &[]), "(0a0a0a0a)");
    assert_foreign(open(0x0a, &[]), "(0b0b0b0b)");
    assert_foreign(open(0x0c, &[]), "pepper file");
    run(async {
        let store = open(0x0a, &[0x0b]).expect("both are known");
        drop_first(&store).await;
        assert_eq!(marks(&store).await, ["0b0b0b0b"]);
    });
    assert_foreign(open(0x0a, &[0x0b]), "was dropped");
    assert!(open(0x0b, &[0x0a]).is_ok());
    assert!(open(0x0b, &[]).is_ok());
    assert!(open(0x0b, &[]).is_ok(), "and again");
}

struct Redis(RedisServer);

impl Redis {
    async fn open(&self, first: u8, others: &[u8]) -> Result<RedisStore, StoreError> {
        open_redis_with(&self.0, 0, &peppers(first, others)).await
    }
}

#[test]
fn gateways_with_either_pepper_first_find_what_either_made() {
    run(async {
        let redis = Redis(RedisServer::start());
        let [one, two] = [redis.open(0x0a, &[0x0b]).await.unwrap(), redis.open(0x0b, &[0x0a]).await.unwrap()];
        one.create_tenant(tenant("acme"), NOW).await.unwrap();
        for (store, id, mark) in [(&one, "old", "0a0a0a0a"), (&two, "new", "0b0b0b0b")] {
            let made = store.create_credential(record(id, "acme")).await.unwrap();
            assert_eq!(made.pepper.unwrap().to_string(), mark);
        }
        for store in [&one, &two] {
            assert_eq!(marks(store).await, ["0a0a0a0a", "0b0b0b0b"]);
            for id in ["old", "new"] {
                assert!(store.find(fingerprint(id)).await.unwrap().facts.is_some(), "{id}");
            }
            assert!(store.find(fingerprint("nobody")).await.unwrap().facts.is_none());
            store.probe(std::time::Duration::from_secs(5)).await.unwrap();
        }
    });
}

#[test]
fn a_gateway_that_lacks_a_pepper_answers_nothing_and_says_why() {
    run(async {
        let redis = Redis(RedisServer::start());
        let lacking = redis.open(0x0a, &[]).await.unwrap();
        lacking.create_tenant(tenant("acme"), NOW).await.unwrap();
        lacking.create_credential(record("old", "acme")).await.unwrap();
        assert!(lacking.find(fingerprint("nobody")).await.unwrap().facts.is_none());
        let rolled = redis.open(0x0b, &[0x0a]).await.unwrap();
        for asked in ["old", "nobody"] {
            assert_foreign(lacking.find(fingerprint(asked)).await, "durward peppers");
        }
        assert_foreign(lacking.probe(std::time::Duration::from_secs(5)).await, "durward peppers");
        let revoked = lacking.change_credential(credential_id("old"), CredentialChange::Revoke, NOW).await;
        assert!(matches!(revoked, Err(ChangeError::Store(StoreError::Foreign(_)))), "{revoked:?}");
        assert_foreign(redis.open(0x0a, &[]).await, "(0b0b0b0b)");
        assert_foreign(redis.open(0x0b, &[]).await, "(0a0a0a0a)");
        assert_eq!(marks(&rolled).await, ["0a0a0a0a", "0b0b0b0b"], "a refusal changes nothing");
        // A gateway that has both goes on, whichever is first.
        for store in [rolled, redis.open(0x0a, &[0x0b]).await.unwrap()] {
            assert!(store.find(fingerprint("old")).await.unwrap().facts.is_some());
        }
    });
}

#[test]
fn a_dropped_pepper_makes_nothing_and_does_not_come_back() {
    run(async {
        let redis = Redis(RedisServer::start());
        let forgotten = redis.open(0x0a, &[0x0b]).await.unwrap();
        forgotten.create_tenant(tenant("acme"), NOW).await.unwrap();
        let rolled = redis.open(0x0b, &[0x0a]).await.unwrap();
        rolled.create_credential(record("new", "acme")).await.unwrap();
        // While it is being dropped ...
        let list = rolled.peppers().await.unwrap();
        let leaving = list.leaving(FIRST, Some("word"));
        assert!(rolled.set_peppers(list, leaving.clone()).await.unwrap());
        let refused = async || {
            let made = forgotten.create_credential(record("late", "acme")).await;
            assert!(matches!(made, Err(ChangeError::Store(StoreError::Foreign(_)))), "{made:?}");
            assert!(forgotten.find(fingerprint("late")).await.unwrap().facts.is_none());
            assert!(
                forgotten.find(fingerprint("new")).await.unwrap().facts.is_some(),
                "it serves what is there"
            );
        };
        refused().await;
        assert_foreign(redis.open(0x0b, &[]).await, "(0a0a0a0a)");
        assert_foreign(redis.open(0x0a, &[0x0b]).await, "being dropped");
        // ... and after.
        assert!(rolled.set_peppers(leaving.clone(), leaving.without(FIRST)).await.unwrap());
        refused().await;
        assert_foreign(redis.open(0x0a, &[0x0b]).await, "was dropped");
        let _: i64 = redis.0.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        until("its connections", async || {
            forgotten.find(fingerprint("new")).await.is_ok() && rolled.peppers().await.is_ok()
        })
        .await;
        assert_eq!(marks(&rolled).await, ["0b0b0b0b"], "a new connection does not bring it back");
        for others in [&[][..], &[0x0a]] {
            let store = redis.open(0x0b, others).await.unwrap();
            store
                .create_credential(record(&format!("made-{}", others.len()), "acme"))
                .await
                .unwrap();
        }
    });
}

#[test]
fn a_store_from_before_the_list_is_one_of_one_pepper() {
    run(async {
        let redis = Redis(RedisServer::start());
        let check = FIRST.to_hex();
        let _: i64 = redis.0.command(&["HSET", "{durward}:meta", "format", "2", "pepper", &check]);
        let store = open_redis_with(&redis.0, 0, PEPPER).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        assert_eq!(marks(&store).await, ["0a0a0a0a"]);
    });
}

#[test]
fn a_log_in_that_meets_the_move_of_its_account_finds_it() {
    run(async {
        let fixture = Fixture::embedded().await;
        with_acme(&fixture).await;
        let both = [8, 7].map(|byte| Pepper::new(&[byte; 32]).unwrap());
        let [under_new, under_old] = both.clone().map(|pepper| login_fingerprint(&pepper, &surface(), "ann@example.com"));
        let made = CredentialRecord {
            fingerprint: under_old,
            ..account("ann")
        };
        fixture.store.create_credential(made).await.unwrap();
        let wrapper = Arc::new(Wrapper::new(fixture.store.clone()));
        let (store, clock) = (wrapper.clone() as Arc<dyn CredentialStore>, fixture.clock.clone());
        let cache = CachedStore::new(store, &settings(), clock.clone(), control());
        let resolver = Resolver::with_table(cache, Peppers::new(both.to_vec()).unwrap(), clock.clone(), 64);
        let account_surface = Surface {
            name: surface(),
            kind: SurfaceKind::Account(durward::decide::surface::AccountSurface { fields: None }),
            mode: None,
        };
        wrapper.set(Behaviour::HoldAnswers);
        let moving = async {
            until("the look under the new pepper", async || wrapper.held() == 1).await;
            fixture.store.move_login(credential_id("ann"), under_new).await.unwrap();
            wrapper.set(Behaviour::Pass);
            wrapper.release();
        };
        let looking = resolver.resolve_login(&account_surface, "Ann@example.com", CLIENT, clock.now().boot);
        let (found, ()) = futures_util::future::join(looking, moving).await;
        assert_eq!(
            found.unwrap().expect("it was there all the time").credential.id,
            credential_id("ann")
        );
        let unknown = resolver.resolve_login(&account_surface, "bob@example.com", CLIENT, clock.now().boot);
        assert!(unknown.await.unwrap().is_none());
    });
}
