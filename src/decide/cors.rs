//! What pages of other origins may do (the CORS protocol of the Fetch standard): the listed origins, the answers to
//! preflights, and the CORS fields of other answers.

use std::sync::Arc;

use crate::base::denial::Denial;
use crate::wire::fields::Fields;
use crate::wire::framing::{is_token, list};

use super::method::Method;
use super::route::RouteIndex;

mod origin;
#[cfg(test)]
mod tests;

pub use origin::{OriginRule, PageOrigin};

/// Request headers that pages may send on every route. Credentials need `authorization`, and bodies need
/// `content-type`. A browser asks for the others only if their values are unusual (Fetch, "CORS-safelisted
/// request-header").
pub const REQUEST_HEADERS: &[&str] = &["accept", "accept-language", "authorization", "content-language", "content-type"];

/// Response headers that pages may read on every route: the id to quote in a report, and the limits with the time of
/// the next attempt.
pub const RESPONSE_HEADERS: &[&str] = &["X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy"];

/// Most headers that one preflight may ask for. Pages send about twelve; the bound keeps the work of a refusal small.
pub const MAX_ASKED: usize = 64;

/// Whether cookies of a listed origin are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorsCookies {
    /// They are ignored, whatever the browser sends.
    Unused,
    /// They are used. The origin then is proof that the request is wanted.
    Used,
}

/// The CORS settings of an operator, validated.
#[derive(Debug, Clone)]
pub struct CorsRules {
    /// Listed origins. `*` stands alone, and only without cookies.
    pub origins: Arc<[OriginRule]>,
    /// Whether their cookies are used.
    pub cookies: CorsCookies,
    /// Request headers besides [`REQUEST_HEADERS`].
    pub request_headers: Vec<String>,
    /// Response headers besides [`RESPONSE_HEADERS`].
    pub response_headers: Vec<String>,
    /// How many seconds a browser may keep the answer to a preflight.
    pub max_age: u64,
}

/// The CORS policy of one route.
#[derive(Debug)]
pub struct CorsPolicy {
    origins: Arc<[OriginRule]>,
    cookies: CorsCookies,
    request_headers: Vec<Box<str>>,
    allow_headers: Box<str>,
    expose_headers: Box<str>,
    max_age: Box<str>,
}

/// The entry that lists an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListedAs {
    AsAny,
    /// By its name, or as a subdomain.
    ByName,
}

impl CorsPolicy {
    /// The policy of a route. Its callers send credentials in the headers `sent`; its answers have renewed tokens in
    /// the headers `told`.
    #[must_use]
    pub fn new<'n>(rules: &'n CorsRules, sent: impl IntoIterator<Item = &'n str>, told: impl IntoIterator<Item = &'n str>) -> Self {
        let mut request_headers: Vec<Box<str>> = REQUEST_HEADERS
            .iter()
            .copied()
            .chain(sent)
            .chain(rules.request_headers.iter().map(String::as_str))
            .map(|name| name.to_ascii_lowercase().into())
            .collect();
        request_headers.sort_unstable();
        request_headers.dedup();
        let mut exposed: Vec<&str> = Vec::new();
        let own = rules.response_headers.iter().map(String::as_str);
        for name in RESPONSE_HEADERS.iter().copied().chain(told).chain(own) {
            if !exposed.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                exposed.push(name);
            }
        }
        Self {
            origins: rules.origins.clone(),
            cookies: rules.cookies,
            allow_headers: request_headers.join(", ").into(),
            request_headers,
            expose_headers: exposed.join(", ").into(),
            max_age: rules.max_age.to_string().into(),
        }
    }

    /// Whether cookies of pages of this origin are used: the origin is listed by its name, and the policy uses
    /// cookies.
    #[must_use]
    pub fn trusts(&self, origin: &[u8]) -> bool {
        self.cookies == CorsCookies::Used && self.find(origin) == Some(ListedAs::ByName)
    }

    /// Whether this origin is listed, by its name or by `*`.
    #[must_use]
    pub fn lists(&self, origin: &[u8]) -> bool {
        self.find(origin).is_some()
    }

    fn find(&self, origin: &[u8]) -> Option<ListedAs> {
        let origin = PageOrigin::parse(origin)?;
        let rule = self.origins.iter().find(|rule| rule.takes(&origin))?;
        Some(match rule {
            OriginRule::Any => ListedAs::AsAny,
            OriginRule::Exact(_) | OriginRule::OneLabel(_) => ListedAs::ByName,
        })
    }

    /// Replaces the CORS fields of an answer by those of this policy, whatever the service wrote. A listed origin may
    /// read the answer. `Vary` tells caches that the answer differs by origin.
    pub fn mark(&self, request: &Fields, answer: &mut Fields) {
        answer.retain(|field| !is_cors(field.name));
        add_vary(answer, "Origin");
        let Ok(Some(origin)) = request.one("origin") else { return };
        let Some(listed) = self.find(origin) else { return };
        self.name(origin, listed, answer);
        answer.push(b"Access-Control-Expose-Headers", self.expose_headers.as_bytes());
    }

    fn name(&self, origin: &[u8], listed: ListedAs, answer: &mut Fields) {
        let named = match listed {
            ListedAs::AsAny => b"*",
            ListedAs::ByName => origin,
        };
        answer.push(b"Access-Control-Allow-Origin", named);
        if self.cookies == CorsCookies::Used {
            answer.push(b"Access-Control-Allow-Credentials", b"true");
        }
    }

    /// Judges a preflight for a method that the path takes. `methods` becomes `Access-Control-Allow-Methods`.
    ///
    /// # Errors
    /// [`Denial::CorsOrigin`], [`Denial::CorsHeader`].
    pub fn grant(&self, preflight: &Preflight<'_>, methods: &str) -> Result<Fields, Denial> {
        let listed = self.find(preflight.origin).ok_or(Denial::CorsOrigin)?;
        let mut asked = preflight.headers().take(MAX_ASKED + 1);
        if asked.by_ref().take(MAX_ASKED).any(|name| !self.takes_header(name)) || asked.next().is_some() {
            return Err(Denial::CorsHeader);
        }
        let mut answer = Fields::default();
        self.name(preflight.origin, listed, &mut answer);
        answer.push(b"Access-Control-Allow-Methods", methods.as_bytes());
        answer.push(b"Access-Control-Allow-Headers", self.allow_headers.as_bytes());
        answer.push(b"Access-Control-Max-Age", self.max_age.as_bytes());
        if preflight.private_network && listed == ListedAs::ByName {
            answer.push(b"Access-Control-Allow-Private-Network", b"true");
        }
        answer.push(b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        Ok(answer)
    }

    fn takes_header(&self, name: &[u8]) -> bool {
        let mut known = self.request_headers.iter();
        name.iter().all(|b| is_token(*b)) && known.any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// A browser's question whether a page may make a request (Fetch, "CORS-preflight request").
#[derive(Debug, Clone, Copy)]
pub struct Preflight<'h> {
    fields: &'h Fields,
    origin: &'h [u8],
    /// The method that the page wants to use.
    pub method: &'h [u8],
    /// Whether the page is outside the network of this server (the draft "Private Network Access").
    private_network: bool,
}

impl<'h> Preflight<'h> {
    /// Reads a preflight: OPTIONS with one `Origin` and one `Access-Control-Request-Method`. `None` for other requests.
    #[must_use]
    pub fn of(method: Method, fields: &'h Fields) -> Option<Self> {
        if method != Method::Options {
            return None;
        }
        let one = |name| fields.one(name).ok().flatten();
        Some(Self {
            fields,
            origin: one("origin")?,
            method: one("access-control-request-method")?,
            private_network: one("access-control-request-private-network") == Some(b"true"),
        })
    }

    /// Names of the headers that the page wants to send.
    fn headers(&self) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let lines = self.fields.all("access-control-request-headers");
        lines.flat_map(list)
    }
}

/// All policies of a configuration.
#[derive(Debug, Default)]
pub struct Cors {
    /// The policy of each route, in the order of the routes. The list is shorter if the last routes have none.
    pub routes: Vec<Option<CorsPolicy>>,
    /// The policy of answers to requests without a route.
    pub others: Option<CorsPolicy>,
}

/// Which policy applies to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CorsOf {
    #[default]
    Others,
    Route(RouteIndex),
    /// None: the answer has its CORS fields already, or no policy applies.
    Nobody,
}

impl Cors {
    /// The policy of a route.
    #[must_use]
    pub fn of_route(&self, route: RouteIndex) -> Option<&CorsPolicy> {
        self.routes.get(route.0)?.as_ref()
    }

    /// The policy that applies to an answer.
    #[must_use]
    pub fn of(&self, whose: CorsOf) -> Option<&CorsPolicy> {
        match whose {
            CorsOf::Others => self.others.as_ref(),
            CorsOf::Route(route) => self.of_route(route),
            CorsOf::Nobody => None,
        }
    }

    /// The first route with a policy among the routes of a path, for a method that the path does not take.
    pub fn neighbour(&self, find: impl Fn(Method) -> Option<RouteIndex>) -> Option<RouteIndex> {
        let mut routes = Method::ALL.into_iter().filter_map(find);
        routes.find(|route| self.of_route(*route).is_some())
    }

    /// Answers a preflight by the policy of the route that takes the method which the page wants. `None` if no policy
    /// applies; the request is then treated like any other. `find` returns the route of a method on the requested path.
    ///
    /// # Errors
    /// [`Denial::CorsOrigin`], [`Denial::CorsMethod`], [`Denial::CorsHeader`], with the route whose policy said so.
    pub fn answer(
        &self,
        preflight: &Preflight<'_>,
        find: impl Fn(Method) -> Option<RouteIndex>,
    ) -> Result<Option<(Fields, RouteIndex)>, (Denial, RouteIndex)> {
        let wanted = Method::parse(preflight.method).ok().and_then(&find);
        let asked = wanted.or_else(|| self.neighbour(&find));
        let Some((route, policy)) = asked.and_then(|route| Some((route, self.of_route(route)?))) else {
            return Ok(None);
        };
        if policy.find(preflight.origin).is_none() {
            return Err((Denial::CorsOrigin, route));
        }
        if wanted.is_none() {
            return Err((Denial::CorsMethod, route));
        }
        let is_open = |method: &Method| {
            let own = find(*method).and_then(|route| self.of_route(route));
            own.is_some_and(|own| own.cookies == policy.cookies && own.find(preflight.origin).is_some())
        };
        let methods: Vec<&str> = Method::ALL.iter().filter(|m| is_open(m)).map(|m| m.as_str()).collect();
        match policy.grant(preflight, &methods.join(", ")) {
            Ok(fields) => Ok(Some((fields, route))),
            Err(denial) => Err((denial, route)),
        }
    }
}

/// Whether a response field belongs to the CORS protocol.
fn is_cors(name: &[u8]) -> bool {
    const FAMILY: &[u8] = b"access-control-";
    name.get(..FAMILY.len()).is_some_and(|start| start.eq_ignore_ascii_case(FAMILY))
}

/// Adds a name to `Vary`. All names stand in one field, since some caches read only one.
fn add_vary(answer: &mut Fields, name: &str) {
    let is_told = |known: &[u8]| known == b"*" || known.eq_ignore_ascii_case(name.as_bytes());
    if answer.all("vary").flat_map(list).any(is_told) {
        return;
    }
    let mut names: Vec<&[u8]> = answer.all("vary").filter(|known| !known.is_empty()).collect();
    if names.is_empty() {
        answer.push(b"Vary", name.as_bytes());
        return;
    }
    names.push(name.as_bytes());
    let merged = names.join(b", ".as_slice());
    answer.retain(|field| !field.is("vary"));
    answer.push(b"Vary", &merged);
}
