//! How soon what is open ends after the acknowledgement, also what was opened a moment before it, over both stores.

use std::time::Duration;

use durward::base::clock;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::stopwatch::Stopwatch;
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket::WebSocket;

use super::live::endless;
use super::upgrade::{admit, line, open, plan};
use super::{head, text};

/// What README promises.
const SOON: Duration = Duration::from_secs(1);

/// How old the streams are when their key is revoked.
const AGES: [u64; 5] = [0, 50, 120, 190, 400];

#[test]
fn over_the_embedded_store_streams_of_every_age_end_within_a_second() {
    let (upstream, _) = endless();
    ends_soon("embedded", &Site::of(&plan(), upstream.address));
}

#[test]
fn over_redis_streams_of_every_age_end_within_a_second() {
    let (upstream, _) = endless();
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let plan = Plan {
        upstream: plan().upstream,
        ..Plan::redis(&redis.url(), &pepper)
    };
    ends_soon("Redis", &Site::of(&plan, upstream.address));
}

fn ends_soon(store: &str, site: &Site) {
    let gateway = Gateway::start(site);
    gateway.json(&["tenants", "create", "acme"]);
    let mut worst = Duration::ZERO;
    for age in AGES {
        let (made, bearer) = admit(&gateway);
        let authorization = [("Authorization", bearer.as_str())];
        let mut socket = open(&gateway, &format!("/ws/{age}"), &authorization);
        assert!(socket.echoes("open"));
        let streams: Vec<_> = ["events", "download"]
            .map(|what| {
                let mut client = Client::connect(gateway.address("plain"));
                client.send(&head("GET", &format!("/v1/orders/{age}-{what}"), &authorization));
                assert!(!client.read_some().unwrap().is_empty(), "it has begun");
                client
            })
            .into();
        let opened = clock::instant();
        until("the streams to have this age", PATIENCE, || {
            (opened.elapsed() >= Duration::from_millis(age)).then_some(())
        });
        let revoked = revoke(&gateway, &text(&made, "id"));
        let ends = ended(revoked, socket, streams);
        for (what, took) in &ends {
            assert!(*took < SOON, "{what} of {age} ms over {store}: {took:?}");
        }
        worst = ends.iter().map(|(_, took)| *took).fold(worst, Duration::max);
        assert_eq!(line(&gateway, &format!("/ws/{age}"))["ended"], "denied");
    }
    eprintln!("C8 over {store}, streams opened 0 to 400 ms before: all ended at most {worst:?} after the acknowledgement");
}

/// When the revocation was acknowledged.
fn revoke(gateway: &Gateway, id: &str) -> Stopwatch {
    gateway.json(&["keys", "revoke", id]);
    Stopwatch::start()
}

/// When each of them ended: the connection, not only what passes on it.
fn ended(revoked: Stopwatch, mut socket: WebSocket, streams: Vec<Client>) -> Vec<(&'static str, Duration)> {
    let closing = std::thread::spawn(move || {
        assert_eq!(socket.closing(), 1008);
        assert!(socket.client.closes());
        ("a WebSocket", revoked.elapsed())
    });
    let reading: Vec<_> = streams
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                assert!(client.closes());
                ("an answer", revoked.elapsed())
            })
        })
        .collect();
    let all = std::iter::once(closing).chain(reading);
    all.map(|thread| thread.join().unwrap()).collect()
}
