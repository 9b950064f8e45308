//! Stops asking a store that keeps failing, so that callers are refused in microseconds and not
//! after the look-up deadline (hardening F3, F4).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::BootMillis;

/// Failures in a row that open it. One slow reply in a hundred (F5) does not reach five in a row
/// but once in 10^10; a dead store does within one deadline.
const THRESHOLD: u32 = 5;

/// Time between two attempts while open: at most one a second, so that recovery is noticed well
/// within five seconds.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Spread of the attempts of several gateways, so that they do not ask together (hardening 4.3).
const PROBE_JITTER_MILLIS: u64 = 500;

/// Counts failures in a row. Not known is still an error for the caller: it never says absent.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
    probe_at: AtomicU64,
}

impl Breaker {
    /// Whether the store may be asked now. While open, one caller an interval is let through.
    pub(super) fn admits(&self, now: BootMillis, jitter: u64) -> bool {
        if self.failures.load(Ordering::Acquire) < THRESHOLD {
            return true;
        }
        let due = self.probe_at.load(Ordering::Acquire);
        now.0 >= due
            && self
                .probe_at
                .compare_exchange(due, next_probe(now, jitter), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// The store answered, whatever it said.
    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Release);
    }

    /// The store did not answer.
    pub(super) fn failed(&self, now: BootMillis, jitter: u64) {
        if self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1) == THRESHOLD {
            self.probe_at.store(next_probe(now, jitter), Ordering::Release);
            tracing::warn!(failures = THRESHOLD, "the store does not answer; asking it once a second");
        }
    }
}

fn next_probe(now: BootMillis, jitter: u64) -> u64 {
    now.plus(PROBE_EVERY).0.saturating_add(jitter % PROBE_JITTER_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            assert!(breaker.admits(BootMillis(0), 0));
            breaker.failed(BootMillis(0), 0);
        }
        assert!(!breaker.admits(BootMillis(999), 0));
        assert!(breaker.admits(BootMillis(1_000), 0));
        assert!(!breaker.admits(BootMillis(1_000), 0), "one probe, not two");
        breaker.failed(BootMillis(1_001), 0);
        assert!(!breaker.admits(BootMillis(1_999), 0));
        assert!(breaker.admits(BootMillis(2_000), 0));
        breaker.succeeded();
        assert!(breaker.admits(BootMillis(2_000), 0));
        assert!(breaker.admits(BootMillis(2_000), 0));
    }

    #[test]
    fn an_answer_in_between_keeps_it_closed() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..THRESHOLD {
                breaker.failed(BootMillis(0), 0);
            }
            breaker.succeeded();
        }
        assert!(breaker.admits(BootMillis(0), 0));
    }
}
