//! `[cors]`: what pages of other origins may do, and what follows for each route.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::declare::{DeclaredTable, SettingValue, absent, default, duration, required, table};
use crate::config::reader::{RawEntry, shorten};
use crate::config::schema::ValueKind;
use crate::config::source::Located;
use crate::config::units::secs;
use crate::decide::cors::{Cors, CorsCookies, CorsPolicy, CorsRules, OriginRule};
use crate::decide::headers::IdentityNames;
use crate::decide::route::{Access, Route};
use crate::decide::surface::Surface;

use super::Builder;
use super::gateway::GatewayTable;
use super::routes::RouteTable;

table! {
    /// Which pages may call from a browser, by their origin. The gateway answers preflights itself. Every answer to a
    /// listed origin, refusals included, says that its page may read it, and CORS fields of the service are replaced. On
    /// routes without these rules the service's fields pass. See [browsers.md](browsers.md).
    pub struct CorsTable = "`[cors]`" {
        /// Scheme, host, and the port unless it is the scheme's default: `https://app.example.com`. In
        /// `https://*.example.com` the `*` stands for one label. `*` alone means every origin and is allowed only without
        /// `credentials`. At most 256.
        origins: Option<Located<Vec<Located<String>>>> = required();
        /// Pages of these origins may use the session cookie, also for methods that change something and for WebSockets.
        /// Without it a session cookie is not used for any page of another origin.
        credentials: Option<Located<bool>> = default("false");
        /// Headers that pages may send besides `Content-Type`, `Authorization`, `Accept`, `Accept-Language`,
        /// `Content-Language` and the headers that carry credentials of the route.
        request_headers: Vec<Located<String>> = absent("none");
        /// Headers that pages may read besides `X-Request-Id`, `Retry-After`, `RateLimit`, `RateLimit-Policy` and the
        /// header that carries a renewed token.
        response_headers: Vec<Located<String>> = absent("none");
        /// How long a browser may keep the answer to a preflight. Browsers have limits of their own, between 2 and 24
        /// hours.
        max_age: Duration = default("10m"), duration(secs(0), secs(86_400));
    }
}

/// What a route says about pages of other origins.
#[derive(Debug)]
pub enum RouteCors {
    /// `cors = "none"`.
    None,
    Own(CorsTable),
}

impl SettingValue for RouteCors {
    const KIND: ValueKind = ValueKind::Either(
        "`\"none\"`, or a table",
        &[ValueKind::Choice(&["none"]), ValueKind::Table(CorsTable::schema)],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(word) if word == "none" => Some(Self::None),
            DeValue::String(word) => entry.error(
                format!("`cors` cannot be `{}`", shorten(word)),
                "write `cors = \"none\"`, or `cors = { origins = [\"https://app.example.com\"] }`".to_owned(),
            ),
            _ => CorsTable::parse(entry).map(Self::Own),
        }
    }
}

impl CorsTable {
    pub fn uses_cookies(&self) -> bool {
        self.credentials.as_ref().is_some_and(|flag| flag.value)
    }
}

/// Most origins of one list: each request of a page is compared with all of them.
const MAX_ORIGINS: usize = 256;

/// Request headers that no page can send, since browsers write them (Fetch, "forbidden request-header"); those that
/// begin with `sec-` or `proxy-` besides.
const OF_BROWSERS: &[&str] = &[
    "accept-charset",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "connection",
    "content-length",
    "cookie",
    "date",
    "dnt",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

impl Builder<'_> {
    /// The policy of every route, and of answers without one.
    pub(super) fn cors(
        &self,
        gateway: &GatewayTable,
        written: &[&RouteTable],
        routes: &[Route],
        surfaces: &[Surface],
        names: &IdentityNames,
    ) -> Cors {
        let shared = gateway.cors.as_ref().map(|cors| self.cors_rules(cors, names));
        let of_route = |(written, route): (&&RouteTable, &Route)| {
            let used = used_by(route, surfaces);
            match &written.cors {
                Some(RouteCors::None) => None,
                Some(RouteCors::Own(own)) => Some(policy(&self.cors_rules(own, names), &used)),
                None => shared.as_ref().map(|rules| policy(rules, &used)),
            }
        };
        let everybody: Vec<&Surface> = surfaces.iter().collect();
        Cors {
            routes: written.iter().zip(routes).map(of_route).collect(),
            others: shared.as_ref().map(|rules| policy(rules, &everybody)),
        }
    }

    /// Rules that can never matter.
    pub(super) fn lint_pages(&self, gateway: &GatewayTable, routes: &[&RouteTable], surfaces: &[Surface]) {
        if surfaces.iter().any(|surface| surface.cookies().next().is_some()) {
            return;
        }
        let of_routes = routes.iter().filter_map(|route| match &route.cors {
            Some(RouteCors::Own(own)) => Some(own),
            Some(RouteCors::None) | None => None,
        });
        for flag in of_routes.chain(&gateway.cors).filter_map(|rules| rules.credentials.as_ref()) {
            if flag.value {
                self.report.warning(
                    &flag.at,
                    "no surface is carried in a cookie: `credentials` has no effect",
                    Some("remove it; tokens in headers do not need it".to_owned()),
                );
            }
        }
    }

    fn cors_rules(&self, written: &CorsTable, names: &IdentityNames) -> CorsRules {
        CorsRules {
            origins: self.origins(written),
            cookies: if written.uses_cookies() {
                CorsCookies::Used
            } else {
                CorsCookies::Unused
            },
            request_headers: self.page_headers(&written.request_headers, |name| self.check_sent(name, names)),
            response_headers: self.page_headers(&written.response_headers, |name| self.check_read(name)),
            max_age: written.max_age.as_secs(),
        }
    }

    fn origins(&self, written: &CorsTable) -> Arc<[OriginRule]> {
        let Some(Located { value: origins, at }) = &written.origins else {
            return Arc::default();
        };
        if origins.is_empty() {
            self.report.error(
                at,
                "`origins` is empty",
                Some("name an origin, for example \"https://app.example.com\", or remove the table".to_owned()),
            );
        }
        if let Some(extra) = origins.get(MAX_ORIGINS) {
            self.report
                .error(&extra.at, format!("at most {MAX_ORIGINS} origins can be listed"), None);
        }
        let mut rules: Vec<OriginRule> = Vec::new();
        for text in origins {
            match OriginRule::parse(&text.value) {
                Ok(OriginRule::Any) if written.uses_cookies() => self.report.error(
                    &text.at,
                    "any page on the web could use the cookies of whoever opens it",
                    Some("list the origins of your pages, or remove `credentials`".to_owned()),
                ),
                Ok(OriginRule::Any) if origins.len() > 1 => {
                    let help = "write `origins = [\"*\"]`, or remove the `*`".to_owned();
                    self.report
                        .error(&text.at, "`*` means every origin, so it must be the only one", Some(help));
                }
                Ok(rule) if rules.contains(&rule) => {
                    let message = format!("`{}` is listed twice", shorten(&text.value));
                    self.report.error(&text.at, message, Some("remove one".to_owned()));
                }
                Ok(rule) => rules.push(rule),
                Err((mistake, instead)) => {
                    let help = instead.map_or_else(
                        || "for example \"https://app.example.com\" or \"https://*.example.com\"".to_owned(),
                        |text| format!("write \"{text}\""),
                    );
                    self.report.error(&text.at, mistake.to_string(), Some(help));
                }
            }
        }
        rules.into()
    }

    fn page_headers(&self, written: &[Located<String>], is_good: impl Fn(&Located<String>) -> bool) -> Vec<String> {
        let good = written.iter().filter(|name| self.is_one_header(name) && is_good(name));
        good.map(|name| name.value.clone()).collect()
    }

    fn is_one_header(&self, name: &Located<String>) -> bool {
        if name.value == "*" {
            let help = "to requests with credentials browsers apply `*` only as a header of that name".to_owned();
            self.report
                .error(&name.at, "each header must be named: `*` is not accepted", Some(help));
            return false;
        }
        self.check_token(name)
    }

    /// Whether pages can send a header of this name, and services get it.
    fn check_sent(&self, name: &Located<String>, names: &IdentityNames) -> bool {
        let lower = name.value.to_ascii_lowercase();
        if OF_BROWSERS.contains(&lower.as_str()) || lower.starts_with("sec-") || lower.starts_with("proxy-") {
            let message = format!("no page can send `{}`: the browser writes it", shorten(&name.value));
            self.report.error(&name.at, message, Some("remove it".to_owned()));
            return false;
        }
        if names.all().any(|own| own.eq_ignore_ascii_case(&lower)) {
            let message = format!(
                "`{}` is an identity header: the gateway removes it from requests",
                shorten(&name.value)
            );
            self.report.error(&name.at, message, Some("remove it".to_owned()));
            return false;
        }
        true
    }

    /// Whether pages can read a header of this name.
    fn check_read(&self, name: &Located<String>) -> bool {
        let hidden = ["set-cookie", "set-cookie2"].iter().any(|own| name.value.eq_ignore_ascii_case(own));
        if hidden {
            let message = format!("no page can read `{}`", shorten(&name.value));
            self.report.error(&name.at, message, Some("remove it".to_owned()));
        }
        !hidden
    }
}

/// The surfaces whose credentials a route looks at.
fn used_by<'s>(route: &Route, surfaces: &'s [Surface]) -> Vec<&'s Surface> {
    let Access::Surfaces { surfaces: accepted, .. } = &route.access else {
        return Vec::new();
    };
    accepted.iter().filter_map(|index| surfaces.get(index.0)).collect()
}

fn policy(rules: &CorsRules, surfaces: &[&Surface]) -> CorsPolicy {
    let sent = surfaces.iter().flat_map(|surface| surface.kind.carry().headers());
    let told = surfaces.iter().filter_map(|surface| {
        let refresh = surface.kind.session()?.minting.as_ref()?.refresh.as_ref()?;
        refresh.header.as_deref()
    });
    CorsPolicy::new(rules, sent, told)
}
