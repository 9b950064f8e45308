//! `serve = "audit"` through the real binary: each tenant is given its own requests, on pages, and nobody waits for it.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use rustix::process::Signal;
use serde_json::Value;

use durward::decide::audit::TENANT_MEMBERS;

use crate::examples;
use crate::support::canary::contains;
use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

const TABLES: &str = r#"
[audit]
directory = "state/audit"
segment = "64KiB"

[[routes]]
path = "/v1/audit"
methods = ["GET"]
access = { surfaces = ["api"], scopes = ["audit:read"] }
serve = "audit"

[routes.answer]
body = '{"data":{{ items }},"next":{{ page.next }},"more":{{ page.more }},"missing":{{ page.missing }}}'
"#;

/// A key of a tenant that may read orders and entries.
struct Member {
    id: String,
    key: String,
}

struct House {
    _upstream: Upstream,
    site: Site,
    gateway: Gateway,
    acme: Member,
    globex: Member,
}

impl House {
    fn open() -> Self {
        let upstream = Upstream::scripted(When::Head, |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            Ok(Then::Keep)
        });
        let plan = Plan {
            tables: TABLES.to_owned(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        let [acme, globex] = ["acme", "globex"].map(|tenant| {
            gateway.json(&["tenants", "create", tenant]);
            member(&gateway, tenant)
        });
        Self {
            _upstream: upstream,
            site,
            gateway,
            acme,
            globex,
        }
    }

    fn get(&self, key: &str, target: &str) -> Response {
        get(&self.gateway, key, target)
    }

    fn list(&self, member: &Member, query: &str) -> Value {
        let answer = self.get(&member.key, &format!("/v1/audit?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.body.escape_ascii());
        answer.json()
    }

    /// The ids of all requests of a tenant, as the operator is told them: the newest first.
    fn recorded(&self, tenant: &str) -> Vec<String> {
        let args = [
            "audit", "query", "--json", "--tenant", tenant, "--kind", "request", "--limit", "100000",
        ];
        let answer = self.gateway.run(&args);
        assert_eq!(answer.code, 0, "{answer:?}");
        let lines = answer.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|entry| text(&entry["request_id"])).collect()
    }

    fn wait_recorded(&self, tenant: &str, count: usize) -> Vec<String> {
        until("the entries of all requests", PATIENCE, || {
            let ids = self.recorded(tenant);
            (ids.len() >= count).then_some(ids)
        })
    }

    /// A pipe in the place of a segment. Whoever reads it waits until this test opens its other end.
    fn pipe(&self, number: u64) -> PathBuf {
        let path = self.site.folder().join(format!("state/audit/trail-{number:020}.jsonl"));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

fn member(gateway: &Gateway, tenant: &str) -> Member {
    let made = gateway.create_key(
        "api",
        tenant,
        &["--mode", "live", "--scope", "orders:read", "--scope", "audit:read"],
    );
    Member {
        id: text(&made["id"]),
        key: text(&made["key"]),
    }
}

fn get(gateway: &Gateway, key: &str, target: &str) -> Response {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(request(key, target).as_bytes());
    client.final_response_to("GET").unwrap()
}

fn request(key: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\nAuthorization: Bearer {key}\r\n\r\n")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn ids(page: &Value) -> Vec<String> {
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| text(&entry["request_id"]))
        .collect()
}

fn id_of(answer: &Response) -> String {
    answer.field("x-request-id").unwrap().to_owned()
}

#[test]
fn k10_each_tenant_sees_exactly_its_own_requests() {
    let house = House::open();
    let gateway = &house.gateway;
    let pairs = [(); 2].map(|()| gateway.create_key("pair", "acme", &["--mode", "live", "--scope", "orders:read"]));
    let stray = durward::base::key::GeneratedKey::mint("tlive_").unwrap().expose().to_owned();
    // Each is recorded before the next one is made, since two workers hand their entries over one after the other.
    let recorded = |answer: Response| {
        until("its entry", PATIENCE, || {
            house.recorded("acme").contains(&id_of(&answer)).then_some(())
        });
        answer
    };
    let mut own = vec![
        recorded(house.get(&house.acme.key, "/v1/orders/1?secret=canary-query-of-acme")),
        recorded(house.get(&house.acme.key, "/v1/payments/1")),
    ];
    house.get(&house.globex.key, "/v1/orders/2?secret=canary-query-of-globex");
    house.get(&stray, "/v1/orders/3");
    house.get(&house.acme.key, "/nothing");
    // A pair with the secret half of another one: nobody was let in, but it was tried in the name of acme.
    let mut client = Client::connect(gateway.address("plain"));
    let (key, secret) = (text(&pairs[0]["key"]), text(&pairs[1]["secret"]));
    client.send(format!("GET /v1/pairs/1 HTTP/1.1\r\nHost: h\r\nx-api-key: {key}\r\nx-api-secret: {secret}\r\n\r\n").as_bytes());
    own.push(client.final_response_to("GET").unwrap());
    assert_eq!(own.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 403, 401]);
    let mut own: Vec<String> = own.iter().map(id_of).collect();
    own.reverse();
    assert_eq!(house.wait_recorded("acme", 3), own);
    let of_globex = house.wait_recorded("globex", 1);
    let (acme, globex) = (house.list(&house.acme, ""), house.list(&house.globex, ""));
    assert_eq!(ids(&acme), own);
    assert_eq!(ids(&globex), of_globex);
    assert_eq!(
        (&acme["more"], &acme["missing"], &acme["next"]),
        (&false.into(), &false.into(), &Value::Null)
    );

    let entry = &acme["data"][1];
    assert_eq!(entry["denial"], "insufficient_scope", "{entry}");
    assert_eq!(entry["credential"], *house.acme.id, "{entry}");
    assert_eq!(
        (&entry["status"], &entry["method"], &entry["path"]),
        (&403.into(), &"GET".into(), &"/v1/payments/1".into())
    );
    assert_eq!(entry["headers"]["user-agent"], "test", "{entry}");
    assert_eq!(
        (&acme["data"][0]["denial"], &acme["data"][0]["status"]),
        (&"wrong_secret".into(), &401.into())
    );
    for page in [&acme, &globex] {
        let written = page.to_string();
        for secret in [&house.acme.key, &house.globex.key, &stray, &key, &secret] {
            assert!(!contains(written.as_bytes(), secret.as_bytes()), "{written}");
        }
        assert!(!written.contains("canary-query"), "{written}");
        for entry in page["data"].as_array().unwrap() {
            let names: BTreeSet<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(names, BTreeSet::from(TENANT_MEMBERS));
        }
    }
    // The address of the service, which the operator is told, is in no answer.
    let operator = gateway.run(&["audit", "query", "--json", "--request", &own[2]]).stdout;
    let endpoint = text(&serde_json::from_str::<Value>(&operator).unwrap()["endpoint"]);
    assert!(!acme.to_string().contains(&endpoint), "{endpoint}");

    // Reading the trail is on record itself.
    house.wait_recorded("acme", 4);
    let again = house.list(&house.acme, "limit=1");
    assert_eq!(
        (&again["data"][0]["path"], &again["data"][0]["done"]),
        (&"/v1/audit".into(), &"audit".into())
    );
}

#[test]
fn each_filter_gives_what_fits_and_mistakes_are_named() {
    let house = House::open();
    let second = member(&house.gateway, "acme");
    let one = id_of(&house.get(&house.acme.key, "/v1/orders/1"));
    // Recorded before the next one is made, so that their times differ.
    house.wait_recorded("acme", 1);
    let two = id_of(&house.get(&second.key, "/v1/payments/2"));
    let other = id_of(&house.get(&house.globex.key, "/v1/payments/3"));
    house.wait_recorded("acme", 2);
    house.wait_recorded("globex", 1);
    let time = text(&house.list(&house.acme, &format!("request_id={two}"))["data"][0]["time"]);
    let of_two = [two.clone()];
    // Entries of the calls that this test makes to read are left out: they are of `/v1/audit`.
    let found = |query: &str| -> Vec<String> {
        let page = house.list(&house.acme, query);
        let entries = page["data"].as_array().unwrap().iter();
        let asked = entries.filter(|entry| entry["path"] != "/v1/audit");
        asked.map(|entry| text(&entry["request_id"])).collect()
    };
    for (query, wanted) in [
        ("status=403", &of_two[..]),
        ("status=4xx", &of_two),
        ("denial=insufficient_scope", &of_two),
        (&format!("credential={}", second.id), &of_two),
        (&format!("request_id={two}"), &of_two),
        (&format!("since={time}"), &of_two),
        (&format!("until={time}"), std::slice::from_ref(&one)),
        (
            &format!("method=GET&credential={}&status=2xx", house.acme.id),
            std::slice::from_ref(&one),
        ),
        ("method=DELETE", &[]),
        ("route=main/2", &of_two),
        (&format!("credential={}", house.globex.id), &[]),
        (&format!("request_id={other}"), &[]),
    ] {
        assert_eq!(found(query), wanted, "{query}");
    }
    for query in [
        "tenant=globex",
        "client=127.0.0.1",
        "status=999",
        "since=yesterday",
        "denial=none",
        "limit=0",
        "limit=1001",
        "after=4711",
        "status=200&status=200",
    ] {
        let answer = house.get(&house.acme.key, &format!("/v1/audit?{query}"));
        let field = query.split_once('=').unwrap().0;
        assert_eq!(answer.status, 422, "{query}");
        assert!(answer.json().to_string().contains(field), "{query}: {}", answer.json());
    }
    let weak = house
        .gateway
        .create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    assert_eq!(house.get(weak["key"].as_str().unwrap(), "/v1/audit").status, 403);
    let mut client = Client::connect(house.gateway.address("plain"));
    client.send(request(&house.acme.key, "/v1/audit").replacen("GET", "POST", 1).as_bytes());
    assert_eq!(client.final_response_to("POST").unwrap().status, 405);
}

#[test]
fn pages_lead_through_everything_once_while_new_entries_come_and_segments_close() {
    let house = House::open();
    let send = |member: &Member, count: usize| {
        let mut client = Client::connect(house.gateway.address("plain"));
        for number in 0..count {
            client.send(request(&member.key, &format!("/v1/orders/{number}")).as_bytes());
            assert_eq!(client.final_response_to("GET").unwrap().status, 200);
        }
    };
    for _ in 0..4 {
        send(&house.acme, 100);
        send(&house.globex, 100);
    }
    let expected = house.wait_recorded("acme", 400);
    until("a closed segment", PATIENCE, || {
        let files = std::fs::read_dir(house.site.folder().join("state/audit")).unwrap();
        let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.any(|name| name.ends_with(".jsonl.gz")).then_some(())
    });
    let is_done = AtomicBool::new(false);
    let (given, pages) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                send(&house.acme, 10);
                send(&house.globex, 10);
            }
        });
        let (mut given, mut pages, mut target) = (Vec::new(), 0, "/v1/audit?limit=7&method=GET".to_owned());
        loop {
            let answer = house.get(&house.acme.key, &target);
            assert_eq!(answer.status, 200);
            let page = answer.json();
            assert!(page["data"].as_array().unwrap().len() <= 7);
            given.extend(ids(&page));
            pages += 1;
            assert_eq!(page["more"], !page["next"].is_null());
            let Some(link) = answer.field("link") else { break };
            assert!(
                link.contains(page["next"].as_str().unwrap()) && link.contains("&method=GET"),
                "{link}"
            );
            target = format!("/v1/audit{}", link.trim_start_matches('<').split_once('>').unwrap().0);
        }
        is_done.store(true, Ordering::Relaxed);
        (given, pages)
    });
    let unique: BTreeSet<&String> = given.iter().collect();
    assert_eq!(unique.len(), given.len(), "nothing comes twice");
    let before: BTreeSet<&String> = expected.iter().collect();
    let given: Vec<&String> = given.iter().filter(|id| before.contains(id)).collect();
    assert_eq!(given, expected.iter().collect::<Vec<_>>());
    assert!(pages >= 400 / 7, "{pages}");
}

#[test]
fn k10_a_cursor_of_another_tenant_leads_to_own_entries_only() {
    let house = House::open();
    let [of_globex, of_acme] = [("globex", &house.globex), ("acme", &house.acme)].map(|(tenant, member)| {
        for number in 0..5 {
            house.get(&member.key, &format!("/v1/orders/{number}"));
        }
        house.wait_recorded(tenant, 5)
    });
    let page = house.list(&house.acme, "limit=2");
    assert_eq!(ids(&page), of_acme[..2]);
    let next = text(&page["next"]);
    assert_eq!(ids(&house.list(&house.acme, &format!("after={next}"))), of_acme[2..]);
    // All entries of globex are older than this position of acme, and none of acme is older than one of globex.
    assert_eq!(
        ids(&house.list(&house.globex, &format!("after={next}&method=GET&route=main/1"))),
        of_globex
    );
    let of_globex = text(&house.list(&house.globex, "limit=2&route=main/1")["next"]);
    let page = house.list(&house.acme, &format!("after={of_globex}"));
    assert_eq!((ids(&page), &page["next"]), (Vec::new(), &Value::Null));
    let mut changed = next.clone().into_bytes();
    changed[5] = if changed[5] == b'A' { b'B' } else { b'A' };
    for cursor in [String::from_utf8(changed).unwrap(), next[1..].to_owned(), "AAAA".into(), "9".into()] {
        let answer = house.get(&house.globex.key, &format!("/v1/audit?after={cursor}"));
        assert_eq!(answer.status, 422, "{cursor}");
    }
}

#[test]
fn a_disabled_tenant_and_a_revoked_key_are_given_nothing() {
    let house = House::open();
    house.get(&house.acme.key, "/v1/orders/1");
    house.wait_recorded("acme", 1);
    house.gateway.json(&["tenants", "disable", "acme", "--wait"]);
    let refused = house.get(&house.acme.key, "/v1/audit");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("inactive_tenant")));
    house.gateway.json(&["tenants", "enable", "acme", "--wait"]);
    assert!(!ids(&house.list(&house.acme, "")).is_empty());
    house.gateway.json(&["keys", "revoke", &house.acme.id, "--wait"]);
    assert_eq!(house.get(&house.acme.key, "/v1/audit").status, 401);
    assert_eq!(house.get(&house.globex.key, "/v1/audit").status, 200);
}

#[test]
fn a_key_that_is_revoked_while_the_trail_is_read_is_given_nothing() {
    let house = House::open();
    house.get(&house.acme.key, "/v1/orders/1");
    house.wait_recorded("acme", 1);
    let (first, second) = (house.pipe(9_000_002), house.pipe(9_000_001));
    std::thread::scope(|scope| {
        let call = scope.spawn(|| house.get(&house.acme.key, "/v1/audit"));
        // Opened only when the reader has come to it: the caller was admitted before.
        let _first = OpenOptions::new().write(true).open(&first).unwrap();
        house.gateway.json(&["keys", "revoke", &house.acme.id, "--wait"]);
        let _second = OpenOptions::new().write(true).open(&second).unwrap();
        let answer = call.join().unwrap();
        assert_eq!(answer.status, 401, "{}", answer.body.escape_ascii());
    });
}

#[test]
fn a_tenant_fills_its_own_places_only_and_no_worker_waits() {
    let house = House::open();
    house.get(&house.acme.key, "/v1/orders/1");
    house.wait_recorded("acme", 1);
    let (first, second) = (house.pipe(9_000_002), house.pipe(9_000_001));
    std::thread::scope(|scope| {
        let (answers, told) = mpsc::channel();
        for _ in 0..8 {
            let answers = answers.clone();
            let house = &house;
            scope.spawn(move || answers.send(house.get(&house.acme.key, "/v1/audit")).unwrap());
        }
        let _first = OpenOptions::new().write(true).open(&first).unwrap();
        for _ in 0..4 {
            let refused = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
            assert_eq!(refused.json()["code"], "overloaded");
        }
        assert_eq!(
            house.get(&house.globex.key, "/v1/orders/2").status,
            200,
            "others are served meanwhile"
        );
        let _second = OpenOptions::new().write(true).open(&second).unwrap();
        for _ in 0..4 {
            let answer = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
        }
        assert_eq!(house.get(&house.globex.key, "/v1/audit").status, 200);
    });
}

#[test]
fn a_call_whose_files_cannot_be_read_in_time_is_refused_and_others_are_not() {
    let house = House::open();
    house.get(&house.acme.key, "/v1/orders/1");
    house.wait_recorded("acme", 1);
    let pipe = house.pipe(9_000_001);
    let refused = house.get(&house.acme.key, "/v1/audit");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    // The one that is still reading goes on, and is the last that finds the pipe.
    let _writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    std::fs::remove_file(&pipe).unwrap();
    until("the place to be free", PATIENCE, || {
        (house.get(&house.acme.key, "/v1/audit").status == 200).then_some(())
    });
}

/// What the published guide of hatchpay says that the trail is for.
#[test]
fn a_tenant_sees_suspicious_use_of_its_keys() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Then::Keep);
    let site = examples::site("hatchpay", upstream.address, &[]);
    site.write("issuer.jwks.json", r#"{"keys":[]}"#);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let admin = gateway.create_key("key", "acme", &["--role", "admin"]);
    let leaked = gateway.create_key("key", "acme", &["--role", "viewer"]);
    let call =
        |key: &Value, method: &str, path: &str| examples::call(&gateway, method, path, &[("X-API-Key", key["key"].as_str().unwrap())], "");
    assert_eq!(call(&leaked, "GET", "/v1/transactions/t1").status, 200);
    assert_eq!(call(&leaked, "DELETE", "/v1/transactions/t1").status, 403);
    gateway.json(&["keys", "revoke", leaked["id"].as_str().unwrap(), "--wait"]);
    assert_eq!(call(&leaked, "GET", "/v1/transactions/t2").status, 401);
    assert_eq!(call(&leaked, "GET", "/v1/audit").status, 401);
    let target = format!("/v1/audit?status=4xx&credential={}", text(&leaked["id"]));
    let entries = until("the refused tries", PATIENCE, || {
        let entries = call(&admin, "GET", &target).json()["data"].as_array().unwrap().clone();
        (entries.len() >= 3).then_some(entries)
    });
    let told: BTreeSet<[String; 3]> = entries
        .iter()
        .map(|entry| ["method", "path", "denial"].map(|name| text(&entry[name])))
        .collect();
    let row = |method: &str, path: &str, denial: &str| [method, path, denial].map(str::to_owned);
    let wanted = [
        row("DELETE", "/v1/transactions/t1", "insufficient_scope"),
        row("GET", "/v1/audit", "revoked_credential"),
        row("GET", "/v1/transactions/t2", "revoked_credential"),
    ];
    assert_eq!(told, BTreeSet::from(wanted));
    assert!(entries.iter().all(|entry| entry["client"] == "127.0.0.1"), "{entries:?}");
}

/// A route that gives entries of a trail that this process does not keep could only fail.
#[test]
fn a_reload_that_adds_the_trail_and_a_route_for_it_is_refused_and_a_restart_takes_it() {
    let upstream = Upstream::echoing();
    let site = Site::of(&Plan::usual(), upstream.address);
    let mut gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let acme = member(&gateway, "acme");
    let before = site.read("gateway.toml");
    let tables = TABLES.split_once("[[routes]]").unwrap();
    site.write("gateway.toml", &format!("{before}{TABLES}"));
    let refused = gateway.run(&["reload"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    for part in [
        "`[audit]` takes effect at the next start",
        "restart the gateway",
        "serve = \"audit\"",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(
        get(&gateway, &acme.key, "/v1/audit").status,
        404,
        "the old configuration is in force"
    );

    // Without the route the reload is right, and says what waits. The route is refused after that too.
    site.write("gateway.toml", &format!("{before}{}", tables.0));
    let waits = gateway.run(&["reload"]);
    assert_eq!(waits.code, 0, "{waits:?}");
    until("the warning", PATIENCE, || {
        contains(&gateway.output(), b"audit changed: it takes effect at the next start").then_some(())
    });
    site.write("gateway.toml", &format!("{before}{TABLES}"));
    assert_ne!(gateway.run(&["reload"]).code, 0);
    assert_eq!(get(&gateway, &acme.key, "/v1/audit").status, 404);
    assert_eq!(gateway.run(&["check"]).code, 0, "the next start takes it");

    gateway.signal(Signal::TERM);
    gateway.wait_exit(PATIENCE);
    let gateway = Gateway::start(&site);
    assert_eq!(get(&gateway, &acme.key, "/v1/audit").status, 200);
    assert_eq!(gateway.run(&["reload"]).code, 0, "now the trail is kept");
    assert_eq!(get(&gateway, &acme.key, "/v1/audit").status, 200);
}
