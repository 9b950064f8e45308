//! Every order in which reads, changes, events and time can meet at the real memory, explored to the
//! end: no reachable state answers what it must not (scorecard S14).
//!
//! # What is real and what is a model
//!
//! Real: all of [`Memory`](super::Memory) and of [`Positions`](super::Positions), and the rule of every
//! store that what is revoked stays so (`change::change_credential`). A model of a few lines: the store
//! as a list of changes, the reads on their way, the reader of events, time. The glue between them is
//! [`Exploration`]; it does what `flights.rs` and `reader.rs` do, so their guards stand in it once more.
//!
//! # What can happen
//!
//! The credential is absent or active at first. At any moment: a tick passes (without end: an age that
//! has reached its limit stays there; facts live for two ticks, an absence for one); our credential or
//! another one is changed (three times in all); the next event arrives, or the reader starts again at
//! any later change; a read is sent (two at a time), reads the store, or lands, whole or as the word that
//! the store has not changed since its position; moka drops what is remembered. A read that fails changes nothing, so it is as one that was never sent. No delay has a
//! limit, so everything that can be late or lost is.
//!
//! In every state memory is asked what it knows, as a request asks it; and every answer on its way is
//! offered to waiters who had heard of any number of events when they asked. That is more than the
//! table of flights allows, which lets nobody join a flight that is older than what they have heard:
//! so nothing shown here rests on that rule.
//!
//! # What is not shown
//!
//! Steps are whole: that two threads within one of these functions meet badly is not excluded here
//! (`tests/it/store/flights.rs` tries it). Left out are more changes, or more reads at a time; tenants,
//! parents and roles, which take the same way through the positions; a store that goes back to older
//! data, and the generations of positions that are counted then (the simulation has them); and the
//! forgetting of what ended by itself long ago.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write;

use bench::{Bench, possible_changes};
use world::{Broken, Change, Flight, Held, Marks, Seen, Sight, Step, World};

mod bench;
mod world;
mod writing;

/// Fewest states for the exploration to mean something (scorecard S14).
const ENOUGH: usize = 100_000;

/// Which guard is left out, to see that it is missed; each says where the guard stands in the product.
/// None of them changes the product: the glue asks its question so that the guard has nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// `flights.rs`, `fly`: age counts from the sending. Here: from the arrival.
    AgeFromSend,
    /// `memory.rs`, `may_answer`: an answer that grew old on the way is not given. Here: it is asked
    /// as of the moment of the sending.
    AgeOnAnswer,
    /// `memory.rs`, `recall`: what memory holds is judged by events on every use. Here: it is asked
    /// with positions that have heard nothing.
    EventsOnUse,
    /// `memory.rs`, `may_answer`: so is what a waiter is given. Here: as above.
    EventsOnAnswer,
    /// `events.rs`: an event raises a position for all time. Here: it deletes what memory holds, once.
    Generations,
    /// `flights.rs`, `answer`: the position is that of the read. Here: that of the landing.
    PositionOfRead,
    /// The same, of absences only.
    PositionOfAbsence,
    /// `reader.rs`, `restart`: a gap is told. Here: what is in it counts as heard, and nobody is told.
    Gaps,
    /// `change.rs`: what is revoked is never enabled. Here: the store enables it.
    Tombstone,
    /// `memory.rs`, `remember`: an older read does not replace a younger one. Here: facts are dropped
    /// before anything lands.
    Order,
    /// `memory.rs`, `confirm`: only facts of the position that the read found. Here: any.
    SamePosition,
    /// `memory.rs`, `remember`: facts end the absence from before them. Here: it is put back.
    EndOfAbsence,
}

/// A hash that is quick in a debug build, where the tests are run. It decides nothing: states are
/// compared in full.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    /// An odd number with well-spread bits.
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

struct Exploration {
    without: Without,
    bench: Bench,
    possible: Vec<(Sight, Sight)>,
    known: HashSet<World, BuildHasherDefault<Mixer>>,
    /// In the order they were found: each with that it was reached from, and how.
    found: Vec<(World, usize, Step)>,
}

/// A broken rule, and the shortest way to it.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    broken: Broken,
    told: Sight,
    way: String,
}

impl Exploration {
    fn new(without: Without, first: Sight) -> Self {
        let mut possible = possible_changes();
        if without == Without::Tombstone {
            possible.push((Sight::Revoked, Sight::Active));
        }
        let mut exploration = Self {
            without,
            bench: Bench::new(),
            possible,
            known: HashSet::default(),
            found: Vec::new(),
        };
        exploration.add(0, Step::Start(first), World::starting(first));
        exploration
    }

    /// Breadth first, to the end or to the first broken rule.
    fn run(&mut self) -> Result<(), Violation> {
        let mut next = 0;
        while let Some((world, ..)) = self.found.get(next).copied() {
            let recalled = self.recall(&world);
            self.judge_memory(next, &world, recalled)?;
            self.judge_answers(next, &world)?;
            let possible = std::mem::take(&mut self.possible);
            world.steps(&possible, |step, after| self.add(next, step, after));
            self.possible = possible;
            self.hear(next, &world);
            self.land(next, &world, recalled)?;
            next += 1;
        }
        Ok(())
    }

    fn add(&mut self, from: usize, step: Step, world: World) {
        if self.known.insert(world) {
            self.found.push((world, from, step));
        }
    }

    /// What a request is told by memory; it has heard of everything this process has.
    fn judge_memory(&self, at: usize, world: &World, recalled: Option<Seen>) -> Result<(), Violation> {
        let Some(seen) = recalled else { return Ok(()) };
        match world.broken_by(seen.sight, world.marks.heard) {
            Some(broken) => Err(self.violation(at, seen, broken)),
            None => Ok(()),
        }
    }

    /// What those who wait for a read are told.
    fn judge_answers(&mut self, at: usize, world: &World) -> Result<(), Violation> {
        let marks = self.marks_unless(Without::EventsOnAnswer, world);
        for (_, seen) in world.answers() {
            let seen = self.as_it_arrives(world, seen);
            let asked = match self.without {
                Without::AgeOnAnswer => Seen { age: 0, ..seen },
                _ => seen,
            };
            for heard in 0..=world.marks.heard {
                if let Some(broken) = world.broken_by(seen.sight, heard)
                    && self.bench.may_answer(marks, asked, heard)
                {
                    return Err(self.violation(at, seen, broken));
                }
            }
        }
        Ok(())
    }

    /// The reader of events goes on, or starts again.
    fn hear(&mut self, from: usize, world: &World) {
        let forgotten = |held: Held| match self.without {
            Without::Generations => Held::default(),
            _ => held,
        };
        let event = world.next_event().map(|(marks, change)| match change {
            Change::Ours { .. } => (marks, forgotten(world.held)),
            Change::Other => (marks, world.held),
        });
        let after_gap = forgotten(world.held);
        if let Some((marks, held)) = event {
            self.add(from, Step::Event, world.with(marks, held));
        }
        for told in world.next_gaps() {
            let floor = match self.without {
                Without::Gaps => world.marks.floor,
                _ => told.floor,
            };
            let marks = Marks { floor, ..told };
            self.add(from, Step::Gap, world.with(marks, after_gap));
        }
    }

    /// Answers land; none may make memory say older things than before.
    fn land(&mut self, from: usize, world: &World, before: Option<Seen>) -> Result<(), Violation> {
        for (i, seen) in world.answers() {
            let seen = self.as_it_arrives(world, seen);
            let held = match self.without {
                Without::Order => Held {
                    present: None,
                    ..world.held
                },
                _ => world.held,
            };
            let mut held = self.bench.land(self.marks_unless(Without::Generations, world), held, seen);
            if self.without == Without::EndOfAbsence {
                held.absent = held.absent.or(world.held.absent);
            }
            let after = world.with_flight(i, Flight::Landed).with(world.marks, held);
            let now = self.recall(&after);
            self.add(from, Step::Landed, after);
            self.land_unchanged(from, world, (i, seen));
            if let (Some(before), Some(now)) = (before, now)
                && now.position < before.position
                && now.sight != before.sight
            {
                return Err(Violation {
                    way: self.way(from) + ", landed",
                    told: now.sight,
                    broken: Broken::WentBack,
                });
            }
        }
        Ok(())
    }

    /// A read again lands that only compared positions. The store says so of a position that was known; here
    /// of any, so that only memory's own rule is left.
    fn land_unchanged(&mut self, from: usize, world: &World, (i, seen): (usize, Seen)) {
        let seen = match (self.without, world.held.present) {
            (Without::SamePosition, Some(held)) => Seen {
                position: held.position,
                ..seen
            },
            _ => seen,
        };
        let marks = self.marks_unless(Without::Generations, world);
        let held = self.bench.confirm(marks, world.held, seen);
        let after = world.with_flight(i, Flight::Landed).with(world.marks, held);
        self.add(from, Step::Unchanged, after);
    }

    fn recall(&mut self, world: &World) -> Option<Seen> {
        let marks = match self.without {
            Without::Generations => Marks::default(),
            _ => self.marks_unless(Without::EventsOnUse, world),
        };
        self.bench.recall(marks, world.held)
    }

    /// What events have told; nothing where that is not looked at.
    fn marks_unless(&self, guard: Without, world: &World) -> Marks {
        if self.without == guard {
            return Marks::default();
        }
        world.marks
    }

    /// An answer with the age and the position that the glue gives it.
    fn as_it_arrives(&self, world: &World, seen: Seen) -> Seen {
        let now = world.newest();
        match (self.without, seen.sight) {
            (Without::AgeFromSend, _) => Seen { age: 0, ..seen },
            (Without::PositionOfRead, _) | (Without::PositionOfAbsence, Sight::Absent) => Seen { position: now, ..seen },
            _ => seen,
        }
    }

    fn violation(&self, at: usize, told: Seen, broken: Broken) -> Violation {
        Violation {
            broken,
            told: told.sight,
            way: self.way(at),
        }
    }

    /// How this state was reached, in words.
    fn way(&self, mut at: usize) -> String {
        let mut way = Vec::new();
        loop {
            let (_, from, step) = self.found[at];
            way.push(step.to_string());
            if matches!(step, Step::Start(_)) {
                way.reverse();
                return way.join(", ");
            }
            at = from;
        }
    }
}

/// Explores to the end from this start; answers how many states there are.
fn explored(first: Sight) -> usize {
    let mut exploration = Exploration::new(Without::Nothing, first);
    exploration.run().unwrap();
    let (states, questions) = (exploration.known.len(), exploration.bench.questions());
    let _ = writeln!(std::io::stdout(), "{states} states, {questions} questions to the real memory");
    states
}

/// The first broken rule without this guard, and the shortest way to it.
fn broken_without(guard: Without, first: Sight) -> (Broken, String) {
    let violation = Exploration::new(guard, first).run().unwrap_err();
    assert_eq!(violation.told, first, "somebody is told what was so at first: {violation:?}");
    (violation.broken, violation.way)
}

#[test]
fn no_reachable_state_admits_what_has_ended() {
    let states = explored(Sight::Active);
    assert!(states >= ENOUGH, "only {states} states");
}

#[test]
fn no_reachable_state_refuses_what_was_made() {
    let states = explored(Sight::Absent);
    assert!(states >= ENOUGH, "only {states} states");
}

#[test]
fn without_any_one_guard_something_that_has_ended_is_admitted() {
    for (guard, broken, way) in [
        (Without::AgeFromSend, Broken::AfterTheBound, "sent, read, revoked, tick, tick"),
        (Without::AgeOnAnswer, Broken::AfterTheBound, "sent, read, revoked, tick, tick"),
        (Without::EventsOnUse, Broken::AfterTheEvent, "sent, read, revoked, landed, event"),
        (Without::EventsOnAnswer, Broken::AfterTheEvent, "sent, read, revoked, event"),
        (Without::Generations, Broken::AfterTheEvent, "sent, read, revoked, event, landed"),
        (Without::PositionOfRead, Broken::AfterTheEvent, "sent, read, revoked, event"),
        (Without::Gaps, Broken::AfterTheEvent, "sent, read, revoked, gap"),
        (Without::Tombstone, Broken::AfterTheEvent, "revoked, enabled, sent, read, event"),
        (Without::Order, Broken::WentBack, "sent, sent, read, revoked, read, landed, landed"),
        (
            Without::SamePosition,
            Broken::AfterTheBound,
            "sent, read, revoked, tick, tick, sent, read, landed, unchanged",
        ),
    ] {
        assert_eq!(
            broken_without(guard, Sight::Active),
            (broken, format!("active, {way}")),
            "without {guard:?}"
        );
    }
}

#[test]
fn without_any_one_guard_something_that_was_made_is_unknown() {
    for (guard, broken, way) in [
        (Without::AgeFromSend, Broken::AfterTheBound, "sent, read, made, tick"),
        (Without::EventsOnUse, Broken::AfterTheEvent, "sent, read, made, landed, event"),
        (Without::Generations, Broken::AfterTheEvent, "sent, read, made, event, landed"),
        (Without::PositionOfAbsence, Broken::AfterTheEvent, "sent, read, made, event"),
        (Without::Gaps, Broken::AfterTheEvent, "sent, read, made, gap"),
        (
            Without::EndOfAbsence,
            Broken::WentBack,
            "sent, tick, tick, sent, read, made, landed, sent, read, revoked, read, landed, landed",
        ),
    ] {
        assert_eq!(
            broken_without(guard, Sight::Absent),
            (broken, format!("absent, {way}")),
            "without {guard:?}"
        );
    }
}
