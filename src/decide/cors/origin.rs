//! Origins of pages: as browsers send them in `Origin`, and as operators list them.

use std::net::Ipv6Addr;

use crate::base::text::every;

/// Longest origin that is read. A host name has at most 253 characters, and scheme and port are short.
pub const MAX_ORIGIN: usize = 300;

/// The origin of a page (RFC 6454, section 6.2): scheme, host, port. `null` is no origin, since any page in a sandbox
/// has it.
#[derive(Debug, Clone, Copy)]
pub struct PageOrigin<'o> {
    scheme: &'o str,
    /// With the brackets of an IPv6 address.
    host: &'o str,
    /// The default port of the scheme if none is given; `None` if the scheme has no default.
    port: Option<u16>,
}

impl<'o> PageOrigin<'o> {
    /// Reads `scheme "://" host [":" port]` and nothing more: no path, no user, no slash at the end. Any scheme is
    /// allowed (`capacitor://localhost` is that of an app), in upper or lower case.
    #[must_use]
    pub fn parse(raw: &'o [u8]) -> Option<Self> {
        let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= MAX_ORIGIN)?;
        let (scheme, authority) = text.split_once("://")?;
        let host_end = match authority.strip_prefix('[') {
            Some(_) => authority.find(']')? + 1,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at_checked(host_end)?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if port.is_empty() => default_port(scheme),
            None => return None,
        };
        (is_scheme(scheme) && is_host(host)).then_some(Self { scheme, host, port })
    }

    fn to_listed(self) -> ListedOrigin {
        ListedOrigin {
            scheme: self.scheme.into(),
            host: self.host.into(),
            port: self.port,
        }
    }
}

/// An origin that an operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedOrigin {
    scheme: Box<str>,
    host: Box<str>,
    port: Option<u16>,
}

impl ListedOrigin {
    /// Whether the origin of a page is this one. Schemes and hosts are compared without case; a default port may be
    /// written or left out.
    fn is(&self, told: &PageOrigin<'_>) -> bool {
        self.port == told.port && self.scheme.eq_ignore_ascii_case(told.scheme) && self.host.eq_ignore_ascii_case(told.host)
    }
}

/// One entry of an operator's list of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginRule {
    /// `*`: every origin.
    Any,
    /// One origin: scheme, host and port.
    Exact(ListedOrigin),
    /// `https://*.example.com`: hosts with one label in front of this one's.
    OneLabel(ListedOrigin),
}

/// What is wrong with the text of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginMistake {
    /// `null`.
    #[error("`null` is no origin of yours: any page in a sandbox has it")]
    Null,
    /// `app.example.com`.
    #[error("an origin begins with its scheme")]
    NoScheme,
    /// `https://app.example.com/`.
    #[error("an origin does not end with a slash")]
    Slash,
    /// `https://app.example.com/login`, with a query or a fragment too.
    #[error("an origin has no path")]
    Path,
    /// `https://ann@app.example.com`.
    #[error("an origin names no user")]
    User,
    /// `https://App.example.com`.
    #[error("browsers send origins in lower case")]
    UpperCase,
    /// `https://müller.example`.
    #[error("browsers send names of hosts in ASCII, as `xn--…`")]
    NotAscii,
    /// `https://app.*.com`, `https://*`, `https://*.com`.
    #[error("`*` stands for one whole label in front of a domain")]
    Wildcard,
    /// Any other text that is not an origin.
    #[error("this is not an origin")]
    Malformed,
}

impl OriginRule {
    /// Reads what an operator lists.
    ///
    /// # Errors
    /// What is wrong, and what to write instead if that is known.
    pub fn parse(text: &str) -> Result<Self, (OriginMistake, Option<String>)> {
        let instead = |mistake, text: String| Err((mistake, Self::parse(&text).is_ok().then_some(text)));
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Err((OriginMistake::Null, None)),
            _ if !text.is_ascii() => return Err((OriginMistake::NotAscii, None)),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return instead(OriginMistake::NoScheme, format!("https://{}", text.trim_start_matches('/')));
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !path.is_empty() {
            let mistake = if path == "/" { OriginMistake::Slash } else { OriginMistake::Path };
            return instead(mistake, format!("{scheme}://{authority}").to_ascii_lowercase());
        }
        if let Some((_, host)) = authority.rsplit_once('@') {
            return instead(OriginMistake::User, format!("{scheme}://{host}").to_ascii_lowercase());
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return instead(OriginMistake::UpperCase, text.to_ascii_lowercase());
        }
        if authority.contains('*') {
            return Self::one_label(scheme, authority).ok_or((OriginMistake::Wildcard, None));
        }
        let origin = PageOrigin::parse(text.as_bytes()).ok_or((OriginMistake::Malformed, None))?;
        Ok(Self::Exact(origin.to_listed()))
    }

    fn one_label(scheme: &str, authority: &str) -> Option<Self> {
        let parent = format!("{scheme}://{}", authority.strip_prefix("*.")?);
        let parent = PageOrigin::parse(parent.as_bytes())?;
        let host = parent.host;
        // `*.com` would list hosts of every company, so the domain needs a dot.
        let is_domain = host.contains('.') && host.bytes().any(|b| b.is_ascii_alphabetic()) && !host.starts_with('[');
        is_domain.then(|| Self::OneLabel(parent.to_listed()))
    }

    /// Whether this entry lists the origin.
    #[must_use]
    pub fn takes(&self, origin: &PageOrigin<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(listed) => listed.is(origin),
            Self::OneLabel(parent) => {
                let above = origin.host.split_once('.').map(|(_, host)| PageOrigin { host, ..*origin });
                above.is_some_and(|above| parent.is(&above))
            }
        }
    }

    /// The listed host, or the host whose subdomains are listed; `None` for `*`.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            Self::Exact(origin) | Self::OneLabel(origin) => Some(&origin.host),
        }
    }
}

/// Whether this is a scheme (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    begins && every(text.as_bytes(), |b| b.is_ascii_alphanumeric() | matches!(b, b'+' | b'-' | b'.'))
}

/// A name of filled labels, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let is_letter = |b: u8| b.is_ascii_alphanumeric() | matches!(b, b'-' | b'_');
    host.split('.').all(|label| !label.is_empty() && label.bytes().all(is_letter))
}

/// `1` to `65535`, without leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    matches!(text.as_bytes(), [b'1'..=b'9', ..]).then(|| text.parse().ok())?
}

const fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}
