//! A steady rate: when each request is due, and what the waits come to.

use std::time::{Duration, Instant};

use durward::base::clock::instant;

/// Of requests that are sent at a steady rate from `start` on, when this one is due.
pub(crate) fn due(start: Instant, number: u64, rate: u64) -> Instant {
    start + Duration::from_nanos(number.saturating_mul(1_000_000_000) / rate)
}

/// Returns when it is due, and not before.
pub(crate) fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(instant());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// The value below which this many thousandths of the sorted values are, in milliseconds.
pub(crate) fn millis(sorted: &[Duration], thousandths: usize) -> f64 {
    let at = (sorted.len() * thousandths / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |value| value.as_secs_f64() * 1e3)
}
