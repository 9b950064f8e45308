//! Quotas of scarce resources: no caller holds more than a share, and a resource whose client reads nothing goes to a
//! request that waits for it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::network::ClientNetwork;

/// While others wait, a client may read nothing of its response for this long. A phone that loses packets sends them
/// again within some hundred milliseconds. One that changes networks is silent for seconds, and is not cut off as long
/// as no request waits.
const GRACE: Duration = Duration::from_secs(1);

/// The address in a slot that is free.
const FREE_SLOT: u64 = u64::MAX;

/// The caller of a request, as far as quotas are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaKey {
    network: u64,
    credential: Option<NonZeroU64>,
}

impl QuotaKey {
    /// The key of an address: an IPv4 address, or an IPv6 /64, the smallest network that a host is given.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self {
            network: ClientNetwork::of(address).bits(),
            credential: None,
        }
    }

    /// The address, as a number.
    pub(super) const fn network(self) -> u64 {
        self.network
    }

    /// Adds a credential to the key. `mark` tells credentials apart.
    #[must_use]
    pub const fn with_credential(self, mark: u64) -> Self {
        Self {
            credential: NonZeroU64::new(mark),
            ..self
        }
    }
}

/// Most that one caller may hold, in percent of the total. 100 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaShares {
    pub address: u32,
    pub credential: u32,
}

impl QuotaShares {
    #[cfg(test)]
    pub const ALL: Self = Self {
        address: 100,
        credential: 100,
    };

    fn of(percent: u32, total: usize) -> usize {
        let percent = usize::try_from(percent).unwrap_or(100);
        total.saturating_mul(percent).div_ceil(100).max(1)
    }
}

/// A request that holds a slot, as far as it can be made to give it back.
pub trait QuotaHolder {
    /// Since when its client has read nothing although data is waiting for it.
    fn stalled_since(&self) -> Option<Instant>;
    fn displace(&self);
}

/// Which of its quotas a caller has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceededQuota {
    Address,
    Credential,
}

/// A slot that is in use. [`CallerQuota::release`] gives it back.
#[derive(Debug, PartialEq, Eq)]
pub struct QuotaSlot(usize);

/// The callers that use the `total` slots of one resource. A request costs one slot that is written and cleared. The
/// others are counted only when as many slots are in use as one share allows.
pub struct CallerQuota {
    most_of_address: usize,
    most_of_credential: usize,
    taken: Cell<usize>,
    slots: RefCell<QuotaSlots>,
}

/// The columns of a table, so that counting reads only numbers. It has as many rows as slots were ever in use at once.
#[derive(Default)]
struct QuotaSlots {
    addresses: Vec<u64>,
    credentials: Vec<Option<NonZeroU64>>,
    holders: Vec<Option<Rc<dyn QuotaHolder>>>,
    free: Vec<usize>,
}

impl CallerQuota {
    #[must_use]
    pub fn new(total: usize, shares: QuotaShares) -> Self {
        Self {
            most_of_address: QuotaShares::of(shares.address, total),
            most_of_credential: QuotaShares::of(shares.credential, total),
            taken: Cell::new(0),
            slots: RefCell::default(),
        }
    }

    pub fn acquire(&self, key: QuotaKey, holder: &Rc<dyn QuotaHolder>) -> QuotaSlot {
        self.taken.set(self.taken.get() + 1);
        let slots = &mut *self.slots.borrow_mut();
        let held = Some(Rc::clone(holder));
        if let Some(free) = slots.free.pop()
            && let (Some(address), Some(credential), Some(holder)) = (
                slots.addresses.get_mut(free),
                slots.credentials.get_mut(free),
                slots.holders.get_mut(free),
            )
        {
            (*address, *credential, *holder) = (key.network, key.credential, held);
            return QuotaSlot(free);
        }
        slots.addresses.push(key.network);
        slots.credentials.push(key.credential);
        slots.holders.push(held);
        QuotaSlot(slots.holders.len() - 1)
    }

    pub fn release(&self, QuotaSlot(at): QuotaSlot) {
        self.taken.set(self.taken.get().saturating_sub(1));
        let slots = &mut *self.slots.borrow_mut();
        if let (Some(address), Some(credential), Some(holder)) = (
            slots.addresses.get_mut(at),
            slots.credentials.get_mut(at),
            slots.holders.get_mut(at),
        ) {
            (*address, *credential, *holder) = (FREE_SLOT, None, None);
            slots.free.push(at);
        }
    }

    /// Which quota this caller has used up, if any.
    #[must_use]
    pub fn exceeded(&self, key: QuotaKey) -> Option<ExceededQuota> {
        let taken = self.taken.get();
        if taken < self.most_of_address.min(self.most_of_credential) {
            return None;
        }
        let slots = self.slots.borrow();
        let count = |held: usize, most: usize| taken >= most && held >= most;
        if key.credential.is_some()
            && taken >= self.most_of_credential
            && count(
                slots.credentials.iter().filter(|c| **c == key.credential).count(),
                self.most_of_credential,
            )
        {
            return Some(ExceededQuota::Credential);
        }
        if taken >= self.most_of_address {
            let held = slots.addresses.iter().filter(|a| **a == key.network).count();
            return count(held, self.most_of_address).then_some(ExceededQuota::Address);
        }
        None
    }

    /// How many slots the caller's address uses.
    pub(super) fn held_by_address(&self, key: QuotaKey) -> usize {
        let slots = self.slots.borrow();
        slots.addresses.iter().filter(|a| **a == key.network).count()
    }

    /// The request that has been stalled for longest, if any is stalled for longer than the grace time. For a caller
    /// that has used up a quota, only requests that count against the same quota.
    pub fn longest_stalled(&self, key: QuotaKey, now: Instant) -> Option<(Instant, Rc<dyn QuotaHolder>)> {
        let exceeded = self.exceeded(key);
        let slots = self.slots.borrow();
        let keys = slots.addresses.iter().zip(&slots.credentials);
        let fitting = keys.zip(&slots.holders).filter(|((address, credential), _)| match exceeded {
            None => true,
            Some(ExceededQuota::Address) => **address == key.network,
            Some(ExceededQuota::Credential) => **credential == key.credential,
        });
        let stalled = fitting.filter_map(|(_, holder)| {
            let holder = holder.as_ref()?;
            let since = holder.stalled_since().filter(|since| is_stalled(*since, now))?;
            Some((since, holder))
        });
        let longest = stalled.min_by_key(|(since, _)| *since);
        longest.map(|(since, holder)| (since, Rc::clone(holder)))
    }
}

/// Whether a client that has read nothing since then may be cut off for a request that waits.
#[must_use]
pub fn is_stalled(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= GRACE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    #[derive(Default)]
    struct Client {
        stalled: Cell<Option<Instant>>,
        displaced: Cell<bool>,
    }

    impl QuotaHolder for Client {
        fn stalled_since(&self) -> Option<Instant> {
            self.stalled.get()
        }

        fn displace(&self) {
            self.displaced.set(true);
        }
    }

    fn key(last: u8, mark: u64) -> QuotaKey {
        QuotaKey::at(IpAddr::from([192, 0, 2, last])).with_credential(mark)
    }

    fn holder() -> Rc<dyn QuotaHolder> {
        Rc::<Client>::default()
    }

    #[test]
    fn a_caller_is_an_ipv4_address_or_an_ipv6_network() {
        let at = |text: &str| QuotaKey::at(text.parse().unwrap());
        assert_eq!(at("192.0.2.1"), at("::ffff:192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8:0:1::1"), at("2001:db8:0:1:ffff::2"));
        assert_ne!(at("2001:db8:0:1::1"), at("2001:db8:0:2::1"));
    }

    #[test]
    fn an_address_and_a_credential_have_no_more_than_their_shares() {
        let shares = QuotaShares {
            address: 75,
            credential: 50,
        };
        let quota = CallerQuota::new(8, shares);
        let mut tickets: Vec<_> = (0..4).map(|_| quota.acquire(key(1, 7), &holder())).collect();
        assert_eq!(quota.exceeded(key(1, 7)), Some(ExceededQuota::Credential));
        assert_eq!(quota.exceeded(key(2, 7)), Some(ExceededQuota::Credential), "wherever it comes from");
        assert_eq!(quota.exceeded(key(1, 8)), None, "the address has more than one credential");
        tickets.extend((0..2).map(|n| quota.acquire(key(1, 100 + n), &holder())));
        assert_eq!(quota.exceeded(key(1, 8)), Some(ExceededQuota::Address));
        assert_eq!(
            quota.exceeded(QuotaKey::at(IpAddr::from([192, 0, 2, 1]))),
            Some(ExceededQuota::Address)
        );
        assert_eq!(quota.exceeded(key(2, 8)), None, "another address has not used up its share");
        quota.release(tickets.remove(0));
        assert_eq!(quota.exceeded(key(1, 7)), None);
        let again = quota.acquire(key(1, 7), &holder());
        assert_eq!(again, QuotaSlot(0), "places are used again");
    }

    #[test]
    fn without_shares_one_caller_may_hold_everything() {
        let quota = CallerQuota::new(2, QuotaShares::ALL);
        let _first = quota.acquire(key(1, 7), &holder());
        assert_eq!(quota.exceeded(key(1, 7)), None);
        let alone = CallerQuota::new(1, QuotaShares { address: 1, credential: 1 });
        assert_eq!(alone.exceeded(key(1, 7)), None, "a share is one place at least");
    }

    #[test]
    fn the_longest_stalled_is_found_and_none_that_stalls_for_a_moment() {
        let now = clock::instant();
        let after = |millis| now + Duration::from_millis(millis);
        let quota = CallerQuota::new(4, QuotaShares::ALL);
        let clients: Vec<_> = [Some(200), Some(100), None, Some(1_500)]
            .into_iter()
            .map(|at| {
                let client = Rc::<Client>::default();
                client.stalled.set(at.map(after));
                client
            })
            .collect();
        for client in &clients {
            let holder: Rc<dyn QuotaHolder> = client.clone();
            quota.acquire(key(1, 7), &holder);
        }
        assert!(quota.longest_stalled(key(2, 8), after(1_099)).is_none());
        let (since, found) = quota.longest_stalled(key(2, 8), after(9_000)).unwrap();
        found.displace();
        assert_eq!(since, after(100));
        assert_eq!(
            clients.iter().map(|c| c.displaced.get()).collect::<Vec<_>>(),
            [false, true, false, false]
        );
    }

    #[test]
    fn who_has_used_up_its_share_takes_from_itself_only() {
        let now = clock::instant();
        let later = now + Duration::from_secs(9);
        let shares = QuotaShares {
            address: 50,
            credential: 100,
        };
        let quota = CallerQuota::new(4, shares);
        let stalled = |millis: u64| -> Rc<dyn QuotaHolder> {
            let client = Rc::<Client>::default();
            client.stalled.set(Some(now + Duration::from_millis(millis)));
            client
        };
        quota.acquire(key(1, 7), &stalled(0));
        quota.acquire(key(2, 8), &stalled(10));
        quota.acquire(key(2, 8), &stalled(20));
        let since = |who| quota.longest_stalled(who, later).map(|(since, _)| since - now);
        assert_eq!(since(key(2, 9)), Some(Duration::from_millis(10)));
        assert_eq!(since(key(3, 9)), Some(Duration::ZERO), "anybody's");
    }
}
