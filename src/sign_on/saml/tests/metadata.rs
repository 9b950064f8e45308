//! Metadata in and out.

use super::*;
use crate::sign_on::saml::metadata::{IdpMetadata, RequestSigning, SamlBinding, SamlEndpoint, SpMetadata, read_certificate, read_metadata};
use crate::sign_on::saml::sample::metadata;

fn read() -> IdpMetadata {
    read_metadata(&metadata(&[provider().certificate(), stranger().certificate()])).unwrap()
}

#[test]
fn the_metadata_of_a_provider_are_read() {
    let read = read();
    assert_eq!(read.entity_id, ENTITY_ID);
    let sign_on: Vec<_> = read
        .sign_on
        .iter()
        .map(|endpoint| (endpoint.binding, endpoint.url.as_str()))
        .collect();
    assert_eq!(
        sign_on,
        [
            (SamlBinding::Redirect, "https://idp.example/sso"),
            (SamlBinding::Post, "https://idp.example/post")
        ]
    );
    let logout: Vec<_> = read
        .logout
        .iter()
        .map(|endpoint| (endpoint.binding, endpoint.url.as_str(), endpoint.response_url.as_deref()))
        .collect();
    assert_eq!(
        logout,
        [
            (SamlBinding::Post, "https://idp.example/slo-post", None),
            (
                SamlBinding::Redirect,
                "https://idp.example/slo",
                Some("https://idp.example/slo-return")
            ),
        ]
    );
    assert_eq!(read.certificates.len(), 2);
    assert!(read.wants_signed_requests);
    assert_eq!(read.judge(NOW).unwrap().0, Vec::<String>::new());
}

#[test]
fn expired_certificates_and_metadata_are_told() {
    let mut one = read();
    one.certificates[0].not_after = NOW.0 - 1;
    let warnings = one.judge(NOW).unwrap().0;
    assert!(warnings.len() == 1 && warnings[0].contains("expired"), "{warnings:?}");
    one.certificates[1].not_after = NOW.0 - 1;
    assert_eq!(one.judge(NOW).unwrap_err(), SamlFault::CertificateExpired);
    let mut old = read();
    old.valid_until = Some(NOW.0);
    assert_eq!(old.judge(NOW).unwrap_err().label(), "saml_expired");
    old.valid_until = Some(NOW.0 + 1);
    old.judge(NOW).unwrap();
    let mut plain = read();
    plain.sign_on[0].url = "http://idp.example/sso".to_owned();
    assert!(plain.judge(NOW).unwrap().0[0].contains("no TLS"));
    plain.sign_on.clear();
    assert_eq!(plain.judge(NOW).unwrap_err().label(), "saml_missing");
}

#[test]
fn metadata_that_say_too_little_or_too_much_are_refused() {
    let whole = metadata(&[provider().certificate()]);
    let cases: [(&str, String, &str); 8] = [
        ("a document type", format!("<!DOCTYPE x>{whole}"), "saml_document_type"),
        (
            "another document",
            "<html xmlns=\"http://www.w3.org/1999/xhtml\"/>".to_owned(),
            "saml_wrong_message",
        ),
        ("no name", with(&whole, &format!(r#" entityID="{ENTITY_ID}""#), ""), "saml_missing"),
        (
            "a service provider",
            whole.replace("IDPSSODescriptor", "SPSSODescriptor"),
            "saml_missing",
        ),
        (
            "SAML 1.1",
            with(
                &whole,
                "urn:oasis:names:tc:SAML:2.0:protocol",
                "urn:oasis:names:tc:SAML:1.1:protocol",
            ),
            "saml_missing",
        ),
        ("no certificate", metadata(&[]), "saml_no_certificate"),
        (
            "a certificate that is none",
            metadata(&[vec![1, 2, 3].into()]),
            "saml_no_certificate",
        ),
        (
            "a script as an address",
            with(&whole, "https://idp.example/sso", "javascript:alert(1)"),
            "saml_malformed",
        ),
    ];
    for (name, document, expected) in &cases {
        assert_eq!(read_metadata(document).unwrap_err().label(), *expected, "{name}");
    }
    read_metadata(&whole).unwrap();
    // A federation's list with one member is that member.
    let entity = &whole[whole.find("<md:EntityDescriptor").unwrap()..];
    let list = |inside: &str| {
        format!(r#"<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">{inside}</md:EntitiesDescriptor>"#)
    };
    assert_eq!(read_metadata(&list(entity)).unwrap().entity_id, ENTITY_ID);
    assert_eq!(
        read_metadata(&list(&format!("{entity}{entity}"))).unwrap_err().label(),
        "saml_too_many"
    );
}

#[test]
fn a_certificate_is_read_from_pem_and_from_base64() {
    let der = read().certificates[0].der.clone();
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        der.as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect::<Vec<_>>()
            .join("\n")
    );
    assert_eq!(read_certificate(&pem).unwrap(), read_certificate(&der).unwrap());
    assert_eq!(read_certificate("!").unwrap_err().label(), "saml_no_certificate");
}

#[test]
fn our_metadata_name_both_keys_and_want_signed_assertions() {
    let certificates = [own_keys().certificate().clone(), stranger().certificate()];
    let own = SpMetadata {
        entity_id: SP_ENTITY_ID,
        acs_url: "https://gateway.example/saml/acs?a=1&b=2",
        logout: &[
            SamlEndpoint::own(SamlBinding::Redirect, "https://gateway.example/saml/slo?a=1&b=2".to_owned()),
            SamlEndpoint::own(SamlBinding::Post, "https://gateway.example/saml/acs".to_owned()),
        ],
        certificates: &certificates,
        name_id_format: None,
        requests: RequestSigning::Signed,
    };
    let xml = own.xml();
    let document = uppsala::parse(&xml).unwrap();
    let root = document.document_element().unwrap();
    assert!(
        document
            .element(root)
            .unwrap()
            .matches_name_ns("urn:oasis:names:tc:SAML:2.0:metadata", "EntityDescriptor")
    );
    assert_eq!(xml.matches(r#"use="signing""#).count(), 2);
    assert_eq!(xml.matches(r#"use="encryption""#).count(), 2);
    assert!(xml.contains(r#"WantAssertionsSigned="true""#) && xml.contains(r#"AuthnRequestsSigned="true""#));
    assert!(xml.contains("/acs?a=1&amp;b=2") && xml.contains("#aes256-gcm"));
    let log_out = |binding: &str, url: &str| {
        format!(
            r#"<md:SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:{binding}" Location="https://gateway.example/saml/{url}"/>"#
        )
    };
    let both = log_out("HTTP-Redirect", "slo?a=1&amp;b=2") + &log_out("HTTP-POST", "acs");
    assert!(xml.contains(&both), "{xml}");
}
