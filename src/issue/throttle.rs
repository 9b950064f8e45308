//! Who may try another password: counted by address, so that a stranger can slow down himself and
//! nobody else.
//!
//! Two counts, both by the client's address (IPv6 by /64, which one customer has whole): wrong
//! passwords for one account, and wrong passwords for any account. There is deliberately none by
//! account alone: whoever knows an e-mail address could then keep its holder out. Somebody with
//! thousands of addresses is slowed down by the price of Argon2 and the places for it
//! ([`super::password::Passwords`]), and by whatever limit the route has.
//!
//! The counts are this process's own, and lost with it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;

/// Failures are forgotten after this: a person who mistypes ten times fetches the password manager.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Wrong passwords for one account from one address within the window.
const PER_ACCOUNT: u32 = 10;
/// Wrong passwords for any account from one address within the window: an office behind one address
/// with fifty people who each mistype twice.
const PER_ADDRESS: u32 = 100;
/// A full table is swept at most so often: a sweep looks at all of it, and must not be the price of
/// each attempt.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Entries of the table, 4 MiB: two for each pair of account and address that failed lately.
const MAX_ENTRIES: usize = 65_536;

/// Counts failed log-ins. Shared by all workers; asked once for each log-in, never otherwise.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    counts: HashMap<Counted, Count>,
    /// When what had run out was last thrown away.
    swept_at: BootMillis,
}

/// Too many failures; tries make sense again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// How long to wait.
    pub retry_after: Duration,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    Account(Fingerprint, u64),
    Address(u64),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    began: BootMillis,
}

impl Throttle {
    /// Counts an attempt as failed before it is made, so that a thousand at once do not all pass;
    /// [`forgive`](Self::forgive) takes it back. `account` is the fingerprint of what was typed,
    /// whether it exists or not.
    ///
    /// # Errors
    /// [`TooMany`]; then the attempt is not counted, and the password must not be looked at.
    pub fn attempt(&self, account: Fingerprint, address: IpAddr, now: BootMillis) -> Result<(), TooMany> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Table { counts, swept_at } = &mut *table;
        let network = network_of(address);
        let limits = [
            (Counted::Account(account, network), PER_ACCOUNT),
            (Counted::Address(network), PER_ADDRESS),
        ];
        for (counted, limit) in &limits {
            if let Some(count) = counts.get(counted).filter(|count| count.is_running(now))
                && count.failures >= *limit
            {
                return Err(TooMany {
                    retry_after: WINDOW.saturating_sub(now.since(count.began)),
                });
            }
        }
        if counts.len() + limits.len() > MAX_ENTRIES && now.since(*swept_at) >= SWEEP_INTERVAL {
            *swept_at = now;
            counts.retain(|_, count| count.is_running(now));
        }
        for (counted, _) in limits {
            // A full table of running counts takes 32,768 addresses that fail at the same time; what
            // is new then goes uncounted, and the places for hashes are what is left.
            let room = counts.len() < MAX_ENTRIES;
            match counts.get_mut(&counted) {
                Some(count) if count.is_running(now) => count.failures = count.failures.saturating_add(1),
                None if !room => {}
                Some(_) | None => {
                    counts.insert(counted, Count { failures: 1, began: now });
                }
            }
        }
        Ok(())
    }

    /// The password was right (or was never looked at): takes the attempt back, and forgets this
    /// address's failures with this account.
    pub fn forgive(&self, account: Fingerprint, address: IpAddr) {
        let counts = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).counts;
        let network = network_of(address);
        counts.remove(&Counted::Account(account, network));
        if let Some(count) = counts.get_mut(&Counted::Address(network)) {
            count.failures = count.failures.saturating_sub(1);
        }
    }
}

impl Count {
    fn is_running(&self, now: BootMillis) -> bool {
        now.since(self.began) < WINDOW
    }
}

/// An IPv4 address, or the /64 of an IPv6 one; an IPv4 address written as IPv6 is itself.
fn network_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        // The upper half; no global IPv6 network collides with an IPv4 address, whose bits are below 2^32.
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootMillis = BootMillis(1_000_000);

    fn account(n: u8) -> Fingerprint {
        Fingerprint::from_bytes([n; 32])
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(throttle: &Throttle, n: u8, from: &str, times: u32) {
        for _ in 0..times {
            throttle.attempt(account(n), address(from), NOW).unwrap();
        }
    }

    #[test]
    fn ten_wrong_passwords_are_enough_for_a_while() {
        let throttle = Throttle::default();
        fail(&throttle, 1, "192.0.2.1", PER_ACCOUNT);
        let refused = throttle.attempt(account(1), address("192.0.2.1"), NOW).unwrap_err();
        assert_eq!(refused.retry_after, WINDOW);
        let later = NOW.plus(WINDOW - Duration::from_secs(1));
        let refused = throttle.attempt(account(1), address("192.0.2.1"), later).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(1));
        assert_eq!(throttle.attempt(account(1), address("192.0.2.1"), NOW.plus(WINDOW)), Ok(()));
    }

    #[test]
    fn a_stranger_cannot_lock_the_holder_out() {
        let throttle = Throttle::default();
        fail(&throttle, 1, "192.0.2.1", PER_ACCOUNT);
        assert!(throttle.attempt(account(1), address("192.0.2.1"), NOW).is_err());
        assert_eq!(
            throttle.attempt(account(1), address("192.0.2.2"), NOW),
            Ok(()),
            "the holder, elsewhere"
        );
        assert_eq!(
            throttle.attempt(account(2), address("192.0.2.1"), NOW),
            Ok(()),
            "somebody else behind that address"
        );
    }

    #[test]
    fn an_address_that_tries_every_account_is_stopped() {
        let throttle = Throttle::default();
        for n in 0..10 {
            fail(&throttle, n, "192.0.2.1", 10);
        }
        assert!(throttle.attempt(account(200), address("192.0.2.1"), NOW).is_err());
        assert_eq!(throttle.attempt(account(200), address("192.0.2.9"), NOW), Ok(()));
    }

    #[test]
    fn a_right_password_clears_the_count_of_its_account_only() {
        let throttle = Throttle::default();
        fail(&throttle, 1, "192.0.2.1", PER_ACCOUNT - 1);
        fail(&throttle, 2, "192.0.2.1", PER_ACCOUNT);
        fail(&throttle, 1, "192.0.2.1", 1);
        throttle.forgive(account(1), address("192.0.2.1"));
        fail(&throttle, 1, "192.0.2.1", PER_ACCOUNT);
        assert!(throttle.attempt(account(2), address("192.0.2.1"), NOW).is_err());
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        let throttle = Throttle::default();
        for i in 0..PER_ACCOUNT {
            fail(&throttle, 1, &format!("2001:db8:0:1::{i}"), 1);
        }
        assert!(throttle.attempt(account(1), address("2001:db8:0:1:ffff::1"), NOW).is_err());
        assert_eq!(throttle.attempt(account(1), address("2001:db8:0:2::1"), NOW), Ok(()));
        fail(&throttle, 3, "192.0.2.1", PER_ACCOUNT);
        assert!(
            throttle.attempt(account(3), address("::ffff:192.0.2.1"), NOW).is_err(),
            "one host, two spellings"
        );
    }

    #[test]
    fn the_table_is_bounded() {
        let throttle = Throttle::default();
        let total = u32::try_from(MAX_ENTRIES).unwrap() + 10;
        for i in 0..total {
            let from = IpAddr::V4(std::net::Ipv4Addr::from_bits(i));
            throttle.attempt(account(1), from, NOW).unwrap();
        }
        assert!(throttle.0.lock().unwrap().counts.len() <= MAX_ENTRIES);
        throttle.attempt(account(1), address("203.0.113.1"), NOW.plus(WINDOW)).unwrap();
        assert_eq!(throttle.0.lock().unwrap().counts.len(), 2, "what has run out is forgotten");
    }
}
