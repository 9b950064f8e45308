//! An identity provider for tests: it signs and encrypts what a test lets it say, right or wrong.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bergshamra_dsig::{DsigContext, sign};
use bergshamra_enc::{EncContext, encrypt};
use bergshamra_keys::{KeysManager, loader};
use rustls_pki_types::CertificateDer;

use crate::base::clock::UnixMillis;

use super::key_pair::SpKeyPair;
use super::request::{escape, utc};

/// The entity ID of the provider.
pub const ENTITY_ID: &str = "https://idp.example/metadata";
/// Our entity ID.
pub const SP_ENTITY_ID: &str = "https://gateway.example/saml/metadata";
/// Where responses arrive.
pub const ACS_URL: &str = "https://gateway.example/saml/acs";
/// The request that is answered.
pub const REQUEST_ID: &str = "_request";

/// A provider with a key of its own.
pub struct SampleProvider {
    pub keys: SpKeyPair,
}

/// A key with a certificate that ends in ten years.
///
/// # Panics
/// The system has no randomness.
#[must_use]
#[expect(clippy::expect_used, reason = "only tests call this")]
pub fn key_pair(now: UnixMillis) -> SpKeyPair {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let year = |after: i64| {
        let time = jiff::Timestamp::from_millisecond(now.0 + after * 366 * 86_400_000).expect("a time");
        i32::from(time.to_zoned(jiff::tz::TimeZone::UTC).year())
    };
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(year(0), 1, 1);
    params.not_after = rcgen::date_time_ymd(year(10), 1, 1);
    let certificate = params.self_signed(&pair).expect("a certificate").der().clone();
    SpKeyPair::from_parts(pair.serialize_der().into(), certificate)
}

/// How a signature is made.
#[derive(Debug, Clone)]
pub struct SignatureStyle {
    pub canonicalisation: &'static str,
    pub method: &'static str,
    pub digest: &'static str,
    pub transforms: Vec<&'static str>,
    /// What stands in `KeyInfo`.
    pub key_info: String,
}

impl Default for SignatureStyle {
    fn default() -> Self {
        Self {
            canonicalisation: "http://www.w3.org/2001/10/xml-exc-c14n#",
            method: "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            digest: "http://www.w3.org/2001/04/xmlenc#sha256",
            transforms: vec![
                "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
                "http://www.w3.org/2001/10/xml-exc-c14n#",
            ],
            key_info: String::new(),
        }
    }
}

impl SampleProvider {
    /// A provider with a new key.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        Self { keys: key_pair(now) }
    }

    /// The certificate by which others verify.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.keys.certificate().clone()
    }

    /// Signs the element with this ID: the signature stands behind its issuer.
    ///
    /// # Panics
    /// There is no such element, or the library cannot sign it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "only tests call this")]
    pub fn sign(&self, xml: &str, id: &str, style: &SignatureStyle) -> String {
        let transforms = style.transforms.iter().fold(String::new(), |mut all, transform| {
            let _ = write!(all, r#"<ds:Transform Algorithm="{transform}"/>"#);
            all
        });
        let key_info = if style.key_info.is_empty() {
            String::new()
        } else {
            format!("<ds:KeyInfo>{}</ds:KeyInfo>", style.key_info)
        };
        let template = format!(
            r##"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{}"/><ds:SignatureMethod Algorithm="{}"/><ds:Reference URI="#{id}"><ds:Transforms>{transforms}</ds:Transforms><ds:DigestMethod Algorithm="{}"/><ds:DigestValue></ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue></ds:SignatureValue>{key_info}</ds:Signature>"##,
            style.canonicalisation, style.method, style.digest
        );
        let element = xml.find(&format!(r#"ID="{id}""#)).expect("the element");
        let issuer_end = "</saml:Issuer>";
        let at = element + xml[element..].find(issuer_end).expect("its issuer") + issuer_end.len();
        let with_template = format!("{}{template}{}", &xml[..at], &xml[at..]);
        let mut keys = KeysManager::new();
        keys.add_key(loader::load_pem_auto(self.keys.private_pem().as_bytes(), None).expect("the key"));
        sign::sign(&DsigContext::new_permissive(keys), &with_template).expect("a signature")
    }

    /// The provider's metadata.
    #[must_use]
    pub fn metadata(&self) -> String {
        metadata(&[self.certificate()])
    }
}

/// Metadata of a provider with these certificates.
#[must_use]
pub fn metadata(certificates: &[CertificateDer<'_>]) -> String {
    let keys = certificates.iter().fold(String::new(), |mut all, certificate| {
        let _ = write!(
            all,
            r#"<md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"#,
            STANDARD.encode(certificate)
        );
        all
    });
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><!-- made by hand --><md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="{ENTITY_ID}"><md:IDPSSODescriptor WantAuthnRequestsSigned="true" protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">{keys}<md:SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.example/slo-post"/><md:SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example/slo" ResponseLocation="https://idp.example/slo-return"/><md:NameIDFormat>urn:oasis:names:tc:SAML:2.0:nameid-format:persistent</md:NameIDFormat><md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example/sso"/><md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:SOAP" Location="https://idp.example/soap"/><md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.example/post"/></md:IDPSSODescriptor></md:EntityDescriptor>"#
    )
}

/// What a response says. The default is right.
#[derive(Debug, Clone)]
pub struct SampleResponse {
    pub now: UnixMillis,
    pub response_id: String,
    pub assertion_id: String,
    pub issuer: String,
    pub destination: Option<String>,
    pub recipient: String,
    pub in_response_to: Option<String>,
    pub audience: String,
    pub name_id: String,
    /// Milliseconds from now.
    pub begins: i64,
    pub ends: i64,
    pub session_index: String,
}

impl SampleResponse {
    /// The right response to the request [`REQUEST_ID`].
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        Self {
            now,
            response_id: "_response".to_owned(),
            assertion_id: "_assertion".to_owned(),
            issuer: ENTITY_ID.to_owned(),
            destination: Some(ACS_URL.to_owned()),
            recipient: ACS_URL.to_owned(),
            in_response_to: Some(REQUEST_ID.to_owned()),
            audience: SP_ENTITY_ID.to_owned(),
            name_id: "ada@corp.example".to_owned(),
            begins: -30_000,
            ends: 300_000,
            session_index: "_session".to_owned(),
        }
    }

    /// The XML text of the assertion.
    #[must_use]
    pub fn assertion(&self) -> String {
        let at = |offset: i64| utc(UnixMillis(self.now.0 + offset));
        let answers = self
            .in_response_to
            .as_ref()
            .map_or_else(String::new, |id| format!(r#" InResponseTo="{}""#, escape(id)));
        format!(
            r#"<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{id}" Version="2.0" IssueInstant="{now}"><saml:Issuer>{issuer}</saml:Issuer><saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">{name}</saml:NameID><saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="{end}" Recipient="{recipient}"{answers}/></saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="{begin}" NotOnOrAfter="{end}"><saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience></saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant="{now}" SessionIndex="{session}"><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement><saml:Attribute Name="groups"><saml:AttributeValue>staff</saml:AttributeValue><saml:AttributeValue>finance</saml:AttributeValue></saml:Attribute><saml:Attribute Name="urn:oid:0.9.2342.19200300.100.1.3" FriendlyName="mail"><saml:AttributeValue>ada@corp.example</saml:AttributeValue></saml:Attribute></saml:AttributeStatement></saml:Assertion>"#,
            id = self.assertion_id,
            now = at(0),
            begin = at(self.begins),
            end = at(self.ends),
            issuer = escape(&self.issuer),
            name = escape(&self.name_id),
            recipient = escape(&self.recipient),
            audience = escape(&self.audience),
            session = escape(&self.session_index),
        )
    }

    /// The XML text of the response around this content.
    #[must_use]
    pub fn around(&self, content: &str) -> String {
        let optional = |name: &str, value: &Option<String>| {
            let value = value.as_deref();
            value.map_or_else(String::new, |value| format!(r#" {name}="{}""#, escape(value)))
        };
        format!(
            r#"<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{}" Version="2.0" IssueInstant="{}"{}{}><saml:Issuer>{}</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>{content}</samlp:Response>"#,
            self.response_id,
            utc(self.now),
            optional("Destination", &self.destination),
            optional("InResponseTo", &self.in_response_to),
            escape(&self.issuer),
        )
    }

    /// A response with a signed assertion.
    #[must_use]
    pub fn with_signed_assertion(&self, provider: &SampleProvider) -> String {
        self.around(&provider.sign(&self.assertion(), &self.assertion_id, &SignatureStyle::default()))
    }

    /// A signed response with an assertion that is not signed itself.
    #[must_use]
    pub fn signed(&self, provider: &SampleProvider) -> String {
        provider.sign(&self.around(&self.assertion()), &self.response_id, &SignatureStyle::default())
    }

    /// A signed response with a signed assertion.
    #[must_use]
    pub fn signed_twice(&self, provider: &SampleProvider) -> String {
        provider.sign(&self.with_signed_assertion(provider), &self.response_id, &SignatureStyle::default())
    }
}

/// An assertion, encrypted for us.
///
/// # Panics
/// The library cannot encrypt by these algorithms.
#[must_use]
#[expect(clippy::expect_used, reason = "only tests call this")]
pub fn encrypted(assertion: &str, recipient: &CertificateDer<'_>, content: &str, transport: &str) -> String {
    let template = format!(
        r#"<saml:EncryptedAssertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"><xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" Type="http://www.w3.org/2001/04/xmlenc#Element"><xenc:EncryptionMethod Algorithm="{content}"/><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><xenc:EncryptedKey><xenc:EncryptionMethod Algorithm="{transport}"/><xenc:CipherData><xenc:CipherValue></xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo><xenc:CipherData><xenc:CipherValue></xenc:CipherValue></xenc:CipherData></xenc:EncryptedData></saml:EncryptedAssertion>"#
    );
    let mut keys = KeysManager::new();
    keys.add_key(loader::load_x509_cert_der(recipient).expect("a certificate"));
    encrypt::encrypt(&EncContext::new(keys), &template, assertion.as_bytes()).expect("a ciphertext")
}
