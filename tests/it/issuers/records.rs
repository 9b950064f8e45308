//! Subjects and scopes as providers write them, in records, routes and roles of our own, through the real binary.

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/drive/**"
access = { surfaces = ["api"], scopes = ["https://www.googleapis.com/auth/drive.file"] }

[[routes]]
path = "/orders/**"
access = { surfaces = ["api"], scopes = ["orders-api/orders.read"] }
"#;

const ROLES: &str = r#"
[roles.driver]
scopes = ["https://www.googleapis.com/auth/drive.file"]
"#;

fn call(gateway: &Gateway, path: &str, key: &str) -> Response {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nX-Auth-Subject: forged\r\n\r\n").as_bytes(),
    );
    client.response().expect("an answer")
}

struct House {
    upstream: Upstream,
    _site: Site,
    gateway: Gateway,
}

fn open() -> House {
    let upstream = Upstream::echoing();
    let plan = Plan {
        tables: ROLES.to_owned(),
        upstream: ROUTES.to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    House {
        upstream,
        _site: site,
        gateway,
    }
}

#[test]
fn records_routes_and_roles_take_them_too() {
    let house = open();
    let (upstream, gateway) = (&house.upstream, &house.gateway);
    for (n, (subject, header)) in [
        ("auth0|5f7c8ec7c33c6c004bbafe82", "auth0|5f7c8ec7c33c6c004bbafe82"),
        ("spiffe://example.org/web", "spiffe://example.org/web"),
        ("J\u{fc}rgen M\u{fc}ller", "J%C3%BCrgen%20M%C3%BCller"),
        ("a%20b&limit=1", "a%2520b&limit=1"),
    ]
    .into_iter()
    .enumerate()
    {
        let made = gateway.create_key(
            "api",
            "acme",
            &[
                "--mode",
                "live",
                "--scope",
                "orders-api/orders.read",
                "--role",
                "driver",
                "--subject",
                subject,
            ],
        );
        let key = made["key"].as_str().unwrap();
        for path in ["/drive/1", "/orders/1"] {
            upstream.forget();
            assert_eq!(call(gateway, path, key).status, 200, "{subject} {path}");
            let seen = &upstream.requests()[0];
            assert_eq!(seen.all("x-auth-subject"), [header]);
            assert_eq!(
                seen.all("x-scopes"),
                ["orders-api/orders.read https://www.googleapis.com/auth/drive.file"]
            );
        }
        let path = format!("/orders/{n}-line");
        assert_eq!(call(gateway, &path, key).status, 200);
        let line = until("the access line", PATIENCE, || super::providers::access_line(gateway, &path));
        assert_eq!(line["principal"], json!(subject), "the log has the subject itself, escaped as JSON");
    }
}

#[test]
fn what_is_none_is_refused_when_it_is_made_and_no_scope_is_part_of_another() {
    let house = open();
    let gateway = &house.gateway;
    let poor = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders-api/orders"]);
    assert_eq!(
        call(gateway, "/orders/1", poor["key"].as_str().unwrap()).status,
        403,
        "no scope is a part of another"
    );
    for (option, bad) in [("--scope", "a b"), ("--scope", "a\"b"), ("--subject", "a\u{7}b"), ("--subject", "")] {
        let refused = gateway.run(&[
            "keys",
            "create",
            "--surface",
            "api",
            "--tenant",
            "acme",
            "--mode",
            "live",
            option,
            bad,
        ]);
        assert_eq!(refused.code, 2, "{option} {bad:?}: {refused:?}");
    }
    let made = gateway.json(&[
        "roles",
        "create",
        "--tenant",
        "acme",
        "--name",
        "reader",
        "--scope",
        "api://orders/Read.All",
    ]);
    assert_eq!(made["scopes"], json!(["api://orders/Read.All"]));
}
