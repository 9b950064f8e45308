//! Bounds the guessing of passwords, by address and by account, and never locks the holder of an account out of a
//! network where the holder has logged in before.
//!
//! Attempts are counted by network: an IPv4 address, or the /64 of an IPv6 address, which one customer has as a
//! whole.
//! - **Account and network** together: ten typing errors, or ten guesses.
//! - **Network**, for all accounts: an attacker who tries one password on many accounts.
//! - **Account**, from all networks: an attacker who guesses from thousands of addresses. This limit alone would let
//!   anybody who knows an e-mail address lock the holder out. So the throttle remembers the networks from which the
//!   right password came ([`known_networks`]). Such a network is limited by its own count for this account and by
//!   nothing else, and its attempts do not count towards the limit of the account. The price: while the limit of the
//!   account is reached, the holder cannot log in from a new network.
//!
//! A password that a logged-in session must prove again is counted separately. So log-ins of strangers never keep a
//! logged-in holder from changing the password.
//!
//! All counts belong to this process and are lost with it.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::snapshot::LogInSettings;

use crate::base::network::ClientNetwork;

use counts::{AttemptCounts, Charge, CountKey};
use known_networks::KnownNetworks;

mod counts;
mod known_networks;
#[cfg(test)]
mod tests;

/// Shortest time between two log lines about accounts under attack. The metrics count every refusal; one line is
/// alarm enough.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Counts attempts at passwords. All workers share it; each attempt asks it once.
#[derive(Debug)]
pub struct Throttle {
    window: Duration,
    per_account_and_address: u32,
    per_address: u32,
    per_account: u32,
    table: Mutex<ThrottleTable>,
}

#[derive(Debug)]
struct ThrottleTable {
    counts: AttemptCounts,
    known: KnownNetworks,
    /// When the last log line about an account under attack was written.
    logged_at: BootMillis,
}

/// Too many failed attempts; another attempt makes sense after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAttempts {
    pub retry_after: Duration,
}

/// How a caller attempts a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    /// By logging in, which anybody can do.
    LogIn,
    /// From a session of the account, to confirm a change.
    Session,
}

/// One attempt. It counts as failed until the caller reports another outcome, so a client that leaves early has used
/// it up.
#[must_use]
#[derive(Debug)]
pub struct PasswordAttempt {
    account: Fingerprint,
    network: ClientNetwork,
    charged: Charged,
}

#[derive(Debug)]
enum Charged {
    /// Counted for a known network, in the count that began at this time.
    Known(BootMillis),
    /// Counted in the table. The count of account and network is the first one.
    Counts(Vec<Charge>),
}

impl PasswordAttempt {
    /// Whether the right password of this account came from this network before.
    #[must_use]
    pub const fn is_of_known_network(&self) -> bool {
        matches!(self.charged, Charged::Known(_))
    }
}

impl Throttle {
    /// A throttle with these limits that has counted nothing yet.
    #[must_use]
    pub fn new(settings: &LogInSettings) -> Self {
        Self::over(settings, AttemptCounts::new(settings.window))
    }

    fn over(settings: &LogInSettings, counts: AttemptCounts) -> Self {
        Self {
            window: settings.window,
            per_account_and_address: settings.tries_per_account_and_address,
            per_address: settings.tries_per_address,
            per_account: settings.tries_per_account,
            table: Mutex::new(ThrottleTable {
                counts,
                known: KnownNetworks::new(settings.known_for),
                logged_at: BootMillis::default(),
            }),
        }
    }

    /// Counts an attempt as failed before the password is checked, so that a thousand attempts at once do not all
    /// pass. `account` is the fingerprint of the login name as typed, whether or not an account has it.
    ///
    /// # Errors
    /// [`TooManyAttempts`]: nothing is counted, and the password must not be checked.
    pub fn attempt(
        &self,
        door: AttemptKind,
        account: Fingerprint,
        address: IpAddr,
        now: BootMillis,
    ) -> Result<PasswordAttempt, TooManyAttempts> {
        let network = ClientNetwork::of(address);
        let mut table = self.lock();
        let ThrottleTable { counts, known, logged_at } = &mut *table;
        let known = known.find(account, network, now).filter(|_| door == AttemptKind::LogIn);
        let charged = if let Some(tries) = known {
            refuse(tries.wait(self.per_account_and_address, self.window, now))?;
            Charged::Known(tries.add(self.window, now))
        } else {
            let limits = self.limits(door, account, network);
            let mut longest = None;
            for (counted, limit) in &limits {
                let wait = counts.wait(*counted, *limit, now);
                if wait.is_some() && matches!(counted, CountKey::Account(_)) && now.since(*logged_at) >= LOG_INTERVAL {
                    *logged_at = now;
                    tracing::warn!(
                        alarm = "log_in_ceiling",
                        ?account,
                        "an account has had all its tries from unknown addresses"
                    );
                }
                longest = longest.max(wait);
            }
            refuse(longest)?;
            Charged::Counts(limits.iter().map(|(counted, _)| counts.charge(*counted, now)).collect())
        };
        Ok(PasswordAttempt { account, network, charged })
    }

    /// The password could not be checked: takes back this one attempt.
    pub fn withdraw(&self, attempt: PasswordAttempt, now: BootMillis) {
        let mut table = self.lock();
        let ThrottleTable { counts, known, .. } = &mut *table;
        match attempt.charged {
            Charged::Known(began) => {
                if let Some(tries) = known.find(attempt.account, attempt.network, now) {
                    tries.take_back(began);
                }
            }
            Charged::Counts(charges) => charges.into_iter().for_each(|charge| counts.take_back(charge)),
        }
    }

    /// The password was right: clears the failures of this account from this network, takes this attempt back from
    /// the other counts, and remembers the network.
    pub fn succeed(&self, attempt: PasswordAttempt, now: BootMillis) {
        let mut table = self.lock();
        let ThrottleTable { counts, known, .. } = &mut *table;
        if let Charged::Counts(charges) = attempt.charged {
            let mut charges = charges.into_iter();
            if let Some(pair) = charges.next() {
                counts.forget(pair);
            }
            charges.for_each(|charge| counts.take_back(charge));
        }
        known.remember(attempt.account, attempt.network, now);
    }

    /// The counts that an attempt from an unknown network goes to, each with its limit.
    fn limits(&self, door: AttemptKind, account: Fingerprint, network: ClientNetwork) -> Vec<(CountKey, u32)> {
        match door {
            AttemptKind::LogIn => vec![
                (CountKey::Pair(account, network), self.per_account_and_address),
                (CountKey::Network(network), self.per_address),
                (CountKey::Account(account), self.per_account),
            ],
            AttemptKind::Session => vec![
                (CountKey::SessionPair(account, network), self.per_account_and_address),
                (CountKey::SessionAccount(account), self.per_account),
            ],
        }
    }

    fn lock(&self) -> MutexGuard<'_, ThrottleTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(wait: Option<Duration>) -> Result<(), TooManyAttempts> {
    wait.map_or(Ok(()), |retry_after| Err(TooManyAttempts { retry_after }))
}
