//! What guessing keys costs the store: nothing where keys have a MAC; elsewhere a bounded number of look-ups, shared
//! fairly between addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use durward::base::clock;

use crate::support::raw::{Client, Response};
use crate::support::wait::{PATIENCE, until};

use super::scene::{Caller, Scene, Which, call, scale};
use super::stock::{Age, forge, make_keys};
use super::watch::Line;

/// The default cap, and facts that stay: what is counted here is what guesses cost.
const PRODUCT: &str = "max_age = \"30s\"\n";

/// How many scripts Redis has run, and how often it was asked for a field: what a look-up costs at least.
fn commands(scene: &Scene) -> u64 {
    let info: String = scene.redis.command(&["INFO", "commandstats"]);
    let calls = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
        line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    calls("cmdstat_evalsha") + calls("cmdstat_hget")
}

fn body(response: &Response) -> String {
    let id = response.field("x-request-id").unwrap_or_default().to_owned();
    String::from_utf8_lossy(&response.body).replace(&id, "ID")
}

#[test]
fn k1_a_key_with_a_wrong_mac_costs_the_store_nothing() {
    let forged = scale("DURWARD_TEST_FORGED", 5_000);
    let scene = Scene::with(PRODUCT);
    let known = scene.key();
    assert_eq!(scene.call(Which::Near, &known).status, 200, "a key that was made passes its MAC");
    let refusals = "durward_refusals_total{denial=\"unknown_credential\"";
    scene.proxy.forget();
    let (commands_before, refused_before, start) = (commands(&scene), scene.metric(Which::Near, refusals), clock::instant());
    let mut line = Line::open(&scene.near);
    for _ in 0..forged {
        let tick = line.ask(&forge().request());
        assert_eq!((tick.status, tick.code.as_str()), (401, "invalid_credential"));
    }
    let took = start.elapsed();
    assert_eq!(scene.proxy.lookups().len(), 0);
    assert_eq!(
        scene.metric(Which::Near, refusals) - refused_before,
        forged,
        "counted as keys that nobody has"
    );
    // Two gateways' heartbeats and probes: some thirty a second each.
    let spent = commands(&scene) - commands_before;
    eprintln!("K1: {forged} forged keys in {took:?}: no look-up, {spent} commands of Redis' own count");
    assert!(spent as f64 <= 200.0 + took.as_secs_f64() * 200.0, "{spent} commands in {took:?}");
    // A forged key and an unknown one get the same answer; only the log tells them apart.
    let (forged, unknown) = (call(&scene.near, &forge()), call(&scene.near, &Caller::nobody()));
    assert_eq!((forged.status, body(&forged)), (unknown.status, body(&unknown)));
    assert_eq!(scene.proxy.lookups().len(), 1, "of an older key nobody can tell that it is a guess");
    until("the log", PATIENCE, || {
        let told = "\"denial\":\"unknown_credential\",\"cause\":\"wrong_mac\"";
        (scene.said(Which::Near, told) as u64 > scale("DURWARD_TEST_FORGED", 5_000)).then_some(())
    });
    scene.assert_identities();
}

#[test]
fn guesses_without_a_mac_are_capped_and_another_address_is_still_served() {
    let cap = 60;
    let scene = Scene::with(&format!("{PRODUCT}unknown_lookups = {cap}\n"));
    let older = make_keys(&scene.redis, 40, Age::Unmarked);
    let newer = make_keys(&scene.redis, 100, Age::Marked);
    let stop = AtomicBool::new(false);
    let address = scene.near.address("plain");
    std::thread::scope(|scope| {
        let guesser = scope.spawn(|| {
            let mut line = Line::open(&scene.near);
            let mut told = [0_u32; 2];
            while !stop.load(Ordering::Relaxed) {
                let tick = line.ask(&Caller::nobody().request());
                assert!(tick.status == 401 || tick.status == 503 && tick.retry_after, "{tick:?}");
                told[usize::from(tick.status == 503)] += 1;
            }
            told
        });
        until("the guesser to be over the cap", PATIENCE, || {
            (scene.metric(Which::Near, "durward_store_lookups_avoided_total{reason=\"too_many_unknown\"") > 100).then_some(())
        });
        // Callers at another address, whose keys this gateway has not looked up yet.
        let mut other = Client::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), address);
        let statuses: Vec<u16> = older.iter().take(cap / 2).map(|caller| ask(&mut other, caller)).collect();
        // Keys with a MAC do not count against the cap, even at the address that guesses.
        let mut same = Client::connect(address);
        let proven: Vec<u16> = newer.iter().map(|caller| ask(&mut same, caller)).collect();
        stop.store(true, Ordering::Relaxed);
        let [refused, unavailable] = guesser.join().unwrap();
        eprintln!("guesses without a MAC: {refused} times 401, {unavailable} times 503");
        assert!(unavailable > 100);
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        assert!(proven.iter().all(|status| *status == 200), "{proven:?}");
    });
    scene.assert_identities();
}

fn ask(client: &mut Client, caller: &Caller) -> u16 {
    client.send(&caller.request());
    client.response().expect("an answer").status
}
