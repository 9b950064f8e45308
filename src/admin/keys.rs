//! Keys and key pairs: their JSON, and the operations on them. Operators make, list, show, disable, enable and revoke keys.

use serde::{Deserialize, Serialize};

use crate::base::ids::CredentialId;
use crate::base::key::GeneratedKey;
use crate::base::principal::{CredentialRecord, CredentialState, Extras, Parent};
use crate::base::scope::{Mode, ScopeSet};
use crate::decide::surface::Recipe;
use crate::issue::minting::{MintedCredential, blank, finish, signing_secret};
use crate::store::{ChangeError, CredentialChange, CredentialFilter, NewRecords};

use super::Operations;
use super::error::OperationError;
use super::receipts::Doubtful;
use super::surfaces::{KeySurface, find_key_surface, unused_scopes};
use super::text::{
    PAGE, mode_word, parse_description, parse_expiry, parse_id, parse_name, parse_scopes, parse_subject, parse_surface, parse_tenant,
    role_words, scope_words, write,
};

/// Makes a key or a key pair.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateKey {
    /// The surface it is for.
    pub surface: String,
    pub tenant: String,
    /// `test` or `live`; needed when the surface has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    pub scopes: Vec<String>,
    /// Its roles, by id or name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The id of the parent. When the parent ends, this record ends too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Who acts within the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `30d`, or RFC 3339; without it, it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A credential that was just made. Its secret is shown in this answer only.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyMade {
    /// The id by which the credential is listed and revoked; it is not a secret.
    pub id: String,
    /// The key, or the publishable half.
    pub key: String,
    /// The secret half of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub prefix: String,
    pub last4: String,
    pub surface: String,
    pub tenant: String,
    /// Who acts within the tenant.
    #[serde(default)]
    pub subject: Option<String>,
    /// `test` or `live`; none where the surface has no modes.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    pub roles: Vec<String>,
    /// The id of the parent. When the parent ends, this record ends too.
    #[serde(default)]
    pub parent: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it ends, RFC 3339.
    pub expires_at: Option<String>,
}

impl KeyMade {
    /// What the answer to a creation shows of a record and its secrets.
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
pub struct RevealedSecret {
    pub id: String,
    pub secret: String,
    /// The tenant that has it.
    pub tenant: String,
    /// When it ends, RFC 3339.
    pub expires_at: Option<String>,
}

impl std::fmt::Debug for RevealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RevealedSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The answer to a creation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatedKey {
    pub credential: KeyMade,
    /// What an operator may want to know; nothing failed.
    pub warnings: Vec<String>,
    /// What is not certain: whether the credential survives a failure of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// A credential as operators see it: no secret, no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    pub id: String,
    /// One of `active`, `disabled` and `revoked`.
    pub state: String,
    pub prefix: String,
    pub last4: String,
    pub surface: String,
    pub tenant: String,
    /// Who acts within the tenant.
    pub subject: Option<String>,
    /// `test` or `live`; none where the surface has no modes.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    pub roles: Vec<String>,
    /// The id of the parent. When the parent ends, this record ends too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub name: Option<String>,
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
            created_at: write(record.created_at),
            not_before: record.not_before.map(write),
            expires_at: record.expires_at.map(write),
            revoked_at: revoked_at.map(write),
        }
    }
}

impl Doubtful for KeyView {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyList {
    /// In the order of their ids.
    pub keys: Vec<KeyView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

/// The checked words of a request to make or import a key.
pub(crate) struct KeyWords<'r> {
    pub(crate) scopes: &'r [String],
    pub(crate) subject: Option<&'r str>,
    pub(crate) name: Option<&'r str>,
}

/// A credential that was made.
pub(crate) struct StoredKey {
    /// The credential with its secret, which is shown in this answer only.
    pub(crate) credential: KeyMade,
    /// The records that were changed in the same step, as they are after it; none when the change is not confirmed.
    pub(crate) changed: Vec<CredentialRecord>,
    pub(crate) doubt: Option<String>,
}

impl Operations {
    /// Makes a key or a key pair. Its secret is shown in this answer only.
    ///
    /// # Errors
    /// [`OperationError::Usage`], which says what would have been right, [`OperationError::NotFound`] without
    /// the tenant, or an error of the store.
    pub async fn create_key(&self, request: &CreateKey) -> Result<CreatedKey, OperationError> {
        let snapshot = self.snapshot.load();
        let surface = find_key_surface(&snapshot, &request.surface)?;
        let mode = surface.resolve_mode(request.mode.as_deref())?;
        let signs = matches!(surface.surface.kind.recipe(), Recipe::Signing(_));
        if signs && !(request.scopes.is_empty() && request.roles.is_empty() && request.subject.is_none()) {
            return Err(OperationError::Usage(format!(
                "a signing secret of `{}` opens nothing: it has no scopes, no roles and no subject",
                surface.name()
            )));
        }
        let now = self.clock.now().wall;
        let words = KeyWords {
            scopes: &request.scopes,
            subject: request.subject.as_deref(),
            name: request.name.as_deref(),
        };
        let mut record = self.blank_record(&surface, &request.tenant, mode, &words).await?;
        record.expires_at = request.expires.as_deref().map(|text| parse_expiry(text, now)).transpose()?;
        let parent = self.resolve_parent(request.parent.as_deref()).await?;
        record.extras = Extras {
            roles: self.resolve_roles(&snapshot, &record.tenant, &request.roles).await?,
            // No route has granted scopes to this key, so it has those of its parent.
            granted: parent.as_ref().map(|_| ScopeSet::default()),
            parent,
            description: request
                .description
                .as_deref()
                .map(parse_description)
                .transpose()?
                .filter(|text| !text.is_empty()),
            ..Extras::default()
        }
        .boxed();
        let warnings = unused_scopes(&snapshot, &surface, &record.scopes);
        let at = record.created_at;
        let made = finish(surface.surface, record, None, at, self.peppers.first())?;
        let StoredKey { credential, doubt, .. } = self.store_made(made, Vec::new()).await?;
        tracing::info!(credential = %credential.id, surface = %surface.name(), tenant = %credential.tenant, "credential created");
        Ok(CreatedKey {
            credential,
            warnings,
            doubt,
        })
    }

    /// Lists credentials.
    ///
    /// # Errors
    /// [`OperationError`]: an error of the store.
    pub async fn list_keys(
        &self,
        tenant: Option<&str>,
        surface: Option<&str>,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<KeyList, OperationError> {
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let filter = CredentialFilter {
            tenant: tenant.map(parse_tenant).transpose()?,
            surface: surface.map(parse_surface).transpose()?,
            after: after.map(parse_id).transpose()?,
            limit,
            ..CredentialFilter::default()
        };
        let found = self.store.list_credentials(filter).await?;
        let next = (found.len() == limit).then(|| found.last().map(|r| r.id.as_str().to_owned()));
        Ok(KeyList {
            keys: found.iter().map(KeyView::from).collect(),
            next: next.flatten(),
        })
    }

    /// Shows one credential.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn show_key(&self, id: &str) -> Result<KeyView, OperationError> {
        Ok(KeyView::from(&self.find_record(id).await?))
    }

    /// Reveals a signing secret by the id of its record, if the record is in force.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for a credential of another kind, whose secret nobody knows;
    /// [`OperationError::Conflict`] for one that is not in force, [`OperationError::NotFound`], or an error of the store.
    pub async fn reveal_key(&self, id: &str) -> Result<RevealedSecret, OperationError> {
        let record = self.find_record(id).await?;
        let snapshot = self.snapshot.load();
        let surface = find_key_surface(&snapshot, record.surface.as_str())?;
        if !matches!(surface.surface.kind.recipe(), Recipe::Signing(_)) {
            return Err(OperationError::Usage(format!(
                "`{id}` is not a signing secret: of other credentials only the hash is stored"
            )));
        }
        refuse_unused(&record, record.expires_at.is_some_and(|end| end <= self.clock.now().wall))?;
        let secret = signing_secret(surface.surface, &record, &self.peppers).ok_or_else(|| {
            OperationError::Conflict(format!(
                "`{id}` was made under a pepper or a prefix that this gateway does not have any more"
            ))
        })?;
        tracing::info!(credential = %record.id, "signing secret revealed");
        Ok(RevealedSecret {
            id: record.id.as_str().into(),
            secret: secret.expose().to_owned(),
            tenant: record.tenant.as_str().into(),
            expires_at: record.expires_at.map(write),
        })
    }

    /// Disables, enables or revokes a credential.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for a revoked one, or an error of the store.
    pub async fn change_key(&self, id: &str, change: CredentialChange) -> Result<KeyView, OperationError> {
        let id = parse_id(id)?;
        let record = self.store.change_credential(id, change.clone(), self.clock.now().wall).await?;
        tracing::info!(credential = %record.id, ?change, "credential changed");
        Ok(KeyView::from(&record))
    }

    async fn resolve_parent(&self, id: Option<&str>) -> Result<Option<Parent>, OperationError> {
        let Some(id) = id else { return Ok(None) };
        let record = self.find_record(id).await?;
        Ok(Some(Parent {
            surface: record.surface,
            id: record.id,
        }))
    }

    pub(crate) async fn find_record(&self, id: &str) -> Result<CredentialRecord, OperationError> {
        let id = parse_id(id)?;
        let found = self.store.find_credential(id.clone()).await?;
        found.ok_or_else(|| OperationError::NotFound(format!("there is no credential `{id}`")))
    }

    /// A record with everything but its secrets, for a tenant that exists.
    pub(crate) async fn blank_record(
        &self,
        surface: &KeySurface<'_>,
        tenant: &str,
        mode: Option<Mode>,
        words: &KeyWords<'_>,
    ) -> Result<CredentialRecord, OperationError> {
        let tenant = parse_tenant(tenant)?;
        let scopes = parse_scopes(words.scopes)?;
        let subject = words.subject.map(parse_subject).transpose()?;
        let name = words.name.map(parse_name).transpose()?;
        if self.store.find_tenant(tenant.clone()).await?.is_none() {
            return Err(OperationError::NotFound(format!(
                "there is no tenant `{tenant}`; `durward tenants create {tenant}` makes it"
            )));
        }
        Ok(CredentialRecord {
            subject,
            mode,
            scopes,
            prefix: surface.prefix(mode).to_owned(),
            name,
            ..blank(surface.surface, tenant, self.store.time().await?)?
        })
    }
}

impl Operations {
    /// Stores a new credential and changes others in the same step.
    pub(crate) async fn store_made(
        &self,
        made: MintedCredential,
        changes: Vec<(CredentialId, CredentialChange)>,
    ) -> Result<StoredKey, OperationError> {
        let key = made.key.ok_or_else(|| OperationError::Unavailable("no key was made".into()))?;
        let now = made.record.created_at;
        let new = NewRecords {
            credentials: vec![made.record.clone()],
            changes,
            ..NewRecords::default()
        };
        let (written, doubt) = match self.store.create(new, now).await {
            Ok(written) => (written, None),
            // The credential was made, so the operator must get it, and must read that the store may lose it.
            Err(error @ ChangeError::Unconfirmed(_)) => (vec![made.record], Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let mut written = written.into_iter();
        let stored = written.next();
        let stored = stored.ok_or_else(|| OperationError::Unavailable("the store did not return the credential that was made".into()))?;
        Ok(StoredKey {
            credential: KeyMade::new(&stored, &key, made.secret.as_ref()),
            changed: written.collect(),
            doubt,
        })
    }
}

pub(super) fn refuse_unused(old: &CredentialRecord, expired: bool) -> Result<(), OperationError> {
    let why = match old.state {
        CredentialState::Revoked { .. } => "is revoked",
        CredentialState::Disabled => "is disabled",
        CredentialState::Active if expired => "has expired",
        CredentialState::Active => return Ok(()),
    };
    Err(OperationError::Conflict(format!(
        "credential `{}` {why}; make a new one with `durward keys create`",
        old.id
    )))
}
