//! The contract of a credential store, in three parts: facts for requests, records for changes and lists, and receipts of
//! gateways.
//!
//! A caller takes the part that it needs. An engine has all three ([`CredentialStore`]).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, GatewayId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, Position, RoleRecord, TenantRecord};

use super::{
    Announcement, BoxFuture, ChangeError, CredentialChange, CredentialFilter, CredentialPage, EventPage, EventSink, LookupQuery,
    LookupReply, MAX_LIST, MarkRoom, NewRecords, PepperList, PublishedCheckpoint, Receipts, RefreshReply, RoleChange, StoreError,
    StoreStatus, TenantState, Writes, change, concerns, events, peppers, receipts,
};

/// A store with all three parts. Every type that has the parts is one. This text is a security contract:
///
/// - `find` answers `Ok` with `facts: None` only when the credential is *certainly* absent. Whatever is not known for certain
///   is an `Err`, and no cache remembers it: no answer, half an answer, a record that does not decode, a record with another
///   fingerprint than the one asked for, a credential without its tenant or its parent, a store that may have lost its data.
/// - `find` reads from the primary. It reads credential, tenant, ancestors and roles in one atomic step, and answers the
///   position of that step.
/// - `create` notes on each record the pepper that its fingerprints were made under.
/// - `create` makes all of its records with their events in one atomic step, or nothing. A record hangs only on a record of its
///   own tenant that is not revoked at that step.
/// - A change that is acknowledged is durable and visible to every later `find`, and its event was written in the same atomic
///   step. Positions grow by one with each change.
/// - A revoked credential stays revoked. Its record stays as a tombstone, at least until the credential would have ended by
///   itself.
/// - Every method ends within the configured deadline. Dropping a future is safe at any point: a change may or may not have been
///   made, a read leaves nothing behind, and no later caller can receive the reply of the dropped call.
/// - No gateway's clock decides an order. New records carry the store's [`time`](RecordStore::time), which never goes back, and
///   [`CredentialChange::EndIssued`] ends exactly what was made before its step.
/// - A call that rests on records that have changed makes nothing ([`NewRecords::rests_on`]). The records are compared in the
///   step of the write.
/// - No method receives a secret. It receives fingerprints only.
pub trait CredentialStore: FactStore + RecordStore + ReceiptStore {}

impl<S: FactStore + RecordStore + ReceiptStore> CredentialStore for S {}

/// What the request path needs: look-ups, events, and the state of the store. The contract is that of
/// [`CredentialStore`].
pub trait FactStore: Send + Sync + 'static {
    /// Looks a credential up by any of its fingerprints (key, or id), or a tenant by its own
    /// ([`Fingerprint::of_tenant`]), which answers [`CredentialRecord::of_tenant`].
    fn find(&self, fingerprint: Fingerprint) -> BoxFuture<'_, Result<LookupReply, StoreError>>;

    /// Reads several credentials again, each as [`find`](Self::find) does, in about the time of one. Answers are in the
    /// order of `asked`.
    ///
    /// A store whose positions count every change, in one history that cannot be left, may answer that nothing has changed
    /// since a known position. The default reads.
    fn find_many(&self, asked: Vec<LookupQuery>) -> BoxFuture<'_, Vec<Result<RefreshReply, StoreError>>> {
        let reads = asked
            .into_iter()
            .map(|again| async move { self.find(again.fingerprint).await.map(RefreshReply::Read) });
        Box::pin(join_all(reads))
    }

    /// Notes that these credentials are in use, for gateways that start. The list is only a hint what to read ahead.
    ///
    /// The default keeps no list.
    fn note_busy(&self, busy: Vec<Fingerprint>) -> BoxFuture<'_, Result<(), StoreError>> {
        drop(busy);
        Box::pin(std::future::ready(Ok(())))
    }

    /// The credentials that gateways noted lately ([`note_busy`](Self::note_busy)), at most `most`, the latest first.
    fn busy(&self, most: usize) -> BoxFuture<'_, Result<Vec<Fingerprint>, StoreError>> {
        let _ = most;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Delivers every event from now on to `sink`, in order, until the store is dropped. After a gap that cannot be closed,
    /// the sink must forget everything.
    fn subscribe(&self, sink: Arc<dyn EventSink>);

    /// Whether the store said lately that it was written under a pepper that this gateway does not have.
    fn lacks_pepper(&self) -> bool {
        false
    }

    /// Why this gateway is not registered and may admit no request; `None` while it may. Look-ups of a shared store succeed
    /// only for a registered gateway.
    fn unregistered(&self) -> Option<String> {
        None
    }

    /// Whether the store answers, within `deadline`.
    fn probe(&self, deadline: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How well events reach this process, for metrics and readiness. The default is for a store in this process, which knows
    /// every change by itself.
    fn status(&self) -> StoreStatus {
        StoreStatus {
            reader: events::ReaderState::Live,
            applied: Position::default(),
            heard_at: BootMillis::default(),
            revalidated_at: BootMillis::default(),
        }
    }

    /// What an operator should change about the store, by the last inspection. The default is for a store in this process.
    fn concerns(&self) -> Vec<concerns::Concern> {
        Vec::new()
    }

    /// Whether the store takes changes, as this process has seen; `None` for a store that has monitoring of its own.
    fn writes(&self) -> Option<Writes> {
        None
    }
}

/// What operators and served routes need: to read, list and change records. The contract is that of
/// [`CredentialStore`].
pub trait RecordStore: Send + Sync + 'static {
    /// The time for new records, the same for all gateways: the store's own clock, but never earlier than a time that it has
    /// written already.
    fn time(&self) -> BoxFuture<'_, Result<UnixMillis, StoreError>>;

    /// Reads one credential for an operator.
    fn find_credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<CredentialRecord>, StoreError>>;

    /// Lists credentials in order of id.
    fn list_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<Vec<CredentialRecord>, StoreError>>;

    /// One page of the list, for requests of callers. The page says exactly whether more follow, and reads at most
    /// [`MAX_READ`](super::filter::MAX_READ) records. The default reads without that bound.
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

    /// Makes records, all or none, and makes the changes in the same step, each as
    /// [`change_credential`](Self::change_credential) does. `now` is the store's [`time`](Self::time).
    ///
    /// A tenant to be made must be new; otherwise the tenant must exist. Ids and fingerprints must be new. A parent must
    /// exist, be of the same tenant and not be revoked. No chain is longer than
    /// [`MAX_ANCESTORS`](crate::base::principal::MAX_ANCESTORS).
    ///
    /// Answers the credentials as they were written: the new ones, then each changed one once.
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

    /// Changes a credential and answers the record after the change. A change that is already true is acknowledged without a
    /// new event.
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

    /// Takes a mark: `true` for the first who takes it, over all gateways, and `false` for everybody else. It is for what may be used
    /// once, such as a log-in that was begun or the id of an assertion.
    ///
    /// The mark is kept until `until`, by the store's clock at most [`MAX_MARK_AGE`](super::MAX_MARK_AGE) from now on, and for
    /// [`MARK_GRACE`](super::MARK_GRACE) longer. Then it may be forgotten, and be taken again. An answer of `true` is as durable as an
    /// acknowledged change. After an error nobody knows who has the mark, and what it marks is not to be used. Makes no event.
    ///
    /// # Errors
    /// [`ChangeError::Full`] when as many are kept as [`MarkRoom::most`] says.
    fn take_once(&self, mark: Fingerprint, until: UnixMillis, room: MarkRoom) -> BoxFuture<'_, Result<bool, ChangeError>>;

    /// Deletes those of these credentials that ended by themselves before `before` (expired, or not used for too long), with
    /// an event for each. Answers how many. They are absent from then on. The caller makes sure that no record hangs on them
    /// ([`sweep`](super::sweep)). Takes at most [`MAX_FORGOTTEN`](super::MAX_FORGOTTEN) ids; unknown ids and credentials
    /// that have not ended are left out.
    ///
    /// The default forgets nothing.
    fn forget(&self, ids: Vec<CredentialId>, before: UnixMillis) -> BoxFuture<'_, Result<usize, ChangeError>> {
        drop((ids, before));
        Box::pin(std::future::ready(Ok(0)))
    }

    /// The peppers that the credentials were made under, and those that were dropped since.
    ///
    /// The default is for stores that keep no list.
    fn peppers(&self) -> BoxFuture<'_, Result<PepperList, StoreError>> {
        Box::pin(async { Err(peppers::no_list()) })
    }

    /// Replaces exactly the list `before`. Answers whether that was still there. Makes no event, because it changes no facts.
    fn set_peppers(&self, before: PepperList, after: PepperList) -> BoxFuture<'_, Result<bool, ChangeError>> {
        drop((before, after));
        Box::pin(async { Err(peppers::no_list().into()) })
    }

    /// Lets an account be found by the fingerprint of its log-in name under this gateway's first pepper, and no longer by
    /// the one before. The event names both fingerprints. Answers the account after the change.
    fn move_login(&self, id: CredentialId, fingerprint: Fingerprint) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        drop((id, fingerprint));
        Box::pin(async { Err(peppers::no_list().into()) })
    }

    /// Makes a role of a tenant, which must exist and have fewer than [`MAX_TENANT_ROLES`](super::MAX_TENANT_ROLES).
    fn create_role(&self, role: RoleRecord) -> BoxFuture<'_, Result<RoleRecord, ChangeError>>;

    /// Changes a role and answers it after the change. The event ends the facts of all credentials with this role.
    fn change_role(&self, id: RoleId, change: RoleChange) -> BoxFuture<'_, Result<RoleRecord, ChangeError>>;

    /// Deletes a role. Credentials that still name it get nothing from it. The id is never used again.
    fn delete_role(&self, id: RoleId) -> BoxFuture<'_, Result<(), ChangeError>>;

    fn find_role(&self, id: RoleId) -> BoxFuture<'_, Result<Option<RoleRecord>, StoreError>>;

    /// The roles of a tenant in order of id, at most [`MAX_TENANT_ROLES`](super::MAX_TENANT_ROLES).
    fn list_roles(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<RoleRecord>, StoreError>>;
}

/// Which gateways there are, which changes each of them has applied, and the log of changes.
///
/// The defaults are for stores that keep no receipts.
pub trait ReceiptStore: Send + Sync + 'static {
    /// Writes the receipt of a gateway, and answers the store's time. A later announcement of the same process replaces the
    /// earlier one. Of two processes with the same id, the later one is refused when both are heard of
    /// ([`receipts::DUPLICATE_AFTER`]). Until the earlier one has announced itself again, both may be registered, and both
    /// are listed.
    ///
    /// A receipt can be relied on: it names a point of the history only if the sinks of the announcing process have every
    /// event up to that point, in the same history.
    ///
    /// The default is for stores that keep no receipts.
    fn announce(&self, gateway: Announcement) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        let _ = gateway;
        Box::pin(async { Err(receipts::no_receipts()) })
    }

    /// Returns when an announcement should not wait for the next heartbeat, because the entry of this gateway is missing.
    fn wants_announcement(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Takes a gateway's receipt away, if it is of this process (`run`). The gateway must not serve any more.
    fn withdraw(&self, id: GatewayId, run: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        let _ = (id, run);
        Box::pin(async { Err(receipts::no_receipts()) })
    }

    /// Every gateway that was heard of within [`receipts::KEPT_FOR`], in order of id, with the head of the history and the
    /// store's time, read in one step from the primary.
    fn receipts(&self) -> BoxFuture<'_, Result<Receipts, StoreError>> {
        Box::pin(async { Err(receipts::no_receipts()) })
    }

    /// The events after a count, oldest first, or the newest events; at most `limit`, capped at [`receipts::MAX_EVENTS`].
    fn events_after(&self, after: Option<u64>, limit: usize) -> BoxFuture<'_, Result<EventPage, StoreError>> {
        let _ = (after, limit);
        Box::pin(async { Err(receipts::no_receipts()) })
    }
    /// Publishes the newest checkpoint of a gateway's audit trail, if the gateway is registered, and answers those of the other
    /// registered gateways. A text of more than [`receipts::MAX_PUBLISHED`] bytes is not published.
    ///
    /// The default is for stores that keep no receipts: there are no other gateways.
    fn exchange_checkpoints(
        &self,
        id: GatewayId,
        run: u64,
        own: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<PublishedCheckpoint>, StoreError>> {
        let _ = (id, run, own);
        Box::pin(async { Ok(Vec::new()) })
    }
}
