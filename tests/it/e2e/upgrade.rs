//! WebSockets through the gateway: admitted like any request, then frames both ways until somebody ends it.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durward::base::clock;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, ROUTES, SESSION_SECRET, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket::{self, BINARY, CLOSE, TEXT, WebSocket, bare, last};

use super::text;

/// Routes that may become WebSockets beside the usual ones, which may not.
pub(super) const MORE: &str = r#"
[[routes]]
path = "/ws/**"
methods = ["GET", "POST"]
access = { surfaces = ["api"], scopes = ["orders:read"] }
upgrade = "websocket"

[[routes]]
path = "/idle/**"
methods = ["GET"]
access = "public"
upgrade = "websocket"
idle_timeout = "400ms"

[[routes]]
path = "/open/**"
methods = ["GET"]
access = "public"
upgrade = "websocket"

[[routes]]
path = "/session-ws/**"
methods = ["GET"]
access = { surfaces = ["session"] }
upgrade = "websocket"
"#;

pub(super) fn plan() -> Plan {
    Plan {
        upstream: format!("{ROUTES}{MORE}"),
        ..Plan::usual()
    }
}

/// A key that may use the routes: its record, and the field it is presented in.
pub(super) fn admit(gateway: &Gateway) -> (Value, String) {
    let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let bearer = format!("Bearer {}", text(&made, "key"));
    (made, bearer)
}

pub(super) fn open(gateway: &Gateway, target: &str, more: &[(&str, &str)]) -> WebSocket {
    let client = Client::connect(gateway.address("plain"));
    match WebSocket::open(client, target, more) {
        Ok((socket, _)) => socket,
        Err(response) => panic!("not opened: {response:?}"),
    }
}

/// The access lines of this path so far.
pub(super) fn lines(gateway: &Gateway, path: &str) -> Vec<Value> {
    let output = gateway.output();
    let lines = output
        .split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    lines.filter(|line| line["path"] == path).collect()
}

pub(super) fn line(gateway: &Gateway, path: &str) -> Value {
    until("the access line", PATIENCE, || lines(gateway, path).pop())
}

#[test]
fn frames_pass_both_ways_with_the_identity_and_without_the_credential() {
    let (upstream, seen) = websocket::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (made, bearer) = admit(&gateway);
    for listener in ["plain", "tls"] {
        upstream.forget();
        let client = match listener {
            "plain" => Client::connect(gateway.address("plain")),
            _ => Client::connect_tls(gateway.address("tls"), &site.root, "localhost", &["http/1.1"]).unwrap(),
        };
        let more = [
            ("Authorization", bearer.as_str()),
            ("X-Tenant-Id", "globex"),
            ("Sec-WebSocket-Protocol", "chat"),
        ];
        let (mut socket, answer) = WebSocket::open(client, &format!("/ws/{listener}"), &more).unwrap();
        assert_eq!(answer.field("sec-websocket-accept"), Some(websocket::ACCEPT));
        assert_eq!(
            (answer.field("upgrade"), answer.field("connection")),
            (Some("websocket"), Some("Upgrade"))
        );
        assert!(answer.field("x-request-id").is_some());
        assert!(socket.echoes("hello"));
        let large = vec![b'x'; 3 << 20];
        socket.send(BINARY, &large);
        assert_eq!(socket.read(), Some((BINARY, large)));

        let asked = &upstream.requests()[0];
        assert_eq!(asked.all("x-tenant-id"), ["acme"]);
        assert_eq!(asked.all("x-auth-credential-id"), [text(&made, "id")]);
        assert_eq!(asked.all("authorization"), [""; 0]);
        assert_eq!(
            (asked.all("upgrade"), asked.all("connection")),
            (vec!["websocket"], vec!["Upgrade"])
        );
        assert_eq!(
            (asked.all("sec-websocket-key"), asked.all("sec-websocket-protocol")),
            (vec![websocket::KEY], vec!["chat"])
        );
        assert!(upstream.broken().is_empty(), "{:?}", upstream.broken());

        socket.send(CLOSE, &1000_u16.to_be_bytes());
        assert_eq!(socket.closing(), 1000, "the service's answer comes through");
        assert_eq!(last(&seen), Some(Some((CLOSE, 1000_u16.to_be_bytes().to_vec()))));
        let line = line(&gateway, &format!("/ws/{listener}"));
        assert_eq!(
            (&line["status"], &line["ended"], &line["completed"]),
            (&json!(101), &json!("upstream"), &json!(true)),
            "{line}"
        );
        assert_eq!(line["credential"], made["id"]);
        assert!(
            line["bytes_in"].as_u64() > Some(3 << 20) && line["bytes_out"].as_u64() > Some(3 << 20),
            "{line}"
        );
    }
}

#[test]
fn a_websocket_is_refused_like_any_request_before_the_service_hears_of_it() {
    let (upstream, _) = websocket::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let poor = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:write"]);
    let poor = format!("Bearer {}", text(&poor, "key"));
    let (made, bearer) = admit(&gateway);
    gateway.json(&["keys", "revoke", &text(&made, "id")]);
    for (credential, status) in [("", 401), (bearer.as_str(), 401), (poor.as_str(), 403)] {
        let client = Client::connect(gateway.address("plain"));
        let answer = WebSocket::open(client, "/ws/x", &[("Authorization", credential)])
            .err()
            .expect("a refusal");
        assert_eq!(answer.status, status);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn b10_another_sites_page_cannot_open_a_websocket_with_the_users_cookie() {
    let (upstream, _) = websocket::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (made, _) = admit(&gateway);
    let claims = json!({ "sub": made["id"], "kind": "dashboard_session", "exp": jiff::Timestamp::now().as_second() + 60 });
    let key = jsonwebtoken::EncodingKey::from_secret(SESSION_SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let cookie = format!("session={token}");
    let status = |more: &[(&str, &str)]| {
        let mut all = vec![("Cookie", cookie.as_str())];
        all.extend(more);
        let client = Client::connect(gateway.address("plain"));
        WebSocket::open(client, "/session-ws/x", &all).map_or_else(|refused| refused.status, |(_, answer)| answer.status)
    };
    for foreign in [
        &[("Origin", "http://evil.example")][..],
        &[("Origin", "null")],
        &[],
        &[("Sec-Fetch-Site", "cross-site")],
    ] {
        assert_eq!(status(foreign), 403, "{foreign:?}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(status(&[("Origin", "http://localhost")]), 101);
    let by_header = [
        ("Authorization", format!("Bearer {token}")),
        ("Origin", "http://evil.example".to_owned()),
    ];
    let by_header: Vec<_> = by_header.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let client = Client::connect(gateway.address("plain"));
    assert!(
        WebSocket::open(client, "/session-ws/x", &by_header).is_ok(),
        "no page can make a browser do that"
    );
}

#[test]
fn what_the_service_sends_after_the_client_has_ended_still_arrives() {
    let upstream = Upstream::scripted(When::Head, |_, stream| {
        websocket::accept(stream)?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        stream.write_all(&bare(TEXT, b"goodbye"))?;
        Ok(Then::Close)
    });
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    let mut socket = open(&gateway, "/open/half", &[]);
    socket.client.finish_sending();
    assert_eq!(socket.read(), Some((TEXT, b"goodbye".to_vec())));
    assert_eq!(socket.read(), None);
    assert_eq!(line(&gateway, "/open/half")["ended"], "client");
}

#[test]
fn an_idle_websocket_is_closed_and_one_that_is_used_is_not() {
    let (upstream, _) = websocket::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    let mut used = open(&gateway, "/idle/used", &[]);
    let mut idle = open(&gateway, "/idle/idle", &[]);
    let reader = std::thread::spawn(move || idle.closing());
    let start = clock::instant();
    while start.elapsed() < Duration::from_millis(1_200) {
        assert!(used.echoes("still here"));
    }
    assert_eq!(reader.join().unwrap(), 1001);
    assert_eq!(line(&gateway, "/idle/idle")["ended"], "idle");
    assert!(used.echoes("and here"));
}

#[test]
fn a_side_that_takes_nothing_makes_the_gateway_hold_little_and_not_for_long() {
    let written = Arc::new(Mutex::new(0_usize));
    let count = written.clone();
    let upstream = Upstream::scripted(When::Head, move |_, stream| {
        websocket::accept(stream)?;
        let lump = bare(BINARY, &vec![b'd'; 1 << 20]);
        for _ in 0..256 {
            stream.write_all(&lump)?;
            *count.lock().unwrap() += 1;
        }
        Ok(Then::Close)
    });
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    let before = gateway.resident();
    let sockets: Vec<_> = (0..4).map(|n| open(&gateway, &format!("/idle/{n}"), &[])).collect();
    for n in 0..4 {
        assert_eq!(line(&gateway, &format!("/idle/{n}"))["ended"], "idle");
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 24 << 20, "memory grew by {} KiB while nobody reads", grown / 1024);
    assert!(*written.lock().unwrap() < 4 * 256, "the service had to wait");
    drop(sockets);
}

#[test]
fn at_the_end_of_a_drain_a_websocket_is_told_that_the_gateway_goes_away() {
    let (upstream, seen) = websocket::echoing();
    let plan = Plan {
        tables: "\n[limits]\ndrain_delay = \"0s\"\ndrain_timeout = \"1s\"\n".to_owned(),
        ..plan()
    };
    let site = Site::of(&plan, upstream.address);
    let mut gateway = Gateway::start(&site);
    let mut socket = open(&gateway, "/open/drain", &[]);
    gateway.signal(Signal::TERM);
    let address = gateway.address("plain");
    until("the listener to close", PATIENCE, || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    assert!(socket.echoes("still served while the drain lasts"));
    assert_eq!(socket.closing(), 1001);
    drop(socket);
    assert!(gateway.wait_exit(PATIENCE).success());
    let told = last(&seen).expect("something").expect("a frame");
    assert_eq!((told.0, websocket::code(&told.1)), (CLOSE, Some(1001)));
    assert_eq!(line(&gateway, "/open/drain")["ended"], "drain");
}

#[test]
fn a_websocket_counts_as_a_connection_and_not_as_a_request() {
    let (upstream, _) = websocket::echoing();
    let plan = Plan {
        tables: "\n[limits]\nrequests = 2\nconnections_per_address = 4\n".to_owned(),
        ..plan()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    // One request at a time for each worker: four would be too many.
    let mut sockets: Vec<_> = (0..4).map(|_| open(&gateway, "/open/x", &[])).collect();
    let mut fifth = Client::connect(gateway.address("plain"));
    fifth.send(&websocket::request("/open/x", &[]));
    assert!(fifth.closes(), "there is no fifth connection");
    assert!(sockets.iter_mut().all(|socket| socket.echoes("x")));
}
