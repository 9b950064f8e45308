//! The event log of the embedded store, read for operators.

use redb::{ReadTransaction, ReadableTable as _};

use crate::base::clock::UnixMillis;
use crate::store::receipts::MAX_EVENTS;
use crate::store::{EventPage, HistoryPoint, LoggedEvent, StoreError, codec};

use super::super::receipts::HISTORY;
use super::{COUNTERS, EVENT_TIMES, EVENTS, failed, position_in};

/// Events after a position, or the newest, oldest first.
pub(in super::super) fn events_after(transaction: &ReadTransaction, after: Option<u64>, limit: usize) -> Result<EventPage, StoreError> {
    let events = transaction.open_table(EVENTS).map_err(|e| failed(e.into()))?;
    let times = transaction.open_table(EVENT_TIMES).map_err(|e| failed(e.into()))?;
    let counters = transaction.open_table(COUNTERS).map_err(|e| failed(e.into()))?;
    let count = position_in(&counters)?.0;
    let limit = limit.clamp(1, MAX_EVENTS);
    let after = after.unwrap_or_else(|| count.saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX)));
    let oldest = events.first().map_err(|e| failed(e.into()))?.map(|(key, _)| key.value());
    let mut told = Vec::new();
    for entry in events.range(after.saturating_add(1)..).map_err(|e| failed(e.into()))?.take(limit) {
        let (key, bytes) = entry.map_err(|e| failed(e.into()))?;
        let at = times.get(key.value()).map_err(|e| failed(e.into()))?;
        told.push(LoggedEvent {
            count: key.value(),
            at: at.map(|at| UnixMillis(at.value())),
            subject: codec::decode_event(bytes.value())?,
        });
    }
    Ok(EventPage {
        head: HistoryPoint {
            history: HISTORY.into(),
            count,
        },
        oldest,
        events: told,
    })
}
