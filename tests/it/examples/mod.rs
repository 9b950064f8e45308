//! The shipped examples proven end to end: the real binary over copies of their own files.

mod heldsway;
mod holdyn;
mod holdyn_matrix;
mod holdyn_sessions;

use std::path::Path;

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

/// One example in front of an upstream that records, with one gateway or several.
struct House {
    upstream: Upstream,
    sites: Vec<Site>,
    gateways: Vec<Gateway>,
    /// Of gateways over Redis.
    redis: Option<RedisServer>,
}

impl House {
    /// The example over its embedded store.
    fn open(example: &str) -> Self {
        Self::edited(example, &[])
    }

    /// The example with some texts of its `gateway.toml` replaced; each must be there.
    fn edited(example: &str, edits: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echoing();
        let sites = vec![copy(example, &upstream, edits)];
        let gateways = sites.iter().map(Gateway::start).collect();
        Self {
            upstream,
            sites,
            gateways,
            redis: None,
        }
    }

    /// Two gateways over one Redis, with the secrets they then need in common.
    fn pair(example: &str, edits: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echoing();
        let redis = RedisServer::start();
        let store = format!("kind = \"redis\"\nurl = \"{}\"\npepper = \"file:pepper\"", redis.url());
        let mut all = vec![("kind = \"embedded\"\npath = \"state/durward.redb\"", store.as_str())];
        all.extend(edits);
        let sites: Vec<Site> = (0..2).map(|_| copy(example, &upstream, &all)).collect();
        for site in &sites {
            let text = site.read("gateway.toml");
            for name in text.split("generate:state/").skip(1).filter_map(|rest| rest.split('"').next()) {
                site.write(name, &format!("secret-of-both-gateways-{name}-0123456789abcdef"));
            }
            site.write("gateway.toml", &text.replace("generate:state/", "file:"));
            site.write("pepper", "pepper-of-a-test-0123456789abcdef0123456789abcdef");
        }
        let gateways = sites.iter().map(Gateway::start).collect();
        Self {
            upstream,
            sites,
            gateways,
            redis: Some(redis),
        }
    }

    /// The first gateway.
    fn gateway(&self) -> &Gateway {
        &self.gateways[0]
    }
}

/// Copies an example's files to a folder of their own and replaces the addresses.
fn copy(example: &str, upstream: &Upstream, edits: &[(&str, &str)]) -> Site {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let site = Site::usual(upstream.address);
    std::fs::remove_file(site.folder().join("upstreams/main.toml")).unwrap();
    let mut text = std::fs::read_to_string(source.join("gateway.toml")).unwrap();
    for (from, to) in [("127.0.0.1:8080", "127.0.0.1:0")].iter().chain(edits) {
        assert!(text.contains(from), "{from} in {example}");
        text = text.replace(from, to);
    }
    site.write("gateway.toml", &text);
    for file in std::fs::read_dir(source.join("upstreams")).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let name = format!("upstreams/{}", file.file_name().to_str().unwrap());
        site.write(&name, &text.replace("127.0.0.1:9000", &upstream.address.to_string()));
    }
    site
}

/// One request on a connection of its own; a body goes with its length, and as JSON unless told otherwise.
fn call(gateway: &Gateway, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Response {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
    if !body.is_empty() && !fields.iter().any(|(name, _)| *name == "Content-Type") {
        head += "Content-Type: application/json\r\n";
    }
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    let mut client = Client::connect(gateway.address("public"));
    client.send(format!("{head}\r\n{body}").as_bytes());
    client.response_to(method).expect("an answer")
}

/// The whole of an answer: status, fields in the order of their names, body. `Date`, `X-Request-Id` and
/// `Content-Length` are checked by shape and left out.
fn whole(response: &Response) -> String {
    assert!(response.complete, "{response:?}");
    let mut lines = Vec::new();
    for (name, value) in &response.fields {
        match name.as_str() {
            "date" => assert!(value.ends_with(" GMT"), "{value}"),
            "x-request-id" => assert!((16..=64).contains(&value.len()), "{value}"),
            "content-length" => assert_eq!(value, &response.body.len().to_string()),
            _ => lines.push(format!("{name}: {value}")),
        }
    }
    lines.sort();
    let body = String::from_utf8(response.body.clone()).unwrap();
    format!("{}\n{}\n\n{body}", response.status, lines.join("\n"))
}

/// A member of a JSON object, as text.
fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}
