//! Reload: on a signal, by command, or when a file changed. A configuration with a mistake changes nothing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::admin::Reload;
use crate::audit::action::{Actor, ConfigurationEntry};
use crate::audit::configuration::KeptConfiguration;
use crate::audit::trail::Trail;
use crate::base::clock::{Clock as _, SystemClock};
use crate::config::reload::{Replacement, reload};
use crate::config::{ConfigurationKeys, Disk, Watch};
use crate::snapshot::{Settings, SharedSnapshot};

/// How often files are read. Their contents are compared, not their times or events of inotify, so that a mounted
/// configuration that is replaced by a symbolic link counts as changed.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What the configuration in force was read from, and what it says.
pub(super) struct LoadedTexts {
    watch: Watch,
    keys: Option<ConfigurationKeys>,
}

impl LoadedTexts {
    pub(super) const fn new(watch: Watch, keys: Option<ConfigurationKeys>) -> Self {
        Self { watch, keys }
    }
}

/// Replaces the shared snapshot by what the files say now.
pub(super) struct Reloader {
    path: PathBuf,
    settings: Settings,
    shared: Arc<SharedSnapshot>,
    /// The files of the last attempt, whether it succeeded or not. So a bad file is reported once, not every two seconds.
    watch: Mutex<Watch>,
    /// One reload runs at a time, so that the last one to begin is the one in force.
    turn: tokio::sync::Mutex<()>,
    /// Where changes are told, if there is an audit trail.
    told: Option<Arc<ToldChanges>>,
    done: AtomicU64,
    failed: AtomicU64,
}

/// The audit trail, and what it was told of configurations.
struct ToldChanges {
    trail: Arc<Trail>,
    /// What the configuration in force says at each key.
    keys: Mutex<ConfigurationKeys>,
    /// The newest version of which it was kept what it said.
    kept: Mutex<u64>,
}

impl Reloader {
    /// For the configuration that is in force.
    #[must_use]
    pub(super) fn new(settings: Settings, begun: LoadedTexts, shared: Arc<SharedSnapshot>, trail: Option<Arc<Trail>>) -> Arc<Self> {
        let told = trail.zip(begun.keys).map(|(trail, keys)| ToldChanges {
            trail,
            keys: Mutex::new(keys),
            kept: Mutex::new(0),
        });
        Arc::new(Self {
            path: settings.config_path.clone(),
            settings,
            shared,
            // The files are read again, since files that the start has made are not a change.
            watch: Mutex::new(begun.watch.again(&Disk)),
            turn: tokio::sync::Mutex::new(()),
            told: told.map(Arc::new),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Reads the files and puts them in force. Requests that began before keep the old snapshot.
    ///
    /// # Errors
    /// The report, with file, line and caret; nothing has changed.
    pub(super) async fn reload(self: &Arc<Self>, who: Actor) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let this = Arc::clone(self);
        let outcome = tokio::task::spawn_blocking(move || this.load(who))
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

    /// Records with which configuration the process began, and what has changed since the trail last told of one.
    pub(super) fn record_start(&self) {
        let Some(told) = &self.told else { return };
        let now = told.known_keys().keep(self.settings.peppers.first());
        let changed = match KeptConfiguration::read(&told.trail.settings().directory) {
            Ok(kept) => kept.and_then(|kept| now.changed_since(&kept)),
            Err(error) => {
                tracing::warn!(%error, "what the configuration said before is not known; its changes are not told");
                None
            }
        };
        let entry = ConfigurationEntry {
            who: Actor::Start,
            version: self.shared.version(),
            compared: changed.is_some(),
            changed: changed.unwrap_or_default(),
            needs_restart: Vec::new(),
        };
        told.append(&entry, now);
    }

    /// Records which keys changed, if any did.
    fn record(&self, who: Actor, keys: Option<ConfigurationKeys>, waits: Vec<&'static str>) {
        let (Some(told), Some(keys)) = (&self.told, keys) else { return };
        let said = keys.keep(self.settings.peppers.first());
        let mut known = told.known_keys();
        let changed = keys.changed_since(&known);
        *known = keys;
        drop(known);
        if changed.is_empty() {
            return;
        }
        let entry = ConfigurationEntry {
            who,
            version: self.shared.version(),
            changed,
            needs_restart: waits.into_iter().map(str::to_owned).collect(),
            compared: true,
        };
        told.append(&entry, said);
    }

    fn load(self: &Arc<Self>, who: Actor) -> Result<(), String> {
        match reload(&self.path, &self.settings, &self.shared.load()) {
            Ok(Replacement {
                snapshot,
                waits,
                warnings,
                watch,
                keys,
            }) => {
                super::warn(&warnings);
                for name in &waits {
                    tracing::warn!("{name} changed: it takes effect at the next start");
                }
                self.shared.replace(snapshot);
                self.record(who, keys, waits);
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
                let _ = self.reload(Actor::File).await;
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
        Box::new(move |who| {
            let this = Arc::clone(&this);
            Box::pin(async move { this.reload(who).await })
        })
    }

    /// Reloads that were put in force, and that were refused.
    #[must_use]
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

impl ToldChanges {
    fn known_keys(&self) -> MutexGuard<'_, ConfigurationKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a configuration, and keeps what it said once the entry is on the disk. So a change of which the entry was lost is
    /// told at the next start.
    fn append(self: &Arc<Self>, entry: &ConfigurationEntry, said: KeptConfiguration) {
        let recorded = self.trail.append_durable(&entry.members(SystemClock.now().wall));
        let (this, version) = (Arc::clone(self), entry.version);
        tokio::spawn(async move {
            if recorded.await.is_ok() {
                let _ = tokio::task::spawn_blocking(move || this.keep(version, &said)).await;
            }
        });
    }

    /// Keeps what this version of the configuration said, unless a later one has been kept.
    fn keep(&self, version: u64, said: &KeptConfiguration) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept > version {
            return;
        }
        *kept = version;
        if let Err(error) = said.write(&self.trail.settings().directory) {
            tracing::error!(
                alarm = "configuration_not_kept",
                %error,
                "the next start will tell of changes of the configuration again"
            );
        }
    }
}
