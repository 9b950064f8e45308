//! A gateway that has just started: the facts of busy callers are in memory before it is ready, and keys that are
//! guessed meanwhile cost no look-up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use durward::base::clock;
use rustix::process::Signal;

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::Gateway;
use crate::support::wait::{PATIENCE, pause, until};

use super::scene::{Caller, Scene, probe, scale};
use super::stock::{Age, forge, make_keys};
use super::watch::Line;

/// Connections of callers.
const LINES: u64 = 8;

/// Connections of those who guess.
const GUESSERS: u64 = 4;

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    good: AtomicUsize,
    unavailable: AtomicUsize,
}

/// Sends as many requests a second for so long, of all callers in turn, over connections of their own.
fn drive(gateway: &Gateway, callers: &[Caller], rate: u64, lasts: Duration) -> Told {
    let told = Told::default();
    let (start, next) = (clock::instant(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..LINES {
            scope.spawn(|| {
                let mut line = Line::open(gateway);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = Duration::from_micros(number * 1_000_000 / rate);
                    if due >= lasts {
                        return;
                    }
                    wait_until(start + due);
                    // The stride shares no factor with the number of callers, so all callers come in turn.
                    let caller = &callers[usize::try_from(number * 7_919).unwrap() % callers.len()];
                    match line.ask(&caller.request()).status {
                        200 => told.good.fetch_add(1, Ordering::Relaxed),
                        503 => told.unavailable.fetch_add(1, Ordering::Relaxed),
                        other => panic!("told {other}"),
                    };
                }
            });
        }
    });
    told
}

fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(clock::instant());
    if !left.is_zero() {
        pause(left);
    }
}

/// Presents so many forged keys.
fn guess(gateway: &Gateway, count: u64) {
    let mut line = Line::open(gateway);
    for _ in 0..count {
        assert_eq!(line.ask(&forge().request()).status, 401);
    }
}

#[test]
fn a_gateway_that_starts_under_load_turns_no_caller_away_and_forged_keys_never_reach_redis() {
    let (count, rate) = (scale("DURWARD_TEST_CALLERS", 1_500), scale("DURWARD_TEST_RATE", 1_000));
    let lasts = Duration::from_secs(scale("DURWARD_TEST_LASTS", 2));
    let scene = Scene::with("max_age = \"30s\"\nunknown_lookups = 1000000\n");
    let half = usize::try_from(count / 2).unwrap();
    // Half of the customers have their keys from a version that knew no MAC.
    let mut callers = make_keys(&scene.redis, half, Age::Marked);
    callers.extend(make_keys(&scene.redis, half, Age::Unmarked));
    // On a busy machine a first look-up may take longer than it may, which is 503.
    until("the callers to be known", PATIENCE, || {
        let before = drive(&scene.near, &callers, rate, Duration::from_secs(count.div_ceil(rate)));
        (before.unavailable.into_inner() == 0).then_some(())
    });
    // A gateway that is stopped writes the list of what it had in use; one that is killed wrote it some seconds before.
    scene.near.signal(Signal::TERM);
    until("the list of what was in use", PATIENCE, || {
        (listed(&scene) >= 2 * half).then_some(())
    });

    let door = FaultProxy::to_port(scene.redis.port());
    let replacement = scene.another_site(&door.url(), "");
    let started = clock::instant();
    let gateway = Gateway::start(&replacement);
    let ready = started.elapsed();
    door.forget();
    let forged = scale("DURWARD_TEST_FORGED", 2_000);
    let told = std::thread::scope(|scope| {
        for _ in 0..GUESSERS {
            scope.spawn(|| guess(&gateway, forged / GUESSERS));
        }
        drive(&gateway, &callers, rate, lasts)
    });
    let (good, unavailable) = (told.good.into_inner(), told.unavailable.into_inner());
    eprintln!(
        "start: {count} callers, {rate} requests a second, ready after {ready:?}: {good} served, {unavailable} times 503; {forged} forged keys; {} look-ups",
        door.lookups().len()
    );
    assert_eq!(
        unavailable, 0,
        "callers were turned away after the gateway had said that it is ready"
    );
    assert!(good as u64 >= rate * lasts.as_secs() * 9 / 10, "{good} requests");
    // Facts are refreshed from an age of twelve seconds on. No request waits for a look-up, unless reading ahead took too long.
    let asked = metric(&gateway, "durward_store_reads_total{reason=\"request\"");
    assert!(
        asked == 0 || ready >= Duration::from_secs(10),
        "{asked} look-ups that somebody waited for"
    );
    assert!(asked <= count, "{asked} look-ups that somebody waited for");
    scene.assert_identities();
}

#[test]
fn without_a_warm_start_those_whose_keys_have_no_mac_are_turned_away() {
    let scene = Scene::with("max_age = \"30s\"\nunknown_lookups = 1000000\n");
    let callers = make_keys(&scene.redis, 200, Age::Unmarked);
    drive(&scene.far, &callers, 1_000, Duration::from_millis(200));
    let replacement = scene.another_site(&scene.proxy.url(), "warm_start = 0\nunknown_lookups = 20\n");
    let gateway = Gateway::start(&replacement);
    let told = drive(&gateway, &callers, 1_000, Duration::from_millis(200));
    assert!(told.unavailable.into_inner() > 100, "the twin");
}

#[test]
fn readiness_waits_for_what_was_in_use_and_never_longer_than_it_may() {
    let scene = Scene::with("max_age = \"30s\"\n");
    let callers = make_keys(&scene.redis, 300, Age::Marked);
    drive(&scene.far, &callers, 1_000, Duration::from_millis(300));
    scene.far.signal(Signal::TERM);
    until("the list of what was in use", PATIENCE, || (listed(&scene) >= 300).then_some(()));
    // Every answer of Redis is late: what is to be read ahead takes longer than it may.
    let door = FaultProxy::to_port(scene.redis.port());
    let replacement = scene.another_site(&door.url(), "warm_start_time = \"1s\"\n");
    door.delay(Duration::from_millis(40), 1);
    let mut gateway = Gateway::spawn(&replacement);
    let seen = Mutex::new(Vec::new());
    gateway.wait_listening();
    until("the gateway to be ready", PATIENCE, || {
        let answer = probe(&gateway, "/readyz");
        let warm = answer.json()["checks"]["warm"].as_str().unwrap().to_owned();
        seen.lock().unwrap().push(warm.clone());
        (answer.status == 200 && warm == "ok").then_some(())
    });
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.iter().any(|warm| warm.starts_with("reading what was in use lately")),
        "{seen:?}"
    );
}

#[test]
fn what_was_not_answered_while_reading_ahead_is_asked_for_again() {
    let scene = Scene::with("max_age = \"30s\"\n");
    let callers = make_keys(&scene.redis, 300, Age::Marked);
    drive(&scene.far, &callers, 1_000, Duration::from_millis(300));
    scene.far.signal(Signal::TERM);
    until("the list of what was in use", PATIENCE, || (listed(&scene) >= 300).then_some(()));
    let door = FaultProxy::to_port(scene.redis.port());
    let replacement = scene.another_site(&door.url(), "warm_start_time = \"2m\"\n");
    // Five parts are read, four of them at a time, each over two connections.
    door.cut_lookups(9);
    let gateway = Gateway::start(&replacement);
    let told = drive(&gateway, &callers, 1_000, Duration::from_millis(600));
    assert_eq!(
        (
            told.unavailable.into_inner(),
            metric(&gateway, "durward_store_reads_total{reason=\"request\"")
        ),
        (0, 0)
    );
}

/// Credentials that the list in Redis names.
fn listed(scene: &Scene) -> usize {
    (0..64)
        .map(|part| scene.redis.command::<usize>(&["HLEN", &format!("{{durward}}:b:{part}")]))
        .sum()
}

fn metric(gateway: &Gateway, row: &str) -> u64 {
    let text = String::from_utf8(probe(gateway, "/metrics").body).unwrap();
    let value = text
        .lines()
        .find(|line| line.starts_with(row))
        .and_then(|line| line.rsplit_once(' '));
    value.expect("the metric").1.parse().unwrap()
}
