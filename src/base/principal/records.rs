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

/// Records that one may hang on, one behind the other: a session on an access token on a key is
/// two; one more leaves room. All of them are read with every look-up.
pub const MAX_ANCESTORS: usize = 3;

/// The surface of the records that stand for tenants themselves ([`CredentialRecord::of_tenant`]).
/// No configured surface may have this name.
pub const TENANT_SURFACE: &str = "tenant";

/// Whether a credential may be used at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialState {
    Active,
    /// Switched off by an operator; may be switched on again.
    Disabled,
    /// Ended for ever. The record stays as its own tombstone.
    Revoked {
        /// When the store acknowledged it.
        at: UnixMillis,
    },
}

/// Stored facts about one credential. Never a decision; holds no secret.
///
/// In the order in which they are here, so that what every request asks for is together in memory: with many
/// callers each line of memory that a request touches has to be fetched.
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
    /// What it was given; its roles add to this, and what it hangs on bounds it
    /// (`decide::scope_grants`).
    pub scopes: ScopeSet,
    /// What few records have; none on a plain key. [`Extras::boxed`] makes it.
    pub extras: Option<Box<Extras>>,
    /// Test or live; none on surfaces without modes.
    pub mode: Option<Mode>,
    /// Of a pair: what the secret half must hash to.
    pub secret_fingerprint: Option<Fingerprint>,
    /// Found by this (the key, the publishable half, or an account's log-in name).
    pub fingerprint: Fingerprint,
    /// Tokens that hang on this record and were issued before this, and records that hang on it and
    /// were made before this, are dead ("log out everywhere").
    pub valid_after: Option<UnixMillis>,
    pub id: CredentialId,
    /// Who acts within the tenant, if the surface has subjects.
    pub subject: Option<Subject>,
    /// The visible beginning, for lists.
    pub prefix: String,
    /// The last four characters, for lists.
    pub last4: String,
    /// The operator's or tenant's name for it.
    pub name: Option<String>,
    pub created_at: UnixMillis,
    /// Counts the changes of this record; a higher epoch outranks a lower one.
    pub epoch: u64,
    /// The pepper its fingerprints were made under, as the store noted it; `None` when none was needed,
    /// or when it was made before this was noted. Last: no request asks for it.
    pub pepper: Option<PepperMark>,
}

/// What only some records have, kept apart so that a plain key's record stays small.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// The record this one hangs on: when that ends, this one ends.
    pub parent: Option<Parent>,
    /// Roles, of the configuration or of the store; at most [`MAX_ROLES`](super::MAX_ROLES).
    pub roles: Vec<RoleId>,
    /// Values that become headers, claims of tokens and parts of answers.
    pub claims: RecordClaims,
    /// How long it lives unused; `expires_at` is then the absolute limit.
    pub idle: Option<IdleTimeout>,
    /// An account's log-in name as it is shown. The fingerprint is of its normal form; it is never
    /// the identity.
    pub login: Option<String>,
    pub password: Option<PasswordHash>,
    /// Of a record with a parent: those of its scopes that the route which made it gave by `grants`. They
    /// are its own; the others go only as far as its parent's. `None` on records made before this was kept
    /// apart.
    pub granted: Option<ScopeSet>,
    /// What it is for, in its maker's words; never a header.
    pub description: Option<String>,
}

impl Extras {
    /// As a record holds it: nothing for nothing.
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

/// The end of a record that is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleTimeout {
    /// It dies when it was not used for so long.
    pub timeout: Duration,
    /// When it was last used, as far as the store knows; at least when it was made.
    pub last_used: UnixMillis,
}

impl IdleTimeout {
    /// When it dies if it is not used before.
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
    /// The record that external tokens hang on, which name a tenant and nothing else: it is in force
    /// while the tenant is, holds no scope and narrows none.
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

    /// Whether it stands for a tenant itself.
    #[must_use]
    pub fn is_of_tenant(&self) -> bool {
        self.surface.as_str() == TENANT_SURFACE
    }

    /// Whether a pepper is needed to find it or to derive its secret: not when it is found by its id alone, or is a
    /// tenant's.
    #[must_use]
    pub fn needs_pepper(&self) -> bool {
        let by_id = self.fingerprint == Fingerprint::of_id(&self.surface, &self.id);
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

    /// How it ends when it is not used.
    #[must_use]
    pub fn idle(&self) -> Option<&IdleTimeout> {
        self.extras.as_ref()?.idle.as_ref()
    }

    /// An account's log-in name as it is shown.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.extras.as_ref()?.login.as_deref()
    }

    /// What it is for, in its maker's words.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.extras.as_ref()?.description.as_deref()
    }

    /// Those of its scopes that it holds whatever its parent does; `None` when that was not kept.
    #[must_use]
    pub fn granted(&self) -> Option<&ScopeSet> {
        self.extras.as_ref()?.granted.as_ref()
    }

    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn password(&self) -> Option<&PasswordHash> {
        self.extras.as_ref()?.password.as_ref()
    }

    /// Its extras, to be changed; empty ones if it has none.
    pub fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

/// Stored facts about one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct TenantRecord {
    /// Its name; becomes `X-Tenant-Id`.
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
