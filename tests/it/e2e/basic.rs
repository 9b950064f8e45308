//! HTTP Basic over the real binary: a pair and a key alone, each where it is configured and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket;

use super::live::ended_by;
use super::upgrade::open;
use super::{call, head, refusal, text};

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/v1/orders/**"
methods = ["GET"]
access = { surfaces = ["partner"], scopes = ["orders:read"] }

[[routes]]
path = "/v1/alone/**"
methods = ["GET"]
access = { surfaces = ["alone", "api"], scopes = ["orders:read"] }

[[routes]]
path = "/ws/**"
methods = ["GET"]
access = { surfaces = ["partner"], scopes = ["orders:read"] }
upgrade = "websocket"

[[routes]]
path = "/public/**"
methods = ["GET"]
access = "public"
"#;

const TABLES: &str = r#"
[surfaces.partner]
kind = "basic"
key_prefixes = { live = "bk_live_", test = "bk_test_" }
secret_prefixes = { live = "bs_live_", test = "bs_test_" }

[surfaces.alone]
kind = "basic"
password = "empty"
key_prefixes = ["one_"]

[[routes]]
path = "/v1/keys"
methods = ["POST"]
access = { surfaces = ["partner"] }
serve = "mint"

[[routes.mint]]
surface = "partner"
scopes = "caller"

[routes.answer]
status = 201
body = '{"id":{{ credential.id }},"key":{{ credential.key }},"secret":{{ credential.secret }}}'

[[routes]]
path = "/v1/keys/{id}/rotate"
methods = ["POST"]
access = { surfaces = ["partner"] }
serve = "rotate"
surface = "partner"
id = "path.id"
grace = "0s"

[routes.answer]
body = '{"id":{{ credential.id }},"key":{{ credential.key }},"secret":{{ credential.secret }}}'
"#;

fn plan() -> Plan {
    Plan {
        tables: TABLES.to_owned(),
        upstream: ROUTES.to_owned(),
        ..Plan::usual()
    }
}

/// What `curl -u USER:PASSWORD` sends.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// What `curl -u` sends for a credential that was made.
fn sent(made: &Value) -> String {
    basic(&text(made, "key"), made["secret"].as_str().unwrap_or_default())
}

fn ask(gateway: &Gateway, target: &str, authorization: &str) -> Response {
    call(gateway, "GET", target, &[("Authorization", authorization)])
}

fn post(gateway: &Gateway, target: &str, authorization: &str) -> Response {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&head("POST", target, &[("Authorization", authorization), ("Content-Length", "0")]));
    client.final_response_to("POST").expect("an answer")
}

fn made(gateway: &Gateway, surface: &str, mode: &[&str]) -> Value {
    gateway.create_key(surface, "acme", &[&["--scope", "orders:read"], mode].concat())
}

#[test]
fn a_pair_and_a_key_alone_are_admitted_where_they_are_configured_and_nowhere_else() {
    let upstream = Upstream::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let live = ["--mode", "live"];
    let (pair, other) = (made(&gateway, "partner", &live), made(&gateway, "partner", &live));
    let test = made(&gateway, "partner", &["--mode", "test"]);
    let (alone, api) = (made(&gateway, "alone", &[]), made(&gateway, "api", &live));
    assert!(alone.get("secret").is_none(), "{alone}");

    for good in [sent(&pair), sent(&pair).replacen("Basic", "bASIC", 1), sent(&test)] {
        assert_eq!(ask(&gateway, "/v1/orders/1", &good).status, 200, "{good}");
    }
    let seen = upstream.requests();
    let seen = seen.last().unwrap();
    assert!(seen.all("Authorization").is_empty(), "the credential stays here");
    assert_eq!(
        (seen.all("X-Tenant-Id"), seen.all("X-Auth-Surface")),
        (vec!["acme"], vec!["partner"])
    );
    assert_eq!(ask(&gateway, "/v1/alone/1", &sent(&alone)).status, 200);
    let before = upstream.count();

    let (key, secret, one) = (text(&pair, "key"), text(&pair, "secret"), text(&alone, "key"));
    let invalid = (401, "invalid_credential".to_owned());
    for (target, bad) in [
        ("/v1/orders/1", basic(&key, "")),
        ("/v1/orders/1", basic(&key, &text(&other, "secret"))),
        ("/v1/orders/1", basic(&key, &text(&test, "secret"))),
        ("/v1/orders/1", basic(&secret, &key)),
        ("/v1/orders/1", format!("Bearer {key}")),
        ("/v1/orders/1", sent(&alone)),
        ("/v1/alone/1", basic(&one, &secret)),
        ("/v1/alone/1", basic(&one, &one)),
        ("/v1/alone/1", sent(&pair)),
        ("/v1/alone/1", basic(&text(&api, "key"), "")),
        ("/v1/alone/1", format!("Bearer {one}")),
    ] {
        let answer = ask(&gateway, target, &bad);
        assert_eq!(refusal(&answer), invalid, "{target} {bad}");
        assert!(answer.field("www-authenticate").is_some(), "{answer:?}");
    }
    let twice = [("Authorization", sent(&pair)), ("X-Api-Token", text(&api, "key"))];
    let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(call(&gateway, "GET", "/v1/orders/1", &twice).status, 400);
    let unknown = ask(&gateway, "/v1/orders/1", "Digest x");
    assert_eq!(refusal(&unknown), (401, "missing_credential".to_owned()));
    assert_eq!(upstream.count(), before, "none of them got through");
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    for hidden in [&secret, &one, &sent(&pair)] {
        assert!(!output.contains(hidden.as_str()), "{hidden} was logged");
    }
}

#[test]
fn it_is_minted_rotated_revoked_and_drilled_with_like_any_key() {
    let upstream = Upstream::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let first = made(&gateway, "partner", &["--mode", "live"]);
    let status = |made: &Value| ask(&gateway, "/v1/orders/1", &sent(made)).status;

    let minted = post(&gateway, "/v1/keys", &sent(&first));
    assert_eq!(minted.status, 201, "{minted:?}");
    let minted = minted.json();
    assert!(text(&minted, "secret").starts_with("bs_live_"), "{minted}");
    assert_eq!(status(&minted), 200);
    let rotated = post(&gateway, &format!("/v1/keys/{}/rotate", text(&minted, "id")), &sent(&minted));
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let rotated = rotated.json();
    assert_eq!(status(&rotated), 200);
    until("the old one to end", PATIENCE, || (status(&minted) == 401).then_some(()));

    let replaced = gateway.json(&["keys", "rotate", &text(&rotated, "id"), "--grace", "0"]);
    assert_eq!(status(&replaced), 200);
    until("the rotated one to end", PATIENCE, || (status(&rotated) == 401).then_some(()));
    gateway.json(&["keys", "revoke", &text(&replaced, "id")]);
    until("the revoked one to end", PATIENCE, || (status(&replaced) == 401).then_some(()));

    for (surface, mode, path) in [("partner", &["--mode", "live"][..], "/v1/orders/1"), ("alone", &[], "/v1/alone/1")] {
        let url = format!("http://{}{path}", gateway.address("plain"));
        let args = ["drill", "--surface", surface, "--scope", "orders:read", "--url", &url, "--json"];
        let drilled = gateway.run(&[&args[..], mode].concat());
        assert_eq!((drilled.code, &drilled.json()["passed"]), (0, &json!(true)), "{drilled:?}");
    }
}

#[test]
fn a_stream_opened_with_it_ends_when_it_is_revoked_or_its_surface_asks_for_another_form() {
    let (upstream, _) = websocket::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let live = ["--mode", "live"];
    let (leaked, kept) = (made(&gateway, "partner", &live), made(&gateway, "partner", &live));
    let opened = |made: &Value, path: &str| open(&gateway, path, &[("Authorization", &sent(made))]);
    let mut other = opened(&kept, "/ws/kept");
    let ended = ended_by(&gateway, opened(&leaked, "/ws/leaked"), "/ws/leaked", || {
        gateway.json(&["keys", "revoke", &text(&leaked, "id")]);
    });
    assert_eq!(ended, (1008, json!("revoked_credential")));
    assert!(other.echoes("of another pair"));

    let ended = ended_by(&gateway, other, "/ws/kept", || {
        let secret = "secret_prefixes = { live = \"bs_live_\", test = \"bs_test_\" }";
        site.write("gateway.toml", &site.read("gateway.toml").replace(secret, "password = \"empty\""));
        assert_eq!(gateway.run(&["reload"]).code, 0);
    });
    assert_eq!(ended, (1008, json!("wrong_surface")));
    let key = text(&kept, "key");
    assert_eq!(
        ask(&gateway, "/v1/orders/1", &basic(&key, "")).status,
        401,
        "a pair's key alone opens nothing"
    );
}
