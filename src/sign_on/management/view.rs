//! How providers are shown to whoever asks: operators are told more than administrators.

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::sign_on::directory::list_providers;
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::provider::ProviderSettings;
use crate::sign_on::seal::mark_of;

use super::authority::ProviderAuthority;
use super::error::ManagementError;
use super::forms::{ProviderList, ProviderSummary, ProviderView, state_word};
use super::settings::shown_settings;
use super::{ProviderManagement, StoredProvider};

/// Most providers of one list.
pub const MAX_PAGE: usize = 1_000;

impl ProviderManagement<'_> {
    /// Lists the identity providers, of one tenant if it is given.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn list(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&CredentialId>,
        limit: usize,
    ) -> Result<ProviderList, ManagementError> {
        let own = self.authority.administrator().map(|administrator| &administrator.tenant);
        let mut found = list_providers(self.store, own.or(tenant)).await?;
        found.retain(|provider| after.is_none_or(|after| provider.id > *after));
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more);
        Ok(ProviderList {
            next: last.map(|provider| provider.id.as_str().to_owned()),
            providers: found.iter().map(ProviderSummary::from).collect(),
        })
    }

    /// A provider as it is shown.
    ///
    /// # Errors
    /// An error of the store for settings that cannot be read.
    pub fn view(&self, found: &StoredProvider) -> Result<ProviderView, ManagementError> {
        self.view_of(&found.provider, &found.settings, Vec::new())
    }

    pub(super) fn view_of(
        &self,
        provider: &CredentialRecord,
        settings: &CredentialRecord,
        of_metadata: Vec<String>,
    ) -> Result<ProviderView, ManagementError> {
        let own = ProviderSettings::of_record(settings)?;
        let mut warnings: Vec<String> = own.mistakes_under(self.snapshot).iter().map(ToString::to_string).collect();
        if settings.state == CredentialState::Disabled {
            let update = match self.authority {
                ProviderAuthority::Operator => format!("`durward providers update {}`", provider.id),
                ProviderAuthority::Administrator(_) => "an update".to_owned(),
            };
            warnings.push(format!(
                "the store has lost newer settings, so nobody signs on: check these, then {update} confirms them"
            ));
        }
        let known: Vec<_> = self.peppers.iter().map(|pepper| pepper.check().mark()).collect();
        for (field, sealed) in own.sealed() {
            if mark_of(sealed).is_none_or(|mark| !known.contains(&mark)) {
                warnings.push(format!("`{field}` was sealed under a pepper that this gateway does not have"));
            }
        }
        warnings.extend(of_metadata);
        Ok(ProviderView {
            id: provider.id.as_str().into(),
            state: state_word(provider.state).into(),
            tenant: provider.tenant.as_str().into(),
            name: provider.name.clone().unwrap_or_default(),
            kind: own.kind().into(),
            scopes: provider.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            roles: provider.roles().iter().map(|role| role.as_str().to_owned()).collect(),
            settings: shown_settings(&own, self.authority),
            warnings,
            created_at: write_time(provider.created_at),
        })
    }

    /// The words for a fault of a question to a provider, for whoever asks now.
    pub(super) fn words_of(&self, fault: &SignOnFault) -> String {
        match (self.authority, &self.snapshot.sign_on) {
            (ProviderAuthority::Administrator(administrator), Some(settings)) => {
                let words = fault.words_for_administrator(settings.addresses);
                tracing::info!(tenant = %administrator.tenant, fault = fault.label(), "a provider was asked for its administrator: {fault}");
                words
            }
            _ => fault.to_string(),
        }
    }
}

/// RFC 3339 in UTC.
pub(super) fn write_time(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| format!("{} ms", at.0), |time| time.to_string())
}
