//! What loads and is probably not what was meant.

use std::path::Path;

use crate::config::secret::Reference;
use crate::config::source::Located;
use crate::config::written::{WrittenAccess, WrittenGateway, WrittenStoreKind, WrittenSurface, WrittenSurfaceKind, WrittenUpstream};

use super::Builder;

impl Builder<'_> {
    /// Secrets that would be made by each gateway for itself, beside a store that all of them share.
    pub(super) fn shared_secrets(&self, gateway: &WrittenGateway) {
        if !matches!(gateway.store.kind, WrittenStoreKind::Redis { .. }) {
            return;
        }
        for surface in &gateway.surfaces {
            let WrittenSurfaceKind::Session(session) = &surface.kind else {
                continue;
            };
            for secret in session.secrets.iter().filter(|s| matches!(s.value, Reference::Generate(_))) {
                self.report.error(
                    &secret.at,
                    "a secret of gateways that share a store cannot be generated: each would make its own",
                    Some("make it once with `head -c 32 /dev/urandom | base64 > FILE` and write `file:FILE`".to_owned()),
                );
            }
        }
    }

    /// Warnings about the whole.
    pub(super) fn lint(&self, gateway: &WrittenGateway, upstreams: &[(&Path, WrittenUpstream)]) {
        if upstreams.is_empty() {
            self.report.warning(
                &gateway.upstreams.at,
                "there is no upstream: every request would be answered with 404",
                Some("put a `*.toml` file into the directory".to_owned()),
            );
        }
        let routes = || upstreams.iter().flat_map(|(_, u)| &u.routes);
        let accepted = |name: &str| {
            routes()
                .any(|r| matches!(&r.access, Some(WrittenAccess::Surfaces { surfaces, .. }) if surfaces.iter().any(|s| s.value == name)))
        };
        for surface in &gateway.surfaces {
            let name = surface.name.value.as_str();
            if !accepted(name) && !gateway.surfaces.iter().any(|s| hangs_on(s, name)) {
                self.report.warning(
                    &surface.name.at,
                    format!("no route accepts the surface `{name}`"),
                    Some("name it in `access` of a route, or remove it".to_owned()),
                );
            }
        }
        for dialect in &gateway.dialects {
            let name = dialect.name.value.as_str();
            let named = |d: &Option<Located<String>>| d.as_ref().is_some_and(|d| d.value == name);
            let used = gateway.dialect.value == name
                || gateway.dialects.iter().any(|d| named(&d.base))
                || upstreams
                    .iter()
                    .any(|(_, u)| named(&u.dialect) || u.routes.iter().any(|r| named(&r.dialect)));
            if !used {
                self.report.warning(
                    &dialect.name.at,
                    format!("nothing uses the dialect `{name}`"),
                    Some("name it with `dialect`, or remove it".to_owned()),
                );
            }
        }
    }
}

fn hangs_on(surface: &WrittenSurface, records: &str) -> bool {
    surface.record_surface().is_some_and(|r| r.value == records)
}
