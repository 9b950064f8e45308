//! What a served route does: the resolved configuration that `config` builds and `issue` runs. It is data only.
//!
//! All of it was checked when the configuration was loaded: indices point into the same snapshot, path parameters and
//! body fields exist, surfaces are of the right kind. If a check still fails at run time, the answer is
//! [`Denial::Internal`](crate::base::denial::Denial::Internal).

use std::time::Duration;

use crate::base::scope::{Mode, ScopeSet};
use crate::decide::method::Method;
use crate::decide::route::UpstreamIndex;
use crate::decide::surface::SurfaceIndex;
use crate::dialect::answer::AnswerTemplate;

use super::body_schema::BodySchema;
use super::provider_route::ProviderRoute;
use super::sign_on_route::SignOnRoute;

/// A served route: it reads a body, acts, and answers.
#[derive(Debug)]
pub struct ServedRoute {
    pub action: Action,
    /// The schema of the body.
    pub body: BodySchema,
    pub answer: AnswerSpec,
    /// A request to a service before or after the action.
    pub hook: Option<Hook>,
}

#[derive(Debug)]
pub enum Action {
    /// Makes credentials in order, all of them or none.
    Mint {
        tenant: TenantSource,
        /// The credentials to make, in order; never empty.
        mints: Vec<Mint>,
        /// The index into `mints` of the session that is set as a cookie.
        cookie: Option<usize>,
    },
    /// Lists records of a surface, the newest first, without their secrets.
    List { surface: SurfaceIndex, reach: Reach },
    /// Ends a record for ever, with every record below it.
    Revoke {
        surface: SurfaceIndex,
        id: ValueSource,
        /// Which records may be ended.
        reach: Reach,
        /// Scopes that a record may hold although the caller lacks them.
        grants: ScopeSet,
    },
    /// Makes a credential with the rights of an existing one. The old one ends after `grace`, or goes on until it is
    /// revoked.
    Rotate {
        surface: SurfaceIndex,
        id: ValueSource,
        /// Which records may be rotated.
        reach: Reach,
        /// How long the old credential goes on; `None`: until it is revoked.
        grace: Option<Duration>,
        /// Scopes that the record may hold although the caller lacks them.
        grants: ScopeSet,
    },
    /// Replaces the roles of a record. Neither the old ones nor the new ones hold a scope that the caller lacks.
    SetRoles {
        surface: SurfaceIndex,
        id: ValueSource,
        /// The body field with the list of role ids.
        roles: String,
        /// Which records may be changed.
        reach: Reach,
        /// Scopes that the record and its new roles may hold although the caller lacks them.
        grants: ScopeSet,
    },
    /// Lists the roles of the configuration and of the caller's tenant.
    ListRoles,
    /// Lists the scopes that the configuration's routes and roles know, and the roles of the caller's tenant.
    ListScopes,
    /// Lists the entries of the audit trail that are of the caller's tenant, the newest first.
    Audit,
    /// Ends the caller's session, or all sessions of its parent, and removes the cookie.
    LogOut { extent: Extent },
    /// Changes the password of the caller's account.
    SetPassword {
        surface: SurfaceIndex,
        /// The body field with the present password, which is checked first. `None` only if the caller proved it in
        /// this very request, by the password field of the account surface.
        current: Option<String>,
        /// The body field with the new password.
        new: String,
        /// What happens to the sessions of the account.
        sessions: Sessions,
        /// Scopes that the account may hold although the caller lacks them.
        grants: ScopeSet,
    },
    /// A step of single sign-on.
    SignOn(Box<SignOnRoute>),
    /// An operation on the identity providers of the caller's tenant.
    Providers(Box<ProviderRoute>),
}

impl Action {
    #[must_use]
    pub fn mints(&self) -> &[Mint] {
        match self {
            Self::Mint { mints, .. } => mints,
            Self::SignOn(route) => route.step.mints(),
            Self::List { .. }
            | Self::Revoke { .. }
            | Self::Rotate { .. }
            | Self::SetRoles { .. }
            | Self::ListRoles
            | Self::ListScopes
            | Self::Audit
            | Self::LogOut { .. }
            | Self::SetPassword { .. }
            | Self::Providers(_) => &[],
        }
    }

    /// Whether the action changes anything. If it does, the route needs a method that may change something.
    ///
    /// A sign-on is begun and finished by a GET of the browser. What it changes is bound to that browser by a cookie
    /// of its own, so that no page of another site can finish one (docs/threats.md B4).
    #[must_use]
    pub fn changes(&self) -> bool {
        match self {
            Self::List { .. } | Self::ListRoles | Self::ListScopes | Self::Audit => false,
            Self::SignOn(route) => route.step.method() != "GET",
            Self::Providers(route) => route.operation.changes(),
            Self::Mint { .. }
            | Self::Revoke { .. }
            | Self::Rotate { .. }
            | Self::SetRoles { .. }
            | Self::LogOut { .. }
            | Self::SetPassword { .. } => true,
        }
    }

    /// The step of single sign-on, if it is one.
    #[must_use]
    pub fn sign_on(&self) -> Option<&SignOnRoute> {
        match self {
            Self::SignOn(route) => Some(route),
            _ => None,
        }
    }
}

/// The tenant of the new credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantSource {
    Caller,
    /// The caller's tenant. This path parameter must name it; another name is 403 `foreign_tenant`.
    CallerNamed(String),
    /// A new tenant with a generated id, made in the same step (sign-up). Only on public routes.
    New,
}

/// Where a value comes from. In TOML: `path.id`, `body.role`, `caller.id`, `caller.claims.tid`,
/// `parent.login`, or a constant as `"=text"` or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    Constant(TextOrList),
    Path(String),
    /// A body field. It has no value if the field is optional and absent.
    Body(String),
    Caller(RecordFact),
    /// A fact about the parent of the new record.
    Parent(RecordFact),
}

/// A fact about the record of the caller or of the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFact {
    Id,
    /// Its subject (of a token: its `sub`).
    Subject,
    Tenant,
    /// Its mode, as a word.
    Mode,
    /// The scopes that the record may use, as a list.
    Scopes,
    Login,
    Name,
    /// A claim of its record.
    Claim(String),
}

/// A text or a list of texts: what claims, fields and constants hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOrList {
    Text(String),
    List(Vec<String>),
}

/// One credential to make.
#[derive(Debug, Clone)]
pub struct Mint {
    /// The surface: of keys, pairs, accounts or session tokens. A session surface with `record = Sub` makes a token
    /// without a record, whose `sub` is its parent. All others make a record.
    pub surface: SurfaceIndex,
    /// The parent of the new record: it ends when the parent ends.
    pub parent: ParentSource,
    pub subject: Option<ValueSource>,
    pub name: Option<ValueSource>,
    pub description: Option<ValueSource>,
    /// The e-mail address of an account. If the surface has it already: 409 `taken`.
    pub login: Option<ValueSource>,
    /// The password of an account. It is hashed and never shown.
    pub password: Option<ValueSource>,
    /// The mode. If the caller has a mode, it is the same.
    pub mode: ModeSource,
    /// The scopes. Each must be among the caller's or in `grants`; otherwise 403 `insufficient_scope`.
    pub scopes: ScopeSource,
    /// Scopes that this route may give although the caller lacks them. They belong to the new record itself, whatever
    /// happens to its parent.
    pub grants: ScopeSet,
    /// The ids of the roles, whose scopes are checked like `scopes`. `None`: no role.
    pub roles: Option<ValueSource>,
    /// The claims of the record. A session token carries them too.
    pub claims: Vec<(String, ValueSource)>,
    pub lifetime: MintLifetime,
    /// The record ends after this time without use. `lifetime` is then the absolute limit.
    pub idle: Option<Duration>,
}

/// What a new record hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParentSource {
    None,
    Caller,
    /// The parent of the caller's record.
    CallersParent,
    /// The person who signs on.
    Person,
    /// A record that this call made before: an index into the mints, smaller than the own one.
    Minted(usize),
    /// A record of the caller's tenant that is in force; otherwise 404 `not_found`.
    Record {
        surface: SurfaceIndex,
        id: ValueSource,
    },
}

/// Where a new credential's mode comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeSource {
    /// The caller's mode, or none if the caller has none.
    Caller,
    /// The caller's mode, or this mode for a caller without one.
    CallerOr(Mode),
    /// The value of a source: `test` or `live`.
    From(ValueSource),
    Unset,
}

/// Where a new credential's scopes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeSource {
    Caller,
    /// The value of a source: a list, or one text with spaces.
    From(ValueSource),
    /// These scopes, as far as the caller holds them or `grants` names them.
    Fixed(ScopeSet),
    None,
}

/// How long a new credential lives; never longer than its parent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MintLifetime {
    /// The lifetime unless the caller asks for another; `None`: without end, which session surfaces do not allow.
    pub default: Option<Duration>,
    /// The longest lifetime that may be asked for. A longer one is an error of the field.
    pub max: Option<Duration>,
    /// The body field, of kind integer, in which the caller asks for a lifetime in whole seconds.
    pub from: Option<ValueSource>,
}

/// The records that an action may name. A record out of reach looks as if it did not exist (404). If the path names
/// another tenant, the answer is 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The records of the caller's tenant.
    Tenant,
    /// The records of the caller's tenant. This path parameter must name it (403 `foreign_tenant`).
    TenantNamed(String),
    /// The records of the caller's tenant whose claim has this value.
    Claim { claim: String, from: ValueSource },
    /// The records of the caller's tenant whose parent is the caller's record.
    Children,
}

/// How far a log-out goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    This,
    /// Every session of the same parent.
    Everywhere,
}

/// What happens to the sessions of an account when its password changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    Kept,
    /// All sessions end, the caller's too.
    Ended,
}

/// The answer to a successful action. `Cache-Control: no-store` is always added.
#[derive(Debug)]
pub struct AnswerSpec {
    /// The status: 200, 201, 202 or 204. A step of single sign-on chooses its own.
    pub status: u16,
    /// The body; `None`, and always with 204: no body. It is rendered before anything is stored, so that an answer
    /// that cannot be rendered makes nothing.
    pub body: Option<AnswerTemplate>,
    /// Further header fields, as they are sent.
    pub headers: Vec<(String, String)>,
}

/// A request to a service before or after the action of a served route.
#[derive(Debug)]
pub struct Hook {
    pub when: When,
    pub upstream: UpstreamIndex,
    pub method: Method,
    pub path: Vec<PathPart>,
    /// The body; `None`: no body.
    pub body: Option<AnswerTemplate>,
    /// The time that the service has, from the wait for a connection to the last byte of its answer.
    pub deadline: Duration,
    /// What a failure of the hook means.
    pub on_failure: OnFailure,
    /// The members of the service's answer that the template may use.
    pub fields: HookFields,
}

/// When a hook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before anything is made or changed. The service may refuse, and the template may use its answer.
    Before,
    /// After everything was made or changed, to tell the service.
    After,
}

/// What the failure of a hook means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The call is refused, and records that were made already are revoked.
    Refuse,
    /// The call goes on as if the service had not answered.
    GoOn,
}

/// A part of a hook's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPart {
    Fixed(String),
    Value(HookValue),
}

/// The value of a segment of a hook's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookValue {
    Source(ValueSource),
    /// The id of the record that was made or changed last.
    Credential,
}

/// The members of a service's answer that the template may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookFields {
    /// None: the answer is not used.
    Unused,
    Whole,
    /// These members, with dots for nested ones. A missing member is `null`.
    Named(Vec<String>),
}
