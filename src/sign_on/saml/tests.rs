//! What a provider or a browser may send and what not: each rule with an attack that it refuses and the twin that it lets pass.

use std::sync::OnceLock;
use std::time::Duration;

use super::SamlFault;
use super::key_pair::SpKeyPair;
use super::response::{ResponseRules, Solicitation, judge_response};
use super::sample::{ACS_URL, ENTITY_ID, REQUEST_ID, SP_ENTITY_ID, SampleProvider, SampleResponse, SignatureStyle, key_pair};
use super::verifier::{JobKeys, ResponseClaims, ResponseJob, verify_response};
use crate::base::clock::UnixMillis;
use crate::sign_on::provider::{EncryptionDemand, SignedPart};

mod encrypted;
mod exchange;
mod forms;
mod judged;
mod logout;
mod metadata;
mod wrapping;

/// 2026-11-29, 11:00 UTC.
const NOW: UnixMillis = UnixMillis(1_795_950_000_000);

/// The provider that is trusted.
fn provider() -> &'static SampleProvider {
    static PROVIDER: OnceLock<SampleProvider> = OnceLock::new();
    PROVIDER.get_or_init(|| SampleProvider::new(NOW))
}

/// Somebody else with a key.
fn stranger() -> &'static SampleProvider {
    static STRANGER: OnceLock<SampleProvider> = OnceLock::new();
    STRANGER.get_or_init(|| SampleProvider::new(NOW))
}

/// Our own key.
fn own_keys() -> &'static SpKeyPair {
    static KEYS: OnceLock<SpKeyPair> = OnceLock::new();
    KEYS.get_or_init(|| key_pair(NOW))
}

fn response() -> SampleResponse {
    SampleResponse::new(NOW)
}

fn job(message: &str) -> ResponseJob {
    ResponseJob {
        message: message.to_owned(),
        keys: JobKeys::new(&[provider().certificate()], NOW),
        signed: SignedPart::Either,
        encryption: EncryptionDemand::Optional,
        decryption_key: Some(own_keys().private_pem().as_str().to_owned()),
    }
}

fn verify(message: &str) -> Result<ResponseClaims, SamlFault> {
    verify_response(&job(message))
}

/// The label of the refusal.
fn refusal(message: &str) -> &'static str {
    match verify(message) {
        Ok(claims) => panic!("verified: {claims:?}\n{message}"),
        Err(fault) => fault.label(),
    }
}

fn rules() -> ResponseRules<'static> {
    ResponseRules {
        entity_id: ENTITY_ID,
        sp_entity_id: SP_ENTITY_ID,
        acs_url: ACS_URL,
        solicitation: Solicitation::Request(REQUEST_ID),
        skew: Duration::from_secs(60),
    }
}

/// Replaces exactly one occurrence.
fn with(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "`{old}` in {text}");
    text.replacen(old, new, 1)
}

/// The first element that begins with `<name`, with all it holds; elements of the same name must not nest in it.
fn cut<'t>(text: &'t str, name: &str) -> &'t str {
    let begin = text.find(&format!("<{name} ")).unwrap();
    let closing = format!("</{name}>");
    let end = begin + text[begin..].find(&closing).unwrap() + closing.len();
    &text[begin..end]
}
