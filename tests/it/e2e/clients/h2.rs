//! HTTP/2 as clients send it.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use super::*;
use crate::support::frames::{self, Outcome};
use crate::support::site::ROUTES;
use crate::support::upstream::{Then, When};
use crate::support::wait::{PATIENCE, until};

/// `PROTOCOL_ERROR` (RFC 9113, section 7).
const PROTOCOL_ERROR: u32 = 1;

fn connect(house: &House) -> Client {
    Client::connect_tls(house.gateway.address("tls"), &house.site.root, "localhost", &["h2"]).unwrap()
}

fn ask(house: &House, request: &frames::Request) -> Outcome {
    house.upstream.forget();
    frames::exchange(&mut connect(house), request)
}

fn get(path: &str) -> frames::Request {
    frames::Request::get(path.as_bytes(), b"localhost")
}

/// The `code` of a refusal's body.
fn code(outcome: &Outcome) -> (u16, String) {
    let Outcome::Answer(status, body) = outcome else {
        panic!("no answer")
    };
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}: {}", body.escape_ascii()));
    (*status, body["code"].as_str().unwrap().to_owned())
}

#[test]
fn a_head_over_its_limit_is_refused_like_anything_else() {
    let house = House::open(Upstream::echoing(), ROUTES, "");
    let with = |bytes: usize| {
        let mut request = get("/public/x");
        for name in [b"x-a", b"x-b", b"x-c"] {
            request.push(name, "a".repeat(bytes / 3).as_bytes());
        }
        request
    };
    assert!(matches!(ask(&house, &with(30_000)), Outcome::Answer(200, _)));
    for bytes in [33_000, 40_000, 60_000] {
        assert_eq!(code(&ask(&house, &with(bytes))), (431, "head_too_large".to_owned()), "{bytes}");
        assert_eq!(house.upstream.count(), 0);
    }
    let lines = until("the access lines", PATIENCE, || {
        let output = String::from_utf8_lossy(&house.gateway.output()).into_owned();
        let lines: Vec<serde_json::Value> = output
            .lines()
            .filter(|line| line.contains("head_too_large"))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() == 3).then_some(lines)
    });
    assert!(
        lines.iter().all(|line| line["status"] == 431 && line["request_id"].is_string()),
        "{lines:?}"
    );
}

#[test]
fn a_target_with_a_fragment_is_refused_as_on_http_1() {
    let house = House::open(Upstream::echoing(), ROUTES, "");
    for target in ["/public/x#y", "/public/x#", "/public#/../admin", "/public/x?a#b"] {
        assert_eq!(code(&ask(&house, &get(target))), (400, "malformed_target".to_owned()), "{target}");
        assert_eq!(house.upstream.count(), 0);
    }
    assert!(matches!(ask(&house, &get("/public/x?a=%23")), Outcome::Answer(200, _)));
}

#[test]
fn host_names_the_authority_where_there_is_no_other() {
    let house = House::open(Upstream::echoing(), ROUTES, "");
    let mut request = get("/public/x");
    request.fields.retain(|(name, _)| name != b":authority");
    assert_eq!(code(&ask(&house, &request)), (400, "malformed_host".to_owned()));
    request.push(b"host", b"LocalHost");
    assert!(matches!(ask(&house, &request), Outcome::Answer(200, _)));
    assert_eq!(house.upstream.requests()[0].all("host"), ["localhost"]);
    request.push(b"host", b"other");
    assert_eq!(code(&ask(&house, &request)), (400, "malformed_host".to_owned()));
}

/// A service that answers once the lock is free.
fn gated() -> (Upstream, Arc<Mutex<()>>) {
    let gate = Arc::new(Mutex::new(()));
    let waits = Arc::clone(&gate);
    let upstream = Upstream::scripted(When::Body, move |_, stream| {
        drop(waits.lock().unwrap());
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(Then::Keep)
    });
    (upstream, gate)
}

#[test]
fn a_malformed_field_ends_its_stream_and_no_other() {
    for bad in [
        ("x-a", "a\0b"),
        ("X-Upper", "1"),
        ("x y", "1"),
        ("x-a", "a\r\nx-tenant-id: evil"),
        (":evil", "1"),
    ] {
        let (upstream, gate) = gated();
        let house = House::open(upstream, ROUTES, "");
        let held = gate.lock().unwrap();
        let mut client = connect(&house);
        frames::open(&mut client, &get("/public/one")).unwrap();
        until("the first request", PATIENCE, || (house.upstream.count() == 1).then_some(()));
        let mut malformed = get("/public/two");
        malformed.push(bad.0.as_bytes(), bad.1.as_bytes());
        frames::open_on(&mut client, 3, &malformed).unwrap();
        let ending = frames::read_ending_of(&mut client, 3, |_| ()).unwrap();
        assert_eq!((ending.answer, ending.reset), (None, Some(PROTOCOL_ERROR)), "{bad:?}");
        drop(held);
        let ending = frames::read_ending(&mut client, |_| ()).unwrap();
        assert_eq!(ending.answer, Some((200, b"ok".to_vec())), "{bad:?}: the first stream lives");
        frames::open_on(&mut client, 5, &get("/public/three")).unwrap();
        let ending = frames::read_ending_of(&mut client, 5, |_| ()).unwrap();
        assert_eq!(
            ending.answer.map(|(status, _)| status),
            Some(200),
            "{bad:?}: and later ones are served"
        );
        assert!(house.upstream.requests().iter().all(|r| r.target != "/public/two"));
    }
}

#[test]
fn trailers_over_their_limit_never_look_complete() {
    let routes = format!("{ROUTES}\n[[routes]]\npath = \"/trailers/**\"\nmethods = [\"POST\"]\naccess = \"public\"\ntrailers = true\n");
    let house = House::open(Upstream::echoing(), &routes, "");
    let with = |sizes: &[usize]| {
        let mut request = get("/trailers/x");
        request.fields[0].1 = b"POST".to_vec();
        request.body = Some(b"ab".to_vec());
        request.trailers = sizes
            .iter()
            .enumerate()
            .map(|(n, size)| (format!("x-{n}").into_bytes(), vec![b'a'; *size]))
            .collect();
        request
    };
    assert!(matches!(ask(&house, &with(&[5_000, 5_000])), Outcome::Answer(200, _)));
    assert_eq!(house.upstream.requests()[0].trailers.len(), 2);
    for sizes in [&[34_000][..], &[17_000, 17_000], &[30_000, 30_000], &[10; 40]] {
        let outcome = ask(&house, &with(sizes));
        assert!(
            matches!(outcome, Outcome::Reset | Outcome::Answer(400, _)),
            "{sizes:?}: {outcome:?}"
        );
        assert!(house.upstream.requests().iter().all(|r| !r.complete), "{sizes:?}");
    }
}
