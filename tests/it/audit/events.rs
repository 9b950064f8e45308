//! `durward events` says what changed and by whom, from the trail, also after a restart and beside other gateways.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

const AUDIT: &str = "\n[audit]\ndirectory = \"state/audit\"\ndurable = \"100ms\"\n";

const MINT: &str = r#"
[[routes]]
name = "visits"
path = "/visits"
methods = ["POST"]
access = { surfaces = ["api"] }
serve = "mint"
mint = [{ surface = "visit", parent = "caller", scopes = "caller" }]
answer = { status = 201, body = '{"id":{{ credential.id }},"token":{{ credential.token }}}' }

[surfaces.visit]
kind = "session_jwt"
token_kind = "visit"
secrets = "generate:state/visit"
record = "own"
lifetime = "2h"
carry = ["header:X-Visit"]
"#;

fn site(audit: &str, upstream: &Upstream) -> Site {
    let plan = Plan {
        tables: format!("{audit}{MINT}"),
        ..Plan::usual()
    };
    Site::of(&plan, upstream.address)
}

fn listed(gateway: &Gateway) -> Vec<Value> {
    let answer = gateway.run(&["events", "--json", "--limit", "1000"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn mint(gateway: &Gateway, key: &Value) -> Response {
    let mut client = Client::connect(gateway.address("plain"));
    let key = key["key"].as_str().unwrap();
    client.send(format!("POST /visits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n").as_bytes());
    let response = client.final_response_to("POST").unwrap();
    assert_eq!(response.status, 201);
    response
}

fn restarted(mut gateway: Gateway, site: &Site) -> Gateway {
    gateway.signal(Signal::TERM);
    gateway.wait_exit(PATIENCE);
    drop(gateway);
    Gateway::start(site)
}

fn our_uid() -> Value {
    rustix::process::geteuid().as_raw().into()
}

#[test]
fn every_change_is_told_with_who_made_it_also_after_a_restart() {
    let upstream = Upstream::echoing();
    let site = site(AUDIT, &upstream);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let id = key["id"].as_str().unwrap();
    let minted = mint(&gateway, &key);
    let visit = minted.json()["id"].clone();
    gateway.json(&["keys", "disable", id]);
    gateway.json(&["keys", "enable", id]);
    gateway.json(&["keys", "revoke", id, "--wait"]);
    // What is refused makes no event, and the entry of it is not taken for one.
    assert_ne!(gateway.run(&["keys", "revoke", "key_none"]).code, 0);
    let gateway = restarted(gateway, &site);
    let events = listed(&gateway);
    let told: Vec<_> = events
        .iter()
        .map(|event| (&event["id"], event["action"].as_str().unwrap_or("nothing")))
        .collect();
    let of_key = &key["id"];
    assert_eq!(
        told,
        [
            (&"acme".into(), "tenants.create"),
            (of_key, "keys.create"),
            (&visit, "mint"),
            (of_key, "keys.disable"),
            (of_key, "keys.enable"),
            (of_key, "keys.revoke"),
        ]
    );
    for (event, entry) in events.iter().zip(entries_with_changes(&site)) {
        assert_eq!(
            (&event["seq"], &event["gateway"]),
            (&entry["seq"], &entry["gateway"]),
            "{event} {entry}"
        );
        match event["action"].as_str() {
            Some("mint") => {
                assert_eq!(event["request_id"].as_str(), minted.field("x-request-id"));
                assert_eq!(
                    event["who"],
                    serde_json::json!({ "via": "route", "route": "visits", "credential": id, "tenant": "acme" })
                );
            }
            _ => assert_eq!(
                (&event["who"]["via"], &event["who"]["uid"]),
                (&"socket".into(), &our_uid()),
                "{event}"
            ),
        }
    }
    let text = gateway.run(&["events"]).stdout;
    assert!(text.contains("  keys.revoke by "), "{text}");
    assert!(text.contains(&format!("  mint by {id} of acme on route visits\n")), "{text}");
}

/// The entries of the changes in that test, in order.
fn entries_with_changes(site: &Site) -> Vec<Value> {
    let directory = site.folder().join("state/audit");
    let text = std::fs::read_to_string(directory.join("trail-00000000000000000000.jsonl")).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut changes: Vec<Value> = all
        .filter(|entry| entry["outcome"] == "done" || entry.get("done").is_some())
        .collect();
    // Requests are handed over a little later than actions.
    changes.sort_by_key(|entry| entry["time"].as_str().unwrap().to_owned());
    changes
}

#[test]
fn without_a_trail_events_are_told_without_who() {
    let upstream = Upstream::echoing();
    let site = site("", &upstream);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let [event] = listed(&gateway).try_into().unwrap();
    for absent in ["who", "action", "seq", "request_id"] {
        assert!(event.get(absent).is_none(), "{event}");
    }
    assert!(gateway.run(&["events"]).stdout.ends_with("  acme\n"));
}

#[test]
fn a_segment_that_cannot_be_read_is_told_and_the_events_are_shown() {
    let upstream = Upstream::echoing();
    let site = site(AUDIT, &upstream);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    site.write("state/audit/trail-00000000000000000256.jsonl.gz", "no segment");
    let answer = gateway.run(&["events"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stdout.contains("  acme  tenants.create by "), "{answer:?}");
    assert!(
        answer.stderr.contains("trail-00000000000000000256") && answer.stderr.contains("who caused them"),
        "{answer:?}"
    );
}

#[test]
fn a_follower_is_told_who_made_each_change() {
    let upstream = Upstream::echoing();
    let site = site(AUDIT, &upstream);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_durward"))
        .args(["events", "--follow", "--json", "--after", "2", "--config"])
        .arg(site.config())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..5 {
        let visit = mint(&gateway, &key).json()["id"].clone();
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(
            (&event["id"], &event["action"], &event["who"]["route"]),
            (&visit, &"mint".into(), &"visits".into()),
            "{event}"
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_change_through_another_gateway_names_that_gateway_and_nobody_of_this_one() {
    let (upstream, redis) = (Upstream::echoing(), RedisServer::start());
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let site = |id: &str| {
        let mut plan = Plan::redis(&redis.url(), &pepper);
        plan.tables = AUDIT.to_owned();
        let site = Site::of(&plan, upstream.address);
        site.write("gateway.toml", &format!("id = \"{id}\"\n{}", site.read("gateway.toml")));
        site
    };
    let (site_a, site_b) = (site("gw-a"), site("gw-b"));
    let (a, b) = (Gateway::start(&site_a), Gateway::start(&site_b));
    a.json(&["tenants", "create", "acme"]);
    let key = a.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let id = key["id"].as_str().unwrap();
    // Both change the same record within the tolerance for clocks.
    a.json(&["keys", "disable", id]);
    b.json(&["keys", "enable", id]);
    a.json(&["keys", "revoke", id]);
    let told = |gateway: &Gateway| -> Vec<(String, String)> {
        let events = until("all events", PATIENCE, || Some(listed(gateway)).filter(|events| events.len() == 5));
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or("").to_owned();
        events.iter().map(|event| (text(event, "gateway"), text(event, "action"))).collect()
    };
    let expected = |own: &str| -> Vec<(String, String)> {
        [
            ("gw-a", "tenants.create"),
            ("gw-a", "keys.create"),
            ("gw-a", "keys.disable"),
            ("gw-b", "keys.enable"),
            ("gw-a", "keys.revoke"),
        ]
        .map(|(gateway, action)| (gateway.to_owned(), if gateway == own { action } else { "" }.to_owned()))
        .to_vec()
    };
    assert_eq!(told(&a), expected("gw-a"));
    assert_eq!(told(&b), expected("gw-b"));
    let text = b.run(&["events"]).stdout;
    assert!(text.contains("  through gw-a, whose trail tells by whom\n"), "{text}");
    assert!(text.contains("  keys.enable by "), "{text}");
    assert!(!text.contains("through gw-b"), "{text}");
}
