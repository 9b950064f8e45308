//! One public key of a JWK Set (RFC 7517, RFC 7518), read so strictly that every key that remains can be trusted to
//! verify.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::base::fingerprint::sha256;
use crate::base::principal::KeyMark;

use super::keys::{IssuerAlgorithm, IssuerKey};

/// Longest `kid`, as in [`crate::decide::token`].
pub(super) const MAX_KID_LEN: usize = 128;

/// Sizes of RSA moduli in bits. Smaller ones can be factored. With larger ones, a signature costs the gateway more
/// than it costs the sender of a bad one.
const RSA_BITS: (usize, usize) = (2048, 4096);

/// Smallest RSA exponent: 3 and its like have a long record of forgeries (FIPS 186-5, A.1.1).
const MIN_EXPONENT: u32 = 65_537;

/// Most characters of a `kid` in the warning about a key that is left out.
const TOLD: usize = 64;

/// A key of a set that is not used. The others are used (RFC 7517, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredKey {
    /// The index in the set.
    pub place: usize,
    /// The first 64 characters of its `kid`, if that is a text.
    pub kid: Option<String>,
    /// Why it is not used.
    pub why: KeyFault,
}

impl fmt::Display for IgnoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys[{}]", self.place)?;
        if let Some(kid) = &self.kid {
            write!(f, " ({})", kid.escape_default())?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Why a key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A number, a text, a list or `null` where a key should stand.
    #[error("it is not an object")]
    NotAnObject,
    /// A member occurs twice, so two readers could take different values.
    #[error("a member stands twice in it")]
    Repeated,
    /// A member has another JSON type than RFC 7517 and RFC 7518 define.
    #[error("`{0}` is not of its type")]
    Type(&'static str),
    /// A member is missing that keys of this type have.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A `kid` that no token can name.
    #[error("`kid` is empty, or longer than 128 bytes")]
    Kid,
    /// The key is for encryption, or for another use.
    #[error("it is not for verifying signatures (`use`, `key_ops`)")]
    OtherUse,
    /// The type, the curve or the algorithm is not supported, or two of them do not fit together.
    #[error("its `kty`, `crv` or `alg` is not supported")]
    Unsupported,
    /// A number is not base64url, or a point is not on its curve.
    #[error("its numbers are no key")]
    Broken,
    /// An RSA key that can be broken or is too large.
    #[error("it is too weak or too large: RSA keys have 2048 to 4096 bits and an exponent of 65537 or more")]
    Weak,
    /// More usable keys than a set may have.
    #[error("it is beyond the first 64 usable keys")]
    TooMany,
}

impl KeyFault {
    /// Whether this is normal, so that the operator is not warned: many issuers publish keys for encryption beside
    /// those for signatures.
    #[must_use]
    pub const fn is_usual(self) -> bool {
        matches!(self, Self::OtherUse)
    }
}

/// An entry of `keys` in a set, as published. A fault in one entry does not affect the others.
pub(super) enum RawJwk {
    Object(Vec<(String, Value)>),
    Other,
}

impl<'de> Deserialize<'de> for RawJwk {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(RawJwkVisitor)
    }
}

struct RawJwkVisitor;

impl<'de> Visitor<'de> for RawJwkVisitor {
    type Value = RawJwk;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JWK")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawJwk, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(RawJwk::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawJwk, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawJwk::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<RawJwk, E> {
        Ok(RawJwk::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<RawJwk, E> {
        Ok(RawJwk::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<RawJwk, E> {
        Ok(RawJwk::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<RawJwk, E> {
        Ok(RawJwk::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<RawJwk, E> {
        Ok(RawJwk::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<RawJwk, E> {
        Ok(RawJwk::Other)
    }
}

impl RawJwk {
    /// A member. `null` counts as missing, since some libraries write it for what a key lacks.
    fn member(&self, name: &str) -> Option<&Value> {
        let Self::Object(members) = self else { return None };
        let found = members.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>, KeyFault> {
        match self.member(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(KeyFault::Type(name)),
        }
    }

    /// Bytes in base64url, as all numbers of keys are written.
    fn octets(&self, name: &'static str) -> Result<Vec<u8>, KeyFault> {
        let text = self.text(name)?.ok_or(KeyFault::Missing(name))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Broken)
    }

    /// A `Base64urlUInt` (RFC 7518, section 2); leading zeros, which some issuers write, are taken off.
    fn integer(&self, name: &'static str) -> Result<Vec<u8>, KeyFault> {
        let mut bytes = self.octets(name)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.drain(..zeros);
        if bytes.is_empty() { Err(KeyFault::Broken) } else { Ok(bytes) }
    }

    /// Whether it has a member that only a private or symmetric key has (RFC 7518, sections 6.2.2, 6.3.2 and 6.4).
    pub(super) fn is_private(&self) -> bool {
        let Self::Object(members) = self else { return false };
        // If a member occurs twice, both count.
        members.iter().any(|(name, value)| match name.as_str() {
            "d" | "p" | "q" | "dp" | "dq" | "qi" | "oth" | "k" => !value.is_null(),
            "kty" => value == "oct",
            _ => false,
        })
    }

    /// The report about this key when it is not used.
    pub(super) fn ignore(&self, place: usize, why: KeyFault) -> IgnoredKey {
        let kid = self.member("kid").and_then(Value::as_str);
        IgnoredKey {
            place,
            kid: kid.map(|kid| kid.chars().take(TOLD).collect()),
            why,
        }
    }

    /// The key, if it can verify tokens. An RSA key without `alg` gets the algorithm `unnamed_rsa`.
    pub(super) fn read(&self, unnamed_rsa: IssuerAlgorithm) -> Result<IssuerKey, KeyFault> {
        let Self::Object(members) = self else {
            return Err(KeyFault::NotAnObject);
        };
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(KeyFault::Repeated);
        }
        let kid = self.text("kid")?;
        if kid.is_some_and(|kid| !(1..=MAX_KID_LEN).contains(&kid.len())) {
            return Err(KeyFault::Kid);
        }
        let kty = self.text("kty")?.ok_or(KeyFault::Missing("kty"))?;
        self.check_use()?;
        let (algorithm, key) = match (kty, self.text("crv")?, self.text("alg")?) {
            ("RSA", _, None) => (unnamed_rsa, self.rsa(unnamed_rsa)?),
            ("RSA", _, Some(alg)) => {
                let algorithm = IssuerAlgorithm::of_rsa(alg).ok_or(KeyFault::Unsupported)?;
                (algorithm, self.rsa(algorithm)?)
            }
            ("EC", Some("P-256"), None | Some("ES256")) => (IssuerAlgorithm::Es256, self.point(&ECDSA_P256_SHA256_FIXED, 32)?),
            ("EC", Some("P-384"), None | Some("ES384")) => (IssuerAlgorithm::Es384, self.point(&ECDSA_P384_SHA384_FIXED, 48)?),
            ("OKP", Some("Ed25519"), None) => (IssuerAlgorithm::AnyEd25519, self.ed25519()?),
            ("OKP", Some("Ed25519"), Some("EdDSA")) => (IssuerAlgorithm::EdDsa, self.ed25519()?),
            ("OKP", Some("Ed25519"), Some("Ed25519")) => (IssuerAlgorithm::Ed25519, self.ed25519()?),
            ("EC" | "OKP", None, _) => return Err(KeyFault::Missing("crv")),
            _ => return Err(KeyFault::Unsupported),
        };
        Ok(IssuerKey {
            kid: kid.map(str::to_owned),
            algorithm,
            key,
            mark: self.mark(algorithm)?,
        })
    }

    /// `use` is `sig`, or `jwt-svid` in the bundles of SPIFFE.
    fn check_use(&self) -> Result<(), KeyFault> {
        let for_signatures = self.text("use")?.is_none_or(|usage| matches!(usage, "sig" | "jwt-svid"));
        let may_verify = match self.member("key_ops") {
            None => true,
            Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
            Some(_) => return Err(KeyFault::Type("key_ops")),
        };
        if for_signatures && may_verify {
            Ok(())
        } else {
            Err(KeyFault::OtherUse)
        }
    }

    /// The hash of `kid`, algorithm and numbers of the key.
    fn mark(&self, algorithm: IssuerAlgorithm) -> Result<KeyMark, KeyFault> {
        let mut text = Vec::new();
        let parts = ["kid", "n", "e", "x", "y"].map(|name| self.member(name).and_then(Value::as_str).unwrap_or_default());
        for part in [algorithm.as_str()].into_iter().chain(parts) {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        sha256(&text).first_chunk().copied().map(KeyMark).ok_or(KeyFault::Broken)
    }

    fn rsa(&self, algorithm: IssuerAlgorithm) -> Result<ParsedPublicKey, KeyFault> {
        let (modulus, exponent) = (self.integer("n")?, self.integer("e")?);
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        if exponent.len() > 4 || !odd(&exponent) || !odd(&modulus) || !(RSA_BITS.0..=RSA_BITS.1).contains(&bits) {
            return Err(KeyFault::Weak);
        }
        let value = exponent.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
        if value < MIN_EXPONENT || is_roca(&modulus) {
            return Err(KeyFault::Weak);
        }
        let components = RsaPublicKeyComponents { n: modulus, e: exponent };
        let parameters = rsa_parameters(algorithm).ok_or(KeyFault::Unsupported)?;
        components.to_parsed_public_key(parameters).map_err(|_| KeyFault::Broken)
    }

    /// A point of a curve. Each coordinate has `length` bytes.
    fn point(&self, curve: &'static EcdsaVerificationAlgorithm, length: usize) -> Result<ParsedPublicKey, KeyFault> {
        let (x, y) = (self.octets("x")?, self.octets("y")?);
        if x.len() != length || y.len() != length {
            return Err(KeyFault::Broken);
        }
        let point: Vec<u8> = [&[4][..], &x, &y].concat();
        // This also checks that the point is on the curve.
        ParsedPublicKey::new(curve, point).map_err(|_| KeyFault::Broken)
    }

    fn ed25519(&self) -> Result<ParsedPublicKey, KeyFault> {
        let x = self.octets("x")?;
        if x.len() != 32 || is_small_order(&x) {
            return Err(KeyFault::Broken);
        }
        ParsedPublicKey::new(&ED25519, x).map_err(|_| KeyFault::Broken)
    }
}

/// The parameters of an RSA algorithm. The salt of PSS is as long as its hash (RFC 7518, section 3.5).
const fn rsa_parameters(algorithm: IssuerAlgorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        IssuerAlgorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        IssuerAlgorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        IssuerAlgorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        IssuerAlgorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        IssuerAlgorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        IssuerAlgorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// Whether an Ed25519 key is a point of small order, for which one signature fits many messages. These are the
/// encodings of y in {0, 1, p-1} and their aliases. The two points of order eight are left to the equation, which
/// holds for at most one message in eight.
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

/// Whether an RSA modulus was made by the defective library of CVE-2017-15361. The remainders of such a modulus
/// modulo small primes are all powers of 65537; those of a good modulus are with a probability below 2^-27.
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
