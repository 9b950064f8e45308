//! One timer for a whole connection, re-armed only when it has to ring earlier or rang too early.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::Sleep;

/// A deadline that moves with every request. Moving it later costs nothing: the timer rings at the
/// old time and is wound again then. So a busy keep-alive connection touches the timer wheel about
/// once in its idle time rather than several times in each request.
///
/// Several deadlines may be waited for in one poll: the timer is always set to the earliest that
/// was asked for since it last rang.
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// First set to `at`. Must be made inside a runtime.
    pub(super) fn new(at: Instant) -> Self {
        Self(Box::pin(tokio::time::sleep_until(at.into())))
    }

    /// Ready when `deadline` has passed; else wakes the task no later than that.
    pub(super) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        loop {
            if self.0.deadline() > deadline {
                self.0.as_mut().reset(deadline);
            }
            ready!(self.0.as_mut().poll(cx));
            if self.0.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::base::clock;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_deadline_that_moved_earlier_rings_at_its_new_time() {
        let mut alarm = Alarm::new(clock::instant() + LONG);
        let deadline = clock::instant() + SHORT;
        poll_fn(|cx| alarm.poll_until(cx, deadline)).await;
        assert!(clock::instant() >= deadline);
    }

    #[tokio::test]
    async fn a_deadline_that_moved_later_does_not_ring_at_its_old_time() {
        let mut alarm = Alarm::new(clock::instant() + SHORT);
        let deadline = clock::instant() + SHORT * 4;
        poll_fn(|cx| alarm.poll_until(cx, deadline)).await;
        assert!(clock::instant() >= deadline);
    }

    #[tokio::test]
    async fn of_two_deadlines_the_earlier_one_wakes() {
        let mut alarm = Alarm::new(clock::instant() + LONG);
        let (late, early) = (clock::instant() + LONG, clock::instant() + SHORT);
        let first = poll_fn(|cx| {
            if alarm.poll_until(cx, late).is_ready() {
                return Poll::Ready("late");
            }
            alarm.poll_until(cx, early).map(|()| "early")
        });
        assert_eq!(first.await, "early");
    }
}
