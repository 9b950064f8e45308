//! Over HTTP/2 each stream has exactly one entry, however it ends; recorded bodies and trailers pass as they were sent.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method, Request};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::e2e::h2::{Sender, connect, on_a_runtime};
use crate::support::frames;
use crate::support::gateway::{Gateway, run};
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, pause};

use super::kept;

const AUDIT: &str = "[audit]\ndirectory = \"state/audit\"\nquery = [\"page\"]\nheaders = [\"user-agent\", \"x-note\"]\n\
    [limits]\ndrain_delay = \"0s\"\n";

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/v1/orders/**"
methods = ["GET", "POST"]
access = { surfaces = ["api"], scopes = ["orders:read"] }

[[routes]]
path = "/public/**"
methods = ["GET", "POST"]
access = "public"

[[routes]]
path = "/recorded/**"
methods = ["POST"]
access = "public"
[routes.audit]
body = { max = "4KiB", types = ["application/json"], mask = ["ssn"] }
answer = { max = "4KiB", types = ["application/json"], mask = ["ssn"] }

[[routes]]
path = "/grpc/**"
methods = ["POST"]
access = "public"
trailers = true
[routes.audit]
body = { max = "4KiB", types = ["application/json"] }
answer = { max = "4KiB", types = ["application/json"] }
"#;

/// Between two parts of an answer without an end.
const PACE: Duration = Duration::from_millis(20);

/// Streams at once on one connection.
const STREAMS: usize = 60;

struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
    key: Value,
}

/// Sends the body back, with trailers if the request had some; of `endless` it sends more and more.
fn service() -> Upstream {
    Upstream::scripted(When::Body, |request, stream| {
        if request.target.contains("endless") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")?;
            while stream.write_all(b"5\r\nagain\r\n").is_ok() {
                pause(PACE);
            }
            return Ok(Then::Close);
        }
        let media_type = request.all("content-type").first().copied().unwrap_or("text/plain").to_owned();
        let body = &request.body;
        if request.target.starts_with("/grpc/") {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                body.len()
            )?;
            stream.write_all(body)?;
            stream.write_all(b"\r\n0\r\ngrpc-status: 0\r\ngrpc-message: all%20well\r\n\r\n")?;
        } else {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )?;
            stream.write_all(body)?;
        }
        Ok(Then::Keep)
    })
}

impl House {
    fn open() -> Self {
        let upstream = service();
        let plan = Plan {
            tables: AUDIT.to_owned(),
            upstream: ROUTES.to_owned(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        let key = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
        Self {
            upstream,
            site,
            gateway,
            key,
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key["key"].as_str().unwrap())
    }

    fn entry(&self, answer: &Answer) -> Value {
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let entry = kept::entry(&self.site, "request", "request_id", id);
        assert_eq!(entry["version"], "2", "{entry}");
        assert_eq!(entry["tls"], "1.3", "{entry}");
        assert_eq!(entry["status"], answer.status, "{entry}");
        entry
    }

    /// Ends the gateway, so that everything is written, and gives the entries of requests of a trail that is whole.
    fn close(mut self) -> Vec<Value> {
        self.gateway.signal(Signal::TERM);
        assert!(self.gateway.wait_exit(PATIENCE).success());
        let verified = run(&self.site.config(), &["audit", "verify"], b"");
        assert_eq!(verified.code, 0, "{verified:?}");
        kept::entries(&self.site, "request")
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

fn request(method: &Method, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method.clone()).uri(format!("https://localhost{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// Sends a request with a body, and trailers behind it, and reads the whole answer.
async fn ask(sender: &Sender, method: Method, path: &str, fields: &[(&str, &str)], body: &[u8], trailers: Option<HeaderMap>) -> Answer {
    let mut ready = sender.clone().ready().await.unwrap();
    let ends = body.is_empty() && trailers.is_none();
    let (response, mut stream) = ready.send_request(request(&method, path, fields), ends).unwrap();
    if !ends {
        // In pieces, as clients send them.
        let (first, second) = body.split_at(body.len() / 2);
        stream.send_data(Bytes::copy_from_slice(first), false).unwrap();
        stream.send_data(Bytes::copy_from_slice(second), trailers.is_none()).unwrap();
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).unwrap();
        }
    }
    let response = response.await.unwrap();
    let (head, mut body) = response.into_parts();
    let mut received = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        received.extend_from_slice(&chunk);
    }
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: received,
        trailers: body.trailers().await.unwrap(),
    }
}

#[test]
fn an_admitted_stream_has_one_entry_with_the_fields_of_its_request() {
    let house = House::open();
    let bearer = house.bearer();
    let answer = on_a_runtime(async {
        let sender = connect(&house.gateway, &house.site).await;
        let fields = [
            ("authorization", bearer.as_str()),
            ("user-agent", "test/2"),
            ("x-note", "n"),
            ("cookie", "a=canary-cookie"),
        ];
        ask(
            &sender,
            Method::POST,
            "/v1/orders/7?page=2&q=canary-search",
            &fields,
            b"hello",
            None,
        )
        .await
    });
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()));
    let entry = house.entry(&answer);
    for (name, value) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("POST")),
        ("host", json!("localhost")),
        ("path", json!("/v1/orders/7")),
        ("query", json!("page=2&q")),
        ("surface", json!("api")),
        ("credential", house.key["id"].clone()),
        ("tenant", json!("acme")),
        ("mode", json!("live")),
        ("scopes_needed", json!("orders:read")),
        ("upstream", json!("main")),
        ("attempts", json!(1)),
        ("bytes_out", json!(5)),
        ("completed", json!(true)),
        ("headers", json!({"user-agent": "test/2", "x-note": "n"})),
    ] {
        assert_eq!(entry[name], value, "{name} of {entry}");
    }
    let entries = house.close();
    assert_eq!(entries.len(), 1);
    assert!(!entries[0].to_string().contains("canary"), "{}", entries[0]);
}

#[test]
fn each_refused_stream_has_one_entry_and_what_is_no_request_has_none() {
    let house = House::open();
    let bearer = house.bearer();
    on_a_runtime(async {
        let sender = connect(&house.gateway, &house.site).await;
        let with = [("authorization", bearer.as_str())];
        let cases = [
            (Method::GET, "/v1/orders/1", &[][..], 401, "missing_credential"),
            (
                Method::GET,
                "/v1/orders/2",
                &[("authorization", "Bearer nonsense")],
                401,
                "unknown_credential",
            ),
            (Method::GET, "/nowhere", &with, 404, "no_route"),
            (Method::PUT, "/v1/orders/3", &with, 405, "method_not_allowed"),
            (Method::GET, "/v1/../admin", &with, 400, "malformed_target"),
        ];
        for (method, path, fields, status, denial) in cases {
            let answer = ask(&sender, method, path, fields, b"", None).await;
            assert_eq!(answer.status, status, "{path}");
            let entry = house.entry(&answer);
            if denial == "unknown_credential" {
                assert!(entry["denial"].is_string(), "{entry}");
            } else {
                assert_eq!(entry["denial"], denial, "{entry}");
            }
            assert_eq!(entry["completed"], true, "{entry}");
        }
    });
    let raw = || Client::connect_tls(house.gateway.address("tls"), &house.site.root, "localhost", &["h2"]).unwrap();
    // No library would send these.
    let fragment = frames::Request::get(b"/public/x#y", b"localhost");
    let mut large = frames::Request::get(b"/public/large", b"localhost");
    for name in [b"x-a", b"x-b", b"x-c"] {
        large.push(name, &[b'a'; 12_000]);
    }
    for (request, status, denial) in [(fragment, 400, "malformed_target"), (large, 431, "head_too_large")] {
        let outcome = frames::exchange(&mut raw(), &request);
        assert!(matches!(outcome, frames::Outcome::Answer(code, _) if code == status), "{outcome:?}");
        let entry = kept::entry(&house.site, "request", "denial", denial);
        assert_eq!((&entry["status"], &entry["version"]), (&json!(status), &json!("2")), "{entry}");
    }
    // A stream that breaks the protocol is reset before there is a request.
    let mut upper = frames::Request::get(b"/public/upper", b"localhost");
    upper.push(b"X-Upper", b"1");
    assert_eq!(frames::exchange(&mut raw(), &upper), frames::Outcome::Reset);
    assert_eq!(house.upstream.count(), 0);
    assert_eq!(house.close().len(), 7);
}

#[test]
fn a_stream_that_its_client_resets_has_one_entry_that_says_so() {
    let house = House::open();
    on_a_runtime(async {
        let sender = connect(&house.gateway, &house.site).await;
        // In the middle of the answer.
        let mut ready = sender.clone().ready().await.unwrap();
        let (response, mut stream) = ready.send_request(request(&Method::GET, "/public/endless", &[]), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert!(!body.data().await.unwrap().unwrap().is_empty());
        stream.send_reset(Reason::CANCEL);
        drop(body);
        // In the middle of the request.
        let fields = [("content-type", "application/json")];
        let (_response, mut stream) = ready
            .ready()
            .await
            .unwrap()
            .send_request(request(&Method::POST, "/recorded/half", &fields), false)
            .unwrap();
        stream.send_data(Bytes::from_static(b"{\"a\":"), false).unwrap();
        let arrived = || {
            house
                .upstream
                .requests()
                .iter()
                .any(|seen| seen.target == "/recorded/half" && seen.body_len == 5)
        };
        let arrival = async {
            while !arrived() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrival)
            .await
            .expect("the service has the first half");
        stream.send_reset(Reason::CANCEL);
        // The connection goes on.
        assert_eq!(ask(&sender, Method::GET, "/public/after", &[], b"", None).await.status, 200);
    });
    let answer = kept::entry(&house.site, "request", "path", "/public/endless");
    assert_eq!((&answer["completed"], &answer["status"]), (&json!(false), &json!(200)), "{answer}");
    assert!(answer["bytes_out"].as_u64() > Some(0), "{answer}");
    let half = kept::entry(&house.site, "request", "path", "/recorded/half");
    assert_eq!(half["completed"], false, "{half}");
    assert_eq!(
        (&half["body"]["stored"], &half["body"]["why"]),
        (&json!(false), &json!("incomplete")),
        "{half}"
    );
    let entries = house.close();
    let paths: BTreeSet<_> = entries.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!((entries.len(), paths.len()), (3, 3));
}

#[test]
fn bodies_are_recorded_both_ways_and_pass_unchanged() {
    let house = House::open();
    let body = json!({"ssn": "canary-ssn", "note": "n".repeat(2_000), "card": "4111 1111 1111 1111"}).to_string();
    let answer = on_a_runtime(async {
        let sender = connect(&house.gateway, &house.site).await;
        let fields = [("content-type", "application/json")];
        ask(&sender, Method::POST, "/recorded/x", &fields, body.as_bytes(), None).await
    });
    assert_eq!(answer.body, body.as_bytes());
    assert_eq!(house.upstream.requests()[0].body, body.as_bytes());
    let entry = house.entry(&answer);
    let bodies = kept::bodies(&house.site, &entry["request_id"]);
    for part in ["body", "answer"] {
        assert_eq!(
            (&entry[part]["stored"], &entry[part]["size"]),
            (&json!(true), &json!(body.len())),
            "{entry}"
        );
        let line = bodies.iter().find(|line| line["part"] == part).unwrap();
        let masked: Value = serde_json::from_str(line["masked"].as_str().unwrap()).unwrap();
        assert_eq!((&masked["ssn"], &masked["card"]), (&json!("***"), &json!("***")));
        assert_eq!(masked["note"], "n".repeat(2_000));
    }
    assert_eq!(bodies.len(), 2);
    assert_eq!(house.close().len(), 1);
}

#[test]
fn trailers_pass_a_recorded_call_both_ways() {
    let house = House::open();
    // A message of gRPC: no compression, four bytes of length.
    let message = b"\x00\x00\x00\x00\x03abc";
    let trailers = || HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let (grpc, text) = on_a_runtime(async {
        let sender = connect(&house.gateway, &house.site).await;
        let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
        let json = [("content-type", "application/json"), ("te", "trailers")];
        (
            ask(&sender, Method::POST, "/grpc/call", &grpc, message, Some(trailers())).await,
            ask(&sender, Method::POST, "/grpc/text", &json, b"{\"a\":1}", Some(trailers())).await,
        )
    });
    assert_eq!(
        (grpc.body.as_slice(), text.body.as_slice()),
        (message.as_slice(), b"{\"a\":1}".as_slice())
    );
    for answer in [&grpc, &text] {
        let trailers = answer.trailers.as_ref().expect("trailers");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"0".parse().unwrap(), &"all%20well".parse().unwrap())
        );
    }
    for seen in house.upstream.requests() {
        assert_eq!(
            (seen.trailers.as_slice(), seen.complete),
            (["x-sum: 7".to_owned()].as_slice(), true)
        );
    }
    let entry = house.entry(&grpc);
    for part in ["body", "answer"] {
        let told = &entry[part];
        assert_eq!((&told["type"], &told["size"]), (&json!("application/grpc"), &json!(8)), "{entry}");
        assert_eq!((&told["stored"], &told["why"]), (&json!(false), &json!("type")), "{entry}");
    }
    let entry = house.entry(&text);
    // A body that ends with trailers has ended.
    assert_eq!(
        (&entry["body"]["stored"], &entry["answer"]["stored"]),
        (&json!(true), &json!(true)),
        "{entry}"
    );
    assert_eq!(house.close().len(), 2);
}

#[test]
fn streams_of_one_connection_have_one_entry_each_with_their_own_fields() {
    let house = House::open();
    let bearer = house.bearer();
    let answers = on_a_runtime(async {
        let sender = connect(&house.gateway, &house.site).await;
        let mut running = tokio::task::JoinSet::new();
        for number in 0..STREAMS {
            let (sender, bearer) = (sender.clone(), bearer.clone());
            running.spawn(async move {
                let note = format!("note-{number}");
                let body = json!({ "note": note }).to_string();
                let mut fields = vec![("x-note", note.as_str()), ("content-type", "application/json")];
                let path = match number % 4 {
                    0 => format!("/recorded/{number}"),
                    1 => format!("/v1/orders/{number}"),
                    2 => {
                        fields.push(("authorization", &bearer));
                        format!("/v1/orders/{number}")
                    }
                    _ => format!("/nowhere/{number}"),
                };
                (number, ask(&sender, Method::POST, &path, &fields, body.as_bytes(), None).await)
            });
        }
        running.join_all().await
    });
    assert_eq!(answers.len(), STREAMS);
    for (number, answer) in &answers {
        let entry = house.entry(answer);
        let note = format!("note-{number}");
        assert_eq!(entry["headers"]["x-note"], note, "{entry}");
        assert!(entry["path"].as_str().unwrap().ends_with(&format!("/{number}")), "{entry}");
        let status = [200, 401, 200, 404][number % 4];
        assert_eq!(answer.status, status, "{entry}");
        assert_eq!(entry["tenant"].is_string(), number % 4 == 2, "{entry}");
        let bodies = kept::bodies(&house.site, &entry["request_id"]);
        assert_eq!(bodies.len(), if number % 4 == 0 { 2 } else { 0 }, "{entry}");
        let sent = json!({ "note": note }).to_string();
        let its_own = |line: &Value| line["masked"] == sent.as_str();
        assert!(bodies.iter().all(its_own), "{bodies:?}");
    }
    // What one stream left must not stand beside what is the next one's.
    let path = kept::directory(&house.site).join(format!("trail-{:020}.jsonl", 0));
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.lines().all(|line| line.matches("x-note").count() <= 1), "{text}");
    let entries = house.close();
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry["request_id"].as_str().unwrap()).collect();
    assert_eq!((entries.len(), ids.len()), (STREAMS, STREAMS));
}
