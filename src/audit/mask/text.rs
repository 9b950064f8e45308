//! Secrets in plain text: card numbers, tokens, keys, what stands after `Bearer`, and the values of secret names.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::key::ends_with_checksum;
use crate::decide::surface::KeyOrigin;

use super::classes::{ANCHOR, ASSIGNMENT, ESCAPE, SHORTEST, SHORTEST_CHECKED, SHORTEST_KEY, SHORTEST_TOKEN, Traits};
use super::{MASK, PrefixShape, Shapes, cards, escapes};

/// Layers of escapes that are taken off to look below them. A text with more of them is masked as a whole.
const MAX_LAYERS: usize = 4;

/// Fewest characters of a key after a prefix of three characters or fewer, which may stand in any word.
const SHORTEST_AFTER_SHORT_PREFIX: usize = 16;

/// Characters of `Basic` credentials in which a colon is looked for: a user name of 1,500 bytes.
const MAX_BASIC: usize = 2_000;

/// Longest name before `=` or `:` that is looked at.
const MAX_NAME: usize = 64;

/// See [`super::mask_text`].
pub(super) fn mask<'t>(text: &'t str, shapes: &Shapes) -> Cow<'t, str> {
    let seen = shapes.classes.traits_of(text);
    if seen.is_plain() {
        return Cow::Borrowed(text);
    }
    let mut shown = mask_seen(text, &seen, shapes);
    if !seen.have(ESCAPE) {
        return shown;
    }
    let Some(mut inner) = escapes::unescape(&shown) else { return shown };
    for _ in 0..MAX_LAYERS {
        if let Cow::Owned(masked) = mask_layer(&inner, shapes) {
            inner.clone_from(&masked);
            shown = Cow::Owned(masked);
        }
        match escapes::unescape(&inner) {
            Some(below) => inner = below,
            None => return shown,
        }
    }
    Cow::Owned(MASK.to_owned())
}

/// Masks what stands openly in the text.
fn mask_layer<'t>(text: &'t str, shapes: &Shapes) -> Cow<'t, str> {
    if text.len() < SHORTEST {
        return Cow::Borrowed(text);
    }
    mask_seen(text, &shapes.classes.traits_of(text), shapes)
}

fn mask_seen<'t>(text: &'t str, seen: &Traits, shapes: &Shapes) -> Cow<'t, str> {
    let mut found = Vec::new();
    if seen.may_have_card() {
        cards::find(text, &mut found);
    }
    if seen.may_have_token() {
        find_tokens(text, &mut found);
    }
    if seen.have(ANCHOR) {
        find_keys(text, shapes, &mut found);
    }
    if seen.may_have_scheme() {
        find_schemes(text, &mut found);
    }
    if seen.have(ASSIGNMENT) {
        find_named_values(text, shapes, &mut found);
    }
    if seen.may_have_private_key() {
        find_private_keys(text, &mut found);
    }
    replace(text, found)
}

/// The text with [`MASK`] in these places.
fn replace(text: &str, mut found: Vec<Range<usize>>) -> Cow<'_, str> {
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable_by_key(|range| (range.start, range.end));
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let mut masked_until = 0;
    for range in found {
        if range.start >= masked_until {
            out.push_str(text.get(copied..range.start).unwrap_or_default());
            out.push_str(MASK);
        }
        masked_until = masked_until.max(range.end);
        copied = masked_until;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The characters of words in which tokens and keys may stand.
static OF_WORD: [bool; 256] = {
    let mut of_word = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        of_word[byte as usize] = is_base64url(byte) || byte == b'.';
        byte += 1;
    }
    of_word
};

/// The characters of `b64token` (RFC 6750, section 2.1) and the colon, as imported keys have them.
const fn is_token_byte(byte: u8) -> bool {
    is_base64url(byte) || matches!(byte, b'.' | b'~' | b'+' | b'/' | b'=' | b':')
}

/// How many of the bytes from here on are of a class.
fn run(text: &[u8], at: usize, is_of_class: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.iter().position(|byte| !is_of_class(*byte)).unwrap_or(rest.len())
}

/// Appends where signed tokens stand (RFC 7515, section 3.1), and keys of any prefix whose checksum holds.
fn find_tokens(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let is_of_word = |byte: u8| OF_WORD[usize::from(byte)];
    let mut at = 0;
    // No long word begins before another byte that stands within the length of the shortest token.
    while let Some(shortest) = bytes.get(at..at + SHORTEST_TOKEN) {
        if let Some(other) = shortest.iter().rposition(|byte| !is_of_word(*byte)) {
            at += other + 1;
            continue;
        }
        let length = SHORTEST_TOKEN + run(bytes, at + SHORTEST_TOKEN, is_of_word);
        let word = bytes.get(at..at + length).unwrap_or_default();
        let begin = token_begin(word);
        if let Some(begin) = begin {
            found.push(at + begin..at + length);
        }
        let before = word.get(..begin.unwrap_or(length)).unwrap_or_default();
        if before.len() >= SHORTEST_CHECKED {
            find_checked_keys(before, at, found);
        }
        at += length + 1;
    }
}

/// Where a signed token begins in a word. Each begins with the base64url of a JSON object, nearly always `{"`.
fn token_begin(word: &[u8]) -> Option<usize> {
    let last_dot = memchr::memrchr(b'.', word)?;
    if let Some(begin) = memchr::memmem::find(word, b"eyJ").filter(|begin| *begin < last_dot) {
        return Some(begin);
    }
    // White space after the brace.
    let parts = || word.split(|byte| *byte == b'.');
    let is_object = matches!(word, [b'e', b'w' | b'y', ..]) && parts().next().is_some_and(|header| header.len() >= SHORTEST_TOKEN);
    (is_object && parts().count() >= 3).then_some(0)
}

fn find_checked_keys(word: &[u8], at: usize, found: &mut Vec<Range<usize>>) {
    let mut begin = at;
    for part in word.split(|byte| *byte == b'.') {
        if part.len() >= SHORTEST_CHECKED && ends_with_checksum(part) {
            found.push(begin..begin + part.len());
        }
        begin += part.len() + 1;
    }
}

/// Appends where keys with a prefix of a surface stand.
fn find_keys(text: &str, shapes: &Shapes, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    for prefix in &shapes.prefixes {
        let mut at = 0;
        for anchor in memchr::memchr_iter(prefix.anchor, bytes) {
            let Some(begin) = anchor.checked_sub(prefix.anchor_at).filter(|begin| *begin >= at) else {
                continue;
            };
            if let Some(length) = key_length(bytes, begin, prefix) {
                at = begin + length;
                found.push(begin..at);
            }
        }
    }
}

/// The length of a key with this prefix that begins here.
fn key_length(text: &[u8], begin: usize, prefix: &PrefixShape) -> Option<usize> {
    let rest = text.get(begin..)?.strip_prefix(prefix.text.as_bytes())?;
    let shortest = if prefix.text.len() < 4 {
        SHORTEST_AFTER_SHORT_PREFIX
    } else {
        SHORTEST_KEY
    };
    let first = rest.get(..shortest)?;
    let is_of_key = |byte: u8| match prefix.origin {
        KeyOrigin::Generated => is_base64url(byte),
        KeyOrigin::Imported => is_token_byte(byte),
    };
    (run(first, 0, is_of_key) == shortest).then(|| prefix.text.len() + run(rest, 0, is_of_key))
}

/// Appends what stands after `Bearer` and `Basic`.
fn find_schemes(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let (mut after, mut run_end) = (0, 0);
    for at in memchr::memchr2_iter(b'b', b'B', bytes) {
        if at < after {
            continue;
        }
        let names = |scheme: &[u8]| {
            bytes
                .get(at..at + scheme.len())
                .is_some_and(|word| word.eq_ignore_ascii_case(scheme))
        };
        let name = if names(b"bearer") {
            6
        } else if names(b"basic") {
            5
        } else {
            continue;
        };
        let spaces = run(bytes, at + name, |byte| matches!(byte, b' ' | b'\t' | b'+'));
        if spaces == 0 {
            continue;
        }
        let begin = at + name + spaces;
        // A plus is a space here and stands in tokens, so that one run may hold many schemes. It is measured once.
        if begin >= run_end {
            run_end = begin + run(bytes, begin, is_token_byte);
        }
        let token = bytes.get(begin..run_end).unwrap_or_default();
        // `basic` is a word of every day; what it carries has a colon.
        if token.len() >= SHORTEST_KEY && (name == 6 || is_user_and_password(token)) {
            after = run_end;
            found.push(begin..after);
        }
    }
}

/// Whether it is the base64 of a text with a colon. Without padding it is read as well.
fn is_user_and_password(token: &[u8]) -> bool {
    let token = token.get(..MAX_BASIC).unwrap_or(token);
    let unpadded = token.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let whole = unpadded - unpadded % 4;
    let decoded = STANDARD.decode(token.get(..whole).unwrap_or_default());
    decoded.is_ok_and(|plain| plain.contains(&b':'))
}

/// Appends the values of secret names: `password=x`, `"password": "x"`, `<password>x</password>`, `Cookie: x`.
fn find_named_values(text: &str, shapes: &Shapes, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut after = 0;
    for at in memchr::memchr3_iter(b':', b'=', b'>', bytes) {
        if at < after {
            continue;
        }
        let Some(name) = name_before(text, at).filter(|name| shapes.is_secret_name(name)) else {
            continue;
        };
        let value = value_after(bytes, at, name);
        // In `password:` and a next line `token: x`, the value ends with the sign of another name.
        let is_name = matches!(bytes.get(value.end.saturating_sub(1)), Some(b':' | b'='));
        after = value.end - usize::from(is_name && !value.is_empty());
        if !value.is_empty() && bytes.get(value.clone()) != Some(MASK.as_bytes()) {
            found.push(value);
        }
    }
}

/// The name that ends before a `:`, `=` or `>`.
fn name_before(text: &str, at: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let before = bytes.get(at.saturating_sub(MAX_NAME)..at)?;
    let is_around = |byte: &u8| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'\\' | b'`' | b']');
    let end = before.iter().rposition(|byte| !is_around(byte))? + 1;
    let is_of_name = |byte: &u8| is_base64url(*byte) || *byte == b'.';
    let begin = before
        .get(..end)?
        .iter()
        .rposition(|byte| !is_of_name(byte))
        .map_or(0, |last| last + 1);
    let offset = at - before.len();
    if bytes.get(at) == Some(&b'>') {
        // The name of an element, with or without a namespace.
        let opens = begin.checked_sub(1).and_then(|last| before.get(last));
        opens.filter(|byte| matches!(byte, b'<' | b':'))?;
    }
    text.get(offset + begin..offset + end)
}

/// Where the value stands that follows at this sign.
fn value_after(bytes: &[u8], at: usize, name: &str) -> Range<usize> {
    if bytes.get(at) == Some(&b'>') {
        return at + 1..at + 1 + run(bytes, at + 1, |byte| byte != b'<');
    }
    let begin = at
        + 1
        + run(bytes, at + 1, |byte| {
            byte.is_ascii_whitespace() || matches!(byte, b'=' | b'>' | b'\\')
        });
    let rest = bytes.get(begin..).unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let length = match rest.first() {
        Some(quote @ (b'"' | b'\'' | b'`')) => return begin + 1..begin + 1 + quoted(rest.get(1..).unwrap_or_default(), *quote),
        Some(b'{' | b'[') => nested(rest),
        // The whole field: `Authorization: Digest a="b", c="d"`.
        _ if lower.ends_with("authorization") || lower.ends_with("cookie") => {
            run(rest, 0, |byte| !matches!(byte, b'\n' | b'\r' | b'"' | b'\''))
        }
        _ => run(rest, 0, |byte| {
            !byte.is_ascii_whitespace() && !matches!(byte, b'&' | b';' | b',' | b'"' | b'\'' | b'<' | b'}' | b']' | b')')
        }),
    };
    begin..begin + length
}

/// How many bytes stand before the closing quote. An odd number of backslashes before a quote escapes it.
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        if *byte == quote && !escaped {
            return at;
        }
        escaped = *byte == b'\\' && !escaped;
    }
    text.len()
}

/// The length of an object or a list that begins here; if it does not end, of the rest.
fn nested(text: &[u8]) -> usize {
    let (mut depth, mut is_quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' if !escaped => is_quoted = !is_quoted,
            b'{' | b'[' if !is_quoted => depth += 1,
            b'}' | b']' if !is_quoted => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        escaped = *byte == b'\\' && !escaped;
    }
    text.len()
}

/// Appends private keys in PEM (RFC 7468), with the end of their frame; where it is missing, the rest.
fn find_private_keys(text: &str, found: &mut Vec<Range<usize>>) {
    const KIND: &[u8] = b"PRIVATE KEY-----";
    let bytes = text.as_bytes();
    // To look for one letter costs less than to prepare the search for the words.
    if memchr::memchr(b'K', bytes).is_none() {
        return;
    }
    let mut frames = memchr::memmem::find_iter(bytes, KIND).peekable();
    while let Some(at) = frames.next() {
        if !ends_private_key(bytes.get(..at).unwrap_or_default()) {
            let end = frames.peek().map_or(bytes.len(), |next| next + KIND.len());
            found.push(at + KIND.len()..end);
        }
    }
}

/// Whether a text ends as the frame behind a key begins: `-----END `, and perhaps a word.
fn ends_private_key(before: &[u8]) -> bool {
    let last = before.get(before.len().saturating_sub(MAX_NAME)..).unwrap_or_default();
    let label = last.iter().rposition(|byte| *byte == b'-').and_then(|dash| last.get(dash + 1..));
    label.is_some_and(|label| label.starts_with(b"END ") && label.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' '))
}
