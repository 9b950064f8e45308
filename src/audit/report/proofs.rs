//! The proofs of the entries that a report rests on, to be checked without durward.
//!
//! A proof shows that an entry is in the trail, and where. That there is no other entry it cannot show: the numbers of the entry
//! before the end and of the newest signed one tell how many lie between, and whoever has the trail can look at them.

use std::collections::BTreeMap;

use super::super::checkpoint::CheckpointVerifier;
use super::super::prove::{ProofError, Prover};
use super::super::query::{EntryOrder, EntryQuery, FoundEntry, MergedMatches};
use super::super::segments::Segments;
use super::CredentialReport;

/// The proofs of one trail.
#[derive(Debug)]
pub struct TrailProofs {
    /// The proofs one after the other, as `verify_proof.py` reads them.
    pub text: String,
    pub proven: usize,
    /// Requests that no checkpoint covers yet.
    pub unsigned: usize,
}

/// Proves what a report rests on, as far as this trail has it.
///
/// # Errors
/// When an action is not signed yet, or the trail is broken.
pub fn prove(report: &CredentialReport, number: usize, trail: &Segments, key: &CheckpointVerifier) -> Result<TrailProofs, ProofError> {
    let prover = Prover::open(trail.directory(), key)?;
    let size = prover.size();
    let kept = report.evidence.entries.iter().filter(|kept| kept.trail == number);
    let mut entries: BTreeMap<u64, FoundEntry> = kept.map(|kept| (kept.entry.seq, kept.entry.clone())).collect();
    if let Some(end) = &report.end {
        let before = newest(trail, Some(end.ended_millis()), |_| true);
        let last = newest(trail, None, |entry| entry.seq < size);
        entries.extend(before.into_iter().chain(last).map(|entry| (entry.seq, entry)));
    }
    let mut proofs = TrailProofs {
        text: String::new(),
        proven: 0,
        unsigned: 0,
    };
    for (seq, entry) in entries {
        // On a gateway that runs the newest requests are never signed yet.
        if seq >= size && entry.line.contains("\"kind\":\"request\"") {
            proofs.unsigned += 1;
            continue;
        }
        proofs.text.push_str(&prover.prove(seq, entry.line.as_bytes())?);
        proofs.proven += 1;
    }
    Ok(proofs)
}

fn newest(trail: &Segments, until: Option<i64>, wanted: impl Fn(&FoundEntry) -> bool) -> Option<FoundEntry> {
    let query = EntryQuery {
        until,
        order: EntryOrder::NewestFirst,
        ..EntryQuery::default()
    };
    let mut matches = MergedMatches::new(std::slice::from_ref(trail), &query);
    matches.find(|(_, entry)| wanted(entry)).map(|(_, entry)| entry)
}
