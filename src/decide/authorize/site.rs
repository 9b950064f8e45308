//! Proof that a request with a cookie was not sent by another site.

use crate::base::credential::{Credential, TokenOrigin};
use crate::decide::cors::CorsPolicy;
use crate::decide::headers::Scheme;
use crate::wire::fields::Fields;

/// Who attached a credential, and whether that can be trusted on a changing method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// The caller's code, in a header: no other site can make a browser do that.
    Explicitly,
    /// The browser, in a cookie, on a request that the browser says is not from another site.
    ByBrowserProven,
    /// The browser, in a cookie, on a request that may be from another site.
    ByBrowserUnproven,
    /// The browser, in a cookie, on a request of a page whose origin may not use it: no method will do.
    ByForeignPage,
}

impl Carried {
    /// How this credential was carried. `authority` and `scheme` are the request's own, `pages` is what pages of other
    /// origins may do on its route.
    #[must_use]
    pub fn of(credential: &Credential<'_>, fields: &Fields, (authority, scheme): (&str, Scheme), pages: Option<&CorsPolicy>) -> Self {
        match credential.origin() {
            TokenOrigin::Header => Self::Explicitly,
            TokenOrigin::Cookie if cross_site_proof(fields, authority, scheme) => Self::ByBrowserProven,
            TokenOrigin::Cookie => pages.map_or(Self::ByBrowserUnproven, |pages| Self::by_page(fields, authority, pages)),
        }
    }

    /// What a policy says about a cookie that came without proof of this very origin. An origin whose cookies are used
    /// is proof, whatever `Sec-Fetch-Site` says of the two sites. Any other, `null` included, may not even read:
    /// the cookie is not used for it. A link or an image tells no `Origin`, and no page can read what it gets.
    fn by_page(fields: &Fields, authority: &str, pages: &CorsPolicy) -> Self {
        match (fields.one("origin"), fields.one("sec-fetch-site")) {
            (Ok(None), _) => Self::ByBrowserUnproven,
            (Ok(Some(origin)), Ok(_)) if pages.trusts(origin) => Self::ByBrowserProven,
            (Ok(Some(origin)), _) if is_host_of(origin, authority) => Self::ByBrowserUnproven,
            _ => Self::ByForeignPage,
        }
    }
}

/// Whether a page may open a WebSocket where anybody may, and this policy stands: browsers let any page open one to
/// anywhere and read what comes, so whoever is not listed would get there what no answer gives him. A program tells no
/// `Origin`, or the server's own.
#[must_use]
pub fn may_open(fields: &Fields, authority: &str, pages: &CorsPolicy) -> bool {
    match fields.one("origin") {
        Ok(Some(origin)) => pages.lists(origin) || is_host_of(origin, authority),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Whether the browser itself says that this request is not another site's. What pages cannot
/// forge (both are forbidden request headers of the Fetch standard) decides, nothing else does:
///
/// - `Sec-Fetch-Site: same-origin`, or `none` (the user's own doing: no page can cause it), is proof,
///   unless `Origin` contradicts it; `same-site` and `cross-site` are the contrary.
/// - Without it, `Origin` must be this very origin: same scheme, same host, same port.
/// - `Origin: null`, either header twice, or neither of them: no proof. `Referer` is not asked, and
///   neither is the content type: forms can send JSON as `text/plain`.
#[must_use]
pub fn cross_site_proof(fields: &Fields, authority: &str, scheme: Scheme) -> bool {
    let (Ok(site), Ok(origin)) = (fields.one("sec-fetch-site"), fields.one("origin")) else {
        return false;
    };
    match (site, origin) {
        (Some(b"same-origin" | b"none"), None) => true,
        // Behind a proxy that ends TLS and is not trusted our scheme is not the browser's, so only hosts are compared.
        (Some(b"same-origin" | b"none"), Some(origin)) => is_host_of(origin, authority),
        (None, Some(origin)) => is_origin(origin, authority, scheme),
        (Some(_), _) | (None, None) => false,
    }
}

/// Whether an `Origin` is this authority over either scheme.
fn is_host_of(origin: &[u8], authority: &str) -> bool {
    [Scheme::Http, Scheme::Https]
        .into_iter()
        .any(|scheme| is_origin(origin, authority, scheme))
}

/// Whether an `Origin` (RFC 6454, section 6.2) is this scheme and authority, default ports left out
/// on either side.
fn is_origin(origin: &[u8], authority: &str, scheme: Scheme) -> bool {
    let (begin, default_port) = match scheme {
        Scheme::Http => (b"http://".as_slice(), b":80".as_slice()),
        Scheme::Https => (b"https://".as_slice(), b":443".as_slice()),
    };
    let Some(host) = origin.strip_prefix(begin) else {
        return false;
    };
    let bare = |authority| <[u8]>::strip_suffix(authority, default_port).unwrap_or(authority);
    !host.is_empty() && bare(host).eq_ignore_ascii_case(bare(authority.as_bytes()))
}
