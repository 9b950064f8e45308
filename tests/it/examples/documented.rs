//! Every example call of the five published documents, as it stands there: only host, credential and id are others.
//! Examples that are written for curl are run by the shell; requests are made for the others. No example is edited.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Response;
use crate::support::site::Site;
use crate::support::upstream::{Then, Upstream};

use super::house::text;
use super::{call, curl, site};

/// An example as it is shipped, with the tenant acme.
struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

impl House {
    fn open(example: &str) -> Self {
        let upstream = Upstream::echoing();
        let site = site(example, upstream.address, &[]);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        if let Ok(keys) = std::fs::read_to_string(folder.join("issuer.jwks.json")) {
            site.write("issuer.jwks.json", &keys);
        }
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        // The documents say nothing of options: these show the whole answer, and nothing else.
        site.write(".curlrc", "silent\nshow-error\ninclude\nhttp1.1\nmax-time = 30\n");
        Self { upstream, site, gateway }
    }

    /// Runs a documented command line. Each pair of `others` is a text of the document, which must be in the line, and the
    /// text that replaces it.
    fn shell(&self, line: &str, host: &str, others: &[(&str, &str)]) -> Response {
        let mut line = line.to_owned();
        let here = format!("http://{}", self.gateway.address("public"));
        for (theirs, ours) in [(host, here.as_str())].iter().chain(others) {
            assert!(line.contains(theirs), "{line} has no {theirs}");
            line = line.replace(theirs, ours);
        }
        let output = Command::new("bash")
            .args(["-c", &line])
            .env("CURL_HOME", self.site.folder())
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        curl::parse(&output.stdout)
    }

    /// A credential by the command line: its key, and its secret half if it has one.
    fn credential(&self, surface: &str, more: &[&str]) -> (String, String) {
        let made = self.gateway.create_key(surface, "acme", more);
        let member = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        (member("key"), member("secret"))
    }

    fn reached_for(&self, tenant: &str, target: &str) {
        let seen = self.upstream.requests();
        let seen = seen.last().expect("the service was asked");
        assert_eq!((seen.target.as_str(), seen.all("X-Tenant-Id")), (target, vec![tenant]));
    }
}

fn expect_status(answer: &Response, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.body.escape_ascii());
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

#[test]
fn geldstuck_every_documented_call_works() {
    let house = House::open("geldstuck");
    let gateway = &house.gateway;
    let (key, secret) = house.credential("keys", &["--mode", "live"]);
    let added = house.shell(
        r#"curl https://api.geldstuck.com/v1/tenants/add-user \
  -H "x-api-key: pk_live_51H..." \
  -H "x-api-secret: sk_live_51H..." \
  -H "Content-Type: application/json" \
  -d '{"name": "Ada", "email": "ada@example.com"}'"#,
        "https://api.geldstuck.com",
        &[("pk_live_51H...", &key), ("sk_live_51H...", &secret)],
    );
    expect_status(&added, 200);
    house.reached_for("acme", "/v1/tenants/add-user");
    let sent = house.upstream.requests().last().unwrap().body.clone();
    assert_eq!(sent, br#"{"name": "Ada", "email": "ada@example.com"}"#);

    let pair = |key: &str, secret: &str, method: &str, path: &str| {
        let fields = [("x-api-key", key), ("x-api-secret", secret), ("Content-Type", "application/json")];
        call(gateway, method, path, &fields, "")
    };
    for path in ["tenants", "kyc", "transactions", "source-of-funds", "webhooks"] {
        let path = format!("/v1/{path}");
        expect_status(&pair(&key, &secret, "GET", &path), 200);
        house.reached_for("acme", &path);
    }
    let made = expect_status(&pair(&key, &secret, "POST", "/v1/tenants/acme/api-keys"), 201);
    let (next, next_secret) = (text(&made, "publishable_key"), text(&made, "secret_key"));
    let ids = pair(&next, &next_secret, "GET", "/v1/tenants/acme/api-keys").json();
    let old = ids["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] != made["id"])
        .unwrap();
    let revoke = format!("/v1/tenants/acme/api-keys/{}/revoke", text(old, "id"));
    expect_status(&pair(&next, &next_secret, "POST", &revoke), 200);
    let refused = pair(&key, &secret, "GET", "/v1/transactions");
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (401, &json!("authentication_error"))
    );

    let fields = [("x-api-key", next.as_str()), ("x-api-secret", &next_secret)];
    let begun = expect_status(&call(gateway, "POST", "/v1/kyc/onfido", &fields, r#"{"subject":"user_1"}"#), 201);
    house.reached_for("acme", "/v1/kyc/onfido");
    assert_eq!(house.upstream.requests().last().unwrap().body, br#"{"subject":"user_1"}"#);
    let bearer = format!("Bearer {}", text(&begun, "session_token"));
    expect_status(
        &call(gateway, "GET", "/v1/verification/steps", &[("Authorization", &bearer)], ""),
        200,
    );

    let account = ["accounts", "create", "--tenant", "acme", "--email", "ada@example.com"];
    assert_eq!(run(&house.site.config(), &account, b"canary-password-4711").code, 0);
    let body = r#"{"email":"ada@example.com","password":"canary-password-4711"}"#;
    let session = expect_status(&call(gateway, "POST", "/v1/auth/login", &[], body), 200);
    let bearer = format!("Bearer {}", text(&session, "token"));
    expect_status(
        &call(gateway, "GET", "/v1/dashboard/overview", &[("Authorization", &bearer)], ""),
        200,
    );
}

#[test]
fn a_service_that_refuses_a_verification_leaves_no_token_for_it() {
    let refusing = Upstream::answering("HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n", Then::Keep);
    let site = site("geldstuck", refusing.address, &[]);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.create_key("keys", "acme", &["--mode", "live"]);
    let fields = [("x-api-key", text(&made, "key")), ("x-api-secret", text(&made, "secret"))];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let begin = |body: &str| call(&gateway, "POST", "/v1/kyc/onfido", &fields, body);
    let refused = begin(r#"{"subject":"user_1"}"#);
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (403, &json!("permission_error"))
    );
    let sessions = gateway.json(&["sessions", "list", "--tenant", "acme"]);
    assert_eq!(sessions["sessions"], json!([]));
    assert_eq!(refusing.count(), 1);
    // A request that is refused does not reach the service.
    assert_eq!(
        (begin("{}").status, call(&gateway, "POST", "/v1/kyc/onfido", &[], "").status),
        (422, 401)
    );
    assert_eq!(refusing.count(), 1);
}

#[test]
fn hatchpay_every_documented_call_works() {
    let house = House::open("hatchpay");
    let gateway = &house.gateway;
    let (admin, _) = house.credential("key", &["--role", "admin"]);
    let by = |key: &str, method: &str, path: &str, body: &str| call(gateway, method, path, &[("X-API-Key", key)], body);
    let body = r#"{
    "name": "Tenant API key",
    "description": "Default tenant API key"
}"#;
    let made = expect_status(&by(&admin, "POST", "/v1/api-key/keys", body), 201);
    assert_eq!(
        (text(&made, "name"), text(&made, "description")),
        ("Tenant API key".into(), "Default tenant API key".into())
    );
    let key = text(&made, "api_key");
    assert_eq!(by(&key, "GET", "/roles", "").status, 403, "it has no role yet");
    let body = r#"{
    "role_ids": [
        "ea13f326-8166-4687-9dec-16f76f183ced"
    ]
}"#;
    expect_status(
        &by(&admin, "PUT", &format!("/v1/api-key/keys/{}/roles", text(&made, "id")), body),
        200,
    );
    for path in ["/roles", "/permissions"] {
        let listed = expect_status(&by(&key, "GET", path, ""), 200);
        assert!(!listed["data"].as_array().unwrap().is_empty());
    }
}

#[test]
fn heldsway_every_documented_call_works() {
    let house = House::open("heldsway");
    let (key, secret) = house.credential("credentials", &["--scope", "reports:read"]);
    let issued = house.shell(
        r#"curl -X POST https://heldsway.com/api/v1/auth/token \
  -H "Content-Type: application/json" \
  -d '{
    "api_key": "hs_key_xxxxxxxxxxxxxxxx",
    "api_secret": "hs_secret_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
  }'"#,
        "https://heldsway.com",
        &[
            ("hs_key_xxxxxxxxxxxxxxxx", &key),
            ("hs_secret_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &secret),
        ],
    );
    let issued = expect_status(&issued, 200);
    let token = text(&issued["data"], "access_token");
    let mut shape = issued;
    shape["data"]["access_token"] = json!("");
    let documented = json!({
        "success": true,
        "message": "Token issued successfully.",
        "data": { "access_token": "", "token_type": "Bearer", "expires_in": 14400, "scopes": ["reports:read"] }
    });
    assert_eq!(shape, documented);
    assert!(
        token.len() >= 62 && token.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{}",
        token.len()
    );
    let report = house.shell(
        r#"curl https://heldsway.com/api/v1/affiliate/analytics?section=stats \
  -H "Authorization: Bearer AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIj""#,
        "https://heldsway.com",
        &[("AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIj", &token)],
    );
    expect_status(&report, 200);
    house.reached_for("acme", "/api/v1/affiliate/analytics?section=stats");
}

#[test]
fn holdyn_every_documented_call_works() {
    let house = House::open("holdyn");
    let gateway = &house.gateway;
    let scopes = ["transactions:read", "access_tokens:write"]
        .map(|scope| ["--scope", scope])
        .concat();
    let (key, _) = house.credential("api", &[&["--mode", "test"], &scopes[..]].concat());
    let listed = house.shell(
        r#"curl https://api.holdyn.io/api/v1/b2b/transactions \
-H "Authorization: Bearer htst_abc…""#,
        "https://api.holdyn.io",
        &[("htst_abc…", &key)],
    );
    expect_status(&listed, 200);
    house.reached_for("acme", "/api/v1/b2b/transactions");

    let bearer = format!("Bearer {key}");
    let body = r#"{"role":"payer","permissions":["view_transaction","fund_transaction"]}"#;
    let path = "/api/v1/b2b/transactions/6432fb/access-tokens";
    let made = expect_status(&call(gateway, "POST", path, &[("Authorization", &bearer)], body), 201);
    let exchanged = house.shell(
        r#"curl -X POST https://api.holdyn.io/api/v1/b2b/portal/session \
-H "X-Access-Token: htpk_live_…""#,
        "https://api.holdyn.io",
        &[("htpk_live_…", &text(&made, "access_token"))],
    );
    let session = expect_status(&exchanged, 200);
    assert_eq!(session["permissions"].as_array().unwrap().len(), 2);
    assert!(session["expires_at"].is_string() && session["role"] == "payer" && session["transaction"].is_object());
    let token = text(&session, "session_token");
    for fields in [
        [("X-Portal-Session", token.clone())],
        [("Authorization", format!("Bearer {token}"))],
    ] {
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        expect_status(&call(gateway, "GET", "/api/v1/b2b/portal/transaction", &fields, ""), 200);
    }
    let person = r#"{"email":"ops@acme.inc","password":"canary-password-4711"}"#;
    for (path, status) in [("signup", 201), ("login", 200)] {
        let answer = call(gateway, "POST", &format!("/api/v1/b2b/auth/{path}"), &[], person);
        let bearer = format!("Bearer {}", text(&expect_status(&answer, status), "session_token"));
        let overview = call(gateway, "GET", "/api/v1/b2b/dashboard/overview", &[("Authorization", &bearer)], "");
        expect_status(&overview, 200);
    }
}

/// The document calls by axios, which sends these fields with its `{}`.
#[test]
fn portal_every_documented_call_works() {
    let house = House::open("portal");
    let (key, _) = house.credential("custodian", &["--mode", "live"]);
    let bearer = format!("Bearer {key}");
    let post = |path: &str| {
        let fields = [
            ("Accept", "application/json, text/plain, */*"),
            ("Content-Type", "application/json"),
            ("Authorization", &bearer),
            ("User-Agent", "axios/1.7.7"),
            ("Accept-Encoding", "gzip, compress, deflate, br"),
            ("Connection", "keep-alive"),
        ];
        let answer = call(&house.gateway, "POST", path, &fields, "{}");
        assert!((200..300).contains(&answer.status), "{}", answer.body.escape_ascii());
        answer.json()
    };
    let made = post("/api/v1/custodians/clients");
    let client = text(&made, "id");
    let again = post(&format!("/api/v1/custodians/clients/{client}/session"));
    assert_eq!(text(&again, "id"), client);
    for session in [&made, &again] {
        let bearer = format!("Bearer {}", text(session, "clientSessionToken"));
        let answer = call(&house.gateway, "GET", "/api/v1/clients/me", &[("Authorization", &bearer)], "");
        expect_status(&answer, 200);
        let seen = house.upstream.requests();
        assert_eq!(seen.last().unwrap().all("X-Auth-Subject"), [client.as_str()]);
    }
}
