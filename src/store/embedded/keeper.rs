//! Keeps a database open over the store's file, and opens another one after a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};

use crate::base::clock;
use crate::base::principal::Position;
use crate::store::StoreError;

use super::disk::{Disk, Gate, View};
use super::health::{Health, Left, Trouble};
use super::lanes::{Needs, Shared};
use super::tables::{self, ReadTables};

/// Memory redb may use for pages. Its own default of 1 GiB is sized for a database server; 64 MiB
/// hold the records of about 100,000 credentials.
const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The first and the longest pause between two tries to open a store that failed.
pub(super) type Pauses = (Duration, Duration);

/// Short, since nothing can be revoked meanwhile; long enough to put no load on a disk that is in trouble.
pub(super) const PAUSES: Pauses = (Duration::from_secs(1), Duration::from_secs(5));

/// A try reads the whole file. The pause after it is at least so many times as long as the try took, so that tries fill
/// less than a tenth of the time.
const COST_FACTOR: u32 = 10;

/// When a store fails that was well for so long, its tries begin again with the first pause.
const SETTLED: Duration = Duration::from_secs(60);

/// Bytes of a trial, which shows whether there is room: more than any change needs.
const TRIAL_BYTES: usize = 64 * 1024;

/// The table that trials write; empty at all other times.
const TRIAL: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("trial");

/// The database that is in use, if there is one.
#[derive(Default)]
pub(super) struct Slot(RwLock<Option<Arc<Database>>>);

impl Slot {
    pub(super) fn get(&self) -> Option<Arc<Database>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, database: Option<Arc<Database>>) {
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), database);
        // Closing takes a while; not under the lock.
        drop(before);
    }
}

/// What the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Makes every change.
    Well,
    /// Tries changes of records that exist. There may be no room for new ones.
    Tight,
    /// Makes no changes.
    Frozen,
}

/// What became of a group of changes whose commit failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Made,
    NotMade,
    Unknown,
}

/// Keeps the database open; owned by the thread that writes.
pub(super) struct Keeper {
    disk: Arc<Disk>,
    slot: Arc<Slot>,
    health: Arc<Health>,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    /// Whether the database in use writes to memory only ([`Disk::copy`]).
    copy: bool,
    state: State,
    pauses: Pauses,
    pause: Duration,
    tried_at: Option<Instant>,
    /// The next try is not before this.
    due: Instant,
    well_since: Instant,
    /// While the store is tight, no change is tried before this: the last one failed, and opening the file again has read
    /// all of it.
    rests_until: Instant,
}

impl Keeper {
    /// Opens the file, or makes a store of an empty one.
    ///
    /// # Errors
    /// As redb says.
    pub(super) fn open(disk: Arc<Disk>, health: Arc<Health>, shared: Arc<Shared>, pauses: Pauses) -> Result<Self, DatabaseError> {
        let (view, gate) = disk.view().map_err(StorageError::from)?;
        let database = open_database(view)?;
        disk.keep_lock();
        let (slot, now) = (Arc::<Slot>::default(), clock::instant());
        slot.set(Some(Arc::new(database)));
        Ok(Self {
            disk,
            slot,
            health,
            shared,
            gate,
            copy: false,
            state: State::Well,
            pauses,
            pause: pauses.0,
            tried_at: None,
            due: now,
            well_since: now,
            rests_until: now,
        })
    }

    /// Reserves space for the file to grow. Where there is none, the store begins in trouble.
    pub(super) fn begin(&mut self) {
        if self.disk.reserve().is_ok() {
            return self.set(State::Well);
        }
        self.health.count_failure();
        self.set(State::Tight);
        self.paced(Self::try_out);
    }

    fn set(&mut self, state: State) {
        self.state = state;
        self.disk.set_frugal(state != State::Well);
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Whether a change that needs this is tried now.
    pub(super) fn takes(&self, needs: Needs) -> bool {
        match self.state {
            State::Well => true,
            State::Tight => needs == Needs::Little && clock::instant() >= self.rests_until,
            State::Frozen => false,
        }
    }

    /// Whether redb still works with its database.
    pub(super) fn is_sound(&self) -> bool {
        self.slot.get().is_some_and(|database| is_sound(&database))
    }

    pub(super) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// How long until the next try; `None` while all is well.
    pub(super) fn until_due(&self) -> Option<Duration> {
        (self.state != State::Well).then(|| self.due.saturating_duration_since(clock::instant()))
    }

    /// Looks whether the store is well, and tries to mend it if not. With `eager`, since somebody wants a change, the try
    /// comes after the first pause and not after a longer one.
    pub(super) fn look(&mut self, eager: bool) {
        let now = clock::instant();
        if self.state != State::Frozen && !self.disk.is_in_place() {
            return self.misplaced();
        }
        if self.state == State::Well {
            if !self.disk.is_whole() {
                self.fail("its file was cut off");
            } else if !self.is_sound() {
                self.fail("the store could not be read");
            }
            return;
        }
        let soonest = self.tried_at.map_or(now, |at| at + self.pauses.0);
        if now >= self.due || eager && now >= soonest {
            self.paced(Self::retry);
        }
    }

    /// Opens the file again after a commit that failed.
    pub(super) fn fail(&mut self, otherwise: &str) {
        self.health.count_failure();
        let now = clock::instant();
        if self.state == State::Well {
            if now.saturating_duration_since(self.well_since) >= SETTLED {
                self.pause = self.pauses.0;
            }
            self.fell(otherwise);
        }
        let (at_once, was) = (self.pause == self.pauses.0, self.state);
        self.paced(|keeper| {
            keeper.reopen();
            if at_once && keeper.state == State::Tight {
                keeper.try_out();
            }
        });
        if was == State::Tight {
            let ended = clock::instant();
            self.rests_until = ended + ended.saturating_duration_since(now) * COST_FACTOR;
        }
    }

    fn fell(&self, otherwise: &str) {
        let fault = self.disk.take_fault();
        self.health.fell(&Trouble::after(fault.as_ref(), otherwise));
    }

    fn misplaced(&mut self) {
        self.set(State::Frozen);
        self.health.count_failure();
        self.health.fell(&Trouble::misplaced());
        self.paced(|_| {});
    }

    /// Whether a group of changes was made, as the position of the store says now. `before` is the position when the group
    /// began, `after` the one that it would have led to.
    pub(super) fn fate(&self, before: Position, after: Option<Position>) -> Fate {
        let position = self.slot.get().and_then(|database| position_of(&database).ok());
        match (position, after) {
            (Some(now), Some(after)) if after > before && now >= after => Fate::Made,
            (Some(now), Some(after)) if after > before && now < after => Fate::NotMade,
            _ => Fate::Unknown,
        }
    }

    /// Makes an attempt, and sets when the next one is due.
    fn paced(&mut self, attempt: impl FnOnce(&mut Self)) {
        let began = clock::instant();
        attempt(self);
        let ended = clock::instant();
        self.tried_at = Some(ended);
        if self.state != State::Well {
            let cost = ended.saturating_duration_since(began) * COST_FACTOR;
            self.due = ended + self.pause.max(cost);
            self.pause = (self.pause * 2).min(self.pauses.1);
        }
    }

    fn retry(&mut self) {
        if !self.disk.is_in_place() {
            return;
        }
        match (self.state, self.copy) {
            // The copy answers look-ups until the file is open. Nobody else writes to the file meanwhile.
            (State::Frozen, true) => match self.open_file() {
                Ok((database, gate)) => self.use_file(database, gate),
                Err(error) => tracing::debug!(%error, "the store could not be opened again"),
            },
            (State::Frozen, false) => self.reopen(),
            // A read may have failed meanwhile, after which redb answers nothing.
            (State::Tight, _) if !self.is_sound() => self.reopen(),
            _ => {}
        }
        if self.state == State::Tight {
            self.try_out();
        }
    }

    /// Writes a trial: if that succeeds, the store is well again.
    fn try_out(&mut self) {
        if self.disk.reserve().is_err() {
            self.fell("no space could be kept");
            return self.health.set_left(Left::Endings);
        }
        self.set(State::Well);
        if self.slot.get().is_some_and(|database| guarded(|| trial(&database)).is_ok()) {
            self.well_since = clock::instant();
            self.health.recovered();
            return;
        }
        self.health.count_failure();
        self.fell("a trial of the store failed");
        self.reopen();
    }

    /// Replaces the database by one that writes to the file; if there can be none, by one that only reads it; else by none.
    fn reopen(&mut self) {
        self.gate.shut();
        self.set(State::Frozen);
        // After a failed sync the kernel may hold as written what the disk does not have.
        self.disk.forget_memory();
        match self.open_file() {
            Ok((database, gate)) => self.use_file(database, gate),
            Err(error) => {
                tracing::debug!(%error, "the store could not be opened again");
                self.use_copy();
            }
        }
    }

    fn use_file(&mut self, database: Arc<Database>, gate: Arc<Gate>) {
        self.slot.set(Some(database));
        std::mem::replace(&mut self.gate, gate).shut();
        self.copy = false;
        self.set(State::Tight);
        self.health.count_reopening();
        self.health.set_left(Left::Endings);
    }

    fn use_copy(&mut self) {
        self.set(State::Frozen);
        let opened = self.disk.copy().map_err(|e| StoreError::Unavailable(e.to_string()));
        let opened = opened.and_then(|(view, gate)| Ok((self.checked(view, &gate)?, gate)));
        self.copy = opened.is_ok();
        self.health.set_left(if self.copy { Left::Reads } else { Left::Nothing });
        match opened {
            Ok((database, gate)) => {
                self.slot.set(Some(database));
                self.gate = gate;
            }
            Err(error) => {
                tracing::debug!(%error, "the store could not be opened for reading either");
                self.slot.set(None);
            }
        }
    }

    fn open_file(&self) -> Result<(Arc<Database>, Arc<Gate>), StoreError> {
        let (view, gate) = self.disk.view().map_err(|e| StoreError::Unavailable(e.to_string()))?;
        Ok((self.checked(view, &gate)?, gate))
    }

    /// Opens a database and checks that it has every change that was acknowledged.
    fn checked(&self, view: View, gate: &Gate) -> Result<Arc<Database>, StoreError> {
        if self.disk.length().map_err(|e| StoreError::Unavailable(e.to_string()))? == 0 {
            // redb would make a new store of it.
            return Err(StoreError::Corrupt("the file was emptied".into()));
        }
        let database = open_database(view).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        match position_of(&database) {
            Ok(position) if position >= self.shared.applied() => Ok(Arc::new(database)),
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

fn open_database(view: View) -> Result<Database, DatabaseError> {
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

fn guarded(what: impl FnOnce() -> Result<(), redb::Error>) -> Result<(), redb::Error> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Err(redb::Error::Corrupted("redb failed inside".into())))
}
