//! The record of a sign-on's refresh token: written at the sign-on, dropped when the sign-on ends.

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;
use crate::issue::call::IssueError;
use crate::issue::engine::{Engine, refused_change, unavailable};
use crate::sign_on::refresh_token::{StoredRefresh, refresh_token_fingerprint, refresh_token_record};
use crate::store::{CredentialChange, RestsOn};

use super::session::ProvenPerson;

/// What a sign-on writes of its refresh token.
pub(super) enum RefreshTokenWrite {
    /// The provider gave none, or it is not wanted.
    None,
    Make(Box<CredentialRecord>),
    /// The session at the provider was noted before, with a refresh token that this one takes the place of.
    Change(CredentialId, CredentialChange),
}

impl Engine {
    pub(super) async fn refresh_token_after(
        &self,
        proven: &ProvenPerson,
        sign_on: &CredentialRecord,
        now: UnixMillis,
        rests_on: &mut RestsOn,
    ) -> Result<RefreshTokenWrite, IssueError> {
        let Some(refresh) = &proven.refresh else {
            return Ok(RefreshTokenWrite::None);
        };
        let stored = StoredRefresh::seal(&sign_on.id, refresh, proven.begun_at, self.peppers.first())
            .map_err(|fault| super::refused(&fault, &proven.provider))?;
        // A sign-on that is only now made has no such record.
        if sign_on.epoch > 0
            && let Some(found) = self
                .find_facts(refresh_token_fingerprint(&sign_on.id).ok_or(Denial::Internal)?)
                .await?
        {
            rests_on.add(RestsOn::found(&found));
            return Ok(RefreshTokenWrite::Change(
                found.credential.id,
                CredentialChange::SetSettings(stored.to_text()),
            ));
        }
        let record = refresh_token_record(sign_on, &stored, now).ok_or(Denial::Internal)?;
        Ok(RefreshTokenWrite::Make(Box::new(record)))
    }

    /// Drops the refresh tokens of sign-ons that have ended, so that the store does not keep what the provider might still take. The
    /// end itself is written before, and does not depend on it.
    pub(in crate::issue::engine) async fn drop_refresh_tokens(&self, sign_ons: impl Iterator<Item = &CredentialId>) {
        for sign_on in sign_ons {
            if let Err(error) = self.drop_refresh_token(sign_on).await {
                tracing::warn!(%sign_on, denial = error.denial.label(), "the refresh token of an ended sign-on is still stored, sealed");
            }
        }
    }

    async fn drop_refresh_token(&self, sign_on: &CredentialId) -> Result<(), IssueError> {
        let Some(found) = self.find_facts(refresh_token_fingerprint(sign_on).ok_or(Denial::Internal)?).await? else {
            return Ok(());
        };
        let stored = StoredRefresh::of_record(&found.credential).map_err(|error| unavailable(&error))?;
        if stored.is_dropped() {
            return Ok(());
        }
        let change = CredentialChange::SetSettings(stored.dropped().to_text());
        let dropped = self.store.change_credential(found.credential.id, change, self.time().await?).await;
        dropped.map(drop).map_err(refused_change)
    }
}
