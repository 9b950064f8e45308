//! Tenants: their JSON, and operations on them.

use serde::{Deserialize, Serialize};

use crate::base::principal::TenantRecord;
use crate::decide::route::literal_beside_tenant;
use crate::store::TenantState;

use super::Operations;
use super::error::OperationError;
use super::receipts::Doubtful;
use super::text::{PAGE, parse_tenant, write};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// The operator's name for the tenant. Services get it in the tenant header.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantView {
    pub id: String,
    /// Whether its credentials are admitted.
    pub active: bool,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

impl From<&TenantRecord> for TenantView {
    fn from(tenant: &TenantRecord) -> Self {
        Self {
            id: tenant.id.as_str().into(),
            active: tenant.active,
            created_at: write(tenant.created_at),
        }
    }
}

impl Doubtful for TenantView {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TenantList {
    /// In the order of their ids.
    pub tenants: Vec<TenantView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

impl Operations {
    /// Makes an active tenant.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for an id that cannot be a header value, [`OperationError::Conflict`] when it exists, or
    /// when a route has it as a literal where other paths name a tenant.
    pub async fn create_tenant(&self, request: &CreateTenant) -> Result<TenantView, OperationError> {
        let id = parse_tenant(&request.id)?;
        if let Some(route) = literal_beside_tenant(&self.snapshot.load().routes, &id) {
            return Err(OperationError::Conflict(format!(
                "`{id}` stands in the path `{}` of the route `{}`, where other paths name a tenant: take another id",
                route.pattern, route.name
            )));
        }
        let tenant = self.store.create_tenant(id, self.clock.now().wall).await?;
        tracing::info!(tenant = %tenant.id, "tenant created");
        Ok(TenantView::from(&tenant))
    }

    /// Lists tenants after `after`, at most `limit` (default and at most 1,000).
    ///
    /// # Errors
    /// [`OperationError`]: an error of the store.
    pub async fn list_tenants(&self, after: Option<&str>, limit: Option<usize>) -> Result<TenantList, OperationError> {
        let after = after.map(parse_tenant).transpose()?;
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let found = self.store.list_tenants(after, limit).await?;
        let next = (found.len() == limit).then(|| found.last().map(|t| t.id.as_str().to_owned()));
        Ok(TenantList {
            tenants: found.iter().map(TenantView::from).collect(),
            next: next.flatten(),
        })
    }

    /// Makes a tenant active or inactive.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn set_tenant(&self, id: &str, state: TenantState) -> Result<TenantView, OperationError> {
        let id = parse_tenant(id)?;
        let tenant = self.store.set_tenant_active(id, state).await?;
        tracing::info!(tenant = %tenant.id, active = tenant.active, "tenant changed");
        Ok(TenantView::from(&tenant))
    }
}
