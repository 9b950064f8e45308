//! Rate limits through the real binary: exact, told, shared between gateways, and without Redis.

use std::path::PathBuf;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site, Store};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{call, get, head, refusal, text};

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/token"
methods = ["GET", "POST"]
access = "public"
limits = [{ by = "address", rate = "120/1m" }]

[[routes]]
path = "/mine"
methods = ["GET"]
access = { surfaces = ["api"] }
limits = [{ by = "credential", rate = "3/1h" }, { by = "tenant", rate = "5/1h" }]

[[routes]]
path = "/together"
methods = ["GET"]
access = "public"
limits = [{ by = "route", rate = "10/1h", shared = true }]

[[routes]]
path = "/strict"
methods = ["GET"]
access = "public"
limits = [{ by = "route", rate = "10/1h", shared = true, when_unavailable = "refuse" }]

[[routes]]
path = "/free"
methods = ["GET"]
access = "public"
"#;

struct House {
    upstream: Upstream,
    _sites: Vec<Site>,
    gateways: Vec<Gateway>,
    _folder: tempfile::TempDir,
}

impl House {
    fn open(store: impl Fn(PathBuf) -> Store, gateways: usize, tables: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pepper = folder.path().join("pepper");
        std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
        let plan = Plan {
            store: store(pepper),
            upstream: ROUTES.to_owned(),
            tables: tables.to_owned(),
            ..Plan::usual()
        };
        let upstream = Upstream::echoing();
        let sites: Vec<Site> = (0..gateways).map(|_| Site::of(&plan, upstream.address)).collect();
        let gateways: Vec<Gateway> = sites.iter().map(Gateway::start).collect();
        gateways[0].json(&["tenants", "create", "acme"]);
        Self {
            upstream,
            _sites: sites,
            gateways,
            _folder: folder,
        }
    }

    fn alone(tables: &str) -> Self {
        Self::open(|_| Store::Embedded, 1, tables)
    }

    fn gateway(&self) -> &Gateway {
        &self.gateways[0]
    }
}

fn seconds(answer: &Response) -> u64 {
    answer.field("retry-after").unwrap().parse().unwrap()
}

#[test]
fn a_hundred_and_twenty_a_minute_are_a_hundred_and_twenty_and_the_next_is_told_when() {
    let house = House::alone("");
    for n in 0..120 {
        let answer = call(house.gateway(), "POST", "/token", &[]);
        assert_eq!(answer.status, 200, "{n}");
        assert_eq!(answer.field("ratelimit-policy"), Some("\"address\";q=120;w=60"));
        let told = answer.field("ratelimit").unwrap();
        assert!(told.starts_with(&format!("\"address\";r={};t=", 119 - n)), "{told}");
    }
    let answer = call(house.gateway(), "POST", "/token", &[]);
    assert_eq!(refusal(&answer), (429, "rate_limited".to_owned()));
    assert!((2..=60).contains(&seconds(&answer)), "real seconds, not a guess: {answer:?}");
    assert_eq!(answer.field("ratelimit"), Some(&*format!("\"address\";r=0;t={}", seconds(&answer))));
    assert_eq!(house.upstream.count(), 120, "the refused one went nowhere");
    let free = call(house.gateway(), "GET", "/free", &[]);
    assert_eq!(
        (free.status, free.field("ratelimit-policy"), free.field("ratelimit")),
        (200, None, None)
    );
}

#[test]
fn the_address_that_counts_is_the_judged_one() {
    let distrusting = House::alone("");
    for n in 0..120 {
        let forged = format!("198.51.100.{n}");
        assert_eq!(
            call(distrusting.gateway(), "GET", "/token", &[("X-Forwarded-For", &forged)]).status,
            200
        );
    }
    let answer = call(distrusting.gateway(), "GET", "/token", &[("X-Forwarded-For", "198.51.100.200")]);
    assert_eq!(answer.status, 429, "an untrusted peer cannot choose its address");

    let trusting = House::alone("[proxies]\ntrusted = [\"127.0.0.1\"]\n");
    let from = |client: &str| call(trusting.gateway(), "GET", "/token", &[("X-Forwarded-For", client)]).status;
    for n in 0..120 {
        assert_eq!(from(&format!("2001:db8:0:1::{n:x}")), 200);
    }
    assert_eq!(from("2001:db8:0:1:ffff::1"), 429, "an IPv6 client is its /64");
    assert_eq!(from("2001:db8:0:2::1"), 200);
}

#[test]
fn callers_are_limited_by_credential_and_by_tenant_once_they_are_known() {
    let house = House::alone("");
    let gateway = house.gateway();
    let key = || text(&gateway.create_key("api", "acme", &["--mode", "live"]), "key");
    let (one, two) = (key(), key());
    for _ in 0..20 {
        assert_eq!(get(gateway, "/mine", "tlive_guess").status, 401, "who is nobody uses up nothing");
    }
    let statuses = |key: &str| (0..4).map(|_| get(gateway, "/mine", key).status).collect::<Vec<_>>();
    assert_eq!(statuses(&one), [200, 200, 200, 429]);
    // The refused request of the first key had not reached the tenant's limit: 3 of 5 are used.
    assert_eq!(statuses(&two), [200, 200, 429, 429]);
    let told = get(gateway, "/mine", &one);
    assert_eq!(
        told.field("ratelimit-policy"),
        Some("\"credential\";q=3;w=3600, \"tenant\";q=5;w=3600")
    );
    assert!(seconds(&told) > 3_500);
    gateway.json(&["tenants", "create", "other"]);
    let other = text(&gateway.create_key("api", "other", &["--mode", "live"]), "key");
    assert_eq!(get(gateway, "/mine", &other).status, 200);
}

/// How many of these many requests, in turn to every gateway, are admitted.
fn admitted(house: &House, path: &str, requests: usize) -> usize {
    let mut clients: Vec<Client> = house.gateways.iter().map(|g| Client::connect(g.address("plain"))).collect();
    let count = clients.len();
    let request = head("GET", path, &[]);
    (0..requests)
        .filter(|n| {
            let client = &mut clients[n % count];
            client.send(&request);
            client.response().unwrap().status == 200
        })
        .count()
}

fn wait_for_shared_counts(house: &House) {
    for gateway in &house.gateways {
        until("the shared count to answer", PATIENCE, || {
            // Asked first without a count of one's own: 503 tells that it is not there yet.
            (call(gateway, "GET", "/strict", &[]).status != 503).then_some(())
        });
    }
}

#[test]
fn gateways_count_together_and_go_on_by_themselves_when_redis_is_gone() {
    let mut redis = RedisServer::start();
    let url = redis.url();
    let house = House::open(|pepper| Store::Redis { url: url.clone(), pepper }, 2, "");
    wait_for_shared_counts(&house);
    assert_eq!(admitted(&house, "/together", 30), 10, "of both gateways together");
    let keys: Vec<String> = redis.command(&["KEYS", "*:l:*"]);
    assert_eq!(keys.len(), 2, "one for each route: {keys:?}");
    let life: i64 = redis.command(&["PTTL", &keys[0]]);
    assert!((1..=3_600_000).contains(&life), "it is forgotten by itself: {life}");

    // What Redis forgot, gateways still know of what they admitted or heard refused themselves.
    let _: String = redis.command(&["FLUSHALL"]);
    assert_eq!(admitted(&house, "/together", 10), 0);
    redis.kill();
    assert_eq!(admitted(&house, "/together", 10), 0, "refused by what is known here");
    let answer = call(house.gateway(), "GET", "/strict", &[]);
    assert_eq!(refusal(&answer).0, 503, "{answer:?}");
    assert!(answer.field("retry-after").is_some());
    assert_eq!(call(house.gateway(), "GET", "/free", &[]).status, 200);
}

#[test]
fn without_redis_each_gateway_counts_for_itself_and_a_hanging_one_costs_little() {
    let redis = RedisServer::start();
    let url = redis.url();
    let house = House::open(|pepper| Store::Redis { url: url.clone(), pepper }, 2, "");
    wait_for_shared_counts(&house);
    redis.pause();
    let begin = durward::base::clock::instant();
    assert_eq!(admitted(&house, "/together", 40), 20, "ten by each gateway");
    let took = begin.elapsed();
    assert!(took.as_millis() < 20 * 50 + 2_000, "20 waits of at most 50 ms each: {took:?}");
    redis.resume();
}
