//! Facts remembered for a short time in front of a store: never decisions, never beyond their age.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::base::clock::{BootMillis, Clock, Now};
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{CredentialRecord, Facts, Position, Reading};

use super::activity::Activity;
use super::events::{EVENT_SLOTS, Positions, Slots};
use super::{Again, FactStore, StoreError};
use flights::Flights;
use memory::Memory;

pub use busy::ReadAhead;
pub use counters::CacheFigures;

mod breaker;
mod busy;
mod cap;
mod counters;
mod flights;
mod gathered;
mod interned;
mod memory;
mod refreshes;
mod said;

/// How often a credential's refresh is tried again while it fails: once a second finds a store that
/// came back in time, and one that did not is asked no more than a look-up a second for each.
const REFRESH_RETRY: Duration = Duration::from_secs(1);

/// How old facts may become, and how much is remembered and asked at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Oldest usable fact, counted from when its read was sent.
    pub max_age: Duration,
    /// How long an absence is remembered, counted likewise.
    pub absent_age: Duration,
    /// Deadline of one look-up.
    pub lookup_timeout: Duration,
    /// Most look-ups in flight; more are refused at once.
    pub max_lookups: usize,
    /// Most look-ups in any second of what was not met lately and may be a guess ([`Asker::Guessing`]); more are refused
    /// at once, but for addresses that had less than their part. None: no limit.
    pub unknown_lookups: Option<u32>,
    /// What pauses are drawn from: another one in each process, so that gateways do not act together.
    pub seed: u64,
    /// Most credentials remembered.
    pub cache_entries: u64,
    /// Most credentials of which the store is told that they are in use, and that are read ahead at a start.
    pub read_ahead: usize,
    /// Most absences remembered, in a memory of their own.
    pub absent_entries: u64,
    /// Places of the table of events ([`Positions::with_slots`]).
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
            absent_entries: 50_000,
            event_slots: EVENT_SLOTS,
        }
    }
}

/// On whose account the store is asked about what this process has not met lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Nobody's: somebody who may make credentials made this one, or it was admitted before.
    Proven,
    /// Whoever sends from this address: it may be a guess, and guesses have a cap.
    Guessing(IpAddr),
}

/// A store with a memory. Shared by all workers.
///
/// Facts are judged on every use, by our boot clock and by the positions of events
/// ([`Positions`]); what moka evicts or keeps is a matter of memory only.
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
    /// Puts a memory in front of `store` and subscribes it to the store's events. Look-ups run on
    /// `control`.
    #[must_use]
    pub fn new(store: Arc<dyn FactStore>, settings: &CacheSettings, clock: Arc<dyn Clock>, control: Handle) -> Arc<Self> {
        let positions = Arc::new(Positions::with_slots(settings.event_slots));
        store.subscribe(positions.clone());
        let memory = Memory::new(settings, positions);
        Arc::new(Self {
            flights: Arc::new(Flights::new(store, settings, clock, control, memory)),
            activity: Activity::default(),
        })
    }

    /// What is remembered of this fingerprint. No I/O and no wait. Starts a refresh ahead (off the
    /// request path) when the facts are older than half their age limit. Whoever keeps what is found asks
    /// [`is_current`](Self::is_current) before each use.
    #[must_use]
    pub fn recall(&self, fingerprint: &Fingerprint, now: Now) -> Recalled {
        let recalled = self.flights.memory().recall(fingerprint, now.boot);
        self.flights.counters().count(&recalled);
        if let Recalled::Present(held) = &recalled
            && held.claim_refresh(now.boot)
        {
            self.flights.refresh(held.again());
        }
        recalled
    }

    /// Whether facts somebody still holds (a worker's own table) may be used now for this fingerprint: its
    /// own, young enough, no event has come since, and the shared memory has no younger ones. The same rule as
    /// [`recall`](Self::recall) uses; starts refreshes too. `false` says nothing about the credential,
    /// only that `recall` must be asked again.
    ///
    /// Touches nothing but the facts' own entry and the positions: the shared memory's table costs
    /// several misses of the processor's caches, and is looked into once for each refresh.
    #[must_use]
    pub fn is_current(&self, fingerprint: &Fingerprint, held: &Held, now: Now) -> bool {
        let memory = self.flights.memory();
        if !held.is_of(fingerprint) || held.is_superseded() || !memory.may_use(held, now.boot) {
            return false;
        }
        if held.claim_refresh(now.boot) {
            // Memory may have let these go and read others since: then those are the ones to use.
            match memory.recall(fingerprint, now.boot) {
                Recalled::Present(other) if other.facts.sent_at() > held.facts.sent_at() => return false,
                Recalled::Present(other) => self.flights.refresh(other.again()),
                Recalled::Absent | Recalled::Nothing => self.flights.refresh(Again::whole(*fingerprint)),
            }
        }
        self.flights.counters().count_held();
        true
    }

    /// Reads through to the store: one flight for each fingerprint, bounded in number and time.
    /// Callable from any runtime; the read itself runs on the control runtime. Ends within the
    /// look-up deadline. Cancel-safe: the flight goes on for the other waiters.
    ///
    /// What it answers contains every event that had reached this process when it was called.
    ///
    /// # Errors
    /// [`StoreError`]: not known. Nothing is remembered.
    pub async fn load(&self, fingerprint: Fingerprint, asker: Asker) -> Result<Option<Arc<Facts>>, StoreError> {
        self.flights.load(fingerprint, BootMillis::default(), asker).await
    }

    /// Reads facts again that were read before `since`: for what makes no event, the uses of sliding
    /// credentials that another gateway has told the store of. Otherwise as [`load`](Self::load).
    ///
    /// # Errors
    /// [`StoreError`]: not known. Nothing is remembered.
    pub async fn load_since(&self, fingerprint: Fingerprint, since: BootMillis, asker: Asker) -> Result<Option<Arc<Facts>>, StoreError> {
        self.flights.load(fingerprint, since, asker).await
    }

    /// Has this fingerprint read soon, for somebody who looks again with [`recall`](Self::recall) and waits for
    /// nothing. Reads are gathered; more than a bound of them are left out, and nothing is read while the
    /// store fails: whoever still wants it asks again.
    pub fn refresh(&self, fingerprint: Fingerprint) {
        self.flights.refresh(Again::whole(fingerprint));
    }

    /// Reads what gateways had in use lately, for at most `within`: a gateway that starts is ready when this ends.
    pub async fn read_ahead(&self, within: Duration, progress: &ReadAhead) {
        self.flights.read_ahead(within, progress).await;
    }

    /// Tells the store every few seconds what is in use, until it is aborted.
    pub async fn tell_busy_for_ever(&self) {
        loop {
            tokio::time::sleep(busy::TELL_AFTER).await;
            self.flights.tell_busy().await;
        }
    }

    /// Tells the store what it was not told yet.
    pub async fn tell_busy(&self) {
        self.flights.tell_busy().await;
    }

    /// The age from which facts may not be used any more.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        self.flights.memory().max_age()
    }

    /// The store behind.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn FactStore> {
        self.flights.store()
    }

    /// When sliding credentials were last used here.
    #[must_use]
    pub const fn activity(&self) -> &Activity {
        &self.activity
    }

    /// What events have told so far.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        self.flights.memory().positions()
    }

    /// Counters and sizes, for metrics.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.flights.figures()
    }
}

/// Facts as the shared memory holds them, with what it takes to judge them on every use; what every request
/// asks for comes first.
#[repr(C)]
pub struct Held {
    fingerprint: Fingerprint,
    facts: Arc<Facts>,
    /// When the next refresh may start, on the boot clock in milliseconds.
    refresh_at: AtomicU64,
    /// Other facts, or an absence, have taken the place.
    superseded: AtomicBool,
    slots: Slots,
}

impl Held {
    fn new(fingerprint: Fingerprint, facts: Arc<Facts>, slots: Slots, refresh_at: u64) -> Self {
        Self {
            fingerprint,
            facts,
            slots,
            refresh_at: AtomicU64::new(refresh_at),
            superseded: AtomicBool::new(false),
        }
    }

    /// Whether they are what this fingerprint finds.
    #[must_use]
    pub fn is_of(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprint == *fingerprint
    }

    /// The facts.
    #[must_use]
    pub const fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// How they are read again. That nothing has changed says nothing of uses, which are no changes, and
    /// writes no lines for other rules.
    fn again(&self) -> Again {
        let facts = &self.facts;
        let slides = |record: &CredentialRecord| record.idle().is_some();
        let must_be_read = facts.lines.are_outdated() || slides(&facts.credential) || facts.ancestors.iter().any(slides);
        Again {
            fingerprint: self.fingerprint,
            known: (!must_be_read).then(|| facts.position()),
        }
    }

    /// Whether this caller is the one that shall start a refresh. It is nobody's again for
    /// [`REFRESH_RETRY`], whatever becomes of the refresh.
    fn claim_refresh(&self, now: BootMillis) -> bool {
        let due = self.refresh_at.load(Ordering::Relaxed);
        now.0 >= due
            && self
                .refresh_at
                .compare_exchange(due, now.plus(REFRESH_RETRY).0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// A later read brought the same records. The next refresh is due when it would be for those.
    fn confirm(&self, later: &Reading, refresh_at: u64) {
        self.facts.reading.confirm(later);
        self.refresh_at.store(refresh_at, Ordering::Release);
    }

    fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A remembered absence.
#[derive(Clone, Copy)]
struct Absence {
    sent_at: BootMillis,
    position: Position,
}

/// What memory finds usable, as it holds it.
#[derive(Debug)]
pub enum Recalled {
    /// Facts young enough, and not contradicted by any event.
    Present(Arc<Held>),
    /// Certainly absent a moment ago.
    Absent,
    /// Nothing usable: [`CachedStore::load`] must be asked.
    Nothing,
}
