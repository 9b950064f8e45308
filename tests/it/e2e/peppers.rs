//! A pepper takes the place of another while gateways serve: through the binary, over both stores.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Response;
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site, Store};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{get, refusal, text};

/// Two peppers as files, and sites that name some of them.
struct House {
    upstream: Upstream,
    folder: tempfile::TempDir,
    redis: Option<RedisServer>,
}

impl House {
    fn over(redis: Option<RedisServer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["old", "new"] {
            std::fs::write(
                folder.path().join(name),
                format!("{name}-pepper-of-a-test-0123456789abcdef01234567"),
            )
            .unwrap();
        }
        Self {
            upstream: Upstream::echoing(),
            folder,
            redis,
        }
    }

    fn pepper(&self, name: &str) -> String {
        format!("\"file:{}\"", self.folder.path().join(name).display())
    }

    /// A site with these peppers.
    fn site(&self, peppers: &[&str]) -> Site {
        let mut plan = Plan::usual();
        match &self.redis {
            None => plan.store_lines = "pepper = \"\"\n".into(),
            Some(redis) => {
                plan.store = Store::Redis {
                    url: redis.url(),
                    pepper: Path::new("none").to_owned(),
                }
            }
        }
        plan.store_lines += "max_age = \"1s\"\nabsent_age = \"1s\"\n";
        // For identity providers.
        std::fs::write(self.folder.path().join("visit"), "secret-of-a-test-0123456789abcdef0123456789").unwrap();
        plan.tables = format!(
            "[surfaces.people]\nkind = \"account\"\n[surfaces.visit]\nkind = \"session_jwt\"\ntoken_kind = \"visit\"\n\
             record = \"own\"\nlifetime = \"2h\"\ncarry = [\"header:X-Visit\"]\nsecrets = \"file:{}\"\n",
            self.folder.path().join("visit").display()
        );
        let site = Site::of(&plan, self.upstream.address);
        self.give(&site, peppers);
        site
    }

    /// Other peppers for a site.
    fn give(&self, site: &Site, peppers: &[&str]) {
        let list: Vec<String> = peppers.iter().map(|name| self.pepper(name)).collect();
        let line = format!("pepper = [{}]", list.join(", "));
        let config = site.read("gateway.toml");
        let lines: Vec<&str> = config
            .lines()
            .map(|held| if held.starts_with("pepper = ") { line.as_str() } else { held })
            .collect();
        assert!(lines.contains(&line.as_str()));
        site.write("gateway.toml", &(lines.join("\n") + "\n"));
    }

    /// Starts a site again with other peppers.
    fn restart(&self, mut gateway: Gateway, site: &Site, peppers: &[&str]) -> Gateway {
        stop(&mut gateway);
        self.give(site, peppers);
        Gateway::start(site)
    }

    /// With these peppers it does not start, and says this.
    fn refuses(&self, site: &Site, peppers: &[&str], says: &str) {
        self.give(site, peppers);
        let mut gateway = Gateway::spawn(site);
        let status = gateway.wait_exit(PATIENCE);
        assert!(!status.success());
        until(says, PATIENCE, || {
            String::from_utf8_lossy(&gateway.output()).contains(says).then_some(())
        });
    }
}

fn stop(gateway: &mut Gateway) {
    gateway.signal(Signal::TERM);
    gateway.wait_exit(PATIENCE);
}

fn key(gateway: &Gateway) -> (String, String) {
    let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    (text(&made, "id"), text(&made, "key"))
}

fn ask(gateway: &Gateway, key: &str) -> Response {
    get(gateway, "/v1/orders/1", key)
}

fn peppers(gateway: &Gateway) -> Vec<Value> {
    gateway.json(&["peppers"])["peppers"].as_array().unwrap().clone()
}

fn rotates(redis: Option<RedisServer>) {
    let house = House::over(redis);
    let site = house.site(&["old"]);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (old_id, old) = key(&gateway);
    let [only] = &peppers(&gateway)[..] else { panic!("one pepper") };
    let first = text(only, "mark");
    assert_eq!(
        (&only["first"], &only["credentials"], &only["droppable"]),
        (&json!(true), &json!(1), &json!(null))
    );

    // Step one: the new one is accepted. Step two: it makes new fingerprints.
    let gateway = house.restart(gateway, &site, &["old", "new"]);
    assert_eq!((ask(&gateway, &old).status, peppers(&gateway).len()), (200, 1));
    let gateway = house.restart(gateway, &site, &["new", "old"]);
    assert_eq!(ask(&gateway, &old).status, 200, "an old credential goes on");
    let (_, new) = key(&gateway);
    assert_eq!(ask(&gateway, &new).status, 200);
    let [before, after] = &peppers(&gateway)[..] else {
        panic!("two peppers")
    };
    assert_eq!(
        (text(before, "mark"), &before["credentials"], &before["lasting"]),
        (first.clone(), &json!(1), &json!(1))
    );
    assert_eq!((&after["first"], &after["credentials"]), (&json!(true), &json!(1)));
    let listed = gateway.json(&["keys", "list", "--pepper", &first]);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!(text(&listed["keys"][0], "id"), old_id);

    // It is needed still, and everybody says so.
    let kept = gateway.run(&["peppers", "drop", &first]);
    assert_eq!(kept.code, 1, "{kept:?}");
    assert!(kept.stderr.contains("1 keys and 0 accounts"), "{kept:?}");
    let own = gateway.run(&["peppers", "drop", &text(after, "mark")]);
    assert_eq!(own.code, 1, "{own:?}");
    assert_eq!(gateway.run(&["peppers", "drop", "0000000g"]).code, 2);
    assert_eq!(gateway.run(&["peppers", "drop", "00000000"]).code, 3);
    let mut gateway = gateway;
    stop(&mut gateway);
    for lacking in ["new", "old"] {
        house.refuses(&site, &[lacking], "durward peppers");
    }
    house.give(&site, &["new", "old"]);
    let gateway = Gateway::start(&site);

    // With a grace it can be dropped at a time; without one now.
    let rotated = gateway.json(&["keys", "rotate", &old_id, "--grace", "1h"]);
    let next = text(&rotated, "key");
    assert_eq!(peppers(&gateway)[0]["droppable"], rotated["replaces"]["expires_at"]);
    gateway.json(&["keys", "revoke", &old_id]);
    let [before, after] = &peppers(&gateway)[..] else {
        panic!("two peppers")
    };
    assert_eq!((&before["droppable"], &after["credentials"]), (&json!("now"), &json!(2)));
    let dropped = gateway.json(&["peppers", "drop", &first]);
    assert_eq!(dropped["peppers"].as_array().unwrap().len(), 1, "{dropped}");
    assert_eq!(peppers(&gateway).len(), 1);

    let gateway = house.restart(gateway, &site, &["new"]);
    for good in [&new, &next] {
        assert_eq!(ask(&gateway, good).status, 200);
    }
    assert_eq!(refusal(&ask(&gateway, &old)).0, 401);
    let mut gateway = gateway;
    stop(&mut gateway);
    house.refuses(&site, &["old", "new"], "was dropped");
}

#[test]
fn a_pepper_takes_the_place_of_another_in_a_file() {
    rotates(None);
}

/// The secret of an identity provider is sealed under a pepper, and is carried to another one.
fn reseals(redis: Option<RedisServer>) {
    let house = House::over(redis);
    let site = house.site(&["old"]);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let create = [
        "--json",
        "providers",
        "create",
        "--tenant",
        "acme",
        "--kind",
        "oidc",
        "--issuer",
        "https://login.acme.example",
        "--client-id",
        "client",
    ];
    let made = run(&site.config(), &create, b"client-secret");
    assert_eq!(made.code, 0, "{made:?}");
    let id = text(&made.json(), "id");
    let under = |gateway: &Gateway| {
        let shown = gateway.json(&["providers", "show", &id]);
        assert!(shown.get("warnings").is_none(), "{shown}");
        text(&shown["settings"]["protocol"]["oidc"], "client_secret_sealed")
    };
    let [only] = &peppers(&gateway)[..] else { panic!("one pepper") };
    let first = text(only, "mark");
    assert_eq!((&only["providers"], &only["credentials"]), (&json!(1), &json!(0)));
    assert_eq!(under(&gateway), format!("sealed under pepper {first}"));

    let gateway = house.restart(gateway, &site, &["new", "old"]);
    let kept = gateway.run(&["peppers", "drop", &first]);
    assert!(
        kept.code == 1 && kept.stderr.contains("secrets of 1 identity providers"),
        "{kept:?}"
    );
    let (_, new) = key(&gateway);
    let moved = gateway.json(&["peppers", "move"]);
    assert_eq!((&moved["resealed"], &moved["moved"]), (&json!(1), &json!(0)), "{moved}");
    assert_eq!(gateway.json(&["peppers", "move"])["resealed"], json!(0), "once is enough");
    let [before, after] = &peppers(&gateway)[..] else {
        panic!("two peppers")
    };
    assert_eq!((&before["providers"], &before["droppable"]), (&json!(0), &json!("now")));
    assert_eq!(under(&gateway), format!("sealed under pepper {}", text(after, "mark")));
    gateway.json(&["peppers", "drop", &first]);
    let gateway = house.restart(gateway, &site, &["new"]);
    assert_eq!(ask(&gateway, &new).status, 200);
    under(&gateway);
    // It still opens: a change seals everything anew, and would say if it did not.
    gateway.json(&["providers", "update", &id, "--prompt", "login"]);
}

#[test]
fn a_providers_secret_is_sealed_anew_in_a_file() {
    reseals(None);
}

#[test]
fn a_providers_secret_is_sealed_anew_in_redis() {
    reseals(Some(RedisServer::start()));
}

#[test]
fn a_pepper_takes_the_place_of_another_in_redis() {
    rotates(Some(RedisServer::start()));
}

#[test]
fn gateways_with_either_first_admit_both_and_one_that_lacks_the_new_one_says_503_and_never_401() {
    let house = House::over(Some(RedisServer::start()));
    let sites = [house.site(&["old"]), house.site(&["old", "new"]), house.site(&["new", "old"])];
    let [lacking, old_first] = [Gateway::start(&sites[0]), Gateway::start(&sites[1])];
    old_first.json(&["tenants", "create", "acme"]);
    let (_, old) = key(&old_first);
    assert_eq!(ask(&lacking, &old).status, 200);
    let new_first = Gateway::start(&sites[2]);
    let (_, new) = key(&new_first);
    for gateway in [&old_first, &new_first] {
        for good in [&old, &new] {
            assert_eq!(ask(gateway, good).status, 200);
        }
        assert_eq!(ask(gateway, "tlive_unknown").status, 401);
    }
    let refused = ask(&lacking, &new);
    assert_eq!(refusal(&refused).0, 503, "it could not have found it");
    until("what it remembers to be too old", PATIENCE, || {
        let status = ask(&lacking, &old).status;
        assert!([200, 503].contains(&status), "{status}");
        (status == 503).then_some(())
    });
    until("it to be not ready", PATIENCE, || {
        (lacking.json(&["status"])["ready"] == json!(false)).then_some(())
    });
    // The other pepper, and it serves both.
    let lacking = house.restart(lacking, &sites[0], &["old", "new"]);
    for good in [&old, &new] {
        until("an answer", Duration::from_secs(5), || {
            (ask(&lacking, good).status == 200).then_some(())
        });
    }
}
