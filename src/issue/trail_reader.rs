//! Reads the audit trail for tenants. Files are read on threads for blocking work, never on a worker; how many are read at a
//! time and how many calls wait is bounded, and no tenant reads twice at a time or fills the queue alone.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Semaphore;

use crate::audit::tenants::{PageBounds, TenantFilter, TenantPage, read_page};
use crate::audit::trail::Trail;
use crate::base::ids::TenantId;

/// Pages that are read at a time in the whole process. They are read from the page cache or a disk that the writer needs too.
const MAX_READING: usize = 2;

/// Most calls that read or wait.
const MAX_CALLS: usize = 32;

/// Most calls of one tenant that read or wait. One of them reads.
const MAX_CALLS_OF_TENANT: usize = 4;

/// How long a call waits and reads. A call that is given up while its files are read keeps its place until that ends.
const DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of entries in a page, bytes of lines that are looked at for one, and the time for it.
const SIZE: usize = 1024 * 1024;
const READ: u64 = 64 * 1024 * 1024;
const TIME: Duration = Duration::from_secs(1);

/// The trail as served routes need it.
pub struct TrailAccess {
    pub reader: TrailReader,
    /// Where it is recorded what a tenant's administrators change.
    pub trail: Arc<Trail>,
}

/// Reads pages of one trail.
#[derive(Debug)]
pub struct TrailReader {
    directory: PathBuf,
    /// Seals positions. It is made anew in each process.
    key: RandomizedNonceKey,
    reading: Arc<Semaphore>,
    queue: Arc<TenantQueue>,
}

/// Why a page was not read.
#[derive(Debug, thiserror::Error)]
pub enum TrailReadError {
    #[error("too many calls wait for the audit trail")]
    Full,
    #[error("the audit trail was not read in time")]
    Late,
    #[error("the audit trail cannot be read: {0}")]
    Failed(io::Error),
}

impl TrailReader {
    /// Makes the reader of a trail, with a new key for its cursors.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let mut key = [0; 32];
        let failed = |_| io::Error::other("no randomness");
        aws_lc_rs::rand::fill(&mut key).map_err(failed)?;
        Ok(Self {
            directory: directory.to_owned(),
            key: RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(failed)?,
            reading: Arc::new(Semaphore::new(MAX_READING)),
            queue: Arc::default(),
        })
    }

    /// Reads a page. Cancel-safe: files that are being read are read to their end all the same, within the bounds.
    ///
    /// # Errors
    /// [`TrailReadError`].
    pub async fn read(
        &self,
        tenant: &TenantId,
        filter: TenantFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<TenantPage, TrailReadError> {
        let place = self.queue.enter(tenant).ok_or(TrailReadError::Full)?;
        let bounds = PageBounds {
            entries: limit,
            size: SIZE,
            read: READ,
            time: TIME,
        };
        let reading = async {
            let closed = |_| TrailReadError::Late;
            let turn = place.turn.clone().acquire_owned().await.map_err(closed)?;
            let permit = self.reading.clone().acquire_owned().await.map_err(closed)?;
            let directory = self.directory.clone();
            let read = tokio::task::spawn_blocking(move || {
                let page = read_page(&directory, &place.tenant, &filter, before, bounds);
                drop((permit, turn, place));
                page
            });
            let read = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            read.map_err(TrailReadError::Failed)
        };
        tokio::time::timeout(DEADLINE, reading).await.unwrap_or(Err(TrailReadError::Late))
    }

    /// A position as callers are given it. They cannot read it, since it would tell how much is recorded of others.
    ///
    /// # Errors
    /// When the library cannot encrypt.
    pub fn cursor(&self, position: u64) -> io::Result<String> {
        let mut sealed = position.to_le_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::empty(), &mut sealed);
        let nonce = nonce.map_err(|_| io::Error::other("a position cannot be sealed"))?;
        sealed.extend_from_slice(nonce.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The position of a cursor that this process gave.
    #[must_use]
    pub fn position(&self, cursor: &str) -> Option<u64> {
        let mut sealed = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let text = sealed.len().checked_sub(NONCE_LEN)?;
        let (text, nonce) = sealed.split_at_mut_checked(text)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::empty(), text).ok()?;
        Some(u64::from_le_bytes((&*opened).try_into().ok()?))
    }
}

/// The calls that read or wait.
#[derive(Debug, Default)]
struct TenantQueue(Mutex<QueuedCalls>);

#[derive(Debug, Default)]
struct QueuedCalls {
    calls: usize,
    tenants: HashMap<TenantId, TenantCalls>,
}

#[derive(Debug)]
struct TenantCalls {
    calls: usize,
    turn: Arc<Semaphore>,
}

/// The place of one call. It is free again when this is dropped.
#[derive(Debug)]
struct QueuePlace {
    queue: Arc<TenantQueue>,
    tenant: TenantId,
    /// Has one permit: whose turn it is among the calls of the tenant.
    turn: Arc<Semaphore>,
}

impl TenantQueue {
    fn lock(&self) -> MutexGuard<'_, QueuedCalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, tenant: &TenantId) -> Option<QueuePlace> {
        let mut queued = self.lock();
        if queued.calls >= MAX_CALLS {
            return None;
        }
        let of_tenant = queued.tenants.entry(tenant.clone()).or_insert_with(|| TenantCalls {
            calls: 0,
            turn: Arc::new(Semaphore::new(1)),
        });
        if of_tenant.calls >= MAX_CALLS_OF_TENANT {
            return None;
        }
        of_tenant.calls += 1;
        let turn = of_tenant.turn.clone();
        queued.calls += 1;
        Some(QueuePlace {
            queue: Arc::clone(self),
            tenant: tenant.clone(),
            turn,
        })
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let mut queued = self.queue.lock();
        queued.calls -= 1;
        if let Some(of_tenant) = queued.tenants.get_mut(&self.tenant) {
            of_tenant.calls -= 1;
            if of_tenant.calls == 0 {
                queued.tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn a_cursor_is_opened_by_the_process_that_gave_it_and_is_never_the_same() {
        let reader = TrailReader::new(Path::new("/nowhere")).unwrap();
        for position in [0, 1, 4_711, u64::MAX] {
            let cursor = reader.cursor(position).unwrap();
            assert_eq!(reader.position(&cursor), Some(position));
            assert_ne!(reader.cursor(position).unwrap(), cursor);
            let other = TrailReader::new(Path::new("/nowhere")).unwrap();
            assert_eq!(other.position(&cursor), None);
        }
    }

    #[test]
    fn a_cursor_that_was_changed_is_none() {
        let reader = TrailReader::new(Path::new("/nowhere")).unwrap();
        let cursor = reader.cursor(4_711).unwrap();
        for at in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(reader.position(std::str::from_utf8(&changed).unwrap()), None, "{at}");
            assert_eq!(reader.position(&cursor[..at]), None, "{at}");
        }
        for made_up in ["", "0", "4711", "AAAA", &"A".repeat(48), "key_1", "ä"] {
            assert_eq!(reader.position(made_up), None, "{made_up}");
        }
    }

    #[test]
    fn a_tenant_has_a_few_places_and_all_tenants_have_a_bounded_number() {
        let queue = Arc::<TenantQueue>::default();
        let mut places: Vec<_> = (0..MAX_CALLS_OF_TENANT).map(|_| queue.enter(&tenant("acme")).unwrap()).collect();
        assert!(queue.enter(&tenant("acme")).is_none());
        for i in MAX_CALLS_OF_TENANT..MAX_CALLS {
            places.push(queue.enter(&tenant(&format!("t{i}"))).unwrap());
        }
        assert!(queue.enter(&tenant("late")).is_none());
        places.remove(0);
        drop(queue.enter(&tenant("late")).unwrap());
        assert!(queue.enter(&tenant("acme")).is_some());
        drop(places);
        assert!(queue.lock().tenants.is_empty());
        assert_eq!(queue.lock().calls, 0);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_an_error_and_frees_the_place() {
        let reader = TrailReader::new(Path::new("/nowhere")).unwrap();
        for _ in 0..2 * MAX_CALLS {
            let error = reader.read(&tenant("acme"), TenantFilter::default(), None, 1).await.unwrap_err();
            assert!(error.to_string().contains("/nowhere"), "{error}");
        }
    }
}
