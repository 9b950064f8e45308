//! Facts that one answer of Redis revalidates: they stay young although nobody reads them, and age without it.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::Clock as _;
use durward::base::principal::Position;
use durward::store::CredentialChange;
use durward::store::cached::{CachedStore, LookupOrigin, Recalled};
use durward::store::events::ReaderState;

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
    until("the events", async || applied(&fixture) >= 3).await;
    for name in ["key-1", "key-2"] {
        assert!(cache.load(fingerprint(name), LookupOrigin::Proven).await.unwrap().is_some());
    }
    (fixture, cache)
}

/// The count of the last event that was applied.
fn applied(fixture: &Fixture) -> u64 {
    let Position(position) = fixture.store.status().applied;
    position % (1 << Position::COUNT_BITS)
}

fn is_present(fixture: &Fixture, cache: &CachedStore, name: &str) -> bool {
    matches!(cache.recall(&fingerprint(name), fixture.clock.now()), Recalled::Present(_))
}

/// Waits until the facts of now are revalidated.
async fn until_revalidated(fixture: &Fixture) {
    let now = fixture.clock.now().boot;
    until("a revalidation", async || fixture.store.status().revalidated_at >= now).await;
}

/// The store goes on answering, and revalidates nothing. What was asked before may be answered after, so it is waited for some
/// questions.
async fn assert_nothing_is_revalidated(fixture: &Fixture) {
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_millis(1));
        let now = fixture.clock.now().boot;
        until("the store to be heard", async || fixture.store.status().heard_at >= now).await;
    }
    assert!(fixture.store.status().revalidated_at < fixture.clock.now().boot);
}

/// Reads `key-1` again, and waits until a change has been heard that this gateway makes.
async fn read_again_and_change(fixture: &Fixture, cache: &CachedStore) {
    until("a look-up", async || {
        cache
            .load(fingerprint("key-1"), LookupOrigin::Proven)
            .await
            .is_ok_and(|found| found.is_some())
    })
    .await;
    fixture.store.create_tenant(tenant("globex"), NOW).await.unwrap();
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
        // A look-up would have failed.
        assert_nothing_is_revalidated(&fixture).await;
        fixture.clock.advance(HALF * 2);
        assert!(!is_present(&fixture, &cache, "key-1"));
    });
}

#[test]
fn redis_that_is_ahead_of_its_events_revalidates_nothing() {
    run(async {
        let (fixture, cache) = house().await;
        fixture
            .redis_server()
            .command::<i64>(&["HINCRBY", "{durward}:meta", "position", "1"]);
        until("the gateway to forget", async || !is_present(&fixture, &cache, "key-1")).await;
        assert_nothing_is_revalidated(&fixture).await;
        // The next change has a link, so it can be told what its count is about.
        read_again_and_change(&fixture, &cache).await;
        until_revalidated(&fixture).await;
    });
}

#[test]
fn redis_with_an_older_position_revalidates_nothing() {
    run(async {
        let (fixture, cache) = house().await;
        fixture
            .redis_server()
            .command::<i64>(&["HINCRBY", "{durward}:meta", "position", "-1"]);
        until("the gateway to forget", async || !is_present(&fixture, &cache, "key-1")).await;
        assert_nothing_is_revalidated(&fixture).await;
        read_again_and_change(&fixture, &cache).await;
        until_revalidated(&fixture).await;
    });
}

#[test]
fn redis_with_another_history_revalidates_only_what_is_read_of_it() {
    run(async {
        let (fixture, cache) = house().await;
        fixture
            .redis_server()
            .command::<i64>(&["HSET", "{durward}:meta", "history", "another"]);
        until("the gateway to forget", async || !is_present(&fixture, &cache, "key-1")).await;
        until_revalidated(&fixture).await;
        assert!(!is_present(&fixture, &cache, "key-1") && !is_present(&fixture, &cache, "key-2"));
        read_again_and_change(&fixture, &cache).await;
        fixture.clock.advance(HALF);
        until_revalidated(&fixture).await;
        assert!(is_present(&fixture, &cache, "key-1") && !is_present(&fixture, &cache, "key-2"));
    });
}

#[test]
fn garbage_for_an_answer_revalidates_nothing() {
    run(async {
        for garbage in [
            ["HSET", "{durward}:meta", "position", "three"],
            ["HSET", "{durward}:meta", "position", "-3"],
            ["HSET", "{durward}:meta", "position", "99999999999999999999"],
            ["COPY", "{durward}:meta", "{durward}:events", "REPLACE"],
        ] {
            let (fixture, cache) = house().await;
            fixture.redis_server().command::<()>(&garbage);
            until("the answer to be refused", async || {
                fixture.store.status().reader == ReaderState::Lost
            })
            .await;
            fixture.clock.advance(HALF * 2);
            assert!(!is_present(&fixture, &cache, "key-1"), "{garbage:?}");
            assert!(fixture.store.status().revalidated_at < fixture.clock.now().boot, "{garbage:?}");
        }
    });
}

#[test]
fn garbage_for_a_link_revalidates_nothing() {
    run(async {
        let (fixture, cache) = house().await;
        fixture.redis_server().command::<()>(&["HSET", "{durward}:meta", "link", "garbage"]);
        until("the gateway to forget", async || !is_present(&fixture, &cache, "key-1")).await;
        assert_nothing_is_revalidated(&fixture).await;
        read_again_and_change(&fixture, &cache).await;
        until_revalidated(&fixture).await;
    });
}

#[test]
fn a_change_without_a_link_ends_revalidation_until_the_next_one() {
    run(async {
        let (fixture, cache) = house().await;
        until_revalidated(&fixture).await;
        // As a gateway before 0.2 changes `key-2`, or whatever else does not tell two histories apart.
        let script = "local all = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
            local p = redis.call('HINCRBY', KEYS[1], 'position', 1)
            return redis.call('XADD', KEYS[2], '*', 'p', p, 'e', all[1][2][4])";
        fixture
            .redis_server()
            .command::<String>(&["EVAL", script, "2", "{durward}:meta", "{durward}:events"]);
        until("the event", async || applied(&fixture) >= 4).await;
        assert!(is_present(&fixture, &cache, "key-1") && !is_present(&fixture, &cache, "key-2"));
        assert_nothing_is_revalidated(&fixture).await;
        // The old way: facts that are used are read again before they are too old.
        fixture.clock.advance(HALF + HALF / 4);
        assert!(is_present(&fixture, &cache, "key-1"));
        until("a refresh", async || cache.figures().refreshes == 1).await;
        read_again_and_change(&fixture, &cache).await;
        until_revalidated(&fixture).await;
    });
}
