//! Accounts and sessions of geldstuck while peppers and token secrets are rotated.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use durward::decide::token::TokenKeys;

use crate::support::gateway::{Gateway, run};
use crate::support::wait::{PATIENCE, until};

use super::{EMAIL, House, PASSWORD, ann, log_in, log_in_with, open, with_bearer};

const PAGE: &str = "/v1/dashboard/overview";
const STORE: &str = "[store]\nkind = \"embedded\"\npath = \"state/durward.redb\"\n";

/// Starts the gateway again with one text of its configuration replaced.
fn restart(house: &mut House, from: &str, to: &str) {
    house.gateway.signal(Signal::TERM);
    house.gateway.wait_exit(PATIENCE);
    let config = house.site.read("gateway.toml");
    assert!(config.contains(from), "{from}");
    house.site.write("gateway.toml", &config.replace(from, to));
    house.gateway = Gateway::start(&house.site);
}

fn create_ann_again(house: &House) -> i32 {
    let create = ["accounts", "create", "--tenant", "globex", "--email", EMAIL, "--json"];
    run(&house.site.config(), &create, PASSWORD.as_bytes()).code
}

#[test]
fn accounts_log_in_under_every_pepper_and_move_to_the_first() {
    let mut house = open(&[(STORE, &format!("{STORE}pepper = [\"file:state/pepper\"]\n"))]);
    let account = ann(&house.site);
    let session = log_in(&house.gateway);
    house.site.write("new", "new-pepper-of-a-test-0123456789abcdef01234567");
    restart(&mut house, "[\"file:state/pepper\"]", "[\"file:new\", \"file:state/pepper\"]");
    assert_eq!(with_bearer(&house.gateway, "GET", PAGE, &session, "").status, 200);
    log_in(&house.gateway);
    assert_eq!(create_ann_again(&house), 1, "an address has one account, whatever pepper is first");

    let uses = house.gateway.json(&["peppers"]);
    let old = &uses["peppers"][0];
    assert_eq!((&old["accounts"], &old["droppable"]), (&json!(1), &json!(null)), "{uses}");
    let mark = text_of(old, "mark");
    let kept = house.gateway.run(&["peppers", "drop", &mark]);
    assert_eq!(kept.code, 1, "{kept:?}");
    let moved = house.gateway.json(&["peppers", "move"]);
    assert_eq!((&moved["moved"], &moved["taken"]), (&json!(1), &json!([])));
    assert_eq!(house.gateway.json(&["peppers", "move"])["moved"], json!(0), "once");
    assert_eq!(
        with_bearer(&house.gateway, "GET", PAGE, &session, "").status,
        200,
        "nobody is logged out"
    );
    log_in(&house.gateway);
    house.gateway.json(&["peppers", "drop", &mark]);

    restart(&mut house, "[\"file:new\", \"file:state/pepper\"]", "[\"file:new\"]");
    assert_eq!(with_bearer(&house.gateway, "GET", PAGE, &session, "").status, 200);
    log_in(&house.gateway);
    assert_eq!(create_ann_again(&house), 1);
    house.gateway.json(&["accounts", "revoke", &account]);
    until("the account to end", PATIENCE, || {
        (log_in_with(&house.gateway, &[]).status == 401).then_some(())
    });
}

fn text_of(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}

fn claims(token: &str) -> Map<String, Value> {
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

#[test]
fn a_session_of_a_retired_secret_is_renewed_from_its_record_and_carries_nothing_that_was_forged() {
    let refresh = ("after = \"5m\"", "after = \"1s\"");
    let mut house = open(&[refresh]);
    ann(&house.site);
    let session = log_in(&house.gateway);
    let retired = TokenKeys::new([house.site.read("state/session.secret").trim()]).unwrap();
    house
        .site
        .write("present.secret", "present-secret-of-a-test-0123456789abcdef0123456789");
    let secrets = "secrets = [\"file:present.secret\", \"file:state/session.secret\"]";
    restart(&mut house, "secrets = \"generate:state/session.secret\"", secrets);
    let mut forged = claims(&session);
    for (name, value) in [
        ("admin", json!(true)),
        ("scopes", json!(["everything"])),
        ("tenant", json!("globex")),
    ] {
        forged.insert(name.into(), value);
    }
    // Shorter, so that its renewal is due.
    forged.insert("exp".into(), json!(jiff::Timestamp::now().as_second() + 60));
    let forged = retired.sign(&forged).unwrap();
    let present = TokenKeys::new([house.site.read("present.secret")]).unwrap();
    for presented in [&session, &forged] {
        let renewed = until("the renewal", Duration::from_secs(5), || {
            let answer = with_bearer(&house.gateway, "GET", PAGE, presented, "");
            assert_eq!(answer.status, 200);
            answer.field("x-session-token").map(str::to_owned)
        });
        let (was, is) = (claims(&session), claims(&renewed));
        assert_eq!(present.sign(&is).unwrap(), renewed, "signed with the present secret");
        assert_eq!(was.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>());
        for name in was.keys().filter(|name| *name != "exp") {
            assert_eq!(was[name], is[name], "{name}");
        }
        assert_eq!(with_bearer(&house.gateway, "GET", PAGE, &renewed, "").status, 200);
    }
    restart(&mut house, secrets, "secrets = \"file:present.secret\"");
    for ended in [&session, &forged] {
        assert_eq!(with_bearer(&house.gateway, "GET", PAGE, ended, "").status, 401);
    }
}
