//! `serve` of a route: what the gateway does itself, for whom, and what it answers.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::declare::{
    DeclaredTable, Named, Pairs, SettingValue, absent, choice, count, default, duration, form, required, table, tagged,
};
use crate::config::reader::{RawEntry, shorten};
use crate::config::report::suggest;
use crate::config::schema::ValueKind;
use crate::config::source::{Located, Span};
use crate::config::units::secs;
use crate::decide::method::Method;
use crate::decide::route::{Access, Destination, ServedRouteIndex, UpstreamIndex};
use crate::decide::surface::{Carry, Recipe, Records, SurfaceIndex};
use crate::dialect::answer::{AnswerNames, AnswerSubject, AnswerTemplate, CallerPresence, HookNames};
use crate::dialect::template::TemplateError;
use crate::snapshot::body_schema::{FieldKind, UnknownFields, UnreadableBody};
use crate::snapshot::served_route::{Action, AnswerSpec, Extent, Mint, Reach, ServedRoute, Sessions, TenantSource, ValueSource};

use super::Builder;
use super::audit::RouteAuditKey;
use super::body::FieldTable;
use super::hooks::{HookTable, hook_names, is_of_hook};
use super::mints::MintTable;
use super::providers::{self, ProvidersPlace, ProvidersTable};
use super::routes::{AccessTable, EntrySource, RouteAccess, RouteInputs, RouteTable};
use super::sign_on::{
    SamlFinishTable, SamlLogOutTable, SamlMetadataTable, SignOnPlace, SsoBackChannelTable, SsoFinishTable, SsoLinkTable, SsoLogOutTable,
    SsoStartTable, SsoUnlinkTable, body_of,
};
use super::sources::{FieldRequirement, ParentPresence, SourceScope};

table! {
    /// A route with `serve`. The body of its requests is JSON of at most 16 KiB (`max_body` up to 64 KiB).
    pub struct ServeTable = "`[[routes]]` with `serve`" {
        /// Fields of the body.
        body: Named<FieldTable> = absent("no fields");
        /// The message for a field that the body may not have.
        unknown_field: Option<Located<String>> = absent("`The {field} field is not known.`");
        /// What happens to a member that is not among the fields, in objects of the body too. `refuse`: it is a mistake.
        /// `ignore`: it is left out. `keep`: it is kept, and templates see it in `{{ body }}` and in `{{ body.<object>
        /// }}`.
        unknown_fields: UnknownFields = default("refuse");
        /// Accepts the fields as `application/x-www-form-urlencoded` too: `name=value`, `object.member=value`, a list by
        /// repeating its name. Any page can send a form without a preflight, so such a route cannot set a cookie.
        forms: Option<Located<bool>> = default("false");
        /// What happens to a body that is not one JSON object, or not `application/json`. `refuse`: the denial is
        /// `invalid_body` or `unsupported_media_type`. `empty`: it counts as an object without members, so the denial is
        /// `invalid_fields` and names the required fields.
        unreadable_body: Located<UnreadableBody> = default("refuse");
        /// The answer when the action succeeded.
        answer: AnswerTable = absent("204");
        /// A request to a service before or after the action.
        hook: Located<Option<HookTable>> = absent("no request to a service");
        ..action: Option<Located<ActionTable>>;
    }
}

tagged! {
    /// What the gateway does itself, without a service: makes credentials, lists, ends or rotates them, sets or lists
    /// roles, lists scopes, lists audit entries, logs out, sets a password, takes a step of single sign-on, manages identity
    /// providers.
    pub enum ActionTable by "serve" = absent("the request is forwarded") => {
        Mint(MintActionTable) = "mint", "a route with `serve = \"mint\"`";
        List(ListTable) = "list", "a route with `serve = \"list\"`";
        Revoke(RevokeTable) = "revoke", "a route with `serve = \"revoke\"`";
        Rotate(RotateTable) = "rotate", "a route with `serve = \"rotate\"`";
        SetRoles(SetRolesTable) = "set_roles", "a route with `serve = \"set_roles\"`";
        ListRoles(ListRolesTable) = "list_roles", "a route with `serve = \"list_roles\"`";
        ListScopes(ListScopesTable) = "list_scopes", "a route with `serve = \"list_scopes\"`";
        Audit(ServeAuditTable) = "audit", "a route with `serve = \"audit\"`";
        LogOut(LogOutTable) = "log_out", "a route with `serve = \"log_out\"`";
        SetPassword(SetPasswordTable) = "set_password", "a route with `serve = \"set_password\"`";
        SsoStart(SsoStartTable) = "sso_start", "a route with `serve = \"sso_start\"`";
        SsoFinish(SsoFinishTable) = "sso_finish", "a route with `serve = \"sso_finish\"`";
        SamlFinish(SamlFinishTable) = "saml_finish", "a route with `serve = \"saml_finish\"`";
        SamlLogOut(SamlLogOutTable) = "saml_log_out", "a route with `serve = \"saml_log_out\"`";
        SamlMetadata(SamlMetadataTable) = "saml_metadata", "a route with `serve = \"saml_metadata\"`";
        SsoLogOut(SsoLogOutTable) = "sso_log_out", "a route with `serve = \"sso_log_out\"`";
        SsoLink(SsoLinkTable) = "sso_link", "a route with `serve = \"sso_link\"`";
        SsoUnlink(SsoUnlinkTable) = "sso_unlink", "a route with `serve = \"sso_unlink\"`";
        SsoBackChannel(SsoBackChannelTable) = "sso_back_channel", "a route with `serve = \"sso_back_channel\"`";
        Providers(ProvidersTable) = "providers", "a route with `serve = \"providers\"`";
    }
}

table! {
    /// Makes credentials.
    pub struct MintActionTable = "`[[routes]]` with `serve = \"mint\"`" {
        /// The tenant of the new credentials. `new` makes a tenant with a generated id (sign-up on a public route). A
        /// path parameter must name the caller's own tenant; another tenant is `foreign_tenant`.
        tenant: Option<Located<String>> = absent("`caller`"), form("`caller`, `new`, or `path.<parameter>`");
        /// The credentials that are made, in order.
        mint: Vec<MintTable> = required();
    }
}

table! {
    /// Lists records.
    pub struct ListTable = "`[[routes]]` with `serve = \"list\"`" {
        /// The surface whose records are listed.
        surface: Located<String> = required();
        /// Which records are listed: those of the caller's tenant, only those that hang on the caller, or those of the
        /// tenant that the path names (another tenant than the caller's is `foreign_tenant`).
        reach: Option<Located<ReachValue>> = absent("`tenant`");
    }
}

table! {
    /// A record of the caller's tenant.
    pub struct RecordTable = "a record" {
        /// The surface of the record.
        surface: Located<String> = required();
        /// Which record, for example `path.id`.
        id: Located<ValueSource> = required();
        /// Which records the route may change: those of the caller's tenant, only those that hang on the caller, or those
        /// of the tenant that the path names (another tenant than the caller's is `foreign_tenant`). Any other record is
        /// `record_not_found`.
        reach: Option<Located<ReachValue>> = absent("`tenant`");
        /// Scopes that the record may hold although the caller lacks them. A caller who lacks any other scope of the
        /// record gets `insufficient_scope`.
        grants: Vec<Located<String>> = absent("none");
    }
}

table! {
    /// Ends a credential.
    pub struct RevokeTable = "`[[routes]]` with `serve = \"revoke\"`" {
        ..record: RecordTable;
    }
}

table! {
    /// Makes a credential in the place of an old one.
    pub struct RotateTable = "`[[routes]]` with `serve = \"rotate\"`" {
        /// How long the old credential stays valid.
        grace: Option<Duration> = absent("until it is revoked"), duration(secs(0), secs(366 * 86_400));
        ..record: RecordTable;
    }
}

table! {
    /// Changes the roles of a record.
    pub struct SetRolesTable = "`[[routes]]` with `serve = \"set_roles\"`" {
        /// `body.<field>` of type `list` with the ids of roles. The new roles hold no scope that the caller lacks.
        roles: Located<String> = required();
        ..record: RecordTable;
    }
}

table! {
    /// Lists roles.
    pub struct ListRolesTable = "`[[routes]]` with `serve = \"list_roles\"`" {
    }
}

table! {
    /// Lists scopes.
    pub struct ListScopesTable = "`[[routes]]` with `serve = \"list_scopes\"`" {
    }
}

table! {
    /// Lists the entries of the audit trail that are of the caller's tenant: its requests, with what became of them.
    /// `methods` is `["GET"]`, and `[audit]` must be there.
    pub struct ServeAuditTable = "`[[routes]]` with `serve = \"audit\"`" {
    }
}

table! {
    /// Ends sessions.
    pub struct LogOutTable = "`[[routes]]` with `serve = \"log_out\"`" {
        /// `this`: the session that calls. `everywhere`: every session of the record that this session hangs on.
        extent: Extent = default("this");
    }
}

table! {
    /// Sets the password of an account.
    pub struct SetPasswordTable = "`[[routes]]` with `serve = \"set_password\"`" {
        /// The account surface.
        surface: Located<String> = required();
        /// `body.<field>` of type `secret` with the present password.
        current: Option<Located<String>> = absent("required, unless the account itself is presented");
        /// `body.<field>` of type `secret` with the new password.
        new: Located<String> = required();
        /// What becomes of the sessions of the account.
        sessions: Sessions = default("ended");
        /// Scopes that the account may hold although the caller lacks them. A caller who lacks any other scope of the
        /// account gets `insufficient_scope`.
        grants: Vec<Located<String>> = absent("none");
    }
}

table! {
    /// The answer when the action succeeded. It has `Cache-Control: no-store`.
    pub struct AnswerTable = "`[routes.answer]`" {
        /// 200, 201, 202, or 204, which has no body.
        status: Option<Located<u16>> = absent("200; 204 without a body"), count(200, 204);
        /// Template of the body, see Templates.
        body: Option<Located<String>> = absent("no body");
        /// Further headers.
        headers: Pairs = absent("none");
    }
}

table! {
    /// Records of the caller's tenant whose claim has this value.
    pub struct ReachTable = "`reach`" {
        /// The claim's name.
        claim: Located<String> = required();
        /// Its value.
        from: Located<ValueSource> = required();
    }
}

choice! {
    for UnknownFields {
        Refused = "refuse",
        Ignored = "ignore",
        Kept = "keep",
    }
}

choice! {
    for UnreadableBody {
        Refused = "refuse",
        Empty = "empty",
    }
}

choice! {
    for Extent {
        This = "this",
        Everywhere = "everywhere",
    }
}

choice! {
    for Sessions {
        Ended = "ended",
        Kept = "kept",
    }
}

/// Which records may be touched.
#[derive(Debug)]
pub enum ReachValue {
    /// `tenant`, `children` or `path.<parameter>`
    Word(String),
    Claim(ReachTable),
}

impl SettingValue for ReachValue {
    const KIND: ValueKind = ValueKind::Either(
        "`tenant`, `children`, `path.<parameter>`, or a table",
        &[ValueKind::Text, ValueKind::Table(ReachTable::schema)],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(word) => Some(Self::Word(word.clone().into_owned())),
            _ => ReachTable::parse(entry).map(Self::Claim),
        }
    }
}

impl ServeTable {
    pub fn mints(&self) -> &[MintTable] {
        match self.action.as_ref().map(|action| &action.value) {
            Some(ActionTable::Mint(mint)) => &mint.mint,
            Some(ActionTable::SsoFinish(finish)) => &finish.mint,
            Some(ActionTable::SamlFinish(finish)) => &finish.mint,
            _ => &[],
        }
    }

    /// The surface whose records are listed or changed.
    pub fn surface(&self) -> Option<&Located<String>> {
        match &self.action.as_ref()?.value {
            ActionTable::List(list) => Some(&list.surface),
            ActionTable::Revoke(RevokeTable { record, .. })
            | ActionTable::Rotate(RotateTable { record, .. })
            | ActionTable::SetRoles(SetRolesTable { record, .. }) => Some(&record.surface),
            ActionTable::SetPassword(password) => Some(&password.surface),
            ActionTable::Mint(_)
            | ActionTable::ListRoles(_)
            | ActionTable::ListScopes(_)
            | ActionTable::Audit(_)
            | ActionTable::LogOut(_)
            | ActionTable::SsoStart(_)
            | ActionTable::SsoFinish(_)
            | ActionTable::SamlFinish(_)
            | ActionTable::SamlLogOut(_)
            | ActionTable::SamlMetadata(_)
            | ActionTable::SsoLogOut(_)
            | ActionTable::SsoLink(_)
            | ActionTable::SsoUnlink(_)
            | ActionTable::SsoBackChannel(_)
            | ActionTable::Providers(_) => None,
        }
    }
}

impl ActionTable {
    /// Whether it is a step of single sign-on.
    pub const fn is_of_sign_on(&self) -> bool {
        matches!(
            self,
            Self::SsoStart(_)
                | Self::SsoFinish(_)
                | Self::SamlFinish(_)
                | Self::SamlLogOut(_)
                | Self::SamlMetadata(_)
                | Self::SsoLogOut(_)
                | Self::SsoLink(_)
                | Self::SsoUnlink(_)
                | Self::SsoBackChannel(_)
        )
    }

    /// Whether a person signs on by it.
    pub const fn finishes_sign_on(&self) -> bool {
        matches!(self, Self::SsoFinish(_) | Self::SamlFinish(_))
    }
}

const STATUSES: [u16; 4] = [200, 201, 202, 204];

impl Builder<'_> {
    /// The destination of a served route. What is wrong is reported; where the action
    /// cannot be built at all, the destination leads nowhere.
    pub(super) fn served_route(
        &self,
        shared: &RouteInputs<'_>,
        upstream: Option<UpstreamIndex>,
        access: &Access,
        written: &RouteTable,
        serve: &ServeTable,
    ) -> Destination {
        let mut in_scope = SourceScope::new(shared.surfaces, shared.claims, access, written);
        in_scope.fields = self.fields(&in_scope, serve);
        self.check_served(shared, &in_scope, access, written, serve);
        self.check_messages(serve);
        // Without an action there is a mistake in its keys, which was reported.
        let built = serve.action.as_ref().and_then(|action| {
            let place = SignOnPlace {
                written,
                serve,
                at: &action.at,
            };
            match &action.value {
                ActionTable::Providers(table) => self.providers(
                    shared,
                    &in_scope,
                    ProvidersPlace {
                        written,
                        serve,
                        table,
                        at: &action.at,
                    },
                ),
                step if step.is_of_sign_on() => self.sign_on_step(shared, &in_scope, place, step),
                _ => self.action(&in_scope, action),
            }
        });
        let Some(action) = built else {
            return Destination::Served(ServedRouteIndex(0));
        };
        let hook = self.hook(shared, upstream, &in_scope, serve, &action);
        self.check_forms(serve, &action);
        let answer = self.answer(&in_scope, serve, &action);
        // What no template speaks of is not read.
        let hook = hook.map(|hook| self.used_hook(hook, serve, &answer));
        let body = match &action {
            Action::SignOn(route) => body_of(&route.step),
            Action::Providers(route) => {
                let is_default = written.max_body.at == written.at;
                providers::body_of(route, self.body_schema(&mut in_scope, written, serve), is_default)
            }
            _ => self.body_schema(&mut in_scope, written, serve),
        };
        let mut served_routes = self.served_routes.borrow_mut();
        served_routes.push(ServedRoute {
            action,
            body,
            answer,
            hook,
        });
        Destination::Served(ServedRouteIndex(served_routes.len() - 1))
    }

    /// Whether every surface of the route can be asked: a body is read for one kind of credential, and what is never
    /// presented is nobody's way in.
    fn check_callers(&self, in_scope: &SourceScope<'_>, written: &RouteTable) {
        let Some(RouteAccess::Surfaces(AccessTable { surfaces: names, .. })) = &written.access else {
            return;
        };
        let in_body = in_scope.callers().find(|surface| surface.is_presented_in_body());
        for name in &names.value {
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
    fn check_forms(&self, serve: &ServeTable, action: &Action) {
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
        shared: &RouteInputs<'_>,
        in_scope: &SourceScope<'_>,
        access: &Access,
        written: &RouteTable,
        serve: &ServeTable,
    ) {
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
        let Some(action) = &serve.action else { return };
        if let ActionTable::Audit(_) = action.value {
            self.check_served_audit(shared, &action.at, written);
        }
        if action.value.is_of_sign_on() {
            return self.check_sign_on_access(access, &action.at, &action.value);
        }
        let new_tenant = match &action.value {
            ActionTable::Mint(mint) => mint.tenant.as_ref().filter(|tenant| tenant.value == "new"),
            _ => None,
        };
        match (access, new_tenant) {
            (Access::Public, Some(tenant)) => self.check_sign_up(tenant, written.limits.as_ref(), shared.limits),
            (Access::Public, None) => self.report.error(
                &action.at,
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

    /// A tenant is given its entries only where there are entries, and whoever reads them is on record too.
    fn check_served_audit(&self, shared: &RouteInputs<'_>, at: &Span, written: &RouteTable) {
        match shared.trail {
            EntrySource::Trail => {}
            EntrySource::Nothing => self.report.error(
                at,
                "there is no audit trail whose entries could be listed",
                Some("add `[audit]` to `gateway.toml`".to_owned()),
            ),
            EntrySource::TrailOfNextStart => self.report.error(
                at,
                "this gateway was started without `[audit]` and keeps no audit trail yet: `[audit]` takes effect at the next start",
                Some("restart the gateway, or take this route out until then".to_owned()),
            ),
        }
        if let Some(RouteAuditKey::Off) = &written.audit {
            self.report.error(
                at,
                "who reads entries would have none: this route has `audit = \"off\"`",
                Some("remove `audit`".to_owned()),
            );
        }
        let methods = written.methods.as_ref();
        let only_reads = methods.is_some_and(|methods| {
            let mut parsed = methods.iter().map(|method| Method::parse(method.value.as_bytes()));
            parsed.all(|method| matches!(method, Ok(Method::Get | Method::Head)))
        });
        if !only_reads {
            self.report
                .error(at, "entries are read with GET alone", Some("methods = [\"GET\"]".to_owned()));
        }
    }

    fn action(&self, in_scope: &SourceScope<'_>, table: &Located<ActionTable>) -> Option<Action> {
        Some(match &table.value {
            ActionTable::Mint(mint) => {
                if mint.mint.is_empty() {
                    return None;
                }
                let mints = self.mints(in_scope, &mint.mint);
                Action::Mint {
                    tenant: self.tenant_source(in_scope, mint.tenant.as_ref()),
                    cookie: self.cookie_mint(in_scope, &mints),
                    mints,
                }
            }
            ActionTable::List(list) => Action::List {
                surface: self.record_surface(in_scope, &list.surface)?,
                reach: self.reach(in_scope, list.reach.as_ref()),
            },
            ActionTable::Revoke(RevokeTable { record, .. }) => Action::Revoke {
                surface: self.record_surface(in_scope, &record.surface)?,
                id: self.check_source(in_scope, &record.id, ParentPresence::None),
                reach: self.reach(in_scope, record.reach.as_ref()),
                grants: self.scopes(&record.grants),
            },
            ActionTable::Rotate(RotateTable { grace, record, .. }) => Action::Rotate {
                surface: self.rotatable(in_scope, &record.surface)?,
                id: self.check_source(in_scope, &record.id, ParentPresence::None),
                reach: self.reach(in_scope, record.reach.as_ref()),
                grace: *grace,
                grants: self.scopes(&record.grants),
            },
            ActionTable::SetRoles(SetRolesTable { roles, record, .. }) => Action::SetRoles {
                surface: self.record_surface(in_scope, &record.surface)?,
                id: self.check_source(in_scope, &record.id, ParentPresence::None),
                roles: self.body_source(in_scope, roles, FieldRequirement::List)?,
                reach: self.reach(in_scope, record.reach.as_ref()),
                grants: self.scopes(&record.grants),
            },
            ActionTable::ListRoles(_) => Action::ListRoles,
            ActionTable::ListScopes(_) => Action::ListScopes,
            ActionTable::Audit(_) => Action::Audit,
            ActionTable::LogOut(log_out) => Action::LogOut {
                extent: self.extent(in_scope, log_out.extent, &table.at),
            },
            ActionTable::SetPassword(password) => self.set_password(in_scope, password, &table.at)?,
            // Built where the routes of single sign-on are.
            ActionTable::SsoStart(_)
            | ActionTable::SsoFinish(_)
            | ActionTable::SamlFinish(_)
            | ActionTable::SamlLogOut(_)
            | ActionTable::SamlMetadata(_)
            | ActionTable::SsoLogOut(_)
            | ActionTable::SsoLink(_)
            | ActionTable::SsoUnlink(_)
            | ActionTable::SsoBackChannel(_)
            | ActionTable::Providers(_) => return None,
        })
    }

    fn tenant_source(&self, in_scope: &SourceScope<'_>, tenant: Option<&Located<String>>) -> TenantSource {
        let Some(tenant) = tenant else { return TenantSource::Caller };
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
            value: ValueSource::Path(name.to_owned()),
            at: at.at.clone(),
        };
        self.check_source(in_scope, &source, ParentPresence::None);
        name.to_owned()
    }

    fn reach(&self, in_scope: &SourceScope<'_>, reach: Option<&Located<ReachValue>>) -> Reach {
        let Some(reach) = reach else { return Reach::Tenant };
        match &reach.value {
            ReachValue::Word(word) => match (word.as_str(), word.strip_prefix("path.")) {
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
            ReachValue::Claim(ReachTable { claim, from, .. }) => Reach::Claim {
                claim: claim.value.clone(),
                from: self.check_source(in_scope, from, ParentPresence::None),
            },
        }
    }

    /// Only keys and pairs can be made again like the one before.
    fn rotatable(&self, in_scope: &SourceScope<'_>, name: &Located<String>) -> Option<SurfaceIndex> {
        let index = self.record_surface(in_scope, name)?;
        let recipe = in_scope.surface(index).map(|s| s.kind.recipe());
        if let Some(Recipe::Account | Recipe::Session(_) | Recipe::Elsewhere) = recipe {
            self.report.error(
                &name.at,
                format!("`{}` has no keys to rotate", shorten(&name.value)),
                Some("name a surface of keys or pairs".to_owned()),
            );
        }
        Some(index)
    }

    /// A token without a record of its own cannot be ended alone.
    fn extent(&self, in_scope: &SourceScope<'_>, extent: Extent, at: &Span) -> Extent {
        if extent == Extent::Everywhere {
            return extent;
        }
        for surface in in_scope.callers() {
            if let Records::Of(records) = surface.kind.records() {
                self.report.error(
                    at,
                    format!("a token of `{}` has no record of its own that could be ended", surface.name),
                    Some(format!(
                        "give it `record = \"own\"`, or end all of the record of `{records}` with `extent = \"everywhere\"`"
                    )),
                );
            }
        }
        Extent::This
    }

    fn set_password(&self, in_scope: &SourceScope<'_>, serve: &SetPasswordTable, at: &Span) -> Option<Action> {
        let surface = self.account_surface(in_scope, &serve.surface)?;
        let presented = !in_scope.accepted.is_empty() && in_scope.accepted.iter().all(|own| *own == surface);
        if serve.current.is_none() && !presented {
            self.report.error(
                at,
                "the present password must be proven",
                Some("current = \"body.current_password\"".to_owned()),
            );
        }
        Some(Action::SetPassword {
            surface,
            current: serve
                .current
                .as_ref()
                .and_then(|c| self.body_source(in_scope, c, FieldRequirement::Secret)),
            new: self.body_source(in_scope, &serve.new, FieldRequirement::Secret)?,
            sessions: serve.sessions,
            grants: self.scopes(&serve.grants),
        })
    }

    fn answer(&self, in_scope: &SourceScope<'_>, serve: &ServeTable, action: &Action) -> AnswerSpec {
        let written = &serve.answer;
        let default = match action {
            Action::Providers(route) if written.body.is_none() => providers::default_answer(route, &answer_names(in_scope, action)),
            _ => None,
        };
        let has_body = written.body.is_some() || default.is_some();
        let status = written.status.as_ref().map_or(if has_body { 200 } else { 204 }, |s| s.value);
        let at = written.status.as_ref().map_or(&written.at, |s| &s.at);
        if !STATUSES.contains(&status) {
            self.report
                .error(at, format!("`status` cannot be {status}"), Some("200, 201, 202 or 204".to_owned()));
        }
        match (&written.body, status) {
            (Some(body), 204) => self.report.error(&body.at, "a 204 has no body", None),
            (None, 200..=202) if default.is_none() => {
                self.report
                    .error(at, format!("{status} needs a `body`"), Some("or 204, which has none".to_owned()))
            }
            (None, _) if says_something(in_scope, action) => self.report.error(
                serve.action.as_ref().map_or(at, |action| &action.at),
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
                .and_then(|body| self.answer_template(in_scope, body, serve, action))
                .or(default),
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
        body: &Located<String>,
        serve: &ServeTable,
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
                let help = if serve.hook.value.is_some() {
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
        Action::List { .. } | Action::ListRoles | Action::ListScopes | Action::Audit | Action::Rotate { .. } => true,
        Action::Revoke { .. }
        | Action::SetRoles { .. }
        | Action::LogOut { .. }
        | Action::SetPassword { .. }
        | Action::SignOn(_)
        | Action::Providers(_) => false,
    }
}

pub(super) fn answer_names(in_scope: &SourceScope<'_>, action: &Action) -> AnswerNames {
    let (subject, surfaces): (AnswerSubject, Vec<SurfaceIndex>) = match action {
        Action::Mint { mints, .. } => (AnswerSubject::Credential, mints.iter().map(|m| m.surface).collect()),
        Action::Revoke { surface, .. } | Action::Rotate { surface, .. } | Action::SetRoles { surface, .. } => {
            (AnswerSubject::Credential, vec![*surface])
        }
        Action::List { surface, .. } => (AnswerSubject::Credentials, vec![*surface]),
        Action::ListRoles | Action::ListScopes => (AnswerSubject::Names, Vec::new()),
        Action::Audit => (AnswerSubject::Entries, Vec::new()),
        Action::Providers(route) => (providers::subject_of(route), Vec::new()),
        Action::LogOut { .. } | Action::SetPassword { .. } | Action::SignOn(_) => (AnswerSubject::None, Vec::new()),
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
            CallerPresence::Present
        } else {
            CallerPresence::Absent
        },
        ..AnswerNames::default()
    }
}
