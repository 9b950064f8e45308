//! What operators are told about the replicas that changes wait for.

use serde_json::Value;

use crate::support::redis::RedisServer;
use crate::support::wait::{PATIENCE, until};

use super::receipts::{Group, start};
use super::{make_key, probe, status};

/// Replicas that have their first copy.
fn replicas<const N: usize>(primary: &RedisServer) -> [RedisServer; N] {
    let replicas = std::array::from_fn(|_| RedisServer::replica_of(primary));
    until("the replicas", PATIENCE, || {
        let info: String = primary.command(&["INFO", "replication"]);
        (info.matches("state=online").count() == N).then_some(())
    });
    replicas
}

#[test]
fn a_change_that_a_replica_may_lack_names_it_and_is_confirmed_by_repeating_it() {
    let group = Group::new();
    let [replica] = replicas(&group.redis);
    let site = group.site("gw-a", &group.redis.url(), "");
    let gateway = start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (id, key) = make_key(&gateway);
    assert_eq!(status(&gateway, &key), 200);
    replica.pause();
    let lacking = gateway.run(&["keys", "revoke", &id, "--json"]);
    assert_eq!(lacking.code, 4, "{lacking:?}");
    let told: Value = serde_json::from_str(lacking.stderr.trim()).unwrap();
    let message = told["error"]["message"].as_str().unwrap();
    let named = format!("127.0.0.1:{}", replica.port());
    assert!(message.contains("the change was made") && message.contains(&named), "{message}");
    assert_eq!(status(&gateway, &key), 401, "it is in force");
    replica.resume();
    until("the confirmation", PATIENCE, || {
        (gateway.run(&["keys", "revoke", &id]).code == 0).then_some(())
    });
}

#[test]
fn a_number_below_the_replicas_there_are_is_shown_and_all_is_not() {
    let group = Group::new();
    let _two: [RedisServer; 2] = replicas(&group.redis);
    let concern = "durward_store_concerns{concern=\"fewer_than_all\"} 1";
    // Tests run without persistence: when that is told, the store has been looked at.
    let looked = "durward_store_concerns{concern=\"not_persistent\"} 1";
    let metrics = |gateway: &_| {
        until("the look", PATIENCE, || {
            Some(probe(gateway, "/metrics").1).filter(|text| text.contains(looked))
        })
    };

    let site = group.site("gw-a", &group.redis.url(), "wait_replicas = 1\n");
    let one = start(&site);
    assert!(metrics(&one).contains(concern));
    let ready = probe(&one, "/readyz").1;
    assert!(ready.contains("changes wait for 1 replicas and 2 could be promoted"), "{ready}");
    let log = one.output();
    assert!(String::from_utf8_lossy(&log).contains("\"concern\":\"fewer_than_all\""));

    let site = group.site("gw-b", &group.redis.url(), "wait_replicas = 2\n");
    assert!(!metrics(&start(&site)).contains(concern));
    let site = group.site("gw-c", &group.redis.url(), "");
    assert!(!metrics(&start(&site)).contains(concern));
}
