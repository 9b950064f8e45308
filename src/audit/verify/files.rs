//! The files of a trail's directory, by what their names say.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::super::files::DIGITS;

/// The files of one segment. The number in their name is the seq of its first entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SegmentFiles {
    pub(super) plain: Option<PathBuf>,
    pub(super) zipped: Option<PathBuf>,
    pub(super) index: Option<PathBuf>,
    pub(super) leaves: Option<PathBuf>,
    pub(super) checkpoints: Option<PathBuf>,
}

impl SegmentFiles {
    /// Whether there is a file with lines.
    pub(super) const fn has_lines(&self) -> bool {
        self.plain.is_some() || self.zipped.is_some()
    }
}

/// The files of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TrailFiles {
    pub(super) segments: BTreeMap<u64, SegmentFiles>,
    pub(super) bodies: BTreeMap<u64, SegmentFiles>,
    /// Names that no file of a trail has.
    pub(super) foreign: Vec<String>,
}

impl TrailFiles {
    /// Lists a directory.
    pub(super) fn list(directory: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !files.sort_in(&name, entry.path()) {
                files.foreign.push(name);
            }
        }
        files.foreign.sort();
        Ok(files)
    }

    fn sort_in(&mut self, name: &str, path: PathBuf) -> bool {
        if matches!(name, "lock" | "checkpoint" | "nodes" | "others") || name.ends_with(".new") {
            return true;
        }
        let (segments, rest) = if let Some(rest) = name.strip_prefix("trail-") {
            (&mut self.segments, rest)
        } else if let Some(rest) = name.strip_prefix("bodies-") {
            (&mut self.bodies, rest)
        } else {
            return false;
        };
        let Some((number, ending)) = rest.split_once('.') else {
            return false;
        };
        let plain = number.len() == DIGITS && number.bytes().all(|b| b.is_ascii_digit());
        let Some(first) = number.parse().ok().filter(|_| plain) else {
            return false;
        };
        if !matches!(ending, "jsonl" | "jsonl.gz" | "index" | "leaves" | "checkpoints") {
            return false;
        }
        let segment = segments.entry(first).or_default();
        let place = match ending {
            "jsonl" => &mut segment.plain,
            "jsonl.gz" => &mut segment.zipped,
            "index" => &mut segment.index,
            "leaves" => &mut segment.leaves,
            _ => &mut segment.checkpoints,
        };
        *place = Some(path);
        true
    }
}
