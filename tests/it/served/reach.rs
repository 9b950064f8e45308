//! Nobody touches what is more than itself: who rotates, revokes, or sets the roles or the password of a
//! record must hold now what that record holds, or be granted it by the route.

use serde_json::json;

use super::scene::{ALL, Call, Caller, Made, PASSWORD, STORES, Scene, said, text, whole};

const ANN: &str = "ann@acme.example";

/// Sends a call that must be refused for want of a scope, without a trace.
fn assert_refused(scene: &Scene, call: &Call) {
    let before = scene.changes();
    let answer = call.send(&scene.near);
    let told = format!("{:?}: {} {}: {}", scene.kind, call.method, call.path, whole(&answer));
    assert_eq!(answer.status, 403, "{told}");
    assert!(said(&answer).contains("not_with_this"), "{told}");
    assert_eq!(scene.changes(), before, "something was changed");
}

/// The twin: a call that must be done.
fn assert_done(scene: &Scene, call: &Call) {
    let answer = call.send(&scene.near);
    let told = format!("{:?}: {} {}: {}", scene.kind, call.method, call.path, whole(&answer));
    assert!((200..=204).contains(&answer.status), "{told}");
}

#[test]
fn a_token_that_is_narrower_than_its_record_neither_rotates_nor_revokes_it() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let key = scene.key(&["admin:all", "orders:read"], &[]);
        let narrow = Scene::narrowed(&key, &["orders:read"]);
        assert_eq!(narrow.get(&scene.near, "/orders"), 200);
        assert_refused(&scene, &narrow.asks("POST", "/rotate", ""));
        assert_refused(&scene, &narrow.asks("POST", "/revoke", ""));
        // The twins: a token that names all of it, and the key itself.
        let whole = Scene::narrowed(&key, &["admin:all", "orders:read"]);
        assert_done(&scene, &whole.asks("POST", "/rotate", ""));
        assert_done(&scene, &key.caller().asks("POST", "/rotate", ""));
        assert_done(&scene, &whole.asks("POST", "/revoke", ""));
    }
}

#[test]
fn a_record_rotates_itself_as_long_as_it_presents_itself_whatever_it_holds() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let role = scene.role("reader", &["orders:read"]);
        let key = scene.key(&["admin:all"], &["--role", &role]);
        let answer = key.caller().asks("POST", "/rotate", "").send(&scene.near);
        assert_eq!(answer.status, 201, "{}", whole(&answer));
        let next = Made::told(&answer.json());
        assert_eq!(next.caller().get(&scene.near, "/orders"), 200, "with what the old one held");
    }
}

/// Each way to touch this key, by this caller.
fn touching(caller: &Caller, key: &Made, role: &str) -> Vec<Call> {
    let roles = json!({ "roles": [role] }).to_string();
    vec![
        caller.asks("PUT", &format!("/keys/{}/roles", key.id), &roles),
        caller.asks("PUT", &format!("/keys/{}/roles", key.id), r#"{"roles":[]}"#),
        caller.asks("POST", &format!("/keys/{}/rotate", key.id), ""),
        caller.asks("DELETE", &format!("/keys/{}", key.id), ""),
    ]
}

#[test]
fn who_may_only_write_keys_touches_no_key_that_holds_more() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let admin = scene.role("admin", &["admin:all"]);
        let by_role = scene.key(&[], &["--role", &admin]);
        let by_scope = scene.key(&["admin:all"], &[]);
        let reader = scene.role("reader", &["orders:read"]);
        let writer = scene.key(&ALL, &[]).caller();
        for key in [&by_role, &by_scope] {
            for call in touching(&writer, key, &reader) {
                assert_refused(&scene, &call);
            }
        }
        // The twins: a key that holds no more than it, and an admin that may write keys.
        let equal = scene.key(&["orders:read"], &[]);
        for call in touching(&writer, &equal, &reader) {
            assert_done(&scene, &call);
        }
        let both = scene.key(&["keys:write", "orders:read", "admin:all"], &[]).caller();
        for key in [&by_role, &by_scope] {
            for call in touching(&both, key, &reader) {
                assert_done(&scene, &call);
            }
        }
    }
}

#[test]
fn what_counts_is_what_the_touched_key_may_do_now() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let role = scene.role("admin", &["admin:all"]);
        let key = scene.key(&[], &["--role", &role]);
        let writer = scene.key(&ALL, &[]).caller();
        let rotate = writer.asks("POST", &format!("/keys/{}/rotate", key.id), "");
        assert_refused(&scene, &rotate);
        scene.confirmed(&["roles", "set", &role, "--scope", "orders:read"], "");
        assert_done(&scene, &rotate);
    }
}

#[test]
fn what_counts_is_what_the_caller_holds_now() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let role = scene.role("admin", &["admin:all"]);
        let key = scene.key(&["admin:all"], &[]);
        let caller = scene.key(&ALL, &["--role", &role]).caller();
        let rotate = caller.asks("POST", &format!("/keys/{}/rotate", key.id), "");
        assert_done(&scene, &rotate);
        scene.confirmed(&["roles", "set", &role, "--no-scopes"], "");
        assert_refused(&scene, &rotate);
    }
}

#[test]
fn a_session_that_may_less_than_its_account_does_not_change_its_password() {
    for kind in STORES {
        let scene = Scene::open(kind);
        scene.account(ANN, &["--scope", ALL[0], "--scope", ALL[1]]);
        let log_in = Call {
            path: "/log-in/reading".into(),
            ..Call::log_in(ANN, PASSWORD)
        };
        let answer = log_in.send(&scene.near);
        assert_eq!(answer.status, 200, "{}", whole(&answer));
        let reading = Caller::session(&text(&answer.json(), "token"));
        let passwords = json!({ "current": PASSWORD, "new": "another-password-4711" }).to_string();
        assert_refused(&scene, &reading.asks("PUT", "/password", &passwords));
        assert_done(&scene, &scene.log_in(ANN).asks("PUT", "/password", &passwords));
    }
}

#[test]
fn a_route_may_grant_its_callers_what_they_touch() {
    // Whoever runs a desk may end any key of its tenant: the configuration says so.
    let grants = (
        "id = \"path.id\"\n\n[[routes]]\nname = \"rotate\"",
        "id = \"path.id\"\ngrants = [\"admin:all\"]\n\n[[routes]]\nname = \"rotate\"",
    );
    for kind in STORES {
        let scene = Scene::edited(kind, &[grants]);
        let admin = scene.key(&["admin:all"], &[]);
        let writer = scene.key(&ALL, &[]).caller();
        assert_refused(&scene, &writer.asks("POST", &format!("/keys/{}/rotate", admin.id), ""));
        assert_done(&scene, &writer.asks("DELETE", &format!("/keys/{}", admin.id), ""));
        let more = scene.key(&["admin:all", "reports:read"], &[]);
        assert_refused(&scene, &writer.asks("DELETE", &format!("/keys/{}", more.id), ""));
    }
}
