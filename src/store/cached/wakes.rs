//! Wakes of tasks on a worker, gathered. To wake a task of another thread's runtime writes to a descriptor each time, even if that
//! thread is awake. Answers of the store come many at once, so each worker has one task that is woken from outside and wakes the
//! others.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;

thread_local! {
    static OWN: RefCell<Option<Arc<WorkerWakes>>> = const { RefCell::new(None) };
}

/// What is to be woken on one worker.
#[derive(Default)]
pub struct WorkerWakes {
    due: Mutex<Vec<Waker>>,
    /// Wakes the task that wakes the others.
    task: AtomicWaker,
}

impl WorkerWakes {
    /// Gathers the wakes of tasks that wait on this thread from now on. Its task ends with the runtime.
    ///
    /// # Panics
    /// Outside a runtime of one thread, as `spawn_local` does.
    pub fn start() {
        let own = Arc::new(Self::default());
        OWN.set(Some(Arc::clone(&own)));
        tokio::task::spawn_local(async move {
            poll_fn(|cx| {
                // Before the list is read: what is added afterwards wakes this task again.
                own.task.register(cx.waker());
                let due = std::mem::take(&mut *own.due.lock().unwrap_or_else(PoisonError::into_inner));
                due.into_iter().for_each(Waker::wake);
                Poll::<()>::Pending
            })
            .await;
        });
    }

    /// That of this thread; `None` where nobody has started it.
    pub(super) fn of_this_thread() -> Option<Arc<Self>> {
        OWN.with_borrow(Option::clone)
    }
}

/// Wakes that are due. What waits on a worker is woken when this is dropped, anything else at once.
#[derive(Default)]
pub(super) struct WakeBatch {
    workers: Vec<Arc<WorkerWakes>>,
}

impl WakeBatch {
    pub(super) fn add(&mut self, waker: Waker, worker: Option<Arc<WorkerWakes>>) {
        let Some(worker) = worker else {
            return waker.wake();
        };
        worker.due.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
        if !self.workers.iter().any(|known| Arc::ptr_eq(known, &worker)) {
            self.workers.push(worker);
        }
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::runtime::{Builder, LocalOptions};

    use super::super::pending;
    use super::*;

    #[test]
    fn all_that_wait_on_a_worker_are_woken_together_and_in_order() {
        let (given, waiting): (Vec<_>, Vec<_>) = (0..5).map(|_| pending::channel::<usize>()).unzip();
        let (ready, begun) = std::sync::mpsc::channel();
        let worker = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
            runtime.block_on(async {
                WorkerWakes::start();
                let order = std::rc::Rc::new(RefCell::new(Vec::new()));
                let tasks: Vec<_> = waiting
                    .into_iter()
                    .map(|waiting| {
                        let order = std::rc::Rc::clone(&order);
                        tokio::task::spawn_local(async move {
                            let answer = waiting.answer().await.unwrap();
                            order.borrow_mut().push(answer);
                        })
                    })
                    .collect();
                // All of them have been polled once when this task runs again.
                tokio::task::yield_now().await;
                ready.send(()).unwrap();
                for task in tasks {
                    task.await.unwrap();
                }
                order.take()
            })
        });
        begun.recv().unwrap();
        let mut wakes = WakeBatch::default();
        for (number, given) in given.into_iter().enumerate() {
            given.give(number, &mut wakes);
        }
        assert_eq!(wakes.workers.len(), 1);
        assert_eq!(wakes.workers[0].due.lock().unwrap().len(), 5);
        drop(wakes);
        assert_eq!(worker.join().unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn without_a_worker_a_wake_waits_for_nothing() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert!(WorkerWakes::of_this_thread().is_none());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut wakes = WakeBatch::default();
        wakes.add(Arc::clone(&count).into(), None);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
