//! People who have an account with a password link it to a provider, and sign on to it there: through the real binary.

use durward::sign_on::saml::sample::SampleProvider;
use serde_json::{Value, json};

use super::saml_routes::{SSO, now, post_to, response_at, sent};
use super::site::{APP, Asked, Browser, House, PUBLIC};
use crate::support::gateway::run;
use crate::support::raw::Response;
use crate::support::wait::{PATIENCE, until};

const FORM: &str = "Origin: http://localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
const PASSWORD: &str = "correct horse battery staple";

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Makes an account with a password and answers its id.
fn account(house: &House, email: &str) -> String {
    let args = [
        "accounts",
        "create",
        "--tenant",
        "acme",
        "--surface",
        "people",
        "--email",
        email,
        "--json",
    ];
    let made = run(&house.sites[0].config(), &args, PASSWORD.as_bytes()).json();
    made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

/// A browser with the session of an account, by its password.
fn logged_in<'h>(house: &'h House, email: &str) -> Browser<'h> {
    let mut browser = house.browser();
    log_in(&mut browser, email);
    browser
}

fn log_in(browser: &mut Browser<'_>, email: &str) {
    let body = json!({ "email": email, "password": PASSWORD }).to_string();
    let json = "Origin: http://localhost\r\nContent-Type: application/json\r\n";
    let answer = browser.send("POST", "/log-in", "application/json", json, &body);
    assert!(answer.status < 300, "{}", text(&answer));
    assert!(browser.cookies.contains_key("__Host-web"));
}

/// Begins a link and answers what the provider is asked for.
fn begin(house: &House, browser: &mut Browser<'_>, body: &str) -> Asked {
    let answer = browser.send("POST", "/link", "text/html", FORM, body);
    assert_eq!(answer.status, 303, "{}", text(&answer));
    house.asked(answer.field("location").unwrap())
}

/// A whole link with these claims.
fn link(house: &House, browser: &mut Browser<'_>, claims: &Value) -> Response {
    let asked = begin(house, browser, "");
    let back = browser.agree(&asked, claims);
    browser.get(&back)
}

/// The id of the link that an answer made.
fn link_of(house: &House, answer: &Response) -> String {
    assert_eq!(answer.status, 303, "{}", text(answer));
    let entry = house.entry(answer);
    let done = entry["done"].as_str().unwrap();
    let id = done.strip_prefix("sso_link people:").unwrap_or_else(|| panic!("{entry}"));
    assert!(id.starts_with("lnk_"), "{entry}");
    id.to_owned()
}

fn change(house: &House, args: &[&str]) {
    let told = house.gateways[0].run(args);
    assert_eq!(told.code, 0, "{args:?}: {told:?}");
}

/// Waits until the browser is answered so at each gateway.
fn becomes(house: &House, browser: &mut Browser<'_>, status: u16) {
    for at in 0..house.gateways.len() {
        browser.at = at;
        until("the session to follow", PATIENCE, || (browser.me().status == status).then_some(()));
    }
    browser.at = 0;
}

#[test]
fn a_person_with_a_password_links_the_account_and_its_sessions_end_with_all_that_they_hang_on() {
    let house = House::pair();
    let ann = account(&house, "ann@acme.example");
    let mut browser = logged_in(&house, "ann@acme.example");
    let asked = begin(&house, &mut browser, "return_to=https%3A%2F%2Fapp.example.com%2Fportal%2Fsettings");
    assert_eq!(asked.get("redirect_uri"), format!("{PUBLIC}/callback"));
    let back = browser.agree(&asked, &json!({ "sid": "sid-1" }));
    let session = browser.cookies["__Host-web"].clone();
    // The other gateway finishes it.
    browser.at = 1;
    let answer = browser.get(&back);
    assert_eq!(answer.status, 303, "{}", text(&answer));
    assert_eq!(answer.field("location"), Some("https://app.example.com/portal/settings"));
    assert_eq!(
        browser.cookies.values().collect::<Vec<_>>(),
        [&session],
        "the session stays as it is"
    );
    let listed = house.gateways[0].json(&["accounts", "list", "--tenant", "acme"]);
    let links: Vec<&Value> = listed["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| !one["linked_account"].is_null())
        .collect();
    let [shown] = links[..] else { panic!("{listed}") };
    assert_eq!(shown["linked_account"], ann.as_str());
    let link = shown["id"].as_str().unwrap().to_owned();

    let mut signed = house.browser();
    signed.at = 1;
    let answer = signed.sign_on(&json!({ "sid": "sid-2" }));
    assert_eq!(answer.status, 303, "{}", text(&answer));
    becomes(&house, &mut signed, 200);
    let provider = house.provider.clone();
    for (off, on) in [
        (["accounts", "disable", &ann], ["accounts", "enable", &ann]),
        (["accounts", "disable", &link], ["accounts", "enable", &link]),
        (["providers", "disable", &provider], ["providers", "enable", &provider]),
    ] {
        change(&house, &off);
        becomes(&house, &mut signed, 401);
        change(&house, &on);
        becomes(&house, &mut signed, 200);
    }
    change(&house, &["tenants", "disable", "acme"]);
    becomes(&house, &mut signed, 403);
    change(&house, &["tenants", "enable", "acme"]);
    becomes(&house, &mut signed, 200);
    // The session by password logs out everywhere.
    browser.at = 0;
    becomes(&house, &mut browser, 200);
    let out = browser.send("POST", "/log-out-everywhere", "application/json", FORM, "");
    assert!(out.status < 300, "{}", text(&out));
    becomes(&house, &mut signed, 401);
    assert_eq!(signed.sign_on(&json!({ "sid": "sid-2" })).status, 303, "and signs on again");
    becomes(&house, &mut signed, 200);
}

#[test]
fn a_link_that_was_undone_ends_its_sessions_and_no_other() {
    let house = House::open();
    let ann = account(&house, "ann@acme.example");
    let mut browser = logged_in(&house, "ann@acme.example");
    let answer = link(&house, &mut browser, &json!({}));
    let id = link_of(&house, &answer);
    let mut signed = house.browser();
    let answer = signed.sign_on(&json!({}));
    let entry = house.entry(&answer);
    let done = entry["done"].as_str().unwrap();
    assert!(
        done.starts_with(&format!("sso_finish people:{ann} people:{id} sign_on:sgn_")),
        "{entry}"
    );
    assert_eq!(signed.me().status, 200);

    let body = format!("provider={}", house.provider);
    let foreign = FORM.replace("http://localhost", "https://evil.example");
    assert_eq!(browser.send("POST", "/unlink", "text/html", &foreign, &body).status, 403);
    assert_eq!(browser.send("POST", "/unlink", "text/html", FORM, "").status, 400);
    assert_eq!(signed.me().status, 200);
    let answer = browser.send("POST", "/unlink", "text/html", FORM, &body);
    assert_eq!((answer.status, answer.field("location")), (303, Some(APP)), "{}", text(&answer));
    assert_eq!(house.entry(&answer)["done"], format!("sso_unlink people:{id}"));
    assert_eq!((signed.me().status, browser.me().status), (401, 200));
    let refused = house.browser().sign_on(&json!({}));
    assert_eq!((refused.status, &house.entry(&refused)["cause"]), (403, &json!("link_undone")));
    let again = browser.send("POST", "/unlink", "application/json", FORM, &body);
    assert_eq!(again.status, 404);
    let answer = link(&house, &mut browser, &json!({}));
    assert_ne!(link_of(&house, &answer), id);
    assert_eq!(house.browser().sign_on(&json!({})).status, 303);
    // Where accounts are listed, the link says whose it is.
    let shown = house.gateways[0].run(&["accounts", "show", &id]);
    assert!(shown.stdout.contains("link of") && shown.stdout.contains(&ann), "{shown:?}");
}

#[test]
fn b60_nobody_begins_a_link_in_another_person_s_browser() {
    let house = House::open();
    account(&house, "ann@acme.example");
    let mut browser = logged_in(&house, "ann@acme.example");
    let before = browser.cookies.clone();
    // A page of another site: a link or an image, a form, a script.
    assert_eq!(browser.get("/link").status, 405);
    let foreign = FORM.replace("http://localhost", "https://evil.example");
    assert_eq!(browser.send("POST", "/link", "text/html", &foreign, "").status, 403);
    assert_eq!(
        browser
            .send("POST", "/link", "text/html", &foreign.replace("https://evil.example", "null"), "")
            .status,
        403
    );
    assert_eq!(browser.cookies, before, "nothing was begun");
    assert_eq!(
        house.browser().send("POST", "/link", "text/html", FORM, "").status,
        401,
        "without a session"
    );
    // A provider of another tenant, one that is none, and an address that is not listed.
    let idp = SampleProvider::new(now());
    let other = house.create_saml("corp", &idp.certificate(), &["--sso-url", SSO]);
    for (body, status, cause) in [
        (format!("provider={other}"), 404, "no_provider"),
        ("provider=prv_0000000000000000000000000".to_owned(), 404, "no_provider"),
        ("provider=%20".to_owned(), 400, "link_form"),
        ("return_to=https%3A%2F%2Fevil.example".to_owned(), 400, "return_to"),
    ] {
        let refused = browser.send("POST", "/link", "text/html", FORM, &body);
        assert_eq!(refused.status, status, "{body}: {}", text(&refused));
        assert_eq!(house.entry(&refused)["cause"], cause, "{body}");
    }
    assert_eq!(browser.cookies, before);
    let script = browser.send("POST", "/link", "application/json", FORM, "");
    assert_eq!(script.status, 200, "the twin, by a script: {}", text(&script));
    assert!(script.json()["location"].as_str().unwrap().starts_with(house.fake.issuer()));
    assert_eq!(browser.cookies.len(), 2);
}

#[test]
fn b61_a_link_is_finished_once_by_the_session_that_began_it_and_in_its_browser() {
    let house = House::open();
    account(&house, "ann@acme.example");
    account(&house, "bob@acme.example");
    let refused = |answer: &Response, status: u16, cause: &str| {
        assert_eq!(answer.status, status, "{cause}: {}", text(answer));
        assert_eq!(house.entry(answer)["cause"], cause);
    };
    // An attacker begins a link and lets a victim's browser finish it.
    let mut browser = logged_in(&house, "ann@acme.example");
    let asked = begin(&house, &mut browser, "");
    let back = browser.agree(&asked, &json!({}));
    let mut victim = logged_in(&house, "bob@acme.example");
    refused(&victim.get(&back), 400, "no_log_in");
    // The session that began it logs out meanwhile.
    let records = browser.cookies.clone();
    let out = browser.send("POST", "/log-out", "application/json", FORM, "");
    assert!(out.status < 300);
    browser.cookies = records.clone();
    refused(&browser.get(&back), 403, "link_session_ended");
    // The refusal has removed the record of the log-in. Whoever kept it finds it used up.
    refused(&browser.get(&back), 400, "no_log_in");
    browser.cookies = records;
    refused(&browser.get(&back), 400, "log_in_used");
    // Somebody else signs in to the same browser meanwhile.
    let mut browser = logged_in(&house, "ann@acme.example");
    let asked = begin(&house, &mut browser, "");
    let back = browser.agree(&asked, &json!({}));
    browser.cookies.remove("__Host-web");
    log_in(&mut browser, "bob@acme.example");
    refused(&browser.get(&back), 400, "link_other_session");
    assert_eq!(
        house.browser().sign_on(&json!({ "sub": "probe" })).status,
        303,
        "nothing was linked so far"
    );
    // The twin, and its answer a second time.
    let mut browser = logged_in(&house, "ann@acme.example");
    let asked = begin(&house, &mut browser, "");
    let back = browser.agree(&asked, &json!({}));
    let records = browser.cookies.clone();
    let made = browser.get(&back);
    link_of(&house, &made);
    browser.cookies = records;
    refused(&browser.get(&back), 400, "log_in_used");
    // The person at the provider is ann's now, and ann has one there.
    let mut bob = logged_in(&house, "bob@acme.example");
    refused(&link(&house, &mut bob, &json!({})), 403, "linked_elsewhere");
    refused(&link(&house, &mut browser, &json!({ "sub": "another" })), 403, "account_linked");
    refused(&link(&house, &mut bob, &json!({ "sub": "probe" })), 403, "person_has_account");
    let log = String::from_utf8_lossy(&house.gateways[0].output()).into_owned();
    assert!(log.contains("revoke the link `lnk_"), "the log says what an operator can do");
}

#[test]
fn a_link_by_saml_needs_no_session_cookie_in_the_provider_s_post() {
    let house = House::open();
    let ann = account(&house, "ann@acme.example");
    let idp = SampleProvider::new(now());
    let saml = house.create_saml("acme", &idp.certificate(), &["--sso-url", SSO]);
    let mut browser = logged_in(&house, "ann@acme.example");
    // The directory of providers is read anew within ten seconds.
    let answer = until("the second provider", PATIENCE, || {
        let answer = browser.send("POST", "/link", "text/html", FORM, &format!("provider={saml}"));
        (answer.status == 303).then_some(answer)
    });
    let refused = browser.send("POST", "/link", "text/html", FORM, "");
    assert_eq!(
        (refused.status, &house.entry(&refused)["cause"]),
        (400, &json!("link_form")),
        "there are two"
    );
    let acs = format!("{PUBLIC}/saml/acme/acs");
    let request = sent(answer.field("location").unwrap(), &acs);
    let below = format!("{PUBLIC}/saml/acme");
    let response = response_at(&below, Some(&request), "_assertion-1", "_session-1").with_signed_assertion(&idp);
    // A browser sends no `Lax` cookie with the post of another site.
    let session = browser.cookies.remove("__Host-web").unwrap();
    let made = post_to(&mut browser, "/saml/acme/acs", &response, &request.relay_state);
    let id = link_of(&house, &made);
    assert!(!browser.cookies.contains_key("__Host-web"), "a link makes no session");
    browser.cookies.insert("__Host-web".into(), session);
    assert_eq!(browser.me().status, 200);

    let mut signed = house.browser();
    let answer = signed.get(&format!("/sso/acme?provider={saml}"));
    let request = sent(answer.field("location").unwrap(), &acs);
    let response = response_at(&below, Some(&request), "_assertion-2", "_session-2").with_signed_assertion(&idp);
    let answer = post_to(&mut signed, "/saml/acme/acs", &response, &request.relay_state);
    assert_eq!(answer.status, 303, "{}", text(&answer));
    let entry = house.entry(&answer);
    assert!(
        entry["done"]
            .as_str()
            .unwrap()
            .starts_with(&format!("sso_finish people:{ann} people:{id} ")),
        "{entry}"
    );
    assert_eq!(signed.me().status, 200);
    // The session that began a link ends before the provider's post.
    let mut other = logged_in(&house, "ann@acme.example");
    let answer = other.send("POST", "/link", "text/html", FORM, &format!("provider={saml}"));
    let request = sent(answer.field("location").unwrap(), &acs);
    let records = other.cookies.clone();
    assert!(other.send("POST", "/log-out", "application/json", FORM, "").status < 300);
    other.cookies = records;
    let response = response_at(&below, Some(&request), "_assertion-3", "_session-3").with_signed_assertion(&idp);
    let refused = post_to(&mut other, "/saml/acme/acs", &response, &request.relay_state);
    assert_eq!(
        (refused.status, &house.entry(&refused)["cause"]),
        (403, &json!("link_session_ended"))
    );
}
