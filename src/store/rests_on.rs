//! The precondition of a write: the records by which its caller was judged must be unchanged at the step of the write.

use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, Facts, RoleRecord, TenantRecord};

use super::{ChangeError, StoredFacts};

/// Records by id and epoch. A change that rests on them is made only while the store has each of them in exactly
/// this epoch: epochs count the changes of a record, so the same epoch is the same record. What is not there any
/// more has no epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestsOn {
    pub(super) credentials: Vec<(CredentialId, u64)>,
    pub(super) tenants: Vec<(TenantId, u64)>,
    pub(super) roles: Vec<(RoleId, u64)>,
}

impl RestsOn {
    /// All records that decide about a credential: the credential, its ancestors, its tenant, and the roles of all of them. A role
    /// that is missing from the store stays missing, since ids are never used again.
    #[must_use]
    pub fn facts(facts: &Facts) -> Self {
        Self::of(&facts.credential, &facts.ancestors, &facts.tenant, &facts.roles)
    }

    /// The same, for the answer of a look-up.
    #[must_use]
    pub fn found(found: &StoredFacts) -> Self {
        Self::of(&found.credential, &found.ancestors, &found.tenant, &found.roles)
    }

    fn of(credential: &CredentialRecord, above: &[CredentialRecord], tenant: &TenantRecord, roles: &[RoleRecord]) -> Self {
        // A tenant's own record is made from the tenant and stands nowhere by itself.
        let stored = std::iter::once(credential).chain(above).filter(|record| !record.is_of_tenant());
        Self {
            credentials: stored.map(|record| (record.id.clone(), record.epoch)).collect(),
            tenants: vec![(tenant.id.clone(), tenant.epoch)],
            roles: roles.iter().map(|role| (role.id.clone(), role.epoch)).collect(),
        }
    }

    /// Adds the records of another judgement.
    pub fn add(&mut self, other: Self) {
        add_new(&mut self.credentials, other.credentials);
        add_new(&mut self.tenants, other.tenants);
        add_new(&mut self.roles, other.roles);
    }

    /// Adds roles of the store.
    pub fn add_roles<'r>(&mut self, roles: impl Iterator<Item = &'r RoleRecord>) {
        // Those of the configuration have no tenant and change with the snapshot only.
        let stored = roles.filter(|role| role.tenant.is_some());
        add_new(&mut self.roles, stored.map(|role| (role.id.clone(), role.epoch)).collect());
    }

    /// The judged epochs: of the credentials, then of the tenants, then of the roles.
    pub(super) fn epochs(&self) -> impl Iterator<Item = u64> {
        let others = self
            .tenants
            .iter()
            .map(|(_, epoch)| epoch)
            .chain(self.roles.iter().map(|(_, epoch)| epoch));
        self.credentials.iter().map(|(_, epoch)| epoch).chain(others).copied()
    }
}

/// Two epochs of one record stay both: then one of them is not the store's, and the change is not made.
fn add_new<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// Compares an epoch with that of the record as the store has it now.
///
/// # Errors
/// [`ChangeError::Stale`] when it is another one, or the record is gone.
pub(super) fn check_epoch(judged: u64, stored: Option<u64>) -> Result<(), ChangeError> {
    if stored == Some(judged) { Ok(()) } else { Err(ChangeError::Stale) }
}
