//! Identity providers: their JSON, and the operations on them. Operators make, show, change, disable, enable and delete them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base::fingerprint::{Fingerprint, sha256};
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::decide::surface::{SessionRecord, SurfaceKind};
use crate::sign_on::directory::{ListedProvider, MAX_PROVIDERS, list_providers};
use crate::sign_on::http::{ProviderAccess, ProviderClient};
use crate::sign_on::provider::{ProviderProtocol, ProviderSettings, SETTINGS_VERSION};
use crate::sign_on::records::{NewProvider, new_provider_id, provider_records, settings_fingerprint, settings_id};
use crate::sign_on::saml::SamlVerifier;
use crate::sign_on::saml::metadata::{SamlBinding, SamlEndpoint};
use crate::sign_on::saml::verifier::{VerifierAnswer, VerifierJob};
use crate::sign_on::seal::{SealPurpose, SealScope, mark_of, open, seal};
use crate::snapshot::Snapshot;
use crate::store::{CredentialChange, NewRecords, RestsOn, StoredFacts};

use super::Operations;
use super::error::OperationError;
use super::receipts::Doubtful;
use super::saml_key::{make_key, private_key_of};
use super::surfaces::find_surface_of;
use super::text::{PAGE, parse_id, parse_name, parse_scopes, parse_tenant, printable, role_words, scope_words, state_word, write};

/// Longest secret or private key in plain text: a key of 8192 bits as PEM has 7 KiB.
pub const MAX_SECRET: usize = 8 * 1024;

/// Makes an identity provider of a tenant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateProvider {
    pub tenant: String,
    /// The name that people see; without it, the id of the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With the roles, the most that anybody may do who signs on through it.
    pub scopes: Vec<String>,
    /// By id or name.
    pub roles: Vec<String>,
    /// The settings without secrets, in the form of [`ProviderSettings`]. Roles in it may be named by id or name.
    pub settings: Map<String, Value>,
    /// SAML metadata of the provider, from which addresses and certificates are taken. What the settings say comes before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Where the gateway fetches such metadata, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_url: Option<String>,
    pub secrets: ProviderSecrets,
}

/// Changes an identity provider. A member that is absent changes nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateProvider {
    /// Replaces its scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Replaces its roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// What changes in the settings, as a merge patch (RFC 7396).
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// SAML metadata of the provider, from which addresses and certificates are taken. What the settings say comes before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Where the gateway fetches such metadata, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_url: Option<String>,
    pub secrets: ProviderSecrets,
}

/// Secrets that an operator hands over. They are sealed before they are stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSecrets {
    /// What we authenticate with at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<PlainSecret>,
    /// The key that signs for `private_key_jwt`: PKCS #8 as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PlainSecret>,
}

/// A secret before it is sealed. `Debug` shows nothing of it; its memory is wiped when it is dropped.
#[derive(Clone, Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct PlainSecret(String);

impl PlainSecret {
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for PlainSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainSecret(..)")
    }
}

/// An identity provider as operators see it, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderView {
    pub id: String,
    /// One of `active`, `disabled` and `revoked`.
    pub state: String,
    pub tenant: String,
    pub name: String,
    /// `oidc` or `saml`.
    pub kind: String,
    pub scopes: Vec<String>,
    pub roles: Vec<String>,
    /// The settings; of a sealed secret, only the pepper that it is sealed under.
    pub settings: Value,
    /// What does not fit the configuration that is in force, or lets nobody sign on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

impl Doubtful for ProviderView {}

/// A provider in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSummary {
    pub id: String,
    /// `active` or `disabled`.
    pub state: String,
    pub tenant: String,
    pub name: String,
    /// `oidc` or `saml`.
    pub kind: String,
    pub domains: Vec<String>,
}

impl From<&ListedProvider> for ProviderSummary {
    fn from(provider: &ListedProvider) -> Self {
        Self {
            id: provider.id.as_str().into(),
            state: state_word(provider.state).into(),
            tenant: provider.tenant.as_str().into(),
            name: provider.name.clone(),
            kind: provider.kind.into(),
            domains: provider.domains.clone(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderList {
    /// In the order of their ids. Deleted ones are left out.
    pub providers: Vec<ProviderSummary>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

/// A provider with its settings, as the store has them.
struct StoredProvider {
    provider: CredentialRecord,
    settings: CredentialRecord,
    rests_on: RestsOn,
}

impl Operations {
    /// Makes an identity provider.
    ///
    /// # Errors
    /// [`OperationError::Usage`] with everything that is wrong, [`OperationError::NotFound`] without the tenant or a role,
    /// [`OperationError::Conflict`] for a domain of another tenant, or an error of the store.
    pub async fn create_provider(&self, request: &CreateProvider) -> Result<ProviderView, OperationError> {
        let snapshot = self.snapshot.load();
        let tenant = parse_tenant(&request.tenant)?;
        if self.store.find_tenant(tenant.clone()).await?.is_none() {
            return Err(OperationError::NotFound(format!(
                "there is no tenant `{tenant}`; `durward tenants create {tenant}` makes it"
            )));
        }
        self.check_first_pepper().await?;
        let now = self.store.time().await?;
        let id = new_provider_id(now).map_err(|error| OperationError::Unavailable(error.to_string()))?;
        let read = self
            .read_metadata(&snapshot, request.metadata.as_deref(), request.metadata_url.as_deref())
            .await?;
        let mut wanted = Value::Object(read.settings);
        refuse_sealed(&Value::Object(request.settings.clone()))?;
        merge(&mut wanted, &Value::Object(request.settings.clone()));
        let mut settings = completed(&snapshot, wanted)?;
        self.name_roles(&snapshot, &tenant, &mut settings).await?;
        if let ProviderProtocol::Saml(saml) = &mut settings.protocol {
            let own = make_key(id.as_str()).await?;
            saml.own_certificate = Some(own.certificate);
            saml.own_key_sealed = Some(self.sealed(&id, "own_key", own.private_key.as_slice())?);
        }
        self.seal_secrets(&id, &request.secrets, &mut settings)?;
        let text = judged(&settings, &snapshot)?;
        self.refuse_domains(&tenant, None, &settings).await?;
        let new = NewProvider {
            id: id.clone(),
            tenant: tenant.clone(),
            name: parse_name(request.name.as_deref().unwrap_or(&request.tenant))?,
            scopes: parse_scopes(&request.scopes)?,
            roles: self.resolve_roles(&snapshot, &tenant, &request.roles).await?,
            settings: text,
            now,
        };
        let records = provider_records(new).ok_or_else(|| OperationError::Unavailable("no id was made".into()))?;
        let new = NewRecords {
            credentials: records.into(),
            ..NewRecords::default()
        };
        self.store.create(new, now).await?;
        tracing::info!(provider = %id, %tenant, kind = settings.kind(), "identity provider created");
        self.show_with(id.as_str(), read.warnings).await
    }

    /// Lists the identity providers, of one tenant if it is given.
    ///
    /// # Errors
    /// [`OperationError::Usage`], or an error of the store.
    pub async fn list_providers(
        &self,
        tenant: Option<&str>,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<ProviderList, OperationError> {
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let tenant = tenant.map(parse_tenant).transpose()?;
        let after = after.map(parse_id).transpose()?;
        let mut found = list_providers(&*self.store, tenant.as_ref()).await?;
        found.retain(|provider| after.as_ref().is_none_or(|after| provider.id > *after));
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more);
        Ok(ProviderList {
            next: last.map(|provider| provider.id.as_str().to_owned()),
            providers: found.iter().map(ProviderSummary::from).collect(),
        })
    }

    /// Shows one identity provider.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn show_provider(&self, id: &str) -> Result<ProviderView, OperationError> {
        let found = self.find_provider(id).await?;
        self.view_provider(&found.provider, &found.settings)
    }

    /// The same with what its metadata warn of.
    async fn show_with(&self, id: &str, warnings: Vec<String>) -> Result<ProviderView, OperationError> {
        let mut view = self.show_provider(id).await?;
        view.warnings.extend(warnings);
        Ok(view)
    }

    /// Changes the settings, the secrets or the ceiling of a provider. All secrets are sealed anew under the first pepper.
    ///
    /// # Errors
    /// [`OperationError::Usage`] with everything that is wrong, [`OperationError::NotFound`], [`OperationError::Conflict`] for a
    /// deleted provider, a domain of another tenant, or a provider that somebody else changed at the same time; or an error of
    /// the store.
    pub async fn update_provider(&self, id: &str, request: &UpdateProvider) -> Result<ProviderView, OperationError> {
        let snapshot = self.snapshot.load();
        let StoredProvider {
            provider,
            settings: stored,
            rests_on,
        } = self.find_provider(id).await?;
        refuse_deleted(&provider)?;
        self.check_first_pepper().await?;
        let before = ProviderSettings::of_record(&stored)?;
        let mut patched = serde_json::to_value(&before).unwrap_or_default();
        let read = self
            .read_metadata(&snapshot, request.metadata.as_deref(), request.metadata_url.as_deref())
            .await?;
        merge(&mut patched, &Value::Object(read.settings));
        refuse_sealed(&Value::Object(request.settings.clone()))?;
        merge(&mut patched, &Value::Object(request.settings.clone()));
        let mut settings = read_settings(patched)?;
        self.name_roles(&snapshot, &provider.tenant, &mut settings).await?;
        self.seal_secrets(&provider.id, &request.secrets, &mut settings)?;
        self.seal_anew(&provider.id, &mut settings)?;
        let text = judged(&settings, &snapshot)?;
        self.refuse_domains(&provider.tenant, Some(&provider.id), &settings).await?;
        let mut changes = vec![
            (stored.id.clone(), CredentialChange::SetSettings(text)),
            // Settings are disabled when the store has lost newer ones.
            (stored.id, CredentialChange::Enable),
        ];
        if let Some(scopes) = &request.scopes {
            changes.push((provider.id.clone(), CredentialChange::SetScopes(parse_scopes(scopes)?)));
        }
        if let Some(roles) = &request.roles {
            let roles = self.resolve_roles(&snapshot, &provider.tenant, roles).await?;
            changes.push((provider.id.clone(), CredentialChange::SetRoles(roles)));
        }
        self.change_both(changes, rests_on).await?;
        tracing::info!(provider = %provider.id, "identity provider changed");
        self.show_with(id, read.warnings).await
    }

    /// Disables or enables a provider, and with it everybody who signed on through it.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for a deleted one, or an error of the store.
    pub async fn change_provider(&self, id: &str, change: CredentialChange) -> Result<ProviderView, OperationError> {
        let found = self.find_provider(id).await?;
        let now = self.clock.now().wall;
        let record = self.store.change_credential(found.provider.id.clone(), change.clone(), now).await?;
        tracing::info!(provider = %record.id, ?change, "identity provider changed");
        self.view_provider(&record, &found.settings)
    }

    /// Deletes a provider for ever, and its secrets with it. Whoever signed on through it is logged out.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn delete_provider(&self, id: &str) -> Result<ProviderView, OperationError> {
        let found = self.find_provider(id).await?;
        if !matches!(found.provider.state, CredentialState::Revoked { .. }) {
            let mut settings = ProviderSettings::of_record(&found.settings)?;
            settings.remove_secrets();
            let text = settings.to_text().map_err(|error| OperationError::Usage(error.to_string()))?;
            let changes = vec![
                (found.provider.id.clone(), CredentialChange::Revoke),
                (found.settings.id.clone(), CredentialChange::SetSettings(text)),
                (found.settings.id, CredentialChange::Revoke),
            ];
            self.change_both(changes, RestsOn::default()).await?;
            tracing::info!(provider = %found.provider.id, "identity provider deleted");
        }
        self.show_provider(id).await
    }

    async fn change_both(&self, changes: Vec<(CredentialId, CredentialChange)>, rests_on: RestsOn) -> Result<(), OperationError> {
        let new = NewRecords {
            changes,
            rests_on,
            ..NewRecords::default()
        };
        self.store.create(new, self.clock.now().wall).await?;
        Ok(())
    }

    async fn find_provider(&self, id: &str) -> Result<StoredProvider, OperationError> {
        let none = || OperationError::NotFound(format!("there is no identity provider `{}`", printable(id)));
        let id = parse_id(id)?;
        let fingerprint = settings_fingerprint(&id).ok_or_else(none)?;
        let found = self.store.find(fingerprint).await?.facts.ok_or_else(none)?;
        let rests_on = RestsOn::found(&found);
        let StoredFacts { credential, ancestors, .. } = found;
        let provider = ancestors.into_iter().next().filter(|provider| provider.id == id).ok_or_else(none)?;
        Ok(StoredProvider {
            provider,
            settings: credential,
            rests_on,
        })
    }

    /// A provider's own record, and the record with its settings.
    pub(super) async fn read_provider(&self, id: &str) -> Result<(CredentialRecord, CredentialRecord), OperationError> {
        let found = self.find_provider(id).await?;
        Ok((found.provider, found.settings))
    }

    fn view_provider(&self, provider: &CredentialRecord, settings: &CredentialRecord) -> Result<ProviderView, OperationError> {
        let own = ProviderSettings::of_record(settings)?;
        let under = own.mistakes_under(&self.snapshot.load());
        let mut warnings: Vec<String> = under.iter().map(ToString::to_string).collect();
        if settings.state == CredentialState::Disabled {
            warnings.push(format!(
                "the store has lost newer settings, so nobody signs on: check these, then `durward providers update {}` confirms them",
                provider.id
            ));
        }
        let known: Vec<_> = self.peppers.iter().map(|pepper| pepper.check().mark()).collect();
        for (field, sealed) in own.sealed() {
            if mark_of(sealed).is_none_or(|mark| !known.contains(&mark)) {
                warnings.push(format!("`{field}` was sealed under a pepper that this gateway does not have"));
            }
        }
        Ok(ProviderView {
            id: provider.id.as_str().into(),
            state: state_word(provider.state).into(),
            tenant: provider.tenant.as_str().into(),
            name: provider.name.clone().unwrap_or_default(),
            kind: own.kind().into(),
            scopes: scope_words(&provider.scopes),
            roles: role_words(provider),
            settings: shown_settings(&own),
            warnings,
            created_at: write(provider.created_at),
        })
    }
}

impl Operations {
    /// What SAML metadata say of the settings. A confined process reads them, as it reads everything that providers send.
    async fn read_metadata(&self, snapshot: &Snapshot, text: Option<&str>, url: Option<&str>) -> Result<ReadMetadata, OperationError> {
        let document = match (text, url) {
            (None, None) => return Ok(ReadMetadata::default()),
            (Some(text), None) => text.to_owned(),
            (None, Some(url)) => fetch_metadata(snapshot, url).await?,
            (Some(_), Some(_)) => {
                return Err(OperationError::Usage(
                    "metadata are given as a text or as an address, not as both".into(),
                ));
            }
        };
        let unusable = |why: &dyn fmt::Display| OperationError::Usage(format!("the metadata cannot be used: {why}"));
        let answer = SamlVerifier::of_this_program().ask(&VerifierJob::Metadata { document }).await;
        let VerifierAnswer::Metadata(metadata) = answer.map_err(|fault| unusable(&fault))? else {
            return Err(unusable(&"they were not read"));
        };
        let now = self.clock.now().wall;
        let warnings = metadata.judge(now).map_err(|fault| unusable(&fault))?;
        let address = |binding: SamlBinding, endpoints: &[SamlEndpoint]| {
            let endpoint = endpoints.iter().find(|endpoint| endpoint.binding == binding);
            endpoint.map(|endpoint| Value::from(endpoint.url.as_str()))
        };
        // What has expired verifies nothing, and would take the room of what follows.
        let certificates = metadata.certificates.iter().filter(|certificate| certificate.not_after >= now.0);
        let mut saml = Map::new();
        saml.insert("entity_id".into(), metadata.entity_id.as_str().into());
        saml.insert(
            "certificates".into(),
            certificates.map(|certificate| Value::from(certificate.der.as_str())).collect(),
        );
        // Answers go by the binding by which requests go, so the address for answers is that of this binding.
        let of_binding = |binding| metadata.logout.iter().find(|endpoint| endpoint.binding == binding);
        let log_out = of_binding(SamlBinding::Redirect).or_else(|| of_binding(SamlBinding::Post));
        let log_out_answers = log_out.and_then(|endpoint| endpoint.response_url.as_deref()).map(Value::from);
        for (name, url) in [
            ("sso_redirect_url", address(SamlBinding::Redirect, &metadata.sign_on)),
            ("sso_post_url", address(SamlBinding::Post, &metadata.sign_on)),
            ("slo_url", address(SamlBinding::Redirect, &metadata.logout)),
            ("slo_post_url", address(SamlBinding::Post, &metadata.logout)),
            ("slo_response_url", log_out_answers),
        ] {
            // What the metadata do not name any more is removed.
            saml.insert(name.into(), url.unwrap_or(Value::Null));
        }
        if metadata.wants_signed_requests {
            saml.insert("sign_requests".into(), true.into());
        }
        let protocol = Map::from_iter([("saml".to_owned(), Value::Object(saml))]);
        Ok(ReadMetadata {
            settings: Map::from_iter([("protocol".to_owned(), Value::Object(protocol))]),
            warnings: warnings.0,
        })
    }

    /// Puts the ids of roles in the place of their names.
    async fn name_roles(&self, snapshot: &Snapshot, tenant: &TenantId, settings: &mut ProviderSettings) -> Result<(), OperationError> {
        let Some(table) = &mut settings.roles else { return Ok(()) };
        let lists = table
            .table
            .iter_mut()
            .map(|row| &mut row.roles)
            .chain(std::iter::once(&mut table.default));
        for roles in lists {
            let ids = self.resolve_roles(snapshot, tenant, roles).await?;
            *roles = ids.iter().map(RoleId::to_string).collect();
        }
        Ok(())
    }

    /// Refuses a domain that another tenant's provider has. Two operators who add it at the same moment are not told apart; then
    /// nobody of the domain is sent to either, until one of them gives it up.
    async fn refuse_domains(
        &self,
        tenant: &TenantId,
        own: Option<&CredentialId>,
        settings: &ProviderSettings,
    ) -> Result<(), OperationError> {
        let all = list_providers(&*self.store, None).await?;
        if own.is_none() && all.len() >= MAX_PROVIDERS {
            return Err(OperationError::Conflict(format!(
                "the store has {MAX_PROVIDERS} identity providers, which is the most"
            )));
        }
        for other in all.iter().filter(|other| other.tenant != *tenant) {
            if let Some(domain) = settings.domains.iter().find(|domain| other.domains.contains(domain)) {
                return Err(OperationError::Conflict(format!(
                    "the domain `{domain}` belongs to provider `{}` of tenant `{}`",
                    other.id, other.tenant
                )));
            }
        }
        Ok(())
    }

    /// Refuses to seal while the first pepper of this gateway is being dropped, or was: then what is sealed now would be lost.
    async fn check_first_pepper(&self) -> Result<(), OperationError> {
        let mark = self.peppers.first().check().mark();
        match self.store.peppers().await?.find(mark) {
            Some(listed) if listed.leaving.is_none() => Ok(()),
            _ => Err(OperationError::Conflict(format!(
                "the first pepper of this gateway ({mark}) is being dropped: put another one first, and start the gateway again"
            ))),
        }
    }

    fn sealed(&self, provider: &CredentialId, field: &str, plain: &[u8]) -> Result<String, OperationError> {
        seal(self.peppers.first(), &scope(provider, field), plain).map_err(|error| OperationError::Unavailable(error.to_string()))
    }

    /// Seals new secrets into the settings.
    fn seal_secrets(&self, id: &CredentialId, secrets: &ProviderSecrets, settings: &mut ProviderSettings) -> Result<(), OperationError> {
        let given = [("client_secret", &secrets.client_secret), ("private_key", &secrets.private_key)];
        for (field, secret) in given {
            let Some(secret) = secret else { continue };
            if secret.0.is_empty() || secret.0.len() > MAX_SECRET || (field == "client_secret" && secret.0.chars().any(char::is_control)) {
                return Err(OperationError::Usage(format!(
                    "a secret has 1 to {MAX_SECRET} bytes, and a client's secret is one line"
                )));
            }
            let plain = match field {
                "private_key" => private_key_of(&secret.0)?,
                _ => Zeroizing::new(secret.0.as_bytes().to_vec()),
            };
            let sealed = self.sealed(id, field, &plain)?;
            let ProviderProtocol::Oidc(oidc) = &mut settings.protocol else {
                return Err(OperationError::Usage(
                    "a SAML provider is given no secret: durward makes the key itself".into(),
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
    fn seal_anew(&self, id: &CredentialId, settings: &mut ProviderSettings) -> Result<(), OperationError> {
        let first = self.peppers.first().check().mark();
        for (field, text) in settings.sealed_mut() {
            let plain = open(&self.peppers, &scope(id, field), text)
                .map_err(|error| OperationError::Conflict(format!("`{field}` cannot be opened: {error}; give it again")))?;
            if mark_of(text) != Some(first) {
                *text = self.sealed(id, field, &plain)?;
            }
        }
        Ok(())
    }

    /// Seals the secrets of a provider anew if they are under another pepper than the first. Answers whether they were.
    pub(super) async fn reseal_provider(&self, settings: &CredentialRecord) -> Result<bool, OperationError> {
        let Some(parent) = settings.parent() else { return Ok(false) };
        let mut own = ProviderSettings::of_record(settings)?;
        let before = own.clone();
        self.seal_anew(&parent.id, &mut own)?;
        if own == before {
            return Ok(false);
        }
        let text = own.to_text().map_err(|error| OperationError::Usage(error.to_string()))?;
        let found = self.find_provider(parent.id.as_str()).await?;
        if found.settings.epoch != settings.epoch {
            // Whoever changed it has sealed it anew.
            return Ok(false);
        }
        let changes = vec![(settings.id.clone(), CredentialChange::SetSettings(text))];
        self.change_both(changes, found.rests_on).await?;
        Ok(true)
    }

    /// The settings of a provider as an entry of the audit trail tells them: each as a text, without secrets.
    pub(super) async fn settings_for_trail(&self, provider: &CredentialRecord) -> Option<Vec<Value>> {
        let id = settings_id(&provider.id)?;
        let record = self.store.find_credential(id).await.ok()??;
        let settings = ProviderSettings::of_record(&record).ok()?;
        let mut lines = Vec::new();
        flatten("", &trail_settings(&settings), &mut lines);
        let left_out = lines.len().saturating_sub(MAX_TRAIL_LINES);
        lines.truncate(MAX_TRAIL_LINES);
        if left_out > 0 {
            lines.push(format!("{left_out} more").into());
        }
        Some(lines)
    }
}

/// Most settings of a provider in an entry.
const MAX_TRAIL_LINES: usize = 100;

/// Most characters of one of them.
const MAX_TRAIL_LINE: usize = 300;

/// Writes each value with its path: `protocol.oidc.issuer=https://…`.
fn flatten(path: &str, value: &Value, lines: &mut Vec<Value>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| flatten(&below(name), value, lines)),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{i}]"), item, lines);
            }
        }
        Value::String(text) => lines.push(format!("{path}={text}").chars().take(MAX_TRAIL_LINE).collect::<String>().into()),
        other => lines.push(format!("{path}={other}").into()),
    }
}

/// What SAML metadata say of the settings, and what their administrator must know.
#[derive(Default)]
struct ReadMetadata {
    settings: Map<String, Value>,
    warnings: Vec<String>,
}

/// Fetches metadata as the gateway fetches everything of providers: from an address that `[sign_on]` permits.
async fn fetch_metadata(snapshot: &Snapshot, url: &str) -> Result<String, OperationError> {
    let settings = snapshot
        .sign_on
        .as_ref()
        .ok_or_else(|| OperationError::Usage("without `[sign_on]` in the configuration nothing is fetched: give a file".into()))?;
    let access = ProviderAccess::over_https(settings.tls.clone(), settings.addresses);
    let fetched = ProviderClient::default().saml_metadata(url, &access).await;
    let bytes = fetched.map_err(|fault| OperationError::Usage(fault.to_string()))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| OperationError::Usage("the metadata are no UTF-8".into()))
}

/// The settings of a new provider, with what the operator need not say.
fn completed(snapshot: &Snapshot, mut settings: Value) -> Result<ProviderSettings, OperationError> {
    let is_session = |kind: &SurfaceKind| {
        let session = kind.session();
        session.is_some_and(|session| session.record == SessionRecord::Own && session.minting.is_some())
    };
    let is_account = |kind: &SurfaceKind| matches!(kind, SurfaceKind::Account(_));
    if let Some(members) = settings.as_object_mut() {
        members.entry("version").or_insert_with(|| SETTINGS_VERSION.into());
        if !members.contains_key("session") {
            let surface = find_surface_of(snapshot, "sessions", is_session, None)?;
            members.insert("session".into(), surface.name.as_str().into());
        }
        if !members.contains_key("account") {
            let surface = find_surface_of(snapshot, "accounts", is_account, None)?;
            members.insert("account".into(), surface.name.as_str().into());
        }
    }
    read_settings(settings)
}

fn scope<'s>(provider: &'s CredentialId, field: &'s str) -> SealScope<'s> {
    SealScope {
        purpose: SealPurpose::ProviderSecret,
        owner: provider.as_str(),
        field,
    }
}

fn refuse_deleted(provider: &CredentialRecord) -> Result<(), OperationError> {
    if matches!(provider.state, CredentialState::Revoked { .. }) {
        return Err(OperationError::Conflict(format!(
            "the identity provider {} is deleted",
            provider.id
        )));
    }
    Ok(())
}

/// The text of settings that are right by themselves and under this configuration.
fn judged(settings: &ProviderSettings, snapshot: &Snapshot) -> Result<std::sync::Arc<str>, OperationError> {
    let mistakes = settings.mistakes().into_iter().chain(settings.mistakes_under(snapshot));
    let lines: Vec<String> = mistakes.map(|mistake| mistake.to_string()).collect();
    if !lines.is_empty() {
        return Err(OperationError::Usage(format!("the settings are wrong:\n  {}", lines.join("\n  "))));
    }
    settings.to_text().map_err(|error| OperationError::Usage(error.to_string()))
}

/// Reads settings as an operator wrote them. The message names members and quotes no value, which may be a secret in the wrong
/// place.
fn read_settings(value: Value) -> Result<ProviderSettings, OperationError> {
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let names = ["unknown field", "missing field", "unknown variant"]
            .iter()
            .any(|begin| text.starts_with(begin));
        OperationError::Usage(if names {
            format!("the settings are wrong: {}", printable_line(&text))
        } else {
            "the settings are wrong: a member is of another type than it has".to_owned()
        })
    })
}

fn printable_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Sealed texts are made here and nowhere else.
fn refuse_sealed(settings: &Value) -> Result<(), OperationError> {
    let is_sealed = |name: &String| name.ends_with("_sealed") || name == "own_certificate";
    let protocols = settings.get("protocol").and_then(Value::as_object);
    let mut members = protocols.into_iter().flat_map(|all| all.values()).filter_map(Value::as_object);
    if members.any(|members| members.keys().any(is_sealed)) {
        return Err(OperationError::Usage(
            "secrets are no part of the settings: they are handed over apart, and sealed here".into(),
        ));
    }
    Ok(())
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The settings as operators see them: a sealed text shows its pepper.
fn shown_settings(settings: &ProviderSettings) -> Value {
    let mut shown = settings.clone();
    for (_, text) in shown.sealed_mut() {
        let mark = mark_of(text).map_or_else(|| "?".to_owned(), |mark| mark.to_string());
        *text = format!("sealed under pepper {mark}");
    }
    serde_json::to_value(&shown).unwrap_or_default()
}

/// The settings as the trail tells them: of a sealed text and of a certificate, the beginning of a hash, so that a replacement
/// shows.
fn trail_settings(settings: &ProviderSettings) -> Value {
    let mut shown = settings.clone();
    let mark = |text: &str| {
        let hash = Fingerprint::from_bytes(sha256(text.as_bytes())).to_hex();
        hash.chars().take(16).collect::<String>()
    };
    for (_, text) in shown.sealed_mut() {
        *text = format!("sealed, SHA-256 {}", mark(text));
    }
    if let ProviderProtocol::Saml(saml) = &mut shown.protocol {
        let certificates = saml.certificates.iter_mut().chain(&mut saml.own_certificate);
        certificates.for_each(|text| *text = format!("SHA-256 of base64 {}", mark(text)));
    }
    serde_json::to_value(&shown).unwrap_or_default()
}
