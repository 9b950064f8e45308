//! The shared store in Redis or Valkey: every change is one script, and every look-up one round trip.
//!
//! Four rooms: `topology` reaches the primary, `scripts` holds every command, `stream` follows the events, and `operations`
//! has the calls.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::base::clock::{Clock, UnixMillis};
use crate::base::fingerprint::{Fingerprint, PepperChecks};
use crate::base::ids::{CredentialId, GatewayId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, RoleRecord, TenantRecord};

use super::concerns::Concern;
use super::peppers::stamp;
use super::{
    Announcement, BoxFuture, ChangeError, CredentialChange, CredentialFilter, CredentialPage, EventPage, EventSink, FactStore, LookupQuery,
    LookupReply, MarkRoom, NewRecords, PepperList, PublishedCheckpoint, ReceiptStore, Receipts, RecordStore, RefreshReply, RoleChange,
    StoreError, StoreStatus, TenantState,
};
#[cfg(any(test, feature = "internals"))]
pub use fuzzing::{judge_bytes, parse_bytes};
pub use operations::SharedCounts;
use operations::{ReceiptScripts, StoreCall, restore_for_ever};
use scripts::Scripts;
use stream::{Confirmations, Confirmer, EventFeed, confirm_for_ever, follow_for_ever};
pub use topology::{
    ByteStream, Endpoint, Network, RedisAccess, RedisEnvironment, RedisSettings, RedisTls, RedisUrl, RedisUser, Registered, Scheme,
    SentinelAccess, Servers, WaitReplicas,
};
use topology::{CONNECT_TIMEOUT, Concerns, GatewayRegistration, Link, LinkRole, LinkState, LiveLink, PrimaryLocator, inspect_for_ever};

#[cfg(any(test, feature = "internals"))]
mod fuzzing;
mod operations;
mod scripts;
mod stream;
mod topology;

/// Connections for look-ups. A slow reply delays only those behind it on its own connection.
const READ_LINKS: usize = 2;

/// Deadline of a command for operators, above the wait for replicas.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(3);

/// A store in Redis. It supervises its connections: it can be opened while Redis is down, fails at once while Redis cannot be
/// reached, and recovers without a restart.
///
/// The contract holds on a primary that persists (`appendonly yes`) and does not evict
/// (`maxmemory-policy noeviction`). Replication of Redis is asynchronous: with [`WaitReplicas::All`] an
/// acknowledged change has reached each replica that could be promoted; with fewer, a failover can lose
/// it for ever. A change whose replicas did not confirm in time is reported as
/// [`StoreError::Unavailable`] though it *was made*: repeat it until it is acknowledged.
///
/// A store without data (never used, or flushed) answers [`StoreError::Unavailable`] to every
/// look-up until a tenant is made.
pub struct RedisStore {
    shared: Arc<RedisCore>,
    control: Handle,
    tasks: Vec<AbortHandle>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("status", &self.status()).finish_non_exhaustive()
    }
}

struct RedisCore {
    locator: Arc<PrimaryLocator>,
    readers: [Arc<Link>; READ_LINKS],
    /// The leader: it looks for the primary, and carries the reads of operators.
    writer: Arc<Link>,
    /// Carries changes, and commands that wait for replicas.
    changes: Arc<Link>,
    confirmations: Confirmations,
    next_reader: AtomicUsize,
    scripts: Arc<Scripts>,
    receipts: ReceiptScripts,
    registration: Arc<GatewayRegistration>,
    feed: Arc<EventFeed>,
    concerns: Concerns,
    wait_replicas: WaitReplicas,
    peppers: PepperChecks,
    lookup_timeout: Duration,
}

impl RedisStore {
    /// Starts the connections on `control` and waits until the first attempt is over, at most two
    /// seconds. An unreachable Redis is not an error: the store answers when it appears.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when the data was written under another pepper or by a newer version,
    /// [`StoreError::Unavailable`] when the prefix is not usable.
    pub async fn open(settings: RedisSettings, clock: Arc<dyn Clock>, control: Handle) -> Result<Self, StoreError> {
        Self::open_in(RedisEnvironment::default(), settings, clock, control).await
    }

    /// Opens a store in another environment than this machine: for simulations.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_in(
        environment: RedisEnvironment,
        settings: RedisSettings,
        clock: Arc<dyn Clock>,
        control: Handle,
    ) -> Result<Self, StoreError> {
        if !crate::base::ids::is_valid_id(&settings.key_prefix) {
            return Err(StoreError::Unavailable("the key prefix must be an identifier".into()));
        }
        let registration = Arc::new(GatewayRegistration::new(settings.registered));
        let scripts = Scripts::new(&settings.key_prefix, settings.peppers.clone(), registration.entry());
        let scripts = Arc::new(scripts);
        let locator = Arc::new(PrimaryLocator::new(
            environment,
            settings.access,
            &settings.key_prefix,
            settings.max_age,
            Arc::clone(&clock),
        ));
        let (confirmations, rounds) = Confirmations::new();
        let shared = Arc::new(RedisCore {
            readers: std::array::from_fn(|_| Arc::new(Link::new(&locator, settings.lookup_timeout))),
            writer: Arc::new(Link::new(&locator, CHANGE_TIMEOUT)),
            changes: Arc::new(Link::new(&locator, CHANGE_TIMEOUT)),
            confirmations,
            locator: Arc::clone(&locator),
            next_reader: AtomicUsize::new(0),
            scripts: Arc::clone(&scripts),
            receipts: ReceiptScripts::new(&scripts),
            registration,
            feed: Arc::new(EventFeed::new(clock)),
            concerns: Concerns::default(),
            wait_replicas: settings.wait_replicas,
            peppers: settings.peppers,
            lookup_timeout: settings.lookup_timeout,
        });
        let leader = Arc::clone(&shared.writer);
        let mut first_attempt = leader.watch();
        let mut tasks = vec![spawn_link(&control, &leader, &scripts, LinkRole::Lead)];
        for link in shared.readers.iter().chain([&shared.changes]) {
            tasks.push(spawn_link(&control, link, &scripts, LinkRole::Follow(leader.watch())));
        }
        let confirmer = Confirmer::new(&scripts, &locator, settings.wait_replicas);
        let confirm = confirm_for_ever(rounds, Arc::clone(&shared.changes), confirmer);
        tasks.push(control.spawn(confirm).abort_handle());
        if locator.has_witnesses() {
            tasks.push(control.spawn(Arc::clone(&locator).ask_for_ever()).abort_handle());
        }
        tasks.push(control.spawn(inspect_for_ever(Arc::clone(&shared))).abort_handle());
        tasks.push(control.spawn(restore_for_ever(Arc::clone(&shared))).abort_handle());
        let follow = follow_for_ever(Arc::clone(&shared.feed), locator, scripts, Arc::clone(&leader));
        tasks.push(control.spawn(follow).abort_handle());
        let store = Self { shared, control, tasks };
        // The supervisor bounds its attempt, so this wait is bounded, too.
        let _ = first_attempt.wait_for(|state| *state != LinkState::Starting).await;
        match leader.last_error() {
            foreign @ StoreError::Foreign(_) => Err(foreign),
            _ => {
                store.wait_until_usable().await;
                store.call().check_first_pepper().await?;
                Ok(store)
            }
        }
    }

    /// The look-up connections and the event reader come up within milliseconds after the leader. With this wait, a gateway
    /// that starts in front of a healthy Redis does not refuse its first requests.
    async fn wait_until_usable(&self) {
        if self.shared.writer.live().is_none() {
            return;
        }
        let all = async {
            for link in self.shared.readers.iter().chain([&self.shared.changes]) {
                let mut state = link.watch();
                let _ = state.wait_for(|state| *state != LinkState::Starting).await;
            }
            self.shared.feed.started().await;
        };
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, all).await;
    }

    /// Runs the work on the control runtime. It goes on if the caller drops the future.
    fn run<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, E>> {
        let task = self.control.spawn(work);
        Box::pin(async move {
            task.await
                .unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".into()).into()))
        })
    }

    fn call(&self) -> StoreCall {
        StoreCall::new(Arc::clone(&self.shared))
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn spawn_link(control: &Handle, link: &Arc<Link>, scripts: &Arc<Scripts>, duty: LinkRole) -> AbortHandle {
    let supervision = Arc::clone(link).supervise(Arc::clone(scripts), duty);
    control.spawn(supervision).abort_handle()
}

impl RedisCore {
    /// A healthy connection for look-ups and its link, which is not `not`.
    fn reader(&self, not: Option<&Arc<Link>>) -> Result<(Arc<Link>, LiveLink), StoreError> {
        let first = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let mut links = (0..READ_LINKS).filter_map(|i| self.readers.get((first + i) % READ_LINKS));
        links
            .find_map(|link| {
                let wanted = not.is_none_or(|not| !Arc::ptr_eq(not, link));
                let live = link.live().filter(|live| wanted && self.locator.is_named(&live.endpoint));
                live.map(|live| (Arc::clone(link), live))
            })
            .ok_or_else(|| self.writer.last_error())
    }

    /// As [`reader`](Self::reader), but waits for the first connection while all of them are being replaced and the leader is
    /// up, at most for the deadline of a look-up. Otherwise this moment would count as a failing store, and five callers in
    /// it would open the circuit breaker.
    async fn reader_soon(&self) -> Result<(Arc<Link>, LiveLink), StoreError> {
        let soon = async {
            loop {
                // Subscribed before the check, so that a connection that comes up after it is not missed.
                let states: Vec<_> = self.readers.iter().map(|link| link.watch()).collect();
                match self.reader(None) {
                    Err(_) if self.writer.live().is_some() => {}
                    found => return found,
                }
                let changes = states.into_iter().map(|mut state| async move { state.changed().await }.boxed());
                let _ = select_all(changes).await;
            }
        };
        match tokio::time::timeout(self.lookup_timeout, soon).await {
            Ok(found) => found,
            Err(_) => Err(StoreError::Unavailable("no connection to Redis for look-ups".into())),
        }
    }
}

impl FactStore for RedisStore {
    fn find(&self, fingerprint: Fingerprint) -> BoxFuture<'_, Result<LookupReply, StoreError>> {
        let call = self.call();
        self.run(async move { call.find(&fingerprint).await })
    }

    fn find_many(&self, asked: Vec<LookupQuery>) -> BoxFuture<'_, Vec<Result<RefreshReply, StoreError>>> {
        let call = self.call();
        Box::pin(async move {
            let asked: Vec<Fingerprint> = asked.iter().map(|again| again.fingerprint).collect();
            let found = call.find_all(&asked).await;
            found.into_iter().map(|found| found.map(RefreshReply::Read)).collect()
        })
    }

    fn note_busy(&self, busy: Vec<Fingerprint>) -> BoxFuture<'_, Result<(), StoreError>> {
        let call = self.call();
        self.run(async move { call.note_busy(&busy).await })
    }

    fn busy(&self, most: usize) -> BoxFuture<'_, Result<Vec<Fingerprint>, StoreError>> {
        let call = self.call();
        self.run(async move { call.busy(most).await })
    }

    fn subscribe(&self, sink: Arc<dyn EventSink>) {
        self.shared.feed.subscribe(sink);
    }

    fn unregistered(&self) -> Option<String> {
        self.shared.registration.missing()
    }

    fn probe(&self, deadline: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let call = self.call();
        self.run(async move {
            tokio::time::timeout(deadline, call.probe())
                .await
                .unwrap_or_else(|_| Err(StoreError::Unavailable("Redis did not answer in time".into())))
        })
    }

    fn lacks_pepper(&self) -> bool {
        self.shared.locator.is_foreign()
    }

    fn concerns(&self) -> Vec<Concern> {
        let mut concerns = self.shared.concerns.now();
        concerns.extend(self.shared.registration.concern());
        concerns.extend(self.shared.locator.rights().closed().map(|why| Concern::Closed { why }));
        let rights = self.shared.locator.rights().missing();
        if !rights.is_empty() {
            concerns.push(Concern::RightsRefused { rights });
        }
        concerns
    }

    fn status(&self) -> StoreStatus {
        let status = &self.shared.feed.status;
        StoreStatus {
            reader: status.state(),
            applied: status.applied(),
            heard_at: status.heard_at(),
            revalidated_at: status.revalidated_at(),
        }
    }
}

impl RecordStore for RedisStore {
    fn time(&self) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        let call = self.call();
        self.run(async move { call.time().await })
    }

    fn find_credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<CredentialRecord>, StoreError>> {
        let call = self.call();
        self.run(async move { call.find_credential(&id).await })
    }

    fn list_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<Vec<CredentialRecord>, StoreError>> {
        let call = self.call();
        self.run(async move { call.list_credentials(filter).await })
    }

    fn find_tenant(&self, id: TenantId) -> BoxFuture<'_, Result<Option<TenantRecord>, StoreError>> {
        let call = self.call();
        self.run(async move { call.find_tenant(&id).await })
    }

    fn page_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<CredentialPage, StoreError>> {
        let call = self.call();
        self.run(async move { call.page_credentials(filter).await })
    }

    fn list_tenants(&self, after: Option<TenantId>, limit: usize) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>> {
        let call = self.call();
        self.run(async move { call.list_tenants(after, limit).await })
    }

    fn create(&self, new: NewRecords, now: UnixMillis) -> BoxFuture<'_, Result<Vec<CredentialRecord>, ChangeError>> {
        let call = self.call();
        let new = stamp(new, self.shared.peppers.first().mark());
        self.run(async move { call.create(new, now).await })
    }

    fn change_credential(
        &self,
        id: CredentialId,
        change: CredentialChange,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        let call = self.call();
        self.run(async move { call.change_credential(&id, &change, now).await })
    }

    fn set_tenant_active(&self, id: TenantId, state: TenantState) -> BoxFuture<'_, Result<TenantRecord, ChangeError>> {
        let call = self.call();
        self.run(async move { call.set_tenant_active(&id, state).await })
    }

    fn touch(&self, used: Vec<(CredentialId, UnixMillis)>) -> BoxFuture<'_, Result<(), StoreError>> {
        let call = self.call();
        self.run(async move { call.touch(&used).await })
    }

    fn forget(&self, ids: Vec<CredentialId>, before: UnixMillis) -> BoxFuture<'_, Result<usize, ChangeError>> {
        let call = self.call();
        self.run(async move { call.forget(&ids, before).await })
    }

    fn take_once(&self, mark: Fingerprint, until: UnixMillis, room: MarkRoom) -> BoxFuture<'_, Result<bool, ChangeError>> {
        let call = self.call();
        self.run(async move { call.take_once(&mark, until, room).await })
    }

    fn peppers(&self) -> BoxFuture<'_, Result<PepperList, StoreError>> {
        let call = self.call();
        self.run(async move { call.peppers().await })
    }

    fn set_peppers(&self, before: PepperList, after: PepperList) -> BoxFuture<'_, Result<bool, ChangeError>> {
        let call = self.call();
        self.run(async move { call.set_peppers(&before, &after).await })
    }

    fn move_login(&self, id: CredentialId, fingerprint: Fingerprint) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        let call = self.call();
        self.run(async move { call.move_login(&id, fingerprint).await })
    }

    fn create_role(&self, role: RoleRecord) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        let call = self.call();
        self.run(async move { call.create_role(role).await })
    }

    fn change_role(&self, id: RoleId, change: RoleChange) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        let call = self.call();
        self.run(async move { call.change_role(&id, &change).await })
    }

    fn delete_role(&self, id: RoleId) -> BoxFuture<'_, Result<(), ChangeError>> {
        let call = self.call();
        self.run(async move { call.delete_role(&id).await })
    }

    fn find_role(&self, id: RoleId) -> BoxFuture<'_, Result<Option<RoleRecord>, StoreError>> {
        let call = self.call();
        self.run(async move { call.find_role(&id).await })
    }

    fn list_roles(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<RoleRecord>, StoreError>> {
        let call = self.call();
        self.run(async move { call.list_roles(&tenant).await })
    }
}

impl ReceiptStore for RedisStore {
    fn announce(&self, gateway: Announcement) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        let call = self.call();
        self.run(async move { call.announce(&gateway).await })
    }

    fn wants_announcement(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.registration.announcement_needed())
    }

    fn withdraw(&self, id: GatewayId, run: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        let call = self.call();
        self.run(async move { call.withdraw(&id, run).await })
    }

    fn receipts(&self) -> BoxFuture<'_, Result<Receipts, StoreError>> {
        let call = self.call();
        self.run(async move { call.receipts().await })
    }

    fn exchange_checkpoints(
        &self,
        id: GatewayId,
        run: u64,
        own: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<PublishedCheckpoint>, StoreError>> {
        let call = self.call();
        self.run(async move { call.exchange_checkpoints(&id, run, own.as_deref()).await })
    }

    fn events_after(&self, after: Option<u64>, limit: usize) -> BoxFuture<'_, Result<EventPage, StoreError>> {
        let call = self.call();
        self.run(async move { call.events_after(after, limit).await })
    }
}
