//! The J rows of docs/threats.md that are about what a token claims, each for RS256, ES256 and EdDSA.

use std::time::Duration;

use durward::base::clock::{Now, UnixMillis};
use durward::base::denial::Denial;
use durward::base::ids::TenantId;
use durward::base::scope::{Scope, ScopeSet};
use durward::decide::external::Tenants;
use serde_json::{Value, json};

use super::rows::{INVALID, each, good, seconds, set, signers, with, without};
use super::{NOW, issuer, rules, verdict, verdict_at};
use crate::support::issuer::{Signer, jwks};

#[test]
fn a_good_token_says_who_and_what() {
    let signers = signers();
    let rules = rules(&set(signers));
    for signer in signers {
        let claims = verdict(&rules, &signer.token(&good())).unwrap();
        assert_eq!((claims.subject.as_str(), claims.record.as_str()), ("user-7", "acme"));
        assert_eq!(claims.scopes.unwrap().joined(), "transactions:read roles:read");
        assert_eq!(claims.expires_at, UnixMillis(seconds(600) * 1000));
        assert_eq!(claims.issued_at, Some(UnixMillis(seconds(-10) * 1000)));
    }
}

#[test]
fn j8_times_are_numbers_in_range() {
    each(|signer, verdict| {
        let bad = [
            json!("9999999999"),
            json!(1e300),
            json!(-1),
            json!([1]),
            json!(null),
            json!({}),
            json!(true),
            json!(u64::MAX),
            json!(253_402_300_800_i64),
        ];
        for name in ["exp", "nbf", "iat"] {
            for value in &bad {
                assert_eq!(verdict(&signer.token(&with(name, value.clone()))), Err(INVALID), "{name} {value}");
            }
        }
        assert_eq!(verdict(&signer.token(&without("exp"))), Err(INVALID), "a token without an end");
        assert_eq!(verdict(&signer.token(&without("iat"))), Ok(()));
        assert_eq!(verdict(&signer.token(&with("exp", json!(seconds(60) as f64 + 0.5)))), Ok(()));
    });
}

#[test]
fn j9_issuer_and_audience_are_exact_and_needed() {
    each(|signer, verdict| {
        let iss = "https://issuer.test";
        for value in [
            json!([iss]),
            json!([iss, "x"]),
            json!("https://issuer.test/"),
            json!("HTTPS://issuer.test"),
            json!(""),
            json!(1),
            json!(null),
        ] {
            assert_eq!(verdict(&signer.token(&with("iss", value.clone()))), Err(INVALID), "iss {value}");
        }
        assert_eq!(verdict(&signer.token(&without("iss"))), Err(INVALID));
        for value in [
            json!("other"),
            json!([]),
            json!(["other"]),
            json!(1),
            json!({}),
            json!(null),
            json!(["payments", 1]),
            json!(vec!["x"; 2_000]),
        ] {
            assert_eq!(verdict(&signer.token(&with("aud", value))), Err(INVALID));
        }
        assert_eq!(verdict(&signer.token(&without("aud"))), Err(INVALID));
        assert_eq!(verdict(&signer.token(&with("aud", json!(["other", "payments"])))), Ok(()));
        for name in ["sub", "tenant"] {
            for value in [
                json!(""),
                json!(1),
                json!(null),
                json!(["acme"]),
                json!("a\r\nX-Tenant-Id: b"),
                json!("x".repeat(256)),
            ] {
                assert_eq!(verdict(&signer.token(&with(name, value.clone()))), Err(INVALID), "{name} {value}");
            }
            assert_eq!(verdict(&signer.token(&without(name))), Err(INVALID), "{name}");
        }
        for tenant in ["a b", "org/repo", "J\u{fc}rgen", &"x".repeat(129)] {
            assert_eq!(verdict(&signer.token(&with("tenant", json!(tenant)))), Err(INVALID), "{tenant}");
        }
    });
}

#[test]
fn j14_times_are_judged_by_our_clock_with_a_small_skew() {
    each(|signer, verdict| {
        for (claim, offset, expected) in [
            ("exp", 1, Ok(())),
            ("exp", -4, Ok(())),
            ("exp", -5, Err(Denial::ExpiredCredential)),
            ("exp", -59, Err(Denial::ExpiredCredential)),
            ("exp", -61, Err(Denial::ExpiredCredential)),
            ("nbf", 5, Ok(())),
            ("nbf", 6, Err(INVALID)),
            ("iat", 5, Ok(())),
            ("iat", 6, Err(INVALID)),
        ] {
            assert_eq!(
                verdict(&signer.token(&with(claim, json!(seconds(offset))))),
                expected,
                "{claim} {offset}"
            );
        }
    });
}

#[test]
fn j14_a_configured_skew_is_never_more_than_five_seconds() {
    let signer = Signer::eddsa("ed");
    let mut rules = rules(&jwks(&[&signer]));
    rules.skew = Duration::from_secs(3_600);
    assert_eq!(
        verdict(&rules, &signer.token(&with("exp", json!(seconds(-6))))).map(drop),
        Err(Denial::ExpiredCredential)
    );
}

#[test]
fn j15_a_verdict_is_of_its_time() {
    each(|signer, _| {
        let rules = rules(&jwks(&[signer]));
        let token = signer.token(&good());
        let at = |offset: u64| {
            let now = Now {
                wall: NOW.wall.plus(Duration::from_secs(offset)),
                ..NOW
            };
            verdict_at(&rules, &token, now).map(drop)
        };
        assert_eq!((at(0), at(604)), (Ok(()), Ok(())));
        assert_eq!(at(605), Err(Denial::ExpiredCredential));
    });
}

#[test]
fn j17_age_is_counted_from_iat_where_it_is_bounded() {
    let signer = Signer::es256("ec");
    let mut rules = rules(&jwks(&[&signer]));
    rules.issuers[0].max_age = Some(Duration::from_secs(900));
    let issued = |offset: i64| {
        let mut claims = with("iat", json!(seconds(offset)));
        claims["exp"] = json!(seconds(365 * 86_400));
        verdict(&rules, &signer.token(&claims)).map(|claims| claims.expires_at)
    };
    assert_eq!(issued(-10), Ok(UnixMillis(seconds(890) * 1000)));
    assert_eq!(issued(-900 - 5), Err(Denial::ExpiredCredential));
    assert_eq!(
        verdict(&rules, &signer.token(&without("iat"))).map(drop),
        Err(INVALID),
        "no iat to count from"
    );
}

#[test]
fn an_issuer_speaks_for_its_own_tenants_only() {
    let (one, two) = (Signer::es256("k"), Signer::es256("k"));
    let allowed = |tenant: &str| Tenants::Claim {
        claim: "tenant".into(),
        allowed: Some(vec![TenantId::parse(tenant).unwrap()]),
    };
    let mut rules = rules(&jwks(&[&one]));
    rules.issuers[0].tenants = allowed("acme");
    rules.issuers.push(issuer("https://other.test", &jwks(&[&two])));
    rules.issuers[1].tenants = allowed("other");
    let claims = |iss: &str, tenant: &str| {
        let mut claims = with("iss", json!(iss));
        claims["tenant"] = json!(tenant);
        claims
    };
    let verdict = |signer: &Signer, iss: &str, tenant: &str| verdict(&rules, &signer.token(&claims(iss, tenant))).map(drop);
    assert_eq!(verdict(&one, "https://issuer.test", "acme"), Ok(()));
    assert_eq!(verdict(&two, "https://other.test", "other"), Ok(()));
    assert_eq!(verdict(&two, "https://other.test", "acme"), Err(INVALID), "another issuer's tenant");
    assert_eq!(
        verdict(&two, "https://issuer.test", "acme"),
        Err(INVALID),
        "another issuer's name, the same kid"
    );
    assert_eq!(verdict(&one, "https://third.test", "acme"), Err(INVALID));
}

#[test]
fn an_issuer_of_one_tenant_need_not_name_it_and_cannot_name_another() {
    let signer = Signer::eddsa("ed");
    let mut rules = rules(&jwks(&[&signer]));
    rules.issuers[0].tenants = Tenants::One(TenantId::parse("acme").unwrap());
    for claims in [without("tenant"), with("tenant", json!("other"))] {
        assert_eq!(verdict(&rules, &signer.token(&claims)).unwrap().record.as_str(), "acme");
    }
}

#[test]
fn scopes_are_a_text_or_a_list_and_bounded() {
    let signer = Signer::eddsa("ed");
    let mut rules = rules(&jwks(&[&signer]));
    let scopes =
        |rules: &_, value: Value| verdict(rules, &signer.token(&with("permissions", value))).map(|c| c.scopes.unwrap().joined().to_owned());
    assert_eq!(scopes(&rules, json!("a b")), Ok("a b".to_owned()));
    assert_eq!(scopes(&rules, json!(["b", "a", "b"])), Ok("b a".to_owned()));
    assert_eq!(scopes(&rules, json!([])), Ok(String::new()));
    assert_eq!(scopes(&rules, json!(" a  b ")), Ok("a b".to_owned()));
    assert_eq!(scopes(&rules, json!(null)), Ok(String::new()));
    assert_eq!(
        scopes(&rules, json!("orders-api/orders.read https://www.googleapis.com/auth/drive.file")),
        Ok("orders-api/orders.read https://www.googleapis.com/auth/drive.file".to_owned())
    );
    for (odd, left) in [
        (json!(["Domain Users", "a"]), "a"),
        (json!([{ "id": 1, "name": "a" }, "b"]), "b"),
        (json!(["a", 1, null, true, ["c"], "", "\u{fc}"]), "a"),
        (json!("a b\u{7} \"c\" d\\"), "a"),
    ] {
        assert_eq!(
            scopes(&rules, odd.clone()),
            Ok(left.to_owned()),
            "what is no scope does not count: {odd}"
        );
    }
    for bad in [json!(1), json!({}), json!(true)] {
        assert_eq!(scopes(&rules, bad.clone()), Err(INVALID), "{bad}");
    }
    assert_eq!(
        verdict(&rules, &signer.token(&without("permissions")))
            .unwrap()
            .scopes
            .unwrap()
            .joined(),
        ""
    );
    rules.issuers[0].scopes = Some(["a", "c"].iter().map(|s| Scope::parse(s).unwrap()).collect::<ScopeSet>());
    assert_eq!(
        scopes(&rules, json!("a b c d")),
        Ok("a c".to_owned()),
        "no more than the operator lets it give"
    );
}
