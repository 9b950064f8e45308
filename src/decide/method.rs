//! The methods: a closed list without TRACE, CONNECT and unknown methods.

use crate::base::denial::Denial;
use crate::wire::framing::is_token;

/// A method that a route may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Options,
    ];

    /// Reads a method token; methods are case-sensitive (RFC 9110, section 9.1).
    ///
    /// # Errors
    /// [`Denial::MethodNotAllowed`] for a token that is none of these methods, [`Denial::MalformedRequest`] for a
    /// text that is no token.
    pub fn parse(token: &[u8]) -> Result<Self, Denial> {
        match token {
            b"GET" => Ok(Self::Get),
            b"HEAD" => Ok(Self::Head),
            b"POST" => Ok(Self::Post),
            b"PUT" => Ok(Self::Put),
            b"PATCH" => Ok(Self::Patch),
            b"DELETE" => Ok(Self::Delete),
            b"OPTIONS" => Ok(Self::Options),
            _ if !token.is_empty() && token.iter().all(|b| is_token(*b)) => Err(Denial::MethodNotAllowed),
            _ => Err(Denial::MalformedRequest),
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Safe methods change nothing (RFC 9110, section 9.2.1).
    #[must_use]
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Idempotent methods may be repeated (RFC 9110, section 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_methods_pass() {
        for m in Method::ALL {
            assert_eq!(Method::parse(m.as_str().as_bytes()), Ok(m));
        }
        for bad in ["TRACE", "CONNECT", "get", "PURGE"] {
            assert_eq!(Method::parse(bad.as_bytes()), Err(Denial::MethodNotAllowed), "{bad}");
        }
        for bad in ["", "G\"T", "GE T"] {
            assert_eq!(Method::parse(bad.as_bytes()), Err(Denial::MalformedRequest), "{bad}");
        }
    }
}
