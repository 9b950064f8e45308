//! Headers that claims become: names of their own, which no identity and no credential has.

use crate::config::reader::shorten;
use crate::config::source::Place;
use crate::config::written::{WrittenGateway, WrittenSurface};
use crate::decide::headers::IdentityNames;

use super::Builder;
use super::names::folded;

/// Longest name or path of a claim: providers ask for names that are URLs.
const MAX_CLAIM: usize = 255;

impl Builder<'_> {
    /// Claim headers must be names of their own: one that meets an identity header or the header of
    /// a credential would let a claim speak as something else.
    pub(super) fn claim_names(&self, gateway: &WrittenGateway, identity: &IdentityNames) {
        let reserved: Vec<String> = [
            &identity.tenant,
            &identity.scopes,
            &identity.surface,
            &identity.mode,
            &identity.subject,
            &identity.credential_id,
        ]
        .iter()
        .map(|n| folded(n))
        .chain(gateway.surfaces.iter().flat_map(credential_headers))
        .collect();
        for surface in &gateway.surfaces {
            let mut seen: Vec<String> = Vec::new();
            for (claim, header) in surface.claim_headers() {
                if claim.value.is_empty() || claim.value.len() > MAX_CLAIM {
                    self.report.error(&claim.at, "a claim's name has 1 to 255 bytes", None);
                }
                if !self.check_request_name(header) {
                    continue;
                }
                let fold = folded(&header.value);
                if reserved.contains(&fold) || seen.contains(&fold) {
                    let message = format!(
                        "`{}` is taken: it carries an identity, a credential or another claim",
                        shorten(&header.value)
                    );
                    self.report.error(&header.at, message, Some("choose a name of its own".to_owned()));
                }
                seen.push(fold);
            }
        }
        for surface in &gateway.surfaces {
            for (header, at) in credential_header_places(surface) {
                if reserved.iter().take(6).any(|r| *r == header) {
                    self.report
                        .error(&at, "this header carries an identity and cannot carry a credential", None);
                }
            }
        }
    }
}

fn credential_headers(surface: &WrittenSurface) -> impl Iterator<Item = String> {
    credential_header_places(surface).into_iter().map(|(name, _)| name)
}

fn credential_header_places(surface: &WrittenSurface) -> Vec<(String, Place)> {
    let all = surface.kind.headers().into_iter();
    all.map(|(name, at)| (folded(name), at.clone())).collect()
}
