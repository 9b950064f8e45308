//! The canonical path: one spelling for each meaning, or a refusal.

use std::borrow::Cow;

use crate::base::denial::Denial;
use crate::base::percent::hex_pair;
use crate::base::text::{every, every_pair};
use crate::decide::method::Method;
use crate::decide::route::PathForms;

use super::second_reading::has_second_reading;

/// A path that every reader reads in the same way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CanonicalPath<'h> {
    pub(super) text: Cow<'h, str>,
    pub(super) forms: PathForms,
}

impl<'h> CanonicalPath<'h> {
    /// The target `*`, which only `OPTIONS` may have.
    pub(super) const fn asterisk(query: Option<&str>, method: Method) -> Result<Self, Denial> {
        match (method, query) {
            (Method::Options, None) => Ok(Self {
                text: Cow::Borrowed("*"),
                forms: PathForms::NONE,
            }),
            _ => Err(Denial::MalformedTarget),
        }
    }

    /// Makes the path of an origin-form target canonical.
    ///
    /// Refused are empty segments (one slash at the end is none), dot segments in any spelling, `\`, control
    /// characters, broken escapes, text that is not UTF-8, and text that a service which normalises it or decodes it
    /// again would read as a delimiter. Changed are escapes: those of characters that may stand for themselves are
    /// decoded, others get upper-case digits, and characters that RFC 3986 does not allow in a path are escaped.
    /// Spellings that only some routes take are noted.
    pub(super) fn parse(raw: &'h str) -> Result<Self, Denial> {
        let bytes = raw.as_bytes();
        if bytes.first() != Some(&b'/') {
            return Err(Denial::MalformedTarget);
        }
        if is_canonical_without_escapes(bytes) {
            return Ok(Self {
                text: Cow::Borrowed(raw),
                forms: PathForms::NONE,
            });
        }
        let mut writer = Writer {
            canonical: String::with_capacity(raw.len()),
            decoded: Vec::new(),
            forms: PathForms::NONE,
        };
        let mut segments = bytes.split(|b| *b == b'/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            writer.canonical.push('/');
            let trailing_slash = segment.is_empty() && segments.peek().is_none();
            if !trailing_slash {
                writer.push_segment(segment)?;
            }
        }
        let text = if writer.canonical == raw {
            Cow::Borrowed(raw)
        } else {
            Cow::Owned(writer.canonical)
        };
        Ok(Self { text, forms: writer.forms })
    }
}

/// Whether a path is canonical as it stands and has no escape, parameter or dot segment, like nearly all paths. All
/// other paths take the slow way, which decides.
fn is_canonical_without_escapes(path: &[u8]) -> bool {
    // A dot that begins a segment may begin a dot segment.
    every(path, |b| PLAIN[usize::from(b)]) && every_pair(path, |one, two| (one != b'/') | ((two != b'/') & (two != b'.')))
}

/// Bytes of a path that need no second look: those of [`stands_for_itself`], and the slash.
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
    /// The present segment, decoded. The buffer is reused.
    decoded: Vec<u8>,
    forms: PathForms,
}

impl Writer {
    fn push_segment(&mut self, segment: &[u8]) -> Result<(), Denial> {
        self.decoded.clear();
        let mut rest = segment;
        let mut name_len = None;
        while let Some((octet, after)) = next_byte(rest)? {
            rest = after;
            if octet == Octet::Raw(b';') {
                name_len.get_or_insert(self.decoded.len());
            }
            // A service that cuts parameters before it decodes drops this slash. One that decodes first ends the
            // segment here.
            if name_len.is_some() && matches!(octet.byte(), b'/' | b'\\') {
                return Err(Denial::MalformedTarget);
            }
            self.decoded.push(octet.byte());
            self.push_octet(octet);
        }
        // Path parameters (`;jsessionid=…`): some services cut them off before they route and others do not.
        self.forms = self.forms.with(PathForms::PARAMETER.only_if(name_len.is_some()));
        let is_named = name_len.unwrap_or(self.decoded.len()) > 0;
        // Overlong forms (`%c0%ae`) are no UTF-8.
        let is_text = std::str::from_utf8(&self.decoded).is_ok();
        if !is_named || !is_text || has_second_reading(&self.decoded) {
            return Err(Denial::MalformedTarget);
        }
        Ok(())
    }

    fn push_octet(&mut self, octet: Octet) {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
        // `+` and `%2B` differ: services that read paths like forms take the first for a space.
        let byte = octet.byte();
        if octet == Octet::Raw(b';') || (stands_for_itself(byte) && octet != Octet::Escaped(b'+')) {
            self.canonical.push(char::from(byte));
            return;
        }
        let form = match octet {
            Octet::Unescaped(_) => PathForms::RAW_CHARACTER,
            Octet::Escaped(b'/') => PathForms::ENCODED_SLASH,
            Octet::Escaped(b'\\') => PathForms::ENCODED_BACKSLASH,
            Octet::Raw(_) | Octet::Escaped(_) => PathForms::NONE,
        };
        self.forms = self.forms.with(form);
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
    /// Sent without an escape, although RFC 3986 requires one.
    Unescaped(u8),
}

impl Octet {
    const fn byte(self) -> u8 {
        match self {
            Self::Raw(byte) | Self::Escaped(byte) | Self::Unescaped(byte) => byte,
        }
    }
}

/// The next octet of a segment and the rest.
fn next_byte(segment: &[u8]) -> Result<Option<(Octet, &[u8])>, Denial> {
    let (octet, rest) = match segment {
        [] => return Ok(None),
        [b'%', high, low, rest @ ..] => (Octet::Escaped(hex_pair(*high, *low).ok_or(Denial::MalformedTarget)?), rest),
        [b, rest @ ..] if stands_for_itself(*b) || *b == b';' => (Octet::Raw(*b), rest),
        [b, rest @ ..] if may_be_unescaped(*b) => (Octet::Unescaped(*b), rest),
        _ => return Err(Denial::MalformedTarget),
    };
    match octet.byte() {
        0..0x20 | 0x7f => Err(Denial::MalformedTarget),
        _ => Ok(Some((octet, rest))),
    }
}

/// Whether a character stands without an escape in a canonical path: `pchar` of RFC 3986, without `;` and `%`.
///
/// The escape of such a character is decoded. For unreserved characters RFC 3986 (section 6.2.2.2) calls both
/// spellings equal. For `! $ & ' ( ) * , = : @` the reason is that services decode before they route: to them
/// `/v1/x%3Acancel` is `/v1/x:cancel`, so the route table must see the same.
const fn stands_for_itself(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

/// Whether browsers and other clients send a character without an escape although RFC 3986 requires one. A raw `\` is
/// not among them: browsers turn it into a slash.
const fn may_be_unescaped(b: u8) -> bool {
    matches!(b, b'[' | b']' | b'|' | b'^' | b'{' | b'}' | b'<' | b'>' | b'"' | b'`' | 0x80..)
}
