//! Whatever is done to the files of a trail is found and named, and nothing is found in a trail that nobody touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use durward::audit::checkpoint::{CheckpointSigner, CheckpointVerifier, notes, public_key_of};
use durward::audit::closed::close;
use durward::audit::settings::{AuditSettings, Durable, OnFull};
use durward::audit::tree::{Frontier, leaf_hash};
use durward::audit::verify::{Fault, TrailWitness, Verdict, verify};
use durward::base::clock::{SystemClock, UnixMillis};
use durward::base::ids::GatewayId;

use crate::support::wait::{PATIENCE, until};

/// Entries of a segment of the trail of this test.
const SEGMENT: u64 = 512;

/// Random tamperings; the issue demands as many.
const TAMPERINGS: usize = 500;

/// A trail as the writer leaves it after an orderly stop, or after a crash.
pub(super) struct Trail {
    pub(super) folder: tempfile::TempDir,
    pub(super) signer: CheckpointSigner,
    pub(super) directory: PathBuf,
    tree: Frontier,
    segment: u64,
    bodies: u64,
    /// All checkpoints, in order.
    pub(super) signed: Vec<String>,
    /// The lines of segments that were closed, under the name of the plain file.
    closed: BTreeMap<String, Vec<u8>>,
}

/// The compressed file and the index that a closed segment with these lines has, by their names.
fn closed_files(name: &str, lines: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), lines).unwrap();
    close(&folder.path().join(name)).unwrap();
    read_all(folder.path())
}

pub(super) fn read_all(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        // A segment may be closed meanwhile.
        if let Ok(bytes) = fs::read(entry.path()) {
            files.insert(entry.file_name().into_string().unwrap(), bytes);
        }
    }
    files
}

fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn sha256_hex(parts: &[&[u8]]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts.concat());
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

impl Trail {
    pub(super) fn begin() -> Self {
        Self::begin_of("edge-1")
    }

    fn begin_of(gateway: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("audit");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("lock"), "").unwrap();
        Self {
            signer: CheckpointSigner::open_or_create(&folder.path().join("audit.key"), &format!("durward.audit/{gateway}")).unwrap(),
            folder,
            directory,
            tree: Frontier::new(),
            segment: 0,
            bodies: 0,
            signed: Vec::new(),
            closed: BTreeMap::new(),
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("trail-{:020}.{ending}", self.segment))
    }

    fn add(&mut self, members: &str) {
        let seq = self.tree.size();
        let line = format!(
            "{{\"seq\":{seq},\"gateway\":\"edge-1\",\"time\":\"2026-11-29T07:00:00.{:03}Z\"{members}}}",
            seq % 1_000
        );
        append(&self.file("jsonl"), format!("{line}\n").as_bytes());
        let leaf = leaf_hash(line.as_bytes());
        append(&self.file("leaves"), &leaf);
        if let Some(node) = self.tree.push(leaf) {
            append(&self.directory.join("nodes"), &node);
        }
    }

    fn checkpoint(&mut self) {
        let note = self.signer.sign(self.tree.size(), &self.tree.root(), UnixMillis(1_795_939_201_000));
        append(&self.file("checkpoints"), format!("{note}\n").as_bytes());
        fs::write(self.directory.join("checkpoint"), &note).unwrap();
        self.signed.push(note);
    }

    fn add_request(&mut self) {
        let seq = self.tree.size();
        let mut members =
            format!(",\"kind\":\"request\",\"request_id\":\"req-{seq}\",\"method\":\"GET\",\"path\":\"/v1/orders/{seq}\",\"status\":200");
        if seq % 7 == 3 {
            let masked = format!("{{\\\"order\\\":{seq},\\\"name\\\":\\\"caf\\u00e9\\\"}}");
            let text = format!("{{\"order\":{seq},\"name\":\"caf\u{e9}\"}}");
            let salt = [u8::try_from(seq % 251).unwrap(); 16];
            let hash = sha256_hex(&[&salt, text.as_bytes()]);
            write!(
                members,
                ",\"body\":{{\"type\":\"application/json\",\"size\":{},\"sha256\":\"{hash}\",\"stored\":true}}",
                text.len()
            )
            .unwrap();
            let salt: String = salt.iter().map(|b| format!("{b:02x}")).collect();
            let line = format!(
                "{{\"seq\":{seq},\"request_id\":\"req-{seq}\",\"part\":\"body\",\"type\":\"application/json\",\"salt\":\"{salt}\",\"size\":{},\"masked\":\"{masked}\"}}\n",
                text.len()
            );
            if seq >= self.bodies + 600 || self.bodies == 0 {
                self.bodies = seq;
            }
            append(&self.directory.join(format!("bodies-{:020}.jsonl", self.bodies)), line.as_bytes());
        }
        self.add(&members);
    }

    /// Adds this many requests, with checkpoints and new segments where they belong.
    pub(super) fn add_requests(&mut self, count: usize) {
        for _ in 0..count {
            self.add_request();
            let size = self.tree.size();
            if size.is_multiple_of(SEGMENT) {
                self.checkpoint();
                self.segment = size;
            } else if size.is_multiple_of(97) {
                self.checkpoint();
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.add(",\"kind\":\"stop\"");
        self.checkpoint();
    }

    /// Two closed segments of 512 entries, one that waits to be closed, and one that is open, with a stop at its end.
    pub(super) fn whole() -> Self {
        let mut trail = Self::begin();
        trail.add(",\"kind\":\"start\"");
        trail.add_requests(1_800);
        trail.stop();
        for first in [0, SEGMENT] {
            let name = format!("trail-{first:020}.jsonl");
            let path = trail.directory.join(&name);
            trail.closed.insert(name, fs::read(&path).unwrap());
            close(&path).unwrap();
        }
        trail
    }

    /// The lines of a segment, closed or not.
    fn lines_of(&self, first: u64) -> Vec<Vec<u8>> {
        let name = format!("trail-{first:020}.jsonl");
        let bytes = self.closed.get(&name).cloned();
        lines(&bytes.unwrap_or_else(|| fs::read(self.directory.join(&name)).unwrap()))
    }

    pub(super) fn verify(&self) -> Verdict {
        self.verify_with(&[])
    }

    pub(super) fn verify_with(&self, witnesses: &[TrailWitness]) -> Verdict {
        verify(&self.directory, self.signer.verifier(), witnesses).unwrap()
    }

    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = read_all(&self.directory);
        files.remove("lock");
        files
    }

    pub(super) fn write_files(&self, files: &BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(&self.directory).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, bytes) in files {
            fs::write(self.directory.join(name), bytes).unwrap();
        }
    }
}

pub(super) fn assert_whole(verdict: &Verdict) {
    assert_eq!(verdict.findings, [], "{verdict:?}");
    assert!(verdict.is_whole());
}

#[test]
fn an_untouched_trail_is_whole() {
    let trail = Trail::whole();
    let verdict = trail.verify();
    assert_whole(&verdict);
    assert_eq!((verdict.first, verdict.size, verdict.proven), (0, 1_802, 1_802));
    assert_eq!(verdict.checkpoints, trail.signed.len() as u64 + 1, "all of them and `checkpoint`");
    assert_eq!((verdict.bodies.whole, verdict.bodies.erased), (257, 0));
    assert_eq!(verdict.notes, [] as [&str; 0]);
    // Each state of a growing trail is whole.
    let mut trail = Trail::begin();
    for _ in 0..60 {
        trail.add_requests(23);
        assert_whole(&trail.verify());
    }
}

/// The numbers of `SplitMix64`: the same on every run.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % bound as u64).unwrap()
    }
}

/// One tampering: what was done, the file, and the first entry that it touches.
struct Tampering {
    what: String,
    file: String,
    /// The seq of the first entry touched, where the tampering is of lines.
    seq: Option<u64>,
}

pub(super) fn first_of(name: &str) -> u64 {
    name.split(['-', '.']).find_map(|part| part.parse().ok()).unwrap_or(0)
}

pub(super) fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

/// Changes the files at random; `None` when the change would be none.
fn tamper(files: &mut BTreeMap<String, Vec<u8>>, trail: &Trail, chance: &mut Chance) -> Option<Tampering> {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = names[chance.below(names.len())].clone();
    let ends = |ending: &str| -> Vec<String> { names.iter().filter(|n| n.ends_with(ending)).cloned().collect() };
    let before = files.clone();
    let mut seq = None;
    let mut file = name.clone();
    let what = match chance.below(9) {
        0 | 1 => {
            let bytes = files.get_mut(&name)?;
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
            format!("byte {at} of {name} flipped")
        }
        2..=5 => {
            let mut of_lines = ends(".jsonl");
            of_lines.extend(trail.closed.keys().cloned());
            file.clone_from(&of_lines[chance.below(of_lines.len())]);
            let mut all = lines(trail.closed.get(&file).unwrap_or_else(|| &files[&file]));
            let (one, other) = (chance.below(all.len()), chance.below(all.len()));
            let (low, high) = (one.min(other), one.max(other));
            seq = file.starts_with("trail").then(|| first_of(&file) + low as u64);
            let what = match chance.below(4) {
                0 => {
                    all.remove(low);
                    "removed"
                }
                1 => {
                    all.swap(low, high);
                    "swapped"
                }
                2 => {
                    // Played again at a later place.
                    let copy = all[low].clone();
                    all.insert(high + 1, copy);
                    seq = seq.map(|seq| seq + (high + 1 - low) as u64);
                    "replayed"
                }
                _ => {
                    let line = String::from_utf8(all[low].clone()).unwrap();
                    all[low] = line.replace("200", "403").replace("order", "other").into_bytes();
                    "changed"
                }
            };
            let done = format!("line {low} of {file} {what} ({high})");
            if trail.closed.contains_key(&file) {
                // Whoever can do this can compress it, and make an index that goes with it.
                files.extend(closed_files(&file, &all.concat()));
                file.push_str(".gz");
            } else {
                files.insert(file.clone(), all.concat());
            }
            done
        }
        6 => {
            let bytes = files.get_mut(&name)?;
            let at = chance.below(bytes.len());
            bytes.truncate(at);
            format!("{name} truncated to {at}")
        }
        7 => {
            if chance.below(2) == 0 {
                files.remove(&name);
                format!("{name} removed")
            } else {
                let endings = [".jsonl", ".jsonl.gz", ".index", ".leaves", ".checkpoints"];
                let alike = ends(endings[chance.below(endings.len())]);
                let (one, other) = (&alike[chance.below(alike.len())], &alike[chance.below(alike.len())]);
                let (a, b) = (files[one].clone(), files[other].clone());
                files.insert(one.clone(), b);
                files.insert(other.clone(), a);
                file.clone_from(if first_of(one) < first_of(other) { one } else { other });
                format!("{one} and {other} swapped")
            }
        }
        _ => {
            let old = chance.below(trail.signed.len() - 1);
            "checkpoint".clone_into(&mut file);
            files.insert(file.clone(), trail.signed[old].clone().into_bytes());
            format!("checkpoint {old} instead of the newest")
        }
    };
    (*files != before).then_some(Tampering { what, file, seq })
}

#[test]
fn five_hundred_tamperings_are_found_and_named() {
    let trail = Trail::whole();
    let untouched = trail.files();
    let mut chance = Chance(18);
    let mut done = 0;
    while done < TAMPERINGS {
        let mut files = untouched.clone();
        let Some(tampering) = tamper(&mut files, &trail, &mut chance) else {
            continue;
        };
        done += 1;
        trail.write_files(&files);
        let verdict = trail.verify();
        let Tampering { what, file, seq } = &tampering;
        let first = verdict.findings.first().unwrap_or_else(|| panic!("not found: {what}"));
        if let Some(seq) = seq {
            assert_eq!((first.seq, &first.file), (*seq, file), "{what}: {:?}", verdict.findings);
        } else {
            // The file itself is named, or entries of its segment.
            let (from, to) = (first_of(file), first_of(file) + 700);
            let named = verdict
                .findings
                .iter()
                .any(|finding| finding.file == *file || (from..=to).contains(&finding.seq));
            assert!(named, "{what}: {:?}", verdict.findings);
        }
    }
    trail.write_files(&untouched);
    assert_whole(&trail.verify());
}

#[test]
fn what_a_crash_leaves_is_no_tampering() {
    let mut trail = Trail::begin();
    trail.add_requests(700);
    let signed = 679;
    assert!(trail.signed.last().unwrap().contains(&format!("\n{signed}\n")));
    let untouched = trail.files();
    // Whatever reached the disk of the lines behind the newest checkpoint, in whichever order.
    let lines_name = "trail-00000000000000000512.jsonl";
    let all = lines(&untouched[lines_name]);
    let signed_bytes: usize = all[..signed - 512].iter().map(Vec::len).sum();
    let leaves_name = "trail-00000000000000000512.leaves";
    for cut in (signed_bytes..=untouched[lines_name].len()).step_by(37) {
        let mut files = untouched.clone();
        files.get_mut(lines_name).unwrap().truncate(cut);
        for leaves in [signed - 512, 700 - 512] {
            files.get_mut(leaves_name).unwrap().truncate(leaves * 32 + cut % 32);
            trail.write_files(&files);
            let verdict = trail.verify();
            assert_whole(&verdict);
            assert!(verdict.size >= signed as u64 && verdict.proven == signed as u64);
            files.insert(leaves_name.into(), untouched[leaves_name].clone());
        }
    }
    // One byte of what was signed is tampering.
    let mut files = untouched.clone();
    files.get_mut(lines_name).unwrap().truncate(signed_bytes - 1);
    trail.write_files(&files);
    let verdict = trail.verify();
    assert_eq!(verdict.findings.first().map(|finding| finding.seq), Some(signed as u64 - 1));
}

#[test]
fn retention_needs_an_entry_that_tells_it() {
    let mut trail = Trail::begin();
    trail.add_requests(1_200);
    trail.add(",\"kind\":\"retention\",\"files\":\"trail\",\"before_seq\":512");
    trail.add(",\"kind\":\"retention\",\"files\":\"bodies\",\"before_seq\":512");
    trail.stop();
    let remove = |first: u64| {
        for ending in ["jsonl", "leaves", "checkpoints"] {
            fs::remove_file(trail.directory.join(format!("trail-{first:020}.{ending}"))).unwrap();
        }
    };
    remove(0);
    let verdict = trail.verify();
    assert_whole(&verdict);
    assert_eq!((verdict.first, verdict.size), (512, 1_203));
    remove(512);
    let verdict = trail.verify();
    let first = &verdict.findings[0];
    assert_eq!((first.seq, &first.fault), (512, &Fault::Missing { from: 512, to: 1_023 }));
}

#[test]
fn an_erased_body_is_told_and_needs_an_entry() {
    let mut trail = Trail::begin();
    trail.add_requests(20);
    let untouched = trail.files();
    let name = "bodies-00000000000000000003.jsonl";
    let erase = |files: &mut BTreeMap<String, Vec<u8>>| {
        let mut all = lines(&files[name]);
        all[1] = b"{\"seq\":10,\"request_id\":\"req-10\",\"part\":\"body\",\"erased\":true}\n".to_vec();
        files.insert(name.into(), all.concat());
    };
    let mut files = untouched;
    erase(&mut files);
    trail.write_files(&files);
    let verdict = trail.verify();
    assert_eq!(verdict.findings.len(), 1);
    assert_eq!((verdict.findings[0].seq, &verdict.findings[0].fault), (10, &Fault::BodyErased));
    trail.add(",\"kind\":\"erase\",\"request_id\":\"req-10\",\"erased\":[10],\"who\":{\"via\":\"cli\"}");
    let verdict = trail.verify();
    assert_whole(&verdict);
    assert_eq!((verdict.bodies.whole, verdict.bodies.erased), (2, 1));
}

#[test]
fn whoever_has_the_key_is_found_by_a_witness_and_by_nothing_else() {
    let mut trail = Trail::begin();
    trail.add_requests(300);
    let witness = TrailWitness {
        source: "others/edge-1 of edge-2".into(),
        note: trail.signed.last().unwrap().clone(),
    };
    let size: u64 = notes(&format!("{}\n", witness.note)).0[0].lines().nth(1).unwrap().parse().unwrap();
    let whole = trail.verify_with(std::slice::from_ref(&witness));
    assert_whole(&whole);
    assert_eq!((whole.witnesses, whole.witnessed), (1, size));

    // The owner of the key writes another trail, and signs all of it.
    let mut forged = Trail::begin();
    forged.signer = CheckpointSigner::open_or_create(&trail.folder.path().join("audit.key"), "durward.audit/edge-1").unwrap();
    forged.add(",\"kind\":\"request\",\"request_id\":\"never\"");
    forged.add_requests(400);
    assert_whole(&forged.verify());
    let verdict = forged.verify_with(std::slice::from_ref(&witness));
    assert_eq!(verdict.findings[0].fault.code(), "not_as_signed");
    assert!(verdict.findings[0].fault.to_string().contains("others/edge-1 of edge-2"));

    // A trail that begins anew is shorter than what the witness has.
    let mut short = Trail::begin();
    short.signer = CheckpointSigner::open_or_create(&trail.folder.path().join("audit.key"), "durward.audit/edge-1").unwrap();
    short.add_requests(100);
    assert_whole(&short.verify());
    let verdict = short.verify_with(std::slice::from_ref(&witness));
    assert_eq!(verdict.findings[0].fault, Fault::Missing { from: 100, to: size - 1 });

    // Another key is no witness of this trail, and its signature does not hold.
    let other = Trail::begin();
    let forged_witness = TrailWitness {
        source: "a file".into(),
        note: other.signer.sign(10, &[7; 32], UnixMillis(0)),
    };
    let verdict = trail.verify_with(std::slice::from_ref(&forged_witness));
    assert_eq!(verdict.findings[0].fault.code(), "wrong_checkpoint");
}

#[test]
fn foreign_files_are_told_and_broken_ones_found() {
    let trail = Trail::whole();
    fs::write(trail.directory.join("trail-0.jsonl.bak"), "x").unwrap();
    fs::write(trail.directory.join("core"), "x").unwrap();
    let verdict = trail.verify();
    assert_whole(&verdict);
    assert_eq!(
        verdict.notes,
        ["`core` is no file of a trail", "`trail-0.jsonl.bak` is no file of a trail"]
    );
    // A segment of a newer durward, of noise, and none at all.
    let name = trail.directory.join("trail-00000000000000001024.jsonl");
    for bytes in [b"{\"version\":2}\n".to_vec(), vec![0; 200_000], vec![b'x'; 70_000], Vec::new()] {
        fs::write(&name, bytes).unwrap();
        let verdict = trail.verify();
        assert_eq!(verdict.findings[0].seq, 1_024, "{:?}", verdict.findings);
        assert_eq!(verdict.findings[0].file, "trail-00000000000000001024.jsonl");
    }
    // Beside a closed segment, a plain one with other lines, which readers would prefer.
    let trail = Trail::whole();
    let mut all = trail.lines_of(0);
    fs::write(trail.directory.join("trail-00000000000000000000.jsonl"), all.concat()).unwrap();
    assert_whole(&trail.verify());
    all.pop();
    fs::write(trail.directory.join("trail-00000000000000000000.jsonl"), all.concat()).unwrap();
    assert!(!trail.verify().is_whole());
}

/// The settings of a trail with small segments.
fn settings(directory: &Path) -> AuditSettings {
    AuditSettings {
        directory: directory.to_owned(),
        on_full: OnFull::DropAndCount,
        durable: Durable::Within(Duration::from_secs(1)),
        segment: 60_000,
        keep: Duration::from_secs(3_600),
        keep_bodies: Duration::from_secs(3_600),
        max_size: None,
        checkpoint: Duration::from_millis(20),
        checkpoint_file: None,
        checkpoint_command: None,
        stdout: false,
    }
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    until(what, PATIENCE, || ready().then_some(()));
}

fn verify_of_writer(directory: &Path) -> Verdict {
    let key = CheckpointVerifier::read(&public_key_of(directory)).unwrap();
    verify(directory, &key, &[]).unwrap()
}

fn append_requests(trail: &durward::audit::trail::Trail, count: usize) {
    for number in 0..count {
        let path = "x".repeat(number % 300);
        let members =
            format!(",\"time\":\"2026-11-29T07:00:00.000Z\",\"kind\":\"request\",\"request_id\":\"req-{number}\",\"path\":\"/{path}\"");
        trail.append(members.as_bytes());
    }
}

/// Closed segments of a directory, and plain ones.
fn forms(directory: &Path) -> [usize; 2] {
    let names = read_all(directory);
    [".jsonl.gz", ".jsonl"].map(|ending| {
        names
            .keys()
            .filter(|name| name.starts_with("trail-") && name.ends_with(ending))
            .count()
    })
}

#[test]
fn what_the_writer_leaves_is_whole_stopped_killed_continued_closed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("audit");
    let gateway = GatewayId::parse("edge-1").unwrap();
    let open = |settings: AuditSettings| durward::audit::trail::Trail::open(settings, &gateway, Arc::new(SystemClock)).unwrap();
    let trail = open(settings(&directory));
    let mut appended = 0;
    // Segments end between batches, so entries must come slowly enough for several batches.
    while appended < 2_500 || forms(&directory).iter().sum::<usize>() < 5 {
        assert!(appended < 200_000, "{:?}", forms(&directory));
        append_requests(&trail, 250);
        appended += 250;
        wait_for("them to be written", || trail.figures().entries >= appended);
        // While it is written.
        assert_whole(&verify_of_writer(&directory));
    }
    wait_for("all entries", || trail.figures().entries > appended);
    // What a kill leaves: the files as they are now.
    let copy = folder.path().join("killed");
    fs::create_dir(&copy).unwrap();
    // A copy takes time, in which the writer may still sign and the archivist may still close; a kill takes none.
    let mut files = read_all(&directory);
    wait_for("the files to stay as they are", || {
        let before = std::mem::replace(&mut files, read_all(&directory));
        before == files
    });
    for (name, bytes) in files.into_iter().filter(|(name, _)| name != "others") {
        fs::write(copy.join(name), bytes).unwrap();
    }
    for ending in ["key", "pub"] {
        let (from, to) = (directory.with_extension(ending), copy.with_extension(ending));
        fs::copy(from, to).unwrap();
    }
    assert_whole(&verify_of_writer(&copy));
    let continued = open(settings(&copy));
    append_requests(&continued, 300);
    continued.stop(Duration::from_secs(10));
    let verdict = verify_of_writer(&copy);
    assert_whole(&verdict);
    assert!(verdict.gaps > 0, "the kill is told");

    trail.stop(Duration::from_secs(10));
    let verdict = verify_of_writer(&directory);
    assert_whole(&verdict);
    assert_eq!(verdict.proven, verdict.size, "an orderly stop is signed to its end");
    // The next process closes what the last one left.
    let again = open(settings(&directory));
    wait_for("the segments to be closed", || {
        forms(&directory)[1] == 1 && forms(&directory)[0] >= 3
    });
    again.stop(Duration::from_secs(10));
    assert_whole(&verify_of_writer(&directory));
    // A byte of any of its files.
    let files = read_all(&directory);
    let mut chance = Chance(3);
    for _ in 0..40 {
        let names: Vec<&String> = files.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(name, _)| name).collect();
        let name = names[chance.below(names.len())];
        let mut changed = files[name].clone();
        let at = chance.below(changed.len());
        changed[at] ^= 1 << chance.below(8);
        fs::write(directory.join(name), &changed).unwrap();
        assert!(!verify_of_writer(&directory).is_whole(), "byte {at} of {name}");
        fs::write(directory.join(name), &files[name]).unwrap();
    }
    // Segments that are no longer kept.
    let forgetting = open(AuditSettings {
        keep: Duration::ZERO,
        ..settings(&directory)
    });
    wait_for("old segments to be removed", || forms(&directory)[0] == 0);
    forgetting.stop(Duration::from_secs(10));
    let verdict = verify_of_writer(&directory);
    assert_whole(&verdict);
    assert!(verdict.first > 0, "{verdict:?}");
}

fn durward(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_durward")).args(arguments).output().unwrap()
}

/// The one-page checker of the documentation, as whoever has no durward runs it.
fn check(proof: &Path, key: &Path) -> Output {
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit/verify_proof.py");
    let run = Command::new("python3").arg(checker).arg(proof).arg(key).output();
    run.expect("this test runs python3")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_checker_without_durward_accepts_what_prove_writes_and_nothing_else() {
    let trail = Trail::whole();
    let directory = trail.directory.to_str().unwrap();
    let proof_file = trail.folder.path().join("proof");
    let key = trail.folder.path().join("audit.pub");
    for seq in [1_u64, 255, 256, 511, 512, 1_000, 1_535, 1_536, 1_791, 1_792, 1_800] {
        let proven = durward(&["audit", "prove", &format!("req-{seq}"), "--directory", directory]);
        assert!(proven.status.success(), "{}", text(&proven.stderr));
        fs::write(&proof_file, &proven.stdout).unwrap();
        let checked = check(&proof_file, &key);
        assert!(checked.status.success(), "{seq}: {}", text(&checked.stderr));
        let all = trail.lines_of(seq / SEGMENT * SEGMENT);
        assert_eq!(checked.stdout, all[usize::try_from(seq % SEGMENT).unwrap()]);
    }
    // No byte of a proof can be another one, but for those that end a line of base64.
    let proof = fs::read(&proof_file).unwrap();
    let mut chance = Chance(7);
    for _ in 0..60 {
        let mut changed = proof.clone();
        let at = chance.below(changed.len());
        changed[at] ^= 1;
        fs::write(&proof_file, &changed).unwrap();
        let checked = check(&proof_file, &key);
        assert_eq!(checked.status.code(), Some(1), "byte {at}: {}", text(&checked.stdout));
        assert!(
            text(&checked.stderr).starts_with("NOT PROVEN: "),
            "byte {at}: {}",
            text(&checked.stderr)
        );
    }
    // Neither does another key accept it.
    fs::write(&proof_file, &proof).unwrap();
    let other = Trail::begin();
    let checked = check(&proof_file, &other.folder.path().join("audit.pub"));
    assert_eq!(checked.status.code(), Some(1));

    let unknown = durward(&["audit", "prove", "req-9999", "--directory", directory]);
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown.stderr));
    // An entry that was changed is not proven.
    let name = trail.directory.join("trail-00000000000000001536.jsonl");
    let changed = fs::read_to_string(&name)
        .unwrap()
        .replace("\"path\":\"/v1/orders/1600\"", "\"path\":\"/v1/orders/1601\"");
    fs::write(&name, changed).unwrap();
    let broken = durward(&["audit", "prove", "req-1600", "--directory", directory]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(
        text(&broken.stderr).contains("entry 1600 is not the one that was signed"),
        "{}",
        text(&broken.stderr)
    );
}

#[test]
fn verify_answers_by_its_exit_code_and_names_the_first_bad_entry() {
    let trail = Trail::whole();
    let directory = trail.directory.to_str().unwrap();
    let whole = durward(&["audit", "verify", "--directory", directory]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
    assert!(text(&whole.stdout).contains("no witness"), "{}", text(&whole.stdout));

    // Another gateway keeps a checkpoint of this one, and so does a file.
    let other = Trail::begin_of("edge-2");
    fs::create_dir(other.directory.join("others")).unwrap();
    fs::write(other.directory.join("others/edge-1"), &trail.signed[5]).unwrap();
    let file = trail.folder.path().join("checkpoint.yesterday");
    fs::write(&file, &trail.signed[3]).unwrap();
    let witnessed = durward(&[
        "audit",
        "verify",
        "--json",
        "--directory",
        &format!("{directory}/"),
        "--directory",
        other.directory.to_str().unwrap(),
        "--checkpoint",
        file.to_str().unwrap(),
    ]);
    assert_eq!(witnessed.status.code(), Some(0), "{}", text(&witnessed.stderr));
    let report: serde_json::Value = serde_json::from_slice(&witnessed.stdout).unwrap();
    assert_eq!(report["whole"], true);
    assert_eq!(report["trails"][0]["witnesses"], 2);

    let mut all = trail.lines_of(512);
    all.remove(88);
    for (name, bytes) in closed_files("trail-00000000000000000512.jsonl", &all.concat()) {
        fs::write(trail.directory.join(name), bytes).unwrap();
    }
    let broken = durward(&["audit", "verify", "--json", "--directory", directory]);
    assert_eq!(broken.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&broken.stdout).unwrap();
    let first = &report["trails"][0]["findings"][0];
    assert_eq!((&first["seq"], &first["code"]), (&600.into(), &"entries_missing".into()));
    assert!(text(&broken.stderr).contains("broken at entry 600"), "{}", text(&broken.stderr));
}
