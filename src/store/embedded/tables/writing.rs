//! What is written in one transaction of the embedded store.

use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, PepperMark};
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, Position, RoleRecord, TenantRecord};
use crate::store::change::{self, ChangeOutcome, ChangeTimes};
use crate::store::peppers::{PepperList, move_event, moved};
use crate::store::rests_on::{RestsOn, check_epoch};
use crate::store::sweep::natural_end;
use crate::store::{
    ChangeError, CredentialChange, Event, EventSubject, MARK_GRACE, MAX_FORGOTTEN, MAX_MARK_AGE, MAX_TENANT_ROLES, MAX_TOUCHED, MarkRoom,
    NewRecords, RecordLimits, RoleChange, StoreError, TenantState, codec,
};

use super::{
    COUNTERS, CREDENTIALS, CREDENTIALS_OF, EVENT_TIMES, EVENTS, EVENTS_KEPT, FINGERPRINTS, LAST_USED, MARK_ENDS, MARKS, MARKS_SWEPT, META,
    OF_TENANT, ROLES, ROLES_OF, SIZES, TENANTS, ancestors_at, clock_in, credential_at, failed, ids_of, position_in, role_at, tenant_at,
    text_of,
};

/// What a transaction came to.
pub(in crate::store::embedded) struct WrittenChanges {
    /// The events it made, in order.
    pub(in crate::store::embedded) events: Vec<Event>,
    /// How much it wrote; with nothing written there is nothing to commit.
    pub(in crate::store::embedded) writes: u64,
    /// The latest time that anything was made at.
    pub(in crate::store::embedded) clock: UnixMillis,
}

/// A credential to be changed, as it will be, and what is to be written; nothing if it is so already.
type ChangedCredential = (CredentialRecord, Option<Vec<u8>>);

/// What happens to a record that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizeChange {
    Made,
    Forgotten,
}

/// The tables of one write transaction, with the events made so far.
pub(in crate::store::embedded) struct WriteTables<'t> {
    /// Of tables that few changes need.
    transaction: &'t WriteTransaction,
    credentials: Table<'t, &'static str, &'static [u8]>,
    credentials_of: Table<'t, (&'static str, &'static str), ()>,
    last_used: Table<'t, &'static str, i64>,
    roles: Table<'t, &'static str, &'static [u8]>,
    roles_of: Table<'t, (&'static str, &'static str), ()>,
    fingerprints: Table<'t, &'static [u8; 32], &'static str>,
    tenants: Table<'t, &'static str, &'static [u8]>,
    events: Table<'t, u64, &'static [u8]>,
    event_times: Table<'t, u64, i64>,
    sizes: Table<'t, &'static str, u64>,
    counters: Table<'t, &'static str, u64>,
    position: Position,
    /// The latest time that anything was made at.
    clock: UnixMillis,
    /// The machine's time when the transaction began.
    machine: UnixMillis,
    made: Vec<Event>,
    writes: u64,
}

impl<'t> WriteTables<'t> {
    /// `machine` is the time by the machine's clock.
    pub(in crate::store::embedded) fn open(transaction: &'t WriteTransaction, machine: UnixMillis) -> Result<Self, StoreError> {
        let counters = transaction.open_table(COUNTERS).map_err(|e| failed(e.into()))?;
        Ok(Self {
            transaction,
            credentials: transaction.open_table(CREDENTIALS).map_err(|e| failed(e.into()))?,
            credentials_of: transaction.open_table(CREDENTIALS_OF).map_err(|e| failed(e.into()))?,
            last_used: transaction.open_table(LAST_USED).map_err(|e| failed(e.into()))?,
            roles: transaction.open_table(ROLES).map_err(|e| failed(e.into()))?,
            roles_of: transaction.open_table(ROLES_OF).map_err(|e| failed(e.into()))?,
            fingerprints: transaction.open_table(FINGERPRINTS).map_err(|e| failed(e.into()))?,
            tenants: transaction.open_table(TENANTS).map_err(|e| failed(e.into()))?,
            events: transaction.open_table(EVENTS).map_err(|e| failed(e.into()))?,
            event_times: transaction.open_table(EVENT_TIMES).map_err(|e| failed(e.into()))?,
            sizes: transaction.open_table(SIZES).map_err(|e| failed(e.into()))?,
            position: position_in(&counters)?,
            clock: clock_in(&counters)?,
            machine,
            counters,
            made: Vec::new(),
            writes: 0,
        })
    }

    /// How many changes have begun to write: one that failed before it did left nothing behind.
    pub(in crate::store::embedded) const fn writes(&self) -> u64 {
        self.writes
    }

    /// The position before anything is written.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// The latest time that anything was made at.
    pub(in crate::store::embedded) const fn clock(&self) -> UnixMillis {
        self.clock
    }

    /// A time after everything that was made, which is not before anything that will be.
    fn watermark(&self) -> UnixMillis {
        UnixMillis(self.clock.max(self.machine).0.saturating_add(1))
    }

    /// Writes the position and hands the events over, in order.
    pub(in crate::store::embedded) fn finish(mut self) -> Result<WrittenChanges, StoreError> {
        self.counters.insert("position", self.position.0).map_err(|e| failed(e.into()))?;
        let clock = u64::try_from(self.clock.0).unwrap_or(0);
        self.counters.insert("clock", clock).map_err(|e| failed(e.into()))?;
        Ok(WrittenChanges {
            events: self.made,
            writes: self.writes,
            clock: self.clock,
        })
    }

    /// Makes records, all or none: everything is checked before anything is written, because the
    /// transaction may be committed for others whatever becomes of this.
    pub(in crate::store::embedded) fn create(&mut self, new: NewRecords, now: UnixMillis) -> Result<Vec<CredentialRecord>, ChangeError> {
        let (owner, records) = change::check_creation(&new)?;
        self.check_rests_on(&new.rests_on)?;
        let at = ChangeTimes {
            now,
            watermark: self.watermark(),
        };
        let changes = self.changed_together(owner.as_ref(), &new, at)?;
        let fresh = new.tenant;
        let owner = owner.or_else(|| changes.first().map(|(record, _)| record.tenant.clone()));
        let Some(owner) = owner else { return Ok(Vec::new()) };
        match (tenant_at(&self.tenants, owner.as_str())?, &fresh) {
            (Some(_), Some(fresh)) => return Err(change::tenant_taken(fresh)),
            (None, None) => return Err(change::no_tenant(&owner)),
            _ => {}
        }
        let mut encoded = Vec::new();
        if let Some(limits) = new.limits {
            self.check_limits(&owner, &records, limits)?;
        }
        for (made, record) in records.iter().enumerate() {
            self.check_new(record, records.get(..made).unwrap_or_default())?;
            encoded.push(codec::encode_credential(record).map_err(change::unwritable)?);
        }
        if fresh.is_some() {
            let tenant = change::new_tenant(owner, now);
            self.index(&Fingerprint::of_tenant(&tenant.id), &format!("{OF_TENANT}{}", tenant.id))?;
            self.write_tenant(&tenant)?;
        }
        for (record, bytes) in records.iter().zip(&encoded) {
            for fingerprint in change::fingerprints(record) {
                self.index(&fingerprint, record.id.as_str())?;
            }
            self.count(record, SizeChange::Made)?;
            let place = (record.tenant.as_str(), record.id.as_str());
            self.credentials_of.insert(place, ()).map_err(|e| failed(e.into()))?;
            self.write_credential(record, bytes)?;
        }
        if !records.is_empty() {
            self.clock = self.clock.max(now);
        }
        if new.changes.iter().any(|(_, change)| *change == CredentialChange::EndIssued) {
            self.clock = self.clock.max(at.watermark);
        }
        let mut written = records;
        for (record, bytes) in changes {
            if let Some(bytes) = bytes {
                self.write_credential(&record, &bytes)?;
            }
            written.push(record);
        }
        Ok(written)
    }

    /// The credentials to be changed as they will be, with what is to be written for those that are
    /// not so already.
    fn changed_together(&self, owner: Option<&TenantId>, new: &NewRecords, at: ChangeTimes) -> Result<Vec<ChangedCredential>, ChangeError> {
        let mut owner = owner.cloned();
        let mut changes = Vec::new();
        for id in change::changed_ids(&new.changes) {
            let record = credential_at(&self.credentials, id.as_str())?.ok_or_else(|| change::no_credential(id))?;
            let outcome = change::change_together(&record, owner.as_ref(), &new.changes, at)?;
            owner = Some(record.tenant.clone());
            changes.push(match outcome {
                ChangeOutcome::Unchanged => (record, None),
                ChangeOutcome::Changed(changed) => {
                    let bytes = codec::encode_credential(&changed).map_err(change::unwritable)?;
                    (changed, Some(bytes))
                }
            });
        }
        Ok(changes)
    }

    /// Whether everything a change rests on is as it was judged.
    fn check_rests_on(&self, rests_on: &RestsOn) -> Result<(), ChangeError> {
        for (id, epoch) in &rests_on.credentials {
            check_epoch(*epoch, credential_at(&self.credentials, id.as_str())?.map(|record| record.epoch))?;
        }
        for (id, epoch) in &rests_on.tenants {
            check_epoch(*epoch, tenant_at(&self.tenants, id.as_str())?.map(|record| record.epoch))?;
        }
        for (id, epoch) in &rests_on.roles {
            check_epoch(*epoch, role_at(&self.roles, id.as_str())?.map(|record| record.epoch))?;
        }
        Ok(())
    }

    /// Whether there is room for these records.
    fn check_limits(&self, owner: &TenantId, records: &[CredentialRecord], limits: RecordLimits) -> Result<(), ChangeError> {
        if self.size_of_tenant(owner)?.saturating_add(records.len() as u64) > limits.credentials {
            return Err(change::too_many_credentials(owner, Some(limits)));
        }
        for (made, record) in records.iter().enumerate() {
            let Some(parent) = record.parent() else { continue };
            let before = records.get(..made).unwrap_or_default().iter();
            let with_it = before.filter(|other| other.parent() == Some(parent)).count();
            let count = self.size(parent.id.as_str())?.unwrap_or(0).saturating_add(with_it as u64);
            if count >= limits.children {
                return Err(change::too_many_children(Some(limits)));
            }
        }
        Ok(())
    }

    fn size(&self, of: &str) -> Result<Option<u64>, StoreError> {
        let size = self.sizes.get(of).map_err(|e| failed(e.into()))?;
        Ok(size.map(|size| size.value()))
    }

    /// Counted once for a tenant of a file from before sizes were kept.
    fn size_of_tenant(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        match self.size(&format!("{OF_TENANT}{tenant}"))? {
            Some(size) => Ok(size),
            None => Ok(ids_of(&self.credentials_of, tenant, "")?.count() as u64),
        }
    }

    /// Keeps the sizes. Called before the record enters or leaves the index of its tenant.
    fn count(&mut self, record: &CredentialRecord, step: SizeChange) -> Result<(), ChangeError> {
        let next = |size: u64| match step {
            SizeChange::Made => size.saturating_add(1),
            SizeChange::Forgotten => size.saturating_sub(1),
        };
        let mut sizes = vec![(format!("{OF_TENANT}{}", record.tenant), self.size_of_tenant(&record.tenant)?)];
        if let Some(parent) = record.parent() {
            sizes.push((parent.id.as_str().to_owned(), self.size(parent.id.as_str())?.unwrap_or(0)));
        }
        for (of, size) in sizes {
            match next(size) {
                0 => drop(self.sizes.remove(of.as_str()).map_err(|e| failed(e.into()))?),
                size => drop(self.sizes.insert(of.as_str(), size).map_err(|e| failed(e.into()))?),
            }
        }
        Ok(())
    }

    /// Whether a record may be made now, after those made with it before.
    fn check_new(&self, record: &CredentialRecord, before: &[CredentialRecord]) -> Result<(), ChangeError> {
        if credential_at(&self.credentials, record.id.as_str())?.is_some() {
            return Err(change::id_taken(&record.id));
        }
        for fingerprint in change::fingerprints(record) {
            let taken = self.fingerprints.get(fingerprint.as_bytes()).map_err(|e| failed(e.into()))?;
            if taken.is_some() {
                return Err(change::fingerprint_taken());
            }
        }
        let Some(parent) = record.parent() else { return Ok(()) };
        let chain = change::chain_among(record, before);
        let chain = ancestors_at(&self.credentials, record, chain)?;
        change::check_parent(record, parent, &chain)
    }

    fn index(&mut self, fingerprint: &Fingerprint, id: &str) -> Result<(), ChangeError> {
        self.writes += 1;
        self.fingerprints.insert(fingerprint.as_bytes(), id).map_err(|e| failed(e.into()))?;
        Ok(())
    }

    /// Notes when credentials were last used. No change of any record, so no event.
    pub(in crate::store::embedded) fn touch(&mut self, used: &[(CredentialId, UnixMillis)]) -> Result<(), ChangeError> {
        for (id, at) in used.iter().take(MAX_TOUCHED) {
            let known = self.credentials.get(id.as_str()).map_err(|e| failed(e.into()))?.is_some();
            let held = self
                .last_used
                .get(id.as_str())
                .map_err(|e| failed(e.into()))?
                .map(|held| held.value());
            if known && held.is_none_or(|held| held < at.0) {
                self.writes += 1;
                self.last_used.insert(id.as_str(), at.0).map_err(|e| failed(e.into()))?;
            }
        }
        Ok(())
    }

    /// Takes a mark; answers whether nobody had it. Removes some marks whose time is over.
    pub(in crate::store::embedded) fn take_once(
        &mut self,
        mark: &Fingerprint,
        until: UnixMillis,
        room: MarkRoom,
    ) -> Result<bool, ChangeError> {
        let mut marks = self.transaction.open_table(MARKS).map_err(|e| failed(e.into()))?;
        if marks.get(mark.as_bytes()).map_err(|e| failed(e.into()))?.is_some() {
            return Ok(false);
        }
        let mut ends = self.transaction.open_table(MARK_ENDS).map_err(|e| failed(e.into()))?;
        let now = self.clock.max(self.machine);
        let mut over: Vec<(i64, [u8; 32])> = Vec::new();
        for entry in ends
            .range(..=(now.0, &[u8::MAX; 32]))
            .map_err(|e| failed(e.into()))?
            .take(MARKS_SWEPT)
        {
            let (key, _) = entry.map_err(|e| failed(e.into()))?;
            let (end, old) = key.value();
            over.push((end, *old));
        }
        let kept = marks.len().map_err(|e| failed(e.into()))?.saturating_sub(over.len() as u64);
        if kept >= room.most() {
            return Err(change::too_many_marks(room));
        }
        self.writes += 1;
        for (end, old) in &over {
            ends.remove((*end, old)).map_err(|e| failed(e.into()))?;
            marks.remove(old).map_err(|e| failed(e.into()))?;
        }
        let end = until.clamp(now, now.plus(MAX_MARK_AGE)).plus(MARK_GRACE).0;
        marks.insert(mark.as_bytes(), end).map_err(|e| failed(e.into()))?;
        ends.insert((end, mark.as_bytes()), ()).map_err(|e| failed(e.into()))?;
        Ok(true)
    }

    /// Forgets credentials that ended by themselves before `before`.
    pub(in crate::store::embedded) fn forget(&mut self, ids: &[CredentialId], before: UnixMillis) -> Result<usize, ChangeError> {
        let mut forgotten = 0;
        for id in ids.iter().take(MAX_FORGOTTEN) {
            let Some(record) = credential_at(&self.credentials, id.as_str())? else {
                continue;
            };
            let used = self.last_used.get(id.as_str()).map_err(|e| failed(e.into()))?;
            let used = used.map(|at| UnixMillis(at.value()));
            let record = change::with_last_use(record, used);
            if natural_end(&record).is_none_or(|end| end >= before) {
                continue;
            }
            self.writes += 1;
            for fingerprint in change::fingerprints(&record) {
                self.fingerprints.remove(fingerprint.as_bytes()).map_err(|e| failed(e.into()))?;
            }
            let place = (record.tenant.as_str(), id.as_str());
            self.count(&record, SizeChange::Forgotten)?;
            self.credentials_of.remove(place).map_err(|e| failed(e.into()))?;
            self.last_used.remove(id.as_str()).map_err(|e| failed(e.into()))?;
            self.credentials.remove(id.as_str()).map_err(|e| failed(e.into()))?;
            self.write_event(change::credential_event(&record))?;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    pub(in crate::store::embedded) fn create_role(&mut self, role: RoleRecord) -> Result<RoleRecord, ChangeError> {
        let role = RoleRecord { epoch: 1, ..role };
        let tenant = change::tenant_of(&role)?;
        let bytes = codec::encode_role(&role).map_err(change::unwritable)?;
        if tenant_at(&self.tenants, tenant.as_str())?.is_none() {
            return Err(change::no_tenant(tenant));
        }
        if role_at(&self.roles, role.id.as_str())?.is_some() {
            return Err(change::role_taken(&role.id));
        }
        if ids_of(&self.roles_of, tenant, "")?.count() >= MAX_TENANT_ROLES {
            return Err(change::too_many_roles(tenant));
        }
        self.writes += 1;
        let place = (tenant.as_str(), role.id.as_str());
        self.roles_of.insert(place, ()).map_err(|e| failed(e.into()))?;
        self.write_role(&role, &bytes)?;
        Ok(role)
    }

    pub(in crate::store::embedded) fn change_role(&mut self, id: &RoleId, change: &RoleChange) -> Result<RoleRecord, ChangeError> {
        let role = role_at(&self.roles, id.as_str())?.ok_or_else(|| change::no_role(id))?;
        match change::change_role(&role, change)? {
            ChangeOutcome::Unchanged => Ok(role),
            ChangeOutcome::Changed(changed) => {
                let bytes = codec::encode_role(&changed).map_err(change::unwritable)?;
                self.write_role(&changed, &bytes)?;
                Ok(changed)
            }
        }
    }

    pub(in crate::store::embedded) fn delete_role(&mut self, id: &RoleId) -> Result<(), ChangeError> {
        let role = role_at(&self.roles, id.as_str())?.ok_or_else(|| change::no_role(id))?;
        let tenant = change::tenant_of(&role)?;
        self.writes += 1;
        let place = (tenant.as_str(), id.as_str());
        self.roles_of.remove(place).map_err(|e| failed(e.into()))?;
        self.roles.remove(id.as_str()).map_err(|e| failed(e.into()))?;
        self.write_event(EventSubject::Role { id: id.clone() })
    }

    /// Writes one list over exactly the other; answers whether that was there.
    pub(in crate::store::embedded) fn set_peppers(&mut self, before: &PepperList, after: &PepperList) -> Result<bool, ChangeError> {
        let mut meta = self.transaction.open_table(META).map_err(|e| failed(e.into()))?;
        let held = (text_of(&meta, "pepper")?, text_of(&meta, "dropped")?.unwrap_or_default());
        if held != (Some(before.text()), before.dropped_text()) {
            return Ok(false);
        }
        self.writes += 1;
        meta.insert("pepper", after.text().as_str()).map_err(|e| failed(e.into()))?;
        meta.insert("dropped", after.dropped_text().as_str())
            .map_err(|e| failed(e.into()))?;
        Ok(true)
    }

    /// Lets an account be found by another fingerprint than before.
    pub(in crate::store::embedded) fn move_login(
        &mut self,
        id: &CredentialId,
        fingerprint: Fingerprint,
        mark: PepperMark,
    ) -> Result<CredentialRecord, ChangeError> {
        let record = credential_at(&self.credentials, id.as_str())?.ok_or_else(|| change::no_credential(id))?;
        let after = match moved(&record, fingerprint, mark)? {
            ChangeOutcome::Unchanged => return Ok(record),
            ChangeOutcome::Changed(after) => after,
        };
        if self
            .fingerprints
            .get(fingerprint.as_bytes())
            .map_err(|e| failed(e.into()))?
            .is_some()
        {
            return Err(change::fingerprint_taken());
        }
        let bytes = codec::encode_credential(&after).map_err(change::unwritable)?;
        self.index(&fingerprint, id.as_str())?;
        self.fingerprints
            .remove(record.fingerprint.as_bytes())
            .map_err(|e| failed(e.into()))?;
        self.credentials
            .insert(id.as_str(), bytes.as_slice())
            .map_err(|e| failed(e.into()))?;
        self.write_event(move_event(&record, &after))?;
        Ok(after)
    }

    fn write_role(&mut self, role: &RoleRecord, bytes: &[u8]) -> Result<(), ChangeError> {
        self.writes += 1;
        self.roles.insert(role.id.as_str(), bytes).map_err(|e| failed(e.into()))?;
        self.write_event(EventSubject::Role { id: role.id.clone() })
    }

    pub(in crate::store::embedded) fn change_credential(
        &mut self,
        id: &CredentialId,
        change: &CredentialChange,
        now: UnixMillis,
    ) -> Result<CredentialRecord, ChangeError> {
        let at = ChangeTimes {
            now,
            watermark: self.watermark(),
        };
        let record = credential_at(&self.credentials, id.as_str())?.ok_or_else(|| change::no_credential(id))?;
        match change::change_credential(&record, change, at)? {
            ChangeOutcome::Unchanged => Ok(record),
            ChangeOutcome::Changed(changed) => {
                let bytes = codec::encode_credential(&changed).map_err(change::unwritable)?;
                if *change == CredentialChange::EndIssued {
                    self.clock = self.clock.max(at.watermark);
                }
                self.write_credential(&changed, &bytes)?;
                Ok(changed)
            }
        }
    }

    pub(in crate::store::embedded) fn set_tenant_active(&mut self, id: &TenantId, state: TenantState) -> Result<TenantRecord, ChangeError> {
        let record = tenant_at(&self.tenants, id.as_str())?.ok_or_else(|| change::no_tenant(id))?;
        match change::change_tenant(&record, state)? {
            ChangeOutcome::Unchanged => Ok(record),
            ChangeOutcome::Changed(changed) => {
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
        let now = self.machine;
        self.event_times.insert(self.position.0, now.0).map_err(|e| failed(e.into()))?;
        if let Some(old) = self.position.0.checked_sub(EVENTS_KEPT) {
            self.events.remove(old).map_err(|e| failed(e.into()))?;
            self.event_times.remove(old).map_err(|e| failed(e.into()))?;
        }
        self.made.push(Event {
            position: self.position,
            at: Some(now),
            subject,
        });
        Ok(())
    }
}
