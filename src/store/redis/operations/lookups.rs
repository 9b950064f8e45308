//! Look-ups: one connection is asked, and another one when the answer leaves a doubt. Here answers are judged, too.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{RedisError, Value};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::is_valid_id;
use crate::base::principal::CredentialRecord;
use crate::store::redis::scripts::StoredRecord;
use crate::store::redis::stream::{Endings, KnownHistory};
use crate::store::redis::topology::{Link, LiveLink, RetryRead, StoreFault};
use crate::store::{LookupReply, StoreError, StoredFacts, change, codec, lookup};

use super::{StoreCall, settle};

/// After this time without an answer the other connection is asked, too. It is far above a healthy round trip, so that a healthy
/// store is asked once, and far enough below the look-up deadline for the second answer (docs/threats.md F5).
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// The part of the deadline for which a look-up waits until this gateway is registered again. The rest is for telling the
/// reason.
const PATIENCE_TO_BE_LISTED: f64 = 0.8;

type ConnectionAnswer = Result<LookupReply, StoreFault>;

impl StoreCall {
    /// Looks one fingerprint up. If this gateway is not registered, the look-up waits until it is registered again, and asks
    /// once more.
    pub(crate) async fn find(&self, fingerprint: &Fingerprint) -> Result<LookupReply, StoreError> {
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

    /// Looks several fingerprints up together. Those whose answers leave a doubt are looked up once more, one by one.
    pub(crate) async fn find_all(&self, asked: &[Fingerprint]) -> Vec<Result<LookupReply, StoreError>> {
        if let [one] = asked {
            return vec![self.find(one).await];
        }
        let answered = match self.find_all_now(asked).await {
            Ok(answered) => answered,
            Err(error) => return asked.iter().map(|_| Err(error.clone())).collect(),
        };
        // Futures are made for doubtful answers alone: one is some kilobytes, and nearly all answers are certain.
        let is_doubtful = |answer: &ConnectionAnswer| matches!(answer, Err(fault) if fault.retry != RetryRead::No);
        let doubtful = asked.iter().zip(&answered).filter(|(_, answer)| is_doubtful(answer));
        let mut again = join_all(doubtful.map(|(fingerprint, _)| self.find(fingerprint))).await.into_iter();
        let certain = |answer: ConnectionAnswer| {
            if is_doubtful(&answer) {
                again.next().unwrap_or_else(|| Err(StoreFault::malformed().error))
            } else {
                answer.map_err(|fault| fault.error)
            }
        };
        answered.into_iter().map(certain).collect()
    }

    /// Asks one connection for all of them, and the other one too when the first breaks or is slow.
    ///
    /// # Errors
    /// There is no connection for look-ups.
    async fn find_all_now(&self, asked: &[Fingerprint]) -> Result<Vec<ConnectionAnswer>, StoreError> {
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
    /// There was no answer.
    async fn find_all_on(&self, link: &Link, live: &LiveLink, asked: &[Fingerprint]) -> Result<Vec<ConnectionAnswer>, StoreError> {
        // Before the question is sent: what is known afterwards may be younger than the answer.
        let primary_at = self.primary_at(live).await?;
        let known = self.shared.feed.history.known();
        let replies = match self.shared.scripts.find_all(&live.wire, asked).await {
            Ok(replies) => replies,
            Err(error) => return settle(link, live, Err(StoreFault::of(&error))).map_err(|fault| fault.error),
        };
        let judged = asked.iter().zip(replies).map(|(fingerprint, reply)| {
            let found = reply.and_then(|reply| self.judge(fingerprint, &known, reply));
            settle(link, live, found).map(|found| LookupReply { primary_at, ..found })
        });
        Ok(judged.collect())
    }

    /// Asks one connection, and the other one, too, when the first breaks, is slow or answers about another credential. None of
    /// these says anything about the store. Ends within the deadline of the caller.
    async fn find_now(&self, fingerprint: &Fingerprint) -> ConnectionAnswer {
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

    async fn find_on(&self, link: &Link, live: &LiveLink, fingerprint: &Fingerprint) -> ConnectionAnswer {
        // Before the question is sent: what is known afterwards may be younger than the answer.
        let primary_at = self.primary_at(live).await.map_err(StoreFault::kept)?;
        let known = self.shared.feed.history.known();
        let reply = self.shared.scripts.find(&live.wire, fingerprint).await;
        let found = reply.and_then(|reply| self.judge(fingerprint, &known, reply));
        settle(link, live, found).map(|found| LookupReply { primary_at, ..found })
    }

    /// `known` is of before the question.
    fn judge(&self, fingerprint: &Fingerprint, known: &KnownHistory, reply: FindReply) -> ConnectionAnswer {
        let feed = &self.shared.feed;
        let history_proven = feed.history.has_link(known, reply.at.position, &reply.at.link);
        judge(fingerprint, known, &feed.endings, reply).map(|found| LookupReply { history_proven, ..found })
    }
}

/// The first of two answers; if it is a failure, both.
async fn either(
    mut one: Pin<&mut impl Future<Output = ConnectionAnswer>>,
    mut other: Pin<&mut impl Future<Output = ConnectionAnswer>>,
) -> (Option<ConnectionAnswer>, Option<ConnectionAnswer>) {
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

/// Compares two answers; answers the result, and which of the two connections is wrong.
///
/// An answer about another credential is the fault of the store if both connections bring the same one: then only this
/// credential is broken. If the other connection brings a good answer, or one about a third credential, a connection is wrong.
/// If the other connection brings no answer, it is not known which is wrong, and both connections stay in use.
fn compare(one: Option<ConnectionAnswer>, two: Option<ConnectionAnswer>) -> (ConnectionAnswer, (bool, bool)) {
    let is_doubtful = |answered: &ConnectionAnswer| matches!(answered, Err(fault) if fault.retry == RetryRead::Compare);
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
            // The answer about another credential says more than the reason why there is no other answer.
            let told = if doubtful.0 { one } else { two };
            (Err(told), (differ, differ))
        }
    }
}

/// The reply to a look-up, not judged yet.
pub(crate) struct FindReply {
    at: Arc<FoundAt>,
    /// `None` for an absence.
    pub(crate) led_to: Option<LedTo>,
}

/// Where the store stood at a call of the script, for all look-ups of the call.
struct FoundAt {
    history: String,
    position: u64,
    /// The link of the newest event, or what an older gateway left.
    link: String,
}

/// What an entry of the index leads to.
pub(crate) struct LedTo {
    tenant: Option<Vec<u8>>,
    /// The ids of the records, for the error message when they cannot be read.
    ids: String,
    /// The credential and its ancestors; empty when the index names a tenant.
    pub(crate) records: Vec<StoredRecord>,
    roles: Vec<Option<Vec<u8>>>,
}

impl FindReply {
    /// Reads the reply of one call of the script to the look-ups of these fingerprints, in their order. A look-up may fail by
    /// itself.
    ///
    /// # Errors
    /// The reply has another form, or a part of it answers another question (docs/threats.md C3). Facts name their credential,
    /// but an absence does not, so each part repeats its fingerprint. Nothing of such a reply is used.
    pub(crate) fn read(reply: Value, asked: &[Fingerprint]) -> Result<Vec<Result<Self, StoreFault>>, StoreFault> {
        let Value::Array(words) = reply else {
            return Err(StoreFault::malformed());
        };
        let mut words = words.into_iter();
        let at = Arc::new(FoundAt::read(&mut words).ok_or_else(StoreFault::malformed)?);
        if words.len() != asked.len() {
            return Err(StoreFault::malformed());
        }
        let read = |(word, fingerprint): (Value, &Fingerprint)| match word {
            Value::ServerError(error) => Ok(Err(StoreFault::of(&RedisError::from(error)))),
            Value::Array(words) => {
                let (repeated, led_to) = LedTo::read(words).ok_or_else(StoreFault::malformed)?;
                if repeated != fingerprint.to_hex().as_bytes() {
                    return Err(StoreFault::swapped());
                }
                Ok(Ok(Self {
                    at: Arc::clone(&at),
                    led_to,
                }))
            }
            _ => Err(StoreFault::malformed()),
        };
        words.zip(asked).map(read).collect()
    }
}

impl FoundAt {
    fn read(words: &mut impl Iterator<Item = Value>) -> Option<Self> {
        let history = text(words.next()?)?;
        let standing = text(words.next()?)?;
        let (position, link) = standing.split_once(' ')?;
        Some(Self {
            history,
            position: position.parse().ok()?,
            link: link.to_owned(),
        })
    }
}

impl LedTo {
    /// The fingerprint that the server repeats, and what it leads to.
    fn read(words: Vec<Value>) -> Option<(Vec<u8>, Option<Self>)> {
        let mut words = words.into_iter();
        let repeated = bytes(words.next()?)??;
        let Some(tenant) = words.next() else {
            return Some((repeated, None));
        };
        let tenant = bytes(tenant)?;
        let told = text(words.next()?)?;
        let (count, ids) = told.split_once(' ').unwrap_or((&told, ""));
        let count: usize = count.parse().ok()?;
        let mut records = Vec::with_capacity(count.min(words.len()));
        for _ in 0..count {
            records.push((bytes(words.next()?)?, bytes(words.next()?)?));
        }
        let led_to = Self {
            tenant,
            ids: ids.to_owned(),
            records,
            roles: words.map(bytes).collect::<Option<_>>()?,
        };
        Some((repeated, Some(led_to)))
    }
}

/// A string of a reply, which is moved and not copied; the inner `None` stands for none. The outer one: it is no string.
fn bytes(word: Value) -> Option<Option<Vec<u8>>> {
    match word {
        Value::BulkString(bytes) => Some(Some(bytes)),
        Value::Nil => Some(None),
        _ => None,
    }
}

fn text(word: Value) -> Option<String> {
    String::from_utf8(bytes(word)??).ok()
}

/// Turns a reply into facts and applies the endings, or says why the reply cannot be trusted.
pub(crate) fn judge(
    fingerprint: &Fingerprint,
    known: &KnownHistory,
    endings: &Endings,
    reply: FindReply,
) -> Result<LookupReply, StoreFault> {
    if !known.is_followed_by(&reply.at.history, reply.at.position) {
        return Err(StoreFault::kept(StoreError::Unavailable(
            "it has lost changes this gateway has seen; reading it again".into(),
        )));
    }
    let position = known
        .position(reply.at.position)
        .ok_or_else(|| corrupt("its position is out of range"))?;
    let Some(led_to) = reply.led_to else {
        return Ok(LookupReply {
            position,
            facts: None,
            primary_at: None,
            history_proven: false,
        });
    };
    let ids = led_to.ids.clone();
    let mut facts = facts_of(led_to).map_err(|error| StoreFault::kept(naming(&ids, error)))?;
    if !lookup::answers(&facts.credential, fingerprint) {
        // Either the index is wrong, or this reply belongs to another question (docs/threats.md C3).
        return Err(StoreFault::about_another(StoreError::Corrupt(format!(
            "the index of fingerprints leads to the credential {} of the tenant {}, which is found by another one",
            facts.credential.id, facts.credential.tenant
        ))));
    }
    endings.restrict(&mut facts);
    Ok(LookupReply {
        position,
        facts: Some(facts),
        primary_at: None,
        history_proven: false,
    })
}

/// Adds the ids of the records to the error, the credential's own id first.
fn naming(ids: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(why) if !ids.is_empty() && ids.split(' ').all(is_valid_id) => {
            StoreError::Corrupt(format!("{why} (credential {})", ids.replace(' ', ", which hangs on ")))
        }
        error => error,
    }
}

fn facts_of(led_to: LedTo) -> Result<StoredFacts, StoreError> {
    let tenant = led_to
        .tenant
        .ok_or_else(|| StoreError::Corrupt("the tenant of a credential is missing".into()))?;
    let tenant = codec::decode_tenant(&tenant)?;
    let mut records = led_to.records.into_iter();
    let Some(first) = records.next() else {
        return lookup::assemble(CredentialRecord::of_tenant(&tenant), tenant, Vec::new(), Vec::new());
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
    lookup::assemble(credential, tenant, ancestors, roles)
}

/// Decodes a stored credential and its last use.
fn record_of(stored: StoredRecord) -> Result<Option<CredentialRecord>, StoreError> {
    let (bytes, used) = stored;
    let Some(bytes) = bytes else { return Ok(None) };
    let record = codec::decode_credential(&bytes)?;
    let used = used.map(|used| {
        let millis = std::str::from_utf8(&used).ok().and_then(|text| text.parse().ok());
        millis
            .map(UnixMillis)
            .ok_or_else(|| StoreError::Corrupt("a last use is not a time".into()))
    });
    Ok(Some(change::with_last_use(record, used.transpose()?)))
}

/// Decodes the credential that is stored under this id.
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

    fn found() -> ConnectionAnswer {
        Ok(LookupReply {
            position: Position(1),
            primary_at: None,
            history_proven: false,
            facts: None,
        })
    }

    fn about(whom: &str) -> ConnectionAnswer {
        Err(StoreFault::about_another(StoreError::Corrupt(whom.into())))
    }

    fn away() -> ConnectionAnswer {
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
}
