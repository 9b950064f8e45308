//! Forgets in the shared store what ended long ago.

use crate::base::clock::UnixMillis;
use crate::base::ids::CredentialId;
use crate::store::sweep::natural_end;
use crate::store::{ChangeError, MAX_FORGOTTEN, change};

use super::super::judge;
use super::super::scripts::{Change, Kind, Written};
use super::{Session, encode_event, nothing_written};

impl Session {
    /// One script for each, which writes only if the credential still is what was read here; who lost
    /// against a change is left for the next time.
    pub(in super::super) async fn forget(&self, ids: &[CredentialId], before: UnixMillis) -> Result<usize, ChangeError> {
        let (mut forgotten, mut last) = (0, None);
        for id in ids.iter().take(MAX_FORGOTTEN) {
            let stored = self.read(Kind::Credentials, id.as_str()).await.map_err(nothing_written)?;
            let (Some(bytes), used) = stored.clone() else { continue };
            let Some(record) = judge::credential_of(id.as_str(), stored)? else {
                continue;
            };
            if natural_end(&record).is_none_or(|end| end >= before) {
                continue;
            }
            let event = encode_event(&change::credential_event(&record))?;
            let change = Change {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: "",
            };
            let live = self.changer().map_err(nothing_written)?;
            let written = self
                .shared
                .scripts
                .forget(&live.wire, &change, &record, &used.unwrap_or_default())
                .await;
            if let Written::At(counter) = self.settle_change(&live, written)? {
                forgotten += 1;
                last = Some((live, counter));
            }
        }
        match last {
            Some((live, counter)) => self.acknowledge(&live, counter, forgotten).await,
            None => Ok(forgotten),
        }
    }
}
