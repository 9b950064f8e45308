//! Questions to a trail: which entries have a tenant, a credential, a request id. Closed segments are asked by their indexes,
//! and only blocks with such entries are read.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::vec;

use memchr::memmem::Finder;

use super::closed::ClosedSegment;
use super::fields::{EntryFields, LineText};
use super::index::{BlockRow, TermField, UNREADABLE};
use super::segments::{SegmentFile, Segments};

mod cost;
mod follow;
mod merged;
mod plain;

pub use cost::QueryCost;
pub use follow::Follower;
pub use merged::MergedMatches;
pub(super) use plain::PlainChunks;

/// Most problems that one query tells. What is damaged so much needs `durward audit verify`.
const MAX_PROBLEMS: usize = 100;

/// Which statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFilter {
    Exact(u16),
    /// The first digit.
    Class(u16),
}

impl StatusFilter {
    /// Reads a status, `404`, or a class of them, `4xx`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix("xx") {
            Some(class) if class.len() == 1 => class.parse().ok().filter(|class| (1..=5).contains(class)).map(Self::Class),
            Some(_) => None,
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|status| (100..=599).contains(status)).map(Self::Exact)
            }
            None => None,
        }
    }
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
    /// The first entry, by its `seq`, that is not meant any more.
    pub before: Option<u64>,
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

    /// A text that each line has which is meant, as the writer of the trail writes it; of several, the one that fewest lines have.
    fn needle(&self) -> Option<String> {
        let texts = [
            ("request_id", &self.request),
            ("credential", &self.credential),
            ("target", &self.target),
            ("client", &self.client),
            ("denial", &self.denial),
            ("tenant", &self.tenant),
            ("route", &self.route),
            ("kind", &self.kind),
        ];
        // What has to be escaped may be written in several ways.
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_deref().filter(|text| plain(text))?)));
        let mut texts = texts.filter(|(name, text)| (*name, *text) != ("kind", "request"));
        let text = texts.next().map(|(name, text)| match name {
            // A target may also stand in `done` and `replaced_by`.
            "target" => text.to_owned(),
            _ => format!("\"{name}\":\"{text}\""),
        });
        text.or_else(|| {
            self.status.map(|status| match status {
                StatusFilter::Exact(status) => format!("\"status\":{status}"),
                StatusFilter::Class(class) => format!("\"status\":{class}"),
            })
        })
    }

    /// Whether an index helps to answer it.
    #[must_use]
    fn is_indexed(&self) -> bool {
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
            && self.before.is_none_or(|before| entry.seq < before)
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
    /// Blocks that the closed segments have whose indexes were asked.
    pub of_blocks: u64,
    /// Bytes of segments that have no index.
    pub plain: u64,
}

/// The entries of one directory that a query wants, read as they are taken.
#[derive(Debug)]
pub struct Matches<'q> {
    query: &'q EntryQuery,
    /// What lines without an index are searched for.
    finder: Option<Finder<'static>>,
    segments: vec::IntoIter<SegmentFile>,
    /// The numbers of all segments, ascending.
    starts: Vec<u64>,
    source: Option<MatchSource>,
    /// The segment that is being read: its file and its number.
    path: PathBuf,
    first: u64,
    text: Vec<u8>,
    ready: VecDeque<FoundEntry>,
    problems: Vec<String>,
    remarks: Vec<String>,
    read: ReadCount,
    /// Bytes of lines that were looked at.
    bytes: u64,
    /// The first entry of the block that was read last.
    block: Option<u64>,
    position: Option<u64>,
    /// Whether closed segments are read without their index where it is missing or damaged.
    reads_whole: bool,
}

/// What one step of a query gave.
#[derive(Debug)]
pub enum QueryStep {
    Match(FoundEntry),
    /// A block was read, or a segment opened.
    Read,
    End,
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
        list.retain(|file| query.before.is_none_or(|before| file.first() < before));
        if query.order == EntryOrder::NewestFirst {
            list.reverse();
        }
        let mut matches = Self {
            query,
            finder: query.needle().map(|needle| Finder::new(&needle).into_owned()),
            segments: list.into_iter(),
            starts: segments.list().iter().map(SegmentFile::first).collect(),
            source: None,
            path: PathBuf::new(),
            first: 0,
            text: Vec::new(),
            ready: VecDeque::new(),
            problems: Vec::new(),
            remarks: Vec::new(),
            read: ReadCount::default(),
            bytes: 0,
            block: None,
            position: None,
            reads_whole: true,
        };
        for path in segments.foreign() {
            matches.tell(format!("{}: this is no segment of durward, and it was not read", path.display()));
        }
        for path in segments.missing() {
            matches.tell(format!("{}: the segment is missing, and its hashes are there", path.display()));
        }
        matches
    }

    fn tell(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        } else if self.problems.len() == MAX_PROBLEMS {
            self.problems
                .push("there are more problems than are told; run: durward audit verify".into());
        }
    }

    /// Says once for each file what is wrong with its lines.
    fn tell_of_lines(&mut self, how: &str) {
        self.tell(format!("{}: {how}; run: durward audit verify", self.path.display()));
    }

    /// Leaves out closed segments whose index cannot be used: to read one whole takes as much memory as it has matches.
    #[must_use]
    pub fn by_index_only(mut self) -> Self {
        self.reads_whole = false;
        self
    }

    /// Gives the next entry that is there already, or reads at most one block. So whoever asks can stop in between.
    pub fn step(&mut self) -> QueryStep {
        if let Some(entry) = self.ready.pop_front() {
            self.position = Some(entry.seq);
            return QueryStep::Match(entry);
        }
        // All that was read was handed out.
        self.position = self.block.take().or(self.position);
        match self.advance() {
            Ok(true) => return QueryStep::Read,
            Ok(false) => {}
            // A damaged block; those after it are read all the same.
            Err(error) => {
                self.tell(format!("{error}; its entries are missing in this answer"));
                return QueryStep::Read;
            }
        }
        let Some(file) = self.segments.next() else {
            return QueryStep::End;
        };
        if let Err(error) = self.open(&file) {
            self.tell(format!("{error}; its entries are missing in this answer"));
        }
        if self.source.is_none() {
            self.block = Some(file.first());
        }
        QueryStep::Read
    }

    /// With the newest entries first: the query has given each entry that is meant and not older than this one.
    #[must_use]
    pub const fn position(&self) -> Option<u64> {
        self.position
    }

    /// How many bytes of lines were looked at.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What could not be read so far, for people. The answer lacks it.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Which segments were read whole so far, and why, for people. The answer lacks nothing of them.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// What was read so far.
    #[must_use]
    pub const fn read(&self) -> ReadCount {
        self.read
    }

    fn open(&mut self, file: &SegmentFile) -> io::Result<()> {
        file.path().clone_into(&mut self.path);
        self.first = file.first();
        if let Some(plain) = file.open_plain()? {
            let mut chunks = PlainChunks::new(plain, self.query.order)?;
            if let (Some(before), EntryOrder::NewestFirst) = (self.query.before, self.query.order) {
                chunks.end_before(before)?;
            }
            self.source = Some(MatchSource::Plain(chunks));
            return Ok(());
        }
        let opened = file.open_closed().and_then(|segment| Ok((self.pick(&segment)?, segment)));
        match opened {
            Ok((picks, segment)) => {
                self.source = Some(MatchSource::Indexed {
                    segment,
                    blocks: picks.into_iter(),
                });
                Ok(())
            }
            Err(error) if !self.reads_whole => Err(error),
            Err(error) => {
                if self.remarks.len() < MAX_PROBLEMS {
                    self.remarks.push(read_whole_since(&error));
                }
                self.read_whole(file)
            }
        }
    }

    /// Whether another segment follows the one that is being read.
    fn has_segment_after(&self) -> bool {
        self.starts.last().is_some_and(|last| *last > self.first)
    }

    /// Chooses the blocks that have to be read, in the order of the query.
    fn pick(&mut self, segment: &ClosedSegment) -> io::Result<Vec<BlockPick>> {
        let index = segment.index();
        self.read.of_blocks += u64::from(index.block_count());
        let end = self.first + u64::from(index.lines());
        let next = self.starts.iter().copied().find(|start| *start > self.first);
        if let Some(next) = next.filter(|next| *next != end) {
            self.tell_of_lines(&format!(
                "the next entry would be {end}, and the next segment begins with entry {next}"
            ));
        }
        let (since, until) = (self.query.since, self.query.until);
        if (since, until) != (None, None) && !index.times().meets(since, until) {
            return Ok(Vec::new());
        }
        let unreadable = index.find(TermField::Kind, UNREADABLE)?;
        if let Some(number) = unreadable.first() {
            let (count, first) = (unreadable.len(), u64::from(*number) + 1);
            self.tell_of_lines(&format!("{count} of its lines are no entries, the first is line {first}"));
        }
        let mut picks = self.pick_of_terms(segment)?;
        if self.query.order == EntryOrder::NewestFirst {
            picks.reverse();
        }
        Ok(picks)
    }

    fn pick_of_terms(&self, segment: &ClosedSegment) -> io::Result<Vec<BlockPick>> {
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
        let ends = blocks.iter().skip(1).map(|block| block.first).chain([segment.index().lines()]);
        let timed = (self.query.since, self.query.until) != (None, None);
        let meant = |block: &BlockRow| self.query.before.is_none_or(|before| self.first + u64::from(block.first) < before);
        let mut picks = Vec::new();
        for (block, end) in blocks.iter().zip(ends) {
            if !meant(block) || timed && !block.times.meets(self.query.since, self.query.until) {
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
        let mut members = file.members()?;
        let mut plain = Vec::new();
        let end = loop {
            match members.next(&mut plain) {
                Ok(true) => {
                    self.read.plain += plain.len() as u64;
                    self.bytes += plain.len() as u64;
                    self.take_lines(&plain, None, None, EntryOrder::OldestFirst);
                }
                end => break end,
            }
        };
        if self.query.order == EntryOrder::NewestFirst {
            self.ready.make_contiguous().reverse();
        }
        end.map(drop)
    }

    /// Puts what is wanted of some lines at the end of what is ready. `first` is the number that the first line should have.
    fn take_lines(&mut self, text: &[u8], picked: Option<&[u32]>, first: Option<u64>, order: EntryOrder) {
        let before = self.ready.len();
        match (picked, self.finder.take()) {
            (Some(picked), finder) => {
                self.finder = finder;
                let mut picked = picked.iter().copied().peekable();
                for (number, line) in (0_u32..).zip(lines_of(text)) {
                    match picked.peek() {
                        None => break,
                        Some(next) if *next == number => {
                            picked.next();
                            self.take_line(line, first.map(|first| first + u64::from(number)));
                        }
                        Some(_) => {}
                    }
                }
            }
            // To look for a text is ten times faster than to read lines.
            (None, Some(finder)) => {
                self.take_lines_with(&finder, text);
                self.finder = Some(finder);
            }
            (None, None) => {
                for (number, line) in (0..).zip(lines_of(text)) {
                    self.take_line(line, first.map(|first| first + number));
                }
            }
        }
        if order == EntryOrder::NewestFirst {
            let taken = self.ready.make_contiguous().get_mut(before..);
            taken.unwrap_or_default().reverse();
        }
    }

    /// Reads only the lines that have a text. What stands there may be in another member, so such a line is only a candidate.
    fn take_lines_with(&mut self, finder: &Finder<'_>, text: &[u8]) {
        if !has_lines_of_objects(text) {
            self.tell_of_lines("a line is no entry");
        }
        let mut from = 0;
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
            self.take_line(text.get(begin..end).unwrap_or_default(), None);
            from = end;
        }
    }

    fn take_line(&mut self, line: &[u8], number: Option<u64>) {
        let Some(fields) = EntryFields::of_line(line) else {
            // Of a segment with an index they are told at once.
            if !matches!(self.source, Some(MatchSource::Indexed { .. })) {
                self.tell_of_lines("a line is no entry");
            }
            return;
        };
        if number.is_some_and(|number| number != fields.seq) {
            self.tell_of_lines("its entries do not have the numbers that its name and its index say");
        }
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
        // One buffer for all: to make a new one for each piece costs more than to read and search it.
        let mut text = std::mem::take(&mut self.text);
        let read = self.advance_into(&mut text);
        self.text = text;
        read
    }

    fn advance_into(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        let (lines, picked, first) = match &mut self.source {
            None => return Ok(false),
            Some(MatchSource::Indexed { segment, blocks }) => {
                let Some(pick) = blocks.next() else {
                    self.source = None;
                    self.position = Some(self.first);
                    return Ok(false);
                };
                self.read.blocks += 1;
                let first = self.first + u64::from(pick.block.first);
                self.block = Some(first);
                segment.read(&pick.block, text)?;
                (0..text.len(), pick.lines, Some(first))
            }
            Some(MatchSource::Plain(chunks)) => {
                let lines = chunks.next(text).map_err(|error| named(&self.path, &error))?;
                let torn = chunks.is_torn;
                if lines.is_none() {
                    self.source = None;
                    self.position = Some(self.first);
                }
                // Of the last segment this is a line that is being written.
                if torn && self.has_segment_after() {
                    self.tell_of_lines("its last line was not written to its end");
                }
                let Some(lines) = lines else { return Ok(false) };
                self.read.plain += lines.len() as u64;
                let oldest = text.get(lines.clone()).and_then(|text| lines_of(text).next());
                self.block = oldest.and_then(EntryFields::of_line).map(|fields| fields.seq);
                (lines, None, None)
            }
        };
        self.bytes += lines.len() as u64;
        self.take_lines(text.get(lines).unwrap_or_default(), picked.as_deref(), first, self.query.order);
        Ok(true)
    }
}

impl Iterator for Matches<'_> {
    type Item = FoundEntry;

    fn next(&mut self) -> Option<FoundEntry> {
        loop {
            match self.step() {
                QueryStep::Match(entry) => return Some(entry),
                QueryStep::Read => {}
                QueryStep::End => return None,
            }
        }
    }
}

pub(super) fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"))
}

/// Whether each of these whole lines begins and ends as an object. It is far cheaper than to read them.
fn has_lines_of_objects(text: &[u8]) -> bool {
    let mut begin = 0;
    memchr::memchr_iter(b'\n', text).all(|feed| {
        let is_object = text.get(begin) == Some(&b'{') && feed > begin && text.get(feed - 1) == Some(&b'}');
        begin = feed + 1;
        is_object
    })
}

fn read_whole_since(error: &io::Error) -> String {
    format!("{error}; the segment is read whole")
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
