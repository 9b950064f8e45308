//! Look-ups that somebody waits for. Those that come while the store is being asked are sent together afterwards, so that
//! many at a time cost the store a few questions, and the thread that waits few wakes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::store::{Again, Found, FoundAgain, StoreError, watch};

use super::flights::{Flights, Landing, Outcome};

/// Most look-ups that are sent together: one pipeline to Redis, and a fraction of a millisecond of the embedded store.
const MAX_BATCH: usize = 64;

/// How long later look-ups wait for the answer to earlier ones: long enough that a quick store is asked for many at a time,
/// short enough that a slow answer holds up nobody. How many may be on their way is bounded by their permits.
const PATIENCE: Duration = Duration::from_millis(2);

/// Look-ups that wait to be sent.
#[derive(Default)]
pub(super) struct Gathered(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    asked: Vec<Asked>,
    reader: Reader,
}

/// Whether somebody sends what waits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Reader {
    #[default]
    None,
    Running,
}

/// A look-up that waits to be sent. When it is dropped, its flight leaves the table, and those who wait for it are told.
pub(super) struct Asked {
    pub(super) landing: Landing,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) landed: watch::Sender<Option<Outcome>>,
}

impl Gathered {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to be sent, the earliest first. When there are none, the reader ends.
    fn take(&self) -> Vec<Asked> {
        let mut waiting = self.lock();
        let count = waiting.asked.len().min(MAX_BATCH);
        if count == 0 {
            waiting.reader = Reader::None;
        }
        waiting.asked.drain(..count).collect()
    }

    /// Whether another reader must take over from one that waits for an answer. If nothing waits, the next look-up begins
    /// one.
    fn pass_on(&self) -> bool {
        let mut waiting = self.lock();
        if waiting.asked.is_empty() {
            waiting.reader = Reader::None;
        }
        waiting.reader == Reader::Running
    }
}

/// Held by the reader. If the reader ends before its time, as with its runtime, all that waits is dropped, since nobody would
/// send it.
struct Turn(Option<Arc<Flights>>);

impl Turn {
    /// Ends in good order: another reader sends what waits, or nothing does.
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(flights) = &self.0 {
            let mut waiting = flights.gathered.lock();
            waiting.reader = Reader::None;
            let left = std::mem::take(&mut waiting.asked);
            // After the lock: dropping a look-up takes other locks.
            drop(waiting);
            drop(left);
        }
    }
}

/// The answer to a question that said nothing about what is known, so that it cannot be "unchanged".
pub(super) fn read_whole(found: FoundAgain) -> Result<Found, StoreError> {
    match found {
        FoundAgain::Read(found) => Ok(found),
        FoundAgain::Unchanged(_) => Err(StoreError::Corrupt("an answer to another question".into())),
    }
}

impl Flights {
    /// Has a look-up sent with the next ones.
    pub(super) fn gather(self: &Arc<Self>, asked: Asked) {
        let mut waiting = self.gathered.lock();
        waiting.asked.push(asked);
        if std::mem::replace(&mut waiting.reader, Reader::Running) == Reader::None {
            // Before the spawn: a runtime that is shutting down drops the task at once, here.
            drop(waiting);
            self.send_gathered();
        }
    }

    fn send_gathered(self: &Arc<Self>) {
        let turn = Turn(Some(Arc::clone(self)));
        let flights = Arc::clone(self);
        self.control.spawn(async move {
            loop {
                let batch = flights.gathered.take();
                if batch.is_empty() {
                    return turn.end();
                }
                let mut sent = std::pin::pin!(flights.fly(batch));
                if tokio::time::timeout(PATIENCE, &mut sent).await.is_ok() {
                    continue;
                }
                turn.end();
                if flights.gathered.pass_on() {
                    flights.send_gathered();
                }
                return sent.await;
            }
        });
    }

    async fn fly(&self, batch: Vec<Asked>) {
        self.counters().loads.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // The age of facts counts from here: the time in the store, the network and the queues makes them older.
        let sent_at = self.clock.now().boot;
        let asked = batch.iter().map(|asked| Again::whole(asked.landing.fingerprint)).collect();
        let found = self.read_together(asked).await;
        for (asked, found) in batch.into_iter().zip(found) {
            let Asked { landing, permit, landed } = asked;
            let found = found.and_then(read_whole);
            let outcome = self.settle(landing.fingerprint, found, sent_at, &self.counters().load_errors);
            if matches!(&outcome, Ok(answer) if answer.is_present()) {
                self.busy.note(landing.fingerprint, sent_at);
            }
            drop(landing);
            drop(permit);
            landed.send_replace(Some(outcome));
        }
    }

    /// Asks the store, and tells the breaker how it did.
    pub(super) async fn read_together(&self, asked: Vec<Again>) -> Vec<Result<FoundAgain, StoreError>> {
        let count = asked.len();
        let mut found = tokio::time::timeout(self.lookup_timeout, self.store().find_again(asked))
            .await
            .unwrap_or_default();
        // What was not answered is not known.
        found.resize_with(count, || Err(self.too_slow()));
        // One question: one verdict.
        let verdict = found
            .iter()
            .find(|found| !matches!(found, Err(StoreError::Unavailable(_))))
            .or(found.first());
        if let Some(verdict) = verdict {
            self.judge(verdict);
        }
        found
    }
}
