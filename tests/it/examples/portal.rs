//! `examples/portal`: clients, their sessions and test keys, two environments.

mod sliding;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::Response;
use crate::support::redis::RedisServer;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{Nobody, call, expect, paths_of, site, site_over_redis, text};

const CLIENTS: &str = "/api/v1/custodians/clients";
const ME: &str = "/api/v1/clients/me/balance";

/// The gateway of the example with the tenants acme and globex.
struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

fn open(edits: &[(&str, &str)]) -> House {
    let upstream = Upstream::echoing();
    let site = site("portal", upstream.address, edits);
    let gateway = Gateway::start(&site);
    for tenant in ["acme", "globex"] {
        gateway.json(&["tenants", "create", tenant]);
    }
    House { upstream, site, gateway }
}

fn key(gateway: &Gateway, tenant: &str, mode: &str) -> String {
    member(&gateway.create_key("custodian", tenant, &["--mode", mode]), "key")
}

fn member(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

fn bearer(gateway: &Gateway, method: &str, path: &str, key: &str, body: &str) -> Response {
    call(gateway, method, path, &[("Authorization", &format!("Bearer {key}"))], body)
}

/// A new client: its id and its first session.
fn client(gateway: &Gateway, key: &str) -> (String, String) {
    let made = bearer(gateway, "POST", CLIENTS, key, "{}");
    assert_eq!(made.status, 201, "{:?}", made.json());
    (text(&made, "id"), text(&made, "clientSessionToken"))
}

fn session_path(client: &str) -> String {
    format!("{CLIENTS}/{client}/session")
}

fn refusal(code: &str, message: &str) -> Value {
    json!({ "error": { "id": "~request", "code": code, "message": message } })
}

const MISSING: &str = r#"Bearer realm="api""#;
const INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;

fn expect_ended(response: &Response) {
    let body = refusal("INVALID_API_KEY", "The API key or session is not valid.");
    expect(response, 401, &[("www-authenticate", INVALID)], &body);
}

fn expect_gone(response: &Response) {
    expect(response, 404, &[], &refusal("NOT_FOUND", "There is nothing here."));
}

#[test]
fn clients_and_sessions_are_made_and_act_as_their_client() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let custodian = key(gateway, "acme", "live");
    let made = bearer(gateway, "POST", CLIENTS, &custodian, "{}");
    let body = json!({ "id": "~acc_", "clientSessionToken": "~portal_client_live_" });
    expect(&made, 201, &[], &body);
    let (id, first) = (text(&made, "id"), text(&made, "clientSessionToken"));
    let later = bearer(gateway, "POST", &session_path(&id), &custodian, "");
    expect(&later, 201, &[], &json!({ "id": id, "clientSessionToken": "~portal_client_live_" }));
    let second = text(&later, "clientSessionToken");
    assert_ne!(first, second);
    let (other, others) = client(gateway, &custodian);
    assert_ne!(id, other, "each client is its own subject");
    assert_eq!(house.upstream.count(), 2, "the service hears of the clients, and not of sessions");

    for (session, subject) in [(&first, &id), (&second, &id), (&others, &other)] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            house.upstream.forget();
            let answer = call(
                gateway,
                method,
                ME,
                &[("Authorization", &format!("Bearer {session}")), ("X-Auth-Subject", "evil")],
                "",
            );
            assert_eq!(answer.status, 200, "{answer:?}");
            let seen = &house.upstream.requests()[0];
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, ME));
            for (name, value) in [
                ("X-Auth-Subject", subject.as_str()),
                ("X-Tenant-Id", "acme"),
                ("X-Auth-Surface", "client"),
                ("X-Auth-Mode", "live"),
            ] {
                assert_eq!(seen.all(name), [value], "{name}");
            }
            assert_eq!(seen.all("authorization"), Vec::<&str>::new());
        }
    }

    house.upstream.forget();
    let read = bearer(gateway, "GET", &format!("{CLIENTS}/{id}"), &custodian, "");
    assert_eq!(read.status, 200);
    let seen = &house.upstream.requests()[0];
    assert_eq!(
        (seen.all("X-Tenant-Id"), seen.all("X-Auth-Surface")),
        (vec!["acme"], vec!["custodian"])
    );
    assert!(seen.all("X-Auth-Subject").is_empty(), "a custodian is no client");

    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    for secret in [&custodian, &first, &second, &others] {
        assert!(!output.contains(secret.as_str()), "a key was logged");
    }
}

#[test]
fn a_client_of_another_tenant_is_not_there() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let (acme, globex) = (key(gateway, "acme", "live"), key(gateway, "globex", "live"));
    let (id, _) = client(gateway, &acme);
    expect_gone(&bearer(gateway, "POST", &session_path(&id), &globex, ""));
    expect_gone(&bearer(gateway, "POST", &session_path("acc_never_was"), &globex, ""));
    let no_client = member(&gateway.create_key("custodian", "acme", &["--mode", "live"]), "id");
    expect_gone(&bearer(gateway, "POST", &session_path(&no_client), &acme, ""));
    assert_eq!(bearer(gateway, "POST", &session_path(&id), &acme, "").status, 201);
    // A client that was ended is not there either, and neither are its sessions.
    let (ended, session) = client(gateway, &acme);
    gateway.json(&["accounts", "revoke", &ended]);
    until("its session to end", PATIENCE, || {
        (bearer(gateway, "GET", ME, &session, "").status == 401).then_some(())
    });
    expect_gone(&bearer(gateway, "POST", &session_path(&ended), &acme, ""));
}

#[test]
fn a_test_key_of_a_client_acts_as_the_client_and_has_no_end() {
    let house = open(&[("idle = \"24h\"\nlifetime = \"7d\"", "idle = \"1m\"\nlifetime = \"61s\"")]);
    let gateway = &house.gateway;
    let custodian = key(gateway, "acme", "test");
    let (id, session) = client(gateway, &custodian);
    let made = gateway.create_key("client", "acme", &["--subject", &id, "--mode", "test"]);
    assert_eq!(made["expires_at"], Value::Null, "{made}");
    let test_key = member(&made, "key");
    assert!(test_key.starts_with("portal_client_test_") && session.starts_with("portal_client_test_"));
    for token in [&session, &test_key] {
        house.upstream.forget();
        assert_eq!(bearer(gateway, "GET", ME, token, "").status, 200);
        let seen = &house.upstream.requests()[0];
        assert_eq!(seen.all("X-Auth-Subject"), [id.as_str()]);
        assert_eq!(seen.all("X-Auth-Mode"), ["test"]);
    }
    gateway.json(&["keys", "revoke", &member(&made, "id")]);
    until("the key to end", PATIENCE, || {
        (bearer(gateway, "GET", ME, &test_key, "").status == 401).then_some(())
    });
    expect_ended(&bearer(gateway, "GET", ME, &test_key, ""));
    assert_eq!(bearer(gateway, "GET", ME, &session, "").status, 200, "the session goes on");
}

#[test]
fn every_row_of_the_refusals_is_answered_in_the_documented_envelope() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let custodian = key(gateway, "acme", "live");
    let missing = refusal("INVALID_API_KEY", "An API key is required.");
    for (method, path) in [("POST", CLIENTS), ("GET", CLIENTS), ("GET", ME)] {
        expect(
            &call(gateway, method, path, &[], ""),
            401,
            &[("www-authenticate", MISSING)],
            &missing,
        );
        expect_ended(&bearer(gateway, method, path, "nonsense", ""));
    }
    let post = |path: &str, body: &str| bearer(gateway, "POST", path, &custodian, body);
    let unknown = json!({ "error": {
        "id": "~request", "code": "VALIDATION_ERROR", "message": "Some fields are missing or not valid.",
        "details": { "name": ["The name field is not known."] },
    } });
    expect(&post(CLIENTS, r#"{"name":"x"}"#), 422, &[], &unknown);
    let broken = refusal("INVALID_BODY", "The request body is not valid JSON.");
    expect(&post(CLIENTS, "{"), 400, &[], &broken);
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(20_000));
    let answer = post(CLIENTS, &large);
    assert_eq!(
        (answer.status, member(&answer.json()["error"], "code")),
        (413, "BODY_TOO_LARGE".into())
    );
    let plain = [
        ("Authorization", format!("Bearer {custodian}")),
        ("Content-Type", "text/plain".to_owned()),
    ];
    let plain: Vec<(&str, &str)> = plain.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let wrong = refusal("UNSUPPORTED_MEDIA_TYPE", "The request body must be application/json.");
    expect(&call(gateway, "POST", CLIENTS, &plain, "{}"), 415, &[], &wrong);
    expect_gone(&bearer(gateway, "GET", "/api/v1/other", &custodian, ""));
    let answer = bearer(gateway, "DELETE", "/api/v1/swaps/quote", &custodian, "");
    let refused = refusal("METHOD_NOT_ALLOWED", "The method is not allowed here.");
    expect(&answer, 405, &[("allow", "GET, HEAD, POST")], &refused);
    let accounts = gateway.json(&["accounts", "list"]);
    assert_eq!(accounts["accounts"], json!([]), "nothing was made");

    let (_, session) = client(gateway, &custodian);
    gateway.json(&["tenants", "disable", "acme"]);
    let inactive = refusal("FORBIDDEN", "The account of this credential is inactive.");
    let refused = until("the tenant to be inactive", PATIENCE, || {
        Some(bearer(gateway, "GET", ME, &session, "")).filter(|answer| answer.status != 200)
    });
    expect(&refused, 403, &[], &inactive);
    gateway.json(&["tenants", "enable", "acme"]);
    until("it to be active again", PATIENCE, || {
        (bearer(gateway, "GET", ME, &session, "").status == 200).then_some(())
    });
}

#[test]
fn what_is_away_is_our_fault_and_never_the_callers() {
    let nobody = Nobody::reserve();
    let mut redis = RedisServer::start();
    let shared = tempfile::tempdir().unwrap();
    let site = site_over_redis("portal", nobody.address, &redis, shared.path(), &[]);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let lost = bearer(&gateway, "POST", CLIENTS, &key(&gateway, "acme", "live"), "{}");
    let away = refusal("BAD_GATEWAY", "The service behind could not be reached.");
    expect(&lost, 502, &[], &away);
    let session = member(&gateway.create_key("client", "acme", &["--mode", "live"]), "key");
    let gone = bearer(&gateway, "GET", ME, &session, "");
    expect(&gone, 502, &[], &away);
    redis.kill();
    let unknown = durward::base::key::GeneratedKey::mint("portal_client_live_").unwrap();
    let answer = bearer(&gateway, "GET", ME, unknown.expose(), "");
    let body = refusal("SERVICE_UNAVAILABLE", "The service is temporarily unavailable.");
    expect(&answer, 503, &[("retry-after", "~")], &body);
}

#[test]
fn a_key_of_one_environment_never_works_in_the_other() {
    // One gateway for both: what a test key makes is test's, and it cannot reach what live made.
    let house = open(&[]);
    let (live, test) = (key(&house.gateway, "acme", "live"), key(&house.gateway, "acme", "test"));
    for (own, foreign, prefix) in [(&live, &test, "portal_client_live_"), (&test, &live, "portal_client_test_")] {
        let (id, session) = client(&house.gateway, own);
        assert!(session.starts_with(prefix), "{prefix}");
        expect_gone(&bearer(&house.gateway, "POST", &session_path(&id), foreign, ""));
        assert_eq!(bearer(&house.gateway, "POST", &session_path(&id), own, "").status, 201);
    }
}

#[test]
fn a_gateway_of_one_environment_refuses_what_the_other_one_made_in_the_same_store() {
    let upstream = Upstream::echoing();
    let redis = RedisServer::start();
    let shared = tempfile::tempdir().unwrap();
    let prefixes = [
        "prefixes = { live = \"portal_live_\", test = \"portal_test_\" }",
        "prefixes = { live = \"portal_client_live_\", test = \"portal_client_test_\" }",
    ];
    let start = |mode: &str| {
        let pinned = prefixes.map(|line| format!("mode = \"{mode}\"\n{line}"));
        let edits: Vec<(&str, &str)> = prefixes.into_iter().zip(pinned.iter().map(String::as_str)).collect();
        let site = site_over_redis("portal", upstream.address, &redis, shared.path(), &edits);
        (Gateway::start(&site), site)
    };
    let (production, sandbox) = (start("live"), start("test"));
    production.0.json(&["tenants", "create", "acme"]);
    let made = [(&production.0, "live"), (&sandbox.0, "test")].map(|(gateway, mode)| {
        let custodian = key(gateway, "acme", mode);
        let session = client(gateway, &custodian).1;
        (gateway, custodian, session)
    });
    for (at, home) in made.iter().enumerate() {
        for (of, (_, custodian, session)) in made.iter().enumerate() {
            for (credential, path) in [(custodian, "/api/v1/custodians/reports"), (session, ME)] {
                let answer = bearer(home.0, "GET", path, credential, "");
                if at == of {
                    assert_eq!(answer.status, 200);
                } else {
                    expect_ended(&answer);
                }
            }
        }
    }
}

/// Pattern, methods, a path of it, body, surface, status.
type Row = (&'static str, &'static [&'static str], &'static str, &'static str, &'static str, u16);

/// What is documented.
const DOCUMENTED: [Row; 9] = [
    ("/api/v1/custodians/clients", &["POST"], CLIENTS, "{}", "custodian", 201),
    (
        "/api/v1/custodians/clients/{clientId}/session",
        &["POST"],
        "/api/v1/custodians/clients/CLIENT/session",
        "",
        "custodian",
        201,
    ),
    ("/api/v1/custodians/**", ANY, "/api/v1/custodians/reports", "", "custodian", 200),
    ("/api/v3/custodians/**", ANY, "/api/v3/custodians/me/clients", "", "custodian", 200),
    ("/api/v1/clients/me/**", ANY, ME, "", "client", 200),
    ("/api/v3/clients/me/**", ANY, "/api/v3/clients/me/wallets", "", "client", 200),
    ("/api/v1/swaps/**", &["GET", "POST"], "/api/v1/swaps/quote", "", "client", 200),
    ("/api/v3/swaps/**", &["GET", "POST"], "/api/v3/swaps/quote", "", "client", 200),
    ("/v1/**", ANY, "/v1/generate", "", "client", 200),
];

const ANY: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];

#[test]
fn every_credential_on_every_route_and_only_the_documented_pairs_are_admitted() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let patterns: std::collections::BTreeSet<&str> = DOCUMENTED.iter().map(|row| row.0).collect();
    let configured = paths_of(&house.site);
    assert_eq!(
        patterns,
        configured.iter().map(String::as_str).collect(),
        "every route of the example"
    );
    let mut credentials = Vec::new();
    let mut clients = Vec::new();
    for mode in ["live", "test"] {
        let custodian = key(gateway, "acme", mode);
        let (id, session) = client(gateway, &custodian);
        let own = gateway.create_key("client", "acme", &["--subject", &id, "--mode", mode]);
        credentials.extend([
            ("custodian", mode, custodian),
            ("client", mode, session),
            ("client", mode, member(&own, "key")),
            ("nobody", mode, id.clone()),
        ]);
        for prefix in ["portal", "portal_client"] {
            let unknown = durward::base::key::GeneratedKey::mint(&format!("{prefix}_{mode}_")).unwrap();
            credentials.push(("nobody", mode, unknown.expose().to_owned()));
        }
        clients.push((mode, id));
    }
    let mut admitted = 0;
    let calls = DOCUMENTED.iter().flat_map(|row| row.1.iter().map(move |method| (row, *method)));
    for (&(_, _, path, body, wanted, status), method) in calls {
        for (surface, mode, credential) in &credentials {
            let id = &clients.iter().find(|(of, _)| of == mode).unwrap().1;
            let path = path.replace("CLIENT", id);
            for (name, value) in [
                ("Authorization", format!("Bearer {credential}")),
                ("Authorization", format!("Basic {credential}")),
                ("X-Api-Key", credential.clone()),
                ("Cookie", format!("session={credential}")),
            ] {
                house.upstream.forget();
                let answer = call(gateway, method, &path, &[(name, &value)], body);
                let documented = *surface == wanted && value.starts_with("Bearer ");
                let expected = if documented { status } else { 401 };
                assert_eq!(answer.status, expected, "{surface} {mode} as {name} {value} on {method} {path}");
                if documented {
                    admitted += 1;
                } else {
                    assert_eq!(answer.json()["error"]["code"], "INVALID_API_KEY");
                    assert_eq!(house.upstream.count(), 0, "a refused request went on");
                }
            }
        }
    }
    // Custodians have a key for each mode, clients a session and a key of their own.
    assert_eq!(
        admitted,
        (2 + 2 * 5) * 2 + (3 * 5 + 2 * 2) * 4,
        "each documented pair in both modes"
    );
}
