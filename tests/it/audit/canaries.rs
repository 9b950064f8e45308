//! With `url = "full"`, every field and every body recorded: no credential of any kind is in any file, in the log, on standard
//! output, or in what the commands print, wherever in a request it was planted.

use std::fmt::Write as _;
use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::canary::{Canaries, contains};
use crate::support::gateway::{Gateway, run};
use crate::support::raw::Client;
use crate::support::site::{Plan, SESSION_SECRET, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

use super::kept;

const TABLES: &str = r#"
[audit]
directory = "state/audit"
url = "full"
headers = ["user-agent", "x-note", "referer", "accept", "content-type"]
stdout = true
segment = "64KiB"
durable = "100ms"
checkpoint = "1s"

[surfaces.old]
kind = "api_key"
carry = ["header:X-Old-Key"]
keys = "imported"
prefixes = ["old_"]

[surfaces.portal]
kind = "session_jwt"
carry = ["header:X-Portal-Session"]
secrets = "file:portal.secret"
token_kind = "portal_session"
record_surface = "api"
"#;

const PORTAL_SECRET: &str = "canary-portal-secret-0123456789abcdef0123456789";

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/recorded/**"
methods = ["GET", "POST"]
access = "public"
[routes.audit]
body = { types = ["application/json", "application/x-www-form-urlencoded", "text/plain", "application/x-ndjson"] }
answer = { types = ["application/json", "application/x-www-form-urlencoded", "text/plain", "application/x-ndjson"] }

[[routes]]
path = "/v1/orders/**"
methods = ["GET", "POST"]
access = { surfaces = ["api", "session", "pair", "old", "portal"] }
[routes.audit]
body = {}
answer = {}
"#;

struct House {
    _upstream: Upstream,
    site: Site,
    gateway: Gateway,
    sent: usize,
}

impl House {
    fn open() -> Self {
        // What it is sent comes back as the answer, so that answers have the secrets too.
        let upstream = Upstream::scripted(When::Body, |request, stream| {
            let media_type = request.all("content-type").first().copied().unwrap_or("text/plain").to_owned();
            let length = request.body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
            )?;
            stream.write_all(&request.body)?;
            Ok(Then::Keep)
        });
        let plan = Plan {
            tables: TABLES.to_owned(),
            upstream: ROUTES.to_owned(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        site.write("portal.secret", PORTAL_SECRET);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        Self {
            _upstream: upstream,
            site,
            gateway,
            sent: 0,
        }
    }

    fn send(&mut self, target: &str, fields: &str, media_type: &str, body: &str) -> u16 {
        let mut client = Client::connect(self.gateway.address("plain"));
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        client.send(head.as_bytes());
        client.send(body.as_bytes());
        self.sent += 1;
        client.final_response_to("POST").expect("an answer").status
    }

    /// The credentials that admit a caller, each with the fields that carry it and what of it is secret.
    fn credentials(&self, run: &str) -> Vec<(&'static str, String, Vec<String>)> {
        let text = |made: &Value, member: &str| made[member].as_str().unwrap().to_owned();
        let more = ["--mode", "live", "--scope", "orders:read"];
        let made = self.gateway.create_key("api", "acme", &more);
        let (id, key) = (text(&made, "id"), text(&made, "key"));
        let pair = self.gateway.create_key("pair", "acme", &more);
        let (publishable, secret) = (text(&pair, "key"), text(&pair, "secret"));
        let imported = format!("old_c4n4ry.imported/key+0123456789-{run}");
        let hash = digest(&SHA256, imported.as_bytes());
        let hash = hash.as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        self.gateway
            .json(&["keys", "import", "--surface", "old", "--tenant", "acme", "--sha256", &hash]);
        let token = |kind: &str, secret: &str| {
            let now = jiff::Timestamp::now().as_second();
            let claims = json!({ "sub": id, "kind": kind, "iat": now, "exp": now + 600 });
            let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
        };
        let (session, portal) = (token("dashboard_session", SESSION_SECRET), token("portal_session", PORTAL_SECRET));
        vec![
            ("api", format!("Authorization: Bearer {key}\r\n"), vec![key]),
            (
                "pair",
                format!("x-api-key: {publishable}\r\nx-api-secret: {secret}\r\n"),
                vec![secret],
            ),
            ("old", format!("X-Old-Key: {imported}\r\n"), vec![imported]),
            ("session", format!("Authorization: Bearer {session}\r\n"), vec![session]),
            ("portal", format!("X-Portal-Session: {portal}\r\n"), vec![portal]),
        ]
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Sends a secret in each place of a request that may be recorded, but for the path.
fn plant_everywhere(house: &mut House, secret: &str) {
    let (once, twice) = (percent(secret), percent(&percent(secret)));
    for target in [
        format!("/recorded/x?visible-query=1&q={once}"),
        format!("/recorded/x?q={twice}&{once}&{once}=2"),
        format!("/recorded/x?q=%7B%22note%22%3A%22{once}%22%7D&token={once}"),
        format!("/nowhere?q={once}"),
    ] {
        house.send(&target, "", "text/plain", "");
    }
    for fields in [
        format!("X-Note: visible-note said {secret} twice {secret}\r\nX-Note: {secret}\r\n"),
        format!("User-Agent: agent/1 ({secret})\r\nReferer: https://x.example/?visible-referer=1&k={once}\r\nAccept: {secret}\r\n"),
        format!("Cookie: a={secret}; b={once}\r\nAuthorization: Bearer {secret}\r\nX-Unlisted: {secret}\r\n"),
        format!(
            "Authorization: Digest username=\"a\", response=\"{secret}\"\r\nProxy-Authorization: Basic {}\r\n",
            STANDARD.encode(secret)
        ),
    ] {
        assert_eq!(house.send("/recorded/x", &fields, "text/plain", ""), 200);
        house.send("/v1/orders/1", &fields, "application/json", "{}");
    }
    let inner = json!({ "note": secret, "list": [[secret]] }).to_string();
    let nested = json!({
        "visible-json": secret, "list": [1, [{ "text": format!("use {secret}, please") }]], secret: 1, "inner": inner, "url": format!("https://x/?k={once}"),
        "password": "c4n4ry-of-a-name", "card": { "cvv": "c4n4ry-of-a-name" },
    });
    for (media_type, body) in [
        ("application/json", nested.to_string()),
        ("application/x-ndjson", format!("{nested}\n{nested}\n")),
        (
            "application/x-www-form-urlencoded",
            format!(
                "visible-form=1&a={once}&{once}=2&j={}&password=c4n4ry-of-a-name",
                percent(&nested.to_string())
            ),
        ),
        (
            "text/plain",
            format!("visible-text\nAuthorization: Bearer {secret}\npassword: c4n4ry-of-a-name\n{secret}\n{once}\n{nested}\n"),
        ),
        // These are told without their text.
        ("application/json", format!("{{\"broken\": \"{secret}\"")),
        ("multipart/form-data; boundary=b", format!("--b\r\n\r\n{secret}\r\n--b--\r\n")),
    ] {
        assert_eq!(house.send("/recorded/x", "", media_type, &body), 200);
    }
}

#[test]
fn no_credential_is_in_anything_that_is_kept_or_shown_whatever_is_recorded() {
    let mut house = House::open();
    let credentials = house.credentials("first");
    let mut canaries = Canaries::default();
    canaries.plant("c4n4ry-of-a-name");
    canaries.plant(SESSION_SECRET);
    canaries.plant(PORTAL_SECRET);
    let mut secrets: Vec<String> = Vec::new();
    for (surface, fields, of_credential) in &credentials {
        assert_eq!(
            house.send("/v1/orders/1", fields, "application/json", r#"{"a":1}"#),
            200,
            "{surface}"
        );
        secrets.extend(of_credential.iter().cloned());
    }
    let basic = STANDARD.encode("ann:c4n4ry-of-basic");
    secrets.extend([format!("Basic {basic}"), "4111 1111 1111 1111".to_owned()]);
    // A key of somebody else, that is refused.
    secrets.push("tlive_c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ry".to_owned());
    for secret in &secrets {
        plant_everywhere(&mut house, secret);
        canaries.plant(secret.strip_prefix("Basic ").unwrap_or(secret));
        canaries.plant(&percent(secret));
        if let Some(signature) = secret.rsplit('.').next().filter(|_| secret.starts_with("eyJ")) {
            canaries.plant(signature);
        }
    }
    // In the path.
    let again = house.credentials("second");
    for (_, _, of_credential) in &again {
        let secret = &of_credential[0];
        house.send(&format!("/recorded/{}/x", percent(secret)), "", "text/plain", "");
        house.send(&format!("/nowhere/{}", percent(secret)), "", "text/plain", "");
        canaries.plant(secret);
        canaries.plant(&percent(secret));
    }
    // What an operator types wrongly.
    let key = secrets[0].clone();
    for arguments in [["keys", "revoke", &key], ["tenants", "disable", &key], ["explain", &key, "--json"]] {
        assert_ne!(house.gateway.run(&arguments).code, 0);
    }
    let sent = house.sent;
    until("an entry of each request", PATIENCE, || {
        let queried = house
            .gateway
            .run(&["audit", "query", "--kind", "request", "--limit", "10000", "--json"]);
        (queried.stdout.lines().count() >= sent).then_some(())
    });
    house.gateway.signal(Signal::TERM);
    assert!(house.gateway.wait_exit(PATIENCE).success());
    let config = house.site.config();
    let queried = run(&config, &["audit", "query", "--limit", "10000", "--json"], b"");
    let in_words = run(&config, &["audit", "query", "--limit", "10000"], b"");
    assert_eq!((queried.code, in_words.code), (0, 0), "{}{}", queried.stderr, in_words.stderr);
    assert_eq!(
        queried.stdout.matches("\"kind\":\"request\"").count(),
        sent,
        "one entry for each request"
    );
    let verified = run(&config, &["audit", "verify"], b"");
    assert_eq!(verified.code, 0, "{verified:?}");

    let (output, entries) = (house.gateway.output(), queried.stdout.as_bytes());
    let bodies = kept::lines_of(&kept::directory(&house.site), "bodies-");
    let bodies = bodies
        .iter()
        .fold(String::new(), |all, line| all + line["masked"].as_str().unwrap_or_default() + "\n");
    // The search has looked where what is no secret stands.
    for (place, bytes, visible) in [
        ("entries", entries, vec!["visible-query", "visible-note", "visible-referer"]),
        ("bodies", bodies.as_bytes(), vec!["visible-json", "visible-form", "visible-text"]),
        ("output", &output, vec!["visible-query", "visible-note"]),
    ] {
        for text in visible {
            assert!(contains(bytes, text.as_bytes()), "{text} in {place}");
        }
    }
    let mut found = Vec::new();
    for (place, bytes) in [
        ("output", output.as_slice()),
        ("entries", entries),
        ("in words", in_words.stdout.as_bytes()),
        ("bodies", bodies.as_bytes()),
    ] {
        found.extend(canaries.found_in(place, bytes));
    }
    found.extend(canaries.found_below(house.site.folder(), &["session.secret", "portal.secret"]));
    // What is compressed is no hiding place.
    for file in std::fs::read_dir(kept::directory(&house.site)).unwrap().flatten() {
        let plain = kept::text_of(&file.path()).unwrap_or_default();
        found.extend(canaries.found_in(&file.file_name().to_string_lossy(), &plain));
    }
    found.sort();
    found.dedup();
    assert_eq!(found, [""; 0]);
    assert!(canaries.len() >= 20);
}
