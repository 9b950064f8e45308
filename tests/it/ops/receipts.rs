//! Receipts: three real gateways over one real Redis, one of them cut off, killed, and back again.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::{Answer, Gateway};
use crate::support::raw::Client;
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{make_key, status};

/// What every gateway of a group shares.
pub(super) struct Group {
    upstream: Upstream,
    pub(super) redis: RedisServer,
    folder: tempfile::TempDir,
}

impl Group {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pepper"), "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
        Self {
            upstream: Upstream::echoing(),
            redis: RedisServer::start(),
            folder,
        }
    }

    fn pepper(&self) -> PathBuf {
        self.folder.path().join("pepper")
    }

    pub(super) fn site(&self, id: &str, url: &str, store_lines: &str) -> Site {
        let mut plan = Plan::redis(url, &self.pepper());
        store_lines.clone_into(&mut plan.store_lines);
        let site = Site::of(&plan, self.upstream.address);
        site.write("gateway.toml", &format!("id = \"{id}\"\n{}", site.read("gateway.toml")));
        site
    }
}

pub(super) fn start(site: &Site) -> Gateway {
    Gateway::start(site)
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

pub(super) fn row<'v>(answer: &'v Value, id: &str) -> &'v Value {
    let rows = answer["gateways"].as_array().unwrap();
    rows.iter()
        .find(|row| row["id"] == id)
        .unwrap_or_else(|| panic!("no {id} in {answer}"))
}

pub(super) fn ids(answer: &Value) -> Vec<&str> {
    answer["gateways"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect()
}

/// Waits until this gateway sees these states of all.
pub(super) fn wait_for_states(gateway: &Gateway, wanted: &[(&str, &str)]) {
    until("the gateways' states", PATIENCE, || {
        let listed = gateway.json(&["gateways"]);
        let rows = listed["gateways"].as_array().unwrap();
        let found: Vec<(&str, &str)> = rows
            .iter()
            .map(|r| (r["id"].as_str().unwrap(), r["state"].as_str().unwrap()))
            .collect();
        (found == wanted).then_some(())
    });
}

fn assert_confirmed(row: &Value) {
    assert_eq!(names(row), ["confirmed", "id", "ms"], "{row}");
    assert_eq!(row["confirmed"], true);
    assert!(row["ms"].as_u64().unwrap() < 1_000, "in milliseconds: {row}");
}

#[test]
fn a_revocation_shows_who_has_confirmed_and_by_when_the_one_that_is_cut_off_has_stopped() {
    let group = Group::new();
    let proxy = FaultProxy::to(group.redis.url().strip_prefix("redis://").unwrap().parse().unwrap());
    let sites = [
        group.site("gw-a", &group.redis.url(), ""),
        group.site("gw-b", &group.redis.url(), ""),
        group.site("gw-c", &proxy.url(), ""),
    ];
    let [a, b, c] = [start(&sites[0]), start(&sites[1]), start(&sites[2])];
    a.json(&["tenants", "create", "acme"]);
    wait_for_states(&a, &[("gw-a", "current"), ("gw-b", "current"), ("gw-c", "current")]);
    let (id, key) = make_key(&a);
    for gateway in [&a, &b, &c] {
        assert_eq!(status(gateway, &key), 200);
    }

    let healthy = a.json(&["keys", "disable", &id, "--wait"]);
    assert_eq!(ids(&healthy), ["gw-a", "gw-b", "gw-c"]);
    assert_eq!(healthy["state"], "disabled", "the usual answer is there too");
    ["gw-a", "gw-b", "gw-c"].iter().for_each(|id| assert_confirmed(row(&healthy, id)));
    for gateway in [&a, &b, &c] {
        assert_eq!(status(gateway, &key), 401, "confirmed means refused");
    }
    a.json(&["keys", "enable", &id, "--wait"]);
    assert_eq!(status(&c, &key), 200);

    proxy.partition();
    let before = jiff::Timestamp::now();
    let revoked = a.run(&["keys", "revoke", &id, "--wait", "--wait-timeout", "1s", "--json"]);
    assert_eq!(revoked.code, 4, "{revoked:?}");
    let answer = revoked.json();
    assert_eq!(
        names(&answer),
        ["gateways", "id", "revoked_at"],
        "the contract's members and no others"
    );
    assert_eq!((answer["id"].as_str(), ids(&answer)), (Some(&*id), vec!["gw-a", "gw-b", "gw-c"]));
    let revoked_at: jiff::Timestamp = answer["revoked_at"].as_str().unwrap().parse().unwrap();
    assert!(revoked_at >= before.checked_sub(Duration::from_secs(1)).unwrap());
    assert_confirmed(row(&answer, "gw-a"));
    assert_confirmed(row(&answer, "gw-b"));
    let cut_off = row(&answer, "gw-c");
    assert_eq!(names(cut_off), ["confirmed", "id", "stopped_by"], "{cut_off}");
    assert_eq!(cut_off["confirmed"], false);
    let stopped_by: jiff::Timestamp = cut_off["stopped_by"].as_str().unwrap().parse().unwrap();
    let bound = stopped_by.duration_since(revoked_at).as_secs();
    assert!((44..=60).contains(&bound), "max_age and the streams' interval: {bound} s");
    let told: Value = serde_json::from_str(revoked.stderr.trim()).unwrap();
    assert_eq!(told["error"]["code"], "unconfirmed");
    assert!(told["error"]["message"].as_str().unwrap().contains("2 of 3 gateways"), "{told}");
    assert_eq!((status(&a, &key), status(&b, &key)), (401, 401));

    let text = a.run(&["keys", "revoke", &id, "--wait", "--wait-timeout", "0"]);
    assert_eq!(text.code, 4, "{text:?}");
    assert!(text.stdout.contains("confirmed after"), "{text:?}");
    assert!(
        text.stdout.contains("NOT confirmed") && text.stdout.contains("must have stopped by"),
        "{text:?}"
    );
    assert!(text.stderr.contains("error:"), "{text:?}");

    proxy.pass();
    let late = until("the third to confirm", PATIENCE, || {
        let again = a.run(&["keys", "revoke", &id, "--wait", "--json"]);
        (again.code == 0).then(|| again.json())
    });
    assert_eq!(ids(&late), ["gw-a", "gw-b", "gw-c"]);
    assert_eq!(row(&late, "gw-c")["confirmed"], true);
    assert_eq!(status(&c, &key), 401);
}

#[test]
fn a_killed_gateway_is_silent_until_it_is_back_and_one_that_stops_is_not_listed() {
    let group = Group::new();
    let (site_a, site_b) = (
        group.site("gw-a", &group.redis.url(), ""),
        group.site("gw-b", &group.redis.url(), ""),
    );
    let a = start(&site_a);
    let mut b = start(&site_b);
    a.json(&["tenants", "create", "acme"]);
    wait_for_states(&a, &[("gw-a", "current"), ("gw-b", "current")]);
    let (id, _) = make_key(&a);
    b.signal(Signal::KILL);
    b.wait_exit(PATIENCE);
    let open = a.run(&["keys", "disable", &id, "--wait", "--wait-timeout", "0", "--json"]);
    assert_eq!(open.code, 4, "whoever was heard a moment ago may still serve: {open:?}");
    assert_eq!(row(&open.json(), "gw-b")["confirmed"], false);
    wait_for_states(&a, &[("gw-a", "current"), ("gw-b", "silent")]);

    let mut back = start(&site_b);
    wait_for_states(&a, &[("gw-a", "current"), ("gw-b", "current")]);
    let earlier = a.run(&["keys", "enable", &id, "--wait", "--wait-timeout", "0", "--json"]);
    assert_eq!(earlier.code, 4, "the process before may be alive somewhere: {earlier:?}");
    let answer = earlier.json();
    assert_eq!(ids(&answer), ["gw-a", "gw-b", "gw-b"]);
    let stopped_by = answer["gateways"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|row| row["stopped_by"].as_str());
    let stopped_by: jiff::Timestamp = stopped_by.unwrap().parse().unwrap();
    let left = stopped_by.duration_since(jiff::Timestamp::now()).as_secs();
    assert!(
        (30..=45).contains(&left),
        "its bound, counted from when its place was taken: {left} s"
    );
    let listed = a.json(&["gateways"]);
    assert_eq!(listed["departed"][0]["id"], "gw-b", "{listed}");
    back.signal(Signal::TERM);
    back.wait_exit(PATIENCE);
    wait_for_states(&a, &[("gw-a", "current")]);
}

#[test]
fn a_gateway_that_is_killed_and_started_again_serves_at_once() {
    let group = Group::new();
    let (site_a, site_b) = (
        group.site("gw-a", &group.redis.url(), ""),
        group.site("gw-b", &group.redis.url(), ""),
    );
    let a = start(&site_a);
    let mut b = start(&site_b);
    a.json(&["tenants", "create", "acme"]);
    let (id, key) = make_key(&a);
    b.signal(Signal::KILL);
    b.wait_exit(PATIENCE);
    let mut back = Gateway::spawn(&site_b);
    back.wait_listening();
    assert_eq!(status(&back, &key), 200);
    let revoked = a.run(&["keys", "revoke", &id, "--wait", "--wait-timeout", "1s", "--json"]);
    assert_eq!(revoked.code, 4, "{revoked:?}");
    let answer = revoked.json();
    assert_eq!(ids(&answer), ["gw-a", "gw-b", "gw-b"], "both processes are counted");
    let confirmed = answer["gateways"].as_array().unwrap().iter().filter(|row| row["confirmed"] == true);
    assert_eq!(confirmed.count(), 2, "{answer}");
    assert_eq!(status(&back, &key), 401);
}

#[test]
fn a_gateway_whose_id_is_taken_admits_nobody_until_it_has_one() {
    let group = Group::new();
    let (first, second) = (
        group.site("gw-a", &group.redis.url(), ""),
        group.site("gw-a", &group.redis.url(), ""),
    );
    let mut a = start(&first);
    a.json(&["tenants", "create", "acme"]);
    wait_for_states(&a, &[("gw-a", "current")]);
    let twin = start(&second);
    until("the reason in its log", PATIENCE, || {
        String::from_utf8_lossy(&twin.output()).contains("same id").then_some(())
    });
    let (id, key) = make_key(&twin);
    assert_eq!(status(&twin, &key), 503);
    let told = twin.json(&["status"]);
    assert!(told["checks"]["store"].as_str().unwrap().contains("same id"), "{told}");
    assert_eq!(status(&a, &key), 200);
    let revoked = a.run(&["keys", "revoke", &id, "--wait", "--wait-timeout", "0", "--json"]);
    assert_eq!(
        ids(&revoked.json()),
        ["gw-a", "gw-a"],
        "what it read before is counted: {revoked:?}"
    );
    assert_eq!(status(&a, &key), 401);
    let (_, key) = make_key(&a);
    a.signal(Signal::TERM);
    a.wait_exit(PATIENCE);
    until("the other one to admit", PATIENCE, || (status(&twin, &key) == 200).then_some(()));
}

#[test]
fn everything_that_ends_something_waits_likewise() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = start(&site);
    let id = gateway.json(&["gateways"])["gateways"][0]["id"].as_str().unwrap().to_owned();
    gateway.json(&["tenants", "create", "acme"]);
    let (key_id, key) = make_key(&gateway);
    assert_eq!(status(&gateway, &key), 200);
    let role = gateway.json(&["roles", "create", "--tenant", "acme", "--name", "clerk", "--scope", "orders:read"]);
    let role = role["id"].as_str().unwrap();
    let child = gateway.create_key("api", "acme", &["--mode", "live", "--parent", &key_id]);
    let child = child["id"].as_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["tenants", "disable", "acme"],
        &["tenants", "enable", "acme"],
        &["roles", "set", role, "--no-scopes"],
        &["roles", "delete", role],
        &["sessions", "revoke", child],
        &["sessions", "revoke", "--all-of", &key_id],
        &["keys", "rotate", &key_id, "--grace", "0"],
        &["keys", "revoke", &key_id],
    ];
    for command in commands {
        let waited = gateway.json(&[command, &["--wait"]].concat());
        assert_eq!(ids(&waited), [&*id], "{command:?}: {waited}");
        assert_confirmed(&waited["gateways"][0]);
    }
    assert_eq!(status(&gateway, &key), 401);
    let rotated = gateway.create_key("api", "acme", &["--mode", "live"]);
    let rotated = gateway.json(&["keys", "rotate", rotated["id"].as_str().unwrap(), "--wait"]);
    assert!(
        rotated["key"].is_string() && rotated["replaces"].is_object(),
        "the usual answer is there too: {rotated}"
    );
}

#[test]
fn a_wait_that_cannot_be_meant_is_usage_and_an_unknown_key_is_not_found() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = start(&site);
    for wrong in [
        &["keys", "revoke", "x", "--wait-timeout", "5s"][..],
        &["keys", "revoke", "x", "--wait", "--wait-timeout", "26s"],
        &["keys", "revoke", "x", "--wait", "--wait-timeout", "5"],
        &["events", "--after", "x"],
    ] {
        assert_eq!(gateway.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(gateway.run(&["keys", "revoke", "nobody", "--wait"]).code, 3);
}

#[test]
fn a_change_without_its_replicas_says_what_is_known_and_what_is_not() {
    let group = Group::new();
    let site = group.site("gw-a", &group.redis.url(), "wait_replicas = 1\n");
    let gateway = start(&site);
    let made = gateway.run(&["tenants", "create", "acme"]);
    assert_eq!(made.code, 4, "{made:?}");
    assert!(made.stderr.contains("the change was made, but"), "{made:?}");
    let waited = gateway.run(&["tenants", "disable", "acme", "--wait", "--json"]);
    assert_eq!(waited.code, 4, "{waited:?}");
    assert_confirmed(row(&waited.json(), "gw-a"));
    let told: Value = serde_json::from_str(waited.stderr.trim()).unwrap();
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains("was made") && message.contains("0 of 1 replicas"), "{message}");
}

#[test]
fn a_revocation_that_reaches_no_store_says_that_nothing_was_changed() {
    let mut group = Group::new();
    let site = group.site("gw-a", &group.redis.url(), "");
    let gateway = start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (id, key) = make_key(&gateway);
    assert_eq!(status(&gateway, &key), 200);
    group.redis.kill();
    let failed = until("the gateway to notice", PATIENCE, || {
        let answer: Answer = gateway.run(&["keys", "revoke", &id, "--wait"]);
        assert_eq!(answer.code, 4, "{answer:?}");
        assert_eq!(answer.stdout, "", "nothing is shown as done: {answer:?}");
        answer.stderr.contains("nothing was changed").then_some(answer)
    });
    assert!(!failed.stderr.contains(&key), "{failed:?}");
    assert_eq!(status(&gateway, &key), 200, "and nothing was");
}

#[test]
fn events_show_what_changed_and_what_is_no_longer_kept() {
    let group = Group::new();
    let site = group.site("gw-a", &group.redis.url(), "");
    let gateway = start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (id, _) = make_key(&gateway);
    gateway.json(&["keys", "revoke", &id]);
    let lines = |args: &[&str]| -> Vec<Value> {
        let answer = gateway.run(args);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["events", "--json"]);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(names(&all[0]), ["at", "gateway", "id", "kind", "position"]);
    assert_eq!(all[0]["gateway"], "gw-a");
    assert_eq!((all[0]["kind"].as_str(), all[0]["id"].as_str()), (Some("tenant"), Some("acme")));
    assert_eq!((all[2]["kind"].as_str(), all[2]["id"].as_str()), (Some("credential"), Some(&*id)));
    assert_eq!(lines(&["events", "--after", "2", "--json"]), all[2..]);
    assert_eq!(lines(&["events", "--limit", "1", "--json"]), all[2..]);
    let _: u64 = group.redis.command(&["XTRIM", "{durward}:events", "MAXLEN", "1"]);
    let trimmed = lines(&["events", "--after", "0", "--json"]);
    assert_eq!(trimmed[0], serde_json::json!({"gap": [1, 2]}));
    assert_eq!(trimmed[1..], all[2..]);
    assert!(gateway.run(&["events", "--after", "0"]).stdout.contains("not kept any more"));
}

#[test]
fn metrics_tell_how_changes_arrive_and_when_the_store_is_out_of_contact() {
    let group = Group::new();
    let proxy = FaultProxy::to(group.redis.url().strip_prefix("redis://").unwrap().parse().unwrap());
    let site = group.site("gw-a", &proxy.url(), "");
    let gateway = start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let value = |series: &str| -> f64 {
        let mut client = Client::connect(gateway.probes());
        client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let body = client.response().expect("an answer").body;
        let text = String::from_utf8(body).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with(series))
            .unwrap_or_else(|| panic!("{series}\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    until("a receipt", PATIENCE, || {
        (value("durward_receipts_total{result=\"written\"}") > 0.0).then_some(())
    });
    let (_, key) = make_key(&gateway);
    assert_eq!(status(&gateway, &key), 200);
    until("an event", PATIENCE, || {
        (value("durward_event_propagation_seconds_count") > 0.0).then_some(())
    });
    assert!(value("durward_event_propagation_seconds_bucket{le=\"1.0\"}") > 0.0);
    // The access line of a request follows its answer.
    until("an age", PATIENCE, || {
        (value("durward_facts_age_seconds_count") > 0.0).then_some(())
    });
    assert!(value("durward_store_reader{state=\"live\"}") > 0.5);
    proxy.partition();
    until("the silence to show", PATIENCE, || {
        let lost = value("durward_store_reader{state=\"lost\"}") > 0.5;
        let silent = value("durward_store_out_of_contact_seconds") >= 3.0 && value("durward_receipt_age_seconds") >= 3.0;
        (lost && silent && value("durward_receipts_total{result=\"failed\"}") > 0.0).then_some(())
    });
    proxy.pass();
    until("contact", PATIENCE, || {
        (value("durward_store_out_of_contact_seconds") < 3.0 && value("durward_receipt_age_seconds") < 3.0).then_some(())
    });
}
