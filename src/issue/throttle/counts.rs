//! A bounded table of attempts that never evicts a count to make room for another.
//!
//! While the table has room, everything that is counted has a slot of its own. When the table is full of counts that
//! still run, a new count shares one of a fixed number of slots, chosen by its digest. Several counts then use up one
//! limit together. So a full table refuses more and never less, and a bystander is told when to come back. A count
//! that began in a shared slot and later finds a slot of its own begins again there, so while the table empties a
//! limit may be used twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::network::ClientNetwork;

/// Counts with a slot of their own: 13 MiB. A failed attempt creates three counts at most and costs a hash of about
/// 20 ms. Four processors, the most that hash by default, take seven minutes to fill the table.
pub(super) const MAX_OWN: usize = 262_144;
/// Shared slots: 64 KiB. Few enough to cost nothing, and so many that an attack must use up a whole limit in each
/// slot before it affects everybody.
pub(super) const SHARED: usize = 4_096;
/// Shortest time between two sweeps of a full table: a sweep looks at every count, and must not be the price of each
/// attempt.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CountKey {
    /// Log-ins to one account from one network.
    Pair(Fingerprint, ClientNetwork),
    /// Log-ins from one network, to whatever account.
    Network(ClientNetwork),
    /// Log-ins to one account from networks that are not known for it.
    Account(Fingerprint),
    /// Passwords that sessions of this account tried from one network.
    SessionPair(Fingerprint, ClientNetwork),
    /// Passwords that sessions of this account tried from any network.
    SessionAccount(Fingerprint),
}

/// The attempts of one window, which begins with the first of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AttemptCount {
    tries: u32,
    began: BootMillis,
}

impl AttemptCount {
    /// Time until the next attempt makes sense, if `limit` attempts were counted already.
    pub(super) fn wait(&self, limit: u32, window: Duration, now: BootMillis) -> Option<Duration> {
        let reached = self.runs(window, now) && self.tries >= limit;
        reached.then(|| window.saturating_sub(now.since(self.began)))
    }

    /// Adds one attempt. Returns when the count began, which tells this count from a later one in the same slot.
    pub(super) fn add(&mut self, window: Duration, now: BootMillis) -> BootMillis {
        if !self.runs(window, now) {
            *self = Self { tries: 0, began: now };
        }
        self.tries = self.tries.saturating_add(1);
        self.began
    }

    /// Takes one attempt back if this is still the count that began at `began`.
    pub(super) const fn take_back(&mut self, began: BootMillis) {
        if self.began.0 == began.0 {
            self.tries = self.tries.saturating_sub(1);
        }
    }

    const fn runs(&self, window: Duration, now: BootMillis) -> bool {
        self.tries > 0 && now.since(self.began).as_millis() < window.as_millis()
    }
}

/// The count that one attempt went to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    slot: CountSlot,
    began: BootMillis,
}

#[derive(Debug, Clone, Copy)]
enum CountSlot {
    Own(u64),
    Shared(usize),
}

#[derive(Debug)]
pub(super) struct AttemptCounts {
    window: Duration,
    /// By a keyed digest of the [`CountKey`]. Two keys with the same digest would share a count.
    own: HashMap<u64, AttemptCount>,
    shared: Box<[AttemptCount]>,
    digest: RandomState,
    swept_at: BootMillis,
    max_own: usize,
}

impl AttemptCounts {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            own: HashMap::new(),
            shared: vec![AttemptCount::default(); SHARED].into_boxed_slice(),
            digest: RandomState::new(),
            swept_at: BootMillis::default(),
            max_own: MAX_OWN,
        }
    }

    /// Time until another attempt is allowed; `None` if it is allowed now.
    pub(super) fn wait(&mut self, counted: CountKey, limit: u32, now: BootMillis) -> Option<Duration> {
        let slot = self.slot_of(counted, now);
        self.find(slot)?.wait(limit, self.window, now)
    }

    pub(super) fn charge(&mut self, counted: CountKey, now: BootMillis) -> Charge {
        let (slot, window) = (self.slot_of(counted, now), self.window);
        let count = match slot {
            CountSlot::Own(digest) => self.own.entry(digest).or_default(),
            // `slot_of` returns indices below the length only.
            CountSlot::Shared(at) => &mut self.shared[at],
        };
        Charge {
            slot,
            began: count.add(window, now),
        }
    }

    /// Takes exactly this attempt back.
    pub(super) fn take_back(&mut self, charge: Charge) {
        match charge.slot {
            CountSlot::Own(digest) => {
                if let Some(count) = self.own.get_mut(&digest) {
                    count.take_back(charge.began);
                    if count.tries == 0 {
                        self.own.remove(&digest);
                    }
                }
            }
            CountSlot::Shared(at) => {
                if let Some(count) = self.shared.get_mut(at) {
                    count.take_back(charge.began);
                }
            }
        }
    }

    /// Clears the count that this attempt went to. The attempts in a shared slot may belong to others, so there only
    /// this attempt is taken back.
    pub(super) fn forget(&mut self, charge: Charge) {
        match charge.slot {
            CountSlot::Own(digest) => drop(self.own.remove(&digest)),
            CountSlot::Shared(_) => self.take_back(charge),
        }
    }

    fn find(&self, slot: CountSlot) -> Option<&AttemptCount> {
        match slot {
            CountSlot::Own(digest) => self.own.get(&digest),
            CountSlot::Shared(at) => self.shared.get(at),
        }
    }

    fn slot_of(&mut self, counted: CountKey, now: BootMillis) -> CountSlot {
        let digest = self.digest.hash_one(counted);
        if self.own.contains_key(&digest) || self.own.len() < self.max_own {
            return CountSlot::Own(digest);
        }
        if now.since(self.swept_at) >= SWEEP_INTERVAL {
            self.swept_at = now;
            let window = self.window;
            self.own.retain(|_, count| count.runs(window, now));
            if self.own.len() < self.max_own {
                return CountSlot::Own(digest);
            }
            tracing::warn!(
                alarm = "log_in_table_full",
                "wrong passwords come from more places than are counted apart"
            );
        }
        CountSlot::Shared(usize::try_from(digest % SHARED as u64).unwrap_or(0))
    }

    #[cfg(test)]
    pub(super) fn with_room_for(window: Duration, max_own: usize) -> Self {
        Self {
            max_own,
            ..Self::new(window)
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.own.len()
    }
}
