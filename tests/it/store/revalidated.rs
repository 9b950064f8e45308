//! Facts that one answer of Redis revalidates: they stay young although nobody reads them, and age without it.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::Clock as _;
use durward::base::principal::Position;
use durward::store::CredentialChange;
use durward::store::cached::{CachedStore, LookupOrigin, Recalled};

use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, tenant, until};

const HALF: Duration = Duration::from_secs(15);

/// A store over Redis, and its cache, which has read `key-1` and `key-2`.
async fn house() -> (Fixture, Arc<CachedStore>) {
    let fixture = Fixture::cached_redis().await;
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
    let cache = fixture.cache.clone().unwrap();
    for name in ["key-1", "key-2"] {
        fixture.store.create_credential(record(name, "acme")).await.unwrap();
    }
    // What is read before its event has been heard is not known to stand in the chain of events.
    let count = |position: Position| position.0 % (1 << Position::COUNT_BITS);
    until("the events", async || count(fixture.store.status().applied) >= 3).await;
    for name in ["key-1", "key-2"] {
        assert!(cache.load(fingerprint(name), LookupOrigin::Proven).await.unwrap().is_some());
    }
    (fixture, cache)
}

fn is_present(fixture: &Fixture, cache: &CachedStore, name: &str) -> bool {
    matches!(cache.recall(&fingerprint(name), fixture.clock.now()), Recalled::Present(_))
}

/// Waits until the facts of now are revalidated.
async fn until_revalidated(fixture: &Fixture) {
    let now = fixture.clock.now().boot;
    until("a revalidation", async || fixture.store.status().revalidated_at >= now).await;
}

#[test]
fn facts_stay_young_while_nothing_changes_and_nobody_reads_them() {
    run(async {
        let (fixture, cache) = house().await;
        for _ in 0..5 {
            fixture.clock.advance(HALF);
            until_revalidated(&fixture).await;
            assert!(is_present(&fixture, &cache, "key-1") && is_present(&fixture, &cache, "key-2"));
        }
        let figures = cache.figures();
        assert_eq!((figures.loads, figures.refreshes), (2, 0));
        // A change of one of them ends its facts, and no others.
        let revoked = fixture
            .store
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await;
        revoked.unwrap();
        until("the event", async || !is_present(&fixture, &cache, "key-1")).await;
        fixture.clock.advance(HALF);
        until_revalidated(&fixture).await;
        assert!(is_present(&fixture, &cache, "key-2") && !is_present(&fixture, &cache, "key-1"));
        assert_eq!((cache.figures().loads, cache.figures().refreshes), (2, 0));
    });
}

#[test]
fn facts_age_when_redis_is_gone() {
    run(async {
        let (mut fixture, cache) = house().await;
        fixture.clock.advance(HALF);
        until_revalidated(&fixture).await;
        fixture.stop();
        fixture.clock.advance(HALF * 2 - Duration::from_millis(1));
        assert!(is_present(&fixture, &cache, "key-1"));
        fixture.clock.advance(Duration::from_millis(1));
        assert!(!is_present(&fixture, &cache, "key-1"));
    });
}

#[test]
fn redis_that_has_lost_records_revalidates_nothing() {
    run(async {
        let (fixture, cache) = house().await;
        fixture.clock.advance(HALF);
        until_revalidated(&fixture).await;
        let redis = fixture.redis_server();
        redis.command::<()>(&["HDEL", "{durward}:f", &fingerprint("key-2").to_hex()]);
        // What was asked before it was lost may be answered after.
        for _ in 0..2 {
            fixture.clock.advance(Duration::from_millis(1));
            let now = fixture.clock.now().boot;
            until("the store to be heard", async || fixture.store.status().heard_at >= now).await;
        }
        assert!(
            fixture.store.status().revalidated_at < fixture.clock.now().boot,
            "a look-up would have failed"
        );
        fixture.clock.advance(HALF * 2);
        assert!(!is_present(&fixture, &cache, "key-1"));
    });
}
