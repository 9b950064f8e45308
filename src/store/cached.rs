//! A cache of facts in front of a store. It holds facts for a short time, never decisions, and never beyond their age limit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::base::clock::{BootMillis, Clock, Now};
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::Facts;

use super::activity::Activity;
use super::events::{EVENT_SLOTS, Positions};
use super::{FactStore, LookupQuery, StoreError};
use entries::{Due, FactsCache};
use flights::Flights;

pub use counters::CacheFigures;
pub use entries::{CacheEntry, Recalled};
pub use wakes::WorkerWakes;
pub use warm_start::ReadAheadProgress;

mod batches;
mod breaker;
mod counters;
mod entries;
mod flights;
mod guess_cap;
mod interned;
mod log_throttle;
mod pending;
#[cfg(test)]
mod tests;
mod wakes;
mod warm_start;

/// How old facts may become, and how much is remembered and asked at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Oldest usable facts, counted from when their read was sent.
    pub max_age: Duration,
    /// Oldest usable absence, counted from when its read was sent.
    pub absent_age: Duration,
    /// Deadline of one look-up in the store.
    pub lookup_timeout: Duration,
    /// Most look-ups in flight; more are refused at once.
    pub max_lookups: usize,
    /// Most look-ups in any second of credentials that were not found lately and may be guesses ([`LookupOrigin::Guess`]).
    /// Further ones are refused at once, but for addresses that had less than their share. `None`: no limit.
    pub unknown_lookups: Option<u32>,
    /// Seed of the random pauses. Each process has another one, so that gateways do not ask the store at the same moment.
    pub seed: u64,
    /// Most credentials in the cache.
    pub cache_entries: u64,
    /// Most credentials that are reported to the store as in use, and that are read ahead at a start.
    pub read_ahead: usize,
    /// Most credentials that a start reads ahead in a second.
    pub read_ahead_rate: u32,
    /// Most absences in the cache; they have a table of their own.
    pub absent_entries: u64,
    /// Slots of the table of events ([`Positions::with_slots`]).
    pub event_slots: usize,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(30),
            absent_age: Duration::from_secs(5),
            lookup_timeout: Duration::from_millis(250),
            max_lookups: 512,
            unknown_lookups: None,
            seed: 0,
            cache_entries: 100_000,
            read_ahead: 100_000,
            read_ahead_rate: 20_000,
            absent_entries: 50_000,
            event_slots: EVENT_SLOTS,
        }
    }
}

/// Where a credential that must be looked up in the store comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupOrigin {
    /// No guess: its MAC shows that a gateway made it, or it was admitted before.
    Proven,
    /// It may be a guess, sent from this address. The number of guesses is capped.
    Guess(IpAddr),
}

/// A store with a cache in front of it. Shared by all workers.
///
/// Facts are judged on every use, by our boot clock and by the positions of events ([`Positions`]).
pub struct CachedStore {
    flights: Arc<Flights>,
    activity: Activity,
}

impl std::fmt::Debug for CachedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedStore").field("figures", &self.figures()).finish()
    }
}

impl CachedStore {
    /// Puts a cache in front of `store` and subscribes it to the store's events. Look-ups run on the runtime `control`.
    #[must_use]
    pub fn new(store: Arc<dyn FactStore>, settings: &CacheSettings, clock: Arc<dyn Clock>, control: Handle) -> Arc<Self> {
        let positions = Arc::new(Positions::with_slots(settings.event_slots));
        store.subscribe(positions.clone());
        let cache = FactsCache::new(settings, positions);
        Arc::new(Self {
            flights: Arc::new(Flights::new(store, settings, clock, control, cache)),
            activity: Activity::default(),
        })
    }

    /// What the cache has of this fingerprint. No I/O and no wait. Starts a refresh, off the request path, when the age of the
    /// facts is more than half its limit. A caller that keeps the entry must ask [`is_current`](Self::is_current) before each use.
    #[must_use]
    pub fn recall(&self, fingerprint: &Fingerprint, now: Now) -> Recalled {
        let recalled = self.flights.cache().recall(fingerprint, now.boot);
        self.flights.counters().count(&recalled);
        if let Recalled::Present(entry) = &recalled {
            match self.flights.cache().take_due(entry, now.boot) {
                Due::Nothing => {}
                Due::NoteUse => self.flights.in_use.note(*fingerprint, now.boot),
                Due::Read => self.flights.queue_refresh(entry.refresh_question()),
            }
        }
        recalled
    }

    /// As [`recall`](Self::recall), for somebody who only wants to know: nothing is counted, and no refresh is started.
    #[must_use]
    pub fn peek(&self, fingerprint: &Fingerprint, now: Now) -> Recalled {
        self.flights.cache().recall(fingerprint, now.boot)
    }

    /// As [`load_since`](Self::load_since), for somebody who only wants to know. The store is asked once more, whatever others
    /// ask it. The answer is not remembered, nothing is counted, no cap is used up, and the credential does not count as in
    /// use. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`]: the answer is not known.
    pub async fn read_unnoted(&self, fingerprint: Fingerprint, since: BootMillis) -> Result<Option<Arc<Facts>>, StoreError> {
        self.flights.read_unnoted(fingerprint, since).await
    }

    /// Whether an entry that a worker keeps in its own table may be used now for this fingerprint: it is the entry of this
    /// fingerprint, it is young enough, no event about it came since, and the cache has no newer one. The rule is that of
    /// [`recall`](Self::recall), and refreshes are started likewise. `false` says nothing about the credential, only that
    /// `recall` must be asked again.
    ///
    /// Reads nothing but the entry and the positions. The cache's table costs several misses of the processor's caches, and is
    /// read only once for each refresh.
    #[must_use]
    pub fn is_current(&self, fingerprint: &Fingerprint, entry: &CacheEntry, now: Now) -> bool {
        let cache = self.flights.cache();
        if !entry.is_of(fingerprint) || entry.is_superseded() || !cache.may_use(entry, now.boot) {
            return false;
        }
        let due = cache.take_due(entry, now.boot);
        if due != Due::Nothing {
            // The cache may have dropped this entry and read another one since: then the other one must be used. Besides, the
            // cache drops what nobody asks it for.
            match cache.recall(fingerprint, now.boot) {
                Recalled::Present(other) if other.facts.sent_at() > entry.facts.sent_at() => return false,
                _ if due == Due::NoteUse => self.flights.in_use.note(*fingerprint, now.boot),
                Recalled::Present(other) => self.flights.queue_refresh(other.refresh_question()),
                Recalled::Absent | Recalled::Nothing => self.flights.queue_refresh(LookupQuery::full(*fingerprint)),
            }
        }
        self.flights.counters().count_table_hit();
        true
    }

    /// Looks a fingerprint up in the store: one flight for each fingerprint, bounded in number and time.
    /// Callable from any runtime; the look-up itself runs on the control runtime. Ends within the
    /// look-up deadline. Cancel-safe: the flight goes on for the other waiters.
    ///
    /// The answer contains every event that had reached this process when `load` was called.
    ///
    /// # Errors
    /// [`StoreError`]: the answer is not known, and nothing is remembered.
    pub async fn load(&self, fingerprint: Fingerprint, origin: LookupOrigin) -> Result<Option<Arc<Facts>>, StoreError> {
        self.flights.load(fingerprint, BootMillis::default(), origin).await
    }

    /// As [`load`](Self::load), but the cache is not enough if its facts were read before `since`. This is for what makes no
    /// event: another gateway may have written a use of a sliding credential to the store.
    ///
    /// # Errors
    /// [`StoreError`]: the answer is not known, and nothing is remembered.
    pub async fn load_since(
        &self,
        fingerprint: Fingerprint,
        since: BootMillis,
        origin: LookupOrigin,
    ) -> Result<Option<Arc<Facts>>, StoreError> {
        self.flights.load(fingerprint, since, origin).await
    }

    /// Has this fingerprint read soon, and waits for nothing: the caller looks again with [`recall`](Self::recall). The refresh
    /// is left out if too many are queued or the store fails; then the caller must ask again.
    pub fn refresh(&self, fingerprint: Fingerprint) {
        self.flights.queue_refresh(LookupQuery::full(fingerprint));
    }

    /// Reads the credentials that gateways had in use lately, for at most `within`. A gateway that starts is ready when this
    /// ends.
    pub async fn read_ahead(&self, within: Duration, progress: &ReadAheadProgress) {
        self.flights.read_ahead(within, progress).await;
    }

    /// Reports every few seconds to the store which credentials are in use, until the task is aborted.
    pub async fn report_in_use_for_ever(&self) {
        loop {
            tokio::time::sleep(warm_start::REPORT_INTERVAL).await;
            self.flights.report_in_use().await;
        }
    }

    /// Reports to the store which credentials are in use and were not reported yet.
    pub async fn report_in_use(&self) {
        self.flights.report_in_use().await;
    }

    /// The age from which facts may not be used any more.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        self.flights.cache().max_age()
    }

    /// How long ago one answer of the store made all facts younger; zero for a store in this process, whose facts are always read.
    #[must_use]
    pub fn revalidation_age(&self) -> Duration {
        let status = self.store().status();
        let is_remote = status.heard_at > BootMillis::default();
        let age = self.flights.clock.now().boot.since(status.revalidated_at);
        if is_remote { age } else { Duration::ZERO }
    }

    #[must_use]
    pub fn store(&self) -> &Arc<dyn FactStore> {
        self.flights.store()
    }

    /// When sliding credentials were last used here.
    #[must_use]
    pub const fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The positions of the events that have reached this process.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        self.flights.cache().positions()
    }

    /// Counters and sizes, for metrics.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.flights.figures()
    }
}
