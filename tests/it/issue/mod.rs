//! Served routes of the real binary: the shipped configuration of one scheme, called as a client would.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

const BASE: &str = "/api/v1/b2b";
const ANN: &str = r#"{"email":"ann@example.com","password":"correct horse"}"#;

/// The example `holdyn` on ports of its own.
fn site(upstream: SocketAddr) -> Site {
    let read = |name: &str| std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/holdyn/").to_owned() + name).unwrap();
    let site = Site::usual(upstream);
    let gateway = read("gateway.toml").replace("127.0.0.1:8080", "127.0.0.1:0");
    site.write("gateway.toml", &gateway);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/holdyn/upstreams");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let routes = read(&format!("upstreams/{}", file.file_name().to_str().unwrap()));
    site.write("upstreams/main.toml", &routes.replace("127.0.0.1:9000", &upstream.to_string()));
    site
}

fn call(gateway: &Gateway, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Response {
    let mut head = format!(
        "{method} {BASE}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    let mut client = Client::connect(gateway.address("public"));
    client.send(format!("{head}\r\n{body}").as_bytes());
    client.response_to(method).expect("an answer")
}

fn post(gateway: &Gateway, path: &str, bearer: &str, body: &str) -> Response {
    let authorization = format!("Bearer {bearer}");
    let mut fields = vec![("Content-Type", "application/json")];
    if !bearer.is_empty() {
        fields.push(("Authorization", &authorization));
    }
    call(gateway, "POST", path, &fields, body)
}

fn code(response: &Response) -> (u16, String) {
    let code = response.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (response.status, code)
}

/// What the gateway has written once these words are in it: lines arrive after their answers.
fn output_that_says(gateway: &Gateway, words: &str) -> String {
    until(words, PATIENCE, || {
        let output = String::from_utf8_lossy(&gateway.output()).into_owned();
        output.contains(words).then_some(output)
    })
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn people_sign_up_log_in_and_make_keys_that_make_tokens_that_make_sessions() {
    let upstream = Upstream::echoing();
    let site = site(upstream.address);
    let gateway = Gateway::start(&site);

    let signed = post(&gateway, "/auth/signup", "", ANN);
    assert_eq!(signed.status, 201, "{:?}", signed.json());
    assert_eq!(signed.field("cache-control"), Some("no-store"));
    assert_eq!(signed.json()["account"]["email"], json!("ann@example.com"));
    assert_eq!(code(&post(&gateway, "/auth/signup", "", ANN)), (409, "taken".into()));

    for wrong in [
        r#"{"email":"ann@example.com","password":"wrong horse"}"#,
        r#"{"email":"bob@example.com","password":"correct horse"}"#,
    ] {
        assert_eq!(code(&post(&gateway, "/auth/login", "", wrong)), (401, "invalid_credentials".into()));
    }
    let logged = post(&gateway, "/auth/login", "", ANN);
    assert_eq!(logged.status, 200, "{:?}", logged.json());
    let session = word(&logged.json()["session_token"]).to_owned();
    assert_eq!(logged.json()["account"], signed.json()["account"]);

    let key = post(
        &gateway,
        "/api-keys",
        &session,
        r#"{"name":"ci","mode":"live","scopes":["access_tokens:write","transactions:read"]}"#,
    );
    assert_eq!(key.status, 201, "{:?}", key.json());
    let (id, key) = (word(&key.json()["id"]).to_owned(), word(&key.json()["key"]).to_owned());
    let bearer = format!("Bearer {session}");
    let listed = call(&gateway, "GET", "/api-keys", &[("Authorization", &bearer)], "");
    assert_eq!(listed.json()["data"][0]["id"], json!(id));
    assert!(!listed.json().to_string().contains(&key), "shown once");
    let head = call(&gateway, "HEAD", "/api-keys", &[("Authorization", &bearer)], "");
    assert_eq!(head.status, 200);

    let token = post(
        &gateway,
        "/transactions/tx_1/access-tokens",
        &key,
        r#"{"role":"payer","permissions":["view_transaction"]}"#,
    );
    assert_eq!(token.status, 201, "{:?}", token.json());
    let (token_id, token) = (word(&token.json()["id"]).to_owned(), word(&token.json()["access_token"]).to_owned());
    let portal = call(&gateway, "POST", "/portal/session", &[("X-Access-Token", &token)], "");
    assert_eq!(portal.status, 200, "{:?}", portal.json());
    assert_eq!(portal.json()["transaction"]["id"], json!("tx_1"));
    let portal = word(&portal.json()["session_token"]).to_owned();
    let view = || call(&gateway, "GET", "/portal/transaction", &[("X-Portal-Session", &portal)], "");
    assert_eq!(view().status, 200);
    let seen = upstream.requests();
    let seen = seen.last().unwrap();
    for (name, value) in [
        ("X-Transaction-Id", "tx_1"),
        ("X-Auth-Role", "payer"),
        ("X-Auth-Permissions", "view_transaction"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    let fund = call(&gateway, "POST", "/portal/fund", &[("X-Portal-Session", &portal)], "");
    assert_eq!(fund.status, 403, "a permission it was not given");

    let bearer = format!("Bearer {key}");
    let path = |transaction: &str| format!("/transactions/{transaction}/access-tokens/{token_id}");
    let end = |path: &str| call(&gateway, "DELETE", path, &[("Authorization", &bearer)], "").status;
    assert_eq!(end(&path("tx_2")), 404, "of another transaction");
    assert_eq!(view().status, 200);
    assert_eq!(end(&path("tx_1")), 204);
    assert_eq!(view().status, 401, "the session died with the access token");

    let output = output_that_says(&gateway, "\"done\":\"mint api:");
    for secret in [key.as_str(), &token, &session, &portal, "correct horse"] {
        assert!(!output.contains(secret), "{secret} was logged");
    }
}

#[test]
fn bodies_are_refused_for_what_is_wrong_with_them_and_nothing_is_made() {
    let upstream = Upstream::echoing();
    let site = site(upstream.address);
    let gateway = Gateway::start(&site);
    let sign_up = |kind: &str, body: &str| call(&gateway, "POST", "/auth/signup", &[("Content-Type", kind)], body);
    let json = "application/json";
    assert_eq!(sign_up("text/plain", ANN).status, 415);
    assert_eq!(sign_up(json, "{").status, 400);
    assert_eq!(
        sign_up(json, r#"{"email":"a@b.co","email":"c@d.co","password":"12345678"}"#).status,
        400
    );
    let large = format!(r#"{{"email":"a@b.co","password":"{}"}}"#, "x".repeat(20_000));
    assert_eq!(sign_up(json, &large).status, 413);
    for body in [
        "",
        "{}",
        r#"{"email":"a@b.co"}"#,
        r#"{"email":"no","password":"12345678"}"#,
        r#"{"email":"a@b.co","password":"12345678","admin":true}"#,
    ] {
        assert_eq!(code(&sign_up(json, body)), (422, "validation_error".into()), "{body}");
    }
    let accounts = gateway.json(&["accounts", "list"]);
    assert!(!accounts.to_string().contains("a@b.co"), "{accounts}");
    assert_eq!(upstream.count(), 0);
}
