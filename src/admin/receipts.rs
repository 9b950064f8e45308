//! Confirmations: waits for the receipts of all gateways, and says which of them have applied a change.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::base::clock::{Now, UnixMillis};
use crate::base::ids::{CredentialId, GatewayId, RoleId, TenantId};
use crate::store::{DepartedGateway, EventPage, EventSubject, HistoryPoint, LoggedEvent, Receipt, Receipts, StoreError};

use super::Operations;
use super::error::OperationError;
use super::text::{parse_id, parse_role_id, parse_tenant, write};

/// Longest wait for receipts. It is within the time of an operation.
pub const MAX_WAIT: Duration = Duration::from_secs(25);

/// First and longest pause between two reads of the receipts. Times are taken from the receipts, so a late read measures
/// nothing wrong.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Longest wait for one answer about receipts.
const ANSWER: Duration = Duration::from_secs(3);

/// How many of the newest events are searched for the event of a change. It is missed only if hundreds of other changes
/// are made in the same milliseconds.
const SEARCHED: usize = 200;

/// The record that a change is about, as its event names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeSubject {
    Credential(CredentialId),
    Tenant(TenantId),
    Role(RoleId),
}

impl ChangeSubject {
    /// A credential of this id.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for a text that is not an id.
    pub fn credential(id: &str) -> Result<Self, OperationError> {
        parse_id(id).map(Self::Credential)
    }

    pub(crate) fn tenant(id: &str) -> Result<Self, OperationError> {
        parse_tenant(id).map(Self::Tenant)
    }

    pub(crate) fn role(id: &str) -> Result<Self, OperationError> {
        parse_role_id(id).map(Self::Role)
    }

    fn is_subject_of(&self, event: &LoggedEvent) -> bool {
        match (self, &event.subject) {
            (Self::Credential(id), EventSubject::Credential { id: changed, .. }) => id == changed,
            (Self::Tenant(id), EventSubject::Tenant { id: changed }) => id == changed,
            (Self::Role(id), EventSubject::Role { id: changed }) => id == changed,
            _ => false,
        }
    }
}

/// The answer to a change. The change may be made and still not be certain.
pub trait Doubtful {
    /// What is not known about it.
    fn doubt(&self) -> Option<String> {
        None
    }
}

/// The answer to a change, with the receipts of the gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation<T> {
    /// The answer to the change without a wait; none when the change was made and the record could not be read.
    pub result: Option<T>,
    /// Every registered gateway has applied the change, and nothing is in doubt.
    pub confirmed: bool,
    /// When the store acknowledged the change, RFC 3339, by the clock of this machine.
    pub acknowledged_at: String,
    /// The gateways in order of id; none when they are not known.
    pub gateways: Option<Vec<GatewayReceipt>>,
    /// Set if the list of gateways may have lost some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ruled_out: Option<NotRuledOut>,
    /// What is not known, in words.
    pub doubts: Vec<String>,
}

/// Gateways whose ids are not known, since the list of gateways may have lost some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRuledOut {
    /// These gateways were listed before this time, RFC 3339, by the clock of the store.
    pub listed_before: String,
    /// By this time they have stopped acting on what they read then, RFC 3339.
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

/// The receipt of one gateway for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReceipt {
    pub id: String,
    /// Whether the gateway has confirmed that it applied the change.
    pub confirmed: bool,
    /// When the gateway confirmed, in milliseconds after the change, by the clock of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// When the gateway has stopped acting on older facts even if no event reaches it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
    /// How long ago the gateway wrote its last receipt, if it is registered and did not confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms_ago: Option<u64>,
}

/// The gateways of this store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayList {
    pub position: u64,
    /// In the order of their ids.
    pub gateways: Vec<GatewayView>,
    /// Gateways that are no longer registered and may still act on facts that they read before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<DepartedView>,
    /// Set if the list of gateways may have lost some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ruled_out: Option<NotRuledOut>,
}

/// An earlier process of an id, a gateway that was silent for an hour, or an entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepartedView {
    /// The id of the gateway, or the text in the list that is not an id, made printable.
    pub id: String,
    /// When the gateway wrote its last receipt, RFC 3339, by the clock of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heard_at: Option<String>,
    /// When the gateway has stopped acting on those facts, RFC 3339, by the clock of the store.
    pub stopped_by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayView {
    pub id: String,
    /// Whether this is the gateway that answers.
    pub this: bool,
    pub version: String,
    /// `current`: it has applied all changes. `behind`: it has not. `silent`: it has written no receipt for six seconds.
    pub state: String,
    /// What its event reader does: `live`, `catching_up`, `lost`.
    pub reader: String,
    /// The position up to which it has applied changes.
    pub position: u64,
    /// How many changes it has not applied; none when it follows another history.
    pub behind: Option<u64>,
    /// When the gateway wrote its last receipt, RFC 3339, by the clock of the store.
    pub last_heard_at: String,
    /// Milliseconds since then, by the clock of the store.
    pub heard_ms_ago: u64,
    /// Longest time after a change for which it may act on older facts, in milliseconds.
    pub bound_ms: u64,
}

impl From<&DepartedGateway> for DepartedView {
    fn from(departed: &DepartedGateway) -> Self {
        Self {
            id: departed.shown.clone(),
            last_heard_at: departed.heard_at.map(write),
            stopped_by: write(departed.stopped_by),
        }
    }
}

/// The change that gateways must apply, and since when.
struct AwaitedChange {
    standing: HistoryPoint,
    /// As the clock of the store counts it.
    since: UnixMillis,
}

impl Operations {
    /// Makes a change and waits until every gateway has applied it, at most `wait`.
    ///
    /// # Errors
    /// The error of a change that was not made, or of which this is not known. A change that was made is never an error here:
    /// what is not certain about it stands in [`Confirmation::doubts`].
    pub async fn confirm<T: Doubtful>(
        &self,
        about: &ChangeSubject,
        wait: Duration,
        change: impl Future<Output = Result<T, OperationError>>,
    ) -> Result<Confirmation<T>, OperationError> {
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
        let confirmed = known && gateways.as_ref().is_some_and(|all| all.iter().all(|receipt| receipt.confirmed));
        Ok(Confirmation {
            result,
            confirmed,
            acknowledged_at: write(acknowledged),
            gateways,
            not_ruled_out,
            doubts,
        })
    }

    /// Waits until every gateway has confirmed, or until `wait` is over. It also waits for the time by which departed gateways
    /// have stopped, if that time comes before.
    async fn gather(
        &self,
        about: &ChangeSubject,
        wait: Duration,
        begun: Now,
        acknowledged: UnixMillis,
    ) -> Result<(Vec<GatewayReceipt>, Option<NotRuledOut>), StoreError> {
        let start = self.clock.now().boot;
        let mut latest = self.read_receipts().await?;
        let target = self.find_target(about, begun, &latest).await?;
        let mut confirmed_after = ConfirmedAfter::new();
        let mut pause = PAUSES.0;
        loop {
            let confirming = latest.gateways.iter().filter(|receipt| latest.confirms(receipt, &target.standing));
            for receipt in confirming {
                let took = receipt.since.0.saturating_sub(target.since.0);
                confirmed_after
                    .entry(key(receipt))
                    .or_insert_with(|| u64::try_from(took).unwrap_or(0));
            }
            let left = wait.saturating_sub(self.clock.now().boot.since(start));
            let all = latest.gateways.iter().all(|receipt| confirmed_after.contains_key(&key(receipt)));
            let own = confirmed_after.contains_key(&(self.gateway.id.clone(), self.gateway.run));
            // A gateway that is not registered cannot confirm, but the time by which it has stopped may come.
            let unknown = latest.not_ruled_out().map(|(_, stopped)| stopped);
            let stopped = latest.departed.iter().map(|gone| gone.stopped_by).chain(unknown).max();
            let wait_on = stopped.is_some_and(|at| at <= latest.now.plus(left));
            if (all && own && !wait_on) || left.is_zero() {
                break;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
            // If the store fails meanwhile, the receipts that were read before stay valid.
            if let Ok(receipts) = self.read_receipts().await {
                latest = receipts;
            }
        }
        Ok((self.summarise(&latest, &confirmed_after, acknowledged), NotRuledOut::of(&latest)))
    }

    /// Every registered gateway, every departed one that may still act on older facts, and this gateway, which runs even if it
    /// is not registered.
    fn summarise(&self, latest: &Receipts, confirmed_after: &ConfirmedAfter, acknowledged: UnixMillis) -> Vec<GatewayReceipt> {
        let heard_ago = |heard: UnixMillis| millis_between(heard, latest.now);
        let unconfirmed = |id: &str, by: UnixMillis, heard: Option<UnixMillis>| GatewayReceipt {
            id: id.into(),
            confirmed: false,
            ms: None,
            stopped_by: Some(write(by)),
            heard_ms_ago: heard.map(heard_ago),
        };
        let by_bound = |bound: Duration| acknowledged.plus(bound);
        let mut all: Vec<GatewayReceipt> = latest
            .gateways
            .iter()
            .map(|receipt| match confirmed_after.get(&key(receipt)) {
                Some(ms) => GatewayReceipt {
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
        all.extend(departed.map(|gone| unconfirmed(&gone.shown, gone.stopped_by, gone.heard_at)));
        let is_this = |receipt: &Receipt| receipt.id == self.gateway.id && receipt.run == self.gateway.run;
        if !latest.gateways.iter().any(is_this) {
            all.push(unconfirmed(self.gateway.id.as_str(), by_bound(self.gateway.bound()), None));
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The event of the change. If it is older than the command, it belongs to an earlier change of the same kind; then there
    /// was nothing left to change, and the time counts from the command.
    async fn find_target(&self, about: &ChangeSubject, begun: Now, latest: &Receipts) -> Result<AwaitedChange, StoreError> {
        let page = self.read_events(None, SEARCHED).await?;
        let waited = self.clock.now().boot.since(begun.boot);
        let begun = UnixMillis(latest.now.0.saturating_sub_unsigned(u64::try_from(waited.as_millis()).unwrap_or(0)));
        let event = page.events.iter().rev().find(|event| about.is_subject_of(event));
        Ok(match event {
            Some(event) => AwaitedChange {
                since: event.at.map_or(begun, |at| at.max(begun)),
                standing: HistoryPoint {
                    history: page.head.history.clone(),
                    count: event.count,
                },
            },
            // A gateway that has applied the newest position has applied the change too.
            None => AwaitedChange {
                since: begun,
                standing: page.head.clone(),
            },
        })
    }

    pub(super) async fn read_receipts(&self) -> Result<Receipts, StoreError> {
        timeout(ANSWER, self.store.receipts()).await.unwrap_or_else(|_| Err(late()))
    }

    pub(super) async fn read_events(&self, after: Option<u64>, limit: usize) -> Result<EventPage, StoreError> {
        timeout(ANSWER, self.store.events_after(after, limit))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Every gateway that wrote a receipt within the last hour.
    ///
    /// # Errors
    /// [`OperationError`]: an error of the store.
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
}

/// When each process confirmed the change, in milliseconds after it.
type ConfirmedAfter = BTreeMap<(GatewayId, u64), u64>;

fn key(receipt: &Receipt) -> (GatewayId, u64) {
    (receipt.id.clone(), receipt.run)
}

fn millis_between(earlier: UnixMillis, later: UnixMillis) -> u64 {
    u64::try_from(later.0.saturating_sub(earlier.0)).unwrap_or(0)
}

fn late() -> StoreError {
    StoreError::Unavailable("it did not answer in time".into())
}
