//! The roles that a provider and its table name: by id or name, of the configuration or of the tenant.

use crate::base::ids::{RoleId, TenantId};
use crate::base::principal::{MAX_ROLES, RoleRecord};
use crate::base::scope::{Scope, ScopeSet};
use crate::sign_on::provider::{ProviderSettings, RoleSettings};
use crate::snapshot::Snapshot;
use crate::store::{CredentialStore, StoreError};

use super::error::ManagementError;

/// The roles that a tenant may use: those of the configuration, then its own.
pub(super) struct KnownRoles {
    tenant: TenantId,
    roles: Vec<RoleRecord>,
}

impl KnownRoles {
    pub(super) async fn read(store: &dyn CredentialStore, snapshot: &Snapshot, tenant: &TenantId) -> Result<Self, StoreError> {
        let own = store.list_roles(tenant.clone()).await?;
        Ok(Self {
            tenant: tenant.clone(),
            roles: snapshot.scope_grants.roles.iter().cloned().chain(own).collect(),
        })
    }

    /// The roles that these words name.
    pub(super) fn resolve(&self, field: &'static str, words: &[String]) -> Result<Vec<&RoleRecord>, ManagementError> {
        if words.len() > MAX_ROLES {
            return Err(ManagementError::request(
                field,
                format!("a credential has at most {MAX_ROLES} roles"),
            ));
        }
        let find = |word: &String| {
            let found = self.roles.iter().find(|role| role.id.as_str() == word || role.name == *word);
            found.ok_or_else(|| {
                let word: String = word.chars().take(80).flat_map(char::escape_default).collect();
                ManagementError::UnknownRole {
                    field,
                    tenant: self.tenant.clone(),
                    role: word,
                }
            })
        };
        words.iter().map(find).collect()
    }

    /// Puts the ids of roles in the place of their names in the table of the settings. The roles that it names, if it is another
    /// than `before`.
    pub(super) fn name_in_table(
        &self,
        before: Option<&RoleSettings>,
        settings: &mut ProviderSettings,
    ) -> Result<Vec<&RoleRecord>, ManagementError> {
        let Some(table) = &mut settings.roles else {
            return Ok(Vec::new());
        };
        let lists = table
            .table
            .iter_mut()
            .map(|row| &mut row.roles)
            .chain(std::iter::once(&mut table.default));
        let mut named = Vec::new();
        for roles in lists {
            let found = self.resolve("settings.roles", roles)?;
            *roles = found.iter().map(|role| role.id.to_string()).collect();
            named.extend(found);
        }
        Ok(if before == Some(&*table) { Vec::new() } else { named })
    }
}

/// The scopes of these roles, and these.
pub(super) fn scopes_of(scopes: &ScopeSet, roles: &[&RoleRecord]) -> ScopeSet {
    scopes
        .iter()
        .chain(roles.iter().flat_map(|role| role.scopes.iter()))
        .cloned()
        .collect()
}

/// The scopes that a table names itself, if it is another than `before`. Words that are no scopes are told as mistakes.
pub(super) fn scopes_in_table(before: Option<&RoleSettings>, settings: &ProviderSettings) -> ScopeSet {
    let changed = settings.roles.as_ref().filter(|table| before != Some(*table));
    let words = changed.into_iter().flat_map(|table| table.table.iter().flat_map(|row| &row.scopes));
    words.filter_map(|word| Scope::parse(word).ok()).collect()
}

pub(super) fn ids(roles: &[&RoleRecord]) -> Vec<RoleId> {
    roles.iter().map(|role| role.id.clone()).collect()
}

pub(super) fn parse_scopes(words: &[String]) -> Result<ScopeSet, ManagementError> {
    let parse = |word: &String| {
        Scope::parse(word).map_err(|error| {
            let word: String = word.chars().take(80).flat_map(char::escape_default).collect();
            ManagementError::request("scopes", format!("`{word}` is not a scope: {error}"))
        })
    };
    words.iter().map(parse).collect()
}
