//! Operations on tenants.

use crate::base::ids::TenantId;
use crate::decide::route::literal_beside_tenant;
use crate::store::TenantState;

use super::Operations;
use super::api::{CreateTenant, TenantList, TenantView};
use super::error::OperationError;
use super::times::printable;

/// Most entries of one page; stores cap lists at the same number.
pub(crate) const PAGE: usize = 1_000;

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
    /// [`OperationError`], as the store has it.
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
    /// [`OperationError::NotFound`], or as the store has it.
    pub async fn set_tenant(&self, id: &str, state: TenantState) -> Result<TenantView, OperationError> {
        let id = parse_tenant(id)?;
        let tenant = self.store.set_tenant_active(id, state).await?;
        tracing::info!(tenant = %tenant.id, active = tenant.active, "tenant changed");
        Ok(TenantView::from(&tenant))
    }
}

pub(crate) fn parse_tenant(id: &str) -> Result<TenantId, OperationError> {
    TenantId::parse(id).map_err(|e| OperationError::Usage(format!("`{}` is not a tenant id: {e}", printable(id))))
}
