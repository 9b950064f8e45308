//! A served call at a simulated gateway: judged, held up, judged again and made by the real issuers, in the
//! order in which `gateway/serve.rs` does it.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::Clock;
use durward::base::credential::Credential;
use durward::base::denial::Denial;
use durward::base::principal::{Facts, Principal, Roles};
use durward::base::scope::{Mode, ScopeSet};
use durward::decide::authorize::{AccessRequest, Carried, Permit, Proof, Reauthorization, authorize, reauthorize};
use durward::decide::extract::Extracted;
use durward::decide::headers::{HeaderPolicy, IdentityNames};
use durward::decide::method::Method;
use durward::decide::peer::PeerPolicy;
use durward::decide::route::{DialectIndex, Route, Router, ServedRouteIndex};
use durward::decide::scope_grants::ScopeGrants;
use durward::decide::surface::SurfaceIndex;
use durward::dialect::answer::{AnswerNames, AnswerSubject, AnswerTemplate, CallerPresence as Called};
use durward::issue::body::ParsedBody;
use durward::issue::call::{AdmittedCaller, PathValues, ServedCall};
use durward::issue::engine::Engine;
use durward::issue::fields::CheckedBody;
use durward::resolver::{CachedFacts, Resolver};
use durward::snapshot::Snapshot;
use durward::snapshot::body_schema::{BodySchema, FieldKind, FieldMessages, FieldPresence, FieldSpec, TextFormat};
use durward::snapshot::served_route::{
    Action, AnswerSpec, Extent, Mint, MintLifetime, ModeSource, ParentSource, Reach, ScopeSource, ServedRoute, TenantSource, ValueSource,
};

use crate::cast::{ACCOUNT_SURFACE, Cast, KEY_SURFACE, email};
use crate::parts::CLIENT;

/// How often a call is judged whose ground moves under it, as in `gateway/serve.rs`.
const JUDGEMENTS: usize = 3;

/// What a call asks for; its number is that of the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A key that hangs on the caller.
    Child,
    /// A key that hangs on nothing.
    Free,
    /// A session of an account, which hangs on it.
    LogIn,
    /// Another key in the place of one.
    Rotate,
    /// The end of a key.
    Revoke,
    /// The end of all sessions of the account that the caller hangs on.
    LogOut,
    /// What keys there are.
    List,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// Whoever presents this key.
    Key(Rc<str>),
    /// Whoever logs in to this account with this password.
    Account(usize, Rc<str>),
}

/// A call of a served route.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) who: Who,
    pub(crate) asked: Asked,
    /// How long its body, or the hash of its password, takes.
    pub(crate) held: u64,
    /// Id of the key it is about.
    pub(crate) target: Option<String>,
}

impl Ask {
    /// What a record that this call makes is called, so that whoever sees it written knows why.
    pub(crate) fn name(&self) -> String {
        format!("call-{}", self.number)
    }
}

/// Id and text of what was made; nothing where nothing was.
pub(crate) type Told = Option<(String, Rc<str>)>;

/// What became of a call, and when its body or its hash was there, in true time.
pub(crate) struct Served {
    pub(crate) there: u64,
    pub(crate) outcome: Result<Told, Denial>,
}

/// What serves a call at a gateway.
pub(crate) struct Desk<'g> {
    pub(crate) cast: &'g Cast,
    pub(crate) resolver: &'g Resolver,
    pub(crate) engine: &'g Arc<Engine>,
    pub(crate) clock: &'g dyn Clock,
}

impl Desk<'_> {
    /// Serves a call to its end; `truth` tells the true time.
    pub(crate) async fn serve(&self, ask: &Ask, truth: impl Fn() -> u64) -> Served {
        let permit = match self.admit(ask).await {
            Ok(permit) => permit,
            Err(denial) => {
                return Served {
                    there: truth(),
                    outcome: Err(denial),
                };
            }
        };
        let there = truth();
        Served {
            there,
            outcome: self.make(ask, permit).await,
        }
    }

    /// Judges the caller when the call arrives, and waits for its body. Of a log-in the hash comes between the facts
    /// and the judgement.
    async fn admit(&self, ask: &Ask) -> Result<Permit, Denial> {
        let held = Duration::from_millis(ask.held);
        match &ask.who {
            Who::Key(text) => {
                let extracted = Extracted {
                    surface: KEY_SURFACE,
                    credential: Credential::Key(text.as_bytes()),
                    mode: None,
                };
                let surface = &self.cast.surfaces[KEY_SURFACE.0];
                let resolved = self.resolver.prove(surface, &extracted, CLIENT, self.clock.now()).await?;
                let permit = self.decide(ask, resolved.principal, resolved.proof)?;
                tokio::time::sleep(held).await;
                Ok(permit)
            }
            Who::Account(account, password) => self.log_in(ask, *account, password, held).await,
        }
    }

    async fn log_in(&self, ask: &Ask, account: usize, password: &str, held: Duration) -> Result<Permit, Denial> {
        let surface = &self.cast.surfaces[ACCOUNT_SURFACE.0];
        // First a place to be hashed at, then the account, then the hash.
        tokio::time::sleep(held - held / 4).await;
        let found = self
            .resolver
            .resolve_login(surface, &email(account), CLIENT, self.clock.now().boot)
            .await?;
        tokio::time::sleep(held / 4).await;
        let facts = found.ok_or(Denial::UnknownCredential)?;
        if facts.credential.password().map(|hash| hash.expose()) != Some(password) {
            return Err(Denial::WrongSecret);
        }
        let proof = Proof::of_password(&facts.credential);
        self.decide(ask, Principal::new(facts, None), proof)
    }

    fn decide(&self, ask: &Ask, principal: Principal, proof: Proof) -> Result<Permit, Denial> {
        let (route, index) = self.route(ask);
        let request = AccessRequest {
            route,
            surface_index: index,
            surface: &self.cast.surfaces[index.0],
            method: Method::Post,
            presented_mode: None,
            carried: Carried::Explicitly,
            proof,
            scope_grants: &self.cast.snapshot.scope_grants,
        };
        authorize(&request, principal, self.clock.now().wall)
    }

    /// Judged again, then made, as often as it must.
    async fn make(&self, ask: &Ask, mut permit: Permit) -> Result<Told, Denial> {
        let mut stored = false;
        for _ in 0..JUDGEMENTS {
            permit = self.judge_again(ask, permit, stored).await?;
            match self.engine.serve(self.call(ask, &permit)).await {
                Ok(issued) => return Ok(told(issued.body.as_deref())),
                Err(stop) if stop.stale => stored = true,
                Err(stop) => return Err(stop.denial),
            }
        }
        Err(Denial::Overloaded)
    }

    async fn judge_again(&self, ask: &Ask, permit: Permit, stored: bool) -> Result<Permit, Denial> {
        let principal = permit.principal().ok_or(Denial::Internal)?;
        let facts = self.newest_facts_of(principal, stored).await?;
        let (route, index) = self.route(ask);
        let surface = &self.cast.surfaces[index.0];
        let again = Reauthorization {
            permit: &permit,
            was: surface,
            method: Method::Post,
            route,
            surface_index: index,
            surface,
            scope_grants: &self.cast.snapshot.scope_grants,
        };
        match (reauthorize(&again, facts, self.clock.now()), &ask.who) {
            (Err(Denial::WrongSecret), Who::Account(account, password)) => self.log_in(ask, *account, password, Duration::ZERO).await,
            (judged, _) => judged,
        }
    }

    async fn newest_facts_of(&self, principal: &Principal, stored: bool) -> Result<Arc<Facts>, Denial> {
        let (fingerprint, now) = (principal.facts.credential.fingerprint, self.clock.now());
        let facts = match self.resolver.find_cached(fingerprint, now) {
            CachedFacts::Present(facts) if !stored => Some(facts),
            CachedFacts::Absent if !stored => None,
            _ => self.resolver.load_since(fingerprint, now).await?,
        };
        facts.ok_or(Denial::UnknownCredential)
    }

    fn route(&self, ask: &Ask) -> (&Route, SurfaceIndex) {
        match (&ask.who, ask.asked) {
            (Who::Account(..), _) => (&self.cast.log_in, ACCOUNT_SURFACE),
            // Whoever has lost everything may still leave.
            (_, Asked::LogOut) => (&self.cast.open, KEY_SURFACE),
            _ => (&self.cast.serving, KEY_SURFACE),
        }
    }

    fn call(&self, ask: &Ask, permit: &Permit) -> ServedCall {
        let (_, surface) = self.route(ask);
        let body = format!("{{\"name\":\"{}\"}}", ask.name());
        let issuer = ServedRouteIndex(ask.asked as usize);
        let checked = CheckedBody::check(
            &self.cast.snapshot.served_routes[issuer.0].body,
            ParsedBody::parse(body.as_bytes()).unwrap(),
        );
        ServedCall {
            snapshot: Arc::clone(&self.cast.snapshot),
            served_route: issuer,
            caller: permit.principal().map(|principal| AdmittedCaller {
                surface,
                principal: principal.clone(),
                ends_at: None,
            }),
            query: None,
            path: PathValues::read("/keys/{id}", &format!("/keys/{}", ask.target.as_deref().unwrap_or("-"))),
            body: Arc::new(checked.unwrap()),
            replaced: None,
            browser: None,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            request_id: ask.name(),
            hook: Arc::default(),
        }
    }
}

/// The last one that an answer tells of: a list tells of none.
fn told(body: Option<&[u8]>) -> Told {
    let body: serde_json::Value = serde_json::from_slice(body?).unwrap();
    let made = body.as_array()?.last()?;
    let text = |member: &str| made[member].as_str();
    Some((text("id")?.to_owned(), Rc::from(text("key")?)))
}

/// The configuration of every gateway: one issuer for each thing that can be asked for.
pub(crate) fn snapshot(surfaces: Vec<durward::decide::surface::Surface>) -> Snapshot {
    let child = Mint {
        surface: KEY_SURFACE,
        parent: ParentSource::Caller,
        subject: None,
        description: None,
        name: Some(ValueSource::Body("name".into())),
        login: None,
        password: None,
        mode: ModeSource::CallerOr(Mode::Live),
        scopes: ScopeSource::Caller,
        grants: ScopeSet::default(),
        roles: None,
        claims: Vec::new(),
        lifetime: MintLifetime::default(),
        idle: None,
    };
    let free = Mint {
        parent: ParentSource::None,
        ..child.clone()
    };
    let minting = |mint: &Mint| Action::Mint {
        tenant: TenantSource::Caller,
        mints: vec![mint.clone()],
        cookie: None,
    };
    let id = || ValueSource::Path("id".into());
    let actions = vec![
        minting(&child),
        minting(&free),
        minting(&child),
        Action::Rotate {
            surface: KEY_SURFACE,
            id: id(),
            reach: Reach::Tenant,
            grace: None,
            grants: ScopeSet::default(),
        },
        Action::Revoke {
            surface: KEY_SURFACE,
            id: id(),
            reach: Reach::Tenant,
            grants: ScopeSet::default(),
        },
        Action::LogOut {
            extent: Extent::Everywhere,
        },
        Action::List {
            surface: KEY_SURFACE,
            reach: Reach::Tenant,
        },
    ];
    Snapshot {
        cors: durward::decide::cors::Cors::default(),
        headers: HeaderPolicy::new(IdentityNames::default(), &surfaces),
        surfaces,
        served_routes: actions.into_iter().map(issuer).collect(),
        scope_grants: ScopeGrants::new(Roles::default(), []),
        dialects: Vec::new(),
        default_dialect: DialectIndex(0),
        upstreams: Vec::new(),
        routes: Vec::new(),
        router: Router::default(),
        peers: PeerPolicy::default(),
        certificates: Vec::new(),
        audit: durward::decide::audit::AuditPolicy::default(),
        sign_on: None,
    }
}

fn issuer(action: Action) -> ServedRoute {
    let (template, subject) = match &action {
        Action::List { .. } => ("{{ items }}", AnswerSubject::Credentials),
        Action::LogOut { .. } => ("", AnswerSubject::Credential),
        _ => ("{{ minted }}", AnswerSubject::Credential),
    };
    let names = AnswerNames {
        subject,
        caller: Called::Present,
        path: vec!["id".into()],
        ..AnswerNames::default()
    };
    let name = FieldSpec {
        name: "name".into(),
        kind: FieldKind::Text {
            min: 0,
            max: 40,
            format: TextFormat::Any,
        },
        presence: FieldPresence::Required,
        one_of: Vec::new(),
        messages: FieldMessages::default(),
    };
    ServedRoute {
        action,
        body: BodySchema {
            fields: vec![name],
            ..BodySchema::default()
        },
        answer: AnswerSpec {
            status: 200,
            body: (!template.is_empty()).then(|| AnswerTemplate::parse(template, &names).unwrap()),
            headers: Vec::new(),
        },
        hook: None,
    }
}
