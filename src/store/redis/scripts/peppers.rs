//! Calls of the scripts about peppers: whose the store is, and what moves from one to another.

use crate::base::fingerprint::Fingerprint;
use crate::base::principal::CredentialRecord;
use crate::store::StoreError;
use crate::store::peppers::{Admission, PepperList};

use super::super::dial::Wire;
use super::super::fault::Fault;
use super::super::lua::FORMAT;
use super::{Change, Scripts, Written, run, written};

/// Tries of a claim that loses against others: each loss means that another gateway's pepper joined.
const CLAIMS: usize = 10;

impl Scripts {
    /// Makes an empty store ours, or checks that it is; this gateway's first pepper joins the list of those
    /// that the store was written under.
    pub(in super::super) async fn claim(&self, wire: &Wire) -> Result<(), Fault> {
        for _ in 0..CLAIMS {
            let mut call = self.claim.key(&self.keys.meta);
            call.key(&self.keys.credentials)
                .key(&self.keys.fingerprints)
                .key(&self.keys.tenants)
                .arg(&self.peppers)
                .arg(FORMAT);
            let (format, peppers, dropped): (Option<String>, Option<String>, String) = run(wire, &call).await?;
            let list = match (format.as_deref(), peppers.as_deref()) {
                (Some(FORMAT), Some(peppers)) => PepperList::parse(peppers, &dropped).map_err(Fault::refused)?,
                (Some(format), Some(_)) => {
                    return Err(Fault::refused(StoreError::Foreign(format!(
                        "its format is {format:?}, this version of durward reads {FORMAT:?}; start the version that wrote it"
                    ))));
                }
                _ => {
                    let missing = "its pepper check value or format is missing";
                    return Err(Fault::refused(StoreError::Corrupt(missing.into())));
                }
            };
            match list.admit(&self.own).map_err(Fault::refused)? {
                Admission::Listed => return Ok(()),
                // What is there can be served; whoever makes something is refused by the script that would.
                Admission::Gone(why) => {
                    tracing::error!(alarm = "pepper_dropped", error = %why, "no new credentials can be made");
                    return Ok(());
                }
                Admission::Joins(joined) => {
                    if self.set_peppers(wire, &list, &joined).await? {
                        tracing::info!(pepper = %self.own.first().mark(), "new fingerprints are made under a new pepper");
                        return Ok(());
                    }
                }
            }
        }
        Err(Fault::refused(StoreError::Unavailable("others keep changing its peppers".into())))
    }

    /// The peppers that the store was written under; `None` for an empty one.
    pub(in super::super) async fn read_peppers(&self, wire: &Wire) -> Result<Option<PepperList>, Fault> {
        let mut call = self.read_peppers.key(&self.keys.meta);
        call.arg(&self.peppers);
        let (peppers, dropped): (Option<String>, String) = run(wire, &call).await?;
        let list = peppers.map(|peppers| PepperList::parse(&peppers, &dropped)).transpose();
        list.map_err(Fault::refused)
    }

    /// Writes one list over exactly the other; answers whether that was there.
    pub(in super::super) async fn set_peppers(&self, wire: &Wire, before: &PepperList, after: &PepperList) -> Result<bool, Fault> {
        let mut call = self.set_peppers.key(&self.keys.meta);
        call.arg(&self.peppers)
            .arg(before.text())
            .arg(before.dropped_text())
            .arg(after.text())
            .arg(after.dropped_text());
        run(wire, &call).await
    }

    /// Lets a credential be found by another fingerprint than before.
    pub(in super::super) async fn move_login(
        &self,
        wire: &Wire,
        change: &Change<'_>,
        before: &[u8],
        (old, new): (&CredentialRecord, &Fingerprint),
    ) -> Result<Written, Fault> {
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
