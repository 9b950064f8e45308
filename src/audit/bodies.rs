//! Segments of recorded bodies. They stand apart from the entries, so that a body can be erased and the evidence stays.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::base::clock::instant;

use super::files::{append_to, bodies_file, numbers, replace};
use super::settings::AuditSettings;
use super::trail::TrailError;

/// How often old segments are looked for.
const RETENTION: Duration = Duration::from_secs(3_600);

/// Largest segment of bodies, so that erasing one body rewrites little.
const MAX_SEGMENT: u64 = 64 * 1_024 * 1_024;

pub(super) struct BodySegments {
    directory: PathBuf,
    max: u64,
    open: Option<OpenBodies>,
    first: Option<u64>,
    unsynced: bool,
    retain_at: Instant,
}

struct OpenBodies {
    file: File,
    length: u64,
    /// Length before the last batch.
    before: u64,
}

impl BodySegments {
    pub(super) fn new(settings: &AuditSettings, first: Option<u64>) -> Self {
        Self {
            directory: settings.directory.clone(),
            max: settings.segment.min(MAX_SEGMENT),
            open: None,
            first,
            unsynced: false,
            retain_at: instant() + RETENTION,
        }
    }

    /// Whether it is time to look for old segments.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.retain_at;
        if due {
            self.retain_at = now + RETENTION;
        }
        due
    }

    /// Appends lines of bodies; `seq` is the number of the first entry that they may belong to.
    pub(super) fn write(&mut self, lines: &[u8], seq: u64) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.before = open.length;
        }
        if lines.is_empty() {
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.length >= self.max) {
            self.sync()?;
            (self.open, self.first) = (None, None);
        }
        if self.open.is_none() {
            let first = *self.first.get_or_insert(seq);
            let file = append_to(&bodies_file(&self.directory, first, "jsonl"))?;
            let length = file.metadata()?.len();
            self.open = Some(OpenBodies {
                file,
                length,
                before: length,
            });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        (&open.file).write_all(lines)?;
        open.length += lines.len() as u64;
        self.unsynced = true;
        Ok(())
    }

    /// Cuts the last batch off: its entries were not written, and others get their numbers.
    pub(super) fn undo(&mut self) {
        if let Some(open) = &mut self.open {
            open.length = open.before;
            if let Err(error) = open.file.set_len(open.length) {
                tracing::error!(%error, "a segment of bodies cannot be cut back to its last whole line");
            }
        }
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.as_ref().filter(|_| self.unsynced) {
            open.file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// How many bodies of a request there are.
    pub(super) fn count(&self, request_id: &str) -> Result<u64, TrailError> {
        let mut found = 0;
        for first in numbers(&self.directory, "bodies", "jsonl").map_err(TrailError::io(&self.directory))? {
            let path = bodies_file(&self.directory, first, "jsonl");
            let content = fs::read(&path).map_err(TrailError::io(&path))?;
            let lines = content.split_inclusive(|byte| *byte == b'\n');
            found += lines.filter(|line| erased_line(line, request_id).is_some()).count() as u64;
        }
        Ok(found)
    }

    /// Puts lines without body and salt in the place of a request's bodies. Answers how many there were.
    pub(super) fn erase(&mut self, request_id: &str) -> Result<u64, TrailError> {
        let mut erased = 0;
        let numbers = numbers(&self.directory, "bodies", "jsonl").map_err(TrailError::io(&self.directory))?;
        for first in numbers {
            let path = bodies_file(&self.directory, first, "jsonl");
            let content = fs::read(&path).map_err(TrailError::io(&path))?;
            let mut kept = Vec::with_capacity(content.len());
            let before = erased;
            for line in content.split_inclusive(|byte| *byte == b'\n') {
                match erased_line(line, request_id) {
                    Some(tombstone) => {
                        kept.extend_from_slice(tombstone.as_bytes());
                        erased += 1;
                    }
                    None => kept.extend_from_slice(line),
                }
            }
            if erased > before {
                replace(&path, &kept).map_err(TrailError::io(&path))?;
                // The open file is another one now.
                if Some(first) == self.first {
                    self.open = None;
                }
            }
        }
        Ok(erased)
    }
}

/// What stands in the place of the line, if it is a body of this request.
fn erased_line(line: &[u8], request_id: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(line).ok()?;
    if body.get("request_id")?.as_str()? != request_id || body.get("erased").is_some() {
        return None;
    }
    let left = serde_json::json!({
        "seq": body.get("seq"), "request_id": request_id, "part": body.get("part"), "erased": true,
    });
    Some(format!("{left}\n"))
}
