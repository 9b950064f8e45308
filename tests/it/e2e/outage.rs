//! The store stops: who is known keeps working until the facts are too old, nobody is told 401.

use std::time::Duration;

use durward::base::clock;

use crate::support::gateway::Gateway;
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{call, get, refusal, text};

/// Oldest usable fact in this test.
const MAX_AGE: Duration = Duration::from_secs(3);

/// How the store goes away.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The process is gone.
    Killed,
    /// It accepts and never answers.
    Hanging,
}

#[test]
fn with_the_store_gone_known_keys_pass_until_their_facts_are_too_old_and_unknown_ones_get_503() {
    outage(Fault::Killed);
}

#[test]
fn with_the_store_hanging_the_same_holds_and_service_returns_with_it() {
    outage(Fault::Hanging);
}

fn outage(fault: Fault) {
    let upstream = Upstream::echoing();
    let mut redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let plan = Plan {
        store_lines: "max_age = \"3s\"\n".to_owned(),
        ..Plan::redis(&redis.url(), &pepper)
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let make = || {
        text(
            &gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]),
            "key",
        )
    };
    let (known, unseen) = (make(), make());
    let status = |key: &str| get(&gateway, "/v1/orders/1", key);
    assert_eq!(status(&known).status, 200);

    match fault {
        Fault::Killed => redis.kill(),
        Fault::Hanging => redis.pause(),
    }
    let gone = clock::instant();
    assert_eq!(status(&known).status, 200, "its facts are young");
    let answer = status(&unseen);
    assert_eq!(refusal(&answer), (503, "unavailable".to_owned()));
    assert!(answer.field("retry-after").is_some(), "{answer:?}");
    let none = call(&gateway, "GET", "/v1/orders/1", &[]);
    assert_eq!(refusal(&none), (401, "missing_credential".to_owned()));
    assert_eq!(call(&gateway, "GET", "/public/x", &[]).status, 200, "no credential, no store");

    until("known facts to be too old", PATIENCE, || match status(&known).status {
        200 => None,
        503 => Some(()),
        other => panic!("told {other} while the store is away"),
    });
    let held = gone.elapsed();
    assert!(held <= MAX_AGE + Duration::from_secs(1), "admitted {held:?} after the store went");

    if fault == Fault::Hanging {
        redis.resume();
        until("service after the store's return", PATIENCE, || {
            (status(&known).status == 200).then_some(())
        });
        until("the unseen key too", PATIENCE, || (status(&unseen).status == 200).then_some(()));
    }
}
