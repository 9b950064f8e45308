//! SAML 2.0.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use durward::sign_on::saml::metadata::SamlBinding;
use durward::sign_on::saml::verifier::{VerifierAnswer, VerifierJob, answer};
use serde_json::json;

use super::{HOST, House};
use crate::support::identity_providers::{Encrypt, Front, LemonLdap, SamlProvider, authority};
use crate::support::raw::Client;
use crate::support::wait::{PATIENCE, until};

/// Reads a page of a server whose certificate is under this one (DER).
fn read(front: &Front, root: &[u8], host: &str, path: &str) -> String {
    let mut client = Client::connect_tls(front.address, root, host, &[]).unwrap();
    let port = front.address.port();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n").as_bytes());
    let answer = client.response().expect("an answer");
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{path}: {text}");
    text
}

impl House {
    /// What the first gateway says about us to SAML providers.
    fn our_metadata(&self) -> String {
        read(&self.public, &self.sites[0].root, HOST, "/saml/acme/metadata")
    }

    /// Makes a provider by what its metadata say.
    fn create_saml_provider(&self, metadata: &str, options: &[&str]) {
        let document = metadata.to_owned();
        let VerifierAnswer::Metadata(read) = answer(&VerifierJob::Metadata { document }) else {
            panic!("{metadata}");
        };
        let file = self.sites[0].folder().join("idp.der");
        std::fs::write(&file, STANDARD.decode(&read.certificates[0].der).unwrap()).unwrap();
        let by_redirect = read.sign_on.iter().find(|endpoint| endpoint.binding == SamlBinding::Redirect);
        let url = &by_redirect.expect("the redirect binding").url;
        let mut all = vec!["--entity-id", &read.entity_id, "--sso-url", url];
        all.extend(["--certificate", file.to_str().unwrap()]);
        if let Some(endpoint) = read.logout.first() {
            all.extend(["--slo-url", &endpoint.url]);
        }
        all.extend(options);
        self.create_provider("saml", &all, "");
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

    house.log_out();
    until("the way back", PATIENCE, || {
        (house.browser.location() == house.url("/v1/me")).then_some(())
    });
    house.assert_ends(&session);
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
}

#[test]
fn who_signs_on_at_lemonldap_by_saml_has_a_session_with_encryption_and_without() {
    let house = House::open();
    let mut portal = LemonLdap::start(&[]);
    let metadata = read(portal.front(), authority().certificate_der(), "localhost", "/saml/metadata");
    house.create_saml_provider(&metadata, &["--sign-requests"]);
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
