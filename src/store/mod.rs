//! The credential store: its contract, and the implementations behind it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{BootMillis, UnixMillis};
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
mod lookup;
mod peppers;
pub mod receipts;
pub mod redis;
mod rests_on;
pub mod sweep;
mod watch;

pub use concerns::Writes;
pub use contract::{CredentialStore, FactStore, ReceiptStore, RecordStore};
pub use events::StoreStatus;
pub use filter::{CredentialFilter, CredentialPage, IdFilter};
pub use lookup::{LookupQuery, LookupReply, RefreshReply, StoredFacts};
pub use peppers::{ListedPepper, PepperList, UnderPepper, find_any, pepper_of};
pub use receipts::{Announcement, DepartedGateway, EventPage, HistoryPoint, LoggedEvent, PublishedCheckpoint, Receipt, Receipts};
pub use rests_on::RestsOn;

/// A boxed future; stores are never on the hot path.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a store did not answer. A failure is never an absence: it is not remembered, and callers get no 401 for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, too slow, overloaded or not ready.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// An answer that cannot be trusted: a record that does not decode, has another fingerprint, or has no tenant.
    #[error("the store holds a corrupt record: {0}")]
    Corrupt(String),
    /// The store was written with another pepper, or by a newer version.
    #[error("the store does not belong to this gateway: {0}")]
    Foreign(String),
}

/// Why a change was not acknowledged, and what is known about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The store did not answer. It is not known whether the change was made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed before anything was written. Nothing was changed.
    #[error("nothing was changed: {0}")]
    NotMade(StoreError),
    /// The change was made and its event was written. It is not known whether both survive a failure of the store's machine.
    #[error("the change was made, but may be lost if the store fails over now: {0}; repeat it until it is confirmed")]
    Unconfirmed(String),
    /// There is no such credential, tenant or role.
    #[error("there is no {0}")]
    NotFound(String),
    /// An id, a key or a log-in name exists already.
    #[error("{0}")]
    Taken(String),
    /// The state of the record or a rule forbids the change: a revoked credential stays revoked.
    #[error("{0}")]
    Conflict(String),
    /// Records that the change rests on have changed since they were judged ([`NewRecords::rests_on`]). Nothing was changed.
    #[error("what this rests on has changed meanwhile")]
    Stale,
    /// A limit of the number of records is reached ([`NewRecords::limits`]). Nothing was changed.
    #[error("{0}")]
    Full(String),
}

/// Records to be made and changes of others, all of them or none.
#[derive(Debug, Clone, Default)]
pub struct NewRecords {
    /// A tenant to be made, active, before its credentials.
    pub tenant: Option<TenantId>,
    /// Credentials to be made, in order, all of one tenant; one may hang on an earlier one.
    pub credentials: Vec<CredentialRecord>,
    /// Changes of credentials that exist, of the same tenant, in order. One credential may be changed more than once.
    pub changes: Vec<(CredentialId, CredentialChange)>,
    /// The records that this rests on. Without new records and changes, they are only compared.
    pub rests_on: RestsOn,
    /// Limits of the number of records; none for operators.
    pub limits: Option<RecordLimits>,
}

/// How many credentials there may be, including those that have ended and are not forgotten yet. Callers with a key make
/// records, and their number must not grow without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Of those that hang directly on one record.
    pub children: u64,
    /// Of one tenant.
    pub credentials: u64,
}

/// Most credentials of one call. A served route makes two or three.
pub const MAX_NEW: usize = 8;

/// Most roles of the store that one tenant may have.
pub const MAX_TENANT_ROLES: usize = 200;

/// Most last uses written in one step.
pub const MAX_TOUCHED: usize = 500;

/// Most marks of things that may be used once ([`RecordStore::take_once`]): those of 290 log-ins in a second, for ten minutes and the
/// grace. They are about 80 MiB in Redis.
pub const MAX_MARKS: u64 = 262_144;

/// How much of the room for marks a mark may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkRoom {
    /// Three quarters: for what anybody can make the gateway mark without being anybody, such as a log-in that was begun. Who uses it up
    /// stops no logout token and no assertion.
    Unproven,
    /// All of it: for what an identity provider has signed.
    Proven,
}

impl MarkRoom {
    /// With so many marks in all, no further one is taken.
    #[must_use]
    pub const fn most(self) -> u64 {
        match self {
            Self::Unproven => MAX_MARKS / 4 * 3,
            Self::Proven => MAX_MARKS,
        }
    }
}

/// Longest time for which a mark is kept, but for the grace.
pub const MAX_MARK_AGE: Duration = Duration::from_secs(24 * 3_600);

/// How much longer than asked for a mark is kept. As far may the clock of a gateway be behind that of the store without letting
/// a mark end while the gateway still takes what it marks.
pub const MARK_GRACE: Duration = Duration::from_secs(300);

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
    /// Ends it at this time, for the grace time of a rotation; never later than an expiry that it has already.
    ExpireAt(UnixMillis),
    /// Ends everything that hangs on it and was issued before this time; never earlier than a time that is set already.
    ValidAfter(UnixMillis),
    /// Ends everything that hangs on it and was made before the step of this change, by the store's time.
    EndIssued,
    SetRoles(Vec<RoleId>),
    /// Replaces the scopes of an identity provider, of a person who signs on through one, or of a session by sign-on. The scopes of
    /// other records stay what they were made with.
    SetScopes(ScopeSet),
    SetPassword(PasswordHash),
    /// Replaces the settings of an identity provider, or the refresh token of a sign-on, on the record that holds them.
    SetSettings(Arc<str>),
    /// Replaces the name of an identity provider, which people see when they choose one. Other records keep their names.
    SetName(String),
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

/// A change, as the event stream delivers it.
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
    /// A credential was made or changed. Absences of its fingerprints end, too.
    Credential {
        id: CredentialId,
        /// The fingerprints that find it: that of the key, and that of the id ([`Fingerprint::of_id`]).
        fingerprints: Vec<Fingerprint>,
    },
    /// A tenant was made or changed. An absence of its own fingerprint ends, too.
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

/// A receiver of events, such as the cache. Calls are short and never block.
pub trait EventSink: Send + Sync + 'static {
    fn apply(&self, event: &Event);

    /// Events may have been missed: nothing that was read before `position` may be used.
    fn forget_before(&self, position: Position);

    /// At this moment the store stood at this position, and every event up to it has been applied: whatever was read on the
    /// chain of events of the position's generation, and is not contradicted by an event, is what a read of that moment would
    /// have brought. Not called by stores that answer each read with their position.
    fn revalidate(&self, position: Position, at: BootMillis) {
        let _ = (position, at);
    }
}

/// The message for an operator who starts a gateway with another pepper than that of its store.
fn other_pepper() -> String {
    "it was written under another pepper, so no credential would be found; \
     give the gateway the pepper file this store was made with, or an empty store"
        .into()
}
