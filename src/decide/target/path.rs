//! The canonical path: one spelling for each meaning, or a refusal.

use std::borrow::Cow;

use crate::base::denial::Denial;
use crate::base::text::{every, every_pair};
use crate::decide::method::Method;

use super::lookalike::is_lookalike;

/// A path that every reader reads alike.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CanonicalPath<'h> {
    pub(super) text: Cow<'h, str>,
    pub(super) encoded_slash: bool,
}

impl<'h> CanonicalPath<'h> {
    /// The target `*`: `OPTIONS` alone may have it.
    pub(super) const fn asterisk(query: Option<&str>, method: Method) -> Result<Self, Denial> {
        match (method, query) {
            (Method::Options, None) => Ok(Self {
                text: Cow::Borrowed("*"),
                encoded_slash: false,
            }),
            _ => Err(Denial::MalformedTarget),
        }
    }

    /// Canonicalises the path of an origin-form target.
    ///
    /// Refused: empty segments (one trailing slash is none), dot segments in any spelling, `\`,
    /// control characters, broken escapes, twice-encoded characters, characters that RFC 3986 does
    /// not allow in a path, and escapes that are no UTF-8 or that a service which normalises text
    /// would read as a delimiter. Changed: path parameters are removed, escapes of characters that
    /// may stand for themselves are decoded, other escapes get upper-case digits.
    pub(super) fn parse(raw: &'h str) -> Result<Self, Denial> {
        let bytes = raw.as_bytes();
        if bytes.first() != Some(&b'/') {
            return Err(Denial::MalformedTarget);
        }
        if is_canonical_without_escapes(bytes) {
            return Ok(Self {
                text: Cow::Borrowed(raw),
                encoded_slash: false,
            });
        }
        let mut writer = Writer {
            canonical: String::with_capacity(raw.len()),
            decoded: Vec::new(),
            encoded_slash: false,
        };
        let mut segments = bytes.split(|b| *b == b'/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            writer.canonical.push('/');
            let trailing_slash = segment.is_empty() && segments.peek().is_none();
            if !trailing_slash {
                writer.push_segment(segment)?;
            }
        }
        if has_double_escape(&writer.canonical) {
            return Err(Denial::MalformedTarget);
        }
        let text = if writer.canonical == raw {
            Cow::Borrowed(raw)
        } else {
            Cow::Owned(writer.canonical)
        };
        Ok(Self {
            text,
            encoded_slash: writer.encoded_slash,
        })
    }
}

/// Whether a path is canonical as it stands, for the paths without any escape, parameter or dot
/// segment: nearly all. Everything else takes the slow way, which decides.
fn is_canonical_without_escapes(path: &[u8]) -> bool {
    // A dot that begins a segment may begin a dot segment.
    every(path, |b| PLAIN[usize::from(b)]) && every_pair(path, |one, two| (one != b'/') | ((two != b'/') & (two != b'.')))
}

/// What needs no second look in a path: see [`stands_for_itself`], and the slash.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0_u8;
    while b < 128 {
        table[b as usize] = stands_for_itself(b) || b == b'/';
        b += 1;
    }
    table
};

/// Builds the canonical path segment by segment.
struct Writer {
    canonical: String,
    /// The segment at hand, decoded; kept for its allocation.
    decoded: Vec<u8>,
    encoded_slash: bool,
}

impl Writer {
    fn push_segment(&mut self, segment: &[u8]) -> Result<(), Denial> {
        self.decoded.clear();
        let mut rest = segment;
        let mut in_parameters = false;
        while let Some((octet, after)) = next_byte(rest)? {
            rest = after;
            in_parameters |= octet == Octet::Raw(b';');
            if in_parameters {
                // Path parameters (`;jsessionid=…`): some services cut them off before they route and
                // others do not, so nothing of them is matched or forwarded.
                continue;
            }
            self.decoded.push(octet.byte());
            self.push_octet(octet);
        }
        if self.decoded.is_empty() || is_dot_segment(&self.decoded) {
            return Err(Denial::MalformedTarget);
        }
        // Overlong forms (`%c0%ae`) are no UTF-8.
        let text = std::str::from_utf8(&self.decoded).map_err(|_| Denial::MalformedTarget)?;
        if text.chars().any(is_lookalike) {
            Err(Denial::MalformedTarget)
        } else {
            Ok(())
        }
    }

    fn push_octet(&mut self, octet: Octet) {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
        // `+` and `%2B` differ: services that read paths like forms take the first for a space.
        let byte = octet.byte();
        if stands_for_itself(byte) && octet != Octet::Escaped(b'+') {
            self.canonical.push(char::from(byte));
            return;
        }
        self.encoded_slash |= byte == b'/';
        self.canonical.push('%');
        self.canonical.push(DIGITS[usize::from(byte >> 4)]);
        self.canonical.push(DIGITS[usize::from(byte & 0xf)]);
    }
}

/// One octet of a path and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Octet {
    Raw(u8),
    Escaped(u8),
}

impl Octet {
    const fn byte(self) -> u8 {
        match self {
            Self::Raw(byte) | Self::Escaped(byte) => byte,
        }
    }
}

/// The next octet of a segment and the rest.
fn next_byte(segment: &[u8]) -> Result<Option<(Octet, &[u8])>, Denial> {
    let (octet, rest) = match segment {
        [] => return Ok(None),
        [b'%', high, low, rest @ ..] => (Octet::Escaped(hex_pair(*high, *low).ok_or(Denial::MalformedTarget)?), rest),
        [b, rest @ ..] if stands_for_itself(*b) || *b == b';' => (Octet::Raw(*b), rest),
        _ => return Err(Denial::MalformedTarget),
    };
    match octet.byte() {
        0..0x20 | 0x7f | b'\\' => Err(Denial::MalformedTarget),
        _ => Ok(Some((octet, rest))),
    }
}

/// The octet of two hexadecimal digits.
fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from((digit(high)? << 4) | digit(low)?).ok()
}

/// Whether a character stands raw in a canonical path: what RFC 3986 calls `pchar`, without `;` and
/// `%`.
///
/// Its escape is decoded, for the unreserved ones because RFC 3986 (section 6.2.2.2) calls both
/// spellings equal, for `! $ & ' ( ) * , = : @` because services decode before they route: to them
/// `/v1/x%3Acancel` is `/v1/x:cancel`, so it must be that to the route table as well.
const fn stands_for_itself(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

/// Whether some reader takes a decoded segment for `.` or `..`: split at an encoded slash, cut at an
/// encoded `;`, spaces trimmed as Windows does, and three dots and more, which old ones shorten.
fn is_dot_segment(decoded: &[u8]) -> bool {
    decoded.split(|b| *b == b'/').any(|part| {
        let name = part.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        !name.is_empty() && name.iter().all(|b| *b == b'.')
    })
}

/// Whether an escaped `%` is followed by two hexadecimal digits: to whoever decodes twice that is
/// another character, be it a dot, a slash or a letter of a route.
fn has_double_escape(canonical: &str) -> bool {
    canonical
        .match_indices("%25")
        .filter_map(|(at, escape)| canonical.as_bytes().get(at + escape.len()..at + escape.len() + 2))
        .any(|two| two.iter().all(u8::is_ascii_hexdigit))
}
