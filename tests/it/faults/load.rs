//! What is measured under load: outages, revocations by the thousand, floods of guesses, a stampede (docs/threats.md L1, L3, L4).

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use durward::base::clock;

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::Gateway;
use crate::support::wait::{PATIENCE, pause, until};

use super::lifetime::{busiest_second, first_questions};
use super::row::NOISE;
use super::scene::{Caller, Scene, Which, call, scale};
use super::watch::{Line, Tick, Watch, percentile};

const YOUNG: &str = "max_age = \"30s\"\n";

/// Whether nothing else runs on this machine: only then are times held to the figures of docs/outage.md.
fn quiet() -> bool {
    scale("DURWARD_TEST_QUIET", 0) == 1
}

/// A known caller of a gateway.
fn known(scene: &Scene, which: Which) -> Watch {
    let watch = Watch::start(scene.gateway(which), &scene.key(), Duration::from_millis(4));
    until("callers to be known", PATIENCE, || {
        watch.last().filter(|tick| tick.status == 200).map(drop)
    });
    watch
}

fn p99_between(ticks: &[Vec<Tick>], from: Instant, to: Instant) -> Duration {
    let ticks = ticks.iter().flatten().filter(|tick| tick.at >= from && tick.at < to);
    percentile(ticks.map(|tick| tick.took), 99)
}

/// The store goes away under load and comes back; nobody who is known may notice.
fn outage(name: &str, away: fn(&mut Scene), back: fn(&mut Scene)) {
    let lasts = Duration::from_secs(scale("DURWARD_TEST_OUTAGE", 4));
    let mut scene = Scene::with(YOUNG);
    let unseen = scene.key();
    let load: Vec<Watch> = [Which::Near, Which::Near, Which::Far, Which::Far]
        .into_iter()
        .map(|which| known(&scene, which))
        .collect();
    let start = clock::instant();
    pause(lasts / 2);
    let gone = clock::instant();
    away(&mut scene);
    pause(lasts);
    assert_eq!(scene.call(Which::Near, &unseen).status, 503);
    back(&mut scene);
    let returned = clock::instant();
    until("service for unknown callers", PATIENCE, || {
        [Which::Near, Which::Far]
            .iter()
            .all(|which| scene.call(*which, &unseen).status == 200)
            .then_some(())
    });
    let recovered = returned.elapsed();
    let mut ticks: Vec<Vec<Tick>> = load.into_iter().map(Watch::finish).collect();
    ticks.iter_mut().for_each(|ticks| ticks.retain(|tick| tick.at >= start));
    let (before, during) = (p99_between(&ticks, start, gone), p99_between(&ticks, gone, returned));
    let count = ticks.iter().map(Vec::len).sum::<usize>();
    eprintln!(
        "{name} for {lasts:?} under {} requests a second: known callers' p99 {before:?} before, {during:?} during; unknown ones served {recovered:?} after",
        count as u128 * 1_000 / start.elapsed().as_millis()
    );
    let errors = ticks.iter().flatten().filter(|tick| tick.status != 200).count();
    assert_eq!(errors, 0, "known callers noticed");
    assert!(recovered <= Duration::from_secs(5) + NOISE, "{recovered:?}");
    let limit = if quiet() {
        before.mul_f64(1.2) + Duration::from_millis(1)
    } else {
        before + NOISE
    };
    assert!(during <= limit, "p99 {before:?} before, {during:?} during");
    scene.assert_identities();
}

#[test]
fn known_callers_do_not_notice_that_the_store_died_for_seconds() {
    outage("Redis killed", |scene| scene.redis.kill(), |scene| scene.redis.revive());
}

#[test]
fn known_callers_do_not_notice_that_the_store_hung_for_seconds() {
    outage("Redis stopped", |scene| scene.redis.pause(), |scene| scene.redis.resume());
}

#[test]
fn gateways_that_lost_their_store_together_come_back_apart() {
    let mut scene = Scene::open();
    let mut gaps = Vec::new();
    for _ in 0..5 {
        scene.redis.kill();
        pause(Duration::from_secs(3));
        scene.proxy.forget();
        scene.far_proxy.forget();
        scene.redis.revive();
        let first = |proxy: &FaultProxy| until("a reconnect", PATIENCE, || proxy.connects().first().copied());
        let (near, far) = (first(&scene.proxy), first(&scene.far_proxy));
        gaps.push(if near > far { near - far } else { far - near });
        for which in [Which::Near, Which::Far] {
            until("readiness", PATIENCE, || (scene.probe(which, "/readyz") == 200).then_some(()));
        }
    }
    eprintln!("between the reconnects of two gateways: {gaps:?}");
    // A process that waits for a processor may reconnect late by itself, so single gaps say nothing.
    gaps.sort();
    assert!(gaps[gaps.len() / 2] >= Duration::from_millis(100), "{gaps:?}");
}

#[test]
fn l1_a_healthy_store_carries_a_revocation_to_every_gateway_at_once() {
    let revocations = scale("DURWARD_TEST_REVOCATIONS", 60);
    let scene = Scene::with(YOUNG);
    let site = scene.another_site(&scene.redis.url(), YOUNG);
    let third = Gateway::start(&site);
    let gateways = [&scene.near, &scene.far, &third];
    let mut took = Vec::new();
    for _ in 0..revocations {
        let key = scene.key();
        let ready = Barrier::new(gateways.len() + 1);
        let ends: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
            let threads: Vec<_> = gateways
                .iter()
                .map(|gateway| {
                    let (ready, key) = (&ready, &key);
                    scope.spawn(move || last_admission(gateway, key, ready))
                })
                .collect();
            ready.wait();
            scene.revoke(&key);
            let acknowledged = clock::instant();
            threads.into_iter().map(|thread| (acknowledged, thread.join().unwrap())).collect()
        });
        took.extend(
            ends.into_iter()
                .map(|(acknowledged, last)| last.saturating_duration_since(acknowledged)),
        );
    }
    let (median, p99, worst) = (
        percentile(took.clone(), 50),
        percentile(took.clone(), 99),
        percentile(took.clone(), 100),
    );
    eprintln!(
        "L1: {revocations} revocations on {} gateways, last admission after the acknowledgement: median {median:?}, p99 {p99:?}, worst {worst:?}",
        gateways.len()
    );
    assert!(p99 <= if quiet() { Duration::from_millis(50) } else { NOISE }, "{p99:?}");
    assert!(worst <= Duration::from_secs(30));
    scene.assert_identities();
}

/// When the last request was sent that this gateway still admitted.
fn last_admission(gateway: &Gateway, key: &Caller, ready: &Barrier) -> Instant {
    let mut line = Line::open(gateway);
    let request = key.request();
    let first = line.ask(&request).status;
    // Before anything can fail: who does not come to the barrier holds the others up for ever.
    ready.wait();
    assert_eq!(first, 200);
    let start = clock::instant();
    let mut last = start;
    loop {
        let tick = line.ask(&request);
        assert!(tick.status != 503 || !quiet(), "unavailable");
        match tick.status {
            200 => last = tick.at,
            // 503 of a machine under load, whose store did not answer in time.
            401 | 503 => return last,
            other => panic!("told {other}"),
        }
        assert!(start.elapsed() < PATIENCE, "still admitted");
    }
}

#[test]
fn l4_a_hot_key_that_grows_old_is_one_read() {
    let scene = Scene::with("max_age = \"1s\"\n");
    let key = scene.key();
    assert_eq!(scene.call(Which::Near, &key).status, 200);
    scene.proxy.forget();
    let stop = AtomicBool::new(false);
    let start = clock::instant();
    let asked: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut line = Line::open(&scene.near);
                    let request = key.request();
                    let mut asked = 0;
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(line.ask(&request).status, 200);
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        pause(Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let took = start.elapsed();
    let reads = first_questions(scene.proxy.lookups());
    // Read again from half its age on, spread over a tenth of it.
    let most = took.as_millis() / 500 + 1;
    eprintln!(
        "L4: {} requests a second for one key: {} reads in {took:?}, at most {most}",
        asked as u128 * 1_000 / took.as_millis(),
        reads.len()
    );
    assert!(!reads.is_empty() && reads.len() as u128 <= most, "{} reads", reads.len());
    for pair in reads.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(400), "two reads for one expiry");
    }
    // A gateway that hears where Redis stands has young facts, however long ago they were read.
    scene.proxy.lose_pushes();
    pause(Duration::from_millis(1_200));
    scene.proxy.forget();
    let together = Barrier::new(64);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut line = Line::open(&scene.near);
                together.wait();
                assert_eq!(line.ask(&key.request()).status, 200);
            });
        }
    });
    let reads = first_questions(scene.proxy.lookups());
    assert_eq!(reads.len(), 1, "64 callers at once for a key too old: {} reads", reads.len());
}

#[test]
fn l3_guesses_cost_the_store_little_and_known_callers_nothing() {
    let guesses = scale("DURWARD_TEST_GUESSES", 4_000);
    let cap = scale("DURWARD_TEST_GUESS_CAP", 50);
    let scene = Scene::with(&format!("{YOUNG}unknown_lookups = {cap}\n"));
    let baseline_from = clock::instant();
    let load: Vec<Watch> = (0..4).map(|_| known(&scene, Which::Near)).collect();
    pause(Duration::from_secs(2));
    let met = scene.proxy.lookups();
    scene.proxy.forget();
    let (before, start) = (scene.near.resident(), clock::instant());
    let told = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| guess(&scene, guesses / 4, 10))).collect();
        let told = threads.into_iter().map(|thread| thread.join().unwrap());
        told.fold([0, 0, 0], |sum, part| std::array::from_fn(|i| sum[i] + part[i]))
    });
    let end = clock::instant();
    let seconds = (end - start).as_secs_f64();
    let ticks: Vec<Vec<Tick>> = load.into_iter().map(Watch::finish).collect();
    let known_before = |seen: &crate::support::fault_proxy::Seen| met.iter().any(|old| old.lookup == seen.lookup);
    let (legitimate, guessed): (Vec<_>, Vec<_>) = first_questions(scene.proxy.lookups()).into_iter().partition(known_before);
    let during: Vec<&Tick> = ticks.iter().flatten().filter(|tick| tick.at >= start && tick.at < end).collect();
    let missed = during.iter().filter(|tick| tick.status != 200).count();
    let (calm, flooded) = (p99_between(&ticks, baseline_from, start), p99_between(&ticks, start, end));
    let grown = scene.near.resident().saturating_sub(before) / 1024 / 1024;
    let [refused, unavailable, malformed] = told;
    eprintln!(
        "L3: {guesses} keys guessed in {seconds:.1} s: {refused} times 401, {unavailable} times 503, {malformed} malformed; {} look-ups ({:.0} a second); \
         known callers: {} requests, {missed} not served, {} look-ups, p99 {calm:?} before and {flooded:?} during; memory grew by {grown} MiB",
        guessed.len(),
        guessed.len() as f64 / seconds,
        during.len(),
        legitimate.len(),
    );
    assert_eq!(missed, 0, "known callers noticed");
    assert!(legitimate.len() * 20 <= during.len(), "fewer than 95 of a hundred were known");
    let busiest = busiest_second(&guessed);
    assert!(busiest as u64 <= cap + cap / 10, "{busiest} look-ups in a second");
    assert!(grown <= 64, "{grown} MiB");
    assert!(guessed.len() >= refused, "each 401 was looked up");
    let limit = if quiet() {
        calm * 2 + Duration::from_millis(1)
    } else {
        calm + NOISE
    };
    assert!(flooded <= limit, "p99 {calm:?} before, {flooded:?} during");
    scene.assert_identities();
}

#[test]
fn k1_a_key_with_a_wrong_checksum_costs_the_store_nothing() {
    let scene = Scene::with(YOUNG);
    scene.proxy.forget();
    assert_eq!(guess(&scene, 200, 1), [0, 0, 200]);
    assert_eq!(scene.proxy.lookups().len(), 0);
    assert_eq!(guess(&scene, 2, 2), [1, 0, 1]);
    assert_eq!(
        first_questions(scene.proxy.lookups()).len(),
        1,
        "and one with a right checksum is asked for"
    );
}

/// Presents so many random keys, one in so many with a wrong checksum; how many were 401, 503, malformed.
fn guess(scene: &Scene, count: u64, one_malformed_in: u64) -> [usize; 3] {
    let mut line = Line::open(&scene.near);
    let mut told = [0; 3];
    for number in 0..count {
        let mut key = Caller::nobody();
        let malformed = number.is_multiple_of(one_malformed_in);
        if malformed {
            let last = if key.bearer.pop() == Some('a') { 'b' } else { 'a' };
            key.bearer.push(last);
        }
        let tick = line.ask(&key.request());
        match (tick.status, malformed) {
            (401, true) => told[2] += 1,
            (401, false) => told[0] += 1,
            (503, false) => told[1] += 1,
            other => panic!("told {other:?}"),
        }
    }
    told
}

#[test]
fn f5_one_late_reply_in_a_hundred_is_hedged() {
    // Not what is tested here.
    let scene = Scene::with(&format!("{YOUNG}unknown_lookups = 100000\n"));
    let keys = scale("DURWARD_TEST_SLOW_ONES", 300);
    scene.proxy.delay(Duration::from_secs(1), 100);
    let mut line = Line::open(&scene.near);
    let ticks: Vec<Tick> = (0..keys).map(|_| line.ask(&Caller::nobody().request())).collect();
    let unavailable = ticks.iter().filter(|tick| tick.status == 503).count();
    assert!(
        ticks
            .iter()
            .all(|tick| tick.status == 401 || tick.status == 503 && tick.retry_after)
    );
    let late = ticks.iter().filter(|tick| tick.took > Duration::from_millis(80)).count();
    eprintln!(
        "F5: one reply in a hundred a second late: of {keys} look-ups {unavailable} were 503, {late} took longer than 80 ms, p99 {:?}, {} connects",
        percentile(ticks.iter().map(|tick| tick.took), 99),
        scene.proxy.connects().len(),
    );
    assert!(unavailable as u64 <= 1 + keys / 250, "{unavailable} of {keys} were 503");
    assert_eq!(call(&scene.near, &scene.key()).status, 200);
}
