//! Finds the one credential of a request. Two credentials are refused; the gateway never chooses between them.

use crate::base::credential::{Credential, TokenOrigin};
use crate::base::denial::Denial;
use crate::base::scope::Mode;
use crate::base::text::every;
use crate::wire::fields::Fields;

use super::surface::{AuthScheme, HeaderLocation, KeyPrefix, Surface, SurfaceIndex};
use super::token::{MAX_TOKEN_LEN, is_token_shaped};

#[cfg(test)]
mod tests;

/// A credential and the surface it was presented on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted<'h> {
    pub surface: SurfaceIndex,
    /// The credential, borrowed from the head.
    pub credential: Credential<'h>,
    /// The mode that the prefix shows, if any.
    pub mode: Option<Mode>,
}

/// Finds the credential for a route that accepts `accepted`, among all `surfaces`.
///
/// The rules, in order:
/// 1. Headers that carry a credential on *any* configured surface are looked at. One of them twice,
///    or two of them (but the halves of one pair), is ambiguous, whatever they hold.
/// 2. An explicit header beats every cookie. `Authorization` counts only with a scheme that some surface uses;
///    another scheme is no credential of ours, but still one too many next to another header.
/// 3. Without a header, the cookies of the accepted surfaces are looked at.
/// 4. The text must be of an accepted surface: by the longest key prefix among all surfaces that use
///    the carrier, or by the shape of a token. Length, alphabet and, for generated keys, the
///    checksum are checked here, so that what cannot exist costs no look-up.
///
/// # Errors
/// [`Denial::MissingCredential`], [`Denial::AmbiguousCredentials`], [`Denial::MalformedCredential`],
/// [`Denial::WrongSurface`], [`Denial::MisplacedCredential`], [`Denial::WrongMode`].
pub fn extract<'h>(fields: &'h Fields, surfaces: &[Surface], accepted: &[SurfaceIndex]) -> Result<Extracted<'h>, Denial> {
    let request = Request { surfaces, accepted };
    match find_explicit(fields, surfaces)? {
        Explicit::One { name, value } if name.eq_ignore_ascii_case(b"authorization") => match AuthScheme::split(value) {
            Some((scheme, rest)) if request.is_used(HeaderLocation::Authorization(scheme)) => {
                let location = HeaderLocation::Authorization(scheme);
                request.classify(location, request.excuse_elsewhere(location, behind_scheme(rest))?)
            }
            _ => request.extract_cookie(fields),
        },
        Explicit::One { name, value } => {
            let location = HeaderLocation::Header(name);
            request.classify(location, request.excuse_elsewhere(location, check_single(value))?)
        }
        Explicit::Pair {
            surface,
            publishable,
            secret,
        } => request.classify_pair(surface, check_single(publishable)?, check_single(secret)?),
        Explicit::Nothing => request.extract_cookie(fields),
    }
}

/// Reads the two halves of a pair that were presented in a body, for the surface `index`. They are judged like halves
/// in two headers.
///
/// # Errors
/// [`Denial::MalformedCredential`], [`Denial::WrongMode`]; [`Denial::AmbiguousCredentials`] for a surface that takes
/// no pairs.
pub fn extract_pair<'h>(
    surfaces: &[Surface],
    index: SurfaceIndex,
    publishable: &'h [u8],
    secret: &'h [u8],
) -> Result<Extracted<'h>, Denial> {
    let accepted = [index];
    let request = Request {
        surfaces,
        accepted: &accepted,
    };
    request.classify_pair(index, publishable, secret)
}

/// The headers of a request that carry credentials.
enum Explicit<'h> {
    Nothing,
    One {
        name: &'h [u8],
        value: &'h [u8],
    },
    Pair {
        surface: SurfaceIndex,
        publishable: &'h [u8],
        secret: &'h [u8],
    },
}

/// Collects the headers that carry a credential on any surface. There are at most two, and two only as the halves of
/// one pair.
fn find_explicit<'h>(fields: &'h Fields, surfaces: &[Surface]) -> Result<Explicit<'h>, Denial> {
    let mut found = fields.iter().filter(|f| surfaces.iter().any(|s| s.uses_header(f.name)));
    let Some(first) = found.next() else {
        return Ok(Explicit::Nothing);
    };
    let Some(second) = found.next() else {
        return Ok(Explicit::One {
            name: first.name,
            value: first.value,
        });
    };
    if found.next().is_some() {
        return Err(Denial::AmbiguousCredentials);
    }
    for (index, surface) in surfaces.iter().enumerate() {
        let Some([key_header, secret_header]) = surface.kind.carry().half_headers() else {
            continue;
        };
        let halves = [(first, second), (second, first)];
        if let Some((publishable, secret)) = halves.into_iter().find(|(k, s)| k.is(key_header) && s.is(secret_header)) {
            return Ok(Explicit::Pair {
                surface: SurfaceIndex(index),
                publishable: publishable.value,
                secret: secret.value,
            });
        }
    }
    Err(Denial::AmbiguousCredentials)
}

/// The text after a scheme: at least one space, then one text and no list (`1*SP`, RFC 9110, section 11.4).
fn behind_scheme(rest: &[u8]) -> Result<&[u8], Denial> {
    let spaces = rest.iter().take_while(|b| **b == b' ').count();
    match rest.get(spaces..) {
        Some(text) if spaces > 0 => check_single(text),
        _ => Err(Denial::MalformedCredential),
    }
}

/// Checks that a text is one credential: a list is several (RFC 9110, section 5.3), and a credential holds no white
/// space. The kind of credential limits the length, so that the access line can tell which limit was exceeded.
fn check_single(value: &[u8]) -> Result<&[u8], Denial> {
    if !every(value, |b| b != b',') {
        return Err(Denial::AmbiguousCredentials);
    }
    if value.is_empty() || !every(value, |b| b.is_ascii_graphic()) {
        return Err(Denial::MalformedCredential);
    }
    Ok(value)
}

/// The surfaces that the route accepts, and all configured surfaces.
#[derive(Clone, Copy)]
struct Request<'s> {
    surfaces: &'s [Surface],
    accepted: &'s [SurfaceIndex],
}

impl<'s> Request<'s> {
    fn accepts(self, index: SurfaceIndex) -> bool {
        self.accepted.contains(&index)
    }

    /// Every surface with its index.
    fn each(self) -> impl Iterator<Item = (SurfaceIndex, &'s Surface)> {
        self.surfaces.iter().enumerate().map(|(i, s)| (SurfaceIndex(i), s))
    }

    /// Every surface whose credentials, or halves of them, stand in this header.
    fn users_of(self, location: HeaderLocation<'_>) -> impl Iterator<Item = (SurfaceIndex, &'s Surface)> {
        self.each().filter(move |(_, s)| s.kind.carry().is_at(location))
    }

    fn is_used(self, location: HeaderLocation<'_>) -> bool {
        self.users_of(location).next().is_some()
    }

    /// Decides to which surface the text of a header belongs.
    fn classify<'h>(self, location: HeaderLocation<'_>, text: &'h [u8]) -> Result<Extracted<'h>, Denial> {
        let Some((index, surface, prefix)) = longest_owner(self.users_of(location), text) else {
            return self.classify_unprefixed(location, text);
        };
        if !self.accepts(index) {
            return Err(self.foreign_in(location));
        }
        self.admit(index, surface.kind.read(text, prefix)?, prefix.mode)
    }

    /// Decides about a text that has no key prefix of its header: it is a token, or not good.
    fn classify_unprefixed<'h>(self, location: HeaderLocation<'_>, text: &'h [u8]) -> Result<Extracted<'h>, Denial> {
        let mut sessions = self
            .users_of(location)
            .filter(|(index, s)| s.takes_tokens() && self.accepts(*index));
        if is_token_shaped(text)
            && let Some((surface, _)) = sessions.next()
        {
            let origin = TokenOrigin::Header;
            return self.admit(surface, Credential::Jwt { token: text, origin }, None);
        }
        Err(match (self.is_foreign(text), self.is_accepted_in(location)) {
            (true, _) => self.foreign_in(location),
            (false, true) => Denial::MalformedCredential,
            // No accepted surface uses this header, and no surface has credentials of this form: the text is not for
            // us.
            (false, false) => Denial::MissingCredential,
        })
    }

    /// A malformed text counts as malformed in a header that the route looks at, and as no credential in any other.
    fn excuse_elsewhere<T>(self, location: HeaderLocation<'_>, read: Result<T, Denial>) -> Result<T, Denial> {
        read.map_err(|denial| match denial {
            Denial::MalformedCredential if !self.is_accepted_in(location) => Denial::MissingCredential,
            other => other,
        })
    }

    /// Whether a surface of the route has its credential in this header.
    fn is_accepted_in(self, location: HeaderLocation<'_>) -> bool {
        self.users_of(location).any(|(index, _)| self.accepts(index))
    }

    /// The denial for a credential of another surface, by the header in which it came. For a caller whose API
    /// documents one header only, a credential elsewhere may count as none.
    fn foreign_in(self, location: HeaderLocation<'_>) -> Denial {
        if self.is_accepted_in(location) {
            Denial::WrongSurface
        } else {
            Denial::MisplacedCredential
        }
    }

    /// Whether a text has the form of a credential of some configured surface.
    fn is_foreign(self, text: &[u8]) -> bool {
        self.surfaces.iter().any(|s| s.kind.is_form_of(text))
    }

    fn classify_pair<'h>(self, index: SurfaceIndex, publishable: &'h [u8], secret: &'h [u8]) -> Result<Extracted<'h>, Denial> {
        let surface = self.surfaces.get(index.0).ok_or(Denial::AmbiguousCredentials)?;
        if !self.accepts(index) {
            return Err(match surface.kind.carry().half_headers() {
                Some([key, _]) => self.foreign_in(HeaderLocation::Header(key.as_bytes())),
                None => Denial::WrongSurface,
            });
        }
        let (credential, mode) = surface.kind.read_halves(publishable, secret)?;
        self.admit(index, credential, mode)
    }

    /// The token in a cookie of an accepted surface. The same cookie twice is malformed. Two cookies of two accepted
    /// surfaces are ambiguous.
    fn extract_cookie<'h>(self, fields: &'h Fields) -> Result<Extracted<'h>, Denial> {
        let mut found = None;
        let mut jar = None;
        for (index, name) in self
            .each()
            .filter(|(index, _)| self.accepts(*index))
            .flat_map(|(index, s)| s.cookies().map(move |name| (index, name)))
        {
            if jar.is_none() {
                jar = Some(check_cookie_count(fields)?);
            }
            let Some(value) = find_cookie(fields, name)? else {
                continue;
            };
            match found {
                // Two surfaces may share a cookie. The first accepted one gets it.
                Some((_, other, _)) if other == name => {}
                Some(_) => return Err(Denial::AmbiguousCredentials),
                None => found = Some((index, name, value)),
            }
        }
        let (surface, _, token) = found.ok_or(Denial::MissingCredential)?;
        if token.len() > MAX_TOKEN_LEN || !is_token_shaped(token) {
            return Err(Denial::MalformedCredential);
        }
        let origin = TokenOrigin::Cookie;
        self.admit(surface, Credential::Jwt { token, origin }, None)
    }

    /// The last check: a surface that is pinned to one mode takes no key of another.
    fn admit<'h>(self, surface: SurfaceIndex, credential: Credential<'h>, mode: Option<Mode>) -> Result<Extracted<'h>, Denial> {
        let pinned = self.surfaces.get(surface.0).and_then(|s| s.mode);
        match (pinned, mode) {
            (Some(pinned), Some(mode)) if pinned != mode => Err(Denial::WrongMode),
            _ => Ok(Extracted { surface, credential, mode }),
        }
    }
}

/// The surface with the longest key prefix that the text begins with.
fn longest_owner<'s>(
    users: impl Iterator<Item = (SurfaceIndex, &'s Surface)>,
    text: &[u8],
) -> Option<(SurfaceIndex, &'s Surface, &'s KeyPrefix)> {
    users
        .filter_map(|(index, s)| Some((index, s, s.prefix_of(text)?)))
        .max_by_key(|(_, _, prefix)| prefix.text.len())
}

/// Most cookies of a request. Browsers keep at most 180 for a site; more are an attempt to make us work.
const MAX_COOKIES: usize = 200;

/// Refuses requests with more cookies than any browser sends.
fn check_cookie_count(fields: &Fields) -> Result<(), Denial> {
    if each_cookie(fields).nth(MAX_COOKIES).is_some() {
        Err(Denial::MalformedCredential)
    } else {
        Ok(())
    }
}

/// The value of the cookie of this name, in all `Cookie` lines (HTTP/2 may send one line for each cookie: RFC 9113,
/// section 8.2.3).
///
/// Quotes, `$Version` and escapes have no meaning here (RFC 6265, section 5.4: a server sees what the user agent was
/// given). A name that occurs twice is refused, and so is a name with white space before its `=`: the service behind
/// might read both as the same cookie.
fn find_cookie<'h>(fields: &'h Fields, name: &str) -> Result<Option<&'h [u8]>, Denial> {
    let mut found = None;
    for cookie in each_cookie(fields) {
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

/// The cookies whose names begin with `prefix`, with their values, as many as a browser keeps. A name with white space
/// before its `=` is none: the service behind might read it as another one.
pub fn cookies_beginning<'h>(fields: &'h Fields, prefix: &'h str) -> impl Iterator<Item = (&'h [u8], &'h [u8])> {
    each_cookie(fields).take(MAX_COOKIES).filter_map(move |cookie| {
        let at = memchr::memchr(b'=', cookie)?;
        let (name, value) = (cookie.get(..at)?, cookie.get(at + 1..)?);
        (name.starts_with(prefix.as_bytes()) && trim(name) == name).then_some((name, value))
    })
}

/// Every cookie pair, without the white space (SP and HTAB) around it.
fn each_cookie(fields: &Fields) -> impl Iterator<Item = &[u8]> {
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
