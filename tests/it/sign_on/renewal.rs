//! Sessions by sign-on are renewed by the word of their provider: roles follow it, its end ends them, and its silence holds up nobody.

use std::time::Duration;

use durward::base::clock::instant;
use serde_json::{Value, json};

use super::fake::Manner;
use super::site::{Browser, House};
use crate::support::raw::Response;
use crate::support::redis::RedisServer;
use crate::support::wait::{PATIENCE, until};

/// A sign-on of a person with these groups, in the session `sid-1` of the provider.
fn with_groups<'h>(house: &'h House, groups: &[&str]) -> Browser<'h> {
    let mut browser = house.browser();
    let answer = browser.sign_on(&json!({ "sid": "sid-1", "groups": groups }));
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
    browser
}

/// The scopes that the service behind was told of, in order.
fn scopes(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let told: Value = answer.json();
    let fields = told["fields"].as_array().unwrap();
    let of_name = |name: &str| fields.iter().find(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
    of_name("x-scopes").map_or("", |pair| pair[1].as_str().unwrap()).to_owned()
}

/// Waits until the browser is given a renewed token.
fn renewed(browser: &mut Browser<'_>) -> Response {
    until("a renewed token", PATIENCE, || {
        let answer = browser.me();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.field("set-cookie").is_some().then_some(answer)
    })
}

fn log(house: &House, gateway: usize) -> String {
    String::from_utf8_lossy(&house.gateways[gateway].output()).into_owned()
}

#[test]
fn roles_follow_the_provider_at_each_renewal_of_a_session() {
    let house = House::renewing(None, 1);
    let mut browser = with_groups(&house, &["readers"]);
    assert_eq!(scopes(&browser.me()), "orders:read");
    house.fake.say_later(&json!({ "groups": ["admins"] }));
    let first = renewed(&mut browser);
    assert_eq!(first.field("cache-control"), Some("no-store"));
    // Where the provider's word came in time, the request tells of it.
    let entry = house.entry(&first);
    if let Some(done) = entry["done"].as_str() {
        assert!(
            done.starts_with("sso_renew sign_on:sgn_") && done.contains(" people:acc_"),
            "{entry}"
        );
    }
    until("what the person was given", PATIENCE, || {
        (scopes(&browser.me()) == "orders:read orders:write").then_some(())
    });
    // More than the ceiling of the provider: only what lies within it.
    house.fake.say_later(&json!({ "groups": ["roots"] }));
    until("the next word of the provider", PATIENCE, || {
        (scopes(&browser.me()) == "orders:read").then_some(())
    });
    let [given, reused] = house.fake.refreshed();
    assert!(given >= 3 && reused == 0, "{given} {reused}");
    assert!(!log(&house, 0).contains("canary-refresh-token"), "no token in the log");
}

#[test]
fn a_session_that_its_provider_does_not_renew_ends_at_every_gateway() {
    let house = House::renewing(Some(RedisServer::start()), 2);
    let mut browser = with_groups(&house, &["readers"]);
    renewed(&mut browser);
    let mut elsewhere = house.browser();
    (elsewhere.at, elsewhere.cookies) = (1, browser.cookies.clone());
    assert_eq!(elsewhere.me().status, 200);
    house.fake.end_sessions();
    for browser in [&mut browser, &mut elsewhere] {
        until("the end at every gateway", PATIENCE, || (browser.me().status == 401).then_some(()));
    }
    let told = log(&house, 0);
    assert!(
        told.contains("a sign-on was ended at its renewal") && told.contains("refresh_refused"),
        "{told}"
    );
    // The session there was ended without a word, so the provider gives the person another one.
    let mut again = house.browser();
    assert_eq!(again.sign_on(&json!({ "sid": "sid-2", "groups": ["readers"] })).status, 303);
    assert_eq!(again.me().status, 200);
}

#[test]
fn whoever_has_no_role_any_more_is_out_and_is_told_at_the_next_sign_on() {
    let house = House::renewing(None, 1);
    let mut browser = with_groups(&house, &["readers"]);
    house.fake.say_later(&json!({ "groups": ["guests"] }));
    until("the end of the session", PATIENCE, || (browser.me().status == 401).then_some(()));
    assert!(log(&house, 0).contains("no_role"));
    let page = browser.sign_on(&json!({ "sid": "sid-2", "groups": ["guests"] }));
    assert_eq!(page.status, 403);
    assert_eq!(house.entry(&page)["denial"], "no_role");
}

#[test]
fn b43_what_is_no_renewal_of_this_sign_on_changes_nothing() {
    for (says, cause) in [
        (json!({ "groups": ["admins"], "sub": "eve" }), "refresh_changed"),
        (json!({ "groups": ["admins"], "sid": "sid-9" }), "refresh_changed"),
        (json!({ "groups": ["admins"], "nonce": "another" }), "refresh_changed"),
        (json!({ "groups": ["admins"], "aud": "another" }), "token_audience"),
    ] {
        let house = House::renewing(None, 1);
        let mut browser = with_groups(&house, &["readers"]);
        house.fake.say_later(&says);
        until("the provider's answer", PATIENCE, || {
            assert_eq!(scopes(&browser.me()), "orders:read", "{says}: the session goes on as it was");
            log(&house, 0).contains(cause).then_some(())
        });
        for _ in 0..20 {
            let answer = browser.me();
            assert!(answer.field("set-cookie").is_none(), "{says}");
            assert_eq!(scopes(&answer), "orders:read", "{says}");
        }
    }
}

#[test]
fn b42_a_provider_that_hangs_or_fails_holds_up_no_request() {
    for manner in [Manner::Hanging, Manner::Failing] {
        let house = House::renewing(None, 1);
        let mut browser = with_groups(&house, &["readers"]);
        house.fake.behave(manner);
        let before = house.fake.asked("/token");
        let mut longest = Duration::ZERO;
        until("the question to the provider", PATIENCE, || {
            let begun = instant();
            assert_eq!(scopes(&browser.me()), "orders:read");
            longest = longest.max(begun.elapsed());
            (house.fake.asked("/token") > before).then_some(())
        });
        for _ in 0..20 {
            let begun = instant();
            let answer = browser.me();
            assert!(answer.status == 200 && answer.field("set-cookie").is_none(), "{manner:?}");
            longest = longest.max(begun.elapsed());
        }
        assert_eq!(house.fake.asked("/token"), before + 1, "{manner:?}: one question, whoever comes");
        // A second by its bound; the rest is for a busy machine.
        assert!(longest < Duration::from_secs(5), "{manner:?}: {longest:?}");
    }
}

#[test]
fn b41_two_gateways_never_send_one_refresh_token_twice() {
    let house = House::renewing(Some(RedisServer::start()), 2);
    let browser = with_groups(&house, &["readers"]);
    let cookies = browser.cookies.clone();
    std::thread::scope(|scope| {
        for at in [0, 1, 0, 1] {
            let (house, cookies) = (&house, cookies.clone());
            scope.spawn(move || {
                let mut browser = house.browser();
                (browser.at, browser.cookies) = (at, cookies);
                until("renewals of one session", PATIENCE, || {
                    assert_eq!(browser.me().status, 200, "the session goes on");
                    (house.fake.refreshed()[0] >= 5).then_some(())
                });
            });
        }
    });
    assert_eq!(house.fake.refreshed()[1], 0, "no token came twice");
}

#[test]
fn whoever_is_given_no_refresh_token_is_renewed_without_a_question_and_the_log_says_why() {
    let house = House::renewing(None, 1);
    house.fake.give_no_refresh_tokens();
    let mut browser = with_groups(&house, &["readers"]);
    assert!(log(&house, 0).contains("no_refresh_token"), "{}", log(&house, 0));
    house.fake.say_later(&json!({ "groups": ["admins"] }));
    let asked = house.fake.asked("/token");
    renewed(&mut browser);
    assert_eq!(scopes(&browser.me()), "orders:read", "roles are those of the sign-on");
    assert_eq!(house.fake.asked("/token"), asked, "nobody was asked");
}

#[test]
fn userinfo_tells_the_roles_where_no_id_token_comes() {
    let house = House::renewing(None, 1);
    house.fake.give_no_later_id_token();
    let mut browser = with_groups(&house, &["readers"]);
    house.fake.say_later(&json!({ "groups": ["admins"] }));
    renewed(&mut browser);
    until("the roles of userinfo", PATIENCE, || {
        (scopes(&browser.me()) == "orders:read orders:write").then_some(())
    });
    house.fake.say_later(&json!({ "sub": "eve", "groups": ["readers"] }));
    until("an answer about somebody else", PATIENCE, || {
        assert_eq!(scopes(&browser.me()), "orders:read orders:write");
        log(&house, 0).contains("userinfo_subject").then_some(())
    });
}

#[test]
fn a_log_out_and_a_logout_token_leave_no_refresh_token_behind() {
    let house = House::renewing(None, 1);
    let mut browser = signed_on_with_groups(&house, "sid-1");
    renewed(&mut browser);
    let out = browser.send("POST", "/log-out", "application/json", "Origin: http://localhost\r\n", "");
    assert_eq!(out.status, 200);
    let mut other = signed_on_with_groups(&house, "sid-2");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let token = format!("logout_token={}", house.fake.logout_token("a", &json!({ "sid": "sid-2" })));
    assert_eq!(
        house.browser().send("POST", "/sso/acme/back-channel", "*/*", form, &token).status,
        200
    );
    assert_eq!(other.me().status, 401);
    let sessions = house.gateways[0].json(&["sessions", "list", "--tenant", "acme"]);
    assert!(
        !sessions.to_string().contains("refresh_token"),
        "a refresh token is no session: {sessions}"
    );
}

fn signed_on_with_groups<'h>(house: &'h House, sid: &str) -> Browser<'h> {
    let mut browser = house.browser();
    let answer = browser.sign_on(&json!({ "sid": sid, "groups": ["readers"] }));
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
    browser
}

#[test]
fn providers_test_says_what_refresh_tokens_need() {
    let house = House::renewing(None, 1);
    let test = || house.gateways[0].json(&["providers", "test", &house.provider]);
    let warned = |test: &Value, name: &str| {
        let mut checks = test["checks"].as_array().unwrap().iter();
        checks.any(|check| check["name"] == name && check["outcome"] == "warning")
    };
    let without = test();
    assert!(
        warned(&without, "no_refresh_tokens") && !warned(&without, "unknown_scope"),
        "{without}"
    );
    let update = [
        "providers",
        "update",
        &house.provider,
        "--oidc-scope",
        "openid",
        "--oidc-scope",
        "offline_access",
    ];
    assert_eq!(house.gateways[0].run(&update).code, 0);
    assert!(warned(&test(), "unknown_scope"));
    let off = ["providers", "update", &house.provider, "--refresh-tokens=false"];
    assert_eq!(house.gateways[0].run(&off).code, 0);
    let off = test();
    assert!(!warned(&off, "no_refresh_tokens") && !warned(&off, "unknown_scope"), "{off}");
}
