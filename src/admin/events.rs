//! The events of the store with who caused them, as the audit trail of this gateway has it.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::changes::{ChangeWindow, RecordedChange, RecordedChanges};
use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::store::receipts::MAX_EVENTS;
use crate::store::{EventSubject, LoggedEvent};

use super::Operations;
use super::error::OperationError;
use super::text::write;

/// How far the clock of the store may be from ours, after what is known of the difference.
const SKEW: Duration = Duration::from_secs(2);

/// How old an event must be in a settled list: its entry reaches the file of the trail a little later.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventList {
    /// The gateway that answers.
    #[serde(default)]
    pub gateway: String,
    /// The name of the history of the store. Positions of two histories cannot be compared.
    pub history: String,
    pub position: u64,
    /// The position of the oldest event that is still in the store.
    pub oldest: Option<u64>,
    /// First and last position of requested events that the store does not have any more.
    pub trimmed: Option<(u64, u64)>,
    /// The oldest one stands first.
    pub events: Vec<EventView>,
    /// Why `who` may be missing: what could not be read of the trail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One event. It says which record changed; the record itself says how it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// The store's position after the change.
    pub position: u64,
    /// When, RFC 3339, by the store's clock.
    pub at: Option<String>,
    /// `credential` (key, account, token, session), `tenant` or `role`.
    pub kind: String,
    /// The id of what changed.
    pub id: String,
    /// Who changed it, as the audit trail of this gateway has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Value>,
    /// What that was: `keys.revoke`, or `mint` of a served route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The gateway through which it was changed, if that is known. Its trail tells who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The number of the entry in the trail of that gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The request that changed it, if a served route did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
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
            at: event.at.map(write),
            kind: kind.into(),
            id: id.into(),
            who: None,
            action: None,
            gateway: event.gateway.as_ref().map(|gateway| gateway.as_str().to_owned()),
            seq: None,
            request_id: None,
        }
    }
}

/// What the store knows of its clock and of other gateways.
#[derive(Default)]
struct EventContext {
    /// How far the clock of the store is ahead of ours, in milliseconds.
    ahead: i64,
    /// The other registered gateways. An id that is not among them may be one that this gateway had before a restart.
    others: Vec<GatewayId>,
}

/// The changes of a trail by the records that they changed.
struct ChangesByRecord<'c>(HashMap<&'c str, Vec<&'c RecordedChange>>);

impl<'c> ChangesByRecord<'c> {
    fn of(changes: &'c [RecordedChange]) -> Self {
        let mut by_record = HashMap::<&str, Vec<&RecordedChange>>::new();
        for change in changes {
            for target in &change.targets {
                by_record.entry(target).or_default().push(change);
            }
        }
        Self(by_record)
    }

    /// The change that was going on when the store wrote an event about this record; of several the shortest, since a long
    /// one waits for receipts most of its time.
    fn find(&self, record: &str, at: UnixMillis) -> Option<&'c RecordedChange> {
        let away = |change: &RecordedChange| (change.begun.0 - at.0).max(at.0 - change.ended.0).max(0);
        let near = self.0.get(record)?.iter().copied();
        near.filter(|change| u128::from(away(change).unsigned_abs()) <= SKEW.as_millis())
            .min_by_key(|change| (away(change), change.ended.0 - change.begun.0))
    }
}

impl Operations {
    /// Events after a position, or the newest, with who caused them. A settled list ends before events that are so new that the
    /// trail may not have their entries yet.
    ///
    /// # Errors
    /// [`OperationError`]: an error of the store.
    pub async fn list_events(&self, after: Option<u64>, limit: Option<usize>, settled: bool) -> Result<EventList, OperationError> {
        let mut page = self.read_events(after, limit.unwrap_or(MAX_EVENTS)).await?;
        let trimmed = after.and_then(|after| page.trimmed(after));
        let around = self.context(&page.events).await;
        let own = |at: UnixMillis| UnixMillis(at.0.saturating_sub(around.ahead));
        if settled && self.trail.is_some() {
            let now = self.clock.now().wall;
            // An event that seems to come from the future is told at once: the clocks differ by more than is known.
            let is_new = |at: UnixMillis| own(at) <= now && own(at).plus(SETTLED) > now;
            let end = page.events.iter().position(|event| event.at.is_some_and(is_new));
            page.events.truncate(end.unwrap_or(page.events.len()));
        }
        let RecordedChanges { changes, problems } = self.changes_of(&page.events, around.ahead).await;
        let by_record = ChangesByRecord::of(&changes);
        let view = |event: &LoggedEvent| {
            let view = EventView::from(event);
            // What another gateway did is not in this trail, even if something was done here at the same moment.
            let elsewhere = event.gateway.as_ref().is_some_and(|gateway| around.others.contains(gateway));
            match event.at.filter(|_| !elsewhere).and_then(|at| by_record.find(&view.id, own(at))) {
                Some(change) => EventView {
                    who: Some(change.who.clone()),
                    action: Some(change.action.clone()),
                    gateway: Some(change.gateway.clone()),
                    seq: Some(change.seq),
                    request_id: change.request_id.clone(),
                    ..view
                },
                None => view,
            }
        };
        Ok(EventList {
            gateway: self.gateway.id.as_str().to_owned(),
            trimmed,
            events: page.events.iter().map(view).collect(),
            history: page.head.history,
            position: page.head.count,
            oldest: page.oldest,
            problems,
        })
    }

    async fn context(&self, events: &[LoggedEvent]) -> EventContext {
        if self.trail.is_none() || events.is_empty() {
            return EventContext::default();
        }
        let Ok(receipts) = self.read_receipts().await else {
            return EventContext::default();
        };
        let listed = receipts.gateways.into_iter().map(|receipt| receipt.id);
        EventContext {
            ahead: receipts.now.0.saturating_sub(self.clock.now().wall.0),
            others: listed.filter(|id| *id != self.gateway.id).collect(),
        }
    }

    /// What the trail has of the time of these events.
    async fn changes_of(&self, events: &[LoggedEvent], ahead: i64) -> RecordedChanges {
        let times = || events.iter().filter_map(|event| event.at);
        let (Some(trail), Some(first), Some(last)) = (self.trail.clone(), times().min(), times().max()) else {
            return RecordedChanges::default();
        };
        let skew = i64::try_from(SKEW.as_millis()).unwrap_or(0);
        let window = ChangeWindow {
            since: UnixMillis(first.0.saturating_sub(ahead).saturating_sub(skew)),
            until: UnixMillis(last.0.saturating_sub(ahead).saturating_add(skew)),
        };
        let read = tokio::task::spawn_blocking(move || trail.find_changes(window)).await;
        read.unwrap_or_else(|_| Err("reading it ended by a defect".into()))
            .unwrap_or_else(|why| RecordedChanges {
                changes: Vec::new(),
                problems: vec![why],
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(target: &str, begun: i64, ended: i64) -> RecordedChange {
        RecordedChange {
            gateway: "edge-1".into(),
            seq: u64::try_from(begun).unwrap(),
            who: Value::Null,
            action: String::new(),
            request_id: None,
            targets: vec![target.to_owned()],
            begun: UnixMillis(begun),
            ended: UnixMillis(ended),
        }
    }

    #[test]
    fn an_event_belongs_to_the_change_that_was_going_on() {
        let changes = [
            change("key_1", 100_000, 125_000),
            change("key_1", 101_000, 101_100),
            change("key_2", 101_000, 101_100),
        ];
        let by_record = ChangesByRecord::of(&changes);
        let found = |record, at| by_record.find(record, UnixMillis(at)).map(|change| change.seq);
        assert_eq!(found("key_1", 100_010), Some(100_000), "it waits for receipts meanwhile");
        assert_eq!(found("key_1", 101_050), Some(101_000));
        assert_eq!(found("key_2", 101_050), Some(101_000));
        assert_eq!(found("key_2", 99_000), Some(101_000), "the clocks differ a little");
        assert_eq!(found("key_2", 98_999), None);
        assert_eq!(found("key_2", 103_101), None);
        assert_eq!(found("key_3", 101_050), None);
    }
}
