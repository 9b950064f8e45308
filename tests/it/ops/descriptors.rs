//! A thousand idle clients at the real binary: with enough descriptors all are served, with few those who are admitted.

use std::time::Duration;

use durward::base::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::probe;

const CLIENTS: usize = 1_000;
const ROUTE: &str = "name = \"main\"\nendpoints = [\"http://{address}\"]\n[[routes]]\npath = \"/open/**\"\naccess = \"public\"\n";
const GET: &[u8] = b"GET /open/x HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// The test itself opens a thousand connections.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|most| most >= 4_096),
        "this test needs 4,096 descriptors itself"
    );
    let raised = Rlimit {
        current: limit.maximum.or(Some(65_536)),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

fn site(upstream: &Upstream) -> Site {
    let plan = Plan {
        tables: "[limits]\nconnections_per_address = 5000\n".into(),
        upstream: ROUTE.into(),
        ..Plan::usual()
    };
    Site::of(&plan, upstream.address)
}

fn figure(gateway: &Gateway, name: &str) -> usize {
    let metrics = probe(gateway, "/metrics").1;
    let line = metrics.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
    line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap()
}

/// Opens connections that ask nothing, and waits until the gateway has dealt with each.
fn open(gateway: &Gateway, count: usize) -> Vec<Client> {
    let clients: Vec<Client> = (0..count).map(|_| Client::connect(gateway.address("plain"))).collect();
    until("the gateway to deal with all", PATIENCE, || {
        let dealt = figure(gateway, "durward_connections_accepted_total{result=\"accepted\"}")
            + figure(gateway, "durward_connections_accepted_total{result=\"refused_total\"}");
        (dealt >= count).then_some(())
    });
    clients
}

/// Has all of them ask at once; answers how many got an answer. Any other than 200 fails.
fn ask(clients: &mut [Client]) -> usize {
    let mut asked = Vec::new();
    for client in clients {
        if client.try_send(GET).is_ok() {
            asked.push(client);
        }
    }
    let mut served = 0;
    for client in asked {
        // Whoever was refused reads the end, or that the connection was reset.
        client.set_patience(PATIENCE);
        if let Some(answer) = client.response() {
            assert_eq!(answer.status, 200, "{answer:?}");
            served += 1;
        }
    }
    served
}

#[test]
fn a_low_soft_limit_is_raised_and_a_thousand_idle_clients_are_served() {
    raise_own_limit();
    let upstream = Upstream::echoing();
    let site = site(&upstream);
    let gateway = Gateway::start_with_descriptors(&site, 256, 4_096);
    let mut clients = open(&gateway, CLIENTS);
    assert_eq!(ask(&mut clients), CLIENTS);
    assert_eq!(figure(&gateway, "durward_descriptors_limit"), 4_096);
    assert!(figure(&gateway, "durward_descriptors_open") > CLIENTS);
    let ready = probe(&gateway, "/readyz").1;
    assert!(
        ready.contains("\"ready\":true") && ready.contains("client connections at a time instead of"),
        "{ready}"
    );
}

#[test]
fn with_few_descriptors_those_who_are_admitted_are_served_and_the_others_are_told_at_once() {
    raise_own_limit();
    let upstream = Upstream::echoing();
    let site = site(&upstream);
    let gateway = Gateway::start_with_descriptors(&site, 300, 300);
    let most = figure(&gateway, "durward_connections_limit");
    assert!((20..300).contains(&most), "{most}");
    let mut clients = open(&gateway, CLIENTS);
    let began = clock::instant();
    assert_eq!(ask(&mut clients), most);
    assert!(began.elapsed() < Duration::from_secs(8), "nobody hangs");
    assert_eq!(ask(&mut clients), most, "and again, on the same connections");
    // One more is refused at once, and admitted when one has gone.
    let mut refused = Client::connect(gateway.address("plain"));
    assert!(refused.closes());
    drop(clients);
    until("a place", PATIENCE, || {
        (ask(&mut [Client::connect(gateway.address("plain"))]) == 1).then_some(())
    });
    let log = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(log.contains("few_descriptors") && log.contains("LimitNOFILE"), "{log}");
    assert!(probe(&gateway, "/readyz").1.contains("at most 300 files and sockets"));
    assert!(!log.contains("accepting pauses"), "{log}");
}

#[test]
fn without_a_descriptor_for_a_service_the_answer_is_503_and_the_service_is_not_blamed() {
    let upstream = Upstream::echoing();
    let site = site(&upstream);
    let gateway = Gateway::start(&site);
    let mut clients = [(); 2].map(|()| Client::connect(gateway.address("plain")));
    for client in &mut clients {
        // This request shows that the connection is accepted; it opens none to the service.
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.response().expect("an answer").status, 404);
    }
    // The process may open nothing more: no descriptor is left for a connection to the service.
    gateway.leave_no_descriptor();
    for _ in 0..10 {
        clients[0].send(GET);
        assert_eq!(clients[0].response().expect("an answer").status, 503);
    }
    gateway.limit_descriptors(1_024);
    assert_eq!(ask(&mut clients), 2);
    assert_eq!(
        figure(&gateway, "durward_upstream_events_total{upstream=\"main\",event=\"ejections\"}"),
        0
    );
    assert_eq!(
        figure(
            &gateway,
            "durward_upstream_events_total{upstream=\"main\",event=\"connect_failures\"}"
        ),
        0
    );
}

#[test]
fn a_check_and_a_start_say_what_there_are_too_few_descriptors_for() {
    let upstream = Upstream::echoing();
    let site = site(&upstream);
    let under = |limit: u64, command: &str| {
        let script = format!("ulimit -n {limit} && exec \"$0\" {command} --config \"$1\"");
        let output = std::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_durward")])
            .arg(site.config())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = under(300, "check");
    assert_eq!(code, Some(0));
    assert!(said.contains("at most 300 files and sockets may be open, which leaves"), "{said}");
    let (code, said) = under(60, "serve");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("at most 60 files and sockets may be open, and the gateway needs"),
        "{said}"
    );
    assert!(!run(&site.config(), &["check", "--json"], b"").json()["valid"].is_null());
}
