//! Stored facts and the identity proven by them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::clock::{BootMillis, UnixMillis};
use super::ids::{CredentialId, Subject};
use super::scope::ScopeSet;

mod claims;
mod records;
mod roles;

pub use claims::{ClaimValue, RecordClaims};
pub use records::{
    CredentialRecord, CredentialState, Extras, IdleTimeout, MAX_ANCESTORS, Parent, PasswordHash, TENANT_SURFACE, TenantRecord,
};
pub use roles::{MAX_ROLES, RoleRecord, Roles};

/// How many mutations the store has seen: a fact read at position p contains every change up to p.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// What is known about a credential, and since when. Shared between workers. The records never change;
/// [`Reading`] moves on when they are read again and found to be the same.
/// What every request asks for comes first, as in [`CredentialRecord`].
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Facts {
    pub reading: Reading,
    /// What the credential hangs on, read in the same step: its parent first, at most [`MAX_ANCESTORS`].
    pub ancestors: Vec<CredentialRecord>,
    /// The credential's tenant, read in the same step.
    pub tenant: TenantRecord,
    /// What these facts become in headers and in access lines, once it has been written.
    pub lines: IdentityLines,
    pub credential: CredentialRecord,
    /// Those of its roles, and of the roles of what it hangs on, that are in the store, read in the same step.
    pub roles: Vec<RoleRecord>,
}

impl Facts {
    /// Age counts from here: when the last read that brought this was *sent* to the store, or up to when the
    /// server that answered was known to be the primary, if that is earlier.
    #[must_use]
    pub fn sent_at(&self) -> BootMillis {
        BootMillis(self.reading.sent_at.load(Ordering::Acquire))
    }

    /// When the last read that brought this was sent, whoever answered it. Says nothing about age.
    #[must_use]
    pub fn read_at(&self) -> BootMillis {
        BootMillis(self.reading.read_at.load(Ordering::Acquire))
    }

    /// The store's position when it was read.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.reading.position.load(Ordering::Acquire))
    }

    /// Has the processor fetch what a request is going to ask of these facts, all at once. With many callers
    /// nearly every line of memory here has left its caches since the caller's last request, and to wait for
    /// one when the one before has come takes as many times as long.
    #[inline]
    pub fn fetch(&self) {
        let lines = &self.lines;
        let texts = (
            lines.kept.get().map_or(0, |(_, lines)| lines.fetch()),
            lines.logged.get().map_or(0, Beside::fetch),
        );
        let records = (
            self.tenant.active,
            self.credential.expires_at.is_some(),
            self.credential.extras.is_some(),
        );
        std::hint::black_box((texts, records));
    }

    /// Whether the same records were read, whenever that was.
    #[must_use]
    pub fn has_records_of(&self, other: &Self) -> bool {
        self.credential == other.credential && self.tenant == other.tenant && self.ancestors == other.ancestors && self.roles == other.roles
    }
}

/// When facts were read, and how much the store had seen by then.
///
/// All only grow, and each is true by itself whatever the others say: "these records were what the store
/// held when a read of this time reached it", "they contain every change up to here". So nobody who sees
/// one of them before the other takes facts for younger than they are.
#[derive(Debug)]
pub struct Reading {
    sent_at: AtomicU64,
    /// When the read was sent; never earlier than `sent_at`.
    read_at: AtomicU64,
    position: AtomicU64,
}

impl Reading {
    /// A read that was sent at this time, and answered with this position.
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
        }
    }

    /// A later read brought the same records.
    pub fn confirm(&self, later: &Self) {
        self.read_at.fetch_max(later.read_at.load(Ordering::Acquire), Ordering::AcqRel);
        self.sent_at.fetch_max(later.sent_at.load(Ordering::Acquire), Ordering::AcqRel);
        self.position.fetch_max(later.position.load(Ordering::Acquire), Ordering::AcqRel);
    }
}

impl Clone for Reading {
    fn clone(&self) -> Self {
        Self {
            sent_at: AtomicU64::new(self.sent_at.load(Ordering::Acquire)),
            read_at: AtomicU64::new(self.read_at.load(Ordering::Acquire)),
            position: AtomicU64::new(self.position.load(Ordering::Acquire)),
        }
    }
}

/// Header lines written once from facts that do not change, for one set of rules about headers. The
/// first set keeps the place: after a reload lines are written anew until the facts are read anew, which
/// then take the place of these. What access lines say of the caller is kept beside them.
#[derive(Debug, Default)]
#[repr(C)]
pub struct IdentityLines {
    kept: OnceLock<(u64, Beside<LINES>)>,
    logged: OnceLock<Beside<LOGGED>>,
    outdated: AtomicBool,
}

/// Bytes of header lines that stand in the facts themselves: tenant, scopes, surface, mode and id of usual length.
const LINES: usize = 222;

/// Bytes of an access line that do, for the same reason.
const LOGGED: usize = 118;

/// A text beside what it was written from, in the same lines of memory; elsewhere only if it is long.
#[derive(Debug, Clone)]
struct Beside<const N: usize> {
    len: u16,
    short: [u8; N],
    long: Box<[u8]>,
}

impl<const N: usize> Beside<N> {
    fn new(text: &[u8]) -> Self {
        let mut short = [0; N];
        let (len, long) = match (short.get_mut(..text.len()), u16::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text);
                (len, Box::default())
            }
            _ => (0, text.into()),
        };
        Self { len, short, long }
    }

    fn text(&self) -> &[u8] {
        match self.len {
            0 => &self.long,
            len => self.short.get(..usize::from(len)).unwrap_or_default(),
        }
    }

    /// Reads a byte of each line of memory.
    fn fetch(&self) -> u8 {
        self.text().iter().step_by(64).fold(0, |sum, byte| sum ^ byte)
    }
}

impl IdentityLines {
    /// The lines, if these rules wrote them.
    #[must_use]
    pub fn written_by(&self, rules: u64) -> Option<&[u8]> {
        let (by, lines) = self.kept.get()?;
        if *by == rules {
            return Some(lines.text());
        }
        self.outdated.store(true, Ordering::Relaxed);
        None
    }

    /// Keeps what these rules wrote, unless other lines are kept already.
    pub fn keep(&self, rules: u64, lines: &[u8]) {
        // Whoever is second wrote the same.
        let _ = self.kept.set((rules, Beside::new(lines)));
    }

    /// What access lines say of the caller, which `write` writes the first time.
    pub fn logged(&self, write: impl FnOnce() -> Vec<u8>) -> &[u8] {
        self.logged.get_or_init(|| Beside::new(&write())).text()
    }

    /// Whether they were asked for by other rules than those that wrote them.
    #[must_use]
    pub fn are_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }
}

impl Clone for IdentityLines {
    fn clone(&self) -> Self {
        Self {
            kept: self.kept.clone(),
            logged: self.logged.clone(),
            outdated: AtomicBool::new(self.are_outdated()),
        }
    }
}

/// A proven identity on one surface.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The stored facts it rests on.
    pub facts: Arc<Facts>,
    /// What a signed token added, on token surfaces. Boxed: an identity is handed on many times for each
    /// request, and most have none.
    pub token: Option<Box<TokenClaims>>,
    /// What the record may do now, once `authorize` has worked it out; `None` where that is exactly its own
    /// scopes.
    pub record_scopes: Option<ScopeSet>,
}

/// Tells one verification key of a surface from its others, without being the key: 96 bits or more of a
/// one-way function of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMark(pub [u8; 16]);

/// Claims of a verified token, reduced to what the gateway uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// `sub`.
    pub subject: Subject,
    /// The id of the record the token hangs on, as its surface finds it: in `sub`, in `jti`, or the
    /// tenant's id.
    pub record: CredentialId,
    pub key: KeyMark,
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
    /// An identity that rests on these facts.
    #[must_use]
    pub const fn new(facts: Arc<Facts>, token: Option<Box<TokenClaims>>) -> Self {
        Self {
            facts,
            token,
            record_scopes: None,
        }
    }

    #[must_use]
    pub fn scopes(&self) -> &ScopeSet {
        match self.token.as_deref() {
            Some(TokenClaims { scopes: Some(scopes), .. }) => scopes,
            _ => self.record_scopes(),
        }
    }

    /// What the record may do now, whatever the token says; a token may do less.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_whole_wherever_they_stand() {
        for length in [0, 1, LOGGED, LOGGED + 1, LINES, LINES + 1, 5_000, 70_000] {
            let text: Vec<u8> = (0_u8..=u8::MAX).cycle().take(length).collect();
            let lines = IdentityLines::default();
            lines.keep(7, &text);
            assert_eq!(lines.written_by(7), Some(&*text));
            assert_eq!(lines.logged(|| text.clone()), text);
            assert_eq!(lines.clone().written_by(7), Some(&*text));
        }
    }
}
