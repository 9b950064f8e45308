//! The engine over an embedded store: what each action makes, refuses and leaves alone.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;
use crate::base::clock::{BootMillis, ManualClock, Now};
use crate::base::fingerprint::{CredentialPart, Fingerprint, Pepper};
use crate::base::ids::{CredentialId, SurfaceName};
use crate::base::principal::{ClaimValue, Facts, Principal, Reading, Roles};
use crate::base::scope::{Mode, Scope};
use crate::decide::headers::{HeaderPolicy, IdentityNames};
use crate::decide::peer::PeerPolicy;
use crate::decide::route::{DialectIndex, Router, ServedRouteIndex};
use crate::decide::samples;
use crate::decide::scope_grants::ScopeGrants;
use crate::decide::surface::{
    AccountSurface, ApiKeySurface, Carrier, CookieSpec, KeyOrigin, KeyPrefix, Minting, SameSite, SessionRecord, SessionSurface, Surface,
    SurfaceIndex, SurfaceKind,
};
use crate::dialect::answer::{AnswerNames, AnswerSubject, AnswerTemplate, CallerPresence};
use crate::issue::body::ParsedBody;
use crate::issue::call::{AdmittedCaller, PathValues};
use crate::issue::fields::CheckedBody;
use crate::snapshot::Snapshot;
use crate::snapshot::body_schema::{BodySchema, FieldKind, FieldMessages, FieldPresence, FieldSpec, TextFormat};
use crate::snapshot::provider_route::ProviderOperation;
use crate::snapshot::served_route::{
    AnswerSpec, Extent, Mint, MintLifetime, ModeSource, ParentSource, Reach, RecordFact, ScopeSource, ServedRoute, Sessions, TenantSource,
    TextOrList,
};
use crate::store::embedded::EmbeddedStore;

mod keys;
mod people;
mod providers;
mod sign_on;
mod sign_on_records;
mod sign_on_renewal;

const NOW: UnixMillis = UnixMillis(1_700_000_000_250);
const LIMITS: RecordLimits = RecordLimits {
    children: 10,
    credentials: 1_000,
};
const KEY: SurfaceIndex = SurfaceIndex(0);
const PAIR: SurfaceIndex = SurfaceIndex(1);
const ACCOUNT: SurfaceIndex = SurfaceIndex(2);
/// Sessions without a record of their own.
const DASHBOARD: SurfaceIndex = SurfaceIndex(3);
/// Sessions with one, and a cookie.
const SESSION: SurfaceIndex = SurfaceIndex(4);

fn scopes(words: &str) -> ScopeSet {
    words
        .split(' ')
        .filter(|w| !w.is_empty())
        .map(|w| Scope::parse(w).unwrap())
        .collect()
}

fn surfaces() -> Vec<Surface> {
    let session = |name: &str, secret: u8, record, cookie: bool| {
        let mut rules = samples::token_rules(&[secret; 32], name);
        rules.scopes_claim = None;
        Surface {
            name: SurfaceName::parse(name).unwrap(),
            kind: SurfaceKind::Session(SessionSurface {
                carriers: vec![Carrier::BEARER],
                rules: Box::new(rules),
                record,
                minting: Some(Box::new(Minting {
                    lifetime: Duration::from_secs(900),
                    cookie: cookie.then(|| CookieSpec {
                        name: "__Host-s".into(),
                        same_site: SameSite::Lax,
                        path: "/".into(),
                        max_age: None,
                    }),
                    refresh: None,
                })),
            }),
            mode: None,
        }
    };
    let prefix = |text: &str, mode| KeyPrefix::parse(text, Some(mode)).unwrap();
    let key = Surface {
        name: SurfaceName::parse("key").unwrap(),
        kind: SurfaceKind::ApiKey(ApiKeySurface {
            carriers: vec![Carrier::BEARER],
            prefixes: vec![prefix("ktest_", Mode::Test), prefix("klive_", Mode::Live)],
            keys: KeyOrigin::Generated,
            random: 43,
            claim_headers: Vec::new(),
        }),
        mode: None,
    };
    let account = Surface {
        name: SurfaceName::parse("account").unwrap(),
        kind: SurfaceKind::Account(AccountSurface { fields: None }),
        mode: None,
    };
    vec![
        key,
        samples::key_pair("pair"),
        account,
        session("dashboard", 1, SessionRecord::Sub(SurfaceName::parse("account").unwrap()), false),
        session("session", 2, SessionRecord::Own, true),
    ]
}

/// A mint of nothing in particular.
fn mint(surface: SurfaceIndex) -> Mint {
    Mint {
        surface,
        parent: ParentSource::None,
        subject: None,
        name: None,
        description: None,
        login: None,
        password: None,
        mode: ModeSource::Caller,
        scopes: ScopeSource::None,
        grants: ScopeSet::default(),
        roles: None,
        claims: Vec::new(),
        lifetime: MintLifetime::default(),
        idle: None,
    }
}

fn minting(mints: Vec<Mint>) -> Action {
    Action::Mint {
        tenant: TenantSource::Caller,
        mints,
        cookie: None,
    }
}

fn field(name: &str, kind: FieldKind) -> FieldSpec {
    FieldSpec {
        name: name.into(),
        kind,
        presence: FieldPresence::Optional,
        one_of: Vec::new(),
        messages: FieldMessages::default(),
    }
}

fn fields() -> Vec<FieldSpec> {
    let text = |name| {
        field(
            name,
            FieldKind::Text {
                min: 0,
                max: 500,
                format: TextFormat::Any,
            },
        )
    };
    vec![
        text("name"),
        text("mode"),
        text("subject"),
        text("email"),
        text("role"),
        text("provider"),
        text("return_to"),
        field("password", FieldKind::Secret { min: 0, max: 2000 }),
        field("new_password", FieldKind::Secret { min: 0, max: 2000 }),
        field("expires_in", FieldKind::Integer { min: 1, max: i64::MAX }),
        field("scopes", FieldKind::TextList { max_items: 20, max: 64 }),
        field("role_ids", FieldKind::TextList { max_items: 20, max: 64 }),
    ]
}

/// The body of `serve = "providers"`, as the configuration makes it.
fn provider_fields() -> Vec<FieldSpec> {
    let list = FieldKind::TextList { max_items: 20, max: 64 };
    let secret = FieldKind::Secret { min: 0, max: 2000 };
    let name = FieldKind::Text {
        min: 0,
        max: 200,
        format: TextFormat::Any,
    };
    vec![
        field("name", name.clone()),
        field("scopes", list.clone()),
        field("roles", list),
        field("settings", FieldKind::Any { max: 60_000, depth: 8 }),
        field("metadata", FieldKind::Any { max: 60_000, depth: 1 }),
        field("metadata_url", name.clone()),
        field("secrets", FieldKind::Object),
        field("secrets.client_secret", secret.clone()),
        field("secrets.private_key", secret),
    ]
}

/// A store with a tenant, an engine over it, and the caller's record.
struct Bench {
    engine: Arc<Engine>,
    store: Arc<dyn CredentialStore>,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

/// What a caller asks for.
#[derive(Default)]
struct Asking<'a> {
    caller: Option<(SurfaceIndex, &'a CredentialRecord)>,
    path: (&'a str, &'a str),
    body: &'a str,
    replaced: Option<CredentialId>,
}

fn peppers() -> Peppers {
    Peppers::new(vec![Pepper::new(&[7; 32]).unwrap()]).unwrap()
}

fn engine(store: &Arc<dyn CredentialStore>, peppers: Peppers, clock: &Arc<ManualClock>) -> Arc<Engine> {
    let log_in = LogInSettings::default();
    let limits = EngineLimits {
        log_in: &log_in,
        sign_up: log_in.hashes,
        records: LIMITS,
    };
    Engine::new(store.clone(), peppers, clock.clone(), Handle::current(), &limits, None)
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Now {
            wall: NOW,
            boot: BootMillis(1_000),
        }));
        let store = EmbeddedStore::open_with(&folder.path().join("store.redb"), &peppers().checks(), clock.clone()).unwrap();
        let store: Arc<dyn CredentialStore> = Arc::new(store);
        for tenant in ["acme", "other"] {
            store.create_tenant(TenantId::parse(tenant).unwrap(), NOW).await.unwrap();
        }
        let engine = engine(&store, peppers(), &clock);
        Self {
            engine,
            store,
            clock,
            _folder: folder,
        }
    }

    /// Stores a record like a CLI would.
    async fn record(&self, surface: &str, id: &str, change: impl FnOnce(&mut CredentialRecord)) -> CredentialRecord {
        let mut record = samples::facts(surface, id, "acme").credential;
        record.scopes = ScopeSet::default();
        record.mode = None;
        record.subject = None;
        record.created_at = NOW;
        record.fingerprint = Fingerprint::of_id(&record.surface, &record.id);
        record.secret_fingerprint = None;
        change(&mut record);
        self.store.create_credential(record).await.unwrap()
    }

    async fn facts(&self, record: &CredentialRecord) -> Arc<Facts> {
        let found = self.store.find(Fingerprint::of_id(&record.surface, &record.id)).await.unwrap();
        let facts = found.facts.unwrap();
        Arc::new(Facts {
            lines: crate::base::principal::IdentityLines::default(),
            credential: facts.credential,
            tenant: facts.tenant,
            ancestors: facts.ancestors,
            roles: facts.roles,
            reading: Reading::new(BootMillis(1_000), found.position),
        })
    }

    async fn run(&self, action: Action, asking: Asking<'_>) -> Result<(Issued, Json), IssueError> {
        self.run_with(action, asking, None).await
    }

    /// The same with a query.
    async fn run_with(&self, action: Action, asking: Asking<'_>, query: Option<&str>) -> Result<(Issued, Json), IssueError> {
        let call = self.call(action, asking, query).await?;
        let issued = self.engine.serve(call).await?;
        let told = serde_json::from_slice(issued.body.as_deref().unwrap()).unwrap();
        Ok((issued, told))
    }

    async fn call(&self, action: Action, asking: Asking<'_>, query: Option<&str>) -> Result<ServedCall, IssueError> {
        let names = AnswerNames {
            subject: AnswerSubject::Credential,
            caller: CallerPresence::Present,
            path: vec!["id".into()],
            ..AnswerNames::default()
        };
        let listing = AnswerNames {
            subject: AnswerSubject::Credentials,
            ..AnswerNames::default()
        };
        let of = |subject| AnswerNames {
            subject,
            ..AnswerNames::default()
        };
        let template = match &action {
            Action::Providers(route) => match route.operation {
                ProviderOperation::List => AnswerTemplate::parse("{{ items }}", &of(AnswerSubject::Providers)),
                ProviderOperation::Test(_) => AnswerTemplate::parse("{{ test }}", &of(AnswerSubject::ProviderTest)),
                _ => AnswerTemplate::parse("{{ provider }}", &of(AnswerSubject::Provider)),
            },
            action if action.changes() => AnswerTemplate::parse("{{ minted }}", &names),
            _ => AnswerTemplate::parse("{{ items }}", &listing),
        };
        let fields = match &action {
            Action::Providers(_) => provider_fields(),
            _ => fields(),
        };
        let served_route = ServedRoute {
            action,
            body: BodySchema {
                fields,
                ..BodySchema::default()
            },
            answer: AnswerSpec {
                status: 200,
                body: Some(template.unwrap()),
                headers: Vec::new(),
            },
            hook: None,
        };
        let checked = CheckedBody::check(&served_route.body, ParsedBody::parse(asking.body.as_bytes()).unwrap())?;
        let caller = match asking.caller {
            None => None,
            Some((surface, record)) => Some(AdmittedCaller {
                surface,
                principal: Principal::new(self.facts(record).await, None),
                ends_at: record.expires_at,
            }),
        };
        Ok(ServedCall {
            snapshot: Arc::new(snapshot(served_route)),
            served_route: ServedRouteIndex(0),
            caller,
            path: PathValues::read(asking.path.0, asking.path.1),
            query: query.map(str::to_owned),
            body: Arc::new(checked),
            replaced: asking.replaced,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            request_id: "r-1".into(),
            hook: Arc::default(),
            browser: None,
        })
    }

    /// How many records the store has on a surface.
    async fn count(&self, surface: &str) -> usize {
        let filter = crate::store::CredentialFilter {
            surface: Some(SurfaceName::parse(surface).unwrap()),
            limit: 1_000,
            ..crate::store::CredentialFilter::default()
        };
        self.store.list_credentials(filter).await.unwrap().len()
    }

    async fn find(&self, id: &str) -> CredentialRecord {
        self.store.find_credential(CredentialId::parse(id).unwrap()).await.unwrap().unwrap()
    }
}

fn snapshot(served_route: ServedRoute) -> Snapshot {
    let role = |name: &str, words: &str| RoleRecord {
        id: RoleId::of_name(name),
        tenant: None,
        name: name.into(),
        description: None,
        scopes: scopes(words),
        created_at: UnixMillis(0),
        epoch: 0,
    };
    let surfaces = surfaces();
    Snapshot {
        cors: crate::decide::cors::Cors::default(),
        headers: HeaderPolicy::new(IdentityNames::default(), &surfaces),
        surfaces,
        served_routes: vec![served_route],
        scope_grants: ScopeGrants::new(Roles::new([role("viewer", "read"), role("admin", "read write keys")]), []),
        dialects: Vec::new(),
        default_dialect: DialectIndex(0),
        upstreams: Vec::new(),
        routes: Vec::new(),
        router: Router::default(),
        peers: PeerPolicy::default(),
        certificates: Vec::new(),
        audit: crate::decide::audit::AuditPolicy::default(),
        sign_on: None,
    }
}
