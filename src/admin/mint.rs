//! Stores what was made and answers what is shown once: secrets exist here and in the answer, and nowhere else.

use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;
use crate::issue::minting::MintedCredential;
use crate::store::{ChangeError, CredentialChange, NewRecords};

use super::Operations;
use super::api::KeyMade;
use super::error::OperationError;

/// A credential that was made.
pub(crate) struct Minted {
    /// What is shown this once.
    pub(crate) credential: KeyMade,
    /// Those changed in the same step, as they are then; empty when that is in doubt.
    pub(crate) changed: Vec<CredentialRecord>,
    /// What is not known.
    pub(crate) doubt: Option<String>,
}

impl Operations {
    /// Stores a new credential and changes others in the same step.
    pub(crate) async fn store_made(
        &self,
        made: MintedCredential,
        changes: Vec<(CredentialId, CredentialChange)>,
    ) -> Result<Minted, OperationError> {
        let key = made.key.ok_or_else(|| OperationError::Unavailable("no key was made".into()))?;
        let now = made.record.created_at;
        let new = NewRecords {
            credentials: vec![made.record.clone()],
            changes,
            ..NewRecords::default()
        };
        let (written, doubt) = match self.store.create(new, now).await {
            Ok(written) => (written, None),
            // It was made: whoever asked must have it, and hear that it may yet be lost.
            Err(error @ ChangeError::Unconfirmed(_)) => (vec![made.record], Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let mut written = written.into_iter();
        let stored = written.next();
        let stored = stored.ok_or_else(|| OperationError::Unavailable("what was made is not there".into()))?;
        Ok(Minted {
            credential: KeyMade::new(&stored, &key, made.secret.as_ref()),
            changed: written.collect(),
            doubt,
        })
    }
}
