//! What a change does to a record: one pure rule that every store applies, so that they cannot differ.

use std::sync::Arc;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, RoleId, TenantId, is_valid_id};
use crate::base::principal::chain::{ChainSteps, next_above};
use crate::base::principal::{CredentialRecord, CredentialState, MAX_ANCESTORS, MAX_ROLES, Parent, RoleRecord, TenantRecord};

use super::codec::CodecError;
use super::{
    ChangeError, CredentialChange, EventSubject, MAX_NEW, MarkRoom, NewRecords, RecordLimits, RoleChange, StoreError, TenantState,
};

#[cfg(test)]
mod tests;

/// What a change comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChangeOutcome<T> {
    /// It is already so: acknowledged without a write and without an event.
    Unchanged,
    /// The record as it is to be written.
    Changed(T),
}

/// The times of a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeTimes {
    /// When whoever asked for it says that it is.
    pub(super) now: UnixMillis,
    /// Later than everything that the store has written, and not later than what it will write.
    pub(super) watermark: UnixMillis,
}

/// Applies a change to a credential. A revoked credential never becomes anything else.
///
/// # Errors
/// [`ChangeError::Conflict`] when the record's state, or a rule, forbids the change.
pub(super) fn change_credential(
    record: &CredentialRecord,
    change: &CredentialChange,
    at: ChangeTimes,
) -> Result<ChangeOutcome<CredentialRecord>, ChangeError> {
    let mut changed = record.clone();
    match (change, record.state) {
        (CredentialChange::Revoke, CredentialState::Revoked { .. })
        | (CredentialChange::Disable, CredentialState::Disabled)
        | (CredentialChange::Enable, CredentialState::Active) => return Ok(ChangeOutcome::Unchanged),
        (_, CredentialState::Revoked { .. }) => {
            return Err(ChangeError::Conflict(format!(
                "the credential {} is revoked and stays so",
                record.id
            )));
        }
        (CredentialChange::Revoke, _) => changed.state = CredentialState::Revoked { at: at.now },
        (CredentialChange::Disable, _) => changed.state = CredentialState::Disabled,
        (CredentialChange::Enable, _) => changed.state = CredentialState::Active,
        (CredentialChange::ExpireAt(at), _) => {
            if record.expires_at.is_some_and(|already| already <= *at) {
                return Ok(ChangeOutcome::Unchanged);
            }
            changed.expires_at = Some(*at);
        }
        (CredentialChange::ValidAfter(at), _) => {
            if record.valid_after.is_some_and(|already| already >= *at) {
                return Ok(ChangeOutcome::Unchanged);
            }
            changed.valid_after = Some(*at);
        }
        // Two in one step are one: the second has nothing left to end.
        (CredentialChange::EndIssued, _) => changed.valid_after = record.valid_after.max(Some(at.watermark)),
        (CredentialChange::SetRoles(roles), _) => {
            let roles = distinct(roles)?;
            if roles == record.roles() {
                return Ok(ChangeOutcome::Unchanged);
            }
            changed.extras_mut().roles = roles;
        }
        (CredentialChange::SetScopes(scopes), _) => {
            if !has_changing_scopes(record) {
                return Err(ChangeError::Conflict(format!(
                    "the scopes of the credential {} do not change: only those of identity providers, of their people and of these \
                     people's sessions do",
                    record.id
                )));
            }
            if *scopes == record.scopes {
                return Ok(ChangeOutcome::Unchanged);
            }
            changed.scopes = scopes.clone();
        }
        (CredentialChange::SetPassword(hash), _) => changed.extras_mut().password = Some(hash.clone()),
        (CredentialChange::SetSettings(settings), _) => {
            if record.settings() == Some(settings) {
                return Ok(ChangeOutcome::Unchanged);
            }
            // The codec refuses settings on any other record, and settings that are too long.
            changed.extras_mut().settings = Some(Arc::clone(settings));
        }
        (CredentialChange::SetName(name), _) => {
            if !record.is_provider() {
                return Err(ChangeError::Conflict(format!(
                    "the name of the credential {} does not change: only that of an identity provider does",
                    record.id
                )));
            }
            if record.name.as_ref() == Some(name) {
                return Ok(ChangeOutcome::Unchanged);
            }
            changed.name = Some(name.clone());
        }
    }
    changed.extras = changed.extras.and_then(|extras| extras.boxed());
    changed.epoch = next_epoch(record.epoch)?;
    Ok(ChangeOutcome::Changed(changed))
}

/// Whether the scopes of a record may be replaced. A key has for life the scopes that it was made with. What the provider gives a
/// person later, the person's session is given at its renewal; it may never do more than the person.
pub(super) fn has_changing_scopes(record: &CredentialRecord) -> bool {
    record.is_provider() || record.is_person_of_provider() || record.is_session_of_sign_on()
}

/// Makes a tenant active or inactive.
///
/// # Errors
/// [`ChangeError::Conflict`] when the record's epoch is exhausted.
pub(super) fn change_tenant(record: &TenantRecord, state: TenantState) -> Result<ChangeOutcome<TenantRecord>, ChangeError> {
    let active = state == TenantState::Active;
    if record.active == active {
        return Ok(ChangeOutcome::Unchanged);
    }
    Ok(ChangeOutcome::Changed(TenantRecord {
        active,
        epoch: next_epoch(record.epoch)?,
        ..record.clone()
    }))
}

/// Applies a change to a role.
///
/// # Errors
/// [`ChangeError::Conflict`] when the record's epoch is exhausted.
pub(super) fn change_role(record: &RoleRecord, change: &RoleChange) -> Result<ChangeOutcome<RoleRecord>, ChangeError> {
    let mut changed = record.clone();
    match change {
        RoleChange::SetScopes(scopes) => changed.scopes = scopes.clone(),
        RoleChange::Rename { name, description } => {
            changed.name.clone_from(name);
            changed.description.clone_from(description);
        }
    }
    if changed == *record {
        return Ok(ChangeOutcome::Unchanged);
    }
    changed.epoch = next_epoch(record.epoch)?;
    Ok(ChangeOutcome::Changed(changed))
}

/// The rules of a creation that need no store: few records, all of one tenant. Answers the records
/// as they are first written, and their tenant; none for a tenant alone.
///
/// # Errors
/// [`ChangeError::Conflict`].
pub(super) fn check_creation(new: &NewRecords) -> Result<(Option<TenantId>, Vec<CredentialRecord>), ChangeError> {
    let NewRecords {
        tenant,
        credentials,
        changes,
        ..
    } = new;
    if credentials.len() > MAX_NEW {
        return Err(ChangeError::Conflict(format!("at most {MAX_NEW} credentials are made together")));
    }
    if changes.len() > MAX_NEW {
        return Err(ChangeError::Conflict(format!("at most {MAX_NEW} changes are made together")));
    }
    let owner = tenant.clone().or_else(|| credentials.first().map(|c| c.tenant.clone()));
    if credentials.iter().any(|c| Some(&c.tenant) != owner.as_ref()) {
        return Err(ChangeError::Conflict("records made together belong to one tenant".into()));
    }
    let credentials: Vec<CredentialRecord> = credentials.iter().cloned().map(first).collect::<Result<_, _>>()?;
    for (made, record) in credentials.iter().enumerate() {
        let before = credentials.get(..made).unwrap_or_default();
        if before.iter().any(|other| other.id == record.id) {
            return Err(id_taken(&record.id));
        }
        let own = fingerprints(record);
        if before.iter().any(|other| fingerprints(other).iter().any(|f| own.contains(f))) {
            return Err(fingerprint_taken());
        }
    }
    Ok((owner, credentials))
}

/// Ids of the credentials to be changed, each once, in the order of their first change.
pub(super) fn changed_ids(changes: &[(CredentialId, CredentialChange)]) -> Vec<&CredentialId> {
    let mut ids: Vec<&CredentialId> = Vec::new();
    for (id, _) in changes {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// Applies all changes of one credential, one after the other, as one change.
///
/// # Errors
/// [`ChangeError::NotFound`] for a credential of another tenant than `owner` (if there is one); as
/// [`change_credential`].
pub(super) fn change_together(
    record: &CredentialRecord,
    owner: Option<&TenantId>,
    changes: &[(CredentialId, CredentialChange)],
    at: ChangeTimes,
) -> Result<ChangeOutcome<CredentialRecord>, ChangeError> {
    if owner.is_some_and(|owner| record.tenant != *owner) {
        return Err(no_credential(&record.id));
    }
    let mut changed = record.clone();
    for (_, change) in changes.iter().filter(|(id, _)| *id == record.id) {
        if let ChangeOutcome::Changed(next) = change_credential(&changed, change, at)? {
            changed = CredentialRecord {
                epoch: record.epoch,
                ..next
            };
        }
    }
    if changed == *record {
        return Ok(ChangeOutcome::Unchanged);
    }
    changed.epoch = next_epoch(record.epoch)?;
    Ok(ChangeOutcome::Changed(changed))
}

/// A record to be written as it is, over one that says more.
///
/// # Errors
/// [`ChangeError::Conflict`] when its epoch is exhausted.
pub(super) fn rewritten(record: &CredentialRecord) -> Result<CredentialRecord, ChangeError> {
    Ok(CredentialRecord {
        epoch: next_epoch(record.epoch)?,
        ..record.clone()
    })
}

/// A new credential as it is first written.
fn first(mut record: CredentialRecord) -> Result<CredentialRecord, ChangeError> {
    if record.is_of_tenant() {
        return Err(ChangeError::Conflict("a tenant's own record is not made".into()));
    }
    if let Some(mut extras) = record.extras.take() {
        extras.roles = distinct(&extras.roles)?;
        if let Some(idle) = &mut extras.idle {
            idle.last_used = idle.last_used.max(record.created_at);
        }
        record.extras = extras.boxed();
    }
    Ok(CredentialRecord { epoch: 1, ..record })
}

/// Roles in order, each once; few enough to be read with every look-up.
fn distinct(roles: &[RoleId]) -> Result<Vec<RoleId>, ChangeError> {
    let mut roles = roles.to_vec();
    roles.sort();
    roles.dedup();
    if roles.len() > MAX_ROLES {
        return Err(ChangeError::Conflict(format!("a credential has at most {MAX_ROLES} roles")));
    }
    Ok(roles)
}

/// Whether a new record may hang on this chain, its parent first, as it is at the step of its making.
///
/// # Errors
/// [`ChangeError::NotFound`] when the parent, or a link, is not there, not of the surface named or of another
/// tenant (which look alike to whoever asks); [`ChangeError::Conflict`] when it or one of those it
/// hangs on is revoked, the chain would grow too long, or it would hang on a link without its account.
pub(super) fn check_parent(record: &CredentialRecord, parent: &Parent, chain: &[CredentialRecord]) -> Result<(), ChangeError> {
    let there = chain
        .first()
        .is_some_and(|found| found.id == parent.id && found.surface == parent.surface && found.tenant == record.tenant);
    if !there {
        return Err(no_credential(&parent.id));
    }
    let mut steps = ChainSteps::from(record);
    for above in chain {
        if steps.go_up(above).is_err() {
            return Err(ChangeError::Conflict(format!(
                "nothing can hang on the credential {} this way",
                above.id
            )));
        }
    }
    if let Some(missing) = steps.next().filter(|_| chain.len() <= MAX_ANCESTORS) {
        return Err(no_credential(&missing.id));
    }
    if let Some(ended) = chain.iter().find(|c| matches!(c.state, CredentialState::Revoked { .. })) {
        return Err(ChangeError::Conflict(format!("the credential {} is revoked", ended.id)));
    }
    if chain.len() > MAX_ANCESTORS {
        return Err(ChangeError::Conflict(format!(
            "a chain of more than {MAX_ANCESTORS} parents is not made"
        )));
    }
    Ok(())
}

/// The part of a record's chain that is made together with it: its parent first.
pub(super) fn chain_among(record: &CredentialRecord, before: &[CredentialRecord]) -> Vec<CredentialRecord> {
    let mut chain: Vec<CredentialRecord> = Vec::new();
    // Each step goes to an earlier record, so there are no more steps than records.
    while chain.len() < before.len()
        && let Some(parent) = next_above(record, &chain)
        && let Some(made) = before.iter().find(|made| made.id == parent.id)
    {
        chain.push(made.clone());
    }
    chain
}

/// A use that the store learnt of, laid over the record. Uses are kept beside the records.
pub(super) fn with_last_use(mut record: CredentialRecord, last_used: Option<UnixMillis>) -> CredentialRecord {
    if let (Some(last_used), Some(extras)) = (last_used, record.extras.as_mut())
        && let Some(idle) = &mut extras.idle
    {
        idle.last_used = idle.last_used.max(last_used);
    }
    record
}

/// What a credential is found by: its key's fingerprint, and its id's.
pub(super) fn fingerprints(record: &CredentialRecord) -> [Fingerprint; 2] {
    [record.fingerprint, Fingerprint::of_id(&record.surface, &record.id)]
}

/// The event of a change of this credential.
pub(super) fn credential_event(record: &CredentialRecord) -> EventSubject {
    EventSubject::Credential {
        id: record.id.clone(),
        fingerprints: fingerprints(record).to_vec(),
    }
}

pub(super) fn new_tenant(id: TenantId, now: UnixMillis) -> TenantRecord {
    TenantRecord {
        id,
        active: true,
        created_at: now,
        epoch: 1,
    }
}

/// A record of a list, or which of its records cannot be read, and why.
pub(super) fn expect_listed<T>(id: &str, read: Result<Option<T>, StoreError>) -> Result<T, StoreError> {
    let why = match read {
        Ok(Some(record)) => return Ok(record),
        Ok(None) => "an index names it, and it is missing".to_owned(),
        Err(StoreError::Corrupt(why)) => why,
        Err(error) => return Err(error),
    };
    let id = if is_valid_id(id) { id } else { "of no valid id" };
    Err(StoreError::Corrupt(format!("the record {id} cannot be listed: {why}")))
}

pub(super) fn no_credential(id: &CredentialId) -> ChangeError {
    ChangeError::NotFound(format!("credential {id}"))
}

pub(super) fn no_tenant(id: &TenantId) -> ChangeError {
    ChangeError::NotFound(format!("tenant {id}"))
}

pub(super) fn no_role(id: &RoleId) -> ChangeError {
    ChangeError::NotFound(format!("role {id}"))
}

pub(super) fn id_taken(id: &CredentialId) -> ChangeError {
    ChangeError::Taken(format!("a credential {id} exists already"))
}

pub(super) fn tenant_taken(id: &TenantId) -> ChangeError {
    ChangeError::Taken(format!("a tenant {id} exists already"))
}

pub(super) fn role_taken(id: &RoleId) -> ChangeError {
    ChangeError::Taken(format!("a role {id} exists already"))
}

pub(super) fn fingerprint_taken() -> ChangeError {
    ChangeError::Taken("a credential with this key exists already".into())
}

pub(super) fn too_many_roles(tenant: &TenantId) -> ChangeError {
    ChangeError::Conflict(format!(
        "the tenant {tenant} has {} roles, which is the most",
        super::MAX_TENANT_ROLES
    ))
}

/// One record has as many children as may be made.
pub(super) fn too_many_children(limits: Option<RecordLimits>) -> ChangeError {
    let most = limits.map_or(0, |limits| limits.children);
    ChangeError::Full(format!(
        "{most} credentials hang on this one, which is the most (`[limits] children`)"
    ))
}

/// A tenant has as many credentials as may be made.
pub(super) fn too_many_credentials(tenant: &TenantId, limits: Option<RecordLimits>) -> ChangeError {
    let most = limits.map_or(0, |limits| limits.credentials);
    ChangeError::Full(format!(
        "the tenant {tenant} has {most} credentials, which is the most (`[limits] credentials`)"
    ))
}

/// There are as many marks as may be.
pub(super) fn too_many_marks(room: MarkRoom) -> ChangeError {
    ChangeError::Full(format!(
        "{} marks of things that may be used once are kept, which is the most; they end by themselves",
        room.most()
    ))
}

/// A role of the store belongs to a tenant.
///
/// # Errors
/// [`ChangeError::Conflict`].
pub(super) fn tenant_of(role: &RoleRecord) -> Result<&TenantId, ChangeError> {
    role.tenant
        .as_ref()
        .ok_or_else(|| ChangeError::Conflict("a role of the store belongs to a tenant".into()))
}

/// A record that could not be read back is refused before anything is written.
#[expect(clippy::needless_pass_by_value, reason = "used as a function of map_err")]
pub(super) fn unwritable(error: CodecError) -> ChangeError {
    ChangeError::Conflict(format!("the record cannot be written: {error}"))
}

/// Epochs must grow: an epoch that stood still could not outrank an older record.
pub(super) fn next_epoch(epoch: u64) -> Result<u64, ChangeError> {
    epoch
        .checked_add(1)
        .ok_or_else(|| ChangeError::Conflict("the record was changed too often".into()))
}
