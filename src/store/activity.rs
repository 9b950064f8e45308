//! When sliding credentials were last used: noted in memory on each request, written behind.
//!
//! A use is written when the store knows none of the last interval. So a session costs each gateway at most one write in each
//! interval, however busy it is, and none on the request path. A crash loses, and another gateway does not know yet, at most the
//! uses of one interval and [`ACTIVITY_TICK`]: a session may count as idle that much too early. The loss of the first use after
//! a longer pause would cost the whole pause, so that use is written within [`AFTER_PAUSE`]. None of this makes a session live
//! longer: its absolute limit is in the record, and no use moves it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::clock::{BootMillis, Clock, Now, UnixMillis};
use crate::base::ids::CredentialId;
use crate::base::principal::{CredentialRecord, Facts, IdleTimeout};

use super::{MAX_TOUCHED, RecordStore, StoreError};

#[cfg(test)]
mod tests;

/// Longest time that a use may be unknown to the store. A minute is a thousandth of a day's idle limit.
pub const ACTIVITY_INTERVAL: Duration = Duration::from_secs(60);

/// For short idle limits: a use may be unknown to the store for this part of the limit, a twentieth.
const PART_OF_TIMEOUT: u32 = 20;

/// How often due uses are looked for; adds to the interval.
pub const ACTIVITY_TICK: Duration = Duration::from_secs(1);

/// How soon the first use after a pause is written. Uses of this time are written together, since a write of the embedded
/// store waits for the disk.
pub const AFTER_PAUSE: Duration = Duration::from_millis(100);

/// How long a written use is still remembered: until no cached facts are older than the write, which
/// is less than the longest revocation bound.
const KEPT_AFTER_WRITE: Duration = Duration::from_secs(60);

/// Most sessions in the table (about): 12 MB. The uses of further sessions are not noted, so these may count as idle.
const MAX_TRACKED: usize = 100_000;

/// Locks over the table: more than the workers that use it at the same time.
const SHARDS: usize = 64;

/// Longest final write at drain: some batches of a healthy store, and no longer than an operator waits.
const LAST_FLUSH: Duration = Duration::from_secs(3);

/// Uses of sliding credentials. Shared by all workers; touched by requests of sliding credentials only.
pub struct Activity {
    shards: Box<[Mutex<HashMap<CredentialId, Use>>]>,
    /// Notified of the first use after a pause.
    pause_over: Notify,
    written: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// What the table counted since it was made.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActivityFigures {
    /// Uses written to the store.
    pub written: u64,
    /// Writes that failed, and are tried again.
    pub failed: u64,
    /// Uses that were not noted because too many sessions were in use.
    pub dropped: u64,
    pub tracked: u64,
}

struct Use {
    last: UnixMillis,
    /// The newest use that the store has acknowledged, or that was read from it.
    stored: UnixMillis,
    /// When the next write may be made; after a write without another use, when this is forgotten.
    due: BootMillis,
    interval: Duration,
}

impl Use {
    fn is_pending(&self) -> bool {
        self.last > self.stored
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// The uses whose interval is over.
    Due,
    /// All uses that the store does not know.
    All,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            pause_over: Notify::new(),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Activity {
    /// Notes that these facts admitted a request: a use of the credential, and of what it hangs on.
    /// Nothing happens, and no lock is taken, for credentials that do not slide.
    pub fn note(&self, facts: &Facts, now: Now) {
        for record in std::iter::once(&facts.credential).chain(&facts.ancestors) {
            if let Some(idle) = record.idle() {
                self.note_one(record, *idle, now);
            }
        }
    }

    fn note_one(&self, record: &CredentialRecord, idle: IdleTimeout, now: Now) {
        let mut uses = self.shard(&record.id);
        if let Some(known) = uses.get_mut(&record.id) {
            if !known.is_pending() && now.boot >= known.due {
                self.pause_over.notify_one();
            }
            known.last = known.last.max(now.wall);
            known.stored = known.stored.max(idle.last_used);
            return;
        }
        if uses.len() >= MAX_TRACKED / SHARDS {
            uses.retain(|_, known| known.is_pending());
            if uses.len() >= MAX_TRACKED / SHARDS {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let interval = interval_of(idle.timeout);
        let known_for = Duration::from_millis(u64::try_from(now.wall.0.saturating_sub(idle.last_used.0)).unwrap_or(0));
        if known_for >= interval {
            self.pause_over.notify_one();
        }
        uses.insert(
            record.id.clone(),
            Use {
                last: now.wall,
                stored: idle.last_used,
                due: now.boot.plus(interval.saturating_sub(known_for)),
                interval,
            },
        );
    }

    /// These facts with every use this process knows of laid over; the same facts if it knows no
    /// later one.
    #[must_use]
    pub fn lay_over(&self, facts: Arc<Facts>) -> Arc<Facts> {
        let known = |record: &CredentialRecord| {
            let idle = record.idle()?;
            self.last_use(&record.id).filter(|last| *last > idle.last_used)
        };
        if std::iter::once(&facts.credential)
            .chain(&facts.ancestors)
            .all(|r| known(r).is_none())
        {
            return facts;
        }
        let mut facts = Facts::clone(&facts);
        for record in std::iter::once(&mut facts.credential).chain(&mut facts.ancestors) {
            if let Some(last) = known(record)
                && let Some(idle) = &mut record.extras_mut().idle
            {
                idle.last_used = last;
            }
        }
        Arc::new(facts)
    }

    /// When this process saw a credential used last, if it still remembers.
    #[must_use]
    pub fn last_use(&self, id: &CredentialId) -> Option<UnixMillis> {
        self.shard(id).get(id).map(|known| known.last)
    }

    /// Writes uses to the store, in batches; answers how many. Cancel-safe: what was not acknowledged
    /// is written again, and later uses win in the store.
    ///
    /// # Errors
    /// [`StoreError`]; what was not written stays noted.
    pub async fn flush(&self, store: &dyn RecordStore, now: Now, which: Flush) -> Result<usize, StoreError> {
        let due = self.take_due(now, which);
        for batch in due.chunks(MAX_TOUCHED) {
            if let Err(error) = store.touch(batch.to_vec()).await {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
            self.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
            for (id, at) in batch {
                if let Some(known) = self.shard(id).get_mut(id) {
                    known.stored = known.stored.max(*at);
                    known.due = now.boot.plus(known.interval);
                }
            }
        }
        Ok(due.len())
    }

    /// Uses to be written now; forgets those that are written and old.
    fn take_due(&self, now: Now, which: Flush) -> Vec<(CredentialId, UnixMillis)> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let mut uses = shard.lock().unwrap_or_else(PoisonError::into_inner);
            uses.retain(|_, known| known.is_pending() || now.boot < known.due.plus(KEPT_AFTER_WRITE));
            let ready = uses
                .iter()
                .filter(|(_, known)| known.is_pending() && (which == Flush::All || now.boot >= known.due));
            due.extend(ready.map(|(id, known)| (id.clone(), known.last)));
        }
        due
    }

    #[cfg(test)]
    pub fn figures(&self) -> ActivityFigures {
        let held = |shard: &Mutex<HashMap<CredentialId, Use>>| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        ActivityFigures {
            written: self.written.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            tracked: self.shards.iter().map(held).sum::<usize>() as u64,
        }
    }

    fn shard(&self, id: &CredentialId) -> MutexGuard<'_, HashMap<CredentialId, Use>> {
        // The last bytes: ids of our making begin alike.
        let sum = id
            .as_str()
            .bytes()
            .rev()
            .take(8)
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.shards[sum % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes due uses for ever. Owned by whoever runs the gateway, who ends it and then calls
/// [`flush_all`].
pub async fn write_behind(activity: &Activity, store: &dyn RecordStore, clock: &dyn Clock) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ACTIVITY_TICK) => {}
            () = activity.pause_over.notified() => tokio::time::sleep(AFTER_PAUSE).await,
        }
        if let Err(error) = activity.flush(store, clock.now(), Flush::Due).await {
            tracing::warn!(%error, "the last uses of sessions could not be written to the store; the gateway tries again");
        }
    }
}

/// Writes every use that the store does not know, for at most three seconds: the last step of a drain.
pub async fn flush_all(activity: &Activity, store: &dyn RecordStore, clock: &dyn Clock) {
    match tokio::time::timeout(LAST_FLUSH, activity.flush(store, clock.now(), Flush::All)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the last uses of sessions could not be written"),
        Err(_) => tracing::warn!("the last uses of sessions could not be written in time"),
    }
}

/// How long a use of a credential with this idle limit may be unknown to the store.
fn interval_of(timeout: Duration) -> Duration {
    ACTIVITY_INTERVAL.min(timeout / PART_OF_TIMEOUT)
}
