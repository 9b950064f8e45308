//! What one credential did, and whether anything was admitted with it after its end: the answer that an incident needs.
//!
//! The report reads trails and nothing else. What it cannot know from them it says: a gap, and no number.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::fields::parse_millis;
use super::query::{EntryOrder, EntryQuery, FoundEntry, MergedMatches};
use super::segments::Segments;

mod completeness;
mod effects;
mod ends;
pub mod proofs;
mod uses;

pub use ends::CredentialEnd;
pub use uses::{AfterEnd, CredentialUse, CredentialUses};

/// Most bytes of entries that are kept for proofs.
const MAX_PROVEN: usize = 16 * 1_024 * 1_024;

/// What a credential did.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialReport {
    pub credential: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The trails that were read.
    pub gateways: Vec<TrailReach>,
    #[serde(flatten)]
    pub uses: CredentialUses,
    /// What was done to it, and to what it hangs on, in order.
    pub actions: Vec<ReportAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<CredentialEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<AfterEnd>,
    /// What the trails do not tell about the time since the end.
    pub gaps: Vec<String>,
    pub notes: Vec<String>,
    /// Absent where it cannot be said. Where there are gaps, there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admitted_after_the_end: Option<u64>,
    /// The answer for people.
    pub statement: String,
    /// The entries that it rests on.
    #[serde(skip)]
    pub evidence: ReportEvidence,
}

/// How far a trail reaches.
#[derive(Debug, Clone, Serialize)]
pub struct TrailReach {
    pub directory: String,
    pub gateway: String,
    pub from: String,
    pub to: String,
    /// Whether its last entry says that the gateway stopped.
    pub stopped: bool,
    /// The number of the first entry.
    #[serde(skip)]
    first_seq: u64,
    #[serde(skip)]
    from_millis: i64,
    #[serde(skip)]
    to_millis: i64,
}

/// An action that concerns the credential.
#[derive(Debug, Clone, Serialize)]
pub struct ReportAction {
    pub time: String,
    pub gateway: String,
    /// The entry as it was recorded.
    pub entry: Value,
    #[serde(skip)]
    at: i64,
}

impl ReportAction {
    fn text(&self, name: &str) -> Option<&str> {
        self.entry.get(name).and_then(Value::as_str)
    }
}

/// An entry of a report: the number of its trail, and where it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportEntry {
    pub trail: usize,
    pub entry: FoundEntry,
}

/// The entries that a report rests on.
#[derive(Debug, Clone, Default)]
pub struct ReportEvidence {
    pub entries: Vec<ReportEntry>,
    /// How many more there are.
    pub omitted: u64,
    bytes: usize,
}

impl ReportEvidence {
    fn keep(&mut self, trail: usize, entry: FoundEntry) {
        let bytes = self.bytes.saturating_add(entry.line.len());
        if bytes > MAX_PROVEN {
            self.omitted += 1;
            return;
        }
        self.bytes = bytes;
        self.entries.push(ReportEntry { trail, entry });
    }
}

/// When a credential ended, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct EndTimes {
    ended: i64,
    /// From here on the end holds everywhere.
    holds: i64,
}

/// Reports on a credential, with the bound of the gateways' configuration. What could not be read is a gap.
///
/// # Errors
/// When a trail has no entry that can be read.
pub fn report(credential: &str, trails: &[Segments], bound: Duration) -> io::Result<CredentialReport> {
    let gateways = trails.iter().map(completeness::reach).collect::<io::Result<Vec<_>>>()?;
    let newest = gateways.iter().map(|trail| trail.to_millis).max().unwrap_or(i64::MIN);
    let mut evidence = ReportEvidence::default();
    let mut unread = ReadProblems::default();
    let life = ends::read(credential, trails, newest, &mut evidence, &mut unread);
    let times = life.end.as_ref().map(|end| end.times(bound));
    let uses = uses::count(
        uses::Counting {
            credential,
            trails,
            gateways: &gateways,
            times,
        },
        &mut evidence,
        &mut unread,
    );
    let mut report = CredentialReport {
        credential: credential.to_owned(),
        tenant: life.tenant,
        gateways,
        uses: uses.all,
        actions: life.actions,
        end: None,
        after: None,
        gaps: Vec::new(),
        notes: life.notes,
        admitted_after_the_end: None,
        statement: "the trails tell no end of this credential, so nothing is said about the time after it".to_owned(),
        evidence,
    };
    if let Some((mut end, times)) = life.end.zip(times) {
        let found = completeness::gaps(trails, &report.gateways, &end, times, &mut report.evidence, &mut unread);
        (report.gaps, report.notes) = (found.gaps, [report.notes, found.notes].concat());
        end.holds_since = text_of(times.holds);
        report.end = Some(end);
        report.judge(uses.after);
    }
    report.gaps.extend(unread.missing);
    report.notes.extend(unread.read_whole);
    report.conclude();
    Ok(report)
}

impl CredentialReport {
    fn judge(&mut self, after: AfterEnd) {
        self.admitted_after_the_end = Some(after.admitted);
        self.after = Some(after);
    }

    fn conclude(&mut self) {
        let Some(admitted) = self.admitted_after_the_end else { return };
        self.statement = match (admitted, self.gaps.len()) {
            (0, 0) => "admitted after the end: 0".to_owned(),
            (0, gaps) => {
                self.admitted_after_the_end = None;
                format!(
                    "admitted after the end: this cannot be said, because of {gaps} gap{}",
                    if gaps == 1 { "" } else { "s" }
                )
            }
            (admitted, 0) => format!("admitted after the end: {admitted}"),
            (admitted, _) => format!("admitted after the end: at least {admitted}"),
        };
        if admitted == 0 && self.gaps.is_empty() && self.gateways.iter().any(|trail| !trail.stopped) {
            self.notes
                .push("a request or stream that is still open has no entry yet".to_owned());
        }
    }

    /// Whether the trails show that nothing was admitted after the end.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.admitted_after_the_end == Some(0)
    }

    /// Whether the trails know the credential at all.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.uses.requests > 0 || !self.actions.is_empty()
    }
}

/// What reading the trails met. Every query meets the same, so each text stands here once.
#[derive(Default)]
struct ReadProblems {
    /// What could not be read. The report lacks it.
    missing: BTreeSet<String>,
    /// What was read slowly, without an index. The report lacks nothing because of it.
    read_whole: BTreeSet<String>,
}

/// Calls `take` with each entry, oldest first.
fn each(trails: &[Segments], query: EntryQuery, unread: &mut ReadProblems, mut take: impl FnMut(usize, FoundEntry)) {
    let query = EntryQuery {
        order: EntryOrder::OldestFirst,
        ..query
    };
    let mut matches = MergedMatches::new(trails, &query);
    for (trail, entry) in matches.by_ref() {
        take(trail, entry);
    }
    unread.missing.extend(matches.problems());
    unread.read_whole.extend(matches.remarks());
}

fn text_of(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "an unknown time".into(), |time| format!("{time:.3}"))
}

/// When a request had ended, by its entry.
fn ended_at(time: i64, took_us: Option<u64>) -> i64 {
    let millis = took_us.unwrap_or(0).div_ceil(1_000);
    time.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// A member that is a time.
fn time_in(value: &Value, name: &str) -> Option<i64> {
    value.get(name).and_then(Value::as_str).and_then(parse_millis)
}

#[cfg(test)]
mod tests;
