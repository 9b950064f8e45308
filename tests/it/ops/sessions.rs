//! Sessions of every kind are listed with their true end, and can be ended.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;

/// Sessions with records of their own: `/visits` makes them without a parent, `/shares` with the calling key as parent.
const SESSIONS: &str = r#"
[surfaces.visit]
kind = "session_jwt"
token_kind = "visit"
secrets = "generate:state/visit"
record = "own"
lifetime = "2h"
carry = ["header:X-Visit"]

[[routes]]
path = "/visits"
methods = ["POST"]
access = { surfaces = ["api"] }
serve = "mint"
mint = [{ surface = "visit", parent = "none", scopes = "caller" }]
answer = { status = 201, body = '{"id":{{ credential.id }},"token":{{ credential.token }}}' }

[[routes]]
path = "/shares"
methods = ["POST"]
access = { surfaces = ["api"] }
serve = "mint"
mint = [{ surface = "visit", parent = "caller", scopes = "caller" }]
answer = { status = 201, body = '{"id":{{ credential.id }},"token":{{ credential.token }}}' }
"#;

const VISITED: &str = r#"
[[routes]]
path = "/visited"
methods = ["GET"]
access = { surfaces = ["visit"] }
"#;

struct Scene {
    _upstream: Upstream,
    _site: Site,
    gateway: Gateway,
    key: Value,
}

fn start() -> Scene {
    let upstream = Upstream::echoing();
    let usual = Plan::usual();
    let plan = Plan {
        tables: SESSIONS.into(),
        upstream: format!("{}{VISITED}", usual.upstream),
        ..usual
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = gateway.create_key("api", "acme", &["--scope", "orders:read"]);
    Scene {
        _upstream: upstream,
        _site: site,
        gateway,
        key,
    }
}

impl Scene {
    fn begin(&self, path: &str) -> Value {
        let key = self.key["key"].as_str().unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {key}\r\nContent-Length: 2\r\n");
        let mut client = Client::connect(self.gateway.address("plain"));
        client.send(format!("{head}Content-Type: application/json\r\n\r\n{{}}").as_bytes());
        let answer = client.response().expect("an answer");
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    fn visit(&self, session: &Value) -> u16 {
        let token = session["token"].as_str().unwrap();
        let mut client = Client::connect(self.gateway.address("plain"));
        client.send(format!("GET /visited HTTP/1.1\r\nHost: a.example\r\nX-Visit: {token}\r\n\r\n").as_bytes());
        client.response().expect("an answer").status
    }

    fn listed(&self, more: &[&str]) -> Vec<Value> {
        let mut args = vec!["sessions", "list", "--tenant", "acme"];
        args.extend(more);
        self.gateway.json(&args)["sessions"].as_array().unwrap().clone()
    }
}

#[test]
fn a_session_that_hangs_on_nothing_is_listed_and_revoked_and_a_key_is_neither() {
    let scene = start();
    let session = scene.begin("/visits");
    assert_eq!(scene.visit(&session), 200);
    let listed = scene.listed(&[]);
    let ids: Vec<&Value> = listed.iter().map(|session| &session["id"]).collect();
    assert_eq!(ids, [&session["id"]], "the key is none");
    assert_eq!(listed[0]["parent"], json!(null));
    assert!(listed[0]["ends_at"].is_string() && listed[0]["ends_at"] == listed[0]["expires_at"]);
    let key = scene.key["id"].as_str().unwrap();
    assert_eq!(scene.gateway.run(&["sessions", "revoke", key]).code, 3);
    let id = session["id"].as_str().unwrap();
    let revoked = scene.gateway.json(&["sessions", "revoke", id, "--wait"]);
    assert_eq!(revoked["state"], "revoked");
    assert_eq!((scene.visit(&session), scene.listed(&[]).len()), (401, 0));
}

#[test]
fn a_session_ends_with_the_key_that_was_rotated_with_grace_and_the_list_says_so() {
    let scene = start();
    let (hanging, free) = (scene.begin("/shares"), scene.begin("/visits"));
    let end_of = |session: &Value| -> String {
        let listed = scene.listed(&[]);
        let found = listed.iter().find(|one| one["id"] == session["id"]);
        found.expect("listed")["ends_at"].as_str().unwrap().to_owned()
    };
    let before = (end_of(&hanging), end_of(&free));
    let rotated = scene
        .gateway
        .json(&["keys", "rotate", scene.key["id"].as_str().unwrap(), "--grace", "30m"]);
    let end = rotated["replaces"]["expires_at"].as_str().unwrap();
    assert_eq!(end_of(&hanging), end, "not {}", before.0);
    assert!(before.0.as_str() > end);
    assert_eq!(end_of(&free), before.1, "it hangs on nothing");
    let table = scene.gateway.run(&["sessions", "list", "--tenant", "acme"]).stdout;
    let row = table.lines().find(|line| line.contains(hanging["id"].as_str().unwrap())).unwrap();
    assert!(row.ends_with(end), "{row}");
}

#[test]
fn a_session_whose_key_has_ended_is_no_live_session() {
    let scene = start();
    let (hanging, free) = (scene.begin("/shares"), scene.begin("/visits"));
    scene.gateway.json(&["keys", "revoke", scene.key["id"].as_str().unwrap()]);
    let listed = scene.listed(&[]);
    let ids: Vec<&Value> = listed.iter().map(|session| &session["id"]).collect();
    assert_eq!(ids, [&free["id"]], "{hanging} is dead");
}

#[test]
fn keys_between_sessions_shorten_no_page() {
    let scene = start();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        for _ in 0..4 {
            scene.gateway.create_key("api", "acme", &[]);
        }
        sessions.push(scene.begin("/visits")["id"].clone());
    }
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec!["sessions", "list", "--limit", "2"];
        args.extend(after.iter().flat_map(|id| ["--after", id.as_str()]));
        let page = scene.gateway.json(&args);
        found.extend(page["sessions"].as_array().unwrap().iter().map(|session| session["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(page["sessions"].as_array().unwrap().len(), 2, "a full page: {page}");
        after = Some(next.to_owned());
    }
    found.sort_by_key(ToString::to_string);
    sessions.sort_by_key(ToString::to_string);
    assert_eq!(found, sessions);
}
