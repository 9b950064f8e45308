//! Whatever is still open when a credential dies is closed within a second, and nothing else is (docs/threats.md C8).

use std::io::{Read as _, Write as _};
use std::thread::JoinHandle;
use std::time::Duration;

use durward::base::clock;
use serde_json::{Value, json};

use crate::support::frames::{self, Ending};
use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{SESSION_SECRET, Site};
use crate::support::stopwatch::Stopwatch;
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket::{self, CLOSE, Seen, WebSocket, last};

use super::upgrade::{admit, line, open, plan};
use super::{head, text};

/// What the issue asks for while the store is healthy.
const SOON: Duration = Duration::from_secs(1);

/// The error code of a stream that is not wanted any more (RFC 9113, section 7).
const CANCEL: u32 = 8;

/// A service whose answers begin and never end: events, a download, and WebSockets that echo. It reads
/// uploads to their end.
pub(super) fn endless() -> (Upstream, Seen) {
    let seen = Seen::default();
    let shared = seen.clone();
    let upstream = Upstream::scripted(When::Head, move |asked, stream| {
        if websocket::is_handshake(asked) {
            return websocket::echo(stream, &shared);
        }
        if asked.method == "POST" {
            return Ok(Then::Keep);
        }
        if asked.target.contains("events") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            stream.write_all(b"b\r\ndata: one\n\n\r\n")?;
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
            stream.write_all(&[b'd'; 1_000])?;
        }
        // Until the gateway ends it.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        Ok(Then::Close)
    });
    (upstream, seen)
}

/// A stream that a thread reads to its end.
struct Reading {
    name: &'static str,
    began: std::sync::mpsc::Receiver<()>,
    ended: JoinHandle<How>,
}

/// How a stream ended for its client.
#[derive(Debug, PartialEq, Eq)]
enum How {
    /// An answer, and whether it looked complete.
    Answer(u16, bool),
    /// A stream of HTTP/2 was reset with this code in the middle of its answer.
    Reset(u32),
    /// The connection ended without an answer.
    Nothing,
}

impl From<Option<Response>> for How {
    fn from(response: Option<Response>) -> Self {
        response.map_or(Self::Nothing, |r| Self::Answer(r.status, r.complete))
    }
}

/// Reads an answer of HTTP/1.1 in a thread.
fn read(name: &'static str, mut client: Client) -> Reading {
    let (told, began) = std::sync::mpsc::channel();
    let ended = std::thread::spawn(move || {
        let _ = told.send(());
        client.final_response_to("GET").into()
    });
    Reading { name, began, ended }
}

/// Everything that can be open under a key.
struct Opened {
    socket: WebSocket,
    streams: Vec<Reading>,
    upload: Client,
}

fn open_all(gateway: &Gateway, site: &Site, upstream: &Upstream, bearer: &str, who: &str) -> Opened {
    let authorization = ("Authorization", bearer);
    let mut socket = open(gateway, &format!("/ws/{who}"), &[authorization]);
    assert!(socket.echoes("hello"));
    let mut streams = Vec::new();
    for name in ["events", "download"] {
        let mut client = Client::connect(gateway.address("plain"));
        client.send(&head("GET", &format!("/v1/orders/{who}-{name}"), &[authorization]));
        streams.push(read(name, client));
    }
    let mut tls = Client::connect_tls(gateway.address("tls"), &site.root, "localhost", &["http/1.1"]).unwrap();
    tls.send(&head("GET", &format!("/v1/orders/{who}-events-tls"), &[authorization]));
    streams.push(read("events over TLS", tls));
    streams.push(read_h2(gateway, site, bearer, &format!("/v1/orders/{who}-events-h2"), None));
    streams.push(read_h2(
        gateway,
        site,
        bearer,
        &format!("/v1/orders/{who}-upload-h2"),
        Some(b"slow"),
    ));
    let mut upload = Client::connect(gateway.address("plain"));
    upload.send(&head(
        "POST",
        &format!("/v1/orders/{who}-upload"),
        &[authorization, ("Content-Length", "1000000")],
    ));
    upload.send(b"slow");
    until("all of them to be upstream", PATIENCE, || {
        let names = ["events", "download", "events-tls", "events-h2", "upload-h2", "upload"];
        let asked = upstream.requests();
        let here = |name: &str| asked.iter().any(|r| r.target == format!("/v1/orders/{who}-{name}"));
        names.iter().all(|name| here(name)).then_some(())
    });
    for stream in &streams {
        stream.began.recv_timeout(PATIENCE).unwrap();
    }
    Opened { socket, streams, upload }
}

/// The same over HTTP/2; with a body, an upload that goes on.
fn read_h2(gateway: &Gateway, site: &Site, bearer: &str, path: &str, body: Option<&[u8]>) -> Reading {
    let mut client = Client::connect_tls(gateway.address("tls"), &site.root, "localhost", &["h2"]).unwrap();
    let mut request = frames::Request::get(path.as_bytes(), b"localhost");
    request.push(b"authorization", bearer.as_bytes());
    if let Some(body) = body {
        request.fields[0].1 = b"POST".to_vec();
        request.body = Some(body.to_vec());
        request.goes_on = true;
    }
    frames::open(&mut client, &request).unwrap();
    let name = if body.is_some() {
        "an upload over HTTP/2"
    } else {
        "events over HTTP/2"
    };
    let (told, began) = std::sync::mpsc::channel();
    let is_upload = body.is_some();
    let ended = std::thread::spawn(move || {
        if is_upload {
            let _ = told.send(());
        }
        match frames::read_ending(&mut client, |_| {
            let _ = told.send(());
        }) {
            Ok(Ending { reset: Some(code), .. }) => How::Reset(code),
            Ok(Ending {
                answer: Some((status, _)), ..
            }) => How::Answer(status, true),
            Ok(Ending { answer: None, reset: None }) | Err(_) => How::Nothing,
        }
    });
    Reading { name, began, ended }
}

#[test]
fn c8_a_revoked_key_closes_all_that_it_opened_within_a_second_and_nothing_of_another() {
    let (upstream, seen) = endless();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let ((dying, bearer), (_, other)) = (admit(&gateway), admit(&gateway));
    let mut kept = open_all(&gateway, &site, &upstream, &other, "kept");
    let mut opened = open_all(&gateway, &site, &upstream, &bearer, "cut");
    until("the figures to count them", PATIENCE, || {
        let figures = metrics(&gateway);
        let all = [("websocket", 2), ("http1", 8), ("http2", 4)];
        all.iter()
            .all(|(kind, count)| figures.contains(&format!("durward_streams_open{{kind=\"{kind}\"}} {count}\n")))
            .then_some(())
    });

    gateway.json(&["keys", "revoke", &text(&dying, "id")]);
    let revoked = Stopwatch::start();
    assert_eq!(opened.socket.closing(), 1008);
    let upload = opened.upload.final_response_to("POST").map(|r| r.status);
    for stream in opened.streams {
        let how = stream.ended.join().unwrap();
        let expected = match stream.name {
            "events over HTTP/2" | "an upload over HTTP/2" => How::Reset(CANCEL),
            _ => How::Answer(200, false),
        };
        assert_eq!(how, expected, "{}", stream.name);
    }
    let took = revoked.elapsed();
    eprintln!("everything was closed {took:?} after the revocation was acknowledged");
    assert!(took < SOON, "{took:?}");
    assert_eq!(upload, Some(401), "who is told to stop is told why");
    assert!(opened.upload.closes());

    let told = until("the service to be told", PATIENCE, || {
        last(&seen).flatten().filter(|frame| frame.0 == CLOSE)
    });
    assert_eq!(websocket::code(&told.1), Some(1008));
    for asked in upstream.requests().iter().filter(|r| r.target.contains("upload")) {
        assert!(!asked.complete, "{}: a body that was cut off never looks complete", asked.target);
    }
    for path in [
        "/ws/cut",
        "/v1/orders/cut-events",
        "/v1/orders/cut-upload",
        "/v1/orders/cut-events-h2",
        "/v1/orders/cut-upload-h2",
    ] {
        let line = line(&gateway, path);
        assert_eq!(
            (&line["denial"], &line["ended"], &line["completed"]),
            (&json!("revoked_credential"), &json!("denied"), &json!(path.ends_with("cut-upload"))),
            "{line}"
        );
    }
    let figures = metrics(&gateway);
    for row in [
        "kind=\"websocket\",reason=\"revoked_credential\"} 1",
        "kind=\"http1\",reason=\"revoked_credential\"} 4",
        "kind=\"http2\",reason=\"revoked_credential\"} 2",
    ] {
        assert!(
            figures.contains(&format!("durward_streams_ended_total{{{row}")),
            "{row} in {figures}"
        );
    }

    assert!(kept.socket.echoes("still open"));
    assert!(
        kept.streams.iter().all(|stream| !stream.ended.is_finished()),
        "another key's streams go on"
    );
    kept.upload.set_patience(Duration::from_millis(100));
    assert!(kept.upload.read_some().is_err(), "and so does its upload");
}

fn metrics(gateway: &Gateway) -> String {
    let mut client = Client::connect(gateway.probes());
    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let body = client.final_response_to("GET").expect("metrics").body;
    String::from_utf8(body).unwrap()
}

/// Opens a WebSocket, changes something, and says how and why it ended.
pub(super) fn ended_by(gateway: &Gateway, mut socket: WebSocket, path: &str, change: impl FnOnce()) -> (u16, Value) {
    assert!(socket.echoes("open"));
    let wait = std::time::Duration::from_millis(600);
    // Old enough to be looked at: younger ones were admitted a moment ago.
    let opened = clock::instant();
    until("half a second", PATIENCE, || (opened.elapsed() > wait).then_some(()));
    change();
    let changed = Stopwatch::start();
    let code = socket.closing();
    let took = changed.elapsed();
    assert!(took < SOON, "{path}: {took:?}");
    (code, line(gateway, path)["denial"].clone())
}

#[test]
fn whatever_ends_a_credential_or_its_right_ends_its_streams() {
    let (upstream, _) = endless();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    for tenant in ["acme", "globex"] {
        gateway.json(&["tenants", "create", tenant]);
    }
    let (made, bearer) = admit(&gateway);
    let with = |bearer: &str, path: &str| open(&gateway, path, &[("Authorization", bearer)]);

    let disabled = ended_by(&gateway, with(&bearer, "/ws/disabled"), "/ws/disabled", || {
        gateway.json(&["keys", "disable", &text(&made, "id")]);
    });
    assert_eq!(disabled, (1008, json!("disabled_credential")));
    gateway.json(&["keys", "enable", &text(&made, "id")]);

    let foreign = gateway.create_key("api", "globex", &["--mode", "live", "--scope", "orders:read"]);
    let foreign = format!("Bearer {}", text(&foreign, "key"));
    let mut other_tenant = with(&foreign, "/ws/other");
    let tenant = ended_by(&gateway, with(&bearer, "/ws/tenant"), "/ws/tenant", || {
        gateway.json(&["tenants", "disable", "acme"]);
    });
    assert_eq!(tenant, (1008, json!("inactive_tenant")));
    assert!(other_tenant.echoes("another tenant's"));
    gateway.json(&["tenants", "enable", "acme"]);

    let role = gateway.json(&["roles", "create", "--tenant", "acme", "--name", "clerk", "--scope", "orders:read"]);
    let clerk = gateway.create_key("api", "acme", &["--mode", "live", "--role", "clerk"]);
    let clerk = format!("Bearer {}", text(&clerk, "key"));
    let narrowed = ended_by(&gateway, with(&clerk, "/ws/role"), "/ws/role", || {
        gateway.json(&["roles", "set", &text(&role, "id"), "--no-scopes"]);
    });
    assert_eq!(narrowed, (1008, json!("insufficient_scope")));

    let main = site.read("upstreams/main.toml");
    let moved = main.replace("path = \"/ws/**\"", "path = \"/elsewhere/**\"");
    let removed = ended_by(&gateway, with(&bearer, "/ws/route"), "/ws/route", || {
        site.write("upstreams/main.toml", &moved);
        assert_eq!(gateway.run(&["reload"]).code, 0);
    });
    assert_eq!(removed, (1008, json!("no_route")));
    assert_eq!(line(&gateway, "/ws/other")["denial"], json!("no_route"), "everybody's");
}

#[test]
fn a_token_that_expires_or_loses_its_signing_secret_ends_its_streams() {
    let (upstream, _) = endless();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (made, bearer) = admit(&gateway);
    let token = |seconds: i64| {
        let claims = json!({ "sub": made["id"], "kind": "dashboard_session", "exp": jiff::Timestamp::now().as_second() + seconds });
        let key = jsonwebtoken::EncodingKey::from_secret(SESSION_SECRET.as_bytes());
        format!(
            "Bearer {}",
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
        )
    };
    let mut key = open(&gateway, "/ws/key", &[("Authorization", &bearer)]);
    let mut short = open(&gateway, "/session-ws/short", &[("Authorization", &token(2))]);
    let opened = clock::instant();
    assert_eq!(short.closing(), 1008);
    assert!(opened.elapsed() < Duration::from_secs(4), "{:?}", opened.elapsed());
    assert_eq!(line(&gateway, "/session-ws/short")["denial"], "expired_credential");

    let long = open(&gateway, "/session-ws/long", &[("Authorization", &token(3_600))]);
    let withdrawn = ended_by(&gateway, long, "/session-ws/long", || {
        site.write("session.secret", "another-session-secret-0123456789abcdef0123456789");
        assert_eq!(gateway.run(&["reload"]).code, 0);
    });
    assert_eq!(withdrawn, (1008, json!("invalid_token")));
    assert!(key.echoes("a key is not signed"));
}

#[test]
fn what_needs_no_credential_is_not_ended_by_one() {
    let (upstream, _) = endless();
    let site = Site::of(&plan(), upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (made, bearer) = admit(&gateway);
    let mut public = open(&gateway, "/open/x", &[("Authorization", &bearer)]);
    let ended = ended_by(&gateway, open(&gateway, "/ws/x", &[("Authorization", &bearer)]), "/ws/x", || {
        gateway.json(&["keys", "revoke", &text(&made, "id")]);
    });
    assert_eq!(ended.0, 1008);
    assert!(public.echoes("for anybody"));
}
