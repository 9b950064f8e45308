//! The real cache under the model: put into a state of the model, asked one question, and read back.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use super::world::{ABSENT_AGE, MAX_AGE, Marks, ModelCache, ReadAnswer, Sight};
use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::CredentialId;
use crate::base::principal::{CredentialRecord, CredentialState, Facts, Position, Reading};
use crate::store::cached::CacheSettings;
use crate::store::cached::entries::{Absence, CacheEntry, FactsCache, Recalled};
use crate::store::codec::tests::{facts_of, sample};
use crate::store::events::{Positions, Slots};
use crate::store::{CredentialChange, Event, EventSink, change};

/// A tick in milliseconds. Any would do: only comparisons count.
const TICK: u64 = 1_000;

/// The present on the real clock. Any would do that leaves room for the ages before it.
const NOW: BootMillis = BootMillis(100 * TICK);

/// The times of a change. None of the changes looks at the second.
const AT: change::ChangeTimes = change::ChangeTimes {
    now: UnixMillis(1),
    watermark: UnixMillis(1),
};

/// A question to the real cache. The answer depends on nothing else: the cache is put into this state each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    /// What may be used now, if the facts were revalidated so long ago?
    Recall(Marks, ModelCache, u8),
    /// May this answer be given to a caller that asked after the event of this position?
    Answer(Marks, ReadAnswer, u8),
    /// What is in the cache after this answer has landed?
    Land(Marks, ModelCache, ReadAnswer),
    /// What is in the cache after the store has said that nothing has changed since this read?
    Confirm(Marks, ModelCache, ReadAnswer),
}

#[derive(Debug, Clone, Copy)]
enum Reply {
    Recalled(Option<ReadAnswer>),
    MayAnswer(bool),
    Holds(ModelCache),
}

/// The real cache. Each distinct question is put to it once; its reply is kept.
pub(super) struct RealCache {
    cache: FactsCache,
    record: CredentialRecord,
    other: CredentialRecord,
    replies: HashMap<Question, Reply, BuildHasherDefault<super::Mixer>>,
}

impl RealCache {
    pub(super) fn new() -> Self {
        let settings = CacheSettings {
            max_age: Duration::from_millis(u64::from(MAX_AGE) * TICK),
            absent_age: Duration::from_millis(u64::from(ABSENT_AGE) * TICK),
            ..CacheSettings::default()
        };
        let record = sample();
        let mut other = record.clone();
        other.id = CredentialId::parse("another").unwrap();
        other.fingerprint = Fingerprint::from_bytes([9; 32]);
        other.secret_fingerprint = None;
        Self {
            cache: FactsCache::new(&settings, Arc::default()),
            record,
            other,
            replies: HashMap::default(),
        }
    }

    /// How many questions the real code was asked.
    pub(super) fn questions(&self) -> usize {
        self.replies.len()
    }

    pub(super) fn recall(&mut self, marks: Marks, held: ModelCache, revalidated: u8) -> Option<ReadAnswer> {
        match self.ask(Question::Recall(marks, held, revalidated)) {
            Reply::Recalled(seen) => seen,
            reply => panic!("{reply:?}"),
        }
    }

    pub(super) fn may_answer(&mut self, marks: Marks, seen: ReadAnswer, heard: u8) -> bool {
        match self.ask(Question::Answer(marks, seen, heard)) {
            Reply::MayAnswer(may) => may,
            reply => panic!("{reply:?}"),
        }
    }

    pub(super) fn land(&mut self, marks: Marks, held: ModelCache, seen: ReadAnswer) -> ModelCache {
        match self.ask(Question::Land(marks, held, seen)) {
            Reply::Holds(held) => held,
            reply => panic!("{reply:?}"),
        }
    }

    pub(super) fn confirm(&mut self, marks: Marks, held: ModelCache, seen: ReadAnswer) -> ModelCache {
        match self.ask(Question::Confirm(marks, held, seen)) {
            Reply::Holds(held) => held,
            reply => panic!("{reply:?}"),
        }
    }

    fn ask(&mut self, question: Question) -> Reply {
        if let Some(reply) = self.replies.get(&question) {
            return *reply;
        }
        let reply = match question {
            Question::Recall(marks, held, revalidated) => {
                self.set(marks, held);
                if revalidated < MAX_AGE {
                    self.cache.positions.revalidate(Position(marks.heard.into()), sent_at(revalidated));
                }
                Reply::Recalled(match self.cache.recall(&self.record.fingerprint, NOW) {
                    Recalled::Present(entry) => Some(seen_in(&entry.facts)),
                    Recalled::Absent => self.cache.absent.get(&self.record.fingerprint).map(seen_of),
                    Recalled::Nothing => None,
                })
            }
            Question::Answer(marks, seen, heard) => {
                self.set(marks, ModelCache::default());
                let heard = Position(heard.into());
                Reply::MayAnswer(match self.facts(seen) {
                    Some(facts) => self.cache.may_answer(&facts, heard, NOW),
                    None => self.cache.may_answer_absent(&self.record.fingerprint, absence(seen), heard, NOW),
                })
            }
            Question::Land(marks, held, seen) => {
                self.set(marks, held);
                match self.facts(seen) {
                    Some(facts) => self.cache.remember(self.record.fingerprint, &facts),
                    None => self.cache.remember_absent(self.record.fingerprint, absence(seen)),
                };
                Reply::Holds(self.contents())
            }
            Question::Confirm(marks, held, seen) => {
                self.set(marks, held);
                let position = Position(seen.position.into());
                self.cache.confirm(&self.record.fingerprint, position, sent_at(seen.age));
                Reply::Holds(self.contents())
            }
        };
        self.replies.insert(question, reply);
        reply
    }

    /// Puts the real cache into this state: the events by applying them, the rest directly.
    fn set(&mut self, marks: Marks, held: ModelCache) {
        let positions = Positions::with_slots(1_024);
        let apply = |position: u8, record: &CredentialRecord| {
            positions.apply(&Event {
                position: Position(position.into()),
                at: None,
                subject: change::credential_event(record),
            });
        };
        if marks.own > 0 {
            apply(marks.own, &self.record);
        }
        if marks.floor > 0 {
            positions.forget_before(Position(marks.floor.into()));
        }
        if marks.heard > marks.own.max(marks.floor) {
            apply(marks.heard, &self.other);
        }
        assert_eq!(positions.newest(), Position(marks.heard.into()));
        self.cache.positions = Arc::new(positions);
        self.cache.present.invalidate(&self.record.fingerprint);
        self.cache.absent.invalidate(&self.record.fingerprint);
        if let Some(facts) = held.present.and_then(|seen| self.facts(seen)) {
            let slots = Slots::of(&facts);
            let entry = CacheEntry::new(self.record.fingerprint, facts, slots, u64::MAX);
            self.cache.present.insert(self.record.fingerprint, Arc::new(entry));
        }
        if let Some(seen) = held.absent {
            self.cache.absent.insert(self.record.fingerprint, absence(seen));
        }
        assert_eq!(self.contents(), held, "the real cache is not in the state of the model");
    }

    /// What the real cache holds, usable or not.
    fn contents(&self) -> ModelCache {
        ModelCache {
            present: self.cache.present.get(&self.record.fingerprint).map(|entry| seen_in(&entry.facts)),
            absent: self.cache.absent.get(&self.record.fingerprint).map(seen_of),
        }
    }

    /// The facts that a read has brought; none for an absence.
    fn facts(&self, seen: ReadAnswer) -> Option<Arc<Facts>> {
        let mut credential = self.record.clone();
        credential.state = state(seen.sight)?;
        Some(Arc::new(Facts {
            reading: Reading::new(sent_at(seen.age), Position(seen.position.into())).with_proven_history(),
            ..facts_of(credential)
        }))
    }
}

/// From which state to which a change can lead, by the real rule of every store
/// ([`change::change_credential`]); a making leads from absent to active.
pub(super) fn possible_changes() -> Vec<(Sight, Sight)> {
    let mut possible = vec![(Sight::Absent, Sight::Active)];
    for from in Sight::ALL {
        let Some(state) = state(from) else { continue };
        let record = CredentialRecord { state, ..sample() };
        for change in [CredentialChange::Revoke, CredentialChange::Disable, CredentialChange::Enable] {
            if let Ok(change::ChangeOutcome::Changed(after)) = change::change_credential(&record, &change, AT) {
                possible.push((from, sight(after.state)));
            }
        }
    }
    possible
}

fn state(sight: Sight) -> Option<CredentialState> {
    match sight {
        Sight::Absent => None,
        Sight::Active => Some(CredentialState::Active),
        Sight::Disabled => Some(CredentialState::Disabled),
        Sight::Revoked => Some(CredentialState::Revoked { at: UnixMillis(0) }),
    }
}

const fn sight(state: CredentialState) -> Sight {
    match state {
        CredentialState::Active => Sight::Active,
        CredentialState::Disabled => Sight::Disabled,
        CredentialState::Revoked { .. } => Sight::Revoked,
    }
}

fn seen_in(facts: &Facts) -> ReadAnswer {
    ReadAnswer {
        position: u8::try_from(facts.position().0).unwrap(),
        age: age(facts.sent_at()),
        sight: sight(facts.credential.state),
    }
}

fn seen_of(absence: Absence) -> ReadAnswer {
    ReadAnswer {
        position: u8::try_from(absence.position.0).unwrap(),
        age: age(absence.sent_at),
        sight: Sight::Absent,
    }
}

fn absence(seen: ReadAnswer) -> Absence {
    Absence {
        sent_at: sent_at(seen.age),
        position: Position(seen.position.into()),
    }
}

fn sent_at(age: u8) -> BootMillis {
    BootMillis(NOW.0 - u64::from(age) * TICK)
}

fn age(sent_at: BootMillis) -> u8 {
    u8::try_from((NOW.0 - sent_at.0) / TICK).unwrap()
}
