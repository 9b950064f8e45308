//! Who changed which records, from the entries of a trail: what operators did, and what served routes did.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::base::clock::{UnixMillis, instant};

use super::fields::parse_millis;
use super::index::{CHANGE, TermField};
use super::query::{PlainChunks, lines_of};
use super::segments::{SegmentFile, Segments};

/// Longest time before a change at which its entry may say that it began. A request's entry has the time of its beginning.
const LONGEST: i64 = 600_000;

/// Most entries that one search finds. Each change of the store has one, so a page of events has fewer.
const MOST: usize = 10_000;

/// Longest time of one search.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many lines of a part of a segment are looked at to see how old it is. A single one may be of a long stream.
const SAMPLE: usize = 32;

/// From when to when changes are looked for, both included.
#[derive(Debug, Clone, Copy)]
pub struct ChangeWindow {
    pub since: UnixMillis,
    pub until: UnixMillis,
}

/// What an entry tells of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedChange {
    /// The gateway of the trail.
    pub gateway: String,
    /// The entry's number in it.
    pub seq: u64,
    /// The member `who` of an operator's entry; for a served route `via` is `route`, with the caller as far as it is known.
    pub who: Value,
    /// `keys.revoke` of an operator; of a served route what it did: `mint`.
    pub action: String,
    pub request_id: Option<String>,
    /// The ids of the records that it was done to.
    pub targets: Vec<String>,
    pub begun: UnixMillis,
    pub ended: UnixMillis,
}

/// The changes that were found, the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordedChanges {
    pub changes: Vec<RecordedChange>,
    /// Why some may be missing, for people.
    pub problems: Vec<String>,
}

/// Finds the changes of a time. Reads closed segments by their indexes, and the segment that is written to from its end. Blocks.
///
/// # Errors
/// When the directory cannot be read; the message names it.
pub fn find_changes(directory: &Path, window: ChangeWindow) -> io::Result<RecordedChanges> {
    let segments = Segments::open(directory)?;
    let mut search = ChangeSearch {
        window,
        begun: instant(),
        found: RecordedChanges::default(),
    };
    for file in segments.list().iter().rev() {
        match search.look_into(file) {
            Ok(SearchStep::GoOn) => {}
            Ok(SearchStep::Enough) => break,
            Err(error) => search.found.problems.push(format!("{error}; its entries are missing")),
        }
    }
    Ok(search.found)
}

struct ChangeSearch {
    window: ChangeWindow,
    begun: Instant,
    found: RecordedChanges,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SearchStep {
    GoOn,
    /// Older entries are of an earlier time, or the search has reached a bound.
    Enough,
}

impl ChangeSearch {
    fn look_into(&mut self, file: &SegmentFile) -> io::Result<SearchStep> {
        if self.is_at_a_bound() {
            return Ok(SearchStep::Enough);
        }
        match file.open_plain()? {
            Some(plain) => self.look_into_plain(PlainChunks::from_the_end(plain)?),
            None => self.look_into_closed(file),
        }
    }

    fn look_into_plain(&mut self, mut chunks: PlainChunks) -> io::Result<SearchStep> {
        let mut text = Vec::new();
        while let Some(lines) = chunks.next(&mut text)? {
            let lines = text.get(lines).unwrap_or_default();
            self.take_lines(lines, None);
            let newest = lines_of(lines).take(SAMPLE).filter_map(time_of).max();
            if newest.is_some_and(|newest| newest < self.oldest()) || self.is_at_a_bound() {
                return Ok(SearchStep::Enough);
            }
        }
        Ok(SearchStep::GoOn)
    }

    fn look_into_closed(&mut self, file: &SegmentFile) -> io::Result<SearchStep> {
        let segment = file.open_closed()?;
        if segment.index().times().last < self.oldest() {
            return Ok(SearchStep::Enough);
        }
        let lines = segment.index().find(TermField::Kind, CHANGE)?;
        let blocks = segment.index().blocks()?;
        let (mut text, mut to) = (Vec::new(), lines.len());
        for block in blocks.iter().rev() {
            let from = lines.partition_point(|line| *line < block.first);
            let inside = lines.get(from..to).unwrap_or_default();
            to = from;
            if inside.is_empty()
                || !block
                    .times
                    .meets(Some(self.oldest()), Some(self.window.until.0.saturating_add(LONGEST)))
            {
                continue;
            }
            if self.is_at_a_bound() {
                return Ok(SearchStep::Enough);
            }
            text.clear();
            segment.read(block, &mut text)?;
            let inside: Vec<u32> = inside.iter().map(|line| line - block.first).collect();
            self.take_lines(&text, Some(&inside));
        }
        Ok(SearchStep::GoOn)
    }

    /// The time before which no entry is meant.
    const fn oldest(&self) -> i64 {
        self.window.since.0.saturating_sub(LONGEST)
    }

    /// Whether enough was read. It is told, since changes may be missing then.
    fn is_at_a_bound(&mut self) -> bool {
        let bound = if self.found.changes.len() >= MOST {
            format!("the trail has more than {MOST} changes of this time; the older ones were not looked at")
        } else if self.begun.elapsed() > PATIENCE {
            format!("the trail was read for {} s; what is older was not looked at", PATIENCE.as_secs())
        } else {
            return false;
        };
        self.found.problems.push(bound);
        self.found.problems.dedup();
        true
    }

    /// Takes the changes of some lines, of all or of those with these numbers.
    fn take_lines(&mut self, text: &[u8], picked: Option<&[u32]>) {
        let before = self.found.changes.len();
        for (number, line) in (0_u32..).zip(lines_of(text)) {
            if picked.is_none_or(|picked| picked.binary_search(&number).is_ok()) && may_tell_change(line) {
                let change = RecordedChange::of_line(line);
                let is_meant = |change: &RecordedChange| change.begun <= self.window.until && change.ended >= self.window.since;
                self.found.changes.extend(change.filter(is_meant));
            }
        }
        if let Some(taken) = self.found.changes.get_mut(before..) {
            taken.reverse();
        }
    }
}

/// A quick look, before a line is read.
fn may_tell_change(line: &[u8]) -> bool {
    let has = |text: &[u8]| memchr::memmem::find(line, text).is_some();
    has(b"\"done\":\"") || has(b"\"kind\":\"operator\"") || has(b"\"kind\":\"drill\"")
}

fn time_of(line: &[u8]) -> Option<i64> {
    let fields: LineTime<'_> = serde_json::from_slice(line).ok()?;
    parse_millis(fields.time)
}

#[derive(Deserialize)]
struct LineTime<'a> {
    time: &'a str,
}

/// The members of a line that tells of a change.
#[derive(Deserialize)]
struct ChangeLine {
    seq: u64,
    gateway: String,
    time: String,
    kind: String,
    who: Option<Value>,
    action: Option<String>,
    target: Option<String>,
    replaced_by: Option<String>,
    tenant: Option<String>,
    outcome: Option<String>,
    took_ms: Option<i64>,
    request_id: Option<String>,
    route: Option<String>,
    credential: Option<String>,
    subject: Option<String>,
    took_us: Option<i64>,
    done: Option<String>,
}

impl RecordedChange {
    /// What a line tells; `None` when it tells of no change.
    fn of_line(line: &[u8]) -> Option<Self> {
        let line: ChangeLine = serde_json::from_slice(line).ok()?;
        let time = UnixMillis(parse_millis(&line.time)?);
        match line.kind.as_str() {
            "operator" | "drill" => line.into_action(time),
            _ => line.into_served(time),
        }
    }
}

impl ChangeLine {
    /// The time of an action is that of its end.
    fn into_action(self, ended: UnixMillis) -> Option<RecordedChange> {
        if self.outcome.as_deref() == Some("refused") {
            return None;
        }
        // A drill also opens and closes the tenant of drills.
        let tenant = self.tenant.filter(|_| self.kind == "drill");
        Some(RecordedChange {
            gateway: self.gateway,
            seq: self.seq,
            who: self.who?,
            action: self.action?,
            request_id: None,
            targets: self.target.into_iter().chain(self.replaced_by).chain(tenant).collect(),
            begun: UnixMillis(ended.0.saturating_sub(self.took_ms.unwrap_or(0))),
            ended,
        })
    }

    /// The time of a request is that of its beginning.
    fn into_served(self, begun: UnixMillis) -> Option<RecordedChange> {
        let done = self.done?;
        let mut words = done.split(' ');
        let action = words.next()?.to_owned();
        // What was done to no record names none.
        let targets: Vec<String> = words.filter_map(|word| Some(word.split_once(':')?.1.to_owned())).collect();
        if targets.is_empty() {
            return None;
        }
        let mut who = Map::new();
        who.insert("via".into(), "route".into());
        for (name, text) in [
            ("route", self.route),
            ("credential", self.credential),
            ("tenant", self.tenant),
            ("subject", self.subject),
        ] {
            if let Some(text) = text {
                who.insert(name.into(), text.into());
            }
        }
        Some(RecordedChange {
            gateway: self.gateway,
            seq: self.seq,
            who: Value::Object(who),
            action,
            request_id: self.request_id,
            targets,
            begun,
            ended: UnixMillis(begun.0.saturating_add(self.took_us.unwrap_or(0) / 1_000 + 1)),
        })
    }
}

#[cfg(test)]
mod tests;
