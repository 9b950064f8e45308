//! The writer's thread: gives entries their numbers, writes them in batches, syncs them in time, and signs checkpoints.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::base::clock::{Clock, instant};
use crate::base::text::push_decimal;
use crate::telemetry::Output;
use crate::telemetry::members::{Timestamp, text};

use super::archivist::{Archivist, Chore};
use super::bodies::BodySegments;
use super::body::CapturedBodies;
use super::checkpoint::CheckpointSigner;
use super::files::{append_to, replace, segment_file};
use super::recovery::{OpenSegment, Recovered};
use super::settings::{AuditSettings, Durable, OnFull};
use super::trail::{EntryChunk, NotRecorded, State, TrailError};
use super::tree::{Frontier, SUBTREE, leaf_hash};

/// Most bytes of entries that one batch takes; it is written with one call.
const BATCH: usize = 4 * 1_024 * 1_024;

/// What of `durable` is left for the hand-over from the workers and for the disk.
const HAND_OVER: Duration = Duration::from_millis(250);

/// With a shorter `durable` than this, workers hand each entry over at once, and half of the time is for the disk.
pub(super) const PROMPT: Duration = Duration::from_millis(300);

/// How often the writer tries again when the disk takes nothing.
const RETRY: Duration = Duration::from_millis(250);

/// What the writer is asked to do.
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
        members: String,
        answer: Sender<bool>,
    },
    Stop(Sender<()>),
}

/// Entries with their numbers, as they are written.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    leaves: Vec<u8>,
    nodes: Vec<u8>,
    bodies: Vec<u8>,
    entries: u64,
    /// Those of them that are the writer's own.
    own: u64,
    /// What its gap entries tell.
    losses: Losses,
    waiters: Vec<(oneshot::Sender<Result<u64, NotRecorded>>, u64)>,
}

/// What no entry tells yet.
#[derive(Default)]
struct Losses {
    /// Entries that found no room on their way to the writer.
    dropped: u64,
    /// Entries that the disk did not take.
    lost: u64,
    /// When the first of those was lost.
    lost_from: Option<String>,
    /// Requests that were refused since they could not be recorded.
    refused: u64,
}

impl Losses {
    fn add(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.lost += other.lost;
        self.lost_from = self.lost_from.take().or(other.lost_from);
        self.refused += other.refused;
    }
}

pub(super) struct Writer {
    settings: AuditSettings,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    /// `,"gateway":"…"`, with which every entry begins after its number.
    gateway: Vec<u8>,
    signer: CheckpointSigner,
    _lock: File,
    /// The tree with the entries of the batch; [`written`](Self::written) without them.
    frontier: Frontier,
    written: Frontier,
    segment: OpenSegment,
    nodes: File,
    nodes_length: u64,
    bodies: BodySegments,
    batch: Batch,
    archivist: Archivist,
    stdout: Option<Output>,
    timestamp: Timestamp,
    unsynced: Option<Instant>,
    signed: u64,
    next_checkpoint: Instant,
    retry_at: Option<Instant>,
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
        queue: Sender<Message>,
    ) -> Result<Self, TrailError> {
        let Recovered {
            lock,
            name,
            signer,
            frontier,
            segment,
            nodes,
            bodies,
            unclosed,
            checkpoint,
            gaps,
        } = recovered;
        let archivist = Archivist::start(&settings, queue).map_err(TrailError::io(&settings.directory))?;
        for path in unclosed {
            archivist.hand_over(Chore::Close(path));
        }
        archivist.hand_over(Chore::Retain);
        let stdout = if settings.stdout {
            Some(Output::start("durward-audit-out", io::stdout()).map_err(TrailError::io(&settings.directory))?)
        } else {
            None
        };
        *state.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = checkpoint;
        let signed = frontier.size();
        let mut writer = Self {
            bodies: BodySegments::new(&settings, bodies),
            gateway: format!(",\"gateway\":\"{name}\"").into_bytes(),
            nodes_length: nodes.metadata().map_err(TrailError::io(&settings.directory))?.len(),
            written: frontier.clone(),
            next_checkpoint: instant() + settings.checkpoint,
            settings,
            state,
            clock,
            signer,
            _lock: lock,
            frontier,
            segment,
            nodes,
            batch: Batch::default(),
            archivist,
            stdout,
            timestamp: Timestamp::new(),
            unsynced: None,
            signed,
            retry_at: None,
            losses: Losses::default(),
            counted_drops: 0,
            counted_refusals: 0,
            stopping: false,
        };
        for gap in gaps {
            let at_most = match writer.settings.durable {
                Durable::Within(within) => within,
                Durable::Each => Duration::ZERO,
            };
            let members = format!(
                ",\"reason\":\"{}\"{},\"at_most_ms\":{}",
                gap.reason,
                gap.members,
                at_most.as_millis()
            );
            writer.add_own("gap", members.as_bytes());
        }
        writer.add_own("start", concat!(",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"").as_bytes());
        writer.flush();
        if writer.retry_at.is_some() {
            let error = io::Error::new(io::ErrorKind::StorageFull, "the first entry could not be written");
            return Err(TrailError::io(&writer.settings.directory)(error));
        }
        Ok(writer)
    }

    /// Writes until the process stops.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(self.pause()) {
                Ok(message) => {
                    if self.take(message) {
                        return;
                    }
                    while self.batch.lines.len() < BATCH
                        && let Ok(message) = messages.try_recv()
                    {
                        if self.take(message) {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.stop();
                    return;
                }
            }
            self.work();
        }
    }

    /// Says whether that was the end.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Chunk(chunk) => self.add_chunk(chunk),
            Message::Erase { request_id, who, answer } => {
                self.flush();
                let _ = answer.send(self.erase(&request_id, &who));
            }
            Message::Note { kind, members, answer } => {
                let _ = answer.send(self.add_own_durably(kind, members.as_bytes()));
            }
            Message::Stop(answer) => {
                self.stop();
                let _ = answer.send(());
                return true;
            }
        }
        false
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let now = instant();
        let sync = self.unsynced.map(|since| since + self.sync_interval());
        [sync, Some(self.next_checkpoint), self.retry_at]
            .into_iter()
            .flatten()
            .map(|due| due.saturating_duration_since(now))
            .min()
            .unwrap_or(RETRY)
    }

    fn sync_interval(&self) -> Duration {
        match self.settings.durable {
            Durable::Within(within) if within < PROMPT => within / 2,
            Durable::Within(within) => within.saturating_sub(HAND_OVER),
            Durable::Each => Duration::ZERO,
        }
    }

    /// Writes what was taken and does what is due.
    fn work(&mut self) {
        let now = instant();
        if self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.tell_losses();
        for failure in self.archivist.failures() {
            let mut members = Vec::new();
            text(&mut members, b",\"why\":\"", Some(&failure));
            self.add_own("checkpoint_failed", &members);
        }
        if self.retry_at.is_some() && self.batch.entries == 0 {
            // Everything was written, and did not reach the disk.
            self.sync();
        }
        self.flush();
        if self
            .unsynced
            .is_some_and(|since| now.saturating_duration_since(since) >= self.sync_interval())
        {
            self.sync();
        }
        if now >= self.next_checkpoint {
            self.next_checkpoint = now + self.settings.checkpoint;
            self.sign();
        }
        if self.bodies.is_due(now) {
            self.archivist.hand_over(Chore::Retain);
        }
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
        self.add(&entry, None);
        self.batch.own += 1;
    }

    /// Says whether the entry is on the disk.
    fn add_own_durably(&mut self, kind: &str, members: &[u8]) -> bool {
        if self.retry_at.is_some() {
            return false;
        }
        self.add_own(kind, members);
        self.flush();
        self.retry_at.is_none() && self.sync()
    }

    fn add_chunk(&mut self, chunk: EntryChunk) {
        let mut bodies = chunk.bodies.into_iter().peekable();
        let entries = chunk.bytes.split(|byte| *byte == b'\n').filter(|members| !members.is_empty());
        for (number, members) in (0..).zip(entries) {
            let own = bodies.next_if(|(of, _)| *of == number).map(|(_, bodies)| bodies);
            self.add(members, own);
            if self.is_segment_full() {
                self.flush();
            }
        }
        if let Some(waiter) = chunk.waiter {
            let last = self.frontier.size() - 1;
            if self.written.size() > last {
                // The segment was full with this entry, so it is written already.
                let synced = self.sync();
                let _ = waiter.send(if synced { Ok(last) } else { Err(NotRecorded) });
            } else if self.settings.on_full == OnFull::DropAndCount && self.retry_at.is_some() {
                let _ = waiter.send(Err(NotRecorded));
            } else {
                self.batch.waiters.push((waiter, last));
            }
        }
        chunk.budget.entries.fetch_add(chunk.entries, Ordering::Release);
        chunk.budget.bytes.fetch_add(chunk.weight, Ordering::Release);
    }

    /// Gives an entry its number.
    fn add(&mut self, members: &[u8], bodies: Option<CapturedBodies>) {
        let seq = self.frontier.size();
        let begin = self.batch.lines.len();
        let lines = &mut self.batch.lines;
        lines.extend_from_slice(b"{\"seq\":");
        push_decimal(lines, seq);
        lines.extend_from_slice(&self.gateway);
        lines.extend_from_slice(members);
        if let Some(bodies) = bodies {
            let recorded = bodies.record();
            lines.extend_from_slice(&recorded.members);
            for line in recorded.lines {
                let out = &mut self.batch.bodies;
                out.extend_from_slice(b"{\"seq\":");
                push_decimal(out, seq);
                out.extend_from_slice(&line);
                out.extend_from_slice(b"}\n");
            }
        }
        lines.push(b'}');
        let leaf = leaf_hash(&lines[begin..]);
        lines.push(b'\n');
        self.batch.leaves.extend_from_slice(&leaf);
        if let Some(node) = self.frontier.push(leaf) {
            self.batch.nodes.extend_from_slice(&node);
        }
        self.batch.entries += 1;
    }

    fn is_segment_full(&self) -> bool {
        self.segment.length + self.batch.lines.len() as u64 >= self.settings.segment && self.frontier.size().is_multiple_of(SUBTREE)
    }

    /// Writes the batch. When the disk does not take it, the files are as before, and the batch is lost or waits, as `on_full`
    /// says.
    fn flush(&mut self) {
        if self.batch.entries == 0 {
            return;
        }
        if let Err(error) = self.write_batch() {
            self.fail(&error);
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        self.written = self.frontier.clone();
        self.segment.length += batch.lines.len() as u64;
        self.segment.leaves_length += batch.leaves.len() as u64;
        self.nodes_length += batch.nodes.len() as u64;
        self.state.entries.fetch_add(batch.entries, Ordering::Relaxed);
        self.state.bytes.fetch_add(batch.lines.len() as u64, Ordering::Relaxed);
        if self.unsynced.is_none() {
            self.unsynced = Some(instant());
            self.state.unsynced_since.store(self.clock.now().wall.0.max(1), Ordering::Relaxed);
        }
        if !batch.waiters.is_empty() || self.retry_at.is_some() {
            let synced = self.sync();
            for (waiter, seq) in batch.waiters {
                let _ = waiter.send(if synced { Ok(seq) } else { Err(NotRecorded) });
            }
        }
        if let Some(stdout) = &self.stdout {
            stdout.send(batch.lines, batch.entries);
        }
        if self.is_segment_full()
            && !self.stopping
            && let Err(error) = self.rotate()
        {
            tracing::error!(%error, "the next segment of the audit trail cannot be made; the last one goes on");
        }
    }

    fn write_batch(&mut self) -> io::Result<()> {
        self.bodies.write(&self.batch.bodies, self.written.size())?;
        (&self.segment.lines).write_all(&self.batch.lines)?;
        (&self.segment.leaves).write_all(&self.batch.leaves)?;
        (&self.nodes).write_all(&self.batch.nodes)
    }

    /// Undoes a half-written batch.
    fn fail(&mut self, error: &io::Error) {
        for (file, length) in [
            (&self.segment.lines, self.segment.length),
            (&self.segment.leaves, self.segment.leaves_length),
            (&self.nodes, self.nodes_length),
        ] {
            if let Err(error) = file.set_len(length) {
                tracing::error!(%error, "a file of the audit trail cannot be cut back to its last whole entry");
            }
        }
        self.bodies.undo();
        if self.retry_at.is_none() {
            tracing::error!(%error, directory = %self.settings.directory.display(), alarm = "audit_not_written", "the audit trail cannot be written");
            self.state.failing.store(true, Ordering::Relaxed);
        }
        self.retry_at = Some(instant() + RETRY);
        for (waiter, _) in self.batch.waiters.drain(..) {
            let _ = waiter.send(Err(NotRecorded));
        }
        // With `refuse`, whoever was admitted is recorded as soon as there is room; nobody else is admitted until then.
        if self.settings.on_full == OnFull::DropAndCount {
            let batch = std::mem::take(&mut self.batch);
            self.frontier = self.written.clone();
            let lost = batch.entries - batch.own;
            self.state.dropped.fetch_add(lost, Ordering::Relaxed);
            self.counted_drops += lost;
            // What the batch would have told is told later.
            self.losses.add(batch.losses);
            self.losses.lost += lost;
            if self.losses.lost_from.is_none() {
                self.losses.lost_from = Some(self.now_text());
            }
        }
    }

    /// Brings everything written to the disk. Says whether it is there.
    fn sync(&mut self) -> bool {
        let synced = self.bodies.sync().and_then(|()| self.segment.lines.sync_data());
        match synced {
            Ok(()) => {
                self.unsynced = None;
                self.state.unsynced_since.store(0, Ordering::Relaxed);
                if self.retry_at.take().is_some() {
                    self.state.failing.store(false, Ordering::Relaxed);
                    tracing::warn!("the audit trail is written again");
                }
                true
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    tracing::error!(%error, alarm = "audit_not_written", "the audit trail does not reach the disk");
                }
                self.state.failing.store(true, Ordering::Relaxed);
                self.retry_at = Some(instant() + RETRY);
                false
            }
        }
    }

    /// Signs a checkpoint of what is on the disk. Says whether there is one of all that was written.
    fn sign(&mut self) -> bool {
        let size = self.written.size();
        if size == self.signed {
            return true;
        }
        if self.retry_at.is_some() || !self.sync() {
            return false;
        }
        let time = self.clock.now().wall;
        let note = self.signer.sign(size, &self.written.root(), time);
        if let Err(error) = self.write_checkpoint(&note) {
            tracing::error!(%error, alarm = "audit_not_written", "a checkpoint of the audit trail cannot be written");
            return false;
        }
        self.signed = size;
        self.state.checkpoint_at.store(time.0, Ordering::Relaxed);
        self.archivist.hand_over(Chore::Publish(note.clone()));
        *self.state.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
        true
    }

    fn write_checkpoint(&self, note: &str) -> io::Result<()> {
        self.segment.leaves.sync_data()?;
        self.nodes.sync_data()?;
        let path = segment_file(&self.settings.directory, self.segment.first, "checkpoints");
        let mut file = append_to(&path)?;
        let length = file.metadata()?.len();
        let written = file.write_all(format!("{note}\n").as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a checkpoint would hide those after it.
            file.set_len(length)?;
        }
        written?;
        replace(&self.settings.directory.join("checkpoint"), note.as_bytes())
    }

    /// Ends the segment and begins the next one. A segment without a checkpoint of its end goes on.
    fn rotate(&mut self) -> io::Result<()> {
        if !self.sign() {
            return Ok(());
        }
        let next = OpenSegment::begin(&self.settings.directory, self.written.size())?;
        let full: PathBuf = std::mem::replace(&mut self.segment, next).path;
        self.archivist.hand_over(Chore::Close(full));
        self.archivist.hand_over(Chore::Retain);
        Ok(())
    }

    fn erase(&mut self, request_id: &str, who: &[u8]) -> Result<u64, TrailError> {
        let found = self.bodies.count(request_id)?;
        if found == 0 {
            return Ok(0);
        }
        let mut members = Vec::new();
        text(&mut members, b",\"request_id\":\"", Some(request_id));
        members.extend_from_slice(format!(",\"bodies\":{found}").as_bytes());
        members.extend_from_slice(who);
        // The entry first: a body that is gone without one looks like tampering.
        if !self.add_own_durably("erase", &members) {
            return Err(TrailError::NotWritten);
        }
        self.bodies.erase(request_id)
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.tell_losses();
        self.add_own("stop", b"");
        self.flush();
        self.sync();
        self.sign();
        if let Some(stdout) = &self.stdout {
            stdout.flush(Duration::from_secs(1));
        }
        self.archivist.stop();
    }
}
