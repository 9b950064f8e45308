//! Served routes: what they do, for whom, and what they answer.

use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::Located;
use crate::config::written::{WrittenAccess, WrittenReach, WrittenRoute, WrittenServe};
use crate::decide::method::Method;
use crate::decide::route::{Access, Destination, IssuerIndex, UpstreamIndex};
use crate::decide::surface::{Carry, Recipe, Records, SurfaceIndex};
use crate::dialect::answer::{AnswerNames, AnswerTemplate, HookNames, Presence, Subject};
use crate::dialect::template::TemplateError;
use crate::issue::spec::{Action, AnswerSpec, Extent, FieldKind, Issuer, Mint, Reach, Sessions, Source, TenantSource};

use super::Builder;
use super::hooks::{hook_names, is_of_hook};
use super::routes::Shared;
use super::source_scope::{Parents, SourceScope, Wanted};

/// Statuses of an answer.
const STATUSES: [u16; 4] = [200, 201, 202, 204];

impl Builder<'_> {
    /// The issuer of a served route. What is wrong is reported; where the action
    /// cannot be built at all, the destination leads nowhere.
    pub(super) fn issuer(
        &self,
        (shared, upstream): (&Shared<'_>, Option<UpstreamIndex>),
        name: &str,
        access: &Access,
        written: &WrittenRoute,
        serve: &WrittenServe,
    ) -> Destination {
        if serve.action.value.is_empty() {
            // An unknown word, which was reported: nothing more can be said of it.
            return Destination::Served(IssuerIndex(0));
        }
        let mut in_scope = SourceScope::new(shared.surfaces, shared.claims, access, written);
        in_scope.fields = self.fields(&in_scope, serve);
        self.check_served(shared, &in_scope, (access, written), serve);
        self.check_messages(serve);
        let Some(action) = self.action(&in_scope, serve) else {
            return Destination::Served(IssuerIndex(0));
        };
        let hook = self.hook(shared, upstream, &in_scope, (serve, &action));
        self.check_forms(serve, &action);
        let answer = self.answer(&in_scope, serve, &action);
        // What no template speaks of is not read.
        let hook = hook.map(|hook| self.used_hook(hook, serve, &answer));
        let body = self.body_schema(&mut in_scope, written, serve);
        let mut issuers = self.issuers.borrow_mut();
        issuers.push(Issuer {
            name: name.to_owned(),
            action,
            body,
            answer,
            hook,
        });
        Destination::Served(IssuerIndex(issuers.len() - 1))
    }

    /// Whether every surface of the route can be asked: a body is read for one kind of credential, and what is never
    /// presented is nobody's way in.
    fn check_callers(&self, in_scope: &SourceScope<'_>, written: &WrittenRoute) {
        let Some(WrittenAccess::Surfaces { surfaces: names, .. }) = &written.access else {
            return;
        };
        let in_body = in_scope.callers().find(|surface| surface.is_presented_in_body());
        for name in names {
            let Some(surface) = in_scope.callers().find(|surface| surface.name.as_str() == name.value) else {
                continue;
            };
            if surface.kind.carry() == Carry::Never {
                self.report.error(
                    &name.at,
                    format!("credentials of `{}` are never presented: nobody could call this", surface.name),
                    Some("give the surface a `login_field`, or accept what hangs on it".to_owned()),
                );
            } else if let Some(other) = in_body.filter(|other| other.name != surface.name) {
                self.report.error(
                    &name.at,
                    format!(
                        "nobody of `{}` would be asked: credentials of `{}` are read from the body",
                        surface.name, other.name
                    ),
                    Some("make two routes".to_owned()),
                );
            }
        }
    }

    /// A page of another site can send a form without asking, and could so log somebody in as somebody else.
    fn check_forms(&self, serve: &WrittenServe, action: &Action) {
        if let (Some(forms), Action::Mint { cookie: Some(_), .. }) = (serve.forms.as_ref().filter(|f| f.value), action) {
            self.report.error(
                &forms.at,
                "this route sets a cookie, and any page can send a form",
                Some("take JSON only, or carry the session in a header".to_owned()),
            );
        }
    }

    /// What every served route must be.
    fn check_served(
        &self,
        shared: &Shared<'_>,
        in_scope: &SourceScope<'_>,
        (access, written): (&Access, &WrittenRoute),
        serve: &WrittenServe,
    ) {
        for key in &written.forwarding {
            self.report
                .error(&key.at, format!("`{}` has no meaning where nothing is forwarded", key.value), None);
        }
        self.check_callers(in_scope, written);
        let reads = |m: &Located<String>| matches!(Method::parse(m.value.as_bytes()), Ok(Method::Get | Method::Head));
        let with_get = written.methods.as_ref().is_none_or(|methods| methods.iter().any(reads));
        if with_get && !in_scope.fields.is_empty() {
            self.report.error(
                written.path.as_ref().map_or(&written.at, |p| &p.at),
                "a GET has no body to hold these fields",
                Some("methods = [\"POST\"]".to_owned()),
            );
        }
        let new_tenant = serve.tenant.as_ref().filter(|t| serve.action.value == "mint" && t.value == "new");
        match (access, new_tenant) {
            (Access::Public, Some(tenant)) => self.check_sign_up(tenant, written.limits.as_ref(), shared.limits),
            (Access::Public, None) => self.report.error(
                &serve.action.at,
                "nobody is known on a public route: whose records would these be?",
                Some("name the surfaces it accepts, or let `mint` make a tenant with `tenant = \"new\"`".to_owned()),
            ),
            (Access::Surfaces { .. }, Some(tenant)) => self.report.error(
                &tenant.at,
                "a caller has a tenant already",
                Some("`tenant = \"new\"` is for public routes (sign-up)".to_owned()),
            ),
            (Access::Surfaces { .. }, None) => {}
        }
    }

    fn action(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe) -> Option<Action> {
        let surface = || self.record_surface(in_scope, serve.surface.as_ref()?);
        let id = || Some(self.check_source(in_scope, serve.id.as_ref()?, Parents::None));
        Some(match serve.action.value {
            "mint" => {
                if serve.mints.is_empty() {
                    return None;
                }
                let mints = self.mints(in_scope, &serve.mints);
                Action::Mint {
                    tenant: self.tenant_source(in_scope, serve),
                    cookie: self.cookie_mint(in_scope, &mints),
                    mints,
                }
            }
            "list" => Action::List {
                surface: surface()?,
                reach: self.reach(in_scope, serve),
            },
            "revoke" => Action::Revoke {
                surface: surface()?,
                id: id()?,
                reach: self.reach(in_scope, serve),
                grants: self.scopes(&serve.grants),
            },
            "rotate" => Action::Rotate {
                surface: self.rotatable(in_scope, surface()?, serve),
                id: id()?,
                reach: self.reach(in_scope, serve),
                grace: serve.grace.as_ref().map(|g| g.value),
                grants: self.scopes(&serve.grants),
            },
            "set_roles" => Action::SetRoles {
                surface: surface()?,
                id: id()?,
                roles: self.body_source(in_scope, serve.roles.as_ref()?, Wanted::List)?,
                reach: self.reach(in_scope, serve),
                grants: self.scopes(&serve.grants),
            },
            "list_roles" => Action::ListRoles,
            "log_out" => Action::LogOut {
                extent: self.extent(in_scope, serve),
            },
            "set_password" => self.set_password(in_scope, serve)?,
            _ => Action::ListScopes,
        })
    }

    fn tenant_source(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe) -> TenantSource {
        let Some(tenant) = &serve.tenant else { return TenantSource::Caller };
        match (tenant.value.as_str(), tenant.value.strip_prefix("path.")) {
            ("caller", _) => TenantSource::Caller,
            ("new", _) => TenantSource::New,
            (_, Some(parameter)) => TenantSource::CallerNamed(self.parameter(in_scope, tenant, parameter)),
            _ => {
                self.report.error(
                    &tenant.at,
                    format!("`tenant` cannot be `{}`", shorten(&tenant.value)),
                    Some("`caller`, `new`, or `path.<parameter>`".to_owned()),
                );
                TenantSource::Caller
            }
        }
    }

    fn parameter(&self, in_scope: &SourceScope<'_>, at: &Located<String>, name: &str) -> String {
        let source = Located {
            value: Source::Path(name.to_owned()),
            at: at.at.clone(),
        };
        self.check_source(in_scope, &source, Parents::None);
        name.to_owned()
    }

    fn reach(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe) -> Reach {
        let Some(reach) = &serve.reach else { return Reach::Tenant };
        match &reach.value {
            WrittenReach::Word(word) => match (word.as_str(), word.strip_prefix("path.")) {
                ("tenant", _) => Reach::Tenant,
                ("children", _) => Reach::Children,
                (_, Some(parameter)) => {
                    let at = Located {
                        value: word.clone(),
                        at: reach.at.clone(),
                    };
                    Reach::TenantNamed(self.parameter(in_scope, &at, parameter))
                }
                _ => {
                    let words = ["tenant", "children", "path.<parameter>"];
                    self.report.error(
                        &reach.at,
                        format!("`reach` cannot be `{}`", shorten(word)),
                        suggest(word, words, "`reach`"),
                    );
                    Reach::Tenant
                }
            },
            WrittenReach::Claim(claim, from) => Reach::Claim {
                claim: claim.value.clone(),
                from: self.check_source(in_scope, from, Parents::None),
            },
        }
    }

    /// Only keys and pairs can be made again like the one before.
    fn rotatable(&self, in_scope: &SourceScope<'_>, index: SurfaceIndex, serve: &WrittenServe) -> SurfaceIndex {
        let recipe = in_scope.surface(index).map(|s| s.kind.recipe());
        if let (Some(name), Some(Recipe::Account | Recipe::Session(_) | Recipe::Elsewhere)) = (&serve.surface, recipe) {
            self.report.error(
                &name.at,
                format!("`{}` has no keys to rotate", shorten(&name.value)),
                Some("name a surface of keys or pairs".to_owned()),
            );
        }
        index
    }

    /// A token without a record of its own cannot be ended alone.
    fn extent(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe) -> Extent {
        if serve.extent == "everywhere" {
            return Extent::Everywhere;
        }
        for surface in in_scope.callers() {
            if let Records::Of(records) = surface.kind.records() {
                self.report.error(
                    &serve.action.at,
                    format!("a token of `{}` has no record of its own that could be ended", surface.name),
                    Some(format!(
                        "give it `record = \"own\"`, or end all of the record of `{records}` with `extent = \"everywhere\"`"
                    )),
                );
            }
        }
        Extent::This
    }

    fn set_password(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe) -> Option<Action> {
        let surface = self.account_surface(in_scope, serve.surface.as_ref()?)?;
        let presented = !in_scope.accepted.is_empty() && in_scope.accepted.iter().all(|own| *own == surface);
        if serve.current.is_none() && !presented {
            self.report.error(
                &serve.action.at,
                "the present password must be proven",
                Some("current = \"body.current_password\"".to_owned()),
            );
        }
        Some(Action::SetPassword {
            surface,
            current: serve.current.as_ref().and_then(|c| self.body_source(in_scope, c, Wanted::Secret)),
            new: self.body_source(in_scope, serve.new.as_ref()?, Wanted::Secret)?,
            sessions: match serve.sessions {
                "kept" => Sessions::Kept,
                _ => Sessions::Ended,
            },
            grants: self.scopes(&serve.grants),
        })
    }

    fn answer(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe, action: &Action) -> AnswerSpec {
        let written = &serve.answer;
        let status = written
            .status
            .as_ref()
            .map_or(if written.body.is_some() { 200 } else { 204 }, |s| s.value);
        let at = written.status.as_ref().map_or(&written.at, |s| &s.at);
        if !STATUSES.contains(&status) {
            self.report
                .error(at, format!("`status` cannot be {status}"), Some("200, 201, 202 or 204".to_owned()));
        }
        match (&written.body, status) {
            (Some(body), 204) => self.report.error(&body.at, "a 204 has no body", None),
            (None, 200..=202) => self
                .report
                .error(at, format!("{status} needs a `body`"), Some("or 204, which has none".to_owned())),
            (None, _) if says_something(in_scope, action) => self.report.error(
                &serve.action.at,
                "nobody would be told what was made or found",
                Some("add `body` to `[routes.answer]`".to_owned()),
            ),
            _ => {}
        }
        AnswerSpec {
            status,
            body: written
                .body
                .as_ref()
                .and_then(|body| self.answer_template(in_scope, (body, serve), action)),
            headers: written
                .headers
                .iter()
                .filter(|(name, value)| self.check_answer_header(name, value))
                .map(|(name, value)| (name.value.clone(), value.value.clone()))
                .collect(),
        }
    }

    fn answer_template(
        &self,
        in_scope: &SourceScope<'_>,
        (body, serve): (&Located<String>, &WrittenServe),
        action: &Action,
    ) -> Option<AnswerTemplate> {
        let names = AnswerNames {
            hook: hook_names(serve),
            ..answer_names(in_scope, action)
        };
        let error = match AnswerTemplate::parse(&body.value, &names) {
            Ok(template) => return Some(template),
            Err(error) => error,
        };
        let variables = names.variables();
        let mut known: Vec<&str> = variables.iter().map(String::as_str).collect();
        if matches!(error, TemplateError::Rendering(..)) {
            known.extend(names.item_fields());
        }
        match &error {
            TemplateError::Unknown(_, name) if is_of_hook(name) && names.hook == HookNames::None => {
                let help = if serve.hook.is_some() {
                    "the answer of a service is used only with `when = \"before\"`"
                } else {
                    "no service is asked: add `[routes.hook]` with `when = \"before\"`"
                };
                self.template_mistake(body, &error, help.to_owned());
            }
            _ => self.template_error(body, &error, &known),
        }
        None
    }
}

/// Whether an action without a body in its answer would be of no use.
fn says_something(in_scope: &SourceScope<'_>, action: &Action) -> bool {
    let shown = |mint: &Mint| {
        let recipe = in_scope.surface(mint.surface).map(|s| s.kind.recipe());
        !matches!(recipe, Some(Recipe::Account))
    };
    match action {
        Action::Mint { mints, cookie, .. } => cookie.is_none() && mints.iter().any(shown),
        Action::List { .. } | Action::ListRoles | Action::ListScopes | Action::Rotate { .. } => true,
        Action::Revoke { .. } | Action::SetRoles { .. } | Action::LogOut { .. } | Action::SetPassword { .. } => false,
    }
}

pub(super) fn answer_names(in_scope: &SourceScope<'_>, action: &Action) -> AnswerNames {
    let (subject, surfaces): (Subject, Vec<SurfaceIndex>) = match action {
        Action::Mint { mints, .. } => (Subject::Credential, mints.iter().map(|m| m.surface).collect()),
        Action::Revoke { surface, .. } | Action::Rotate { surface, .. } | Action::SetRoles { surface, .. } => {
            (Subject::Credential, vec![*surface])
        }
        Action::List { surface, .. } => (Subject::Credentials, vec![*surface]),
        Action::ListRoles | Action::ListScopes => (Subject::Names, Vec::new()),
        Action::LogOut { .. } | Action::SetPassword { .. } => (Subject::None, Vec::new()),
    };
    let claims = surfaces
        .iter()
        .filter_map(|index| in_scope.surface(*index))
        .flat_map(|s| in_scope.claims_of(s));
    AnswerNames {
        path: in_scope.params.clone(),
        body: in_scope
            .fields
            .iter()
            .filter(|f| !matches!(f.kind, FieldKind::Secret { .. }))
            .map(|f| f.name.clone())
            .collect(),
        claims: claims.cloned().collect(),
        caller_claims: in_scope.caller_claims(),
        subject,
        caller: if in_scope.has_caller() {
            Presence::Present
        } else {
            Presence::Absent
        },
        ..AnswerNames::default()
    }
}
