//! Stored facts and the identity proven by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::{BootMillis, UnixMillis};
use super::ids::{CredentialId, Subject};
use super::scope::ScopeSet;

pub mod chain;
mod claims;
mod memo;
mod records;
mod roles;

pub use claims::{ClaimValue, MAX_CLAIMS, RecordClaims};
pub use memo::{IdentityLines, TokenMemo};
pub use records::{
    CredentialRecord, CredentialState, Extras, IdleTimeout, MAX_ANCESTORS, MAX_REFRESH_TOKEN_TEXT, MAX_SETTINGS, MAX_SIGN_ON_SECRETS,
    PROVIDER_SETTINGS_SURFACE, PROVIDER_SURFACE, Parent, PasswordHash, REFRESH_TOKEN_SURFACE, RESERVED_SURFACES, SIGN_ON_SURFACE,
    TENANT_SURFACE, TenantRecord,
};
pub use roles::{MAX_ROLES, RoleRecord, Roles};

/// The number of changes that the store has seen. A fact that was read at position p contains every change up to p.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// Bits of the store's own count: 10^12 changes, which is a thousand a second for 34 years. The 24 bits above it count
    /// generations: a new one begins whenever a process cannot prove that what it reads follows what it has read.
    pub const COUNT_BITS: u32 = 40;

    #[must_use]
    pub const fn generation(self) -> u64 {
        self.0 >> Self::COUNT_BITS
    }
}

/// What is known about a credential, and since when. Workers share it. The records never change; [`Reading`] moves on
/// when the same records are read again. The fields that every request needs come first, as in [`CredentialRecord`].
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Facts {
    pub reading: Reading,
    /// The records above the credential ([`chain`]), read in the same step: its parent first, at most [`MAX_ANCESTORS`].
    pub ancestors: Vec<CredentialRecord>,
    /// The credential's tenant, read in the same step.
    pub tenant: TenantRecord,
    /// The header lines and the text of access lines that were written from these facts.
    pub lines: IdentityLines,
    pub credential: CredentialRecord,
    /// The roles of the store that the credential or a record above it has, read in the same step.
    pub roles: Vec<RoleRecord>,
}

impl Facts {
    /// The time that the age of the facts counts from: when the last read that brought them was sent, or up to when
    /// the server that answered was known to be the primary, if that is earlier.
    #[must_use]
    pub fn sent_at(&self) -> BootMillis {
        BootMillis(self.reading.sent_at.load(Ordering::Acquire))
    }

    /// When the last read that brought these facts was sent, whichever server answered it. This time says nothing
    /// about age.
    #[must_use]
    pub fn read_at(&self) -> BootMillis {
        BootMillis(self.reading.read_at.load(Ordering::Acquire))
    }

    /// The position of the store when the facts were read.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.reading.position.load(Ordering::Acquire))
    }

    /// The generation in whose chain of events these facts are known to stand, at their very position; `None` if that is not
    /// known. Then only a read makes them younger: a server that was replaced may have counted changes that were lost.
    #[must_use]
    pub fn proven_in(&self) -> Option<u64> {
        // Before the position: a position that has moved on meanwhile differs.
        let proven = self.reading.proven.load(Ordering::Acquire).checked_sub(1).map(Position)?;
        (proven == self.position()).then_some(proven.generation())
    }

    /// Whether uses of the credential, or of a record above it, move its end. They are no changes, so no event tells of them.
    #[must_use]
    pub fn slides(&self) -> bool {
        let slides = |record: &CredentialRecord| record.idle().is_some();
        slides(&self.credential) || self.ancestors.iter().any(slides)
    }

    /// Makes the processor fetch all parts of these facts that a request needs, at the same time. With many callers
    /// nearly every cache line of them has been evicted since the caller's last request. Waiting for one line after
    /// the other would take several times as long.
    #[inline]
    pub fn fetch(&self) {
        let texts = self.lines.fetch();
        let records = (
            self.tenant.active,
            self.credential.expires_at.is_some(),
            self.credential.extras.is_some(),
        );
        std::hint::black_box((texts, records));
    }

    /// The record that the credential hangs on, with the records above it. For a session by sign-on this is the person:
    /// a sign-on stands for nobody and is passed through. With a linked account it is the account, and the link stands above it.
    #[must_use]
    pub fn hangs_on(&self) -> Option<(&CredentialRecord, &[CredentialRecord])> {
        let passed = self.ancestors.iter().take_while(|record| record.is_sign_on()).count();
        self.ancestors.get(passed..)?.split_first()
    }

    /// Whether both hold the same records, whenever they were read.
    #[must_use]
    pub fn has_records_of(&self, other: &Self) -> bool {
        self.credential == other.credential && self.tenant == other.tenant && self.ancestors == other.ancestors && self.roles == other.roles
    }
}

/// When facts were read, and the position of the store at that time.
///
/// All values only grow, and each is true by itself: "these records were in the store when a read of this time
/// reached it", "they contain every change up to this position". So a reader that sees one value before another never
/// takes facts for younger than they are.
#[derive(Debug)]
pub struct Reading {
    sent_at: AtomicU64,
    /// When the read was sent; never before `sent_at`.
    read_at: AtomicU64,
    position: AtomicU64,
    /// One more than the greatest position of a read that was proven to stand in the chain of events; zero without one.
    proven: AtomicU64,
}

impl Reading {
    /// A read that was sent at this time and answered with this position.
    #[must_use]
    pub const fn new(sent_at: BootMillis, position: Position) -> Self {
        Self::of_primary_at(sent_at, sent_at, position)
    }

    /// A read that was sent at `read_at` to a server that was known to be the primary up to `known_at`.
    #[must_use]
    pub const fn of_primary_at(known_at: BootMillis, read_at: BootMillis, position: Position) -> Self {
        let counts_from = if known_at.0 < read_at.0 { known_at } else { read_at };
        Self {
            sent_at: AtomicU64::new(counts_from.0),
            read_at: AtomicU64::new(read_at.0),
            position: AtomicU64::new(position.0),
            proven: AtomicU64::new(0),
        }
    }

    /// The same read, proven to stand in the chain of events at its position.
    #[must_use]
    pub fn with_proven_history(self) -> Self {
        Self {
            proven: AtomicU64::new(self.position.load(Ordering::Acquire).saturating_add(1)),
            ..self
        }
    }

    /// Notes that a later read brought the same records.
    pub fn confirm(&self, later: &Self) {
        self.read_at.fetch_max(later.read_at.load(Ordering::Acquire), Ordering::AcqRel);
        self.sent_at.fetch_max(later.sent_at.load(Ordering::Acquire), Ordering::AcqRel);
        self.position.fetch_max(later.position.load(Ordering::Acquire), Ordering::AcqRel);
        self.proven.fetch_max(later.proven.load(Ordering::Acquire), Ordering::AcqRel);
    }
}

impl Clone for Reading {
    fn clone(&self) -> Self {
        Self {
            sent_at: AtomicU64::new(self.sent_at.load(Ordering::Acquire)),
            read_at: AtomicU64::new(self.read_at.load(Ordering::Acquire)),
            position: AtomicU64::new(self.position.load(Ordering::Acquire)),
            proven: AtomicU64::new(self.proven.load(Ordering::Acquire)),
        }
    }
}

/// A proven identity on one surface.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The stored facts that the identity rests on.
    pub facts: Arc<Facts>,
    /// The claims of a signed token, on token surfaces. They are shared with what the worker remembers of the token.
    pub token: Option<Arc<TokenClaims>>,
    /// The scopes that the record may use now, once `authorize` has derived them; `None` if these are exactly the
    /// record's own scopes.
    pub record_scopes: Option<ScopeSet>,
    /// The scopes that the token claims and its record may use now, once `authorize` has compared them; `None` if the record
    /// may use all that the token claims.
    pub token_scopes: Option<ScopeSet>,
}

/// Identifies one verification key of a surface without revealing it: at least 96 bits of a one-way function of the
/// key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMark(pub [u8; 16]);

/// The place of an issuer among those of its surface; 0 on a surface that signs its own tokens. A key means something only together
/// with its issuer: issuers know each other's public keys, and may publish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerIndex(pub u32);

/// Claims of a verified token, reduced to what the gateway uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// `sub`.
    pub subject: Subject,
    /// The id of the record that the token hangs on, as its surface finds it: in `sub`, in `jti`, or the id of the
    /// tenant.
    pub record: CredentialId,
    /// The issuer that the token names.
    pub issuer: IssuerIndex,
    pub key: KeyMark,
    /// `exp` in Unix milliseconds.
    pub expires_at: UnixMillis,
    /// `iat` in Unix milliseconds, if present.
    pub issued_at: Option<UnixMillis>,
    /// `nbf` in Unix milliseconds, if present.
    pub not_before: Option<UnixMillis>,
    /// The scopes of the configured claim, which may be more than the record has; `None` if the surface takes the scopes
    /// of the record.
    pub scopes: Option<ScopeSet>,
    /// The values of the claims that become headers, in the order of the surface. Each is header-safe; lists are
    /// joined by spaces.
    pub headers: Vec<Option<Arc<str>>>,
    /// What follows from the token and is kept for its next request.
    pub memo: TokenMemo,
}

impl Principal {
    /// An identity that rests on these facts.
    #[must_use]
    pub const fn new(facts: Arc<Facts>, token: Option<Arc<TokenClaims>>) -> Self {
        Self {
            facts,
            token,
            record_scopes: None,
            token_scopes: None,
        }
    }

    #[must_use]
    pub fn scopes(&self) -> &ScopeSet {
        let claimed = || self.token.as_deref().and_then(|token| token.scopes.as_ref());
        self.token_scopes.as_ref().or_else(claimed).unwrap_or_else(|| self.record_scopes())
    }

    /// The scopes that the record may use now. A token may have fewer.
    #[must_use]
    pub fn record_scopes(&self) -> &ScopeSet {
        self.record_scopes.as_ref().unwrap_or(&self.facts.credential.scopes)
    }

    /// Who acts: the token's subject, or the record's.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.token
            .as_ref()
            .map_or(self.facts.credential.subject.as_ref(), |t| Some(&t.subject))
    }
}
