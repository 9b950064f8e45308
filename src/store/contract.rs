//! What a credential store promises, in three parts: facts for requests, records for changes and lists, receipts of
//! gateways.
//!
//! Whoever needs one part takes that part. An engine has all three ([`CredentialStore`]).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, GatewayId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, Position, RoleRecord, TenantRecord};

use super::{
    Again, Announcement, BoxFuture, ChangeError, CredentialChange, CredentialFilter, CredentialPage, EventPage, EventSink, Found,
    FoundAgain, MAX_LIST, NewRecords, PepperList, Receipts, RoleChange, StoreError, StoreStatus, TenantState, Writes, change, concerns,
    events, peppers, receipts,
};

/// An engine: it has all three parts, and every type that has them is one. This text is a security contract:
///
/// - `find` answers `Ok` with `facts: None` only when the credential is *certainly* absent. Whatever
///   is not known for certain (no answer, half an answer, a record that does not decode, a record
///   whose fingerprint is not the one asked for, a credential without its tenant or its parent, a
///   store that may have lost its data) is an `Err`, and is not remembered by anyone.
/// - `find` reads from the primary, credential, tenant, ancestors and roles in one atomic step, and
///   tells the position of that step.
/// - `create` notes on each record the pepper that its fingerprints were made under.
/// - `create` makes all of its records with their events in one atomic step, or nothing. A record
///   hangs only on one of its own tenant that is not revoked at that step.
/// - A change that is acknowledged is durable, visible to every later `find`, and its event has been
///   written in the same atomic step. Positions grow by one with each change.
/// - A revoked credential never becomes anything else; its record stays as its tombstone, at least
///   until it would have ended by itself.
/// - Every method ends within the configured deadline. Dropping a future is safe at any point: a
///   change may or may not have been made, a read leaves nothing behind, and no later caller can
///   receive the reply meant for the dropped one.
/// - Of two gateways' clocks neither decides an order: what is made carries the store's [`time`](RecordStore::time),
///   which never goes back, and [`CredentialChange::EndIssued`] ends exactly what was made before its step.
/// - What rests on records that have changed is not made ([`NewRecords::rests_on`]); they are compared in the
///   step of the write.
/// - No method receives a secret: fingerprints only.
pub trait CredentialStore: FactStore + RecordStore + ReceiptStore {}

impl<S: FactStore + RecordStore + ReceiptStore> CredentialStore for S {}

/// What the request path needs: look-ups, events, and the state of the store. The contract is that of
/// [`CredentialStore`].
pub trait FactStore: Send + Sync + 'static {
    /// Looks a credential up by any of its fingerprints (key, or id), or a tenant by its own
    /// ([`Fingerprint::of_tenant`]), which answers [`CredentialRecord::of_tenant`].
    fn find(&self, fingerprint: Fingerprint) -> BoxFuture<'_, Result<Found, StoreError>>;

    /// Reads several again, each as [`find`](Self::find) does, in about the time of one. Answers in the
    /// order of the question.
    ///
    /// A store whose positions count every change, in one history that cannot be left, may say of those
    /// whose position is known that nothing has changed. One that says nothing else reads.
    fn find_again(&self, asked: Vec<Again>) -> BoxFuture<'_, Vec<Result<FoundAgain, StoreError>>> {
        let reads = asked
            .into_iter()
            .map(|again| async move { self.find(again.fingerprint).await.map(FoundAgain::Read) });
        Box::pin(join_all(reads))
    }

    /// Notes that these are in use, for gateways that start. The list is only a hint: it says what to read ahead, and
    /// everything else is read when somebody asks for it.
    ///
    /// The default keeps no list.
    fn note_busy(&self, busy: Vec<Fingerprint>) -> BoxFuture<'_, Result<(), StoreError>> {
        drop(busy);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Those that gateways noted lately ([`note_busy`](Self::note_busy)), at most `most`, the latest first.
    fn busy(&self, most: usize) -> BoxFuture<'_, Result<Vec<Fingerprint>, StoreError>> {
        let _ = most;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Delivers every event from now on to `sink`, in order, until the store is dropped. After a gap
    /// that cannot be closed the sink is told to forget everything.
    fn subscribe(&self, sink: Arc<dyn EventSink>);

    /// Whether the store said lately that it was written under a pepper that this gateway does not have.
    fn lacks_pepper(&self) -> bool {
        false
    }

    /// Why this gateway may admit nobody by what it reads, unless it may: look-ups of a store that others
    /// share succeed only for a gateway that is registered.
    fn unregistered(&self) -> Option<String> {
        None
    }

    /// Whether the store answers, within `deadline`.
    fn probe(&self, deadline: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How well events reach this process, for metrics and readiness. A store in this process hears
    /// of everything by itself, which is what this says unless a store knows better.
    fn status(&self) -> StoreStatus {
        StoreStatus {
            reader: events::ReaderState::Live,
            applied: Position::default(),
            heard_at: BootMillis::default(),
        }
    }

    /// What an operator should change about the store, as it was seen last; none for a store in this
    /// process.
    fn concerns(&self) -> Vec<concerns::Concern> {
        Vec::new()
    }

    /// Whether changes are made, as this process has seen; `None` for a store that has monitoring of its own.
    fn writes(&self) -> Option<Writes> {
        None
    }
}

/// What operators and served routes need: to read, list and change records. The contract is that of
/// [`CredentialStore`].
pub trait RecordStore: Send + Sync + 'static {
    /// The time by which everything made now is made: the store's own clock, and never earlier than what it
    /// has written already, whatever becomes of that clock. One for all gateways.
    fn time(&self) -> BoxFuture<'_, Result<UnixMillis, StoreError>>;

    /// Reads one credential for an operator.
    fn find_credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<CredentialRecord>, StoreError>>;

    /// Lists credentials in order of id.
    fn list_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<Vec<CredentialRecord>, StoreError>>;

    /// One page of that list, for requests of callers: it says exactly whether more follow, and at most [`MAX_READ`](super::MAX_READ) records are
    /// read for it.
    ///
    /// The default reads without that bound.
    fn page_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<CredentialPage, StoreError>> {
        Box::pin(async move {
            let limit = filter.limit.clamp(1, MAX_LIST - 1);
            let whole = CredentialFilter {
                limit: limit + 1,
                ..filter
            };
            let mut records = self.list_credentials(whole).await?;
            let more = records.len() > limit;
            records.truncate(limit);
            let next = records.last().filter(|_| more).map(|record| record.id.clone());
            Ok(CredentialPage { records, next })
        })
    }

    fn find_tenant(&self, id: TenantId) -> BoxFuture<'_, Result<Option<TenantRecord>, StoreError>>;

    /// Lists tenants in order of id, after `after`, at most `limit` (capped at 1,000).
    fn list_tenants(&self, after: Option<TenantId>, limit: usize) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>>;

    /// Makes records, all or none. A new tenant must be new, an old one must exist; ids and
    /// fingerprints must be new; what a record hangs on must exist, be of its tenant and not be
    /// revoked, and no chain is longer than [`MAX_ANCESTORS`](crate::base::principal::MAX_ANCESTORS).
    /// Changes what is to be changed in the same step, each as [`change_credential`](Self::change_credential)
    /// does. Answers the credentials as they were written: those made, then those that were to be changed,
    /// each once. `now` is the store's [`time`](Self::time).
    fn create(&self, new: NewRecords, now: UnixMillis) -> BoxFuture<'_, Result<Vec<CredentialRecord>, ChangeError>>;

    /// Makes one credential, as [`create`](Self::create) does.
    fn create_credential(&self, record: CredentialRecord) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        let now = record.created_at;
        let new = NewRecords {
            credentials: vec![record],
            ..NewRecords::default()
        };
        let made = self.create(new, now);
        Box::pin(async move {
            let first = made.await?.into_iter().next();
            first.ok_or_else(|| StoreError::Corrupt("what was made is not there".into()).into())
        })
    }

    /// Makes an active tenant, as [`create`](Self::create) does.
    fn create_tenant(&self, id: TenantId, now: UnixMillis) -> BoxFuture<'_, Result<TenantRecord, ChangeError>> {
        let record = change::new_tenant(id.clone(), now);
        let new = NewRecords {
            tenant: Some(id),
            ..NewRecords::default()
        };
        let made = self.create(new, now);
        Box::pin(async move { made.await.map(|_| record) })
    }

    /// Changes a credential's state and answers the record as it now is. A change that is already
    /// true is acknowledged without a new event.
    fn change_credential(
        &self,
        id: CredentialId,
        change: CredentialChange,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>>;

    /// Makes a tenant active or inactive.
    fn set_tenant_active(&self, id: TenantId, state: TenantState) -> BoxFuture<'_, Result<TenantRecord, ChangeError>>;

    /// Writes when sliding credentials were last used, at most [`MAX_TOUCHED`](super::MAX_TOUCHED) of them; later uses win,
    /// unknown ids are left out. Makes no event: it ends no facts, others learn it when they read
    /// again, and [`Idle::last_used`](crate::base::principal::IdleTimeout::last_used) tells it.
    fn touch(&self, used: Vec<(CredentialId, UnixMillis)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets those of these credentials that ended by themselves before `before` (expired, or not used
    /// for too long), with an event for each; answers how many. They are absent from then on. Nothing
    /// may hang on them any more: that is for the caller to know ([`sweep`](super::sweep)). At most
    /// [`MAX_FORGOTTEN`](super::MAX_FORGOTTEN); unknown ids and those that go on are left out.
    ///
    /// A store that says nothing else forgets nothing.
    fn forget(&self, ids: Vec<CredentialId>, before: UnixMillis) -> BoxFuture<'_, Result<usize, ChangeError>> {
        drop((ids, before));
        Box::pin(std::future::ready(Ok(0)))
    }

    /// The peppers that the credentials were made under, and those dropped since.
    ///
    /// The default is for stores that keep no list.
    fn peppers(&self) -> BoxFuture<'_, Result<PepperList, StoreError>> {
        Box::pin(async { Err(peppers::no_list()) })
    }

    /// Writes one list over exactly the other; answers whether that was there still. Makes no event: it
    /// changes nobody's facts.
    fn set_peppers(&self, before: PepperList, after: PepperList) -> BoxFuture<'_, Result<bool, ChangeError>> {
        drop((before, after));
        Box::pin(async { Err(peppers::no_list().into()) })
    }

    /// Lets an account be found by another fingerprint of its log-in name, that under this gateway's
    /// first pepper, and no more by the one before; its event names both. Answers the account as it is.
    fn move_login(&self, id: CredentialId, fingerprint: Fingerprint) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        drop((id, fingerprint));
        Box::pin(async { Err(peppers::no_list().into()) })
    }

    /// Makes a role of a tenant, which must exist and have fewer than [`MAX_TENANT_ROLES`](super::MAX_TENANT_ROLES).
    fn create_role(&self, role: RoleRecord) -> BoxFuture<'_, Result<RoleRecord, ChangeError>>;

    /// Changes a role and answers it as it now is; its holders' facts end with the event.
    fn change_role(&self, id: RoleId, change: RoleChange) -> BoxFuture<'_, Result<RoleRecord, ChangeError>>;

    /// Deletes a role. Who still names it holds nothing by it. Ids are never used again.
    fn delete_role(&self, id: RoleId) -> BoxFuture<'_, Result<(), ChangeError>>;

    fn find_role(&self, id: RoleId) -> BoxFuture<'_, Result<Option<RoleRecord>, StoreError>>;

    /// The roles of a tenant in order of id, at most [`MAX_TENANT_ROLES`](super::MAX_TENANT_ROLES).
    fn list_roles(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<RoleRecord>, StoreError>>;
}

/// Which gateways there are, which changes each of them has applied, and the log of changes.
///
/// The defaults are for stores that keep no receipts.
pub trait ReceiptStore: Send + Sync + 'static {
    /// Writes down that a gateway is there and what it has applied, and answers the store's time. A
    /// later announcement of the same process replaces the earlier one. Of two processes that go by one id
    /// the later one is refused when both are heard of ([`receipts::DUPLICATE_AFTER`]); until the earlier
    /// one has spoken, both may be registered, and both are listed.
    ///
    /// What is written is safe to rely on: the receipt names a position only if the announcing
    /// process' sinks have been told everything up to it, within the history it belongs to.
    ///
    /// The default is for stores that keep no receipts.
    fn announce(&self, gateway: Announcement) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        let _ = gateway;
        Box::pin(async { Err(receipts::no_receipts()) })
    }

    /// Returns when an announcement should not wait for the next heartbeat: this gateway's entry was missed.
    fn wants_announcement(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Takes a gateway's receipt away, if it is of this process (`run`): it serves nobody any more.
    fn withdraw(&self, id: GatewayId, run: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        let _ = (id, run);
        Box::pin(async { Err(receipts::no_receipts()) })
    }

    /// Every gateway heard of within [`receipts::KEPT_FOR`], in order of id, where the store stands
    /// and its time, read in one step from the primary.
    fn receipts(&self) -> BoxFuture<'_, Result<Receipts, StoreError>> {
        Box::pin(async { Err(receipts::no_receipts()) })
    }

    /// Events after a position, oldest first, or the newest ones, at most `limit` (capped at
    /// [`receipts::MAX_EVENTS`]).
    fn events_after(&self, after: Option<u64>, limit: usize) -> BoxFuture<'_, Result<EventPage, StoreError>> {
        let _ = (after, limit);
        Box::pin(async { Err(receipts::no_receipts()) })
    }
}
