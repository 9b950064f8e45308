//! Caps the look-ups that may be guesses, so that one address that guesses does not use up the look-ups of others.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::network::ClientNetwork;
use crate::decide::rate::{MAX_COUNT, Rate, RateVerdict, Window};

use super::log_throttle::LogThrottle;

/// Pause between two log lines about the same flood.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The period in which look-ups are counted.
const SECOND: Duration = Duration::from_secs(1);

/// Slots in which addresses are counted, 200 KiB in all. With more addresses than slots, some share a slot, and together have
/// what one address would have alone. The digest that assigns slots is keyed, so that nobody can choose whose slot to use up.
const ADDRESS_SLOTS: usize = 1_024;

/// Caps the look-ups, in any second, of credentials that may be guesses and were not found lately.
///
/// The first `per_second` look-ups are admitted, whatever their address. Beyond that, as many again are admitted of addresses
/// that have had less than their share: `per_second` divided by the number of addresses that asked in this second or the one
/// before. So an address that guesses leaves room for others. Each gateway counts for itself. A look-up over the cap is
/// answered with 503 and never with 401, since the gateway does not know whether the credential exists.
pub(super) struct GuessCap {
    per_second: u32,
    /// `None` when `per_second` is 0: then nobody is admitted.
    rates: Option<Rates>,
    digest: RandomState,
    counts: Mutex<Counts>,
    log: LogThrottle,
}

#[derive(Clone, Copy)]
struct Rates {
    /// `per_second`.
    first: Rate,
    /// Twice `per_second`.
    all: Rate,
}

struct Counts {
    all: Window,
    slots: Vec<AddressSlot>,
    active: ActiveSlots,
}

#[derive(Clone, Default)]
struct AddressSlot {
    window: Window,
    /// The second in which an address of this slot asked last, from 1.
    asked_in: u64,
}

/// How many slots had an address that asked in this second, and in the one before.
#[derive(Default)]
struct ActiveSlots {
    second: u64,
    now: u32,
    before: u32,
}

impl ActiveSlots {
    /// Counts an address that asks now, once for each slot and second; answers the number of active slots.
    fn count(&mut self, slot: &mut AddressSlot, now: BootMillis) -> u32 {
        // Second 0 means that nobody has asked yet.
        let second = now.0 / 1_000 + 1;
        if second != self.second {
            self.before = if second == self.second + 1 { self.now } else { 0 };
            (self.second, self.now) = (second, 0);
        }
        if slot.asked_in != second {
            slot.asked_in = second;
            self.now += 1;
        }
        self.now.max(self.before).max(1)
    }
}

impl GuessCap {
    pub(super) fn new(per_second: u32) -> Self {
        let rate = |count: u32| Rate::new(count.min(MAX_COUNT), SECOND).ok();
        Self {
            per_second,
            rates: rate(per_second)
                .zip(rate(per_second.saturating_mul(2)))
                .map(|(first, all)| Rates { first, all }),
            digest: RandomState::new(),
            counts: Mutex::new(Counts {
                all: Window::default(),
                slots: vec![AddressSlot::default(); ADDRESS_SLOTS],
                active: ActiveSlots::default(),
            }),
            log: LogThrottle::default(),
        }
    }

    /// Whether one more look-up of this address is admitted now.
    pub(super) fn admits(&self, address: IpAddr, now: BootMillis) -> bool {
        let admitted = self.rates.is_some_and(|rates| self.takes(rates, address, now));
        if !admitted && self.log.admits(now, LOG_INTERVAL) {
            tracing::warn!(
                alarm = "unknown_lookups",
                per_second = self.per_second,
                "callers present more unknown credentials than the store may be asked for; the rest gets 503"
            );
        }
        admitted
    }

    fn takes(&self, rates: Rates, address: IpAddr, now: BootMillis) -> bool {
        let digest = self.digest.hash_one(ClientNetwork::of(address).bits());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { all, slots, active } = &mut *counts;
        let at = usize::try_from(digest % ADDRESS_SLOTS as u64).unwrap_or(0);
        let Some(slot) = slots.get_mut(at) else { return false };
        let share = (self.per_second / active.count(slot, now)).max(1);
        let first = all.used(rates.first, now) < self.per_second;
        let takes =
            (first || slot.window.used(rates.first, now) < share) && matches!(all.admit(rates.all, now), RateVerdict::Admitted { .. });
        if takes {
            let _ = slot.window.admit(rates.all, now);
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    /// How many of so many look-ups of one address are admitted at a time.
    fn admitted_of(cap: &GuessCap, number: u32, at: u64, asked: usize) -> usize {
        (0..asked).filter(|_| cap.admits(address(number), BootMillis(at))).count()
    }

    fn admitted(cap: &GuessCap, at: u64, asked: usize) -> usize {
        admitted_of(cap, 1, at, asked)
    }

    #[test]
    fn a_second_admits_its_number_and_no_more() {
        let cap = GuessCap::new(100);
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
        let cap = GuessCap::new(50);
        let admitted: Vec<u64> = (0..60_000)
            .step_by(7)
            .filter(|at| cap.admits(address(1), BootMillis(*at)))
            .collect();
        for (i, at) in admitted.iter().enumerate() {
            let second = admitted[i..].iter().take_while(|later| **later < at + 1_000).count();
            assert!(second <= 50, "{second} from {at} on");
        }
        assert!(admitted.len() >= 50 * 54, "{}: of 60 s nine tenths are used", admitted.len());
    }

    #[test]
    fn whoever_guesses_leaves_their_part_to_others() {
        let cap = GuessCap::new(100);
        assert_eq!(admitted_of(&cap, 1, 5_000, 1_000), 100, "all of it while nobody else asks");
        assert_eq!(admitted_of(&cap, 2, 5_010, 30), 30);
        assert_eq!(admitted_of(&cap, 2, 5_020, 1_000), 20, "half of it by two addresses");
        assert_eq!(admitted_of(&cap, 1, 5_030, 1_000), 0, "nothing more for the first");
        assert_eq!(admitted_of(&cap, 3, 5_040, 1_000), 33, "a third of it by three");
    }

    #[test]
    fn a_flood_that_goes_on_never_takes_what_another_address_needs() {
        let cap = GuessCap::new(100);
        let (mut served, mut guessed) = (0, 0);
        // Every millisecond a guess, every 25 ms somebody who has a key: 40 a second, and the half is 50.
        for at in 1..=30_000 {
            guessed += usize::from(cap.admits(address(1), BootMillis(at)));
            if at % 25 == 0 {
                served += usize::from(cap.admits(address(2), BootMillis(at)));
            }
        }
        assert_eq!(served, 1_200);
        assert!(guessed <= 30 * 100 + 100, "{guessed}");
    }

    #[test]
    fn however_many_addresses_guess_no_second_admits_more_than_twice_the_number() {
        let cap = GuessCap::new(100);
        let mut admitted: Vec<u64> = Vec::new();
        for at in 1..=5_000_u64 {
            for number in 0..20 {
                if cap.admits(address(u32::try_from(at).unwrap() * 20 + number), BootMillis(at)) {
                    admitted.push(at);
                }
            }
        }
        for (i, at) in admitted.iter().enumerate() {
            let second = admitted[i..].iter().take_while(|later| **later < at + 1_000).count();
            assert!(second <= 200, "{second} from {at} on");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let cap = GuessCap::new(10);
        let of = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        let admitted = (0..100).filter(|last| cap.admits(of(*last), BootMillis(5_000))).count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn a_number_of_nought_admits_nobody() {
        assert_eq!(admitted(&GuessCap::new(0), 5_000, 10), 0);
    }

    #[test]
    fn a_clock_that_does_not_move_admits_nothing_more() {
        let cap = GuessCap::new(2);
        assert_eq!(admitted(&cap, 7, 5), 2);
        assert_eq!(admitted(&cap, 3, 5), 0);
    }
}
