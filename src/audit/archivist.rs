//! What is done with whole segments and checkpoints, on a thread of the lowest priority: compressing, deleting what is too old,
//! and handing checkpoints on.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::base::clock::instant;

use super::closed;
use super::files::{bodies_file, numbers, replace, segment_file};
use super::settings::AuditSettings;

/// Chores that may wait. Segments that are not closed now are closed at the next start.
const MAX_CHORES: usize = 1_024;

/// Longest time for `checkpoint_command`.
const COMMAND_TIME: Duration = Duration::from_secs(10);

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
    thread: Option<JoinHandle<()>>,
}

impl Archivist {
    pub(super) fn start(settings: &AuditSettings) -> io::Result<Self> {
        let (chores, received) = sync_channel(MAX_CHORES);
        let (failed, failures) = channel();
        let settings = settings.clone();
        let thread = std::thread::Builder::new()
            .name("durward-archive".into())
            .spawn(move || run(&settings, &received, &failed))?;
        Ok(Self {
            chores,
            failures,
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
        let _ = self.chores.try_send(Chore::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(settings: &AuditSettings, chores: &Receiver<Chore>, failed: &Sender<String>) {
    // Linux keeps a priority for each thread. Without it the work is only done earlier.
    let _ = rustix::process::setpriority_process(None, 19);
    let mut waiting = std::collections::VecDeque::new();
    loop {
        // A checkpoint is worth something only soon; segments have time.
        let chore = match waiting.pop_front() {
            Some(chore) => chore,
            None => match chores.recv() {
                Ok(chore) => chore,
                Err(_) => return,
            },
        };
        loop {
            match chores.try_recv() {
                Ok(Chore::Stop) | Err(TryRecvError::Disconnected) => {
                    finish(settings, chore, waiting, failed);
                    return;
                }
                Ok(Chore::Publish(note)) => publish(settings, &note, failed),
                Ok(other) => waiting.push_back(other),
                Err(TryRecvError::Empty) => break,
            }
        }
        match chore {
            Chore::Close(path) => close(&path),
            Chore::Retain => retain(settings, SystemTime::now()),
            Chore::Publish(note) => publish(settings, &note, failed),
            Chore::Stop => return,
        }
    }
}

/// At the end only checkpoints are handed on: segments are closed at the next start.
fn finish(settings: &AuditSettings, first: Chore, waiting: impl IntoIterator<Item = Chore>, failed: &Sender<String>) {
    for chore in std::iter::once(first).chain(waiting) {
        if let Chore::Publish(note) = chore {
            publish(settings, &note, failed);
        }
    }
}

fn close(path: &Path) {
    if let Err(error) = closed::close(path) {
        tracing::error!(%error, path = %path.display(), "a segment of the audit trail cannot be compressed; it stays as it is");
    }
}

/// Deletes the segments that are older than `keep`, and the oldest ones while all together are more than `max_size`.
fn retain(settings: &AuditSettings, now: SystemTime) {
    let directory = &settings.directory;
    let result = (|| {
        let segments = numbers(directory, "trail", "jsonl.gz")?;
        let bodies = numbers(directory, "bodies", "jsonl")?;
        let too_old = |path: &Path, keep: Duration| {
            let age = fs::metadata(path)
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|at| now.duration_since(at).ok());
            age.is_some_and(|age| age > keep)
        };
        let mut size: u64 = fs::read_dir(directory)?
            .flatten()
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .sum();
        for first in segments {
            let over = settings.max_size.is_some_and(|max| size > max);
            // The leaves were last written when the segment was open: the file says when its last entry was made.
            if !over && !too_old(&segment_file(directory, first, "leaves"), settings.keep) {
                break;
            }
            for ending in ["jsonl.gz", "index", "checkpoints", "leaves"] {
                size = size.saturating_sub(remove(&segment_file(directory, first, ending))?);
            }
        }
        // The last one is open.
        for first in bodies.iter().rev().skip(1).rev() {
            let path = bodies_file(directory, *first, "jsonl");
            if too_old(&path, settings.keep_bodies) {
                remove(&path)?;
            }
        }
        super::files::sync_directory(directory)
    })();
    if let Err(error) = result {
        let error: io::Error = error;
        tracing::error!(%error, "old segments of the audit trail cannot be deleted");
    }
}

/// Removes a file and answers how large it was.
fn remove(path: &Path) -> io::Result<u64> {
    let size = fs::metadata(path).map_or(0, |meta| meta.len());
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(size),
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
        std::thread::sleep(Duration::from_millis(20));
    }
}
