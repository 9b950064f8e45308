//! Bodies of any type, as the audit trail masks them: no secret that was planted comes out.
#![no_main]

use durward::audit::mask::{MaskedBody, Shapes, mask_body};
use durward::decide::audit::BodyCapture;
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 5] = [
    "application/json",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "text/plain",
    "application/xml",
];

fuzz_target!(|input: (u8, &str, &str)| {
    let (kind, before, after) = input;
    let capture = BodyCapture {
        max: 64 << 10,
        types: TYPES.map(str::to_owned).to_vec(),
        mask: vec!["card.*".to_owned(), "ssn".to_owned()],
    };
    let shapes = Shapes::default();
    let content_type = TYPES[usize::from(kind) % TYPES.len()];
    let masked = |body: &str| match mask_body(content_type, body.as_bytes(), &capture, &shapes) {
        MaskedBody::Masked(masked) => Some(masked),
        MaskedBody::Withheld(_) => None,
    };
    if let Some(once) = masked(before).filter(|_| content_type == "application/json") {
        assert!(masked(&once).is_some(), "what was masked is JSON: {once}");
    }
    // Digits beside it would make it another number.
    let planted = format!("{before}x4111-1111-1111-1111x{after}");
    if let Some(masked) = masked(&planted) {
        assert!(!masked.contains("4111-1111-1111-1111"), "{planted}");
    }
});
