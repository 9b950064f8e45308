//! `durward audit query` and `show` over the trail of a gateway that runs, and of one that has stopped.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use durward::audit::closed;
use durward::audit::files::segment_file;
use serde_json::Value;

use crate::support::gateway::{Answer, Gateway, run};
use crate::support::raw::Client;
use crate::support::site::{Plan, ROUTES, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

const AUDIT: &str = "[audit]\ndirectory = \"state/audit\"\n";

/// The lines of a query, the newest entry first.
fn query(gateway: &Gateway, filters: &[&str]) -> Vec<Value> {
    let answer = gateway.run(&[&["audit", "query", "--json"], filters].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn entries_are_found_by_every_filter_and_only_those_that_fit() {
    let upstream = Upstream::scripted(When::Head, |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(Then::Keep)
    });
    let plan = Plan {
        tables: AUDIT.to_owned(),
        upstream: ROUTES.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    let mut keys = Vec::new();
    for tenant in ["acme", "globex"] {
        gateway.json(&["tenants", "create", tenant]);
        keys.push(gateway.create_key("api", tenant, &["--mode", "live", "--scope", "orders:read"]));
    }
    let mut ids = Vec::new();
    for (key, path) in [(&keys[0], "/v1/orders/1"), (&keys[1], "/v1/orders/2"), (&keys[0], "/none")] {
        let mut client = Client::connect(gateway.address("plain"));
        let key = key["key"].as_str().unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes());
        let response = client.final_response_to("GET").unwrap();
        ids.push(response.field("x-request-id").unwrap().to_owned());
        // Workers hand entries over when they come to it; the order is known only of one after the other.
        until("the entry of the request", PATIENCE, || {
            (query(&gateway, &["--kind", "request"]).len() == ids.len()).then_some(())
        });
    }
    let found = |filters: &[&str]| -> Vec<String> {
        let entries = query(&gateway, &[&["--kind", "request"], filters].concat());
        entries
            .iter()
            .map(|entry| entry["request_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let credential = keys[0]["id"].as_str().unwrap();
    let denial = query(&gateway, &["--request", &ids[2]])[0]["denial"].as_str().unwrap().to_owned();
    let time = query(&gateway, &["--request", &ids[0]])[0]["time"].as_str().unwrap().to_owned();
    for (filters, wanted) in [
        (&["--tenant", "globex"][..], vec![&ids[1]]),
        (&["--credential", credential], vec![&ids[0]]),
        (&["--request", &ids[2]], vec![&ids[2]]),
        (&["--denial", &denial], vec![&ids[2]]),
        (&["--status", "2xx"], vec![&ids[1], &ids[0]]),
        (&["--status", "404"], vec![&ids[2]]),
        (&["--client", "127.0.0.1", "--limit", "1"], vec![&ids[2]]),
        (&["--client", "192.0.2.1"], vec![]),
        (&["--until", &time], vec![]),
        (&["--tenant", "nobody"], vec![]),
    ] {
        assert_eq!(found(filters).iter().collect::<Vec<_>>(), wanted, "{filters:?}");
    }
    // A gateway that has stopped is asked in the same way.
    let directory = site.folder().join("state/audit");
    drop(gateway);
    let stopped = Gateway::start(&site);
    let shown = stopped.run(&["audit", "show", &ids[0], "--json", "--directory", directory.to_str().unwrap()]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["entries"][0]["path"], "/v1/orders/1", "{shown}");
    let absent = stopped.run(&["audit", "show", "no-such-request"]);
    assert!(absent.code == 3 && absent.stderr.contains("no-such-request"), "{absent:?}");
    let wrong = stopped.run(&["audit", "query", "--status", "9xx"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

/// A closed segment and one that is written to.
fn trail(directory: &Path) {
    for (first, end) in [(0_u64, 2_560_u64), (2_560, 3_000)] {
        let lines = (first..end).map(|seq| {
            format!(
                "{{\"seq\":{seq},\"gateway\":\"gw-a\",\"time\":\"2027-03-{:02}T00:00:00.000Z\",\"kind\":\"request\",\"request_id\":\"r-{seq}\",\"tenant\":\"t{}\",\"status\":200}}\n",
                1 + seq / 100,
                seq % 500
            )
        });
        fs::write(segment_file(directory, first, "jsonl"), lines.collect::<String>()).unwrap();
    }
    closed::close(&segment_file(directory, 0, "jsonl")).unwrap();
}

fn asked(directory: &Path, filters: &[&str]) -> Answer {
    let given = ["audit", "query", "--json", "--directory", directory.to_str().unwrap()];
    run(Path::new("no-configuration"), &[&given[..], filters].concat(), b"")
}

fn remarks(answer: &Answer) -> Vec<String> {
    let lines = answer.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some(line["remark"].as_str()?.to_owned())).collect()
}

#[test]
fn a_query_says_what_it_read() {
    let directory = tempfile::tempdir().unwrap();
    trail(directory.path());
    let open = fs::metadata(segment_file(directory.path(), 2_560, "jsonl")).unwrap().len();
    let read = |filters: &[&str]| {
        let answer = asked(directory.path(), &[filters, &["--cost"]].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        (answer.stdout.lines().count(), remarks(&answer).pop().unwrap())
    };
    let searched = |blocks: &str| format!("read {blocks} blocks, and {} KiB without an index", open.div_ceil(1_024));
    // One block of all has the request; of the days of a tenant only those with its entries are read.
    let all = read(&["--request", "no-such-request"]).1;
    let count = all.strip_prefix("read 0 of ").unwrap().split(' ').next().unwrap();
    assert!(count.parse::<u32>().unwrap() > 5, "{all}");
    assert_eq!(all, searched(&format!("0 of {count}")));
    assert_eq!(read(&["--request", "r-17"]), (1, searched(&format!("1 of {count}"))));
    let days = ["--since", "2027-03-01T00:00:00Z", "--until", "2027-03-03T00:00:00Z"];
    assert_eq!(
        read(&[&["--tenant", "t17"], &days[..]].concat()),
        (1, searched(&format!("1 of {count}")))
    );
    assert_eq!(
        read(&[&["--tenant", "nobody"], &days[..]].concat()),
        (0, searched(&format!("0 of {count}")))
    );
}

#[test]
fn a_query_that_no_index_serves_says_so_before_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    trail(directory.path());
    assert_eq!(remarks(&asked(directory.path(), &["--request", "r-17"])), [] as [&str; 0]);
    // Without its index a segment is read whole: it is named, and the answer lacks nothing.
    let index = segment_file(directory.path(), 0, "index");
    fs::remove_file(&index).unwrap();
    let answer = asked(directory.path(), &["--request", "r-17"]);
    assert_eq!((answer.code, answer.stdout.lines().count()), (0, 1), "{answer:?}");
    assert!(remarks(&answer)[0].starts_with(index.to_str().unwrap()), "{answer:?}");
    // A large open segment is searched.
    let open = segment_file(directory.path(), 2_560, "jsonl");
    let lines = fs::read(&open).unwrap();
    fs::write(&open, lines.repeat((70 << 20) / lines.len() + 1)).unwrap();
    let answer = asked(directory.path(), &["--request", "no-such-request"]);
    assert!(remarks(&answer).iter().any(|remark| remark.contains("MiB are read")), "{answer:?}");
    // The newest entries need only its end.
    let newest = asked(directory.path(), &["--limit", "10"]);
    assert!(!remarks(&newest).iter().any(|remark| remark.contains("MiB are read")), "{newest:?}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    trail(directory.path());
    fs::write(directory.path().join("trail-00000000000000009984.jsonl.zst"), b"of a newer durward").unwrap();
    let answer = asked(directory.path(), &["--request", "r-17"]);
    assert_eq!((answer.code, answer.stdout.lines().count()), (1, 1), "{answer:?}");
    assert!(answer.stderr.contains("trail-00000000000000009984.jsonl.zst"), "{answer:?}");
    let zipped = segment_file(directory.path(), 0, "jsonl.gz");
    fs::write(&zipped, b"half").unwrap();
    let answer = asked(directory.path(), &["--request", "r-17"]);
    assert_eq!((answer.code, answer.stdout.lines().count()), (1, 0), "{answer:?}");
    assert!(answer.stderr.contains(zipped.to_str().unwrap()), "{answer:?}");
}

#[test]
fn the_bodies_of_a_request_are_looked_for_only_where_its_entry_says() {
    let directory = tempfile::tempdir().unwrap();
    trail(directory.path());
    let body = |seq: u64| format!("{{\"seq\":{seq},\"request_id\":\"r-{seq}\",\"part\":\"body\",\"masked\":\"{{}}\"}}\n");
    let bodies = |first: u64| directory.path().join(format!("bodies-{first:020}.jsonl"));
    fs::write(bodies(0), body(17)).unwrap();
    fs::write(bodies(100), body(100) + &body(117)).unwrap();
    // Nobody needs this one.
    fs::create_dir(bodies(200)).unwrap();
    let show = |id: &str| {
        let given = ["audit", "show", id, "--json", "--directory", directory.path().to_str().unwrap()];
        run(Path::new("no-configuration"), &given, b"")
    };
    for id in ["r-17", "r-117"] {
        let shown = show(id).json();
        assert_eq!(
            (&shown["bodies"][0]["request_id"], shown["bodies"].as_array().unwrap().len()),
            (&id.into(), 1)
        );
    }
    let lost = show("r-2999");
    assert!(lost.code == 1 && lost.stderr.contains("bodies-00000000000000000200"), "{lost:?}");
}
