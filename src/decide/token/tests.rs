//! What tokens are admitted and refused.

use serde_json::json;

use super::*;
use crate::decide::samples::token_rules;

mod claims;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER: &[u8] = b"fedcba9876543210fedcba9876543210";
const NOW: UnixMillis = UnixMillis(1_000_000_000);
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// A signed token from any texts, good or bad.
fn forge(header: &str, payload: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

/// The payload of a good token, with changed members (`null` takes one out).
fn payload(changes: &serde_json::Value) -> String {
    let mut claims = json!({"sub": "at_1", "kind": "portal_session", "iat": 999_000, "exp": 1_000_060});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims.to_string()
}

fn rules() -> TokenRules {
    token_rules(SECRET, "portal_session")
}

fn verify(token: &str) -> Result<TokenClaims, Denial> {
    Ok(rules().verify(token.as_bytes(), NOW)?)
}

/// The verdict on a rightly signed token with this header.
fn with_header(header: &str) -> Result<TokenClaims, Denial> {
    verify(&forge(header, &payload(&json!({})), SECRET))
}

/// The verdict on a rightly signed token with these claims changed.
fn with_claims(changes: &serde_json::Value) -> Result<TokenClaims, Denial> {
    verify(&forge(HEADER, &payload(changes), SECRET))
}

fn with_payload(payload: &str) -> Result<TokenClaims, Denial> {
    verify(&forge(HEADER, payload, SECRET))
}

#[track_caller]
fn assert_invalid(verdict: Result<TokenClaims, Denial>, what: &str) {
    assert_eq!(verdict.err(), Some(Denial::InvalidToken), "{what}");
}

#[test]
fn a_good_token_tells_subject_and_times() {
    let claims = with_claims(&json!({})).unwrap();
    assert_eq!(claims.subject.as_str(), "at_1");
    assert_eq!(claims.expires_at, UnixMillis(1_000_060_000));
    assert_eq!(claims.issued_at, Some(UnixMillis(999_000_000)));
    assert_eq!((claims.scopes.clone(), claims.headers.len()), (None, 0));
    assert_eq!(claims.record.as_str(), "at_1");
}

#[test]
fn a_minted_token_verifies_and_a_secret_too_short_mints_nothing() {
    let claims = json!({"sub": "at_1", "kind": "portal_session", "exp": 1_000_060});
    let claims = claims.as_object().unwrap();
    let token = mint(SECRET, claims).unwrap();
    assert!(verify(&token).is_ok());
    assert_eq!(mint(&SECRET[..31], claims), Err(MintError::Weak(WeakSecret)));
    let mut long = claims.clone();
    long.insert("x".into(), "x".repeat(4000).into());
    assert_eq!(mint(SECRET, &long), Err(MintError::TooLong));
}

#[test]
fn known_headers_pass_the_slow_check_too() {
    for encoded in KNOWN_HEADERS {
        let json = URL_SAFE_NO_PAD.decode(encoded).unwrap();
        let spaced = URL_SAFE_NO_PAD.encode(String::from_utf8(json).unwrap().replace(',', " , "));
        assert!(check_header(encoded).is_ok() && check_header(spaced.as_bytes()).is_ok());
    }
}

#[test]
fn j1_no_algorithm_is_no_token() {
    assert!(with_header(HEADER).is_ok());
    for alg in [
        r#""none""#,
        r#""None""#,
        r#""nOnE""#,
        r#""NONE""#,
        r#""""#,
        "null",
        "[\"HS256\"]",
        "256",
    ] {
        let header = format!(r#"{{"typ":"JWT","alg":{alg}}}"#);
        assert_invalid(with_header(&header), alg);
        let token = forge(&header, &payload(&json!({})), SECRET);
        let unsigned = token.rsplit_once('.').unwrap().0;
        assert_invalid(verify(&format!("{unsigned}.")), alg);
        assert_invalid(verify(unsigned), alg);
    }
    for header in [r#"{"typ":"JWT"}"#, "{}"] {
        assert_invalid(with_header(header), header);
    }
}

#[test]
fn j2_only_the_configured_secret_verifies() {
    let pem = b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----";
    let good = payload(&json!({}));
    for secret in [
        OTHER,
        pem,
        &[pem.as_slice(), b"\n"].concat(),
        &SECRET[..31],
        b"",
        &[SECRET, b"x"].concat(),
    ] {
        assert_invalid(verify(&forge(HEADER, &good, secret)), "another secret");
    }
    assert!(verify(&forge(HEADER, &good, SECRET)).is_ok());
}

#[test]
fn j3_no_other_algorithm_is_taken_whatever_it_was_signed_with() {
    let claims: serde_json::Value = serde_json::from_str(&payload(&json!({}))).unwrap();
    for alg in [Algorithm::HS384, Algorithm::HS512] {
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::new(alg), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
        assert_invalid(verify(&token), "signed with another hash");
    }
    for alg in [
        "HS384", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA", "hs256", "HS256 ", "HS2560",
    ] {
        assert_invalid(with_header(&format!(r#"{{"alg":"{alg}"}}"#)), alg);
    }
}

#[test]
fn j4_secrets_are_long_and_of_one_surface_only() {
    assert_eq!(TokenKeys::new([b""]).err(), Some(WeakSecret));
    assert_eq!(TokenKeys::new([&SECRET[..31]]).err(), Some(WeakSecret));
    assert_eq!(TokenKeys::new([SECRET, b"short"]).err(), Some(WeakSecret));
    assert_eq!(TokenKeys::new::<&[u8]>([]).err(), Some(WeakSecret));
    let keys = |secrets: &[&[u8]]| TokenKeys::new(secrets).unwrap();
    assert!(keys(&[SECRET, OTHER]).shares_secret_with(&keys(&[OTHER])));
    assert!(!keys(&[SECRET]).shares_secret_with(&keys(&[OTHER])));
    // HMAC pads keys with zeros, so these two are one key.
    assert!(keys(&[SECRET]).shares_secret_with(&keys(&[&[SECRET, b"\0"].concat()])));
}

#[test]
fn j5_a_kid_is_bounded_and_never_used() {
    for kid in ["k1", "", "../../dev/null", "' OR 1=1--", "a\\nb"] {
        assert!(with_header(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#)).is_ok(), "{kid}");
    }
    let long = "k".repeat(129);
    for kid in [format!("\"{long}\""), "1".into(), "null".into(), "[\"k1\"]".into()] {
        assert_invalid(with_header(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#)), &kid);
    }
    assert_invalid(with_header(r#"{"alg":"HS256","kid":"a","kid":"b"}"#), "two kids");
    assert_invalid(
        with_header(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(65_536))),
        "64 KB kid",
    );
}

#[test]
fn j6_keys_and_their_places_in_the_header_are_not_looked_at() {
    let jwk = format!(r#"{{"kty":"oct","k":"{}"}}"#, URL_SAFE_NO_PAD.encode(OTHER));
    for extra in [
        r#""jku":"http://127.0.0.1:1/""#.to_owned(),
        r#""x5u":"http://127.0.0.1:1/""#.to_owned(),
        r#""x5c":["AAAA"]"#.to_owned(),
        format!(r#""jwk":{jwk}"#),
    ] {
        let header = format!(r#"{{"alg":"HS256",{extra}}}"#);
        assert!(with_header(&header).is_ok(), "{extra}");
        assert_invalid(verify(&forge(&header, &payload(&json!({})), OTHER)), &extra);
    }
}

#[test]
fn j7_what_must_be_understood_is_refused() {
    for extra in [
        r#""crit":["x"]"#,
        r#""crit":[]"#,
        r#""crit":["exp"]"#,
        r#""crit":null"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""b64":null"#,
        r#""\u0063rit":["x"]"#,
    ] {
        assert_invalid(with_header(&format!(r#"{{"alg":"HS256",{extra}}}"#)), extra);
    }
    assert!(with_header(r#"{"alg":"HS256","x":["crit"]}"#).is_ok());
}

#[test]
fn j7_a_detached_payload_is_refused() {
    let token = forge(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, &payload(&json!({})), SECRET);
    let parts: Vec<_> = token.split('.').collect();
    assert_invalid(verify(&format!("{}..{}", parts[0], parts[2])), "detached");
}

#[test]
fn j10_repeated_members_refuse_the_token() {
    for extra in [
        r#""tenant":"a","tenant":"b""#,
        r#""exp":1000060"#,
        r#""\u0065xp":1000060"#,
        r#""kind":"portal_session""#,
        r#""x":{"a":1,"a":2}"#,
    ] {
        let payload = format!(r#"{{"sub":"at_1","kind":"portal_session","exp":1000060,{extra}}}"#);
        assert_invalid(with_payload(&payload), extra);
    }
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
    ] {
        assert_invalid(with_header(header), header);
    }
    assert!(with_payload(r#"{"sub":"at_1","kind":"portal_session","exp":1000060,"tenant":"a","x":{"exp":1}}"#).is_ok());
}

#[test]
fn j12_a_token_has_three_parts_of_strict_base64url() {
    let good = forge(HEADER, &payload(&json!({})), SECRET);
    let parts: Vec<_> = good.split('.').collect();
    let [h, p, s] = parts[..] else { panic!("three parts") };
    let bad = [
        String::new(),
        ".".into(),
        "..".into(),
        h.into(),
        format!("{h}.{p}"),
        format!("{h}.{p}."),
        format!("{h}..{s}"),
        format!(".{p}.{s}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{s}"),
        format!("{good}.{h}.{p}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{h}.{p}\n.{s}"),
        format!("{h}=.{p}.{s}"),
        format!("{h}.{p}=.{s}"),
        format!("{good}="),
        format!("{h}.{p}.{}", &s[..42]),
        format!("{h}.{p}.{s}A"),
        format!("{h}.{p}.{}", "A".repeat(43)),
    ];
    for token in bad {
        assert_invalid(verify(&token), &token);
    }
    assert!(verify(&good).is_ok());
}

#[test]
fn j12_other_alphabets_of_base64_are_refused() {
    // A payload whose encoding holds `-` and `_`, so that the other alphabet differs.
    let (mut tried, key) = (0, EncodingKey::from_secret(SECRET));
    for filler in 0..200 {
        let good = forge(HEADER, &payload(&json!({"x": format!("\u{3ff}\u{7f}{filler}~~>>??")})), SECRET);
        let other = good.replace('-', "+").replace('_', "/");
        assert!(verify(&good).is_ok());
        if other == good {
            continue;
        }
        tried += 1;
        assert_invalid(verify(&other), "other alphabet");
        // Even when the signature was made over that very text.
        let signed = other.rsplit_once('.').unwrap().0;
        if signed.contains(['+', '/']) {
            let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
            assert_invalid(verify(&format!("{signed}.{signature}")), "signed in the other alphabet");
        }
    }
    assert!(tried > 0, "the corpus is not empty");
}

#[test]
fn j13_no_second_spelling_of_a_token_verifies() {
    let good = forge(HEADER, &payload(&json!({})), SECRET);
    for at in 0..good.len() {
        for other in [b'A', b'B', b'Q', b'g', b'w', b'-', b'_', b'.', b'='] {
            let mut token = good.clone().into_bytes();
            if token[at] == other {
                continue;
            }
            token[at] = other;
            assert!(rules().verify(&token, NOW).is_err(), "byte {at} as {}", char::from(other));
        }
    }
    // The last character of a signature carries two unused bits: all spellings but one are refused.
    let last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        .chars()
        .filter(|c| verify(&format!("{}{c}", &good[..good.len() - 1])).is_ok());
    assert_eq!(last.count(), 1);
}

#[test]
fn j18_tokens_of_other_kinds_are_refused() {
    for header in [
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","typ":"jwt"}"#,
        r#"{"alg":"HS256","typ":"JOSE"}"#,
        r#"{"alg":"HS256","typ":1}"#,
        r#"{"alg":"HS256","typ":null}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","enc":"A256GCM"}"#,
        r#"{"alg":"dir","enc":"A256GCM"}"#,
    ] {
        assert_invalid(with_header(header), header);
    }
    let jwe = [
        URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#).as_str(),
        "",
        "AAAA",
        "AAAA",
        "AAAA",
    ]
    .join(".");
    assert_invalid(verify(&jwe), "five parts");
    let id_token = json!({"kind": null, "iss": "https://idp.test", "aud": "client", "nonce": "n"});
    assert_invalid(with_claims(&id_token), "an ID token");
    assert!(with_header(r#"{"alg":"HS256"}"#).is_ok(), "typ is optional");
}

#[test]
fn k7_debug_of_rules_and_keys_shows_no_secret() {
    let rules = rules();
    let shown = format!("{rules:?} {:?}", rules.keys);
    assert!(shown.contains("portal_session") && !shown.contains("0123456789abcdef"));
}

#[test]
fn token_shape_is_three_parts_of_the_alphabet() {
    for good in ["a.b.c", "eyJ.e30.-_"] {
        assert!(is_token_shaped(good.as_bytes()), "{good}");
    }
    for bad in ["", "a", "a.b", "a.b.c.d", "a.b.", ".b.c", "a..c", "a.b.c=", "a.b.+", "a.b c.d"] {
        assert!(!is_token_shaped(bad.as_bytes()), "{bad}");
    }
}
