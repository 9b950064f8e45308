//! The writer's thread: gives entries their numbers and writes them in batches. It never waits for the disk: another thread
//! ([`super::syncer`]) syncs what was written, and signs checkpoints.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock::{Clock, UnixMillis, instant};
use crate::telemetry::Output;
use crate::telemetry::members::{Timestamp, text};

use super::archivist::{ArchiveJob, Archivist};
use super::batch::{Batch, Losses, Waiter, WaitingFor};
use super::body::BodyRecorder;
use super::disk::TrailDisk;
use super::open_files::OpenFiles;
use super::recovery::Recovered;
use super::settings::{AuditSettings, Durable, OnFull};
use super::syncer::{SignedNote, SyncJob, Syncer, ToSign, TreeDone, TreeJob};
use super::trail::{EntryChunk, NotRecorded, State, TrailError};
use super::tree::{Frontier, SUBTREE};

mod failing;
mod stopping;

use failing::CANNOT_WRITE;

/// Most bytes of entries that one batch takes; it is written with one call.
const BATCH: usize = 4 * 1_024 * 1_024;

/// Most messages that are taken before something is written.
const MAX_MESSAGES: usize = 1_024;

/// Most bytes that are written and may not be on the disk. They stay in memory, so that they can be written again.
const MAX_UNSYNCED: u64 = 64 * 1_024 * 1_024;

/// With so many bytes the next sync begins before its time.
const EARLY_SYNC: u64 = 16 * 1_024 * 1_024;

/// The same of hashes, which checkpoints bring to the disk: of about 250,000 entries.
const MAX_UNSYNCED_HASHES: u64 = 8 * 1_024 * 1_024;

/// What of `durable` is left for the hand-over from the workers and for the disk.
const HAND_OVER: Duration = Duration::from_millis(250);

/// With a shorter `durable` than this, workers hand each entry over at once, and half of the time is for the disk.
pub(super) const PROMPT: Duration = Duration::from_millis(300);

/// How often the writer tries again when the disk takes nothing.
const RETRY: Duration = Duration::from_millis(250);

/// How often old segments are looked for.
const RETENTION: Duration = Duration::from_secs(3_600);

/// What the writer is asked to do, or told.
pub(super) enum Message {
    Chunk(EntryChunk),
    Erase {
        request_id: String,
        who: Vec<u8>,
        answer: Sender<Result<u64, TrailError>>,
    },
    /// An entry that must be on the disk before something else is done.
    Note {
        kind: &'static str,
        members: Vec<u8>,
        answer: Sender<bool>,
    },
    /// Nothing more is to be written to the segments of bodies that there are. Answered when they are on the disk.
    EndBodies(Sender<bool>),
    Synced(io::Result<()>),
    TreeDone(TreeDone),
    Stop {
        deadline: Instant,
        answer: Sender<()>,
    },
}

/// The sync that is going on.
struct RunningSync {
    /// Entries that it covers.
    size: u64,
    began: UnixMillis,
    /// Whether its end shows that a disk that failed works again.
    shows_health: bool,
    has_tree: bool,
    /// Whether it signs the end of a segment.
    ends_segment: bool,
}

pub(super) struct Writer {
    settings: AuditSettings,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    /// `,"gateway":"…"`, with which every entry begins after its number.
    gateway: Vec<u8>,
    /// What was handed over and is in no batch.
    pending: VecDeque<EntryChunk>,
    batch: Batch,
    recorder: BodyRecorder,
    /// The tree with the entries of the batch; [`written`](Self::written) without them.
    frontier: Frontier,
    written: Frontier,
    files: OpenFiles,
    /// Entries of the segment that has not begun: readers do not find them yet, so they are not counted.
    unseen: u64,
    /// The tree at the end of the segment that is ending.
    ending: Frontier,
    /// Who waits until a written entry is on the disk, in the order of the entries.
    waiters: VecDeque<WaitingFor>,
    body_waiters: Vec<Sender<bool>>,
    syncer: Syncer,
    running: Option<RunningSync>,
    archivist: Archivist,
    stdout: Option<Output>,
    timestamp: Timestamp,
    /// When the oldest entry was written that no sync covers which has begun.
    unsynced: Option<Instant>,
    /// Entries of the newest checkpoint.
    signed: u64,
    next_checkpoint: Instant,
    next_retention: Instant,
    /// Until then nothing is tried, since the disk failed.
    retry_at: Option<Instant>,
    /// A sync failed: what it was for may not be on the disk, whatever the next one says.
    must_rewrite: bool,
    losses: Losses,
    counted_drops: u64,
    counted_refusals: u64,
    /// The last segment is not ended any more, so that `stop` is its last entry.
    stopping: bool,
}

impl Writer {
    pub(super) fn new(
        settings: AuditSettings,
        recovered: Recovered,
        state: Arc<State>,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn TrailDisk>,
        queue: Sender<Message>,
    ) -> Result<Self, TrailError> {
        let failed = TrailError::io(&settings.directory);
        let started = Self::start(settings.clone(), recovered, state, clock, disk, queue);
        let mut writer = started.map_err(failed)?;
        writer.add_own("start", concat!(",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"").as_bytes());
        writer.flush();
        if writer.retry_at.is_some() {
            let error = io::Error::new(io::ErrorKind::StorageFull, "the first entry could not be written");
            return Err(TrailError::io(settings.directory)(error));
        }
        Ok(writer)
    }

    fn start(
        settings: AuditSettings,
        recovered: Recovered,
        state: Arc<State>,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn TrailDisk>,
        queue: Sender<Message>,
    ) -> io::Result<Self> {
        let lock: Arc<File> = Arc::new(recovered.lock);
        let archivist = Archivist::start(&settings, queue.clone(), lock.clone())?;
        for path in recovered.unclosed {
            archivist.hand_over(ArchiveJob::Close(path));
        }
        archivist.hand_over(ArchiveJob::Retain);
        let stdout = settings
            .stdout
            .then(|| Output::start("durward-audit-out", io::stdout()))
            .transpose()?;
        *state.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = recovered.checkpoint;
        let frontier = recovered.frontier;
        let mut writer = Self {
            gateway: format!(",\"gateway\":\"{}\"", recovered.name).into_bytes(),
            pending: VecDeque::new(),
            batch: Batch::default(),
            recorder: BodyRecorder::default(),
            written: frontier.clone(),
            files: OpenFiles::new(&settings, recovered.segment, recovered.nodes, recovered.bodies, disk.clone())?,
            unseen: 0,
            ending: frontier.clone(),
            waiters: VecDeque::new(),
            body_waiters: Vec::new(),
            syncer: Syncer::start(settings.directory.clone(), recovered.signer, disk, clock.clone(), queue, lock)?,
            running: None,
            archivist,
            stdout,
            timestamp: Timestamp::new(),
            unsynced: None,
            signed: frontier.size(),
            next_checkpoint: instant() + settings.checkpoint,
            next_retention: instant() + RETENTION,
            retry_at: None,
            must_rewrite: false,
            losses: Losses::default(),
            counted_drops: 0,
            counted_refusals: 0,
            stopping: false,
            frontier,
            settings,
            state,
            clock,
        };
        let at_most = match writer.settings.durable {
            Durable::Within(within) => within.as_millis(),
            Durable::Each => 0,
        };
        for gap in recovered.gaps {
            let members = format!(",\"reason\":\"{}\"{},\"at_most_ms\":{at_most}", gap.reason, gap.members);
            writer.add_own("gap", members.as_bytes());
        }
        Ok(writer)
    }

    /// Writes until the process stops.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(self.pause()) {
                Ok(message) => {
                    for message in std::iter::once(message).chain(messages.try_iter().take(MAX_MESSAGES)) {
                        if let Message::Stop { deadline, answer } = message {
                            self.stop(messages, deadline);
                            let _ = answer.send(());
                            return;
                        }
                        self.take(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The threads of this trail have ended, and all who had it are gone.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.work();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Chunk(chunk) => self.take_chunk(chunk),
            Message::Erase { request_id, who, answer } => {
                // What was handed over before is in the files then.
                self.write_pending();
                let refused = self.archivist.hand_over(ArchiveJob::Erase { request_id, who, answer });
                if let Some(ArchiveJob::Erase { answer, .. }) = refused {
                    let _ = answer.send(Err(TrailError::NotWritten));
                }
            }
            Message::Note { kind, members, answer } => self.add_note(kind, &members, answer),
            Message::EndBodies(answer) => {
                self.files.bodies().ask_end();
                self.body_waiters.push(answer);
            }
            Message::Synced(synced) => self.end_sync(synced),
            Message::TreeDone(done) => drop(self.end_tree(done)),
            Message::Stop { answer, .. } => drop(answer.send(())),
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let now = instant();
        if let Some(at) = self.retry_at {
            return at.saturating_duration_since(now);
        }
        if !self.pending.is_empty() && self.has_room() {
            return Duration::ZERO;
        }
        if self.running.is_some() {
            // Its end is a message.
            return self.settings.checkpoint;
        }
        let sync = self.unsynced.map(|since| since + self.sync_interval());
        let due = sync.map_or(self.next_checkpoint, |sync| sync.min(self.next_checkpoint));
        due.saturating_duration_since(now)
    }

    fn sync_interval(&self) -> Duration {
        match self.settings.durable {
            Durable::Within(within) if within < PROMPT => within / 2,
            Durable::Within(within) => within.saturating_sub(HAND_OVER),
            Durable::Each => Duration::ZERO,
        }
    }

    /// Whether more can be kept in memory until it is on the disk.
    fn has_room(&self) -> bool {
        self.files.unsynced() < MAX_UNSYNCED
    }

    /// Writes a batch of what was taken, and does what is due.
    fn work(&mut self) {
        let now = instant();
        if self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.retry_at = None;
        if self.must_rewrite && !self.rewrite() {
            return;
        }
        if self.has_room() {
            self.tell_losses();
            for failure in self.archivist.failures() {
                let mut members = Vec::new();
                text(&mut members, b",\"why\":\"", Some(&failure));
                self.add_own("checkpoint_failed", &members);
            }
            self.fill_batch();
            self.flush();
        }
        if now >= self.next_retention {
            self.next_retention = now + RETENTION;
            self.archivist.hand_over(ArchiveJob::Retain);
        }
        self.sync_what_is_due(now);
    }

    /// Makes entries of what was dropped, lost and refused.
    fn tell_losses(&mut self) {
        let dropped = self.state.dropped.load(Ordering::Relaxed);
        let refused = self.state.refused.load(Ordering::Relaxed);
        self.losses.dropped += dropped - std::mem::replace(&mut self.counted_drops, dropped);
        self.losses.refused += refused - std::mem::replace(&mut self.counted_refusals, refused);
        let losses = std::mem::take(&mut self.losses);
        let to = self.now_text();
        if losses.dropped > 0 {
            self.add_gap("dropped", losses.dropped, "");
        }
        if losses.lost > 0 {
            let from = losses.lost_from.as_deref().unwrap_or(&to);
            self.add_gap("disk_full", losses.lost, &format!(",\"from\":\"{from}\",\"to\":\"{to}\""));
        }
        if losses.refused > 0 {
            self.add_gap("refused", losses.refused, "");
        }
        self.batch.losses.add(losses);
    }

    fn add_gap(&mut self, reason: &str, entries: u64, times: &str) {
        let mut members = format!(",\"reason\":\"{reason}\",\"entries\":{entries}");
        if let Some(after) = self.frontier.size().checked_sub(1) {
            members.push_str(&format!(",\"after_seq\":{after}"));
        }
        members.push_str(times);
        self.add_own("gap", members.as_bytes());
    }

    fn now_text(&mut self) -> String {
        let mut text = Vec::new();
        self.timestamp.write(self.clock.now().wall, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Adds an entry of the writer itself.
    fn add_own(&mut self, kind: &str, members: &[u8]) {
        let mut entry = format!(",\"time\":\"{}\",\"kind\":\"{kind}\"", self.now_text()).into_bytes();
        entry.extend_from_slice(members);
        self.batch.add(&mut self.frontier, &self.gateway, &entry);
        self.batch.own += 1;
    }

    /// Adds an entry of the trail's own threads, which wait for it.
    fn add_note(&mut self, kind: &str, members: &[u8], answer: Sender<bool>) {
        if self.retry_at.is_some() {
            let _ = answer.send(false);
            return;
        }
        let seq = self.frontier.size();
        self.add_own(kind, members);
        let waiter = Waiter::Note(answer);
        self.batch.waiters.push(WaitingFor { seq, waiter });
    }

    fn take_chunk(&mut self, mut chunk: EntryChunk) {
        // Whoever is served all the same need not wait for the next try.
        if self.retry_at.is_some()
            && self.settings.on_full == OnFull::DropAndCount
            && let Some(waiter) = chunk.waiter.take()
        {
            let _ = waiter.send(Err(NotRecorded));
        }
        self.pending.push_back(chunk);
    }

    /// Takes as much into the batch as it holds.
    fn fill_batch(&mut self) {
        while self.batch.lines.len() < BATCH && self.has_room() {
            let Some(chunk) = self.pending.pop_front() else { return };
            self.add_chunk(chunk);
        }
    }

    fn write_pending(&mut self) {
        while self.retry_at.is_none() && self.has_room() && !self.pending.is_empty() {
            self.fill_batch();
            self.flush();
        }
    }

    fn add_chunk(&mut self, chunk: EntryChunk) {
        let mut bodies = chunk.bodies.into_iter().peekable();
        self.batch.lines.reserve(chunk.bytes.len() + chunk.bytes.len() / 8);
        let mut begin = 0;
        let entries =
            memchr::memchr_iter(b'\n', &chunk.bytes).filter_map(|end| chunk.bytes.get(std::mem::replace(&mut begin, end + 1)..end));
        for (number, members) in (0..).zip(entries) {
            let own = bodies.next_if(|(of, _)| *of == number).map(|(_, bodies)| bodies);
            match own {
                None => self.batch.add(&mut self.frontier, &self.gateway, members),
                Some(own) => self
                    .batch
                    .add_with_bodies(&mut self.frontier, &self.gateway, members, own, &mut self.recorder),
            }
            if self.is_segment_full() {
                self.flush();
            }
        }
        if let Some(waiter) = chunk.waiter {
            self.add_waiter(Waiter::Receipt(waiter));
        }
        chunk.budget.entries.fetch_add(chunk.entries, Ordering::Release);
        chunk.budget.bytes.fetch_add(chunk.weight, Ordering::Release);
    }

    /// Adds who waits for the entry that was added last.
    fn add_waiter(&mut self, waiter: Waiter) {
        let is_lost = self.settings.on_full == OnFull::DropAndCount && self.retry_at.is_some();
        let Some(seq) = self.frontier.size().checked_sub(1).filter(|_| !is_lost) else {
            return waiter.answer(Err(NotRecorded));
        };
        let waiting = WaitingFor { seq, waiter };
        if self.written.size() > seq {
            // The segment was full with this entry, so it is written already.
            self.waiters.push_back(waiting);
        } else {
            self.batch.waiters.push(waiting);
        }
    }

    fn is_segment_full(&self) -> bool {
        let length = self.files.segment_length() + self.batch.lines.len() as u64;
        length >= self.settings.segment && self.frontier.size().is_multiple_of(SUBTREE)
    }

    /// Writes the batch. When the disk does not take it, the files are as before, and the batch is lost or waits, as `on_full`
    /// says.
    fn flush(&mut self) {
        if self.batch.entries == 0 {
            return;
        }
        if let Err(error) = self.files.write(&self.batch, self.written.size()) {
            self.fail_write(&error);
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.written = self.frontier.clone();
        if self.files.ending().is_some() {
            self.unseen += batch.entries;
        } else {
            self.state.entries.fetch_add(batch.entries, Ordering::Relaxed);
        }
        self.state.bytes.fetch_add(batch.lines.len() as u64, Ordering::Relaxed);
        self.unsynced.get_or_insert_with(instant);
        let now = self.clock.now().wall.0.max(1);
        let _ = self
            .state
            .unsynced_since
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.waiters.extend(batch.waiters.drain(..));
        if let Some(stdout) = &self.stdout {
            stdout.send(batch.lines.clone(), batch.entries);
        }
        self.files.keep(batch);
        if self.is_segment_full() && !self.stopping && self.files.ending().is_none() {
            match self.files.begin_next(self.written.size()) {
                Ok(()) => self.ending = self.written.clone(),
                Err(error) => tracing::error!(%error, "the next segment of the audit trail cannot be made; the last one goes on"),
            }
        }
    }

    /// Begins the next sync, if none is going on and somebody or something waits for one.
    fn sync_what_is_due(&mut self, now: Instant) {
        if self.files.bodies().is_ended() {
            self.answer_body_waiters(true);
        }
        if self.running.is_some() || self.retry_at.is_some() {
            return;
        }
        let sign = now >= self.next_checkpoint;
        if sign {
            self.next_checkpoint = now + self.settings.checkpoint;
        }
        let sign = sign && self.signed != self.written.size();
        let is_due = self.unsynced.is_some_and(|since| {
            now.saturating_duration_since(since) >= self.sync_interval() || self.files.unsynced() >= EARLY_SYNC || self.is_failing()
        });
        let is_awaited = !self.waiters.is_empty() || !self.body_waiters.is_empty();
        if sign || is_due || is_awaited || self.is_failing() || self.files.ending().is_some() {
            self.sync(sign);
        }
    }

    /// Begins a sync of all that was written. While a segment ends, it is a sync of that segment, and signs its end.
    fn sync(&mut self, sign: bool) {
        if let Err(error) = self.files.write_held_nodes() {
            return self.note_failure(&error, CANNOT_WRITE);
        }
        let ending = self.files.ending();
        let tree = ending.map_or(&self.written, |_| &self.ending);
        let size = tree.size();
        let root = (ending.is_some() || sign).then(|| tree.root());
        let has_tree = root.is_some() || self.files.unsynced_hashes() >= MAX_UNSYNCED_HASHES;
        let files = self.files.begin_sync();
        let tree = has_tree.then(|| TreeJob {
            files: self.files.begin_hash_sync(),
            sign: root.filter(|_| size != self.signed).map(|root| ToSign {
                size,
                root,
                segment: ending.unwrap_or(self.files.first()),
            }),
            begins: ending.map(|_| self.files.first()),
        });
        self.running = Some(RunningSync {
            size,
            began: self.clock.now().wall,
            shows_health: self.is_failing() && ending.is_none(),
            has_tree,
            ends_segment: ending.is_some(),
        });
        if ending.is_none() {
            self.unsynced = None;
        }
        if !self.syncer.hand_over(SyncJob { files, tree }) {
            self.end_sync(Err(io::Error::other("the thread that syncs has died")));
        }
    }

    fn end_sync(&mut self, synced: io::Result<()>) {
        if let Some(ended) = self.files.end_sync(synced.is_ok()) {
            self.archivist.hand_over(ArchiveJob::Close(ended));
        }
        let Some(running) = self.running.take() else { return };
        if let Err(error) = synced {
            self.files.end_hash_sync(false);
            self.fail_sync(&error);
            return;
        }
        let since = if self.written.size() > running.size {
            running.began.0.max(1)
        } else {
            0
        };
        self.state.unsynced_since.store(since, Ordering::Relaxed);
        while self.waiters.front().is_some_and(|waiting| waiting.seq < running.size) {
            if let Some(waiting) = self.waiters.pop_front() {
                waiting.waiter.answer(Ok(waiting.seq));
            }
        }
        if running.shows_health && self.retry_at.is_none() {
            self.recover();
        }
        self.running = running.has_tree.then_some(running);
    }

    /// Says whether all of it is done.
    fn end_tree(&mut self, done: TreeDone) -> bool {
        // A checkpoint that was on its way when the segment became full is not the one of its end.
        let ends_segment = self.running.take().is_some_and(|running| running.ends_segment);
        self.files.end_hash_sync(!matches!(done, TreeDone::NotSynced(_)));
        match done {
            TreeDone::NotSynced(error) => self.fail_sync(&error),
            TreeDone::NotSigned(error) if ends_segment => self.fail_ending(&error),
            TreeDone::NotSigned(error) => {
                tracing::error!(%error, alarm = "audit_not_written", "a checkpoint of the audit trail cannot be written");
            }
            TreeDone::NotBegun { signed, error } => {
                self.publish(signed);
                self.fail_ending(&error);
            }
            TreeDone::Done(signed) => {
                self.publish(signed);
                if ends_segment && let Some(full) = self.files.has_begun() {
                    self.state.entries.fetch_add(std::mem::take(&mut self.unseen), Ordering::Relaxed);
                    self.archivist.hand_over(ArchiveJob::Close(full));
                    self.archivist.hand_over(ArchiveJob::Retain);
                }
                return true;
            }
        }
        false
    }

    fn publish(&mut self, signed: Option<SignedNote>) {
        let Some(signed) = signed else { return };
        self.signed = signed.size;
        self.state.checkpoint_at.store(signed.time.0, Ordering::Relaxed);
        self.archivist.hand_over(ArchiveJob::Publish(signed.note.clone()));
        *self.state.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(signed.note);
    }

    fn answer_body_waiters(&mut self, is_on_disk: bool) {
        for waiter in self.body_waiters.drain(..) {
            let _ = waiter.send(is_on_disk);
        }
    }
}
