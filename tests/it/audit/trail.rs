//! How the trail is kept: killed under load, on a disk that takes nothing, and with files that somebody changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use durward::audit::segments::Segments;
use durward::base::clock;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

/// Kills under load that the issue demands.
const KILLS: usize = 20;

/// How long there is load before each kill: longer than `durable` below, so that some entries must be there.
const LOAD: Duration = Duration::from_millis(1_000);

/// The usual site with a trail.
fn site(upstream: &Upstream, audit: &str) -> Site {
    let plan = Plan {
        tables: format!("[audit]\ndirectory = \"state/audit\"\n{audit}\n[limits]\ndrain_delay = \"0s\"\n"),
        ..Plan::usual()
    };
    Site::of(&plan, upstream.address)
}

fn directory(site: &Site) -> PathBuf {
    site.folder().join("state/audit")
}

/// The whole lines of all segments.
fn entries(directory: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for segment in Segments::open(directory).unwrap().list() {
        let lines = segment.lines().unwrap().map(|line| line.unwrap().bytes);
        all.extend(lines.map(|line| serde_json::from_slice::<Value>(&line).unwrap()));
    }
    all
}

/// The paths of the requests that have an entry of this kind.
fn paths(directory: &Path, kind: &str) -> BTreeSet<String> {
    let of_kind = |entry: &Value| (entry["kind"] == kind).then(|| entry["path"].as_str().unwrap_or_default().to_owned());
    entries(directory).iter().filter_map(of_kind).collect()
}

/// The gap entries with this reason.
fn gaps(directory: &Path, reason: &str) -> Vec<Value> {
    let is_one = |entry: &Value| entry["kind"] == "gap" && entry["reason"] == reason;
    entries(directory).into_iter().filter(is_one).collect()
}

fn verify(site: &Site) {
    let answer = run(&site.config(), &["audit", "verify"], b"");
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// Asks once over a connection of its own.
fn ask(gateway: &Gateway, path: &str) -> (u16, String) {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    let answer = client.response().expect("an answer");
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

/// Sends requests one after the other until the gateway is gone. Answers which were answered, and when.
fn load(gateway: &Gateway, name: String, ended: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<(String, Instant)>> {
    let address = gateway.address("plain");
    std::thread::spawn(move || {
        let mut answered = Vec::new();
        let Some(mut client) = Client::try_connect(address) else {
            return answered;
        };
        for number in 0.. {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            let path = format!("/public/{name}/{number}");
            if client
                .try_send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
                .is_err()
            {
                break;
            }
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.response())) {
                Ok(Some(answer)) if answer.status == 200 => answered.push((path, clock::instant())),
                _ => break,
            }
        }
        answered
    })
}

/// Kills a gateway under load, over and over. `bound` is how long before the kill an entry may have been made that is missing;
/// `None` if none may be missing. `kind` is the kind of entry that is looked for.
fn kill_under_load(audit: &str, kills: usize, kind: &str, bound: Option<Duration>) {
    let upstream = Upstream::echoing();
    let site = site(&upstream, audit);
    let directory = directory(&site);
    let mut must_be_there = BTreeSet::new();
    for round in 0..kills {
        let mut gateway = Gateway::start(&site);
        let ended = Arc::<AtomicBool>::default();
        let clients: Vec<_> = (0..3)
            .map(|client| load(&gateway, format!("{round}-{client}"), ended.clone()))
            .collect();
        let begin = clock::instant();
        until("the load to have gone on for a while", PATIENCE, || {
            (begin.elapsed() > LOAD).then_some(())
        });
        let killed = clock::instant();
        gateway.signal(Signal::KILL);
        gateway.wait_exit(PATIENCE);
        ended.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for client in clients {
            for (path, at) in client.join().unwrap() {
                answered += 1;
                if bound.is_none_or(|bound| killed.saturating_duration_since(at) > bound) {
                    must_be_there.insert(path);
                }
            }
        }
        assert!(answered > 0, "nothing was answered in round {round}");
    }
    assert!(must_be_there.len() > kills, "too little to say anything: {}", must_be_there.len());
    let gateway = Gateway::start(&site);
    let recorded = paths(&directory, kind);
    let missing: Vec<&String> = must_be_there.difference(&recorded).collect();
    let some: Vec<_> = missing.iter().take(5).collect();
    assert!(
        missing.is_empty(),
        "{} of {} are missing: {some:?}",
        missing.len(),
        must_be_there.len()
    );
    // Each kill is told, and nothing else is.
    assert_eq!(gaps(&directory, "unclean_stop").len(), kills);
    let numbers: Vec<u64> = entries(&directory).iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "a number is missing");
    drop(gateway);
    verify(&site);
}

#[test]
fn twenty_kills_under_load_lose_no_entry_older_than_durable_and_each_is_told() {
    let durable = Duration::from_millis(400);
    kill_under_load("durable = \"400ms\"\ncheckpoint = \"1s\"", KILLS, "request", Some(durable));
}

/// With the smallest segments there is hardly a kill that no segment is just ending or beginning at.
#[test]
fn kills_while_segments_end_lose_no_entry_older_than_durable_and_each_is_told() {
    let durable = Duration::from_millis(400);
    kill_under_load("durable = \"400ms\"\nsegment = \"64KiB\"", 5, "request", Some(durable));
}

#[test]
fn with_each_no_answered_request_is_missing_however_the_gateway_ends() {
    kill_under_load("durable = \"each\"\ncheckpoint = \"1s\"", KILLS, "answered", None);
}

/// What the trail's metric of this name says.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let mut client = Client::connect(gateway.probes());
    client.send(b"GET /metrics HTTP/1.1\r\nHost: probes\r\n\r\n");
    let text = String::from_utf8(client.response().expect("an answer").body).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Lets the gateway write nothing more: every file of the trail is longer already.
fn fill_disk(gateway: &Gateway) {
    gateway.limit_files(Some(32));
}

#[test]
fn with_refuse_a_full_disk_answers_503_and_the_gateway_serves_again_by_itself() {
    let upstream = Upstream::echoing();
    let site = site(&upstream, "on_full = \"refuse\"");
    let gateway = Gateway::start(&site);
    let mut asked = 0;
    let mut served = BTreeSet::new();
    let refused = Mutex::new(0_u64);
    let mut once = |gateway: &Gateway| {
        asked += 1;
        let path = format!("/public/{asked}");
        let (status, body) = ask(gateway, &path);
        match status {
            200 => drop(served.insert(path)),
            503 => {
                assert!(body.contains("unavailable"), "{body}");
                *refused.lock().unwrap() += 1;
            }
            other => panic!("{other}: {body}"),
        }
        status
    };
    assert_eq!(once(&gateway), 200);
    until("the first entries", PATIENCE, || {
        (paths(&directory(&site), "request").len() == 1).then_some(())
    });
    fill_disk(&gateway);
    until("a refusal", PATIENCE, || (once(&gateway) == 503).then_some(()));
    assert_eq!(metric(&gateway, "durward_audit_failing"), 1);
    for _ in 0..20 {
        assert_eq!(once(&gateway), 503);
    }
    gateway.limit_files(None);
    // Nobody asks meanwhile: the gateway finds out by itself.
    until("the trail to be written again", PATIENCE, || {
        (metric(&gateway, "durward_audit_failing") == 0).then_some(())
    });
    assert_eq!(once(&gateway), 200);
    let refused = *refused.lock().unwrap();
    until("an entry of each request that was served", PATIENCE, || {
        (paths(&directory(&site), "request") == served).then_some(())
    });
    until("how many were refused", PATIENCE, || {
        let told = gaps(&directory(&site), "refused");
        (told.iter().map(|gap| gap["entries"].as_u64().unwrap()).sum::<u64>() == refused).then_some(())
    });
    assert_eq!(metric(&gateway, "durward_audit_entries_total{result=\"refused\"}"), refused);
    drop(gateway);
    verify(&site);
}

#[test]
fn with_drop_and_count_a_full_disk_stops_no_request_and_the_trail_tells_how_many_are_missing() {
    let upstream = Upstream::echoing();
    let site = site(&upstream, "on_full = \"drop_and_count\"");
    let gateway = Gateway::start(&site);
    let directory = directory(&site);
    let mut asked = 0_usize;
    let mut once = || {
        asked += 1;
        assert_eq!(ask(&gateway, &format!("/public/{asked}")).0, 200);
        asked
    };
    once();
    until("the first entry", PATIENCE, || {
        (paths(&directory, "request").len() == 1).then_some(())
    });
    fill_disk(&gateway);
    until("the alarm", PATIENCE, || {
        once();
        (metric(&gateway, "durward_audit_failing") == 1).then_some(())
    });
    for _ in 0..50 {
        once();
    }
    gateway.limit_files(None);
    let all = until("the trail to be written again", PATIENCE, || {
        let all = once();
        (metric(&gateway, "durward_audit_failing") == 0).then_some(all)
    });
    let missing = until("every request to have an entry or to be told as missing", PATIENCE, || {
        let recorded = paths(&directory, "request").len();
        let told = gaps(&directory, "disk_full");
        let missing = told
            .iter()
            .map(|gap| usize::try_from(gap["entries"].as_u64().unwrap()).unwrap())
            .sum::<usize>();
        assert!(recorded + missing <= all, "{recorded} recorded, {missing} missing, {all} asked");
        (recorded + missing == all).then_some(missing)
    });
    assert!(missing > 0, "nothing was missing");
    assert_eq!(metric(&gateway, "durward_audit_entries_total{result=\"dropped\"}"), missing as u64);
    let log = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert_eq!(log.matches("audit_not_written").count(), 1, "once, however often it was tried");
    drop(gateway);
    verify(&site);
}

#[test]
fn a_trail_that_somebody_changed_is_not_continued_and_the_gateway_says_what_to_do() {
    let upstream = Upstream::echoing();
    let site = site(&upstream, "");
    let mut gateway = Gateway::start(&site);
    assert_eq!(ask(&gateway, "/public/once").0, 200);
    gateway.signal(Signal::TERM);
    assert!(gateway.wait_exit(PATIENCE).success());
    let directory = directory(&site);
    let path = directory.join(format!("trail-{:020}.jsonl", 0));
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replacen("/public/once", "/public/0nce", 1)).unwrap();
    let refused = run(&site.config(), &["serve"], b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("keep the directory") && said.contains("trail-"), "{said}");
    // The files are as they were.
    std::fs::write(&path, &whole).unwrap();
    verify(&site);
    let gateway = Gateway::start(&site);
    assert!(gaps(&directory, "unclean_stop").is_empty());
    drop(gateway);
}

#[test]
fn checkpoints_reach_a_file_and_a_program_and_a_failing_program_is_an_entry() {
    let upstream = Upstream::echoing();
    let site = site(
        &upstream,
        "checkpoint = \"1s\"\ncheckpoint_file = \"state/newest\"\ncheckpoint_command = [\"sh\", \"-c\", \"cat > state/sent; exit 7\"]",
    );
    let gateway = Gateway::start(&site);
    let directory = directory(&site);
    assert_eq!(ask(&gateway, "/public/once").0, 200);
    let failed = until("the failure to be an entry", PATIENCE, || {
        entries(&directory).into_iter().find(|entry| entry["kind"] == "checkpoint_failed")
    });
    assert!(failed["why"].as_str().unwrap().contains("checkpoint_command"), "{failed}");
    let is_one = |path: PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("durward.audit/"));
    until("both", PATIENCE, || {
        (is_one(site.folder().join("state/newest")) && is_one(site.folder().join("state/sent"))).then_some(())
    });
    drop(gateway);
}
