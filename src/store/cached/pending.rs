//! An answer that is on its way, for which any number of tasks wait. It differs from [`watch`](crate::store::watch) in how tasks are
//! woken: together with those of other answers ([`WakeBatch`]).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::wakes::{WakeBatch, WorkerWakes};

/// Who gives the answer, and the first who waits for it.
pub(super) fn channel<T>() -> (PendingAnswer<T>, AnswerReceiver<T>) {
    let shared = Arc::new(Mutex::new(Shared {
        answer: None,
        is_given_up: false,
        waiting: Vec::new(),
        next: 0,
    }));
    (PendingAnswer(Arc::clone(&shared)), AnswerReceiver(shared))
}

struct Shared<T> {
    answer: Option<T>,
    is_given_up: bool,
    /// In the order of waiting.
    waiting: Vec<Waiting>,
    next: u64,
}

struct Waiting {
    number: u64,
    waker: Waker,
    worker: Option<Arc<WorkerWakes>>,
}

fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the answer, once. Dropped without that, it tells those who wait that there will be none.
pub(super) struct PendingAnswer<T>(Arc<Mutex<Shared<T>>>);

impl<T> PendingAnswer<T> {
    /// Gives the answer. Those who wait on workers are woken with `wakes`, in the order of waiting.
    pub(super) fn give(self, answer: T, wakes: &mut WakeBatch) {
        let mut shared = lock(&self.0);
        shared.answer = Some(answer);
        let waiting = std::mem::take(&mut shared.waiting);
        drop(shared);
        for Waiting { waker, worker, .. } in waiting {
            wakes.add(waker, worker);
        }
    }
}

impl<T> Drop for PendingAnswer<T> {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.is_given_up = true;
        let waiting = std::mem::take(&mut shared.waiting);
        drop(shared);
        waiting.into_iter().for_each(|waiting| waiting.waker.wake());
    }
}

/// The place where the answer arrives. Clones receive the same answer.
pub(super) struct AnswerReceiver<T>(Arc<Mutex<Shared<T>>>);

impl<T> Clone for AnswerReceiver<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> AnswerReceiver<T> {
    /// The answer; `None` when there will be none. Cancel-safe.
    pub(super) const fn answer(&self) -> AwaitedAnswer<'_, T> {
        AwaitedAnswer { of: self, number: None }
    }
}

/// The future of [`AnswerReceiver::answer`]. Dropping it takes the task off the list of those who wait.
pub(super) struct AwaitedAnswer<'a, T> {
    of: &'a AnswerReceiver<T>,
    /// Under which it is in the list of those who wait.
    number: Option<u64>,
}

impl<T: Clone> Future for AwaitedAnswer<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut shared = lock(&self.of.0);
        if shared.answer.is_some() || shared.is_given_up {
            return Poll::Ready(shared.answer.clone());
        }
        let number = self.number;
        match shared.waiting.iter_mut().find(|waiting| Some(waiting.number) == number) {
            Some(waiting) => waiting.waker.clone_from(cx.waker()),
            None => {
                let number = shared.next;
                shared.next += 1;
                shared.waiting.push(Waiting {
                    number,
                    waker: cx.waker().clone(),
                    worker: WorkerWakes::of_this_thread(),
                });
                drop(shared);
                self.number = Some(number);
            }
        }
        Poll::Pending
    }
}

impl<T> Drop for AwaitedAnswer<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            lock(&self.of.0).waiting.retain(|waiting| waiting.number != number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicBool);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Task {
        fn poll<T: Clone>(self: &Arc<Self>, answer: Pin<&mut AwaitedAnswer<'_, T>>) -> Poll<Option<T>> {
            answer.poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
        }

        fn is_woken(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn all_who_wait_get_it_and_whoever_comes_later() {
        let (given, receiver) = channel();
        let other = receiver.clone();
        let (mut first, mut second) = (pin!(receiver.answer()), pin!(other.answer()));
        let (one, two, moved) = (Arc::new(Task::default()), Arc::new(Task::default()), Arc::new(Task::default()));
        assert_eq!(one.poll(first.as_mut()), Poll::Pending);
        assert_eq!(two.poll(second.as_mut()), Poll::Pending);
        assert_eq!(moved.poll(second.as_mut()), Poll::Pending, "another task waits on");
        given.give(7, &mut WakeBatch::default());
        assert!(one.is_woken() && moved.is_woken() && !two.is_woken());
        assert_eq!(one.poll(first.as_mut()), Poll::Ready(Some(7)));
        assert_eq!(moved.poll(second.as_mut()), Poll::Ready(Some(7)));
        assert_eq!(one.poll(pin!(receiver.answer())), Poll::Ready(Some(7)));
    }

    #[test]
    fn who_waits_hears_that_there_will_be_none() {
        let (given, receiver) = channel::<u8>();
        let (task, mut waiting) = (Arc::new(Task::default()), pin!(receiver.answer()));
        assert_eq!(task.poll(waiting.as_mut()), Poll::Pending);
        drop(given);
        assert!(task.is_woken());
        assert_eq!(task.poll(waiting.as_mut()), Poll::Ready(None));
    }

    #[test]
    fn who_stops_waiting_is_forgotten() {
        let (given, receiver) = channel::<u8>();
        {
            let mut waiting = pin!(receiver.answer());
            assert_eq!(Arc::new(Task::default()).poll(waiting.as_mut()), Poll::Pending);
            assert_eq!(lock(&receiver.0).waiting.len(), 1);
        }
        assert_eq!(lock(&receiver.0).waiting.len(), 0);
        drop(given);
    }
}
