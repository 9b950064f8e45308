//! Proof that a request with a cookie was not sent by another site.

use crate::base::credential::{Credential, TokenOrigin};
use crate::decide::cors::CorsPolicy;
use crate::decide::headers::UriScheme;
use crate::wire::fields::Fields;

/// Who attached a credential to a request, and whether the request may come from another site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// The caller's code, in a header: no other site can make a browser do that.
    Explicitly,
    /// The browser, in a cookie, on a request that the browser says is not from another site.
    ByBrowserProven,
    /// The browser, in a cookie, on a request that may be from another site.
    ByBrowserUnproven,
    /// The browser, in a cookie, on a request of a page whose origin may not use the cookie on any method.
    ByForeignPage,
}

impl Carried {
    /// How this credential was carried. `own` gives the request's authority and scheme, and is called only for a
    /// cookie. `pages` is the CORS policy of the route.
    #[must_use]
    pub fn of<'r>(
        credential: &Credential<'_>,
        fields: &'r Fields,
        own: impl FnOnce() -> (&'r str, UriScheme),
        pages: Option<&CorsPolicy>,
    ) -> Self {
        if credential.origin() == TokenOrigin::Header {
            return Self::Explicitly;
        }
        let (authority, scheme) = own();
        if cross_site_proof(fields, authority, scheme) {
            return Self::ByBrowserProven;
        }
        pages.map_or(Self::ByBrowserUnproven, |pages| Self::by_page(fields, authority, pages))
    }

    /// How a cookie was carried that came without proof of the request's own origin, by the policy of the route. If
    /// the policy uses the cookies of an origin, that origin is proof, whatever `Sec-Fetch-Site` says. For any other
    /// origin, `null` included, the cookie is not used at all: the page must not even read the answer. The request of
    /// a link or an image has no `Origin`, and no page can read its answer.
    fn by_page(fields: &Fields, authority: &str, pages: &CorsPolicy) -> Self {
        match (fields.one("origin"), fields.one("sec-fetch-site")) {
            (Ok(None), _) => Self::ByBrowserUnproven,
            (Ok(Some(origin)), Ok(_)) if pages.trusts(origin) => Self::ByBrowserProven,
            (Ok(Some(origin)), _) if is_host_of(origin, authority) => Self::ByBrowserUnproven,
            _ => Self::ByForeignPage,
        }
    }
}

/// Whether a WebSocket may be opened on a public route with this CORS policy. A browser lets a page of any origin
/// open a WebSocket and read from it. So without this check a page whose origin is not listed would read there what
/// CORS keeps from it. Programs other than browsers send no `Origin`, or the origin of the server itself.
#[must_use]
pub fn may_open(fields: &Fields, authority: &str, pages: &CorsPolicy) -> bool {
    match fields.one("origin") {
        Ok(Some(origin)) => pages.lists(origin) || is_host_of(origin, authority),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Whether the browser itself says that this request is not another site's. Only headers that pages cannot forge
/// count (both are forbidden request headers of the Fetch standard):
///
/// - `Sec-Fetch-Site: same-origin`, or `none` (the user's own act, which no page can cause), is proof, unless
///   `Origin` contradicts it. `same-site` and `cross-site` are the contrary.
/// - Without it, `Origin` must be this very origin: same scheme, same host, same port.
/// - `Origin: null`, either header twice, or neither of them is no proof. `Referer` is not used, and neither is the
///   content type: forms can send JSON as `text/plain`.
#[must_use]
pub fn cross_site_proof(fields: &Fields, authority: &str, scheme: UriScheme) -> bool {
    let (Ok(site), Ok(origin)) = (fields.one("sec-fetch-site"), fields.one("origin")) else {
        return false;
    };
    match (site, origin) {
        (Some(b"same-origin" | b"none"), None) => true,
        // Behind an untrusted proxy that ends TLS, our scheme differs from the browser's, so only hosts are compared.
        (Some(b"same-origin" | b"none"), Some(origin)) => is_host_of(origin, authority),
        (None, Some(origin)) => is_origin(origin, authority, scheme),
        (Some(_), _) | (None, None) => false,
    }
}

/// Whether an `Origin` names this authority, with either scheme.
fn is_host_of(origin: &[u8], authority: &str) -> bool {
    [UriScheme::Http, UriScheme::Https]
        .into_iter()
        .any(|scheme| is_origin(origin, authority, scheme))
}

/// Whether an `Origin` (RFC 6454, section 6.2) is this scheme and authority. Default ports may be left out on either
/// side.
fn is_origin(origin: &[u8], authority: &str, scheme: UriScheme) -> bool {
    let (begin, default_port) = match scheme {
        UriScheme::Http => (b"http://".as_slice(), b":80".as_slice()),
        UriScheme::Https => (b"https://".as_slice(), b":443".as_slice()),
    };
    let Some(host) = origin.strip_prefix(begin) else {
        return false;
    };
    let bare = |authority| <[u8]>::strip_suffix(authority, default_port).unwrap_or(authority);
    !host.is_empty() && bare(host).eq_ignore_ascii_case(bare(authority.as_bytes()))
}
