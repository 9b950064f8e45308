//! heldsway: a key and its secret are exchanged for an opaque token; every row of its table, exactly.

mod refusals;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::Response;
use crate::support::stopwatch::Stopwatch;
use crate::support::wait::{PATIENCE, until};

use super::call;
use super::house::{House, text, whole};

const TOKEN: &str = "/api/v1/auth/token";
const REPORT: &str = "/api/v1/affiliate/report";
/// A test that asks often comes from many addresses.
const TRUSTED: &[(&str, &str)] = &[("[admin]", "[proxies]\ntrusted = [\"127.0.0.1\"]\n\n[admin]")];
const POLICY: &str = "ratelimit-policy: \"address\";q=120;w=60";
const CHALLENGE: &str = "www-authenticate: Bearer realm=\"api\"";
const INVALID: &str = "www-authenticate: Bearer realm=\"api\", error=\"invalid_token\"";

/// A pair of `acme`: its id and the body that presents it.
struct Pair {
    id: String,
    key: String,
    secret: String,
}

impl Pair {
    fn make(gateway: &Gateway, more: &[&str]) -> Self {
        let mut args = vec!["--scope", "reports:read"];
        args.extend(more);
        let made = gateway.create_key("credentials", "acme", &args);
        Self {
            id: text(&made, "id"),
            key: text(&made, "key"),
            secret: text(&made, "secret"),
        }
    }

    fn body(&self) -> String {
        body(&self.key, &self.secret)
    }
}

fn body(key: &str, secret: &str) -> String {
    json!({"api_key": key, "api_secret": secret}).to_string()
}

fn open(edits: &[(&str, &str)]) -> House {
    let house = House::edited("heldsway", edits);
    house.gateway().json(&["tenants", "create", "acme"]);
    house
}

fn exchange(gateway: &Gateway, body: &str) -> Response {
    call(gateway, "POST", TOKEN, &[], body)
}

fn token_of(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
    text(&answer.json()["data"], "access_token")
}

fn report(gateway: &Gateway, token: &str) -> Response {
    call(gateway, "GET", REPORT, &[("Authorization", &format!("Bearer {token}"))], "")
}

/// A refusal of the exchange, whole: the remaining count is not asked for here.
fn refused(answer: &Response) -> String {
    let told = whole(answer);
    let lines: Vec<&str> = told.split('\n').filter(|line| !line.starts_with("ratelimit: ")).collect();
    lines.join("\n")
}

fn expected(status: u16, more: &[&str], error: &str) -> String {
    let mut lines = vec!["cache-control: no-store", "content-type: application/json", POLICY];
    lines.extend(more);
    lines.sort_unstable();
    format!("{status}\n{}\n\n{{\"success\":false,\"error\":{error}}}", lines.join("\n"))
}

fn credentials_refused() -> String {
    expected(401, &[INVALID], r#"{"code":"UNAUTHORIZED","message":"Invalid API credentials."}"#)
}

fn inactive() -> String {
    expected(
        401,
        &[INVALID],
        r#"{"code":"UNAUTHORIZED","message":"API key is inactive or expired."}"#,
    )
}

#[test]
fn a_pair_is_exchanged_for_opaque_tokens_that_live_side_by_side() {
    let house = open(&[]);
    let gateway = house.gateway();
    let pair = Pair::make(gateway, &[]);
    assert!(pair.key.starts_with("hs_key_") && pair.key.len() <= 64, "{}", pair.key);
    assert!(pair.secret.starts_with("hs_secret_") && pair.secret.len() <= 128);

    let (one, two) = (exchange(gateway, &pair.body()), exchange(gateway, &pair.body()));
    let tokens = [token_of(&one), token_of(&two)];
    assert_ne!(tokens[0], tokens[1]);
    for (answer, token) in [&one, &two].into_iter().zip(&tokens) {
        assert!(
            token.len() >= 62 && token.bytes().all(|b| b.is_ascii_alphanumeric()),
            "opaque: {token}"
        );
        let body = format!(
            "{{\"success\":true,\"message\":\"Token issued successfully.\",\"data\":{{\"access_token\":\"{token}\",\
             \"token_type\":\"Bearer\",\"expires_in\":14400,\"scopes\":[\"reports:read\"]}}}}"
        );
        let fields = format!("cache-control: no-store\ncontent-type: application/json\n{POLICY}");
        assert_eq!(refused(answer), format!("200\n{fields}\n\n{body}"));
        assert_eq!(report(gateway, token).status, 200, "several may be live at once");
    }
    let seen = house.upstream.requests();
    let seen = seen.last().unwrap();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", REPORT));
    for (name, value) in [("X-Tenant-Id", "acme"), ("X-Scopes", "reports:read"), ("X-Auth-Surface", "token")] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    assert!(seen.all("Authorization").is_empty(), "the token stays here");
    assert_eq!(house.upstream.count(), 2, "exchanges go nowhere");

    let listed = gateway.json(&["keys", "list", "--surface", "token"]);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    for key in listed["keys"].as_array().unwrap() {
        let (made, ends) = (moment(&key["created_at"]), moment(&key["expires_at"]));
        assert_eq!(ends - made, 14_400, "{key}");
        assert_eq!(key["parent"], json!(pair.id));
    }
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    for secret in [&pair.secret, &pair.key, &tokens[0], &tokens[1]] {
        assert!(!output.contains(secret.as_str()), "{secret} was logged");
        assert!(!listed.to_string().contains(secret.as_str()), "{secret} was listed");
    }
}

/// A time of an answer, in seconds since the epoch.
fn moment(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

#[test]
fn an_unknown_key_and_a_wrong_secret_are_told_the_same() {
    let house = open(&[]);
    let gateway = house.gateway();
    let (pair, other) = (Pair::make(gateway, &[]), Pair::make(gateway, &[]));
    let tampered = format!(
        "{}{}",
        &pair.key[..pair.key.len() - 1],
        if pair.key.ends_with('0') { '1' } else { '0' }
    );
    for (what, body) in [
        ("wrong secret", body(&pair.key, &other.secret)),
        ("malformed secret", body(&pair.key, "hs_secret_nothing")),
        ("a secret of another kind", body(&pair.key, &pair.key)),
        ("unknown key", body(&tampered, &pair.secret)),
        ("no key of ours", body("pk_live_1", &pair.secret)),
        ("halves exchanged", body(&pair.secret, &pair.key)),
    ] {
        assert_eq!(refused(&exchange(gateway, &body)), credentials_refused(), "{what}");
    }
    assert_eq!(exchange(gateway, &pair.body()).status, 200, "the twin");
    assert_eq!(
        gateway.json(&["keys", "list", "--surface", "token"])["keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn an_inactive_or_expired_key_is_told_so_only_to_who_has_its_secret() {
    let house = open(TRUSTED);
    let gateway = house.gateway();
    let (disabled, revoked) = (Pair::make(gateway, &[]), Pair::make(gateway, &[]));
    let other = Pair::make(gateway, &["--expires", "1h"]);
    assert_eq!(exchange(gateway, &disabled.body()).status, 200);
    gateway.json(&["keys", "disable", &disabled.id]);
    gateway.json(&["keys", "revoke", &revoked.id]);
    for pair in [&disabled, &revoked] {
        assert_eq!(refused(&exchange(gateway, &pair.body())), inactive());
        assert_eq!(
            refused(&exchange(gateway, &body(&pair.key, &other.secret))),
            credentials_refused(),
            "before the secret was right nothing is known"
        );
    }
    gateway.json(&["keys", "enable", &disabled.id]);
    assert_eq!(exchange(gateway, &disabled.body()).status, 200, "switched on again");
    assert_eq!(exchange(gateway, &other.body()).status, 200, "not expired yet");

    let short = Pair::make(gateway, &["--expires", "1s"]);
    let mut address = 0;
    let answer = until("the key to expire", PATIENCE, || {
        address += 1;
        let from = format!("2001:db8:{:x}:{:x}::1", address / 65_536, address % 65_536);
        let answer = call(gateway, "POST", TOKEN, &[("X-Forwarded-For", &from)], &short.body());
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused(&answer), inactive());
    assert_eq!(refused(&exchange(gateway, &body(&short.key, &other.secret))), credentials_refused());
}

#[test]
fn an_inactive_business_is_forbidden_with_its_tokens_and_comes_back() {
    let house = open(&[]);
    let gateway = house.gateway();
    let pair = Pair::make(gateway, &[]);
    let token = token_of(&exchange(gateway, &pair.body()));
    assert_eq!(report(gateway, &token).status, 200);
    gateway.json(&["tenants", "disable", "acme"]);
    let error = r#"{"code":"FORBIDDEN","message":"The business associated with this API key is inactive."}"#;
    assert_eq!(refused(&exchange(gateway, &pair.body())), expected(403, &[], error));
    let told = whole(&report(gateway, &token));
    assert_eq!(
        told,
        format!("403\ncache-control: no-store\ncontent-type: application/json\n\n{{\"success\":false,\"error\":{error}}}")
    );
    let other = body(&pair.key, "hs_secret_nothing");
    assert_eq!(refused(&exchange(gateway, &other)), credentials_refused());
    gateway.json(&["tenants", "enable", "acme"]);
    assert_eq!(report(gateway, &token).status, 200);
    assert_eq!(exchange(gateway, &pair.body()).status, 200);
}

#[test]
fn a_token_does_what_its_pair_may_and_ends_with_it() {
    let house = open(&[]);
    let gateway = house.gateway();
    let made = gateway.create_key("credentials", "acme", &[]);
    let answer = exchange(gateway, &body(&text(&made, "key"), &text(&made, "secret")));
    assert_eq!(answer.json()["data"]["scopes"], json!([]));
    let told = report(gateway, &token_of(&answer));
    assert_eq!(told.status, 403, "no scope, no report");
    assert_eq!(told.json()["error"]["code"], json!("FORBIDDEN"));

    let (ended, other) = (Pair::make(gateway, &[]), Pair::make(gateway, &[]));
    let (of_ended, of_other) = (
        token_of(&exchange(gateway, &ended.body())),
        token_of(&exchange(gateway, &other.body())),
    );
    assert_eq!(report(gateway, &of_ended).status, 200);
    gateway.json(&["keys", "revoke", &ended.id]);
    let revoked = Stopwatch::start();
    until("the token to end", PATIENCE, || {
        (report(gateway, &of_ended).status == 401).then_some(())
    });
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert_eq!(report(gateway, &of_other).status, 200);
}

#[test]
fn every_credential_on_every_route_and_only_the_documented_are_admitted() {
    let house = open(&[]);
    let gateway = house.gateway();
    let pair = Pair::make(gateway, &[]);
    let token = token_of(&exchange(gateway, &pair.body()));
    let tampered = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    let credentials = ["", &pair.key, &pair.secret, &token, &tampered, "hst", "null"];
    let carriers = [
        "bearer",
        "Basic",
        "x-api-key",
        "x-api-secret",
        "X-Access-Token",
        "Cookie",
        "body",
        "query",
        "pair in headers",
    ];
    let routes = [("POST", TOKEN), ("GET", REPORT), ("GET", "/api/v1/affiliate")];
    let (mut tried, mut admitted) = (0, Vec::new());
    for (method, path) in routes {
        for carrier in carriers {
            for credential in credentials {
                let (mut path, mut fields, mut body) = (path.to_owned(), Vec::new(), String::new());
                match carrier {
                    "bearer" => fields.push(("Authorization", format!("Bearer {credential}"))),
                    "Basic" => fields.push(("Authorization", format!("Basic {credential}"))),
                    "Cookie" => fields.push(("Cookie", format!("token={credential}; session={credential}"))),
                    "body" => body = super::heldsway::body(credential, &pair.secret),
                    "query" => path += &format!("?access_token={credential}&api_key={credential}"),
                    "pair in headers" => fields.extend([("api_key", credential.to_owned()), ("X-Api-Secret", pair.secret.clone())]),
                    header => fields.push((header, credential.to_owned())),
                }
                let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
                let answer = call(gateway, method, &path, &fields, &body);
                tried += 1;
                match answer.status {
                    200 => admitted.push((method, carrier, credential)),
                    400 | 401 | 422 => {}
                    other => panic!("{method} {path} {carrier} {credential}: {other}"),
                }
            }
        }
    }
    assert_eq!(tried, 3 * 9 * 7);
    let wanted = [
        ("POST", "body", pair.key.as_str()),
        ("GET", "bearer", &token),
        ("GET", "bearer", &token),
    ];
    assert_eq!(admitted, wanted);
    assert_eq!(house.upstream.count(), 2);

    let none = whole(&call(gateway, "GET", REPORT, &[], ""));
    let body = r#"{"success":false,"error":{"code":"UNAUTHORIZED","message":"Unauthenticated."}}"#;
    assert_eq!(
        none,
        format!("401\ncache-control: no-store\ncontent-type: application/json\n{CHALLENGE}\n\n{body}")
    );
}

#[test]
fn over_redis_a_token_of_one_gateway_works_on_the_other_and_a_lost_store_is_told_as_such() {
    let mut house = House::pair("heldsway", TRUSTED);
    let (here, there) = (&house.gateways[0], &house.gateways[1]);
    here.json(&["tenants", "create", "acme"]);
    let pair = Pair::make(here, &[]);
    let token = token_of(&exchange(there, &pair.body()));
    assert_eq!(report(here, &token).status, 200, "made there, used here at once");
    let unseen = Pair::make(there, &[]);
    here.json(&["keys", "revoke", &pair.id]);
    let revoked = Stopwatch::start();
    until("the other gateway to refuse", PATIENCE, || {
        (report(there, &token).status == 401).then_some(())
    });
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());

    house.redis.as_mut().unwrap().kill();
    for gateway in &house.gateways {
        let answer = exchange(gateway, &unseen.body());
        let waits = format!("retry-after: {}", answer.field("retry-after").unwrap());
        let error = r#"{"code":"SERVICE_UNAVAILABLE","message":"The service is temporarily unavailable."}"#;
        assert_eq!(refused(&answer), expected(503, &[&waits], error));
    }
}

/// Whatever makes a key makes one of the length its surface asks for: the operator's commands as the exchange does.
#[test]
fn keys_that_the_operator_makes_rotates_and_drills_with_are_admitted_where_keys_are_longer() {
    let house = open(&[]);
    let gateway = house.gateway();
    let pair = Pair::make(gateway, &[]);
    let args = [
        "--scope",
        "reports:read",
        "--name",
        "night",
        "--subject",
        "robot",
        "--parent",
        &pair.id,
    ];
    let made = gateway.create_key("token", "acme", &args);
    assert_eq!(
        (&made["name"], &made["subject"], &made["parent"], &made["expires_at"]),
        (&json!("night"), &json!("robot"), &json!(pair.id), &Value::Null)
    );
    let key = text(&made, "key");
    assert_eq!(key.len(), "hst".len() + 62 + 12);
    assert_eq!(report(gateway, &key).status, 200);

    let rotated = gateway.json(&["keys", "rotate", &text(&made, "id"), "--grace", "1h"]);
    for name in ["name", "subject", "parent", "scopes", "mode", "surface", "tenant"] {
        assert_eq!(rotated[name], made[name], "{name}");
    }
    assert_eq!(report(gateway, &text(&rotated, "key")).status, 200, "the new one");
    assert_eq!(report(gateway, &key).status, 200, "the old one, during the grace");

    let url = format!("http://{}{REPORT}", gateway.address("public"));
    let args = ["drill", "--surface", "token", "--scope", "reports:read", "--url", &url, "--json"];
    let drilled = gateway.run(&args);
    assert_eq!(drilled.code, 0, "{drilled:?}");
    assert_eq!(drilled.json()["passed"], json!(true));
}
