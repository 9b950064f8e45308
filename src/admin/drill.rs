//! A drill's canary: a credential that exists to be revoked, and ends by itself if nobody does.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::principal::CredentialState;
use crate::decide::surface::Surface;
use crate::snapshot::Snapshot;
use crate::store::{CredentialChange, CredentialFilter, TenantState};

use super::Operations;
use super::error::OperationError;
use super::keys::CreateKey;
use super::surfaces::find_surface_of;
use super::tenants::CreateTenant;
use super::text::{PAGE, parse_tenant};

/// The tenant of all canaries: one that is used again, so that drills leave no tenants behind.
pub const DRILL_TENANT: &str = "durward-drill";

/// How long a canary lives if a drill is broken off: longer than the longest drill takes.
const CANARY_LIFE: &str = "10m";

/// Makes a canary.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BeginDrill {
    /// The surface; may be left out when there is only one for API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surface: Option<String>,
    /// `test` or `live`; needed when the surface has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What it may do: what the addresses need that are to admit it.
    pub scopes: Vec<String>,
}

/// A canary. `Debug` shows no secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Canary {
    /// Its id.
    pub id: String,
    /// Its surface.
    pub surface: String,
    /// Its tenant.
    pub tenant: String,
    /// The request field that carries it.
    pub field: String,
    /// That field's value.
    pub value: String,
    /// The same with a key that nobody has.
    pub decoy: String,
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Ends a drill.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndDrill {
    /// The canary's id.
    pub id: String,
}

/// What became of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillEnded {
    /// The canary's id; it is revoked.
    pub id: String,
    /// Whether another drill still uses the tenant, which was left active.
    pub tenant_in_use: bool,
}

impl Operations {
    /// Makes a canary in the drills' tenant, which is made or switched on.
    ///
    /// # Errors
    /// [`OperationError::Usage`] without one clear surface of API keys, or as the store has it.
    pub async fn begin_drill(&self, request: &BeginDrill) -> Result<Canary, OperationError> {
        let snapshot = self.snapshot.load();
        let surface = find_surface(&snapshot, request.surface.as_deref())?;
        let present = |key: &str, secret: Option<&str>| surface.kind.present(key, secret);
        self.open_tenant().await?;
        let made = self
            .create_key(&CreateKey {
                surface: surface.name.as_str().into(),
                tenant: DRILL_TENANT.into(),
                mode: request.mode.clone(),
                scopes: request.scopes.clone(),
                expires: Some(CANARY_LIFE.into()),
                name: Some("drill".into()),
                ..CreateKey::default()
            })
            .await?
            .credential;
        let secret = made.secret.as_deref();
        let shown = present(&made.key, secret).zip(present(&decoy_of(&made.key), secret));
        let ((field, value), (_, decoy)) =
            shown.ok_or_else(|| OperationError::Usage("the surface carries its keys in no header".into()))?;
        Ok(Canary {
            id: made.id,
            surface: made.surface,
            tenant: made.tenant,
            field,
            value,
            decoy,
        })
    }

    async fn open_tenant(&self) -> Result<(), OperationError> {
        match self.create_tenant(&CreateTenant { id: DRILL_TENANT.into() }).await {
            Err(OperationError::Conflict(_)) => self.set_tenant(DRILL_TENANT, TenantState::Active).await.map(|_| ()),
            made => made.map(|_| ()),
        }
    }

    /// Revokes a canary, if it is not yet, and switches the drills' tenant off unless another drill uses it.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for what is no canary, [`OperationError::NotFound`], or as the store has it.
    pub async fn end_drill(&self, request: &EndDrill) -> Result<DrillEnded, OperationError> {
        let record = self.find_record(&request.id).await?;
        if record.tenant.as_str() != DRILL_TENANT {
            return Err(OperationError::Usage(format!("`{}` is no canary of a drill", record.id)));
        }
        self.change_key(&request.id, CredentialChange::Revoke).await?;
        let filter = CredentialFilter {
            tenant: Some(parse_tenant(DRILL_TENANT)?),
            limit: PAGE,
            ..CredentialFilter::default()
        };
        let now = self.clock.now().wall;
        let in_use = |state: CredentialState, ends: Option<_>| state == CredentialState::Active && ends.is_none_or(|end| end > now);
        let all = self.store.list_credentials(filter).await?;
        let tenant_in_use = all.iter().any(|record| in_use(record.state, record.expires_at));
        if !tenant_in_use {
            self.set_tenant(DRILL_TENANT, TenantState::Inactive).await?;
        }
        Ok(DrillEnded {
            id: request.id.clone(),
            tenant_in_use,
        })
    }
}

/// The surface of this name if its keys stand in one header; without a name the only one that does.
fn find_surface<'s>(snapshot: &'s Snapshot, name: Option<&str>) -> Result<&'s Surface, OperationError> {
    find_surface_of(snapshot, "keys in one header", |kind| kind.present("", Some("")).is_some(), name)
}

/// The key with another last character: its checksum does not hold, so that nobody can have it and no
/// store is asked for it.
fn decoy_of(key: &str) -> String {
    let (rest, last) = key.split_at(key.len().saturating_sub(1));
    format!("{rest}{}", if last == "A" { "B" } else { "A" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoy_is_never_the_key() {
        for key in ["", "A", "B", "t_abcA", "t_abcz"] {
            assert_ne!(decoy_of(key), key);
        }
    }
}
