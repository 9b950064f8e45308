//! The configuration and the commands of the README do what it says.

use crate::support::gateway::Gateway;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::text;

/// The README's TOML blocks: file name (from the first line's comment) and text.
fn blocks() -> Vec<(String, String)> {
    let readme = include_str!("../../../README.md");
    readme
        .split("```toml\n# ")
        .skip(1)
        .map(|rest| {
            let block = rest.split("```").next().unwrap();
            let (name, body) = block.split_once('\n').unwrap();
            (name.to_owned(), body.to_owned())
        })
        .collect()
}

#[test]
fn the_readmes_configuration_and_commands_do_what_it_says() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    std::fs::remove_file(site.folder().join("upstreams/main.toml")).unwrap();
    let files = blocks();
    let names: Vec<&str> = files.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["gateway.toml", "upstreams/orders.toml"]);
    for (name, body) in &files {
        let body = body.replace("127.0.0.1:8080", "127.0.0.1:0");
        site.write(name, &body.replace("127.0.0.1:9000", &upstream.address.to_string()));
    }
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.json(&[
        "keys",
        "create",
        "--surface",
        "api",
        "--tenant",
        "acme",
        "--mode",
        "live",
        "--scope",
        "orders:read",
    ]);
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    assert!(key.starts_with("acme_live_"), "the README shows another prefix");
    assert!(id.starts_with("key_"), "the README shows another form of id");
    let call = || {
        let mut client = crate::support::raw::Client::connect(gateway.address("public"));
        client.send(&super::head("GET", "/v1/orders/42", &[("Authorization", &format!("Bearer {key}"))]));
        client.final_response_to("GET").map(|r| r.status)
    };
    assert_eq!(call(), Some(200));
    assert_eq!(upstream.requests()[0].all("x-tenant-id"), ["acme"]);
    gateway.json(&["keys", "revoke", &id]);
    until("the revocation", PATIENCE, || (call() == Some(401)).then_some(()));
}
