//! The promise on served routes, as callers of the shipped examples meet it: what has ended makes
//! nothing, and nothing made may do more than its maker may now. Over both stores, with two gateways
//! over Redis; `tests/it/served` has every rule by itself.

use serde_json::{Value, json};

use super::call;
use super::house::{House, text, whole};
use crate::served::scene::{Call, Held};
use crate::support::gateway::{Gateway, run};
use crate::support::raw::Response;

/// The example over each store.
fn each_store(example: &str, edits: &[(&str, &str)], rule: impl Fn(&House)) {
    for house in [House::edited(example, edits), House::pair(example, edits)] {
        operator(&house).json(&["tenants", "create", "acme"]);
        rule(&house);
    }
}

/// Where operators act: not where callers call, if there are two.
fn operator(house: &House) -> &Gateway {
    house.gateways.last().unwrap()
}

/// An operation that every gateway has confirmed.
fn confirmed(house: &House, args: &[&str]) {
    let mut all = args.to_vec();
    all.push("--wait");
    let told = operator(house).json(&all);
    let rows = told["gateways"].as_array().unwrap();
    assert_eq!(rows.len(), house.gateways.len(), "{told}");
    assert!(rows.iter().all(|row| row["confirmed"] == true), "{told}");
}

/// A request of this caller (whole header lines) whose body is held back after it was judged.
fn hold(house: &House, method: &'static str, path: &str, caller: &str, body: &str) -> Held {
    let call = Call {
        method,
        path: path.to_owned(),
        caller: caller.to_owned(),
        body: body.to_owned(),
    };
    call.held(house.gateway())
}

/// What every gateway answers to this caller.
fn everywhere(house: &House, method: &str, path: &str, field: (&str, &str), status: u16) {
    for gateway in &house.gateways {
        let answer = call(gateway, method, path, &[field], "");
        assert_eq!(answer.status, status, "{method} {path}: {}", whole(&answer));
    }
}

/// A role of acme: its id.
fn role(house: &House, scopes: &[&str]) -> String {
    let mut args = vec!["roles", "create", "--tenant", "acme", "--name", "a role"];
    args.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    text(&operator(house).json(&args), "id")
}

fn assert_code(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", whole(answer));
    assert!(String::from_utf8_lossy(&answer.body).contains(code), "{}", whole(answer));
}

// ---------------------------------------------------------------------------- geldstuck

const PAIRS: &str = "/v1/tenants/acme/api-keys";
const INVALID: &str = "The credential is not valid.";

fn pairs(house: &House) -> Value {
    operator(house).json(&["keys", "list", "--surface", "keys"])["keys"].clone()
}

#[test]
fn geldstuck_a_pair_that_is_revoked_before_its_body_came_makes_no_other_pair() {
    each_store("geldstuck", &[], |house| {
        let made = operator(house).create_key("keys", "acme", &["--mode", "live"]);
        let (key, secret) = (text(&made, "key"), text(&made, "secret"));
        let caller = format!("x-api-key: {key}\r\nx-api-secret: {secret}\r\n");
        let (held, slow) = (hold(house, "POST", PAIRS, &caller, "{}"), hold(house, "POST", PAIRS, &caller, "{}"));
        assert_eq!(slow.finish().1.status, 201, "the twin: slow and still in force");
        confirmed(house, &["keys", "revoke", &text(&made, "id")]);
        let before = pairs(house);
        assert_code(&held.finish().1, 401, INVALID);
        assert_eq!(pairs(house), before, "nothing was made");
    });
}

#[test]
fn geldstuck_a_session_that_was_ended_before_its_body_came_makes_no_pair() {
    each_store("geldstuck", &[], |house| {
        let config = house.sites.last().unwrap().config();
        let create = ["accounts", "create", "--tenant", "acme", "--email", "ann@acme.example", "--json"];
        let account = text(&run(&config, &create, b"canary-password-4711").json(), "id");
        let who = json!({ "email": "ann@acme.example", "password": "canary-password-4711" }).to_string();
        let answer = call(house.gateway(), "POST", "/v1/auth/login", &[], &who);
        let caller = format!("Authorization: Bearer {}\r\n", text(&answer.json(), "token"));
        let (held, slow) = (hold(house, "POST", PAIRS, &caller, "{}"), hold(house, "POST", PAIRS, &caller, "{}"));
        assert_eq!(slow.finish().1.status, 201, "the twin: slow and still in force");
        confirmed(house, &["sessions", "revoke", "--all-of", &account]);
        let before = pairs(house);
        assert_code(&held.finish().1, 401, INVALID);
        assert_eq!(pairs(house), before, "nothing was made");
    });
}

// ---------------------------------------------------------------------------- bounds

#[test]
fn heldsway_a_pair_makes_as_many_tokens_as_the_limit_says_and_no_more() {
    let limit = ("[[listeners]]", "[limits]\nchildren = 10\n\n[[listeners]]");
    each_store("heldsway", &[limit], |house| {
        let made = operator(house).create_key("credentials", "acme", &["--scope", "reports:read"]);
        let other = operator(house).create_key("credentials", "acme", &["--scope", "reports:read"]);
        let exchange = |pair: &Value, at: &Gateway| {
            let body = json!({ "api_key": text(pair, "key"), "api_secret": text(pair, "secret") }).to_string();
            call(at, "POST", "/api/v1/auth/token", &[], &body)
        };
        let first = exchange(&made, house.gateway());
        assert_eq!(first.status, 200, "{}", whole(&first));
        for n in 1..10 {
            let at = &house.gateways[n % house.gateways.len()];
            assert_eq!(exchange(&made, at).status, 200, "{n}");
        }
        assert_code(&exchange(&made, house.gateway()), 409, "TOO_MANY_CREDENTIALS");
        assert_eq!(exchange(&other, house.gateway()).status, 200, "another pair has its own");
        let bearer = format!("Bearer {}", text(&first.json()["data"], "access_token"));
        everywhere(house, "GET", REPORT, ("Authorization", &bearer), 200);
    });
}

// ---------------------------------------------------------------------------- heldsway

const REPORT: &str = "/api/v1/affiliate/report";

#[test]
fn heldsway_a_token_loses_what_the_roles_of_its_pair_lose() {
    each_store("heldsway", &[], |house| {
        let role = role(house, &["reports:read"]);
        let made = operator(house).create_key("credentials", "acme", &["--role", &role]);
        let body = json!({ "api_key": text(&made, "key"), "api_secret": text(&made, "secret") }).to_string();
        let exchange = || call(house.gateway(), "POST", "/api/v1/auth/token", &[], &body);
        let token = text(&exchange().json()["data"], "access_token");
        let bearer = format!("Bearer {token}");
        let caller = ("Authorization", bearer.as_str());
        everywhere(house, "GET", REPORT, caller, 200);
        confirmed(house, &["roles", "set", &role, "--no-scopes"]);
        everywhere(house, "GET", REPORT, caller, 403);
        assert_eq!(exchange().json()["data"]["scopes"], json!([]), "a new one is like the old one");
        confirmed(house, &["roles", "set", &role, "--scope", "reports:read"]);
        everywhere(house, "GET", REPORT, caller, 200);
        confirmed(house, &["roles", "delete", &role]);
        everywhere(house, "GET", REPORT, caller, 403);
    });
}

// ---------------------------------------------------------------------------- holdyn

const GRANTS: &str = "grants = [\"view_transaction\", \"fund_transaction\"]\n";
const FUND: &str = "/api/v1/b2b/portal/fund";
const VIEW: &str = "/api/v1/b2b/portal/transaction";

/// A session two levels below a key with this role.
fn portal_session(house: &House, role: &str) -> String {
    let made = operator(house).create_key("api", "acme", &["--mode", "live", "--role", role]);
    let bearer = format!("Bearer {}", text(&made, "key"));
    let wanted = r#"{"role":"payer","permissions":["view_transaction","fund_transaction"]}"#;
    let path = "/api/v1/b2b/transactions/tx_1/access-tokens";
    let token = call(house.gateway(), "POST", path, &[("Authorization", &bearer)], wanted);
    assert_eq!(token.status, 201, "{}", whole(&token));
    let token = text(&token.json(), "access_token");
    let session = call(
        house.gateway(),
        "POST",
        "/api/v1/b2b/portal/session",
        &[("X-Access-Token", &token)],
        "",
    );
    assert_eq!(session.status, 200, "{}", whole(&session));
    text(&session.json(), "session_token")
}

#[test]
fn holdyn_a_portal_session_loses_what_the_role_of_the_key_two_levels_above_it_loses() {
    // Edited so that a key can grant only what it holds itself, and tokens have the key as their parent.
    let edits = [(GRANTS, ""), ("parent = \"tenant\"", "parent = \"caller\"")];
    each_store("holdyn", &edits, |house| {
        let role = role(house, &["access_tokens:write", "view_transaction", "fund_transaction"]);
        let session = portal_session(house, &role);
        let caller = ("X-Portal-Session", session.as_str());
        everywhere(house, "POST", FUND, caller, 200);
        everywhere(house, "GET", VIEW, caller, 200);
        confirmed(
            house,
            &[
                "roles",
                "set",
                &role,
                "--scope",
                "access_tokens:write",
                "--scope",
                "view_transaction",
            ],
        );
        everywhere(house, "POST", FUND, caller, 403);
        everywhere(house, "GET", VIEW, caller, 200);
        confirmed(house, &["roles", "delete", &role]);
        everywhere(house, "GET", VIEW, caller, 403);
    });
}

#[test]
fn holdyn_what_the_route_grants_to_participants_does_not_hang_on_the_roles_of_the_key() {
    each_store("holdyn", &[], |house| {
        let role = role(house, &["access_tokens:write"]);
        let session = portal_session(house, &role);
        confirmed(house, &["roles", "delete", &role]);
        everywhere(house, "POST", FUND, ("X-Portal-Session", &session), 200);
        everywhere(house, "GET", VIEW, ("X-Portal-Session", &session), 200);
    });
}

// ---------------------------------------------------------------------------- hatchpay

#[test]
fn hatchpay_a_key_that_may_only_write_keys_takes_no_role_from_an_admin() {
    let keys = "jwks = \"issuer.jwks.json\"";
    let there = format!("jwks = \"{}/examples/hatchpay/issuer.jwks.json\"", env!("CARGO_MANIFEST_DIR"));
    each_store("hatchpay", &[(keys, &there)], |house| {
        let admin = operator(house).create_key("key", "acme", &["--role", "admin"]);
        let other = operator(house).create_key("key", "acme", &["--role", "admin"]);
        let role = role(house, &["api_keys:write"]);
        let writer = operator(house).create_key("key", "acme", &["--role", &role]);
        let path = format!("/v1/api-key/keys/{}/roles", text(&admin, "id"));
        let none = json!({ "role_ids": [] }).to_string();
        let by = |key: &Value| {
            let fields = [("X-API-Key", text(key, "key"))];
            call(house.gateway(), "PUT", &path, &[(fields[0].0, &fields[0].1)], &none)
        };
        assert_code(&by(&writer), 403, "forbidden");
        let key = text(&admin, "key");
        everywhere(house, "GET", "/v1/roles", ("X-API-Key", &key), 200);
        assert_eq!(by(&other).status, 200, "the twin: another admin");
    });
}
