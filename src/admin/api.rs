//! The operator API's JSON: types of their own at the edge, so that domain types need no `Serialize`.

use serde::{Deserialize, Serialize};

use crate::base::key::GeneratedKey;
use crate::base::principal::{CredentialRecord, CredentialState, TenantRecord};
use crate::base::scope::{Mode, ScopeSet};

use super::people::role_words;
use super::times;

/// Makes a tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// The operator's word for it; becomes the tenant header.
    pub id: String,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantView {
    /// Its id.
    pub id: String,
    /// Whether its credentials are admitted.
    pub active: bool,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

impl From<&TenantRecord> for TenantView {
    fn from(tenant: &TenantRecord) -> Self {
        Self {
            id: tenant.id.as_str().into(),
            active: tenant.active,
            created_at: times::write(tenant.created_at),
        }
    }
}

/// A page of tenants.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TenantList {
    /// In order of id.
    pub tenants: Vec<TenantView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

/// Makes a key or a key pair.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateKey {
    /// The surface it is for.
    pub surface: String,
    /// Whose it is.
    pub tenant: String,
    /// `test` or `live`; needed when the surface has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Its roles, by id or name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The id of the record it hangs on, which ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Who acts within the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `30d`, or RFC 3339; without it, it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Takes over a credential of which only SHA-256 hashes are known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportKey {
    /// The surface it is for; it must accept imported keys.
    pub surface: String,
    /// Whose it is.
    pub tenant: String,
    /// SHA-256 of the key (or of the publishable half), 64 hexadecimal digits.
    pub sha256: String,
    /// SHA-256 of the secret half, for a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_sha256: Option<String>,
    /// The id it is known by; made up when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its last four characters, for lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    /// `test` or `live`; needed when the surface has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Who acts within the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `30d`, or RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Replaces a credential.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotateKey {
    /// How long the old one goes on working; `0` ends it now. Default one hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    /// When the new one ends; without it, when the old one would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// A credential just made: the only time its secret is shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyMade {
    /// Its id: not a secret, what it is listed and revoked by.
    pub id: String,
    /// The key, or the publishable half.
    pub key: String,
    /// The secret half of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The visible beginning.
    pub prefix: String,
    /// The last four characters.
    pub last4: String,
    /// Its surface.
    pub surface: String,
    /// Its tenant.
    pub tenant: String,
    /// Who acts within the tenant.
    #[serde(default)]
    pub subject: Option<String>,
    /// `test`, `live` or none.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// The id of the record it hangs on, which ends it.
    #[serde(default)]
    pub parent: Option<String>,
    /// A name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it ends, RFC 3339.
    pub expires_at: Option<String>,
}

impl KeyMade {
    /// What is shown of a record and its secrets, this once.
    #[must_use]
    pub fn new(record: &CredentialRecord, key: &GeneratedKey, secret: Option<&GeneratedKey>) -> Self {
        let view = KeyView::from(record);
        Self {
            id: view.id,
            key: key.expose().to_owned(),
            secret: secret.map(|secret| secret.expose().to_owned()),
            prefix: view.prefix,
            last4: view.last4,
            surface: view.surface,
            tenant: view.tenant,
            subject: view.subject,
            mode: view.mode,
            scopes: view.scopes,
            roles: view.roles,
            parent: view.parent,
            name: view.name,
            description: view.description,
            expires_at: view.expires_at,
        }
    }
}

impl std::fmt::Debug for KeyMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyMade").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A signing secret, for the service that signs with it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Revealed {
    /// Its id.
    pub id: String,
    /// The secret itself.
    pub secret: String,
    /// The tenant that has it.
    pub tenant: String,
    /// When it ends, RFC 3339.
    pub expires_at: Option<String>,
}

impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revealed").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The answer to a creation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Created {
    /// What was made.
    pub credential: KeyMade,
    /// What an operator may want to know; nothing failed.
    pub warnings: Vec<String>,
    /// What is not known: whether it outlives a failure of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// The answer to a rotation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rotated {
    /// What was made.
    pub credential: KeyMade,
    /// What it replaces.
    pub replaces: Replaced,
    /// What an operator may want to know; nothing failed.
    pub warnings: Vec<String>,
    /// What is not known: whether the end of the old one outlives a failure of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// The old half of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its id.
    pub id: String,
    /// When it stops working, RFC 3339.
    pub expires_at: Option<String>,
}

/// A credential as operators see it: no secret, no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// `active`, `disabled` or `revoked`.
    pub state: String,
    /// The visible beginning.
    pub prefix: String,
    /// The last four characters.
    pub last4: String,
    /// Its surface.
    pub surface: String,
    /// Its tenant.
    pub tenant: String,
    /// Who acts within the tenant.
    pub subject: Option<String>,
    /// `test`, `live` or none.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// The id of the record it hangs on, which ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it begins, RFC 3339.
    pub not_before: Option<String>,
    /// When it ends, RFC 3339.
    pub expires_at: Option<String>,
    /// When it was revoked, RFC 3339.
    pub revoked_at: Option<String>,
}

impl From<&CredentialRecord> for KeyView {
    fn from(record: &CredentialRecord) -> Self {
        let (state, revoked_at) = match record.state {
            CredentialState::Active => ("active", None),
            CredentialState::Disabled => ("disabled", None),
            CredentialState::Revoked { at } => ("revoked", Some(at)),
        };
        Self {
            id: record.id.as_str().into(),
            state: state.into(),
            prefix: record.prefix.clone(),
            last4: record.last4.clone(),
            surface: record.surface.as_str().into(),
            tenant: record.tenant.as_str().into(),
            subject: record.subject.as_ref().map(|s| s.as_str().into()),
            mode: mode_word(record.mode),
            scopes: scope_words(&record.scopes),
            roles: role_words(record),
            parent: record.parent().map(|parent| parent.id.as_str().into()),
            name: record.name.clone(),
            description: record.description().map(str::to_owned),
            created_at: times::write(record.created_at),
            not_before: record.not_before.map(times::write),
            expires_at: record.expires_at.map(times::write),
            revoked_at: revoked_at.map(times::write),
        }
    }
}

/// A page of credentials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyList {
    /// In order of id.
    pub keys: Vec<KeyView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

/// The answer to a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Counts the configurations since the start; requests use this one from now on.
    pub version: u64,
}

/// What `/readyz` checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// A configuration is in force.
    pub configuration: String,
    /// The store answered a moment ago.
    pub store: String,
    /// What was in use before the start is in memory, or the time to read it is over.
    #[serde(default)]
    pub warm: String,
    /// The gateway is not shutting down.
    pub serving: String,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// Counts the configurations since the start.
    pub configuration: u64,
    /// Whether it is ready.
    pub ready: bool,
    /// Why, or why not.
    pub checks: Checks,
    /// Names of the surfaces.
    pub surfaces: Vec<String>,
    /// Names of the upstreams.
    pub upstreams: Vec<String>,
    /// How many routes there are.
    pub routes: usize,
    /// Requests in flight.
    pub in_flight: u64,
    /// Where the public side listens.
    pub listeners: Vec<ListenerView>,
    /// Where probes are answered over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<String>,
}

/// One public listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Where it listens; the real port where the configuration says 0.
    pub address: String,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The reason.
    pub error: FailureBody,
}

/// The reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureBody {
    /// One of the codes of `OperationError`.
    pub code: String,
    /// For people.
    pub message: String,
}

pub(crate) fn mode_word(mode: Option<Mode>) -> Option<String> {
    mode.map(|m| m.as_str().to_owned())
}

pub(crate) fn scope_words(scopes: &ScopeSet) -> Vec<String> {
    scopes.iter().map(|s| s.as_str().to_owned()).collect()
}
