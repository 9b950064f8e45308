//! Key pairs of geldstuck: whole or not at all, made, listed, rotated and revoked by their own tenant.

use std::time::Duration;

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::redis::RedisServer;
use crate::support::stopwatch::Stopwatch;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::super::{Nobody, call, expect, site_over_redis, text};
use super::{KEYS, Pair, ann, expect_foreign, expect_gone, expect_invalid, expect_missing, log_in, open, refusal, with_bearer};

/// Within what a revoked pair must be refused.
const BOUND: Duration = Duration::from_secs(1);

#[test]
fn a_pair_passes_whole_and_names_its_tenant() {
    let house = open(&[]);
    for mode in ["live", "test"] {
        let pair = Pair::of(&house.gateway, "acme", mode);
        for path in ["transactions/t1", "tenants/acme", "kyc/k1", "source-of-funds/s1", "webhooks/w1"] {
            house.upstream.forget();
            let path = format!("/v1/{path}");
            let mut fields = pair.fields().to_vec();
            fields.push(("X-Tenant-Id", "globex"));
            assert_eq!(call(&house.gateway, "GET", &path, &fields, "").status, 200);
            let seen = &house.upstream.requests()[0];
            for (name, value) in [
                ("X-Tenant-Id", "acme"),
                ("X-Auth-Surface", "keys"),
                ("X-Auth-Mode", mode),
                ("X-Auth-Credential-Id", pair.id.as_str()),
            ] {
                assert_eq!(seen.all(name), [value], "{name}");
            }
            for name in ["x-api-key", "x-api-secret"] {
                assert!(seen.all(name).is_empty(), "{name} went on");
            }
        }
    }
}

#[test]
fn halves_that_do_not_belong_together_are_refused_without_saying_why() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let (live, other, test) = (
        Pair::of(gateway, "acme", "live"),
        Pair::of(gateway, "acme", "live"),
        Pair::of(gateway, "acme", "test"),
    );
    let foreign = Pair::of(gateway, "globex", "live");
    let unknown = |prefix: &str| durward::base::key::GeneratedKey::mint(prefix).unwrap().expose().to_owned();
    let (key, secret) = (unknown("pk_live_"), unknown("sk_live_"));
    let told = |fields: &[(&str, &str)]| call(gateway, "GET", "/v1/transactions/t1", fields, "");
    for (key, secret) in [
        (&live.key, &other.secret),
        (&live.key, &test.secret),
        (&test.key, &live.secret),
        (&live.key, &foreign.secret),
        (&live.key, &secret),
        (&key, &live.secret),
        (&key, &secret),
        (&live.secret, &live.key),
        (&live.key, &live.key),
        (&live.secret, &live.secret),
        (&live.key, &"nonsense".to_owned()),
        (&"nonsense".to_owned(), &live.secret),
    ] {
        expect_invalid(&told(&[("x-api-key", key), ("x-api-secret", secret)]));
    }
    expect_missing(&told(&[]));
    for half in live.fields() {
        let answer = told(&[half]);
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (401, &json!("authentication_error"))
        );
    }
    assert_eq!(house.upstream.count(), 0, "nothing of this reaches the service");
    for pair in [live, other, test, foreign] {
        assert_eq!(pair.status(gateway), 200, "{}", pair.id);
    }
}

#[test]
fn a_pair_rotates_old_and_new_work_until_the_old_one_is_revoked() {
    let house = open(&[]);
    let gateway = &house.gateway;
    for (mode, body, name) in [("live", r#"{"name":"next"}"#, json!("next")), ("test", "{}", json!(null))] {
        let old = Pair::of(gateway, "acme", mode);
        let made = old.call(gateway, "POST", KEYS, body);
        let (key, secret) = (format!("~pk_{mode}_"), format!("~sk_{mode}_"));
        let shape = json!({ "id": "~pair_", "publishable_key": key, "secret_key": secret, "mode": mode });
        expect(&made, 201, &[], &shape);
        let new = Pair::told(&made);
        assert_eq!((old.status(gateway), new.status(gateway)), (200, 200));

        let listed = new.call(gateway, "GET", KEYS, "");
        let all = listed.json();
        let item = all["data"]
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["id"] == json!(new.id))
            .unwrap();
        let last4 = &new.key[new.key.len() - 4..];
        let (id, prefix) = (&new.id, format!("pk_{mode}_"));
        assert_eq!(
            item,
            &json!({ "id": id, "name": name, "prefix": prefix, "last4": last4, "mode": mode })
        );
        for half in [&new.key, &new.secret, &old.key, &old.secret] {
            assert!(!all.to_string().contains(half.as_str()), "shown once");
        }

        let revoked = new.call(gateway, "POST", &format!("{KEYS}/{}/revoke", old.id), "");
        let asked = Stopwatch::start();
        expect(&revoked, 200, &[], &json!({ "id": old.id, "revoked": true }));
        until("the old pair to end", PATIENCE, || (old.status(gateway) == 401).then_some(()));
        assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
        expect_invalid(&old.call(gateway, "GET", "/v1/transactions/t1", ""));
        assert_eq!(new.status(gateway), 200);
        let left = new.call(gateway, "GET", KEYS, "").json();
        assert!(!left.to_string().contains(&old.id), "{left}");
    }
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(!output.contains("sk_live_") && !output.contains("sk_test_"), "a secret was logged");
}

#[test]
fn a_caller_manages_its_own_tenant_and_mode_only() {
    let house = open(&[]);
    let gateway = &house.gateway;
    ann(&house.site);
    let (acme, test) = (Pair::of(gateway, "acme", "live"), Pair::of(gateway, "acme", "test"));
    let globex = Pair::of(gateway, "globex", "live");
    let session = log_in(gateway);
    let (theirs, revoke) = ("/v1/tenants/globex/api-keys", |path: &str, id: &str| format!("{path}/{id}/revoke"));
    for (method, path, body) in [
        ("POST", theirs.to_owned(), "{}"),
        ("GET", theirs.to_owned(), ""),
        ("POST", revoke(theirs, &globex.id), ""),
        ("POST", revoke(theirs, &acme.id), ""),
        ("POST", "/v1/tenants/nobody/api-keys".to_owned(), "{}"),
    ] {
        expect_foreign(&acme.call(gateway, method, &path, body));
        expect_foreign(&with_bearer(gateway, method, &path, &session, body));
    }
    for path in [
        "/v1/tenants/globex",
        "/v1/tenants/globex/users",
        "/v1/tenants/%67lobex",
        "/v1/tenants/ACME",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            expect_foreign(&acme.call(gateway, method, path, ""));
        }
    }
    assert_eq!(house.upstream.count(), 0, "a foreign tenant's name reached the service");
    for path in ["/v1/tenants", "/v1/tenants/acme", "/v1/tenants/acme/users", "/v1/tenants/%61cme"] {
        assert_eq!(acme.call(gateway, "GET", path, "").status, 200, "{path}");
    }
    // A text that a service could read as a tenant's id (folding case, trimming, decoding again) is not forwarded either.
    for path in [
        "/v1/tenants/Globex/users",
        "/v1/tenants/globex%20",
        "/v1/tenants/%20globex/users",
        "/v1/tenants/globex./users",
        "/v1/tenants/globex:1",
    ] {
        expect_foreign(&acme.call(gateway, "GET", path, ""));
    }
    // Another tenant's pair under one's own name is not there; neither is a live one for a test one.
    for id in [globex.id.as_str(), "pair_never_was"] {
        expect_gone(&acme.call(gateway, "POST", &revoke(KEYS, id), ""));
        expect_gone(&with_bearer(gateway, "POST", &revoke(KEYS, id), &session, ""));
    }
    expect_gone(&test.call(gateway, "POST", &revoke(KEYS, &acme.id), ""));
    let seen = test.call(gateway, "GET", KEYS, "").json().to_string();
    assert!(
        seen.contains(&test.id) && !seen.contains(&acme.id) && !seen.contains(&globex.id),
        "{seen}"
    );
    for pair in [&acme, &test, &globex] {
        assert_eq!(pair.status(gateway), 200, "{} was ended", pair.id);
    }
    // The twin: a person of the tenant does all of it.
    let made = with_bearer(gateway, "POST", KEYS, &session, r#"{"name":"by ann"}"#);
    assert_eq!(made.status, 201, "{:?}", made.json());
    let made = Pair::told(&made);
    assert!(made.key.starts_with("pk_live_") && made.status(gateway) == 200);
    assert!(
        with_bearer(gateway, "GET", KEYS, &session, "")
            .json()
            .to_string()
            .contains(&made.id)
    );
    assert_eq!(with_bearer(gateway, "POST", &revoke(KEYS, &made.id), &session, "").status, 200);
    until("it to end", PATIENCE, || (made.status(gateway) == 401).then_some(()));
    assert!(house.upstream.requests().iter().all(|seen| !seen.target.contains("api-keys")));
}

#[test]
fn every_row_of_the_refusals_is_answered_in_the_documented_envelope() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let pair = Pair::of(gateway, "acme", "live");
    let told = |method: &str, path: &str, body: &str| pair.call(gateway, method, path, body);
    let invalid = |details: serde_json::Value| {
        let mut body = refusal("invalid_request_error", "Some fields are missing or not valid.");
        body["error"]["details"] = details;
        body
    };
    let long = json!({ "name": "x".repeat(101) }).to_string();
    for (path, body, details) in [
        (KEYS, r#"{"scopes":[]}"#, json!({ "scopes": ["The scopes field is not known."] })),
        (KEYS, r#"{"name":7}"#, json!({ "name": ["The name field must be a string."] })),
        (
            KEYS,
            &long,
            json!({ "name": ["The name field must not be greater than 100 characters."] }),
        ),
        ("/v1/kyc/onfido", "{}", json!({ "subject": ["The subject field is required."] })),
        (
            "/v1/kyc/onfido",
            r#"{"subject":"a b"}"#,
            json!({ "subject": ["The subject field is not valid."] }),
        ),
        (
            "/v1/auth/login",
            "{}",
            json!({
                "email": ["The email field is required."],
                "password": ["The password field is required."],
            }),
        ),
    ] {
        let fields: &[(&str, &str)] = if path == "/v1/auth/login" { &[] } else { &pair.fields() };
        expect(&call(gateway, "POST", path, fields, body), 422, &[], &invalid(details));
    }
    let broken = refusal("invalid_request_error", "The request body is not valid JSON.");
    expect(&told("POST", KEYS, "{"), 400, &[], &broken);
    let mut plain = pair.fields().to_vec();
    plain.push(("Content-Type", "text/plain"));
    let answer = call(gateway, "POST", KEYS, &plain, "{}");
    let wrong = refusal("invalid_request_error", "The request body must be application/json.");
    expect(&answer, 415, &[], &wrong);
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(20_000));
    let answer = told("POST", KEYS, &large);
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (413, &json!("invalid_request_error"))
    );
    expect_gone(&told("GET", "/v1/other", ""));
    let allowed = refusal("invalid_request_error", "The method is not allowed here.");
    expect(&told("DELETE", "/v1/dashboard/x", ""), 405, &[("allow", "GET, HEAD")], &allowed);
    let listed = gateway.json(&["keys", "list", "--tenant", "acme"]);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1, "nothing was made: {listed}");
    gateway.json(&["tenants", "disable", "acme"]);
    let refused = until("the tenant to be inactive", PATIENCE, || {
        Some(told("GET", "/v1/transactions/t1", "")).filter(|answer| answer.status != 200)
    });
    let inactive = refusal("permission_error", "The account of this credential is inactive.");
    expect(&refused, 403, &[], &inactive);
}

#[test]
fn what_is_away_is_our_fault_and_never_the_callers() {
    let nobody = Nobody::reserve();
    let mut redis = RedisServer::start();
    let shared = tempfile::tempdir().unwrap();
    let site = site_over_redis("geldstuck", nobody.address, &redis, shared.path(), &[]);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let pair = Pair::of(&gateway, "acme", "live");
    let gone = pair.call(&gateway, "GET", "/v1/transactions/t1", "");
    expect(&gone, 502, &[], &refusal("api_error", "The service behind could not be reached."));
    redis.kill();
    let body = refusal("api_error", "The service is temporarily unavailable.");
    let mint = |prefix: &str| durward::base::key::GeneratedKey::mint(prefix).unwrap().expose().to_owned();
    let (key, secret) = (mint("pk_live_"), mint("sk_live_"));
    let unknown = [("x-api-key", key.as_str()), ("x-api-secret", secret.as_str())];
    for answer in [
        call(&gateway, "GET", "/v1/transactions/t1", &unknown, ""),
        pair.call(&gateway, "POST", KEYS, "{}"),
    ] {
        expect(&answer, 503, &[("retry-after", "~")], &body);
    }
}

#[test]
fn a_pair_made_on_one_gateway_works_on_the_other_at_once_and_ends_on_both() {
    let upstream = Upstream::echoing();
    let redis = RedisServer::start();
    let shared = tempfile::tempdir().unwrap();
    let make = || site_over_redis("geldstuck", upstream.address, &redis, shared.path(), &[]);
    let sites = [make(), make()];
    let [here, there] = [Gateway::start(&sites[0]), Gateway::start(&sites[1])];
    here.json(&["tenants", "create", "acme"]);
    ann(&sites[0]);
    let old = Pair::of(&here, "acme", "live");
    let made = old.call(&there, "POST", KEYS, "{}");
    assert_eq!(made.status, 201, "{:?}", made.json());
    let new = Pair::told(&made);
    for gateway in [&here, &there] {
        assert_eq!((old.status(gateway), new.status(gateway)), (200, 200));
    }
    assert_eq!(new.call(&here, "POST", &format!("{KEYS}/{}/revoke", old.id), "").status, 200);
    let asked = Stopwatch::start();
    until("the old pair to end there", PATIENCE, || (old.status(&there) == 401).then_some(()));
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    assert_eq!((old.status(&here), new.status(&here), new.status(&there)), (401, 200, 200));

    let token = log_in(&here);
    let dashboard = |gateway: &Gateway| with_bearer(gateway, "GET", "/v1/dashboard/x", &token, "").status;
    assert_eq!((dashboard(&there), dashboard(&here)), (200, 200));
    let verification = new.call(&there, "POST", "/v1/kyc/onfido", r#"{"subject":"user_1"}"#);
    let verification = text(&verification, "session_token");
    assert_eq!(with_bearer(&here, "GET", "/v1/verification/steps", &verification, "").status, 200);
    assert_eq!(with_bearer(&there, "POST", "/v1/auth/logout", &token, "").status, 204);
    let asked = Stopwatch::start();
    until("the session to end here", PATIENCE, || (dashboard(&here) == 401).then_some(()));
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
}

/// `POST /tenants/add-user` is documented; a tenant that is made under such a word later is another tenant.
#[test]
fn words_below_tenants_are_forwarded_unless_a_tenant_has_that_id() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let (acme, globex) = (Pair::of(gateway, "acme", "live"), Pair::of(gateway, "globex", "live"));
    let user = r#"{"name": "Ada", "email": "ada@example.com"}"#;
    for (pair, tenant) in [(&acme, "acme"), (&globex, "globex")] {
        for (method, path, body) in [
            ("POST", "/v1/tenants/add-user", user),
            ("GET", "/v1/tenants/settings", ""),
            ("PATCH", "/v1/tenants/settings/limits_2", "{}"),
        ] {
            let answer = pair.call(gateway, method, path, body);
            assert_eq!(answer.status, 200, "{method} {path}: {:?}", answer.json());
            let requests = house.upstream.requests();
            let seen = requests.last().unwrap();
            assert_eq!(seen.target, path);
            assert_eq!(seen.all("X-Tenant-Id"), [tenant]);
            assert_eq!(seen.body, body.as_bytes());
        }
    }
    // On a served route the segment is always a tenant; and without a pair nobody is admitted.
    expect_foreign(&acme.call(gateway, "GET", "/v1/tenants/settings/api-keys", ""));
    expect_missing(&call(gateway, "POST", "/v1/tenants/add-user", &[], user));
    let count = house.upstream.count();
    gateway.json(&["tenants", "create", "settings"]);
    until("the new tenant's id to be refused", PATIENCE, || {
        let answer = acme.call(gateway, "GET", "/v1/tenants/settings", "");
        (answer.status == 403).then(|| expect_foreign(&answer))
    });
    let settings = Pair::of(gateway, "settings", "live");
    assert_eq!(settings.call(gateway, "GET", "/v1/tenants/settings", "").status, 200);
    gateway.json(&["tenants", "disable", "settings"]);
    expect_foreign(&acme.call(gateway, "GET", "/v1/tenants/settings", ""));
    assert!(house.upstream.count() > count);
}

#[test]
fn a_list_shows_the_callers_mode_newest_first_however_many_others_there_are() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let test: Vec<Pair> = (0..3).map(|_| Pair::of(gateway, "acme", "test")).collect();
    for _ in 0..60 {
        Pair::of(gateway, "acme", "live");
    }
    let ids = |query: &str| {
        let answer = test[0].call(gateway, "GET", &format!("{KEYS}{query}"), "");
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let all = answer.json();
        let ids = all["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned());
        (
            ids.collect::<Vec<_>>(),
            all.get("next").and_then(|next| next.as_str()).map(str::to_owned),
        )
    };
    let newest: Vec<String> = test.iter().rev().map(|pair| pair.id.clone()).collect();
    assert_eq!(ids(""), (newest.clone(), None));
    assert_eq!(ids("?limit=2"), (newest[..2].to_vec(), Some(newest[1].clone())));
    assert_eq!(ids(&format!("?limit=2&after={}", newest[1])), (newest[2..].to_vec(), None));
    let bad = test[0].call(gateway, "GET", &format!("{KEYS}?limit=many"), "");
    let error = &bad.json()["error"];
    assert_eq!((bad.status, &error["type"]), (422, &json!("invalid_request_error")));
    assert_eq!(
        error["details"]["limit"],
        json!(["The limit field must be a number from 1 to 1000."])
    );
}
