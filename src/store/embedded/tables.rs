//! Tables of the embedded store, and what is read and written in one transaction.

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, PepperChecks};
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, MAX_ANCESTORS, Position, RoleRecord, TenantRecord};
use crate::store::filter::ReadRecord;
use crate::store::{Again, CredentialFilter, Found, FoundAgain, FoundFacts, MAX_LIST, MAX_TENANT_ROLES, StoreError, change, codec};

pub(super) use log::events_after;
pub(super) use peppers::read_peppers;
pub(super) use writing::{WriteTables, Written};

mod log;
mod peppers;
mod writing;

/// Credential records by id.
const CREDENTIALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("credentials");
/// When a sliding credential was last used, by its id. Beside the records, so that a use is no change.
const LAST_USED: TableDefinition<'_, &str, i64> = TableDefinition::new("last_used");
/// Credentials by tenant.
const CREDENTIALS_OF: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("credentials_of");
/// Role records by id.
const ROLES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("roles");
/// Roles by tenant.
const ROLES_OF: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("roles_of");
/// Ids by fingerprint: of the key, and of the id on its surface. A tenant stands here under its own
/// fingerprint, its id after [`OF_TENANT`].
const FINGERPRINTS: TableDefinition<'_, &[u8; 32], &str> = TableDefinition::new("fingerprints");
/// Tenant records by id.
const TENANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tenants");
/// How many credentials hang on a record, by its id, and how many a tenant has, by its id after [`OF_TENANT`].
/// A file from before this table was kept still opens: children are counted from then on, a tenant's credentials
/// when the first one is made.
const SIZES: TableDefinition<'_, &str, u64> = TableDefinition::new("sizes");
/// The last events by position.
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
/// When they were made. Beside them, so that a file from before this table was kept still opens; its
/// events have no time.
const EVENT_TIMES: TableDefinition<'_, u64, i64> = TableDefinition::new("event_times");
/// Format version, pepper check value.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Position, and the latest time that anything was made at.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// Before the id of a tenant in the index; no id begins with it.
const OF_TENANT: char = '=';

/// Version of the tables' layout; that of the records is inside them.
const FORMAT: &str = "2";

/// Events kept, for `durward events`; nobody replays them. 10,000 are about 2 MiB.
const EVENTS_KEPT: u64 = 10_000;

/// Writes down whose store this is, or checks it; answers the store's position, and the latest time in it.
///
/// # Errors
/// [`StoreError::Foreign`] when a pepper that it was written under is not among these, or for a newer
/// format; else as the disk fails.
pub(super) fn initialise(database: &Database, own: &PepperChecks) -> Result<(Position, UnixMillis), StoreError> {
    let transaction = database.begin_write().map_err(|e| failed(e.into()))?;
    peppers::initialise(&transaction, own)?;
    let known = {
        let tables = WriteTables::open(&transaction, UnixMillis(0))?;
        (tables.position(), tables.clock())
    };
    transaction.commit().map_err(|e| failed(e.into()))?;
    Ok(known)
}

/// A store error for what redb says. Its texts name pages and files, never values.
pub(super) fn failed(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(what) => StoreError::Corrupt(what),
        other => StoreError::Unavailable(other.to_string()),
    }
}

fn text_of(table: &impl ReadableTable<&'static str, &'static str>, key: &str) -> Result<Option<String>, StoreError> {
    let value = table.get(key).map_err(|e| failed(e.into()))?;
    Ok(value.map(|v| v.value().to_owned()))
}

fn credential_at(table: &impl ReadableTable<&'static str, &'static [u8]>, id: &str) -> Result<Option<CredentialRecord>, StoreError> {
    let Some(bytes) = table.get(id).map_err(|e| failed(e.into()))? else {
        return Ok(None);
    };
    let record = codec::decode_credential(bytes.value())?;
    if record.id.as_str() != id {
        return Err(StoreError::Corrupt("a credential stands under another id".into()));
    }
    Ok(Some(record))
}

fn tenant_at(table: &impl ReadableTable<&'static str, &'static [u8]>, id: &str) -> Result<Option<TenantRecord>, StoreError> {
    let Some(bytes) = table.get(id).map_err(|e| failed(e.into()))? else {
        return Ok(None);
    };
    let record = codec::decode_tenant(bytes.value())?;
    if record.id.as_str() != id {
        return Err(StoreError::Corrupt("a tenant stands under another id".into()));
    }
    Ok(Some(record))
}

fn role_at(table: &impl ReadableTable<&'static str, &'static [u8]>, id: &str) -> Result<Option<RoleRecord>, StoreError> {
    let Some(bytes) = table.get(id).map_err(|e| failed(e.into()))? else {
        return Ok(None);
    };
    let role = codec::decode_role(bytes.value())?;
    if role.id.as_str() != id {
        return Err(StoreError::Corrupt("a role stands under another id".into()));
    }
    Ok(Some(role))
}

/// What a record hangs on, its parent first: one more than a chain may have, so that a longer one is
/// seen. A record that is missing ends the chain early, which whoever puts facts together notices.
fn ancestors_at(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    record: &CredentialRecord,
) -> Result<Vec<CredentialRecord>, StoreError> {
    let mut chain: Vec<CredentialRecord> = Vec::new();
    while chain.len() <= MAX_ANCESTORS
        && let Some(parent) = chain.last().unwrap_or(record).parent()
        && let Some(found) = credential_at(table, parent.id.as_str())?
    {
        chain.push(found);
    }
    Ok(chain)
}

fn clock_in(table: &impl ReadableTable<&'static str, u64>) -> Result<UnixMillis, StoreError> {
    let value = table.get("clock").map_err(|e| failed(e.into()))?;
    Ok(UnixMillis(value.map_or(0, |v| i64::try_from(v.value()).unwrap_or(i64::MAX))))
}

fn position_in(table: &impl ReadableTable<&'static str, u64>) -> Result<Position, StoreError> {
    let value = table.get("position").map_err(|e| failed(e.into()))?;
    Ok(Position(value.map_or(0, |v| v.value())))
}

/// One consistent view of everything.
pub(super) struct ReadTables {
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
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
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

    pub(super) fn position(&self) -> Result<Position, StoreError> {
        position_in(&self.counters)
    }

    pub(super) fn find(&self, fingerprint: &Fingerprint) -> Result<Found, StoreError> {
        self.find_at(self.position()?, fingerprint)
    }

    /// Reads many again; their position is that of the transaction and is looked up once. What was read
    /// at that very position is what would be read now: each change moves it, in the step that makes the change.
    pub(super) fn find_again(&self, asked: &[Again]) -> Result<Vec<Result<FoundAgain, StoreError>>, StoreError> {
        let position = self.position()?;
        let again = |asked: &Again| match asked.known {
            Some(known) if known == position => Ok(FoundAgain::Unchanged(position)),
            _ => self.find_at(position, &asked.fingerprint).map(FoundAgain::Read),
        };
        Ok(asked.iter().map(again).collect())
    }

    fn find_at(&self, position: Position, fingerprint: &Fingerprint) -> Result<Found, StoreError> {
        let index = self.fingerprints.get(fingerprint.as_bytes()).map_err(|e| failed(e.into()))?;
        let facts = match index {
            None => None,
            Some(id) => match id.value().strip_prefix(OF_TENANT) {
                Some(tenant) => Some(self.facts_of_tenant(tenant)?),
                None => Some(self.facts_of(id.value())?),
            },
        };
        match facts {
            Some(found) if !change::answers(&found.credential, fingerprint) => {
                Err(StoreError::Corrupt("a fingerprint points to another credential".into()))
            }
            facts => Ok(Found {
                position,
                facts,
                primary_at: None,
            }),
        }
    }

    fn facts_of(&self, id: &str) -> Result<FoundFacts, StoreError> {
        let credential = self
            .used_credential_at(id)?
            .ok_or_else(|| StoreError::Corrupt("a fingerprint points to no credential".into()))?;
        let tenant = tenant_at(&self.tenants, credential.tenant.as_str())?
            .ok_or_else(|| StoreError::Corrupt(format!("the tenant of credential {} is missing", credential.id)))?;
        let ancestors = ancestors_at(&self.credentials, &credential)?
            .into_iter()
            .map(|ancestor| self.with_use(ancestor))
            .collect::<Result<Vec<_>, _>>()?;
        let mut roles = Vec::new();
        for id in std::iter::once(&credential).chain(&ancestors).flat_map(|record| record.roles()) {
            roles.extend(role_at(&self.roles, id.as_str())?);
        }
        change::assemble(credential, tenant, ancestors, roles)
    }

    fn facts_of_tenant(&self, id: &str) -> Result<FoundFacts, StoreError> {
        let tenant = tenant_at(&self.tenants, id)?.ok_or_else(|| StoreError::Corrupt("a fingerprint points to no tenant".into()))?;
        change::assemble(CredentialRecord::of_tenant(&tenant), tenant, Vec::new(), Vec::new())
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
        Ok(change::used(record, last_used.map(|at| UnixMillis(at.value()))))
    }

    pub(super) fn find_credential(&self, id: &CredentialId) -> Result<Option<CredentialRecord>, StoreError> {
        self.used_credential_at(id.as_str())
    }

    pub(super) fn find_tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        tenant_at(&self.tenants, id.as_str())
    }

    pub(super) fn find_role(&self, id: &RoleId) -> Result<Option<RoleRecord>, StoreError> {
        role_at(&self.roles, id.as_str())
    }

    pub(super) fn list_credentials(&self, filter: &CredentialFilter) -> Result<Vec<CredentialRecord>, StoreError> {
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
    pub(super) fn read_part(&self, tenant: Option<&TenantId>, after: &str) -> Result<Vec<ReadRecord>, StoreError> {
        let read = |id: Result<String, StoreError>| {
            let id = id?;
            let record = change::listed(&id, self.used_credential_at(&id));
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
            let record = match change::listed(&id, self.used_credential_at(&id)) {
                Err(error @ StoreError::Corrupt(_)) if filter.passes_over_broken => {
                    tracing::error!(alarm = "corrupt_record", %error, "passed over");
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

    pub(super) fn list_roles(&self, tenant: &TenantId) -> Result<Vec<RoleRecord>, StoreError> {
        ids_of(&self.roles_of, tenant, "")?
            .take(MAX_TENANT_ROLES)
            .map(|id| role_at(&self.roles, &id?)?.ok_or_else(|| StoreError::Corrupt("an index names a missing role".into())))
            .collect()
    }

    pub(super) fn list_tenants(&self, last: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
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

/// Most records that are read for a page at a time: they take a fraction of the deadline of a read, also on a slow machine.
pub(super) const PART: usize = 200;

/// Everything after an id; after the empty text is everything.
fn from(after: &str) -> (std::ops::Bound<&str>, std::ops::Bound<&str>) {
    (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)
}

/// The ids an index holds for a tenant after `after`, in order.
fn ids_of(
    index: &impl ReadableTable<(&'static str, &'static str), ()>,
    tenant: &TenantId,
    after: &str,
) -> Result<impl Iterator<Item = Result<String, StoreError>>, StoreError> {
    let tenant = tenant.as_str().to_owned();
    let begin = std::ops::Bound::Excluded((tenant.as_str(), after));
    let range = index
        .range::<(&str, &str)>((begin, std::ops::Bound::Unbounded))
        .map_err(|e| failed(e.into()))?;
    Ok(range
        .map(|entry| {
            let (key, ()) = entry.map(|(key, _)| (key, ())).map_err(|e| failed(e.into()))?;
            let (owner, id) = key.value();
            Ok((owner.to_owned(), id.to_owned()))
        })
        .take_while(move |entry| entry.as_ref().map_or(true, |(owner, _)| *owner == tenant))
        .map(|entry| entry.map(|(_, id)| id)))
}
