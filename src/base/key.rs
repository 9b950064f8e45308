//! The form of keys durward generates, and the check that refuses random ones before any I/O.

use std::fmt;

use aws_lc_rs::rand;
use zeroize::{Zeroize, Zeroizing};

use super::clock::UnixMillis;
use super::ids::{CredentialId, TenantId};
use super::text::every;

/// Random characters of a key: 62^43 is the first power of 62 that holds 256 bits.
pub const RANDOM_LEN: usize = 43;
/// Characters of the checksum: 62^6 is the first power of 62 that holds 32 bits.
pub const CHECKSUM_LEN: usize = 6;
/// Longest key of any origin. A generated one has 49 characters and its prefix; imported ones come
/// from elsewhere, and 256 holds every form we know without letting a caller make us hash pages.
pub const MAX_KEY_LEN: usize = 256;

/// Random characters of a tenant's id: 62^22 is the first power of 62 that holds 128 bits.
const TENANT_LEN: usize = 22;

/// Characters of an id that say when it was made: 62^9 milliseconds are more than 400,000 years.
const TIME_LEN: usize = 9;

/// Random characters of an id beside its time: 62^17 is the first power of 62 that holds 96 bits, enough for records of
/// one millisecond.
const SUFFIX_LEN: usize = 17;

/// What the time in an id is counted down to, in Unix milliseconds: until then (the year 2137) ids begin with `00`, and so
/// stand before nearly all of the ids without a time that earlier versions made.
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

/// A key just made: the only moment its text exists here. It is wiped when dropped, and `Debug`
/// shows its prefix only.
pub struct GeneratedKey {
    text: Zeroizing<String>,
    prefix_len: usize,
}

impl GeneratedKey {
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
        let random = random.max(RANDOM_LEN);
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + random + CHECKSUM_LEN));
        text.push_str(prefix);
        let mut missing = random;
        while missing > 0 {
            let digits = missing.min(RANDOM_LEN);
            push_random::<32>(&mut text, digits)?;
            missing -= digits;
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

    /// The visible beginning, for lists.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.text.get(..self.prefix_len).unwrap_or_default()
    }

    /// The last four characters, for lists. They are of the checksum: 24 bits of a hash of 256
    /// random ones help nobody to guess the rest.
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

/// Both halves of a pair, made together.
#[derive(Debug)]
pub struct GeneratedPair {
    /// The publishable half.
    pub publishable: GeneratedKey,
    /// The secret half; not derivable from the other.
    pub secret: GeneratedKey,
}

impl GeneratedPair {
    /// Makes two keys with nothing in common but the moment.
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

/// The last four characters of a key, for lists; of a text that has fewer or is not ASCII, nothing.
#[must_use]
pub fn last4(key: &str) -> &str {
    key.len().checked_sub(4).and_then(|at| key.get(at..)).unwrap_or_default()
}

/// Whether a text has the exact form of a key that was generated with this prefix. Asked before any
/// I/O: of texts with the right prefix, length and alphabet, one in four thousand million passes.
///
/// # Errors
/// [`KeyFormError`], the first thing that is wrong.
pub fn checksum_holds(text: &[u8], prefix: &str) -> Result<(), KeyFormError> {
    checksum_holds_of(text, prefix, RANDOM_LEN)
}

/// [`checksum_holds`] for keys with this many random characters.
///
/// # Errors
/// [`KeyFormError`], the first thing that is wrong.
pub fn checksum_holds_of(text: &[u8], prefix: &str, random: usize) -> Result<(), KeyFormError> {
    let body = text.strip_prefix(prefix.as_bytes()).ok_or(KeyFormError::Prefix)?;
    if body.len() != random + CHECKSUM_LEN {
        return Err(KeyFormError::Length);
    }
    if !every(body, |b| b.is_ascii_alphanumeric()) {
        return Err(KeyFormError::Alphabet);
    }
    let (head, tail) = text.split_at(text.len() - CHECKSUM_LEN);
    let mut said = 0_u64;
    for digit in tail {
        said = said * 62 + digit_value(*digit);
    }
    if said == u64::from(checksum(head)) {
        Ok(())
    } else {
        Err(KeyFormError::Checksum)
    }
}

/// A new id: `<kind>_`, nine base62 digits of the time that is left to [`COUNTED_TO`], and 17 random characters. So ids
/// of one kind are in the order of their making, the newest first, and a store that lists by id lists so. Not a secret.
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

/// A new tenant's id: `ten_` and 128 random bits. It goes into headers and addresses, so it does not tell when the tenant
/// came.
///
/// # Errors
/// [`NoRandomness`].
pub fn mint_tenant_id() -> Result<TenantId, NoRandomness> {
    let mut text = String::from("ten_");
    push_random::<16>(&mut text, TENANT_LEN)?;
    TenantId::parse(&text).map_err(|_| NoRandomness)
}

/// What an id is of; its prefix tells operators what they look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// An API key.
    Key,
    /// A key pair.
    Pair,
    /// A session with a record of its own.
    Session,
    /// A person or another actor that sessions hang on.
    Account,
}

impl IdKind {
    /// What ids of this kind begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Key => "key_",
            Self::Pair => "pair_",
            Self::Session => "ses_",
            Self::Account => "acc_",
        }
    }
}

/// A new pepper: 256 random bits as 43 base62 characters, so that a file of it survives editors and
/// secret managers that think in text. Give its bytes to [`super::fingerprint::Pepper::new`].
///
/// # Errors
/// [`NoRandomness`].
pub fn generate_pepper() -> Result<Zeroizing<String>, NoRandomness> {
    let mut text = Zeroizing::new(String::with_capacity(RANDOM_LEN));
    push_random::<32>(&mut text, RANDOM_LEN)?;
    Ok(text)
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

fn digit_value(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'a'..=b'z' => digit - b'a' + 36,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_longer_key_holds_as_what_it_is_only() {
        for random in [43, 44, 62, 86, 128] {
            let key = GeneratedKey::mint_of("t", random).unwrap();
            let text = key.expose().as_bytes();
            assert_eq!(text.len(), 1 + random + CHECKSUM_LEN);
            assert!(text.iter().all(u8::is_ascii_alphanumeric));
            assert_eq!(checksum_holds_of(text, "t", random), Ok(()));
            assert_eq!(checksum_holds_of(text, "t", random + 1), Err(KeyFormError::Length));
        }
        assert_eq!(
            GeneratedKey::mint_of("t", 0).unwrap().expose().len(),
            1 + 49,
            "never below 256 bits"
        );
    }

    #[test]
    fn a_generated_key_holds_and_any_changed_character_does_not() {
        let key = GeneratedKey::mint("hlive_").unwrap();
        let text = key.expose();
        assert_eq!(text.len(), "hlive_".len() + 49);
        assert_eq!(checksum_holds(text.as_bytes(), "hlive_"), Ok(()));
        assert_eq!((key.prefix(), key.last4()), ("hlive_", &text[text.len() - 4..]));
        for at in "hlive_".len()..text.len() {
            let mut bad = text.as_bytes().to_vec();
            bad[at] = if bad[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(checksum_holds(&bad, "hlive_"), Err(KeyFormError::Checksum), "at {at}");
        }
    }

    #[test]
    fn each_part_of_the_form_is_checked() {
        let key = GeneratedKey::mint("htst_").unwrap();
        let text = key.expose();
        let refused = |text: &str| checksum_holds(text.as_bytes(), "htst_").unwrap_err();
        assert_eq!(refused(&text.replacen("htst_", "hlive_", 1)), KeyFormError::Prefix);
        assert_eq!(refused("htst"), KeyFormError::Prefix);
        assert_eq!(refused("htst_"), KeyFormError::Length);
        assert_eq!(refused(&format!("{text}0")), KeyFormError::Length);
        assert_eq!(refused(&text[..text.len() - 1]), KeyFormError::Length);
        assert_eq!(refused(&format!("htst_-{}", &text[6..])), KeyFormError::Alphabet);
    }

    #[test]
    fn the_checksum_covers_the_prefix() {
        let key = GeneratedKey::mint("sk_test_").unwrap();
        let promoted = key.expose().replacen("test", "live", 1);
        assert_eq!(checksum_holds(promoted.as_bytes(), "sk_live_"), Err(KeyFormError::Checksum));
    }

    #[test]
    fn base62_writes_the_whole_number() {
        let text_of = |mut number: Vec<u8>, digits| {
            let mut text = String::new();
            push_base62(&mut text, &mut number, digits);
            assert!(number.iter().all(|b| *b == 0), "the number is wiped");
            text
        };
        assert_eq!(text_of(vec![0; 32], 43), "0".repeat(43));
        assert_eq!(text_of(61_u32.to_be_bytes().to_vec(), 6), "00000z");
        assert_eq!(text_of(62_u32.to_be_bytes().to_vec(), 6), "000010");
        assert_eq!(text_of(u32::MAX.to_be_bytes().to_vec(), 6), "4gfFC3");
        assert_eq!(text_of(vec![0xff; 32], 43), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    }

    #[test]
    fn k7_debug_of_a_key_shows_no_secret() {
        let pair = GeneratedPair::mint("pk_live_", "sk_live_").unwrap();
        let shown = format!("{pair:?}");
        assert!(shown.contains("sk_live_"));
        assert!(!shown.contains(&pair.secret.expose()[8..14]));
        assert!(!shown.contains(&pair.publishable.expose()[8..14]));
    }

    #[test]
    fn ids_and_peppers_are_new_each_time_and_well_formed() {
        let ids: std::collections::BTreeSet<_> = (0..100).map(|_| mint_id(IdKind::Key, UnixMillis(1)).unwrap()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.as_str().len() == 30 && id.as_str().starts_with("key_")));
        let tenants: std::collections::BTreeSet<_> = (0..100).map(|_| mint_tenant_id().unwrap()).collect();
        assert!(tenants.len() == 100 && tenants.iter().all(|id| id.as_str().len() == 26));
        let (a, b) = (generate_pepper().unwrap(), generate_pepper().unwrap());
        assert_ne!(a.as_str(), b.as_str());
        assert!(super::super::fingerprint::Pepper::new(a.as_bytes()).is_some());
    }

    #[test]
    fn ids_of_one_kind_are_in_order_the_newest_first() {
        const TODAY: i64 = 1_790_000_000_000;
        let times = [
            i64::MAX,
            COUNTED_TO,
            TODAY + 1_000,
            TODAY + 1,
            TODAY,
            TODAY - 1,
            1_700_000_000_000,
            1_000,
            0,
            i64::MIN,
        ];
        let ids = times.map(|at| mint_id(IdKind::Pair, UnixMillis(at)).unwrap().as_str().to_owned());
        for (newer, older) in ids.iter().zip(&ids[1..]).skip(1).take(7) {
            assert!(newer < older, "{newer} {older}");
        }
        assert!(ids[2..6].iter().all(|id| id.starts_with("pair_00")), "{ids:?}");
    }

    #[test]
    fn digits_of_generated_keys_are_not_skewed() {
        let mut counts = [0_u32; 256];
        for _ in 0..500 {
            // The first digit is bounded by 2^256 / 62^42, so it is left out.
            for digit in &GeneratedKey::mint("").unwrap().expose().as_bytes()[1..43] {
                counts[usize::from(*digit)] += 1;
            }
        }
        // 21,000 digits, 339 of each expected, standard deviation 18: seven of them either way.
        for digit in ALPHABET {
            let n = counts[usize::from(*digit)];
            assert!((211..=467).contains(&n), "{} occurs {n} times", char::from(*digit));
        }
    }

    proptest! {
        #[test]
        fn k2_random_keys_never_pass_the_prefilter(body in "[0-9A-Za-z]{49}") {
            prop_assert_eq!(checksum_holds(format!("hlive_{body}").as_bytes(), "hlive_"), Err(KeyFormError::Checksum));
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..300), prefix in ".{0,10}") {
            let _ = checksum_holds(&text, &prefix);
        }
    }
}
