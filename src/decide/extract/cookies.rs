//! Cookies as bytes on the wire: split at `;`, compared exactly, never interpreted.

use crate::base::denial::Denial;
use crate::wire::fields::Fields;

/// Most cookies of a request that is read for one. Browsers keep 180 for a site at most; more are
/// made to make us work.
const MAX_COOKIES: usize = 200;

/// Refuses requests with more cookies than any browser sends.
pub(super) fn check_count(fields: &Fields) -> Result<(), Denial> {
    if each(fields).nth(MAX_COOKIES).is_some() {
        Err(Denial::MalformedCredential)
    } else {
        Ok(())
    }
}

/// The value of the cookie of this name, over all `Cookie` lines (HTTP/2 sends one for each: RFC
/// 9113, section 8.2.3).
///
/// Quotes, `$Version` and escapes mean nothing here (RFC 6265, section 5.4: a server sees what the
/// user agent was given). The name twice is refused, and so is the name with white space before its
/// `=`: the service behind might read that as the same cookie.
pub(super) fn find_one<'h>(fields: &'h Fields, name: &str) -> Result<Option<&'h [u8]>, Denial> {
    let mut found = None;
    for cookie in each(fields) {
        let Some(at) = memchr::memchr(b'=', cookie) else {
            continue;
        };
        let (own, value) = (&cookie[..at], &cookie[at + 1..]);
        if trim(own) != name.as_bytes() {
            continue;
        }
        if own.len() != name.len() || found.replace(value).is_some() {
            return Err(Denial::MalformedCredential);
        }
    }
    Ok(found)
}

/// Every cookie pair, with white space (SP and HTAB only) around it removed.
fn each(fields: &Fields) -> impl Iterator<Item = &[u8]> {
    fields
        .all("cookie")
        .flat_map(|line| line.split(|b| *b == b';'))
        .map(trim)
        .filter(|cookie| !cookie.is_empty())
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
