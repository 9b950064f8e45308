//! What became of requests under limits, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::decide::rate::RateVerdict;

/// Counters; touched only by routes with limits.
#[derive(Debug, Default)]
pub(super) struct Counters {
    admitted: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
}

/// One reading of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitFigures {
    /// Admitted by a limit.
    pub admitted: u64,
    /// Refused by a limit.
    pub refused: u64,
    /// Times the shared count could not be had.
    pub unavailable: u64,
    /// Callers in the table.
    pub entries: u64,
    /// Callers that lost their place although something of theirs still counted.
    pub evicted: u64,
}

impl Counters {
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
