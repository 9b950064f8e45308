//! Which changes this process has heard of: for each slot of names, the position of the newest event.
//!
//! # When facts that were read at position p may be used
//!
//! They may be used iff p is at least the position in the slot of each of their names, and at least the floor.
//!
//! The store counts its changes. A read answers the count p at the time of the read, and contains every change up
//! to p. An event with position q says "change q was about credential c" (or tenant t, role r, fingerprint f), and
//! raises the slot of each of these names to q. So if the slot of a name holds q, then every change of that name
//! that this process has heard of is at most q, and facts with p >= q contain all of them. Facts with p < q may
//! lack change q and are not used any more.
//!
//! No slot is emptied, so there is no race between an event and the answer to a read: an answer to a read that was
//! sent before the event has a smaller p, and every use compares it with the slots, whenever the answer arrives
//! (docs/threats.md C2). Two names may share a slot. Then an event of one makes facts of the other be read again, once, which
//! costs a read and is never wrong. After a gap in the events, what changed in the gap is not known. Then the *floor*
//! is raised to the position at which the events go on, and no facts from before it are used any more.
//!
//! No slot is above `newest`, but for the moment in which an event is being applied: its slots are raised first. So
//! p >= newest says p >= slot for every name, as it was before that event began to be applied.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{Facts, Position};

use super::{Event, EventSink, EventSubject, watch};

/// Slots of the table: 512 KiB. With 1,000 changes in the last `max_age` and 100,000 remembered
/// credentials, 1.5 % of them are read again needlessly.
pub(super) const EVENT_SLOTS: usize = 65_536;

/// Positions of the newest known change by name. Shared by all workers; reading it takes two loads.
#[derive(Debug)]
pub struct Positions {
    slots: Box<[AtomicU64]>,
    floor: AtomicU64,
    newest: AtomicU64,
    /// [`Revalidation`] in one word.
    revalidated: AtomicU64,
}

/// The last moment at which the store was known to hold nothing but what had been read and what events have told since; and the
/// generation of events of which that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Revalidation {
    generation: u64,
    at: BootMillis,
}

impl Revalidation {
    /// The moment, if it is said of these facts.
    pub(super) fn of(self, facts: &Facts) -> Option<BootMillis> {
        (facts.proven_in() == Some(self.generation)).then_some(self.at)
    }
}

/// Where the names that facts depend on stand in the table; computed once for remembered facts.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    credential: u64,
    tenant: u64,
    /// Of ancestors and roles; most facts have neither.
    others: Box<[u64]>,
}

impl Slots {
    pub(super) fn of(facts: &Facts) -> Self {
        Self {
            credential: slot_of_credential(&facts.credential.id),
            tenant: slot_of_tenant(&facts.credential.tenant),
            others: slots_of_others(facts).collect(),
        }
    }
}

impl Default for Positions {
    fn default() -> Self {
        Self::with_slots(EVENT_SLOTS)
    }
}

impl Positions {
    /// A table of at least so many slots, at most 2^24; a power of two, so that a slot is found by a mask.
    #[must_use]
    pub fn with_slots(slots: usize) -> Self {
        let slots = slots.clamp(1, 1 << 24).next_power_of_two();
        Self {
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            floor: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            revalidated: AtomicU64::new(0),
        }
    }

    /// The time that the age of facts counts from: their read, or a later moment at which the store was known to have nothing
    /// newer about them. Ask [`is_current`](Self::is_current) afterwards: this moment may rest on events that have come since.
    #[must_use]
    pub fn counts_from(&self, facts: &Facts) -> BootMillis {
        let revalidated = (!facts.slides()).then(|| self.revalidation().of(facts)).flatten();
        facts.sent_at().max(revalidated.unwrap_or_default())
    }

    /// Read it before the slots: it rests on events that raised them.
    pub(super) fn revalidation(&self) -> Revalidation {
        let word = self.revalidated.load(Ordering::Acquire);
        Revalidation {
            generation: word >> Position::COUNT_BITS,
            at: BootMillis(word & ((1 << Position::COUNT_BITS) - 1)),
        }
    }

    /// Whether these facts contain every event about them that has come.
    #[must_use]
    pub fn is_current(&self, facts: &Facts) -> bool {
        let (credential, tenant) = (slot_of_credential(&facts.credential.id), slot_of_tenant(&facts.credential.tenant));
        self.contains(credential, tenant, facts.position()) && slots_of_others(facts).all(|slot| facts.position().0 >= self.at(slot))
    }

    /// Whether no event has ended an absence of this fingerprint that was read at `position`.
    #[must_use]
    pub fn is_still_absent(&self, fingerprint: &Fingerprint, position: Position) -> bool {
        position >= self.mark(fingerprint)
    }

    /// The position of the newest event, whatever it is about.
    #[must_use]
    pub fn newest(&self) -> Position {
        Position(self.newest.load(Ordering::Acquire))
    }

    /// The newest known change of a fingerprint: an answer from before it is out of date.
    pub(super) fn mark(&self, fingerprint: &Fingerprint) -> Position {
        Position(self.at(slot_of_fingerprint(fingerprint)).max(self.floor.load(Ordering::Acquire)))
    }

    /// Whether no event about these names has come that a read at `position` does not contain. A read that
    /// contains the newest event contains all: then the slots, which are other lines of memory for each
    /// caller, are not looked at.
    pub(super) fn contains_all(&self, slots: &Slots, position: Position) -> bool {
        if position >= self.newest() {
            return self.is_above_floor(position);
        }
        self.contains(slots.credential, slots.tenant, position) && slots.others.iter().all(|slot| position.0 >= self.at(*slot))
    }

    fn contains(&self, credential: u64, tenant: u64, position: Position) -> bool {
        position.0 >= self.at(credential) && position.0 >= self.at(tenant) && self.is_above_floor(position)
    }

    fn is_above_floor(&self, position: Position) -> bool {
        position.0 >= self.floor.load(Ordering::Acquire)
    }

    fn at(&self, name: u64) -> u64 {
        self.slot(name).map_or(u64::MAX, |s| s.load(Ordering::Acquire))
    }

    fn raise(&self, name: u64, position: Position) {
        if let Some(slot) = self.slot(name) {
            slot.fetch_max(position.0, Ordering::AcqRel);
        }
    }

    fn slot(&self, name: u64) -> Option<&AtomicU64> {
        let mask = self.slots.len().saturating_sub(1);
        self.slots.get(usize::try_from(name).unwrap_or(usize::MAX) & mask)
    }
}

impl EventSink for Positions {
    fn apply(&self, event: &Event) {
        match &event.subject {
            EventSubject::Credential { id, fingerprints } => {
                self.raise(slot_of_credential(id), event.position);
                for fingerprint in fingerprints {
                    self.raise(slot_of_fingerprint(fingerprint), event.position);
                }
            }
            EventSubject::Tenant { id } => {
                self.raise(slot_of_tenant(id), event.position);
                self.raise(slot_of_fingerprint(&Fingerprint::of_tenant(id)), event.position);
            }
            EventSubject::Role { id } => self.raise(slot_of_role(id), event.position),
        }
        // After the slots: whoever sees the new `newest` sees the slots it stands for.
        self.newest.fetch_max(event.position.0, Ordering::AcqRel);
    }

    fn forget_before(&self, position: Position) {
        self.floor.fetch_max(position.0, Ordering::AcqRel);
        self.newest.fetch_max(position.0, Ordering::AcqRel);
    }

    fn revalidate(&self, position: Position, at: BootMillis) {
        // A machine that has been up for 34 years reads its facts one by one.
        if at.0 >> Position::COUNT_BITS == 0 {
            let word = (position.generation() << Position::COUNT_BITS) | at.0;
            self.revalidated.fetch_max(word, Ordering::AcqRel);
        }
    }
}

/// How well events reach a process. Without events, the age limit alone bounds the use of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderState {
    /// Not connected yet, or no longer connected.
    Lost,
    /// Connected, reading what was missed.
    CatchingUp,
    Live,
}

impl ReaderState {
    /// The state's word, for metrics and readiness.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Lost, Self::CatchingUp, Self::Live]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// How well a store's events reach this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStatus {
    /// What the event reader is doing.
    pub reader: ReaderState,
    /// The position of the last event delivered to the sinks.
    pub applied: Position,
    /// When the store was last heard, on the boot clock; zero before that and for stores in-process.
    pub heard_at: BootMillis,
    /// The last moment at which one answer made all facts younger ([`EventSink::revalidate`]); zero before that and for stores
    /// in-process.
    pub revalidated_at: BootMillis,
}

/// What a store's event reader is doing, readable at any time.
#[derive(Debug)]
pub(super) struct ReaderStatus {
    state: watch::WatchSender<ReaderState>,
    applied: AtomicU64,
    heard_at: AtomicU64,
    revalidated_at: AtomicU64,
}

impl ReaderStatus {
    pub(super) fn new() -> Self {
        Self {
            state: watch::channel(ReaderState::Lost).0,
            applied: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
            revalidated_at: AtomicU64::new(0),
        }
    }

    pub(super) fn state(&self) -> ReaderState {
        self.state.value()
    }

    /// The state, now and whenever it changes.
    pub(super) fn watch(&self) -> watch::WatchReceiver<ReaderState> {
        self.state.subscribe()
    }

    /// The position of the last event delivered to the sinks.
    pub(super) fn applied(&self) -> Position {
        Position(self.applied.load(Ordering::Acquire))
    }

    /// When the store was last heard, on the boot clock.
    pub(super) fn heard_at(&self) -> BootMillis {
        BootMillis(self.heard_at.load(Ordering::Acquire))
    }

    /// The last moment at which one answer made all facts younger, on the boot clock.
    pub(super) fn revalidated_at(&self) -> BootMillis {
        BootMillis(self.revalidated_at.load(Ordering::Acquire))
    }

    pub(super) fn set_revalidated(&self, at: BootMillis) {
        self.revalidated_at.store(at.0, Ordering::Release);
    }

    pub(super) fn set_state(&self, state: ReaderState) {
        if self.state.value() != state {
            self.state.send_replace(state);
        }
    }

    pub(super) fn set_applied(&self, position: Position) {
        self.applied.store(position.0, Ordering::Release);
    }

    pub(super) fn set_heard(&self, at: BootMillis) {
        self.heard_at.store(at.0, Ordering::Release);
    }
}

fn slot_of_fingerprint(fingerprint: &Fingerprint) -> u64 {
    fingerprint.slot_bits()
}

fn slot_of_credential(id: &CredentialId) -> u64 {
    mix(1, id.as_str())
}

fn slot_of_tenant(id: &TenantId) -> u64 {
    mix(2, id.as_str())
}

fn slot_of_role(id: &RoleId) -> u64 {
    mix(3, id.as_str())
}

/// The slots of ancestors and of every role that is named, even if the store does not have it: facts may still hold a deleted
/// role.
fn slots_of_others(facts: &Facts) -> impl Iterator<Item = u64> {
    let ancestors = facts.ancestors.iter().map(|ancestor| slot_of_credential(&ancestor.id));
    let chain = std::iter::once(&facts.credential).chain(&facts.ancestors);
    ancestors.chain(chain.flat_map(|record| record.roles()).map(slot_of_role))
}

/// Spreads a name over the table, eight bytes a step. The hash is not keyed: whoever chooses ids that collide only makes some facts
/// be read again.
fn mix(kind: u64, name: &str) -> u64 {
    /// An odd number with well-spread bits (the 64-bit golden ratio).
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    // Both halves of the product: the low half alone would not depend on the high bytes of a step.
    let fold = |hash: u64| {
        let (low, high) = hash.carrying_mul(SPREAD, 0);
        high ^ low
    };
    let (chunks, rest) = name.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    chunks
        .iter()
        .chain([&last])
        .fold(fold(kind), |hash, chunk| fold(hash ^ u64::from_le_bytes(*chunk)).rotate_left(29))
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::{facts_of, sample};
    use super::*;
    use crate::base::principal::Reading;

    fn facts(position: u64) -> Facts {
        Facts {
            reading: Reading::new(BootMillis(0), Position(position)),
            ..facts_of(sample())
        }
    }

    /// Whether facts are current, by their names and by the slots that are remembered of them.
    fn is_current(positions: &Positions, facts: &Facts) -> bool {
        let current = positions.is_current(facts);
        assert_eq!(positions.contains_all(&Slots::of(facts), facts.position()), current);
        current
    }

    fn credential_event(position: u64) -> Event {
        Event {
            position: Position(position),
            at: None,
            subject: super::super::change::credential_event(&sample()),
        }
    }

    fn tenant_event(position: u64, id: &str) -> Event {
        Event {
            position: Position(position),
            at: None,
            subject: EventSubject::Tenant {
                id: TenantId::parse(id).unwrap(),
            },
        }
    }

    #[test]
    fn facts_are_current_from_the_position_of_the_newest_event_on() {
        let positions = Positions::default();
        assert!(is_current(&positions, &facts(0)));
        positions.apply(&credential_event(7));
        assert!(!is_current(&positions, &facts(6)));
        assert!(is_current(&positions, &facts(7)));
        positions.apply(&tenant_event(9, "acme"));
        assert!(!is_current(&positions, &facts(8)));
        assert!(is_current(&positions, &facts(9)));
        positions.apply(&credential_event(3));
        assert!(is_current(&positions, &facts(9)), "an event told twice or late changes nothing");
        assert_eq!(positions.newest(), Position(9));
    }

    #[test]
    fn events_of_others_do_not_touch_facts() {
        let positions = Positions::default();
        positions.apply(&tenant_event(9, "globex"));
        assert!(is_current(&positions, &facts(1)));
    }

    #[test]
    fn an_event_of_an_ancestor_or_of_a_role_ends_facts() {
        let mut facts = facts(6);
        let mut parent = sample();
        parent.id = CredentialId::parse("parent").unwrap();
        let role = RoleId::of_name("viewer");
        facts.credential.extras_mut().roles.push(role.clone());
        facts.ancestors.push(parent.clone());
        for subject in [super::super::change::credential_event(&parent), EventSubject::Role { id: role }] {
            let positions = Positions::default();
            assert!(is_current(&positions, &facts));
            positions.apply(&Event {
                position: Position(7),
                at: None,
                subject,
            });
            assert!(!is_current(&positions, &facts));
            facts.reading = Reading::new(BootMillis(0), Position(7));
            assert!(is_current(&positions, &facts));
            facts.reading = Reading::new(BootMillis(0), Position(6));
        }
    }

    #[test]
    fn a_new_tenant_ends_the_absence_of_its_own_fingerprint() {
        let positions = Positions::default();
        let fingerprint = Fingerprint::of_tenant(&TenantId::parse("acme").unwrap());
        assert!(positions.is_still_absent(&fingerprint, Position(3)));
        positions.apply(&tenant_event(4, "acme"));
        assert!(!positions.is_still_absent(&fingerprint, Position(3)));
        assert!(positions.is_still_absent(&fingerprint, Position(4)));
    }

    #[test]
    fn an_event_ends_the_absence_of_every_fingerprint_it_names() {
        let positions = Positions::default();
        positions.apply(&credential_event(4));
        for fingerprint in super::super::change::fingerprints(&sample()) {
            assert!(!positions.is_still_absent(&fingerprint, Position(3)));
            assert!(positions.is_still_absent(&fingerprint, Position(4)));
        }
        assert!(positions.is_still_absent(&Fingerprint::from_bytes([9; 32]), Position(0)));
    }

    #[test]
    fn a_gap_ends_everything_read_before_it() {
        let positions = Positions::default();
        positions.forget_before(Position(10));
        assert!(!is_current(&positions, &facts(9)));
        assert!(is_current(&positions, &facts(10)));
        assert!(!positions.is_still_absent(&Fingerprint::from_bytes([9; 32]), Position(9)));
        positions.forget_before(Position(5));
        assert!(!is_current(&positions, &facts(9)), "the floor never sinks");
    }

    #[test]
    fn names_spread_over_the_table() {
        for shape in ["", "t-", "good-", "tenant-", "key_0190b6f2-", "a-tenant-with-a-long-name-"] {
            for kind in [1, 2, 3] {
                let mask = EVENT_SLOTS as u64 - 1;
                let mut slots: Vec<u64> = (0..10_000).map(|i| mix(kind, &format!("{shape}{i}")) & mask).collect();
                slots.sort_unstable();
                slots.dedup();
                // A random function would give 9,270.
                assert!(slots.len() > 9_000, "{shape}: only {} slots for 10,000 names", slots.len());
            }
        }
    }
}
