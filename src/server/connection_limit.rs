//! Limits how many connections are open, in all and from one address, and counts those of each worker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::network::ClientNetwork;
use crate::snapshot::Limits;

/// Counts open connections. Its lock is taken when a connection opens and when it closes, never for a request.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    max_total: usize,
    max_per_address: usize,
    open: Mutex<OpenCounts>,
}

#[derive(Debug, Default)]
struct OpenCounts {
    total: usize,
    by_network: HashMap<ClientNetwork, usize>,
}

/// Which limit a connection would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitReached {
    Total,
    Address,
}

impl ConnectionLimiter {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max_total: limits.connections,
            max_per_address: limits.connections_per_address,
            open: Mutex::default(),
        })
    }

    /// Admits a connection from this address, if the limits allow it.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, LimitReached> {
        let network = ClientNetwork::of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.max_total {
            return Err(LimitReached::Total);
        }
        let of_network = open.by_network.entry(network).or_default();
        if *of_network >= self.max_per_address {
            return Err(LimitReached::Address);
        }
        *of_network += 1;
        open.total += 1;
        Ok(ConnectionPermit {
            limiter: Arc::clone(self),
            network,
            load: None,
        })
    }

    fn release(&self, network: ClientNetwork) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(of_network) = open.by_network.get_mut(&network) {
            *of_network = of_network.saturating_sub(1);
            if *of_network == 0 {
                open.by_network.remove(&network);
            }
        }
    }
}

/// The permit of an open connection. Dropping it gives it back, with its part of its worker's load.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    network: ClientNetwork,
    load: Option<Arc<AtomicUsize>>,
}

impl ConnectionPermit {
    /// Counts the connection for this worker, and no longer for another.
    pub(super) fn assign(&mut self, load: &Arc<AtomicUsize>) {
        load.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.load.replace(Arc::clone(load)) {
            before.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.release(self.network);
        if let Some(load) = &self.load {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(connections: usize, connections_per_address: usize) -> Arc<ConnectionLimiter> {
        ConnectionLimiter::new(&Limits {
            connections,
            connections_per_address,
            ..Limits::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let limiter = limiter(10, 2);
        let first = limiter.admit(ip("192.0.2.1"));
        let _second = limiter.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(limiter.admit(ip("192.0.2.1")).err(), Some(LimitReached::Address));
        assert!(limiter.admit(ip("192.0.2.2")).is_ok());
        drop(first);
        assert!(limiter.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let limiter = limiter(10, 1);
        let _first = limiter.admit(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(limiter.admit(ip("2001:db8:0:1:ffff::2")).err(), Some(LimitReached::Address));
        assert!(limiter.admit(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn the_total_holds_and_nothing_is_left_of_those_who_leave() {
        let limiter = limiter(2, 2);
        let places = [ip("192.0.2.1"), ip("192.0.2.2")].map(|a| limiter.admit(a).unwrap());
        assert_eq!(limiter.admit(ip("192.0.2.3")).err(), Some(LimitReached::Total));
        drop(places);
        assert!(limiter.open.lock().unwrap().by_network.is_empty());
        assert!(limiter.admit(ip("192.0.2.3")).is_ok());
    }

    #[test]
    fn a_place_counts_for_one_worker_at_a_time() {
        let (a, b) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut permit = limiter(1, 1).admit(ip("192.0.2.1")).unwrap();
        permit.assign(&a);
        permit.assign(&b);
        assert_eq!((a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)), (0, 1));
        drop(permit);
        assert_eq!(b.load(Ordering::Relaxed), 0);
    }
}
