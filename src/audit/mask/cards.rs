//! Numbers of payment cards: 13 to 19 digits, with spaces or dashes between them, whose check digit holds (ISO/IEC 7812).

use std::borrow::Cow;
use std::ops::Range;

/// Digits of a card number.
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Fewest digits of a text that can hold a card number.
pub(super) const FEWEST: usize = *DIGITS.start();

/// Most separators between two digits of one number.
const MOST_SEPARATORS: usize = 3;

/// One digit, and where it stands.
struct Digit {
    value: u8,
    at: usize,
    /// Whether the byte before it is no digit.
    begins: bool,
    /// Whether the byte after it is no digit.
    ends: bool,
}

/// Appends where card numbers stand in a text.
pub(super) fn find(text: &str, found: &mut Vec<Range<usize>>) {
    let (mut first, mut digits, mut separators) = (0, 0, 0);
    for (at, character) in text.char_indices() {
        if character.is_ascii_digit() {
            if digits == 0 {
                first = at;
            }
            digits += 1;
            separators = 0;
        } else if digits > 0 {
            separators += 1;
            if separators > MOST_SEPARATORS || !is_separator(character) {
                find_in_part(text, first..at, digits, found);
                (digits, separators) = (0, 0);
            }
        }
    }
    find_in_part(text, first..text.len(), digits, found);
}

/// Looks at the digits of a part, between which only separators stand.
fn find_in_part(text: &str, part: Range<usize>, digits: usize, found: &mut Vec<Range<usize>>) {
    if digits < FEWEST {
        return;
    }
    let mut run: Vec<Digit> = Vec::with_capacity(digits);
    let bytes = text.as_bytes().get(part.clone()).unwrap_or_default();
    for (at, byte) in (part.start..).zip(bytes) {
        if byte.is_ascii_digit() {
            let follows = run.last().is_some_and(|last| last.at + 1 == at);
            if let Some(last) = run.last_mut() {
                last.ends = !follows;
            }
            run.push(Digit {
                value: byte - b'0',
                at,
                begins: !follows,
                ends: true,
            });
        }
    }
    find_in_run(&run, found);
}

/// Whether people write it between the digits of a number. A plus is a space in forms.
const fn is_separator(character: char) -> bool {
    matches!(
        character,
        ' ' | '-' | '+' | '\t' | '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}' | '\u{2010}'..='\u{2013}' | '\u{2212}'
    )
}

/// Looks for numbers that begin and end with a group of digits; in a group too long for a number, for those of the large
/// brands wherever they stand.
fn find_in_run(run: &[Digit], found: &mut Vec<Range<usize>>) {
    let mut sums = None;
    let mut group = 0..0;
    for (first, digit) in run.iter().enumerate() {
        if digit.begins {
            let length = run.iter().skip(first).take_while(|digit| !digit.ends).count() + 1;
            group = first..first + length;
        }
        let may_begin = digit.begins || group.len() > *DIGITS.end();
        if !may_begin {
            continue;
        }
        for length in DIGITS {
            let end = first + length;
            let Some(last) = run.get(end - 1) else { break };
            let whole = digit.begins && last.ends && is_issued(run.get(first..end).unwrap_or_default());
            let within = group.len() > *DIGITS.end() && end <= group.end && is_of_brand(run.get(first..end).unwrap_or_default());
            if (whole || within) && sums.get_or_insert_with(|| LuhnSums::of(run)).hold(first, end) {
                found.push(digit.at..last.at + 1);
            }
        }
    }
}

/// Whether numbers that begin so are given to payment cards: none begins with 0, and with 1 only those of air travel,
/// which have 15 digits. So times in milliseconds are no card numbers.
fn is_issued(number: &[Digit]) -> bool {
    number.first().is_some_and(|digit| is_first(digit.value, number.len()))
}

/// Whether a number of this length may begin with this digit.
const fn is_first(digit: u8, length: usize) -> bool {
    digit > 1 || (digit == 1 && length == 15)
}

/// Whether the beginning and the length are those of a large brand.
fn is_of_brand(number: &[Digit]) -> bool {
    let begins = number.iter().take(2).fold(0, |begin, digit| begin * 10 + u32::from(digit.value));
    matches!((begins, number.len()), (34 | 37, 15) | (36 | 38, 14) | (22..=27 | 35 | 40..=49 | 51..=55 | 60..=69, 16))
}

/// Sums of digits by which the check of any part of a run takes no time.
struct LuhnSums {
    /// For each length, the sum in which the digits at even places count once.
    even_once: Vec<u32>,
    /// ... and the sum in which they count twice.
    even_twice: Vec<u32>,
}

impl LuhnSums {
    fn of(run: &[Digit]) -> Self {
        let (mut once, mut twice) = (0, 0);
        let mut sums = Self {
            even_once: vec![0],
            even_twice: vec![0],
        };
        for (place, digit) in run.iter().enumerate() {
            let value = u32::from(digit.value);
            let doubled = if value > 4 { value * 2 - 9 } else { value * 2 };
            let (even, odd) = if place % 2 == 0 { (value, doubled) } else { (doubled, value) };
            once += even;
            twice += odd;
            sums.even_once.push(once);
            sums.even_twice.push(twice);
        }
        sums
    }

    /// Whether the check digit of the digits from `first` to before `end` holds.
    fn hold(&self, first: usize, end: usize) -> bool {
        // The last digit counts once.
        let sums = if end % 2 == 1 { &self.even_once } else { &self.even_twice };
        let until = |place: usize| sums.get(place).copied().unwrap_or_default();
        until(end).wrapping_sub(until(first)) % 10 == 0
    }
}

/// Whether a JSON number is a card number: as it stands, or with a fraction or an exponent.
pub(super) fn is_card(number: &str) -> bool {
    let digits = integer_digits(number);
    // A single group of digits is a card number as a whole or not at all, unless it is longer than one.
    let begins = digits.bytes().next().map(|first| first - b'0');
    if digits.len() <= *DIGITS.end() && !begins.is_some_and(|first| is_first(first, digits.len())) {
        return false;
    }
    let mut found = Vec::new();
    find(&digits, &mut found);
    !found.is_empty()
}

/// The digits of the integral part of a JSON number; none if there are more than a card number has.
fn integer_digits(number: &str) -> Cow<'_, str> {
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(0);
    let length = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent);
    if exponent == 0 {
        return Cow::Borrowed(whole);
    }
    match usize::try_from(length) {
        Ok(length) if length <= *DIGITS.end() => {
            let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat(b'0'));
            let digits: String = digits.take(length).map(char::from).collect();
            Cow::Owned(digits.trim_start_matches('0').to_owned())
        }
        _ => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut ranges = Vec::new();
        find(text, &mut ranges);
        ranges.into_iter().filter_map(|range| text.get(range)).collect()
    }

    #[test]
    fn card_numbers_are_found_with_and_without_separators() {
        for number in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111 - 1111 - 1111 - 1111",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
            "378282246310005",
            "3782 822463 10005",
            "30569309025904",
            "4222222222222",
            "6304000000000000000",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        ] {
            assert_eq!(found(number), [number]);
            assert_eq!(found(&format!("n{number}n")), [number], "letters around it");
            assert_eq!(found(&format!("order 12 {number} 13")).len(), 1, "digits around it: {number}");
        }
        assert_eq!(found("4111111111111111,5555555555554444"), ["4111111111111111", "5555555555554444"]);
        assert_eq!(found("00004111111111111111000000"), ["4111111111111111"]);
    }

    #[test]
    fn other_numbers_are_not() {
        for text in [
            "4111111111111112",
            "411111111111",
            "4111 1111 1111 1112",
            "4111    1111    1111    1111",
            "1764400000003",
            "1764400000000003",
            "00000000-0000-0000-0000-000000000000",
            "4111.1111.1111.1111",
            "",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_json_number_is_read_as_what_it_is_worth() {
        for number in [
            "4111111111111111",
            "-4111111111111111",
            "4111111111111111.0",
            "4.111111111111111e15",
            "4.111111111111111E+15",
            "411111111111111.1e1",
            "41111111111111110e-1",
        ] {
            assert!(is_card(number), "{number}");
        }
        for number in [
            "4111111111111112",
            "4.111111111111112e15",
            "0.4111111111111111",
            "1e999999999999999999999",
            "1e-999",
            "4111111111111111e9",
            "12",
        ] {
            assert!(!is_card(number), "{number}");
        }
    }
}
