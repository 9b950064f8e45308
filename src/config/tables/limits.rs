//! Rate limits of routes: their own, or those of all routes.

use crate::config::written::{WrittenGateway, WrittenRateLimit, WrittenStoreKind};
use crate::decide::rate::{By, Counted, Limit, RouteLimits};
use crate::decide::route::Access;

use super::Builder;

/// Most limits of one route: one of each kind for a burst and for a day.
const MAX_LIMITS: usize = 8;

impl Builder<'_> {
    /// The limits of a route: its own, else the defaults as far as they make sense there.
    pub(super) fn route_limits(
        &self,
        route: &str,
        access: &Access,
        own: Option<&Vec<WrittenRateLimit>>,
        defaults: &[WrittenRateLimit],
    ) -> RouteLimits {
        let public = matches!(access, Access::Public);
        let needs_caller = |limit: &WrittenRateLimit| matches!(limit.by.value, By::Credential | By::Tenant);
        let make =
            |limit: &WrittenRateLimit| Limit::new(route, limit.by.value.as_str().to_owned(), limit.by.value, limit.rate, limit.counted);
        let Some(own) = own else {
            let fitting = defaults.iter().filter(|limit| !(public && needs_caller(limit)));
            return RouteLimits::new(fitting.map(make).collect());
        };
        for limit in own.iter().filter(|limit| public && needs_caller(limit)) {
            self.report.error(
                &limit.by.at,
                format!(
                    "nobody is known on a public route: it cannot be limited by {}",
                    limit.by.value.as_str()
                ),
                Some("limit it by `address` or by `route`".to_owned()),
            );
        }
        if let Some(limit) = own.get(MAX_LIMITS) {
            self.report
                .error(&limit.at, format!("a route has at most {MAX_LIMITS} limits"), None);
        }
        RouteLimits::new(own.iter().take(MAX_LIMITS).map(make).collect())
    }

    /// Shared limits need a store that is shared.
    pub(super) fn lint_limits<'w>(&self, gateway: &'w WrittenGateway, own: impl Iterator<Item = &'w WrittenRateLimit>) {
        if matches!(gateway.store.kind, WrittenStoreKind::Redis(_)) {
            return;
        }
        for limit in gateway.rate_limits.iter().chain(own).filter(|limit| limit.counted != Counted::Here) {
            self.report.warning(
                &limit.at,
                "the embedded store belongs to one gateway: this limit is counted in its process",
                Some("remove `shared`, or use a Redis store".to_owned()),
            );
        }
    }
}
