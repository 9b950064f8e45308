//! From a presented credential to the fingerprints its record may be found by, and the comparison of
//! the one secret that is compared.

use crate::base::credential::Credential;
use crate::base::fingerprint::{Fingerprint, Part, Pepper, Peppers, sha256};
use crate::base::ids::{SurfaceName, TenantId};
use crate::base::key::checksum_holds_of;
use crate::base::principal::{CredentialRecord, TokenClaims};
use crate::decide::surface::{KeyOrigin, Surface, SurfaceKind};

/// The fingerprints to look a credential up by, in order, at most two for each pepper. Lazy and
/// without allocation: the first is the right one for every credential made under the first pepper,
/// and the others are only computed when a store has said that the one before is absent.
///
/// - A token of another issuer: the tenant it names.
/// - A token: the id in its verified `sub`, on the surface of its record. None without `claims`.
/// - A key or publishable half: its keyed hash; on surfaces with imported keys the keyed hash of its
///   SHA-256 as well, and that alone when the checksum says that durward never made it.
pub fn fingerprints<'a>(
    surface: &'a Surface,
    credential: Credential<'a>,
    claims: Option<&TokenClaims>,
    peppers: &'a Peppers,
) -> impl Iterator<Item = Fingerprint> + 'a {
    let by_id = match (credential, claims) {
        (Credential::Jwt { .. }, Some(claims)) if matches!(surface.kind, SurfaceKind::ExternalJwt { .. }) => {
            TenantId::parse(claims.record.as_str())
                .ok()
                .map(|tenant| Fingerprint::of_tenant(&tenant))
        }
        (Credential::Jwt { .. }, Some(claims)) => Some(Fingerprint::of_id(surface.record_surface(), &claims.record)),
        _ => None,
    };
    let text = match credential {
        Credential::Key(text) | Credential::Pair { publishable: text, .. } => Some(text),
        Credential::Jwt { .. } => None,
    };
    let keyed = text.into_iter().flat_map(move |text| {
        let forms = forms(surface, text);
        let generated = forms.generated.then(|| peppers.iter()).into_iter().flatten();
        let imported = forms.imported.then(|| (sha256(text), peppers.iter())).into_iter();
        generated
            .map(move |pepper| pepper.fingerprint(&surface.name, Part::Key, text))
            .chain(
                imported.flat_map(move |(hash, all)| all.map(move |pepper| pepper.fingerprint_of_sha256(&surface.name, Part::Key, &hash))),
            )
    });
    by_id.into_iter().chain(keyed)
}

/// Which forms of a key can exist.
struct Forms {
    generated: bool,
    imported: bool,
}

fn forms(surface: &Surface, text: &[u8]) -> Forms {
    let imported = match &surface.kind {
        SurfaceKind::ApiKey { keys, .. } | SurfaceKind::KeyPair { keys, .. } => *keys == KeyOrigin::Imported,
        SurfaceKind::Account { .. } | SurfaceKind::SessionJwt { .. } | SurfaceKind::ExternalJwt { .. } => false,
    };
    // Where every key is durward's, extraction has checked the sum already.
    let generated = !imported
        || surface
            .prefix_of(text)
            .is_some_and(|p| checksum_holds_of(text, &p.text, surface.random()).is_ok());
    Forms { generated, imported }
}

/// The outcome of comparing a secret half, bound to the record it was compared with. Only
/// [`check_secret`], and what remembers its outcome, makes one that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretCheck(Option<Fingerprint>);

impl SecretCheck {
    /// No secret half was compared: what credentials that are not pairs have.
    pub const NONE: Self = Self(None);

    /// The password of this account was right. Only what has just verified it says so.
    #[must_use]
    pub const fn of_password(record: &CredentialRecord) -> Self {
        Self(Some(record.fingerprint))
    }

    /// The secret half, or the password, that was right for `before` is right for the same record as it is now, if
    /// the record holds the same hash of it still.
    #[must_use]
    pub(super) fn of_same_secret(before: &CredentialRecord, now: &CredentialRecord) -> Self {
        let same_half = match (before.secret_fingerprint, now.secret_fingerprint) {
            (Some(old), Some(new)) => old.ct_eq(&new),
            _ => false,
        };
        let same_password = match (before.password(), now.password()) {
            (Some(old), Some(new)) => old == new,
            _ => false,
        };
        if same_half || same_password {
            Self(Some(now.fingerprint))
        } else {
            Self::NONE
        }
    }

    /// Whether the secret was right for this record.
    #[must_use]
    pub fn holds_for(&self, record: &CredentialRecord) -> bool {
        self.0.is_some_and(|own| own == record.fingerprint)
    }
}

/// Compares the secret half of a pair with what the record holds: in constant time, under every
/// pepper and in every form without stopping at a match, and with the same work when there is no
/// record, so that neither the time nor the answer tells whether the publishable half exists
/// (hardening K5). For a credential that is no pair the answer is [`SecretCheck::NONE`].
#[must_use]
pub fn check_secret(surface: &Surface, credential: Credential<'_>, record: Option<&CredentialRecord>, peppers: &Peppers) -> SecretCheck {
    let (SurfaceKind::KeyPair { keys, .. }, Credential::Pair { secret, .. }) = (&surface.kind, credential) else {
        return SecretCheck::NONE;
    };
    let stored = record.and_then(|r| r.secret_fingerprint);
    // Of no secret: a record without one, and no record at all, match nothing.
    let expected = stored.unwrap_or(Fingerprint::from_bytes([0; 32]));
    let mut matches = 0_u32;
    for pepper in peppers.iter() {
        matches += u32::from(generated(pepper, &surface.name, secret).ct_eq(&expected));
        if *keys == KeyOrigin::Imported {
            matches += u32::from(imported(pepper, &surface.name, secret).ct_eq(&expected));
        }
    }
    match (record, stored) {
        (Some(record), Some(_)) if matches > 0 => SecretCheck(Some(record.fingerprint)),
        _ => SecretCheck::NONE,
    }
}

fn generated(pepper: &Pepper, surface: &SurfaceName, secret: &[u8]) -> Fingerprint {
    pepper.fingerprint(surface, Part::Secret, secret)
}

fn imported(pepper: &Pepper, surface: &SurfaceName, secret: &[u8]) -> Fingerprint {
    pepper.fingerprint_of_sha256(surface, Part::Secret, &sha256(secret))
}
