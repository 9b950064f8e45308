//! What must be true of receipts: whoever is counted as confirmed admits no more, and whoever may still admit is counted
//! or named.

use durward::admin::OperationError;
use durward::admin::receipts::Confirmation;
use jiff::Timestamp;

use crate::cast::EPOCH;
use crate::gateway::{Answer, Change};
use crate::model::{Circumstances, Model, Subject};
use crate::parts::Made;
use crate::world::World;

/// How far the clocks of machines are apart that are not wrong: two servers of the store, and a gateway from a server.
const APART: u64 = 1_000;

/// What one gateway is said to do.
#[derive(Debug, Clone)]
struct Row {
    id: String,
    confirmed: bool,
    /// By when it must have stopped, in true time.
    stopped_by: Option<u64>,
}

/// What an operator was told of a revocation that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// When it was acknowledged, in true time ...
    at: u64,
    /// ... and when the operator was told.
    answered: u64,
    /// Everybody is said to have applied it.
    confirmed: bool,
    rows: Option<Vec<Row>>,
    /// By when those have stopped whom nobody can name.
    others_by: Option<u64>,
    /// The gateway that told it has a wall clock that is wrong: times say nothing.
    wrong_clock: bool,
}

impl Verdict {
    fn of(waited: &Confirmation<Made>, at: u64, answered: u64, wrong_clock: bool) -> Self {
        let rows = waited.gateways.as_ref().map(|rows| {
            let rows = rows.iter().map(|row| Row {
                id: row.id.clone(),
                confirmed: row.confirmed,
                stopped_by: row.stopped_by.as_deref().map(truth_of),
            });
            rows.collect()
        });
        Self {
            at,
            answered,
            confirmed: waited.confirmed,
            rows,
            others_by: waited.not_ruled_out.as_ref().map(|others| truth_of(&others.stopped_by)),
            wrong_clock,
        }
    }

    /// What is broken when this gateway admits by what was before the revocation.
    fn judge(&self, gateway: &str, answer: &Answer) -> Option<String> {
        if answer.started < self.answered {
            return None;
        }
        let told = |what: String| Some(format!("revoked at {}, told at {}: {what}", self.at, self.answered));
        if self.confirmed {
            return told("all gateways were said to have applied it, and this one admitted".into());
        }
        // Then nobody is counted.
        let rows = self.rows.as_ref()?;
        let mut own = rows.iter().filter(|row| row.id == gateway).peekable();
        if own.peek().is_none() {
            return match self.others_by {
                Some(by) if self.wrong_clock || answer.decided <= by + APART => None,
                Some(by) => told(format!("those whom nobody can name were to have stopped by {by}")),
                None => told("this gateway was not counted, and nothing said that some may be left out".into()),
            };
        }
        let unconfirmed: Vec<&Row> = own.filter(|row| !row.confirmed).collect();
        if unconfirmed.is_empty() {
            return told("this gateway was counted as confirmed".into());
        }
        let by = unconfirmed.iter().filter_map(|row| row.stopped_by).max();
        match by {
            Some(by) if self.wrong_clock || answer.decided <= by + APART => None,
            Some(by) => told(format!("this gateway was to have stopped by {by}")),
            None => told("nothing said when this gateway must have stopped".into()),
        }
    }
}

/// The true time of what a machine showed whose clock is right.
fn truth_of(text: &str) -> u64 {
    let shown: Timestamp = text.parse().unwrap();
    u64::try_from(shown.as_millisecond() - EPOCH.0).unwrap_or(0)
}

impl Model {
    /// Judges an admission by what operators were told before.
    pub(crate) fn judge_told(&self, gateway: usize, answer: &Answer, subject: Subject) -> Option<String> {
        let revoked = self.fates[subject].revoked?;
        if revoked.only.is_some_and(|only| only & (1 << gateway) == 0) {
            return None;
        }
        let verdicts = self.verdicts.get(&subject)?;
        verdicts.iter().find_map(|verdict| verdict.judge(&self.ids[gateway], answer))
    }
}

impl Model {
    /// Whether the store lost data under a change of this key.
    pub(crate) fn is_doubtful(&self, key: usize) -> bool {
        self.fates[self.callers[key].subjects[0]].doubtful
    }

    /// Revocations of keys that were acknowledged in this line of data and that the store has not lost since: when, and
    /// of what.
    pub(crate) fn kept_revocations(&self) -> impl Iterator<Item = (u64, String)> {
        self.revoked.iter().filter_map(|key| {
            let caller = &self.callers[*key];
            let revoked = self.fates[caller.subjects[0]]
                .revoked
                .filter(|ended| ended.only.is_none() && ended.written > 0)?;
            Some((revoked.at, caller.id.clone()))
        })
    }
}

impl World {
    /// An operator was told who has applied a change.
    pub(crate) fn note_told(
        &mut self,
        g: usize,
        change: Change,
        number: u64,
        times: (u64, u64),
        outcome: Result<Confirmation<Made>, OperationError>,
    ) {
        let (at, answered) = times;
        let Change::Revoke(key) = change else { return };
        let waited = match outcome {
            // A change in doubt is not acknowledged.
            Ok(waited) if waited.result.is_some() && !self.has_strayed(number) => waited,
            _ => return,
        };
        let wrong_clock = self.model.wrong_clocks.contains(&g);
        let verdict = Verdict::of(&waited, at, answered, wrong_clock);
        self.report(format_args!(
            "gateway {g} has told of number {number}: {verdict:?}, {:?}",
            waited.doubts
        ));
        self.note(&[number, answered, u64::from(verdict.confirmed)]);
        self.told += 1;
        self.told_all += u64::from(verdict.confirmed);
        let begun = self.operated.get(&number).map_or(0, |asked| asked.begun);
        if let Some(broken) = self.judge_calm_verdict(begun, &verdict) {
            self.model.violations.push(format!("change {number} at gateway {g}: {broken}"));
        }
        let subject = self.model.callers[key].subjects[0];
        self.model.verdicts.entry(subject).or_default().push(verdict);
    }

    /// While nothing is wrong, everybody who is there confirms; and if nobody can have been lost, that is all.
    fn judge_calm_verdict(&self, begun: u64, verdict: &Verdict) -> Option<String> {
        if !self.is_calm(begun) || verdict.answered < verdict.at + ENOUGH && !verdict.confirmed {
            return None;
        }
        let confirmed = |id: &String| {
            let rows = verdict.rows.as_deref().unwrap_or_default();
            rows.iter().any(|row| row.id == *id && row.confirmed)
        };
        if let Some(id) = self.model.ids.iter().find(|id| !confirmed(id)) {
            return Some(format!("nothing is wrong, and {id} has not confirmed: {verdict:?}"));
        }
        (!verdict.confirmed && !self.list_lost).then(|| format!("nothing was ever lost, and not all is said to be confirmed: {verdict:?}"))
    }

    fn is_calm(&self, begun: u64) -> bool {
        let Circumstances { calm_since, .. } = self.around;
        calm_since.is_some_and(|since| begun >= since + self.model.recovery)
    }
}

/// A wait that lasted so long was long enough for every gateway while nothing is wrong.
const ENOUGH: u64 = 1_000;
