//! What a simulated gateway is made of: the real parts, and what it does with them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use durward::admin::Operations;
use durward::admin::readiness::Readiness;
use durward::admin::receipts::Doubtful;
use durward::base::clock::{Clock, UnixMillis};
use durward::base::credential::Credential;
use durward::base::denial::Denial;
use durward::base::fingerprint::PepperChecks;
use durward::base::ids::{CredentialId, GatewayId};
use durward::base::scope::ScopeSet;
use durward::decide::authorize::{AccessRequest, Carried, authorize};
use durward::decide::extract::Extracted;
use durward::decide::method::Method;
use durward::issue::engine::{Engine, EngineLimits};
use durward::resolver::Resolver;
use durward::snapshot::LogInSettings;
use durward::store::announce::{Announcer, Identity};
use durward::store::cached::{CacheSettings, CachedStore};
use durward::store::redis::{
    Endpoint, RedisAccess, RedisEnvironment, RedisSettings, RedisStore, RedisUser, Registered, SentinelAccess, Servers,
};
use durward::store::{ChangeError, CredentialChange, NewRecords, RecordLimits, RecordStore, RoleChange, TenantState};

use crate::cast::{Cast, KEY_SURFACE, PEPPER_CHECK, account_id, password, role_id, scope, tenant_id};
use crate::gateway::{Change, Guide, Settings, SimulatedClock};
use crate::sentinels::{SENTINELS, SERVICE, sentinel_address};

/// Where all requests come from.
pub(super) const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Places in tables that have 65,536 in earnest: fewer are made faster, and meet more often.
const PLACES: usize = 256;

/// What a gateway is made of, once its store is open.
pub(crate) struct Parts {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) resolver: Resolver,
    pub(crate) engine: Arc<Engine>,
    pub(crate) operations: Operations,
    pub(crate) announcer: Arc<Announcer>,
}

/// What operators are told of a change that was made.
#[derive(Debug)]
pub(crate) struct Made;

impl Doubtful for Made {}

/// More than any seed makes.
const LIMITS: RecordLimits = RecordLimits {
    children: 1_000,
    credentials: 1_000,
};

fn access(guide: Guide) -> RedisAccess {
    let sentinels = || SentinelAccess {
        addresses: (0..SENTINELS)
            .map(|sentinel| Endpoint::parse_sentinel(&sentinel_address(sentinel)).unwrap())
            .collect(),
        service: SERVICE.into(),
        user: RedisUser::default(),
        tls: None,
    };
    RedisAccess {
        servers: match guide {
            Guide::One => Servers::One(Endpoint::parse("store:6379").unwrap()),
            Guide::Sentinels => Servers::Sentinels(Box::new(sentinels())),
        },
        user: RedisUser::default(),
        database: 0,
        tls: None,
    }
}

pub(crate) async fn open(cast: Rc<Cast>, around: RedisEnvironment, settings: Settings, clock: Arc<SimulatedClock>) -> Parts {
    let control = tokio::runtime::Handle::current();
    let defaults = CacheSettings::default();
    let identity = Identity {
        id: GatewayId::parse(&settings.id).unwrap(),
        run: settings.seed,
        version: "simulated".into(),
        max_age: settings.max_age,
        // There are no streams here.
        stream_interval: Duration::ZERO,
    };
    let redis = RedisSettings {
        access: access(settings.guide),
        key_prefix: "durward".into(),
        wait_replicas: settings.wait_replicas,
        lookup_timeout: defaults.lookup_timeout,
        max_age: settings.max_age,
        peppers: PepperChecks::one(PEPPER_CHECK),
        registered: Some(Registered {
            id: identity.id.clone(),
            run: identity.run,
        }),
    };
    let store = RedisStore::open_in(around, redis, clock.clone(), control.clone()).await;
    let store = Arc::new(store.expect("the store is ours"));
    let cache = CacheSettings {
        max_age: settings.max_age,
        absent_age: settings.absent_age,
        event_slots: PLACES,
        ..defaults
    };
    let cached = CachedStore::new(store.clone(), &cache, clock.clone(), control.clone());
    let log_in = LogInSettings::default();
    let limits = EngineLimits {
        log_in: &log_in,
        sign_up: log_in.hashes,
        records: LIMITS,
    };
    let engine = Engine::new(store.clone(), cast.peppers.clone(), clock.clone(), control, &limits, None);
    // After the cache: what is announced, it must have been told before.
    let announcer = Announcer::new(&cached, store.clone(), identity.clone(), clock.clone());
    announcer.introduce().await;
    tokio::spawn(Arc::clone(&announcer).run());
    Parts {
        operations: Operations {
            store: store.clone(),
            peppers: cast.peppers.clone(),
            snapshot: Arc::clone(&cast.shared),
            clock: clock.clone(),
            telemetry: Arc::clone(&cast.telemetry),
            readiness: Arc::new(Readiness::default()),
            shortage: None,
            trail: None,
            reload: Box::new(|_| Box::pin(async { Ok(()) })),
            listeners: Vec::new(),
            gateway: identity,
            probes: None,
            explainer: None,
        },
        announcer,
        engine,
        resolver: Resolver::with_table(cached, cast.peppers.clone(), clock, PLACES),
        store,
    }
}

/// What the request path does between a credential and a permit.
pub(crate) async fn decide(resolver: &Resolver, cast: &Cast, clock: &SimulatedClock, text: &str) -> Result<(String, String), Denial> {
    let surface = &cast.surfaces[0];
    let extracted = Extracted {
        surface: KEY_SURFACE,
        credential: Credential::Key(text.as_bytes()),
        mode: None,
    };
    let resolved = resolver.prove(surface, &extracted, CLIENT, clock.now()).await?;
    let request = AccessRequest {
        route: &cast.route,
        surface_index: KEY_SURFACE,
        surface,
        method: Method::Get,
        presented_mode: None,
        carried: Carried::Explicitly,
        proof: resolved.proof,
        scope_grants: &cast.snapshot.scope_grants,
    };
    let permit = authorize(&request, resolved.principal, resolved.now.wall)?;
    let credential = &permit.principal().ok_or(Denial::Internal)?.facts.credential;
    Ok((credential.id.as_str().to_owned(), credential.tenant.as_str().to_owned()))
}

pub(crate) async fn make(store: &RedisStore, change: Change, id: Option<CredentialId>, now: UnixMillis) -> Result<(), ChangeError> {
    let credential = |change| {
        let id = id.clone().expect("a change of a credential");
        async move { store.change_credential(id, change, now).await.map(drop) }
    };
    match change {
        Change::Revoke(_) => credential(CredentialChange::Revoke).await,
        Change::Disable(_) | Change::DisableAccount(_) => credential(CredentialChange::Disable).await,
        Change::Enable(_) | Change::EnableAccount(_) => credential(CredentialChange::Enable).await,
        Change::EndSessions(_) => credential(CredentialChange::EndIssued).await,
        Change::SetPassword(account, number) => {
            let changes = [CredentialChange::SetPassword(password(number)), CredentialChange::EndIssued];
            let new = NewRecords {
                changes: changes.map(|change| (account_id(account), change)).into(),
                ..NewRecords::default()
            };
            store.create(new, now).await.map(drop)
        }
        Change::SuspendTenant(tenant) => store.set_tenant_active(tenant_id(tenant), TenantState::Inactive).await.map(drop),
        Change::ResumeTenant(tenant) => store.set_tenant_active(tenant_id(tenant), TenantState::Active).await.map(drop),
        Change::NarrowRole => store
            .change_role(role_id(), RoleChange::SetScopes(ScopeSet::default()))
            .await
            .map(drop),
        Change::WidenRole => store.change_role(role_id(), RoleChange::SetScopes(scope())).await.map(drop),
    }
}
