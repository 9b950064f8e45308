//! Stored facts and the identity proven by them.

use std::sync::{Arc, OnceLock};

use super::clock::{BootMillis, UnixMillis};
use super::fingerprint::Fingerprint;
use super::ids::{CredentialId, Subject, SurfaceName, TenantId};
use super::scope::{Mode, ScopeSet};

/// How many mutations the store has seen: a fact read at position p contains every change up to p.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// Whether a credential may be used at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In use.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRecord {
    /// Its own name.
    pub id: CredentialId,
    /// The surface it was made for.
    pub surface: SurfaceName,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who acts within the tenant, if the surface has subjects.
    pub subject: Option<Subject>,
    /// Test or live; none on surfaces without modes.
    pub mode: Option<Mode>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Active, disabled or revoked.
    pub state: State,
    /// Found by this (the key, or the publishable half).
    pub fingerprint: Fingerprint,
    /// Of a pair: what the secret half must hash to.
    pub secret_fingerprint: Option<Fingerprint>,
    /// The visible beginning, for lists.
    pub prefix: String,
    /// The last four characters, for lists.
    pub last4: String,
    /// The operator's or tenant's name for it.
    pub name: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Not before this.
    pub not_before: Option<UnixMillis>,
    /// Not at or after this.
    pub expires_at: Option<UnixMillis>,
    /// Tokens that hang on this record and were issued before this are dead ("log out everywhere").
    pub valid_after: Option<UnixMillis>,
    /// Counts the changes of this record; a higher epoch outranks a lower one.
    pub epoch: u64,
}

/// Stored facts about one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its name; becomes `X-Tenant-Id`.
    pub id: TenantId,
    /// Inactive tenants' credentials are refused.
    pub active: bool,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Counts the changes of this record.
    pub epoch: u64,
}

/// What is known about a credential, and since when. Immutable; shared between workers.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The credential.
    pub credential: CredentialRecord,
    /// Its tenant, read in the same step.
    pub tenant: TenantRecord,
    /// When the read that brought this was *sent* to the store; age counts from here.
    pub sent_at: BootMillis,
    /// The store's position when it was read.
    pub position: Position,
    /// The header lines these facts become, once they have been written.
    pub lines: IdentityLines,
}

/// Header lines written once from facts that do not change, for one set of rules about headers. The
/// first set keeps the place: after a reload lines are written anew until the facts are read anew.
#[derive(Debug, Clone, Default)]
pub struct IdentityLines(OnceLock<(u64, Box<[u8]>)>);

impl IdentityLines {
    /// The lines, if these rules wrote them.
    #[must_use]
    pub fn written_by(&self, rules: u64) -> Option<&[u8]> {
        self.0.get().filter(|(by, _)| *by == rules).map(|(_, lines)| &**lines)
    }

    /// Keeps what these rules wrote, unless other lines are kept already.
    pub fn keep(&self, rules: u64, lines: &[u8]) {
        // Whoever is second wrote the same.
        let _ = self.0.set((rules, lines.into()));
    }
}

/// A proven identity on one surface.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The stored facts it rests on.
    pub facts: Arc<Facts>,
    /// What a signed token added, on token surfaces.
    pub token: Option<TokenClaims>,
}

/// Claims of a verified token, reduced to what the gateway uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// `sub`: on session surfaces the id of the record the session hangs on.
    pub subject: Subject,
    /// `exp` in Unix milliseconds.
    pub expires_at: UnixMillis,
    /// `iat` in Unix milliseconds, if present.
    pub issued_at: Option<UnixMillis>,
    /// Scopes from the configured claim, already narrowed to what the record holds; `None` when
    /// the surface takes scopes from the record.
    pub scopes: Option<ScopeSet>,
    /// Values of the claims that become headers, in the order the surface lists them. Each is
    /// header-safe; lists are joined by spaces.
    pub headers: Vec<Option<Arc<str>>>,
}

impl Principal {
    /// The scopes that count.
    #[must_use]
    pub fn scopes(&self) -> &ScopeSet {
        match &self.token {
            Some(TokenClaims { scopes: Some(scopes), .. }) => scopes,
            _ => &self.facts.credential.scopes,
        }
    }

    /// Who acts: the token's subject, or the record's.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.token
            .as_ref()
            .map_or(self.facts.credential.subject.as_ref(), |t| Some(&t.subject))
    }
}
