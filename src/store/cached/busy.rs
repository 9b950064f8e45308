//! Gateways tell the store which credentials are in use. A gateway that starts reads their facts ahead, so that its first
//! callers find them in memory.
//!
//! The list holds fingerprints, never credentials, and it decides nothing: the facts are read from the store like any
//! others. Somebody who forges the list makes a gateway read facts that nobody uses; a list that is out of date only costs
//! reads.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::store::Again;

use super::flights::Flights;
use super::gathered::read_whole;

/// How often the store is told that one credential is still in use: a third of the time for which an entry of the list
/// is good.
const TELL_EVERY: Duration = Duration::from_secs(300);

/// How often the store is told of new ones. A gateway that is killed leaves off the list only what it began to use within
/// this time.
pub(super) const TELL_AFTER: Duration = Duration::from_secs(5);

/// Most credentials of one call to the store: it costs the store less than a millisecond.
const TOLD_TOGETHER: usize = 4_096;

/// Credentials of one read ahead.
const READ_TOGETHER: usize = 64;

/// Reads ahead that are on their way at a time: few, since callers wait for the same store meanwhile.
const READS_AT_ONCE: usize = 4;

/// How long after the start a credential of the list counts as no guess: as long as an entry of the list is good.
const LISTED_FOR: Duration = Duration::from_secs(900);

/// Pause between two questions for the list to a store that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Which credentials were seen to be in use, and when the store was told.
pub(super) struct Busy {
    /// Most credentials that are remembered here, and most that a start reads ahead.
    most: usize,
    seen: Mutex<Seen>,
    /// What was on the list when this gateway started, and until when that counts.
    listed: RwLock<(BootMillis, HashSet<Fingerprint>)>,
}

#[derive(Default)]
struct Seen {
    /// When each was noted last.
    noted: HashMap<Fingerprint, BootMillis>,
    /// Those of which the store is to be told.
    to_tell: Vec<Fingerprint>,
}

impl Busy {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            seen: Mutex::default(),
            listed: RwLock::default(),
        }
    }

    /// Whether the list had it when this gateway started. Then it is no guess, even if there was no time to read it ahead.
    pub(super) fn was_listed(&self, fingerprint: &Fingerprint, now: BootMillis) -> bool {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        now < listed.0 && listed.1.contains(fingerprint)
    }

    fn keep_list(&self, busy: &[Fingerprint], until: BootMillis) {
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = (until, busy.iter().copied().collect());
    }

    /// Forgets what does not count any more: the list of the start when its time is over, and, where nothing more can be
    /// noted, what was not noted lately.
    fn drop_old(&self, now: BootMillis) {
        let is_old = |listed: &(BootMillis, HashSet<Fingerprint>)| now >= listed.0 && !listed.1.is_empty();
        if is_old(&self.listed.read().unwrap_or_else(PoisonError::into_inner)) {
            self.listed.write().unwrap_or_else(PoisonError::into_inner).1 = HashSet::new();
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.noted.len() >= self.most {
            // What is still in use was noted again within one of these times.
            seen.noted.retain(|_, at| now.since(*at) < TELL_EVERY * 2);
        }
    }

    /// Facts were read because somebody uses them. When `most` are noted, or wait to be told, others are left out: a start
    /// would not read more.
    pub(super) fn note(&self, fingerprint: Fingerprint, now: BootMillis) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = match seen.noted.get(&fingerprint) {
            Some(at) if now.since(*at) < TELL_EVERY => return,
            Some(_) => true,
            None => seen.noted.len() < self.most,
        };
        if has_room && seen.to_tell.len() < self.most {
            seen.noted.insert(fingerprint, now);
            seen.to_tell.push(fingerprint);
        }
    }

    /// The next ones of which the store is told.
    fn take(&self) -> Vec<Fingerprint> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let left = seen.to_tell.len().saturating_sub(TOLD_TOGETHER);
        seen.to_tell.split_off(left)
    }

    /// The store was not told of these: their next use notes them again.
    fn take_back(&self, untold: &[Fingerprint]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for fingerprint in untold {
            seen.noted.remove(fingerprint);
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
        self.busy.drop_old(self.clock.now().boot);
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

    /// Reads the credentials that were in use lately, the latest first, until all are read or `within` is over. Whatever is on
    /// the list is no guess from then on, whether it was read or not.
    pub(super) async fn read_ahead(self: &Arc<Self>, within: Duration, progress: &ReadAhead) {
        let reading = async {
            let busy = loop {
                match self.store().busy(self.busy.most).await {
                    Ok(busy) => break busy,
                    // It answers other questions, but not this one: to wait longer would not help.
                    Err(error) if self.store().probe(self.lookup_timeout).await.is_ok() => {
                        tracing::warn!(%error, "which credentials were in use lately cannot be read: the gateway starts without them");
                        break Vec::new();
                    }
                    Err(error) => tracing::debug!(%error, "which credentials were in use is not known yet"),
                }
                tokio::time::sleep(ASK_AGAIN).await;
            };
            progress.wanted.store(busy.len(), Ordering::Relaxed);
            self.busy.keep_list(&busy, self.clock.now().boot.plus(LISTED_FOR));
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

    /// Reads parts of the list until none is left; several of these run at a time and share `next`, where the next part begins.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 32])
    }

    fn at(seconds: u64) -> BootMillis {
        BootMillis(seconds * 1_000)
    }

    #[test]
    fn what_is_in_use_is_told_once_in_five_minutes() {
        let busy = Busy::new(10);
        for second in [0, 10, 299] {
            busy.note(fingerprint(1), at(second));
        }
        assert_eq!(busy.take(), [fingerprint(1)]);
        busy.note(fingerprint(1), at(300));
        assert_eq!((busy.take(), busy.take()), (vec![fingerprint(1)], vec![]));
    }

    #[test]
    fn what_the_store_was_not_told_is_noted_again() {
        let busy = Busy::new(10);
        busy.note(fingerprint(1), at(0));
        busy.take_back(&busy.take());
        busy.note(fingerprint(1), at(1));
        assert_eq!(busy.take(), [fingerprint(1)]);
    }

    #[test]
    fn no_more_are_noted_than_a_start_would_read_and_those_of_long_ago_make_room() {
        let busy = Busy::new(4);
        (0..9).for_each(|number| busy.note(fingerprint(number), at(0)));
        assert_eq!(busy.take().len(), 4);
        busy.note(fingerprint(9), at(599));
        assert_eq!(busy.take().len(), 0);
        busy.drop_old(at(599));
        busy.note(fingerprint(9), at(600));
        assert_eq!(busy.take().len(), 0);
        busy.drop_old(at(600));
        busy.note(fingerprint(9), at(600));
        assert_eq!(busy.take(), [fingerprint(9)]);
        let none = Busy::new(0);
        none.note(fingerprint(1), at(0));
        assert_eq!(none.take().len(), 0);
    }

    #[test]
    fn no_more_wait_to_be_told_than_a_start_would_read() {
        let busy = Busy::new(4);
        for second in [0, 300, 600, 900] {
            (0..4).for_each(|number| busy.note(fingerprint(number), at(second)));
        }
        assert_eq!(busy.take().len(), 4);
        busy.note(fingerprint(0), at(900));
        assert_eq!(busy.take(), [fingerprint(0)], "what had no room is noted at its next use");
    }

    #[test]
    fn what_was_listed_is_no_guess_for_as_long_as_the_list_is_good() {
        let busy = Busy::new(4);
        assert!(!busy.was_listed(&fingerprint(1), at(0)));
        busy.keep_list(&[fingerprint(1)], at(900));
        assert!(busy.was_listed(&fingerprint(1), at(899)));
        assert!(!busy.was_listed(&fingerprint(2), at(899)));
        assert!(!busy.was_listed(&fingerprint(1), at(900)));
        busy.drop_old(at(899));
        assert!(busy.was_listed(&fingerprint(1), at(0)));
        busy.drop_old(at(900));
        assert!(!busy.was_listed(&fingerprint(1), at(0)));
    }
}
