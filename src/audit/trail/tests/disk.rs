//! The trail on a disk that is slow, that fails, and that forgets what it could not write; and bodies that are erased meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Condvar;

use super::*;
use crate::audit::body::{BodyHead, CapturedBody};
use crate::base::clock::instant;
use crate::decide::audit::BodyCapture;

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Succeed,
    Fail,
    /// They do not end.
    Hang,
}

/// A disk whose syncs are told what to do. One that fails loses what it was for, as the page cache of a kernel may.
struct FaultyDisk {
    syncs: Mutex<Syncs>,
    changed: Condvar,
    /// The lengths of the files, by their inodes, that are on the disk.
    lengths: Mutex<BTreeMap<u64, u64>>,
    is_full: AtomicBool,
}

impl FaultyDisk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            syncs: Mutex::new(Syncs::Succeed),
            changed: Condvar::new(),
            lengths: Mutex::default(),
            is_full: AtomicBool::new(false),
        })
    }

    fn let_syncs(&self, what: Syncs) {
        *self.syncs.lock().unwrap() = what;
        self.changed.notify_all();
    }
}

impl TrailDisk for FaultyDisk {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            // A full disk takes a part of it.
            file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Ok(());
        }
        let syncs = self.syncs.lock().unwrap();
        let syncs = self.changed.wait_while(syncs, |syncs| *syncs == Syncs::Hang).unwrap();
        let mut lengths = self.lengths.lock().unwrap();
        let on_disk = lengths.entry(meta.ino()).or_default();
        if *syncs == Syncs::Fail {
            let lost = usize::try_from(meta.len() - *on_disk).unwrap();
            file.write_all_at(&vec![0; lost], *on_disk)?;
            return Err(io::Error::other("the disk forgot it"));
        }
        *on_disk = meta.len();
        Ok(())
    }
}

fn open_on(disk: &Arc<FaultyDisk>, settings: &AuditSettings) -> Arc<Trail> {
    let gateway = GatewayId::parse("gw-1").unwrap();
    Trail::open_on(disk.clone(), settings.clone(), &gateway, Arc::new(SystemClock)).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    // Beside the other tests, a thread of the lowest priority gets hardly any time.
    let deadline = instant() + Duration::from_secs(120);
    while !holds() {
        assert!(instant() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// Waits until the trail has so many entries of the kind `operator`.
fn until_written(directory: &Path, count: usize) {
    until("entries in the file", || {
        fs::read(segment_file(directory, 0, "jsonl")).is_ok_and(|bytes| memchr::memmem::find_iter(&bytes, "\"operator\"").count() == count)
    });
}

fn settings_of(folder: &tempfile::TempDir, on_full: OnFull) -> AuditSettings {
    AuditSettings {
        on_full,
        durable: Durable::Within(Duration::from_millis(300)),
        ..settings(&folder.path().join(format!("{on_full:?}")))
    }
}

/// Ends a trail; its files must be whole. Answers their lines.
fn end(trail: Arc<Trail>) -> Vec<String> {
    let directory = trail.settings().directory.clone();
    trail.stop(Duration::from_secs(20));
    drop(trail);
    assert_eq!(findings(&directory), []);
    lines(&directory)
}

fn count(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.contains(what)).count()
}

#[test]
fn the_writer_writes_on_while_a_sync_hangs_and_receipts_wait_for_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings_of(&folder, OnFull::DropAndCount);
    let disk = FaultyDisk::new();
    let trail = open_on(&disk, &settings);
    assert!(wait(trail.append_durable(MEMBERS)).is_ok());
    disk.let_syncs(Syncs::Hang);
    let mut first = trail.append_durable(MEMBERS);
    until_written(&settings.directory, 2);
    for number in 3..=50 {
        trail.append(MEMBERS);
        until_written(&settings.directory, number);
    }
    let mut second = trail.append_durable(MEMBERS);
    until_written(&settings.directory, 51);
    assert_eq!(((&mut first).now_or_never(), (&mut second).now_or_never()), (None, None));
    assert!(!trail.state.failing.load(Ordering::Relaxed));
    disk.let_syncs(Syncs::Succeed);
    assert!(wait(first).is_ok() && wait(second).is_ok());
    assert_eq!(count(&end(trail), "\"operator\""), 51);
}

#[test]
fn what_a_failed_sync_loses_is_written_again_with_both_on_full() {
    let folder = tempfile::tempdir().unwrap();
    for on_full in [OnFull::Refuse, OnFull::DropAndCount] {
        let settings = settings_of(&folder, on_full);
        let disk = FaultyDisk::new();
        let trail = open_on(&disk, &settings);
        let worker = trail.worker();
        for _ in 0..10 {
            trail.append(MEMBERS);
        }
        disk.let_syncs(Syncs::Fail);
        assert_eq!(wait(trail.append_durable(MEMBERS)), Err(NotRecorded));
        until("the failure to be known", || trail.figures().failing);
        assert_eq!(worker.admits(), on_full == OnFull::DropAndCount);
        // Whoever was admitted before.
        worker.push(|out| out.extend_from_slice(MEMBERS), CapturedBodies::default());
        worker.tick();
        // Failures go on: what is written again is lost again.
        let before = disk.lengths.lock().unwrap().clone();
        until_written(&settings.directory, 12);
        assert_eq!(*disk.lengths.lock().unwrap(), before);
        disk.let_syncs(Syncs::Succeed);
        until("the trail to be written again", || !trail.figures().failing);
        assert!(worker.admits());
        assert!(wait(trail.append_durable(MEMBERS)).is_ok());
        assert_eq!(trail.figures().dropped, 0);
        let lines = end(trail);
        assert_eq!(count(&lines, "\"operator\""), 13, "{on_full:?}");
        assert_eq!(count(&lines, "\"kind\":\"gap\""), usize::from(on_full == OnFull::Refuse));
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_told_or_waits() {
    let folder = tempfile::tempdir().unwrap();
    for on_full in [OnFull::Refuse, OnFull::DropAndCount] {
        let settings = settings_of(&folder, on_full);
        let disk = FaultyDisk::new();
        let trail = open_on(&disk, &settings);
        let worker = trail.worker();
        assert!(wait(trail.append_durable(MEMBERS)).is_ok());
        disk.is_full.store(true, Ordering::Relaxed);
        for _ in 0..5 {
            worker.push(|out| out.extend_from_slice(MEMBERS), CapturedBodies::default());
        }
        assert_eq!(wait(worker.push_durable(|out| out.extend_from_slice(MEMBERS))), Err(NotRecorded));
        assert_eq!(worker.admits(), on_full == OnFull::DropAndCount);
        disk.is_full.store(false, Ordering::Relaxed);
        until("the trail to be written again", || !trail.figures().failing);
        let lines = end(trail);
        let gap = |reason: &str, entries: u64| count(&lines, &format!("\"reason\":\"{reason}\",\"entries\":{entries},"));
        if on_full == OnFull::Refuse {
            assert_eq!((count(&lines, "\"operator\""), gap("refused", 1)), (7, 1));
        } else {
            assert_eq!((count(&lines, "\"operator\""), gap("disk_full", 6)), (1, 1));
        }
    }
}

#[test]
fn memory_is_bounded_while_the_disk_hangs_and_each_entry_is_there_or_counted() {
    const ENTRY: usize = 50 * 1_024;
    let folder = tempfile::tempdir().unwrap();
    let settings = settings_of(&folder, OnFull::DropAndCount);
    let disk = FaultyDisk::new();
    let trail = open_on(&disk, &settings);
    let worker = trail.worker();
    disk.let_syncs(Syncs::Hang);
    let most = MAX_UNWRITTEN_BYTES + 64 * 1_024 * 1_024 + 8 * 1_024 * 1_024;
    let pushed = most / ENTRY as u64 + 300;
    for _ in 0..pushed {
        // The writer is given the time to write what it may.
        until("room, or the writer to wait for the disk", || {
            let producer = worker.producer.borrow();
            producer.has_room() || trail.figures().bytes >= 64 * 1_024 * 1_024
        });
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(MEMBERS);
            out.extend_from_slice(b",\"who\":\"");
            out.resize(out.len() + ENTRY, b'x');
            out.push(b'"');
        };
        worker.push(write, CapturedBodies::default());
    }
    let dropped = trail.figures().dropped;
    assert!(dropped > 0, "nothing was dropped");
    assert!(trail.figures().bytes <= 64 * 1_024 * 1_024 + 5 * 1_024 * 1_024);
    disk.let_syncs(Syncs::Succeed);
    worker.tick();
    until("the rest to be written", || trail.figures().entries >= 1 + pushed - dropped);
    let directory = settings.directory.clone();
    trail.stop(Duration::from_secs(20));
    drop((worker, trail));
    assert_eq!(findings(&directory), []);
    let open = open(&settings).unwrap();
    open.stop(Duration::from_secs(20));
    let mut recorded = 0;
    let mut told = 0;
    for segment in crate::audit::segments::Segments::open(&directory).unwrap().list() {
        for line in segment.lines().unwrap() {
            let line: serde_json::Value = serde_json::from_slice(&line.unwrap().bytes).unwrap();
            recorded += u64::from(line["kind"] == "operator");
            told += line["entries"].as_u64().unwrap_or(0);
        }
    }
    assert_eq!((recorded + told, told), (pushed, dropped));
}

/// Copies the trail as a kill of the process leaves it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    for ending in ["key", "pub"] {
        fs::copy(key_file(from).with_extension(ending), key_file(to).with_extension(ending)).unwrap();
    }
}

#[test]
fn a_kill_while_a_segment_ends_loses_nothing_of_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let settings = AuditSettings {
        segment: 10_000,
        ..settings_of(&folder, OnFull::DropAndCount)
    };
    let disk = FaultyDisk::new();
    let trail = open_on(&disk, &settings);
    assert!(wait(trail.append_durable(MEMBERS)).is_ok());
    disk.let_syncs(Syncs::Hang);
    for _ in 0..300 {
        trail.append(MEMBERS);
    }
    let next = segment_file(&settings.directory, 256, "jsonl.new");
    until("the entries of the next segment", || {
        fs::read_to_string(&next).is_ok_and(|text| text.lines().count() == 46)
    });
    let killed = AuditSettings {
        directory: folder.path().join("killed"),
        ..settings.clone()
    };
    copy(&settings.directory, &killed.directory);
    // Readers find what has begun, and nothing wrong.
    assert_eq!(findings(&killed.directory), []);
    // A kill between the two files of the checkpoint of the end.
    let signed = AuditSettings {
        directory: folder.path().join("signed"),
        ..settings.clone()
    };
    copy(&settings.directory, &signed.directory);
    let crashed = AuditSettings {
        directory: folder.path().join("crashed"),
        ..settings.clone()
    };
    copy(&settings.directory, &crashed.directory);
    let again = open(&killed).unwrap();
    again.stop(Duration::from_secs(20));
    drop(again);
    assert_eq!(findings(&killed.directory), []);
    let told = lines(&killed.directory);
    // The first segment may be compressed already, and is not read here then.
    assert!([305, 305 - 256].contains(&told.len()), "{}", told.len());
    assert_eq!((count(&told, "unclean_stop"), count(&told, "torn_tail")), (1, 0));
    // A crash of the machine may take the end of the segment before: then the next one is no part of the trail.
    let path = segment_file(&crashed.directory, 0, "jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let cut: String = text.lines().take(200).map(|line| format!("{line}\n")).collect();
    fs::write(&path, cut).unwrap();
    let again = open(&crashed).unwrap();
    again.stop(Duration::from_secs(20));
    drop(again);
    assert_eq!(findings(&crashed.directory), []);
    assert!(crashed.directory.join(format!("cut-{:020}", 256)).exists());
    assert_eq!(count(&lines(&crashed.directory), "unclean_stop"), 1);
    disk.let_syncs(Syncs::Succeed);
    drop(trail);
    assert_eq!(findings(&settings.directory), []);
    let beside = segment_file(&settings.directory, 0, "checkpoints");
    fs::copy(beside, segment_file(&signed.directory, 0, "checkpoints")).unwrap();
    let again = open(&signed).unwrap();
    again.stop(Duration::from_secs(20));
    drop(again);
    assert_eq!(findings(&signed.directory), []);
}

#[test]
fn a_segment_whose_end_cannot_be_signed_ends_as_soon_as_it_can() {
    let folder = tempfile::tempdir().unwrap();
    for on_full in [OnFull::Refuse, OnFull::DropAndCount] {
        let settings = AuditSettings {
            segment: 10_000,
            ..settings_of(&folder, on_full)
        };
        let trail = open(&settings).unwrap();
        assert!(wait(trail.append_durable(MEMBERS)).is_ok());
        // No file can take this name.
        let newest = settings.directory.join("checkpoint.new");
        fs::create_dir(&newest).unwrap();
        for _ in 0..300 {
            trail.append(MEMBERS);
        }
        until("the failure to be known", || trail.figures().failing);
        assert_eq!(trail.worker().admits(), on_full == OnFull::DropAndCount);
        assert_eq!(wait(trail.append_durable(MEMBERS)), Err(NotRecorded));
        fs::remove_dir(&newest).unwrap();
        until("the trail to be written again", || !trail.figures().failing);
        assert!(wait(trail.append_durable(MEMBERS)).is_ok());
        trail.stop(Duration::from_secs(20));
        drop(trail);
        assert_eq!(findings(&settings.directory), []);
    }
}

fn body(request_id: &str, text: &str) -> CapturedBodies {
    let capture = Arc::new(BodyCapture {
        max: 1 << 20,
        types: vec!["text/plain".into()],
        mask: Vec::new(),
    });
    let head = BodyHead {
        content_type: b"text/plain",
        ..BodyHead::default()
    };
    let mut body = CapturedBody::begin(head, capture, Arc::default());
    body.push(text.as_bytes());
    body.end();
    CapturedBodies {
        request_id: request_id.to_owned(),
        body: Some(Box::new(body)),
        answer: None,
    }
}

/// All that stands in the files of bodies.
fn stored(directory: &Path) -> String {
    let mut all = String::new();
    for segment in crate::audit::segments::Segments::bodies(directory).unwrap().list() {
        for line in segment.lines().unwrap() {
            all.push_str(&String::from_utf8(line.unwrap().bytes).unwrap());
            all.push('\n');
        }
    }
    all
}

#[test]
fn bodies_are_compressed_and_erased_in_every_form_while_others_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let settings = AuditSettings {
        segment: 40_000,
        ..settings(&folder.path().join("audit"))
    };
    let trail = open(&settings).unwrap();
    let worker = trail.worker();
    let push = |number: usize| {
        let id = format!("req-{number}");
        let members = format!(",\"time\":\"2026-11-29T07:00:00.000Z\",\"kind\":\"request\",\"request_id\":\"{id}\"");
        worker.push(
            |out| out.extend_from_slice(members.as_bytes()),
            body(&id, &format!("canary-{number}-{}", "x".repeat(200))),
        );
    };
    let directory = &settings.directory;
    let mut number = 0;
    until("a compressed segment of bodies", || {
        push(number);
        worker.tick();
        number += 1;
        assert!(wait(trail.append_durable(MEMBERS)).is_ok());
        !numbers(directory, "bodies", "jsonl.gz").unwrap().is_empty()
    });
    let closed = numbers(directory, "bodies", "jsonl.gz").unwrap()[0];
    let zipped = bodies_file(directory, closed, "jsonl.gz");
    let written = fs::metadata(&zipped).unwrap().modified().unwrap();
    let newest = number - 1;
    for erased in [0, newest] {
        assert!(stored(directory).contains(&format!("canary-{erased}-")), "{erased}");
        std::thread::scope(|scope| {
            let erasing = scope.spawn(|| trail.erase(&format!("req-{erased}"), b",\"who\":{\"via\":\"cli\"}"));
            while !erasing.is_finished() {
                push(number);
                worker.tick();
                number += 1;
                assert!(wait(trail.append_durable(MEMBERS)).is_ok());
            }
            assert_eq!(erasing.join().unwrap().unwrap(), 1);
        });
        assert!(!stored(directory).contains(&format!("canary-{erased}-")), "{erased}");
        assert!(matches!(trail.erase(&format!("req-{erased}"), b""), Ok(0)));
    }
    // It keeps its form, and its age: it goes when it would have gone.
    assert_eq!(fs::metadata(&zipped).unwrap().modified().unwrap(), written);
    // The other tests of this process keep it busy, so that some may wait.
    until("most full segments to be compressed", || {
        numbers(directory, "bodies", "jsonl").unwrap().len() <= 1 + MAX_FULL
    });
    let bodies = stored(directory);
    for kept in (1..number).filter(|number| *number != newest) {
        assert!(bodies.contains(&format!("canary-{kept}-")), "{kept} of {number}");
    }
    drop(worker);
    let directory = settings.directory.clone();
    trail.stop(Duration::from_secs(20));
    drop(trail);
    let verified = || {
        let key = CheckpointVerifier::read(&key_file(&directory).with_extension("pub")).unwrap();
        crate::audit::verify::verify(&directory, &key, &[]).unwrap()
    };
    let verdict = verified();
    assert_eq!(verdict.findings, []);
    assert_eq!((verdict.bodies.erased, verdict.bodies.whole), (2, number as u64 - 2));
    // What is changed in a compressed segment is found.
    let index = bodies_file(&directory, closed, "index");
    for path in [&zipped, &index] {
        let whole = fs::read(path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        fs::write(path, changed).unwrap();
        assert_ne!(verified().findings, [], "{path:?}");
        fs::write(path, whole).unwrap();
    }
    fs::remove_file(&index).unwrap();
    assert_ne!(verified().findings, []);
}

#[test]
fn a_stop_waits_for_no_program_longer_than_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let settings = AuditSettings {
        checkpoint_command: Some(vec!["sleep".into(), "9".into()]),
        ..settings(&folder.path().join("audit"))
    };
    let trail = open(&settings).unwrap();
    let begin = instant();
    trail.stop(Duration::from_secs(2));
    assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
    assert!(trail.thread.lock().unwrap().is_none(), "the writer has not ended");
    assert_eq!(kinds(&settings.directory), ["start", "stop"]);
    assert_eq!(findings(&settings.directory), []);
}
