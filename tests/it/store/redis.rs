//! What only Redis can do to us: other gateways, outages, flushes, gaps, replicas, hostile servers.

use std::sync::Arc;
use std::time::Duration;

use durward::base::principal::CredentialState;
use durward::store::events::ReaderState;
use durward::store::{ChangeError, CredentialChange, CredentialStore, FactStore, RecordStore, StoreError, TenantState};

use super::fixture::{
    Backend, Fixture, NOW, Recorder, credential_id, fingerprint, open_redis, open_redis_with, peppers, record, run, tenant, until,
};
use crate::support::redis::RedisServer;

fn server(fixture: &mut Fixture) -> &mut RedisServer {
    match &mut fixture.backend {
        Backend::Redis(server) => server,
        Backend::Embedded { .. } => unreachable!("this fixture is over Redis"),
    }
}

async fn prepare(fixture: &Fixture) {
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
    fixture.store.create_credential(record("key-1", "acme")).await.unwrap();
}

async fn until_live(store: &dyn CredentialStore) {
    until("the event reader", async || store.status().reader == ReaderState::Live).await;
}

#[test]
fn what_one_gateway_does_the_other_hears_and_sees() {
    run(async {
        let mut a = Fixture::cached_redis().await;
        prepare(&a).await;
        let other = Arc::new(open_redis(server(&mut a), 0).await.unwrap());
        let heard = Arc::new(Recorder::default());
        other.subscribe(heard.clone());
        assert_eq!(a.find(fingerprint("key-2")).await.unwrap(), None);
        assert!(a.find(fingerprint("key-1")).await.unwrap().is_some());
        other.create_credential(record("key-2", "acme")).await.unwrap();
        other
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await
            .unwrap();
        // The clock of `a` stands still: only the events can end what it remembers.
        until("the credential made elsewhere", async || {
            a.find(fingerprint("key-2")).await.unwrap().is_some()
        })
        .await;
        until("the revocation made elsewhere", async || {
            matches!(
                a.find(fingerprint("key-1")).await.unwrap().unwrap().0.state,
                CredentialState::Revoked { .. }
            )
        })
        .await;
        assert_eq!(heard.wait_for(2).await.len(), 2);
    });
}

#[test]
fn a_store_of_another_pepper_is_refused_and_says_what_to_do() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        let error = open_redis_with(server(&mut fixture), 0, &peppers(0x0b, &[])).await.unwrap_err();
        assert!(matches!(error, StoreError::Foreign(_)), "{error}");
        assert!(error.to_string().contains("pepper file"), "{error}");
    });
}

#[test]
fn f1_a_gateway_starts_without_redis_and_serves_when_it_appears() {
    run(async {
        let mut redis = RedisServer::start();
        redis.kill();
        let store = open_redis(&redis, 0).await.unwrap();
        assert_eq!(store.status().reader, ReaderState::Lost);
        let found = store.find(fingerprint("key-1")).await;
        assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
        redis.restart();
        until("the store", async || store.probe(Duration::from_secs(1)).await.is_ok()).await;
        until("a change", async || store.create_tenant(tenant("acme"), NOW).await.is_ok()).await;
        until_live(&store).await;
    });
}

#[test]
fn f3_a_hanging_redis_is_an_error_and_its_late_answers_go_to_nobody() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        for i in 2..12 {
            fixture.store.create_credential(record(&format!("key-{i}"), "acme")).await.unwrap();
        }
        server(&mut fixture).pause();
        let mut asked = Vec::new();
        for i in 1..12 {
            let store = fixture.store.clone();
            asked.push(tokio::spawn(async move { store.find(fingerprint(&format!("key-{i}"))).await }));
        }
        until("the hang to be noticed", async || {
            fixture.store.probe(Duration::from_millis(100)).await.is_err()
        })
        .await;
        for look_up in asked {
            let found = look_up.await.unwrap();
            assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
        }
        until("look-ups to fail at once", async || {
            let start = durward::base::clock::instant();
            fixture.store.find(fingerprint("key-1")).await.is_err() && start.elapsed() < Duration::from_millis(50)
        })
        .await;
        server(&mut fixture).resume();
        until("the store", async || fixture.store.find(fingerprint("key-1")).await.is_ok()).await;
        for i in 1..12 {
            let id = format!("key-{i}");
            let found = fixture.store.find(fingerprint(&id)).await.unwrap().facts.unwrap();
            assert_eq!(found.credential.id, credential_id(&id));
        }
    });
}

#[test]
fn f12_dropped_look_ups_never_give_their_answer_to_another() {
    run(async {
        let fixture = Fixture::redis().await;
        fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
        for i in 0..20 {
            fixture.store.create_tenant(tenant(&format!("t-{i}")), NOW).await.unwrap();
            fixture
                .store
                .create_credential(record(&format!("key-{i}"), &format!("t-{i}")))
                .await
                .unwrap();
        }
        for round in 0..200_u32 {
            let dropped = fixture.store.find(fingerprint(&format!("key-{}", round % 20)));
            let _ = tokio::time::timeout(Duration::from_micros(u64::from(round % 50) * 10), dropped).await;
            let i = (round * 7 + 3) % 20;
            let found = fixture.store.find(fingerprint(&format!("key-{i}"))).await.unwrap().facts.unwrap();
            assert_eq!(
                (found.credential.id, found.tenant.id),
                (credential_id(&format!("key-{i}")), tenant(&format!("t-{i}")))
            );
        }
    });
}

#[test]
fn f2_after_a_crash_with_its_data_lost_nobody_is_absent() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        server(&mut fixture).restart();
        // Without persistence it comes back empty, which is the same as a flush.
        until("connections", async || fixture.store.probe(Duration::from_secs(1)).await.is_ok()).await;
        let found = fixture.store.find(fingerprint("key-1")).await;
        assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    });
}

#[test]
fn f14_a_flushed_store_is_an_error_and_not_an_absence() {
    run(async {
        let mut fixture = Fixture::cached_redis().await;
        prepare(&fixture).await;
        assert!(fixture.find(fingerprint("key-1")).await.unwrap().is_some());
        server(&mut fixture).command::<()>(&["FLUSHALL"]);
        let unknown = fixture.find(fingerprint("nobody")).await;
        assert!(matches!(unknown, Err(StoreError::Unavailable(_))), "{unknown:?}");
        assert!(fixture.store.find_credential(credential_id("key-1")).await.is_err());
        assert!(fixture.store.list_tenants(None, 10).await.is_err());
        assert!(
            fixture.find(fingerprint("key-1")).await.unwrap().is_some(),
            "known facts are bounded by age"
        );
        // Another history begins: what was known of the old one ends without any clock.
        fixture.store.create_tenant(tenant("other"), NOW).await.unwrap();
        until("the old facts to end", async || {
            matches!(fixture.find(fingerprint("key-1")).await, Ok(None))
        })
        .await;
    });
}

#[test]
fn f14_an_evicted_key_is_an_error_and_not_an_absence() {
    run(async {
        for key in ["{durward}:f", "{durward}:c", "{durward}:t", "{durward}:meta"] {
            let mut fixture = Fixture::redis().await;
            prepare(&fixture).await;
            server(&mut fixture).command::<()>(&["DEL", key]);
            let found = fixture.store.find(fingerprint("key-1")).await;
            assert!(found.is_err(), "without {key}: {found:?}");
        }
    });
}

#[test]
fn f11_a_key_of_another_type_is_corrupt() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        server(&mut fixture).command::<()>(&["DEL", "{durward}:c"]);
        server(&mut fixture).command::<()>(&["SET", "{durward}:c", "x"]);
        let found = fixture.store.find(fingerprint("key-1")).await;
        assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?}");
    });
}

#[test]
fn a_gap_in_the_stream_makes_everything_forgotten() {
    run(async {
        let mut fixture = Fixture::cached_redis().await;
        prepare(&fixture).await;
        until_live(fixture.store.as_ref()).await;
        let before = fixture.recorder.floors().len();
        // A change whose event is lost, then one whose event arrives.
        let lost = [
            "EVAL",
            "return redis.call('HINCRBY', KEYS[1], 'position', 1)",
            "1",
            "{durward}:meta",
        ];
        server(&mut fixture).command::<i64>(&lost);
        fixture.store.create_tenant(tenant("globex"), NOW).await.unwrap();
        until("the order to forget", async || fixture.recorder.floors().len() > before).await;
        let position = fixture.store.find(fingerprint("key-1")).await.unwrap().position;
        assert!(fixture.recorder.floors().last().unwrap() <= &position);
        fixture
            .store
            .set_tenant_active(tenant("acme"), TenantState::Inactive)
            .await
            .unwrap();
        until("events after the gap", async || {
            fixture.store.status().applied == fixture.store.find(fingerprint("key-1")).await.unwrap().position
        })
        .await;
    });
}

#[test]
fn a_trimmed_stream_makes_everything_forgotten() {
    run(async {
        let mut fixture = Fixture::cached_redis().await;
        prepare(&fixture).await;
        assert!(fixture.find(fingerprint("key-1")).await.unwrap().is_some());
        until_live(fixture.store.as_ref()).await;
        let before = fixture.recorder.floors().len();
        // The change and the trim are one step: the reader can never see the event.
        let script = "redis.call('HINCRBY', KEYS[1], 'position', 1)
            redis.call('XADD', KEYS[2], '*', 'p', redis.call('HGET', KEYS[1], 'position'), 'e', 'gone')
            return redis.call('XTRIM', KEYS[2], 'MAXLEN', 0)";
        server(&mut fixture).command::<i64>(&["EVAL", script, "2", "{durward}:meta", "{durward}:events"]);
        until("the order to forget", async || fixture.recorder.floors().len() > before).await;
        assert!(fixture.find(fingerprint("key-1")).await.unwrap().is_some(), "and it is read again");
    });
}

#[test]
fn an_event_that_does_not_decode_makes_everything_forgotten() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        until_live(fixture.store.as_ref()).await;
        let before = fixture.recorder.floors().len();
        let script = "local p = redis.call('HINCRBY', KEYS[1], 'position', 1)
            return redis.call('XADD', KEYS[2], '*', 'p', p, 'e', 'garbage')";
        server(&mut fixture).command::<String>(&["EVAL", script, "2", "{durward}:meta", "{durward}:events"]);
        until("the order to forget", async || fixture.recorder.floors().len() > before).await;
    });
}

#[test]
fn positions_that_went_backwards_make_everything_forgotten() {
    run(async {
        let mut fixture = Fixture::cached_redis().await;
        prepare(&fixture).await;
        let held = fixture.store.find(fingerprint("key-1")).await.unwrap().position;
        until_live(fixture.store.as_ref()).await;
        // As after a failover to a replica that had not received the last change.
        server(&mut fixture).command::<i64>(&["HINCRBY", "{durward}:meta", "position", "-1"]);
        let found = fixture.store.find(fingerprint("key-1")).await;
        assert!(found.is_err() || found.unwrap().position > held, "an older history is not believed");
        until("the new generation", async || {
            fixture
                .store
                .find(fingerprint("key-1"))
                .await
                .is_ok_and(|found| found.position > held)
        })
        .await;
    });
}

#[test]
fn a_broken_record_keeps_no_other_ending_from_being_written_again() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        fixture.store.create_credential(record("key-2", "acme")).await.unwrap();
        until_live(fixture.store.as_ref()).await;
        let server = |fixture: &mut Fixture, words: &[&str]| server(fixture).command::<redis::Value>(words);
        let active: Vec<u8> = self::server(&mut fixture).command(&["HGET", "{durward}:c", "key-1"]);
        for id in ["key-1", "key-2"] {
            let revoke = fixture.store.change_credential(credential_id(id), CredentialChange::Revoke, NOW);
            revoke.await.unwrap();
        }
        // As after a failover that lost both, of which the later one left a record that is none.
        self::server(&mut fixture).command_with_bytes(&["HSET", "{durward}:c", "key-1"], &active);
        server(&mut fixture, &["HSET", "{durward}:c", "key-2", "garbage"]);
        server(&mut fixture, &["HINCRBY", "{durward}:meta", "position", "-2"]);
        until("the ending of the other", async || {
            let found = fixture.store.find_credential(credential_id("key-1")).await;
            found.is_ok_and(|record| record.is_some_and(|record| matches!(record.state, CredentialState::Revoked { .. })))
        })
        .await;
    });
}

#[test]
fn a_reader_that_was_away_hears_what_it_missed() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        let events = fixture.recorder.wait_for(2).await.len();
        let floors = fixture.recorder.floors().len();
        let other = open_redis(server(&mut fixture), 0).await.unwrap();
        // Every connection of everybody is cut; changes go on as soon as one is back.
        server(&mut fixture).command::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        until("a change", async || other.create_tenant(tenant("globex"), NOW).await.is_ok()).await;
        fixture.recorder.wait_for(events + 1).await;
        assert_eq!(fixture.recorder.floors().len(), floors, "a reconnect alone forgets nothing");
    });
}

#[test]
fn a_replica_is_never_asked() {
    run(async {
        let primary = RedisServer::start();
        let store = open_redis(&primary, 0).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let replica = RedisServer::replica_of(&primary);
        until("replication", async || replica.command::<bool>(&["EXISTS", "{durward}:meta"])).await;
        let of_replica = open_redis(&replica, 0).await.unwrap();
        let found = of_replica.find(fingerprint("key-1")).await;
        assert!(
            matches!(&found, Err(StoreError::Unavailable(why)) if why.contains("replica")),
            "{found:?}"
        );
    });
}

#[test]
fn c7_a_change_that_replicas_did_not_confirm_is_not_acknowledged() {
    run(async {
        let primary = RedisServer::start();
        let store = open_redis(&primary, 1).await.unwrap();
        let alone = store.create_tenant(tenant("acme"), NOW).await;
        let Err(error @ ChangeError::Unconfirmed(_)) = alone else {
            panic!("acknowledged without a replica: {alone:?}");
        };
        assert!(error.to_string().contains("was made"), "{error}");
        let again = store.set_tenant_active(tenant("acme"), TenantState::Active).await;
        assert!(again.is_err(), "what is so already is not confirmed either: {again:?}");
        let replica = RedisServer::replica_of(&primary);
        until("the confirmation", async || {
            store.set_tenant_active(tenant("acme"), TenantState::Active).await.is_ok()
        })
        .await;
        store.create_credential(record("key-1", "acme")).await.unwrap();
        assert!(
            replica.command::<bool>(&["HEXISTS", "{durward}:c", "key-1"]),
            "it has it when we say so"
        );
    });
}

#[test]
fn keys_of_a_prefix_share_a_slot() {
    run(async {
        let mut fixture = Fixture::redis().await;
        prepare(&fixture).await;
        let keys: Vec<String> = server(&mut fixture).command(&["KEYS", "*"]);
        assert!(keys.len() >= 8, "{keys:?}");
        assert!(keys.iter().all(|key| key.starts_with("{durward}:")), "{keys:?}");
    });
}

/// The generation of a position; another one begins when what was read so far is forgotten.
fn generation(store: &impl CredentialStore) -> u64 {
    store.status().applied.0 >> 40
}

#[test]
fn a_branch_of_the_history_with_the_same_counts_and_ids_is_another() {
    run(async {
        let server = RedisServer::start();
        let store = open_redis(&server, 0).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let before = generation(&store);
        store.create_credential(record("key-1", "acme")).await.unwrap();
        store.create_credential(record("key-2", "acme")).await.unwrap();
        assert_eq!(generation(&store), before, "a chain goes on");
        // As after a return to older data by a server whose clock is behind: the last change was another one, and one more
        // was made since.
        let _: i64 = server.command(&[
            "EVAL",
            "local all = redis.call('XRANGE', KEYS[2], '-', '+')
             local event = all[#all][2][4]
             local before = string.match(all[#all][2][6], '^(%S+)')
             redis.call('DEL', KEYS[2])
             for i = 1, #all - 1 do redis.call('XADD', KEYS[2], all[i][1], unpack(all[i][2])) end
             redis.call('XADD', KEYS[2], all[#all][1], 'p', #all, 'e', event, 'l', before .. ' other')
             redis.call('XADD', KEYS[2], '*', 'p', #all + 1, 'e', event, 'l', 'other next')
             return redis.call('HSET', KEYS[1], 'position', #all + 1, 'link', 'next')",
            "2",
            "{durward}:meta",
            "{durward}:events",
        ]);
        until("the gateway to forget", async || generation(&store) > before).await;
    });
}
