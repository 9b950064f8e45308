//! The calls of a store in Redis: look-ups, changes, lists and receipts. Each call sends commands, judges the answers, and
//! decides whether the connection stays in use.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, TenantRecord};
use crate::store::filter::read_page;
use crate::store::redis::RedisCore;
use crate::store::redis::scripts::{PARTS, RecordKind, StoredRecord, part_of};
use crate::store::redis::topology::{Endpoint, Link, LiveLink, StoreFault};
use crate::store::{ChangeError, CredentialFilter, CredentialPage, EventSubject, MAX_LIST, MAX_TOUCHED, StoreError, change, codec};

pub(crate) use lookups::FindReply;
use lookups::credential_of;
pub use rate_counts::SharedCounts;
pub(crate) use receipts::{ReceiptScripts, time_of};
pub(crate) use restoration::restore_for_ever;

mod changes;
mod creation;
pub(super) mod lookups;
mod rate_counts;
pub(super) mod receipts;
mod restoration;

/// Records of one round trip of a list: at most 800 KiB, below the bound of a reply.
const PAGE: usize = 25;

/// Attempts of a change. An attempt fails when another change was made meanwhile, so ten failures in a row need ten operators at
/// the same record.
const TRIES: usize = 10;

pub(crate) struct StoreCall {
    shared: Arc<RedisCore>,
    /// The server of the last read on the leading connection.
    read_from: Mutex<Option<Arc<Endpoint>>>,
}

impl StoreCall {
    pub(crate) const fn new(shared: Arc<RedisCore>) -> Self {
        Self {
            shared,
            read_from: Mutex::new(None),
        }
    }

    /// Up to when the server of this connection was known to be the primary, within the deadline of a look-up.
    async fn primary_at(&self, live: &LiveLink) -> Result<Option<BootMillis>, StoreError> {
        let known = self.shared.locator.primary_at(&live.endpoint);
        tokio::time::timeout(self.shared.lookup_timeout, known)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("whether Redis is still the primary is being asked".into())))
    }

    pub(crate) async fn find_credential(&self, id: &CredentialId) -> Result<Option<CredentialRecord>, StoreError> {
        Ok(self.read_credential(id).await?.map(|(record, _)| record))
    }

    pub(crate) async fn find_tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        Ok(self.read_tenant(id).await?.map(|(record, _)| record))
    }

    async fn read_credential(&self, id: &CredentialId) -> Result<Option<(CredentialRecord, Vec<u8>)>, StoreError> {
        let stored = self.read(RecordKind::Credentials, id.as_str()).await?;
        let Some(bytes) = stored.0.clone() else {
            return Ok(None);
        };
        Ok(credential_of(id.as_str(), stored)?.map(|record| (record, bytes)))
    }

    async fn read_tenant(&self, id: &TenantId) -> Result<Option<(TenantRecord, Vec<u8>)>, StoreError> {
        let Some(bytes) = self.read(RecordKind::Tenants, id.as_str()).await?.0 else {
            return Ok(None);
        };
        let record = codec::decode_tenant(&bytes)?;
        if record.id != *id {
            return Err(StoreError::Corrupt("a tenant stands under another id".into()));
        }
        Ok(Some((record, bytes)))
    }

    async fn read(&self, kind: RecordKind, id: &str) -> Result<StoredRecord, StoreError> {
        let live = self.writer()?;
        let read = self.shared.scripts.read(&live.wire, kind, id).await;
        self.settle_writer(&live, read)
    }

    pub(crate) async fn list_credentials(&self, filter: CredentialFilter) -> Result<Vec<CredentialRecord>, StoreError> {
        let limit = filter.limit.min(MAX_LIST);
        let mut listed: Vec<CredentialRecord> = Vec::new();
        let mut after = filter.after.as_ref().map(|id| id.as_str().to_owned());
        while listed.len() < limit {
            let page = self
                .page(RecordKind::Credentials, filter.tenant.as_ref(), after.as_deref(), PAGE)
                .await?;
            let full = page.len() == PAGE;
            for (id, stored) in page {
                let read = change::expect_listed(&id, credential_of(&id, stored));
                after = Some(id);
                let record = match read {
                    Err(error @ StoreError::Corrupt(_)) if filter.passes_over_broken => {
                        tracing::error!(alarm = "corrupt_record", %error, "a record that cannot be read is left out of a list");
                        continue;
                    }
                    read => read?,
                };
                if filter.admits(&record) && listed.len() < limit {
                    listed.push(record);
                }
            }
            if !full {
                break;
            }
        }
        Ok(listed)
    }

    pub(crate) async fn page_credentials(&self, filter: CredentialFilter) -> Result<CredentialPage, StoreError> {
        let tenant = filter.tenant.as_ref();
        read_page(&filter, PAGE, |after| async move {
            let after = Some(after.as_str()).filter(|after| !after.is_empty());
            let page = self.page(RecordKind::Credentials, tenant, after, PAGE).await?;
            let read = |(id, stored): (String, StoredRecord)| {
                let record = change::expect_listed(&id, credential_of(&id, stored));
                (id, record)
            };
            Ok(page.into_iter().map(read).collect())
        })
        .await
    }

    pub(crate) async fn list_tenants(&self, after: Option<TenantId>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
        let limit = limit.min(MAX_LIST);
        let mut listed: Vec<TenantRecord> = Vec::new();
        let mut after = after;
        while listed.len() < limit {
            let size = PAGE.min(limit - listed.len());
            let page = self
                .page(RecordKind::Tenants, None, after.as_ref().map(TenantId::as_str), size)
                .await?;
            let full = page.len() == size;
            for (id, (bytes, _)) in page {
                let tenant = bytes.map(|bytes| codec::decode_tenant(&bytes)).transpose();
                listed.push(change::expect_listed(&id, tenant.map_err(StoreError::from))?);
            }
            after = listed.last().map(|t| t.id.clone());
            if !full {
                break;
            }
        }
        Ok(listed)
    }

    async fn page(
        &self,
        kind: RecordKind,
        tenant: Option<&TenantId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, StoredRecord)>, StoreError> {
        let live = self.writer()?;
        let page = self.shared.scripts.page(&live.wire, kind, tenant, after, limit).await;
        self.settle_writer(&live, page)
    }

    pub(crate) async fn touch(&self, used: &[(CredentialId, UnixMillis)]) -> Result<(), StoreError> {
        let used = used.get(..MAX_TOUCHED).unwrap_or(used);
        let live = self.changer()?;
        let noted = self.shared.scripts.note_use(&live.wire, used).await;
        self.settle_changer(&live, noted)
    }

    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let (link, live) = self.shared.reader(None)?;
        self.primary_at(&live).await?;
        let answered = self.shared.scripts.check_primary(&live.wire).await;
        settle(&link, &live, answered).map_err(|fault| fault.error)?;
        // A store that was written under a foreign pepper meanwhile does not count as available.
        let ours = self.shared.scripts.read_peppers(&live.wire).await;
        settle(&link, &live, ours).map(drop).map_err(|fault| fault.error)
    }

    fn writer(&self) -> Result<LiveLink, StoreError> {
        let live = self.shared.writer.live().ok_or_else(|| self.shared.writer.last_error())?;
        *self.read_from.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&live.endpoint));
        Ok(live)
    }

    /// The connection for changes. Changes that wait for replicas delay only each other.
    fn changer(&self) -> Result<LiveLink, StoreError> {
        self.shared.changes.live().ok_or_else(|| self.shared.changes.last_error())
    }

    fn settle_changer<T>(&self, live: &LiveLink, result: Result<T, StoreFault>) -> Result<T, StoreError> {
        settle(&self.shared.changes, live, result).map_err(|fault| fault.error)
    }

    /// Settles a change. A change was not made if a right is missing, or if the server takes no changes.
    fn settle_change<T>(&self, live: &LiveLink, result: Result<T, StoreFault>) -> Result<T, ChangeError> {
        settle(&self.shared.changes, live, result).map_err(|fault| {
            if fault.changed_nothing() {
                nothing_written(fault.error)
            } else {
                ChangeError::Store(fault.error)
            }
        })
    }

    fn settle_writer<T>(&self, live: &LiveLink, result: Result<T, StoreFault>) -> Result<T, StoreError> {
        settle(&self.shared.writer, live, result).map_err(|fault| fault.error)
    }
}

/// Ends the connection if the fault says that it must not be used again.
fn settle<T>(link: &Link, live: &LiveLink, result: Result<T, StoreFault>) -> Result<T, StoreFault> {
    if let Err(fault) = &result {
        link.settle(live, fault);
    }
    result
}

/// A failure before anything was written. An error about a corrupt record stays what it is.
fn nothing_written(error: StoreError) -> ChangeError {
    match error {
        StoreError::Unavailable(_) => ChangeError::NotMade(error),
        StoreError::Corrupt(_) | StoreError::Foreign(_) => ChangeError::Store(error),
    }
}

/// The change was not refused, so the caller may try again.
fn contended() -> ChangeError {
    ChangeError::NotMade(StoreError::Unavailable("others keep changing it at the same time".into()))
}

fn encode_event(subject: &EventSubject) -> Result<Vec<u8>, ChangeError> {
    codec::encode_event(subject).map_err(change::unwritable)
}

impl StoreCall {
    pub(crate) async fn note_busy(&self, busy: &[Fingerprint]) -> Result<(), StoreError> {
        let mut parts = vec![Vec::new(); PARTS];
        for fingerprint in busy {
            if let Some(part) = parts.get_mut(part_of(fingerprint)) {
                part.push(*fingerprint);
            }
        }
        for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let live = self.writer()?;
            let noted = self.shared.scripts.note_busy(&live.wire, number, part).await;
            self.settle_writer(&live, noted)?;
        }
        Ok(())
    }

    /// At most `most` fingerprints, the latest first.
    ///
    /// One part after the other: Redis takes some milliseconds for each, and serves the look-ups of other gateways in between. All
    /// at once held it up for longer than a look-up may take.
    pub(crate) async fn busy(&self, most: usize) -> Result<Vec<Fingerprint>, StoreError> {
        let live = self.writer()?;
        let mut all = Vec::new();
        for number in 0..PARTS {
            let read = self.shared.scripts.read_busy(&live.wire, number).await;
            all.append(&mut self.settle_writer(&live, read)?);
        }
        all.sort_unstable_by_key(|(age, _)| *age);
        all.truncate(most);
        Ok(all.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }
}
