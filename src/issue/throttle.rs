//! Who may try another password: bounded by address and by account, and never closed to the holder of an
//! account where he has logged in before.
//!
//! Tries are counted by network: an IPv4 address, or the /64 of an IPv6 one, which one customer has whole.
//! - **Account and network**: ten typing errors, or ten guesses.
//! - **Network**, to any account: somebody who tries one password on many accounts.
//! - **Account**, from everywhere: somebody who guesses from thousands of addresses. Alone it would let
//!   anybody who knows an e-mail address keep its holder out. So networks from which the right password
//!   came are remembered ([`known_networks`]): they are bound by their own count for this account and by nothing
//!   else, and their tries bring the ceiling no nearer. What the ceiling costs: while it is reached, the
//!   holder cannot log in from a network where he never did before.
//!
//! Who proves a password again from within a session is counted apart, so that no stranger's log-ins keep
//! a holder who is logged in from changing it.
//!
//! All of it is this process's own, and lost with it.

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

/// Pause between two log lines about accounts that are guessed at: refusals are counted, and one line is as
/// much an alarm as a thousand.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Counts tries of passwords. Shared by all workers; asked once for each, never otherwise.
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
    /// When it was last said that an account is guessed at.
    said_at: BootMillis,
}

/// Too many failures; tries make sense again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAttempts {
    pub retry_after: Duration,
}

/// How somebody comes to try a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    /// By logging in: anybody can.
    LogIn,
    /// With a session of the account, to confirm a change.
    Session,
}

/// One try, counted as failed until it is said to be something else. Whoever leaves before that has had it.
#[must_use]
#[derive(Debug)]
pub struct Attempt {
    account: Fingerprint,
    network: ClientNetwork,
    charged: Charged,
}

#[derive(Debug)]
enum Charged {
    /// To a known network; and when that count began.
    Known(BootMillis),
    /// To counts, that of account and network first.
    Counts(Vec<Charge>),
}

impl Attempt {
    /// Whether the right password of this account came from there before.
    #[must_use]
    pub const fn is_of_known_network(&self) -> bool {
        matches!(self.charged, Charged::Known(_))
    }
}

impl Throttle {
    /// With these bounds, and nothing counted.
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
                said_at: BootMillis::default(),
            }),
        }
    }

    /// Counts a try as failed before it is made, so that a thousand at once do not all pass. `account` is
    /// the fingerprint of what was typed, whether it exists or not.
    ///
    /// # Errors
    /// [`TooManyAttempts`]; then nothing is counted, and the password must not be looked at.
    pub fn attempt(&self, door: AttemptKind, account: Fingerprint, address: IpAddr, now: BootMillis) -> Result<Attempt, TooManyAttempts> {
        let network = ClientNetwork::of(address);
        let mut table = self.lock();
        let ThrottleTable { counts, known, said_at } = &mut *table;
        let known = known.find(account, network, now).filter(|_| door == AttemptKind::LogIn);
        let charged = if let Some(tries) = known {
            refuse(tries.wait(self.per_account_and_address, self.window, now))?;
            Charged::Known(tries.add(self.window, now))
        } else {
            let limits = self.limits(door, account, network);
            let mut longest = None;
            for (counted, limit) in &limits {
                let wait = counts.wait(*counted, *limit, now);
                if wait.is_some() && matches!(counted, CountKey::Account(_)) && now.since(*said_at) >= SAY_EVERY {
                    *said_at = now;
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
        Ok(Attempt { account, network, charged })
    }

    /// The password could not be judged: takes back this try, and nothing else.
    pub fn withdraw(&self, attempt: Attempt, now: BootMillis) {
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

    /// The password was right: forgets the failures of this network with this account, takes this try
    /// back everywhere else, and remembers the network.
    pub fn succeed(&self, attempt: Attempt, now: BootMillis) {
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

    /// What is counted of a try from a network that is not known, and how often it may be.
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
