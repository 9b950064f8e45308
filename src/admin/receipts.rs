//! Who has applied a change: waits for the receipts of all gateways and says what is known.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::base::clock::{Now, UnixMillis};
use crate::base::ids::{CredentialId, GatewayId, RoleId, TenantId};
use crate::store::receipts::MAX_EVENTS;
use crate::store::{Departed, EventPage, EventSubject, Receipt, Receipts, Standing, StoreError, ToldEvent};

use super::Operations;
use super::error::OperationError;
use super::text::{parse_id, parse_role_id, parse_tenant, write};

/// Longest wait for receipts: within what an operation may take at all.
pub const MAX_WAIT: Duration = Duration::from_secs(25);

/// First and longest pause between two looks at the receipts. Times come from the receipts, so a look
/// that comes late measures nothing wrong.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Longest wait for one answer about receipts.
const ANSWER: Duration = Duration::from_secs(3);

/// Newest events that are searched for the one a change made: hundreds would have to be made by others
/// in the same milliseconds for it not to be among them.
const SEARCHED: usize = 200;

/// What a change was about, as its event tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A credential.
    Credential(CredentialId),
    /// A tenant.
    Tenant(TenantId),
    /// A role.
    Role(RoleId),
}

impl About {
    /// A credential of this id.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for what is no id.
    pub fn credential(id: &str) -> Result<Self, OperationError> {
        parse_id(id).map(Self::Credential)
    }

    pub(crate) fn tenant(id: &str) -> Result<Self, OperationError> {
        parse_tenant(id).map(Self::Tenant)
    }

    pub(crate) fn role(id: &str) -> Result<Self, OperationError> {
        parse_role_id(id).map(Self::Role)
    }

    fn is_told_by(&self, event: &ToldEvent) -> bool {
        match (self, &event.subject) {
            (Self::Credential(id), EventSubject::Credential { id: told, .. }) => id == told,
            (Self::Tenant(id), EventSubject::Tenant { id: told }) => id == told,
            (Self::Role(id), EventSubject::Role { id: told }) => id == told,
            _ => false,
        }
    }
}

/// What a change answers, which may be in doubt although it was made.
pub trait Doubtful {
    /// What is not known about it.
    fn doubt(&self) -> Option<String> {
        None
    }
}

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
            listed_before: write(before),
            stopped_by: write(stopped),
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

impl From<&Departed> for DepartedView {
    fn from(departed: &Departed) -> Self {
        Self {
            id: departed.shown.clone(),
            last_heard_at: departed.heard_at.map(write),
            stopped_by: write(departed.stopped_by),
        }
    }
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
            at: event.at.map(write),
            kind: kind.into(),
            id: id.into(),
        }
    }
}

/// What gateways must have applied, and since when.
struct Target {
    standing: Standing,
    /// By the store's clock.
    since: UnixMillis,
}

impl Operations {
    /// Makes a change and waits until every gateway has applied it, at most `wait`.
    ///
    /// # Errors
    /// What the change says when it was not made, or when that is not known. One that was made is
    /// never an error here: what is not known about it stands in [`Waited::doubts`].
    pub async fn confirm<T: Doubtful>(
        &self,
        about: &About,
        wait: Duration,
        change: impl Future<Output = Result<T, OperationError>>,
    ) -> Result<Waited<T>, OperationError> {
        let begun = self.clock.now();
        let mut doubts = Vec::new();
        let result = match change.await {
            Ok(result) => {
                doubts.extend(result.doubt());
                Some(result)
            }
            Err(OperationError::Unconfirmed(why)) => {
                doubts.push(why);
                None
            }
            Err(error) => return Err(error),
        };
        let acknowledged = self.clock.now().wall;
        let (gateways, not_ruled_out) = match self.gather(about, wait.min(MAX_WAIT), begun, acknowledged).await {
            Ok((gateways, not_ruled_out)) => (Some(gateways), not_ruled_out),
            Err(error) => {
                let bound = self.gateway.bound();
                doubts.push(format!(
                    "the change was made, but which gateways have applied it is not known ({error}); a gateway that is \
                     configured like this one acts on it by {} at the latest",
                    write(acknowledged.plus(bound))
                ));
                (None, None)
            }
        };
        let known = doubts.is_empty() && not_ruled_out.is_none();
        let confirmed = known && gateways.as_ref().is_some_and(|all| all.iter().all(|told| told.confirmed));
        Ok(Waited {
            result,
            confirmed,
            acknowledged_at: write(acknowledged),
            gateways,
            not_ruled_out,
            doubts,
        })
    }

    /// Waits until all is certain, or for as long as it may: also for who is not known to have stopped, when
    /// that time comes while it waits.
    async fn gather(
        &self,
        about: &About,
        wait: Duration,
        begun: Now,
        acknowledged: UnixMillis,
    ) -> Result<(Vec<Told>, Option<NotRuledOut>), StoreError> {
        let start = self.clock.now().boot;
        let mut latest = self.read_receipts().await?;
        let target = self.find_target(about, begun, &latest).await?;
        let mut seen = Seen::new();
        let mut pause = PAUSES.0;
        loop {
            let confirming = latest.gateways.iter().filter(|receipt| latest.confirms(receipt, &target.standing));
            for receipt in confirming {
                let took = receipt.since.0.saturating_sub(target.since.0);
                seen.entry(key(receipt)).or_insert_with(|| u64::try_from(took).unwrap_or(0));
            }
            let left = wait.saturating_sub(self.clock.now().boot.since(start));
            let all = latest.gateways.iter().all(|receipt| seen.contains_key(&key(receipt)));
            let own = seen.contains_key(&(self.gateway.id.clone(), self.gateway.run));
            // Who is not registered says nothing; the time by which it has stopped may come.
            let unknown = latest.not_ruled_out().map(|(_, stopped)| stopped);
            let stopped = latest.departed.iter().map(|gone| gone.stopped_by).chain(unknown).max();
            let wait_on = stopped.is_some_and(|at| at <= latest.now.plus(left));
            if (all && own && !wait_on) || left.is_zero() {
                break;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
            // What was heard so far stands when the store goes away meanwhile.
            if let Ok(receipts) = self.read_receipts().await {
                latest = receipts;
            }
        }
        Ok((self.tell(&latest, &seen, acknowledged), NotRuledOut::of(&latest)))
    }

    /// Every gateway that is registered, whoever else may still act on what it read, and this gateway, which runs
    /// whether it is registered or not.
    fn tell(&self, latest: &Receipts, seen: &Seen, acknowledged: UnixMillis) -> Vec<Told> {
        let heard_ago = |heard: UnixMillis| millis_between(heard, latest.now);
        let unconfirmed = |id: &str, by: UnixMillis, heard: Option<UnixMillis>| Told {
            id: id.into(),
            confirmed: false,
            ms: None,
            stopped_by: Some(write(by)),
            heard_ms_ago: heard.map(heard_ago),
        };
        let by_bound = |bound: Duration| acknowledged.plus(bound);
        let mut told: Vec<Told> = latest
            .gateways
            .iter()
            .map(|receipt| match seen.get(&key(receipt)) {
                Some(ms) => Told {
                    id: receipt.id.as_str().into(),
                    confirmed: true,
                    ms: Some(*ms),
                    stopped_by: None,
                    heard_ms_ago: None,
                },
                None => unconfirmed(receipt.id.as_str(), by_bound(receipt.bound()), Some(receipt.heard_at)),
            })
            .collect();
        let departed = latest.departed.iter();
        told.extend(departed.map(|gone| unconfirmed(&gone.shown, gone.stopped_by, gone.heard_at)));
        let is_this = |receipt: &Receipt| receipt.id == self.gateway.id && receipt.run == self.gateway.run;
        if !latest.gateways.iter().any(is_this) {
            told.push(unconfirmed(self.gateway.id.as_str(), by_bound(self.gateway.bound()), None));
        }
        told.sort_by(|a, b| a.id.cmp(&b.id));
        told
    }

    /// The event of the change. One from before the command began is that of an earlier change of the
    /// same kind: there was nothing left to change, and time counts from the command.
    async fn find_target(&self, about: &About, begun: Now, latest: &Receipts) -> Result<Target, StoreError> {
        let page = self.read_events(None, SEARCHED).await?;
        let waited = self.clock.now().boot.since(begun.boot);
        let begun = UnixMillis(latest.now.0.saturating_sub_unsigned(u64::try_from(waited.as_millis()).unwrap_or(0)));
        let event = page.events.iter().rev().find(|event| about.is_told_by(event));
        Ok(match event {
            Some(event) => Target {
                since: event.at.map_or(begun, |at| at.max(begun)),
                standing: Standing {
                    history: page.head.history.clone(),
                    count: event.count,
                },
            },
            // Whoever has everything there is now has the change too.
            None => Target {
                since: begun,
                standing: page.head.clone(),
            },
        })
    }

    async fn read_receipts(&self) -> Result<Receipts, StoreError> {
        timeout(ANSWER, self.store.receipts()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn read_events(&self, after: Option<u64>, limit: usize) -> Result<EventPage, StoreError> {
        timeout(ANSWER, self.store.events_after(after, limit))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Every gateway that was heard of within the hour.
    ///
    /// # Errors
    /// [`OperationError`], as the store has it.
    pub async fn list_gateways(&self) -> Result<GatewayList, OperationError> {
        let receipts = self.read_receipts().await?;
        Ok(GatewayList {
            position: receipts.head.count,
            gateways: receipts.gateways.iter().map(|receipt| self.view(receipt, &receipts)).collect(),
            departed: receipts.departed.iter().map(DepartedView::from).collect(),
            not_ruled_out: NotRuledOut::of(&receipts),
        })
    }

    fn view(&self, receipt: &Receipt, all: &Receipts) -> GatewayView {
        let same = receipt.applied.history == all.head.history;
        let behind = same.then(|| all.head.count.saturating_sub(receipt.applied.count));
        let state = match behind {
            _ if !receipt.is_heard(all.now) => "silent",
            Some(0) => "current",
            _ => "behind",
        };
        GatewayView {
            id: receipt.id.as_str().into(),
            this: receipt.id == self.gateway.id && receipt.run == self.gateway.run,
            version: receipt.version.clone(),
            state: state.into(),
            reader: receipt.reader.as_str().into(),
            position: receipt.applied.count,
            behind,
            last_heard_at: write(receipt.heard_at),
            heard_ms_ago: millis_between(receipt.heard_at, all.now),
            bound_ms: u64::try_from(receipt.bound().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Events after a position, or the newest.
    ///
    /// # Errors
    /// [`OperationError`], as the store has it.
    pub async fn list_events(&self, after: Option<u64>, limit: Option<usize>) -> Result<EventList, OperationError> {
        let page = self.read_events(after, limit.unwrap_or(MAX_EVENTS)).await?;
        Ok(EventList {
            trimmed: after.and_then(|after| page.trimmed(after)),
            history: page.head.history,
            position: page.head.count,
            oldest: page.oldest,
            events: page.events.iter().map(EventView::from).collect(),
        })
    }
}

/// When each process said that it has applied the change, in milliseconds after it.
type Seen = BTreeMap<(GatewayId, u64), u64>;

fn key(receipt: &Receipt) -> (GatewayId, u64) {
    (receipt.id.clone(), receipt.run)
}

fn millis_between(earlier: UnixMillis, later: UnixMillis) -> u64 {
    u64::try_from(later.0.saturating_sub(earlier.0)).unwrap_or(0)
}

fn late() -> StoreError {
    StoreError::Unavailable("it did not answer in time".into())
}
