//! Bounds what unknown credentials may cost the store: whoever guesses keys is refused here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::decide::rate::{MAX_COUNT, Rate, Verdict, Window};

use super::said::Said;

/// Pause between two log lines about the same flood.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What the number is counted in.
const SECOND: Duration = Duration::from_secs(1);

/// At most so many look-ups in any second of credentials this process has not met; all of them at once if
/// there was none before.
///
/// Each gateway has its own. A look-up over it is not known, which is 503 and never 401; credentials
/// met in the last minutes are not counted, so that a flood of guesses cannot hold up known callers.
pub(super) struct Cap {
    per_second: u32,
    /// None when the number is nought: then nobody is admitted.
    rate: Option<Rate>,
    lately: Mutex<Window>,
    said: Said,
}

impl Cap {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            rate: Rate::new(per_second.min(MAX_COUNT), SECOND).ok(),
            lately: Mutex::default(),
            said: Said::default(),
        }
    }

    /// Whether one more may be asked for now.
    pub(super) fn admits(&self, now: BootMillis) -> bool {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rate) = self.rate
            && matches!(lately.admit(rate, now), Verdict::Admitted { .. })
        {
            return true;
        }
        drop(lately);
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
        assert_eq!(admitted(&cap, 5_050, 60), 60);
        assert_eq!(admitted(&cap, 5_420, 1_000), 40);
        assert_eq!(admitted(&cap, 6_049, 10), 0, "the first sixty are less than a second ago");
        assert_eq!(admitted(&cap, 6_050, 1_000), 60);
        assert_eq!(admitted(&cap, 6_419, 1_000), 0);
        assert_eq!(admitted(&cap, 6_420, 1_000), 40);
        assert_eq!(admitted(&cap, 60_000, 1_000), 100, "nothing is saved up beyond a second");
    }

    #[test]
    fn no_second_of_a_flood_admits_more() {
        let cap = Cap::new(50);
        let admitted: Vec<u64> = (0..60_000).step_by(7).filter(|at| cap.admits(BootMillis(*at))).collect();
        for (i, at) in admitted.iter().enumerate() {
            let second = admitted[i..].iter().take_while(|later| **later < at + 1_000).count();
            assert!(second <= 50, "{second} from {at} on");
        }
        assert!(admitted.len() >= 50 * 54, "{}: of 60 s nine tenths are used", admitted.len());
    }

    #[test]
    fn a_number_of_nought_admits_nobody() {
        assert_eq!(admitted(&Cap::new(0), 5_000, 10), 0);
    }

    #[test]
    fn a_clock_that_does_not_move_admits_nothing_more() {
        let cap = Cap::new(2);
        assert_eq!(admitted(&cap, 7, 5), 2);
        assert_eq!(admitted(&cap, 3, 5), 0);
    }
}
