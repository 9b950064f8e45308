//! Who takes part: tenants, keys, roles, and the surface and route they are judged for.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::UnixMillis;
use durward::base::fingerprint::{CredentialPart, Fingerprint, Pepper, PepperCheck, Peppers};
use durward::base::ids::{CredentialId, RoleId, SurfaceName, TenantId};
use durward::base::login::login_fingerprint;
use durward::base::principal::{CredentialRecord, CredentialState, Parent, PasswordHash, RoleRecord};
use durward::base::scope::{Mode, Scope, ScopeSet};
use durward::decide::method::Method;
use durward::decide::rate::RouteLimits;
use durward::decide::route::{
    Access, CredentialForwarding, Destination, DialectIndex, PathForms, Rewrite, Route, RouteOptions, Trailers, Upgrade, UpstreamIndex,
};
use durward::decide::surface::{
    AccountSurface, ApiKeySurface, Carrier, DEFAULT_RANDOM, KeyOrigin, KeyPrefix, Surface, SurfaceIndex, SurfaceKind,
};
use durward::snapshot::{SharedSnapshot, Snapshot};
use durward::telemetry::{LineFormat, Telemetry};

use crate::served;

/// The wall clock when a simulation begins.
pub(crate) const EPOCH: UnixMillis = UnixMillis(1_800_000_000_000);

/// What every gateway's pepper hashes to, as far as the store cares.
pub(crate) const PEPPER_CHECK: PepperCheck = PepperCheck::from_bytes([7; 32]);

/// The tenants.
pub(crate) const TENANTS: [&str; 2] = ["acme", "globex"];

/// The role of the store that some keys live by.
pub(crate) const ROLE: &str = "clerk";

/// A key that callers present, by its number in [`KEYS`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Of [`TENANTS`]; none for a key that nobody was ever given.
    pub(crate) tenant: Option<usize>,
    /// Of [`KEYS`].
    pub(crate) parent: Option<usize>,
    pub(crate) grant: Grant,
}

/// Where a key has its scope from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    Own,
    Role,
}

const fn key(name: &'static str, tenant: usize, parent: Option<usize>, grant: Grant) -> Key {
    Key {
        name,
        tenant: Some(tenant),
        parent,
        grant,
    }
}

const fn unknown(name: &'static str) -> Key {
    Key {
        name,
        tenant: None,
        parent: None,
        grant: Grant::Own,
    }
}

/// Every key, known and unknown ones; a parent stands before its children.
pub(crate) const KEYS: [Key; 9] = [
    key("plain-a", 0, None, Grant::Own),
    key("plain-b", 1, None, Grant::Own),
    key("calm-b", 1, None, Grant::Own),
    key("parent-a", 0, None, Grant::Own),
    key("child-a", 0, Some(3), Grant::Own),
    key("clerk-a", 0, None, Grant::Role),
    key("clerk-b", 1, None, Grant::Own),
    unknown("nobody-1"),
    unknown("nobody-2"),
];

/// Keys that exist.
pub(crate) const KNOWN: usize = 7;

/// The one that no change is ever about: it is refused by nobody at no time.
pub(crate) const CALM: usize = 2;

/// Surfaces: what callers present, and what logs in.
pub(crate) const KEY_SURFACE: SurfaceIndex = SurfaceIndex(0);
pub(crate) const ACCOUNT_SURFACE: SurfaceIndex = SurfaceIndex(1);

/// Who logs in: of which tenant, and where the account has its scope from.
pub(crate) const ACCOUNTS: [(usize, Grant); 2] = [(0, Grant::Role), (1, Grant::Own)];

/// What never changes, made once for each thread.
pub(crate) struct Cast {
    pub(crate) surfaces: Vec<Surface>,
    pub(crate) route: Route,
    /// Of served calls that need the scope.
    pub(crate) serving: Route,
    /// Of those that need none.
    pub(crate) open: Route,
    pub(crate) log_in: Route,
    pub(crate) snapshot: Arc<Snapshot>,
    /// The same for operators.
    pub(crate) shared: Arc<SharedSnapshot>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) texts: Vec<String>,
    pub(crate) fingerprints: Vec<Fingerprint>,
    /// The same as the store indexes them.
    pub(crate) hex: Vec<String>,
    pub(crate) peppers: Peppers,
}

impl Cast {
    pub(crate) fn new() -> Self {
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let texts: Vec<String> = KEYS.iter().map(|key| format!("hlive_{}", key.name)).collect();
        let fingerprints: Vec<Fingerprint> = texts
            .iter()
            .map(|text| pepper.fingerprint(&surface_name(), CredentialPart::Key, text.as_bytes()))
            .collect();
        Self {
            route: route(Method::Get, KEY_SURFACE, scope()),
            serving: route(Method::Post, KEY_SURFACE, scope()),
            open: route(Method::Post, KEY_SURFACE, ScopeSet::default()),
            log_in: route(Method::Post, ACCOUNT_SURFACE, ScopeSet::default()),
            snapshot: Arc::new(served::snapshot(surfaces())),
            shared: Arc::new(SharedSnapshot::new(served::snapshot(surfaces()))),
            telemetry: Telemetry::new(LineFormat::Off, None),
            surfaces: surfaces(),
            hex: fingerprints.iter().map(|fingerprint| fingerprint.to_hex()).collect(),
            fingerprints,
            texts,
            peppers: Peppers::new(vec![pepper]).unwrap(),
        }
    }

    pub(crate) fn record(&self, index: usize) -> CredentialRecord {
        let key = KEYS[index];
        let scopes = if key.grant == Grant::Own { scope() } else { ScopeSet::default() };
        let mut record = CredentialRecord {
            id: credential_id(index),
            surface: surface_name(),
            tenant: tenant_id(key.tenant.unwrap()),
            subject: None,
            mode: Some(Mode::Live),
            scopes,
            state: CredentialState::Active,
            fingerprint: self.fingerprints[index],
            secret_fingerprint: None,
            prefix: "hlive_".into(),
            last4: "wxyz".into(),
            name: None,
            created_at: EPOCH,
            not_before: None,
            expires_at: None,
            valid_after: None,
            epoch: 1,
            pepper: None,
            extras: None,
        };
        if key.grant == Grant::Role {
            record.extras_mut().roles = vec![role_id()];
        }
        if let Some(parent) = key.parent {
            record.extras_mut().parent = Some(Parent {
                surface: surface_name(),
                id: credential_id(parent),
            });
        }
        record
    }

    /// An account's record, with its first password.
    pub(crate) fn account(&self, index: usize) -> CredentialRecord {
        let (tenant, grant) = ACCOUNTS[index];
        let surface = SurfaceName::parse("account").unwrap();
        let mut record = CredentialRecord {
            id: account_id(index),
            tenant: tenant_id(tenant),
            mode: None,
            scopes: if grant == Grant::Own { scope() } else { ScopeSet::default() },
            fingerprint: login_fingerprint(self.peppers.first(), &surface, &email(index)),
            surface,
            prefix: String::new(),
            last4: String::new(),
            ..self.record(CALM)
        };
        let extras = record.extras_mut();
        extras.login = Some(email(index));
        extras.password = Some(password(0));
        if grant == Grant::Role {
            extras.roles = vec![role_id()];
        }
        record
    }
}

pub(crate) fn account_id(index: usize) -> CredentialId {
    CredentialId::parse(&format!("account-{index}")).unwrap()
}

pub(crate) fn email(index: usize) -> String {
    format!("person{index}@example.com")
}

/// What stands for the hash of an account's password of this number: nothing is hashed here.
pub(crate) fn password(number: u64) -> PasswordHash {
    PasswordHash::parse(&format!("$password${number}")).unwrap()
}

pub(crate) fn credential_id(index: usize) -> CredentialId {
    CredentialId::parse(KEYS[index].name).unwrap()
}

pub(crate) fn tenant_id(index: usize) -> TenantId {
    TenantId::parse(TENANTS[index]).unwrap()
}

pub(crate) fn role_id() -> RoleId {
    RoleId::of_name(ROLE)
}

pub(crate) fn role() -> RoleRecord {
    RoleRecord {
        id: role_id(),
        tenant: Some(tenant_id(0)),
        name: ROLE.into(),
        description: None,
        scopes: scope(),
        created_at: EPOCH,
        epoch: 1,
    }
}

/// What the route asks for.
pub(crate) fn scope() -> ScopeSet {
    std::iter::once(Scope::parse("orders:read").unwrap()).collect()
}

fn surface_name() -> SurfaceName {
    SurfaceName::parse("api").unwrap()
}

fn surfaces() -> Vec<Surface> {
    let key = Surface {
        name: surface_name(),
        kind: SurfaceKind::ApiKey(ApiKeySurface {
            carriers: vec![Carrier::BEARER],
            prefixes: vec![KeyPrefix::parse("hlive_", Some(Mode::Live)).unwrap()],
            keys: KeyOrigin::Generated,
            random: DEFAULT_RANDOM,
            claim_headers: Vec::new(),
        }),
        mode: None,
    };
    let account = Surface {
        name: SurfaceName::parse("account").unwrap(),
        kind: SurfaceKind::Account(AccountSurface { fields: None }),
        mode: None,
    };
    vec![key, account]
}

fn route(method: Method, surface: SurfaceIndex, scopes: ScopeSet) -> Route {
    Route {
        name: "orders".into(),
        hosts: Vec::new(),
        methods: vec![method],
        pattern: "/orders".into(),
        access: Access::Surfaces {
            surfaces: vec![surface],
            scopes,
        },
        destination: Destination::Upstream(UpstreamIndex(0)),
        rewrite: Rewrite::Keep,
        dialect: DialectIndex(0),
        options: RouteOptions {
            audit: durward::decide::audit::RouteAudit::default(),
            report_only: false,
            tenant_segment: None,
            max_body: 0,
            response_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            path_forms: PathForms::NONE,
            trailers: Trailers::Dropped,
            credentials: CredentialForwarding::Removed,
            upgrade: Upgrade::Dropped,
        },
        limits: RouteLimits::default(),
    }
}
