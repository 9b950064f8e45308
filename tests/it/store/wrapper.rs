//! A store that fails, delays, counts and lies on demand, in front of a real one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durward::base::clock::{BootMillis, UnixMillis};
use durward::base::fingerprint::Fingerprint;
use durward::base::ids::{CredentialId, RoleId, TenantId};
use durward::base::principal::{CredentialRecord, RoleRecord, TenantRecord};
use durward::store::{
    BoxFuture, ChangeError, CredentialChange, CredentialFilter, CredentialPage, CredentialStore, EventSink, FactStore, LookupQuery,
    LookupReply, MarkRoom, NewRecords, ReceiptStore, RecordStore, RefreshReply, RoleChange, StoreError, StoreStatus, TenantState,
};
use futures_util::future::join_all;
use tokio::sync::watch;

/// What happens to look-ups.
#[derive(Clone)]
pub(super) enum Behaviour {
    /// They pass.
    Pass,
    /// They fail.
    Fail(StoreError),
    /// They are made, and their answers wait for `release`.
    HoldAnswers,
    /// They wait for `release` before they are made.
    HoldQuestions,
    /// They pass, those again as the one question that they are; otherwise each is made by itself.
    Together,
    /// As `Together`, and the answer to such a question waits for `release`.
    HoldTogether,
    /// They are answered with what another fingerprint finds.
    Swap(Fingerprint),
    /// They are answered with another tenant's record.
    OtherTenant(TenantId),
    /// They pass, and the server was known to be the primary up to this moment.
    OfPrimaryAt(BootMillis),
}

pub(super) struct Wrapper {
    inner: Arc<dyn CredentialStore>,
    behaviour: Mutex<Behaviour>,
    started: AtomicU64,
    unchanged: AtomicU64,
    held: AtomicU64,
    released: watch::Sender<u64>,
    heard_at: AtomicU64,
}

impl Wrapper {
    pub(super) fn new(inner: Arc<dyn CredentialStore>) -> Self {
        Self {
            inner,
            behaviour: Mutex::new(Behaviour::Pass),
            started: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
            held: AtomicU64::new(0),
            released: watch::channel(0).0,
            heard_at: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Look-ups begun so far.
    pub(super) fn reads(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    /// Look-ups of which the store said that nothing had changed.
    pub(super) fn unchanged(&self) -> u64 {
        self.unchanged.load(Ordering::SeqCst)
    }

    /// Look-ups that wait now or have waited.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    /// Lets go of everything that waits now; what comes later waits again.
    pub(super) fn release(&self) {
        let held = self.held();
        self.released.send_replace(held);
    }

    /// From now on the events of the store count as heard at this moment.
    pub(super) fn hear(&self, at: BootMillis) {
        self.heard_at.store(at.0, Ordering::SeqCst);
    }

    async fn hold(&self) {
        let number = self.held.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = self.released.subscribe().wait_for(|released| *released >= number).await;
    }
}

impl FactStore for Wrapper {
    fn find(&self, fingerprint: Fingerprint) -> BoxFuture<'_, Result<LookupReply, StoreError>> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        self.started.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match behaviour {
                Behaviour::Pass | Behaviour::Together | Behaviour::HoldTogether => self.inner.find(fingerprint).await,
                Behaviour::Fail(error) => Err(error),
                Behaviour::HoldAnswers => {
                    let answer = self.inner.find(fingerprint).await;
                    self.hold().await;
                    answer
                }
                Behaviour::HoldQuestions => {
                    self.hold().await;
                    self.inner.find(fingerprint).await
                }
                Behaviour::OfPrimaryAt(known_at) => {
                    let found = self.inner.find(fingerprint).await?;
                    Ok(LookupReply {
                        primary_at: Some(known_at),
                        ..found
                    })
                }
                Behaviour::Swap(other) => self.inner.find(other).await,
                Behaviour::OtherTenant(id) => {
                    let mut found = self.inner.find(fingerprint).await?;
                    if let Some(facts) = &mut found.facts {
                        facts.tenant.id = id;
                    }
                    Ok(found)
                }
            }
        })
    }

    fn find_many(&self, asked: Vec<LookupQuery>) -> BoxFuture<'_, Vec<Result<RefreshReply, StoreError>>> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        if !matches!(behaviour, Behaviour::Together | Behaviour::HoldTogether) {
            let each = asked
                .into_iter()
                .map(|again| async move { self.find(again.fingerprint).await.map(RefreshReply::Read) });
            return Box::pin(join_all(each));
        }
        Box::pin(async move {
            let found = self.inner.find_many(asked).await;
            if matches!(behaviour, Behaviour::HoldTogether) {
                self.hold().await;
            }
            for answer in &found {
                let counter = match answer {
                    Ok(RefreshReply::Unchanged(_)) => &self.unchanged,
                    _ => &self.started,
                };
                counter.fetch_add(1, Ordering::SeqCst);
            }
            found
        })
    }

    fn subscribe(&self, sink: Arc<dyn EventSink>) {
        self.inner.subscribe(sink);
    }

    fn probe(&self, deadline: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.probe(deadline)
    }

    fn status(&self) -> StoreStatus {
        StoreStatus {
            heard_at: BootMillis(self.heard_at.load(Ordering::SeqCst)),
            ..self.inner.status()
        }
    }
}

impl RecordStore for Wrapper {
    fn time(&self) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        self.inner.time()
    }

    fn find_credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<CredentialRecord>, StoreError>> {
        self.inner.find_credential(id)
    }

    fn list_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<Vec<CredentialRecord>, StoreError>> {
        self.inner.list_credentials(filter)
    }

    fn page_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<CredentialPage, StoreError>> {
        self.inner.page_credentials(filter)
    }

    fn find_tenant(&self, id: TenantId) -> BoxFuture<'_, Result<Option<TenantRecord>, StoreError>> {
        self.inner.find_tenant(id)
    }

    fn list_tenants(&self, after: Option<TenantId>, limit: usize) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>> {
        self.inner.list_tenants(after, limit)
    }

    fn create(&self, new: NewRecords, now: UnixMillis) -> BoxFuture<'_, Result<Vec<CredentialRecord>, ChangeError>> {
        self.inner.create(new, now)
    }

    fn change_credential(
        &self,
        id: CredentialId,
        change: CredentialChange,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        self.inner.change_credential(id, change, now)
    }

    fn set_tenant_active(&self, id: TenantId, state: TenantState) -> BoxFuture<'_, Result<TenantRecord, ChangeError>> {
        self.inner.set_tenant_active(id, state)
    }

    fn touch(&self, used: Vec<(CredentialId, UnixMillis)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.touch(used)
    }

    fn take_once(&self, mark: Fingerprint, until: UnixMillis, room: MarkRoom) -> BoxFuture<'_, Result<bool, ChangeError>> {
        self.inner.take_once(mark, until, room)
    }

    fn create_role(&self, role: RoleRecord) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        self.inner.create_role(role)
    }

    fn change_role(&self, id: RoleId, change: RoleChange) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        self.inner.change_role(id, change)
    }

    fn forget(&self, ids: Vec<CredentialId>, before: UnixMillis) -> BoxFuture<'_, Result<usize, ChangeError>> {
        self.inner.forget(ids, before)
    }

    fn delete_role(&self, id: RoleId) -> BoxFuture<'_, Result<(), ChangeError>> {
        self.inner.delete_role(id)
    }

    fn find_role(&self, id: RoleId) -> BoxFuture<'_, Result<Option<RoleRecord>, StoreError>> {
        self.inner.find_role(id)
    }

    fn list_roles(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<RoleRecord>, StoreError>> {
        self.inner.list_roles(tenant)
    }
}

impl ReceiptStore for Wrapper {}
