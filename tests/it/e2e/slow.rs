//! How slowly an answer may be taken, and that a silent service costs its client nothing.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use durward::base::clock;

use crate::support::frames::{self, Ending};
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::pause;
use crate::support::websocket::{TEXT, WebSocket, accept, bare, is_handshake};

use super::head;
use super::stalled::{local, service};
use super::upgrade::{MORE, line};

/// The error code of a stream that is not wanted any more (RFC 9113, section 7).
const CANCEL: u32 = 8;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn gateway(upstream: &Upstream, limits: &str) -> (Site, Gateway) {
    let plan = Plan {
        upstream: format!("{}{MORE}", Plan::usual().upstream),
        tables: format!("\n[limits]\n{limits}\n"),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    (site, gateway)
}

fn h2(gateway: &Gateway, site: &Site) -> Client {
    Client::connect_tls(gateway.address("tls"), &site.root, "localhost", &["h2"]).unwrap()
}

/// Reads in small pieces at this rate until the end; how many bytes came, and after how long.
fn trickle(client: &mut Client, rate: usize, most: usize) -> (usize, Duration) {
    let (began, mut read) = (clock::instant(), 0);
    while read < most {
        match client.read_little(rate / 20) {
            Ok(n @ 1..) => read += n,
            Ok(0) | Err(_) => break,
        }
        let due = Duration::from_secs_f64(read as f64 / rate as f64);
        pause(due.saturating_sub(began.elapsed()));
    }
    (read, began.elapsed())
}

#[test]
fn who_takes_less_than_the_least_rate_is_cut_off_and_who_takes_more_is_not() {
    let upstream = service();
    let (site, gateway) = gateway(&upstream, "answer_rate = \"64KiB\"");
    let ask = |from, path: &str| {
        let mut client = Client::connect_from(from, gateway.address("plain"));
        client.send(&head("GET", path, &[]));
        client
    };
    let slow = {
        let mut client = ask(local(2), "/public/slow/big");
        std::thread::spawn(move || trickle(&mut client, 16 << 10, usize::MAX))
    };
    let phone = {
        let mut client = ask(local(3), "/public/phone/big");
        std::thread::spawn(move || trickle(&mut client, 256 << 10, 7 << 19))
    };
    let mut stream = h2(&gateway, &site);
    let request = frames::Request::get(b"/public/h2/big", b"localhost");
    frames::open_without_window(&mut stream, &request, 1).unwrap();
    let began = clock::instant();
    stream.set_patience(Duration::from_millis(500));
    let reset = loop {
        // 2 KiB of window every half second.
        let _ = frames::widen(&mut stream, 2 << 10);
        match frames::read_ending(&mut stream, |_| ()) {
            Ok(Ending { reset, .. }) => break reset,
            Err(_) => assert!(began.elapsed() < Duration::from_secs(40), "not cut off"),
        }
    };
    let took = began.elapsed();
    assert_eq!(reset, Some(CANCEL));
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(25), "{took:?}");
    // Its connection lives.
    let (read, took) = slow.join().unwrap();
    assert!(read < 4 << 20, "{read} bytes came");
    assert!(took > Duration::from_secs(9), "{took:?}");
    assert!(phone.join().unwrap().0 >= 7 << 19, "what is above the rate is not cut off");
    for path in ["/public/slow/big", "/public/h2/big"] {
        let line = line(&gateway, path);
        assert_eq!((&line["ended"], &line["completed"]), (&"slow".into(), &false.into()), "{line}");
    }
}

/// A service that is silent for longer than any client might be.
#[test]
fn a_silent_service_costs_nobody_its_stream() {
    const SILENCE: Duration = Duration::from_millis(2_500);
    let upstream = Upstream::scripted(When::Head, |asked, stream| {
        if is_handshake(asked) {
            accept(stream)?;
            pause(SILENCE);
            stream.write_all(&bare(TEXT, b"late"))?;
            return Ok(Then::Close);
        }
        if asked.target.contains("poll") {
            pause(SILENCE);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")?;
            return Ok(Then::Keep);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        stream.write_all(b"7\r\nfirst\n\n\r\n")?;
        pause(SILENCE);
        stream.write_all(b"6\r\nlate\n\n\r\n0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let (site, gateway) = gateway(&upstream, "body_idle = \"1s\"\nanswer_rate = \"1MiB\"");
    let mut clients = Vec::new();
    for path in ["/public/events", "/public/poll"] {
        let mut client = Client::connect_from(HERE, gateway.address("plain"));
        client.send(&head("GET", path, &[]));
        let mut stream = h2(&gateway, &site);
        frames::open(&mut stream, &frames::Request::get(path.as_bytes(), b"localhost")).unwrap();
        clients.push((client, stream));
    }
    let (mut socket, _) = WebSocket::open(Client::connect(gateway.address("plain")), "/open/x", &[]).unwrap();
    for (mut client, mut stream) in clients {
        let answer = client.response().expect("an answer");
        assert!(answer.complete && answer.body.windows(4).any(|w| w == b"late"), "{answer:?}");
        let ending = frames::read_ending(&mut stream, |_| ()).unwrap();
        let (status, body) = ending.answer.expect("an answer");
        assert!(status == 200 && ending.reset.is_none() && body.windows(4).any(|w| w == b"late"));
    }
    assert_eq!(socket.read(), Some((TEXT, b"late".to_vec())));
}

#[test]
fn a_truncated_answer_of_no_declared_length_ends_with_a_reset() {
    let upstream = Upstream::scripted(When::Head, |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let lump = [b'u'; 64 * 1024];
        for _ in 0..1_024 {
            stream.write_all(&lump)?;
        }
        Ok(Then::Close)
    });
    let (_site, gateway) = gateway(&upstream, "body_idle = \"1s\"");
    let mut client = Client::connect_from(HERE, gateway.address("plain"));
    // HTTP/1.0 knows no chunks: its answer would end with the connection.
    client.send(b"GET /public/x HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(line(&gateway, "/public/x")["ended"], "slow");
    let end = loop {
        match client.read_little(64 << 10) {
            Ok(0) => break "an orderly end",
            Ok(_) => {}
            Err(_) => break "a reset",
        }
    };
    assert_eq!(end, "a reset");
}
