//! What an issuer does, as configuration says it: data only, built by `config`, run by this module.
//!
//! Everything here was checked at load: indices point into the same snapshot, path parameters and
//! body fields exist, surfaces are of the right kind. What is found wrong at run time all the same
//! is answered as [`Denial::Internal`](crate::base::denial::Denial::Internal), never guessed at.

use std::time::Duration;

use crate::base::scope::{Mode, ScopeSet};
use crate::decide::method::Method;
use crate::decide::route::UpstreamIndex;
use crate::decide::surface::SurfaceIndex;
use crate::dialect::answer::AnswerTemplate;

use super::body_schema::BodySchema;

/// What a served route does: reads a body, acts, answers.
#[derive(Debug)]
pub struct ServedRoute {
    pub action: Action,
    /// What its body may hold.
    pub body: BodySchema,
    pub answer: AnswerSpec,
    /// What it asks a service before, or tells it after.
    pub hook: Option<Hook>,
}

#[derive(Debug)]
pub enum Action {
    /// Makes credentials in order, all of them or none.
    Mint {
        tenant: TenantSource,
        /// What is made; never empty.
        mints: Vec<Mint>,
        /// Which of them (index into `mints`, a session surface with a cookie) is set as a cookie.
        cookie: Option<usize>,
    },
    /// Lists records of a surface, the newest first; never with a secret.
    List { surface: SurfaceIndex, reach: Reach },
    /// Ends a record for ever, and everything that hangs on it.
    Revoke {
        surface: SurfaceIndex,
        id: ValueSource,
        /// Which records may be ended.
        reach: Reach,
        /// Scopes that a record may hold although the caller lacks them.
        grants: ScopeSet,
    },
    /// Makes a credential like the named one; the old one ends after `grace`, or goes on until it is
    /// revoked.
    Rotate {
        surface: SurfaceIndex,
        id: ValueSource,
        /// Which records may be rotated.
        reach: Reach,
        /// How long the old one goes on; `None`: until it is revoked.
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
    /// Ends the caller's session, or all sessions of what it hangs on; removes its cookie.
    LogOut { extent: Extent },
    /// Changes the password of the account that the caller is, or hangs on.
    SetPassword {
        surface: SurfaceIndex,
        /// The body field with the present password, proven first; `None` only where the caller
        /// proved it in this very request (the account surface's own password field).
        current: Option<String>,
        /// The body field with the new one.
        new: String,
        /// What becomes of the account's sessions.
        sessions: Sessions,
        /// Scopes that the account may hold although the caller lacks them.
        grants: ScopeSet,
    },
}

impl Action {
    #[must_use]
    pub fn mints(&self) -> &[Mint] {
        match self {
            Self::Mint { mints, .. } => mints,
            Self::List { .. }
            | Self::Revoke { .. }
            | Self::Rotate { .. }
            | Self::SetRoles { .. }
            | Self::ListRoles
            | Self::ListScopes
            | Self::LogOut { .. }
            | Self::SetPassword { .. } => &[],
        }
    }

    /// Whether it changes anything, and so needs a method that may.
    #[must_use]
    pub const fn changes(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::ListRoles | Self::ListScopes)
    }
}

/// Whose the new credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantSource {
    Caller,
    /// The caller's tenant, which this path parameter must name (another one: 403 `foreign_tenant`).
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
    /// A body field; nothing when the field is optional and absent.
    Body(String),
    Caller(RecordFact),
    /// That of the record the new one hangs on.
    Parent(RecordFact),
}

/// What can be asked of a caller or of a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFact {
    Id,
    /// Its subject (of a token: its `sub`).
    Subject,
    Tenant,
    /// Its mode, as a word.
    Mode,
    /// The scopes that count, as a list.
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

/// One credential that is made.
#[derive(Debug, Clone)]
pub struct Mint {
    /// On this surface: keys, pairs, accounts or session tokens. A session surface with
    /// `record = Sub` makes a token alone, whose `sub` is its parent; all others make a record.
    pub surface: SurfaceIndex,
    /// What it hangs on, and ends with.
    pub parent: ParentSource,
    pub subject: Option<ValueSource>,
    pub name: Option<ValueSource>,
    pub description: Option<ValueSource>,
    /// Of an account: its e-mail address. Taken within the surface: 409 `taken`.
    pub login: Option<ValueSource>,
    /// Of an account: its password, which is hashed and never shown.
    pub password: Option<ValueSource>,
    /// Its mode. Never another than the caller's, if the caller has one.
    pub mode: ModeSource,
    /// Its scopes, within the caller's and `grants`; otherwise 403 `insufficient_scope`.
    pub scopes: ScopeSource,
    /// Scopes this route may give although the caller lacks them: the operator's word. They are the new
    /// record's own, whatever becomes of its parent.
    pub grants: ScopeSet,
    /// Ids of its roles, whose scopes count as `scopes` do. `None`: no role.
    pub roles: Option<ValueSource>,
    /// Its claims: kept on the record, and written into a session token.
    pub claims: Vec<(String, ValueSource)>,
    pub lifetime: Lifetime,
    /// It ends after so long without use; its lifetime is then the absolute limit.
    pub idle: Option<Duration>,
}

/// What a new record hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParentSource {
    None,
    Caller,
    /// What the caller's record hangs on.
    CallersParent,
    /// One that this issuer made before (index into the mints, smaller than its own).
    Minted(usize),
    /// A record of the caller's tenant, in force; otherwise 404 `not_found`.
    Record {
        surface: SurfaceIndex,
        id: ValueSource,
    },
}

/// Where a new credential's mode comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeSource {
    /// The caller's (none if the caller has none).
    Caller,
    /// The caller's, or this one for a caller without a mode.
    CallerOr(Mode),
    /// From a value, `test` or `live`.
    From(ValueSource),
    Unset,
}

/// Where a new credential's scopes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeSource {
    Caller,
    /// A list (or one text with spaces) from a value.
    From(ValueSource),
    /// The operator's word; still only what the caller holds or `grants` names.
    Fixed(ScopeSet),
    None,
}

/// How long a new credential lives. Never beyond what it hangs on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// Unless the caller says; `None`: without end (not on session surfaces).
    pub default: Option<Duration>,
    /// The longest that may be asked for; more is a validation error of the field.
    pub max: Option<Duration>,
    /// Where the caller says it, in whole seconds; must be a body field of kind integer.
    pub from: Option<ValueSource>,
}

/// Which records an action may touch. What is out of reach looks as if it were not there (404),
/// except another tenant that is named, which is 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Those of the caller's tenant.
    Tenant,
    /// Those of the caller's tenant, which this path parameter must name (403 `foreign_tenant`).
    TenantNamed(String),
    /// Those of the caller's tenant whose claim has this value.
    Claim { claim: String, from: ValueSource },
    /// Those of the caller's tenant that hang on the caller's record.
    Children,
}

/// How far a log-out goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    This,
    /// Every session of the record it hangs on.
    Everywhere,
}

/// What becomes of an account's sessions when its password changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    Kept,
    /// All end, the caller's too.
    Ended,
}

/// What is answered when the action succeeded. `Cache-Control: no-store` is always added.
#[derive(Debug)]
pub struct AnswerSpec {
    /// The status: 200, 201, 202 or 204.
    pub status: u16,
    /// The body; `None` (and always with 204): none. Rendered before anything is stored, so that an
    /// answer that cannot be written makes nothing.
    pub body: Option<AnswerTemplate>,
    /// Fields besides, as they are sent.
    pub headers: Vec<(String, String)>,
}

/// One request to a service, before or after the step of an issuer.
#[derive(Debug)]
pub struct Hook {
    pub when: When,
    pub upstream: UpstreamIndex,
    pub method: Method,
    pub path: Vec<PathPart>,
    /// Its body; `None`: none.
    pub body: Option<AnswerTemplate>,
    /// How long the service has, from the wait for a connection to the last byte of its answer.
    pub deadline: Duration,
    /// What it means that it failed.
    pub on_failure: OnFailure,
    /// Which members of the service's answer are kept.
    pub fields: HookFields,
}

/// When a hook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before anything is made or changed: the service may refuse, and its answer can be used.
    Before,
    /// When it was made or changed: the service is told.
    After,
}

/// What the failure of a hook means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The call is refused; what was made already is ended again.
    Refuse,
    /// The call goes on as if the service knew nothing.
    GoOn,
}

/// A part of a hook's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPart {
    Fixed(String),
    Value(HookValue),
}

/// What a segment of a hook's path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookValue {
    Source(ValueSource),
    /// The id of what was made or changed last.
    Credential,
}

/// Which members of a service's answer are kept for the answer's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookFields {
    /// None: it is not used.
    Unused,
    Whole,
    /// These, with dots for members of members; what is not there is `null`.
    Named(Vec<String>),
}
