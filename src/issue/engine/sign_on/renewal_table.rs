//! What this process remembers of renewals, so that requests neither wait for each other nor ask store and provider again and again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::ids::CredentialId;

/// Most sign-ons and providers that are remembered, of about 100 bytes each. One that finds no room is not renewed now; entries last
/// a minute at most.
const MAX_ENTRIES: usize = 65_536;

/// Most log lines that are throttled at a time; further ones are not written.
const MAX_LINES: usize = 256;

/// How often one reason at one provider is logged.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// What is remembered of a sign-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::issue::engine) enum Remembered {
    /// It was renewed a moment ago, or needs no word of its provider.
    Renew,
    /// It is being asked about, or was asked about in vain.
    Keep,
}

/// Sign-ons and providers by id, each until a time.
#[derive(Debug, Default)]
pub(in crate::issue::engine) struct RenewalTable {
    entries: Mutex<HashMap<CredentialId, (Remembered, BootMillis)>>,
    lines: Mutex<HashMap<(CredentialId, &'static str), BootMillis>>,
}

impl RenewalTable {
    /// Takes the right to ask about a sign-on, for at most this long. Otherwise answers what is remembered.
    pub(super) fn begin(
        &self,
        sign_on: &CredentialId,
        provider: &CredentialId,
        now: BootMillis,
        longest: Duration,
    ) -> Result<(), Remembered> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |id: &CredentialId| entries.get(id).filter(|(_, until)| now < *until).map(|(what, _)| *what);
        if let Some(what) = known(sign_on) {
            return Err(what);
        }
        if known(provider).is_some() {
            return Err(Remembered::Keep);
        }
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, (_, until)| now < *until);
        }
        if entries.len() >= MAX_ENTRIES {
            return Err(Remembered::Keep);
        }
        entries.insert(sign_on.clone(), (Remembered::Keep, now.plus(longest)));
        Ok(())
    }

    /// Remembers what came of it; of a provider, that it is left alone for this long.
    pub(super) fn note(&self, id: &CredentialId, what: Remembered, now: BootMillis, lasts: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() < MAX_ENTRIES || entries.contains_key(id) {
            entries.insert(id.clone(), (what, now.plus(lasts)));
        }
    }

    /// Whether a line of this reason at this provider is to be written: once in [`LINE_INTERVAL`].
    pub(super) fn admits_line(&self, provider: &CredentialId, label: &'static str, now: BootMillis) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, due| now < *due);
        let line = (provider.clone(), label);
        if lines.len() >= MAX_LINES || lines.contains_key(&line) {
            return false;
        }
        lines.insert(line, now.plus(LINE_INTERVAL));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(45);

    fn id(text: &str) -> CredentialId {
        CredentialId::parse(text).unwrap()
    }

    #[test]
    fn one_request_asks_and_the_others_go_on_until_something_is_known() {
        let table = RenewalTable::default();
        let begin = |sign_on: &str, at: u64| table.begin(&id(sign_on), &id("prv_1"), BootMillis(at), LONGEST);
        assert_eq!(begin("sgn_1", 0), Ok(()));
        assert_eq!(begin("sgn_1", 1), Err(Remembered::Keep));
        assert_eq!(begin("sgn_2", 1), Ok(()), "another sign-on is not held up");
        table.note(&id("sgn_1"), Remembered::Renew, BootMillis(10), Duration::from_secs(1));
        assert_eq!(begin("sgn_1", 1_009), Err(Remembered::Renew));
        assert_eq!(begin("sgn_1", 1_010), Ok(()));
        assert_eq!(
            begin("sgn_2", 45_001),
            Ok(()),
            "whoever asked and never came back holds nobody up for ever"
        );
    }

    #[test]
    fn a_provider_that_does_not_answer_is_left_alone_for_a_while() {
        let table = RenewalTable::default();
        table.note(&id("prv_1"), Remembered::Keep, BootMillis(0), Duration::from_secs(10));
        let begin = |provider: &str, at: u64| table.begin(&id("sgn_1"), &id(provider), BootMillis(at), LONGEST);
        assert_eq!(begin("prv_1", 9_999), Err(Remembered::Keep));
        assert_eq!(begin("prv_1", 10_000), Ok(()));
        assert_eq!(
            table.begin(&id("sgn_2"), &id("prv_2"), BootMillis(1), LONGEST),
            Ok(()),
            "another provider"
        );
    }

    #[test]
    fn the_table_has_a_bound_and_finds_room_again() {
        let table = RenewalTable::default();
        let begin = |n: usize, at: u64| table.begin(&id(&format!("sgn_{n}")), &id("prv_1"), BootMillis(at), LONGEST);
        assert!((0..MAX_ENTRIES).all(|n| begin(n, 0).is_ok()));
        assert_eq!(begin(MAX_ENTRIES, 1), Err(Remembered::Keep));
        assert_eq!(begin(MAX_ENTRIES, 45_000), Ok(()));
    }

    #[test]
    fn one_reason_at_one_provider_is_logged_once_in_a_minute() {
        let table = RenewalTable::default();
        let admits = |provider: &str, label, at: u64| table.admits_line(&id(provider), label, BootMillis(at));
        assert!(admits("prv_1", "a", 0) && admits("prv_1", "b", 0) && admits("prv_2", "a", 0));
        assert!(!admits("prv_1", "a", 59_999));
        assert!(admits("prv_1", "a", 60_000));
    }
}
