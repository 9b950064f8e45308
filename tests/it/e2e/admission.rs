//! Who is admitted, who is refused, what each is told, and what the service behind sees.

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::raw::Response;
use crate::support::site::{SESSION_SECRET, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{call, get, refusal, text};

struct House {
    upstream: Upstream,
    _site: Site,
    gateway: Gateway,
}

fn open() -> House {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    House {
        upstream,
        _site: site,
        gateway,
    }
}

impl House {
    fn key(&self, scopes: &[&str]) -> (String, String) {
        let mut more = vec!["--mode", "live"];
        for scope in scopes {
            more.extend(["--scope", scope]);
        }
        let made = self.gateway.create_key("api", "acme", &more);
        (text(&made, "id"), text(&made, "key"))
    }

    fn told(&self, fields: &[(&str, &str)]) -> (u16, String) {
        refusal(&call(&self.gateway, "GET", "/v1/orders/1", fields))
    }
}

fn expect(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn a_live_key_passes_and_the_service_sees_one_identity_and_no_credential() {
    let house = open();
    let (id, key) = house.key(&["orders:read", "orders:write"]);
    let answer = call(
        &house.gateway,
        "GET",
        "/v1/orders/7?full=1",
        &[
            ("Authorization", &format!("Bearer {key}")),
            ("X-Tenant-Id", "evil"),
            ("x-scopes", "evil"),
            ("X-Note", "kept"),
        ],
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = &house.upstream.requests()[0];
    assert_eq!(seen.target, "/v1/orders/7?full=1");
    assert_eq!(seen.all("x-tenant-id"), ["acme"]);
    assert_eq!(seen.all("x-scopes"), ["orders:read orders:write"]);
    assert_eq!(seen.all("x-auth-surface"), ["api"]);
    assert_eq!(seen.all("x-auth-mode"), ["live"]);
    assert_eq!(seen.all("x-auth-credential-id"), [id.as_str()]);
    assert_eq!(seen.all("x-note"), ["kept"]);
    for absent in ["authorization", "x-api-key", "x-api-secret", "x-auth-subject"] {
        assert_eq!(seen.all(absent), Vec::<&str>::new(), "{absent}");
    }
    assert!(
        !crate::support::canary::contains(&house.upstream.bytes(), key.as_bytes()),
        "the key went on"
    );
}

#[test]
fn a_public_route_passes_without_identity() {
    let house = open();
    let answer = call(&house.gateway, "GET", "/public/x", &[("X-Tenant-Id", "evil")]);
    assert_eq!(answer.status, 200);
    let seen = &house.upstream.requests()[0];
    assert!(seen.fields.iter().all(|(n, _)| !n.to_ascii_lowercase().starts_with("x-auth-")));
    assert_eq!(seen.all("x-tenant-id"), Vec::<&str>::new());
}

#[test]
fn each_bad_credential_has_its_documented_answer_and_nothing_arrives() {
    let house = open();
    let (_, key) = house.key(&["orders:read"]);
    let pair = house
        .gateway
        .create_key("pair", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let (publishable, secret) = (text(&pair, "key"), text(&pair, "secret"));
    let mint = |prefix: &str| durward::base::key::GeneratedKey::mint(prefix).unwrap().expose().to_owned();
    let (unknown, test) = (mint("tlive_"), mint("ttest_"));
    let bearer = |key: &str| format!("Bearer {key}");
    assert_eq!(house.told(&[]), expect(401, "missing_credential"));
    assert_eq!(house.told(&[("Authorization", "Basic YTpi")]), expect(401, "missing_credential"));
    assert_eq!(
        house.told(&[("Authorization", &bearer("nonsense"))]),
        expect(401, "invalid_credential")
    );
    assert_eq!(
        house.told(&[("Authorization", &bearer(&unknown))]),
        expect(401, "invalid_credential")
    );
    assert_eq!(
        house.told(&[("Authorization", &bearer(&test))]),
        expect(401, "invalid_credential"),
        "wrong mode"
    );
    assert_eq!(
        house.told(&[("x-api-key", &publishable), ("x-api-secret", &secret)]),
        expect(401, "invalid_credential"),
        "another surface, in its own place"
    );
    assert_eq!(
        house.told(&[("Authorization", &bearer(&key)), ("X-Api-Token", &key)]),
        expect(400, "ambiguous_credentials")
    );
    let answer = get(&house.gateway, "/v1/payments/1", &key);
    assert_eq!(refusal(&answer), expect(403, "insufficient_scope"));
    assert!(
        answer.field("www-authenticate").is_some_and(|v| v.contains("insufficient_scope")),
        "{answer:?}"
    );
    assert_eq!(refusal(&get(&house.gateway, "/nothing", &key)), expect(404, "not_found"));
    let answer = call(&house.gateway, "PATCH", "/v1/orders/1", &[]);
    assert_eq!(refusal(&answer), expect(405, "method_not_allowed"));
    assert!(answer.field("allow").is_some_and(|v| v.contains("GET")), "{answer:?}");
    assert_eq!(house.upstream.count(), 0, "{:?}", house.upstream.requests());
    // One answer outside, the reasons apart inside.
    for reason in [
        "wrong_mode",
        "misplaced_credential",
        "unknown_credential",
        "malformed_credential",
        "missing_credential",
        "insufficient_scope",
    ] {
        let line = format!("\"denial\":\"{reason}\"");
        until(&format!("{reason} in the log"), PATIENCE, || {
            crate::support::canary::contains(&house.gateway.output(), line.as_bytes()).then_some(())
        });
    }
}

#[test]
fn a_pair_passes_only_whole_and_in_its_own_halves() {
    let house = open();
    let make = || {
        house
            .gateway
            .create_key("pair", "acme", &["--mode", "live", "--scope", "orders:read"])
    };
    let (a, b) = (make(), make());
    let (key, secret, other) = (text(&a, "key"), text(&a, "secret"), text(&b, "secret"));
    let told = |fields: &[(&str, &str)]| call(&house.gateway, "GET", "/v1/pairs/1", fields).status;
    assert_eq!(told(&[("x-api-key", &key), ("x-api-secret", &secret)]), 200);
    assert_eq!(told(&[("x-api-key", &key), ("x-api-secret", &other)]), 401);
    assert_eq!(told(&[("x-api-key", &key)]), 401);
    assert_eq!(told(&[("x-api-secret", &secret)]), 401);
    assert_eq!(told(&[("x-api-key", &secret), ("x-api-secret", &key)]), 401);
    assert_eq!(house.upstream.count(), 1);
}

#[test]
fn disabling_and_revoking_end_a_key_and_a_tenant_at_once() {
    let house = open();
    let (id, key) = house.key(&["orders:read"]);
    let status = || get(&house.gateway, "/v1/orders/1", &key);
    let becomes = |wanted: u16| -> Response {
        until(&format!("status {wanted}"), PATIENCE, || {
            Some(status()).filter(|r| r.status == wanted)
        })
    };
    becomes(200);
    house.gateway.json(&["tenants", "disable", "acme"]);
    assert_eq!(refusal(&becomes(403)), expect(403, "inactive_tenant"));
    house.gateway.json(&["tenants", "enable", "acme"]);
    becomes(200);
    house.gateway.json(&["keys", "disable", &id]);
    assert_eq!(refusal(&becomes(401)), expect(401, "invalid_credential"));
    house.gateway.json(&["keys", "enable", &id]);
    becomes(200);
    house.gateway.json(&["keys", "revoke", &id]);
    assert_eq!(refusal(&becomes(401)), expect(401, "invalid_credential"));
    let again = house.gateway.run(&["keys", "enable", &id]);
    assert_ne!(again.code, 0, "a revoked key stays revoked: {again:?}");
    assert_eq!(status().status, 401);
    assert_eq!(house.gateway.run(&["keys", "revoke", "no-such-key"]).code, 3);
}

#[test]
fn a_rotated_key_works_beside_the_old_one_until_its_grace_ends() {
    let house = open();
    let (id, key) = house.key(&["orders:read"]);
    let new = text(&house.gateway.json(&["keys", "rotate", &id, "--grace", "1h"]), "key");
    assert_ne!(new, key);
    for key in [&key, &new] {
        assert_eq!(get(&house.gateway, "/v1/orders/1", key).status, 200);
    }
    let (id, key) = house.key(&["orders:read"]);
    let new = text(&house.gateway.json(&["keys", "rotate", &id, "--grace", "0"]), "key");
    until("the old key to end", PATIENCE, || {
        (get(&house.gateway, "/v1/orders/1", &key).status == 401).then_some(())
    });
    assert_eq!(get(&house.gateway, "/v1/orders/1", &new).status, 200);
}

#[test]
fn a_session_token_hangs_on_its_record() {
    let house = open();
    let (id, _) = house.key(&[]);
    let now = jiff::Timestamp::now().as_second();
    let sign = |claims: serde_json::Value, secret: &str| {
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let good = json!({ "sub": id, "kind": "dashboard_session", "iat": now, "exp": now + 600 });
    let status = |token: &str| get(&house.gateway, "/v1/session/x", token).status;
    let token = sign(good.clone(), SESSION_SECRET);
    assert_eq!(status(&token), 200);
    assert_eq!(
        call(
            &house.gateway,
            "GET",
            "/v1/session/x",
            &[("Cookie", &format!("a=b; session={token}"))]
        )
        .status,
        200
    );
    assert_eq!(house.upstream.requests()[1].all("cookie"), ["a=b"], "the session cookie stays here");
    assert_eq!(house.upstream.requests()[0].all("x-auth-subject"), [id.as_str()]);
    let with = |member: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[member] = value;
        sign(claims, SESSION_SECRET)
    };
    assert_eq!(status(&sign(good.clone(), "another-secret-0123456789abcdef0123456789")), 401);
    assert_eq!(status(&with("kind", json!("portal_session"))), 401);
    assert_eq!(status(&with("exp", json!(now - 30))), 401);
    assert_eq!(status(&with("sub", json!("nobody"))), 401);
    assert_eq!(get(&house.gateway, "/v1/orders/1", &token).status, 401, "wrong surface");
    house.gateway.json(&["keys", "revoke", &id]);
    until("the session to end with its record", PATIENCE, || {
        (status(&token) == 401).then_some(())
    });
}

/// The header lines of a token are kept for its next request. They are those of the newest reading of its record.
#[test]
fn j23_the_service_sees_what_the_record_of_a_session_has_now() {
    let house = open();
    let role = house.gateway.json(&[
        "roles",
        "create",
        "--tenant",
        "acme",
        "--name",
        "clerk",
        "--scope",
        "orders:read",
        "--scope",
        "orders:write",
    ]);
    let made = house.gateway.create_key("api", "acme", &["--mode", "live", "--role", "clerk"]);
    let claims = json!({ "sub": made["id"], "kind": "dashboard_session", "exp": jiff::Timestamp::now().as_second() + 600 });
    let key = jsonwebtoken::EncodingKey::from_secret(SESSION_SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let scopes = || {
        assert_eq!(get(&house.gateway, "/v1/session/x", &token).status, 200);
        house.upstream.requests().last().unwrap().all("x-scopes").concat()
    };
    for _ in 0..3 {
        assert_eq!(scopes(), "orders:read orders:write");
    }
    let set = |given: &[&str]| {
        house.gateway.json(&[&["roles", "set", &text(&role, "id")], given].concat());
    };
    set(&["--scope", "orders:read"]);
    until("the lost scope to be gone", PATIENCE, || (scopes() == "orders:read").then_some(()));
    set(&["--no-scopes"]);
    until("all scopes to be gone", PATIENCE, || scopes().is_empty().then_some(()));
    set(&["--scope", "orders:write"]);
    until("the new scope to be there", PATIENCE, || (scopes() == "orders:write").then_some(()));
    assert_eq!(scopes(), "orders:write");
}
