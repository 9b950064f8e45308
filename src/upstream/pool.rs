//! Which endpoint and which connection an attempt gets, and what happens to both afterwards.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::Cause;
use super::balance::{Balance, Tried, View};
use super::connect::{ConnectError, Resolver, connect};
use super::connection::{Connection, Idleness};
use super::counters::UpstreamCounters;
use super::health::{Health, Purpose};
use super::holders::{Caller, Holder, Holders, Over, Shares, Ticket};
use super::lease::{Lease, Slot};
use super::queue::Queue;
use super::spec::UpstreamSpec;
use crate::base::clock;
use crate::wire::head::ResponseHead;

/// Who waits looks this often whether somebody stalls meanwhile, or an endpoint is well again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Who waits for what it holds itself looks this often: hundreds of such must not cost others anything.
const LOOK_AGAIN_OVER: Duration = Duration::from_secs(1);

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
    queue: Queue,
    /// Heads given back by [`UpstreamPool::recycle`].
    heads: RefCell<Vec<ResponseHead>>,
}

/// Whom a connection is for.
#[derive(Clone, Copy)]
pub(super) struct For<'a> {
    pub(super) caller: Caller,
    pub(super) holder: &'a Rc<dyn Holder>,
}

/// One address and what this worker has to it.
pub(super) struct Endpoint {
    /// Newest last: the one used last is the least likely to be closed by the other side.
    idle: RefCell<Vec<Idle>>,
    /// Connections, being made, in use or idle.
    open: Cell<usize>,
    pub(super) health: RefCell<Health>,
    /// Whom the connections in use are for.
    holders: Holders,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// This endpoint could not be reached, for this reason.
    Unreachable(usize, Cause),
    /// All connections stayed in use, too many requests wait already, or this process has no descriptor left.
    Busy(Cause),
}

impl UpstreamPool {
    /// No connection is made yet. Of each endpoint's connections a caller has at most these shares.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>, counters: Arc<UpstreamCounters>, shares: Shares) -> Rc<Self> {
        let endpoint = || Endpoint {
            idle: RefCell::default(),
            open: Cell::new(0),
            health: RefCell::default(),
            holders: Holders::new(spec.max_connections, shares),
        };
        Rc::new(Self {
            endpoints: spec.endpoints.iter().map(|_| endpoint()).collect(),
            spec,
            counters,
            balance: Balance::new(),
            resolver: Resolver::default(),
            queue: Queue::default(),
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
    pub(super) fn checkout_idle(self: &Rc<Self>, tried: Tried, whom: Option<For<'_>>, now: Instant) -> Result<Lease, Option<Slot>> {
        // Those who wait are called as soon as there is room for them: whoever was not has no claim to it.
        if self.queue.has_called() {
            return Err(None);
        }
        let mut slot = self.claim(tried, whom, now).ok_or(None)?;
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
    pub(super) async fn checkout(
        self: &Rc<Self>,
        slot: Option<Slot>,
        tried: Tried,
        whom: Option<For<'_>>,
        now: Instant,
    ) -> Result<Lease, Refused> {
        match slot {
            Some(slot) => self.equip(slot, now).await,
            None => {
                let slot = self.wait(tried, whom, now).await?;
                self.equip(slot, clock::instant()).await
            }
        }
    }

    /// Takes a place at an endpoint, if one has room for this caller.
    fn claim(self: &Rc<Self>, tried: Tried, whom: Option<For<'_>>, now: Instant) -> Option<Slot> {
        let caller = whom.map(|whom| whom.caller);
        let (index, purpose) = self
            .balance
            .choose(self.endpoints.len(), tried, now, |index| self.view(index, caller, now))?;
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
        let ticket = whom.map(|whom| endpoint.holders.enter(whom.caller, whom.holder));
        Some(Slot::new(Rc::clone(self), (index, ticket), purpose, idle))
    }

    fn view(&self, index: usize, caller: Option<Caller>, now: Instant) -> View {
        let Some(endpoint) = self.endpoints.get(index) else {
            return View::NOBODY;
        };
        let (open, idle) = (endpoint.open.get(), endpoint.idle.borrow().len());
        let has_room =
            (idle > 0 || open < self.spec.max_connections) && caller.is_none_or(|caller| endpoint.holders.over(caller).is_none());
        View {
            standing: endpoint.health.borrow().standing(now),
            load: has_room.then(|| open.saturating_sub(idle)),
        }
    }

    /// Waits until an endpoint has room, in the order of arrival. Whoever stalls makes room.
    async fn wait(self: &Rc<Self>, tried: Tried, whom: Option<For<'_>>, now: Instant) -> Result<Slot, Refused> {
        let caller = whom.map(|whom| whom.caller);
        let over = caller.and_then(|caller| self.over(caller));
        let deadline = now + self.spec.connect_timeout;
        let look_again = if over.is_some() { LOOK_AGAIN_OVER } else { LOOK_AGAIN };
        // Dropped after the place in the queue.
        let _calls_the_next = CallNext(self);
        let held = caller.map_or(0, |caller| self.endpoints.iter().map(|e| e.holders.held_by_address(caller)).sum());
        let Some(waiting) = self.queue.join(caller, held, over) else {
            self.counters.busy.up();
            return Err(Refused::Busy(Cause::NoFreeConnection));
        };
        loop {
            let now = clock::instant();
            if let Some(caller) = caller {
                self.displace(caller, now);
            }
            let pause = deadline.min(now + look_again);
            let called = timeout_at(pause.into(), waiting.called()).await.is_ok();
            let now = clock::instant();
            // Nobody is called when an ejected endpoint's time is over, so whoever waits looks by itself.
            let may_try = called || !self.queue.has_called();
            if may_try && let Some(slot) = self.claim(tried, whom, now) {
                drop(waiting);
                return Ok(slot);
            }
            waiting.answer_call();
            if now >= deadline {
                self.counters.busy.up();
                return Err(Refused::Busy(Cause::NoFreeConnection));
            }
        }
    }

    /// The share that keeps this caller from every endpoint that has room for others.
    fn over(&self, caller: Caller) -> Option<Over> {
        self.endpoints.iter().find_map(|endpoint| endpoint.holders.over(caller))
    }

    /// Ends the exchange whose client has taken nothing for longest, so that this caller gets its connection.
    fn displace(&self, caller: Caller, now: Instant) {
        let stalled = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.holders.longest_stalled(caller, now));
        if let Some((_, holder)) = stalled.min_by_key(|(since, _)| *since) {
            self.counters.displaced.up();
            holder.displace();
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
            return Err(Refused::Unreachable(index, Cause::ConnectFailed));
        };
        let deadline = now + self.spec.connect_timeout;
        match connect(endpoint, self.spec.tls.as_ref(), &self.resolver, deadline).await {
            Ok(connection) => {
                self.counters.connects.up();
                Ok(Lease::fresh(slot, connection))
            }
            // Nothing about the endpoint: this process has no descriptor left.
            Err(ConnectError {
                cause: cause @ Cause::NoDescriptors,
                error,
            }) => {
                tracing::warn!(upstream = %self.spec.name, %error, "no descriptor is left for a connection");
                self.counters.busy.up();
                Err(Refused::Busy(cause))
            }
            Err(ConnectError { cause, error }) => {
                tracing::debug!(upstream = %self.spec.name, endpoint = %endpoint.authority, %error, "connect failed");
                self.counters.connect_failures.up();
                slot.failed(cause);
                Err(Refused::Unreachable(index, cause))
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
        self.call_next();
    }

    /// Whoever had a connection of this endpoint has it no more.
    pub(super) fn release(endpoint: &Endpoint, ticket: Ticket) {
        endpoint.holders.leave(ticket);
    }

    /// Keeps a connection whose last exchange is over and clean.
    pub(super) fn keep(&self, endpoint: &Endpoint, mut connection: Box<Connection>) {
        connection.shrink();
        self.counters.idle.up();
        let since = clock::instant();
        endpoint.idle.borrow_mut().push(Idle { connection, since });
        self.call_next();
    }

    pub(super) fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.endpoints.get(index)
    }

    /// Calls the first of those who wait for whom there is room now.
    fn call_next(&self) {
        if self.queue.is_empty() {
            return;
        }
        let now = clock::instant();
        self.queue
            .call(|caller| (0..self.endpoints.len()).any(|index| self.view(index, caller, now).load.is_some()));
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

/// Calls the next of those who wait when one of them goes.
struct CallNext<'a>(&'a UpstreamPool);

impl Drop for CallNext<'_> {
    fn drop(&mut self) {
        self.0.call_next();
    }
}
