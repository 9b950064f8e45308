//! Erases bodies: a line without body and salt takes the place of each body of a request.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::disk::open_to_write;
use super::files::{bodies_file, sync_directory};
use super::segments::{SegmentFile, SegmentForm, Segments};
use super::trail::TrailError;

/// The bodies of a request that are there.
pub(super) struct FoundBodies {
    pub(super) bodies: u64,
    /// The segments that have them.
    pub(super) segments: Vec<u64>,
    /// Whether all of these segments are compressed.
    pub(super) is_closed: bool,
}

/// Looks for the bodies of a request.
pub(super) fn find(directory: &Path, request_id: &str) -> Result<FoundBodies, TrailError> {
    let failed = |error| TrailError::io(directory)(error);
    let mut found = FoundBodies {
        bodies: 0,
        segments: Vec::new(),
        is_closed: true,
    };
    for segment in Segments::bodies(directory).map_err(failed)?.list() {
        let mut count = 0;
        for line in segment.lines().map_err(failed)? {
            count += u64::from(tombstone(&line.map_err(failed)?.bytes, request_id).is_some());
        }
        if count > 0 {
            found.bodies += count;
            found.segments.push(segment.first());
            found.is_closed &= segment.form() == SegmentForm::Closed;
        }
    }
    Ok(found)
}

/// Erases the bodies of a request in a segment that nobody writes to. It is not compressed then.
pub(super) fn erase(directory: &Path, first: u64, request_id: &str) -> Result<(), TrailError> {
    let segments = Segments::bodies(directory).map_err(TrailError::io(directory))?;
    let Some(segment) = segments.list().iter().find(|segment| segment.first() == first) else {
        return Ok(());
    };
    rewrite(directory, segment, request_id).map_err(TrailError::io(segment.path()))
}

fn rewrite(directory: &Path, segment: &SegmentFile, request_id: &str) -> io::Result<()> {
    let first = segment.first();
    let (new, plain) = (bodies_file(directory, first, "jsonl.new"), bodies_file(directory, first, "jsonl"));
    let file = open_to_write(&new)?;
    file.set_len(0)?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    for line in segment.lines()? {
        let line = line?.bytes;
        match tombstone(&line, request_id) {
            Some(left) => out.write_all(left.as_bytes())?,
            None => out.write_all(&line)?,
        }
        out.write_all(b"\n")?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Retention goes by the time of the last line.
    file.set_modified(File::open(segment.path())?.metadata()?.modified()?)?;
    file.sync_all()?;
    fs::rename(&new, &plain)?;
    sync_directory(directory)?;
    for ending in ["jsonl.gz", "index"] {
        match fs::remove_file(bodies_file(directory, first, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_directory(directory)
}

/// What stands in the place of the line, if it is a body of this request.
fn tombstone(line: &[u8], request_id: &str) -> Option<String> {
    memchr::memmem::find(line, request_id.as_bytes())?;
    let body: serde_json::Value = serde_json::from_slice(line).ok()?;
    if body.get("request_id")?.as_str()? != request_id || body.get("erased").is_some() {
        return None;
    }
    let left = serde_json::json!({
        "seq": body.get("seq"), "request_id": request_id, "part": body.get("part"), "erased": true,
    });
    Some(left.to_string())
}
