//! The trail of this process: what hands entries over, and what is known of the writer. The writer is a thread of its own
//! ([`super::writer`]), so that no request waits for the disk unless it is told to.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::clock::{Clock, instant};
use crate::base::ids::GatewayId;

use super::body::CapturedBodies;
use super::checkpoint::{CheckpointVerifier, KeyError, public_key_of};
use super::disk::{RealDisk, TrailDisk};
use super::others::{OtherKept, OtherRefused, keep_other, published};
use super::recovery;
use super::settings::{AuditSettings, Durable, OnFull};
use super::writer::{Message, PROMPT, Writer};

/// A chunk is handed over when it is this full, as with access lines.
const CHUNK: usize = 64 * 1_024;

/// Most entries of one worker that are not written: what it makes in more than two seconds at 25,000 requests a second.
const MAX_UNWRITTEN: u64 = 65_536;

/// Most bytes of one worker's entries and bodies that are not written.
const MAX_UNWRITTEN_BYTES: u64 = 32 * 1_024 * 1_024;

/// Longest time for ending the writer of a trail that nobody has stopped.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Longest members of an entry. With what the writer adds, a line stays below 64 KiB, which is one block of a closed segment.
pub const MAX_ENTRY: usize = 60 * 1_024;

/// What the writer adds at most: the number, the gateway, and what is said of two bodies.
const MAX_ADDED: usize = 4_096;

/// Why there is no trail to write.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    #[error("another durward writes the audit trail in {0}")]
    InUse(PathBuf),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "{path}: {what}. The audit trail is not continued, so that the evidence stays as it is: keep the directory, see \
         `durward audit verify`, and start with another `audit.directory`"
    )]
    Damaged { path: PathBuf, what: String },
    #[error("the audit trail cannot be written now; nothing was changed")]
    NotWritten,
    #[error("the audit trail of this process has stopped")]
    Stopped,
}

impl TrailError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}

/// An entry is not on the disk, and whoever made it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail could not be written")]
pub struct NotRecorded;

/// Answers the entry's `seq` when the entry is on the disk. Dropping it changes nothing about the entry.
#[derive(Debug)]
pub struct DurableReceipt(oneshot::Receiver<Result<u64, NotRecorded>>);

impl DurableReceipt {
    fn failed() -> Self {
        let (answer, receipt) = oneshot::channel();
        let _ = answer.send(Err(NotRecorded));
        Self(receipt)
    }
}

impl Future for DurableReceipt {
    type Output = Result<u64, NotRecorded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(NotRecorded)))
    }
}

/// Entries on their way to the writer. Each is a line: the members that its maker knows.
#[derive(Default)]
pub(super) struct EntryChunk {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: u64,
    /// The bodies of the entries with these numbers in the chunk, in order.
    pub(super) bodies: Vec<(u64, CapturedBodies)>,
    /// Who waits for the last entry.
    pub(super) waiter: Option<oneshot::Sender<Result<u64, NotRecorded>>>,
    pub(super) weight: u64,
    /// Where the writer counts what it has dealt with.
    pub(super) budget: Arc<Budget>,
}

/// What the writer has dealt with of one producer's entries.
#[derive(Debug, Default)]
pub(super) struct Budget {
    pub(super) entries: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// What the writer tells.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// Requests that were refused since they could not be recorded.
    pub(super) refused: AtomicU64,
    /// The disk does not take entries.
    pub(super) failing: AtomicBool,
    /// When the oldest entry was written that is not yet synced, in milliseconds of the wall clock; 0 if all are.
    pub(super) unsynced_since: AtomicI64,
    pub(super) checkpoint_at: AtomicI64,
    pub(super) checkpoint: Mutex<Option<String>>,
}

/// Figures of the trail, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrailFigures {
    /// Entries written since the start of this process.
    pub entries: u64,
    pub bytes: u64,
    /// Entries that could not be written.
    pub dropped: u64,
    /// Requests that were refused since they could not be recorded.
    pub refused: u64,
    pub failing: bool,
    /// How long the oldest written entry has not been on the disk.
    pub unsynced: Duration,
    /// The age of the newest checkpoint, since the start of this process if it made none.
    pub checkpoint_age: Duration,
}

/// The audit trail of this process.
pub struct Trail {
    settings: AuditSettings,
    clock: Arc<dyn Clock>,
    state: Arc<State>,
    queue: Sender<Message>,
    producer: Mutex<Producer>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Trail {
    /// Opens the trail for writing: takes its lock, continues where the last process ended, tells what a crash left out, and
    /// starts the writer.
    ///
    /// # Errors
    /// When another process writes it, a file cannot be used, or its files are not what its newest checkpoint says.
    pub fn open(settings: AuditSettings, gateway: &GatewayId, clock: Arc<dyn Clock>) -> Result<Arc<Self>, TrailError> {
        Self::open_on(Arc::new(RealDisk), settings, gateway, clock)
    }

    fn open_on(
        disk: Arc<dyn TrailDisk>,
        settings: AuditSettings,
        gateway: &GatewayId,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, TrailError> {
        let state = Arc::<State>::default();
        let now = clock.now().wall;
        state.checkpoint_at.store(now.0, Ordering::Relaxed);
        let recovered = recovery::recover(&settings, gateway, now)?;
        let (queue, messages) = channel();
        let writer = Writer::new(settings.clone(), recovered, state.clone(), clock.clone(), disk, queue.clone())?;
        let thread = std::thread::Builder::new()
            .name("durward-audit".into())
            .spawn(move || writer.run(&messages))
            .map_err(TrailError::io(&settings.directory))?;
        let producer = Producer::new(queue.clone(), state.clone());
        Ok(Arc::new(Self {
            settings,
            clock,
            state,
            queue,
            producer: Mutex::new(producer),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// What one worker hands its entries over with.
    #[must_use]
    pub fn worker(&self) -> WorkerTrail {
        WorkerTrail {
            refuses: self.settings.on_full == OnFull::Refuse,
            each: self.settings.durable == Durable::Each,
            chunk: match self.settings.durable {
                Durable::Within(within) if within >= PROMPT => CHUNK,
                Durable::Within(_) | Durable::Each => 1,
            },
            state: self.state.clone(),
            producer: RefCell::new(Producer::new(self.queue.clone(), self.state.clone())),
        }
    }

    #[must_use]
    pub const fn settings(&self) -> &AuditSettings {
        &self.settings
    }

    /// Hands an entry over. Never waits; an entry that finds no room is counted as dropped.
    pub fn append(&self, members: &[u8]) {
        let mut producer = self.producer();
        producer.push(|out| out.extend_from_slice(members), CapturedBodies::default());
        producer.hand_over(None);
    }

    /// Hands an entry over and tells when it is on the disk.
    #[must_use]
    pub fn append_durable(&self, members: &[u8]) -> DurableReceipt {
        self.producer().push_durable(|out| out.extend_from_slice(members))
    }

    fn producer(&self) -> std::sync::MutexGuard<'_, Producer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an entry that must not be lost can be written now, as far as is known.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.state.failing.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn figures(&self) -> TrailFigures {
        let now = self.clock.now().wall;
        let since = |at: &AtomicI64| {
            let at = at.load(Ordering::Relaxed);
            Duration::from_millis(u64::try_from(now.0.saturating_sub(at)).unwrap_or(0))
        };
        let unsynced = self.state.unsynced_since.load(Ordering::Relaxed) != 0;
        TrailFigures {
            entries: self.state.entries.load(Ordering::Relaxed),
            bytes: self.state.bytes.load(Ordering::Relaxed),
            dropped: self.state.dropped.load(Ordering::Relaxed),
            refused: self.state.refused.load(Ordering::Relaxed),
            failing: !self.is_writable(),
            unsynced: if unsynced {
                since(&self.state.unsynced_since)
            } else {
                Duration::ZERO
            },
            checkpoint_age: since(&self.state.checkpoint_at),
        }
    }

    /// The newest checkpoint, for the other gateways.
    #[must_use]
    pub fn newest_checkpoint(&self) -> Option<String> {
        self.state.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the other gateways keep: the newest checkpoint and the verifier key.
    #[must_use]
    pub fn published_checkpoint(&self) -> Option<String> {
        let key = CheckpointVerifier::read(&public_key_of(&self.settings.directory)).ok()?;
        Some(published(&self.newest_checkpoint()?, &key))
    }

    /// Keeps what another gateway published.
    ///
    /// # Errors
    /// When it is no checkpoint, contradicts the one that is kept, or cannot be written.
    pub fn keep_other(&self, text: &str) -> Result<OtherKept, OtherRefused> {
        keep_other(&self.settings.directory, text)
    }

    /// Removes the bodies of a request and records it with `who` (`,"who":{…}`). Answers how many bodies were removed.
    /// Blocks until it is done.
    ///
    /// # Errors
    /// When a file cannot be written, or the writer has ended.
    pub fn erase(&self, request_id: &str, who: &[u8]) -> Result<u64, TrailError> {
        let (answer, done) = channel();
        let erase = Message::Erase {
            request_id: request_id.to_owned(),
            who: who.to_vec(),
            answer,
        };
        self.queue.send(erase).map_err(|_| TrailError::Stopped)?;
        done.recv().map_err(|_| TrailError::Stopped)?
    }

    /// Writes everything that was handed over, the entry that the process ends, and a checkpoint. Blocks, at most for `deadline`.
    pub fn stop(&self, deadline: Duration) {
        let (answer, done) = channel();
        // A little is left for the answer.
        let end = instant() + deadline.mul_f32(0.9);
        if self.queue.send(Message::Stop { deadline: end, answer }).is_err() {
            return;
        }
        match done.recv_timeout(deadline) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    let _ = thread.join();
                }
            }
            Err(RecvTimeoutError::Timeout) => tracing::error!("the audit trail was not written to its end"),
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.stop(STOP_TIME);
    }
}

/// Collects the entries of one thread, and bounds what is not yet written.
struct Producer {
    queue: Sender<Message>,
    state: Arc<State>,
    budget: Arc<Budget>,
    chunk: EntryChunk,
    entries: u64,
    bytes: u64,
    /// Places of requests that are going on (`on_full = "refuse"`).
    reserved: u64,
}

impl Producer {
    fn new(queue: Sender<Message>, state: Arc<State>) -> Self {
        let budget = Arc::<Budget>::default();
        Self {
            queue,
            state,
            chunk: EntryChunk {
                budget: budget.clone(),
                ..EntryChunk::default()
            },
            budget,
            entries: 0,
            bytes: 0,
            reserved: 0,
        }
    }

    fn has_room(&self) -> bool {
        let unwritten = self.entries.saturating_sub(self.budget.entries.load(Ordering::Acquire));
        let bytes = self.bytes.saturating_sub(self.budget.bytes.load(Ordering::Acquire));
        unwritten + self.reserved < MAX_UNWRITTEN && bytes < MAX_UNWRITTEN_BYTES
    }

    /// Says whether the entry was taken.
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>), bodies: CapturedBodies) -> bool {
        if !self.has_room() {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let before = self.chunk.bytes.len();
        write(&mut self.chunk.bytes);
        let length = self.chunk.bytes.len() - before;
        if length > MAX_ENTRY - MAX_ADDED {
            self.chunk.bytes.truncate(before);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.chunk.bytes.push(b'\n');
        let weight = length as u64 + bodies.weight() as u64;
        if !bodies.is_empty() {
            self.chunk.bodies.push((self.chunk.entries, bodies));
        }
        self.chunk.entries += 1;
        self.chunk.weight += weight;
        self.entries += 1;
        self.bytes += weight;
        true
    }

    fn push_durable(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> DurableReceipt {
        if !self.push(write, CapturedBodies::default()) {
            return DurableReceipt::failed();
        }
        let (answer, receipt) = oneshot::channel();
        self.hand_over(Some(answer));
        DurableReceipt(receipt)
    }

    fn hand_over(&mut self, waiter: Option<oneshot::Sender<Result<u64, NotRecorded>>>) {
        if self.chunk.entries == 0 {
            return;
        }
        let next = EntryChunk {
            bytes: Vec::with_capacity(self.chunk.bytes.len().min(CHUNK) + CHUNK / 64),
            budget: self.budget.clone(),
            ..EntryChunk::default()
        };
        let mut full = std::mem::replace(&mut self.chunk, next);
        full.waiter = waiter;
        let entries = full.entries;
        // The writer ends only when the process does.
        if self.queue.send(Message::Chunk(full)).is_err() {
            self.state.dropped.fetch_add(entries, Ordering::Relaxed);
        }
    }
}

/// What one worker hands its entries over with. `!Sync`: it belongs to the worker's thread.
pub struct WorkerTrail {
    refuses: bool,
    each: bool,
    /// Bytes of entries that are handed over at once, without waiting for [`tick`](Self::tick).
    chunk: usize,
    state: Arc<State>,
    producer: RefCell<Producer>,
}

impl fmt::Debug for WorkerTrail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerTrail").finish_non_exhaustive()
    }
}

impl WorkerTrail {
    /// Whether a request may begin. With `on_full = "refuse"` it takes a place for the request's entry, which
    /// [`push`](Self::push) gives back.
    #[must_use]
    pub fn admits(&self) -> bool {
        if !self.refuses {
            return true;
        }
        let mut producer = self.producer.borrow_mut();
        if self.state.failing.load(Ordering::Relaxed) || !producer.has_room() {
            self.state.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        producer.reserved += 1;
        true
    }

    /// Whether a request waits for its entry before it is answered (`durable = "each"`).
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.each
    }

    /// Whether what cannot be recorded is refused.
    #[must_use]
    pub const fn refuses(&self) -> bool {
        self.refuses
    }

    /// Hands the entry of a request over: `write` appends its members. Never waits.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>), bodies: CapturedBodies) {
        let mut producer = self.producer.borrow_mut();
        producer.reserved = producer.reserved.saturating_sub(1);
        producer.push(write, bodies);
        if producer.chunk.bytes.len() >= self.chunk {
            producer.hand_over(None);
        }
    }

    /// Hands an entry over that somebody waits for.
    #[must_use]
    pub fn push_durable(&self, write: impl FnOnce(&mut Vec<u8>)) -> DurableReceipt {
        self.producer.borrow_mut().push_durable(write)
    }

    /// Hands over what was collected; the worker calls it about every 100 ms.
    pub fn tick(&self) {
        self.producer.borrow_mut().hand_over(None);
    }
}

impl Drop for WorkerTrail {
    fn drop(&mut self) {
        self.tick();
    }
}

#[cfg(test)]
mod tests;
