//! holdyn: people, keys, access tokens and portal sessions; every documented call and refusal, exactly.

use std::time::Duration;

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::raw::Response;
use crate::support::stopwatch::Stopwatch;
use crate::support::wait::{PATIENCE, until};

use super::call;
use super::house::{House, text, whole};

pub(super) const BASE: &str = "/api/v1/b2b";
pub(super) const SCOPES: [&str; 3] = ["transactions:read", "transactions:write", "access_tokens:write"];
pub(super) const JSON: &str = "cache-control: no-store\ncontent-type: application/json";
pub(super) const NONE: &str = "\nwww-authenticate: Bearer realm=\"api\"";
pub(super) const INVALID: &str = "\nwww-authenticate: Bearer realm=\"api\", error=\"invalid_token\"";

/// A call below the base path with these fields.
pub(super) fn at(gateway: &Gateway, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Response {
    call(gateway, method, &format!("{BASE}{path}"), fields, body)
}

/// A call with a bearer credential.
pub(super) fn with(gateway: &Gateway, method: &str, path: &str, bearer: &str, body: &str) -> Response {
    at(gateway, method, path, &[("Authorization", &format!("Bearer {bearer}"))], body)
}

/// Status and code of a refusal.
pub(super) fn code(response: &Response) -> (u16, String) {
    (response.status, text(&response.json()["error"], "code"))
}

/// The session of a business that signs up.
pub(super) fn sign_up(gateway: &Gateway, email: &str) -> String {
    let body = json!({"email": email, "password": "correct horse battery"}).to_string();
    let answer = at(gateway, "POST", "/auth/signup", &[], &body);
    assert_eq!(answer.status, 201, "{}", answer.body.escape_ascii());
    text(&answer.json(), "session_token")
}

/// A key: its id and itself.
pub(super) fn make_key(gateway: &Gateway, session: &str, mode: &str, scopes: &[&str]) -> (String, String) {
    let body = json!({"name": "ci", "mode": mode, "scopes": scopes}).to_string();
    let answer = with(gateway, "POST", "/api-keys", session, &body);
    assert_eq!(answer.status, 201, "{}", answer.body.escape_ascii());
    (text(&answer.json(), "id"), text(&answer.json(), "key"))
}

/// An access token to a transaction: its id and itself.
pub(super) fn make_access(gateway: &Gateway, key: &str, transaction: &str, permissions: &[&str]) -> (String, String) {
    let body = json!({"role": "payer", "permissions": permissions}).to_string();
    let answer = with(gateway, "POST", &format!("/transactions/{transaction}/access-tokens"), key, &body);
    assert_eq!(answer.status, 201, "{}", answer.body.escape_ascii());
    (text(&answer.json(), "id"), text(&answer.json(), "access_token"))
}

/// A portal session for an access token.
pub(super) fn make_portal(gateway: &Gateway, access: &str) -> String {
    let answer = at(gateway, "POST", "/portal/session", &[("X-Access-Token", access)], "");
    assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
    text(&answer.json(), "session_token")
}

/// A credential of each surface, of one business.
pub(super) struct Credentials {
    pub(super) session: String,
    pub(super) key: String,
    pub(super) access: String,
    pub(super) portal: String,
}

/// A business that signs up, with a live key and what a participant of `tx_1` gets by it.
pub(super) fn make_credentials(gateway: &Gateway, email: &str) -> Credentials {
    let session = sign_up(gateway, email);
    let (_, key) = make_key(gateway, &session, "live", &SCOPES);
    let (_, access) = make_access(gateway, &key, "tx_1", &["view_transaction"]);
    let portal = make_portal(gateway, &access);
    Credentials {
        session,
        key,
        access,
        portal,
    }
}

/// What the portal answers to a session.
pub(super) fn view(gateway: &Gateway, portal: &str) -> Response {
    at(gateway, "GET", "/portal/transaction", &[("X-Portal-Session", portal)], "")
}

pub(super) fn refusal(status: u16, more: &str, code: &str, message: &str) -> String {
    format!("{status}\n{JSON}{more}\n\n{{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}")
}

fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_second()
}

#[test]
fn people_sign_up_and_log_in_and_a_taken_address_is_a_conflict() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let ann = r#"{"email":"ann@acme.example","password":"correct horse battery"}"#;
    // How many more may sign up from this address; until when is the clock's.
    let limit = |answer: &Response, left: u32| {
        let rate_limit = answer.field("ratelimit").unwrap().to_owned();
        assert!(rate_limit.starts_with(&format!("\"address\";r={left};t=")), "{rate_limit}");
        format!("\nratelimit-policy: \"address\";q=200;w=3600\nratelimit: {rate_limit}")
    };
    let exact = |answer: &Response, status: u16, limit: &str| {
        let json = answer.json();
        let (token, ends) = (text(&json, "session_token"), text(&json, "expires_at"));
        let id = text(&json["account"], "id");
        assert_eq!(token.split('.').count(), 3, "{token}");
        let left = seconds(&ends) - jiff::Timestamp::now().as_second();
        assert!((7 * 86_400 - 60..=7 * 86_400).contains(&left), "seven days: {ends}");
        let body = format!(
            "{{\"session_token\":\"{token}\",\"expires_at\":\"{ends}\",\n \"account\":{{\"id\":\"{id}\",\"email\":\"ann@acme.example\"}}}}"
        );
        assert_eq!(whole(answer), format!("{status}\n{JSON}{limit}\n\n{body}"));
        (id, token)
    };
    let signed = at(gateway, "POST", "/auth/signup", &[], ann);
    let (id, token) = exact(&signed, 201, &limit(&signed, 199));
    assert_eq!(with(gateway, "GET", "/dashboard/overview", &token, "").status, 200);
    let (again, token) = exact(&at(gateway, "POST", "/auth/login", &[], ann), 200, "");
    assert_eq!(id, again);
    assert_eq!(with(gateway, "GET", "/dashboard/overview", &token, "").status, 200);

    for (taken, left) in [(ann, 198), (r#"{"email":"ANN@acme.example","password":"another password"}"#, 197)] {
        let answer = at(gateway, "POST", "/auth/signup", &[], taken);
        assert_eq!(whole(&answer), refusal(409, &limit(&answer, left), "taken", "This exists already."));
    }
    assert_eq!(
        gateway.json(&["tenants", "list"])["tenants"].as_array().unwrap().len(),
        1,
        "nothing half-made"
    );
    let wrong = refusal(401, INVALID, "invalid_credentials", "E-mail address or password is wrong.");
    for body in [
        r#"{"email":"ann@acme.example","password":"incorrect horse"}"#,
        r#"{"email":"bob@acme.example","password":"correct horse battery"}"#,
    ] {
        assert_eq!(whole(&at(gateway, "POST", "/auth/login", &[], body)), wrong, "{body}");
    }
    let seen = house.upstream.requests();
    assert_eq!(seen[0].target, format!("{BASE}/dashboard/overview"));
    assert!(seen[0].all("Authorization").is_empty());
    assert_eq!(house.upstream.count(), 2, "only what is forwarded reaches the service");
}

#[test]
fn a_key_is_shown_once_and_then_by_its_prefix_and_last_four() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let (ann, bob) = (sign_up(gateway, "ann@acme.example"), sign_up(gateway, "bob@other.example"));
    let mut items = Vec::new();
    for (mode, prefix) in [("test", "htst_"), ("live", "hlive_")] {
        let body = json!({"name": "ci", "mode": mode, "scopes": ["transactions:read"]}).to_string();
        let answer = with(gateway, "POST", "/api-keys", &ann, &body);
        let (id, key) = (text(&answer.json(), "id"), text(&answer.json(), "key"));
        let random = key.strip_prefix(prefix).expect("the prefix of its mode");
        assert!(random.len() >= 43, "256 bits: {key}");
        let last4 = key[key.len() - 4..].to_owned();
        let rest = format!("\"mode\":\"{mode}\",\"scopes\":[\"transactions:read\"],\"name\":\"ci\"");
        let known = format!("\"prefix\":\"{prefix}\",\"last4\":\"{last4}\",\n ");
        let body = format!("{{\"id\":\"{id}\",\"key\":\"{key}\",{known}{rest}}}");
        assert_eq!(whole(&answer), format!("201\n{JSON}\n\n{body}"));
        items.push((
            id,
            key,
            json!({"prefix": prefix, "last4": last4, "mode": mode, "scopes": ["transactions:read"], "name": "ci"}),
        ));
    }
    let listed = with(gateway, "GET", "/api-keys", &ann, "");
    assert_eq!(listed.status, 200);
    let data = listed.json()["data"].as_array().unwrap().clone();
    assert_eq!(data.len(), 2);
    for (id, key, facts) in &items {
        let mut wanted = facts.clone();
        wanted["id"] = json!(id);
        assert!(data.contains(&wanted), "{wanted} in {data:?}");
        assert!(!listed.json().to_string().contains(key.as_str()), "shown once");
    }
    assert_eq!(
        whole(&with(gateway, "GET", "/api-keys", &bob, "")),
        format!("200\n{JSON}\n\n{{\"data\":[]}}")
    );

    let (id, key, _) = &items[0];
    let gone = refusal(404, "", "not_found", "There is nothing here.");
    let path = format!("/api-keys/{id}");
    assert_eq!(whole(&with(gateway, "DELETE", &path, &bob, "")), gone, "another's key");
    assert_eq!(with(gateway, "GET", "/transactions/tx_1", key, "").status, 200);
    let ended = with(gateway, "DELETE", &path, &ann, "");
    assert_eq!((ended.status, ended.body.len()), (204, 0));
    assert_eq!(whole(&with(gateway, "GET", "/transactions/tx_1", key, "")), invalid_key());
    assert_eq!(with(gateway, "GET", "/transactions/tx_1", &items[1].1, "").status, 200, "the twin");

    let store = std::fs::read(house.sites[0].folder().join("state/durward.redb")).unwrap();
    let output = gateway.output();
    for secret in [&items[0].1, &items[1].1, &ann] {
        for place in [&store, &output] {
            assert!(
                memchr::memmem::find(place, secret.as_bytes()).is_none(),
                "stored hashed, never logged"
            );
        }
    }
}

fn invalid_key() -> String {
    refusal(401, INVALID, "invalid_api_key", "The API key is not valid.")
}

#[test]
fn every_row_of_the_table_is_told_exactly() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let session = sign_up(gateway, "ann@acme.example");
    let (id, revoked) = make_key(gateway, &session, "live", &SCOPES);
    let (_, reader) = make_key(gateway, &session, "live", &["transactions:read"]);
    assert_eq!(with(gateway, "DELETE", &format!("/api-keys/{id}"), &session, "").status, 204);

    let missing = at(gateway, "GET", "/transactions/tx_1", &[], "");
    assert_eq!(whole(&missing), refusal(401, NONE, "missing_api_key", "An API key is required."));
    let never = revoked.replace("hlive_", "htst_");
    for key in [revoked.as_str(), &never, "hlive_short", "anything", &session] {
        assert_eq!(whole(&with(gateway, "GET", "/transactions/tx_1", key, "")), invalid_key(), "{key}");
    }
    for (method, path, scope) in [
        ("POST", "/transactions/tx_1", "transactions:write"),
        ("PUT", "/transactions/tx_1", "transactions:write"),
        ("PATCH", "/transactions/tx_1/note", "transactions:write"),
        ("DELETE", "/transactions/tx_1", "transactions:write"),
        ("POST", "/transactions/tx_1/access-tokens", "access_tokens:write"),
        ("DELETE", "/transactions/tx_1/access-tokens/t", "access_tokens:write"),
    ] {
        let challenge = format!("\nwww-authenticate: Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"{scope}\"");
        let wanted = refusal(403, &challenge, "insufficient_scope", "The API key lacks a scope this call needs.");
        assert_eq!(whole(&with(gateway, method, path, &reader, "")), wanted, "{method} {path}");
    }
    assert_eq!(with(gateway, "GET", "/transactions/tx_1", &reader, "").status, 200);

    let dashboard = at(gateway, "GET", "/dashboard/x", &[], "");
    let required = "A dashboard session is required.";
    assert_eq!(whole(&dashboard), refusal(401, NONE, "invalid_dashboard_session", required));
    let invalid = refusal(401, INVALID, "invalid_dashboard_session", "The dashboard session is not valid.");
    assert_eq!(whole(&with(gateway, "GET", "/dashboard/x", &reader, "")), invalid);
    let portal = at(gateway, "GET", "/portal/transaction", &[], "");
    assert_eq!(
        whole(&portal),
        refusal(401, NONE, "invalid_portal_session", "A portal session is required.")
    );
    let invalid = refusal(401, INVALID, "invalid_portal_session", "The portal session is not valid.");
    assert_eq!(whole(&with(gateway, "GET", "/portal/transaction", &session, "")), invalid);
    assert_eq!(whole(&view(gateway, &session)), invalid);
}

#[test]
fn an_access_token_is_bound_to_its_transaction_and_chosen_within_bounds() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let session = sign_up(gateway, "ann@acme.example");
    let (_, key) = make_key(gateway, &session, "test", &SCOPES);
    let path = "/transactions/tx_1/access-tokens";
    for (chosen, wanted) in [
        ("", 7 * 86_400),
        (r#","expires_in":1"#, 1),
        (r#","expires_in":2592000"#, 30 * 86_400),
    ] {
        let body = format!(r#"{{"role":"beneficiary","permissions":["view_transaction","fund_transaction"]{chosen}}}"#);
        let answer = with(gateway, "POST", path, &key, &body);
        let (id, token, ends) = (
            text(&answer.json(), "id"),
            text(&answer.json(), "access_token"),
            text(&answer.json(), "expires_at"),
        );
        assert!(token.starts_with("htpk_test_"), "the mode of its key: {token}");
        let left = seconds(&ends) - jiff::Timestamp::now().as_second();
        assert!((wanted - 60..=wanted).contains(&left), "{ends}");
        let body = format!(
            "{{\"id\":\"{id}\",\"access_token\":\"{token}\",\"expires_at\":\"{ends}\",\n \
             \"role\":\"beneficiary\",\"permissions\":[\"view_transaction\",\"fund_transaction\"]}}"
        );
        assert_eq!(whole(&answer), format!("201\n{JSON}\n\n{body}"));
    }
    let invalid = |body: &str, details: &str| {
        let answer = with(gateway, "POST", path, &key, body);
        let body = format!(
            "{{\"error\":{{\"code\":\"validation_error\",\"message\":\"Some fields are missing or not valid.\",\"details\":{details}}}}}"
        );
        assert_eq!(whole(&answer), format!("422\n{JSON}\n\n{body}"));
    };
    let of = |role: &str, permission: &str, more: &str| format!(r#"{{"role":"{role}","permissions":["{permission}"]{more}}}"#);
    let view = "view_transaction";
    let month = r#"{"expires_in":["The expires in field must not be greater than 2592000."]}"#;
    invalid(&of("payer", view, r#","expires_in":2592001"#), month);
    invalid(
        &of("payer", view, r#","expires_in":0"#),
        r#"{"expires_in":["The expires in field must be at least 1."]}"#,
    );
    invalid(&of("owner", view, ""), r#"{"role":["The selected role is invalid."]}"#);
    invalid(
        &of("payer", "delete_transaction", ""),
        r#"{"permissions":["The selected permissions is invalid."]}"#,
    );
    invalid(&of("payer", view, r#","tid":"tx_2""#), r#"{"tid":["The tid field is not known."]}"#);
    let both = r#"{"role":["The role field is required."],"permissions":["The permissions field is required."]}"#;
    invalid("{}", both);

    let made = gateway.json(&["tenants", "list"]);
    let tenant = text(&made["tenants"][0], "id");
    let scopes = ["--mode", "live", "--scope", "access_tokens:write", "--expires", "1h"];
    let short = text(&gateway.create_key("api", &tenant, &scopes), "key");
    let answer = with(gateway, "POST", path, &short, &of("payer", view, ""));
    let left = seconds(&text(&answer.json(), "expires_at")) - jiff::Timestamp::now().as_second();
    assert!(
        (7 * 86_400 - 60..=7 * 86_400).contains(&left),
        "it hangs on the tenant and not on its key: {left}"
    );
}

#[test]
fn an_access_token_becomes_a_portal_session_that_says_whose_it_is() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let session = sign_up(gateway, "ann@acme.example");
    let (_, key) = make_key(gateway, &session, "live", &SCOPES);
    let (id, access) = make_access(gateway, &key, "tx_1", &["view_transaction"]);
    assert!(access.starts_with("htpk_live_"), "{access}");
    let answer = at(gateway, "POST", "/portal/session", &[("X-Access-Token", &access)], "");
    let (portal, ends) = (text(&answer.json(), "session_token"), text(&answer.json(), "expires_at"));
    let body = format!(
        "{{\"session_token\":\"{portal}\",\"expires_at\":\"{ends}\",\"role\":\"payer\",\n \
         \"permissions\":[\"view_transaction\"],\"transaction\":{{\"id\":\"tx_1\","
    );
    // After the id comes what the service said.
    assert!(whole(&answer).starts_with(&format!("200\n{JSON}\n\n{body}")), "{}", whole(&answer));
    assert_eq!(answer.json()["transaction"]["method"], json!("GET"), "here an echo");
    assert_ne!(make_portal(gateway, &access), "", "renewed by exchanging again");
    house.upstream.forget();

    let forged = [
        ("X-Portal-Session", portal.as_str()),
        ("X-Transaction-Id", "tx_9"),
        ("X-Auth-Role", "beneficiary"),
        ("X-Auth-Permissions", "fund_transaction"),
    ];
    assert_eq!(at(gateway, "GET", "/portal/transaction", &forged, "").status, 200);
    assert_eq!(
        with(gateway, "GET", "/portal/transaction", &portal, "").status,
        200,
        "as a bearer too"
    );
    for seen in house.upstream.requests() {
        for (name, value) in [
            ("X-Transaction-Id", "tx_1"),
            ("X-Auth-Role", "payer"),
            ("X-Auth-Permissions", "view_transaction"),
            ("X-Auth-Surface", "portal"),
        ] {
            assert_eq!(seen.all(name), [value], "{name}");
        }
        assert!(seen.all("X-Portal-Session").is_empty() && seen.all("Authorization").is_empty());
    }
    assert_eq!(house.upstream.count(), 2);
    let challenge = "\nwww-authenticate: Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"fund_transaction\"";
    let lacking = refusal(
        403,
        challenge,
        "insufficient_scope",
        "The portal session lacks a permission this call needs.",
    );
    let fund = |portal: &str| at(gateway, "POST", "/portal/fund", &[("X-Portal-Session", portal)], "");
    assert_eq!(whole(&fund(&portal)), lacking);
    let (_, funding) = make_access(gateway, &key, "tx_1", &["fund_transaction"]);
    assert_eq!(fund(&make_portal(gateway, &funding)).status, 200, "the twin");
    assert_eq!(view(gateway, &make_portal(gateway, &funding)).status, 403);

    let end = |key: &str, transaction: &str| {
        let path = format!("/transactions/{transaction}/access-tokens/{id}");
        with(gateway, "DELETE", &path, key, "").status
    };
    let other = sign_up(gateway, "bob@other.example");
    let (_, foreign) = make_key(gateway, &other, "live", &SCOPES);
    assert_eq!(end(&key, "tx_2"), 404, "of another transaction");
    assert_eq!(end(&foreign, "tx_1"), 404, "of another tenant");
    assert_eq!(view(gateway, &portal).status, 200);
    assert_eq!(end(&key, "tx_1"), 204);
    let again = at(gateway, "POST", "/portal/session", &[("X-Access-Token", &access)], "");
    assert_eq!(code(&again), (401, "invalid_access_token".into()));
    assert_eq!(code(&view(gateway, &portal)), (401, "invalid_portal_session".into()));
}

#[test]
fn what_is_ended_ends_what_hangs_on_it_and_a_key_nothing_of_its_participants() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let session = sign_up(gateway, "ann@acme.example");
    let (id, key) = make_key(gateway, &session, "live", &SCOPES);
    let (_, twin) = make_key(gateway, &session, "live", &SCOPES);
    let access = [&key, &twin].map(|key| make_access(gateway, key, "tx_1", &["view_transaction"]));
    let sessions = access.each_ref().map(|(_, access)| make_portal(gateway, access));
    assert_eq!(sessions.each_ref().map(|s| view(gateway, s).status), [200, 200]);
    assert_eq!(with(gateway, "DELETE", &format!("/api-keys/{id}"), &session, "").status, 204);
    assert_eq!(with(gateway, "GET", "/transactions/tx_1", &key, "").status, 401, "the key is gone");
    assert_eq!(
        sessions.each_ref().map(|s| view(gateway, s).status),
        [200, 200],
        "its access tokens are the business's"
    );
    let renewed = make_portal(gateway, &access[0].1);
    assert_eq!(view(gateway, &renewed).status, 200, "and can still be exchanged");
    let path = format!("/transactions/tx_1/access-tokens/{}", access[0].0);
    assert_eq!(
        with(gateway, "DELETE", &path, &twin, "").status,
        204,
        "another key of the business ends them"
    );
    assert_eq!(
        [&sessions[0], &renewed, &sessions[1]].map(|s| view(gateway, s).status),
        [401, 401, 200],
        "with the sessions made from it"
    );

    let account = text(&gateway.json(&["accounts", "list"])["accounts"][0], "id");
    gateway.json(&["accounts", "disable", &account]);
    until("the dashboard session to end", PATIENCE, || {
        (with(gateway, "GET", "/dashboard/x", &session, "").status == 401).then_some(())
    });
    assert_eq!(
        view(gateway, &sessions[1]).status,
        200,
        "a key belongs to the business, not to the person"
    );
}

#[test]
fn over_redis_what_one_gateway_made_works_on_the_other_and_ends_there_within_a_second() {
    let house = House::pair("holdyn", &[]);
    let (here, there) = (&house.gateways[0], &house.gateways[1]);
    // An empty shared store is begun by an operator.
    here.json(&["tenants", "create", "house"]);
    let session = sign_up(here, "ann@acme.example");
    assert_eq!(with(there, "GET", "/dashboard/x", &session, "").status, 200);
    let body = r#"{"email":"ann@acme.example","password":"correct horse battery"}"#;
    assert_eq!(at(there, "POST", "/auth/signup", &[], body).status, 409);
    assert_eq!(at(there, "POST", "/auth/login", &[], body).status, 200);
    let (key_id, key) = make_key(there, &session, "live", &SCOPES);
    for n in 0..20 {
        let (id, access) = make_access(here, &key, "tx_1", &["view_transaction"]);
        let portal = make_portal(there, &access);
        assert_eq!(
            [view(here, &portal).status, view(there, &portal).status],
            [200, 200],
            "{n}: at once"
        );
        let path = format!("/transactions/tx_1/access-tokens/{id}");
        assert_eq!(with(here, "DELETE", &path, &key, "").status, 204);
        let revoked = Stopwatch::start();
        assert_eq!(view(here, &portal).status, 401, "{n}");
        until("the other gateway to refuse", PATIENCE, || {
            (view(there, &portal).status == 401).then_some(())
        });
        assert!(revoked.elapsed() < Duration::from_secs(1), "{n}: {:?}", revoked.elapsed());
    }
    assert_eq!(with(here, "DELETE", &format!("/api-keys/{key_id}"), &session, "").status, 204);
    let revoked = Stopwatch::start();
    until("the key to end", PATIENCE, || {
        (with(there, "GET", "/transactions/tx_1", &key, "").status == 401).then_some(())
    });
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
}
