//! Finds parts of a secret in an output, in whatever encoding they are: by decoding the output, not by guessing the secret's forms.

use std::collections::HashSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// So many bytes of a secret in a row count as a leak.
pub(crate) const WINDOW: usize = 8;

/// What must not be in an output.
pub(crate) struct Secret {
    windows: HashSet<[u8; WINDOW]>,
    /// Whether a window begins with these two bytes: nearly none does, and a look here is cheap.
    begins: Vec<bool>,
}

impl Secret {
    /// All windows of these texts but those that are in `public` too.
    pub(crate) fn new<'s>(secrets: impl IntoIterator<Item = &'s [u8]>, public: &[&str]) -> Self {
        let known: HashSet<[u8; WINDOW]> = public.iter().flat_map(|text| windows(text.as_bytes())).collect();
        let windows: HashSet<_> = secrets
            .into_iter()
            .flat_map(windows)
            .filter(|window| !known.contains(window))
            .collect();
        let mut begins = vec![false; 1 << 16];
        for window in &windows {
            begins[beginning(window)] = true;
        }
        Self { windows, begins }
    }

    /// The view of the output in which a part of the secret stands, if there is one.
    pub(crate) fn found_in(&self, output: &[u8]) -> Option<&'static str> {
        let has = |bytes: &[u8]| {
            let mut rest = bytes;
            while let Some(window) = rest.first_chunk::<WINDOW>() {
                if self.begins[beginning(window)] && self.windows.contains(window) {
                    return true;
                }
                rest = &rest[1..];
            }
            false
        };
        views(output).into_iter().find(|(_, bytes)| has(bytes)).map(|(name, _)| name)
    }
}

const fn beginning(window: &[u8; WINDOW]) -> usize {
    (window[0] as usize) << 8 | window[1] as usize
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> + '_ {
    bytes.windows(WINDOW).map(|window| window.try_into().unwrap())
}

/// The output, and what it says in each encoding that something in it could be.
fn views(output: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut views = vec![("raw", output.to_vec()), ("backwards", output.iter().rev().copied().collect())];
    views.push((
        "without blanks",
        output.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect(),
    ));
    for run in runs(output, |b| b.is_ascii_hexdigit() || matches!(b, b' ' | b':')) {
        let digits: Vec<u8> = run
            .iter()
            .filter_map(|b| char::from(*b).to_digit(16))
            .filter_map(|d| u8::try_from(d).ok())
            .collect();
        for from in 0..2 {
            let bytes = digits
                .get(from..)
                .unwrap_or_default()
                .chunks_exact(2)
                .map(|pair| pair[0] << 4 | pair[1]);
            views.push(("hexadecimal", bytes.collect()));
        }
    }
    for run in runs(output, |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_')) {
        views.extend(base64_views(run));
    }
    for run in runs(output, |b| b.is_ascii_digit() || matches!(b, b' ' | b',' | b';' | b'\n')) {
        let numbers = run.split(|b| !b.is_ascii_digit()).filter(|n| !n.is_empty());
        let bytes = numbers.filter_map(|n| std::str::from_utf8(n).ok()?.parse::<u8>().ok());
        views.push(("decimal bytes", bytes.collect()));
    }
    for (name, mark) in [("percent", "%"), ("\\x", "\\x"), ("\\u", "\\u00"), ("\\u{", "\\u{"), ("0x", "0x")] {
        if output.windows(mark.len()).any(|part| part == mark.as_bytes()) {
            views.push((name, escapes(output, mark.as_bytes())));
        }
    }
    views
}

fn runs(output: &[u8], of: impl Fn(u8) -> bool) -> Vec<&[u8]> {
    output.split(move |b| !of(*b)).filter(|run| run.len() >= WINDOW).collect()
}

fn base64_views(run: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let mut views = Vec::new();
    for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, config);
        for from in 0..4 {
            let part = run.get(from..).unwrap_or_default();
            let whole = &part[..part.len() / 4 * 4];
            views.extend(engine.decode(whole).ok().map(|bytes| ("base64", bytes)));
        }
    }
    views
}

/// What follows each mark as two hexadecimal digits, and everything else as it is.
fn escapes(output: &[u8], mark: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = output;
    while let Some(first) = rest.first() {
        let pair = rest.strip_prefix(mark).and_then(|after| after.get(..2));
        let byte = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[mark.len() + 2..];
                rest = rest.strip_prefix(b"}").or(rest.strip_prefix(b", ")).unwrap_or(rest);
            }
            None => {
                bytes.push(*first);
                rest = &rest[1..];
            }
        }
    }
    bytes
}

#[test]
fn a_part_of_a_secret_is_found_in_every_encoding_and_nothing_else_is() {
    let secret = b"correct horse \x01\x02 battery staple";
    let wanted = Secret::new([&secret[..]], &["horse "]);
    let part = &secret[10..22];
    let each = |form: &dyn Fn(&u8) -> String, between: &str| part.iter().map(form).collect::<Vec<_>>().join(between);
    let standard = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    for text in [
        String::from_utf8(secret[16..26].to_vec()).unwrap(),
        String::from_utf8(secret.iter().rev().copied().collect()).unwrap(),
        format!("{part:?}"),
        format!("{secret:?}"),
        each(&|b| format!("{b:02x}"), ""),
        each(&|b| format!("{b:02X}"), ":"),
        each(&|b| format!("%{b:02x}"), ""),
        each(&|b| format!("\\x{b:02X}"), ""),
        each(&|b| format!("\\u00{b:02x}"), ""),
        each(&|b| format!("\\u{{{b:02x}}}"), ""),
        each(&|b| format!("0x{b:02x}"), ", "),
        each(&|b| b.to_string(), " "),
        standard(part),
        standard(&[b"x", part].concat()),
        standard(&[b"xy", part].concat()),
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part),
    ] {
        let output = format!("error: the key `{text}` is wrong\n");
        assert!(wanted.found_in(output.as_bytes()).is_some(), "{output}");
    }
    for text in [
        "error: there is no key",
        "a correcting pile of horses",
        "[99, 111, 114]",
        "horse horse",
    ] {
        assert_eq!(wanted.found_in(text.as_bytes()), None, "{text}");
    }
}
