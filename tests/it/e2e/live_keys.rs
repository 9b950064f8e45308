//! Streams opened with tokens that others sign end with the key they were signed by.

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::issuer::{Signer, jwks};
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::websocket::{self, WebSocket};

use super::live::ended_by;
use super::upgrade::{line, open};

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/ws/**"
methods = ["GET"]
access = { surfaces = ["jwt"], scopes = ["orders:read"] }
upgrade = "websocket"
"#;

const SURFACES: &str = r#"
[surfaces.jwt]
kind = "external_jwt"

[[surfaces.jwt.issuers]]
jwks = "keys.json"
scopes_claim = "permissions"
"#;

#[test]
fn a_withdrawn_key_of_an_issuer_ends_its_streams_and_no_others() {
    let (upstream, _) = websocket::echoing();
    let plan = Plan {
        tables: SURFACES.to_owned(),
        upstream: ROUTES.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let (kept, leaked) = (Signer::es256("kept"), Signer::eddsa("leaked"));
    site.write("keys.json", &jwks(&[&kept, &leaked]));
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let opened = |signer: &Signer, path: &str| -> WebSocket {
        let exp = jiff::Timestamp::now().as_second() + 600;
        let claims = json!({ "sub": "user-7", "tenant": "acme", "permissions": ["orders:read"], "exp": exp });
        open(&gateway, path, &[("Authorization", &format!("Bearer {}", signer.token(&claims)))])
    };
    let mut other = opened(&kept, "/ws/kept");
    let withdrawn = ended_by(&gateway, opened(&leaked, "/ws/leaked"), "/ws/leaked", || {
        site.write("keys.json", &jwks(&[&kept]));
        assert_eq!(gateway.run(&["reload"]).code, 0);
    });
    assert_eq!(withdrawn, (1008, json!("invalid_token")));
    assert_eq!(line(&gateway, "/ws/leaked")["cause"], "no_longer_trusted");
    assert!(other.echoes("signed by another key"));
}

const TWO_ISSUERS: &str = r#"
[surfaces.jwt]
kind = "external_jwt"

[[surfaces.jwt.issuers]]
issuer = "https://first.test"
jwks = "first.json"
tenants = ["acme"]
scopes_claim = "permissions"

[[surfaces.jwt.issuers]]
issuer = "https://second.test"
jwks = "second.json"
tenants = ["globex"]
scopes_claim = "permissions"
"#;

/// Public keys are public: whoever runs one issuer can publish the keys of all others.
#[test]
fn j22_a_key_counts_only_for_the_issuer_whose_token_it_signed() {
    let (upstream, _) = websocket::echoing();
    let plan = Plan {
        tables: TWO_ISSUERS.to_owned(),
        upstream: ROUTES.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    // One name and one algorithm, so that nothing but the issuer tells the keys apart.
    let (first, second) = (Signer::eddsa("k"), Signer::eddsa("k"));
    site.write("first.json", &jwks(&[&first]));
    site.write("second.json", &jwks(&[&second]));
    let gateway = Gateway::start(&site);
    for tenant in ["acme", "globex"] {
        gateway.json(&["tenants", "create", tenant]);
    }
    let bearer = |signer: &Signer, issuer: &str, tenant: &str| {
        let exp = jiff::Timestamp::now().as_second() + 600;
        let claims = json!({ "iss": issuer, "sub": "user-7", "tenant": tenant, "permissions": ["orders:read"], "exp": exp });
        format!("Bearer {}", signer.token(&claims))
    };
    let of_first = bearer(&first, "https://first.test", "acme");
    let of_second = bearer(&second, "https://second.test", "globex");
    let forged = [
        bearer(&first, "https://second.test", "globex"),
        bearer(&second, "https://first.test", "acme"),
    ];
    let opened = |bearer: &str, path: &str| open(&gateway, path, &[("Authorization", bearer)]);
    let refused = |bearer: &str, path: &str| {
        let client = Client::connect(gateway.address("plain"));
        match WebSocket::open(client, path, &[("Authorization", bearer)]) {
            Ok(_) => panic!("{path} was opened"),
            Err(response) => assert_eq!(response.status, 401, "{path}"),
        }
    };
    for token in &forged {
        refused(token, "/ws/forged");
    }
    let mut kept = opened(&of_second, "/ws/second");
    let withdrawn = ended_by(&gateway, opened(&of_first, "/ws/first"), "/ws/first", || {
        site.write("first.json", &jwks(&[&Signer::eddsa("k")]));
        site.write("second.json", &jwks(&[&second, &first]));
        assert_eq!(gateway.run(&["reload"]).code, 0);
    });
    assert_eq!(withdrawn, (1008, json!("invalid_token")));
    refused(&of_first, "/ws/withdrawn");
    assert!(kept.echoes("its own issuer still publishes its key"));
    assert!(opened(&of_second, "/ws/again").echoes("and it is admitted anew"));
}
