//! A disk that takes no writes under the real binary: what is served, what is said, and that it comes back by itself.

use std::net::SocketAddr;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

fn status(gateway: &Gateway, key: &str) -> u16 {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(format!("GET /v1/orders/1 HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes());
    client.response().expect("an answer").status
}

fn probe(address: SocketAddr, path: &str) -> (u16, String) {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: probe.example\r\n\r\n").as_bytes());
    let answer = client.response().expect("an answer");
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

fn log(gateway: &Gateway, what: &str) -> usize {
    String::from_utf8_lossy(&gateway.output()).matches(what).count()
}

#[test]
fn a_store_that_cannot_be_written_says_so_serves_whom_it_knows_and_comes_back_by_itself() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let fresh = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    assert_eq!(status(&gateway, key), 200);
    assert_eq!(probe(gateway.probes(), "/readyz").0, 200);

    gateway.limit_files(Some(4096));
    let refused = gateway.run(&["keys", "revoke", id]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("nothing was changed") && refused.stderr.contains("LimitFSIZE"),
        "{refused:?}"
    );
    assert!(
        !refused.stderr.contains("repeat") && !refused.stderr.contains("re-open"),
        "{refused:?}"
    );
    let (ready, said) = probe(gateway.probes(), "/readyz");
    assert_eq!(ready, 503, "{said}");
    assert!(said.contains("takes no changes") && said.contains("File too large"), "{said}");
    let metrics = probe(gateway.probes(), "/metrics").1;
    for line in [
        "durward_store_up 0",
        "durward_store_writable 0",
        "durward_store_write_failures_total 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // Whom it knows, whom it looks up, and whom nobody knows.
    assert_eq!(status(&gateway, key), 200);
    assert_eq!(status(&gateway, fresh["key"].as_str().unwrap()), 200);
    assert_eq!(gateway.run(&["keys", "show", "key_nobody"]).code, 3);
    assert_eq!(
        gateway
            .run(&["keys", "create", "--surface", "api", "--tenant", "acme", "--mode", "live"])
            .code,
        4
    );
    assert_eq!(log(&gateway, "store_takes_no_changes"), 1);

    gateway.limit_files(None);
    until("the store to come back by itself", PATIENCE, || {
        (probe(gateway.probes(), "/readyz").0 == 200).then_some(())
    });
    assert_eq!(log(&gateway, "takes changes again"), 1);
    assert_eq!(gateway.run(&["keys", "revoke", id]).code, 0);
    assert_eq!(status(&gateway, key), 401);
    let metrics = probe(gateway.probes(), "/metrics").1;
    for line in ["durward_store_up 1", "durward_store_writable 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    gateway.create_key("api", "acme", &["--mode", "live"]);
}
