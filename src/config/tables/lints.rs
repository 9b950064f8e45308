//! What loads and is probably not what was meant.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::declare::Member;
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::secret::Reference;
use crate::config::source::Located;
use crate::decide::route::{Access, Route};

use super::gateway::GatewayTable;
use super::routes::{AccessTable, RouteAccess, RouteTable};
use super::serve::ServeTable;
use super::store::StoreKindTable;
use super::surfaces::{SurfaceKindTable, SurfaceTable};
use super::upstreams::UpstreamTable;
use super::{Builder, all_routes};

impl Builder<'_> {
    /// Secrets that would be made by each gateway for itself, beside a store that all of them share.
    pub(super) fn shared_secrets(&self, gateway: &GatewayTable) {
        if !matches!(gateway.store.kind.value, StoreKindTable::Redis(_)) {
            return;
        }
        for surface in &gateway.surfaces {
            let generated = surface.kind.secrets().iter().filter(|s| matches!(s.value, Reference::Generate(_)));
            for secret in generated {
                self.report.error(
                    &secret.at,
                    "a secret of gateways that share a store cannot be generated: each would make its own",
                    Some("make it once with `head -c 32 /dev/urandom | base64 > FILE` and write `file:FILE`".to_owned()),
                );
            }
        }
    }

    pub(super) fn lint(&self, gateway: &GatewayTable, upstreams: &[(&Path, UpstreamTable)]) {
        if upstreams.is_empty() && gateway.routes.is_empty() {
            self.report.warning(
                &gateway.upstreams.at,
                "there is no upstream: every request would be answered with 404",
                Some("put a `*.toml` file into the directory".to_owned()),
            );
        }
        let routes = || all_routes(gateway, upstreams);
        let signs_on = routes()
            .filter_map(|r| r.serve()?.action.as_ref())
            .any(|action| action.value.finishes_sign_on());
        let accepted = |name: &str| {
            routes()
                .any(|r| matches!(&r.access, Some(RouteAccess::Surfaces(AccessTable { surfaces, .. })) if surfaces.value.iter().any(|s| s.value == name)))
        };
        for surface in &gateway.surfaces {
            let name = surface.name.value.as_str();
            let served = routes().filter_map(|r| r.serve()).any(|serve| is_served(serve, name));
            // The people of providers are records of an account surface that a provider in the store names.
            let is_of_people = signs_on && matches!(surface.kind, SurfaceKindTable::Account(_));
            if !accepted(name) && !served && !is_of_people && !gateway.surfaces.iter().any(|s| hangs_on(s, name)) {
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
                || upstreams.iter().any(|(_, u)| named(&u.dialect))
                || routes().any(|r| named(&r.dialect));
            if !used {
                self.report.warning(
                    &dialect.name.at,
                    format!("nothing uses the dialect `{name}`"),
                    Some("name it with `dialect`, or remove it".to_owned()),
                );
            }
        }
    }

    /// Routes that refuse nobody.
    pub(super) fn lint_report_only(&self, written: &[&RouteTable], routes: &[Route]) {
        for (written, route) in written.iter().zip(routes) {
            let Some(at) = written.report_only() else { continue };
            match route.access {
                Access::Public => self.report.warning(
                    at,
                    "`insecure_report_only` changes little here: a public route needs no credential",
                    Some("only what limits and framing would refuse is forwarded; remove it".to_owned()),
                ),
                Access::Surfaces { .. } => self.report.warning(
                    at,
                    format!(
                        "the route `{}` refuses nobody: requests without a valid credential reach the service",
                        route.name
                    ),
                    Some("they have no identity headers; remove `insecure_report_only` when the decisions are as you expect".to_owned()),
                ),
            }
        }
    }

    /// Scopes that are given and open nothing: most often a misspelling.
    pub(super) fn lint_scopes(&self, gateway: &GatewayTable, routes: &[&RouteTable]) {
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        for route in routes {
            if let Some(RouteAccess::Surfaces(AccessTable { scopes, .. })) = &route.access {
                needed.extend(scopes.iter().map(|s| s.value.as_str()));
            }
        }
        let of_mints = routes
            .iter()
            .filter_map(|r| r.serve())
            .flat_map(ServeTable::mints)
            .flat_map(|m| &m.grants);
        for scope in gateway.roles.iter().flat_map(|r| &r.scopes).chain(of_mints) {
            if !needed.contains(scope.value.as_str()) {
                self.report.warning(
                    &scope.at,
                    format!("no route needs the scope `{}`", shorten(&scope.value)),
                    Some(suggest(&scope.value, needed.iter().copied(), "a scope")),
                );
            }
        }
    }
}

/// Whether a route makes or changes credentials of this surface.
fn is_served(serve: &ServeTable, surface: &str) -> bool {
    let mut named = serve.mints().iter().filter_map(|m| m.surface.as_ref()).chain(serve.surface());
    named.any(|s| s.value == surface)
}

fn hangs_on(surface: &Member<SurfaceTable>, records: &str) -> bool {
    surface.kind.record_surface().is_some_and(|r| r.value == records)
}
