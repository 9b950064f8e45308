//! The redirect binding: a message in the query of a URL, deflated, and signed as the text of the query (SAML bindings, 3.4).

use std::io::Read as _;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::base::percent;

use super::fault::{SamlFault, excerpt};
use super::signature::TrustedCertificates;
use super::xml::MAX_MESSAGE;

/// The default, and the only encoding there is.
const DEFLATE: &str = "urn:oasis:names:tc:SAML:2.0:bindings:URL-Encoding:DEFLATE";

/// Longest state of the other side that comes back unchanged (SAML bindings, section 3.4.3).
const MAX_RELAY_STATE: usize = 80;

/// Which of the two messages a query carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryMessage {
    Request,
    Response,
}

impl QueryMessage {
    /// The name of its parameter, and of its field in the POST binding.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Request => "SAMLRequest",
            Self::Response => "SAMLResponse",
        }
    }

    /// Which message a query carries.
    ///
    /// # Errors
    /// It carries none, or both.
    pub fn carried_by(query: &str) -> Result<Self, SamlFault> {
        match (raw(query, Self::Request.parameter())?, raw(query, Self::Response.parameter())?) {
            (Some(_), None) => Ok(Self::Request),
            (None, Some(_)) => Ok(Self::Response),
            (None, None) => Err(SamlFault::Encoding("the query has no message".to_owned())),
            (Some(_), Some(_)) => Err(SamlFault::Encoding("the query has a request and a response".to_owned())),
        }
    }
}

/// A signed query as it came, taken apart without decoding what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedQuery {
    /// What is signed: the parameters in the order that the binding prescribes, encoded as they came.
    octets: String,
    /// The encoded message.
    message: String,
    algorithm: String,
    /// In base64.
    signature: String,
}

/// A query of the redirect binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectQuery {
    pub signed: SignedQuery,
    pub relay_state: Option<String>,
}

impl RedirectQuery {
    /// Takes a query apart.
    ///
    /// # Errors
    /// A parameter that is missing, stands twice or is not encoded rightly; no signature.
    pub fn parse(query: &str, carries: QueryMessage) -> Result<Self, SamlFault> {
        // The encoded message grows by a third in base64, and by up to three times where that is percent-encoded.
        if query.len() > MAX_MESSAGE * 4 {
            return Err(SamlFault::TooLarge(MAX_MESSAGE));
        }
        let message = raw(query, carries.parameter())?.ok_or_else(|| missing(carries.parameter()))?;
        if let Some(encoding) = raw(query, "SAMLEncoding")?
            && decoded("SAMLEncoding", encoding)? != DEFLATE
        {
            return Err(SamlFault::Encoding("`SAMLEncoding` is unknown".to_owned()));
        }
        let raw_state = raw(query, "RelayState")?;
        let (Some(algorithm), Some(signature)) = (raw(query, "SigAlg")?, raw(query, "Signature")?) else {
            return Err(SamlFault::Unsigned);
        };
        let mut octets = format!("{}={message}", carries.parameter());
        if let Some(state) = raw_state {
            octets.push_str(&format!("&RelayState={state}"));
        }
        octets.push_str(&format!("&SigAlg={algorithm}"));
        Ok(Self {
            signed: SignedQuery {
                octets,
                message: message.to_owned(),
                algorithm: decoded("SigAlg", algorithm)?,
                signature: decoded("Signature", signature)?,
            },
            relay_state: Self::relay_state(query)?,
        })
    }

    /// The state that a query brings back, signed or not.
    ///
    /// # Errors
    /// It stands twice, is not encoded rightly, or is longer than 80 bytes.
    pub fn relay_state(query: &str) -> Result<Option<String>, SamlFault> {
        // The only value that may hold a space, which some write as a plus.
        let state = raw(query, "RelayState")?.map(|state| decoded("RelayState", &state.replace('+', " ")));
        let state = state.transpose()?;
        if state.as_ref().is_some_and(|state| state.len() > MAX_RELAY_STATE) {
            return Err(SamlFault::Encoding("`RelayState` is longer than 80 bytes".to_owned()));
        }
        Ok(state)
    }
}

impl SignedQuery {
    /// The XML text of the message, once the signature is verified.
    pub(super) fn verified_message(&self, trusted: &TrustedCertificates) -> Result<String, SamlFault> {
        self.verify(trusted)?;
        inflate(&decoded("the message", &self.message)?)
    }

    fn verify(&self, trusted: &TrustedCertificates) -> Result<(), SamlFault> {
        // SAML bindings, section 3.4.4.1: RSA. The form of ECDSA signatures is not defined there.
        let algorithm = match self.algorithm.as_str() {
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256" => &RSA_PKCS1_2048_8192_SHA256,
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384" => &RSA_PKCS1_2048_8192_SHA384,
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512" => &RSA_PKCS1_2048_8192_SHA512,
            other => return Err(SamlFault::SignatureAlgorithm(excerpt(other))),
        };
        let signature = STANDARD
            .decode(&self.signature)
            .map_err(|_| SamlFault::Encoding("`Signature` is not base64".to_owned()))?;
        let made_by = |key: &Vec<u8>| {
            UnparsedPublicKey::new(algorithm, key)
                .verify(self.octets.as_bytes(), &signature)
                .is_ok()
        };
        if trusted.valid_keys()?.iter().any(made_by) {
            Ok(())
        } else if trusted.expired_keys()?.iter().any(made_by) {
            Err(SamlFault::CertificateExpired)
        } else {
            Err(SamlFault::SignatureWrong)
        }
    }
}

/// The one value of a parameter as it stands in the query.
fn raw<'q>(query: &'q str, name: &str) -> Result<Option<&'q str>, SamlFault> {
    let mut values = query.split('&').filter_map(|pair| {
        let (own, value) = pair.split_once('=')?;
        (own == name).then_some(value)
    });
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(SamlFault::Encoding(format!("`{name}` stands twice"))),
        (value, None) => Ok(value),
    }
}

fn decoded(name: &str, value: &str) -> Result<String, SamlFault> {
    percent::decode(value).ok_or_else(|| SamlFault::Encoding(format!("{name} is not percent-encoded UTF-8")))
}

fn missing(name: &str) -> SamlFault {
    SamlFault::Missing(format!("`{name}`"))
}

/// The text of a message in base64 and deflated. What becomes larger than a message may be is refused on the way.
pub fn inflate(text: &str) -> Result<String, SamlFault> {
    let deflated = STANDARD
        .decode(text)
        .map_err(|_| SamlFault::Encoding("the message is not base64".to_owned()))?;
    let mut inflated = Vec::new();
    let bound = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX).saturating_add(1);
    flate2::read::DeflateDecoder::new(&deflated[..])
        .take(bound)
        .read_to_end(&mut inflated)
        .map_err(|_| SamlFault::Encoding("the message is not deflated".to_owned()))?;
    if inflated.len() > MAX_MESSAGE {
        return Err(SamlFault::TooLarge(MAX_MESSAGE));
    }
    String::from_utf8(inflated).map_err(|_| SamlFault::Encoding("the message is not UTF-8".to_owned()))
}

/// A message as the redirect binding writes it: deflated, in base64, percent-encoded.
pub(super) fn deflate(xml: &str) -> Result<String, SamlFault> {
    let mut deflated = Vec::new();
    flate2::read::DeflateEncoder::new(xml.as_bytes(), flate2::Compression::default())
        .read_to_end(&mut deflated)
        .map_err(|_| SamlFault::Encoding("the message cannot be deflated".to_owned()))?;
    let mut encoded = Vec::new();
    percent::push_query(&mut encoded, &STANDARD.encode(deflated));
    Ok(String::from_utf8_lossy(&encoded).into_owned())
}
