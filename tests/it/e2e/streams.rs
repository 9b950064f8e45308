//! Bodies of any size pass through as they come, and are held nowhere.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

use super::{head, scale, text};

const MIB: usize = 1024 * 1024;

/// How much the gateway's memory may grow while a body of any size passes: buffers of two
/// connections are some 100 KiB; the rest is what an allocator keeps.
const GROWTH: u64 = 24 * MIB as u64;

fn admitted(gateway: &Gateway) -> String {
    gateway.json(&["tenants", "create", "acme"]);
    let key = text(
        &gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]),
        "key",
    );
    format!("Bearer {key}")
}

#[test]
fn a_large_upload_streams_with_flat_memory() {
    let total = usize::try_from(scale("DURWARD_TEST_STREAM_MIB", 64)).unwrap() * MIB;
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let authorization = admitted(&gateway);
    let mut client = Client::connect(gateway.address("plain"));
    let length = total.to_string();
    client.send(&head(
        "POST",
        "/v1/orders/1",
        &[("Authorization", &authorization), ("Content-Length", &length)],
    ));
    let lump = vec![b'u'; MIB];
    client.try_send(&lump).unwrap();
    let before = gateway.resident();
    let mut most = before;
    for _ in 1..total / MIB {
        client.try_send(&lump).unwrap();
        most = most.max(gateway.resident());
    }
    assert_eq!(client.final_response_to("POST").map(|r| r.status), Some(200));
    assert_eq!(upstream.requests()[0].body_len, total as u64);
    assert!(most - before < GROWTH, "memory grew by {} KiB", (most - before) / 1024);
}

#[test]
fn a_large_download_streams_with_flat_memory() {
    let total = usize::try_from(scale("DURWARD_TEST_STREAM_MIB", 64)).unwrap() * MIB;
    let upstream = Upstream::scripted(When::Body, move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n")?;
        let lump = vec![b'd'; MIB];
        for _ in 0..total / MIB {
            stream.write_all(&lump)?;
        }
        Ok(Then::Keep)
    });
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let authorization = admitted(&gateway);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&head("GET", "/v1/orders/1", &[("Authorization", &authorization)]));
    let mut received = client.read_some().unwrap();
    let end = memchr::memmem::find(&received, b"\r\n\r\n").map(|at| at + 4);
    let mut count = received.len() - end.expect("the head comes first, in one piece");
    let before = gateway.resident();
    let mut most = before;
    while count < total {
        received = client.read_some().unwrap();
        assert!(!received.is_empty(), "it ended after {count} bytes");
        count += received.len();
        if count % MIB < received.len() {
            most = most.max(gateway.resident());
        }
    }
    assert_eq!(count, total);
    assert!(most - before < GROWTH, "memory grew by {} KiB", (most - before) / 1024);
}

#[test]
fn a_slow_reader_does_not_make_the_gateway_hold_the_body() {
    let total = 64 * MIB;
    let upstream = Upstream::scripted(When::Body, move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n")?;
        let lump = vec![b'd'; MIB];
        for _ in 0..total / MIB {
            stream.write_all(&lump)?;
        }
        Ok(Then::Keep)
    });
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let before = gateway.resident();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(gateway.address("plain"))).collect();
    for client in &mut clients {
        client.send(&head("GET", "/public/x", &[]));
        assert!(!client.read_some().unwrap().is_empty());
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < GROWTH, "memory grew by {} KiB while nobody reads", grown / 1024);
}

#[test]
fn server_sent_events_are_delivered_as_they_come() {
    let (next, events) = mpsc::channel::<&'static str>();
    let events = Mutex::new(events);
    let upstream = Upstream::scripted(When::Body, move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let events = events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for event in events.iter() {
            write!(stream, "{:x}\r\n{event}\r\n", event.len())?;
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&head("GET", "/public/events", &[]));
    let mut seen = Vec::new();
    let mut expect = |what: &str| {
        until(&format!("{what:?} to arrive"), PATIENCE, || {
            if !crate::support::canary::contains(&seen, what.as_bytes()) {
                seen.extend(client.read_some().unwrap());
            }
            crate::support::canary::contains(&seen, what.as_bytes()).then_some(())
        });
    };
    expect("text/event-stream");
    // The next event is made only after the one before it has arrived: nothing waits for more.
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        next.send(event).unwrap();
        expect(event);
    }
    drop(next);
    expect("0\r\n\r\n");
}

#[test]
fn an_expected_continue_comes_before_the_body() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&head("POST", "/public/x", &[("Expect", "100-continue"), ("Content-Length", "5")]));
    assert_eq!(client.response_to("POST").map(|r| r.status), Some(100));
    client.send(b"hello");
    assert_eq!(client.response_to("POST").map(|r| r.status), Some(200));
    assert_eq!(upstream.requests()[0].body, b"hello");
    let mut refused = Client::connect(gateway.address("plain"));
    refused.send(&head(
        "POST",
        "/v1/orders/1",
        &[("Expect", "100-continue"), ("Content-Length", "5")],
    ));
    assert_eq!(
        refused.response_to("POST").map(|r| r.status),
        Some(401),
        "no body is asked for in vain"
    );
}

#[test]
fn a_body_larger_than_the_route_allows_is_refused_before_and_while_it_comes() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&head("POST", "/public/x", &[("Content-Length", "10485761")]));
    assert_eq!(client.final_response_to("POST").map(|r| r.status), Some(413));
    assert_eq!(upstream.count(), 0);
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&head("POST", "/public/x", &[("Transfer-Encoding", "chunked")]));
    let mut chunk = b"100000\r\n".to_vec();
    chunk.extend(vec![b'a'; MIB]);
    chunk.extend(b"\r\n");
    for _ in 0..11 {
        if client.try_send(&chunk).is_err() {
            break;
        }
    }
    let status = client.final_response_to("POST").map(|r| r.status);
    assert!(matches!(status, Some(413) | None), "{status:?}");
    assert!(upstream.requests().iter().all(|r| !r.complete), "it never looks complete");
}
