//! Session cookies that other hosts of the same domain can set.

use std::collections::BTreeSet;

use crate::config::written::{WrittenCors, WrittenGateway, WrittenRoute, WrittenRouteCors, WrittenSession, WrittenSurfaceKind};
use crate::decide::cors::OriginRule;
use crate::decide::surface::{Carrier, SameSite};

use super::Builder;

/// The prefix of names that browsers let only the very host set (RFC 6265bis, section 4.1.3.2).
const HOST_PREFIX: &str = "__Host-";

impl Builder<'_> {
    /// Warns of session cookies without the prefix, where the configuration shows a host beside the gateway's own.
    pub(super) fn lint_siblings(&self, gateway: &WrittenGateway, routes: &[&WrittenRoute]) {
        for surface in &gateway.surfaces {
            let WrittenSurfaceKind::Session(session) = &surface.kind else {
                continue;
            };
            for carrier in &session.carriers {
                let Carrier::Cookie(name) = &carrier.value else { continue };
                if name.starts_with(HOST_PREFIX) {
                    continue;
                }
                if let Some(sibling) = sibling(gateway, routes, session) {
                    self.report.warning(
                        &carrier.at,
                        format!("other hosts of the domain, such as `{sibling}`, can set the cookie `{name}`"),
                        Some(format!(
                            "call it `{HOST_PREFIX}{name}`: browsers let no other host set a cookie of that name. If clients depend on the present name, protect those hosts as well as this one"
                        )),
                    );
                }
            }
        }
    }
}

/// A host of the same domain, as far as hosts of routes and origins of pages show one.
fn sibling(gateway: &WrittenGateway, routes: &[&WrittenRoute], session: &WrittenSession) -> Option<String> {
    let own: BTreeSet<String> = routes
        .iter()
        .flat_map(|route| &route.hosts)
        .map(|host| host.value.to_ascii_lowercase())
        .collect();
    let pages: Vec<&WrittenCors> = routes.iter().filter_map(|route| own_rules(route)).chain(&gateway.cors).collect();
    if own.is_empty() {
        // A cookie that comes along with a page's call is one of the same site, unless it is for every site.
        let is_kept = session.cookie.as_ref().is_none_or(|cookie| cookie.same_site != SameSite::None);
        return pages
            .into_iter()
            .filter(|rules| rules.uses_cookies() && is_kept)
            .find_map(named_host);
    }
    let domains: BTreeSet<&str> = own.iter().filter_map(|host| domain(host)).collect();
    let is_sibling = |host: &String| domain(host).is_some_and(|domain| domains.contains(domain));
    let of_pages = pages.into_iter().flat_map(hosts).filter(|host| !own.contains(host));
    let besides = of_pages.filter(is_sibling).min();
    besides
        .or_else(|| own.iter().find(|host| host.starts_with("*.")).cloned())
        .or_else(|| {
            let shares = |host: &&String| own.iter().any(|other| other != *host && domain(other) == domain(host));
            own.iter().filter(|host| domain(host).is_some()).find(shares).cloned()
        })
}

fn own_rules<'w>(route: &&'w WrittenRoute) -> Option<&'w WrittenCors> {
    match &route.cors {
        Some(WrittenRouteCors::Own(rules)) => Some(rules),
        Some(WrittenRouteCors::None) | None => None,
    }
}

/// Hosts of the listed origins that lie in a domain; `*.example.com` for a wildcard.
fn hosts(rules: &WrittenCors) -> impl Iterator<Item = String> {
    rules.origins.iter().filter_map(|text| match OriginRule::parse(&text.value).ok()? {
        rule @ OriginRule::Exact(_) => rule.host().map(str::to_owned),
        rule @ OriginRule::OneLabel(_) => rule.host().map(|host| format!("*.{host}")),
        OriginRule::Any => None,
    })
}

fn named_host(rules: &WrittenCors) -> Option<String> {
    hosts(rules).find(|host| domain(host).is_some())
}

/// What follows the first label of a host, where that is a domain: `example.com`, and neither `com` nor a part of an address.
fn domain(host: &str) -> Option<&str> {
    let (_, domain) = host.split_once('.')?;
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[');
    (domain.contains('.') && !is_address).then_some(domain)
}
