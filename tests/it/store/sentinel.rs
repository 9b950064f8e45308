//! The primary is where most sentinels say, and only there: found, verified, left when it is demoted.

use std::sync::Arc;

use durward::store::redis::{Endpoint, RedisAccess, RedisUser, SentinelAccess, Servers};
use durward::store::{FactStore, RecordStore, StoreError, TenantState};

use super::fixture::{NOW, PEPPER, Recorder, fingerprint, open_access, record, run, tenant, until};
use crate::support::redis::RedisServer;
use crate::support::redis_sets::{SERVICE, Sentinels};

pub(super) fn access(sentinels: &Sentinels) -> RedisAccess {
    let addresses = sentinels.addresses();
    RedisAccess {
        servers: Servers::Sentinels(Box::new(SentinelAccess {
            addresses: addresses.iter().map(|a| Endpoint::parse_sentinel(a).unwrap()).collect(),
            service: SERVICE.into(),
            user: RedisUser::default(),
            tls: None,
        })),
        user: RedisUser::default(),
        database: 0,
        tls: None,
    }
}

#[test]
fn f13_a_failover_is_followed_by_every_connection_and_the_old_primary_is_not_asked_again() {
    run(async {
        let mut first = RedisServer::start();
        let second = RedisServer::replica_of(&first);
        let sentinels = Sentinels::watching(&first, 3, 1);
        let store = open_access(access(&sentinels), 1, PEPPER).await.unwrap();
        let heard = Arc::new(Recorder::default());
        store.subscribe(heard.clone());
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        heard.wait_for(2).await;
        let floors = heard.floors().len();

        first.kill();
        let found = store.find(fingerprint("nobody")).await;
        // On a machine that is slow enough the new primary is there already, and may say so.
        let failed = matches!(found, Err(StoreError::Unavailable(_)));
        assert!(failed || sentinels.have_named(&second), "{found:?}");
        until("the new primary", async || {
            store.find(fingerprint("key-1")).await.is_ok_and(|found| found.facts.is_some())
        })
        .await;
        sentinels.until_named(&second);
        // The replica had everything: nothing is forgotten, and events go on.
        until("a change that no replica is left to confirm", async || {
            let made = store.set_tenant_active(tenant("acme"), TenantState::Inactive).await;
            made.is_err_and(|error| error.to_string().contains("0 of 1 replicas"))
        })
        .await;
        heard.wait_for(3).await;
        assert_eq!(heard.floors().len(), floors);
    });
}

#[test]
fn a_primary_that_was_demoted_alive_is_left_by_all_connections() {
    run(async {
        let first = RedisServer::start();
        let second = RedisServer::replica_of(&first);
        let sentinels = Sentinels::watching(&first, 1, 1);
        let store = open_access(access(&sentinels), 0, PEPPER).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        until("replication", async || second.command::<bool>(&["EXISTS", "{durward}:meta"])).await;
        sentinels.promote();
        sentinels.until_named(&second);
        // Until it is demoted it takes changes, and they are lost: no change here waits for replicas.
        until("the demotion", async || {
            let info = first.try_command::<String>(&["INFO", "replication"]);
            info.is_ok_and(|info| info.contains("role:slave"))
        })
        .await;
        until("a change on the new primary", async || {
            store.create_credential(record("key-1", "acme")).await.is_ok()
        })
        .await;
        assert!(second.command::<bool>(&["HEXISTS", "{durward}:c", "key-1"]));
        until("all connections on the new primary", async || {
            let clients = first.try_command::<String>(&["CLIENT", "LIST"]).unwrap_or_default();
            !clients.is_empty()
                && !["cmd=role", "cmd=evalsha", "cmd=xread"]
                    .iter()
                    .any(|of_ours| clients.contains(of_ours))
                && store.find(fingerprint("key-1")).await.is_ok()
        })
        .await;
    });
}

#[test]
fn the_word_of_a_minority_is_not_taken() {
    run(async {
        let primary = RedisServer::start();
        let sentinels = Sentinels::watching(&primary, 3, 0);
        sentinels.pause(0);
        sentinels.pause(1);
        let store = open_access(access(&sentinels), 0, PEPPER).await.unwrap();
        let Err(StoreError::Unavailable(why)) = store.find(fingerprint("key-1")).await else {
            panic!("one of three sentinels was believed");
        };
        assert!(why.contains("2 of 3 sentinels did not answer"), "{why}");
        sentinels.resume(1);
        until("a majority", async || store.create_tenant(tenant("acme"), NOW).await.is_ok()).await;
        sentinels.resume(0);
    });
}

#[test]
fn a_service_that_no_sentinel_knows_is_named() {
    run(async {
        let primary = RedisServer::start();
        let sentinels = Sentinels::watching(&primary, 1, 0);
        let mut wrong = access(&sentinels);
        if let Servers::Sentinels(sentinels) = &mut wrong.servers {
            sentinels.service = "another".into();
        }
        let store = open_access(wrong, 0, PEPPER).await.unwrap();
        let why = store.find(fingerprint("key-1")).await.unwrap_err().to_string();
        assert!(why.contains("\"another\""), "{why}");
    });
}
