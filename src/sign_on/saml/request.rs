//! What we send: requests for authentication, signed or not, by the redirect or the POST binding.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bergshamra_dsig::{DsigContext, sign};
use bergshamra_keys::{KeysManager, loader};

use crate::base::clock::UnixMillis;
use crate::base::percent;

use super::fault::SamlFault;
use super::key_pair::SpKeyPair;
use super::query::{QueryMessage, deflate};
use super::xml::{ASSERTION, DSIG, PROTOCOL};

const POST_BINDING: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

/// The ID of a message of ours: unguessable, and a name of XML (which begins with no digit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    /// A new ID of 160 random bits (SAML core, section 1.3.4).
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, SamlFault> {
        let mut random = [0; 20];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| SamlFault::VerifierFailed("no randomness".to_owned()))?;
        Ok(Self(random.iter().fold("_".to_owned(), |id, byte| format!("{id}{byte:02x}"))))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that asks the provider to authenticate a person.
#[derive(Debug, Clone, Copy)]
pub struct AuthnRequest<'r> {
    pub id: &'r MessageId,
    /// Where it goes: the provider's address for this binding.
    pub destination: &'r str,
    /// Where the answer shall come.
    pub acs_url: &'r str,
    pub sp_entity_id: &'r str,
    pub name_id_format: Option<&'r str>,
}

impl AuthnRequest<'_> {
    /// The XML text.
    #[must_use]
    pub fn xml(&self, now: UnixMillis) -> String {
        let policy = self.name_id_format.map_or_else(String::new, |format| {
            format!(r#"<samlp:NameIDPolicy Format="{}" AllowCreate="true"/>"#, escape(format))
        });
        format!(
            r#"<samlp:AuthnRequest xmlns:samlp="{PROTOCOL}" xmlns:saml="{ASSERTION}" ID="{}" Version="2.0" IssueInstant="{}" Destination="{}" AssertionConsumerServiceURL="{}" ProtocolBinding="{POST_BINDING}"><saml:Issuer>{}</saml:Issuer>{policy}</samlp:AuthnRequest>"#,
            self.id,
            utc(now),
            escape(self.destination),
            escape(self.acs_url),
            escape(self.sp_entity_id),
        )
    }
}

/// The address to which a browser is redirected with a message, signed if there is a key.
///
/// # Errors
/// The key cannot sign.
pub fn redirect_url(
    destination: &str,
    carries: QueryMessage,
    xml: &str,
    relay_state: Option<&str>,
    signer: Option<&SpKeyPair>,
) -> Result<String, SamlFault> {
    let mut query = format!("{}={}", carries.parameter(), deflate(xml)?);
    if let Some(state) = relay_state {
        query.push_str("&RelayState=");
        query.push_str(&query_value(state));
    }
    if let Some(signer) = signer {
        query.push_str("&SigAlg=");
        query.push_str(&query_value(RSA_SHA256));
        let signature = sign_octets(query.as_bytes(), signer)?;
        query.push_str("&Signature=");
        query.push_str(&query_value(&STANDARD.encode(signature)));
    }
    let separator = if destination.contains('?') { '&' } else { '?' };
    Ok(format!("{destination}{separator}{query}"))
}

/// The value of the form field of the POST binding: the message, signed if there is a key, in base64.
///
/// # Errors
/// The key cannot sign.
pub fn post_value(xml: &str, id: &MessageId, signer: Option<&SpKeyPair>) -> Result<String, SamlFault> {
    match signer {
        Some(signer) => Ok(STANDARD.encode(signed_xml(xml, id.as_str(), signer)?)),
        None => Ok(STANDARD.encode(xml)),
    }
}

fn sign_octets(octets: &[u8], signer: &SpKeyPair) -> Result<Vec<u8>, SamlFault> {
    let unusable = || SamlFault::VerifierFailed("our key cannot sign".to_owned());
    let key = RsaKeyPair::from_pkcs8(signer.private_der()).map_err(|_| unusable())?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), octets, &mut signature)
        .map_err(|_| unusable())?;
    Ok(signature)
}

/// A message of ours with an enveloped signature behind its issuer, where the schema wants it.
fn signed_xml(xml: &str, id: &str, signer: &SpKeyPair) -> Result<String, SamlFault> {
    let unusable = || SamlFault::VerifierFailed("our key cannot sign".to_owned());
    let template = format!(
        r##"<ds:Signature xmlns:ds="{DSIG}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="{RSA_SHA256}"/><ds:Reference URI="#{id}"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue></ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue></ds:SignatureValue></ds:Signature>"##
    );
    let with_template = xml.replacen("</saml:Issuer>", &format!("</saml:Issuer>{template}"), 1);
    let mut keys = KeysManager::new();
    keys.add_key(loader::load_pem_auto(signer.private_pem().as_bytes(), None).map_err(|_| unusable())?);
    sign::sign(&DsigContext::new(keys), &with_template).map_err(|_| unusable())
}

fn query_value(text: &str) -> String {
    let mut encoded = Vec::new();
    percent::push_query(&mut encoded, text);
    String::from_utf8_lossy(&encoded).into_owned()
}

/// A text as the value of an attribute or the text of an element, in XML and in HTML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No XML holds other control characters, and these would be normalised.
            c if c.is_control() => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A time as SAML writes it.
pub(super) fn utc(time: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| "an impossible time".to_owned(), |time| format!("{time:.3}"))
}
