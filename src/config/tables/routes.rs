//! `[[routes]]`: which requests, who may make them, and how they are passed on; no two are the same.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use toml::de::DeValue;

use crate::base::authority::is_host;
use crate::config::declare::{DeclaredTable, PartOf, SettingValue, absent, choice, default, duration, required, size, table};
use crate::config::reader::{RawEntry, Section, shorten};
use crate::config::report::{MAX_PROBLEMS, suggest};
use crate::config::schema::{Alternative, SchemaPart, TaggedChoice, ValueKind};
use crate::config::source::{Located, Span};
use crate::config::units::{millis, secs, write_duration};
use crate::decide::method::Method;
use crate::decide::route::{
    Access, CredentialForwarding, Destination, DialectIndex, PathForms, Rewrite, Route, RouteConflict, RouteIndex, RouteOptions, Router,
    ServedRouteIndex, TenantSegment, Trailers, UnknownTenant, Upgrade, UpstreamIndex, shadows,
};
use crate::decide::surface::{Carry, Surface, SurfaceIndex};
use crate::dialect::Dialect;

use super::Builder;
use super::audit::RouteAuditKey;
use super::cors::RouteCors;
use super::limits::RateLimitTable;
use super::serve::{ActionTable, ServeTable};
use super::sign_on::SignOnInputs;
use super::sources::Claims;

table! {
    /// The most specific route wins, wherever it is written: exact host before wildcard before any, literal segment
    /// before `{parameter}` before `**`.
    pub struct RouteTable = "`[[routes]]`" {
        /// The name of the route in logs and metrics.
        name: Option<Located<String>> = absent("`<upstream>/<number>`, from 1");
        /// Host names without port; `*.example.com` stands for one label or more.
        hosts: Vec<Located<String>> = absent("any host");
        /// Methods of the route. `GET` includes `HEAD`. Methods that are not in the list of all methods are answered with
        /// 405 everywhere.
        methods: Option<Vec<Located<String>>> = absent("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        /// `/v1/orders`, `/v1/orders/{id}` (one segment), `/v1/orders/**` (that path and everything below it).
        path: Option<Located<String>> = required();
        /// Who may use the route. There is no default: a route without `access` does not load.
        access: Option<RouteAccess> = required();
        /// Largest request body. The gateway streams bodies and does not store them, so this setting protects the
        /// service.
        max_body: Located<u64> = default("10MiB"), size(0, 1 << 40);
        /// How long the body of the request or of the answer may stand still. For a WebSocket: how long nothing may pass
        /// in either direction.
        idle_timeout: Duration = default("60s"), duration(millis(100), secs(3_600));
        /// Allows `%2F` in a segment; it stays encoded. Do not set it for services that decode paths before they route.
        encoded_slashes: bool = default("false");
        /// Allows `%5C` in a segment (`CORP%5Cjdoe`); it stays encoded. Do not set it for services that treat `\` as a
        /// slash.
        encoded_backslashes: bool = default("false");
        /// Accepts paths with characters that should have been escaped: brackets, braces, `^`, `<`, `>`, `"`, a vertical
        /// bar, a grave accent, or non-ASCII characters in UTF-8. They are escaped before the path is matched, and the
        /// escaped path is forwarded. A query with such characters is forwarded unchanged.
        raw_characters: bool = default("false");
        /// What pages of other origins may do here. With `none` the gateway writes no CORS fields, and those of the
        /// service pass.
        cors: Option<RouteCors> = absent("`[cors]` of `gateway.toml`");
        /// The dialect of refusals on this route.
        dialect: Option<Located<String>> = absent("the upstream's");
        /// How often the route may be used; `[]` for no limit.
        limits: Option<Vec<RateLimitTable>> = absent("`rate_limits` of `gateway.toml`");
        /// What the audit trail has of the requests of this route. `off` leaves them out: for health checks and other
        /// requests that say nothing.
        audit: Option<RouteAuditKey> = absent("an entry for each request, without bodies");
        ..destination: Option<DestinationTable>;
    }
}

table! {
    /// A route without `serve`: its requests are forwarded to the service of the file.
    pub struct ForwardTable = "`[[routes]]` without `serve`" {
        /// Whole segments that are taken off the beginning of the path, for example `/api`. The pattern must begin with
        /// them.
        strip_prefix: Option<Located<String>> = absent("the path is kept");
        /// Replaces whole segments at the beginning of the path by others. Not together with `strip_prefix`.
        replace_prefix: Option<ReplaceTable> = absent("the path is kept");
        /// How long the service may take until the head of its response.
        response_timeout: Duration = default("30s"), duration(millis(10), secs(3_600));
        /// Accepts path parameters (`/cars;colour=red`), for services that understand them. The path is matched without
        /// them and forwarded unchanged. It is refused if the path with its parameters matches another route.
        path_parameters: bool = default("false");
        /// Forwards trailers both ways, except protected names.
        trailers: bool = default("false");
        /// Forwards the credential as well. The service can then act as its callers.
        forward_credentials: bool = default("false");
        /// `websocket`: a GET that asks for the WebSocket protocol (version 13) becomes a tunnel when the service has
        /// answered 101. Any other request to switch the protocol is forwarded without its `Upgrade` header.
        upgrade: Located<Upgrade> = default("none");
        /// Forwards requests that would be refused: without identity headers, and without the credential. The true
        /// decision is counted, logged, and in the audit trail. For the days in which the gateway is introduced in front of
        /// a service that still checks its callers itself.
        insecure_report_only: Located<bool> = default("false");
    }
}

/// What becomes of a request, by whether the key `serve` is there.
#[derive(Debug)]
pub enum DestinationTable {
    Forward(Box<ForwardTable>),
    Serve(Box<ServeTable>),
}

impl PartOf for DestinationTable {
    const PART: SchemaPart = {
        static CHOICE: TaggedChoice = TaggedChoice {
            tag: ActionTable::TAG,
            alternatives: &[
                Alternative {
                    words: &[],
                    label: "a route without `serve`",
                    schema: ForwardTable::SCHEMA,
                },
                Alternative {
                    words: ActionTable::WORDS,
                    label: "a route with `serve`",
                    schema: ServeTable::SCHEMA,
                },
            ],
        };
        SchemaPart::Choice(&CHOICE)
    };

    fn read(section: &Section<'_>) -> Option<Self> {
        if section.has(ActionTable::TAG.name) {
            PartOf::read(section).map(Self::Serve)
        } else {
            PartOf::read(section).map(Self::Forward)
        }
    }
}

impl RouteTable {
    /// What is served here, if it is not forwarded.
    pub fn serve(&self) -> Option<&ServeTable> {
        match &self.destination {
            Some(DestinationTable::Serve(serve)) => Some(serve),
            Some(DestinationTable::Forward(_)) | None => None,
        }
    }

    /// Where it says that nobody is refused, if it does.
    pub fn report_only(&self) -> Option<&Span> {
        let written = &self.forward()?.insecure_report_only;
        written.value.then_some(&written.at)
    }

    fn forward(&self) -> Option<&ForwardTable> {
        match &self.destination {
            Some(DestinationTable::Forward(forward)) => Some(forward),
            Some(DestinationTable::Serve(_)) | None => None,
        }
    }
}

choice! {
    for Upgrade {
        Dropped = "none",
        Websocket = "websocket",
    }
}

table! {
    /// A prefix of whole segments for another.
    pub struct ReplaceTable = "`replace_prefix`" {
        /// What the path begins with; the pattern must begin with it too.
        from: Located<String> = required();
        /// What stands there instead.
        to: Located<String> = required();
    }
}

table! {
    /// A caller of one of the surfaces who holds all the scopes.
    pub struct AccessTable = "`access`" {
        /// Accepted surfaces; at least one.
        surfaces: Located<Vec<Located<String>>> = required();
        /// Scopes the caller must hold, all of them.
        scopes: Vec<Located<String>> = absent("none: the credential is enough");
        /// `path.<parameter>`: where the path names a tenant, which must be the caller's own; another is
        /// `foreign_tenant`.
        tenant: Option<Located<String>> = absent("the path names no tenant");
        /// With `tenant`: what happens to a text there that is no tenant's id. `forward` lets it pass if it consists of
        /// `a-z 0-9 _ -`, as in `/tenants/add-user` beside `/tenants/{id}`; the gateway asks the store, and answers 503
        /// if the store cannot say. Everything else is `foreign_tenant`. Use it only if the service compares ids by their
        /// exact spelling.
        unknown_tenant: Option<Located<UnknownTenant>> = default("refuse");
    }
}

choice! {
    for UnknownTenant {
        Refused = "refuse",
        Forwarded = "forward",
    }
}

/// Who may use a route.
#[derive(Debug)]
pub enum RouteAccess {
    Public,
    Surfaces(AccessTable),
}

impl SettingValue for RouteAccess {
    const KIND: ValueKind = ValueKind::Either(
        "`\"public\"`, or a table",
        &[ValueKind::Choice(&["public"]), ValueKind::Table(AccessTable::schema)],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(word) if word == "public" => Some(Self::Public),
            DeValue::String(word) => entry.error(
                format!("`access` cannot be `{}`", shorten(word)),
                "write `access = \"public\"`, or `access = { surfaces = [\"…\"], scopes = [\"…\"] }`".to_owned(),
            ),
            _ => {
                let table = AccessTable::parse(entry)?;
                let Located { value: names, at } = &table.surfaces;
                if names.is_empty() && *at != table.at {
                    let help = "name at least one surface, or say `access = \"public\"`".to_owned();
                    entry.section.report().error(at, "`surfaces` names nobody", help);
                }
                Some(Self::Surfaces(table))
            }
        }
    }
}

/// For routes that do not forward, and so have no response to wait for.
const RESPONSE_TIMEOUT: Duration = secs(30);

/// Where routes that list audit entries have them from.
#[derive(Clone, Copy)]
pub(super) enum EntrySource {
    /// No audit trail is configured.
    Nothing,
    /// The trail that the gateway keeps once this configuration is in force.
    Trail,
    /// A trail that the running gateway does not keep, since it was started without.
    TrailOfNextStart,
}

#[derive(Clone, Copy)]
pub(super) struct RouteInputs<'c> {
    pub(super) surfaces: &'c [Surface],
    pub(super) dialects: &'c [Dialect],
    /// The dialect of routes and services that name none.
    pub(super) dialect: DialectIndex,
    pub(super) claims: &'c Claims,
    /// Rate limits of routes that name none.
    pub(super) limits: &'c [RateLimitTable],
    /// Names of the services, in their order.
    pub(super) upstreams: &'c [String],
    /// The first service of each name.
    pub(super) upstream_index: &'c HashMap<&'c str, UpstreamIndex>,
    /// Where routes that list audit entries have them from.
    pub(super) trail: EntrySource,
    /// What routes of single sign-on share.
    pub(super) sign_on: &'c SignOnInputs<'c>,
}

/// What routes of one file share.
pub(super) struct FileInputs<'c> {
    /// Where they forward to; `None` in `gateway.toml`, which only serves.
    pub(super) upstream: Option<UpstreamIndex>,
    /// How routes without a name begin.
    pub(super) file: &'c str,
    pub(super) shared: RouteInputs<'c>,
    pub(super) dialect: DialectIndex,
}

impl Builder<'_> {
    /// One route. What is wrong is reported, and something harmless stands in for it: the result is
    /// used only if nothing was.
    pub(super) fn route(&self, context: &FileInputs<'_>, number: usize, written: &RouteTable) -> Route {
        if let Some(name) = &written.name {
            self.check_name(name, "a route");
        }
        let name = written
            .name
            .as_ref()
            .map_or_else(|| format!("{}/{number}", context.file), |n| n.value.clone());
        let access = self.access(context, written);
        Route {
            limits: self.route_limits(&name, &access, written.limits.as_ref(), context.shared.limits),
            destination: self.destination(context, &access, written),
            name,
            hosts: written.hosts.iter().map(|h| self.host_pattern(h)).collect(),
            methods: self.methods(written),
            // A pattern of its own, so that a missing path is not told as a conflict too.
            pattern: written
                .path
                .as_ref()
                .map_or_else(|| format!("/no-path/{}/{number}", context.file), |p| p.value.clone()),
            access,
            rewrite: self.rewrite(written),
            dialect: written
                .dialect
                .as_ref()
                .map_or(context.dialect, |d| self.dialect_index(context.shared.dialects, d)),
            options: self.options(written),
        }
    }

    pub(super) fn served(&self, written: &[RouteTable], shared: &RouteInputs<'_>) -> Vec<Route> {
        let context = FileInputs {
            upstream: None,
            file: "gateway",
            shared: *shared,
            dialect: shared.dialect,
        };
        written
            .iter()
            .enumerate()
            .map(|(i, route)| self.route(&context, i + 1, route))
            .collect()
    }

    fn destination(&self, context: &FileInputs<'_>, access: &Access, written: &RouteTable) -> Destination {
        if let Some(serve) = written.serve() {
            return self.served_route(&context.shared, context.upstream, access, written, serve);
        }
        if written.destination.is_none() {
            // What is wrong with its keys was reported.
            return Destination::Served(ServedRouteIndex(0));
        }
        self.check_presented(context, access, written);
        let Some(upstream) = context.upstream else {
            self.report.error(
                &written.at,
                "a route of `gateway.toml` is served, and this one does not say how",
                Some("add `serve = \"…\"`, or move it to the file of its service".to_owned()),
            );
            return Destination::Upstream(UpstreamIndex(0));
        };
        Destination::Upstream(upstream)
    }

    /// Credentials in a body are read where the gateway reads bodies.
    fn check_presented(&self, context: &FileInputs<'_>, access: &Access, written: &RouteTable) {
        let (Access::Surfaces { surfaces, .. }, Some(RouteAccess::Surfaces(AccessTable { surfaces: names, .. }))) =
            (access, &written.access)
        else {
            return;
        };
        for surface in surfaces.iter().filter_map(|index| context.shared.surfaces.get(index.0)) {
            let at = names.value.iter().find(|n| n.value == surface.name.as_str());
            if let (Carry::Never, Some(name)) = (surface.kind.carry(), at) {
                let message = format!(
                    "credentials of `{}` are never presented: nobody could use this by one",
                    surface.name
                );
                self.report.error(&name.at, message, None);
            }
            if let (true, Some(name)) = (surface.is_presented_in_body(), at) {
                self.report.error(
                    &name.at,
                    format!(
                        "credentials of `{}` are presented in a body, which is not read where it is forwarded",
                        surface.name
                    ),
                    Some("accept them on a route with `serve`".to_owned()),
                );
            }
        }
    }

    /// The table of routes. Two routes for the same requests are reported at the later one.
    pub(super) fn router(&self, places: &[&RouteTable], routes: &[Route]) -> Option<Router> {
        self.route_names(places, routes);
        let name = |index: RouteIndex| routes.get(index.0).map_or("", |r| r.name.as_str());
        let path_of = |index: RouteIndex| {
            let route = places.get(index.0)?;
            Some(route.path.as_ref().map_or(&route.at, |p| &p.at))
        };
        let conflicts = match Router::build(routes) {
            Ok(router) => {
                self.lint_shadows(routes, path_of);
                return Some(router);
            }
            Err(conflicts) => conflicts,
        };
        let mut told = HashSet::new();
        for conflict in conflicts {
            match conflict {
                RouteConflict::Pattern { route, error } => {
                    let Some(at) = path_of(route) else { continue };
                    let help = "for example `/v1/orders`, `/v1/orders/{id}` or `/v1/orders/**`";
                    self.report.error(at, error.to_string(), Some(help.to_owned()));
                }
                RouteConflict::Same {
                    first,
                    second,
                    host,
                    method,
                } => {
                    let Some(at) = path_of(second).filter(|_| told.insert((first, second))) else {
                        continue;
                    };
                    let host = host.map_or_else(String::new, |h| format!(" on `{h}`"));
                    self.report.error(
                        at,
                        format!(
                            "the route `{}` takes {}{host} for these paths already",
                            name(first),
                            method.as_str()
                        ),
                        Some("two routes may not match the same requests: change `hosts`, `methods` or `path`".to_owned()),
                    );
                }
            }
        }
        None
    }

    /// Routes that are never asked. There may be as many as pairs of routes; more than are told are not looked for.
    fn lint_shadows<'w>(&self, routes: &[Route], path_of: impl Fn(RouteIndex) -> Option<&'w Span>) {
        for shadow in shadows(routes).take(MAX_PROBLEMS) {
            let (Some(at), Some(by)) = (path_of(shadow.hidden), routes.get(shadow.by.0)) else {
                continue;
            };
            self.report.warning(
                at,
                format!("on host `{}` this route is never asked", shadow.host),
                Some(format!("`{}` is more specific by its host and takes all these paths", by.name)),
            );
        }
    }

    fn route_names(&self, written: &[&RouteTable], routes: &[Route]) {
        let mut taken = HashSet::new();
        for (written, route) in written.iter().zip(routes) {
            if let Some(name) = written.name.as_ref().filter(|name| taken.contains(name.value.as_str())) {
                self.twice(name, "route");
            }
            taken.insert(route.name.as_str());
        }
    }

    fn host_pattern(&self, written: &Located<String>) -> String {
        let host = written.value.to_ascii_lowercase();
        if !is_host(host.strip_prefix("*.").unwrap_or(&host)) {
            let help = "a name without port, for example \"api.example.com\" or \"*.example.com\"; IPv6 literals cannot be matched";
            self.report.error(
                &written.at,
                format!("`{}` is not a host", shorten(&written.value)),
                Some(help.to_owned()),
            );
        }
        host
    }

    fn methods(&self, written: &RouteTable) -> Vec<Method> {
        let Some(names) = &written.methods else {
            return Method::ALL.to_vec();
        };
        if names.is_empty() {
            self.report.error(
                &written.at,
                "`methods` is empty: the route would match nothing",
                Some("remove it for all methods".to_owned()),
            );
        }
        let mut methods = Vec::new();
        for name in names {
            let Ok(method) = Method::parse(name.value.as_bytes()) else {
                let known = Method::ALL.map(Method::as_str);
                self.report.error(
                    &name.at,
                    format!("there is no method `{}` here", shorten(&name.value)),
                    suggest(&name.value, known, "a method"),
                );
                continue;
            };
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        methods
    }

    fn access(&self, context: &FileInputs<'_>, written: &RouteTable) -> Access {
        let Some(RouteAccess::Surfaces(AccessTable { surfaces, scopes, .. })) = &written.access else {
            return Access::Public;
        };
        let known = context.shared.surfaces;
        let indices: Vec<SurfaceIndex> = surfaces.value.iter().filter_map(|name| self.surface_index(known, name)).collect();
        let scopes = self.scopes(scopes);
        Access::Surfaces { surfaces: indices, scopes }
    }

    fn rewrite(&self, written: &RouteTable) -> Rewrite {
        let Some(forward) = written.forward() else { return Rewrite::Keep };
        let empty;
        let (from, to) = match (&forward.strip_prefix, &forward.replace_prefix) {
            (None, None) => return Rewrite::Keep,
            (None, Some(ReplaceTable { from, to, .. })) => (from, to),
            (Some(from), replace) => {
                if replace.is_some() {
                    self.report.error(
                        &from.at,
                        "a route has `strip_prefix` or `replace_prefix`, not both",
                        Some("`replace_prefix = { from = \"…\", to = \"\" }` strips as well".to_owned()),
                    );
                }
                empty = from.clone().map(|_| String::new());
                (from, &empty)
            }
        };
        if !to.value.is_empty() && !is_prefix(&to.value) {
            self.not_a_prefix(to);
        }
        match &written.path {
            _ if !is_prefix(&from.value) => self.not_a_prefix(from),
            Some(path) if !begins_with(&path.value, &from.value) => self.report.error(
                &from.at,
                format!("no path of this route begins with `{}`", shorten(&from.value)),
                Some(format!("its pattern is `{}`", shorten(&path.value))),
            ),
            _ => {}
        }
        Rewrite::Prefix {
            prefix: from.value.clone(),
            with: to.value.clone(),
        }
    }

    fn not_a_prefix(&self, part: &Located<String>) {
        self.report.error(
            &part.at,
            format!("`{}` is not a prefix of whole segments", shorten(&part.value)),
            Some("for example \"/api/v1\": it begins with `/`, does not end with one, and has no parameters".to_owned()),
        );
    }

    /// Which segment of the path names a tenant.
    fn tenant_segment(&self, written: &RouteTable) -> Option<TenantSegment> {
        let Some(RouteAccess::Surfaces(AccessTable {
            tenant, unknown_tenant, ..
        })) = &written.access
        else {
            return None;
        };
        let Some(tenant) = tenant else {
            if let Some(unknown) = unknown_tenant {
                let help = Some("add `tenant = \"path.<parameter>\"`".to_owned());
                self.report.error(&unknown.at, "this path names no tenant", help);
            }
            return None;
        };
        if written.serve().is_some() {
            let help = "say it by `tenant` or `reach` of the route".to_owned();
            self.report.error(&tenant.at, "here the gateway itself reads the path", Some(help));
        }
        let wanted = tenant.value.strip_prefix("path.").map(|name| format!("{{{name}}}"));
        let pattern = written.path.as_ref().map_or("", |path| path.value.as_str());
        let found = wanted.and_then(|wanted| pattern.split('/').position(|segment| segment == wanted));
        if found.is_none() {
            self.report.error(
                &tenant.at,
                format!("`{}` is no parameter of this path", shorten(&tenant.value)),
                Some(format!("`path.<parameter>`, and the path is `{}`", shorten(pattern))),
            );
        }
        let unknown = unknown_tenant.as_ref().map_or(UnknownTenant::Refused, |unknown| unknown.value);
        found.map(|at| TenantSegment { at, unknown })
    }

    /// Only a GET can ask for the WebSocket protocol (RFC 6455, section 4.1).
    fn upgrade(&self, written: &RouteTable) -> Upgrade {
        let Some(upgrade) = written.forward().map(|forward| &forward.upgrade) else {
            return Upgrade::Dropped;
        };
        let methods = written.methods.as_ref();
        let without_get = methods.is_some_and(|methods| methods.iter().all(|method| method.value != "GET"));
        if without_get && upgrade.value == Upgrade::Websocket {
            self.report.error(
                &upgrade.at,
                "a WebSocket is opened by a GET, which this route does not take",
                Some("add \"GET\" to `methods`, or remove `upgrade`".to_owned()),
            );
        }
        upgrade.value
    }

    fn options(&self, written: &RouteTable) -> RouteOptions {
        let forward = written.forward();
        let response_timeout = forward.map_or(RESPONSE_TIMEOUT, |forward| forward.response_timeout);
        if written.idle_timeout > response_timeout.saturating_mul(100) {
            let message = format!(
                "`idle_timeout` of {} is far longer than `response_timeout`",
                write_duration(written.idle_timeout)
            );
            self.report.warning(&written.at, message, None);
        }
        let path_forms = PathForms::ENCODED_SLASH
            .only_if(written.encoded_slashes)
            .with(PathForms::ENCODED_BACKSLASH.only_if(written.encoded_backslashes))
            .with(PathForms::RAW_CHARACTER.only_if(written.raw_characters))
            .with(PathForms::PARAMETER.only_if(forward.is_some_and(|forward| forward.path_parameters)));
        RouteOptions {
            tenant_segment: self.tenant_segment(written),
            max_body: written.max_body.value,
            response_timeout,
            idle_timeout: written.idle_timeout,
            path_forms,
            upgrade: self.upgrade(written),
            audit: self.route_audit(written),
            report_only: forward.is_some_and(|forward| forward.insecure_report_only.value),
            trailers: match forward {
                Some(forward) if forward.trailers => Trailers::Forwarded,
                _ => Trailers::Dropped,
            },
            credentials: match forward {
                Some(forward) if forward.forward_credentials => CredentialForwarding::Forwarded,
                _ => CredentialForwarding::Removed,
            },
        }
    }
}

/// A literal prefix of whole segments.
fn is_prefix(text: &str) -> bool {
    text.starts_with('/')
        && text.len() > 1
        && text
            .split('/')
            .skip(1)
            .all(|s| !s.is_empty() && s != "." && s != ".." && s.bytes().all(is_plain))
}

/// A character that is in a canonical path as itself (RFC 3986, section 3.3).
fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

/// Whether every path of a pattern begins with these segments.
fn begins_with(pattern: &str, prefix: &str) -> bool {
    pattern
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
