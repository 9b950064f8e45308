//! Sends commands to Redis. Nearly all are Lua scripts, so that what belongs together is one atomic step.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind, Value};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::CredentialRecord;
use crate::store::peppers::{PepperAdmission, PepperList};
use crate::store::redis::operations::FindReply;
use crate::store::redis::topology::{RedisConnection, Replication, RetryRead, StoreFault};
use crate::store::{MARK_GRACE, MAX_MARK_AGE, MAX_TENANT_ROLES, MarkRoom, StoreError, change};

pub(crate) use catalogue::{
    ADMIT, ANNOUNCE, ChangeCall, ChangeRefusal, ChangeReply, CreateCall, CredentialWrite, EVENTS, EXCHANGE_CHECKPOINTS, MarkReply,
    NewCredential, RECEIPTS, RecordKind, Scripts, StoredRecord, StreamHead, WITHDRAW,
};
use catalogue::{FORMAT, hashes};
pub(crate) use rights::{Rights, script};

mod catalogue;
pub(crate) mod rights;

impl Scripts {
    /// The check values of this gateway's peppers, as scripts take them.
    pub(crate) fn peppers(&self) -> &str {
        &self.peppers
    }

    pub(crate) fn events_key(&self) -> &str {
        &self.keys.events
    }

    pub(crate) async fn read(&self, wire: &RedisConnection, kind: RecordKind, id: &str) -> Result<StoredRecord, StoreFault> {
        let counter = match kind {
            RecordKind::Credentials => "credentials",
            RecordKind::Tenants => "tenants",
            RecordKind::Roles => "roles",
        };
        let mut call = self.read.key(&self.keys.meta);
        call.key(self.keys.hash(kind))
            .key(&self.keys.used)
            .arg(&self.peppers)
            .arg(id)
            .arg(counter);
        run(wire, &call).await
    }

    pub(crate) async fn time(&self, wire: &RedisConnection) -> Result<UnixMillis, StoreFault> {
        let mut call = self.time.key(&self.keys.meta);
        call.arg(&self.peppers);
        run(wire, &call).await.map(UnixMillis)
    }

    /// The store's time and these records, at one moment, in the order of `asked`.
    pub(crate) async fn read_all(
        &self,
        wire: &RedisConnection,
        asked: &[(RecordKind, &str)],
    ) -> Result<(UnixMillis, Vec<Option<Vec<u8>>>), StoreFault> {
        let mut call = self.read_all.key(&self.keys.meta);
        call.key(&self.keys.credentials)
            .key(&self.keys.tenants)
            .key(&self.keys.roles)
            .arg(&self.peppers);
        for (kind, id) in asked {
            let number = match kind {
                RecordKind::Credentials => 2,
                RecordKind::Tenants => 3,
                RecordKind::Roles => 4,
            };
            call.arg(number).arg(*id);
        }
        let mut reply: Vec<Option<Vec<u8>>> = run(wire, &call).await?;
        if reply.len() != asked.len() + 1 {
            return Err(StoreFault::malformed());
        }
        let records = reply.split_off(1);
        let time = reply.pop().flatten().and_then(|time| std::str::from_utf8(&time).ok()?.parse().ok());
        Ok((UnixMillis(time.ok_or_else(StoreFault::malformed)?), records))
    }

    /// At most `limit` records in order of id, after `after`; those of one tenant if it is given.
    pub(crate) async fn page(
        &self,
        wire: &RedisConnection,
        kind: RecordKind,
        tenant: Option<&TenantId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, StoredRecord)>, StoreFault> {
        let index = match (kind, tenant) {
            (RecordKind::Credentials, Some(tenant)) => self.keys.ids_of(tenant),
            (RecordKind::Credentials, None) => self.keys.ids.clone(),
            (RecordKind::Tenants, _) => self.keys.tenant_ids.clone(),
            (RecordKind::Roles, Some(tenant)) => self.keys.role_ids_of(tenant),
            (RecordKind::Roles, None) => return Ok(Vec::new()),
        };
        // The records of one tenant are not counted in meta.
        let counter = match (kind, tenant) {
            (RecordKind::Credentials, None) => "credentials",
            (RecordKind::Tenants, _) => "tenants",
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
            let id = String::from_utf8(id.ok_or_else(StoreFault::malformed)?).map_err(|_| StoreFault::of_index())?;
            rows.push((id, reply.next().zip(reply.next()).ok_or_else(StoreFault::malformed)?));
        }
        Ok(rows)
    }

    /// Makes a tenant and credentials, and changes others, if nothing that the call rests on has changed.
    pub(crate) async fn create(&self, wire: &RedisConnection, new: &CreateCall, history: &str) -> Result<ChangeReply, StoreFault> {
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
            .arg(&self.origin)
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
                RecordKind::Credentials => 2,
                RecordKind::Tenants => 6,
                RecordKind::Roles => 9,
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

    /// Takes a mark that may be taken once.
    pub(crate) async fn take_once(
        &self,
        wire: &RedisConnection,
        mark: &Fingerprint,
        until: UnixMillis,
        room: MarkRoom,
    ) -> Result<MarkReply, StoreFault> {
        let mut call = self.take_once.key(&self.keys.meta);
        call.key(&self.keys.marks)
            .key(&self.keys.mark_ends)
            .arg(&self.peppers)
            .arg(mark.to_hex())
            .arg(until.0)
            .arg(room.most())
            .arg(MAX_MARK_AGE.as_millis())
            .arg(MARK_GRACE.as_millis());
        let (taken, word): (String, String) = run(wire, &call).await?;
        if taken != mark.to_hex() {
            return Err(StoreFault::swapped());
        }
        match word.as_str() {
            "first" => Ok(MarkReply::First),
            "taken" => Ok(MarkReply::Taken),
            "full" => Ok(MarkReply::Full),
            _ => Err(StoreFault::malformed()),
        }
    }

    /// Notes when credentials were last used.
    pub(crate) async fn note_use(&self, wire: &RedisConnection, used: &[(CredentialId, UnixMillis)]) -> Result<(), StoreFault> {
        let mut call = self.note_use.key(&self.keys.meta);
        call.key(&self.keys.credentials).key(&self.keys.used).arg(&self.peppers);
        for (id, at) in used {
            call.arg(id.as_str()).arg(at.0);
        }
        run::<u64>(wire, &call).await.map(|_| ())
    }

    pub(crate) async fn create_role(
        &self,
        wire: &RedisConnection,
        change: &ChangeCall<'_>,
        tenant: &TenantId,
    ) -> Result<ChangeReply, StoreFault> {
        let mut call = self.create_role.key(&self.keys.meta);
        call.key(&self.keys.roles)
            .key(self.keys.role_ids_of(tenant))
            .key(&self.keys.tenants)
            .key(&self.keys.events);
        self.add_change(&mut call, change).arg(tenant.as_str()).arg(MAX_TENANT_ROLES);
        written(run(wire, &call).await?)
    }

    /// Deletes exactly the role that was read.
    pub(crate) async fn delete_role(
        &self,
        wire: &RedisConnection,
        change: &ChangeCall<'_>,
        tenant: &TenantId,
    ) -> Result<ChangeReply, StoreFault> {
        let mut call = self.delete_role.key(&self.keys.meta);
        call.key(&self.keys.roles).key(self.keys.role_ids_of(tenant)).key(&self.keys.events);
        self.add_change(&mut call, change).arg(change.ending);
        written(run(wire, &call).await?)
    }

    /// Deletes exactly the credential that was read, with the last use that was read.
    pub(crate) async fn forget(
        &self,
        wire: &RedisConnection,
        change: &ChangeCall<'_>,
        record: &CredentialRecord,
        used: &[u8],
    ) -> Result<ChangeReply, StoreFault> {
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

    pub(crate) async fn replace(
        &self,
        wire: &RedisConnection,
        kind: RecordKind,
        change: &ChangeCall<'_>,
        before: &[u8],
    ) -> Result<ChangeReply, StoreFault> {
        let mut call = self.replace.key(&self.keys.meta);
        call.key(self.keys.hash(kind)).key(&self.keys.events);
        self.add_change(&mut call, change).arg(change.ending).arg(before);
        written(run(wire, &call).await?)
    }

    /// Waits until this number of replicas has everything that was written so far. Answers how many have it.
    pub(crate) async fn wait(&self, wire: &RedisConnection, replicas: u32, deadline: std::time::Duration) -> Result<u32, StoreFault> {
        // 0 means no deadline, and would block the connection for ever.
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut connection = wire.connection.clone();
        redis::cmd("WAIT")
            .arg(replicas)
            .arg(millis)
            .query_async(&mut connection)
            .await
            .map_err(|e| StoreFault::of(&e))
    }

    /// What the server says of its replication. A fault if the server is not a primary (any more).
    pub(crate) async fn replication(&self, wire: &RedisConnection) -> Result<Replication, StoreFault> {
        let mut connection = wire.connection.clone();
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut connection)
            .await
            .map_err(|e| StoreFault::of(&e))?;
        Replication::parse(&info).ok_or_else(StoreFault::replica)
    }

    /// Writes without a change, so that a following [`wait`](Self::wait) on this connection covers what other connections
    /// wrote before.
    pub(crate) async fn touch(&self, wire: &RedisConnection) -> Result<u64, StoreFault> {
        let mut call = self.touch.key(&self.keys.meta);
        call.arg(&self.peppers);
        run(wire, &call).await
    }

    /// Where the stream stands, and what it has at `cursor`, at one moment; `None` when the store holds no data.
    pub(crate) async fn head(&self, wire: &RedisConnection, cursor: &str) -> Result<Option<StreamHead>, StoreFault> {
        let mut call = self.head.key(&self.keys.meta);
        call.key(&self.keys.events)
            .key(&self.keys.gateways)
            .key(&self.keys.fingerprints)
            .key(&self.keys.credentials)
            .key(&self.keys.tenants)
            .arg(&self.peppers)
            .arg(cursor)
            .arg(&self.registered);
        let reply: Option<HeadReply> = run(wire, &call).await?;
        Ok(
            reply.map(|(history, counter, last_id, at_last, at_cursor, link, is_readable)| StreamHead {
                history,
                counter,
                last_id,
                at_last,
                at_cursor,
                link,
                is_readable: is_readable == 1,
            }),
        )
    }

    /// The heartbeat: the server must answer that it is a primary. Replicas are never read.
    pub(crate) async fn check_primary(&self, wire: &RedisConnection) -> Result<(), StoreFault> {
        let mut connection = wire.connection.clone();
        let role: Vec<redis::Value> = redis::cmd("ROLE")
            .query_async(&mut connection)
            .await
            .map_err(|e| StoreFault::of(&e))?;
        match role.first() {
            Some(redis::Value::BulkString(role)) if role == b"master" => Ok(()),
            _ => Err(StoreFault::replica()),
        }
    }

    fn add_change<'a, 's>(&'s self, call: &'a mut ScriptInvocation<'s>, change: &ChangeCall<'_>) -> &'a mut ScriptInvocation<'s> {
        call.arg(&self.peppers)
            .arg(change.id)
            .arg(change.record)
            .arg(change.event)
            .arg(&self.origin)
    }
}

/// History, counter, id and count of the last entry, count of the entry that was asked for, last link, whether look-ups succeed.
type HeadReply = (String, u64, String, Option<u64>, Option<u64>, String, u8);

async fn run<T: FromRedisValue>(wire: &RedisConnection, call: &ScriptInvocation<'_>) -> Result<T, StoreFault> {
    let mut connection: MultiplexedConnection = wire.connection.clone();
    call.invoke_async(&mut connection).await.map_err(|e| StoreFault::of(&e))
}

fn written(reply: redis::Value) -> Result<ChangeReply, StoreFault> {
    match reply {
        redis::Value::Int(counter) => u64::try_from(counter).map(ChangeReply::At).map_err(|_| StoreFault::malformed()),
        redis::Value::BulkString(word) => Ok(ChangeReply::Refused(match word.as_slice() {
            b"tenant" => ChangeRefusal::NoTenant,
            b"owned" => ChangeRefusal::TenantTaken,
            b"id" => ChangeRefusal::IdTaken,
            b"full" => ChangeRefusal::Full,
            b"children" => ChangeRefusal::TooManyChildren,
            b"credentials" => ChangeRefusal::TooManyCredentials,
            b"fingerprint" => ChangeRefusal::FingerprintTaken,
            b"stale" => ChangeRefusal::Stale,
            _ => return Err(StoreFault::malformed()),
        })),
        _ => Err(StoreFault::malformed()),
    }
}

/// Most look-ups of one call of the script, during which the server answers nobody else: a quarter of a millisecond for records that
/// hang on nothing, and about one at most (docs/decisions/0111).
const MAX_TOGETHER: usize = 32;

impl Scripts {
    pub(crate) async fn find(&self, wire: &RedisConnection, fingerprint: &Fingerprint) -> Result<FindReply, StoreFault> {
        let mut call = self.find.key(&self.keys.meta);
        for key in hashes(&self.keys) {
            call.key(key);
        }
        call.arg(&self.peppers).arg(&self.registered).arg(fingerprint.to_hex());
        let reply: Value = run(wire, &call).await?;
        let mut read = FindReply::read(reply, std::slice::from_ref(fingerprint))?;
        read.pop().ok_or_else(StoreFault::malformed)?
    }

    /// Looks all of them up in one message to the server. Each call of the script looks [`MAX_TOGETHER`] of them up, so all of
    /// them together are not one atomic step. Answers are in the order of `asked`.
    ///
    /// # Errors
    /// When the message as a whole was not answered.
    pub(crate) async fn find_all(
        &self,
        wire: &RedisConnection,
        asked: &[Fingerprint],
    ) -> Result<Vec<Result<FindReply, StoreFault>>, RedisError> {
        let mut pipeline = Pipeline::with_capacity(asked.len().div_ceil(MAX_TOGETHER));
        for together in asked.chunks(MAX_TOGETHER) {
            let mut command = self.find_begins.clone();
            for fingerprint in together {
                command.arg(fingerprint.to_hex());
            }
            pipeline.add_command(command);
        }
        let mut connection = wire.connection.clone();
        let replies = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
        let mut read = Vec::with_capacity(asked.len());
        for (reply, together) in replies.into_iter().zip(asked.chunks(MAX_TOGETHER)) {
            match read_together(reply, together) {
                Ok(found) => read.extend(found),
                Err(fault) => read.extend(together.iter().map(|_| Err(fault.clone()))),
            }
        }
        // A look-up without an answer is not known, which is not an absence.
        read.resize_with(asked.len(), || Err(StoreFault::malformed()));
        Ok(read)
    }
}

/// Reads the reply of one call of the script to the look-ups of these fingerprints, as [`FindReply::read`] does.
///
/// # Errors
/// As there, and the error of the whole call.
pub(crate) fn read_together(reply: Value, asked: &[Fingerprint]) -> Result<Vec<Result<FindReply, StoreFault>>, StoreFault> {
    let Value::ServerError(error) = reply else {
        return FindReply::read(reply, asked);
    };
    let error = RedisError::from(error);
    Err(match error.kind() {
        // The server was restarted. A look-up by itself sends the script again.
        ErrorKind::Server(ServerErrorKind::NoScript) => StoreFault {
            retry: RetryRead::Elsewhere,
            ..StoreFault::kept(StoreError::Unavailable("Redis does not know the script yet".into()))
        },
        _ => StoreFault::of(&error),
    })
}

/// Attempts of a claim. Each failed attempt means that the pepper of another gateway was added meanwhile.
const CLAIMS: usize = 10;

impl Scripts {
    /// Makes an empty store ours, or checks that the store is ours. Adds this gateway's first pepper to the list of peppers
    /// that the store was written under.
    pub(crate) async fn claim(&self, wire: &RedisConnection) -> Result<(), StoreFault> {
        for _ in 0..CLAIMS {
            let mut call = self.claim.key(&self.keys.meta);
            call.key(&self.keys.credentials)
                .key(&self.keys.fingerprints)
                .key(&self.keys.tenants)
                .arg(&self.peppers)
                .arg(FORMAT);
            let (format, peppers, dropped): (Option<String>, Option<String>, String) = run(wire, &call).await?;
            let list = match (format.as_deref(), peppers.as_deref()) {
                (Some(FORMAT), Some(peppers)) => PepperList::parse(peppers, &dropped).map_err(StoreFault::refused)?,
                (Some(format), Some(_)) => {
                    return Err(StoreFault::refused(StoreError::Foreign(format!(
                        "its format is {format:?}, this version of durward reads {FORMAT:?}; start the version that wrote it"
                    ))));
                }
                _ => {
                    let missing = "its pepper check value or format is missing";
                    return Err(StoreFault::refused(StoreError::Corrupt(missing.into())));
                }
            };
            match list.admit(&self.own).map_err(StoreFault::refused)? {
                PepperAdmission::Listed => return Ok(()),
                // What is there can be served. Scripts that would make a fingerprint refuse.
                PepperAdmission::Gone(why) => {
                    tracing::error!(alarm = "pepper_dropped", error = %why, "no new credentials can be made");
                    return Ok(());
                }
                PepperAdmission::Joins(joined) => {
                    if self.set_peppers(wire, &list, &joined).await? {
                        tracing::info!(pepper = %self.own.first().mark(), "new fingerprints are made under a new pepper");
                        return Ok(());
                    }
                }
            }
        }
        Err(StoreFault::refused(StoreError::Unavailable(
            "others keep changing its peppers".into(),
        )))
    }

    /// The peppers that the store was written under; `None` for an empty store.
    pub(crate) async fn read_peppers(&self, wire: &RedisConnection) -> Result<Option<PepperList>, StoreFault> {
        let mut call = self.read_peppers.key(&self.keys.meta);
        call.arg(&self.peppers);
        let (peppers, dropped): (Option<String>, String) = run(wire, &call).await?;
        let list = peppers.map(|peppers| PepperList::parse(&peppers, &dropped)).transpose();
        list.map_err(StoreFault::refused)
    }

    /// Replaces exactly this list. Answers whether it was still there.
    pub(crate) async fn set_peppers(&self, wire: &RedisConnection, before: &PepperList, after: &PepperList) -> Result<bool, StoreFault> {
        let mut call = self.set_peppers.key(&self.keys.meta);
        call.arg(&self.peppers)
            .arg(before.text())
            .arg(before.dropped_text())
            .arg(after.text())
            .arg(after.dropped_text());
        run(wire, &call).await
    }

    /// Lets the account `old` be found by the fingerprint `new`.
    pub(crate) async fn move_login(
        &self,
        wire: &RedisConnection,
        change: &ChangeCall<'_>,
        before: &[u8],
        old: &CredentialRecord,
        new: &Fingerprint,
    ) -> Result<ChangeReply, StoreFault> {
        let mut call = self.move_login.key(&self.keys.meta);
        call.key(&self.keys.credentials).key(&self.keys.fingerprints).key(&self.keys.events);
        self.add_change(&mut call, change)
            .arg(change.ending)
            .arg(before)
            .arg(new.to_hex())
            .arg(old.fingerprint.to_hex())
            .arg(format!("{} {}", old.id, old.tenant));
        written(run(wire, &call).await?)
    }
}

/// Number of hashes over which the list of used credentials is spread, so that no call holds up the server for long.
pub(crate) const PARTS: usize = 64;

/// Most entries of one hash: 128,000 in all, about 12 MiB.
const MOST: usize = 2_000;

/// How long an entry is good, in seconds. Gateways report every five minutes what is still in use.
const GOOD_FOR: u32 = 900;

/// The hash that a fingerprint is listed in.
pub(crate) fn part_of(fingerprint: &Fingerprint) -> usize {
    usize::from(fingerprint.as_bytes().first().copied().unwrap_or_default()) % PARTS
}

impl Scripts {
    /// Notes that these credentials, all of one part, are in use.
    pub(crate) async fn note_busy(&self, wire: &RedisConnection, part: usize, busy: &[Fingerprint]) -> Result<(), StoreFault> {
        let mut call = self.note_busy.key(&self.keys.meta);
        call.key(self.keys.busy(part)).arg(&self.peppers).arg(MOST);
        for fingerprint in busy {
            call.arg(fingerprint.as_bytes());
        }
        run::<u64>(wire, &call).await.map(drop)
    }

    /// The credentials of one part that were in use lately, each with the age of the note in seconds.
    pub(crate) async fn read_busy(&self, wire: &RedisConnection, part: usize) -> Result<Vec<(u64, Fingerprint)>, StoreFault> {
        let mut call = self.read_busy.key(self.keys.busy(part));
        call.arg(GOOD_FOR);
        let reply: Vec<Vec<u8>> = run(wire, &call).await?;
        // An entry that is no fingerprint is left out.
        let entry = |pair: &[Vec<u8>]| {
            let [fingerprint, age] = pair else { return None };
            let age = std::str::from_utf8(age).ok()?.parse().ok()?;
            Some((age, Fingerprint::from_bytes(fingerprint.as_slice().try_into().ok()?)))
        };
        Ok(reply.chunks(2).filter_map(entry).collect())
    }
}
