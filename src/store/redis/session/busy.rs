//! The list of what was in use lately, which all gateways write and one that starts reads.

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

    /// At most `most`, those that were noted last first.
    pub(in crate::store::redis) async fn busy(&self, most: usize) -> Result<Vec<Fingerprint>, StoreError> {
        let mut all = Vec::new();
        for number in 0..PARTS {
            let live = self.writer()?;
            let read = self.shared.scripts.read_busy(&live.wire, number).await;
            all.append(&mut self.settle_writer(&live, read)?);
        }
        all.sort_unstable_by_key(|(age, _)| *age);
        all.truncate(most);
        Ok(all.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }
}
