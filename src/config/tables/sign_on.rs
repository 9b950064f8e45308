//! Single sign-on: `[sign_on]`, and the routes whose steps it has. How the routes find each other is checked here.

use std::sync::Arc;
use std::time::Duration;

use crate::config::declare::{Member, absent, default, form, path, required, table};
use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::{Located, Span};
use crate::config::units::{secs, write_duration};
use crate::decide::cors::PageOrigin;
use crate::decide::external::FetchAddresses;
use crate::decide::method::Method;
use crate::decide::rate::LimitBy;
use crate::decide::return_to::{MAX_RETURN_RULES, ReturnRule, ReturnRules, is_of_this_machine};
use crate::decide::route::Access;
use crate::decide::surface::SessionRecord;
use crate::snapshot::body_schema::{
    BodySchema, FieldKind, FieldMessages, FieldPresence, FieldSpec, Forms, TextFormat, UnknownFields, UnreadableBody,
};
use crate::snapshot::served_route::{Action, Extent, Mint};
use crate::snapshot::sign_on_route::{
    FinishStep, RouteUrl, SamlLogOutStep, SamlUrls, SignOnRoute, SignOnSettings, SignOnStep, StartStep, StartTenant,
};

use super::Builder;
use super::external::fetch_tls;
use super::gateway::GatewayTable;
use super::limits::RateLimitTable;
use super::mints::{MintTable, ParentValue};
use super::routes::{RouteInputs, RouteTable};
use super::serve::{ActionTable, ServeTable};
use super::sources::SourceScope;

table! {
    /// Single sign-on at the identity providers of tenants. The providers themselves are in the store
    /// (`durward providers`); here is what all routes with `serve = "sso_…"` and `serve = "saml_…"` share.
    pub struct SignOnTable = "`[sign_on]`" {
        /// Scheme and host under which browsers and providers reach the gateway, for example `https://api.example.com`.
        /// The addresses that providers send browsers back to begin with it. A `Host` header is never believed for that.
        public_url: Located<String> = required();
        /// Where a browser may be sent after a sign-on or a log-out (`?return_to=`): origins, each with the whole segments
        /// that the path begins with, if any: `https://app.example.com/portal`. Whoever asks for no address is sent to the
        /// first one. At most 64.
        return_to: Vec<Located<String>> = required();
        /// Whom people ask when they cannot sign on, as pages write it.
        contact: Option<Located<String>> = absent("`your administrator`");
        /// PEM file with the authorities that certificates of providers must come from, for providers of your own network.
        ca: Option<Located<String>> = absent("the system's authorities"), path();
        /// Allows providers at private and local addresses. Whoever may set up a provider can then let the gateway ask
        /// servers of your network.
        insecure_private_address: bool = default("false");
    }
}

table! {
    /// Sends the browser to the identity provider of a tenant (303). If the tenant has several, people choose on a page,
    /// and programs are given a list (300). The query may have `provider` (an id), `email` (which the provider is told), and
    /// `return_to`.
    pub struct SsoStartTable = "`[[routes]]` with `serve = \"sso_start\"`" {
        /// Whose providers: those of the tenant that the path names, or those that the domain of `?email=` belongs to.
        tenant: Located<String> = required(), form("`path.<parameter>` or `query.email`");
        /// The name of the route that takes the codes of OIDC providers.
        finish: Option<Located<String>> = absent("the only route with `serve = \"sso_finish\"`");
        /// The name of the route that takes the responses of SAML providers.
        saml_finish: Option<Located<String>> = absent("the only route with `serve = \"saml_finish\"`");
    }
}

table! {
    /// Takes the code of an OIDC provider, makes the session, sets it as a cookie, and sends the browser on.
    pub struct SsoFinishTable = "`[[routes]]` with `serve = \"sso_finish\"`" {
        /// Where the path names the tenant.
        tenant: Option<Located<String>> = absent("the tenant is that of the sign-on that was begun"), form("`path.<parameter>`");
        /// The session: exactly one, with `parent = "person"`, on a surface with a cookie and with `record = "own"`.
        mint: Vec<MintTable> = required();
    }
}

table! {
    /// Takes the response of a SAML provider (assertion consumer service, binding HTTP-POST), makes the session, sets it as
    /// a cookie, and sends the browser on. It takes the provider's logout requests too (single logout, binding HTTP-POST).
    pub struct SamlFinishTable = "`[[routes]]` with `serve = \"saml_finish\"`" {
        /// Where the path names the tenant.
        tenant: Located<String> = required(), form("`path.<parameter>`");
        /// The session: exactly one, with `parent = "person"`, on a surface with a cookie and with `record = "own"`.
        mint: Vec<MintTable> = required();
    }
}

table! {
    /// Takes a SAML provider's logout requests that come by redirect (single logout, binding HTTP-Redirect), ends the sessions,
    /// and sends the browser back with the answer. It takes the provider's answers to log-outs that were begun here too.
    pub struct SamlLogOutTable = "`[[routes]]` with `serve = \"saml_log_out\"`" {
        /// Where the path names the tenant.
        tenant: Located<String> = required(), form("`path.<parameter>`");
        /// The name of the route that takes the responses.
        saml_finish: Option<Located<String>> = absent("the only route with `serve = \"saml_finish\"`");
    }
}

table! {
    /// Tells a SAML provider about us: our name, our addresses, our certificates.
    pub struct SamlMetadataTable = "`[[routes]]` with `serve = \"saml_metadata\"`" {
        /// Where the path names the tenant.
        tenant: Located<String> = required(), form("`path.<parameter>`");
        /// The name of the route that takes the responses.
        saml_finish: Option<Located<String>> = absent("the only route with `serve = \"saml_finish\"`");
        /// The name of the route that takes logout requests by redirect.
        saml_log_out: Option<Located<String>> = absent("the only route with `serve = \"saml_log_out\"`, if there is one");
    }
}

table! {
    /// Ends the caller's session and removes its cookie. A browser is then sent to the provider, which ends its own session
    /// (OIDC RP-Initiated Logout, SAML single logout), and from there to `return_to`, a field of the body.
    pub struct SsoLogOutTable = "`[[routes]]` with `serve = \"sso_log_out\"`" {
        /// `this`: the session that calls. `everywhere`: every session of the person.
        extent: Extent = default("this");
        /// The name of the route that takes the responses of SAML providers, which know us by its address.
        saml_finish: Option<Located<String>> = absent("the only route with `serve = \"saml_finish\"`, if there is one");
    }
}

table! {
    /// Lets people who have an account with a password sign on to it at an identity provider from then on: sends the browser of a
    /// session to a provider of its tenant (303), and what comes back links the account to the person who signed on there. A script
    /// is given the address (200, `location`; `fields` too if it is to be sent by POST). The body may have `provider` (an id; it may be
    /// left out where the tenant has one) and `return_to`.
    pub struct SsoLinkTable = "`[[routes]]` with `serve = \"sso_link\"`" {
        /// The name of the route that takes the codes of OIDC providers.
        finish: Option<Located<String>> = absent("the only route with `serve = \"sso_finish\"`");
        /// The name of the route that takes the responses of SAML providers.
        saml_finish: Option<Located<String>> = absent("the only route with `serve = \"saml_finish\"`");
    }
}

table! {
    /// Undoes the link of the caller's account to a provider, which the body names by its id in `provider`, and ends every session
    /// that began with the link. The body may have `return_to`.
    pub struct SsoUnlinkTable = "`[[routes]]` with `serve = \"sso_unlink\"`" {
    }
}

table! {
    /// Ends the sessions that an OIDC provider says have ended there (OIDC Back-Channel Logout).
    pub struct SsoBackChannelTable = "`[[routes]]` with `serve = \"sso_back_channel\"`" {
        /// Where the path names the tenant.
        tenant: Located<String> = required(), form("`path.<parameter>`");
    }
}

/// The longest session by a sign-on. What a provider says has ended is remembered for as long, so that the session's end
/// there always reaches the session here.
const LONGEST_SESSION: Duration = secs(30 * 86_400);

/// Longest text for pages that says whom to ask.
const MAX_CONTACT: usize = 200;

/// Largest form with a SAML response. An encrypted one with a hundred groups has about 40 KiB.
const MAX_SAML_BODY: usize = 192 * 1024;

/// Largest form with a log-out token, and the longest token in it.
const MAX_LOG_OUT_BODY: usize = 16 * 1024;

/// What a route takes from a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Oidc,
    Saml,
    SamlLogOut,
    Metadata,
}

impl Reached {
    const fn serve(self) -> &'static str {
        match self {
            Self::Oidc => "sso_finish",
            Self::Saml => "saml_finish",
            Self::SamlLogOut => "saml_log_out",
            Self::Metadata => "saml_metadata",
        }
    }

    /// The setting by which another route names it.
    const fn setting(self) -> &'static str {
        match self {
            Self::Oidc => "finish",
            Self::Saml | Self::SamlLogOut | Self::Metadata => self.serve(),
        }
    }
}

/// A route whose address others are told.
struct ReachedRoute<'w> {
    what: Reached,
    written: &'w RouteTable,
}

/// What the routes of single sign-on know of each other.
pub(super) struct SignOnInputs<'w> {
    /// Without `[sign_on]`, or where it has mistakes, there is none.
    pub(super) settings: Option<Arc<SignOnSettings>>,
    reached: Vec<ReachedRoute<'w>>,
}

/// One route of single sign-on while it is built.
#[derive(Clone, Copy)]
pub(super) struct SignOnPlace<'w> {
    pub(super) written: &'w RouteTable,
    pub(super) serve: &'w ServeTable,
    /// Where `serve` stands.
    pub(super) at: &'w Span,
}

impl Builder<'_> {
    /// Reads `[sign_on]`, and where the routes are that providers send browsers back to.
    pub(super) fn sign_on<'w>(&self, gateway: &GatewayTable, routes: &[&'w RouteTable]) -> SignOnInputs<'w> {
        let reached = routes.iter().filter_map(|written| {
            let what = match &written.serve()?.action.as_ref()?.value {
                ActionTable::SsoFinish(_) => Reached::Oidc,
                ActionTable::SamlFinish(_) => Reached::Saml,
                ActionTable::SamlLogOut(_) => Reached::SamlLogOut,
                ActionTable::SamlMetadata(_) => Reached::Metadata,
                _ => return None,
            };
            Some(ReachedRoute { what, written })
        });
        let mut actions = routes.iter().filter_map(|written| written.serve()?.action.as_ref());
        let first = actions.find(|action| action.value.is_of_sign_on());
        match (&gateway.sign_on, first) {
            (Some(table), None) => self.report.warning(
                &table.at,
                "no route has a step of single sign-on",
                Some("add routes with `serve = \"sso_start\"` and `serve = \"sso_finish\"`, or remove `[sign_on]`".to_owned()),
            ),
            (None, Some(action)) => self.report.error(
                &action.at,
                "single sign-on needs to know the address of the gateway",
                Some("add `[sign_on]` with `public_url` and `return_to` to `gateway.toml`".to_owned()),
            ),
            (Some(_), Some(_)) | (None, None) => {}
        }
        SignOnInputs {
            settings: gateway
                .sign_on
                .as_ref()
                .and_then(|table| self.sign_on_settings(table))
                .map(Arc::new),
            reached: reached.collect(),
        }
    }

    fn sign_on_settings(&self, table: &SignOnTable) -> Option<SignOnSettings> {
        let public_url = self.public_url(&table.public_url);
        if let Some(extra) = table.return_to.get(MAX_RETURN_RULES) {
            self.report
                .error(&extra.at, format!("at most {MAX_RETURN_RULES} addresses can be listed"), None);
        }
        if table.return_to.is_empty() {
            self.report.error(
                &table.at,
                "`return_to` names no address: nobody would know where to go after a sign-on",
                Some("return_to = [\"https://app.example.com\"]".to_owned()),
            );
        }
        let rules = table.return_to.iter().filter_map(|text| match ReturnRule::parse(&text.value) {
            Ok(rule) => Some(rule),
            Err(mistake) => {
                self.report.error(
                    &text.at,
                    mistake.to_string(),
                    Some("for example \"https://app.example.com\" or \"https://app.example.com/portal\"".to_owned()),
                );
                None
            }
        });
        let return_to = ReturnRules::new(rules.collect());
        let roots = match &table.ca {
            Some(ca) => self.authorities(Some(ca), &table.at).map(|(roots, _)| roots),
            None => Some(self.noted_system_roots(&table.at)),
        };
        let tls = roots.and_then(fetch_tls);
        let contact = table.contact.as_ref();
        if let Some(text) = contact.filter(|c| c.value.is_empty() || c.value.len() > MAX_CONTACT || c.value.chars().any(char::is_control)) {
            self.report
                .error(&text.at, format!("`contact` is one line of 1 to {MAX_CONTACT} bytes"), None);
        }
        Some(SignOnSettings {
            public_url: public_url?,
            return_to: return_to?,
            contact: contact.map_or_else(|| "your administrator".to_owned(), |contact| contact.value.clone()),
            tls: tls?,
            addresses: if table.insecure_private_address {
                FetchAddresses::InsecureAny
            } else {
                FetchAddresses::Public
            },
        })
    }

    /// The system's authorities. A gateway without any starts: its providers may all speak SAML.
    fn noted_system_roots(&self, at: &Span) -> Arc<rustls::RootCertStore> {
        let roots = self.system_roots();
        if roots.is_empty() {
            let help = "install ca-certificates, or name a PEM file with `ca`".to_owned();
            self.report.note(
                at,
                "the system has no certificate authorities: no provider of OpenID Connect can be verified",
                help,
            );
        }
        roots
    }

    /// An origin, as browsers write it.
    fn public_url(&self, written: &Located<String>) -> Option<String> {
        let url = written.value.strip_suffix('/').unwrap_or(&written.value);
        let is_origin = PageOrigin::parse(url.as_bytes()).is_some() && !url.bytes().any(|b| b.is_ascii_uppercase());
        if !is_origin || !(url.starts_with("https://") || url.starts_with("http://")) {
            self.report.error(
                &written.at,
                format!("`{}` is not scheme and host", shorten(&written.value)),
                Some("for example \"https://api.example.com\", without a path".to_owned()),
            );
            return None;
        }
        if url.starts_with("http://") && !is_of_this_machine(url) {
            self.report.error(
                &written.at,
                "codes and cookies of a sign-on would pass in the clear",
                Some(format!("https://{}", url.trim_start_matches("http://"))),
            );
            return None;
        }
        Some(url.to_owned())
    }

    /// The step of a route of single sign-on.
    pub(super) fn sign_on_step(
        &self,
        shared: &RouteInputs<'_>,
        in_scope: &SourceScope<'_>,
        place: SignOnPlace<'_>,
        action: &ActionTable,
    ) -> Option<Action> {
        let SignOnPlace { written, at, .. } = place;
        let inputs = shared.sign_on;
        // Every mistake of the route is told, whatever is wrong with `[sign_on]`.
        let public_url = inputs
            .settings
            .as_ref()
            .map_or_else(String::new, |settings| settings.public_url.clone());
        let step = match action {
            ActionTable::SsoStart(SsoStartTable {
                tenant,
                finish,
                saml_finish,
                ..
            }) => {
                let tenant = match tenant.value.as_str() {
                    "query.email" => StartTenant::EmailDomain,
                    _ => StartTenant::Path(self.path_tenant(in_scope, tenant)?),
                };
                SignOnStep::Start(self.start(shared, place, tenant, [finish, saml_finish], &public_url))
            }
            ActionTable::SsoLink(SsoLinkTable { finish, saml_finish, .. }) => {
                self.check_linking(in_scope, at);
                SignOnStep::Link(self.start(shared, place, StartTenant::Caller, [finish, saml_finish], &public_url))
            }
            ActionTable::SsoUnlink(_) => {
                self.check_linking(in_scope, at);
                SignOnStep::Unlink
            }
            ActionTable::SsoFinish(SsoFinishTable { tenant, mint, .. }) => {
                let tenant = tenant.as_ref().and_then(|tenant| self.path_tenant(in_scope, tenant));
                SignOnStep::FinishOidc(FinishStep {
                    url: self.own_url(written, tenant.as_deref(), &public_url),
                    mint: self.session_of_person(in_scope, mint, at)?,
                    tenant,
                    metadata: None,
                })
            }
            ActionTable::SamlFinish(SamlFinishTable { tenant, mint, .. }) => {
                let tenant = self.path_tenant(in_scope, tenant)?;
                SignOnStep::FinishSaml(FinishStep {
                    url: self.own_url(written, Some(&tenant), &public_url),
                    mint: self.session_of_person(in_scope, mint, at)?,
                    tenant: Some(tenant),
                    metadata: self.reached(inputs, Reached::Metadata, None, at, &public_url),
                })
            }
            ActionTable::SamlLogOut(SamlLogOutTable { tenant, saml_finish, .. }) => {
                let tenant = self.path_tenant(in_scope, tenant)?;
                let url = self.own_url(written, Some(&tenant), &public_url);
                let urls = SamlUrls {
                    finish: self.saml_finish(inputs, saml_finish.as_ref(), at, &public_url)?,
                    metadata: self.reached(inputs, Reached::Metadata, None, at, &public_url),
                };
                SignOnStep::SamlLogOut(SamlLogOutStep { tenant, url, urls })
            }
            ActionTable::SamlMetadata(SamlMetadataTable {
                tenant,
                saml_finish,
                saml_log_out,
                ..
            }) => {
                let tenant = self.path_tenant(in_scope, tenant)?;
                let own = self.own_url(written, Some(&tenant), &public_url);
                let finish = self.saml_finish(inputs, saml_finish.as_ref(), at, &public_url);
                let log_out = self.reached(inputs, Reached::SamlLogOut, saml_log_out.as_ref(), at, &public_url);
                SignOnStep::SamlMetadata {
                    tenant,
                    finish: finish?,
                    log_out,
                    own,
                }
            }
            ActionTable::SsoLogOut(SsoLogOutTable { extent, saml_finish, .. }) => {
                let finish = self.reached(inputs, Reached::Saml, saml_finish.as_ref(), at, &public_url);
                let metadata = finish
                    .is_some()
                    .then(|| self.reached(inputs, Reached::Metadata, None, at, &public_url));
                let metadata = metadata.flatten();
                SignOnStep::LogOut {
                    extent: *extent,
                    saml: finish.map(|finish| SamlUrls { finish, metadata }),
                }
            }
            ActionTable::SsoBackChannel(SsoBackChannelTable { tenant, .. }) => SignOnStep::BackChannel {
                tenant: self.path_tenant(in_scope, tenant)?,
            },
            _ => return None,
        };
        self.check_sign_on_route(place, &step, shared.limits);
        let settings = inputs.settings.clone()?;
        Some(Action::SignOn(Box::new(SignOnRoute { settings, step })))
    }

    /// `ways_back` are the names of the routes that take codes and responses.
    fn start(
        &self,
        shared: &RouteInputs<'_>,
        place: SignOnPlace<'_>,
        tenant: StartTenant,
        ways_back: [&Option<Located<String>>; 2],
        public_url: &str,
    ) -> StartStep {
        let [finish, saml_finish] = ways_back;
        let find = |what, name: &Option<Located<String>>| self.reached(shared.sign_on, what, name.as_ref(), place.at, public_url);
        let oidc = find(Reached::Oidc, finish);
        let saml = find(Reached::Saml, saml_finish);
        if oidc.is_none() && saml.is_none() && finish.is_none() && saml_finish.is_none() {
            self.no_finish(place.at, &[Reached::Oidc, Reached::Saml]);
        }
        let metadata = saml.is_some().then(|| find(Reached::Metadata, &None)).flatten();
        StartStep {
            tenant,
            oidc,
            saml: saml.map(|finish| SamlUrls { finish, metadata }),
        }
    }

    /// A link is made by a session of its own: whether the session is still in force is asked when the provider has answered.
    fn check_linking(&self, in_scope: &SourceScope<'_>, at: &Span) {
        for surface in in_scope.callers() {
            if surface.kind.session().is_none_or(|session| session.record != SessionRecord::Own) {
                self.report.error(
                    at,
                    format!("`{}` is no surface of sessions with records of their own", surface.name),
                    Some("name surfaces of kind `session_jwt` with `record = \"own\"` alone in `access`".to_owned()),
                );
            }
        }
    }

    /// The address of the route that takes SAML responses, which there must be.
    fn saml_finish(&self, inputs: &SignOnInputs<'_>, name: Option<&Located<String>>, at: &Span, public_url: &str) -> Option<RouteUrl> {
        let finish = self.reached(inputs, Reached::Saml, name, at, public_url);
        if finish.is_none() && name.is_none() {
            self.no_finish(at, &[Reached::Saml]);
        }
        finish
    }

    fn no_finish(&self, at: &Span, wanted: &[Reached]) {
        let words: Vec<String> = wanted.iter().map(|what| format!("`serve = \"{}\"`", what.serve())).collect();
        self.report.error(
            at,
            "no route takes what the provider sends back",
            Some(format!("add a route with {}", words.join(" or "))),
        );
    }

    /// The address of the route of this name, or of the only one there is.
    fn reached(
        &self,
        inputs: &SignOnInputs<'_>,
        what: Reached,
        name: Option<&Located<String>>,
        at: &Span,
        public_url: &str,
    ) -> Option<RouteUrl> {
        let mut all = inputs.reached.iter().filter(|route| route.what == what);
        let route = match name {
            Some(name) => {
                let named = |route: &&ReachedRoute<'_>| route.written.name.as_ref().is_some_and(|own| own.value == name.value);
                let found = all.clone().find(named);
                if found.is_none() {
                    let known = all.filter_map(|route| Some(route.written.name.as_ref()?.value.as_str()));
                    self.report.error(
                        &name.at,
                        format!("there is no route `{}` with `serve = \"{}\"`", shorten(&name.value), what.serve()),
                        suggest(&name.value, known, "a route"),
                    );
                }
                found?
            }
            None => {
                let first = all.next()?;
                if all.next().is_some() && what != Reached::Metadata {
                    self.report.error(
                        at,
                        format!("several routes have `serve = \"{}\"`", what.serve()),
                        Some(format!("name one: {} = \"…\"", what.setting())),
                    );
                }
                first
            }
        };
        // What is wrong with its path is told where it stands.
        let pattern = route.written.path.as_ref()?.value.clone();
        Some(RouteUrl {
            public_url: public_url.to_owned(),
            pattern,
        })
    }

    /// The address of a route that providers are told. It has no parameter but that of the tenant, and its hosts take
    /// what the public address names.
    fn own_url(&self, written: &RouteTable, tenant: Option<&str>, public_url: &str) -> RouteUrl {
        let pattern = written.path.as_ref().map_or("", |path| path.value.as_str());
        let at = written.path.as_ref().map_or(&written.at, |path| &path.at);
        for segment in pattern.split('/') {
            let parameter = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            if segment == "**" || parameter.is_some_and(|name| Some(name) != tenant) {
                self.report.error(
                    at,
                    format!(
                        "providers are told this address, and nobody knows what stands for `{}`",
                        shorten(segment)
                    ),
                    Some("the only parameter may be that of `tenant`".to_owned()),
                );
            }
        }
        let host = public_url.split_once("://").map_or("", |(_, host)| host);
        let host = host.rsplit_once(':').map_or(
            host,
            |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host },
        );
        let takes = |wanted: &Located<String>| match wanted.value.strip_prefix("*.") {
            Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => wanted.value.eq_ignore_ascii_case(host),
        };
        if let (Some(first), false) = (written.hosts.first(), written.hosts.iter().any(takes) || host.is_empty()) {
            self.report.error(
                &first.at,
                format!("providers send browsers to `{host}`, which is no host of this route"),
                Some("add it to `hosts`, or change `public_url` of `[sign_on]`".to_owned()),
            );
        }
        RouteUrl {
            public_url: public_url.to_owned(),
            pattern: pattern.to_owned(),
        }
    }

    /// The path parameter that names the tenant.
    fn path_tenant(&self, in_scope: &SourceScope<'_>, tenant: &Located<String>) -> Option<String> {
        let name = tenant.value.strip_prefix("path.").filter(|name| !name.is_empty());
        let Some(name) = name else {
            self.report.error(
                &tenant.at,
                format!("`tenant` cannot be `{}` here", shorten(&tenant.value)),
                Some("`path.<parameter>`".to_owned()),
            );
            return None;
        };
        if !in_scope.params.iter().any(|known| known == name) {
            self.report.error(
                &tenant.at,
                format!("the path has no parameter `{}`", shorten(name)),
                Some(suggest(name, in_scope.params.iter().map(String::as_str), "a parameter")),
            );
        }
        Some(name.to_owned())
    }

    /// The one session that a person is given.
    fn session_of_person(&self, in_scope: &SourceScope<'_>, written: &[MintTable], at: &Span) -> Option<Mint> {
        let (table, more) = written.split_first()?;
        if let Some(extra) = more.first() {
            self.report.error(&extra.at, "a sign-on makes one session and nothing else", None);
        }
        let mints = self.mints(in_scope, std::slice::from_ref(table));
        let mint = mints.into_iter().next()?;
        let parent_at = table.parent.as_ref().map_or(&table.at, |parent| &parent.at);
        if !matches!(table.parent.as_ref().map(|parent| &parent.value), Some(ParentValue::Person)) {
            self.report.error(
                parent_at,
                "the session of a sign-on hangs on the person who signs on",
                Some("parent = \"person\"".to_owned()),
            );
        }
        if let Some(scope) = table.grants.first() {
            self.report.error(
                &scope.at,
                "nobody may do more by a sign-on than the provider's ceiling, and `grants` would go beyond it",
                Some("give the scope to a role, and name it in the provider's table of roles".to_owned()),
            );
        }
        if let Some(lifetime) = table.lifetime.as_ref().filter(|lifetime| lifetime.value > LONGEST_SESSION) {
            self.report.error(
                &lifetime.at,
                format!("a session by a sign-on lasts at most {}", write_duration(LONGEST_SESSION)),
                Some("people sign on again, mostly without being asked for anything".to_owned()),
            );
        }
        let surface = in_scope.surface(mint.surface)?;
        let session = surface.kind.session();
        let has_cookie = session
            .and_then(|s| s.minting.as_ref())
            .is_some_and(|minting| minting.cookie.is_some());
        let own = session.is_some_and(|session| session.record == SessionRecord::Own);
        if !has_cookie || !own {
            self.report.error(
                table.surface.as_ref().map_or(at, |name| &name.at),
                format!(
                    "`{}` is no surface of sessions with a cookie and with records of their own",
                    surface.name
                ),
                Some("name one of kind `session_jwt` with `record = \"own\"` whose `carry` names a cookie".to_owned()),
            );
        }
        Some(mint)
    }

    /// What every route of single sign-on must be.
    fn check_sign_on_route(&self, place: SignOnPlace<'_>, step: &SignOnStep, defaults: &[RateLimitTable]) {
        let SignOnPlace { written, serve, at } = place;
        let wanted = step.method();
        let is_only = written.methods.as_ref().is_some_and(|methods| {
            let mut parsed = methods.iter().map(|method| Method::parse(method.value.as_bytes()));
            !methods.is_empty() && parsed.all(|method| method.is_ok_and(|method| method.as_str() == wanted))
        });
        if !is_only {
            self.report.error(
                written
                    .methods
                    .as_ref()
                    .and_then(|methods| methods.first())
                    .map_or(at, |first| &first.at),
                format!("this step is taken with {wanted} alone"),
                Some(format!("methods = [\"{wanted}\"]")),
            );
        }
        let part = [
            serve.body.first().map(|field: &Member<_>| (&field.name.at, "body")),
            serve.answer.body.as_ref().map(|body| (&body.at, "answer")),
            serve.answer.status.as_ref().map(|status| (&status.at, "answer")),
            serve.hook.value.as_ref().map(|hook| (&hook.at, "hook")),
            serve.forms.as_ref().filter(|forms| forms.value).map(|forms| (&forms.at, "forms")),
        ];
        for (at, name) in part.into_iter().flatten() {
            self.report.error(
                at,
                format!("`{name}` has no use here: the protocol says what is sent and what is answered"),
                Some("remove it".to_owned()),
            );
        }
        let limits = written.limits.as_deref().unwrap_or(defaults);
        let is_costly = matches!(
            step,
            SignOnStep::Start(_) | SignOnStep::FinishOidc(_) | SignOnStep::FinishSaml(_) | SignOnStep::SamlLogOut(_)
        );
        if is_costly && !limits.iter().any(|limit| limit.by.value == LimitBy::Address) {
            self.report.warning(
                at,
                "anybody may call this, and nothing limits how often an address does",
                Some("for example `limits = [{ by = \"address\", rate = \"60/1m\" }]`".to_owned()),
            );
        }
    }

    /// Who may call a step: everybody where a browser has no session yet, and whoever logs out or links an account.
    pub(super) fn check_sign_on_access(&self, access: &Access, at: &Span, action: &ActionTable) {
        let has_session = match action {
            ActionTable::SsoLogOut(_) => Some("whose session would end"),
            ActionTable::SsoLink(_) | ActionTable::SsoUnlink(_) => Some("whose account would it be"),
            _ => None,
        };
        match (access, has_session) {
            (Access::Public, Some(question)) => self.report.error(
                at,
                format!("nobody is known on a public route: {question}?"),
                Some("name the surface of the sessions: access = { surfaces = [\"…\"] }".to_owned()),
            ),
            (Access::Surfaces { .. }, None) => {
                self.report
                    .error(at, "whoever signs on has no session yet", Some("access = \"public\"".to_owned()))
            }
            (Access::Public, None) | (Access::Surfaces { .. }, Some(_)) => {}
        }
    }
}

/// The fields that a step reads from its body; `None` for other steps. They are the protocol's and not the operator's.
pub(super) fn body_of(step: &SignOnStep) -> BodySchema {
    let text = |name: &str, max: usize| FieldSpec {
        name: name.to_owned(),
        kind: FieldKind::Text {
            min: 0,
            max,
            format: TextFormat::Any,
        },
        presence: FieldPresence::Optional,
        one_of: Vec::new(),
        messages: FieldMessages::default(),
    };
    let secret = |name: &str, max: usize| FieldSpec {
        kind: FieldKind::Secret { min: 0, max },
        ..text(name, max)
    };
    let (max, fields) = match step {
        SignOnStep::FinishSaml(_) => (
            MAX_SAML_BODY,
            vec![
                secret("SAMLResponse", MAX_SAML_BODY),
                secret("SAMLRequest", MAX_SAML_BODY),
                secret("RelayState", 1_024),
            ],
        ),
        SignOnStep::BackChannel { .. } => (MAX_LOG_OUT_BODY, vec![secret("logout_token", MAX_LOG_OUT_BODY)]),
        SignOnStep::LogOut { .. } => (4 * 1024, vec![text("return_to", 1_024)]),
        SignOnStep::Link(_) | SignOnStep::Unlink => (4 * 1024, vec![text("return_to", 1_024), text("provider", 128)]),
        SignOnStep::Start(_) | SignOnStep::FinishOidc(_) | SignOnStep::SamlLogOut(_) | SignOnStep::SamlMetadata { .. } => {
            (1024, Vec::new())
        }
    };
    BodySchema {
        max,
        fields,
        forms: Forms::Taken,
        unknown_fields: UnknownFields::Ignored,
        // The step says what is missing, in the words of its protocol.
        unreadable: UnreadableBody::Empty,
        ..BodySchema::default()
    }
}
