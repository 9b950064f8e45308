//! No secret in any byte the gateway writes: output, metrics, answers, files (hardening K7, S31).

use serde_json::json;

use crate::support::canary::Canaries;
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{SESSION_SECRET, Site};
use crate::support::upstream::Upstream;

use super::{call, text};

#[test]
fn no_planted_secret_is_in_anything_the_gateway_writes() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let mut canaries = Canaries::default();
    canaries.plant(SESSION_SECRET);
    gateway.json(&["tenants", "create", "acme"]);
    let mut answers = Vec::new();
    let mut say = |target: &str, fields: &[(&str, &str)]| {
        let response = call(&gateway, "GET", target, fields);
        answers.extend_from_slice(format!("{:?}", response.fields).as_bytes());
        if response.status != 200 {
            answers.extend_from_slice(&response.body);
        }
    };
    for n in 0..100 {
        let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
        let (id, key) = (text(&made, "id"), text(&made, "key"));
        canaries.plant(&key);
        let bearer = format!("Bearer {key}");
        say("/v1/orders/1", &[("Authorization", &bearer)]);
        say("/v1/payments/1", &[("Authorization", &bearer)]);
        say(&format!("/v1/orders/1?api_key={key}"), &[]);
        say("/v1/orders/1", &[("Authorization", &bearer), ("X-Api-Token", &key)]);
        say("/v1/orders/1", &[("Authorization", &format!("Bearer {key}x"))]);
        say(
            "/public/x",
            &[("Referer", &format!("https://x/?k={key}")), ("Authorization", &bearer)],
        );
        if n % 10 == 0 {
            gateway.json(&["keys", "revoke", &id]);
            say("/v1/orders/1", &[("Authorization", &bearer)]);
        }
        let wrong = format!("tlive_canary{n:037}wrong1");
        canaries.plant(&wrong);
        say("/v1/orders/1", &[("Authorization", &format!("Bearer {wrong}"))]);
        say("/v1/pairs/1", &[("x-api-key", "pk_live_x"), ("x-api-secret", &wrong)]);
    }
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({ "sub": "x", "kind": "dashboard_session", "iat": now, "exp": now + 60 });
    let key = jsonwebtoken::EncodingKey::from_secret(SESSION_SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    canaries.plant(&token);
    say("/v1/session/x", &[("Authorization", &format!("Bearer {token}"))]);
    say("/v1/session/x", &[("Cookie", &format!("session={token}"))]);
    if let Ok(pepper) = std::fs::read_to_string(site.folder().join("state/pepper")) {
        canaries.plant(pepper.trim());
    }
    assert!(canaries.len() >= 200, "{}", canaries.len());

    let mut metrics = Client::connect(gateway.probes());
    metrics.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = metrics.final_response_to("GET").expect("metrics").body;
    assert!(!metrics.is_empty());
    let listed = gateway.run(&["keys", "list", "--json"]).stdout + &gateway.run(&["keys", "list"]).stdout;
    let mut found = canaries.found_in("metrics", &metrics);
    found.extend(canaries.found_in("answers", &answers));
    found.extend(canaries.found_in("lists", listed.as_bytes()));
    found.extend(canaries.found_in("what went upstream", &without_plain_text(&upstream)));
    let output = gateway.output();
    assert!(output.len() > 10_000, "the access log is not there");
    found.extend(canaries.found_in("output", &output));
    drop(gateway);
    found.extend(canaries.found_below(site.folder(), &["session.secret", "pepper"]));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What the upstream was sent, without the two places in which a client may write what it likes: the
/// query and `Referer` are the client's own words to the service.
fn without_plain_text(upstream: &Upstream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in upstream.requests() {
        for (name, value) in request.fields.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("referer")) {
            bytes.extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
    }
    bytes
}
