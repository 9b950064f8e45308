//! From a presented credential to the fingerprints its record may be found by.

use crate::base::credential::Credential;
use crate::base::fingerprint::{Fingerprint, Part, Peppers, sha256};
use crate::base::principal::TokenClaims;
use crate::decide::surface::{FindBy, Surface};

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
                .with_key(credential, |text| pepper.fingerprint(&surface.name, Part::Key, text))
        }))
        .chain(imported.map(|(pepper, hash)| pepper.fingerprint_of_sha256(&surface.name, Part::Key, &hash)))
}
