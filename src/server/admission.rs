//! How many connections may be open, in all and from one address, and how many each worker has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::snapshot::Limits;

/// Counts open connections. The lock is taken when a connection opens and when it closes, never for a request.
#[derive(Debug)]
pub(super) struct Admission {
    max_total: usize,
    max_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<Origin, usize>,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Total,
    Address,
}

/// What counts as one client: an IPv4 address, or an IPv6 /64, which is the least a host is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max_total: limits.connections,
            max_per_address: limits.connections_per_address,
            open: Mutex::default(),
        })
    }

    /// A place for a connection from this address, if there is one.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refused> {
        let origin = Origin::of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.max_total {
            return Err(Refused::Total);
        }
        let of_address = open.by_address.entry(origin).or_default();
        if *of_address >= self.max_per_address {
            return Err(Refused::Address);
        }
        *of_address += 1;
        open.total += 1;
        Ok(Place {
            admission: Arc::clone(self),
            origin,
            load: None,
        })
    }

    fn leave(&self, origin: Origin) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(of_address) = open.by_address.get_mut(&origin) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                open.by_address.remove(&origin);
            }
        }
    }
}

/// An open connection's place; given back when dropped, with its share of its worker's load.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    origin: Origin,
    load: Option<Arc<AtomicUsize>>,
}

impl Place {
    /// Counts the connection as a worker's, and no longer as another's.
    pub(super) fn assign(&mut self, load: &Arc<AtomicUsize>) {
        load.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.load.replace(Arc::clone(load)) {
            before.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.leave(self.origin);
        if let Some(load) = &self.load {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, connections_per_address: usize) -> Arc<Admission> {
        Admission::new(&Limits {
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
        let admission = admission(10, 2);
        let first = admission.admit(ip("192.0.2.1"));
        let _second = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).err(), Some(Refused::Address));
        assert!(admission.admit(ip("192.0.2.2")).is_ok());
        drop(first);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let admission = admission(10, 1);
        let _first = admission.admit(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(admission.admit(ip("2001:db8:0:1:ffff::2")).err(), Some(Refused::Address));
        assert!(admission.admit(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn the_total_holds_and_nothing_is_left_of_those_who_leave() {
        let admission = admission(2, 2);
        let places = [ip("192.0.2.1"), ip("192.0.2.2")].map(|a| admission.admit(a).unwrap());
        assert_eq!(admission.admit(ip("192.0.2.3")).err(), Some(Refused::Total));
        drop(places);
        assert!(admission.open.lock().unwrap().by_address.is_empty());
        assert!(admission.admit(ip("192.0.2.3")).is_ok());
    }

    #[test]
    fn a_place_counts_for_one_worker_at_a_time() {
        let (a, b) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut place = admission(1, 1).admit(ip("192.0.2.1")).unwrap();
        place.assign(&a);
        place.assign(&b);
        assert_eq!((a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)), (0, 1));
        drop(place);
        assert_eq!(b.load(Ordering::Relaxed), 0);
    }
}
