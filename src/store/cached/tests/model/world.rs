//! The world of the model: a store, the reads in flight, and what one process knows. It is small, so that all of its states can
//! be listed.

use std::fmt;

use super::WithoutGuard;

/// Ages are counted in ticks. Oldest usable facts, and oldest usable absence: the fewest ticks with which
/// facts can be of this tick, of the one before, or too old, and outlive an absence.
pub(super) const MAX_AGE: u8 = 2;
pub(super) const ABSENT_AGE: u8 = 1;

/// Most changes at the store. Three are a making, a disabling and a revocation; or a revocation, an
/// attempt at a revival, and a change of somebody else between them.
pub(super) const CHANGES: usize = 3;

/// Most reads on their way at a time: two are enough for one to overtake the other.
pub(super) const FLIGHTS: usize = 2;

/// What a read can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Sight {
    Absent,
    Active,
    Disabled,
    Revoked,
}

impl Sight {
    pub(super) const ALL: [Self; 4] = [Self::Absent, Self::Active, Self::Disabled, Self::Revoked];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }

    /// Whether a caller is answered alike: what is disabled is refused as what is revoked.
    fn is_answered_as(self, other: Self) -> bool {
        let refused = |sight| matches!(sight, Self::Disabled | Self::Revoked);
        self == other || refused(self) && refused(other)
    }

    const fn age_limit(self) -> u8 {
        match self {
            Self::Absent => ABSENT_AGE,
            Self::Active | Self::Disabled | Self::Revoked => MAX_AGE,
        }
    }
}

/// A change in the store. Its position is its number in the list, from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ModelChange {
    /// It left our credential in this state, so many ticks ago.
    Ours {
        left: Sight,
        age: u8,
    },
    Other,
}

/// The answer of a read: it contains the changes up to `position`. Its age counts from when the read was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ReadAnswer {
    pub(super) position: u8,
    pub(super) age: u8,
    pub(super) sight: Sight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ReadInFlight {
    Landed,
    Sent { age: u8 },
    Read(ReadAnswer),
}

/// The question of the reader of events where the store stands, by whose answer all facts become younger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ModelQuestion {
    None,
    Sent { age: u8 },
    Answered { age: u8, position: u8 },
}

/// The events about our credential that have reached this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Marks {
    /// The position of the newest event, whatever it is about.
    pub(super) heard: u8,
    /// The position of the newest event about our credential.
    pub(super) own: u8,
    /// The end of the newest gap.
    pub(super) floor: u8,
}

/// What is in the cache, usable or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct ModelCache {
    pub(super) present: Option<ReadAnswer>,
    pub(super) absent: Option<ReadAnswer>,
}

/// Everything that decides what can happen next. Time is in it as ages only, and an age that has
/// reached the limit stays there: so time has no end here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    first: Sight,
    changes: [Option<ModelChange>; CHANGES],
    pub(super) marks: Marks,
    /// Sorted: which of them is which does not matter.
    flights: [ReadInFlight; FLIGHTS],
    pub(super) cache: ModelCache,
    question: ModelQuestion,
    /// How long ago the newest question was sent by which the facts became younger.
    pub(super) revalidated: u8,
}

/// What can happen. The texts appear in traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelStep {
    Start(Sight),
    Tick,
    Changed(Sight, Sight),
    OtherChanged,
    Event,
    Gap,
    Sent,
    Read,
    Landed,
    Unchanged,
    Evicted,
    Asked,
    Answered,
    Revalidated,
}

impl fmt::Display for ModelStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start(first) => first.as_str(),
            Self::Tick => "tick",
            Self::Changed(Sight::Absent, _) => "made",
            Self::Changed(_, Sight::Active) => "enabled",
            Self::Changed(_, left) => left.as_str(),
            Self::OtherChanged => "another changed",
            Self::Event => "event",
            Self::Gap => "gap",
            Self::Sent => "sent",
            Self::Read => "read",
            Self::Landed => "landed",
            Self::Unchanged => "unchanged",
            Self::Evicted => "evicted",
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::Revalidated => "revalidated",
        })
    }
}

/// The rule that an answer breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokenRule {
    /// The caller asked after the event of a change, and the answer is from before that change.
    AfterTheEvent,
    /// The answer has been wrong for as long as an answer may be used.
    AfterTheBound,
    /// The cache had a newer answer before this read landed.
    WentBack,
}

impl World {
    pub(super) const fn starting(first: Sight) -> Self {
        Self {
            first,
            changes: [None; CHANGES],
            marks: Marks {
                heard: 0,
                own: 0,
                floor: 0,
            },
            flights: [ReadInFlight::Landed; FLIGHTS],
            cache: ModelCache {
                present: None,
                absent: None,
            },
            question: ModelQuestion::None,
            revalidated: MAX_AGE,
        }
    }

    /// The position of the newest change.
    pub(super) fn newest(&self) -> u8 {
        u8::try_from(self.changes.iter().flatten().count()).unwrap()
    }

    /// The reads in flight and the free slots for more; of two that are equal, only one.
    fn distinct_flights(&self) -> impl Iterator<Item = (usize, ReadInFlight)> + use<> {
        let [first, second] = self.flights;
        let second = Some((1, second)).filter(|_| first != second);
        std::iter::once((0, first)).chain(second)
    }

    /// The reads whose answer is on its way.
    pub(super) fn answers(&self) -> impl Iterator<Item = (usize, ReadAnswer)> + use<> {
        self.distinct_flights().filter_map(|(i, flight)| match flight {
            ReadInFlight::Read(seen) => Some((i, seen)),
            ReadInFlight::Landed | ReadInFlight::Sent { .. } => None,
        })
    }

    /// The state in the store after the changes up to `position`.
    fn stored(&self, position: u8) -> Sight {
        self.states(position).last().unwrap_or(self.first)
    }

    /// The state that the store should have: nothing follows a revocation.
    fn rightful(&self, position: u8) -> Sight {
        let revoked = self.states(position).find(|sight| *sight == Sight::Revoked);
        revoked.unwrap_or_else(|| self.stored(position))
    }

    fn states(&self, position: u8) -> impl Iterator<Item = Sight> {
        let until = self.changes.iter().take(position.into()).flatten();
        until.filter_map(|change| match change {
            ModelChange::Ours { left, .. } => Some(*left),
            ModelChange::Other => None,
        })
    }

    /// The promise to a caller that asked after the event `heard`: the answer was right after some change that is not before
    /// `heard`, and was still right less than its age limit ago.
    pub(super) fn broken_by(&self, answer: Sight, heard: u8) -> Option<BrokenRule> {
        let mut was_so = (heard..=self.newest())
            .filter(|at| self.rightful(*at).is_answered_as(answer))
            .peekable();
        if was_so.peek().is_none() {
            return Some(BrokenRule::AfterTheEvent);
        }
        let young = was_so.any(|at| match self.changes.get(usize::from(at)) {
            Some(Some(ModelChange::Ours { age, .. })) => *age < answer.age_limit(),
            // The change of another credential leaves the answer as right as it was.
            Some(Some(ModelChange::Other)) => false,
            Some(None) | None => true,
        });
        (!young).then_some(BrokenRule::AfterTheBound)
    }

    /// All that can happen outside of the cache. `possible` are the states that a change can leave, by the rules of the store.
    pub(super) fn steps(&self, possible: &[(Sight, Sight)], most_flights: usize, mut to: impl FnMut(ModelStep, Self)) {
        to(ModelStep::Tick, self.a_tick_later());
        let newest = self.newest();
        if usize::from(newest) < CHANGES {
            to(ModelStep::OtherChanged, self.with_change(ModelChange::Other));
            let now = self.stored(newest);
            for (_, left) in possible.iter().filter(|(from, _)| *from == now) {
                let age = if now.is_answered_as(*left) { MAX_AGE } else { 0 };
                to(
                    ModelStep::Changed(now, *left),
                    self.with_change(ModelChange::Ours { left: *left, age }),
                );
            }
        }
        if self.cache.present.is_some() {
            let cache = ModelCache {
                present: None,
                ..self.cache
            };
            to(ModelStep::Evicted, Self { cache, ..*self });
        }
        if self.cache.absent.is_some() {
            let cache = ModelCache {
                absent: None,
                ..self.cache
            };
            to(ModelStep::Evicted, Self { cache, ..*self });
        }
        let in_flight = self.flights.iter().filter(|flight| **flight != ReadInFlight::Landed).count();
        for (i, flight) in self.distinct_flights() {
            match flight {
                ReadInFlight::Landed if in_flight >= most_flights => {}
                ReadInFlight::Landed => to(ModelStep::Sent, self.with_flight(i, ReadInFlight::Sent { age: 0 })),
                ReadInFlight::Sent { age } => {
                    let sight = self.stored(newest);
                    let seen = ReadAnswer {
                        position: newest,
                        age,
                        sight,
                    };
                    to(ModelStep::Read, self.with_flight(i, ReadInFlight::Read(seen)));
                }
                ReadInFlight::Read(_) => {}
            }
        }
    }

    /// What becomes of the question of the reader of events. Its answer makes facts younger as soon as every event is applied that
    /// the answer counts.
    pub(super) fn questions(&self, without: WithoutGuard, mut to: impl FnMut(ModelStep, Self)) {
        let with = |question| Self { question, ..*self };
        match self.question {
            ModelQuestion::None => to(ModelStep::Asked, with(ModelQuestion::Sent { age: 0 })),
            ModelQuestion::Sent { age } => {
                let position = self.newest();
                to(ModelStep::Answered, with(ModelQuestion::Answered { age, position }));
            }
            ModelQuestion::Answered { age, position } => {
                if self.marks.heard >= position || without == WithoutGuard::EventsBeforeRevalidation {
                    let age = if without == WithoutGuard::AgeFromQuestion { 0 } else { age };
                    let revalidated = self.revalidated.min(age);
                    let after = with(ModelQuestion::None);
                    to(ModelStep::Revalidated, Self { revalidated, ..after });
                }
            }
        }
    }

    /// What is known after the next event, and the change that it is about.
    pub(super) fn next_event(&self) -> Option<(Marks, ModelChange)> {
        let change = (*self.changes.get(usize::from(self.marks.heard))?)?;
        let heard = self.marks.heard + 1;
        let own = match change {
            ModelChange::Ours { .. } => heard,
            ModelChange::Other => self.marks.own,
        };
        Some((Marks { heard, own, ..self.marks }, change))
    }

    /// What is known after the reader of events has started again, at any change whose event has not arrived yet.
    pub(super) fn next_gaps(&self) -> impl Iterator<Item = Marks> {
        let marks = self.marks;
        let points = marks.heard.max(marks.floor + 1)..=self.newest();
        points.map(move |at| Marks {
            heard: at,
            floor: at,
            ..marks
        })
    }

    pub(super) const fn with(&self, marks: Marks, cache: ModelCache) -> Self {
        Self { marks, cache, ..*self }
    }

    pub(super) fn with_flight(&self, i: usize, flight: ReadInFlight) -> Self {
        let mut after = *self;
        after.flights[i] = flight;
        if after.flights[0] > after.flights[1] {
            after.flights.swap(0, 1);
        }
        after
    }

    /// How long ago a change was matters only if the change alters what a caller is answered.
    fn with_change(&self, change: ModelChange) -> Self {
        let mut after = *self;
        after.changes[usize::from(self.newest())] = Some(change);
        after
    }

    fn a_tick_later(&self) -> Self {
        let older = |age: &mut u8| *age = MAX_AGE.min(*age + 1);
        let mut after = *self;
        let mut before = self.first;
        for change in after.changes.iter_mut().flatten() {
            if let ModelChange::Ours { left, age } = change {
                older(age);
                // Only how long ago the state `before` ended matters.
                if *age >= before.age_limit() {
                    *age = MAX_AGE;
                }
                before = *left;
            }
        }
        for flight in &mut after.flights {
            match flight {
                ReadInFlight::Sent { age } | ReadInFlight::Read(ReadAnswer { age, .. }) => older(age),
                ReadInFlight::Landed => {}
            }
        }
        older(&mut after.revalidated);
        match &mut after.question {
            ModelQuestion::Sent { age } | ModelQuestion::Answered { age, .. } => older(age),
            ModelQuestion::None => {}
        }
        for seen in [&mut after.cache.present, &mut after.cache.absent].into_iter().flatten() {
            older(&mut seen.age);
        }
        if after.flights[0] > after.flights[1] {
            after.flights.swap(0, 1);
        }
        after
    }
}
