//! Reload: on a signal, by command, or when a file changed. A configuration with a mistake changes nothing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::admin::Reload;
use crate::config::reload::{Replacement, reload};
use crate::config::{Disk, Watch};
use crate::snapshot::{Settings, SharedSnapshot};

/// How often files are read. Their contents are compared, not their times or events of inotify, so that a mounted
/// configuration that is replaced by a symbolic link counts as changed.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Replaces the shared snapshot by what the files say now.
pub(super) struct Reloader {
    path: PathBuf,
    settings: Settings,
    shared: Arc<SharedSnapshot>,
    /// The files of the last attempt, whether it succeeded or not. So a bad file is reported once, not every two seconds.
    watch: Mutex<Watch>,
    /// One reload runs at a time, so that the last one to begin is the one in force.
    turn: tokio::sync::Mutex<()>,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloader {
    /// For the configuration that is in force.
    #[must_use]
    pub(super) fn new(settings: Settings, watch: &Watch, shared: Arc<SharedSnapshot>) -> Arc<Self> {
        Arc::new(Self {
            path: settings.config_path.clone(),
            settings,
            shared,
            // The files are read again, since files that the start has made are not a change.
            watch: Mutex::new(watch.again(&Disk)),
            turn: tokio::sync::Mutex::new(()),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Reads the files and puts them in force. Requests that began before keep the old snapshot.
    ///
    /// # Errors
    /// The report, with file, line and caret; nothing has changed.
    pub(super) async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let this = Arc::clone(self);
        let outcome = tokio::task::spawn_blocking(move || this.load())
            .await
            .unwrap_or_else(|_| Err("the reload ended by a defect".into()));
        match &outcome {
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                tracing::info!(version = self.shared.version(), "configuration reloaded");
            }
            Err(report) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!("the configuration was not reloaded, the old one stays in force\n{report}");
            }
        }
        outcome
    }

    fn load(&self) -> Result<(), String> {
        match reload(&self.path, &self.settings, &self.shared.load()) {
            Ok(Replacement {
                snapshot,
                waits,
                warnings,
                watch,
                keys: _,
            }) => {
                super::warn(&warnings);
                for name in waits {
                    tracing::warn!("{name} changed: it takes effect at the next start");
                }
                self.shared.replace(snapshot);
                self.remember(watch);
                Ok(())
            }
            Err(errors) => {
                self.remember(errors.watch.clone());
                Err(errors.to_string())
            }
        }
    }

    fn remember(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    /// Compares the files every two seconds, without an end.
    pub(super) async fn poll(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let this = Arc::clone(&self);
            let changed = tokio::task::spawn_blocking(move || !this.known().is_current(&Disk))
                .await
                .unwrap_or(false);
            if changed {
                // The reload itself logs and counts its outcome.
                let _ = self.reload().await;
            }
        }
    }

    fn known(&self) -> Watch {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The reload for the operator API.
    #[must_use]
    pub(super) fn hook(self: &Arc<Self>) -> Reload {
        let this = Arc::clone(self);
        Box::new(move || {
            let this = Arc::clone(&this);
            Box::pin(async move { this.reload().await })
        })
    }

    /// Reloads that were put in force, and that were refused.
    #[must_use]
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
