//! Pages of other origins: what loads, and what is warned of.

use super::*;

const SESSION: &str = r#"
[surfaces.people]
kind = "account"
login_field = "email"
password_field = "password"

[surfaces.web]
kind = "session_jwt"
carry = ["bearer", "cookie:sid"]
token_kind = "web"
secrets = "env:S"
record = "own"
lifetime = "15m"
refresh = { after = "5m", header = "X-Session-Token" }

[[routes]]
path = "/log-in"
methods = ["POST"]
access = { surfaces = ["people"] }
serve = "mint"
mint = [{ surface = "web", parent = "caller" }]
answer.body = '{{ credential.token }}'
"#;

const APP: &str = "[cors]\norigins = [\"https://app.example.com\"]\ncredentials = true\n";

/// The warnings of a gateway with a session cookie, more tables, and one more route.
fn warnings(tables: &str, route: &str) -> Vec<String> {
    let gateway = format!("{GATEWAY}{SESSION}{tables}");
    let mut files = table(&[
        ("gateway.toml", &gateway),
        (
            "upstreams/orders.toml",
            &format!("{ORDERS}[[routes]]\npath = \"/home\"\nmethods = [\"GET\"]\naccess = {{ surfaces = [\"web\"] }}\n{route}"),
        ),
    ]);
    files.variables.insert("S".into(), "0123456789abcdef0123456789abcdef".into());
    let loaded = check(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = loaded
        .warnings
        .iter()
        .filter(|d| d.problem.weight == error::ProblemSeverity::Warning);
    warnings.map(|d| d.problem.message.clone()).collect()
}

fn of_cookie(sibling: &str) -> Vec<String> {
    vec![format!("other hosts of the domain, such as `{sibling}`, can set the cookie `sid`")]
}

#[test]
fn a_session_cookie_that_other_hosts_can_set_is_warned_of() {
    assert_eq!(warnings(APP, ""), of_cookie("app.example.com"));
    assert_eq!(warnings(APP, "hosts = [\"api.example.com\"]\n"), of_cookie("app.example.com"));
    let wildcard = APP.replace("app.", "*.");
    assert_eq!(warnings(&wildcard, "hosts = [\"api.example.com\"]\n"), of_cookie("*.example.com"));
    let own = "cors = { origins = [\"https://app.example.com\"] }\nhosts = [\"api.example.com\"]\n";
    assert_eq!(warnings("", own), of_cookie("app.example.com"));
    let two = "hosts = [\"api.example.com\", \"www.example.com\"]\n";
    assert_eq!(warnings("", two), of_cookie("api.example.com"));
    assert_eq!(warnings("", "hosts = [\"*.example.com\"]\n"), of_cookie("*.example.com"));
}

#[test]
fn a_session_cookie_that_nobody_else_can_set_is_not() {
    let none: [String; 0] = [];
    assert_eq!(warnings("", ""), none, "no host is known");
    assert_eq!(warnings("", "hosts = [\"api.example.com\"]\n"), none, "one host");
    assert_eq!(
        warnings("", "hosts = [\"api.example.com\", \"api.example.net\"]\n"),
        none,
        "two domains"
    );
    assert_eq!(
        warnings("", "hosts = [\"10.0.0.1\", \"10.0.0.2\"]\n"),
        none,
        "addresses have no domain"
    );
    assert_eq!(warnings(APP, "hosts = [\"api.example.net\"]\n"), none, "another site's page");
    let anybody = "[cors]\norigins = [\"*\"]\n";
    assert_eq!(warnings(anybody, "hosts = [\"api.example.com\"]\n"), none);
    let local = APP.replace("https://app.example.com", "http://localhost:3000");
    assert_eq!(warnings(&local, ""), none);
}

#[test]
fn the_prefix_that_keeps_others_out_is_enough() {
    let gateway = format!("{GATEWAY}{}{APP}", SESSION.replace("cookie:sid", "cookie:__Host-sid"));
    let route = "[[routes]]\npath = \"/home\"\naccess = { surfaces = [\"web\"] }\n";
    let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", &format!("{ORDERS}{route}"))]);
    files.variables.insert("S".into(), "0123456789abcdef0123456789abcdef".into());
    let loaded = check(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = loaded
        .warnings
        .iter()
        .filter(|d| d.problem.weight == error::ProblemSeverity::Warning);
    assert_eq!(warnings.count(), 0);
}

#[test]
fn credentials_without_a_cookie_are_warned_of() {
    let gateway = format!("{APP}{GATEWAY}");
    let files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    let loaded = check(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = loaded
        .warnings
        .iter()
        .filter(|d| d.problem.weight == error::ProblemSeverity::Warning);
    let messages: Vec<_> = warnings.map(|d| d.problem.message.clone()).collect();
    assert_eq!(messages, ["no surface is carried in a cookie: `credentials` has no effect"]);
}

#[test]
fn a_route_has_its_own_rules_those_of_all_or_none() {
    let text = format!("{APP}{GATEWAY}");
    let route = |cors: &str| format!("{ORDERS}{cors}\n");
    let rules = |cors: &str| {
        let files = table(&[("gateway.toml", &text), ("upstreams/orders.toml", &route(cors))]);
        let loaded = check(&files).unwrap_or_else(|errors| panic!("{errors}"));
        let cors = &loaded.snapshot.cors;
        assert!(cors.others.is_some());
        cors.routes[0].as_ref().map(|own| own.trusts(b"https://app.example.com"))
    };
    assert_eq!(rules(""), Some(true));
    assert_eq!(rules("cors = \"none\""), None);
    assert_eq!(rules("cors = { origins = [\"https://other.example\"] }"), Some(false));
    assert_eq!(
        rules("[routes.cors]\norigins = [\"https://app.example.com\"]\ncredentials = true"),
        Some(true)
    );
}
