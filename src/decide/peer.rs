//! Who is on the other end: the client's address, and which forwarded headers count.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::wire::fields::Fields;

/// Most proxies in a chain that are looked at. Three is much in practice; the bound keeps a long
/// header from costing more than a short one.
pub const MAX_HOPS: usize = 16;

/// Which peers are proxies of ours. Empty by default: nobody is trusted.
#[derive(Debug, Clone, Default)]
pub struct PeerPolicy {
    /// Addresses whose `X-Forwarded-*`, `X-Request-Id` and `traceparent` count.
    pub trusted: Vec<IpNet>,
}

/// What is known of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The client's address: the one that is throttled, logged and forwarded. An IPv4 address in
    /// IPv6 clothes (`::ffff:192.0.2.1`) is the IPv4 address.
    pub client: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
}

impl PeerPolicy {
    /// Decides by the socket's peer and, only if that is trusted, by `X-Forwarded-For` read from the
    /// right: the first address that is not a trusted proxy is the client. At an entry that is no
    /// address, or after [`MAX_HOPS`], the walk ends with the last good one, since what stands left
    /// of it is nobody's word.
    ///
    /// `Forwarded` (RFC 7239) is not read: two lists that may differ are one too many, and proxies
    /// that append to one of them pass the other through as the client sent it.
    #[must_use]
    pub fn origin(&self, peer: SocketAddr, fields: &Fields) -> Origin {
        let mut client = peer.ip().to_canonical();
        if !self.trusts(client) {
            return Origin { client, trusted: false };
        }
        for hop in hops(fields).take(MAX_HOPS).map_while(std::convert::identity) {
            client = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        Origin { client, trusted: true }
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&ip))
    }
}

/// The entries of all `X-Forwarded-For` fields from the right; `None` for one that is no address.
/// `192.0.2.1:1234` and `[2001:db8::1]:1234`, as some load balancers write them, count without port.
pub fn hops(fields: &Fields) -> impl Iterator<Item = Option<IpAddr>> {
    let count = fields.len();
    (0..count)
        .rev()
        .filter_map(|at| fields.at(at))
        .filter(|field| field.is("x-forwarded-for"))
        .flat_map(|field| field.value.rsplit(|b| *b == b','))
        .map(|entry| parse_hop(entry.trim_ascii()))
}

fn parse_hop(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()))
        .or_else(|| bracketed().map(IpAddr::V6))
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(trusted: &[&str], peer: &str, lines: &[&str]) -> (String, bool) {
        let policy = PeerPolicy {
            trusted: trusted.iter().map(|net| net.parse().unwrap()).collect(),
        };
        let mut fields = Fields::default();
        for line in lines {
            fields.push(b"X-Forwarded-For", line.as_bytes());
        }
        fields.push(b"Forwarded", b"for=6.6.6.6");
        fields.push(b"X-Real-IP", b"7.7.7.7");
        let origin = policy.origin(SocketAddr::new(peer.parse().unwrap(), 1), &fields);
        (origin.client.to_string(), origin.trusted)
    }

    #[test]
    fn h6_an_untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(origin(&[], "192.0.2.1", &["1.2.3.4"]), ("192.0.2.1".into(), false));
        assert_eq!(origin(&["10.0.0.0/8"], "192.0.2.1", &["1.2.3.4"]), ("192.0.2.1".into(), false));
        assert_eq!(origin(&["10.0.0.0/8"], "10.0.0.1", &["1.2.3.4"]), ("1.2.3.4".into(), true));
    }

    #[test]
    fn h6_the_list_is_read_from_the_right_over_trusted_proxies_only() {
        let trusted = &["10.0.0.0/8", "fd00::/8"];
        for (lines, client) in [
            (&["6.6.6.6, 1.2.3.4, 10.0.0.2"][..], "1.2.3.4"),
            (&["6.6.6.6", "1.2.3.4", "10.0.0.2"], "1.2.3.4"),
            (&["6.6.6.6,1.2.3.4", "fd00::1 , 10.0.0.2"], "1.2.3.4"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&[], "10.0.0.1"),
            (&["1.2.3.4, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["1.2.3.4, garbage"], "10.0.0.1"),
            (&["1.2.3.4,"], "10.0.0.1"),
            (&["1.2.3.4:5555"], "1.2.3.4"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:1.2.3.4, ::ffff:10.0.0.2"], "1.2.3.4"),
            (&["01.2.3.4"], "10.0.0.1"),
        ] {
            assert_eq!(origin(trusted, "10.0.0.1", lines), (client.into(), true), "{lines:?}");
        }
    }

    #[test]
    fn h6_an_ipv4_peer_on_an_ipv6_socket_is_its_ipv4_address() {
        assert_eq!(origin(&["10.0.0.0/8"], "::ffff:10.0.0.1", &["1.2.3.4"]), ("1.2.3.4".into(), true));
        assert_eq!(
            origin(&["10.0.0.0/8"], "::ffff:192.0.2.1", &["1.2.3.4"]),
            ("192.0.2.1".into(), false)
        );
    }

    #[test]
    fn a_chain_of_proxies_is_followed_so_far_and_no_further() {
        let line = |n: usize| format!("1.2.3.4{}", ", 10.0.0.9".repeat(n));
        assert_eq!(origin(&["10.0.0.0/8"], "10.0.0.1", &[&line(MAX_HOPS - 1)]).0, "1.2.3.4");
        assert_eq!(origin(&["10.0.0.0/8"], "10.0.0.1", &[&line(MAX_HOPS)]).0, "10.0.0.9");
    }
}
