//! Chains: which record stands above which, told by the records themselves. Stores follow chains by this rule, and it is checked
//! by the same rule whenever facts are put together and judged.
//!
//! A record stands below its parent. One case is more than that: a session that began with a linked account. The sign-on of such a
//! session hangs on the account and names the link, and the account has no parent. So the link stands above the account, in this
//! chain only: session, sign-on, account, link, provider. The account, the link and the provider each end the session.

use super::records::{CredentialRecord, Parent};

/// A record is not the one that stands next in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotInChain;

/// Goes up a chain, record by record, and refuses every record that does not belong there.
#[derive(Debug)]
pub struct ChainSteps<'r> {
    below: Option<&'r CredentialRecord>,
    at: &'r CredentialRecord,
}

impl<'r> ChainSteps<'r> {
    /// Begins at the lowest record.
    #[must_use]
    pub const fn from(record: &'r CredentialRecord) -> Self {
        Self { below: None, at: record }
    }

    /// What stands above the last record; `None` at the top.
    #[must_use]
    pub fn next(&self) -> Option<&'r Parent> {
        next_of(self.below, self.at)
    }

    /// Goes one record up.
    ///
    /// # Errors
    /// [`NotInChain`] if this is not the record that stands next: it has another id, surface or tenant, an account that is reached
    /// with a link hangs on something itself, or a link is of another account than the one below it.
    pub fn go_up(&mut self, record: &'r CredentialRecord) -> Result<(), NotInChain> {
        let named = self.next().ok_or(NotInChain)?;
        let is_named = named.id == record.id && named.surface == record.surface && record.tenant == self.at.tenant;
        let by_link = self.below.is_some_and(|below| below.link().is_some());
        // Nothing hangs on a link but by a sign-on, which has the account in between. So no chain passes an account over.
        let has_its_account = if by_link {
            record.linked_account() == Some(&self.at.id)
        } else {
            record.linked_account().is_none()
        };
        let is_top_account = self.at.link().is_none() || (record.parent().is_none() && record.link().is_none());
        if !is_named || !has_its_account || !is_top_account {
            return Err(NotInChain);
        }
        (self.below, self.at) = (Some(self.at), record);
        Ok(())
    }
}

/// What stands above the last of the records `above`, which stand above `record`, the lowest first; `None` at the top.
#[must_use]
pub fn next_above<'r>(record: &'r CredentialRecord, above: &'r [CredentialRecord]) -> Option<&'r Parent> {
    match above {
        [] => next_of(None, record),
        [only] => next_of(Some(record), only),
        [.., below, last] => next_of(Some(below), last),
    }
}

fn next_of<'r>(below: Option<&'r CredentialRecord>, record: &'r CredentialRecord) -> Option<&'r Parent> {
    below.and_then(CredentialRecord::link).or_else(|| record.parent())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{CredentialId, TenantId};
    use crate::decide::samples;

    fn id(text: &str) -> CredentialId {
        CredentialId::parse(text).unwrap()
    }

    fn record(surface: &str, name: &str, parent: Option<&CredentialRecord>) -> CredentialRecord {
        let mut record = samples::facts(surface, name, "acme").credential;
        record.extras_mut().parent = parent.map(named);
        record
    }

    fn named(record: &CredentialRecord) -> Parent {
        Parent {
            surface: record.surface.clone(),
            id: record.id.clone(),
        }
    }

    /// A session with a linked account: session, sign-on, account, link, provider.
    fn linked() -> [CredentialRecord; 5] {
        let provider = record("provider", "prv_1", None);
        let mut link = record("account", "lnk_1", Some(&provider));
        link.extras_mut().account = Some(id("acc_1"));
        let account = record("account", "acc_1", None);
        let mut sign_on = record("sign_on", "sgn_1", Some(&account));
        sign_on.extras_mut().link = Some(named(&link));
        let session = record("session", "ses_1", Some(&sign_on));
        [session, sign_on, account, link, provider]
    }

    /// Whether these are one whole chain.
    fn is_whole(chain: &[CredentialRecord]) -> bool {
        let (first, above) = chain.split_first().unwrap();
        let mut steps = ChainSteps::from(first);
        above.iter().all(|record| steps.go_up(record).is_ok()) && steps.next().is_none() && next_above(first, above).is_none()
    }

    #[test]
    fn a_link_stands_between_its_account_and_its_provider() {
        let chain = linked();
        assert!(is_whole(&chain));
        for length in 1..chain.len() {
            assert!(!is_whole(&chain[..length]), "{length}: the next one is missing");
        }
        // The link itself, and the account itself, have chains of their own.
        assert!(is_whole(&chain[3..]) && is_whole(&chain[2..3]));
    }

    #[test]
    fn no_chain_passes_an_account_or_a_link_over() {
        type Change = fn(&mut Vec<CredentialRecord>);
        let wrong: [(&str, Change); 9] = [
            ("the account is left out", |chain| drop(chain.remove(2))),
            ("the link is left out", |chain| drop(chain.remove(3))),
            ("both change places", |chain| chain.swap(2, 3)),
            ("the link is of another account", |chain| {
                chain[3].extras_mut().account = Some(id("acc_2"));
            }),
            ("the link is none", |chain| chain[3].extras_mut().account = None),
            ("the account hangs on something itself", |chain| {
                let provider = named(&chain[4]);
                chain[2].extras_mut().parent = Some(provider);
            }),
            ("the sign-on hangs on the link", |chain| {
                let link = named(&chain[3]);
                chain[1].extras_mut().parent = Some(link);
                chain.remove(2);
            }),
            ("and names no link", |chain| {
                let link = named(&chain[3]);
                chain[1].extras_mut().parent = Some(link);
                chain[1].extras_mut().link = None;
                chain.remove(2);
            }),
            ("the link is of another tenant", |chain| {
                chain[3].tenant = TenantId::parse("globex").unwrap();
            }),
        ];
        for (what, change) in wrong {
            let mut chain = linked().to_vec();
            change(&mut chain);
            assert!(!is_whole(&chain), "{what}");
        }
    }
}
