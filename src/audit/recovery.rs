//! How a trail is continued: its lock, what a crash left of its last segment, and whether its files are those that its newest
//! checkpoint was signed for.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;

use super::checkpoint::{Checkpoint, CheckpointSigner, CheckpointVerifier, gateway_of, notes, origin_of};
use super::disk::open_to_write;
use super::files::{append_to, bodies_file, numbers, replace, segment_file};
use super::open_files::{NEXT_LINES, name_next};
use super::settings::AuditSettings;
use super::syncer::write_checkpoint;
use super::trail::{MAX_ENTRY, TrailError};
use super::tree::{Frontier, HASH_LEN, Hash, SUBTREE, leaf_hash};

/// The gap after a process that was killed or crashed.
const UNCLEAN_STOP: &str = "unclean_stop";

/// A trail that can be continued.
pub(super) struct Recovered {
    /// Held as long as the trail is written.
    pub(super) lock: File,
    /// The name of the trail in its entries and checkpoints: the id of the gateway that began it.
    pub(super) name: GatewayId,
    pub(super) signer: CheckpointSigner,
    pub(super) frontier: Frontier,
    pub(super) segment: OpenSegment,
    pub(super) nodes: File,
    /// The open segment of bodies.
    pub(super) bodies: Option<u64>,
    /// Segments that were left when the process ended before they were compressed.
    pub(super) unclosed: Vec<PathBuf>,
    pub(super) checkpoint: Option<String>,
    /// What the last process could not tell.
    pub(super) gaps: Vec<RecoveredGap>,
}

/// A gap that a crash left: its reason, and its members after that.
pub(super) struct RecoveredGap {
    pub(super) reason: &'static str,
    pub(super) members: String,
}

/// The segment that entries are appended to.
pub(super) struct OpenSegment {
    pub(super) first: u64,
    pub(super) lines: File,
    pub(super) leaves: File,
}

impl OpenSegment {
    /// Begins a segment.
    pub(super) fn begin(directory: &Path, first: u64) -> io::Result<Self> {
        let segment = Self {
            first,
            lines: open_to_write(&segment_file(directory, first, "jsonl"))?,
            leaves: open_to_write(&segment_file(directory, first, "leaves"))?,
        };
        segment.lines.set_len(0)?;
        segment.leaves.set_len(0)?;
        super::files::sync_directory(directory)?;
        Ok(segment)
    }
}

/// Makes a directory that only its owner can enter.
pub(super) fn make_directory(path: &Path) -> Result<(), TrailError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(TrailError::io(path))
}

/// The key of the trail in a directory: a file beside it.
#[must_use]
pub fn key_file(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

/// Finds where the trail goes on. `now` is the time of a checkpoint that the last process did not come to sign.
pub(super) fn recover(settings: &AuditSettings, gateway: &GatewayId, now: UnixMillis) -> Result<Recovered, TrailError> {
    let directory = &settings.directory;
    make_directory(directory)?;
    let lock = take_lock(directory)?;
    let (name, signer) = open_key(directory, gateway)?;
    remove_unfinished(directory).map_err(TrailError::io(directory))?;
    let mut found = continue_trail(directory, &signer)?;
    if begin_next(directory, &signer, &found, now)? {
        let torn = std::mem::take(&mut found.gaps).into_iter().filter(|gap| gap.reason != UNCLEAN_STOP);
        let torn: Vec<RecoveredGap> = torn.collect();
        found = continue_trail(directory, &signer)?;
        found.gaps.splice(..0, torn);
    }
    let bodies = continue_bodies(directory, found.frontier.size())?;
    found.unclosed.extend(bodies.full);
    Ok(Recovered {
        lock,
        name,
        signer,
        frontier: found.frontier,
        segment: found.segment,
        nodes: found.nodes,
        bodies: bodies.open,
        unclosed: found.unclosed,
        checkpoint: found.checkpoint.map(|(_, note)| note),
        gaps: found.gaps,
    })
}

/// The entries that were found.
struct FoundTrail {
    frontier: Frontier,
    segment: OpenSegment,
    nodes: File,
    unclosed: Vec<PathBuf>,
    checkpoint: Option<(Checkpoint, String)>,
    gaps: Vec<RecoveredGap>,
}

fn continue_trail(directory: &Path, signer: &CheckpointSigner) -> Result<FoundTrail, TrailError> {
    let io_error = |error| TrailError::Io {
        path: directory.to_owned(),
        error,
    };
    let mut open = numbers(directory, "trail", "jsonl").map_err(io_error)?;
    let closed = numbers(directory, "trail", "jsonl.gz").map_err(io_error)?;
    // Both stand when the process ended while it closed the segment: the plain file is complete, and is closed again.
    let last = open.last().copied().filter(|open| closed.iter().all(|closed| closed < open));
    let beside = open
        .last()
        .or(closed.last())
        .map(|first| segment_file(directory, *first, "checkpoints"));
    let newest = newest_checkpoint(directory, signer.verifier(), beside.as_deref())?;
    let nodes_path = directory.join("nodes");
    let nodes = open_to_write(&nodes_path).map_err(TrailError::io(&nodes_path))?;
    let known = read_hashes(&nodes_path)?;
    let mut gaps = Vec::new();
    let (frontier, segment) = match last {
        Some(first) => {
            open.pop();
            continue_segment(directory, first, &known, newest.as_ref(), &mut gaps)?
        }
        None => begin_after(directory, &closed, &open, &known, newest.as_ref(), &mut gaps)?,
    };
    let complete = frontier.size() / SUBTREE;
    // What stands behind belongs to entries that were cut off, or is computed again.
    if (known.len() as u64) != complete {
        write_nodes(&nodes_path, &segment, directory, complete)?;
    }
    let unclosed = open.into_iter().map(|first| segment_file(directory, first, "jsonl")).collect();
    Ok(FoundTrail {
        frontier,
        segment,
        nodes,
        unclosed,
        checkpoint: newest,
        gaps,
    })
}

/// Removes files that were on their way to a name, but not the entries of a segment that had not begun. A copy of a body that
/// was to be erased may be in one.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_segment = name.starts_with("trail-") || name.starts_with("bodies-");
        let is_next = name.starts_with("trail-") && name.ends_with(NEXT_LINES);
        if is_segment && name.ends_with(".new") && !is_next {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Begins the segment whose entries the last process had written when it had not yet signed the end of the one before. Says
/// whether there was one.
fn begin_next(directory: &Path, signer: &CheckpointSigner, found: &FoundTrail, now: UnixMillis) -> Result<bool, TrailError> {
    let failed = || TrailError::io(directory);
    let size = found.frontier.size();
    let mut begins = false;
    for first in numbers(directory, "trail", NEXT_LINES).map_err(failed())? {
        let path = segment_file(directory, first, NEXT_LINES);
        if first == size && size > found.segment.first {
            match found.checkpoint.as_ref().filter(|(checkpoint, _)| checkpoint.size == size) {
                // It stands beside the segment already, but the next segment rests on the newest one alone.
                Some((_, note)) => replace(&directory.join("checkpoint"), note.as_bytes()).map_err(failed())?,
                None => {
                    let note = signer.sign(size, &found.frontier.root(), now);
                    write_checkpoint(directory, found.segment.first, &note).map_err(failed())?;
                }
            }
            name_next(directory, first).map_err(failed())?;
            begins = true;
        } else if fs::metadata(&path).map_err(failed())?.len() == 0 {
            fs::remove_file(&path).map_err(failed())?;
        } else {
            // A crash of the machine took the end of the segment before, so nothing says that these are entries.
            let copy = directory.join(format!("cut-{first:020}"));
            tracing::error!(path = %path.display(), copy = %copy.display(), "entries before these are missing; they are kept, and are no part of the audit trail");
            fs::rename(&path, &copy).map_err(failed())?;
        }
    }
    Ok(begins)
}

fn take_lock(directory: &Path) -> Result<File, TrailError> {
    let path = directory.join("lock");
    let lock = append_to(&path).map_err(TrailError::io(&path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(TrailError::InUse(directory.to_owned())),
        Err(error) => Err(TrailError::Io { path, error: error.into() }),
    }
}

/// The key, and the name that it signs for. A gateway without a configured id has another id after each start; its trail keeps
/// the first one.
fn open_key(directory: &Path, gateway: &GatewayId) -> Result<(GatewayId, CheckpointSigner), TrailError> {
    let path = key_file(directory);
    let began = CheckpointVerifier::read(&path.with_extension("pub"))
        .ok()
        .and_then(|public| gateway_of(public.origin()));
    let name = began.unwrap_or_else(|| gateway.clone());
    let signer = CheckpointSigner::open_or_create(&path, &origin_of(&name))?;
    Ok((name, signer))
}

/// The newest checkpoint: that of the file `checkpoint`, or the last one `beside` the open segment, which is written first.
fn newest_checkpoint(
    directory: &Path,
    key: &CheckpointVerifier,
    beside: Option<&Path>,
) -> Result<Option<(Checkpoint, String)>, TrailError> {
    let path = directory.join("checkpoint");
    let alone = read_if_there(&path)?.map(|note| verified(key, &path, note)).transpose()?;
    let Some(beside) = beside else { return Ok(alone) };
    let text = read_if_there(beside)?.unwrap_or_default();
    let (all, whole) = notes(&text);
    let last = all.last().map(|note| verified(key, beside, (*note).to_owned())).transpose()?;
    if whole < text.len() {
        let file = append_to(beside).map_err(TrailError::io(beside))?;
        file.set_len(whole as u64).map_err(TrailError::io(beside))?;
    }
    match (alone, last) {
        (None, Some(_)) if all.len() > 1 => Err(TrailError::Damaged {
            path,
            what: "it is missing, and checkpoints were signed".to_owned(),
        }),
        (Some(alone), Some(last)) if last.0.size > alone.0.size => {
            // The process ended between the two files. One that is older than the last but one was put there.
            let previous = all.iter().rev().nth(1).and_then(|note| Checkpoint::parse_unverified(note).ok());
            if previous.is_some_and(|previous| previous.size > alone.0.size) {
                return Err(TrailError::Damaged {
                    path,
                    what: format!("it is of {} entries, and one of {} was signed", alone.0.size, last.0.size),
                });
            }
            Ok(Some(last))
        }
        (alone, last) => Ok(alone.or(last)),
    }
}

fn verified(key: &CheckpointVerifier, path: &Path, note: String) -> Result<(Checkpoint, String), TrailError> {
    match key.verify(&note) {
        Ok(checkpoint) => Ok((checkpoint, note)),
        Err(error) => Err(TrailError::Damaged {
            path: path.to_owned(),
            what: error.to_string(),
        }),
    }
}

/// The text of a file, or `None` where there is none.
fn read_if_there(path: &Path) -> Result<Option<String>, TrailError> {
    match fs::read(path) {
        // What is not UTF-8 is no checkpoint, and is told as one that does not hold.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TrailError::Io {
            path: path.to_owned(),
            error,
        }),
    }
}

fn read_hashes(path: &Path) -> Result<Vec<Hash>, TrailError> {
    let bytes = fs::read(path).map_err(TrailError::io(path))?;
    Ok(bytes.as_chunks::<HASH_LEN>().0.to_vec())
}

/// Reads the open segment again: every whole line is an entry, and what stands behind the last one is cut off.
fn continue_segment(
    directory: &Path,
    first: u64,
    nodes: &[Hash],
    newest: Option<&(Checkpoint, String)>,
    gaps: &mut Vec<RecoveredGap>,
) -> Result<(Frontier, OpenSegment), TrailError> {
    let path = segment_file(directory, first, "jsonl");
    let damaged = |what: String| TrailError::Damaged { path: path.clone(), what };
    let mut frontier =
        restore(first, nodes).ok_or_else(|| damaged("its place in the tree is not known; the file `nodes` is too short".into()))?;
    let covered = newest.map_or(0, |(checkpoint, _)| checkpoint.size);
    let mut signed_root = (newest.map(|(checkpoint, _)| checkpoint.size) == Some(first)).then(|| frontier.root());
    if covered < first {
        return Err(damaged(format!(
            "it begins with the entry {first}, and the newest checkpoint is of {covered} entries"
        )));
    }
    let file = File::open(&path).map_err(TrailError::io(&path))?;
    let total = file.metadata().map_err(TrailError::io(&path))?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let leaves_path = segment_file(directory, first, "leaves");
    let old_leaves = if leaves_path.exists() {
        read_hashes(&leaves_path)?
    } else {
        Vec::new()
    };
    let mut differing = 0_u64;
    let (mut line, mut length, mut leaves, mut last) = (Vec::new(), 0_u64, Vec::new(), None);
    loop {
        line.clear();
        let read = (&mut reader)
            .take(MAX_ENTRY as u64 * 2)
            .read_until(b'\n', &mut line)
            .map_err(TrailError::io(&path))?;
        let expected = format!("{{\"seq\":{},", frontier.size());
        if read == 0 || line.last() != Some(&b'\n') || !line.starts_with(expected.as_bytes()) {
            break;
        }
        length += read as u64;
        line.pop();
        let leaf = leaf_hash(&line);
        if old_leaves.get(leaves.len() / HASH_LEN).is_some_and(|old| *old != leaf) {
            differing += 1;
        }
        leaves.extend_from_slice(&leaf);
        frontier.push(leaf);
        if frontier.size() == covered {
            signed_root = Some(frontier.root());
        }
        std::mem::swap(&mut line, last.get_or_insert_default());
    }
    if let Some((checkpoint, _)) = newest {
        if checkpoint.size > frontier.size() {
            let (size, has) = (checkpoint.size, frontier.size());
            return Err(damaged(format!(
                "the newest checkpoint was signed for {size} entries, and {has} are there"
            )));
        }
        if checkpoint.size >= first && signed_root != Some(checkpoint.root) {
            return Err(damaged(format!(
                "the first {} entries are not those that its checkpoint was signed for",
                checkpoint.size
            )));
        }
    }
    let lines = open_to_write(&path).map_err(TrailError::io(&path))?;
    let cut = Cut {
        bytes: total - length,
        kept_in: keep_cut(directory, &path, length, frontier.size())?,
    };
    tell_gaps(last.as_deref(), frontier.size(), &cut, gaps);
    if differing > 0 {
        // Beyond the newest checkpoint nothing says which of the two is right: a crash of the machine may do this.
        tracing::error!(entries = differing, path = %path.display(), "entries of the audit trail differ from their hashes");
        gaps.push(RecoveredGap {
            reason: "leaves_differ",
            members: format!(",\"entries\":{differing},\"after_seq\":{}", frontier.size().saturating_sub(1)),
        });
    }
    lines.set_len(length).map_err(TrailError::io(&path))?;
    replace(&leaves_path, &leaves).map_err(TrailError::io(&leaves_path))?;
    // What is not on the disk must be in the writer's memory, and this is not.
    lines.sync_data().map_err(TrailError::io(&path))?;
    let segment = OpenSegment {
        first,
        lines,
        leaves: open_to_write(&leaves_path).map_err(TrailError::io(&leaves_path))?,
    };
    Ok((frontier, segment))
}

/// The tree of the entries before a segment.
fn restore(first: u64, nodes: &[Hash]) -> Option<Frontier> {
    let complete = usize::try_from(first / SUBTREE).ok()?;
    Frontier::restore(first, nodes.get(..complete)?, &[])
}

/// What was cut off behind the last whole entry.
struct Cut {
    bytes: u64,
    /// The file with a copy, where it was more than one torn line.
    kept_in: Option<String>,
}

/// Keeps a copy of what is cut off where it is more than one torn line: a crash of the process does not do that, so somebody
/// may want to look at it.
fn keep_cut(directory: &Path, path: &Path, length: u64, size: u64) -> Result<Option<String>, TrailError> {
    let mut file = File::open(path).map_err(TrailError::io(path))?;
    file.seek(io::SeekFrom::Start(length)).map_err(TrailError::io(path))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(TrailError::io(path))?;
    if !tail.contains(&b'\n') {
        return Ok(None);
    }
    let name = format!("cut-{size:020}");
    let copy = directory.join(&name);
    replace(&copy, &tail).map_err(TrailError::io(&copy))?;
    tracing::error!(path = %path.display(), copy = %copy.display(), "the audit trail ended with what is no entry; it was cut off and kept");
    Ok(Some(name))
}

/// What the last process could not tell: a line that it did not write to its end, and that it did not end by itself.
fn tell_gaps(last: Option<&[u8]>, size: u64, cut: &Cut, gaps: &mut Vec<RecoveredGap>) {
    let text = last.map(String::from_utf8_lossy);
    let member = |name: &str| {
        let (_, rest) = text.as_ref()?.split_once(&format!(",\"{name}\":\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let mut from = member("time").map(|time| format!(",\"from\":\"{time}\"")).unwrap_or_default();
    if let Some(after) = size.checked_sub(1) {
        from.insert_str(0, &format!(",\"after_seq\":{after}"));
    }
    if cut.bytes > 0 {
        let kept = cut
            .kept_in
            .as_ref()
            .map(|name| format!(",\"kept_in\":\"{name}\""))
            .unwrap_or_default();
        gaps.push(RecoveredGap {
            reason: "torn_tail",
            members: format!(",\"bytes\":{}{from}{kept}", cut.bytes),
        });
    }
    // An orderly stop ends no segment, so a segment without entries had no orderly stop either, unless it is the first one.
    if member("kind").as_deref() != Some("stop") && size > 0 {
        gaps.push(RecoveredGap {
            reason: UNCLEAN_STOP,
            members: from,
        });
    }
}

/// Begins a segment after the closed ones, or the first one.
fn begin_after(
    directory: &Path,
    closed: &[u64],
    open: &[u64],
    nodes: &[Hash],
    newest: Option<&(Checkpoint, String)>,
    gaps: &mut Vec<RecoveredGap>,
) -> Result<(Frontier, OpenSegment), TrailError> {
    let damaged = |what: &str| TrailError::Damaged {
        path: directory.to_owned(),
        what: what.to_owned(),
    };
    let next = match closed.iter().chain(open).max() {
        None if newest.is_some() || !nodes.is_empty() => return Err(damaged("there are checkpoints of entries, and no entries")),
        None => 0,
        Some(last) => {
            let leaves = segment_file(directory, *last, "leaves");
            let length = fs::metadata(&leaves).map_err(TrailError::io(&leaves))?.len();
            last + length / HASH_LEN as u64
        }
    };
    let frontier = restore(next, nodes).filter(|_| next.is_multiple_of(SUBTREE));
    let frontier = frontier.ok_or_else(|| damaged("the last closed segment does not end where the next one begins"))?;
    if let Some((checkpoint, _)) = newest
        && (checkpoint.size > next || (checkpoint.size == next && checkpoint.root != frontier.root()))
    {
        return Err(damaged("the entries are not those that the newest checkpoint was signed for"));
    }
    let segment = OpenSegment::begin(directory, next).map_err(TrailError::io(directory))?;
    let nothing = Cut { bytes: 0, kept_in: None };
    tell_gaps(None, next, &nothing, gaps);
    Ok((frontier, segment))
}

/// Writes the hashes of the open segment's complete subtrees again.
fn write_nodes(path: &Path, segment: &OpenSegment, directory: &Path, complete: u64) -> Result<(), TrailError> {
    let failed = || TrailError::io(path);
    let nodes = append_to(path).map_err(failed())?;
    let kept = segment.first / SUBTREE;
    nodes.set_len(kept * HASH_LEN as u64).map_err(failed())?;
    let leaves = read_hashes(&segment_file(directory, segment.first, "leaves"))?;
    let mut tree = Frontier::new();
    let added: Vec<u8> = leaves.iter().filter_map(|leaf| tree.push(*leaf)).flatten().collect();
    (&nodes).write_all(&added).map_err(failed())?;
    nodes.sync_all().map_err(failed())?;
    if kept + (added.len() / HASH_LEN) as u64 == complete {
        Ok(())
    } else {
        Err(TrailError::Damaged {
            path: path.to_owned(),
            what: "it does not fit the entries".to_owned(),
        })
    }
}

/// The segments of bodies that are not compressed.
struct FoundSegments {
    /// The last one, to which more is written.
    open: Option<u64>,
    full: Vec<PathBuf>,
}

/// Bodies of entries that are not there are cut off: other entries get their numbers.
fn continue_bodies(directory: &Path, size: u64) -> Result<FoundSegments, TrailError> {
    let closed = numbers(directory, "bodies", "jsonl.gz").map_err(TrailError::io(directory))?;
    let mut plain = numbers(directory, "bodies", "jsonl").map_err(TrailError::io(directory))?;
    let mut open = None;
    // Of one that is compressed already, all was on the disk.
    while let Some(first) = plain.pop_if(|first| !closed.contains(first)) {
        let path = bodies_file(directory, first, "jsonl");
        if cut_bodies(&path, size)? > 0 {
            if closed.last().is_none_or(|closed| *closed < first) {
                open = Some(first);
            } else {
                plain.push(first);
            }
            break;
        }
        fs::remove_file(&path).map_err(TrailError::io(&path))?;
    }
    let full = plain.into_iter().map(|first| bodies_file(directory, first, "jsonl")).collect();
    Ok(FoundSegments { open, full })
}

/// Cuts off a torn line and the bodies of entries from `size` on. Answers how many bytes are left.
fn cut_bodies(path: &Path, size: u64) -> Result<u64, TrailError> {
    let file = append_to(path).map_err(TrailError::io(path))?;
    let mut reader = BufReader::with_capacity(1 << 20, &file);
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(TrailError::io(path))?;
        if read == 0 || line.last() != Some(&b'\n') || seq_of(&line).is_some_and(|seq| seq >= size) {
            break;
        }
        whole += read as u64;
    }
    file.set_len(whole).map_err(TrailError::io(path))?;
    file.sync_data().map_err(TrailError::io(path))?;
    Ok(whole)
}

/// The number that a line begins with.
fn seq_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}
