//! Look-ups: one connection is asked, and another one when that leaves a doubt.

use std::pin::{Pin, pin};
use std::time::Duration;

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

/// What one connection answered.
type Answered = Result<Found, Fault>;

impl Session {
    /// Asks one connection, and the other one too when the first breaks, is slow or answers about somebody
    /// else: neither says anything about the store. All within the deadline of the caller.
    pub(in crate::store::redis) async fn find(&self, fingerprint: &Fingerprint) -> Result<Found, StoreError> {
        let (link, live) = self.shared.reader_soon().await?;
        let mut first = pin!(self.find_on(&link, &live, fingerprint));
        let doubt = match tokio::time::timeout(HEDGE_AFTER, &mut first).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(fault)) if fault.retry == Retry::No => return Err(fault.error),
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
            return Err(fault.error);
        };
        let second = pin!(self.find_on(&other, &other_live, fingerprint));
        let (one, two) = match doubt {
            Some(fault) => (Some(Err(fault)), Some(second.await)),
            None => either(first, second).await,
        };
        let (found, blamed) = compare(one, two);
        for (blamed, link, live) in [(blamed.0, &link, &live), (blamed.1, &other, &other_live)] {
            if let Some(fault) = blamed {
                link.settle(live, &fault.blame_connection());
            }
        }
        found
    }

    async fn find_on(&self, link: &Link, live: &Live, fingerprint: &Fingerprint) -> Answered {
        // Before the question is sent: what is known afterwards may be younger than the answer.
        let known = self.shared.feed.history.known();
        let reply = self.shared.scripts.find(&live.wire, fingerprint).await;
        let found = reply.and_then(|reply| judge(fingerprint, &known, &self.shared.feed.endings, reply));
        settle(link, live, found)
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

/// What two answers say together, and of which connections it says that they are wrong.
///
/// An answer about somebody else is the store's if both connections bring the same one: it is an error of
/// this credential only. If the other one brings an answer, or another person, a connection is wrong. If the
/// other one brings nothing, it is not known, and one wrong record must not cost a connection.
fn compare(one: Option<Answered>, two: Option<Answered>) -> (Result<Found, StoreError>, (Option<Fault>, Option<Fault>)) {
    let doubtful = |fault: &Fault| fault.retry == Retry::Compare;
    match (one, two) {
        (Some(Ok(found)), Some(Err(fault))) if doubtful(&fault) => (Ok(found), (None, Some(fault))),
        (Some(Err(fault)), Some(Ok(found))) if doubtful(&fault) => (Ok(found), (Some(fault), None)),
        (Some(Ok(found)), _) | (_, Some(Ok(found))) => (Ok(found), (None, None)),
        (Some(Err(one)), Some(Err(two))) if doubtful(&one) && doubtful(&two) && one.error != two.error => {
            (Err(one.error.clone()), (Some(one), Some(two)))
        }
        (Some(Err(fault)), Some(Err(_))) if doubtful(&fault) => (Err(fault.error), (None, None)),
        (_, Some(Err(fault))) | (Some(Err(fault)), None) => (Err(fault.error), (None, None)),
        (None, None) => (Err(StoreError::Unavailable("no connection was asked".into())), (None, None)),
    }
}
