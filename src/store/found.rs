//! What look-ups ask for and bring.

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{CredentialRecord, Position, RoleRecord, TenantRecord};

/// What a look-up found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The store's position at the time of the read: every change up to it is contained.
    pub position: Position,
    /// The credential and what its force depends on, read in one step; `None` = certainly absent.
    pub facts: Option<FoundFacts>,
    /// Up to when the server that answered was known to be the primary, where somebody else decides that:
    /// what was found counts from then if the question was sent later. `None`: from the question.
    pub primary_at: Option<BootMillis>,
}

/// A question that was answered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// Of what.
    pub fingerprint: Fingerprint,
    /// The position of what is known of it; `None`: it must be read, whatever the position.
    pub known: Option<Position>,
}

impl Again {
    /// Of what memory does not hold.
    #[must_use]
    pub const fn whole(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, known: None }
    }
}

/// The answer to a question that was answered before.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "it is moved twice; a box would be made and dropped as often")]
pub enum FoundAgain {
    /// The store's position is the one that was known: not one change of anything has been made since.
    Unchanged(Position),
    /// As it was read anew.
    Read(Found),
}

/// A credential and what its force depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFacts {
    /// The credential.
    pub credential: CredentialRecord,
    /// Its tenant.
    pub tenant: TenantRecord,
    /// What it hangs on: its parent first, every one up to the record that hangs on none.
    pub ancestors: Vec<CredentialRecord>,
    /// Those roles that it or what it hangs on names and the store has, of its tenant only, each once; the
    /// others are the configuration's or were deleted.
    pub roles: Vec<RoleRecord>,
}
