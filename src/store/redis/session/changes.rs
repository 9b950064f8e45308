//! Changes records in the shared store: read, change, write over exactly what was read, wait for replicas.

use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::try_join;

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, TenantRecord};
use crate::store::change::{self, Outcome};
use crate::store::events::ReaderState;
use crate::store::{ChangeError, CredentialChange, EventSubject, NewRecords, StoreError, TenantState, codec};

use super::super::endings::{Ending, Whose};
use super::super::link::Live;
use super::super::replicas::WaitReplicas;
use super::super::scripts::{Change, Kind, Written};
use super::{Session, TRIES, contended, encode_event, nothing_written};

/// How long an acknowledged change waits for its event to come round to this process, so that
/// whoever made it sees it here. It is made in any case.
const OWN_EVENT_TIMEOUT: Duration = Duration::from_millis(250);

impl Session {
    pub(in super::super) async fn change_credential(
        &self,
        id: &CredentialId,
        change: &CredentialChange,
        now: UnixMillis,
    ) -> Result<CredentialRecord, ChangeError> {
        let new = NewRecords {
            changes: vec![(id.clone(), change.clone())],
            ..NewRecords::default()
        };
        let changed = self.create(new, now).await?.into_iter().next();
        changed.ok_or_else(|| change::no_credential(id))
    }

    pub(in super::super) async fn set_tenant_active(&self, id: &TenantId, state: TenantState) -> Result<TenantRecord, ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_tenant(id).await.map_err(nothing_written)?;
            let (record, before) = read.ok_or_else(|| change::no_tenant(id))?;
            let changed = match change::change_tenant(&record, state)? {
                Outcome::Unchanged => return self.confirm(record).await,
                Outcome::Changed(changed) => changed,
            };
            let bytes = codec::encode_tenant(&changed).map_err(change::unwritable)?;
            let event = encode_event(&EventSubject::Tenant { id: id.clone() })?;
            let ending = Ending::of_tenant(&changed);
            let change = Change {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: &ending.encode(),
            };
            if let Some((live, counter)) = self.replace(Kind::Tenants, &change, &before).await? {
                self.shared.feed.endings.note(Whose::Tenant(id.clone()), ending);
                return self.acknowledge(&live, counter, changed).await;
            }
        }
        Err(contended())
    }

    /// Writes over exactly what was read; `None` when somebody else was faster.
    pub(super) async fn replace(&self, kind: Kind, change: &Change<'_>, before: &[u8]) -> Result<Option<(Live, u64)>, ChangeError> {
        let live = self.changer().map_err(nothing_written)?;
        let written = self.shared.scripts.replace(&live.wire, kind, change, before).await;
        Ok(match self.settle_change(&live, written)? {
            Written::At(counter) => Some((live, counter)),
            Written::Refused(_) => None,
        })
    }

    /// The change is made; acknowledges it when the replicas have it and this process has heard of it.
    pub(super) async fn acknowledge<T>(&self, live: &Live, counter: u64, record: T) -> Result<T, ChangeError> {
        let heard = async {
            if self.shared.feed.status.state() == ReaderState::Live {
                // Late here is late as in every other gateway: the event is on its way.
                let _ = tokio::time::timeout(OWN_EVENT_TIMEOUT, self.shared.feed.history.applied(counter)).await;
            }
        };
        // Together: where there is no replica, asking for one takes no longer than the event does.
        let (kept, ()) = tokio::join!(self.wait_until_kept(live), heard);
        kept.map(|()| record)
    }

    /// It was so already; but whoever made it so may not have got the replicas' confirmation.
    pub(super) async fn confirm<T>(&self, record: T) -> Result<T, ChangeError> {
        let number = match self.shared.wait_replicas {
            WaitReplicas::Count(0) if !self.shared.whereabouts.has_witnesses() => return Ok(record),
            WaitReplicas::Count(0) | WaitReplicas::All => None,
            WaitReplicas::Count(number) => Some(number),
        };
        let live = self.changer().map_err(unconfirmed)?;
        let read_from = self.read_from.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if read_from.is_some_and(|read_from| read_from != live.endpoint) {
            return Err(ChangeError::Unconfirmed(
                "it was so on a server that is not the primary any more".into(),
            ));
        }
        if number.is_some() {
            // A number is counted from the last write of this connection; all are compared with what the primary has.
            let touched = self.shared.scripts.touch(&live.wire).await;
            self.settle_changer(&live, touched).map_err(unconfirmed)?;
        }
        self.wait_until_kept(&live).await?;
        Ok(record)
    }

    /// What was written on this connection is there to stay: the replicas have it, and the server is still the
    /// primary, by what those who know say now.
    pub(super) async fn wait_until_kept(&self, live: &Live) -> Result<(), ChangeError> {
        let whereabouts = &self.shared.whereabouts;
        let written_at = whereabouts.now();
        let primary = async {
            let confirmed = whereabouts.confirm_after(&live.endpoint, written_at).await;
            confirmed
                .map_err(|error| ChangeError::Unconfirmed(format!("whether {} is still the primary is not known ({error})", live.endpoint)))
        };
        try_join(self.wait_for_replicas(live), primary).await.map(drop)
    }

    pub(super) async fn wait_for_replicas(&self, live: &Live) -> Result<(), ChangeError> {
        if self.shared.wait_replicas == WaitReplicas::Count(0) {
            return Ok(());
        }
        self.shared.confirmations.wait(live).await.map_err(ChangeError::Unconfirmed)
    }
}

/// A failure after the change was made.
#[expect(clippy::needless_pass_by_value, reason = "used as a function of map_err")]
fn unconfirmed(error: StoreError) -> ChangeError {
    ChangeError::Unconfirmed(format!("whether replicas have it is not known ({error})"))
}
