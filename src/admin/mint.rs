//! Mints credentials: their secrets exist here and in the answer, and nowhere else.

use crate::base::fingerprint::Part;
use crate::base::ids::CredentialId;
use crate::base::key::GeneratedKey;
use crate::base::principal::CredentialRecord;
use crate::store::{ChangeError, CredentialChange, NewRecords};

use super::Operations;
use super::api::{KeyMade, mode_word, scope_words};
use super::error::OperationError;
use super::keys::{KeySurface, no_randomness};
use super::people::role_words;

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
    /// Mints the secrets of a blank record, stores the record and answers what is shown this once.
    pub(crate) async fn mint_into(&self, surface: &KeySurface<'_>, record: CredentialRecord) -> Result<Minted, OperationError> {
        self.mint_instead(surface, record, Vec::new()).await
    }

    /// The same, and changes other credentials in the same step; answers those as they are then.
    pub(crate) async fn mint_instead(
        &self,
        surface: &KeySurface<'_>,
        mut record: CredentialRecord,
        changes: Vec<(CredentialId, CredentialChange)>,
    ) -> Result<Minted, OperationError> {
        let key = GeneratedKey::mint(surface.prefix(record.mode)).map_err(no_randomness)?;
        let secret = surface.secret_prefix(record.mode).map(GeneratedKey::mint).transpose();
        let secret = secret.map_err(no_randomness)?;
        let pepper = self.peppers.first();
        record.fingerprint = pepper.fingerprint(&surface.name, Part::Key, key.expose().as_bytes());
        record.secret_fingerprint = secret
            .as_ref()
            .map(|secret| pepper.fingerprint(&surface.name, Part::Secret, secret.expose().as_bytes()));
        record.last4 = key.last4().to_owned();
        let now = self.store.time().await?;
        record.created_at = now;
        let new = NewRecords {
            credentials: vec![record.clone()],
            changes,
            ..NewRecords::default()
        };
        let (written, doubt) = match self.store.create(new, now).await {
            Ok(written) => (written, None),
            // It was made: whoever asked must have it, and hear that it may yet be lost.
            Err(error @ ChangeError::Unconfirmed(_)) => (vec![record], Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let mut written = written.into_iter();
        let stored = written.next();
        let stored = stored.ok_or_else(|| OperationError::Unavailable("what was made is not there".into()))?;
        let roles = role_words(&stored);
        let made = KeyMade {
            id: stored.id.as_str().into(),
            key: key.expose().to_owned(),
            secret: secret.map(|secret| secret.expose().to_owned()),
            prefix: stored.prefix,
            last4: stored.last4,
            surface: stored.surface.as_str().into(),
            tenant: stored.tenant.as_str().into(),
            mode: mode_word(stored.mode),
            scopes: scope_words(&stored.scopes),
            roles,
            expires_at: stored.expires_at.map(super::times::write),
        };
        Ok(Minted {
            credential: made,
            changed: written.collect(),
            doubt,
        })
    }
}
