//! What asks for a WebSocket and is none, or answers as one and is none (docs/threats.md S8, S9).

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::canary::contains;
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket::{self, ACCEPT, CLOSE, HANDSHAKE, TEXT, WebSocket, last, masked};

use super::upgrade::{admit, line, open, plan};
use super::{call, get, text};

/// What it is, the request line, the fields, the body.
type Attack<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, &'a str);

const SMUGGLED: &[u8] = b"GET /v1/orders/smug HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn raw(line: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let fields: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    format!("{line}\r\nHost: localhost\r\n{fields}\r\n{body}").into_bytes()
}

/// The good handshake without or with another value for one field.
fn changed<'f>(name: &str, value: Option<&'f str>) -> Vec<(&'static str, &'f str)>
where
    'static: 'f,
{
    let fields = HANDSHAKE.iter().filter_map(|(n, v)| match n.eq_ignore_ascii_case(name) {
        true => value.map(|value| (*n, value)),
        false => Some((*n, *v)),
    });
    fields.collect()
}

#[test]
fn s8_s9_nothing_but_a_good_handshake_keeps_its_upgrade_and_what_follows_is_judged_by_itself() {
    let upstream = Upstream::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    let with = |mut fields: Vec<(&'static str, &'static str)>, more: &[(&'static str, &'static str)]| {
        fields.extend(more);
        fields
    };
    let good = || HANDSHAKE.to_vec();
    let get = "GET /open/x HTTP/1.1";
    let h2c = [
        ("Upgrade", "h2c"),
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
    ];
    let cases: Vec<Attack> = vec![
        ("the wrong version", get, changed("Sec-WebSocket-Version", Some("12")), ""),
        ("no version", get, changed("Sec-WebSocket-Version", None), ""),
        ("no key", get, changed("Sec-WebSocket-Key", None), ""),
        ("a short key", get, changed("Sec-WebSocket-Key", Some("c2hvcnQ=")), ""),
        (
            "two keys",
            get,
            with(good(), &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]),
            "",
        ),
        ("another protocol", get, changed("Upgrade", Some("foo")), ""),
        ("a choice of protocols", get, changed("Upgrade", Some("websocket, h2c")), ""),
        ("two upgrades", get, with(good(), &[("Upgrade", "h2c")]), ""),
        ("no connection option", get, changed("Connection", Some("keep-alive")), ""),
        (
            "a key for this hop only",
            get,
            changed("Connection", Some("Upgrade, Sec-WebSocket-Key")),
            "",
        ),
        ("a body", get, with(good(), &[("Content-Length", "5")]), "hello"),
        ("chunks", get, with(good(), &[("Transfer-Encoding", "chunked")]), "0\r\n\r\n"),
        ("cleartext h2", get, h2c.to_vec(), ""),
        ("a HEAD", "HEAD /open/x HTTP/1.1", good(), ""),
        ("a POST", "POST /public/x HTTP/1.1", good(), ""),
        ("a route without the opt-in", "GET /public/x HTTP/1.1", good(), ""),
    ];
    assert!(cases.len() > 15);
    for (what, request_line, fields, body) in cases {
        upstream.forget();
        let mut client = Client::connect(gateway.address("plain"));
        client.send(&[&raw(request_line, &fields, body), SMUGGLED].concat());
        let method = request_line.split(' ').next().unwrap();
        let answer = client.final_response_to(method).unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, 200, "{what}");
        let asked = upstream.requests();
        assert_eq!(asked.len(), 1, "{what}");
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert!(asked[0].all(gone).is_empty(), "{what}: {gone}: {:?}", asked[0].all(gone));
        }
        assert_eq!(
            client.final_response_to("GET").map(|r| r.status),
            Some(401),
            "{what}: what follows has no credential"
        );
        assert!(!contains(&upstream.bytes(), b"smug"), "{what}");
    }
    let mut old = Client::connect(gateway.address("plain"));
    old.send(&raw("GET /open/x HTTP/1.0", &HANDSHAKE, ""));
    assert_eq!(old.final_response_to("GET").map(|r| r.status), Some(200));
    assert!(upstream.requests().iter().all(|asked| asked.all("upgrade").is_empty()));
}

#[test]
fn s8_what_the_client_sends_behind_its_head_waits_for_the_101() {
    let early = Arc::new(Mutex::new(None));
    let noted = early.clone();
    let upstream = Upstream::scripted(When::Head, move |_, stream| {
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        let mut byte = [0; 1];
        *noted.lock().unwrap() = Some(stream.read(&mut byte).map_err(|error| error.kind()));
        stream.set_read_timeout(None)?;
        websocket::echo(stream, &websocket::Seen::default())
    });
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&[websocket::request("/open/x", &[]), masked(TEXT, b"early")].concat());
    let (mut socket, _) = WebSocket::opened(client).unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_eq!(socket.read(), Some((TEXT, b"early".to_vec())), "it is not lost");
    assert_eq!(
        *early.lock().unwrap(),
        Some(Err(ErrorKind::WouldBlock)),
        "nothing came before the 101"
    );
}

#[test]
fn s8_an_answer_that_is_no_101_is_an_ordinary_one_and_both_connections_end() {
    for answer in [
        "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    ] {
        let upstream = Upstream::answering(answer, Then::Keep);
        let site = Site::of(&plan(), upstream.address);
        let gateway = Gateway::start(&site);
        let mut client = Client::connect(gateway.address("plain"));
        client.send(&[websocket::request("/open/x", &[]), masked(TEXT, b"smug"), SMUGGLED.to_vec()].concat());
        let response = client.final_response_to("GET").expect("an answer");
        assert!(matches!(response.status, 200 | 403) && response.body == b"no", "{response:?}");
        assert_eq!((response.field("upgrade"), response.field("connection")), (None, Some("close")));
        assert!(client.closes(), "what was sent behind it may be frames or requests");
        assert!(!contains(&upstream.bytes(), b"smug") && upstream.count() == 1);
        // The service may have switched whatever it said: its connection is not used again.
        for _ in 0..4 {
            call(&gateway, "GET", "/public/x", &[]);
        }
        let asked = upstream.requests();
        assert_eq!(asked.len(), 5);
        assert!(asked[1..].iter().all(|later| later.connection != asked[0].connection));
    }
}

#[test]
fn s8_a_101_that_does_not_meet_the_handshake_is_a_502() {
    let head = "HTTP/1.1 101 Switching Protocols\r\n";
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
    let (upgrade, connection) = ("Upgrade: websocket\r\n", "Connection: Upgrade\r\n");
    let cases = [
        format!("{head}{upgrade}{connection}\r\n"),
        format!("{head}{upgrade}{connection}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"),
        format!("{head}{upgrade}{connection}{accept}{accept}\r\n"),
        format!("{head}{connection}{accept}\r\n"),
        format!("{head}{upgrade}{accept}\r\n"),
        format!("{head}Upgrade: h2c\r\n{connection}{accept}\r\n"),
        format!("{head}{upgrade}{connection}{accept}Content-Length: 5\r\n\r\nhello"),
        format!("{head}{upgrade}{connection}{accept}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ];
    let next = Arc::new(Mutex::new(String::new()));
    let script = next.clone();
    let upstream = Upstream::scripted(When::Head, move |_, stream| {
        stream.write_all(script.lock().unwrap().as_bytes())?;
        Ok(Then::Keep)
    });
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    let status = |target: &str| {
        let client = Client::connect(gateway.address("plain"));
        WebSocket::open(client, target, &[]).map_or_else(|refused| refused.status, |_| 101)
    };
    for case in &cases {
        next.lock().unwrap().clone_from(case);
        assert_eq!(status("/open/x"), 502, "{case}");
    }
    *next.lock().unwrap() = format!("{head}{upgrade}{connection}{accept}\r\n");
    assert_eq!(status("/public/x"), 502, "nobody asked for it there");
    assert_eq!(status("/open/x"), 101);
}

#[test]
fn s8_a_tunnel_carries_frames_and_nothing_else() {
    let seen = websocket::Seen::default();
    let shared = seen.clone();
    let upstream = Upstream::scripted(When::Head, move |asked, stream| {
        if asked.target.ends_with("garbage") {
            websocket::accept(stream)?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")?;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            return Ok(Then::Close);
        }
        websocket::echo(stream, &shared)
    });
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    let mut poisoned = open(&gateway, "/open/garbage", &[]);
    assert_eq!(poisoned.closing(), 1002, "not a byte of it reaches the client");
    assert_eq!(line(&gateway, "/open/garbage")["ended"], "protocol");

    let mut smuggler = open(&gateway, "/open/smuggler", &[]);
    assert!(smuggler.echoes("hello"));
    smuggler.client.send(&[masked(TEXT, b"last"), SMUGGLED.to_vec()].concat());
    assert_eq!(smuggler.closing(), 1002);
    let close = until("the service to be told", PATIENCE, || {
        last(&seen).flatten().filter(|frame| frame.0 == CLOSE)
    });
    assert_eq!(websocket::code(&close.1), Some(1002));
    let frames: Vec<_> = seen.lock().unwrap().iter().flatten().map(|frame| frame.1.clone()).collect();
    assert_eq!(frames[..2], [b"hello".to_vec(), b"last".to_vec()], "{frames:?}");
    assert_eq!(frames.len(), 3, "{frames:?}");
    assert_eq!(line(&gateway, "/open/smuggler")["ended"], "protocol");
}

#[test]
fn s8_the_connection_of_a_tunnel_is_never_used_for_a_request() {
    let (upstream, seen) = websocket::echoing();
    let site = Site::of(&plan(), upstream.address);
    let gateway: Gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (made, bearer) = admit(&gateway);
    let key = text(&made, "key");
    for round in 0..4 {
        let mut socket = open(&gateway, "/ws/x", &[("Authorization", &bearer)]);
        socket.send(CLOSE, &1000_u16.to_be_bytes());
        assert_eq!(socket.closing(), 1000);
        until("the service's end", PATIENCE, || last(&seen));
        assert_eq!(get(&gateway, "/v1/orders/1", &key).status, 200, "{round}");
    }
    let asked = upstream.requests();
    let mut tunnels = 0;
    for (at, tunnel) in asked.iter().enumerate().filter(|(_, asked)| websocket::is_handshake(asked)) {
        tunnels += 1;
        let after = asked[at + 1..].iter().find(|later| later.connection == tunnel.connection);
        assert!(after.is_none(), "{after:?}");
    }
    assert_eq!(tunnels, 4);
}
