//! Receipts and the event log of the shared store, on the connection that operators read on: no change that waits for replicas holds it up.

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::store::{Announcement, EventPage, Receipts, StoreError};

use super::super::fault::{Fault, Retry};
use super::super::receipts::Announced;
use super::super::registration::Seen;
use super::{Session, settle};

impl Session {
    pub(in super::super) async fn announce(&self, gateway: &Announcement) -> Result<UnixMillis, StoreError> {
        let registration = &self.shared.registration;
        let own = registration.is(&gateway.id, gateway.run);
        let announced = self.write_announcement(gateway).await;
        match &announced {
            Ok(announced) if own => registration.note_written(announced.number, announced.now, announced.server),
            Err(fault) if own && fault.retry == Retry::Registered => registration.note_refused(&fault.error),
            Err(fault) if own => registration.note_failed(&fault.error),
            _ => {}
        }
        let announced = announced.map_err(|fault| fault.error)?;
        raise_if_lost(&announced.lost);
        self.shared.whereabouts.turn.set(announced.place, announced.gateways);
        Ok(announced.now)
    }

    async fn write_announcement(&self, gateway: &Announcement) -> Result<Announced, Fault> {
        let applied = self.shared.feed.history.claim(gateway.applied);
        let live = self.writer().map_err(Fault::kept)?;
        let seen = self.shared.registration.seen_by(gateway);
        let written = self.shared.receipts.announce(&live.wire, gateway, &applied, seen).await;
        settle(&self.shared.writer, &live, written)
    }

    pub(in super::super) async fn withdraw(&self, id: &GatewayId, run: u64) -> Result<(), StoreError> {
        let live = self.writer()?;
        let registration = &self.shared.registration;
        let seen = if registration.is(id, run) {
            registration.seen()
        } else {
            Seen::default()
        };
        let done = self.shared.receipts.withdraw(&live.wire, id, run, seen).await;
        raise_if_lost(&self.settle_writer(&live, done)?);
        Ok(())
    }

    pub(in super::super) async fn receipts(&self) -> Result<Receipts, StoreError> {
        let live = self.writer()?;
        let registration = &self.shared.registration;
        let read = self
            .shared
            .receipts
            .receipts(&live.wire, registration.entry(), registration.seen())
            .await;
        let read = self.settle_writer(&live, read)?;
        raise_if_lost(&read.lost);
        Ok(read.receipts)
    }

    pub(in super::super) async fn events_after(&self, after: Option<u64>, limit: usize) -> Result<EventPage, StoreError> {
        let live = self.writer()?;
        let read = self.shared.receipts.events_after(&live.wire, after, limit).await;
        self.settle_writer(&live, read)
    }
}

/// Whoever finds the list not whole mends it in the same step, so each loss is told once.
fn raise_if_lost(why: &str) {
    if !why.is_empty() {
        tracing::error!(
            alarm = "receipts_lost",
            why,
            "the list of gateways may have lost some: for a minute from now, nobody can say who is left that has not confirmed a change"
        );
    }
}
