//! From a presented credential to the fingerprints its record may be found by.

use crate::base::credential::Credential;
use crate::base::fingerprint::{CredentialPart, Fingerprint, Peppers, sha256};
use crate::base::key::mac_holds;
use crate::base::principal::TokenClaims;
use crate::decide::surface::{FindBy, Maker, Surface};

/// What the text of a credential shows about its maker, before it is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// Somebody who may make credentials made it: its signature was verified, or the MAC in the key is right.
    Proven,
    /// It could be a guess: an imported key, a key without a MAC, the name of an account.
    Unproven,
    /// It has the form of a key with a MAC, but the MAC is wrong under every pepper. No gateway made it.
    Forged,
}

/// What the text of a credential shows about its maker. It is asked only when the record is not in the cache. The
/// same work is done whatever the result is.
#[must_use]
pub fn provenance(surface: &Surface, credential: Credential<'_>, peppers: &Peppers) -> Provenance {
    match surface.kind.maker(credential) {
        Maker::BySignature => Provenance::Proven,
        Maker::Untold => Provenance::Unproven,
        Maker::ByMac { only } => match surface.kind.with_key(credential, |key| mac_holds(key, peppers)) {
            Some(true) => Provenance::Proven,
            Some(false) if only => Provenance::Forged,
            Some(false) | None => Provenance::Unproven,
        },
    }
}

/// The fingerprints to look a credential up by, in order, at most two for each pepper. They are computed lazily and
/// without allocation. The first one is right for every credential that was made under the first pepper. The others
/// are only needed when the store has said that the one before is absent.
///
/// - A token of another issuer: the tenant that it names.
/// - A session token: the id in its verified `sub` or `jti`, on the surface of its record. None without `claims`.
/// - A key or publishable half: its keyed hash. On surfaces with imported keys, also the keyed hash of its SHA-256,
///   and only that one if the checksum shows that durward never made the key.
pub fn fingerprints<'a>(
    surface: &'a Surface,
    credential: Credential<'a>,
    claims: Option<&TokenClaims>,
    peppers: &'a Peppers,
) -> impl Iterator<Item = Fingerprint> + 'a {
    let (exactly, generated, imported) = match surface.kind.find_by(&surface.name, credential, claims) {
        FindBy::Nothing => (None, false, false),
        FindBy::Exactly(fingerprint) => (Some(fingerprint), false, false),
        FindBy::Hash { generated, imported } => (None, generated, imported),
    };
    let generated = generated.then(|| peppers.iter()).into_iter().flatten();
    let imported = imported.then_some(()).and_then(|()| surface.kind.with_key(credential, sha256));
    let imported = imported
        .into_iter()
        .flat_map(|hash| peppers.iter().map(move |pepper| (pepper, hash)));
    exactly
        .into_iter()
        .chain(generated.filter_map(move |pepper| {
            surface
                .kind
                .with_key(credential, |text| pepper.fingerprint(&surface.name, CredentialPart::Key, text))
        }))
        .chain(imported.map(|(pepper, hash)| pepper.fingerprint_of_sha256(&surface.name, CredentialPart::Key, &hash)))
}
