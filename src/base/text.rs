//! Texts on the request path: checks of whole texts, and numbers and addresses written without the formatting machinery.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// Whether every byte is of a class. It looks at all bytes, whatever the first one is: without an early end the
/// compiler checks sixteen bytes at a time, and nearly every checked text is good.
#[must_use]
#[inline]
pub fn every(text: &[u8], is_of_class: impl Fn(u8) -> bool) -> bool {
    text.iter().fold(true, |good, byte| good & is_of_class(*byte))
}

/// Whether every pair of neighbouring bytes is good. It looks at all pairs, like [`every`].
#[must_use]
#[inline]
pub fn every_pair(text: &[u8], is_good: impl Fn(u8, u8) -> bool) -> bool {
    let next = text.get(1..).unwrap_or_default();
    text.iter().zip(next).fold(true, |good, (one, two)| good & is_good(*one, *two))
}

/// Eight copies of a byte in one word.
#[must_use]
pub const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Ors together what `look` finds in all words of eight bytes of a text. The last word overlaps the one before. In a
/// text below eight bytes, `filler`, in which `look` must find nothing, makes up the rest.
#[must_use]
#[inline]
pub fn find_in_words(text: &[u8], filler: u8, look: impl Fn(u64) -> u64) -> u64 {
    let Some(last) = text.last_chunk::<8>() else {
        return look(short_word(text, filler));
    };
    let (words, _) = text.as_chunks::<8>();
    let last = look(u64::from_le_bytes(*last));
    words.iter().fold(last, |found, word| found | look(u64::from_le_bytes(*word)))
}

/// A text below eight bytes as one word. It is joined from its two ends, which overlap: a copy of a varying length
/// would cost more than all other work on the word.
#[inline]
fn short_word(text: &[u8], filler: u8) -> u64 {
    let bits = 8 * (text.len() & 7);
    let word = match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (bits - 32),
        _ => match *text {
            [] => 0,
            [a] => u64::from(a),
            [a, b] => u64::from(u16::from_le_bytes([a, b])),
            [a, b, c, ..] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        },
    };
    word | each(filler) << bits
}

/// Whether a text is made of letters, digits and `-` only.
#[must_use]
#[inline]
pub fn is_ordinary(text: &[u8]) -> bool {
    // In words of bytes below 0x80, its top bit is set in each byte that is at least `limit`.
    let from = |word: u64, limit: u8| word.wrapping_add(each(0x80 - limit));
    let odd = |word: u64| {
        let plain = word & each(0x7f);
        let folded = plain | each(0x20);
        let letter = from(folded, b'a') & !from(folded, b'z' + 1);
        let digit = from(plain, b'0') & !from(plain, b'9' + 1);
        let dash = !(plain ^ each(b'-')).wrapping_add(each(0x7f));
        (!(letter | digit | dash) | word) & each(0x80)
    };
    find_in_words(text, b'a', odd) == 0
}

/// Whether two texts for which [`is_ordinary`] holds are equal but for their case. The first is in lower case. Of
/// these characters only the two cases of a letter become equal when bit 5 is set.
#[must_use]
#[inline]
pub fn is_same_ordinary(lower: &[u8], text: &[u8]) -> bool {
    if lower.len() != text.len() {
        return false;
    }
    let differ = |a: [u8; 8], b: [u8; 8]| u64::from_le_bytes(a) ^ (u64::from_le_bytes(b) | each(0x20));
    match (lower.last_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(a), Some(b)) => {
            let (words, others) = (lower.as_chunks::<8>().0, text.as_chunks::<8>().0);
            words
                .iter()
                .zip(others)
                .fold(differ(*a, *b), |found, (a, b)| found | differ(*a, *b))
                == 0
        }
        _ => short_word(lower, b' ') == short_word(text, b' ') | each(0x20),
    }
}

/// A whole number at the beginning of a text, and what follows it after any spaces: `30`, `s` of `30 s`.
#[must_use]
pub fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// Reads a duration of a whole number and one of these units: `ms`, `s`, `m`, `h`, `d`, `w`.
#[must_use]
pub fn parse_duration(text: &str, units: &[&str]) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let millis = match unit {
        _ if !units.contains(&unit) => return None,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Appends a number in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    if let (Ok(number), 0..=9_999) = (u16::try_from(value), value) {
        return short_decimal(out, number);
    }
    // 20 digits hold any u64.
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Up to four digits, which nearly all numbers of an access line have. No branch depends on how many digits there
/// are, and nothing is copied of a length that the processor has to guess.
fn short_decimal(out: &mut Vec<u8>, number: u16) {
    let digit = |divisor: u16| b'0' + u8::try_from(number / divisor % 10).unwrap_or(0);
    let zeros = u32::from(number < 1_000) + u32::from(number < 100) + u32::from(number < 10);
    let digits = u32::from_le_bytes([digit(1_000), digit(100), digit(10), digit(1)]) >> (8 * zeros);
    out.extend_from_slice(&digits.to_le_bytes());
    out.truncate(out.len() - zeros as usize);
}

/// Appends an address in its usual notation.
pub fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(octet));
            }
        }
        // Writing into a vector cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_byte_anywhere_is_found() {
        for length in 0..40 {
            let good = vec![b'a'; length];
            assert!(every(&good, |b| b == b'a'));
            for place in 0..length {
                let mut bad = good.clone();
                bad[place] = b'b';
                assert!(!every(&bad, |b| b == b'a'), "{place} of {length}");
            }
        }
    }

    #[test]
    fn ordinary_is_each_byte_for_itself() {
        for byte in 0..=u8::MAX {
            let wanted = byte.is_ascii_alphanumeric() || byte == b'-';
            for length in 1..=20 {
                for place in 0..length {
                    let mut text = vec![b'Z'; length];
                    text[place] = byte;
                    assert_eq!(is_ordinary(&text), wanted, "{byte:#x} at {place} of {length}");
                }
            }
        }
        assert!(is_ordinary(b""));
    }

    #[test]
    fn ordinary_texts_are_compared_without_their_case() {
        let ordinary: Vec<u8> = (0..128_u8).filter(|b| b.is_ascii_alphanumeric() || *b == b'-').collect();
        for length in 1..=20 {
            for place in 0..length {
                for (a, b) in ordinary.iter().flat_map(|a| ordinary.iter().map(move |b| (*a, *b))) {
                    let (mut lower, mut text) = (vec![b'q'; length], vec![b'Q'; length]);
                    (lower[place], text[place]) = (a.to_ascii_lowercase(), b);
                    assert_eq!(is_same_ordinary(&lower, &text), a.eq_ignore_ascii_case(&b));
                }
            }
        }
        assert!(!is_same_ordinary(b"abc", b"ab"));
    }

    #[test]
    fn a_short_text_is_filled_up_to_a_word() {
        for length in 0..8 {
            let text = &b"abcdefg"[..length];
            let mut filled = [b'~'; 8];
            filled[..length].copy_from_slice(text);
            assert_eq!(short_word(text, b'~').to_le_bytes(), filled);
        }
    }

    #[test]
    fn one_bad_pair_anywhere_is_found() {
        for length in 2..40 {
            for place in 0..length - 1 {
                let mut text = vec![b'a'; length];
                text[place] = b'/';
                assert!(every_pair(&text, |one, two| (one, two) != (b'/', b'/')));
                text[place + 1] = b'/';
                assert!(!every_pair(&text, |one, two| (one, two) != (b'/', b'/')), "{place} of {length}");
            }
        }
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in (0..12_000).chain([65_535, 65_536, u64::MAX]) {
            let mut out = b"n".to_vec();
            push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("n{number}"));
        }
    }

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for text in ["0.0.0.0", "127.0.0.1", "10.200.99.255", "::1", "2001:db8::7"] {
            let address: IpAddr = text.parse().unwrap();
            let mut out = Vec::new();
            push_address(&mut out, address);
            assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
        }
    }
}
