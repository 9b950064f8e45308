//! A fair queue in front of dear work: networks take turns, and whoever has many waiting is refused first.
//!
//! Each network (see [`Network`]) has a line of its own. A place that comes free goes to the first of
//! the line whose turn it is, and that line goes behind the others: with `n` networks waiting, the
//! first of each is served by the `n`th place that comes free, however long the other lines are.
//! Bounds: so many wait in all, at most half of them of one network, and when all are taken, somebody
//! of a shorter line takes the place of the last of the longest one, who is refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::network::Network;

/// A bounded number of places, and a bounded number of those who wait for one. Cloned freely.
#[derive(Debug, Clone)]
pub struct FairQueue(Arc<Shared>);

/// No room to wait in, or somebody with fewer waiting took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// One place; given to the next when dropped.
#[derive(Debug)]
pub struct Place(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_waiting: usize,
    lines: Mutex<Lines>,
}

/// Who works and who waits. While a place is free nobody waits.
#[derive(Debug)]
struct Lines {
    free: usize,
    waiting: usize,
    /// Those with somebody waiting, in the order of their turns; none is empty, so there are at most as
    /// many as may wait, and searching them is bounded.
    lines: VecDeque<Line>,
    next_number: u64,
}

#[derive(Debug)]
struct Line {
    network: Network,
    tickets: VecDeque<Ticket>,
}

/// Somebody who waits. Dropped without a place, it says that there will be none.
#[derive(Debug)]
struct Ticket {
    number: u64,
    called: oneshot::Sender<Place>,
}

enum Asked {
    Free,
    Waiting { number: u64, called: oneshot::Receiver<Place> },
}

impl FairQueue {
    /// So many places (at least one), and so many who may wait for them.
    #[must_use]
    pub fn new(places: usize, max_waiting: usize) -> Self {
        Self(Arc::new(Shared {
            max_waiting,
            lines: Mutex::new(Lines {
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
    /// [`Full`], at once or while it waits.
    pub async fn enter(&self, network: Network) -> Result<Place, Full> {
        match self.0.ask(network)? {
            Asked::Free => Ok(Place(self.0.clone())),
            Asked::Waiting { number, called } => {
                let _leaving = Leaving {
                    shared: &self.0,
                    network,
                    number,
                };
                called.await.map_err(|_| Full)
            }
        }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, network: Network) -> Result<Asked, Full> {
        let mut lines = self.lock();
        if lines.free > 0 {
            lines.free -= 1;
            return Ok(Asked::Free);
        }
        let own = lines.count_of(network);
        // Half, so that an office behind one address is served and others always find room.
        if own >= self.max_waiting.div_ceil(2) {
            return Err(Full);
        }
        let pushed_out = if lines.waiting < self.max_waiting {
            None
        } else {
            Some(lines.take_last_of_longest(own).ok_or(Full)?)
        };
        let asked = lines.push(network);
        // Its ticket is dropped, and so its task woken, outside the lock.
        drop(lines);
        drop(pushed_out);
        Ok(asked)
    }
}

impl Lines {
    fn count_of(&self, network: Network) -> usize {
        let line = self.lines.iter().find(|line| line.network == network);
        line.map_or(0, |line| line.tickets.len())
    }

    fn push(&mut self, network: Network) -> Asked {
        let number = self.next_number;
        self.next_number += 1;
        let (sender, called) = oneshot::channel();
        let ticket = Ticket { number, called: sender };
        match self.lines.iter_mut().find(|line| line.network == network) {
            Some(line) => line.tickets.push_back(ticket),
            None => self.lines.push_back(Line {
                network,
                tickets: VecDeque::from([ticket]),
            }),
        }
        self.waiting += 1;
        Asked::Waiting { number, called }
    }

    /// The last of the longest line, if one more of a line of `own` is still fewer.
    fn take_last_of_longest(&mut self, own: usize) -> Option<Ticket> {
        let longest = self.lines.iter_mut().max_by_key(|line| line.tickets.len())?;
        if longest.tickets.len() <= own + 1 {
            return None;
        }
        self.waiting -= 1;
        longest.tickets.pop_back()
    }

    /// Whoever's turn it is; without anybody, the place is free.
    fn take_next(&mut self) -> Option<Ticket> {
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

    fn remove(&mut self, network: Network, number: u64) {
        let Some(at) = self.lines.iter().position(|line| line.network == network) else {
            return;
        };
        let Some(line) = self.lines.get_mut(at) else { return };
        let before = line.tickets.len();
        line.tickets.retain(|ticket| ticket.number != number);
        self.waiting -= before - line.tickets.len();
        if line.tickets.is_empty() {
            self.lines.remove(at);
        }
    }
}

impl Drop for Place {
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
    shared: &'q Shared,
    network: Network,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.lock().remove(self.network, self.number);
    }
}

#[cfg(test)]
mod tests;
