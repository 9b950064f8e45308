//! What a reload puts in force: a new snapshot that fits the sockets and stores that stay as they are.

use std::path::Path;

use crate::snapshot::{Settings, Snapshot};

use super::environment::{Disk, Environment, Watch};
use super::error::{ConfigErrors, Problems};
use super::tables::external::keep_keys;
use super::{ConfigurationKeys, Loaded, Purpose, RunningTrail, load_from};

/// A configuration that was read while another one runs.
#[derive(Debug)]
pub struct Replacement {
    /// To be put in force. Its certificates are in the order of the *running* listeners.
    pub snapshot: Snapshot,
    /// What changed and waits for a restart, as the configuration calls it.
    pub waits: Vec<&'static str>,
    /// What is probably not as it was meant.
    pub warnings: Problems,
    /// What it was read from.
    pub watch: Watch,
    /// What it says at each key. `None` where the running gateway keeps no audit trail.
    pub keys: Option<ConfigurationKeys>,
}

/// Reads the configuration of a running gateway again.
///
/// Sockets, workers, store, limits and logs stay as they were started; what changed among them is
/// named in [`Replacement::waits`]. A route that needs a part which is not there before the restart is a mistake: in force, it
/// could only fail. A running listener that is in the new configuration no more keeps the
/// certificates it has: taking them away would break its connections without closing it.
///
/// # Errors
/// Every mistake at once; then nothing may change. [`ConfigErrors::watch`] tells when to look again.
pub fn reload(path: &Path, running: &Settings, current: &Snapshot) -> Result<Replacement, ConfigErrors> {
    reload_from(path, running, current, &Disk)
}

/// [`reload`] from this environment.
///
/// # Errors
/// As [`reload`].
pub fn reload_from(
    path: &Path,
    running: &Settings,
    current: &Snapshot,
    environment: &dyn Environment,
) -> Result<Replacement, ConfigErrors> {
    let trail = match running.audit {
        Some(_) => RunningTrail::Kept,
        None => RunningTrail::Absent,
    };
    let Loaded {
        settings,
        mut snapshot,
        warnings,
        watch,
        keys,
    } = load_from(path, Purpose::Reload(trail), environment)?;
    let certificates = running.listeners.iter().enumerate().map(|(i, listener)| {
        let same = settings
            .listeners
            .iter()
            .position(|l| l.name == listener.name && l.transport == listener.transport);
        match same {
            Some(new) => snapshot.certificates.get(new).cloned().flatten(),
            None => current.certificates.get(i).cloned().flatten(),
        }
    });
    snapshot.certificates = certificates.collect();
    keep_keys(&mut snapshot, current);
    Ok(Replacement {
        snapshot,
        waits: settings.needing_restart(running),
        warnings,
        watch,
        keys,
    })
}
