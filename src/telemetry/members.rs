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
    if all_plain(value.as_bytes(), style) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    for c in value.chars() {
        match u8::try_from(c) {
            Ok(b) if is_plain(b, style) => out.push(b),
            _ if style == EscapeFor::Json => match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(b"\\u");
                        for shift in [12, 8, 4, 0] {
                            out.push(b"0123456789abcdef"[usize::from(*unit >> shift & 15)]);
                        }
                    }
                }
            },
            _ => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
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
