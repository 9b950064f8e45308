//! Keeps issuers' keys fresh. They are fetched again before they are old, and once more when a token names an unknown key. While
//! their issuer does not answer, the last keys stay in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::base::clock::{BootMillis, Clock};
use crate::decide::external::{KeySet, PublishedKeys};
use crate::decide::rate::{Rate, RateVerdict, Window};
use crate::snapshot::{SharedSnapshot, Snapshot};

mod fetch;

pub use fetch::KEY_SET_ANSWER;
use fetch::{FetchError, fetch};

/// Fetches, and look-ups of names, at a time.
const MAX_FETCHES: usize = 4;

/// How often the loop checks whether a fetch is due or the configuration has changed.
const TICK: Duration = Duration::from_millis(250);

/// First and longest pause after a fetch that failed. The longest pause is also the shortest time between two fetches that unknown
/// `kid`s cause, so that strangers never make the gateway ask a failing issuer more often than it does by itself.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Longest time that a request waits for a fetch of keys.
const WAIT: Duration = Duration::from_secs(2);

/// Most fetches, of all issuers together, that tokens with unknown keys may cause in a minute. An attacker who makes up `kid`s for
/// every issuer causes no more.
const BUDGET: (u32, Duration) = (20, Duration::from_secs(60));

/// Most requests for a fetch that may be queued; a further request does not cause a fetch.
const MAX_QUEUED: usize = 16;

/// Renews the keys of every issuer in the snapshot that publishes them at a URL.
pub struct KeyRenewal {
    shared: Arc<SharedSnapshot>,
    clock: Arc<dyn Clock>,
    requests: mpsc::Sender<Arc<PublishedKeys>>,
    /// A number that grows with each fetch that has ended.
    ended: watch::Sender<u64>,
    fetched: AtomicU64,
    failed: AtomicU64,
}

/// The queue of requests for a fetch, which [`KeyRenewal::run`] serves.
pub struct FetchRequests(mpsc::Receiver<Arc<PublishedKeys>>);

/// One reading of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFigures {
    pub fetched: u64,
    pub failed: u64,
    /// Age of the oldest set in use, in whole seconds.
    pub oldest_seconds: u64,
    /// Issuers without a set that may be used.
    pub without: u64,
}

impl KeyRenewal {
    /// For the issuers of this snapshot and those that replace it.
    #[must_use]
    pub fn new(shared: Arc<SharedSnapshot>, clock: Arc<dyn Clock>) -> (Arc<Self>, FetchRequests) {
        let (requests, receiver) = mpsc::channel(MAX_QUEUED);
        let renewal = Self {
            shared,
            clock,
            requests,
            ended: watch::channel(0).0,
            fetched: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        (Arc::new(renewal), FetchRequests(receiver))
    }

    /// Has newer keys of an issuer fetched, and waits for the end of the fetch, two seconds at most. Answers whether there are
    /// newer keys. Answers `false` at once if unknown keys have caused a fetch a moment ago. Cancel-safe.
    pub async fn refetch(&self, keys: &Arc<PublishedKeys>) -> bool {
        let mut ended = self.ended.subscribe();
        let (version, attempts) = (keys.version(), keys.attempts());
        if !keys.may_ask(self.clock.now().boot) {
            return keys.is_asking() && self.wait(&mut ended, keys, version, attempts).await;
        }
        if self.requests.try_send(Arc::clone(keys)).is_err() {
            return false;
        }
        self.wait(&mut ended, keys, version, attempts).await
    }

    async fn wait(&self, ended: &mut watch::Receiver<u64>, keys: &PublishedKeys, version: u64, attempts: u64) -> bool {
        let over = async {
            while keys.version() == version && keys.attempts() == attempts {
                if ended.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(WAIT, over).await;
        keys.version() != version
    }

    /// Fetches what is due, for ever.
    pub async fn run(self: Arc<Self>, mut requests: FetchRequests) {
        let lookups = Arc::new(Semaphore::new(MAX_FETCHES));
        let mut issuers: Vec<IssuerSchedule> = Vec::new();
        let mut fetches = JoinSet::new();
        let mut budget = FetchBudget::new();
        let mut version = 0;
        loop {
            if version != self.shared.version() {
                version = self.shared.version();
                follow_snapshot(&mut issuers, &self.shared.load());
            }
            let now = self.clock.now().boot;
            for issuer in issuers.iter_mut().filter(|issuer| !issuer.fetching && issuer.due <= now) {
                if fetches.len() < MAX_FETCHES {
                    issuer.fetching = true;
                    let (keys, lookups) = (Arc::clone(&issuer.keys), Arc::clone(&lookups));
                    fetches.spawn(async move {
                        let result = match keys.url() {
                            Some(url) => fetch(url, &lookups).await,
                            None => Ok(KeySet::default()),
                        };
                        (keys, now, result)
                    });
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                Some(keys) = requests.0.recv() => {
                    let now = self.clock.now().boot;
                    if let Some(issuer) = issuers.iter_mut().find(|issuer| Arc::ptr_eq(&issuer.keys, &keys)) && budget.admits(now) {
                        issuer.due = now;
                    } else {
                        keys.note_attempt();
                        self.ended.send_modify(|count| *count += 1);
                    }
                }
                Some(ended) = fetches.join_next() => match ended {
                    Ok((keys, asked_at, result)) => self.settle(&mut issuers, &keys, asked_at, result),
                    // A defect ended the fetch, and the error does not name its issuer: all issuers are asked again.
                    Err(_) => {
                        let later = self.clock.now().boot.plus(BACKOFF.1);
                        issuers.iter_mut().for_each(|issuer| (issuer.fetching, issuer.due) = (false, later));
                    }
                }
            }
        }
    }

    fn settle(&self, issuers: &mut [IssuerSchedule], keys: &Arc<PublishedKeys>, asked_at: BootMillis, result: Result<KeySet, FetchError>) {
        let url = keys.url().map(crate::decide::external::KeyUrl::text).unwrap_or_default();
        let issuer = issuers.iter_mut().find(|issuer| Arc::ptr_eq(&issuer.keys, keys));
        let before = issuer.as_ref().map_or(0, |issuer| issuer.failures);
        let failures = match result {
            Ok(set) => {
                self.fetched.fetch_add(1, Ordering::Relaxed);
                if before > 0 || keys.version() == 0 {
                    tracing::info!(%url, keys = set.len(), skipped = set.ignored().len(), "issuer keys fetched");
                }
                // Logged when the warning changes, not at every fetch.
                if let Some(ignored) = set.warning().filter(|ignored| keys.warning().as_ref() != Some(ignored)) {
                    tracing::warn!(%url, %ignored, "keys of an issuer are left out; the others are used");
                }
                keys.replace(set, asked_at);
                0
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if before == 0 {
                    tracing::warn!(%url, %error, "issuer keys could not be fetched; the last good ones are kept");
                }
                before.saturating_add(1)
            }
        };
        if let Some(issuer) = issuer {
            issuer.settle(failures, asked_at, self.clock.now().boot);
        }
        keys.note_attempt();
        self.ended.send_modify(|count| *count += 1);
    }

    /// What happened so far, for metrics.
    #[must_use]
    pub fn figures(&self) -> KeyFigures {
        let now = self.clock.now().boot;
        let snapshot = self.shared.load();
        let issuers: Vec<&Arc<PublishedKeys>> = published(&snapshot).filter(|keys| keys.url().is_some()).collect();
        let ages = issuers
            .iter()
            .filter_map(|keys| keys.fetched_at())
            .map(|at| now.since(at).as_secs());
        KeyFigures {
            fetched: self.fetched.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            oldest_seconds: ages.max().unwrap_or(0),
            without: issuers.iter().filter(|keys| keys.usable(now).is_none()).count() as u64,
        }
    }
}

/// An issuer, and when its keys are fetched next.
struct IssuerSchedule {
    keys: Arc<PublishedKeys>,
    due: BootMillis,
    failures: u32,
    fetching: bool,
}

impl IssuerSchedule {
    fn settle(&mut self, failures: u32, asked_at: BootMillis, now: BootMillis) {
        self.fetching = false;
        self.failures = failures;
        let refresh = self.keys.url().map_or(BACKOFF.1, |url| url.refresh);
        self.due = match failures {
            // A little earlier than configured, so that the age stays below the configured limit.
            0 => asked_at.plus(refresh * 4 / 5),
            n => now.plus(BACKOFF.0.saturating_mul(1 << (n - 1).min(5)).min(BACKOFF.1).min(refresh)),
        };
    }
}

fn published(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<PublishedKeys>> {
    let issuers = snapshot.surfaces.iter().flat_map(|surface| surface.kind.issuers());
    issuers.map(|issuer| &issuer.keys)
}

/// Follows a new snapshot: the keys of a new issuer are fetched at once, those of a removed issuer no more.
fn follow_snapshot(issuers: &mut Vec<IssuerSchedule>, snapshot: &Snapshot) {
    let current: Vec<&Arc<PublishedKeys>> = published(snapshot).filter(|keys| keys.url().is_some()).collect();
    issuers.retain(|issuer| current.iter().any(|keys| Arc::ptr_eq(keys, &issuer.keys)));
    for keys in current {
        if !issuers.iter().any(|issuer| Arc::ptr_eq(keys, &issuer.keys)) {
            issuers.push(IssuerSchedule {
                keys: Arc::clone(keys),
                due: BootMillis(0),
                failures: 0,
                fetching: false,
            });
        }
    }
}

/// The fetches that unknown keys may cause, over all issuers.
struct FetchBudget(Option<Rate>, Window);

impl FetchBudget {
    fn new() -> Self {
        Self(Rate::new(BUDGET.0, BUDGET.1).ok(), Window::default())
    }

    fn admits(&mut self, now: BootMillis) -> bool {
        self.0
            .is_some_and(|rate| matches!(self.1.admit(rate, now), RateVerdict::Admitted { .. }))
    }
}
