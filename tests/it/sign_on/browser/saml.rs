//! SAML 2.0.

use serde_json::json;

use super::{HOST, House, read};
use crate::sign_on::peers::encoded;
use crate::support::identity_providers::{Encrypt, LemonLdap, SamlProvider, authority};
use crate::support::wait::{PATIENCE, until};

impl House {
    /// What the first gateway says about us to SAML providers.
    fn our_metadata(&self) -> String {
        read(&self.public, &self.sites[0].root, HOST, "/saml/acme/metadata")
    }

    /// Makes a provider by its metadata (a file's text, or an address), and tests it.
    fn create_saml_provider(&self, metadata: &str, options: &[&str]) -> String {
        let file = self.sites[0].folder().join("metadata.xml");
        let mut all = vec!["--metadata"];
        if metadata.starts_with("https://") {
            all.push(metadata);
        } else {
            std::fs::write(&file, metadata).unwrap();
            all.push(file.to_str().unwrap());
        }
        all.extend(options);
        self.create_provider("saml", &all, "")
    }
}

#[test]
fn who_signs_on_at_pysaml2_is_logged_out_from_there_on_both_gateways() {
    let house = House::open();
    let provider = SamlProvider::start_with(&json!({}));
    let metadata = read(provider.front(), authority().certificate_der(), provider.host(), "/metadata");
    house.create_saml_provider(&metadata, &[]);
    provider.set_service_provider(&house.our_metadata());
    house.begin();
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    let person = house.person();
    let session = house.session();
    house.assert_in_force(&session);

    // From here: the session ends, and the browser comes back from the provider, which has ended its own.
    house.log_out();
    until("the way back", PATIENCE, || {
        (house.browser.location() == house.url("/v1/me")).then_some(())
    });
    house.assert_ends(&session);
    house.assert_logged_out_there();
    house.browser.go(&(provider.base() + "/session"));
    assert_eq!(house.browser.text(), "nobody");
    house.lead_to(1);
    house.begin();
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    assert_eq!(house.person(), person, "the same person");

    // From there: both gateways refuse, and the provider is told that it has worked.
    let session = house.session();
    house.assert_in_force(&session);
    house.browser.go(&(provider.base() + "/log-out?binding=post"));
    house.assert_ends(&session);
    let page = provider.base() + "/slo";
    until("the provider", PATIENCE, || {
        house.browser.location().starts_with(&page).then_some(())
    });
    assert!(house.browser.text().contains("says True"), "{}", house.browser.text());

    // The same by redirect.
    house.begin();
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    assert_eq!(house.person(), person, "the same person");
    let session = house.session();
    house.assert_in_force(&session);
    house.lead_to(0);
    house.browser.go(&(provider.base() + "/log-out"));
    house.assert_ends(&session);
    until("the provider", PATIENCE, || {
        house.browser.location().starts_with(&format!("{page}?")).then_some(())
    });
    assert!(house.browser.text().contains("says True"), "{}", house.browser.text());
}

/// The portal brings the browser here in a frame, where pages of other sites have no cookies.
#[test]
fn who_leaves_lemonldap_by_saml_is_logged_out_on_both_gateways() {
    let house = House::open();
    let mut portal = LemonLdap::start(&[]);
    house.create_saml_provider(&portal.entity_id(), &[]);
    portal.set_service_provider(&house.our_metadata(), Encrypt::Nothing);
    house.browser.go(&house.url("/sso/acme"));
    house.browser.submit(&[("user", "dwho"), ("password", "dwho")]);
    house.person();
    let session = house.session();
    house.assert_in_force(&session);
    house.lead_to(1);
    house.browser.go(&portal.log_out_url());
    house.assert_ends(&session);
    // The portal has verified our answer, and shows a tick for it.
    let framed = "const [done] = arguments; const frame = document.querySelector('iframe');
        done(frame && frame.contentDocument ? frame.contentDocument.location.href : '');";
    until("the portal's verdict on our answer", PATIENCE, || {
        let shown = house.browser.run(framed, &[]);
        shown.as_str()?.ends_with("/icons/ok.png").then_some(())
    });
}

/// Without a script: a page with a button takes our request to the provider.
#[test]
fn requests_by_post_are_taken_along_by_a_button() {
    let house = House::open();
    let provider = SamlProvider::start_with(&json!({ "sign": "response" }));
    let certificate = house.sites[0].folder().join("idp.pem");
    std::fs::write(&certificate, &provider.pair().certificate).unwrap();
    let (entity_id, url) = (provider.base() + "/metadata", provider.base() + "/sso");
    let options = [
        "--entity-id",
        &entity_id,
        "--sso-post-url",
        &url,
        "--sign-requests",
        "--want",
        "response",
    ];
    let certificate = ["--certificate", certificate.to_str().unwrap()];
    house.create_provider("saml", &[&options[..], &certificate].concat(), "");
    provider.set_service_provider(&house.our_metadata());
    house.browser.go(&house.url("/sso/acme"));
    house.browser.submit(&[]);
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    house.person();
    house.assert_in_force(&house.session());
}

#[test]
fn a_provider_begins_a_sign_on_only_where_it_may() {
    let house = House::open();
    let provider = SamlProvider::start_with(&json!({}));
    let metadata = read(provider.front(), authority().certificate_der(), provider.host(), "/metadata");
    let id = house.create_saml_provider(&metadata, &[]);
    provider.set_service_provider(&house.our_metadata());
    let ours: String = encoded(&house.url("/saml/acme/metadata"));
    let begin = format!("{}/unsolicited?sp={ours}", provider.base());
    house.browser.go(&begin);
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    until("our page", PATIENCE, || {
        (house.browser.location() == house.url("/saml/acme/acs")).then_some(())
    });
    assert!(house.browser.cookies().is_empty(), "{}", house.browser.text());

    house.gateways[0].json(&["providers", "update", &id, "--idp-initiated"]);
    house.browser.go(&begin);
    house.browser.submit(&[("login", "ann"), ("password", "anything")]);
    house.person();
    house.assert_in_force(&house.session());
}

#[test]
fn who_signs_on_at_lemonldap_by_saml_has_a_session_with_encryption_and_without() {
    let house = House::open();
    let mut portal = LemonLdap::start(&[]);
    house.create_saml_provider(&portal.entity_id(), &[]);
    let ours = house.our_metadata();
    let mut people = Vec::new();
    for encrypt in [Encrypt::Nothing, Encrypt::Assertion] {
        portal.set_service_provider(&ours, encrypt);
        house.browser.go(&house.url("/sso/acme"));
        if people.is_empty() {
            // It remembers the browser afterwards.
            house.browser.submit(&[("user", "dwho"), ("password", "dwho")]);
        }
        people.push(house.person());
        house.assert_in_force(&house.session());
    }
    assert_eq!(people[0], people[1]);
}

#[test]
fn who_leaves_here_is_logged_out_at_lemonldap_by_saml_too() {
    let house = House::open();
    let mut portal = LemonLdap::start(&[]);
    house.create_saml_provider(&portal.entity_id(), &[]);
    portal.set_service_provider(&house.our_metadata(), Encrypt::Nothing);
    house.browser.go(&house.url("/sso/acme"));
    house.browser.submit(&[("user", "dwho"), ("password", "dwho")]);
    house.person();
    let session = house.session();
    house.log_out();
    until("the way back", PATIENCE, || {
        (house.browser.location() == house.url("/v1/me")).then_some(())
    });
    house.assert_ends(&session);
    house.assert_logged_out_there();
    house.begin();
    assert!(
        house.browser.text().to_lowercase().contains("connect"),
        "it asks again: {}",
        house.browser.text()
    );
}
