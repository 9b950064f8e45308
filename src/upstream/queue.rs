//! Requests that wait for a connection: in the order of their arrival, but later by as many as their address
//! has already, and not before their caller holds less than it may.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::holders::{Caller, Over};

/// Requests of one worker that may wait for a connection of one upstream; the next is refused at
/// once. More than this is not served within the connect deadline by any upstream worth waiting for.
const MAX_WAITING: usize = 1_024;

/// Of these, so many whose caller holds all that it may: it must not fill the queue for others.
const MAX_OVER: usize = MAX_WAITING / 2;

/// Who waits.
#[derive(Default)]
pub(super) struct Queue {
    /// By rank.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// How many were called so far.
    calls: Cell<u64>,
    /// Whether one of them was told to try and has not yet tried.
    called: Cell<bool>,
}

struct Waiter {
    caller: Option<Caller>,
    /// After how many calls it is this one's turn: those before it came, and as many as its address holds and
    /// waits for. So whoever has nothing is served before whoever has much, and nobody waits for ever.
    rank: u64,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Whether somebody who waits was told to try and has not yet tried: it comes first.
    pub(super) const fn has_called(&self) -> bool {
        self.called.get()
    }

    /// Waits for a caller whose address holds so many; `None` if too many wait.
    pub(super) fn join(&self, caller: Option<Caller>, held: usize, over: Option<Over>) -> Option<Waiting<'_>> {
        let mut waiting = self.waiting.borrow_mut();
        let most = if over.is_some() { MAX_OVER } else { MAX_WAITING };
        if waiting.len() >= most {
            return None;
        }
        let waits_too = |other: &&Rc<Waiter>| other.caller.zip(caller).is_some_and(|(a, b)| a.is_of_address(b));
        let has = held + waiting.iter().filter(waits_too).count();
        let rank = self.calls.get().saturating_add(has as u64);
        let place = waiting.partition_point(|other| other.rank <= rank);
        let waiter = Rc::new(Waiter {
            caller,
            rank,
            called: Cell::new(false),
            waker: RefCell::default(),
        });
        waiting.insert(place, Rc::clone(&waiter));
        Some(Waiting { queue: self, waiter })
    }

    /// Tells the first for whose caller there is room to try. One at a time: it calls the next when it has
    /// what it wanted.
    pub(super) fn call(&self, has_room: impl Fn(Option<Caller>) -> bool) {
        if self.called.get() {
            return;
        }
        let waiting = self.waiting.borrow();
        let next = waiting.iter().find(|waiter| has_room(waiter.caller));
        if let Some(waiter) = next {
            self.called.set(true);
            self.calls.set(self.calls.get().wrapping_add(1));
            waiter.called.set(true);
            if let Some(waker) = waiter.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// A place in the queue; left when dropped.
pub(super) struct Waiting<'q> {
    queue: &'q Queue,
    waiter: Rc<Waiter>,
}

impl Waiting<'_> {
    /// Ready when it is this one's turn to try.
    pub(super) async fn called(&self) {
        poll_fn(|cx| {
            if self.waiter.called.get() {
                return Poll::Ready(());
            }
            *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// It has tried; whether it had been told to.
    pub(super) fn answer_call(&self) -> bool {
        let called = self.waiter.called.replace(false);
        if called {
            self.queue.called.set(false);
        }
        called
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.answer_call();
        self.queue.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiter));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn caller(last: u8) -> Caller {
        Caller::at(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_first_for_whom_there_is_room_is_called_and_then_the_next() {
        let queue = Queue::default();
        let greedy = queue.join(Some(caller(1)), 0, Some(Over::Address)).unwrap();
        let first = queue.join(Some(caller(2)), 0, None).unwrap();
        let second = queue.join(Some(caller(3)), 0, None).unwrap();
        let has_room = |who: Option<Caller>| who != Some(caller(1));
        queue.call(has_room);
        queue.call(has_room);
        assert!(first.waiter.called.get() && !second.waiter.called.get(), "one at a time");
        drop(first);
        assert!(!queue.has_called(), "who leaves does not hold the others up");
        queue.call(has_room);
        assert!(second.answer_call() && !greedy.answer_call());
        drop((second, greedy));
        assert!(queue.is_empty());
    }

    #[test]
    fn who_has_much_comes_later_by_as_many_and_not_for_ever() {
        let queue = Queue::default();
        let order = |kept: &[&Waiting<'_>]| {
            let waiting = queue.waiting.borrow();
            let at = |one: &&Waiting<'_>| waiting.iter().position(|other| Rc::ptr_eq(other, &one.waiter)).unwrap();
            kept.iter().map(at).collect::<Vec<_>>()
        };
        let rich = queue.join(Some(caller(1)), 2, None).unwrap();
        let richer = queue.join(Some(caller(1)), 2, None).unwrap();
        let poor = queue.join(Some(caller(2)), 0, None).unwrap();
        assert_eq!(order(&[&poor, &rich, &richer]), [0, 1, 2]);
        let more: Vec<_> = (0..4)
            .map(|n| {
                queue.call(|_| true);
                let called = queue.waiting.borrow()[0].called.replace(false);
                assert!(called);
                queue.called.set(false);
                queue.join(Some(caller(10 + n)), 0, None).unwrap()
            })
            .collect();
        assert_eq!(order(&[&rich]), [2], "after those with nothing who came within two calls");
        assert_eq!(order(&[&more[3]]), [6], "and not after all of them");
    }

    #[test]
    fn who_holds_all_it_may_cannot_fill_the_queue() {
        let queue = Queue::default();
        let mut kept: Vec<_> = (0..MAX_OVER)
            .map(|_| queue.join(Some(caller(1)), 0, Some(Over::Address)).unwrap())
            .collect();
        assert!(queue.join(Some(caller(1)), 0, Some(Over::Address)).is_none());
        kept.extend((MAX_OVER..MAX_WAITING).map(|_| queue.join(Some(caller(2)), 0, None).unwrap()));
        assert!(queue.join(Some(caller(2)), 0, None).is_none());
    }
}
