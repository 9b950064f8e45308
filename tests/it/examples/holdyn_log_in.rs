//! holdyn: who may try passwords how often, who waits for a hash, and which password counts.

use serde_json::json;

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::{Gateway, run};
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::holdyn::BASE;
use super::house::{House, text};
use super::{call, site_over_redis};

const PASSWORD: &str = "correct horse battery";
const HOME: &str = "198.51.100.1";
const ANN: &str = "ann@acme.example";

/// The example behind a proxy that says where its clients are, with these lines of configuration.
fn open(lines: &str) -> House {
    let trusting = format!("[proxies]\ntrusted = [\"127.0.0.1\"]\n\n{lines}\n[admin]");
    House::edited("holdyn", &[("[admin]", &trusting)])
}

fn body(email: &str, password: &str) -> String {
    json!({ "email": email, "password": password }).to_string()
}

fn post(gateway: &Gateway, from: &str, path: &str, body: &str) -> Response {
    call(gateway, "POST", &format!("{BASE}{path}"), &[("X-Forwarded-For", from)], body)
}

fn log_in(gateway: &Gateway, from: &str, email: &str, password: &str) -> Response {
    post(gateway, from, "/auth/login", &body(email, password))
}

/// Signs up from the holder's own address, and logs in there.
fn holder(gateway: &Gateway, email: &str) {
    assert_eq!(post(gateway, HOME, "/auth/signup", &body(email, PASSWORD)).status, 201);
    assert_eq!(log_in(gateway, HOME, email, PASSWORD).status, 200);
}

/// A request whose answer is not waited for yet.
fn begin(gateway: &Gateway, from: &str, path: &str, body: &str) -> Client {
    let mut client = Client::connect(gateway.address("public"));
    let length = body.len();
    client.send(
        format!(
            "POST {BASE}{path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {from}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
    client
}

/// The statuses of all of them.
fn statuses(clients: Vec<Client>) -> Vec<u16> {
    let answers = clients.into_iter().map(|mut client| client.response().expect("an answer"));
    answers.map(|answer| answer.status).collect()
}

fn count(statuses: &[u16], wanted: u16) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

fn seconds(answer: &Response) -> u64 {
    answer.field("retry-after").expect("when to come back").parse().unwrap()
}

#[test]
fn a_full_hash_queue_gives_no_guess_away() {
    let lines = "[log_in]\ntries_per_account_and_address = 3\nhashes_at_once = 1\nhashes_waiting = 1\n";
    let house = open(lines);
    let gateway = house.gateway();
    let mut unjudged = 0;
    for n in 0..8 {
        let email = format!("somebody-{n}@acme.example");
        let guess = || log_in(gateway, "203.0.113.9", &email, "a guess");
        let mut judged = 0;
        for _ in 0..2 {
            assert_eq!(guess().status, 401);
            judged += 1;
        }
        // The third, while others fill the queue.
        for _ in 0..6 {
            let crowd = |at: u32| {
                begin(
                    gateway,
                    &format!("203.0.113.{at}"),
                    "/auth/login",
                    &body(&format!("{at}-{n}@x.example"), "x"),
                )
            };
            let crowd: Vec<Client> = (20..32).map(crowd).collect();
            match guess().status {
                503 => unjudged += 1,
                status => judged += u32::from(status == 401),
            }
            statuses(crowd);
        }
        while guess().status == 401 {
            judged += 1;
        }
        assert_eq!(judged, 3, "{email}");
        let refused = guess();
        assert_eq!(refused.status, 429);
        assert!((1..=900).contains(&seconds(&refused)));
    }
    assert!(unjudged > 0, "the queue was never full");
}

#[test]
fn fifty_two_sign_ups_do_not_keep_the_right_password_out() {
    let house = open("");
    let gateway = house.gateway();
    holder(gateway, ANN);
    for (wave, addresses) in [("from one address", 1), ("from as many", 52)] {
        let begin_one = |n: u32| {
            let email = format!("{n}-{addresses}@flood.example");
            begin(
                gateway,
                &format!("203.0.113.{}", n % addresses),
                "/auth/signup",
                &body(&email, PASSWORD),
            )
        };
        let flood: Vec<Client> = (0..52).map(begin_one).collect();
        let answer = log_in(gateway, HOME, ANN, PASSWORD);
        assert_eq!(answer.status, 200, "{wave}");
        let told = statuses(flood);
        assert!(count(&told, 503) > 0, "{wave}: there was room for all: {told:?}");
        assert_eq!(count(&told, 503) + count(&told, 201), 52, "{wave}: {told:?}");
    }
}

#[test]
fn an_address_with_many_log_ins_waiting_keeps_nobody_else_out() {
    let house = open("[log_in]\nhashes_at_once = 1\nhashes_waiting = 20\n");
    let gateway = house.gateway();
    holder(gateway, ANN);
    let flood: Vec<Client> = (0..60)
        .map(|n| begin(gateway, "203.0.113.9", "/auth/login", &body(&format!("{n}@x.example"), "a guess")))
        .collect();
    for _ in 0..3 {
        assert_eq!(log_in(gateway, HOME, ANN, PASSWORD).status, 200);
    }
    let told = statuses(flood);
    assert!(count(&told, 503) >= 20, "one address may not have all the places: {told:?}");
    assert_eq!(count(&told, 503) + count(&told, 401), 60, "{told:?}");
}

#[test]
fn log_ins_from_hundreds_of_addresses_do_not_keep_the_holder_out_where_he_is_known() {
    let house = open("[log_in]\nhashes_at_once = 1\nhashes_waiting = 8\n");
    let gateway = house.gateway();
    holder(gateway, ANN);
    let flood: Vec<Client> = (0..200)
        .map(|n| {
            begin(
                gateway,
                &format!("203.0.113.{n}"),
                "/auth/login",
                &body(&format!("{n}@x.example"), "a guess"),
            )
        })
        .collect();
    assert_eq!(log_in(gateway, HOME, ANN, PASSWORD).status, 200);
    let told = statuses(flood);
    assert!(count(&told, 503) >= 100, "{told:?}");
    assert_eq!(count(&told, 503) + count(&told, 401), 200, "{told:?}");
}

#[test]
fn all_addresses_together_have_one_ceiling_and_the_address_known_to_the_holder_passes() {
    let house = open("[log_in]\ntries_per_account_and_address = 4\ntries_per_account = 20\n");
    let gateway = house.gateway();
    holder(gateway, ANN);
    let home = "2001:db8:0:1::1";
    assert_eq!(log_in(gateway, home, ANN, PASSWORD).status, 200);
    let mut judged = 0;
    for n in 0..40 {
        let answer = log_in(gateway, &format!("203.0.113.{n}"), ANN, "a guess");
        match answer.status {
            401 => judged += 1,
            status => {
                assert_eq!(status, 429);
                assert!((1..=900).contains(&seconds(&answer)));
            }
        }
    }
    assert_eq!(judged, 20);
    for known in [HOME, home, "2001:db8:0:1:ffff::2"] {
        assert_eq!(log_in(gateway, known, ANN, PASSWORD).status, 200, "{known}");
    }
    for unknown in ["198.51.100.2", "2001:db8:0:2::1"] {
        let answer = log_in(gateway, unknown, ANN, PASSWORD);
        assert_eq!(answer.status, 429, "{unknown}");
        assert!((1..=900).contains(&seconds(&answer)));
    }
    until("the alarm", PATIENCE, || {
        let output = String::from_utf8_lossy(&gateway.output()).into_owned();
        output.contains("\"alarm\":\"log_in_ceiling\"").then_some(())
    });
    // Who is known has his own limit still, and nobody else is concerned.
    for _ in 0..4 {
        assert_eq!(log_in(gateway, HOME, ANN, "a guess").status, 401);
    }
    assert_eq!(log_in(gateway, HOME, ANN, PASSWORD).status, 429);
    assert_eq!(log_in(gateway, "203.0.113.200", "bob@acme.example", "a guess").status, 401);
}

#[test]
fn a_password_changed_at_another_gateway_counts_at_once_where_no_event_arrives() {
    let (upstream, redis, shared) = (Upstream::echoing(), RedisServer::start(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::to_port(redis.port());
    let site = || site_over_redis("holdyn", upstream.address, &redis, shared.path(), &[]);
    let (near_site, deaf_site) = (site(), site());
    let text_of_deaf = deaf_site.read("gateway.toml").replace(&redis.url(), &proxy.url());
    deaf_site.write("gateway.toml", &text_of_deaf);
    let near = Gateway::start(&near_site);
    near.json(&["tenants", "create", "first"]);
    let deaf = Gateway::start(&deaf_site);
    let signed = post(&near, HOME, "/auth/signup", &body(ANN, PASSWORD));
    assert_eq!(signed.status, 201);
    let id = text(&signed.json()["account"], "id");
    until("the account to be known there", PATIENCE, || {
        (log_in(&deaf, HOME, ANN, PASSWORD).status == 200).then_some(())
    });
    proxy.lose_pushes();
    let changed = run(&near_site.config(), &["accounts", "set-password", &id], b"another password");
    assert_eq!(changed.code, 0, "{changed:?}");
    for (gateway, name) in [(&near, "near"), (&deaf, "deaf")] {
        assert_eq!(log_in(gateway, HOME, ANN, PASSWORD).status, 401, "{name}: the old one");
        assert_eq!(log_in(gateway, HOME, ANN, "another password").status, 200, "{name}: the new one");
    }
    proxy.refuse();
    proxy.sever();
    assert_eq!(
        log_in(&deaf, HOME, ANN, "another password").status,
        503,
        "without the store nobody knows, and nobody is told that it is wrong"
    );
    assert_eq!(log_in(&deaf, HOME, "nobody@acme.example", "x").status, 503);
    for from in [HOME, "203.0.113.9"] {
        for _ in 0..12 {
            assert_eq!(log_in(&deaf, from, ANN, "another password").status, 503);
        }
    }
    proxy.pass();
    for from in [HOME, "203.0.113.9"] {
        until("the store to be back, and none of those tries to be counted", PATIENCE, || {
            (log_in(&deaf, from, ANN, "another password").status == 200).then_some(())
        });
    }
}
