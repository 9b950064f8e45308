//! What loads and is probably not what was meant.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::secret::Reference;
use crate::config::source::Located;
use crate::decide::route::{Access, Route};

use super::gateway::GatewayTable;
use super::routes::{AccessTable, RouteAccess, RouteTable};
use super::serve::ServeTable;
use super::store::StoreKindTable;
use super::surfaces::SurfaceKindTable;
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
        let used = used_surfaces(gateway, routes());
        for surface in &gateway.surfaces {
            let name = surface.name.value.as_str();
            // The people of providers are records of an account surface that a provider in the store names.
            let is_of_people = signs_on && matches!(surface.kind, SurfaceKindTable::Account(_));
            if !used.contains(name) && !is_of_people {
                self.report.warning(
                    &surface.name.at,
                    format!("no route accepts the surface `{name}`"),
                    Some("name it in `access` of a route, or remove it".to_owned()),
                );
            }
        }
        let bases = gateway.dialects.iter().map(|dialect| &dialect.base);
        let of_upstreams = upstreams.iter().map(|(_, upstream)| &upstream.dialect);
        let named = bases.chain(of_upstreams).chain(routes().map(|route| &route.dialect)).flatten();
        let used: HashSet<&str> = named.chain([&gateway.dialect]).map(|name| name.value.as_str()).collect();
        for dialect in &gateway.dialects {
            let name = dialect.name.value.as_str();
            if !used.contains(name) {
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

/// The surfaces that a route accepts, makes or changes credentials of, and those whose records another surface hangs on.
fn used_surfaces<'w>(gateway: &'w GatewayTable, routes: impl Iterator<Item = &'w RouteTable>) -> HashSet<&'w str> {
    let mut used: HashSet<&str> = HashSet::new();
    for route in routes {
        if let Some(RouteAccess::Surfaces(AccessTable { surfaces, .. })) = &route.access {
            used.extend(surfaces.value.iter().map(|name| name.value.as_str()));
        }
        if let Some(serve) = route.serve() {
            used.extend(served_surfaces(serve).map(|name| name.value.as_str()));
        }
    }
    let hanging = gateway.surfaces.iter().filter_map(|surface| surface.kind.record_surface());
    used.extend(hanging.map(|name| name.value.as_str()));
    used
}

/// The surfaces that a route makes or changes credentials of.
fn served_surfaces(serve: &ServeTable) -> impl Iterator<Item = &Located<String>> {
    serve.mints().iter().filter_map(|mint| mint.surface.as_ref()).chain(serve.surface())
}
