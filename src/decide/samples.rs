//! Records, surfaces and routes that the tests of decisions are told with.

use std::time::Duration;

use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::credential::{Credential, TokenOrigin};
use crate::base::fingerprint::{Fingerprint, Pepper, Peppers};
use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::principal::{
    CredentialRecord, CredentialState, Facts, IdentityLines, IssuerIndex, KeyMark, Position, Reading, TenantRecord, TokenClaims, TokenMemo,
};
use crate::base::scope::{Mode, Scope, ScopeSet};

use super::method::Method;
use super::route::{
    Access, CredentialForwarding, Destination, DialectIndex, PathForms, Rewrite, Route, RouteOptions, Trailers, UpstreamIndex,
};
use super::surface::{
    ApiKeySurface, Carrier, DEFAULT_RANDOM, HalfCarriers, KeyOrigin, KeyPairSurface, KeyPrefix, Proof, SessionRecord, SessionSurface,
    Surface, SurfaceIndex, SurfaceKind,
};
use super::token::{RulesId, TokenKeys, TokenRules};

pub(crate) mod issuer;

pub(crate) fn scopes(words: &[&str]) -> ScopeSet {
    words.iter().map(|w| Scope::parse(w).unwrap()).collect()
}

/// Facts of an active credential of an active tenant, without mode or scopes.
pub(crate) fn facts(surface: &str, id: &str, tenant: &str) -> Facts {
    let (surface, id, tenant) = (
        SurfaceName::parse(surface).unwrap(),
        CredentialId::parse(id).unwrap(),
        TenantId::parse(tenant).unwrap(),
    );
    Facts {
        tenant: TenantRecord {
            id: tenant.clone(),
            active: true,
            created_at: UnixMillis(0),
            epoch: 1,
        },
        credential: CredentialRecord {
            fingerprint: Fingerprint::of_id(&surface, &id),
            id,
            surface,
            tenant,
            subject: None,
            mode: None,
            scopes: ScopeSet::default(),
            state: CredentialState::Active,
            secret_fingerprint: None,
            prefix: String::new(),
            last4: String::new(),
            name: None,
            created_at: UnixMillis(0),
            not_before: None,
            expires_at: None,
            valid_after: None,
            epoch: 1,
            pepper: None,
            extras: None,
        },
        ancestors: Vec::new(),
        roles: Vec::new(),
        reading: Reading::new(BootMillis(0), Position(1)),
        lines: IdentityLines::default(),
    }
}

pub(crate) fn claims(subject: &str, issued: UnixMillis, expires: UnixMillis) -> TokenClaims {
    TokenClaims {
        subject: Subject::parse(subject).unwrap(),
        record: CredentialId::parse(subject).unwrap(),
        issuer: IssuerIndex(0),
        key: KeyMark([1; 16]),
        expires_at: expires,
        issued_at: Some(issued),
        not_before: None,
        scopes: None,
        headers: Vec::new(),
        memo: TokenMemo::default(),
    }
}

/// What whoever has a key or a token of this record proves by it.
pub(crate) fn proven(surface: &Surface, record: &CredentialRecord, claims: Option<&TokenClaims>) -> Proof {
    let token = Credential::Jwt {
        token: b"a.b.c",
        origin: TokenOrigin::Header,
    };
    let credential = if surface.takes_tokens() { token } else { Credential::Key(b"key") };
    let peppers = Peppers::new(vec![Pepper::new(&[1; 32]).unwrap()]).unwrap();
    surface.prove(credential, claims, Some(record), &peppers)
}

pub(crate) fn prefixes(texts: &[(&str, Option<Mode>)]) -> Vec<KeyPrefix> {
    texts.iter().map(|(text, mode)| KeyPrefix::parse(text, *mode).unwrap()).collect()
}

pub(crate) fn surface(name: &str, kind: SurfaceKind) -> Surface {
    Surface {
        name: SurfaceName::parse(name).unwrap(),
        kind,
        mode: None,
    }
}

/// An API key surface with one prefix for each mode.
pub(crate) fn api_key(name: &str, carriers: &[Carrier], test: &str, live: &str, keys: KeyOrigin) -> Surface {
    surface(
        name,
        SurfaceKind::ApiKey(ApiKeySurface {
            carriers: carriers.to_vec(),
            prefixes: prefixes(&[(test, Some(Mode::Test)), (live, Some(Mode::Live))]),
            keys,
            random: DEFAULT_RANDOM,
            claim_headers: Vec::new(),
        }),
    )
}

/// The pair `x-api-key` and `x-api-secret` with `pk_…` and `sk_…`.
pub(crate) fn key_pair(name: &str) -> Surface {
    surface(
        name,
        SurfaceKind::KeyPair(KeyPairSurface {
            halves: HalfCarriers::Headers {
                key: "x-api-key".into(),
                secret: "x-api-secret".into(),
            },
            key_prefixes: prefixes(&[("pk_test_", Some(Mode::Test)), ("pk_live_", Some(Mode::Live))]),
            secret_prefixes: prefixes(&[("sk_test_", Some(Mode::Test)), ("sk_live_", Some(Mode::Live))]),
            keys: KeyOrigin::Generated,
        }),
    )
}

pub(crate) fn session(name: &str, carriers: &[Carrier], rules: TokenRules, record_surface: &str) -> Surface {
    surface(
        name,
        SurfaceKind::Session(SessionSurface {
            carriers: carriers.to_vec(),
            rules: Box::new(rules),
            record: SessionRecord::Sub(SurfaceName::parse(record_surface).unwrap()),
            minting: None,
        }),
    )
}

/// Rules that ask for nothing but `kind`, `sub` and `exp`, with 5 s of skew.
pub(crate) fn token_rules(secret: &[u8], kind: &str) -> TokenRules {
    TokenRules {
        id: RulesId::unique(),
        keys: TokenKeys::new([secret]).unwrap(),
        kind: kind.into(),
        issuer: None,
        audience: None,
        skew: Duration::from_secs(5),
        scopes_claim: None,
        claim_headers: Vec::new(),
    }
}

pub(crate) fn route(methods: &[Method], pattern: &str) -> Route {
    Route {
        name: pattern.into(),
        hosts: Vec::new(),
        methods: methods.to_vec(),
        pattern: pattern.into(),
        access: Access::Public,
        destination: Destination::Upstream(UpstreamIndex(0)),
        rewrite: Rewrite::Keep,
        dialect: DialectIndex(0),
        options: RouteOptions {
            tenant_segment: None,
            max_body: 0,
            response_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            path_forms: PathForms::NONE,
            trailers: Trailers::Dropped,
            upgrade: crate::decide::route::Upgrade::Dropped,
            audit: crate::decide::audit::RouteAudit::default(),
            report_only: false,
            credentials: CredentialForwarding::Removed,
        },
        limits: crate::decide::rate::RouteLimits::default(),
    }
}

pub(crate) fn route_for(surfaces: &[usize], needed: &[&str]) -> Route {
    Route {
        access: Access::Surfaces {
            surfaces: surfaces.iter().map(|i| SurfaceIndex(*i)).collect(),
            scopes: scopes(needed),
        },
        ..route(&Method::ALL, "/**")
    }
}
