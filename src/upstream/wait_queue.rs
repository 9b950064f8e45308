//! Requests that wait for a connection. They go in the order of arrival, but later by as many places as their address
//! already has, and not before their caller is below its quota.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::quota::{ExceededQuota, QuotaKey};

/// How many requests of one worker may wait for a connection of one upstream. The next is refused at once. More could
/// not be served within the connect deadline by any upstream worth waiting for.
const MAX_WAITING: usize = 1_024;

/// How many of these may belong to callers that have used up their quota, so that such callers cannot fill the queue
/// for others.
const MAX_OVER: usize = MAX_WAITING / 2;

#[derive(Default)]
pub(super) struct WaitQueue {
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// How many entries were notified so far.
    notified_count: Cell<u64>,
    /// Whether an entry was notified and has not yet tried.
    notified: Cell<bool>,
}

struct Waiter {
    key: Option<QuotaKey>,
    /// After how many notifications it is this entry's turn: those of the entries before it, and as many as its address
    /// has connections and entries. So a caller with nothing is served before one with much, and no caller waits for
    /// ever.
    rank: u64,
    notified: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl WaitQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.borrow().is_empty()
    }

    /// Whether an entry was notified and has not yet tried. It comes first.
    pub(super) const fn has_notified(&self) -> bool {
        self.notified.get()
    }

    /// Joins the queue for a caller whose address holds this many connections. `None` if too many requests wait.
    pub(super) fn join(&self, key: Option<QuotaKey>, held: usize, exceeded: Option<ExceededQuota>) -> Option<QueueEntry<'_>> {
        let mut waiters = self.waiters.borrow_mut();
        let most = if exceeded.is_some() { MAX_OVER } else { MAX_WAITING };
        if waiters.len() >= most {
            return None;
        }
        let waits_too = |other: &&Rc<Waiter>| other.key.zip(key).is_some_and(|(a, b)| a.is_of_address(b));
        let has = held + waiters.iter().filter(waits_too).count();
        let rank = self.notified_count.get().saturating_add(has as u64);
        let place = waiters.partition_point(|other| other.rank <= rank);
        let waiter = Rc::new(Waiter {
            key,
            rank,
            notified: Cell::new(false),
            waker: RefCell::default(),
        });
        waiters.insert(place, Rc::clone(&waiter));
        Some(QueueEntry { wait_queue: self, waiter })
    }

    /// Notifies the first entry for whose caller there is room. Only one at a time: it notifies the next one when it
    /// has got its connection.
    pub(super) fn notify_first(&self, has_room: impl Fn(Option<QuotaKey>) -> bool) {
        if self.notified.get() {
            return;
        }
        let waiters = self.waiters.borrow();
        let next = waiters.iter().find(|waiter| has_room(waiter.key));
        if let Some(waiter) = next {
            self.notified.set(true);
            self.notified_count.set(self.notified_count.get().wrapping_add(1));
            waiter.notified.set(true);
            if let Some(waker) = waiter.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// A place in the queue. Dropping it leaves the queue.
pub(super) struct QueueEntry<'q> {
    wait_queue: &'q WaitQueue,
    waiter: Rc<Waiter>,
}

impl QueueEntry<'_> {
    /// Ready when the entry was notified.
    pub(super) async fn notified(&self) {
        poll_fn(|cx| {
            if self.waiter.notified.get() {
                return Poll::Ready(());
            }
            *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The entry has tried. Returns whether it had been notified.
    pub(super) fn acknowledge(&self) -> bool {
        let notified = self.waiter.notified.replace(false);
        if notified {
            self.wait_queue.notified.set(false);
        }
        notified
    }
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        self.acknowledge();
        self.wait_queue
            .waiters
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &self.waiter));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn key(last: u8) -> QuotaKey {
        QuotaKey::at(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_first_for_whom_there_is_room_is_called_and_then_the_next() {
        let wait_queue = WaitQueue::default();
        let greedy = wait_queue.join(Some(key(1)), 0, Some(ExceededQuota::Address)).unwrap();
        let first = wait_queue.join(Some(key(2)), 0, None).unwrap();
        let second = wait_queue.join(Some(key(3)), 0, None).unwrap();
        let has_room = |who: Option<QuotaKey>| who != Some(key(1));
        wait_queue.notify_first(has_room);
        wait_queue.notify_first(has_room);
        assert!(first.waiter.notified.get() && !second.waiter.notified.get(), "one at a time");
        drop(first);
        assert!(!wait_queue.has_notified(), "who leaves does not hold the others up");
        wait_queue.notify_first(has_room);
        assert!(second.acknowledge() && !greedy.acknowledge());
        drop((second, greedy));
        assert!(wait_queue.is_empty());
    }

    #[test]
    fn who_has_much_comes_later_by_as_many_and_not_for_ever() {
        let wait_queue = WaitQueue::default();
        let order = |kept: &[&QueueEntry<'_>]| {
            let waiters = wait_queue.waiters.borrow();
            let at = |one: &&QueueEntry<'_>| waiters.iter().position(|other| Rc::ptr_eq(other, &one.waiter)).unwrap();
            kept.iter().map(at).collect::<Vec<_>>()
        };
        let rich = wait_queue.join(Some(key(1)), 2, None).unwrap();
        let richer = wait_queue.join(Some(key(1)), 2, None).unwrap();
        let poor = wait_queue.join(Some(key(2)), 0, None).unwrap();
        assert_eq!(order(&[&poor, &rich, &richer]), [0, 1, 2]);
        let more: Vec<_> = (0..4)
            .map(|n| {
                wait_queue.notify_first(|_| true);
                let notified = wait_queue.waiters.borrow()[0].notified.replace(false);
                assert!(notified);
                wait_queue.notified.set(false);
                wait_queue.join(Some(key(10 + n)), 0, None).unwrap()
            })
            .collect();
        assert_eq!(order(&[&rich]), [2], "after those with nothing who came within two calls");
        assert_eq!(order(&[&more[3]]), [6], "and not after all of them");
    }

    #[test]
    fn who_holds_all_it_may_cannot_fill_the_queue() {
        let wait_queue = WaitQueue::default();
        let mut kept: Vec<_> = (0..MAX_OVER)
            .map(|_| wait_queue.join(Some(key(1)), 0, Some(ExceededQuota::Address)).unwrap())
            .collect();
        assert!(wait_queue.join(Some(key(1)), 0, Some(ExceededQuota::Address)).is_none());
        kept.extend((MAX_OVER..MAX_WAITING).map(|_| wait_queue.join(Some(key(2)), 0, None).unwrap()));
        assert!(wait_queue.join(Some(key(2)), 0, None).is_none());
    }
}
