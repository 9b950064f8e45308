//! Receipts of an embedded store. Only one process can open it, so its receipts are in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::clock::{Clock as _, SystemClock, UnixMillis};
use crate::base::ids::GatewayId;
use crate::base::principal::Position;
use crate::store::receipts::{DUPLICATE_AFTER, KEPT_FOR, MAX_GATEWAYS, MAX_PUBLISHED, PublishedCheckpoint, shown_version};
use crate::store::{Announcement, HistoryPoint, Receipt, Receipts, StoreError};

/// The name of the history. A file is opened by one process, which reads all of it, so there is only one history.
pub(super) const HISTORY: &str = "embedded";

/// Receipts with the process that wrote them.
#[derive(Default)]
pub(super) struct MemoryReceipts {
    receipts: Mutex<BTreeMap<GatewayId, (u64, Receipt)>>,
    /// What gateways published of their audit trails, while they are registered.
    checkpoints: Mutex<BTreeMap<GatewayId, String>>,
}

impl MemoryReceipts {
    pub(super) fn announce(&self, gateway: &Announcement) -> Result<UnixMillis, StoreError> {
        let now = SystemClock.now().wall;
        let mut kept = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, receipt)| is_kept(receipt, now));
        let applied = standing(gateway.applied);
        let mut since = now;
        match kept.get(&gateway.id) {
            Some((run, held)) if *run != gateway.run && now < held.heard_at.plus(DUPLICATE_AFTER) => {
                return Err(StoreError::Unavailable("another gateway goes by the same id".into()));
            }
            Some((run, held)) if *run == gateway.run && held.applied == applied => since = held.since,
            None if kept.len() >= MAX_GATEWAYS => return Err(StoreError::Unavailable("1,000 gateways are registered already".into())),
            _ => {}
        }
        let receipt = Receipt {
            id: gateway.id.clone(),
            run: gateway.run,
            version: shown_version(&gateway.version),
            applied,
            since,
            heard_at: now,
            reader: gateway.reader,
            max_age: gateway.max_age,
            stream_interval: gateway.stream_interval,
        };
        kept.insert(gateway.id.clone(), (gateway.run, receipt));
        Ok(now)
    }

    pub(super) fn withdraw(&self, id: &GatewayId, run: u64) {
        let mut kept = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.get(id).is_some_and(|(held, _)| *held == run) {
            kept.remove(id);
        }
    }

    pub(super) fn exchange_checkpoints(&self, id: &GatewayId, run: u64, own: Option<String>) -> Vec<PublishedCheckpoint> {
        let registered = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut published = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        published.retain(|id, _| registered.contains_key(id));
        let is_registered = registered.get(id).is_some_and(|(held, _)| *held == run);
        if let Some(own) = own.filter(|own| is_registered && own.len() <= MAX_PUBLISHED) {
            published.insert(id.clone(), own);
        }
        let others = published.iter().filter(|(other, _)| *other != id);
        others
            .map(|(gateway, text)| PublishedCheckpoint {
                gateway: gateway.clone(),
                text: text.clone(),
            })
            .collect()
    }

    pub(super) fn list(&self, head: Position) -> Receipts {
        let now = SystemClock.now().wall;
        let kept = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        let gateways = kept.values().map(|(_, receipt)| receipt).filter(|receipt| is_kept(receipt, now));
        Receipts {
            now,
            head: standing(head),
            gateways: gateways.cloned().collect(),
            departed: Vec::new(),
            // It lives and dies with the only process there is.
            whole_since: None,
        }
    }
}

fn standing(position: Position) -> HistoryPoint {
    HistoryPoint {
        history: HISTORY.into(),
        count: position.0,
    }
}

fn is_kept(receipt: &Receipt, now: UnixMillis) -> bool {
    now <= receipt.heard_at.plus(KEPT_FOR)
}
