//! Services that are asked before a served route acts, and told after: what they hear, what their answers mean,
//! and what becomes of the call when they do not answer.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::Site;
use crate::support::upstream::{Recorded, Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

use super::holdyn::{SCOPES, at, code, make_access, make_key, sign_up, view, with};
use super::house::text;
use super::{Nobody, call, site};

const CLIENTS: &str = "/api/v1/custodians/clients";
const KNOWN: &str = r#"{"id":"tx_9","amount":100,"buyer":{"name":"Ann"},"open":true}"#;

/// A service whose status can be changed while it runs, and that can be made to wait.
struct Service {
    upstream: Upstream,
    status: Arc<AtomicU16>,
    waiting: Arc<AtomicBool>,
}

impl Service {
    fn answering(body: &'static str) -> Self {
        let (status, waiting) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicBool::new(false)));
        let (told, held) = (status.clone(), waiting.clone());
        let upstream = Upstream::scripted(When::Body, move |request, stream| {
            if is_hook(request) {
                until("the service to be let go", PATIENCE, || {
                    (!held.load(Ordering::SeqCst)).then_some(())
                });
                answer(stream, told.load(Ordering::SeqCst), body)
            } else {
                answer(stream, 200, "{}")
            }
        });
        Self { upstream, status, waiting }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn waits(&self, wait: bool) {
        self.waiting.store(wait, Ordering::SeqCst);
    }

    /// Requests of hooks so far.
    fn heard(&self) -> Vec<Recorded> {
        self.upstream.requests().into_iter().filter(is_hook).collect()
    }
}

fn is_hook(request: &Recorded) -> bool {
    request.target == CLIENTS || request.target.contains("/transactions/")
}

fn answer(stream: &mut TcpStream, status: u16, body: &str) -> io::Result<Then> {
    let body = if status == 204 { "" } else { body };
    let length = if status == 204 {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    write!(
        stream,
        "HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\n{length}\r\n{body}"
    )?;
    Ok(Then::Keep)
}

fn exchange(gateway: &Gateway, access: &str) -> Response {
    let fields = [
        ("X-Access-Token", access),
        ("User-Agent", "curl"),
        ("X-Tenant-Id", "evil"),
        ("Cookie", "a=b"),
    ];
    at(gateway, "POST", "/portal/session", &fields, "")
}

/// A gateway of holdyn in front of this service, with a key and an access token's id and self.
fn holdyn(upstream: &Upstream, edits: &[(&str, &str)]) -> (Site, Gateway, String, (String, String)) {
    let site = site("holdyn", upstream.address, edits);
    let gateway = Gateway::start(&site);
    let session = sign_up(&gateway, "ann@acme.example");
    let (_, key) = make_key(&gateway, &session, "live", &SCOPES);
    let access = make_access(&gateway, &key, "tx_1", &["view_transaction"]);
    (site, gateway, key, access)
}

#[test]
fn what_the_service_knows_is_in_the_answer_and_it_hears_who_asks() {
    let service = Service::answering(KNOWN);
    let (_site, gateway, _, (id, access)) = holdyn(&service.upstream, &[]);
    let told = exchange(&gateway, &access);
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(
        told.json()["transaction"],
        json!({"id": "tx_1", "amount": 100, "buyer": {"name": "Ann"}, "open": true}),
        "but the id is the gateway's word"
    );
    let heard = service.heard();
    assert_eq!(heard.len(), 1);
    let heard = &heard[0];
    assert_eq!(
        (heard.method.as_str(), heard.target.as_str()),
        ("GET", "/api/v1/b2b/transactions/tx_1")
    );
    assert_eq!(heard.all("X-Request-Id"), [told.field("x-request-id").unwrap()]);
    assert_eq!(heard.all("X-Auth-Surface"), ["access_token"]);
    assert_eq!(heard.all("X-Auth-Credential-Id"), [id.as_str()]);
    assert_eq!(heard.all("X-Scopes"), ["view_transaction"]);
    assert_eq!(heard.all("X-Forwarded-For"), ["127.0.0.1"]);
    let tenant = text(&gateway.json(&["tenants", "list"])["tenants"][0], "id");
    assert_eq!(heard.all("X-Tenant-Id"), [tenant.as_str()], "not what the client claimed");
    for own in ["X-Access-Token", "User-Agent", "Cookie", "Content-Type"] {
        assert!(heard.all(own).is_empty(), "{own} is the client's own");
    }
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(!output.contains("a hook failed"), "{output}");
}

#[test]
fn a_service_that_says_no_refuses_and_one_that_cannot_answer_does_not() {
    let service = Service::answering(KNOWN);
    let (_site, gateway, _, (_, access)) = holdyn(&service.upstream, &[("deadline = \"2s\"", "deadline = \"300ms\"")]);
    let told = |status: u16| {
        service.says(status);
        exchange(&gateway, &access)
    };
    for no in [400, 401, 403, 409, 422] {
        assert_eq!(code(&told(no)), (403, "refused".into()), "{no}");
    }
    for gone in [404, 410] {
        assert_eq!(code(&told(gone)), (404, "not_found".into()), "{gone}");
    }
    let only_the_id = |answer: Response, why: &str| {
        assert_eq!(answer.status, 200, "{why}: {answer:?}");
        assert_eq!(answer.json()["transaction"], json!({"id": "tx_1"}), "{why}");
        assert_eq!(view(&gateway, &text(&answer.json(), "session_token")).status, 200);
    };
    for failed in [500, 502, 503, 429, 302, 204] {
        only_the_id(told(failed), &failed.to_string());
    }
    service.says(200);
    service.waits(true);
    only_the_id(exchange(&gateway, &access), "too late");
    service.waits(false);
    assert_eq!(exchange(&gateway, &access).json()["transaction"]["amount"], json!(100), "and again");
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(output.contains("a hook failed") && output.contains("upstream_timeout"), "{output}");
}

#[test]
fn an_answer_that_cannot_be_used_is_a_failure() {
    let huge: &'static str = Box::leak(format!("{{\"x\":\"{}\"}}", "y".repeat(70_000)).into_boxed_str());
    for body in ["[1]", "\"x\"", "<html>", "{", huge] {
        let service = Service::answering(body);
        let (_site, gateway, _, (_, access)) = holdyn(&service.upstream, &[]);
        let answer = exchange(&gateway, &access);
        assert_eq!(
            answer.json()["transaction"],
            json!({"id": "tx_1"}),
            "{}",
            &body[..body.len().min(9)]
        );
    }
    let nobody = Nobody::reserve();
    let refusing = [("on_failure = \"go_on\"", "on_failure = \"refuse\"")];
    let site = site("holdyn", nobody.address, &refusing);
    let gateway = Gateway::start(&site);
    let session = sign_up(&gateway, "ann@acme.example");
    let (_, key) = make_key(&gateway, &session, "live", &SCOPES);
    let (_, access) = make_access(&gateway, &key, "tx_1", &["view_transaction"]);
    assert_eq!(code(&exchange(&gateway, &access)), (502, "upstream_unreachable".into()));
}

#[test]
fn named_fields_are_used_and_an_id_that_is_no_segment_is_never_sent() {
    let service = Service::answering(KNOWN);
    let template =
        "{% if hook %}{% for name in hook %}{% if name != \"id\" %},{{ name }}:{{ hook[name] }}{% endif %}{% endfor %}{% endif %}";
    let edits = [
        (
            "on_failure = \"go_on\"",
            "on_failure = \"go_on\"\nfields = [\"amount\", \"buyer.name\", \"seller.name\"]",
        ),
        (
            template,
            ",\"amount\":{{ hook.amount }},\"buyer\":{{ hook.buyer.name }},\"seller\":{{ hook.seller.name }}",
        ),
    ];
    let (_site, gateway, key, (_, access)) = holdyn(&service.upstream, &edits);
    assert_eq!(
        exchange(&gateway, &access).json()["transaction"],
        json!({"id": "tx_1", "amount": 100, "buyer": "Ann", "seller": null})
    );
    service.says(500);
    assert_eq!(
        exchange(&gateway, &access).json()["transaction"],
        json!({"id": "tx_1", "amount": null, "buyer": null, "seller": null})
    );
    let before = service.heard().len();
    let (_, odd) = make_access(&gateway, &key, "tx%20of%20ours", &["view_transaction"]);
    assert_eq!(exchange(&gateway, &odd).json()["transaction"]["amount"], Value::Null);
    assert_eq!(service.heard().len(), before, "an escape is never escaped again");
}

#[test]
fn who_is_ended_while_the_service_is_asked_gets_nothing() {
    let service = Service::answering(KNOWN);
    let (_site, gateway, key, (id, access)) = holdyn(&service.upstream, &[("deadline = \"2s\"", "deadline = \"10s\"")]);
    service.waits(true);
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| exchange(&gateway, &access));
        until("the service to be asked", PATIENCE, || (!service.heard().is_empty()).then_some(()));
        let path = format!("/transactions/tx_1/access-tokens/{id}");
        assert_eq!(with(&gateway, "DELETE", &path, &key, "").status, 204);
        service.waits(false);
        asking.join().unwrap()
    });
    assert_eq!(code(&answer), (401, "invalid_access_token".into()));
}

/// A gateway of portal in front of this service, with a custodian's key.
fn portal(upstream: &Upstream, edits: &[(&str, &str)]) -> (Site, Gateway, String) {
    let site = site("portal", upstream.address, edits);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = text(&gateway.create_key("custodian", "acme", &["--mode", "live"]), "key");
    (site, gateway, key)
}

fn create(gateway: &Gateway, key: &str) -> Response {
    call(gateway, "POST", CLIENTS, &[("Authorization", &format!("Bearer {key}"))], "{}")
}

/// States of the clients that were made.
fn clients(gateway: &Gateway) -> Vec<String> {
    let told = gateway.json(&["accounts", "list"]);
    told["accounts"].as_array().unwrap().iter().map(|one| text(one, "state")).collect()
}

#[test]
fn the_service_hears_of_a_new_client_and_of_no_secret() {
    let service = Service::answering("");
    service.says(204);
    let (_site, gateway, key) = portal(&service.upstream, &[]);
    let made = create(&gateway, &key);
    assert_eq!(made.status, 201, "{made:?}");
    let session = text(&made.json(), "clientSessionToken");
    let heard = service.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].method.as_str(), heard[0].target.as_str()), ("POST", CLIENTS));
    assert_eq!(
        serde_json::from_slice::<Value>(&heard[0].body).unwrap(),
        json!({"id": text(&made.json(), "id")})
    );
    assert_eq!(heard[0].all("X-Tenant-Id"), ["acme"]);
    assert_eq!(heard[0].all("X-Auth-Surface"), ["custodian"]);
    assert_eq!(heard[0].all("X-Request-Id"), [made.field("x-request-id").unwrap()]);
    assert_eq!(heard[0].all("Content-Type"), ["application/json"]);
    let sent = String::from_utf8_lossy(&service.upstream.bytes()).into_owned();
    assert!(!sent.contains(&session) && !sent.contains(&key), "{sent}");
}

#[test]
fn a_client_that_the_service_was_not_told_of_ends_again() {
    let service = Service::answering("{}");
    let (_site, gateway, key) = portal(&service.upstream, &[]);
    service.says(500);
    let failed = create(&gateway, &key);
    assert_eq!((failed.status, text(&failed.json()["error"], "code")), (502, "BAD_GATEWAY".into()));
    service.says(409);
    let refused = create(&gateway, &key);
    assert_eq!((refused.status, text(&refused.json()["error"], "code")), (403, "FORBIDDEN".into()));
    assert_eq!(clients(&gateway), ["revoked", "revoked"], "nobody has their secrets");
    service.says(200);
    let made = create(&gateway, &key);
    assert_eq!(made.status, 201, "the twin: {made:?}");
    let session = text(&made.json(), "clientSessionToken");
    let me = |session: &str| {
        call(
            &gateway,
            "GET",
            "/api/v1/clients/me/x",
            &[("Authorization", &format!("Bearer {session}"))],
            "",
        )
    };
    assert_eq!(me(&session).status, 200);

    let service = Service::answering("{}");
    service.says(500);
    let going_on = [("on_failure = \"refuse\"", "on_failure = \"go_on\"")];
    let (_site, gateway, key) = portal(&service.upstream, &going_on);
    assert_eq!(create(&gateway, &key).status, 201, "as if it was told");
    assert_eq!(clients(&gateway), ["active"]);
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(output.contains("a hook failed"), "{output}");
}

#[test]
fn a_service_is_told_to_the_end_although_the_client_leaves() {
    let service = Service::answering("{}");
    let (_site, gateway, key) = portal(
        &service.upstream,
        &[("on_failure = \"refuse\"", "on_failure = \"refuse\"\ndeadline = \"10s\"")],
    );
    service.waits(true);
    let mut client = Client::connect(gateway.address("public"));
    let request = format!(
        "POST {CLIENTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    client.send(request.as_bytes());
    until("the service to be told", PATIENCE, || (!service.heard().is_empty()).then_some(()));
    drop(client);
    service.says(500);
    service.waits(false);
    until("what was made to end again", PATIENCE, || {
        (clients(&gateway) == ["revoked"]).then_some(())
    });
}
