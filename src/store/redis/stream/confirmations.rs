//! Waits until replicas have a change, together for all changes that were made meanwhile.
//!
//! `WAIT` blocks its connection. With one `WAIT` for each change, ten changes without a replica would wait ten times its
//! deadline. One `WAIT` covers all changes that were made on the connection before.
//!
//! `WAIT` only counts replicas. A replica that would never be promoted could be counted in place of one that is promoted next.
//! So the primary is asked which replica has which offset.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::store::redis::scripts::Scripts;
use crate::store::redis::topology::{
    LaggingReplica, Link, LiveLink, Naming, PrimaryLocator, PromotableReplicas, Replication, StoreFault, WaitReplicas,
};

/// How long replicas may take to confirm. Within a region they take a millisecond.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two questions about a replica that is not connected. It may connect soon.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Most changes that may wait: the default number of look-ups in flight.
const MAX_WAITING: usize = 512;

/// Most replicas that an error message names.
const MAX_NAMED: usize = 4;

/// A change that was made on this connection, and the caller that waits.
struct WaitingChange {
    live: LiveLink,
    answer: oneshot::Sender<Result<(), String>>,
}

pub(crate) struct Confirmations {
    waiting: mpsc::Sender<WaitingChange>,
}

/// The receiving end of [`Confirmations`].
pub(crate) struct ChangeQueue(mpsc::Receiver<WaitingChange>);

impl Confirmations {
    pub(crate) fn new() -> (Self, ChangeQueue) {
        let (waiting, rounds) = mpsc::channel(MAX_WAITING);
        (Self { waiting }, ChangeQueue(rounds))
    }

    /// Succeeds when the replicas that must have it have everything that was written on this connection before. Takes at most
    /// two rounds.
    ///
    /// # Errors
    /// Why they do not have it, or why that is not known, as half a sentence about the change.
    pub(crate) async fn wait(&self, live: &LiveLink) -> Result<(), String> {
        let (answer, reply) = oneshot::channel();
        let waiting = WaitingChange {
            live: live.clone(),
            answer,
        };
        if self.waiting.try_send(waiting).is_err() {
            return Err(unknown("too many changes wait for replicas"));
        }
        reply.await.unwrap_or_else(|_| Err(unknown("the store is closed")))
    }
}

/// Serves all waiting changes, round by round, until its task is aborted.
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
                // The caller may be gone.
                let _ = waiting.answer.send(confirmed.clone());
            }
            round = others;
        }
    }
}

fn unknown(why: &str) -> String {
    format!("whether replicas have it is not known ({why})")
}

/// Why a change is not confirmed.
enum Unconfirmed {
    /// Replicas do not have it, or have not said so.
    Lacking(String),
    /// It is not known which replicas must have it.
    Unknown(String),
    Failed(StoreFault),
}

impl From<StoreFault> for Unconfirmed {
    fn from(fault: StoreFault) -> Self {
        Self::Failed(fault)
    }
}

/// Asks the primary and the witnesses before a change is acknowledged.
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

    /// Each replica that could be promoted must have everything that is written by now.
    async fn all(&self, live: &LiveLink) -> Result<(), Unconfirmed> {
        // Both questions are sent after the write, so the answer names every replica that could be promoted then.
        let (written, promotable) = tokio::join!(self.scripts.replication(&live.wire), self.locator.promotable(live));
        let written = written?;
        let promotable = match promotable.map_err(Unconfirmed::Unknown)? {
            Some(promotable) => promotable,
            None => PromotableReplicas::of(Naming::OfThePrimary, written.peers()),
        };
        let mut missing = written.without(&promotable, written.offset);
        // This is so without replicas, too.
        if missing.is_empty() {
            return Ok(());
        }
        let received = self.received(live, &written, &promotable, &mut missing);
        match tokio::time::timeout(REPLICA_TIMEOUT, received).await {
            Ok(received) => Ok(received?),
            Err(_) => Err(Unconfirmed::Lacking(name(&missing))),
        }
    }

    /// Waits until no replica is missing.
    async fn received(
        &self,
        live: &LiveLink,
        written: &Replication,
        promotable: &PromotableReplicas,
        missing: &mut Vec<LaggingReplica>,
    ) -> Result<(), StoreFault> {
        let mut now = written.clone();
        let mut asked = 0;
        while !missing.is_empty() {
            if missing.iter().any(|replica| replica.is_online) {
                if asked > 0 {
                    // `WAIT` may count from the last write of this connection. Other connections have written since.
                    self.scripts.touch(&live.wire).await?;
                }
                // One more each time: `WAIT` may have counted other replicas than the missing ones.
                asked = promotable.len().max(asked + 1).min(now.online());
                let number = u32::try_from(asked).unwrap_or(u32::MAX);
                self.scripts.wait(&live.wire, number, REPLICA_TIMEOUT).await?;
            } else {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            now = self.scripts.replication(&live.wire).await?;
            if !now.continues(written) {
                return Err(StoreFault::replica());
            }
            *missing = now.without(promotable, written.offset);
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
