//! The public keys of an issuer, read from a JWK Set (RFC 7517), and the choice of the keys that a token may mean.

use std::fmt;

use aws_lc_rs::signature::ParsedPublicKey;
use serde::Deserialize;

use crate::base::credential::TokenFault;
use crate::base::principal::KeyMark;

pub(super) use super::jwk::MAX_KID_LEN;
use super::jwk::{IgnoredKey, KeyFault, RawJwk};

/// Longest JWK Set in bytes: a hundred RSA keys with their certificates.
pub const MAX_SET_LEN: usize = 64 * 1024;

/// Most keys of a set that are used. Issuers publish two or three for signatures, and a few of other kinds.
pub const MAX_KEYS: usize = 64;

/// Most keys that are tried for one token. A token without `kid` may mean each key of its algorithm, and some issuers
/// use one `kid` twice. Each attempt costs tens of microseconds, also for a token that nobody signed.
const MAX_TRIED: usize = 4;

/// Most unused keys that one warning names.
const MAX_NAMED: usize = 8;

/// The algorithm of a signature. It belongs to the key; a token never chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519 under its older name.
    EdDsa,
    /// Ed25519 under the name of RFC 9864.
    Ed25519,
    /// Ed25519 under either name, if the key names none.
    AnyEd25519,
}

impl IssuerAlgorithm {
    /// The algorithms of RSA keys.
    pub const OF_RSA: [Self; 6] = [Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512];

    /// Its name in a token's header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa | Self::AnyEd25519 => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The RSA algorithm of this name.
    #[must_use]
    pub fn of_rsa(name: &str) -> Option<Self> {
        Self::OF_RSA.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    fn is_named(self, name: &str) -> bool {
        self.as_str() == name || self == Self::AnyEd25519 && name == Self::Ed25519.as_str()
    }
}

pub struct IssuerKey {
    pub(super) kid: Option<String>,
    pub(super) algorithm: IssuerAlgorithm,
    pub(super) key: ParsedPublicKey,
    pub(super) mark: KeyMark,
}

impl IssuerKey {
    /// What tells it from other keys.
    #[must_use]
    pub const fn mark(&self) -> KeyMark {
        self.mark
    }

    /// Whether this signature is the key's over these bytes.
    #[must_use]
    pub fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(signed, signature).is_ok()
    }
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerKey({:?}, {})", self.kid, self.algorithm.as_str())
    }
}

/// The keys of one issuer that can verify tokens.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<IssuerKey>,
    ignored: Vec<IgnoredKey>,
}

/// Why a text is not a key set that may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Larger than [`MAX_SET_LEN`].
    #[error("a key set has at most 64 KiB")]
    TooLong,
    #[error("it is not a JSON object with `keys`, a list of JWKs (RFC 7517)")]
    NotASet,
    /// It holds a private or symmetric key, so whoever has read the set could sign.
    #[error("it holds a private or a symmetric key: whoever can read it can make tokens")]
    Private,
}

/// Why no key of a set is the one a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMiss {
    /// No key has this name. A newer set may have it.
    UnknownKid,
    /// The named key is for another algorithm; or no key is named, and none is for this algorithm.
    Unfit,
    /// More keys fit than are tried.
    Ambiguous,
}

impl KeyMiss {
    /// The fault for the access line.
    #[must_use]
    pub const fn fault(self) -> TokenFault {
        match self {
            Self::UnknownKid => TokenFault::UnknownKey,
            Self::Unfit => TokenFault::WrongAlgorithm,
            Self::Ambiguous => TokenFault::AmbiguousKey,
        }
    }
}

#[derive(Deserialize)]
struct WireSet {
    keys: Vec<RawJwk>,
}

impl KeySet {
    #[cfg(any(test, feature = "internals"))]
    /// Reads a set in which RSA keys without `alg` are for RS256, as [`parse_with`](Self::parse_with) does.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        Self::parse_with(json, IssuerAlgorithm::Rs256)
    }

    /// Reads a set. Entries that are no keys, are not supported, have another use or are too weak are not used; the
    /// others are (RFC 7517, section 5). A key that occurs twice is one key. RSA keys without `alg` sign with
    /// `unnamed_rsa`.
    ///
    /// # Errors
    /// [`KeySetError`], for a fault that makes the whole set doubtful.
    pub fn parse_with(json: &[u8], unnamed_rsa: IssuerAlgorithm) -> Result<Self, KeySetError> {
        if json.len() > MAX_SET_LEN {
            return Err(KeySetError::TooLong);
        }
        // A derived structure would accept a list of its values too.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(KeySetError::NotASet);
        }
        let set: WireSet = serde_json::from_slice(json).map_err(|_| KeySetError::NotASet)?;
        if set.keys.iter().any(RawJwk::is_private) {
            return Err(KeySetError::Private);
        }
        let mut read = Self::default();
        for (place, written) in set.keys.iter().enumerate() {
            match written.read(unnamed_rsa) {
                Ok(key) if read.trusts(key.mark) => {}
                Ok(_) if read.keys.len() == MAX_KEYS => read.ignored.push(written.ignore(place, KeyFault::TooMany)),
                Ok(key) => read.keys.push(key),
                Err(why) => read.ignored.push(written.ignore(place, why)),
            }
        }
        Ok(read)
    }

    /// Whether the key of this mark is among them.
    #[must_use]
    pub fn trusts(&self, mark: KeyMark) -> bool {
        self.keys.iter().any(|key| key.mark == mark)
    }

    /// The number of usable keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that are not used.
    #[must_use]
    pub fn ignored(&self) -> &[IgnoredKey] {
        &self.ignored
    }

    /// A warning for the operator about keys that are not used. It names at most eight of them. `None` if there is no
    /// reason to warn.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let odd: Vec<String> = self
            .ignored
            .iter()
            .filter(|key| !key.why.is_usual())
            .map(ToString::to_string)
            .collect();
        let shown = odd.get(..MAX_NAMED).unwrap_or(&odd).join("; ");
        match odd.len().saturating_sub(MAX_NAMED) {
            _ if odd.is_empty() => None,
            0 => Some(shown),
            more => Some(format!("{shown}; and {more} more")),
        }
    }

    /// The keys that a token may mean: those with its exact `kid` and its algorithm, or without `kid` all keys of its
    /// algorithm. There are one to four. All belong to the issuer, so the token is good if any of them verifies it.
    ///
    /// # Errors
    /// [`KeyMiss`].
    pub fn find<'k>(&'k self, kid: Option<&'k str>, algorithm: &'k str) -> Result<impl Iterator<Item = &'k IssuerKey>, KeyMiss> {
        let named = move |key: &&IssuerKey| kid.is_none() || key.kid.as_deref() == kid;
        let mut fitting = self
            .keys
            .iter()
            .filter(named)
            .filter(|key| key.algorithm.is_named(algorithm))
            .peekable();
        if fitting.peek().is_none() {
            let known = kid.is_none() || self.keys.iter().any(|key| named(&key));
            return Err(if known { KeyMiss::Unfit } else { KeyMiss::UnknownKid });
        }
        if fitting.clone().nth(MAX_TRIED).is_some() {
            return Err(KeyMiss::Ambiguous);
        }
        Ok(fitting)
    }
}
