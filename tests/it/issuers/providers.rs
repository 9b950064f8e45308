//! Tokens in the shapes that well-known providers document, through the real binary: who is admitted, as whom,
//! and which token that looks nearly the same is refused, with the cause that the operator reads.

mod directories;
mod people;
mod workloads;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::issuer::{Signer, base64url};
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

/// A provider as an operator configures it, and what it makes.
struct Provider {
    /// The name of its surface, and the first segment of its route.
    name: &'static str,
    /// `[surfaces.<name>]` without `kind`.
    surface: &'static str,
    /// `[[surfaces.<name>.issuers]]` without `jwks`.
    issuer: &'static str,
    /// Its key set; built from what `signer` publishes.
    set: fn(&Signer) -> Value,
    /// Its key.
    signer: Signer,
    /// The header of its tokens.
    header: Value,
    /// What they claim.
    claims: Value,
    /// What the service is sent.
    seen: &'static [(&'static str, &'static str)],
    /// Changes to the header or the claims, each with the cause for which the token is refused then.
    twins: Vec<(Change, &'static str)>,
}

/// How a twin differs.
enum Change {
    /// A member of the header.
    Header(&'static str, Value),
    /// A claim, by a JSON Pointer.
    Claim(&'static str, Value),
    /// A claim that is not there.
    Without(&'static str),
    /// The signature is of another key.
    Key,
    /// The key's public half is used as a shared secret.
    SharedSecret,
}

impl Provider {
    fn token(&self) -> String {
        self.signer.token_of(&self.header.to_string(), &self.claims.to_string())
    }

    fn twin(&self, change: &Change) -> String {
        let (mut header, mut claims) = (self.header.clone(), self.claims.clone());
        match change {
            Change::Header(name, value) => header[*name] = value.clone(),
            Change::Claim(path, value) => match claims.pointer_mut(path) {
                Some(place) => *place = value.clone(),
                None => claims[&path[1..]] = value.clone(),
            },
            Change::Without(name) => drop(claims.as_object_mut().unwrap().remove(*name)),
            Change::Key => {
                let other = Signer::of_algorithm(&self.signer.kid, self.signer.algorithm);
                return other.token_of(&header.to_string(), &claims.to_string());
            }
            Change::SharedSecret => {
                header["alg"] = json!("HS256");
                let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
                let public = self.signer.jwk().to_string();
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
                return format!("{signed}.{}", base64url(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
            }
        }
        self.signer.token_of(&header.to_string(), &claims.to_string())
    }
}

/// Seconds from now, as providers write times.
fn seconds(offset: i64) -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    i64::try_from(now).unwrap() + offset
}

/// The key without `alg`, as some providers publish it.
fn without_alg(signer: &Signer) -> Value {
    let mut jwk = signer.jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    jwk
}

/// Twins that every provider has.
fn usual_twins() -> Vec<(Change, &'static str)> {
    vec![
        (Change::Key, "bad_signature"),
        (Change::SharedSecret, "wrong_algorithm"),
        (Change::Header("alg", json!("none")), "wrong_algorithm"),
        (Change::Header("kid", json!("another")), "unknown_key"),
        (Change::Header("crit", json!(["exp"])), "unsupported_header"),
        (Change::Claim("/exp", json!("9999999999")), "malformed_time"),
        (Change::Claim("/nbf", json!(seconds(600))), "not_yet_valid"),
        (Change::Claim("/sub", json!("a\u{0}b")), "malformed_subject"),
        (Change::Without("exp"), "no_expiry"),
    ]
}

fn call(gateway: &Gateway, path: &str, token: &str) -> Response {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nX-Role: forged\r\n\r\n").as_bytes());
    client.response().expect("an answer")
}

/// Starts one gateway before all of these and lets each token and each twin through it.
fn admit_and_refuse(providers: &[Provider]) {
    let upstream = Upstream::echoing();
    let (mut tables, mut routes) = (String::new(), String::from("name = \"main\"\nendpoints = [\"http://{address}\"]\n"));
    for provider in providers {
        let (name, surface, issuer) = (provider.name, provider.surface, provider.issuer);
        write!(
            tables,
            "\n[surfaces.{name}]\nkind = \"external_jwt\"\n{surface}\n[[surfaces.{name}.issuers]]\njwks = \"{name}.json\"\n{issuer}\n"
        )
        .unwrap();
        write!(
            routes,
            "\n[[routes]]\npath = \"/{name}/**\"\naccess = {{ surfaces = [\"{name}\"] }}\n"
        )
        .unwrap();
    }
    let plan = Plan {
        tables,
        upstream: routes,
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    for provider in providers {
        site.write(&format!("{}.json", provider.name), &(provider.set)(&provider.signer).to_string());
    }
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let mut expected = Vec::new();
    for provider in providers {
        let name = provider.name;
        upstream.forget();
        let answer = call(&gateway, &format!("/{name}/good"), &provider.token());
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        let seen = &upstream.requests()[0];
        assert_eq!(seen.all("x-tenant-id"), ["acme"], "{name}");
        for (header, value) in provider.seen {
            let wanted: Vec<&str> = Some(*value).filter(|value| !value.is_empty()).into_iter().collect();
            assert_eq!(seen.all(header), wanted, "{name}: {header}");
        }
        upstream.forget();
        for (n, (change, cause)) in provider.twins.iter().enumerate() {
            let path = format!("/{name}/twin-{n}");
            let answer = call(&gateway, &path, &provider.twin(change));
            assert_eq!(answer.status, 401, "{path}, which is refused for {cause}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(cause), "the caller is not told");
            expected.push((path, *cause));
        }
        assert!(upstream.requests().is_empty(), "{name}: a twin reached the service");
    }
    for (path, cause) in expected {
        let line = until("the access line", PATIENCE, || access_line(&gateway, &path));
        assert_eq!(
            (&line["denial"], &line["cause"]),
            (&json!("invalid_token"), &json!(cause)),
            "{path}"
        );
    }
}

pub(super) fn access_line(gateway: &Gateway, path: &str) -> Option<Value> {
    let output = gateway.output();
    let lines = output
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut of_path = lines.filter(|line| line["path"] == path);
    of_path.next()
}
