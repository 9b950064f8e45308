//! Whoever may admit is listed, or its time is told: real gateways over a real Redis that loses the list.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::{Answer, Gateway};
use crate::support::site::Site;
use crate::support::stopwatch::Stopwatch;
use crate::support::wait::{PATIENCE, until};

use super::receipts::{Group, ids, row, start, wait_for_states};
use super::{make_key, status};

/// Three gateways of which the last one can be cut off, and a tenant.
struct Three {
    a: Gateway,
    b: Gateway,
    proxy: FaultProxy,
    group: Group,
    sites: [Site; 3],
}

/// Facts live long enough for a gateway that is cut off to admit while the others are waited for.
const LINES: &str = "max_age = \"8s\"\n";

impl Three {
    fn new() -> Self {
        let group = Group::new();
        let proxy = FaultProxy::to_port(group.redis.port());
        let sites = [
            group.site("gw-a", &group.redis.url(), LINES),
            group.site("gw-b", &group.redis.url(), LINES),
            group.site("gw-c", &proxy.url(), LINES),
        ];
        let (a, b) = (start(&sites[0]), start(&sites[1]));
        a.json(&["tenants", "create", "acme"]);
        wait_for_states(&a, &[("gw-a", "current"), ("gw-b", "current")]);
        Self { a, b, proxy, group, sites }
    }

    fn third(&self) -> Gateway {
        let c = start(&self.sites[2]);
        wait_for_states(&self.a, &[("gw-a", "current"), ("gw-b", "current"), ("gw-c", "current")]);
        c
    }
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap_or_else(|| panic!("a time: {value}")).parse().unwrap()
}

/// It says that a gateway may be missing, from when to when; answers until when.
fn assert_not_ruled_out(answer: &Value) -> jiff::Timestamp {
    let told = &answer["not_ruled_out"];
    let (before, stopped) = (time(&told["listed_before"]), time(&told["stopped_by"]));
    assert_eq!(stopped.duration_since(before).as_secs(), 60, "{told}");
    stopped
}

/// The change was made, and it is said who cannot be ruled out.
fn assert_in_doubt(answered: &Answer) -> jiff::Timestamp {
    assert_eq!(answered.code, 4, "{answered:?}");
    assert!(
        answered.stderr.contains("cannot be ruled out; they have stopped by"),
        "{answered:?}"
    );
    assert_not_ruled_out(&answered.json())
}

fn alarms(gateway: &Gateway) -> usize {
    String::from_utf8_lossy(&gateway.output()).matches("receipts_lost").count()
}

/// It admits now, and refuses before this time.
fn assert_stops_by(gateway: &Gateway, key: &str, stopped_by: jiff::Timestamp) {
    assert_eq!(status(gateway, key), 200, "it was cut off, and still admits");
    until("the one that is cut off to stop", PATIENCE, || {
        (status(gateway, key) != 200).then_some(())
    });
    assert!(jiff::Timestamp::now() < stopped_by);
}

#[test]
fn a_gateway_that_a_snapshot_does_not_know_is_told_to_be_possible() {
    let mut three = Three::new();
    let (id, key) = make_key(&three.a);
    let _: String = three.group.redis.command(&["SAVE"]);
    let c = three.third();
    assert_eq!(status(&c, &key), 200);
    three.proxy.partition();
    three.group.redis.kill();
    three.group.redis.revive_from_snapshot();
    let Three { a, b, .. } = &three;
    let revoked = until("the store to be back", PATIENCE, || {
        let revoked = a.run(&["keys", "revoke", &id, "--wait", "--wait-timeout", "3s", "--json"]);
        revoked.stdout.contains("revoked_at").then_some(revoked)
    });
    let stopped_by = assert_in_doubt(&revoked);
    assert_eq!(ids(&revoked.json()), ["gw-a", "gw-b"], "nobody knows the third one");
    assert_stops_by(&c, &key, stopped_by);
    assert_eq!(alarms(a) + alarms(b), 1, "told once, by whoever finds it");
    assert_not_ruled_out(&b.json(&["gateways"]));

    three.proxy.pass();
    wait_for_states(&three.a, &[("gw-a", "current"), ("gw-b", "current"), ("gw-c", "current")]);
    until("it to hear of the revocation", PATIENCE, || (status(&c, &key) == 401).then_some(()));
}

#[test]
fn a_list_that_was_deleted_is_told_and_whoever_is_connected_is_back_at_once() {
    let three = Three::new();
    let c = three.third();
    let Three { a, b, .. } = &three;
    let (id, key) = make_key(a);
    let others: Vec<String> = (0..6).map(|_| make_key(a).1).collect();
    assert_eq!(status(&c, &key), 200);
    three.proxy.partition();
    for keys in others.chunks(2) {
        let _: u64 = three.group.redis.command(&["DEL", "{durward}:g"]);
        let begun = Stopwatch::start();
        assert_eq!((status(a, &keys[0]), status(b, &keys[1])), (200, 200), "asked for the first time");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    assert_eq!(alarms(a) + alarms(b), 3, "each loss once");

    let revoked = a.run(&["keys", "revoke", &id, "--wait", "--wait-timeout", "1s", "--json"]);
    let stopped_by = assert_in_doubt(&revoked);
    assert_eq!(ids(&revoked.json()), ["gw-a", "gw-b"]);
    assert_stops_by(&c, &key, stopped_by);
    let drilled = a.run(&["drill", "--wait-timeout", "0", "--json"]);
    assert_in_doubt(&drilled);
    assert_eq!(drilled.json()["passed"], false);
    assert!(a.run(&["gateways"]).stdout.contains("cannot be ruled out"));
}

#[test]
fn whoever_waits_long_enough_is_certain_in_the_end() {
    let group = Group::new();
    let sites = [group.site("gw-a", &group.redis.url(), "")];
    let a = start(&sites[0]);
    a.json(&["tenants", "create", "acme"]);
    let (id, _) = make_key(&a);
    let head: String = group.redis.command(&["HGET", "{durward}:g", "="]);
    let now: [String; 2] = group.redis.command(&["TIME"]);
    let began = now[0].parse::<u64>().unwrap() * 1_000 - 54_000;
    let head = head.split_once(' ').map(|(_, rest)| format!("{began} {rest}")).unwrap();
    for key in [["{durward}:g", "="], ["{durward}:meta", "list"]] {
        let _: u64 = group.redis.command(&["HSET", key[0], key[1], &head]);
    }
    let soon = a.run(&["keys", "disable", &id, "--wait", "--wait-timeout", "1s", "--json"]);
    let stopped_by = assert_in_doubt(&soon);
    assert!(
        !soon.stderr.contains("gateways have confirmed it"),
        "all that are known have: {soon:?}"
    );
    let certain = a.json(&["keys", "revoke", &id, "--wait", "--wait-timeout", "10s"]);
    assert_eq!(certain.get("not_ruled_out"), None);
    assert!(jiff::Timestamp::now() >= stopped_by);
}

#[test]
fn a_gateway_that_may_not_write_its_registration_admits_nobody_and_says_why() {
    let group = Group::new();
    let redis = &group.redis;
    let grant = |rights: &str| {
        let words = ["ACL", "SETUSER", "limited", "on", ">word", "~*", "+@all", rights];
        redis.command::<String>(&words)
    };
    grant("-hkeys");
    let sites = ["gw-a", "gw-b"].map(|id| group.site(id, &redis.url(), ""));
    let text = sites[1].read("gateway.toml");
    let limited = text.replace("username = \"durward\"", "username = \"limited\"");
    assert_ne!(text, limited, "it is another user");
    sites[1].write("gateway.toml", &limited);
    sites[1].write("redis-password", "word");
    let a = start(&sites[0]);
    a.json(&["tenants", "create", "acme"]);
    let (id, key) = make_key(&a);
    let mut limited = Gateway::spawn(&sites[1]);
    limited.wait_listening();
    for _ in 0..3 {
        assert_eq!(status(&limited, &key), 503);
    }
    let told = limited.json(&["status"]);
    assert_eq!(told["ready"], false, "{told}");
    assert!(told["checks"]["store"].as_str().unwrap().contains("not registered"), "{told}");
    until("the reason in its log", PATIENCE, || {
        String::from_utf8_lossy(&limited.output()).contains("not_registered").then_some(())
    });
    assert_eq!(ids(&a.json(&["keys", "disable", &id, "--wait"])), ["gw-a"]);
    a.json(&["keys", "enable", &id]);

    grant("+hkeys");
    limited.wait_ready();
    until("it to admit", PATIENCE, || (status(&limited, &key) == 200).then_some(()));
    assert_eq!(ids(&a.json(&["keys", "revoke", &id, "--wait"])), ["gw-a", "gw-b"]);
}

#[test]
fn a_rolling_restart_turns_nobody_away_and_leaves_nothing_in_doubt() {
    let group = Group::new();
    let sites = ["gw-a", "gw-b", "gw-c"].map(|id| group.site(id, &group.redis.url(), ""));
    let mut gateways = sites.each_ref().map(start);
    gateways[0].json(&["tenants", "create", "acme"]);
    let keys: Vec<(String, String)> = (0..4).map(|_| make_key(&gateways[0])).collect();
    for (turn, site) in sites.iter().enumerate() {
        let (old, others) = {
            let (before, rest) = gateways.split_at_mut(turn);
            let (old, after) = rest.split_first_mut().unwrap();
            (old, before.iter().chain(after.iter()).collect::<Vec<_>>())
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut asked = 0;
                while !over.load(Ordering::Relaxed) {
                    for (gateway, (_, key)) in others.iter().zip(keys.iter().cycle().skip(asked)) {
                        assert_eq!(status(gateway, key), 200);
                        asked += 1;
                    }
                }
                asked
            });
            old.signal(Signal::TERM);
            old.wait_exit(PATIENCE);
            let mut fresh = Gateway::spawn(site);
            fresh.wait_listening();
            for (_, key) in &keys {
                assert_eq!(status(&fresh, key), 200, "the first requests after the start");
            }
            *old = fresh;
            over.store(true, Ordering::Relaxed);
            assert!(asking.join().unwrap() > 0);
        });
    }
    let revoked = gateways[1].json(&["keys", "revoke", &keys[0].0, "--wait"]);
    assert_eq!(ids(&revoked), ["gw-a", "gw-b", "gw-c"]);
    assert_eq!(row(&revoked, "gw-c")["confirmed"], true);
    assert_eq!(revoked.get("not_ruled_out"), None);
}
