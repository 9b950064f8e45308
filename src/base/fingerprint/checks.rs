//! What a store and people are told of peppers: check values, and the marks that name them.

use std::fmt;

use super::{Fingerprint, hex_value};

/// Most peppers of one gateway: each costs a look-up for every unknown key, and a hash for every pair. A
/// rotation needs two; the others leave room for ones that were begun and not finished.
pub const MAX_PEPPERS: usize = 8;

/// A value that tells peppers apart without revealing them; the store keeps those it was written under,
/// so that a gateway without one of them refuses to work instead of finding nobody. Public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PepperCheck(Fingerprint);

impl PepperCheck {
    pub(super) const fn of(check: Fingerprint) -> Self {
        Self(check)
    }

    /// Of stored bytes, or of a test.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Fingerprint::from_bytes(bytes))
    }

    /// 64 hexadecimal characters.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.to_hex()
    }

    /// Reads what [`to_hex`](Self::to_hex) wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        Fingerprint::from_hex(text).map(Self)
    }

    /// Its beginning, by which records and people name the pepper.
    #[must_use]
    pub const fn mark(&self) -> PepperMark {
        let [a, b, c, d, ..] = *self.0.as_bytes();
        PepperMark([a, b, c, d])
    }
}

/// Which pepper a credential's fingerprints were made under: the first eight characters of its check
/// value. Public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PepperMark([u8; 4]);

impl PepperMark {
    /// Reads what is shown.
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
    /// Of a gateway with one pepper.
    #[must_use]
    pub const fn one(first: PepperCheck) -> Self {
        Self { first, others: Vec::new() }
    }

    /// With another one behind.
    #[must_use]
    pub fn and(mut self, other: PepperCheck) -> Self {
        self.others.push(other);
        self
    }

    /// Of the pepper that makes new fingerprints.
    #[must_use]
    pub const fn first(&self) -> PepperCheck {
        self.first
    }

    /// All, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = PepperCheck> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
