//! The store in a Redis Cluster: one slot, its primary found, followed when it moves.

use durward::base::clock;
use durward::base::principal::CredentialState;
use durward::store::redis::{Endpoint, RedisAccess, RedisUser, Servers};
use durward::store::{CredentialChange, FactStore, RecordStore, StoreError};

use super::fixture::{NOW, PEPPER, Recorder, credential_id, fingerprint, open_access, record, run, tenant, until};
use crate::support::redis_sets::Cluster;

const META: &str = "{durward}:meta";

fn access(seeds: &[String]) -> RedisAccess {
    RedisAccess {
        servers: Servers::Cluster(seeds.iter().map(|seed| Endpoint::parse(seed).unwrap()).collect()),
        user: RedisUser::default(),
        database: 0,
        tls: None,
    }
}

#[test]
fn the_slot_is_found_from_any_node_and_followed_when_it_moves() {
    run(async {
        let cluster = Cluster::start();
        let owner = cluster.owner(META);
        let other = (owner + 1) % 3;
        // A node that does not have the slot says who does.
        let seed = [cluster.addresses()[other].clone()];
        let store = open_access(access(&seed), 0, PEPPER).await.unwrap();
        let heard = std::sync::Arc::new(Recorder::default());
        store.subscribe(heard.clone());
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        heard.wait_for(2).await;
        let keys: Vec<String> = cluster.nodes[owner].command(&["KEYS", "*"]);
        assert!(keys.len() >= 7 && keys.iter().all(|key| key.starts_with("{durward}:")), "{keys:?}");

        cluster.move_slot(META, owner, other);
        until("the slot at its new place", async || {
            store.find(fingerprint("key-1")).await.is_ok_and(|found| found.facts.is_some())
        })
        .await;
        until("a change at its new place", async || {
            store
                .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
                .await
                .is_ok()
        })
        .await;
        // The stream moved with the rest, so nothing was missed.
        heard.wait_for(3).await;
        assert_eq!(
            heard.floors().len(),
            1,
            "the first connection's, and no other: {:?}",
            heard.floors()
        );
        let found = store.find(fingerprint("key-1")).await.unwrap().facts.unwrap();
        assert!(matches!(found.credential.state, CredentialState::Revoked { .. }));
        assert_eq!(cluster.nodes[owner].command::<i64>(&["DBSIZE"]), 0);
    });
}

#[test]
fn failovers_of_a_cluster_are_followed_and_changes_are_confirmed_again() {
    run(async {
        let mut cluster = Cluster::start();
        let owner = cluster.owner(META);
        let replica = cluster.add_replica(owner);
        let store = open_access(access(&cluster.addresses()), 0, PEPPER).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        let is_there = async || match store.find(fingerprint("key-1")).await {
            Ok(found) => {
                assert!(found.facts.is_some(), "a known key is never absent");
                true
            }
            Err(_) => false,
        };
        let revoke = async || {
            let revoked = store.change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW).await;
            revoked.is_ok()
        };
        until("the replica to have it", async || {
            // A replica tells its own keys only to whoever says that it may be behind.
            let has: String = cluster.nodes[replica].command(&["INFO", "keyspace"]);
            has.contains("db0")
        })
        .await;

        // Planned, as for an upgrade.
        until("the failover", async || {
            // A busy machine gives one up now and then.
            let role: String = cluster.nodes[replica].command(&["INFO", "replication"]);
            let done = role.contains("role:master");
            if !done {
                let _ = cluster.nodes[replica].try_command::<()>(&["CLUSTER", "FAILOVER"]);
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            }
            done
        })
        .await;
        let start = clock::instant();
        until("the new primary", is_there).await;
        let read_again = start.elapsed();
        until("a change on it", &revoke).await;
        eprintln!("planned: read again after {read_again:?}, changed after {:?}", start.elapsed());

        // And not planned: the first one takes over once more.
        until("the first one to have everything", async || {
            let info: String = cluster.nodes[owner].command(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        })
        .await;
        cluster.nodes[replica].kill();
        until("the first one again", async || {
            let role: String = cluster.nodes[owner].command(&["INFO", "replication"]);
            role.contains("role:master") && is_there().await
        })
        .await;
        until("a change on it", revoke).await;
    });
}

#[test]
fn a_cluster_that_lost_the_slot_is_an_error_and_not_an_absence() {
    run(async {
        let mut cluster = Cluster::start();
        let store = open_access(access(&cluster.addresses()), 0, PEPPER).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let owner = cluster.owner(META);
        cluster.nodes[owner].kill();
        for _ in 0..3 {
            let found = store.find(fingerprint("nobody")).await;
            assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
        }
    });
}
