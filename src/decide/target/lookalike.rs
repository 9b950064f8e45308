//! Characters that text normalisation turns into delimiters of a path.

/// First and last of each run of characters whose compatibility or canonical normalisation (NFKC,
/// NFC; Unicode 14) holds one of `. / \ % ; # ?`, of the slashes that Windows' best-fit tables turn
/// into `/` or `\`, of the C1 controls, and of the line and paragraph separators. A service that
/// normalises what it decoded would find a path there that nobody matched. Sorted.
const LOOKALIKES: [(char, char); 32] = [
    ('\u{80}', '\u{9f}'),
    ('\u{37e}', '\u{37e}'),
    ('\u{2024}', '\u{2026}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{2044}', '\u{2044}'),
    ('\u{2047}', '\u{2049}'),
    ('\u{2100}', '\u{2101}'),
    ('\u{2105}', '\u{2106}'),
    ('\u{2215}', '\u{2216}'),
    ('\u{2488}', '\u{249b}'),
    ('\u{29f5}', '\u{29f5}'),
    ('\u{29f8}', '\u{29f9}'),
    ('\u{33c2}', '\u{33c2}'),
    ('\u{33c7}', '\u{33c7}'),
    ('\u{33d8}', '\u{33d8}'),
    ('\u{fe14}', '\u{fe14}'),
    ('\u{fe16}', '\u{fe16}'),
    ('\u{fe19}', '\u{fe19}'),
    ('\u{fe30}', '\u{fe30}'),
    ('\u{fe52}', '\u{fe52}'),
    ('\u{fe54}', '\u{fe54}'),
    ('\u{fe56}', '\u{fe56}'),
    ('\u{fe5f}', '\u{fe5f}'),
    ('\u{fe68}', '\u{fe68}'),
    ('\u{fe6a}', '\u{fe6a}'),
    ('\u{ff03}', '\u{ff03}'),
    ('\u{ff05}', '\u{ff05}'),
    ('\u{ff0e}', '\u{ff0f}'),
    ('\u{ff1b}', '\u{ff1b}'),
    ('\u{ff1f}', '\u{ff1f}'),
    ('\u{ff3c}', '\u{ff3c}'),
    ('\u{1f100}', '\u{1f100}'),
];

/// Whether a decoded character may become a delimiter behind us.
pub(super) fn is_lookalike(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    let after = LOOKALIKES.partition_point(|(first, _)| *first <= c);
    after
        .checked_sub(1)
        .and_then(|at| LOOKALIKES.get(at))
        .is_some_and(|(_, last)| c <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_row_is_found() {
        assert!(LOOKALIKES.is_sorted_by(|a, b| a.0 <= a.1 && a.1 < b.0));
        for (first, last) in LOOKALIKES {
            assert!(is_lookalike(first) && is_lookalike(last), "{first:?}");
        }
    }

    #[test]
    fn p8_delimiters_in_disguise_are_known_and_letters_pass() {
        for c in "\u{ff0e}\u{ff0f}\u{ff3c}\u{ff05}\u{ff1b}\u{2024}\u{2025}\u{2026}\u{fe52}\u{fe54}\u{fe68}\u{fe6a}\u{85}\u{37e}".chars() {
            assert!(is_lookalike(c), "{c:?}");
        }
        for c in "ä日ß\u{a0}€\u{1f600}\u{ff21}./".chars() {
            assert!(!is_lookalike(c), "{c:?}");
        }
    }
}
