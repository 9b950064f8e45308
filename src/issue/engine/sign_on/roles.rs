//! The roles and scopes that a provider's table gives a person, at a sign-on and at each renewal.

use std::collections::HashSet;

use crate::base::ids::{CredentialId, RoleId};
use crate::base::principal::{CredentialRecord, MAX_ROLES, RoleRecord};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::person::GivenRoles;
use crate::store::CredentialChange;

use super::provider::FoundProvider;

/// What of the given roles exists, each once and in order. A role that does not exist any more gives nothing.
///
/// # Errors
/// [`SignOnFault::TooManyRoles`]; [`SignOnFault::NoRole`] where the provider gives roles, and nothing is left.
pub(super) fn existing(given: &GivenRoles, known: &[RoleRecord], provider: &FoundProvider) -> Result<GivenRoles, SignOnFault> {
    let exists = |id: &&RoleId| known.iter().any(|role| role.id == **id);
    let mut roles: Vec<RoleId> = given.roles.iter().filter(exists).cloned().collect();
    roles.sort();
    roles.dedup();
    if roles.len() > MAX_ROLES {
        return Err(SignOnFault::TooManyRoles);
    }
    if provider.settings.roles.is_some() && roles.is_empty() && given.scopes.is_empty() {
        return Err(SignOnFault::NoRole);
    }
    Ok(GivenRoles {
        roles,
        scopes: given.scopes.clone(),
    })
}

/// Gives a person's record these roles and scopes in the place of what it has. Answers the changes of the store that do the same.
pub(super) fn set(record: &mut CredentialRecord, given: &GivenRoles) -> Vec<(CredentialId, CredentialChange)> {
    let mut changes = Vec::new();
    if record.roles() != given.roles {
        changes.push((record.id.clone(), CredentialChange::SetRoles(given.roles.clone())));
        record.extras_mut().roles.clone_from(&given.roles);
    }
    if record.scopes != given.scopes {
        changes.push((record.id.clone(), CredentialChange::SetScopes(given.scopes.clone())));
        record.scopes = given.scopes.clone();
    }
    changes
}

/// Those of the known roles that one of these records or the provider names.
pub(super) fn of_chain<'r>(
    known: Vec<RoleRecord>,
    below: impl Iterator<Item = &'r CredentialRecord>,
    provider: &'r FoundProvider,
) -> Vec<RoleRecord> {
    let named: HashSet<&RoleId> = below.chain([provider.record()]).flat_map(|record| record.roles()).collect();
    known.into_iter().filter(|role| named.contains(&role.id)).collect()
}
