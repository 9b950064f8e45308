//! Why a SAML message was refused: one variant for each reason, in words that an administrator can act on.

use serde::{Deserialize, Serialize};

use crate::sign_on::fault::FaultSide;

/// Characters of somebody else's text that a reason repeats.
const EXCERPT: usize = 160;

macro_rules! faults {
    ($($fault:ident $(($part:ty))? $label:literal $side:ident $text:literal;)*) => {
        /// A reason to refuse a message of an identity provider. The verifier sends it to the gateway as JSON.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
        #[serde(rename_all = "snake_case")]
        pub enum SamlFault {
            $(#[error($text)] $fault $(($part))?,)*
        }

        impl SamlFault {
            /// Every label, once.
            #[cfg(any(test, feature = "internals"))]
            pub const LABELS: &'static [&'static str] = &[$($label,)*];

            /// The stable word of logs and of the audit trail.
            #[must_use]
            pub const fn label(&self) -> &'static str {
                match self {
                    $(Self::$fault { .. } => $label,)*
                }
            }

            /// Who has to act.
            #[must_use]
            pub const fn side(&self) -> FaultSide {
                match self {
                    $(Self::$fault { .. } => FaultSide::$side,)*
                }
            }
        }
    };
}

faults! {
    // The form of the message.
    TooLarge(usize) "saml_too_large" Browser
        "the message is larger than {0} bytes";
    Encoding(String) "saml_encoding" Browser
        "the message is not what its binding prescribes: {0}";
    NotXml(String) "saml_not_xml" Provider
        "the message is no XML that can be read: {0}";
    DocumentType "saml_document_type" Provider
        "the message has a document type declaration (DTD)";
    Comment "saml_comment" Provider
        "the message has a comment";
    ProcessingInstruction "saml_processing_instruction" Provider
        "the message has a processing instruction";
    CharacterData "saml_cdata" Provider
        "the message has a CDATA section";
    TooDeep(u32) "saml_too_deep" Provider
        "elements of the message nest deeper than {0}";
    TooMany(String) "saml_too_many" Provider
        "the message has more than {0}";
    RelativeNamespace(String) "saml_relative_namespace" Provider
        "the namespace `{0}` is not absolute";
    DuplicateId(String) "saml_duplicate_id" Provider
        "the ID `{0}` stands on more than one element, or an element has two IDs";
    WrongMessage(String) "saml_wrong_message" Provider
        "the message is a `{0}`";
    WrongVersion "saml_wrong_version" Provider
        "the message is not of SAML 2.0";
    Missing(String) "saml_missing" Provider
        "{0} is missing";
    Malformed(String) "saml_malformed" Provider
        "{0} cannot be read";

    // What stands in it.
    NoAssertion "saml_no_assertion" Provider
        "the response has no assertion";
    SeveralAssertions "saml_several_assertions" Provider
        "the response has more than one assertion";
    AssertionElsewhere "saml_assertion_elsewhere" Provider
        "an assertion stands where none may stand";
    Status(String) "saml_status" Provider
        "the identity provider answered `{0}`: the sign-on did not succeed there";

    LogoutStatus(String) "saml_logout_status" Provider
        "the identity provider answered `{0}`: not all of its sessions have ended";

    // Signatures.
    Unsigned "saml_unsigned" Provider
        "nothing in the message is signed";
    ResponseUnsigned "saml_response_unsigned" Settings
        "the response is not signed, and the provider's settings want that";
    AssertionUnsigned "saml_assertion_unsigned" Settings
        "the assertion is not signed, and the provider's settings want that";
    SignatureElsewhere "saml_signature_elsewhere" Provider
        "a signature stands elsewhere than directly below what it signs";
    SeveralSignatures "saml_several_signatures" Provider
        "an element has more than one signature";
    SignatureForm(String) "saml_signature_form" Provider
        "the form of a signature is not allowed: {0}";
    ReferenceElsewhere(String) "saml_reference_elsewhere" Provider
        "a signature refers to `{0}`, which is not the element in which it stands";
    Transform(String) "saml_transform" Provider
        "a signature transforms what it signs by `{0}`; only enveloped signature and exclusive canonicalisation are allowed";
    SignatureAlgorithm(String) "saml_signature_algorithm" Provider
        "a signature uses `{0}`; allowed are RSA and ECDSA with SHA-256, SHA-384 or SHA-512";
    SignatureWrong "saml_signature_wrong" Provider
        "a signature was made by none of the provider's certificates, or what it signs was changed";
    CertificateExpired "saml_certificate_expired" Settings
        "a signature was made with a certificate that has expired; the provider needs its new metadata";
    NoCertificate(String) "saml_no_certificate" Settings
        "the provider has no certificate that can be used: {0}";

    // Encryption.
    NotEncrypted "saml_not_encrypted" Settings
        "the assertion is not encrypted, and the provider's settings require that";
    NoDecryptionKey "saml_no_decryption_key" Settings
        "the assertion is encrypted, and there is no key to decrypt it";
    EncryptionForm(String) "saml_encryption_form" Provider
        "the form of the encryption is not allowed: {0}";
    EncryptionAlgorithm(String) "saml_encryption_algorithm" Provider
        "the assertion is encrypted with `{0}`; allowed are AES-GCM, or AES-CBC in a signed response, and RSA-OAEP for the key";
    UnsignedCiphertext "saml_unsigned_ciphertext" Settings
        "the assertion is encrypted with AES-CBC in a response that is not signed; let the identity provider sign the response or use AES-GCM";
    Undecryptable "saml_undecryptable" Provider
        "the encrypted assertion cannot be decrypted with our key, or what it holds is not acceptable";
    EncryptedUnsigned "saml_encrypted_unsigned" Settings
        "the encrypted assertion is not signed itself; let the identity provider sign assertions (our metadata says so)";

    // What the gateway asks of a verified message.
    WrongIssuer(String) "saml_wrong_issuer" Settings
        "the issuer is `{0}`, which is not the provider's entity ID";
    WrongAudience(String) "saml_wrong_audience" Settings
        "the assertion is not meant for us: its audience is `{0}`";
    WrongRecipient(String) "saml_wrong_recipient" Provider
        "the assertion may be delivered to `{0}` only, which is not where it arrived";
    WrongDestination(String) "saml_wrong_destination" Provider
        "the message is addressed to `{0}`, which is not where it arrived";
    WrongRequest "saml_wrong_request" Browser
        "the response answers another request than the one that this browser began";
    Unsolicited "saml_unsolicited" Browser
        "the response answers no request, and the provider does not allow that it begins a sign-on";
    NotYetValid(String) "saml_not_yet_valid" Provider
        "the message is not valid yet: {0}. Compare the clocks of both sides";
    Expired(String) "saml_expired" Provider
        "the message has expired: {0}. Compare the clocks of both sides";
    Replayed "saml_replayed" Browser
        "the message was used before";
    NoConfirmation(String) "saml_no_confirmation" Provider
        "no bearer confirmation of the assertion fits: {0}";
    NoAuthentication "saml_no_authentication" Provider
        "the assertion says nothing about a log-in (`AuthnStatement`)";
    SessionOver "saml_session_over" Provider
        "the session at the identity provider has ended";

    TransientName "saml_transient_name" Settings
        "the name ID is a transient one, which identifies nobody at the next sign-on; let the identity provider send a persistent one, or choose an attribute as subject";
    NoAddress "saml_no_address" Settings
        "the provider's settings have no address for requests";

    // The verifier.
    NotConfined(String) "saml_not_confined" Unavailable
        "the verifier of SAML messages cannot be confined on this system: {0}";
    VerifierTimeout "saml_verifier_timeout" Unavailable
        "the verifier of SAML messages did not answer within its time";
    VerifierFailed(String) "saml_verifier_failed" Unavailable
        "the verifier of SAML messages failed: {0}";
    VerifierBusy "saml_verifier_busy" Unavailable
        "too many SAML messages wait to be verified";
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
    fn every_label_is_a_word_of_its_own() {
        let mut labels = SamlFault::LABELS.to_vec();
        assert!(labels.iter().all(|label| label.starts_with("saml_")));
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), SamlFault::LABELS.len());
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
        }
    }
}
