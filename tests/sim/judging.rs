//! Judges every answer of a gateway, and how all ends.

use durward::base::denial::Denial;

use crate::cast::{KEYS, TENANTS};
use crate::gateway::Answer;
use crate::model::{Circumstances, Model};

/// How long a change may take to reach every gateway when nothing is wrong: three delays of the
/// simulated network and the slowest tick.
const PUSH: u64 = 600;

/// How soon whoever waits is told after an answer about somebody else has arrived: another connection is asked then, as
/// long as a look-up may take.
const PROMPT: u64 = 260;

/// How long after the last answer of a majority of the sentinels a gateway believes an absence (`ABSENCE_OF_PRIMARY` in
/// `store::cached`).
const UNHEARD: u64 = 5_000;

/// A counter is the lower part of a position; the upper part counts histories.
const COUNTER: u64 = (1 << 40) - 1;

impl Model {
    /// Judges what a gateway did with a request.
    pub(crate) fn judge(&mut self, gateway: usize, answer: &Answer, around: Circumstances) {
        if !around.went_back {
            self.applied.insert(gateway, answer.applied & COUNTER);
        }
        self.last.insert((gateway, answer.key), (answer.decided, answer.outcome.is_ok()));
        let calm = around.calm_since.is_some_and(|since| answer.started >= since + self.recovery);
        let broken = match &answer.outcome {
            Ok((id, tenant)) => self.judge_admission(gateway, answer, id, tenant, around),
            Err(denial) => self.judge_denial(gateway, answer, *denial, calm, around),
        };
        if let Some(rule) = broken {
            self.violations.push(format!(
                "gateway {gateway}, key {} at {} (decided {}): {rule}",
                self.callers[answer.key].id, answer.started, answer.decided
            ));
        }
    }

    fn judge_admission(&mut self, gateway: usize, answer: &Answer, id: &str, tenant: &str, around: Circumstances) -> Option<String> {
        self.admitted += 1;
        let caller = &self.callers[answer.key];
        let Some(owner) = caller.tenant else {
            return Some("an unknown key was admitted".into());
        };
        if id != caller.id || tenant != TENANTS[owner] {
            return Some(format!("admitted as {id} of {tenant}"));
        }
        let known = self.known_at(gateway, answer.key);
        if known.is_none_or(|at| at + self.max_age <= answer.decided) {
            return Some(format!("facts were used beyond their age: last read or revalidated at {known:?}"));
        }
        if let Some(broken) = caller
            .subjects
            .iter()
            .find_map(|subject| self.judge_told(gateway, answer, *subject))
        {
            return Some(broken);
        }
        let fates = caller.subjects.iter().map(|subject| self.fates[*subject]);
        for ended in fates.flat_map(|fate| [fate.ended, fate.revoked]).flatten() {
            // What the store lost and a running gateway saw is restored everywhere, once all is well.
            let calm = around.calm_since.is_some_and(|since| answer.started >= since + self.recovery);
            if !calm && ended.only.is_some_and(|only| only & (1 << gateway) == 0) {
                continue;
            }
            if answer.decided >= ended.at + self.max_age {
                return Some(format!("admitted after the bound: ended at {}", ended.at));
            }
            let applied = answer.applied & COUNTER;
            if !around.went_back && ended.counter.is_some_and(|counter| applied >= counter) {
                return Some(format!(
                    "admitted after its event was applied: ended at {}, {applied} applied",
                    ended.at
                ));
            }
            let calm_all_along = around.calm_since.is_some_and(|since| ended.at >= since + self.recovery);
            if calm_all_along && answer.started >= ended.at + PUSH {
                return Some(format!("nothing is wrong, and the push did not come: ended at {}", ended.at));
            }
        }
        None
    }

    /// Whether the key was made after the gateway was cut off together with the primary of that time, and at most [`UNHEARD`] has gone
    /// by since. The old primary has no such key, and the gateway still believes it.
    fn was_made_elsewhere(&self, gateway: usize, answer: &Answer) -> bool {
        let made = self.written.get(&self.callers[answer.key].id);
        let cut = self.cut_off.get(&gateway);
        made.zip(cut)
            .is_some_and(|(made, cut)| cut <= made && answer.decided <= cut + UNHEARD + PROMPT)
    }

    fn judge_denial(&mut self, gateway: usize, answer: &Answer, denial: Denial, calm: bool, around: Circumstances) -> Option<String> {
        let known = self.callers[answer.key].tenant.is_some();
        match denial {
            Denial::StoreUnavailable | Denial::CorruptRecord => {
                self.unavailable += 1;
                let exchanged = self.exchanged.contains(&answer.key);
                if calm && !exchanged {
                    return Some(format!("nothing is wrong, and the answer was {denial:?}"));
                }
                let astray = self.astray.get(&gateway).is_some_and(|at| answer.decided <= at + PROMPT);
                (denial == Denial::CorruptRecord && !astray && !exchanged).then(|| "a record was called corrupt".into())
            }
            Denial::UnknownCredential => {
                self.refused += 1;
                // What was made since may be lost with the data that the store lost.
                let lost = answer.key >= KEYS.len() && around.went_back;
                (known && !lost && !self.was_made_elsewhere(gateway, answer)).then(|| "a key that exists was called unknown".into())
            }
            Denial::RevokedCredential | Denial::DisabledCredential | Denial::InactiveTenant | Denial::InsufficientScope if known => {
                self.refused += 1;
                let touched = self.callers[answer.key].subjects.iter().any(|subject| self.fates[*subject].touched);
                (!touched).then(|| format!("nobody ended it, and the answer was {denial:?}"))
            }
            _ => Some(format!("the answer was {denial:?}")),
        }
    }

    /// At the end, when all is well: every gateway answers for every key, and admits what nobody ended.
    pub(crate) fn judge_end(&mut self, gateways: usize, since: u64, around: Circumstances) {
        for (gateway, (key, caller)) in
            (0..gateways).flat_map(|g| self.callers.iter().take(self.asked).enumerate().map(move |caller| (g, caller)))
        {
            let last = self.last.get(&(gateway, key)).filter(|(decided, _)| *decided >= since);
            let lost = key >= KEYS.len() && around.went_back;
            let untouched = caller.tenant.is_some() && !lost && !caller.subjects.iter().any(|subject| self.fates[*subject].touched);
            let name = &caller.id;
            match last {
                None => self
                    .violations
                    .push(format!("gateway {gateway} gives no answer to {name} any more")),
                Some((_, false)) if untouched => self.violations.push(format!("gateway {gateway} does not admit {name} any more")),
                Some(_) => {}
            }
        }
    }
}
