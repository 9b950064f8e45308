//! What a caller presented: untrusted, borrowed from the request head, never copied or printed.

use std::fmt;

/// A presented credential. It borrows from the head, so that it cannot outlive extraction and
/// resolution; `Debug` shows its kind and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// An API key, whole.
    Key(&'a [u8]),
    /// Both halves of a key pair.
    Pair {
        /// The publishable half.
        publishable: &'a [u8],
        /// The secret half.
        secret: &'a [u8],
    },
    /// The base64 of user name and password, as the scheme `Basic` carries them; decoded only while it is used.
    Basic(&'a [u8]),
    /// A signed token.
    Jwt {
        /// The compact serialisation.
        token: &'a [u8],
        /// Where it was carried; a cookie travels without the user's intent.
        origin: TokenOrigin,
    },
}

impl Credential<'_> {
    /// Who attached it.
    #[must_use]
    pub const fn origin(&self) -> TokenOrigin {
        match self {
            Self::Key(_) | Self::Pair { .. } | Self::Basic(_) => TokenOrigin::Header,
            Self::Jwt { origin, .. } => *origin,
        }
    }
}

/// Whether the caller's code or the caller's browser attached a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOrigin {
    /// `Authorization` or a named header.
    Header,
    /// A cookie.
    Cookie,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Credential::Key(..)",
            Self::Pair { .. } => "Credential::Pair(..)",
            Self::Basic(_) => "Credential::Basic(..)",
            Self::Jwt { .. } => "Credential::Jwt(..)",
        })
    }
}
