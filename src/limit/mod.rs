//! Rate limits as they are kept: in a table of this process, or by all gateways together in Redis.
//!
//! A shared limit is checked in three steps. First the table of this process: what it refuses, all gateways together refuse too, so
//! a flood costs the store nothing. Then Redis, by one script and on Redis' time. Then the answer is noted in the table. So when
//! Redis is lost, a gateway goes on with its own counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::{BootMillis, Clock};
use crate::decide::rate::{CountedIn, LimitKey, RateLimit, RateVerdict, WhenUnavailable};
use crate::store::redis::SharedCounts;

mod fields;
mod table;

pub use fields::{LimitVerdict, push_fields, retry_after};

use table::LimitTable;

/// How long a request waits for the shared count. Redis in the same network answers within a
/// millisecond; a limit is not worth more of a caller's time than this.
pub const SHARED_TIMEOUT: Duration = Duration::from_millis(50);

/// The shared count is not available, and the limit refuses in that case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shared count is not available")]
pub struct CountUnavailable;

/// Counts requests for all workers of the process. A route without limits never comes here.
pub struct Limiter {
    table: LimitTable,
    shared: Option<SharedCounts>,
    clock: Arc<dyn Clock>,
    counters: LimitCounters,
}

impl Limiter {
    /// An empty table; `shared` is where limits of several gateways are counted. Without it, as with
    /// the embedded store, one process is all there is.
    #[must_use]
    pub fn new(shared: Option<SharedCounts>, clock: Arc<dyn Clock>) -> Self {
        Self {
            table: LimitTable::new(),
            shared,
            clock,
            counters: LimitCounters::default(),
        }
    }

    /// Judges a request and counts it if it is admitted. Waits for Redis at most
    /// [`SHARED_TIMEOUT`], and only under limits that are shared. Not cancel-safe in one way: a
    /// request whose client leaves meanwhile may be counted.
    ///
    /// # Errors
    /// [`CountUnavailable`] under a limit that refuses when the shared count is not available.
    pub async fn admit(&self, limit: &RateLimit, key: LimitKey, now: BootMillis) -> Result<RateVerdict, CountUnavailable> {
        let verdict = match (limit.counted, &self.shared) {
            (CountedIn::Together(policy), Some(shared)) => self.admit_together(shared, policy, limit, key, now).await?,
            _ => self.table.admit(key, limit.rate, now),
        };
        self.counters.note(&verdict);
        Ok(verdict)
    }

    /// Judges a request as [`admit`](Self::admit) does, and counts it nowhere: for somebody who only wants to know.
    ///
    /// # Errors
    /// [`CountUnavailable`] under a limit that refuses when the shared count is not available.
    pub async fn judge(&self, limit: &RateLimit, key: LimitKey, now: BootMillis) -> Result<RateVerdict, CountUnavailable> {
        let known = self.table.judge(key, limit.rate, now);
        let (CountedIn::Together(policy), Some(shared), RateVerdict::Admitted { .. }) = (limit.counted, &self.shared, known) else {
            return Ok(known);
        };
        match (tokio::time::timeout(SHARED_TIMEOUT, shared.judge(key, limit.rate)).await, policy) {
            (Ok(Ok(verdict)), _) => Ok(verdict),
            (Ok(Err(_)) | Err(_), WhenUnavailable::CountHere) => Ok(known),
            (Ok(Err(_)) | Err(_), WhenUnavailable::Refuse) => Err(CountUnavailable),
        }
    }

    async fn admit_together(
        &self,
        shared: &SharedCounts,
        policy: WhenUnavailable,
        limit: &RateLimit,
        key: LimitKey,
        now: BootMillis,
    ) -> Result<RateVerdict, CountUnavailable> {
        let known = self.table.judge(key, limit.rate, now);
        if matches!(known, RateVerdict::Refused { .. }) {
            return Ok(known);
        }
        match tokio::time::timeout(SHARED_TIMEOUT, shared.admit(key, limit.rate)).await {
            Ok(Ok(verdict)) => {
                let now = self.clock.now().boot;
                match verdict {
                    RateVerdict::Admitted { .. } => self.table.count(key, limit.rate, now),
                    RateVerdict::Refused { retry_after } => self.table.block(key, limit.rate, now, now.plus(retry_after)),
                }
                Ok(verdict)
            }
            Ok(Err(_)) | Err(_) => {
                self.counters.note_unavailable();
                match policy {
                    WhenUnavailable::CountHere => Ok(self.table.admit(key, limit.rate, self.clock.now().boot)),
                    WhenUnavailable::Refuse => Err(CountUnavailable),
                }
            }
        }
    }

    /// What happened so far, for metrics.
    #[must_use]
    pub fn figures(&self) -> LimitFigures {
        self.counters.figures(self.table.len(), self.table.evicted())
    }
}

/// LimitCounters; touched only by routes with limits.
#[derive(Debug, Default)]
pub(super) struct LimitCounters {
    admitted: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
}

/// One reading of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitFigures {
    pub admitted: u64,
    pub refused: u64,
    /// Requests for which the shared count was not available.
    pub unavailable: u64,
    pub entries: u64,
    /// Callers whose entry was replaced although some of their requests still counted.
    pub evicted: u64,
}

impl LimitCounters {
    pub(super) fn note(&self, verdict: &RateVerdict) {
        let counter = match verdict {
            RateVerdict::Admitted { .. } => &self.admitted,
            RateVerdict::Refused { .. } => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_unavailable(&self) {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn figures(&self, entries: u64, evicted: u64) -> LimitFigures {
        LimitFigures {
            admitted: self.admitted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            unavailable: self.unavailable.load(Ordering::Relaxed),
            entries,
            evicted,
        }
    }
}
