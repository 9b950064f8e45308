//! Streams opened with tokens that others sign end with the key they were signed by.

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::issuer::{Signer, jwks};
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
