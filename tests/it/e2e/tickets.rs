//! Session tickets through the binary: a client that has been at one gateway is known at the others, and after a restart.

use std::sync::Arc;

use rustix::process::Signal;
use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, tls_config};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;

use super::head;

/// One more listener with the same certificate.
const OTHER: &str = "\n[[listeners]]\nname = \"other\"\naddress = \"127.0.0.1:0\"\n\
                     [[listeners.tls.certificates]]\ncert = \"cert.pem\"\nkey = \"file:key.pem\"\n";

/// A client that trusts these sites and remembers its sessions.
fn client(versions: &[&'static SupportedProtocolVersion], sites: &[&Site]) -> Arc<ClientConfig> {
    let roots: Vec<&[u8]> = sites.iter().map(|site| site.root.as_slice()).collect();
    tls_config(versions, &roots, &["http/1.1"]).unwrap()
}

/// Connects and gets an answer, and with it the next ticket. Whether the handshake was a resumption.
fn resumes(gateway: &Gateway, listener: &str, config: &Arc<ClientConfig>) -> bool {
    let mut client = Client::connect_again(gateway.address(listener), "localhost", config).unwrap();
    client.send(&head("GET", "/public/x", &[]));
    assert_eq!(client.response().map(|r| r.status), Some(200));
    client.was_resumed()
}

#[test]
fn a_client_resumes_at_every_gateway_of_a_store_and_at_no_other_listener() {
    let upstream = Upstream::echoing();
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let plan = Plan {
        tables: OTHER.to_owned(),
        ..Plan::redis(&redis.url(), &pepper)
    };
    let (here_site, there_site) = (Site::of(&plan, upstream.address), Site::of(&plan, upstream.address));
    let (here, there) = (Gateway::start(&here_site), Gateway::start(&there_site));
    let modern = client(&[&rustls::version::TLS13], &[&here_site, &there_site]);
    assert!(!resumes(&here, "tls", &modern));
    assert!(resumes(&there, "tls", &modern), "made here, taken there");

    there.signal(Signal::KILL);
    drop(there);
    let there = Gateway::start(&there_site);
    assert!(resumes(&there, "tls", &modern), "made before its restart");
    assert!(!resumes(&there, "other", &modern), "a ticket is for one listener");
    assert!(!resumes(&here, "tls", &modern), "in both directions");

    // Whoever gets the pepper later must not be able to read what was recorded (docs/decisions/0118).
    let old = client(&[&rustls::version::TLS12], &[&here_site, &there_site]);
    assert!(!resumes(&here, "tls", &old));
    assert!(resumes(&here, "tls", &old));
    assert!(!resumes(&there, "tls", &old));
}

#[test]
fn a_client_resumes_after_a_reload_and_a_restart_over_the_embedded_store() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let client = client(&[&rustls::version::TLS13], &[&site]);
    assert!(!resumes(&gateway, "tls", &client));
    assert_eq!(gateway.run(&["reload"]).code, 0);
    assert!(resumes(&gateway, "tls", &client));
    gateway.signal(Signal::KILL);
    drop(gateway);
    assert!(resumes(&Gateway::start(&site), "tls", &client));
}
