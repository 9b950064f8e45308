//! Host and authority of a request: validated, in lower case, split from the port.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memrchr};

use crate::base::denial::Denial;
use crate::base::text::{every, every_pair};
use crate::wire::head::{RequestHead, Version};

/// Longest authority. A DNS name has at most 253 characters; 255 is its wire form.
pub const MAX_AUTHORITY: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'h> {
    /// Host and port in lower case, as they may be forwarded.
    pub text: Cow<'h, str>,
    /// Length of the host in `text`. The brackets of an IPv6 address are part of it.
    host_len: usize,
}

impl<'h> Authority<'h> {
    /// Reads `host [":" port]` (RFC 9110, section 7.2; RFC 3986, section 3.2).
    ///
    /// The host is a name of letters, digits, `-`, `_` and `.`, an IPv4 address, or a bracketed IPv6 address. The
    /// port is 1 to 65535 in canonical decimal. A dot after the last label (`name.`) and a colon without a port
    /// (`name:`) have no meaning and are left out of what is matched, compared and forwarded. Refused are user
    /// information, empty labels, numbers that only look like an IPv4 address, zone identifiers, and
    /// percent-encoding.
    ///
    /// # Errors
    /// [`Denial::MalformedHost`].
    pub fn parse(raw: &'h [u8]) -> Result<Self, Denial> {
        if raw.is_empty() || raw.len() > MAX_AUTHORITY {
            return Err(Denial::MalformedHost);
        }
        let text = std::str::from_utf8(raw).map_err(|_| Denial::MalformedHost)?;
        let host_len = if text.starts_with('[') {
            text.find(']').ok_or(Denial::MalformedHost)? + 1
        } else {
            memchr(b':', raw).unwrap_or(raw.len())
        };
        let (written, port) = text.split_at_checked(host_len).ok_or(Denial::MalformedHost)?;
        let port = if port == ":" { "" } else { port };
        let host = written.strip_suffix('.').unwrap_or(written);
        let valid_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        if !valid_port || !is_host(host) {
            return Err(Denial::MalformedHost);
        }
        let (host_len, len) = (host.len(), host.len() + port.len());
        let lower = every(raw, |b| !b.is_ascii_uppercase());
        let text = match text.get(..len) {
            Some(text) if lower && (host.len() == written.len() || port.is_empty()) => Cow::Borrowed(text),
            _ => Cow::Owned(format!("{host}{port}").to_ascii_lowercase()),
        };
        Ok(Self { text, host_len })
    }

    /// Whether both name the same host and port, in a scheme with this default port.
    #[must_use]
    pub fn is_same(&self, other: &Authority<'_>, default_port: &str) -> bool {
        let is_default = |port: &str| port.is_empty() || port == default_port;
        let (one, two) = (self.port(), other.port());
        self.host() == other.host() && (one == two || (is_default(one) && is_default(two)))
    }

    /// The port as text, empty if there is none.
    fn port(&self) -> &str {
        self.text.get(self.host_len + 1..).unwrap_or_default()
    }

    /// The one authority that a head names.
    ///
    /// HTTP/1.1 needs exactly one `Host`. HTTP/1.0 needs it here too, although RFC 9112 allows its absence: what
    /// decides about a tenant must not depend on the version that a client speaks. On HTTP/2 it is `:authority`, or
    /// `Host` if only that was sent. If both were sent, they must agree.
    ///
    /// # Errors
    /// [`Denial::MalformedHost`].
    pub fn of(head: &'h RequestHead) -> Result<Self, Denial> {
        let field = head.fields.one("host").map_err(|_| Denial::MalformedHost)?;
        let named = match (head.version, &head.authority) {
            (Version::Http2, Some(authority)) => {
                let named = Self::parse(authority)?;
                let agrees = |host: &[u8]| host == authority.as_slice() || Authority::parse(host).is_ok_and(|host| host.text == named.text);
                return if field.is_none_or(agrees) {
                    Ok(named)
                } else {
                    Err(Denial::MalformedHost)
                };
            }
            _ => field.ok_or(Denial::MalformedHost)?,
        };
        Self::parse(named)
    }

    #[must_use]
    pub fn host(&self) -> &str {
        self.text.get(..self.host_len).unwrap_or_default()
    }

    /// The host without port, for as long as the head lives.
    #[must_use]
    pub fn to_host(&self) -> Cow<'h, str> {
        match &self.text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(..self.host_len).unwrap_or_default()),
            Cow::Owned(text) => Cow::Owned(text.get(..self.host_len).unwrap_or_default().to_owned()),
        }
    }
}

/// `1` to `65535`, without leading zeros.
fn is_port(text: &str) -> bool {
    matches!(text.as_bytes(), [b'1'..=b'9', ..] if text.len() <= 5) && text.parse::<u16>().is_ok()
}

/// Whether a host has one of the three allowed forms.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.as_bytes();
    let labels_filled =
        name.first() != Some(&b'.') && name.last() != Some(&b'.') && every_pair(name, |one, two| (one != b'.') | (two != b'.'));
    let letters = every(name, |b| b.is_ascii_alphanumeric() | (b == b'.') | (b == b'-') | (b == b'_'));
    // Some readers take a name whose last label is a number for an IPv4 address (`127.1`, `0x7f000001`), and others
    // for a name (WHATWG URL, "ends in a number"). Only the canonical address is accepted.
    let last = memrchr(b'.', name).and_then(|dot| host.get(dot + 1..)).unwrap_or(host);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let numeric = hexadecimal.map_or_else(
        || last.bytes().all(|b| b.is_ascii_digit()),
        |digits| digits.bytes().all(|b| b.is_ascii_hexdigit()),
    );
    !name.is_empty() && labels_filled && letters && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, authority: Option<&str>, hosts: &[&str]) -> RequestHead {
        let mut head = RequestHead {
            version,
            authority: authority.map(|a| a.as_bytes().to_vec()),
            ..RequestHead::default()
        };
        for host in hosts {
            head.fields.push(b"Host", host.as_bytes());
        }
        head
    }

    #[test]
    fn s11_a_malformed_host_is_refused() {
        let long = "a".repeat(300);
        for bad in [
            "",
            "a,b",
            "u@a",
            "a/b",
            "a:99999",
            "a:0",
            "a::",
            ":",
            ":80",
            "a:080",
            "a:+80",
            "a:65536",
            "[::1",
            "::1",
            "[::1]x",
            "[::1].",
            "a.:x",
            "[::g]",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            ".",
            "a..",
            "a..:80",
            "127.1.",
            ".a",
            "a..b",
            "a b",
            "a\tb",
            "ä",
            "a%20b",
            "%61",
            "127.1",
            "2130706433",
            "0x7f.1.2",
            "1.2.3.4.5",
            "256.1.1.1",
            "01.2.3.4",
            "0x7f000001",
            "a.0X7F",
            "a.0x",
            "a:b",
            "a?b",
            "a#b",
            "a\\b",
            "a;b",
            "*",
            "*.a",
            "a:80:80",
            &long,
        ] {
            assert_eq!(
                Authority::parse(bad.as_bytes()).map(|a| a.text),
                Err(Denial::MalformedHost),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn s11_a_valid_host_is_lower_cased_and_split_from_its_port() {
        for (raw, text, host) in [
            ("Api.Example.com:8443", "api.example.com:8443", "api.example.com"),
            ("localhost", "localhost", "localhost"),
            ("a_b-c.test:65535", "a_b-c.test:65535", "a_b-c.test"),
            ("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1"),
            ("[::1]:443", "[::1]:443", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]", "[2001:db8::1]"),
            ("1.2.3.4a", "1.2.3.4a", "1.2.3.4a"),
            ("0x7g", "0x7g", "0x7g"),
            ("Name.test.", "name.test", "name.test"),
            ("name.test:", "name.test", "name.test"),
            ("name.test.:8443", "name.test:8443", "name.test"),
            ("127.0.0.1.", "127.0.0.1", "127.0.0.1"),
            ("[::1]:", "[::1]", "[::1]"),
        ] {
            let authority = Authority::parse(raw.as_bytes()).expect(raw);
            assert_eq!(
                (authority.text.as_ref(), authority.host(), authority.to_host().as_ref()),
                (text, host, host)
            );
        }
        assert!(matches!(Authority::parse(b"a.test:80").unwrap().text, Cow::Borrowed(_)));
    }

    #[test]
    fn s11_exactly_one_host_is_needed_in_both_versions_of_http_1() {
        for version in [Version::Http10, Version::Http11] {
            assert_eq!(Authority::of(&head(version, None, &[])).map(|_| ()), Err(Denial::MalformedHost));
            assert_eq!(
                Authority::of(&head(version, None, &["a", "a"])).map(|_| ()),
                Err(Denial::MalformedHost)
            );
            assert!(Authority::of(&head(version, None, &["a"])).is_ok());
        }
    }

    #[test]
    fn s10_host_and_authority_of_http_2_agree() {
        assert_eq!(
            Authority::of(&head(Version::Http2, Some("a"), &["b"])).map(|_| ()),
            Err(Denial::MalformedHost)
        );
        assert_eq!(
            Authority::of(&head(Version::Http2, Some("a"), &["a", "a"])).map(|_| ()),
            Err(Denial::MalformedHost)
        );
        assert_eq!(
            Authority::of(&head(Version::Http2, None, &[])).map(|_| ()),
            Err(Denial::MalformedHost)
        );
        for (authority, hosts) in [(Some("a"), &["A"][..]), (Some("a."), &["a:"]), (Some("a"), &[]), (None, &["a"])] {
            assert_eq!(Authority::of(&head(Version::Http2, authority, hosts)).unwrap().text, "a");
        }
    }
}
