//! Surfaces whose credentials look alike: refused where a caller could be taken for another.

use crate::config::source::{Located, Place};
use crate::config::written::{WrittenAccess, WrittenGateway, WrittenRoute};
use crate::decide::surface::{Carrier, OverlapKind, Surface, SurfaceIndex, overlaps};

use super::Builder;

impl Builder<'_> {
    /// Reports every overlap: equal prefixes anywhere, tokens in one place where a route accepts both.
    pub(super) fn overlaps(&self, gateway: &WrittenGateway, surfaces: &[Surface], routes: &[&WrittenRoute]) {
        let name = |index: SurfaceIndex| surfaces.get(index.0).map_or("", |s| s.name.as_str());
        for overlap in overlaps(surfaces) {
            let (first, second) = (name(overlap.first), name(overlap.second));
            let Some(at) = place_of(gateway, second) else { continue };
            match overlap.kind {
                OverlapKind::SamePrefix(prefix) => self.report.error(
                    at,
                    format!("`{first}` and `{second}` have keys that begin with `{prefix}` in the same place"),
                    Some("give each its own prefix, or carry one of them in another header".to_owned()),
                ),
                OverlapKind::NestedPrefix { shorter, longer } => self.report.warning(
                    at,
                    format!("prefixes of `{first}` and `{second}` begin alike: `{shorter}` and `{longer}`"),
                    Some("the longer one wins; clearer is a prefix of its own".to_owned()),
                ),
                OverlapKind::Tokens(carrier) => self.tokens_on_one_route(first, second, &carrier, routes),
            }
        }
    }

    fn tokens_on_one_route(&self, first: &str, second: &str, carrier: &Carrier, routes: &[&WrittenRoute]) {
        let place = match carrier {
            Carrier::Authorization(scheme) => format!("`Authorization: {}`", scheme.as_str()),
            Carrier::Header(name) => format!("the header `{name}`"),
            Carrier::Cookie(name) => format!("the cookie `{name}`"),
        };
        for route in routes {
            let Some(WrittenAccess::Surfaces { surfaces, .. }) = &route.access else {
                continue;
            };
            let named = |name: &str| surfaces.iter().find(|s: &&Located<String>| s.value == name);
            if let (Some(_), Some(later)) = (named(first), named(second)) {
                self.report.error(
                    &later.at,
                    format!("a route cannot accept both `{first}` and `{second}`: both carry a token in {place}"),
                    Some("tokens look alike until they are verified: make two routes, or carry them in different places".to_owned()),
                );
            }
        }
    }
}

fn place_of<'g>(gateway: &'g WrittenGateway, name: &str) -> Option<&'g Place> {
    gateway.surfaces.iter().find(|s| s.name.value == name).map(|s| &s.name.at)
}
