//! Verifies that a trail is whole: every entry is the one that was made, in its place, and none is missing, as far as signed
//! checkpoints reach. `docs/audit.md`, "Evidence", says what this proves.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checkpoint::{CheckpointVerifier, gateway_of};
use super::closed;
use super::trail::MAX_ENTRY;
use super::tree::{Frontier, HASH_LEN, Hash, SUBTREE, leaf_hash};
use crate::base::clock::{UnixMillis, instant};

mod bodies;
mod fault;
mod files;
mod leaves;
mod lines;
mod points;

pub use bodies::BodyFigures;
use bodies::BodyWalk;
pub use fault::{Fault, Finding};
use files::{SegmentFiles, TrailFiles};
use leaves::LeafReader;
use lines::{LineEnd, LineHead, LineReader, same_lines};
pub use points::read_witnesses;

/// Most findings that a verdict names. The first is what matters; one broken block may make thousands.
const MAX_FINDINGS: usize = 100;

/// Most entries that differ from their leaves between two checkpoints and are named one by one.
const MAX_SUSPECTS: usize = 1_000;

/// A verification begins anew while the files change under it, at least so often, ...
const MIN_TRIES: u32 = 3;

/// ... and until so much time has passed.
const MAX_TIME: Duration = Duration::from_secs(10);

/// A checkpoint that came to us on another way than the trail: from another gateway, or from a file of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailWitness {
    /// Where it comes from, for people.
    pub source: String,
    /// The signed note.
    pub note: String,
}

/// What a verification showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub directory: String,
    pub gateway: String,
    /// The verifier key that all signatures were checked with.
    pub key: String,
    /// Seq of the oldest entry that is kept.
    pub first: u64,
    /// Seq after the newest entry, so the size of the tree.
    pub size: u64,
    /// How many of the first entries a signed checkpoint of the trail covers.
    pub proven: u64,
    /// When the newest checkpoint was signed, in milliseconds since 1970.
    pub signed_at: Option<i64>,
    /// How many checkpoints of the trail itself hold.
    pub checkpoints: u64,
    /// How many witnesses hold.
    pub witnesses: u64,
    /// How many of the first entries a witness covers.
    pub witnessed: u64,
    pub gaps: u64,
    pub bodies: BodyFigures,
    /// What is wrong; the first bad entry first. Empty for a trail that is whole.
    pub findings: Vec<Finding>,
    /// Findings beyond those that are named.
    pub more_findings: u64,
    /// What is not wrong and worth knowing.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the trail in a directory with its key. Witnesses of other trails are passed over.
///
/// # Errors
/// When the directory cannot be read. Whatever else cannot be read is a finding.
pub fn verify(directory: &Path, key: &CheckpointVerifier, witnesses: &[TrailWitness]) -> io::Result<Verdict> {
    let began = instant();
    let mut before = (TrailFiles::list(directory)?, newest_checkpoint(directory)?);
    let mut tries = 0;
    loop {
        tries += 1;
        let verdict = verify_once(directory, &before.0, before.1.as_deref(), key, witnesses)?;
        let after = (TrailFiles::list(directory)?, newest_checkpoint(directory)?);
        // A running gateway signs, closes and removes while its files are read.
        if verdict.is_whole() || after == before || (tries >= MIN_TRIES && began.elapsed() >= MAX_TIME) {
            return Ok(verdict);
        }
        before = after;
    }
}

/// The text of the newest checkpoint, which is empty where it is no text.
fn newest_checkpoint(directory: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(directory.join("checkpoint")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(error) => Err(error),
    }
}

fn verify_once(
    directory: &Path,
    files: &TrailFiles,
    newest: Option<&str>,
    key: &CheckpointVerifier,
    witnesses: &[TrailWitness],
) -> io::Result<Verdict> {
    let mut walk = Walk::new(directory, key, files);
    walk.read_checkpoints(files);
    walk.read_newest(newest, files);
    walk.read_witnesses(witnesses);
    walk.points.make_contiguous().sort_by_key(|point| point.size);
    walk.begin(files);
    for (first, segment) in &files.segments {
        let end = files.segments.range(first + 1..).next().map(|(next, _)| *next);
        walk.segment(*first, segment, end);
    }
    Ok(walk.finish(files))
}

/// A signed size and root that the trail must have had.
struct Point {
    size: u64,
    root: Hash,
    source: String,
    /// Whether it is of the trail's own directory.
    own: bool,
    time: Option<UnixMillis>,
}

/// An entry `retention` or `erase`, as far as it matters here.
#[derive(Deserialize)]
struct Removal {
    files: Option<String>,
    before_seq: Option<u64>,
    request_id: Option<String>,
}

struct Walk<'a> {
    directory: &'a Path,
    key: &'a CheckpointVerifier,
    gateway: String,
    points: VecDeque<Point>,
    /// The tree of the lines.
    lines: Frontier,
    /// The tree of the leaf files, while it differs.
    leaves: Option<Frontier>,
    /// Entries that differ from their leaves, and subtrees that differ from `nodes`, until a checkpoint says which is right.
    suspects: Vec<u64>,
    suspect_nodes: Vec<u64>,
    nodes: Option<BufReader<File>>,
    /// Whether the roots can no longer be compared.
    lost: bool,
    /// Size at the last checkpoint of the trail, and at the last witness, that held.
    held: u64,
    witnessed: u64,
    /// The seq that comes next.
    next: u64,
    first: u64,
    /// The file that is read.
    file: String,
    last_kind: String,
    newest_own: u64,
    signed_at: Option<UnixMillis>,
    checkpoints: u64,
    witnesses: u64,
    gaps: u64,
    late_times: u64,
    torn: bool,
    /// `checkpoint` is behind the newest checkpoint of the segment by this one.
    behind: Option<Fault>,
    /// The checkpoints of the open segment end within one.
    torn_checkpoint: Option<Finding>,
    retained: u64,
    retained_bodies: u64,
    bodies: BodyWalk,
    findings: Vec<Finding>,
    more: u64,
    notes: Vec<String>,
}

/// The name of a file without its folders.
fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

impl<'a> Walk<'a> {
    fn new(directory: &'a Path, key: &'a CheckpointVerifier, files: &TrailFiles) -> Self {
        Self {
            directory,
            key,
            gateway: gateway_of(key.origin()).map_or_else(String::new, |gateway| gateway.as_str().to_owned()),
            points: VecDeque::new(),
            lines: Frontier::new(),
            leaves: None,
            suspects: Vec::new(),
            suspect_nodes: Vec::new(),
            nodes: None,
            lost: false,
            held: 0,
            witnessed: 0,
            next: 0,
            first: 0,
            file: String::new(),
            last_kind: String::new(),
            newest_own: 0,
            signed_at: None,
            checkpoints: 0,
            witnesses: 0,
            gaps: 0,
            late_times: 0,
            torn: false,
            behind: None,
            torn_checkpoint: None,
            retained: 0,
            retained_bodies: 0,
            bodies: BodyWalk::new(files),
            findings: Vec::new(),
            more: 0,
            notes: Vec::new(),
        }
    }

    fn tell(&mut self, seq: u64, file: impl Into<String>, fault: Fault) {
        self.findings.push(Finding {
            seq,
            file: file.into(),
            fault,
        });
        self.bound_findings();
    }

    /// Keeps the findings of the first entries.
    fn bound_findings(&mut self) {
        if self.findings.len() > 2 * MAX_FINDINGS {
            self.findings.sort_by_key(|finding| finding.seq);
            self.more += (self.findings.len() - MAX_FINDINGS) as u64;
            self.findings.truncate(MAX_FINDINGS);
        }
    }

    /// Opens `nodes`, and builds the tree of what retention has removed.
    fn begin(&mut self, files: &TrailFiles) {
        self.first = files
            .segments
            .iter()
            .find(|(_, segment)| segment.has_lines())
            .map_or(0, |(first, _)| *first);
        for (first, segment) in files.segments.range(..self.first) {
            let left = segment.leaves.as_ref().or(segment.checkpoints.as_ref()).or(segment.index.as_ref());
            let name = left.map_or_else(String::new, |path| name_of(path));
            self.notes
                .push(format!("`{name}` belongs to the segment of entry {first}, which is gone"));
        }
        self.next = self.first;
        self.bodies.begin(self.first);
        self.nodes = File::open(self.directory.join("nodes")).ok().map(BufReader::new);
        self.check_points();
        for subtree in 0..self.first / SUBTREE {
            let Some(node) = self.read_node() else {
                self.tell(subtree * SUBTREE, "nodes", Fault::TooShort);
                self.lost = true;
                return;
            };
            self.lines.push_subtree(node);
            self.check_points();
        }
        if !self.first.is_multiple_of(SUBTREE) {
            self.lost = true;
            let name = format!("trail-{:020}", self.first);
            self.tell(
                self.first,
                name,
                Fault::OutOfPlace {
                    seq: self.first,
                    expected: self.first / SUBTREE * SUBTREE,
                },
            );
        }
    }

    fn read_node(&mut self) -> Option<Hash> {
        let mut node = [0; HASH_LEN];
        self.nodes.as_mut()?.read_exact(&mut node).ok()?;
        Some(node)
    }

    /// Reads a segment with what stands beside it. It ends where the next one begins; the open segment is the last.
    fn segment(&mut self, first: u64, files: &SegmentFiles, end: Option<u64>) {
        let last = end.is_none();
        if !files.has_lines() {
            // What is missing is told at the next segment, or at the end. Its leaves may fill the tree.
            if first >= self.first && first == self.next && !last {
                self.fill_from_leaves(files);
            }
            return;
        }
        // Of a segment that was just closed both may be there. Others read the plain one then.
        let Some(path) = files.plain.as_ref().or(files.zipped.as_ref()) else {
            return;
        };
        self.file = name_of(path);
        if first != self.next {
            if first > self.next {
                self.missing(self.next, first, None);
            } else {
                let file = self.file.clone();
                self.tell(
                    first,
                    file,
                    Fault::OutOfPlace {
                        seq: first,
                        expected: self.next,
                    },
                );
                return;
            }
        }
        let mut leaves = self.open_leaves(first, files);
        let read = self.segment_lines(path, last, &mut leaves);
        if let Err(error) = &read {
            let file = self.file.clone();
            self.tell(self.next, file, Fault::Unreadable(error.to_string()));
        }
        self.rest_of_leaves(end, leaves);
        if read.is_ok() {
            self.closed_files(first, files);
        }
    }

    /// Judges the form of a closed segment, and its index.
    fn closed_files(&mut self, first: u64, files: &SegmentFiles) {
        let Some(zipped) = &files.zipped else {
            // A segment that is being closed has its index first.
            return;
        };
        let index = format!("trail-{first:020}.index");
        if files.index.is_none() {
            return self.tell(first, index, Fault::FileMissing);
        }
        if let Err(error) = closed::check(zipped) {
            let error = error.to_string();
            let file = if error.contains(&index) { index } else { name_of(zipped) };
            return self.tell(first, file, Fault::Unreadable(error));
        }
        let twice = files.plain.as_ref().map(|plain| same_lines(plain, zipped, MAX_ENTRY));
        if twice.is_some_and(|same| !same.unwrap_or(false)) {
            self.tell(first, name_of(zipped), Fault::Differs);
        }
    }

    fn open_leaves(&mut self, first: u64, files: &SegmentFiles) -> Option<LeafReader> {
        let opened = files.leaves.as_ref().map(LeafReader::open);
        match opened {
            Some(Ok(reader)) => Some(reader),
            Some(Err(error)) => {
                self.tell(first, format!("trail-{first:020}.leaves"), Fault::Unreadable(error.to_string()));
                None
            }
            None => {
                self.tell(first, format!("trail-{first:020}.leaves"), Fault::FileMissing);
                None
            }
        }
    }

    fn segment_lines(&mut self, path: &Path, last: bool, leaves: &mut Option<LeafReader>) -> io::Result<()> {
        let mut reader = LineReader::open(path, MAX_ENTRY)?;
        loop {
            let end = reader.next()?;
            let line = std::mem::take(&mut reader.line);
            match end {
                LineEnd::Nothing => return Ok(()),
                LineEnd::Torn if last && self.next >= self.newest_own => {
                    self.torn = true;
                    self.notes.push(format!(
                        "`{}` ends within a line, as a crash leaves it; the next start cuts it and tells the gap",
                        self.file
                    ));
                    return Ok(());
                }
                LineEnd::Torn | LineEnd::TooLong => self.not_an_entry(leaves),
                LineEnd::Whole => match LineHead::parse(&line) {
                    Some(head) => self.entry(&head, &line, leaves),
                    None => self.not_an_entry(leaves),
                },
            }
            reader.line = line;
        }
    }

    /// A line that is no entry takes the place of one.
    fn not_an_entry(&mut self, leaves: &mut Option<LeafReader>) {
        let (seq, file) = (self.next, self.file.clone());
        self.tell(seq, file, Fault::NotAnEntry);
        let leaf = leaves.as_mut().and_then(LeafReader::next);
        self.push(None, leaf);
    }

    fn entry(&mut self, head: &LineHead<'_>, line: &[u8], leaves: &mut Option<LeafReader>) {
        if head.seq < self.next {
            let fault = Fault::OutOfPlace {
                seq: head.seq,
                expected: self.next,
            };
            let file = self.file.clone();
            return self.tell(self.next, file, fault);
        }
        if head.seq > self.next {
            // The leaves say whether entries are missing, or a number was changed.
            let here = leaf_hash(line);
            let ahead = leaves.as_mut().is_some_and(|leaves| leaves.has_ahead(head.seq - self.next, &here));
            if leaves.is_some() && !ahead {
                return self.not_an_entry(leaves);
            }
            self.missing(self.next, head.seq, leaves.as_mut());
        }
        self.judge_head(head);
        if matches!(head.kind, "retention" | "erase") {
            self.removal(line);
        }
        self.bodies.entry(head.seq, line, &mut self.findings);
        self.bound_findings();
        let leaf = leaves.as_mut().and_then(LeafReader::next);
        self.push(Some(leaf_hash(line)), leaf);
    }

    fn judge_head(&mut self, head: &LineHead<'_>) {
        if head.gateway != self.gateway {
            let file = self.file.clone();
            self.tell(head.seq, file, Fault::OtherGateway(head.gateway.chars().take(128).collect()));
        }
        match head.time.parse::<jiff::Timestamp>() {
            Err(_) => {
                let file = self.file.clone();
                self.tell(head.seq, file, Fault::WrongTime);
            }
            Ok(time) => {
                let signed = self.points.front().filter(|point| point.own).and_then(|point| point.time);
                if signed.is_some_and(|signed| time.as_millisecond() > signed.0) {
                    self.late_times += 1;
                }
            }
        }
        head.kind.clone_into(&mut self.last_kind);
        if head.kind == "gap" {
            self.gaps += 1;
        }
    }

    /// Notes what an entry tells to be removed. An entry of another form permits nothing.
    fn removal(&mut self, line: &[u8]) {
        let Ok(removal) = serde_json::from_slice::<Removal>(line) else {
            return;
        };
        match (removal.files.as_deref(), removal.before_seq, removal.request_id) {
            (Some("trail"), Some(before), _) => self.retained = self.retained.max(before),
            (Some("bodies"), Some(before), _) => self.retained_bodies = self.retained_bodies.max(before),
            (_, _, Some(request_id)) => self.bodies.erasure(request_id),
            _ => {}
        }
    }

    /// Entries that are not there. Their leaves, where they are known, take their place in the tree.
    fn missing(&mut self, from: u64, to: u64, mut leaves: Option<&mut LeafReader>) {
        let file = self.file.clone();
        self.tell(from, file, Fault::Missing { from, to: to - 1 });
        if leaves.is_none() {
            return self.fill_from_nodes(to);
        }
        while self.next < to {
            let leaf = leaves.as_mut().and_then(|leaves| leaves.next());
            self.push(None, leaf);
        }
    }

    /// Lets whole subtrees take the place of a segment that is not there at all.
    fn fill_from_nodes(&mut self, to: u64) {
        while !self.lost && self.next < to {
            // Segments begin at subtrees. Without the node nothing can be said of the roots behind.
            let node = self.read_node().filter(|_| self.next.is_multiple_of(SUBTREE));
            self.lost = !node.is_some_and(|node| self.lines.push_subtree(node));
            if let (Some(leaves), Some(node)) = (&mut self.leaves, node) {
                leaves.push_subtree(node);
            }
            self.next += SUBTREE;
            self.check_points();
        }
        self.next = to;
    }

    fn fill_from_leaves(&mut self, files: &SegmentFiles) {
        let Some(Ok(mut leaves)) = files.leaves.as_ref().map(LeafReader::open) else {
            return;
        };
        self.file = files.leaves.as_ref().map_or_else(String::new, |path| name_of(path));
        let entries = leaves.left();
        if entries > 0 {
            self.missing(self.next, self.next + entries, Some(&mut leaves));
        }
    }

    /// The next place of the tree: what the line says, and what the leaf file says.
    fn push(&mut self, of_line: Option<Hash>, of_leaf: Option<Hash>) {
        let seq = self.next;
        self.next += 1;
        let (Some(line), Some(leaf)) = (of_line.or(of_leaf), of_leaf.or(of_line)) else {
            self.lost = true;
            return;
        };
        if self.lost {
            if line != leaf {
                let file = self.file.clone();
                self.tell(seq, file, Fault::LeafDiffers);
            }
            return;
        }
        if line != leaf {
            if self.leaves.is_none() {
                self.leaves = Some(self.lines.clone());
            }
            if self.suspects.len() < MAX_SUSPECTS {
                self.suspects.push(seq);
            }
        }
        let node = self.lines.push(line);
        let other = self.leaves.as_mut().and_then(|leaves| leaves.push(leaf));
        if let Some(node) = node {
            let kept = self.read_node();
            // A subtree that no checkpoint covers yet may be missing after a crash.
            if kept.is_none() && self.next <= self.newest_own {
                self.tell(seq + 1 - SUBTREE, "nodes", Fault::TooShort);
                self.nodes = None;
            } else if kept.is_some_and(|kept| kept != node && Some(kept) != other) {
                self.suspect_nodes.push((seq + 1) / SUBTREE - 1);
            }
        }
        self.check_points();
    }

    /// Compares the root with every checkpoint of this size.
    fn check_points(&mut self) {
        let size = self.lines.size();
        while let Some(point) = self.points.pop_front() {
            if point.size > size {
                self.points.push_front(point);
                return;
            }
            // Witnesses of a size before the first entry that is kept can be compared only at a subtree's end.
            if point.size == size && !self.lost {
                self.check_point(&point);
            }
        }
    }

    fn check_point(&mut self, point: &Point) {
        let as_lines = self.lines.root() == point.root;
        let as_leaves = self.leaves.as_ref().is_some_and(|leaves| leaves.root() == point.root);
        if as_lines || as_leaves {
            if as_lines {
                self.resolve(&Fault::LeafChanged);
            } else {
                self.resolve(&Fault::EntryChanged);
                if let Some(leaves) = self.leaves.take() {
                    self.lines = leaves;
                }
            }
            self.leaves = None;
            for subtree in std::mem::take(&mut self.suspect_nodes) {
                let from = subtree * SUBTREE;
                let fault = Fault::NodeChanged {
                    from,
                    to: from + SUBTREE - 1,
                };
                self.tell(from, "nodes", fault);
            }
            if point.own {
                self.checkpoints += 1;
                self.held = point.size;
            } else {
                self.witnesses += 1;
                self.witnessed = point.size;
            }
            return;
        }
        if point.own {
            self.resolve(&Fault::LeafDiffers);
        }
        let mut from = if point.own { self.held.max(self.witnessed) } else { self.witnessed };
        let mut to = point.size.saturating_sub(1);
        if let Some(subtree) = self.suspect_nodes.first().filter(|_| point.own) {
            from = from.max(subtree * SUBTREE);
            to = to.min((subtree + 1) * SUBTREE - 1);
        }
        let signed = point.source.clone();
        self.tell(
            from.max(self.first).min(to),
            self.file.clone(),
            Fault::NotAsSigned { from, to, signed },
        );
        // The trail's own checkpoints go on to say whether it agrees with itself.
        self.lost = point.own;
    }

    /// Names the entries that differ from their leaves, once it is known which of the two is right.
    fn resolve(&mut self, fault: &Fault) {
        for seq in std::mem::take(&mut self.suspects) {
            let file = if *fault == Fault::LeafChanged {
                self.file
                    .split('.')
                    .next()
                    .map_or_else(String::new, |name| format!("{name}.leaves"))
            } else {
                self.file.clone()
            };
            self.tell(seq, file, fault.clone());
        }
    }

    fn rest_of_leaves(&mut self, end: Option<u64>, leaves: Option<LeafReader>) {
        let Some(mut leaves) = leaves else { return };
        let must_reach = end.unwrap_or(self.newest_own).min(self.next + leaves.left());
        if leaves.short == 0 && self.next < must_reach {
            self.missing(self.next, must_reach, Some(&mut leaves));
        }
        // A crash may leave more leaves than lines, or fewer, beyond the newest checkpoint.
        let settled = end.is_some() || self.next <= self.newest_own && self.last_kind == "stop";
        let name = self
            .file
            .split('.')
            .next()
            .map_or_else(String::new, |name| format!("{name}.leaves"));
        let leaves_end = self.next.saturating_sub(leaves.short);
        if leaves.short > 0 {
            if settled || leaves_end < self.newest_own {
                self.tell(leaves_end, name, Fault::TooShort);
            }
        } else if settled && (leaves.next().is_some() || leaves.odd) {
            self.tell(self.next, name, Fault::TooLong);
        }
    }

    fn finish(mut self, files: &TrailFiles) -> Verdict {
        let size = self.next;
        if size < self.newest_own {
            let is_gone = files.segments.get(&size).is_some_and(|segment| !segment.has_lines());
            let file = if is_gone {
                format!("trail-{size:020}.jsonl")
            } else {
                self.file.clone()
            };
            self.tell(
                size,
                file,
                Fault::Missing {
                    from: size,
                    to: self.newest_own - 1,
                },
            );
        }
        for point in std::mem::take(&mut self.points) {
            if !point.own && point.size > size {
                self.tell(
                    size,
                    point.source.clone(),
                    Fault::Missing {
                        from: size,
                        to: point.size - 1,
                    },
                );
            }
        }
        self.resolve(&Fault::LeafDiffers);
        if self.last_kind == "stop" {
            if let Some(old) = self.behind.take() {
                self.tell(size, "checkpoint", old);
            }
            if let Some(torn) = self.torn_checkpoint.take() {
                self.tell(torn.seq, torn.file, torn.fault);
            }
            if self
                .nodes
                .as_mut()
                .is_some_and(|nodes| nodes.fill_buf().is_ok_and(|rest| !rest.is_empty()))
            {
                self.tell(size, "nodes", Fault::TooLong);
            }
        }
        if let Some(Fault::CheckpointOld { size, newest }) = self.behind {
            self.notes.push(format!(
                "`checkpoint` covers {size} entries, the newest of the segment {newest}: the gateway was running or was killed"
            ));
        }
        if self.first > self.retained {
            self.file = format!("trail-{:020}", self.retained / SUBTREE * SUBTREE);
            let (from, to) = (self.retained, self.first - 1);
            let file = self.file.clone();
            self.tell(from, file, Fault::Missing { from, to });
        }
        if size > self.newest_own {
            self.notes
                .push(format!("entries {} to {} are not signed yet", self.newest_own, size - 1));
        }
        if self.late_times > 0 {
            self.notes.push(format!(
                "{} entries have a later time than the checkpoint that covers them: the clock of the machine went back",
                self.late_times
            ));
        }
        for name in &files.foreign {
            self.notes.push(format!("`{name}` is no file of a trail"));
        }
        let bodies = std::mem::replace(&mut self.bodies, BodyWalk::new(&TrailFiles::default()));
        let torn = self.torn || self.last_kind != "stop";
        let bodies = bodies.finish(self.retained_bodies, size, torn, &mut self.findings);
        // An entry that was changed comes before its body, which no longer is what the entry says.
        self.findings
            .sort_by_key(|finding| (finding.seq, finding.file.starts_with("bodies")));
        self.more += self.findings.len().saturating_sub(MAX_FINDINGS) as u64;
        self.findings.truncate(MAX_FINDINGS);
        Verdict {
            directory: self.directory.display().to_string(),
            gateway: self.gateway,
            key: self.key.to_string(),
            first: self.first,
            size,
            proven: self.held,
            signed_at: self.signed_at.map(|at| at.0),
            checkpoints: self.checkpoints,
            witnesses: self.witnesses,
            witnessed: self.witnessed,
            gaps: self.gaps,
            bodies,
            findings: self.findings,
            more_findings: self.more,
            notes: self.notes,
        }
    }
}
