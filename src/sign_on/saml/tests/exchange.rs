//! What we send: requests that a provider can verify.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::sign_on::saml::query::{QueryMessage, RedirectQuery};
use crate::sign_on::saml::request::{AuthnRequest, MessageId, post_value, redirect_url};
use crate::sign_on::saml::signature::{TrustedCertificates, signature_of, verified};
use crate::sign_on::saml::xml::{Comments, XmlTree};

fn request(id: &MessageId) -> AuthnRequest<'_> {
    AuthnRequest {
        id,
        destination: "https://idp.example/sso?tenant=a&b=c",
        acs_url: ACS_URL,
        sp_entity_id: SP_ENTITY_ID,
        name_id_format: Some("urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"),
    }
}

fn own() -> TrustedCertificates {
    TrustedCertificates::new(&[own_keys().certificate().clone()], NOW).unwrap()
}

#[test]
fn ids_are_names_and_never_the_same() {
    let (one, other) = (MessageId::generate().unwrap(), MessageId::generate().unwrap());
    assert_ne!(one, other);
    assert!(one.as_str().len() == 41 && one.as_str().starts_with('_'));
}

#[test]
fn a_request_by_redirect_carries_its_signature() {
    let id = MessageId::generate().unwrap();
    let xml = request(&id).xml(NOW);
    let url = redirect_url(
        "https://idp.example/sso?tenant=a",
        QueryMessage::Request,
        &xml,
        Some("state"),
        Some(own_keys()),
    )
    .unwrap();
    let query = url.strip_prefix("https://idp.example/sso?tenant=a&").unwrap();
    let query = RedirectQuery::parse(query, QueryMessage::Request).unwrap();
    assert_eq!(query.relay_state.as_deref(), Some("state"));
    assert_eq!(query.signed.verified_message(&own()).unwrap(), xml);
    let unsigned = redirect_url("https://idp.example/sso", QueryMessage::Request, &xml, None, None).unwrap();
    assert!(unsigned.starts_with("https://idp.example/sso?SAMLRequest=") && !unsigned.contains("Sig"));
}

#[test]
fn a_request_by_post_is_signed_itself() {
    let id = MessageId::generate().unwrap();
    let value = post_value(&request(&id).xml(NOW), &id, Some(own_keys())).unwrap();
    let text = String::from_utf8(STANDARD.decode(&value).unwrap()).unwrap();
    let tree = XmlTree::parse(&text, Comments::Refused).unwrap();
    let signature = signature_of(&tree, tree.root()).unwrap().unwrap();
    assert_eq!(verified(&tree, signature, tree.root(), &own()).unwrap(), tree.root());
    assert_eq!(
        tree.attribute(tree.root(), "Destination"),
        Some("https://idp.example/sso?tenant=a&b=c")
    );
}

/// ECDSA, as some providers sign.
#[test]
fn a_response_may_be_signed_with_an_elliptic_curve() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap().der().clone();
    let keys = SpKeyPair::from_parts(pair.serialize_der().into(), certificate.clone());
    let signer = SampleProvider { keys };
    let style = SignatureStyle {
        method: "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
        ..SignatureStyle::default()
    };
    let message = response().around(&signer.sign(&response().assertion(), "_assertion", &style));
    let mut job = job(&message);
    job.keys = JobKeys::new(&[certificate], NOW);
    verify_response(&job).unwrap();
    job.keys = JobKeys::new(&[provider().certificate()], NOW);
    assert_eq!(verify_response(&job).unwrap_err(), SamlFault::SignatureWrong);
}
