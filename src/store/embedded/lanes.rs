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

use super::health::Health;
use super::keeper::{Fate, Keeper, Slot, State};
use super::tables::{self, WriteTables, Written};

/// Threads that read. A read takes microseconds; the second one keeps look-ups moving while the
/// first walks a long list.
const READERS: usize = 2;

/// Jobs that may wait on each lane: as many as look-ups may be in flight by default.
const QUEUE: usize = 512;

/// Most changes of one commit. A commit costs an `fsync` whatever it holds, so waiting changes share
/// one; 64 keep the transaction small.
const GROUP: usize = 64;

/// Answers whether the store answered.
type ReadJob = Box<dyn FnOnce(Result<&Database, StoreError>) -> bool + Send>;
type ChangeJob = Box<dyn Change>;

/// A job of the writing thread.
enum Job {
    /// To make a change.
    Change(ChangeJob),
    /// To look whether the store is well.
    Look,
}

/// Whether a [`Job::Look`] waits: at most one does, so that failing reads do not fill the queue of changes.
#[derive(Debug, Default, Clone)]
struct Bell(Arc<AtomicBool>);

impl Bell {
    fn ring(&self, writer: &SyncSender<Job>) {
        if !self.0.swap(true, Ordering::AcqRel) && writer.try_send(Job::Look).is_err() {
            self.answered();
        }
    }

    fn answered(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// How much more room the store needs for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Little, since no record is made: the change is tried even where there may be no room.
    Little,
    /// Room for new records.
    Room,
}

/// What the threads and the store share.
pub(super) struct Shared {
    sinks: RwLock<Vec<Arc<dyn EventSink>>>,
    applied: AtomicU64,
    clock: Arc<dyn Clock>,
    /// The latest time at which anything in the file was made, in Unix milliseconds.
    made_at: AtomicI64,
}

impl Shared {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            sinks: RwLock::new(Vec::new()),
            applied: AtomicU64::new(0),
            clock,
            made_at: AtomicI64::new(0),
        }
    }

    /// Takes over what the file says when it is opened first.
    pub(super) fn begin(&self, position: Position, made_at: UnixMillis) {
        self.applied.store(position.0, Ordering::Release);
        self.made_at.store(made_at.0, Ordering::Release);
    }

    /// The machine's time, and never earlier than what was made.
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
pub(super) struct Lanes {
    writer: Option<SyncSender<Job>>,
    bell: Bell,
    readers: Vec<SyncSender<ReadJob>>,
    next_reader: AtomicUsize,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    pub(super) fn start(keeper: Keeper, shared: Arc<Shared>) -> std::io::Result<Self> {
        let mut lanes = Self {
            writer: None,
            bell: Bell::default(),
            readers: Vec::new(),
            next_reader: AtomicUsize::new(0),
            threads: Vec::new(),
        };
        let (changes, changes_queue) = sync_channel(QUEUE);
        for _ in 0..READERS {
            let (jobs, queue) = sync_channel(QUEUE);
            lanes.readers.push(jobs);
            let (slot, health) = (Arc::clone(keeper.slot()), Arc::clone(keeper.health()));
            let (bell, writer) = (lanes.bell.clone(), changes.clone());
            lanes.spawn("store-read", move || read_all(&slot, &health, &queue, &bell, &writer))?;
        }
        lanes.writer = Some(changes);
        let bell = lanes.bell.clone();
        lanes.spawn("store-write", move || write_all(keeper, &changes_queue, &bell, &shared))?;
        Ok(lanes)
    }

    /// Asks the writing thread to look whether the store is well. Left out while its queue is full.
    pub(super) fn look(&self) {
        if let Some(writer) = &self.writer {
            self.bell.ring(writer);
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
        let lane = self.next_reader.fetch_add(1, Ordering::Relaxed) % READERS;
        let lane = self.readers.get(lane).ok_or_else(super::closed)?;
        lane.try_send(job).map_err(|_| busy())?;
        Ok(answer)
    }

    /// Queues a change. The closure checks before it writes: after `NotFound` or `Conflict` it has
    /// written nothing, because the transaction it ran in may still be committed for others.
    pub(super) fn change<T: Send + 'static>(
        &self,
        needs: Needs,
        change: impl FnOnce(&mut WriteTables<'_>) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, ChangeError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Pending {
            needs,
            change: Some(change),
            result: None,
            reply,
        };
        let writer = self.writer.as_ref().ok_or_else(super::closed)?;
        writer.try_send(Job::Change(Box::new(job))).map_err(|_| busy())?;
        Ok(answer)
    }
}

impl Drop for Lanes {
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
trait Change: Send {
    /// Makes the change in an open transaction. An error means that the transaction must not be committed.
    fn make(&mut self, tables: &mut WriteTables<'_>) -> Result<(), StoreError>;

    fn needs(&self) -> Needs;

    /// Tells the caller, after the commit and after the events.
    fn acknowledge(self: Box<Self>, committed: Result<(), ChangeError>);
}

struct Pending<T, F> {
    needs: Needs,
    change: Option<F>,
    result: Option<Result<T, ChangeError>>,
    reply: oneshot::Sender<Result<T, ChangeError>>,
}

impl<T: Send, F> Change for Pending<T, F>
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

    fn needs(&self) -> Needs {
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

fn read_all(slot: &Slot, health: &Health, queue: &Receiver<ReadJob>, bell: &Bell, writer: &SyncSender<Job>) {
    for job in queue {
        let database = slot.get();
        let open = database.as_deref().ok_or_else(|| health.refusal());
        // A panic ends one read, whose caller hears that the reply was dropped; not the lane.
        let answered = catch_unwind(AssertUnwindSafe(|| job(open))).unwrap_or(false);
        if !answered {
            bell.ring(writer);
        }
    }
}

fn write_all(mut keeper: Keeper, queue: &Receiver<Job>, bell: &Bell, shared: &Shared) {
    loop {
        let next = match keeper.until_due() {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => queue.recv_timeout(wait),
        };
        let mut group: Vec<ChangeJob> = Vec::new();
        match next {
            Ok(Job::Change(first)) => {
                group.push(first);
                let waiting = queue.try_iter().take(GROUP - 1);
                group.extend(waiting.filter_map(|job| match job {
                    Job::Change(change) => Some(change),
                    Job::Look => None,
                }));
                bell.answered();
            }
            Ok(Job::Look) => bell.answered(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        keeper.look(!group.is_empty());
        // A change that needs room must not make the commit fail for those that need little.
        let (mut group, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(|change| keeper.takes(change.needs()));
        for change in refused {
            change.acknowledge(Err(ChangeError::NotMade(keeper.health().refusal())));
        }
        if !group.is_empty() {
            let outcome = make(&mut keeper, &mut group, shared);
            for change in group {
                change.acknowledge(outcome.clone());
            }
        }
    }
}

/// When a group of changes failed.
enum Failed {
    /// Before its commit: nothing of it was made.
    Before(StoreError),
    /// During its commit, which would have written this: it may have been made.
    Within(Written),
}

/// Makes a group of changes and delivers its events, or finds out what became of it.
fn make(keeper: &mut Keeper, group: &mut [ChangeJob], shared: &Shared) -> Result<(), ChangeError> {
    let before = shared.applied();
    let Some(database) = keeper.slot().get() else {
        return Err(ChangeError::NotMade(keeper.health().refusal()));
    };
    let done = catch_unwind(AssertUnwindSafe(|| prepare(&database, group, shared)))
        .unwrap_or_else(|_| Err(StoreError::Unavailable("a change failed inside".into())))
        .map_err(Failed::Before)
        .and_then(|(transaction, written)| commit(transaction, written));
    drop(database);
    match done {
        Ok(written) => {
            finish(shared, &written);
            Ok(())
        }
        Err(Failed::Before(error)) if keeper.is_sound() => Err(match error {
            StoreError::Unavailable(_) => ChangeError::NotMade(error),
            untrusted => untrusted.into(),
        }),
        Err(Failed::Before(_)) => {
            keeper.fail("the store could not make a change");
            Err(ChangeError::NotMade(keeper.health().refusal()))
        }
        Err(Failed::Within(written)) => {
            keeper.fail("the store could not commit a change");
            let after = written.events.last().map(|event| event.position);
            match keeper.fate(before, after) {
                Fate::NotMade => Err(ChangeError::NotMade(keeper.health().refusal())),
                Fate::Unknown => Err(ChangeError::Store(keeper.health().refusal())),
                Fate::Made => {
                    finish(shared, &written);
                    // Only a copy in memory has read it, so it may not be on the disk.
                    if keeper.state() == State::Frozen {
                        Err(ChangeError::Store(keeper.health().refusal()))
                    } else {
                        Ok(())
                    }
                }
            }
        }
    }
}

fn finish(shared: &Shared, written: &Written) {
    shared.made_at.fetch_max(written.clock.0, Ordering::AcqRel);
    shared.deliver(&written.events);
}

/// Makes all changes of a group in one transaction. Nothing of the group is kept if one of them meets a failure of the
/// store.
fn prepare(database: &Database, group: &mut [ChangeJob], shared: &Shared) -> Result<(WriteTransaction, Written), StoreError> {
    let mut transaction = database.begin_write().map_err(|e| tables::failed(e.into()))?;
    transaction
        .set_durability(redb::Durability::Immediate)
        .map_err(|e| tables::failed(e.into()))?;
    let written = {
        let mut tables = WriteTables::open(&transaction, shared.clock.now().wall)?;
        for change in group {
            change.make(&mut tables)?;
        }
        tables.finish()?
    };
    Ok((transaction, written))
}

/// Makes it durable.
fn commit(transaction: WriteTransaction, written: Written) -> Result<Written, Failed> {
    if written.writes == 0 {
        let aborted = transaction.abort();
        return aborted.map(|()| written).map_err(|e| Failed::Before(tables::failed(e.into())));
    }
    match catch_unwind(AssertUnwindSafe(|| transaction.commit())) {
        Ok(Ok(())) => Ok(written),
        Ok(Err(_)) | Err(_) => Err(Failed::Within(written)),
    }
}
