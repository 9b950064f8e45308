//! The form of generated keys, and the checks that refuse other texts before any I/O.

use std::fmt;

use aws_lc_rs::rand;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::clock::UnixMillis;
use super::fingerprint::{Pepper, Peppers};
use super::ids::{CredentialId, SurfaceName, TenantId};
use super::text::every;

/// Random characters of a key: 62^43 is the first power of 62 that holds 256 bits.
pub const RANDOM_LEN: usize = 43;
/// Characters of the checksum: 62^6 is the first power of 62 that holds 32 bits.
pub const CHECKSUM_LEN: usize = 6;
/// Characters of the MAC: 62^6 are 2^35.7, so one of 57,000 million guesses causes a look-up. A longer MAC would make
/// keys longer than some APIs document, and would only save look-ups: the key itself has 256 bits.
pub const MAC_LEN: usize = 6;
/// The number of different MACs.
const MACS: u64 = 62_u64.pow(6);
/// Longest key of any origin. A generated key has 55 characters and its prefix. Imported keys have other forms; 256
/// holds every form we know without letting a caller make us hash pages.
pub const MAX_KEY_LEN: usize = 256;

/// Random characters of a tenant's id: 62^22 is the first power of 62 that holds 128 bits.
const TENANT_LEN: usize = 22;

/// Characters of an id that hold the time of its making: 62^9 milliseconds are more than 400,000 years.
const TIME_LEN: usize = 9;

/// Random characters of an id besides its time: 62^17 is the first power of 62 that holds 96 bits, enough for all
/// records of one millisecond.
const SUFFIX_LEN: usize = 17;

/// The time that ids count down to, in Unix milliseconds. Until then (the year 2137) ids begin with `00`, and so
/// stand before nearly all ids without a time, which earlier versions made.
const COUNTED_TO: i64 = 5_288_840_206_207;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The system's source of randomness failed; nothing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no randomness to give")]
pub struct NoRandomness;

/// Why a text cannot be a key that durward generated under a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormError {
    /// It does not begin with the prefix.
    #[error("the key has another prefix")]
    Prefix,
    /// It is longer or shorter than every generated key.
    #[error("the key has the wrong length")]
    Length,
    /// It holds a character outside `0-9A-Za-z` after its prefix.
    #[error("the key holds a character no key has")]
    Alphabet,
    /// Its last six characters are not the checksum of the rest.
    #[error("the key's checksum does not hold")]
    Checksum,
}

/// The parts of a generated key. The length of a key shows its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLayout {
    /// Prefix, random characters, checksum, as older versions made keys. Nothing tells such a key from a guess.
    Unmarked,
    /// Prefix, random characters, MAC, checksum.
    Marked,
}

/// A new key. Its text exists only here, and is wiped when the key is dropped. `Debug` shows the prefix only.
pub struct GeneratedKey {
    text: Zeroizing<String>,
    prefix_len: usize,
}

impl GeneratedKey {
    #[cfg(any(test, feature = "internals"))]
    /// Makes `<prefix><43 base62 characters = 256 random bits><6 base62 characters = CRC-32 of what
    /// precedes>`. Blocks only while the system's generator is not seeded yet.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn mint(prefix: &str) -> Result<Self, NoRandomness> {
        Self::mint_of(prefix, RANDOM_LEN)
    }

    /// Makes a key with this many random characters, at least [`RANDOM_LEN`].
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn mint_of(prefix: &str, random: usize) -> Result<Self, NoRandomness> {
        Self::make(prefix, random, None)
    }

    /// Makes a key that proves who made it: `<prefix><random characters><6 base62 characters of a MAC of what
    /// precedes><6 base62 characters = CRC-32 of what precedes>`. The MAC is HMAC-SHA-256 under a key derived from
    /// the pepper. The checksum stands last and covers everything, so that a scanner needs to know nothing else.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn mint_marked(prefix: &str, random: usize, pepper: &Pepper) -> Result<Self, NoRandomness> {
        Self::make(prefix, random, Some(pepper))
    }

    /// Derives the secret that a service signs with, for the record of this surface and id: `<prefix><43 base62
    /// characters>` of HMAC-SHA-256 under a key derived from the pepper. It is stored nowhere, and is the same each
    /// time.
    #[must_use]
    pub fn derive(prefix: &str, pepper: &Pepper, surface: &SurfaceName, id: &CredentialId) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + RANDOM_LEN));
        text.push_str(prefix);
        let mut secret = Zeroizing::new(pepper.signing_secret(surface, id));
        push_base62(&mut text, secret.as_mut_slice(), RANDOM_LEN);
        Self {
            text,
            prefix_len: prefix.len(),
        }
    }

    fn make(prefix: &str, random: usize, pepper: Option<&Pepper>) -> Result<Self, NoRandomness> {
        let random = random.max(RANDOM_LEN);
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + random + MAC_LEN + CHECKSUM_LEN));
        text.push_str(prefix);
        let mut missing = random;
        while missing > 0 {
            let digits = missing.min(RANDOM_LEN);
            push_random::<32>(&mut text, digits)?;
            missing -= digits;
        }
        if let Some(pepper) = pepper {
            let mark = pepper.mark(text.as_bytes()) % MACS;
            push_base62(&mut text, &mut mark.to_be_bytes(), MAC_LEN);
        }
        let checksum = checksum(text.as_bytes());
        push_base62(&mut text, &mut checksum.to_be_bytes(), CHECKSUM_LEN);
        Ok(Self {
            text,
            prefix_len: prefix.len(),
        })
    }

    /// The key, to be shown this once or hashed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The prefix, which lists show.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.text.get(..self.prefix_len).unwrap_or_default()
    }

    /// The last four characters, which lists show. They are part of the checksum: 24 bits of a hash of 256 random
    /// bits help nobody to guess the rest.
    #[must_use]
    pub fn last4(&self) -> &str {
        last4(&self.text)
    }
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GeneratedKey({}..)", self.prefix())
    }
}

#[cfg(test)]
/// Both halves of a new pair.
#[derive(Debug)]
pub struct GeneratedPair {
    pub publishable: GeneratedKey,
    /// The secret half; not derivable from the other.
    pub secret: GeneratedKey,
}

#[cfg(test)]
impl GeneratedPair {
    /// Makes two keys that are not derivable from each other.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn mint(publishable_prefix: &str, secret_prefix: &str) -> Result<Self, NoRandomness> {
        Ok(Self {
            publishable: GeneratedKey::mint(publishable_prefix)?,
            secret: GeneratedKey::mint(secret_prefix)?,
        })
    }
}

/// The last four characters of a key, for lists; nothing for a text that is shorter or not ASCII.
#[must_use]
pub fn last4(key: &str) -> &str {
    key.len().checked_sub(4).and_then(|at| key.get(at..)).unwrap_or_default()
}

#[cfg(any(test, feature = "internals"))]
/// Whether a text has the exact form of a key that was generated with this prefix. It is checked before any I/O: of
/// the texts with the right prefix, length and alphabet, one in four thousand million passes.
///
/// # Errors
/// [`KeyFormError`], the first thing that is wrong.
pub fn checksum_holds(text: &[u8], prefix: &str) -> Result<(), KeyFormError> {
    shape_of(text, prefix, RANDOM_LEN).map(drop)
}

/// What a text consists of if it has the exact form of a generated key: this prefix, this many random characters, and
/// a checksum that holds. Asked before any I/O.
///
/// # Errors
/// [`KeyFormError`], the first thing that is wrong.
pub fn shape_of(text: &[u8], prefix: &str, random: usize) -> Result<KeyLayout, KeyFormError> {
    let body = text.strip_prefix(prefix.as_bytes()).ok_or(KeyFormError::Prefix)?;
    let shape = match body.len().checked_sub(random) {
        Some(CHECKSUM_LEN) => KeyLayout::Unmarked,
        Some(MARKED) => KeyLayout::Marked,
        _ => return Err(KeyFormError::Length),
    };
    if !every(body, |b| b.is_ascii_alphanumeric()) {
        return Err(KeyFormError::Alphabet);
    }
    let (head, tail) = text.split_at(text.len() - CHECKSUM_LEN);
    if number_of(tail) == u64::from(checksum(head)) {
        Ok(shape)
    } else {
        Err(KeyFormError::Checksum)
    }
}

/// Whether a text ends with the checksum of what precedes it, as every generated key does, whatever its prefix. Another
/// text does by accident once in four thousand million.
#[must_use]
pub fn ends_with_checksum(text: &[u8]) -> bool {
    let parts = text.len().checked_sub(CHECKSUM_LEN).and_then(|at| text.split_at_checked(at));
    parts.is_some_and(|(head, tail)| every(tail, |b| b.is_ascii_alphanumeric()) && number_of(tail) == u64::from(checksum(head)))
}

/// Characters after the random ones of a marked key.
pub const MARKED: usize = MAC_LEN + CHECKSUM_LEN;

/// Whether the MAC of a key of [`KeyLayout::Marked`] was made under one of these peppers. It is compared under each of
/// them, in constant time. The result does not say whether the key still exists.
#[must_use]
pub fn mac_holds(text: &[u8], peppers: &Peppers) -> bool {
    let parts = text.len().checked_sub(MARKED).and_then(|at| text.split_at_checked(at));
    let Some((beginning, tail)) = parts else { return false };
    let presented = number_of(&tail[..MAC_LEN]);
    let mut holds = 0_u8;
    for pepper in peppers.iter() {
        holds |= (pepper.mark(beginning) % MACS).ct_eq(&presented).unwrap_u8();
    }
    holds == 1
}

/// A new id: `<kind>_`, nine base62 digits of the time that is left until [`COUNTED_TO`], and 17 random characters.
/// So the ids of one kind sort by the time of making, the newest first, and a store that lists by id lists so. Not a
/// secret.
///
/// # Errors
/// [`NoRandomness`].
pub fn mint_id(kind: IdKind, made_at: UnixMillis) -> Result<CredentialId, NoRandomness> {
    let mut text = String::with_capacity(kind.prefix().len() + TIME_LEN + SUFFIX_LEN);
    text.push_str(kind.prefix());
    let left = u64::try_from(COUNTED_TO.saturating_sub(made_at.0)).unwrap_or(0);
    push_base62(&mut text, &mut left.to_be_bytes(), TIME_LEN);
    push_random::<12>(&mut text, SUFFIX_LEN)?;
    CredentialId::parse(&text).map_err(|_| NoRandomness)
}

/// The id of a new tenant: `ten_` and 128 random bits. The id goes into headers and addresses, so it does not show
/// when the tenant was made.
///
/// # Errors
/// [`NoRandomness`].
pub fn mint_tenant_id() -> Result<TenantId, NoRandomness> {
    let mut text = String::from("ten_");
    push_random::<16>(&mut text, TENANT_LEN)?;
    TenantId::parse(&text).map_err(|_| NoRandomness)
}

/// The kind of record that an id names. The prefix of the id shows it to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    Key,
    Pair,
    /// A session with a record of its own.
    Session,
    /// A person or another actor that has sessions.
    Account,
    /// A secret that a service signs with.
    Signing,
    /// An identity provider.
    Provider,
    /// A session at an identity provider.
    SignOn,
    /// A link of an account to a person of an identity provider.
    Link,
}

impl IdKind {
    /// The beginning of the ids of this kind.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Key => "key_",
            Self::Pair => "pair_",
            Self::Session => "ses_",
            Self::Account => "acc_",
            Self::Signing => "sig_",
            Self::Provider => "prv_",
            Self::SignOn => "sgn_",
            Self::Link => "lnk_",
        }
    }
}

fn checksum(text: &[u8]) -> u32 {
    crc32fast::hash(text)
}

fn push_random<const N: usize>(text: &mut String, digits: usize) -> Result<(), NoRandomness> {
    let mut bytes = Zeroizing::new([0_u8; N]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
    push_base62(text, bytes.as_mut_slice(), digits);
    Ok(())
}

/// Appends a big-endian number in exactly `digits` base62 digits, the most significant first, and
/// wipes it. Writing the whole number (instead of reducing each byte modulo 62) keeps every bit and
/// favours no digit. The caller has reserved the room, so no copy of the text is left behind.
fn push_base62(text: &mut String, number: &mut [u8], digits: usize) {
    let mut out = Zeroizing::new([0_u8; RANDOM_LEN]);
    for place in out.iter_mut().take(digits).rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or_default();
            remainder = value % 62;
        }
        *place = ALPHABET[remainder as usize % ALPHABET.len()];
    }
    text.extend(out.iter().take(digits).map(|digit| char::from(*digit)));
    number.zeroize();
}

/// The number that six digits of base62 write.
fn number_of(digits: &[u8]) -> u64 {
    digits
        .iter()
        .take(CHECKSUM_LEN)
        .fold(0, |number, digit| number * 62 + digit_value(*digit))
}

fn digit_value(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'a'..=b'z' => digit - b'a' + 36,
        _ => 0,
    })
}

#[cfg(test)]
mod tests;
