//! Requests that wait for a connection. Addresses are served in turn (weighted fair queueing with equal weights), and no request
//! before its caller is below its quota.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
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

/// One turn of an address, in the unit of [`WaitQueue::virtual_time`]. It is divided by the number of addresses that wait, and is far
/// more than that number can be.
const TURN: u64 = 1 << 20;

#[derive(Default)]
pub(super) struct WaitQueue {
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// How many entries each address has.
    addresses: RefCell<HashMap<Option<u64>, usize>>,
    /// The turns that an address which has always waited would have had. Each notification is a turn of one of the addresses
    /// that wait, so it adds a turn divided by their number.
    virtual_time: Cell<u64>,
    /// Whether an entry was notified and has not yet tried.
    notified: Cell<bool>,
}

struct Waiter {
    key: Option<QuotaKey>,
    /// The virtual time of its turn: later than now by as many turns as its address has connections and entries. So a caller
    /// with nothing is served before one with much, however long that one has waited and however many were served before, and no
    /// caller waits for ever.
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
        let mut addresses = self.addresses.borrow_mut();
        let waiting = addresses.entry(key.map(QuotaKey::network)).or_default();
        let has = u64::try_from(held + *waiting).unwrap_or(u64::MAX);
        *waiting += 1;
        let rank = self.virtual_time.get().saturating_add(has.saturating_mul(TURN));
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
            let addresses = self.addresses.borrow().len().max(1);
            let share = TURN / u64::try_from(addresses).unwrap_or(TURN);
            self.virtual_time.set(self.virtual_time.get().saturating_add(share));
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
        let mut addresses = self.wait_queue.addresses.borrow_mut();
        if let Entry::Occupied(mut waiting) = addresses.entry(self.waiter.key.map(QuotaKey::network)) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
        drop(addresses);
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
        assert!(wait_queue.is_empty() && wait_queue.addresses.borrow().is_empty());
    }

    /// Serves the first entry for `times` turns and puts an entry of the same address in its place.
    fn serve_in_turn<'q>(wait_queue: &'q WaitQueue, kept: &mut Vec<QueueEntry<'q>>, times: usize) {
        for _ in 0..times {
            wait_queue.notify_first(|_| true);
            let at = kept.iter().position(|entry| entry.waiter.notified.get()).unwrap();
            let served = kept.swap_remove(at);
            let key = served.waiter.key;
            drop(served);
            kept.push(wait_queue.join(key, 0, None).unwrap());
        }
    }

    fn place(wait_queue: &WaitQueue, entry: &QueueEntry<'_>) -> usize {
        let waiters = wait_queue.waiters.borrow();
        waiters.iter().position(|other| Rc::ptr_eq(other, &entry.waiter)).unwrap()
    }

    #[test]
    fn who_has_much_comes_later_by_as_many_turns() {
        let wait_queue = WaitQueue::default();
        let rich = wait_queue.join(Some(key(1)), 2, None).unwrap();
        let richer = wait_queue.join(Some(key(1)), 2, None).unwrap();
        let poor = wait_queue.join(Some(key(2)), 0, None).unwrap();
        let order = [&poor, &rich, &richer].map(|entry| place(&wait_queue, entry));
        assert_eq!(order, [0, 1, 2]);
    }

    #[test]
    fn who_comes_with_nothing_is_next_however_many_were_served_before() {
        let wait_queue = WaitQueue::default();
        let join = |last: u8| wait_queue.join(Some(key(last)), 0, None).unwrap();
        let mut kept: Vec<_> = (0..20).flat_map(|_| 1..=6).map(join).collect();
        for served in [0, 1, 7, 60, 500] {
            serve_in_turn(&wait_queue, &mut kept, served);
            let new = join(7);
            assert!(
                place(&wait_queue, &new) <= 6,
                "after one turn of each address at most: {served} served"
            );
        }
    }

    #[test]
    fn who_has_much_is_served_although_others_keep_coming_with_nothing() {
        let wait_queue = WaitQueue::default();
        let rich = wait_queue.join(Some(key(1)), 4, None).unwrap();
        let mut kept = vec![wait_queue.join(Some(key(2)), 0, None).unwrap()];
        let mut turns = 0;
        while !rich.waiter.notified.get() {
            wait_queue.notify_first(|_| true);
            turns += 1;
            assert!(turns < 20, "at two addresses that wait, after eight turns");
            if let Some(at) = kept.iter().position(|entry| entry.waiter.notified.get()) {
                drop(kept.swap_remove(at));
                // Another address each time.
                kept.push(wait_queue.join(Some(key(10 + turns)), 0, None).unwrap());
            }
        }
        assert!(turns >= 8, "not before its turns: {turns}");
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
