//! Webhook signing secrets of geldstuck: made, rotated, revoked; told to the service; and good for nothing else.

use serde_json::json;

use crate::support::gateway::run;

use super::super::{call, expect, text};
use super::{House, Pair, expect_gone, expect_invalid, expect_missing, open};

const SECRETS: &str = "/v1/webhooks/signing-secrets";

/// What the service is told to sign with.
fn revealed(house: &House, id: &str) -> Result<String, i32> {
    let told = run(&house.site.config(), &["keys", "reveal", id, "--json"], b"");
    if told.code == 0 {
        Ok(told.json()["secret"].as_str().unwrap().to_owned())
    } else {
        Err(told.code)
    }
}

#[test]
fn a_signing_secret_is_shown_once_told_to_the_service_rotated_and_revoked() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let (pair, other) = (Pair::of(gateway, "acme", "live"), Pair::of(gateway, "globex", "live"));
    let made = pair.call(gateway, "POST", SECRETS, r#"{"name":"orders"}"#);
    expect(&made, 201, &[], &json!({ "id": "~sig_", "signing_secret": "~whsec_" }));
    let (id, secret) = (text(&made, "id"), text(&made, "signing_secret"));
    assert_eq!(secret.len(), "whsec_".len() + 43);
    assert_eq!(revealed(&house, &id), Ok(secret.clone()));
    let listed = pair.call(gateway, "GET", SECRETS, "").json();
    assert_eq!(
        listed,
        json!({ "data": [{ "id": id, "name": "orders", "last4": secret[secret.len() - 4..], "expires_at": null }] })
    );
    let rotated = pair.call(gateway, "POST", &format!("{SECRETS}/{id}/rotate"), "");
    assert_eq!(rotated.status, 201, "{:?}", rotated.json());
    let (next, next_secret) = (text(&rotated, "id"), text(&rotated, "signing_secret"));
    assert_ne!(secret, next_secret);
    assert_eq!(
        (revealed(&house, &id), revealed(&house, &next)),
        (Ok(secret.clone()), Ok(next_secret.clone())),
        "both for a day"
    );
    let listed = pair.call(gateway, "GET", SECRETS, "").json();
    assert!(
        listed["data"][0]["id"] == json!(next) && listed["data"][1]["expires_at"].is_string(),
        "{listed}"
    );
    // Another tenant sees, rotates and revokes nothing of it.
    assert_eq!(other.call(gateway, "GET", SECRETS, "").json(), json!({ "data": [] }));
    for verb in ["rotate", "revoke"] {
        expect_gone(&other.call(gateway, "POST", &format!("{SECRETS}/{id}/{verb}"), ""));
    }
    assert_eq!(pair.call(gateway, "POST", &format!("{SECRETS}/{id}/revoke"), "").status, 200);
    assert_eq!(revealed(&house, &id), Err(1), "a revoked one signs nothing");
    assert_eq!(revealed(&house, &next), Ok(next_secret.clone()));
    assert_eq!(revealed(&house, "sig_nobodys"), Err(3));
    let output = String::from_utf8_lossy(&house.gateway.output()).into_owned();
    assert!(!output.contains(&secret) && !output.contains(&next_secret), "a secret was logged");
}

#[test]
fn no_key_signs_and_no_signing_secret_opens_anything() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let pair = Pair::of(gateway, "acme", "live");
    let made = pair.call(gateway, "POST", SECRETS, "");
    let (id, secret) = (text(&made, "id"), text(&made, "signing_secret"));
    // Of a key there is nothing to sign with: only its hash is kept.
    assert_eq!(revealed(&house, &pair.id), Err(2));
    for path in ["/v1/transactions/t1", "/v1/dashboard/overview", "/v1/verification/steps", SECRETS] {
        for presented in [&secret, &id] {
            let bearer = format!("Bearer {presented}");
            let cookie = format!("geldstuck_session={presented}");
            for fields in [
                vec![("x-api-key", presented.as_str()), ("x-api-secret", presented)],
                vec![("x-api-key", &pair.key), ("x-api-secret", presented)],
                vec![("x-api-key", presented), ("x-api-secret", &pair.secret)],
                vec![("Authorization", &bearer)],
                vec![("Cookie", &cookie), ("Sec-Fetch-Site", "same-origin")],
            ] {
                let answer = call(gateway, "GET", path, &fields, "");
                assert_eq!(answer.status, 401, "{path} with {:?}", fields[0].0);
            }
        }
    }
    let login = json!({ "email": "ann@acme.example", "password": secret }).to_string();
    expect_invalid(&call(gateway, "POST", "/v1/auth/login", &[], &login));
    expect_missing(&call(gateway, "GET", "/v1/transactions/t1", &[("x-webhook-secret", &secret)], ""));
    assert_eq!(house.upstream.count(), 0, "nothing of this reaches the service");
    // A scope, which would let it open something, is refused when it is made.
    let create = ["keys", "create", "--tenant", "acme", "--surface", "webhook_secrets", "--scope", "x"];
    assert_eq!(run(&house.site.config(), &create, b"").code, 2);
}
