//! Replaces a credential so that at no moment, crash or not, both are dead.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::issue::minting::successor;
use crate::store::CredentialChange;

use super::Operations;
use super::error::OperationError;
use super::keys::{KeyMade, StoredKey, refuse_unused};
use super::receipts::Doubtful;
use super::surfaces::{find_key_surface, unused_scopes};
use super::text::{parse_duration, parse_expiry, write};

/// How long the old credential still works by default: enough time for a deployment.
const GRACE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotateKey {
    /// How long the old credential still works; `0` ends it now. One hour by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    /// When the new credential ends; without it, when the old one would have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// The answer to a rotation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RotatedKey {
    pub credential: KeyMade,
    pub replaces: ReplacedKey,
    /// What an operator may want to know; nothing failed.
    pub warnings: Vec<String>,
    /// What is not certain: whether the end of the old credential survives a failure of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// The old half of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedKey {
    pub id: String,
    /// When it stops working, RFC 3339.
    pub expires_at: Option<String>,
}

impl Doubtful for RotatedKey {
    fn doubt(&self) -> Option<String> {
        self.doubt.clone()
    }
}

impl Operations {
    /// Makes a credential like the one with this id, and ends the old one after the grace. Both happen in one step of the
    /// store, or not at all.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for one that is not in use,
    /// [`OperationError::Usage`], or an error of the store.
    pub async fn rotate_key(&self, id: &str, request: &RotateKey) -> Result<RotatedKey, OperationError> {
        let grace = request.grace.as_deref().map_or(Ok(GRACE), parse_duration)?;
        let now = self.clock.now().wall;
        let old = self.find_record(id).await?;
        refuse_unused(&old, old.expires_at.is_some_and(|end| end <= now))?;
        let snapshot = self.snapshot.load();
        let surface = find_key_surface(&snapshot, old.surface.as_str())?;
        let mut made = successor(surface.surface, &old, now, self.peppers.first())?;
        if let Some(text) = request.expires.as_deref() {
            made.record.expires_at = Some(parse_expiry(text, now)?);
        }
        let mut warnings = unused_scopes(&snapshot, &surface, &made.record.scopes);
        if let (None, Some(end)) = (&request.expires, made.record.expires_at) {
            warnings.push(format!(
                "the new credential ends at {}, when the old one would have ended; --expires sets another time",
                write(end)
            ));
        }
        let end = CredentialChange::ExpireAt(now.plus(grace));
        let made = self.store_made(made, vec![(old.id.clone(), end)]).await?;
        let StoredKey {
            credential,
            changed,
            doubt,
        } = made;
        let expires_at = match changed.first() {
            Some(ended) => ended.expires_at,
            // The change is not confirmed; this is the end that it was to set.
            None => Some(old.expires_at.map_or(now.plus(grace), |at| at.min(now.plus(grace)))),
        };
        tracing::info!(credential = %credential.id, replaces = %old.id, mode = ?credential.mode, "credential rotated");
        Ok(RotatedKey {
            credential,
            replaces: ReplacedKey {
                id: old.id.as_str().into(),
                expires_at: expires_at.map(write),
            },
            warnings,
            doubt,
        })
    }
}
