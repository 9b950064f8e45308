//! `durward audit erase`: the bodies of one request are gone from every file, and the trail stays whole.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::canary::contains;
use crate::support::gateway::{Gateway, run};
use crate::support::site::{Plan, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::PATIENCE;

use super::kept::{self, ask};

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/recorded"
methods = ["POST"]
access = "public"
[routes.audit]
body = { max = "64KiB", types = ["text/plain"] }
answer = { max = "64KiB", types = ["text/plain"] }
"#;

/// Longer than the smallest segment of the trail, so that bodies stand in several files.
const FILLER: usize = 60_000;

/// Requests whose bodies fill three files.
const REQUESTS: usize = 40;

struct House {
    _upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

impl House {
    fn open() -> Self {
        let upstream = Upstream::scripted(When::Body, |request, stream| {
            use std::io::Write as _;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                request.body.len()
            )?;
            stream.write_all(&request.body)?;
            Ok(Then::Keep)
        });
        let plan = Plan {
            tables: "[audit]\ndirectory = \"state/audit\"\ndurable = \"100ms\"\nsegment = \"1MiB\"\n".to_owned(),
            upstream: ROUTES.to_owned(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        Self {
            _upstream: upstream,
            site,
            gateway,
        }
    }

    /// Sends a body that comes back, and gives the entry.
    fn send(&self, text: &str) -> Value {
        let body = format!("{text} {}", "x".repeat(FILLER));
        let response = ask(&self.gateway, "POST", "/recorded", "Content-Type: text/plain\r\n", body.as_bytes());
        assert_eq!(response.status, 200);
        kept::entry(&self.site, "request", "request_id", response.field("x-request-id").unwrap())
    }

    /// The files below the folder that hold this text.
    fn files_with(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.site.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            for file in std::fs::read_dir(folder).unwrap().flatten() {
                let path = file.path();
                if path.is_dir() {
                    folders.push(path);
                } else if kept::text_of(&path).is_some_and(|bytes| contains(&bytes, text.as_bytes())) {
                    found.push(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found
    }
}

#[test]
fn a_body_is_erased_from_every_file_and_the_entry_and_the_proof_stay() {
    let mut house = House::open();
    let sent: Vec<Value> = (0..REQUESTS).map(|number| house.send(&format!("canary-{number}-end"))).collect();
    let mut bodies = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(kept::directory(&house.site)).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        bodies.extend(
            name.strip_prefix("bodies-")
                .and_then(|rest| rest.split('.').next())
                .map(str::to_owned),
        );
    }
    let bodies = bodies.len();
    assert!(bodies >= 3, "{bodies} files of bodies");

    // In the oldest file, in one between, and in the one that is written to.
    let chosen = [0, REQUESTS / 2, REQUESTS - 1];
    for number in chosen {
        let (entry, text) = (&sent[number], format!("canary-{number}-end"));
        let id = entry["request_id"].as_str().unwrap();
        assert!(!house.files_with(&text).is_empty());
        let erased = house.gateway.json(&["audit", "erase", "--request", id]);
        assert_eq!(erased, json!({ "request_id": id, "erased": 2 }));
        assert_eq!(house.files_with(&text), [""; 0]);
        // What cannot be turned back into the body is all that is left of it: no salt, no size.
        for line in kept::bodies(&house.site, &entry["request_id"]) {
            let names: Vec<&String> = line.as_object().unwrap().keys().collect();
            assert_eq!(names, ["erased", "part", "request_id", "seq"], "{line}");
        }
        assert_eq!(kept::entry(&house.site, "request", "request_id", id), *entry);
        let told = kept::entry(&house.site, "erase", "request_id", id);
        assert_eq!((&told["bodies"], &told["who"]["via"]), (&json!(2), &json!("socket")), "{told}");
        assert_eq!(told["who"]["uid"], rustix::process::geteuid().as_raw(), "{told}");
        // Twice: there is nothing left, and nothing is said to have been done.
        let again = house.gateway.run(&["audit", "erase", "--request", id]);
        assert_eq!(again.code, 3, "{again:?}");
        assert!(again.stderr.contains("no body"), "{again:?}");
        assert_eq!(
            kept::entries(&house.site, "erase").len(),
            chosen.iter().position(|one| *one == number).unwrap() + 1
        );
        let verified = house.gateway.run(&["audit", "verify"]);
        assert_eq!(verified.code, 0, "{verified:?}");
    }
    // The others are as they were, and what comes now is recorded.
    for number in 0..REQUESTS {
        let left = house.files_with(&format!("canary-{number}-end"));
        assert_eq!(left.is_empty(), chosen.contains(&number), "{number}: {left:?}");
    }
    let later = house.send("canary-later-end");
    assert_eq!(kept::bodies(&house.site, &later["request_id"]).len(), 2);

    for (id, code) in [("01UNKNOWN", 3), ("no id at all", 2)] {
        let unknown = house.gateway.run(&["audit", "erase", "--request", id]);
        assert_eq!(unknown.code, code, "{unknown:?}");
    }
    assert_eq!(kept::entries(&house.site, "erase").len(), 3);

    // The proof of an erased body's entry holds.
    house.gateway.signal(Signal::TERM);
    assert!(house.gateway.wait_exit(PATIENCE).success());
    let proven = run(
        &house.site.config(),
        &["audit", "prove", sent[0]["request_id"].as_str().unwrap()],
        b"",
    );
    assert_eq!(proven.code, 0, "{proven:?}");
    let verified = run(&house.site.config(), &["audit", "verify", "--json"], b"");
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(verified.json()["trails"][0]["bodies"]["erased"], 6);
    // A gateway that starts again takes them as they are.
    house.gateway = Gateway::start(&house.site);
    let verified = house.gateway.run(&["audit", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    // Whoever removes a body without the command is found.
    let files = std::fs::read_dir(kept::directory(&house.site)).unwrap().flatten();
    let mut open: Vec<_> = files.map(|file| file.path()).collect();
    open.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("bodies-") && name.ends_with(".jsonl")
    });
    let path = open.into_iter().max().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let victim: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let stone = json!({ "seq": victim["seq"], "request_id": victim["request_id"], "part": victim["part"], "erased": true });
    std::fs::write(&path, text.replace(lines.last().unwrap(), &stone.to_string())).unwrap();
    let verified = house.gateway.run(&["audit", "verify"]);
    assert_eq!(verified.code, 1, "{verified:?}");
    assert!(verified.stderr.contains(&format!("entry {}", victim["seq"])), "{verified:?}");
}
