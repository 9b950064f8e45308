//! The file of leaves of a segment.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::PathBuf;

use super::super::tree::{HASH_LEN, Hash};

/// The leaves of a segment, with a little of what comes next.
pub(super) struct LeafReader {
    input: BufReader<File>,
    left: u64,
    /// Hashes that were read ahead.
    ahead: VecDeque<Hash>,
    /// How many were wanted that are not there.
    pub(super) short: u64,
    /// Whether the file does not end at the end of a hash.
    pub(super) odd: bool,
}

/// How far ahead a leaf is looked for, to tell removed entries from a changed number.
const LOOK_AHEAD: u64 = 4_096;

impl LeafReader {
    pub(super) fn open(path: &PathBuf) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            input: BufReader::new(file),
            left: length / HASH_LEN as u64,
            ahead: VecDeque::new(),
            short: 0,
            odd: !length.is_multiple_of(HASH_LEN as u64),
        })
    }

    pub(super) fn left(&self) -> u64 {
        self.left + self.ahead.len() as u64
    }

    fn read(&mut self) -> Option<Hash> {
        let mut hash = [0; HASH_LEN];
        self.left = self.left.checked_sub(1)?;
        self.input.read_exact(&mut hash).ok()?;
        Some(hash)
    }

    pub(super) fn next(&mut self) -> Option<Hash> {
        let next = self.ahead.pop_front().or_else(|| self.read());
        self.short += u64::from(next.is_none());
        next
    }

    /// Whether the leaf that many places ahead is this one.
    pub(super) fn has_ahead(&mut self, places: u64, leaf: &Hash) -> bool {
        if places > LOOK_AHEAD {
            return false;
        }
        while self.ahead.len() as u64 <= places {
            let Some(hash) = self.read() else { return false };
            self.ahead.push_back(hash);
        }
        usize::try_from(places).is_ok_and(|places| self.ahead.get(places) == Some(leaf))
    }
}
