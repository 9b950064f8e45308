//! What operators do has entries: each operation one, with who, what and how it ended, and never a secret.

use serde_json::Value;

use crate::support::canary::{Canaries, contains};
use crate::support::gateway::{Gateway, run};
use crate::support::site::{Plan, ROUTES, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

fn start() -> (Upstream, Site, Gateway) {
    let upstream = Upstream::echoing();
    let plan = Plan {
        tables: "\n[audit]\ndirectory = \"state/audit\"\ndurable = \"100ms\"\n\n[surfaces.people]\nkind = \"account\"\n\
                 [surfaces.hooks]\nkind = \"signing_secret\"\nprefixes = { live = \"whsec_\" }\n"
            .to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    (upstream, site, gateway)
}

/// The entries of these kinds so far.
fn entries(site: &Site, kinds: &[&str]) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(site.folder().join("state/audit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("trail-"))
        .collect();
    files.sort();
    let lines = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>();
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|entry| kinds.contains(&entry["kind"].as_str().unwrap())).collect()
}

fn actions(site: &Site) -> Vec<Value> {
    entries(site, &["operator", "drill"])
}

/// Who runs this test, as the system has it.
fn assert_is_us(entry: &Value) {
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(entry["who"]["uid"], uid, "{entry}");
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ours = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    let name = ours.and_then(|line| line.split(':').next());
    assert_eq!(entry["who"].get("user").and_then(Value::as_str), name, "{entry}");
}

#[test]
fn each_operation_has_one_entry_by_whom_and_no_secret_is_in_any_file() {
    let (_upstream, site, gateway) = start();
    let mut canaries = Canaries::default();
    let mut expected: Vec<&str> = Vec::new();
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let id = made["id"].as_str().unwrap();
    canaries.plant(made["key"].as_str().unwrap());
    let pair = gateway.create_key("pair", "acme", &["--mode", "test"]);
    canaries.plant(pair["secret"].as_str().unwrap());
    expected.extend(["tenants.create", "keys.create", "keys.create"]);
    for verb in ["disable", "enable"] {
        gateway.json(&["keys", verb, id]);
    }
    let rotated = gateway.json(&["keys", "rotate", id]);
    canaries.plant(rotated["credential"]["key"].as_str().or(rotated["key"].as_str()).unwrap());
    gateway.json(&["keys", "revoke", id, "--wait"]);
    expected.extend(["keys.disable", "keys.enable", "keys.rotate", "keys.revoke"]);
    let hook = gateway.create_key("hooks", "acme", &[]);
    let revealed = gateway.json(&["keys", "reveal", hook["id"].as_str().unwrap()]);
    canaries.plant(revealed["secret"].as_str().unwrap());
    expected.extend(["keys.create", "keys.reveal"]);
    let role = gateway.json(&["roles", "create", "--tenant", "acme", "--name", "reader", "--scope", "orders:read"]);
    let role = role["id"].as_str().unwrap();
    gateway.json(&["roles", "set", role, "--scope", "orders:write"]);
    gateway.json(&["roles", "delete", role]);
    expected.extend(["roles.create", "roles.set", "roles.delete"]);
    gateway.json(&["tenants", "disable", "acme"]);
    gateway.json(&["reload"]);
    expected.extend(["tenants.disable", "configuration.reload"]);
    // What only reads has none.
    gateway.json(&["keys", "list"]);
    gateway.json(&["status"]);

    let found = until("the entries", PATIENCE, || {
        let found = actions(&site);
        (found.len() >= expected.len()).then_some(found)
    });
    let names: Vec<&str> = found.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(names, expected);
    for entry in &found {
        assert_is_us(entry);
        assert_eq!(entry["outcome"], "done", "{entry}");
    }
    let of = |action: &str| found.iter().find(|entry| entry["action"] == action).unwrap();
    assert_eq!(
        (&of("keys.disable")["before"]["state"], &of("keys.disable")["after"]["state"]),
        (&"active".into(), &"disabled".into())
    );
    assert_eq!(of("keys.rotate")["target"], id);
    assert!(of("keys.rotate")["replaced_by"].is_string());
    let wait = &of("keys.revoke")["wait"];
    assert_eq!(
        (&wait["confirmed"], &wait["gateways"][0]["confirmed"]),
        (&true.into(), &true.into()),
        "{wait}"
    );
    assert_eq!(of("roles.set")["after"]["scopes"], serde_json::json!(["orders:write"]));
    assert!(of("keys.reveal").get("after").is_none());

    let listed = gateway.run(&["events", "--json"]).stdout;
    let revoked = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let revoked: Vec<Value> = revoked
        .filter(|event| event["id"] == id && event["action"] == "keys.revoke")
        .collect();
    assert!(!revoked.is_empty(), "{listed}");
    assert_is_us(&revoked[0]);
    assert!(gateway.run(&["events"]).stdout.contains("keys.revoke by "));

    drop(gateway);
    assert_eq!(canaries.found_below(&site.folder().join("state/audit"), &[]), Vec::<String>::new());
    assert_eq!(run(&site.config(), &["audit", "verify"], b"").code, 0);
}

#[test]
fn a_refused_operation_has_an_entry_and_a_key_in_the_place_of_an_id_is_not_in_it() {
    let (_upstream, site, gateway) = start();
    gateway.json(&["tenants", "create", "acme"]);
    assert_eq!(gateway.run(&["tenants", "create", "acme"]).code, 1);
    let pasted = "tlive_canary0123456789abcdefghijklmnop";
    assert_eq!(gateway.run(&["keys", "revoke", pasted]).code, 3);
    let found = until("the entries", PATIENCE, || {
        let found = actions(&site);
        (found.len() >= 3).then_some(found)
    });
    let ended: Vec<_> = found
        .iter()
        .map(|entry| (&entry["action"], &entry["outcome"], &entry["reason"]))
        .collect();
    assert_eq!(
        ended,
        [
            (&"tenants.create".into(), &"done".into(), &Value::Null),
            (&"tenants.create".into(), &"refused".into(), &"conflict".into()),
            (&"keys.revoke".into(), &"refused".into(), &"not_found".into()),
        ]
    );
    assert_eq!(found[1]["tenant"], "acme");
    for entry in std::fs::read_dir(site.folder().join("state/audit")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert!(!contains(&std::fs::read(&path).unwrap(), b"canary"), "{}", path.display());
        }
    }
}

#[test]
fn a_reload_names_the_keys_that_changed_and_one_without_a_change_has_no_such_entry() {
    let (upstream, site, gateway) = start();
    let configurations = || entries(&site, &["configuration"]);
    let begun = until("the entry of the start", PATIENCE, || configurations().pop());
    assert_eq!((&begun["who"]["via"], begun.get("changed")), (&"start".into(), None));
    gateway.json(&["reload"]);
    let narrower = ROUTES.replacen("scopes = [\"orders:read\"]", "scopes = [\"orders:all\"]", 1);
    site.write("upstreams/main.toml", &narrower.replace("{address}", &upstream.address.to_string()));
    gateway.json(&["reload"]);
    let all = until("the entry of the change", PATIENCE, || {
        let all = configurations();
        (all.len() >= 2).then_some(all)
    });
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[1]["changed"], serde_json::json!(["routes.main/1.access.scopes"]));
    assert!(["socket", "file"].contains(&all[1]["who"]["via"].as_str().unwrap()), "{}", all[1]);
    assert!(!all[1].to_string().contains("orders:all"), "{}", all[1]);
}

#[test]
fn a_drill_has_entries_of_its_kind() {
    let (_upstream, site, gateway) = start();
    let client = gateway.json(&["tenants", "create", "acme"]);
    assert_eq!(client["id"], "acme");
    let address = gateway.address("plain");
    let url = format!("http://{address}/v1/orders/1");
    let drill = gateway.run(&[
        "drill",
        "--surface",
        "api",
        "--mode",
        "live",
        "--scope",
        "orders:read",
        "--url",
        &url,
    ]);
    let found = until("the entries of the drill", PATIENCE, || {
        let found = entries(&site, &["drill"]);
        (found.len() >= 2).then_some(found)
    });
    let names: Vec<_> = found.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["drill.begin", "drill.end"], "{drill:?}");
    assert_eq!(found[0]["target"], found[1]["target"]);
}
