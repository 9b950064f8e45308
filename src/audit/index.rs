//! The index of a closed segment: which entries have a credential, a tenant, a request id; where each block lies. It is
//! derived from the segment alone and can be made again. It is no part of the evidence.
//!
//! All numbers are little-endian, in checked pages (`pages.rs`):
//!
//! ```text
//! head      magic, version, entries, blocks, terms, first and last time, bytes of the lists      64 bytes
//! blocks    of each block: first entry, place and length in the file, length as text, CRC, first and last time
//! fan-out   4,097 numbers: how many terms have a hash whose first 12 bits are below this number
//! terms     sorted by hash: 6 bytes of the hash, 4 bytes: the one entry, or (highest bit set) the place of a list
//! lists     bytes of the list, then the distances of its entries as varints
//! ```

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use crate::base::text::push_decimal;

use super::fields::EntryFields;
use super::pages::{PageReader, PageWriter};

const MAGIC: &[u8; 8] = b"durwardI";
/// The form of the file. A reader that meets another one reads the segment without the index.
const VERSION: u32 = 2;
const HEAD: usize = 64;
const BLOCK: usize = 40;
const TERM: usize = 10;
/// Twelve bits of a hash choose the bucket, so that a term is found with two reads: a bucket of a segment with half a million
/// entries has about 130 terms.
const BUCKETS: usize = 4_096;
const FAN_OUT: usize = (BUCKETS + 1) * 4;
/// The bit of a term that has a list. The other 31 bits bound the entries of a segment and the bytes of its lists.
const IS_LIST: u32 = 1 << 31;
/// Times of a block without any: no range of time meets it.
const NO_TIMES: TimeSpan = TimeSpan {
    first: i64::MAX,
    last: i64::MIN,
};

/// A member of an entry by which entries are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TermField {
    Request = 1,
    Credential,
    Tenant,
    Route,
    Denial,
    Status,
    /// The first digit of the status.
    StatusClass,
    Client,
    /// All kinds but `request`, which most entries are.
    Kind,
    /// A record that an operator or a served route made or changed.
    Target,
}

/// The fields are numbers below this one.
const FIELDS: usize = TermField::Target as usize + 1;

/// The kind under which a line is found that is no entry at all, so that each query that should have met it can tell.
pub(crate) const UNREADABLE: &str = "unreadable";

/// The kind under which every line is found that tells of a change of records, besides its own kind.
pub(crate) const CHANGE: &str = "change";

/// First and last time in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeSpan {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl TimeSpan {
    fn add(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// Whether it has a time that is at least `since` and below `until`.
    #[must_use]
    pub(crate) fn meets(self, since: Option<i64>, until: Option<i64>) -> bool {
        since.is_none_or(|since| self.last >= since) && until.is_none_or(|until| self.first < until)
    }
}

/// One gzip member of a closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRow {
    /// The number of its first line within the segment.
    pub(crate) first: u32,
    pub(crate) at: u64,
    pub(crate) length: u32,
    /// Bytes of its lines.
    pub(crate) plain: u32,
    /// Of the bytes in the file: gzip's own CRC does not count its head and the bits that fill up its last byte.
    pub(crate) crc: u32,
    pub(crate) times: TimeSpan,
}

type TermHash = u64;

/// FNV-1a of 64 bits, mixed as MurmurHash3 does at its end, since buckets are chosen by the highest bits. Of the result six bytes
/// are kept. Two values with the same hash only cost a look at a line that is not meant, so nobody gains by making them.
fn hash(field: TermField, value: &str) -> TermHash {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let bytes = std::iter::once(field as u8).chain(value.bytes());
    let hash = bytes.fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ hash >> 33) >> 16
}

/// The entries of a term, as they are written.
#[derive(Debug)]
struct Postings {
    hash: TermHash,
    first: u32,
    last: u32,
    /// Empty while there is only one.
    distances: Vec<u8>,
}

impl Postings {
    fn add(&mut self, entry: u32) {
        if entry == self.last {
            return;
        }
        if self.distances.is_empty() {
            push_varint(&mut self.distances, self.first);
        }
        push_varint(&mut self.distances, entry - self.last);
        self.last = entry;
    }

    fn entries(&self) -> Vec<u32> {
        if self.distances.is_empty() {
            return vec![self.first];
        }
        let mut bytes = self.distances.iter().copied();
        let distances = std::iter::from_fn(|| read_varint(&mut bytes));
        distances
            .scan(0, |entry, distance| {
                *entry += distance;
                Some(*entry)
            })
            .collect()
    }

    /// Takes the entries of another term that has the same hash.
    fn join(&mut self, other: &Self) {
        if other.distances.is_empty() && other.first >= self.last {
            self.add(other.first);
            return;
        }
        let mut entries = self.entries();
        entries.extend(other.entries());
        entries.sort_unstable();
        let mut entries = entries.into_iter();
        let Some(first) = entries.next() else {
            return;
        };
        *self = Self {
            hash: self.hash,
            first,
            last: first,
            distances: Vec::new(),
        };
        for entry in entries {
            self.add(entry);
        }
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn read_varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).ok();
        }
    }
    None
}

/// The terms of one field. Most lines have the value of the line before, or one of few.
#[derive(Debug, Default)]
struct FieldTerms {
    /// Where the postings of a value are, by its hash.
    known: HashMap<TermHash, usize>,
    /// The value of the line before.
    previous: String,
    place: usize,
}

/// Collects what the lines of one segment have. It needs about 30 bytes of memory for each line, and 80 for each value that is
/// not the id of a request.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    lines: u32,
    /// The number of the first line of the block that is not ended yet.
    block: u32,
    blocks: Vec<BlockRow>,
    times: Option<TimeSpan>,
    /// Ids of requests, which hardly ever come twice: a table would cost more than to sort them once.
    requests: Vec<SingleTerm>,
    postings: Vec<Postings>,
    fields: [FieldTerms; FIELDS],
}

/// One value of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SingleTerm {
    hash: TermHash,
    entry: u32,
}

impl IndexBuilder {
    /// Adds the next line, without its line feed.
    pub(super) fn add_line(&mut self, line: &[u8]) -> io::Result<()> {
        let entry = self.lines;
        if entry >= IS_LIST {
            return Err(io::Error::other("a segment has at most 2^31 lines"));
        }
        self.lines += 1;
        let Some(fields) = EntryFields::of_line(line) else {
            self.add(TermField::Kind, UNREADABLE, entry);
            return Ok(());
        };
        if let Some(time) = fields.millis() {
            let span = TimeSpan { first: time, last: time };
            self.times.get_or_insert(NO_TIMES).add(span);
        }
        if let Some(id) = &fields.request_id {
            let hash = hash(TermField::Request, id.as_str());
            self.requests.push(SingleTerm { hash, entry });
        }
        if let Some(kind) = fields.kind.as_ref().filter(|kind| kind.as_str() != "request") {
            self.add(TermField::Kind, kind.as_str(), entry);
        }
        if fields.tells_change() {
            self.add(TermField::Kind, CHANGE, entry);
        }
        if let Some(status) = fields.status {
            self.add_number(TermField::Status, status, entry);
            self.add_number(TermField::StatusClass, status / 100, entry);
        }
        let actor = fields.who.as_ref().and_then(|who| who.credential.as_ref());
        let texts = [
            (TermField::Credential, fields.credential.as_ref()),
            (TermField::Credential, actor),
            (TermField::Tenant, fields.tenant.as_ref()),
            (TermField::Route, fields.route.as_ref()),
            (TermField::Denial, fields.denial.as_ref()),
            (TermField::Client, fields.client.as_ref()),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                self.add(field, text.as_str(), entry);
            }
        }
        for target in fields.targets() {
            self.add(TermField::Target, target, entry);
        }
        Ok(())
    }

    /// Ends a block: the lines that were added since the last one.
    pub(super) fn end_block(&mut self, at: u64, member: &[u8], plain: usize) -> io::Result<()> {
        let too_long = |_| io::Error::other("a block has at most 4 GiB");
        self.blocks.push(BlockRow {
            first: std::mem::replace(&mut self.block, self.lines),
            at,
            length: u32::try_from(member.len()).map_err(too_long)?,
            plain: u32::try_from(plain).map_err(too_long)?,
            crc: crc32fast::hash(member),
            times: self.times.take().unwrap_or(NO_TIMES),
        });
        Ok(())
    }

    fn add(&mut self, field: TermField, value: &str, entry: u32) {
        let Some(terms) = self.fields.get_mut(field as usize) else {
            return;
        };
        if terms.previous != value || terms.known.is_empty() {
            let hash = hash(field, value);
            terms.place = *terms.known.entry(hash).or_insert_with(|| {
                self.postings.push(Postings {
                    hash,
                    first: entry,
                    last: entry,
                    distances: Vec::new(),
                });
                self.postings.len() - 1
            });
            terms.previous.clear();
            terms.previous.push_str(value);
        }
        if let Some(postings) = self.postings.get_mut(terms.place) {
            postings.add(entry);
        }
    }

    fn add_number(&mut self, field: TermField, value: u16, entry: u32) {
        let mut text = Vec::with_capacity(5);
        push_decimal(&mut text, u64::from(value));
        self.add(field, str::from_utf8(&text).unwrap_or_default(), entry);
    }

    /// All terms by hash. Those with one hash have one list.
    fn terms(&mut self) -> Vec<Postings> {
        let single = |term: SingleTerm| Postings {
            hash: term.hash,
            first: term.entry,
            last: term.entry,
            distances: Vec::new(),
        };
        self.requests.sort_unstable();
        self.postings.sort_unstable_by_key(|term| (term.hash, term.first));
        let mut requests = std::mem::take(&mut self.requests).into_iter().map(single).peekable();
        let mut others = std::mem::take(&mut self.postings).into_iter().peekable();
        let mut terms: Vec<Postings> = Vec::with_capacity(requests.len() + others.len());
        loop {
            let before = |request: &Postings, other: Option<&Postings>| other.is_none_or(|other| request.hash <= other.hash);
            let next = requests.next_if(|request| before(request, others.peek())).or_else(|| others.next());
            let Some(next) = next else {
                return terms;
            };
            match terms.last_mut().filter(|last| last.hash == next.hash) {
                Some(last) => last.join(&next),
                None => terms.push(next),
            }
        }
    }

    /// Writes the index.
    pub(super) fn write<W: Write>(mut self, out: W) -> io::Result<W> {
        let too_large = |_| io::Error::other("the lists of an index have at most 2 GiB");
        let terms = self.terms();
        let mut lists = Vec::new();
        let mut rows = Vec::with_capacity(terms.len() * TERM);
        let mut ends = [0_u32; BUCKETS];
        for postings in &terms {
            let hash = postings.hash;
            let entry = if postings.distances.is_empty() {
                postings.first
            } else {
                let at = u32::try_from(lists.len()).ok().filter(|at| *at < IS_LIST);
                let length = u32::try_from(postings.distances.len()).map_err(too_large)?;
                lists.extend_from_slice(&length.to_le_bytes());
                lists.extend_from_slice(&postings.distances);
                at.ok_or_else(|| io::Error::other("the lists of an index have at most 2 GiB"))? | IS_LIST
            };
            rows.extend_from_slice(hash.to_le_bytes().get(..6).unwrap_or_default());
            rows.extend_from_slice(&entry.to_le_bytes());
            if let Some(count) = ends.get_mut(bucket(hash)) {
                *count += 1;
            }
        }
        let span = self.blocks.iter().fold(NO_TIMES, |mut span, block| {
            span.add(block.times);
            span
        });
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&self.lines.to_le_bytes());
        head.extend_from_slice(&u32::try_from(self.blocks.len()).map_err(too_large)?.to_le_bytes());
        head.extend_from_slice(&u32::try_from(terms.len()).map_err(too_large)?.to_le_bytes());
        head.extend_from_slice(&span.first.to_le_bytes());
        head.extend_from_slice(&span.last.to_le_bytes());
        head.extend_from_slice(&(lists.len() as u64).to_le_bytes());
        head.resize(HEAD, 0);
        let mut writer = PageWriter::new(out);
        writer.write(&head)?;
        for block in &self.blocks {
            writer.write(&block.first.to_le_bytes())?;
            writer.write(&block.at.to_le_bytes())?;
            writer.write(&block.length.to_le_bytes())?;
            writer.write(&block.plain.to_le_bytes())?;
            writer.write(&block.crc.to_le_bytes())?;
            writer.write(&block.times.first.to_le_bytes())?;
            writer.write(&block.times.last.to_le_bytes())?;
        }
        let mut below = 0;
        writer.write(&0_u32.to_le_bytes())?;
        for count in ends {
            below += count;
            writer.write(&below.to_le_bytes())?;
        }
        writer.write(&rows)?;
        writer.write(&lists)?;
        writer.finish()
    }
}

fn bucket(hash: TermHash) -> usize {
    usize::try_from(hash >> 36).unwrap_or(0)
}

/// The index of one closed segment, read as far as it is needed.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    pages: PageReader,
    lines: u32,
    blocks: u32,
    terms: u32,
    lists: u64,
    times: TimeSpan,
}

impl SegmentIndex {
    /// Opens an index.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, is no index, or is of a newer version; the message names the file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let pages = PageReader::open(path)?;
        let head = pages.read(0, HEAD)?;
        let mut numbers = Numbers(&head);
        if numbers.take() != Some(*MAGIC) {
            return Err(pages.damaged("is no index of durward"));
        }
        let index = (|| {
            let version = u32::from_le_bytes(numbers.take()?);
            Some((
                version,
                Self {
                    lines: u32::from_le_bytes(numbers.take()?),
                    blocks: u32::from_le_bytes(numbers.take()?),
                    terms: u32::from_le_bytes(numbers.take()?),
                    times: TimeSpan {
                        first: i64::from_le_bytes(numbers.take()?),
                        last: i64::from_le_bytes(numbers.take()?),
                    },
                    lists: u64::from_le_bytes(numbers.take()?),
                    pages,
                },
            ))
        })();
        match index {
            Some((VERSION, index)) => Ok(index),
            Some((version, index)) => Err(index.pages.damaged(&format!(
                "has version {version}, and this durward reads version {VERSION}: use the durward that wrote it"
            ))),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// How many lines the segment has.
    pub(crate) const fn lines(&self) -> u32 {
        self.lines
    }

    pub(crate) const fn block_count(&self) -> u32 {
        self.blocks
    }

    /// First and last time of its entries.
    pub(crate) const fn times(&self) -> TimeSpan {
        self.times
    }

    /// All blocks in order.
    pub(crate) fn blocks(&self) -> io::Result<Vec<BlockRow>> {
        let bytes = self.pages.read(HEAD as u64, self.blocks as usize * BLOCK)?;
        let rows = bytes.chunks_exact(BLOCK).map(|row| {
            let mut numbers = Numbers(row);
            Some(BlockRow {
                first: u32::from_le_bytes(numbers.take()?),
                at: u64::from_le_bytes(numbers.take()?),
                length: u32::from_le_bytes(numbers.take()?),
                plain: u32::from_le_bytes(numbers.take()?),
                crc: u32::from_le_bytes(numbers.take()?),
                times: TimeSpan {
                    first: i64::from_le_bytes(numbers.take()?),
                    last: i64::from_le_bytes(numbers.take()?),
                },
            })
        });
        rows.collect::<Option<_>>().ok_or_else(|| self.pages.damaged("is too short"))
    }

    /// The numbers of the lines, counted from 0 and ascending, that may have this value. Another value with the same hash makes
    /// a line appear that does not have it, so each line has to be looked at.
    pub(crate) fn find(&self, field: TermField, value: &str) -> io::Result<Vec<u32>> {
        let hash = hash(field, value);
        let fan_out = HEAD as u64 + u64::from(self.blocks) * BLOCK as u64;
        let bounds = self.pages.read(fan_out + 4 * bucket(hash) as u64, 8)?;
        let mut numbers = Numbers(&bounds);
        let first = numbers.take().map_or(0, u32::from_le_bytes);
        let count = numbers.take().map_or(0, u32::from_le_bytes).saturating_sub(first);
        let terms = fan_out + FAN_OUT as u64;
        let rows = self.pages.read(terms + u64::from(first) * TERM as u64, count as usize * TERM)?;
        let wanted = hash.to_le_bytes();
        let row = rows.chunks_exact(TERM).find(|row| row.get(..6) == wanted.get(..6));
        let Some(entry) = row.and_then(|row| row.last_chunk()).map(|bytes| u32::from_le_bytes(*bytes)) else {
            return Ok(Vec::new());
        };
        if entry & IS_LIST == 0 {
            return Ok(vec![entry]);
        }
        self.list(terms + u64::from(self.terms) * TERM as u64, entry & !IS_LIST)
    }

    fn list(&self, lists: u64, at: u32) -> io::Result<Vec<u32>> {
        let damaged = || self.pages.damaged("has a list that is none");
        let at = lists + u64::from(at);
        let length = self.pages.read(at, 4)?;
        let length = Numbers(&length).take().map_or(0, u32::from_le_bytes);
        if u64::from(length) > self.lists {
            return Err(damaged());
        }
        let mut bytes = self.pages.read(at + 4, length as usize)?.into_iter().peekable();
        let mut found = Vec::new();
        let mut entry = 0_u32;
        while bytes.peek().is_some() {
            let distance = read_varint(&mut bytes).ok_or_else(damaged)?;
            entry = entry
                .checked_add(distance)
                .filter(|entry| *entry < self.lines)
                .ok_or_else(damaged)?;
            found.push(entry);
        }
        Ok(found)
    }
}

/// Takes numbers from the front of some bytes.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postings(entries: &[u32]) -> Postings {
        let mut postings = Postings {
            hash: 1,
            first: entries[0],
            last: entries[0],
            distances: Vec::new(),
        };
        for entry in entries {
            postings.add(*entry);
        }
        postings
    }

    #[test]
    fn terms_with_one_hash_have_the_entries_of_both() {
        for (left, right) in [
            (&[3][..], &[3][..]),
            (&[3], &[9]),
            (&[9], &[3]),
            (&[0, 300, 70_000], &[5, 300, 80_000]),
            (&[5, 6], &[0]),
        ] {
            let mut joined = postings(left);
            joined.join(&postings(right));
            let mut all = [left, right].concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(joined.entries(), all);
        }
    }
}
