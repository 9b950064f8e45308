//! Keeps a database open over the store's file, and after a failure opens another one until all changes can be made again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};

use crate::base::clock;
use crate::base::principal::Position;
use crate::store::StoreError;

use super::file::{FileView, StoreFile, ViewGate};
use super::health::{RemainingService, WriteFailure, WriteHealth};
use super::tables::{self, ReadTables};
use super::threads::{SpaceNeed, StoreProgress};

/// Memory redb may use for pages. Its own default of 1 GiB is sized for a database server; 64 MiB
/// hold the records of about 100,000 credentials.
const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The first and the longest pause between two tries to open a store that failed.
pub(super) type RetryPauses = (Duration, Duration);

/// Short, since nothing can be revoked meanwhile; long enough to put no load on a disk that fails.
pub(super) const RETRY_PAUSES: RetryPauses = (Duration::from_secs(1), Duration::from_secs(5));

/// A try reads the whole file. The pause after a try is at least ten times as long as the try took, so that tries take less than a
/// tenth of the time.
const COST_FACTOR: u32 = 10;

/// After so long without a failure, the next failure begins with the first pause again.
const SETTLED: Duration = Duration::from_secs(60);

/// Bytes of a trial write, which shows whether there is space: more than any change needs.
const TRIAL_BYTES: usize = 64 * 1024;

/// The table of trial writes; empty at all other times.
const TRIAL: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("trial");

/// The database that is in use, if there is one.
#[derive(Default)]
pub(super) struct OpenDatabase(RwLock<Option<Arc<Database>>>);

impl OpenDatabase {
    pub(super) fn get(&self) -> Option<Arc<Database>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, database: Option<Arc<Database>>) {
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), database);
        // After the lock: to close a database takes a while.
        drop(before);
    }
}

/// Which changes the store makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteState {
    Normal,
    /// Changes of records that exist. There may be no space for new records.
    NoNewRecords,
    NoChanges,
}

/// What became of a group of changes whose commit failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    Made,
    NotMade,
    Unknown,
}

/// Keeps the database open; owned by the thread that writes.
pub(super) struct DatabaseKeeper {
    file: Arc<StoreFile>,
    database: Arc<OpenDatabase>,
    health: Arc<WriteHealth>,
    progress: Arc<StoreProgress>,
    gate: Arc<ViewGate>,
    /// Whether the database in use writes to memory only ([`StoreFile::copy`]).
    is_copy: bool,
    state: WriteState,
    pauses: RetryPauses,
    pause: Duration,
    tried_at: Option<Instant>,
    /// The next try is not before this.
    next_try: Instant,
    well_since: Instant,
    /// In [`WriteState::NoNewRecords`], no change is tried before this time: the last one failed, and the whole file was read to
    /// open it again.
    no_change_before: Instant,
}

impl DatabaseKeeper {
    /// Opens the file, or makes a store of an empty one.
    ///
    /// # Errors
    /// As redb says.
    pub(super) fn open(
        file: Arc<StoreFile>,
        health: Arc<WriteHealth>,
        progress: Arc<StoreProgress>,
        pauses: RetryPauses,
    ) -> Result<Self, DatabaseError> {
        let (view, gate) = file.view().map_err(StorageError::from)?;
        let opened = open_database(view)?;
        file.keep_lock();
        let (database, now) = (Arc::<OpenDatabase>::default(), clock::instant());
        database.set(Some(Arc::new(opened)));
        Ok(Self {
            file,
            database,
            health,
            progress,
            gate,
            is_copy: false,
            state: WriteState::Normal,
            pauses,
            pause: pauses.0,
            tried_at: None,
            next_try: now,
            well_since: now,
            no_change_before: now,
        })
    }

    /// Reserves space for the file to grow. If there is none, the store begins without new records.
    pub(super) fn start(&mut self) {
        if self.file.reserve().is_ok() {
            return self.set(WriteState::Normal);
        }
        self.health.count_failure();
        self.set(WriteState::NoNewRecords);
        self.attempt(Self::run_trial);
    }

    fn set(&mut self, state: WriteState) {
        self.state = state;
        self.file.set_may_use_reserve(state != WriteState::Normal);
    }

    pub(super) fn database(&self) -> &Arc<OpenDatabase> {
        &self.database
    }

    pub(super) const fn state(&self) -> WriteState {
        self.state
    }

    /// Whether a change with this need of space is tried now.
    pub(super) fn admits(&self, needs: SpaceNeed) -> bool {
        match self.state {
            WriteState::Normal => true,
            WriteState::NoNewRecords => needs == SpaceNeed::Little && clock::instant() >= self.no_change_before,
            WriteState::NoChanges => false,
        }
    }

    /// Whether redb still works with its database.
    pub(super) fn is_sound(&self) -> bool {
        self.database.get().is_some_and(|database| is_sound(&database))
    }

    pub(super) fn health(&self) -> &Arc<WriteHealth> {
        &self.health
    }

    /// How long until the next try; `None` while all changes are made.
    pub(super) fn until_next_try(&self) -> Option<Duration> {
        (self.state != WriteState::Normal).then(|| self.next_try.saturating_duration_since(clock::instant()))
    }

    /// Checks whether all changes can be made, and tries to recover if not. With `eager`, because a change waits, the next try
    /// comes after the first pause and not after a longer one.
    pub(super) fn check(&mut self, eager: bool) {
        let now = clock::instant();
        if self.state != WriteState::NoChanges && !self.file.is_in_place() {
            return self.file_missing();
        }
        if self.state == WriteState::Normal {
            if !self.file.is_whole() {
                self.fail("its file was cut off");
            } else if !self.is_sound() {
                self.fail("the store could not be read");
            }
            return;
        }
        let soonest = self.tried_at.map_or(now, |at| at + self.pauses.0);
        if now >= self.next_try || eager && now >= soonest {
            self.attempt(Self::retry);
        }
    }

    /// Opens the file again after a commit that failed.
    pub(super) fn fail(&mut self, otherwise: &str) {
        self.health.count_failure();
        let now = clock::instant();
        if self.state == WriteState::Normal {
            if now.saturating_duration_since(self.well_since) >= SETTLED {
                self.pause = self.pauses.0;
            }
            self.record_failure(otherwise);
        }
        let (at_once, was) = (self.pause == self.pauses.0, self.state);
        self.attempt(|keeper| {
            keeper.reopen();
            if at_once && keeper.state == WriteState::NoNewRecords {
                keeper.run_trial();
            }
        });
        if was == WriteState::NoNewRecords {
            let ended = clock::instant();
            self.no_change_before = ended + ended.saturating_duration_since(now) * COST_FACTOR;
        }
    }

    fn record_failure(&self, otherwise: &str) {
        let fault = self.file.take_fault();
        self.health.record_failure(&WriteFailure::after(fault.as_ref(), otherwise));
    }

    fn file_missing(&mut self) {
        self.set(WriteState::NoChanges);
        self.health.count_failure();
        self.health.record_failure(&WriteFailure::file_missing());
        self.attempt(|_| {});
    }

    /// Whether a group of changes was made, by the position that the store has now. `before` is the position when the group
    /// began, `after` the position that the group would have led to.
    pub(super) fn outcome_of(&self, before: Position, after: Option<Position>) -> CommitOutcome {
        let position = self.database.get().and_then(|database| position_of(&database).ok());
        match (position, after) {
            (Some(now), Some(after)) if after > before && now >= after => CommitOutcome::Made,
            (Some(now), Some(after)) if after > before && now < after => CommitOutcome::NotMade,
            _ => CommitOutcome::Unknown,
        }
    }

    /// Makes one try, and sets the time of the next one.
    fn attempt(&mut self, step: impl FnOnce(&mut Self)) {
        let began = clock::instant();
        step(self);
        let ended = clock::instant();
        self.tried_at = Some(ended);
        if self.state != WriteState::Normal {
            let cost = ended.saturating_duration_since(began) * COST_FACTOR;
            self.next_try = ended + self.pause.max(cost);
            self.pause = (self.pause * 2).min(self.pauses.1);
        }
    }

    fn retry(&mut self) {
        if !self.file.is_in_place() {
            return;
        }
        match (self.state, self.is_copy) {
            // The copy answers look-ups until the file is open. Only this thread writes to the file meanwhile.
            (WriteState::NoChanges, true) => match self.open_file() {
                Ok((database, gate)) => self.use_file(database, gate),
                Err(error) => tracing::debug!(%error, "the store could not be opened again"),
            },
            (WriteState::NoChanges, false) => self.reopen(),
            // A read may have failed meanwhile. After that redb answers nothing until it is opened again.
            (WriteState::NoNewRecords, _) if !self.is_sound() => self.reopen(),
            _ => {}
        }
        if self.state == WriteState::NoNewRecords {
            self.run_trial();
        }
    }

    /// Makes a trial write. If it succeeds, all changes are made again.
    fn run_trial(&mut self) {
        if self.file.reserve().is_err() {
            self.record_failure("no space could be kept");
            return self.health.set_remaining(RemainingService::ReadsAndChanges);
        }
        self.set(WriteState::Normal);
        if self
            .database
            .get()
            .is_some_and(|database| without_panic(|| trial(&database)).is_ok())
        {
            self.well_since = clock::instant();
            self.health.recovered();
            return;
        }
        self.health.count_failure();
        self.record_failure("a trial of the store failed");
        self.reopen();
    }

    /// Replaces the database: by one that writes to the file, or else by one that only reads it, or else by none.
    fn reopen(&mut self) {
        self.gate.shut();
        self.set(WriteState::NoChanges);
        // After a failed sync the kernel's memory may have bytes that the disk does not have.
        self.file.forget_memory();
        match self.open_file() {
            Ok((database, gate)) => self.use_file(database, gate),
            Err(error) => {
                tracing::debug!(%error, "the store could not be opened again");
                self.use_copy();
            }
        }
    }

    fn use_file(&mut self, database: Arc<Database>, gate: Arc<ViewGate>) {
        self.database.set(Some(database));
        std::mem::replace(&mut self.gate, gate).shut();
        self.is_copy = false;
        self.set(WriteState::NoNewRecords);
        self.health.count_reopening();
        self.health.set_remaining(RemainingService::ReadsAndChanges);
    }

    fn use_copy(&mut self) {
        self.set(WriteState::NoChanges);
        let opened = self.file.copy().map_err(|e| StoreError::Unavailable(e.to_string()));
        let opened = opened.and_then(|(view, gate)| Ok((self.checked(view, &gate)?, gate)));
        self.is_copy = opened.is_ok();
        self.health.set_remaining(if self.is_copy {
            RemainingService::Reads
        } else {
            RemainingService::Nothing
        });
        match opened {
            Ok((database, gate)) => {
                self.database.set(Some(database));
                self.gate = gate;
            }
            Err(error) => {
                tracing::debug!(%error, "the store could not be opened for reading either");
                self.database.set(None);
            }
        }
    }

    fn open_file(&self) -> Result<(Arc<Database>, Arc<ViewGate>), StoreError> {
        let (view, gate) = self.file.view().map_err(|e| StoreError::Unavailable(e.to_string()))?;
        Ok((self.checked(view, &gate)?, gate))
    }

    /// Opens a database and checks that it has every change that was acknowledged.
    fn checked(&self, view: FileView, gate: &ViewGate) -> Result<Arc<Database>, StoreError> {
        if self.file.length().map_err(|e| StoreError::Unavailable(e.to_string()))? == 0 {
            // redb would make a new store of it.
            return Err(StoreError::Corrupt("the file was emptied".into()));
        }
        let database = open_database(view).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        match position_of(&database) {
            Ok(position) if position >= self.progress.applied() => Ok(Arc::new(database)),
            position => {
                // redb writes when a database is dropped, which this one must not do.
                gate.shut();
                Err(position
                    .err()
                    .unwrap_or_else(|| StoreError::Corrupt("changes that were made are missing from the file".into())))
            }
        }
    }
}

fn open_database(view: FileView) -> Result<Database, DatabaseError> {
    let open = || {
        Builder::new()
            .set_cache_size(PAGE_CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(view)
    };
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(DatabaseError::Storage(StorageError::Corrupted("redb failed inside".into()))))
}

fn position_of(database: &Database) -> Result<Position, StoreError> {
    let transaction = database.begin_read().map_err(|e| tables::failed(e.into()))?;
    ReadTables::open(&transaction)?.position()
}

/// Whether redb still works with this database: after some failures every transaction fails until it is opened again.
fn is_sound(database: &Database) -> bool {
    let try_both = || -> Result<(), redb::Error> {
        drop(database.begin_read()?);
        Ok(database.begin_write()?.abort()?)
    };
    matches!(catch_unwind(AssertUnwindSafe(try_both)), Ok(Ok(())))
}

/// Writes more than any change does, and removes it again.
fn trial(database: &Database) -> Result<(), redb::Error> {
    let write = |value: Option<&[u8]>| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TRIAL)?;
            match value {
                Some(value) => drop(table.insert("trial", value)?),
                None => drop(table.remove("trial")?),
            }
        }
        Ok(transaction.commit()?)
    };
    write(Some(&[0; TRIAL_BYTES])).and_then(|()| write(None))
}

fn without_panic(what: impl FnOnce() -> Result<(), redb::Error>) -> Result<(), redb::Error> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Err(redb::Error::Corrupted("redb failed inside".into())))
}
