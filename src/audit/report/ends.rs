//! What ended a credential: something that was done to it, to what it hangs on, or to its tenant. docs/revocation.md says what ends
//! a credential; a role that is deleted is not among it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::query::{EntryQuery, FoundEntry};
use super::super::segments::Segments;
use super::effects::{Effect, EndReason, RecordAbove, Relation, above, done_list, effects, makes, name_of};
use super::{EndTimes, ReadProblems, ReportAction, ReportEvidence, each, ended_at, text_of, time_in};

/// Most records that are looked at for one credential: itself, what it hangs on, and what those took the place of.
const MAX_RECORDS: usize = 16;

/// When a credential ended.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialEnd {
    pub action: String,
    /// What was ended: the credential, its tenant, or what it hangs on.
    pub of: String,
    pub who: Value,
    pub gateway: String,
    /// When the end was acknowledged; of a credential that expired, when it did.
    pub acknowledged: String,
    /// When it held everywhere: after the bound, or when the receipts say that the last gateway had stopped.
    pub holds_since: String,
    /// The receipts of the action and of its repetitions, as they were recorded.
    pub receipts: Vec<Value>,
    /// Why the store may lose the end again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    #[serde(skip)]
    ended: i64,
    /// The latest time by which a gateway had stopped, by the receipts of the action itself.
    #[serde(skip)]
    stopped: Option<i64>,
}

impl CredentialEnd {
    pub(super) fn times(&self, bound: Duration) -> EndTimes {
        let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        let held = self.ended.saturating_add(bound);
        EndTimes {
            ended: self.ended,
            holds: self.stopped.map_or(held, |stopped| stopped.max(held)),
        }
    }

    pub(super) const fn ended_millis(&self) -> i64 {
        self.ended
    }

    pub(super) fn has_receipts(&self) -> bool {
        self.receipts.iter().any(|wait| wait.get("gateways").is_some_and(Value::is_array))
    }

    /// The ids in the receipts.
    pub(super) fn gateways(&self) -> BTreeSet<&str> {
        let lists = self.receipts.iter().filter_map(|wait| wait.get("gateways")?.as_array());
        lists.flatten().filter_map(|gateway| gateway.get("id")?.as_str()).collect()
    }

    /// How many receipts there were beyond those that the entry shows.
    pub(super) fn more_gateways(&self) -> Option<u64> {
        self.receipts.last()?.get("more_gateways")?.as_u64()
    }

    pub(super) fn is_somebody_not_ruled_out(&self) -> bool {
        self.receipts.last().is_some_and(|wait| wait.get("not_ruled_out").is_some())
    }
}

/// What trails say about the life of a credential.
pub(super) struct Life {
    pub(super) tenant: Option<String>,
    pub(super) actions: Vec<ReportAction>,
    pub(super) end: Option<CredentialEnd>,
    pub(super) notes: Vec<String>,
}

/// Reads it. What happened after the newest entry of all trails has not happened yet.
pub(super) fn read(credential: &str, trails: &[Segments], newest: i64, evidence: &mut ReportEvidence, unread: &mut ReadProblems) -> Life {
    let mut reader = LifeReader {
        trails,
        unread,
        told: Vec::new(),
        events: Vec::new(),
        notes: Vec::new(),
        made_at: None,
    };
    let tenant = reader.read_own(credential);
    reader.read_ancestors(credential);
    if let Some(tenant) = &tenant {
        reader.read_tenant(tenant);
    }
    let (end, mut notes) = reader.conclude(newest);
    let mut told = reader.told;
    told.sort_by_key(|told| (told.entry.time, told.trail, told.entry.seq));
    notes.append(&mut reader.notes);
    let mut actions = Vec::with_capacity(told.len());
    for ActionWithEntry { trail, entry, action } in told {
        evidence.keep(trail, entry);
        actions.push(action);
    }
    Life {
        tenant,
        actions,
        end,
        notes,
    }
}

/// An action with its entry.
struct ActionWithEntry {
    trail: usize,
    entry: FoundEntry,
    action: ReportAction,
}

struct LifeEvent {
    at: i64,
    holder: String,
    effect: Effect,
    relation: Relation,
    action: ReportAction,
}

impl LifeEvent {
    fn doubt(&self) -> Option<&str> {
        self.action.text("message")
    }
}

struct LifeReader<'r> {
    trails: &'r [Segments],
    unread: &'r mut ReadProblems,
    told: Vec<ActionWithEntry>,
    events: Vec<LifeEvent>,
    notes: Vec<String>,
    /// When the credential was made, if the trails tell it.
    made_at: Option<i64>,
}

impl LifeReader<'_> {
    /// The actions whose target is this record. An `answered` entry tells the same as the `request` that follows it.
    fn actions_on(&mut self, target: &str) -> Vec<ActionWithEntry> {
        let mut found = Vec::new();
        let query = EntryQuery {
            target: Some(target.to_owned()),
            ..EntryQuery::default()
        };
        each(self.trails, query, self.unread, |trail, entry| found.extend(told(trail, entry)));
        let ended: BTreeSet<String> = found
            .iter()
            .filter(|told| told.action.text("kind") == Some("request"))
            .filter_map(|told| told.action.text("request_id").map(str::to_owned))
            .collect();
        let is_double = |told: &ActionWithEntry| {
            told.action.text("kind") == Some("answered") && told.action.text("request_id").is_some_and(|id| ended.contains(id))
        };
        found.retain(|told| !is_double(told));
        found
    }

    /// Reads what the credential itself tells: its tenant, and that it logged out.
    fn read_own(&mut self, credential: &str) -> Option<String> {
        let mut tenant = None;
        let mut own = Vec::new();
        let query = EntryQuery {
            credential: Some(credential.to_owned()),
            ..EntryQuery::default()
        };
        each(self.trails, query, self.unread, |trail, entry| {
            if tenant.is_none() || entry.line.contains("\"done\":\"log_out ") {
                let Some(found) = told(trail, entry) else { return };
                tenant = tenant.take().or_else(|| found.action.text("tenant").map(str::to_owned));
                if found.action.text("kind") == Some("request")
                    && found.action.text("done").is_some_and(|done| done.starts_with("log_out "))
                {
                    own.push(found);
                }
            }
        });
        own.extend(self.actions_on(credential));
        let of_own = own.iter().filter(|told| told.action.text("target") == Some(credential));
        tenant = tenant.or_else(|| of_own.filter_map(|told| told.action.text("tenant")).next().map(str::to_owned));
        for told in &own {
            if makes(&told.action, credential) {
                self.made_at = Some(self.made_at.map_or(told.action.at, |at| at.min(told.action.at)));
            }
            if told.action.text("done").is_some_and(|done| done.starts_with("rotate "))
                && done_list(&told.action).first() == Some(&credential)
            {
                self.notes.push(format!(
                    "{} {}: a served route rotated it; its entry does not tell when the old credential ends, which `grace` of the route sets",
                    told.action.time, told.action.gateway
                ));
            }
            self.note_effects(&told.action, credential, Relation::Itself);
        }
        self.keep(own);
        tenant
    }

    fn keep(&mut self, told: Vec<ActionWithEntry>) {
        for told in told {
            let is_there = |there: &ActionWithEntry| there.trail == told.trail && there.entry.seq == told.entry.seq;
            if !self.told.iter().any(is_there) {
                self.told.push(told);
            }
        }
    }

    fn note_effects(&mut self, action: &ReportAction, holder: &str, relation: Relation) {
        for (at, effect) in effects(action, holder, relation) {
            let is_before = effect != Effect::Ends(EndReason::Issued) || self.made_at.is_none_or(|made| made <= at);
            if is_before {
                self.events.push(LifeEvent {
                    at,
                    holder: holder.to_owned(),
                    effect,
                    relation,
                    action: action.clone(),
                });
            }
        }
    }

    /// Reads what was done to the records that the credential hangs on.
    fn read_ancestors(&mut self, credential: &str) {
        let mut waiting = vec![RecordAbove::itself(credential)];
        let mut seen = BTreeSet::new();
        while let Some(record) = waiting.pop() {
            if seen.len() == MAX_RECORDS {
                self.notes.push(format!(
                    "it hangs on more than {MAX_RECORDS} records, and only those were looked at"
                ));
                return;
            }
            if !seen.insert(record.id.clone()) {
                continue;
            }
            let mut kept = Vec::new();
            for told in self.actions_on(&record.id) {
                waiting.extend(above(&told.action, &record));
                if record.ends_what_is_below && !effects(&told.action, &record.id, record.relation).is_empty() {
                    self.note_effects(&told.action, &record.id, record.relation);
                    kept.push(told);
                }
            }
            self.keep(kept);
        }
    }

    fn read_tenant(&mut self, tenant: &str) {
        let mut on_it = self.actions_on(tenant);
        on_it.retain(|told| !effects(&told.action, tenant, Relation::Tenant).is_empty());
        for told in &on_it {
            self.note_effects(&told.action, tenant, Relation::Tenant);
        }
        self.keep(on_it);
    }

    /// The last end that nothing took back.
    fn conclude(&mut self, newest: i64) -> (Option<CredentialEnd>, Vec<String>) {
        let mut notes = Vec::new();
        self.events.sort_by_key(|event| event.at);
        let certain = |event: &&LifeEvent| event.relation != Relation::PresumedAncestor;
        let past = || self.events.iter().filter(|event| event.at <= newest);
        let end = last_end(past().filter(certain)).or_else(|| last_end(past()));
        let Some(end) = end else {
            let later = self.events.iter().filter(certain).find(|event| event.at > newest);
            notes.extend(later.map(|event| format!("it ends by itself at {}", text_of(event.at))));
            return (None, notes);
        };
        if end.relation == Relation::PresumedAncestor {
            notes.push(format!(
                "the credential is taken to hang on {}, which made it or was made with it; the trail does not tell that",
                end.holder
            ));
        }
        let repeats = past().filter(|event| event.at >= end.at && event.holder == end.holder && event.effect != Effect::Restores);
        let end = CredentialEnd {
            action: name_of(&end.action),
            of: end.holder.clone(),
            who: who_of(&end.action),
            gateway: end.action.gateway.clone(),
            acknowledged: text_of(end.at),
            holds_since: String::new(),
            receipts: repeats.filter_map(|event| event.action.entry.get("wait").cloned()).collect(),
            doubt: end.doubt().map(str::to_owned),
            ended: end.at,
            stopped: end.action.entry.get("wait").and_then(last_stop),
        };
        (Some(end), notes)
    }
}

fn last_stop(wait: &Value) -> Option<i64> {
    let listed = wait.get("gateways").and_then(Value::as_array).into_iter().flatten();
    let stops = listed.chain(wait.get("not_ruled_out"));
    stops.filter_map(|stop| time_in(stop, "stopped_by")).max()
}

/// The event since which there was always a reason. An end that the store may lose counts only until one is confirmed.
fn last_end<'e>(events: impl Iterator<Item = &'e LifeEvent>) -> Option<&'e LifeEvent> {
    let mut reasons = BTreeSet::new();
    let mut since: Option<&LifeEvent> = None;
    for event in events {
        match event.effect {
            Effect::Restores => {
                reasons.remove(&(event.holder.as_str(), EndReason::Disabled));
                if reasons.is_empty() {
                    since = None;
                }
            }
            Effect::Ends(reason) => {
                let is_first = reasons.is_empty();
                reasons.insert((event.holder.as_str(), reason));
                if is_first || since.is_some_and(|end| end.doubt().is_some() && event.doubt().is_none()) {
                    since = Some(event);
                }
            }
        }
    }
    since
}

fn told(trail: usize, entry: FoundEntry) -> Option<ActionWithEntry> {
    let value: Value = serde_json::from_str(&entry.line).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let waited = value.get("wait").and_then(|wait| time_in(wait, "acknowledged_at"));
    let at = waited.unwrap_or_else(|| ended_at(entry.time, value.get("took_us").and_then(Value::as_u64)));
    let action = ReportAction {
        time: text("time"),
        gateway: text("gateway"),
        entry: value,
        at,
    };
    Some(ActionWithEntry { trail, entry, action })
}

/// Who did it. A served route acts for whoever called it.
fn who_of(action: &ReportAction) -> Value {
    action.entry.get("who").cloned().unwrap_or_else(|| {
        json!({
            "via": "route",
            "credential": action.text("credential"),
            "tenant": action.text("tenant"),
            "subject": action.text("subject"),
        })
    })
}
