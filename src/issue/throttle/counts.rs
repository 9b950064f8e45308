//! Counts of tries in a table that is bounded and never forgets a count to make room for another.
//!
//! While the table has room, everything that is counted has a slot of its own. When it is full of
//! counts that still run, what is new shares a slot: one of a fixed number, found by its digest.
//! Several then use up one limit together, so a full table refuses more, never less; whoever meets it
//! without any part in the attack is told when to come back. A count that began in a shared slot and
//! finds one of its own later begins anew there, so while the table empties a limit holds twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::network::ClientNetwork;

/// Counts with a slot of their own: 13 MiB. A failed try makes three at most and costs a hash of some
/// 20 ms: four processors, which are the most that hash by default, take seven minutes to fill it.
pub(super) const MAX_OWN: usize = 262_144;
/// Places that are shared when there is no other: 64 KiB. Few enough to be nothing, many enough that an
/// attack has to fill each with a whole limit before it concerns everybody.
pub(super) const SHARED: usize = 4_096;
/// A full table is swept at most so often: a sweep looks at all of it, and must not be the price of
/// each try.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CountKey {
    /// Log-ins to one account from one network.
    Pair(Fingerprint, ClientNetwork),
    /// Log-ins from one network, to whatever account.
    Network(ClientNetwork),
    /// Log-ins to one account, from wherever it is not known.
    Account(Fingerprint),
    /// Passwords that a session of this account tried, from one network.
    SessionPair(Fingerprint, ClientNetwork),
    /// Passwords that sessions of this account tried, from wherever.
    SessionAccount(Fingerprint),
}

/// Tries since the first of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AttemptCount {
    tries: u32,
    began: BootMillis,
}

impl AttemptCount {
    /// How long until another try makes sense, if there were `limit` already.
    pub(super) fn wait(&self, limit: u32, window: Duration, now: BootMillis) -> Option<Duration> {
        let reached = self.runs(window, now) && self.tries >= limit;
        reached.then(|| window.saturating_sub(now.since(self.began)))
    }

    /// One more. Answers when the count began, which tells it from one that takes its place later.
    pub(super) fn add(&mut self, window: Duration, now: BootMillis) -> BootMillis {
        if !self.runs(window, now) {
            *self = Self { tries: 0, began: now };
        }
        self.tries = self.tries.saturating_add(1);
        self.began
    }

    /// One less, if it is still the count that began then.
    pub(super) const fn take_back(&mut self, began: BootMillis) {
        if self.began.0 == began.0 {
            self.tries = self.tries.saturating_sub(1);
        }
    }

    const fn runs(&self, window: Duration, now: BootMillis) -> bool {
        self.tries > 0 && now.since(self.began).as_millis() < window.as_millis()
    }
}

/// Where one try was counted.
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
    /// By a keyed digest of what is counted; two that had the same would share a count.
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

    /// How long until this may be tried again, if it may not now.
    pub(super) fn wait(&mut self, counted: CountKey, limit: u32, now: BootMillis) -> Option<Duration> {
        let slot = self.slot_of(counted, now);
        self.find(slot)?.wait(limit, self.window, now)
    }

    pub(super) fn charge(&mut self, counted: CountKey, now: BootMillis) -> Charge {
        let (slot, window) = (self.slot_of(counted, now), self.window);
        let count = match slot {
            CountSlot::Own(digest) => self.own.entry(digest).or_default(),
            // `slot_of` answers places below the length only.
            CountSlot::Shared(at) => &mut self.shared[at],
        };
        Charge {
            slot,
            began: count.add(window, now),
        }
    }

    /// Takes exactly that try back.
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

    /// Forgets all tries that were counted where this one was. In a shared slot they may be anybody's:
    /// there, only this one is taken back.
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
