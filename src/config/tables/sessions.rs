//! Surfaces of signed session tokens: secrets of their own, records to hang on, cookies and renewal that make sense.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::base::ids::SurfaceName;
use crate::config::declare::{Member, Pairs, absent, choice, default, duration, required, table};
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::secret::Reference;
use crate::config::source::{Located, Span};
use crate::config::units::{millis, secs, write_duration};
use crate::decide::cors::OriginRule;
use crate::decide::surface::{Carrier, CookieSpec, Minting, Refresh, SameSite, SessionRecord, SessionSurface, SurfaceKind};
use crate::decide::token::{MIN_SECRET_LEN, RulesId, TokenKeys, TokenRules};

use super::Builder;
use super::cors::{CorsTable, RouteCors};
use super::gateway::GatewayTable;
use super::routes::RouteTable;
use super::surfaces::{SurfaceKindTable, SurfaceTable, TokenCarriers, claim_headers};

table! {
    /// A signed session token.
    pub struct SessionTable = "`[surfaces.<name>]` of kind `session_jwt`" {
        /// Where the token may be, in order: `bearer`, `header:<Name>`, `cookie:<name>`. A header beats a cookie; tokens in
        /// two headers are refused.
        carry: TokenCarriers = absent("`[\"bearer\"]`");
        /// Exact value of the `kind` claim, so that a token of one surface is never one of another.
        token_kind: Located<String> = required();
        /// HS256 secrets of at least 32 bytes. The first signs, all verify: put a new one first, and take the old one out
        /// when its last token has ended; what is renewed until then is signed with the first, from the record and not
        /// from the token. No two surfaces may share one.
        secrets: Vec<Located<Reference>> = required();
        /// Exact `iss`; then required.
        issuer: Option<String> = absent("`iss` is not looked at");
        /// A value `aud` must contain; then required.
        audience: Option<String> = absent("`aud` is not looked at");
        /// Tolerated clock difference. It is taken from the revocation bound, so at most 5 s.
        skew: Duration = default("0s"), duration(secs(0), secs(5));
        /// The claim that lists scopes; narrowed to what the record holds.
        scopes_claim: Option<String> = absent("scopes come from the record");
        /// `sub` hangs on the record that `sub` names; `own` has a record for each session, named by `jti`, so that one
        /// session can be ended by itself and renewed.
        record: RecordOf = default("sub");
        /// The surface whose record the token's `sub` names by its id; when that record ends, the session ends.
        record_surface: Option<Located<String>> = absent("required with `record = \"sub\"`");
        /// How long a token lives that the gateway mints, unless a `mint` says otherwise.
        lifetime: Option<Located<Duration>> = absent("the gateway mints none of these tokens"), duration(secs(1), secs(366 * 86_400));
        /// With `lifetime`: the cookie a minted token is set as. Its name is the one in `carry`.
        cookie: Option<CookieTable> = absent("the defaults below, where `carry` names a cookie");
        /// With `record = "own"`: renews tokens while they are used, up to the end of their record.
        refresh: Option<RefreshTable> = absent("a token ends with its `exp`");
        /// Claims of the token that become headers, e.g. `tid = "X-Transaction-Id"`. These names are removed from every
        /// request first.
        claim_headers: Pairs = absent("none");
    }
}

choice! {
    pub enum RecordOf {
        Sub = "sub",
        Own = "own",
    }
}

table! {
    /// Always `HttpOnly` and `Secure`, without `Domain`. A name that begins with `__Host-` keeps other hosts from setting
    /// it.
    pub struct CookieTable = "`[surfaces.<name>.cookie]`" {
        /// `SameSite`. Changing methods need the proof of one origin whatever is chosen.
        same_site: SameSite = default("lax");
        /// `Path`.
        path: Located<String> = default("/");
        /// `Max-Age`. Browsers cut it to 400 days. The session ends when it ends, whatever the browser keeps.
        max_age: Option<Duration> = absent("until the browser closes"), duration(secs(1), secs(400 * 86_400));
    }
}

table! {
    /// A request with a token older than `after` is answered with a new one. A session by sign-on needs the word of its
    /// provider too, where that gives refresh tokens.
    pub struct RefreshTable = "`[surfaces.<name>.refresh]`" {
        /// Age from which a token is renewed; shorter than `lifetime`.
        after: Located<Duration> = required(), duration(millis(1_000), secs(366 * 86_400));
        /// Response header that tells the new token to callers without a cookie.
        header: Option<Located<String>> = absent("only callers with a cookie are told");
    }
}

choice! {
    for SameSite {
        Strict = "strict",
        Lax = "lax",
        None = "none",
    }
}

/// Whose secret a hash is, for the search for equal ones.
pub(super) type Owners = HashMap<[u8; 32], (String, Span)>;

impl Builder<'_> {
    pub(super) fn session(
        &self,
        surface: &Member<SurfaceTable>,
        session: &SessionTable,
        gateway: &GatewayTable,
        owners: &mut Owners,
    ) -> Option<SurfaceKind> {
        self.check_record(session, gateway);
        if session.token_kind.value.is_empty() {
            self.report.error(
                &session.token_kind.at,
                "`token_kind` is empty",
                Some("it is what keeps sessions of two kinds apart".to_owned()),
            );
        }
        let keys: Vec<_> = session
            .secrets
            .iter()
            .map(|s| self.token_secret(&surface.name, s, owners))
            .collect();
        let keys: Option<Vec<_>> = keys.into_iter().collect();
        let carriers = self.carriers(&session.carry.0);
        let minting = self.minting(session);
        let rules = TokenRules {
            id: RulesId::unique(),
            keys: TokenKeys::new(keys?.iter().map(|k| k.as_slice())).ok()?,
            kind: session.token_kind.value.clone(),
            issuer: session.issuer.clone(),
            audience: session.audience.clone(),
            skew: session.skew,
            scopes_claim: session.scopes_claim.clone(),
            claim_headers: claim_headers(surface),
        };
        Some(SurfaceKind::Session(SessionSurface {
            carriers: carriers?,
            rules: Box::new(rules),
            record: match session.record {
                RecordOf::Sub => SessionRecord::Sub(SurfaceName::parse(&session.record_surface.as_ref()?.value).ok()?),
                RecordOf::Own => SessionRecord::Own,
            },
            minting: minting.map(Box::new),
        }))
    }

    /// Keys that need each other, and whose records the tokens hang on.
    fn check_record(&self, session: &SessionTable, gateway: &GatewayTable) {
        let (cookie, refresh) = (&session.cookie, &session.refresh);
        let places = [
            ("cookie", cookie.as_ref().map(|t| &t.at)),
            ("refresh", refresh.as_ref().map(|t| &t.at)),
        ];
        for (name, at) in places {
            if let (Some(at), None) = (at, &session.lifetime) {
                self.report.error(at, format!("`{name}` has no effect without `lifetime`"), None);
            }
        }
        match (session.record, &session.record_surface) {
            (RecordOf::Own, Some(surface)) => self.report.error(
                &surface.at,
                "`record_surface` has no effect with `record = \"own\"`",
                Some("each session has a record of its own; what it hangs on is said where it is minted".to_owned()),
            ),
            (RecordOf::Own, None) => {}
            (RecordOf::Sub, Some(surface)) => self.check_record_surface(surface, gateway),
            (RecordOf::Sub, None) => {
                let _: Option<()> = self.needs::<SessionTable, _>(&session.at, "session_jwt", "record_surface");
            }
        }
        if let (RecordOf::Sub, Some(refresh)) = (session.record, refresh) {
            self.report.error(
                &refresh.at,
                "`refresh` needs `record = \"own\"`",
                Some("a token without a record of its own has nothing that says how long it may be renewed".to_owned()),
            );
        }
    }

    fn minting(&self, session: &SessionTable) -> Option<Minting> {
        let lifetime = session.lifetime.as_ref()?;
        Some(Minting {
            lifetime: lifetime.value,
            cookie: self.cookie(session),
            refresh: session.refresh.as_ref().map(|refresh| {
                if refresh.after.value >= lifetime.value {
                    self.report.error(
                        &refresh.after.at,
                        "a token would end before it is renewed",
                        Some(format!("`lifetime` is {}", write_duration(lifetime.value))),
                    );
                }
                if let Some(header) = &refresh.header {
                    self.check_request_name(header);
                }
                Refresh {
                    after: refresh.after.value,
                    header: refresh.header.as_ref().map(|h| h.value.clone()),
                }
            }),
        })
    }

    /// The cookie of a surface that mints and is carried in one.
    fn cookie(&self, session: &SessionTable) -> Option<CookieSpec> {
        let mut names = session.carry.0.iter().filter_map(|c| match &c.value {
            Carrier::Cookie(name) => Some((name, &c.at)),
            Carrier::Authorization(_) | Carrier::Header(_) => None,
        });
        let written = session.cookie.as_ref();
        let Some((name, at)) = names.next() else {
            if let Some(written) = written {
                self.report.error(
                    &written.at,
                    "`carry` names no cookie",
                    Some("carry = [\"cookie:__Host-session\"]".to_owned()),
                );
            }
            return None;
        };
        if let Some((_, at)) = names.next() {
            self.report.error(
                at,
                "a surface that mints its tokens is carried in one cookie at most",
                Some("nobody could say which of them a new token belongs in".to_owned()),
            );
        }
        let path = written.map_or("/", |w| w.path.value.as_str());
        if let Some(written) = written {
            self.check_cookie_path(&written.path);
        }
        if name.starts_with("__Host-") && path != "/" {
            self.report.error(
                written.map_or(at, |w| &w.path.at),
                "a cookie whose name begins with `__Host-` has the path `/`",
                Some("browsers drop it otherwise (RFC 6265bis, section 4.1.3.2)".to_owned()),
            );
        }
        Some(CookieSpec {
            name: name.clone(),
            same_site: written.map_or(SameSite::Lax, |w| w.same_site),
            path: path.to_owned(),
            max_age: written.and_then(|w| w.max_age),
        })
    }

    fn check_cookie_path(&self, path: &Located<String>) {
        let fits = path.value.starts_with('/') && path.value.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b';' && b != b',');
        if !fits {
            self.report.error(
                &path.at,
                format!("`{}` is not the path of a cookie", shorten(&path.value)),
                Some("it begins with `/` and holds visible ASCII without `;` and `,`".to_owned()),
            );
        }
    }

    /// A secret long enough, and of no other surface (docs/threats.md J4).
    fn token_secret(
        &self,
        surface: &Located<String>,
        secret: &Located<Reference>,
        owners: &mut Owners,
    ) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let bytes = self.read_secret(secret, "the token secret")?;
        if bytes.len() < MIN_SECRET_LEN {
            self.report.error(
                &secret.at,
                format!("a token secret has at least {MIN_SECRET_LEN} bytes; this one has {}", bytes.len()),
                Some("make one with `head -c 32 /dev/urandom | base64 > FILE`".to_owned()),
            );
            return None;
        }
        let digest = Self::digest(&bytes);
        match owners.get(&digest) {
            Some((owner, _)) if *owner != surface.value => {
                self.report.error(
                    &secret.at,
                    format!("this secret is also one of the surface `{owner}`"),
                    Some("each surface needs its own: with a shared one, only the `kind` claim keeps their tokens apart".to_owned()),
                );
            }
            Some(_) => self.report.warning(
                &secret.at,
                "this secret is named twice",
                Some("name the new one first and the old one after it".to_owned()),
            ),
            None => {
                owners.insert(digest, (surface.value.clone(), secret.at.clone()));
            }
        }
        Some(bytes)
    }

    fn check_record_surface(&self, name: &Located<String>, gateway: &GatewayTable) {
        match gateway.surfaces.iter().find(|s| s.name.value == name.value) {
            Some(found) => {
                if let Some(why) = found.kind.childless() {
                    self.report.error(
                        &name.at,
                        format!("`{}` {why}", shorten(&name.value)),
                        Some("name a surface of keys, pairs or accounts".to_owned()),
                    );
                }
            }
            None if self.is_broken_surface(&name.value) => {}
            None => {
                let with_records = gateway.surfaces.iter().filter(|s| s.kind.childless().is_none());
                self.report.error(
                    &name.at,
                    format!("there is no surface `{}`", shorten(&name.value)),
                    suggest(&name.value, with_records.map(|s| s.name.value.as_str()), "a surface with records"),
                );
            }
        }
    }
}

/// The prefix of names that browsers let only the very host set (RFC 6265bis, section 4.1.3.2).
const HOST_PREFIX: &str = "__Host-";

impl Builder<'_> {
    /// Warns of session cookies without the prefix, where the configuration shows a host beside the gateway's own.
    pub(super) fn lint_siblings(&self, gateway: &GatewayTable, routes: &[&RouteTable]) {
        let shown = LazyCell::new(|| ShownHosts::of(gateway, routes));
        for surface in &gateway.surfaces {
            let SurfaceKindTable::Session(session) = &surface.kind else {
                continue;
            };
            for carrier in &session.carry.0 {
                let Carrier::Cookie(name) = &carrier.value else { continue };
                if name.starts_with(HOST_PREFIX) {
                    continue;
                }
                if let Some(sibling) = shown.sibling(session) {
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

/// What the configuration shows of hosts.
struct ShownHosts<'w> {
    /// Hosts of routes, lower case.
    own: BTreeSet<String>,
    /// Rules for pages of other origins.
    pages: Vec<&'w CorsTable>,
}

impl<'w> ShownHosts<'w> {
    fn of(gateway: &'w GatewayTable, routes: &[&'w RouteTable]) -> Self {
        let hosts = routes.iter().flat_map(|route| &route.hosts);
        Self {
            own: hosts.map(|host| host.value.to_ascii_lowercase()).collect(),
            pages: routes.iter().filter_map(|route| own_rules(route)).chain(&gateway.cors).collect(),
        }
    }

    /// A host of the same domain, as far as hosts of routes and origins of pages show one.
    fn sibling(&self, session: &SessionTable) -> Option<String> {
        let Self { own, pages } = self;
        let pages = pages.iter().copied();
        if own.is_empty() {
            // A cookie that comes along with a page's call is one of the same site, unless it is for every site.
            let is_kept = session.cookie.as_ref().is_none_or(|cookie| cookie.same_site != SameSite::None);
            return pages.filter(|rules| rules.uses_cookies() && is_kept).find_map(named_host);
        }
        // By domain, how many of its hosts there are.
        let mut domains: HashMap<&str, usize> = HashMap::new();
        for domain in own.iter().filter_map(|host| domain(host)) {
            *domains.entry(domain).or_default() += 1;
        }
        let hosts_of = |host: &str| domain(host).and_then(|domain| domains.get(domain)).copied().unwrap_or(0);
        let of_pages = pages.flat_map(hosts).filter(|host| !own.contains(host));
        let besides = of_pages.filter(|host| hosts_of(host) > 0).min();
        besides
            .or_else(|| own.iter().find(|host| host.starts_with("*.")).cloned())
            .or_else(|| own.iter().find(|host| hosts_of(host) > 1).cloned())
    }
}

fn own_rules<'w>(route: &&'w RouteTable) -> Option<&'w CorsTable> {
    match &route.cors {
        Some(RouteCors::Own(rules)) => Some(rules),
        Some(RouteCors::None) | None => None,
    }
}

/// Hosts of the listed origins that lie in a domain; `*.example.com` for a wildcard.
fn hosts(rules: &CorsTable) -> impl Iterator<Item = String> {
    rules
        .origins
        .iter()
        .flat_map(|origins| &origins.value)
        .filter_map(|text| match OriginRule::parse(&text.value).ok()? {
            rule @ OriginRule::Exact(_) => rule.host().map(str::to_owned),
            rule @ OriginRule::OneLabel(_) => rule.host().map(|host| format!("*.{host}")),
            OriginRule::Any => None,
        })
}

fn named_host(rules: &CorsTable) -> Option<String> {
    hosts(rules).find(|host| domain(host).is_some())
}

/// What follows the first label of a host, where that is a domain: `example.com`, and neither `com` nor a part of an address.
fn domain(host: &str) -> Option<&str> {
    let (_, domain) = host.split_once('.')?;
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[');
    (domain.contains('.') && !is_address).then_some(domain)
}
