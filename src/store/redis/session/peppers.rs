//! The peppers of the shared store, and accounts that move from one to another.

use crate::base::fingerprint::Fingerprint;
use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;
use crate::store::change::{self, Outcome};
use crate::store::peppers::{Admission, PepperList, move_event, moved};
use crate::store::{ChangeError, StoreError, codec};

use super::super::endings::{Ending, Whose};
use super::super::scripts::{Change, Refusal, Written};
use super::{Session, TRIES, contended, encode_event, nothing_written};

impl Session {
    pub(in super::super) async fn peppers(&self) -> Result<PepperList, StoreError> {
        let live = self.writer()?;
        let read = self.shared.scripts.read_peppers(&live.wire).await;
        let list = self.settle_writer(&live, read)?;
        list.ok_or_else(|| StoreError::Unavailable("it holds no data".into()))
    }

    /// Whether this gateway may make anything in a store that it has just been admitted to.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when not. A store that cannot be asked is not refused here.
    pub(in super::super) async fn check_first_pepper(&self) -> Result<(), StoreError> {
        match self.peppers().await.map(|list| list.admit(&self.shared.peppers)) {
            Ok(Ok(Admission::Gone(why))) => Err(why),
            _ => Ok(()),
        }
    }

    pub(in super::super) async fn set_peppers(&self, before: &PepperList, after: &PepperList) -> Result<bool, ChangeError> {
        let live = self.changer().map_err(nothing_written)?;
        let set = self.shared.scripts.set_peppers(&live.wire, before, after).await;
        let set = self.settle_change(&live, set)?;
        self.wait_until_kept(&live).await?;
        Ok(set)
    }

    pub(in super::super) async fn move_login(&self, id: &CredentialId, fingerprint: Fingerprint) -> Result<CredentialRecord, ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_credential(id).await.map_err(nothing_written)?;
            let (record, before) = read.ok_or_else(|| change::no_credential(id))?;
            let after = match moved(&record, fingerprint, self.shared.peppers.first().mark())? {
                Outcome::Unchanged => return self.confirm(record).await,
                Outcome::Changed(after) => after,
            };
            let bytes = codec::encode_credential(&after).map_err(change::unwritable)?;
            let event = encode_event(&move_event(&record, &after))?;
            let ending = Ending::of_credential(&after);
            let change = Change {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: &ending.encode(),
            };
            let live = self.changer().map_err(nothing_written)?;
            let scripts = &self.shared.scripts;
            let written = scripts.move_login(&live.wire, &change, &before, (&record, &fingerprint)).await;
            match self.settle_change(&live, written)? {
                Written::At(counter) => {
                    self.shared.feed.endings.note(Whose::Credential(id.clone()), ending);
                    return self.acknowledge(&live, counter, after).await;
                }
                Written::Refused(Refusal::FingerprintTaken) => return Err(change::fingerprint_taken()),
                Written::Refused(_) => {}
            }
        }
        Err(contended())
    }
}
