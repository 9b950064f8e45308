//! The two memories of the cache, present and absent, and the one rule of what may be used.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{Facts, Position, Reading};
use crate::store::events::{Positions, Slots};

use super::{Absence, CacheSettings, Held, REFRESH_RETRY, Recalled};

/// How long moka keeps an absence that nobody may use any more. Its clock stops during a suspend, so
/// it cannot judge age; this only frees memory.
const MEMORY_GRACE: Duration = Duration::from_secs(5);

/// How long moka keeps facts that nobody may use or asks for any more: they tell that a credential was met, so
/// that a caller who was silent for some minutes is not counted among those who guess.
const MET_GRACE: Duration = Duration::from_secs(600);

pub(super) struct Memory {
    present: Cache<Fingerprint, Arc<Held>, BuildHasherDefault<FingerprintHasher>>,
    absent: Cache<Fingerprint, Absence, BuildHasherDefault<FingerprintHasher>>,
    positions: Arc<Positions>,
    max_age: Duration,
    absent_age: Duration,
}

impl Memory {
    pub(super) fn new(settings: &CacheSettings, positions: Arc<Positions>) -> Self {
        Self {
            present: Cache::builder()
                .max_capacity(settings.cache_entries)
                .time_to_idle(settings.max_age + MET_GRACE)
                .build_with_hasher(BuildHasherDefault::default()),
            absent: Cache::builder()
                .max_capacity(settings.absent_entries)
                .time_to_live(settings.absent_age + MEMORY_GRACE)
                .build_with_hasher(BuildHasherDefault::default()),
            positions,
            max_age: settings.max_age,
            absent_age: settings.absent_age,
        }
    }

    /// What may be used now: younger than its age limit, and no event came since it was read.
    pub(super) fn recall(&self, fingerprint: &Fingerprint, now: BootMillis) -> Recalled {
        if let Some(held) = self.present.get(fingerprint).filter(|held| self.may_use(held, now)) {
            return Recalled::Present(held);
        }
        match self.absent.get(fingerprint) {
            Some(absence)
                if now.since(absence.sent_at) < self.absent_age && self.positions.is_still_absent(fingerprint, absence.position) =>
            {
                Recalled::Absent
            }
            _ => Recalled::Nothing,
        }
    }

    /// The rule: younger than the age limit, and no event came since they were read.
    pub(super) fn may_use(&self, held: &Held, now: BootMillis) -> bool {
        now.since(held.facts.sent_at()) < self.max_age && self.positions.contains_all(&held.slots, held.facts.position())
    }

    /// Whether facts that a read brought may be given to somebody who had heard of `heard` when they
    /// asked: they must contain all that, or nothing of it may have been about them; and they must not
    /// have grown old on the way (a machine can be suspended in the middle of a flight).
    pub(super) fn may_answer(&self, facts: &Facts, heard: Position, now: BootMillis) -> bool {
        now.since(facts.sent_at()) < self.max_age && (facts.position() >= heard || self.positions.is_current(facts))
    }

    /// The same for an absence.
    pub(super) fn may_answer_absent(&self, fingerprint: &Fingerprint, absence: Absence, heard: Position, now: BootMillis) -> bool {
        now.since(absence.sent_at) < self.absent_age
            && (absence.position >= heard || self.positions.is_still_absent(fingerprint, absence.position))
    }

    /// Whether this credential was found in the last minutes. Says nothing about it now.
    pub(super) fn has_met(&self, fingerprint: &Fingerprint) -> bool {
        self.present.contains_key(fingerprint)
    }

    /// Remembers facts, unless an event has made them out of date or younger ones are there. Those that
    /// say the same stay in their place and are as young as these: whoever holds them goes on. An absence
    /// that said otherwise goes: it would speak again when the facts are dropped before it. Answers
    /// whether they are up to date. The caller holds the fingerprint's lock.
    pub(super) fn remember(&self, fingerprint: Fingerprint, facts: &Arc<Facts>) -> bool {
        let slots = Slots::of(facts);
        if !self.positions.contains_all(&slots, facts.position()) {
            return false;
        }
        let refresh_at = self.refresh_at(&fingerprint, facts.sent_at(), facts.read_at());
        match self.present.get(&fingerprint) {
            Some(held) if is_younger(&held, facts.position(), facts.sent_at()) => {}
            // Lines of rules that are no more would be of no use for as long as these facts stay.
            Some(held) if held.facts.has_records_of(facts) && !held.facts.lines.are_outdated() => {
                self.absent.invalidate(&fingerprint);
                held.confirm(&facts.reading, refresh_at);
            }
            held => {
                self.present
                    .insert(fingerprint, Arc::new(Held::new(fingerprint, Arc::clone(facts), slots, refresh_at)));
                self.absent.invalidate(&fingerprint);
                // After the insertion: whoever is told to look again finds the younger ones.
                if let Some(held) = held {
                    held.supersede();
                }
            }
        }
        true
    }

    /// A read that was sent at this time found the store at this position: facts of the same position are
    /// what it would have brought, and as young as it; no others are touched. An absence cannot be beside
    /// them. Answers whether there are any and they are up to date. The caller holds the fingerprint's lock.
    pub(super) fn confirm(&self, fingerprint: &Fingerprint, position: Position, sent_at: BootMillis) -> bool {
        let held = self.present.get(fingerprint);
        let held = held.filter(|held| held.facts.position() == position && self.positions.contains_all(&held.slots, position));
        match held {
            Some(held) => {
                held.confirm(&Reading::new(sent_at, position), self.refresh_at(fingerprint, sent_at, sent_at));
                true
            }
            None => false,
        }
    }

    /// Remembers an absence, unless an event has ended it. Facts that said otherwise go: the store
    /// is certain. The caller holds the fingerprint's lock.
    pub(super) fn remember_absent(&self, fingerprint: Fingerprint, absence: Absence) -> bool {
        if !self.positions.is_still_absent(&fingerprint, absence.position) {
            return false;
        }
        let held = self.present.get(&fingerprint);
        if !held
            .as_ref()
            .is_some_and(|held| is_younger(held, absence.position, absence.sent_at))
        {
            self.present.invalidate(&fingerprint);
            self.absent.insert(fingerprint, absence);
            if let Some(held) = held {
                held.supersede();
            }
        }
        true
    }

    pub(super) fn positions(&self) -> &Positions {
        &self.positions
    }

    pub(super) const fn max_age(&self) -> Duration {
        self.max_age
    }

    /// From this age on, facts are read again ahead of time.
    pub(super) fn refresh_age(&self) -> Duration {
        self.max_age / 2
    }

    pub(super) fn entries(&self) -> (u64, u64) {
        (self.present.entry_count(), self.absent.entry_count())
    }

    /// When facts of this age, which were read at this time, are to be read again, on the boot clock in
    /// milliseconds. A read that brought facts which are old already (nobody said lately that the server is the
    /// primary) is not repeated at once: each use would ask the store.
    fn refresh_at(&self, fingerprint: &Fingerprint, sent_at: BootMillis, read_at: BootMillis) -> u64 {
        let due = sent_at.plus(self.refresh_age()).0.saturating_add(self.spread(fingerprint));
        due.max(read_at.plus(REFRESH_RETRY.min(self.max_age / 8)).0)
    }

    /// Spreads the refreshes of facts that were read together over a tenth of their age.
    fn spread(&self, fingerprint: &Fingerprint) -> u64 {
        let tenth = u64::try_from(self.max_age.as_millis() / 10).unwrap_or(0).max(1);
        fingerprint.slot_bits() % tenth
    }
}

/// Whether what is held was read after an answer of this position and time.
fn is_younger(held: &Held, position: Position, sent_at: BootMillis) -> bool {
    (held.facts.position(), held.facts.sent_at()) > (position, sent_at)
}

/// Takes 64 bits of a fingerprint as its hash. Fingerprints are outputs of HMAC-SHA-256 or SHA-256;
/// hashing them again would add nothing but time.
#[derive(Default)]
pub(super) struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length of the array, which is always 32.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMillis;
    use crate::base::principal::CredentialState;
    use crate::store::codec::tests::{facts_of, sample};
    use std::hash::BuildHasher;

    /// Facts of one credential, read at this time and position.
    fn facts(state: CredentialState, sent_at: u64, position: u64) -> Arc<Facts> {
        let mut credential = sample();
        credential.state = state;
        Arc::new(Facts {
            reading: Reading::new(BootMillis(sent_at), Position(position)),
            ..facts_of(credential)
        })
    }

    /// Has these land one after the other: what is held after the first, and after the last.
    fn held_after(landing: &[Arc<Facts>]) -> (Arc<Held>, Arc<Held>) {
        let memory = Memory::new(&CacheSettings::default(), Arc::default());
        let fingerprint = sample().fingerprint;
        let land = |facts| {
            assert!(memory.remember(fingerprint, facts));
            memory.present.get(&fingerprint).unwrap()
        };
        let held: Vec<_> = landing.iter().map(land).collect();
        (Arc::clone(held.first().unwrap()), Arc::clone(held.last().unwrap()))
    }

    fn read_at(held: &Held) -> (u64, u64) {
        (held.facts.sent_at().0, held.facts.position().0)
    }

    #[test]
    fn the_same_records_stay_where_they_are_and_are_as_young_as_the_later_read() {
        let (first, last) = held_after(&[facts(CredentialState::Active, 10, 5), facts(CredentialState::Active, 20, 6)]);
        assert!(Arc::ptr_eq(&first, &last) && !first.is_superseded());
        assert_eq!(read_at(&first), (20, 6));
        // The next refresh is due at half the age that counts from now on.
        let due = first.refresh_at.load(std::sync::atomic::Ordering::Acquire);
        assert!((15_020..18_020).contains(&due), "{due}");
    }

    #[test]
    fn other_records_take_the_place_and_whoever_holds_the_old_ones_is_told() {
        let revoked = CredentialState::Revoked { at: UnixMillis(1) };
        let (first, last) = held_after(&[facts(CredentialState::Active, 10, 5), facts(revoked, 20, 6)]);
        assert!(first.is_superseded() && !last.is_superseded());
        assert_eq!((read_at(&first), read_at(&last)), ((10, 5), (20, 6)));
        assert_eq!(last.facts.credential.state, revoked);
    }

    #[test]
    fn lines_of_rules_that_are_no_more_go_with_their_facts() {
        for (rules, stays) in [(1, true), (2, false)] {
            let before = facts(CredentialState::Active, 10, 5);
            before.lines.keep(1, b"X-Tenant-Id: acme\r\n");
            assert_eq!(before.lines.written_by(rules).is_some(), stays);
            let (first, last) = held_after(&[before, facts(CredentialState::Active, 20, 6)]);
            assert_eq!(Arc::ptr_eq(&first, &last), stays);
            assert_eq!(first.is_superseded(), !stays);
            assert!(!last.facts.lines.are_outdated());
            assert_eq!(read_at(&last), (20, 6));
        }
    }

    #[test]
    fn a_read_that_saw_less_confirms_nothing() {
        // It was sent later and saw an older store: a replica, or an answer that overtook another.
        let (first, last) = held_after(&[facts(CredentialState::Active, 10, 6), facts(CredentialState::Active, 20, 5)]);
        assert!(Arc::ptr_eq(&first, &last));
        assert_eq!(read_at(&first), (10, 6));
    }

    #[test]
    fn a_slow_read_that_saw_more_makes_nothing_older() {
        let (first, _) = held_after(&[facts(CredentialState::Active, 20, 5), facts(CredentialState::Active, 10, 6)]);
        assert_eq!(read_at(&first), (20, 6));
    }

    #[test]
    fn records_that_came_back_do_not_outlive_what_was_between() {
        let disabled = facts(CredentialState::Disabled, 20, 6);
        let (first, last) = held_after(&[
            facts(CredentialState::Active, 10, 5),
            disabled,
            facts(CredentialState::Active, 30, 7),
        ]);
        assert!(first.is_superseded());
        assert_eq!((read_at(&first), read_at(&last)), ((10, 5), (30, 7)));
    }

    #[test]
    fn the_hash_of_a_fingerprint_is_its_own_bits() {
        let fingerprint = Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let hash = BuildHasherDefault::<FingerprintHasher>::default().hash_one(fingerprint);
        assert_eq!(hash, fingerprint.slot_bits());
    }
}
