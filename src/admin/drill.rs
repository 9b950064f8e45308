//! The canary of a drill: a credential that is made in order to be revoked. It expires if nobody revokes it.

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

/// The tenant of all canaries. Every drill uses it again, so that drills leave no tenants behind.
pub const DRILL_TENANT: &str = "durward-drill";

/// How long a canary lives if its drill is broken off. The longest drill takes less time.
const CANARY_LIFE: &str = "10m";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BeginDrill {
    /// The surface; may be left out when there is only one for API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surface: Option<String>,
    /// `test` or `live`; needed when the surface has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The scopes of the canary. They must be those that the addresses of the drill need.
    pub scopes: Vec<String>,
}

/// A canary. `Debug` shows no secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Canary {
    pub id: String,
    pub surface: String,
    pub tenant: String,
    /// The request field that carries it.
    pub field: String,
    pub value: String,
    /// The value of that field with a key that nobody has.
    pub decoy: String,
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndDrill {
    pub id: String,
}

/// The answer to the end of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillEnded {
    /// The canary's id; it is revoked.
    pub id: String,
    /// Whether another drill still uses the tenant, which was left active.
    pub tenant_in_use: bool,
}

impl Operations {
    /// Makes a canary in the tenant of drills. The tenant is made if it does not exist, and enabled if it is not active.
    ///
    /// # Errors
    /// [`OperationError::Usage`] unless exactly one surface of API keys is meant, or an error of the store.
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
            shown.ok_or_else(|| OperationError::Usage("the keys of this surface are not sent in a header".into()))?;
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

    /// Revokes a canary if it is not revoked yet, and disables the tenant of drills unless another drill uses it.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for a credential that is not a canary, [`OperationError::NotFound`], or an error of the store.
    pub async fn end_drill(&self, request: &EndDrill) -> Result<DrillEnded, OperationError> {
        let record = self.find_record(&request.id).await?;
        if record.tenant.as_str() != DRILL_TENANT {
            return Err(OperationError::Usage(format!("`{}` is not the canary of a drill", record.id)));
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

/// The surface of this name, if its keys are sent in one header. Without a name, the only such surface.
fn find_surface<'s>(snapshot: &'s Snapshot, name: Option<&str>) -> Result<&'s Surface, OperationError> {
    find_surface_of(snapshot, "keys in one header", |kind| kind.present("", Some("")).is_some(), name)
}

/// The key with another last character. Its checksum is wrong, so nobody can have this key, and a gateway refuses it
/// without a look-up in the store.
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
