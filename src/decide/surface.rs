//! Surfaces as configured: which credential, where it is carried, how it is verified.

use std::time::Duration;

use crate::base::ids::SurfaceName;
use crate::base::scope::Mode;

use super::external::ExternalRules;
use super::token::{ClaimHeader, TokenRules};

/// Index of a surface in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SurfaceIndex(pub usize);

/// One class of caller.
#[derive(Debug)]
pub struct Surface {
    /// Its name; part of every fingerprint made for it.
    pub name: SurfaceName,
    /// Which credential it takes.
    pub kind: SurfaceKind,
    /// The only mode admitted, if the operator pinned one (a sandbox gateway).
    pub mode: Option<Mode>,
}

impl Surface {
    /// The longest prefix of this surface that the text begins with: of a key, or of the publishable
    /// half of a pair. Session surfaces have none.
    #[must_use]
    pub fn prefix_of(&self, text: &[u8]) -> Option<&KeyPrefix> {
        longest_prefix(self.prefixes(), text)
    }

    /// The prefixes of its keys, or of the publishable halves of its pairs.
    #[must_use]
    pub fn prefixes(&self) -> &[KeyPrefix] {
        match &self.kind {
            SurfaceKind::ApiKey { prefixes, .. } => prefixes,
            SurfaceKind::KeyPair { key_prefixes, .. } => key_prefixes,
            SurfaceKind::SessionJwt { .. } | SurfaceKind::ExternalJwt { .. } => &[],
        }
    }

    /// Whether a header of this name carries its credentials, whole or one half.
    #[must_use]
    pub fn uses_header(&self, name: &[u8]) -> bool {
        match &self.kind {
            SurfaceKind::ApiKey { carriers, .. } | SurfaceKind::SessionJwt { carriers, .. } | SurfaceKind::ExternalJwt { carriers, .. } => {
                carriers.iter().any(|c| c.is_header(name))
            }
            SurfaceKind::KeyPair {
                key_header, secret_header, ..
            } => [key_header, secret_header]
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own.as_bytes())),
        }
    }

    /// The cookies it may be carried in. An API key is never read from a cookie, whatever is
    /// configured: what the browser attaches by itself needs the same-site proof that only session
    /// tokens are asked for.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        let carriers: &[Carrier] = match &self.kind {
            SurfaceKind::SessionJwt { carriers, .. } => carriers,
            SurfaceKind::ApiKey { .. } | SurfaceKind::KeyPair { .. } | SurfaceKind::ExternalJwt { .. } => &[],
        };
        carriers.iter().filter_map(|c| match c {
            Carrier::Cookie(name) => Some(name.as_str()),
            Carrier::Bearer | Carrier::Header(_) => None,
        })
    }

    /// The surface whose records its credentials resolve to.
    #[must_use]
    pub fn record_surface(&self) -> &SurfaceName {
        match &self.kind {
            SurfaceKind::SessionJwt { record_surface, .. } | SurfaceKind::ExternalJwt { record_surface, .. } => record_surface,
            SurfaceKind::ApiKey { .. } | SurfaceKind::KeyPair { .. } => &self.name,
        }
    }

    /// Whether its credentials are signed tokens.
    #[must_use]
    pub const fn takes_tokens(&self) -> bool {
        matches!(self.kind, SurfaceKind::SessionJwt { .. } | SurfaceKind::ExternalJwt { .. })
    }

    /// Where its tokens may be carried; empty for other kinds.
    #[must_use]
    pub fn token_carriers(&self) -> &[Carrier] {
        match &self.kind {
            SurfaceKind::SessionJwt { carriers, .. } | SurfaceKind::ExternalJwt { carriers, .. } => carriers,
            SurfaceKind::ApiKey { .. } | SurfaceKind::KeyPair { .. } => &[],
        }
    }

    /// The claims of its tokens that become headers.
    #[must_use]
    pub fn claim_headers(&self) -> &[ClaimHeader] {
        match &self.kind {
            SurfaceKind::SessionJwt { rules, .. } => &rules.claim_headers,
            SurfaceKind::ExternalJwt { rules, .. } => &rules.claim_headers,
            SurfaceKind::ApiKey { .. } | SurfaceKind::KeyPair { .. } => &[],
        }
    }
}

impl Carrier {
    /// Whether a header of this name is it.
    #[must_use]
    pub fn is_header(&self, name: &[u8]) -> bool {
        match self {
            Self::Bearer => name.eq_ignore_ascii_case(b"authorization"),
            Self::Header(own) => name.eq_ignore_ascii_case(own.as_bytes()),
            Self::Cookie(_) => false,
        }
    }
}

/// The kinds of credential.
#[derive(Debug)]
pub enum SurfaceKind {
    /// One opaque key.
    ApiKey {
        /// Where it may be carried, in order.
        carriers: Vec<Carrier>,
        /// Its accepted prefixes; never empty.
        prefixes: Vec<KeyPrefix>,
        /// Which keys exist on this surface.
        keys: KeyOrigin,
    },
    /// Two halves in two headers.
    KeyPair {
        /// Lower-case name of the header with the publishable half.
        key_header: String,
        /// Lower-case name of the header with the secret half.
        secret_header: String,
        /// Accepted prefixes of the publishable half.
        key_prefixes: Vec<KeyPrefix>,
        /// Accepted prefixes of the secret half; same modes as `key_prefixes`.
        secret_prefixes: Vec<KeyPrefix>,
        /// Which pairs exist on this surface.
        keys: KeyOrigin,
    },
    /// A signed session token that hangs on a record.
    SessionJwt {
        /// Where it may be carried, in order; an explicit header beats a cookie.
        carriers: Vec<Carrier>,
        /// How it is verified.
        rules: Box<TokenRules>,
        /// The surface whose record the token's `sub` names by id.
        record_surface: SurfaceName,
    },
    /// A token signed by an issuer that is not ours; it hangs on its tenant alone.
    ExternalJwt {
        /// Where it may be carried, in order; never a cookie.
        carriers: Vec<Carrier>,
        /// How it is verified.
        rules: Box<ExternalRules>,
        /// The name tenants' records have as a surface.
        record_surface: SurfaceName,
    },
}

/// Where a credential is carried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of this lower-case name.
    Header(String),
    /// A cookie of this name.
    Cookie(String),
}

/// A visible beginning of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix {
    /// The text, e.g. `hlive_`.
    pub text: String,
    /// The mode it tells, if any.
    pub mode: Option<Mode>,
}

/// Longest prefix: long enough for `company_product_live_`, short enough to leave a key its length.
pub const MAX_PREFIX_LEN: usize = 32;

/// Why a text cannot be a key prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Empty or longer than 32 characters.
    #[error("a key prefix has 1 to 32 characters")]
    Length,
    /// A character outside `A-Za-z0-9_-`.
    #[error("a key prefix holds only A-Z a-z 0-9 _ -")]
    Alphabet,
    /// It begins as every JWT does.
    #[error("a key prefix does not begin with `eyJ`, as every signed token does")]
    TokenLike,
}

impl KeyPrefix {
    /// Checks the text of a prefix.
    ///
    /// # Errors
    /// [`PrefixError`].
    pub fn parse(text: &str, mode: Option<Mode>) -> Result<Self, PrefixError> {
        if !(1..=MAX_PREFIX_LEN).contains(&text.len()) {
            return Err(PrefixError::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
            return Err(PrefixError::Alphabet);
        }
        if text.starts_with("eyJ") {
            return Err(PrefixError::TokenLike);
        }
        Ok(Self { text: text.into(), mode })
    }

    /// Whether a presented text begins with it.
    #[must_use]
    pub fn begins(&self, text: &[u8]) -> bool {
        text.starts_with(self.text.as_bytes())
    }
}

/// The longest of these prefixes that the text begins with.
#[must_use]
pub fn longest_prefix<'p>(prefixes: &'p [KeyPrefix], text: &[u8]) -> Option<&'p KeyPrefix> {
    prefixes.iter().filter(|p| p.begins(text)).max_by_key(|p| p.text.len())
}

/// Which keys a surface knows, and so which can be refused before any look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Only keys durward generated: the checksum must hold.
    Generated,
    /// Generated ones, and imported ones of which only the SHA-256 is known: no checksum is asked
    /// for and both forms are looked up.
    Imported,
}

/// Largest clock skew that may be configured for tokens: it eats into the revocation bound.
pub const MAX_SKEW: Duration = Duration::from_secs(5);

/// Two surfaces whose credentials cannot be told apart where both may be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// One of the surfaces (the one earlier in the configuration).
    pub first: SurfaceIndex,
    /// The other.
    pub second: SurfaceIndex,
    /// What they share.
    pub kind: OverlapKind,
}

/// What two surfaces share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlapKind {
    /// Keys with the same prefix in the same place: never loads.
    SamePrefix(String),
    /// One's prefix begins with the other's: the longer one wins, which is worth a warning.
    NestedPrefix {
        /// The shorter prefix.
        shorter: String,
        /// The longer one.
        longer: String,
    },
    /// Signed tokens in the same place: they look alike until they are verified, so no route may
    /// accept both surfaces.
    Tokens(Carrier),
}

/// Every overlap among these surfaces, for the checks of the configuration: [`OverlapKind::SamePrefix`]
/// is an error anywhere, [`OverlapKind::Tokens`] on a route that accepts both.
#[must_use]
pub fn overlaps(surfaces: &[Surface]) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (i, first) in surfaces.iter().enumerate() {
        for (j, second) in surfaces.iter().enumerate().skip(i + 1) {
            overlaps_of(first, second, &mut |kind| {
                found.push(Overlap {
                    first: SurfaceIndex(i),
                    second: SurfaceIndex(j),
                    kind,
                });
            });
        }
    }
    found
}

fn overlaps_of(first: &Surface, second: &Surface, found: &mut impl FnMut(OverlapKind)) {
    let theirs = second.token_carriers();
    let shared = first.token_carriers().iter().filter(|c| theirs.contains(c));
    shared.for_each(|c| found(OverlapKind::Tokens(c.clone())));
    if !shares_header(first, second) {
        return;
    }
    for a in first.prefixes() {
        for b in second.prefixes() {
            let (shorter, longer) = if a.text.len() <= b.text.len() { (a, b) } else { (b, a) };
            if shorter.text == longer.text {
                found(OverlapKind::SamePrefix(shorter.text.clone()));
            } else if longer.text.starts_with(&shorter.text) {
                found(OverlapKind::NestedPrefix {
                    shorter: shorter.text.clone(),
                    longer: longer.text.clone(),
                });
            }
        }
    }
}

fn shares_header(first: &Surface, second: &Surface) -> bool {
    match &first.kind {
        SurfaceKind::ApiKey { carriers, .. } | SurfaceKind::SessionJwt { carriers, .. } | SurfaceKind::ExternalJwt { carriers, .. } => carriers.iter().any(|c| match c {
            Carrier::Bearer => second.uses_header(b"authorization"),
            Carrier::Header(name) => second.uses_header(name.as_bytes()),
            Carrier::Cookie(_) => false,
        }),
        SurfaceKind::KeyPair { key_header, .. } => second.uses_header(key_header.as_bytes()),
    }
}
