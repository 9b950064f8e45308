//! Look-ups that somebody waits for: those that come while others are being asked go together, so that many at a time cost the store a
//! few questions, and a waiting thread few wakes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::store::{Again, Found, FoundAgain, StoreError, watch};

use super::flights::{Flights, Landing, Outcome};

/// Read together: one flight of a pipeline to Redis, and a fraction of a millisecond of the embedded store.
const MAX_BATCH: usize = 64;

/// How long those that come later wait for the answer to those before: so much that a quick store is asked for many at
/// a time, so little that a slow answer holds up nobody. How many may be on their way is the flights' to say.
const PATIENCE: Duration = Duration::from_millis(2);

/// Look-ups that are to be sent.
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

/// One that is to be sent. Dropped, it takes its flight off the table and lets those who wait for it go.
pub(super) struct Asked {
    pub(super) landing: Landing,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) landed: watch::Sender<Option<Outcome>>,
}

impl Gathered {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to be sent, those that came first; when there are none, the reader ends.
    fn take(&self) -> Vec<Asked> {
        let mut waiting = self.lock();
        let count = waiting.asked.len().min(MAX_BATCH);
        if count == 0 {
            waiting.reader = Reader::None;
        }
        waiting.asked.drain(..count).collect()
    }

    /// Whether another reader has to go on for one that waits for an answer. If not, the next one begins with the next
    /// look-up.
    fn pass_on(&self) -> bool {
        let mut waiting = self.lock();
        if waiting.asked.is_empty() {
            waiting.reader = Reader::None;
        }
        waiting.reader == Reader::Running
    }
}

/// Whoever sends what waits. One that ends before its time, as with its runtime, takes with it what nobody would send.
struct Turn(Option<Arc<Flights>>);

impl Turn {
    /// What waits is another's, or there is nothing.
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
            // After the lock: what is dropped takes others.
            drop(waiting);
            drop(left);
        }
    }
}

/// The answer about what memory does not hold, of which nothing can be unchanged.
pub(super) fn read_whole(found: FoundAgain) -> Result<Found, StoreError> {
    match found {
        FoundAgain::Read(found) => Ok(found),
        FoundAgain::Unchanged(_) => Err(StoreError::Corrupt("an answer to another question".into())),
    }
}

impl Flights {
    /// Has one sent with the next.
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
        // Age counts from here at the latest: whatever the store, the network and the queues add makes facts older.
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
