//! Waits for replicas, together for all changes that were made meanwhile.
//!
//! `WAIT` blocks its connection. One for each change would let ten changes without a replica wait ten
//! times its deadline; one for all that were made on the connection before covers them alike.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

use super::link::{Link, Live};
use super::scripts::Scripts;

/// How long replicas may take to confirm. Within a region they take a millisecond.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);

/// Changes that may wait; as many as look-ups may be in flight by default.
const MAX_WAITING: usize = 512;

/// A change that was made on this connection, and who wants to know.
struct Waiting {
    live: Live,
    answer: oneshot::Sender<Result<u32, StoreError>>,
}

/// Where changes wait.
pub(super) struct Confirmations {
    waiting: mpsc::Sender<Waiting>,
}

/// The other end: asks for all that wait.
pub(super) struct Rounds(mpsc::Receiver<Waiting>);

impl Confirmations {
    pub(super) fn new() -> (Self, Rounds) {
        let (waiting, rounds) = mpsc::channel(MAX_WAITING);
        (Self { waiting }, Rounds(rounds))
    }

    /// How many replicas have everything that was written on this connection before. Takes at most
    /// two rounds.
    ///
    /// # Errors
    /// Nobody knows.
    pub(super) async fn wait(&self, live: &Live) -> Result<u32, StoreError> {
        let (answer, told) = oneshot::channel();
        let waiting = Waiting {
            live: live.clone(),
            answer,
        };
        if self.waiting.try_send(waiting).is_err() {
            return Err(StoreError::Unavailable("too many changes wait for replicas".into()));
        }
        told.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".into())))
    }
}

/// Asks for all that wait, round by round, until its task is aborted.
pub(super) async fn confirm_for_ever(mut rounds: Rounds, link: Arc<Link>, scripts: Arc<Scripts>, replicas: u32) {
    while let Some(first) = rounds.0.recv().await {
        let mut round = vec![first];
        while round.len() < MAX_WAITING
            && let Ok(next) = rounds.0.try_recv()
        {
            round.push(next);
        }
        while let Some(live) = round.first().map(|waiting| waiting.live.clone()) {
            let (same, others): (Vec<_>, Vec<_>) = round.into_iter().partition(|waiting| waiting.live.is(&live));
            let confirmed = scripts.wait(&live.wire, replicas, REPLICA_TIMEOUT).await;
            let confirmed = confirmed.map_err(|fault| {
                link.settle(&live, &fault);
                fault.error
            });
            for waiting in same {
                // Who asked may be gone.
                let _ = waiting.answer.send(confirmed.clone());
            }
            round = others;
        }
    }
}
