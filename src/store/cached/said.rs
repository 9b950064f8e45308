//! Keeps one alarm from filling the log: what happens to every request is said now and then, and counted always.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::BootMillis;

/// When something may be said again. Starts as at once.
#[derive(Debug, Default)]
pub(super) struct Said(AtomicU64);

impl Said {
    /// Whether this caller is the one that shall say it; nobody is again for so long.
    pub(super) fn may_say(&self, now: BootMillis, every: Duration) -> bool {
        let due = self.0.load(Ordering::Relaxed);
        now.0 >= due
            && self
                .0
                .compare_exchange(due, now.plus(every).0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_not_before_the_pause_is_over() {
        let said = Said::default();
        let second = Duration::from_secs(1);
        assert!(said.may_say(BootMillis(5), second));
        assert!(!said.may_say(BootMillis(1_004), second));
        assert!(said.may_say(BootMillis(1_005), second));
    }
}
