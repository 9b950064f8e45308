//! The client: its address, and which forwarded headers count.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::wire::fields::Fields;
use crate::wire::framing::list;

use super::headers::UriScheme;
use super::host::Authority;

/// Most proxies of a chain that are read. Three is much in practice; the bound keeps a long header from costing more
/// than a short one.
pub const MAX_HOPS: usize = 16;

/// The peers that are trusted proxies. Empty by default: nobody is trusted.
#[derive(Debug, Clone, Default)]
pub struct PeerPolicy {
    /// Addresses whose `X-Forwarded-*`, `X-Request-Id` and `traceparent` count.
    pub trusted: Vec<IpNet>,
}

/// What is known of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOrigin {
    /// The address of the client: it is throttled, logged and forwarded. An IPv4 address that is written as IPv6
    /// (`::ffff:192.0.2.1`) is the IPv4 address.
    pub client: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
}

impl ClientOrigin {
    /// The scheme of the client's request: the one that a trusted proxy names in these fields, else that of the
    /// connection.
    #[must_use]
    pub fn scheme(&self, fields: &Fields, connection: UriScheme) -> UriScheme {
        let told = if self.trusted { forwarded_scheme(fields) } else { None };
        told.unwrap_or(connection)
    }

    /// The authority that the client asked for: the `X-Forwarded-Host` of a trusted proxy, else that of the request.
    #[must_use]
    pub fn authority<'f>(&self, fields: &'f Fields, own: &'f str) -> &'f str {
        let told = || {
            let host = fields.one("x-forwarded-host").ok().flatten()?;
            Authority::parse(host).ok()?;
            std::str::from_utf8(host).ok()
        };
        if self.trusted { told().unwrap_or(own) } else { own }
    }
}

impl PeerPolicy {
    /// Finds the client: the peer of the socket, or if the peer is trusted, the first address in `X-Forwarded-For`,
    /// read from the right, that is not a trusted proxy. The search ends at an entry that is no address, or after
    /// [`MAX_HOPS`], with the last good address, since nobody vouches for what stands left of it.
    ///
    /// `Forwarded` (RFC 7239) is not read for addresses. Two lists that may differ are one too many: proxies that
    /// append to one of them pass the other through as the client sent it. For the scheme, see
    /// [`ClientOrigin::scheme`].
    #[must_use]
    pub fn origin(&self, peer: SocketAddr, fields: &Fields) -> ClientOrigin {
        let mut client = peer.ip().to_canonical();
        if !self.trusts(client) {
            return ClientOrigin { client, trusted: false };
        }
        for hop in hops(fields).take(MAX_HOPS).map_while(std::convert::identity) {
            client = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        ClientOrigin { client, trusted: true }
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&ip))
    }
}

/// The scheme that a trusted proxy names: the value of `X-Forwarded-Proto`, if all its values are the same; without
/// that field, the `proto` of the last element of `Forwarded`, which the proxy itself added. `None` if values differ,
/// or are no scheme of HTTP or WebSocket.
fn forwarded_scheme(fields: &Fields) -> Option<UriScheme> {
    let mut told = fields.all("x-forwarded-proto").flat_map(|value| value.split(|b| *b == b','));
    if let Some(first) = told.next() {
        let first = parse_scheme(first.trim_ascii())?;
        return told.all(|next| parse_scheme(next.trim_ascii()) == Some(first)).then_some(first);
    }
    let last = fields.all("forwarded").flat_map(list).last()?;
    let mut pairs = last.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| {
        let (name, value) = pair.split_at_checked("proto=".len())?;
        name.eq_ignore_ascii_case(b"proto=").then_some(value)
    })?;
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    parse_scheme(quoted.unwrap_or(value))
}

/// `wss` and `ws` count too: some proxies send the scheme of a WebSocket's address.
fn parse_scheme(text: &[u8]) -> Option<UriScheme> {
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    if is("https") || is("wss") {
        Some(UriScheme::Https)
    } else if is("http") || is("ws") {
        Some(UriScheme::Http)
    } else {
        None
    }
}

/// The entries of all `X-Forwarded-For` fields from the right; `None` for an entry that is no address.
/// `192.0.2.1:1234` and `[2001:db8::1]:1234`, as some load balancers write them, count without the port.
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

    const CONNECTIONS: [UriScheme; 2] = [UriScheme::Http, UriScheme::Https];

    /// The scheme of a request on a connection of each scheme.
    fn schemes(peer: &str, lines: &[(&str, &str)]) -> [UriScheme; 2] {
        let policy = PeerPolicy {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let origin = policy.origin(SocketAddr::new(peer.parse().unwrap(), 1), &fields);
        CONNECTIONS.map(|connection| origin.scheme(&fields, connection))
    }

    #[test]
    fn a_trusted_proxy_tells_the_scheme_and_nobody_else_does() {
        const PROTO: &str = "X-Forwarded-Proto";
        const FORWARDED: &str = "Forwarded";
        let https = [
            &[(PROTO, "https")][..],
            &[(PROTO, "HTTPS")],
            &[(PROTO, "wss")],
            &[(PROTO, "https, https")],
            &[(PROTO, "https"), (PROTO, "https")],
            &[(FORWARDED, "for=192.0.2.1;proto=https")],
            &[(FORWARDED, "for=192.0.2.1;proto=http, for=\"[2001:db8::1]:4711\";Proto=\"https\"")],
            &[(FORWARDED, "proto=http"), (FORWARDED, "proto=https;by=10.0.0.1")],
            // The field that most proxies overwrite beats the one that most pass through.
            &[(PROTO, "https"), (FORWARDED, "proto=http")],
        ];
        for lines in https {
            assert_eq!(schemes("10.0.0.1", lines), [UriScheme::Https; 2], "{lines:?}");
            assert_eq!(schemes("192.0.2.1", lines), CONNECTIONS, "an untrusted peer: {lines:?}");
        }
        assert_eq!(schemes("10.0.0.1", &[(PROTO, "http")]), [UriScheme::Http; 2]);
        let nothing = [
            &[][..],
            &[(PROTO, "https, http")],
            &[(PROTO, "http"), (PROTO, "https")],
            &[(PROTO, "https,")],
            &[(PROTO, "")],
            &[(PROTO, "on")],
            &[(PROTO, "https://")],
            &[(PROTO, "ftp"), (FORWARDED, "proto=https")],
            &[(FORWARDED, "for=192.0.2.1")],
            &[(FORWARDED, "proto=https, for=192.0.2.1")],
            &[(FORWARDED, "proto")],
            &[(FORWARDED, "proto=\"https")],
        ];
        for lines in nothing {
            assert_eq!(schemes("10.0.0.1", lines), CONNECTIONS, "{lines:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_tells_which_host_was_asked_for_and_nobody_else_does() {
        let of = |trusted, hosts: &[&str]| {
            let mut fields = Fields::default();
            hosts.iter().for_each(|host| fields.push(b"X-Forwarded-Host", host.as_bytes()));
            let client = IpAddr::from([10, 0, 0, 1]);
            ClientOrigin { client, trusted }.authority(&fields, "inner:8080").to_owned()
        };
        assert_eq!(of(true, &["api.example.com"]), "api.example.com");
        assert_eq!(of(true, &["API.example.com:8443"]), "API.example.com:8443");
        assert_eq!(of(false, &["api.example.com"]), "inner:8080");
        for none in [&[][..], &[""], &["a.test", "a.test"], &["a.test, b.test"], &["u@a.test"], &["a b"]] {
            assert_eq!(of(true, none), "inner:8080", "{none:?}");
        }
    }

    #[test]
    fn a_chain_of_proxies_is_followed_so_far_and_no_further() {
        let line = |n: usize| format!("1.2.3.4{}", ", 10.0.0.9".repeat(n));
        assert_eq!(origin(&["10.0.0.0/8"], "10.0.0.1", &[&line(MAX_HOPS - 1)]).0, "1.2.3.4");
        assert_eq!(origin(&["10.0.0.0/8"], "10.0.0.1", &[&line(MAX_HOPS)]).0, "10.0.0.9");
    }
}
