//! Metadata that are taken have a name, addresses to which browsers may be sent, and certificates that can be read.
#![no_main]

use std::sync::OnceLock;

use durward::base::clock::UnixMillis;
use durward::sign_on::provider::MAX_CERTIFICATES;
use durward::sign_on::saml::metadata::read_certificate;
use durward::sign_on::saml::sample::SampleProvider;
use durward::sign_on::saml::verifier::{VerifierAnswer, VerifierJob, answer};
use libfuzzer_sys::fuzz_target;

#[path = "../edits.rs"]
mod edits;

const NOW: UnixMillis = UnixMillis(1_795_950_000_000);

// The first byte chooses: a document as it came, or edits of a right one.
fuzz_target!(|data: &[u8]| {
    static RIGHT: OnceLock<String> = OnceLock::new();
    let Some((choice, rest)) = data.split_first() else { return };
    let document = if choice % 2 == 0 {
        String::from_utf8(rest.to_vec()).ok()
    } else {
        edits::edited(RIGHT.get_or_init(|| SampleProvider::new(NOW).metadata()), rest)
    };
    let Some(document) = document else { return };
    let _ = read_certificate(&document);
    let VerifierAnswer::Metadata(read) = answer(&VerifierJob::Metadata { document }) else {
        return;
    };
    assert!(!read.entity_id.is_empty());
    assert!((1..=MAX_CERTIFICATES).contains(&read.certificates.len()));
    for endpoint in read.sign_on.iter().chain(&read.logout) {
        for url in [&endpoint.url].into_iter().chain(&endpoint.response_url) {
            assert!(url.starts_with("https://") || url.starts_with("http://"), "{url}");
            assert!(url.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'<' && b != b'>'));
        }
    }
    let _ = read.judge(NOW);
});
