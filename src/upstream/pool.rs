//! Which endpoint and which connection an attempt gets, and what happens to both afterwards.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::balance::{Balance, Tried, View};
use super::connect::{Resolver, connect};
use super::connection::{Connection, Idleness};
use super::counters::UpstreamCounters;
use super::health::{Health, Purpose};
use super::lease::{Lease, Slot};
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
    balance: Balance,
    resolver: Resolver,
    waiting: Cell<usize>,
    freed: Notify,
    /// Heads given back by [`UpstreamPool::recycle`].
    heads: RefCell<Vec<ResponseHead>>,
}

/// One address and what this worker has to it.
#[derive(Default)]
pub(super) struct Endpoint {
    /// Newest last: the one used last is the least likely to be closed by the other side.
    idle: RefCell<Vec<Idle>>,
    /// Connections, being made, in use or idle.
    open: Cell<usize>,
    pub(super) health: RefCell<Health>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// This endpoint could not be reached.
    Unreachable(usize),
    /// All connections stayed in use, or too many requests wait already.
    Busy,
}

impl UpstreamPool {
    /// No connection is made yet.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>, counters: Arc<UpstreamCounters>) -> Rc<Self> {
        Rc::new(Self {
            endpoints: spec.endpoints.iter().map(|_| Endpoint::default()).collect(),
            spec,
            counters,
            balance: Balance::new(),
            resolver: Resolver::default(),
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

    /// Gives an idle connection to one of the endpoints that were not tried yet, without a wait. What
    /// it got as far as is what [`Self::checkout`] goes on with.
    pub(super) fn checkout_idle(self: &Rc<Self>, tried: Tried, now: Instant) -> Result<Lease, Option<Slot>> {
        if self.waiting.get() > 0 {
            return Err(None);
        }
        let mut slot = self.claim(tried, now).ok_or(None)?;
        match slot.take_idle() {
            Some(connection) => {
                self.counters.attempts.up();
                self.counters.reuses.up();
                Ok(Lease::reused(slot, connection))
            }
            None => Err(Some(slot)),
        }
    }

    /// Gives a connection to one of the endpoints that were not tried yet: makes one for `slot`, or
    /// waits for a slot first. Dropping the future closes a connection that is being made and leaves
    /// the queue.
    ///
    /// # Errors
    /// [`Refused`], after the connect deadline at the latest.
    pub(super) async fn checkout(self: &Rc<Self>, slot: Option<Slot>, tried: Tried, now: Instant) -> Result<Lease, Refused> {
        match slot {
            Some(slot) => self.equip(slot, now).await,
            None => {
                let slot = self.wait(tried, now + self.spec.connect_timeout).await?;
                self.equip(slot, clock::instant()).await
            }
        }
    }

    /// Takes a place at an endpoint, if one has room.
    fn claim(self: &Rc<Self>, tried: Tried, now: Instant) -> Option<Slot> {
        let (index, purpose) = self
            .balance
            .choose(self.endpoints.len(), tried, now, |index| self.view(index, now))?;
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
        Some(Slot::new(Rc::clone(self), index, purpose, idle))
    }

    fn view(&self, index: usize, now: Instant) -> View {
        let Some(endpoint) = self.endpoints.get(index) else {
            return View::NOBODY;
        };
        let (open, idle) = (endpoint.open.get(), endpoint.idle.borrow().len());
        View {
            standing: endpoint.health.borrow().standing(now),
            load: (idle > 0 || open < self.spec.max_connections).then(|| open.saturating_sub(idle)),
        }
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
        if let Some(connection) = slot.take_idle() {
            self.counters.reuses.up();
            return Ok(Lease::reused(slot, connection));
        }
        let index = slot.index();
        let Some(endpoint) = self.spec.endpoints.get(index) else {
            return Err(Refused::Unreachable(index));
        };
        let deadline = now + self.spec.connect_timeout;
        match connect(endpoint, self.spec.tls.as_ref(), &self.resolver, deadline).await {
            Ok(connection) => {
                self.counters.connects.up();
                Ok(Lease::fresh(slot, connection))
            }
            Err(error) => {
                tracing::debug!(upstream = %self.spec.name, endpoint = %endpoint.authority, %error, "connect failed");
                self.counters.connect_failures.up();
                slot.failed();
                Err(Refused::Unreachable(index))
            }
        }
    }

    /// Whether the newest idle connection shows no sign of the other side.
    #[cfg(test)]
    pub(super) fn endpoint_is_quiet(&self, index: usize) -> bool {
        let mut idle = self.endpoints[index].idle.borrow_mut();
        idle.last_mut().is_some_and(|idle| idle.connection.idleness() == Idleness::Quiet)
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

    /// A connection of this endpoint has been closed.
    pub(super) fn close_one(&self, endpoint: &Endpoint) {
        endpoint.open.set(endpoint.open.get().saturating_sub(1));
        self.counters.open.down();
        self.wake_one();
    }

    /// Keeps a connection whose last exchange is over and clean.
    pub(super) fn keep(&self, endpoint: &Endpoint, mut connection: Box<Connection>) {
        connection.shrink();
        self.counters.idle.up();
        let since = clock::instant();
        endpoint.idle.borrow_mut().push(Idle { connection, since });
        self.wake_one();
    }

    pub(super) fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.endpoints.get(index)
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
