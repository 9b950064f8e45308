//! Who has applied a change: waits for the receipts of all gateways and says what is known.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::base::clock::{Now, UnixMillis};
use crate::base::ids::{CredentialId, GatewayId, RoleId, TenantId};
use crate::store::receipts::MAX_EVENTS;
use crate::store::{EventPage, EventSubject, HistoryPoint, LoggedEvent, Receipt, Receipts, StoreError};

use super::Operations;
use super::api::{KeyView, Rotated, TenantView};
use super::error::OperationError;
use super::people::{AccountView, RoleDeleted, RoleView, SessionView, SessionsEnded};
use super::told::{DepartedView, EventList, EventView, GatewayList, GatewayView, NotRuledOut, Told, Waited};
use super::{keys, roles, tenants, times};

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
        keys::parse_id(id).map(Self::Credential)
    }

    pub(crate) fn tenant(id: &str) -> Result<Self, OperationError> {
        tenants::parse_tenant(id).map(Self::Tenant)
    }

    pub(crate) fn role(id: &str) -> Result<Self, OperationError> {
        roles::parse_role_id(id).map(Self::Role)
    }

    fn is_told_by(&self, event: &LoggedEvent) -> bool {
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

impl Doubtful for TenantView {}
impl Doubtful for KeyView {}
impl Doubtful for AccountView {}
impl Doubtful for SessionView {}
impl Doubtful for SessionsEnded {}
impl Doubtful for RoleView {}
impl Doubtful for RoleDeleted {}
impl Doubtful for Rotated {
    fn doubt(&self) -> Option<String> {
        self.doubt.clone()
    }
}

/// What gateways must have applied, and since when.
struct Target {
    standing: HistoryPoint,
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
                    times::write(acknowledged.plus(bound))
                ));
                (None, None)
            }
        };
        let known = doubts.is_empty() && not_ruled_out.is_none();
        let confirmed = known && gateways.as_ref().is_some_and(|all| all.iter().all(|told| told.confirmed));
        Ok(Waited {
            result,
            confirmed,
            acknowledged_at: times::write(acknowledged),
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
            stopped_by: Some(times::write(by)),
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
                standing: HistoryPoint {
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
            last_heard_at: times::write(receipt.heard_at),
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
