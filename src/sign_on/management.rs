//! Makes, changes and ends identity providers, for operators and for a tenant's own administrators: one way, with the same checks
//! and the same forms. What changes is only planned here. Whoever was asked writes it, in one step of the store.

use serde_json::Value;

use crate::base::clock::Clock;
use crate::base::fingerprint::Peppers;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState, RoleRecord};
use crate::base::scope::ScopeSet;
use crate::snapshot::Snapshot;
use crate::store::{CredentialChange, CredentialStore, NewRecords, RestsOn, StoredFacts};

use super::directory::{MAX_PROVIDERS, MAX_PROVIDERS_OF_TENANT, list_providers};
use super::http::ProviderClient;
use super::provider::{ProviderSettings, SettingsMistake};
use super::records::{NewProvider, new_provider_id, provider_records, settings_fingerprint};
use super::saml::SamlVerifier;

pub mod authority;
mod check;
pub mod error;
pub mod forms;
mod metadata;
mod private_key;
mod roles;
mod secrets;
mod settings;
pub mod trail;
pub mod view;

use authority::ProviderAuthority;
use error::ManagementError;
use forms::{CreateProvider, ProviderView, UpdateProvider};
use roles::{KnownRoles, ids, parse_scopes, scopes_in_table, scopes_of};
use settings::{completed, merge, read_settings, refuse_sealed};

/// Longest name for people, in bytes: one line of a list.
const MAX_NAME: usize = 200;

/// The management of identity providers, for whoever asks now.
pub struct ProviderManagement<'a> {
    pub store: &'a dyn CredentialStore,
    pub peppers: &'a Peppers,
    pub clock: &'a dyn Clock,
    pub snapshot: &'a Snapshot,
    /// Asks providers. It bounds how many questions are on their way.
    pub client: &'a ProviderClient,
    /// Reads SAML metadata.
    pub verifier: &'a SamlVerifier,
    pub authority: &'a ProviderAuthority,
}

/// A provider with its settings, as the store has them. All of it was read in one step.
#[derive(Debug, Clone)]
pub struct StoredProvider {
    pub provider: CredentialRecord,
    pub settings: CredentialRecord,
    rests_on: RestsOn,
    /// The roles of the store that the provider names.
    roles: Vec<RoleRecord>,
}

/// A change that may be made, as far as is known before the step of the store.
#[derive(Debug)]
pub struct PlannedChange {
    pub new: NewRecords,
    /// What the provider was; `None` for a new one.
    pub before: Option<StoredProvider>,
    /// What it is then.
    pub provider: CredentialRecord,
    pub settings: CredentialRecord,
    /// The same, as it is shown.
    pub view: ProviderView,
}

impl ProviderManagement<'_> {
    /// Plans a new provider.
    ///
    /// # Errors
    /// [`ManagementError`], with everything that is wrong with the settings.
    pub async fn plan_creation(&self, tenant: &TenantId, request: &CreateProvider) -> Result<Box<PlannedChange>, ManagementError> {
        if !self.authority.reaches_tenant(tenant) {
            return Err(ManagementError::NotFound(format!("there is no tenant `{tenant}`")));
        }
        self.authority.check_mode()?;
        self.check_room(tenant).await?;
        self.check_first_pepper().await?;
        let now = self.store.time().await?;
        let id = new_provider_id(now).map_err(|error| ManagementError::Unavailable(error.to_string()))?;
        let name = parse_name(request.name.as_deref().unwrap_or(tenant.as_str()))?;
        let known = KnownRoles::read(self.store, self.snapshot, tenant).await?;
        let (scopes, roles) = (parse_scopes(&request.scopes)?, known.resolve("roles", &request.roles)?);
        self.authority.check_scopes(&scopes_of(&scopes, &roles))?;
        refuse_sealed(&request.settings)?;
        let read = self
            .read_metadata(request.metadata.as_deref(), request.metadata_url.as_deref())
            .await?;
        let mut wanted = Value::Object(read.settings);
        merge(&mut wanted, &Value::Object(request.settings.clone()));
        let mut settings = read_settings(completed(wanted))?;
        let in_table = known.name_in_table(None, &mut settings)?;
        self.authority
            .check_scopes(&scopes_of(&scopes_in_table(None, &settings), &in_table))?;
        // What is wrong is told before a key is made, which takes a second.
        refuse_mistakes(self.authority.mistakes(None, &settings))?;
        self.add_own_key(&id, &mut settings).await?;
        self.seal_secrets(&id, &request.secrets, &mut settings)?;
        let text = self.judge(&settings)?;
        self.refuse_domains(tenant, &settings).await?;
        let mut rests_on = self.authority.rests_on();
        rests_on.add_roles(roles.iter().chain(&in_table).copied());
        let new = NewProvider {
            id: id.clone(),
            tenant: tenant.clone(),
            name,
            scopes,
            roles: ids(&roles),
            settings: text,
            now,
        };
        let [provider, settings] = provider_records(new).ok_or_else(|| ManagementError::Unavailable("no id was made".into()))?;
        Ok(Box::new(PlannedChange {
            new: NewRecords {
                credentials: vec![provider.clone(), settings.clone()],
                rests_on,
                ..NewRecords::default()
            },
            before: None,
            view: self.view_of(&provider, &settings, read.warnings)?,
            provider,
            settings,
        }))
    }

    /// Plans a change of the settings, the secrets or the ceiling of a provider. All secrets are sealed anew under the first pepper.
    ///
    /// # Errors
    /// [`ManagementError`], with everything that is wrong with the settings.
    pub async fn plan_update(&self, id: &str, request: &UpdateProvider) -> Result<Box<PlannedChange>, ManagementError> {
        let found = self.find(id).await?;
        refuse_deleted(&found.provider)?;
        self.check_not_above(&found)?;
        self.check_first_pepper().await?;
        let tenant = &found.provider.tenant;
        let before = ProviderSettings::of_record(&found.settings)?;
        let known = KnownRoles::read(self.store, self.snapshot, tenant).await?;
        let scopes = request.scopes.as_deref().map(parse_scopes).transpose()?;
        let roles = request.roles.as_deref().map(|roles| known.resolve("roles", roles)).transpose()?;
        let given = scopes_of(
            scopes.as_ref().unwrap_or(&ScopeSet::default()),
            roles.as_deref().unwrap_or_default(),
        );
        self.authority.check_scopes(&given)?;
        refuse_sealed(&request.settings)?;
        let read = self
            .read_metadata(request.metadata.as_deref(), request.metadata_url.as_deref())
            .await?;
        let mut patched = serde_json::to_value(&before).unwrap_or_default();
        merge(&mut patched, &Value::Object(read.settings));
        merge(&mut patched, &Value::Object(request.settings.clone()));
        let mut settings = read_settings(patched)?;
        let in_table = known.name_in_table(before.roles.as_ref(), &mut settings)?;
        let scopes_in_table = scopes_in_table(before.roles.as_ref(), &settings);
        self.authority.check_scopes(&scopes_of(&scopes_in_table, &in_table))?;
        self.seal_secrets(&found.provider.id, &request.secrets, &mut settings)?;
        refuse_mistakes(self.authority.mistakes(Some(&before), &settings))?;
        self.seal_anew(&found.provider.id, &mut settings)?;
        let text = self.judge(&settings)?;
        self.refuse_domains(tenant, &settings).await?;
        let mut provider = found.provider.clone();
        let mut changes = vec![
            (found.settings.id.clone(), CredentialChange::SetSettings(text.clone())),
            // Settings are disabled when the store has lost newer ones.
            (found.settings.id.clone(), CredentialChange::Enable),
        ];
        if let Some(name) = &request.name {
            let name = parse_name(name)?;
            provider.name = Some(name.clone());
            changes.push((provider.id.clone(), CredentialChange::SetName(name)));
        }
        if let Some(scopes) = scopes {
            provider.scopes.clone_from(&scopes);
            changes.push((provider.id.clone(), CredentialChange::SetScopes(scopes)));
        }
        let mut rests_on = self.authority.rests_on();
        rests_on.add(found.rests_on.clone());
        rests_on.add_roles(roles.iter().flatten().chain(&in_table).copied());
        if let Some(roles) = roles.as_deref() {
            provider.extras_mut().roles = ids(roles);
            changes.push((provider.id.clone(), CredentialChange::SetRoles(ids(roles))));
        }
        let mut settings = found.settings.clone();
        settings.state = CredentialState::Active;
        settings.extras_mut().settings = Some(text);
        Ok(Box::new(PlannedChange {
            new: NewRecords {
                changes,
                rests_on,
                ..NewRecords::default()
            },
            view: self.view_of(&provider, &settings, read.warnings)?,
            before: Some(found),
            provider,
            settings,
        }))
    }

    /// Plans to disable a provider, and with it everybody who signed on through it. Everybody who sees a provider may disable it.
    ///
    /// # Errors
    /// [`ManagementError`].
    pub async fn plan_disabling(&self, id: &str) -> Result<Box<PlannedChange>, ManagementError> {
        let found = self.find(id).await?;
        refuse_deleted(&found.provider)?;
        let rests_on = self.authority.rests_on();
        self.plan_state(found, CredentialChange::Disable, CredentialState::Disabled, rests_on)
    }

    /// Plans to enable a provider again.
    ///
    /// # Errors
    /// [`ManagementError`].
    pub async fn plan_enabling(&self, id: &str) -> Result<Box<PlannedChange>, ManagementError> {
        let found = self.find(id).await?;
        refuse_deleted(&found.provider)?;
        self.check_not_above(&found)?;
        let rests_on = self.rests_on_judged(&found);
        self.plan_state(found, CredentialChange::Enable, CredentialState::Active, rests_on)
    }

    fn plan_state(
        &self,
        found: StoredProvider,
        change: CredentialChange,
        state: CredentialState,
        rests_on: RestsOn,
    ) -> Result<Box<PlannedChange>, ManagementError> {
        let mut provider = found.provider.clone();
        provider.state = state;
        Ok(Box::new(PlannedChange {
            new: NewRecords {
                changes: vec![(provider.id.clone(), change)],
                rests_on,
                ..NewRecords::default()
            },
            view: self.view_of(&provider, &found.settings, Vec::new())?,
            settings: found.settings.clone(),
            before: Some(found),
            provider,
        }))
    }

    /// Plans to delete a provider for ever, and its secrets with it. Whoever signed on through it is logged out. A provider that is
    /// deleted stays so, and nothing changes.
    ///
    /// # Errors
    /// [`ManagementError`].
    pub async fn plan_deletion(&self, id: &str) -> Result<Box<PlannedChange>, ManagementError> {
        let found = self.find(id).await?;
        self.check_not_above(&found)?;
        let (mut provider, mut settings) = (found.provider.clone(), found.settings.clone());
        let mut changes = Vec::new();
        if !matches!(provider.state, CredentialState::Revoked { .. }) {
            let mut own = ProviderSettings::of_record(&settings)?;
            own.remove_secrets();
            let text = own
                .to_text()
                .map_err(|error| ManagementError::request("settings", error.to_string()))?;
            changes = vec![
                (provider.id.clone(), CredentialChange::Revoke),
                (settings.id.clone(), CredentialChange::SetSettings(text.clone())),
                (settings.id.clone(), CredentialChange::Revoke),
            ];
            let state = CredentialState::Revoked { at: self.clock.now().wall };
            (provider.state, settings.state) = (state, state);
            settings.extras_mut().settings = Some(text);
        }
        Ok(Box::new(PlannedChange {
            new: NewRecords {
                changes,
                rests_on: self.rests_on_judged(&found),
                ..NewRecords::default()
            },
            view: self.view_of(&provider, &settings, Vec::new())?,
            before: Some(found),
            provider,
            settings,
        }))
    }

    /// Finds a provider. One of another tenant looks to an administrator as if it did not exist.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`], or an error of the store.
    pub async fn find(&self, id: &str) -> Result<StoredProvider, ManagementError> {
        let none = || {
            let id: String = id.chars().take(80).flat_map(char::escape_default).collect();
            ManagementError::NotFound(format!("there is no identity provider `{id}`"))
        };
        let id = CredentialId::parse(id).map_err(|_| none())?;
        let fingerprint = settings_fingerprint(&id).ok_or_else(none)?;
        let found = self.store.find(fingerprint).await?.facts.ok_or_else(none)?;
        let rests_on = RestsOn::found(&found);
        let StoredFacts {
            credential,
            ancestors,
            roles,
            ..
        } = found;
        let provider = ancestors.into_iter().next();
        let provider = provider.filter(|provider| provider.id == id && self.authority.reaches(provider));
        Ok(StoredProvider {
            provider: provider.ok_or_else(none)?,
            settings: credential,
            rests_on,
            roles,
        })
    }
}

impl ProviderManagement<'_> {
    /// What a change rests on that was judged by what the provider is now. An operator's word needs no judgement.
    fn rests_on_judged(&self, found: &StoredProvider) -> RestsOn {
        let mut rests_on = self.authority.rests_on();
        if self.authority.administrator().is_some() {
            rests_on.add(found.rests_on.clone());
        }
        rests_on
    }

    fn check_not_above(&self, found: &StoredProvider) -> Result<(), ManagementError> {
        self.authority.check_mode()?;
        let ceiling = self.snapshot.scope_grants.effective_scopes_of(&found.provider, &[], &found.roles);
        self.authority
            .check_not_above(&ceiling, &ProviderSettings::of_record(&found.settings)?)
    }

    /// Refuses a provider beyond the most. Two that are made at the same moment on two gateways are not told apart, so there may
    /// be as many more as there are gateways.
    async fn check_room(&self, tenant: &TenantId) -> Result<(), ManagementError> {
        let all = list_providers(self.store, None).await?;
        let own = all.iter().filter(|provider| provider.tenant == *tenant).count();
        if own >= MAX_PROVIDERS_OF_TENANT {
            return Err(ManagementError::Full(format!(
                "the tenant `{tenant}` has {MAX_PROVIDERS_OF_TENANT} identity providers, which is the most"
            )));
        }
        if all.len() >= MAX_PROVIDERS {
            return Err(ManagementError::Full(format!(
                "the store has {MAX_PROVIDERS} identity providers, which is the most"
            )));
        }
        Ok(())
    }

    /// Refuses a domain that another tenant's provider has. Two operators who add it at the same moment are not told apart; then
    /// nobody of the domain is sent to either, until one of them gives it up.
    async fn refuse_domains(&self, tenant: &TenantId, settings: &ProviderSettings) -> Result<(), ManagementError> {
        // An administrator adds none.
        if settings.domains.is_empty() || self.authority.administrator().is_some() {
            return Ok(());
        }
        let all = list_providers(self.store, None).await?;
        for other in all.iter().filter(|other| other.tenant != *tenant) {
            if let Some(domain) = settings.domains.iter().find(|domain| other.domains.contains(domain)) {
                return Err(ManagementError::DomainTaken(format!(
                    "the domain `{domain}` belongs to provider `{}` of tenant `{}`",
                    other.id, other.tenant
                )));
            }
        }
        Ok(())
    }

    /// The text of settings that are right by themselves and under this configuration.
    fn judge(&self, settings: &ProviderSettings) -> Result<std::sync::Arc<str>, ManagementError> {
        let mistakes = settings.mistakes().into_iter().chain(settings.mistakes_under(self.snapshot));
        refuse_mistakes(mistakes.collect())?;
        settings
            .to_text()
            .map_err(|error| ManagementError::request("settings", error.to_string()))
    }
}

fn refuse_mistakes(mistakes: Vec<SettingsMistake>) -> Result<(), ManagementError> {
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(ManagementError::Settings(mistakes))
    }
}

fn refuse_deleted(provider: &CredentialRecord) -> Result<(), ManagementError> {
    match provider.state {
        CredentialState::Revoked { .. } => Err(ManagementError::Deleted(provider.id.clone())),
        CredentialState::Active | CredentialState::Disabled => Ok(()),
    }
}

fn parse_name(name: &str) -> Result<String, ManagementError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ManagementError::request(
            "name",
            format!("a name has 1 to {MAX_NAME} bytes and no control characters"),
        ));
    }
    Ok(name.to_owned())
}
