//! Accounts: their JSON, and the operations on them. Operators make, list, show, disable, enable and revoke accounts, and
//! replace passwords.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::login::{is_email, login_fingerprint};
use crate::base::principal::{CredentialRecord, Extras, PasswordHash};
use crate::base::scope::Mode;
use crate::decide::surface::{Carry, Recipe, Surface, SurfaceKind};
use crate::issue::minting::blank;
use crate::issue::password::{MAX_PASSWORD, hash_password};
use crate::snapshot::Snapshot;
use crate::store::{ChangeError, CredentialChange, CredentialFilter, NewRecords, find_any};

use super::Operations;
use super::error::OperationError;
use super::receipts::Doubtful;
use super::surfaces::find_surface_of;
use super::text::{
    PAGE, mode_word, parse_expiry, parse_id, parse_name, parse_scopes, parse_tenant, printable, role_words, scope_words, state_word, write,
};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateAccount {
    /// Its surface; may be left out when there is only one for accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surface: Option<String>,
    pub tenant: String,
    /// Its e-mail address; needed where accounts log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Its password; needed where accounts log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<PlainPassword>,
    /// `test` or `live`, for surfaces with a mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    pub scopes: Vec<String>,
    /// Its roles, by id or name.
    pub roles: Vec<String>,
    /// `30d`, or RFC 3339; without it, it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetPassword {
    pub password: PlainPassword,
}

/// A password before it is hashed. `Debug` shows nothing of it; its memory is wiped when it is dropped.
#[derive(Clone, Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct PlainPassword(String);

impl PlainPassword {
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

impl fmt::Debug for PlainPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainPassword(..)")
    }
}

/// An account as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// The id of the account. It is the identity, and never changes.
    pub id: String,
    /// The e-mail address with which the account logs in; it may change.
    pub email: Option<String>,
    /// One of `active`, `disabled` and `revoked`.
    pub state: String,
    pub surface: String,
    pub tenant: String,
    /// `test` or `live`; none where the surface has no modes.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    /// The ids of its roles.
    pub roles: Vec<String>,
    pub name: Option<String>,
    /// Of a link: the id of the account that a person of an identity provider signs on to by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked_account: Option<String>,
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
            linked_account: record.linked_account().map(|account| account.as_str().into()),
            created_at: write(record.created_at),
            expires_at: record.expires_at.map(write),
            valid_after: record.valid_after.map(write),
        }
    }
}

impl Doubtful for AccountView {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountList {
    /// In the order of their ids.
    pub accounts: Vec<AccountView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

impl Operations {
    /// Makes an account. Where accounts log in it has an e-mail address, which no other account of the
    /// surface has, and a password, of which only the Argon2id hash is kept.
    ///
    /// # Errors
    /// [`OperationError::Usage`], which says what would have been right, [`OperationError::NotFound`] without
    /// the tenant, [`OperationError::Conflict`] when the address is taken, or an error of the store.
    pub async fn create_account(&self, request: &CreateAccount) -> Result<AccountView, OperationError> {
        let snapshot = self.snapshot.load();
        let surface = find_account_surface(&snapshot, request.surface.as_deref())?;
        let now = self.store.time().await?;
        let tenant = parse_tenant(&request.tenant)?;
        let blank = blank(surface, tenant.clone(), now)?;
        let mut extras = Extras {
            roles: self.resolve_roles(&snapshot, &tenant, &request.roles).await?,
            ..Extras::default()
        };
        let mut fingerprint = blank.fingerprint;
        if logs_in(surface) {
            let (email, password) = credentials_of(request, surface)?;
            fingerprint = login_fingerprint(self.peppers.first(), &surface.name, email);
            let older = self.peppers.older().map(|pepper| login_fingerprint(pepper, &surface.name, email));
            if find_any(&*self.store, older).await? {
                return Err(address_taken());
            }
            extras.password = Some(hash(password).await?);
            extras.login = Some(email.to_owned());
        } else if request.email.is_some() || request.password.is_some() {
            return Err(OperationError::Usage(format!(
                "accounts of surface `{}` do not log in: leave e-mail and password out",
                surface.name
            )));
        }
        let record = CredentialRecord {
            fingerprint,
            mode: resolve_mode(surface, request.mode.as_deref())?,
            scopes: parse_scopes(&request.scopes)?,
            name: request.name.as_deref().map(parse_name).transpose()?,
            expires_at: request.expires.as_deref().map(|text| parse_expiry(text, now)).transpose()?,
            extras: extras.boxed(),
            ..blank
        };
        let stored = self.store.create_credential(record).await.map_err(|error| match error {
            ChangeError::Taken(_) => address_taken(),
            error => error.into(),
        })?;
        tracing::info!(account = %stored.id, surface = %stored.surface, tenant = %stored.tenant, "account created");
        Ok(AccountView::from(&stored))
    }

    /// Lists accounts of a surface (of the only one, if there is one).
    ///
    /// # Errors
    /// [`OperationError`]: an error of the store.
    pub async fn list_accounts(
        &self,
        tenant: Option<&str>,
        surface: Option<&str>,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<AccountList, OperationError> {
        let snapshot = self.snapshot.load();
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let filter = CredentialFilter {
            tenant: tenant.map(parse_tenant).transpose()?,
            surface: Some(find_account_surface(&snapshot, surface)?.name.clone()),
            after: after.map(parse_id).transpose()?,
            limit,
            ..CredentialFilter::default()
        };
        let found = self.store.list_credentials(filter).await?;
        let next = (found.len() == limit).then(|| found.last().map(|r| r.id.as_str().to_owned()));
        Ok(AccountList {
            accounts: found.iter().map(AccountView::from).collect(),
            next: next.flatten(),
        })
    }

    /// Shows one account.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn show_account(&self, id: &str) -> Result<AccountView, OperationError> {
        Ok(AccountView::from(&self.find_account(id).await?))
    }

    /// Disables, enables or revokes an account, and its sessions with it.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for a revoked one, or an error of the store.
    pub async fn change_account(&self, id: &str, change: CredentialChange) -> Result<AccountView, OperationError> {
        let account = self.find_account(id).await?;
        let now = self.clock.now().wall;
        let record = self.store.change_credential(account.id, change.clone(), now).await?;
        tracing::info!(account = %record.id, ?change, "account changed");
        Ok(AccountView::from(&record))
    }

    /// Replaces the password of an account, and ends its sessions, since somebody who knew the old password may have begun
    /// one. Both happen in one step of the store.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Usage`] for a password that cannot be one,
    /// [`OperationError::Conflict`] for an account without a password, or an error of the store.
    pub async fn set_password(&self, id: &str, request: &SetPassword) -> Result<AccountView, OperationError> {
        let account = self.find_account(id).await?;
        // A person of an identity provider may have an address, and never logs in by it.
        if account.login().is_none() || account.is_person_of_provider() {
            return Err(OperationError::Conflict(format!("account `{}` does not log in", account.id)));
        }
        let hash = hash(&request.password).await?;
        let now = self.clock.now().wall;
        let new = NewRecords {
            changes: [CredentialChange::SetPassword(hash), CredentialChange::EndIssued]
                .map(|change| (account.id.clone(), change))
                .into(),
            ..NewRecords::default()
        };
        let changed = self.store.create(new, now).await?;
        tracing::info!(account = %account.id, "password set, sessions ended");
        changed
            .first()
            .map(AccountView::from)
            .ok_or_else(|| OperationError::Unavailable("the store did not return the account that was changed".into()))
    }

    async fn find_account(&self, id: &str) -> Result<CredentialRecord, OperationError> {
        let snapshot = self.snapshot.load();
        let found = self.store.find_credential(parse_id(id)?).await?;
        let is_account = |record: &CredentialRecord| {
            let surface = snapshot.surfaces.iter().find(|s| s.name == record.surface);
            // The surface may have been removed from the configuration; then a log-in name shows that this is an account.
            surface.map_or(record.login().is_some(), |s| takes_accounts(&s.kind))
        };
        found
            .filter(is_account)
            .ok_or_else(|| OperationError::NotFound(format!("there is no account `{id}`")))
    }
}

fn address_taken() -> OperationError {
    OperationError::Conflict("an account with this e-mail address exists already".into())
}

/// The surface of this name, if accounts log in there. Without a name, the only such surface.
fn find_account_surface<'s>(snapshot: &'s Snapshot, name: Option<&str>) -> Result<&'s Surface, OperationError> {
    find_surface_of(snapshot, "accounts", takes_accounts, name)
}

fn takes_accounts(kind: &SurfaceKind) -> bool {
    matches!(kind.recipe(), Recipe::Account)
}

fn logs_in(surface: &Surface) -> bool {
    matches!(surface.kind.carry(), Carry::Login(_))
}

fn credentials_of<'r>(request: &'r CreateAccount, surface: &Surface) -> Result<(&'r str, &'r PlainPassword), OperationError> {
    let (Some(email), Some(password)) = (&request.email, &request.password) else {
        return Err(OperationError::Usage(format!(
            "accounts of surface `{}` log in: an e-mail address and a password are needed",
            surface.name
        )));
    };
    let email = email.trim();
    if !is_email(email) {
        return Err(OperationError::Usage(format!("`{}` is not an e-mail address", printable(email))));
    }
    Ok((email, password))
}

fn resolve_mode(surface: &Surface, name: Option<&str>) -> Result<Option<Mode>, OperationError> {
    let Some(name) = name else { return Ok(surface.mode) };
    let mode = Mode::parse(name).filter(|mode| surface.mode.is_none_or(|pinned| pinned == *mode));
    mode.map(Some)
        .ok_or_else(|| OperationError::Usage(format!("surface `{}` has no mode `{}`", surface.name, printable(name))))
}

/// Hashes on a thread for blocking work, since a hash takes about 20 ms of a core.
async fn hash(password: &PlainPassword) -> Result<PasswordHash, OperationError> {
    let text = password.expose();
    if text.is_empty() || text.len() > MAX_PASSWORD || text.chars().any(char::is_control) {
        return Err(OperationError::Usage(format!(
            "a password has 1 to {MAX_PASSWORD} bytes and no control characters"
        )));
    }
    let failed = || OperationError::Unavailable("the password could not be hashed".into());
    let password = password.clone();
    let phc = tokio::task::spawn_blocking(move || hash_password(password.expose()))
        .await
        .map_err(|_| failed())?
        .map_err(|_| failed())?;
    PasswordHash::parse(&phc).ok_or_else(failed)
}
