//! Which endpoint and which connection an attempt gets, and what happens to both afterwards.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::connect::connect;
use super::connection::{Connection, Idleness};
use super::counters::UpstreamCounters;
use super::health::{Health, Outcome, Standing};
use super::spec::UpstreamSpec;
use crate::base::clock;
use crate::wire::head::ResponseHead;

/// Requests of one worker that may wait for a connection of one upstream; the next is refused at
/// once. More than this is not served within the connect deadline by any upstream worth waiting for.
const MAX_WAITING: usize = 1_024;

/// Spare heads kept: a head is taken when an answer arrives and given back before the next task
/// runs, so a few are always enough.
const MAX_SPARE_HEADS: usize = 8;

/// The connections of one worker to one upstream.
pub struct UpstreamPool {
    spec: Arc<UpstreamSpec>,
    counters: Arc<UpstreamCounters>,
    endpoints: Vec<Endpoint>,
    /// Where the next choice begins, so that equals take turns.
    turn: Cell<usize>,
    /// State of the generator that draws the second candidate; never 0.
    random: Cell<u64>,
    waiting: Cell<usize>,
    freed: Notify,
    /// Heads given back by [`UpstreamPool::recycle`].
    heads: RefCell<Vec<ResponseHead>>,
}

#[derive(Default)]
struct Endpoint {
    /// Newest last: the one used last is the least likely to be closed by the other side.
    idle: RefCell<Vec<Idle>>,
    /// Connections, being made, in use or idle.
    open: Cell<usize>,
    health: RefCell<Health>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// Endpoints a request has already failed at. Those beyond the 64th are not remembered and may be
/// tried again, which only costs an attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tried(u64);

impl Tried {
    pub(super) fn add(&mut self, endpoint: usize) {
        self.0 |= bit(endpoint);
    }

    fn has(self, endpoint: usize) -> bool {
        self.0 & bit(endpoint) != 0
    }
}

fn bit(endpoint: usize) -> u64 {
    u32::try_from(endpoint).ok().and_then(|n| 1_u64.checked_shl(n)).unwrap_or(0)
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// This endpoint could not be reached.
    Unreachable(usize),
    /// All connections stayed in use, or too many requests wait already.
    Busy,
}

/// How a lease came by its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was made for this attempt.
    Fresh,
    /// It was idle, and may have been closed by the other side meanwhile.
    Reused,
}

/// The endpoint that was chosen.
enum Choice {
    /// This one, and as a probe if it is due for one.
    Endpoint(usize, Purpose),
    /// Every usable endpoint is full.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Request,
    Probe,
}

impl UpstreamPool {
    /// No connection is made yet.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>, counters: Arc<UpstreamCounters>) -> Rc<Self> {
        Rc::new(Self {
            endpoints: spec.endpoints.iter().map(|_| Endpoint::default()).collect(),
            spec,
            counters,
            turn: Cell::new(0),
            random: Cell::new(RandomState::new().hash_one(0_u8) | 1),
            waiting: Cell::new(0),
            freed: Notify::new(),
            heads: RefCell::default(),
        })
    }

    /// What it was built from.
    #[must_use]
    pub const fn spec(&self) -> &Arc<UpstreamSpec> {
        &self.spec
    }

    /// Its counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<UpstreamCounters> {
        &self.counters
    }

    /// Closes connections that have been idle for longer than `keep_alive` or were closed by the
    /// other side. The worker calls it about once a second; between the calls such connections are
    /// only found when they would be used.
    pub fn sweep(&self, now: Instant) {
        for endpoint in &self.endpoints {
            let mut idle = endpoint.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|idle| !self.is_over(idle, now) && idle.connection.idleness() == Idleness::Quiet);
            for _ in idle.len()..before {
                self.forget(endpoint);
            }
        }
    }

    /// Closes every idle connection, as after a reload that replaced this pool.
    pub fn close_idle(&self) {
        for index in 0..self.endpoints.len() {
            self.drop_idle(index);
        }
    }

    /// Takes back the head of an answer that was dealt with, so that the next one needs no allocation.
    pub fn recycle(&self, head: ResponseHead) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < MAX_SPARE_HEADS {
            heads.push(head);
        }
    }

    pub(super) fn spare_head(&self) -> ResponseHead {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a connection to one of the endpoints that were not tried yet. Dropping the future
    /// closes a connection that is being made and leaves the queue.
    ///
    /// # Errors
    /// [`Refused`], after the connect deadline at the latest.
    pub(super) async fn checkout(self: &Rc<Self>, tried: Tried, now: Instant) -> Result<Lease, Refused> {
        if self.waiting.get() == 0
            && let Some(slot) = self.claim(tried, now)
        {
            return self.equip(slot, now).await;
        }
        let slot = self.wait(tried, now + self.spec.connect_timeout).await?;
        self.equip(slot, clock::instant()).await
    }

    /// Takes a place at an endpoint, if one has room.
    fn claim(self: &Rc<Self>, tried: Tried, now: Instant) -> Option<Slot> {
        let Choice::Endpoint(index, purpose) = self.choose(tried, now) else {
            return None;
        };
        let endpoint = self.endpoints.get(index)?;
        if purpose == Purpose::Probe {
            endpoint.health.borrow_mut().begin_probe();
        }
        // An idle connection keeps its place; otherwise one is taken for the connection to be made.
        let idle = self.take_idle(endpoint, now);
        if idle.is_none() {
            endpoint.open.set(endpoint.open.get() + 1);
            self.counters.open.up();
        }
        Some(Slot {
            pool: Rc::clone(self),
            index,
            purpose,
            idle,
            held: Held::Yes,
        })
    }

    /// Waits in the order of arrival until an endpoint has room.
    async fn wait(self: &Rc<Self>, tried: Tried, deadline: Instant) -> Result<Slot, Refused> {
        if self.waiting.get() >= MAX_WAITING {
            self.counters.busy.up();
            return Err(Refused::Busy);
        }
        let _place = Place::new(&self.waiting);
        loop {
            if timeout_at(deadline.into(), self.freed.notified()).await.is_err() {
                self.counters.busy.up();
                return Err(Refused::Busy);
            }
            if let Some(slot) = self.claim(tried, clock::instant()) {
                return Ok(slot);
            }
        }
    }

    /// Makes the slot's connection, unless it came with an idle one.
    async fn equip(&self, mut slot: Slot, now: Instant) -> Result<Lease, Refused> {
        self.counters.attempts.up();
        if let Some(connection) = slot.idle.take() {
            self.counters.reuses.up();
            return Ok(Lease {
                connection,
                slot,
                origin: Origin::Reused,
            });
        }
        let Some(endpoint) = self.spec.endpoints.get(slot.index) else {
            return Err(Refused::Unreachable(slot.index));
        };
        match connect(endpoint, self.spec.tls.as_ref(), now + self.spec.connect_timeout).await {
            Ok(connection) => {
                self.counters.connects.up();
                Ok(Lease {
                    connection,
                    slot,
                    origin: Origin::Fresh,
                })
            }
            Err(error) => {
                tracing::debug!(upstream = %self.spec.name, endpoint = %endpoint.authority, %error, "connect failed");
                self.counters.connect_failures.up();
                slot.failed();
                Err(Refused::Unreachable(slot.index))
            }
        }
    }

    /// Power of two choices by requests in flight among those that are well and have room, in turn
    /// among equals. If nobody is well, the one whose ejection ends first: a wrong verdict about
    /// every endpoint must not turn into an outage of our making. Endpoints tried before are taken
    /// only when no other has room.
    fn choose(&self, tried: Tried, now: Instant) -> Choice {
        let (mut fresh, mut again) = (Candidates::default(), Candidates::default());
        let mut ejected: Option<(Instant, usize)> = None;
        let mut full = false;
        let count = self.endpoints.len();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let drawn = if count > 2 { self.draw(count) } else { 1 };
        for index in (0..count).map(|offset| turn.wrapping_add(offset) % count) {
            let Some(endpoint) = self.endpoints.get(index) else { continue };
            let standing = endpoint.health.borrow().standing(now);
            match standing {
                Standing::Healthy | Standing::Due if !self.has_room(endpoint) => full = true,
                Standing::Due if !tried.has(index) => return Choice::Endpoint(index, Purpose::Probe),
                Standing::Healthy if tried.has(index) => again.offer(index, endpoint.in_flight(), drawn),
                Standing::Healthy => fresh.offer(index, endpoint.in_flight(), drawn),
                Standing::Due => {}
                Standing::Ejected(until) => {
                    let sooner = ejected.is_none_or(|(earliest, _)| until < earliest);
                    if sooner && self.has_room(endpoint) {
                        ejected = Some((until, index));
                    }
                }
            }
        }
        match fresh.best().or(again.best()).or(ejected.filter(|_| !full).map(|(_, index)| index)) {
            Some(index) => Choice::Endpoint(index, Purpose::Request),
            None => Choice::Full,
        }
    }

    /// Whether the newest idle connection shows no sign of the other side.
    #[cfg(test)]
    pub(super) fn endpoint_is_quiet(&self, index: usize) -> bool {
        let mut idle = self.endpoints[index].idle.borrow_mut();
        idle.last_mut().is_some_and(|idle| idle.connection.idleness() == Idleness::Quiet)
    }

    /// A number below `count`, by xorshift: only balance depends on it, nothing secret.
    fn draw(&self, count: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        usize::try_from(x >> 33).unwrap_or(0) % count.max(1)
    }

    fn has_room(&self, endpoint: &Endpoint) -> bool {
        endpoint.open.get() < self.spec.max_connections || !endpoint.idle.borrow().is_empty()
    }

    /// The newest idle connection that still lives; dead ones met on the way are closed.
    fn take_idle(&self, endpoint: &Endpoint, now: Instant) -> Option<Box<Connection>> {
        loop {
            let mut idle = endpoint.idle.borrow_mut().pop()?;
            if !self.is_over(&idle, now) {
                if idle.connection.idleness() == Idleness::Quiet {
                    self.counters.idle.down();
                    return Some(idle.connection);
                }
                self.counters.stale.up();
            }
            self.forget(endpoint);
        }
    }

    fn is_over(&self, idle: &Idle, now: Instant) -> bool {
        now.saturating_duration_since(idle.since) >= self.spec.keep_alive
    }

    /// Counts an idle connection out that has just been taken off the list to be closed.
    fn forget(&self, endpoint: &Endpoint) {
        self.counters.idle.down();
        self.close_one(endpoint);
    }

    fn close_one(&self, endpoint: &Endpoint) {
        endpoint.open.set(endpoint.open.get().saturating_sub(1));
        self.counters.open.down();
        self.wake_one();
    }

    fn wake_one(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }

    /// Closes the idle connections of an endpoint that has just closed one of them on us: a service
    /// that restarts closes them all.
    pub(super) fn drop_idle(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index) {
            let idle = std::mem::take(&mut *endpoint.idle.borrow_mut());
            for _ in idle {
                self.forget(endpoint);
            }
        }
    }
}

impl Endpoint {
    fn in_flight(&self) -> usize {
        self.open.get().saturating_sub(self.idle.borrow().len())
    }
}

/// The two candidates among which the load decides: the first usable one in turn, and one drawn.
#[derive(Default)]
struct Candidates {
    first: Option<(usize, usize)>,
    second: Option<(usize, usize)>,
    seen: usize,
}

impl Candidates {
    fn offer(&mut self, index: usize, load: usize, drawn: usize) {
        if self.first.is_none() {
            self.first = Some((index, load));
        } else if self.seen <= drawn.max(1) {
            self.second = Some((index, load));
        }
        self.seen += 1;
    }

    fn best(&self) -> Option<usize> {
        match (self.first, self.second) {
            (Some((_, load)), Some((index, other))) if other < load => Some(index),
            (first, _) => first.map(|(index, _)| index),
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn new(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// One of an endpoint's connections, counted; given back when dropped.
struct Slot {
    pool: Rc<UpstreamPool>,
    index: usize,
    purpose: Purpose,
    idle: Option<Box<Connection>>,
    held: Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    /// The connection went back to the idle ones and keeps its place.
    Parked,
}

impl Slot {
    fn endpoint(&self) -> Option<&Endpoint> {
        self.pool.endpoints.get(self.index)
    }

    fn succeeded(&mut self) {
        self.purpose = Purpose::Request;
        if let Some(endpoint) = self.endpoint() {
            endpoint.health.borrow_mut().succeeded();
        }
    }

    fn failed(&mut self) {
        self.purpose = Purpose::Request;
        let Some(endpoint) = self.endpoint() else { return };
        let outcome = endpoint.health.borrow_mut().failed(self.pool.spec.ejection, clock::instant());
        if outcome == Outcome::Ejected {
            self.pool.counters.ejections.up();
            let authority = self.pool.spec.endpoints.get(self.index).map_or("", |e| e.authority.as_str());
            tracing::warn!(upstream = %self.pool.spec.name, endpoint = authority, "endpoint ejected");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(endpoint) = self.pool.endpoints.get(self.index) else {
            return;
        };
        if self.purpose == Purpose::Probe {
            endpoint.health.borrow_mut().abandon_probe();
        }
        if self.held == Held::Yes {
            self.pool.close_one(endpoint);
        }
    }
}

/// A connection in use. Dropping it closes the connection; only [`Lease::park`] keeps it.
pub(super) struct Lease {
    pub(super) connection: Box<Connection>,
    pub(super) origin: Origin,
    slot: Slot,
}

impl Lease {
    /// Index of its endpoint.
    pub(super) const fn endpoint(&self) -> usize {
        self.slot.index
    }

    pub(super) fn pool(&self) -> &UpstreamPool {
        &self.slot.pool
    }

    /// The endpoint gave a valid answer.
    pub(super) fn succeeded(&mut self) {
        self.slot.succeeded();
    }

    /// The endpoint gave none, or none in time.
    pub(super) fn failed(&mut self) {
        self.slot.failed();
    }

    /// An idle connection turned out to be closed: that says nothing about the endpoint, but much
    /// about its other idle connections.
    pub(super) fn was_stale(&self) {
        self.slot.pool.counters.stale.up();
        self.slot.pool.drop_idle(self.slot.index);
    }

    /// Keeps the connection for the next request.
    pub(super) fn park(self) {
        let Self {
            mut connection, mut slot, ..
        } = self;
        let pool = Rc::clone(&slot.pool);
        if pool.spec.keep_alive == Duration::ZERO {
            return;
        }
        if let Some(endpoint) = pool.endpoints.get(slot.index) {
            connection.shrink();
            slot.held = Held::Parked;
            pool.counters.idle.up();
            endpoint.idle.borrow_mut().push(Idle {
                connection,
                since: clock::instant(),
            });
            pool.wake_one();
        }
    }
}
