//! `examples/hatchpay`: keys that can do nothing without a role, and tokens of the tenants' own issuer.

mod refusals;
mod spellings;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::issuer::{Signer, jwks};
use crate::support::raw::Response;
use crate::support::redis::RedisServer;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::matrix::Documented;
use super::{call, expect, site, site_over_redis, text};

const KEYS: &str = "/v1/api-key/keys";
const TX: &str = "/v1/transactions/t1";
const CI: &str = r#"{"name":"ci","description":"builds"}"#;
const ALL: [&str; 5] = [
    "api_keys:write",
    "audit:read",
    "roles:read",
    "transactions:read",
    "transactions:write",
];

/// What the documentation says of each call. That of `/v1/audit` is our own.
const DOCUMENTED: [Documented; 9] = [
    (&["POST"], "/v1/api-key/keys", &["key", "jwt"], &["api_keys:write"]),
    (&["PUT"], "/v1/api-key/keys/{keyId}/roles", &["key", "jwt"], &["api_keys:write"]),
    (&["GET"], "/v1/roles", &["key", "jwt"], &["roles:read"]),
    (&["GET"], "/v1/permissions", &["key", "jwt"], &["roles:read"]),
    (&["GET"], "/roles", &["key", "jwt"], &["roles:read"]),
    (&["GET"], "/permissions", &["key", "jwt"], &["roles:read"]),
    (&["GET"], "/v1/transactions/**", &["key", "jwt"], &["transactions:read"]),
    (
        &["POST", "PUT", "PATCH", "DELETE"],
        "/v1/transactions/**",
        &["key", "jwt"],
        &["transactions:write"],
    ),
    (&["GET"], "/v1/audit", &["key", "jwt"], &["audit:read"]),
];

struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
    signers: [Signer; 9],
    /// The tenant's first key, made at onboarding.
    admin: String,
}

impl House {
    fn open() -> Self {
        let upstream = Upstream::echoing();
        let signers = Signer::all();
        let site = site("hatchpay", upstream.address, &[]);
        site.write("issuer.jwks.json", &jwks(&signers.iter().collect::<Vec<_>>()));
        let gateway = Gateway::start(&site);
        for tenant in ["acme", "globex"] {
            gateway.json(&["tenants", "create", tenant]);
        }
        let admin = made(&gateway, "acme", "admin");
        Self {
            upstream,
            site,
            gateway,
            signers,
            admin,
        }
    }

    fn by_key(&self, method: &str, path: &str, key: &str, body: &str) -> Response {
        call(&self.gateway, method, path, &[("X-API-Key", key)], body)
    }

    fn by_token(&self, method: &str, path: &str, token: &str, body: &str) -> Response {
        call(&self.gateway, method, path, &[("Authorization", &format!("Bearer {token}"))], body)
    }

    /// A key through the documented endpoint: id and key.
    fn new_key(&self) -> (String, String) {
        let response = self.by_key("POST", KEYS, &self.admin, CI);
        assert_eq!(response.status, 201);
        (text(&response, "id"), text(&response, "api_key"))
    }

    fn set_roles(&self, by: &str, key: &str, roles: &[&str]) -> Response {
        self.by_key("PUT", &format!("{KEYS}/{key}/roles"), by, &json!({ "role_ids": roles }).to_string())
    }

    /// The id of a role by its name, as the lists tell it.
    fn role(&self, name: &str) -> String {
        let listed = self.by_key("GET", "/v1/roles", &self.admin, "").json();
        let role = listed["data"].as_array().unwrap().iter().find(|role| role["name"] == name);
        role.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// A role of a tenant by the command line: its id.
    fn create_role(&self, tenant: &str, name: &str, scopes: &[&str]) -> String {
        let mut args = vec!["roles", "create", "--tenant", tenant, "--name", name];
        for scope in scopes {
            args.extend(["--scope", scope]);
        }
        self.gateway.json(&args)["id"].as_str().unwrap().to_owned()
    }
}

/// A key by the command line.
fn made(gateway: &Gateway, tenant: &str, role: &str) -> String {
    gateway.create_key("key", tenant, &["--role", role])["key"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn claims(tenant: &str, permissions: &[&str]) -> Value {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    json!({ "sub": "user-7", "tenant": tenant, "permissions": permissions, "exp": now + 600 })
}

fn refusal(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

fn expect_unauthorized(response: &Response) {
    let body = refusal("unauthorized", "The API key or token is not valid.");
    let challenge = ("www-authenticate", "Bearer realm=\"api\", error=\"invalid_token\"");
    expect(response, 401, &[challenge], &body);
}

fn expect_forbidden(response: &Response, scope: &str) {
    let challenge = format!("Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"{scope}\"");
    let fields = [("www-authenticate", challenge.as_str())];
    expect(response, 403, &fields, &refusal("forbidden", "A permission is missing."));
}

#[test]
fn a_key_can_do_nothing_until_it_has_a_role_and_then_what_the_role_says() {
    let house = House::open();
    let created = house.by_key("POST", KEYS, &house.admin, CI);
    let shape = json!({ "id": "~key_", "name": "ci", "description": "builds", "api_key": "~hp_" });
    expect(&created, 201, &[], &shape);
    let umlauts = house.by_key("POST", KEYS, &house.admin, r#"{"name":"Büro","description":"für „alle“"}"#);
    let shape = json!({ "id": "~key_", "name": "Büro", "description": "für „alle“", "api_key": "~hp_" });
    expect(&umlauts, 201, &[], &shape);
    let (id, key) = (text(&created, "id"), text(&created, "api_key"));
    let calls = [
        ("POST", KEYS, "api_keys:write"),
        ("PUT", "/v1/api-key/keys/key_1/roles", "api_keys:write"),
        ("GET", "/v1/roles", "roles:read"),
        ("GET", "/v1/permissions", "roles:read"),
        ("GET", TX, "transactions:read"),
        ("POST", TX, "transactions:write"),
        ("DELETE", TX, "transactions:write"),
    ];
    for (method, path, scope) in calls {
        expect_forbidden(&house.by_key(method, path, &key, ""), scope);
    }
    let (admin, viewer) = (house.role("admin"), house.role("viewer"));
    let set = house.set_roles(&house.admin, &id, &[&viewer]);
    expect(&set, 200, &[], &json!({ "id": id, "role_ids": [viewer] }));
    assert_eq!(house.by_key("GET", TX, &key, "").status, 200, "at once on this gateway");
    let seen = house.upstream.requests().pop().unwrap();
    assert_eq!(seen.all("x-tenant-id"), ["acme"]);
    assert_eq!(seen.all("x-auth-credential-id"), [id.as_str()]);
    assert_eq!(seen.all("x-scopes"), ["roles:read transactions:read"]);
    assert_eq!(seen.all("x-api-key"), Vec::<&str>::new());
    expect_forbidden(&house.by_key("POST", TX, &key, ""), "transactions:write");
    // They are replaced, not added to.
    assert_eq!(house.set_roles(&house.admin, &id, &[&admin]).status, 200);
    assert_eq!(house.by_key("POST", TX, &key, "").status, 200);
    assert_eq!(house.set_roles(&house.admin, &id, &[&viewer]).status, 200);
    expect_forbidden(&house.by_key("POST", TX, &key, ""), "transactions:write");
    expect(
        &house.set_roles(&house.admin, &id, &[]),
        200,
        &[],
        &json!({ "id": id, "role_ids": [] }),
    );
    expect_forbidden(&house.by_key("GET", TX, &key, ""), "transactions:read");
}

#[test]
fn nobody_grants_what_he_does_not_hold_nor_touches_another_tenants_keys() {
    let house = House::open();
    let (admin, viewer) = (house.role("admin"), house.role("viewer"));
    let smith = house.create_role("acme", "smith", &["api_keys:write", "transactions:read"]);
    let strange = house.create_role("globex", "strange", &["transactions:read"]);
    let (smith_id, smith_key) = house.new_key();
    assert_eq!(house.set_roles(&house.admin, &smith_id, &[&smith]).status, 200);
    let (id, key) = house.new_key();

    for beyond in [&[admin.as_str()][..], &[&viewer], &[&smith, &viewer]] {
        let refused = house.set_roles(&smith_key, &id, beyond);
        assert_eq!(refused.status, 403, "{beyond:?}");
        assert_eq!(refused.json(), refusal("forbidden", "A permission is missing."));
    }
    assert_eq!(house.set_roles(&smith_key, &smith_id, &[&admin]).status, 403, "nor to itself");
    expect_forbidden(&house.by_key("GET", TX, &key, ""), "transactions:read");
    assert_eq!(house.set_roles(&smith_key, &id, &[&smith]).status, 200, "what it holds");
    assert_eq!(house.by_key("GET", TX, &key, "").status, 200);

    // A token's permissions bound what its bearer grants, whatever else its tenant has.
    let token = house.signers[1].token(&claims("acme", &["api_keys:write"]));
    let path = format!("{KEYS}/{id}/roles");
    let body = |role: &str| json!({ "role_ids": [role] }).to_string();
    assert_eq!(house.by_token("PUT", &path, &token, &body(&viewer)).status, 403);
    let token = house.signers[1].token(&claims("acme", &["api_keys:write", "roles:read", "transactions:read"]));
    assert_eq!(house.by_token("PUT", &path, &token, &body(&viewer)).status, 200);
    assert_eq!(house.by_token("POST", KEYS, &token, CI).status, 201);

    let unknown = |role: &str| {
        let refused = house.set_roles(&house.admin, &id, &[role]);
        let body = json!({ "error": { "code": "validation_error", "message": "Some fields are missing or not valid.",
            "details": { "role_ids": ["The selected role ids is invalid."] } } });
        expect(&refused, 422, &[], &body);
    };
    unknown(&strange);
    unknown("6d0cb2a5-0000-4000-8000-000000000000");
    assert_eq!(house.by_key("GET", TX, &key, "").status, 200, "a refused change changes nothing");

    let other = made(&house.gateway, "globex", "admin");
    let foreign = house.set_roles(&other, &id, &[&viewer]);
    let missing = house.set_roles(&house.admin, "key_nobodys", &[&viewer]);
    for response in [&foreign, &missing] {
        expect(response, 404, &[], &refusal("not_found", "There is nothing here."));
    }
    let of_globex = house.by_key("GET", "/v1/roles", &other, "").json();
    let names: Vec<&str> = of_globex["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["admin", "viewer", "strange"], "its own, and those of the configuration");
}

#[test]
fn a_role_that_is_narrowed_or_deleted_reaches_a_live_key() {
    let house = House::open();
    let role = house.create_role("acme", "clerk", &["transactions:read", "transactions:write"]);
    let (id, key) = house.new_key();
    assert_eq!(house.set_roles(&house.admin, &id, &[&role]).status, 200);
    let status = |method: &str| house.by_key(method, TX, &key, "").status;
    assert_eq!((status("GET"), status("POST")), (200, 200));
    house.gateway.json(&["roles", "set", &role, "--scope", "transactions:read"]);
    until("the narrowed role", PATIENCE, || (status("POST") == 403).then_some(()));
    assert_eq!(status("GET"), 200);
    house.gateway.json(&[
        "roles",
        "set",
        &role,
        "--scope",
        "transactions:read",
        "--scope",
        "transactions:write",
    ]);
    until("the widened role", PATIENCE, || (status("POST") == 200).then_some(()));
    house.gateway.json(&["roles", "delete", &role]);
    until("the deleted role", PATIENCE, || (status("GET") == 403).then_some(()));
    // A role of the configuration reaches it with a reload.
    assert_eq!(house.set_roles(&house.admin, &id, &[&house.role("viewer")]).status, 200);
    assert_eq!(status("GET"), 200);
    let text = house.site.read("gateway.toml");
    let viewer = "scopes = [\"roles:read\", \"transactions:read\"]";
    assert!(text.contains(viewer));
    house.site.write("gateway.toml", &text.replace(viewer, "scopes = [\"roles:read\"]"));
    house.gateway.json(&["reload"]);
    until("the reload", PATIENCE, || (status("GET") == 403).then_some(()));
    assert_eq!(house.by_key("GET", "/v1/roles", &key, "").status, 200);
}

#[test]
fn roles_and_permissions_are_listed() {
    let house = House::open();
    let own = house.create_role("acme", "smith", &["api_keys:write"]);
    let roles = house.by_key("GET", "/v1/roles", &house.admin, "");
    let body = json!({ "data": [
        { "id": house.role("admin"), "name": "admin", "description": "Everything", "permissions": ALL },
        { "id": house.role("viewer"), "name": "viewer", "description": "Reading only", "permissions": ["roles:read", "transactions:read"] },
        { "id": own, "name": "smith", "description": null, "permissions": ["api_keys:write"] },
    ] });
    expect(&roles, 200, &[], &body);
    let token = house.signers[0].token(&claims("acme", &["roles:read"]));
    expect(&house.by_token("GET", "/v1/roles", &token, ""), 200, &[], &body);
    let permissions = house.by_key("GET", "/v1/permissions", &house.admin, "");
    let all: Vec<Value> = ALL.iter().map(|name| json!({ "id": name, "name": name })).collect();
    expect(&permissions, 200, &[], &json!({ "data": all }));
}

#[test]
fn tokens_of_all_three_algorithms_pass_where_keys_do_and_wrong_ones_nowhere() {
    let house = House::open();
    for signer in &house.signers {
        let token = signer.token(&claims("acme", &["transactions:read"]));
        house.upstream.forget();
        assert_eq!(house.by_token("GET", TX, &token, "").status, 200, "{}", signer.algorithm);
        let seen = &house.upstream.requests()[0];
        assert_eq!(seen.all("x-tenant-id"), ["acme"]);
        assert_eq!(seen.all("x-auth-subject"), ["user-7"]);
        assert_eq!(seen.all("x-scopes"), ["transactions:read"]);
        assert_eq!(seen.all("authorization"), Vec::<&str>::new());
        expect_forbidden(&house.by_token("POST", TX, &token, ""), "transactions:write");
        expect_forbidden(
            &house.by_token("GET", TX, &signer.token(&claims("acme", &[])), ""),
            "transactions:read",
        );
        let all = signer.token(&claims("acme", &ALL));
        for (method, path, body, status) in [("POST", TX, "", 200), ("GET", "/v1/permissions", "", 200), ("POST", KEYS, CI, 201)] {
            assert_eq!(house.by_token(method, path, &all, body).status, status, "{method} {path}");
        }
        for wrong in wrong_tokens(signer) {
            expect_unauthorized(&house.by_token("GET", TX, &wrong, ""));
        }
        expect_unauthorized(&house.by_key("GET", TX, &token, ""));
    }
    expect_unauthorized(&house.by_token("GET", TX, &house.admin, ""));
    let token = house.signers[2].token(&claims("acme", &["transactions:read"]));
    house.gateway.json(&["tenants", "disable", "acme"]);
    until("the tenant's end", PATIENCE, || {
        (house.by_token("GET", TX, &token, "").status == 403).then_some(())
    });
    assert_eq!(house.by_key("GET", TX, &house.admin, "").status, 403);
}

/// Tokens near a good one of this signer.
fn wrong_tokens(signer: &Signer) -> Vec<String> {
    let good = claims("acme", &["transactions:read"]);
    let changed = |member: &str, value: Value| {
        let mut claims = good.clone();
        claims[member] = value;
        signer.token(&claims)
    };
    let without = |member: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(member);
        signer.token(&claims)
    };
    let stranger = match signer.algorithm {
        "RS256" => Signer::rs256(&signer.kid),
        "ES256" => Signer::es256(&signer.kid),
        _ => Signer::eddsa(&signer.kid),
    };
    let header = |alg: &str| json!({ "alg": alg, "kid": signer.kid, "typ": "JWT" }).to_string();
    let token = signer.token(&good);
    let (signed, _) = token.rsplit_once('.').unwrap();
    vec![
        stranger.token(&good),
        signer.token_of(&header("none"), &good.to_string()),
        signer.token_of(&header("HS256"), &good.to_string()),
        format!("{signed}."),
        signed.to_owned(),
        changed("exp", json!(1_000_000_000)),
        changed("nbf", json!(9_000_000_000_u64)),
        changed("tenant", json!("nobody")),
        changed("tenant", json!(["acme"])),
        changed("sub", json!("")),
        changed("permissions", json!({ "transactions:read": true })),
        without("exp"),
        without("sub"),
        without("tenant"),
    ]
}

#[test]
fn secrets_and_tokens_are_nowhere_in_what_the_gateway_writes() {
    let house = House::open();
    let (_, key) = house.new_key();
    let token = house.signers[1].token(&claims("acme", &ALL));
    assert_eq!(house.by_key("GET", TX, &key, "").status, 403);
    assert_eq!(house.by_token("GET", TX, &token, "").status, 200);
    let lines = || String::from_utf8_lossy(&house.gateway.output()).into_owned();
    until("the access lines", PATIENCE, || {
        let lines = lines();
        (lines.contains("\"status\":403") && lines.contains("\"status\":200") && lines.contains("user-7")).then_some(())
    });
    for secret in [key.as_str(), &house.admin, &token, token.rsplit('.').next().unwrap()] {
        assert!(!lines().contains(secret), "a secret was written");
    }
}

#[test]
fn over_redis_a_key_made_on_one_gateway_is_used_on_the_other_at_once_and_roles_reach_it() {
    let redis = RedisServer::start();
    let upstream = Upstream::echoing();
    let shared = tempfile::tempdir().unwrap();
    let signer = Signer::es256("issuer");
    let sites = [0, 1].map(|_| {
        let site = site_over_redis("hatchpay", upstream.address, &redis, shared.path(), &[]);
        site.write("issuer.jwks.json", &jwks(&[&signer]));
        site
    });
    let [a, b] = [0, 1].map(|i: usize| Gateway::start(&sites[i]));
    a.json(&["tenants", "create", "acme"]);
    let admin = made(&a, "acme", "admin");
    let by = |gateway: &Gateway, method: &str, path: &str, key: &str, body: &str| call(gateway, method, path, &[("X-API-Key", key)], body);
    let created = by(&b, "POST", KEYS, &admin, CI);
    assert_eq!(created.status, 201, "the first key was made on the other gateway");
    let (id, key) = (text(&created, "id"), text(&created, "api_key"));
    expect_forbidden(&by(&a, "GET", TX, &key, ""), "transactions:read");
    let role = a.json(&[
        "roles",
        "create",
        "--tenant",
        "acme",
        "--name",
        "reader",
        "--scope",
        "transactions:read",
    ]);
    let role = role["id"].as_str().unwrap();
    let set = by(
        &b,
        "PUT",
        &format!("{KEYS}/{id}/roles"),
        &admin,
        &json!({ "role_ids": [role] }).to_string(),
    );
    assert_eq!(set.status, 200, "{:?}", set.json());
    for gateway in [&a, &b] {
        until("the role", PATIENCE, || {
            (by(gateway, "GET", TX, &key, "").status == 200).then_some(())
        });
        let token = [(
            "Authorization",
            &*format!("Bearer {}", signer.token(&claims("acme", &["transactions:read"]))),
        )];
        assert_eq!(call(gateway, "GET", TX, &token, "").status, 200);
    }
    a.json(&["roles", "set", role, "--no-scopes"]);
    for gateway in [&a, &b] {
        until("the narrowed role", PATIENCE, || {
            (by(gateway, "GET", TX, &key, "").status == 403).then_some(())
        });
    }
}
