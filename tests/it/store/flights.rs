//! What the cache asks of the store: one read for many, bounded, ahead of time, and never in a storm.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::Clock as _;
use durward::store::StoreError;
use durward::store::cached::{CacheSettings, CachedStore, LookupOrigin, Recalled};

use super::bench::{Bench, unavailable};
use super::fixture::{credential_id, fingerprint, record, run, settings, tenant, until};
use super::wrapper::Behaviour;

#[test]
fn k4_a_hundred_requests_for_one_credential_are_one_read() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldQuestions);
        let loads: Vec<_> = (0..100).map(|_| bench.start_load("key-1")).collect();
        until("all to wait", async || bench.cache.figures().coalesced == 99).await;
        bench.until_held(1).await;
        bench.wrapper.release();
        for load in loads {
            assert!(load.await.unwrap().unwrap().is_some());
        }
        assert_eq!(bench.wrapper.reads(), 1);
        bench.load("key-1").await.unwrap();
        assert_eq!(bench.wrapper.reads(), 1, "and then it is remembered");
    });
}

#[test]
fn who_asks_for_facts_of_now_does_not_wait_for_a_read_that_began_before() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldQuestions);
        let early = bench.start_load("key-1");
        bench.until_held(1).await;
        bench.advance(1);
        let since = bench.fixture.clock.now().boot;
        let start = || {
            let cache = bench.cache.clone();
            tokio::spawn(async move { cache.load_since(fingerprint("key-1"), since, LookupOrigin::Proven).await })
        };
        let first = start();
        bench.until_held(2).await;
        let second = start();
        until("the second to join it", async || bench.cache.figures().coalesced == 1).await;
        bench.wrapper.release();
        for load in [early, first, second] {
            assert!(load.await.unwrap().unwrap().is_some());
        }
        assert_eq!(bench.wrapper.reads(), 2);
    });
}

#[test]
fn k3_an_unknown_key_asked_again_and_again_is_one_read() {
    run(async {
        let bench = Bench::new().await;
        for _ in 0..1_000 {
            if matches!(bench.recall("nobody"), Recalled::Nothing) {
                assert!(bench.load("nobody").await.unwrap().is_none());
            }
        }
        assert_eq!(bench.wrapper.reads(), 1);
        assert_eq!(bench.cache.figures().hits_absent, 999);
    });
}

#[test]
fn f12_a_waiter_that_goes_away_takes_nothing_with_it() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldQuestions);
        let first = bench.start_load("key-1");
        bench.until_held(1).await;
        let second = bench.start_load("key-1");
        until("the second to wait", async || bench.cache.figures().coalesced == 1).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        bench.wrapper.release();
        assert!(second.await.unwrap().unwrap().is_some());
        assert_eq!(bench.wrapper.reads(), 1);
        until("the flight's end", async || bench.cache.figures().in_flight == 0).await;
    });
}

#[test]
fn look_ups_beyond_the_bound_are_refused_at_once() {
    run(async {
        let bench = Bench::with(CacheSettings {
            max_lookups: 2,
            ..settings()
        })
        .await;
        bench.wrapper.set(Behaviour::HoldQuestions);
        let flying = [bench.start_load("key-1"), bench.start_load("nobody")];
        bench.until_held(2).await;
        let refused = bench.load("somebody").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(bench.cache.figures().rejected, 1);
        let joined = bench.start_load("key-1");
        until("the third to join", async || bench.cache.figures().coalesced == 1).await;
        bench.wrapper.release();
        for load in flying.into_iter().chain([joined]) {
            load.await.unwrap().unwrap();
        }
        bench.wrapper.set(Behaviour::Pass);
        assert!(bench.load("somebody").await.unwrap().is_none());
    });
}

#[test]
fn f3_a_store_that_hangs_is_an_error_within_the_deadline() {
    run(async {
        let bench = Bench::with(CacheSettings {
            lookup_timeout: Duration::from_millis(50),
            ..settings()
        })
        .await;
        bench.wrapper.set(Behaviour::HoldQuestions);
        let start = durward::base::clock::instant();
        let refused = bench.load("key-1").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(start.elapsed() >= Duration::from_millis(50));
        until("the flight's end", async || bench.cache.figures().in_flight == 0).await;
        bench.wrapper.set(Behaviour::Pass);
        bench.wrapper.release();
        assert!(bench.load("key-1").await.unwrap().is_some());
    });
}

/// Asks for a credential so many times; each look-up must fail.
async fn assert_refused(bench: &Bench, times: usize) {
    for _ in 0..times {
        assert!(bench.load("key-1").await.is_err());
    }
}

#[test]
fn f3_after_repeated_failures_the_store_is_asked_once_a_second() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(unavailable());
        assert_refused(&bench, 50).await;
        assert_eq!(bench.wrapper.reads(), 5);
        assert_eq!(bench.cache.figures().short_circuited, 45);
        bench.advance(2_000);
        assert_refused(&bench, 50).await;
        assert_eq!(bench.wrapper.reads(), 6);
        bench.wrapper.set(Behaviour::Pass);
        bench.advance(2_000);
        assert!(bench.load("key-1").await.unwrap().is_some());
        assert!(bench.load("nobody").await.unwrap().is_none());
    });
}

#[test]
fn f3_a_store_whose_events_are_heard_again_is_asked_again_within_the_second() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(unavailable());
        assert_refused(&bench, 5).await;
        bench.wrapper.set(Behaviour::Pass);
        bench.advance(200);
        assert!(bench.load("key-1").await.is_err(), "nothing was heard");
        bench.wrapper.hear(bench.fixture.clock.now().boot);
        assert!(bench.load("key-1").await.unwrap().is_some());
        assert_eq!(bench.cache.figures().short_circuited, 1);
    });
}

#[test]
fn busy_facts_are_read_again_ahead_of_time_by_one_flight() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap().unwrap();
        let first = bench.held("key-1");
        let read_at = first.facts().sent_at();
        bench.advance(14_999);
        assert!(bench.present("key-1").is_some());
        assert_eq!(bench.cache.figures().refreshes, 0, "younger than half its age");
        bench.advance(3_100);
        bench.wrapper.set(Behaviour::HoldQuestions);
        for _ in 0..100 {
            assert!(bench.present("key-1").is_some());
            assert!(bench.is_current("key-1", &first));
        }
        bench.until_held(1).await;
        bench.wrapper.release();
        until("the refresh", async || bench.present("key-1").unwrap().sent_at() > read_at).await;
        assert_eq!(bench.wrapper.reads(), 2);
        assert!(bench.is_current("key-1", &first), "they were confirmed where they are");
        bench.wrapper.set(unavailable());
        bench.advance(29_999);
        assert!(bench.present("key-1").is_some(), "age counts from the refresh");
    });
}

#[test]
fn c5_a_failed_refresh_extends_nothing_and_is_not_repeated_on_every_request() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap();
        bench.wrapper.set(unavailable());
        bench.advance(20_000);
        for _ in 0..100 {
            assert!(bench.present("key-1").is_some());
        }
        until("the failed refresh", async || bench.cache.figures().refresh_errors == 1).await;
        for _ in 0..100 {
            assert!(bench.present("key-1").is_some());
        }
        assert_eq!(bench.cache.figures().refreshes, 1);
        bench.advance(1_000);
        assert!(bench.present("key-1").is_some());
        until("the next try", async || bench.cache.figures().refresh_errors == 2).await;
        bench.advance(9_000);
        assert!(matches!(bench.recall("key-1"), Recalled::Nothing));
    });
}

#[test]
fn a_refresh_that_finds_nothing_ends_the_facts() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap();
        let held = bench.held("key-1");
        bench.advance(20_000);
        // The store is certain that there is no such credential (it was restored without it).
        bench.wrapper.set(Behaviour::Swap(fingerprint("nobody")));
        assert!(bench.present("key-1").is_some());
        until("the refresh", async || matches!(bench.recall("key-1"), Recalled::Absent)).await;
        assert!(!bench.is_current("key-1", &held), "and whoever holds them may not use them");
    });
}

#[test]
fn c3_an_answer_about_somebody_else_is_refused_and_counted() {
    run(async {
        let bench = Bench::new().await;
        bench.fixture.store.create_credential(record("key-2", "acme")).await.unwrap();
        bench.wrapper.set(Behaviour::Swap(fingerprint("key-2")));
        let swapped = bench.load("key-1").await;
        assert!(matches!(swapped, Err(StoreError::Corrupt(_))), "{swapped:?}");
        bench.wrapper.set(Behaviour::OtherTenant(tenant("globex")));
        let other_tenant = bench.load("key-1").await;
        assert!(matches!(other_tenant, Err(StoreError::Corrupt(_))), "{other_tenant:?}");
        assert_eq!(bench.cache.figures().corrupt, 2);
        assert!(matches!(bench.recall("key-1"), Recalled::Nothing));
        bench.wrapper.set(Behaviour::Pass);
        assert_eq!(bench.load("key-1").await.unwrap().unwrap().credential.id, credential_id("key-1"));
    });
}

#[test]
fn k2_a_flood_of_absences_cannot_evict_what_is_present() {
    run(async {
        let bench = Bench::with(CacheSettings {
            absent_entries: 100,
            cache_entries: 100,
            ..settings()
        })
        .await;
        for i in 0..50 {
            bench
                .fixture
                .store
                .create_credential(record(&format!("good-{i}"), "acme"))
                .await
                .unwrap();
            bench.load(&format!("good-{i}")).await.unwrap();
        }
        for i in 0..5_000 {
            assert!(bench.load(&format!("bad-{i}")).await.unwrap().is_none());
        }
        let kept = (0..50).filter(|i| bench.present(&format!("good-{i}")).is_some()).count();
        assert_eq!(kept, 50);
        until("the bound", async || bench.cache.figures().absences <= 100).await;
    });
}

#[test]
fn a_cache_whose_runtime_has_ended_fails_and_does_not_hang() {
    run(async {
        let bench = Bench::new().await;
        let ended = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let cache = CachedStore::new(
            bench.wrapper.clone(),
            &settings(),
            bench.fixture.clock.clone(),
            ended.handle().clone(),
        );
        ended.shutdown_background();
        for _ in 0..2 {
            let refused = cache.load(fingerprint("key-1"), LookupOrigin::Proven).await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
        assert_eq!(cache.figures().in_flight, 0);
    });
}

#[test]
fn facts_of_a_workers_own_table_alone_are_read_again_too() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap().unwrap();
        let held = bench.held("key-1");
        bench.advance(18_100);
        let read_at = held.facts().sent_at();
        // Nobody but the holder asks, and finds in its hands what has been confirmed.
        assert!(bench.is_current("key-1", &held));
        until("the refresh", async || held.facts().sent_at() > read_at).await;
        bench.advance(14_000);
        assert!(bench.is_current("key-1", &held));
        assert!(Arc::ptr_eq(&held, &bench.held("key-1")));
        assert_eq!((bench.wrapper.reads(), bench.cache.figures().refreshes), (2, 1));
    });
}
