//! Bounds what unknown credentials may cost the store: whoever guesses keys is refused here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;

use super::said::Said;

/// Pause between two log lines about the same flood.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// So many look-ups a second of credentials this process has not met, and a second's worth at once.
///
/// Each gateway has its own. A look-up over it is not known, which is 503 and never 401; credentials
/// met in the last minutes are not counted, so that a flood of guesses cannot hold up known callers.
pub(super) struct Cap {
    per_second: u32,
    left: Mutex<Left>,
    said: Said,
}

struct Left {
    tokens: f64,
    at: BootMillis,
}

impl Cap {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            left: Mutex::new(Left {
                tokens: f64::from(per_second),
                at: BootMillis::default(),
            }),
            said: Said::default(),
        }
    }

    /// Whether one more may be asked for now.
    pub(super) fn admits(&self, now: BootMillis) -> bool {
        let most = f64::from(self.per_second);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.tokens = (now.since(left.at).as_secs_f64().mul_add(most, left.tokens)).min(most);
        left.at = left.at.max(now);
        if left.tokens >= 1.0 {
            left.tokens -= 1.0;
            return true;
        }
        drop(left);
        if self.said.may_say(now, SAY_EVERY) {
            tracing::warn!(
                alarm = "unknown_lookups",
                per_second = self.per_second,
                "more unknown credentials are presented than the store may be asked for; the rest gets 503"
            );
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(cap: &Cap, at: u64, asked: usize) -> usize {
        (0..asked).filter(|_| cap.admits(BootMillis(at))).count()
    }

    #[test]
    fn a_second_admits_its_number_and_no_more() {
        let cap = Cap::new(100);
        assert_eq!(admitted(&cap, 5_000, 1_000), 100, "a second's worth at once");
        assert_eq!(admitted(&cap, 5_000, 10), 0);
        assert_eq!(admitted(&cap, 5_100, 1_000), 10);
        assert_eq!(admitted(&cap, 60_000, 1_000), 100, "nothing is saved up beyond a second");
    }

    #[test]
    fn a_clock_that_does_not_move_admits_nothing_more() {
        let cap = Cap::new(2);
        assert_eq!(admitted(&cap, 7, 5), 2);
        assert_eq!(admitted(&cap, 3, 5), 0);
    }
}
