//! The segment of recorded bodies that is written to. Bodies stand apart from the entries, so that one can be erased and the
//! evidence stays.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{AppendFile, TrailDisk, open_to_write};
use super::files::bodies_file;
use super::settings::AuditSettings;

/// Largest segment of bodies, so that erasing one body rewrites little.
const MAX_SEGMENT: u64 = 64 * 1_024 * 1_024;

pub(super) struct BodySegments {
    directory: PathBuf,
    disk: Arc<dyn TrailDisk>,
    max: u64,
    open: Option<OpenBodies>,
    /// The number of the segment that the next body goes to, where it was begun already.
    first: Option<u64>,
    /// The segment before, until it is on the disk.
    ending: Option<OpenBodies>,
    /// The directory, while it has a segment that it may lose.
    created: Option<Arc<File>>,
    /// The same during a sync.
    creating: Option<Arc<File>>,
    is_end_asked: bool,
}

struct OpenBodies {
    path: PathBuf,
    file: AppendFile,
}

impl BodySegments {
    pub(super) fn new(settings: &AuditSettings, first: Option<u64>, disk: Arc<dyn TrailDisk>) -> Self {
        Self {
            directory: settings.directory.clone(),
            disk,
            max: settings.segment.min(MAX_SEGMENT),
            open: None,
            first,
            ending: None,
            created: None,
            creating: None,
            is_end_asked: false,
        }
    }

    /// Writes lines of bodies; `seq` is the number of the first entry that they may belong to. They count only with
    /// [`keep`](Self::keep).
    pub(super) fn write(&mut self, lines: &[u8], seq: u64) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.file.length() >= self.max) {
            self.end();
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let path = bodies_file(&self.directory, *self.first.get_or_insert(seq), "jsonl");
                let is_new = !path.exists();
                let file = AppendFile::new(open_to_write(&path)?, self.disk.clone())?;
                if is_new {
                    self.created = Some(Arc::new(File::open(&self.directory)?));
                }
                self.open.insert(OpenBodies { path, file })
            }
        };
        open.file.write(lines)
    }

    pub(super) fn keep(&mut self, lines: Vec<u8>) {
        if let Some(open) = &mut self.open {
            open.file.keep(lines);
        }
    }

    pub(super) fn cut_back(&self) {
        if let Some(open) = &self.open {
            open.file.cut_back();
        }
    }

    /// Asks for the next body to begin a segment.
    pub(super) const fn ask_end(&mut self) {
        self.is_end_asked = true;
    }

    /// Ends the segment if that was asked for. Says whether nothing is left to wait for.
    pub(super) fn is_ended(&mut self) -> bool {
        if self.is_end_asked {
            self.end();
        }
        !self.is_end_asked && self.ending.is_none()
    }

    /// The next body begins a segment, unless the one before is not yet on the disk.
    fn end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.ending = self.open.take();
        self.first = None;
        self.is_end_asked = false;
    }

    pub(super) fn unsynced(&self) -> u64 {
        let both = [&self.ending, &self.open];
        both.into_iter().flatten().map(|bodies| bodies.file.unsynced()).sum()
    }

    /// The files that have something to sync.
    pub(super) fn begin_sync(&mut self) -> Vec<Arc<File>> {
        let files = [&mut self.ending, &mut self.open];
        let written = files.into_iter().flatten().filter_map(|bodies| bodies.file.begin_sync());
        self.creating = self.created.take();
        written.chain(self.creating.clone()).collect()
    }

    /// Returns the segment that has ended, when it is on the disk with its entries.
    pub(super) fn end_sync(&mut self, is_on_disk: bool) -> Option<PathBuf> {
        for bodies in [&mut self.ending, &mut self.open].into_iter().flatten() {
            bodies.file.end_sync(is_on_disk);
        }
        if let Some(directory) = self.creating.take().filter(|_| !is_on_disk) {
            self.created = Some(directory);
        }
        let ended = self.ending.take_if(|ending| is_on_disk && ending.file.unsynced() == 0);
        ended.map(|bodies| bodies.path)
    }

    pub(super) fn rewrite(&self) -> io::Result<()> {
        let both = [&self.ending, &self.open];
        both.into_iter().flatten().try_for_each(|bodies| bodies.file.rewrite())
    }
}
