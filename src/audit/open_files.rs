//! The files that the writer has open: of the segment, of the tree, and of bodies. A batch goes into all of them or into none.
//!
//! A segment that is full ends with a checkpoint of its end, and that takes some syncs. Meanwhile entries go into the next one,
//! whose files have the ending `.new` until the checkpoint is on the disk: nobody but a start after a crash reads it before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::Batch;
use super::bodies::BodySegments;
use super::disk::{AppendFile, TrailDisk, open_to_write};
use super::files::{segment_file, sync_directory};
use super::recovery::OpenSegment;
use super::settings::AuditSettings;

/// The ending of a segment's lines that has not begun yet.
pub(super) const NEXT_LINES: &str = "jsonl.new";

/// The same of its leaves.
const NEXT_LEAVES: &str = "leaves.new";

/// A segment that is written to.
struct WrittenSegment {
    first: u64,
    lines: AppendFile,
    leaves: AppendFile,
}

impl WrittenSegment {
    fn of(segment: OpenSegment, disk: &Arc<dyn TrailDisk>) -> io::Result<Self> {
        Ok(Self {
            first: segment.first,
            lines: AppendFile::new(segment.lines, disk.clone())?,
            leaves: AppendFile::new(segment.leaves, disk.clone())?,
        })
    }
}

pub(super) struct OpenFiles {
    directory: PathBuf,
    disk: Arc<dyn TrailDisk>,
    segment: WrittenSegment,
    /// The segment before, until its end is signed.
    ending: Option<WrittenSegment>,
    nodes: AppendFile,
    /// Hashes of the segment that has not begun. A reader would find them without their entries.
    held_nodes: Vec<u8>,
    bodies: BodySegments,
}

impl OpenFiles {
    pub(super) fn new(
        settings: &AuditSettings,
        segment: OpenSegment,
        nodes: fs::File,
        bodies: Option<u64>,
        disk: Arc<dyn TrailDisk>,
    ) -> io::Result<Self> {
        Ok(Self {
            directory: settings.directory.clone(),
            segment: WrittenSegment::of(segment, &disk)?,
            ending: None,
            nodes: AppendFile::new(nodes, disk.clone())?,
            held_nodes: Vec::new(),
            bodies: BodySegments::new(settings, bodies, disk.clone()),
            disk,
        })
    }

    pub(super) const fn bodies(&mut self) -> &mut BodySegments {
        &mut self.bodies
    }

    /// Bytes of the open segment's entries.
    pub(super) const fn segment_length(&self) -> u64 {
        self.segment.lines.length()
    }

    /// The segment whose end must be signed before anything else is.
    pub(super) fn ending(&self) -> Option<u64> {
        self.ending.as_ref().map(|segment| segment.first)
    }

    /// The number of the segment that is written to.
    pub(super) const fn first(&self) -> u64 {
        self.segment.first
    }

    /// Bytes that are in memory until they are on the disk.
    pub(super) fn unsynced(&self) -> u64 {
        let ending = self.ending.as_ref().map_or(0, |segment| segment.lines.unsynced());
        ending + self.segment.lines.unsynced() + self.bodies.unsynced()
    }

    /// Bytes of hashes that are in memory until they are on the disk. They are synced only for checkpoints, since a start can make
    /// them again.
    pub(super) fn unsynced_hashes(&self) -> u64 {
        let ending = self.ending.as_ref().map_or(0, |segment| segment.leaves.unsynced());
        ending + self.segment.leaves.unsynced() + self.nodes.unsynced()
    }

    /// Writes a batch whose first entry is `seq`. On an error the files are as before.
    pub(super) fn write(&mut self, batch: &Batch, seq: u64) -> io::Result<()> {
        let written = self.write_all(batch, seq);
        if written.is_err() {
            self.bodies.cut_back();
            for file in [&self.segment.lines, &self.segment.leaves, &self.nodes] {
                file.cut_back();
            }
        }
        written
    }

    fn write_all(&mut self, batch: &Batch, seq: u64) -> io::Result<()> {
        self.write_held_nodes()?;
        self.bodies.write(&batch.bodies, seq)?;
        self.segment.lines.write(&batch.lines)?;
        self.segment.leaves.write(&batch.leaves)?;
        if self.ending.is_none() {
            self.nodes.write(&batch.nodes)?;
        }
        Ok(())
    }

    /// Takes a batch that was written into the files.
    pub(super) fn keep(&mut self, batch: Batch) {
        self.bodies.keep(batch.bodies);
        self.segment.lines.keep(batch.lines);
        self.segment.leaves.keep(batch.leaves);
        if self.ending.is_none() {
            self.nodes.keep(batch.nodes);
        } else {
            self.held_nodes.extend_from_slice(&batch.nodes);
        }
    }

    /// Writes what was held back while the last segment ended.
    pub(super) fn write_held_nodes(&mut self) -> io::Result<()> {
        if self.ending.is_none() && !self.held_nodes.is_empty() {
            self.nodes.write(&self.held_nodes)?;
            self.nodes.keep(std::mem::take(&mut self.held_nodes));
        }
        Ok(())
    }

    /// Lets entries from `first` on go into another segment, which begins when the end of this one is signed.
    pub(super) fn begin_next(&mut self, first: u64) -> io::Result<()> {
        let open = |ending| {
            let file = open_to_write(&segment_file(&self.directory, first, ending))?;
            file.set_len(0)?;
            AppendFile::new(file, self.disk.clone())
        };
        let next = WrittenSegment {
            first,
            lines: open(NEXT_LINES)?,
            leaves: open(NEXT_LEAVES)?,
        };
        self.ending = Some(std::mem::replace(&mut self.segment, next));
        Ok(())
    }

    /// Takes note that the end of the last segment is signed and the next segment has its names. Returns the file of the last segment.
    pub(super) fn has_begun(&mut self) -> Option<PathBuf> {
        let ended = self.ending.take()?;
        Some(segment_file(&self.directory, ended.first, "jsonl"))
    }

    /// The files with entries and bodies that are not on the disk: bodies before the lines that name them. While a segment ends
    /// these are those of that segment, because the next one may be nowhere after a crash of the machine.
    pub(super) fn begin_sync(&mut self) -> Vec<Arc<fs::File>> {
        let mut files = self.bodies.begin_sync();
        let segment = self.ending.as_mut().unwrap_or(&mut self.segment);
        files.extend(segment.lines.begin_sync());
        files
    }

    /// The files with hashes that are not on the disk.
    pub(super) fn begin_hash_sync(&mut self) -> Vec<Arc<fs::File>> {
        let segment = self.ending.as_mut().unwrap_or(&mut self.segment);
        [&mut segment.leaves, &mut self.nodes]
            .into_iter()
            .filter_map(AppendFile::begin_sync)
            .collect()
    }

    /// Answers a segment of bodies that has ended.
    pub(super) fn end_sync(&mut self, is_on_disk: bool) -> Option<PathBuf> {
        if let Some(ending) = &mut self.ending {
            ending.lines.end_sync(is_on_disk);
        }
        self.segment.lines.end_sync(is_on_disk);
        self.bodies.end_sync(is_on_disk)
    }

    pub(super) fn end_hash_sync(&mut self, is_on_disk: bool) {
        if let Some(ending) = &mut self.ending {
            ending.leaves.end_sync(is_on_disk);
        }
        self.segment.leaves.end_sync(is_on_disk);
        self.nodes.end_sync(is_on_disk);
    }

    /// Writes again everything that may not be on the disk.
    pub(super) fn rewrite(&self) -> io::Result<()> {
        self.bodies.rewrite()?;
        for segment in self.ending.iter().chain([&self.segment]) {
            segment.lines.rewrite()?;
            segment.leaves.rewrite()?;
        }
        self.nodes.rewrite()
    }
}

/// Gives the files of the segment that begins with this entry their names.
pub(super) fn name_next(directory: &Path, first: u64) -> io::Result<()> {
    for (from, to) in [(NEXT_LEAVES, "leaves"), (NEXT_LINES, "jsonl")] {
        let from = segment_file(directory, first, from);
        match fs::rename(&from, segment_file(directory, first, to)) {
            // It was named before, and the directory could not be synced.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    sync_directory(directory)
}
