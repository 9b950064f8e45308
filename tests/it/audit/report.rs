//! `durward audit report` of a leaked key, over the trails of three real gateways on one Redis, one of them cut off from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::{Answer, Gateway};
use crate::support::raw::Client;
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, pause, until};

/// A bound of 10 s is the shortest that a configuration can have.
const TABLES: &str = "\n[revocation]\nbound = \"10s\"\nstream_check = \"1s\"\n\
     [audit]\ndirectory = \"state/audit\"\ndurable = \"100ms\"\ncheckpoint = \"1s\"\n";

const IDS: [&str; 3] = ["gw-a", "gw-b", "gw-c"];

fn site(id: &str, url: &str, pepper: &Path, upstream: &Upstream) -> Site {
    let plan = Plan {
        store_lines: "max_age = \"3s\"\n".to_owned(),
        tables: TABLES.to_owned(),
        ..Plan::redis(url, pepper)
    };
    let site = Site::of(&plan, upstream.address);
    site.write("gateway.toml", &format!("id = \"{id}\"\n{}", site.read("gateway.toml")));
    site
}

fn status(gateway: &Gateway, key: &str) -> u16 {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(format!("GET /v1/orders/1 HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes());
    client.response().expect("an answer").status
}

/// The report over the trails of these sites.
fn report(gateway: &Gateway, id: &str, directories: &[PathBuf], more: &[&str]) -> Answer {
    let mut args = vec!["audit", "report", id];
    for directory in directories {
        args.extend(["--directory", directory.to_str().unwrap()]);
    }
    args.extend(more);
    gateway.run(&args)
}

/// The one-page checker of the documentation, as whoever has no durward runs it.
fn check(proof: &Path, key: &Path) -> Output {
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit/verify_proof.py");
    let run = Command::new("python3").arg(checker).arg(proof).arg(key).output();
    run.expect("this test runs python3")
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_leaked_key_over_three_gateways_one_of_them_cut_off() {
    let (redis, upstream) = (RedisServer::start(), Upstream::echoing());
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let proxy = FaultProxy::to_port(redis.port());
    let sites = [
        site(IDS[0], &redis.url(), &pepper, &upstream),
        site(IDS[1], &redis.url(), &pepper, &upstream),
        site(IDS[2], &proxy.url(), &pepper, &upstream),
    ];
    let [a, b, c] = [&sites[0], &sites[1], &sites[2]].map(Gateway::start);
    a.json(&["tenants", "create", "acme"]);
    until("three gateways", PATIENCE, || {
        (a.json(&["gateways"])["gateways"].as_array()?.len() == 3).then_some(())
    });
    let made = a.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    for gateway in [&a, &b, &c] {
        assert_eq!(status(gateway, key), 200);
    }

    // The key is revoked while the third gateway hears nothing, and is tried again everywhere.
    proxy.partition();
    let revoked = a.run(&["keys", "revoke", id, "--wait", "--wait-timeout", "500ms", "--json"]);
    assert_eq!(revoked.code, 4, "{revoked:?}");
    assert_eq!((status(&a, key), status(&b, key)), (401, 401));
    let mut admitted = 0;
    until("the gateway that is cut off to refuse by the age of its facts", PATIENCE, || {
        let answer = status(&c, key);
        admitted += u64::from(answer == 200);
        assert!([200, 503].contains(&answer), "{answer}");
        (answer == 503).then_some(()).or_else(|| {
            pause(Duration::from_millis(700));
            None
        })
    });
    let held = time(&revoked.json()["revoked_at"]) + jiff::SignedDuration::from_secs(11);
    until("the bound to pass", PATIENCE, || (jiff::Timestamp::now() > held).then_some(()));
    assert_eq!([&a, &b, &c].map(|gateway| status(gateway, key)), [401, 401, 503]);

    let directories: Vec<_> = sites.iter().map(|site| site.folder().join("state/audit")).collect();
    let answer = until("the entries to be written", PATIENCE, || {
        let answer = report(&a, id, &directories, &["--json"]);
        (answer.code == 0).then_some(answer)
    });
    assert_told(&answer.json(), id, admitted);
    let text = report(&a, id, &directories, &[]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(!text.stdout.contains(key));
    assert_shown(&text.stdout);

    // Without the trail of a gateway that the receipts name, nothing can be said.
    let two = report(&a, id, &directories[..2], &["--json"]);
    assert_eq!(two.code, 1, "{two:?}");
    assert!(
        two.json()["admitted_after_the_end"].is_null() && two.stdout.contains("gw-c: a receipt names"),
        "{two:?}"
    );
    assert_eq!(report(&a, "key_unknown", &directories, &[]).code, 3);

    proven(&a, id, &directories, folder.path());
}

/// What the report says to programs, of a key that was admitted so often by the gateway that was cut off.
fn assert_told(told: &Value, id: &str, admitted: u64) {
    assert_eq!(
        (&told["admitted_after_the_end"], &told["gaps"]),
        (&0.into(), &serde_json::json!([])),
        "{told}"
    );
    assert_eq!(told["statement"], "admitted after the end: 0");
    assert_eq!(
        (&told["tenant"], &told["admitted"]),
        (&"acme".into(), &(3 + admitted).into()),
        "{told}"
    );
    let end = &told["end"];
    assert_eq!(
        (&end["action"], &end["of"], &end["gateway"]),
        (&"keys.revoke".into(), &id.into(), &"gw-a".into())
    );
    assert_eq!(end["who"]["uid"], rustix::process::geteuid().as_raw());
    let bound = time(&end["holds_since"]).duration_since(time(&end["acknowledged"]));
    assert_eq!(bound.as_secs(), 10, "the bound of the configuration");
    let receipts: Vec<_> = end["receipts"][0]["gateways"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["confirmed"].as_bool().unwrap()))
        .collect();
    assert_eq!(receipts, [("gw-a", true), ("gw-b", true), ("gw-c", false)]);
    let after = &told["after"];
    assert_eq!(
        (&after["admitted"], &after["between"], &after["refused"]),
        (&0.into(), &admitted.into(), &4.into()),
        "{after}"
    );
    // Whose the requests were that were refused by age, nobody knows: the facts were too old to be used.
    assert_eq!(after["unknown_callers"][0]["gateway"], "gw-c", "{after}");
    assert!(after["unknown_callers"][0]["refused"].as_u64() >= Some(2), "{after}");
}

/// What it says to people.
fn assert_shown(text: &str) {
    for line in [
        "revoked by ",
        "gw-a confirmed after ",
        "gw-c did NOT confirm; it must have stopped by ",
        "first use: GET /v1/orders/1 from 127.0.0.1, 200",
        "from here on the end holds everywhere (bound 10 s)",
        "refused: GET /v1/orders/1 from 127.0.0.1, 401 revoked_credential",
        "refused because the store could not be asked",
        "admitted after the end: 0",
    ] {
        assert!(text.contains(line), "{line}\n{}", text);
    }
}

/// The checker accepts the proofs of each gateway, and none in which a byte is another one.
fn proven(gateway: &Gateway, id: &str, directories: &[PathBuf], folder: &Path) {
    let file = folder.join("proof");
    // The newest entries are signed within a second.
    let written = until("everything to be signed", PATIENCE, || {
        let answer = report(gateway, id, directories, &["--proof", file.to_str().unwrap()]);
        (answer.code == 0 && !answer.stderr.contains("not signed")).then_some(answer)
    });
    assert!(written.stderr.contains("proof.gw-c"), "{written:?}");
    for (directory, gateway) in directories.iter().zip(IDS) {
        let proof = folder.join(format!("proof.{gateway}"));
        let key = directory.with_extension("pub");
        let checked = check(&proof, &key);
        let entries = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{gateway}: {}", String::from_utf8_lossy(&checked.stderr));
        let wanted = match gateway {
            "gw-a" => vec!["\"action\":\"keys.revoke\"", "\"denial\":\"revoked_credential\""],
            "gw-b" => vec!["\"denial\":\"revoked_credential\""],
            _ => vec!["\"status\":200", "\"denial\":\"store_unavailable\""],
        };
        for text in wanted {
            assert!(entries.contains(text), "{gateway}: {text}\n{entries}");
        }
        let mut bytes = fs::read(&proof).unwrap();
        let middle = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 20;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        fs::write(&proof, bytes).unwrap();
        assert!(!check(&proof, &key).status.success(), "{gateway}: a changed byte");
    }
}
