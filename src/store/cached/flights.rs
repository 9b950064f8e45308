//! Reads in flight: one for each fingerprint whoever asks, bounded in number and in time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::clock::{BootMillis, Clock};
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{Facts, IdentityLines, Position, Reading};
use crate::store::{FactStore, Found, StoreError, change, watch};

use super::breaker::Breaker;
use super::busy::Busy;
use super::cap::Cap;
use super::counters::{Counters, add_one};
use super::gathered::{Asked, Gathered};
use super::interned::Interned;
use super::memory::Memory;
use super::refreshes::Refreshes;
use super::said::SaidEach;
use super::{Absence, Asker, CacheFigures, CacheSettings, Recalled};

/// Locks over the table of flights; more than the workers that meet there.
const SHARDS: usize = 64;

/// Flights one caller may wait for. The first can have begun before an event the caller must see,
/// the second cannot; the third is for a second event about the same names.
const MAX_BOARDINGS: usize = 3;

/// Pause between two log lines about one record that cannot be trusted: each is counted, and one in a
/// thousand requests a second is as much an alarm as all of them.
const SAY_CORRUPT_EVERY: Duration = Duration::from_secs(1);

/// How long the word that a server is the primary is good for the answer that a credential is absent: as long as
/// `absent_age` may be at most, whatever it is.
const ABSENCE_OF_PRIMARY: Duration = Duration::from_secs(5);

/// What a flight brought.
#[derive(Clone)]
pub(super) struct Answer {
    facts: Option<Arc<Facts>>,
    /// When the read was sent.
    sent_at: BootMillis,
    /// What age counts from: as `sent_at`, or earlier ([`Found::primary_at`]).
    counts_from: BootMillis,
    position: Position,
}

impl Answer {
    /// Whether it brought facts.
    pub(super) const fn is_present(&self) -> bool {
        self.facts.is_some()
    }

    /// What it says when it brought no facts, to those who waited for it.
    const fn absence(&self) -> Absence {
        Absence {
            sent_at: self.sent_at,
            position: self.position,
        }
    }

    /// The same, to those who come later.
    const fn absence_to_remember(&self) -> Absence {
        Absence {
            sent_at: self.counts_from,
            position: self.position,
        }
    }
}

pub(super) type Outcome = Result<Answer, StoreError>;

struct Flight {
    number: u64,
    began: BootMillis,
    /// The newest change of the fingerprint that was known when the flight began.
    mark: Position,
    outcome: watch::Receiver<Option<Outcome>>,
}

enum Boarding {
    Known(Option<Arc<Facts>>),
    Waiting(watch::Receiver<Option<Outcome>>),
}

pub(super) struct Flights {
    store: Arc<dyn FactStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) control: Handle,
    memory: Memory,
    shards: Box<[Mutex<HashMap<Fingerprint, Flight>>]>,
    next_number: AtomicU64,
    permits: Arc<Semaphore>,
    pub(super) refreshes: Refreshes,
    pub(super) gathered: Gathered,
    pub(super) busy: Busy,
    max_lookups: usize,
    pub(super) lookup_timeout: Duration,
    pub(super) breaker: Breaker,
    cap: Option<Cap>,
    said_corrupt: SaidEach,
    interned: Interned,
    counters: Counters,
}

impl Flights {
    pub(super) fn new(store: Arc<dyn FactStore>, settings: &CacheSettings, clock: Arc<dyn Clock>, control: Handle, memory: Memory) -> Self {
        Self {
            store,
            clock,
            control,
            memory,
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            next_number: AtomicU64::new(0),
            permits: Arc::new(Semaphore::new(settings.max_lookups)),
            refreshes: Refreshes::default(),
            gathered: Gathered::default(),
            busy: Busy::new(settings.read_ahead),
            max_lookups: settings.max_lookups,
            lookup_timeout: settings.lookup_timeout,
            breaker: Breaker::new(settings.seed),
            cap: settings.unknown_lookups.map(Cap::new),
            said_corrupt: SaidEach::default(),
            interned: Interned::default(),
            counters: Counters::default(),
        }
    }

    /// Facts read at `since` or later, of which memory may have some.
    pub(super) async fn load(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        since: BootMillis,
        asker: Asker,
    ) -> Result<Option<Arc<Facts>>, StoreError> {
        tokio::time::timeout(self.lookup_timeout, self.board(fingerprint, since, asker))
            .await
            .unwrap_or_else(|_| Err(self.too_slow()))
    }

    /// Waits for a flight whose answer contains everything this process had heard when it was called.
    async fn board(self: &Arc<Self>, fingerprint: Fingerprint, since: BootMillis, asker: Asker) -> Result<Option<Arc<Facts>>, StoreError> {
        let heard = self.memory.positions().newest();
        for _ in 0..MAX_BOARDINGS {
            let mut waiting = match self.join_or_start(fingerprint, since, asker)? {
                Boarding::Known(facts) => return Ok(facts),
                Boarding::Waiting(waiting) => waiting,
            };
            let outcome = waiting.wait_for(Option::is_some).await.unwrap_or_default();
            let answer = outcome.unwrap_or_else(|| Err(StoreError::Unavailable("the look-up was ended".into())))?;
            if self.may_answer(&fingerprint, &answer, heard) {
                return Ok(answer.facts);
            }
        }
        Err(StoreError::Unavailable("it changes faster than it can be read".into()))
    }

    fn may_answer(&self, fingerprint: &Fingerprint, answer: &Answer, heard: Position) -> bool {
        let now = self.clock.now().boot;
        match &answer.facts {
            Some(facts) => self.memory.may_answer(facts, heard, now),
            None => self.memory.may_answer_absent(fingerprint, answer.absence(), heard, now),
        }
    }

    fn join_or_start(self: &Arc<Self>, fingerprint: Fingerprint, since: BootMillis, asker: Asker) -> Result<Boarding, StoreError> {
        let now = self.clock.now().boot;
        let flights = self.shard(&fingerprint);
        // Another flight may have landed since the caller looked.
        match self.memory.recall(&fingerprint, now) {
            Recalled::Present(held) if held.facts.read_at() >= since => return Ok(Boarding::Known(Some(Arc::clone(&held.facts)))),
            Recalled::Absent => return Ok(Boarding::Known(None)),
            Recalled::Present(_) | Recalled::Nothing => {}
        }
        if let Some(flight) = flights.get(&fingerprint)
            && flight.mark >= self.memory.positions().mark(&fingerprint)
            && flight.began >= since
        {
            add_one(&self.counters.coalesced);
            return Ok(Boarding::Waiting(flight.outcome.clone()));
        }
        if let (Some(cap), Asker::Guessing(address)) = (&self.cap, asker)
            && !self.memory.has_met(&fingerprint)
            && !self.busy.was_listed(&fingerprint, now)
            && !cap.admits(address, now)
        {
            add_one(&self.counters.capped);
            return Err(StoreError::Unavailable("too many unknown credentials are asked for".into()));
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            add_one(&self.counters.rejected);
            return Err(StoreError::Unavailable("too many look-ups are in flight".into()));
        };
        if !self.breaker.admits(now) {
            add_one(&self.counters.short_circuited);
            return Err(StoreError::Unavailable("it has not answered lately".into()));
        }
        Ok(Boarding::Waiting(self.start(flights, fingerprint, now, permit)))
    }

    fn start(
        self: &Arc<Self>,
        mut flights: MutexGuard<'_, HashMap<Fingerprint, Flight>>,
        fingerprint: Fingerprint,
        now: BootMillis,
        permit: OwnedSemaphorePermit,
    ) -> watch::Receiver<Option<Outcome>> {
        let (landed, outcome) = watch::channel(None);
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let flight = Flight {
            number,
            began: now,
            mark: self.memory.positions().mark(&fingerprint),
            outcome: outcome.clone(),
        };
        flights.insert(fingerprint, flight);
        // Before the spawn: a runtime that is shutting down drops the task at once, here, and the
        // landing takes this lock.
        drop(flights);
        let landing = Landing {
            flights: Arc::clone(self),
            fingerprint,
            number,
        };
        self.gather(Asked { landing, permit, landed });
        outcome
    }

    /// Tells the breaker how the store did.
    pub(super) fn judge<T>(&self, found: &Result<T, StoreError>) {
        match found {
            Err(StoreError::Unavailable(_)) => self.breaker.failed(self.clock.now().boot),
            _ => self.breaker.succeeded(),
        }
    }

    /// Remembers what a read brought, or counts that it brought nothing.
    pub(super) fn settle(
        &self,
        fingerprint: Fingerprint,
        found: Result<Found, StoreError>,
        sent_at: BootMillis,
        errors: &AtomicU64,
    ) -> Outcome {
        let outcome = found.and_then(|found| self.answer(&fingerprint, found, sent_at));
        match &outcome {
            Ok(answer) => self.land(fingerprint, answer),
            Err(error) => {
                add_one(errors);
                if matches!(error, StoreError::Corrupt(_)) {
                    add_one(&self.counters.corrupt);
                    if self
                        .said_corrupt
                        .may_say(&error.to_string(), self.clock.now().boot, SAY_CORRUPT_EVERY)
                    {
                        tracing::error!(alarm = "corrupt_record", ?fingerprint, %error, "an answer of the store is refused");
                    }
                }
            }
        }
        outcome
    }

    /// Checks an answer against the question, whatever the store has checked already: a reply that
    /// belongs to somebody else must cost an error, never lend an identity (hardening C3).
    fn answer(&self, fingerprint: &Fingerprint, found: Found, sent_at: BootMillis) -> Outcome {
        let position = found.position;
        let counts_from = found.primary_at.map_or(sent_at, |known_at| known_at.min(sent_at));
        let facts = match found.facts {
            None if counts_from < sent_at && self.clock.now().boot.since(counts_from) >= ABSENCE_OF_PRIMARY => {
                return Err(StoreError::Unavailable(
                    "whether the server that knows no such credential is still the primary has not been heard lately".into(),
                ));
            }
            None => None,
            Some(mut found) => {
                if !change::answers(&found.credential, fingerprint) {
                    return Err(StoreError::Corrupt("the answer is about another credential".into()));
                }
                change::check_whole(&found)?;
                self.interned.intern(&mut found.credential, &found.tenant);
                Some(Arc::new(Facts {
                    credential: found.credential,
                    tenant: found.tenant,
                    ancestors: found.ancestors,
                    roles: found.roles,
                    reading: Reading::of_primary_at(counts_from, sent_at, position),
                    lines: IdentityLines::default(),
                }))
            }
        };
        Ok(Answer {
            facts,
            sent_at,
            counts_from,
            position,
        })
    }

    /// Remembers an answer, under the fingerprint's lock so that two reads cannot overtake each other.
    fn land(&self, fingerprint: Fingerprint, answer: &Answer) {
        let flights = self.shard(&fingerprint);
        let current = match &answer.facts {
            Some(facts) => self.memory.remember(fingerprint, facts),
            None => self.memory.remember_absent(fingerprint, answer.absence_to_remember()),
        };
        drop(flights);
        if !current {
            add_one(&self.counters.outdated);
        }
    }

    /// Remembers that nothing has changed since this position. Facts that were let go meanwhile are asked
    /// for again by whoever wants them.
    pub(super) fn land_unchanged(&self, fingerprint: &Fingerprint, position: Position, sent_at: BootMillis) {
        let flights = self.shard(fingerprint);
        let current = self.memory.confirm(fingerprint, position, sent_at);
        drop(flights);
        if !current {
            add_one(&self.counters.outdated);
        }
    }

    fn shard(&self, fingerprint: &Fingerprint) -> MutexGuard<'_, HashMap<Fingerprint, Flight>> {
        let last_byte = fingerprint.as_bytes().last().copied().unwrap_or_default();
        self.shards[usize::from(last_byte) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn too_slow(&self) -> StoreError {
        StoreError::Unavailable(format!("no answer within {} ms", self.lookup_timeout.as_millis()))
    }

    pub(super) const fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) const fn store(&self) -> &Arc<dyn FactStore> {
        &self.store
    }

    pub(super) const fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn figures(&self) -> CacheFigures {
        let (entries, absences) = self.memory.entries();
        let waiting = self.max_lookups.saturating_sub(self.permits.available_permits());
        CacheFigures {
            entries,
            absences,
            in_flight: waiting as u64,
            ..self.counters.figures()
        }
    }
}

/// Takes a flight off the table when it ends in whatever way: landed, panicked, or dropped with its runtime.
pub(super) struct Landing {
    flights: Arc<Flights>,
    pub(super) fingerprint: Fingerprint,
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.flights.shard(&self.fingerprint);
        // A younger flight may have taken the place.
        if flights.get(&self.fingerprint).is_some_and(|f| f.number == self.number) {
            flights.remove(&self.fingerprint);
        }
    }
}
