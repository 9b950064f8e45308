//! Every command sent to Redis: Lua scripts, so that what belongs together is one atomic step.
//!
//! Keys, all in one cluster slot by their hash tag:
//!
//! ```text
//! {durward}:meta      hash   format, pepper, history, position, credentials and roles (how many)
//! {durward}:c         hash   credential id -> record
//! {durward}:t         hash   tenant id -> record
//! {durward}:r         hash   role id -> record
//! {durward}:u         hash   credential id -> when a sliding one was last used
//! {durward}:f         hash   fingerprint -> "credential-id tenant-id", or "= tenant-id"
//! {durward}:ids       zset   credential ids, all scores 0
//! {durward}:ids:<t>   zset   those of tenant t
//! {durward}:tids      zset   tenant ids
//! {durward}:rids:<t>  zset   role ids of tenant t
//! {durward}:events    stream p = position, e = event
//! {durward}:l:<key>   text   rate limits, see `counts`
//! ```
//!
//! Records live in hashes and not in keys of their own because Redis evicts and expires whole keys
//! only: a lost hash is noticed (`DATALOST`), a single lost key would look like an absence.

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Script, ScriptInvocation};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, TenantId};

use super::dial::Wire;
use super::judge::FindReply;
use super::link::{Connection, Fault, Retry};
use super::lua::{
    CLAIM, CREATE, CREATE_ROLE, DELETE_ROLE, EVENTS_KEPT, FIND, FORMAT, HEAD, PAGE, PROLOGUE, READ, RECORD_CHANGE, REPLACE, TOUCH, USE,
};
use crate::store::{MAX_TENANT_ROLES, StoreError};

/// Names of the keys under one prefix.
struct Keys {
    meta: String,
    credentials: String,
    tenants: String,
    roles: String,
    used: String,
    fingerprints: String,
    ids: String,
    role_ids: String,
    tenant_ids: String,
    events: String,
    prefix: String,
}

impl Keys {
    fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{{{prefix}}}:{name}");
        Self {
            meta: key("meta"),
            credentials: key("c"),
            tenants: key("t"),
            roles: key("r"),
            used: key("u"),
            fingerprints: key("f"),
            ids: key("ids"),
            role_ids: key("rids"),
            tenant_ids: key("tids"),
            events: key("events"),
            prefix: key(""),
        }
    }

    fn ids_of(&self, tenant: &TenantId) -> String {
        format!("{}:{tenant}", self.ids)
    }

    fn role_ids_of(&self, tenant: &TenantId) -> String {
        format!("{}:{tenant}", self.role_ids)
    }

    fn hash(&self, kind: Kind) -> &String {
        match kind {
            Kind::Credentials => &self.credentials,
            Kind::Tenants => &self.tenants,
            Kind::Roles => &self.roles,
        }
    }
}

/// Which records a read or a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Credentials,
    Tenants,
    Roles,
}

/// A record as it is stored, and when it was last used.
pub(super) type Stored = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// Made; the counter after it.
    At(u64),
    /// Refused, and nothing was written.
    Refused(Refusal),
}

/// Why a script refused a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NoTenant,
    TenantTaken,
    IdTaken,
    FingerprintTaken,
    /// Somebody else changed the record since it was read.
    Stale,
    /// There is no room for another one.
    Full,
}

/// The scripts and the keys they work on.
pub(super) struct Scripts {
    keys: Keys,
    pepper_check: String,
    find: Script,
    read: Script,
    page: Script,
    create: Script,
    create_role: Script,
    delete_role: Script,
    replace: Script,
    note_use: Script,
    touch: Script,
    claim: Script,
    head: Script,
}

impl Scripts {
    /// A key of ours by its name.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.keys.prefix)
    }

    pub(super) fn new(prefix: &str, pepper_check: &str) -> Self {
        let ours = |body: &str| Script::new(&format!("{PROLOGUE}{body}"));
        let change = |body: &str| Script::new(&format!("{RECORD_CHANGE}{PROLOGUE}{body}"));
        Self {
            keys: Keys::new(prefix),
            pepper_check: pepper_check.to_owned(),
            find: ours(FIND),
            read: ours(READ),
            page: ours(PAGE),
            create: Script::new(&format!("{RECORD_CHANGE}{CREATE}")),
            create_role: change(CREATE_ROLE),
            delete_role: change(DELETE_ROLE),
            replace: change(REPLACE),
            note_use: ours(USE),
            touch: ours(TOUCH),
            claim: Script::new(CLAIM),
            head: Script::new(HEAD),
        }
    }

    pub(super) fn events_key(&self) -> &str {
        &self.keys.events
    }

    pub(super) async fn find(&self, wire: &Wire, fingerprint: &Fingerprint) -> Result<FindReply, Fault> {
        let mut call = self.find.key(&self.keys.meta);
        call.key(&self.keys.fingerprints)
            .key(&self.keys.credentials)
            .key(&self.keys.tenants)
            .key(&self.keys.roles)
            .key(&self.keys.used)
            .arg(&self.pepper_check)
            .arg(fingerprint.to_hex());
        FindReply::parse(run(wire, &call).await?).ok_or_else(malformed)
    }

    pub(super) async fn read(&self, wire: &Wire, kind: Kind, id: &str) -> Result<Stored, Fault> {
        let counter = match kind {
            Kind::Credentials => "credentials",
            Kind::Tenants => "tenants",
            Kind::Roles => "roles",
        };
        let mut call = self.read.key(&self.keys.meta);
        call.key(self.keys.hash(kind))
            .key(&self.keys.used)
            .arg(&self.pepper_check)
            .arg(id)
            .arg(counter);
        run(wire, &call).await
    }

    /// At most `limit` records in order of id, after `after`; of one tenant if asked.
    pub(super) async fn page(
        &self,
        wire: &Wire,
        kind: Kind,
        tenant: Option<&TenantId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored>, Fault> {
        let index = match (kind, tenant) {
            (Kind::Credentials, Some(tenant)) => self.keys.ids_of(tenant),
            (Kind::Credentials, None) => self.keys.ids.clone(),
            (Kind::Tenants, _) => self.keys.tenant_ids.clone(),
            (Kind::Roles, Some(tenant)) => self.keys.role_ids_of(tenant),
            (Kind::Roles, None) => return Ok(Vec::new()),
        };
        let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let mut call = self.page.key(&self.keys.meta);
        call.key(index)
            .key(self.keys.hash(kind))
            .key(&self.keys.used)
            .arg(&self.pepper_check)
            .arg(from)
            .arg(limit);
        let reply: Vec<Option<Vec<u8>>> = run(wire, &call).await?;
        let mut reply = reply.into_iter();
        Ok(std::iter::from_fn(|| reply.next().zip(reply.next())).collect())
    }

    /// Makes a tenant, credentials, or both, and changes others, if nothing it rests on has changed.
    pub(super) async fn create(&self, wire: &Wire, new: &Creation, history: &str) -> Result<Written, Fault> {
        let mut call = self.create.key(&self.keys.meta);
        call.key(&self.keys.credentials)
            .key(&self.keys.fingerprints)
            .key(&self.keys.ids)
            .key(self.keys.ids_of(&new.tenant))
            .key(&self.keys.tenants)
            .key(&self.keys.tenant_ids)
            .key(&self.keys.events)
            .arg(&self.pepper_check)
            .arg(EVENTS_KEPT)
            .arg(history)
            .arg(FORMAT)
            .arg(new.tenant.as_str())
            .arg(&new.tenant_record)
            .arg(&new.tenant_event)
            .arg(Fingerprint::of_tenant(&new.tenant).to_hex())
            .arg(new.unchanged.len());
        for (id, record) in &new.unchanged {
            call.arg(id.as_str()).arg(record);
        }
        call.arg(new.changes.len());
        for changed in &new.changes {
            call.arg(changed.id.as_str()).arg(&changed.record).arg(&changed.event);
        }
        for credential in &new.credentials {
            call.arg(credential.id.as_str()).arg(&credential.record).arg(&credential.event);
            for fingerprint in &credential.fingerprints {
                call.arg(fingerprint.to_hex());
            }
        }
        written(run(wire, &call).await?)
    }

    /// Notes when credentials were last used.
    pub(super) async fn note_use(&self, wire: &Wire, used: &[(CredentialId, UnixMillis)]) -> Result<(), Fault> {
        let mut call = self.note_use.key(&self.keys.meta);
        call.key(&self.keys.credentials).key(&self.keys.used).arg(&self.pepper_check);
        for (id, at) in used {
            call.arg(id.as_str()).arg(at.0);
        }
        run::<u64>(wire, &call).await.map(|_| ())
    }

    pub(super) async fn create_role(&self, wire: &Wire, change: &Change<'_>, tenant: &TenantId) -> Result<Written, Fault> {
        let mut call = self.create_role.key(&self.keys.meta);
        call.key(&self.keys.roles)
            .key(self.keys.role_ids_of(tenant))
            .key(&self.keys.tenants)
            .key(&self.keys.events);
        self.add_change(&mut call, change).arg(tenant.as_str()).arg(MAX_TENANT_ROLES);
        written(run(wire, &call).await?)
    }

    /// Deletes exactly the role that was read.
    pub(super) async fn delete_role(&self, wire: &Wire, change: &Change<'_>, tenant: &TenantId) -> Result<Written, Fault> {
        let mut call = self.delete_role.key(&self.keys.meta);
        call.key(&self.keys.roles).key(self.keys.role_ids_of(tenant)).key(&self.keys.events);
        self.add_change(&mut call, change);
        written(run(wire, &call).await?)
    }

    pub(super) async fn replace(&self, wire: &Wire, kind: Kind, change: &Change<'_>, before: &[u8]) -> Result<Written, Fault> {
        let mut call = self.replace.key(&self.keys.meta);
        call.key(self.keys.hash(kind)).key(&self.keys.events);
        self.add_change(&mut call, change).arg(before);
        written(run(wire, &call).await?)
    }

    /// Waits until `replicas` have everything written so far; answers how many have.
    pub(super) async fn wait(&self, wire: &Wire, replicas: u32, deadline: std::time::Duration) -> Result<u32, Fault> {
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let mut connection = wire.connection.clone();
        redis::cmd("WAIT")
            .arg(replicas)
            .arg(millis)
            .query_async(&mut connection)
            .await
            .map_err(|e| Fault::of(&e))
    }

    /// Writes without a change, so that a following [`wait`](Self::wait) on this connection covers
    /// what other connections wrote before.
    pub(super) async fn touch(&self, wire: &Wire) -> Result<u64, Fault> {
        let mut call = self.touch.key(&self.keys.meta);
        call.arg(&self.pepper_check);
        run(wire, &call).await
    }

    /// Makes an empty store ours, or checks that it is.
    pub(super) async fn claim(&self, wire: &Wire) -> Result<(), Fault> {
        let mut call = self.claim.key(&self.keys.meta);
        call.arg(&self.pepper_check).arg(FORMAT);
        let reply: (Option<String>, Option<String>) = run(wire, &call).await?;
        let error = match (reply.0.as_deref(), reply.1.as_deref()) {
            (Some(FORMAT), Some(pepper)) if pepper == self.pepper_check => return Ok(()),
            (Some(FORMAT), Some(_)) => StoreError::Foreign(super::super::other_pepper()),
            (Some(format), Some(_)) => StoreError::Foreign(format!(
                "its format is {format:?}, this version of durward reads {FORMAT:?}; start the version that wrote it"
            )),
            _ => StoreError::Corrupt("its pepper check value or format is missing".into()),
        };
        Err(refuse(error))
    }

    /// History, counter and last stream id at one moment; `None` when the store holds no data.
    pub(super) async fn head(&self, wire: &Wire) -> Result<Option<(String, u64, String)>, Fault> {
        let mut call = self.head.key(&self.keys.meta);
        call.key(&self.keys.events).arg(&self.pepper_check);
        run(wire, &call).await
    }

    /// The heartbeat: an answer, and the answer that this is a primary. Replicas are never read.
    pub(super) async fn check_primary(&self, wire: &Wire) -> Result<(), Fault> {
        let mut connection = wire.connection.clone();
        let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection).await.map_err(|e| Fault::of(&e))?;
        match role.first() {
            Some(redis::Value::BulkString(role)) if role == b"master" => Ok(()),
            _ => Err(refuse(StoreError::Unavailable(
                "Redis is a replica here; the primary is needed".into(),
            ))),
        }
    }

    fn add_change<'a, 's>(&'s self, call: &'a mut ScriptInvocation<'s>, change: &Change<'_>) -> &'a mut ScriptInvocation<'s> {
        call.arg(&self.pepper_check)
            .arg(change.id)
            .arg(change.record)
            .arg(change.event)
            .arg(EVENTS_KEPT)
    }
}

/// The arguments that every change has.
pub(super) struct Change<'a> {
    pub(super) id: &'a str,
    pub(super) record: &'a [u8],
    pub(super) event: &'a [u8],
}

/// What a creation writes: a tenant if its record is not empty, then credentials, then changed ones,
/// if what it rests on is still what was read.
pub(super) struct Creation {
    pub(super) tenant: TenantId,
    pub(super) tenant_record: Vec<u8>,
    pub(super) tenant_event: Vec<u8>,
    /// What new credentials hang on and what is to be changed, as it was read.
    pub(super) unchanged: Vec<(CredentialId, Vec<u8>)>,
    pub(super) credentials: Vec<NewCredential>,
    pub(super) changes: Vec<ChangedCredential>,
}

/// One credential that a creation changes.
pub(super) struct ChangedCredential {
    pub(super) id: CredentialId,
    pub(super) record: Vec<u8>,
    pub(super) event: Vec<u8>,
}

/// One credential of a creation.
pub(super) struct NewCredential {
    pub(super) id: CredentialId,
    pub(super) record: Vec<u8>,
    pub(super) event: Vec<u8>,
    pub(super) fingerprints: [Fingerprint; 2],
}

async fn run<T: FromRedisValue>(wire: &Wire, call: &ScriptInvocation<'_>) -> Result<T, Fault> {
    let mut connection: MultiplexedConnection = wire.connection.clone();
    call.invoke_async(&mut connection).await.map_err(|e| Fault::of(&e))
}

fn written(reply: redis::Value) -> Result<Written, Fault> {
    match reply {
        redis::Value::Int(counter) => u64::try_from(counter).map(Written::At).map_err(|_| malformed()),
        redis::Value::BulkString(word) => Ok(Written::Refused(match word.as_slice() {
            b"tenant" => Refusal::NoTenant,
            b"owned" => Refusal::TenantTaken,
            b"id" => Refusal::IdTaken,
            b"full" => Refusal::Full,
            b"fingerprint" => Refusal::FingerprintTaken,
            b"stale" => Refusal::Stale,
            _ => return Err(malformed()),
        })),
        _ => Err(malformed()),
    }
}

fn malformed() -> Fault {
    refuse(StoreError::Corrupt("an answer of Redis has the wrong form".into()))
}

/// An answer that costs the connection.
fn refuse(error: StoreError) -> Fault {
    Fault {
        error,
        connection: Connection::Drop,
        retry: Retry::No,
    }
}
