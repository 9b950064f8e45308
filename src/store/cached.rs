//! Facts remembered for a short time in front of a store: never decisions, never beyond their age.

use std::sync::Arc;

use crate::base::clock::Now;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::Facts;

use super::StoreError;

/// What memory knows, without any wait.
#[derive(Debug, Clone)]
pub enum Remembered {
    /// Facts young enough, and not contradicted by any event.
    Present(Arc<Facts>),
    /// Certainly absent a moment ago.
    Absent,
    /// Nothing usable: [`CachedStore::load`] must be asked.
    Nothing,
}

/// A store with a memory. Shared by all workers.
pub struct CachedStore {}

impl CachedStore {
    /// What is remembered of this fingerprint. No I/O, no lock. Starts a refresh ahead (off the
    /// request path) when the facts are older than half their age limit.
    #[must_use]
    pub fn peek(&self, fingerprint: &Fingerprint, now: Now) -> Remembered {
        let _ = (fingerprint, now);
        Remembered::Nothing
    }

    /// Whether facts somebody still holds (a worker's own table) may be used now: young enough, and
    /// no event has come since. The same rule as [`peek`](Self::peek) uses; starts refreshes too.
    #[must_use]
    pub fn is_current(&self, fingerprint: &Fingerprint, facts: &Arc<Facts>, now: Now) -> bool {
        let _ = (fingerprint, facts, now);
        false
    }

    /// Reads through to the store: one flight for each fingerprint, bounded in number and time.
    /// Callable from any runtime; the read itself runs on the control runtime. Cancel-safe: the
    /// flight goes on for the other waiters.
    ///
    /// # Errors
    /// [`StoreError`]: not known. Nothing is remembered.
    pub async fn load(&self, fingerprint: Fingerprint) -> Result<Option<Arc<Facts>>, StoreError> {
        let _ = fingerprint;
        Err(StoreError::Unavailable(String::new()))
    }
}
