//! The real memory on the bench: set to what a state of the model says, asked one question, read back.

use std::collections::HashMap;

use super::super::*;
use super::world::{ABSENT_AGE, Held, MAX_AGE, Marks, Seen, Sight};
use crate::base::clock::UnixMillis;
use crate::base::ids::CredentialId;
use crate::base::principal::{CredentialRecord, CredentialState, Reading};
use crate::store::codec::tests::{facts_of, sample};
use crate::store::{CredentialChange, Event, EventSink, change};

/// A tick in milliseconds. Any would do: only comparisons count.
const TICK: u64 = 1_000;

/// The present on the real clock. Any would do that leaves room for the ages before it.
const NOW: BootMillis = BootMillis(100 * TICK);

/// The times of a change. None of the changes looks at the second.
const AT: change::At = change::At {
    now: UnixMillis(1),
    watermark: UnixMillis(1),
};

/// What the memory is asked. Its answer depends on nothing else: it is put into this state each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    /// What is known?
    Recall(Marks, Held),
    /// May this be given to somebody who had heard of so much?
    Answer(Marks, Seen, u8),
    /// What is remembered after this has landed?
    Land(Marks, Held, Seen),
    /// What is remembered after it was told that nothing has changed since?
    Confirm(Marks, Held, Seen),
}

#[derive(Debug, Clone, Copy)]
enum Reply {
    Recalled(Option<Seen>),
    MayAnswer(bool),
    Holds(Held),
}

/// Each distinct question is put to the real code once; its reply is kept.
pub(super) struct Bench {
    memory: Memory,
    record: CredentialRecord,
    other: CredentialRecord,
    replies: HashMap<Question, Reply, BuildHasherDefault<super::Mixer>>,
}

impl Bench {
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
            memory: Memory::new(&settings, Arc::default()),
            record,
            other,
            replies: HashMap::default(),
        }
    }

    /// How many questions the real code was asked.
    pub(super) fn questions(&self) -> usize {
        self.replies.len()
    }

    pub(super) fn recall(&mut self, marks: Marks, held: Held) -> Option<Seen> {
        match self.ask(Question::Recall(marks, held)) {
            Reply::Recalled(seen) => seen,
            reply => panic!("{reply:?}"),
        }
    }

    pub(super) fn may_answer(&mut self, marks: Marks, seen: Seen, heard: u8) -> bool {
        match self.ask(Question::Answer(marks, seen, heard)) {
            Reply::MayAnswer(may) => may,
            reply => panic!("{reply:?}"),
        }
    }

    pub(super) fn land(&mut self, marks: Marks, held: Held, seen: Seen) -> Held {
        match self.ask(Question::Land(marks, held, seen)) {
            Reply::Holds(held) => held,
            reply => panic!("{reply:?}"),
        }
    }

    pub(super) fn confirm(&mut self, marks: Marks, held: Held, seen: Seen) -> Held {
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
            Question::Recall(marks, held) => {
                self.set(marks, held);
                Reply::Recalled(match self.memory.recall(&self.record.fingerprint, NOW) {
                    Recalled::Present(entry) => Some(seen_in(&entry.facts)),
                    Recalled::Absent => self.memory.absent.get(&self.record.fingerprint).map(seen_of),
                    Recalled::Nothing => None,
                })
            }
            Question::Answer(marks, seen, heard) => {
                self.set(marks, Held::default());
                let heard = Position(heard.into());
                Reply::MayAnswer(match self.facts(seen) {
                    Some(facts) => self.memory.may_answer(&facts, heard, NOW),
                    None => self.memory.may_answer_absent(&self.record.fingerprint, absence(seen), heard, NOW),
                })
            }
            Question::Land(marks, held, seen) => {
                self.set(marks, held);
                match self.facts(seen) {
                    Some(facts) => self.memory.remember(self.record.fingerprint, &facts),
                    None => self.memory.remember_absent(self.record.fingerprint, absence(seen)),
                };
                Reply::Holds(self.held())
            }
            Question::Confirm(marks, held, seen) => {
                self.set(marks, held);
                let position = Position(seen.position.into());
                self.memory.confirm(&self.record.fingerprint, position, sent_at(seen.age));
                Reply::Holds(self.held())
            }
        };
        self.replies.insert(question, reply);
        reply
    }

    /// Puts the real memory into this state: the events by applying them, the rest directly.
    fn set(&mut self, marks: Marks, held: Held) {
        let positions = Positions::with_slots(1_024);
        let tell = |position: u8, record: &CredentialRecord| {
            positions.apply(&Event {
                position: Position(position.into()),
                at: None,
                subject: change::credential_event(record),
            });
        };
        if marks.own > 0 {
            tell(marks.own, &self.record);
        }
        if marks.floor > 0 {
            positions.forget_before(Position(marks.floor.into()));
        }
        if marks.heard > marks.own.max(marks.floor) {
            tell(marks.heard, &self.other);
        }
        assert_eq!(positions.newest(), Position(marks.heard.into()));
        self.memory.positions = Arc::new(positions);
        self.memory.present.invalidate(&self.record.fingerprint);
        self.memory.absent.invalidate(&self.record.fingerprint);
        if let Some(facts) = held.present.and_then(|seen| self.facts(seen)) {
            let slots = Slots::of(&facts);
            let entry = crate::store::cached::Held::new(self.record.fingerprint, facts, slots, u64::MAX);
            self.memory.present.insert(self.record.fingerprint, Arc::new(entry));
        }
        if let Some(seen) = held.absent {
            self.memory.absent.insert(self.record.fingerprint, absence(seen));
        }
        assert_eq!(self.held(), held, "the real memory is not in the state of the model");
    }

    /// What the real memory holds, used or not.
    fn held(&self) -> Held {
        Held {
            present: self.memory.present.get(&self.record.fingerprint).map(|entry| seen_in(&entry.facts)),
            absent: self.memory.absent.get(&self.record.fingerprint).map(seen_of),
        }
    }

    /// The facts of a sight; none for an absence.
    fn facts(&self, seen: Seen) -> Option<Arc<Facts>> {
        let mut credential = self.record.clone();
        credential.state = state(seen.sight)?;
        Some(Arc::new(Facts {
            reading: Reading::new(sent_at(seen.age), Position(seen.position.into())),
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
            if let Ok(change::Outcome::Changed(after)) = change::change_credential(&record, &change, AT) {
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

fn seen_in(facts: &Facts) -> Seen {
    Seen {
        position: u8::try_from(facts.position().0).unwrap(),
        age: age(facts.sent_at()),
        sight: sight(facts.credential.state),
    }
}

fn seen_of(absence: Absence) -> Seen {
    Seen {
        position: u8::try_from(absence.position.0).unwrap(),
        age: age(absence.sent_at),
        sight: Sight::Absent,
    }
}

fn absence(seen: Seen) -> Absence {
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
