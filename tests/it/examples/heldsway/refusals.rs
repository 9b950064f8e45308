//! heldsway: what is wrong with a request is told field by field, too many requests wait, and every code is in capitals.

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::raw::Response;

use super::super::{Nobody, call, site};
use super::{Pair, REPORT, TOKEN, TRUSTED, body, credentials_refused, exchange, expected, open, refused, report, text, token_of};

#[test]
fn missing_and_invalid_fields_are_told_field_by_field() {
    let house = open(&[]);
    let gateway = house.gateway();
    let pair = Pair::make(gateway, &[]);
    let details = |body: &str, details: &str| {
        let error = format!(r#"{{"code":"VALIDATION_ERROR","message":"Validation failed","details":{details}}}"#);
        assert_eq!(refused(&exchange(gateway, body)), expected(422, &[], &error), "{body}");
    };
    let key = r#""api_key":["The api key field is required."]"#;
    let secret = r#""api_secret":["The api secret field is required."]"#;
    details(&json!({"api_secret": pair.secret}).to_string(), &format!("{{{key}}}"));
    details(&json!({"api_key": pair.key}).to_string(), &format!("{{{secret}}}"));
    for empty in [
        "{}",
        "",
        r#"{"api_key":"","api_secret":""}"#,
        r#"{"api_key":null,"api_secret":null}"#,
    ] {
        details(empty, &format!("{{{key},{secret}}}"));
    }
    details(
        &json!({"api_key": 7, "api_secret": [pair.secret]}).to_string(),
        r#"{"api_key":["The api key field must be a string."],"api_secret":["The api secret field must be a string."]}"#,
    );
    details(
        &body(&"k".repeat(65), &"s".repeat(129)),
        r#"{"api_key":["The api key field must not be greater than 64 characters."],"api_secret":["The api secret field must not be greater than 128 characters."]}"#,
    );
    details(
        &json!({"api_key": pair.key, "api_secret": pair.secret, "scope": "all"}).to_string(),
        r#"{"scope":["The scope field is not known."]}"#,
    );
    let longest = body(&"k".repeat(64), &"s".repeat(128));
    assert_eq!(
        refused(&exchange(gateway, &longest)),
        credentials_refused(),
        "64 and 128 are not too long"
    );

    for text in [
        "{",
        "[1]",
        "[]",
        "1",
        "null",
        "\u{feff}{}",
        r#"{"api_key":"a","api_key":"b","api_secret":"c"}"#,
    ] {
        details(text, &format!("{{{key},{secret}}}"));
    }
    let error = format!(r#"{{"code":"VALIDATION_ERROR","message":"Validation failed","details":{{{key},{secret}}}}}"#);
    let form = format!("api_key={}&api_secret={}", pair.key, pair.secret);
    for (media, body) in [("application/x-www-form-urlencoded", &form), ("text/plain", &pair.body())] {
        let answer = call(gateway, "POST", TOKEN, &[("Content-Type", media)], body);
        assert_eq!(refused(&answer), expected(422, &[], &error), "{media}");
    }
    assert_eq!(exchange(gateway, &pair.body()).status, 200, "the twin");
    let one = gateway.json(&["keys", "list", "--surface", "token"])["keys"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(one, 1, "nothing else was made");
    assert_eq!(exchange(gateway, &body(&pair.key, &"x".repeat(100_000))).status, 413);
}

#[test]
fn the_hundred_and_twenty_first_in_a_minute_waits_and_other_addresses_do_not() {
    let house = open(TRUSTED);
    let gateway = house.gateway();
    let pair = Pair::make(gateway, &[]);
    let from = |address: &str, body: &str| call(gateway, "POST", TOKEN, &[("X-Forwarded-For", address)], body);
    for n in 0..120 {
        // Whether the credentials are right has nothing to do with it.
        let (body, status) = if n % 2 == 0 { (pair.body(), 200) } else { (String::new(), 422) };
        assert_eq!(from("198.51.100.1", &body).status, status, "{n}");
    }
    let answer = from("198.51.100.1", &pair.body());
    let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let error = r#"{"code":"TOO_MANY_REQUESTS","message":"Too many requests."}"#;
    let waits = format!("retry-after: {seconds}");
    assert_eq!(refused(&answer), expected(429, &[&waits], error));
    assert_eq!(answer.field("ratelimit"), Some(&*format!("\"address\";r=0;t={seconds}")));
    let token = token_of(&from("198.51.100.2", &pair.body()));
    let told = call(
        gateway,
        "GET",
        REPORT,
        &[("X-Forwarded-For", "198.51.100.1"), ("Authorization", &format!("Bearer {token}"))],
        "",
    );
    assert_eq!(told.status, 200, "the endpoint is throttled, not its callers elsewhere");

    let untrusting = open(&[]);
    for n in 0..120 {
        let forged = format!("198.51.100.{n}");
        let answer = call(untrusting.gateway(), "POST", TOKEN, &[("X-Forwarded-For", &forged)], "");
        assert_eq!(answer.status, 422);
    }
    let answer = call(untrusting.gateway(), "POST", TOKEN, &[("X-Forwarded-For", "198.51.100.200")], "");
    assert_eq!(answer.status, 429, "nobody chooses an address");
}

#[test]
fn every_code_of_heldsway_is_in_capitals() {
    let house = open(&[]);
    let gateway = house.gateway();
    let pair = Pair::make(gateway, &[]);
    let code = |answer: &Response, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        text(&answer.json()["error"], "code")
    };
    assert_eq!(code(&call(gateway, "GET", "/nothing", &[], ""), 404), "NOT_FOUND");
    assert_eq!(code(&call(gateway, "GET", TOKEN, &[], ""), 405), "METHOD_NOT_ALLOWED");
    assert_eq!(
        code(&exchange(gateway, &body(&pair.key, &"x".repeat(100_000))), 413),
        "BODY_TOO_LARGE"
    );
    assert_eq!(code(&call(gateway, "GET", "/%2e%2e/x", &[], ""), 400), "MALFORMED_TARGET");
    let forged = call(gateway, "GET", REPORT, &[("X_Tenant-Id", "other")], "");
    assert_eq!(code(&forged, 400), "FORGED_HEADER");
    assert_eq!(exchange(gateway, &pair.body()).status, 200, "the twin");

    let nobody = Nobody::reserve();
    let away = site("heldsway", nobody.address, &[]);
    let gateway = Gateway::start(&away);
    gateway.json(&["tenants", "create", "acme"]);
    let token = text(&gateway.create_key("token", "acme", &["--scope", "reports:read"]), "key");
    assert_eq!(code(&report(&gateway, &token), 502), "UPSTREAM_UNREACHABLE");
}
