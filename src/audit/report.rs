//! What one credential did, and whether anything was admitted with it after its end: the answer that an incident needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::fields::parse_millis;
use super::query::{EntryOrder, EntryQuery, FoundEntry, MergedMatches};
use super::segments::Segments;

/// Most values of one count that a report names; the others are counted together.
const MAX_NAMED: usize = 50;

/// Most entries whose places are kept for proofs.
const MAX_PROVEN: usize = 1_000;

/// Denials of requests that the gateway had admitted: the service behind them did not answer.
const ADMITTED: [&str; 4] = ["upstream_unreachable", "upstream_timeout", "upstream_invalid", "refused_by_service"];

/// What a credential did.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialReport {
    pub credential: String,
    /// The trails that were read.
    pub gateways: Vec<TrailReach>,
    pub requests: u64,
    pub admitted: u64,
    pub refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_use: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_use: Option<String>,
    pub routes: BTreeMap<String, u64>,
    pub addresses: BTreeMap<String, u64>,
    pub statuses: BTreeMap<String, u64>,
    pub denials: BTreeMap<String, u64>,
    /// What operators did to it, and what it did to records itself, in order.
    pub actions: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<CredentialEnd>,
    /// What the trail does not tell about the time after the end.
    pub gaps: Vec<String>,
    /// What was admitted after the end; absent where it cannot be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admitted_after_the_end: Option<u64>,
    /// The statement for people.
    pub statement: String,
    #[serde(skip)]
    pub proven: Vec<ReportEntry>,
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
}

/// When a credential ended.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialEnd {
    pub action: String,
    pub who: Value,
    /// When the end was acknowledged.
    pub acknowledged: String,
    /// When it held everywhere: the acknowledgement and the bound of the configuration.
    pub holds_since: String,
    /// Which gateways confirmed, where somebody waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Value>,
    /// Admitted after the acknowledgement and before it held everywhere.
    pub admitted_between: u64,
    /// Refused since the acknowledgement.
    pub refused_since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_try: Option<String>,
}

/// An entry of a report: the number of its trail, and where it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportEntry {
    pub trail: usize,
    pub entry: FoundEntry,
}

/// Reports on a credential. What could not be read is a gap.
///
/// # Errors
/// When a trail has no entry that can be read.
pub fn report(credential: &str, trails: &[Segments], bound: Duration) -> io::Result<CredentialReport> {
    let mut report = CredentialReport::of(credential);
    for trail in trails {
        report.gateways.push(reach(trail)?);
    }
    let mut unread = Vec::new();
    let targets = report.actions_on(trails, &mut unread);
    let end = last_end(&targets);
    let times = end.as_ref().map(|end| EndTimes {
        acknowledged: end.acknowledged,
        holds: end
            .acknowledged
            .saturating_add(i64::try_from(bound.as_millis()).unwrap_or(i64::MAX)),
    });
    let mut after = AfterEnd::default();
    report.count(trails, times, &mut after, &mut unread);
    if let (Some(end), Some(times)) = (end, times) {
        report.gaps = gaps(trails, times, &report.gateways, &mut unread);
        report.gaps.extend(unlisted_gateways(&end, &report.gateways));
        report.gaps.extend(unread.into_iter().collect::<BTreeSet<_>>());
        report.end = Some(CredentialEnd {
            action: end.action,
            who: end.who,
            acknowledged: text_of(times.acknowledged),
            holds_since: text_of(times.holds),
            receipts: end.receipts,
            admitted_between: after.admitted_between,
            refused_since: after.refused,
            last_try: after.last_try.map(text_of),
        });
        let reached = report.gateways.iter().all(|trail| trail.reaches(times.holds));
        report.admitted_after_the_end = (after.admitted > 0 || report.gaps.is_empty() && reached).then_some(after.admitted);
    } else {
        report.gaps.extend(unread);
    }
    report.statement = report.say(after);
    Ok(report)
}

#[derive(Debug, Clone, Copy)]
struct EndTimes {
    acknowledged: i64,
    holds: i64,
}

#[derive(Debug, Default, Clone, Copy)]
struct AfterEnd {
    admitted_between: u64,
    admitted: u64,
    refused: u64,
    last_try: Option<i64>,
}

/// An action that ended the credential.
struct EndAction {
    action: String,
    who: Value,
    acknowledged: i64,
    receipts: Option<Value>,
}

impl TrailReach {
    /// Whether it tells about this time: it has a later entry, or its gateway stopped before.
    fn reaches(&self, time: i64) -> bool {
        self.stopped || parse_millis(&self.to).is_some_and(|to| to >= time)
    }
}

impl CredentialReport {
    fn of(credential: &str) -> Self {
        Self {
            credential: credential.to_owned(),
            gateways: Vec::new(),
            requests: 0,
            admitted: 0,
            refused: 0,
            first_use: None,
            last_use: None,
            routes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            statuses: BTreeMap::new(),
            denials: BTreeMap::new(),
            actions: Vec::new(),
            end: None,
            gaps: Vec::new(),
            admitted_after_the_end: None,
            statement: String::new(),
            proven: Vec::new(),
        }
    }

    /// The actions whose target is the credential.
    fn actions_on(&mut self, trails: &[Segments], unread: &mut Vec<String>) -> Vec<Value> {
        let query = EntryQuery {
            target: Some(self.credential.clone()),
            order: EntryOrder::OldestFirst,
            ..EntryQuery::default()
        };
        let mut matches = MergedMatches::new(trails, &query);
        for (trail, entry) in matches.by_ref() {
            if let Ok(value) = serde_json::from_str::<Value>(&entry.line) {
                self.actions.push(value);
                self.keep(trail, entry);
            }
        }
        unread.extend(matches.problems());
        self.actions.clone()
    }

    fn keep(&mut self, trail: usize, entry: FoundEntry) {
        if self.proven.len() < MAX_PROVEN {
            self.proven.push(ReportEntry { trail, entry });
        }
    }

    /// Counts the requests of the credential.
    fn count(&mut self, trails: &[Segments], times: Option<EndTimes>, after: &mut AfterEnd, unread: &mut Vec<String>) {
        let query = EntryQuery {
            credential: Some(self.credential.clone()),
            order: EntryOrder::OldestFirst,
            ..EntryQuery::default()
        };
        let mut matches = MergedMatches::new(trails, &query);
        let (mut first, mut last): (Option<i64>, Option<i64>) = (None, None);
        for (trail, entry) in matches.by_ref() {
            let Ok(value) = serde_json::from_str::<Value>(&entry.line) else {
                continue;
            };
            let text = |name: &str| value.get(name).and_then(Value::as_str);
            match text("kind") {
                Some("request") => {}
                Some("operator") => {
                    self.actions.push(value);
                    self.keep(trail, entry);
                    continue;
                }
                _ => continue,
            }
            let denial = text("denial");
            let admitted = denial.is_none_or(|denial| ADMITTED.contains(&denial)) && value.get("report_only").is_none();
            self.requests += 1;
            if admitted {
                self.admitted += 1;
                first = Some(first.map_or(entry.time, |time| time.min(entry.time)));
                last = Some(last.map_or(entry.time, |time| time.max(entry.time)));
            } else {
                self.refused += 1;
            }
            let status = value.get("status").map(ToString::to_string);
            add(&mut self.routes, text("route"));
            add(&mut self.addresses, text("client"));
            add(&mut self.statuses, status.as_deref());
            add(&mut self.denials, denial);
            let Some(times) = times else {
                continue;
            };
            // A stream that was admitted before and was still open then counts too.
            let took = value.get("took_us").and_then(Value::as_i64).unwrap_or(0) / 1_000;
            let until = entry.time.saturating_add(took);
            if admitted && until >= times.holds {
                after.admitted += 1;
            } else if admitted && entry.time >= times.acknowledged {
                after.admitted_between += 1;
            } else if !admitted && entry.time >= times.acknowledged {
                after.refused += 1;
            }
            if entry.time >= times.acknowledged {
                after.last_try = after.last_try.max(Some(entry.time));
            }
            if until >= times.acknowledged {
                self.keep(trail, entry);
            }
        }
        (self.first_use, self.last_use) = (first.map(text_of), last.map(text_of));
        unread.extend(matches.problems());
    }

    fn say(&self, after: AfterEnd) -> String {
        let Some(end) = &self.end else {
            return "the trail has no end of this credential, so nothing is said about the time after it".into();
        };
        if after.admitted > 0 {
            return format!("admitted after the end: {}", after.admitted);
        }
        match self.admitted_after_the_end {
            Some(_) => format!(
                "admitted after the end: 0 (since {}, on the gateways {})",
                end.holds_since,
                self.gateways
                    .iter()
                    .map(|trail| trail.gateway.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            None => "whether nothing was admitted after the end cannot be said: the trails have gaps in that time".into(),
        }
    }
}

/// The last end that no later action took back.
fn last_end(actions: &[Value]) -> Option<EndAction> {
    let mut end = None;
    for action in actions {
        let text = |name: &str| action.get(name).and_then(Value::as_str);
        let (Some(name), Some("done")) = (text("action"), text("outcome")) else {
            continue;
        };
        let verb = name.rsplit('.').next().unwrap_or(name);
        match verb {
            "enable" => end = None,
            "revoke" | "disable" | "delete" => {
                // To end twice changes nothing: the first end counts.
                if end.is_some() {
                    continue;
                }
                let receipts = action.get("wait").cloned();
                let acknowledged = receipts
                    .as_ref()
                    .and_then(|wait| wait.get("acknowledged_at"))
                    .and_then(Value::as_str);
                let Some(acknowledged) = acknowledged.or_else(|| text("time")).and_then(parse_millis) else {
                    continue;
                };
                end = Some(EndAction {
                    action: name.to_owned(),
                    who: action.get("who").cloned().unwrap_or(Value::Null),
                    acknowledged,
                    receipts,
                });
            }
            _ => {}
        }
    }
    end
}

/// What the trails do not tell about the time since the acknowledgement.
fn gaps(trails: &[Segments], times: EndTimes, reaches: &[TrailReach], unread: &mut Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (trail, reach) in trails.iter().zip(reaches) {
        if parse_millis(&reach.from).is_none_or(|from| from > times.acknowledged) {
            found.push(format!("{}: the trail begins at {}, after the end", reach.gateway, reach.from));
        }
        if !reach.reaches(times.holds) {
            found.push(format!(
                "{}: the trail ends at {}, before the end held everywhere, and does not say that the gateway stopped",
                reach.gateway, reach.to
            ));
        }
        found.extend(trail.holes().into_iter().map(|hole| format!("{}: {hole}", reach.gateway)));
        let query = EntryQuery {
            kind: Some("gap".into()),
            order: EntryOrder::OldestFirst,
            ..EntryQuery::default()
        };
        let alone = std::slice::from_ref(trail);
        let mut matches = MergedMatches::new(alone, &query);
        for (_, entry) in matches.by_ref() {
            let Ok(value) = serde_json::from_str::<Value>(&entry.line) else {
                continue;
            };
            let text = |name: &str| value.get(name).and_then(Value::as_str);
            // Without its own end, a gap ends where it was told.
            let to = text("to").and_then(parse_millis).unwrap_or(entry.time);
            if to >= times.acknowledged {
                let reason = text("reason").unwrap_or("unknown");
                let from = text("from").unwrap_or("an unknown time");
                found.push(format!("{}: a gap ({reason}) from {from} to {}", reach.gateway, text_of(to)));
            }
        }
        unread.extend(matches.problems());
    }
    found
}

/// Gateways of the receipts whose trails were not given.
fn unlisted_gateways(end: &EndAction, reaches: &[TrailReach]) -> Vec<String> {
    let receipts = end.receipts.as_ref();
    let list = receipts.and_then(|wait| wait.as_array().or_else(|| wait.get("gateways")?.as_array()));
    let ids = list.into_iter().flatten().filter_map(|gateway| gateway.get("id")?.as_str());
    ids.filter(|id| reaches.iter().all(|reach| reach.gateway != *id))
        .map(|id| format!("{id}: its trail was not given with --directory"))
        .collect()
}

/// First and last entry of a trail.
fn reach(trail: &Segments) -> io::Result<TrailReach> {
    let of = |order| {
        let query = EntryQuery {
            order,
            ..EntryQuery::default()
        };
        MergedMatches::new(std::slice::from_ref(trail), &query).next()
    };
    let directory = trail.directory().display().to_string();
    let (Some((_, first)), Some((_, last))) = (of(EntryOrder::OldestFirst), of(EntryOrder::NewestFirst)) else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{directory}: the trail has no entries"),
        ));
    };
    let last_value = serde_json::from_str::<Value>(&last.line).unwrap_or(Value::Null);
    let text = |name: &str| last_value.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(TrailReach {
        gateway: text("gateway").to_owned(),
        stopped: text("kind") == "stop",
        directory,
        from: text_of(first.time),
        to: text_of(last.time),
    })
}

fn add(counts: &mut BTreeMap<String, u64>, value: Option<&str>) {
    let Some(value) = value else {
        return;
    };
    let name = if counts.len() < MAX_NAMED || counts.contains_key(value) {
        value
    } else {
        "(others)"
    };
    *counts.entry(name.to_owned()).or_default() += 1;
}

fn text_of(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "an unknown time".into(), |time| format!("{time:.3}"))
}
