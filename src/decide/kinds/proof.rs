//! Proofs: what presenting a credential proved about a record.

use crate::base::fingerprint::{CredentialPart, Fingerprint, Pepper, sha256};
use crate::base::ids::SurfaceName;
use crate::base::principal::CredentialRecord;

use super::{KeyOrigin, Presentation};

/// What presenting a credential proved, bound to the record of which it was proved. Only the kinds, and the code that
/// has just verified a password, make a proof that proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof(Proven);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proven {
    Nothing,
    /// A whole key whose hash finds the record.
    Key(Fingerprint),
    Secret(Fingerprint),
    Password(Fingerprint),
    /// A signature by a trusted key.
    Signature,
}

impl Proof {
    pub const NONE: Self = Self(Proven::Nothing);

    /// The password of this account was right. Only the code that has just verified the password calls this.
    #[must_use]
    pub const fn of_password(record: &CredentialRecord) -> Self {
        Self(Proven::Password(record.fingerprint))
    }

    pub(super) const fn of_key(record: &CredentialRecord) -> Self {
        Self(Proven::Key(record.fingerprint))
    }

    pub(super) const fn of_secret(record: &CredentialRecord) -> Self {
        Self(Proven::Secret(record.fingerprint))
    }

    pub(super) const fn of_signature() -> Self {
        Self(Proven::Signature)
    }

    /// Whether the whole key of this record was presented.
    #[must_use]
    pub fn is_of_key(&self, record: &CredentialRecord) -> bool {
        self.0 == Proven::Key(record.fingerprint)
    }

    /// Whether the secret half of this record was presented.
    #[must_use]
    pub fn is_of_secret(&self, record: &CredentialRecord) -> bool {
        self.0 == Proven::Secret(record.fingerprint)
    }

    /// Whether the password of this record was verified.
    #[must_use]
    pub fn is_of_password(&self, record: &CredentialRecord) -> bool {
        self.0 == Proven::Password(record.fingerprint)
    }

    /// Whether a signature was verified.
    #[must_use]
    pub fn is_of_signature(&self) -> bool {
        self.0 == Proven::Signature
    }
}

/// Compares a secret half with that of the record. It runs in constant time, under every pepper and in every form,
/// without stopping at a match, and does the same work without a record. So neither the time nor the answer shows
/// whether the publishable half exists.
pub(super) fn compare_secret(presented: &Presentation<'_>, secret: &[u8], origin: KeyOrigin, record: Option<&CredentialRecord>) -> Proof {
    let stored = record.and_then(|r| r.secret_fingerprint);
    // No secret has this fingerprint, so a record without a secret, and no record at all, match nothing.
    let expected = stored.unwrap_or(Fingerprint::from_bytes([0; 32]));
    let mut matches = 0_u32;
    for pepper in presented.peppers.iter() {
        matches += u32::from(generated(pepper, presented.surface, secret).ct_eq(&expected));
        if origin == KeyOrigin::Imported {
            matches += u32::from(imported(pepper, presented.surface, secret).ct_eq(&expected));
        }
    }
    match (record, stored) {
        (Some(record), Some(_)) if matches > 0 => Proof::of_secret(record),
        _ => Proof::NONE,
    }
}

/// The secret half that was right for `before` still is if the fingerprint of the same record is unchanged.
pub(super) fn same_secret(before: &CredentialRecord, now: &CredentialRecord) -> Proof {
    match (before.secret_fingerprint, now.secret_fingerprint) {
        (Some(old), Some(new)) if old.ct_eq(&new) => Proof::of_secret(now),
        _ => Proof::NONE,
    }
}

/// The proof of a whole key, whose keyed hash found the record. A record that has a secret too is never proven so:
/// its key alone is no secret.
pub(super) const fn whole_key(record: &CredentialRecord) -> Proof {
    match record.secret_fingerprint {
        None => Proof::of_key(record),
        Some(_) => Proof::NONE,
    }
}

fn generated(pepper: &Pepper, surface: &SurfaceName, secret: &[u8]) -> Fingerprint {
    pepper.fingerprint(surface, CredentialPart::Secret, secret)
}

fn imported(pepper: &Pepper, surface: &SurfaceName, secret: &[u8]) -> Fingerprint {
    pepper.fingerprint_of_sha256(surface, CredentialPart::Secret, &sha256(secret))
}
