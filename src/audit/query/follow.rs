//! New entries as they are written.

use std::io;
use std::path::Path;

use super::{EntryOrder, EntryQuery, FoundEntry, Matches, PlainChunks, lines_of};
use crate::audit::fields::EntryFields;
use crate::audit::segments::{SegmentFile, Segments};

/// Reads what is added to a trail, through the change of its segments.
#[derive(Debug)]
pub struct Follower {
    next: u64,
    /// The segment that was read last, and how many of its bytes.
    segment: u64,
    bytes: u64,
}

impl Follower {
    /// Begins after the newest entry.
    #[must_use]
    pub fn new(segments: &Segments) -> Self {
        let newest = Matches::new(segments, &EntryQuery::default()).next();
        Self {
            next: newest.map_or_else(|| segments.list().first().map_or(0, SegmentFile::first), |entry| entry.seq + 1),
            segment: 0,
            bytes: 0,
        }
    }

    /// The entries that were added since the last call and are wanted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn poll(&mut self, directory: &Path, query: &EntryQuery) -> io::Result<Vec<FoundEntry>> {
        let mut found = Vec::new();
        let segments = Segments::open(directory)?;
        if let Some(first) = segments.list().first().filter(|file| file.first() > self.next) {
            // Retention was faster than this reader.
            self.next = first.first();
        }
        let from = segments.of_seq(self.next).map_or(u64::MAX, SegmentFile::first);
        for file in segments.list().iter().filter(|file| file.first() >= from) {
            if self.segment != file.first() {
                (self.segment, self.bytes) = (file.first(), 0);
            }
            match file.open_plain()? {
                Some(plain) => {
                    let mut chunks = PlainChunks::new(plain, EntryOrder::OldestFirst)?;
                    chunks.begin = self.bytes;
                    let mut text = Vec::new();
                    while let Some(lines) = chunks.next(&mut text)? {
                        self.bytes += lines.len() as u64;
                        let lines = text.get(lines).unwrap_or_default();
                        lines_of(lines).for_each(|line| self.take(line, query, &mut found));
                    }
                }
                None => {
                    for line in file.lines()? {
                        self.take(&line?.bytes, query, &mut found);
                    }
                }
            }
        }
        Ok(found)
    }

    fn take(&mut self, line: &[u8], query: &EntryQuery, found: &mut Vec<FoundEntry>) {
        let Some(fields) = EntryFields::of_line(line).filter(|fields| fields.seq >= self.next) else {
            return;
        };
        self.next = fields.seq + 1;
        if query.wants(&fields) {
            found.push(FoundEntry {
                seq: fields.seq,
                time: fields.millis().unwrap_or(i64::MIN),
                line: String::from_utf8_lossy(line).into_owned(),
            });
        }
    }
}
