//! Waits for replicas, together for all changes that were made meanwhile.
//!
//! `WAIT` blocks its connection. One for each change would let ten changes without a replica wait ten
//! times its deadline; one for all that were made on the connection before covers them alike.
//!
//! `WAIT` counts. A replica that nobody would promote could stand for one that is promoted next, so who
//! has what is asked of the primary, replica by replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::store::redis::scripts::Scripts;
use crate::store::redis::topology::{
    LaggingReplica, Link, LiveLink, Naming, PrimaryLocator, PromotableReplicas, Replication, StoreFault, WaitReplicas,
};

/// How long replicas may take to confirm. Within a region they take a millisecond.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks at a replica that is not connected: it may be about to be.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Changes that may wait; as many as look-ups may be in flight by default.
const MAX_WAITING: usize = 512;

/// Most replicas whose names are told; a line of a log is no place for more.
const MAX_NAMED: usize = 4;

/// A change that was made on this connection, and who wants to know.
struct WaitingChange {
    live: LiveLink,
    answer: oneshot::Sender<Result<(), String>>,
}

pub(crate) struct Confirmations {
    waiting: mpsc::Sender<WaitingChange>,
}

/// The other end: asks for all that wait.
pub(crate) struct ChangeQueue(mpsc::Receiver<WaitingChange>);

impl Confirmations {
    pub(crate) fn new() -> (Self, ChangeQueue) {
        let (waiting, rounds) = mpsc::channel(MAX_WAITING);
        (Self { waiting }, ChangeQueue(rounds))
    }

    /// Whether everything that was written on this connection before is where it must be to be acknowledged. Takes
    /// at most two rounds.
    ///
    /// # Errors
    /// Why not, or why nobody knows, as half a sentence about the change.
    pub(crate) async fn wait(&self, live: &LiveLink) -> Result<(), String> {
        let (answer, told) = oneshot::channel();
        let waiting = WaitingChange {
            live: live.clone(),
            answer,
        };
        if self.waiting.try_send(waiting).is_err() {
            return Err(unknown("too many changes wait for replicas"));
        }
        told.await.unwrap_or_else(|_| Err(unknown("the store is closed")))
    }
}

/// Asks for all that wait, round by round, until its task is aborted.
pub(crate) async fn confirm_for_ever(mut rounds: ChangeQueue, link: Arc<Link>, confirmer: Confirmer) {
    while let Some(first) = rounds.0.recv().await {
        let mut round = vec![first];
        while round.len() < MAX_WAITING
            && let Ok(next) = rounds.0.try_recv()
        {
            round.push(next);
        }
        while let Some(live) = round.first().map(|waiting| waiting.live.clone()) {
            let (same, others): (Vec<_>, Vec<_>) = round.into_iter().partition(|waiting| waiting.live.is(&live));
            let confirmed = confirmer.ask(&live).await.map_err(|why| match why {
                Unconfirmed::Lacking(why) => why,
                Unconfirmed::Unknown(why) => unknown(&why),
                Unconfirmed::Failed(fault) => {
                    link.settle(&live, &fault);
                    unknown(&fault.error.to_string())
                }
            });
            for waiting in same {
                // Who asked may be gone.
                let _ = waiting.answer.send(confirmed.clone());
            }
            round = others;
        }
    }
}

fn unknown(why: &str) -> String {
    format!("whether replicas have it is not known ({why})")
}

/// Why what was made is not confirmed.
enum Unconfirmed {
    /// Replicas do not have it, or do not say so.
    Lacking(String),
    /// Nobody knows which replicas must have it.
    Unknown(String),
    Failed(StoreFault),
}

impl From<StoreFault> for Unconfirmed {
    fn from(fault: StoreFault) -> Self {
        Self::Failed(fault)
    }
}

/// Who is asked before a change is acknowledged.
pub(crate) struct Confirmer {
    scripts: Arc<Scripts>,
    locator: Arc<PrimaryLocator>,
    replicas: WaitReplicas,
}

impl Confirmer {
    pub(crate) fn new(scripts: &Arc<Scripts>, locator: &Arc<PrimaryLocator>, replicas: WaitReplicas) -> Self {
        Self {
            scripts: Arc::clone(scripts),
            locator: Arc::clone(locator),
            replicas,
        }
    }

    async fn ask(&self, live: &LiveLink) -> Result<(), Unconfirmed> {
        match self.replicas {
            WaitReplicas::Count(number) => {
                let confirmed = self.scripts.wait(&live.wire, number, REPLICA_TIMEOUT).await?;
                if confirmed >= number {
                    return Ok(());
                }
                Err(Unconfirmed::Lacking(format!(
                    "{confirmed} of {number} replicas confirmed it within 1 s"
                )))
            }
            WaitReplicas::All => self.all(live).await,
        }
    }

    /// Each replica that could be promoted must have all that is written by now.
    async fn all(&self, live: &LiveLink) -> Result<(), Unconfirmed> {
        // Both are asked after the write: whoever could be promoted instead of it then is named.
        let (written, promotable) = tokio::join!(self.scripts.replication(&live.wire), self.locator.promotable(live));
        let written = written?;
        let wanted = match promotable.map_err(Unconfirmed::Unknown)? {
            Some(wanted) => wanted,
            None => PromotableReplicas::of(Naming::OfThePrimary, written.peers()),
        };
        let mut missing = written.without(&wanted, written.offset);
        // Where nobody could be promoted, that is all.
        if missing.is_empty() {
            return Ok(());
        }
        let received = self.received(live, &written, &wanted, &mut missing);
        match tokio::time::timeout(REPLICA_TIMEOUT, received).await {
            Ok(received) => Ok(received?),
            Err(_) => Err(Unconfirmed::Lacking(name(&missing))),
        }
    }

    /// Waits until nobody is missing.
    async fn received(
        &self,
        live: &LiveLink,
        written: &Replication,
        wanted: &PromotableReplicas,
        missing: &mut Vec<LaggingReplica>,
    ) -> Result<(), StoreFault> {
        let mut now = written.clone();
        let mut asked = 0;
        while !missing.is_empty() {
            if missing.iter().any(|replica| replica.is_online) {
                if asked > 0 {
                    // A server may count from the last write of this connection, and others have written since.
                    self.scripts.touch(&live.wire).await?;
                }
                // One more each time: others than those wanted may have been the ones that were counted.
                asked = wanted.len().max(asked + 1).min(now.online());
                let number = u32::try_from(asked).unwrap_or(u32::MAX);
                self.scripts.wait(&live.wire, number, REPLICA_TIMEOUT).await?;
            } else {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            now = self.scripts.replication(&live.wire).await?;
            if !now.continues(written) {
                return Err(StoreFault::replica());
            }
            *missing = now.without(wanted, written.offset);
        }
        Ok(())
    }
}

fn name(missing: &[LaggingReplica]) -> String {
    let mut names: Vec<&str> = missing.iter().take(MAX_NAMED).map(|replica| replica.peer.as_str()).collect();
    if missing.len() > MAX_NAMED {
        names.push("and more");
    }
    let how = if missing.iter().any(|replica| !replica.is_online) {
        "the primary has no connection to"
    } else {
        "it did not confirm within 1 s:"
    };
    format!("a replica that could be promoted may lack it: {how} {}", names.join(", "))
}
