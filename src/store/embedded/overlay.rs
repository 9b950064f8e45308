//! What redb writes to a file that cannot be written: it is kept in memory, so that look-ups go on.
//!
//! redb's own read-only mode would not do: it refuses a file that was not closed cleanly, and none is closed cleanly after
//! a write that failed.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use redb::StorageBackend;

/// Most memory of one overlay. While it opens a file, redb writes its header and the list of free pages: some kilobytes for
/// each gigabyte of the file.
const MAX_OVERLAY: usize = 64 * 1024 * 1024;

/// Bytes of one piece of an overlay.
const PIECE: usize = 4096;

/// The file as it is, with what a view wrote over it.
#[derive(Debug)]
pub(super) struct Overlay {
    pub(super) length: u64,
    /// Where the file's own bytes end; zeros follow.
    of_file: u64,
    pieces: HashMap<u64, Box<[u8; PIECE]>>,
}

impl Overlay {
    pub(super) fn over(file: &dyn StorageBackend) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self {
            length,
            of_file: length,
            pieces: HashMap::new(),
        })
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.length = length;
        self.of_file = self.of_file.min(length);
        self.pieces.retain(|number, _| number * (PIECE as u64) < length);
    }

    pub(super) fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(file, offset, out)?;
        for (number, within, part) in pieces(offset, out.len()) {
            let from = self.pieces.get(&number).and_then(|piece| piece.get(within));
            if let (Some(from), Some(to)) = (from, out.get_mut(part)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn read_file(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(self.of_file.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (of_file, beyond) = out.split_at_mut(there.min(out.len()));
        beyond.fill(0);
        if of_file.is_empty() { Ok(()) } else { file.read(offset, of_file) }
    }

    pub(super) fn write(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        self.length = self.length.max(offset.saturating_add(data.len() as u64));
        for (number, within, part) in pieces(offset, data.len()) {
            if !self.pieces.contains_key(&number) {
                if self.pieces.len() >= MAX_OVERLAY / PIECE {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                let mut piece = Box::new([0; PIECE]);
                self.read_file(file, number * PIECE as u64, piece.as_mut_slice())?;
                self.pieces.insert(number, piece);
            }
            let to = self.pieces.get_mut(&number).and_then(|piece| piece.get_mut(within));
            if let (Some(to), Some(from)) = (to, data.get(part)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}

/// The pieces that `length` bytes from `offset` on touch: for each its number, the range within it, and the range of those
/// bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset.saturating_add(done as u64);
        let within = usize::try_from(at % PIECE as u64).unwrap_or(0);
        let count = (PIECE - within).min(length - done);
        let next = (at / PIECE as u64, within..within + count, done..done + count);
        done += count;
        Some(next)
    })
}
