//! OpenID Connect.

use serde_json::json;

use super::House;
use crate::support::identity_providers::{LemonLdap, OidcProvider, RelyingParty};
use crate::support::wait::{PATIENCE, until};

const SECRET: &str = "canary-client-secret-0123456789";

/// `oidc-provider` for the gateways, which know it.
fn oidc_provider(house: &House) -> OidcProvider {
    let clients = json!([{
        "client_id": "durward",
        "client_secret": SECRET,
        "redirect_uris": [house.url("/callback")],
        "post_logout_redirect_uris": [house.url("/v1/me")],
        "backchannel_logout_uri": house.url("/sso/acme/back-channel"),
        "backchannel_logout_session_required": true,
    }]);
    let roots = house.roots();
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    let provider = OidcProvider::start_with(&clients, &json!({}), &roots);
    house.create_provider("oidc", &["--issuer", &provider.issuer(), "--client-id", "durward"], SECRET);
    provider
}

#[test]
fn who_signs_on_at_oidc_provider_is_logged_out_from_both_sides() {
    let house = House::open();
    let provider = oidc_provider(&house);
    house.begin();
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    let person = house.person();
    let session = house.session();
    house.assert_in_force(&session);

    // From here: the session ends, and the provider is asked to end its own.
    house.log_out();
    let confirmation = format!("{}/session/end", provider.issuer());
    until("the provider's question", PATIENCE, || {
        house.browser.location().starts_with(&confirmation).then_some(())
    });
    house.assert_ends(&session);
    house.browser.submit(&[]);
    until("the way back", PATIENCE, || {
        (house.browser.location() == house.url("/v1/me")).then_some(())
    });

    // From there: the other gateway is told, and both refuse.
    house.begin();
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    assert_eq!(house.person(), person, "the same person");
    let session = house.session();
    house.assert_in_force(&session);
    house.lead_to(1);
    house.browser.go(&confirmation);
    house.browser.submit(&[]);
    house.assert_ends(&session);
}

#[test]
fn who_leaves_oidc_provider_while_a_second_browser_stays_takes_nobody_along() {
    let house = House::open();
    let provider = oidc_provider(&house);
    house.begin();
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    let first = (house.person(), house.session());
    let other = crate::support::webdriver::Browser::start();
    other.go(&house.url("/sso/acme"));
    other.submit(&[("login", "ann"), ("password", "anything")]);
    until("the service", PATIENCE, || (other.location() == house.url("/v1/me")).then_some(()));
    house.browser.go(&format!("{}/session/end", provider.issuer()));
    house.browser.submit(&[]);
    house.assert_ends(&first.1);
    other.go(&house.url("/v1/me"));
    assert!(other.text().contains(&first.0), "another session at the provider: {}", other.text());
}

#[test]
fn who_signs_on_at_lemonldap_by_openid_is_logged_out_there_too() {
    let house = House::open();
    let portal = LemonLdap::start(&[RelyingParty {
        id: "durward",
        secret: SECRET,
        redirect_uri: &house.url("/callback"),
        post_logout_redirect_uri: &house.url("/v1/me"),
    }]);
    house.create_provider("oidc", &["--issuer", &portal.issuer(), "--client-id", "durward"], SECRET);
    house.begin();
    house.browser.submit(&[("user", "dwho"), ("password", "dwho")]);
    house.person();
    let session = house.session();
    house.assert_in_force(&session);
    house.log_out();
    until("the provider's question", PATIENCE, || {
        house.browser.location().starts_with(&portal.issuer()).then_some(())
    });
    house.assert_ends(&session);
    house.browser.submit(&[]);
    until("the way back", PATIENCE, || {
        (house.browser.location() == house.url("/v1/me")).then_some(())
    });
    house.begin();
    assert!(
        house.browser.text().to_lowercase().contains("connect"),
        "it asks again: {}",
        house.browser.text()
    );
}
