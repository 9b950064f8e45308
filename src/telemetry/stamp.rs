//! RFC 3339 times with milliseconds, formatted once a second and patched for each line.

use crate::base::clock::UnixMillis;

/// Remembers the text of the last second.
#[derive(Debug)]
pub(crate) struct Stamp {
    second: Option<i64>,
    text: Vec<u8>,
}

impl Stamp {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds_in_any_order_of_arrival() {
        let mut stamp = Stamp::new();
        for (millis, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_307_838_042, "2026-11-22T00:37:18.042Z"),
            (1_795_307_838_999, "2026-11-22T00:37:18.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (i64::MAX, "1970-01-01T00:00:00.807Z"),
        ] {
            let mut out = Vec::new();
            stamp.write(UnixMillis(millis), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
        let mut out = Vec::new();
        stamp.write_time_of_day(UnixMillis(1_795_307_838_042), &mut out);
        assert_eq!(out, b"00:37:18.042");
    }
}
