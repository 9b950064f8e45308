//! Figures of the cache. Those counted on every request are spread over the workers' cache lines.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::entries::Recalled;

/// Stripes of a hot counter: more than the workers of the machines this is meant for use at a time.
const STRIPES: usize = 16;

/// What the cache counted since it was made, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheFigures {
    /// Requests answered by facts in the cache.
    pub hits_present: u64,
    /// Requests answered by an absence in the cache.
    pub hits_absent: u64,
    /// Requests for which the cache had nothing usable.
    pub misses: u64,
    /// Look-ups sent to the store for a waiting request.
    pub loads: u64,
    /// Look-ups that brought no answer.
    pub load_errors: u64,
    /// Requests that waited for a look-up which another request had started.
    pub coalesced: u64,
    /// Refreshes sent to the store.
    pub refreshes: u64,
    /// Refreshes that brought no answer.
    pub refresh_errors: u64,
    /// Requests refused because too many look-ups were in flight.
    pub rejected: u64,
    /// Requests refused because too many unknown credentials were looked up.
    pub capped: u64,
    /// Requests refused because the store had failed repeatedly a moment ago.
    pub short_circuited: u64,
    /// Answers that could not be trusted. Any at all is an alarm.
    pub corrupt: u64,
    /// Answers that an event had made out of date before they arrived.
    pub outdated: u64,
    /// Credentials in the cache (about).
    pub entries: u64,
    /// Absences in the cache (about).
    pub absences: u64,
    pub in_flight: u64,
}

#[derive(Default)]
pub(super) struct CacheCounters {
    hits_present: Striped,
    hits_absent: Striped,
    misses: Striped,
    pub(super) loads: AtomicU64,
    pub(super) load_errors: AtomicU64,
    pub(super) coalesced: AtomicU64,
    pub(super) refreshes: AtomicU64,
    pub(super) refresh_errors: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) capped: AtomicU64,
    pub(super) short_circuited: AtomicU64,
    pub(super) corrupt: AtomicU64,
    pub(super) outdated: AtomicU64,
}

impl CacheCounters {
    pub(super) fn count(&self, recalled: &Recalled) {
        match recalled {
            Recalled::Present(_) => self.hits_present.add_one(),
            Recalled::Absent => self.hits_absent.add_one(),
            Recalled::Nothing => self.misses.add_one(),
        }
    }

    /// A worker's own table had the facts.
    pub(super) fn count_table_hit(&self) {
        self.hits_present.add_one();
    }

    pub(super) fn figures(&self) -> CacheFigures {
        CacheFigures {
            hits_present: self.hits_present.sum(),
            hits_absent: self.hits_absent.sum(),
            misses: self.misses.sum(),
            loads: value(&self.loads),
            load_errors: value(&self.load_errors),
            coalesced: value(&self.coalesced),
            refreshes: value(&self.refreshes),
            refresh_errors: value(&self.refresh_errors),
            rejected: value(&self.rejected),
            capped: value(&self.capped),
            short_circuited: value(&self.short_circuited),
            corrupt: value(&self.corrupt),
            outdated: value(&self.outdated),
            ..CacheFigures::default()
        }
    }
}

pub(super) fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A counter that threads add to without sharing a cache line.
#[derive(Default)]
struct Striped([Stripe; STRIPES]);

/// Two lines of 64 bytes: the prefetcher of current processors fetches them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Striped {
    fn add_one(&self) {
        if let Some(stripe) = self.0.get(stripe_of_thread()) {
            add_one(&stripe.0);
        }
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|s| value(&s.0)).sum()
    }
}

fn stripe_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_are_summed() {
        let counters = CacheCounters::default();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES + 3 {
                scope.spawn(|| (0..10).for_each(|_| counters.count_table_hit()));
            }
        });
        assert_eq!(counters.figures().hits_present, (STRIPES as u64 + 3) * 10);
    }
}
