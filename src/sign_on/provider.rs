//! Identity providers as the store has them: their settings as JSON, and the records that hold them.
//!
//! A provider is two records. Its own record is small, since every look-up of a session below it reads it. The settings lie in a
//! second record that hangs on the first, is made in the same step, and is found by the id of the provider.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::principal::{CredentialRecord, MAX_SETTINGS};
use crate::store::StoreError;

pub(super) mod mistakes;
#[cfg(test)]
pub(super) mod tests;

/// The version of the settings that is written now. A reader refuses every other one.
pub const SETTINGS_VERSION: u8 = 1;

/// Most e-mail domains of one provider.
pub const MAX_DOMAINS: usize = 100;

/// Most rows of the table of roles. A directory may have thousands of groups; few of them mean something here.
pub const MAX_ROLE_MAPPINGS: usize = 200;

/// Most certificates of a SAML provider: the current ones, and those of a rollover.
pub const MAX_CERTIFICATES: usize = 4;

/// The settings of an identity provider. Secrets in it are sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    pub version: u8,
    /// The surface of the sessions that it gives.
    pub session: String,
    /// The surface of its people's accounts.
    pub account: String,
    /// E-mail domains whose people belong to it, in lower case. A domain belongs to one tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// Whether an account is made for a person who signs on for the first time.
    #[serde(default)]
    pub provision: bool,
    /// The longest session in seconds; without it, that of the session surface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session: Option<u64>,
    /// The claim that identifies a person; without it, that of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The claim with the e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The claim with the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Claims that the account keeps under their own names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// Without it, nobody gets roles or scopes from the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<RoleSettings>,
    pub protocol: ProviderProtocol,
}

/// How values of a claim become roles and scopes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    pub claim: String,
    #[serde(default)]
    pub table: Vec<RoleMapping>,
    /// Ids of the roles of a person whom no row gives anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default: Vec<String>,
}

/// What one value gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleMapping {
    /// Compared exactly.
    pub value: String,
    /// Ids of roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// The protocol that a provider speaks, with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderProtocol {
    Oidc(OidcSettings),
    Saml(SamlSettings),
}

/// The settings of an OpenID Connect provider. Its endpoints are discovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    pub issuer: String,
    pub client_id: String,
    #[serde(default)]
    pub auth: ClientAuthMethod,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_sealed: Option<String>,
    /// The PKCS #8 key that signs for `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_sealed: Option<String>,
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The longest time since the person logged in at the provider, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acr_values: Vec<String>,
    /// Whether claims are fetched from the userinfo endpoint too.
    #[serde(default)]
    pub userinfo: bool,
    /// Algorithms of ID tokens; empty: those that fit the provider's keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id_token_algs: Vec<String>,
}

/// How we authenticate at the token endpoint (OpenID Connect Core 1.0, section 9). There is no way without a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMethod {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
}

/// The settings of a SAML 2.0 identity provider, and of us as its service provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamlSettings {
    pub entity_id: String,
    /// Where requests go by the redirect binding. It is preferred to the POST binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sso_redirect_url: Option<String>,
    /// Where requests go by the POST binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sso_post_url: Option<String>,
    /// Where messages of single logout go by the redirect binding. It is preferred to the POST binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo_url: Option<String>,
    /// Where they go by the POST binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo_post_url: Option<String>,
    /// Where answers of ours go, if elsewhere: by the binding by which requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo_response_url: Option<String>,
    /// The provider's signing certificates: DER in base64, without line breaks.
    pub certificates: Vec<String>,
    /// Our entity id; without it, the address of our metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sp_entity_id: Option<String>,
    #[serde(default)]
    pub sign_requests: bool,
    #[serde(default)]
    pub want: SignedPart,
    #[serde(default)]
    pub encryption: EncryptionDemand,
    /// Whether the provider may send a person without our having asked.
    #[serde(default)]
    pub idp_initiated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_id_format: Option<String>,
    /// How many seconds the provider's clock may differ from ours.
    #[serde(default = "default_skew")]
    pub skew: u64,
    /// Our key: PKCS #8. It signs requests and opens encrypted assertions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_key_sealed: Option<String>,
    /// The certificate of our key, as our metadata shows it: DER in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_certificate: Option<String>,
}

/// What of a SAML answer must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedPart {
    Response,
    Assertion,
    /// One of the two. Claims come only from what is signed.
    #[default]
    Either,
}

/// Whether assertions must be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncryptionDemand {
    #[default]
    Optional,
    Required,
}

/// One thing that is wrong with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsMistake {
    /// Where: `protocol.oidc.issuer`.
    pub field: String,
    /// What would have been right. It never repeats a secret.
    pub why: String,
}

impl fmt::Display for SettingsMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.why)
    }
}

/// Why a text is not the settings of a provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not the JSON of settings. Says where, and never what stands there.
    #[error("they are not the JSON of settings (line {line}, column {column}: {what})")]
    Syntax { what: &'static str, line: usize, column: usize },
    #[error("they have version {0}, this gateway reads version 1")]
    Version(u8),
    /// More than [`MAX_SETTINGS`] bytes.
    #[error("they have {0} bytes, and at most 24 KiB are stored; leave out domains, rows of the table or certificates")]
    TooLong(usize),
}

fn default_scopes() -> Vec<String> {
    ["openid", "email", "profile"].map(str::to_owned).to_vec()
}

const fn default_skew() -> u64 {
    60
}

impl SamlSettings {
    /// Whether a session at the provider can be ended from here.
    #[must_use]
    pub const fn takes_log_outs(&self) -> bool {
        self.slo_url.is_some() || self.slo_post_url.is_some()
    }
}

impl ProviderSettings {
    /// Reads settings as the store has them. They are not judged again: what was stored was right, by the rules of its time.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        if text.len() > MAX_SETTINGS {
            return Err(SettingsError::TooLong(text.len()));
        }
        let settings: Self = serde_json::from_str(text).map_err(|error| SettingsError::Syntax {
            what: match error.classify() {
                serde_json::error::Category::Data => "a member is missing, unknown or of another type",
                _ => "it is no JSON",
            },
            line: error.line(),
            column: error.column(),
        })?;
        if settings.version == SETTINGS_VERSION {
            Ok(settings)
        } else {
            Err(SettingsError::Version(settings.version))
        }
    }

    /// The settings in a record.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a record without settings that can be read.
    pub fn of_record(record: &CredentialRecord) -> Result<Self, StoreError> {
        let text = record.settings().filter(|_| record.is_provider_settings());
        let text = text.ok_or_else(|| StoreError::Corrupt(format!("the record {} holds no settings of a provider", record.id)))?;
        Self::parse(text).map_err(|error| StoreError::Corrupt(format!("the settings in the record {} cannot be read: {error}", record.id)))
    }

    /// The text that the store keeps.
    ///
    /// # Errors
    /// [`SettingsError::TooLong`].
    pub fn to_text(&self) -> Result<Arc<str>, SettingsError> {
        // Strings, numbers and lists always become JSON.
        let text = serde_json::to_string(self).unwrap_or_default();
        if text.len() > MAX_SETTINGS {
            return Err(SettingsError::TooLong(text.len()));
        }
        Ok(text.into())
    }

    /// `oidc` or `saml`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.protocol {
            ProviderProtocol::Oidc(_) => "oidc",
            ProviderProtocol::Saml(_) => "saml",
        }
    }

    #[must_use]
    pub const fn oidc(&self) -> Option<&OidcSettings> {
        match &self.protocol {
            ProviderProtocol::Oidc(oidc) => Some(oidc),
            ProviderProtocol::Saml(_) => None,
        }
    }

    #[must_use]
    pub const fn saml(&self) -> Option<&SamlSettings> {
        match &self.protocol {
            ProviderProtocol::Oidc(_) => None,
            ProviderProtocol::Saml(saml) => Some(saml),
        }
    }

    /// The claim that identifies a person: `sub`, or in SAML the name id.
    #[must_use]
    pub fn subject_claim(&self) -> &str {
        let default = match self.protocol {
            ProviderProtocol::Oidc(_) => "sub",
            ProviderProtocol::Saml(_) => "NameID",
        };
        self.subject.as_deref().unwrap_or(default)
    }

    /// The claim with the e-mail address.
    #[must_use]
    pub fn email_claim(&self) -> &str {
        self.email.as_deref().unwrap_or("email")
    }

    /// The claim with the name.
    #[must_use]
    pub fn name_claim(&self) -> &str {
        let default = match self.protocol {
            ProviderProtocol::Oidc(_) => "name",
            ProviderProtocol::Saml(_) => "displayName",
        };
        self.name.as_deref().unwrap_or(default)
    }

    #[must_use]
    pub fn max_session(&self) -> Option<Duration> {
        self.max_session.map(Duration::from_secs)
    }

    /// The sealed texts, to change them.
    pub fn sealed_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut String)> {
        let texts = match &mut self.protocol {
            ProviderProtocol::Oidc(oidc) => vec![
                ("client_secret", &mut oidc.client_secret_sealed),
                ("private_key", &mut oidc.private_key_sealed),
            ],
            ProviderProtocol::Saml(saml) => vec![("own_key", &mut saml.own_key_sealed)],
        };
        texts.into_iter().filter_map(|(field, text)| Some((field, text.as_mut()?)))
    }

    /// Removes the sealed texts: a provider that is deleted needs none.
    pub fn remove_secrets(&mut self) {
        match &mut self.protocol {
            ProviderProtocol::Oidc(oidc) => (oidc.client_secret_sealed, oidc.private_key_sealed) = (None, None),
            ProviderProtocol::Saml(saml) => saml.own_key_sealed = None,
        }
    }

    /// The sealed texts, each with the name of the field that it is sealed for.
    pub fn sealed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = match &self.protocol {
            ProviderProtocol::Oidc(oidc) => vec![
                ("client_secret", oidc.client_secret_sealed.as_deref()),
                ("private_key", oidc.private_key_sealed.as_deref()),
            ],
            ProviderProtocol::Saml(saml) => vec![("own_key", saml.own_key_sealed.as_deref())],
        };
        texts.into_iter().filter_map(|(field, text)| Some((field, text?)))
    }
}
