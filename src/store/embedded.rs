//! The default store: one file, one process, every acknowledged change on disk (redb).

use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase};

use crate::base::clock::{BootMillis, Clock, SystemClock, UnixMillis};
use crate::base::fingerprint::{Fingerprint, PepperChecks, PepperMark};
use crate::base::ids::{CredentialId, GatewayId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, RoleRecord, TenantRecord};

use super::events::ReaderState;
use super::filter::read_page;
use super::peppers::stamp;
use super::{
    Announcement, BoxFuture, ChangeError, CredentialChange, CredentialFilter, CredentialPage, EventPage, EventSink, FactStore, LookupQuery,
    LookupReply, MarkRoom, NewRecords, PepperList, PublishedCheckpoint, ReceiptStore, Receipts, RecordStore, RefreshReply, RoleChange,
    StoreError, StoreStatus, TenantState, Writes,
};
use file::{BackingFile, OsFile, StoreFile};
use health::WriteHealth;
use receipts::MemoryReceipts;
use recovery::{DatabaseKeeper, RETRY_PAUSES, RetryPauses};
use tables::{PART, ReadTables, WriteTables};
use threads::{SpaceNeed, StoreProgress, StoreThreads};

mod file;
pub mod first_start;
mod health;
mod receipts;
mod recovery;
mod tables;
mod threads;

/// Longest wait for a change. A commit is one or two `fsync`s; ten seconds pass only on a disk that
/// is failing, and then the operator must hear of it.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a read of an operator's list.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A store in a file. Only one process can have it open; the command line reaches it through the
/// operator socket.
///
/// Reads and changes run on threads of their own, never on a worker. Every change is durable
/// (`fsync`) before it is acknowledged, changes that wait together are committed together, and
/// events reach the subscribers before the change is acknowledged. Cancel-safe throughout: a dropped
/// future leaves a queued read undone, and a queued change may or may not be made.
///
/// When the file cannot be written, the store does what is still possible: it looks credentials up, and as long as some
/// room is left it changes records that exist. Meanwhile it opens its file again, until everything works
/// ([`writes`](FactStore::writes)).
///
/// Dropping the store waits for the change that is being written.
pub struct EmbeddedStore {
    threads: RwLock<Option<StoreThreads>>,
    /// The path of the marker file ([`first_start::unconfirmed_marker`]), until an operator has confirmed this empty store.
    unconfirmed: Mutex<Option<PathBuf>>,
    health: Arc<WriteHealth>,
    progress: Arc<StoreProgress>,
    receipts: MemoryReceipts,
    /// The mark of the pepper that new fingerprints are made under.
    mark: PepperMark,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the file at `path`, or makes it (mode 0600, its directory 0700). Blocks: the checksums
    /// of the whole file are verified. `peppers` tells this gateway's peppers from others; the first one
    /// joins those that the store was written under.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file cannot be opened or another process has it,
    /// [`StoreError::Corrupt`] when its checksums do not hold, [`StoreError::Foreign`] when it was
    /// written under a pepper that is not among these or by a newer version.
    pub fn open(path: &Path, peppers: &PepperChecks) -> Result<Self, StoreError> {
        Self::open_with(path, peppers, Arc::new(SystemClock))
    }

    /// The same by another clock than the machine's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, peppers: &PepperChecks, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let file = open_file(path)?;
        let backing = OsFile::new(path, file).map_err(|e| StoreError::Unavailable(format!("{}: {e}", path.display())))?;
        Self::open_on(Box::new(backing), path, peppers, clock, RETRY_PAUSES)
    }

    fn open_on(
        backing: Box<dyn BackingFile>,
        path: &Path,
        peppers: &PepperChecks,
        clock: Arc<dyn Clock>,
        pauses: RetryPauses,
    ) -> Result<Self, StoreError> {
        let (store_file, health, progress) = (
            StoreFile::new(backing),
            Arc::new(WriteHealth::new(path)),
            Arc::new(StoreProgress::new(clock)),
        );
        let mut keeper =
            DatabaseKeeper::open(store_file, Arc::clone(&health), Arc::clone(&progress), pauses).map_err(|e| open_error(path, &e))?;
        if let Some(database) = keeper.database().get() {
            let (position, made_at) = tables::initialise(&database, peppers)?;
            progress.begin(position, made_at);
        }
        keeper.start();
        let threads = StoreThreads::start(keeper, Arc::clone(&progress))
            .map_err(|e| StoreError::Unavailable(format!("no thread for the store could be started: {e}")))?;
        Ok(Self {
            threads: RwLock::new(Some(threads)),
            unconfirmed: Mutex::new(None),
            health,
            progress,
            receipts: MemoryReceipts::default(),
            mark: peppers.first().mark(),
        })
    }

    /// Makes look-ups fail until an operator makes a tenant. An empty store may have replaced another one that was lost; then it
    /// must not answer that a credential is unknown. A tenant that signs itself up is no confirmation.
    pub fn await_confirmation(&mut self, path: &Path) {
        self.unconfirmed = Mutex::new(Some(first_start::unconfirmed_marker(path)));
    }

    fn check_confirmed(&self) -> Result<(), StoreError> {
        match &*self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(_) => Err(StoreError::Unavailable(
                "the store is empty, and may have taken the place of another one: `durward tenants create` says that it is meant".into(),
            )),
        }
    }

    fn confirm(&self) {
        let mark = self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mark) = mark
            && let Err(error) = first_start::remove_marker(&mark)
        {
            tracing::warn!(%error, file = %mark.display(), "the marker file of an unconfirmed store cannot be removed; as long as it is there, callers get 503 after a start");
        }
    }

    /// Closes the store: what is queued is finished, then every call fails, and the file is free for another process. Blocks
    /// until then.
    #[cfg(any(test, feature = "internals"))]
    pub fn close(&self) {
        let threads = self.threads.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(threads);
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTables) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.read_transaction(move |transaction| read(&ReadTables::open(transaction)?))
    }

    fn read_transaction<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let job = move |database: &Database| {
            let transaction = database.begin_read().map_err(|e| tables::failed(e.into()))?;
            read(&transaction)
        };
        let answer = match &*self.threads.read().unwrap_or_else(PoisonError::into_inner) {
            Some(threads) => threads.read(job),
            None => Err(closed()),
        };
        Box::pin(async move {
            match tokio::time::timeout(READ_TIMEOUT, answer?).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(closed()),
                Err(_) => Err(StoreError::Unavailable("the disk did not answer in time".into())),
            }
        })
    }

    fn change<T: Send + 'static>(
        &self,
        needs: SpaceNeed,
        change: impl FnOnce(&mut WriteTables<'_>) -> Result<T, ChangeError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, ChangeError>> {
        let answer = match &*self.threads.read().unwrap_or_else(PoisonError::into_inner) {
            Some(threads) => threads.change(needs, change),
            None => Err(closed()),
        };
        Box::pin(async move {
            // What could not be queued was not begun.
            match tokio::time::timeout(CHANGE_TIMEOUT, answer.map_err(ChangeError::NotMade)?).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(closed().into()),
                Err(_) => Err(StoreError::Unavailable("the disk did not confirm the change in time".into()).into()),
            }
        })
    }
}

impl FactStore for EmbeddedStore {
    fn find(&self, fingerprint: Fingerprint) -> BoxFuture<'_, Result<LookupReply, StoreError>> {
        match self.check_confirmed() {
            Ok(()) => self.read(move |tables| tables.find(&fingerprint)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    /// Reads all in one transaction, so that a batch wakes a reading thread once.
    fn find_many(&self, asked: Vec<LookupQuery>) -> BoxFuture<'_, Vec<Result<RefreshReply, StoreError>>> {
        let count = asked.len();
        let found = match self.check_confirmed() {
            Ok(()) => self.read(move |tables| tables.find_many(&asked)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        };
        Box::pin(async move { found.await.unwrap_or_else(|error| vec![Err(error); count]) })
    }

    fn subscribe(&self, sink: Arc<dyn EventSink>) {
        self.progress.subscribe(sink);
    }

    fn probe(&self, deadline: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some(threads) = &*self.threads.read().unwrap_or_else(PoisonError::into_inner) {
            threads.check_health();
        }
        let answer = self.read(|tables| tables.position().map(|_| ()));
        Box::pin(async move {
            tokio::time::timeout(deadline, answer)
                .await
                .unwrap_or_else(|_| Err(StoreError::Unavailable("the disk did not answer in time".into())))
        })
    }

    fn writes(&self) -> Option<Writes> {
        Some(self.health.writes())
    }

    fn status(&self) -> StoreStatus {
        StoreStatus {
            reader: ReaderState::Live,
            applied: self.progress.applied(),
            heard_at: BootMillis::default(),
            revalidated_at: BootMillis::default(),
        }
    }
}

impl RecordStore for EmbeddedStore {
    fn time(&self) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        Box::pin(std::future::ready(Ok(self.progress.time())))
    }

    fn find_credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<CredentialRecord>, StoreError>> {
        self.read(move |tables| tables.find_credential(&id))
    }

    fn list_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<Vec<CredentialRecord>, StoreError>> {
        self.read(move |tables| tables.list_credentials(&filter))
    }

    fn page_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<CredentialPage, StoreError>> {
        Box::pin(async move {
            read_page(&filter, PART, |after| {
                let tenant = filter.tenant.clone();
                self.read(move |tables| tables.read_part(tenant.as_ref(), &after))
            })
            .await
        })
    }

    fn find_tenant(&self, id: TenantId) -> BoxFuture<'_, Result<Option<TenantRecord>, StoreError>> {
        self.read(move |tables| tables.find_tenant(&id))
    }

    fn list_tenants(&self, after: Option<TenantId>, limit: usize) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>> {
        self.read(move |tables| tables.list_tenants(after.as_ref(), limit))
    }

    fn create(&self, new: NewRecords, now: UnixMillis) -> BoxFuture<'_, Result<Vec<CredentialRecord>, ChangeError>> {
        let is_confirmation = new.tenant.is_some() && new.credentials.is_empty();
        let new = stamp(new, self.mark);
        let created = self.change(SpaceNeed::NewRecords, move |tables| tables.create(new, now));
        Box::pin(async move {
            let created = created.await?;
            if is_confirmation {
                self.confirm();
            }
            Ok(created)
        })
    }

    fn change_credential(
        &self,
        id: CredentialId,
        change: CredentialChange,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        self.change(SpaceNeed::Little, move |tables| tables.change_credential(&id, &change, now))
    }

    fn set_tenant_active(&self, id: TenantId, state: TenantState) -> BoxFuture<'_, Result<TenantRecord, ChangeError>> {
        self.change(SpaceNeed::Little, move |tables| tables.set_tenant_active(&id, state))
    }

    fn touch(&self, used: Vec<(CredentialId, UnixMillis)>) -> BoxFuture<'_, Result<(), StoreError>> {
        let touched = self.change(SpaceNeed::NewRecords, move |tables| tables.touch(&used));
        Box::pin(async move {
            touched.await.map_err(|error| match error {
                ChangeError::Store(error) | ChangeError::NotMade(error) => error,
                refused => StoreError::Corrupt(refused.to_string()),
            })
        })
    }

    fn forget(&self, ids: Vec<CredentialId>, before: UnixMillis) -> BoxFuture<'_, Result<usize, ChangeError>> {
        self.change(SpaceNeed::Little, move |tables| tables.forget(&ids, before))
    }

    fn take_once(&self, mark: Fingerprint, until: UnixMillis, room: MarkRoom) -> BoxFuture<'_, Result<bool, ChangeError>> {
        self.change(SpaceNeed::NewRecords, move |tables| tables.take_once(&mark, until, room))
    }

    fn peppers(&self) -> BoxFuture<'_, Result<PepperList, StoreError>> {
        self.read_transaction(tables::read_peppers)
    }

    fn set_peppers(&self, before: PepperList, after: PepperList) -> BoxFuture<'_, Result<bool, ChangeError>> {
        self.change(SpaceNeed::Little, move |tables| tables.set_peppers(&before, &after))
    }

    fn move_login(&self, id: CredentialId, fingerprint: Fingerprint) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        let mark = self.mark;
        self.change(SpaceNeed::Little, move |tables| tables.move_login(&id, fingerprint, mark))
    }

    fn create_role(&self, role: RoleRecord) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        self.change(SpaceNeed::NewRecords, move |tables| tables.create_role(role))
    }

    fn change_role(&self, id: RoleId, change: RoleChange) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        self.change(SpaceNeed::Little, move |tables| tables.change_role(&id, &change))
    }

    fn delete_role(&self, id: RoleId) -> BoxFuture<'_, Result<(), ChangeError>> {
        self.change(SpaceNeed::Little, move |tables| tables.delete_role(&id))
    }

    fn find_role(&self, id: RoleId) -> BoxFuture<'_, Result<Option<RoleRecord>, StoreError>> {
        self.read(move |tables| tables.find_role(&id))
    }

    fn list_roles(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<RoleRecord>, StoreError>> {
        self.read(move |tables| tables.list_roles(&tenant))
    }
}

impl ReceiptStore for EmbeddedStore {
    fn announce(&self, gateway: Announcement) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        let written = self.receipts.announce(&gateway);
        Box::pin(async move { written })
    }

    fn withdraw(&self, id: GatewayId, run: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.receipts.withdraw(&id, run);
        Box::pin(async { Ok(()) })
    }

    fn receipts(&self) -> BoxFuture<'_, Result<Receipts, StoreError>> {
        // The position is read from the file: a change whose event nobody has received must not look confirmed.
        let head = self.read(ReadTables::position);
        Box::pin(async move { Ok(self.receipts.list(head.await?)) })
    }

    fn exchange_checkpoints(
        &self,
        id: GatewayId,
        run: u64,
        own: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<PublishedCheckpoint>, StoreError>> {
        let others = self.receipts.exchange_checkpoints(&id, run, own);
        Box::pin(async move { Ok(others) })
    }

    fn events_after(&self, after: Option<u64>, limit: usize) -> BoxFuture<'_, Result<EventPage, StoreError>> {
        self.read_transaction(move |transaction| tables::events_after(transaction, after, limit))
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

/// Makes the directory and the file before redb does, so that neither is ever readable by others:
/// the file holds fingerprints, and names of tenants and keys.
fn open_file(path: &Path) -> Result<File, StoreError> {
    let failed = |e: std::io::Error| StoreError::Unavailable(format!("{}: {e}", path.display()));
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(file)
}

fn open_error(path: &Path, error: &DatabaseError) -> StoreError {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::Unavailable(format!(
            "{path} is open in another process: an embedded store serves one gateway at a time; \
             use its operator socket, or a Redis store for several gateways"
        )),
        DatabaseError::UpgradeRequired(version) => StoreError::Foreign(format!("{path} has the old file format {version}")),
        DatabaseError::Storage(redb::StorageError::Corrupted(what)) => damaged(&path, what),
        DatabaseError::Storage(redb::StorageError::Io(e))
            if matches!(e.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            damaged(&path, e)
        }
        other => StoreError::Unavailable(format!("{path}: {other}")),
    }
}

fn damaged(path: &impl Display, why: &impl Display) -> StoreError {
    StoreError::Corrupt(format!(
        "{path} is no store, was cut off or is damaged ({why}): bring back a copy of it"
    ))
}

#[cfg(test)]
mod tests;
