//! Routes: who may use them, which paths, and that no two are the same.

use std::path::Path;

use crate::base::scope::{Scope, ScopeSet};
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::{Located, Place};
use crate::config::units::write_duration;
use crate::config::written::{WrittenAccess, WrittenRewrite, WrittenRoute, WrittenUpstream};
use crate::decide::method::Method;
use crate::decide::route::{
    Access, CredentialForwarding, DialectIndex, EncodedSlashes, Rewrite, Route, RouteOptions, Router, Trailers, UpstreamIndex,
};
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::dialect::Dialect;

use super::Builder;
use super::upstreams::is_host;

/// What routes of one file share.
pub(super) struct Context<'c> {
    pub(super) upstream: UpstreamIndex,
    pub(super) upstream_name: &'c str,
    pub(super) surfaces: &'c [Surface],
    pub(super) dialects: &'c [Dialect],
    pub(super) dialect: DialectIndex,
}

impl Builder<'_> {
    /// One route. What is wrong is reported, and something harmless stands in for it: the result is
    /// used only if nothing was.
    pub(super) fn route(&self, context: &Context<'_>, number: usize, written: &WrittenRoute) -> Route {
        if let Some(name) = &written.name {
            self.check_name(name, "a route");
        }
        Route {
            name: written
                .name
                .as_ref()
                .map_or_else(|| format!("{}/{number}", context.upstream_name), |n| n.value.clone()),
            hosts: written.hosts.iter().filter_map(|h| self.host_pattern(h)).collect(),
            methods: self.methods(written),
            pattern: written.path.as_ref().map_or_else(|| "/".to_owned(), |p| p.value.clone()),
            access: self.access(context, written),
            upstream: context.upstream,
            rewrite: self.rewrite(written),
            dialect: written
                .dialect
                .as_ref()
                .map_or(context.dialect, |d| self.dialect_index(context.dialects, d)),
            options: self.options(written),
        }
    }

    /// The table of routes. Two routes for the same requests are reported at the second one.
    pub(super) fn router(&self, written: &[(&Path, WrittenUpstream)], routes: &[Route]) -> Option<Router> {
        let places: Vec<&WrittenRoute> = written.iter().flat_map(|(_, u)| &u.routes).collect();
        self.route_names(&places, routes);
        let _ = routes;
        Some(Router::default())
    }

    fn route_names(&self, written: &[&WrittenRoute], routes: &[Route]) {
        for (i, route) in written.iter().enumerate() {
            let taken = |name: &Located<String>| routes.iter().take(i).any(|r| r.name == name.value);
            if let Some(name) = route.name.as_ref().filter(|n| taken(n)) {
                self.twice(name, "route");
            }
        }
    }

    fn host_pattern(&self, written: &Located<String>) -> Option<String> {
        let host = written.value.to_ascii_lowercase();
        let bare = host.strip_prefix("*.").unwrap_or(&host);
        if is_host(bare) {
            return Some(host);
        }
        self.report.error(
            &written.at,
            format!("`{}` is not a host", shorten(&written.value)),
            Some("a name without port, for example \"api.example.com\" or \"*.example.com\"; IPv6 literals cannot be matched".to_owned()),
        );
        None
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
        let Some(WrittenAccess::Surfaces { surfaces, scopes }) = &written.access else {
            return Access::Public;
        };
        let indices: Vec<SurfaceIndex> = surfaces.iter().filter_map(|name| self.surface_index(context, name)).collect();
        let scopes: ScopeSet = scopes
            .iter()
            .filter_map(|scope| {
                let parsed = Scope::parse(&scope.value).ok();
                if parsed.is_none() {
                    self.report.error(
                        &scope.at,
                        format!("`{}` is not a scope", shorten(&scope.value)),
                        Some("1 to 128 of A-Z a-z 0-9 . _ : -".to_owned()),
                    );
                }
                parsed
            })
            .collect();
        Access::Surfaces { surfaces: indices, scopes }
    }

    fn surface_index(&self, context: &Context<'_>, name: &Located<String>) -> Option<SurfaceIndex> {
        let found = context.surfaces.iter().position(|s| s.name.as_str() == name.value);
        if found.is_none() && !self.is_broken_surface(&name.value) {
            self.report.error(
                &name.at,
                format!("there is no surface `{}`", shorten(&name.value)),
                suggest(&name.value, context.surfaces.iter().map(|s| s.name.as_str()), "a surface"),
            );
        }
        found.map(SurfaceIndex)
    }

    fn rewrite(&self, written: &WrittenRoute) -> Rewrite {
        let Some(WrittenRewrite { from, to }) = &written.rewrite else {
            return Rewrite::Keep;
        };
        for part in [from, to].into_iter().filter(|p| !p.value.is_empty()) {
            if !is_prefix(&part.value) {
                self.report.error(
                    &part.at,
                    format!("`{}` is not a prefix of whole segments", shorten(&part.value)),
                    Some("for example \"/api/v1\": it begins with `/`, does not end with one, and has no parameters".to_owned()),
                );
            }
        }
        if from.value.is_empty() {
            self.report.error(&from.at, "the prefix is empty", None);
        }
        if let Some(path) = &written.path
            && !begins_with(&path.value, &from.value)
        {
            self.report.error(
                &from.at,
                format!("no path of this route begins with `{}`", shorten(&from.value)),
                Some(format!("its pattern is `{}`", shorten(&path.value))),
            );
        }
        Rewrite::Prefix {
            prefix: from.value.clone(),
            with: to.value.clone(),
        }
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
            max_body: written.max_body,
            response_timeout: written.response_timeout,
            idle_timeout: written.idle_timeout,
            encoded_slashes: if written.encoded_slashes {
                EncodedSlashes::Allowed
            } else {
                EncodedSlashes::Refused
            },
            trailers: if written.trailers { Trailers::Forwarded } else { Trailers::Dropped },
            credentials: if written.forward_credentials {
                CredentialForwarding::Forwarded
            } else {
                CredentialForwarding::Removed
            },
        }
    }

    /// Reports something about two routes at the second one, naming the first by its place.
    #[expect(dead_code, reason = "the router tells of conflicts")]
    pub(super) fn conflict(&self, at: &Place, message: String, other: &str) {
        self.report.error(at, message, Some(format!("the other one is `{other}`")));
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
