//! Percent-encoding, so that texts of people and providers can be values of header fields: visible ASCII and nothing
//! else.

use super::text::every;

/// Appends a text so that it can be the value of a field, or a part of one. Visible ASCII except `%` stands as it is;
/// `%` and every other byte of its UTF-8 are written as `%` with two upper-case hexadecimal digits (RFC 3986, section 2.1). Since `%` is always encoded, no two texts become the same value, and decoding
/// every `%XX` gives the text again.
#[inline]
pub fn push_encoded(out: &mut Vec<u8>, text: &str) {
    if every(text.as_bytes(), is_plain) {
        out.extend_from_slice(text.as_bytes());
    } else {
        push_bytes(out, text.as_bytes(), |byte| !is_plain(byte));
    }
}

/// Like [`push_encoded`], but spaces within the text stay. At its beginning and end they become `%20`, since readers
/// of a field strip white space there (RFC 9110, section 5.5).
pub fn push_encoded_words(out: &mut Vec<u8>, text: &str) {
    let rest = text.trim_start_matches(' ');
    let words = rest.trim_end_matches(' ');
    (rest.len()..text.len()).for_each(|_| out.extend_from_slice(b"%20"));
    push_bytes(out, words.as_bytes(), |byte| !is_plain(byte) && byte != b' ');
    (words.len()..rest.len()).for_each(|_| out.extend_from_slice(b"%20"));
}

/// Like [`push_encoded`], but `separator`, which stands between several texts of one value, is encoded too.
pub fn push_encoded_item(out: &mut Vec<u8>, text: &str, separator: u8) {
    push_bytes(out, text.as_bytes(), |byte| !is_plain(byte) || byte == separator);
}

/// Appends a text as a value of a query: only letters, digits and `-._~` stand as they are (RFC 3986, section 2.3).
pub fn push_query(out: &mut Vec<u8>, text: &str) {
    push_bytes(out, text.as_bytes(), |byte| {
        !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.' | b'_' | b'~')
    });
}

/// The text that was encoded; `None` where `%` is not followed by two hexadecimal digits, or the bytes are not
/// UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (first, behind) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                hex_pair(*high, *low)?
            }
            (b'%', _) => return None,
            _ => *first,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The octet of two hexadecimal digits, in either case.
#[must_use]
pub fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from((digit(high)? << 4) | digit(low)?).ok()
}

const fn is_plain(byte: u8) -> bool {
    (byte > b' ') & (byte <= b'~') & (byte != b'%')
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8], is_encoded: impl Fn(u8) -> bool) {
    out.reserve(bytes.len());
    for byte in bytes {
        if is_encoded(*byte) {
            let digit = |bits: u8| b"0123456789ABCDEF"[usize::from(bits & 15)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(*byte)]);
        } else {
            out.push(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        let mut out = Vec::new();
        push_encoded(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    fn words(text: &str) -> String {
        let mut out = Vec::new();
        push_encoded_words(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    fn decoded(value: &str) -> String {
        decode(value).unwrap()
    }

    #[test]
    fn what_is_not_visible_ascii_is_percent_encoded_and_comes_back_by_decoding() {
        for (text, value) in [
            ("auth0|5f7c8ec7c33c6c004bbafe82", "auth0|5f7c8ec7c33c6c004bbafe82"),
            ("repo:org/repo:ref:refs/heads/main", "repo:org/repo:ref:refs/heads/main"),
            ("J\u{fc}rgen", "J%C3%BCrgen"),
            ("a b", "a%20b"),
            ("a%20b", "a%2520b"),
            ("100%", "100%25"),
            (" ", "%20"),
            ("\u{1f600}", "%F0%9F%98%80"),
            ("", ""),
        ] {
            assert_eq!(encoded(text), value);
            assert_eq!(decoded(value), text);
        }
        assert_eq!(encoded("a\r\nX-Tenant-Id: b\0\u{7f}"), "a%0D%0AX-Tenant-Id:%20b%00%7F");
    }

    #[test]
    fn words_keep_the_spaces_between_them_and_come_back_by_decoding() {
        for (text, value) in [
            ("Jane Doe", "Jane Doe"),
            ("J\u{fc}rgen M\u{fc}ller", "J%C3%BCrgen M%C3%BCller"),
            (" a  b ", "%20a  b%20"),
            ("  ", "%20%20"),
            ("50 %", "50 %25"),
            ("a\tb", "a%09b"),
            ("\u{a0}a", "%C2%A0a"),
        ] {
            assert_eq!(words(text), value);
            assert_eq!(decoded(value), text);
        }
    }

    #[test]
    fn no_two_texts_become_one_value() {
        let mut seen = std::collections::HashMap::new();
        let alphabet = ['a', '%', ' ', '2', '0', '5', '\u{fc}', '\r'];
        for n in 0..8_usize.pow(4) {
            let text: String = (0..4).map(|place| alphabet[n / 8_usize.pow(place) % 8]).collect();
            assert_eq!(seen.insert(encoded(&text), text.clone()), None, "{text:?}");
            assert_eq!((decoded(&encoded(&text)), decoded(&words(&text))), (text.clone(), text));
        }
    }

    #[test]
    fn what_is_not_encoded_right_is_no_text() {
        for bad in ["%", "%2", "%2g", "%%20", "a%+1", "%ff", "%C3"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        let mut out = Vec::new();
        push_query(&mut out, "auth0|5f&a=b+c");
        assert_eq!(out, b"auth0%7C5f%26a%3Db%2Bc");
        assert_eq!(decode("auth0%7C5f%26a%3Db%2Bc").as_deref(), Some("auth0|5f&a=b+c"));
    }

    #[test]
    fn an_item_never_holds_what_separates_items() {
        let item = |text: &str, separator| {
            let mut out = Vec::new();
            push_encoded_item(&mut out, text, separator);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(item("Domain Users", b' '), "Domain%20Users");
        assert_eq!(item("CN=a,OU=b", b','), "CN=a%2COU=b");
        assert_eq!(item("CN=a,OU=b", b' '), "CN=a,OU=b");
    }
}
