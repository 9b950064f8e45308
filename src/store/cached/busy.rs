//! What is in use is told to the store, and read ahead by a gateway that starts, so that its first callers find
//! their facts in memory.
//!
//! The list holds fingerprints, never credentials, and says nothing about them: facts are read from the store like any
//! others. Whoever forges it makes a gateway read what nobody uses; one that is out of date costs reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::store::Again;

use super::flights::Flights;
use super::gathered::read_whole;

/// How often it is told of one credential that it is in use still: a third of the time for which the list is good.
const TELL_EVERY: Duration = Duration::from_secs(300);

/// How often what was not told yet is told: what a gateway that is killed had in use for so long is on the list.
pub(super) const TELL_AFTER: Duration = Duration::from_secs(5);

/// Told in one call: less than a millisecond of the store.
const TOLD_TOGETHER: usize = 4_096;

/// Read ahead together, and how many of such reads are on their way: with callers beside them, who come first.
const READ_TOGETHER: usize = 64;
const READS_AT_ONCE: usize = 4;

/// Pause before the store is asked again that did not answer while a gateway starts.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What was seen to be in use, and when the store was told.
pub(super) struct Busy {
    most: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    told: HashMap<Fingerprint, BootMillis>,
    to_tell: Vec<Fingerprint>,
}

impl Busy {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            seen: Mutex::default(),
        }
    }

    /// Facts were read because somebody uses them. More than a gateway that starts would read are left out.
    pub(super) fn note(&self, fingerprint: Fingerprint, now: BootMillis) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.told.get(&fingerprint) {
            Some(at) if now.since(*at) < TELL_EVERY => return,
            Some(_) => {}
            None if seen.told.len() >= self.most => {
                // What is in use was told of within two of these times.
                if seen.to_tell.len() < self.most / 2 {
                    seen.told.retain(|_, at| now.since(*at) < TELL_EVERY * 2);
                }
                if seen.told.len() >= self.most {
                    return;
                }
            }
            None => {}
        }
        seen.told.insert(fingerprint, now);
        seen.to_tell.push(fingerprint);
    }

    fn take(&self) -> Vec<Fingerprint> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let left = seen.to_tell.len().saturating_sub(TOLD_TOGETHER);
        seen.to_tell.split_off(left)
    }

    /// The store was not told: whoever uses them is noted again.
    fn take_back(&self, untold: &[Fingerprint]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for fingerprint in untold {
            seen.told.remove(fingerprint);
        }
    }
}

/// How far a gateway that starts has read ahead.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// Credentials that are to be read.
    pub wanted: AtomicUsize,
    /// Of these, those that were.
    pub read: AtomicUsize,
}

impl std::fmt::Display for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (read, wanted) = (self.read.load(Ordering::Relaxed), self.wanted.load(Ordering::Relaxed));
        write!(f, "reading what was in use lately: {read} of {wanted}")
    }
}

impl Flights {
    /// Tells the store what was seen to be in use.
    pub(super) async fn tell_busy(&self) {
        loop {
            let busy = self.busy.take();
            if busy.is_empty() {
                return;
            }
            if let Err(error) = self.store().note_busy(busy.clone()).await {
                tracing::debug!(%error, "which credentials are in use could not be noted");
                return self.busy.take_back(&busy);
            }
        }
    }

    /// Reads what was in use lately, the newest first, until the last of it or the end of `within`.
    pub(super) async fn read_ahead(self: &Arc<Self>, within: Duration, progress: &ReadAhead) {
        let reading = async {
            let busy = loop {
                match self.store().busy(self.busy.most).await {
                    Ok(busy) => break busy,
                    // It answers, but not this: whoever waited longer would wait in vain.
                    Err(error) if self.store().probe(self.lookup_timeout).await.is_ok() => {
                        tracing::warn!(%error, "which credentials were in use lately cannot be read: the gateway starts without them");
                        break Vec::new();
                    }
                    Err(error) => tracing::debug!(%error, "which credentials were in use is not known yet"),
                }
                tokio::time::sleep(ASK_AGAIN).await;
            };
            progress.wanted.store(busy.len(), Ordering::Relaxed);
            let next = AtomicUsize::new(0);
            join_all((0..READS_AT_ONCE).map(|_| self.read_parts(&busy, &next, progress))).await;
        };
        let whole = tokio::time::timeout(within, reading).await.is_ok();
        let (wanted, read) = (progress.wanted.load(Ordering::Relaxed), progress.read.load(Ordering::Relaxed));
        if !whole {
            tracing::warn!(
                wanted,
                read,
                "the time to read ahead is over; the rest is read when it is asked for"
            );
        } else if wanted > 0 {
            tracing::info!(wanted, read, "what was in use lately is in memory");
        }
    }

    /// Reads part after part, the next one that nobody has taken.
    async fn read_parts(&self, busy: &[Fingerprint], next: &AtomicUsize, progress: &ReadAhead) {
        loop {
            let from = next.fetch_add(READ_TOGETHER, Ordering::Relaxed);
            let part: Vec<Fingerprint> = busy.iter().skip(from).take(READ_TOGETHER).copied().collect();
            if part.is_empty() {
                return;
            }
            let sent_at = self.clock.now().boot;
            let asked = part.iter().copied().map(Again::whole).collect();
            let found = self.read_together(asked).await;
            for (fingerprint, found) in part.into_iter().zip(found) {
                let found = found.and_then(read_whole);
                let read = self.settle(fingerprint, found, sent_at, &self.counters().refresh_errors).is_ok();
                progress.read.fetch_add(usize::from(read), Ordering::Relaxed);
            }
        }
    }
}
