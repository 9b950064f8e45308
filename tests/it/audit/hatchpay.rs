//! `examples/hatchpay` by curl: every call has one entry with the documented members, and no planted secret is in any file.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::examples::site;
use crate::support::canary::{Canaries, contains};
use crate::support::gateway::{Gateway, run};
use crate::support::issuer::{Signer, jwks};
use crate::support::site::Site;
use crate::support::upstream::{Then, Upstream};
use crate::support::wait::{PATIENCE, until};

/// A card number that passes the check of its digits.
const CARD: &str = "4111111111111111";

/// What the service answers to everything.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 140\r\n\r\n\
    {\"id\":\"t1\",\"note\":\"visible-answer\",\"iban\":\"canary-iban-answer\",\"deep\":[{\"card\":{\"holder\":\"canary-holder-answer\"}}],\"pan\":\"4111111111111111\"}";

const WRITE: &str = "/v1/transactions/t1";

/// One call of the run, and what its entry must say.
struct Call {
    arguments: Vec<String>,
    target: String,
    status: u64,
    /// Members of the entry.
    says: Value,
}

impl Call {
    fn new(target: &str, arguments: &[&str], status: u64, says: Value) -> Self {
        Self {
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            target: target.to_owned(),
            status,
            says,
        }
    }

    /// The id of the request, as the answer tells it.
    fn make(&self, gateway: &Gateway) -> String {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--path-as-is",
                "--max-time",
                "30",
                "--output",
                "/dev/null",
            ])
            .args(["--write-out", "%{http_code} %header{x-request-id}"])
            .args(&self.arguments)
            .arg(format!("http://{}{}", gateway.address("public"), self.target))
            .output()
            .expect("curl is installed");
        let text = String::from_utf8(output.stdout).unwrap();
        let (status, id) = text.split_once(' ').unwrap();
        assert_eq!(status, self.status.to_string(), "{} {:?}", self.target, self.says);
        assert!(!id.is_empty(), "{} has no X-Request-Id", self.target);
        id.to_owned()
    }
}

/// All lines of the files of a trail whose names begin so.
fn lines(site: &Site, beginning: &str) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(site.folder().join("state/audit"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(beginning) && name.ends_with(".jsonl")
        })
        .collect();
    files.sort();
    let whole = |text: String| {
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let texts = files.iter().flat_map(|path| whole(std::fs::read_to_string(path).unwrap()));
    texts.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

fn requests(site: &Site) -> Vec<Value> {
    lines(site, "trail-")
        .into_iter()
        .filter(|entry| entry["kind"] == "request")
        .collect()
}

/// Members that the table of `docs/audit.md` names.
fn documented_members() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| member | meaning |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[expect(clippy::too_many_lines, reason = "the calls of one run, in order, and what each must leave")]
#[test]
fn every_call_has_one_entry_and_no_planted_secret_is_in_any_file() {
    assert!(ANSWER.ends_with('}') && ANSWER.split_once("\r\n\r\n").unwrap().1.len() == 140);
    let upstream = Upstream::answering(ANSWER, Then::Keep);
    let site = site("hatchpay", upstream.address, &[]);
    let signer = Signer::es256("ec");
    site.write("issuer.jwks.json", &jwks(&[&signer]));
    let mut gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let created = gateway.create_key("key", "acme", &["--role", "admin"]);
    let (admin, admin_id) = (created["key"].as_str().unwrap(), created["id"].as_str().unwrap());
    let viewer = gateway.create_key("key", "acme", &["--role", "viewer"]);
    let viewer = viewer["key"].as_str().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let token = signer.token(&json!({ "sub": "user-7", "tenant": "acme", "permissions": ["transactions:read"], "exp": now + 600 }));

    let stray = gateway.create_key("key", "acme", &["--role", "viewer"]);
    let stray = stray["key"].as_str().unwrap();

    let mut canaries = Canaries::default();
    for secret in [
        admin,
        viewer,
        &token,
        token.rsplit('.').next().unwrap(),
        CARD,
        "4111 1111 1111 1111",
    ] {
        canaries.plant(secret);
    }
    for place in [
        "query",
        "header",
        "cookie",
        "bearer",
        "basic",
        "password",
        "nested",
        "iban",
        "holder",
        "form",
        "form-card",
    ] {
        canaries.plant(&format!("canary-{place}-"));
    }

    let key = format!("X-API-Key: {admin}");
    let viewer_key = format!("X-API-Key: {viewer}");
    let bearer = format!("Authorization: Bearer {token}");
    let agent = format!("agent of {viewer}");
    let nested = json!({
        "note": "visible-json", "password": "canary-password-1", "iban": "canary-iban-1", "text": format!("use {admin} and {token}"),
        "deep": [[{ "client_secret": "canary-nested-1", "card": { "number": CARD, "holder": "canary-holder-1" }, "memo": "4111 1111 1111 1111" }]],
    })
    .to_string();
    let form = format!("note=visible-form&password=canary-form-1&card.holder=canary-form-card-1&pan={CARD}&key={viewer}");
    let query = format!("{WRITE}?limit=10&secret=canary-query-1&token={token}&pan={CARD}");
    let of_admin = |more: Value| {
        let mut says = json!({ "surface": "key", "credential": admin_id, "tenant": "acme" });
        says.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        says
    };
    let with_body = ["Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"];
    let written = json!({ "route": "transactions-write", "upstream": "hatchpay" });
    let calls = [
        Call::new(
            "/v1/roles",
            &["-H", &key],
            200,
            of_admin(json!({ "route": "roles", "method": "GET" })),
        ),
        Call::new("/v1/roles", &[], 401, json!({ "route": "roles", "denial": "missing_credential" })),
        Call::new(
            "/v1/roles",
            &["-H", "X-API-Key: hp_canary-header-1"],
            401,
            json!({ "route": "roles" }),
        ),
        Call::new(
            "/v1/roles",
            &["-H", "Authorization: Bearer canary-bearer-1.a.b"],
            401,
            json!({ "route": "roles" }),
        ),
        Call::new("/v1/roles", &["-u", "ann:canary-basic-1"], 401, json!({ "route": "roles" })),
        Call::new(
            "/v1/roles",
            &[
                "-H",
                &key,
                "-b",
                "sid=canary-cookie-1",
                "-H",
                "X-Note: canary-header-2",
                "-A",
                &agent,
            ],
            200,
            of_admin(json!({ "route": "roles" })),
        ),
        Call::new(&query, &["-H", &key], 200, of_admin(json!({ "route": "transactions-read" }))),
        Call::new(
            WRITE,
            &["-H", &bearer],
            200,
            json!({ "surface": "jwt", "tenant": "acme", "subject": "user-7" }),
        ),
        Call::new(
            WRITE,
            &["-H", &bearer, "-X", "DELETE"],
            403,
            json!({ "denial": "insufficient_scope", "scopes_needed": "transactions:write" }),
        ),
        Call::new(
            &format!("/v1/transactions/{stray}"),
            &["-H", &key],
            200,
            of_admin(json!({ "route": "transactions-read" })),
        ),
        Call::new(
            WRITE,
            &["-H", &key, "-H", with_body[0], "-d", &nested],
            200,
            of_admin(written.clone()),
        ),
        Call::new(WRITE, &["-H", &key, "-H", with_body[1], "-d", &form], 200, of_admin(written)),
        Call::new(
            WRITE,
            &["-H", &viewer_key, "-H", with_body[0], "-d", &nested],
            403,
            json!({ "denial": "insufficient_scope" }),
        ),
        Call::new(
            "/v1/api-key/keys",
            &["-H", &key, "-H", with_body[0], "-d", r#"{"name":"ci"}"#],
            201,
            of_admin(json!({ "route": "keys-create" })),
        ),
        Call::new(
            "/v1/api-key/keys",
            &["-H", &key, "-H", with_body[0], "-d", r#"{"name":7}"#],
            422,
            of_admin(json!({ "denial": "invalid_fields" })),
        ),
        Call::new("/v1/nothing", &["-H", &key], 404, json!({ "path": "/v1/nothing" })),
        Call::new("/v1/roles", &["-H", &key, "-X", "DELETE"], 405, json!({ "method": "DELETE" })),
        Call::new("/v1/../v1/roles", &["-H", &key], 400, json!({ "status": 400 })),
    ];
    let made: Vec<String> = calls.iter().map(|call| call.make(&gateway)).collect();
    let entries = until("an entry of every call", PATIENCE, || {
        let entries = requests(&site);
        (entries.len() >= calls.len()).then_some(entries)
    });
    assert_eq!(entries.len(), calls.len(), "one entry for each call");

    let documented = documented_members();
    for (call, id) in calls.iter().zip(&made) {
        let of_call: Vec<&Value> = entries.iter().filter(|entry| entry["request_id"] == **id).collect();
        let [entry] = of_call[..] else {
            panic!("{} entries of {} {:?}", of_call.len(), call.target, call.says);
        };
        for name in [
            "seq",
            "gateway",
            "time",
            "client",
            "version",
            "method",
            "status",
            "took_us",
            "bytes_out",
            "completed",
            "snapshot",
            "headers",
        ] {
            assert!(!entry[name].is_null(), "no {name} in {entry}");
        }
        // A target that cannot be read names no host.
        assert_eq!(entry["host"].is_null(), call.status == 400, "{entry}");
        let unknown: Vec<&String> = entry
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| !documented.contains(*name))
            .collect();
        assert!(unknown.is_empty(), "docs/audit.md does not name {unknown:?} of {entry}");
        assert_eq!(entry["status"], call.status, "{entry}");
        assert_eq!(entry["denial"].is_null(), call.status < 400, "{entry}");
        for (name, value) in call.says.as_object().unwrap() {
            assert_eq!(entry[name], *value, "{name} of {entry}");
        }
    }
    let of = |index: usize| entries.iter().find(|entry| entry["request_id"] == *made[index]).unwrap();
    assert!(of(6)["query"].as_str().unwrap().starts_with("limit=10&secret"), "{}", of(6));

    let bodies = until("the bodies", PATIENCE, || {
        let bodies = lines(&site, "bodies-");
        let has = |text: &str| {
            bodies
                .iter()
                .any(|body| body["masked"].as_str().is_some_and(|masked| masked.contains(text)))
        };
        (has("visible-json") && has("visible-form") && has("visible-answer")).then_some(bodies)
    });
    let stored = bodies
        .iter()
        .find(|body| body["masked"].as_str().is_some_and(|masked| masked.contains("visible-json")))
        .unwrap();
    let masked = stored["masked"].as_str().unwrap();
    assert!(masked.contains("***") && !masked.contains("canary"), "{masked}");
    let salt = unhex(stored["salt"].as_str().unwrap());
    let hash = digest(&SHA256, &[&salt, masked.as_bytes()].concat());
    let entry = entries.iter().find(|entry| entry["seq"] == stored["seq"]).unwrap();
    assert_eq!(entry["body"]["sha256"], hex(hash.as_ref()), "{entry}");
    assert_eq!(entry["request_id"], stored["request_id"]);

    gateway.signal(Signal::TERM);
    assert!(gateway.wait_exit(PATIENCE).success());
    let verified = run(&site.config(), &["audit", "verify"], b"");
    assert_eq!(verified.code, 0, "{verified:?}");

    // The searched places hold what was not secret, so the search has looked into them.
    let trail = std::fs::read_dir(site.folder().join("state/audit")).unwrap();
    let all: Vec<u8> = trail
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .collect();
    assert!(contains(&all, b"visible-json") && contains(&all, admin_id.as_bytes()));
    let mut found = canaries.found_in("output", &gateway.output());
    // An access line shows the path as it was judged, an entry of the trail masks it.
    canaries.plant(stray);
    found.extend(canaries.found_below(site.folder(), &[]));
    assert_eq!(found, [] as [&str; 0]);
    assert!(canaries.len() >= 17);
}
