//! Served routes: what they do, for whom, and what they answer.

use crate::config::reader::shorten;
use crate::config::report::suggest;
use crate::config::source::Located;
use crate::config::written::{WrittenAccess, WrittenReach, WrittenRoute, WrittenServe};
use crate::decide::method::Method;
use crate::decide::route::{Access, Destination, ServedRouteIndex, UpstreamIndex};
use crate::decide::surface::{Carry, Recipe, Records, SurfaceIndex};
use crate::dialect::answer::{AnswerNames, AnswerSubject, AnswerTemplate, CallerPresence, HookNames};
use crate::dialect::template::TemplateError;
use crate::snapshot::body_schema::FieldKind;
use crate::snapshot::served_route::{Action, AnswerSpec, Extent, Mint, Reach, ServedRoute, Sessions, TenantSource, ValueSource};

use super::Builder;
use super::hooks::{hook_names, is_of_hook};
use super::routes::Shared;
use super::scene::{Parents, Scene, Wanted};

/// Statuses of an answer.
const STATUSES: [u16; 4] = [200, 201, 202, 204];

impl Builder<'_> {
    /// The issuer of a served route. What is wrong is reported; where the action
    /// cannot be built at all, the destination leads nowhere.
    pub(super) fn issuer(
        &self,
        (shared, upstream): (&Shared<'_>, Option<UpstreamIndex>),
        access: &Access,
        written: &WrittenRoute,
        serve: &WrittenServe,
    ) -> Destination {
        if serve.action.value.is_empty() {
            // An unknown word, which was reported: nothing more can be said of it.
            return Destination::Served(ServedRouteIndex(0));
        }
        let mut scene = Scene::new(shared.surfaces, shared.claims, access, written);
        scene.fields = self.fields(&scene, serve);
        self.check_served(shared, &scene, (access, written), serve);
        self.check_messages(serve);
        let Some(action) = self.action(&scene, serve) else {
            return Destination::Served(ServedRouteIndex(0));
        };
        let hook = self.hook(shared, upstream, &scene, (serve, &action));
        self.check_forms(serve, &action);
        let answer = self.answer(&scene, serve, &action);
        // What no template speaks of is not read.
        let hook = hook.map(|hook| self.used_hook(hook, serve, &answer));
        let body = self.body_schema(&mut scene, written, serve);
        let mut issuers = self.issuers.borrow_mut();
        issuers.push(ServedRoute {
            action,
            body,
            answer,
            hook,
        });
        Destination::Served(ServedRouteIndex(issuers.len() - 1))
    }

    /// Whether every surface of the route can be asked: a body is read for one kind of credential, and what is never
    /// presented is nobody's way in.
    fn check_callers(&self, scene: &Scene<'_>, written: &WrittenRoute) {
        let Some(WrittenAccess::Surfaces { surfaces: names, .. }) = &written.access else {
            return;
        };
        let in_body = scene.callers().find(|surface| surface.is_presented_in_body());
        for name in names {
            let Some(surface) = scene.callers().find(|surface| surface.name.as_str() == name.value) else {
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
    fn check_served(&self, shared: &Shared<'_>, scene: &Scene<'_>, (access, written): (&Access, &WrittenRoute), serve: &WrittenServe) {
        for key in &written.forwarding {
            self.report
                .error(&key.at, format!("`{}` has no meaning where nothing is forwarded", key.value), None);
        }
        self.check_callers(scene, written);
        let reads = |m: &Located<String>| matches!(Method::parse(m.value.as_bytes()), Ok(Method::Get | Method::Head));
        let with_get = written.methods.as_ref().is_none_or(|methods| methods.iter().any(reads));
        if with_get && !scene.fields.is_empty() {
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

    fn action(&self, scene: &Scene<'_>, serve: &WrittenServe) -> Option<Action> {
        let surface = || self.record_surface(scene, serve.surface.as_ref()?);
        let id = || Some(self.check_source(scene, serve.id.as_ref()?, Parents::None));
        Some(match serve.action.value {
            "mint" => {
                if serve.mints.is_empty() {
                    return None;
                }
                let mints = self.mints(scene, &serve.mints);
                Action::Mint {
                    tenant: self.tenant_source(scene, serve),
                    cookie: self.cookie_mint(scene, &mints),
                    mints,
                }
            }
            "list" => Action::List {
                surface: surface()?,
                reach: self.reach(scene, serve),
            },
            "revoke" => Action::Revoke {
                surface: surface()?,
                id: id()?,
                reach: self.reach(scene, serve),
                grants: self.scopes(&serve.grants),
            },
            "rotate" => Action::Rotate {
                surface: self.rotatable(scene, surface()?, serve),
                id: id()?,
                reach: self.reach(scene, serve),
                grace: serve.grace.as_ref().map(|g| g.value),
                grants: self.scopes(&serve.grants),
            },
            "set_roles" => Action::SetRoles {
                surface: surface()?,
                id: id()?,
                roles: self.body_source(scene, serve.roles.as_ref()?, Wanted::List)?,
                reach: self.reach(scene, serve),
                grants: self.scopes(&serve.grants),
            },
            "list_roles" => Action::ListRoles,
            "log_out" => Action::LogOut {
                extent: self.extent(scene, serve),
            },
            "set_password" => self.set_password(scene, serve)?,
            _ => Action::ListScopes,
        })
    }

    fn tenant_source(&self, scene: &Scene<'_>, serve: &WrittenServe) -> TenantSource {
        let Some(tenant) = &serve.tenant else { return TenantSource::Caller };
        match (tenant.value.as_str(), tenant.value.strip_prefix("path.")) {
            ("caller", _) => TenantSource::Caller,
            ("new", _) => TenantSource::New,
            (_, Some(parameter)) => TenantSource::CallerNamed(self.parameter(scene, tenant, parameter)),
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

    fn parameter(&self, scene: &Scene<'_>, at: &Located<String>, name: &str) -> String {
        let source = Located {
            value: ValueSource::Path(name.to_owned()),
            at: at.at.clone(),
        };
        self.check_source(scene, &source, Parents::None);
        name.to_owned()
    }

    fn reach(&self, scene: &Scene<'_>, serve: &WrittenServe) -> Reach {
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
                    Reach::TenantNamed(self.parameter(scene, &at, parameter))
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
                from: self.check_source(scene, from, Parents::None),
            },
        }
    }

    /// Only keys and pairs can be made again like the one before.
    fn rotatable(&self, scene: &Scene<'_>, index: SurfaceIndex, serve: &WrittenServe) -> SurfaceIndex {
        let recipe = scene.surface(index).map(|s| s.kind.recipe());
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
    fn extent(&self, scene: &Scene<'_>, serve: &WrittenServe) -> Extent {
        if serve.extent == "everywhere" {
            return Extent::Everywhere;
        }
        for surface in scene.callers() {
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

    fn set_password(&self, scene: &Scene<'_>, serve: &WrittenServe) -> Option<Action> {
        let surface = self.account_surface(scene, serve.surface.as_ref()?)?;
        let presented = !scene.accepted.is_empty() && scene.accepted.iter().all(|own| *own == surface);
        if serve.current.is_none() && !presented {
            self.report.error(
                &serve.action.at,
                "the present password must be proven",
                Some("current = \"body.current_password\"".to_owned()),
            );
        }
        Some(Action::SetPassword {
            surface,
            current: serve.current.as_ref().and_then(|c| self.body_source(scene, c, Wanted::Secret)),
            new: self.body_source(scene, serve.new.as_ref()?, Wanted::Secret)?,
            sessions: match serve.sessions {
                "kept" => Sessions::Kept,
                _ => Sessions::Ended,
            },
            grants: self.scopes(&serve.grants),
        })
    }

    fn answer(&self, scene: &Scene<'_>, serve: &WrittenServe, action: &Action) -> AnswerSpec {
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
            (None, _) if says_something(scene, action) => self.report.error(
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
                .and_then(|body| self.answer_template(scene, (body, serve), action)),
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
        scene: &Scene<'_>,
        (body, serve): (&Located<String>, &WrittenServe),
        action: &Action,
    ) -> Option<AnswerTemplate> {
        let names = AnswerNames {
            hook: hook_names(serve),
            ..answer_names(scene, action)
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
fn says_something(scene: &Scene<'_>, action: &Action) -> bool {
    let shown = |mint: &Mint| {
        let recipe = scene.surface(mint.surface).map(|s| s.kind.recipe());
        !matches!(recipe, Some(Recipe::Account))
    };
    match action {
        Action::Mint { mints, cookie, .. } => cookie.is_none() && mints.iter().any(shown),
        Action::List { .. } | Action::ListRoles | Action::ListScopes | Action::Rotate { .. } => true,
        Action::Revoke { .. } | Action::SetRoles { .. } | Action::LogOut { .. } | Action::SetPassword { .. } => false,
    }
}

pub(super) fn answer_names(scene: &Scene<'_>, action: &Action) -> AnswerNames {
    let (subject, surfaces): (AnswerSubject, Vec<SurfaceIndex>) = match action {
        Action::Mint { mints, .. } => (AnswerSubject::Credential, mints.iter().map(|m| m.surface).collect()),
        Action::Revoke { surface, .. } | Action::Rotate { surface, .. } | Action::SetRoles { surface, .. } => {
            (AnswerSubject::Credential, vec![*surface])
        }
        Action::List { surface, .. } => (AnswerSubject::Credentials, vec![*surface]),
        Action::ListRoles | Action::ListScopes => (AnswerSubject::Names, Vec::new()),
        Action::LogOut { .. } | Action::SetPassword { .. } => (AnswerSubject::None, Vec::new()),
    };
    let claims = surfaces
        .iter()
        .filter_map(|index| scene.surface(*index))
        .flat_map(|s| scene.claims_of(s));
    AnswerNames {
        path: scene.params.clone(),
        body: scene
            .fields
            .iter()
            .filter(|f| !matches!(f.kind, FieldKind::Secret { .. }))
            .map(|f| f.name.clone())
            .collect(),
        claims: claims.cloned().collect(),
        caller_claims: scene.caller_claims(),
        subject,
        caller: if scene.has_caller() {
            CallerPresence::Present
        } else {
            CallerPresence::Absent
        },
        ..AnswerNames::default()
    }
}
