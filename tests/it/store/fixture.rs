//! A store under test, whichever it is, and the few things a test may do to it from outside.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use durward::base::clock::{BootMillis, Clock, ManualClock, Now, SystemClock, UnixMillis};
use durward::base::fingerprint::{Fingerprint, PepperCheck, PepperChecks};
use durward::base::ids::{CredentialId, SurfaceName, TenantId};
use durward::base::principal::{CredentialRecord, CredentialState, Facts, Position, Reading, TenantRecord};
use durward::base::scope::{Mode, Scope};
use durward::store::cached::{CacheSettings, CachedStore, LookupOrigin, Recalled};
use durward::store::embedded::EmbeddedStore;
use durward::store::redis::{RedisAccess, RedisSettings, RedisStore, RedisUrl, WaitReplicas};
use durward::store::{CredentialStore, Event, EventSink, StoreError};
use tokio::runtime::{Handle, Runtime};

use crate::support::redis::RedisServer;
use crate::support::wait::PATIENCE;

pub(super) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// The pepper of the gateways of these tests ...
pub(super) const FIRST: PepperCheck = PepperCheck::from_bytes([0x0a; 32]);
/// ... and what their stores are told of it.
pub(super) const PEPPER: &PepperChecks = &PepperChecks::one(FIRST);

/// Those of a gateway with these peppers; that of these tests is 0x0a.
pub(super) fn peppers(first: u8, others: &[u8]) -> PepperChecks {
    let check = |byte: u8| PepperCheck::from_bytes([byte; 32]);
    others
        .iter()
        .fold(PepperChecks::one(check(first)), |all, other| all.and(check(*other)))
}

/// The runtime that stores and caches work on; tests wait on runtimes of their own.
pub(super) fn control() -> Handle {
    static CONTROL: OnceLock<Runtime> = OnceLock::new();
    CONTROL
        .get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap()
        })
        .handle()
        .clone()
}

/// Runs a test on a runtime of its own, as a worker is one.
pub(super) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(PATIENCE * 3, test).await.expect("the test hangs") });
}

/// Waits until a condition holds, without a fixed pause.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited for {what}");
}

pub(super) fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

pub(super) fn credential_id(id: &str) -> CredentialId {
    CredentialId::parse(id).unwrap()
}

/// A fingerprint that depends on the name only.
pub(super) fn fingerprint(name: &str) -> Fingerprint {
    Fingerprint::of_id(&SurfaceName::parse("test-key").unwrap(), &credential_id(name))
}

pub(super) fn surface() -> SurfaceName {
    SurfaceName::parse("api").unwrap()
}

/// A credential `id` of tenant `owner`, found by `fingerprint(id)`.
pub(super) fn record(id: &str, owner: &str) -> CredentialRecord {
    CredentialRecord {
        id: credential_id(id),
        surface: surface(),
        tenant: tenant(owner),
        subject: None,
        mode: Some(Mode::Live),
        scopes: ["orders:read"].iter().map(|s| Scope::parse(s).unwrap()).collect(),
        state: CredentialState::Active,
        fingerprint: fingerprint(id),
        secret_fingerprint: None,
        prefix: "hlive_".into(),
        last4: "wxyz".into(),
        name: Some("a name".into()),
        created_at: NOW,
        not_before: None,
        expires_at: None,
        valid_after: None,
        epoch: 1,
        pepper: Some(FIRST.mark()),
        extras: None,
    }
}

/// Writes down what the store tells its subscribers.
#[derive(Default)]
pub(super) struct Recorder {
    events: Mutex<Vec<Event>>,
    floors: Mutex<Vec<Position>>,
}

impl EventSink for Recorder {
    fn apply(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }

    fn forget_before(&self, position: Position) {
        self.floors.lock().unwrap().push(position);
    }
}

impl Recorder {
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub(super) fn floors(&self) -> Vec<Position> {
        self.floors.lock().unwrap().clone()
    }

    /// Waits for this many events.
    pub(super) async fn wait_for(&self, count: usize) -> Vec<Event> {
        until("events", async || self.events().len() >= count).await;
        self.events()
    }
}

/// What is behind a store.
pub(super) enum Backend {
    Embedded {
        directory: tempfile::TempDir,
        store: Arc<EmbeddedStore>,
    },
    Redis(RedisServer),
}

/// A store, cached or not.
pub(super) struct Fixture {
    pub(super) store: Arc<dyn CredentialStore>,
    pub(super) cache: Option<Arc<CachedStore>>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) backend: Backend,
}

impl Fixture {
    pub(super) async fn embedded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(&directory.path().join("durward.redb"), PEPPER).unwrap());
        Self::over(store.clone(), Backend::Embedded { directory, store }, clock())
    }

    pub(super) async fn redis() -> Self {
        Self::over_redis(RedisServer::start()).await
    }

    /// Redis that has everything it acknowledged after a kill.
    pub(super) async fn durable_redis() -> Self {
        Self::over_redis(RedisServer::start_durable()).await
    }

    /// The store and the cache have one clock: by it, the store says how young facts are.
    async fn over_redis(server: RedisServer) -> Self {
        let clock = clock();
        let access = RedisUrl::parse(&server.url().into()).unwrap().into_access(None);
        let store = open_at(access, 0, PEPPER, clock.clone()).await.unwrap();
        Self::over(Arc::new(store), Backend::Redis(server), clock)
    }

    pub(super) async fn cached_embedded() -> Self {
        Self::embedded().await.with_cache()
    }

    pub(super) async fn cached_redis() -> Self {
        Self::redis().await.with_cache()
    }

    fn over(store: Arc<dyn CredentialStore>, backend: Backend, clock: Arc<ManualClock>) -> Self {
        let recorder = Arc::new(Recorder::default());
        store.subscribe(recorder.clone());
        Self {
            store,
            cache: None,
            clock,
            recorder,
            backend,
        }
    }

    fn with_cache(mut self) -> Self {
        self.cache = Some(CachedStore::new(self.store.clone(), &settings(), self.clock.clone(), control()));
        self
    }

    /// Looks up as a worker does: memory, then the store.
    pub(super) async fn find(&self, fingerprint: Fingerprint) -> Result<Option<(CredentialRecord, TenantRecord)>, StoreError> {
        Ok(self.facts(fingerprint).await?.map(|facts| (facts.credential, facts.tenant)))
    }

    /// What a look-up brings, whole.
    pub(super) async fn facts(&self, fingerprint: Fingerprint) -> Result<Option<Facts>, StoreError> {
        let Some(cache) = &self.cache else {
            let found = self.store.find(fingerprint).await?;
            return Ok(found.facts.map(|facts| Facts {
                lines: durward::base::principal::IdentityLines::default(),
                credential: facts.credential,
                tenant: facts.tenant,
                ancestors: facts.ancestors,
                roles: facts.roles,
                reading: Reading::new(BootMillis(0), found.position),
            }));
        };
        let facts = match cache.recall(&fingerprint, self.clock.now()) {
            Recalled::Present(held) => Some(Arc::clone(held.facts())),
            Recalled::Absent => None,
            Recalled::Nothing => cache.load(fingerprint, LookupOrigin::Proven).await?,
        };
        Ok(facts.map(|facts| Facts::clone(&facts)))
    }

    pub(super) fn redis_server(&self) -> &RedisServer {
        match &self.backend {
            Backend::Redis(server) => server,
            Backend::Embedded { .. } => panic!("this store is a file"),
        }
    }

    /// Ends what is behind the store.
    pub(super) fn stop(&mut self) {
        match &mut self.backend {
            Backend::Embedded { store, .. } => store.close(),
            Backend::Redis(server) => server.kill(),
        }
    }

    /// Writes these bytes where the record of a credential is, and begins anew with an empty memory.
    pub(super) async fn overwrite_credential(self, id: &str, bytes: &[u8]) -> Self {
        let cached = self.cache.is_some();
        let after = match self.backend {
            Backend::Embedded { directory, store } => {
                store.close();
                let path = directory.path().join("durward.redb");
                overwrite_in_file(&path, id, bytes);
                let store = Arc::new(EmbeddedStore::open(&path, PEPPER).unwrap());
                Self::over(store.clone(), Backend::Embedded { directory, store }, clock())
            }
            Backend::Redis(server) => {
                server.command_with_bytes(&["HSET", "{durward}:c", id], bytes);
                Self::over_redis(server).await
            }
        };
        if cached { after.with_cache() } else { after }
    }
}

pub(super) fn settings() -> CacheSettings {
    CacheSettings {
        // Far above what a loaded machine needs: these tests are not about the deadline.
        lookup_timeout: Duration::from_secs(5),
        max_age: Duration::from_secs(30),
        ..CacheSettings::default()
    }
}

pub(super) async fn open_redis(server: &RedisServer, wait_replicas: impl Into<WaitReplicas>) -> Result<RedisStore, StoreError> {
    open_redis_with(server, wait_replicas, PEPPER).await
}

pub(super) async fn open_redis_with(
    server: &RedisServer,
    wait_replicas: impl Into<WaitReplicas>,
    pepper: &PepperChecks,
) -> Result<RedisStore, StoreError> {
    open_access(
        RedisUrl::parse(&server.url().into()).unwrap().into_access(None),
        wait_replicas,
        pepper,
    )
    .await
}

pub(super) async fn open_access(
    access: RedisAccess,
    wait_replicas: impl Into<WaitReplicas>,
    pepper: &PepperChecks,
) -> Result<RedisStore, StoreError> {
    open_at(access, wait_replicas, pepper, Arc::new(SystemClock)).await
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Now {
        wall: NOW,
        boot: BootMillis(1_000_000),
    }))
}

async fn open_at(
    access: RedisAccess,
    wait_replicas: impl Into<WaitReplicas>,
    pepper: &PepperChecks,
    clock: Arc<dyn Clock>,
) -> Result<RedisStore, StoreError> {
    let settings = RedisSettings {
        access,
        key_prefix: "durward".into(),
        wait_replicas: wait_replicas.into(),
        lookup_timeout: Duration::from_secs(5),
        max_age: Duration::from_secs(30),
        peppers: pepper.clone(),
        registered: None,
    };
    RedisStore::open(settings, clock, control()).await
}

fn overwrite_in_file(path: &std::path::Path, id: &str, bytes: &[u8]) {
    let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("credentials");
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(
        transaction.open_table(table).unwrap().insert(id, bytes).unwrap().is_some(),
        "{id} was there"
    );
    transaction.commit().unwrap();
}
