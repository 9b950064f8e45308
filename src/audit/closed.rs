//! Closed segments: gzip files that every program reads (`zcat`, DuckDB), made of members of at most 64 KiB of whole lines, so
//! that durward reads one entry without the rest.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::index::{BlockRow, IndexBuilder, SegmentIndex};

/// Most bytes of lines in one gzip member. Reading one entry inflates at most this much; smaller ones compress worse. A longer
/// line has a member of its own.
const BLOCK: usize = 64 * 1_024;

/// The head of each member: no name, no time, no flags, the least compression, system unknown (RFC 1952, section 2.3).
const MEMBER_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// CRC and length at the end of each member.
const MEMBER_TAIL: usize = 8;

/// Longest member that is read without an index: more cannot come of the longest line, however badly it compresses.
const MAX_MEMBER: usize = 256 * 1_024 * 1_024;

/// Compresses a segment that is not written to any more, makes its index, and removes the plain file. Stops with an
/// error when `is_over` says so. Nothing is lost where it stops, and a second call does the rest.
///
/// # Errors
/// When a file cannot be read or written, the last line has no end, or `is_over` said so. The plain file stands then.
pub(super) fn close_unless(jsonl: &Path, is_over: impl Fn() -> bool) -> io::Result<()> {
    let (zipped, index) = (zipped(jsonl), index_of(jsonl));
    let (new_zipped, new_index) = (new_name(&zipped), new_name(&index));
    let plain = File::open(jsonl)?;
    let written = plain.metadata()?.modified()?;
    let mut lines = BufReader::with_capacity(BLOCK, plain);
    let mut writer = MemberWriter::new(create(&new_zipped)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if is_over() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the process ends"));
        }
        if line.last() != Some(&b'\n') {
            return Err(invalid(jsonl, "its last line has no end"));
        }
        writer.add_line(&line)?;
    }
    let builder = writer.finish()?;
    let out = builder.write(BufWriter::new(create(&new_index)?))?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    // Retention goes by the time of the last line.
    File::open(&new_zipped)?.set_modified(written)?;
    // The index first: a reader that finds the compressed file finds its index too.
    fs::rename(&new_index, &index)?;
    fs::rename(&new_zipped, &zipped)?;
    sync_directory_of(jsonl)?;
    fs::remove_file(jsonl)?;
    sync_directory_of(jsonl)
}

/// Whether a closed segment and its index are byte for byte what [`close_unless`] made of the segment's lines.
///
/// # Errors
/// When a file cannot be read, or differs; the message names it.
pub fn check(zipped: &Path) -> io::Result<()> {
    let mut reader = MemberReader::open(zipped)?;
    let mut builder = IndexBuilder::default();
    let mut plain = Vec::new();
    loop {
        let at = reader.position;
        if !reader.next(&mut plain)? {
            break;
        }
        for line in plain.split_inclusive(|byte| *byte == b'\n') {
            let whole = line.strip_suffix(b"\n");
            builder.add_line(whole.ok_or_else(|| invalid(zipped, "a line goes beyond its block"))?)?;
        }
        builder.end_block(at, &reader.member, plain.len())?;
    }
    let index = index_of_closed(zipped);
    if builder.write(Vec::new())? == fs::read(&index)? {
        Ok(())
    } else {
        Err(invalid(&index, "it is not the index of its segment"))
    }
}

/// The compressed file of a plain one.
fn zipped(jsonl: &Path) -> PathBuf {
    with_added(jsonl, ".gz")
}

/// The index of a plain segment's compressed file.
fn index_of(jsonl: &Path) -> PathBuf {
    jsonl.with_extension("index")
}

/// The index of a compressed segment.
fn index_of_closed(zipped: &Path) -> PathBuf {
    index_of(&zipped.with_extension(""))
}

/// The name of a file until it is complete.
fn new_name(path: &Path) -> PathBuf {
    with_added(path, ".new")
}

fn with_added(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn invalid(path: &Path, how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {how}", path.display()))
}

/// Writes lines as members.
struct MemberWriter {
    out: BufWriter<File>,
    at: u64,
    block: Vec<u8>,
    member: Vec<u8>,
    compress: Compress,
    builder: IndexBuilder,
}

impl MemberWriter {
    fn new(out: File) -> Self {
        Self {
            out: BufWriter::new(out),
            at: 0,
            block: Vec::with_capacity(BLOCK),
            member: Vec::with_capacity(BLOCK),
            compress: Compress::new(Compression::fast(), false),
            builder: IndexBuilder::default(),
        }
    }

    /// Adds a line with its line feed.
    fn add_line(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.block.is_empty() && self.block.len() + line.len() > BLOCK {
            self.end_block()?;
        }
        self.block.extend_from_slice(line);
        self.builder.add_line(line.strip_suffix(b"\n").unwrap_or(line))
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.member.clear();
        self.member.extend_from_slice(&MEMBER_HEAD);
        self.compress.reset();
        loop {
            let taken = usize::try_from(self.compress.total_in()).unwrap_or(usize::MAX);
            let rest = self.block.get(taken..).unwrap_or_default();
            self.member.reserve(BLOCK / 2);
            if self.compress.compress_vec(rest, &mut self.member, FlushCompress::Finish)? == Status::StreamEnd {
                break;
            }
        }
        self.member.extend_from_slice(&member_tail(&self.block));
        self.out.write_all(&self.member)?;
        self.builder.end_block(self.at, &self.member, self.block.len())?;
        self.at += self.member.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Brings all to the disk.
    fn finish(mut self) -> io::Result<IndexBuilder> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(self.builder)
    }
}

fn member_tail(plain: &[u8]) -> [u8; MEMBER_TAIL] {
    let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    let both = u64::from(length) << 32 | u64::from(crc32fast::hash(plain));
    both.to_le_bytes()
}

/// Reads the members of a file in order, without an index.
#[derive(Debug)]
pub(super) struct MemberReader {
    file: BufReader<File>,
    path: PathBuf,
    position: u64,
    length: u64,
    /// The member that was read last, as it is in the file.
    member: Vec<u8>,
}

impl MemberReader {
    pub(super) fn open(zipped: &Path) -> io::Result<Self> {
        let file = File::open(zipped)?;
        Ok(Self {
            length: file.metadata()?.len(),
            file: BufReader::with_capacity(BLOCK, file),
            path: zipped.to_owned(),
            position: 0,
            member: Vec::new(),
        })
    }

    /// Puts the lines of the next member into `plain`; answers whether there was one.
    ///
    /// # Errors
    /// When what follows is no member that durward wrote.
    pub(super) fn next(&mut self, plain: &mut Vec<u8>) -> io::Result<bool> {
        plain.clear();
        self.member.clear();
        if self.position == self.length {
            return Ok(false);
        }
        let mut head = [0; MEMBER_HEAD.len()];
        self.file.read_exact(&mut head).map_err(|_| self.broken("it is cut off"))?;
        if head != MEMBER_HEAD {
            return Err(self.broken("it was not written by durward; what was compressed by hand is decompressed by hand"));
        }
        self.member.extend_from_slice(&head);
        let mut decompress = Decompress::new(false);
        loop {
            let bytes = self.file.fill_buf()?;
            if bytes.is_empty() {
                return Err(self.broken("it is cut off"));
            }
            let before = decompress.total_in();
            plain.reserve(BLOCK);
            let status = decompress.decompress_vec(bytes, plain, FlushDecompress::None);
            let used = usize::try_from(decompress.total_in() - before).unwrap_or(0);
            self.member.extend_from_slice(bytes.get(..used).unwrap_or_default());
            self.file.consume(used);
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok) if self.member.len() <= MAX_MEMBER && plain.len() <= MAX_MEMBER => {}
                _ => return Err(self.broken("a block does not decompress")),
            }
        }
        let mut tail = [0; MEMBER_TAIL];
        self.file.read_exact(&mut tail).map_err(|_| self.broken("it is cut off"))?;
        self.member.extend_from_slice(&tail);
        if tail != member_tail(plain) {
            return Err(self.broken("a block is damaged"));
        }
        self.position += self.member.len() as u64;
        Ok(true)
    }

    fn broken(&self, how: &str) -> io::Error {
        invalid(&self.path, &format!("{how}, from byte {}", self.position))
    }
}

/// A closed segment with its index.
#[derive(Debug)]
pub(crate) struct ClosedSegment {
    file: File,
    path: PathBuf,
    index: SegmentIndex,
}

impl ClosedSegment {
    /// Opens a compressed file and its index.
    ///
    /// # Errors
    /// When one of them cannot be read; the message names it.
    pub(crate) fn open(zipped: &Path) -> io::Result<Self> {
        let index = index_of_closed(zipped);
        let named = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        Ok(Self {
            file: File::open(zipped).map_err(named(zipped))?,
            path: zipped.to_owned(),
            index: SegmentIndex::open(&index).map_err(named(&index))?,
        })
    }

    pub(crate) const fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// Puts the lines of a block into `plain`.
    pub(crate) fn read(&self, block: &BlockRow, plain: &mut Vec<u8>) -> io::Result<()> {
        let damaged = || invalid(&self.path, &format!("the block at byte {} is damaged", block.at));
        let mut member = vec![0; block.length as usize];
        self.file.read_exact_at(&mut member, block.at).map_err(|_| damaged())?;
        if crc32fast::hash(&member) != block.crc {
            return Err(damaged());
        }
        let deflated = member
            .get(MEMBER_HEAD.len()..member.len().saturating_sub(MEMBER_TAIL))
            .unwrap_or_default();
        plain.clear();
        // One byte more, so that the end is met in one step.
        plain.reserve(block.plain as usize + 1);
        let status = Decompress::new(false).decompress_vec(deflated, plain, FlushDecompress::Finish);
        let whole = status.is_ok_and(|status| status == Status::StreamEnd) && plain.len() == block.plain as usize;
        if whole { Ok(()) } else { Err(damaged()) }
    }
}

/// Compresses a segment, without a way to stop it; see [`close_unless`].
///
/// # Errors
/// When a file cannot be read or written, or the last line has no end.
#[cfg(any(test, feature = "internals"))]
pub fn close(jsonl: &Path) -> io::Result<()> {
    close_unless(jsonl, || false)
}

#[cfg(test)]
mod tests;
