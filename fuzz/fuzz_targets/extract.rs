//! Whatever fields a client sends, at most one credential is found, where it may stand and of a surface the route accepts.
#![no_main]

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use durward::base::credential::{Credential, TokenOrigin};
use durward::base::denial::Denial;
use durward::base::ids::SurfaceName;
use durward::base::key::{MAX_KEY_LEN, checksum_holds};
use durward::base::scope::Mode;
use durward::decide::extract::{Extracted, extract};
use durward::decide::surface::{
    ApiKeySurface, BasicPassword, BasicSurface, Carrier, DEFAULT_RANDOM, HalfCarriers, KeyOrigin, KeyPairSurface, KeyPrefix, SessionRecord,
    SessionSurface, Surface, SurfaceIndex, SurfaceKind,
};
use durward::decide::token::{MAX_TOKEN_LEN, RulesId, TokenKeys, TokenRules, is_token_shaped};
use durward::wire::fields::Fields;
use libfuzzer_sys::fuzz_target;

/// Every header that carries a credential on some surface below.
const EXPLICIT: [&str; 5] = ["authorization", "x-api-key", "x-api-secret", "x-portal-session", "x-legacy-key"];

fn surface(name: &str, kind: SurfaceKind) -> Surface {
    Surface {
        name: SurfaceName::parse(name).unwrap(),
        kind,
        mode: None,
    }
}

fn prefixes(test: &str, live: &str) -> Vec<KeyPrefix> {
    vec![
        KeyPrefix::parse(test, Some(Mode::Test)).unwrap(),
        KeyPrefix::parse(live, Some(Mode::Live)).unwrap(),
    ]
}

fn session(name: &str, carriers: Vec<Carrier>) -> Surface {
    let rules = TokenRules {
        id: RulesId::unique(),
        keys: TokenKeys::new([[1; 32]]).unwrap(),
        kind: name.into(),
        issuer: None,
        audience: None,
        skew: std::time::Duration::ZERO,
        scopes_claim: None,
        claim_headers: Vec::new(),
    };
    surface(
        name,
        SurfaceKind::Session(SessionSurface {
            carriers,
            rules: Box::new(rules),
            record: SessionRecord::Sub(SurfaceName::parse("records").unwrap()),
            minting: None,
        }),
    )
}

fn surfaces() -> &'static [Surface] {
    static SURFACES: OnceLock<Vec<Surface>> = OnceLock::new();
    SURFACES.get_or_init(|| {
        let header = |name: &str| Carrier::Header(name.into());
        vec![
            surface(
                "api",
                SurfaceKind::ApiKey(ApiKeySurface {
                    carriers: vec![Carrier::BEARER],
                    prefixes: prefixes("htst_", "hlive_"),
                    keys: KeyOrigin::Generated,
                    random: DEFAULT_RANDOM,
                    claim_headers: Vec::new(),
                }),
            ),
            session("dashboard", vec![Carrier::BEARER, Carrier::Cookie("session".into())]),
            session("portal", vec![header("x-portal-session"), Carrier::BEARER]),
            surface(
                "pair",
                SurfaceKind::KeyPair(KeyPairSurface {
                    halves: HalfCarriers::Headers {
                        key: "x-api-key".into(),
                        secret: "x-api-secret".into(),
                    },
                    key_prefixes: prefixes("pk_test_", "pk_live_"),
                    secret_prefixes: prefixes("sk_test_", "sk_live_"),
                    keys: KeyOrigin::Imported,
                }),
            ),
            surface(
                "legacy",
                SurfaceKind::ApiKey(ApiKeySurface {
                    carriers: vec![header("x-legacy-key")],
                    prefixes: prefixes("lgt-", "lgl-"),
                    keys: KeyOrigin::Imported,
                    random: DEFAULT_RANDOM,
                    claim_headers: Vec::new(),
                }),
            ),
            surface(
                "basic",
                SurfaceKind::Basic(BasicSurface {
                    key_prefixes: prefixes("bk_test_", "bk_live_"),
                    password: BasicPassword::Secret {
                        prefixes: prefixes("bs_test_", "bs_live_"),
                    },
                    keys: KeyOrigin::Imported,
                }),
            ),
            surface(
                "alone",
                SurfaceKind::Basic(BasicSurface {
                    key_prefixes: prefixes("one-t_", "one-l_"),
                    password: BasicPassword::Empty,
                    keys: KeyOrigin::Imported,
                }),
            ),
        ]
    })
}

// The first byte chooses the accepted surfaces; the rest is lines of `name: value`.
fuzz_target!(|data: &[u8]| {
    let Some((choice, lines)) = data.split_first() else { return };
    let accepted: Vec<_> = (0..surfaces().len()).filter(|i| choice >> i & 1 == 1).map(SurfaceIndex).collect();
    let mut fields = Fields::default();
    for line in lines.split(|b| *b == b'\n').take(100) {
        let at = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        fields.push(&line[..at], line.get(at + 1..).unwrap_or_default().trim_ascii());
    }
    let found = extract(&fields, surfaces(), &accepted);
    let explicit: Vec<_> = fields.iter().filter(|f| EXPLICIT.iter().any(|name| f.is(name))).collect();
    let is_pair = explicit.len() == 2 && ["x-api-key", "x-api-secret"].iter().all(|half| explicit.iter().any(|f| f.is(half)));
    if explicit.len() > 1 && !is_pair {
        assert_eq!(found.map(|_| ()), Err(Denial::AmbiguousCredentials));
        return;
    }
    if let Ok(found) = found {
        assert!(accepted.contains(&found.surface));
        judge(&found, &fields, explicit.len());
    }
});

fn judge(found: &Extracted<'_>, fields: &Fields, explicit: usize) {
    let kind = &surfaces()[found.surface.0].kind;
    match (kind, found.credential) {
        (SurfaceKind::ApiKey(ApiKeySurface { keys, .. }), Credential::Key(text)) => {
            let prefix = surfaces()[found.surface.0].prefix_of(text).expect("a key has its prefix");
            assert!(text.len() <= MAX_KEY_LEN && found.mode == prefix.mode);
            assert!(*keys == KeyOrigin::Imported || checksum_holds(text, &prefix.text).is_ok());
            assert_eq!(explicit, 1);
        }
        (SurfaceKind::KeyPair(KeyPairSurface { .. }), Credential::Pair { publishable, secret }) => {
            assert!(publishable.starts_with(b"pk_") && secret.starts_with(b"sk_") && publishable[3..7] == secret[3..7]);
            assert_eq!(explicit, 2);
        }
        (SurfaceKind::Session(SessionSurface { .. }), Credential::Jwt { token, origin }) => {
            assert!(is_token_shaped(token) && token.len() <= MAX_TOKEN_LEN);
            match origin {
                TokenOrigin::Header => assert_eq!(explicit, 1),
                // Of an explicit field only another scheme of `Authorization` may stand beside it.
                TokenOrigin::Cookie => {
                    assert_eq!(explicit, fields.all("authorization").count());
                    let named = |line: &[u8]| line.split(|b| *b == b';').filter(|c| is_session(c)).count();
                    assert_eq!(fields.all("cookie").map(named).sum::<usize>(), 1);
                }
            }
        }
        (SurfaceKind::Basic(BasicSurface { password, .. }), credential @ Credential::Basic(text)) => {
            let plain = STANDARD.decode(text).expect("exactly base64");
            let at = plain.iter().position(|b| *b == b':').expect("a colon ends the user name");
            assert!(!plain.iter().any(u8::is_ascii_control) && plain.len() <= 2 * MAX_KEY_LEN + 1);
            assert_eq!(kind.with_key(credential, |user| user == &plain[..at]), Some(true));
            match password {
                BasicPassword::Secret { .. } => {
                    assert!(plain.starts_with(b"bk_") && plain[at + 1..].starts_with(b"bs_") && plain[3..7] == plain[at + 4..at + 8])
                }
                BasicPassword::Empty => assert!(plain.starts_with(b"one-") && plain.len() == at + 1),
            }
            assert_eq!(explicit, 1);
        }
        (_, credential) => panic!("{credential:?} on another kind of surface"),
    }
}

fn is_session(mut cookie: &[u8]) -> bool {
    while let [b' ' | b'\t', rest @ ..] = cookie {
        cookie = rest;
    }
    cookie.starts_with(b"session=")
}
