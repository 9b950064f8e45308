//! What a rightly signed token may claim.

use std::sync::Arc;

use super::*;

#[test]
fn j4_a_token_of_one_kind_is_none_of_another() {
    for kind in [
        json!("dashboard_session"),
        json!("Portal_session"),
        json!("portal_session "),
        json!(" portal_session"),
        json!(""),
        json!(["portal_session"]),
        json!(1),
        json!({"portal_session": 1}),
        json!(null),
    ] {
        assert_invalid(with_claims(&json!({"kind": kind})), "another kind");
    }
    assert_invalid(with_payload(r#"{"sub":"at_1","kind":null,"exp":1000060}"#), "null kind");
}

#[test]
fn j8_times_are_numbers_in_range() {
    for good in ["1000060", "1000060.5", "1e10", "253402300799"] {
        assert!(
            with_payload(&format!(r#"{{"sub":"at_1","kind":"portal_session","exp":{good}}}"#)).is_ok(),
            "{good}"
        );
    }
    let bad = [
        "\"9999999999\"",
        "-1",
        "-1.5",
        "[1000060]",
        "null",
        "true",
        "{}",
        "253402300800",
        "1e12",
        "1e300",
        "1e999",
        "18446744073709551615",
        "99999999999999999999999",
        "-9223372036854775808",
        "NaN",
        "0x10",
    ];
    for bad in bad {
        assert_invalid(
            with_payload(&format!(r#"{{"sub":"at_1","kind":"portal_session","exp":{bad}}}"#)),
            &format!("exp {bad}"),
        );
        for name in ["iat", "nbf"] {
            let payload = format!(r#"{{"sub":"at_1","kind":"portal_session","exp":1000060,"{name}":{bad}}}"#);
            assert_invalid(with_payload(&payload), &format!("{name} {bad}"));
        }
    }
    assert_invalid(with_claims(&json!({"exp": null})), "no exp");
    assert!(with_claims(&json!({"iat": null})).is_ok());
}

#[test]
fn j9_issuer_audience_and_subject_are_exact() {
    let rules = TokenRules {
        issuer: Some("https://us.test".into()),
        audience: Some("gate".into()),
        ..rules()
    };
    let verdict = |changes: serde_json::Value| {
        let mut all = json!({"iss": "https://us.test", "aud": "gate"});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Ok::<_, Denial>(rules.verify(forge(HEADER, &payload(&all), SECRET).as_bytes(), NOW)?)
    };
    for good in [json!({}), json!({"aud": ["gate"]}), json!({"aud": ["x", "gate"]})] {
        assert!(verdict(good.clone()).is_ok(), "{good}");
    }
    for bad in [
        json!({"iss": null}),
        json!({"iss": ["https://us.test"]}),
        json!({"iss": "https://us.test/"}),
        json!({"iss": 1}),
        json!({"aud": null}),
        json!({"aud": 1}),
        json!({"aud": "Gate"}),
        json!({"aud": []}),
        json!({"aud": ["x"]}),
        json!({"aud": ["gate", 1]}),
        json!({"aud": [["gate"]]}),
        json!({"aud": vec!["gate"; 65]}),
        json!({"sub": null}),
        json!({"sub": ["at_1"]}),
        json!({"sub": 1}),
        json!({"sub": ""}),
        json!({"sub": "at_1\r\nX-Tenant-Id: evil"}),
        json!({"sub": "x".repeat(129)}),
    ] {
        assert_invalid(verdict(bad.clone()), &bad.to_string());
    }
}

#[test]
fn j11_a_payload_is_one_small_object() {
    for payload in [
        "[]",
        r#"["at_1","portal_session",1000060]"#,
        r#"[{"sub":"at_1","kind":"portal_session","exp":1000060}]"#,
        "\"x\"",
        "1",
        "null",
        "true",
        r#"{"sub":"at_1","kind":"portal_session","exp":1000060"#,
        r#"{"sub":"at_1","kind":"portal_session","exp":1000060}{}"#,
    ] {
        assert_invalid(with_payload(payload), payload);
    }
    let deep = |depth| {
        format!(
            r#"{{"sub":"at_1","kind":"portal_session","exp":1000060,"x":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(with_payload(&deep(20)).is_ok());
    for depth in [200, 1_000, 10_000] {
        assert_invalid(with_payload(&deep(depth)), "deep");
    }
    let big = |n| format!(r#"{{"sub":"at_1","kind":"portal_session","exp":1000060,"x":"{}"}}"#, "x".repeat(n));
    assert!(with_payload(&big(2_500)).is_ok());
    assert_invalid(with_payload(&big(3_100)), "above 4 KiB");
    assert_invalid(with_payload(&big(1_000_000)), "1 MB");
}

#[test]
fn j14_times_are_judged_by_our_clock_within_the_skew() {
    let expired = |seconds: i64| with_claims(&json!({"exp": 1_000_000 - seconds})).err();
    assert_eq!(expired(1), None);
    assert_eq!(expired(4), None);
    for seconds in [5, 59, 61, 3_600] {
        assert_eq!(expired(seconds), Some(Denial::ExpiredCredential), "{seconds} s ago");
    }
    for name in ["nbf", "iat"] {
        let ahead = |seconds: i64| with_claims(&json!({name: 1_000_000 + seconds}));
        assert!(ahead(0).is_ok() && ahead(5).is_ok());
        for seconds in [6, 10, 3_600] {
            assert_invalid(ahead(seconds), name);
        }
    }
}

#[test]
fn j14_a_stepped_clock_admits_only_what_its_time_admits() {
    let token = forge(HEADER, &payload(&json!({"iat": 1_000_000, "exp": 1_001_800})), SECRET);
    let at = |seconds: i64| {
        rules()
            .verify(token.as_bytes(), UnixMillis(seconds * 1000))
            .err()
            .map(|why| why.denial)
    };
    assert_eq!(at(1_000_000), None);
    assert_eq!(at(1_003_600), Some(Denial::ExpiredCredential));
    assert_eq!(at(996_400), Some(Denial::InvalidToken), "issued in the future of a clock set back");
    let rules = TokenRules {
        skew: Duration::from_secs(3_600),
        ..rules()
    };
    let verdict = rules.verify(token.as_bytes(), UnixMillis(1_001_805_000));
    assert_eq!(
        verdict.err().map(|why| why.denial),
        Some(Denial::ExpiredCredential),
        "no skew above five seconds counts"
    );
}

#[test]
fn j14_an_expired_token_with_a_wrong_signature_is_not_told_to_be_expired() {
    let token = forge(HEADER, &payload(&json!({"exp": 1})), OTHER);
    assert_invalid(verify(&token), "forged and expired");
}

#[test]
fn j16_several_secrets_verify_while_one_is_rotated_and_the_old_one_ends_with_it() {
    let (old, new) = (
        forge(HEADER, &payload(&json!({})), SECRET),
        forge(HEADER, &payload(&json!({})), OTHER),
    );
    let verdicts = |secrets: &[&[u8]]| {
        let rules = TokenRules {
            keys: TokenKeys::new(secrets).unwrap(),
            ..rules()
        };
        [&old, &new].map(|token| rules.verify(token.as_bytes(), NOW).is_ok())
    };
    assert_eq!(verdicts(&[SECRET]), [true, false]);
    assert_eq!(verdicts(&[OTHER, SECRET]), [true, true]);
    assert_eq!(verdicts(&[OTHER]), [false, true]);
}

#[test]
fn scopes_come_from_the_configured_claim_as_list_or_text() {
    let rules = TokenRules {
        scopes_claim: Some("perms".into()),
        ..rules()
    };
    let scopes = |value: serde_json::Value| {
        let token = forge(HEADER, &payload(&json!({"perms": value})), SECRET);
        rules
            .verify(token.as_bytes(), NOW)
            .map(|claims| claims.scopes.unwrap().joined().to_owned())
    };
    assert_eq!(scopes(json!(["b", "a"])).unwrap(), "b a");
    assert_eq!(scopes(json!("b a")).unwrap(), "b a");
    assert_eq!(
        scopes(json!("api/orders.read  https://www.example.com/auth/drive")).unwrap(),
        "api/orders.read https://www.example.com/auth/drive"
    );
    assert_eq!(scopes(json!([])).unwrap(), "");
    assert_eq!(scopes(json!(null)).unwrap(), "", "without the claim there is no scope");
    for bad in [
        json!(1),
        json!({"a": 1}),
        json!([1]),
        json!(["a b"]),
        json!(["a\r\nb"]),
        json!(true),
        json!("a\"b"),
        json!("a\\b"),
    ] {
        assert_eq!(
            scopes(bad.clone()).err().and_then(|why| why.cause),
            Some(TokenFault::MalformedScopes.label()),
            "{bad}"
        );
    }
}

#[test]
fn h8_claims_become_headers_encoded_or_not_at_all() {
    let header = |claim: &str| ClaimHeader {
        claim: claim.into(),
        header: format!("X-{claim}"),
    };
    let rules = TokenRules {
        claim_headers: vec![header("tid"), header("perms"), header("exp")],
        ..rules()
    };
    let headers = |changes: serde_json::Value| {
        let token = forge(HEADER, &payload(&changes), SECRET);
        rules.verify(token.as_bytes(), NOW).map(|claims| claims.headers)
    };
    let text = |text: &str| Some(Arc::<str>::from(text));
    assert_eq!(
        headers(json!({"tid": "tx_1", "perms": ["b", "a"]})).unwrap(),
        [text("tx_1"), text("b a"), text("1000060")]
    );
    assert_eq!(headers(json!({"perms": []})).unwrap(), [None, None, text("1000060")]);
    assert_eq!(
        headers(json!({"tid": "Ann O'Neil <a@b.c>"})).unwrap()[0],
        text("Ann O'Neil <a@b.c>")
    );
    for (claim, header) in [
        (json!("a\r\nX-Tenant-Id: evil"), text("a%0D%0AX-Tenant-Id: evil")),
        (json!("a\u{0}b"), text("a%00b")),
        (json!("J\u{fc}rgen"), text("J%C3%BCrgen")),
        (json!(" a"), text("%20a")),
        (json!(1.5), text("1.5")),
        (json!(true), text("true")),
        (json!(["Domain Users", "b"]), text("Domain%20Users b")),
        (json!(""), None),
        (json!({"a": 1}), None),
        (json!([["a"]]), None),
        (
            json!(vec!["x".repeat(1_000); 2]),
            text(&["x".repeat(1_000), "x".repeat(1_000)].join(" ")),
        ),
    ] {
        assert_eq!(headers(json!({"tid": claim})).unwrap()[0], header, "{claim}");
    }
    let null = format!(r#"{{"sub":"at_1","kind":"portal_session","exp":1000060,"tid":{}}}"#, "null");
    let claims = rules.verify(forge(HEADER, &null, SECRET).as_bytes(), NOW).unwrap();
    assert_eq!(claims.headers, [None, None, text("1000060")], "null is left out");
}

#[test]
fn every_cause_is_told_by_its_name() {
    let rules = TokenRules {
        issuer: Some("us".into()),
        audience: Some("them".into()),
        scopes_claim: Some("scope".into()),
        ..rules()
    };
    let good = json!({"iss": "us", "aud": "them", "scope": "a"});
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        forge(HEADER, &payload(&claims), SECRET)
    };
    let token = forge(HEADER, &payload(&good), SECRET);
    let headed = |header: &str| forge(header, &payload(&good), SECRET);
    let cause = |token: &str| rules.verify(token.as_bytes(), NOW).err().and_then(|why| why.cause);
    assert_eq!(cause(&token), None);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
    for (token, fault) in [
        (format!("{token}{}", "a".repeat(4_096)), TokenFault::TooLong),
        ("a.b".to_owned(), TokenFault::Form),
        (format!("{token}="), TokenFault::BadSignature),
        (headed("[]"), TokenFault::Json),
        (forge(HEADER, "[]", SECRET), TokenFault::Json),
        (forge(HEADER, &deep, SECRET), TokenFault::TooDeep),
        (forge(HEADER, r#"{"sub":"a","sub":"b"}"#, SECRET), TokenFault::RepeatedMember),
        (headed(r#"{"alg":"HS256","crit":["x"]}"#), TokenFault::UnsupportedHeader),
        (headed(r#"{"alg":1}"#), TokenFault::MalformedHeader),
        (headed(r#"{"typ":"JWT"}"#), TokenFault::MalformedHeader),
        (headed(r#"{"alg":"HS256","kid":1}"#), TokenFault::MalformedHeader),
        (headed(r#"{"alg":"HS512"}"#), TokenFault::WrongAlgorithm),
        (headed(r#"{"alg":"none"}"#), TokenFault::WrongAlgorithm),
        (headed(r#"{"alg":"HS256","typ":"at+jwt"}"#), TokenFault::WrongType),
        (forge(HEADER, &payload(&good), OTHER), TokenFault::BadSignature),
        (with("kind", json!("other")), TokenFault::WrongKind),
        (with("iss", json!("other")), TokenFault::UnknownIssuer),
        (with("aud", json!("other")), TokenFault::WrongAudience),
        (with("exp", json!("1")), TokenFault::MalformedTime),
        (with("nbf", json!(2_000_000)), TokenFault::NotYetValid),
        (with("iat", json!(2_000_000)), TokenFault::IssuedInFuture),
        (with("sub", json!("a\u{7}")), TokenFault::MalformedSubject),
        (with("sub", json!(1)), TokenFault::NoSubject),
        (with("sub", json!("a b")), TokenFault::NoRecord),
        (with("scope", json!(1)), TokenFault::MalformedScopes),
    ] {
        assert_eq!(cause(&token), Some(fault.label()), "{token:.80}");
    }
}
