//! Changes records in the shared store: read, change, write over exactly what was read, wait for replicas.

use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::try_join;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, RoleRecord, TenantRecord};
use crate::store::change::{self, ChangeOutcome};
use crate::store::events::ReaderState;
use crate::store::peppers::{PepperAdmission, PepperList, move_event, moved};
use crate::store::redis::scripts::{ChangeCall, ChangeRefusal, ChangeReply, MarkReply, RecordKind};
use crate::store::redis::stream::{Ending, RecordRef};
use crate::store::redis::topology::{LiveLink, WaitReplicas};
use crate::store::sweep::natural_end;
use crate::store::{
    ChangeError, CredentialChange, EventSubject, MAX_FORGOTTEN, MAX_TENANT_ROLES, MarkRoom, NewRecords, RoleChange, StoreError,
    TenantState, codec,
};

use super::{PAGE, StoreCall, TRIES, contended, encode_event, lookups::credential_of, nothing_written};

/// How long an acknowledged change waits until its event has reached this process, so that the caller sees the change here. The
/// change is made in any case.
const OWN_EVENT_TIMEOUT: Duration = Duration::from_millis(250);

impl StoreCall {
    pub(crate) async fn change_credential(
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

    pub(crate) async fn set_tenant_active(&self, id: &TenantId, state: TenantState) -> Result<TenantRecord, ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_tenant(id).await.map_err(nothing_written)?;
            let (record, before) = read.ok_or_else(|| change::no_tenant(id))?;
            let changed = match change::change_tenant(&record, state)? {
                ChangeOutcome::Unchanged => return self.acknowledge_unchanged(record).await,
                ChangeOutcome::Changed(changed) => changed,
            };
            let bytes = codec::encode_tenant(&changed).map_err(change::unwritable)?;
            let event = encode_event(&EventSubject::Tenant { id: id.clone() })?;
            let ending = Ending::of_tenant(&changed);
            let change = ChangeCall {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: &ending.encode(),
            };
            if let Some((live, counter)) = self.replace(RecordKind::Tenants, &change, &before).await? {
                self.shared.feed.endings.note(RecordRef::Tenant(id.clone()), ending);
                return self.acknowledge(&live, counter, changed).await;
            }
        }
        Err(contended())
    }

    /// Writes a record over exactly the one that was read; `None` when another change was faster.
    pub(crate) async fn replace(
        &self,
        kind: RecordKind,
        change: &ChangeCall<'_>,
        before: &[u8],
    ) -> Result<Option<(LiveLink, u64)>, ChangeError> {
        let live = self.changer().map_err(nothing_written)?;
        let written = self.shared.scripts.replace(&live.wire, kind, change, before).await;
        Ok(match self.settle_change(&live, written)? {
            ChangeReply::At(counter) => Some((live, counter)),
            ChangeReply::Refused(_) => None,
        })
    }

    /// Acknowledges a change that was made, when the replicas have it and its event has reached this process.
    pub(crate) async fn acknowledge<T>(&self, live: &LiveLink, counter: u64, record: T) -> Result<T, ChangeError> {
        let heard = async {
            if self.shared.feed.status.state() == ReaderState::Live {
                // After this time, the event comes as late here as in every other gateway.
                let _ = tokio::time::timeout(OWN_EVENT_TIMEOUT, self.shared.feed.history.applied(counter)).await;
            }
        };
        // At the same time: without replicas, the question for them takes no longer than the event.
        let (kept, ()) = tokio::join!(self.wait_until_kept(live), heard);
        kept.map(|()| record)
    }

    /// Acknowledges a change that is already true. The call that made it may not have been confirmed by the replicas.
    pub(crate) async fn acknowledge_unchanged<T>(&self, record: T) -> Result<T, ChangeError> {
        let number = match self.shared.wait_replicas {
            WaitReplicas::Count(0) if !self.shared.locator.has_witnesses() => return Ok(record),
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
            // A number of replicas is counted from the last write of this connection. With `all`, offsets are compared.
            let touched = self.shared.scripts.touch(&live.wire).await;
            self.settle_changer(&live, touched).map_err(unconfirmed)?;
        }
        self.wait_until_kept(&live).await?;
        Ok(record)
    }

    /// Waits until what was written on this connection is safe: the replicas have it, and the witnesses say now that the
    /// server still is the primary.
    pub(crate) async fn wait_until_kept(&self, live: &LiveLink) -> Result<(), ChangeError> {
        let locator = &self.shared.locator;
        let written_at = locator.now();
        let primary = async {
            let confirmed = locator.confirm_after(&live.endpoint, written_at).await;
            confirmed
                .map_err(|error| ChangeError::Unconfirmed(format!("whether {} is still the primary is not known ({error})", live.endpoint)))
        };
        try_join(self.wait_for_replicas(live), primary).await.map(drop)
    }

    pub(crate) async fn wait_for_replicas(&self, live: &LiveLink) -> Result<(), ChangeError> {
        if self.shared.wait_replicas == WaitReplicas::Count(0) {
            return Ok(());
        }
        self.shared.confirmations.wait(live).await.map_err(ChangeError::Unconfirmed)
    }
}

/// An error after the change was made.
#[expect(clippy::needless_pass_by_value, reason = "used as a function of map_err")]
fn unconfirmed(error: StoreError) -> ChangeError {
    ChangeError::Unconfirmed(format!("whether replicas have it is not known ({error})"))
}

impl StoreCall {
    pub(crate) async fn create_role(&self, role: RoleRecord) -> Result<RoleRecord, ChangeError> {
        let role = RoleRecord { epoch: 1, ..role };
        let tenant = change::tenant_of(&role)?;
        let bytes = codec::encode_role(&role).map_err(change::unwritable)?;
        let event = encode_event(&EventSubject::Role { id: role.id.clone() })?;
        let live = self.changer().map_err(nothing_written)?;
        let change = ChangeCall {
            id: role.id.as_str(),
            record: &bytes,
            event: &event,
            ending: "",
        };
        let written = self.shared.scripts.create_role(&live.wire, &change, tenant).await;
        match self.settle_change(&live, written)? {
            ChangeReply::At(counter) => self.acknowledge(&live, counter, role).await,
            ChangeReply::Refused(ChangeRefusal::NoTenant) => Err(change::no_tenant(tenant)),
            ChangeReply::Refused(ChangeRefusal::Full) => Err(change::too_many_roles(tenant)),
            ChangeReply::Refused(_) => Err(change::role_taken(&role.id)),
        }
    }

    pub(crate) async fn change_role(&self, id: &RoleId, change: &RoleChange) -> Result<RoleRecord, ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_role(id).await.map_err(nothing_written)?;
            let (role, before) = read.ok_or_else(|| change::no_role(id))?;
            let changed = match change::change_role(&role, change)? {
                ChangeOutcome::Unchanged => return self.acknowledge_unchanged(role).await,
                ChangeOutcome::Changed(changed) => changed,
            };
            let bytes = codec::encode_role(&changed).map_err(change::unwritable)?;
            let event = encode_event(&EventSubject::Role { id: id.clone() })?;
            let ending = Ending::of_role(&changed);
            let change = ChangeCall {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: &ending.encode(),
            };
            if let Some((live, counter)) = self.replace(RecordKind::Roles, &change, &before).await? {
                self.shared.feed.endings.note(RecordRef::Role(id.clone()), ending);
                return self.acknowledge(&live, counter, changed).await;
            }
        }
        Err(contended())
    }

    pub(crate) async fn delete_role(&self, id: &RoleId) -> Result<(), ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_role(id).await.map_err(nothing_written)?;
            let (role, before) = read.ok_or_else(|| change::no_role(id))?;
            let event = encode_event(&EventSubject::Role { id: id.clone() })?;
            let change = ChangeCall {
                id: id.as_str(),
                record: &before,
                event: &event,
                ending: &Ending::RoleDeleted.encode(),
            };
            let live = self.changer().map_err(nothing_written)?;
            let written = self
                .shared
                .scripts
                .delete_role(&live.wire, &change, change::tenant_of(&role)?)
                .await;
            if let ChangeReply::At(counter) = self.settle_change(&live, written)? {
                self.shared.feed.endings.note(RecordRef::Role(id.clone()), Ending::RoleDeleted);
                return self.acknowledge(&live, counter, ()).await;
            }
        }
        Err(contended())
    }

    pub(crate) async fn find_role(&self, id: &RoleId) -> Result<Option<RoleRecord>, StoreError> {
        Ok(self.read_role(id).await?.map(|(role, _)| role))
    }

    pub(crate) async fn list_roles(&self, tenant: &TenantId) -> Result<Vec<RoleRecord>, StoreError> {
        let mut listed: Vec<RoleRecord> = Vec::new();
        while listed.len() < MAX_TENANT_ROLES {
            let after = listed.last().map(|role| role.id.as_str());
            let page = self.page(RecordKind::Roles, Some(tenant), after, PAGE).await?;
            let full = page.len() == PAGE;
            for (id, (bytes, _)) in page {
                let role = bytes.map(|bytes| codec::decode_role(&bytes)).transpose();
                listed.push(change::expect_listed(&id, role.map_err(StoreError::from))?);
            }
            if !full {
                break;
            }
        }
        Ok(listed)
    }

    async fn read_role(&self, id: &RoleId) -> Result<Option<(RoleRecord, Vec<u8>)>, StoreError> {
        let Some(bytes) = self.read(RecordKind::Roles, id.as_str()).await?.0 else {
            return Ok(None);
        };
        let role = codec::decode_role(&bytes)?;
        if role.id != *id {
            return Err(StoreError::Corrupt("a role stands under another id".into()));
        }
        Ok(Some((role, bytes)))
    }
}

impl StoreCall {
    /// Takes a mark. Whoever is the first can rely on it as on an acknowledged change: the replicas have the mark, and the server
    /// that has taken it still is the primary. Of any failure in between it is not known who has the mark, so nobody uses it.
    pub(crate) async fn take_once(&self, mark: &Fingerprint, until: UnixMillis, room: MarkRoom) -> Result<bool, ChangeError> {
        let live = self.changer().map_err(nothing_written)?;
        let taken = self.shared.scripts.take_once(&live.wire, mark, until, room).await;
        match self.settle_change(&live, taken)? {
            MarkReply::First => self.wait_until_kept(&live).await.map(|()| true),
            MarkReply::Taken => Ok(false),
            MarkReply::Full => Err(change::too_many_marks(room)),
        }
    }

    pub(crate) async fn peppers(&self) -> Result<PepperList, StoreError> {
        let live = self.writer()?;
        let read = self.shared.scripts.read_peppers(&live.wire).await;
        let list = self.settle_writer(&live, read)?;
        list.ok_or_else(|| StoreError::Unavailable("it holds no data".into()))
    }

    /// Checks that this gateway may make credentials in this store.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] if its first pepper was dropped. A store that does not answer is no error here.
    pub(crate) async fn check_first_pepper(&self) -> Result<(), StoreError> {
        match self.peppers().await.map(|list| list.admit(&self.shared.peppers)) {
            Ok(Ok(PepperAdmission::Gone(why))) => Err(why),
            _ => Ok(()),
        }
    }

    pub(crate) async fn set_peppers(&self, before: &PepperList, after: &PepperList) -> Result<bool, ChangeError> {
        let live = self.changer().map_err(nothing_written)?;
        let set = self.shared.scripts.set_peppers(&live.wire, before, after).await;
        let set = self.settle_change(&live, set)?;
        self.wait_until_kept(&live).await?;
        Ok(set)
    }

    pub(crate) async fn move_login(&self, id: &CredentialId, fingerprint: Fingerprint) -> Result<CredentialRecord, ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_credential(id).await.map_err(nothing_written)?;
            let (record, before) = read.ok_or_else(|| change::no_credential(id))?;
            let after = match moved(&record, fingerprint, self.shared.peppers.first().mark())? {
                ChangeOutcome::Unchanged => return self.acknowledge_unchanged(record).await,
                ChangeOutcome::Changed(after) => after,
            };
            let bytes = codec::encode_credential(&after).map_err(change::unwritable)?;
            let event = encode_event(&move_event(&record, &after))?;
            let ending = Ending::of_credential(&after);
            let change = ChangeCall {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: &ending.encode(),
            };
            let live = self.changer().map_err(nothing_written)?;
            let scripts = &self.shared.scripts;
            let written = scripts.move_login(&live.wire, &change, &before, &record, &fingerprint).await;
            match self.settle_change(&live, written)? {
                ChangeReply::At(counter) => {
                    self.shared.feed.endings.note(RecordRef::Credential(id.clone()), ending);
                    return self.acknowledge(&live, counter, after).await;
                }
                ChangeReply::Refused(ChangeRefusal::FingerprintTaken) => return Err(change::fingerprint_taken()),
                ChangeReply::Refused(_) => {}
            }
        }
        Err(contended())
    }
}

impl StoreCall {
    /// Forgets each credential by a script of its own, which writes only if the credential still is what was read. A
    /// credential that was changed meanwhile is left for the next time.
    pub(crate) async fn forget(&self, ids: &[CredentialId], before: UnixMillis) -> Result<usize, ChangeError> {
        let (mut forgotten, mut last) = (0, None);
        for id in ids.iter().take(MAX_FORGOTTEN) {
            let stored = self.read(RecordKind::Credentials, id.as_str()).await.map_err(nothing_written)?;
            let (Some(bytes), used) = stored.clone() else { continue };
            let Some(record) = credential_of(id.as_str(), stored)? else {
                continue;
            };
            if natural_end(&record).is_none_or(|end| end >= before) {
                continue;
            }
            let event = encode_event(&change::credential_event(&record))?;
            let change = ChangeCall {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: "",
            };
            let live = self.changer().map_err(nothing_written)?;
            let written = self
                .shared
                .scripts
                .forget(&live.wire, &change, &record, &used.unwrap_or_default())
                .await;
            if let ChangeReply::At(counter) = self.settle_change(&live, written)? {
                forgotten += 1;
                last = Some((live, counter));
            }
        }
        match last {
            Some((live, counter)) => self.acknowledge(&live, counter, forgotten).await,
            None => Ok(forgotten),
        }
    }
}
