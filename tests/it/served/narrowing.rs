//! Authority is derived, never copied: who loses a role loses it for all that hangs on it, at once on
//! every gateway that confirmed, and gets it back with it.

use serde_json::json;

use super::scene::{ALL, Call, Caller, Kind, Made, PASSWORD, STORES, Scene, text, wait_refused, whole};

const ANN: &str = "ann@acme.example";

/// What each gateway answers to this caller here.
fn statuses(scene: &Scene, caller: &Caller, path: &str) -> Vec<u16> {
    scene.gateways().iter().map(|gateway| caller.get(gateway, path)).collect()
}

fn assert_everywhere(scene: &Scene, caller: &Caller, path: &str, status: u16, what: &str) {
    let told = statuses(scene, caller, path);
    assert!(
        told.iter().all(|one| *one == status),
        "{:?}: {what}: {path} is {told:?}",
        scene.kind
    );
}

/// What hangs on an account with a role: its session, a key of that, and a key of that key.
struct Family {
    scene: Scene,
    role: String,
    session: Caller,
    child: Made,
    grandchild: Made,
}

impl Family {
    fn of(kind: Kind) -> Self {
        let scene = Scene::open(kind);
        let role = scene.role("writer", &ALL);
        scene.account(ANN, &["--role", &role]);
        let session = scene.log_in(ANN);
        let child = session.mint(&scene.near, "/children");
        let grandchild = child.caller().mint(&scene.near, "/children");
        Self {
            scene,
            role,
            session,
            child,
            grandchild,
        }
    }

    fn members(&self) -> [(&'static str, Caller); 3] {
        [
            ("the session", self.session.clone()),
            ("its key", self.child.caller()),
            ("the key of its key", self.grandchild.caller()),
        ]
    }

    fn expect(&self, path: &str, status: u16, when: &str) {
        for (who, caller) in self.members() {
            assert_everywhere(&self.scene, &caller, path, status, &format!("{who}, {when}"));
        }
    }
}

#[test]
fn a_role_that_loses_a_scope_takes_it_from_sessions_and_from_keys_two_levels_down_and_gives_it_back() {
    for kind in STORES {
        let family = Family::of(kind);
        let (scene, role) = (&family.scene, &family.role);
        family.expect("/orders", 200, "before");
        scene.confirmed(&["roles", "set", role, "--scope", "keys:write"], "");
        family.expect("/orders", 403, "narrowed");
        family.expect("/anything", 200, "narrowed, and not ended");
        // What it has kept, it may still use, and only that goes on.
        let made = family.session.mint(&scene.near, "/keys");
        assert_everywhere(scene, &made.caller(), "/orders", 403, "made after it was narrowed");
        scene.confirmed(&["roles", "set", role, "--scope", ALL[0], "--scope", ALL[1]], "");
        family.expect("/orders", 200, "widened again");
    }
}

#[test]
fn a_role_that_is_deleted_takes_its_scopes_from_all_that_hangs_on_its_holder() {
    for kind in STORES {
        let family = Family::of(kind);
        family.expect("/orders", 200, "before");
        family.scene.confirmed(&["roles", "delete", &family.role], "");
        family.expect("/orders", 403, "deleted");
        for (who, caller) in family.members() {
            let answer = caller.asks("POST", "/keys", "{}").send(&family.scene.near);
            assert_eq!(answer.status, 403, "{who}: {}", whole(&answer));
        }
        let log_in = Call::log_in(ANN, PASSWORD).send(&family.scene.near);
        assert_eq!(log_in.status, 200, "{}", whole(&log_in));
        let session = Caller::session(&text(&log_in.json(), "token"));
        assert_everywhere(&family.scene, &session, "/orders", 403, "a new log-in is like the old one");
    }
}

#[test]
fn roles_taken_by_a_served_route_are_taken_from_children_and_tokens() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let role = scene.role("reader", &["orders:read"]);
        let admin = scene.key(&ALL, &[]).caller();
        let key = scene.key(&["keys:write"], &["--role", &role]);
        let child = key.caller().mint(&scene.near, "/children");
        let token = Scene::narrowed(&key, &["orders:read"]);
        let all = [key.caller(), child.caller(), token];
        for caller in &all {
            assert_everywhere(&scene, caller, "/orders", 200, "before");
        }
        let taken = admin.asks("PUT", &format!("/keys/{}/roles", key.id), &json!({ "roles": [] }).to_string());
        let answer = taken.send(&scene.near);
        assert_eq!(answer.status, 200, "{}", whole(&answer));
        for caller in &all {
            for gateway in scene.gateways() {
                wait_refused(gateway, caller, "/orders", 403);
            }
            assert_everywhere(&scene, caller, "/anything", 200, "narrowed, and not ended");
        }
    }
}

#[test]
fn what_a_route_granted_stays_when_its_maker_loses_everything_and_ends_with_it() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let role = scene.role("writer", &ALL);
        let maker = scene.key(&[], &["--role", &role]);
        let granted = maker.caller().mint(&scene.near, "/granted").caller();
        assert_everywhere(&scene, &granted, "/reports", 200, "granted");
        assert_everywhere(&scene, &maker.caller(), "/reports", 403, "the maker never held it");
        scene.confirmed(&["roles", "set", &role, "--no-scopes"], "");
        assert_everywhere(&scene, &granted, "/reports", 200, "granted by the route, not by its maker");
        assert_everywhere(&scene, &maker.caller(), "/orders", 403, "the twin");
        scene.confirmed(&["keys", "revoke", &maker.id], "");
        assert_everywhere(&scene, &granted, "/reports", 401, "it hangs on its maker");
    }
}

#[test]
fn what_hangs_on_nothing_keeps_what_it_was_given() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let role = scene.role("writer", &ALL);
        let maker = scene.key(&[], &["--role", &role]);
        let made = maker.caller().mint(&scene.near, "/keys").caller();
        scene.confirmed(&["roles", "delete", &role], "");
        assert_everywhere(&scene, &maker.caller(), "/orders", 403, "the maker");
        assert_everywhere(&scene, &made, "/orders", 200, "it has no ancestor");
    }
}

#[test]
fn a_child_that_an_operator_made_never_exceeds_what_its_parent_may_now() {
    for kind in STORES {
        let scene = Scene::open(kind);
        let role = scene.role("reader", &["orders:read"]);
        let parent = scene.key(&["keys:write"], &["--role", &role]);
        let child = scene.key(&["orders:read"], &["--parent", &parent.id]).caller();
        assert_everywhere(&scene, &child, "/orders", 200, "both hold it");
        scene.confirmed(&["roles", "set", &role, "--no-scopes"], "");
        assert_everywhere(&scene, &child, "/orders", 403, "its own scope is cut to its parent's");
        assert_everywhere(&scene, &child, "/anything", 200, "and it is not ended");
    }
}

#[test]
fn a_gateway_that_hears_nothing_narrows_by_age_what_hangs_on_a_role() {
    let family = Family::of(Kind::Redis);
    let scene = &family.scene;
    family.expect("/orders", 200, "before");
    scene.deafen();
    scene.acknowledged(&["roles", "set", &family.role, "--no-scopes"], "");
    let told = durward::base::clock::instant();
    for (_, caller) in family.members() {
        wait_refused(&scene.near, &caller, "/orders", 403);
    }
    // Facts live for three seconds here; two more are the machine's.
    assert!(told.elapsed().as_secs() < 5, "{:?}", told.elapsed());
}
