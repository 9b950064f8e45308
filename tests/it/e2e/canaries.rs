//! No secret in any byte the gateway writes: output, metrics, answers, files (docs/threats.md K7).

use serde_json::json;

use rustix::process::Signal;

use crate::support::canary::Canaries;
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, SESSION_SECRET, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{call, text};

#[test]
fn no_planted_secret_is_in_anything_the_gateway_writes() {
    let upstream = Upstream::echoing();
    let (site, mut gateway) = start(&upstream);
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
    let output = ended(&mut gateway);
    assert!(output.len() > 10_000, "the access log is not there");
    found.extend(canaries.found_in("output", &output));
    drop(gateway);
    found.extend(canaries.found_below(site.folder(), &["session.secret", "pepper"]));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_credential_in_the_path_is_masked_in_the_log_and_other_paths_are_whole() {
    let upstream = Upstream::echoing();
    let (_site, mut gateway) = start(&upstream);
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let mut canaries = Canaries::default();
    let key = text(&made, "key");
    // Percent-encoded letters are decoded before the match; the service sees the canonical form.
    for secret in [&key, "tlive_canary0123456789", "4111111111111111", "378282246310005"] {
        canaries.plant(secret);
        for target in [
            format!("/public/{secret}"),
            format!("/v1/orders/{secret}"),
            format!("/nowhere/{secret}/state"),
            format!("/public/%74live_canary0123456789;x={secret}"),
        ] {
            call(&gateway, "GET", &target, &[]);
            call(&gateway, "GET", &target, &[("Authorization", &format!("Bearer {key}"))]);
        }
    }
    let whole = "/public/01890a5d-ac96-774b-bcce-b302099a8057/transactions/key_0199b6f2d3a04c7f8e5b";
    call(&gateway, "GET", whole, &[]);
    let output = ended(&mut gateway);
    assert_eq!(canaries.found_in("output", &output), Vec::<String>::new());
    let output = String::from_utf8(output).unwrap();
    let paths: Vec<String> = output
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?["path"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    for shown in ["/public/***", "/v1/orders/***", "/nowhere/***/state", whole] {
        assert!(paths.iter().any(|path| path == shown), "{shown}: {paths:?}");
    }
    assert!(paths.len() >= 25, "{paths:?}");
}

/// A gateway that ends without a pause when it is told to.
fn start(upstream: &Upstream) -> (Site, Gateway) {
    let plan = Plan {
        tables: "\n[limits]\ndrain_delay = \"0s\"\n".to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    (site, gateway)
}

/// All it wrote, to its last line.
fn ended(gateway: &mut Gateway) -> Vec<u8> {
    gateway.signal(Signal::TERM);
    gateway.wait_exit(PATIENCE);
    until("the last of its output", PATIENCE, || {
        let output = gateway.output();
        crate::support::canary::contains(&output, b"drained").then_some(output)
    })
}

/// What would break a log that does not escape, or a reader of it (docs/threats.md K9).
const HOSTILE: [&str; 6] = ["\"}", "\\", "\u{2028}", "\u{9b}31m", "%0a{\"level\":\"info\"}", "\u{202e}"];

#[test]
fn each_request_has_one_access_line_and_each_line_is_json() {
    let upstream = Upstream::echoing();
    let (_site, mut gateway) = start(&upstream);
    let mut statuses = Vec::new();
    for hostile in HOSTILE {
        let mut client = Client::connect(gateway.address("plain"));
        client.send(
            format!(
                "GET /public/{hostile} HTTP/1.1\r\nHost: {hostile}\r\nUser-Agent: {hostile}\r\nAuthorization: Bearer {hostile}\r\n\r\n"
            )
            .as_bytes(),
        );
        statuses.push(client.final_response_to("GET").expect("an answer").status);
        statuses.push(call(&gateway, "GET", "/public/x", &[("User-Agent", hostile), ("X-Request-Id", hostile)]).status);
        statuses.push(call(&gateway, "GET", "/v1/orders/1", &[("Authorization", &format!("Bearer {hostile}"))]).status);
    }
    let output = String::from_utf8(ended(&mut gateway)).expect("text");
    let lines: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let mut logged: Vec<u64> = lines
        .iter()
        .filter(|l| l.get("request_id").is_some())
        .map(|l| l["status"].as_u64().unwrap())
        .collect();
    let mut told: Vec<u64> = statuses.iter().map(|s| u64::from(*s)).collect();
    logged.sort_unstable();
    told.sort_unstable();
    assert_eq!(logged, told, "one line for each answer, with its status");
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
