//! Bodies of any type, as the audit trail masks them: no secret that was planted comes out, and JSON stays JSON.
#![no_main]

use std::cell::RefCell;

use durward::audit::mask::{BodyType, MaskMemory};
use durward::decide::audit::BodyCapture;
use libfuzzer_sys::fuzz_target;

#[path = "../planted.rs"]
mod planted;

use planted::{secrets, shapes};

const TYPES: [&str; 5] = [
    "application/json",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "text/plain",
    "application/xml",
];

/// Arrays and objects in which others are nested, deeper than which JSON is not masked.
const DEPTH: usize = 64;

fn masked(content_type: &str, body: &str) -> Option<String> {
    let capture = BodyCapture {
        max: 64 << 10,
        types: TYPES.map(str::to_owned).to_vec(),
        mask: vec!["card.*".to_owned(), "ssn".to_owned()],
    };
    // As the writer has it: what is remembered of one body must not show a secret of another.
    thread_local!(static MEMORY: RefCell<MaskMemory> = RefCell::default());
    let body_type = BodyType::of(content_type, &capture);
    let mut masked = String::new();
    let result = MEMORY.with_borrow_mut(|memory| memory.mask(&body_type, body.as_bytes(), &capture, shapes(), &mut masked));
    result.is_ok().then_some(masked)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

// The first byte chooses the type, the second one the secret, and the third one how it is wrapped.
fuzz_target!(|input: (u8, u8, u8, &str, &str)| {
    let (kind, which, wrapped, before, after) = input;
    let content_type = TYPES[usize::from(kind) % TYPES.len()];
    if content_type == "application/json" && before.len() < 64 << 10 && is_json(before) {
        match masked(content_type, before) {
            Some(once) => {
                assert!(is_json(&once), "what was JSON is no JSON any more: {before} gave {once}");
                assert!(masked(content_type, &once).is_some(), "what was masked is masked again: {once}");
            }
            None => assert!(
                before.matches(['[', '{']).count() > DEPTH || before.contains('\u{feff}'),
                "{before}"
            ),
        }
    }
    let all = secrets();
    let secret = &all[usize::from(which) % all.len()];
    if secret.is_hinted(before) || secret.is_hinted(after) {
        return;
    }
    let text = format!("{before} {} {after}", secret.text);
    let bodies = match wrapped % 6 {
        // As it is, whatever the type makes of it.
        0 => vec![text],
        1 => vec![serde_json::Value::from(text).to_string()],
        2 => vec![serde_json::json!({ before: [null, { "a": text }] }).to_string()],
        3 => vec![serde_json::json!({ "a": serde_json::json!([before, text]).to_string() }).to_string()],
        4 => vec![format!("a={}&b=1", percent(&text)), format!("a=1&{}=2", percent(&text))],
        _ => vec![
            serde_json::json!([{ text: 1 }, before]).to_string(),
            format!("{before}\n<a>{}</a>\n", secret.text),
        ],
    };
    for body in bodies {
        if let Some(masked) = masked(content_type, &body) {
            assert!(!masked.contains(&secret.canary), "{content_type} {body} gave {masked}");
            if content_type == "application/json" && !masked.is_empty() {
                assert!(is_json(&masked), "{body} gave {masked}");
            }
        }
    }
});
