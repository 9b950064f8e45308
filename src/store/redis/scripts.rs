//! Every command sent to Redis: Lua scripts, so that what belongs together is one atomic step.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Script, ScriptInvocation};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, PepperChecks};
use crate::base::ids::{CredentialId, TenantId};

use super::dial::Wire;
use super::endings::Ending;
use super::fault::Fault;
use super::keys::Keys;
use super::lua::{
    BOUNDED, CLAIM, CREATE, CREATE_ROLE, DELETE_ROLE, EVENTS_KEPT, FIND, FORGET, FORMAT, HEAD, MOVE, NOW, PAGE, PEPPERS, PROLOGUE, READ,
    READ_ALL, RECORD_CHANGE, REPLACE, SET_PEPPERS, TIME, TOUCH, USE,
};
use super::replicas::Replication;
use super::rights::script;
use crate::base::principal::CredentialRecord;
use crate::store::{MAX_TENANT_ROLES, RecordLimits, change};

mod busy;
mod finding;
mod peppers;

pub(super) use busy::{PARTS, part_of};

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
    /// As many credentials hang on one record as may.
    TooManyChildren,
    /// The tenant has as many credentials as it may.
    TooManyCredentials,
}

/// The scripts and the keys they work on.
pub(super) struct Scripts {
    keys: Keys,
    own: PepperChecks,
    /// Their check values as scripts take them, the first one first.
    peppers: String,
    /// What a look-up must find in the list of gateways; empty for what admits nobody.
    registered: String,
    find: Script,
    find_begins: Cmd,
    read: Script,
    read_all: Script,
    time: Script,
    page: Script,
    create: Script,
    create_role: Script,
    delete_role: Script,
    forget: Script,
    replace: Script,
    note_use: Script,
    touch: Script,
    claim: Script,
    read_peppers: Script,
    set_peppers: Script,
    move_login: Script,
    head: Script,
    note_busy: Script,
    read_busy: Script,
}

impl Scripts {
    /// A key of ours by its name.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.keys.prefix)
    }

    pub(super) fn new(prefix: &str, own: PepperChecks, registered: &str) -> Self {
        let ours = |body: &str| script(&format!("{BOUNDED}{PROLOGUE}{body}"));
        let change = |body: &str| script(&format!("{RECORD_CHANGE}{PROLOGUE}{body}"));
        let (keys, find) = (Keys::new(prefix), ours(FIND));
        let peppers = own.iter().map(|check| check.to_hex()).collect::<Vec<_>>().join(" ");
        Self {
            find_begins: finding::beginning(&find, &keys, &peppers),
            keys,
            peppers,
            own,
            registered: registered.to_owned(),
            find,
            read: ours(READ),
            read_all: ours(&format!("{NOW}{READ_ALL}")),
            time: script(&format!("{NOW}{TIME}")),
            page: ours(PAGE),
            create: script(&format!("{RECORD_CHANGE}{CREATE}")),
            create_role: change(CREATE_ROLE),
            delete_role: change(DELETE_ROLE),
            forget: change(FORGET),
            replace: change(REPLACE),
            note_use: ours(USE),
            touch: ours(TOUCH),
            claim: script(CLAIM),
            read_peppers: script(PEPPERS),
            set_peppers: script(SET_PEPPERS),
            move_login: change(MOVE),
            head: script(HEAD),
            note_busy: ours(busy::NOTE),
            read_busy: script(busy::READ),
        }
    }

    /// This gateway's peppers as scripts take them.
    pub(super) fn peppers(&self) -> &str {
        &self.peppers
    }

    pub(super) fn events_key(&self) -> &str {
        &self.keys.events
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
            .arg(&self.peppers)
            .arg(id)
            .arg(counter);
        run(wire, &call).await
    }

    /// The store's time.
    pub(super) async fn time(&self, wire: &Wire) -> Result<UnixMillis, Fault> {
        let mut call = self.time.key(&self.keys.meta);
        call.arg(&self.peppers);
        run(wire, &call).await.map(UnixMillis)
    }

    /// The store's time, and these records as they stand at one moment, in the order of the question.
    pub(super) async fn read_all(&self, wire: &Wire, asked: &[(Kind, &str)]) -> Result<(UnixMillis, Vec<Option<Vec<u8>>>), Fault> {
        let mut call = self.read_all.key(&self.keys.meta);
        call.key(&self.keys.credentials)
            .key(&self.keys.tenants)
            .key(&self.keys.roles)
            .arg(&self.peppers);
        for (kind, id) in asked {
            let number = match kind {
                Kind::Credentials => 2,
                Kind::Tenants => 3,
                Kind::Roles => 4,
            };
            call.arg(number).arg(*id);
        }
        let mut reply: Vec<Option<Vec<u8>>> = run(wire, &call).await?;
        if reply.len() != asked.len() + 1 {
            return Err(Fault::malformed());
        }
        let records = reply.split_off(1);
        let time = reply.pop().flatten().and_then(|time| std::str::from_utf8(&time).ok()?.parse().ok());
        Ok((UnixMillis(time.ok_or_else(Fault::malformed)?), records))
    }

    /// At most `limit` records in order of id, after `after`; of one tenant if asked.
    pub(super) async fn page(
        &self,
        wire: &Wire,
        kind: Kind,
        tenant: Option<&TenantId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored)>, Fault> {
        let index = match (kind, tenant) {
            (Kind::Credentials, Some(tenant)) => self.keys.ids_of(tenant),
            (Kind::Credentials, None) => self.keys.ids.clone(),
            (Kind::Tenants, _) => self.keys.tenant_ids.clone(),
            (Kind::Roles, Some(tenant)) => self.keys.role_ids_of(tenant),
            (Kind::Roles, None) => return Ok(Vec::new()),
        };
        // Of one tenant nobody counts how many there ought to be.
        let counter = match (kind, tenant) {
            (Kind::Credentials, None) => "credentials",
            (Kind::Tenants, _) => "tenants",
            _ => "",
        };
        let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let mut call = self.page.key(&self.keys.meta);
        call.key(index)
            .key(self.keys.hash(kind))
            .key(&self.keys.used)
            .arg(&self.peppers)
            .arg(from)
            .arg(limit)
            .arg(counter);
        let reply: Vec<Option<Vec<u8>>> = run(wire, &call).await?;
        let mut reply = reply.into_iter();
        let mut rows = Vec::new();
        while let Some(id) = reply.next() {
            let id = String::from_utf8(id.ok_or_else(Fault::malformed)?).map_err(|_| Fault::of_index())?;
            rows.push((id, reply.next().zip(reply.next()).ok_or_else(Fault::malformed)?));
        }
        Ok(rows)
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
            .key(&self.keys.roles)
            .key(&self.keys.children)
            .arg(&self.peppers)
            .arg(EVENTS_KEPT)
            .arg(history)
            .arg(FORMAT)
            .arg(new.tenant.as_str())
            .arg(&new.tenant_record)
            .arg(&new.tenant_event)
            .arg(Fingerprint::of_tenant(&new.tenant).to_hex())
            .arg(new.watermark.map_or_else(String::new, |at| at.0.to_string()))
            .arg(new.made_at.0)
            .arg(new.limits.map_or_else(String::new, |limits| limits.children.to_string()))
            .arg(new.limits.map_or_else(String::new, |limits| limits.credentials.to_string()))
            .arg(new.unchanged.len());
        for (kind, id, record) in &new.unchanged {
            let number = match kind {
                Kind::Credentials => 2,
                Kind::Tenants => 6,
                Kind::Roles => 9,
            };
            call.arg(number).arg(id).arg(record);
        }
        call.arg(new.changes.len());
        for changed in &new.changes {
            call.arg(changed.id.as_str())
                .arg(&changed.record)
                .arg(&changed.event)
                .arg(changed.ending.encode());
        }
        for credential in &new.credentials {
            call.arg(credential.id.as_str()).arg(&credential.record).arg(&credential.event);
            for fingerprint in &credential.fingerprints {
                call.arg(fingerprint.to_hex());
            }
            call.arg(credential.parent.as_ref().map_or("", CredentialId::as_str));
        }
        written(run(wire, &call).await?)
    }

    /// Notes when credentials were last used.
    pub(super) async fn note_use(&self, wire: &Wire, used: &[(CredentialId, UnixMillis)]) -> Result<(), Fault> {
        let mut call = self.note_use.key(&self.keys.meta);
        call.key(&self.keys.credentials).key(&self.keys.used).arg(&self.peppers);
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
        self.add_change(&mut call, change).arg(change.ending);
        written(run(wire, &call).await?)
    }

    /// Forgets exactly the credential that was read, used when it was read to be.
    pub(super) async fn forget(&self, wire: &Wire, change: &Change<'_>, record: &CredentialRecord, used: &[u8]) -> Result<Written, Fault> {
        let mut call = self.forget.key(&self.keys.meta);
        call.key(&self.keys.credentials)
            .key(&self.keys.fingerprints)
            .key(&self.keys.ids)
            .key(self.keys.ids_of(&record.tenant))
            .key(&self.keys.used)
            .key(&self.keys.events)
            .key(&self.keys.children);
        self.add_change(&mut call, change).arg(used);
        for fingerprint in change::fingerprints(record) {
            call.arg(fingerprint.to_hex());
        }
        call.arg(record.parent().map_or("", |parent| parent.id.as_str()));
        written(run(wire, &call).await?)
    }

    pub(super) async fn replace(&self, wire: &Wire, kind: Kind, change: &Change<'_>, before: &[u8]) -> Result<Written, Fault> {
        let mut call = self.replace.key(&self.keys.meta);
        call.key(self.keys.hash(kind)).key(&self.keys.events);
        self.add_change(&mut call, change).arg(change.ending).arg(before);
        written(run(wire, &call).await?)
    }

    /// Waits until `replicas` have everything written so far; answers how many have.
    pub(super) async fn wait(&self, wire: &Wire, replicas: u32, deadline: std::time::Duration) -> Result<u32, Fault> {
        // Without a deadline, which is what 0 means, it would block the connection for ever.
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut connection = wire.connection.clone();
        redis::cmd("WAIT")
            .arg(replicas)
            .arg(millis)
            .query_async(&mut connection)
            .await
            .map_err(|e| Fault::of(&e))
    }

    /// What the server says of its replication; not the primary if it is none (any more).
    pub(super) async fn replication(&self, wire: &Wire) -> Result<Replication, Fault> {
        let mut connection = wire.connection.clone();
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut connection)
            .await
            .map_err(|e| Fault::of(&e))?;
        Replication::parse(&info).ok_or_else(Fault::replica)
    }

    /// Writes without a change, so that a following [`wait`](Self::wait) on this connection covers
    /// what other connections wrote before.
    pub(super) async fn touch(&self, wire: &Wire) -> Result<u64, Fault> {
        let mut call = self.touch.key(&self.keys.meta);
        call.arg(&self.peppers);
        run(wire, &call).await
    }

    /// Where the store stands at one moment, and what it has at `cursor` of the stream; `None` when
    /// the store holds no data.
    pub(super) async fn head(&self, wire: &Wire, cursor: &str) -> Result<Option<Head>, Fault> {
        let mut call = self.head.key(&self.keys.meta);
        call.key(&self.keys.events).arg(&self.peppers).arg(cursor);
        let reply: Option<HeadReply> = run(wire, &call).await?;
        Ok(reply.map(|(history, counter, last_id, at_last, at_cursor, link)| Head {
            history,
            counter,
            last_id,
            at_last,
            at_cursor,
            link,
        }))
    }

    /// The heartbeat: an answer, and the answer that this is a primary. Replicas are never read.
    pub(super) async fn check_primary(&self, wire: &Wire) -> Result<(), Fault> {
        let mut connection = wire.connection.clone();
        let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection).await.map_err(|e| Fault::of(&e))?;
        match role.first() {
            Some(redis::Value::BulkString(role)) if role == b"master" => Ok(()),
            _ => Err(Fault::replica()),
        }
    }

    fn add_change<'a, 's>(&'s self, call: &'a mut ScriptInvocation<'s>, change: &Change<'_>) -> &'a mut ScriptInvocation<'s> {
        call.arg(&self.peppers)
            .arg(change.id)
            .arg(change.record)
            .arg(change.event)
            .arg(EVENTS_KEPT)
    }
}

/// History, counter, id and count of the last entry, count of the entry that was asked for, last link.
type HeadReply = (String, u64, String, Option<u64>, Option<u64>, String);

/// Where the store stands.
pub(super) struct Head {
    /// The random name of its history.
    pub(super) history: String,
    /// Changes counted since its beginning.
    pub(super) counter: u64,
    /// The newest entry of the stream.
    pub(super) last_id: String,
    /// Its count, if it has one.
    pub(super) at_last: Option<u64>,
    /// The count of the entry that was asked for, if it is there.
    pub(super) at_cursor: Option<u64>,
    /// The link of the last event; a dash for none.
    pub(super) link: String,
}

/// The arguments that every change has.
pub(super) struct Change<'a> {
    pub(super) id: &'a str,
    pub(super) record: &'a [u8],
    pub(super) event: &'a [u8],
    /// What it leaves of the record's force, [`Ending::encode`].
    pub(super) ending: &'a str,
}

/// What a creation writes: a tenant if its record is not empty, then credentials, then changed ones,
/// if what it rests on is still what was read.
pub(super) struct Creation {
    pub(super) tenant: TenantId,
    pub(super) tenant_record: Vec<u8>,
    pub(super) tenant_event: Vec<u8>,
    /// What all of this rests on, what new credentials hang on, and what is to be changed, as it was read.
    pub(super) unchanged: Vec<(Kind, String, Vec<u8>)>,
    pub(super) credentials: Vec<NewCredential>,
    pub(super) changes: Vec<ChangedCredential>,
    /// Of a change that ends what was made before it.
    pub(super) watermark: Option<UnixMillis>,
    /// The latest time of what is made.
    pub(super) made_at: UnixMillis,
    pub(super) limits: Option<RecordLimits>,
}

/// One credential that a creation changes.
pub(super) struct ChangedCredential {
    pub(super) id: CredentialId,
    pub(super) record: Vec<u8>,
    pub(super) event: Vec<u8>,
    pub(super) ending: Ending,
}

/// One credential of a creation.
#[derive(Clone)]
pub(super) struct NewCredential {
    pub(super) id: CredentialId,
    pub(super) record: Vec<u8>,
    pub(super) event: Vec<u8>,
    pub(super) fingerprints: [Fingerprint; 2],
    pub(super) parent: Option<CredentialId>,
}

async fn run<T: FromRedisValue>(wire: &Wire, call: &ScriptInvocation<'_>) -> Result<T, Fault> {
    let mut connection: MultiplexedConnection = wire.connection.clone();
    call.invoke_async(&mut connection).await.map_err(|e| Fault::of(&e))
}

fn written(reply: redis::Value) -> Result<Written, Fault> {
    match reply {
        redis::Value::Int(counter) => u64::try_from(counter).map(Written::At).map_err(|_| Fault::malformed()),
        redis::Value::BulkString(word) => Ok(Written::Refused(match word.as_slice() {
            b"tenant" => Refusal::NoTenant,
            b"owned" => Refusal::TenantTaken,
            b"id" => Refusal::IdTaken,
            b"full" => Refusal::Full,
            b"children" => Refusal::TooManyChildren,
            b"credentials" => Refusal::TooManyCredentials,
            b"fingerprint" => Refusal::FingerprintTaken,
            b"stale" => Refusal::Stale,
            _ => return Err(Fault::malformed()),
        })),
        _ => Err(Fault::malformed()),
    }
}
