//! What trails do not tell about the time since an end. As long as there is anything of it, nobody can say that nothing happened.

use std::collections::BTreeSet;
use std::io;

use serde_json::Value;

use super::super::query::{EntryOrder, EntryQuery, FoundEntry, MergedMatches};
use super::super::segments::Segments;
use super::{CredentialEnd, EndTimes, ReadProblems, ReportEvidence, TrailReach, each, ended_at, text_of, time_in};

/// What stands against a statement, and what only has to be known with it.
#[derive(Default)]
pub(super) struct GapsAndNotes {
    pub(super) gaps: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// First and last entry of a trail.
pub(super) fn reach(trail: &Segments) -> io::Result<TrailReach> {
    let directory = trail.directory().display().to_string();
    let (Some(first), Some(last)) = (end_of(trail, EntryOrder::OldestFirst), end_of(trail, EntryOrder::NewestFirst)) else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{directory}: the trail has no entry that can be read"),
        ));
    };
    let value = serde_json::from_str::<Value>(&last.line).unwrap_or(Value::Null);
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let to = ended_at(last.time, value.get("took_us").and_then(Value::as_u64));
    Ok(TrailReach {
        gateway: text("gateway").to_owned(),
        stopped: text("kind") == "stop",
        directory,
        from: text_of(first.time),
        to: text_of(to),
        first_seq: first.seq,
        from_millis: first.time,
        to_millis: to,
    })
}

fn end_of(trail: &Segments, order: EntryOrder) -> Option<FoundEntry> {
    let query = EntryQuery {
        order,
        ..EntryQuery::default()
    };
    let found = MergedMatches::new(std::slice::from_ref(trail), &query).next();
    found.map(|(_, entry)| entry)
}

/// What the trails do not tell about the time since the end.
pub(super) fn gaps(
    trails: &[Segments],
    reaches: &[TrailReach],
    end: &CredentialEnd,
    times: EndTimes,
    evidence: &mut ReportEvidence,
    unread: &mut ReadProblems,
) -> GapsAndNotes {
    let mut found = GapsAndNotes::default();
    if let Some(doubt) = &end.doubt {
        found.gaps.push(format!(
            "the end is not confirmed ({doubt}): repeat the command until it exits with 0"
        ));
    }
    for (number, (trail, reach)) in trails.iter().zip(reaches).enumerate() {
        let name = &reach.gateway;
        // A gateway that came later was not there to admit anything.
        let is_new = reach.first_seq == 0 && end.has_receipts() && !end.gateways().contains(name.as_str());
        let continues = reaches
            .iter()
            .any(|other| other.gateway == *name && other.from_millis < reach.from_millis);
        if reach.from_millis > times.ended && !is_new && !(continues && reach.first_seq == 0) {
            found
                .gaps
                .push(format!("{name}: the trail begins at {}, after the end", reach.from));
        }
        if !reach.stopped && reach.to_millis < times.holds {
            found.gaps.push(format!(
                "{name}: the trail ends at {}, before the end held everywhere, without an entry `stop`; if the gateway only had nothing to \
                 do, `durward reload` there makes an entry",
                reach.to
            ));
        }
        for missing in trail.missing_entries() {
            if missing.before.is_none_or(|before| before >= times.ended) {
                found.gaps.push(format!(
                    "{name}: the entries {} to {} are in no file, or in two",
                    missing.first, missing.last
                ));
            }
        }
        told(number, trails, name, times, &mut found, evidence, unread);
    }
    unlisted(end, reaches, &mut found);
    found
}

/// The gaps that a trail tells itself.
fn told(
    number: usize,
    trails: &[Segments],
    name: &str,
    times: EndTimes,
    found: &mut GapsAndNotes,
    evidence: &mut ReportEvidence,
    unread: &mut ReadProblems,
) {
    let query = EntryQuery {
        kind: Some("gap".into()),
        ..EntryQuery::default()
    };
    let alone = trails.get(number).map(std::slice::from_ref).unwrap_or_default();
    each(alone, query, unread, |_, entry| {
        let Ok(value) = serde_json::from_str::<Value>(&entry.line) else {
            return;
        };
        let reason = value.get("reason").and_then(Value::as_str).unwrap_or("unknown");
        let entries = value.get("entries").and_then(Value::as_u64);
        // Without its own end, a gap ends where it was told.
        let to = time_in(&value, "to").unwrap_or(entry.time);
        if to < times.ended {
            return;
        }
        if reason == "refused" {
            found.notes.push(format!(
                "{name}: {} requests were refused until {}, because their entries had no room",
                entries.unwrap_or(0),
                text_of(to)
            ));
        } else {
            let from = time_in(&value, "from").map_or_else(|| "an unknown time".to_owned(), text_of);
            let lost = entries.map(|entries| format!(", {entries} entries")).unwrap_or_default();
            found.gaps.push(format!(
                "{name}: entry {} tells a gap ({reason}{lost}) from {from} to {}",
                entry.seq,
                text_of(to)
            ));
        }
        evidence.keep(number, entry);
    });
}

/// Gateways that the receipts name, or cannot rule out, and whose trails were not given.
fn unlisted(end: &CredentialEnd, reaches: &[TrailReach], found: &mut GapsAndNotes) {
    if !end.has_receipts() {
        found
            .notes
            .push("nobody waited for receipts (--wait), so other gateways than these may have been there".to_owned());
        return;
    }
    let given: BTreeSet<&str> = reaches.iter().map(|reach| reach.gateway.as_str()).collect();
    for id in end.gateways() {
        if !given.contains(id) {
            found.gaps.push(format!(
                "{id}: a receipt names this gateway, and its trail was not given with --directory"
            ));
        }
    }
    if let Some(more) = end.more_gateways() {
        found
            .gaps
            .push(format!("the entry of the end names {more} gateways less than there were"));
    }
    if end.is_somebody_not_ruled_out() {
        found
            .gaps
            .push("the receipts do not rule out that there were other gateways: repeat the command until it exits with 0".to_owned());
    }
}
