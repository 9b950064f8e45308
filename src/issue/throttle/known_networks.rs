//! The networks from which the right password of an account came. No attempts of strangers lock them out.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::base::clock::BootMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::network::ClientNetwork;

use super::counts::AttemptCount;

/// Most known networks of one account: home, work, a mobile phone with its changing providers. Each known network has
/// attempts of its own beside the limit of the account, so there are few.
pub(super) const MAX_NETWORKS: usize = 8;
/// Accounts of one generation. The two generations hold 65,536 recent accounts: 25 MiB if each account had all its
/// networks, half of that with two networks each.
const MAX_ACCOUNTS: usize = 32_768;

/// The known networks of the accounts that logged in lately. When the younger generation is full it becomes the older
/// one, and accounts without a log-in since then are forgotten. So the cost of a log-in does not grow with the table,
/// and an attacker who fills it with own accounts must keep doing so.
#[derive(Debug)]
pub(super) struct KnownNetworks {
    /// How long a network stays known after the last right password.
    known_for: Duration,
    younger: HashMap<Fingerprint, Networks>,
    older: HashMap<Fingerprint, Networks>,
}

type Networks = VecDeque<KnownNetwork>;

#[derive(Debug, Clone, Copy)]
struct KnownNetwork {
    network: ClientNetwork,
    last_login: BootMillis,
    /// Attempts since the last right password. They are counted here, so a full table of counts does not matter to
    /// them.
    tries: AttemptCount,
}

impl KnownNetworks {
    /// No network is known yet. Each network stays known for `known_for` after the last right password from it.
    pub(super) fn new(known_for: Duration) -> Self {
        Self {
            known_for,
            younger: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// The count of a network from which the right password of this account came; `None` for any other network.
    pub(super) fn find(&mut self, account: Fingerprint, network: ClientNetwork, now: BootMillis) -> Option<&mut AttemptCount> {
        let known_for = self.known_for;
        let networks = match self.younger.get_mut(&account) {
            Some(networks) => networks,
            None => self.older.get_mut(&account)?,
        };
        let known = networks.iter_mut().find(|known| known.network == network)?;
        (now.since(known.last_login) < known_for).then_some(&mut known.tries)
    }

    /// Notes that the right password came from this network just now.
    pub(super) fn remember(&mut self, account: Fingerprint, network: ClientNetwork, now: BootMillis) {
        let mut networks = match self.younger.remove(&account) {
            Some(networks) => networks,
            None => self.older.remove(&account).unwrap_or_default(),
        };
        networks.retain(|known| known.network != network);
        networks.push_front(KnownNetwork {
            network,
            last_login: now,
            tries: AttemptCount::default(),
        });
        networks.truncate(MAX_NETWORKS);
        if self.younger.len() >= MAX_ACCOUNTS {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(account, networks);
    }

    #[cfg(test)]
    pub(super) fn accounts(&self) -> usize {
        self.younger.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootMillis = BootMillis(1_000_000);
    const KNOWN_FOR: Duration = Duration::from_secs(86_400);

    fn account(n: u32) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Fingerprint::from_bytes(bytes)
    }

    fn network(n: u8) -> ClientNetwork {
        ClientNetwork::of(std::net::IpAddr::from([192, 0, 2, n]))
    }

    #[test]
    fn the_latest_networks_of_an_account_are_known_for_a_while() {
        let mut known = KnownNetworks::new(KNOWN_FOR);
        for n in 0..9 {
            known.remember(account(1), network(n), NOW);
        }
        assert!(known.find(account(1), network(0), NOW).is_none(), "the oldest of nine");
        for n in 1..9 {
            assert!(known.find(account(1), network(n), NOW).is_some(), "{n}");
        }
        assert!(known.find(account(2), network(8), NOW).is_none(), "another account");
        let later = NOW.plus(KNOWN_FOR);
        assert!(known.find(account(1), network(8), later).is_none());
        known.remember(account(1), network(8), later);
        assert!(known.find(account(1), network(8), later).is_some());
    }

    #[test]
    fn accounts_are_bounded_and_those_of_the_latest_log_ins_stay() {
        let mut known = KnownNetworks::new(KNOWN_FOR);
        let generation = u32::try_from(MAX_ACCOUNTS).unwrap();
        for n in 0..generation {
            known.remember(account(n), network(1), NOW);
        }
        for n in generation..2 * generation {
            known.remember(account(n), network(1), NOW);
            if n == generation {
                known.remember(account(7), network(2), NOW);
            }
        }
        known.remember(account(2 * generation), network(1), NOW);
        assert!(known.accounts() <= 2 * MAX_ACCOUNTS, "{}", known.accounts());
        assert!(known.find(account(0), network(1), NOW).is_none(), "not used since");
        for n in [1, 2] {
            assert!(known.find(account(7), network(n), NOW).is_some(), "used since");
        }
        assert!(known.find(account(2 * generation), network(1), NOW).is_some());
    }
}
