//! A tenant's own administrators manage its identity providers by routes: through the real binary, over two gateways.

use durward::base::clock::instant;
use serde_json::{Value, json};

use crate::support::gateway::run;
use crate::support::raw::Response;
use crate::support::wait::{PATIENCE, until};

use super::fake::{CLIENT, SECRET};
use super::site::{Browser, House};

/// People of this tenant who are in the group `admins` manage its providers. The operator made the first provider.
fn administrator<'h>(house: &'h House, tenant: &str, provider: &str) -> Browser<'h> {
    let table = [
        "providers",
        "update",
        provider,
        "--role",
        "sso_admin",
        "--role-claim",
        "groups",
        "--map-role",
        "admins=sso_admin",
        "--map-role",
        "people=viewer",
    ];
    house.gateways[0].json(&table);
    signed_on(house, &format!("/sso/{tenant}?provider={provider}"), "chief", "admins")
}

fn signed_on<'h>(house: &'h House, start: &str, subject: &str, group: &str) -> Browser<'h> {
    let mut browser = house.browser();
    until("the provider is known to the gateway", PATIENCE, || {
        (browser.get(start).status == 303).then_some(())
    });
    browser.cookies.clear();
    let asked = browser.start(start);
    let back = browser.agree(
        &asked,
        &json!({ "sub": subject, "groups": [group], "sid": format!("sid-{subject}") }),
    );
    let answer = browser.get(&back);
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
    browser
}

fn send(browser: &mut Browser<'_>, method: &str, target: &str, body: &Value) -> Response {
    let fields = "Origin: http://localhost\r\nContent-Type: application/json\r\n";
    let body = if body.is_null() { String::new() } else { body.to_string() };
    browser.send(method, target, "application/json", fields, &body)
}

fn told(answer: &Response, status: u16) -> Value {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{text}");
    assert!(!text.contains("canary"), "no secret: {text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

fn new_provider(house: &House) -> Value {
    json!({
        "name": "Second",
        "settings": {
            "provision": true,
            "protocol": { "oidc": { "issuer": house.fake.issuer(), "client_id": CLIENT } },
        },
        "secrets": { "client_secret": SECRET },
    })
}

/// Everything below the folder of the first gateway's audit trail.
fn trail(house: &House) -> String {
    let folder = house.sites[0].folder().join("state/audit");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path()).ok());
    files.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[test]
fn an_administrator_makes_a_provider_by_which_people_sign_on_and_ends_it_on_every_gateway() {
    let house = House::pair();
    let mut admin = administrator(&house, "acme", &house.provider);
    let made = told(&send(&mut admin, "POST", "/providers", &new_provider(&house)), 201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (&made["tenant"], &made["state"], &made["settings"]["session"]),
        (&json!("acme"), &json!("active"), &json!("web"))
    );
    admin.at = 1;
    let listed = told(&admin.get_json("/providers"), 200);
    assert_eq!(listed["providers"].as_array().unwrap().len(), 2, "{listed}");
    let first = told(&admin.get_json("/providers?limit=1"), 200);
    assert_eq!(first["next"], first["providers"][0]["id"]);
    assert_eq!(told(&admin.get_json(&format!("/providers/{id}")), 200), made);
    let tested = told(&send(&mut admin, "POST", &format!("/providers/{id}/test"), &Value::Null), 200);
    assert_eq!((&tested["passed"], &tested["id"]), (&json!(true), &json!(id)), "{tested}");

    let mut ann = signed_on(&house, &format!("/sso/acme?provider={id}"), "ann", "people");
    for at in [0, 1] {
        ann.at = at;
        assert_eq!(ann.me().status, 200);
    }
    let begun = instant();
    let disabled = told(&send(&mut admin, "POST", &format!("/providers/{id}/disable"), &Value::Null), 200);
    assert_eq!(disabled["state"], "disabled");
    for at in [0, 1] {
        ann.at = at;
        until("the session ends with its provider", PATIENCE, || {
            (ann.me().status == 401).then_some(())
        });
    }
    println!(
        "the provider's session ended on two gateways after {} ms",
        begun.elapsed().as_millis()
    );
    admin.at = 0;
    assert_eq!(admin.me().status, 200, "the administrator is of another provider");

    let patch = json!({ "settings": { "provision": false } });
    let changed = told(&send(&mut admin, "PATCH", &format!("/providers/{id}"), &patch), 200);
    assert_eq!(changed["settings"]["provision"], false);
    told(&send(&mut admin, "POST", &format!("/providers/{id}/enable"), &Value::Null), 200);
    let deleted = told(&send(&mut admin, "DELETE", &format!("/providers/{id}"), &Value::Null), 200);
    assert_eq!(deleted["state"], "revoked");
    assert_eq!(
        send(&mut admin, "POST", &format!("/providers/{id}/enable"), &Value::Null).status,
        404
    );

    // Who it was stands beside every change.
    let text = until("the entries of all changes at this gateway", PATIENCE, || {
        let text = trail(&house);
        text.contains("providers.delete").then_some(text)
    });
    assert!(!text.contains("canary"), "no secret on record");
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own: Vec<Value> = entries.filter(|entry| entry["kind"] == "administrator").collect();
    let actions: Vec<&str> = own.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        ["providers.create", "providers.update", "providers.enable", "providers.delete"]
    );
    for entry in &own {
        assert_eq!((&entry["target"], &entry["tenant"]), (&json!(id), &json!("acme")), "{entry}");
        let who = &entry["who"];
        assert_eq!(who["via"], "route");
        assert!(who["credential"].as_str().unwrap().starts_with("ses_"), "{entry}");
        assert!(who["request_id"].is_string() && who["subject"].is_string(), "{entry}");
    }
    assert!(own[1]["before"]["settings"].to_string().contains("provision=true"), "{}", own[1]);
    assert!(own[1]["after"]["settings"].to_string().contains("provision=false"), "{}", own[1]);
    // The command reads the trail by itself, a moment after its entries were written.
    let who = until("the events of the deletion, with their caller", PATIENCE, || {
        let events = house.gateways[0].run(&["events", "--limit", "100", "--json"]).stdout;
        let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ended = events.filter(|event| event["id"] == id && event["action"] == "providers.delete");
        let who: Vec<Value> = ended.map(|event| event["who"]["via"].clone()).collect();
        (!who.is_empty()).then_some(who)
    });
    assert!(
        who.iter().all(|via| via == "route"),
        "the events of the store name the caller: {who:?}"
    );
    assert!(text.contains("***"), "the body is on record, without its secrets");
}

#[test]
fn b32_an_administrator_of_another_tenant_neither_sees_nor_touches_a_provider() {
    let house = House::open();
    house.gateways[0].json(&["tenants", "create", "other"]);
    let create = [
        "--json",
        "providers",
        "create",
        "--tenant",
        "other",
        "--kind",
        "oidc",
        "--surface",
        "web",
        "--account-surface",
        "people",
        "--issuer",
        house.fake.issuer(),
        "--client-id",
        CLIENT,
        "--provision",
    ];
    let other = run(&house.sites[0].config(), &create, SECRET.as_bytes()).json();
    let other = other["id"].as_str().unwrap();
    let mut stranger = administrator(&house, "other", other);
    let listed = told(&stranger.get_json("/providers"), 200);
    assert_eq!(listed["providers"].as_array().unwrap().len(), 1);
    assert_eq!(listed["providers"][0]["id"], other);
    let target = format!("/providers/{}", house.provider);
    assert_eq!(stranger.get_json(&target).status, 404);
    for (method, below) in [
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/disable"),
        ("POST", "/enable"),
        ("POST", "/test"),
    ] {
        let answer = send(&mut stranger, method, &format!("{target}{below}"), &json!({}));
        let unknown = send(&mut stranger, method, &format!("/providers/prv_none{below}"), &json!({}));
        assert_eq!((answer.status, unknown.status), (404, 404), "{method} {below}");
    }
    let shown = house.gateways[0].json(&["providers", "show", &house.provider]);
    assert_eq!(shown["state"], "active");
    // The tenant stands nowhere but in the caller.
    let mut named = new_provider(&house);
    named["tenant"] = json!("acme");
    assert_eq!(send(&mut stranger, "POST", "/providers", &named).status, 422);
    assert_eq!(stranger.get_json("/providers?tenant=acme").status, 422);
}

#[test]
fn b30_attempts_to_have_more_by_a_provider_are_refused_and_on_record() {
    let house = House::open();
    let mut admin = administrator(&house, "acme", &house.provider);
    let mut person = signed_on(&house, "/sso/acme", "ann", "people");
    assert_eq!(person.get_json("/providers").status, 403, "no administrator");
    assert_eq!(send(&mut person, "POST", "/providers", &new_provider(&house)).status, 403);

    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = new_provider(&house);
        change(&mut body);
        body
    };
    let above = send(
        &mut admin,
        "POST",
        "/providers",
        &with(&|body| body["scopes"] = json!(["admin:all"])),
    );
    assert!(told(&above, 403).to_string().contains("insufficient_scope"));
    assert_eq!(house.entry(&above)["cause"], "above_administrator");
    for (change, field) in [
        (
            with(&|body| body["settings"]["domains"] = json!(["victim.example"])),
            "settings.domains",
        ),
        (with(&|body| body["settings"]["session"] = json!("session")), "settings.session"),
        (with(&|body| body["settings"]["claims"] = json!(["tid"])), "settings.claims"),
        (with(&|body| body["roles"] = json!(["nobody"])), "roles"),
        (
            with(&|body| body["metadata_url"] = json!("http://169.254.169.254/")),
            "metadata_url",
        ),
    ] {
        let refused = told(&send(&mut admin, "POST", "/providers", &change), 422);
        assert!(refused.to_string().contains(field), "{field}: {refused}");
    }
    assert_eq!(
        send(
            &mut admin,
            "POST",
            "/providers",
            &with(&|body| body["scopes"] = json!(["orders:read"]))
        )
        .status,
        201
    );

    // The operator gives the first provider more than its administrators have.
    house.gateways[0].json(&[
        "providers",
        "update",
        &house.provider,
        "--role",
        "sso_admin",
        "--scope",
        "admin:all",
    ]);
    let target = format!("/providers/{}", house.provider);
    let hijack = json!({
        "settings": { "protocol": { "oidc": { "issuer": "https://evil.example" } } },
        "secrets": { "client_secret": "x" },
    });
    assert_eq!(send(&mut admin, "PATCH", &target, &hijack).status, 403);
    assert_eq!(send(&mut admin, "DELETE", &target, &Value::Null).status, 403);
    assert_eq!(send(&mut admin, "POST", &format!("{target}/disable"), &Value::Null).status, 200);
    assert_eq!(admin.get_json("/providers").status, 401, "their own session hung on it");
}

#[test]
fn b33_a_test_does_not_tell_what_stands_in_the_network_of_the_gateway() {
    let house = House::open();
    let mut admin = administrator(&house, "acme", &house.provider);
    let mut words = Vec::new();
    let closed = crate::support::redis::free_port();
    for issuer in [format!("https://localhost:{closed}"), "https://no-such-name.invalid".to_owned()] {
        let mut body = new_provider(&house);
        body["settings"]["protocol"]["oidc"]["issuer"] = json!(issuer);
        let made = told(&send(&mut admin, "POST", "/providers", &body), 201);
        let id = made["id"].as_str().unwrap();
        let tested = told(&send(&mut admin, "POST", &format!("/providers/{id}/test"), &Value::Null), 200);
        assert_eq!(tested["passed"], false);
        let checks = tested["checks"].as_array().unwrap();
        let failed = checks.iter().find(|check| check["outcome"] == "failed").unwrap();
        assert_eq!(failed["name"], "provider_unreachable");
        words.push(failed["why"].as_str().unwrap().to_owned());
        let operator = run(&house.sites[0].config(), &["--json", "providers", "test", id], b"");
        let reasons = ["no connection", "does not resolve", "longer than"];
        assert!(
            reasons.iter().any(|reason| operator.stdout.contains(reason)),
            "the operator is told: {operator:?}"
        );
    }
    assert_eq!(words[0], words[1], "a closed port and no name look alike");
    assert!(!words[0].contains("connection"), "{words:?}");
}
