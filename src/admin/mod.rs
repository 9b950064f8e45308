//! The operator's side: what may be done to tenants, keys and the running gateway, and where it is reached.
//!
//! [`Operations`] holds the rules and needs no socket, so that tests call it directly;
//! [`routes`] puts them on a private Unix socket; [`probes`] answers `/livez`, `/readyz`, `/metrics`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::clock::Clock;
use crate::base::fingerprint::Peppers;
use crate::snapshot::SharedSnapshot;
use crate::store::announce::Identity;
use crate::store::{BoxFuture, CredentialStore};
use crate::telemetry::Telemetry;

pub mod accounts;
pub mod drill;
pub mod error;
pub mod http;
pub mod import;
pub mod keys;
pub mod peppers;
pub mod probes;
pub mod readiness;
pub mod receipts;
pub mod roles;
pub mod rotate;
pub mod routes;
pub mod sessions;
pub mod socket;
mod surfaces;
pub mod tenants;
mod text;

pub use error::OperationError;
use readiness::{Checks, Readiness};

/// Reads the configuration again and puts it in force, or answers why not with file, line and caret.
pub type Reload = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Everything an operator may do. Shared by the socket's connections; runs on the control runtime.
pub struct Operations {
    /// Where credentials and tenants are kept.
    pub store: Arc<dyn CredentialStore>,
    /// What new fingerprints are made with.
    pub peppers: Peppers,
    /// The configuration in force.
    pub snapshot: Arc<SharedSnapshot>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What `/metrics` shows.
    pub telemetry: Arc<Telemetry>,
    /// What `/readyz` shows.
    pub readiness: Arc<Readiness>,
    /// In words, what there are too few descriptors for; `None` if there are enough.
    pub shortage: Option<String>,
    /// Reloads the configuration.
    pub reload: Reload,
    /// Where the public side listens.
    pub listeners: Vec<ListenerView>,
    /// Who this gateway is in its receipts.
    pub gateway: Identity,
    /// Where probes are answered over TCP, if anywhere.
    pub probes: Option<std::net::SocketAddr>,
}

impl Operations {
    /// Reads the configuration again.
    ///
    /// # Errors
    /// [`OperationError::Configuration`]: nothing was changed.
    pub async fn reload(&self) -> Result<Reloaded, OperationError> {
        (self.reload)().await.map_err(OperationError::Configuration)?;
        Ok(Reloaded {
            version: self.snapshot.version(),
        })
    }

    /// What readiness rests on. A gateway that is not registered can admit nobody whom it has to look up.
    fn checks(&self) -> Checks {
        let mut checks = self.readiness.checks(self.clock.now().boot);
        if let Some(why) = self.store.unregistered()
            && checks.store == "ok"
        {
            checks.store = format!("this gateway is not registered: {why}");
        }
        // A gateway that cannot revoke must not look well, even though it goes on serving.
        if let Some(why) = self.store.writes().and_then(|writes| writes.refused)
            && checks.store == "ok"
        {
            checks.store = why;
        }
        checks
    }

    /// What runs, and how it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let snapshot = self.snapshot.load();
        let checks = self.checks();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            configuration: self.snapshot.version(),
            ready: checks.all_pass(),
            checks,
            surfaces: snapshot.surfaces.iter().map(|s| s.name.as_str().to_owned()).collect(),
            upstreams: snapshot.upstreams.iter().map(|u| u.name.to_string()).collect(),
            routes: snapshot.routes.len(),
            in_flight: self.telemetry.in_flight(),
            listeners: self.listeners.clone(),
            probes: self.probes.map(|address| address.to_string()),
        }
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").finish_non_exhaustive()
    }
}

/// The answer to a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Counts the configurations since the start; requests use this one from now on.
    pub version: u64,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// Counts the configurations since the start.
    pub configuration: u64,
    /// Whether it is ready.
    pub ready: bool,
    /// Why, or why not.
    pub checks: Checks,
    /// Names of the surfaces.
    pub surfaces: Vec<String>,
    /// Names of the upstreams.
    pub upstreams: Vec<String>,
    /// How many routes there are.
    pub routes: usize,
    /// Requests in flight.
    pub in_flight: u64,
    /// Where the public side listens.
    pub listeners: Vec<ListenerView>,
    /// Where probes are answered over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<String>,
}

/// One public listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Where it listens; the real port where the configuration says 0.
    pub address: String,
}

#[cfg(test)]
mod tests;
