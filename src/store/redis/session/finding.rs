//! Look-ups: one connection is asked, and another one when that leaves a doubt.

use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::fingerprint::Fingerprint;
use crate::store::redis::fault::{Fault, Retry};
use crate::store::redis::judge::judge;
use crate::store::redis::link::{Link, Live};
use crate::store::{Found, StoreError};

use super::{Session, settle};

/// How long one connection may take to answer a look-up before the other one is asked too. Far above
/// a healthy round trip, so that a healthy store is asked once; far enough below the look-up deadline
/// for the second answer to arrive (hardening F5).
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// The part of a look-up's deadline that it waits for this gateway to be registered again: what is left is
/// for the reason to be told.
const PATIENCE_TO_BE_LISTED: f64 = 0.8;

/// What one connection answered.
type Answered = Result<Found, Fault>;

impl Session {
    /// What one fingerprint leads to. A look-up that finds this gateway not registered waits until it is again, and
    /// asks once more.
    pub(in crate::store::redis) async fn find(&self, fingerprint: &Fingerprint) -> Result<Found, StoreError> {
        let registration = &self.shared.registration;
        let written = registration.written();
        let answered = match self.find_now(fingerprint).await {
            Err(fault) if fault.retry == Retry::Registered => {
                let patience = self.shared.lookup_timeout.mul_f64(PATIENCE_TO_BE_LISTED);
                registration.renew(written, patience).await?;
                self.find_now(fingerprint).await
            }
            answered => answered,
        };
        answered.map_err(|fault| fault.error)
    }

    /// Looks up several together. Those whose answers leave a doubt are looked up once more, each by itself.
    pub(in crate::store::redis) async fn find_all(&self, asked: &[Fingerprint]) -> Vec<Result<Found, StoreError>> {
        if let [one] = asked {
            return vec![self.find(one).await];
        }
        let answered = match self.find_all_now(asked).await {
            Ok(answered) => answered,
            Err(error) => return asked.iter().map(|_| Err(error.clone())).collect(),
        };
        let settled = asked.iter().zip(answered).map(async |(fingerprint, answered)| match answered {
            Err(fault) if fault.retry != Retry::No => self.find(fingerprint).await,
            answered => answered.map_err(|fault| fault.error),
        });
        join_all(settled).await
    }

    /// Asks one connection for all of them, and the other one too when the first breaks or is slow.
    ///
    /// # Errors
    /// There is no connection.
    async fn find_all_now(&self, asked: &[Fingerprint]) -> Result<Vec<Answered>, StoreError> {
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
    async fn find_all_on(&self, link: &Link, live: &Live, asked: &[Fingerprint]) -> Result<Vec<Answered>, StoreError> {
        // Before the question is sent: what is known afterwards may be younger than the answer.
        let primary_at = self.primary_at(live).await?;
        let known = self.shared.feed.history.known();
        let replies = match self.shared.scripts.find_all(&live.wire, asked).await {
            Ok(replies) => replies,
            Err(error) => return settle(link, live, Err(Fault::of(&error))).map_err(|fault| fault.error),
        };
        let judged = asked.iter().zip(replies).map(|(fingerprint, reply)| {
            let found = reply.and_then(|reply| judge(fingerprint, &known, &self.shared.feed.endings, reply));
            settle(link, live, found).map(|found| Found { primary_at, ..found })
        });
        Ok(judged.collect())
    }

    /// Asks one connection, and the other one too when the first breaks, is slow or answers about somebody
    /// else: neither says anything about the store. All within the deadline of the caller.
    async fn find_now(&self, fingerprint: &Fingerprint) -> Answered {
        let (link, live) = self.shared.reader_soon().await.map_err(Fault::kept)?;
        let mut first = pin!(self.find_on(&link, &live, fingerprint));
        let doubt = match tokio::time::timeout(HEDGE_AFTER, &mut first).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(fault)) if !matches!(fault.retry, Retry::Elsewhere | Retry::Compare) => return Err(fault),
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
                link.settle(live, &Fault::swapped());
            }
        }
        found
    }

    async fn find_on(&self, link: &Link, live: &Live, fingerprint: &Fingerprint) -> Answered {
        // Before the question is sent: what is known afterwards may be younger than the answer.
        let primary_at = self.primary_at(live).await.map_err(Fault::kept)?;
        let known = self.shared.feed.history.known();
        let reply = self.shared.scripts.find(&live.wire, fingerprint).await;
        let found = reply.and_then(|reply| judge(fingerprint, &known, &self.shared.feed.endings, reply));
        settle(link, live, found).map(|found| Found { primary_at, ..found })
    }
}

/// The first answer of two; when one fails, the other's too.
async fn either(
    mut one: Pin<&mut impl Future<Output = Answered>>,
    mut other: Pin<&mut impl Future<Output = Answered>>,
) -> (Option<Answered>, Option<Answered>) {
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
fn compare(one: Option<Answered>, two: Option<Answered>) -> (Answered, (bool, bool)) {
    let is_doubtful = |answered: &Answered| matches!(answered, Err(fault) if fault.retry == Retry::Compare);
    let (one, two) = match (one, two) {
        (Some(one), Some(two)) => (one, two),
        (Some(only), None) | (None, Some(only)) => return (only, (false, false)),
        (None, None) => return (Err(Fault::malformed()), (false, false)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::principal::Position;

    fn found() -> Answered {
        Ok(Found {
            position: Position(1),
            primary_at: None,
            facts: None,
        })
    }

    fn about(whom: &str) -> Answered {
        Err(Fault::about_another(StoreError::Corrupt(whom.into())))
    }

    fn away() -> Answered {
        Err(Fault::kept(StoreError::Unavailable("away".into())))
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
