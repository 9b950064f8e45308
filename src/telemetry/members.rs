//! Writes the members of JSON lines, for access lines and for the entries of the audit trail: ASCII only, so that nothing a
//! client sends can end a line or look like something else, and without an allocation.

use std::io::Write as _;
use std::net::IpAddr;

use crate::base::clock::UnixMillis;
use crate::base::text::{each, find_in_words, push_address, push_decimal};

/// Appends a member, or nothing for an absent value. `before` is everything up to the value.
pub(crate) fn text(out: &mut Vec<u8>, before: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(before);
        escape(out, value, EscapeFor::Json);
        out.push(b'"');
    }
}

/// The same for our own words and for identifiers, which need no escape.
pub(crate) fn word(out: &mut Vec<u8>, before: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(before);
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
}

/// The same for a number.
pub(crate) fn number(out: &mut Vec<u8>, before: &[u8], value: u64) {
    out.extend_from_slice(before);
    push_decimal(out, value);
}

/// Where an escaped text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EscapeFor {
    Json,
    Terminal,
}

/// Appends `value` with everything outside printable ASCII escaped: quotes and controls, but also
/// C1 controls (0x9B alone starts a terminal command), U+2028 and U+2029 (line ends to some
/// readers), bidirectional overrides and look-alikes. Nothing a client sends can end
/// a line, move a cursor, or look like another name.
pub(crate) fn escape(out: &mut Vec<u8>, value: &str, style: EscapeFor) {
    // A long text in JSON is a body, which has something to escape in nearly every case.
    if style == EscapeFor::Json && value.len() >= BLOCK + COPIED {
        return escape_blocks(out, value);
    }
    if all_plain(value.as_bytes(), style) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    value.chars().for_each(|c| escape_character(out, c, style));
}

#[inline]
fn escape_character(out: &mut Vec<u8>, c: char, style: EscapeFor) {
    match u8::try_from(c) {
        Ok(b) if is_plain(b, style) => out.push(b),
        Ok(b @ (b'"' | b'\\')) if style == EscapeFor::Json => out.extend_from_slice(&[b'\\', b]),
        _ if style == EscapeFor::Json => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(&escape_of(*unit));
            }
        }
        _ => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
    }
}

/// The escape of a code unit in JSON.
fn escape_of(unit: u16) -> [u8; 6] {
    let [a, b, c, d] = [12, 8, 4, 0].map(|shift| b"0123456789abcdef"[usize::from(unit >> shift & 15)]);
    [b'\\', b'u', a, b, c, d]
}

/// Bytes that are looked at together. The compiler looks at sixteen of them at a time.
const BLOCK: usize = 64;

/// Bytes that are copied together, of which those before the next escape count: a copy of a varying length costs more.
const COPIED: usize = 16;

/// Escapes a text for JSON block by block. JSON within JSON has a quote in nearly every eight bytes.
fn escape_blocks(out: &mut Vec<u8>, value: &str) {
    let text = value.as_bytes();
    let mut at = 0;
    while let Some(window) = text.get(at..).and_then(<[u8]>::first_chunk::<{ BLOCK + COPIED }>) {
        let block = window.first_chunk().unwrap_or(&[0; BLOCK]);
        if block
            .iter()
            .fold(0, |found, byte| found | u8::from((*byte < b' ') | (*byte >= 0x7f)))
            == 0
        {
            escape_quotes(out, window, quotes_of(block));
            at += BLOCK;
        } else {
            let end = at + BLOCK;
            for c in value.get(at..).unwrap_or_default().chars() {
                if at >= end {
                    break;
                }
                escape_character(out, c, EscapeFor::Json);
                at += c.len_utf8();
            }
        }
    }
    let rest = value.get(at..).unwrap_or_default();
    rest.chars().for_each(|c| escape_character(out, c, EscapeFor::Json));
}

/// Appends a block with a backslash before each of these bytes.
fn escape_quotes(out: &mut Vec<u8>, window: &[u8; BLOCK + COPIED], quotes: u64) {
    // No place exceeds its mask. With the masks the compiler knows it too, and checks nothing.
    const IN_BLOCK: usize = BLOCK - 1;
    const IN_ESCAPED: usize = 2 * BLOCK - 1;
    let mut escaped = [0; 2 * BLOCK + COPIED];
    let (mut quotes, mut copied, mut length) = (quotes, 0, 0);
    loop {
        // Without another quote, the end of the block.
        let quote = quotes.trailing_zeros() as usize;
        let mut from = copied;
        loop {
            let to = (length + from - copied) & IN_ESCAPED;
            escaped[to..to + COPIED].copy_from_slice(&window[from & IN_BLOCK..(from & IN_BLOCK) + COPIED]);
            from += COPIED;
            if from >= quote {
                break;
            }
        }
        length += quote - copied;
        if quotes == 0 {
            break;
        }
        escaped[length & IN_ESCAPED] = b'\\';
        length += 1;
        copied = quote;
        quotes &= quotes - 1;
    }
    out.extend_from_slice(escaped.get(..length).unwrap_or_default());
}

/// One bit for each byte of a block that is a quote or a backslash.
fn quotes_of(block: &[u8; BLOCK]) -> u64 {
    // Each bit is moved to its place in the highest byte of the product; no two of them meet.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut marks = [0; BLOCK];
    for (mark, byte) in marks.iter_mut().zip(block) {
        *mark = u8::from((*byte == b'"') | (*byte == b'\\'));
    }
    let (words, _) = marks.as_chunks::<8>();
    let bits = words.iter().map(|word| u64::from_le_bytes(*word).wrapping_mul(GATHER) >> 56);
    (0..).step_by(8).zip(bits).fold(0, |all, (place, bits)| all | bits << place)
}

/// Whether every byte is plain, eight at a time: nearly every text of a line is.
fn all_plain(bytes: &[u8], style: EscapeFor) -> bool {
    // Its top bit is set in each byte of `word` that is below `limit`; bytes of 0x80 and above are
    // found by their own top bit, so borrows between bytes can only follow a true finding.
    let below = |word: u64, limit: u8| word.wrapping_sub(each(limit)) & !word;
    let is = |word: u64, byte: u8| below(word ^ each(byte), 1);
    let suspects = |word: u64| {
        let other = match style {
            EscapeFor::Json => below(word, b' ') | is(word, b'"'),
            EscapeFor::Terminal => below(word, b'!'),
        };
        (word | other | is(word, b'\\') | is(word, 0x7f)) & each(0x80)
    };
    find_in_words(bytes, b'a', suspects) == 0
}

const fn is_plain(b: u8, style: EscapeFor) -> bool {
    match style {
        EscapeFor::Json => matches!(b, b' '..=b'~') && b != b'"' && b != b'\\',
        EscapeFor::Terminal => matches!(b, b'!'..=b'~') && b != b'\\',
    }
}

/// Writes RFC 3339 times with milliseconds. The text of a second is formatted once, and each line adds its milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Timestamp {
    second: Option<i64>,
    text: Vec<u8>,
}

impl Timestamp {
    pub(crate) const fn new() -> Self {
        Self {
            second: None,
            text: Vec::new(),
        }
    }

    /// Appends `2026-11-22T00:37:18.042Z`.
    pub(crate) fn write(&mut self, at: UnixMillis, out: &mut Vec<u8>) {
        self.refresh(at.secs());
        out.extend_from_slice(&self.text);
        write_millis(at, out);
        out.push(b'Z');
    }

    /// Appends `00:37:18.042`.
    pub(crate) fn write_time_of_day(&mut self, at: UnixMillis, out: &mut Vec<u8>) {
        self.refresh(at.secs());
        out.extend_from_slice(self.text.get(self.text.len().saturating_sub(8)..).unwrap_or_default());
        write_millis(at, out);
    }

    fn refresh(&mut self, second: i64) {
        if self.second == Some(second) {
            return;
        }
        self.second = Some(second);
        self.text.clear();
        // Outside of jiff's years -9999 to 9999 the epoch is written: a line must stay well-formed
        // whatever the machine's clock says.
        let time = jiff::Timestamp::from_second(second)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_string();
        self.text.extend_from_slice(time.trim_end_matches('Z').as_bytes());
    }
}

fn write_millis(at: UnixMillis, out: &mut Vec<u8>) {
    let millis = at.0.rem_euclid(1000);
    out.push(b'.');
    for divisor in [100, 10, 1] {
        out.push(b'0' + u8::try_from(millis / divisor % 10).unwrap_or(0));
    }
}

/// The text of the address that was written last: the next line often has the same one.
#[derive(Debug, Default)]
pub(crate) struct AddressText {
    address: Option<IpAddr>,
    text: Vec<u8>,
}

impl AddressText {
    pub(crate) const fn new() -> Self {
        Self {
            address: None,
            text: Vec::new(),
        }
    }

    pub(crate) fn of(&mut self, address: IpAddr) -> &[u8] {
        if self.address != Some(address) {
            self.address = Some(address);
            self.text.clear();
            push_address(&mut self.text, address);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_place_is_judged_as_by_itself() {
        for style in [EscapeFor::Json, EscapeFor::Terminal] {
            for byte in 0..=u8::MAX {
                for length in 1..=17 {
                    for place in 0..length {
                        let mut text = vec![b'~'; length];
                        text[place] = byte;
                        assert_eq!(all_plain(&text, style), is_plain(byte, style), "{byte:#x} at {place} of {length}");
                    }
                }
            }
            assert!(all_plain(b"", style));
        }
    }

    #[test]
    fn a_long_text_is_escaped_as_its_characters_are() {
        let characters: Vec<char> = "a\"\\b c/\n\u{7f}\u{0}\u{e4}\u{2028}\u{1f600}defgh".chars().collect();
        for length in 0..400 {
            for rare in [1, 3, 7, 40] {
                let pick = |place: usize| match place % rare {
                    0 => characters[(place * place + length) % characters.len()],
                    _ => 'x',
                };
                let text: String = (0..length).map(pick).collect();
                let (mut whole, mut single) = (Vec::new(), Vec::new());
                escape(&mut whole, &text, EscapeFor::Json);
                text.chars().for_each(|c| escape_character(&mut single, c, EscapeFor::Json));
                assert_eq!(whole, single, "{text:?}");
                let read: String = serde_json::from_str(&format!("\"{}\"", String::from_utf8(whole).unwrap())).unwrap();
                assert_eq!(read, text);
            }
        }
        for text in ["\u{1}".repeat(300), "\u{1f600}".repeat(100), "\"".repeat(300)] {
            let mut whole = Vec::new();
            escape(&mut whole, &text, EscapeFor::Json);
            let read: String = serde_json::from_str(&format!("\"{}\"", String::from_utf8(whole).unwrap())).unwrap();
            assert_eq!(read, text);
        }
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds_in_any_order_of_arrival() {
        let mut timestamp = Timestamp::new();
        for (millis, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_307_838_042, "2026-11-22T00:37:18.042Z"),
            (1_795_307_838_999, "2026-11-22T00:37:18.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (i64::MAX, "1970-01-01T00:00:00.807Z"),
        ] {
            let mut out = Vec::new();
            timestamp.write(UnixMillis(millis), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
        let mut out = Vec::new();
        timestamp.write_time_of_day(UnixMillis(1_795_307_838_042), &mut out);
        assert_eq!(out, b"00:37:18.042");
    }
}
