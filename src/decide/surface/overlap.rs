//! Surfaces whose credentials look alike: what the configuration refuses or warns of.

use super::{Carrier, Surface, SurfaceIndex};

/// Two surfaces whose credentials cannot be told apart where both may be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// One of the surfaces (the one earlier in the configuration).
    pub first: SurfaceIndex,
    /// The other.
    pub second: SurfaceIndex,
    /// What they share.
    pub kind: OverlapKind,
}

/// What two surfaces share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlapKind {
    /// Keys with the same prefix in the same place: never loads.
    SamePrefix(String),
    /// One's prefix begins with the other's: the longer one wins, which is worth a warning.
    NestedPrefix {
        /// The shorter prefix.
        shorter: String,
        /// The longer one.
        longer: String,
    },
    /// Signed tokens in the same place: they look alike until they are verified, so no route may
    /// accept both surfaces.
    Tokens(Carrier),
}

/// Every overlap among these surfaces, for the checks of the configuration: [`OverlapKind::SamePrefix`]
/// is an error anywhere, [`OverlapKind::Tokens`] on a route that accepts both.
#[must_use]
pub fn overlaps(surfaces: &[Surface]) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (i, first) in surfaces.iter().enumerate() {
        for (j, second) in surfaces.iter().enumerate().skip(i + 1) {
            overlaps_of(first, second, &mut |kind| {
                found.push(Overlap {
                    first: SurfaceIndex(i),
                    second: SurfaceIndex(j),
                    kind,
                });
            });
        }
    }
    found
}

fn overlaps_of(first: &Surface, second: &Surface, found: &mut impl FnMut(OverlapKind)) {
    let theirs = second.token_carriers();
    let shared = first.token_carriers().iter().filter(|c| theirs.contains(c));
    shared.for_each(|c| found(OverlapKind::Tokens(c.clone())));
    if !first.kind.carry().meets(second.kind.carry()) {
        return;
    }
    for a in first.prefixes() {
        for b in second.prefixes() {
            let (shorter, longer) = if a.text.len() <= b.text.len() { (a, b) } else { (b, a) };
            if shorter.text == longer.text {
                found(OverlapKind::SamePrefix(shorter.text.clone()));
            } else if longer.text.starts_with(&shorter.text) {
                found(OverlapKind::NestedPrefix {
                    shorter: shorter.text.clone(),
                    longer: longer.text.clone(),
                });
            }
        }
    }
}
