//! A gateway that hears no events: what it makes is refused by the store from the moment of the
//! acknowledgement, what it only reads by the age of its facts.

use std::time::Duration;

use serde_json::json;

use crate::support::stopwatch::Stopwatch;

use super::scene::{ALL, Call, Caller, Held, Kind, PASSWORD, Scene, said, wait_refused, whole};

const ANN: &str = "ann@acme.example";

/// Age limit of facts in these scenes, and what a slow machine may add.
const BOUND: Duration = Duration::from_secs(3);
const NOISE: Duration = Duration::from_secs(2);

/// Every call that changes something, each with a target of its own.
fn changing(scene: &Scene, caller: &Caller) -> Vec<Call> {
    let role = scene.role("reader", &["orders:read"]);
    let target = || scene.key(&[], &[]).id;
    let roles = json!({ "roles": [role] }).to_string();
    vec![
        caller.asks("POST", "/keys", "{}"),
        caller.asks("POST", "/children", "{}"),
        caller.asks("DELETE", &format!("/keys/{}", target()), "{}"),
        caller.asks("POST", &format!("/keys/{}/rotate", target()), "{}"),
        caller.asks("PUT", &format!("/keys/{}/roles", target()), &roles),
    ]
}

fn of_people(caller: &Caller) -> Vec<Call> {
    let passwords = json!({ "current": PASSWORD, "new": "another-password-4711" }).to_string();
    vec![
        caller.asks("PUT", "/password", &passwords),
        caller.asks("POST", "/log-out", "{}"),
        caller.asks("POST", "/log-out/everywhere", "{}"),
    ]
}

/// Lets the caller of these calls end at the other gateway while this one hears nothing: what is on its
/// way and what comes anew is refused at once, and nothing is made, changed or ended.
fn refused_at_the_write(scene: &Scene, calls: Vec<Call>, end: impl FnOnce(), status: u16, code: &str) {
    let held: Vec<Held> = calls.into_iter().map(|call| call.held(&scene.near)).collect();
    scene.deafen();
    end();
    let before = scene.changes();
    let mut wrong = Vec::new();
    for held in held {
        let (call, answer) = held.finish();
        for (which, answer) in [("held", answer), ("new", call.send(&scene.near))] {
            if answer.status != status || !said(&answer).contains(code) {
                wrong.push(format!("{which} {} {}: {}", call.method, call.path, whole(&answer)));
            }
        }
    }
    assert!(wrong.is_empty(), "not {status} {code}:\n{}", wrong.join("\n"));
    assert_eq!(scene.changes(), before, "something was made, changed or ended");
}

#[test]
fn a_gateway_that_hears_nothing_makes_nothing_for_a_revoked_key() {
    let scene = Scene::open(Kind::Redis);
    let key = scene.key(&ALL, &[]);
    let calls = changing(&scene, &key.caller());
    refused_at_the_write(
        &scene,
        calls,
        || scene.acknowledged(&["keys", "revoke", &key.id], ""),
        401,
        "not_you",
    );
}

#[test]
fn a_gateway_that_hears_nothing_makes_nothing_for_a_child_of_a_revoked_key() {
    let scene = Scene::open(Kind::Redis);
    let parent = scene.key(&ALL, &[]);
    let key = scene.key(&ALL, &["--parent", &parent.id]);
    let calls = changing(&scene, &key.caller());
    refused_at_the_write(
        &scene,
        calls,
        || scene.acknowledged(&["keys", "revoke", &parent.id], ""),
        401,
        "not_you",
    );
}

#[test]
fn a_gateway_that_hears_nothing_makes_nothing_for_a_disabled_tenant() {
    let scene = Scene::open(Kind::Redis);
    let key = scene.key(&ALL, &[]);
    let calls = changing(&scene, &key.caller());
    refused_at_the_write(
        &scene,
        calls,
        || scene.acknowledged(&["tenants", "disable", "acme"], ""),
        403,
        "closed",
    );
}

#[test]
fn a_gateway_that_hears_nothing_makes_nothing_for_a_key_whose_role_was_narrowed() {
    let scene = Scene::open(Kind::Redis);
    let role = scene.role("writer", &ALL);
    let key = scene.key(&[], &["--role", &role]);
    let calls = changing(&scene, &key.caller());
    let narrow = ["roles", "set", &role, "--scope", "orders:read"];
    refused_at_the_write(&scene, calls, || scene.acknowledged(&narrow, ""), 403, "not_with_this");
}

#[test]
fn a_gateway_that_hears_nothing_makes_nothing_for_an_ended_session() {
    let scene = Scene::open(Kind::Redis);
    let account = scene.account(ANN, &["--scope", ALL[0], "--scope", ALL[1]]);
    let caller = scene.log_in(ANN);
    let mut calls = changing(&scene, &caller);
    calls.extend(of_people(&caller));
    let end = ["sessions", "revoke", "--all-of", &account];
    refused_at_the_write(&scene, calls, || scene.acknowledged(&end, ""), 401, "not_you");
}

#[test]
fn a_gateway_that_hears_nothing_makes_nothing_for_a_session_of_an_account_with_another_password() {
    let scene = Scene::open(Kind::Redis);
    let account = scene.account(ANN, &["--scope", ALL[0], "--scope", ALL[1]]);
    let caller = scene.log_in(ANN);
    let mut calls = changing(&scene, &caller);
    calls.extend(of_people(&caller));
    let end = ["accounts", "set-password", &account];
    let change = || scene.acknowledged(&end, "a-third-password-4711");
    refused_at_the_write(&scene, calls, change, 401, "not_you");
}

#[test]
fn a_gateway_that_hears_nothing_lets_no_old_password_in() {
    let scene = Scene::open(Kind::Redis);
    let account = scene.account(ANN, &["--scope", ALL[0]]);
    // So the near gateway knows the account with this password.
    scene.log_in(ANN);
    scene.deafen();
    scene.acknowledged(&["accounts", "set-password", &account], "a-third-password-4711");
    let before = scene.changes();
    let answer = Call::log_in(ANN, PASSWORD).send(&scene.near);
    assert_eq!(answer.status, 401, "{}", whole(&answer));
    assert!(said(&answer).contains("invalid_credentials"), "{}", said(&answer));
    assert_eq!(scene.changes(), before, "no session was made");
    let answer = Call::log_in(ANN, "a-third-password-4711").send(scene.operator());
    assert_eq!(answer.status, 200, "the new one: {}", whole(&answer));
}

#[test]
fn a_gateway_that_hears_nothing_lists_nothing_once_its_facts_are_too_old() {
    let scene = Scene::open(Kind::Redis);
    let key = scene.key(&ALL, &[]);
    let caller = key.caller();
    scene.deafen();
    assert_eq!(caller.get(&scene.near, "/anything"), 200);
    scene.acknowledged(&["keys", "revoke", &key.id], "");
    let revoked = Stopwatch::start();
    let reading = ["/keys", "/roles", "/scopes"];
    // A busy machine may take longer to hold them than the facts live; then they are refused as they should be.
    let held: Vec<_> = reading.map(|path| caller.asks("GET", path, "{}").hold(&scene.near)).into();
    wait_refused(&scene.near, &caller, "/anything", 401);
    assert!(revoked.elapsed() < BOUND + NOISE, "{:?}", revoked.elapsed());
    for held in held {
        let answer = held.map_or_else(|refused| refused, |held| held.finish().1);
        assert_eq!(answer.status, 401, "{}", whole(&answer));
    }
}

#[test]
fn a_gateway_that_hears_nothing_serves_whoever_is_as_before() {
    let scene = Scene::open(Kind::Redis);
    let key = scene.key(&ALL, &[]);
    let calls = changing(&scene, &key.caller());
    let held: Vec<Held> = calls.into_iter().map(|call| call.held(&scene.near)).collect();
    scene.deafen();
    for held in held {
        let (call, answer) = held.finish();
        assert!(
            (200..=204).contains(&answer.status),
            "{} {}: {}",
            call.method,
            call.path,
            whole(&answer)
        );
    }
    // What it made is known everywhere at once.
    let made = key.caller().mint(&scene.near, "/keys");
    assert_eq!(made.caller().get(scene.operator(), "/orders"), 200);
}
