//! Surfaces as configured: the credential, where it is carried, how it is verified; and overlaps between surfaces.

use std::time::Duration;

use crate::base::credential::Credential;
use crate::base::fingerprint::Peppers;
use crate::base::ids::SurfaceName;
use crate::base::principal::{CredentialRecord, TokenClaims};
use crate::base::scope::Mode;

use super::token::ClaimHeader;

pub use super::kinds::*;

/// Index of a surface in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SurfaceIndex(pub usize);

#[derive(Debug)]
pub struct Surface {
    /// The name. It is part of every fingerprint that is made for the surface.
    pub name: SurfaceName,
    pub kind: SurfaceKind,
    /// The only mode that is admitted, if the operator pinned one (a sandbox gateway).
    pub mode: Option<Mode>,
}

impl Surface {
    /// The longest prefix of this surface that the text begins with: of a key, or of the publishable half of a pair.
    /// Session surfaces have no prefixes.
    #[must_use]
    pub fn prefix_of(&self, text: &[u8]) -> Option<&KeyPrefix> {
        self.kind.prefix_of(text)
    }

    /// The prefixes of its keys, or of the publishable halves of its pairs.
    #[must_use]
    pub fn prefixes(&self) -> &[KeyPrefix] {
        self.kind.prefixes()
    }

    /// Claims of its records or tokens that become headers.
    #[must_use]
    pub fn claim_headers(&self) -> &[ClaimHeader] {
        self.kind.claim_headers()
    }

    /// What presenting this credential proves about the record that was found by it. Without a record the same work
    /// is done.
    #[must_use]
    pub fn prove(
        &self,
        credential: Credential<'_>,
        claims: Option<&TokenClaims>,
        record: Option<&CredentialRecord>,
        peppers: &Peppers,
    ) -> Proof {
        let presented = Presentation {
            surface: &self.name,
            credential,
            claims,
            peppers,
        };
        self.kind.prove(presented, record)
    }

    /// Whether its credentials are presented in the body, so that only served routes can accept them.
    #[must_use]
    pub fn is_presented_in_body(&self) -> bool {
        self.kind.carry().is_in_body()
    }

    /// Whether the surface has records of its own. All have, except sessions that hang on the records of another
    /// surface, and tokens of other issuers, which hang on their tenant.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.kind.records() == Records::Own
    }

    /// Whether its credentials are signed tokens.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.kind.is_token()
    }

    /// Where its tokens may be carried; empty for other kinds.
    #[must_use]
    pub fn token_carriers(&self) -> &[Carrier] {
        if self.kind.is_token() { self.kind.carry().carriers() } else { &[] }
    }

    /// Whether a header of this name carries its credentials, whole or one half.
    #[must_use]
    pub fn uses_header(&self, name: &[u8]) -> bool {
        self.kind.carry().uses_header(name)
    }

    /// The cookies its credentials are read from.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        self.kind.cookies().iter().filter_map(Carrier::cookie)
    }

    /// The surface whose records its credentials resolve to.
    #[must_use]
    pub fn record_surface(&self) -> &SurfaceName {
        match self.kind.records() {
            Records::Own => &self.name,
            Records::Of(surface) => surface,
        }
    }
}

/// Largest tolerated clock difference of tokens. It adds to the revocation bound.
pub const MAX_SKEW: Duration = Duration::from_secs(5);

/// Two surfaces whose credentials cannot be told apart in a place where both may be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The surface that is earlier in the configuration.
    pub first: SurfaceIndex,
    pub second: SurfaceIndex,
    pub kind: OverlapKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlapKind {
    /// Keys with the same prefix in the same place. Such a configuration never loads.
    SamePrefix(String),
    /// One prefix begins with the other. The longer one wins, which deserves a warning.
    NestedPrefix { shorter: String, longer: String },
    /// Signed tokens in the same place. They look alike until they are verified, so no route may accept both
    /// surfaces.
    Tokens(Carrier),
}

/// Every overlap among these surfaces, for the checks of the configuration. [`OverlapKind::SamePrefix`] is an error
/// anywhere, [`OverlapKind::Tokens`] on a route that accepts both.
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
