//! Every order in which reads, changes, events and time can meet at the real cache, explored to the end: no reachable state gives
//! an answer that it must not give (docs/threats.md L5).
//!
//! # What is real and what is a model
//!
//! Real: all of [`FactsCache`](crate::store::cached::entries::FactsCache) and of [`Positions`](crate::store::events::Positions), and
//! the rule of every store that a revoked credential stays revoked (`change::change_credential`). A model of a few lines: the
//! store as a list of changes, the reads in flight, the reader of events, time. [`Exploration`] connects them. It does what
//! `flights.rs` and the reader of events do, so their guards stand in it once more.
//!
//! # What can happen
//!
//! The credential is absent or active at first. At any moment one of these happens:
//!
//! - A tick passes. There is no last tick: an age that has reached its limit stays there. Facts live for two ticks, an absence
//!   for one.
//! - Our credential or another one is changed, three times in all.
//! - The next event arrives, or the reader of events starts again at any later change.
//! - The reader of events asks where the store stands, is answered, and makes all facts younger when it has applied every event
//!   that the answer counts. This is explored with one read at a time, and without it with two.
//! - A read is sent (two at a time), reads the store, or lands. It lands with the record, or with the answer that the store has
//!   not changed since the read's position.
//! - moka drops an entry.
//!
//! A read that fails changes nothing, so it is like one that was never sent. No delay has a limit, so everything that can be late
//! or lost is.
//!
//! In every state the cache is asked as a request asks it. And every answer in flight is offered to callers that asked after any
//! number of events. The table of flights allows less: no caller joins a flight that is older than an event which the caller
//! must see. So nothing shown here rests on that rule.
//!
//! # What is not shown
//!
//! Each step is one unit: two threads that race within one of these functions are not explored here (`tests/it/store/flights.rs`
//! tries it). Left out are also: more changes, or more reads at a time; tenants, parents and roles, which take the same way
//! through the positions; a store that goes back to older data, and the generations of positions that are counted then (the
//! simulation has them); and the removal of credentials that ended long ago.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write;

use real_cache::{RealCache, possible_changes};
use world::{BrokenRule, FLIGHTS, Marks, ModelCache, ModelChange, ModelStep, ReadAnswer, ReadInFlight, Sight, World};

mod real_cache;
mod world;

/// Fewest states for the exploration to mean something.
const ENOUGH: usize = 100_000;

/// The guard that is left out, to show that the exploration notices it. Each comment names where the guard stands in the product.
/// The product itself does not change: the exploration asks its question so that the guard has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutGuard {
    Nothing,
    /// `batches.rs`, `send_lookups`: age counts from the sending. Here: from the arrival.
    AgeFromSend,
    /// `entries.rs`, `may_answer`: an answer that grew old in flight is not given. Here: its age is 0.
    AgeOnAnswer,
    /// `entries.rs`, `recall`: entries are judged by events on every use. Here: no event has arrived.
    EventsOnUse,
    /// `entries.rs`, `may_answer`: so is the answer that a waiting caller gets. Here: no event has arrived.
    EventsOnAnswer,
    /// `events.rs`: an event raises a position for all time. Here: it deletes the entries, once.
    Generations,
    /// `flights.rs`, `answer`: the position is that of the read. Here: the newest one at the landing.
    PositionOfRead,
    /// The same, for absences only.
    PositionOfAbsence,
    /// the reader of events, `restart`: a gap is reported. Here: the events in the gap count as arrived, and the gap is not
    /// reported.
    Gaps,
    /// `change.rs`: what is revoked is never enabled. Here: the store enables it.
    Tombstone,
    /// `entries.rs`, `remember`: an older read does not replace a newer one. Here: facts are dropped
    /// before anything lands.
    Order,
    /// `entries.rs`, `confirm`: only facts of the position that the read found. Here: any.
    SamePosition,
    /// `entries.rs`, `remember`: facts end the absence that was before them. Here: it is put back.
    EndOfAbsence,
    /// the reader of events, `revalidate`: only after every event that the answer counts. Here: at once.
    EventsBeforeRevalidation,
    /// the reader of events, `step`: facts are as young as the question. Here: as its answer.
    AgeFromQuestion,
}

/// Whether the reader of events makes facts younger. If so, one read is on its way at a time: with two there would be too many
/// states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revalidating {
    No,
    Yes,
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
    without: WithoutGuard,
    revalidating: Revalidating,
    cache: RealCache,
    possible: Vec<(Sight, Sight)>,
    known: HashSet<World, BuildHasherDefault<Mixer>>,
    /// In the order of their discovery: each with the number of the state before it, and the step between them.
    found: Vec<(World, usize, ModelStep)>,
}

/// A broken rule, and the shortest way to it.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    broken: BrokenRule,
    answer: Sight,
    way: String,
}

impl Exploration {
    fn new(without: WithoutGuard, revalidating: Revalidating, first: Sight) -> Self {
        let mut possible = possible_changes();
        if without == WithoutGuard::Tombstone {
            possible.push((Sight::Revoked, Sight::Active));
        }
        let mut exploration = Self {
            without,
            revalidating,
            cache: RealCache::new(),
            possible,
            known: HashSet::default(),
            found: Vec::new(),
        };
        exploration.add(0, ModelStep::Start(first), World::starting(first));
        exploration
    }

    /// Breadth first, to the end or to the first broken rule.
    fn run(&mut self) -> Result<(), Violation> {
        let mut next = 0;
        while let Some((world, ..)) = self.found.get(next).copied() {
            let recalled = self.recall(&world);
            self.judge_recall(next, &world, recalled)?;
            self.judge_answers(next, &world)?;
            let possible = std::mem::take(&mut self.possible);
            let most_flights = if self.revalidating == Revalidating::Yes { 1 } else { FLIGHTS };
            world.steps(&possible, most_flights, |step, after| self.add(next, step, after));
            self.possible = possible;
            if self.revalidating == Revalidating::Yes {
                world.questions(self.without, |step, after| self.add(next, step, after));
            }
            self.read_events(next, &world);
            self.land(next, &world, recalled)?;
            next += 1;
        }
        Ok(())
    }

    fn add(&mut self, from: usize, step: ModelStep, world: World) {
        if self.known.insert(world) {
            self.found.push((world, from, step));
        }
    }

    /// Judges the answer of the cache to a request that asks now, after all events that have arrived.
    fn judge_recall(&self, at: usize, world: &World, recalled: Option<ReadAnswer>) -> Result<(), Violation> {
        let Some(seen) = recalled else { return Ok(()) };
        match world.broken_by(seen.sight, world.marks.heard) {
            Some(broken) => Err(self.violation(at, seen, broken)),
            None => Ok(()),
        }
    }

    /// Judges the answers that callers who wait for a read get.
    fn judge_answers(&mut self, at: usize, world: &World) -> Result<(), Violation> {
        let marks = self.marks_unless(WithoutGuard::EventsOnAnswer, world);
        for (_, seen) in world.answers() {
            let seen = self.as_it_arrives(world, seen);
            let asked = match self.without {
                WithoutGuard::AgeOnAnswer => ReadAnswer { age: 0, ..seen },
                _ => seen,
            };
            for heard in 0..=world.marks.heard {
                if let Some(broken) = world.broken_by(seen.sight, heard)
                    && self.cache.may_answer(marks, asked, heard)
                {
                    return Err(self.violation(at, seen, broken));
                }
            }
        }
        Ok(())
    }

    /// The reader of events goes on, or starts again.
    fn read_events(&mut self, from: usize, world: &World) {
        let after_event = |held: ModelCache| match self.without {
            WithoutGuard::Generations => ModelCache::default(),
            _ => held,
        };
        let event = world.next_event().map(|(marks, change)| match change {
            ModelChange::Ours { .. } => (marks, after_event(world.cache)),
            ModelChange::Other => (marks, world.cache),
        });
        let after_gap = after_event(world.cache);
        if let Some((marks, held)) = event {
            self.add(from, ModelStep::Event, world.with(marks, held));
        }
        for gap in world.next_gaps() {
            let floor = match self.without {
                WithoutGuard::Gaps => world.marks.floor,
                _ => gap.floor,
            };
            let marks = Marks { floor, ..gap };
            self.add(from, ModelStep::Gap, world.with(marks, after_gap));
        }
    }

    /// Answers land. None may make the cache give an older answer than before.
    fn land(&mut self, from: usize, world: &World, before: Option<ReadAnswer>) -> Result<(), Violation> {
        for (i, seen) in world.answers() {
            let seen = self.as_it_arrives(world, seen);
            let held = match self.without {
                WithoutGuard::Order => ModelCache {
                    present: None,
                    ..world.cache
                },
                _ => world.cache,
            };
            let mut held = self.cache.land(self.marks_unless(WithoutGuard::Generations, world), held, seen);
            if self.without == WithoutGuard::EndOfAbsence {
                held.absent = held.absent.or(world.cache.absent);
            }
            let after = world.with_flight(i, ReadInFlight::Landed).with(world.marks, held);
            let now = self.recall(&after);
            self.add(from, ModelStep::Landed, after);
            self.land_unchanged(from, world, (i, seen));
            if let (Some(before), Some(now)) = (before, now)
                && now.position < before.position
                && now.sight != before.sight
            {
                return Err(Violation {
                    way: self.way(from) + ", landed",
                    answer: now.sight,
                    broken: BrokenRule::WentBack,
                });
            }
        }
        Ok(())
    }

    /// A refresh lands with the answer that nothing has changed. The store gives it only for a known position. Here it gives it for
    /// any position, so that only the rule of the cache is left.
    fn land_unchanged(&mut self, from: usize, world: &World, (i, seen): (usize, ReadAnswer)) {
        let seen = match (self.without, world.cache.present) {
            (WithoutGuard::SamePosition, Some(held)) => ReadAnswer {
                position: held.position,
                ..seen
            },
            _ => seen,
        };
        let marks = self.marks_unless(WithoutGuard::Generations, world);
        let held = self.cache.confirm(marks, world.cache, seen);
        let after = world.with_flight(i, ReadInFlight::Landed).with(world.marks, held);
        self.add(from, ModelStep::Unchanged, after);
    }

    fn recall(&mut self, world: &World) -> Option<ReadAnswer> {
        let marks = match self.without {
            WithoutGuard::Generations => Marks::default(),
            _ => self.marks_unless(WithoutGuard::EventsOnUse, world),
        };
        self.cache.recall(marks, world.cache, world.revalidated)
    }

    /// The events that have arrived; none if this guard is left out.
    fn marks_unless(&self, guard: WithoutGuard, world: &World) -> Marks {
        if self.without == guard {
            return Marks::default();
        }
        world.marks
    }

    /// An answer with the age and the position that it has on arrival.
    fn as_it_arrives(&self, world: &World, seen: ReadAnswer) -> ReadAnswer {
        let now = world.newest();
        match (self.without, seen.sight) {
            (WithoutGuard::AgeFromSend, _) => ReadAnswer { age: 0, ..seen },
            (WithoutGuard::PositionOfRead, _) | (WithoutGuard::PositionOfAbsence, Sight::Absent) => ReadAnswer { position: now, ..seen },
            _ => seen,
        }
    }

    fn violation(&self, at: usize, answer: ReadAnswer, broken: BrokenRule) -> Violation {
        Violation {
            broken,
            answer: answer.sight,
            way: self.way(at),
        }
    }

    /// How this state was reached, in words.
    fn way(&self, mut at: usize) -> String {
        let mut way = Vec::new();
        loop {
            let (_, from, step) = self.found[at];
            way.push(step.to_string());
            if matches!(step, ModelStep::Start(_)) {
                way.reverse();
                return way.join(", ");
            }
            at = from;
        }
    }
}

/// Explores to the end from this start; answers how many states there are.
fn explored(revalidating: Revalidating, first: Sight) -> usize {
    let mut exploration = Exploration::new(WithoutGuard::Nothing, revalidating, first);
    exploration.run().unwrap();
    let (states, questions) = (exploration.known.len(), exploration.cache.questions());
    let _ = writeln!(std::io::stdout(), "{states} states, {questions} questions to the real cache");
    states
}

/// The first broken rule without this guard, and the shortest way to it.
fn broken_without(guard: WithoutGuard, first: Sight) -> (BrokenRule, String) {
    let revalidating = match guard {
        WithoutGuard::EventsBeforeRevalidation | WithoutGuard::AgeFromQuestion => Revalidating::Yes,
        _ => Revalidating::No,
    };
    let violation = Exploration::new(guard, revalidating, first).run().unwrap_err();
    assert_eq!(violation.answer, first, "the wrong answer is the state at the start: {violation:?}");
    (violation.broken, violation.way)
}

#[test]
fn no_reachable_state_admits_what_has_ended() {
    for revalidating in [Revalidating::No, Revalidating::Yes] {
        let states = explored(revalidating, Sight::Active);
        assert!(states >= ENOUGH, "only {states} states");
    }
}

#[test]
fn no_reachable_state_refuses_what_was_made() {
    for revalidating in [Revalidating::No, Revalidating::Yes] {
        let states = explored(revalidating, Sight::Absent);
        assert!(states >= ENOUGH, "only {states} states");
    }
}

#[test]
fn without_any_one_guard_something_that_has_ended_is_admitted() {
    for (guard, broken, way) in [
        (
            WithoutGuard::AgeFromSend,
            BrokenRule::AfterTheBound,
            "sent, read, revoked, tick, tick",
        ),
        (
            WithoutGuard::AgeOnAnswer,
            BrokenRule::AfterTheBound,
            "sent, read, revoked, tick, tick",
        ),
        (
            WithoutGuard::EventsOnUse,
            BrokenRule::AfterTheEvent,
            "sent, read, revoked, landed, event",
        ),
        (
            WithoutGuard::EventsOnAnswer,
            BrokenRule::AfterTheEvent,
            "sent, read, revoked, event",
        ),
        (
            WithoutGuard::Generations,
            BrokenRule::AfterTheEvent,
            "sent, read, revoked, event, landed",
        ),
        (
            WithoutGuard::PositionOfRead,
            BrokenRule::AfterTheEvent,
            "sent, read, revoked, event",
        ),
        (WithoutGuard::Gaps, BrokenRule::AfterTheEvent, "sent, read, revoked, gap"),
        (
            WithoutGuard::Tombstone,
            BrokenRule::AfterTheEvent,
            "revoked, enabled, sent, read, event",
        ),
        (
            WithoutGuard::Order,
            BrokenRule::WentBack,
            "sent, sent, read, revoked, read, landed, landed",
        ),
        (
            WithoutGuard::SamePosition,
            BrokenRule::AfterTheBound,
            "sent, read, revoked, tick, tick, sent, read, landed, unchanged",
        ),
        (
            WithoutGuard::EventsBeforeRevalidation,
            BrokenRule::AfterTheBound,
            "sent, read, revoked, tick, tick, asked, answered, revalidated, landed",
        ),
        (
            WithoutGuard::AgeFromQuestion,
            BrokenRule::AfterTheBound,
            "sent, read, asked, answered, revoked, tick, tick, revalidated, landed",
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
        (WithoutGuard::AgeFromSend, BrokenRule::AfterTheBound, "sent, read, made, tick"),
        (
            WithoutGuard::EventsOnUse,
            BrokenRule::AfterTheEvent,
            "sent, read, made, landed, event",
        ),
        (
            WithoutGuard::Generations,
            BrokenRule::AfterTheEvent,
            "sent, read, made, event, landed",
        ),
        (
            WithoutGuard::PositionOfAbsence,
            BrokenRule::AfterTheEvent,
            "sent, read, made, event",
        ),
        (WithoutGuard::Gaps, BrokenRule::AfterTheEvent, "sent, read, made, gap"),
        (
            WithoutGuard::EndOfAbsence,
            BrokenRule::WentBack,
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
