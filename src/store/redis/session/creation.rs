//! Makes records in the shared store: all of them in one script, or none.

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, Parent};
use crate::store::change::Outcome;
use crate::store::{ChangeError, EventSubject, NewRecords, StoreError, change, codec};

use super::super::endings::{Ending, Whose};
use super::super::scripts::{ChangedCredential, Creation, NewCredential, Refusal, Written};
use super::{Session, TRIES, contended, encode_event, nothing_written};

/// What a new record hangs on, as it was read: decoded, and as bytes.
type Chain = Vec<(CredentialRecord, Vec<u8>)>;

/// Credentials to be changed.
#[derive(Default)]
struct Changed {
    /// As they were read.
    before: Vec<(CredentialId, Vec<u8>)>,
    /// As they will be.
    records: Vec<CredentialRecord>,
    /// What is to be written, for those that are not so already.
    writes: Vec<ChangedCredential>,
}

impl Session {
    /// The script writes only if every ancestor still is what was read here, and is repeated if not.
    pub(in super::super) async fn create(&self, new: NewRecords, now: UnixMillis) -> Result<Vec<CredentialRecord>, ChangeError> {
        let (owner, records) = change::first_of(&new)?;
        let mut changed = self.read_changed(owner.as_ref(), &new, now).await?;
        let owner = owner.or_else(|| changed.records.first().map(|record| record.tenant.clone()));
        let Some(owner) = owner else { return Ok(Vec::new()) };
        if new.tenant.is_none() && records.is_empty() && changed.writes.is_empty() {
            return self.confirm(changed.records).await;
        }
        let mut creation = Creation {
            tenant_record: Vec::new(),
            tenant_event: encode_event(&EventSubject::Tenant { id: owner.clone() })?,
            tenant: owner,
            unchanged: Vec::new(),
            changes: Vec::new(),
            credentials: records.iter().map(encode_new).collect::<Result<_, _>>()?,
        };
        if new.tenant.is_some() {
            let tenant = change::new_tenant(creation.tenant.clone(), now);
            creation.tenant_record = codec::encode_tenant(&tenant).map_err(change::unwritable)?;
        }
        let history = new_history()?;
        for _ in 0..TRIES {
            creation.unchanged = self.check_parents(&records).await?;
            creation.unchanged.append(&mut changed.before);
            creation.changes = std::mem::take(&mut changed.writes);
            let live = self.changer().map_err(nothing_written)?;
            let written = self.shared.scripts.create(&live.wire, &creation, &history).await;
            match self.settle_changer(&live, written)? {
                Written::At(counter) => {
                    for changed in creation.changes {
                        self.shared.feed.endings.note(Whose::Credential(changed.id), changed.ending);
                    }
                    let written = records.into_iter().chain(changed.records).collect();
                    return self.acknowledge(&live, counter, written).await;
                }
                Written::Refused(Refusal::Stale) => changed = self.read_changed(Some(&creation.tenant), &new, now).await?,
                Written::Refused(refusal) => return Err(refused(refusal, &creation.tenant, &records)),
            }
        }
        Err(contended())
    }

    /// What is to be changed, as it is and as it will be.
    async fn read_changed(&self, owner: Option<&TenantId>, new: &NewRecords, now: UnixMillis) -> Result<Changed, ChangeError> {
        let mut owner = owner.cloned();
        let mut changed = Changed::default();
        for id in change::changed_ids(&new.changes) {
            let read = self.read_credential(id).await.map_err(nothing_written)?;
            let (record, before) = read.ok_or_else(|| change::no_credential(id))?;
            let outcome = change::change_together(&record, owner.as_ref(), &new.changes, now)?;
            owner = Some(record.tenant.clone());
            changed.before.push((record.id.clone(), before));
            changed.records.push(match outcome {
                Outcome::Unchanged => record,
                Outcome::Changed(record) => {
                    changed.writes.push(ChangedCredential {
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

    /// Whether the new records may hang on what they name; answers every ancestor as it was read.
    async fn check_parents(&self, records: &[CredentialRecord]) -> Result<Vec<(CredentialId, Vec<u8>)>, ChangeError> {
        let mut ancestors = Vec::new();
        for (made, record) in records.iter().enumerate() {
            let Some(parent) = record.parent() else { continue };
            let mut chain = change::chain_among(record, records.get(..made).unwrap_or_default());
            if let Some(outside) = chain.last().unwrap_or(record).parent() {
                for (ancestor, bytes) in self.chain_from(outside).await.map_err(nothing_written)? {
                    ancestors.push((ancestor.id.clone(), bytes));
                    chain.push(ancestor);
                }
            }
            change::check_parent(record, parent, &chain)?;
        }
        Ok(ancestors)
    }

    /// A record and what it hangs on, at one moment; empty when there is no such record.
    async fn chain_from(&self, parent: &Parent) -> Result<Chain, StoreError> {
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

fn encode_new(record: &CredentialRecord) -> Result<NewCredential, ChangeError> {
    Ok(NewCredential {
        id: record.id.clone(),
        record: codec::encode_credential(record).map_err(change::unwritable)?,
        event: encode_event(&change::credential_event(record))?,
        fingerprints: change::fingerprints(record),
    })
}

fn refused(refusal: Refusal, tenant: &TenantId, records: &[CredentialRecord]) -> ChangeError {
    match (refusal, records) {
        (Refusal::NoTenant, _) => change::no_tenant(tenant),
        (Refusal::TenantTaken, _) => change::tenant_taken(tenant),
        (Refusal::IdTaken, [only]) => change::id_taken(&only.id),
        (Refusal::IdTaken, _) => ChangeError::Taken("a credential with one of these ids exists already".into()),
        (Refusal::FingerprintTaken, _) => change::fingerprint_taken(),
        (Refusal::Stale | Refusal::Full, _) => contended(),
    }
}

/// A random name for the history of a new store.
fn new_history() -> Result<String, StoreError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StoreError::Unavailable("no random bytes".into()))?;
    Ok(Fingerprint::from_bytes(bytes).to_hex())
}
