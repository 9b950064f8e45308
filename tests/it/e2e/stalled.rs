//! Clients that take nothing of their answers, in numbers: everybody else is served as if they were not there.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use durward::base::clock;
use serde_json::Value;

use crate::support::frames;
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, ROUTES, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket::{self, WebSocket};

use super::{head, scale, text};

/// Good requests beside an attack.
const GOOD: usize = 200;
/// What a good request may take beside an attack, at most: far above the figures, which are printed, and far below
/// the second for which a stalled client is left alone.
const PROMPT: Duration = Duration::from_millis(500);

/// Two services behind a gateway; of the first a worker has 32 connections.
struct Scene {
    service: Upstream,
    other: Upstream,
    site: Site,
    gateway: Gateway,
    bad: String,
    good: String,
}

/// Large answers under `big`, small ones elsewhere.
pub(super) fn service() -> Upstream {
    Upstream::scripted(When::Head, |asked, stream| {
        if asked.target.contains("big") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n")?;
            let lump = [b'b'; 64 * 1024];
            for _ in 0..128 {
                stream.write_all(&lump)?;
            }
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(Then::Keep)
    })
}

fn scene(limits: &str) -> Scene {
    let (service, other) = (service(), service());
    let plan = Plan {
        upstream: ROUTES.replace("name = \"main\"", "name = \"main\"\nmax_connections = 32"),
        tables: limits.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, service.address);
    let routes = "[[routes]]\npath = \"/other/**\"\nmethods = [\"GET\"]\naccess = { surfaces = [\"api\"], scopes = [\"orders:read\"] }\n";
    site.write(
        "upstreams/other.toml",
        &format!("name = \"other\"\nendpoints = [\"http://{}\"]\n{routes}", other.address),
    );
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = || {
        let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
        format!("Bearer {}", text(&made, "key"))
    };
    Scene {
        bad: key(),
        good: key(),
        service,
        other,
        site,
        gateway,
    }
}

pub(super) const fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

impl Scene {
    /// A connection of HTTP/2 whose streams all ask for this and take nothing.
    fn stall_h2(&self, from: IpAddr, path: &str, streams: u32) -> Client {
        let address = self.gateway.address("tls");
        let mut client = Client::connect_tls_from(from, address, (&self.site.root, "localhost"), &["h2"]).unwrap();
        let mut request = frames::Request::get(path.as_bytes(), b"localhost");
        request.push(b"authorization", self.bad.as_bytes());
        frames::open_without_window(&mut client, &request, streams).unwrap();
        client
    }

    /// A connection of HTTP/1.1 that asks for this and reads nothing.
    fn stall_h1(&self, from: IpAddr, path: &str) -> Client {
        let mut client = Client::connect_from(from, self.gateway.address("plain"));
        client.send(&head("GET", path, &[("Authorization", &self.bad)]));
        client
    }

    /// How long each of the good requests took, shortest first; all must be served.
    fn ask(&self, from: IpAddr, path: &str) -> Vec<Duration> {
        let mut took: Vec<_> = (0..GOOD)
            .map(|n| {
                let mut client = Client::connect_from(from, self.gateway.address("plain"));
                let began = clock::instant();
                client.send(&head("GET", path, &[("Authorization", &self.good)]));
                let answer = client.response().expect("an answer");
                assert_eq!(answer.status, 200, "request {n} from {from}: {answer:?}");
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        took
    }

    /// Good requests from another address and from the attacker's own, by another credential, against those that
    /// were asked while nothing else went on.
    fn judge(&self, what: &str, quiet: &[Duration], path: &str) {
        for (who, from) in [("another address", local(2)), ("the same address", local(1))] {
            let took = self.ask(from, path);
            let (slow, worst) = (p99(&took), took[GOOD - 1]);
            eprintln!(
                "D8 {what}, good requests from {who}: {GOOD} of {GOOD} served, p99 {slow:?} (quiet {:?}), worst {worst:?}",
                p99(quiet)
            );
            assert!(slow < PROMPT, "{what}: {slow:?}");
        }
    }

    /// Waits until this path is being asked of the service so often.
    fn wait_for(&self, path: &str, count: usize) {
        until("the attack to hold what it may", PATIENCE, || {
            let asked = self.service.requests();
            (asked.iter().filter(|r| r.target == path).count() >= count).then_some(())
        });
    }
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100 - 1]
}

fn lines(gateway: &Gateway, path: &str) -> Vec<Value> {
    super::upgrade::lines(gateway, path)
}

#[test]
fn streams_without_a_window_do_not_keep_others_from_a_service() {
    let scene = scene("");
    let quiet = scene.ask(local(2), "/v1/orders/1");
    let _attack: Vec<_> = (0..12).map(|_| scene.stall_h2(local(1), "/v1/orders/big", 100)).collect();
    scene.wait_for("/v1/orders/big", 2 * 16);
    scene.judge("twelve connections of h2, 1,200 streams without a window", &quiet, "/v1/orders/1");
}

#[test]
fn readers_of_a_hundred_bytes_a_second_do_not_keep_others_from_a_service() {
    let scene = scene("");
    let quiet = scene.ask(local(2), "/v1/orders/1");
    let mut attack: Vec<_> = (0..100).map(|_| scene.stall_h1(local(1), "/v1/orders/big")).collect();
    scene.wait_for("/v1/orders/big", 2 * 16);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            for client in &mut attack {
                client.set_patience(Duration::from_millis(1));
                let _ = client.read_little(100);
            }
        }
    });
    scene.judge("a hundred connections of h1 that read 100 bytes a second", &quiet, "/v1/orders/1");
    drop(stop);
    reading.join().unwrap();
}

#[test]
fn streams_without_a_window_do_not_take_the_places_of_services_they_never_called() {
    let connections = scale("DURWARD_TEST_STALLED", 8);
    let requests = if connections < 45 { 400 } else { 4_096 };
    let scene = scene(&format!("\n[limits]\nrequests = {requests}\n"));
    let quiet = scene.ask(local(2), "/other/1");
    let _attack: Vec<_> = (0..connections).map(|_| scene.stall_h2(local(1), "/other/big", 100)).collect();
    // Half of the places, or of the connections of two workers.
    let held = (requests / 2).min(256);
    until("the attack to hold what it may", PATIENCE, || {
        (scene.other.count() >= held).then_some(())
    });
    let what = format!("{connections} connections of h2, a hundred streams each, {requests} places");
    scene.judge(&what, &quiet, "/v1/orders/1");
    scene.judge(&what, &quiet, "/other/1");
}

/// From so many addresses that shares are no help.
#[test]
fn whoever_waits_is_served_before_whoever_stalls() {
    let scene = scene("");
    for protocol in ["h2", "h1"] {
        let path = format!("/public/{protocol}/big");
        let attack: Vec<_> = (0..24)
            .flat_map(|n| {
                let from = local(10 + n % 6);
                let many = if protocol == "h2" { 1 } else { 20 };
                (0..many).map(move |_| from)
            })
            .map(|from| match protocol {
                "h2" => scene.stall_h2(from, &path, 20),
                _ => scene.stall_h1(from, &path),
            })
            .collect();
        scene.wait_for(&path, 2 * 32);
        // The attack takes turns with itself. Whoever comes now is not behind all of it.
        until("the attack to displace itself", PATIENCE, || {
            let displaced = lines(&scene.gateway, &path);
            (displaced.iter().filter(|line| line["ended"] == "displaced").count() >= 32).then_some(())
        });
        let began = clock::instant();
        let mut client = Client::connect_from(local(2), scene.gateway.address("plain"));
        client.send(&head("GET", "/public/good", &[]));
        assert_eq!(client.response().map(|r| r.status), Some(200));
        eprintln!(
            "D8 all connections stalled over {protocol}, from six addresses: the first good request waited {:?}",
            began.elapsed()
        );
        let line = until("an access line that says why", PATIENCE, || {
            lines(&scene.gateway, &path).into_iter().find(|line| line["ended"] == "displaced")
        });
        assert_eq!(line["completed"], false, "{line}");
        let took = scene.ask(local(2), "/public/good");
        eprintln!("D8 {GOOD} good ones after it: p99 {:?}", p99(&took));
        drop(attack);
        until("what the attack held to be given back", PATIENCE, || {
            (lines(&scene.gateway, &path).len() >= 24 * 20).then_some(())
        });
    }
}

#[test]
fn a_client_that_stalls_while_nobody_waits_gets_all_of_its_answer() {
    let scene = scene("");
    let mut stalled = scene.stall_h1(local(1), "/v1/orders/big");
    let mut h2 = scene.stall_h2(local(1), "/v1/orders/big", 1);
    scene.wait_for("/v1/orders/big", 2);
    let began = clock::instant();
    until("longer than a stalled client would be left alone", PATIENCE, || {
        (began.elapsed() > Duration::from_millis(2_500)).then_some(())
    });
    let answer = stalled.response().expect("an answer");
    assert_eq!((answer.status, answer.body.len(), answer.complete), (200, 8 << 20, true));
    frames::widen(&mut h2, 9 << 20).unwrap();
    let ending = frames::read_ending(&mut h2, |_| ()).unwrap();
    assert_eq!(ending.answer.map(|(status, body)| (status, body.len())), Some((200, 8 << 20)));
    assert_eq!(ending.reset, None);
}

#[test]
fn a_websocket_that_takes_nothing_gives_way_and_a_silent_one_does_not() {
    let service = Upstream::scripted(When::Head, |asked, stream| {
        if !websocket::is_handshake(asked) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            return Ok(Then::Keep);
        }
        if asked.target.contains("silent") {
            return websocket::echo(stream, &websocket::Seen::default());
        }
        websocket::accept(stream)?;
        let lump = websocket::bare(websocket::BINARY, &[b'w'; 1 << 16]);
        for _ in 0..1_024 {
            stream.write_all(&lump)?;
        }
        Ok(Then::Close)
    });
    let plan = Plan {
        upstream: format!("{ROUTES}{}", super::upgrade::MORE).replace("name = \"main\"", "name = \"main\"\nmax_connections = 2"),
        ..Plan::usual()
    };
    let site = Site::of(&plan, service.address);
    let gateway = Gateway::start(&site);
    let open = |last: u8, path: &str| {
        let client = Client::connect_from(local(last), gateway.address("plain"));
        WebSocket::open(client, path, &[]).map_err(|refused| refused.status).unwrap().0
    };
    // Two workers with two connections each: one of each pair is of either kind.
    let mut silent: Vec<_> = (10..12).map(|last| open(last, "/open/silent")).collect();
    let _stalled: Vec<_> = (12..14).map(|last| open(last, "/open/stalled")).collect();
    let mut good = Client::connect_from(local(2), gateway.address("plain"));
    good.send(&head("GET", "/public/good", &[]));
    assert_eq!(good.response().map(|r| r.status), Some(200));
    let line = super::upgrade::line(&gateway, "/open/stalled");
    assert_eq!(line["ended"], "displaced", "{line}");
    assert!(silent.iter_mut().all(|socket| socket.echoes("still here")));
}
