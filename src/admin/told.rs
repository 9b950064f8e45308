//! Receipts and events as the operator API's JSON shows them.

use serde::{Deserialize, Serialize};

use crate::store::{EventSubject, ToldEvent};

use super::times;

/// A change, and what the gateways say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited<T> {
    /// What the change answers without waiting; none when it was made and cannot be answered.
    pub result: Option<T>,
    /// Every registered gateway has applied it, and nothing is in doubt.
    pub confirmed: bool,
    /// When the store acknowledged it, RFC 3339, by this machine's clock.
    pub acknowledged_at: String,
    /// The gateways in order of id; none when they are not known.
    pub gateways: Option<Vec<Told>>,
    /// What is not known, in words.
    pub doubts: Vec<String>,
}

/// What one gateway says of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// It has said that it applied the change.
    pub confirmed: bool,
    /// When it said so, in milliseconds after the change, both by the store's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// When it must have stopped acting on what was before, whatever it hears, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
    /// How long ago it said anything, if it is registered and did not confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms_ago: Option<u64>,
}

/// The gateways of this store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayList {
    /// The store's position.
    pub position: u64,
    /// In order of id.
    pub gateways: Vec<GatewayView>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayView {
    /// Its id.
    pub id: String,
    /// It is the one that answers.
    pub this: bool,
    /// Its version.
    pub version: String,
    /// `current`: it has applied everything. `behind`: it has not. `silent`: it was not heard of for
    /// six seconds.
    pub state: String,
    /// What its event reader does: `live`, `catching_up`, `lost`.
    pub reader: String,
    /// The position it has applied.
    pub position: u64,
    /// Changes it has not applied; none when it stands in another history.
    pub behind: Option<u64>,
    /// When it was last heard of, RFC 3339, by the store's clock.
    pub last_heard_at: String,
    /// The same as milliseconds.
    pub heard_ms_ago: u64,
    /// How long after a change it may at most act on what was before, in milliseconds.
    pub bound_ms: u64,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// The name of the store's history: positions count within one.
    pub history: String,
    /// The store's position.
    pub position: u64,
    /// The oldest event kept.
    pub oldest: Option<u64>,
    /// First and last of those asked for that are not kept any more.
    pub trimmed: Option<(u64, u64)>,
    /// Oldest first.
    pub events: Vec<EventView>,
}

/// One event: what changed. What it is now is read from where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// The store's position after the change.
    pub position: u64,
    /// When, RFC 3339, by the store's clock.
    pub at: Option<String>,
    /// `credential` (key, account, token, session), `tenant` or `role`.
    pub kind: String,
    /// The id of what changed.
    pub id: String,
}

impl From<&ToldEvent> for EventView {
    fn from(event: &ToldEvent) -> Self {
        let (kind, id) = match &event.subject {
            EventSubject::Credential { id, .. } => ("credential", id.as_str()),
            EventSubject::Tenant { id } => ("tenant", id.as_str()),
            EventSubject::Role { id } => ("role", id.as_str()),
        };
        Self {
            position: event.count,
            at: event.at.map(times::write),
            kind: kind.into(),
            id: id.into(),
        }
    }
}
