//! The operator's side: operations on tenants, credentials and the running gateway, and the socket where operators reach
//! them.
//!
//! [`Operations`] holds the rules and needs no socket, so that tests call it directly;
//! [`routes`] puts them on a private Unix socket; [`probes`] answers `/livez`, `/readyz`, `/metrics`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audit::action::Actor;
use crate::base::clock::Clock;
use crate::base::fingerprint::Peppers;
use crate::gateway::{ExplainError, ExplainRequest, Explainer, Explanation};
use crate::snapshot::SharedSnapshot;
use crate::store::announce::Identity;
use crate::store::{BoxFuture, CredentialStore};
use crate::telemetry::Telemetry;

pub mod accounts;
mod actions;
pub mod drill;
pub mod error;
pub mod events;
pub mod http;
pub mod import;
pub mod keys;
pub mod peppers;
pub mod probes;
pub mod providers;
pub mod readiness;
pub mod receipts;
pub mod record;
pub mod roles;
pub mod rotate;
pub mod routes;
pub mod sessions;
pub mod socket;
mod surfaces;
pub mod tenants;
mod text;

pub use error::OperationError;
use readiness::{Readiness, ReadinessChecks};
use record::ActionRecorder;

/// Reads the configuration again and puts it in force, or answers the mistakes with file, line and caret.
pub type Reload = Box<dyn Fn(Actor) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Everything that an operator may do. All connections of the socket share it; it runs on the control runtime.
pub struct Operations {
    /// Where credentials and tenants are kept.
    pub store: Arc<dyn CredentialStore>,
    /// What new fingerprints are made with.
    pub peppers: Peppers,
    pub snapshot: Arc<SharedSnapshot>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub readiness: Arc<Readiness>,
    /// A text that says what there are too few descriptors for; `None` if there are enough.
    pub shortage: Option<String>,
    pub reload: Reload,
    /// Where the public side listens.
    pub listeners: Vec<ListenerView>,
    /// The identity that this gateway has in its receipts.
    pub gateway: Identity,
    /// Where probes are answered over TCP, if anywhere.
    pub probes: Option<std::net::SocketAddr>,
    /// Explains requests without sending them. `None` where no workers run, as in tests of operations.
    pub explainer: Option<Explainer>,
    /// Where operators' actions are recorded, if there is an audit trail.
    pub trail: Option<Arc<dyn ActionRecorder>>,
}

impl Operations {
    /// Reads the configuration again.
    ///
    /// # Errors
    /// [`OperationError::Configuration`]: nothing was changed.
    pub async fn reload(&self, who: Actor) -> Result<Reloaded, OperationError> {
        (self.reload)(who).await.map_err(OperationError::Configuration)?;
        Ok(Reloaded {
            version: self.snapshot.version(),
        })
    }

    /// Says what would become of a request, and why, without sending it.
    ///
    /// # Errors
    /// [`OperationError::Usage`] when the request cannot be written, [`OperationError::Unavailable`] when it cannot be explained
    /// now.
    pub async fn explain(&self, request: ExplainRequest) -> Result<Explanation, OperationError> {
        let explainer = self.explainer.as_ref();
        let explainer = explainer.ok_or_else(|| OperationError::Unavailable(ExplainError::Ended.to_string()))?;
        explainer.explain(request).await.map_err(|error| match error {
            ExplainError::Unusable(why) => OperationError::Usage(why),
            ExplainError::Busy | ExplainError::Late | ExplainError::Ended => OperationError::Unavailable(error.to_string()),
        })
    }

    /// The checks of readiness. A gateway that is not registered cannot admit callers whom it has to look up.
    fn checks(&self) -> ReadinessChecks {
        let mut checks = self.readiness.checks(self.clock.now().boot);
        if let Some(why) = self.store.unregistered()
            && checks.store == "ok"
        {
            checks.store = format!("this gateway is not registered: {why}");
        }
        // A gateway that cannot revoke must not look healthy, although it still serves.
        if let Some(why) = self.store.writes().and_then(|writes| writes.refused)
            && checks.store == "ok"
        {
            checks.store = why;
        }
        checks
    }

    /// What runs, and whether it is healthy.
    #[must_use]
    pub fn status(&self) -> GatewayStatus {
        let snapshot = self.snapshot.load();
        let checks = self.checks();
        GatewayStatus {
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    pub version: String,
    /// Counts the configurations since the start.
    pub configuration: u64,
    pub ready: bool,
    pub checks: ReadinessChecks,
    pub surfaces: Vec<String>,
    pub upstreams: Vec<String>,
    /// How many routes there are.
    pub routes: usize,
    pub in_flight: u64,
    /// Where the public side listens.
    pub listeners: Vec<ListenerView>,
    /// Where probes are answered over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    pub name: String,
    /// Where it listens; the real port where the configuration says 0.
    pub address: String,
}

#[cfg(test)]
mod tests;
