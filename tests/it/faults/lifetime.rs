//! The rows about beginnings, pauses and clients that go away (F1, F12, F17, F18).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use durward::base::clock;
use rustix::process::Signal;
use serde_json::json;

use crate::support::fault_proxy::{FaultProxy, Seen};
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::wait::{PATIENCE, pause, until};

use super::Dice;
use super::row::NOISE;
use super::scene::{Caller, Scene, Which, call, probe, scale};
use super::watch::{Line, Watch, percentile};

#[test]
fn f1_a_gateway_starts_without_its_store_and_serves_when_it_appears() {
    let scene = Scene::open();
    let (key, session) = (scene.key(), scene.session());
    let door = FaultProxy::to_port(scene.redis.port());
    door.refuse();
    let site = scene.another_site(&door.url(), "");
    let mut gateway = Gateway::spawn(&site);
    gateway.wait_listening();
    assert_eq!(probe(&gateway, "/livez").status, 200);
    assert_eq!(probe(&gateway, "/readyz").status, 503);
    for caller in [&key, &session, &Caller::nobody()] {
        let refused = call(&gateway, caller);
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.field("retry-after").is_some());
    }
    let mut client = Client::connect(gateway.address("plain"));
    client.send(b"GET /v1/orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response().unwrap().status, 401, "without a credential no store is needed");
    pause(Duration::from_secs(3));
    assert!(gateway.is_running());
    door.pass();
    let appeared = clock::instant();
    for (caller, status) in [(&key, 200), (&session, 200), (&Caller::nobody(), 401)] {
        until("service", PATIENCE, || match call(&gateway, caller).status {
            503 => None,
            other => {
                assert_eq!(other, status);
                Some(())
            }
        });
    }
    until("readiness", PATIENCE, || (probe(&gateway, "/readyz").status == 200).then_some(()));
    eprintln!(
        "F1: all well {:?} after the store appeared, {} connects",
        appeared.elapsed(),
        door.connects().len()
    );
    assert!(appeared.elapsed() < Duration::from_secs(5) + NOISE);
    scene.assert_identities();
}

/// Look-ups that are not the second question about the same credential within a look-up's deadline.
pub(super) fn first_questions(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by_key(|seen| seen.at);
    let mut asked = std::collections::HashMap::new();
    seen.retain(|seen| {
        let before = asked.insert(seen.lookup.clone(), seen.at);
        before.is_none_or(|before| seen.at - before > Duration::from_millis(250))
    });
    seen
}

/// Most look-ups in any second.
pub(super) fn busiest_second(lookups: &[Seen]) -> usize {
    let mut at: Vec<Instant> = lookups.iter().map(|seen| seen.at).collect();
    at.sort_unstable();
    let within = |i: usize| at[i..].partition_point(|later| *later < at[i] + Duration::from_secs(1));
    (0..at.len()).map(within).max().unwrap_or(0)
}

#[test]
fn f17_gateways_that_start_together_ask_for_each_key_once_and_turn_nobody_away() {
    let keys = scale("DURWARD_TEST_COLD_KEYS", 200);
    let scene = Scene::open();
    let callers: Vec<Caller> = (0..keys).map(|_| scene.key()).collect();
    let doors = [(); 2].map(|()| FaultProxy::to_port(scene.redis.port()));
    // Generated keys are no guesses: they do not count.
    let lines = "unknown_lookups = 10\n";
    let sites = [&doors[0], &doors[1]].map(|door| scene.another_site(&door.url(), lines));
    let gateways = [&sites[0], &sites[1]].map(Gateway::start);
    let times = std::sync::Mutex::new(Vec::new());
    let refused = AtomicUsize::new(0);
    let start = clock::instant();
    std::thread::scope(|scope| {
        for gateway in &gateways {
            for part in callers.chunks(callers.len().div_ceil(4)) {
                let (times, refused) = (&times, &refused);
                scope.spawn(move || {
                    let mut line = Line::open(gateway);
                    for caller in part {
                        let tick = line.ask(&caller.request());
                        times.lock().unwrap().push(tick.took);
                        assert!(tick.status == 200 || tick.status == 503 && tick.retry_after, "{tick:?}");
                        refused.fetch_add(usize::from(tick.status == 503), Ordering::Relaxed);
                    }
                });
            }
        }
    });
    let took = start.elapsed();
    let p99 = percentile(times.into_inner().unwrap(), 99);
    for door in &doors {
        let lookups = first_questions(door.lookups());
        let busiest = busiest_second(&lookups);
        let each = lookups.len() as u64;
        eprintln!(
            "F17: {keys} cold keys known after {took:?}; {each} look-ups, at most {busiest} in a second; p99 {p99:?}; {refused:?} times 503"
        );
        assert!(each >= keys && each <= keys + keys / 10, "{each} look-ups for {keys} keys");
    }
    assert_eq!(refused.into_inner(), 0, "callers with good keys were turned away");
    assert!(p99 <= Duration::from_millis(500) + NOISE, "{p99:?}");
    scene.assert_identities();
}

/// When a process that was told to stop has stopped.
const SETTLED: Duration = Duration::from_millis(50);

#[test]
fn f18_a_gateway_that_was_suspended_admits_nobody_on_old_facts() {
    // Shorter than a client's patience: it waits through the pause.
    let scene = Scene::with("max_age = \"3s\"\n");
    let (hot, gone) = (scene.key(), scene.key());
    let watches = [&hot, &gone].map(|caller| Watch::start(&scene.near, caller, Duration::from_millis(15)));
    for watch in &watches {
        until("callers to be known", PATIENCE, || {
            watch.last().filter(|tick| tick.status == 200).map(drop)
        });
    }
    scene.near.signal(Signal::STOP);
    let stopped = clock::instant();
    scene.revoke(&gone);
    pause(Duration::from_millis(3_500));
    scene.near.signal(Signal::CONT);
    for (watch, status) in watches.iter().zip([200, 401]) {
        until("the truth", PATIENCE, || {
            watch
                .last()
                .filter(|tick| tick.at > stopped + SETTLED && tick.status == status)
                .map(drop)
        });
    }
    let [hot, gone] = watches.map(Watch::finish);
    assert!(hot.iter().all(|tick| [200, 503].contains(&tick.status)));
    // What was sent while it was stopped is read after it, with facts that are too old by then.
    let late = gone.iter().filter(|tick| tick.at > stopped + SETTLED);
    assert!(late.clone().count() > 0);
    for tick in late {
        assert_ne!(tick.status, 200, "admitted on facts from before the pause: {tick:?}");
    }
    scene.assert_identities();
}

#[test]
fn f12_look_ups_that_clients_abandon_answer_nobody_else() {
    let requests = scale("DURWARD_TEST_ABANDONED", 2_000);
    let tenants = scale("DURWARD_TEST_ABANDONED_TENANTS", 20);
    let seed = scale("DURWARD_TEST_SEED", 0x0F12_5EED);
    // Facts that grow old at once, and replies that are late: there is always a look-up to abandon.
    let scene = Scene::with("max_age = \"1s\"\n");
    let callers: Vec<Caller> = (0..tenants)
        .map(|n| {
            let tenant = format!("tenant-{n}");
            scene.operate(Which::Far, "/v1/tenants", &json!({ "id": tenant }));
            scene.key_of(&tenant)
        })
        .collect();
    scene.proxy.delay(Duration::from_millis(20), 1);
    let (answered, abandoned) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (scene, callers, answered, abandoned) = (&scene, &callers, &answered, &abandoned);
            scope.spawn(move || {
                let mut dice = Dice::new(seed, worker);
                for _ in 0..requests / 8 {
                    let caller = dice.pick(callers);
                    let mut client = Client::connect(scene.near.address("plain"));
                    client.send(&caller.request());
                    if dice.roll(2) == 0 {
                        pause(Duration::from_millis(dice.roll(25)));
                        abandoned.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let response = client.response().expect("an answer");
                    answered.fetch_add(1, Ordering::Relaxed);
                    if response.status == 503 {
                        continue;
                    }
                    assert_eq!(response.status, 200, "{response:?}");
                    let target = response.json()["target"].as_str().unwrap().to_owned();
                    assert!(
                        target.ends_with(&format!("tenant={}", caller.tenant)),
                        "somebody else's answer: {target}"
                    );
                }
            });
        }
    });
    let lookups = scene.proxy.lookups().len();
    eprintln!(
        "F12: seed {seed}: {answered:?} answered, {abandoned:?} abandoned, {lookups} look-ups, {} arrived",
        scene.assert_identities()
    );
    assert!(lookups as u64 > tenants);
}
