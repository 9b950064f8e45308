//! Where a browser may be sent after a sign-on or a log-out: the operator's list, and whether an address is within it.
//!
//! An address is compared as it was written, and sent as it was written. What two readers could read in two ways is
//! refused, so that no address is judged as one and followed as another (docs/threats.md B3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cors::PageOrigin;

/// Longest address. It is kept in a cookie, which browsers cut at 4 KiB together with its other parts.
pub const MAX_RETURN_TO: usize = 1_024;

/// Most addresses of a list. Each is compared with at every sign-on.
pub const MAX_RETURN_RULES: usize = 64;

/// One entry of the list: an origin, and whole segments with which the path begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnRule {
    /// Scheme, host and port in lower case, without a default port.
    origin: String,
    /// Empty, or whole segments that begin with `/` and do not end with one.
    prefix: String,
}

/// What is wrong with an entry of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReturnMistake {
    /// `app.example.com`, `javascript:…`.
    #[error("an address begins with `https://`")]
    Scheme,
    /// `http://app.example.com`.
    #[error("`http` is for addresses of this machine: anybody on the way could read what the browser is given")]
    Plain,
    /// `https://*.example.com`, `https://App.example.com`, `https://app.example.com:443`, `https://ann@app.example.com`.
    #[error("this is not an origin as browsers write it")]
    Origin,
    /// `https://app.example.com/a?b`, `/a/../b`, `/a//b`.
    #[error("the path is whole segments, without a query")]
    Path,
}

impl ReturnRule {
    /// Reads an entry: an origin, or an origin and a path.
    ///
    /// # Errors
    /// [`ReturnMistake`].
    pub fn parse(text: &str) -> Result<Self, ReturnMistake> {
        let (origin, rest) = split_origin(text)?;
        if origin.starts_with("http://") && !is_of_this_machine(origin) {
            return Err(ReturnMistake::Plain);
        }
        let prefix = rest.trim_end_matches('/');
        if rest.contains(['?', '#']) || !is_unambiguous_path(rest) {
            return Err(ReturnMistake::Path);
        }
        Ok(Self {
            origin: origin.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// The address of the entry itself.
    fn address(&self) -> String {
        let path = if self.prefix.is_empty() { "/" } else { &self.prefix };
        format!("{}{path}", self.origin)
    }

    fn takes(&self, origin: &str, path: &str) -> bool {
        let below = path.strip_prefix(self.prefix.as_str());
        self.origin == origin && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The list. It is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnRules(Vec<ReturnRule>);

impl ReturnRules {
    /// The list of these entries; `None` without any.
    #[must_use]
    pub fn new(rules: Vec<ReturnRule>) -> Option<Self> {
        (!rules.is_empty()).then_some(Self(rules))
    }

    /// Where a browser is sent that asked for no address: the first entry.
    #[must_use]
    pub fn first(&self) -> String {
        self.0.first().map_or_else(String::new, ReturnRule::address)
    }

    /// Whether a browser may be sent to this address. The origin must be that of an entry, in the same spelling, and
    /// the path must begin with the segments of the entry. Query and fragment are free. Everything that is read
    /// differently by different readers is refused: a user name, a backslash, an empty segment, dot segments, encoded
    /// slashes and dots, characters that should have been encoded.
    #[must_use]
    pub fn admit(&self, address: &str) -> bool {
        if address.len() > MAX_RETURN_TO || !address.bytes().all(is_plain) {
            return false;
        }
        let Ok((origin, rest)) = split_origin(address) else {
            return false;
        };
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        is_unambiguous_path(path) && self.0.iter().any(|rule| rule.takes(origin, path))
    }
}

/// The origin at the beginning of an address, and what follows. The origin is written as browsers write it: in lower
/// case, without a user and without a default port.
fn split_origin(text: &str) -> Result<(&str, &str), ReturnMistake> {
    let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme));
    let scheme = scheme.ok_or(ReturnMistake::Scheme)?;
    let authority = text.get(scheme.len()..).unwrap_or_default();
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    let (origin, rest) = text.split_at_checked(scheme.len() + end).ok_or(ReturnMistake::Origin)?;
    let default_port = if scheme == "https://" { ":443" } else { ":80" };
    let as_browsers_write =
        !origin.bytes().any(|b| b.is_ascii_uppercase()) && !origin.ends_with(default_port) && is_host_as_browsers_write(host_of(origin));
    if PageOrigin::parse(origin.as_bytes()).is_none() || !as_browsers_write {
        return Err(ReturnMistake::Origin);
    }
    Ok((origin, rest))
}

/// Whether the origin is one of this machine, where `http` is safe and developers use it.
#[must_use]
pub fn is_of_this_machine(origin: &str) -> bool {
    let host = host_of(origin);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The host of an origin, without the brackets of an IPv6 address.
fn host_of(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    host.unwrap_or_default()
}

/// Whether browsers go to a host of this very text. To them a name whose last label is a number is an IPv4 address
/// (`2130706433` and `0x7f.1` are this machine), and an address has one spelling (URL Standard, section 3.5).
fn is_host_as_browsers_write(host: &str) -> bool {
    if host.contains(':') {
        // They write an IPv4 address within an IPv6 address in hexadecimal.
        return host
            .parse()
            .is_ok_and(|address: Ipv6Addr| address.to_string() == host && !host.contains('.'));
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let digits = |text: &str, is_digit: fn(&u8) -> bool| text.bytes().all(|b| is_digit(&b));
    let is_number = digits(last, u8::is_ascii_digit) || last.strip_prefix("0x").is_some_and(|hex| digits(hex, u8::is_ascii_hexdigit));
    !is_number || host.parse::<Ipv4Addr>().is_ok()
}

/// A character that may stand in an address as itself. A backslash is none: browsers read it as a slash.
const fn is_plain(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'|' | b'^')
}

/// Whether every reader sees the same segments in this path: an empty text, or one that begins with `/`.
fn is_unambiguous_path(path: &str) -> bool {
    if path.is_empty() {
        return true;
    }
    let encoded = path.to_ascii_lowercase();
    let hidden = ["%0", "%1", "%2e", "%2f", "%5c", "%25", "%7f"]
        .iter()
        .any(|code| encoded.contains(code));
    let mut segments = path.split('/').skip(1).peekable();
    let mut whole = path.starts_with('/') && path.bytes().all(is_plain) && !hidden;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        whole &= !matches!(segment, "." | "..") && (last || !segment.is_empty()) && !segment.contains(';');
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(entries: &[&str]) -> ReturnRules {
        ReturnRules::new(entries.iter().map(|entry| ReturnRule::parse(entry).unwrap()).collect()).unwrap()
    }

    #[test]
    fn an_address_within_an_entry_is_admitted() {
        let rules = rules(&[
            "https://app.example.com",
            "https://www.example.com/portal/",
            "http://localhost:3000",
        ]);
        for address in [
            "https://app.example.com",
            "https://app.example.com/",
            "https://app.example.com/a/b/?c=%2F..//#/d",
            "https://app.example.com?x=https://evil.example/",
            "https://app.example.com#/route",
            "https://www.example.com/portal",
            "https://www.example.com/portal/",
            "https://www.example.com/portal/a%20b",
            "http://localhost:3000/x",
        ] {
            assert!(rules.admit(address), "{address}");
        }
        assert_eq!(rules.first(), "https://app.example.com/");
        assert!(rules.admit(&rules.first()));
    }

    #[test]
    fn b3_every_other_address_is_refused() {
        let rules = rules(&["https://app.example.com", "https://www.example.com/portal"]);
        let long = format!("https://app.example.com/{}", "a".repeat(MAX_RETURN_TO));
        for address in [
            "",
            "/",
            "//app.example.com",
            "//evil.example",
            "app.example.com",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://app.example.com",
            "HTTPS://app.example.com",
            "https://App.example.com",
            "https:/app.example.com",
            "https:app.example.com",
            "https:///app.example.com",
            "https://app.example.com.evil.example/",
            "https://evil.example/https://app.example.com",
            "https://app.example.com@evil.example/",
            "https://app.example.com:443@evil.example/",
            "https://ann@app.example.com/",
            "https://app.example.com:443/",
            "https://app.example.com:8443/",
            "https://app.example.com\\@evil.example",
            "https://app.example.com\\.evil.example",
            "https://evil.example\\.app.example.com",
            "https://app.example.com/\\evil.example",
            "https://app.example.com//evil.example",
            "https://app.example.com/a//b",
            "https://app.example.com/a\r\nSet-Cookie: x=y",
            "https://app.example.com/a\tb",
            "https://app.example.com/a b",
            " https://app.example.com/",
            "https://app.example.com/ä",
            "https://app.example.com./",
            "https://www.example.com/",
            "https://www.example.com/portals",
            "https://www.example.com/portal/..",
            "https://www.example.com/portal/../admin",
            "https://www.example.com/portal/./../admin",
            "https://www.example.com/portal/%2e%2e/admin",
            "https://www.example.com/portal/.%2E/admin",
            "https://www.example.com/portal%2f..%2fadmin",
            "https://www.example.com/portal%5c..%5cadmin",
            "https://www.example.com/portal/%252e%252e/admin",
            "https://www.example.com/portal/%09/evil",
            "https://www.example.com/portal/%0d%0aLocation:x",
            "https://www.example.com/portal;/../admin",
            "https://www.example.com/Portal",
            "https://www.example.com",
            "https://www.example.com?x=/portal",
            &long,
        ] {
            assert!(!rules.admit(address), "{address}");
        }
    }

    #[test]
    fn an_entry_that_would_be_read_in_two_ways_is_a_mistake() {
        for (entry, mistake) in [
            ("app.example.com", ReturnMistake::Scheme),
            ("*", ReturnMistake::Scheme),
            ("myapp://open", ReturnMistake::Scheme),
            ("http://app.example.com", ReturnMistake::Plain),
            ("https://*.example.com", ReturnMistake::Origin),
            ("https://App.example.com", ReturnMistake::Origin),
            ("https://app.example.com:443", ReturnMistake::Origin),
            ("https://ann@app.example.com", ReturnMistake::Origin),
            ("https://", ReturnMistake::Origin),
            ("http://2130706433", ReturnMistake::Origin),
            ("http://0x7f.0.0.1", ReturnMistake::Origin),
            ("http://127.1:8080", ReturnMistake::Origin),
            ("http://127.0.0.01", ReturnMistake::Origin),
            ("http://[0:0:0:0:0:0:0:1]", ReturnMistake::Origin),
            ("https://[::ffff:127.0.0.1]", ReturnMistake::Origin),
            ("https://app.example.0x", ReturnMistake::Origin),
            ("https://app.example.com/a?b", ReturnMistake::Path),
            ("https://app.example.com/a#b", ReturnMistake::Path),
            ("https://app.example.com/a/../b", ReturnMistake::Path),
            ("https://app.example.com//a", ReturnMistake::Path),
            ("https://app.example.com/a b", ReturnMistake::Path),
        ] {
            assert_eq!(ReturnRule::parse(entry), Err(mistake), "{entry}");
        }
        for entry in [
            "http://127.0.0.1:8080",
            "http://[::1]:3000/x",
            "http://localhost",
            "https://app1.example.x7",
            "https://1.2.example.com",
            "https://[2001:db8::7]",
        ] {
            assert!(ReturnRule::parse(entry).is_ok(), "{entry}");
        }
        assert_eq!(ReturnRules::new(Vec::new()), None);
    }
}
