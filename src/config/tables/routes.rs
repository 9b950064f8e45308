//! Routes: who may use them, which paths, and that no two are the same.

use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::Located;
use crate::config::units::write_duration;
use crate::config::written::{WrittenAccess, WrittenRateLimit, WrittenRewrite, WrittenRoute};
use crate::decide::method::Method;
use crate::decide::route::{
    Access, CredentialForwarding, Destination, DialectIndex, Rewrite, Route, RouteConflict, RouteIndex, RouteOptions, Router,
    TenantSegment, Trailers, UnknownTenant, Upgrade, UpstreamIndex, shadows,
};
use crate::decide::surface::{Carry, Surface, SurfaceIndex};
use crate::dialect::Dialect;

use super::Builder;
use super::source_scope::Claims;
use super::upstreams::is_host;

/// What all routes share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'c> {
    pub(super) surfaces: &'c [Surface],
    pub(super) dialects: &'c [Dialect],
    /// The dialect of routes and services that name none.
    pub(super) dialect: DialectIndex,
    pub(super) claims: &'c Claims,
    /// Rate limits of routes that name none.
    pub(super) limits: &'c [WrittenRateLimit],
    /// Names of the services, in their order.
    pub(super) upstreams: &'c [String],
}

/// What routes of one file share.
pub(super) struct Context<'c> {
    /// Where they forward to; `None` in `gateway.toml`, which only serves.
    pub(super) upstream: Option<UpstreamIndex>,
    /// How routes without a name begin.
    pub(super) file: &'c str,
    pub(super) shared: Shared<'c>,
    pub(super) dialect: DialectIndex,
}

impl Builder<'_> {
    /// One route. What is wrong is reported, and something harmless stands in for it: the result is
    /// used only if nothing was.
    pub(super) fn route(&self, context: &Context<'_>, number: usize, written: &WrittenRoute) -> Route {
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
            destination: self.destination(context, &name, &access, written),
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

    /// Routes of `gateway.toml`.
    pub(super) fn served(&self, written: &[WrittenRoute], shared: &Shared<'_>) -> Vec<Route> {
        let context = Context {
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

    fn destination(&self, context: &Context<'_>, name: &str, access: &Access, written: &WrittenRoute) -> Destination {
        if let Some(serve) = &written.serve {
            return self.issuer((&context.shared, context.upstream), name, access, written, serve);
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
    fn check_presented(&self, context: &Context<'_>, access: &Access, written: &WrittenRoute) {
        let (Access::Surfaces { surfaces, .. }, Some(WrittenAccess::Surfaces { surfaces: names, .. })) = (access, &written.access) else {
            return;
        };
        for surface in surfaces.iter().filter_map(|index| context.shared.surfaces.get(index.0)) {
            let at = names.iter().find(|n| n.value == surface.name.as_str());
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
    pub(super) fn router(&self, places: &[&WrittenRoute], routes: &[Route]) -> Option<Router> {
        self.route_names(places, routes);
        let name = |index: RouteIndex| routes.get(index.0).map_or("", |r| r.name.as_str());
        let path_of = |index: RouteIndex| {
            let route = places.get(index.0)?;
            Some(route.path.as_ref().map_or(&route.at, |p| &p.at))
        };
        for shadow in shadows(routes) {
            let Some(at) = path_of(shadow.hidden) else { continue };
            self.report.warning(
                at,
                format!("on host `{}` this route is never asked", shadow.host),
                Some(format!(
                    "`{}` is more specific by its host and takes all these paths",
                    name(shadow.by)
                )),
            );
        }
        let conflicts = match Router::build(routes) {
            Ok(router) => return Some(router),
            Err(conflicts) => conflicts,
        };
        let mut told = Vec::new();
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
                    let Some(at) = path_of(second).filter(|_| !told.contains(&(first, second))) else {
                        continue;
                    };
                    told.push((first, second));
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

    fn route_names(&self, written: &[&WrittenRoute], routes: &[Route]) {
        for (i, route) in written.iter().enumerate() {
            let taken = |name: &Located<String>| routes.iter().take(i).any(|r| r.name == name.value);
            if let Some(name) = route.name.as_ref().filter(|n| taken(n)) {
                self.twice(name, "route");
            }
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

    fn methods(&self, written: &WrittenRoute) -> Vec<Method> {
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

    fn access(&self, context: &Context<'_>, written: &WrittenRoute) -> Access {
        let Some(WrittenAccess::Surfaces { surfaces, scopes, .. }) = &written.access else {
            return Access::Public;
        };
        let indices: Vec<SurfaceIndex> = surfaces.iter().filter_map(|name| self.surface_index(context, name)).collect();
        let scopes = self.scopes(scopes);
        Access::Surfaces { surfaces: indices, scopes }
    }

    fn surface_index(&self, context: &Context<'_>, name: &Located<String>) -> Option<SurfaceIndex> {
        let found = context.shared.surfaces.iter().position(|s| s.name.as_str() == name.value);
        if found.is_none() && !self.is_broken_surface(&name.value) {
            self.report.error(
                &name.at,
                format!("there is no surface `{}`", shorten(&name.value)),
                suggest(&name.value, context.shared.surfaces.iter().map(|s| s.name.as_str()), "a surface"),
            );
        }
        found.map(SurfaceIndex)
    }

    fn rewrite(&self, written: &WrittenRoute) -> Rewrite {
        let Some(WrittenRewrite { from, to }) = &written.rewrite else {
            return Rewrite::Keep;
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
    fn tenant_segment(&self, written: &WrittenRoute) -> Option<TenantSegment> {
        let Some(WrittenAccess::Surfaces {
            tenant, unknown_tenant, ..
        }) = &written.access
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
        if written.serve.is_some() {
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
        let unknown = match unknown_tenant.as_ref().map(|unknown| unknown.value) {
            Some("forward") => UnknownTenant::Forwarded,
            _ => UnknownTenant::Refused,
        };
        found.map(|at| TenantSegment { at, unknown })
    }

    /// Only a GET can ask for the WebSocket protocol (RFC 6455, section 4.1).
    fn upgrade(&self, written: &WrittenRoute) -> Upgrade {
        if written.upgrade.value != "websocket" {
            return Upgrade::Dropped;
        }
        let methods = written.methods.as_ref();
        if methods.is_some_and(|methods| methods.iter().all(|method| method.value != "GET")) {
            self.report.error(
                &written.upgrade.at,
                "a WebSocket is opened by a GET, which this route does not take",
                Some("add \"GET\" to `methods`, or remove `upgrade`".to_owned()),
            );
        }
        Upgrade::Websocket
    }

    fn options(&self, written: &WrittenRoute) -> RouteOptions {
        if written.idle_timeout > written.response_timeout.saturating_mul(100) {
            let message = format!(
                "`idle_timeout` of {} is far longer than `response_timeout`",
                write_duration(written.idle_timeout)
            );
            self.report.warning(&written.at, message, None);
        }
        RouteOptions {
            tenant_segment: self.tenant_segment(written),
            max_body: written.max_body,
            response_timeout: written.response_timeout,
            idle_timeout: written.idle_timeout,
            path_forms: written.path_forms,
            upgrade: self.upgrade(written),
            trailers: if written.trailers { Trailers::Forwarded } else { Trailers::Dropped },
            credentials: if written.forward_credentials {
                CredentialForwarding::Forwarded
            } else {
                CredentialForwarding::Removed
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
