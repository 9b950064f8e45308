//! SAML identity providers: signed and encrypted responses for signed requests by both bindings, log-out from both sides.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{encoded, read, seconds};
use crate::sign_on::samples;
use crate::support::identity_providers::{Encrypt, LemonLdap, SamlProvider, SamlServiceProvider};
use crate::support::wait::{PATIENCE, until};
use crate::support::webdriver::Browser;

fn metadata_of(provider: &SamlServiceProvider) -> String {
    read(provider.front(), provider.host(), "/metadata")
}

/// What the service provider shows of who signed on.
fn shown(browser: &Browser, service: &SamlServiceProvider) -> Value {
    let page = service.base() + "/acs";
    until("the assertion consumer service", PATIENCE, || {
        (browser.location() == page).then_some(())
    });
    let text = browser.text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The last message that the service provider was sent, as it was sent.
fn last(service: &SamlServiceProvider) -> Value {
    let came: Vec<Value> = serde_json::from_str(&read(service.front(), service.host(), "/came")).unwrap();
    came.last().expect("a message").clone()
}

/// The last response, as text.
fn last_response(service: &SamlServiceProvider) -> String {
    let message = last(service);
    let response = message["fields"]["SAMLResponse"].as_str().expect("a response");
    String::from_utf8(STANDARD.decode(response).unwrap()).unwrap()
}

/// All that is needed to judge the last message.
fn sample(service: &SamlServiceProvider, idp_metadata: &str, expected: &Value) -> Value {
    json!({
        "made_at": seconds(),
        "idp_metadata": idp_metadata,
        "sp_entity_id": format!("{}/metadata", service.base()),
        "acs_url": format!("{}/acs", service.base()),
        "slo_url": format!("{}/slo", service.base()),
        "sp_metadata": metadata_of(service),
        "sp_key": service.pair().key,
        "sp_certificate": service.pair().certificate,
        "message": last(service),
        "expected": expected,
    })
}

struct Pair<'b> {
    provider: SamlProvider,
    service: SamlServiceProvider,
    metadata: String,
    browser: &'b Browser,
}

impl<'b> Pair<'b> {
    fn start(browser: &'b Browser, provider: &Value, service: &Value) -> Self {
        let provider = SamlProvider::start_with(provider);
        let service = SamlServiceProvider::start_with(service);
        let metadata = read(provider.front(), provider.host(), "/metadata");
        assert!(metadata.contains(&first_line(&provider.pair().certificate)), "its certificate");
        service.set_identity_provider(&metadata);
        provider.set_service_provider(&metadata_of(&service));
        Self {
            provider,
            service,
            metadata,
            browser,
        }
    }

    fn sign_on(&self, path: &str) -> Value {
        self.browser.go(&(self.service.base() + path));
        self.browser.submit(&[("login", "ann"), ("password", "anything")]);
        let shown = shown(self.browser, &self.service);
        assert_eq!(shown["name_id"], "id-of-ann");
        assert_eq!(shown["attributes"]["mail"], json!(["ann@acme.example"]));
        assert_eq!(shown["attributes"]["groups"], json!(["staff", "admins"]));
        shown
    }

    fn keep(&self, name: &str, expected: &Value) {
        samples::keep(name, &sample(&self.service, &self.metadata, expected));
    }
}

/// The first line of what a PEM text encodes.
fn first_line(pem: &str) -> String {
    pem.lines().nth(1).unwrap().to_owned()
}

#[test]
fn pysaml2_signs_assertions_and_log_outs() {
    let browser = Browser::start();
    let pair = Pair::start(&browser, &json!({}), &json!({}));
    let expected = pair.sign_on("/log-in?RelayState=where-to");
    assert_eq!(expected["relay_state"], "where-to");
    pair.keep("pysaml2-assertion-signed", &expected);

    // The service provider refuses a LogoutRequest that is not signed, or whose person it does not know.
    let page = pair.provider.base() + "/slo";
    pair.browser.go(&(pair.provider.base() + "/log-out"));
    until("the way back", PATIENCE, || {
        pair.browser.location().starts_with(&page).then_some(())
    });
    assert!(pair.browser.text().contains("says True"), "{}", pair.browser.text());
    pair.keep("pysaml2-log-out", &expected);

    pair.sign_on("/log-in?binding=post");
    pair.browser.go(&(pair.provider.base() + "/log-out?binding=post"));
    until("the way back", PATIENCE, || (pair.browser.location() == page).then_some(()));
    assert!(pair.browser.text().contains("says True"), "{}", pair.browser.text());

    pair.sign_on("/log-in");
    pair.browser.go(&(pair.service.base() + "/log-out"));
    let page = pair.service.base() + "/slo";
    until("the way back", PATIENCE, || {
        pair.browser.location().starts_with(&page).then_some(())
    });
    assert!(pair.browser.text().contains("True"), "{}", pair.browser.text());
}

#[test]
fn pysaml2_signs_responses_and_begins_by_itself() {
    let browser = Browser::start();
    let pair = Pair::start(
        &browser,
        &json!({ "sign": "response" }),
        &json!({ "want": "response", "unsolicited": true }),
    );
    let expected = pair.sign_on("/log-in");
    pair.keep("pysaml2-response-signed", &expected);

    let service = encoded(&format!("{}/metadata", pair.service.base()));
    pair.browser.go(&format!("{}/unsolicited?sp={service}", pair.provider.base()));
    pair.browser.submit(&[("login", "ann"), ("password", "anything")]);
    let expected = shown(pair.browser, &pair.service);
    assert_eq!((&expected["name_id"], &expected["request"]), (&json!("id-of-ann"), &Value::Null));
    pair.keep("pysaml2-unsolicited", &expected);
}

#[test]
fn pysaml2_encrypts_assertions() {
    let browser = Browser::start();
    let pair = Pair::start(&browser, &json!({ "sign": "both", "encrypt": true }), &json!({}));
    let expected = pair.sign_on("/log-in");
    pair.keep("pysaml2-encrypted", &expected);
    let response = last_response(&pair.service);
    assert!(
        response.contains("aes256-gcm") && !response.contains("ann@acme.example"),
        "{response}"
    );
}

/// Messages as old providers make them, which are no secret and no proof any more.
#[test]
fn pysaml2_signs_and_encrypts_as_nobody_should() {
    let weak = [
        (
            "pysaml2-sha1",
            json!({
                "signature": "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
                "digest": "http://www.w3.org/2000/09/xmldsig#sha1",
            }),
        ),
        (
            "pysaml2-triple-des",
            json!({
                "encrypt": true,
                "sign": "both",
                "cipher": "http://www.w3.org/2001/04/xmlenc#tripledes-cbc",
                "key_type": "des-192",
            }),
        ),
    ];
    let browser = Browser::start();
    for (name, plan) in weak {
        let pair = Pair::start(&browser, &plan, &json!({}));
        let expected = pair.sign_on("/log-in");
        pair.keep(name, &expected);
    }
}

#[test]
fn lemonldap_signs_people_on_by_saml() {
    let mut portal = LemonLdap::start(&[]);
    let service = SamlServiceProvider::start_with(&json!({}));
    let metadata = read(portal.front(), "localhost", "/saml/metadata");
    assert!(metadata.contains(&portal.entity_id()), "{metadata}");
    service.set_identity_provider(&metadata);
    let browser = Browser::start();
    for (encrypt, name) in [
        (Encrypt::Nothing, "lemonldap-saml"),
        (Encrypt::Assertion, "lemonldap-saml-encrypted"),
    ] {
        portal.set_service_provider(&metadata_of(&service), encrypt);
        browser.go(&(service.base() + "/log-in?RelayState=where-to"));
        if name == "lemonldap-saml" {
            // It remembers the browser afterwards.
            browser.submit(&[("user", "dwho"), ("password", "dwho")]);
        }
        let expected = shown(&browser, &service);
        assert_eq!(expected["name_id"], "dwho");
        assert_eq!(expected["attributes"]["mail"], json!(["dwho@badwolf.org"]));
        samples::keep(name, &sample(&service, &metadata, &expected));
    }
    let response = last_response(&service);
    assert!(!response.contains("dwho@badwolf.org"), "{response}");

    browser.go(&(service.base() + "/log-out"));
    let page = service.base() + "/slo";
    until("the way back", PATIENCE, || browser.location().starts_with(&page).then_some(()));
    assert!(browser.text().contains("True"), "{}", browser.text());
}
