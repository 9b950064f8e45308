//! One connection in use, counted at its endpoint: closed when dropped, kept only when parked.

use std::rc::Rc;
use std::time::Duration;

use super::Cause;
use super::connection::Connection;
use super::health::{Outcome, Purpose};
use super::holders::Ticket;
use super::pool::UpstreamPool;
use crate::base::clock;

/// How a lease came by its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was made for this attempt.
    Fresh,
    /// It was idle, and may have been closed by the other side meanwhile.
    Reused,
}

/// One of an endpoint's connections, counted; given back when dropped.
pub(super) struct Slot {
    pool: Rc<UpstreamPool>,
    index: usize,
    purpose: Purpose,
    idle: Option<Box<Connection>>,
    held: Held,
    /// Its place among those whom the endpoint's connections are for.
    ticket: Option<Ticket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    /// The connection went back to the idle ones and keeps its place.
    Parked,
}

impl Slot {
    pub(super) const fn new(
        pool: Rc<UpstreamPool>,
        (index, ticket): (usize, Option<Ticket>),
        purpose: Purpose,
        idle: Option<Box<Connection>>,
    ) -> Self {
        Self {
            ticket,
            pool,
            index,
            purpose,
            idle,
            held: Held::Yes,
        }
    }

    pub(super) const fn index(&self) -> usize {
        self.index
    }

    pub(super) const fn take_idle(&mut self) -> Option<Box<Connection>> {
        self.idle.take()
    }

    fn succeeded(&mut self) {
        self.purpose = Purpose::Request;
        if let Some(endpoint) = self.pool.endpoint(self.index) {
            endpoint.health.borrow_mut().succeeded();
        }
    }

    /// The endpoint could not be reached, or gave no valid answer in time.
    pub(super) fn failed(&mut self, cause: Cause) {
        let purpose = std::mem::replace(&mut self.purpose, Purpose::Request);
        let spec = self.pool.spec();
        let Some(endpoint) = self.pool.endpoint(self.index) else { return };
        let outcome = endpoint.health.borrow_mut().failed(purpose, spec.ejection, clock::instant());
        if outcome == Outcome::Ejected {
            self.pool.counters().ejections.up();
            let authority = spec.endpoints.get(self.index).map_or("", |e| e.authority.as_str());
            let why = cause.as_str();
            tracing::warn!(upstream = %spec.name, endpoint = authority, why, "endpoint ejected");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(endpoint) = self.pool.endpoint(self.index) else { return };
        if self.purpose == Purpose::Probe {
            endpoint.health.borrow_mut().abandon_probe();
        }
        if let Some(ticket) = self.ticket.take() {
            UpstreamPool::release(endpoint, ticket);
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
    pub(super) const fn fresh(slot: Slot, connection: Box<Connection>) -> Self {
        Self {
            connection,
            origin: Origin::Fresh,
            slot,
        }
    }

    pub(super) const fn reused(slot: Slot, connection: Box<Connection>) -> Self {
        Self {
            connection,
            origin: Origin::Reused,
            slot,
        }
    }

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
    pub(super) fn failed(&mut self, cause: Cause) {
        self.slot.failed(cause);
    }

    /// An idle connection turned out to be closed: that says nothing about the endpoint, but much
    /// about its other idle connections.
    pub(super) fn was_stale(&self) {
        self.pool().counters().stale.up();
        self.pool().drop_idle(self.slot.index);
    }

    /// Keeps the connection for the next request.
    pub(super) fn park(self) {
        let Self { connection, mut slot, .. } = self;
        if slot.pool.spec().keep_alive == Duration::ZERO {
            return;
        }
        slot.held = Held::Parked;
        if let Some(endpoint) = slot.pool.endpoint(slot.index) {
            if let Some(ticket) = slot.ticket.take() {
                UpstreamPool::release(endpoint, ticket);
            }
            slot.pool.keep(endpoint, connection);
        }
    }
}
