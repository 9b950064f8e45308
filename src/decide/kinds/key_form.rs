//! The form of keys: how they begin, how long they are, and which of them can exist.

use crate::base::denial::Denial;
use crate::base::fingerprint::Pepper;
use crate::base::key::{GeneratedKey, KeyLayout, MARKED, MAX_KEY_LEN, NoRandomness, shape_of};
use crate::base::scope::Mode;

use super::{FindBy, Maker};

/// Random characters of a key unless configured: 43 of base62 hold 256 bits.
pub const DEFAULT_RANDOM: usize = 43;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyForm<'s> {
    /// The prefixes by mode; never empty.
    pub prefixes: &'s [KeyPrefix],
    /// Base62 characters of their random part, at least [`DEFAULT_RANDOM`].
    pub random: usize,
    /// Longest key with its prefix, in bytes.
    pub longest: usize,
}

impl<'s> KeyForm<'s> {
    /// The prefix of a key of this mode: the prefix for the mode, or the only prefix if prefixes show no mode.
    #[must_use]
    pub fn prefix(&self, mode: Option<Mode>) -> Option<&'s KeyPrefix> {
        self.prefixes.iter().find(|p| p.mode == mode).or(match self.prefixes {
            [only] if only.mode.is_none() => Some(only),
            _ => None,
        })
    }

    /// Makes a key. The key has a MAC unless it would then be longer than [`Self::longest`].
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn mint(&self, prefix: &KeyPrefix, pepper: &Pepper) -> Result<GeneratedKey, NoRandomness> {
        if prefix.text.len() + self.random + MARKED <= self.longest {
            GeneratedKey::mint_marked(&prefix.text, self.random, pepper)
        } else {
            GeneratedKey::mint_of(&prefix.text, self.random)
        }
    }

    /// Checks the form of a presented key: the exact form of a generated key, or the alphabet of an imported one.
    ///
    /// # Errors
    /// [`Denial::MalformedCredential`].
    pub(super) fn check(&self, text: &[u8], prefix: &KeyPrefix, origin: KeyOrigin) -> Result<(), Denial> {
        let good = text.len() <= MAX_KEY_LEN
            && match origin {
                KeyOrigin::Generated => shape_of(text, &prefix.text, self.random).is_ok(),
                KeyOrigin::Imported => text.len() > prefix.text.len() && text.iter().all(|b| is_key_byte(*b)),
            };
        if good { Ok(()) } else { Err(Denial::MalformedCredential) }
    }

    /// The forms in which a presented key can exist. If every key of the surface is durward's, the checksum was
    /// checked when the key was read.
    pub(super) fn find_by(&self, text: &[u8], origin: KeyOrigin) -> FindBy {
        let imported = origin == KeyOrigin::Imported;
        FindBy::Hash {
            generated: !imported || self.shape(text).is_some(),
            imported,
        }
    }

    /// Who made a presented key, as far as its text shows.
    pub(super) fn maker(&self, text: &[u8], origin: KeyOrigin) -> Maker {
        match self.shape(text) {
            Some(KeyLayout::Marked) => Maker::ByMac {
                only: origin == KeyOrigin::Generated,
            },
            Some(KeyLayout::Unmarked) | None => Maker::Untold,
        }
    }

    fn shape(&self, text: &[u8]) -> Option<KeyLayout> {
        let prefix = longest_prefix(self.prefixes, text)?;
        shape_of(text, &prefix.text, self.random).ok()
    }
}

/// The alphabet of imported keys: that of `b64token` (RFC 6750, section 2.1), and the colon.
const fn is_key_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b':')
}

/// The visible beginning of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix {
    /// The text, e.g. `hlive_`.
    pub text: String,
    /// The mode that the prefix shows, if any.
    pub mode: Option<Mode>,
}

/// Longest prefix: enough for `company_product_live_`, and short enough to leave a key its length.
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
    /// It begins like every JWT.
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

/// The origin of the keys of a surface. It decides which keys can be refused before any look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Only keys that durward generated: the checksum must be right.
    Generated,
    /// Generated keys, and imported keys of which only the SHA-256 is known. No checksum is required, and both forms
    /// are looked up.
    Imported,
}
