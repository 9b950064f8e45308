//! What is done with whole segments and checkpoints, on a thread of the lowest priority: compressing, deleting what is too old,
//! and handing checkpoints on.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::clock::{Clock as _, SystemClock, instant};

use super::closed;
use super::files::{bodies_file, numbers, replace, segment_file};
use super::settings::AuditSettings;
use super::writer::Message;

/// Chores that may wait. Segments that are not closed now are closed at the next start.
const MAX_CHORES: usize = 1_024;

/// Longest time for `checkpoint_command`.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// How often the thread looks whether it must end while it waits.
const POLL: Duration = Duration::from_millis(20);

/// The files of a closed segment.
const SEGMENT_FILES: [&str; 4] = ["jsonl.gz", "index", "checkpoints", "leaves"];

/// What there is to do.
pub(super) enum Chore {
    /// Compress this segment.
    Close(PathBuf),
    /// Delete what is too old or too much.
    Retain,
    /// Hand this checkpoint on.
    Publish(String),
    Stop,
}

pub(super) struct Archivist {
    chores: SyncSender<Chore>,
    failures: Receiver<String>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Archivist {
    pub(super) fn start(settings: &AuditSettings, trail: Sender<Message>) -> io::Result<Self> {
        let (chores, received) = sync_channel(MAX_CHORES);
        let (failed, failures) = channel();
        let stopping = Arc::<AtomicBool>::default();
        let work = ArchiveWork {
            settings: settings.clone(),
            failed,
            trail,
            stopping: stopping.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("durward-archive".into())
            .spawn(move || work.run(&received))?;
        Ok(Self {
            chores,
            failures,
            stopping,
            thread: Some(thread),
        })
    }

    pub(super) fn hand_over(&self, chore: Chore) {
        if let Err(TrySendError::Full(_)) = self.chores.try_send(chore) {
            tracing::warn!("segments of the audit trail are closed too slowly; this one waits for the next start");
        }
    }

    /// Why checkpoints could not be handed on since the last call.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.try_iter().collect()
    }

    /// Waits until a chore that was begun has ended.
    pub(super) fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.chores.try_send(Chore::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The archivist's thread.
struct ArchiveWork {
    settings: AuditSettings,
    failed: Sender<String>,
    trail: Sender<Message>,
    stopping: Arc<AtomicBool>,
}

impl ArchiveWork {
    fn run(&self, chores: &Receiver<Chore>) {
        // Linux keeps a priority for each thread. Without it the work is only done earlier.
        let _ = rustix::process::setpriority_process(None, 19);
        let mut waiting = VecDeque::new();
        loop {
            let next = match waiting.pop_front() {
                Some(chore) => Some(chore),
                None => chores.recv().ok(),
            };
            let Some(next) = next else { return };
            waiting.push_front(next);
            // A checkpoint is worth something only soon; segments have time.
            waiting.extend(chores.try_iter());
            while let Some(at) = waiting.iter().position(|chore| matches!(chore, Chore::Publish(_))) {
                if let Some(Chore::Publish(note)) = waiting.remove(at) {
                    publish(&self.settings, &note, &self.failed);
                }
            }
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            match waiting.pop_front() {
                Some(Chore::Close(path)) => close(&path),
                Some(Chore::Retain) => {
                    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(SystemClock.now().wall.0).unwrap_or(0));
                    if let Err(error) = self.retain(now) {
                        tracing::error!(%error, "old segments of the audit trail cannot be deleted");
                    }
                }
                Some(Chore::Publish(_) | Chore::Stop) | None => {}
            }
        }
    }

    /// Deletes the segments that are older than `keep`, and the oldest ones while all together are more than `max_size`.
    fn retain(&self, now: SystemTime) -> io::Result<()> {
        let settings = &self.settings;
        let directory = &settings.directory;
        let too_old = |path: &Path, keep: Duration| {
            let at = fs::metadata(path).and_then(|meta| meta.modified()).ok();
            at.and_then(|at| now.duration_since(at).ok()).is_some_and(|age| age > keep)
        };
        let mut size: u64 = fs::read_dir(directory)?
            .flatten()
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .sum();
        let bodies = numbers(directory, "bodies", "jsonl")?;
        let mut old = 0;
        // The last one is open.
        for first in bodies.iter().take(bodies.len().saturating_sub(1)) {
            let path = bodies_file(directory, *first, "jsonl");
            // Entries are worth more than bodies: where there is too much, bodies go first.
            let over = settings.max_size.is_some_and(|max| size > max);
            if !over && !too_old(&path, settings.keep_bodies) {
                break;
            }
            size = size.saturating_sub(fs::metadata(&path).map_or(0, |meta| meta.len()));
            old += 1;
        }
        if old > 0
            && let Some(next) = bodies.get(old)
            && self.tell("bodies", *next)
        {
            for first in &bodies[..old] {
                remove(&bodies_file(directory, *first, "jsonl"))?;
            }
        }
        let segments = numbers(directory, "trail", "jsonl.gz")?;
        let mut old = Vec::new();
        for first in &segments {
            let over = settings.max_size.is_some_and(|max| size > max);
            // The leaves were last written when the segment was open: the file says when its last entry was made.
            if !over && !too_old(&segment_file(directory, *first, "leaves"), settings.keep) {
                break;
            }
            for ending in SEGMENT_FILES {
                size = size.saturating_sub(fs::metadata(segment_file(directory, *first, ending)).map_or(0, |meta| meta.len()));
            }
            old.push(*first);
        }
        let open = numbers(directory, "trail", "jsonl")?;
        let next = segments
            .iter()
            .chain(&open)
            .filter(|first| old.last().is_some_and(|last| *first > last))
            .min();
        if let Some(next) = next
            && self.tell("trail", *next)
        {
            for first in old {
                for ending in SEGMENT_FILES {
                    remove(&segment_file(directory, first, ending))?;
                }
            }
        }
        super::files::sync_directory(directory)
    }

    /// Records what will be deleted. Says whether that is on the disk: what is gone without an entry looks like tampering.
    fn tell(&self, files: &str, before: u64) -> bool {
        let (answer, done) = channel();
        let note = Message::Note {
            kind: "retention",
            members: format!(",\"files\":\"{files}\",\"before_seq\":{before}"),
            answer,
        };
        if self.trail.send(note).is_err() {
            return false;
        }
        // The writer waits for this thread when it stops.
        while !self.stopping.load(Ordering::Relaxed) {
            match done.recv_timeout(POLL) {
                Ok(written) => return written,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }
}

fn close(path: &Path) {
    if let Err(error) = closed::close(path) {
        tracing::error!(%error, path = %path.display(), "a segment of the audit trail cannot be compressed; it stays as it is");
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn publish(settings: &AuditSettings, note: &str, failed: &Sender<String>) {
    let mut problems = Vec::new();
    if let Some(path) = &settings.checkpoint_file
        && let Err(error) = replace(path, note.as_bytes())
    {
        problems.push(format!("checkpoint_file: {error}"));
    }
    if let Some(command) = &settings.checkpoint_command
        && let Err(error) = run_command(command, note)
    {
        problems.push(format!("checkpoint_command: {error}"));
    }
    for problem in problems {
        tracing::error!(
            problem,
            alarm = "checkpoint_not_published",
            "a checkpoint of the audit trail was not handed on"
        );
        let _ = failed.send(problem);
    }
}

/// Gives the checkpoint to the program on its standard input.
fn run_command(command: &[String], note: &str) -> io::Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read its input says by its exit code whether that is right.
        let _ = input.write_all(note.as_bytes());
    }
    let end = instant() + COMMAND_TIME;
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(io::Error::other(status.to_string()))
            };
        }
        if instant() >= end {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it took longer than 10 seconds"));
        }
        std::thread::park_timeout(POLL);
    }
}
