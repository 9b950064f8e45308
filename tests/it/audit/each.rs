//! `durable = "each"`: no answer leaves before its entry is on the disk, and what becomes of one that cannot be recorded.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, ROUTES, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket::{self, CLOSE, Seen, WebSocket};

use super::kept::{self, HEALTH, SCOPES, TUNNEL, ask};

struct House {
    upstream: Upstream,
    seen: Seen,
    site: Site,
    gateway: Gateway,
    bearer: String,
}

impl House {
    fn open(on_full: &str) -> Self {
        let (upstream, seen) = websocket::echoing();
        let plan = Plan {
            tables: format!("[audit]\ndirectory = \"state/audit\"\ndurable = \"each\"\non_full = \"{on_full}\"\n"),
            upstream: format!("{ROUTES}{TUNNEL}{HEALTH}{SCOPES}"),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        let key = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
        let bearer = format!("Authorization: Bearer {}\r\n", key["key"].as_str().unwrap());
        Self {
            upstream,
            seen,
            site,
            gateway,
            bearer,
        }
    }

    fn get(&self, target: &str, fields: &str) -> Response {
        ask(&self.gateway, "GET", target, fields, b"")
    }

    fn open_socket(&self) -> Result<(WebSocket, Response), Response> {
        let client = Client::connect(self.gateway.address("plain"));
        let value = self.bearer.trim_end().strip_prefix("Authorization: ").unwrap();
        WebSocket::open(client, "/ws/x", &[("Authorization", value)])
    }

    fn is_failing(&self) -> bool {
        kept::metrics(&self.gateway, "durward_audit_failing") == ["durward_audit_failing 1"]
    }

    /// Sends a request and waits until it is on record to its end.
    fn get_recorded(&self, target: &str, fields: &str) -> Response {
        let response = self.get(target, fields);
        self.entry_of("request", &response);
        response
    }

    /// Lets nothing be written while `act` is run. Before, everything is written, so that the gateway does not know of it yet.
    fn while_full<T>(&self, act: impl FnOnce() -> T) -> T {
        assert!(!self.is_failing());
        self.gateway.limit_files(Some(32));
        let result = act();
        self.gateway.limit_files(None);
        until("the trail to be written again", PATIENCE, || (!self.is_failing()).then_some(()));
        result
    }

    fn entry_of(&self, kind: &str, response: &Response) -> Value {
        kept::entry(&self.site, kind, "request_id", response.field("x-request-id").unwrap())
    }

    fn verify(self) {
        let Self { site, gateway, .. } = self;
        drop(gateway);
        let verified = run(&site.config(), &["audit", "verify"], b"");
        assert_eq!(verified.code, 0, "{verified:?}");
    }
}

#[test]
fn with_refuse_every_kind_of_answer_that_cannot_be_recorded_is_not_sent() {
    let house = House::open("refuse");
    let bearer = house.bearer.as_str();
    let served = house.get_recorded("/scopes", bearer);
    assert_eq!(served.status, 200);
    // What would be answered, its target and its fields, and whether the service is asked for it before.
    for (status, target, fields, forwarded) in [
        (200, "/v1/orders/1", bearer, true),
        (200, "/public/1", "", true),
        (200, "/scopes", bearer, false),
        (401, "/v1/orders/2", "", false),
        (403, "/admin/1", bearer, false),
        (404, "/nowhere", "", false),
        (400, "/v1/../admin", "", false),
    ] {
        let before = house.upstream.count();
        let response = house.while_full(|| house.get(target, fields));
        assert_eq!(response.status, 503, "{target} would be {status}");
        assert_eq!(response.field("retry-after"), Some("1"), "{target}");
        assert_ne!(response.body, served.body, "{target}");
        assert_eq!(house.upstream.count() - before, usize::from(forwarded), "{target}");
        // Both entries are written when there is room: what it was to be, and what it became.
        let answered = house.entry_of("answered", &response);
        assert_eq!(answered["status"], status, "{answered}");
        let ended = house.entry_of("request", &response);
        assert_eq!(
            (&ended["status"], &ended["denial"]),
            (&json!(503), &json!("not_recordable")),
            "{ended}"
        );
        assert_eq!(house.get_recorded(target, fields).status, status, "{target} afterwards");
    }
    // Once the gateway knows that nothing can be written, no service is asked either.
    let before = house.upstream.count();
    house.while_full(|| {
        let first = house.get("/public/first", "");
        assert_eq!(first.status, 503);
        assert!(house.is_failing());
        for target in ["/public/next", "/v1/orders/3", "/scopes"] {
            assert_eq!(house.get(target, bearer).status, 503, "{target}");
        }
        // What has no entry is answered.
        assert_eq!(house.get("/health", "").status, 200);
    });
    assert_eq!(house.upstream.count() - before, 2, "the first one, and the one without an entry");
    let told = || {
        kept::entries(&house.site, "gap")
            .iter()
            .filter(|gap| gap["reason"] == "refused")
            .map(|gap| gap["entries"].as_u64().unwrap())
            .sum::<u64>()
    };
    until("the gap", PATIENCE, || (told() == 3).then_some(()));
    house.verify();
}

#[test]
fn with_drop_and_count_what_cannot_be_recorded_is_answered_all_the_same() {
    let house = House::open("drop_and_count");
    let bearer = house.bearer.as_str();
    let cases = [
        (200, "/v1/orders/1", bearer),
        (200, "/scopes", bearer),
        (401, "/v1/orders/2", ""),
        (404, "/nowhere", ""),
    ];
    // Two entries of each: before the answer and at the end.
    let lost = 2 * (cases.len() as u64 + 1);
    house.while_full(|| {
        for (status, target, fields) in cases {
            assert_eq!(house.get(target, fields).status, status, "{target}");
        }
        let (mut socket, _) = house.open_socket().expect("a tunnel");
        assert!(socket.echoes("hello"));
        socket.send(CLOSE, &1_000_u16.to_be_bytes());
        assert_eq!(socket.closing(), 1_000);
        let dropped = format!("durward_audit_entries_total{{result=\"dropped\"}} {lost}");
        until("all of them to be counted", PATIENCE, || {
            (kept::metrics(&house.gateway, "durward_audit_entries_total{result=\"dropped\"}") == [dropped.as_str()]).then_some(())
        });
    });
    let missing = || {
        let gaps = kept::entries(&house.site, "gap");
        gaps.iter().map(|gap| gap["entries"].as_u64().unwrap()).sum::<u64>()
    };
    until("the gap", PATIENCE, || (missing() == lost).then_some(()));
    let recorded = ["request", "answered"].map(|kind| kept::entries(&house.site, kind).len());
    assert_eq!(recorded, [0, 0]);
    house.verify();
}

#[test]
fn a_tunnel_is_on_record_before_it_opens_and_again_when_it_ends() {
    let house = House::open("refuse");
    let (mut socket, response) = house.open_socket().expect("a tunnel");
    let id = response.field("x-request-id").unwrap();
    // It is on the disk already: nothing is waited for.
    let opened: Vec<Value> = kept::entries(&house.site, "answered")
        .into_iter()
        .filter(|entry| entry["request_id"] == id)
        .collect();
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!((&opened[0]["status"], &opened[0]["tenant"]), (&json!(101), &json!("acme")));
    assert!(
        opened[0].get("bytes_in").is_none() && opened[0].get("completed").is_none(),
        "{}",
        opened[0]
    );
    assert!(socket.echoes("hello"));
    assert_eq!(kept::entries(&house.site, "request").len(), 0, "its end is not known yet");
    socket.send(CLOSE, &1_000_u16.to_be_bytes());
    assert_eq!(socket.closing(), 1_000);
    let ended = house.entry_of("request", &response);
    assert_eq!((&ended["status"], &ended["completed"]), (&json!(101), &json!(true)), "{ended}");
    assert!(
        ended["bytes_in"].as_u64() > Some(0) && ended["bytes_out"].as_u64() > Some(0),
        "{ended}"
    );

    // A tunnel that cannot be recorded is not opened, and the service learns that it is gone.
    let before = house.seen.lock().unwrap().len();
    let refused = house.while_full(|| house.open_socket().err().expect("no tunnel"));
    assert_eq!(refused.status, 503);
    until("the service to see the end", PATIENCE, || {
        (house.seen.lock().unwrap()[before..] == [None]).then_some(())
    });
    assert_eq!(house.entry_of("answered", &refused)["status"], 101);
    assert_eq!(house.entry_of("request", &refused)["status"], 503);
    // One that is open already goes on while nothing can be written, and is recorded when there is room.
    let (mut socket, response) = house.open_socket().expect("a tunnel");
    house.while_full(|| {
        assert_eq!(house.get("/public/1", "").status, 503);
        assert!(socket.echoes("still here"));
        socket.send(CLOSE, &1_000_u16.to_be_bytes());
        assert_eq!(socket.closing(), 1_000);
    });
    assert_eq!(house.entry_of("request", &response)["completed"], true);
    house.verify();
}
