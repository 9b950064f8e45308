//! Connections that do nothing, or next to nothing, do not stay (docs/threats.md D9).

use std::time::Duration;

use durward::base::clock;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;

/// Short limits, so that the test waits one second and not ten; the defaults are tested where they stand.
const SHORT: &str = "\n[limits]\nhead_timeout = \"1s\"\nhandshake_timeout = \"1s\"\nkeep_alive = \"1s\"\nbody_idle = \"1s\"\n";

/// Longest a connection may stay with them on a machine under load.
const AT_MOST: Duration = Duration::from_secs(8);

fn with_short_limits(upstream: &Upstream) -> (Site, Gateway) {
    let plan = Plan {
        tables: SHORT.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    (site, gateway)
}

/// The connection is closed in time, and not at once.
fn ends(client: &mut Client, what: &str) {
    let start = clock::instant();
    client.set_patience(AT_MOST);
    assert!(client.closes(), "{what} stays open for {AT_MOST:?}");
    assert!(start.elapsed() < AT_MOST, "{what} stays open too long");
}

#[test]
fn d9_silent_and_slow_connections_are_closed() {
    let upstream = Upstream::echoing();
    let (_site, gateway) = with_short_limits(&upstream);
    let beginnings: [(&str, &str, &[u8]); 9] = [
        ("plain", "no byte", b""),
        ("plain", "half a request line", b"GET /pub"),
        ("plain", "half a head", b"GET /public/x HTTP/1.1\r\nHost: localhost\r\nX-A: "),
        (
            "plain",
            "a body that does not come",
            b"POST /public/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
        ),
        (
            "plain",
            "half a body",
            b"POST /public/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        ),
        (
            "plain",
            "half a chunk",
            b"POST /public/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ),
        (
            "plain",
            "nothing after an answer",
            b"GET /public/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("tls", "no byte of a handshake", b""),
        ("tls", "half a ClientHello", b"\x16\x03\x01\x02\x00\x01\x00"),
    ];
    let mut clients: Vec<(&str, Client)> = beginnings
        .iter()
        .map(|(listener, what, bytes)| {
            let mut client = Client::connect(gateway.address(listener));
            client.send(bytes);
            (*what, client)
        })
        .collect();
    for (what, client) in &mut clients {
        ends(client, what);
    }
}

#[test]
fn d9_an_h2_connection_without_its_preface_is_closed() {
    let upstream = Upstream::echoing();
    let (site, gateway) = with_short_limits(&upstream);
    for (what, bytes) in [("no preface", b"".as_slice()), ("half a preface", b"PRI * HT")] {
        let mut client = Client::connect_tls(gateway.address("tls"), &site.root, "localhost", &["h2"]).unwrap();
        client.send(bytes);
        ends(&mut client, what);
    }
}

#[test]
fn d9_a_good_client_is_served_between_slow_ones() {
    let upstream = Upstream::echoing();
    let (_site, gateway) = with_short_limits(&upstream);
    let slow: Vec<Client> = (0..200).map(|_| Client::connect(gateway.address("plain"))).collect();
    let mut good = Client::connect(gateway.address("plain"));
    for _ in 0..20 {
        good.send(b"GET /public/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(good.response().map(|r| r.status), Some(200));
    }
    drop(slow);
}
