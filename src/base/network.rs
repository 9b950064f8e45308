//! The network by which log-ins and guesses are counted: the addresses of one customer.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address. An IPv4 address that is written as IPv6 is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork(u64);

impl ClientNetwork {
    /// The IPv4 address, or the upper 64 bits of the IPv6 address.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The network of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            // The upper half; no global IPv6 network collides with an IPv4 address, whose bits are below 2^32.
            IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_customer_is_one_network_and_an_ipv4_host_has_two_spellings() {
        let network = |text: &str| ClientNetwork::of(text.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
