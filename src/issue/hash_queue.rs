//! The queue for password hashing: fair among networks, and bounded.
//!
//! Hashing is expensive, so only a few passwords are hashed at a time. Each running hash holds one permit. Callers
//! that find no free permit wait in the queue of their flow: a flow is one network, and known callers and strangers of
//! the same network are two flows.
//!
//! The flows take turns (round robin). A permit that comes free goes to the first waiter of the flow whose turn it is,
//! and then that flow goes behind the others. With `n` flows, the first waiter of each flow is served by the `n`th
//! permit that comes free, however long the other queues are.
//!
//! The number of waiters is bounded, and one flow may have at most half of them. When the bound is reached, a newcomer
//! of a shorter flow takes the room of the last waiter of the longest flow, who is refused. A known caller takes the
//! room of a stranger first. A stranger takes the room of strangers only. So a flood from many addresses never keeps a
//! known caller out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::base::network::ClientNetwork;

/// A bounded number of permits, and a bounded number of waiters. Clones share both.
#[derive(Debug, Clone)]
pub struct FairQueue(Arc<QueueShared>);

/// Whose turn a waiter shares: waiters of one flow stand in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Callers who have proven before who they are.
    Known(ClientNetwork),
    Stranger(ClientNetwork),
}

/// The queue was full, or a caller with a better claim took the room of this waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// Allows one hash. When it is dropped, the next waiter gets it.
#[derive(Debug)]
pub struct QueuePermit(Arc<QueueShared>);

#[derive(Debug)]
struct QueueShared {
    max_waiting: usize,
    state: Mutex<QueueState>,
}

/// While a permit is free, nobody waits.
#[derive(Debug)]
struct QueueState {
    free: usize,
    waiting: usize,
    /// The flows with waiters, in the order of their turns. No queue is empty, so there are at most as many flows as
    /// waiters, and a search through them is bounded.
    flows: VecDeque<FlowQueue>,
    next_number: u64,
}

#[derive(Debug)]
struct FlowQueue {
    flow: Flow,
    waiters: VecDeque<QueuedWaiter>,
}

/// The sending half of a waiter. Dropped without a permit, it tells the waiter that it was refused.
#[derive(Debug)]
struct QueuedWaiter {
    number: u64,
    permit: oneshot::Sender<QueuePermit>,
}

enum EnterResult {
    Free,
    Waiting {
        number: u64,
        permit: oneshot::Receiver<QueuePermit>,
    },
}

impl FairQueue {
    /// A queue with `permits` permits, at least one, and at most `max_waiting` waiters.
    #[must_use]
    pub fn new(permits: usize, max_waiting: usize) -> Self {
        Self(Arc::new(QueueShared {
            max_waiting,
            state: Mutex::new(QueueState {
                free: permits.max(1),
                waiting: 0,
                flows: VecDeque::new(),
                next_number: 0,
            }),
        }))
    }

    /// Waits for a permit. Cancel-safe: a caller that drops the future gives up its room in the queue, or its permit.
    ///
    /// # Errors
    /// [`QueueFull`], at once or while the caller waits.
    pub async fn enter(&self, flow: Flow) -> Result<QueuePermit, QueueFull> {
        match self.0.enter(flow)? {
            EnterResult::Free => Ok(QueuePermit(self.0.clone())),
            EnterResult::Waiting { number, permit } => {
                let _leaving = LeaveOnDrop {
                    shared: &self.0,
                    flow,
                    number,
                };
                permit.await.map_err(|_| QueueFull)
            }
        }
    }

    #[cfg(test)]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

impl QueueShared {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, flow: Flow) -> Result<EnterResult, QueueFull> {
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(EnterResult::Free);
        }
        let own = state.count_of(flow);
        // Half of the room: an office behind one address is served, and other networks always find room.
        if own >= self.max_waiting.div_ceil(2) {
            return Err(QueueFull);
        }
        let displaced = if state.waiting < self.max_waiting {
            None
        } else {
            Some(state.make_room(flow, own).ok_or(QueueFull)?)
        };
        let entry = state.push(flow);
        // The displaced waiter is dropped, and so its task woken, outside the lock.
        drop(state);
        drop(displaced);
        Ok(entry)
    }
}

impl QueueState {
    fn count_of(&self, flow: Flow) -> usize {
        let queue = self.flows.iter().find(|queue| queue.flow == flow);
        queue.map_or(0, |queue| queue.waiters.len())
    }

    fn push(&mut self, flow: Flow) -> EnterResult {
        let number = self.next_number;
        self.next_number += 1;
        let (sender, permit) = oneshot::channel();
        let waiter = QueuedWaiter { number, permit: sender };
        match self.flows.iter_mut().find(|queue| queue.flow == flow) {
            Some(queue) => queue.waiters.push_back(waiter),
            None => self.flows.push_back(FlowQueue {
                flow,
                waiters: VecDeque::from([waiter]),
            }),
        }
        self.waiting += 1;
        EnterResult::Waiting { number, permit }
    }

    /// Removes the last waiter of the longest flow that has a weaker claim than one more waiter of the flow
    /// `newcomer`, which has `own` waiters already.
    fn make_room(&mut self, newcomer: Flow, own: usize) -> Option<QueuedWaiter> {
        let outranked = |queue: &FlowQueue| newcomer.is_known() && !queue.flow.is_known();
        let longer = |queue: &FlowQueue| newcomer.is_known() == queue.flow.is_known() && queue.waiters.len() > own + 1;
        let flows = self.flows.iter().enumerate();
        let (at, _) = flows
            .filter(|(_, queue)| outranked(queue) || longer(queue))
            .max_by_key(|(_, queue)| (outranked(queue), queue.waiters.len()))?;
        let waiter = self.flows.get_mut(at)?.waiters.pop_back();
        self.waiting -= 1;
        self.remove_if_empty(at);
        waiter
    }

    /// The waiter whose turn it is. Without a waiter, the permit becomes free.
    fn take_next(&mut self) -> Option<QueuedWaiter> {
        let Some(mut queue) = self.flows.pop_front() else {
            self.free += 1;
            return None;
        };
        let waiter = queue.waiters.pop_front();
        if !queue.waiters.is_empty() {
            self.flows.push_back(queue);
        }
        self.waiting -= 1;
        waiter
    }

    fn remove(&mut self, flow: Flow, number: u64) {
        let Some(at) = self.flows.iter().position(|queue| queue.flow == flow) else {
            return;
        };
        let Some(queue) = self.flows.get_mut(at) else { return };
        let before = queue.waiters.len();
        queue.waiters.retain(|waiter| waiter.number != number);
        self.waiting -= before - queue.waiters.len();
        self.remove_if_empty(at);
    }

    fn remove_if_empty(&mut self, at: usize) {
        if self.flows.get(at).is_some_and(|queue| queue.waiters.is_empty()) {
            self.flows.remove(at);
        }
    }
}

impl Flow {
    const fn is_known(self) -> bool {
        matches!(self, Self::Known(_))
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        let next = self.0.lock().take_next();
        if let Some(waiter) = next {
            // A waiter that has just left sends the permit back. Dropping it here passes it on to the next one.
            drop(waiter.permit.send(Self(self.0.clone())));
        }
    }
}

/// Takes a waiter out of its queue when it stops waiting, for whatever reason.
struct LeaveOnDrop<'q> {
    shared: &'q QueueShared,
    flow: Flow,
    number: u64,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        self.shared.lock().remove(self.flow, self.number);
    }
}

#[cfg(test)]
mod tests;
