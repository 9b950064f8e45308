//! Each request has one entry, however it ends, with the documented fields and without a secret.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::canary::contains;
use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, ROUTES, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, pause, until};
use crate::support::websocket::{self, CLOSE, Seen, TEXT, WebSocket};

use super::kept::{HEALTH, SCOPES, TUNNEL};

/// Between two parts of an answer without an end.
const PACE: Duration = Duration::from_millis(20);

const AUDIT: &str = r#"
[audit]
directory = "state/audit"
query = ["page"]
headers = ["user-agent", "x-note"]

[cors]
origins = ["https://app.example.com"]
credentials = true
"#;

struct House {
    _upstream: Upstream,
    site: Site,
    gateway: Gateway,
    key: Value,
}

impl House {
    fn open(audit: &str) -> Self {
        let seen = Seen::default();
        let upstream = Upstream::scripted(When::Head, move |asked, stream| {
            if websocket::is_handshake(asked) {
                return websocket::echo(stream, &seen);
            }
            if asked.target.contains("endless") {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")?;
                // A gateway sees that its client is gone when it writes. This one ends when the gateway ends the connection.
                while stream.write_all(b"5\r\nagain\r\n").is_ok() {
                    pause(PACE);
                }
                return Ok(Then::Close);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")?;
            Ok(Then::Keep)
        });
        let plan = Plan {
            tables: audit.to_owned(),
            upstream: format!("{ROUTES}{TUNNEL}{HEALTH}{SCOPES}"),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        let key = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
        Self {
            _upstream: upstream,
            site,
            gateway,
            key,
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key["key"].as_str().unwrap())
    }

    fn client(&self) -> Client {
        Client::connect(self.gateway.address("plain"))
    }

    fn send(&self, head: &str) -> Response {
        let mut client = self.client();
        client.send(head.as_bytes());
        client.final_response_to(head.split(' ').next().unwrap()).unwrap()
    }

    fn get(&self, target: &str, fields: &str) -> Response {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
    }

    /// All entries so far.
    fn entries(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for file in std::fs::read_dir(self.site.folder().join("state/audit")).unwrap().flatten() {
            let name = file.file_name();
            let name = name.to_str().unwrap();
            if name.starts_with("trail-") && name.ends_with(".jsonl") {
                let text = std::fs::read_to_string(file.path()).unwrap();
                // A line that is being written is not one yet.
                let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                lines.extend(whole.map(|line| serde_json::from_str::<Value>(line).unwrap()));
            }
        }
        lines
    }

    /// The entry of this kind that has this value.
    fn entry(&self, kind: &str, member: &str, value: &str) -> Value {
        until("the entry", PATIENCE, || {
            self.entries()
                .into_iter()
                .find(|entry| entry["kind"] == kind && entry[member] == value)
        })
    }

    fn entry_of(&self, response: &Response) -> Value {
        self.entry("request", "request_id", response.field("x-request-id").unwrap())
    }

    /// Ends the gateway, so that everything is written, and gives the entries of requests.
    fn close(mut self) -> Vec<Value> {
        self.gateway.signal(Signal::TERM);
        self.gateway.wait_exit(PATIENCE);
        let mut entries = self.entries();
        entries.retain(|entry| entry["kind"] == "request" || entry["kind"] == "answered");
        entries
    }
}

#[test]
fn an_admitted_request_has_one_entry_with_the_documented_fields() {
    let house = House::open(AUDIT);
    let response = house.get(
        "/v1/orders/7?page=2&token=canary-query&q=canary-search",
        &format!(
            "Authorization: {0}\r\nCookie: a=canary-cookie\r\nUser-Agent: test/1\r\nX-Note: as {0} said\r\n",
            house.bearer()
        ),
    );
    assert_eq!(response.status, 200);
    let entry = house.entry_of(&response);
    for (name, value) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("host", json!("localhost")),
        ("path", json!("/v1/orders/7")),
        ("query", json!("page=2&token&q")),
        ("surface", json!("api")),
        ("credential", house.key["id"].clone()),
        ("tenant", json!("acme")),
        ("mode", json!("live")),
        ("scopes_needed", json!("orders:read")),
        ("status", json!(200)),
        ("upstream", json!("main")),
        ("attempts", json!(1)),
        ("bytes_out", json!(2)),
        ("completed", json!(true)),
        ("headers", json!({"user-agent": "test/1", "x-note": "as Bearer *** said"})),
    ] {
        assert_eq!(entry[name], value, "{name} of {entry}");
    }
    for name in ["seq", "took_us", "facts_age_ms", "snapshot"] {
        assert!(entry[name].is_u64(), "{name} of {entry}");
    }
    for absent in ["denial", "ended", "tls", "trace_id"] {
        assert!(entry.get(absent).is_none(), "{absent} of {entry}");
    }
    let key = house.key["key"].as_str().unwrap().to_owned();
    let entries = house.close();
    assert_eq!(entries.len(), 1);
    for secret in [&key, "canary-query", "canary-search", "canary-cookie"] {
        assert!(!contains(entries[0].to_string().as_bytes(), secret.as_bytes()), "{secret}");
    }
}

#[test]
fn every_way_of_ending_has_one_entry() {
    let house = House::open(AUDIT);
    let bearer = house.bearer();
    let with = format!("Authorization: {bearer}\r\n");
    let refused = house.entry_of(&house.get("/v1/orders/1", ""));
    assert_eq!(
        (&refused["status"], &refused["denial"]),
        (&json!(401), &json!("missing_credential"))
    );
    let lost = house.entry_of(&house.get("/nowhere", ""));
    assert_eq!((&lost["status"], &lost["denial"]), (&json!(404), &json!("no_route")));
    let poor = house.entry_of(&house.get("/admin/x", &with));
    assert_eq!((&poor["denial"], &poor["tenant"]), (&json!("insufficient_scope"), &json!("acme")));
    let unread = house.entry_of(&house.send("GET /\u{1} nonsense\r\n\r\n"));
    assert_eq!((&unread["status"], unread.get("path")), (&json!(400), None));
    let preflight = house.send(
        "OPTIONS /v1/orders/1 HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example.com\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    );
    assert_eq!(house.entry_of(&preflight)["status"], preflight.status);
    assert_eq!(preflight.status, 204);
    let served = house.entry_of(&house.get("/scopes", &with));
    assert_eq!((&served["status"], &served["route"]), (&json!(200), &json!("scopes")));
    assert_eq!(house.close().len(), 6);
}

#[test]
fn a_client_that_leaves_has_an_entry_that_says_so() {
    let house = House::open(AUDIT);
    let mut client = house.client();
    client.send(b"GET /public/endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!client.read_some().unwrap().is_empty());
    drop(client);
    let entry = house.entry("request", "path", "/public/endless");
    assert_eq!((&entry["completed"], &entry["status"]), (&json!(false), &json!(200)));
    assert_eq!(house.close().len(), 1);
}

#[test]
fn a_request_that_a_revocation_cuts_off_has_an_entry_that_says_so() {
    let house = House::open(AUDIT);
    let mut client = house.client();
    client.send(
        format!(
            "GET /v1/orders/endless HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n",
            house.bearer()
        )
        .as_bytes(),
    );
    assert!(!client.read_some().unwrap().is_empty());
    house.gateway.json(&["keys", "revoke", house.key["id"].as_str().unwrap()]);
    let entry = house.entry("request", "path", "/v1/orders/endless");
    assert_eq!(
        (&entry["ended"], &entry["denial"], &entry["completed"]),
        (&json!("denied"), &json!("revoked_credential"), &json!(false))
    );
    assert_eq!(house.close().len(), 1);
}

#[test]
fn a_tunnel_has_one_entry_when_it_ends() {
    let house = House::open(AUDIT);
    let bearer = house.bearer();
    let (mut socket, response) = WebSocket::open(house.client(), "/ws/x", &[("Authorization", bearer.as_str())]).unwrap();
    socket.send(TEXT, b"hello");
    assert_eq!(socket.read(), Some((TEXT, b"hello".to_vec())));
    let id = response.field("x-request-id").unwrap().to_owned();
    assert!(house.entries().iter().all(|entry| entry["request_id"] != id.as_str()));
    socket.send(CLOSE, &1_000_u16.to_be_bytes());
    let entry = house.entry("request", "request_id", &id);
    assert_eq!((&entry["status"], &entry["completed"]), (&json!(101), &json!(true)));
    assert!(entry["bytes_in"].as_u64() > Some(0), "{entry}");
    assert_eq!(house.close().len(), 1);
}

#[test]
fn bytes_in_counts_what_was_read_of_a_body_and_is_absent_without_one() {
    let house = House::open(AUDIT);
    let bearer = house.bearer();
    let head = format!("POST /v1/orders/7 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n");
    let whole = house.send(&format!("{head}Content-Length: 5\r\n\r\nhello"));
    let chunked = house.send(&format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n2\r\n!!\r\n0\r\n\r\n"
    ));
    let without = house.get("/v1/orders/7", &format!("Authorization: {bearer}\r\n"));
    // The head is refused before the body is looked at.
    let refused = house.send("POST /v1/orders/7 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello");
    for (response, status, bytes) in [
        (&whole, 200, json!(5)),
        (&chunked, 200, json!(7)),
        (&without, 200, Value::Null),
        (&refused, 401, Value::Null),
    ] {
        let entry = house.entry_of(response);
        assert_eq!((&entry["status"], &entry["bytes_in"]), (&json!(status), &bytes), "{entry}");
    }
    let mut client = house.client();
    let head = head.replace("/7 ", "/endless ");
    client.send(format!("{head}Content-Length: 500\r\n\r\nhello").as_bytes());
    assert!(!client.read_some().unwrap().is_empty());
    drop(client);
    let entry = house.entry("request", "path", "/v1/orders/endless");
    assert_eq!((&entry["bytes_in"], &entry["completed"]), (&json!(5), &json!(false)), "{entry}");
}

#[test]
fn curl_over_http2_has_an_entry_with_its_version_of_tls() {
    let house = House::open(AUDIT);
    let address = house.gateway.address("tls");
    let call = |number: usize| {
        let path = format!("/public/by-curl-{number}");
        let status = Command::new("curl")
            .args([
                "--silent",
                "--insecure",
                "--http2",
                "--output",
                "/dev/null",
                "--user-agent",
                "curl-test",
            ])
            .args(["--resolve", &format!("localhost:{}:{}", address.port(), address.ip())])
            .args(["--data", "eleven-byte"])
            .arg(format!("https://localhost:{}{path}?name=canary", address.port()))
            .status()
            .unwrap();
        assert!(status.success());
        house.entry("request", "path", &path)
    };
    // The service may have answered before the body came, which nobody reads then.
    let mut calls = 1;
    let mut entry = call(calls);
    while entry["bytes_in"].is_null() && calls < 5 {
        calls += 1;
        entry = call(calls);
    }
    assert_eq!(
        (&entry["tls"], &entry["version"], &entry["query"]),
        (&json!("1.3"), &json!("2"), &json!("name"))
    );
    assert_eq!(
        (&entry["headers"]["user-agent"], &entry["bytes_in"]),
        (&json!("curl-test"), &json!(11))
    );
    assert_eq!(house.close().len(), calls);
}

#[test]
fn a_route_without_audit_has_no_entry_and_the_next_one_has() {
    let house = House::open(AUDIT);
    assert_eq!(house.get("/health", "").status, 200);
    let recorded = house.entry_of(&house.get("/public/x", ""));
    assert_eq!(recorded["path"], "/public/x");
    assert_eq!(house.close().len(), 1);
}

#[test]
fn with_each_an_answer_is_on_record_before_it_is_sent() {
    let house = House::open("[audit]\ndirectory = \"state/audit\"\ndurable = \"each\"\n");
    for (target, status) in [("/public/x", 200), ("/v1/orders/1", 401)] {
        let response = house.get(target, "");
        assert_eq!(response.status, status);
        let id = response.field("x-request-id").unwrap();
        let entries = house.entries();
        let answered = entries
            .iter()
            .find(|entry| entry["kind"] == "answered" && entry["request_id"] == id);
        assert_eq!(answered.expect("an entry before the answer")["status"], status);
        assert_eq!(house.entry_of(&response)["status"], status);
    }
    let unread = house.send("GET /\u{1} nonsense\r\n\r\n");
    let id = unread.field("x-request-id").unwrap();
    assert!(
        house
            .entries()
            .iter()
            .any(|entry| entry["kind"] == "answered" && entry["request_id"] == id)
    );
    assert_eq!(house.close().len(), 6);
}
