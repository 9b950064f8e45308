//! Durations and sizes as people write them: `30s`, `250ms`, `7d`, `10MiB`.

use std::time::Duration;

use crate::base::text;

/// Seconds, for bounds in declarations.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Milliseconds, for bounds in declarations.
#[must_use]
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Reads `<number><unit>` with one of `ms`, `s`, `m`, `h`, `d`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    text::parse_duration(text, &["ms", "s", "m", "h", "d"])
}

/// Reads a number of bytes: a bare number, or one with `B`, `KiB`, `MiB` or `GiB`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text::split_number(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that is exact.
#[must_use]
pub fn write_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(n, _)| millis != 0 && millis.is_multiple_of(*n)) {
        Some((n, unit)) => format!("{}{unit}", millis / n),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// Writes a size the way [`parse_size`] reads it, in the largest unit that is exact.
#[must_use]
pub fn write_size(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(n, _)| bytes != 0 && bytes.is_multiple_of(*n)) {
        Some((n, unit)) => format!("{}{unit}", bytes / n),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_known_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5 m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "30 sec",
            "1w",
            "99999999999999999999s",
            "18446744073709551615d",
            "1s2",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary_and_say_so() {
        for (text, bytes) in [("0", 0), ("512", 512), ("4KiB", 4096), ("10 MiB", 10 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "10MB", "1K", "MiB", "-1", "1.5MiB", "18446744073709551615GiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 250, 1_000, 90_000, 3_600_000, 604_800_000] {
            let d = Duration::from_millis(millis);
            assert_eq!(parse_duration(&write_duration(d)), Some(d));
        }
        for bytes in [0, 1, 1024, 1025, 10 << 20, 3 << 30] {
            assert_eq!(parse_size(&write_size(bytes)), Some(bytes));
        }
    }
}
