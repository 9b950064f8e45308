//! Facts read again ahead of their age, off the request path: gathered for a moment and read together,
//! so that ten thousand busy credentials cost the store a few hundred questions and not ten thousand.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::store::{Again, FoundAgain, StoreError};

use super::flights::Flights;

/// How long refreshes are gathered before they are read. Nobody waits for them, and they begin at half
/// the age limit.
const GATHER: Duration = Duration::from_millis(5);

/// Read together: a millisecond of the embedded store, one flight of a pipeline to Redis. With the
/// gathering, 12,000 credentials a second.
const MAX_BATCH: usize = 64;

/// Waiting to be read. More are left out: their next use asks again ([`super::REFRESH_RETRY`]).
const MAX_WAITING: usize = 8_192;

/// Refreshes that wait.
#[derive(Default)]
pub(super) struct Refreshes(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    asked: Vec<Again>,
    reader: Reader,
}

/// Whether somebody reads what waits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Reader {
    #[default]
    None,
    Running,
}

impl Refreshes {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to be read; when there are none, the reader ends.
    fn take(&self) -> Vec<Again> {
        let mut waiting = self.lock();
        let left = waiting.asked.len().saturating_sub(MAX_BATCH);
        let batch = waiting.asked.split_off(left);
        if batch.is_empty() {
            waiting.reader = Reader::None;
        }
        batch
    }
}

/// Lets another reader begin when this one ends before its time, as with its runtime. Empty once
/// [`Refreshes::take`] has said so already: another may have begun since.
struct WhileReading(Option<Arc<Flights>>);

impl Drop for WhileReading {
    fn drop(&mut self) {
        if let Some(flights) = &self.0 {
            flights.refreshes.lock().reader = Reader::None;
        }
    }
}

impl Flights {
    /// Reads facts again soon, unless too many wait already.
    pub(super) fn refresh(self: &Arc<Self>, again: Again) {
        let mut waiting = self.refreshes.lock();
        if waiting.asked.len() >= MAX_WAITING {
            return;
        }
        waiting.asked.push(again);
        if std::mem::replace(&mut waiting.reader, Reader::Running) == Reader::Running {
            return;
        }
        // Before the spawn: a runtime that is shutting down drops the task at once, here.
        drop(waiting);
        let mut reading = WhileReading(Some(Arc::clone(self)));
        self.control.spawn(async move {
            while let Some(flights) = &reading.0 {
                tokio::time::sleep(GATHER).await;
                let batch = flights.refreshes.take();
                if batch.is_empty() {
                    reading.0 = None;
                } else {
                    flights.read_again(batch).await;
                }
            }
        });
    }

    async fn read_again(&self, batch: Vec<Again>) {
        let sent_at = self.clock.now().boot;
        if !self.breaker.admits(sent_at) {
            return;
        }
        self.counters().refreshes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let found = self.read_together(batch.clone()).await;
        for (Again { fingerprint, .. }, found) in batch.into_iter().zip(found) {
            self.settle_again(fingerprint, found, sent_at);
        }
    }

    /// What a read again brought is remembered, or counted as an error; nobody waits for it.
    fn settle_again(&self, fingerprint: Fingerprint, found: Result<FoundAgain, StoreError>, sent_at: BootMillis) {
        if found.is_ok() {
            self.busy.note(fingerprint, sent_at);
        }
        let found = match found {
            Ok(FoundAgain::Unchanged(position)) => return self.land_unchanged(&fingerprint, position, sent_at),
            Ok(FoundAgain::Read(found)) => Ok(found),
            Err(error) => Err(error),
        };
        let _ = self.settle(fingerprint, found, sent_at, &self.counters().refresh_errors);
    }
}
