//! Accounts, roles and sessions through the command line of a running gateway.

use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway, run};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

const ACCOUNTS: &str = r#"
[surfaces.people]
kind = "account"
login_field = "email"
password_field = "password"
"#;

const PASSWORD: &str = "canary-password-4711";

fn start() -> (Upstream, Site, Gateway) {
    let upstream = Upstream::echoing();
    let plan = Plan {
        tables: ACCOUNTS.into(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    (upstream, site, gateway)
}

fn status(gateway: &Gateway, key: &Value) -> u16 {
    super::status(gateway, text(key, "key"))
}

fn becomes(gateway: &Gateway, key: &Value, wanted: u16) {
    until(&format!("{wanted}"), PATIENCE, || (status(gateway, key) == wanted).then_some(()));
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn accounts_keep_their_contract_and_their_password_is_nowhere() {
    let (_upstream, site, gateway) = start();
    let with_password = |args: &[&str], password: &str| -> Answer { run(&site.config(), args, password.as_bytes()) };
    let create = ["accounts", "create", "--tenant", "acme", "--email", "Ann@Example.com", "--json"];
    let made = with_password(&create, &format!("{PASSWORD}\n"));
    assert_eq!(made.code, 0, "{made:?}");
    let made = made.json();
    assert_eq!(
        (&made["email"], &made["state"], &made["surface"], &made["tenant"]),
        (&json!("Ann@Example.com"), &json!("active"), &json!("people"), &json!("acme"))
    );
    let id = text(&made, "id");
    let again = ["accounts", "create", "--tenant", "acme", "--email", " ann@example.COM "];
    let taken = with_password(&again, "another");
    assert!(taken.code == 1 && taken.stderr.contains("e-mail"), "{taken:?}");
    for (command, state) in [("disable", "disabled"), ("enable", "active")] {
        assert_eq!(gateway.json(&["accounts", command, id])["state"], state);
    }
    let changed = with_password(&["accounts", "set-password", id, "--json"], "another").json();
    assert!(changed["valid_after"].is_string(), "its sessions are ended: {changed}");
    assert_eq!(
        gateway.json(&["accounts", "list", "--tenant", "acme"])["accounts"],
        json!([changed])
    );
    assert_eq!(gateway.json(&["accounts", "revoke", id])["state"], "revoked");
    assert_eq!(gateway.run(&["accounts", "enable", id]).code, 1, "for ever");
    let key = gateway.create_key("api", "acme", &[]);
    assert_eq!(gateway.run(&["accounts", "show", text(&key, "id")]).code, 3, "a key is no account");
    let written = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(!written.contains("canary"), "{written}");
    let stored = std::fs::read(site.folder().join("state/durward.redb")).unwrap();
    let canary = PASSWORD.as_bytes();
    assert!(!stored.windows(canary.len()).any(|bytes| bytes == canary));
}

#[test]
fn what_cannot_be_an_account_is_refused_by_its_exit_code() {
    let (_upstream, site, _gateway) = start();
    let with_password = |args: &[&str], password: &str| -> Answer { run(&site.config(), args, password.as_bytes()) };
    let create = ["accounts", "create", "--tenant", "acme", "--email", "Ann@Example.com", "--json"];
    let made = with_password(&create, "x").json();
    let id = text(&made, "id");
    for (args, password, code) in [
        (create.as_slice(), "", 2),
        (&create, "two\nlines", 2),
        (&["accounts", "create", "--tenant", "acme", "--email", "no-address"], "x", 2),
        (&["accounts", "create", "--tenant", "acme"], "x", 2),
        (&["accounts", "create", "--tenant", "globex", "--email", "bob@example.com"], "x", 3),
        (
            &[
                "accounts",
                "create",
                "--tenant",
                "acme",
                "--email",
                "b@example.com",
                "--surface",
                "api",
            ],
            "x",
            2,
        ),
        (
            &[
                "accounts",
                "create",
                "--tenant",
                "acme",
                "--email",
                "b@example.com",
                "--role",
                "none",
            ],
            "x",
            3,
        ),
        (&["accounts", "set-password", id], "", 2),
        (&["accounts", "set-password", "acc_nobody"], "x", 3),
        (&["accounts", "show", "acc_nobody"], "", 3),
    ] {
        let answer = with_password(args, password);
        assert_eq!(answer.code, code, "{args:?}: {answer:?}");
    }
}

#[test]
fn a_role_is_given_narrowed_and_taken_while_its_holder_works() {
    let (_upstream, _site, gateway) = start();
    let create = ["roles", "create", "--tenant", "acme", "--name", "clerk", "--scope", "orders:read"];
    let role = gateway.json(&create);
    assert_eq!((&role["tenant"], &role["scopes"]), (&json!("acme"), &json!(["orders:read"])));
    let id = text(&role, "id");
    let bare = gateway.create_key("api", "acme", &[]);
    let key = gateway.create_key("api", "acme", &["--role", "clerk"]);
    assert_eq!((&bare["roles"], &key["roles"]), (&json!([]), &json!([id])));
    assert_eq!((status(&gateway, &bare), status(&gateway, &key)), (403, 200));
    assert_eq!(gateway.json(&["keys", "show", text(&key, "id")])["roles"], json!([id]));
    let rotated = gateway.json(&["keys", "rotate", text(&key, "id")]);
    assert_eq!(
        (&rotated["roles"], status(&gateway, &rotated)),
        (&json!([id]), 200),
        "its roles go with it"
    );
    assert_eq!(gateway.json(&["roles", "set", id, "--no-scopes"])["scopes"], json!([]));
    becomes(&gateway, &key, 403);
    gateway.json(&["roles", "set", id, "--scope", "orders:read", "--name", "Clerk"]);
    becomes(&gateway, &key, 200);
    assert_eq!(gateway.json(&["roles", "show", id])["name"], "Clerk");
    assert_eq!(gateway.json(&["roles", "list", "--tenant", "acme"])["roles"][0]["name"], "Clerk");
    assert_eq!(gateway.json(&["roles", "delete", id]), json!({ "id": id }));
    becomes(&gateway, &key, 403);
    gateway.json(&create);
    gateway.json(&["tenants", "create", "globex"]);
    for (args, code) in [
        (create.as_slice(), 1),
        (&["roles", "create", "--tenant", "nobody", "--name", "clerk"], 3),
        (&["roles", "show", id], 3),
        (&["roles", "set", id, "--name", "x"], 3),
        (&["roles", "delete", id], 3),
        (&["roles", "set", id], 2),
        (&["keys", "create", "--surface", "api", "--tenant", "globex", "--role", "clerk"], 3),
    ] {
        let answer = gateway.run(args);
        assert_eq!(answer.code, code, "{args:?}: {answer:?}");
    }
}

#[test]
fn sessions_are_listed_and_ended_singly_and_together() {
    let (_upstream, _site, gateway) = start();
    let key = gateway.create_key("api", "acme", &["--scope", "orders:read"]);
    let parent = text(&key, "id");
    let hanging = ["--scope", "orders:read", "--parent", parent];
    let (first, second) = (
        gateway.create_key("api", "acme", &hanging),
        gateway.create_key("api", "acme", &hanging),
    );
    let ids = || -> Vec<String> {
        let list = gateway.json(&["sessions", "list", "--tenant", "acme", "--parent", parent]);
        let sessions = list["sessions"].as_array().unwrap();
        sessions.iter().map(|s| text(s, "id").to_owned()).collect()
    };
    assert_eq!(ids().len(), 2);
    assert_eq!((status(&gateway, &first), status(&gateway, &second)), (200, 200));
    let revoked = gateway.json(&["sessions", "revoke", text(&first, "id")]);
    assert_eq!((&revoked["state"], &revoked["parent"]), (&json!("revoked"), &json!(parent)));
    becomes(&gateway, &first, 401);
    assert_eq!((ids(), status(&gateway, &second)), (vec![text(&second, "id").to_owned()], 200));
    let ended = gateway.json(&["sessions", "revoke", "--all-of", parent]);
    assert!(ended["id"] == parent && ended["valid_after"].is_string(), "{ended}");
    becomes(&gateway, &second, 401);
    assert_eq!(status(&gateway, &key), 200, "what they hung on goes on");
    gateway.json(&["keys", "disable", parent]);
    for (args, code) in [
        (["sessions", "revoke", parent].as_slice(), 3),
        (&["sessions", "revoke", "ses_nobody"], 3),
        (&["sessions", "revoke", "--all-of", "key_nobody"], 3),
        (&["sessions", "revoke"], 2),
        (&["sessions", "revoke", "a", "--all-of", "b"], 2),
    ] {
        let answer = gateway.run(args);
        assert_eq!(answer.code, code, "{args:?}: {answer:?}");
    }
}
