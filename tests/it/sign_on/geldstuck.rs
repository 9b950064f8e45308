//! The shipped example geldstuck: a tenant's people sign on at its provider and have the same session as by a log-in.

use durward::sign_on::saml::sample::SampleProvider;
use serde_json::json;

use super::saml_routes::{SSO, now, post_to, response_at, sent};
use super::site::{House, PUBLIC};

#[test]
fn geldstuck_s_people_sign_on_by_oidc_and_have_the_session_of_a_log_in() {
    let house = House::geldstuck();
    let mut browser = house.browser();
    let asked = browser.start("/v1/auth/sso/acme?return_to=https%3A%2F%2Fapp.example.com%2Forders");
    assert_eq!(asked.get("redirect_uri"), "https://api.example.com/v1/auth/sso/callback");
    let back = browser.agree(&asked, &json!({ "sid": "sid-1" }));
    let answer = browser.get(&back);
    assert_eq!(
        (answer.status, answer.field("location")),
        (303, Some("https://app.example.com/orders"))
    );
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["geldstuck_session"]);
    house.upstream.forget();
    assert_eq!(browser.get_json("/v1/dashboard/overview").status, 200);
    let seen = &house.upstream.requests()[0];
    assert_eq!(
        (seen.all("x-tenant-id"), seen.all("x-auth-surface")),
        (vec!["acme"], vec!["session"])
    );
    let token = browser.cookies["geldstuck_session"].clone();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut app = house.browser();
    assert_eq!(
        app.send("GET", "/v1/dashboard/overview", "*/*", &bearer, "").status,
        200,
        "a JWT too"
    );

    // The people of a domain need to know their address only.
    let asked = house.browser().start("/v1/auth/sso?email=ann%40acme.example");
    assert_eq!(asked.get("login_hint"), "ann@acme.example");

    let token = house.fake.logout_token("a", &json!({ "sid": "sid-1" }));
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = format!("logout_token={token}");
    let ended = house.browser().send("POST", "/v1/auth/sso/acme/back-channel", "*/*", form, &body);
    assert_eq!(ended.status, 200);
    assert_eq!(browser.get_json("/v1/dashboard/overview").status, 401);
}

#[test]
fn geldstuck_s_people_sign_on_by_saml_and_choose_among_two_providers() {
    let house = House::geldstuck();
    let idp = SampleProvider::new(now());
    let saml = house.create_saml("acme", &idp.certificate(), &["--sso-url", SSO, "--name", "Acme ADFS"]);
    let mut browser = house.browser();
    let page = crate::support::wait::until("both providers", crate::support::wait::PATIENCE, || {
        let page = browser.get("/v1/auth/sso/acme");
        (page.status == 200).then_some(page)
    });
    let body = String::from_utf8(page.body).unwrap();
    assert!(body.contains("Acme ADFS") && body.contains(&format!("?provider={saml}")), "{body}");
    browser.cookies.clear();
    let begun = browser.get(&format!("/v1/auth/sso/acme?provider={saml}"));
    let below = format!("{PUBLIC}/v1/auth/saml/acme");
    let request = sent(begun.field("location").unwrap(), &format!("{below}/acs"));
    let xml = response_at(&below, Some(&request), "_assertion-1", "_session-1").with_signed_assertion(&idp);
    let answer = post_to(&mut browser, "/v1/auth/saml/acme/acs", &xml, &request.relay_state);
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.field("location"), Some("https://app.example.com/"));
    assert_eq!(browser.get_json("/v1/dashboard/overview").status, 200);
    let metadata = String::from_utf8(house.browser().get("/v1/auth/saml/acme/metadata").body).unwrap();
    assert!(metadata.contains(&format!("Location=\"{below}/log-out\"")), "{metadata}");
    assert_eq!(house.browser().get("/v1/auth/saml/acme/log-out").status, 400);
}

#[test]
fn geldstuck_keeps_no_password_of_people_who_sign_on() {
    let house = House::geldstuck();
    let mut browser = house.browser();
    let asked = browser.start("/v1/auth/sso/acme");
    let back = browser.agree(&asked, &json!({}));
    assert_eq!(browser.get(&back).status, 303);
    let accounts = house.gateways[0].json(&["accounts", "list", "--tenant", "acme"]);
    assert!(accounts.to_string().contains("ann@acme.example"), "{accounts}");
    for password in ["", "ann", "password-of-ann-0123456789"] {
        let body = json!({ "email": "ann@acme.example", "password": password }).to_string();
        let json = "Content-Type: application/json\r\n";
        let refused = house.browser().send("POST", "/v1/auth/login", "application/json", json, &body);
        assert!(matches!(refused.status, 401 | 422), "{}", String::from_utf8_lossy(&refused.body));
    }
}
