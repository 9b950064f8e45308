//! The JSON of identity providers: what is handed over to make or change one, and how one is shown. The operator API and the
//! routes of administrators have the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::principal::CredentialState;
use crate::sign_on::directory::ListedProvider;

/// Longest secret or private key in plain text, in bytes: a key of 8192 bits as PEM has 7 KiB.
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
    /// The settings without secrets, in the form of `ProviderSettings`. Roles in it may be named by id or name.
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
    /// Another name that people see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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

/// Secrets that are handed over. They are sealed before they are stored.
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

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PlainSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainSecret(..)")
    }
}

/// An identity provider without its secrets.
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
    /// The settings. A sealed secret shows that it is there; to operators, the pepper that it is sealed under too.
    pub settings: Value,
    /// What does not fit the configuration that is in force, or lets nobody sign on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

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

/// What a test of a provider found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderTest {
    pub id: String,
    /// Whether people can sign on, as far as can be told without one.
    pub passed: bool,
    pub checks: Vec<ProviderCheck>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderCheck {
    /// `discovery`, `keys`, …
    pub name: String,
    /// `ok`, `warning` or `failed`.
    pub outcome: String,
    /// What was found, or what is wrong and what to do.
    pub why: String,
}

/// The state of a record in the JSON of operators and administrators.
#[must_use]
pub const fn state_word(state: CredentialState) -> &'static str {
    match state {
        CredentialState::Active => "active",
        CredentialState::Disabled => "disabled",
        CredentialState::Revoked { .. } => "revoked",
    }
}
