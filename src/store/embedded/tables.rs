//! The tables of the embedded store, and whose store it is.

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::PepperChecks;
use crate::base::ids::TenantId;
use crate::base::principal::chain::next_above;
use crate::base::principal::{CredentialRecord, MAX_ANCESTORS, Position, RoleRecord, TenantRecord};
use crate::store::peppers::{PepperAdmission, PepperList};
use crate::store::{StoreError, codec};

pub(super) use reading::{PART, ReadTables, events_after, read_peppers};
pub(super) use writing::{WriteTables, WrittenChanges};

mod reading;
mod writing;

const CREDENTIALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("credentials");
/// When a sliding credential was last used, by its id. Beside the records, so that a use is no change.
const LAST_USED: TableDefinition<'_, &str, i64> = TableDefinition::new("last_used");
const CREDENTIALS_OF: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("credentials_of");
const ROLES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("roles");
const ROLES_OF: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("roles_of");
/// Ids by fingerprint: of the key, and of the id on its surface. A tenant stands here under its own
/// fingerprint, its id after [`OF_TENANT`].
const FINGERPRINTS: TableDefinition<'_, &[u8; 32], &str> = TableDefinition::new("fingerprints");
const TENANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tenants");
/// How many credentials hang on a record, by its id, and how many a tenant has, by its id after [`OF_TENANT`].
/// A file from before this table was kept still opens: children are counted from then on, a tenant's credentials
/// when the first one is made.
const SIZES: TableDefinition<'_, &str, u64> = TableDefinition::new("sizes");
/// Marks of what may be used once, and the time until which each is kept.
const MARKS: TableDefinition<'_, &[u8; 32], i64> = TableDefinition::new("marks");
/// The same marks by that time.
const MARK_ENDS: TableDefinition<'_, (i64, &[u8; 32]), ()> = TableDefinition::new("mark_ends");
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

/// Most marks that one call removes. A call adds one, so removal keeps up.
const MARKS_SWEPT: usize = 16;

/// Events kept, for `durward events`; nobody replays them. 10,000 are about 2 MiB.
const EVENTS_KEPT: u64 = 10_000;

/// Checks that this store belongs to a gateway with these peppers, or writes it down for a new store. Answers the store's position
/// and the latest time in it.
///
/// # Errors
/// [`StoreError::Foreign`] when a pepper that it was written under is not among these, or for a newer format; else as the disk
/// fails.
pub(super) fn initialise(database: &Database, own: &PepperChecks) -> Result<(Position, UnixMillis), StoreError> {
    let transaction = database.begin_write().map_err(|e| failed(e.into()))?;
    initialise_meta(&transaction, own)?;
    let known = {
        let tables = WriteTables::open(&transaction, UnixMillis(0))?;
        (tables.position(), tables.clock())
    };
    transaction.commit().map_err(|e| failed(e.into()))?;
    Ok(known)
}

/// Writes format and peppers, or checks them.
fn initialise_meta(transaction: &WriteTransaction, own: &PepperChecks) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META).map_err(|e| failed(e.into()))?;
    let format = text_of(&meta, "format")?;
    let listed = text_of(&meta, "pepper")?;
    let list = match (format.as_deref(), listed.as_deref()) {
        (None, None) => PepperList::of(own.first()),
        (Some(FORMAT), Some(listed)) => {
            let list = PepperList::parse(listed, &text_of(&meta, "dropped")?.unwrap_or_default())?;
            match list.admit(own)? {
                PepperAdmission::Listed => return Ok(()),
                PepperAdmission::Joins(joined) => joined,
                PepperAdmission::Gone(why) => return Err(why),
            }
        }
        (Some(FORMAT), None) | (None, Some(_)) => {
            return Err(StoreError::Corrupt("its pepper check value or format is missing".into()));
        }
        (Some(other), _) => {
            return Err(StoreError::Foreign(format!(
                "its format is {other:?}, this version of durward reads {FORMAT:?}; start the version that wrote it"
            )));
        }
    };
    meta.insert("format", FORMAT).map_err(|e| failed(e.into()))?;
    meta.insert("pepper", list.text().as_str()).map_err(|e| failed(e.into()))?;
    Ok(())
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
/// seen. It goes on from the part of the chain that is known. A record that is missing ends the chain early, which whoever puts
/// facts together notices.
fn ancestors_at(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    record: &CredentialRecord,
    known: Vec<CredentialRecord>,
) -> Result<Vec<CredentialRecord>, StoreError> {
    let mut chain = known;
    while chain.len() <= MAX_ANCESTORS
        && let Some(parent) = next_above(record, &chain)
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
