//! A store in memory that fails on command, and operations over it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::admin::keys::CreateKey;
use crate::admin::tenants::CreateTenant;
use crate::admin::*;
use crate::base::clock::{BootMillis, ManualClock, Now, UnixMillis};
use crate::base::fingerprint::{Fingerprint, Pepper};
use crate::base::ids::{CredentialId, GatewayId, RoleId, SurfaceName, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState, Position, RoleRecord, TenantRecord};
use crate::base::scope::{Mode, Scope};
use crate::decide::headers::{HeaderPolicy, IdentityNames};
use crate::decide::method::Method;
use crate::decide::peer::PeerPolicy;
use crate::decide::route::{
    Access, CredentialForwarding, Destination, DialectIndex, PathForms, Rewrite, Route, RouteOptions, Router, Trailers, UpstreamIndex,
};
use crate::decide::scope_grants::ScopeGrants;
use crate::decide::surface::{
    ApiKeySurface, Carrier, DEFAULT_RANDOM, HalfCarriers, KeyOrigin, KeyPairSurface, KeyPrefix, SessionRecord, SessionSurface, Surface,
    SurfaceIndex, SurfaceKind,
};
use crate::snapshot::Snapshot;
use crate::store::announce::Identity;
use crate::store::{
    ChangeError, CredentialChange, CredentialFilter, EventSink, FactStore, LookupReply, MarkRoom, NewRecords, ReceiptStore, RecordStore,
    RoleChange, StoreError, StoreStatus, StoredFacts, TenantState,
};
use crate::telemetry::LineFormat;

/// A store in memory; after `fail_changes` every change of a state fails.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) credentials: Mutex<BTreeMap<CredentialId, CredentialRecord>>,
    pub(super) tenants: Mutex<BTreeMap<TenantId, TenantRecord>>,
    pub(super) roles: Mutex<BTreeMap<RoleId, RoleRecord>>,
    pub(super) steps: Mutex<Vec<String>>,
    pub(super) fail_changes: Mutex<u32>,
    /// The next creation is made and not confirmed.
    pub(super) unconfirmed: Mutex<bool>,
}

impl Memory {
    fn step(&self, text: String) {
        self.steps.lock().unwrap().push(text);
    }

    fn make(&self, new: NewRecords, now: UnixMillis) -> Result<Vec<CredentialRecord>, ChangeError> {
        if !new.changes.is_empty() {
            self.fail_if_told()?;
        }
        let mut all = self.credentials.lock().unwrap();
        for record in &new.credentials {
            self.step(format!("create {}", record.id));
            if all.values().any(|c| c.id == record.id || c.fingerprint == record.fingerprint) {
                return Err(ChangeError::Taken("it exists".into()));
            }
        }
        if let Some(id) = new.tenant {
            let record = TenantRecord {
                id: id.clone(),
                active: true,
                created_at: now,
                epoch: 1,
            };
            if self.tenants.lock().unwrap().insert(id, record).is_some() {
                return Err(ChangeError::Taken("it exists".into()));
            }
        }
        all.extend(new.credentials.iter().map(|record| (record.id.clone(), record.clone())));
        let mut written = new.credentials;
        for (id, change) in new.changes {
            self.step(format!("{change:?} {id}"));
            let record = all
                .get_mut(&id)
                .ok_or_else(|| ChangeError::NotFound(format!("credential `{id}`")))?;
            apply(record, change, now)?;
            written.push(record.clone());
        }
        if std::mem::take(&mut *self.unconfirmed.lock().unwrap()) {
            return Err(ChangeError::Unconfirmed("0 of 1 replicas".into()));
        }
        Ok(written)
    }

    fn fail_if_told(&self) -> Result<(), ChangeError> {
        let mut failing = self.fail_changes.lock().unwrap();
        let failed = *failing > 0;
        *failing = failing.saturating_sub(1);
        if failed { Err(ChangeError::NotMade(down())) } else { Ok(()) }
    }
}

fn apply(record: &mut CredentialRecord, change: CredentialChange, now: UnixMillis) -> Result<(), ChangeError> {
    if matches!(record.state, CredentialState::Revoked { .. }) && change != CredentialChange::Revoke {
        return Err(ChangeError::Conflict("it is revoked".into()));
    }
    match change {
        CredentialChange::Disable => record.state = CredentialState::Disabled,
        CredentialChange::Enable => record.state = CredentialState::Active,
        CredentialChange::Revoke => record.state = CredentialState::Revoked { at: now },
        CredentialChange::ExpireAt(at) => record.expires_at = Some(record.expires_at.map_or(at, |end| end.min(at))),
        CredentialChange::ValidAfter(at) => record.valid_after = Some(at),
        CredentialChange::EndIssued => record.valid_after = Some(now),
        CredentialChange::SetRoles(roles) => record.extras_mut().roles = roles,
        CredentialChange::SetScopes(scopes) => record.scopes = scopes,
        CredentialChange::SetPassword(hash) => record.extras_mut().password = Some(hash),
        CredentialChange::SetSettings(settings) => record.extras_mut().settings = Some(settings),
        CredentialChange::SetName(name) => record.name = Some(name),
    }
    Ok(())
}

pub(super) fn down() -> StoreError {
    StoreError::Unavailable("the test says so".into())
}

impl FactStore for Memory {
    fn find(&self, fingerprint: Fingerprint) -> BoxFuture<'_, Result<LookupReply, StoreError>> {
        let found = self
            .credentials
            .lock()
            .unwrap()
            .values()
            .find(|c| c.fingerprint == fingerprint)
            .cloned();
        let facts = found.and_then(|credential| {
            Some(StoredFacts {
                tenant: self.tenants.lock().unwrap().get(&credential.tenant)?.clone(),
                credential,
                ancestors: Vec::new(),
                roles: Vec::new(),
            })
        });
        Box::pin(async move {
            Ok(LookupReply {
                position: Position(1),
                facts,
                primary_at: None,
                history_proven: false,
            })
        })
    }

    fn subscribe(&self, _: Arc<dyn EventSink>) {}

    fn probe(&self, _: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn status(&self) -> StoreStatus {
        StoreStatus {
            reader: crate::store::events::ReaderState::Live,
            applied: Position(1),
            heard_at: BootMillis(0),
            revalidated_at: BootMillis(0),
        }
    }
}

impl RecordStore for Memory {
    fn time(&self) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        Box::pin(async { Ok(UnixMillis(NOW)) })
    }

    fn find_credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<CredentialRecord>, StoreError>> {
        let found = self.credentials.lock().unwrap().get(&id).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn list_credentials(&self, filter: CredentialFilter) -> BoxFuture<'_, Result<Vec<CredentialRecord>, StoreError>> {
        let all = self.credentials.lock().unwrap();
        let found = all
            .values()
            .filter(|c| filter.admits(c))
            .filter(|c| filter.after.as_ref().is_none_or(|a| c.id > *a))
            .take(filter.limit)
            .cloned()
            .collect();
        Box::pin(async move { Ok(found) })
    }

    fn find_tenant(&self, id: TenantId) -> BoxFuture<'_, Result<Option<TenantRecord>, StoreError>> {
        let found = self.tenants.lock().unwrap().get(&id).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn list_tenants(&self, after: Option<TenantId>, limit: usize) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>> {
        let all = self.tenants.lock().unwrap();
        let found = all
            .values()
            .filter(|t| after.as_ref().is_none_or(|a| t.id > *a))
            .take(limit)
            .cloned()
            .collect();
        Box::pin(async move { Ok(found) })
    }

    fn create(&self, new: NewRecords, now: UnixMillis) -> BoxFuture<'_, Result<Vec<CredentialRecord>, ChangeError>> {
        let made = self.make(new, now);
        Box::pin(async move { made })
    }

    fn change_credential(
        &self,
        id: CredentialId,
        change: CredentialChange,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        if let Err(error) = self.fail_if_told() {
            return Box::pin(async { Err(error) });
        }
        self.step(format!("{change:?} {id}"));
        let mut all = self.credentials.lock().unwrap();
        let changed = all.get_mut(&id).ok_or_else(|| ChangeError::NotFound(format!("credential `{id}`")));
        let changed = changed.and_then(|record| apply(record, change, now).map(|()| record.clone()));
        Box::pin(async move { changed })
    }

    fn set_tenant_active(&self, id: TenantId, state: TenantState) -> BoxFuture<'_, Result<TenantRecord, ChangeError>> {
        let mut all = self.tenants.lock().unwrap();
        let changed = all
            .get_mut(&id)
            .ok_or_else(|| ChangeError::NotFound(format!("tenant `{id}`")))
            .map(|t| {
                t.active = state == TenantState::Active;
                t.clone()
            });
        Box::pin(async move { changed })
    }

    fn touch(&self, _: Vec<(CredentialId, UnixMillis)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn take_once(&self, _: Fingerprint, _: UnixMillis, _: MarkRoom) -> BoxFuture<'_, Result<bool, ChangeError>> {
        Box::pin(async { Err(ChangeError::Conflict("no operation takes marks".into())) })
    }

    fn create_role(&self, role: RoleRecord) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        self.roles.lock().unwrap().insert(role.id.clone(), role.clone());
        Box::pin(async move { Ok(role) })
    }

    fn change_role(&self, id: RoleId, change: RoleChange) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        let mut all = self.roles.lock().unwrap();
        let changed = all.get_mut(&id).ok_or_else(|| ChangeError::NotFound(format!("role `{id}`")));
        let changed = changed.map(|role| {
            match change {
                RoleChange::SetScopes(scopes) => role.scopes = scopes,
                RoleChange::Rename { name, description } => (role.name, role.description) = (name, description),
            }
            role.clone()
        });
        Box::pin(async move { changed })
    }

    fn delete_role(&self, id: RoleId) -> BoxFuture<'_, Result<(), ChangeError>> {
        let deleted = self.roles.lock().unwrap().remove(&id).map(|_| ());
        Box::pin(async move { deleted.ok_or_else(|| ChangeError::NotFound(format!("role `{id}`"))) })
    }

    fn find_role(&self, id: RoleId) -> BoxFuture<'_, Result<Option<RoleRecord>, StoreError>> {
        let found = self.roles.lock().unwrap().get(&id).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn list_roles(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<RoleRecord>, StoreError>> {
        let all = self.roles.lock().unwrap();
        let found = all.values().filter(|role| role.tenant.as_ref() == Some(&tenant)).cloned().collect();
        Box::pin(async move { Ok(found) })
    }
}

impl ReceiptStore for Memory {}

pub(super) const NOW: i64 = 1_795_307_838_000;

pub(super) fn prefix(text: &str, mode: Option<Mode>) -> KeyPrefix {
    KeyPrefix { text: text.into(), mode }
}

pub(super) fn surface(name: &str, kind: SurfaceKind) -> Surface {
    Surface {
        name: SurfaceName::parse(name).unwrap(),
        kind,
        mode: None,
    }
}

pub(super) fn surfaces() -> Vec<Surface> {
    let both = |t: &str, l: &str| vec![prefix(t, Some(Mode::Test)), prefix(l, Some(Mode::Live))];
    let rules = crate::decide::token::TokenRules {
        id: crate::decide::token::RulesId::unique(),
        keys: crate::decide::token::TokenKeys::new([[1; 32]]).unwrap(),
        kind: "k".into(),
        issuer: None,
        audience: None,
        skew: Duration::ZERO,
        scopes_claim: None,
        claim_headers: Vec::new(),
    };
    vec![
        surface(
            "api",
            SurfaceKind::ApiKey(ApiKeySurface {
                carriers: vec![Carrier::BEARER],
                prefixes: both("htst_", "hlive_"),
                keys: KeyOrigin::Generated,
                random: DEFAULT_RANDOM,
                claim_headers: Vec::new(),
            }),
        ),
        surface(
            "pair",
            SurfaceKind::KeyPair(KeyPairSurface {
                halves: HalfCarriers::Headers {
                    key: "x-api-key".into(),
                    secret: "x-api-secret".into(),
                },
                key_prefixes: both("pk_test_", "pk_live_"),
                secret_prefixes: both("sk_test_", "sk_live_"),
                keys: KeyOrigin::Imported,
            }),
        ),
        surface(
            "old",
            SurfaceKind::ApiKey(ApiKeySurface {
                carriers: vec![Carrier::BEARER],
                prefixes: vec![prefix("old_", None)],
                keys: KeyOrigin::Imported,
                random: DEFAULT_RANDOM,
                claim_headers: Vec::new(),
            }),
        ),
        surface(
            "portal",
            SurfaceKind::Session(SessionSurface {
                carriers: vec![Carrier::BEARER],
                rules: Box::new(rules),
                record: SessionRecord::Sub(SurfaceName::parse("api").unwrap()),
                minting: None,
            }),
        ),
    ]
}

pub(super) fn route(surface: usize, scope: &str) -> Route {
    Route {
        name: "r".into(),
        hosts: Vec::new(),
        methods: vec![Method::Get],
        pattern: "/".into(),
        access: Access::Surfaces {
            surfaces: vec![SurfaceIndex(surface)],
            scopes: [Scope::parse(scope).unwrap()].into_iter().collect(),
        },
        destination: Destination::Upstream(UpstreamIndex(0)),
        rewrite: Rewrite::Keep,
        dialect: DialectIndex(0),
        options: RouteOptions {
            upgrade: crate::decide::route::Upgrade::Dropped,
            audit: crate::decide::audit::RouteAudit::default(),
            report_only: false,
            tenant_segment: None,
            max_body: 1,
            response_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            path_forms: PathForms::NONE,
            trailers: Trailers::Dropped,
            credentials: CredentialForwarding::Removed,
        },
        limits: crate::decide::rate::RouteLimits::default(),
    }
}

pub(super) fn operations() -> (Arc<Memory>, Operations) {
    let surfaces = surfaces();
    let snapshot = Snapshot {
        served_routes: Vec::new(),
        scope_grants: ScopeGrants::default(),
        cors: crate::decide::cors::Cors::default(),
        headers: HeaderPolicy::new(IdentityNames::default(), &surfaces),
        surfaces,
        dialects: Vec::new(),
        default_dialect: DialectIndex(0),
        upstreams: Vec::new(),
        routes: vec![route(0, "orders:read"), route(3, "portal:view"), route(1, "orders:read")],
        router: Router::default(),
        peers: PeerPolicy::default(),
        certificates: Vec::new(),
        audit: crate::decide::audit::AuditPolicy::default(),
        sign_on: None,
    };
    let store = Arc::new(Memory::default());
    let now = Now {
        wall: UnixMillis(NOW),
        ..Now::default()
    };
    let operations = Operations {
        store: Arc::clone(&store) as Arc<dyn CredentialStore>,
        peppers: Peppers::new(vec![pepper()]).unwrap(),
        snapshot: Arc::new(SharedSnapshot::new(snapshot)),
        clock: Arc::new(ManualClock::new(now)),
        telemetry: Telemetry::new(LineFormat::Off, None),
        readiness: Arc::default(),
        listeners: Vec::new(),
        gateway: identity(),
        probes: None,
        explainer: None,
        shortage: None,
        trail: None,
        reload: Box::new(|_| Box::pin(async { Err("gateway.toml:1:1: wrong".into()) })),
    };
    (store, operations)
}

fn identity() -> Identity {
    Identity {
        id: GatewayId::parse("gw-test").unwrap(),
        run: 1,
        version: "test".into(),
        max_age: Duration::from_secs(30),
        stream_interval: Duration::from_secs(15),
    }
}

pub(super) fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

pub(super) async fn with_acme() -> (Arc<Memory>, Operations) {
    let (store, operations) = operations();
    operations.create_tenant(&CreateTenant { id: "acme".into() }).await.unwrap();
    (store, operations)
}

pub(super) fn key(surface: &str) -> CreateKey {
    CreateKey {
        surface: surface.into(),
        tenant: "acme".into(),
        mode: Some("live".into()),
        scopes: vec!["orders:read".into()],
        ..CreateKey::default()
    }
}
