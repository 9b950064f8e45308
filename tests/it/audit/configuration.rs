//! The trail tells which keys of the configuration changed, also while no gateway ran, and never a value.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::canary::contains;
use crate::support::gateway::Gateway;
use crate::support::site::{Plan, SESSION_SECRET, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

/// A secret that the first start makes is no change for the second.
const TABLES: &str = r#"
[audit]
directory = "state/audit"

[surfaces.visit]
kind = "session_jwt"
token_kind = "visit"
secrets = "generate:state/visit"
record = "own"
lifetime = "2h"
carry = ["header:X-Visit"]
"#;

fn site(upstream: &Upstream) -> Site {
    let plan = Plan {
        tables: TABLES.to_owned(),
        ..Plan::usual()
    };
    Site::of(&plan, upstream.address)
}

fn configurations(site: &Site) -> Vec<Value> {
    let text = site.read("state/audit/trail-00000000000000000000.jsonl");
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|entry| entry["kind"] == "configuration").collect()
}

/// Waits for this many entries, and for what the next start compares with.
fn wait_for(site: &Site, count: usize, version: u64) -> Value {
    until("the entry of the configuration", PATIENCE, || {
        let all = configurations(site);
        let kept = site.folder().join("state/audit.configuration").exists();
        (all.len() == count && kept)
            .then(|| all[count - 1].clone())
            .filter(|last| last["version"] == version)
    })
}

fn stop(mut gateway: Gateway) {
    gateway.signal(Signal::TERM);
    gateway.wait_exit(PATIENCE);
}

#[test]
fn keys_that_changed_while_no_gateway_ran_are_told_at_the_start() {
    let upstream = Upstream::echoing();
    let site = site(&upstream);
    let gateway = Gateway::start(&site);
    let first = wait_for(&site, 1, 1);
    assert_eq!((&first["compared"], first.get("changed")), (&json!(false), None), "{first}");
    gateway.json(&["reload"]);
    stop(gateway);

    let gateway = Gateway::start(&site);
    let unchanged = wait_for(&site, 2, 1);
    assert_eq!(
        (&unchanged["compared"], unchanged.get("changed")),
        (&json!(true), None),
        "{unchanged}"
    );
    assert_eq!(unchanged["who"]["via"], "start");
    stop(gateway);

    site.write("session.secret", &SESSION_SECRET.replace("canary", "another-canary"));
    let toml = site.read("gateway.toml");
    site.write(
        "gateway.toml",
        &toml.replace("workers = 2\n", "workers = 1\n[limits]\nbody_idle = \"50s\"\n"),
    );
    let gateway = Gateway::start(&site);
    let changed = wait_for(&site, 3, 1);
    assert_eq!(
        (&changed["changed"], &changed["compared"]),
        (&json!(["limits.body_idle", "surfaces.session.secrets", "workers"]), &json!(true))
    );
    stop(gateway);
    assert_eq!(wait_for(&site, 3, 1), changed);
    let kept = site.read("state/audit.configuration");
    for value in ["50s", "tlive_", "canary", "127.0.0.1"] {
        assert!(!contains(kept.as_bytes(), value.as_bytes()), "{value}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&site.folder().join("state/audit.configuration").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_cannot_be_compared_is_said_to_be_so() {
    let upstream = Upstream::echoing();
    let site = site(&upstream);
    stop(Gateway::start(&site));
    wait_for(&site, 1, 1);
    site.write("state/audit.configuration", "{\"pepper\":");
    let gateway = Gateway::start(&site);
    let second = wait_for(&site, 2, 1);
    assert_eq!((&second["compared"], second.get("changed")), (&json!(false), None), "{second}");
    // It is whole again.
    until("what was kept", PATIENCE, || {
        serde_json::from_str::<Value>(&site.read("state/audit.configuration")).ok()
    });
    assert!(contains(&gateway.output(), b"what the configuration said before is not known"));
}
