//! The trail through its public functions: what is written, what a restart makes of it, what a full disk does.

use std::fs;
use std::path::Path;

use futures_util::FutureExt as _;

use super::*;
use crate::audit::archivist::MAX_FULL;
use crate::audit::checkpoint::CheckpointVerifier;
use crate::audit::files::{bodies_file, numbers, segment_file};
use crate::audit::recovery::key_file;
use crate::audit::settings::{AuditSettings, Durable, OnFull};
use crate::base::clock::SystemClock;

fn settings(directory: &Path) -> AuditSettings {
    AuditSettings {
        directory: directory.to_owned(),
        on_full: OnFull::DropAndCount,
        durable: Durable::Within(Duration::from_secs(1)),
        segment: 1 << 20,
        keep: Duration::from_secs(3_600),
        keep_bodies: Duration::from_secs(3_600),
        max_size: None,
        checkpoint: Duration::from_secs(10),
        checkpoint_file: None,
        checkpoint_command: None,
        stdout: false,
    }
}

fn open(settings: &AuditSettings) -> Result<Arc<Trail>, TrailError> {
    Trail::open(settings.clone(), &GatewayId::parse("gw-1").unwrap(), Arc::new(SystemClock))
}

const MEMBERS: &[u8] = b",\"time\":\"2026-11-29T07:00:00.000Z\",\"kind\":\"operator\"";

/// All lines of the plain segments.
fn lines(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for first in numbers(directory, "trail", "jsonl").unwrap() {
        let text = fs::read_to_string(segment_file(directory, first, "jsonl")).unwrap();
        all.extend(text.lines().map(str::to_owned));
    }
    all
}

fn kinds(directory: &Path) -> Vec<String> {
    let kind = |line: &String| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    lines(directory).iter().map(kind).collect()
}

/// Waits on this thread for a receipt that the writer's thread resolves.
fn wait(receipt: DurableReceipt) -> Result<u64, NotRecorded> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(receipt)
}

/// What `durward audit verify` finds wrong.
fn findings(directory: &Path) -> Vec<crate::audit::verify::Finding> {
    let key = CheckpointVerifier::read(&key_file(directory).with_extension("pub")).unwrap();
    crate::audit::verify::verify(directory, &key, &[]).unwrap().findings
}

mod disk;

#[test]
fn entries_are_numbered_and_a_restart_continues_them() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder.path().join("audit"));
    let trail = open(&settings).unwrap();
    trail.append(MEMBERS);
    assert_eq!(wait(trail.append_durable(MEMBERS)), Ok(2));
    trail.stop(Duration::from_secs(5));
    drop(trail);
    let trail = open(&settings).unwrap();
    trail.stop(Duration::from_secs(5));
    assert_eq!(
        kinds(&settings.directory),
        ["start", "operator", "operator", "stop", "start", "stop"]
    );
    for (seq, line) in lines(&settings.directory).iter().enumerate() {
        assert!(
            line.starts_with(&format!("{{\"seq\":{seq},\"gateway\":\"gw-1\",\"time\":\"")),
            "{line}"
        );
    }
    assert!(
        trail
            .newest_checkpoint()
            .is_some_and(|note| note.starts_with("durward.audit/gw-1\n6\n"))
    );
}

#[test]
fn a_second_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder.path().join("audit"));
    let first = open(&settings).unwrap();
    assert!(matches!(open(&settings), Err(TrailError::InUse(_))));
    first.stop(Duration::from_secs(5));
    drop(first);
    open(&settings).unwrap();
}

#[test]
fn what_a_crash_leaves_is_cut_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder.path().join("audit"));
    let trail = open(&settings).unwrap();
    let _ = wait(trail.append_durable(MEMBERS));
    trail.stop(Duration::from_secs(5));
    drop(trail);
    // As if the process had ended before `stop`, in the middle of the next entry. The checkpoint is older.
    let path = segment_file(&settings.directory, 0, "jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let whole = text.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(&path, format!("{whole}{{\"seq\":2,\"gatew")).unwrap();
    fs::remove_file(settings.directory.join("checkpoint")).unwrap();
    let signed = segment_file(&settings.directory, 0, "checkpoints");
    let torn: String = fs::read_to_string(&signed).unwrap().chars().take(50).collect();
    fs::write(&signed, torn).unwrap();
    let body = |seq: u64| format!("{{\"seq\":{seq},\"request_id\":\"r\",\"part\":\"body\",\"erased\":true}}\n");
    let bodies = bodies_file(&settings.directory, 1, "jsonl");
    fs::write(&bodies, format!("{}{}{{\"seq\":2", body(1), body(2))).unwrap();
    drop(open(&settings).unwrap());
    assert_eq!(kinds(&settings.directory), ["start", "operator", "gap", "gap", "start", "stop"]);
    let told = lines(&settings.directory);
    assert!(
        told[2].contains("\"reason\":\"torn_tail\"") && told[2].contains("\"after_seq\":1"),
        "{}",
        told[2]
    );
    assert_eq!(fs::read_to_string(&bodies).unwrap(), body(1));
    fs::remove_file(&bodies).unwrap();
    assert_eq!(findings(&settings.directory), []);
    assert!(told[3].contains("\"reason\":\"unclean_stop\""), "{}", told[3]);
}

#[test]
fn a_trail_that_differs_from_its_checkpoint_is_not_continued() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder.path().join("audit"));
    let trail = open(&settings).unwrap();
    let _ = wait(trail.append_durable(MEMBERS));
    trail.stop(Duration::from_secs(5));
    drop(trail);
    let path = segment_file(&settings.directory, 0, "jsonl");
    let text = fs::read_to_string(&path).unwrap();
    for changed in [
        text.replace("operator", "operatic"),
        text.lines().take(1).map(|l| format!("{l}\n")).collect(),
    ] {
        fs::write(&path, changed).unwrap();
        assert!(matches!(open(&settings), Err(TrailError::Damaged { .. })));
    }
    fs::write(&path, &text).unwrap();
    drop(open(&settings).unwrap());
    fs::write(settings.directory.join("checkpoint"), "no checkpoint\n").unwrap();
    assert!(matches!(open(&settings), Err(TrailError::Damaged { .. })));
}

#[test]
fn full_segments_are_closed_at_whole_subtrees() {
    let folder = tempfile::tempdir().unwrap();
    let settings = AuditSettings {
        segment: 20_000,
        ..settings(&folder.path().join("audit"))
    };
    let trail = open(&settings).unwrap();
    let worker = trail.worker();
    for round in 1..=16 {
        for _ in 0..255 {
            worker.push(|out| out.extend_from_slice(MEMBERS), CapturedBodies::default());
        }
        // While a segment ends, the next one takes everything.
        worker.tick();
        assert_eq!(wait(trail.append_durable(MEMBERS)), Ok(round * 256));
    }
    trail.stop(Duration::from_secs(5));
    drop(trail);
    // What was not compressed before the end is compressed at the next start.
    let trail = open(&settings).unwrap();
    // Threads of the lowest priority get hardly any time beside the other tests, which keep the process busy. So some may wait.
    let deadline = crate::base::clock::instant() + Duration::from_secs(120);
    while numbers(&settings.directory, "trail", "jsonl").unwrap().len() > 1 + MAX_FULL {
        assert!(crate::base::clock::instant() < deadline);
        std::thread::yield_now();
    }
    let closed = numbers(&settings.directory, "trail", "jsonl.gz").unwrap();
    assert!(closed.len() > 2 && closed.iter().all(|first| first % 256 == 0), "{closed:?}");
    trail.stop(Duration::from_secs(5));
    assert_eq!(findings(&settings.directory), []);
}

#[test]
fn with_refuse_nobody_is_admitted_while_the_disk_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for on_full in [OnFull::Refuse, OnFull::DropAndCount] {
        let settings = AuditSettings {
            on_full,
            ..settings(&folder.path().join(format!("{on_full:?}")))
        };
        let trail = open(&settings).unwrap();
        let worker = trail.worker();
        assert!(worker.admits());
        trail.state.failing.store(true, Ordering::Relaxed);
        assert_eq!(worker.admits(), on_full == OnFull::DropAndCount);
        trail.state.failing.store(false, Ordering::Relaxed);
        assert!(worker.admits());
        assert_eq!(trail.figures().refused, u64::from(on_full == OnFull::Refuse));
    }
}

#[test]
fn a_producer_that_is_too_far_ahead_drops_and_counts() {
    let (queue, _messages) = channel();
    let state = Arc::<State>::default();
    let mut producer = Producer::new(queue, state.clone());
    let taken = (0..MAX_UNWRITTEN + 3)
        .filter(|_| producer.push(|out| out.push(b'x'), CapturedBodies::default()))
        .count();
    assert_eq!((taken as u64, state.dropped.load(Ordering::Relaxed)), (MAX_UNWRITTEN, 3));
    assert_eq!(producer.push_durable(|out| out.push(b'x')).now_or_never(), Some(Err(NotRecorded)));
    // The writer has dealt with them.
    producer.budget.entries.store(MAX_UNWRITTEN, Ordering::Release);
    producer.budget.bytes.store(MAX_UNWRITTEN, Ordering::Release);
    assert!(producer.push(|out| out.push(b'x'), CapturedBodies::default()));
}
