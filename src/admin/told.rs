//! Receipts and events as the operator API's JSON shows them.

use serde::{Deserialize, Serialize};

use crate::store::{DepartedGateway, EventSubject, LoggedEvent, Receipts};

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
    /// That gateways may have been lost from the list, if they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ruled_out: Option<NotRuledOut>,
    /// What is not known, in words.
    pub doubts: Vec<String>,
}

/// Gateways that nobody can name: the list of gateways may have lost some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRuledOut {
    /// They were listed before this moment, RFC 3339, by the store's clock ...
    pub listed_before: String,
    /// ... and have stopped acting on what they read then by this one.
    pub stopped_by: String,
}

impl NotRuledOut {
    pub(super) fn of(receipts: &Receipts) -> Option<Self> {
        receipts.not_ruled_out().map(|(before, stopped)| Self {
            listed_before: times::write(before),
            stopped_by: times::write(stopped),
        })
    }
}

impl std::fmt::Display for NotRuledOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "gateways listed before {} cannot be ruled out; they have stopped by {}",
            self.listed_before, self.stopped_by
        )
    }
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
    /// Who is no longer registered and may still act on what it read before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<DepartedView>,
    /// That gateways may have been lost from the list, if they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ruled_out: Option<NotRuledOut>,
}

/// An earlier process of an id, a gateway that was silent for an hour, or an entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepartedView {
    /// Its id, or what stands in the list instead of one, made printable.
    pub id: String,
    /// When it was last heard of, RFC 3339, by the store's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heard_at: Option<String>,
    /// When it must have stopped, RFC 3339, by the store's clock.
    pub stopped_by: String,
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

impl From<&DepartedGateway> for DepartedView {
    fn from(departed: &DepartedGateway) -> Self {
        Self {
            id: departed.shown.clone(),
            last_heard_at: departed.heard_at.map(times::write),
            stopped_by: times::write(departed.stopped_by),
        }
    }
}

impl From<&LoggedEvent> for EventView {
    fn from(event: &LoggedEvent) -> Self {
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
