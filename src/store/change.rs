//! What a change does to a record: one pure rule that every store applies, so that they cannot differ.

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, State, TenantRecord};

use super::codec::CodecError;
use super::{ChangeError, CredentialChange, EventSubject, TenantState};

/// What a change comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome<T> {
    /// It is already so: acknowledged without a write and without an event.
    Unchanged,
    /// The record as it is to be written.
    Changed(T),
}

/// Applies a change to a credential. A revoked credential never becomes anything else.
///
/// # Errors
/// [`ChangeError::Conflict`] when the record's state forbids the change.
pub(super) fn change_credential(
    record: &CredentialRecord,
    change: CredentialChange,
    now: UnixMillis,
) -> Result<Outcome<CredentialRecord>, ChangeError> {
    let mut changed = record.clone();
    match (change, record.state) {
        (CredentialChange::Revoke, State::Revoked { .. })
        | (CredentialChange::Disable, State::Disabled)
        | (CredentialChange::Enable, State::Active) => return Ok(Outcome::Unchanged),
        (_, State::Revoked { .. }) => {
            return Err(ChangeError::Conflict(format!(
                "the credential {} is revoked and stays so",
                record.id
            )));
        }
        (CredentialChange::Revoke, _) => changed.state = State::Revoked { at: now },
        (CredentialChange::Disable, _) => changed.state = State::Disabled,
        (CredentialChange::Enable, _) => changed.state = State::Active,
        (CredentialChange::ExpireAt(at), _) => {
            if record.expires_at.is_some_and(|already| already <= at) {
                return Ok(Outcome::Unchanged);
            }
            changed.expires_at = Some(at);
        }
    }
    changed.epoch = next_epoch(record.epoch)?;
    Ok(Outcome::Changed(changed))
}

/// Makes a tenant active or inactive.
///
/// # Errors
/// [`ChangeError::Conflict`] when the record's epoch is exhausted.
pub(super) fn change_tenant(record: &TenantRecord, state: TenantState) -> Result<Outcome<TenantRecord>, ChangeError> {
    let active = state == TenantState::Active;
    if record.active == active {
        return Ok(Outcome::Unchanged);
    }
    Ok(Outcome::Changed(TenantRecord {
        active,
        epoch: next_epoch(record.epoch)?,
        ..record.clone()
    }))
}

/// What a credential is found by: its key's fingerprint, and its id's.
pub(super) fn fingerprints(record: &CredentialRecord) -> [Fingerprint; 2] {
    [record.fingerprint, Fingerprint::of_id(&record.surface, &record.id)]
}

/// Whether `record` is what a look-up of `fingerprint` must answer (hardening C3).
pub(super) fn answers(record: &CredentialRecord, fingerprint: &Fingerprint) -> bool {
    record.fingerprint.ct_eq(fingerprint) || Fingerprint::of_id(&record.surface, &record.id).ct_eq(fingerprint)
}

/// The event of a change of this credential.
pub(super) fn credential_event(record: &CredentialRecord) -> EventSubject {
    EventSubject::Credential {
        id: record.id.clone(),
        fingerprints: fingerprints(record).to_vec(),
    }
}

/// A new credential as it is first written.
pub(super) fn first(record: CredentialRecord) -> CredentialRecord {
    CredentialRecord { epoch: 1, ..record }
}

/// A new tenant.
pub(super) fn new_tenant(id: TenantId, now: UnixMillis) -> TenantRecord {
    TenantRecord {
        id,
        active: true,
        created_at: now,
        epoch: 1,
    }
}

pub(super) fn no_credential(id: &CredentialId) -> ChangeError {
    ChangeError::NotFound(format!("credential {id}"))
}

pub(super) fn no_tenant(id: &TenantId) -> ChangeError {
    ChangeError::NotFound(format!("tenant {id}"))
}

pub(super) fn id_taken(id: &CredentialId) -> ChangeError {
    ChangeError::Conflict(format!("a credential {id} exists already"))
}

pub(super) fn tenant_taken(id: &TenantId) -> ChangeError {
    ChangeError::Conflict(format!("a tenant {id} exists already"))
}

pub(super) fn fingerprint_taken() -> ChangeError {
    ChangeError::Conflict("a credential with this key exists already".into())
}

/// A record that could not be read back is refused before anything is written.
#[expect(clippy::needless_pass_by_value, reason = "used as a function of map_err")]
pub(super) fn unwritable(error: CodecError) -> ChangeError {
    ChangeError::Conflict(format!("the record cannot be written: {error}"))
}

/// Epochs must grow: an epoch that stood still could not outrank an older record.
fn next_epoch(epoch: u64) -> Result<u64, ChangeError> {
    epoch
        .checked_add(1)
        .ok_or_else(|| ChangeError::Conflict("the record was changed too often".into()))
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::sample;
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn in_state(state: State) -> CredentialRecord {
        CredentialRecord { state, ..sample() }
    }

    #[test]
    fn every_change_of_a_living_credential_raises_its_epoch() {
        for (state, change, after) in [
            (State::Active, CredentialChange::Disable, State::Disabled),
            (State::Disabled, CredentialChange::Enable, State::Active),
            (State::Active, CredentialChange::Revoke, State::Revoked { at: NOW }),
            (State::Disabled, CredentialChange::Revoke, State::Revoked { at: NOW }),
        ] {
            let before = in_state(state);
            let Outcome::Changed(changed) = change_credential(&before, change, NOW).unwrap() else {
                panic!("{change:?} of {state:?} changed nothing");
            };
            assert_eq!(changed.state, after);
            assert_eq!(changed.epoch, before.epoch + 1);
        }
    }

    #[test]
    fn what_is_already_so_is_not_changed() {
        for (state, change) in [
            (State::Active, CredentialChange::Enable),
            (State::Disabled, CredentialChange::Disable),
            (State::Revoked { at: UnixMillis(1) }, CredentialChange::Revoke),
        ] {
            assert_eq!(change_credential(&in_state(state), change, NOW).unwrap(), Outcome::Unchanged);
        }
    }

    #[test]
    fn a_revoked_credential_stays_revoked() {
        let revoked = in_state(State::Revoked { at: UnixMillis(1) });
        for change in [
            CredentialChange::Enable,
            CredentialChange::Disable,
            CredentialChange::ExpireAt(UnixMillis(9)),
        ] {
            assert!(matches!(change_credential(&revoked, change, NOW), Err(ChangeError::Conflict(_))));
        }
    }

    #[test]
    fn an_expiry_only_comes_nearer() {
        let mut record = sample();
        for (held, asked, kept) in [(None, 50, 50), (Some(50), 40, 40), (Some(50), 50, 50), (Some(50), 60, 50)] {
            record.expires_at = held.map(UnixMillis);
            let expires = match change_credential(&record, CredentialChange::ExpireAt(UnixMillis(asked)), NOW).unwrap() {
                Outcome::Changed(changed) => changed.expires_at,
                Outcome::Unchanged => record.expires_at,
            };
            assert_eq!(expires, Some(UnixMillis(kept)));
        }
    }
}
