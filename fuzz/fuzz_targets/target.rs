//! Whatever target is accepted means one thing: its canonical form is canonical, and no common way of
//! normalising a path finds another path in it.
#![no_main]

use durward::decide::method::Method;
use durward::decide::route::PathForms;
use durward::decide::target::RequestTarget;
use durward::wire::head::RequestHead;
use libfuzzer_sys::fuzz_target;

fn parse(target: &[u8]) -> Option<(String, PathForms)> {
    let mut head = RequestHead {
        target: target.to_vec(),
        ..RequestHead::default()
    };
    head.fields.push(b"Host", b"localhost");
    let target = RequestTarget::parse(&head, Method::Get).ok()?;
    assert!(target.query.is_none_or(|q| q.bytes().all(|b| b > b' ' && b != 0x7f && b != b'#')));
    assert!(!target.route_path().contains(';'));
    Some((target.path.into_owned(), target.forms))
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let pair = tail
            .get(..2)
            .and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match (first, pair) {
            (b'%', Some(byte)) if tail[0] != b'+' => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Segments as a service sees them that decodes so often, takes `\` for `/`, cuts parameters and trims.
fn segments(path: &[u8], decodes: usize) -> Vec<Vec<u8>> {
    let mut text = path.to_vec();
    for _ in 0..decodes {
        text = decode(&text);
    }
    text.split(|b| matches!(b, b'/' | b'\\'))
        .map(|s| s.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_vec())
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((path, forms)) = parse(data) else { return };
    let (again, again_forms) = parse(path.as_bytes()).expect("what is canonical is accepted");
    assert_eq!(again, path, "canonical twice is canonical once");
    assert!(forms.contains(again_forms), "{path}");
    assert!(
        path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && !b"\\#?\"<>^`{|}[]".contains(&b)),
        "{path}"
    );
    assert!(!path.contains("//"), "{path}");
    for (text, form) in [
        ("%2F", PathForms::ENCODED_SLASH),
        ("%5C", PathForms::ENCODED_BACKSLASH),
        (";", PathForms::PARAMETER),
    ] {
        assert_eq!(path.contains(text), forms.contains(form), "{path}");
    }
    for decodes in 0..3 {
        for segment in segments(path.as_bytes(), decodes) {
            assert!(
                segment.is_empty() || segment.iter().any(|b| *b != b'.'),
                "{path} has a dot segment after {decodes} decodings"
            );
            assert!(!segment.iter().any(u8::is_ascii_control), "{path}");
        }
    }
    let (once, twice) = (decode(path.as_bytes()), decode(&decode(path.as_bytes())));
    for delimiter in *b"/\\." {
        let count = |text: &[u8]| text.iter().filter(|b| **b == delimiter).count();
        assert_eq!(count(&once), count(&twice), "decoding {path} twice finds a delimiter");
    }
    assert!(String::from_utf8(decode(path.as_bytes())).is_ok(), "{path}");
});
