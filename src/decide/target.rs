//! The request target: parsed once, canonical, and the same for matching and forwarding.

use std::borrow::Cow;

use memchr::memchr;

use crate::base::denial::Denial;
use crate::base::text::every;
use crate::wire::head::{MAX_TARGET, RequestHead, Version};

use super::host::Authority;
use super::method::Method;
use super::route::PathForms;

mod path;
mod second_reading;

/// The target of a request. It borrows from the head if that was canonical already.
///
/// The path has one spelling for each meaning. A path that a common service would read differently from what is
/// matched here is refused, or rewritten before it is matched (escapes of characters that need none); the service
/// gets the rewritten path. Spellings that some services need and others misread are noted in [`Self::forms`], and a
/// route takes them only if it opts in. A single slash at the end is kept and forwarded. Routes match `/x/` like
/// `/x`, so that a slash never changes the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTarget<'h> {
    /// The canonical path; begins with `/` (or is `*` for `OPTIONS *`).
    pub path: Cow<'h, str>,
    /// The query as received, without `?`; never part of a match.
    pub query: Option<&'h str>,
    /// The host, lower case, without port.
    pub host: Cow<'h, str>,
    /// Host and port as validated, to be forwarded.
    pub authority: Cow<'h, str>,
    /// Spellings in it that only routes which opt in take.
    pub forms: PathForms,
}

impl<'h> RequestTarget<'h> {
    /// Reads target and host of a head.
    ///
    /// The target is in origin form; in absolute form only on HTTP/1 and only if its authority
    /// is that of `Host` (RFC 9112, section 3.2.2), and then its path is what is matched and forwarded; `*`
    /// only for `OPTIONS`.
    ///
    /// # Errors
    /// [`Denial::MalformedTarget`], [`Denial::TargetTooLong`] or [`Denial::MalformedHost`].
    pub fn parse(head: &'h RequestHead, method: Method) -> Result<Self, Denial> {
        if head.target.len() > MAX_TARGET {
            return Err(Denial::TargetTooLong);
        }
        // No spaces, no control characters and no `#`. A fragment is never sent (RFC 9110, section 7.1), and what
        // follows it is path to some services and nothing to others.
        if !every(&head.target, |b| (b > b' ') & (b != 0x7f) & (b != b'#')) {
            return Err(Denial::MalformedTarget);
        }
        let raw = std::str::from_utf8(&head.target).map_err(|_| Denial::MalformedTarget)?;
        let authority = Authority::of(head)?;
        let origin_form = origin_form(raw, head.version, &authority, method)?;
        let mark = memchr(b'?', origin_form.as_bytes());
        let (raw_path, query) = match mark.and_then(|at| Some((origin_form.get(..at)?, origin_form.get(at + 1..)?))) {
            Some((path, query)) => (path, Some(query)),
            None => (origin_form, None),
        };
        let path = if raw_path == "*" {
            path::CanonicalPath::asterisk(query, method)?
        } else {
            path::CanonicalPath::parse(raw_path)?
        };
        Ok(Self {
            path: path.text,
            query,
            host: authority.to_host(),
            authority: authority.text,
            forms: path
                .forms
                .with(PathForms::RAW_CHARACTER.only_if(query.is_some_and(|query| !query.is_ascii()))),
        })
    }

    /// The path by which the route is found: without path parameters. It allocates only if there are some.
    #[must_use]
    pub fn route_path(&self) -> Cow<'_, str> {
        if !self.forms.contains(PathForms::PARAMETER) {
            return Cow::Borrowed(&self.path);
        }
        let mut names = String::with_capacity(self.path.len());
        for (i, segment) in self.path.split('/').enumerate() {
            if i > 0 {
                names.push('/');
            }
            names.push_str(segment.split(';').next().unwrap_or_default());
        }
        Cow::Owned(names)
    }
}

/// The target without scheme and authority, if it has one of the forms allowed.
fn origin_form<'h>(raw: &'h str, version: Version, authority: &Authority<'_>, method: Method) -> Result<&'h str, Denial> {
    if raw.starts_with('/') || raw == "*" {
        return Ok(raw);
    }
    let (scheme, rest) = raw.split_once("://").ok_or(Denial::MalformedTarget)?;
    let default_port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => "80",
        _ if scheme.eq_ignore_ascii_case("https") => "443",
        _ => return Err(Denial::MalformedTarget),
    };
    if version == Version::Http2 {
        return Err(Denial::MalformedTarget);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (named, after) = rest.split_at_checked(end).ok_or(Denial::MalformedTarget)?;
    let named = Authority::parse(named.as_bytes()).map_err(|_| Denial::MalformedTarget)?;
    if !named.is_same(authority, default_port) {
        return Err(Denial::MalformedTarget);
    }
    match after {
        // RFC 9112, section 3.2.4: the absolute form of `OPTIONS *`.
        "" if method == Method::Options => Ok("*"),
        "" => Ok("/"),
        _ if after.starts_with('/') => Ok(after),
        _ => Err(Denial::MalformedTarget),
    }
}

#[cfg(test)]
mod tests;
