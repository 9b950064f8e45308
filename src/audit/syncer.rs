//! Brings to the disk what was written, and signs checkpoints of it, on a thread of its own: the writer goes on writing, so that
//! a slow disk costs nothing when the process ends.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::base::clock::{Clock, UnixMillis};

use super::checkpoint::CheckpointSigner;
use super::disk::TrailDisk;
use super::files::{append_to, replace, segment_file};
use super::open_files::name_next;
use super::tree::Hash;
use super::writer::Message;

/// What is brought to the disk.
pub(super) struct SyncJob {
    /// Bodies, and after them the lines that name them.
    pub(super) files: Vec<Arc<File>>,
    pub(super) tree: Option<TreeJob>,
}

/// What is done when the entries are on the disk.
pub(super) struct TreeJob {
    /// The files of hashes.
    pub(super) files: Vec<Arc<File>>,
    pub(super) sign: Option<ToSign>,
    /// The segment that begins when all this is done.
    pub(super) begins: Option<u64>,
}

/// A checkpoint to sign.
pub(super) struct ToSign {
    pub(super) size: u64,
    pub(super) root: Hash,
    /// The segment beside which it stands.
    pub(super) segment: u64,
}

/// What became of a [`TreeJob`].
pub(super) enum TreeDone {
    /// The hashes are not on the disk.
    NotSynced(io::Error),
    /// They are; the checkpoint is not.
    NotSigned(io::Error),
    /// The checkpoint is; the next segment has not begun.
    NotBegun {
        signed: Option<SignedNote>,
        error: io::Error,
    },
    Done(Option<SignedNote>),
}

/// A checkpoint that is on the disk.
pub(super) struct SignedNote {
    pub(super) size: u64,
    pub(super) time: UnixMillis,
    pub(super) note: String,
}

pub(super) struct Syncer {
    jobs: Sender<SyncJob>,
    thread: JoinHandle<()>,
}

impl Syncer {
    /// Starts the thread. `lock` is held as long as it lives.
    pub(super) fn start(
        directory: PathBuf,
        signer: CheckpointSigner,
        disk: Arc<dyn TrailDisk>,
        clock: Arc<dyn Clock>,
        writer: Sender<Message>,
        lock: Arc<File>,
    ) -> io::Result<Self> {
        let (jobs, received) = channel();
        let work = SyncWork {
            directory,
            signer,
            disk,
            clock,
            writer,
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("durward-sync".into())
            .spawn(move || work.run(&received))?;
        Ok(Self { jobs, thread })
    }

    /// Hands a job over; the writer has one at a time. It is answered by [`Message::Synced`], and with a [`TreeJob`] after that
    /// by [`Message::TreeDone`]. Says whether there is a thread that does it.
    pub(super) fn hand_over(&self, job: SyncJob) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// Waits for the end of the thread, which has no job.
    pub(super) fn join(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

/// The thread of the syncer.
struct SyncWork {
    directory: PathBuf,
    signer: CheckpointSigner,
    disk: Arc<dyn TrailDisk>,
    clock: Arc<dyn Clock>,
    writer: Sender<Message>,
    _lock: Arc<File>,
}

impl SyncWork {
    fn run(&self, jobs: &Receiver<SyncJob>) {
        while let Ok(job) = jobs.recv() {
            let synced = self.sync(&job.files);
            let is_on_disk = synced.is_ok();
            let _ = self.writer.send(Message::Synced(synced));
            if let Some(tree) = job.tree.filter(|_| is_on_disk) {
                let _ = self.writer.send(Message::TreeDone(self.tree(&tree)));
            }
        }
    }

    fn sync(&self, files: &[Arc<File>]) -> io::Result<()> {
        files.iter().try_for_each(|file| self.disk.sync(file))
    }

    fn tree(&self, job: &TreeJob) -> TreeDone {
        if let Err(error) = self.sync(&job.files) {
            return TreeDone::NotSynced(error);
        }
        let signed = job.sign.as_ref().map(|to_sign| {
            let time = self.clock.now().wall;
            let note = self.signer.sign(to_sign.size, &to_sign.root, time);
            write_checkpoint(&self.directory, to_sign.segment, &note)?;
            Ok(SignedNote {
                size: to_sign.size,
                time,
                note,
            })
        });
        let signed = match signed.transpose() {
            Ok(signed) => signed,
            Err(error) => return TreeDone::NotSigned(error),
        };
        if let Some(first) = job.begins
            && let Err(error) = name_next(&self.directory, first)
        {
            return TreeDone::NotBegun { signed, error };
        }
        TreeDone::Done(signed)
    }
}

/// Writes a checkpoint beside its segment, and in the place of the newest one. On an error it is in neither.
pub(super) fn write_checkpoint(directory: &Path, segment: u64, note: &str) -> io::Result<()> {
    let path = segment_file(directory, segment, "checkpoints");
    let mut file = append_to(&path)?;
    let length = file.metadata()?.len();
    let newest = directory.join("checkpoint");
    let written = file
        .write_all(format!("{note}\n").as_bytes())
        .and_then(|()| file.sync_data())
        .and_then(|()| replace(&newest, note.as_bytes()));
    if written.is_err() && fs::read(&newest).ok().as_deref() != Some(note.as_bytes()) {
        // Half a checkpoint would hide those after it, and a start takes one that was signed and is not the newest for damage.
        file.set_len(length)?;
    }
    written
}
