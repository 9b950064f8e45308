//! Masks forms, queries and paths: what is percent-encoded is decoded before it is looked at.

use std::borrow::Cow;

use crate::base::percent::{hex_pair, push_query};
use crate::decide::audit::AuditedUrl;

use super::names::{MemberPath, is_same};
use super::{MASK, Rules, Shapes, json};

/// Masks `application/x-www-form-urlencoded`.
pub(super) fn mask(form: &str, rules: Rules<'_>) -> String {
    // Many clients say that JSON is a form, curl by itself.
    if form.trim_ascii_start().starts_with(['{', '[']) {
        let mut masked = String::new();
        if json::mask(form, rules, &mut masked).is_some() {
            return masked;
        }
    }
    let mut out = Vec::with_capacity(form.len());
    let values = Values::of(form, rules);
    for (count, pair) in form.split('&').enumerate() {
        if count > 0 {
            out.push(b'&');
        }
        let (name, value) = split(pair);
        push_masked(&mut out, name, rules);
        if let Some(value) = value {
            out.push(b'=');
            values.push(&mut out, name, value);
        }
    }
    // What is pushed is ASCII or comes from the form as it was.
    String::from_utf8(out).unwrap_or_default()
}

fn split(pair: &str) -> (&str, Option<&str>) {
    pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)))
}

/// How the values of one form or query are masked.
struct Values<'r> {
    rules: Rules<'r>,
    has_authorization_code: bool,
}

impl<'r> Values<'r> {
    fn of(form: &str, rules: Rules<'r>) -> Self {
        Self {
            rules,
            has_authorization_code: has_authorization_code(form),
        }
    }

    /// Appends the value of this name.
    fn push(&self, out: &mut Vec<u8>, name: &str, value: &str) {
        let name = decode(name, Plus::Space);
        let is_of_code = self.has_authorization_code && CODE_AND_STATE.iter().any(|secret| is_same(secret, &name));
        let mut path = MemberPath::default();
        path.push(name);
        // `card[pin]` names its value by the last part.
        let is_masked = !value.is_empty() && (is_of_code || self.rules.masks(&path));
        if is_masked {
            out.extend_from_slice(MASK.as_bytes());
        } else {
            push_masked(out, value, self.rules);
        }
    }
}

/// The secrets of a log-in by an authorization code. Whoever has the code may use it before the client does, and whoever has the
/// state can end the log-in of somebody else. Each is a common name for other things (`?code=94105`), so both are secrets
/// only [where the code is one](has_authorization_code).
const CODE_AND_STATE: [&str; 2] = ["code", "state"];

/// Whether a form or query has an authorization code: it is the answer of an authorization server (RFC 6749, section 4.1.2) or a
/// request of a token (section 4.1.3).
fn has_authorization_code(form: &str) -> bool {
    let has = |wanted: &str| form.split('&').any(|pair| is_same(wanted, &decode(split(pair).0, Plus::Space)));
    has("code") && (has("state") || has("grant_type"))
}

/// Appends an encoded text as it is, or masked if a secret stands in it.
fn push_masked(out: &mut Vec<u8>, encoded: &str, rules: Rules<'_>) {
    // A client that encodes nothing means a plus, which stands in keys.
    let unread = Some(encoded)
        .filter(|text| text.contains('+'))
        .map(|text| json::mask_text(text, rules));
    let unread = unread.filter(|masked| masked != encoded);
    let decoded = decode(unread.as_deref().unwrap_or(encoded), Plus::Space);
    let masked = json::mask_text(&decoded, rules);
    if unread.is_some() || masked != decoded {
        push_encoded(out, &masked);
    } else {
        out.extend_from_slice(encoded.as_bytes());
    }
}

/// Percent-encodes a masked text, but for the mask.
fn push_encoded(out: &mut Vec<u8>, masked: &str) {
    for (count, part) in masked.split(MASK).enumerate() {
        if count > 0 {
            out.extend_from_slice(MASK.as_bytes());
        }
        push_query(out, part);
    }
}

/// Whether a plus stands for a space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Space,
    Plus,
}

/// Decodes what can be decoded, and leaves the rest as it is.
fn decode(text: &str, plus: Plus) -> Cow<'_, str> {
    let is_encoded = |byte: u8| byte == b'%' || (byte == b'+' && plus == Plus::Space);
    if !text.bytes().any(is_encoded) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'%', [high, low, after @ ..]) if let Some(octet) = hex_pair(*high, *low) => {
                out.push(octet);
                rest = after;
            }
            (b'+', _) if plus == Plus::Space => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// See [`super::redact_query`].
pub(super) fn redact_query(query: &str, url: &AuditedUrl, shapes: &Shapes, out: &mut Vec<u8>) {
    let rules = Rules::new(shapes, &[]);
    let values = Values::of(query, rules);
    for (count, pair) in query.split('&').enumerate() {
        if count > 0 {
            out.push(b'&');
        }
        let (name, value) = split(pair);
        let is_shown = match url {
            AuditedUrl::Full => true,
            AuditedUrl::Redacted { shown } => {
                let decoded = decode(name, Plus::Space);
                shown.iter().any(|known| *known == decoded)
            }
        };
        match value {
            // A word alone may be a value.
            None if !is_shown && !name.is_empty() => out.extend_from_slice(MASK.as_bytes()),
            None => push_ascii(out, name, rules),
            Some(value) => {
                push_ascii(out, name, rules);
                if is_shown {
                    out.push(b'=');
                    let begin = out.len();
                    values.push(out, name, value);
                    make_ascii(out, begin);
                }
            }
        }
    }
}

fn push_ascii(out: &mut Vec<u8>, encoded: &str, rules: Rules<'_>) {
    let begin = out.len();
    push_masked(out, encoded, rules);
    make_ascii(out, begin);
}

/// Percent-encodes what is not visible ASCII from here on.
fn make_ascii(out: &mut Vec<u8>, begin: usize) {
    let pushed = out.get(begin..).unwrap_or_default();
    if pushed.iter().all(u8::is_ascii_graphic) {
        return;
    }
    let digit = |bits: u8| b"0123456789ABCDEF"[usize::from(bits & 15)];
    for byte in out.split_off(begin) {
        if byte.is_ascii_graphic() {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
}

/// See [`super::redact_path`].
pub(super) fn redact_path(path: &str, shapes: &Shapes, out: &mut Vec<u8>) {
    for (count, segment) in path.split('/').enumerate() {
        if count > 0 {
            out.push(b'/');
        }
        let decoded = decode(segment, Plus::Plus);
        match super::mask_text(&decoded, shapes) {
            Cow::Owned(masked) if masked != *decoded => push_encoded(out, &masked),
            _ => out.extend_from_slice(segment.as_bytes()),
        }
    }
}
