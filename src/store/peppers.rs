//! Under which peppers a store was written: a list that a gateway must know whole, and how it changes.

use crate::base::fingerprint::{Fingerprint, PepperCheck, PepperChecks, PepperMark};
use crate::base::principal::CredentialRecord;

use super::change::{self, ChangeOutcome};
use super::{ChangeError, EventSubject, FactStore, NewRecords, StoreError};

#[cfg(test)]
mod tests;

/// Peppers that were dropped and are remembered, so that a gateway which still has one of them first
/// does not put it on the list again: as many rotations ago.
const REMEMBERED: usize = 16;

/// The peppers that a store's credentials were made under, oldest first, and those dropped since.
///
/// Kept as text: check values in hexadecimal with a space between them; after one that is being dropped,
/// a colon and a word. A store from before there was a list has one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PepperList {
    listed: Vec<ListedPepper>,
    dropped: Vec<PepperCheck>,
}

/// One pepper of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPepper {
    pub check: PepperCheck,
    /// While it is being dropped, the word of whoever drops it: nothing is made under it any more.
    pub leaving: Option<String>,
}

/// A pepper, for the question which credentials depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderPepper {
    pub mark: PepperMark,
    /// That of records without a mark ([`PepperList::oldest`]).
    pub oldest: Option<PepperMark>,
}

/// The pepper without which a record is not found; `oldest` is that of records without a mark. `None` for
/// one that is found by its id alone.
#[must_use]
pub fn pepper_of(record: &CredentialRecord, oldest: Option<PepperMark>) -> Option<PepperMark> {
    record.pepper.or_else(|| oldest.filter(|_| record.needs_pepper()))
}

/// What a list is to a gateway that has all of its peppers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PepperAdmission {
    /// The gateway's first pepper is on it.
    Listed,
    /// It is to be this list: the gateway's first pepper is new.
    Joins(PepperList),
    /// The gateway's first pepper was dropped, or is being dropped: nothing may be made under it.
    Gone(StoreError),
}

impl PepperList {
    /// That of a new store.
    #[must_use]
    pub fn of(first: PepperCheck) -> Self {
        let first = ListedPepper {
            check: first,
            leaving: None,
        };
        Self {
            listed: vec![first],
            dropped: Vec::new(),
        }
    }

    /// Reads what [`text`](Self::text) and [`dropped_text`](Self::dropped_text) wrote.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for anything else.
    pub fn parse(text: &str, dropped: &str) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt("its list of peppers cannot be read".into());
        let listed: Option<Vec<ListedPepper>> = text.split(' ').map(parse_listed).collect();
        let dropped: Option<Vec<PepperCheck>> = dropped.split_whitespace().map(PepperCheck::from_hex).collect();
        Ok(Self {
            listed: listed.ok_or_else(corrupt)?,
            dropped: dropped.ok_or_else(corrupt)?,
        })
    }

    #[must_use]
    pub fn text(&self) -> String {
        let words = self.listed.iter().map(|listed| match &listed.leaving {
            None => listed.check.to_hex(),
            Some(word) => format!("{}:{word}", listed.check.to_hex()),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The dropped ones, as they are stored; empty for none.
    #[must_use]
    pub fn dropped_text(&self) -> String {
        self.dropped.iter().map(|check| check.to_hex()).collect::<Vec<_>>().join(" ")
    }

    #[must_use]
    pub fn listed(&self) -> &[ListedPepper] {
        &self.listed
    }

    /// The one that records without a mark were made under.
    #[must_use]
    pub fn oldest(&self) -> Option<PepperMark> {
        self.listed.first().map(|listed| listed.check.mark())
    }

    /// The one of this mark.
    #[must_use]
    pub fn find(&self, mark: PepperMark) -> Option<&ListedPepper> {
        self.listed.iter().find(|listed| listed.check.mark() == mark)
    }

    /// The same with this pepper being dropped by who says `word`, or with nobody dropping it.
    #[must_use]
    pub fn leaving(&self, check: PepperCheck, word: Option<&str>) -> Self {
        let mut list = self.clone();
        for listed in list.listed.iter_mut().filter(|listed| listed.check == check) {
            listed.leaving = word.map(str::to_owned);
        }
        list
    }

    /// The same without this pepper.
    #[must_use]
    pub fn without(&self, check: PepperCheck) -> Self {
        let mut list = self.clone();
        list.listed.retain(|listed| listed.check != check);
        list.dropped.push(check);
        let old = list.dropped.len().saturating_sub(REMEMBERED);
        list.dropped.drain(..old);
        list
    }

    /// Whether a gateway with these peppers may work with the store, and what becomes of the list.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when it lacks a pepper that is on the list: it would tell whoever has a
    /// credential under that one that there is none.
    pub(super) fn admit(&self, own: &PepperChecks) -> Result<PepperAdmission, StoreError> {
        let missing: Vec<PepperMark> = self
            .listed
            .iter()
            .filter(|listed| own.iter().all(|check| check != listed.check))
            .map(|listed| listed.check.mark())
            .collect();
        if missing.len() == self.listed.len() {
            return Err(StoreError::Foreign(super::other_pepper()));
        }
        if let Some(mark) = missing.first() {
            return Err(StoreError::Foreign(lacks(&mark.to_string())));
        }
        let first = own.first();
        if self.dropped.contains(&first) {
            return Ok(PepperAdmission::Gone(StoreError::Foreign(format!(
                "the first pepper ({}) was dropped from it: put the one that replaced it first, or a new one",
                first.mark()
            ))));
        }
        match self.find(first.mark()) {
            None => {
                let mut list = self.clone();
                list.listed.push(ListedPepper {
                    check: first,
                    leaving: None,
                });
                Ok(PepperAdmission::Joins(list))
            }
            Some(listed) if listed.check != first => Err(StoreError::Foreign(format!(
                "another of its peppers has the same mark {} as the first one: make another new pepper",
                first.mark()
            ))),
            Some(ListedPepper { leaving: Some(_), .. }) => Ok(PepperAdmission::Gone(StoreError::Foreign(format!(
                "the first pepper ({mark}) is being dropped from it: put another one first, or repeat `durward peppers drop {mark}` \
                 at a gateway that has another one first",
                mark = first.mark()
            )))),
            Some(_) => Ok(PepperAdmission::Listed),
        }
    }
}

/// What an operator is told whose gateway lacks a pepper of this mark.
pub(super) fn lacks(mark: &str) -> String {
    format!(
        "credentials were made under a pepper ({mark}) that this gateway does not have, and it would turn them away; \
         give it that one too, after its first, until `durward peppers` says that it can be dropped and \
         `durward peppers drop` has dropped it"
    )
}

/// Notes the pepper that new records were made under, on those that need one.
pub(super) fn stamp(mut new: NewRecords, mark: PepperMark) -> NewRecords {
    for record in &mut new.credentials {
        record.pepper = record.needs_pepper().then_some(mark);
    }
    new
}

/// An account as it is when it is found by this fingerprint, made under the pepper of this mark.
///
/// # Errors
/// [`ChangeError::Conflict`] for what is found neither by a log-in name nor by what an identity provider says of a person.
pub(super) fn moved(
    record: &CredentialRecord,
    fingerprint: Fingerprint,
    mark: PepperMark,
) -> Result<ChangeOutcome<CredentialRecord>, ChangeError> {
    if record.fingerprint == fingerprint {
        return Ok(ChangeOutcome::Unchanged);
    }
    let is_findable = record.login().is_some() || record.is_person_of_provider();
    if !is_findable || !record.needs_pepper() {
        let message = format!(
            "the credential {} is found neither by a log-in name nor by an identity provider",
            record.id
        );
        return Err(ChangeError::Conflict(message));
    }
    // A revoked one moves too, and stays revoked: its address stays taken.
    Ok(ChangeOutcome::Changed(CredentialRecord {
        fingerprint,
        pepper: Some(mark),
        epoch: change::next_epoch(record.epoch)?,
        ..record.clone()
    }))
}

/// The event of such a move: it ends facts under the old fingerprint, and absences of the new one.
pub(super) fn move_event(before: &CredentialRecord, after: &CredentialRecord) -> EventSubject {
    let [new, id] = change::fingerprints(after);
    EventSubject::Credential {
        id: after.id.clone(),
        fingerprints: vec![new, id, before.fingerprint],
    }
}

/// Whether somebody is found by one of these: what is about to be made has another fingerprint under each
/// pepper, and the store's own check sees only the first. Two gateways with different first peppers that
/// make the same at the same moment are not told apart; `durward peppers move` reports them.
///
/// # Errors
/// [`StoreError`]: that is not known.
pub async fn find_any(store: &dyn FactStore, fingerprints: impl Iterator<Item = Fingerprint>) -> Result<bool, StoreError> {
    for fingerprint in fingerprints {
        if store.find(fingerprint).await?.facts.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Of a store that keeps no list.
pub(super) fn no_list() -> StoreError {
    StoreError::Unavailable("it keeps no list of peppers".into())
}

fn parse_listed(word: &str) -> Option<ListedPepper> {
    let (check, leaving) = match word.split_once(':') {
        None => (word, None),
        Some((check, word)) => (check, Some(word.to_owned())),
    };
    Some(ListedPepper {
        check: PepperCheck::from_hex(check)?,
        leaving,
    })
}
