//! `explain` beside a trail: it leaves no trace in it, and tells of what was sent from its entries.

use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway};
use crate::support::raw::Response;
use crate::support::site::{Plan, ROUTES, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::kept::{self, SCOPES, ask};

const WATCHED: &str = r#"
[[routes]]
path = "/v1/watched"
methods = ["GET"]
access = { surfaces = ["api"], scopes = ["orders:read"] }
insecure_report_only = true
"#;

struct House {
    _upstream: Upstream,
    site: Site,
    gateway: Gateway,
    id: String,
    key: String,
    bearer: String,
}

impl House {
    fn open(audit: &str) -> Self {
        let upstream = Upstream::echoing();
        let plan = Plan {
            tables: format!("[audit]\ndirectory = \"state/audit\"\n{audit}"),
            upstream: format!("{ROUTES}{WATCHED}{SCOPES}"),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        Self {
            _upstream: upstream,
            site,
            gateway,
            id: text("id"),
            bearer: format!("Authorization: Bearer {}", text("key")),
            key: text("key"),
        }
    }

    fn get(&self, target: &str, fields: &str) -> Response {
        ask(&self.gateway, "GET", target, fields, b"")
    }

    /// Explains one request of each kind: forwarded, refused, reported, served, and one without a route.
    fn explain_all(&self) {
        for (target, with_key, outcome) in [
            ("/v1/orders/1", true, "forwarded"),
            ("/public/1", false, "forwarded"),
            ("/v1/orders/1", false, "refused"),
            ("/admin/1", true, "refused"),
            ("/nowhere", false, "refused"),
            ("/v1/watched", false, "reported"),
            ("/scopes", true, "served"),
        ] {
            let url = format!("http://localhost{target}");
            let mut arguments = vec!["explain", "GET", &url];
            if with_key {
                arguments.extend(["-H", &self.bearer]);
            }
            let explained = self.gateway.json(&arguments);
            assert_eq!(explained["outcome"], outcome, "{target}: {explained}");
        }
    }

    /// What is told of a request that was sent.
    fn explain_sent(&self, response: &Response) -> (Value, String) {
        let id = response.field("x-request-id").unwrap();
        kept::entry(&self.site, "request", "request_id", id);
        let in_words = self.gateway.run(&["explain", id]);
        assert_eq!(in_words.code, 0, "{in_words:?}");
        for said in [&in_words.stdout, &in_words.stderr] {
            assert!(!said.contains(&self.key), "a key was told");
        }
        let told = self.gateway.json(&["explain", id]);
        assert_eq!(told["entry"]["request_id"], id);
        (told, in_words.stdout)
    }
}

#[test]
fn explaining_makes_no_entry_and_takes_no_room() {
    let house = House::open("on_full = \"refuse\"\n");
    let first = house.get("/public/before", "");
    kept::entry(&house.site, "request", "request_id", first.field("x-request-id").unwrap());
    let before = kept::lines_of(&kept::directory(&house.site), "trail-");
    let counted = kept::metrics(&house.gateway, "durward_audit_entries_total");
    assert_eq!(counted.len(), 3, "{counted:?}");
    for _ in 0..3 {
        house.explain_all();
    }
    // Whatever explaining had written would stand before this one.
    let next = house.get("/public/after", "");
    let last = kept::entry(&house.site, "request", "request_id", next.field("x-request-id").unwrap());
    let after = kept::lines_of(&kept::directory(&house.site), "trail-");
    let more: Vec<&Value> = after.iter().skip(before.len()).collect();
    assert_eq!(more, [&last], "the one that was sent, and nothing else");

    // While nothing can be written, explaining neither counts as refused nor says that the request would be.
    house.gateway.limit_files(Some(32));
    let failing = || kept::metrics(&house.gateway, "durward_audit_failing") == ["durward_audit_failing 1"];
    until("a refusal", PATIENCE, || {
        house.get("/public/full", "");
        failing().then_some(())
    });
    let counted = kept::metrics(&house.gateway, "durward_audit_entries_total");
    house.explain_all();
    assert_eq!(kept::metrics(&house.gateway, "durward_audit_entries_total"), counted);
    assert_eq!(house.get("/public/full", "").status, 503);
    assert_ne!(
        kept::metrics(&house.gateway, "durward_audit_entries_total"),
        counted,
        "a request is counted"
    );
}

#[test]
fn what_was_sent_is_explained_from_its_entry() {
    let house = House::open("");
    let bearer = format!("{}\r\n", house.bearer);
    let (told, words) = house.explain_sent(&house.get("/v1/orders/7", &bearer));
    assert_eq!((&told["outcome"], &told["refused_by"]), (&json!("forwarded"), &json!([])), "{told}");
    assert_eq!(
        (&told["entry"]["credential"], &told["entry"]["tenant"]),
        (&json!(house.id), &json!("acme"))
    );
    for part in [
        "forwarded\n",
        "GET localhost/v1/orders/7",
        &house.id,
        "ms old",
        "passed    every check",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let (told, words) = house.explain_sent(&house.get("/admin/1", &bearer));
    assert_eq!(
        (&told["outcome"], &told["refused_by"]),
        (&json!("refused"), &json!(["scopes"])),
        "{told}"
    );
    assert!(words.starts_with("refused: insufficient_scope\n"), "{words}");
    assert!(words.contains("admin:all"), "{words}");
    let (told, _) = house.explain_sent(&house.get("/v1/orders/7", ""));
    assert_eq!(
        (&told["outcome"], &told["entry"]["denial"]),
        (&json!("refused"), &json!("missing_credential")),
        "{told}"
    );

    let response = house.get("/v1/watched", "");
    assert_eq!(response.status, 200);
    let (told, words) = house.explain_sent(&response);
    assert_eq!(told["outcome"], "reported", "{told}");
    let entry = &told["entry"];
    assert_eq!(
        (&entry["denial"], &entry["report_only"], &entry["status"]),
        (&json!("missing_credential"), &json!(true), &json!(200)),
        "{entry}"
    );
    assert_eq!((&entry["upstream"], entry.get("credential")), (&json!("main"), None));
    assert!(words.contains("would have been refused: missing_credential"), "{words}");
    // The same route admits whoever is in order, and says so.
    let (told, _) = house.explain_sent(&house.get("/v1/watched", &bearer));
    assert_eq!(
        (&told["outcome"], told["entry"].get("report_only")),
        (&json!("forwarded"), None),
        "{told}"
    );
    // Of a caller who was revoked it is known who it was.
    house.gateway.json(&["keys", "revoke", &house.id, "--wait"]);
    let (told, _) = house.explain_sent(&house.get("/v1/watched", &bearer));
    let entry = &told["entry"];
    assert_eq!(
        (&entry["denial"], &entry["credential"]),
        (&json!("revoked_credential"), &json!(house.id)),
        "{entry}"
    );

    let unknown: Answer = house.gateway.run(&["explain", "01NOTHING"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (3, ""), "{unknown:?}");
}
