//! How a trail is continued: its lock, what a crash left of its last segment, and whether its files are those that its newest
//! checkpoint was signed for.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::ids::GatewayId;

use super::checkpoint::{Checkpoint, CheckpointSigner, CheckpointVerifier, gateway_of, notes, origin_of};
use super::files::{append_to, bodies_file, numbers, replace, segment_file};
use super::settings::AuditSettings;
use super::trail::{MAX_ENTRY, TrailError};
use super::tree::{Frontier, HASH_LEN, Hash, SUBTREE, leaf_hash};

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
    pub(super) path: PathBuf,
    pub(super) lines: File,
    pub(super) length: u64,
    pub(super) leaves: File,
    pub(super) leaves_length: u64,
}

impl OpenSegment {
    /// Begins a segment.
    pub(super) fn begin(directory: &Path, first: u64) -> io::Result<Self> {
        let path = segment_file(directory, first, "jsonl");
        let segment = Self {
            first,
            lines: append_to(&path)?,
            length: 0,
            leaves: append_to(&segment_file(directory, first, "leaves"))?,
            leaves_length: 0,
            path,
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

pub(super) fn recover(settings: &AuditSettings, gateway: &GatewayId) -> Result<Recovered, TrailError> {
    let directory = &settings.directory;
    make_directory(directory)?;
    let lock = take_lock(directory)?;
    let (name, signer) = open_key(directory, gateway)?;
    let io_error = |error| TrailError::Io {
        path: directory.clone(),
        error,
    };
    let mut open = numbers(directory, "trail", "jsonl").map_err(io_error)?;
    let closed = numbers(directory, "trail", "jsonl.gz").map_err(io_error)?;
    // Both stand when the process ended while it closed the segment: the plain file is complete, and is closed again.
    let last = open.last().copied().filter(|open| closed.iter().all(|closed| closed < open));
    let newest = newest_checkpoint(directory, signer.verifier())?;
    let nodes_path = directory.join("nodes");
    let nodes = append_to(&nodes_path).map_err(TrailError::io(&nodes_path))?;
    let known = read_hashes(&nodes_path)?;
    let mut gaps = Vec::new();
    let (frontier, segment) = match last {
        Some(first) => {
            open.pop();
            continue_segment(directory, first, &known, newest.as_ref(), &mut gaps)?
        }
        None => begin_after(directory, &closed, &open, &known, newest.as_ref())?,
    };
    let complete = frontier.size() / SUBTREE;
    // What stands behind belongs to entries that were cut off, or is computed again.
    if (known.len() as u64) != complete {
        write_nodes(&nodes, &nodes_path, &segment, directory, complete)?;
    }
    cut_torn_checkpoint(&segment_file(directory, segment.first, "checkpoints"))?;
    let unclosed = open.into_iter().map(|first| segment_file(directory, first, "jsonl")).collect();
    let bodies = numbers(directory, "bodies", "jsonl").map_err(io_error)?.last().copied();
    if let Some(first) = bodies {
        cut_bodies(&bodies_file(directory, first, "jsonl"), frontier.size())?;
    }
    Ok(Recovered {
        lock,
        name,
        signer,
        frontier,
        segment,
        nodes,
        bodies,
        unclosed,
        checkpoint: newest.map(|(_, note)| note),
        gaps,
    })
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

fn newest_checkpoint(directory: &Path, key: &CheckpointVerifier) -> Result<Option<(Checkpoint, String)>, TrailError> {
    let path = directory.join("checkpoint");
    let note = match fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TrailError::Io { path, error }),
    };
    match key.verify(&note) {
        Ok(checkpoint) => Ok(Some((checkpoint, note))),
        Err(error) => Err(TrailError::Damaged {
            path,
            what: error.to_string(),
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
    let file = File::open(&path).map_err(TrailError::io(&path))?;
    let total = file.metadata().map_err(TrailError::io(&path))?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
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
    let lines = append_to(&path).map_err(TrailError::io(&path))?;
    tell_gaps(last.as_deref(), frontier.size(), total - length, gaps);
    lines.set_len(length).map_err(TrailError::io(&path))?;
    let leaves_path = segment_file(directory, first, "leaves");
    replace(&leaves_path, &leaves).map_err(TrailError::io(&leaves_path))?;
    let segment = OpenSegment {
        first,
        lines,
        length,
        leaves_length: leaves.len() as u64,
        leaves: append_to(&leaves_path).map_err(TrailError::io(&leaves_path))?,
        path,
    };
    Ok((frontier, segment))
}

/// The tree of the entries before a segment.
fn restore(first: u64, nodes: &[Hash]) -> Option<Frontier> {
    let complete = usize::try_from(first / SUBTREE).ok()?;
    Frontier::restore(first, nodes.get(..complete)?, &[])
}

/// What the last process could not tell: a line that it did not write to its end, and that it did not end by itself.
fn tell_gaps(last: Option<&[u8]>, size: u64, torn: u64, gaps: &mut Vec<RecoveredGap>) {
    let Some(last) = last else { return };
    let text = String::from_utf8_lossy(last);
    let member = |name: &str| {
        let (_, rest) = text.split_once(&format!(",\"{name}\":\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let from = member("time").map(|time| format!(",\"from\":\"{time}\"")).unwrap_or_default();
    let after = size.saturating_sub(1);
    if torn > 0 {
        gaps.push(RecoveredGap {
            reason: "torn_tail",
            members: format!(",\"after_seq\":{after},\"bytes\":{torn}{from}"),
        });
    }
    if member("kind").as_deref() != Some("stop") {
        gaps.push(RecoveredGap {
            reason: "unclean_stop",
            members: format!(",\"after_seq\":{after}{from}"),
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
    Ok((frontier, segment))
}

/// Writes the hashes of the open segment's complete subtrees again.
fn write_nodes(nodes: &File, path: &Path, segment: &OpenSegment, directory: &Path, complete: u64) -> Result<(), TrailError> {
    let failed = || TrailError::io(path);
    let kept = segment.first / SUBTREE;
    nodes.set_len(kept * HASH_LEN as u64).map_err(failed())?;
    let leaves = read_hashes(&segment_file(directory, segment.first, "leaves"))?;
    let mut tree = Frontier::new();
    let added: Vec<u8> = leaves.iter().filter_map(|leaf| tree.push(*leaf)).flatten().collect();
    (&*nodes).write_all(&added).map_err(failed())?;
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

/// Cuts off a checkpoint that was not written to its end.
fn cut_torn_checkpoint(path: &Path) -> Result<(), TrailError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(TrailError::io(path)(error)),
    };
    let (_, whole) = notes(&text);
    append_to(path)
        .and_then(|file| file.set_len(whole as u64))
        .map_err(TrailError::io(path))
}

/// Cuts off a body that was not written to its end, and bodies of entries that are not there.
fn cut_bodies(path: &Path, size: u64) -> Result<(), TrailError> {
    let file = append_to(path).map_err(TrailError::io(path))?;
    let mut reader = BufReader::with_capacity(1 << 20, &file);
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(TrailError::io(path))?;
        let seq = line.strip_prefix(b"{\"seq\":").and_then(|rest| {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&rest[..digits]).ok()?.parse::<u64>().ok()
        });
        if line.last() != Some(&b'\n') || seq.is_none_or(|seq| seq >= size) {
            break;
        }
        whole += read as u64;
    }
    file.set_len(whole).map_err(TrailError::io(path))
}
