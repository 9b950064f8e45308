//! Writes this gateway's receipt to the store: at once after events, and as a heartbeat.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::base::clock::{BootMillis, Clock, UnixMillis};
use crate::base::ids::GatewayId;
use crate::base::principal::Position;

use super::cached::CachedStore;
use super::receipts::{Announcement, HEARTBEAT};
use super::{Event, EventSink, FactStore, ReceiptStore, StoreError};

/// Shortest time between two receipts: a burst of changes costs the store fifty small writes a second
/// from each gateway, and a single one is confirmed at once.
const COALESCE: Duration = Duration::from_millis(20);

/// Longest wait for one announcement; the connection has its own deadline, of about this.
const DEADLINE: Duration = Duration::from_secs(3);

/// Longest wait for the first announcement: a store that hangs must not keep a gateway from starting.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// Pause after a failed announcement, unless a look-up needs it. Without a healthy connection a try costs nothing, and the first
/// receipt after an outage should not be what an operator waits for.
const RETRY: Duration = Duration::from_millis(500);

/// Upper bounds of the propagation histogram in milliseconds: from what a healthy machine takes to the
/// bound itself.
const BOUNDS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 15_000, 30_000, 60_000];

/// Who this gateway is to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub id: GatewayId,
    /// Random; tells two processes of one name apart.
    pub run: u64,
    pub version: String,
    pub max_age: Duration,
    /// How often it looks at live streams.
    pub stream_interval: Duration,
}

impl Identity {
    /// How long after a change it may at most act on what was before.
    #[must_use]
    pub const fn bound(&self) -> Duration {
        self.max_age.saturating_add(self.stream_interval)
    }
}

/// What the announcements came to, for metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnounceFigures {
    pub written: u64,
    pub failed: u64,
    /// Time since the last receipt was written, or since the start.
    pub silent_for: Duration,
    /// How long events took from the store to here: the sum in milliseconds, and how many there were
    /// up to each bound of [`Announcer::bounds`] and above.
    pub lag_millis: u64,
    /// See `lag_millis`.
    pub lags: Vec<u64>,
}

/// The state that was logged last.
#[derive(PartialEq, Eq)]
enum LoggedState {
    Nothing,
    Silent,
    Unregistered(String),
}

/// Announces one gateway. It is a sink of the store's events and must be subscribed after the cache,
/// so that the cache has been told what is announced.
pub struct Announcer {
    cached: Arc<CachedStore>,
    receipts: Arc<dyn ReceiptStore>,
    identity: Identity,
    clock: Arc<dyn Clock>,
    news: Notify,
    /// Held while a receipt is written or taken away; true when it has been taken away for good.
    withdrawn: tokio::sync::Mutex<bool>,
    started: BootMillis,
    /// The store's clock less our boot clock in milliseconds, as of the last receipt.
    ahead: AtomicI64,
    knows_ahead: AtomicBool,
    /// Boot time of the last receipt.
    written_at: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
    lags: Mutex<(u64, [u64; BOUNDS.len() + 1])>,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Announcer {
    /// An announcer of this gateway to `receipts`, the store behind `cached`, to whose events it is subscribed.
    #[must_use]
    pub fn new(cached: &Arc<CachedStore>, receipts: Arc<dyn ReceiptStore>, identity: Identity, clock: Arc<dyn Clock>) -> Arc<Self> {
        let started = clock.now().boot;
        let announcer = Arc::new(Self {
            identity,
            news: Notify::new(),
            withdrawn: tokio::sync::Mutex::new(false),
            started,
            ahead: AtomicI64::new(0),
            knows_ahead: AtomicBool::new(false),
            written_at: AtomicU64::new(started.0),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lags: Mutex::default(),
            cached: cached.clone(),
            receipts,
            clock,
        });
        cached.store().subscribe(announcer.clone());
        announcer
    }

    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Upper bounds of the propagation histogram.
    #[must_use]
    pub const fn bounds() -> [u64; BOUNDS.len()] {
        BOUNDS
    }

    /// Announces for ever; the caller owns the task and aborts it. A failure is counted and tried
    /// again, and stops nothing.
    pub async fn run(self: Arc<Self>) {
        let mut failing;
        let mut logged = LoggedState::Nothing;
        loop {
            let outcome = timeout(DEADLINE, self.announce()).await;
            let outcome = outcome.unwrap_or_else(|_| Err(StoreError::Unavailable("it did not answer in time".into())));
            self.log_state(&outcome, &mut logged);
            failing = outcome.is_err();
            sleep(COALESCE).await;
            // Events that came meanwhile have left a permit in `news`. Without events, the heartbeat comes.
            let pause = if failing { RETRY } else { HEARTBEAT };
            let asked = async {
                tokio::select! {
                    () = self.news.notified(), if !failing => {}
                    () = self.receipts.wants_announcement() => {}
                }
            };
            let _ = timeout(pause.saturating_sub(COALESCE), asked).await;
        }
    }

    /// Logs when announcements begin to fail, when this gateway is no longer registered, and when both work again.
    fn log_state(&self, outcome: &Result<(), StoreError>, logged: &mut LoggedState) {
        let now = match (outcome, self.store().unregistered()) {
            (_, Some(why)) => LoggedState::Unregistered(why),
            (Err(_), None) => LoggedState::Silent,
            (Ok(()), None) => LoggedState::Nothing,
        };
        if now == *logged {
            return;
        }
        match (&now, outcome) {
            (LoggedState::Unregistered(why), _) => tracing::error!(
                alarm = "not_registered",
                why,
                "this gateway is not registered with the store: it admits callers only by facts that it read before, until these are too old"
            ),
            (LoggedState::Silent, Err(error)) => {
                tracing::warn!(%error, "this gateway's receipt is not written; operators see it as silent");
            }
            _ => tracing::info!("this gateway is registered, and its receipt is written again"),
        }
        *logged = now;
    }

    /// The first announcement, before anything is served: whoever asks first should not find this gateway
    /// unregistered. That it fails is told by [`run`](Self::run), which tries again.
    pub async fn introduce(&self) {
        let _ = timeout(INTRODUCTION, self.announce()).await;
    }

    /// Takes the receipt away; called when nothing is served any more, and before the task of
    /// [`run`](Self::run) is aborted: a receipt that is being written is waited for, and none is written
    /// afterwards. Ends within six seconds.
    pub async fn withdraw(&self) {
        let identity = &self.identity;
        *self.withdrawn.lock().await = true;
        if self.written.load(Ordering::Relaxed) == 0 {
            // It was never announced, so there is no receipt to take away.
            return;
        }
        let done = timeout(DEADLINE, self.receipts.withdraw(identity.id.clone(), identity.run)).await;
        if !matches!(done, Ok(Ok(()))) {
            tracing::warn!("this gateway's receipt was not taken away; operators see it as silent for an hour");
        }
    }

    /// Writes one receipt, unless it has been taken away.
    ///
    /// # Errors
    /// [`StoreError`], as the store has it.
    pub async fn announce(&self) -> Result<(), StoreError> {
        let withdrawn = self.withdrawn.lock().await;
        if *withdrawn {
            return Ok(());
        }
        let identity = &self.identity;
        let status = self.store().status();
        let announcement = Announcement {
            id: identity.id.clone(),
            run: identity.run,
            version: identity.version.clone(),
            applied: self.applied(),
            reader: status.reader,
            max_age: identity.max_age,
            stream_interval: identity.stream_interval,
        };
        let sent = self.clock.now().boot;
        let answered = self.receipts.announce(announcement).await;
        let received = self.clock.now().boot;
        match answered {
            Ok(now) => {
                self.note_store_clock(now, sent, received);
                self.written.fetch_add(1, Ordering::Relaxed);
                self.written_at.store(received.0, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// The position up to which the cache has all events. Events from before the cache subscribed count too: the cache was empty
    /// then.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.cached.positions().newest().max(self.store().status().applied)
    }

    #[must_use]
    pub fn figures(&self) -> AnnounceFigures {
        let written_at = BootMillis(self.written_at.load(Ordering::Relaxed));
        let lags = *self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        AnnounceFigures {
            written: self.written.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            silent_for: self.clock.now().boot.since(written_at),
            lag_millis: lags.0,
            lags: lags.1.to_vec(),
        }
    }

    /// Time since the store was last heard by the event reader; zero for a store in this process.
    #[must_use]
    pub fn out_of_contact(&self) -> Duration {
        let status = self.store().status();
        if status.heard_at != BootMillis::default() {
            return self.clock.now().boot.since(status.heard_at);
        }
        match status.reader {
            super::events::ReaderState::Live => Duration::ZERO,
            _ => self.clock.now().boot.since(self.started),
        }
    }

    fn store(&self) -> &Arc<dyn FactStore> {
        self.cached.store()
    }

    /// Half of the round trip is how wrong this can be. Our wall clock has no part in it.
    fn note_store_clock(&self, store: UnixMillis, sent: BootMillis, received: BootMillis) {
        let middle = sent.0 + (received.0.saturating_sub(sent.0)) / 2;
        let ahead = store.0.saturating_sub_unsigned(middle);
        self.ahead.store(ahead, Ordering::Relaxed);
        self.knows_ahead.store(true, Ordering::Release);
    }

    fn note_lag(&self, at: UnixMillis) {
        if !self.knows_ahead.load(Ordering::Acquire) {
            return;
        }
        let now = self.ahead.load(Ordering::Relaxed).saturating_add_unsigned(self.clock.now().boot.0);
        let lag = u64::try_from(now.saturating_sub(at.0)).unwrap_or(0);
        let bucket = BOUNDS.iter().position(|bound| lag <= *bound).unwrap_or(BOUNDS.len());
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.0 = lags.0.saturating_add(lag);
        if let Some(count) = lags.1.get_mut(bucket) {
            *count += 1;
        }
    }
}

impl EventSink for Announcer {
    fn apply(&self, event: &Event) {
        if let Some(at) = event.at {
            self.note_lag(at);
        }
        self.news.notify_one();
    }

    fn forget_before(&self, _position: Position) {
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{ManualClock, Now};
    use crate::base::fingerprint::{PepperCheck, PepperChecks};
    use crate::store::cached::CacheSettings;
    use crate::store::embedded::EmbeddedStore;

    fn announcer(folder: &std::path::Path, clock: &Arc<ManualClock>) -> Arc<Announcer> {
        let store = Arc::new(EmbeddedStore::open(&folder.join("store"), &PepperChecks::one(PepperCheck::from_bytes([7; 32]))).unwrap());
        let control = tokio::runtime::Handle::current();
        let cached = CachedStore::new(store.clone(), &CacheSettings::default(), clock.clone(), control);
        let identity = Identity {
            id: GatewayId::parse("gw-1").unwrap(),
            run: 1,
            version: "test".into(),
            max_age: Duration::from_secs(30),
            stream_interval: Duration::from_secs(15),
        };
        Announcer::new(&cached, store, identity, clock.clone())
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Now {
            wall: UnixMillis(7),
            boot: BootMillis(1_000),
        }))
    }

    #[tokio::test]
    async fn nothing_is_announced_after_the_receipt_was_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let announcer = announcer(folder.path(), &clock());
        announcer.announce().await.unwrap();
        assert_eq!(announcer.receipts.receipts().await.unwrap().gateways.len(), 1);
        announcer.withdraw().await;
        announcer.announce().await.unwrap();
        assert!(announcer.receipts.receipts().await.unwrap().gateways.is_empty());
        assert_eq!(announcer.figures().written, 1);
    }

    #[tokio::test]
    async fn propagation_is_measured_by_the_stores_clock_whatever_ours_says() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, store_time) = (clock(), UnixMillis(5_000_000));
        let announcer = announcer(folder.path(), &clock);
        announcer.note_lag(store_time);
        assert_eq!(
            announcer.figures().lags.iter().sum::<u64>(),
            0,
            "the store's clock is not known yet"
        );
        announcer.note_store_clock(store_time, BootMillis(990), BootMillis(1_010));
        clock.step_wall(UnixMillis(-1));
        clock.advance(Duration::from_millis(30));
        announcer.note_lag(store_time.plus(Duration::from_millis(10)));
        let figures = announcer.figures();
        assert_eq!((figures.lag_millis, figures.lags[4]), (20, 1), "{figures:?}");
        announcer.note_lag(store_time.plus(Duration::from_secs(1)));
        assert_eq!(announcer.figures().lag_millis, 20, "an event of the future took no time");
    }
}
