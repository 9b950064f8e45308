//! OpenID Connect.

use serde_json::{Value, json};

use super::{House, read};
use crate::sign_on::site::renewing_tables;
use crate::support::identity_providers::{LemonLdap, OidcProvider, RelyingParty, authority};
use crate::support::wait::{PATIENCE, until};

const SECRET: &str = "canary-client-secret-0123456789";

/// `oidc-provider` for the gateways, which know it by more options than these.
fn oidc_provider(house: &House, settings: &Value, options: &[&str]) -> OidcProvider {
    let clients = json!([{
        "client_id": "durward",
        "client_secret": SECRET,
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [house.url("/callback")],
        "post_logout_redirect_uris": [house.url("/v1/me")],
        "backchannel_logout_uri": house.url("/sso/acme/back-channel"),
        "backchannel_logout_session_required": true,
    }]);
    let roots = house.roots();
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    let provider = OidcProvider::start_with(&clients, settings, &roots);
    let issuer = provider.issuer();
    let all = [&["--issuer", &issuer, "--client-id", "durward"][..], options].concat();
    house.create_provider("oidc", &all, SECRET);
    provider
}

#[test]
fn who_signs_on_at_oidc_provider_is_logged_out_from_both_sides() {
    let house = House::open();
    let provider = oidc_provider(&house, &json!({}), &[]);
    let (person, session) = house.sign_on("ann");

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
    let (again, session) = house.sign_on("ann");
    assert_eq!(again, person, "the same person");
    house.lead_to(1);
    house.browser.go(&confirmation);
    house.browser.submit(&[]);
    house.assert_ends(&session);
}

#[test]
fn roles_follow_oidc_provider_at_each_renewal_and_the_session_ends_with_that_there() {
    let house = House::with(&renewing_tables());
    let options = [
        "--refresh-tokens",
        "--role",
        "admin",
        "--role-claim",
        "groups",
        "--map-role",
        "admins=admin",
        "--map-role",
        "readers=reader",
    ];
    let provider = oidc_provider(&house, &json!({}), &options);
    let ann = |groups: Value| provider.set_people(&json!({ "ann": { "name": "Ann", "groups": groups } }));
    ann(json!(["readers"]));
    house.begin();
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    house.person();
    let scopes = || {
        house.browser.go(&house.url("/v1/me"));
        let echo: Value = serde_json::from_str(&house.browser.text()).unwrap();
        let fields = echo["fields"].as_array().unwrap();
        let of_name = |name: &str| fields.iter().find(|field| field[0].as_str().unwrap().eq_ignore_ascii_case(name));
        of_name("x-scopes").map_or_else(String::new, |field| field[1].as_str().unwrap().to_owned())
    };
    assert_eq!(scopes(), "orders:read");
    let first = house.session();
    ann(json!(["admins"]));
    until("more, by the provider's word", PATIENCE, || {
        (scopes() == "orders:read orders:write").then_some(())
    });
    assert_ne!(house.session(), first, "the browser has a renewed token");
    // Renewals through the other gateway, each with the refresh token that the last one brought.
    house.lead_to(1);
    ann(json!(["readers"]));
    until("less, by the provider's word", PATIENCE, || {
        (scopes() == "orders:read").then_some(())
    });
    house.lead_to(0);
    let token = house.session();
    until("another renewal", PATIENCE, || {
        scopes();
        (house.session() != token).then_some(())
    });
    ann(json!([]));
    let last = house.session();
    until("the end", PATIENCE, || (house.use_session(0, &last).status == 401).then_some(()));
    house.assert_ends(&last);
}

#[test]
fn who_leaves_oidc_provider_while_a_second_browser_stays_takes_nobody_along() {
    let house = House::open();
    let provider = oidc_provider(&house, &json!({}), &[]);
    let first = house.sign_on("ann");
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

/// Groups stand in userinfo only, as large providers have it.
#[test]
fn who_has_no_role_by_the_provider_is_told_whom_to_ask() {
    let house = House::open();
    let roles = [
        "--role",
        "admin",
        "--role-claim",
        "groups",
        "--map-role",
        "admins=admin",
        "--userinfo",
    ];
    let provider = oidc_provider(&house, &json!({ "conformIdTokenClaims": true }), &roles);
    house.begin();
    house.browser.submit(&[("login", "bob"), ("password", "anything")]);
    until("our page", PATIENCE, || {
        house.browser.location().starts_with(&house.url("/callback")).then_some(())
    });
    let refused = house.browser.text();
    assert!(refused.contains("the service desk"), "{refused}");
    let cookies = house.browser.cookies();
    assert!(cookies.iter().all(|cookie| cookie["name"] != "__Host-web"), "{cookies:?}");

    // The provider gives the role, and the same person tries again.
    provider.set_people(&json!({ "bob": { "name": "Bob Bell", "groups": ["admins"] } }));
    house.browser.go(&house.url("/sso/acme"));
    house.person();
    house.assert_in_force(&house.session());
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

    // From there nobody is told: this version (2.16) has no back-channel logout, and says so. A session here ends by its limits.
    let discovery = read(
        portal.front(),
        authority().certificate_der(),
        "localhost",
        "/.well-known/openid-configuration",
    );
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    assert_eq!(
        discovery["backchannel_logout_supported"], false,
        "show its back-channel logout here"
    );
    house.browser.submit(&[("user", "dwho"), ("password", "dwho")]);
    house.person();
    let session = house.session();
    house.browser.go(&portal.log_out_url());
    until("the portal's farewell", PATIENCE, || {
        house.browser.has("[trmsg='47']").then_some(())
    });
    house.assert_in_force(&session);
}
