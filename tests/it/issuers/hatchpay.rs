//! The example of keys with roles beside tokens of the tenants' own issuer: either passes on the same routes.

use serde_json::json;

use super::live::claims_of;
use crate::support::gateway::Gateway;
use crate::support::issuer::{Signer, jwks};
use crate::support::raw::{Client, Response};
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

const GATEWAY: &str = include_str!("../../../examples/hatchpay/gateway.toml");
const SERVICE: &str = include_str!("../../../examples/hatchpay/upstreams/hatchpay.toml");
const KEYS: &str = include_str!("../../../examples/hatchpay/issuer.jwks.json");

fn call(gateway: &Gateway, method: &str, path: &str, credential: &str) -> Response {
    let mut client = Client::connect(gateway.address("public"));
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{credential}\r\nContent-Length: 0\r\n\r\n").as_bytes());
    client.response().expect("an answer")
}

#[test]
fn hatchpay_takes_a_key_with_a_role_or_a_token_with_permissions_on_the_same_routes() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    site.write("gateway.toml", &GATEWAY.replace("127.0.0.1:8080", "127.0.0.1:0"));
    site.write(
        "upstreams/main.toml",
        &SERVICE.replace("127.0.0.1:9000", &upstream.address.to_string()),
    );
    site.write("issuer.jwks.json", KEYS);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.create_key("key", "acme", &["--role", "viewer"]);
    let key = format!("X-API-Key: {}", made["key"].as_str().unwrap());
    let path = "/v1/transactions/t1";
    assert_eq!(call(&gateway, "GET", path, &key).status, 200);
    assert_eq!(call(&gateway, "POST", path, &key).status, 403, "a viewer only reads");

    let signer = Signer::es256("issuer");
    let token = |permissions: &[&str]| {
        let mut claims = claims_of("acme");
        claims["permissions"] = json!(permissions);
        format!("Authorization: Bearer {}", signer.token(&claims))
    };
    let (reader, writer) = (token(&["transactions:read"]), token(&["transactions:write"]));
    assert_eq!(call(&gateway, "GET", path, &reader).status, 401, "the shipped key set is empty");
    site.write("issuer.jwks.json", &jwks(&[&signer]));
    until("the issuer's keys", PATIENCE, || {
        (call(&gateway, "GET", path, &reader).status == 200).then_some(())
    });
    let seen = upstream.requests().pop().unwrap();
    assert_eq!(
        (seen.all("x-tenant-id"), seen.all("x-auth-subject")),
        (vec!["acme"], vec!["user-7"])
    );
    assert_eq!(seen.all("x-scopes"), ["transactions:read"]);
    assert_eq!(call(&gateway, "POST", path, &reader).status, 403);
    assert_eq!(call(&gateway, "POST", path, &writer).status, 200);
    assert_eq!(
        call(&gateway, "GET", path, &format!("{key}\r\n{reader}")).status,
        400,
        "two credentials are one too many"
    );
}
