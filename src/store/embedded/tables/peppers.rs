//! Whose store the file is: its format and its peppers; and accounts that move from one pepper to another.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};

use crate::base::fingerprint::{Fingerprint, PepperChecks, PepperMark};
use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;
use crate::store::change::{self, Outcome};
use crate::store::peppers::{Admission, PepperList, move_event, moved};
use crate::store::{ChangeError, StoreError, codec};

use super::writing::WriteTables;
use super::{FORMAT, META, credential_at, failed, text_of};

/// Writes down whose store this is, or checks it.
///
/// # Errors
/// As [`super::initialise`].
pub(super) fn initialise(transaction: &WriteTransaction, own: &PepperChecks) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META).map_err(|e| failed(e.into()))?;
    let format = text_of(&meta, "format")?;
    let listed = text_of(&meta, "pepper")?;
    let list = match (format.as_deref(), listed.as_deref()) {
        (None, None) => PepperList::of(own.first()),
        (Some(FORMAT), Some(listed)) => {
            let list = PepperList::parse(listed, &text_of(&meta, "dropped")?.unwrap_or_default())?;
            match list.admit(own)? {
                Admission::Listed => return Ok(()),
                Admission::Joins(joined) => joined,
                Admission::Gone(why) => return Err(why),
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

/// The peppers that the store was written under.
pub(in super::super) fn read_peppers(transaction: &ReadTransaction) -> Result<PepperList, StoreError> {
    let meta = transaction.open_table(META).map_err(|e| failed(e.into()))?;
    let listed = text_of(&meta, "pepper")?.unwrap_or_default();
    PepperList::parse(&listed, &text_of(&meta, "dropped")?.unwrap_or_default())
}

impl WriteTables<'_> {
    /// Writes one list over exactly the other; answers whether that was there.
    pub(in super::super::super) fn set_peppers(&mut self, before: &PepperList, after: &PepperList) -> Result<bool, ChangeError> {
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
    pub(in super::super::super) fn move_login(
        &mut self,
        id: &CredentialId,
        fingerprint: Fingerprint,
        mark: PepperMark,
    ) -> Result<CredentialRecord, ChangeError> {
        let record = credential_at(&self.credentials, id.as_str())?.ok_or_else(|| change::no_credential(id))?;
        let after = match moved(&record, fingerprint, mark)? {
            Outcome::Unchanged => return Ok(record),
            Outcome::Changed(after) => after,
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
}
