//! An example with its gateways and its upstream, and its answers as a whole.

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::Response;
use crate::support::redis::RedisServer;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

use super::site;

/// One example in front of an upstream that records, with one gateway or several.
pub(super) struct House {
    pub(super) upstream: Upstream,
    pub(super) sites: Vec<Site>,
    pub(super) gateways: Vec<Gateway>,
    /// Of gateways over Redis.
    pub(super) redis: Option<RedisServer>,
}

impl House {
    /// The example over its embedded store.
    pub(super) fn open(example: &str) -> Self {
        Self::edited(example, &[])
    }

    /// The example with some texts of its `gateway.toml` replaced; each must be there.
    pub(super) fn edited(example: &str, edits: &[(&str, &str)]) -> Self {
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
    pub(super) fn pair(example: &str, edits: &[(&str, &str)]) -> Self {
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
    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateways[0]
    }
}

/// The example's files in front of this upstream.
pub(super) fn copy(example: &str, upstream: &Upstream, edits: &[(&str, &str)]) -> Site {
    site(example, upstream.address, edits)
}

/// The whole of an answer: status, fields in the order of their names, body. `Date`, `X-Request-Id` and
/// `Content-Length` are checked by shape and left out.
pub(super) fn whole(response: &Response) -> String {
    assert!(response.complete, "{response:?}");
    let mut lines = Vec::new();
    for (name, value) in &response.fields {
        match name.as_str() {
            "date" => assert!(value.ends_with(" GMT"), "{value}"),
            "x-request-id" => assert!((16..=64).contains(&value.len()), "{value}"),
            "content-length" => assert_eq!(value, &response.body.len().to_string()),
            // Every answer of an example with CORS rules has it.
            "vary" if value == "Origin" => {}
            _ => lines.push(format!("{name}: {value}")),
        }
    }
    lines.sort();
    let body = String::from_utf8(response.body.clone()).unwrap();
    format!("{}\n{}\n\n{body}", response.status, lines.join("\n"))
}

/// A member of a JSON object, as text.
pub(super) fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}
