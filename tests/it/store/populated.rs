//! F14: a store that lost data is told from a credential that does not exist, however it lost it.

use std::sync::Arc;
use std::time::Duration;

use durward::store::redis::RedisStore;
use durward::store::{ChangeError, CredentialFilter, FactStore, NewRecords, RecordStore, StoreError};

use super::fixture::{NOW, credential_id, fingerprint, open_redis, record, run, tenant, until};
use crate::support::redis::RedisServer;

async fn prepared(server: &RedisServer) -> Arc<RedisStore> {
    let store = Arc::new(open_redis(server, 0).await.unwrap());
    store.create_tenant(tenant("acme"), NOW).await.unwrap();
    for i in 0..20 {
        store.create_credential(record(&format!("key-{i}"), "acme")).await.unwrap();
    }
    assert!(
        store.find(fingerprint("nobody")).await.unwrap().facts.is_none(),
        "an absence is known"
    );
    store
}

/// Nobody is told to be unknown.
async fn refuses_to_say(store: &RedisStore, how: &str) {
    for id in ["nobody", "key-1"] {
        let found = store.find(fingerprint(id)).await;
        assert!(
            matches!(&found, Ok(found) if found.facts.is_some() && id != "nobody")
                || matches!(found, Err(ref error) if !matches!(error, StoreError::Foreign(_))),
            "{how}: {id}: {found:?}"
        );
    }
    assert!(store.find(fingerprint("nobody")).await.is_err(), "{how}");
}

#[test]
fn f14_keys_that_expire_are_an_error_and_not_an_absence() {
    run(async {
        for key in ["f", "c", "t", "meta"] {
            let server = RedisServer::start();
            let store = prepared(&server).await;
            assert_eq!(server.command::<i64>(&["PEXPIRE", &format!("{{durward}}:{key}"), "1"]), 1);
            until("the expiry", async || {
                server.command::<i64>(&["EXISTS", &format!("{{durward}}:{key}")]) == 0
            })
            .await;
            refuses_to_say(&store, &format!("{key} expired")).await;
        }
    });
}

#[test]
fn f14_keys_that_are_evicted_are_an_error_and_not_an_absence() {
    run(async {
        let server = RedisServer::start();
        let store = prepared(&server).await;
        server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "3mb"]);
        // Others fill the memory until one of our keys has gone.
        let script = "for i = 1, 30 do redis.call('SET', KEYS[1] .. ARGV[1] .. ':' .. i, string.rep('x', 4000)) end return 1";
        let mut round = 0;
        until("an eviction", async || {
            round += 1;
            server.command::<i64>(&["EVAL", script, "1", "junk", &round.to_string()]);
            server.command::<i64>(&["EXISTS", "{durward}:f", "{durward}:c", "{durward}:t", "{durward}:meta"]) < 4
        })
        .await;
        // Were all of them gone, the store would be a new one.
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        refuses_to_say(&store, "evicted").await;
        // Nor does a gateway that is started now take the rest for a new store.
        let fresh = open_redis(&server, 0).await.unwrap();
        refuses_to_say(&fresh, "evicted, and started anew").await;
        // Whether or not there is something left to add it to.
        let _ = fresh.create_tenant(tenant("new"), NOW).await;
        until("the connections", async || {
            fresh.probe(Duration::from_secs(5)).await.is_ok() || fresh.find(fingerprint("key-1")).await.is_err()
        })
        .await;
        refuses_to_say(&fresh, "evicted, and a tenant was made").await;
    });
}

#[test]
fn f14_single_entries_that_are_missing_make_every_absence_doubtful() {
    run(async {
        for (key, field) in [("c", "key-1"), ("t", "acme")] {
            let server = RedisServer::start();
            let store = prepared(&server).await;
            assert_eq!(server.command::<i64>(&["HDEL", &format!("{{durward}}:{key}"), field]), 1);
            refuses_to_say(&store, &format!("{field} removed from {key}")).await;
        }
        let server = RedisServer::start();
        let store = prepared(&server).await;
        let entry = fingerprint("key-2").to_hex();
        assert_eq!(server.command::<i64>(&["HDEL", "{durward}:f", &entry]), 1);
        let found = store.find(fingerprint("key-2")).await;
        assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    });
}

#[test]
fn f14_an_index_that_is_lost_is_an_error_and_not_a_short_list() {
    run(async {
        for key in ["{durward}:ids", "{durward}:tids"] {
            let server = RedisServer::start();
            let store = prepared(&server).await;
            server.command::<()>(&["DEL", key]);
            if key.ends_with(":tids") {
                assert!(store.list_tenants(None, 10).await.is_err());
            } else {
                let all = CredentialFilter {
                    limit: 10,
                    ..CredentialFilter::default()
                };
                assert!(store.list_credentials(all).await.is_err());
            }
        }
    });
}

#[test]
fn f14_a_sign_up_does_not_begin_a_flushed_store() {
    run(async {
        let server = RedisServer::start();
        let store = prepared(&server).await;
        server.command::<()>(&["FLUSHALL"]);
        let sign_up = |owner: &str| NewRecords {
            tenant: Some(tenant(owner)),
            credentials: vec![record(&format!("account-of-{owner}"), owner)],
            ..NewRecords::default()
        };
        let made = store.create(sign_up("stranger"), NOW).await;
        assert!(matches!(made, Err(ChangeError::Store(StoreError::Unavailable(_)))), "{made:?}");
        refuses_to_say(&store, "flushed, then a sign-up").await;
        // An operator does, and then sign-ups go on.
        store.create_tenant(tenant("house"), NOW).await.unwrap();
        store.create(sign_up("stranger"), NOW).await.unwrap();
        // The reader finds out that it is another store; until then nothing is known for certain.
        until("the new history", async || {
            store.find(fingerprint("nobody")).await.is_ok_and(|found| found.facts.is_none())
        })
        .await;
    });
}

#[test]
fn what_was_seen_to_end_in_a_flushed_store_says_nothing_of_the_next_one() {
    run(async {
        let server = RedisServer::start();
        let store = prepared(&server).await;
        let revoke = durward::store::CredentialChange::Revoke;
        store.change_credential(credential_id("key-1"), revoke, NOW).await.unwrap();
        server.command::<()>(&["FLUSHALL"]);
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        until("the new history", async || {
            store.status().heard_at.0 > 0 && store.create_credential(record("key-1", "acme")).await.is_ok()
        })
        .await;
        until("the key of the new store", async || {
            let found = store.find(fingerprint("key-1")).await;
            found.is_ok_and(|found| {
                found
                    .facts
                    .is_some_and(|facts| facts.credential.state == durward::base::principal::CredentialState::Active)
            })
        })
        .await;
        tokio::time::timeout(Duration::from_secs(5), store.probe(Duration::from_secs(5)))
            .await
            .unwrap()
            .unwrap();
    });
}
