//! A tenant is onboarded by the three commands of docs/sign-on.md, without a reload and in less than a minute.

use std::path::Path;
use std::time::Duration;

use durward::base::clock::instant;
use serde_json::json;

use crate::support::gateway::run;
use crate::support::wait::{PATIENCE, until};

use super::fake::SECRET;
use super::site::{House, signed_on};

/// The commands of the first block below the heading, one a line, without `durward` and without what is read from a file.
fn documented() -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sign-on.md")).unwrap();
    let below = page.split_once("\n## A tenant in three commands\n").expect("the heading").1;
    let block = below.split_once("```console\n").unwrap().1.split_once("```").unwrap().0;
    let joined = block.replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| line.strip_prefix("$ durward "));
    commands.map(|line| line.split(" < ").next().unwrap().to_owned()).collect()
}

#[test]
fn three_commands_onboard_a_tenant_without_a_reload_in_less_than_a_minute() {
    let house = House::open();
    // The gateway has read its providers already, and so looks for new ones as late as it ever does.
    signed_on(&house, "sid-1");
    let configuration = house.gateways[0].json(&["status"])["configuration"].clone();
    let commands = documented();
    assert_eq!(commands.len(), 3, "{commands:?}");

    let begun = instant();
    let mut provider = String::new();
    for command in &commands {
        let command = command
            .replace("https://login.acme.example", house.fake.issuer())
            .replace("acme", "fresh")
            .replace("prv_…", &provider);
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push("--json");
        if command.starts_with("providers create") {
            // This configuration has several surfaces of both kinds.
            args.extend(["--surface", "web", "--account-surface", "people"]);
        }
        let answer = run(&house.sites[0].config(), &args, SECRET.as_bytes());
        assert_eq!(answer.code, 0, "{command}: {answer:?}");
        if command.starts_with("providers create") {
            provider = answer.json()["id"].as_str().unwrap().to_owned();
        }
        if command.starts_with("providers test") {
            assert_eq!(answer.json()["passed"], true);
        }
    }
    let commanded = begun.elapsed();

    let mut browser = house.browser();
    until("the new provider is known", PATIENCE, || {
        // A command between two tries: a browser that never waits would be refused for that.
        house.gateways[0].json(&["status"]);
        (browser.get("/sso/fresh").status == 303).then_some(())
    });
    browser.cookies.clear();
    let asked = browser.start("/sso/fresh");
    let back = browser.agree(&asked, &json!({}));
    assert_eq!(browser.get(&back).status, 303);
    assert_eq!(browser.me().status, 200);
    let all = begun.elapsed();
    println!(
        "three commands took {} ms; the first person was in after {} ms",
        commanded.as_millis(),
        all.as_millis()
    );
    assert!(all < Duration::from_secs(60), "{all:?}");
    assert_eq!(
        house.gateways[0].json(&["status"])["configuration"],
        configuration,
        "nothing was reloaded"
    );
}
