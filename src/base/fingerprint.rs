//! Keyed hashes of credentials: the only form in which a credential is stored, cached, logged or looked up. Also the
//! peppers that make them.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ids::{CredentialId, MAX_ID_LEN, SurfaceName, TenantId};

/// Longest label before a surface's name.
const MAX_LABEL: usize = 16;

/// The key of a look-up: 256 bits that cover the surface, the kind of look-up and the whole secret. So a cache keyed
/// by it cannot mix two surfaces up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Wraps stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Equality in constant time, for the secret half of a pair.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// 64 well-mixed bits for table slots.
    #[must_use]
    pub fn slot_bits(&self) -> u64 {
        u64::from_le_bytes([
            self.0[0], self.0[1], self.0[2], self.0[3], self.0[4], self.0[5], self.0[6], self.0[7],
        ])
    }

    /// Lower-case hexadecimal, as stores index it.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().flat_map(|b| [hex_digit(b >> 4), hex_digit(b & 15)]).collect()
    }

    /// Reads what [`to_hex`](Self::to_hex) wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_chunks::<2>().0) {
            *byte = (hex_value(pair[0])? << 4) | hex_value(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The fingerprint of a record by its id on a surface. Ids are no secrets, so no pepper is needed. Sessions find
    /// their record this way.
    #[must_use]
    pub fn of_id(surface: &SurfaceName, id: &CredentialId) -> Self {
        // The parts are joined first: handing a part to the hash costs as much as hashing it.
        let mut text = [0; MAX_LABEL + 2 * MAX_ID_LEN + 1];
        let mut end = 0;
        for part in [b"durward id\0", surface.as_str().as_bytes(), b"\0", id.as_str().as_bytes()] {
            if let Some(place) = text.get_mut(end..end + part.len()) {
                place.copy_from_slice(part);
                end += part.len();
            }
        }
        Self(sha256(text.get(..end).unwrap_or_default()))
    }

    /// The fingerprint of a whole token, its signature included, by which a worker remembers what it has verified. It is never
    /// stored: the hash of a text that others can read needs no pepper.
    #[must_use]
    pub fn of_token(token: &[u8]) -> Self {
        Self(sha256(token))
    }

    /// The fingerprint of a tenant itself, which external tokens name.
    #[must_use]
    pub fn of_tenant(id: &TenantId) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"durward tenant\0");
        context.update(id.as_str().as_bytes());
        Self::from_digest(context.finish().as_ref())
    }

    fn from_digest(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(bytes);
        Self(out)
    }
}

impl fmt::Debug for Fingerprint {
    /// Eight characters: enough to correlate log lines, useless for a look-up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Fingerprint({:02x}{:02x}{:02x}{:02x}..)",
            self.0[0], self.0[1], self.0[2], self.0[3]
        )
    }
}

/// The part of a credential that a fingerprint is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialPart {
    /// An API key, or the publishable half of a pair. The record is found by it.
    Key,
    /// The secret half of a pair. It is compared, never looked up.
    Secret,
}

/// A secret kept outside the store that turns credentials into fingerprints.
#[derive(Clone)]
pub struct Pepper {
    key: hmac::Key,
    /// Makes the MACs in generated keys. It is derived from the pepper, so that such a MAC, which the key's holder
    /// sees, is never the fingerprint of anything.
    marks: hmac::Key,
    /// Derives signing secrets. It is a key of its own, since these secrets leave the gateway.
    signing: hmac::Key,
    /// Marks values of the configuration. It is a key of its own, since these marks lie beside the audit trail.
    settings: hmac::Key,
    /// Derives the keys that seal texts ([`sealing_key`](Self::sealing_key)).
    sealing: hmac::Key,
}

impl Pepper {
    /// A pepper of at least 32 bytes; `None` when it is shorter.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= 32).then(|| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
            let marks = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, b"durward key mac").as_ref());
            let signing = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, b"durward signing secrets").as_ref());
            let settings = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, b"durward settings").as_ref());
            let sealing = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, b"durward sealing").as_ref());
            Self {
                key,
                marks,
                signing,
                settings,
                sealing,
            }
        })
    }

    /// The fingerprint of a credential that durward generated.
    #[must_use]
    pub fn fingerprint(&self, surface: &SurfaceName, part: CredentialPart, secret: &[u8]) -> Fingerprint {
        let label: &[u8] = match part {
            CredentialPart::Key => b"key\0",
            CredentialPart::Secret => b"secret\0",
        };
        self.mac(label, surface, secret)
    }

    /// The fingerprint of an imported credential of which only the SHA-256 is known.
    #[must_use]
    pub fn fingerprint_of_sha256(&self, surface: &SurfaceName, part: CredentialPart, sha256: &[u8; 32]) -> Fingerprint {
        let label: &[u8] = match part {
            CredentialPart::Key => b"sha256 key\0",
            CredentialPart::Secret => b"sha256 secret\0",
        };
        self.mac(label, surface, sha256)
    }

    /// The first 64 bits of the MAC over the beginning of a key, up to where the MAC stands in it.
    #[must_use]
    pub(super) fn mark(&self, beginning: &[u8]) -> u64 {
        let mac = hmac::sign(&self.marks, beginning);
        mac.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// The secret that a service signs with, for the record of this surface and id. The name of a surface holds no
    /// zero byte.
    #[must_use]
    pub(super) fn signing_secret(&self, surface: &SurfaceName, id: &CredentialId) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.signing);
        context.update(surface.as_str().as_bytes());
        context.update(b"\0");
        context.update(id.as_str().as_bytes());
        let mut secret = [0; 32];
        secret.copy_from_slice(context.sign().as_ref());
        secret
    }

    /// The key that seals texts for this purpose (AES-256-GCM). Each purpose has a key of its own, so that a text that was sealed
    /// for one never opens for another.
    #[must_use]
    pub fn sealing_key(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(hmac::sign(&self.sealing, purpose.as_bytes()).as_ref());
        key
    }

    /// A mark of the value of one key of the configuration. Who does not know the pepper cannot try values. The name of a key
    /// holds no zero byte.
    #[must_use]
    pub fn mark_setting(&self, key: &str, value: &[u8; 32]) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.settings);
        context.update(key.as_bytes());
        context.update(b"\0");
        context.update(value);
        Fingerprint::from_digest(context.sign().as_ref())
    }

    /// The check value, which identifies this pepper without revealing it.
    #[must_use]
    pub fn check(&self) -> PepperCheck {
        PepperCheck::of(Fingerprint::from_digest(hmac::sign(&self.key, b"durward pepper check").as_ref()))
    }

    /// The MAC of the label, the name of the surface, a zero byte and the secret.
    fn mac(&self, label: &[u8], surface: &SurfaceName, secret: &[u8]) -> Fingerprint {
        // The parts that are no secrets are joined first: handing a part to the hash costs as much as hashing it.
        let mut realm = [0; MAX_LABEL + MAX_ID_LEN + 1];
        let mut end = 0;
        for part in [label, surface.as_str().as_bytes()] {
            if let Some(place) = realm.get_mut(end..end + part.len()) {
                place.copy_from_slice(part);
                end += part.len();
            }
        }
        let mut context = hmac::Context::with_key(&self.key);
        context.update(realm.get(..=end).unwrap_or_default());
        context.update(secret);
        Fingerprint::from_digest(context.sign().as_ref())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// The accepted peppers: the first makes new fingerprints, all are tried when looking up.
#[derive(Debug, Clone)]
pub struct Peppers(Vec<Pepper>);

impl Peppers {
    /// At least one pepper; `None` without any.
    #[must_use]
    pub fn new(peppers: Vec<Pepper>) -> Option<Self> {
        (!peppers.is_empty()).then_some(Self(peppers))
    }

    /// The pepper that makes new fingerprints.
    #[must_use]
    pub fn first(&self) -> &Pepper {
        &self.0[0]
    }

    /// All peppers, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Pepper> {
        self.0.iter()
    }

    /// All peppers but the first: those of older credentials.
    pub fn older(&self) -> impl Iterator<Item = &Pepper> {
        self.0.iter().skip(1)
    }

    /// The check values, which the store keeps.
    #[must_use]
    pub fn checks(&self) -> PepperChecks {
        let first = PepperChecks::one(self.first().check());
        self.older().map(Pepper::check).fold(first, PepperChecks::and)
    }
}

/// SHA-256 of a secret, for imported credentials.
#[must_use]
pub fn sha256(secret: &[u8]) -> [u8; 32] {
    *Fingerprint::from_digest(digest::digest(&digest::SHA256, secret).as_ref()).as_bytes()
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(value & 15)])
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Most peppers of one gateway. Each costs a look-up for every unknown key, and a hash for every pair. A rotation
/// needs two; the rest leaves room for rotations that were begun and not finished.
pub const MAX_PEPPERS: usize = 8;

/// A public value that identifies a pepper without revealing it. The store keeps the check values of the peppers that
/// it was written under. So a gateway that lacks one of them refuses to work, instead of finding nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PepperCheck(Fingerprint);

impl PepperCheck {
    const fn of(check: Fingerprint) -> Self {
        Self(check)
    }

    /// The check value of these bytes, for tests.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Fingerprint::from_bytes(bytes))
    }

    /// 64 hexadecimal characters.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.to_hex()
    }

    /// Reads what [`to_hex`](Self::to_hex) wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        Fingerprint::from_hex(text).map(Self)
    }

    /// The beginning of the check value, by which records and people name the pepper.
    #[must_use]
    pub const fn mark(&self) -> PepperMark {
        let [a, b, c, d, ..] = *self.0.as_bytes();
        PepperMark([a, b, c, d])
    }
}

/// The name of the pepper that made a credential's fingerprints: the first eight characters of its check value.
/// Public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PepperMark([u8; 4]);

impl PepperMark {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 4];
        if text.len() != 8 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            *byte = (hex_value(pair[0])? << 4) | hex_value(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for PepperMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The check values of a gateway's peppers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PepperChecks {
    first: PepperCheck,
    others: Vec<PepperCheck>,
}

impl PepperChecks {
    /// The check values of a gateway with one pepper.
    #[must_use]
    pub const fn one(first: PepperCheck) -> Self {
        Self { first, others: Vec::new() }
    }

    #[must_use]
    pub fn and(mut self, other: PepperCheck) -> Self {
        self.others.push(other);
        self
    }

    /// The check value of the pepper that makes new fingerprints.
    #[must_use]
    pub const fn first(&self) -> PepperCheck {
        self.first
    }

    /// All check values, that of the first pepper first.
    pub fn iter(&self) -> impl Iterator<Item = PepperCheck> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surface_part_and_form_are_in_the_fingerprint() {
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let (a, b) = (SurfaceName::parse("a").unwrap(), SurfaceName::parse("b").unwrap());
        let all = [
            pepper.fingerprint(&a, CredentialPart::Key, b"s"),
            pepper.fingerprint(&b, CredentialPart::Key, b"s"),
            pepper.fingerprint(&a, CredentialPart::Secret, b"s"),
            pepper.fingerprint_of_sha256(&a, CredentialPart::Key, &sha256(b"s")),
            pepper.fingerprint_of_sha256(&a, CredentialPart::Secret, &sha256(b"s")),
            Pepper::new(&[8; 32]).unwrap().fingerprint(&a, CredentialPart::Key, b"s"),
            Fingerprint::of_id(&a, &CredentialId::parse("s").unwrap()),
        ];
        for (i, x) in all.iter().enumerate() {
            for y in &all[i + 1..] {
                assert!(!x.ct_eq(y));
            }
        }
        assert!(all[0].ct_eq(&pepper.fingerprint(&a, CredentialPart::Key, b"s")));
    }

    /// What is stored under a pepper must be found by every later version: values of another implementation.
    #[test]
    fn fingerprints_are_hmac_sha_256_of_label_surface_and_secret() {
        let (pepper, surface) = (Pepper::new(&[7; 32]).unwrap(), SurfaceName::parse(&"a".repeat(MAX_ID_LEN)).unwrap());
        let of_sha256 = |part| pepper.fingerprint_of_sha256(&surface, part, &sha256(b"s"));
        let made = [
            pepper.fingerprint(&surface, CredentialPart::Key, b"s"),
            pepper.fingerprint(&surface, CredentialPart::Secret, b"s"),
            of_sha256(CredentialPart::Key),
            of_sha256(CredentialPart::Secret),
        ];
        let hex = [
            "96c7c92fd3a65242891a9f60ec8a6503ef6b12024b6ecf3c9d0ee03634b8b1cb",
            "24f0d05efd25ee54bcf9c8b7aed39209bb3e3a422bb79ad2c7aa4c68ca03098e",
            "4142df74174cd4dd353ef2d51a4e5a87fd909050f4aade8799fa5f8a00c5f113",
            "3d083384b562b8761eff196b1b8d8957bb8e0f697544c248d350d7193109da67",
        ];
        assert_eq!(made.map(|f| f.to_hex()), hex);
        let check = pepper.check();
        assert_eq!(check.to_hex(), "0a90615bd86449a60c02a5efcc462828920b89c103ca078747067965b93ad2cf");
        assert_eq!(check.mark().to_string(), "0a90615b");
    }

    #[test]
    fn hex_round_trips_and_refuses_the_rest() {
        let f = Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        assert_eq!(Fingerprint::from_hex(&f.to_hex()), Some(f));
        assert_eq!(Fingerprint::from_hex("00"), None);
        assert_eq!(Fingerprint::from_hex(&"G".repeat(64)), None);
    }

    /// What was sealed must open in every later version: values of another implementation.
    #[test]
    fn a_sealing_key_is_of_one_pepper_and_one_purpose() {
        let key = |byte: u8, purpose: &str| *Pepper::new(&[byte; 32]).unwrap().sealing_key(purpose);
        assert_eq!(
            Fingerprint::from_bytes(key(7, "provider secrets")).to_hex(),
            "3cc23846cb4ded573cdcf3d339aa272fad143f7785ebeeff5ba6bc76fe1bd375"
        );
        assert_ne!(key(7, "provider secrets"), key(8, "provider secrets"));
        assert_ne!(key(7, "provider secrets"), key(7, "log-ins"));
    }

    #[test]
    fn a_short_pepper_is_refused() {
        assert!(Pepper::new(&[0; 31]).is_none());
    }

    #[test]
    fn a_mark_round_trips_and_nothing_else_is_one() {
        let mark = PepperCheck::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap())).mark();
        assert_eq!(mark.to_string(), "00070e15");
        assert_eq!(PepperMark::parse("00070e15"), Some(mark));
        for bad in ["", "00070e1", "00070E15", "00070e15a", "0007-e15"] {
            assert_eq!(PepperMark::parse(bad), None, "{bad}");
        }
    }
}
