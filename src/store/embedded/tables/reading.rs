//! What is read in one transaction of the embedded store.

use redb::{ReadTransaction, ReadableTable as _};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, Position, RoleRecord, TenantRecord};
use crate::store::embedded::receipts::HISTORY;
use crate::store::filter::ReadRecord;
use crate::store::peppers::PepperList;
use crate::store::receipts::MAX_EVENTS;
use crate::store::{
    CredentialFilter, EventPage, HistoryPoint, LoggedEvent, LookupQuery, LookupReply, MAX_LIST, MAX_TENANT_ROLES, RefreshReply, StoreError,
    StoredFacts, change, codec, lookup,
};

use super::{
    COUNTERS, CREDENTIALS, CREDENTIALS_OF, EVENT_TIMES, EVENTS, FINGERPRINTS, LAST_USED, META, OF_TENANT, ROLES, ROLES_OF, TENANTS,
    ancestors_at, credential_at, failed, ids_of, position_in, role_at, tenant_at, text_of,
};

/// Most records that are read for a page at a time: they take a fraction of the deadline of a read, also on a slow machine.
pub(in crate::store::embedded) const PART: usize = 200;

/// One consistent view of everything.
pub(in crate::store::embedded) struct ReadTables {
    credentials: redb::ReadOnlyTable<&'static str, &'static [u8]>,
    credentials_of: redb::ReadOnlyTable<(&'static str, &'static str), ()>,
    last_used: redb::ReadOnlyTable<&'static str, i64>,
    fingerprints: redb::ReadOnlyTable<&'static [u8; 32], &'static str>,
    tenants: redb::ReadOnlyTable<&'static str, &'static [u8]>,
    roles: redb::ReadOnlyTable<&'static str, &'static [u8]>,
    roles_of: redb::ReadOnlyTable<(&'static str, &'static str), ()>,
    counters: redb::ReadOnlyTable<&'static str, u64>,
}

impl ReadTables {
    pub(in crate::store::embedded) fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            credentials: transaction.open_table(CREDENTIALS).map_err(|e| failed(e.into()))?,
            credentials_of: transaction.open_table(CREDENTIALS_OF).map_err(|e| failed(e.into()))?,
            last_used: transaction.open_table(LAST_USED).map_err(|e| failed(e.into()))?,
            fingerprints: transaction.open_table(FINGERPRINTS).map_err(|e| failed(e.into()))?,
            tenants: transaction.open_table(TENANTS).map_err(|e| failed(e.into()))?,
            roles: transaction.open_table(ROLES).map_err(|e| failed(e.into()))?,
            roles_of: transaction.open_table(ROLES_OF).map_err(|e| failed(e.into()))?,
            counters: transaction.open_table(COUNTERS).map_err(|e| failed(e.into()))?,
        })
    }

    pub(in crate::store::embedded) fn position(&self) -> Result<Position, StoreError> {
        position_in(&self.counters)
    }

    pub(in crate::store::embedded) fn find(&self, fingerprint: &Fingerprint) -> Result<LookupReply, StoreError> {
        self.find_at(self.position()?, fingerprint)
    }

    /// Reads many again; their position is that of the transaction and is looked up once. What was read
    /// at that very position is what would be read now: each change moves it, in the step that makes the change.
    pub(in crate::store::embedded) fn find_many(&self, asked: &[LookupQuery]) -> Result<Vec<Result<RefreshReply, StoreError>>, StoreError> {
        let position = self.position()?;
        let again = |asked: &LookupQuery| match asked.known {
            Some(known) if known == position => Ok(RefreshReply::Unchanged(position)),
            _ => self.find_at(position, &asked.fingerprint).map(RefreshReply::Read),
        };
        Ok(asked.iter().map(again).collect())
    }

    fn find_at(&self, position: Position, fingerprint: &Fingerprint) -> Result<LookupReply, StoreError> {
        let index = self.fingerprints.get(fingerprint.as_bytes()).map_err(|e| failed(e.into()))?;
        let facts = match index {
            None => None,
            Some(id) => match id.value().strip_prefix(OF_TENANT) {
                Some(tenant) => Some(self.facts_of_tenant(tenant)?),
                None => Some(self.facts_of(id.value())?),
            },
        };
        match facts {
            Some(found) if !lookup::answers(&found.credential, fingerprint) => {
                Err(StoreError::Corrupt("a fingerprint points to another credential".into()))
            }
            facts => Ok(LookupReply {
                position,
                facts,
                primary_at: None,
                history_proven: false,
            }),
        }
    }

    fn facts_of(&self, id: &str) -> Result<StoredFacts, StoreError> {
        let credential = self
            .used_credential_at(id)?
            .ok_or_else(|| StoreError::Corrupt("a fingerprint points to no credential".into()))?;
        let tenant = tenant_at(&self.tenants, credential.tenant.as_str())?
            .ok_or_else(|| StoreError::Corrupt(format!("the tenant of credential {} is missing", credential.id)))?;
        let ancestors = ancestors_at(&self.credentials, &credential, Vec::new())?
            .into_iter()
            .map(|ancestor| self.with_use(ancestor))
            .collect::<Result<Vec<_>, _>>()?;
        let mut roles = Vec::new();
        for id in std::iter::once(&credential).chain(&ancestors).flat_map(|record| record.roles()) {
            roles.extend(role_at(&self.roles, id.as_str())?);
        }
        lookup::assemble(credential, tenant, ancestors, roles)
    }

    fn facts_of_tenant(&self, id: &str) -> Result<StoredFacts, StoreError> {
        let tenant = tenant_at(&self.tenants, id)?.ok_or_else(|| StoreError::Corrupt("a fingerprint points to no tenant".into()))?;
        lookup::assemble(CredentialRecord::of_tenant(&tenant), tenant, Vec::new(), Vec::new())
    }

    fn used_credential_at(&self, id: &str) -> Result<Option<CredentialRecord>, StoreError> {
        credential_at(&self.credentials, id)?
            .map(|record| self.with_use(record))
            .transpose()
    }

    fn with_use(&self, record: CredentialRecord) -> Result<CredentialRecord, StoreError> {
        if record.idle().is_none() {
            return Ok(record);
        }
        let last_used = self.last_used.get(record.id.as_str()).map_err(|e| failed(e.into()))?;
        Ok(change::with_last_use(record, last_used.map(|at| UnixMillis(at.value()))))
    }

    pub(in crate::store::embedded) fn find_credential(&self, id: &CredentialId) -> Result<Option<CredentialRecord>, StoreError> {
        self.used_credential_at(id.as_str())
    }

    pub(in crate::store::embedded) fn find_tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        tenant_at(&self.tenants, id.as_str())
    }

    pub(in crate::store::embedded) fn find_role(&self, id: &RoleId) -> Result<Option<RoleRecord>, StoreError> {
        role_at(&self.roles, id.as_str())
    }

    pub(in crate::store::embedded) fn list_credentials(&self, filter: &CredentialFilter) -> Result<Vec<CredentialRecord>, StoreError> {
        let after = filter.after.as_ref().map_or("", CredentialId::as_str);
        match &filter.tenant {
            Some(tenant) => self.take_listed(filter, ids_of(&self.credentials_of, tenant, after)?),
            None => {
                let range = self.credentials.range::<&str>(from(after)).map_err(|e| failed(e.into()))?;
                let ids = range.map(|entry| Ok(entry.map_err(|e| failed(e.into()))?.0.value().to_owned()));
                self.take_listed(filter, ids)
            }
        }
    }

    /// At most [`PART`] records after an id, each as it was read.
    pub(in crate::store::embedded) fn read_part(&self, tenant: Option<&TenantId>, after: &str) -> Result<Vec<ReadRecord>, StoreError> {
        let read = |id: Result<String, StoreError>| {
            let id = id?;
            let record = change::expect_listed(&id, self.used_credential_at(&id));
            Ok((id, record))
        };
        match tenant {
            Some(tenant) => ids_of(&self.credentials_of, tenant, after)?.take(PART).map(read).collect(),
            None => {
                let range = self.credentials.range::<&str>(from(after)).map_err(|e| failed(e.into()))?;
                let ids = range.map(|entry| Ok(entry.map_err(|e| failed(e.into()))?.0.value().to_owned()));
                ids.take(PART).map(read).collect()
            }
        }
    }

    fn take_listed(
        &self,
        filter: &CredentialFilter,
        ids: impl Iterator<Item = Result<String, StoreError>>,
    ) -> Result<Vec<CredentialRecord>, StoreError> {
        let limit = filter.limit.min(MAX_LIST);
        let mut listed = Vec::new();
        for id in ids {
            if listed.len() >= limit {
                break;
            }
            let id = id?;
            let record = match change::expect_listed(&id, self.used_credential_at(&id)) {
                Err(error @ StoreError::Corrupt(_)) if filter.passes_over_broken => {
                    tracing::error!(alarm = "corrupt_record", %error, "a record that cannot be read is left out of a list");
                    continue;
                }
                read => read?,
            };
            if filter.admits(&record) {
                listed.push(record);
            }
        }
        Ok(listed)
    }

    pub(in crate::store::embedded) fn list_roles(&self, tenant: &TenantId) -> Result<Vec<RoleRecord>, StoreError> {
        ids_of(&self.roles_of, tenant, "")?
            .take(MAX_TENANT_ROLES)
            .map(|id| role_at(&self.roles, &id?)?.ok_or_else(|| StoreError::Corrupt("an index names a missing role".into())))
            .collect()
    }

    pub(in crate::store::embedded) fn list_tenants(&self, last: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
        let after = from(last.map_or("", TenantId::as_str));
        self.tenants
            .range::<&str>(after)
            .map_err(|e| failed(e.into()))?
            .take(limit.min(MAX_LIST))
            .map(|entry| {
                let (_, bytes) = entry.map_err(|e| failed(e.into()))?;
                Ok(codec::decode_tenant(bytes.value())?)
            })
            .collect()
    }
}

/// Events after a position, or the newest, oldest first.
pub(in crate::store::embedded) fn events_after(
    transaction: &ReadTransaction,
    after: Option<u64>,
    limit: usize,
) -> Result<EventPage, StoreError> {
    let events = transaction.open_table(EVENTS).map_err(|e| failed(e.into()))?;
    let times = transaction.open_table(EVENT_TIMES).map_err(|e| failed(e.into()))?;
    let counters = transaction.open_table(COUNTERS).map_err(|e| failed(e.into()))?;
    let count = position_in(&counters)?.0;
    let limit = limit.clamp(1, MAX_EVENTS);
    let after = after.unwrap_or_else(|| count.saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX)));
    let oldest = events.first().map_err(|e| failed(e.into()))?.map(|(key, _)| key.value());
    let mut told = Vec::new();
    for entry in events.range(after.saturating_add(1)..).map_err(|e| failed(e.into()))?.take(limit) {
        let (key, bytes) = entry.map_err(|e| failed(e.into()))?;
        let at = times.get(key.value()).map_err(|e| failed(e.into()))?;
        told.push(LoggedEvent {
            count: key.value(),
            at: at.map(|at| UnixMillis(at.value())),
            subject: codec::decode_event(bytes.value())?,
            gateway: None,
        });
    }
    Ok(EventPage {
        head: HistoryPoint {
            history: HISTORY.into(),
            count,
        },
        oldest,
        events: told,
    })
}

/// The peppers that the store was written under.
pub(in crate::store::embedded) fn read_peppers(transaction: &ReadTransaction) -> Result<PepperList, StoreError> {
    let meta = transaction.open_table(META).map_err(|e| failed(e.into()))?;
    let listed = text_of(&meta, "pepper")?.unwrap_or_default();
    PepperList::parse(&listed, &text_of(&meta, "dropped")?.unwrap_or_default())
}

/// Everything after an id; after the empty text is everything.
fn from(after: &str) -> (std::ops::Bound<&str>, std::ops::Bound<&str>) {
    (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)
}
