//! People and verification sessions of geldstuck: log-in, cookie, renewal, absolute end, log-out.

use std::time::Duration;

use durward::base::clock;
use serde_json::{Value, json};

use crate::support::raw::Response;
use crate::support::wait::{PATIENCE, until};

use super::super::{call, expect, text};
use super::{
    EMAIL, KEYS, PASSWORD, Pair, ann, expect_invalid, expect_missing, log_in, log_in_with, open, refusal, with_bearer, with_cookie,
};

const PAGE: &str = "/v1/dashboard/overview";
const ATTRIBUTES: &str = "; Path=/; HttpOnly; Secure; SameSite=Lax";

/// The payload of a signed token.
fn claims(token: &str) -> Value {
    let options = jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap();
    options.claims
}

fn log_in_as(gateway: &crate::support::gateway::Gateway, email: &str, password: &str) -> Response {
    let body = json!({ "email": email, "password": password }).to_string();
    call(gateway, "POST", "/v1/auth/login", &[], &body)
}

#[test]
fn a_log_in_gives_a_token_and_the_same_token_as_a_cookie() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let account = ann(&house.site);
    let before = jiff::Timestamp::now().as_second();
    let answer = log_in_with(gateway, &[]);
    let token = text(&answer, "token");
    let cookie = format!("geldstuck_session={token}{ATTRIBUTES}");
    let body = json!({ "token": "~jwt", "expires_at": "~time" });
    expect(&answer, 200, &[("set-cookie", &cookie)], &body);
    let claims = claims(&token);
    let (issued, ends) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert_eq!((&claims["kind"], ends - issued), (&json!("session"), 15 * 60));
    assert!((before..before + 60).contains(&issued), "{claims}");
    let told: jiff::Timestamp = text(&answer, "expires_at").parse().unwrap();
    assert_eq!(told.as_second(), ends);

    for by in ["header", "cookie"] {
        house.upstream.forget();
        let answer = match by {
            "header" => with_bearer(gateway, "GET", PAGE, &token, ""),
            _ => with_cookie(gateway, "GET", PAGE, &token, &[]),
        };
        assert_eq!(answer.status, 200, "by {by}");
        assert!(
            answer.field("set-cookie").is_none() && answer.field("x-session-token").is_none(),
            "too young"
        );
        let seen = &house.upstream.requests()[0];
        for (name, value) in [
            ("X-Tenant-Id", "acme"),
            ("X-Auth-Surface", "session"),
            ("X-Auth-Subject", account.as_str()),
        ] {
            assert_eq!(seen.all(name), [value], "{name}");
        }
        assert!(seen.all("cookie").is_empty() && seen.all("authorization").is_empty());
    }
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(!output.contains(&token) && !output.contains(PASSWORD), "logged");
}

#[test]
fn wrong_log_ins_are_one_answer_and_end_nothing() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let account = ann(&house.site);
    for (email, password) in [
        (EMAIL, "wrong-password"),
        ("bob@acme.example", PASSWORD),
        ("ann@globex.example", PASSWORD),
    ] {
        expect_invalid(&log_in_as(gateway, email, password));
    }
    let upper = log_in_as(gateway, &EMAIL.to_uppercase(), PASSWORD);
    assert_eq!(upper.status, 200, "an address has one form");
    gateway.json(&["accounts", "disable", &account]);
    until("the account to be disabled", PATIENCE, || {
        (with_bearer(gateway, "GET", PAGE, &text(&upper, "token"), "").status == 401).then_some(())
    });
    expect_invalid(&log_in_as(gateway, EMAIL, PASSWORD));
    gateway.json(&["accounts", "enable", &account]);
    assert_eq!(log_in_as(gateway, EMAIL, PASSWORD).status, 200);
}

#[test]
fn a_log_out_ends_its_session_alone_and_takes_the_cookie_back() {
    let house = open(&[]);
    let gateway = &house.gateway;
    ann(&house.site);
    let removed = format!("geldstuck_session={ATTRIBUTES}; Max-Age=0");
    let (first, second, kept) = (log_in(gateway), log_in(gateway), log_in(gateway));
    let answer = with_bearer(gateway, "POST", "/v1/auth/logout", &first, "");
    expect(&answer, 204, &[("set-cookie", &removed)], &Value::Null);
    let own = [("Origin", "http://localhost")];
    let answer = with_cookie(gateway, "POST", "/v1/auth/logout", &second, &own);
    expect(&answer, 204, &[("set-cookie", &removed)], &Value::Null);
    for ended in [&first, &second] {
        until("it to end", PATIENCE, || {
            (with_bearer(gateway, "GET", PAGE, ended, "").status == 401).then_some(())
        });
        expect_invalid(&with_bearer(gateway, "GET", PAGE, ended, ""));
        expect_invalid(&with_cookie(gateway, "GET", PAGE, ended, &[]));
        expect_invalid(&with_bearer(gateway, "POST", "/v1/auth/logout", ended, ""));
    }
    assert_eq!(with_bearer(gateway, "GET", PAGE, &kept, "").status, 200, "another session goes on");
    expect_missing(&call(gateway, "POST", "/v1/auth/logout", &[], ""));
}

#[test]
fn b8_a_planted_cookie_gets_nothing_and_the_session_it_was_of_ends() {
    let house = open(&[]);
    let gateway = &house.gateway;
    ann(&house.site);
    let planted = log_in(gateway);
    let cookie = format!("geldstuck_session={planted}");
    let answer = log_in_with(gateway, &[("Cookie", &cookie), ("Origin", "http://localhost")]);
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let new = text(&answer, "token");
    assert_ne!(claims(&planted)["jti"], claims(&new)["jti"], "a new session");
    until("the old one to end", PATIENCE, || {
        (with_cookie(gateway, "GET", PAGE, &planted, &[]).status == 401).then_some(())
    });
    assert_eq!(with_cookie(gateway, "GET", PAGE, &new, &[]).status, 200);
    // What never was a session is no obstacle to a log-in, and is not taken over.
    let answer = log_in_with(gateway, &[("Cookie", "geldstuck_session=planted")]);
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert!(answer.field("set-cookie").is_some_and(|cookie| !cookie.contains("planted")));
}

#[test]
fn b10_a_cookie_changes_nothing_without_the_proof_of_one_origin() {
    let house = open(&[]);
    let gateway = &house.gateway;
    ann(&house.site);
    let session = log_in(gateway);
    let cross = refusal("permission_error", "The request may come from another site.");
    let made = || {
        gateway.json(&["keys", "list", "--tenant", "acme"])["keys"]
            .as_array()
            .unwrap()
            .len()
    };
    let before = made();
    for proofless in [
        &[][..],
        &[("Origin", "null")],
        &[("Origin", "https://evil.example")],
        &[("Origin", "http://localhost.evil.example")],
        &[("Origin", "http://localhost:1")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "cross-site"), ("Origin", "http://localhost")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", "https://evil.example")],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "text/plain"), ("Origin", "https://evil.example")],
        &[("Referer", "http://localhost/page")],
    ] {
        for path in [KEYS, "/v1/auth/logout"] {
            let answer = with_cookie(gateway, "POST", path, &session, proofless);
            expect(&answer, 403, &[], &cross);
        }
    }
    assert_eq!(made(), before, "nothing was made");
    assert_eq!(
        with_cookie(gateway, "GET", PAGE, &session, &[]).status,
        200,
        "nor ended, and reading needs no proof"
    );
    // The twins: the proof, or a header, which no other site can make a browser send.
    for proof in [
        &[("Origin", "http://localhost")][..],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "none")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", "https://localhost")],
    ] {
        let answer = with_cookie(gateway, "POST", KEYS, &session, proof);
        assert_eq!(answer.status, 201, "{proof:?}");
    }
    assert_eq!(with_bearer(gateway, "POST", KEYS, &session, "{}").status, 201);
}

/// The renewed token on an answer, by the way the old one came.
fn renewed(answer: &Response, by: &str) -> Option<String> {
    if by == "header" {
        assert!(answer.field("set-cookie").is_none(), "a cookie for a caller without one");
        return answer.field("x-session-token").map(str::to_owned);
    }
    assert!(answer.field("x-session-token").is_none(), "a page could read its session");
    let cookie = answer.field("set-cookie")?;
    let token = cookie.strip_prefix("geldstuck_session=").unwrap().strip_suffix(ATTRIBUTES);
    Some(token.unwrap_or_else(|| panic!("attributes of {cookie}")).to_owned())
}

#[test]
fn a_session_in_use_is_renewed_until_its_absolute_end_and_an_unused_one_is_not() {
    // Seconds for the quarters of an hour: a token 4, renewed after 1, the session 9.
    let house = open(&[
        (
            "record = \"own\"\nlifetime = \"15m\"\ncookie",
            "record = \"own\"\nlifetime = \"4s\"\ncookie",
        ),
        ("after = \"5m\"", "after = \"1s\""),
        ("lifetime = \"12h\"", "lifetime = \"9s\""),
    ]);
    let gateway = &house.gateway;
    ann(&house.site);
    let use_by = |by: &str, token: &str| match by {
        "header" => with_bearer(gateway, "GET", PAGE, token, ""),
        _ => with_cookie(gateway, "GET", PAGE, token, &[]),
    };
    for by in ["header", "cookie"] {
        let asked = clock::instant();
        let (first, unused) = (log_in(gateway), log_in(gateway));
        let made = clock::instant();
        let session = claims(&first)["jti"].clone();
        let last_end = claims(&first)["iat"].as_i64().unwrap() + 9 + 1;
        let (mut token, mut renewals) = (first.clone(), 0);
        until("the absolute end", PATIENCE, || {
            let answer = use_by(by, &token);
            if answer.status != 200 {
                expect_invalid(&answer);
                return Some(());
            }
            assert!(made.elapsed() < Duration::from_secs(11), "in use beyond its absolute end");
            if let Some(next) = renewed(&answer, by) {
                assert_eq!(answer.field("cache-control"), Some("no-store"));
                let claims = claims(&next);
                assert_eq!(claims["jti"], session, "one session");
                assert!(claims["exp"].as_i64().unwrap() <= last_end, "{claims}");
                token = next;
                renewals += 1;
            }
            None
        });
        assert!(asked.elapsed() >= Duration::from_secs(8), "it ended early");
        assert!(renewals >= 3, "{renewals} renewals by {by}");
        for ended in [&first, &unused, &token] {
            expect_invalid(&use_by(by, ended));
        }
    }
}

#[test]
fn a_verification_token_works_on_the_verification_routes_and_for_its_time() {
    let house = open(&[(
        "token_kind = \"verification\"\nsecrets = \"generate:state/verification.secret\"\nrecord = \"own\"\nlifetime = \"15m\"",
        "token_kind = \"verification\"\nsecrets = \"generate:state/verification.secret\"\nrecord = \"own\"\nlifetime = \"4s\"",
    )]);
    let gateway = &house.gateway;
    let pair = Pair::of(gateway, "acme", "live");
    let asked = clock::instant();
    let answer = pair.call(gateway, "POST", "/v1/kyc/onfido", r#"{"subject":"user_1"}"#);
    expect(&answer, 201, &[], &json!({ "session_token": "~jwt", "expires_at": "~time" }));
    let token = text(&answer, "session_token");
    for method in ["GET", "POST"] {
        house.upstream.forget();
        assert_eq!(with_bearer(gateway, method, "/v1/verification/steps", &token, "").status, 200);
        let seen = &house.upstream.requests()[0];
        assert_eq!(seen.all("X-Auth-Subject"), ["user_1"]);
        assert_eq!(seen.all("X-Auth-Surface"), ["verification"]);
        assert_eq!(seen.all("X-Tenant-Id"), ["acme"]);
    }
    for path in [PAGE, "/v1/transactions/t1", KEYS] {
        expect_invalid(&with_bearer(gateway, "GET", path, &token, ""));
    }
    let answer = until("its end", PATIENCE, || {
        Some(with_bearer(gateway, "GET", "/v1/verification/steps", &token, "")).filter(|a| a.status != 200)
    });
    assert!(asked.elapsed() >= Duration::from_secs(3));
    expect_invalid(&answer);
    // It hangs on its pair.
    let token = text(
        &pair.call(gateway, "POST", "/v1/kyc/onfido", r#"{"subject":"user_1"}"#),
        "session_token",
    );
    gateway.json(&["keys", "revoke", &pair.id]);
    until("it to end with its pair", Duration::from_secs(2), || {
        (with_bearer(gateway, "GET", "/v1/verification/steps", &token, "").status == 401).then_some(())
    });
}

#[test]
fn a_verification_token_lives_fifteen_minutes() {
    let house = open(&[]);
    let pair = Pair::of(&house.gateway, "acme", "test");
    let answer = pair.call(&house.gateway, "POST", "/v1/kyc/onfido", r#"{"subject":"user_1"}"#);
    let claims = claims(&text(&answer, "session_token"));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 15 * 60);
    assert_eq!((&claims["kind"], &claims["sub"]), (&json!("verification"), &json!("user_1")));
}
