//! Replaces a credential so that at no moment, crash or not, both are dead.

use std::time::Duration;

use crate::base::principal::{CredentialRecord, State};
use crate::base::scope::Mode;
use crate::store::{ChangeError, CredentialChange};

use super::Operations;
use super::api::{Replaced, RotateKey, Rotated, mode_word, scope_words};
use super::error::OperationError;
use super::keys::{KeyWords, find_key_surface, unused_scopes};
use super::times::{parse_duration, parse_expiry, write};

/// How long the old credential goes on working if nothing is said: time to roll a deployment.
const GRACE: Duration = Duration::from_secs(3_600);

impl Operations {
    /// Makes a credential like the one of `id` and lets the old one end after the grace.
    ///
    /// The new one is stored first: a crash in between leaves two that work, never none. When the
    /// second step fails, the new one (which nobody has seen) is revoked again, and the caller may repeat.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for one that is not in use,
    /// [`OperationError::Usage`], or as the store has it.
    pub async fn rotate_key(&self, id: &str, request: &RotateKey) -> Result<Rotated, OperationError> {
        let grace = request.grace.as_deref().map_or(Ok(GRACE), parse_duration)?;
        let now = self.clock.now().wall;
        let old = self.find_record(id).await?;
        refuse_unused(&old, old.expires_at.is_some_and(|end| end <= now))?;
        let snapshot = self.snapshot.load();
        let surface = find_key_surface(&snapshot, old.surface.as_str())?;
        let mode = surface.resolve_mode(old.mode.map(Mode::as_str))?;
        let words = KeyWords {
            scopes: &scope_words(&old.scopes),
            subject: old.subject.as_ref().map(crate::base::ids::Subject::as_str),
            name: old.name.as_deref(),
        };
        let mut record = self.blank_record(&surface, old.tenant.as_str(), mode, &words).await?;
        record.not_before = old.not_before;
        record.extras.clone_from(&old.extras);
        record.expires_at = match request.expires.as_deref() {
            Some(text) => Some(parse_expiry(text, now)?),
            None => old.expires_at,
        };
        let mut warnings = unused_scopes(&snapshot, &surface, &record.scopes);
        if let (None, Some(end)) = (&request.expires, record.expires_at) {
            warnings.push(format!(
                "the new credential ends when the old one would have, at {}; --expires sets another time",
                write(end)
            ));
        }
        let credential = self.mint_into(&surface, record).await?;
        match self
            .store
            .change_credential(old.id.clone(), CredentialChange::ExpireAt(now.plus(grace)), now)
            .await
        {
            Ok(ended) => {
                tracing::info!(credential = %credential.id, replaces = %old.id, mode = ?mode_word(mode), "credential rotated");
                Ok(Rotated {
                    credential,
                    replaces: Replaced {
                        id: ended.id.as_str().into(),
                        expires_at: ended.expires_at.map(write),
                    },
                    warnings,
                    doubt: None,
                })
            }
            // The old one has its end, as far as is known: taking the new one back would leave nothing.
            Err(ChangeError::Unconfirmed(why)) => Ok(Rotated {
                credential,
                replaces: Replaced {
                    id: old.id.as_str().into(),
                    expires_at: Some(write(now.plus(grace))),
                },
                warnings,
                doubt: Some(ChangeError::Unconfirmed(why).to_string()),
            }),
            Err(error) => Err(self.undo(&credential.id, &old, error.into()).await),
        }
    }

    /// Takes the new credential back and says how things stand.
    async fn undo(&self, new: &str, old: &CredentialRecord, error: OperationError) -> OperationError {
        let undone = self.change_key(new, CredentialChange::Revoke).await;
        let how = match undone {
            Ok(_) => format!(
                "the new one was revoked again, `{}` may still have been given an end; try again",
                old.id
            ),
            Err(_) => format!("the new one, `{new}`, was not shown to anybody and should be revoked"),
        };
        OperationError::Unavailable(format!("the rotation was not completed: {error}; {how}"))
    }
}

fn refuse_unused(old: &CredentialRecord, expired: bool) -> Result<(), OperationError> {
    let why = match old.state {
        State::Revoked { .. } => "is revoked",
        State::Disabled => "is disabled",
        State::Active if expired => "has expired",
        State::Active => return Ok(()),
    };
    Err(OperationError::Conflict(format!(
        "credential `{}` {why}; make a new one with `durward keys create`",
        old.id
    )))
}
