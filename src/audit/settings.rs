//! The settings of the audit trail.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of the trail that only a restart changes: the table `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The directory of the segments. The signing key is a file beside it: the directory's name with `.key` added.
    pub directory: PathBuf,
    /// What happens to a request that cannot be recorded.
    pub on_full: OnFull,
    /// When entries reach the disk.
    pub durable: Durable,
    /// Size in bytes at which a segment is closed.
    pub segment: u64,
    /// How long closed segments are kept.
    pub keep: Duration,
    /// How long segments of bodies are kept.
    pub keep_bodies: Duration,
    /// Most bytes of the whole directory; the oldest closed segments go first. `None`: no bound.
    pub max_size: Option<u64>,
    /// How often a checkpoint is signed, where there are new entries.
    pub checkpoint: Duration,
    /// A file that is given each new checkpoint.
    pub checkpoint_file: Option<PathBuf>,
    /// A program with its arguments that is given each new checkpoint on its standard input.
    pub checkpoint_command: Option<Vec<String>>,
    /// Whether each entry is also written to standard output.
    pub stdout: bool,
}

/// What happens to a request that cannot be recorded (`audit.on_full`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// It is served. The trail tells how many entries are missing.
    DropAndCount,
    /// It is refused with 503.
    Refuse,
}

/// When entries reach the disk (`audit.durable`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// At most this long after they were made.
    Within(Duration),
    /// Before the request is answered.
    Each,
}
