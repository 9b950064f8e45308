//! Hosts and ports as URLs and settings write them (RFC 3986, section 3.2).

/// Host (without brackets) and port of an authority.
#[must_use]
pub fn split_authority(authority: &str, default: u16) -> Option<(String, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if rest.is_empty() => default,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, parse_port(port)?),
        None => (authority, default),
    };
    is_host(host).then(|| (host.to_ascii_lowercase(), port))
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|p| *p != 0)
}

/// Whether a text is a host name or IPv4 address: labels of letters, digits, `-` and `_`.
#[must_use]
pub fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port_or_nothing() {
        for (authority, parts) in [
            ("Login.Example.com", Some(("login.example.com", 443))),
            ("localhost:8443", Some(("localhost", 8443))),
            ("127.0.0.1:1", Some(("127.0.0.1", 1))),
            ("[::1]", Some(("::1", 443))),
            ("[::1]:8443", Some(("::1", 8443))),
            ("", None),
            (":443", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:+1", None),
            ("a b", None),
            ("user@a", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[localhost]", None),
            ("-a", None),
            ("a..b", None),
        ] {
            let parts = parts.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(split_authority(authority, 443), parts, "{authority}");
        }
    }
}
