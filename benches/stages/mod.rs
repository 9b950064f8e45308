//! The stages of the pure path, each on the same typical request: one setup for times and for instruction counts.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use durward::base::clock::{BootMillis, Clock, ManualClock, Now};
use durward::base::fingerprint::Peppers;
use durward::base::ids::{CredentialId, SurfaceName, TenantId};
use durward::base::key::GeneratedKey;
use durward::base::principal::{Extras, PROVIDER_SURFACE, Parent, Principal, SIGN_ON_SURFACE};
use durward::base::scope::ScopeSet;
use durward::config::{self, InMemory, Purpose};
use durward::decide::authorize::{AccessRequest, Carried, Proof, authorize};
use durward::decide::extract::extract;
use durward::decide::headers::{OutgoingHead, UriScheme};
use durward::decide::method::Method;
use durward::decide::route::{Access, Router};
use durward::decide::target::RequestTarget;
use durward::resolver::{Recall, Resolver};
use durward::snapshot::Snapshot;
use durward::store::RecordStore;
use durward::store::cached::{CacheSettings, CachedStore};
use durward::store::embedded::EmbeddedStore;
use durward::wire::head::{RequestHead, ResponseHead};

use records::{NOW, record};

#[allow(dead_code, reason = "only instructions are counted of it")]
pub(crate) mod many;
#[path = "../records.rs"]
mod records;

const GATEWAY: &str = r#"
[[listeners]]
name = "bench"
address = "127.0.0.1:0"

[store]
pepper = "env:PEPPER"

[surfaces.api]
kind = "api_key"
prefixes = { live = "hlive_", test = "htest_" }
"#;

/// Beside the keys: sessions of the gateway and tokens of another issuer, with claims that become headers.
const TOKENS: &str = r#"
[surfaces.portal]
kind = "session_jwt"
carry = ["header:X-Portal-Session"]
token_kind = "portal_session"
secrets = ["env:PORTAL"]
record_surface = "api"
scopes_claim = "perms"
claim_headers = { tid = "X-Transaction-Id", role = "X-Auth-Role", perms = "X-Auth-Permissions" }

[surfaces.partner]
kind = "external_jwt"
carry = ["header:X-Partner-Token"]
claim_headers = { tid = "X-Partner-Transaction", role = "X-Partner-Role", perms = "X-Partner-Permissions" }

[[surfaces.partner.issuers]]
issuer = "https://issuer.example.com"
audience = "payments"
jwks = "keys.json"
scopes_claim = "perms"
"#;

const SECRET: &str = "a-secret-of-a-benchmark-0123456789abcdef";

const UPSTREAM: &str = r#"
endpoints = ["http://127.0.0.1:9000"]

[[routes]]
path = "/api/v1/transactions/**"
methods = ["GET"]
access = { surfaces = ["api"], scopes = ["transactions:read"] }
"#;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
    Content-Length: 95\r\nConnection: keep-alive\r\nX-Request-Id: 0\r\nCache-Control: private\r\n\r\n";

/// The names of the stages, in the order of a request. `resolve` and `authorize` contain `extract`, `outgoing` contains
/// `screen` and `target`.
pub(crate) const STAGES: [&str; 9] = [
    "head",
    "screen",
    "target",
    "route",
    "extract",
    "resolve",
    "authorize",
    "outgoing",
    "returning",
];

/// The stages of a whole request, one for each sort of credential, on one configuration: all that a worker computes for a request
/// and its answer. The first is what the others are compared with.
pub(crate) const PATHS: [&str; 3] = ["key_path", "session_path", "issuer_path"];

/// The callers: a key that hangs on nothing, two that hang on as many records as a session does, a session token (HS256) below the
/// first key, and a token of another issuer (ES256).
#[derive(Clone, Copy)]
enum Caller {
    Key,
    LogIn,
    SignOn,
    Session,
    Issuer,
}

/// How many callers have a key.
const KEYS: usize = 3;
const CALLERS: usize = 5;

/// Everything a request needs, made once.
pub(crate) struct Bench {
    runtime: tokio::runtime::Runtime,
    snapshot: Snapshot,
    resolver: Resolver,
    clock: Arc<ManualClock>,
    /// The request of each caller.
    received: [Vec<u8>; CALLERS],
    /// The head of each caller's request.
    heads: [RequestHead; CALLERS],
    answer: ResponseHead,
    /// What each caller was resolved to.
    resolved: [Option<(Principal, Proof)>; CALLERS],
    out: Vec<u8>,
    _folder: tempfile::TempDir,
}

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

impl Bench {
    /// A snapshot from a configuration, a store with keys, and the callers' requests; with or without surfaces that take tokens.
    pub(crate) fn with_tokens(tokens: bool) -> Fallible<Self> {
        let (set, issued) = issuer_token()?;
        let (gateway, upstream) = if tokens {
            (
                format!("{GATEWAY}{TOKENS}"),
                UPSTREAM.replace("[\"api\"]", "[\"api\", \"portal\", \"partner\"]"),
            )
        } else {
            (GATEWAY.to_owned(), UPSTREAM.to_owned())
        };
        let mut files = InMemory::default();
        for (path, text) in [
            ("/bench/gateway.toml", gateway),
            ("/bench/upstreams/main.toml", upstream),
            ("/bench/keys.json", set),
        ] {
            files.files.insert(path.into(), text.into());
        }
        for (name, text) in [("PEPPER", "a-pepper-of-a-benchmark-0123456789abcdef"), ("PORTAL", SECRET)] {
            files.variables.insert(name.into(), text.into());
        }
        let loaded =
            config::load_from(Path::new("/bench/gateway.toml"), Purpose::Check, &files).map_err(|_| "the configuration is wrong")?;
        let peppers = loaded.settings.peppers.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let folder = tempfile::tempdir()?;
        let store = Arc::new(EmbeddedStore::open(&folder.path().join("store"), &peppers.checks())?);
        let keys = runtime.block_on(make_keys(&store, &loaded.snapshot, &peppers))?;
        // The clock stands still, so that facts never grow old and callgrind need not know the kernel's page of clocks.
        let clock = Arc::new(ManualClock::new(Now {
            wall: NOW,
            boot: BootMillis(1_000_000),
        }));
        // Under callgrind, beside other programs, a look-up takes longer than a gateway would wait.
        let settings = CacheSettings {
            lookup_timeout: Duration::from_secs(30),
            ..CacheSettings::default()
        };
        let cached = CachedStore::new(store, &settings, clock.clone(), runtime.handle().clone());
        let [key, log_in, sign_on] = keys.map(|key| request("Authorization", &format!("Bearer {}", key.expose())));
        let session = request("X-Portal-Session", &session_token()?);
        let received = [key, log_in, sign_on, session, request("X-Partner-Token", &issued)];
        let mut heads: [RequestHead; CALLERS] = Default::default();
        for (head, request) in heads.iter_mut().zip(&received) {
            let _ = head.parse(request).map_err(|denial| denial.label())?;
        }
        let mut bench = Self {
            runtime,
            snapshot: loaded.snapshot,
            resolver: Resolver::new(cached, peppers, clock.clone()),
            clock,
            received,
            heads,
            answer: ResponseHead::default(),
            resolved: Default::default(),
            out: Vec::with_capacity(4096),
            _folder: folder,
        };
        for caller in [Caller::Key, Caller::LogIn, Caller::SignOn] {
            bench.resolve(caller)?;
        }
        if tokens {
            bench.resolve(Caller::Session)?;
            bench.resolve(Caller::Issuer)?;
        }
        Ok(bench)
    }

    pub(crate) fn run(&mut self, stage: &str) -> Fallible<()> {
        let denied = |denial: durward::base::denial::Denial| denial.label();
        match stage {
            "head" => self.head(Caller::Key)?,
            "screen" => drop(black_box(self.snapshot.headers.screen(black_box(&self.heads[0])).map_err(denied)?)),
            "target" => drop(black_box(
                RequestTarget::parse(black_box(&self.heads[0]), Method::Get).map_err(denied)?,
            )),
            "route" => find(&self.snapshot.router)?,
            "extract" => {
                let _ = black_box(extract(black_box(&self.heads[0].fields), &self.snapshot.surfaces, self.accepted()?).map_err(denied)?);
            }
            "resolve" => self.resolve(Caller::Key)?,
            "authorize" => self.authorize(Caller::Key)?,
            "log_in" => self.identify(Caller::LogIn)?,
            "sign_on" => self.identify(Caller::SignOn)?,
            "outgoing" => self.outgoing(Caller::Key)?,
            "returning" => self.returning()?,
            "key_path" => self.whole(Caller::Key)?,
            "session_path" => self.whole(Caller::Session)?,
            "issuer_path" => self.whole(Caller::Issuer)?,
            other => return Err(format!("there is no stage {other}").into()),
        }
        Ok(())
    }

    /// Everything of one request and its answer.
    fn whole(&mut self, caller: Caller) -> Fallible<()> {
        self.head(caller)?;
        find(&self.snapshot.router)?;
        self.identify(caller)?;
        self.outgoing(caller)?;
        self.returning()
    }

    fn head(&mut self, caller: Caller) -> Fallible<()> {
        let received = black_box(&self.received[caller as usize]);
        let _ = black_box(self.heads[caller as usize].parse(received).map_err(|denial| denial.label())?);
        Ok(())
    }

    fn returning(&mut self) -> Fallible<()> {
        let _ = self.answer.parse(black_box(ANSWER))?;
        self.snapshot
            .headers
            .filter_response(&mut self.answer.fields, &self.snapshot.routes[0]);
        black_box(&self.answer.fields);
        Ok(())
    }

    fn accepted(&self) -> Fallible<&[durward::decide::surface::SurfaceIndex]> {
        match &self.snapshot.routes[0].access {
            Access::Surfaces { surfaces, .. } => Ok(surfaces),
            Access::Public => Err("the route is public".into()),
        }
    }

    fn identify(&mut self, caller: Caller) -> Fallible<()> {
        self.resolve(caller)?;
        self.authorize(caller)
    }

    fn resolve(&mut self, caller: Caller) -> Fallible<()> {
        let extracted = extract(&self.heads[caller as usize].fields, &self.snapshot.surfaces, self.accepted()?).map_err(|d| d.label())?;
        let surface = &self.snapshot.surfaces[extracted.surface.0];
        let (resolver, now) = (&self.resolver, self.clock.now());
        let recalled = resolver.recall(surface, black_box(&extracted), now).map_err(|d| d.denial.label())?;
        let found = match recalled {
            Recall::Known(found) => black_box(found),
            // Only the first time: the store is asked.
            Recall::Incomplete(missing) => {
                let asked = self
                    .runtime
                    .block_on(resolver.resolve(surface, &extracted, IpAddr::V4(Ipv4Addr::LOCALHOST), missing));
                asked.map_err(|d| d.denial.label())?
            }
        };
        self.resolved[caller as usize] = Some((found.principal, found.proof));
        Ok(())
    }

    fn authorize(&self, caller: Caller) -> Fallible<()> {
        let (principal, proof) = self.resolved[caller as usize].clone().ok_or("nobody was resolved")?;
        let fields = &self.heads[caller as usize].fields;
        let extracted = extract(fields, &self.snapshot.surfaces, self.accepted()?).map_err(|d| d.label())?;
        let surface = &self.snapshot.surfaces[extracted.surface.0];
        let request = AccessRequest {
            route: &self.snapshot.routes[0],
            surface_index: extracted.surface,
            surface,
            method: Method::Get,
            presented_mode: extracted.mode,
            carried: Carried::of(&extracted.credential, fields, || ("api.example.com", UriScheme::Http), None),
            proof,
            scope_grants: &self.snapshot.scope_grants,
        };
        drop(black_box(
            authorize(black_box(&request), principal, self.clock.now().wall).map_err(|d| d.label())?,
        ));
        Ok(())
    }

    fn outgoing(&mut self, caller: Caller) -> Fallible<()> {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let head = &self.heads[caller as usize];
        let screened = self.snapshot.headers.screen(head).map_err(|d| d.label())?;
        let target = RequestTarget::parse(head, Method::Get).map_err(|d| d.label())?;
        let route = &self.snapshot.routes[0];
        let surface = match caller {
            Caller::Key | Caller::LogIn | Caller::SignOn => "api",
            Caller::Session => "portal",
            Caller::Issuer => "partner",
        };
        let surface = self.snapshot.surfaces.iter().find(|known| known.name.as_str() == surface);
        let facts = OutgoingHead {
            principal: self.resolved[caller as usize].as_ref().map(|(p, _)| p).zip(surface),
            origin: self.snapshot.peers.origin(peer, &head.fields),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            scheme: UriScheme::Http,
            request_id: "0198c1f2-7c3b-7000-8000-000000000000",
            target: &target,
            credentials: route.options.credentials,
            trailers: route.options.trailers,
        };
        self.out.clear();
        self.snapshot
            .headers
            .write_outgoing(head, &screened, &facts, &mut self.out)
            .map_err(|d| d.label())?;
        black_box(&self.out);
        Ok(())
    }
}

/// Finds the route of the request.
pub(crate) fn find(router: &Router) -> Fallible<()> {
    let found = router.find("api.example.com", Method::Get, black_box("/api/v1/transactions/txn_123"));
    let _ = black_box(found.map_err(|_| "no route")?);
    Ok(())
}

/// A session token as a portal's browser sends it.
fn session_token() -> Fallible<String> {
    let claims = serde_json::json!({
        "sub": "key_api", "kind": "portal_session", "tid": "txn_0198c1f27c3b70008000000000000000", "role": "buyer",
        "perms": ["transactions:read", "transactions:pay"], "iat": NOW.0 / 1000 - 60, "exp": NOW.0 / 1000 + 1800,
    });
    let claims = claims.as_object().ok_or("no claims")?;
    Ok(durward::decide::token::mint(SECRET.as_bytes(), claims)?)
}

/// A key set of another issuer, and a token of it.
fn issuer_token() -> Fallible<(String, String)> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key was made")?;
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let set = serde_json::json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "kid": "key-1", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    }]});
    let claims = serde_json::json!({
        "iss": "https://issuer.example.com", "aud": "payments", "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "tenant": "acme",
        "tid": "txn_0198c1f27c3b70008000000000000000", "role": "buyer", "perms": ["transactions:read", "transactions:pay"],
        "iat": NOW.0 / 1000 - 60, "exp": NOW.0 / 1000 + 1800,
    });
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"key-1","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key
        .sign(&SystemRandom::new(), signed.as_bytes())
        .map_err(|_| "nothing was signed")?;
    Ok((set.to_string(), format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

/// A request with this credential.
fn request(header: &str, credential: &str) -> Vec<u8> {
    let request = format!(
        "GET /api/v1/transactions/txn_123 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: application/json\r\n\
         Accept-Encoding: gzip, deflate, br\r\n{header}: {credential}\r\nX-Request-Id: 3d1e5a\r\nConnection: keep-alive\r\n\r\n"
    );
    request.into_bytes()
}

/// Makes a tenant with a key for each [`Caller`] that has one, and the records above it. Each record may read transactions.
async fn make_keys(store: &EmbeddedStore, snapshot: &Snapshot, peppers: &Peppers) -> Fallible<[GeneratedKey; KEYS]> {
    let surface = snapshot.surfaces.first().ok_or("no surface")?;
    let tenant = store.create_tenant(TenantId::parse("acme")?, NOW).await?;
    let account = SurfaceName::parse("account")?;
    let above_sign_on = [
        SurfaceName::parse(PROVIDER_SURFACE)?,
        account.clone(),
        SurfaceName::parse(SIGN_ON_SURFACE)?,
    ];
    let mut made = Vec::new();
    for (name, above) in [("key", &[][..]), ("log_in", &[account][..]), ("sign_on", &above_sign_on[..])] {
        let mut parent = None;
        // The highest first, since each names the one above it.
        for surface in above.iter().chain([&surface.name]) {
            let key = GeneratedKey::mint("hlive_")?;
            let id = CredentialId::parse(&format!("{name}_{surface}"))?;
            let mut record = record(id.clone(), surface, &tenant.id, (peppers.first(), &key))?;
            if let Some(parent) = parent.take() {
                record.extras = Extras {
                    parent: Some(parent),
                    granted: Some(ScopeSet::default()),
                    ..Extras::default()
                }
                .boxed();
            }
            if surface.as_str() == SIGN_ON_SURFACE {
                record.scopes = ScopeSet::default();
            }
            store.create_credential(record).await?;
            parent = Some(Parent {
                surface: surface.clone(),
                id,
            });
            if *surface == snapshot.surfaces[0].name {
                made.push(key);
            }
        }
    }
    made.try_into().map_err(|_| "not every caller has a key".into())
}
