//! Runs issuers over the store: everything a call does, in order, all of it or nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::base::clock::{Clock, UnixMillis};
use crate::base::denial::Denial;
use crate::base::fingerprint::{Fingerprint, Peppers};
use crate::base::ids::{RoleId, TenantId};
use crate::base::principal::{CredentialRecord, Facts, IdentityLines, PasswordHash, Reading, RoleRecord};
use crate::base::scope::ScopeSet;
use crate::decide::validity;
use crate::store::{ChangeError, CredentialChange, CredentialStore, Found, NewRecords, StoreError};

use super::answer::{self, Told};
use super::call::{Call, Issued, Stop};
use super::cookie;
use super::fields::Rule;
use super::making::{Kept, Made, Ready, make, mint_tenant};
use super::password::{PasswordError, Passwords};
use super::spec::{Action, Mint, ParentSource, Source, TenantSource};
use super::throttle::Throttle;

mod accounts;
mod records;
#[cfg(test)]
mod tests;

/// Calls of issuers at a time, in the whole process: each holds a body and waits for the store. More
/// are told 503 at once.
const MAX_CALLS: usize = 256;

/// Runs calls of issuers, on the control runtime: a worker never waits for a store write in its own
/// thread, and a client that leaves does not stop what was begun.
pub struct Engine {
    store: Arc<dyn CredentialStore>,
    peppers: Peppers,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    throttle: Throttle,
    control: Handle,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// An engine that runs on `control` and hashes `hashes` passwords at a time.
    #[must_use]
    pub fn new(store: Arc<dyn CredentialStore>, peppers: Peppers, clock: Arc<dyn Clock>, control: Handle, hashes: usize) -> Arc<Self> {
        Arc::new(Self {
            store,
            peppers,
            clock,
            passwords: Passwords::new(control.clone(), hashes),
            throttle: Throttle::default(),
            control,
            places: Arc::new(Semaphore::new(MAX_CALLS)),
        })
    }

    /// Where passwords are hashed.
    #[must_use]
    pub const fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Counts failed log-ins.
    #[must_use]
    pub const fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Runs a call to its end, also when the returned future is dropped.
    ///
    /// # Errors
    /// [`Stop`]; then nothing was made or changed, except where its denial is
    /// [`Denial::StoreUnavailable`]: a store that did not answer may have made the change, of which
    /// nobody was told.
    pub async fn serve(self: &Arc<Self>, call: Call) -> Result<Issued, Stop> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Denial::Overloaded)?;
        let engine = self.clone();
        let running = self.control.spawn(async move {
            let _place = place;
            engine.run(&call).await
        });
        running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an issuer ended early");
            Err(Denial::Internal.into())
        })
    }

    /// Runs a call.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn run(&self, call: &Call) -> Result<Issued, Stop> {
        match &call.issuer()?.action {
            Action::Mint { tenant, mints, cookie } => self.mint(call, tenant, mints, *cookie).await,
            Action::List { surface, reach } => self.list(call, *surface, reach).await,
            Action::Revoke { surface, id, reach } => self.revoke(call, *surface, id, reach).await,
            Action::Rotate { surface, id, reach, grace } => self.rotate(call, (*surface, id, reach), *grace).await,
            Action::SetRoles { surface, id, roles, reach } => self.set_roles(call, (*surface, id, reach), roles).await,
            Action::ListRoles => self.list_roles(call).await,
            Action::ListScopes => list_scopes(call),
            Action::LogOut { extent } => self.log_out(call, *extent).await,
            Action::SetPassword {
                surface,
                current,
                new,
                sessions,
            } => self.set_password(call, *surface, (current.as_deref(), new), *sessions).await,
        }
    }

    /// Makes credentials: first everything that can fail without a trace, the answer included, then
    /// one atomic step of the store.
    async fn mint(&self, call: &Call, tenant: &TenantSource, mints: &[Mint], cookie: Option<usize>) -> Result<Issued, Stop> {
        let now = self.now();
        let (tenant, new_tenant) = match tenant {
            TenantSource::New => (mint_tenant()?, true),
            TenantSource::Caller => (call.caller()?.record().tenant.clone(), false),
            TenantSource::CallerNamed(parameter) => (named_tenant(call, parameter)?, false),
        };
        let mut made: Vec<Made> = Vec::with_capacity(mints.len());
        for mint in mints {
            let parent = self.find_parent(call, mint, &made, now).await?;
            let (roles, role_scopes) = self.find_roles(call, mint.roles.as_ref(), &tenant).await?;
            let ready = Ready {
                tenant: &tenant,
                parent: parent.as_ref(),
                password: self.hash(call, mint.password.as_ref()).await?,
                roles,
                role_scopes,
                pepper: self.peppers.first(),
                now,
            };
            made.push(make(call, mint, ready)?);
        }
        let mut told = Told {
            minted: made.iter().map(|one| answer::minted(one, now)).collect(),
            done: done("mint", made.iter().map(|one| &one.record)),
            ..Told::default()
        };
        if let Some(index) = cookie {
            told.cookies.push(session_cookie(call, mints, &made, index, now)?);
        }
        let issued = answer::render(call, told)?;
        let credentials: Vec<CredentialRecord> = made
            .into_iter()
            .filter(|one| one.kept == Kept::Stored)
            .map(|one| one.record)
            .collect();
        if new_tenant || !credentials.is_empty() {
            let new = NewRecords {
                tenant: new_tenant.then_some(tenant),
                credentials,
                changes: Vec::new(),
            };
            self.store.create(new, now).await.map_err(refused_creation)?;
        }
        self.end_replaced(call, now).await;
        Ok(issued)
    }

    async fn find_parent(&self, call: &Call, mint: &Mint, made: &[Made], now: UnixMillis) -> Result<Option<CredentialRecord>, Stop> {
        match &mint.parent {
            ParentSource::None => Ok(None),
            ParentSource::Caller => Ok(Some(call.caller()?.record().clone())),
            ParentSource::CallersParent => {
                let ancestors = &call.caller()?.principal.facts.ancestors;
                Ok(Some(ancestors.first().ok_or(Denial::NotFound)?.clone()))
            }
            ParentSource::Minted(index) => Ok(Some(made.get(*index).ok_or(Denial::Internal)?.record.clone())),
            ParentSource::Record { surface, id } => {
                let record = self.find_target(call, *surface, id, &super::spec::Reach::Tenant).await?;
                self.check_in_force(&record, now).await?;
                Ok(Some(record))
            }
        }
    }

    /// Whether a record may be built upon: it and all it hangs on are in force. What is not looks as
    /// if it were not there.
    async fn check_in_force(&self, record: &CredentialRecord, now: UnixMillis) -> Result<(), Stop> {
        let found = self.store.find(Fingerprint::of_id(&record.surface, &record.id)).await;
        let Found { position, facts } = found.map_err(|error| unavailable(&error))?;
        let found = facts.ok_or(Denial::NotFound)?;
        let facts = Facts {
            credential: found.credential,
            tenant: found.tenant,
            ancestors: found.ancestors,
            roles: found.roles,
            reading: Reading::new(self.clock.now().boot, position),
            lines: IdentityLines::default(),
        };
        match validity::check(&facts, now) {
            Ok(()) => Ok(()),
            Err(Denial::InactiveTenant) => Err(Denial::InactiveTenant.into()),
            Err(_) => Err(Denial::NotFound.into()),
        }
    }

    /// Roles by id, and what they hold together. One that does not exist, or is another tenant's, is
    /// a mistake of its field.
    async fn find_roles(&self, call: &Call, source: Option<&Source>, tenant: &TenantId) -> Result<(Vec<RoleId>, ScopeSet), Stop> {
        let Some(source) = source else {
            return Ok((Vec::new(), ScopeSet::default()));
        };
        let unknown = || call.refuse(source, Rule::OneOf, Denial::Internal);
        let words = call.find_words(source, None);
        if words.is_empty() {
            return Ok((Vec::new(), ScopeSet::default()));
        }
        let known = self.known_roles(call, tenant).await?;
        let (mut ids, mut scopes) = (Vec::new(), BTreeSet::new());
        for word in words {
            let role = known.iter().find(|role| role.id.as_str() == word).ok_or_else(unknown)?;
            if !ids.contains(&role.id) {
                ids.push(role.id.clone());
            }
            scopes.extend(role.scopes.iter().cloned());
        }
        if ids.len() > crate::base::principal::MAX_ROLES {
            let max = i64::try_from(crate::base::principal::MAX_ROLES).unwrap_or(i64::MAX);
            return Err(call.refuse(source, Rule::Max(max), Denial::Internal));
        }
        Ok((ids, scopes.into_iter().collect()))
    }

    /// The roles a tenant may use: those of the configuration, then its own.
    async fn known_roles(&self, call: &Call, tenant: &TenantId) -> Result<Vec<RoleRecord>, Stop> {
        let own = self.store.list_roles(tenant.clone()).await.map_err(|error| unavailable(&error))?;
        let configured = call.snapshot.roles.iter().cloned();
        Ok(configured.chain(own).collect())
    }

    async fn hash(&self, call: &Call, source: Option<&Source>) -> Result<Option<PasswordHash>, Stop> {
        let Some(Source::Body(field)) = source else {
            return Ok(None);
        };
        let Some(password) = call.body.secret(field) else {
            return Ok(None);
        };
        let hash = self
            .passwords
            .hash(password)
            .await
            .map_err(|error| refused_hash(error, call, field))?;
        Ok(Some(PasswordHash::parse(&hash).ok_or(Denial::Internal)?))
    }

    /// Ends the session whose cookie was replaced. The new one stands already; if the store fails
    /// now, the old one lives on to its own end.
    async fn end_replaced(&self, call: &Call, now: UnixMillis) {
        if let Some(id) = &call.replaced
            && let Err(error) = self.store.change_credential(id.clone(), CredentialChange::Revoke, now).await
        {
            tracing::warn!(credential = %id, %error, "a replaced session could not be ended");
        }
    }

    fn now(&self) -> UnixMillis {
        self.clock.now().wall
    }
}

/// The caller's tenant, if that is the one the path names.
pub(super) fn named_tenant(call: &Call, parameter: &str) -> Result<TenantId, Denial> {
    let own = &call.caller()?.record().tenant;
    match call.path.find(parameter) {
        Some(named) if named == own.as_str() => Ok(own.clone()),
        _ => Err(Denial::ForeignTenant),
    }
}

fn session_cookie(call: &Call, mints: &[Mint], made: &[Made], index: usize, now: UnixMillis) -> Result<String, Denial> {
    let (mint, made) = mints.get(index).zip(made.get(index)).ok_or(Denial::Internal)?;
    let token = made.token.as_ref().ok_or(Denial::Internal)?;
    let minting = call
        .surface(mint.surface)?
        .kind
        .session()
        .and_then(|session| session.minting.as_ref());
    let spec = minting.and_then(|minting| minting.cookie.as_ref()).ok_or(Denial::Internal)?;
    let end = made.record.expires_at.unwrap_or(token.expires_at);
    let remaining = u64::try_from(end.0.saturating_sub(now.0)).unwrap_or(0);
    Ok(cookie::set(spec, &token.text, std::time::Duration::from_millis(remaining)))
}

/// Every scope that a route or a role of the configuration knows.
fn list_scopes(call: &Call) -> Result<Issued, Stop> {
    use crate::decide::route::Access;
    let mut known = BTreeSet::new();
    for route in &call.snapshot.routes {
        if let Access::Surfaces { scopes, .. } = &route.access {
            known.extend(scopes.iter().cloned());
        }
    }
    for role in call.snapshot.roles.iter() {
        known.extend(role.scopes.iter().cloned());
    }
    let items = known
        .iter()
        .map(|scope| serde_json::json!({ "id": scope.as_str(), "name": scope.as_str(), "description": null, "scopes": [scope.as_str()] }));
    let told = Told {
        items: items.collect(),
        done: "list_scopes".into(),
        ..Told::default()
    };
    Ok(answer::render(call, told)?)
}

/// What was done, for the access line: a word, and surface and id of each record.
pub(super) fn done<'r>(what: &str, records: impl Iterator<Item = &'r CredentialRecord>) -> String {
    let mut text = what.to_owned();
    for record in records {
        let _ = write!(text, " {}:{}", record.surface, record.id);
    }
    text
}

/// A store that fails is never anybody's fault but ours (invariant 5).
pub(super) fn unavailable(error: &StoreError) -> Stop {
    match error {
        StoreError::Unavailable(_) | StoreError::Foreign(_) => Denial::StoreUnavailable.into(),
        StoreError::Corrupt(_) => Denial::CorruptRecord.into(),
    }
}

/// A change that was refused. What the caller built upon has ended since it was admitted.
pub(super) fn refused_change(error: ChangeError) -> Stop {
    match error {
        ChangeError::Store(error) | ChangeError::NotMade(error) => unavailable(&error),
        // Repeating a mint makes another one; what is not certain to stay is not handed out.
        ChangeError::Unconfirmed(_) => Denial::StoreUnavailable.into(),
        ChangeError::Taken(_) => Denial::Taken.into(),
        ChangeError::NotFound(_) | ChangeError::Conflict(_) => Denial::NotFound.into(),
    }
}

fn refused_creation(error: ChangeError) -> Stop {
    if let ChangeError::Conflict(reason) | ChangeError::NotFound(reason) = &error {
        tracing::info!(%reason, "nothing was minted");
    }
    refused_change(error)
}

pub(super) fn refused_hash(error: PasswordError, call: &Call, field: &str) -> Stop {
    match error {
        PasswordError::Busy => Denial::Overloaded.into(),
        PasswordError::Length => {
            let max = i64::try_from(super::password::MAX_PASSWORD).unwrap_or(i64::MAX);
            call.refuse(&Source::Body(field.to_owned()), Rule::Max(max), Denial::Internal)
        }
        PasswordError::Hash => Denial::CorruptRecord.into(),
        PasswordError::System => Denial::Internal.into(),
    }
}
