//! Accounts, roles and sessions as the operator API's JSON shows them.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::clock::UnixMillis;
use crate::base::principal::{ClaimValue, CredentialRecord, CredentialState, RoleRecord};

use super::api::{mode_word, scope_words};
use super::times;

/// A password on its way to its hash. `Debug` shows nothing; wiped when dropped.
#[derive(Clone, Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Wraps it.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The password itself, to be hashed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Makes an account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateAccount {
    /// Its surface; may be left out when there is only one for accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surface: Option<String>,
    /// Whose it is.
    pub tenant: String,
    /// Its e-mail address; needed where accounts log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Its password; needed where accounts log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// `test` or `live`, for surfaces with a mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Its roles, by id or name.
    pub roles: Vec<String>,
    /// `30d`, or RFC 3339; without it, it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Replaces a password.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetPassword {
    /// The new one.
    pub password: Password,
}

/// An account as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// Its id: the identity, which never changes.
    pub id: String,
    /// Its e-mail address, which is not its identity.
    pub email: Option<String>,
    /// `active`, `disabled` or `revoked`.
    pub state: String,
    /// Its surface.
    pub surface: String,
    /// Its tenant.
    pub tenant: String,
    /// `test`, `live` or none.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    /// The ids of its roles.
    pub roles: Vec<String>,
    /// A name for people.
    pub name: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it ends, RFC 3339.
    pub expires_at: Option<String>,
    /// Sessions begun before this are ended, RFC 3339.
    pub valid_after: Option<String>,
}

impl From<&CredentialRecord> for AccountView {
    fn from(record: &CredentialRecord) -> Self {
        Self {
            id: record.id.as_str().into(),
            email: record.login().map(str::to_owned),
            state: state_word(record.state).into(),
            surface: record.surface.as_str().into(),
            tenant: record.tenant.as_str().into(),
            mode: mode_word(record.mode),
            scopes: scope_words(&record.scopes),
            roles: role_words(record),
            name: record.name.clone(),
            created_at: times::write(record.created_at),
            expires_at: record.expires_at.map(times::write),
            valid_after: record.valid_after.map(times::write),
        }
    }
}

/// A page of accounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountList {
    /// In order of id.
    pub accounts: Vec<AccountView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

/// Makes a role of a tenant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateRole {
    /// Whose it is.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its holders may do.
    pub scopes: Vec<String>,
}

/// Changes a role; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetRole {
    /// Replaces its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Replaces its description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Replaces what its holders may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// A role as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whose it is; none for a role of the configuration, which every tenant may use.
    pub tenant: Option<String>,
    /// What its holders may do, sorted.
    pub scopes: Vec<String>,
    /// When it was made, RFC 3339; none for a role of the configuration.
    pub created_at: Option<String>,
}

impl From<&RoleRecord> for RoleView {
    fn from(role: &RoleRecord) -> Self {
        Self {
            id: role.id.as_str().into(),
            name: role.name.clone(),
            description: role.description.clone(),
            tenant: role.tenant.as_ref().map(|t| t.as_str().into()),
            scopes: scope_words(&role.scopes),
            created_at: role.tenant.as_ref().map(|_| times::write(role.created_at)),
        }
    }
}

/// Roles: those of the configuration, then those of the tenant asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoleList {
    /// The roles.
    pub roles: Vec<RoleView>,
}

/// The role that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleDeleted {
    /// Its id.
    pub id: String,
}

/// A session as operators see it: a record that hangs on another, or that slides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// `active`, `disabled` or `revoked`.
    pub state: String,
    /// Its surface.
    pub surface: String,
    /// Its tenant.
    pub tenant: String,
    /// Who acts within the tenant.
    pub subject: Option<String>,
    /// The id of the record it hangs on, which ends it.
    pub parent: Option<String>,
    /// `test`, `live` or none.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    /// Its claims.
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last used, RFC 3339, about a minute late; for those that slide.
    pub last_used_at: Option<String>,
    /// When it ends if it is not used before, RFC 3339; for those that slide.
    pub idle_at: Option<String>,
    /// When it ends in any case, RFC 3339.
    pub expires_at: Option<String>,
    /// When it ends if it is not used before, by itself or with what it hangs on, RFC 3339; `None`: it has no end.
    #[serde(default)]
    pub ends_at: Option<String>,
}

impl SessionView {
    /// A session that ends at `ends_at` if it is not used before.
    pub(super) fn new(record: &CredentialRecord, ends_at: Option<UnixMillis>) -> Self {
        let claims = record.claims().into_iter().flat_map(|claims| claims.iter());
        let json = |value: &ClaimValue| match value {
            ClaimValue::Text(text) => serde_json::Value::from(text.as_str()),
            ClaimValue::List(words) => serde_json::Value::from(words.clone()),
        };
        Self {
            id: record.id.as_str().into(),
            state: state_word(record.state).into(),
            surface: record.surface.as_str().into(),
            tenant: record.tenant.as_str().into(),
            subject: record.subject.as_ref().map(|s| s.as_str().into()),
            parent: record.parent().map(|parent| parent.id.as_str().into()),
            mode: mode_word(record.mode),
            scopes: scope_words(&record.scopes),
            claims: claims.map(|(name, value)| (name.to_owned(), json(value))).collect(),
            created_at: times::write(record.created_at),
            last_used_at: record.idle().map(|idle| times::write(idle.last_used)),
            idle_at: record.idle().map(|idle| times::write(idle.ends_at())),
            expires_at: record.expires_at.map(times::write),
            ends_at: ends_at.map(times::write),
        }
    }
}

/// A page of sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionList {
    /// In order of id.
    pub sessions: Vec<SessionView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

/// Everything that hangs on a record was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsEnded {
    /// The id of the record, which itself goes on.
    pub id: String,
    /// What hangs on it and was made before this is ended, RFC 3339.
    pub valid_after: Option<String>,
}

pub(crate) const fn state_word(state: CredentialState) -> &'static str {
    match state {
        CredentialState::Active => "active",
        CredentialState::Disabled => "disabled",
        CredentialState::Revoked { .. } => "revoked",
    }
}

pub(crate) fn role_words(record: &CredentialRecord) -> Vec<String> {
    record.roles().iter().map(|role| role.as_str().to_owned()).collect()
}
