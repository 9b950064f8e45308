//! Whatever fields a client sends, the service behind finds exactly the identity that was proven.
#![no_main]

use std::sync::{Arc, OnceLock};

use durward::base::clock::{BootMillis, UnixMillis};
use durward::base::fingerprint::Fingerprint;
use durward::base::ids::{CredentialId, SurfaceName, TenantId};
use durward::base::principal::{CredentialRecord, CredentialState, Facts, IdentityLines, Position, Principal, Reading, TenantRecord};
use durward::base::scope::{Scope, ScopeSet};
use durward::decide::headers::{HeaderPolicy, IdentityNames, OutgoingHead, UriScheme};
use durward::decide::method::Method;
use durward::decide::peer::PeerPolicy;
use durward::decide::route::{CredentialForwarding, Trailers};
use durward::decide::surface::{ApiKeySurface, Carrier, DEFAULT_RANDOM, KeyOrigin, Surface, SurfaceKind};
use durward::decide::target::RequestTarget;
use durward::wire::fields::Fields;
use durward::wire::head::{ParseStatus, RequestHead};
use libfuzzer_sys::fuzz_target;

const PEER: &str = "10.0.0.1:1";

struct World {
    surface: Surface,
    policy: HeaderPolicy,
    principal: Principal,
    trusting: PeerPolicy,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let name = SurfaceName::parse("keys").unwrap();
        let surface = Surface {
            name: name.clone(),
            kind: SurfaceKind::ApiKey(ApiKeySurface {
                carriers: vec![
                    Carrier::BEARER,
                    Carrier::Header("x-api-key".into()),
                    Carrier::Cookie("session".into()),
                ],
                prefixes: Vec::new(),
                keys: KeyOrigin::Generated,
                random: DEFAULT_RANDOM,
                claim_headers: Vec::new(),
            }),
            mode: None,
        };
        let (id, tenant) = (CredentialId::parse("key-1").unwrap(), TenantId::parse("acme").unwrap());
        let facts = Facts {
            tenant: TenantRecord {
                id: tenant.clone(),
                active: true,
                created_at: UnixMillis(0),
                epoch: 1,
            },
            credential: CredentialRecord {
                fingerprint: Fingerprint::of_id(&name, &id),
                id,
                surface: name,
                tenant,
                subject: None,
                mode: None,
                scopes: [Scope::parse("orders:read").unwrap()].into_iter().collect::<ScopeSet>(),
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
        };
        World {
            policy: HeaderPolicy::new(IdentityNames::default(), std::slice::from_ref(&surface)),
            surface,
            principal: Principal::new(Arc::new(facts), None),
            trusting: PeerPolicy {
                trusted: vec!["10.0.0.0/8".parse().unwrap()],
            },
        }
    })
}

/// A name as CGI and its successors see it.
fn normal(name: &[u8]) -> Vec<u8> {
    name.iter()
        .map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' })
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let world = world();
    let (trust, fields) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let mut head = RequestHead::default();
    let bytes = [b"GET / HTTP/1.1\r\nHost: a.test\r\n", fields, b"\r\n\r\n"].concat();
    let Ok(ParseStatus::Complete(_)) = head.parse(&bytes) else { return };
    let Ok(screened) = world.policy.screen(&head) else { return };
    let Ok(target) = RequestTarget::parse(&head, Method::Get) else {
        return;
    };
    let policy = if trust % 2 == 0 { &PeerPolicy::default() } else { &world.trusting };
    let peer = PEER.parse().unwrap();
    let origin = policy.origin(peer, &head.fields);
    let facts = OutgoingHead {
        principal: (trust % 3 != 0).then_some((&world.principal, &world.surface)),
        origin,
        peer: peer.ip(),
        scheme: UriScheme::Https,
        request_id: "request-1",
        target: &target,
        credentials: CredentialForwarding::Removed,
        trailers: Trailers::Dropped,
    };
    let mut out = Vec::new();
    world
        .policy
        .write_outgoing(&head, &screened, &facts, &mut out)
        .expect("a good principal can be written");
    let mut sent = RequestHead::default();
    let rendered = [b"GET / HTTP/1.1\r\n", out.as_slice(), b"\r\n"].concat();
    if rendered.len() > durward::wire::head::MAX_HEAD || sent.parse(&rendered).is_err() {
        // Ours make it longer than received; whatever else is written is a well-formed head.
        assert!(
            rendered.len() > 14_000 || out.iter().filter(|b| **b == b'\n').count() > 90,
            "{}",
            out.escape_ascii()
        );
        return;
    }
    judge(&head, &sent, &facts);
    let mut trailers = Fields::default();
    world.policy.filter_trailers(&head.fields, &mut trailers);
    let names = IdentityNames::default();
    for field in trailers.iter() {
        assert!(names.all().all(|name| normal(name.as_bytes()) != normal(field.name)), "{field:?}");
    }
});

fn judge(received: &RequestHead, sent: &RequestHead, facts: &OutgoingHead<'_>) {
    let ours = |name: &str| {
        sent.fields
            .iter()
            .filter(|f| normal(f.name) == normal(name.as_bytes()))
            .map(|f| f.value)
            .collect::<Vec<_>>()
    };
    let once = |value: &'static [u8]| if facts.principal.is_some() { vec![value] } else { Vec::new() };
    assert_eq!(ours("X-Tenant-Id"), once(b"acme"));
    assert_eq!(ours("X-Scopes"), once(b"orders:read"));
    assert_eq!(ours("X-Auth-Surface"), once(b"keys"));
    assert_eq!(ours("X-Auth-Credential-Id"), once(b"key-1"));
    assert_eq!(ours("X-Request-Id"), [b"request-1"]);
    for absent in [
        "X-Auth-Mode",
        "X-Auth-Subject",
        "Authorization",
        "X-Api-Key",
        "Host",
        "Connection",
        "Transfer-Encoding",
        "Content-Length",
        "Keep-Alive",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-HTTP-Method-Override",
    ] {
        assert!(ours(absent).is_empty(), "{absent}");
    }
    for singular in ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"] {
        assert_eq!(ours(singular).len(), 1, "{singular}");
    }
    assert!(ours("Cookie").len() <= 1);
    for field in sent.fields.iter() {
        assert!(field.is("cookie") || !normal(field.name).starts_with(b"proxy-"));
    }
    let first = ours("X-Forwarded-For").concat();
    let first = first.split(|b| *b == b',').next().unwrap_or_default();
    assert_eq!(first, facts.origin.client.to_string().as_bytes(), "the first entry is the client");
    let nominated = received.fields.all("connection").flat_map(|v| v.split(|b| *b == b','));
    for option in nominated
        .map(<[u8]>::trim_ascii)
        .filter(|o| !o.is_empty() && !o.eq_ignore_ascii_case(b"close"))
    {
        assert!(
            !sent.fields.iter().any(|f| f.name.eq_ignore_ascii_case(option)),
            "{}",
            option.escape_ascii()
        );
    }
}
