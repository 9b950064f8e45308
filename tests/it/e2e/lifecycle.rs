//! Reload, drain, restart: the configuration changes as a whole or not at all, and nothing in flight is lost.

use std::io::Write as _;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

use super::{call, get, head, text};

const MORE: &str = "\n[[routes]]\npath = \"/more/**\"\nmethods = [\"GET\"]\naccess = \"public\"\n";

#[test]
fn a_good_change_holds_and_a_bad_one_changes_nothing_and_is_reported() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let status = |target: &str| call(&gateway, "GET", target, &[]).status;
    let first = site.read("upstreams/main.toml");
    assert_eq!(status("/more/x"), 404);
    site.write("upstreams/main.toml", &format!("{first}{MORE}"));
    assert_eq!(gateway.run(&["reload"]).code, 0);
    assert_eq!(status("/more/x"), 200);

    site.write("upstreams/main.toml", &format!("{first}{MORE}acces = 1\n"));
    let refused = gateway.run(&["reload"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let report = format!("{}{}", refused.stdout, refused.stderr);
    assert!(report.contains("acces") && report.contains("main.toml"), "{report}");
    assert_eq!(status("/more/x"), 200, "what held goes on holding");

    site.write("upstreams/main.toml", &first);
    gateway.signal(Signal::HUP);
    until("the signal to reload", PATIENCE, || (status("/more/x") == 404).then_some(()));
    site.write("upstreams/main.toml", &format!("{first}{MORE}"));
    until("the change of a file to reload", PATIENCE, || {
        (status("/more/x") == 200).then_some(())
    });
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_takes_nothing_new() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::scripted(When::Body, move |request, stream| {
        if request.target == "/public/slow" {
            let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")?;
        Ok(Then::Keep)
    });
    let plan = Plan {
        tables: "\n[limits]\ndrain_delay = \"0s\"\ndrain_timeout = \"20s\"\n".to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let mut gateway = Gateway::start(&site);
    let address = gateway.address("plain");
    let mut idle = Client::connect(address);
    idle.send(&head("GET", "/public/x", &[]));
    assert_eq!(idle.response().map(|r| r.status), Some(200));
    let mut busy = Client::connect(address);
    busy.send(&head("GET", "/public/slow", &[]));
    until("the slow request to arrive", PATIENCE, || {
        upstream.requests().iter().any(|r| r.target == "/public/slow").then_some(())
    });
    gateway.signal(Signal::TERM);
    idle.set_patience(PATIENCE);
    assert!(idle.closes(), "an idle connection is closed");
    until("new connections to be refused", PATIENCE, || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    assert!(gateway.is_running(), "it waits for what is in flight");
    release.send(()).unwrap();
    let answer = busy.response().expect("the answer in flight");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"done".as_slice()));
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(gateway.wait_exit(PATIENCE).success());
}

#[test]
fn a_key_survives_a_kill_and_a_restart() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let made = |scope: &str| gateway.create_key("api", "acme", &["--mode", "live", "--scope", scope]);
    let (kept, ended) = (made("orders:read"), made("orders:read"));
    gateway.json(&["keys", "revoke", &text(&ended, "id")]);
    gateway.signal(Signal::KILL);
    drop(gateway);
    let gateway = Gateway::start(&site);
    assert_eq!(get(&gateway, "/v1/orders/1", &text(&kept, "key")).status, 200);
    assert_eq!(get(&gateway, "/v1/orders/1", &text(&ended, "key")).status, 401);
}

#[test]
fn probes_tell_life_and_readiness_and_nothing_else() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let status = |path: &str| {
        let mut client = Client::connect(gateway.probes());
        client.send(&head("GET", path, &[]));
        client.final_response_to("GET").map(|r| r.status)
    };
    assert_eq!(status("/livez"), Some(200));
    assert_eq!(status("/readyz"), Some(200));
    assert_eq!(status("/metrics"), Some(200));
    assert_eq!(status("/v1/keys"), Some(404), "the operator's socket only");
}

#[test]
fn six_mistakes_are_reported_at_once_with_file_line_and_caret() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = site.read("gateway.toml").replace("kind = \"api_key\"", "kind = \"api_keys\"");
    let gateway = gateway.replace("format = \"json\"", "format = \"xml\"\ncolour = true");
    site.write("gateway.toml", &gateway);
    let routes = site.read("upstreams/main.toml").replacen("access = \"public\"", "", 1);
    let routes = routes.replacen("surfaces = [\"pair\"]", "surfaces = [\"pear\"]", 1);
    site.write(
        "upstreams/main.toml",
        &routes.replacen("max_body = \"2GiB\"", "max_body = \"2 bananas\"", 1),
    );
    let answer = run(&site.config(), &["check"], b"");
    assert_eq!(answer.code, 78, "{answer:?}");
    let report = format!("{}{}", answer.stdout, answer.stderr);
    for (mistake, file) in [
        ("api_keys", "gateway.toml:"),
        ("xml", "gateway.toml:"),
        ("colour", "gateway.toml:"),
        ("access", "main.toml:"),
        ("pear", "main.toml:"),
        ("bananas", "main.toml:"),
    ] {
        assert!(
            report.contains(mistake) && report.contains(file),
            "{mistake} is not reported:\n{report}"
        );
    }
    assert!(report.matches('^').count() >= 6, "a caret for each:\n{report}");
    assert!(run(&site.config(), &["nonsense"], b"").code == 2);
}

#[test]
fn usage_errors_and_an_absent_gateway_have_their_exit_codes() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let code = |args: &[&str]| run(&site.config(), args, b"").code;
    assert_eq!(code(&["check"]), 0);
    assert_eq!(code(&["keys", "create"]), 2);
    assert_eq!(code(&["tenants", "list"]), 4, "no gateway runs here");
    let started = durward::base::clock::instant();
    assert_eq!(code(&["status"]), 4);
    assert!(started.elapsed() < Duration::from_secs(10));
}
