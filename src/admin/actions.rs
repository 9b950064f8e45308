//! Which calls of the operator API change something, and what each is called in the audit trail.

use ::http::Method;
use serde_json::Value;

use crate::base::ids::is_valid_id;

use super::http::AdminCall;

/// An operation that changes something, or shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OperatorAction {
    /// Its name in the trail: `keys.revoke`.
    pub(super) name: &'static str,
    pub(super) target: ActionTarget,
    pub(super) effect: ActionEffect,
}

/// What an action is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ActionTarget {
    Credential(String),
    Tenant(String),
    Role(String),
    Pepper(String),
    /// A record that does not exist before the action.
    New(NewRecordKind),
    /// The whole gateway.
    Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewRecordKind {
    Credential,
    Tenant,
    Role,
}

/// Whether an action may be refused for want of an audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActionEffect {
    /// It only takes something away. It is never refused: a leaked key must end also while the disk is full.
    Restricts,
    /// It shows a secret and changes nothing.
    Reveals,
    Other,
}

impl OperatorAction {
    /// The action of a call; `None` for a call that only reads.
    pub(super) fn of(call: &AdminCall) -> Option<Self> {
        use ActionEffect::{Other, Restricts, Reveals};
        use NewRecordKind as New;
        let path: Vec<&str> = call.uri.path().split('/').skip(1).collect();
        let credential = |id: &str| ActionTarget::Credential(id.to_owned());
        let tenant = |id: &str| ActionTarget::Tenant(id.to_owned());
        let role = |id: &str| ActionTarget::Role(id.to_owned());
        let (name, target, effect) = match path.as_slice() {
            ["v1", "keys", id, "secret"] if call.method == Method::GET => ("keys.reveal", credential(id), Reveals),
            _ if call.method != Method::POST => return None,
            ["v1", "tenants"] => ("tenants.create", ActionTarget::New(New::Tenant), Other),
            ["v1", "tenants", id, "enable"] => ("tenants.enable", tenant(id), Other),
            ["v1", "tenants", id, "disable"] => ("tenants.disable", tenant(id), Restricts),
            ["v1", "keys"] => ("keys.create", ActionTarget::New(New::Credential), Other),
            ["v1", "keys", "import"] => ("keys.import", ActionTarget::New(New::Credential), Other),
            ["v1", "keys", id, "rotate"] => ("keys.rotate", credential(id), Other),
            ["v1", "keys", id, "enable"] => ("keys.enable", credential(id), Other),
            ["v1", "keys", id, "disable"] => ("keys.disable", credential(id), Restricts),
            ["v1", "keys", id, "revoke"] => ("keys.revoke", credential(id), Restricts),
            ["v1", "accounts"] => ("accounts.create", ActionTarget::New(New::Credential), Other),
            ["v1", "accounts", id, "password"] => ("accounts.password", credential(id), Other),
            ["v1", "accounts", id, "enable"] => ("accounts.enable", credential(id), Other),
            ["v1", "accounts", id, "disable"] => ("accounts.disable", credential(id), Restricts),
            ["v1", "accounts", id, "revoke"] => ("accounts.revoke", credential(id), Restricts),
            ["v1", "providers"] => ("providers.create", ActionTarget::New(New::Credential), Other),
            ["v1", "providers", id] => ("providers.update", credential(id), Other),
            ["v1", "providers", id, "enable"] => ("providers.enable", credential(id), Other),
            ["v1", "providers", id, "disable"] => ("providers.disable", credential(id), Restricts),
            ["v1", "providers", id, "delete"] => ("providers.delete", credential(id), Restricts),
            ["v1", "roles"] => ("roles.create", ActionTarget::New(New::Role), Other),
            ["v1", "roles", id] => ("roles.set", role(id), Other),
            ["v1", "roles", id, "delete"] => ("roles.delete", role(id), Restricts),
            ["v1", "sessions", "of", id, "revoke"] => ("sessions.revoke_of", credential(id), Restricts),
            ["v1", "sessions", id, "revoke"] => ("sessions.revoke", credential(id), Restricts),
            ["v1", "peppers", "move"] => ("peppers.move", ActionTarget::Gateway, Other),
            ["v1", "peppers", mark, "drop"] => ("peppers.drop", ActionTarget::Pepper((*mark).to_owned()), Other),
            ["v1", "drill"] => ("drill.begin", ActionTarget::New(New::Credential), Other),
            ["v1", "drill", "end"] => ("drill.end", credential(&named_in(call, "id").unwrap_or_default()), Restricts),
            ["v1", "reload"] => ("configuration.reload", ActionTarget::Gateway, Other),
            _ => return None,
        };
        Some(Self { name, target, effect })
    }
}

/// A member of the body, if it could be an id.
pub(super) fn named_in(call: &AdminCall, member: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(&call.body).ok()?;
    body.get(member)?.as_str().filter(|id| is_valid_id(id)).map(str::to_owned)
}
