//! The tables of the configuration: each is declared in its file, and below the declaration stands what needs more
//! than one key, or a file, to be judged; together they build settings and snapshot.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::principal::Roles;
use crate::decide::headers::HeaderPolicy;
use crate::decide::route::{DialectIndex, UpstreamIndex};
use crate::decide::scope_grants::ScopeGrants;
use crate::decide::surface::SurfaceIndex;
use crate::snapshot::served_route::ServedRoute;
use crate::snapshot::{Settings, Snapshot};

use super::environment::Environment;
use super::report::{ProblemReport, suggest};
use super::source::{Located, Span};
use super::{Purpose, RunningTrail};

mod audit;
mod body;
mod constants;
mod cors;
mod dialects;
pub(super) mod external;
pub(super) mod gateway;
mod hooks;
mod limits;
mod lints;
mod listeners;
mod material;
mod mints;
mod names;
mod pem;
mod providers;
mod redis;
mod roles;
mod routes;
mod serve;
mod sessions;
mod sign_on;
mod sources;
mod store;
mod surfaces;
mod tls;
pub(super) mod upstreams;

use gateway::GatewayTable;
use material::PendingFile;
use routes::{EntrySource, RouteInputs, RouteTable};
use store::{EmbeddedTable, StoreKindTable};
use upstreams::{UpstreamTable, name_of};

/// One build. Errors go to the report and building goes on, so that all of them are found.
pub(super) struct Builder<'b> {
    path: &'b Path,
    purpose: Purpose,
    environment: &'b dyn Environment,
    report: &'b ProblemReport,
    created: RefCell<Vec<PendingFile>>,
    /// Whether this is no first start.
    store_is_there: Cell<bool>,
    /// Texts by number, to point inside a value.
    texts: Vec<&'b str>,
    /// Every surface that was written, sound or not: a route that names a broken one is not wrong.
    surface_names: RefCell<HashSet<String>>,
    /// The surfaces that could be built, by their names.
    surface_indices: RefCell<HashMap<String, SurfaceIndex>>,
    /// What served routes do, in the order they are met.
    served_routes: RefCell<Vec<ServedRoute>>,
    /// Roles of the configuration, for mints that name them.
    known_roles: RefCell<Roles>,
    /// The system's authorities, once something is verified with them.
    system_roots: OnceCell<Arc<rustls::RootCertStore>>,
}

/// Every route in the order of the snapshot: those of services, then those of `gateway.toml`.
fn all_routes<'w>(gateway: &'w GatewayTable, upstreams: &'w [(&Path, UpstreamTable)]) -> impl Iterator<Item = &'w RouteTable> + Clone {
    upstreams.iter().flat_map(|(_, upstream)| &upstream.routes).chain(&gateway.routes)
}

/// A path relative to the directory of the configuration file.
pub(super) fn beside(config: &Path, path: &str) -> PathBuf {
    config.parent().unwrap_or_else(|| Path::new("")).join(path)
}

impl<'b> Builder<'b> {
    pub(super) fn new(
        path: &'b Path,
        purpose: Purpose,
        environment: &'b dyn Environment,
        report: &'b ProblemReport,
        texts: Vec<&'b str>,
    ) -> Self {
        Self {
            path,
            purpose,
            environment,
            report,
            created: RefCell::default(),
            store_is_there: Cell::default(),
            texts,
            surface_names: RefCell::default(),
            surface_indices: RefCell::default(),
            served_routes: RefCell::default(),
            known_roles: RefCell::default(),
            system_roots: OnceCell::new(),
        }
    }

    /// Builds everything. `None` when something is so wrong that a part is missing; the reasons are
    /// in the report. What is answered may only be used if the report has no error.
    pub(super) fn build(&self, gateway: &GatewayTable, upstreams: &[(&Path, UpstreamTable)]) -> Option<(Settings, Snapshot)> {
        self.surface_names.borrow_mut().extend(gateway.surfaces.names.iter().cloned());
        if let StoreKindTable::Embedded(EmbeddedTable { path, .. }) = &gateway.store.kind.value {
            self.store_is_there
                .set(self.environment.holds_something(&self.resolve(&path.value)));
        }
        let names = self.identity_names(&gateway.identity);
        let surfaces = self.surfaces(gateway, &names);
        let indexed = surfaces.iter().enumerate();
        *self.surface_indices.borrow_mut() = indexed.map(|(i, s)| (s.name.as_str().to_owned(), SurfaceIndex(i))).collect();
        let dialects = self.dialects(&gateway.dialects);
        let default_dialect = self.dialect_index(&dialects, &gateway.dialect);
        let roles = self.roles(&gateway.roles);
        self.known_roles.borrow_mut().clone_from(&roles);
        let written: Vec<&RouteTable> = all_routes(gateway, upstreams).collect();
        let claims = self.known_claims(gateway, &written);
        let upstream_names: Vec<String> = upstreams.iter().map(|(path, one)| name_of(path, one)).collect();
        let indexed = upstream_names.iter().enumerate().rev();
        let upstream_index = indexed.map(|(i, name)| (name.as_str(), UpstreamIndex(i))).collect();
        let sign_on = self.sign_on(gateway, &written);
        let shared = RouteInputs {
            surfaces: &surfaces,
            dialects: &dialects,
            dialect: default_dialect,
            claims: &claims,
            limits: &gateway.rate_limits,
            upstreams: &upstream_names,
            upstream_index: &upstream_index,
            trail: match (&gateway.audit, self.purpose) {
                (None, _) => EntrySource::Nothing,
                (Some(_), Purpose::Reload(RunningTrail::Absent)) => EntrySource::TrailOfNextStart,
                (Some(_), _) => EntrySource::Trail,
            },
            sign_on: &sign_on,
        };
        let (specs, mut routes) = self.upstreams(upstreams, &shared);
        routes.extend(self.served(&gateway.routes, &shared));
        let router = self.router(&written, &routes);
        let cors = self.cors(gateway, &written, &routes, &surfaces, &names);
        let peers = self.peers(gateway);
        let certificates = self.listener_certificates(&gateway.listeners);
        let settings = self.settings(gateway);
        self.overlaps(gateway, &surfaces, &written);
        self.shared_secrets(gateway);
        self.lint(gateway, upstreams);
        self.lint_scopes(gateway, &written);
        self.lint_report_only(&written, &routes);
        self.lint_pages(gateway, &written, &surfaces);
        self.lint_siblings(gateway, &written);
        self.lint_limits(gateway, written.iter().flat_map(|route| route.limits.iter().flatten()));
        let served_routes = self.served_routes.take();
        let audit = self.audit_policy(gateway, &surfaces);
        self.audit_of_served(&written, &mut routes, &served_routes);
        self.lint_audit(gateway, &written, &served_routes, &routes);
        let mints = served_routes.iter().flat_map(|served| served.action.mints());
        let granted = mints.filter_map(|mint| Some((surfaces.get(mint.surface.0)?, &mint.grants)));
        let scope_grants = ScopeGrants::new(roles, granted);
        let snapshot = Snapshot {
            served_routes,
            scope_grants,
            cors,
            headers: HeaderPolicy::new(names, &surfaces).with_odd_names(gateway.limits.odd_names),
            surfaces,
            dialects,
            default_dialect,
            upstreams: specs,
            routes,
            router: router?,
            peers,
            certificates,
            audit,
            sign_on: sign_on.settings,
        };
        let settings = settings?;
        if !self.report.has_errors() {
            self.create_files();
        }
        Some((settings, snapshot))
    }

    /// Whether a surface of this name was written, but not well enough to be built.
    fn is_broken_surface(&self, name: &str) -> bool {
        self.surface_names.borrow().contains(name)
    }

    /// The raw text of a place.
    fn source_text(&self, at: &Span) -> Option<&'b str> {
        self.texts.get(at.source.0)?.get(at.start..at.end)
    }

    /// The dialect of a name; an unknown one is reported and the first stands in for it.
    fn dialect_index(&self, dialects: &[crate::dialect::Dialect], name: &Located<String>) -> DialectIndex {
        if let Some(found) = dialects.iter().position(|d| d.name == name.value) {
            return DialectIndex(found);
        }
        self.report.error(
            &name.at,
            format!("there is no dialect `{}`", super::reader::shorten(&name.value)),
            suggest(&name.value, dialects.iter().map(|d| d.name.as_str()), "a dialect"),
        );
        DialectIndex(0)
    }
}
