//! Receipts and the event log of the shared store, on the connection that operators read on: no change that waits for replicas holds it up.

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::store::{Announcement, EventPage, Receipts, StoreError};

use super::Session;

impl Session {
    pub(in super::super) async fn announce(&self, gateway: &Announcement) -> Result<UnixMillis, StoreError> {
        let applied = self.shared.feed.history.standing(gateway.applied);
        let live = self.writer()?;
        let written = self.shared.receipts.announce(&live.wire, gateway, &applied).await;
        let announced = self.settle_writer(&live, written)?;
        self.shared.whereabouts.turn.set(announced.place, announced.gateways);
        Ok(announced.now)
    }

    pub(in super::super) async fn withdraw(&self, id: &GatewayId, run: u64) -> Result<(), StoreError> {
        let live = self.writer()?;
        let done = self.shared.receipts.withdraw(&live.wire, id, run).await;
        self.settle_writer(&live, done)
    }

    pub(in super::super) async fn receipts(&self) -> Result<Receipts, StoreError> {
        let live = self.writer()?;
        let read = self.shared.receipts.receipts(&live.wire).await;
        self.settle_writer(&live, read)
    }

    pub(in super::super) async fn events_after(&self, after: Option<u64>, limit: usize) -> Result<EventPage, StoreError> {
        let live = self.writer()?;
        let read = self.shared.receipts.events_after(&live.wire, after, limit).await;
        self.settle_writer(&live, read)
    }
}
