//! Characters that text normalisation turns into delimiters of a path.

/// What a character becomes when a service normalises the text it decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookalike {
    /// A delimiter of paths, or a line end: `.`, `/` or `\` alone, a slash with letters around it, a control character.
    Delimiter,
    /// These characters, which are a delimiter only in some places.
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
    pub(super) fn of(c: char) -> Option<Self> {
        if c.is_ascii() {
            return None;
        }
        let after = LOOKALIKES.partition_point(|(first, ..)| *first <= c);
        let (_, last, what) = LOOKALIKES.get(after.checked_sub(1)?)?;
        (c <= *last).then_some(*what)
    }
}

/// The ASCII character that a fullwidth form is normalised to.
pub(super) fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
