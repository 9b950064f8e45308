//! Keeps one alarm from filling the log: what happens to every request is said now and then, and counted always.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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

/// Texts that are remembered: as many broken records at once are more than anybody reads of.
const MOST: usize = 64;

/// When each of several texts may be said again, so that one that comes with every request hides no other.
#[derive(Debug, Default)]
pub(super) struct SaidEach(Mutex<HashMap<u64, BootMillis>>);

impl SaidEach {
    /// Whether this caller is the one that shall say this text; nobody is again for so long.
    pub(super) fn may_say(&self, text: &str, now: BootMillis, every: Duration) -> bool {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.retain(|_, due| now < *due);
        let text = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        if due.len() >= MOST || due.contains_key(&text) {
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
    fn each_text_is_said_for_itself_and_few_at_once() {
        let (said, second) = (SaidEach::default(), Duration::from_secs(1));
        assert!(said.may_say("a", BootMillis(5), second));
        assert!(!said.may_say("a", BootMillis(6), second));
        assert!(said.may_say("b", BootMillis(6), second));
        let more = (0..100).filter(|i| said.may_say(&i.to_string(), BootMillis(6), second)).count();
        assert_eq!(more, MOST - 2);
        assert!(said.may_say("a", BootMillis(1_005), second));
    }

    #[test]
    fn it_is_said_at_once_and_then_not_before_the_pause_is_over() {
        let said = Said::default();
        let second = Duration::from_secs(1);
        assert!(said.may_say(BootMillis(5), second));
        assert!(!said.may_say(BootMillis(1_004), second));
        assert!(said.may_say(BootMillis(1_005), second));
    }
}
