//! Gives each attempt an endpoint and a connection, and takes the connection back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::Cause;
use super::balance::{EndpointLoad, LoadBalancer, TriedEndpoints};
use super::connect::{ConnectError, HostResolver, connect};
use super::connection::{Idleness, UpstreamConnection};
use super::counters::UpstreamCounters;
use super::health::{AttemptPurpose, EndpointHealth};
use super::lease::{EndpointSlot, Lease};
use super::quota::{CallerQuota, ExceededQuota, QuotaHolder, QuotaKey, QuotaShares, QuotaSlot};
use super::spec::UpstreamSpec;
use super::wait_queue::WaitQueue;
use crate::base::clock;
use crate::wire::head::ResponseHead;

/// How often a waiting request checks whether another one is stalled meanwhile, or an endpoint is healthy again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The same for a request whose caller has used up its quota. Hundreds of such requests must cost others nothing.
const LOOK_AGAIN_OVER: Duration = Duration::from_secs(1);

/// How many spare heads are kept. A head is taken when an answer arrives and given back before the next task runs, so a
/// few are always enough.
const MAX_SPARE_HEADS: usize = 8;

/// The connections of one worker to one upstream.
pub struct UpstreamPool {
    spec: Arc<UpstreamSpec>,
    counters: Arc<UpstreamCounters>,
    endpoints: Vec<PoolEndpoint>,
    balance: LoadBalancer,
    resolver: HostResolver,
    wait_queue: WaitQueue,
    /// Heads given back by [`UpstreamPool::recycle`].
    heads: RefCell<Vec<ResponseHead>>,
}

/// The request for whose sake a connection is used.
#[derive(Clone, Copy)]
pub(super) struct RequestOwner<'a> {
    pub(super) key: QuotaKey,
    pub(super) holder: &'a Rc<dyn QuotaHolder>,
}

/// One address of the upstream, and this worker's connections to it.
pub(super) struct PoolEndpoint {
    /// The newest comes last: the endpoint is least likely to have closed the one that was used last.
    idle: RefCell<Vec<Idle>>,
    /// Connections that are being made, in use or idle.
    open: Cell<usize>,
    pub(super) health: RefCell<EndpointHealth>,
    /// The quotas of the callers whose requests use the connections.
    quota: CallerQuota,
}

struct Idle {
    connection: Box<UpstreamConnection>,
    since: Instant,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckoutError {
    /// This endpoint could not be reached, for this reason.
    Unreachable(usize, Cause),
    /// All connections stayed in use, too many requests wait already, or this process has no descriptor left.
    Busy(Cause),
}

impl UpstreamPool {
    /// Makes a pool without connections. A caller may use at most these shares of each endpoint's connections.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>, counters: Arc<UpstreamCounters>, shares: QuotaShares) -> Rc<Self> {
        let endpoint = || PoolEndpoint {
            idle: RefCell::default(),
            open: Cell::new(0),
            health: RefCell::default(),
            quota: CallerQuota::new(spec.max_connections, shares),
        };
        Rc::new(Self {
            endpoints: spec.endpoints.iter().map(|_| endpoint()).collect(),
            spec,
            counters,
            balance: LoadBalancer::new(),
            resolver: HostResolver::default(),
            wait_queue: WaitQueue::default(),
            heads: RefCell::default(),
        })
    }

    /// The configuration from which it was built.
    #[must_use]
    pub const fn spec(&self) -> &Arc<UpstreamSpec> {
        &self.spec
    }

    #[must_use]
    pub const fn counters(&self) -> &Arc<UpstreamCounters> {
        &self.counters
    }

    /// Closes connections that have been idle for longer than `keep_alive` or that the endpoint has closed. The worker
    /// calls it about once a second. Between the calls such connections are noticed only when they would be used.
    pub fn sweep(&self, now: Instant) {
        for endpoint in &self.endpoints {
            let mut idle = endpoint.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|idle| !self.has_expired(idle, now) && idle.connection.idleness() == Idleness::Quiet);
            for _ in idle.len()..before {
                self.forget_idle(endpoint);
            }
        }
    }

    /// Takes back a head that was processed, so that the next answer needs no allocation.
    pub fn recycle(&self, head: ResponseHead) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < MAX_SPARE_HEADS {
            heads.push(head);
        }
    }

    pub(super) fn take_spare_head(&self) -> ResponseHead {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Leases an idle connection of an endpoint that was not tried yet, without waiting.
    ///
    /// # Errors
    /// The slot that was claimed on an endpoint without an idle connection, if any, with which [`Self::checkout`] goes
    /// on.
    pub(super) fn checkout_idle(
        self: &Rc<Self>,
        tried: TriedEndpoints,
        owner: Option<RequestOwner<'_>>,
        now: Instant,
    ) -> Result<Lease, Option<EndpointSlot>> {
        // Waiting requests are notified as soon as there is room for them, so a request that is not notified goes
        // behind them.
        if self.wait_queue.has_notified() {
            return Err(None);
        }
        let mut slot = self.claim_slot(tried, owner, now).ok_or(None)?;
        match slot.take_idle() {
            Some(connection) => {
                self.counters.attempts.increment();
                self.counters.reuses.increment();
                Ok(Lease::reused(slot, connection))
            }
            None => Err(Some(slot)),
        }
    }

    /// Leases a connection of an endpoint that was not tried yet: makes one for `slot`, or waits for a slot first.
    /// Dropping the future closes a connection that is being made and leaves the queue.
    ///
    /// # Errors
    /// [`CheckoutError`], after the connect deadline at the latest.
    pub(super) async fn checkout(
        self: &Rc<Self>,
        slot: Option<EndpointSlot>,
        tried: TriedEndpoints,
        owner: Option<RequestOwner<'_>>,
        now: Instant,
    ) -> Result<Lease, CheckoutError> {
        match slot {
            Some(slot) => self.connect_slot(slot, now).await,
            None => {
                let slot = self.wait(tried, owner, now).await?;
                self.connect_slot(slot, clock::instant()).await
            }
        }
    }

    /// Takes a slot at an endpoint, if one has room for this caller.
    fn claim_slot(self: &Rc<Self>, tried: TriedEndpoints, owner: Option<RequestOwner<'_>>, now: Instant) -> Option<EndpointSlot> {
        let key = owner.map(|owner| owner.key);
        let (index, purpose) = self
            .balance
            .choose(self.endpoints.len(), tried, now, |index| self.load_of(index, key, now))?;
        let endpoint = self.endpoints.get(index)?;
        if purpose == AttemptPurpose::Probe {
            endpoint.health.borrow_mut().begin_probe();
        }
        // An idle connection is already counted. Otherwise the connection that is to be made is counted here.
        let idle = self.take_idle(endpoint, now);
        if idle.is_none() {
            endpoint.open.set(endpoint.open.get() + 1);
            self.counters.open.increment();
        }
        let quota_slot = owner.map(|owner| endpoint.quota.acquire(owner.key, owner.holder));
        Some(EndpointSlot::new(Rc::clone(self), index, quota_slot, purpose, idle))
    }

    fn load_of(&self, index: usize, key: Option<QuotaKey>, now: Instant) -> EndpointLoad {
        let Some(endpoint) = self.endpoints.get(index) else {
            return EndpointLoad::ABSENT;
        };
        let (open, idle) = (endpoint.open.get(), endpoint.idle.borrow().len());
        let has_room = (idle > 0 || open < self.spec.max_connections) && key.is_none_or(|key| endpoint.quota.exceeded(key).is_none());
        EndpointLoad {
            state: endpoint.health.borrow().state(now),
            load: has_room.then(|| open.saturating_sub(idle)),
        }
    }

    /// Waits until an endpoint has room; addresses are served in turn. A stalled request is ended to make room.
    async fn wait(
        self: &Rc<Self>,
        tried: TriedEndpoints,
        owner: Option<RequestOwner<'_>>,
        now: Instant,
    ) -> Result<EndpointSlot, CheckoutError> {
        let key = owner.map(|owner| owner.key);
        let exceeded = key.and_then(|key| self.exceeded(key));
        let deadline = now + self.spec.connect_timeout;
        let look_again = if exceeded.is_some() { LOOK_AGAIN_OVER } else { LOOK_AGAIN };
        // Dropped after the queue entry.
        let _calls_the_next = WakeNextOnDrop(self);
        let held = key.map_or(0, |key| self.endpoints.iter().map(|e| e.quota.held_by_address(key)).sum());
        let Some(waiting) = self.wait_queue.join(key, held, exceeded) else {
            self.counters.busy.increment();
            return Err(CheckoutError::Busy(Cause::NoFreeConnection));
        };
        loop {
            let now = clock::instant();
            if let Some(key) = key {
                self.displace_stalled(key, now);
            }
            let pause = deadline.min(now + look_again);
            let notified = timeout_at(pause.into(), waiting.notified()).await.is_ok();
            let now = clock::instant();
            // The end of an ejection notifies no request, so a waiting request tries by itself.
            let may_try = notified || !self.wait_queue.has_notified();
            if may_try && let Some(slot) = self.claim_slot(tried, owner, now) {
                drop(waiting);
                return Ok(slot);
            }
            waiting.acknowledge();
            if now >= deadline {
                self.counters.busy.increment();
                return Err(CheckoutError::Busy(Cause::NoFreeConnection));
            }
        }
    }

    /// The quota that keeps this caller from every endpoint that has room for others.
    fn exceeded(&self, key: QuotaKey) -> Option<ExceededQuota> {
        self.endpoints.iter().find_map(|endpoint| endpoint.quota.exceeded(key))
    }

    /// Ends the request whose client has read nothing for longest, so that this caller gets its connection.
    fn displace_stalled(&self, key: QuotaKey, now: Instant) {
        let stalled = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.quota.longest_stalled(key, now));
        if let Some((_, holder)) = stalled.min_by_key(|(since, _)| *since) {
            self.counters.displaced.increment();
            holder.displace();
        }
    }

    /// Makes the connection of a slot, unless the slot came with an idle one.
    async fn connect_slot(&self, mut slot: EndpointSlot, now: Instant) -> Result<Lease, CheckoutError> {
        self.counters.attempts.increment();
        if let Some(connection) = slot.take_idle() {
            self.counters.reuses.increment();
            return Ok(Lease::reused(slot, connection));
        }
        let index = slot.index();
        let Some(endpoint) = self.spec.endpoints.get(index) else {
            return Err(CheckoutError::Unreachable(index, Cause::ConnectFailed));
        };
        let deadline = now + self.spec.connect_timeout;
        match connect(endpoint, self.spec.tls.as_ref(), &self.resolver, deadline).await {
            Ok(connection) => {
                self.counters.connects.increment();
                Ok(Lease::fresh(slot, connection))
            }
            // This says nothing about the endpoint: this process has no descriptor left.
            Err(ConnectError {
                cause: cause @ Cause::NoDescriptors,
                error,
            }) => {
                tracing::warn!(upstream = %self.spec.name, %error, "no descriptor is left for a connection");
                self.counters.busy.increment();
                Err(CheckoutError::Busy(cause))
            }
            Err(ConnectError { cause, error }) => {
                tracing::debug!(upstream = %self.spec.name, endpoint = %endpoint.authority, %error, "connect failed");
                self.counters.connect_failures.increment();
                slot.failed(cause);
                Err(CheckoutError::Unreachable(index, cause))
            }
        }
    }

    /// Whether the newest idle connection is quiet.
    #[cfg(test)]
    pub(super) fn endpoint_is_quiet(&self, index: usize) -> bool {
        let mut idle = self.endpoints[index].idle.borrow_mut();
        idle.last_mut().is_some_and(|idle| idle.connection.idleness() == Idleness::Quiet)
    }

    /// The newest idle connection that is still open. Closed ones that are met on the way are removed.
    fn take_idle(&self, endpoint: &PoolEndpoint, now: Instant) -> Option<Box<UpstreamConnection>> {
        loop {
            let mut idle = endpoint.idle.borrow_mut().pop()?;
            if !self.has_expired(&idle, now) {
                if idle.connection.idleness() == Idleness::Quiet {
                    self.counters.idle.decrement();
                    return Some(idle.connection);
                }
                self.counters.stale.increment();
            }
            self.forget_idle(endpoint);
        }
    }

    fn has_expired(&self, idle: &Idle, now: Instant) -> bool {
        now.saturating_duration_since(idle.since) >= self.spec.keep_alive
    }

    /// Counts an idle connection that has just been removed from the list to be closed.
    fn forget_idle(&self, endpoint: &PoolEndpoint) {
        self.counters.idle.decrement();
        self.count_closed(endpoint);
    }

    /// Counts a connection of this endpoint that has been closed.
    pub(super) fn count_closed(&self, endpoint: &PoolEndpoint) {
        endpoint.open.set(endpoint.open.get().saturating_sub(1));
        self.counters.open.decrement();
        self.wake_next();
    }

    /// A request has given its connection to this endpoint back.
    pub(super) fn release(endpoint: &PoolEndpoint, quota_slot: QuotaSlot) {
        endpoint.quota.release(quota_slot);
    }

    /// Keeps a connection whose last attempt has ended cleanly.
    pub(super) fn park_connection(&self, endpoint: &PoolEndpoint, mut connection: Box<UpstreamConnection>) {
        connection.shrink();
        self.counters.idle.increment();
        let since = clock::instant();
        endpoint.idle.borrow_mut().push(Idle { connection, since });
        self.wake_next();
    }

    pub(super) fn endpoint(&self, index: usize) -> Option<&PoolEndpoint> {
        self.endpoints.get(index)
    }

    /// Notifies the first waiting request for which there is room now.
    fn wake_next(&self) {
        if self.wait_queue.is_empty() {
            return;
        }
        let now = clock::instant();
        self.wait_queue
            .notify_first(|key| (0..self.endpoints.len()).any(|index| self.load_of(index, key, now).load.is_some()));
    }

    /// Closes the idle connections of an endpoint that has just closed one of them: a service that restarts closes them
    /// all.
    pub(super) fn drop_idle(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index) {
            let idle = std::mem::take(&mut *endpoint.idle.borrow_mut());
            for _ in idle {
                self.forget_idle(endpoint);
            }
        }
    }
}

/// Notifies the next waiting request when one of them leaves.
struct WakeNextOnDrop<'a>(&'a UpstreamPool);

impl Drop for WakeNextOnDrop<'_> {
    fn drop(&mut self) {
        self.0.wake_next();
    }
}
