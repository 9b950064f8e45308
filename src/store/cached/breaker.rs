//! The circuit breaker: stops asking a store that keeps failing, so that callers are refused in microseconds and not after the
//! look-up deadline (docs/threats.md F3, F4).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::BootMillis;

/// Failures in a row that open the breaker. If one reply in a hundred is too slow (docs/threats.md F5), five in a row come once in 10^10; a dead store
/// reaches five within one deadline.
const THRESHOLD: u32 = 5;

/// Time between two attempts while the breaker is open and the store is not heard either: at most one a second, so that
/// recovery is noticed well within five seconds.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Spread of the attempts of several gateways, so that they do not ask at the same moment: each process draws its own pauses.
const PROBE_JITTER_MILLIS: u64 = 500;

/// Time between two attempts while the breaker is open and the reader of events has heard the store since the last one. After a
/// failover the events of the new primary often come first; then callers need not be refused for another second.
const PROBE_OF_HEARD: Duration = Duration::from_millis(100);

/// Counts failures in a row. A look-up that the breaker refuses is an error for the caller, never an absence.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
    /// The last attempt since the breaker opened, or when it opened.
    tried_at: AtomicU64,
    seed: u64,
}

impl Breaker {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether the store may be asked now. While the breaker is open, one caller in each interval is let through. `heard_at`
    /// tells when the reader of events last heard the store; it is asked only while the breaker is open.
    pub(super) fn admits(&self, now: BootMillis, heard_at: impl FnOnce() -> BootMillis) -> bool {
        if self.failures.load(Ordering::Acquire) < THRESHOLD {
            return true;
        }
        let tried_at = self.tried_at.load(Ordering::Acquire);
        let due = if heard_at().0 > tried_at {
            BootMillis(tried_at).plus(PROBE_OF_HEARD)
        } else {
            self.next_probe(BootMillis(tried_at))
        };
        now >= due
            && self
                .tried_at
                .compare_exchange(tried_at, now.0, Ordering::AcqRel, Ordering::Relaxed)
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
            self.tried_at.store(now.0, Ordering::Release);
            tracing::warn!(
                failures = THRESHOLD,
                "the store does not answer; it is asked once a second from now on, and sooner when its events are heard"
            );
        }
    }

    fn next_probe(&self, tried_at: BootMillis) -> BootMillis {
        // One step of `SplitMix64`: neighbouring moments and seeds give unlike pauses.
        let mixed = (self.seed ^ tried_at.0).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let jitter = ((mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % PROBE_JITTER_MILLIS;
        tried_at.plus(PROBE_EVERY + Duration::from_millis(jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the longest pause that is drawn is over.
    const LATEST: u64 = 1_000 + PROBE_JITTER_MILLIS;

    const fn unheard() -> BootMillis {
        BootMillis(0)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            assert!(breaker.admits(BootMillis(0), unheard));
            breaker.failed(BootMillis(0));
        }
        assert!(!breaker.admits(BootMillis(999), unheard));
        assert!(breaker.admits(BootMillis(LATEST), unheard));
        assert!(!breaker.admits(BootMillis(LATEST), unheard), "one probe, not two");
        breaker.failed(BootMillis(LATEST + 1));
        assert!(!breaker.admits(BootMillis(LATEST + 999), unheard));
        assert!(breaker.admits(BootMillis(2 * LATEST), unheard));
        breaker.succeeded();
        assert!(breaker.admits(BootMillis(2 * LATEST), unheard));
        assert!(breaker.admits(BootMillis(2 * LATEST), unheard));
    }

    #[test]
    fn two_gateways_draw_different_pauses() {
        let pauses: std::collections::HashSet<u64> = (0..20).map(|seed| Breaker::new(seed).next_probe(BootMillis(0)).0).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
        assert!(pauses.iter().all(|pause| (1_000..LATEST).contains(pause)), "{pauses:?}");
    }

    #[test]
    fn a_store_that_is_heard_is_asked_sooner_and_once_for_each_word() {
        let breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            breaker.failed(BootMillis(5_000));
        }
        let heard = |at| move || BootMillis(at);
        assert!(!breaker.admits(BootMillis(5_500), heard(5_000)), "heard before the failure");
        assert!(!breaker.admits(BootMillis(5_099), heard(5_050)));
        assert!(breaker.admits(BootMillis(5_100), heard(5_050)));
        assert!(!breaker.admits(BootMillis(5_400), heard(5_050)), "that word has had its attempt");
        assert!(breaker.admits(BootMillis(5_400), heard(5_350)));
        assert!(breaker.admits(BootMillis(5_400 + LATEST), unheard));
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
        assert!(breaker.admits(BootMillis(0), unheard));
    }
}
