//! No response verifies that the provider did not sign, and whatever is changed in one that it did: what verifies says what was signed.
#![no_main]

use std::sync::OnceLock;

use durward::base::clock::UnixMillis;
use durward::sign_on::provider::{EncryptionDemand, SignedPart};
use durward::sign_on::saml::assertion::AssertionClaims;
use durward::sign_on::saml::sample::{SampleProvider, SampleResponse, SignatureStyle, encrypted};
use durward::sign_on::saml::verifier::{JobKeys, ResponseJob, verify_response};
use libfuzzer_sys::fuzz_target;

#[path = "../edits.rs"]
mod edits;

const NOW: UnixMillis = UnixMillis(1_795_950_000_000);

/// What a provider signed, in each form, and what it says.
struct Signed {
    provider: SampleProvider,
    own: SampleProvider,
    messages: [String; 4],
    claims: AssertionClaims,
}

fn signed() -> &'static Signed {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let (provider, own) = (SampleProvider::new(NOW), SampleProvider::new(NOW));
        let response = SampleResponse::new(NOW);
        let assertion = provider.sign(&response.assertion(), "_assertion", &SignatureStyle::default());
        let ciphertext = encrypted(
            &assertion,
            &own.certificate(),
            "http://www.w3.org/2009/xmlenc11#aes256-gcm",
            "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
        );
        let messages = [
            response.with_signed_assertion(&provider),
            response.signed(&provider),
            response.signed_twice(&provider),
            response.around(&ciphertext),
        ];
        let claims = messages.each_ref().map(|message| verify(message, &provider, &own).unwrap());
        assert!(claims.iter().all(|each| *each == claims[0]));
        let [claims, ..] = claims;
        Signed {
            provider,
            own,
            messages,
            claims,
        }
    })
}

fn verify(message: &str, provider: &SampleProvider, own: &SampleProvider) -> Option<AssertionClaims> {
    let job = ResponseJob {
        message: message.to_owned(),
        keys: JobKeys::new(&[provider.certificate()], NOW),
        signed: SignedPart::Either,
        encryption: EncryptionDemand::Optional,
        decryption_key: Some(own.keys.private_pem().as_str().to_owned()),
    };
    verify_response(&job).ok().map(|claims| claims.assertion)
}

// The first byte chooses: the rest is a message as it came, or edits of a signed one.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let signed = signed();
    match signed.messages.get(usize::from(choice % 5)) {
        Some(message) => {
            let Some(message) = edits::edited(message, rest) else { return };
            if let Some(claims) = verify(&message, &signed.provider, &signed.own) {
                assert_eq!(claims, signed.claims, "{message}");
            }
        }
        None => {
            let Ok(message) = std::str::from_utf8(rest) else { return };
            assert!(verify(message, &signed.provider, &signed.own).is_none(), "a response nobody signed");
        }
    }
});
