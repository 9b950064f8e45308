//! A store killed at any point of a creation holds all of it or nothing, and no change without its event.

use std::time::Duration;

use durward::store::NewRecords;

use super::fixture::{Backend, Fixture, NOW, fingerprint, open_redis, record, run, tenant};
use super::trees::child;

/// Kills; each ends a stream of creations at another point.
const ROUNDS: u64 = 8;

/// Sign-ups in flight at a time.
const AT_ONCE: u64 = 8;

/// A tenant, its account, and the account's first session.
fn sign_up(round: u64, lane: u64, i: u64) -> NewRecords {
    let name = format!("{round}-{lane}-{i}");
    let owner = format!("t-{name}");
    NewRecords {
        tenant: Some(tenant(&owner)),
        credentials: vec![
            record(&format!("a-{name}"), &owner),
            child(&format!("s-{name}"), &format!("a-{name}"), &owner),
        ],
        ..NewRecords::default()
    }
}

#[test]
fn a_killed_redis_holds_whole_creations_and_an_event_for_each_change() {
    run(async {
        let mut made = 0;
        for round in 0..ROUNDS {
            // A file of its own each time: a Redis that loads a file with a torn end leaves the begun
            // transaction in it, and a second load would run it together with what was appended.
            made += kill_once(round).await;
        }
        assert!(made > 0, "nothing was made before the kills");
    });
}

/// Kills a Redis amid creations, starts it again, and checks what it holds; how many were acknowledged.
async fn kill_once(round: u64) -> usize {
    let mut fixture = Fixture::durable_redis().await;
    // An empty store is begun by an operator, not by a sign-up.
    fixture.store.create_tenant(tenant("first"), NOW).await.unwrap();
    let lanes: Vec<_> = (0..AT_ONCE)
        .map(|lane| {
            let store = fixture.store.clone();
            tokio::spawn(async move {
                let mut made = Vec::new();
                for i in 0.. {
                    match store.create(sign_up(round, lane, i), NOW).await {
                        Ok(_) => made.push(format!("{round}-{lane}-{i}")),
                        Err(_) => break,
                    }
                }
                made
            })
        })
        .collect();
    // Not to synchronise: the kill shall hit another point of the stream each time.
    tokio::time::sleep(Duration::from_millis(3 + round * 7)).await;
    let Backend::Redis(server) = &mut fixture.backend else {
        panic!("Redis was asked for")
    };
    server.kill();
    let mut acknowledged = Vec::new();
    for lane in lanes {
        acknowledged.extend(lane.await.unwrap());
    }
    server.revive();
    fixture.store = std::sync::Arc::new(open_redis(server, 0).await.unwrap());
    for name in &acknowledged {
        let found = fixture.facts(fingerprint(&format!("s-{name}"))).await.unwrap();
        assert_eq!(found.expect("it was acknowledged").ancestors.len(), 1);
    }
    let Backend::Redis(server) = &fixture.backend else {
        panic!("Redis was asked for")
    };
    let count = |words: &[&str]| -> u64 { server.command(words) };
    let (tenants, credentials) = (count(&["HLEN", "{durward}:t"]), count(&["HLEN", "{durward}:c"]));
    assert_eq!(credentials, (tenants - 1) * 2, "no tenant without its account and session");
    assert_eq!(count(&["HLEN", "{durward}:f"]), tenants + credentials * 2, "each is found");
    assert_eq!(
        count(&["XLEN", "{durward}:events"]),
        tenants + credentials,
        "an event for each change, and no other"
    );
    let position: Option<String> = server.command(&["HGET", "{durward}:meta", "position"]);
    assert_eq!(position.unwrap_or_default().parse().unwrap_or(0), tenants + credentials);
    assert!(tenants > acknowledged.len() as u64);
    acknowledged.len()
}
