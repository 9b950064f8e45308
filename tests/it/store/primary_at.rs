//! Facts of a server that was known to be the primary up to some moment: they count from there.

use std::time::Duration;

use durward::base::clock::{BootMillis, Clock as _};
use durward::store::StoreError;
use durward::store::cached::Recalled;

use super::bench::Bench;
use super::fixture::{run, settings, until};
use super::wrapper::Behaviour;

/// A cache over a store whose server was known to be the primary `before` the moment that is answered.
async fn bench(before: Duration) -> (Bench, BootMillis) {
    let bench = Bench::new().await;
    bench.advance(60_000);
    let now = bench.fixture.clock.now().boot;
    let known_at = BootMillis(now.0 - u64::try_from(before.as_millis()).unwrap());
    bench.wrapper.set(Behaviour::OfPrimaryAt(known_at));
    (bench, now)
}

#[test]
fn facts_count_from_the_last_word_about_their_server_and_not_from_their_read() {
    run(async {
        let (bench, now) = bench(Duration::from_secs(2)).await;
        let facts = bench.load("key-1").await.unwrap().unwrap();
        assert_eq!(now.since(facts.sent_at()), Duration::from_secs(2));
        assert_eq!(facts.read_at(), now);
        let age = u64::try_from(settings().max_age.as_millis()).unwrap();
        bench.advance(age - 2_001);
        assert!(bench.present("key-1").is_some());
        bench.advance(1);
        assert!(matches!(bench.recall("key-1"), Recalled::Nothing));
    });
}

#[test]
fn a_word_that_is_younger_than_the_read_makes_nothing_younger() {
    run(async {
        let bench = Bench::new().await;
        let now = bench.fixture.clock.now().boot;
        bench.wrapper.set(Behaviour::OfPrimaryAt(now.plus(Duration::from_secs(9))));
        let facts = bench.load("key-1").await.unwrap().unwrap();
        assert_eq!((facts.sent_at(), facts.read_at()), (now, now));
    });
}

#[test]
fn an_absence_counts_from_there_and_is_a_failure_when_that_is_long_ago() {
    run(async {
        let (young, _) = bench(Duration::from_millis(4_999)).await;
        assert!(young.load("nobody").await.unwrap().is_none());
        assert!(matches!(young.recall("nobody"), Recalled::Absent));
        young.advance(1);
        assert!(
            matches!(young.recall("nobody"), Recalled::Nothing),
            "remembered no longer than it counts"
        );

        let (old, _) = bench(Duration::from_secs(5)).await;
        let why = old.load("nobody").await.unwrap_err();
        assert!(
            matches!(&why, StoreError::Unavailable(why) if why.contains("still the primary")),
            "{why}"
        );
        assert_eq!(old.wrapper.reads(), 1, "asked once");
        assert!(old.load("key-1").await.unwrap().is_some(), "facts live longer");
    });
}

#[test]
fn facts_that_are_old_when_they_arrive_are_not_asked_for_at_every_use() {
    run(async {
        let age = settings().max_age;
        let (bench, now) = bench(age * 3 / 4).await;
        bench.load("key-1").await.unwrap();
        for second in 1..=5 {
            bench.advance(1_000);
            for _ in 0..100 {
                assert!(bench.present("key-1").is_some());
            }
            until("the refresh of this second", async || bench.wrapper.reads() == 1 + second).await;
            until("what it brought", async || {
                let facts = bench.present("key-1").unwrap();
                facts.read_at() == now.plus(Duration::from_secs(second))
            })
            .await;
            for _ in 0..100 {
                assert!(bench.present("key-1").is_some());
            }
        }
        assert_eq!(bench.wrapper.reads(), 6);
    });
}
