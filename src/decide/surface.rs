//! Surfaces as configured: which credential, where it is carried, how it is verified.

use std::time::Duration;

use crate::base::ids::SurfaceName;
use crate::base::scope::Mode;

use super::external::ExternalRules;
use super::token::{ClaimHeader, TokenRules};

mod overlap;
mod session;

pub use overlap::{Overlap, OverlapKind, overlaps};
pub use session::{CookieSpec, Minting, Refresh, SameSite, SessionRecord};

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
            SurfaceKind::Account { .. } | SurfaceKind::SessionJwt { .. } | SurfaceKind::ExternalJwt { .. } => &[],
        }
    }

    /// Random characters of its generated keys and of each half of its pairs.
    #[must_use]
    pub const fn random(&self) -> usize {
        match &self.kind {
            SurfaceKind::ApiKey { random, .. } => *random,
            _ => DEFAULT_RANDOM,
        }
    }

    /// Claims of its records or tokens that become headers.
    #[must_use]
    pub fn claim_headers(&self) -> &[ClaimHeader] {
        match &self.kind {
            SurfaceKind::ApiKey { claim_headers, .. } => claim_headers,
            SurfaceKind::SessionJwt { rules, .. } => &rules.claim_headers,
            SurfaceKind::ExternalJwt { rules, .. } => &rules.claim_headers,
            SurfaceKind::KeyPair { .. } | SurfaceKind::Account { .. } => &[],
        }
    }

    /// Whether its credentials are presented in the body, so that only served routes can accept them.
    #[must_use]
    pub const fn is_presented_in_body(&self) -> bool {
        matches!(
            self.kind,
            SurfaceKind::KeyPair {
                halves: Halves::Body { .. },
                ..
            } | SurfaceKind::Account { .. }
        )
    }

    /// Whether it has records of its own: all but sessions that hang on another surface's, and tokens
    /// of other issuers, which hang on their tenant.
    #[must_use]
    pub const fn has_records(&self) -> bool {
        !matches!(
            self.kind,
            SurfaceKind::SessionJwt {
                record: SessionRecord::Sub(_),
                ..
            } | SurfaceKind::ExternalJwt { .. }
        )
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
            _ => &[],
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
                halves: Halves::Headers { key, secret },
                ..
            } => [key, secret].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes())),
            SurfaceKind::KeyPair { .. } | SurfaceKind::Account { .. } => false,
        }
    }

    /// The cookies it may be carried in. An API key is never read from a cookie, whatever is
    /// configured: what the browser attaches by itself needs the same-site proof that only session
    /// tokens are asked for.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        let carriers: &[Carrier] = match &self.kind {
            SurfaceKind::SessionJwt { carriers, .. } => carriers,
            _ => &[],
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
            SurfaceKind::SessionJwt {
                record: SessionRecord::Sub(surface),
                ..
            } => surface,
            SurfaceKind::ExternalJwt { record_surface, .. } => record_surface,
            _ => &self.name,
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
        /// Base62 characters of a new key's random part ([`DEFAULT_RANDOM`] to [`MAX_RANDOM`]).
        random: usize,
        /// Claims of the record that become headers.
        claim_headers: Vec<ClaimHeader>,
    },
    /// Two halves.
    KeyPair {
        /// Where they are presented.
        halves: Halves,
        /// Accepted prefixes of the publishable half.
        key_prefixes: Vec<KeyPrefix>,
        /// Accepted prefixes of the secret half; same modes as `key_prefixes`.
        secret_prefixes: Vec<KeyPrefix>,
        /// Which pairs exist on this surface.
        keys: KeyOrigin,
    },
    /// People and other actors that further records hang on. Found by id, or by the fingerprint of
    /// the login's normal form.
    Account {
        /// How it is presented, on served routes; `None`: never.
        fields: Option<AccountFields>,
    },
    /// A signed session token that hangs on a record.
    SessionJwt {
        /// Where it may be carried, in order; an explicit header beats a cookie.
        carriers: Vec<Carrier>,
        /// How it is verified.
        rules: Box<TokenRules>,
        /// Which record it hangs on.
        record: SessionRecord,
        /// How the gateway mints its tokens; `None`: another service does.
        minting: Option<Box<Minting>>,
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

/// Random characters of a key unless configured: 43 of base62 have 256 bits.
pub const DEFAULT_RANDOM: usize = 43;

/// Most random characters: longer ones guess no worse and only fill headers.
pub const MAX_RANDOM: usize = 128;

/// Where the halves of a pair are presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halves {
    /// In two headers of these lower-case names.
    Headers {
        /// The publishable half.
        key: String,
        /// The secret half.
        secret: String,
    },
    /// In two fields of a JSON body, on served routes only.
    Body {
        /// The publishable half.
        key: BodyField,
        /// The secret half.
        secret: BodyField,
    },
}

/// A field of a JSON body that holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyField {
    /// Its name.
    pub name: String,
    /// Longest text in characters; a longer one is a validation error.
    pub max: usize,
}

/// How an account is presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFields {
    /// The field with the login.
    pub login: BodyField,
    /// The field with the password.
    pub password: BodyField,
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
