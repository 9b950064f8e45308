//! Threads of the embedded store: one that writes, two that read, each behind a bounded queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::Database;
use tokio::sync::oneshot;

use crate::base::clock::{Clock, UnixMillis};
use crate::base::principal::Position;
use crate::store::{ChangeError, Event, EventSink, StoreError};

use super::tables::{self, WriteTables};

/// Threads that read. A read takes microseconds; the second one keeps look-ups moving while the
/// first walks a long list.
const READERS: usize = 2;

/// Jobs that may wait on each lane: as many as look-ups may be in flight by default.
const QUEUE: usize = 512;

/// Most changes of one commit. A commit costs an `fsync` whatever it holds, so waiting changes share
/// one; 64 keep the transaction small.
const GROUP: usize = 64;

type ReadJob = Box<dyn FnOnce(&Database) + Send>;
type ChangeJob = Box<dyn Change>;

/// What the threads and the store share.
pub(super) struct Shared {
    sinks: RwLock<Vec<Arc<dyn EventSink>>>,
    applied: AtomicU64,
    clock: Arc<dyn Clock>,
    /// The latest time that anything in the file was made at, in milliseconds.
    made_at: AtomicI64,
}

impl Shared {
    pub(super) fn new(position: Position, made_at: UnixMillis, clock: Arc<dyn Clock>) -> Self {
        Self {
            sinks: RwLock::new(Vec::new()),
            applied: AtomicU64::new(position.0),
            clock,
            made_at: AtomicI64::new(made_at.0),
        }
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
    writer: Option<SyncSender<ChangeJob>>,
    readers: Vec<SyncSender<ReadJob>>,
    next_reader: AtomicUsize,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    pub(super) fn start(database: Arc<Database>, shared: Arc<Shared>) -> std::io::Result<Self> {
        let mut lanes = Self {
            writer: None,
            readers: Vec::new(),
            next_reader: AtomicUsize::new(0),
            threads: Vec::new(),
        };
        for _ in 0..READERS {
            let (jobs, queue) = sync_channel(QUEUE);
            lanes.readers.push(jobs);
            let database = Arc::clone(&database);
            lanes.spawn("store-read", move || read_all(&database, &queue))?;
        }
        let (jobs, queue) = sync_channel(QUEUE);
        lanes.writer = Some(jobs);
        lanes.spawn("store-write", move || write_all(&database, &queue, &shared))?;
        Ok(lanes)
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
            if !reply.is_closed() {
                let _ = reply.send(read(database));
            }
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
        change: impl FnOnce(&mut WriteTables<'_>) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, ChangeError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Pending {
            change: Some(change),
            result: None,
            reply,
        };
        let writer = self.writer.as_ref().ok_or_else(super::closed)?;
        writer.try_send(Box::new(job)).map_err(|_| busy())?;
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

    /// Tells the caller, after the commit and after the events.
    fn acknowledge(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Pending<T, F> {
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

    fn acknowledge(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            // A refusal stands whether or not the others could be written.
            (_, Some(Err(refusal))) => Err(refusal),
            (Ok(()), Some(made)) => made,
            (Ok(()), None) => Err(super::closed().into()),
            (Err(error), _) => Err(error.into()),
        };
        let _ = self.reply.send(result);
    }
}

fn read_all(database: &Database, queue: &Receiver<ReadJob>) {
    for job in queue {
        // A panic ends one read, whose caller hears that the reply was dropped; not the lane.
        let _ = catch_unwind(AssertUnwindSafe(|| job(database)));
    }
}

fn write_all(database: &Database, queue: &Receiver<ChangeJob>, shared: &Shared) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(GROUP - 1));
        let committed = catch_unwind(AssertUnwindSafe(|| commit(database, &mut group, shared)))
            .unwrap_or_else(|_| Err(StoreError::Unavailable("a change failed inside".into())));
        let outcome = match &committed {
            Ok(events) => {
                shared.deliver(events);
                Ok(())
            }
            Err(error) => Err(error.clone()),
        };
        for change in group {
            change.acknowledge(outcome.clone());
        }
    }
}

/// Makes all changes of a group in one transaction and commits it durably. Nothing of the group is
/// kept if one of them meets a failure of the store.
fn commit(database: &Database, group: &mut [ChangeJob], shared: &Shared) -> Result<Vec<Event>, StoreError> {
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
    if written.writes == 0 {
        transaction.abort().map_err(|e| tables::failed(e.into()))?;
    } else {
        transaction.commit().map_err(|e| tables::failed(e.into()))?;
        shared.made_at.fetch_max(written.clock.0, Ordering::AcqRel);
    }
    Ok(written.events)
}
