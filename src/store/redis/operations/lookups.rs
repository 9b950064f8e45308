//! Look-ups: one connection is asked, and another one when that leaves a doubt.

use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::is_valid_id;
use crate::base::principal::CredentialRecord;
use crate::store::redis::scripts::StoredRecord;
use crate::store::redis::stream::{Endings, History, KnownHistory};
use crate::store::redis::topology::{Link, LiveLink, RetryRead, StoreFault, reply_guard};
use crate::store::{Found, FoundFacts, StoreError, change, codec};

use super::{StoreCall, settle};

/// How long one connection may take to answer a look-up before the other one is asked too. Far above
/// a healthy round trip, so that a healthy store is asked once; far enough below the look-up deadline
/// for the second answer to arrive (docs/threats.md F5).
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// The part of a look-up's deadline that it waits for this gateway to be registered again: what is left is
/// for the reason to be told.
const PATIENCE_TO_BE_LISTED: f64 = 0.8;

type LookupResult = Result<Found, StoreFault>;

impl StoreCall {
    /// What one fingerprint leads to. A look-up that finds this gateway not registered waits until it is again, and
    /// asks once more.
    pub(crate) async fn find(&self, fingerprint: &Fingerprint) -> Result<Found, StoreError> {
        let registration = &self.shared.registration;
        let written = registration.written();
        let answered = match self.find_now(fingerprint).await {
            Err(fault) if fault.retry == RetryRead::Registered => {
                let patience = self.shared.lookup_timeout.mul_f64(PATIENCE_TO_BE_LISTED);
                registration.renew(written, patience).await?;
                self.find_now(fingerprint).await
            }
            answered => answered,
        };
        answered.map_err(|fault| fault.error)
    }

    /// Looks up several together. Those whose answers leave a doubt are looked up once more, each by itself.
    pub(crate) async fn find_all(&self, asked: &[Fingerprint]) -> Vec<Result<Found, StoreError>> {
        if let [one] = asked {
            return vec![self.find(one).await];
        }
        let answered = match self.find_all_now(asked).await {
            Ok(answered) => answered,
            Err(error) => return asked.iter().map(|_| Err(error.clone())).collect(),
        };
        let settled = asked.iter().zip(answered).map(async |(fingerprint, answered)| match answered {
            Err(fault) if fault.retry != RetryRead::No => self.find(fingerprint).await,
            answered => answered.map_err(|fault| fault.error),
        });
        join_all(settled).await
    }

    /// Asks one connection for all of them, and the other one too when the first breaks or is slow.
    ///
    /// # Errors
    /// There is no connection.
    async fn find_all_now(&self, asked: &[Fingerprint]) -> Result<Vec<LookupResult>, StoreError> {
        let (link, live) = self.shared.reader_soon().await?;
        let mut first = pin!(self.find_all_on(&link, &live, asked));
        let answered = tokio::time::timeout(HEDGE_AFTER, &mut first).await.ok();
        if let Some(Ok(answered)) = answered {
            return Ok(answered);
        }
        let other = self.shared.reader(Some(&link));
        match (answered, other) {
            (Some(answered), Err(_)) => answered,
            (None, Err(_)) => first.await,
            (Some(_), Ok((other, live))) => self.find_all_on(&other, &live, asked).await,
            (None, Ok((other, live))) => {
                let mut second = pin!(self.find_all_on(&other, &live, asked));
                tokio::select! {
                    biased;
                    answered = &mut first => match answered {
                        Ok(answered) => Ok(answered),
                        Err(_) => second.await,
                    },
                    answered = &mut second => match answered {
                        Ok(answered) => Ok(answered),
                        Err(_) => first.await,
                    },
                }
            }
        }
    }

    /// Asks one connection for all of them.
    ///
    /// # Errors
    /// When nothing was answered at all.
    async fn find_all_on(&self, link: &Link, live: &LiveLink, asked: &[Fingerprint]) -> Result<Vec<LookupResult>, StoreError> {
        // Before the question is sent: what is known afterwards may be younger than the answer.
        let primary_at = self.primary_at(live).await?;
        let known = self.shared.feed.history.known();
        let replies = match self.shared.scripts.find_all(&live.wire, asked).await {
            Ok(replies) => replies,
            Err(error) => return settle(link, live, Err(StoreFault::of(&error))).map_err(|fault| fault.error),
        };
        let judged = asked.iter().zip(replies).map(|(fingerprint, reply)| {
            let found = reply.and_then(|reply| judge(fingerprint, &known, &self.shared.feed.endings, reply));
            settle(link, live, found).map(|found| Found { primary_at, ..found })
        });
        Ok(judged.collect())
    }

    /// Asks one connection, and the other one too when the first breaks, is slow or answers about somebody
    /// else: neither says anything about the store. All within the deadline of the caller.
    async fn find_now(&self, fingerprint: &Fingerprint) -> LookupResult {
        let (link, live) = self.shared.reader_soon().await.map_err(StoreFault::kept)?;
        let mut first = pin!(self.find_on(&link, &live, fingerprint));
        let doubt = match tokio::time::timeout(HEDGE_AFTER, &mut first).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(fault)) if !matches!(fault.retry, RetryRead::Elsewhere | RetryRead::Compare) => return Err(fault),
            Ok(Err(fault)) => Some(fault),
            Err(_) => None,
        };
        let Ok((other, other_live)) = self.shared.reader(Some(&link)) else {
            let fault = match doubt {
                Some(fault) => fault,
                None => match first.await {
                    Ok(found) => return Ok(found),
                    Err(fault) => fault,
                },
            };
            return Err(fault);
        };
        let second = pin!(self.find_on(&other, &other_live, fingerprint));
        let (one, two) = match doubt {
            Some(fault) => (Some(Err(fault)), Some(second.await)),
            None => either(first, second).await,
        };
        let (found, wrong) = compare(one, two);
        for (wrong, link, live) in [(wrong.0, &link, &live), (wrong.1, &other, &other_live)] {
            if wrong {
                link.settle(live, &StoreFault::swapped());
            }
        }
        found
    }

    async fn find_on(&self, link: &Link, live: &LiveLink, fingerprint: &Fingerprint) -> LookupResult {
        // Before the question is sent: what is known afterwards may be younger than the answer.
        let primary_at = self.primary_at(live).await.map_err(StoreFault::kept)?;
        let known = self.shared.feed.history.known();
        let reply = self.shared.scripts.find(&live.wire, fingerprint).await;
        let found = reply.and_then(|reply| judge(fingerprint, &known, &self.shared.feed.endings, reply));
        settle(link, live, found).map(|found| Found { primary_at, ..found })
    }
}

/// The first answer of two; when one fails, the other's too.
async fn either(
    mut one: Pin<&mut impl Future<Output = LookupResult>>,
    mut other: Pin<&mut impl Future<Output = LookupResult>>,
) -> (Option<LookupResult>, Option<LookupResult>) {
    tokio::select! {
        biased;
        first = &mut one => match first {
            Ok(found) => (Some(Ok(found)), None),
            failed => (Some(failed), Some(other.await)),
        },
        first = &mut other => match first {
            Ok(found) => (None, Some(Ok(found))),
            failed => (Some(one.await), Some(failed)),
        },
    }
}

/// What two answers say together, and which of their connections it shows to be wrong.
///
/// An answer about somebody else is the store's if both connections bring the same one: it is an error of
/// this credential only. If the other one brings an answer, or another person, a connection is wrong. If the
/// other one brings nothing, it is not known, and one wrong record must not cost a connection.
fn compare(one: Option<LookupResult>, two: Option<LookupResult>) -> (LookupResult, (bool, bool)) {
    let is_doubtful = |answered: &LookupResult| matches!(answered, Err(fault) if fault.retry == RetryRead::Compare);
    let (one, two) = match (one, two) {
        (Some(one), Some(two)) => (one, two),
        (Some(only), None) | (None, Some(only)) => return (only, (false, false)),
        (None, None) => return (Err(StoreFault::malformed()), (false, false)),
    };
    let doubtful = (is_doubtful(&one), is_doubtful(&two));
    match (one, two) {
        (Ok(found), _) => (Ok(found), (false, doubtful.1)),
        (_, Ok(found)) => (Ok(found), (doubtful.0, false)),
        (Err(one), Err(two)) => {
            let differ = doubtful == (true, true) && one.error != two.error;
            // What is about somebody else says more than why there is no other answer.
            let told = if doubtful.0 { one } else { two };
            (Err(told), (differ, differ))
        }
    }
}

/// What a look-up brought, not judged yet.
pub(crate) struct FindReply {
    /// The fingerprint that was asked for, as the server heard it.
    asked: String,
    history: String,
    position: u64,
    /// With an entry of the index, what it led to.
    pub(crate) led_to: Option<LedTo>,
}

/// What an entry of the index led to.
pub(crate) struct LedTo {
    tenant: Option<Vec<u8>>,
    /// Under which ids the records stand, in words, to be named when they cannot be read.
    ids: String,
    /// The credential and what it hangs on; none when the index names a tenant itself.
    pub(crate) records: Vec<StoredRecord>,
    roles: Vec<Option<Vec<u8>>>,
}

impl FindReply {
    /// Reads the list a script answered to the look-up of this fingerprint.
    ///
    /// # Errors
    /// When it has another form, or is the answer to somebody else's question (docs/threats.md C3): facts name
    /// whom they are about, but an absence would be anybody's.
    pub(crate) fn read(words: Vec<Option<Vec<u8>>>, fingerprint: &Fingerprint) -> Result<Self, StoreFault> {
        let reply = Self::parse(words).ok_or_else(StoreFault::malformed)?;
        if reply.asked != fingerprint.to_hex() {
            return Err(StoreFault::swapped());
        }
        Ok(reply)
    }

    fn parse(reply: Vec<Option<Vec<u8>>>) -> Option<Self> {
        let mut reply = reply.into_iter();
        let asked = String::from_utf8(reply.next()??).ok()?;
        let history = String::from_utf8(reply.next()??).ok()?;
        let position = std::str::from_utf8(&reply.next()??).ok()?.parse().ok()?;
        let led_to = match reply.next() {
            None => None,
            Some(tenant) => {
                let told = String::from_utf8(reply.next()??).ok()?;
                let (count, ids) = told.split_once(' ').unwrap_or((&told, ""));
                let count: usize = count.parse().ok()?;
                let records = (0..count).map(|_| reply.next().zip(reply.next())).collect::<Option<_>>()?;
                Some(LedTo {
                    tenant,
                    ids: ids.to_owned(),
                    records,
                    roles: reply.collect(),
                })
            }
        };
        Some(Self {
            asked,
            history,
            position,
            led_to,
        })
    }
}

/// What a look-up makes of a server's bytes, bounds and judgement together: the entry for fuzzing.
///
/// # Errors
/// Whatever is not an answer to exactly this question.
pub fn judge_bytes(fingerprint: &Fingerprint, bytes: &[u8]) -> Result<Option<FoundFacts>, StoreError> {
    reply_guard::check(bytes).map_err(|reason| StoreError::Unavailable(reason.into()))?;
    let value = redis::parse_redis_value(bytes).map_err(|error| StoreFault::of(&error).error)?;
    let value = value.extract_error().map_err(|error| StoreFault::of(&error).error)?;
    let words: Vec<Option<Vec<u8>>> = redis::from_redis_value(value).map_err(|_| StoreFault::malformed().error)?;
    let reply = FindReply::read(words, fingerprint).map_err(|fault| fault.error)?;
    let found = judge(fingerprint, &History::default().known(), &Endings::default(), reply);
    found.map(|found| found.facts).map_err(|fault| fault.error)
}

/// Turns a reply into facts, with everything seen to end laid over them, or into the reason why it
/// cannot be trusted.
pub(crate) fn judge(fingerprint: &Fingerprint, known: &KnownHistory, endings: &Endings, reply: FindReply) -> Result<Found, StoreFault> {
    if !known.is_followed_by(&reply.history, reply.position) {
        return Err(StoreFault::kept(StoreError::Unavailable(
            "it has lost changes this gateway has seen; reading it again".into(),
        )));
    }
    let position = known
        .position(reply.position)
        .ok_or_else(|| corrupt("its position is out of range"))?;
    let Some(led_to) = reply.led_to else {
        return Ok(Found {
            position,
            facts: None,
            primary_at: None,
        });
    };
    let ids = led_to.ids.clone();
    let mut facts = facts_of(led_to).map_err(|error| StoreFault::kept(naming(&ids, error)))?;
    if !change::answers(&facts.credential, fingerprint) {
        // Either the index is wrong or this reply was meant for somebody else (docs/threats.md C3).
        return Err(StoreFault::about_another(StoreError::Corrupt(format!(
            "the index of fingerprints leads to the credential {} of the tenant {}, which is found by another one",
            facts.credential.id, facts.credential.tenant
        ))));
    }
    endings.restrict(&mut facts);
    Ok(Found {
        position,
        facts: Some(facts),
        primary_at: None,
    })
}

/// The error with the ids of the records that it is about, the credential's own first.
fn naming(ids: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(why) if !ids.is_empty() && ids.split(' ').all(is_valid_id) => {
            StoreError::Corrupt(format!("{why} (credential {})", ids.replace(' ', ", which hangs on ")))
        }
        error => error,
    }
}

fn facts_of(led_to: LedTo) -> Result<FoundFacts, StoreError> {
    let tenant = led_to
        .tenant
        .ok_or_else(|| StoreError::Corrupt("the tenant of a credential is missing".into()))?;
    let tenant = codec::decode_tenant(&tenant)?;
    let mut records = led_to.records.into_iter();
    let Some(first) = records.next() else {
        return change::assemble(CredentialRecord::of_tenant(&tenant), tenant, Vec::new(), Vec::new());
    };
    let credential = record_of(first)?.ok_or_else(|| StoreError::Corrupt("a fingerprint points to no credential".into()))?;
    let mut ancestors = Vec::new();
    for stored in records {
        ancestors.extend(record_of(stored)?);
    }
    let mut roles = Vec::new();
    for role in led_to.roles.into_iter().flatten() {
        roles.push(codec::decode_role(&role)?);
    }
    change::assemble(credential, tenant, ancestors, roles)
}

/// A stored credential with its last use laid over.
fn record_of((bytes, used): StoredRecord) -> Result<Option<CredentialRecord>, StoreError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let record = codec::decode_credential(&bytes)?;
    let used = used.map(|used| {
        let millis = std::str::from_utf8(&used).ok().and_then(|text| text.parse().ok());
        millis
            .map(UnixMillis)
            .ok_or_else(|| StoreError::Corrupt("a last use is not a time".into()))
    });
    Ok(Some(change::used(record, used.transpose()?)))
}

/// A credential that stands under this id.
pub(crate) fn credential_of(id: &str, stored: StoredRecord) -> Result<Option<CredentialRecord>, StoreError> {
    match record_of(stored)? {
        Some(record) if record.id.as_str() != id => Err(StoreError::Corrupt("a credential stands under another id".into())),
        record => Ok(record),
    }
}

fn corrupt(what: &str) -> StoreFault {
    StoreFault::kept(StoreError::Corrupt(what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::principal::Position;

    fn found() -> LookupResult {
        Ok(Found {
            position: Position(1),
            primary_at: None,
            facts: None,
        })
    }

    fn about(whom: &str) -> LookupResult {
        Err(StoreFault::about_another(StoreError::Corrupt(whom.into())))
    }

    fn away() -> LookupResult {
        Err(StoreFault::kept(StoreError::Unavailable("away".into())))
    }

    #[test]
    fn the_store_is_wrong_if_both_say_the_same_and_a_connection_if_not() {
        for (one, two, wrong, told) in [
            (about("ann"), found(), (true, false), None),
            (found(), about("ann"), (false, true), None),
            (about("ann"), about("ann"), (false, false), Some("ann")),
            (about("ann"), about("bob"), (true, true), Some("ann")),
            (about("ann"), away(), (false, false), Some("ann")),
            (away(), about("ann"), (false, false), Some("ann")),
            (away(), found(), (false, false), None),
            (away(), away(), (false, false), Some("away")),
        ] {
            let (answered, blamed) = compare(Some(one), Some(two));
            assert_eq!(blamed, wrong);
            match told {
                None => assert!(answered.is_ok()),
                Some(whom) => assert!(answered.is_err_and(|fault| fault.error.to_string().contains(whom))),
            }
        }
    }

    const ASKED: Fingerprint = Fingerprint::from_bytes([0x11; 32]);

    /// What a server sends that knows nobody, asked for this.
    fn absence(asked: &Fingerprint) -> Vec<u8> {
        format!("*3\r\n$64\r\n{}\r\n$7\r\nhistory\r\n$1\r\n7\r\n", asked.to_hex()).into_bytes()
    }

    #[test]
    fn an_absence_answers_the_question_that_was_asked_and_no_other() {
        assert!(matches!(judge_bytes(&ASKED, &absence(&ASKED)), Ok(None)));
        let other = absence(&Fingerprint::from_bytes([0x12; 32]));
        assert!(matches!(judge_bytes(&ASKED, &other), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for bytes in [
            &b"*2\r\n$1\r\na\r\n$1\r\n7\r\n"[..],
            b"*0\r\n",
            b"+OK\r\n",
            b"-ERR no\r\n",
            b"*3\r\n$64",
        ] {
            assert!(judge_bytes(&ASKED, bytes).is_err(), "{bytes:?}");
        }
    }
}
