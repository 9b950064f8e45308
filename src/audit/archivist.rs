//! What is done with whole segments and checkpoints, on a thread of the lowest priority: compressing, deleting what is too old,
//! and handing checkpoints on.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::clock::{Clock as _, SystemClock, instant};
use crate::telemetry::members::text;

use super::closed;
use super::erasing;
use super::files::{bodies_file, numbers, replace, segment_file};
use super::settings::AuditSettings;
use super::spare_time::{MEASURED, SpareTime};
use super::trail::TrailError;
use super::writer::Message;

/// Jobs that may wait. Segments that are not closed now are closed at the next start.
const MAX_JOBS: usize = 1_024;

/// Most full segments that wait until the gateway is less busy. Until they are compressed, they need about five times the
/// disk, and a query reads each of them whole.
pub(super) const MAX_FULL: usize = 4;

/// Longest time for `checkpoint_command`.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// How often the thread looks whether it must end while it waits.
const POLL: Duration = Duration::from_millis(20);

/// The files of a segment of bodies.
pub(super) const BODY_FILES: [&str; 3] = ["jsonl", "jsonl.gz", "index"];

/// The files of a closed segment.
const SEGMENT_FILES: [&str; 4] = ["jsonl.gz", "index", "checkpoints", "leaves"];

/// What there is to do.
pub(super) enum ArchiveJob {
    /// Compress this segment, of entries or of bodies.
    Close(PathBuf),
    /// Remove the bodies of a request.
    Erase {
        request_id: String,
        who: Vec<u8>,
        answer: Sender<Result<u64, TrailError>>,
    },
    /// Delete what is too old or too much.
    Retain,
    /// Hand this checkpoint on.
    Publish(String),
    Stop,
}

pub(super) struct Archivist {
    jobs: SyncSender<ArchiveJob>,
    failures: Receiver<String>,
    stopping: Arc<AtomicBool>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Archivist {
    /// Starts the thread. `lock` is held as long as it lives.
    pub(super) fn start(settings: &AuditSettings, trail: Sender<Message>, lock: Arc<File>) -> io::Result<Self> {
        let (jobs, received) = sync_channel(MAX_JOBS);
        let (failed, failures) = channel();
        let (end, ended) = channel();
        let stopping = Arc::<AtomicBool>::default();
        let work = ArchiveWork {
            settings: settings.clone(),
            failed,
            trail,
            stopping: stopping.clone(),
            _lock: lock,
        };
        let thread = std::thread::Builder::new().name("durward-archive".into()).spawn(move || {
            work.run(&received);
            drop(work);
            drop(end);
        })?;
        Ok(Self {
            jobs,
            failures,
            stopping,
            ended,
            thread,
        })
    }

    /// Hands a job over. Returns it when too many jobs wait.
    pub(super) fn hand_over(&self, job: ArchiveJob) -> Option<ArchiveJob> {
        match self.jobs.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                tracing::warn!("segments of the audit trail are closed too slowly; this one waits for the next start");
                Some(job)
            }
        }
    }

    /// Why checkpoints could not be handed on since the last call.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.try_iter().collect()
    }

    /// Lets the thread break off what the next start does again. It still hands checkpoints on.
    pub(super) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until checkpoints are handed on, at most until the deadline.
    pub(super) fn end(self, deadline: Instant) {
        let _ = self.jobs.try_send(ArchiveJob::Stop);
        let left = deadline.saturating_duration_since(instant());
        match self.ended.recv_timeout(left) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(self.thread.join()),
            Err(RecvTimeoutError::Timeout) => tracing::warn!("the newest checkpoint of the audit trail may not have been handed on"),
        }
    }
}

/// The archivist's thread.
struct ArchiveWork {
    settings: AuditSettings,
    failed: Sender<String>,
    trail: Sender<Message>,
    stopping: Arc<AtomicBool>,
    _lock: Arc<File>,
}

impl ArchiveWork {
    fn run(&self, jobs: &Receiver<ArchiveJob>) {
        // Linux keeps a priority for each thread. Without it the work is only done earlier.
        let _ = rustix::process::setpriority_process(None, 19);
        let mut spare_time = SpareTime::new();
        let mut waiting = VecDeque::new();
        loop {
            waiting.extend(jobs.try_iter());
            // What is broken off now is done at the next start.
            if self.is_stopping() {
                waiting.retain(|job| matches!(job, ArchiveJob::Publish(_) | ArchiveJob::Stop));
            }
            let next = next_job(&waiting, spare_time.is_busy()).and_then(|at| waiting.remove(at));
            match next {
                None if waiting.is_empty() => match jobs.recv() {
                    Ok(job) => {
                        waiting.push_back(job);
                        // What the gateway did while there was nothing to do says nothing of now.
                        spare_time.restart();
                    }
                    Err(_) => return,
                },
                None => match jobs.recv_timeout(MEASURED) {
                    Ok(job) => waiting.push_back(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                Some(ArchiveJob::Stop) => return,
                Some(job) => self.work(job),
            }
        }
    }

    fn work(&self, job: ArchiveJob) {
        match job {
            ArchiveJob::Publish(note) => publish(&self.settings, &note, &self.failed),
            ArchiveJob::Close(path) => self.close(&path),
            ArchiveJob::Erase { request_id, who, answer } => drop(answer.send(self.erase(&request_id, &who))),
            ArchiveJob::Retain => {
                let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(SystemClock.now().wall.0).unwrap_or(0));
                if let Err(error) = self.retain(now) {
                    tracing::error!(%error, "old segments of the audit trail cannot be deleted");
                }
            }
            ArchiveJob::Stop => {}
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn close(&self, path: &Path) {
        if let Err(error) = closed::close_unless(path, || self.is_stopping())
            && !self.is_stopping()
        {
            tracing::error!(%error, path = %path.display(), "a segment of the audit trail cannot be compressed; it stays as it is");
        }
    }

    /// Records that the bodies of a request go, and removes them.
    fn erase(&self, request_id: &str, who: &[u8]) -> Result<u64, TrailError> {
        let directory = &self.settings.directory;
        let found = erasing::find(directory, request_id)?;
        if found.bodies == 0 {
            return Ok(0);
        }
        let mut members = Vec::new();
        text(&mut members, b",\"request_id\":\"", Some(request_id));
        members.extend_from_slice(format!(",\"bodies\":{}", found.bodies).as_bytes());
        members.extend_from_slice(who);
        // The entry first: a body that is gone without one looks like tampering.
        if !self.tell("erase", members) {
            return Err(TrailError::NotWritten);
        }
        // The writer may write to the last one of them.
        let is_written_to = !found.is_closed && !self.ask(Message::EndBodies);
        if is_written_to {
            return Err(TrailError::NotWritten);
        }
        for first in found.segments {
            erasing::erase(directory, first, request_id)?;
            self.close(&bodies_file(directory, first, "jsonl"));
        }
        Ok(found.bodies)
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
        let mut bodies = numbers(directory, "bodies", "jsonl")?;
        bodies.extend(numbers(directory, "bodies", "jsonl.gz")?);
        bodies.sort_unstable();
        bodies.dedup();
        let mut old = 0;
        // The last one may be open.
        for first in bodies.iter().take(bodies.len().saturating_sub(1)) {
            let paths = BODY_FILES.map(|ending| bodies_file(directory, *first, ending));
            // Entries are worth more than bodies: where there is too much, bodies go first.
            let over = settings.max_size.is_some_and(|max| size > max);
            if !over && !paths[..2].iter().any(|path| too_old(path, settings.keep_bodies)) {
                break;
            }
            let lengths = paths.iter().map(|path| fs::metadata(path).map_or(0, |meta| meta.len()));
            size = size.saturating_sub(lengths.sum());
            old += 1;
        }
        if old > 0
            && let Some(next) = bodies.get(old)
            && self.tell("retention", format!(",\"files\":\"bodies\",\"before_seq\":{next}").into_bytes())
        {
            for first in &bodies[..old] {
                for ending in BODY_FILES {
                    remove(&bodies_file(directory, *first, ending))?;
                }
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
            && self.tell("retention", format!(",\"files\":\"trail\",\"before_seq\":{next}").into_bytes())
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
    fn tell(&self, kind: &'static str, members: Vec<u8>) -> bool {
        self.ask(|answer| Message::Note { kind, members, answer })
    }

    fn ask(&self, message: impl FnOnce(Sender<bool>) -> Message) -> bool {
        let (answer, done) = channel();
        if self.trail.send(message(answer)).is_err() {
            return false;
        }
        // The writer waits for this thread when it stops.
        while !self.is_stopping() {
            match done.recv_timeout(POLL) {
                Ok(written) => return written,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }
}

/// Which of these jobs is next; `None` when all of them can wait. A checkpoint is worth something only soon, and somebody waits
/// for an erasure. To compress a segment costs about as much as to write it, so that waits while the gateway is busy.
fn next_job(waiting: &VecDeque<ArchiveJob>, is_busy: bool) -> Option<usize> {
    let first = |is_meant: fn(&ArchiveJob) -> bool| waiting.iter().position(is_meant);
    let is_close = |job: &ArchiveJob| matches!(job, ArchiveJob::Close(_));
    let full = waiting.iter().filter(|job| is_close(job)).count();
    first(|job| matches!(job, ArchiveJob::Publish(_)))
        .or_else(|| first(|job| matches!(job, ArchiveJob::Erase { .. })))
        .or_else(|| first(|job| matches!(job, ArchiveJob::Retain | ArchiveJob::Stop)))
        .or_else(|| first(|job| matches!(job, ArchiveJob::Close(_))).filter(|_| !is_busy || full > MAX_FULL))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn close(first: u64) -> ArchiveJob {
        ArchiveJob::Close(bodies_file(Path::new("audit"), first, "jsonl"))
    }

    #[test]
    fn full_segments_wait_while_the_gateway_is_busy_and_all_else_does_not() {
        let mut waiting: VecDeque<ArchiveJob> = (0..4).map(close).collect();
        assert_eq!(next_job(&waiting, false), Some(0));
        assert_eq!(next_job(&waiting, true), None);
        waiting.push_back(ArchiveJob::Retain);
        assert_eq!(next_job(&waiting, true), Some(4));
        let (answer, _done) = channel();
        waiting.push_back(ArchiveJob::Erase {
            request_id: "r".into(),
            who: Vec::new(),
            answer,
        });
        assert_eq!(next_job(&waiting, true), Some(5));
        waiting.push_back(ArchiveJob::Publish("note".into()));
        assert_eq!(next_job(&waiting, true), Some(6));
    }

    #[test]
    fn no_more_than_so_many_full_segments_wait() {
        let mut waiting: VecDeque<ArchiveJob> = (0..=MAX_FULL as u64).map(close).collect();
        assert_eq!(next_job(&waiting, true), Some(0));
        waiting.pop_front();
        assert_eq!(next_job(&waiting, true), None);
        assert_eq!(next_job(&VecDeque::new(), false), None);
    }
}
