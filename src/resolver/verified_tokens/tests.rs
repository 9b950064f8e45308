//! The attacks on remembered tokens (docs/threats.md), for sessions and for tokens of another issuer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::credential::TokenOrigin;
use crate::base::denial::Denial;
use crate::base::ids::SurfaceName;
use crate::decide::external::KeySet;
use crate::decide::samples;
use crate::decide::samples::issuer::{Issuer, external};
use crate::decide::surface::{SessionRecord, SessionSurface, SurfaceKind};
use crate::decide::token::{TokenKeys, TokenRules, mint};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER: &[u8] = b"fedcba9876543210fedcba9876543210";
const SECONDS: i64 = 1_000_000;

fn at(seconds: i64) -> Now {
    Now {
        wall: UnixMillis(seconds * 1000),
        boot: BootMillis(1_000_000),
    }
}

/// The verdict of a worker with this memory on this token.
fn verdict_at(tokens: &mut VerifiedTokens, surface: &Surface, token: &str, now: Now) -> Result<Arc<TokenClaims>, Denial> {
    let credential = Credential::Jwt {
        token: token.as_bytes(),
        origin: TokenOrigin::Header,
    };
    match tokens.verify(surface, credential, now)? {
        Verified::Token(token) => Ok(token.claims),
        Verified::KeyWanted { otherwise, .. } => Err(otherwise.denial),
        Verified::NoToken => panic!("it is a token"),
    }
}

fn verdict(tokens: &mut VerifiedTokens, surface: &Surface, token: &str) -> Result<Arc<TokenClaims>, Denial> {
    verdict_at(tokens, surface, token, at(SECONDS))
}

fn remembers(tokens: &mut VerifiedTokens, token: &str) -> bool {
    tokens.find(&Fingerprint::of_token(token.as_bytes())).is_some()
}

fn count(tokens: &VerifiedTokens) -> usize {
    tokens.slots.iter().flatten().count()
}

/// A session surface with these rules, as a configuration is loaded anew each time.
fn session(change: impl FnOnce(&mut TokenRules)) -> Surface {
    let mut rules = samples::token_rules(SECRET, "portal_session");
    change(&mut rules);
    let kind = SessionSurface {
        carriers: Vec::new(),
        rules: Box::new(rules),
        record: SessionRecord::Sub(SurfaceName::parse("access").unwrap()),
        minting: None,
    };
    samples::surface("portal", SurfaceKind::Session(kind))
}

fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "sub": "at_1", "kind": "portal_session", "iss": "https://us.test", "aud": "gate", "tenant": "acme", "scope": "read",
        "iat": SECONDS - 60, "exp": SECONDS + 60,
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

fn session_token(changes: &Value) -> String {
    mint(SECRET, claims(changes).as_object().unwrap()).unwrap()
}

const US: &str = "https://us.test";

/// What can be made of a good token, and of another good one, without the key.
fn forgeries(token: &str, other: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let others: Vec<&str> = other.split('.').collect();
    let flipped = |text: &str| format!("{}{}", if text.starts_with('A') { "B" } else { "A" }, &text[1..]);
    vec![
        format!("{}.{}.{}", parts[0], parts[1], others[2]),
        format!("{}.{}.{}", parts[0], parts[1], flipped(parts[2])),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(parts[2].len())),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], others[1], parts[2]),
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), parts[1], parts[2]),
        format!("{token}="),
        format!("{token}A"),
        token[..token.len() - 1].to_owned(),
        format!("{token}.{}", parts[2]),
    ]
}

#[test]
fn j19_a_token_is_remembered_by_all_of_its_bytes() {
    let issuer = Issuer::new();
    let keys = issuer.published();
    let more = json!({"sub": "at_2", "scope": "read write"});
    for (surface, token, other) in [
        (session(|_| {}), session_token(&json!({})), session_token(&more)),
        (
            external(&[(US, &keys)], "gate"),
            issuer.token(&claims(&json!({}))),
            issuer.token(&claims(&more)),
        ),
    ] {
        let mut tokens = VerifiedTokens::new();
        for round in 0..2 {
            let subjects = [&token, &other].map(|token| verdict(&mut tokens, &surface, token).unwrap().subject.to_string());
            assert_eq!(subjects, ["at_1", "at_2"], "round {round}");
            for forged in forgeries(&token, &other) {
                assert_eq!(
                    verdict(&mut tokens, &surface, &forged).err(),
                    Some(Denial::InvalidToken),
                    "{forged}"
                );
            }
        }
        assert_eq!(count(&tokens), 2, "a forgery is not remembered");
    }
}

#[test]
fn tokens_with_equal_scopes_share_them_and_others_have_their_own() {
    let surface = session(|rules| rules.scopes_claim = Some("scope".into()));
    let mut tokens = VerifiedTokens::new();
    let mut scopes = |subject: &str, scope: &str| {
        let token = session_token(&json!({"sub": subject, "scope": scope}));
        verdict(&mut tokens, &surface, &token).unwrap().scopes.clone().unwrap()
    };
    let [one, two, other] = [scopes("at_1", "read write"), scopes("at_2", "read write"), scopes("at_3", "read")];
    assert_eq!(one.joined(), "read write");
    assert_eq!(one.joined().as_ptr(), two.joined().as_ptr());
    assert_eq!(other.joined(), "read");
    let long = format!("{} {}", "a".repeat(MAX_SHARED_TEXT / 2), "b".repeat(MAX_SHARED_TEXT / 2));
    let [one, two] = [scopes("at_4", &long), scopes("at_5", &long)];
    assert_eq!(one, two);
    assert_ne!(one.joined().as_ptr(), two.joined().as_ptr());
}

#[test]
fn what_is_remembered_is_not_verified_again() {
    let surface = session(|_| {});
    let (good, unsigned) = (session_token(&json!({})), "a.b.c");
    let mut tokens = VerifiedTokens::new();
    verdict(&mut tokens, &surface, &good).unwrap();
    assert_eq!(verdict(&mut tokens, &surface, unsigned).err(), Some(Denial::InvalidToken));
    let known = tokens.find(&Fingerprint::of_token(good.as_bytes())).unwrap();
    tokens.keep(Fingerprint::of_token(unsigned.as_bytes()), known);
    assert!(
        verdict(&mut tokens, &surface, unsigned).is_ok(),
        "the memory is asked and not the signature"
    );
}

#[test]
fn j20_a_remembered_session_ends_with_its_secret_and_lives_on_beside_a_new_one() {
    let token = session_token(&json!({}));
    let mut tokens = VerifiedTokens::new();
    let mut admitted = |secrets: &[&[u8]]| {
        let surface = session(|rules| rules.keys = TokenKeys::new(secrets).unwrap());
        [(); 2].map(|()| verdict(&mut tokens, &surface, &token).is_ok())
    };
    assert_eq!(admitted(&[SECRET]), [true; 2]);
    assert_eq!(admitted(&[OTHER, SECRET]), [true; 2]);
    assert_eq!(admitted(&[OTHER]), [false; 2]);
    assert_eq!(admitted(&[SECRET]), [true; 2]);
}

#[test]
fn j20_a_remembered_token_ends_with_the_key_of_its_own_issuer() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let (keys, theirs) = (issuer.published(), issuer.published());
    // Another issuer of the surface publishes the same key, and goes on publishing it.
    let surface = external(&[(US, &keys), ("https://them.test", &theirs)], "gate");
    let token = issuer.token(&claims(&json!({})));
    let mut tokens = VerifiedTokens::new();
    assert!(verdict(&mut tokens, &surface, &token).is_ok());
    keys.replace(stranger.set(), BootMillis(0));
    assert_eq!(verdict(&mut tokens, &surface, &token).err(), Some(Denial::InvalidToken));
    keys.replace(KeySet::default(), BootMillis(0));
    assert!(verdict(&mut tokens, &surface, &token).is_err());
    keys.replace(issuer.set(), BootMillis(0));
    assert!(verdict(&mut tokens, &surface, &token).is_ok());
    assert!(remembers(&mut tokens, &token));
}

#[test]
fn j20_a_reload_that_asks_for_something_else_asks_it_of_remembered_tokens_too() {
    let token = session_token(&json!({}));
    let mut tokens = VerifiedTokens::new();
    let rules = |audience: &str, issuer: &str, kind: &str| {
        let (audience, issuer, kind) = (audience.to_owned(), issuer.to_owned(), kind.to_owned());
        session(|rules| {
            (rules.audience, rules.issuer) = (Some(audience), Some(issuer));
            rules.kind = kind;
            rules.scopes_claim = Some("scope".to_owned());
        })
    };
    let mut admitted = |surface: Surface| verdict(&mut tokens, &surface, &token).is_ok();
    assert!(admitted(session(|_| {})));
    assert!(admitted(rules("gate", US, "portal_session")));
    assert!(!admitted(rules("other", US, "portal_session")));
    assert!(!admitted(rules("gate", "https://other.test", "portal_session")));
    assert!(!admitted(rules("gate", US, "dashboard_session")));
    let scopes = |tokens: &mut VerifiedTokens, surface: &Surface| verdict(tokens, surface, &token).unwrap().scopes.clone();
    assert!(scopes(&mut tokens, &rules("gate", US, "portal_session")).is_some());
    assert!(
        scopes(&mut tokens, &session(|_| {})).is_none(),
        "the claims are read as the new rules read them"
    );

    let issuer = Issuer::new();
    let (keys, token) = (issuer.published(), issuer.token(&claims(&json!({}))));
    let mut admitted = |name: &str, audience: &str| verdict(&mut tokens, &external(&[(name, &keys)], audience), &token).is_ok();
    assert!(admitted(US, "gate"));
    assert!(!admitted(US, "other"));
    assert!(!admitted("https://other.test", "gate"));
}

#[test]
fn k11_a_remembered_token_of_one_surface_is_none_of_another() {
    let (portal, dashboard) = (session(|_| {}), session(|rules| rules.kind = "dashboard_session".to_owned()));
    let issuer = Issuer::new();
    let partner = external(&[(US, &issuer.published())], "gate");
    let mut tokens = VerifiedTokens::new();
    let (ours, theirs) = (session_token(&json!({})), issuer.token(&claims(&json!({}))));
    for _ in 0..2 {
        assert!(verdict(&mut tokens, &portal, &ours).is_ok() && verdict(&mut tokens, &partner, &theirs).is_ok());
        for (surface, token) in [(&dashboard, &ours), (&partner, &ours), (&portal, &theirs), (&dashboard, &theirs)] {
            assert_eq!(verdict(&mut tokens, surface, token).err(), Some(Denial::InvalidToken));
        }
    }
}

#[test]
fn j15_the_time_of_a_remembered_token_is_judged_each_time() {
    let issuer = Issuer::new();
    let keys = issuer.published();
    let times = json!({"nbf": SECONDS - 30});
    for (surface, token) in [
        (session(|_| {}), session_token(&times)),
        (external(&[(US, &keys)], "gate"), issuer.token(&claims(&times))),
    ] {
        let mut tokens = VerifiedTokens::new();
        let mut denied = |seconds: i64| verdict_at(&mut tokens, &surface, &token, at(seconds)).err();
        assert_eq!(denied(SECONDS), None);
        assert_eq!(denied(SECONDS + 64), None, "within the skew");
        assert_eq!(denied(SECONDS + 65), Some(Denial::ExpiredCredential));
        // A clock that is set back: before `nbf`, then before `iat`.
        assert_eq!(denied(SECONDS - 35), None, "within the skew");
        assert_eq!(denied(SECONDS - 36), Some(Denial::InvalidToken));
        assert_eq!(denied(SECONDS - 66), Some(Denial::InvalidToken));
        assert_eq!(denied(SECONDS), None);
    }
}

#[test]
fn j21_forged_and_expired_tokens_push_no_token_out() {
    let surface = session(|_| {});
    let kept: Vec<String> = (0..WAYS).map(|i| session_token(&json!({"sub": format!("at_{i}")}))).collect();
    // One set, and it is full.
    let mut tokens = VerifiedTokens::with_limits(WAYS, MAX_WEIGHT);
    for token in &kept {
        verdict(&mut tokens, &surface, token).unwrap();
    }
    for i in 0..200 {
        let forged = mint(OTHER, claims(&json!({"sub": format!("at_{i}")})).as_object().unwrap()).unwrap();
        let expired = session_token(&json!({"exp": SECONDS - 1_000 - i}));
        let early = session_token(&json!({"nbf": SECONDS + 1_000 + i}));
        for bad in [forged, expired, early] {
            assert!(verdict(&mut tokens, &surface, &bad).is_err());
        }
    }
    assert!(kept.iter().all(|token| remembers(&mut tokens, token)));
}

#[test]
fn j21_of_many_good_tokens_the_least_used_is_forgotten_and_admitted_all_the_same() {
    let surface = session(|_| {});
    let token = |i: usize| session_token(&json!({"sub": format!("at_{i}")}));
    let mut tokens = VerifiedTokens::with_limits(WAYS, MAX_WEIGHT);
    for i in (0..WAYS).chain([0, WAYS]) {
        verdict(&mut tokens, &surface, &token(i)).unwrap();
    }
    assert_eq!(count(&tokens), WAYS);
    assert!(remembers(&mut tokens, &token(0)) && !remembers(&mut tokens, &token(1)));
    assert_eq!(verdict(&mut tokens, &surface, &token(1)).unwrap().subject.as_str(), "at_1");
}

#[test]
fn j21_the_claims_of_all_tokens_together_are_bounded() {
    let surface = session(|rules| rules.scopes_claim = Some("perms".to_owned()));
    let token = |i: usize, scopes: usize| {
        let perms: Vec<String> = (0..scopes).map(|scope| format!("scope-{scope}-of-{i}")).collect();
        session_token(&json!({"sub": format!("at_{i}"), "perms": perms}))
    };
    let max = 16 * 1024;
    let mut tokens = VerifiedTokens::with_limits(64, max);
    for i in 0..200 {
        verdict(&mut tokens, &surface, &token(i, i % 40)).unwrap();
        let weights = tokens.slots.iter().flatten().map(|known| weight(&known.token.claims));
        assert_eq!(tokens.weight, weights.sum::<usize>());
        assert!(tokens.weight <= max && count(&tokens) > 0);
    }
    let heavy = token(0, 150);
    assert!(verdict(&mut tokens, &surface, &heavy).is_ok());
    assert!(!remembers(&mut tokens, &heavy), "heavier than all may be together");
}
