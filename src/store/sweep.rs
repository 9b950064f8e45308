//! Removes credentials that ended by themselves long ago. Without this, sessions and tokens would fill the store.

use std::collections::HashSet;
use std::time::Duration;

use crate::base::clock::{Clock, UnixMillis};
use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;

use super::{ChangeError, CredentialFilter, MAX_FORGOTTEN, MAX_LIST, RecordStore};

#[cfg(test)]
mod tests;

/// Time between two sweeps. A store that makes ten credentials a second holds a day's more of them
/// than it must: under a gigabyte.
const PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// Time from the start of a process to its first sweep: a process that is restarted all day sweeps
/// too, and one that has just started has better things to do.
const FIRST: Duration = Duration::from_secs(1_800);

/// Pause between two pages: a sweep of a million credentials takes half a minute, and everything else
/// goes between.
const PAUSE: Duration = Duration::from_millis(20);

/// Most credentials of one sweep, whose ids are held in memory: under 10 MiB. The next sweep goes on.
const MOST: usize = 100_000;

/// When a credential ends without anybody's doing: at its expiry, or when a sliding one was not used
/// for too long. `None` for one that lasts, also when it was revoked: its record stays as a tombstone,
/// so that the same key is never made or imported again.
#[must_use]
pub(super) fn natural_end(record: &CredentialRecord) -> Option<UnixMillis> {
    let idle = record.idle().map(crate::base::principal::IdleTimeout::ends_at);
    match (record.expires_at, idle) {
        (Some(expiry), Some(idle)) => Some(expiry.min(idle)),
        (one, other) => one.or(other),
    }
}

/// Sweeps `store` now and then, until it is dropped. A sweep that fails is tried again at the next time.
pub async fn sweep_for_ever(store: &dyn RecordStore, keep: Duration, clock: &dyn Clock) {
    sweep_every(FIRST, PERIOD, store, keep, clock).await;
}

async fn sweep_every(first: Duration, period: Duration, store: &dyn RecordStore, keep: Duration, clock: &dyn Clock) {
    let mut pause = first;
    loop {
        tokio::time::sleep(pause).await;
        pause = period;
        match sweep(store, keep, clock.now().wall).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "credentials that ended long ago were forgotten"),
            Err(error) => tracing::warn!(%error, "credentials that ended long ago could not be forgotten"),
        }
    }
}

/// Forgets what ended by itself more than `keep` before `now`, and nothing that something else still
/// hangs on; answers how many. Cancel-safe: what was forgotten was.
///
/// # Errors
/// [`ChangeError`]: the store did not answer.
pub async fn sweep(store: &dyn RecordStore, keep: Duration, now: UnixMillis) -> Result<usize, ChangeError> {
    let before = UnixMillis(now.0.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)));
    let mut ended = HashSet::new();
    each(store, |record| {
        if ended.len() < MOST && natural_end(&record).is_some_and(|end| end < before) {
            ended.insert(record.id);
        }
    })
    .await?;
    if ended.is_empty() {
        return Ok(0);
    }
    // A parent whose children are still there is removed by a later sweep, or never.
    let mut needed = HashSet::new();
    each(store, |record| {
        let above = [
            record.parent().map(|parent| &parent.id),
            record.link().map(|link| &link.id),
            record.linked_account(),
        ];
        needed.extend(above.into_iter().flatten().filter(|id| ended.contains(*id)).cloned());
    })
    .await?;
    let ended: Vec<CredentialId> = ended.difference(&needed).cloned().collect();
    let mut count = 0;
    for some in ended.chunks(MAX_FORGOTTEN) {
        count += store.forget(some.to_vec(), before).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(count)
}

/// Calls `show` with every credential of the store, page by page.
async fn each(store: &dyn RecordStore, mut show: impl FnMut(CredentialRecord)) -> Result<(), ChangeError> {
    let mut after = None;
    loop {
        let filter = CredentialFilter {
            after,
            limit: MAX_LIST,
            // One broken record must not stop the removal of all others.
            passes_over_broken: true,
            ..CredentialFilter::default()
        };
        let page = store.list_credentials(filter).await?;
        let full = page.len() == MAX_LIST;
        after = page.last().map(|record| record.id.clone());
        page.into_iter().for_each(&mut show);
        if !full {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
