//! Exchanges that fail: the access line names the endpoint, the attempts and the reason, and an ejection says why.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};
use crate::support::wait::{PATIENCE, until};

/// What an endpoint does with each connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Closes it once the request is there.
    Close,
    /// Resets it.
    Reset,
    /// Sends this and closes it.
    Say(&'static [u8]),
    /// Sends nothing, for as long as the client waits.
    Nothing,
}

struct Endpoint {
    address: SocketAddr,
    _thread: JoinHandle<()>,
}

impl Endpoint {
    fn of(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                match manner {
                    Manner::Close => drop(stream),
                    Manner::Reset => {
                        let socket = socket2::SockRef::from(&stream);
                        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                    }
                    Manner::Say(bytes) => stream.write_all(bytes).unwrap(),
                    Manner::Nothing => held.push(stream),
                }
            }
        });
        Self { address, _thread: thread }
    }
}

fn site(endpoints: &[String], more: &str) -> Site {
    let plan = Plan {
        upstream: format!(
            "name = \"main\"\nendpoints = {endpoints:?}\nconnect_timeout = \"1s\"\n{more}\n\
             [[routes]]\npath = \"/**\"\naccess = \"public\"\nresponse_timeout = \"300ms\"\n"
        ),
        ..Plan::usual()
    };
    Site::of(&plan, "127.0.0.1:9".parse().unwrap())
}

fn ask(gateway: &Gateway, method: &str) -> u16 {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").as_bytes());
    client.response().expect("an answer").status
}

/// Lines that have this member.
fn lines_with(gateway: &Gateway, member: &str) -> Vec<Value> {
    let output = gateway.output();
    let text = String::from_utf8_lossy(&output).into_owned();
    let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| !line[member].is_null()).collect()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn the_access_line_of_a_failed_exchange_says_where_how_often_and_why() {
    let nobody = free_address();
    let endpoints: Vec<(Option<Endpoint>, &str, &str, u16)> = vec![
        (None, "http://{}", "connect_refused", 502),
        (Some(Endpoint::of(Manner::Close)), "http://{}", "closed_before_answer", 502),
        (Some(Endpoint::of(Manner::Reset)), "http://{}", "reset", 502),
        (
            Some(Endpoint::of(Manner::Say(b"what?\r\n\r\n"))),
            "http://{}",
            "answer_malformed",
            502,
        ),
        (
            Some(Endpoint::of(Manner::Say(b"HTTP/1.1 200 OK\r\nA:"))),
            "http://{}",
            "answer_cut_short",
            502,
        ),
        (Some(Endpoint::of(Manner::Nothing)), "http://{}", "answer_timed_out", 504),
        (Some(Endpoint::of(Manner::Say(b"no TLS"))), "https://{}", "tls_failed", 502),
        (Some(Endpoint::of(Manner::Nothing)), "https://{}", "connect_timed_out", 502),
        (None, "http://nowhere.invalid:1", "dns_failed", 502),
    ];
    for (endpoint, form, failure, status) in &endpoints {
        let address = endpoint.as_ref().map_or(nobody, |endpoint| endpoint.address);
        let url = form.replace("{}", &address.to_string());
        let tls = if url.starts_with("https") {
            "tls = { ca = \"cert.pem\" }\n"
        } else {
            ""
        };
        let site = site(std::slice::from_ref(&url), tls);
        let gateway = Gateway::start(&site);
        assert_eq!(ask(&gateway, "POST"), *status, "{failure}");
        let line = until("the access line", PATIENCE, || lines_with(&gateway, "request_id").pop());
        let (_, authority) = url.split_once("://").unwrap();
        assert_eq!(line["failure"], *failure, "{line}");
        assert_eq!(line["endpoint"], authority, "{line}");
        assert_eq!(line["upstream"], "main", "{line}");
        assert!(line["attempts"].as_u64().unwrap() >= 1, "{line}");
    }
}

#[test]
fn attempts_are_counted_and_a_good_answer_names_no_failure() {
    let good = Endpoint::of(Manner::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    let url = |address: SocketAddr| format!("http://{address}");
    let site_of_two = site(&[url(free_address()), url(free_address())], "");
    let gateway = Gateway::start(&site_of_two);
    assert_eq!(ask(&gateway, "GET"), 502);
    let line = until("the access line", PATIENCE, || lines_with(&gateway, "request_id").pop());
    assert_eq!(
        (&line["failure"], &line["attempts"]),
        (&"connect_refused".into(), &3.into()),
        "{line}"
    );
    let site_of_one = site(&[url(good.address)], "");
    let gateway = Gateway::start(&site_of_one);
    assert_eq!(ask(&gateway, "GET"), 200);
    let line = until("the access line", PATIENCE, || lines_with(&gateway, "request_id").pop());
    assert_eq!((&line["failure"], &line["attempts"]), (&Value::Null, &1.into()), "{line}");
}

#[test]
fn an_ejection_says_why() {
    let silent = Endpoint::of(Manner::Close);
    let site = site(&[format!("http://{}", silent.address)], "ejection = { failures = 1 }\n");
    let gateway = Gateway::start(&site);
    assert_eq!(ask(&gateway, "POST"), 502);
    let line = until("the ejection", PATIENCE, || {
        let all = lines_with(&gateway, "why");
        all.into_iter().find(|line| line["message"] == "endpoint ejected")
    });
    assert_eq!(line["why"], "closed_before_answer", "{line}");
    assert_eq!(
        (&line["upstream"], &line["endpoint"]),
        (&"main".into(), &silent.address.to_string().into()),
        "{line}"
    );
}
