//! The rows about a store that is gone, silent, slow or flapping (F2 to F8, F15).

use std::time::Duration;

use durward::base::clock;

use crate::support::wait::{pause, until};

use super::row::{Known, NOISE, Played, Revoked, Row, Unknown};
use super::scene::{Scene, Which, max_age, scale};
use super::watch::Watch;

const OPENED: &str = "the store does not answer";

impl Played {
    /// The breaker says once that it opened, and lets callers wait no longer: it asks once a second.
    fn assert_breaker(&self) {
        assert_eq!(self.scene.said(Which::Near, OPENED), 1, "one line when it opens");
        let figure = |row| self.scene.metric(Which::Near, row);
        let avoided = figure("durward_store_lookups_avoided_total{reason=\"store_failing\"");
        let failed = figure("durward_store_reads_total{reason=\"request\",result=\"failed\"");
        let seconds = (self.times.recovered - self.times.fault).as_secs();
        eprintln!("{failed} look-ups failed in {seconds} s, {avoided} were not made");
        // The first five, those in flight with them, and one a second.
        assert!(failed <= 15 + seconds && avoided > failed, "{failed} look-ups, {avoided} not made");
    }
}

/// Waits until readiness says what it should, and answers how long that took.
fn readiness_turns(scene: &Scene, status: u16) -> Duration {
    let start = clock::instant();
    until("readiness to tell the truth", Duration::from_secs(5), || {
        (scene.probe(Which::Near, "/readyz") == status).then_some(())
    });
    start.elapsed()
}

/// Holds a fault, and looks whether readiness says so, within two seconds.
fn hold_and_look(scene: &mut Scene, time: Duration) {
    let turned = readiness_turns(scene, 503);
    assert!(turned <= Duration::from_secs(2) + NOISE, "not ready after {turned:?}");
    assert_eq!(scene.probe(Which::Near, "/livez"), 200);
    eprintln!("not ready after {turned:?}");
    pause(time.saturating_sub(turned));
}

#[test]
fn f2_a_store_that_dies_ends_known_callers_by_age_alone() {
    let played = Row {
        hold: hold_and_look,
        heal: |scene| {
            scene.proxy.pass();
            scene.redis.revive();
        },
        revoked: Revoked::JustBefore,
        ..Row::new("F2 killed", |scene| scene.redis.kill())
    }
    .play();
    played.assert_breaker();
    assert_eq!(readiness_turns(&played.scene, 200).as_secs(), 0, "ready again");
}

#[test]
fn f3_a_store_that_hangs_costs_a_deadline_and_then_nothing() {
    let played = Row {
        hold: hold_and_look,
        heal: |scene| {
            scene.proxy.pass();
            scene.redis.resume();
        },
        revoked: Revoked::JustBefore,
        ..Row::new("F3 stopped", |scene| scene.redis.pause())
    }
    .play();
    played.assert_breaker();
}

#[test]
fn f4_replies_that_are_slow_but_in_time_are_replies() {
    Row {
        known: Known::ServedOrUnavailable,
        unknown: Unknown::Either,
        ..Row::new("F4 200 ms late", |scene| scene.proxy.delay(Duration::from_millis(200), 1))
    }
    .play();
}

#[test]
fn f4_replies_after_the_deadline_are_none() {
    Row {
        // The reader of events waits longer than a look-up may, so that facts are still revalidated.
        known: Known::ServedOrUnavailable,
        ..Row::new("F4 400 ms late", |scene| scene.proxy.delay(Duration::from_millis(400), 1))
    }
    .play();
}

#[test]
fn f4_replies_after_seconds_are_none() {
    Row {
        known: Known::ServedOrUnavailable,
        ..Row::new("F4 2 s late", |scene| scene.proxy.delay(Duration::from_secs(2), 1))
    }
    .play()
    .assert_breaker();
}

#[test]
fn f5_one_slow_reply_in_a_hundred_holds_up_nobody_else() {
    Row {
        known: Known::Served,
        unknown: Unknown::Either,
        ..Row::new("F5 1 % late", |scene| scene.proxy.delay(Duration::from_millis(600), 100))
    }
    .play();
}

#[test]
fn f6_a_gateway_that_is_cut_off_refuses_by_age_what_the_other_refuses_at_once() {
    let played = Row {
        hold: hold_and_look,
        ..Row::new("F6 partition", |scene| scene.proxy.partition())
    }
    .play();
    played.assert_breaker();
}

#[test]
fn f7_a_half_open_connection_is_no_connection() {
    let played = Row {
        hold: hold_and_look,
        ..Row::new("F7 half open", |scene| scene.proxy.half_open())
    }
    .play();
    played.assert_breaker();
}

#[test]
fn f8_a_flapping_store_is_not_met_by_a_storm_and_leaves_nothing_behind() {
    let lasts = Duration::from_secs(scale("DURWARD_TEST_FLAPPING", 16));
    let played = Row {
        known: Known::ServedOrUnavailable,
        unknown: Unknown::Either,
        lasts,
        hold: |scene, time| {
            let (files, threads) = (scene.near.open_files(), scene.near.threads());
            let start = clock::instant();
            while start.elapsed() < time {
                pause(Duration::from_secs(2));
                scene.proxy.pass();
                pause(Duration::from_secs(2));
                scene.proxy.refuse();
            }
            until("files and threads to be as before", Duration::from_secs(5), || {
                (scene.near.open_files() <= files + 5 && scene.near.threads() <= threads + 5).then_some(())
            });
        },
        ..Row::new("F8 flapping", |scene| scene.proxy.refuse())
    }
    .play();
    let connects = played.scene.proxy.connects();
    // What it may do at once, and one a second.
    let most = 9.0 + (played.times.recovered - played.times.fault).as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let made = connects.len() as f64;
    assert!(made <= most, "{made} connects, at most {most}");
}

#[test]
fn f15_with_every_push_lost_age_ends_a_revoked_key() {
    Row {
        known: Known::Served,
        unknown: Unknown::Served,
        ..Row::new("F15 no pushes", |scene| scene.proxy.lose_pushes())
    }
    .play();
}

#[test]
fn an_outage_finds_busy_callers_with_facts_that_are_new_or_half_as_old_as_they_may_be() {
    let mut scene = Scene::open();
    // Known one after the other, so that they are read again at different times.
    let callers = 10;
    let watches: Vec<Watch> = (0..callers)
        .map(|_| {
            let watch = Watch::start(&scene.near, &scene.key(), Duration::from_millis(20));
            pause(max_age() / callers);
            watch
        })
        .collect();
    pause(max_age());
    scene.redis.kill();
    let gone = clock::instant();
    pause(max_age() + NOISE);
    let served = watches.into_iter().map(|watch| {
        let ticks = watch.finish();
        assert!(
            ticks.iter().all(|tick| tick.status == 200 || tick.at > gone),
            "all were served before"
        );
        let last = ticks.iter().filter(|tick| tick.status == 200).map(|tick| tick.at).max().unwrap();
        last.saturating_duration_since(gone)
    });
    let mut served: Vec<Duration> = served.collect();
    served.sort();
    let (shortest, longest) = (served[0], served[served.len() - 1]);
    eprintln!(
        "F2 busy callers, max_age {:?}: served for {shortest:.2?} to {longest:.2?} of the outage",
        max_age()
    );
    // Half their age, and the tenth over which refreshes are spread.
    let least = (max_age() / 2 - max_age() / 10).saturating_sub(NOISE / 2);
    assert!(least <= shortest && longest <= max_age(), "{served:?}");
    assert!(longest > max_age() / 2, "{served:?}");
}
