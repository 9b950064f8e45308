//! Requests as clients send them: lines before them, hosts, credentials, handshakes.

use super::*;
use crate::support::site::ROUTES;
use crate::support::websocket::{HANDSHAKE, WebSocket};

#[test]
fn a_scheme_and_its_credential_may_be_apart_by_several_spaces() {
    let house = House::open(Upstream::echoing(), ROUTES, "");
    house.gateway.json(&["tenants", "create", "acme"]);
    let made = house
        .gateway
        .create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let key = made["key"].as_str().unwrap();
    for (between, status) in [(" ", 200), ("  ", 200), ("     ", 200), ("\t", 401), (" \t", 401), ("", 401)] {
        let answer = call(
            &house.gateway,
            "GET",
            "/v1/orders/1",
            &[("Authorization", &format!("Bearer{between}{key}"))],
        );
        assert_eq!(answer.status, status, "{between:?}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_nothing() {
    let house = House::open(Upstream::echoing(), ROUTES, "");
    let get = "GET /public/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = Client::connect(house.gateway.address("plain"));
    for before in ["\r\n", "", "\r\n"] {
        client.send(format!("{before}{get}").as_bytes());
        assert_eq!(client.response().unwrap().status, 200);
    }
    // The same after a body, where the empty line comes in two pieces.
    client.send(b"POST /public/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab\r");
    assert_eq!(client.response().unwrap().status, 200);
    client.send(b"\n");
    client.send(get.as_bytes());
    assert_eq!(client.response().unwrap().status, 200);
    client.send(format!("\r\n\r\n{get}").as_bytes());
    assert_eq!(refusal(&client.response().unwrap()), (400, "malformed_request".to_owned()));
    assert!(client.closes());
    for before in ["\n", "\r", "\r\r\n", " "] {
        assert_eq!(house.say(format!("{before}{get}").as_bytes()).unwrap().status, 400, "{before:?}");
    }
}

#[test]
fn a_host_has_one_name_and_the_service_sees_it() {
    let routes = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/**"
hosts = ["api.example.com"]
access = "public"
"#;
    let house = House::open(Upstream::echoing(), routes, "");
    for (target, host, arrives) in [
        ("/x", "api.example.com", "api.example.com"),
        ("/x", "API.example.com.", "api.example.com"),
        ("/x", "api.example.com:", "api.example.com"),
        ("/x", "api.example.com.:8080", "api.example.com:8080"),
        ("http://api.example.com:80/x", "api.example.com", "api.example.com"),
        ("http://api.example.com/x", "api.example.com:80", "api.example.com:80"),
        ("http://api.example.com./x", "api.example.com", "api.example.com"),
    ] {
        house.upstream.forget();
        let answer = house
            .say(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .unwrap();
        let requests = house.upstream.requests();
        let seen: Vec<_> = requests
            .iter()
            .map(|r| (r.target.as_str(), r.all("host"), r.all("x-forwarded-host")))
            .collect();
        assert_eq!(
            (answer.status, seen),
            (200, vec![("/x", vec![arrives], vec![arrives])]),
            "{target} {host}"
        );
    }
    for (target, host, status) in [
        ("/x", "api.example.com..", 400),
        ("/x", "api.example.com:0", 400),
        ("/x", "other.example.com.", 404),
        ("http://api.example.com:81/x", "api.example.com", 400),
        ("https://api.example.com:80/x", "api.example.com", 400),
    ] {
        let answer = house
            .say(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(answer.status, status, "{target} {host}");
    }
}

#[test]
fn a_handshake_may_say_that_it_has_no_body_and_so_may_its_answer() {
    let routes = format!("{ROUTES}\n[[routes]]\npath = \"/open/**\"\nmethods = [\"GET\"]\naccess = \"public\"\nupgrade = \"websocket\"\n");
    let (upstream, _) = crate::support::websocket::echoing();
    let house = House::open(upstream, &routes, "");
    let client = Client::connect(house.gateway.address("plain"));
    assert!(WebSocket::open(client, "/open/x", &[("Content-Length", "0")]).is_ok());
    let client = Client::connect(house.gateway.address("plain"));
    assert!(WebSocket::open(client, "/open/x", &[("Content-Length", "2")]).is_err());

    for (length, status) in [
        ("Content-Length: 0\r\n", 101),
        ("", 101),
        ("Content-Length: 5\r\n", 502),
        ("Transfer-Encoding: chunked\r\n", 502),
    ] {
        let accept = crate::support::websocket::ACCEPT;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{length}\r\n"
        );
        let house = House::open(
            Upstream::answering(answer.leak(), crate::support::upstream::Then::Keep),
            &routes,
            "",
        );
        let answer = call(&house.gateway, "GET", "/open/x", &HANDSHAKE);
        assert_eq!(answer.status, status, "{length}");
        assert!(answer.status != 101 || answer.field("content-length").is_none());
    }
}
