//! `examples/geldstuck`: pairs that rotate, people with sessions in a header or a cookie, verification.

mod browser;
mod matrix;
mod pairs;
mod people;
mod rotation;
mod signing;

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Response;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

use super::{call, expect, site, text};

const KEYS: &str = "/v1/tenants/acme/api-keys";
const EMAIL: &str = "ann@acme.example";
const PASSWORD: &str = "canary-password-4711";

/// The gateway of the example with the tenants acme and globex.
struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

fn open(edits: &[(&str, &str)]) -> House {
    let upstream = Upstream::echoing();
    let site = site("geldstuck", upstream.address, edits);
    let gateway = Gateway::start(&site);
    for tenant in ["acme", "globex"] {
        gateway.json(&["tenants", "create", tenant]);
    }
    House { upstream, site, gateway }
}

/// A key pair as its caller holds it.
#[derive(Debug, Clone)]
struct Pair {
    id: String,
    key: String,
    secret: String,
}

impl Pair {
    /// Made by an operator.
    fn of(gateway: &Gateway, tenant: &str, mode: &str) -> Self {
        let made = gateway.create_key("keys", tenant, &["--mode", mode]);
        let member = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made}")).to_owned();
        Self {
            id: member("id"),
            key: member("key"),
            secret: member("secret"),
        }
    }

    /// Made through the API.
    fn told(answer: &Response) -> Self {
        Self {
            id: text(answer, "id"),
            key: text(answer, "publishable_key"),
            secret: text(answer, "secret_key"),
        }
    }

    fn fields(&self) -> [(&str, &str); 2] {
        [("x-api-key", &self.key), ("x-api-secret", &self.secret)]
    }

    fn call(&self, gateway: &Gateway, method: &str, path: &str, body: &str) -> Response {
        call(gateway, method, path, &self.fields(), body)
    }

    fn status(&self, gateway: &Gateway) -> u16 {
        self.call(gateway, "GET", "/v1/transactions/t1", "").status
    }
}

/// Makes the account of Ann in acme.
fn ann(site: &Site) -> String {
    let create = ["accounts", "create", "--tenant", "acme", "--email", EMAIL, "--json"];
    let made = run(&site.config(), &create, PASSWORD.as_bytes());
    assert_eq!(made.code, 0, "{made:?}");
    made.json()["id"].as_str().unwrap().to_owned()
}

fn log_in_with(gateway: &Gateway, fields: &[(&str, &str)]) -> Response {
    let body = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    call(gateway, "POST", "/v1/auth/login", fields, &body)
}

/// Logs Ann in: the token.
fn log_in(gateway: &Gateway) -> String {
    let answer = log_in_with(gateway, &[]);
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    text(&answer, "token")
}

fn with_bearer(gateway: &Gateway, method: &str, path: &str, token: &str, body: &str) -> Response {
    call(gateway, method, path, &[("Authorization", &format!("Bearer {token}"))], body)
}

/// With the session's cookie and these fields beside it.
fn with_cookie(gateway: &Gateway, method: &str, path: &str, token: &str, more: &[(&str, &str)]) -> Response {
    let cookie = format!("geldstuck_session={token}");
    let mut fields = vec![("Cookie", cookie.as_str())];
    fields.extend(more);
    let body = if method == "POST" && path == KEYS { "{}" } else { "" };
    call(gateway, method, path, &fields, body)
}

fn refusal(kind: &str, message: &str) -> Value {
    json!({ "error": { "type": kind, "message": message } })
}

const MISSING: &str = r#"Bearer realm="api""#;
const INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;

fn expect_missing(answer: &Response) {
    let body = refusal("authentication_error", "API keys or a session are required.");
    expect(answer, 401, &[("www-authenticate", MISSING)], &body);
}

/// The one answer to every credential that is not good, whatever is wrong with it.
fn expect_invalid(answer: &Response) {
    let body = refusal("authentication_error", "The credential is not valid.");
    expect(answer, 401, &[("www-authenticate", INVALID)], &body);
}

fn expect_foreign(answer: &Response) {
    expect(answer, 403, &[], &refusal("permission_error", "Another tenant cannot be managed."));
}

fn expect_gone(answer: &Response) {
    expect(answer, 404, &[], &refusal("not_found_error", "There is nothing here."));
}
