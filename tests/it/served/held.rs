//! A caller is judged again at the write: whoever ends or loses something while the body is on its way
//! is answered as a new request would be, and nothing is made, changed or ended.

use serde_json::json;

use super::scene::{ALL, Call, Caller, Held, PASSWORD, STORES, Scene, said, whole};
use crate::support::raw::Response;
use crate::support::wait::{PATIENCE, until};

const ANN: &str = "ann@acme.example";

/// What the calls of one caller do, each with a target of its own: a name, and the request.
fn calls_on_keys(scene: &Scene, caller: &Caller, name: &str) -> Vec<Call> {
    let role = scene.role(&format!("reader of {name}"), &["orders:read"]);
    let target = || scene.key(&[], &[]).id;
    let roles = json!({ "roles": [role] }).to_string();
    vec![
        caller.asks("POST", "/keys", "{}"),
        caller.asks("POST", "/children", "{}"),
        caller.asks("DELETE", &format!("/keys/{}", target()), "{}"),
        caller.asks("POST", &format!("/keys/{}/rotate", target()), "{}"),
        caller.asks("PUT", &format!("/keys/{}/roles", target()), &roles),
        caller.asks("GET", "/keys", "{}"),
        caller.asks("GET", "/roles", "{}"),
        caller.asks("GET", "/scopes", "{}"),
    ]
}

/// Everything a key can ask for.
fn calls_of_a_key(scene: &Scene, caller: &Caller) -> Vec<Call> {
    let mut calls = calls_on_keys(scene, caller, "a key");
    calls.push(caller.asks("POST", "/rotate", "{}"));
    calls
}

/// Everything a session can ask for.
fn calls_of_a_session(scene: &Scene, caller: &Caller) -> Vec<Call> {
    let mut calls = calls_on_keys(scene, caller, "a session");
    let passwords = json!({ "current": PASSWORD, "new": "another-password-4711" }).to_string();
    calls.extend([
        caller.asks("PUT", "/password", &passwords),
        caller.asks("POST", "/log-out", "{}"),
        caller.asks("POST", "/log-out/everywhere", "{}"),
    ]);
    calls
}

/// Holds each of these, so that each caller was judged and admitted.
fn hold_all(scene: &Scene, calls: Vec<Call>) -> Vec<Held> {
    calls.into_iter().map(|call| call.held(&scene.near)).collect()
}

/// Finishes each, and says which was not answered so, or not as a new request of the same is.
fn judge(scene: &Scene, held: Vec<Held>, status: u16, code: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for held in held {
        let (call, answer) = held.finish();
        let anew = call.send(&scene.near);
        let told = format!("{} {}: {} {}", call.method, call.path, answer.status, said(&answer));
        if answer.status != status || !said(&answer).contains(code) {
            wrong.push(told);
        } else if whole(&answer) != whole(&anew) {
            wrong.push(format!("{told}, but a new one: {}", whole(&anew)));
        }
    }
    wrong
}

/// Holds these calls, lets their caller end, and expects that each gets this refusal and does nothing.
fn refused(scene: &Scene, calls: Vec<Call>, end: impl FnOnce(), status: u16, code: &str) {
    let held = hold_all(scene, calls);
    end();
    assert_refused(scene, held, status, code);
}

fn assert_refused(scene: &Scene, held: Vec<Held>, status: u16, code: &str) {
    let before = scene.changes();
    let wrong = judge(scene, held, status, code);
    assert!(wrong.is_empty(), "{:?}: not {status} {code}:\n{}", scene.kind, wrong.join("\n"));
    assert_eq!(scene.changes(), before, "{:?}: something was made, changed or ended", scene.kind);
}

fn each_store(rule: impl Fn(&Scene)) {
    for kind in STORES {
        rule(&Scene::open(kind));
    }
}

#[test]
fn a_slow_body_of_a_key_that_is_as_it_was_does_what_it_asks_for() {
    each_store(|scene| {
        let key = scene.key(&ALL, &[]);
        let held = hold_all(scene, calls_of_a_key(scene, &key.caller()));
        assert_done(scene, held);
    });
}

#[test]
fn a_slow_body_of_a_session_that_is_as_it_was_does_what_it_asks_for() {
    each_store(|scene| {
        scene.account(ANN, &["--scope", ALL[0], "--scope", ALL[1]]);
        let caller = scene.log_in(ANN);
        let mut calls = calls_of_a_session(scene, &caller);
        // Each of these ends the sessions: the others before them, and each with an account of its own.
        let last = calls.split_off(calls.len() - 3);
        assert_done(scene, hold_all(scene, calls));
        for (n, call) in last.into_iter().enumerate() {
            let email = format!("ben{n}@acme.example");
            scene.account(&email, &["--scope", ALL[0], "--scope", ALL[1]]);
            let caller = scene.log_in(&email).0;
            assert_done(scene, hold_all(scene, vec![Call { caller, ..call }]));
        }
    });
}

fn assert_done(scene: &Scene, held: Vec<Held>) {
    for held in held {
        let (call, answer) = held.finish();
        let told = format!("{:?}: {} {}: {}", scene.kind, call.method, call.path, whole(&answer));
        assert!((200..=204).contains(&answer.status), "{told}");
    }
}

#[test]
fn a_change_that_takes_nothing_from_the_caller_stops_nothing() {
    each_store(|scene| {
        let role = scene.role("writer", &ALL);
        let key = scene.key(&[], &["--role", &role]);
        let held = hold_all(scene, calls_of_a_key(scene, &key.caller()));
        let wider = [
            "roles",
            "set",
            &role,
            "--scope",
            ALL[0],
            "--scope",
            ALL[1],
            "--scope",
            "reports:read",
        ];
        scene.confirmed(&wider, "");
        scene.confirmed(&["keys", "disable", &key.id], "");
        scene.confirmed(&["keys", "enable", &key.id], "");
        assert_done(scene, held);
    });
}

#[test]
fn a_key_that_is_revoked_while_its_body_is_on_its_way_does_nothing() {
    each_store(|scene| {
        let key = scene.key(&ALL, &[]);
        let calls = calls_of_a_key(scene, &key.caller());
        refused(scene, calls, || scene.confirmed(&["keys", "revoke", &key.id], ""), 401, "not_you");
    });
}

#[test]
fn a_key_that_is_disabled_while_its_body_is_on_its_way_does_nothing() {
    each_store(|scene| {
        let key = scene.key(&ALL, &[]);
        let calls = calls_of_a_key(scene, &key.caller());
        refused(scene, calls, || scene.confirmed(&["keys", "disable", &key.id], ""), 401, "not_you");
    });
}

#[test]
fn a_key_whose_ancestor_is_revoked_while_its_body_is_on_its_way_does_nothing() {
    each_store(|scene| {
        let eldest = scene.key(&ALL, &[]);
        let parent = scene.key(&ALL, &["--parent", &eldest.id]);
        let key = scene.key(&ALL, &["--parent", &parent.id]);
        let calls = calls_of_a_key(scene, &key.caller());
        refused(
            scene,
            calls,
            || scene.confirmed(&["keys", "revoke", &eldest.id], ""),
            401,
            "not_you",
        );
    });
}

#[test]
fn a_key_whose_tenant_is_disabled_while_its_body_is_on_its_way_does_nothing() {
    each_store(|scene| {
        let key = scene.key(&ALL, &[]);
        let calls = calls_of_a_key(scene, &key.caller());
        refused(scene, calls, || scene.confirmed(&["tenants", "disable", "acme"], ""), 403, "closed");
    });
}

#[test]
fn a_key_whose_role_is_narrowed_while_its_body_is_on_its_way_does_nothing_it_may_not_do_now() {
    each_store(|scene| {
        let role = scene.role("writer", &ALL);
        let key = scene.key(&[], &["--role", &role]);
        // A key may still take another one for itself: that asks for no scope.
        let calls = calls_on_keys(scene, &key.caller(), "a key");
        let narrow = ["roles", "set", &role, "--scope", "orders:read"];
        refused(scene, calls, || scene.confirmed(&narrow, ""), 403, "not_with_this");
    });
}

#[test]
fn a_key_whose_role_is_deleted_while_its_body_is_on_its_way_does_nothing_it_may_not_do_now() {
    each_store(|scene| {
        let role = scene.role("writer", &ALL);
        let key = scene.key(&[], &["--role", &role]);
        let calls = calls_on_keys(scene, &key.caller(), "a key");
        let delete = ["roles", "delete", &role];
        refused(scene, calls, || scene.confirmed(&delete, ""), 403, "not_with_this");
    });
}

/// Makes a caller that expires soon and holds its calls, with more time if the machine was too slow;
/// then waits until it has expired.
fn hold_until_expired(scene: &Scene, make: impl Fn(&str, &str) -> (Caller, Vec<Call>)) -> Vec<Held> {
    for seconds in [2, 4, 6] {
        let (caller, calls) = make(&format!("{seconds}s"), &format!("ann{seconds}@acme.example"));
        let held: Result<Vec<Held>, Response> = calls.into_iter().map(|call| call.hold(&scene.near)).collect();
        if let Ok(held) = held {
            until("the caller to expire", PATIENCE, || {
                (caller.get(&scene.near, "/anything") == 401).then_some(())
            });
            return held;
        }
    }
    panic!("a caller expired before its requests were judged, three times");
}

#[test]
fn a_key_that_expires_while_its_body_is_on_its_way_does_nothing() {
    each_store(|scene| {
        let held = hold_until_expired(scene, |life, name| {
            let calls = calls_on_keys(scene, &Caller(String::new()), name);
            let caller = scene.key(&ALL, &["--expires", life]).caller();
            (caller.clone(), calls.into_iter().map(|call| with(call, &caller)).collect())
        });
        assert_refused(scene, held, 401, "not_you");
    });
}

#[test]
fn a_session_whose_account_expires_while_its_body_is_on_its_way_does_nothing() {
    each_store(|scene| {
        let held = hold_until_expired(scene, |life, email| {
            let calls = calls_on_keys(scene, &Caller(String::new()), email);
            scene.account(email, &["--scope", ALL[0], "--scope", ALL[1], "--expires", life]);
            let caller = scene.log_in(email);
            (caller.clone(), calls.into_iter().map(|call| with(call, &caller)).collect())
        });
        assert_refused(scene, held, 401, "not_you");
    });
}

fn with(call: Call, caller: &Caller) -> Call {
    Call {
        caller: caller.0.clone(),
        ..call
    }
}

/// A session of Ann, all that it can ask for, and what must become of it when `end` says so of her account.
fn session_refused(end: impl Fn(&Scene, &str), status: u16, code: &str) {
    each_store(|scene| {
        let role = scene.role("writer", &ALL);
        let account = scene.account(ANN, &["--role", &role]);
        let caller = scene.log_in(ANN);
        let calls = calls_of_a_session(scene, &caller);
        refused(scene, calls, || end(scene, &account), status, code);
    });
}

#[test]
fn a_session_of_an_account_whose_sessions_are_ended_while_its_body_is_on_its_way_does_nothing() {
    session_refused(
        |scene, account| scene.confirmed(&["sessions", "revoke", "--all-of", account], ""),
        401,
        "not_you",
    );
}

#[test]
fn a_session_that_is_revoked_while_its_body_is_on_its_way_does_nothing() {
    let revoke = |scene: &Scene, account: &str| {
        let listed = scene.operator().json(&["sessions", "list", "--parent", account]);
        let session = listed["sessions"][0]["id"].as_str().unwrap().to_owned();
        scene.confirmed(&["sessions", "revoke", &session], "");
    };
    session_refused(revoke, 401, "not_you");
}

#[test]
fn a_session_whose_account_is_disabled_while_its_body_is_on_its_way_does_nothing() {
    session_refused(
        |scene, account| scene.confirmed(&["accounts", "disable", account], ""),
        401,
        "not_you",
    );
}

#[test]
fn a_session_whose_account_is_revoked_while_its_body_is_on_its_way_does_nothing() {
    session_refused(
        |scene, account| scene.confirmed(&["accounts", "revoke", account], ""),
        401,
        "not_you",
    );
}

#[test]
fn a_session_whose_password_is_changed_while_its_body_is_on_its_way_does_nothing() {
    session_refused(
        |scene, account| scene.confirmed(&["accounts", "set-password", account], "a-third-password-4711"),
        401,
        "not_you",
    );
}

#[test]
fn a_session_whose_tenant_is_disabled_while_its_body_is_on_its_way_does_nothing() {
    session_refused(|scene, _| scene.confirmed(&["tenants", "disable", "acme"], ""), 403, "closed");
}

#[test]
fn a_session_whose_role_loses_its_scopes_while_its_body_is_on_its_way_does_nothing() {
    let narrow = |scene: &Scene, _: &str| {
        let roles = scene.operator().json(&["roles", "list", "--tenant", "acme"]);
        let roles = roles["roles"].as_array().unwrap();
        let role = roles.iter().find(|role| role["name"] == "writer").unwrap();
        scene.confirmed(&["roles", "set", role["id"].as_str().unwrap(), "--no-scopes"], "");
    };
    session_refused(narrow, 403, "not_with_this");
}

#[test]
fn a_session_whose_holder_logs_out_everywhere_while_its_body_is_on_its_way_makes_nothing() {
    each_store(|scene| {
        scene.account(ANN, &["--scope", ALL[0], "--scope", ALL[1]]);
        let (caller, other) = (scene.log_in(ANN), scene.log_in(ANN));
        let held = hold_all(scene, calls_on_keys(scene, &caller, "Ann").into_iter().take(5).collect());
        let gone = other.asks("POST", "/log-out/everywhere", "").send(scene.operator());
        assert_eq!(gone.status, 204, "{}", said(&gone));
        // What is acknowledged holds at the write; that nobody had to be told is the point.
        assert_refused(scene, held, 401, "not_you");
    });
}
