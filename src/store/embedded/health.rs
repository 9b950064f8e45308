//! Whether the embedded store makes changes; if not, why, and what the operator can do. This goes to the log, to commands, to
//! readiness and to metrics.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::store::{StoreError, Writes};

use super::file::FileFault;

/// What the store still does after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RemainingService {
    /// Look-ups, and changes of records that exist.
    ReadsAndChanges,
    Reads,
    Nothing,
}

/// Why changes are not made.
#[derive(Debug, Clone)]
pub(super) struct WriteFailure {
    /// What happened, without the file's name.
    why: String,
    advice: &'static str,
    remaining: RemainingService,
}

impl WriteFailure {
    /// The failure in the words of the system, if a call of the system failed; else in the words `otherwise`.
    pub(super) fn after(fault: Option<&FileFault>, otherwise: &str) -> Self {
        match fault {
            Some(fault) => Self {
                why: format!("the system could not {} its file: {}", fault.tried, fault.words),
                advice: advice(fault.kind),
                remaining: RemainingService::Nothing,
            },
            None => Self {
                why: otherwise.to_owned(),
                advice: "the gateway opens it again by itself; if that does not help, bring back a copy of the file",
                remaining: RemainingService::Nothing,
            },
        }
    }

    /// The file was removed or replaced while the gateway runs.
    pub(super) fn file_missing() -> Self {
        Self {
            why: "its file was removed or replaced while the gateway runs, so a change would be lost at the next start".into(),
            advice: "put the file back (Linux still has it as one of /proc/PID/fd), or stop the gateway, bring back a copy and start it",
            remaining: RemainingService::Reads,
        }
    }
}

/// What the operator can do about a failure of the file system.
const fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull => "free space on its file system",
        ErrorKind::QuotaExceeded => "raise the quota of the user the gateway runs as, or free space",
        ErrorKind::FileTooLarge => "raise the limit on the size of files of the process (`ulimit -f`, `LimitFSIZE`) or of the file system",
        ErrorKind::ReadOnlyFilesystem => {
            "mount its file system for writing; one that became read-only by itself had errors, which are in the kernel's log"
        }
        ErrorKind::PermissionDenied => "let the user the gateway runs as write the file",
        _ => "look at the disk and at the kernel's log",
    }
}

/// Whether changes are made. The writing thread sets it, and any thread may read it.
#[derive(Debug)]
pub(super) struct WriteHealth {
    path: PathBuf,
    failure: Mutex<Option<WriteFailure>>,
    failed: AtomicU64,
    reopened: AtomicU64,
}

impl WriteHealth {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            failure: Mutex::default(),
            failed: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
        }
    }

    /// Counts a change, or a trial write, that failed.
    pub(super) fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_reopening(&self) {
        self.reopened.fetch_add(1, Ordering::Relaxed);
    }

    /// No changes, or only some, are made from now on. Logged if all changes were made before.
    pub(super) fn record_failure(&self, failure: &WriteFailure) {
        let before = self.lock().replace(failure.clone());
        if before.is_none() {
            tracing::error!(
                alarm = "store_takes_no_changes",
                path = %self.path.display(),
                why = %failure.why,
                "the store takes no changes: {}; the gateway tries again by itself and logs when it has succeeded", failure.advice
            );
        }
    }

    /// Sets what the store still does while the failure lasts.
    pub(super) fn set_remaining(&self, remaining: RemainingService) {
        if let Some(failure) = self.lock().as_mut() {
            failure.remaining = remaining;
        }
    }

    /// All changes are made again. Logged if they were not before.
    pub(super) fn recovered(&self) {
        if self.lock().take().is_some() {
            tracing::warn!(path = %self.path.display(), "the store takes changes again");
        }
    }

    /// The error of a change that was not made.
    pub(super) fn refusal(&self) -> StoreError {
        let path = self.path.display();
        StoreError::Unavailable(match &*self.lock() {
            Some(WriteFailure { why, advice, remaining }) => {
                let remaining = match remaining {
                    RemainingService::ReadsAndChanges => {
                        "the gateway goes on by itself then; until then nothing new is made, and what there is can be revoked"
                    }
                    RemainingService::Reads => "the gateway goes on by itself then; until then nothing can be changed",
                    RemainingService::Nothing => "the gateway goes on by itself then; until then the store neither answers nor changes",
                };
                format!("{why} ({path}). To do: {advice}; {remaining}")
            }
            None => format!("its file could not be written ({path}) and was opened again; repeat the command"),
        })
    }

    pub(super) fn writes(&self) -> Writes {
        let refused = self.lock().as_ref().map(|failure| {
            let remaining = match failure.remaining {
                RemainingService::ReadsAndChanges => "nothing new is made; what there is can be revoked",
                RemainingService::Reads | RemainingService::Nothing => "nothing can be changed or revoked",
            };
            format!("takes no changes: {}; {remaining}. To do: {}", failure.why, failure.advice)
        });
        Writes {
            refused,
            failed: self.failed.load(Ordering::Relaxed),
            reopened: self.reopened.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<WriteFailure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
