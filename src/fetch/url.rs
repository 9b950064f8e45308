//! URLs that the gateway asks or sends browsers to, read so strictly that every reader takes them for the same place.

use std::fmt;

use crate::base::authority::split_authority;

/// Longest URL. Servers commonly take a request line of 8 KiB; a quarter is left for what we append.
const MAX_URL: usize = 2048;

/// An absolute URL of a server, without user and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchUrl {
    pub scheme: FetchScheme,
    /// Host name or address literal, without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub target: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchScheme {
    Https,
    Http,
}

/// The schemes that a URL may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchSchemes {
    Https,
    /// `http` too, as the operator has configured. Whoever is on the way can then read and change everything.
    InsecureHttp,
}

/// Why a text is not a URL that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("it is longer than 2,048 characters")]
    TooLong,
    #[error("it does not begin with `https://`")]
    Scheme,
    #[error("its host, port or path cannot be read; it has no user and no fragment")]
    Form,
}

impl FetchScheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

impl FetchUrl {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn parse(text: &str, schemes: FetchSchemes) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_URL {
            return Err(InvalidUrl::TooLong);
        }
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (FetchScheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://").filter(|_| schemes == FetchSchemes::InsecureHttp) {
            (FetchScheme::Http, rest)
        } else {
            return Err(InvalidUrl::Scheme);
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        // A backslash is a slash to browsers, and no part of a URL.
        if !target
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>'))
        {
            return Err(InvalidUrl::Form);
        }
        let (host, port) = split_authority(authority, scheme.default_port()).ok_or(InvalidUrl::Form)?;
        Ok(Self {
            scheme,
            host,
            port,
            target,
        })
    }

    /// Host and port, as a `Host` field carries them: without the port that the scheme has anyway.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for FetchUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_written_alike() {
        for (text, written) in [
            ("https://Login.Example.com", "https://login.example.com/"),
            ("https://login.example.com:443/a?b=c&d=%20", "https://login.example.com/a?b=c&d=%20"),
            ("https://login.example.com?p=policy", "https://login.example.com/?p=policy"),
            ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
        ] {
            let url = FetchUrl::parse(text, FetchSchemes::Https).unwrap();
            assert_eq!(url.to_string(), written);
            assert_eq!(FetchUrl::parse(written, FetchSchemes::Https).unwrap(), url);
        }
    }

    #[test]
    fn what_two_readers_could_take_for_two_places_is_no_url() {
        for bad in [
            "",
            "https://",
            "https:///path",
            "https:/login.example.com",
            "HTTPS://login.example.com",
            "https://user@login.example.com/",
            "https://login.example.com\\@evil.example/",
            "https://login.example.com/a\\b",
            "https://login.example.com/#x",
            "https://login.example.com#x",
            "https://login.example.com/a b",
            "https://login.example.com/\r\nHost: x",
            "https://l\u{f6}gin.example.com/",
            "https://login.example.com/\u{f6}",
            "//login.example.com/",
            "ftp://login.example.com/",
            "file:///etc/passwd",
            "javascript:alert(1)",
        ] {
            assert!(FetchUrl::parse(bad, FetchSchemes::InsecureHttp).is_err(), "{bad}");
        }
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL));
        assert_eq!(FetchUrl::parse(&long, FetchSchemes::Https), Err(InvalidUrl::TooLong));
    }

    #[test]
    fn plain_http_is_for_operators_who_ask_for_it() {
        assert_eq!(FetchUrl::parse("http://a.example/", FetchSchemes::Https), Err(InvalidUrl::Scheme));
        let url = FetchUrl::parse("http://localhost:8080/a", FetchSchemes::InsecureHttp).unwrap();
        assert_eq!(
            (url.scheme, url.port, url.to_string()),
            (FetchScheme::Http, 8080, "http://localhost:8080/a".to_owned())
        );
    }
}
