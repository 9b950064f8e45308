//! Gateways report to the store which credentials are in use. A gateway that starts reads their facts ahead, so that its first
//! callers find them in the cache.
//!
//! The list holds fingerprints, never credentials, and it decides nothing: the facts are read from the store like any
//! others. Somebody who forges the list makes a gateway read facts that nobody uses; a list that is out of date only costs
//! reads.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::base::clock::{self, BootMillis};
use crate::base::fingerprint::Fingerprint;
use crate::store::{LookupQuery, StoreError};

use super::batches::expect_read;
use super::flights::Flights;

/// How often it is reported that one credential is still in use: a third of the time for which the store keeps an entry of the
/// list.
const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// How often new credentials are reported. If a gateway is killed, the list lacks only what it began to use within this time.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Most credentials of one report: it costs the store less than a millisecond.
const MAX_REPORT: usize = 4_096;

/// Credentials that are read ahead in one batch.
const READ_BATCH: usize = 64;

/// Batches that are in flight at a time: few, since callers wait for the same store meanwhile.
const PARALLEL_READS: usize = 4;

/// How long after the start a credential of the list does not count as a guess: as long as the store keeps an entry of the list.
const LISTED_FOR: Duration = Duration::from_secs(900);

/// Pause before the list, or what is left of it, is asked for again from a store that did not answer.
const LIST_RETRY: Duration = Duration::from_millis(200);

/// The credentials that are in use here, and those of the store's list when this gateway started.
pub(super) struct InUse {
    /// Most credentials that are noted here, and most that a start reads ahead.
    max: usize,
    noted: Mutex<NotedUses>,
    /// The store's list when this gateway started, and until when it counts.
    listed: RwLock<(BootMillis, HashSet<Fingerprint>)>,
}

#[derive(Default)]
struct NotedUses {
    /// When each credential was noted last.
    at: HashMap<Fingerprint, BootMillis>,
    unreported: Vec<Fingerprint>,
}

impl InUse {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            noted: Mutex::default(),
            listed: RwLock::default(),
        }
    }

    /// Whether the store's list had this credential when this gateway started. Then it is no guess, even if there was no time
    /// to read it ahead.
    pub(super) fn was_listed(&self, fingerprint: &Fingerprint, now: BootMillis) -> bool {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        now < listed.0 && listed.1.contains(fingerprint)
    }

    fn set_list(&self, list: &[Fingerprint], until: BootMillis) {
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = (until, list.iter().copied().collect());
    }

    /// Drops the list of the start when its time is over. If no more credentials can be noted, drops those that were not noted
    /// lately.
    fn drop_old(&self, now: BootMillis) {
        let is_old = |listed: &(BootMillis, HashSet<Fingerprint>)| now >= listed.0 && !listed.1.is_empty();
        if is_old(&self.listed.read().unwrap_or_else(PoisonError::into_inner)) {
            self.listed.write().unwrap_or_else(PoisonError::into_inner).1 = HashSet::new();
        }
        let mut noted = self.noted();
        if noted.at.len() >= self.max {
            // A credential that is still in use was noted again within one of these intervals.
            noted.at.retain(|_, at| now.since(*at) < REPORT_AGAIN_AFTER * 2);
        }
    }

    /// Notes a credential whose facts were read because somebody uses them. At most `max` are noted, and at most `max` wait to
    /// be reported, since a start would not read more.
    pub(super) fn note(&self, fingerprint: Fingerprint, now: BootMillis) {
        let mut noted = self.noted();
        let has_room = match noted.at.get(&fingerprint) {
            Some(at) if now.since(*at) < REPORT_AGAIN_AFTER => return,
            Some(_) => true,
            None => noted.at.len() < self.max,
        };
        if has_room && noted.unreported.len() < self.max {
            noted.at.insert(fingerprint, now);
            noted.unreported.push(fingerprint);
        }
    }

    /// The credentials of the next report.
    fn take_report(&self) -> Vec<Fingerprint> {
        let mut noted = self.noted();
        let rest = noted.unreported.len().saturating_sub(MAX_REPORT);
        noted.unreported.split_off(rest)
    }

    /// A report failed: the next use of each of its credentials notes it again.
    fn undo_report(&self, report: &[Fingerprint]) {
        let mut noted = self.noted();
        for fingerprint in report {
            noted.at.remove(fingerprint);
        }
    }

    fn noted(&self) -> MutexGuard<'_, NotedUses> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a gateway that starts has read ahead.
#[derive(Debug, Default)]
pub struct ReadAheadProgress {
    /// Credentials that are to be read.
    pub total: AtomicUsize,
    pub read: AtomicUsize,
}

impl std::fmt::Display for ReadAheadProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (read, total) = (self.read.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        write!(f, "reading what was in use lately: {read} of {total}")
    }
}

/// Gives out the parts of the list, one after the other, and none before its time: gateways that start together must leave the
/// store time for callers.
struct Pacer {
    begun: Instant,
    /// Time for one credential.
    each: Duration,
    next: AtomicUsize,
}

impl Pacer {
    /// At most `rate` credentials a second from now on, and at least one.
    fn of(rate: u32) -> Self {
        Self {
            begun: Instant::from_std(clock::instant()),
            each: Duration::from_secs(1) / rate.max(1),
            next: AtomicUsize::new(0),
        }
    }

    /// Where the next part begins, when it may be read.
    async fn next_part(&self) -> usize {
        let from = self.next.fetch_add(READ_BATCH, Ordering::Relaxed);
        let after = self.each.saturating_mul(u32::try_from(from).unwrap_or(u32::MAX));
        tokio::time::sleep_until(self.begun + after).await;
        from
    }
}

impl Flights {
    /// Reports to the store which credentials are in use.
    pub(super) async fn report_in_use(&self) {
        self.in_use.drop_old(self.clock.now().boot);
        loop {
            let report = self.in_use.take_report();
            if report.is_empty() {
                return;
            }
            if let Err(error) = self.store().note_busy(report.clone()).await {
                tracing::debug!(%error, "which credentials are in use could not be reported to the store");
                return self.in_use.undo_report(&report);
            }
        }
    }

    /// Reads the credentials that were in use lately, the latest first and no faster than configured, until all are read or
    /// `within` is over. A credential of the list is no guess from then on, whether it was read or not.
    pub(super) async fn read_ahead(self: &Arc<Self>, within: Duration, progress: &ReadAheadProgress) {
        let reading = async {
            let list = loop {
                match self.store().busy(self.in_use.max).await {
                    Ok(list) => break list,
                    // The store answers other questions, but not this one: to wait longer would not help.
                    Err(error) if self.store().probe(self.lookup_timeout).await.is_ok() => {
                        tracing::warn!(%error, "which credentials were in use lately cannot be read: the gateway starts without them");
                        break Vec::new();
                    }
                    Err(error) => tracing::debug!(%error, "which credentials were in use lately is not known yet"),
                }
                tokio::time::sleep(LIST_RETRY).await;
            };
            progress.total.store(list.len(), Ordering::Relaxed);
            self.in_use.set_list(&list, self.clock.now().boot.plus(LISTED_FOR));
            let mut list = list;
            loop {
                let (pacer, failed) = (Pacer::of(self.read_ahead_rate), Mutex::default());
                join_all((0..PARALLEL_READS).map(|_| self.read_parts(&list, &pacer, &failed, progress))).await;
                list = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
                if list.is_empty() {
                    return;
                }
                tokio::time::sleep(LIST_RETRY).await;
            }
        };
        let whole = tokio::time::timeout(within, reading).await.is_ok();
        let (wanted, read) = (progress.total.load(Ordering::Relaxed), progress.read.load(Ordering::Relaxed));
        if !whole {
            tracing::warn!(
                wanted,
                read,
                "the time to read ahead is over; the rest is read when a request needs it"
            );
        } else if wanted > 0 {
            tracing::info!(wanted, read, "the credentials that were in use lately are in the cache");
        }
    }

    /// Reads parts of the list until none is left. Several of these run at a time and share the pacer. `failed` gets what the
    /// store did not answer.
    async fn read_parts(&self, list: &[Fingerprint], pacer: &Pacer, failed: &Mutex<Vec<Fingerprint>>, progress: &ReadAheadProgress) {
        loop {
            let from = pacer.next_part().await;
            let part: Vec<Fingerprint> = list.iter().skip(from).take(READ_BATCH).copied().collect();
            if part.is_empty() {
                return;
            }
            let sent_at = self.clock.now().boot;
            let asked = part.iter().copied().map(LookupQuery::full).collect();
            let found = self.read_batch(asked).await;
            for (fingerprint, found) in part.into_iter().zip(found) {
                let found = found.and_then(expect_read);
                match self.settle(fingerprint, found, sent_at, &self.counters().refresh_errors) {
                    Ok(_) => {
                        progress.read.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(StoreError::Unavailable(_)) => failed.lock().unwrap_or_else(PoisonError::into_inner).push(fingerprint),
                    // A record that cannot be read is no better the next time.
                    Err(_) => {}
                }
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
    fn what_is_in_use_is_reported_once_in_five_minutes() {
        let in_use = InUse::new(10);
        for second in [0, 10, 299] {
            in_use.note(fingerprint(1), at(second));
        }
        assert_eq!(in_use.take_report(), [fingerprint(1)]);
        in_use.note(fingerprint(1), at(300));
        assert_eq!((in_use.take_report(), in_use.take_report()), (vec![fingerprint(1)], vec![]));
    }

    #[test]
    fn what_could_not_be_reported_is_noted_again() {
        let in_use = InUse::new(10);
        in_use.note(fingerprint(1), at(0));
        in_use.undo_report(&in_use.take_report());
        in_use.note(fingerprint(1), at(1));
        assert_eq!(in_use.take_report(), [fingerprint(1)]);
    }

    #[test]
    fn no_more_are_noted_than_a_start_would_read_and_those_of_long_ago_make_room() {
        let in_use = InUse::new(4);
        (0..9).for_each(|number| in_use.note(fingerprint(number), at(0)));
        assert_eq!(in_use.take_report().len(), 4);
        in_use.note(fingerprint(9), at(599));
        assert_eq!(in_use.take_report().len(), 0);
        in_use.drop_old(at(599));
        in_use.note(fingerprint(9), at(600));
        assert_eq!(in_use.take_report().len(), 0);
        in_use.drop_old(at(600));
        in_use.note(fingerprint(9), at(600));
        assert_eq!(in_use.take_report(), [fingerprint(9)]);
        let none = InUse::new(0);
        none.note(fingerprint(1), at(0));
        assert_eq!(none.take_report().len(), 0);
    }

    #[test]
    fn no_more_wait_to_be_reported_than_a_start_would_read() {
        let in_use = InUse::new(4);
        for second in [0, 300, 600, 900] {
            (0..4).for_each(|number| in_use.note(fingerprint(number), at(second)));
        }
        assert_eq!(in_use.take_report().len(), 4);
        in_use.note(fingerprint(0), at(900));
        assert_eq!(in_use.take_report(), [fingerprint(0)], "what had no room is noted at its next use");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_given_out_at_the_rate_and_no_faster() {
        let pacer = Pacer::of(6_400);
        for part in 0..50 {
            assert_eq!(pacer.next_part().await, part * READ_BATCH);
        }
        let took = pacer.begun.elapsed();
        assert!(
            (490..=495).contains(&took.as_millis()),
            "the fiftieth part comes after 49 hundredths: {took:?}"
        );
        // Whoever was held up catches up, and is not ahead.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let late = pacer.begun.elapsed();
        for _ in 50..149 {
            pacer.next_part().await;
        }
        assert_eq!(pacer.begun.elapsed(), late);
        pacer.next_part().await;
        pacer.next_part().await;
        assert!(pacer.begun.elapsed() >= Duration::from_millis(1_500));
        let slow = Pacer::of(0);
        slow.next_part().await;
        assert!(tokio::time::timeout(Duration::from_secs(60), slow.next_part()).await.is_err());
    }

    #[test]
    fn what_was_listed_is_no_guess_for_as_long_as_the_list_is_good() {
        let in_use = InUse::new(4);
        assert!(!in_use.was_listed(&fingerprint(1), at(0)));
        in_use.set_list(&[fingerprint(1)], at(900));
        assert!(in_use.was_listed(&fingerprint(1), at(899)));
        assert!(!in_use.was_listed(&fingerprint(2), at(899)));
        assert!(!in_use.was_listed(&fingerprint(1), at(900)));
        in_use.drop_old(at(899));
        assert!(in_use.was_listed(&fingerprint(1), at(0)));
        in_use.drop_old(at(900));
        assert!(!in_use.was_listed(&fingerprint(1), at(0)));
    }
}
