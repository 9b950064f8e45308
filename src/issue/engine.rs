//! Runs the calls of served routes over the store. Each call has all its effects or none.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::base::clock::{Clock, UnixMillis};
use crate::base::denial::Denial;
use crate::base::fingerprint::Peppers;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, PasswordHash, RoleRecord};
use crate::base::scope::ScopeSet;
use crate::decide::validity;
use crate::snapshot::{HashingLimits, LogInSettings, Snapshot};
use crate::store::{ChangeError, CredentialChange, CredentialStore, NewRecords, RecordLimits, RestsOn, StoreError, StoredFacts};

use super::call::{IssueError, Issued, ServedCall};
use super::fields::FieldRule;
use super::password::{PasswordError, Passwords, Requester};
use super::throttle::Throttle;
use super::trail_reader::TrailAccess;
use crate::sign_on::directory::ProviderDirectory;
use crate::sign_on::oidc_providers::OidcProviders;
use crate::sign_on::saml::SamlVerifier;
use crate::snapshot::served_route::{Action, ValueSource};

mod accounts;
mod entries;
mod mint;
mod providers;
mod records;
mod sign_on;
#[cfg(test)]
mod tests;

use accounts::PasswordChange;
use providers::ProviderTools;
use records::RecordTarget;
use sign_on::renewal::MAX_RENEWALS;
use sign_on::renewal_table::RenewalTable;

pub use sign_on::renewal::{BegunRenewal, RenewalVerdict, RenewedRecords, SessionRenewal};

/// Most calls of served routes at a time in the whole process. Each call holds a body and waits for the store.
/// Further calls are answered 503 at once.
const MAX_CALLS: usize = 256;

/// The limits of an engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits<'s> {
    /// Attempts at log-ins, and the hashing of their passwords.
    pub log_in: &'s LogInSettings,
    /// The hashing of the passwords of sign-ups.
    pub sign_up: HashingLimits,
    /// The number of records that served routes may make.
    pub records: RecordLimits,
}

/// Runs the calls of served routes on the control runtime. So a worker never waits for a store write in its own
/// thread, and a client that leaves does not stop a call that has begun.
pub struct Engine {
    store: Arc<dyn CredentialStore>,
    peppers: Peppers,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    throttle: Throttle,
    control: Handle,
    calls: Arc<Semaphore>,
    limits: RecordLimits,
    /// The audit trail, if there is one.
    trail: Option<TrailAccess>,
    /// Which tenant has which identity providers.
    directory: ProviderDirectory,
    /// What is known of OpenID Connect providers.
    oidc: OidcProviders,
    /// Verifies messages of SAML providers in processes of their own.
    saml: SamlVerifier,
    /// Which sign-ons are being renewed, and which were lately.
    renewals: RenewalTable,
    renewal_permits: Arc<Semaphore>,
    /// What tenants' administrators manage their providers with.
    provider_tools: ProviderTools,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// An engine that runs on the runtime `control` within these limits.
    #[must_use]
    pub fn new(
        store: Arc<dyn CredentialStore>,
        peppers: Peppers,
        clock: Arc<dyn Clock>,
        control: Handle,
        limits: &EngineLimits<'_>,
        trail: Option<TrailAccess>,
    ) -> Arc<Self> {
        Arc::new(Self {
            directory: ProviderDirectory::new(store.clone(), clock.clone()),
            oidc: OidcProviders::new(clock.clone()),
            saml: SamlVerifier::of_this_program(),
            renewals: RenewalTable::default(),
            renewal_permits: Arc::new(Semaphore::new(MAX_RENEWALS)),
            provider_tools: ProviderTools::new(),
            store,
            peppers,
            clock,
            passwords: Passwords::new(control.clone(), limits.log_in.hashes, limits.sign_up),
            throttle: Throttle::new(limits.log_in),
            control,
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            limits: limits.records,
            trail,
        })
    }

    #[must_use]
    pub const fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    #[must_use]
    pub const fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Runs a call to its end, even when the returned future is dropped.
    ///
    /// # Errors
    /// [`IssueError`]: nothing was made or changed. The exception is [`Denial::StoreUnavailable`]: a store that did
    /// not answer may have made the change, whose secrets nobody has received. [`IssueError::stale`] when the caller
    /// must be judged again.
    pub async fn serve(self: &Arc<Self>, call: ServedCall) -> Result<Issued, IssueError> {
        let permit = self.calls.clone().try_acquire_owned().map_err(|_| Denial::Overloaded)?;
        let engine = self.clone();
        let running = self.control.spawn(async move {
            let _permit = permit;
            engine.run(&call).await
        });
        running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the step of a served route ended early");
            Err(Denial::Internal.into())
        })
    }

    /// Revokes the records that a call has made. Like a call, it runs to its end even when the future is dropped.
    ///
    /// # Errors
    /// [`IssueError`] if the store could not do it. The records then exist, but nobody has received their secrets.
    pub async fn take_back(self: &Arc<Self>, made: Vec<CredentialId>) -> Result<(), IssueError> {
        let engine = self.clone();
        let running = self.control.spawn(async move { engine.end_made(&made).await });
        running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the end of what was made ended early");
            Err(Denial::Internal.into())
        })
    }

    /// Runs a call.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn run(&self, call: &ServedCall) -> Result<Issued, IssueError> {
        match &call.served_route()?.action {
            Action::Mint { tenant, mints, cookie } => self.mint(call, tenant, mints, *cookie).await,
            Action::List { surface, reach } => self.list(call, *surface, reach).await,
            Action::Revoke {
                surface,
                id,
                reach,
                grants,
            } => {
                self.revoke(
                    call,
                    RecordTarget {
                        surface: *surface,
                        id,
                        reach,
                    },
                    grants,
                )
                .await
            }
            Action::Rotate {
                surface,
                id,
                reach,
                grace,
                grants,
            } => {
                self.rotate(
                    call,
                    RecordTarget {
                        surface: *surface,
                        id,
                        reach,
                    },
                    *grace,
                    grants,
                )
                .await
            }
            Action::SetRoles {
                surface,
                id,
                roles,
                reach,
                grants,
            } => {
                self.set_roles(
                    call,
                    RecordTarget {
                        surface: *surface,
                        id,
                        reach,
                    },
                    roles,
                    grants,
                )
                .await
            }
            Action::ListRoles => self.list_roles(call).await,
            Action::ListScopes => self.list_scopes(call).await,
            Action::Audit => self.list_entries(call).await,
            Action::LogOut { extent } => self.log_out(call, *extent).await,
            Action::SetPassword {
                surface,
                current,
                new,
                sessions,
                grants,
            } => {
                let change = PasswordChange {
                    surface: *surface,
                    current: current.as_deref(),
                    new,
                    sessions: *sessions,
                    grants,
                };
                self.set_password(call, &change).await
            }
            Action::SignOn(route) => self.take_sign_on_step(call, route).await,
            Action::Providers(route) => self.manage_providers(call, route).await,
        }
    }

    /// The roles that a source names, and the scopes of all of them. A role that does not exist or belongs to another
    /// tenant is an error of its field.
    async fn find_roles(
        &self,
        call: &ServedCall,
        source: Option<&ValueSource>,
        tenant: &TenantId,
        rests_on: &mut RestsOn,
    ) -> Result<(Vec<RoleId>, ScopeSet), IssueError> {
        let Some(source) = source else {
            return Ok((Vec::new(), ScopeSet::default()));
        };
        let unknown = || call.refuse(source, FieldRule::OneOf, Denial::Internal);
        let words = call.find_words(source, None);
        if words.is_empty() {
            return Ok((Vec::new(), ScopeSet::default()));
        }
        let known = self.known_roles(call, tenant).await?;
        let mut found: Vec<&RoleRecord> = Vec::new();
        for word in words {
            let role = known.iter().find(|role| role.id.as_str() == word).ok_or_else(unknown)?;
            if !found.contains(&role) {
                found.push(role);
            }
        }
        if found.len() > crate::base::principal::MAX_ROLES {
            let max = i64::try_from(crate::base::principal::MAX_ROLES).unwrap_or(i64::MAX);
            return Err(call.refuse(source, FieldRule::Max(max), Denial::Internal));
        }
        rests_on.add_roles(found.iter().copied());
        let scopes = found.iter().flat_map(|role| role.scopes.iter().cloned()).collect();
        Ok((found.into_iter().map(|role| role.id.clone()).collect(), scopes))
    }

    /// The roles that a tenant may use: those of the configuration, then its own.
    async fn known_roles(&self, call: &ServedCall, tenant: &TenantId) -> Result<Vec<RoleRecord>, IssueError> {
        self.known_roles_under(&call.snapshot, tenant).await
    }

    /// The same, under this configuration.
    async fn known_roles_under(&self, snapshot: &Snapshot, tenant: &TenantId) -> Result<Vec<RoleRecord>, IssueError> {
        let own = self.store.list_roles(tenant.clone()).await.map_err(|error| unavailable(&error))?;
        let configured = snapshot.scope_grants.roles.iter().cloned();
        Ok(configured.chain(own).collect())
    }

    /// The one step of the store in which a call takes effect: all of it, or nothing. The caller's identity must not
    /// have expired, and all facts that the caller was judged by must be in the store unchanged.
    async fn write(&self, call: &ServedCall, new: NewRecords, now: UnixMillis) -> Result<(), IssueError> {
        if call.is_over(self.clock.now().wall) {
            return Err(refused_change(ChangeError::Stale));
        }
        let new = NewRecords {
            limits: Some(self.limits),
            ..new
        };
        self.store.create(new, now).await.map(drop).map_err(refused_change)
    }

    /// Makes all these changes in one step, or none.
    async fn change(
        &self,
        call: &ServedCall,
        changes: Vec<(CredentialId, CredentialChange)>,
        rests_on: RestsOn,
        now: UnixMillis,
    ) -> Result<(), IssueError> {
        let new = NewRecords {
            changes,
            rests_on,
            ..NewRecords::default()
        };
        self.write(call, new, now).await
    }

    /// Checks that the caller may still make this call, for calls that write nothing. A list is shown only to a
    /// caller who may see it now.
    async fn check_caller(&self, call: &ServedCall) -> Result<(), IssueError> {
        self.change(call, Vec::new(), call.rests_on(), UnixMillis(0)).await
    }

    async fn hash(&self, call: &ServedCall, source: Option<&ValueSource>) -> Result<Option<PasswordHash>, IssueError> {
        let Some(ValueSource::Body(field)) = source else {
            return Ok(None);
        };
        let Some(password) = call.body.secret(field) else {
            return Ok(None);
        };
        Ok(Some(self.hash_new(call, field, password).await?))
    }

    /// Hashes a password that will be stored.
    async fn hash_new(&self, call: &ServedCall, field: &str, password: Zeroizing<String>) -> Result<PasswordHash, IssueError> {
        let requester = if call.caller.is_some() {
            Requester::Known
        } else {
            Requester::SignUp
        };
        let refused = |error| refused_hash(error, call, field);
        let permit = self.passwords.acquire(requester, call.address).await.map_err(refused)?;
        let hash = permit.hash(password).await.map_err(refused)?;
        Ok(PasswordHash::parse(&hash).ok_or(Denial::Internal)?)
    }

    /// The time of the store. So what is made and what is ended have one order, whichever gateway did it.
    async fn time(&self) -> Result<UnixMillis, IssueError> {
        self.store.time().await.map_err(|error| unavailable(&error))
    }
}

/// The scopes that a record may use now.
pub(super) fn may_do(call: &ServedCall, found: &StoredFacts) -> ScopeSet {
    let may = call
        .snapshot
        .scope_grants
        .effective_scopes_of(&found.credential, &found.ancestors, &found.roles);
    may.into_owned()
}

/// Checks that a record and all records above it are in force. A record that is not in force looks as if it did not
/// exist.
pub(super) fn check_in_force(found: &StoredFacts, now: UnixMillis) -> Result<(), IssueError> {
    match validity::check_found(&found.credential, &found.ancestors, &found.tenant, now) {
        Ok(()) => Ok(()),
        Err(Denial::InactiveTenant) => Err(Denial::InactiveTenant.into()),
        Err(_) => Err(Denial::NotFound.into()),
    }
}

/// The caller's tenant, if the path names that tenant.
pub(super) fn named_tenant(call: &ServedCall, parameter: &str) -> Result<TenantId, Denial> {
    let own = &call.caller()?.record().tenant;
    match call.path.find(parameter) {
        Some(named) if named == own.as_str() => Ok(own.clone()),
        _ => Err(Denial::ForeignTenant),
    }
}

/// The action for the access line: a word, and surface and id of each record.
pub(super) fn done<'r>(what: &str, records: impl Iterator<Item = &'r CredentialRecord>) -> String {
    let mut text = what.to_owned();
    for record in records {
        let _ = write!(text, " {}:{}", record.surface, record.id);
    }
    text
}

/// A failure of the store is never the caller's fault: it is answered 503, never 401 or 404.
pub(super) fn unavailable(error: &StoreError) -> IssueError {
    match error {
        StoreError::Unavailable(_) | StoreError::Foreign(_) => Denial::StoreUnavailable.into(),
        StoreError::Corrupt(_) => Denial::CorruptRecord.into(),
    }
}

/// The refusal of a change.
fn refused_change(error: ChangeError) -> IssueError {
    if let ChangeError::Conflict(reason) | ChangeError::NotFound(reason) | ChangeError::Full(reason) = &error {
        tracing::info!(%reason, "nothing was made or changed");
    }
    match error {
        ChangeError::Store(error) | ChangeError::NotMade(error) => unavailable(&error),
        // Repeating a mint makes another credential. A credential that might not last is not handed out.
        ChangeError::Unconfirmed(why) => {
            tracing::warn!(%why, "a change was made but not confirmed: the call is answered as if the store were unavailable");
            Denial::StoreUnavailable.into()
        }
        ChangeError::Taken(_) => Denial::Taken.into(),
        ChangeError::NotFound(_) | ChangeError::Conflict(_) => Denial::NotFound.into(),
        ChangeError::Full(_) => Denial::TooManyCredentials.into(),
        ChangeError::Stale => IssueError {
            stale: true,
            ..Denial::StoreUnavailable.into()
        },
    }
}

pub(super) fn refused_hash(error: PasswordError, call: &ServedCall, field: &str) -> IssueError {
    match error {
        PasswordError::Busy => Denial::Overloaded.into(),
        PasswordError::Length => {
            let max = i64::try_from(super::password::MAX_PASSWORD).unwrap_or(i64::MAX);
            call.refuse(&ValueSource::Body(field.to_owned()), FieldRule::Max(max), Denial::Internal)
        }
        PasswordError::Hash => Denial::CorruptRecord.into(),
        PasswordError::System => Denial::Internal.into(),
    }
}
