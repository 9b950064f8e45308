//! Reads a segment that is written to, a piece at a time.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::super::fields::EntryFields;
use super::EntryOrder;

/// Bytes that are read at once.
pub(super) const CHUNK: u64 = 1_024 * 1_024;

/// Longest line. A longer one means that the file is no segment.
const MAX_LINE: u64 = 256 * 1_024 * 1_024;

/// Enough for the rest of one line and the whole of the next: lines are below 64 KiB.
const LINE_WINDOW: u64 = 2 * 64 * 1_024;

/// What was found where a line of a plain segment was looked for.
#[derive(Debug, Clone, Copy)]
enum LineSearch {
    Line { begin: u64, end: u64, seq: u64 },
    None,
    Unreadable,
}

/// Whole lines of a plain segment, from its end or from its beginning.
#[derive(Debug)]
pub(in crate::audit) struct PlainChunks {
    file: File,
    order: EntryOrder,
    pub(super) begin: u64,
    end: u64,
    /// Whether what stands before `end` may be a line that is not complete.
    torn: bool,
    /// Whether the file was seen to end with such a line.
    pub(super) is_torn: bool,
}

impl PlainChunks {
    /// Reads the file from its end.
    pub(in crate::audit) fn from_the_end(file: File) -> io::Result<Self> {
        Self::new(file, EntryOrder::NewestFirst)
    }

    pub(super) fn new(file: File, order: EntryOrder) -> io::Result<Self> {
        Ok(Self {
            begin: 0,
            end: file.metadata()?.len(),
            file,
            order,
            torn: true,
            is_torn: false,
        })
    }

    /// Ends before the line of this entry, found by halving, since lines are in the order of their numbers.
    pub(super) fn end_before(&mut self, seq: u64) -> io::Result<()> {
        // Lines that begin before `low` are of smaller numbers; those that begin at `high` or later are not.
        let (mut low, mut high) = (0, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.line_from(middle)? {
                LineSearch::Line { begin, end, seq: own } if begin < high && own < seq => low = end,
                LineSearch::Line { .. } | LineSearch::None => high = middle,
                // The order of the lines is not known, so all of them are looked at.
                LineSearch::Unreadable => return Ok(()),
            }
        }
        self.end = low;
        Ok(())
    }

    /// The first whole line that begins here or later.
    fn line_from(&self, at: u64) -> io::Result<LineSearch> {
        let from = at.saturating_sub(1);
        let whole = self.end - from <= LINE_WINDOW;
        let mut text = vec![0; usize::try_from((self.end - from).min(LINE_WINDOW)).unwrap_or(0)];
        self.file.read_exact_at(&mut text, from)?;
        let begin = match at {
            0 => Some(0),
            _ => memchr::memchr(b'\n', &text).map(|feed| feed + 1),
        };
        let rest = begin.and_then(|begin| text.get(begin..)).unwrap_or_default();
        let line = memchr::memchr(b'\n', rest).and_then(|length| rest.get(..length));
        let Some((begin, line)) = begin.zip(line) else {
            return Ok(if whole { LineSearch::None } else { LineSearch::Unreadable });
        };
        let begin = from + begin as u64;
        Ok(
            EntryFields::of_line(line).map_or(LineSearch::Unreadable, |fields| LineSearch::Line {
                begin,
                end: begin + line.len() as u64 + 1,
                seq: fields.seq,
            }),
        )
    }

    /// Reads the next piece into `text`. Answers where in it whole lines stand.
    pub(in crate::audit) fn next(&mut self, text: &mut Vec<u8>) -> io::Result<Option<Range<usize>>> {
        let mut size = CHUNK;
        while self.begin < self.end && size <= MAX_LINE {
            let length = size.min(self.end - self.begin);
            let whole = length == self.end - self.begin;
            let at = match self.order {
                EntryOrder::NewestFirst => self.end - length,
                EntryOrder::OldestFirst => self.begin,
            };
            text.resize(usize::try_from(length).unwrap_or(0), 0);
            if let Err(error) = self.file.read_exact_at(text, at) {
                self.end = self.begin;
                return Err(error);
            }
            let lines = match self.order {
                EntryOrder::NewestFirst => self.lines_before_end(text, at, whole),
                EntryOrder::OldestFirst => self.lines_from_begin(text, whole),
            };
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
            size *= 4;
        }
        let left = self.begin < self.end;
        self.end = self.begin;
        if left {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has a line without an end"));
        }
        Ok(None)
    }

    fn lines_from_begin(&mut self, text: &[u8], whole: bool) -> Range<usize> {
        let last = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
        self.begin += last as u64;
        if last == 0 && whole {
            self.is_torn = !text.is_empty();
            self.begin = self.end;
        }
        0..last
    }

    fn lines_before_end(&mut self, text: &[u8], at: u64, whole: bool) -> Range<usize> {
        let first = if whole {
            0
        } else {
            memchr::memchr(b'\n', text).map_or(0, |at| at + 1)
        };
        let last = match self.torn {
            true => memchr::memrchr(b'\n', text).map_or(0, |at| at + 1),
            false => text.len(),
        };
        if first < last || whole {
            self.is_torn |= self.torn && last < text.len();
            self.torn = false;
            self.end = at + first as u64;
        }
        if whole {
            self.end = self.begin;
        }
        first.min(last)..last
    }
}
