//! The circuit breaker: stops asking a store that keeps failing, so that callers are refused in microseconds and not after the
//! look-up deadline (docs/threats.md F3, F4).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::BootMillis;

/// Failures in a row that open the breaker. If one reply in a hundred is too slow (docs/threats.md F5), five in a row come once in 10^10; a dead store
/// reaches five within one deadline.
const THRESHOLD: u32 = 5;

/// Time between two attempts while the breaker is open: at most one a second, so that recovery is noticed well within five
/// seconds.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Spread of the attempts of several gateways, so that they do not ask at the same moment: each process draws its own pauses.
const PROBE_JITTER_MILLIS: u64 = 500;

/// Counts failures in a row. A look-up that the breaker refuses is an error for the caller, never an absence.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
    probe_at: AtomicU64,
    seed: u64,
}

impl Breaker {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether the store may be asked now. While the breaker is open, one caller in each interval is let through.
    pub(super) fn admits(&self, now: BootMillis) -> bool {
        if self.failures.load(Ordering::Acquire) < THRESHOLD {
            return true;
        }
        let due = self.probe_at.load(Ordering::Acquire);
        now.0 >= due
            && self
                .probe_at
                .compare_exchange(due, self.next_probe(now), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// The store answered, whatever the answer.
    pub(super) fn succeeded(&self) {
        // Read first: a healthy store must not make all workers write to one line.
        if self.failures.load(Ordering::Acquire) != 0 && self.failures.swap(0, Ordering::AcqRel) >= THRESHOLD {
            tracing::info!("the store answers again");
        }
    }

    pub(super) fn failed(&self, now: BootMillis) {
        if self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1) == THRESHOLD {
            self.probe_at.store(self.next_probe(now), Ordering::Release);
            tracing::warn!(
                failures = THRESHOLD,
                "the store does not answer; it is asked once a second from now on"
            );
        }
    }

    fn next_probe(&self, now: BootMillis) -> u64 {
        // One step of `SplitMix64`: neighbouring moments and seeds give unlike pauses.
        let mixed = (self.seed ^ now.0).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let jitter = ((mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % PROBE_JITTER_MILLIS;
        now.plus(PROBE_EVERY).0.saturating_add(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the longest pause that is drawn is over.
    const LATEST: u64 = 1_000 + PROBE_JITTER_MILLIS;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            assert!(breaker.admits(BootMillis(0)));
            breaker.failed(BootMillis(0));
        }
        assert!(!breaker.admits(BootMillis(999)));
        assert!(breaker.admits(BootMillis(LATEST)));
        assert!(!breaker.admits(BootMillis(LATEST)), "one probe, not two");
        breaker.failed(BootMillis(LATEST + 1));
        assert!(!breaker.admits(BootMillis(LATEST + 999)));
        assert!(breaker.admits(BootMillis(2 * LATEST)));
        breaker.succeeded();
        assert!(breaker.admits(BootMillis(2 * LATEST)));
        assert!(breaker.admits(BootMillis(2 * LATEST)));
    }

    #[test]
    fn two_gateways_draw_different_pauses() {
        let pauses: std::collections::HashSet<u64> = (0..20).map(|seed| Breaker::new(seed).next_probe(BootMillis(0))).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
        assert!(pauses.iter().all(|pause| (1_000..LATEST).contains(pause)), "{pauses:?}");
    }

    #[test]
    fn an_answer_in_between_keeps_it_closed() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..THRESHOLD {
                breaker.failed(BootMillis(0));
            }
            breaker.succeeded();
        }
        assert!(breaker.admits(BootMillis(0)));
    }
}
