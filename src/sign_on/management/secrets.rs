//! Secrets of providers: sealed when they are handed over, and sealed anew under the first pepper.

use zeroize::Zeroizing;

use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;
use crate::sign_on::provider::{ProviderProtocol, ProviderSettings};
use crate::sign_on::seal::{SealPurpose, SealScope, mark_of, open, seal};
use crate::store::NewRecords;

use super::ProviderManagement;
use super::error::ManagementError;
use super::forms::{MAX_SECRET, ProviderSecrets};
use super::private_key::{make_key, private_key_of};

impl ProviderManagement<'_> {
    /// Refuses to seal while the first pepper of this gateway is being dropped, or was: then what is sealed now would be lost.
    pub(super) async fn check_first_pepper(&self) -> Result<(), ManagementError> {
        let mark = self.peppers.first().check().mark();
        match self.store.peppers().await?.find(mark) {
            Some(listed) if listed.leaving.is_none() => Ok(()),
            _ => Err(ManagementError::PepperLeaving(mark)),
        }
    }

    fn sealed(&self, provider: &CredentialId, field: &str, plain: &[u8]) -> Result<String, ManagementError> {
        seal(self.peppers.first(), &scope(provider, field), plain).map_err(|error| ManagementError::Unavailable(error.to_string()))
    }

    /// Makes our key of a SAML provider, and seals it into the settings.
    pub(super) async fn add_own_key(&self, id: &CredentialId, settings: &mut ProviderSettings) -> Result<(), ManagementError> {
        if let ProviderProtocol::Saml(saml) = &mut settings.protocol {
            let own = make_key(id.as_str()).await?;
            saml.own_certificate = Some(own.certificate);
            saml.own_key_sealed = Some(self.sealed(id, "own_key", own.private_key.as_slice())?);
        }
        Ok(())
    }

    /// Seals new secrets into the settings.
    pub(super) fn seal_secrets(
        &self,
        id: &CredentialId,
        secrets: &ProviderSecrets,
        settings: &mut ProviderSettings,
    ) -> Result<(), ManagementError> {
        let given = [("client_secret", &secrets.client_secret), ("private_key", &secrets.private_key)];
        for (field, secret) in given {
            let Some(secret) = secret.as_ref().map(super::forms::PlainSecret::expose) else {
                continue;
            };
            if secret.is_empty() || secret.len() > MAX_SECRET || (field == "client_secret" && secret.chars().any(char::is_control)) {
                return Err(ManagementError::request(
                    &format!("secrets.{field}"),
                    format!("a secret has 1 to {MAX_SECRET} bytes, and a client's secret is one line"),
                ));
            }
            let plain = match field {
                "private_key" => private_key_of(secret)?,
                _ => Zeroizing::new(secret.as_bytes().to_vec()),
            };
            let sealed = self.sealed(id, field, &plain)?;
            let ProviderProtocol::Oidc(oidc) = &mut settings.protocol else {
                return Err(ManagementError::request(
                    &format!("secrets.{field}"),
                    "a SAML provider is given no secret: durward makes the key itself",
                ));
            };
            match field {
                "private_key" => oidc.private_key_sealed = Some(sealed),
                _ => oidc.client_secret_sealed = Some(sealed),
            }
        }
        Ok(())
    }

    /// Opens everything that is sealed, and seals under the first pepper what is sealed under another one.
    pub(super) fn seal_anew(&self, id: &CredentialId, settings: &mut ProviderSettings) -> Result<(), ManagementError> {
        let first = self.peppers.first().check().mark();
        for (field, text) in settings.sealed_mut() {
            let plain = open(self.peppers, &scope(id, field), text).map_err(|error| ManagementError::Sealed(field, error))?;
            if mark_of(text) != Some(first) {
                *text = self.sealed(id, field, &plain)?;
            }
        }
        Ok(())
    }

    /// Plans to seal the secrets of a provider anew if they are under another pepper than the first. `None` if they are not, or if
    /// somebody has changed the settings since they were read.
    ///
    /// # Errors
    /// [`ManagementError`].
    pub async fn plan_resealing(&self, settings: &CredentialRecord) -> Result<Option<NewRecords>, ManagementError> {
        let Some(parent) = settings.parent() else { return Ok(None) };
        let mut own = ProviderSettings::of_record(settings)?;
        let before = own.clone();
        self.seal_anew(&parent.id, &mut own)?;
        if own == before {
            return Ok(None);
        }
        let text = own
            .to_text()
            .map_err(|error| ManagementError::request("settings", error.to_string()))?;
        let found = self.find(parent.id.as_str()).await?;
        if found.settings.epoch != settings.epoch {
            // Whoever changed it has sealed it anew.
            return Ok(None);
        }
        Ok(Some(NewRecords {
            changes: vec![(settings.id.clone(), crate::store::CredentialChange::SetSettings(text))],
            rests_on: found.rests_on,
            ..NewRecords::default()
        }))
    }
}

fn scope<'s>(provider: &'s CredentialId, field: &'s str) -> SealScope<'s> {
    SealScope {
        purpose: SealPurpose::ProviderSecret,
        owner: provider.as_str(),
        field,
    }
}
