//! What the cache promises beyond the store: age is the guarantee, events are the speed.

use std::time::Duration;

use durward::base::clock::{Clock, UnixMillis};
use durward::base::fingerprint::{Fingerprint, Pepper, Peppers};
use durward::resolver::{CachedFacts, Resolver};
use durward::store::cached::{LookupOrigin, Recalled};
use durward::store::{StoreError, TenantState};

use super::bench::{Bench, is_revoked, unavailable};
use super::fixture::{NOW, credential_id, fingerprint, record, run, surface, tenant, until};
use super::wrapper::Behaviour;

#[test]
fn facts_are_used_until_their_age_limit_and_not_a_millisecond_longer() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap();
        bench.wrapper.set(unavailable());
        bench.advance(29_999);
        assert!(bench.present("key-1").is_some());
        bench.advance(1);
        assert!(matches!(bench.recall("key-1"), Recalled::Nothing));
        assert!(bench.load("key-1").await.is_err(), "no stale-if-error");
    });
}

#[test]
fn c1_age_counts_from_when_the_read_was_sent() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldAnswers);
        let load = bench.start_load("key-1");
        bench.until_held(1).await;
        bench.advance(20_000);
        bench.wrapper.release();
        let facts = load.await.unwrap().unwrap().unwrap();
        assert_eq!(bench.fixture.clock.now().boot.since(facts.sent_at()), Duration::from_secs(20));
        bench.wrapper.set(unavailable());
        bench.advance(9_999);
        assert!(bench.present("key-1").is_some());
        bench.advance(1);
        assert!(bench.present("key-1").is_none());
    });
}

#[test]
fn c1_an_answer_that_grew_old_on_the_way_is_not_given() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldAnswers);
        let load = bench.start_load("key-1");
        bench.until_held(1).await;
        // The machine sleeps for ten minutes in the middle of the look-up.
        bench.advance(600_000);
        bench.wrapper.set(Behaviour::Pass);
        bench.wrapper.release();
        let facts = load.await.unwrap().unwrap().unwrap();
        assert_eq!(facts.sent_at(), bench.fixture.clock.now().boot, "it was read again");
        assert_eq!(bench.wrapper.reads(), 2);
    });
}

#[test]
fn f18_a_stepped_wall_clock_changes_no_age() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap();
        for step in [-3_600_000, 3_600_000, i64::MIN / 2] {
            bench.fixture.clock.step_wall(UnixMillis(NOW.0.saturating_add(step)));
            assert!(bench.present("key-1").is_some());
        }
    });
}

#[test]
fn an_absence_is_remembered_for_its_age_and_no_longer() {
    run(async {
        let bench = Bench::new().await;
        assert!(bench.load("nobody").await.unwrap().is_none());
        bench.advance(4_999);
        assert!(matches!(bench.recall("nobody"), Recalled::Absent));
        assert_eq!(bench.wrapper.reads(), 1);
        bench.advance(1);
        assert!(matches!(bench.recall("nobody"), Recalled::Nothing));
    });
}

#[test]
fn c4_a_failure_is_told_and_remembered_by_nobody() {
    run(async {
        for error in [
            StoreError::Unavailable("x".into()),
            StoreError::Corrupt("x".into()),
            StoreError::Foreign("x".into()),
        ] {
            let bench = Bench::new().await;
            bench.wrapper.set(Behaviour::Fail(error));
            for name in ["key-1", "nobody"] {
                assert!(bench.load(name).await.is_err());
                assert!(matches!(bench.recall(name), Recalled::Nothing));
            }
            bench.wrapper.set(Behaviour::Pass);
            assert!(bench.load("key-1").await.unwrap().is_some());
            assert!(bench.load("nobody").await.unwrap().is_none());
        }
    });
}

#[test]
fn an_event_ends_facts_at_once_whoever_holds_them() {
    run(async {
        for by_tenant in [false, true] {
            let bench = Bench::new().await;
            bench.load("key-1").await.unwrap().unwrap();
            let held = bench.held("key-1");
            assert!(bench.is_current("key-1", &held));
            if by_tenant {
                bench
                    .fixture
                    .store
                    .set_tenant_active(tenant("acme"), TenantState::Inactive)
                    .await
                    .unwrap();
            } else {
                bench.revoke().await;
            }
            assert!(bench.present("key-1").is_none());
            assert!(!bench.is_current("key-1", &held));
            let fresh = bench.load("key-1").await.unwrap().unwrap();
            assert!(is_revoked(&fresh) || !fresh.tenant.active);
            assert!(bench.is_current("key-1", &bench.held("key-1")));
            assert!(!bench.is_current("key-1", &held), "others have taken their place");
        }
    });
}

#[test]
fn an_event_ends_facts_found_by_id_as_well() {
    run(async {
        let bench = Bench::new().await;
        let by_id = Fingerprint::of_id(&surface(), &credential_id("key-1"));
        bench.cache.load(by_id, LookupOrigin::Proven).await.unwrap().unwrap();
        bench.revoke().await;
        assert!(matches!(bench.cache.recall(&by_id, bench.fixture.clock.now()), Recalled::Nothing));
    });
}

#[test]
fn an_event_of_somebody_else_ends_nothing() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap();
        bench.load("nobody").await.unwrap();
        bench.fixture.store.create_tenant(tenant("globex"), NOW).await.unwrap();
        bench.fixture.store.create_credential(record("key-2", "globex")).await.unwrap();
        assert!(bench.present("key-1").is_some());
        assert!(matches!(bench.recall("nobody"), Recalled::Absent));
    });
}

#[test]
fn c2_a_read_that_began_before_an_event_answers_its_waiters_and_is_not_kept() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldAnswers);
        let load = bench.start_load("key-1");
        bench.until_held(1).await;
        bench.revoke().await;
        bench.wrapper.release();
        let answered = load.await.unwrap().unwrap().unwrap();
        assert!(!is_revoked(&answered), "the waiter came before the revocation");
        assert!(bench.present("key-1").is_none(), "and nobody after it is served by that");
        assert_eq!(bench.cache.figures().outdated, 1);
    });
}

#[test]
fn c2_an_absence_read_before_the_event_of_its_credential_is_not_kept() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldAnswers);
        let load = bench.start_load("key-2");
        bench.until_held(1).await;
        bench.fixture.store.create_credential(record("key-2", "acme")).await.unwrap();
        bench.wrapper.set(Behaviour::Pass);
        bench.wrapper.release();
        assert!(load.await.unwrap().unwrap().is_none());
        assert!(matches!(bench.recall("key-2"), Recalled::Nothing));
        assert!(bench.load("key-2").await.unwrap().is_some());
    });
}

#[test]
fn c2_a_waiter_that_came_after_an_event_is_not_served_by_a_flight_from_before_it() {
    run(async {
        for by_tenant in [false, true] {
            let bench = Bench::new().await;
            bench.wrapper.set(Behaviour::HoldAnswers);
            let before = bench.start_load("key-1");
            bench.until_held(1).await;
            if by_tenant {
                bench
                    .fixture
                    .store
                    .set_tenant_active(tenant("acme"), TenantState::Inactive)
                    .await
                    .unwrap();
            } else {
                bench.revoke().await;
            }
            bench.wrapper.set(Behaviour::Pass);
            let after = bench.start_load("key-1");
            let late = bench.start_load("key-1");
            if by_tenant {
                // Whose tenant it is is not known before the answer: they wait for it, and ask again.
                until("the waiters", async || bench.cache.figures().coalesced >= 2).await;
            }
            bench.wrapper.release();
            let early = before.await.unwrap().unwrap().unwrap();
            assert!(!is_revoked(&early) && early.tenant.active);
            for waiter in [after, late] {
                let facts = waiter.await.unwrap().unwrap().unwrap();
                assert!(is_revoked(&facts) || !facts.tenant.active);
            }
        }
    });
}

#[test]
fn c3_a_workers_table_gives_each_its_own_facts_however_small_it_is() {
    run(async {
        let bench = Bench::new().await;
        let names = ["key-1", "key-2", "key-3", "key-4"];
        for name in &names[1..] {
            bench.fixture.store.create_credential(record(name, "acme")).await.unwrap();
        }
        for name in names {
            bench.load(name).await.unwrap().unwrap();
        }
        let peppers = Peppers::new(vec![Pepper::new(&[7; 32]).unwrap()]).unwrap();
        let clock = &bench.fixture.clock;
        // With one place, with two that all of them share, and with some to each.
        for places in [1, 2, 64] {
            let resolver = Resolver::with_table(bench.cache.clone(), peppers.clone(), clock.clone(), places);
            for name in names.iter().cycle().take(12) {
                for _ in 0..2 {
                    let CachedFacts::Present(facts) = resolver.find_cached(fingerprint(name), clock.now()) else {
                        panic!("{name} is not known with {places} places");
                    };
                    assert_eq!(facts.credential.id, credential_id(name));
                }
            }
        }
        let resolver = Resolver::with_table(bench.cache.clone(), peppers, clock.clone(), 64);
        let known = |name| matches!(resolver.find_cached(fingerprint(name), clock.now()), CachedFacts::Present(_));
        assert!(known("key-1") && known("key-2"));
        bench.revoke().await;
        until("the event", async || !known("key-1")).await;
        assert!(known("key-2"));
    });
}
