//! Look-ups that one call of the script answers: each has its own answer, and none depends on what the others are about.

use durward::base::fingerprint::Fingerprint;
use durward::base::ids::RoleId;
use durward::base::principal::{MAX_ROLES, RoleRecord};
use durward::base::scope::Scope;
use durward::store::redis::RedisUrl;
use durward::store::{FactStore as _, LookupQuery, RecordStore as _, RefreshReply, StoreError};

use super::fixture::{Fixture, NOW, PEPPER, fingerprint, open_access, record, run, tenant};
use crate::support::fault_proxy::FaultProxy;
use crate::support::redis::RedisServer;
use crate::support::wait::{PATIENCE, until};

/// More than one call of the script answers.
const KEYS: usize = 50;

fn id(number: usize) -> String {
    format!("key-{number}")
}

async fn populated() -> Fixture {
    let fixture = Fixture::redis().await;
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
    for number in 0..KEYS {
        fixture.store.create_credential(record(&id(number), "acme")).await.unwrap();
    }
    fixture
}

/// What the store answers to the look-ups of these names: the id, or none for an absence.
async fn ask(fixture: &Fixture, names: &[String]) -> Vec<Result<Option<String>, StoreError>> {
    let asked: Vec<Fingerprint> = names.iter().map(|name| fingerprint(name)).collect();
    let found = fixture.store.find_many(asked.into_iter().map(LookupQuery::full).collect()).await;
    assert_eq!(found.len(), names.len());
    let id_of = |found| match found {
        RefreshReply::Read(found) => found.facts.map(|facts| facts.credential.id.as_str().to_owned()),
        RefreshReply::Unchanged(_) => panic!("nothing was known"),
    };
    found.into_iter().map(|found| found.map(id_of)).collect()
}

#[test]
fn each_of_many_has_its_own_answer_in_the_order_of_the_questions() {
    run(async {
        let fixture = populated().await;
        let names: Vec<String> = (0..KEYS + 20).rev().map(id).collect();
        let found = ask(&fixture, &names).await;
        for (name, found) in names.iter().zip(found) {
            let is_there = (0..KEYS).any(|number| id(number) == *name);
            assert_eq!(found.unwrap(), is_there.then(|| name.clone()));
        }
    });
}

#[test]
fn a_record_that_cannot_be_read_fails_alone() {
    run(async {
        let fixture = populated().await;
        let server = fixture.redis_server();
        let two = fingerprint(&id(2)).to_hex();
        server.command_with_bytes(&["HSET", "{durward}:c", &id(0)], &vec![b'x'; 2 * 1024 * 1024]);
        server.command_with_bytes(&["HSET", "{durward}:c", &id(1)], b"garbage");
        for entry in ["nobody", " acme", "key-2 ", "key-2 acme more", "key-2\tacme"] {
            server.command_with_bytes(&["HSET", "{durward}:f", &two], entry.as_bytes());
            let names: Vec<String> = (0..KEYS).map(id).collect();
            for (number, found) in ask(&fixture, &names).await.into_iter().enumerate() {
                match found {
                    Ok(found) => assert_eq!(found, (number > 2).then(|| id(number)), "{entry:?}"),
                    Err(error) => assert!(number <= 2 && matches!(error, StoreError::Corrupt(_)), "{number}: {error}"),
                }
            }
        }
    });
}

#[test]
fn what_does_not_fit_into_one_answer_is_asked_for_again() {
    run(async {
        let fixture = populated().await;
        let server = fixture.redis_server();
        let names: Vec<String> = (0..KEYS).map(id).collect();
        // Blanks after the JSON: as large as a record may be, and all of them together larger than an answer may be.
        for name in &names {
            let mut stored: Vec<u8> = server.command(&["HGET", "{durward}:c", name]);
            stored.resize(32 * 1024, b' ');
            server.command_with_bytes(&["HSET", "{durward}:c", name], &stored);
        }
        for (name, found) in names.iter().zip(ask(&fixture, &names).await) {
            assert_eq!(found.unwrap().as_ref(), Some(name));
        }
    });
}

#[test]
fn those_with_many_roles_are_asked_for_again_and_have_all_of_them() {
    run(async {
        let fixture = Fixture::redis().await;
        fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let role = |number: usize| RoleRecord {
            id: RoleId::of_name(&format!("role-{number}")),
            tenant: Some(tenant("acme")),
            name: format!("role-{number}"),
            description: None,
            scopes: [Scope::parse("orders:read").unwrap()].into_iter().collect(),
            created_at: NOW,
            epoch: 1,
        };
        let roles: Vec<RoleRecord> = (0..MAX_ROLES).map(role).collect();
        for role in &roles {
            fixture.store.create_role(role.clone()).await.unwrap();
        }
        for number in 0..KEYS {
            let mut key = record(&id(number), "acme");
            key.extras_mut().roles = roles.iter().map(|role| role.id.clone()).collect();
            fixture.store.create_credential(key).await.unwrap();
        }
        let asked = (0..KEYS).map(|number| LookupQuery::full(fingerprint(&id(number)))).collect();
        for (number, found) in fixture.store.find_many(asked).await.into_iter().enumerate() {
            let Ok(RefreshReply::Read(found)) = found else {
                panic!("{number}: {found:?}");
            };
            let facts = found.facts.expect("a key that is there");
            assert_eq!((facts.credential.id.as_str(), facts.roles.len()), (&*id(number), MAX_ROLES));
        }
    });
}

#[test]
fn what_the_store_has_lost_is_no_absence_for_any_of_them() {
    run(async {
        let fixture = populated().await;
        let names: Vec<String> = (0..KEYS + 1).map(id).collect();
        let _: u64 = fixture
            .redis_server()
            .command(&["HDEL", "{durward}:f", &fingerprint(&id(0)).to_hex()]);
        for (number, found) in ask(&fixture, &names).await.into_iter().enumerate() {
            match number {
                0 | KEYS => assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}"),
                _ => assert_eq!(found.unwrap(), Some(id(number))),
            }
        }
    });
}

#[test]
fn the_list_of_what_is_in_use_is_asked_for_in_parts_and_never_for_two_at_a_time() {
    run(async {
        let server = RedisServer::start();
        let proxy = FaultProxy::to_port(server.port());
        let access = RedisUrl::parse(&proxy.url().into()).unwrap().into_access(None);
        let store = open_access(access, 0, PEPPER).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let noted: Vec<Fingerprint> = (0..KEYS).map(|number| fingerprint(&id(number))).collect();
        store.note_busy(noted.clone()).await.unwrap();
        let scripts = || proxy.commands().iter().filter(|seen| seen.name == "EVALSHA").count();
        proxy.forget();
        let mut listed = store.busy(KEYS).await.unwrap();
        let parts = scripts();
        listed.sort_unstable();
        let mut noted = noted;
        noted.sort_unstable();
        assert_eq!(listed, noted);
        // Nothing is answered any more: what is sent is what may be on its way at a time. The store has some questions of its own.
        proxy.half_open();
        proxy.forget();
        let asking = store.busy(KEYS);
        until("a part to be asked for", PATIENCE, || (scripts() > 0).then_some(()));
        assert!(asking.await.is_err(), "nobody answers");
        assert!(scripts() * 4 < parts, "{} of {parts} scripts without an answer", scripts());
    });
}
