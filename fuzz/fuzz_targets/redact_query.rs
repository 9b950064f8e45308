//! Queries and paths as the audit trail shows them: ASCII, and without a planted secret.
#![no_main]

use durward::audit::mask::{Shapes, redact_path, redact_query};
use durward::decide::audit::AuditedUrl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (before, after) = input;
    let shapes = Shapes::default();
    let planted = format!("{before}x4111-1111-1111-1111x{after}");
    let shown = AuditedUrl::Redacted {
        shown: vec!["a".to_owned()],
    };
    for url in [&AuditedUrl::Full, &shown] {
        let mut out = Vec::new();
        redact_query(&planted, url, &shapes, &mut out);
        assert!(out.iter().all(u8::is_ascii_graphic));
        assert!(!String::from_utf8_lossy(&out).contains("4111-1111-1111-1111"));
    }
    let mut out = Vec::new();
    redact_path(&planted, &shapes, &mut out);
    assert!(!String::from_utf8_lossy(&out).contains("4111-1111-1111-1111"));
});
