//! Look-ups: what they ask, what they bring, and whether an answer belongs to its question.

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{CredentialRecord, Position, RoleRecord, TenantRecord};

use super::StoreError;

/// What a look-up found.
#[derive(Debug, Clone)]
pub struct LookupReply {
    /// The store's position at the time of the read: every change up to it is contained.
    pub position: Position,
    /// The credential and what its force depends on, read in one step; `None` = certainly absent.
    pub facts: Option<StoredFacts>,
    /// Up to when the server that answered was known to be the primary, where somebody else decides that:
    /// what was found counts from then if the question was sent later. `None`: from the question.
    pub primary_at: Option<BootMillis>,
}

/// A question that was answered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupQuery {
    /// Of what.
    pub fingerprint: Fingerprint,
    /// The position of what is known of it; `None`: it must be read, whatever the position.
    pub known: Option<Position>,
}

impl LookupQuery {
    /// Of what memory does not hold.
    #[must_use]
    pub const fn full(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, known: None }
    }
}

/// The answer to a question that was answered before.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "it is moved twice; a box would be made and dropped as often")]
pub enum RefreshReply {
    /// The store's position is the one that was known: not one change of anything has been made since.
    Unchanged(Position),
    /// As it was read anew.
    Read(LookupReply),
}

/// A credential and what its force depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFacts {
    /// The credential.
    pub credential: CredentialRecord,
    /// Its tenant.
    pub tenant: TenantRecord,
    /// What it hangs on: its parent first, every one up to the record that hangs on none.
    pub ancestors: Vec<CredentialRecord>,
    /// Those roles that it or what it hangs on names and the store has, of its tenant only, each once; the
    /// others are the configuration's or were deleted.
    pub roles: Vec<RoleRecord>,
}

/// Whether `record` is what a look-up of `fingerprint` must answer (docs/threats.md C3).
pub(super) fn answers(record: &CredentialRecord, fingerprint: &Fingerprint) -> bool {
    record.fingerprint.ct_eq(fingerprint) || Fingerprint::of_id(&record.surface, &record.id).ct_eq(fingerprint)
}

/// Puts together what a look-up read, and refuses what does not belong together: each ancestor must
/// be the one named, of the same tenant, up to one that names none. Roles of other tenants count as
/// absent.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(super) fn assemble(
    credential: CredentialRecord,
    tenant: TenantRecord,
    ancestors: Vec<CredentialRecord>,
    roles: Vec<RoleRecord>,
) -> Result<StoredFacts, StoreError> {
    let mut found = StoredFacts {
        credential,
        tenant,
        ancestors,
        roles,
    };
    found.roles.retain(|role| role.tenant.as_ref() == Some(&found.tenant.id));
    found.roles.sort_by(|a, b| a.id.cmp(&b.id));
    found.roles.dedup_by(|a, b| a.id == b.id);
    check_whole(&found)?;
    Ok(found)
}

/// Whether facts belong together ([`assemble`]); asked again of whatever a store answers.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(super) fn check_whole(found: &StoredFacts) -> Result<(), StoreError> {
    if found.tenant.id != found.credential.tenant {
        return Err(StoreError::Corrupt("the answer is about another tenant".into()));
    }
    let mut named = found.credential.parent();
    for ancestor in &found.ancestors {
        let is_named = named.is_some_and(|parent| parent.id == ancestor.id && parent.surface == ancestor.surface);
        if !is_named || ancestor.tenant != found.tenant.id {
            return Err(StoreError::Corrupt(format!(
                "what credential {} hangs on is another record",
                found.credential.id
            )));
        }
        named = ancestor.parent();
    }
    if named.is_some() {
        return Err(StoreError::Corrupt(format!(
            "what credential {} hangs on is missing",
            found.credential.id
        )));
    }
    let named = |role: &RoleRecord| {
        let mut chain = std::iter::once(&found.credential).chain(&found.ancestors);
        chain.any(|record| record.roles().contains(&role.id))
    };
    if found
        .roles
        .iter()
        .any(|role| !named(role) || role.tenant.as_ref() != Some(&found.tenant.id))
    {
        return Err(StoreError::Corrupt(format!(
            "a role of credential {} is not its own",
            found.credential.id
        )));
    }
    Ok(())
}
