//! An issuer's public keys, read from a JWK Set (RFC 7517) so strictly that what is left can be trusted to verify.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::base::fingerprint::sha256;
use crate::base::principal::KeyMark;

/// Longest JWK Set: a hundred RSA keys with their certificates (hardening B1).
pub const MAX_SET_LEN: usize = 64 * 1024;

/// Most keys of a set. Issuers publish two or three, and a few of other kinds.
pub const MAX_KEYS: usize = 64;

/// Longest `kid`, as in [`crate::decide::token`].
pub(super) const MAX_KID_LEN: usize = 128;

/// RSA moduli in bits: below, they can be factored; above, a signature costs the gateway more than
/// it costs whoever sends a bad one.
const RSA_BITS: (usize, usize) = (2048, 4096);

/// Smallest RSA exponent: 3 and its like have a long record of forgeries (FIPS 186-5, A.1.1).
const MIN_EXPONENT: u32 = 65_537;

/// How tokens are signed. One for each key, told by the key and never by a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519 under its older name.
    EdDsa,
    /// Ed25519 under the name of RFC 9864.
    Ed25519,
}

impl IssuerAlgorithm {
    /// Its name in a token's header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// One public key.
pub struct IssuerKey {
    kid: Option<String>,
    algorithm: IssuerAlgorithm,
    key: ParsedPublicKey,
    mark: KeyMark,
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
    skipped: usize,
}

/// Why a text is not a set of public keys that may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Larger than [`MAX_SET_LEN`].
    #[error("a key set has at most 64 KiB")]
    TooLong,
    /// Not a JWK Set.
    #[error("it is not a JSON object with `keys`, a list of JWKs (RFC 7517)")]
    NotASet,
    /// More than [`MAX_KEYS`].
    #[error("a key set has at most 64 keys")]
    TooMany,
    /// A private or symmetric key: whoever has read the set could sign.
    #[error("it holds a private or a symmetric key: whoever can read it can make tokens")]
    Private,
    /// Two keys that one token could mean.
    #[error("two keys have the same `kid` and algorithm")]
    Ambiguous,
}

/// Why no key of a set is the one a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMiss {
    /// There is no key of this name; a newer set may have it.
    UnknownKid,
    /// There is one, for another algorithm; or none is named and more than one would do.
    Unfit,
}

#[derive(Deserialize)]
struct WireSet {
    keys: Vec<WireKey>,
}

#[derive(Deserialize)]
struct WireKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    // What only a private or symmetric key has (RFC 7518, sections 6.2.2, 6.3.2 and 6.4).
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl KeySet {
    /// Reads a set. Keys of other kinds, for other uses, and too weak ones are left out, as RFC 7517,
    /// section 5 has it; what makes the set as a whole doubtful refuses it.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > MAX_SET_LEN {
            return Err(KeySetError::TooLong);
        }
        // A derived structure would take a list of its values too.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(KeySetError::NotASet);
        }
        let set: WireSet = serde_json::from_slice(json).map_err(|_| KeySetError::NotASet)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        if set.keys.iter().any(WireKey::is_private) {
            return Err(KeySetError::Private);
        }
        let total = set.keys.len();
        let mut keys: Vec<IssuerKey> = Vec::with_capacity(total);
        for key in set.keys.iter().filter_map(WireKey::read) {
            if keys
                .iter()
                .any(|own| own.kid == key.kid && own.algorithm == key.algorithm && key.kid.is_some())
            {
                return Err(KeySetError::Ambiguous);
            }
            keys.push(key);
        }
        Ok(Self {
            skipped: total - keys.len(),
            keys,
        })
    }

    /// Whether the key of this mark is among them.
    #[must_use]
    pub fn trusts(&self, mark: KeyMark) -> bool {
        self.keys.iter().any(|key| key.mark == mark)
    }

    /// Keys that can be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that were left out.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// The key a token means: by exact `kid` and the key's own algorithm, which the token must name;
    /// without `kid` the only key of that algorithm.
    ///
    /// # Errors
    /// [`KeyMiss`].
    pub fn find(&self, kid: Option<&str>, algorithm: &str) -> Result<&IssuerKey, KeyMiss> {
        let mut named = self.keys.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid).peekable();
        if named.peek().is_none() && kid.is_some() {
            return Err(KeyMiss::UnknownKid);
        }
        let mut fitting = named.filter(|key| key.algorithm.as_str() == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            _ => Err(KeyMiss::Unfit),
        }
    }
}

impl WireKey {
    fn is_private(&self) -> bool {
        let private = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k];
        private.iter().any(|member| member.is_some()) || self.kty == "oct"
    }

    /// The key, if it can verify tokens.
    fn read(&self) -> Option<IssuerKey> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let may_verify = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let named = self.kid.as_ref().is_none_or(|kid| (1..=MAX_KID_LEN).contains(&kid.len()));
        if !(for_signatures && may_verify && named) {
            return None;
        }
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref(), self.alg.as_deref()) {
            ("RSA", _, None | Some("RS256")) => (IssuerAlgorithm::Rs256, self.rsa()?),
            ("EC", Some("P-256"), None | Some("ES256")) => (IssuerAlgorithm::Es256, self.p256()?),
            ("OKP", Some("Ed25519"), None | Some("EdDSA")) => (IssuerAlgorithm::EdDsa, self.ed25519()?),
            ("OKP", Some("Ed25519"), Some("Ed25519")) => (IssuerAlgorithm::Ed25519, self.ed25519()?),
            _ => return None,
        };
        Some(IssuerKey {
            kid: self.kid.clone(),
            algorithm,
            key,
            mark: self.mark(algorithm)?,
        })
    }

    /// The name a token has to give, the algorithm and the numbers of the key, hashed.
    fn mark(&self, algorithm: IssuerAlgorithm) -> Option<KeyMark> {
        let mut text = Vec::new();
        let parts = [&self.kid, &self.n, &self.e, &self.x, &self.y].map(|part| part.as_deref().unwrap_or_default());
        for part in [algorithm.as_str()].into_iter().chain(parts) {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        sha256(&text).first_chunk().copied().map(KeyMark)
    }

    fn rsa(&self) -> Option<ParsedPublicKey> {
        let (modulus, exponent) = (integer(self.n.as_deref()?)?, integer(self.e.as_deref()?)?);
        let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        if exponent.len() > 4 || !odd(&exponent) || !odd(&modulus) || !(RSA_BITS.0..=RSA_BITS.1).contains(&bits) {
            return None;
        }
        let value = exponent.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
        if value < MIN_EXPONENT || is_roca(&modulus) {
            return None;
        }
        let components = RsaPublicKeyComponents { n: modulus, e: exponent };
        components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()
    }

    fn p256(&self) -> Option<ParsedPublicKey> {
        let (x, y) = (octets(self.x.as_deref()?)?, octets(self.y.as_deref()?)?);
        let point: Vec<u8> = [&[4][..], &x, &y].concat();
        // Whether the point is on the curve is checked here.
        (x.len() == 32 && y.len() == 32).then(|| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok())?
    }

    fn ed25519(&self) -> Option<ParsedPublicKey> {
        let x = octets(self.x.as_deref()?)?;
        (x.len() == 32 && !is_small_order(&x)).then(|| ParsedPublicKey::new(&ED25519, x).ok())?
    }
}

fn octets(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A `Base64urlUInt` (RFC 7518, section 2); leading zeros, which some issuers write, are taken off.
fn integer(text: &str) -> Option<Vec<u8>> {
    let mut bytes = octets(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    (!bytes.is_empty()).then_some(bytes)
}

/// Whether an Ed25519 key is a point of small order: then one signature fits many messages. These
/// are the encodings of y in {0, 1, p-1} and their aliases; the two of order eight are left to the
/// equation, which they do not satisfy for more than one message in eight.
fn is_small_order(key: &[u8]) -> bool {
    let Some((last, rest)) = key.split_last() else { return true };
    let last = last & 0x7f;
    let all = |byte: u8| rest.iter().skip(1).all(|b| *b == byte);
    match rest.first() {
        Some(0 | 1) if all(0) && last == 0 => true,
        // p-1, and p and p+1 as other names of 0 and 1.
        Some(0xec..=0xee) => all(0xff) && last == 0x7f,
        _ => false,
    }
}

/// Whether an RSA modulus was made by the defective library of CVE-2017-15361: its remainders modulo
/// small primes are all powers of 65537, which a good modulus' are with a chance below 2^-27.
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|prime| {
        let remainder = modulus.iter().fold(0, |sum, byte| (sum * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * (65_537 % prime) % prime;
            power == remainder
        })
    })
}
