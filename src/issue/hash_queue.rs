//! A fair queue in front of dear work: networks take turns, and whoever has many waiting is refused first.
//!
//! Each party (a network, strangers and known people apart) has a line of its own. A place that comes free
//! goes to the first of the line whose turn it is, and that line goes behind the others: with `n` lines, the
//! first of each is served by the `n`th place that comes free, however long the other lines are.
//!
//! So many wait in all, at most half of them in one line. When all are taken, a newcomer of a shorter line
//! takes the room of the last of the longest one, who is refused. A known one takes a stranger's room first,
//! and strangers take that of strangers only: however many addresses a flood has, whoever is known finds room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::base::network::ClientNetwork;

/// A bounded number of places, and a bounded number of those who wait for one. Cloned freely.
#[derive(Debug, Clone)]
pub struct FairQueue(Arc<QueueShared>);

/// Who asks; those of one party share a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Somebody who has proven before who he is.
    Known(ClientNetwork),
    Stranger(ClientNetwork),
}

/// No room to wait in, or somebody took it who has more right to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// One place; given to the next when dropped.
#[derive(Debug)]
pub struct QueuePermit(Arc<QueueShared>);

#[derive(Debug)]
struct QueueShared {
    max_waiting: usize,
    lines: Mutex<QueueState>,
}

/// Who works and who waits. While a place is free nobody waits.
#[derive(Debug)]
struct QueueState {
    free: usize,
    waiting: usize,
    /// Those with somebody waiting, in the order of their turns; none is empty, so there are at most as
    /// many as may wait, and searching them is bounded.
    lines: VecDeque<FlowQueue>,
    next_number: u64,
}

#[derive(Debug)]
struct FlowQueue {
    party: Flow,
    tickets: VecDeque<QueuedWaiter>,
}

/// Somebody who waits. Dropped without a place, it says that there will be none.
#[derive(Debug)]
struct QueuedWaiter {
    number: u64,
    called: oneshot::Sender<QueuePermit>,
}

enum QueueEntry {
    Free,
    Waiting {
        number: u64,
        called: oneshot::Receiver<QueuePermit>,
    },
}

impl FairQueue {
    /// So many places (at least one), and so many who may wait for them.
    #[must_use]
    pub fn new(places: usize, max_waiting: usize) -> Self {
        Self(Arc::new(QueueShared {
            max_waiting,
            lines: Mutex::new(QueueState {
                free: places.max(1),
                waiting: 0,
                lines: VecDeque::new(),
                next_number: 0,
            }),
        }))
    }

    /// Waits for a place. Whoever drops the future gives up the room it waited in, or the place.
    ///
    /// # Errors
    /// [`QueueFull`], at once or while it waits.
    pub async fn enter(&self, party: Flow) -> Result<QueuePermit, QueueFull> {
        match self.0.ask(party)? {
            QueueEntry::Free => Ok(QueuePermit(self.0.clone())),
            QueueEntry::Waiting { number, called } => {
                let _leaving = Leaving {
                    shared: &self.0,
                    party,
                    number,
                };
                called.await.map_err(|_| QueueFull)
            }
        }
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

impl QueueShared {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, party: Flow) -> Result<QueueEntry, QueueFull> {
        let mut lines = self.lock();
        if lines.free > 0 {
            lines.free -= 1;
            return Ok(QueueEntry::Free);
        }
        let own = lines.count_of(party);
        // Half, so that an office behind one address is served and others always find room.
        if own >= self.max_waiting.div_ceil(2) {
            return Err(QueueFull);
        }
        let pushed_out = if lines.waiting < self.max_waiting {
            None
        } else {
            Some(lines.make_room(party, own).ok_or(QueueFull)?)
        };
        let asked = lines.push(party);
        // Its ticket is dropped, and so its task woken, outside the lock.
        drop(lines);
        drop(pushed_out);
        Ok(asked)
    }
}

impl QueueState {
    fn count_of(&self, party: Flow) -> usize {
        let line = self.lines.iter().find(|line| line.party == party);
        line.map_or(0, |line| line.tickets.len())
    }

    fn push(&mut self, party: Flow) -> QueueEntry {
        let number = self.next_number;
        self.next_number += 1;
        let (sender, called) = oneshot::channel();
        let ticket = QueuedWaiter { number, called: sender };
        match self.lines.iter_mut().find(|line| line.party == party) {
            Some(line) => line.tickets.push_back(ticket),
            None => self.lines.push_back(FlowQueue {
                party,
                tickets: VecDeque::from([ticket]),
            }),
        }
        self.waiting += 1;
        QueueEntry::Waiting { number, called }
    }

    /// The last of the longest line that has less right to wait than one more of a line of `own`.
    fn make_room(&mut self, newcomer: Flow, own: usize) -> Option<QueuedWaiter> {
        let outranked = |line: &FlowQueue| newcomer.is_known() && !line.party.is_known();
        let longer = |line: &FlowQueue| newcomer.is_known() == line.party.is_known() && line.tickets.len() > own + 1;
        let lines = self.lines.iter().enumerate();
        let (at, _) = lines
            .filter(|(_, line)| outranked(line) || longer(line))
            .max_by_key(|(_, line)| (outranked(line), line.tickets.len()))?;
        let ticket = self.lines.get_mut(at)?.tickets.pop_back();
        self.waiting -= 1;
        self.remove_if_empty(at);
        ticket
    }

    /// Whoever's turn it is; without anybody, the place is free.
    fn take_next(&mut self) -> Option<QueuedWaiter> {
        let Some(mut line) = self.lines.pop_front() else {
            self.free += 1;
            return None;
        };
        let ticket = line.tickets.pop_front();
        if !line.tickets.is_empty() {
            self.lines.push_back(line);
        }
        self.waiting -= 1;
        ticket
    }

    fn remove(&mut self, party: Flow, number: u64) {
        let Some(at) = self.lines.iter().position(|line| line.party == party) else {
            return;
        };
        let Some(line) = self.lines.get_mut(at) else { return };
        let before = line.tickets.len();
        line.tickets.retain(|ticket| ticket.number != number);
        self.waiting -= before - line.tickets.len();
        self.remove_if_empty(at);
    }

    fn remove_if_empty(&mut self, at: usize) {
        if self.lines.get(at).is_some_and(|line| line.tickets.is_empty()) {
            self.lines.remove(at);
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
        if let Some(ticket) = next {
            // A place for somebody who has just left comes back unsent; dropped, it is passed on again.
            drop(ticket.called.send(Self(self.0.clone())));
        }
    }
}

/// Takes somebody out of its line when it stops waiting, in whatever way.
struct Leaving<'q> {
    shared: &'q QueueShared,
    party: Flow,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.lock().remove(self.party, self.number);
    }
}

#[cfg(test)]
mod tests;
