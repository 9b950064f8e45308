//! Threads of the embedded store: one that writes, two that read, each behind a bounded queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::{Database, WriteTransaction};
use tokio::sync::oneshot;

use crate::base::clock::{Clock, UnixMillis};
use crate::base::principal::Position;
use crate::store::{ChangeError, Event, EventSink, StoreError};

use super::health::WriteHealth;
use super::recovery::{CommitOutcome, DatabaseKeeper, OpenDatabase, WriteState};
use super::tables::{self, WriteTables, WrittenChanges};

/// Threads that read. A read takes microseconds; the second one keeps look-ups moving while the
/// first walks a long list.
const READERS: usize = 2;

/// Jobs that may wait on each reader: as many as look-ups may be in flight by default.
const QUEUE: usize = 512;

/// Most changes of one commit. A commit costs an `fsync` whatever it holds, so waiting changes share
/// one; 64 keep the transaction small.
const MAX_GROUP: usize = 64;

/// A read. It tells whether the store answered.
type ReadJob = Box<dyn FnOnce(Result<&Database, StoreError>) -> bool + Send>;
type ChangeJob = Box<dyn QueuedChange>;

/// A job of the writing thread.
enum WriterJob {
    Change(ChangeJob),
    /// To check whether all changes can be made.
    CheckHealth,
}

/// Whether a [`WriterJob::CheckHealth`] is queued: at most one is, so that failing reads do not fill the queue of changes.
#[derive(Debug, Default, Clone)]
struct HealthCheckFlag(Arc<AtomicBool>);

impl HealthCheckFlag {
    fn request(&self, writer: &SyncSender<WriterJob>) {
        if !self.0.swap(true, Ordering::AcqRel) && writer.try_send(WriterJob::CheckHealth).is_err() {
            self.clear();
        }
    }

    fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// How much more space a change needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpaceNeed {
    /// Little, since no record is made: the change is tried even if there may be no space.
    Little,
    NewRecords,
}

/// How far changes are committed and delivered to the sinks, and the time of the last one. Shared by the threads and the store.
pub(super) struct StoreProgress {
    sinks: RwLock<Vec<Arc<dyn EventSink>>>,
    applied: AtomicU64,
    clock: Arc<dyn Clock>,
    /// The latest time at which anything in the file was made, in Unix milliseconds.
    made_at: AtomicI64,
}

impl StoreProgress {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            sinks: RwLock::new(Vec::new()),
            applied: AtomicU64::new(0),
            clock,
            made_at: AtomicI64::new(0),
        }
    }

    /// Sets position and time of the file when it is opened first.
    pub(super) fn begin(&self, position: Position, made_at: UnixMillis) {
        self.applied.store(position.0, Ordering::Release);
        self.made_at.store(made_at.0, Ordering::Release);
    }

    /// The machine's time, but never earlier than the latest change.
    pub(super) fn time(&self) -> UnixMillis {
        self.clock.now().wall.max(UnixMillis(self.made_at.load(Ordering::Acquire)))
    }

    pub(super) fn subscribe(&self, sink: Arc<dyn EventSink>) {
        self.sinks.write().unwrap_or_else(PoisonError::into_inner).push(sink);
    }

    pub(super) fn applied(&self) -> Position {
        Position(self.applied.load(Ordering::Acquire))
    }

    fn deliver(&self, events: &[Event]) {
        let sinks = self.sinks.read().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            for sink in sinks.iter() {
                sink.apply(event);
            }
            self.applied.store(event.position.0, Ordering::Release);
        }
    }
}

/// The queues into the threads. Dropping it finishes what is queued and joins the threads.
pub(super) struct StoreThreads {
    writer: Option<SyncSender<WriterJob>>,
    health_check: HealthCheckFlag,
    readers: Vec<SyncSender<ReadJob>>,
    next_reader: AtomicUsize,
    threads: Vec<JoinHandle<()>>,
}

impl StoreThreads {
    pub(super) fn start(keeper: DatabaseKeeper, progress: Arc<StoreProgress>) -> std::io::Result<Self> {
        let mut store_threads = Self {
            writer: None,
            health_check: HealthCheckFlag::default(),
            readers: Vec::new(),
            next_reader: AtomicUsize::new(0),
            threads: Vec::new(),
        };
        let (changes, changes_queue) = sync_channel(QUEUE);
        for _ in 0..READERS {
            let (jobs, queue) = sync_channel(QUEUE);
            store_threads.readers.push(jobs);
            let (database_slot, health) = (Arc::clone(keeper.database()), Arc::clone(keeper.health()));
            let (health_check, writer) = (store_threads.health_check.clone(), changes.clone());
            store_threads.spawn("store-read", move || {
                read_all(&database_slot, &health, &queue, &health_check, &writer)
            })?;
        }
        store_threads.writer = Some(changes);
        let health_check = store_threads.health_check.clone();
        store_threads.spawn("store-write", move || write_all(keeper, &changes_queue, &health_check, &progress))?;
        Ok(store_threads)
    }

    /// Has the writing thread check whether all changes can be made. Left out while its queue is full.
    pub(super) fn check_health(&self) {
        if let Some(writer) = &self.writer {
            self.health_check.request(writer);
        }
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Queues a read. The answer arrives on any runtime.
    pub(super) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |database| {
            if reply.is_closed() {
                return true;
            }
            let result = database.and_then(read);
            let answered = result.is_ok();
            let _ = reply.send(result);
            answered
        });
        let reader = self.next_reader.fetch_add(1, Ordering::Relaxed) % READERS;
        let reader = self.readers.get(reader).ok_or_else(super::closed)?;
        reader.try_send(job).map_err(|_| busy())?;
        Ok(answer)
    }

    /// Queues a change. The closure checks before it writes: after `NotFound` or `Conflict` it has
    /// written nothing, because the transaction it ran in may still be committed for others.
    pub(super) fn change<T: Send + 'static>(
        &self,
        needs: SpaceNeed,
        change: impl FnOnce(&mut WriteTables<'_>) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, ChangeError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = PendingChange {
            needs,
            change: Some(change),
            result: None,
            reply,
        };
        let writer = self.writer.as_ref().ok_or_else(super::closed)?;
        writer.try_send(WriterJob::Change(Box::new(job))).map_err(|_| busy())?;
        Ok(answer)
    }
}

impl Drop for StoreThreads {
    fn drop(&mut self) {
        self.writer = None;
        self.readers.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn busy() -> StoreError {
    StoreError::Unavailable("its queue is full".into())
}

/// A change that waits for its commit.
trait QueuedChange: Send {
    /// Makes the change in an open transaction. An error means that the transaction must not be committed.
    fn make(&mut self, tables: &mut WriteTables<'_>) -> Result<(), StoreError>;

    fn needs(&self) -> SpaceNeed;

    /// Answers the caller, after the commit and after the events.
    fn acknowledge(self: Box<Self>, committed: Result<(), ChangeError>);
}

struct PendingChange<T, F> {
    needs: SpaceNeed,
    change: Option<F>,
    result: Option<Result<T, ChangeError>>,
    reply: oneshot::Sender<Result<T, ChangeError>>,
}

impl<T: Send, F> QueuedChange for PendingChange<T, F>
where
    F: FnOnce(&mut WriteTables<'_>) -> Result<T, ChangeError> + Send,
{
    fn make(&mut self, tables: &mut WriteTables<'_>) -> Result<(), StoreError> {
        let Some(change) = self.change.take() else { return Ok(()) };
        let writes = tables.writes();
        match change(tables) {
            // Half a change must not be committed. One that met a corrupt record before it wrote
            // anything fails alone.
            Err(ChangeError::Store(error)) if tables.writes() != writes => Err(error),
            result => {
                self.result = Some(result);
                Ok(())
            }
        }
    }

    fn needs(&self) -> SpaceNeed {
        self.needs
    }

    fn acknowledge(self: Box<Self>, committed: Result<(), ChangeError>) {
        let result = match (committed, self.result) {
            // A refusal stands whether or not the others could be written.
            (_, Some(Err(refusal))) => Err(refusal),
            (Ok(()), Some(made)) => made,
            (Ok(()), None) => Err(super::closed().into()),
            (Err(error), _) => Err(error),
        };
        let _ = self.reply.send(result);
    }
}

fn read_all(
    database_slot: &OpenDatabase,
    health: &WriteHealth,
    queue: &Receiver<ReadJob>,
    health_check: &HealthCheckFlag,
    writer: &SyncSender<WriterJob>,
) {
    for job in queue {
        let database = database_slot.get();
        let open = database.as_deref().ok_or_else(|| health.refusal());
        // A panic ends one read, whose caller gets an error. It does not end the thread.
        let answered = catch_unwind(AssertUnwindSafe(|| job(open))).unwrap_or(false);
        if !answered {
            health_check.request(writer);
        }
    }
}

fn write_all(mut keeper: DatabaseKeeper, queue: &Receiver<WriterJob>, health_check: &HealthCheckFlag, progress: &StoreProgress) {
    loop {
        let next = match keeper.until_next_try() {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => queue.recv_timeout(wait),
        };
        let mut group: Vec<ChangeJob> = Vec::new();
        match next {
            Ok(WriterJob::Change(first)) => {
                group.push(first);
                let waiting = queue.try_iter().take(MAX_GROUP - 1);
                group.extend(waiting.filter_map(|job| match job {
                    WriterJob::Change(change) => Some(change),
                    WriterJob::CheckHealth => None,
                }));
                health_check.clear();
            }
            Ok(WriterJob::CheckHealth) => health_check.clear(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        keeper.check(!group.is_empty());
        // A change that needs space must not make the commit fail for changes that need little.
        let (mut group, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(|change| keeper.admits(change.needs()));
        for change in refused {
            change.acknowledge(Err(ChangeError::NotMade(keeper.health().refusal())));
        }
        if !group.is_empty() {
            let outcome = commit_group(&mut keeper, &mut group, progress);
            for change in group {
                change.acknowledge(outcome.clone());
            }
        }
    }
}

/// When a group of changes failed.
enum GroupFailure {
    /// Before its commit: nothing of it was made.
    BeforeCommit(StoreError),
    /// During its commit, which would have written this: it may have been made.
    DuringCommit(WrittenChanges),
}

/// Makes a group of changes and delivers its events, or finds out what became of it.
fn commit_group(keeper: &mut DatabaseKeeper, group: &mut [ChangeJob], progress: &StoreProgress) -> Result<(), ChangeError> {
    let before = progress.applied();
    let Some(database) = keeper.database().get() else {
        return Err(ChangeError::NotMade(keeper.health().refusal()));
    };
    let done = catch_unwind(AssertUnwindSafe(|| apply_group(&database, group, progress)))
        .unwrap_or_else(|_| Err(StoreError::Unavailable("a change failed inside".into())))
        .map_err(GroupFailure::BeforeCommit)
        .and_then(|(transaction, written)| commit(transaction, written));
    drop(database);
    match done {
        Ok(written) => {
            deliver(progress, &written);
            Ok(())
        }
        Err(GroupFailure::BeforeCommit(error)) if keeper.is_sound() => Err(match error {
            StoreError::Unavailable(_) => ChangeError::NotMade(error),
            untrusted => untrusted.into(),
        }),
        Err(GroupFailure::BeforeCommit(_)) => {
            keeper.fail("the store could not make a change");
            Err(ChangeError::NotMade(keeper.health().refusal()))
        }
        Err(GroupFailure::DuringCommit(written)) => {
            keeper.fail("the store could not commit a change");
            let after = written.events.last().map(|event| event.position);
            match keeper.outcome_of(before, after) {
                CommitOutcome::NotMade => Err(ChangeError::NotMade(keeper.health().refusal())),
                CommitOutcome::Unknown => Err(ChangeError::Store(keeper.health().refusal())),
                CommitOutcome::Made => {
                    deliver(progress, &written);
                    // Only the copy in memory has confirmed the position, so the change may not be on the disk.
                    if keeper.state() == WriteState::NoChanges {
                        Err(ChangeError::Store(keeper.health().refusal()))
                    } else {
                        Ok(())
                    }
                }
            }
        }
    }
}

fn deliver(progress: &StoreProgress, written: &WrittenChanges) {
    progress.made_at.fetch_max(written.clock.0, Ordering::AcqRel);
    progress.deliver(&written.events);
}

/// Makes all changes of a group in one transaction. Nothing of the group is kept if one of them meets a failure of the
/// store.
fn apply_group(
    database: &Database,
    group: &mut [ChangeJob],
    progress: &StoreProgress,
) -> Result<(WriteTransaction, WrittenChanges), StoreError> {
    let mut transaction = database.begin_write().map_err(|e| tables::failed(e.into()))?;
    transaction
        .set_durability(redb::Durability::Immediate)
        .map_err(|e| tables::failed(e.into()))?;
    let written = {
        let mut tables = WriteTables::open(&transaction, progress.clock.now().wall)?;
        for change in group {
            change.make(&mut tables)?;
        }
        tables.finish()?
    };
    Ok((transaction, written))
}

fn commit(transaction: WriteTransaction, written: WrittenChanges) -> Result<WrittenChanges, GroupFailure> {
    if written.writes == 0 {
        let aborted = transaction.abort();
        return aborted
            .map(|()| written)
            .map_err(|e| GroupFailure::BeforeCommit(tables::failed(e.into())));
    }
    match catch_unwind(AssertUnwindSafe(|| transaction.commit())) {
        Ok(Ok(())) => Ok(written),
        Ok(Err(_)) | Err(_) => Err(GroupFailure::DuringCommit(written)),
    }
}
