//! Which credentials a list contains: one rule that every store applies.

use std::future::Future;

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::base::scope::Mode;
use crate::decide::scope_grants::mode_reaches;

use super::peppers::{UnderPepper, pepper_of};
use super::{MAX_LIST, StoreError};

/// Most records that are read for one page ([`RecordStore::page_credentials`](super::RecordStore::page_credentials)).
/// So a page takes a fraction of a second, even if a tenant has many records and few of them belong into the list.
pub const MAX_READ: usize = 10_000;

#[derive(Debug, Clone, Default)]
pub struct CredentialFilter {
    pub tenant: Option<TenantId>,
    pub surface: Option<SurfaceName>,
    /// Children of this record only.
    pub parent: Option<CredentialId>,
    pub subject: Option<Subject>,
    /// With a claim of this name that is, or contains, this text.
    pub claim: Option<(String, String)>,
    /// Those that are found only with this pepper.
    pub pepper: Option<UnderPepper>,
    /// Those that a caller of this mode may see.
    pub caller_mode: Option<Mode>,
    /// Those with these ids: records of other ids are not read.
    pub ids: IdFilter,
    /// Neither revoked nor expired nor idle for too long at this time.
    pub live_at: Option<UnixMillis>,
    /// Leave out records that cannot be read, with an alarm that names each, instead of failing.
    pub passes_over_broken: bool,
    /// After this id (exclusive), for paging.
    pub after: Option<CredentialId>,
    /// At most this many; stores cap it at 1,000.
    pub limit: usize,
}

impl CredentialFilter {
    /// The text after which the list begins.
    fn begin(&self) -> &str {
        let after = self.after.as_ref().map_or("", CredentialId::as_str);
        match self.ids {
            IdFilter::Beginning(prefix) => after.max(prefix),
            IdFilter::All | IdFilter::NotBeginning(_) => after,
        }
    }

    /// Whether a record belongs to the list; its id and the paging are not checked here.
    #[must_use]
    pub fn admits(&self, record: &CredentialRecord) -> bool {
        self.tenant.as_ref().is_none_or(|t| *t == record.tenant)
            && self.surface.as_ref().is_none_or(|s| *s == record.surface)
            && self.parent.as_ref().is_none_or(|p| record.parent().is_some_and(|own| own.id == *p))
            && self.subject.as_ref().is_none_or(|s| record.subject.as_ref() == Some(s))
            && self
                .claim
                .as_ref()
                .is_none_or(|(name, text)| record.claim(name).is_some_and(|value| value.names(text)))
            && mode_reaches(self.caller_mode, record.mode)
            && self.pepper.is_none_or(|under| pepper_of(record, under.oldest) == Some(under.mark))
            && self.live_at.is_none_or(|now| is_live(record, now))
    }
}

fn is_live(record: &CredentialRecord, now: UnixMillis) -> bool {
    !matches!(record.state, CredentialState::Revoked { .. })
        && record.expires_at.is_none_or(|end| now < end)
        && record.idle().is_none_or(|idle| now < idle.ends_at())
}

/// One page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialPage {
    pub records: Vec<CredentialRecord>,
    /// Where the next page begins ([`CredentialFilter::after`]); `None` on the last page. A page that has a next one may still
    /// be short or empty: then [`MAX_READ`] records were read for it.
    pub next: Option<CredentialId>,
}

/// Which ids a list contains, so that a list of keys need not read a million sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdFilter {
    #[default]
    All,
    /// Those that begin with this text.
    Beginning(&'static str),
    /// Those that do not begin with this text.
    NotBeginning(&'static str),
}

/// An id, and the record as it was read.
pub(super) type ReadRecord = (String, Result<CredentialRecord, StoreError>);

/// Reads one page. `read` answers the records that follow a text in the order of ids, all if the text is empty; with fewer
/// than `part` records it says that no more follow.
///
/// # Errors
/// Those of `read`, and of a record that cannot be read, unless the filter passes over such ones.
pub(super) async fn read_page<R>(filter: &CredentialFilter, part: usize, read: impl Fn(String) -> R) -> Result<CredentialPage, StoreError>
where
    R: Future<Output = Result<Vec<ReadRecord>, StoreError>>,
{
    let mut collector = PageCollector::new(filter);
    let mut after = filter.begin().to_owned();
    let mut more = true;
    while more {
        let records = read(after.clone()).await?;
        more = records.len() == part;
        for (id, record) in records {
            match collector.take(&id, record)? {
                NextRead::Next => after = id,
                NextRead::After(skipped) => {
                    (after, more) = (skipped, true);
                    break;
                }
                NextRead::Nothing => return Ok(collector.page),
            }
        }
    }
    Ok(collector.page)
}

/// Collects a page from records in order of id.
struct PageCollector<'f> {
    filter: &'f CredentialFilter,
    limit: usize,
    read: usize,
    last: String,
    page: CredentialPage,
}

/// What must be read next for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NextRead {
    Next,
    /// The records that follow this text.
    After(String),
    Nothing,
}

impl<'f> PageCollector<'f> {
    fn new(filter: &'f CredentialFilter) -> Self {
        Self {
            filter,
            limit: filter.limit.clamp(1, MAX_LIST),
            read: 0,
            last: String::new(),
            page: CredentialPage::default(),
        }
    }

    /// Takes the next record as it was read.
    fn take(&mut self, id: &str, read: Result<CredentialRecord, StoreError>) -> Result<NextRead, StoreError> {
        match self.filter.ids {
            IdFilter::Beginning(prefix) if !id.starts_with(prefix) => return Ok(NextRead::Nothing),
            // No id has a `~`, which sorts after every character of ids.
            IdFilter::NotBeginning(prefix) if id.starts_with(prefix) => return Ok(NextRead::After(format!("{prefix}~"))),
            IdFilter::All | IdFilter::Beginning(_) | IdFilter::NotBeginning(_) => {}
        }
        if self.read == MAX_READ {
            self.page.next = CredentialId::parse(&self.last).ok();
            return Ok(NextRead::Nothing);
        }
        self.read += 1;
        id.clone_into(&mut self.last);
        let record = match read {
            Err(error @ StoreError::Corrupt(_)) if self.filter.passes_over_broken => {
                tracing::error!(alarm = "corrupt_record", %error, "a record that cannot be read is left out of a list");
                return Ok(NextRead::Next);
            }
            read => read?,
        };
        if !self.filter.admits(&record) {
            return Ok(NextRead::Next);
        }
        if self.page.records.len() == self.limit {
            self.page.next = self.page.records.last().map(|record| record.id.clone());
            return Ok(NextRead::Nothing);
        }
        self.page.records.push(record);
        Ok(NextRead::Next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::samples;

    fn collect(filter: &CredentialFilter, ids: impl Iterator<Item = String>) -> (CredentialPage, NextRead) {
        let mut collector = PageCollector::new(filter);
        let mut needs = NextRead::Next;
        for id in ids {
            let record = samples::facts("key", &id, "acme").credential;
            needs = collector.take(&id, Ok(record)).unwrap();
            if needs != NextRead::Next {
                break;
            }
        }
        (collector.page, needs)
    }

    #[test]
    fn a_page_of_records_that_do_not_belong_ends_and_says_where_to_go_on() {
        let filter = CredentialFilter {
            surface: Some(SurfaceName::parse("other").unwrap()),
            limit: 10,
            ..CredentialFilter::default()
        };
        let ids = |count: usize| (0..count).map(|n| format!("key_{n:06}"));
        let (page, needs) = collect(&filter, ids(MAX_READ + 5));
        assert_eq!((page.records.len(), needs), (0, NextRead::Nothing));
        assert_eq!(page.next.unwrap().as_str(), format!("key_{:06}", MAX_READ - 1));
        let (page, needs) = collect(&filter, ids(MAX_READ));
        assert_eq!((page.next, needs), (None, NextRead::Next));
    }

    #[test]
    fn ids_of_other_kinds_are_not_read() {
        let of = |ids| CredentialFilter {
            ids,
            limit: 10,
            ..CredentialFilter::default()
        };
        let all = || ["key_1", "ses_1", "zz"].map(str::to_owned).into_iter();
        let sessions = of(IdFilter::Beginning("ses_"));
        assert_eq!(sessions.begin(), "ses_");
        let (page, needs) = collect(&sessions, all().skip(1));
        assert_eq!((page.records.len(), page.next, needs), (1, None, NextRead::Nothing));
        let (page, needs) = collect(&of(IdFilter::NotBeginning("ses_")), all());
        assert_eq!((page.records.len(), needs), (1, NextRead::After("ses_~".to_owned())));
        let (page, needs) = collect(&of(IdFilter::All), all());
        assert_eq!((page.records.len(), needs), (3, NextRead::Next));
    }
}
