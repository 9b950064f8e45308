//! The routes of single sign-on as browsers and a provider meet them.

use durward::store::MarkRoom;
use serde_json::json;

use super::fake::{Manner, decoded};
use super::site::{APP, House, PUBLIC, signed_on};
use crate::support::raw::Response;
use crate::support::wait::{PATIENCE, until};

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The answer is a page of this status that says this, without a script and under a strict policy.
fn assert_page(answer: &Response, status: u16, says: &str) {
    let body = text(answer);
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert!(body.contains(says) && !body.contains("<script"), "{body}");
    assert!(!body.contains("canary"), "no secret: {body}");
}

#[test]
fn a_person_signs_on_is_used_and_logs_out_on_both_sides() {
    let house = House::open();
    let mut browser = house.browser();
    let asked = browser.start("/sso/acme?return_to=https%3A%2F%2Fapp.example.com%2Fportal%2Forders%3Fa%3D1");
    assert_eq!(asked.get("redirect_uri"), format!("{PUBLIC}/callback"), "never of the Host header");
    assert_eq!((asked.get("response_type"), asked.get("code_challenge_method")), ("code", "S256"));
    assert_eq!(browser.cookies.len(), 1);
    let name = browser.cookies.keys().next().unwrap();
    assert_eq!(*name, format!("__Host-durward-sign-on-{}", &asked.get("state")[..8]));
    let back = browser.agree(&asked, &json!({ "sid": "sid-1" }));
    let answer = browser.get(&back);
    assert_eq!(answer.status, 303, "{}", text(&answer));
    assert_eq!(answer.field("location"), Some("https://app.example.com/portal/orders?a=1"));
    assert_eq!(
        browser.cookies.keys().collect::<Vec<_>>(),
        ["__Host-web"],
        "the log-in record is gone"
    );
    let entry = house.entry(&answer);
    assert!(!entry.to_string().contains("canary"), "no code on record: {entry}");
    let done = entry["done"].as_str().unwrap().to_owned();
    assert!(
        done.starts_with("sso_finish people:acc_") && done.contains(" sign_on:sgn_") && done.contains(" web:ses_"),
        "{done}"
    );
    assert_eq!(browser.me().status, 200);

    let script = browser.send("POST", "/log-out", "application/json", "Origin: https://evil.example\r\n", "");
    assert_eq!(script.status, 403, "a page of another site ends no session");
    let form = "Origin: http://localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let out = browser.send(
        "POST",
        "/log-out",
        "text/html",
        form,
        "return_to=https%3A%2F%2Fapp.example.com%2Fportal%2Fbye",
    );
    assert_eq!(out.status, 303, "{}", text(&out));
    let location = out.field("location").unwrap();
    let query = location.strip_prefix(&format!("{}/end?", house.fake.issuer())).unwrap();
    assert!(
        decoded(query).contains("post_logout_redirect_uri=https://app.example.com/portal/bye"),
        "{query}"
    );
    assert!(browser.cookies.is_empty());
    let mut kept = house.browser();
    kept.cookies.insert("__Host-web".into(), "x".into());
    assert_eq!(kept.me().status, 401);
}

#[test]
fn b4_a_sign_on_is_finished_once_and_in_the_browser_that_began_it() {
    let house = House::open();
    let mut browser = house.browser();
    let asked = browser.start("/sso/acme");
    let back = browser.agree(&asked, &json!({}));
    let before = browser.cookies.clone();

    let stranger = house.browser().get(&back);
    assert_page(&stranger, 400, "This sign-in cannot go on");
    assert_eq!(house.entry(&stranger)["cause"], "no_log_in");
    assert_eq!(house.entry(&stranger)["denial"], "sign_on_invalid");

    // Another browser's record under this state, and this browser's record under another state.
    let mut other = house.browser();
    let theirs = other.start("/sso/acme");
    let value = other.cookies.values().next().unwrap().clone();
    let mut mixed = house.browser();
    mixed.cookies.insert(before.keys().next().unwrap().clone(), value);
    assert_eq!(mixed.get(&back).status, 400);
    let swapped = back.replace(asked.get("state"), theirs.get("state"));
    assert_eq!(browser.get(&swapped).status, 400);
    for (from, to) in [("state=", "stat="), ("&state=", "&state=x&state="), ("code=", "cod=")] {
        let refused = browser.get(&back.replacen(from, to, 1));
        assert!(matches!(refused.status, 400), "{from}: {}", text(&refused));
        browser.cookies = before.clone();
    }
    assert_eq!(house.fake.asked("/token"), 0, "the provider was not asked for any of it");
    assert_eq!(browser.get(&back).status, 303, "and none of it has used the log-in up");

    let mut fresh = house.browser();
    let back = fresh.begin(&json!({}));
    let record = fresh.cookies.clone();
    assert_eq!(fresh.get(&back).status, 303);
    fresh.cookies.extend(record);
    let again = fresh.get(&back);
    assert_page(&again, 400, "This sign-in cannot go on");
    assert_eq!(house.entry(&again)["cause"], "log_in_used");
    assert_eq!(house.fake.asked("/token"), 2, "a code is sent once");
}

#[test]
fn b50_what_needs_no_provider_uses_no_log_in_up_and_a_refusal_leaves_no_cookie() {
    let house = House::open();
    let mut browser = house.browser();
    let back = browser.begin(&json!({}));
    let record = browser.cookies.clone();
    assert_eq!(record.len(), 1);
    let (path, query) = back.split_once('?').unwrap();
    let others: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("code=")).collect();
    let others = others.join("&");
    // What can be refused without the provider uses nothing up.
    let denied = browser.get(&format!("{path}?error=access_denied&{others}"));
    assert_eq!(house.entry(&denied)["cause"], "provider_refused");
    assert_eq!(denied.field("cache-control"), Some("no-store"));
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    let stranger = house.browser().get(&back);
    assert_eq!(
        stranger.field("set-cookie"),
        None,
        "a browser without a log-in has nothing to remove"
    );
    browser.cookies = record.clone();
    let made_up = browser.get(&format!("{path}?code=made-up&{others}"));
    assert_eq!(house.entry(&made_up)["cause"], "code_refused");
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    browser.cookies = record;
    assert_eq!(house.entry(&browser.get(&back))["cause"], "log_in_used");
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    assert_eq!(browser.sign_on(&json!({})).status, 303, "the twin");
}

#[test]
fn b50_made_up_log_ins_keep_no_provider_from_ending_sessions() {
    let house = House::pair();
    let mut browser = signed_on(&house, "sid-1");
    house.redis.as_ref().unwrap().fill_marks(1, MarkRoom::Unproven.most());
    let refused = house.browser().sign_on(&json!({}));
    assert_eq!((refused.status, &house.entry(&refused)["cause"]), (503, &"too_many_log_ins".into()));
    assert_eq!(browser.me().status, 200, "sessions go on");
    let token = format!("logout_token={}", house.fake.logout_token("a", &json!({ "sid": "sid-1" })));
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let ended = house.browser().send("POST", "/sso/acme/back-channel", "*/*", form, &token);
    assert_eq!(ended.status, 200, "{}", text(&ended));
    until("the end", PATIENCE, || (browser.me().status == 401).then_some(()));
}

#[test]
fn what_the_provider_says_wrong_makes_no_session_and_is_told_to_the_administrator_alone() {
    let house = House::open();
    for (claims, cause) in [
        (json!({ "nonce": "x" }), "wrong_nonce"),
        (json!({ "nonce": null }), "no_nonce"),
        (json!({ "aud": "another" }), "token_audience"),
        (json!({ "iss": "https://another.example" }), "token_issuer"),
        (json!({ "exp": 1_600_000_000, "iat": 1_600_000_000 - 60 }), "token_expired"),
        (json!({ "sub": "" }), "subject"),
    ] {
        let mut browser = house.browser();
        let refused = browser.sign_on(&claims);
        assert!(matches!(refused.status, 400 | 403), "{cause}: {}", text(&refused));
        let entry = house.entry(&refused);
        assert_eq!(entry["cause"], cause, "{entry}");
        assert!(entry["done"].as_str().unwrap().contains(&house.provider), "{entry}");
        assert!(!text(&refused).contains(cause), "the browser is not told");
        assert!(!browser.cookies.contains_key("__Host-web"), "{cause}");
    }
    let sessions = house.gateways[0].json(&["sessions", "list", "--tenant", "acme"]);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 0, "{sessions}");
    let log = String::from_utf8_lossy(&house.gateways[0].output()).into_owned();
    assert!(log.contains("a sign-on was refused"), "the log has words");
    for secret in ["canary-code", "canary-client-secret", "canary-access-token"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert_eq!(house.browser().sign_on(&json!({})).status, 303, "the twin");
}

#[test]
fn b6_an_answer_of_another_provider_is_not_taken() {
    let house = House::open();
    let mut browser = house.browser();
    let back = browser.begin(&json!({}));
    let (good, _) = back.split_once("&iss=").unwrap();
    let other = browser.get(&format!("{good}&iss=https%3A%2F%2Fother.example"));
    assert_eq!(house.entry(&other)["cause"], "wrong_callback_issuer");
    let back = browser.begin(&json!({}));
    let (good, _) = back.split_once("&iss=").unwrap();
    assert_eq!(house.entry(&browser.get(good))["cause"], "no_callback_issuer");
    assert_eq!(house.fake.asked("/token"), 0);
}

#[test]
fn b3_a_browser_is_sent_to_listed_addresses_only() {
    let house = House::open();
    let mut browser = house.browser();
    for address in [
        "https%3A%2F%2Fevil.example%2F",
        "%2F%2Fevil.example",
        "https%3A%2F%2Fapp.example.com%2Fportals",
        "https%3A%2F%2Fapp.example.com%2Fportal%2F..%2Fadmin",
        "https%3A%2F%2Fapp.example.com%40evil.example%2Fportal",
        "javascript%3Aalert(1)",
    ] {
        let refused = browser.get(&format!("/sso/acme?return_to={address}"));
        assert_page(&refused, 400, "This sign-in cannot go on");
        assert_eq!(house.entry(&refused)["cause"], "return_to", "{address}");
        assert!(browser.cookies.is_empty());
    }
    let mut browser = signed_on(&house, "sid-1");
    let form = "Origin: http://localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let refused = browser.send("POST", "/log-out", "text/html", form, "return_to=https%3A%2F%2Fevil.example");
    assert_eq!(refused.status, 400);
    assert_eq!(browser.me().status, 200, "nothing was ended");
    let out = browser.send("POST", "/log-out", "application/json", "Origin: http://localhost\r\n", "");
    let there = out.json()["location"].as_str().unwrap().to_owned();
    assert!(there.starts_with(house.fake.issuer()) && decoded(&there).contains(APP), "{there}");
    assert_eq!(browser.me().status, 401);
}

#[test]
fn people_choose_among_providers_and_programs_are_given_the_list() {
    let house = House::open();
    let second = house.create_provider("<b>Second</b>", &["--provision"]);
    let mut browser = house.browser();
    // The directory of providers is read anew within ten seconds.
    let page = until("the second provider", PATIENCE, || {
        let page = browser.get(&format!("/sso/acme?return_to={}", "https%3A%2F%2Fapp.example.com%2Fportal%2Fx"));
        (page.status == 200).then_some(page)
    });
    browser.cookies.clear();
    assert_page(&page, 200, "Choose how you sign in.");
    let body = text(&page);
    assert!(body.contains("&lt;b&gt;Second") && !body.contains("<b>Second"), "{body}");
    assert_eq!(body.matches("<a href=\"?provider=prv_").count(), 2, "{body}");
    let listed = browser.get_json("/sso/acme");
    assert_eq!(listed.status, 300);
    let listed = listed.json();
    let names: Vec<&str> = listed["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"Acme") && names.contains(&"<b>Second</b>"), "{listed}");
    let asked = browser.start(&format!("/sso/acme?provider={second}"));
    let back = browser.agree(&asked, &json!({}));
    assert_eq!(browser.get(&back).status, 303);
    let unknown = browser.get("/sso/acme?provider=prv_0000000000000000000000000");
    assert_page(&unknown, 404, "There is nothing to sign in to here");
    assert_page(&browser.get("/sso/nobody"), 404, "There is nothing to sign in to here");
    assert_eq!(browser.get_json("/sso/nobody").status, 404);

    let asked = browser.start("/sso?email=ann%40acme.example");
    assert_eq!(asked.get("login_hint"), "ann@acme.example", "the domain's only provider");
    assert_page(
        &browser.get("/sso?email=ann%40other.example"),
        404,
        "There is nothing to sign in to here",
    );
    for bad in ["/sso", "/sso?email=ann", "/sso?email=a%40acme.example&email=b%40acme.example"] {
        assert_eq!(browser.get(bad).status, 400, "{bad}");
    }
    assert_eq!(browser.send("HEAD", "/sso/acme", "text/html", "", "").status, 405);
}

#[test]
fn a_browser_has_a_few_log_in_records_at_a_time() {
    let house = House::open();
    let mut browser = house.browser();
    let first = browser.start("/sso/acme");
    browser.cookies.insert("__Host-durward-sign-on-AAAAAAAA".into(), "broken".into());
    for _ in 0..8 {
        browser.start("/sso/acme");
    }
    assert_eq!(browser.cookies.len(), 5, "{:?}", browser.cookies.keys());
    let back = browser.agree(&first, &json!({}));
    assert_eq!(browser.get(&back).status, 400, "the oldest was forgotten");
    // Two tabs at a time finish in any order.
    let mut tabs = house.browser();
    let (one, two) = (tabs.start("/sso/acme"), tabs.start("/sso/acme"));
    for asked in [two, one] {
        let back = tabs.agree(&asked, &json!({}));
        assert_eq!(tabs.get(&back).status, 303);
    }
}

#[test]
fn a_person_without_a_role_is_told_whom_to_ask() {
    let house = House::open();
    let id = house.provider.clone();
    let update = [
        "providers",
        "update",
        &id,
        "--role-claim",
        "groups",
        "--map-role",
        "admins=admin",
        "--role",
        "admin",
    ];
    let told = house.gateways[0].run(&update);
    assert_eq!(told.code, 0, "{told:?}");
    let mut browser = house.browser();
    let page = browser.sign_on(&json!({ "groups": ["guests"] }));
    assert_page(&page, 403, "You have no role here");
    assert!(text(&page).contains("the service desk (desk@acme.example)"), "{}", text(&page));
    assert!(text(&page).contains(page.field("x-request-id").unwrap()));
    assert_eq!(house.entry(&page)["denial"], "no_role");
    let back = browser.begin(&json!({ "groups": [] }));
    let refused = browser.get_json(&back);
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.field("content-type"),
        Some("application/problem+json"),
        "a program is given the dialect's body"
    );
    assert_eq!(browser.sign_on(&json!({ "groups": ["admins"] })).status, 303, "the twin");
}

#[test]
fn a_provider_that_does_not_answer_is_no_fault_of_the_person() {
    let house = House::open();
    for manner in [Manner::Failing, Manner::Redirecting, Manner::Huge] {
        house.fake.behave(manner);
        let page = house.browser().sign_on(&json!({}));
        assert!(matches!(page.status, 502 | 403), "{manner:?}: {}", text(&page));
        assert!(!house.entry(&page)["cause"].is_null(), "{manner:?}");
    }
    house.fake.behave(Manner::Right);
    assert_eq!(house.browser().sign_on(&json!({})).status, 303, "the next one works");
}

#[test]
fn what_the_provider_ends_is_refused_here_at_once() {
    let house = House::open();
    let back = |body: &str| {
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        house.browser().send("POST", "/sso/acme/back-channel", "*/*", form, body)
    };
    let (mut one, mut two) = (signed_on(&house, "sid-1"), signed_on(&house, "sid-2"));
    for (claims, id) in [
        (json!({ "sid": "sid-1", "aud": "another" }), "a"),
        (json!({ "sid": "sid-1", "iss": "https://another.example" }), "b"),
        (json!({ "sid": "sid-1", "nonce": "x" }), "c"),
        (json!({ "sid": "sid-1", "events": {} }), "d"),
        (json!({ "sid": "sid-1", "iat": 1_600_000_000, "exp": 1_600_000_100 }), "e"),
        (json!({}), "f"),
    ] {
        let answer = back(&format!("logout_token={}", house.fake.logout_token(id, &claims)));
        assert_eq!(answer.status, 400, "{claims}: {}", text(&answer));
    }
    for body in ["", "logout_token=", "logout_token=a.b.c", "other=1"] {
        assert_eq!(back(body).status, 400, "{body}");
    }
    let token = format!("logout_token={}", house.fake.logout_token("g", &json!({ "sid": "sid-1" })));
    assert_eq!(back(&format!("{token}&{token}")).status, 400, "which of two is meant?");
    assert_eq!(back(&format!("{token}{}", "x".repeat(40 << 10))).status, 413);
    assert_eq!(one.me().status, 200);
    let answer = back(&token);
    assert_eq!((answer.status, answer.field("cache-control")), (200, Some("no-store")));
    assert!(house.entry(&answer)["done"].as_str().unwrap().contains("sign_on:sgn_"));
    assert_eq!(one.me().status, 401);
    assert_eq!(two.me().status, 200, "another session at the provider goes on");
    let again = back(&token);
    assert_eq!(again.status, 400);
    assert_eq!(house.entry(&again)["cause"], "log_out_replayed");
    let late = house.browser().sign_on(&json!({ "sid": "sid-1" }));
    assert_eq!(house.entry(&late)["cause"], "session_ended");
    let all = back(&format!("logout_token={}", house.fake.logout_token("h", &json!({ "sub": "ann" }))));
    assert_eq!(all.status, 200);
    assert_eq!(two.me().status, 401);
    assert_eq!(signed_on(&house, "sid-3").me().status, 200, "the person signs on again");
}

#[test]
fn a_disabled_provider_ends_its_sessions_and_begins_none() {
    let house = House::open();
    let mut browser = signed_on(&house, "sid-1");
    let asked = house.browser().start("/sso/acme");
    assert!(!asked.get("state").is_empty());
    let told = house.gateways[0].run(&["providers", "disable", &house.provider, "--wait"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(browser.me().status, 401);
    let refused = house.browser().get("/sso/acme");
    assert!(matches!(refused.status, 403 | 404), "{}", text(&refused));
}

#[test]
fn what_one_gateway_begins_another_finishes_and_a_third_time_nobody() {
    let house = House::pair();
    let mut browser = house.browser();
    let back = browser.begin(&json!({ "sid": "sid-1" }));
    let record = browser.cookies.clone();
    browser.at = 1;
    assert_eq!(browser.get(&back).status, 303);
    let mut thief = house.browser();
    thief.cookies = record;
    assert_eq!(thief.get(&back).status, 400);
    browser.at = 0;
    assert_eq!(browser.me().status, 200);
    browser.at = 1;
    assert_eq!(browser.me().status, 200);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let token = format!("logout_token={}", house.fake.logout_token("a", &json!({ "sid": "sid-1" })));
    let ended = house.browser().send("POST", "/sso/acme/back-channel", "*/*", form, &token);
    assert_eq!(ended.status, 200);
    for at in [0, 1] {
        browser.at = at;
        until("the end at every gateway", PATIENCE, || (browser.me().status == 401).then_some(()));
    }
    let mut other = house.browser();
    other.at = 1;
    assert_eq!(
        other.send("POST", "/sso/acme/back-channel", "*/*", form, &token).status,
        400,
        "a token is used once"
    );
}
