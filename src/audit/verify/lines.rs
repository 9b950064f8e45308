//! Reads the lines of a trail with a bound, and what each line begins with.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use crate::audit::closed::MemberReader;

/// Longest line of a body: the largest body that may be captured, each byte escaped.
pub(super) const MAX_BODY: usize = 64 * 1024 * 1024;

/// What a reader finds next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// A whole line.
    Whole,
    /// A line that is longer than a line may be; the rest of it is skipped.
    TooLong,
    /// Bytes without a line feed at the end of the file.
    Torn,
    /// Nothing more.
    Nothing,
}

/// The lines of one file.
pub(super) struct LineReader {
    input: Box<dyn BufRead>,
    max: usize,
    /// The line that was read last, without its line feed.
    pub(super) line: Vec<u8>,
}

impl LineReader {
    pub(super) fn open(path: &Path, max: usize) -> io::Result<Self> {
        let closed = path.extension().is_some_and(|ending| ending == "gz");
        Ok(Self {
            input: if closed {
                Box::new(ClosedLines {
                    members: MemberReader::open(path)?,
                    plain: Vec::new(),
                    at: 0,
                })
            } else {
                Box::new(BufReader::with_capacity(64 * 1024, File::open(path)?))
            },
            max,
            line: Vec::new(),
        })
    }

    /// Reads the next line into `line`.
    pub(super) fn next(&mut self) -> io::Result<LineEnd> {
        self.line.clear();
        let bound = u64::try_from(self.max).unwrap_or(u64::MAX).saturating_add(1);
        let read = self.input.by_ref().take(bound).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(LineEnd::Nothing);
        }
        if self.line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(LineEnd::Whole);
        }
        if self.line.len() <= self.max {
            return Ok(LineEnd::Torn);
        }
        self.skip_line()?;
        Ok(LineEnd::TooLong)
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.input.fill_buf()?;
            let end = memchr::memchr(b'\n', bytes);
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() || used == 0 {
                return Ok(());
            }
        }
    }
}

/// What a closed segment decompresses to.
struct ClosedLines {
    members: MemberReader,
    plain: Vec<u8>,
    at: usize,
}

impl io::Read for ClosedLines {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for ClosedLines {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.plain.len() {
            self.at = 0;
            if !self.members.next(&mut self.plain)? {
                self.plain.clear();
                break;
            }
        }
        Ok(self.plain.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, used: usize) {
        self.at += used;
    }
}

/// Whether two files have the same lines.
pub(super) fn same_lines(one: &Path, other: &Path, max: usize) -> io::Result<bool> {
    let (mut one, mut other) = (LineReader::open(one, max)?, LineReader::open(other, max)?);
    loop {
        let ends = (one.next()?, other.next()?);
        if ends == (LineEnd::Nothing, LineEnd::Nothing) {
            return Ok(true);
        }
        if ends != (LineEnd::Whole, LineEnd::Whole) || one.line != other.line {
            return Ok(false);
        }
    }
}

/// What every entry begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineHead<'a> {
    pub(super) seq: u64,
    pub(super) gateway: &'a str,
    pub(super) time: &'a str,
    pub(super) kind: &'a str,
}

impl<'a> LineHead<'a> {
    /// `{"seq":N,"gateway":"…","time":"…","kind":"…"`, in this order, and a line of ASCII that ends with `}`.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        if !line.is_ascii() || line.last() != Some(&b'}') {
            return None;
        }
        let line = str::from_utf8(line).ok()?;
        let (number, rest) = line.strip_prefix("{\"seq\":")?.split_once(',')?;
        let plain = number.bytes().all(|b| b.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
        let seq = number.parse().ok().filter(|_| plain)?;
        let (gateway, rest) = rest.strip_prefix("\"gateway\":\"")?.split_once('"')?;
        let (time, rest) = rest.strip_prefix(",\"time\":\"")?.split_once('"')?;
        let (kind, _) = rest.strip_prefix(",\"kind\":\"")?.split_once('"')?;
        Some(Self { seq, gateway, time, kind })
    }
}
