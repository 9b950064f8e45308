//! The requests of a credential, and which of them came after its end.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::super::query::{EntryQuery, FoundEntry};
use super::super::segments::Segments;
use super::{EndTimes, ReadProblems, ReportEvidence, TrailReach, each, ended_at, text_of};

/// Most values of one count that a report names; the others are counted together.
const MAX_NAMED: usize = 50;

/// Most requests of one list. All are counted.
const MAX_LISTED: usize = 50;

/// Denials of requests that were admitted, and failed behind that: a service did not answer, or refused. After `internal` nobody
/// knows what was done.
const BEHIND: [&str; 5] = [
    "upstream_unreachable",
    "upstream_timeout",
    "upstream_invalid",
    "refused_by_service",
    "internal",
];

/// Denials that say that a credential has ended.
const ENDED: [&str; 4] = ["revoked_credential", "disabled_credential", "expired_credential", "inactive_tenant"];

/// All requests of a credential.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CredentialUses {
    pub requests: u64,
    pub admitted: u64,
    pub refused: u64,
    /// Forwarded without identity, because the route only reports (`insecure_report_only`).
    pub only_reported: u64,
    /// The first request that was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_use: Option<CredentialUse>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_use: Option<CredentialUse>,
    pub routes: BTreeMap<String, u64>,
    pub addresses: BTreeMap<String, u64>,
    pub statuses: BTreeMap<String, u64>,
    pub denials: BTreeMap<String, u64>,
    pub by_gateway: BTreeMap<String, u64>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CredentialUse {
    pub time: String,
    /// When its response had ended.
    pub until: String,
    pub gateway: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<String>,
}

/// What came after the end was acknowledged.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AfterEnd {
    /// Admitted, or still open, when the end held everywhere.
    pub admitted: u64,
    pub admitted_list: Vec<CredentialUse>,
    /// Admitted after the acknowledgement, and ended before the end held everywhere.
    pub between: u64,
    pub between_list: Vec<CredentialUse>,
    /// Admitted before the acknowledgement, and ended between it and when the end held everywhere.
    pub open_at_end: u64,
    /// Refused since the acknowledgement.
    pub refused: u64,
    pub refused_list: Vec<CredentialUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<CredentialUse>,
    /// Forwarded without identity since the acknowledgement.
    pub only_reported: u64,
    /// Requests that were refused because the store could not be asked, so that nobody knows whose they were.
    pub unknown_callers: Vec<UnknownCallers>,
}

/// Requests of one gateway whose callers are not known.
#[derive(Debug, Clone, Serialize)]
pub struct UnknownCallers {
    pub gateway: String,
    pub refused: u64,
    pub first: String,
    pub last: String,
}

/// What is counted.
#[derive(Clone, Copy)]
pub(super) struct Counting<'c> {
    pub(super) credential: &'c str,
    pub(super) trails: &'c [Segments],
    pub(super) gateways: &'c [TrailReach],
    pub(super) times: Option<EndTimes>,
}

/// All that was counted.
pub(super) struct Counted {
    pub(super) all: CredentialUses,
    pub(super) after: AfterEnd,
}

/// What is read of an entry.
#[derive(Debug, Deserialize)]
struct RequestLine {
    kind: String,
    #[serde(default)]
    gateway: String,
    request_id: Option<String>,
    client: Option<String>,
    method: Option<String>,
    path: Option<String>,
    route: Option<String>,
    status: Option<u16>,
    denial: Option<String>,
    #[serde(default)]
    report_only: bool,
    took_us: Option<u64>,
    upstream: Option<String>,
    credential: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UseOutcome {
    Admitted,
    Refused,
    OnlyReported,
}

impl RequestLine {
    /// Whether it was admitted by its credential. A request with an upstream was on its way to a service: if it has a denial
    /// too, it failed there, or was cut off.
    fn outcome(&self, time: i64, times: Option<EndTimes>) -> UseOutcome {
        let denial = self.denial.as_deref();
        if self.report_only {
            // Before the end this denial is not true yet: the request was admitted, and would have been cut off later.
            let later = denial.is_some_and(|denial| ENDED.contains(&denial)) && times.is_some_and(|times| time < times.ended);
            return if later { UseOutcome::Admitted } else { UseOutcome::OnlyReported };
        }
        match denial {
            None => UseOutcome::Admitted,
            Some(denial) if self.upstream.is_some() || BEHIND.contains(&denial) => UseOutcome::Admitted,
            Some(_) => UseOutcome::Refused,
        }
    }

    fn shown(&self, time: i64, until: i64) -> CredentialUse {
        CredentialUse {
            time: text_of(time),
            until: text_of(until),
            gateway: self.gateway.clone(),
            request_id: self.request_id.clone(),
            client: self.client.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            status: self.status,
            denial: self.denial.clone(),
        }
    }
}

/// Counts the requests of a credential.
pub(super) fn count(counting: Counting<'_>, evidence: &mut ReportEvidence, unread: &mut ReadProblems) -> Counted {
    let mut counter = UseCounter {
        counting,
        evidence,
        counted: Counted {
            all: CredentialUses::default(),
            after: AfterEnd::default(),
        },
    };
    // Answered, and not ended yet, or never: their end is not on record.
    let mut answered: HashMap<(usize, Option<String>), Vec<OpenUse>> = HashMap::new();
    let query = EntryQuery {
        credential: Some(counting.credential.to_owned()),
        ..EntryQuery::default()
    };
    each(counting.trails, query, unread, |trail, entry| {
        let Ok(line) = serde_json::from_str::<RequestLine>(&entry.line) else {
            return;
        };
        let key = (trail, line.request_id.clone());
        match line.kind.as_str() {
            "answered" => answered.entry(key).or_default().push(OpenUse { trail, entry, line }),
            "request" => {
                if let Some(before) = answered.get_mut(&key) {
                    before.pop();
                }
                let until = ended_at(entry.time, line.took_us);
                counter.add(trail, entry, &line, until);
            }
            _ => {}
        }
    });
    let mut open: Vec<OpenUse> = answered.into_values().flatten().collect();
    open.sort_by_key(|open| (open.entry.time, open.trail, open.entry.seq));
    for OpenUse { trail, entry, line } in open {
        let until = counter.last_moment(trail, &entry, unread);
        counter.add(trail, entry, &line, until);
    }
    counter.count_unknown(unread);
    counter.counted
}

/// A request that was answered, as long as no entry tells its end.
struct OpenUse {
    trail: usize,
    entry: FoundEntry,
    line: RequestLine,
}

struct UseCounter<'c> {
    counting: Counting<'c>,
    evidence: &'c mut ReportEvidence,
    counted: Counted,
}

impl UseCounter<'_> {
    fn add(&mut self, trail: usize, entry: FoundEntry, line: &RequestLine, until: i64) {
        let outcome = line.outcome(entry.time, self.counting.times);
        let all = &mut self.counted.all;
        all.requests += 1;
        match outcome {
            UseOutcome::Admitted => {
                all.admitted += 1;
                let shown = || line.shown(entry.time, until);
                if all.first_use.as_ref().is_none_or(|first| text_of(entry.time) < first.time) {
                    all.first_use = Some(shown());
                }
                if all.last_use.as_ref().is_none_or(|last| text_of(entry.time) >= last.time) {
                    all.last_use = Some(shown());
                }
            }
            UseOutcome::Refused => all.refused += 1,
            UseOutcome::OnlyReported => all.only_reported += 1,
        }
        add(&mut all.routes, line.route.as_deref());
        add(&mut all.addresses, line.client.as_deref());
        add(&mut all.statuses, line.status.map(|status| status.to_string()).as_deref());
        add(&mut all.denials, line.denial.as_deref());
        add(&mut all.by_gateway, Some(&line.gateway));
        if let Some(times) = self.counting.times {
            self.counted.after.add(outcome, times, entry.time, line, until);
            if until >= times.ended {
                self.evidence.keep(trail, entry);
            }
        }
    }

    /// Until when a request may have been open whose end is not on record: until its gateway started again, or until now.
    fn last_moment(&self, trail: usize, open: &FoundEntry, unread: &mut ReadProblems) -> i64 {
        let query = EntryQuery {
            kind: Some("start".into()),
            ..EntryQuery::default()
        };
        let alone = self.counting.trails.get(trail).map(std::slice::from_ref).unwrap_or_default();
        let mut start = None;
        each(alone, query, unread, |_, entry| {
            if entry.seq > open.seq && start.is_none() {
                start = Some(entry.time);
            }
        });
        let now = self.counting.gateways.get(trail).map_or(open.time, |reach| reach.to_millis);
        start.unwrap_or(now)
    }

    /// Counts what was refused since the end without the caller being known.
    fn count_unknown(&mut self, unread: &mut ReadProblems) {
        let Some(times) = self.counting.times else { return };
        for (number, reach) in self.counting.gateways.iter().enumerate() {
            let query = EntryQuery {
                denial: Some("store_unavailable".into()),
                since: Some(times.ended),
                ..EntryQuery::default()
            };
            let alone = self.counting.trails.get(number).map(std::slice::from_ref).unwrap_or_default();
            let mut found: Option<UnknownCallers> = None;
            each(alone, query, unread, |_, entry| {
                let line = serde_json::from_str::<RequestLine>(&entry.line).ok();
                if line.is_none_or(|line| line.kind != "request" || line.credential.is_some() || line.upstream.is_some()) {
                    return;
                }
                let time = text_of(entry.time);
                let counted = found.get_or_insert_with(|| UnknownCallers {
                    gateway: reach.gateway.clone(),
                    refused: 0,
                    first: time.clone(),
                    last: time.clone(),
                });
                counted.refused += 1;
                counted.last = time;
            });
            self.counted.after.unknown_callers.extend(found);
        }
    }
}

impl AfterEnd {
    fn add(&mut self, outcome: UseOutcome, times: EndTimes, time: i64, line: &RequestLine, until: i64) {
        let list = match outcome {
            UseOutcome::Admitted if until >= times.holds => {
                self.admitted += 1;
                &mut self.admitted_list
            }
            UseOutcome::Admitted if time >= times.ended => {
                self.between += 1;
                &mut self.between_list
            }
            UseOutcome::Admitted => {
                self.open_at_end += u64::from(until >= times.ended);
                return;
            }
            UseOutcome::Refused if time >= times.ended => {
                self.refused += 1;
                self.last_refused = Some(line.shown(time, until));
                &mut self.refused_list
            }
            UseOutcome::OnlyReported if time >= times.ended => {
                self.only_reported += 1;
                return;
            }
            UseOutcome::Refused | UseOutcome::OnlyReported => return,
        };
        if list.len() < MAX_LISTED {
            list.push(line.shown(time, until));
        }
    }
}

pub(super) fn add(counts: &mut BTreeMap<String, u64>, value: Option<&str>) {
    let Some(value) = value else { return };
    let name = if counts.len() < MAX_NAMED || counts.contains_key(value) {
        value
    } else {
        "(others)"
    };
    *counts.entry(name.to_owned()).or_default() += 1;
}
