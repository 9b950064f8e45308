//! No ID token or logout token is taken that the provider has not signed, and none that it has signed says anything but what is read
//! from it; none is both.
#![no_main]

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use durward::base::clock::UnixMillis;
use durward::decide::external::KeySet;
use durward::sign_on::PersonRules;
use durward::sign_on::oidc::{IdToken, IdTokenRules, LogInValue, LogoutToken, SentSecrets, TokenAnswer};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const ISSUER: &str = "https://i.example";
const CLIENT: &str = "c";
/// In seconds.
const NOW: i64 = 1_000_000;

struct Provider {
    key: EcdsaKeyPair,
    keys: KeySet,
}

fn provider() -> &'static Provider {
    static PROVIDER: OnceLock<Provider> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let set = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": x, "y": y }] });
        Provider {
            key,
            keys: KeySet::parse(set.to_string().as_bytes()).unwrap(),
        }
    })
}

fn id_token(token: &str) -> Option<IdToken> {
    let json = json!({ "token_type": "Bearer", "access_token": "a", "id_token": token });
    let answer = TokenAnswer::parse(200, json.to_string().as_bytes(), &SentSecrets::default()).ok()?;
    let nonce = LogInValue::from_bytes([0; 32]);
    let rules = IdTokenRules {
        issuer: ISSUER,
        client_id: CLIENT,
        nonce: &nonce,
        max_age: None,
        acr_values: &[],
        algorithms: &[],
    };
    IdToken::verify(&answer, &provider().keys, &rules, UnixMillis(NOW * 1000)).ok()
}

fn logout_token(token: &str) -> Option<LogoutToken> {
    LogoutToken::verify(token, &provider().keys, ISSUER, CLIENT, UnixMillis(NOW * 1000)).ok()
}

/// What a right ID token and a right logout token begin with.
const BEGIN_ID: &[u8] =
    br#"{"iss":"https://i.example","aud":"c","sub":"s","iat":1000000,"exp":1000100,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#;
const BEGIN_LOG_OUT: &[u8] = br#"{"iss":"https://i.example","aud":"c","sub":"s","iat":1000000,"exp":1000100,"jti":"j",
    "events":{"http://schemas.openid.net/event/backchannel-logout":{}}"#;

// The first byte chooses: the rest is a token as it came, or a header and a payload (apart by a zero byte) that the provider signs; or
// the last members of a right header or payload.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 8 == 0 {
        let token = String::from_utf8_lossy(rest);
        assert!(id_token(&token).is_none() && logout_token(&token).is_none(), "nobody signed this");
        return;
    }
    let at = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
    let (header, payload) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let right: &[u8] = br#"{"alg":"ES256","kid":"k"}"#;
    let (header, payload) = match choice % 8 {
        1 | 2 => (right.to_vec(), [BEGIN_ID, rest].concat()),
        3 | 4 => (right.to_vec(), [BEGIN_LOG_OUT, rest].concat()),
        5 => ([br#"{"alg":"ES256""#, header].concat(), [BEGIN_ID, b"}"].concat()),
        6 => ([br#"{"alg":"ES256""#, header].concat(), [BEGIN_LOG_OUT, b"}"].concat()),
        _ => (header.to_vec(), payload.to_vec()),
    };
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&payload));
    let signature = provider().key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    let (id_token, logout_token) = (id_token(&token), logout_token(&token));
    if id_token.is_none() && logout_token.is_none() {
        return;
    }
    assert!(id_token.is_none() || logout_token.is_none(), "both");
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(claims["iss"], ISSUER);
    let audience = &claims["aud"];
    assert!(audience == CLIENT || audience.as_array().unwrap().contains(&json!(CLIENT)));
    assert!(claims["exp"].as_f64().unwrap() > (NOW - 61) as f64);
    if let Some(token) = id_token {
        assert_eq!(claims["nonce"], LogInValue::from_bytes([0; 32]).text());
        assert_eq!(claims["sub"], token.subject());
        let rules = PersonRules {
            subject: "sub".into(),
            email: "a.b".into(),
            name: "/n".into(),
            roles: None,
            claims: vec!["x".into()],
        };
        let person = token.person(None, &rules).unwrap();
        assert_eq!(claims["sub"], person.subject.as_str());
    }
    if let Some(token) = logout_token {
        assert!(claims.get("nonce").is_none());
        assert_eq!(claims["jti"], token.id.as_str());
        assert!(token.subject.is_some() || token.session_id.is_some());
    }
});
