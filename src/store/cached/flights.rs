//! Look-ups in flight: one for each fingerprint, however many callers wait for it, bounded in number and in time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::clock::{BootMillis, Clock};
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{Facts, IdentityLines, Position, Reading};
use crate::store::{FactStore, LookupReply, StoreError, lookup};

use super::batches::{LookupQueue, QueuedLookup, RefreshQueue};
use super::breaker::Breaker;
use super::counters::{CacheCounters, add_one};
use super::entries::{Absence, FactsCache, Recalled};
use super::guess_cap::GuessCap;
use super::interned::Interned;
use super::log_throttle::KeyedLogThrottle;
use super::pending::{self, AnswerReceiver};
use super::warm_start::InUse;
use super::{CacheFigures, CacheSettings, LookupOrigin};

/// Locks over the table of flights; more than the workers that meet there.
const SHARDS: usize = 64;

/// Most flights that one caller waits for, one after the other. The first may have begun before an event that the caller must
/// see; the second cannot have. The third is for another event about the same names.
const MAX_FLIGHTS_OF_CALLER: usize = 3;

/// Pause between two log lines about one record that cannot be trusted. Every case is counted; at a thousand requests a second
/// one line is as much an alarm as a thousand.
const CORRUPT_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How long after a server was last named the primary its answer "there is no such credential" is still believed: the largest
/// value that the setting `absent_age` may have.
const ABSENCE_OF_PRIMARY: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct LookupAnswer {
    facts: Option<Arc<Facts>>,
    sent_at: BootMillis,
    /// What the age counts from: `sent_at`, or an earlier time ([`LookupReply::primary_at`]).
    counts_from: BootMillis,
    position: Position,
}

impl LookupAnswer {
    pub(super) const fn is_present(&self) -> bool {
        self.facts.is_some()
    }

    /// The absence that an answer without facts means for the callers who waited for it.
    const fn absence(&self) -> Absence {
        Absence {
            sent_at: self.sent_at,
            position: self.position,
        }
    }

    /// The absence that an answer without facts means for later callers. It counts as older if the server was last named the
    /// primary before the question.
    const fn absence_to_remember(&self) -> Absence {
        Absence {
            sent_at: self.counts_from,
            position: self.position,
        }
    }
}

pub(super) type LookupResult = Result<LookupAnswer, StoreError>;

struct Flight {
    number: u64,
    began: BootMillis,
    /// The newest change of the fingerprint that was known when the flight began.
    mark: Position,
    result: AnswerReceiver<LookupResult>,
}

/// How a caller gets its answer.
enum JoinedFlight {
    /// The cache has the answer already.
    Cached(Option<Arc<Facts>>),
    InFlight(AnswerReceiver<LookupResult>),
}

pub(super) struct Flights {
    store: Arc<dyn FactStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) control: Handle,
    cache: FactsCache,
    shards: Box<[Mutex<HashMap<Fingerprint, Flight>>]>,
    next_number: AtomicU64,
    permits: Arc<Semaphore>,
    pub(super) lookups: LookupQueue,
    pub(super) refreshes: RefreshQueue,
    pub(super) in_use: InUse,
    /// Most credentials that a start reads ahead in a second.
    pub(super) read_ahead_rate: u32,
    max_lookups: usize,
    pub(super) lookup_timeout: Duration,
    pub(super) breaker: Breaker,
    guess_cap: Option<GuessCap>,
    corrupt_log: KeyedLogThrottle,
    interned: Interned,
    counters: CacheCounters,
}

impl Flights {
    pub(super) fn new(
        store: Arc<dyn FactStore>,
        settings: &CacheSettings,
        clock: Arc<dyn Clock>,
        control: Handle,
        cache: FactsCache,
    ) -> Self {
        Self {
            store,
            clock,
            control,
            cache,
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            next_number: AtomicU64::new(0),
            permits: Arc::new(Semaphore::new(settings.max_lookups)),
            lookups: LookupQueue::default(),
            refreshes: RefreshQueue::default(),
            in_use: InUse::new(settings.read_ahead),
            read_ahead_rate: settings.read_ahead_rate,
            max_lookups: settings.max_lookups,
            lookup_timeout: settings.lookup_timeout,
            breaker: Breaker::new(settings.seed),
            guess_cap: settings.unknown_lookups.map(GuessCap::new),
            corrupt_log: KeyedLogThrottle::default(),
            interned: Interned::default(),
            counters: CacheCounters::default(),
        }
    }

    /// Facts that were read at `since` or later; the cache may have them.
    pub(super) async fn load(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        since: BootMillis,
        origin: LookupOrigin,
    ) -> Result<Option<Arc<Facts>>, StoreError> {
        tokio::time::timeout(self.lookup_timeout, self.wait_for_answer(fingerprint, since, origin))
            .await
            .unwrap_or_else(|_| Err(self.too_slow()))
    }

    /// Waits for a flight whose answer contains every event that had reached this process when the wait began.
    async fn wait_for_answer(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        since: BootMillis,
        origin: LookupOrigin,
    ) -> Result<Option<Arc<Facts>>, StoreError> {
        let newest_event = self.cache.positions().newest();
        for _ in 0..MAX_FLIGHTS_OF_CALLER {
            let flight = match self.join_or_start(fingerprint, since, origin)? {
                JoinedFlight::Cached(facts) => return Ok(facts),
                JoinedFlight::InFlight(flight) => flight,
            };
            let answer = flight
                .answer()
                .await
                .unwrap_or_else(|| Err(StoreError::Unavailable("the look-up was ended".into())))?;
            if self.may_answer(&fingerprint, &answer, newest_event) {
                return Ok(answer.facts);
            }
        }
        Err(StoreError::Unavailable("it changes faster than it can be read".into()))
    }

    /// Reads facts for somebody who only wants to know, and leaves no trace. The rules of what may answer are the same.
    pub(super) async fn read_unnoted(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        since: BootMillis,
    ) -> Result<Option<Arc<Facts>>, StoreError> {
        let newest_event = self.cache.positions().newest();
        match self.cache.recall(&fingerprint, self.clock.now().boot) {
            Recalled::Present(entry) if entry.facts.read_at() >= since => return Ok(Some(Arc::clone(&entry.facts))),
            Recalled::Absent => return Ok(None),
            Recalled::Present(_) | Recalled::Nothing => {}
        }
        for _ in 0..MAX_FLIGHTS_OF_CALLER {
            let sent_at = self.clock.now().boot;
            let flights = Arc::clone(self);
            // The connections to the store belong to the control runtime, whoever asks.
            let mut read = self.control.spawn(async move { flights.store.find(fingerprint).await });
            let found = match tokio::time::timeout(self.lookup_timeout, &mut read).await {
                Ok(found) => found.map_err(|_| StoreError::Unavailable("the look-up was ended".into()))?,
                Err(_) => {
                    read.abort();
                    return Err(self.too_slow());
                }
            };
            let answer = self.answer(&fingerprint, found?, sent_at)?;
            if self.may_answer(&fingerprint, &answer, newest_event) {
                return Ok(answer.facts);
            }
        }
        Err(StoreError::Unavailable("it changes faster than it can be read".into()))
    }

    fn may_answer(&self, fingerprint: &Fingerprint, answer: &LookupAnswer, newest_event: Position) -> bool {
        let now = self.clock.now().boot;
        match &answer.facts {
            Some(facts) => self.cache.may_answer(facts, newest_event, now),
            None => self.cache.may_answer_absent(fingerprint, answer.absence(), newest_event, now),
        }
    }

    fn join_or_start(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        since: BootMillis,
        origin: LookupOrigin,
    ) -> Result<JoinedFlight, StoreError> {
        let now = self.clock.now().boot;
        let flights = self.shard(&fingerprint);
        // Another flight may have ended since the caller looked into the cache.
        match self.cache.recall(&fingerprint, now) {
            Recalled::Present(entry) if entry.facts.read_at() >= since => {
                return Ok(JoinedFlight::Cached(Some(Arc::clone(&entry.facts))));
            }
            Recalled::Absent => return Ok(JoinedFlight::Cached(None)),
            Recalled::Present(_) | Recalled::Nothing => {}
        }
        if let Some(flight) = flights.get(&fingerprint)
            && flight.mark >= self.cache.positions().mark(&fingerprint)
            && flight.began >= since
        {
            add_one(&self.counters.coalesced);
            return Ok(JoinedFlight::InFlight(flight.result.clone()));
        }
        if let (Some(cap), LookupOrigin::Guess(address)) = (&self.guess_cap, origin)
            && !self.cache.has_met(&fingerprint)
            && !self.in_use.was_listed(&fingerprint, now)
            && !cap.admits(address, now)
        {
            add_one(&self.counters.capped);
            return Err(StoreError::Unavailable("too many unknown credentials are asked for".into()));
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            add_one(&self.counters.rejected);
            return Err(StoreError::Unavailable("too many look-ups are in flight".into()));
        };
        if !self.admitted_by_breaker(now) {
            add_one(&self.counters.short_circuited);
            return Err(StoreError::Unavailable("it has not answered lately".into()));
        }
        Ok(JoinedFlight::InFlight(self.start(flights, fingerprint, now, permit)))
    }

    fn start(
        self: &Arc<Self>,
        mut flights: MutexGuard<'_, HashMap<Fingerprint, Flight>>,
        fingerprint: Fingerprint,
        now: BootMillis,
        permit: OwnedSemaphorePermit,
    ) -> AnswerReceiver<LookupResult> {
        let (result, receiver) = pending::channel();
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let flight = Flight {
            number,
            began: now,
            mark: self.cache.positions().mark(&fingerprint),
            result: receiver.clone(),
        };
        flights.insert(fingerprint, flight);
        // Before the spawn: a runtime that is shutting down drops the task at once, here, and the guard takes this lock.
        drop(flights);
        let flight = FlightGuard {
            flights: Arc::clone(self),
            fingerprint,
            number,
        };
        self.queue_lookup(QueuedLookup { flight, permit, result });
        receiver
    }

    pub(super) fn admitted_by_breaker(&self, now: BootMillis) -> bool {
        self.breaker.admits(now, || self.store.status().heard_at)
    }

    pub(super) fn report_to_breaker<T>(&self, found: &Result<T, StoreError>) {
        match found {
            Err(StoreError::Unavailable(_)) => self.breaker.failed(self.clock.now().boot),
            _ => self.breaker.succeeded(),
        }
    }

    /// Remembers what a read brought, or counts that it brought nothing.
    pub(super) fn settle(
        &self,
        fingerprint: Fingerprint,
        found: Result<LookupReply, StoreError>,
        sent_at: BootMillis,
        errors: &AtomicU64,
    ) -> LookupResult {
        let result = found.and_then(|found| self.answer(&fingerprint, found, sent_at));
        match &result {
            Ok(answer) => self.remember(fingerprint, answer),
            Err(error) => {
                add_one(errors);
                if matches!(error, StoreError::Corrupt(_)) {
                    add_one(&self.counters.corrupt);
                    if self
                        .corrupt_log
                        .admits(&error.to_string(), self.clock.now().boot, CORRUPT_LOG_INTERVAL)
                    {
                        tracing::error!(alarm = "corrupt_record", ?fingerprint, %error, "an answer of the store is refused");
                    }
                }
            }
        }
        result
    }

    /// Checks an answer against the question, whatever the store has checked already. A reply that belongs to somebody else's
    /// question must become an error: taken for the answer, it would lend one caller the identity of another (docs/threats.md C3).
    fn answer(&self, fingerprint: &Fingerprint, found: LookupReply, sent_at: BootMillis) -> LookupResult {
        let (position, history_proven) = (found.position, found.history_proven);
        let counts_from = found.primary_at.map_or(sent_at, |known_at| known_at.min(sent_at));
        let facts = match found.facts {
            None if counts_from < sent_at && self.clock.now().boot.since(counts_from) >= ABSENCE_OF_PRIMARY => {
                return Err(StoreError::Unavailable(
                    "whether the server that knows no such credential is still the primary has not been heard lately".into(),
                ));
            }
            None => None,
            Some(mut found) => {
                if !lookup::answers(&found.credential, fingerprint) {
                    return Err(StoreError::Corrupt("the answer is about another credential".into()));
                }
                lookup::check_whole(&found)?;
                self.interned.intern(&mut found.credential, &found.tenant);
                let reading = Reading::of_primary_at(counts_from, sent_at, position);
                Some(Arc::new(Facts {
                    credential: found.credential,
                    tenant: found.tenant,
                    ancestors: found.ancestors,
                    roles: found.roles,
                    reading: if history_proven { reading.with_proven_history() } else { reading },
                    lines: IdentityLines::default(),
                }))
            }
        };
        Ok(LookupAnswer {
            facts,
            sent_at,
            counts_from,
            position,
        })
    }

    /// Remembers an answer, under the fingerprint's lock so that two reads cannot overtake each other.
    fn remember(&self, fingerprint: Fingerprint, answer: &LookupAnswer) {
        let flights = self.shard(&fingerprint);
        let current = match &answer.facts {
            Some(facts) => self.cache.remember(fingerprint, facts),
            None => self.cache.remember_absent(fingerprint, answer.absence_to_remember()),
        };
        drop(flights);
        if !current {
            add_one(&self.counters.outdated);
        }
    }

    /// Remembers that nothing has changed since this position. If the cache has dropped the facts meanwhile, the next request
    /// that needs them reads them again.
    pub(super) fn remember_unchanged(&self, fingerprint: &Fingerprint, position: Position, sent_at: BootMillis) {
        let flights = self.shard(fingerprint);
        let current = self.cache.confirm(fingerprint, position, sent_at);
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

    pub(super) const fn cache(&self) -> &FactsCache {
        &self.cache
    }

    pub(super) const fn store(&self) -> &Arc<dyn FactStore> {
        &self.store
    }

    pub(super) const fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    pub(super) fn figures(&self) -> CacheFigures {
        let (entries, absences) = self.cache.counts();
        let in_flight = self.max_lookups.saturating_sub(self.permits.available_permits());
        CacheFigures {
            entries,
            absences,
            in_flight: in_flight as u64,
            ..self.counters.figures()
        }
    }
}

/// Takes a flight off the table, in whatever way it ends: answered, by a panic, or dropped with its runtime.
pub(super) struct FlightGuard {
    flights: Arc<Flights>,
    pub(super) fingerprint: Fingerprint,
    number: u64,
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        let mut flights = self.flights.shard(&self.fingerprint);
        // A later flight may have replaced it in the table.
        if flights.get(&self.fingerprint).is_some_and(|f| f.number == self.number) {
            flights.remove(&self.fingerprint);
        }
    }
}
