//! Stored facts about credentials and tenants.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, PepperMark};
use crate::base::ids::{CredentialId, RoleId, Subject, SurfaceName, TenantId};
use crate::base::scope::{Mode, ScopeSet};

use super::claims::RecordClaims;

/// Most records above one record. A key that a person made who signed on has four above it: the person's session, the
/// sign-on, the person and the identity provider. Every look-up reads all of them.
pub const MAX_ANCESTORS: usize = 4;

/// The surface of the records that stand for tenants ([`CredentialRecord::of_tenant`]). No configured surface may
/// have this name.
pub const TENANT_SURFACE: &str = "tenant";

/// The surface of identity providers' records. The scopes and roles of a provider bound everybody who signs on through it.
pub const PROVIDER_SURFACE: &str = "provider";

/// The surface of the records that hold providers' settings. They are apart from the providers' own records, since every
/// look-up of a session reads the latter.
pub const PROVIDER_SETTINGS_SURFACE: &str = "provider_settings";

/// The surface of sign-ons: sessions at an identity provider, on which our sessions hang.
pub const SIGN_ON_SURFACE: &str = "sign_on";

/// The surfaces of records that durward makes for itself. No configured surface may have one of these names.
pub const RESERVED_SURFACES: [&str; 4] = [TENANT_SURFACE, PROVIDER_SURFACE, PROVIDER_SETTINGS_SURFACE, SIGN_ON_SURFACE];

/// Longest settings of an identity provider, in bytes. With the rest of their record they stay below the largest record
/// that stores take (`store::codec::MAX_RECORD_BYTES`). Four certificates and a table of two hundred roles need half of it.
pub const MAX_SETTINGS: usize = 24 * 1024;

/// Longest text with what is sealed into the record of a sign-on (`sign_on::sign_on_secrets`), in bytes: a name of 1 KiB.
pub const MAX_SIGN_ON_SECRETS: usize = 2 * 1024;

/// The state of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialState {
    Active,
    /// Switched off by an operator, who may switch it on again.
    Disabled,
    /// Ended for ever. The record stays as a tombstone.
    Revoked {
        /// When the store acknowledged it.
        at: UnixMillis,
    },
}

/// What the store holds about one credential. It is never a decision and holds no secret.
///
/// The order of the fields is their order in memory: the fields that every request needs stand together, because with
/// many callers each cache line that a request touches has to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct CredentialRecord {
    /// The surface it was made for.
    pub surface: SurfaceName,
    pub tenant: TenantId,
    pub state: CredentialState,
    pub not_before: Option<UnixMillis>,
    /// Not at or after this.
    pub expires_at: Option<UnixMillis>,
    /// The scopes of the record itself. Its roles add to them, and the records above it bound them
    /// (`decide::scope_grants`).
    pub scopes: ScopeSet,
    /// Parts that few records have; `None` on a plain key. [`Extras::boxed`] makes it.
    pub extras: Option<Box<Extras>>,
    /// Test or live; none on surfaces without modes.
    pub mode: Option<Mode>,
    /// The fingerprint of the secret half of a pair.
    pub secret_fingerprint: Option<Fingerprint>,
    /// The fingerprint that finds the record: of the key, the publishable half, or the log-in name of an account.
    pub fingerprint: Fingerprint,
    /// The watermark: tokens of this record that were issued before it, and records below this one that were made
    /// before it, are dead ("log out everywhere").
    pub valid_after: Option<UnixMillis>,
    pub id: CredentialId,
    /// The subject, if the surface has subjects.
    pub subject: Option<Subject>,
    /// The visible beginning, for lists.
    pub prefix: String,
    /// The last four characters, for lists.
    pub last4: String,
    /// The name that the operator or the tenant gave it.
    pub name: Option<String>,
    pub created_at: UnixMillis,
    /// The number of changes of this record. A higher epoch outranks a lower one.
    pub epoch: u64,
    /// The pepper that made the fingerprints, as the store noted it; `None` if no pepper was needed, or if the record
    /// is older than this note. It stands last, since no request needs it.
    pub pepper: Option<PepperMark>,
}

/// Parts that only some records have. They are kept apart so that the record of a plain key stays small.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// The record that this one hangs on. When the parent ends, this record ends.
    pub parent: Option<Parent>,
    /// Roles, of the configuration or of the store; at most [`MAX_ROLES`](super::MAX_ROLES).
    pub roles: Vec<RoleId>,
    /// Values that become headers, claims of tokens and parts of answers.
    pub claims: RecordClaims,
    /// How long the record lives without use. `expires_at` is then the absolute limit.
    pub idle: Option<IdleTimeout>,
    /// The log-in name of an account as it is shown. The fingerprint is made of its normal form. It is never the
    /// identity.
    pub login: Option<String>,
    pub password: Option<PasswordHash>,
    /// For a record with a parent: the scopes that the route which made it gave by `grants`. They belong to the
    /// record itself; its other scopes reach only as far as those of the parent. `None` on records that were made
    /// before grants were stored.
    pub granted: Option<ScopeSet>,
    /// The description by its maker; never a header.
    pub description: Option<String>,
    /// JSON in which secrets are sealed (`sign_on::seal`). On records of [`PROVIDER_SETTINGS_SURFACE`]: the settings of an
    /// identity provider, at most [`MAX_SETTINGS`] bytes. On records of [`SIGN_ON_SURFACE`], if they have it: how the provider
    /// calls the session, at most [`MAX_SIGN_ON_SECRETS`] bytes. No other record has it.
    pub settings: Option<Arc<str>>,
}

impl Extras {
    /// The extras as a record holds them: `None` if there are none.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// What a record hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The surface of that record.
    pub surface: SurfaceName,
    pub id: CredentialId,
}

/// The idle timeout of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleTimeout {
    /// The record ends after this time without use.
    pub timeout: Duration,
    /// When the record was last used, as far as the store knows; at least when it was made.
    pub last_used: UnixMillis,
}

impl IdleTimeout {
    /// When the record ends if it is not used before.
    #[must_use]
    pub fn ends_at(&self) -> UnixMillis {
        self.last_used.plus(self.timeout)
    }
}

/// A password's hash in PHC string format. `Debug` shows nothing; wiped when dropped.
#[derive(Clone)]
pub struct PasswordHash(Arc<Zeroizing<String>>);

/// Longest hash: Argon2id with its parameters has about 100 characters.
const MAX_PASSWORD_HASH: usize = 512;

impl PasswordHash {
    /// Wraps a PHC string; `None` when the text cannot be one (it begins with `$`, is visible ASCII,
    /// and has at most 512 characters).
    #[must_use]
    pub fn parse(phc: &str) -> Option<Self> {
        let fits = phc.len() <= MAX_PASSWORD_HASH && phc.starts_with('$') && phc.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(Arc::new(Zeroizing::new(phc.to_owned()))))
    }

    /// The PHC string, for verification and for the store.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for PasswordHash {}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl CredentialRecord {
    /// The record that external tokens hang on, which name only a tenant. It is in force while the tenant is, holds
    /// no scope and narrows none.
    #[must_use]
    pub fn of_tenant(tenant: &TenantRecord) -> Self {
        let (surface, id) = (SurfaceName::of_valid(TENANT_SURFACE), CredentialId::of_valid(tenant.id.as_str()));
        Self {
            fingerprint: Fingerprint::of_tenant(&tenant.id),
            id,
            surface,
            tenant: tenant.id.clone(),
            subject: None,
            mode: None,
            scopes: ScopeSet::default(),
            state: CredentialState::Active,
            secret_fingerprint: None,
            prefix: String::new(),
            last4: String::new(),
            name: None,
            created_at: tenant.created_at,
            not_before: None,
            expires_at: None,
            valid_after: None,
            epoch: tenant.epoch,
            extras: None,
            pepper: None,
        }
    }

    /// Whether the record stands for a tenant.
    #[must_use]
    pub fn is_of_tenant(&self) -> bool {
        self.surface.as_str() == TENANT_SURFACE
    }

    /// Whether the record is that of an identity provider.
    #[must_use]
    pub fn is_provider(&self) -> bool {
        self.surface.as_str() == PROVIDER_SURFACE
    }

    /// Whether the record holds the settings of an identity provider.
    #[must_use]
    pub fn is_provider_settings(&self) -> bool {
        self.surface.as_str() == PROVIDER_SETTINGS_SURFACE
    }

    /// Whether the record is a session at an identity provider. Where the record that a session hangs on means the
    /// person, sign-ons are passed through ([`Facts::hangs_on`](super::Facts::hangs_on)).
    #[must_use]
    pub fn is_sign_on(&self) -> bool {
        self.surface.as_str() == SIGN_ON_SURFACE
    }

    /// Whether the record is the account of a person of an identity provider. Such a person is found by what the provider
    /// says, and not by a log-in name.
    #[must_use]
    pub fn is_person_of_provider(&self) -> bool {
        let hangs_on_provider = self.parent().is_some_and(|parent| parent.surface.as_str() == PROVIDER_SURFACE);
        hangs_on_provider && !self.is_provider_settings() && !self.is_sign_on()
    }

    /// Whether a pepper is needed to find the record or to derive its secret. None is needed for a record that only
    /// an id finds, and for the record of a tenant.
    #[must_use]
    pub fn needs_pepper(&self) -> bool {
        // The settings of a provider are found by the id of the provider.
        let by_id = self.fingerprint == Fingerprint::of_id(&self.surface, &self.id) || self.is_provider_settings();
        !self.is_of_tenant() && (!by_id || self.secret_fingerprint.is_some())
    }

    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        self.extras.as_ref()?.parent.as_ref()
    }

    #[must_use]
    pub fn roles(&self) -> &[RoleId] {
        self.extras.as_ref().map_or(&[], |extras| &extras.roles)
    }

    /// The claim of this name.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&super::ClaimValue> {
        self.extras.as_ref()?.claims.find(name)
    }

    /// Its claims, if it has any.
    #[must_use]
    pub fn claims(&self) -> Option<&RecordClaims> {
        self.extras.as_ref().map(|extras| &extras.claims)
    }

    /// The idle timeout, if the record has one.
    #[must_use]
    pub fn idle(&self) -> Option<&IdleTimeout> {
        self.extras.as_ref()?.idle.as_ref()
    }

    /// The log-in name of an account as it is shown.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.extras.as_ref()?.login.as_deref()
    }

    /// The settings of an identity provider, or what a sign-on keeps sealed, as JSON.
    #[must_use]
    pub fn settings(&self) -> Option<&Arc<str>> {
        self.extras.as_ref()?.settings.as_ref()
    }

    /// The description by its maker.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.extras.as_ref()?.description.as_deref()
    }

    /// The scopes that belong to the record whatever its parent may do; `None` if that was not stored.
    #[must_use]
    pub fn granted(&self) -> Option<&ScopeSet> {
        self.extras.as_ref()?.granted.as_ref()
    }

    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn password(&self) -> Option<&PasswordHash> {
        self.extras.as_ref()?.password.as_ref()
    }

    /// The extras, to change them. A record without extras gets empty ones.
    pub fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

/// Stored facts about one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct TenantRecord {
    /// The id of the tenant. It becomes `X-Tenant-Id`.
    pub id: TenantId,
    /// Inactive tenants' credentials are refused.
    pub active: bool,
    pub created_at: UnixMillis,
    /// Counts the changes of this record.
    pub epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k7_a_password_hash_is_never_shown() {
        let hash = PasswordHash::parse("$argon2id$v=19$canary").unwrap();
        let extras = Extras {
            password: Some(hash),
            ..Extras::default()
        };
        assert!(!format!("{extras:?}").contains("canary"));
        for bad in ["", "plain", "$a b", "$a\nb", &format!("${}", "x".repeat(512))] {
            assert!(PasswordHash::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_plain_record_has_no_extras() {
        assert_eq!(Extras::default().boxed(), None);
        let roles = vec![RoleId::of_name("admin")];
        assert!(
            Extras {
                roles,
                ..Extras::default()
            }
            .boxed()
            .is_some()
        );
    }

    #[test]
    fn a_tenant_stands_for_itself_under_a_fingerprint_of_its_own() {
        let tenant = TenantRecord {
            id: TenantId::parse("acme").unwrap(),
            active: false,
            created_at: UnixMillis(7),
            epoch: 3,
        };
        let record = CredentialRecord::of_tenant(&tenant);
        assert!(record.is_of_tenant());
        assert_eq!(record.id.as_str(), "acme");
        assert_eq!(record.fingerprint, Fingerprint::of_tenant(&tenant.id));
        assert_ne!(record.fingerprint, Fingerprint::of_id(&record.surface, &record.id));
    }
}
