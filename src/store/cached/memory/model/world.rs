//! The world of the model: a store, the reads on their way, and what one process knows; small, so that
//! all of its states can be listed.

use std::fmt;

/// Ages are counted in ticks. Oldest usable facts, and oldest usable absence: the fewest ticks with which
/// facts can be of this tick, of the one before, or too old, and outlive an absence.
pub(super) const MAX_AGE: u8 = 2;
pub(super) const ABSENT_AGE: u8 = 1;

/// Most changes at the store. Three are a making, a disabling and a revocation; or a revocation, an
/// attempt at a revival, and a change of somebody else between them.
pub(super) const CHANGES: usize = 3;

/// Most reads on their way at a time: two are enough for one to overtake the other.
const FLIGHTS: usize = 2;

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

/// A change in the store; its position is its place in the list, from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Change {
    /// What it made of our credential, and how long ago.
    Ours { left: Sight, age: u8 },
    /// Of another credential.
    Other,
}

/// What a read has seen: the changes up to `position`. Its age counts from when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seen {
    pub(super) position: u8,
    pub(super) age: u8,
    pub(super) sight: Sight,
}

/// A read on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flight {
    Landed,
    Sent { age: u8 },
    Read(Seen),
}

/// What events have told this process of our credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Marks {
    /// The newest position heard of, whatever it was about.
    pub(super) heard: u8,
    /// That of the newest event about our credential.
    pub(super) own: u8,
    /// The end of the newest gap.
    pub(super) floor: u8,
}

/// What is in the two memories, usable or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Held {
    pub(super) present: Option<Seen>,
    pub(super) absent: Option<Seen>,
}

/// Everything that decides what can happen next. Time is in it as ages only, and an age that has
/// reached the limit stays there: so time has no end here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    first: Sight,
    changes: [Option<Change>; CHANGES],
    pub(super) marks: Marks,
    /// Sorted: which of them is which does not matter.
    flights: [Flight; FLIGHTS],
    pub(super) held: Held,
}

/// What can happen, in the words of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
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
}

impl fmt::Display for Step {
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
        })
    }
}

/// Which rule somebody was answered against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Who asked had heard of a change, and the answer is from before it.
    AfterTheEvent,
    /// The store has said otherwise for as long as an answer may be used.
    AfterTheBound,
    /// Memory answered newer things before this read landed.
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
            flights: [Flight::Landed; FLIGHTS],
            held: Held {
                present: None,
                absent: None,
            },
        }
    }

    /// The position of the newest change.
    pub(super) fn newest(&self) -> u8 {
        u8::try_from(self.changes.iter().flatten().count()).unwrap()
    }

    /// The reads on their way and the places for more, of two alike only one.
    fn distinct_flights(&self) -> impl Iterator<Item = (usize, Flight)> + use<> {
        let [first, second] = self.flights;
        let second = Some((1, second)).filter(|_| first != second);
        std::iter::once((0, first)).chain(second)
    }

    /// The reads whose answer is on its way.
    pub(super) fn answers(&self) -> impl Iterator<Item = (usize, Seen)> + use<> {
        self.distinct_flights().filter_map(|(i, flight)| match flight {
            Flight::Read(seen) => Some((i, seen)),
            Flight::Landed | Flight::Sent { .. } => None,
        })
    }

    /// What the store says after the changes up to `position`.
    fn stored(&self, position: u8) -> Sight {
        self.states(position).last().unwrap_or(self.first)
    }

    /// What it should say: revoked is the end.
    fn rightful(&self, position: u8) -> Sight {
        let revoked = self.states(position).find(|sight| *sight == Sight::Revoked);
        revoked.unwrap_or_else(|| self.stored(position))
    }

    fn states(&self, position: u8) -> impl Iterator<Item = Sight> {
        let until = self.changes.iter().take(position.into()).flatten();
        until.filter_map(|change| match change {
            Change::Ours { left, .. } => Some(*left),
            Change::Other => None,
        })
    }

    /// The promise, for somebody who had heard of `heard` when they asked: what they are told was so
    /// after some change not before `heard`, and was still so less than its age limit ago.
    pub(super) fn broken_by(&self, told: Sight, heard: u8) -> Option<Broken> {
        let mut was_so = (heard..=self.newest())
            .filter(|at| self.rightful(*at).is_answered_as(told))
            .peekable();
        if was_so.peek().is_none() {
            return Some(Broken::AfterTheEvent);
        }
        let young = was_so.any(|at| match self.changes.get(usize::from(at)) {
            Some(Some(Change::Ours { age, .. })) => *age < told.age_limit(),
            // What it said before the change of another it says after it too.
            Some(Some(Change::Other)) => false,
            Some(None) | None => true,
        });
        (!young).then_some(Broken::AfterTheBound)
    }

    /// All that can happen without the memory's doing. `possible` are the states that a change can
    /// leave, by the rules of the store.
    pub(super) fn steps(&self, possible: &[(Sight, Sight)], mut to: impl FnMut(Step, Self)) {
        to(Step::Tick, self.a_tick_later());
        let newest = self.newest();
        if usize::from(newest) < CHANGES {
            to(Step::OtherChanged, self.with_change(Change::Other));
            let now = self.stored(newest);
            for (_, left) in possible.iter().filter(|(from, _)| *from == now) {
                let age = if now.is_answered_as(*left) { MAX_AGE } else { 0 };
                to(Step::Changed(now, *left), self.with_change(Change::Ours { left: *left, age }));
            }
        }
        if self.held.present.is_some() {
            let held = Held {
                present: None,
                ..self.held
            };
            to(Step::Evicted, Self { held, ..*self });
        }
        if self.held.absent.is_some() {
            let held = Held { absent: None, ..self.held };
            to(Step::Evicted, Self { held, ..*self });
        }
        for (i, flight) in self.distinct_flights() {
            match flight {
                Flight::Landed => to(Step::Sent, self.with_flight(i, Flight::Sent { age: 0 })),
                Flight::Sent { age } => {
                    let sight = self.stored(newest);
                    let seen = Seen {
                        position: newest,
                        age,
                        sight,
                    };
                    to(Step::Read, self.with_flight(i, Flight::Read(seen)));
                }
                Flight::Read(_) => {}
            }
        }
    }

    /// What the next event tells, and whether it is about our credential.
    pub(super) fn next_event(&self) -> Option<(Marks, Change)> {
        let change = (*self.changes.get(usize::from(self.marks.heard))?)?;
        let heard = self.marks.heard + 1;
        let own = match change {
            Change::Ours { .. } => heard,
            Change::Other => self.marks.own,
        };
        Some((Marks { heard, own, ..self.marks }, change))
    }

    /// What a reader of events tells that starts again, at any change it has not told of yet.
    pub(super) fn next_gaps(&self) -> impl Iterator<Item = Marks> {
        let marks = self.marks;
        let points = marks.heard.max(marks.floor + 1)..=self.newest();
        points.map(move |at| Marks {
            heard: at,
            floor: at,
            ..marks
        })
    }

    pub(super) const fn with(&self, marks: Marks, held: Held) -> Self {
        Self { marks, held, ..*self }
    }

    pub(super) fn with_flight(&self, i: usize, flight: Flight) -> Self {
        let mut after = *self;
        after.flights[i] = flight;
        if after.flights[0] > after.flights[1] {
            after.flights.swap(0, 1);
        }
        after
    }

    /// Of an attempt that leaves what a caller is answered, nobody asks how long ago it was.
    fn with_change(&self, change: Change) -> Self {
        let mut after = *self;
        after.changes[usize::from(self.newest())] = Some(change);
        after
    }

    fn a_tick_later(&self) -> Self {
        let older = |age: &mut u8| *age = MAX_AGE.min(*age + 1);
        let mut after = *self;
        let mut before = self.first;
        for change in after.changes.iter_mut().flatten() {
            if let Change::Ours { left, age } = change {
                older(age);
                // Only how long ago `before` ended is ever asked.
                if *age >= before.age_limit() {
                    *age = MAX_AGE;
                }
                before = *left;
            }
        }
        for flight in &mut after.flights {
            match flight {
                Flight::Sent { age } | Flight::Read(Seen { age, .. }) => older(age),
                Flight::Landed => {}
            }
        }
        for seen in [&mut after.held.present, &mut after.held.absent].into_iter().flatten() {
            older(&mut seen.age);
        }
        if after.flights[0] > after.flights[1] {
            after.flights.swap(0, 1);
        }
        after
    }
}
