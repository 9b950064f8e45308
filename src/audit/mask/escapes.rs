//! Escapes that texts within texts have: of URLs and of JSON.

use crate::base::percent::hex_pair;

/// The text with one layer of `%41`, `\u0041`, `\n` and `\"` taken off; `None` if it has none of them. Every layer makes
/// it shorter. What is not UTF-8 becomes U+FFFD.
pub(super) fn unescape(text: &str) -> Option<String> {
    let first = memchr::memchr2(b'%', b'\\', text.as_bytes())?;
    let (before, mut rest) = text.as_bytes().split_at_checked(first)?;
    let mut out = before.to_vec();
    let mut changed = false;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'%', [high, low, after @ ..]) if let Some(octet) = hex_pair(*high, *low) => {
                out.push(octet);
                (rest, changed) = (after, true);
            }
            (b'\\', [b'x', high, low, after @ ..]) if let Some(octet) = hex_pair(*high, *low) => {
                out.push(octet);
                (rest, changed) = (after, true);
            }
            (b'\\', [b'u', ..]) if let Some((character, after)) = unicode_escape(behind) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                (rest, changed) = (after, true);
            }
            (b'\\', [letter, after @ ..]) if let Some(octet) = short_escape(*letter) => {
                out.push(octet);
                (rest, changed) = (after, true);
            }
            _ => out.push(*byte),
        }
    }
    changed.then(|| String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The character that a letter after a backslash stands for (RFC 8259, section 7).
pub(super) const fn short_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'"' | b'\\' | b'/' | b'\'' => letter,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// Reads `u0041` or a pair of surrogates; a surrogate without the other half is U+FFFD.
pub(super) fn unicode_escape(text: &[u8]) -> Option<(char, &[u8])> {
    let (unit, rest) = code_unit(text)?;
    if (0xd800..0xdc00).contains(&unit)
        && let [b'\\', low @ ..] = rest
        && let Some((low, rest)) = code_unit(low)
        && (0xdc00..0xe000).contains(&low)
    {
        let character = char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
        return Some((character?, rest));
    }
    Some((char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

fn code_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let [b'u', a, b, c, d, rest @ ..] = text else { return None };
    let (high, low) = (hex_pair(*a, *b)?, hex_pair(*c, *d)?);
    Some((u32::from(high) << 8 | u32::from(low), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_is_taken_off() {
        for (text, plain) in [
            ("a%20b", Some("a b")),
            ("a%2520b", Some("a%20b")),
            (r"a\u0041\n\\n\/", Some("aA\n\\n/")),
            (r"\ud83d\ude00", Some("\u{1f600}")),
            (r"\ud83dx", Some("\u{fffd}x")),
            (r"\x41", Some("A")),
            ("%FF", Some("\u{fffd}")),
            ("100 % sure", None),
            (r"\d\w", None),
            ("%", None),
            ("\\", None),
            ("%4", None),
            ("plain", None),
        ] {
            assert_eq!(unescape(text).as_deref(), plain, "{text}");
        }
    }
}
