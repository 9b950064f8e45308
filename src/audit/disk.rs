//! How the writer uses the disk. What is not yet on it stays in memory, because a kernel that could not write a page may forget
//! it: after a failed `fdatasync` a second one that succeeds proves nothing of the pages before it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// What is asked of the disk. Tests put one in its place that fails.
pub(super) trait TrailDisk: Send + Sync {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Returns when everything that was written to the file before is on the disk.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The disk of the machine.
pub(super) struct RealDisk;

impl TrailDisk for RealDisk {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Opens a file to write to it at places of one's own; only its owner can read it.
pub(super) fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// A file that grows at its end. It keeps what was written since the last sync, and can write it again.
pub(super) struct AppendFile {
    file: Arc<File>,
    disk: Arc<dyn TrailDisk>,
    length: u64,
    synced: u64,
    /// What stands between `synced` and `length`.
    unsynced: VecDeque<Vec<u8>>,
    /// The length when the sync began that is going on.
    syncing: Option<u64>,
}

impl AppendFile {
    /// Continues a file that is on the disk.
    pub(super) fn new(file: File, disk: Arc<dyn TrailDisk>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            disk,
            length,
            synced: length,
            unsynced: VecDeque::new(),
            syncing: None,
        })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes may not be on the disk.
    pub(super) const fn unsynced(&self) -> u64 {
        self.length - self.synced
    }

    /// Writes behind the end. It counts only with [`keep`](Self::keep).
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.disk.write_at(&self.file, bytes, self.length)
    }

    /// Takes what was written into the file.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.length += bytes.len() as u64;
            self.unsynced.push_back(bytes);
        }
    }

    /// Removes what was written and not kept.
    pub(super) fn cut_back(&self) {
        if let Err(error) = self.file.set_len(self.length) {
            tracing::error!(%error, "a file of the audit trail cannot be cut back to its last whole entry");
        }
    }

    /// The file, where there is something to sync. The answer belongs to [`end_sync`](Self::end_sync).
    pub(super) fn begin_sync(&mut self) -> Option<Arc<File>> {
        (self.length > self.synced).then(|| {
            self.syncing = Some(self.length);
            self.file.clone()
        })
    }

    pub(super) fn end_sync(&mut self, is_on_disk: bool) {
        let Some(end) = self.syncing.take().filter(|_| is_on_disk) else {
            return;
        };
        while self.synced < end {
            let Some(piece) = self.unsynced.pop_front() else { break };
            self.synced += piece.len() as u64;
        }
    }

    /// Writes again what may not be on the disk, in its place.
    pub(super) fn rewrite(&self) -> io::Result<()> {
        let mut at = self.synced;
        for piece in &self.unsynced {
            self.disk.write_at(&self.file, piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}
