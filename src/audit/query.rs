//! Questions to a trail: which entries have a tenant, a credential, a request id. Closed segments are asked by their indexes,
//! and only blocks with such entries are read.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::vec;

use super::closed::{ClosedSegment, MemberReader};
use super::fields::{EntryFields, LineText};
use super::index::{BlockRow, TermField, UNREADABLE};
use super::segments::{SegmentFile, SegmentForm, Segments};

/// Bytes that are read at once of a segment that is written to.
const CHUNK: u64 = 1_024 * 1_024;

/// Longest line in such a segment. A longer one means that the file is no segment.
const MAX_LINE: u64 = 256 * 1_024 * 1_024;

/// Ends the problem of a segment whose index is of no use. Nothing of it is missing in the answer.
pub(crate) const READ_WHOLE: &str = "the segment was read whole";

/// Which statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFilter {
    Exact(u16),
    /// The first digit.
    Class(u16),
}

/// Which entries come first, in the order in which they were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryOrder {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// What entries must have; all of it.
#[derive(Debug, Clone, Default)]
pub struct EntryQuery {
    pub request: Option<String>,
    /// Of a request, or of who acted.
    pub credential: Option<String>,
    /// A record that was made or changed, by an operator or by a served route.
    pub target: Option<String>,
    pub tenant: Option<String>,
    pub client: Option<String>,
    pub denial: Option<String>,
    pub route: Option<String>,
    pub kind: Option<String>,
    pub status: Option<StatusFilter>,
    /// In milliseconds since 1970.
    pub since: Option<i64>,
    /// The first time that is not meant any more.
    pub until: Option<i64>,
    pub order: EntryOrder,
}

impl EntryQuery {
    /// What an index is asked for.
    fn terms(&self) -> Vec<(TermField, String)> {
        let texts = [
            (TermField::Request, &self.request),
            (TermField::Credential, &self.credential),
            (TermField::Target, &self.target),
            (TermField::Tenant, &self.tenant),
            (TermField::Client, &self.client),
            (TermField::Denial, &self.denial),
            (TermField::Route, &self.route),
            (TermField::Kind, &self.kind),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some((field, text.clone()?)));
        // Requests have no list: nearly all entries would stand in it.
        let texts = texts.filter(|(field, text)| *field != TermField::Kind || text != "request");
        let status = self.status.map(|status| match status {
            StatusFilter::Exact(status) => (TermField::Status, status.to_string()),
            StatusFilter::Class(class) => (TermField::StatusClass, class.to_string()),
        });
        texts.chain(status).collect()
    }

    /// A text that each line has which is meant, as lines have it.
    fn needle(&self) -> Option<&str> {
        let texts = [
            &self.request,
            &self.credential,
            &self.target,
            &self.tenant,
            &self.client,
            &self.denial,
            &self.route,
        ];
        let plain = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
        texts.into_iter().flatten().map(String::as_str).find(plain)
    }

    /// Whether an index helps to answer it.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        !self.terms().is_empty()
    }

    fn wants(&self, entry: &EntryFields<'_>) -> bool {
        fn has(wanted: Option<&String>, text: Option<&LineText<'_>>) -> bool {
            wanted.is_none_or(|wanted| text.is_some_and(|text| text.as_str() == wanted))
        }
        let actor = entry.who.as_ref().and_then(|who| who.credential.as_ref());
        let status = match (self.status, entry.status) {
            (None, _) => true,
            (Some(StatusFilter::Exact(wanted)), Some(status)) => status == wanted,
            (Some(StatusFilter::Class(class)), Some(status)) => status / 100 == class,
            (Some(_), None) => false,
        };
        has(self.request.as_ref(), entry.request_id.as_ref())
            && (has(self.credential.as_ref(), entry.credential.as_ref()) || has(self.credential.as_ref(), actor))
            && self
                .target
                .as_ref()
                .is_none_or(|wanted| entry.targets().any(|target| target == wanted))
            && has(self.tenant.as_ref(), entry.tenant.as_ref())
            && has(self.client.as_ref(), entry.client.as_ref())
            && has(self.denial.as_ref(), entry.denial.as_ref())
            && has(self.route.as_ref(), entry.route.as_ref())
            && has(self.kind.as_ref(), entry.kind.as_ref())
            && status
            && self.wants_time(entry)
    }

    fn wants_time(&self, entry: &EntryFields<'_>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(time) = entry.millis() else {
            return false;
        };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEntry {
    pub seq: u64,
    /// Milliseconds since 1970; the smallest number where the line has no time.
    pub time: i64,
    /// The line without its line feed.
    pub line: String,
}

/// What a query has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCount {
    /// Blocks of closed segments.
    pub blocks: u64,
    /// Blocks that the closed segments have which were looked at.
    pub of_blocks: u64,
    /// Bytes of segments that have no index.
    pub plain: u64,
}

/// The entries of one directory that a query wants, read as they are taken.
#[derive(Debug)]
pub struct Matches<'q> {
    query: &'q EntryQuery,
    segments: vec::IntoIter<SegmentFile>,
    source: Option<MatchSource>,
    ready: VecDeque<FoundEntry>,
    problems: Vec<String>,
    read: ReadCount,
}

#[derive(Debug)]
enum MatchSource {
    Indexed {
        segment: ClosedSegment,
        blocks: vec::IntoIter<BlockPick>,
    },
    Plain(PlainChunks),
}

/// The lines of a block that may be meant; `None`: any.
#[derive(Debug)]
struct BlockPick {
    block: BlockRow,
    lines: Option<Vec<u32>>,
}

impl<'q> Matches<'q> {
    /// Asks these segments.
    #[must_use]
    pub fn new(segments: &Segments, query: &'q EntryQuery) -> Self {
        let mut list = segments.list().to_vec();
        if query.order == EntryOrder::NewestFirst {
            list.reverse();
        }
        let foreign = segments.foreign().iter();
        Self {
            query,
            segments: list.into_iter(),
            source: None,
            ready: VecDeque::new(),
            problems: foreign
                .map(|path| format!("{}: this is no segment of durward, and it was not read", path.display()))
                .collect(),
            read: ReadCount::default(),
        }
    }

    /// What could not be read so far, for people. The answer lacks it.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// What was read so far.
    #[cfg(test)]
    #[must_use]
    pub const fn read(&self) -> ReadCount {
        self.read
    }

    fn open(&mut self, file: &SegmentFile) -> io::Result<()> {
        if let Some(plain) = file.open_plain()? {
            self.source = Some(MatchSource::Plain(PlainChunks::new(plain, self.query.order)?));
            return Ok(());
        }
        let segment = match file.open_closed() {
            Ok(segment) => segment,
            Err(error) => {
                self.problems.push(format!("{error}; {READ_WHOLE}"));
                return self.read_whole(file);
            }
        };
        if !segment.index().times().meets(self.query.since, self.query.until) && (self.query.since, self.query.until) != (None, None) {
            return Ok(());
        }
        let unreadable = segment.index().find(TermField::Kind, UNREADABLE)?;
        if let Some(number) = unreadable.first() {
            self.problems.push(format!(
                "{}: {} of its lines are no entries, the first is line {}",
                file.path().display(),
                unreadable.len(),
                u64::from(*number) + 1
            ));
        }
        let mut picks = self.pick(&segment)?;
        if self.query.order == EntryOrder::NewestFirst {
            picks.reverse();
        }
        self.source = Some(MatchSource::Indexed {
            segment,
            blocks: picks.into_iter(),
        });
        Ok(())
    }

    /// Chooses the blocks that have to be read.
    fn pick(&mut self, segment: &ClosedSegment) -> io::Result<Vec<BlockPick>> {
        let mut lines: Option<Vec<u32>> = None;
        for (field, value) in self.query.terms() {
            let with = segment.index().find(field, &value)?;
            let both = match lines {
                None => with,
                Some(before) => before.into_iter().filter(|line| with.binary_search(line).is_ok()).collect(),
            };
            if both.is_empty() {
                return Ok(Vec::new());
            }
            lines = Some(both);
        }
        let blocks = segment.index().blocks()?;
        self.read.of_blocks += blocks.len() as u64;
        let ends = blocks.iter().skip(1).map(|block| block.first).chain([segment.index().lines()]);
        let timed = (self.query.since, self.query.until) != (None, None);
        let mut picks = Vec::new();
        for (block, end) in blocks.iter().zip(ends) {
            if timed && !block.times.meets(self.query.since, self.query.until) {
                continue;
            }
            let inside = lines.as_ref().map(|lines| {
                let from = lines.partition_point(|line| *line < block.first);
                let to = lines.partition_point(|line| *line < end);
                lines
                    .get(from..to)
                    .unwrap_or_default()
                    .iter()
                    .map(|line| line - block.first)
                    .collect::<Vec<_>>()
            });
            if inside.as_ref().is_none_or(|lines| !lines.is_empty()) {
                picks.push(BlockPick {
                    block: *block,
                    lines: inside,
                });
            }
        }
        Ok(picks)
    }

    /// Reads a closed segment without its index.
    fn read_whole(&mut self, file: &SegmentFile) -> io::Result<()> {
        let mut members = MemberReader::open(file.path())?;
        let mut plain = Vec::new();
        let end = loop {
            match members.next(&mut plain) {
                Ok(true) => {
                    self.read.plain += plain.len() as u64;
                    self.take_lines(&plain, None, EntryOrder::OldestFirst);
                }
                end => break end,
            }
        };
        if self.query.order == EntryOrder::NewestFirst {
            self.ready.make_contiguous().reverse();
        }
        end.map(drop)
    }

    /// Puts what is wanted of some lines at the end of what is ready.
    fn take_lines(&mut self, text: &[u8], picked: Option<&[u32]>, order: EntryOrder) {
        let before = self.ready.len();
        match (picked, self.query.needle()) {
            (Some(picked), _) => {
                let mut picked = picked.iter().copied().peekable();
                for (number, line) in (0_u32..).zip(lines_of(text)) {
                    match picked.peek() {
                        None => break,
                        Some(next) if *next == number => {
                            picked.next();
                            self.take_line(line);
                        }
                        Some(_) => {}
                    }
                }
            }
            // To look for a text is ten times faster than to read lines.
            (None, Some(needle)) => {
                let mut from = 0;
                let finder = memchr::memmem::Finder::new(needle);
                while let Some(at) = text.get(from..).and_then(|rest| finder.find(rest)) {
                    let at = from + at;
                    let begin = text
                        .get(..at)
                        .and_then(|before| memchr::memrchr(b'\n', before))
                        .map_or(0, |at| at + 1);
                    let end = text
                        .get(at..)
                        .and_then(|rest| memchr::memchr(b'\n', rest))
                        .map_or(text.len(), |end| at + end);
                    self.take_line(text.get(begin..end).unwrap_or_default());
                    from = end;
                }
            }
            (None, None) => lines_of(text).for_each(|line| self.take_line(line)),
        }
        if order == EntryOrder::NewestFirst {
            let taken = self.ready.make_contiguous().get_mut(before..);
            taken.unwrap_or_default().reverse();
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        let Some(fields) = EntryFields::of_line(line) else {
            // A line of a closed segment is told with its segment.
            if matches!(self.source, Some(MatchSource::Plain(_))) {
                self.problems
                    .push("the segment that is written to has a line that is no entry; run: durward audit verify".into());
                self.problems.dedup();
            }
            return;
        };
        if self.query.wants(&fields) {
            self.ready.push_back(FoundEntry {
                seq: fields.seq,
                time: fields.millis().unwrap_or(i64::MIN),
                line: String::from_utf8_lossy(line).into_owned(),
            });
        }
    }

    /// Reads the next block of the segment that is open; answers whether there was one.
    fn advance(&mut self) -> io::Result<bool> {
        let mut text = Vec::new();
        let picked = match &mut self.source {
            None => return Ok(false),
            Some(MatchSource::Indexed { segment, blocks }) => {
                let Some(pick) = blocks.next() else {
                    self.source = None;
                    return Ok(false);
                };
                self.read.blocks += 1;
                segment.read(&pick.block, &mut text)?;
                pick.lines
            }
            Some(MatchSource::Plain(chunks)) => {
                if !chunks.next(&mut text)? {
                    self.source = None;
                    return Ok(false);
                }
                self.read.plain += text.len() as u64;
                None
            }
        };
        self.take_lines(&text, picked.as_deref(), self.query.order);
        Ok(true)
    }
}

impl Iterator for Matches<'_> {
    type Item = FoundEntry;

    fn next(&mut self) -> Option<FoundEntry> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(entry);
            }
            match self.advance() {
                Ok(true) => continue,
                Ok(false) => {}
                // A damaged block; those after it are read all the same.
                Err(error) => {
                    self.problems.push(format!("{error}; its entries are missing in this answer"));
                    continue;
                }
            }
            let file = self.segments.next()?;
            if let Err(error) = self.open(&file) {
                self.problems.push(format!("{error}; its entries are missing in this answer"));
            }
        }
    }
}

fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"))
}

/// Whole lines of a plain segment, from its end or from its beginning.
#[derive(Debug)]
struct PlainChunks {
    file: File,
    order: EntryOrder,
    begin: u64,
    end: u64,
    /// Whether what stands before `end` may be a line that is not complete.
    torn: bool,
}

impl PlainChunks {
    fn new(file: File, order: EntryOrder) -> io::Result<Self> {
        Ok(Self {
            begin: 0,
            end: file.metadata()?.len(),
            file,
            order,
            torn: true,
        })
    }

    fn next(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
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
            let last = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
            match self.order {
                EntryOrder::OldestFirst => {
                    text.truncate(last);
                    self.begin += last as u64;
                    if last == 0 && whole {
                        self.begin = self.end;
                    }
                }
                EntryOrder::NewestFirst => {
                    let first = if whole {
                        0
                    } else {
                        memchr::memchr(b'\n', text).map_or(0, |at| at + 1)
                    };
                    let last = if self.torn { last } else { text.len() };
                    if first < last || whole {
                        self.torn = false;
                        self.end = at + first as u64;
                    }
                    text.truncate(last);
                    text.drain(..first.min(last));
                    if whole {
                        self.end = self.begin;
                    }
                }
            }
            if !text.is_empty() {
                return Ok(true);
            }
            size *= 4;
        }
        let left = self.begin < self.end;
        self.end = self.begin;
        if left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the segment that is written to has a line without an end",
            ));
        }
        Ok(false)
    }
}

/// How many bytes are read without an index before the query is answered: of segments that are written to, and of those whose
/// index is missing or damaged. Without a filter the index does not help, and all blocks of the time are read.
#[must_use]
pub fn bytes_without_index(segments: &Segments, query: &EntryQuery) -> u64 {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    let files = segments.list().iter();
    files
        .filter(|file| match file.form() {
            SegmentForm::Plain => true,
            SegmentForm::Closed => file.open_closed().map_or(true, |segment| {
                !query.is_indexed() && segment.index().times().meets(query.since, query.until)
            }),
        })
        .map(|file| length(file.path()))
        .sum()
}

/// Entries of several trails as one: by time, and within one trail in the order in which they were recorded.
#[derive(Debug)]
pub struct MergedMatches<'q> {
    trails: Vec<Matches<'q>>,
    heads: Vec<Option<FoundEntry>>,
    order: EntryOrder,
}

impl<'q> MergedMatches<'q> {
    #[must_use]
    pub fn new(directories: &[Segments], query: &'q EntryQuery) -> Self {
        let mut trails: Vec<_> = directories.iter().map(|segments| Matches::new(segments, query)).collect();
        let heads = trails.iter_mut().map(Iterator::next).collect();
        Self {
            trails,
            heads,
            order: query.order,
        }
    }

    /// What could not be read, for people.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.trails.iter().flat_map(|trail| trail.problems().to_vec()).collect()
    }
}

impl Iterator for MergedMatches<'_> {
    /// The number of the trail, and the entry.
    type Item = (usize, FoundEntry);

    fn next(&mut self) -> Option<Self::Item> {
        let heads = self.heads.iter().enumerate();
        let times = heads.filter_map(|(trail, head)| Some((head.as_ref()?.time, trail)));
        let (_, trail) = match self.order {
            EntryOrder::NewestFirst => times.max_by_key(|(time, trail)| (*time, usize::MAX - trail))?,
            EntryOrder::OldestFirst => times.min()?,
        };
        let next = self.trails.get_mut(trail).and_then(Iterator::next);
        let head = std::mem::replace(self.heads.get_mut(trail)?, next);
        head.map(|entry| (trail, entry))
    }
}

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
                    while chunks.next(&mut text)? {
                        self.bytes += text.len() as u64;
                        lines_of(&text).for_each(|line| self.take(line, query, &mut found));
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

#[cfg(test)]
mod tests;
