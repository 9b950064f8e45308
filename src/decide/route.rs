//! Routes and the table that finds them: host, then path, then method; the most specific wins.

use super::audit::RouteAudit;
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use crate::base::ids::TenantId;
use crate::base::scope::ScopeSet;

use super::method::Method;
use super::rate::RouteLimits;
use super::surface::SurfaceIndex;

mod near;
mod pattern;
mod pattern_tree;
mod router;
mod shadow;
#[cfg(test)]
mod tests;

pub use near::{Lack, near_routes};
pub use router::{RouteConflict, Router};
pub use shadow::shadows;

/// Index of a route in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub usize);

/// Index of an upstream in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamIndex(pub usize);

/// Index of a served route in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServedRouteIndex(pub usize);

/// Who answers an admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    Upstream(UpstreamIndex),
    Served(ServedRouteIndex),
}

/// Index of a dialect in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialectIndex(pub usize);

#[derive(Debug)]
pub struct Route {
    /// The name in logs and metrics: `<upstream>/<n>`, or the configured name.
    pub name: String,
    /// Hosts of the route, in lower case without port; `*.example.com` matches one label or more; empty: any host.
    pub hosts: Vec<String>,
    /// Methods of the route; `GET` includes `HEAD`. Never empty.
    pub methods: Vec<Method>,
    /// Path pattern: `/v1/orders/{id}`, `/v1/orders/**`.
    pub pattern: String,
    pub access: Access,
    pub destination: Destination,
    /// How the path is rewritten before it is forwarded.
    pub rewrite: Rewrite,
    pub dialect: DialectIndex,
    pub options: RouteOptions,
    /// The rate limits of the route.
    pub limits: RouteLimits,
}

/// Who may use a route. There is no default.
#[derive(Debug)]
pub enum Access {
    /// Anybody, without a credential; identity headers are absent.
    Public,
    /// Callers of one of these surfaces who hold all these scopes.
    Surfaces { surfaces: Vec<SurfaceIndex>, scopes: ScopeSet },
}

/// How the matched path is rewritten before it is forwarded. The rest of the path is forwarded as it was matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    Keep,
    /// A literal prefix of whole segments is replaced (`with` is empty to strip it).
    Prefix {
        /// The prefix, e.g. `/api/v1`.
        prefix: String,
        /// The replacement, e.g. `` or `/internal`.
        with: String,
    },
}

impl Rewrite {
    /// The path as it is forwarded: a prefix of whole segments is replaced, and the result begins with `/`, whatever
    /// is configured. A path without the prefix stays as it is.
    #[must_use]
    pub fn apply<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let Self::Prefix { prefix, with } = self else {
            return Cow::Borrowed(path);
        };
        let (prefix, with) = (prefix.trim_end_matches('/'), with.trim_matches('/'));
        let Some(rest) = path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Cow::Borrowed(path);
        };
        match (with, rest) {
            ("", "") => Cow::Borrowed("/"),
            ("", rest) => Cow::Borrowed(rest),
            (with, rest) => Cow::Owned(format!("/{with}{rest}")),
        }
    }
}

/// Limits and opt-ins of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteOptions {
    /// The segment of the path that names a tenant: it must be the caller's own.
    pub tenant_segment: Option<TenantSegment>,
    /// Largest request body in bytes.
    pub max_body: u64,
    /// How long the upstream may take until its response head.
    pub response_timeout: Duration,
    /// Longest pause of either body.
    pub idle_timeout: Duration,
    /// Spellings of a path that this route takes, and other routes refuse.
    pub path_forms: PathForms,
    /// Whether trailers are forwarded (both ways, protected names never).
    pub trailers: Trailers,
    /// Whether the credential is forwarded as well.
    pub credentials: CredentialForwarding,
    /// Whether a connection may be upgraded to another protocol.
    pub upgrade: Upgrade,
    /// What the audit trail has of the route's requests.
    pub audit: RouteAudit,
    /// Whether requests that would be refused are forwarded without identity (`insecure_report_only`).
    pub report_only: bool,
}

/// Where a path names a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantSegment {
    /// The index of the segment, counted from the empty segment before the first `/`.
    pub at: usize,
    /// What happens to a text there that is no tenant's id.
    pub unknown: UnknownTenant,
}

/// What happens to a text that stands where a path names a tenant, and that is no tenant's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownTenant {
    /// The request is refused like one that names another tenant.
    Refused,
    /// A word ([`NamedTenant::Word`]) is forwarded.
    Forwarded,
}

/// What stands in a path where it may name a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedTenant {
    /// The caller's own tenant.
    Own,
    /// Another tenant, or a text that could be read as one.
    Other,
    /// A word that names another tenant if the store has a tenant with this id. It has only lower-case letters,
    /// digits, `-` and `_`, so a service that trims, decodes once more or folds case reads the same word.
    Word(TenantId),
}

/// A route with `id` as a literal segment where the path of another route names a tenant. Requests that name this
/// tenant would reach the route with the literal.
#[must_use]
pub fn literal_beside_tenant<'r>(routes: &'r [Route], id: &TenantId) -> Option<&'r Route> {
    // By the text before the tenant: the first route that names a tenant there.
    let mut naming: HashMap<&str, usize> = HashMap::new();
    for (i, route) in routes.iter().enumerate() {
        if let Some(before) = route
            .options
            .tenant_segment
            .and_then(|tenant| before_segment(&route.pattern, tenant.at))
        {
            naming.entry(before).or_insert(i);
        }
    }
    let beside = |other: &Route| {
        let starts = other.pattern.match_indices('/').map(|(slash, _)| slash + 1);
        let of_id = starts.filter_map(|start| {
            let (before, segment) = other.pattern.split_at_checked(start)?;
            (segment.split('/').next() == Some(id.as_str())).then(|| naming.get(before).copied())?
        });
        of_id.min()
    };
    let found = routes.iter().filter_map(|other| Some((beside(other)?, other)));
    found.min_by_key(|(first, _)| *first).map(|(_, other)| other)
}

/// A path up to the beginning of a segment; segments are counted from the empty one before the first `/`.
fn before_segment(path: &str, at: usize) -> Option<&str> {
    let slash = path.match_indices('/').nth(at.checked_sub(1)?)?.0;
    path.get(..=slash)
}

impl TenantSegment {
    /// The tenant that a canonical path names, for a caller of the tenant `own`.
    #[must_use]
    pub fn read(self, path: &str, own: &TenantId) -> NamedTenant {
        let is_word = |text: &str| text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        match (path.split('/').nth(self.at), self.unknown) {
            (Some(named), _) if named == own.as_str() => NamedTenant::Own,
            (Some(named), UnknownTenant::Forwarded) if is_word(named) => {
                TenantId::parse(named).map_or(NamedTenant::Other, NamedTenant::Word)
            }
            _ => NamedTenant::Other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailers {
    Dropped,
    Forwarded,
}

/// Whether the upstream sees the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialForwarding {
    Removed,
    Forwarded,
}

/// Whether a connection may be upgraded to another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// `Upgrade` is dropped.
    Dropped,
    /// To the WebSocket protocol (RFC 6455) and to no other.
    Websocket,
}

/// Why no route was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// Nothing matches host and path.
    NoRoute,
    /// The path matches, but not the method; these methods would match (one bit for each of [`Method::ALL`]).
    Method {
        /// Bit i is `Method::ALL[i]`.
        allowed: u8,
    },
}

/// A set of spellings of a path that services read in more than one way: of a target, the spellings that it has; of a
/// route, those that it takes. A route refuses them unless it opts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathForms(u8);

impl PathForms {
    pub const NONE: Self = Self(0);
    /// `%2F` in a segment.
    pub const ENCODED_SLASH: Self = Self(1);
    /// `%5C` in a segment.
    pub const ENCODED_BACKSLASH: Self = Self(2);
    /// A character that RFC 3986 requires to be escaped, and is not: `[ ] | ^ { } < > "`, a grave accent, or any
    /// character beyond ASCII.
    pub const RAW_CHARACTER: Self = Self(4);
    /// A path parameter: what follows a `;` in a segment.
    pub const PARAMETER: Self = Self(8);

    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// These if `wanted`, else none.
    #[must_use]
    pub const fn only_if(self, wanted: bool) -> Self {
        if wanted { self } else { Self::NONE }
    }

    /// Whether all of `others` are among these.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}
