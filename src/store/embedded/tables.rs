//! Tables of the embedded store, and what is read and written in one transaction.

use redb::{Database, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, Position, TenantRecord};
use crate::store::change::{self, Outcome};
use crate::store::{ChangeError, CredentialChange, CredentialFilter, Event, EventSubject, Found, MAX_LIST, StoreError, TenantState, codec};

/// Credential records by id.
const CREDENTIALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("credentials");
/// Ids by fingerprint: of the key, and of the id on its surface.
const FINGERPRINTS: TableDefinition<'_, &[u8; 32], &str> = TableDefinition::new("fingerprints");
/// Tenant records by id.
const TENANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tenants");
/// The last events by position.
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
/// Format version, pepper check value.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Position, as the only number.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// Version of the tables' layout; that of the records is inside them.
const FORMAT: &str = "1";

/// Events kept. Nobody replays them yet; `durward events` shows them, and 10,000 are about 2 MiB.
const EVENTS_KEPT: u64 = 10_000;

/// Writes down whose store this is, or checks it; answers the store's position.
///
/// # Errors
/// [`StoreError::Foreign`] for another pepper or a newer format, else as the disk fails.
pub(super) fn initialise(database: &Database, pepper_check: &str) -> Result<Position, StoreError> {
    let transaction = database.begin_write().map_err(|e| failed(e.into()))?;
    let position = {
        let mut meta = transaction.open_table(META).map_err(|e| failed(e.into()))?;
        let format = text_of(&meta, "format")?;
        let pepper = text_of(&meta, "pepper")?;
        match (format.as_deref(), pepper.as_deref()) {
            (None, None) => {
                meta.insert("format", FORMAT).map_err(|e| failed(e.into()))?;
                meta.insert("pepper", pepper_check).map_err(|e| failed(e.into()))?;
            }
            (Some(FORMAT), Some(known)) if known == pepper_check => {}
            (Some(FORMAT), Some(_)) => return Err(StoreError::Foreign(super::super::other_pepper())),
            (Some(FORMAT), None) | (None, Some(_)) => {
                return Err(StoreError::Corrupt("its pepper check value or format is missing".into()));
            }
            (Some(other), _) => {
                return Err(StoreError::Foreign(format!(
                    "its format is {other:?}, this version of durward reads {FORMAT:?}; start the version that wrote it"
                )));
            }
        }
        WriteTables::open(&transaction)?.position
    };
    transaction.commit().map_err(|e| failed(e.into()))?;
    Ok(position)
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

fn position_in(table: &impl ReadableTable<&'static str, u64>) -> Result<Position, StoreError> {
    let value = table.get("position").map_err(|e| failed(e.into()))?;
    Ok(Position(value.map_or(0, |v| v.value())))
}

/// One consistent view of everything.
pub(super) struct ReadTables {
    credentials: redb::ReadOnlyTable<&'static str, &'static [u8]>,
    fingerprints: redb::ReadOnlyTable<&'static [u8; 32], &'static str>,
    tenants: redb::ReadOnlyTable<&'static str, &'static [u8]>,
    counters: redb::ReadOnlyTable<&'static str, u64>,
}

impl ReadTables {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            credentials: transaction.open_table(CREDENTIALS).map_err(|e| failed(e.into()))?,
            fingerprints: transaction.open_table(FINGERPRINTS).map_err(|e| failed(e.into()))?,
            tenants: transaction.open_table(TENANTS).map_err(|e| failed(e.into()))?,
            counters: transaction.open_table(COUNTERS).map_err(|e| failed(e.into()))?,
        })
    }

    pub(super) fn position(&self) -> Result<Position, StoreError> {
        position_in(&self.counters)
    }

    pub(super) fn find(&self, fingerprint: &Fingerprint) -> Result<Found, StoreError> {
        let position = self.position()?;
        let index = self.fingerprints.get(fingerprint.as_bytes()).map_err(|e| failed(e.into()))?;
        let Some(id) = index else {
            return Ok(Found { position, facts: None });
        };
        let credential = credential_at(&self.credentials, id.value())?
            .ok_or_else(|| StoreError::Corrupt("a fingerprint points to no credential".into()))?;
        if !change::answers(&credential, fingerprint) {
            return Err(StoreError::Corrupt("a fingerprint points to another credential".into()));
        }
        let tenant = tenant_at(&self.tenants, credential.tenant.as_str())?
            .ok_or_else(|| StoreError::Corrupt(format!("the tenant of credential {} is missing", credential.id)))?;
        Ok(Found {
            position,
            facts: Some((credential, tenant)),
        })
    }

    pub(super) fn find_credential(&self, id: &CredentialId) -> Result<Option<CredentialRecord>, StoreError> {
        credential_at(&self.credentials, id.as_str())
    }

    pub(super) fn find_tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        tenant_at(&self.tenants, id.as_str())
    }

    pub(super) fn list_credentials(&self, filter: &CredentialFilter) -> Result<Vec<CredentialRecord>, StoreError> {
        let limit = filter.limit.min(MAX_LIST);
        let mut listed = Vec::new();
        for entry in after(&self.credentials, filter.after.as_ref().map(CredentialId::as_str))? {
            if listed.len() >= limit {
                break;
            }
            let (_, bytes) = entry.map_err(|e| failed(e.into()))?;
            let record = codec::decode_credential(bytes.value())?;
            if filter.admits(&record) {
                listed.push(record);
            }
        }
        Ok(listed)
    }

    pub(super) fn list_tenants(&self, last: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
        after(&self.tenants, last.map(TenantId::as_str))?
            .take(limit.min(MAX_LIST))
            .map(|entry| {
                let (_, bytes) = entry.map_err(|e| failed(e.into()))?;
                Ok(codec::decode_tenant(bytes.value())?)
            })
            .collect()
    }
}

fn after(
    table: &redb::ReadOnlyTable<&'static str, &'static [u8]>,
    last: Option<&str>,
) -> Result<redb::Range<'static, &'static str, &'static [u8]>, StoreError> {
    use std::ops::Bound;
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    table.range::<&str>((from, Bound::Unbounded)).map_err(|e| failed(e.into()))
}

/// The tables of one write transaction, with the events made so far.
pub(super) struct WriteTables<'t> {
    credentials: Table<'t, &'static str, &'static [u8]>,
    fingerprints: Table<'t, &'static [u8; 32], &'static str>,
    tenants: Table<'t, &'static str, &'static [u8]>,
    events: Table<'t, u64, &'static [u8]>,
    counters: Table<'t, &'static str, u64>,
    position: Position,
    made: Vec<Event>,
    writes: u64,
}

impl<'t> WriteTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        let counters = transaction.open_table(COUNTERS).map_err(|e| failed(e.into()))?;
        Ok(Self {
            credentials: transaction.open_table(CREDENTIALS).map_err(|e| failed(e.into()))?,
            fingerprints: transaction.open_table(FINGERPRINTS).map_err(|e| failed(e.into()))?,
            tenants: transaction.open_table(TENANTS).map_err(|e| failed(e.into()))?,
            events: transaction.open_table(EVENTS).map_err(|e| failed(e.into()))?,
            position: position_in(&counters)?,
            counters,
            made: Vec::new(),
            writes: 0,
        })
    }

    /// How many changes have begun to write: one that failed before it did left nothing behind.
    pub(super) const fn writes(&self) -> u64 {
        self.writes
    }

    /// Writes the position and hands the events over, in order.
    pub(super) fn finish(mut self) -> Result<Vec<Event>, StoreError> {
        self.counters.insert("position", self.position.0).map_err(|e| failed(e.into()))?;
        Ok(self.made)
    }

    pub(super) fn create_credential(&mut self, record: CredentialRecord) -> Result<CredentialRecord, ChangeError> {
        let record = change::first(record);
        let bytes = codec::encode_credential(&record).map_err(change::unwritable)?;
        if tenant_at(&self.tenants, record.tenant.as_str())?.is_none() {
            return Err(change::no_tenant(&record.tenant));
        }
        if credential_at(&self.credentials, record.id.as_str())?.is_some() {
            return Err(change::id_taken(&record.id));
        }
        let fingerprints = change::fingerprints(&record);
        for fingerprint in &fingerprints {
            let taken = self.fingerprints.get(fingerprint.as_bytes()).map_err(|e| failed(e.into()))?;
            if taken.is_some() {
                return Err(change::fingerprint_taken());
            }
        }
        self.writes += 1;
        for fingerprint in &fingerprints {
            self.fingerprints
                .insert(fingerprint.as_bytes(), record.id.as_str())
                .map_err(|e| failed(e.into()))?;
        }
        self.write_credential(&record, &bytes)?;
        Ok(record)
    }

    pub(super) fn change_credential(
        &mut self,
        id: &CredentialId,
        change: CredentialChange,
        now: UnixMillis,
    ) -> Result<CredentialRecord, ChangeError> {
        let record = credential_at(&self.credentials, id.as_str())?.ok_or_else(|| change::no_credential(id))?;
        match change::change_credential(&record, change, now)? {
            Outcome::Unchanged => Ok(record),
            Outcome::Changed(changed) => {
                let bytes = codec::encode_credential(&changed).map_err(change::unwritable)?;
                self.write_credential(&changed, &bytes)?;
                Ok(changed)
            }
        }
    }

    pub(super) fn create_tenant(&mut self, id: TenantId, now: UnixMillis) -> Result<TenantRecord, ChangeError> {
        if tenant_at(&self.tenants, id.as_str())?.is_some() {
            return Err(change::tenant_taken(&id));
        }
        let record = change::new_tenant(id, now);
        self.write_tenant(&record)?;
        Ok(record)
    }

    pub(super) fn set_tenant_active(&mut self, id: &TenantId, state: TenantState) -> Result<TenantRecord, ChangeError> {
        let record = tenant_at(&self.tenants, id.as_str())?.ok_or_else(|| change::no_tenant(id))?;
        match change::change_tenant(&record, state)? {
            Outcome::Unchanged => Ok(record),
            Outcome::Changed(changed) => {
                self.write_tenant(&changed)?;
                Ok(changed)
            }
        }
    }

    fn write_credential(&mut self, record: &CredentialRecord, bytes: &[u8]) -> Result<(), ChangeError> {
        self.writes += 1;
        self.credentials.insert(record.id.as_str(), bytes).map_err(|e| failed(e.into()))?;
        self.write_event(change::credential_event(record))
    }

    fn write_tenant(&mut self, record: &TenantRecord) -> Result<(), ChangeError> {
        let bytes = codec::encode_tenant(record).map_err(change::unwritable)?;
        self.writes += 1;
        self.tenants
            .insert(record.id.as_str(), bytes.as_slice())
            .map_err(|e| failed(e.into()))?;
        self.write_event(EventSubject::Tenant { id: record.id.clone() })
    }

    fn write_event(&mut self, subject: EventSubject) -> Result<(), ChangeError> {
        let bytes = codec::encode_event(&subject).map_err(StoreError::from)?;
        self.position = Position(self.position.0.saturating_add(1));
        self.events
            .insert(self.position.0, bytes.as_slice())
            .map_err(|e| failed(e.into()))?;
        if let Some(old) = self.position.0.checked_sub(EVENTS_KEPT) {
            self.events.remove(old).map_err(|e| failed(e.into()))?;
        }
        self.made.push(Event {
            position: self.position,
            subject,
        });
        Ok(())
    }
}
