//! Finds the one credential of a request; two are a refusal, never a choice.

use crate::base::credential::{Credential, TokenOrigin};
use crate::base::denial::Denial;
use crate::base::key::{MAX_KEY_LEN, checksum_holds_of};
use crate::base::scope::Mode;
use crate::base::text::every;
use crate::wire::fields::Fields;

use super::surface::{DEFAULT_RANDOM, Halves, KeyOrigin, KeyPrefix, Surface, SurfaceIndex, SurfaceKind, longest_prefix};
use super::token::{MAX_TOKEN_LEN, is_token_shaped};

mod cookies;
#[cfg(test)]
mod tests;

/// A credential and the surface it was presented on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted<'h> {
    /// The surface.
    pub surface: SurfaceIndex,
    /// The credential, borrowed from the head.
    pub credential: Credential<'h>,
    /// The mode its prefix tells, if any.
    pub mode: Option<Mode>,
}

/// Finds the credential for a route that accepts `accepted`, among all `surfaces`.
///
/// The rules, in order:
/// 1. Headers that carry a credential on *any* configured surface are looked at. One of them twice,
///    or two of them (but the halves of one pair), is ambiguous, whatever they hold (hardening H9).
/// 2. An explicit header beats every cookie. `Authorization` counts only with the scheme `Bearer`;
///    another scheme is no credential of ours, but still one too many next to another header.
/// 3. Without a header, the cookies of the accepted surfaces are looked at (hardening K8).
/// 4. The text must be of an accepted surface: by the longest key prefix among all surfaces that use
///    the carrier, or by the shape of a token. Length, alphabet and, for generated keys, the
///    checksum are checked here, so that what cannot exist costs no look-up (hardening K2).
///
/// # Errors
/// [`Denial::MissingCredential`], [`Denial::AmbiguousCredentials`], [`Denial::MalformedCredential`],
/// [`Denial::WrongSurface`], [`Denial::MisplacedCredential`], [`Denial::WrongMode`].
pub fn extract<'h>(fields: &'h Fields, surfaces: &[Surface], accepted: &[SurfaceIndex]) -> Result<Extracted<'h>, Denial> {
    let request = Request { surfaces, accepted };
    match find_explicit(fields, surfaces)? {
        Explicit::One { name, value } if name.eq_ignore_ascii_case(b"authorization") => {
            match request.excuse_elsewhere(name, find_bearer(value))? {
                Some(text) => request.classify(name, text),
                None => request.extract_cookie(fields),
            }
        }
        Explicit::One { name, value } => request.classify(name, request.excuse_elsewhere(name, check_single(value))?),
        Explicit::Pair {
            surface,
            publishable,
            secret,
        } => request.classify_pair(surface, check_single(publishable)?, check_single(secret)?),
        Explicit::Nothing => request.extract_cookie(fields),
    }
}

/// The two halves of a pair that were presented in a body, for the surface `index`: judged like those
/// in two headers.
///
/// # Errors
/// [`Denial::MalformedCredential`], [`Denial::WrongMode`]; [`Denial::AmbiguousCredentials`] for a
/// surface that is no pair's.
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

/// What the request says in headers that carry credentials.
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

/// Collects the headers that carry a credential on any surface: at most two, and two only as the
/// halves of one pair.
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
        let SurfaceKind::KeyPair {
            halves: Halves::Headers {
                key: key_header,
                secret: secret_header,
            },
            ..
        } = &surface.kind
        else {
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

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1); `None` for another scheme.
fn find_bearer(value: &[u8]) -> Result<Option<&[u8]>, Denial> {
    const SCHEME: &[u8] = b"bearer";
    let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Ok(None);
    }
    match rest {
        [b' ', token @ ..] => check_single(token).map(Some),
        // `Bearer` alone, or followed by a tab or a comma; `Bearerx` is another scheme.
        [] | [b'\t' | b',' | b'=', ..] => Err(Denial::MalformedCredential),
        [..] => Ok(None),
    }
}

/// One credential and nothing else: a list is several (RFC 9110, section 5.3), white space inside is
/// none.
fn check_single(value: &[u8]) -> Result<&[u8], Denial> {
    if !every(value, |b| b != b',') {
        return Err(Denial::AmbiguousCredentials);
    }
    if value.is_empty() || value.len() > MAX_TOKEN_LEN || !every(value, |b| b.is_ascii_graphic()) {
        return Err(Denial::MalformedCredential);
    }
    Ok(value)
}

/// What the route accepts, and everything that is configured.
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

    /// Every surface that uses a header of this name.
    fn users_of(self, name: &[u8]) -> impl Iterator<Item = (SurfaceIndex, &'s Surface)> {
        self.each().filter(move |(_, s)| s.uses_header(name))
    }

    /// Decides whose credential a header's text is.
    fn classify<'h>(self, name: &[u8], text: &'h [u8]) -> Result<Extracted<'h>, Denial> {
        let Some((surface, prefix)) = longest_owner(self.users_of(name), text) else {
            return self.classify_unprefixed(name, text);
        };
        match self.surfaces.get(surface.0).map(|s| &s.kind) {
            _ if !self.accepts(surface) => Err(self.foreign_in(name)),
            Some(SurfaceKind::ApiKey { keys, random, .. }) => {
                check_key(text, prefix, *keys, *random)?;
                self.admit(surface, Credential::Key(text), prefix.mode)
            }
            // One half of a pair without the other; looks like a wrong secret from outside (K1).
            _ => Err(Denial::MalformedCredential),
        }
    }

    /// A text without the prefix of any key that belongs in its place: a token, or nothing good.
    fn classify_unprefixed<'h>(self, name: &[u8], text: &'h [u8]) -> Result<Extracted<'h>, Denial> {
        let mut sessions = self.users_of(name).filter(|(index, s)| s.takes_tokens() && self.accepts(*index));
        if is_token_shaped(text)
            && let Some((surface, _)) = sessions.next()
        {
            let origin = TokenOrigin::Header;
            return self.admit(surface, Credential::Jwt { token: text, origin }, None);
        }
        Err(match (self.is_foreign(text), self.is_accepted_in(name)) {
            (true, _) => self.foreign_in(name),
            (false, true) => Denial::MalformedCredential,
            // In a place no accepted surface uses, and of no form we know: not for us.
            (false, false) => Denial::MissingCredential,
        })
    }

    /// What has no form at all is malformed where the route looks, and nothing of ours elsewhere.
    fn excuse_elsewhere<T>(self, name: &[u8], read: Result<T, Denial>) -> Result<T, Denial> {
        read.map_err(|denial| match denial {
            Denial::MalformedCredential if !self.is_accepted_in(name) => Denial::MissingCredential,
            other => other,
        })
    }

    /// Whether a surface of the route has its credential in this header.
    fn is_accepted_in(self, name: &[u8]) -> bool {
        self.users_of(name).any(|(index, _)| self.accepts(index))
    }

    /// What a credential of another surface is, by the header it came in: to a caller whose API
    /// documents one place only, a credential elsewhere may count as none.
    fn foreign_in(self, name: &[u8]) -> Denial {
        if self.is_accepted_in(name) {
            Denial::WrongSurface
        } else {
            Denial::MisplacedCredential
        }
    }

    /// Whether a text is recognisably a credential of some configured surface.
    fn is_foreign(self, text: &[u8]) -> bool {
        self.surfaces.iter().any(|s| match s.kind {
            SurfaceKind::SessionJwt { .. } | SurfaceKind::ExternalJwt { .. } => is_token_shaped(text),
            SurfaceKind::ApiKey { .. } | SurfaceKind::KeyPair { .. } => s.prefix_of(text).is_some(),
            SurfaceKind::Account { .. } => false,
        })
    }

    fn classify_pair<'h>(self, index: SurfaceIndex, publishable: &'h [u8], secret: &'h [u8]) -> Result<Extracted<'h>, Denial> {
        let Some(SurfaceKind::KeyPair {
            halves,
            key_prefixes,
            secret_prefixes,
            keys,
            ..
        }) = self.surfaces.get(index.0).map(|s| &s.kind)
        else {
            return Err(Denial::AmbiguousCredentials);
        };
        if !self.accepts(index) {
            return Err(match halves {
                Halves::Headers { key, .. } => self.foreign_in(key.as_bytes()),
                Halves::Body { .. } => Denial::WrongSurface,
            });
        }
        // Swapped halves and foreign texts end here; outside they look like a wrong secret (K1).
        let (Some(key_prefix), Some(secret_prefix)) = (longest_prefix(key_prefixes, publishable), longest_prefix(secret_prefixes, secret))
        else {
            return Err(Denial::MalformedCredential);
        };
        check_key(publishable, key_prefix, *keys, DEFAULT_RANDOM)?;
        check_key(secret, secret_prefix, *keys, DEFAULT_RANDOM)?;
        if key_prefix.mode != secret_prefix.mode {
            return Err(Denial::WrongMode);
        }
        self.admit(index, Credential::Pair { publishable, secret }, key_prefix.mode)
    }

    /// The token in a cookie of an accepted surface. One cookie twice is malformed; two cookies of
    /// two accepted surfaces are ambiguous.
    fn extract_cookie<'h>(self, fields: &'h Fields) -> Result<Extracted<'h>, Denial> {
        let mut found = None;
        let mut jar = None;
        for (index, name) in self
            .each()
            .filter(|(index, _)| self.accepts(*index))
            .flat_map(|(index, s)| s.cookies().map(move |name| (index, name)))
        {
            if jar.is_none() {
                jar = Some(cookies::check_count(fields)?);
            }
            let Some(value) = cookies::find_one(fields, name)? else {
                continue;
            };
            match found {
                // Two surfaces may share a cookie; the first accepted one is asked.
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

    /// The last word: a surface pinned to one mode takes no key that says another.
    fn admit<'h>(self, surface: SurfaceIndex, credential: Credential<'h>, mode: Option<Mode>) -> Result<Extracted<'h>, Denial> {
        let pinned = self.surfaces.get(surface.0).and_then(|s| s.mode);
        match (pinned, mode) {
            (Some(pinned), Some(mode)) if pinned != mode => Err(Denial::WrongMode),
            _ => Ok(Extracted { surface, credential, mode }),
        }
    }
}

/// The surface with the longest key prefix that the text begins with.
fn longest_owner<'s>(users: impl Iterator<Item = (SurfaceIndex, &'s Surface)>, text: &[u8]) -> Option<(SurfaceIndex, &'s KeyPrefix)> {
    users
        .filter_map(|(index, s)| Some((index, s.prefix_of(text)?)))
        .max_by_key(|(_, prefix)| prefix.text.len())
}

/// Form of a key: what a generated key must be, or what an imported one may be.
fn check_key(text: &[u8], prefix: &KeyPrefix, keys: KeyOrigin, random: usize) -> Result<(), Denial> {
    let good = text.len() <= MAX_KEY_LEN
        && match keys {
            KeyOrigin::Generated => checksum_holds_of(text, &prefix.text, random).is_ok(),
            KeyOrigin::Imported => text.len() > prefix.text.len() && text.iter().all(|b| is_key_byte(*b)),
        };
    if good { Ok(()) } else { Err(Denial::MalformedCredential) }
}

/// The alphabet of imported keys: that of `b64token` (RFC 6750, section 2.1) and the colon.
const fn is_key_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b':')
}
