//! One connection in use, counted at its endpoint. It is closed when dropped, and kept only when parked.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;

use super::Cause;
use super::connection::UpstreamConnection;
use super::health::{AttemptPurpose, HealthChange};
use super::pool::UpstreamPool;
use super::quota::QuotaSlot;
use crate::base::clock;

/// Where a lease got its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionOrigin {
    /// It was made for this attempt.
    Fresh,
    /// It was idle, and the endpoint may have closed it meanwhile.
    Reused,
}

/// One of the connections that an endpoint may have. It is given back when dropped.
pub(super) struct EndpointSlot {
    pool: Rc<UpstreamPool>,
    index: usize,
    purpose: AttemptPurpose,
    idle: Option<Box<UpstreamConnection>>,
    state: SlotState,
    /// The quota slot of the request that uses the connection.
    quota_slot: Option<QuotaSlot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    InUse,
    /// The connection went back to the idle ones, which still count.
    Parked,
}

impl EndpointSlot {
    pub(super) const fn new(
        pool: Rc<UpstreamPool>,
        index: usize,
        quota_slot: Option<QuotaSlot>,
        purpose: AttemptPurpose,
        idle: Option<Box<UpstreamConnection>>,
    ) -> Self {
        Self {
            quota_slot,
            pool,
            index,
            purpose,
            idle,
            state: SlotState::InUse,
        }
    }

    pub(super) const fn index(&self) -> usize {
        self.index
    }

    pub(super) const fn take_idle(&mut self) -> Option<Box<UpstreamConnection>> {
        self.idle.take()
    }

    fn succeeded(&mut self) {
        self.purpose = AttemptPurpose::Request;
        if let Some(endpoint) = self.pool.endpoint(self.index) {
            endpoint.health.borrow_mut().succeeded();
        }
    }

    /// The endpoint could not be reached, or gave no valid answer in time.
    pub(super) fn failed(&mut self, cause: Cause) {
        let purpose = std::mem::replace(&mut self.purpose, AttemptPurpose::Request);
        let spec = self.pool.spec();
        let Some(endpoint) = self.pool.endpoint(self.index) else { return };
        let outcome = endpoint.health.borrow_mut().failed(purpose, spec.ejection, clock::instant());
        if outcome == HealthChange::Ejected {
            self.pool.counters().ejections.increment();
            let authority = spec.endpoints.get(self.index).map_or("", |e| e.authority.as_str());
            let why = cause.as_str();
            tracing::warn!(upstream = %spec.name, endpoint = authority, why, "endpoint ejected");
        }
    }
}

impl Drop for EndpointSlot {
    fn drop(&mut self) {
        let Some(endpoint) = self.pool.endpoint(self.index) else { return };
        if self.purpose == AttemptPurpose::Probe {
            endpoint.health.borrow_mut().abandon_probe();
        }
        if let Some(quota_slot) = self.quota_slot.take() {
            UpstreamPool::release(endpoint, quota_slot);
        }
        if self.state == SlotState::InUse {
            self.pool.count_closed(endpoint);
        }
    }
}

/// A connection in use. Dropping it closes the connection; only [`Lease::park`] keeps it.
pub(super) struct Lease {
    pub(super) connection: Box<UpstreamConnection>,
    pub(super) origin: ConnectionOrigin,
    slot: EndpointSlot,
}

impl Lease {
    pub(super) const fn fresh(slot: EndpointSlot, connection: Box<UpstreamConnection>) -> Self {
        Self {
            connection,
            origin: ConnectionOrigin::Fresh,
            slot,
        }
    }

    pub(super) const fn reused(slot: EndpointSlot, connection: Box<UpstreamConnection>) -> Self {
        Self {
            connection,
            origin: ConnectionOrigin::Reused,
            slot,
        }
    }

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

    /// The endpoint gave no valid answer, or none in time.
    pub(super) fn failed(&mut self, cause: Cause) {
        self.slot.failed(cause);
    }

    /// An idle connection was closed. This says nothing about the endpoint, but its other idle connections are probably
    /// closed as well.
    pub(super) fn was_stale(&self) {
        self.pool().counters().stale.increment();
        self.pool().drop_idle(self.slot.index);
    }

    /// Keeps the connection for the next request.
    pub(super) fn park(self) {
        let Self { connection, mut slot, .. } = self;
        if slot.pool.spec().keep_alive == Duration::ZERO {
            return;
        }
        slot.state = SlotState::Parked;
        if let Some(endpoint) = slot.pool.endpoint(slot.index) {
            if let Some(quota_slot) = slot.quota_slot.take() {
                UpstreamPool::release(endpoint, quota_slot);
            }
            slot.pool.park_connection(endpoint, connection);
        }
    }
}

/// The connection of an endpoint after its 101. It still counts among the endpoint's connections. Dropping it closes
/// it, and it never goes back to the pool.
pub struct Upgraded {
    lease: Lease,
}

impl Upgraded {
    pub(super) const fn new(lease: Lease) -> Self {
        Self { lease }
    }

    /// Bytes that were received and not yet taken, at first those after the head of the 101.
    pub const fn input(&mut self) -> &mut BytesMut {
        &mut self.lease.connection.input
    }

    /// Reads once into [`Self::input`]; 0 is the end.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.lease.connection.poll_read(cx)
    }

    /// Writes once.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lease.connection.poll_write(cx, &[IoSlice::new(bytes)])
    }

    /// Flushes what was written.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lease.connection.poll_flush(cx)
    }

    /// Ends the sending side.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lease.connection.poll_shutdown(cx)
    }
}
