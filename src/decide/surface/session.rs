//! Session tokens as configured: which record they hang on, and how the gateway makes and renews them.

use std::time::Duration;

use crate::base::ids::SurfaceName;

/// Which record a session token hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionRecord {
    /// The one of this surface that `sub` names by id: the token has none of its own.
    Sub(SurfaceName),
    /// One of its own surface that `jti` names by id, and whose parent is what the session hangs on:
    /// each session can be listed and ended by itself.
    Own,
}

/// How tokens of a session surface are minted. The first secret of its rules signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minting {
    /// `exp` less `iat`, unless a mint says less; never beyond the end of the record.
    pub lifetime: Duration,
    /// The cookie a minted token is set as, if the surface has one.
    pub cookie: Option<CookieSpec>,
    /// Whether a token is renewed while it is used; only with [`SessionRecord::Own`].
    pub refresh: Option<Refresh>,
}

/// The cookie of a session. Always `HttpOnly` and `Secure`, never with `Domain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSpec {
    /// Its name, which is also one of the surface's carriers.
    pub name: String,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Path`.
    pub path: String,
    /// `Max-Age`; `None`: until the browser closes.
    pub max_age: Option<Duration>,
}

/// When a browser attaches a cookie to requests that other sites cause (RFC 6265bis, section 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// When a person follows a link.
    Lax,
    /// Always.
    None,
}

impl SameSite {
    /// Its word in `Set-Cookie`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// Automatic renewal: a used token that is older than `after` is answered with a new one, up to the
/// end of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// Age from which a token is renewed; shorter than its lifetime.
    pub after: Duration,
    /// The response header a renewed token is told in, for callers without a cookie.
    pub header: Option<String>,
}
