//! `durward audit query` and `show` over the trail of a gateway that runs, and of one that has stopped.

use std::io::Write as _;

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::{Plan, ROUTES, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

const AUDIT: &str = "[audit]\ndirectory = \"state/audit\"\n";

/// The lines of a query, the newest entry first.
fn query(gateway: &Gateway, filters: &[&str]) -> Vec<Value> {
    let answer = gateway.run(&[&["audit", "query", "--json"], filters].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn entries_are_found_by_every_filter_and_only_those_that_fit() {
    let upstream = Upstream::scripted(When::Head, |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(Then::Keep)
    });
    let plan = Plan {
        tables: AUDIT.to_owned(),
        upstream: ROUTES.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    let mut keys = Vec::new();
    for tenant in ["acme", "globex"] {
        gateway.json(&["tenants", "create", tenant]);
        keys.push(gateway.create_key("api", tenant, &["--mode", "live", "--scope", "orders:read"]));
    }
    let mut ids = Vec::new();
    for (key, path) in [(&keys[0], "/v1/orders/1"), (&keys[1], "/v1/orders/2"), (&keys[0], "/none")] {
        let mut client = Client::connect(gateway.address("plain"));
        let key = key["key"].as_str().unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes());
        let response = client.final_response_to("GET").unwrap();
        ids.push(response.field("x-request-id").unwrap().to_owned());
        // Workers hand entries over when they come to it; the order is known only of one after the other.
        until("the entry of the request", PATIENCE, || {
            (query(&gateway, &["--kind", "request"]).len() == ids.len()).then_some(())
        });
    }
    let found = |filters: &[&str]| -> Vec<String> {
        let entries = query(&gateway, &[&["--kind", "request"], filters].concat());
        entries
            .iter()
            .map(|entry| entry["request_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let credential = keys[0]["id"].as_str().unwrap();
    let denial = query(&gateway, &["--request", &ids[2]])[0]["denial"].as_str().unwrap().to_owned();
    let time = query(&gateway, &["--request", &ids[0]])[0]["time"].as_str().unwrap().to_owned();
    for (filters, wanted) in [
        (&["--tenant", "globex"][..], vec![&ids[1]]),
        (&["--credential", credential], vec![&ids[0]]),
        (&["--request", &ids[2]], vec![&ids[2]]),
        (&["--denial", &denial], vec![&ids[2]]),
        (&["--status", "2xx"], vec![&ids[1], &ids[0]]),
        (&["--status", "404"], vec![&ids[2]]),
        (&["--client", "127.0.0.1", "--limit", "1"], vec![&ids[2]]),
        (&["--client", "192.0.2.1"], vec![]),
        (&["--until", &time], vec![]),
        (&["--tenant", "nobody"], vec![]),
    ] {
        assert_eq!(found(filters).iter().collect::<Vec<_>>(), wanted, "{filters:?}");
    }
    // A gateway that has stopped is asked in the same way.
    let directory = site.folder().join("state/audit");
    drop(gateway);
    let stopped = Gateway::start(&site);
    let shown = stopped.run(&["audit", "show", &ids[0], "--json", "--directory", directory.to_str().unwrap()]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["entries"][0]["path"], "/v1/orders/1", "{shown}");
    let absent = stopped.run(&["audit", "show", "no-such-request"]);
    assert!(absent.code == 3 && absent.stderr.contains("no-such-request"), "{absent:?}");
    let wrong = stopped.run(&["audit", "query", "--status", "9xx"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}
