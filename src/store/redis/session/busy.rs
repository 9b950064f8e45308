//! The list of credentials that were in use lately: all gateways write it, and a gateway that starts reads it.

use futures_util::future::join_all;

use crate::base::fingerprint::Fingerprint;
use crate::store::StoreError;

use super::super::scripts::{PARTS, part_of};
use super::Session;

impl Session {
    pub(in crate::store::redis) async fn note_busy(&self, busy: &[Fingerprint]) -> Result<(), StoreError> {
        let mut parts = vec![Vec::new(); PARTS];
        for fingerprint in busy {
            if let Some(part) = parts.get_mut(part_of(fingerprint)) {
                part.push(*fingerprint);
            }
        }
        for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let live = self.writer()?;
            let noted = self.shared.scripts.note_busy(&live.wire, number, part).await;
            self.settle_writer(&live, noted)?;
        }
        Ok(())
    }

    /// At most `most`, the latest first.
    pub(in crate::store::redis) async fn busy(&self, most: usize) -> Result<Vec<Fingerprint>, StoreError> {
        let live = self.writer()?;
        let parts = (0..PARTS).map(|number| self.shared.scripts.read_busy(&live.wire, number));
        let mut all = Vec::new();
        for read in join_all(parts).await {
            all.append(&mut self.settle_writer(&live, read)?);
        }
        all.sort_unstable_by_key(|(age, _)| *age);
        all.truncate(most);
        Ok(all.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }
}
