//! Why a SAML message was refused: one variant for each reason, in words that an administrator can act on.

use serde::{Deserialize, Serialize};

/// Characters of somebody else's text that a reason repeats.
const EXCERPT: usize = 160;

/// A reason to refuse a message of an identity provider. The verifier sends it to the gateway as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SamlFault {
    // The form of the message.
    #[error("the message is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the message is not what its binding prescribes: {0}")]
    Encoding(String),
    #[error("the message is no XML that can be read: {0}")]
    NotXml(String),
    #[error("the message has a document type declaration (DTD)")]
    DocumentType,
    #[error("the message has a comment")]
    Comment,
    #[error("the message has a processing instruction")]
    ProcessingInstruction,
    #[error("the message has a CDATA section")]
    CharacterData,
    #[error("elements of the message nest deeper than {0}")]
    TooDeep(u32),
    #[error("the message has more than {0}")]
    TooMany(String),
    #[error("the namespace `{0}` is not absolute")]
    RelativeNamespace(String),
    #[error("the ID `{0}` stands on more than one element, or an element has two IDs")]
    DuplicateId(String),
    #[error("the message is a `{0}`")]
    WrongMessage(String),
    #[error("the message is not of SAML 2.0")]
    WrongVersion,
    #[error("{0} is missing")]
    Missing(String),
    #[error("{0} cannot be read")]
    Malformed(String),

    // What stands in it.
    #[error("the response has no assertion")]
    NoAssertion,
    #[error("the response has more than one assertion")]
    SeveralAssertions,
    #[error("an assertion stands where none may stand")]
    AssertionElsewhere,
    #[error("the identity provider answered `{0}`: the sign-on did not succeed there")]
    Status(String),

    // Signatures.
    #[error("nothing in the message is signed")]
    Unsigned,
    #[error("the response is not signed, and the provider's settings want that")]
    ResponseUnsigned,
    #[error("the assertion is not signed, and the provider's settings want that")]
    AssertionUnsigned,
    #[error("a signature stands elsewhere than directly below what it signs")]
    SignatureElsewhere,
    #[error("an element has more than one signature")]
    SeveralSignatures,
    #[error("the form of a signature is not allowed: {0}")]
    SignatureForm(String),
    #[error("a signature refers to `{0}`, which is not the element in which it stands")]
    ReferenceElsewhere(String),
    #[error("a signature transforms what it signs by `{0}`; only enveloped signature and exclusive canonicalisation are allowed")]
    Transform(String),
    #[error("a signature uses `{0}`; allowed are RSA and ECDSA with SHA-256, SHA-384 or SHA-512")]
    SignatureAlgorithm(String),
    #[error("a signature was made by none of the provider's certificates, or what it signs was changed")]
    SignatureWrong,
    #[error("a signature was made with a certificate that has expired; the provider needs its new metadata")]
    CertificateExpired,
    #[error("the provider has no certificate that can be used: {0}")]
    NoCertificate(String),

    // Encryption.
    #[error("the assertion is not encrypted, and the provider's settings require that")]
    NotEncrypted,
    #[error("the assertion is encrypted, and there is no key to decrypt it")]
    NoDecryptionKey,
    #[error("the form of the encryption is not allowed: {0}")]
    EncryptionForm(String),
    #[error("the assertion is encrypted with `{0}`; allowed are AES-GCM, or AES-CBC in a signed response, and RSA-OAEP for the key")]
    EncryptionAlgorithm(String),
    #[error(
        "the assertion is encrypted with AES-CBC in a response that is not signed; let the identity provider sign the response or use AES-GCM"
    )]
    UnsignedCiphertext,
    #[error("the encrypted assertion cannot be decrypted with our key, or what it holds is not acceptable")]
    Undecryptable,
    #[error("the encrypted assertion is not signed itself; let the identity provider sign assertions (our metadata says so)")]
    EncryptedUnsigned,

    // What the gateway asks of a verified message.
    #[error("the issuer is `{0}`, which is not the provider's entity ID")]
    WrongIssuer(String),
    #[error("the assertion is not meant for us: its audience is `{0}`")]
    WrongAudience(String),
    #[error("the assertion may be delivered to `{0}` only, which is not where it arrived")]
    WrongRecipient(String),
    #[error("the message is addressed to `{0}`, which is not where it arrived")]
    WrongDestination(String),
    #[error("the response answers another request than the one that this browser began")]
    WrongRequest,
    #[error("the response answers no request, and the provider does not allow that it begins a sign-on")]
    Unsolicited,
    #[error("the message is not valid yet: {0}. Compare the clocks of both sides")]
    NotYetValid(String),
    #[error("the message has expired: {0}. Compare the clocks of both sides")]
    Expired(String),
    #[error("the message was used before")]
    Replayed,
    #[error("no bearer confirmation of the assertion fits: {0}")]
    NoConfirmation(String),
    #[error("the assertion says nothing about a log-in (`AuthnStatement`)")]
    NoAuthentication,
    #[error("the session at the identity provider has ended")]
    SessionOver,

    // The verifier.
    #[error("the verifier of SAML messages cannot be confined on this system: {0}")]
    NotConfined(String),
    #[error("the verifier of SAML messages did not answer within its time")]
    VerifierTimeout,
    #[error("the verifier of SAML messages failed: {0}")]
    VerifierFailed(String),
    #[error("too many SAML messages wait to be verified")]
    VerifierBusy,
}

impl SamlFault {
    /// The stable word of logs and of the audit trail.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "saml_too_large",
            Self::Encoding(_) => "saml_encoding",
            Self::NotXml(_) => "saml_not_xml",
            Self::DocumentType => "saml_document_type",
            Self::Comment => "saml_comment",
            Self::ProcessingInstruction => "saml_processing_instruction",
            Self::CharacterData => "saml_cdata",
            Self::TooDeep(_) => "saml_too_deep",
            Self::TooMany(_) => "saml_too_many",
            Self::RelativeNamespace(_) => "saml_relative_namespace",
            Self::DuplicateId(_) => "saml_duplicate_id",
            Self::WrongMessage(_) => "saml_wrong_message",
            Self::WrongVersion => "saml_wrong_version",
            Self::Missing(_) => "saml_missing",
            Self::Malformed(_) => "saml_malformed",
            Self::NoAssertion => "saml_no_assertion",
            Self::SeveralAssertions => "saml_several_assertions",
            Self::AssertionElsewhere => "saml_assertion_elsewhere",
            Self::Status(_) => "saml_status",
            Self::Unsigned => "saml_unsigned",
            Self::ResponseUnsigned => "saml_response_unsigned",
            Self::AssertionUnsigned => "saml_assertion_unsigned",
            Self::SignatureElsewhere => "saml_signature_elsewhere",
            Self::SeveralSignatures => "saml_several_signatures",
            Self::SignatureForm(_) => "saml_signature_form",
            Self::ReferenceElsewhere(_) => "saml_reference_elsewhere",
            Self::Transform(_) => "saml_transform",
            Self::SignatureAlgorithm(_) => "saml_signature_algorithm",
            Self::SignatureWrong => "saml_signature_wrong",
            Self::CertificateExpired => "saml_certificate_expired",
            Self::NoCertificate(_) => "saml_no_certificate",
            Self::NotEncrypted => "saml_not_encrypted",
            Self::NoDecryptionKey => "saml_no_decryption_key",
            Self::EncryptionForm(_) => "saml_encryption_form",
            Self::EncryptionAlgorithm(_) => "saml_encryption_algorithm",
            Self::UnsignedCiphertext => "saml_unsigned_ciphertext",
            Self::Undecryptable => "saml_undecryptable",
            Self::EncryptedUnsigned => "saml_encrypted_unsigned",
            Self::WrongIssuer(_) => "saml_wrong_issuer",
            Self::WrongAudience(_) => "saml_wrong_audience",
            Self::WrongRecipient(_) => "saml_wrong_recipient",
            Self::WrongDestination(_) => "saml_wrong_destination",
            Self::WrongRequest => "saml_wrong_request",
            Self::Unsolicited => "saml_unsolicited",
            Self::NotYetValid(_) => "saml_not_yet_valid",
            Self::Expired(_) => "saml_expired",
            Self::Replayed => "saml_replayed",
            Self::NoConfirmation(_) => "saml_no_confirmation",
            Self::NoAuthentication => "saml_no_authentication",
            Self::SessionOver => "saml_session_over",
            Self::NotConfined(_) => "saml_not_confined",
            Self::VerifierTimeout => "saml_verifier_timeout",
            Self::VerifierFailed(_) => "saml_verifier_failed",
            Self::VerifierBusy => "saml_verifier_busy",
        }
    }

    /// Whether it is our own failure, so that the answer is a 503 and no refusal.
    #[must_use]
    pub const fn is_our_failure(&self) -> bool {
        matches!(
            self,
            Self::NotConfined(_) | Self::VerifierTimeout | Self::VerifierFailed(_) | Self::VerifierBusy
        )
    }
}

/// The beginning of somebody else's text, without what could change the form of a log line.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let shown = text.chars().take(EXCERPT).map(|c| match c {
        ' '..='~' if c != '`' => c,
        _ => '?',
    });
    let mut shown: String = shown.collect();
    if text.chars().nth(EXCERPT).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt("https://idp.example/a"), "https://idp.example/a");
        assert_eq!(excerpt("a`b\r\n\u{1b}[31m\u{202e}"), "a?b???[31m?");
        assert_eq!(excerpt(&"x".repeat(10_000)).len(), EXCERPT + 3);
    }

    #[test]
    fn a_fault_crosses_the_pipe_unchanged() {
        for fault in [
            SamlFault::Comment,
            SamlFault::TooLarge(5),
            SamlFault::WrongIssuer("x".to_owned()),
            SamlFault::VerifierTimeout,
        ] {
            let text = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<SamlFault>(&text).unwrap(), fault);
            assert!(fault.label().starts_with("saml_"));
        }
    }
}
