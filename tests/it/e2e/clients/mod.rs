//! HTTP as clients and services really send it: what has to pass, each beside what must still be refused.

mod answers;
mod fields;
mod h2;
mod paths;
mod requests;

use std::path::Path;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;

use super::{call, refusal};

/// A gateway before a service, on a site of these routes.
struct House {
    upstream: Upstream,
    gateway: Gateway,
    site: Site,
}

impl House {
    fn open(upstream: Upstream, routes: &str, tables: &str) -> Self {
        let plan = Plan {
            upstream: routes.to_owned(),
            tables: tables.to_owned(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        Self { upstream, gateway, site }
    }

    /// A GET, and what the service got of it.
    fn reaches(&self, target: &str, fields: &[(&str, &str)]) -> (Response, Vec<String>) {
        self.upstream.forget();
        let answer = call(&self.gateway, "GET", target, fields);
        let targets = self.upstream.requests().into_iter().map(|r| r.target).collect();
        (answer, targets)
    }

    /// The first answer to these bytes.
    fn say(&self, bytes: &[u8]) -> Option<Response> {
        let mut client = Client::connect(self.gateway.address("plain"));
        client.send(bytes);
        client.final_response_to("GET")
    }
}

/// The mistakes that `durward check` finds in a site with these routes.
fn check(routes: &str, tables: &str) -> String {
    let plan = Plan {
        upstream: routes.to_owned(),
        tables: tables.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, "127.0.0.1:9".parse().unwrap());
    checked(&site.config())
}

fn checked(config: &Path) -> String {
    let answer = crate::support::gateway::run(config, &["check"], b"");
    format!("{}{}", answer.stdout, answer.stderr)
}
