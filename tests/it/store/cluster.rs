//! The store in a Redis Cluster: one slot, its primary found, followed when it moves.

use durward::base::principal::State;
use durward::store::redis::{Endpoint, RedisAccess, RedisUser, Servers};
use durward::store::{CredentialChange, CredentialStore, StoreError};

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
        assert!(matches!(found.credential.state, State::Revoked { .. }));
        assert_eq!(cluster.nodes[owner].command::<i64>(&["DBSIZE"]), 0);
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
