//! Makes and changes records in the shared store: all of them in one script, or none.

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::TenantId;
use crate::base::principal::chain::next_above;
use crate::base::principal::{CredentialRecord, MAX_ANCESTORS, Parent};
use crate::store::change::{ChangeOutcome, ChangeTimes};
use crate::store::redis::scripts::{ChangeRefusal, ChangeReply, CreateCall, CredentialWrite, NewCredential, RecordKind};
use crate::store::redis::stream::{Ending, RecordRef};
use crate::store::rests_on::check_epoch;
use crate::store::{ChangeError, CredentialChange, EventSubject, NewRecords, StoreError, change, codec};

use super::{StoreCall, TRIES, contended, encode_event, nothing_written};

/// The ancestors of a new record, as they were read: decoded, and as bytes.
type AncestorChain = Vec<(CredentialRecord, Vec<u8>)>;

/// Everything that a call depends on, read at one moment.
struct CreationBasis {
    time: UnixMillis,
    /// The credentials to be changed and those that the call rests on, with their endings applied.
    credentials: Vec<(CredentialRecord, Vec<u8>)>,
    /// All records as they are in the store.
    stored: Vec<(RecordKind, String, Vec<u8>)>,
}

#[derive(Default)]
struct ChangedRecords {
    records: Vec<CredentialRecord>,
    /// What is to be written for those that really change.
    writes: Vec<CredentialWrite>,
    /// Set if a change ends everything that was made before it.
    watermark: Option<UnixMillis>,
}

impl StoreCall {
    pub(crate) async fn time(&self) -> Result<UnixMillis, StoreError> {
        let live = self.writer()?;
        let time = self.shared.scripts.time(&live.wire).await;
        self.settle_writer(&live, time)
    }

    /// Reads what the call depends on, decides by the rules that all stores share, and writes only if all of it still is what
    /// was read. Otherwise it begins again.
    pub(crate) async fn create(&self, new: NewRecords, now: UnixMillis) -> Result<Vec<CredentialRecord>, ChangeError> {
        let (owner, records) = change::check_creation(&new)?;
        let made: Vec<NewCredential> = records.iter().map(encode_new).collect::<Result<_, _>>()?;
        let history = new_history()?;
        for _ in 0..TRIES {
            let basis = self.read_basis(&new).await?;
            let changed = changed_of(owner.as_ref(), &new, &basis, now)?;
            let owner = owner
                .clone()
                .or_else(|| changed.records.first().map(|record| record.tenant.clone()));
            let Some(owner) = owner else { return Ok(Vec::new()) };
            if new.tenant.is_none() && records.is_empty() && changed.writes.is_empty() {
                return self.acknowledge_unchanged(changed.records).await;
            }
            let mut creation = CreateCall {
                tenant_record: Vec::new(),
                tenant_event: encode_event(&EventSubject::Tenant { id: owner.clone() })?,
                unchanged: self.check_parents(&records, &basis).await?,
                tenant: owner,
                changes: changed.writes,
                credentials: made.clone(),
                watermark: changed.watermark,
                made_at: now,
                limits: new.limits,
            };
            creation.unchanged.extend(basis.stored);
            if new.tenant.is_some() {
                let tenant = change::new_tenant(creation.tenant.clone(), now);
                creation.tenant_record = codec::encode_tenant(&tenant).map_err(change::unwritable)?;
            }
            let live = self.changer().map_err(nothing_written)?;
            let written = self.shared.scripts.create(&live.wire, &creation, &history).await;
            match self.settle_change(&live, written)? {
                ChangeReply::At(counter) => {
                    for changed in creation.changes {
                        self.shared.feed.endings.note(RecordRef::Credential(changed.id), changed.ending);
                    }
                    let written = records.into_iter().chain(changed.records).collect();
                    return self.acknowledge(&live, counter, written).await;
                }
                ChangeReply::Refused(ChangeRefusal::Stale) => {}
                ChangeReply::Refused(refusal) => return Err(refused(refusal, &creation, &records)),
            }
        }
        Err(contended())
    }

    /// Reads what is to be changed and what the call rests on, at one moment. Without either, no command is sent.
    async fn read_basis(&self, new: &NewRecords) -> Result<CreationBasis, ChangeError> {
        let mut asked: Vec<(RecordKind, &str)> = change::changed_ids(&new.changes)
            .into_iter()
            .map(|id| (RecordKind::Credentials, id.as_str()))
            .collect();
        let changed = asked.len();
        let rests_on = &new.rests_on;
        asked.extend(rests_on.credentials.iter().map(|(id, _)| (RecordKind::Credentials, id.as_str())));
        asked.extend(rests_on.tenants.iter().map(|(id, _)| (RecordKind::Tenants, id.as_str())));
        asked.extend(rests_on.roles.iter().map(|(id, _)| (RecordKind::Roles, id.as_str())));
        let mut basis = CreationBasis {
            time: UnixMillis(0),
            credentials: Vec::new(),
            stored: Vec::new(),
        };
        if asked.is_empty() {
            return Ok(basis);
        }
        let live = self.writer().map_err(nothing_written)?;
        let read = self.shared.scripts.read_all(&live.wire, &asked).await;
        let (time, read) = self.settle_writer(&live, read).map_err(nothing_written)?;
        basis.time = time;
        let judged = std::iter::repeat_n(None, changed).chain(rests_on.epochs().map(Some));
        for (((kind, id), bytes), judged) in asked.into_iter().zip(read).zip(judged) {
            let epoch = match &bytes {
                None => None,
                Some(bytes) => Some(self.keep(&mut basis, kind, id, bytes)?),
            };
            match judged {
                Some(judged) => check_epoch(judged, epoch)?,
                None if epoch.is_none() => return Err(ChangeError::NotFound(format!("credential {id}"))),
                None => {}
            }
            basis.stored.extend(bytes.map(|bytes| (kind, id.to_owned(), bytes)));
        }
        Ok(basis)
    }

    /// Adds a record to the basis and answers its epoch. If this gateway has seen the record end and the store has lost that,
    /// no call may rest on it.
    fn keep(&self, basis: &mut CreationBasis, kind: RecordKind, id: &str, bytes: &[u8]) -> Result<u64, ChangeError> {
        let endings = &self.shared.feed.endings;
        let (own, epoch, whole) = match kind {
            RecordKind::Credentials => {
                let stored = codec::decode_credential(bytes).map_err(StoreError::from)?;
                let mut record = stored.clone();
                endings.restrict_credential(&mut record);
                let kept = (record.id.as_str().to_owned(), record.epoch, record == stored);
                basis.credentials.push((record, bytes.to_vec()));
                kept
            }
            RecordKind::Tenants => {
                let stored = codec::decode_tenant(bytes).map_err(StoreError::from)?;
                (stored.id.as_str().to_owned(), stored.epoch, !endings.restricts_tenant(&stored))
            }
            RecordKind::Roles => {
                let stored = codec::decode_role(bytes).map_err(StoreError::from)?;
                (stored.id.as_str().to_owned(), stored.epoch, !endings.restricts_role(&stored))
            }
        };
        if own != id {
            return Err(StoreError::Corrupt("a record stands under another id".into()).into());
        }
        // No record has this epoch, so a call that rests on it is out of date.
        Ok(if whole { epoch } else { u64::MAX })
    }

    /// Checks that the new records may hang on their parents. Answers every ancestor as it was read.
    async fn check_parents(
        &self,
        records: &[CredentialRecord],
        basis: &CreationBasis,
    ) -> Result<Vec<(RecordKind, String, Vec<u8>)>, ChangeError> {
        let mut ancestors = Vec::new();
        for (made, record) in records.iter().enumerate() {
            let Some(parent) = record.parent() else { continue };
            let mut chain = change::chain_among(record, records.get(..made).unwrap_or_default());
            while chain.len() <= MAX_ANCESTORS
                && let Some(outside) = next_above(record, &chain).cloned()
            {
                // Of a chain with a link, the part from the link on is read for itself.
                let found = match basis.credentials.iter().find(|(known, _)| known.id == outside.id) {
                    Some(known) => vec![known.clone()],
                    None => self.chain_from(&outside).await.map_err(nothing_written)?,
                };
                if found.is_empty() {
                    break;
                }
                for (ancestor, bytes) in found {
                    ancestors.push((RecordKind::Credentials, ancestor.id.as_str().to_owned(), bytes));
                    chain.push(ancestor);
                }
            }
            change::check_parent(record, parent, &chain)?;
        }
        Ok(ancestors)
    }

    /// A record and its ancestors, read at one moment; empty when there is no such record.
    async fn chain_from(&self, parent: &Parent) -> Result<AncestorChain, StoreError> {
        let fingerprint = Fingerprint::of_id(&parent.surface, &parent.id);
        let live = self.writer()?;
        let reply = self.shared.scripts.find(&live.wire, &fingerprint).await;
        let reply = self.settle_writer(&live, reply)?;
        let records = reply.led_to.map(|led_to| led_to.records).unwrap_or_default();
        records
            .into_iter()
            .map(|(bytes, _)| {
                let bytes = bytes.ok_or_else(|| StoreError::Corrupt("what a credential hangs on is missing".into()))?;
                let mut ancestor = codec::decode_credential(&bytes)?;
                self.shared.feed.endings.restrict_credential(&mut ancestor);
                Ok((ancestor, bytes))
            })
            .collect()
    }
}

/// The records as they will be after the changes.
fn changed_of(owner: Option<&TenantId>, new: &NewRecords, basis: &CreationBasis, now: UnixMillis) -> Result<ChangedRecords, ChangeError> {
    let mut owner = owner.cloned();
    let mut changed = ChangedRecords::default();
    let at = ChangeTimes {
        now,
        watermark: UnixMillis(basis.time.0.saturating_add(1)),
    };
    if new.changes.iter().any(|(_, change)| *change == CredentialChange::EndIssued) {
        changed.watermark = Some(at.watermark);
    }
    for id in change::changed_ids(&new.changes) {
        let found = basis
            .stored
            .iter()
            .find(|(kind, own, _)| *kind == RecordKind::Credentials && own == id.as_str());
        let (_, _, bytes) = found.ok_or_else(|| change::no_credential(id))?;
        let stored = codec::decode_credential(bytes).map_err(StoreError::from)?;
        // If the store has lost changes, its record grants more than the ending allows. The change is made on the
        // restricted record; otherwise it would bring back what has ended.
        let seen = basis.credentials.iter().find(|(record, _)| record.id == *id);
        let record = seen.map_or_else(|| stored.clone(), |(record, _)| record.clone());
        let outcome = match change::change_together(&record, owner.as_ref(), &new.changes, at)? {
            ChangeOutcome::Unchanged if record != stored => ChangeOutcome::Changed(change::rewritten(&record)?),
            outcome => outcome,
        };
        owner = Some(record.tenant.clone());
        changed.records.push(match outcome {
            ChangeOutcome::Unchanged => record,
            ChangeOutcome::Changed(record) => {
                changed.writes.push(CredentialWrite {
                    id: record.id.clone(),
                    record: codec::encode_credential(&record).map_err(change::unwritable)?,
                    event: encode_event(&change::credential_event(&record))?,
                    ending: Ending::of_credential(&record),
                });
                record
            }
        });
    }
    Ok(changed)
}

fn encode_new(record: &CredentialRecord) -> Result<NewCredential, ChangeError> {
    Ok(NewCredential {
        id: record.id.clone(),
        record: codec::encode_credential(record).map_err(change::unwritable)?,
        event: encode_event(&change::credential_event(record))?,
        fingerprints: change::fingerprints(record),
        parent: record.parent().map(|parent| parent.id.clone()),
    })
}

fn refused(refusal: ChangeRefusal, creation: &CreateCall, records: &[CredentialRecord]) -> ChangeError {
    let tenant = &creation.tenant;
    match (refusal, records) {
        (ChangeRefusal::NoTenant, _) => change::no_tenant(tenant),
        (ChangeRefusal::TenantTaken, _) => change::tenant_taken(tenant),
        (ChangeRefusal::IdTaken, [only]) => change::id_taken(&only.id),
        (ChangeRefusal::IdTaken, _) => ChangeError::Taken("a credential with one of these ids exists already".into()),
        (ChangeRefusal::FingerprintTaken, _) => change::fingerprint_taken(),
        (ChangeRefusal::TooManyChildren, _) => change::too_many_children(creation.limits),
        (ChangeRefusal::TooManyCredentials, _) => change::too_many_credentials(tenant, creation.limits),
        (ChangeRefusal::Stale | ChangeRefusal::Full, _) => contended(),
    }
}

/// A random id for the history of a new store.
fn new_history() -> Result<String, StoreError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StoreError::Unavailable("no random bytes".into()))?;
    Ok(Fingerprint::from_bytes(bytes).to_hex())
}
