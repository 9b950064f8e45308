//! Queries and paths as the audit trail shows them: ASCII, and without a planted secret.
#![no_main]

use durward::audit::mask::{redact_path, redact_query};
use durward::decide::audit::AuditedUrl;
use libfuzzer_sys::fuzz_target;

#[path = "../planted.rs"]
mod planted;

use planted::{secrets, shapes};

fn query(text: &str, url: &AuditedUrl) -> String {
    let mut out = Vec::new();
    redact_query(text, url, shapes(), &mut out);
    assert!(out.iter().all(u8::is_ascii_graphic), "{text}");
    String::from_utf8(out).unwrap()
}

fn path(text: &str) -> String {
    let mut out = Vec::new();
    redact_path(text, shapes(), &mut out);
    String::from_utf8(out).unwrap()
}

/// The words of a secret as a client writes them into a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

// The first byte chooses the secret.
fuzz_target!(|input: (u8, &str, &str)| {
    let (which, before, after) = input;
    let all = secrets();
    let secret = &all[usize::from(which) % all.len()];
    if secret.is_hinted(before) || secret.is_hinted(after) {
        return;
    }
    let open = encoded(&secret.canary);
    let shown = AuditedUrl::Redacted {
        shown: vec!["a".to_owned()],
    };
    let text = encoded(&secret.text);
    for planted in [
        format!("{before}%20{text}%20{after}"),
        format!("{before}&a={text}&{after}"),
        format!("{before}&{text}&{after}"),
        format!("{before}&{text}=1&{after}"),
    ] {
        for url in [&AuditedUrl::Full, &shown] {
            let out = query(&planted, url);
            assert!(!out.contains(&secret.canary) && !out.contains(&open), "{planted} gave {out}");
        }
    }
    for planted in [format!("{before}%20{text}%20{after}"), format!("{before}/{text}/{after}")] {
        let out = path(&planted);
        assert!(!out.contains(&secret.canary) && !out.contains(&open), "{planted} gave {out}");
    }
});
