//! Proves that an entry stands in a trail, to somebody who has only the verifier key: a C2SP `tlog-proof` with the entry, its
//! inclusion proof and a signed checkpoint.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{Checkpoint, CheckpointVerifier, InvalidCheckpoint};
use super::fields::EntryFields;
use super::query::{EntryOrder, EntryQuery, Matches};
use super::segments::Segments;
use super::tree::{HASH_LEN, Hash, SUBTREE, SUBTREE_LEVEL, inclusion_proof, leaf_hash, node_hash, verify_inclusion};

/// The first line of a proof.
pub const PROOF_HEAD: &str = "c2sp.org/tlog-proof@v1";

/// Why an entry cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("`{0}` cannot be read: {1}")]
    Io(PathBuf, #[source] io::Error),
    #[error("`{0}` is not the checkpoint of this trail: {1}; run: durward audit verify")]
    WrongCheckpoint(PathBuf, #[source] InvalidCheckpoint),
    #[error("entry {0} is not signed yet: a checkpoint is made every few seconds (`audit.checkpoint`) while the gateway runs")]
    NotSigned(u64),
    #[error("entry {0} is not the one that was signed, or files beside the trail are damaged; run: durward audit verify")]
    Broken(u64),
}

/// Proves entries of one trail by its newest checkpoint.
#[derive(Debug)]
pub struct Prover {
    directory: PathBuf,
    note: String,
    signed: Checkpoint,
    nodes: Option<File>,
    /// The numbers of the segments, ascending.
    segments: Vec<u64>,
}

impl Prover {
    /// Opens a trail.
    ///
    /// # Errors
    /// When it cannot be read or its newest checkpoint does not hold.
    pub fn open(directory: &Path, key: &CheckpointVerifier) -> Result<Self, ProofError> {
        let path = directory.join("checkpoint");
        let note = std::fs::read_to_string(&path).map_err(|error| ProofError::Io(path.clone(), error))?;
        let signed = key.verify(&note).map_err(|invalid| ProofError::WrongCheckpoint(path, invalid))?;
        let mut segments = Vec::new();
        let failed = |error| ProofError::Io(directory.to_owned(), error);
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number: Option<u64> = name
                .to_str()
                .and_then(|name| name.strip_prefix("trail-")?.strip_suffix(".leaves")?.parse().ok());
            segments.extend(number);
        }
        segments.sort_unstable();
        Ok(Self {
            directory: directory.to_owned(),
            note,
            signed,
            nodes: File::open(directory.join("nodes")).ok(),
            segments,
        })
    }

    /// How many entries its checkpoint covers.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.signed.size
    }

    /// The proof of an entry, given its line without the line feed.
    ///
    /// # Errors
    /// When no checkpoint covers it yet, or the trail is broken.
    pub fn prove(&self, seq: u64, line: &[u8]) -> Result<String, ProofError> {
        let size = self.signed.size;
        if seq >= size {
            return Err(ProofError::NotSigned(seq));
        }
        let path = inclusion_proof(seq, size, |level, index| self.node(level, index)).ok_or(ProofError::Broken(seq))?;
        // Whatever is handed out holds.
        if !verify_inclusion(seq, size, &leaf_hash(line), &path, &self.signed.root) {
            return Err(ProofError::Broken(seq));
        }
        let mut proof = format!("{PROOF_HEAD}\nextra {}\nindex {seq}\n", STANDARD.encode(line));
        for hash in path {
            let _ = writeln!(proof, "{}", STANDARD.encode(hash));
        }
        let _ = write!(proof, "\n{}", self.note);
        Ok(proof)
    }

    /// The hash of a complete subtree, from `nodes` and from the leaves of the segments.
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        if level >= SUBTREE_LEVEL {
            let subtrees = 1_u64 << (level - SUBTREE_LEVEL);
            return above(read_hashes(self.nodes.as_ref()?, index * subtrees, subtrees)?);
        }
        let leaves = 1_u64 << level;
        let first = index * leaves;
        // Segments begin at whole subtrees, so no smaller subtree stands in two of them.
        let segment = self.segments[..self.segments.partition_point(|begin| *begin <= first)].last()?;
        let file = File::open(self.directory.join(format!("trail-{segment:020}.leaves"))).ok()?;
        above(read_hashes(&file, first - segment, leaves)?)
    }
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedEntry {
    pub seq: u64,
    /// Without the line feed.
    pub line: Vec<u8>,
}

/// Most entries that one request has.
const MAX_ENTRIES: usize = 16;

/// What a trail has of a request.
#[derive(Debug)]
pub struct RequestEntries {
    /// In the order of their numbers.
    pub entries: Vec<PlacedEntry>,
    /// What could not be read, for people. Entries may be missing because of it.
    pub problems: Vec<String>,
}

/// Finds the entries of a request by the indexes of the trail. They are no evidence; what is found here is proven by the tree.
///
/// # Errors
/// When the directory cannot be read.
pub fn entries_of_request(directory: &Path, request_id: &str) -> io::Result<RequestEntries> {
    let query = EntryQuery {
        request: Some(request_id.to_owned()),
        order: EntryOrder::OldestFirst,
        ..EntryQuery::default()
    };
    let segments = Segments::open(directory)?;
    let mut matches = Matches::new(&segments, &query);
    let found = matches.by_ref().filter(|entry| is_of_request(&entry.line)).take(MAX_ENTRIES);
    let entries = found.map(|entry| PlacedEntry {
        seq: entry.seq,
        line: entry.line.into_bytes(),
    });
    Ok(RequestEntries {
        entries: entries.collect(),
        problems: matches.problems().to_vec(),
    })
}

/// Whether it is an entry that the request made, and not one about it.
fn is_of_request(line: &str) -> bool {
    let fields = EntryFields::of_line(line.as_bytes());
    fields.is_some_and(|fields| fields.kind.is_some_and(|kind| matches!(kind.as_str(), "request" | "answered")))
}

/// Reads hashes by their place in a file.
fn read_hashes(file: &File, first: u64, count: u64) -> Option<Vec<Hash>> {
    let length = usize::try_from(count).ok()?.checked_mul(HASH_LEN)?;
    // More than the file has is never allocated.
    let end = first.checked_add(count)?.checked_mul(HASH_LEN as u64)?;
    if file.metadata().ok()?.len() < end {
        return None;
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, first * HASH_LEN as u64).ok()?;
    Some(bytes.as_chunks::<HASH_LEN>().0.to_vec())
}

/// The node above a power of two of nodes.
fn above(mut nodes: Vec<Hash>) -> Option<Hash> {
    while nodes.len() > 1 {
        nodes = nodes
            .chunks(2)
            .filter_map(|pair| Some(node_hash(pair.first()?, pair.get(1)?)))
            .collect();
    }
    nodes.pop()
}

const _: () = assert!(SUBTREE == 1 << SUBTREE_LEVEL);
