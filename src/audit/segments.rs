//! The segments of a directory and their lines, whoever reads them: `verify`, `query`, or a gateway that starts. Nothing here
//! writes, and a gateway may write to the directory meanwhile.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::closed::{ClosedSegment, MemberReader};
use super::files::DIGITS;

/// How often a directory is read because a segment in it seems to be missing. Before the second time nothing is waited for,
/// before each further one twice as long as before, in all a quarter of a second: the writer may be held up between two names.
const LISTINGS: u32 = 8;

/// Longest line that is read. Those of the trail are below 64 KiB; those of bodies are bounded by the settings.
const MAX_LINE: u64 = 256 * 1_024 * 1_024;

/// The segments of one kind in a directory, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    directory: PathBuf,
    list: Vec<SegmentFile>,
    foreign: Vec<PathBuf>,
    missing: Vec<PathBuf>,
}

impl Segments {
    /// The segments of the trail.
    ///
    /// # Errors
    /// When the directory cannot be read; the message names it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Self::of_kind(directory, "trail-")
    }

    /// The segments of bodies.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn bodies(directory: &Path) -> io::Result<Self> {
        Self::of_kind(directory, "bodies-")
    }

    /// A directory that is read while a file in it gets another name may show the file under neither name, and a segment that
    /// begins gets the names of its two files one after the other. Then what belongs to the segment is there and the segment is
    /// not, so the directory is read again.
    fn of_kind(directory: &Path, prefix: &str) -> io::Result<Self> {
        let mut segments = Self::list_once(directory, prefix)?;
        for before in 1..LISTINGS {
            if segments.missing.is_empty() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis((1 << before) - 2));
            segments = Self::list_once(directory, prefix)?;
        }
        Ok(segments)
    }

    fn list_once(directory: &Path, prefix: &str) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", directory.display()));
        let mut list: Vec<SegmentFile> = Vec::new();
        let mut foreign = Vec::new();
        let mut leaves: Vec<(u64, PathBuf)> = Vec::new();
        for file in fs::read_dir(directory).map_err(named)? {
            let path = file.map_err(named)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(rest) = name.strip_prefix(prefix) else {
                continue;
            };
            let Some((number, kind)) = rest.split_once('.').filter(|(number, _)| number.len() == DIGITS) else {
                foreign.push(path);
                continue;
            };
            let form = match kind {
                "jsonl" => SegmentForm::Plain,
                "jsonl.gz" => SegmentForm::Closed,
                "leaves" => {
                    leaves.extend(number.parse().ok().map(|first| (first, path)));
                    continue;
                }
                // What belongs to a segment, and files on their way to a name.
                "index" | "checkpoints" => continue,
                _ if kind.ends_with(".new") => continue,
                _ => {
                    foreign.push(path);
                    continue;
                }
            };
            match number.parse() {
                Ok(first) => list.push(SegmentFile { first, path, form }),
                Err(_) => foreign.push(path),
            }
        }
        // Of a segment that is just being closed, both files may be there. The plain one is whole.
        list.sort_by_key(|file| (file.first, file.form));
        list.dedup_by_key(|file| file.first);
        foreign.sort();
        // Of segments that are no longer kept, which are the oldest, the leaves go last.
        let oldest = list.first().map_or(u64::MAX, |file| file.first);
        leaves.sort();
        leaves.retain(|(first, _)| *first > oldest && list.binary_search_by_key(first, |file| file.first).is_err());
        Ok(Self {
            directory: directory.to_owned(),
            list,
            foreign,
            missing: leaves.into_iter().map(|(_, path)| path).collect(),
        })
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The segments, the oldest first.
    #[must_use]
    pub fn list(&self) -> &[SegmentFile] {
        &self.list
    }

    /// Files that have the name of a segment nearly, and are none.
    #[must_use]
    pub fn foreign(&self) -> &[PathBuf] {
        &self.foreign
    }

    /// Hashes of segments that should be there and are not.
    #[must_use]
    pub fn missing(&self) -> &[PathBuf] {
        &self.missing
    }

    /// Only the segments in which these entries lie.
    #[must_use]
    pub fn of_seqs(&self, seqs: &[u64]) -> Self {
        let firsts: Vec<u64> = seqs.iter().filter_map(|seq| Some(self.of_seq(*seq)?.first)).collect();
        let mut only = self.clone();
        only.list.retain(|file| firsts.contains(&file.first));
        only
    }

    /// The segment in which an entry lies, if any does.
    #[must_use]
    pub fn of_seq(&self, seq: u64) -> Option<&SegmentFile> {
        self.list.iter().rev().find(|file| file.first <= seq)
    }

    /// The entries that no file has between two segments.
    #[must_use]
    pub fn missing_entries(&self) -> Vec<MissingEntries> {
        let pairs = self.list.iter().zip(self.list.iter().skip(1));
        let missing = pairs.filter_map(|(file, next)| {
            let end = file.first + file.count_lines();
            (end != next.first).then(|| MissingEntries {
                first: end.min(next.first),
                last: end.max(next.first).saturating_sub(1),
                before: next.open_closed().ok().map(|segment| segment.index().times().last),
            })
        });
        missing.collect()
    }

    /// All lines of all segments in order. A segment that cannot be read further gives one error, and the next one follows.
    #[cfg(test)]
    pub fn lines(&self) -> impl Iterator<Item = io::Result<SegmentLine>> {
        self.list.iter().flat_map(|file| {
            let (lines, error) = match file.lines() {
                Ok(lines) => (Some(lines), None),
                Err(error) => (None, Some(Err(error))),
            };
            error.into_iter().chain(lines.into_iter().flatten())
        })
    }
}

/// Entries that should lie between two segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingEntries {
    pub first: u64,
    pub last: u64,
    /// The newest time of the segment after them, where it is closed.
    pub before: Option<i64>,
}

/// How the lines of a segment lie on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentForm {
    /// Written to, or about to be closed.
    Plain,
    Closed,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    first: u64,
    path: PathBuf,
    form: SegmentForm,
}

impl SegmentFile {
    /// The number in its name: of its first entry.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    #[must_use]
    pub const fn form(&self) -> SegmentForm {
        self.form
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The compressed file, which takes the place of the plain one when a gateway closes the segment.
    fn closed_path(&self) -> PathBuf {
        match self.form {
            SegmentForm::Plain => self.path.with_extension("jsonl.gz"),
            SegmentForm::Closed => self.path.clone(),
        }
    }

    /// Its lines in order.
    ///
    /// # Errors
    /// When its file cannot be opened; the message names it.
    pub fn lines(&self) -> io::Result<SegmentLines> {
        let source = match self.open_plain()? {
            Some(file) => LineSource::Plain(BufReader::with_capacity(1 << 16, file)),
            None => LineSource::Closed {
                members: self.members()?,
                plain: Vec::new(),
                next: 0,
            },
        };
        Ok(SegmentLines {
            source,
            segment: self.clone(),
            next: 0,
            torn: 0,
            ended: false,
        })
    }

    /// The plain file; `None` where the segment is closed, also since the directory was read.
    pub(crate) fn open_plain(&self) -> io::Result<Option<File>> {
        if self.form == SegmentForm::Closed {
            return Ok(None);
        }
        match File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.closed_path().exists() => Ok(None),
            Err(error) => Err(self.named(&error)),
        }
    }

    /// The blocks of the closed segment, without its index.
    pub(super) fn members(&self) -> io::Result<MemberReader> {
        MemberReader::open(&self.closed_path()).map_err(|error| self.named(&error))
    }

    /// The closed segment with its index.
    pub(crate) fn open_closed(&self) -> io::Result<ClosedSegment> {
        ClosedSegment::open(&self.closed_path())
    }

    /// How many lines it has, as far as it can be read.
    fn count_lines(&self) -> u64 {
        if self.form == SegmentForm::Closed
            && let Ok(segment) = self.open_closed()
        {
            return u64::from(segment.index().lines());
        }
        let count = self.lines().map_or(0, |lines| lines.take_while(Result::is_ok).count());
        count.try_into().unwrap_or(u64::MAX)
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

/// A line of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLine {
    /// Its number within the segment, from 0. In a whole trail its `seq` is this after the segment's first one.
    pub number: u64,
    /// The segment's first `seq`.
    pub segment: u64,
    /// Without the line feed.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
enum LineSource {
    Plain(BufReader<File>),
    Closed {
        members: MemberReader,
        plain: Vec<u8>,
        next: usize,
    },
}

/// The lines of one segment in order. After an error nothing follows.
#[derive(Debug)]
pub struct SegmentLines {
    source: LineSource,
    segment: SegmentFile,
    next: u64,
    torn: usize,
    ended: bool,
}

impl SegmentLines {
    /// How many bytes follow the last whole line: a line that is being written, or was when the gateway died.
    #[cfg(test)]
    #[must_use]
    pub const fn torn(&self) -> usize {
        self.torn
    }

    fn read(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        match &mut self.source {
            LineSource::Plain(file) => {
                file.by_ref().take(MAX_LINE).read_until(b'\n', line)?;
                if line.len() as u64 == MAX_LINE {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
                }
                if line.pop_if(|last| *last == b'\n').is_some() {
                    return Ok(true);
                }
                self.torn = line.len();
                Ok(false)
            }
            LineSource::Closed { members, plain, next } => {
                if *next >= plain.len() {
                    *next = 0;
                    if !members.next(plain)? {
                        return Ok(false);
                    }
                }
                let rest = plain.get(*next..).unwrap_or_default();
                let Some(length) = memchr::memchr(b'\n', rest) else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line goes beyond its block"));
                };
                line.extend_from_slice(rest.get(..length).unwrap_or_default());
                *next += length + 1;
                Ok(true)
            }
        }
    }
}

impl Iterator for SegmentLines {
    type Item = io::Result<SegmentLine>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut bytes = Vec::new();
        match self.read(&mut bytes) {
            Ok(true) => {
                let number = self.next;
                self.next += 1;
                Some(Ok(SegmentLine {
                    number,
                    segment: self.segment.first,
                    bytes,
                }))
            }
            Ok(false) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(self.segment.named(&error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::closed::close;
    use super::*;

    fn line(seq: u64) -> String {
        format!("{{\"seq\":{seq},\"kind\":\"request\",\"path\":\"{}\"}}", "x".repeat(300))
    }

    /// A directory with segments of these numbers of entries.
    fn directory(counts: &[u64]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let mut seq = 0;
        for count in counts {
            let text: String = (seq..seq + count).map(|seq| line(seq) + "\n").collect();
            fs::write(directory.path().join(format!("trail-{seq:020}.jsonl")), text).unwrap();
            seq += count;
        }
        directory
    }

    fn read(segments: &Segments) -> Vec<String> {
        let lines = segments.lines().map(|line| String::from_utf8(line.unwrap().bytes).unwrap());
        lines.collect()
    }

    #[test]
    fn lines_of_open_and_closed_segments_come_in_order() {
        let directory = directory(&[512, 1_024, 3]);
        let open = Segments::open(directory.path()).unwrap();
        let expected: Vec<String> = (0..1_539).map(line).collect();
        assert_eq!(read(&open), expected);
        for file in &open.list()[..2] {
            close(file.path()).unwrap();
        }
        // Whoever has read the directory before finds the closed ones all the same.
        assert_eq!(read(&open), expected);
        let closed = Segments::open(directory.path()).unwrap();
        assert_eq!(read(&closed), expected);
        let forms: Vec<_> = closed.list().iter().map(SegmentFile::form).collect();
        assert_eq!(forms, [SegmentForm::Closed, SegmentForm::Closed, SegmentForm::Plain]);
        assert_eq!(closed.of_seq(511).unwrap().first(), 0);
        assert_eq!(closed.of_seq(512).unwrap().first(), 512);
        let last = closed.lines().last().unwrap().unwrap();
        assert_eq!((last.segment, last.number), (1_536, 2));
    }

    #[test]
    fn a_torn_last_line_is_no_entry() {
        let directory = directory(&[2]);
        let segments = Segments::open(directory.path()).unwrap();
        let path = segments.list()[0].path();
        let mut text = fs::read(path).unwrap();
        text.extend_from_slice(b"{\"seq\":2,\"ki");
        fs::write(path, text).unwrap();
        let mut lines = segments.list()[0].lines().unwrap();
        assert_eq!(lines.by_ref().count(), 2);
        assert_eq!(lines.torn(), 12);
    }

    #[test]
    fn while_a_segment_is_being_closed_its_plain_file_counts() {
        let directory = directory(&[256]);
        let plain = directory.path().join("trail-00000000000000000000.jsonl");
        let text = fs::read(&plain).unwrap();
        close(&plain).unwrap();
        fs::write(&plain, text).unwrap();
        fs::write(directory.path().join("trail-00000000000000000000.jsonl.gz.new"), b"half").unwrap();
        let segments = Segments::open(directory.path()).unwrap();
        assert_eq!(segments.list().len(), 1);
        assert_eq!(segments.list()[0].form(), SegmentForm::Plain);
        assert_eq!(segments.foreign(), [] as [PathBuf; 0]);
    }

    #[test]
    fn foreign_names_are_listed_and_not_read() {
        let directory = directory(&[1]);
        for name in [
            "trail-1.jsonl",
            "trail-0000000000000000000x.jsonl",
            "trail-00000000000000000000.jsonl.bz2",
        ] {
            fs::write(directory.path().join(name), b"x").unwrap();
        }
        fs::write(directory.path().join("bodies-00000000000000000000.jsonl"), b"").unwrap();
        fs::write(directory.path().join("trail-00000000000000000000.leaves"), b"").unwrap();
        let segments = Segments::open(directory.path()).unwrap();
        assert_eq!(segments.list().len(), 1);
        assert_eq!(segments.foreign().len(), 3);
        assert_eq!(Segments::bodies(directory.path()).unwrap().list().len(), 1);
    }

    #[test]
    fn a_damaged_segment_is_named_and_the_next_one_follows() {
        let directory = directory(&[256, 256]);
        let segments = Segments::open(directory.path()).unwrap();
        close(segments.list()[0].path()).unwrap();
        let path = directory.path().join("trail-00000000000000000000.jsonl.gz");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (lines, errors): (Vec<_>, Vec<_>) = Segments::open(directory.path()).unwrap().lines().partition(Result::is_ok);
        assert!(lines.len() >= 256);
        assert_eq!(errors.len(), 1);
        let text = errors[0].as_ref().unwrap_err().to_string();
        assert!(text.contains("trail-00000000000000000000.jsonl.gz"), "{text}");
    }

    #[test]
    fn entries_that_no_file_has_are_counted() {
        let directory = directory(&[256, 256, 256, 3]);
        let whole = Segments::open(directory.path()).unwrap();
        assert_eq!(whole.missing_entries(), []);
        close(whole.list()[2].path()).unwrap();
        assert_eq!(Segments::open(directory.path()).unwrap().missing_entries(), []);
        fs::remove_file(whole.list()[1].path()).unwrap();
        let missing = Segments::open(directory.path()).unwrap().missing_entries();
        assert_eq!(missing.len(), 1);
        assert_eq!((missing[0].first, missing[0].last), (256, 511));
    }

    #[test]
    fn a_directory_that_is_none_is_named() {
        let error = Segments::open(Path::new("/nowhere/audit")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/audit: "), "{error}");
    }
}
