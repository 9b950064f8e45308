//! Roles: their JSON, and operations on them. Those of a tenant are made, changed and deleted here; those of the
//! configuration are shown.

use serde::{Deserialize, Serialize};

use crate::base::ids::{RoleId, TenantId};
use crate::base::principal::{MAX_ROLES, RoleRecord};
use crate::snapshot::Snapshot;
use crate::store::RoleChange;

use super::Operations;
use super::error::OperationError;
use super::receipts::Doubtful;
use super::text::{parse_description, parse_name, parse_role_id, parse_scopes, parse_tenant, printable, scope_words, write};

/// Makes a role of a tenant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateRole {
    pub tenant: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its holders may do.
    pub scopes: Vec<String>,
}

/// Changes a role. A member that is absent changes nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetRole {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Replaces what its holders may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// A role as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleView {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    /// The tenant of the role; none for a role of the configuration, which every tenant may use.
    pub tenant: Option<String>,
    /// What its holders may do, sorted.
    pub scopes: Vec<String>,
    /// When it was made, RFC 3339; none for a role of the configuration.
    pub created_at: Option<String>,
}

impl From<&RoleRecord> for RoleView {
    fn from(role: &RoleRecord) -> Self {
        Self {
            id: role.id.as_str().into(),
            name: role.name.clone(),
            description: role.description.clone(),
            tenant: role.tenant.as_ref().map(|t| t.as_str().into()),
            scopes: scope_words(&role.scopes),
            created_at: role.tenant.as_ref().map(|_| write(role.created_at)),
        }
    }
}

impl Doubtful for RoleView {}

/// Roles: those of the configuration, then those of the tenant asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoleList {
    pub roles: Vec<RoleView>,
}

/// The role that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleDeleted {
    pub id: String,
}

impl Doubtful for RoleDeleted {}

impl Operations {
    /// Makes a role of a tenant. Its name must not be that of another role the tenant can use.
    ///
    /// # Errors
    /// [`OperationError::Usage`], [`OperationError::NotFound`] without the tenant,
    /// [`OperationError::Conflict`] when the name is taken, or an error of the store.
    pub async fn create_role(&self, request: &CreateRole) -> Result<RoleView, OperationError> {
        let tenant = parse_tenant(&request.tenant)?;
        let name = parse_name(&request.name)?;
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| OperationError::Unavailable("no randomness".into()))?;
        let role = RoleRecord {
            id: RoleId::of_random(bytes),
            name,
            description: request.description.as_deref().map(parse_description).transpose()?,
            scopes: parse_scopes(&request.scopes)?,
            created_at: self.clock.now().wall,
            tenant: Some(tenant.clone()),
            epoch: 0,
        };
        self.refuse_name(&tenant, &role).await?;
        let made = self.store.create_role(role).await?;
        tracing::info!(role = %made.id, %tenant, "role created");
        Ok(RoleView::from(&made))
    }

    /// Lists the roles of the configuration and, if asked for, those of a tenant.
    ///
    /// # Errors
    /// [`OperationError`]: an error of the store.
    pub async fn list_roles(&self, tenant: Option<&str>) -> Result<RoleList, OperationError> {
        let snapshot = self.snapshot.load();
        let mut roles: Vec<RoleView> = snapshot.scope_grants.roles.iter().map(RoleView::from).collect();
        if let Some(tenant) = tenant {
            let stored = self.store.list_roles(parse_tenant(tenant)?).await?;
            roles.extend(stored.iter().map(RoleView::from));
        }
        Ok(RoleList { roles })
    }

    /// Shows one role.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn show_role(&self, id: &str) -> Result<RoleView, OperationError> {
        let id = parse_role_id(id)?;
        if let Some(role) = self.snapshot.load().scope_grants.roles.find(&id) {
            return Ok(RoleView::from(role));
        }
        let found = self.store.find_role(id.clone()).await?;
        found.as_ref().map(RoleView::from).ok_or_else(|| no_role(id.as_str()))
    }

    /// Changes a role of a tenant. Gateways apply it to its holders as they apply a revocation.
    ///
    /// # Errors
    /// [`OperationError::Conflict`] for a role of the configuration or a taken name,
    /// [`OperationError::NotFound`], [`OperationError::Usage`] without any change, or an error of the store.
    pub async fn set_role(&self, id: &str, request: &SetRole) -> Result<RoleView, OperationError> {
        let renamed = request.name.is_some() || request.description.is_some();
        if !renamed && request.scopes.is_none() {
            return Err(OperationError::Usage(
                "give at least one change: a name, a description or scopes".into(),
            ));
        }
        let id = self.parse_stored_role(id)?;
        let role = self.store.find_role(id.clone()).await?.ok_or_else(|| no_role(id.as_str()))?;
        let scopes = request.scopes.as_deref().map(parse_scopes).transpose()?;
        let mut changed = role.clone();
        if renamed {
            if let Some(name) = &request.name {
                changed.name = parse_name(name)?;
            }
            if let Some(description) = &request.description {
                changed.description = Some(parse_description(description)?).filter(|text| !text.is_empty());
            }
            if let Some(tenant) = &role.tenant {
                self.refuse_name(tenant, &changed).await?;
            }
            let rename = RoleChange::Rename {
                name: changed.name.clone(),
                description: changed.description.clone(),
            };
            changed = self.store.change_role(id.clone(), rename).await?;
        }
        if let Some(scopes) = scopes {
            changed = self.store.change_role(id.clone(), RoleChange::SetScopes(scopes)).await?;
        }
        tracing::info!(role = %id, "role changed");
        Ok(RoleView::from(&changed))
    }

    /// Deletes a role of a tenant. Its holders lose its scopes.
    ///
    /// # Errors
    /// [`OperationError::Conflict`] for a role of the configuration, [`OperationError::NotFound`], or an
    /// error of the store.
    pub async fn delete_role(&self, id: &str) -> Result<RoleDeleted, OperationError> {
        let id = self.parse_stored_role(id)?;
        self.store.delete_role(id.clone()).await?;
        tracing::info!(role = %id, "role deleted");
        Ok(RoleDeleted { id: id.as_str().into() })
    }

    /// The ids of roles that a credential of this tenant is given, by id or by name.
    pub(crate) async fn resolve_roles(
        &self,
        snapshot: &Snapshot,
        tenant: &TenantId,
        words: &[String],
    ) -> Result<Vec<RoleId>, OperationError> {
        if words.is_empty() {
            return Ok(Vec::new());
        }
        if words.len() > MAX_ROLES {
            return Err(OperationError::Usage(format!("a credential has at most {MAX_ROLES} roles")));
        }
        let stored = self.store.list_roles(tenant.clone()).await?;
        let usable = |word: &String| {
            let mut all = snapshot.scope_grants.roles.iter().chain(&stored);
            let found = all.find(|role| role.id.as_str() == word || role.name == *word);
            found.map(|role| role.id.clone()).ok_or_else(|| {
                OperationError::NotFound(format!(
                    "tenant `{tenant}` cannot use a role `{}`; `durward roles list --tenant {tenant}` shows the roles that it can use",
                    printable(word)
                ))
            })
        };
        words.iter().map(usable).collect()
    }

    /// Refuses a second role of the same name, since an operator who gives it by name could not say which one.
    async fn refuse_name(&self, tenant: &TenantId, role: &RoleRecord) -> Result<(), OperationError> {
        let snapshot = self.snapshot.load();
        let stored = self.store.list_roles(tenant.clone()).await?;
        let mut others = snapshot.scope_grants.roles.iter().chain(&stored);
        if others.any(|other| other.id != role.id && other.name == role.name) {
            return Err(OperationError::Conflict(format!(
                "tenant `{tenant}` has a role `{}` already",
                printable(&role.name)
            )));
        }
        Ok(())
    }

    fn parse_stored_role(&self, id: &str) -> Result<RoleId, OperationError> {
        let id = parse_role_id(id)?;
        if self.snapshot.load().scope_grants.roles.find(&id).is_some() {
            return Err(OperationError::Conflict(format!(
                "role `{id}` is defined in the configuration and can be changed only there"
            )));
        }
        Ok(id)
    }
}

fn no_role(id: &str) -> OperationError {
    OperationError::NotFound(format!("there is no role `{id}`"))
}
