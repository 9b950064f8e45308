//! Lets the other tasks that are ready in a worker go first, so that the worker's writes leave together.

use std::cell::Cell;
use std::task::{Context, Poll};

/// Yields once: its task goes behind all tasks that are ready now.
///
/// Each write wakes its reader, and waking a processor that has just gone to sleep costs more than the write, most of
/// all through a hypervisor. A busy worker first reads and decides everything that has arrived and then writes one
/// after the other: the first write wakes the reader, which is awake for the others. A worker that is not busy loses a
/// tenth of a microsecond. Nothing is waited for.
#[derive(Debug, Default)]
pub struct YieldOnce {
    yielded: bool,
}

impl YieldOnce {
    /// Pending the first time, with the task already woken. Ready from then on.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        YIELDED.set(true);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

thread_local! {
    /// Whether the current or the last poll yielded.
    static YIELDED: Cell<bool> = const { Cell::new(false) };
}

/// Polls, and says whether the polled future yielded. It is then polled again at once, so its caller need not wait for
/// anything else meanwhile.
pub fn poll_noting_yield<T>(poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, bool) {
    YIELDED.set(false);
    (poll(), YIELDED.get())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn who_polls_is_told_apart_who_stands_aside_and_who_waits() {
        let (mut yield_once, cx) = (YieldOnce::default(), Context::from_waker(std::task::Waker::noop()));
        assert_eq!(poll_noting_yield(|| yield_once.poll(&cx)), (Poll::Pending, true));
        assert_eq!(poll_noting_yield(|| yield_once.poll(&cx)), (Poll::Ready(()), false));
        assert_eq!(poll_noting_yield(|| Poll::<()>::Pending), (Poll::Pending, false));
    }

    #[tokio::test]
    async fn all_that_are_ready_have_read_before_one_of_them_writes() {
        let said = RefCell::new(Vec::new());
        let exchange = async |who: &'static str| {
            said.borrow_mut().push(("reads", who));
            let mut yield_once = YieldOnce::default();
            poll_fn(|cx| yield_once.poll(cx)).await;
            said.borrow_mut().push(("writes", who));
            // Once only: a message that goes on is not held up again.
            poll_fn(|cx| yield_once.poll(cx)).await;
            said.borrow_mut().push(("goes on", who));
        };
        tokio::join!(biased; exchange("a"), exchange("b"));
        let expected = [
            ("reads", "a"),
            ("reads", "b"),
            ("writes", "a"),
            ("goes on", "a"),
            ("writes", "b"),
            ("goes on", "b"),
        ];
        assert_eq!(*said.borrow(), expected);
    }
}
