//! No bytes verify that were not signed, and no rightly signed token says anything but what is read from it.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use durward::base::clock::UnixMillis;
use durward::base::denial::Denial;
use durward::base::principal::TokenClaims;
use durward::decide::token::{ClaimHeader, RulesId, TokenKeys, TokenRules};
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;

const SECRET: [u8; 32] = [7; 32];
const NOW: UnixMillis = UnixMillis(1_000_000_000);
const SKEW: i64 = 5_000;

fn rules() -> &'static TokenRules {
    static RULES: OnceLock<TokenRules> = OnceLock::new();
    RULES.get_or_init(|| TokenRules {
        id: RulesId::unique(),
        keys: TokenKeys::new([SECRET]).unwrap(),
        kind: "k".into(),
        issuer: None,
        audience: Some("a".into()),
        skew: Duration::from_secs(5),
        scopes_claim: Some("s".into()),
        claim_headers: vec![ClaimHeader {
            claim: "h".into(),
            header: "X-H".into(),
        }],
    })
}

// The first byte chooses: the rest is a token as it came, or a header and a payload (apart by a
// zero byte) that are signed with the right secret.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 8 == 0 {
        assert!(rules().verify(rest, NOW).is_err(), "a token nobody signed");
        return;
    }
    let at = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
    let (header, payload) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(&SECRET), Algorithm::HS256).unwrap();
    let token = format!("{signed}.{signature}");
    match rules().verify(token.as_bytes(), NOW) {
        Ok(claims) => judge(&claims, header, payload),
        Err(why) => assert!(matches!(why.denial, Denial::InvalidToken | Denial::ExpiredCredential)),
    }
});

/// What another JSON reader says of the same texts.
fn judge(claims: &TokenClaims, header: &[u8], payload: &[u8]) {
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(header["alg"], "HS256");
    for name in ["crit", "b64", "zip", "enc"] {
        assert!(header.get(name).is_none());
    }
    assert_eq!(payload["kind"], "k");
    assert_eq!(payload["sub"], claims.subject.as_str());
    assert!(payload["aud"] == "a" || payload["aud"].as_array().unwrap().contains(&"a".into()));
    assert!(payload["exp"].as_f64().unwrap() >= 0.0 && claims.expires_at.0 > NOW.0 - SKEW);
    assert!(claims.issued_at.is_none_or(|at| at.0 <= NOW.0 + SKEW));
    for text in claims.headers.iter().flatten() {
        assert!(!text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b)));
    }
    let scopes = claims.scopes.as_ref().unwrap();
    assert!(scopes.is_empty() || scopes.joined().split(' ').all(|s| !s.is_empty()));
}
