//! Streams that outlive the moment they were admitted in: judged again as long as they are open, and cut
//! off when their credential would not be admitted any more.
//!
//! An ordinary request pays nothing but the move of its permit to where this file finds it. What each
//! worker looks at, on its own tick, are the records its requests are collected in anyway: those in use
//! for [`LIVE_AFTER`] or longer are streams. A look is a few comparisons; facts are asked of memory, and
//! where memory has none they are read in the background while the stream goes on, until the facts it
//! rests on are older than any fact may be.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::{BootMillis, Clock as _, Now};
use crate::base::denial::Denial;
use crate::base::principal::{Facts, Position};
use crate::decide::authorize::Permit;
use crate::decide::method::Method;
use crate::decide::route::RouteIndex;
use crate::decide::surface::SurfaceIndex;
use crate::telemetry::StreamKind;
use crate::upstream::holders::{Holder, is_stalled};

use super::worker::{View, Worker};

mod judge;

/// From this age on a request is a stream. Nearly every request is over before, and what is younger is
/// looked at when it has this age: so a change ends a stream that was opened right before it at most this
/// much later than any other.
const LIVE_AFTER: Duration = Duration::from_millis(200);

/// How often a worker looks whether one of its streams is due, when nothing happens.
const PASS: Duration = Duration::from_secs(1);

/// Most streams looked at in one tick: a look takes a tenth of a microsecond, and one that is judged a
/// few, so a tick of ten thousand streams after an event delays requests by milliseconds at worst.
const LOOKS: usize = 2_048;

/// When no client stalls, it is so long until one is looked for again: a look at every request in flight for each
/// that is refused would cost more than the refusals.
const RELIEF: Duration = Duration::from_millis(50);

/// What a stream is cut off by. Held by the server for each connection or stream.
pub trait Lifeline {
    /// What it is, as long as nothing else is known.
    fn kind(&self) -> StreamKind;
    /// Since when the client has taken nothing of what is there for it.
    fn stalled_since(&self) -> Option<Instant>;
    /// Ends the request soon, in the protocol's way.
    fn cut(&self, why: Cut);
}

/// Why a request is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its credential would not be admitted any more.
    Denied,
    /// Its client takes nothing, and somebody waits for what it holds.
    Displaced,
}

/// What the worker's looks and the request itself both need of a request. Reused with its record.
#[derive(Default)]
pub(super) struct Live {
    pub(super) asked: RefCell<AskedFor>,
    held: RefCell<Option<Held>>,
    /// What it is cut off by, from its head's arrival.
    line: RefCell<Option<Rc<dyn Lifeline>>>,
    /// Why it is to end.
    denial: Cell<Option<Denial>>,
    /// It is to end for somebody who waits.
    displaced: Cell<bool>,
    /// Whether it counts among the requests in flight.
    in_flight: Cell<bool>,
}

/// What was asked for.
#[derive(Default)]
pub(super) struct AskedFor {
    pub(super) method: Option<Method>,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) route: Option<RouteIndex>,
    pub(super) surface: Option<SurfaceIndex>,
}

/// An admitted request under a credential, from when it is forwarded.
struct Held {
    permit: Permit,
    /// What it was admitted by.
    view: Rc<View>,
    surface: SurfaceIndex,
    route: RouteIndex,
    kind: StreamKind,
    since: BootMillis,
    /// What has been found out since, once it is a stream.
    judged: Option<Judged>,
}

/// What the last looks said.
struct Judged {
    /// The newest facts that admitted it.
    facts: Arc<Facts>,
    /// The snapshot it was judged by.
    version: u64,
    look_at: BootMillis,
    /// Since when newer facts are wanted, and when they were last asked for.
    wanted: Option<Wanted>,
}

#[derive(Clone, Copy)]
struct Wanted {
    since: BootMillis,
    asked_at: BootMillis,
}

impl Live {
    /// Forgets the request, keeps the allocations.
    pub(super) fn clear(&self) {
        let mut asked = self.asked.borrow_mut();
        asked.host.clear();
        asked.path.clear();
        (asked.method, asked.route, asked.surface) = (None, None, None);
        drop(asked);
        self.release();
        *self.line.borrow_mut() = None;
        self.denial.set(None);
        self.displaced.set(false);
    }

    /// It has begun, counts as in flight, and can be cut off by this.
    pub(super) fn begin(&self, line: Option<&Rc<dyn Lifeline>>) {
        *self.line.borrow_mut() = line.cloned();
        self.in_flight.set(line.is_some());
    }

    /// It goes on, but does not count as in flight any more.
    pub(super) fn leave_flight(&self) {
        self.in_flight.set(false);
    }

    /// From now on the request may be looked at. Public routes have no credential that could die.
    pub(super) fn hold(&self, permit: Permit, view: &Rc<View>, kind: StreamKind, now: Now) {
        let asked = self.asked.borrow();
        let (true, Some(surface), Some(route)) = (permit.principal().is_some(), asked.surface, asked.route) else {
            return;
        };
        *self.held.borrow_mut() = Some(Held {
            permit,
            view: view.clone(),
            surface,
            route,
            kind,
            since: now.boot,
            judged: None,
        });
    }

    /// It is over, or is refused: nobody looks at it any more.
    pub(super) fn release(&self) {
        *self.held.borrow_mut() = None;
    }

    /// It is a tunnel from now on.
    pub(super) fn became(&self, kind: StreamKind) {
        if let Some(held) = &mut *self.held.borrow_mut() {
            held.kind = kind;
        }
    }

    /// What it is.
    pub(super) fn kind(&self) -> Option<StreamKind> {
        self.held.borrow().as_ref().map(|held| held.kind)
    }

    /// Why it has to end, if it has to.
    pub(super) fn denial(&self) -> Option<Denial> {
        self.denial.get()
    }

    /// Whether it was ended for somebody who waited.
    pub(super) fn was_displaced(&self) -> bool {
        self.displaced.get()
    }

    fn cut(&self, why: Cut) {
        if let Some(line) = &*self.line.borrow() {
            line.cut(why);
        }
    }

    /// Calls `look` with what was granted.
    pub(super) fn with_permit<R>(&self, look: impl FnOnce(&Permit) -> R) -> Option<R> {
        self.held.borrow().as_ref().map(|held| look(&held.permit))
    }
}

impl Holder for Live {
    fn stalled_since(&self) -> Option<Instant> {
        if self.displaced.get() || self.denial.get().is_some() {
            return None;
        }
        self.line.borrow().as_ref()?.stalled_since()
    }

    fn displace(&self) {
        self.displaced.set(true);
        self.cut(Cut::Displaced);
    }
}

/// A worker's requests, and how far it has come in looking at them.
pub(super) struct Watch {
    interval: Duration,
    lives: RefCell<Vec<Weak<Live>>>,
    pass: Cell<Pass>,
    /// When somebody who stalls is looked for again, after none was found.
    relief_at: Cell<Option<Instant>>,
}

/// One round over all requests.
#[derive(Clone, Copy, Default)]
struct Pass {
    /// What the round was begun for.
    marks: (Position, u64),
    /// The next to be looked at; `None` between rounds.
    at: Option<usize>,
    next: BootMillis,
    /// When the requests that were too young in the round after a change are old enough.
    grown_at: Option<BootMillis>,
    open: [u64; StreamKind::ALL.len()],
    hurry: Hurry,
}

/// Whether somebody waits for facts that are being read.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Hurry {
    #[default]
    No,
    Yes,
}

impl Watch {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            lives: RefCell::default(),
            pass: Cell::default(),
            relief_at: Cell::default(),
        }
    }

    /// A request's place that was newly made; it is reused from then on.
    pub(super) fn add(&self, live: &Rc<Live>) {
        self.lives.borrow_mut().push(Rc::downgrade(live));
    }
}

impl Worker {
    /// Looks at some of the streams, if a look is due. Called on every tick.
    pub(super) fn watch_streams(&self) {
        let now = self.clock.now();
        let marks = (self.resolver.cached().positions().newest(), self.version());
        let mut pass = self.watch.pass.get();
        let mut at = match pass.at {
            Some(at) => at,
            None if marks == pass.marks && now.boot < pass.next => return,
            None => {
                self.watch.lives.borrow_mut().retain(|live| live.strong_count() > 0);
                let grown_at = if marks == pass.marks {
                    pass.grown_at.filter(|at| now.boot < *at)
                } else {
                    Some(now.boot.plus(LIVE_AFTER))
                };
                pass = Pass {
                    marks,
                    grown_at,
                    ..Pass::default()
                };
                0
            }
        };
        let view = self.view();
        let lives = self.watch.lives.borrow();
        for live in lives.iter().skip(at).take(LOOKS).filter_map(Weak::upgrade) {
            self.look(&live, &view, now, &mut pass);
        }
        at += LOOKS;
        pass.at = (at < lives.len()).then_some(at);
        if pass.at.is_none() {
            self.telemetry.set_open_streams(pass.open);
            // What was asked for is there within milliseconds, mostly.
            let wait = if pass.hurry == Hurry::Yes { Duration::ZERO } else { PASS };
            let next = now.boot.plus(wait);
            pass.next = pass.grown_at.map_or(next, |at| next.min(at));
        }
        self.watch.pass.set(pass);
    }

    /// Ends the request in flight whose client has taken nothing for longest, if others have waited long
    /// enough for one: whether there was one.
    pub(super) fn end_longest_stalled(&self, now: Instant) -> bool {
        if self.watch.relief_at.get().is_some_and(|at| now < at) {
            return false;
        }
        let lives = self.watch.lives.borrow();
        let stalled = lives.iter().filter_map(Weak::upgrade).filter_map(|live| {
            let since = live.stalled_since().filter(|_| live.in_flight.get())?;
            is_stalled(since, now).then_some((since, live))
        });
        let longest = stalled.min_by_key(|(since, _)| *since);
        if let Some((_, live)) = &longest {
            live.displace();
        } else {
            self.watch.relief_at.set(Some(now + RELIEF));
        }
        longest.is_some()
    }

    fn look(&self, live: &Live, view: &Rc<View>, now: Now, pass: &mut Pass) {
        let Ok(mut held) = live.held.try_borrow_mut() else { return };
        let Some(held) = held.as_mut() else { return };
        if now.boot.since(held.since) < LIVE_AFTER || live.denial.get().is_some() {
            return;
        }
        if let Some(open) = pass.open.get_mut(held.kind as usize) {
            *open += 1;
        }
        match self.judge(held, &live.asked.borrow(), view, now) {
            Ok(hurry) => {
                if hurry == Hurry::Yes {
                    pass.hurry = Hurry::Yes;
                }
            }
            Err(denial) => {
                live.denial.set(Some(denial));
                live.cut(Cut::Denied);
            }
        }
    }
}
