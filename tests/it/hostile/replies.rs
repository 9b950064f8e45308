//! What an upstream does wrong does not become the client's next answer (docs/threats.md S7, S8, S13, S14, H11).

use std::io::{Read as _, Write as _};

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::Site;
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

const GET: &[u8] = b"GET /public/x HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn ask(gateway: &Gateway, bytes: &[u8]) -> Option<Response> {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(bytes);
    client.final_response_to("GET")
}

/// An upstream that answers with these bytes, and a gateway before it.
fn behind(answer: &'static str, then: Then) -> (Upstream, Site, Gateway) {
    let upstream = Upstream::answering(answer, then);
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    (upstream, site, gateway)
}

#[test]
fn h11_what_an_upstream_says_of_identity_does_not_reach_the_client() {
    let (_upstream, _site, gateway) = behind(
        "HTTP/1.1 200 OK\r\nX-Tenant-Id: t\r\nX-Auth-Subject: s\r\nX-Accel-Redirect: /x\r\nSet-Cookie: session=x\r\nSet-Cookie: other=y\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-Plain: 1\r\nContent-Length: 2\r\n\r\nok",
        Then::Keep,
    );
    let response = ask(&gateway, GET).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, b"ok".as_slice()));
    for absent in ["x-tenant-id", "x-auth-subject", "x-accel-redirect", "x-hop", "keep-alive"] {
        assert_eq!(response.field(absent), None, "{absent}");
    }
    assert_eq!(response.field("x-plain"), Some("1"));
    let cookies: Vec<&str> = response
        .fields
        .iter()
        .filter(|(n, _)| n == "set-cookie")
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(cookies, ["other=y"], "the gateway's session cookie is its own");
}

#[test]
fn s7_an_upstream_connection_is_not_used_again_after_an_early_answer() {
    // Answers at the head and never reads the body: what it would read next is body, not a request.
    let upstream = Upstream::scripted(When::Head, |request, stream| {
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")?;
        if request.method == "POST" {
            let mut rest = [0; 1024];
            let _ = stream.read(&mut rest);
            return Ok(Then::Close);
        }
        Ok(Then::Keep)
    });
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(b"POST /public/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nGET /admin/x HTTP/1.1\r\n\r\n");
    assert_eq!(client.final_response_to("POST").map(|r| r.status), Some(413));
    assert_eq!(ask(&gateway, GET).map(|r| r.status), Some(413));
    let requests = upstream.requests();
    let by_post = requests.iter().find(|r| r.method == "POST").map(|r| r.connection);
    let by_get = requests.iter().find(|r| r.method == "GET").map(|r| r.connection);
    assert!(by_post.is_some() && by_get.is_some() && by_post != by_get, "{requests:?}");
}

#[test]
fn s8_an_answer_that_is_no_switch_opens_no_tunnel() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(
        b"GET /public/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nGET /admin/tunnelled HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    let first = client.final_response_to("GET").unwrap();
    assert_ne!(first.status, 101, "no route opted in");
    if let Some(second) = client.final_response_to("GET") {
        assert_eq!(second.status, 401, "what follows is a request like any other");
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|r| !r.target.starts_with("/admin") && r.all("upgrade").is_empty())
    );
}

#[test]
fn s13_a_body_still_on_its_way_is_never_the_next_request() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    let hidden = b"GET /admin/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(
        format!(
            "POST /v1/orders/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            hidden.len()
        )
        .as_bytes(),
    );
    assert_eq!(client.final_response_to("POST").map(|r| r.status), Some(401));
    client.send(hidden);
    client.send(GET);
    match client.final_response_to("GET") {
        None => {}
        Some(answer) => assert_eq!(
            answer.status, 200,
            "the body was drained; this is the answer to the request behind it"
        ),
    }
    assert!(upstream.requests().iter().all(|r| r.target == "/public/x"));
}

#[test]
fn s13_a_large_body_after_a_refusal_closes_the_connection() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(b"POST /v1/orders/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n");
    assert_eq!(client.final_response_to("POST").map(|r| r.status), Some(401));
    let lump = vec![b'a'; 64 * 1024];
    let mut sent = 0_usize;
    while client.try_send(&lump).is_ok() {
        sent += lump.len();
        // 64 MiB are read and forgotten, and the kernels on both sides hold some.
        assert!(sent < 96 * 1024 * 1024, "the gateway reads on and on");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn s14_interim_answers_are_dealt_with_and_an_unasked_switch_is_refused() {
    let (upstream, _site, gateway) = behind(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
         HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Then::Keep,
    );
    for _ in 0..3 {
        let response = ask(&gateway, GET).unwrap();
        assert_eq!((response.status, response.body.as_slice()), (200, b"ok".as_slice()));
    }
    assert_eq!(upstream.count(), 3);
    let (_upstream, _site, gateway) = behind(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\nraw",
        Then::Keep,
    );
    assert_eq!(ask(&gateway, GET).map(|r| r.status), Some(502));
}

#[test]
fn s14_a_storm_of_interim_answers_ends() {
    let upstream = Upstream::scripted(When::Body, |_, stream| {
        for _ in 0..100_000 {
            stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n")?;
        }
        Ok(Then::Close)
    });
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    assert_eq!(ask(&gateway, GET).map(|r| r.status), Some(502));
}

#[test]
fn answers_that_are_no_answers_are_502_and_poison_nothing() {
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        let (_upstream, _site, gateway) = behind(bad, Then::Close);
        assert_eq!(ask(&gateway, GET).map(|r| r.status), Some(502), "{bad:?}");
    }
}

#[test]
fn a_body_cut_short_never_looks_complete() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    ] {
        let (_upstream, _site, gateway) = behind(cut, Then::Close);
        if let Some(response) = ask(&gateway, GET) {
            assert!(response.status == 502 || !response.complete, "{cut:?}: {response:?}");
        }
    }
}

#[test]
fn bytes_behind_an_answer_are_no_answer_to_the_next_request() {
    let (upstream, _site, gateway) = behind(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Then::Keep,
    );
    for _ in 0..5 {
        assert_eq!(ask(&gateway, GET).map(|r| r.body), Some(b"ok".to_vec()));
    }
    until("one connection for each answer", PATIENCE, || {
        (upstream.connections() == 5).then_some(())
    });
}
