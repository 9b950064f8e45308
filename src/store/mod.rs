//! The credential store: its contract, and the implementations behind it.

use std::future::Future;
use std::pin::Pin;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, PasswordHash, Position};
use crate::base::scope::ScopeSet;

pub mod activity;
pub mod announce;
pub mod cached;
mod change;
pub mod codec;
pub mod concerns;
mod contract;
pub mod embedded;
pub mod events;
mod filter;
mod found;
mod peppers;
pub mod receipts;
pub mod redis;
mod rests_on;
mod status;
pub mod sweep;
mod watch;

pub use contract::{CredentialStore, FactStore, ReceiptStore, RecordStore};
pub use filter::{CredentialFilter, CredentialPage, Ids, MAX_READ};
pub use found::{Again, Found, FoundAgain, FoundFacts};
pub use peppers::{Listed, PepperList, UnderPepper, find_any, pepper_of};
pub use receipts::{Announcement, DepartedGateway, EventPage, HistoryPoint, LoggedEvent, Receipt, Receipts};
pub use rests_on::RestsOn;
pub use status::{StoreStatus, Writes};

/// A boxed future; stores are never on the hot path.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a store did not answer. Never an absence, never remembered, never a 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, too slow, overloaded or not ready.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// An answer that cannot be trusted: undecodable, of another fingerprint, without its tenant.
    #[error("the store holds a corrupt record: {0}")]
    Corrupt(String),
    /// The store was written with another pepper, or by a newer version.
    #[error("the store does not belong to this gateway: {0}")]
    Foreign(String),
}

/// Why a change was not acknowledged. Each says what is known about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The store did not answer: whether the change was made is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed before anything was written: nothing was changed.
    #[error("nothing was changed: {0}")]
    NotMade(StoreError),
    /// The change was made and its event written, but whether it outlives a failure of the store's
    /// machine is not known.
    #[error("the change was made, but may be lost if the store fails over now: {0}; repeat it until it is confirmed")]
    Unconfirmed(String),
    /// There is no such credential, tenant or role.
    #[error("there is no {0}")]
    NotFound(String),
    /// An id, a key or a log-in name exists already.
    #[error("{0}")]
    Taken(String),
    /// A state forbids the change (a revoked credential stays revoked), or a rule does.
    #[error("{0}")]
    Conflict(String),
    /// What the change rests on is not as it was judged any more ([`NewRecords::rests_on`]): nothing was changed.
    #[error("what this rests on has changed meanwhile")]
    Stale,
    /// A bound on how much may be made is reached ([`NewRecords::limits`]): nothing was changed.
    #[error("{0}")]
    Full(String),
}

/// Records to be made, and others to be changed, together or not at all.
#[derive(Debug, Clone, Default)]
pub struct NewRecords {
    /// A tenant to be made, active, before the credentials.
    pub tenant: Option<TenantId>,
    /// Credentials to be made, in order, all of one tenant; one may hang on an earlier one.
    pub credentials: Vec<CredentialRecord>,
    /// Changes of credentials that are there already, of the same tenant, in order; one credential may
    /// be changed more than once.
    pub changes: Vec<(CredentialId, CredentialChange)>,
    /// What all of this rests on; with nothing to be made or changed, it is only compared.
    pub rests_on: RestsOn,
    /// How much there may be; none for an operator's own making.
    pub limits: Option<RecordLimits>,
}

/// How many credentials there may be, those that have ended and are not forgotten yet included: what is made by
/// whoever holds a key must not grow without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// That hang directly on one record.
    pub children: u64,
    /// Of one tenant.
    pub credentials: u64,
}

/// Most credentials of one creation: an issuer makes two or three.
pub const MAX_NEW: usize = 8;

/// Most roles of the store that one tenant may have.
pub const MAX_TENANT_ROLES: usize = 200;

/// Most last uses written in one step.
pub const MAX_TOUCHED: usize = 500;

/// Most credentials forgotten in one step.
pub const MAX_FORGOTTEN: usize = 100;

/// A change of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialChange {
    /// Until it is enabled again.
    Disable,
    Enable,
    /// Final: no later change brings it back.
    Revoke,
    /// Let it end at this time (rotation's grace); never later than an expiry it already has.
    ExpireAt(UnixMillis),
    /// End everything that hangs on it and was issued before this; never earlier than it is already.
    ValidAfter(UnixMillis),
    /// End everything that hangs on it and was made before the step of this change, by the store's time.
    EndIssued,
    SetRoles(Vec<RoleId>),
    SetPassword(PasswordHash),
}

/// A change of a role of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// Replace what its holders may do.
    SetScopes(ScopeSet),
    /// Another name, and another description.
    Rename {
        name: String,
        /// The new description, or none.
        description: Option<String>,
    },
}

/// What changed, as the event stream tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The store's position after this change.
    pub position: Position,
    /// When the change was made, by the store's clock; `None` when the store does not know.
    pub at: Option<UnixMillis>,
    pub subject: EventSubject,
}

/// The subject of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSubject {
    /// A credential was made or changed; absences of its fingerprints end too.
    Credential {
        id: CredentialId,
        /// What it is found by (the key's fingerprint and its id's, [`Fingerprint::of_id`]).
        fingerprints: Vec<Fingerprint>,
    },
    /// A tenant was made or changed; an absence of its own fingerprint ends too.
    Tenant { id: TenantId },
    /// A role was made, changed or deleted.
    Role { id: RoleId },
}

/// Most records of one list, so that an answer stays below 16 MiB.
pub const MAX_LIST: usize = 1_000;

/// Whether a tenant's credentials are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    Active,
    Inactive,
}

/// Who wants to hear of events (the cache). Calls are short and never block.
pub trait EventSink: Send + Sync + 'static {
    fn apply(&self, event: &Event);

    /// Events may have been missed; nothing read before `position` may be used.
    fn forget_before(&self, position: Position);
}

/// What an operator is told whose pepper is not the one a store was written under.
fn other_pepper() -> String {
    "it was written under another pepper, so no credential would be found; \
     give the gateway the pepper file this store was made with, or an empty store"
        .into()
}
