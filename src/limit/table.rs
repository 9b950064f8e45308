//! The counts of this process, in a table of fixed size that an attacker cannot flush.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::clock::BootMillis;
use crate::decide::rate::{LimitKey, Rate, RateVerdict, Window};

/// Sets of the table, each with a lock of its own: workers meet at one only for callers that meet.
const SETS: usize = 8_192;

/// Entries of a set. With [`SETS`] these are 65,536 callers at a time, 17 MiB when the table is full. A new caller costs the work
/// of at most eight entries.
const WAYS: usize = 8;

/// Windows by key. A caller's set depends on random keys of this process, so nobody can choose
/// callers that meet in one set.
///
/// When a set is full, a new caller replaces the one that has used the smallest share of its rate; a caller that has used nothing
/// goes first. A caller that has reached its limit is replaced only if all eight of its set have. So in a flood of addresses
/// that are used once each, these addresses replace one another.
pub(super) struct LimitTable {
    sets: Box<[Mutex<Vec<LimitEntry>>]>,
    hasher: RandomState,
    evicted: AtomicU64,
}

struct LimitEntry {
    key: LimitKey,
    rate: Rate,
    window: Window,
    /// The shared count has refused this caller until then.
    blocked_until: BootMillis,
}

impl LimitEntry {
    /// Used share of the rate in millionths; a blocked one has used all of it.
    fn share(&self, now: BootMillis) -> u64 {
        if self.blocked_until > now {
            return 1_000_000;
        }
        u64::from(self.window.used(self.rate, now)) * 1_000_000 / u64::from(self.rate.count())
    }

    fn judge(&self, now: BootMillis) -> RateVerdict {
        if self.blocked_until > now {
            return RateVerdict::Refused {
                retry_after: self.blocked_until.since(now),
            };
        }
        self.window.judge(self.rate, now)
    }
}

impl LimitTable {
    pub(super) fn new() -> Self {
        Self {
            sets: (0..SETS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            evicted: AtomicU64::new(0),
        }
    }

    /// Judges a request, and counts it if it is admitted.
    pub(super) fn admit(&self, key: LimitKey, rate: Rate, now: BootMillis) -> RateVerdict {
        self.with(key, rate, now, |entry| {
            let verdict = entry.judge(now);
            if matches!(verdict, RateVerdict::Admitted { .. }) {
                entry.window.count(rate, now);
            }
            verdict
        })
        .unwrap_or_else(|| Window::default().judge(rate, now))
    }

    /// Judges a request without counting it; an unknown caller is admitted.
    pub(super) fn judge(&self, key: LimitKey, rate: Rate, now: BootMillis) -> RateVerdict {
        let Some(set) = self.set(key) else {
            return Window::default().judge(rate, now);
        };
        let set = set.lock().unwrap_or_else(PoisonError::into_inner);
        set.iter()
            .find(|entry| entry.key == key)
            .map_or_else(|| Window::default().judge(rate, now), |entry| entry.judge(now))
    }

    /// Counts a request that the shared count has admitted.
    pub(super) fn count(&self, key: LimitKey, rate: Rate, now: BootMillis) {
        self.with(key, rate, now, |entry| entry.window.count(rate, now));
    }

    /// Notes that the shared count has refused a caller until then.
    pub(super) fn block(&self, key: LimitKey, rate: Rate, now: BootMillis, until: BootMillis) {
        self.with(key, rate, now, |entry| entry.blocked_until = until);
    }

    /// Callers in the table, including those whose counts have expired and whose entry is not needed yet.
    pub(super) fn len(&self) -> u64 {
        let lens = self
            .sets
            .iter()
            .map(|set| set.lock().unwrap_or_else(PoisonError::into_inner).len() as u64);
        lens.sum()
    }

    /// Callers whose entry was replaced although some of their requests still counted.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn set(&self, key: LimitKey) -> Option<&Mutex<Vec<LimitEntry>>> {
        let hash = self.hasher.hash_one(key.bits());
        self.sets.get(usize::try_from(hash % SETS as u64).unwrap_or(0))
    }

    /// Runs `act` on a caller's entry, which is made if it is missing.
    fn with<T>(&self, key: LimitKey, rate: Rate, now: BootMillis, act: impl FnOnce(&mut LimitEntry) -> T) -> Option<T> {
        let mut set = self.set(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = set.iter_mut().find(|entry| entry.key == key) {
            return Some(act(entry));
        }
        let entry = LimitEntry {
            key,
            rate,
            window: Window::default(),
            blocked_until: BootMillis(0),
        };
        if set.len() < WAYS {
            set.push(entry);
            return set.last_mut().map(act);
        }
        let victim = set.iter_mut().min_by_key(|entry| {
            let frees = entry.window.forgets_after(entry.rate, now);
            (entry.share(now), frees)
        })?;
        if victim.share(now) > 0 {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        *victim = entry;
        Some(act(victim))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;
    use crate::decide::rate::{CountedIn, LimitBy, RateLimit};

    fn limit(count: u32) -> RateLimit {
        let rate = Rate::new(count, Duration::from_secs(60)).unwrap();
        RateLimit::new("r", "address".into(), LimitBy::Address, rate, CountedIn::Here)
    }

    fn key(limit: &RateLimit, n: u32) -> LimitKey {
        limit.key_of_address(IpAddr::V4(Ipv4Addr::from(n)))
    }

    fn is_admitted(verdict: RateVerdict) -> bool {
        matches!(verdict, RateVerdict::Admitted { .. })
    }

    const NOW: BootMillis = BootMillis(1_000_000);

    #[test]
    fn callers_are_counted_apart() {
        let (table, limit) = (LimitTable::new(), limit(2));
        for caller in 0..100 {
            let admitted = (0..3).map(|_| is_admitted(table.admit(key(&limit, caller), limit.rate, NOW)));
            assert_eq!(admitted.collect::<Vec<_>>(), [true, true, false]);
        }
        assert_eq!(table.len(), 100);
    }

    #[test]
    fn a_flood_of_new_callers_does_not_free_one_who_reached_his_limit() {
        let (table, limit) = (LimitTable::new(), limit(3));
        let attacker = key(&limit, u32::MAX);
        for _ in 0..3 {
            assert!(is_admitted(table.admit(attacker, limit.rate, NOW)));
        }
        for caller in 0..200_000 {
            assert!(is_admitted(table.admit(key(&limit, caller), limit.rate, NOW)), "{caller}");
        }
        assert!(!is_admitted(table.admit(attacker, limit.rate, NOW)));
        assert!(table.len() <= (SETS * WAYS) as u64);
        assert!(table.evicted() > 0);
    }

    #[test]
    fn places_of_those_who_are_forgotten_are_taken_first() {
        let (table, limit) = (LimitTable::new(), limit(3));
        for caller in 0..200_000 {
            let _ = table.admit(key(&limit, caller), limit.rate, NOW);
        }
        let later = NOW.plus(Duration::from_secs(60));
        let before = table.evicted();
        for caller in 200_000..202_000 {
            let _ = table.admit(key(&limit, caller), limit.rate, later);
        }
        assert_eq!(table.evicted(), before, "nobody who still counted lost a place");
    }

    #[test]
    fn whom_the_shared_count_refused_is_refused_here_until_then() {
        let (table, limit) = (LimitTable::new(), limit(3));
        let caller = key(&limit, 1);
        table.block(caller, limit.rate, NOW, NOW.plus(Duration::from_millis(500)));
        let refused = RateVerdict::Refused {
            retry_after: Duration::from_millis(400),
        };
        assert_eq!(table.judge(caller, limit.rate, NOW.plus(Duration::from_millis(100))), refused);
        assert!(is_admitted(table.judge(caller, limit.rate, NOW.plus(Duration::from_millis(500)))));
        assert!(is_admitted(table.judge(key(&limit, 2), limit.rate, NOW)), "another one is not");
    }

    #[test]
    fn two_threads_never_admit_more_than_one_would() {
        let (table, limit) = (LimitTable::new(), limit(1_000));
        let caller = key(&limit, 7);
        let admitted = || (0..1_000).filter(|_| is_admitted(table.admit(caller, limit.rate, NOW))).count();
        let total = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(admitted)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(total, 1_000);
    }
}
