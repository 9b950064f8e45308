//! `durward drill` on real gateways: what it reports, what it leaves behind, when it fails.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::Gateway;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::PATIENCE;

use super::receipts::{Group, ids, wait_for_states};

/// A drill's canary is revoked and its tenant is off.
fn assert_cleaned_up(gateway: &Gateway) {
    let listed = gateway.json(&["keys", "list", "--tenant", "durward-drill"]);
    let keys = listed["keys"].as_array().unwrap();
    assert!(!keys.is_empty() && keys.iter().all(|key| key["state"] == "revoked"), "{listed}");
    let tenants = gateway.json(&["tenants", "list"]);
    let drill = tenants["tenants"].as_array().unwrap().iter().find(|t| t["id"] == "durward-drill");
    assert_eq!(drill.unwrap()["active"], Value::Bool(false), "{tenants}");
}

#[test]
fn a_drill_reports_every_gateway_and_address_and_leaves_nothing_behind() {
    let group = Group::new();
    let sites = [
        group.site("gw-a", &group.redis.url(), ""),
        group.site("gw-b", &group.redis.url(), ""),
    ];
    let [a, mut b] = [Gateway::start(&sites[0]), Gateway::start(&sites[1])];
    wait_for_states(&a, &[("gw-a", "current"), ("gw-b", "current")]);
    let plain = format!("http://{}/v1/orders/1", a.address("plain"));
    let secure = format!("https://localhost:{}/v1/orders/1", b.address("tls").port());
    let ca = sites[1].folder().join("cert.pem");
    let args = [
        "drill",
        "--scope",
        "orders:read",
        "--url",
        &plain,
        "--url",
        &secure,
        "--ca",
        ca.to_str().unwrap(),
    ];

    let drilled = a.run(&[&args[..], &["--json"]].concat());
    assert_eq!(drilled.code, 0, "{drilled:?}");
    let report = drilled.json();
    assert_eq!((&report["passed"], ids(&report)), (&Value::Bool(true), vec!["gw-a", "gw-b"]));
    for gateway in report["gateways"].as_array().unwrap() {
        assert!(gateway["confirmed"] == true && gateway["ms"].as_u64().unwrap() < 1_000, "{report}");
    }
    let urls = report["urls"].as_array().unwrap();
    assert_eq!(
        urls.iter().map(|u| u["url"].as_str().unwrap()).collect::<Vec<_>>(),
        [&*plain, &*secure]
    );
    for url in urls {
        assert!(url["first_refusal_ms"].as_u64().unwrap() < 5_000, "{report}");
        assert!(url["last_admission_ms"].as_u64().unwrap_or(0) < 5_000, "{report}");
        assert!(url["requests"].as_u64().unwrap() >= 10, "{report}");
    }
    assert!(
        !drilled.stdout.contains("tlive_") && !drilled.stderr.contains("tlive_"),
        "{drilled:?}"
    );
    assert_cleaned_up(&a);

    let again = a.run(&args);
    assert_eq!(again.code, 0, "it can be repeated: {again:?}");
    assert!(
        again.stdout.contains("confirmed after") && again.stdout.contains("FIRST REFUSAL"),
        "{again:?}"
    );

    b.signal(Signal::KILL);
    b.wait_exit(PATIENCE);
    let open = a.run(&["drill", "--wait-timeout", "0", "--json"]);
    assert_eq!((open.code, &open.json()["passed"]), (4, &Value::Bool(false)), "{open:?}");
    assert_cleaned_up(&a);
}

#[test]
fn a_drill_that_measures_nothing_says_so_and_cleans_up() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    let public = format!("http://{}/public/x", gateway.address("plain"));
    let drilled = gateway.run(&["drill", "--url", &public]);
    assert_eq!(drilled.code, 1, "{drilled:?}");
    assert!(
        drilled.stderr.contains("not refused"),
        "an address that refuses nobody: {drilled:?}"
    );
    assert_cleaned_up(&gateway);
    assert_eq!(gateway.run(&["drill", "--surface", "pair"]).code, 2);
    assert_eq!(gateway.run(&["drill", "--url", "nowhere"]).code, 2);
    let alone = gateway.json(&["drill"]);
    assert_eq!((&alone["passed"], alone["urls"].as_array().unwrap().len()), (&Value::Bool(true), 0));
}

#[test]
fn an_address_whose_gateway_cannot_reach_its_store_is_reported_as_that() {
    let group = Group::new();
    let proxy = FaultProxy::to_port(group.redis.port());
    let sites = [group.site("gw-a", &group.redis.url(), ""), group.site("gw-b", &proxy.url(), "")];
    let [a, b] = [Gateway::start(&sites[0]), Gateway::start(&sites[1])];
    wait_for_states(&a, &[("gw-a", "current"), ("gw-b", "current")]);
    proxy.partition();
    let url = format!("http://{}/v1/orders/1", b.address("plain"));
    let drilled = a.run(&["drill", "--scope", "orders:read", "--url", &url]);
    assert_eq!(drilled.code, 4, "{drilled:?}");
    assert!(
        drilled.stderr.contains(&format!("{url} answers 503: it cannot reach its store")),
        "{drilled:?}"
    );
    assert!(!drilled.stderr.contains("--scope"), "{drilled:?}");
    assert_cleaned_up(&a);
}
