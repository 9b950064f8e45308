//! Look-ups and refreshes are sent to the store in batches, so that many at a time cost the store few questions and wake the
//! thread that waits for answers seldom.
//!
//! A look-up has a request that waits for it: the first one is sent at once, and those that come while the store is asked are
//! sent together afterwards. A refresh has nobody who waits for it: refreshes are gathered for a moment before they are sent.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::store::{LookupQuery, LookupReply, RefreshReply, StoreError};

use super::flights::{FlightGuard, Flights, LookupResult};
use super::pending::PendingAnswer;
use super::wakes::WakeBatch;

/// Most look-ups, or refreshes, that are sent together: one pipeline to Redis, or about a millisecond of the embedded store.
/// With [`REFRESH_DELAY`], 12,000 credentials are refreshed in a second.
const MAX_BATCH: usize = 64;

/// Most look-ups whose waiting tasks are woken together: to judge and remember so many answers takes about a tenth of a
/// millisecond, which the first of them waits for the last.
const MAX_WAKES: usize = 16;

/// How long later look-ups wait for the answer to earlier ones: long enough that a quick store is asked for many at a time,
/// short enough that a slow answer holds up nobody. How many look-ups may be in flight is bounded by their permits.
const PATIENCE: Duration = Duration::from_millis(2);

/// How long refreshes are gathered before they are sent. Nobody waits for them, and they begin at half the age limit.
const REFRESH_DELAY: Duration = Duration::from_millis(5);

/// Most refreshes that wait to be sent. Further ones are left out: the next use of their facts asks again
/// ([`REFRESH_RETRY`](super::entries::REFRESH_RETRY)).
const MAX_QUEUED_REFRESHES: usize = 8_192;

/// Whether a task sends what is queued.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum BatchTask {
    #[default]
    Idle,
    Running,
}

/// Look-ups that wait to be sent.
#[derive(Default)]
pub(super) struct LookupQueue(Mutex<QueuedLookups>);

#[derive(Default)]
struct QueuedLookups {
    lookups: Vec<QueuedLookup>,
    task: BatchTask,
}

/// A look-up that waits to be sent. When it is dropped, its flight leaves the table, and those who wait for it get an error.
pub(super) struct QueuedLookup {
    pub(super) flight: FlightGuard,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) result: PendingAnswer<LookupResult>,
}

impl LookupQueue {
    fn lock(&self) -> MutexGuard<'_, QueuedLookups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch, the earliest look-ups first. If nothing is queued, the task that asks must end.
    fn take_batch(&self) -> Vec<QueuedLookup> {
        let mut queued = self.lock();
        let count = queued.lookups.len().min(MAX_BATCH);
        if count == 0 {
            queued.task = BatchTask::Idle;
        }
        queued.lookups.drain(..count).collect()
    }

    /// Whether another task must take over from one that waits for an answer. If nothing is queued, none must: the next
    /// look-up starts one.
    fn needs_another_task(&self) -> bool {
        let mut queued = self.lock();
        if queued.lookups.is_empty() {
            queued.task = BatchTask::Idle;
        }
        queued.task == BatchTask::Running
    }
}

/// Held by the task that sends look-ups. If the task is dropped before its end, as with its runtime, all queued look-ups are
/// dropped, since nothing would send them.
struct LookupTaskGuard(Option<Arc<Flights>>);

impl LookupTaskGuard {
    /// The task ends in good order: another one sends what is queued, or nothing is queued.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for LookupTaskGuard {
    fn drop(&mut self) {
        if let Some(flights) = &self.0 {
            let mut queued = flights.lookups.lock();
            queued.task = BatchTask::Idle;
            let unsent = std::mem::take(&mut queued.lookups);
            // After the lock: dropping a look-up takes other locks.
            drop(queued);
            drop(unsent);
        }
    }
}

/// Refreshes that wait to be sent.
#[derive(Default)]
pub(super) struct RefreshQueue(Mutex<QueuedRefreshes>);

#[derive(Default)]
struct QueuedRefreshes {
    refreshes: Vec<LookupQuery>,
    task: BatchTask,
}

impl RefreshQueue {
    fn lock(&self) -> MutexGuard<'_, QueuedRefreshes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch. If nothing is queued, the task that asks must end.
    fn take_batch(&self) -> Vec<LookupQuery> {
        let mut queued = self.lock();
        let rest = queued.refreshes.len().saturating_sub(MAX_BATCH);
        let batch = queued.refreshes.split_off(rest);
        if batch.is_empty() {
            queued.task = BatchTask::Idle;
        }
        batch
    }
}

/// Held by the task that sends refreshes: lets another task start when this one is dropped before its end, as with its
/// runtime. Empty once [`RefreshQueue::take_batch`] has marked the task as idle, since another one may run by then.
struct RefreshTaskGuard(Option<Arc<Flights>>);

impl Drop for RefreshTaskGuard {
    fn drop(&mut self) {
        if let Some(flights) = &self.0 {
            flights.refreshes.lock().task = BatchTask::Idle;
        }
    }
}

/// The answer to a question that named no known position, so that it cannot be "unchanged".
pub(super) fn expect_read(found: RefreshReply) -> Result<LookupReply, StoreError> {
    match found {
        RefreshReply::Read(found) => Ok(found),
        RefreshReply::Unchanged(_) => Err(StoreError::Corrupt("an answer to another question".into())),
    }
}

impl Flights {
    /// Has a look-up sent with the next batch.
    pub(super) fn queue_lookup(self: &Arc<Self>, lookup: QueuedLookup) {
        let mut queued = self.lookups.lock();
        queued.lookups.push(lookup);
        if std::mem::replace(&mut queued.task, BatchTask::Running) == BatchTask::Idle {
            // Before the spawn: a runtime that is shutting down drops the task at once, here.
            drop(queued);
            self.spawn_lookup_task();
        }
    }

    fn spawn_lookup_task(self: &Arc<Self>) {
        let guard = LookupTaskGuard(Some(Arc::clone(self)));
        let flights = Arc::clone(self);
        self.control.spawn(async move {
            loop {
                let batch = flights.lookups.take_batch();
                if batch.is_empty() {
                    return guard.disarm();
                }
                let mut sent = std::pin::pin!(flights.send_lookups(batch));
                if tokio::time::timeout(PATIENCE, &mut sent).await.is_ok() {
                    continue;
                }
                guard.disarm();
                if flights.lookups.needs_another_task() {
                    flights.spawn_lookup_task();
                }
                return sent.await;
            }
        });
    }

    async fn send_lookups(&self, batch: Vec<QueuedLookup>) {
        self.counters().loads.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // The age of facts counts from here: the time in the store, the network and the queues makes them older.
        let sent_at = self.clock.now().boot;
        let asked = batch.iter().map(|lookup| LookupQuery::full(lookup.flight.fingerprint)).collect();
        let found = self.read_batch(asked).await;
        let mut wakes = WakeBatch::default();
        for (index, (lookup, found)) in batch.into_iter().zip(found).enumerate() {
            if index % MAX_WAKES == 0 {
                wakes = WakeBatch::default();
            }
            let QueuedLookup { flight, permit, result } = lookup;
            let found = found.and_then(expect_read);
            let answer = self.settle(flight.fingerprint, found, sent_at, &self.counters().load_errors);
            if matches!(&answer, Ok(answer) if answer.is_present()) {
                self.in_use.note(flight.fingerprint, sent_at);
            }
            drop(flight);
            drop(permit);
            result.give(answer, &mut wakes);
        }
    }

    /// Has facts read again soon, unless too many refreshes are queued already.
    pub(super) fn queue_refresh(self: &Arc<Self>, again: LookupQuery) {
        let mut queued = self.refreshes.lock();
        if queued.refreshes.len() >= MAX_QUEUED_REFRESHES {
            return;
        }
        queued.refreshes.push(again);
        if std::mem::replace(&mut queued.task, BatchTask::Running) == BatchTask::Running {
            return;
        }
        // Before the spawn: a runtime that is shutting down drops the task at once, here.
        drop(queued);
        let mut guard = RefreshTaskGuard(Some(Arc::clone(self)));
        self.control.spawn(async move {
            while let Some(flights) = &guard.0 {
                tokio::time::sleep(REFRESH_DELAY).await;
                let batch = flights.refreshes.take_batch();
                if batch.is_empty() {
                    guard.0 = None;
                } else {
                    flights.send_refreshes(batch).await;
                }
            }
        });
    }

    async fn send_refreshes(&self, batch: Vec<LookupQuery>) {
        let sent_at = self.clock.now().boot;
        if !self.admitted_by_breaker(sent_at) {
            return;
        }
        self.counters().refreshes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let found = self.read_batch(batch.clone()).await;
        for (LookupQuery { fingerprint, .. }, found) in batch.into_iter().zip(found) {
            self.settle_refresh(fingerprint, found, sent_at);
        }
    }

    /// Remembers what a refresh brought, or counts an error. Nobody waits for it.
    fn settle_refresh(&self, fingerprint: Fingerprint, found: Result<RefreshReply, StoreError>, sent_at: BootMillis) {
        if found.is_ok() {
            self.in_use.note(fingerprint, sent_at);
        }
        let found = match found {
            Ok(RefreshReply::Unchanged(position)) => return self.remember_unchanged(&fingerprint, position, sent_at),
            Ok(RefreshReply::Read(found)) => Ok(found),
            Err(error) => Err(error),
        };
        let _ = self.settle(fingerprint, found, sent_at, &self.counters().refresh_errors);
    }

    /// Asks the store, within the deadline of a look-up, and reports its success or failure to the circuit breaker.
    pub(super) async fn read_batch(&self, asked: Vec<LookupQuery>) -> Vec<Result<RefreshReply, StoreError>> {
        let count = asked.len();
        let mut found = tokio::time::timeout(self.lookup_timeout, self.store().find_many(asked))
            .await
            .unwrap_or_default();
        // What was not answered is not known.
        found.resize_with(count, || Err(self.too_slow()));
        // One batch counts once. It is a success if the store has answered anything in it.
        let counted = found
            .iter()
            .find(|found| !matches!(found, Err(StoreError::Unavailable(_))))
            .or(found.first());
        if let Some(counted) = counted {
            self.report_to_breaker(counted);
        }
        found
    }
}
