//! What the cache promises beyond the store: age, events, single flight, bounds, no memory of errors.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{Clock, UnixMillis};
use durward::base::fingerprint::Fingerprint;
use durward::base::principal::{Facts, State};
use durward::store::cached::{CacheSettings, CachedStore, Remembered};
use durward::store::{CredentialChange, StoreError, TenantState};

use super::fixture::{Fixture, NOW, control, credential_id, fingerprint, record, run, settings, surface, tenant, until};
use super::wrapper::{Behaviour, Wrapper};

/// A cache over a wrapper over an embedded store with tenant `acme` and credential `key-1`.
struct Bench {
    cache: Arc<CachedStore>,
    wrapper: Arc<Wrapper>,
    fixture: Fixture,
}

impl Bench {
    async fn new() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: CacheSettings) -> Self {
        let fixture = Fixture::embedded().await;
        fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
        fixture.store.create_credential(record("key-1", "acme")).await.unwrap();
        let wrapper = Arc::new(Wrapper::new(fixture.store.clone()));
        let cache = CachedStore::new(wrapper.clone(), &settings, fixture.clock.clone(), control());
        Self { cache, wrapper, fixture }
    }

    fn peek(&self, name: &str) -> Remembered {
        self.cache.peek(&fingerprint(name), self.fixture.clock.now())
    }

    fn present(&self, name: &str) -> Option<Arc<Facts>> {
        match self.peek(name) {
            Remembered::Present(facts) => Some(facts),
            _ => None,
        }
    }

    async fn load(&self, name: &str) -> Result<Option<Arc<Facts>>, StoreError> {
        self.cache.load(fingerprint(name)).await
    }

    fn start_load(&self, name: &str) -> tokio::task::JoinHandle<Result<Option<Arc<Facts>>, StoreError>> {
        let cache = self.cache.clone();
        let by = fingerprint(name);
        tokio::spawn(async move { cache.load(by).await })
    }

    fn advance(&self, millis: u64) {
        self.fixture.clock.advance(Duration::from_millis(millis));
    }

    async fn revoke(&self) {
        let revoked = self
            .fixture
            .store
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await;
        revoked.unwrap();
    }

    async fn until_held(&self, count: u64) {
        until("a held look-up", async || self.wrapper.held() >= count).await;
    }
}

fn is_revoked(facts: &Facts) -> bool {
    matches!(facts.credential.state, State::Revoked { .. })
}

fn unavailable() -> Behaviour {
    Behaviour::Fail(StoreError::Unavailable("on demand".into()))
}

#[test]
fn facts_are_used_until_their_age_limit_and_not_a_millisecond_longer() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap();
        bench.wrapper.set(unavailable());
        bench.advance(29_999);
        assert!(bench.present("key-1").is_some());
        bench.advance(1);
        assert!(matches!(bench.peek("key-1"), Remembered::Nothing));
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
        assert_eq!(bench.fixture.clock.now().boot.since(facts.sent_at), Duration::from_secs(20));
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
        assert_eq!(facts.sent_at, bench.fixture.clock.now().boot, "it was read again");
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
        assert!(matches!(bench.peek("nobody"), Remembered::Absent));
        assert_eq!(bench.wrapper.reads(), 1);
        bench.advance(1);
        assert!(matches!(bench.peek("nobody"), Remembered::Nothing));
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
                assert!(matches!(bench.peek(name), Remembered::Nothing));
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
            let held = bench.load("key-1").await.unwrap().unwrap();
            let now = bench.fixture.clock.now();
            assert!(bench.cache.is_current(&fingerprint("key-1"), &held, now));
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
            assert!(!bench.cache.is_current(&fingerprint("key-1"), &held, now));
            let fresh = bench.load("key-1").await.unwrap().unwrap();
            assert!(is_revoked(&fresh) || !fresh.tenant.active);
            assert!(bench.cache.is_current(&fingerprint("key-1"), &fresh, now));
        }
    });
}

#[test]
fn an_event_ends_facts_found_by_id_as_well() {
    run(async {
        let bench = Bench::new().await;
        let by_id = Fingerprint::of_id(&surface(), &credential_id("key-1"));
        bench.cache.load(by_id).await.unwrap().unwrap();
        bench.revoke().await;
        assert!(matches!(bench.cache.peek(&by_id, bench.fixture.clock.now()), Remembered::Nothing));
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
        assert!(matches!(bench.peek("nobody"), Remembered::Absent));
    });
}

#[test]
fn c2_a_fill_that_began_before_an_event_answers_its_waiters_and_is_not_kept() {
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
        assert!(!bench.cache.is_current(&fingerprint("key-1"), &answered, bench.fixture.clock.now()));
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
        assert!(matches!(bench.peek("key-2"), Remembered::Nothing));
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
fn k4_a_hundred_requests_for_one_credential_are_one_read() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(Behaviour::HoldQuestions);
        let loads: Vec<_> = (0..100).map(|_| bench.start_load("key-1")).collect();
        until("all to wait", async || bench.cache.figures().coalesced == 99).await;
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
fn k3_an_unknown_key_asked_again_and_again_is_one_read() {
    run(async {
        let bench = Bench::new().await;
        for _ in 0..1_000 {
            if matches!(bench.peek("nobody"), Remembered::Nothing) {
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

#[test]
fn f3_after_repeated_failures_the_store_is_asked_once_a_second() {
    run(async {
        let bench = Bench::new().await;
        bench.wrapper.set(unavailable());
        for _ in 0..50 {
            assert!(bench.load("key-1").await.is_err());
        }
        assert_eq!(bench.wrapper.reads(), 5);
        assert_eq!(bench.cache.figures().short_circuited, 45);
        bench.advance(2_000);
        for _ in 0..50 {
            assert!(bench.load("key-1").await.is_err());
        }
        assert_eq!(bench.wrapper.reads(), 6);
        bench.wrapper.set(Behaviour::Pass);
        bench.advance(2_000);
        assert!(bench.load("key-1").await.unwrap().is_some());
        assert!(bench.load("nobody").await.unwrap().is_none());
    });
}

#[test]
fn busy_facts_are_read_again_ahead_of_time_by_one_flight() {
    run(async {
        let bench = Bench::new().await;
        let first = bench.load("key-1").await.unwrap().unwrap();
        bench.advance(14_999);
        assert!(bench.present("key-1").is_some());
        assert_eq!(bench.cache.figures().refreshes, 0, "younger than half its age");
        bench.advance(3_100);
        bench.wrapper.set(Behaviour::HoldQuestions);
        for _ in 0..100 {
            assert!(bench.present("key-1").is_some());
            assert!(bench.cache.is_current(&fingerprint("key-1"), &first, bench.fixture.clock.now()));
        }
        bench.until_held(1).await;
        bench.wrapper.release();
        until("the refresh", async || bench.present("key-1").unwrap().sent_at > first.sent_at).await;
        assert_eq!(bench.wrapper.reads(), 2);
        let now = bench.fixture.clock.now();
        assert!(
            !bench.cache.is_current(&fingerprint("key-1"), &first, now),
            "there are younger ones"
        );
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
        assert!(matches!(bench.peek("key-1"), Remembered::Nothing));
    });
}

#[test]
fn a_refresh_that_finds_nothing_ends_the_facts() {
    run(async {
        let bench = Bench::new().await;
        bench.load("key-1").await.unwrap();
        bench.advance(20_000);
        // The store is certain that there is no such credential (it was restored without it).
        bench.wrapper.set(Behaviour::Swap(fingerprint("nobody")));
        assert!(bench.present("key-1").is_some());
        until("the refresh", async || matches!(bench.peek("key-1"), Remembered::Absent)).await;
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
        assert!(matches!(bench.peek("key-1"), Remembered::Nothing));
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
            let refused = cache.load(fingerprint("key-1")).await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
        assert_eq!(cache.figures().in_flight, 0);
    });
}
