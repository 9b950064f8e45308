//! Second readings of a path segment: what a service finds in a decoded segment when it normalises the text, decodes
//! it again, or does both; with the characters that normalisation turns into delimiters (lookalikes).

use std::borrow::Cow;

use crate::base::percent::hex_pair;

/// Most decodings that are checked. Real paths were encoded twice or three times. Without a limit, a segment
/// `%25252525…` would cost its length for each of its thousands of layers.
const MAX_LAYERS: u32 = 8;

/// Whether some service finds a dot segment or another delimiter in a segment that was decoded once: by normalising
/// its text, by decoding it again, or by both in any order.
///
/// Decoding again may give letters: `50%2520off` is the name `50%20off`. It may not give `.`, `/`, `\` or a control
/// character, however often it is done.
pub(super) fn has_second_reading(decoded: &[u8]) -> bool {
    let mut layer = Cow::Borrowed(decoded);
    for _ in 0..MAX_LAYERS {
        let Some(normal) = normalized(&layer) else { return true };
        if is_dot_segment(&normal) {
            return true;
        }
        layer = match decode_once_more(&normal) {
            NextDecoding::Nothing => return false,
            NextDecoding::Delimiter => return true,
            NextDecoding::Text(text) => Cow::Owned(text),
        };
    }
    true
}

/// Whether some service takes a decoded segment for `.` or `..`: after splitting it at an encoded slash or backslash,
/// cutting it at `;`, or trimming spaces as Windows does. Three dots and more count too, because old services shorten
/// them.
fn is_dot_segment(decoded: &[u8]) -> bool {
    decoded.split(|b| matches!(b, b'/' | b'\\')).any(|part| {
        let name = part.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        !name.is_empty() && name.iter().all(|b| *b == b'.')
    })
}

/// The text as a normalising service reads it; `None` if a delimiter appears, or if a careless UTF-8 decoder would
/// find one in an overlong form.
fn normalized(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text));
    }
    let is_overlong = |pair: &[u8]| matches!(pair, [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]);
    if text.windows(2).any(is_overlong) {
        return None;
    }
    let mut normal = Vec::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        match Lookalike::of(c) {
            None => normal.extend_from_slice(narrow(c).encode_utf8(&mut [0; 4]).as_bytes()),
            Some(Lookalike::Delimiter) => return None,
            Some(Lookalike::Text(ascii)) => normal.extend_from_slice(ascii.as_bytes()),
        }
    }
    Some(Cow::Owned(normal))
}

/// The result of one more decoding.
enum NextDecoding {
    /// There is no escape left.
    Nothing,
    /// A `.`, `/`, `\` or control character.
    Delimiter,
    /// The text after one more decoding.
    Text(Vec<u8>),
}

fn decode_once_more(text: &[u8]) -> NextDecoding {
    let mut found = false;
    let mut decoded = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, tail @ ..]) => hex_pair(*high, *low).map(|byte| (byte, tail)),
            _ => None,
        };
        let (byte, tail) = escaped.unwrap_or((*first, after));
        if escaped.is_some() && matches!(byte, 0..0x20 | 0x7f | b'.' | b'/' | b'\\') {
            return NextDecoding::Delimiter;
        }
        found |= escaped.is_some();
        decoded.push(byte);
        rest = tail;
    }
    if found {
        NextDecoding::Text(decoded)
    } else {
        NextDecoding::Nothing
    }
}

/// What a character becomes when a service normalises the text it decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookalike {
    /// A delimiter of paths, or a line end: `.`, `/` or `\` alone, a slash with letters around it, a control
    /// character.
    Delimiter,
    /// These characters, which are delimiters only in some places.
    Text(&'static str),
}

use Lookalike::{Delimiter, Text};

/// First and last of each run of characters whose compatibility or canonical normalisation (NFKC,
/// NFC; Unicode 14) is `.` or `\`, or holds `/`; of the slashes that Windows' best-fit tables turn
/// into `/` or `\`; of the C1 controls, the line and the paragraph separator; and of those that
/// become several dots, `%` or `;`. Each run has what it becomes. Sorted.
/// Fullwidth forms of other ASCII characters are not here: see [`narrow`].
///
/// Other characters that become `#`, `?`, or a dot between letters (`㏂`) are not here: so escaped, `#`
/// and `?` are parts of a name as well. `…` is: in a name it is punctuation, alone it may become `...`.
const LOOKALIKES: [(char, char, Lookalike); 21] = [
    ('\u{80}', '\u{9f}', Delimiter),
    ('\u{37e}', '\u{37e}', Text(";")),
    ('\u{2024}', '\u{2024}', Delimiter),
    ('\u{2025}', '\u{2025}', Text("..")),
    ('\u{2026}', '\u{2026}', Text("...")),
    ('\u{2028}', '\u{2029}', Delimiter),
    ('\u{2044}', '\u{2044}', Delimiter),
    ('\u{2100}', '\u{2101}', Delimiter),
    ('\u{2105}', '\u{2106}', Delimiter),
    ('\u{2215}', '\u{2216}', Delimiter),
    ('\u{29f5}', '\u{29f5}', Delimiter),
    ('\u{29f8}', '\u{29f9}', Delimiter),
    ('\u{fe14}', '\u{fe14}', Text(";")),
    ('\u{fe19}', '\u{fe19}', Text("...")),
    ('\u{fe30}', '\u{fe30}', Text("..")),
    ('\u{fe52}', '\u{fe52}', Delimiter),
    ('\u{fe54}', '\u{fe54}', Text(";")),
    ('\u{fe68}', '\u{fe68}', Delimiter),
    ('\u{fe6a}', '\u{fe6a}', Text("%")),
    ('\u{ff0e}', '\u{ff0f}', Delimiter),
    ('\u{ff3c}', '\u{ff3c}', Delimiter),
];

impl Lookalike {
    /// What a decoded character may become in a service, if that matters.
    fn of(c: char) -> Option<Self> {
        if c.is_ascii() {
            return None;
        }
        let after = LOOKALIKES.partition_point(|(first, ..)| *first <= c);
        let (_, last, what) = LOOKALIKES.get(after.checked_sub(1)?)?;
        (c <= *last).then_some(*what)
    }
}

/// The ASCII character that a fullwidth form is normalised to.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_is_found_under_any_layer_and_text_is_not_one() {
        for hidden in [
            "%2e",
            "a%2Eb",
            "%2f",
            "%5c",
            "%00",
            "%7f",
            "%25%32%65",
            "%252e",
            "%25252525252e",
            "..%3b",
            "..%253b",
            "%c0%ae",
            "%e0%80%ae",
            "%ef%bc%8e",
            "\u{ff05}2e",
            "\u{ff05}\u{ff12}\u{ff45}",
            "%ef%bc%852e",
            "..\u{ff1b}",
            ".%20",
            " . ",
        ] {
            assert!(has_second_reading(hidden.as_bytes()), "{hidden}");
        }
        for text in [
            "50%20off",
            "100%",
            "%41%42",
            "%2520",
            "%ff",
            "a%3bb",
            "%c3%a4",
            "1%2g",
            "a.b",
            "\u{2026}x",
            "100\u{ff05}",
            "a\u{ff1b}",
        ] {
            assert!(!has_second_reading(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn more_layers_than_anybody_makes_are_refused_and_cost_little() {
        let layers = |n: usize| format!("%{}41", "25".repeat(n));
        assert!(!has_second_reading(layers(5).as_bytes()));
        assert!(has_second_reading(layers(4_000).as_bytes()));
    }

    #[test]
    fn the_table_is_sorted_so_that_every_row_is_found() {
        assert!(LOOKALIKES.is_sorted_by(|a, b| a.0 <= a.1 && a.1 < b.0));
        for (first, last, what) in LOOKALIKES {
            assert_eq!([Lookalike::of(first), Lookalike::of(last)], [Some(what); 2], "{first:?}");
        }
    }

    #[test]
    fn p8_delimiters_in_disguise_are_known_and_letters_pass() {
        for c in "\u{ff0e}\u{ff0f}\u{ff3c}\u{2024}\u{fe52}\u{fe68}\u{85}\u{2105}".chars() {
            assert_eq!(Lookalike::of(c), Some(Delimiter), "{c:?}");
        }
        for (c, text) in [
            ('\u{2026}', "..."),
            ('\u{2025}', ".."),
            ('\u{fe6a}', "%"),
            ('\u{fe54}', ";"),
            ('\u{37e}', ";"),
        ] {
            assert_eq!(Lookalike::of(c), Some(Text(text)), "{c:?}");
        }
        for c in "ä日ß\u{a0}€\u{1f600}\u{ff21}./\u{33c2}\u{2047}".chars() {
            assert_eq!(Lookalike::of(c), None, "{c:?}");
        }
        assert_eq!([narrow('\u{ff05}'), narrow('\u{ff41}'), narrow('ä')], ['%', 'a', 'ä']);
    }
}
