//! Look-ups: what they ask, what they bring, and whether an answer belongs to its question.

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::chain::ChainSteps;
use crate::base::principal::{CredentialRecord, Position, RoleRecord, TenantRecord};

use super::StoreError;

/// The answer of a look-up.
#[derive(Debug, Clone)]
pub struct LookupReply {
    /// The store's position at the time of the read: every change up to it is contained.
    pub position: Position,
    /// The credential and what its force depends on, read in one step; `None` = certainly absent.
    pub facts: Option<StoredFacts>,
    /// When the server that answered was last named the primary, by sentinels or a cluster. The age of the answer counts from then
    /// if the question was sent later. `None`: the age counts from the question.
    pub primary_at: Option<BootMillis>,
    /// Whether the server is proven to have, up to this position, the very history that this process follows.
    pub history_proven: bool,
}

/// The question of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupQuery {
    pub fingerprint: Fingerprint,
    /// The position of the facts that the cache has; `None`: the facts must be read, whatever the position.
    pub known: Option<Position>,
}

impl LookupQuery {
    /// The question about facts that the cache does not have.
    #[must_use]
    pub const fn full(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, known: None }
    }
}

/// The answer to a [`LookupQuery`].
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "it is moved twice; a box would be made and dropped as often")]
pub enum RefreshReply {
    /// The store's position is the known one: no change of any record has been made since.
    Unchanged(Position),
    /// The facts as they are now.
    Read(LookupReply),
}

/// A credential and the records on which its validity depends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFacts {
    pub credential: CredentialRecord,
    pub tenant: TenantRecord,
    /// Its ancestors: the parent first, up to the record that nothing stands above
    /// ([`chain`](crate::base::principal::chain)).
    pub ancestors: Vec<CredentialRecord>,
    /// The roles that it or its ancestors name and that the store has, of its tenant only, each once. Other roles that are named
    /// are in the configuration, or were deleted.
    pub roles: Vec<RoleRecord>,
}

/// Whether `record` is what a look-up of `fingerprint` must answer (docs/threats.md C3).
pub(super) fn answers(record: &CredentialRecord, fingerprint: &Fingerprint) -> bool {
    record.fingerprint.ct_eq(fingerprint) || Fingerprint::of_id(&record.surface, &record.id).ct_eq(fingerprint)
}

/// Puts together the records that a look-up has read, and refuses records that do not belong together: each ancestor must
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
    let mut steps = ChainSteps::from(&found.credential);
    for ancestor in &found.ancestors {
        if steps.go_up(ancestor).is_err() {
            return Err(StoreError::Corrupt(format!(
                "what credential {} hangs on is another record",
                found.credential.id
            )));
        }
    }
    if steps.next().is_some() {
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
