//! Streams while the store is away: they live until what they rest on is too old, and are cut off then.

use std::time::Duration;

use durward::base::clock;
use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::stopwatch::Stopwatch;
use crate::support::wait::{PATIENCE, until};

use super::live::endless;
use super::text;
use super::upgrade::{admit, line, open, plan};

/// Oldest usable fact in these tests.
const MAX_AGE: Duration = Duration::from_secs(4);
/// An outage that leaves time to reconnect and read again before half of that is over.
const SHORT_OUTAGE: Duration = Duration::from_millis(700);
/// A look a second, and a tick.
const SLACK: Duration = Duration::from_millis(2_500);

/// A tick, a read, and a machine that does other work.
const LATE: Duration = Duration::from_millis(700);

/// How the store goes away.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Killed,
    Hanging,
}

#[test]
fn with_the_store_gone_streams_live_until_their_facts_are_too_old() {
    away(Fault::Killed);
}

#[test]
fn with_the_store_hanging_streams_live_as_long_and_a_short_outage_ends_none() {
    away(Fault::Hanging);
}

/// Lets time pass that is the subject of the test.
fn wait(time: Duration) {
    let start = clock::instant();
    until("time to pass", PATIENCE, || (start.elapsed() > time).then_some(()));
}

fn away(fault: Fault) {
    let (upstream, _) = endless();
    let mut redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let plan = Plan {
        store_lines: "max_age = \"4s\"\n".to_owned(),
        tables: "\n[revocation]\nstream_check = \"1s\"\n".to_owned(),
        upstream: plan().upstream,
        ..Plan::redis(&redis.url(), &pepper)
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (_, bearer) = admit(&gateway);
    let mut socket = open(&gateway, "/ws/x", &[("Authorization", &bearer)]);
    match fault {
        Fault::Killed => {
            // Longer than facts may be used: they are read again for the stream alone.
            wait(MAX_AGE + SLACK);
            assert!(socket.echoes("the store is well"));
            redis.kill();
        }
        Fault::Hanging => {
            redis.pause();
            wait(SHORT_OUTAGE);
            redis.resume();
            wait(MAX_AGE + SLACK);
            assert!(socket.echoes("a short outage ends nothing"));
            redis.pause();
        }
    }
    let gone = clock::instant();
    assert!(socket.echoes("its facts are young"));
    assert_eq!(socket.closing(), 1008);
    let lived = gone.elapsed();
    eprintln!("it lived {lived:?} without the store");
    assert!(lived <= MAX_AGE + SLACK, "{lived:?}");
    assert!(
        lived >= MAX_AGE / 2 - LATE,
        "its facts were half as old as they may be, or younger: {lived:?}"
    );
    let line = line(&gateway, "/ws/x");
    assert_eq!(
        (&line["denial"], &line["ended"]),
        (&json!("store_unavailable"), &json!("denied")),
        "{line}"
    );
}

#[test]
fn c8_a_revocation_on_another_gateway_closes_a_stream_within_a_second() {
    let (upstream, _) = endless();
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let plan = Plan {
        upstream: plan().upstream,
        ..Plan::redis(&redis.url(), &pepper)
    };
    let (here_site, there_site) = (Site::of(&plan, upstream.address), Site::of(&plan, upstream.address));
    let (here, there) = (Gateway::start(&here_site), Gateway::start(&there_site));
    here.json(&["tenants", "create", "acme"]);
    let mut took = Vec::new();
    for round in 0..20 {
        let (made, bearer) = admit(&here);
        let mut socket = open(&there, &format!("/ws/{round}"), &[("Authorization", &bearer)]);
        assert!(socket.echoes("open"));
        let opened = clock::instant();
        until("half a second", PATIENCE, || {
            (opened.elapsed() > Duration::from_millis(550)).then_some(())
        });
        here.json(&["keys", "revoke", &text(&made, "id")]);
        let revoked = Stopwatch::start();
        assert_eq!(socket.closing(), 1008);
        took.push(revoked.elapsed());
    }
    took.sort();
    eprintln!("20 revocations: median {:?}, worst {:?}", took[10], took[19]);
    assert!(took[19] < Duration::from_secs(1), "{took:?}");
}
