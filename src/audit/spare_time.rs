//! Whether the gateway leaves processor time for work that can wait.

use std::num::NonZero;
use std::time::{Duration, Instant};

use crate::base::clock::{ProcessorTime, instant, processor_time};

/// Over how long the use of the processors is measured: long enough that a burst of requests is not a busy gateway.
pub(super) const MEASURED: Duration = Duration::from_secs(1);

/// Measures, on one thread, what the other threads of the process use.
pub(super) struct SpareTime {
    processors: u32,
    since: Instant,
    used: ProcessorTime,
    is_busy: bool,
}

impl SpareTime {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            since: instant(),
            used: processor_time(),
            is_busy: true,
        }
    }

    /// Begins to measure anew. Until something is measured, the gateway counts as busy.
    pub(super) fn restart(&mut self) {
        (self.since, self.used, self.is_busy) = (instant(), processor_time(), true);
    }

    /// Whether the other threads used more than half of the processors when it was last measured.
    pub(super) fn is_busy(&mut self) -> bool {
        let now = instant();
        let passed = now.saturating_duration_since(self.since);
        if passed >= MEASURED {
            let used = processor_time();
            self.is_busy = is_more_than_half(self.used, used, passed * self.processors);
            (self.since, self.used) = (now, used);
        }
        self.is_busy
    }
}

/// Whether the other threads used more than half of the time that there was between two measurements.
fn is_more_than_half(before: ProcessorTime, after: ProcessorTime, there_was: Duration) -> bool {
    let process = after.process.saturating_sub(before.process);
    let own = after.thread.saturating_sub(before.thread);
    process.saturating_sub(own) * 2 > there_was
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_measured_yet_counts_as_busy() {
        let mut spare_time = SpareTime::new();
        assert!(spare_time.is_busy());
        spare_time.is_busy = false;
        spare_time.restart();
        assert!(spare_time.is_busy());
    }

    #[test]
    fn the_own_thread_makes_nobody_busy() {
        let time = |process, thread| ProcessorTime {
            process: Duration::from_millis(process),
            thread: Duration::from_millis(thread),
        };
        let second = Duration::from_secs(1);
        let before = time(7_000, 4_000);
        assert!(is_more_than_half(before, time(7_501, 4_000), second));
        assert!(!is_more_than_half(before, time(7_500, 4_000), second));
        assert!(!is_more_than_half(before, time(8_400, 4_900), second));
        assert!(is_more_than_half(before, time(8_501, 4_900), second));
        assert!(!is_more_than_half(before, time(8_501, 4_900), 2 * second));
    }
}
