//! The entries of the cache, present and absent, and the one rule of what may be used.
//!
//! Every use is judged by our boot clock and by the positions of events. What moka evicts or keeps is a matter of memory only.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{Facts, Position, Reading};
use crate::store::LookupQuery;
use crate::store::events::{Positions, Slots};

use super::CacheSettings;

/// Pause between two tries to refresh an entry while refreshes fail. A store that comes back is noticed within a second, and a
/// store that does not is asked at most once a second for each credential.
pub(super) const REFRESH_RETRY: Duration = Duration::from_secs(1);

/// How long moka keeps an absence that is too old to be used. moka's clock stops while the machine is suspended, so it cannot
/// judge age: this only frees memory.
const ABSENT_GRACE: Duration = Duration::from_secs(5);

/// How long moka keeps facts that are too old to be used, or that nobody asks for. They show that the credential was found
/// lately, so a caller who was silent for some minutes is not counted as one who guesses.
const PRESENT_GRACE: Duration = Duration::from_secs(600);

/// What the cache has of a fingerprint, if it may be used.
#[derive(Debug)]
pub enum Recalled {
    /// Facts that are young enough and that no event contradicts.
    Present(Arc<CacheEntry>),
    /// Certainly absent a moment ago.
    Absent,
    /// Nothing usable: [`CachedStore::load`](super::CachedStore::load) must be asked.
    Nothing,
}

/// Facts in the cache, with what it takes to judge them on every use. The fields that every request reads come first.
#[repr(C)]
pub struct CacheEntry {
    fingerprint: Fingerprint,
    pub(super) facts: Arc<Facts>,
    /// When the next refresh may start, on the boot clock in milliseconds.
    refresh_at: AtomicU64,
    /// Other facts, or an absence, have replaced this entry.
    superseded: AtomicBool,
    /// Uses that no event tells of move the end of these facts: only a read makes them younger.
    slides: bool,
    slots: Slots,
}

/// What is due at the use of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The facts are to be read again.
    Read,
    /// That they are in use is to be noted: they are young although nobody reads them.
    NoteUse,
}

impl CacheEntry {
    pub(super) fn new(fingerprint: Fingerprint, facts: Arc<Facts>, slots: Slots, refresh_at: u64) -> Self {
        Self {
            fingerprint,
            slides: facts.slides(),
            facts,
            slots,
            refresh_at: AtomicU64::new(refresh_at),
            superseded: AtomicBool::new(false),
        }
    }

    /// Whether this is the entry of this fingerprint.
    #[must_use]
    pub fn is_of(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprint == *fingerprint
    }

    #[must_use]
    pub const fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// The question by which these facts are read again. The answer "nothing has changed" does not suffice for a sliding
    /// credential, since its uses are no changes, nor for facts whose identity lines were written by rules that are gone.
    pub(super) fn refresh_question(&self) -> LookupQuery {
        let must_be_read = self.facts.lines.are_outdated() || self.slides;
        LookupQuery {
            fingerprint: self.fingerprint,
            known: (!must_be_read).then(|| self.facts.position()),
        }
    }

    /// The moment at which the store was known to have nothing newer than these facts; `None` if only their read says how old
    /// they are.
    fn revalidated(&self, positions: &Positions) -> Option<BootMillis> {
        (!self.slides).then(|| positions.revalidation().of(&self.facts)).flatten()
    }

    /// As [`Positions::counts_from`].
    fn counts_from(&self, positions: &Positions) -> BootMillis {
        self.facts.sent_at().max(self.revalidated(positions).unwrap_or_default())
    }

    /// A later read brought the same records: the facts are as young as that read.
    fn confirm(&self, later: &Reading, refresh_at: u64) {
        self.facts.reading.confirm(later);
        self.refresh_at.store(refresh_at, Ordering::Release);
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    /// Whether this entry was read after an answer of this position and time.
    fn is_newer_than(&self, position: Position, sent_at: BootMillis) -> bool {
        (self.facts.position(), self.facts.sent_at()) > (position, sent_at)
    }
}

impl std::fmt::Debug for CacheEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheEntry").field("facts", &self.facts).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
pub(super) struct Absence {
    pub(super) sent_at: BootMillis,
    pub(super) position: Position,
}

/// All entries: facts, and absences in a table of their own, so that many unknown keys push out no facts.
pub(super) struct FactsCache {
    pub(super) present: Cache<Fingerprint, Arc<CacheEntry>, BuildHasherDefault<FingerprintHasher>>,
    pub(super) absent: Cache<Fingerprint, Absence, BuildHasherDefault<FingerprintHasher>>,
    pub(super) positions: Arc<Positions>,
    max_age: Duration,
    absent_age: Duration,
}

impl FactsCache {
    pub(super) fn new(settings: &CacheSettings, positions: Arc<Positions>) -> Self {
        Self {
            present: Cache::builder()
                .max_capacity(settings.cache_entries)
                .time_to_idle(settings.max_age + PRESENT_GRACE)
                .build_with_hasher(BuildHasherDefault::default()),
            absent: Cache::builder()
                .max_capacity(settings.absent_entries)
                .time_to_live(settings.absent_age + ABSENT_GRACE)
                .build_with_hasher(BuildHasherDefault::default()),
            positions,
            max_age: settings.max_age,
            absent_age: settings.absent_age,
        }
    }

    /// What may be used now: it is younger than its age limit, and no event about it came since it was read.
    pub(super) fn recall(&self, fingerprint: &Fingerprint, now: BootMillis) -> Recalled {
        if let Some(entry) = self.present.get(fingerprint).filter(|entry| self.may_use(entry, now)) {
            return Recalled::Present(entry);
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

    /// The rule of facts: they are younger than the age limit, and no event about them came since they were read.
    pub(super) fn may_use(&self, entry: &CacheEntry, now: BootMillis) -> bool {
        now.since(entry.counts_from(&self.positions)) < self.max_age && self.positions.contains_all(&entry.slots, entry.facts.position())
    }

    /// What is due at this use of the entry. One caller is told. The others are told [`Due::Nothing`]: after a read for
    /// [`REFRESH_RETRY`], whatever becomes of it; after a noted use until the facts would have to be read.
    pub(super) fn take_due(&self, entry: &CacheEntry, now: BootMillis) -> Due {
        let due = entry.refresh_at.load(Ordering::Relaxed);
        if now.0 < due {
            return Due::Nothing;
        }
        // Lines of rules that are gone go with their facts, which must be read for that.
        let revalidated = entry.revalidated(&self.positions).filter(|_| !entry.facts.lines.are_outdated());
        let next = revalidated.map(|at| self.refresh_at(&entry.fingerprint, at, at));
        let (taken, next) = match next {
            Some(next) if next > now.0 => (Due::NoteUse, next),
            _ => (Due::Read, now.plus(REFRESH_RETRY).0),
        };
        match entry.refresh_at.compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => taken,
            Err(_) => Due::Nothing,
        }
    }

    /// Whether facts that a read brought may be given to a caller. `newest_event` is the newest event that had reached this
    /// process when the caller asked. The facts must contain every event up to that one, or none of these events may be about
    /// them. And they must not have grown old on the way, as when the machine is suspended in the middle of a flight.
    pub(super) fn may_answer(&self, facts: &Facts, newest_event: Position, now: BootMillis) -> bool {
        now.since(facts.sent_at()) < self.max_age && (facts.position() >= newest_event || self.positions.is_current(facts))
    }

    /// The same rule for an absence.
    pub(super) fn may_answer_absent(&self, fingerprint: &Fingerprint, absence: Absence, newest_event: Position, now: BootMillis) -> bool {
        now.since(absence.sent_at) < self.absent_age
            && (absence.position >= newest_event || self.positions.is_still_absent(fingerprint, absence.position))
    }

    /// Whether this credential was found in the last minutes. Its facts need not be usable now.
    pub(super) fn has_met(&self, fingerprint: &Fingerprint) -> bool {
        self.present.contains_key(fingerprint)
    }

    /// Remembers facts, unless an event has made them out of date or newer ones are there; answers whether they are up to date.
    /// An entry with the same records stays and becomes as young as these facts, so that a worker's table that refers to it
    /// goes on with it. An absence of the same fingerprint is removed: it would be answered again if moka dropped the facts
    /// first. The caller holds the fingerprint's lock.
    pub(super) fn remember(&self, fingerprint: Fingerprint, facts: &Arc<Facts>) -> bool {
        let slots = Slots::of(facts);
        if !self.positions.contains_all(&slots, facts.position()) {
            return false;
        }
        let refresh_at = self.refresh_at(&fingerprint, facts.sent_at(), facts.read_at());
        match self.present.get(&fingerprint) {
            Some(entry) if entry.is_newer_than(facts.position(), facts.sent_at()) => {}
            // An entry with identity lines of rules that are gone is replaced: its lines would be of no use as long as it stays.
            Some(entry) if entry.facts.has_records_of(facts) && !entry.facts.lines.are_outdated() => {
                self.absent.invalidate(&fingerprint);
                entry.confirm(&facts.reading, refresh_at);
            }
            replaced => {
                let entry = CacheEntry::new(fingerprint, Arc::clone(facts), slots, refresh_at);
                self.present.insert(fingerprint, Arc::new(entry));
                self.absent.invalidate(&fingerprint);
                // After the insertion: whoever sees that its entry is superseded finds the new one.
                if let Some(replaced) = replaced {
                    replaced.supersede();
                }
            }
        }
        true
    }

    /// A read that was sent at `sent_at` found the store at this position. An entry of the same position is what the read would
    /// have brought, so it becomes as young as the read; an entry of another position stays as it is. There is no absence
    /// beside such an entry. Answers whether there is one and it is up to date. The caller holds the fingerprint's lock.
    pub(super) fn confirm(&self, fingerprint: &Fingerprint, position: Position, sent_at: BootMillis) -> bool {
        let entry = self.present.get(fingerprint);
        let entry = entry.filter(|entry| entry.facts.position() == position && self.positions.contains_all(&entry.slots, position));
        match entry {
            Some(entry) => {
                entry.confirm(&Reading::new(sent_at, position), self.refresh_at(fingerprint, sent_at, sent_at));
                true
            }
            None => false,
        }
    }

    /// Remembers an absence, unless an event has ended it; answers whether none has. Older facts are removed. The caller holds
    /// the fingerprint's lock.
    pub(super) fn remember_absent(&self, fingerprint: Fingerprint, absence: Absence) -> bool {
        if !self.positions.is_still_absent(&fingerprint, absence.position) {
            return false;
        }
        let entry = self.present.get(&fingerprint);
        if !entry
            .as_ref()
            .is_some_and(|entry| entry.is_newer_than(absence.position, absence.sent_at))
        {
            self.present.invalidate(&fingerprint);
            self.absent.insert(fingerprint, absence);
            if let Some(entry) = entry {
                entry.supersede();
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

    /// How many facts, and how many absences (about).
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.present.entry_count(), self.absent.entry_count())
    }

    /// When facts are to be read again, on the boot clock in milliseconds; `sent_at` is what their age counts from. Facts can be
    /// old when they arrive, because nobody has named the server as the primary lately. Then the read is not repeated at once:
    /// each use would ask the store.
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
mod tests {
    use super::*;
    use crate::base::clock::UnixMillis;
    use crate::base::principal::{CredentialState, IdleTimeout};
    use crate::store::codec::tests::{facts_of, sample};
    use crate::store::{Event, EventSink as _};
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

    /// Remembers these facts one after the other; answers the entry after the first, and after the last.
    fn entries_after(reads: &[Arc<Facts>]) -> (Arc<CacheEntry>, Arc<CacheEntry>) {
        let cache = FactsCache::new(&CacheSettings::default(), Arc::default());
        let fingerprint = sample().fingerprint;
        let remember = |facts| {
            assert!(cache.remember(fingerprint, facts));
            cache.present.get(&fingerprint).unwrap()
        };
        let entries: Vec<_> = reads.iter().map(remember).collect();
        (Arc::clone(entries.first().unwrap()), Arc::clone(entries.last().unwrap()))
    }

    fn read_at(entry: &CacheEntry) -> (u64, u64) {
        (entry.facts.sent_at().0, entry.facts.position().0)
    }

    #[test]
    fn the_same_records_stay_where_they_are_and_are_as_young_as_the_later_read() {
        let (first, last) = entries_after(&[facts(CredentialState::Active, 10, 5), facts(CredentialState::Active, 20, 6)]);
        assert!(Arc::ptr_eq(&first, &last) && !first.is_superseded());
        assert_eq!(read_at(&first), (20, 6));
        // The next refresh is due at half the age that counts from now on.
        let due = first.refresh_at.load(std::sync::atomic::Ordering::Acquire);
        assert!((15_020..18_020).contains(&due), "{due}");
    }

    #[test]
    fn other_records_take_the_place_and_whoever_holds_the_old_ones_is_told() {
        let revoked = CredentialState::Revoked { at: UnixMillis(1) };
        let (first, last) = entries_after(&[facts(CredentialState::Active, 10, 5), facts(revoked, 20, 6)]);
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
            let (first, last) = entries_after(&[before, facts(CredentialState::Active, 20, 6)]);
            assert_eq!(Arc::ptr_eq(&first, &last), stays);
            assert_eq!(first.is_superseded(), !stays);
            assert!(!last.facts.lines.are_outdated());
            assert_eq!(read_at(&last), (20, 6));
        }
    }

    #[test]
    fn a_read_that_saw_less_confirms_nothing() {
        // It was sent later and saw an older store: a replica, or an answer that overtook another.
        let (first, last) = entries_after(&[facts(CredentialState::Active, 10, 6), facts(CredentialState::Active, 20, 5)]);
        assert!(Arc::ptr_eq(&first, &last));
        assert_eq!(read_at(&first), (10, 6));
    }

    #[test]
    fn a_slow_read_that_saw_more_makes_nothing_older() {
        let (first, _) = entries_after(&[facts(CredentialState::Active, 20, 5), facts(CredentialState::Active, 10, 6)]);
        assert_eq!(read_at(&first), (20, 6));
    }

    #[test]
    fn records_that_came_back_do_not_outlive_what_was_between() {
        let disabled = facts(CredentialState::Disabled, 20, 6);
        let (first, last) = entries_after(&[
            facts(CredentialState::Active, 10, 5),
            disabled,
            facts(CredentialState::Active, 30, 7),
        ]);
        assert!(first.is_superseded());
        assert_eq!((read_at(&first), read_at(&last)), ((10, 5), (30, 7)));
    }

    /// A position of this generation.
    fn position(generation: u64, counter: u64) -> Position {
        Position((generation << Position::COUNT_BITS) | counter)
    }

    /// A cache whose only facts were read at 1 s in generation 1, at position 5.
    fn cache_of(change: impl FnOnce(&mut Facts)) -> (FactsCache, Arc<CacheEntry>) {
        let cache = FactsCache::new(&CacheSettings::default(), Arc::default());
        let mut read = Facts {
            reading: Reading::new(BootMillis(1_000), position(1, 5)).with_proven_history(),
            ..facts_of(sample())
        };
        change(&mut read);
        let fingerprint = sample().fingerprint;
        assert!(cache.remember(fingerprint, &Arc::new(read)));
        let entry = cache.present.get(&fingerprint).unwrap();
        (cache, entry)
    }

    #[test]
    fn facts_of_the_chain_are_as_young_as_the_last_word_of_the_store() {
        let (cache, entry) = cache_of(|_| {});
        assert!(cache.may_use(&entry, BootMillis(30_999)));
        assert!(!cache.may_use(&entry, BootMillis(31_000)));
        cache.positions.revalidate(position(1, 7), BootMillis(20_000));
        assert!(cache.may_use(&entry, BootMillis(49_999)));
        assert!(!cache.may_use(&entry, BootMillis(50_000)));
        cache.positions.revalidate(position(1, 7), BootMillis(19_000));
        assert!(
            cache.may_use(&entry, BootMillis(49_999)),
            "a word that came late makes nothing older"
        );
    }

    #[test]
    fn an_event_ends_facts_however_young_the_word_of_the_store_is() {
        let (cache, entry) = cache_of(|_| {});
        let event = |counter| Event {
            position: position(1, counter),
            at: None,
            subject: crate::store::change::credential_event(&sample()),
        };
        cache.positions.apply(&event(5));
        cache.positions.revalidate(position(1, 5), BootMillis(20_000));
        assert!(cache.may_use(&entry, BootMillis(40_000)), "what they contain ends nothing");
        cache.positions.apply(&event(6));
        cache.positions.revalidate(position(1, 6), BootMillis(21_000));
        assert!(!cache.may_use(&entry, BootMillis(21_000)));
    }

    #[test]
    fn the_word_of_the_store_is_about_facts_of_its_own_chain_and_of_no_uses() {
        type Change = fn(&mut Facts);
        let others: [(&str, Change); 5] = [
            ("of another generation", |facts| {
                facts.reading = Reading::new(BootMillis(1_000), position(2, 5)).with_proven_history();
            }),
            ("of which no chain is known", |facts| {
                facts.reading = Reading::new(BootMillis(1_000), position(1, 5));
            }),
            ("read again elsewhere, at a later position", |facts| {
                facts.reading.confirm(&Reading::new(BootMillis(1_000), position(1, 9)));
            }),
            ("of a credential that slides", |facts| {
                facts.credential.extras_mut().idle = Some(idle());
            }),
            ("of a credential below one that slides", |facts| {
                let mut parent = facts.credential.clone();
                parent.extras_mut().idle = Some(idle());
                facts.ancestors.push(parent);
            }),
        ];
        for (what, change) in others {
            let (cache, entry) = cache_of(change);
            cache.positions.revalidate(position(1, 9), BootMillis(20_000));
            assert!(cache.may_use(&entry, BootMillis(30_999)), "{what}");
            assert!(!cache.may_use(&entry, BootMillis(31_000)), "{what}");
            assert_eq!(cache.positions.counts_from(&entry.facts), BootMillis(1_000), "{what}");
        }
        // Read once more, on the chain.
        let (cache, entry) = cache_of(|facts| facts.reading = Reading::new(BootMillis(1_000), position(1, 5)));
        entry
            .facts
            .reading
            .confirm(&Reading::new(BootMillis(2_000), position(1, 6)).with_proven_history());
        cache.positions.revalidate(position(1, 9), BootMillis(20_000));
        assert!(cache.may_use(&entry, BootMillis(49_999)));
        assert_eq!(cache.positions.counts_from(&entry.facts), BootMillis(20_000));
    }

    fn idle() -> IdleTimeout {
        IdleTimeout {
            timeout: Duration::from_secs(60),
            last_used: UnixMillis(1),
        }
    }

    #[test]
    fn facts_that_were_revalidated_are_not_read_again_but_count_as_in_use() {
        let (cache, entry) = cache_of(|_| {});
        let at = |millis| BootMillis(millis);
        assert_eq!(cache.take_due(&entry, at(15_000)), Due::Nothing);
        cache.positions.revalidate(position(1, 5), at(29_000));
        // Half the age limit after the read, and a tenth by its fingerprint.
        assert_eq!(cache.take_due(&entry, at(30_000)), Due::NoteUse);
        assert_eq!(cache.take_due(&entry, at(30_001)), Due::Nothing, "it is noted once");
        assert_eq!(cache.take_due(&entry, at(43_999)), Due::Nothing);
        // The store has said nothing since: they are read while they are young.
        assert_eq!(cache.take_due(&entry, at(47_001)), Due::Read);
        assert_eq!(cache.take_due(&entry, at(47_002)), Due::Nothing, "somebody reads them");
        assert_eq!(cache.take_due(&entry, at(48_001)), Due::Read, "and again, if that failed");
        cache.positions.revalidate(position(1, 5), at(49_000));
        assert_eq!(cache.take_due(&entry, at(49_500)), Due::NoteUse);
    }

    #[test]
    fn lines_of_rules_that_are_gone_are_replaced_by_a_read() {
        let (cache, entry) = cache_of(|_| {});
        entry.facts.lines.keep(1, b"X-Tenant-Id: acme\r\n");
        assert!(entry.facts.lines.written_by(2).is_none());
        cache.positions.revalidate(position(1, 5), BootMillis(29_000));
        assert_eq!(cache.take_due(&entry, BootMillis(30_000)), Due::Read);
    }

    #[test]
    fn the_hash_of_a_fingerprint_is_its_own_bits() {
        let fingerprint = Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let hash = BuildHasherDefault::<FingerprintHasher>::default().hash_one(fingerprint);
        assert_eq!(hash, fingerprint.slot_bits());
    }
}
