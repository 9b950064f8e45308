//! Keeps one alarm from filling the log. An event that happens to every request is logged now and then; a counter counts it always.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;

/// Admits one log line in each interval: holds when the next one may be written.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(AtomicU64);

impl LogThrottle {
    /// Whether this caller must write the line. If so, no other caller is admitted for the time `every`.
    pub(super) fn admits(&self, now: BootMillis, every: Duration) -> bool {
        let due = self.0.load(Ordering::Relaxed);
        now.0 >= due
            && self
                .0
                .compare_exchange(due, now.plus(every).0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Most texts that are throttled at a time. Nobody reads of more broken records at once, so further texts are not logged.
const MAX_TEXTS: usize = 64;

/// A throttle for each text, so that a line that comes with every request hides no other.
#[derive(Debug, Default)]
pub(super) struct KeyedLogThrottle(Mutex<HashMap<u64, BootMillis>>);

impl KeyedLogThrottle {
    /// Whether this caller must write a line of this text. If so, no other caller is admitted with it for the time `every`.
    pub(super) fn admits(&self, text: &str, now: BootMillis, every: Duration) -> bool {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.retain(|_, due| now < *due);
        let text = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        if due.len() >= MAX_TEXTS || due.contains_key(&text) {
            return false;
        }
        due.insert(text, now.plus(every));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_throttled_by_itself_and_only_so_many_at_a_time() {
        let (throttle, second) = (KeyedLogThrottle::default(), Duration::from_secs(1));
        assert!(throttle.admits("a", BootMillis(5), second));
        assert!(!throttle.admits("a", BootMillis(6), second));
        assert!(throttle.admits("b", BootMillis(6), second));
        let more = (0..100).filter(|i| throttle.admits(&i.to_string(), BootMillis(6), second)).count();
        assert_eq!(more, MAX_TEXTS - 2);
        assert!(throttle.admits("a", BootMillis(1_005), second));
    }

    #[test]
    fn the_first_line_is_admitted_at_once_and_the_next_when_the_interval_is_over() {
        let throttle = LogThrottle::default();
        let second = Duration::from_secs(1);
        assert!(throttle.admits(BootMillis(5), second));
        assert!(!throttle.admits(BootMillis(1_004), second));
        assert!(throttle.admits(BootMillis(1_005), second));
    }
}
