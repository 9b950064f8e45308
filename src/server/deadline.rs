//! Deadlines of a connection: one timer for all of them, and how long a peer may keep the gateway waiting for a body.
//!
//! A slow client must not hold a connection, a stream or an upstream for ever.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::snapshot::Limits;

/// Within this time in all, a body may be as slow as it likes. A mobile client that changes networks needs a few
/// seconds, and a small body is complete before.
const GRACE: Duration = Duration::from_secs(10);

/// Bounds the time for which a peer lets the gateway wait. Only waits for the peer count: a slow upstream is not the
/// fault of the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransferTimeout {
    idle: Duration,
    rate: u64,
    /// Bytes that the peer sent, or that it was sent.
    transferred: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl TransferTimeout {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            idle: limits.body_idle,
            rate: limits.body_rate,
            transferred: 0,
            waited: Duration::ZERO,
            waiting_since: None,
        }
    }

    /// For a client that reads a response. It may read nothing for at most `idle`.
    pub(super) const fn for_response(limits: &Limits, idle: Duration) -> Self {
        Self {
            idle,
            rate: limits.answer_rate,
            transferred: 0,
            waited: Duration::ZERO,
            waiting_since: None,
        }
    }

    /// For a peer that may be as slow as it likes as long as it is never idle for this long.
    pub(super) const fn idle_only(idle: Duration) -> Self {
        Self {
            idle,
            rate: 0,
            transferred: 0,
            waited: Duration::ZERO,
            waiting_since: None,
        }
    }

    /// Since when the gateway has been waiting for the peer.
    pub(super) const fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Whether a wait that became too long was one without a single byte for the whole idle time.
    pub(super) fn is_fully_idle(&self, now: Instant) -> bool {
        self.waiting_since
            .is_some_and(|waiting_since| now.saturating_duration_since(waiting_since) >= self.idle)
    }

    /// When a wait that goes on at `now` becomes too long: after the idle time, or when all waits together exceed the
    /// time that the least rate allows for the bytes transferred so far.
    pub(super) fn deadline(&mut self, now: Instant) -> Instant {
        let waiting_since = *self.waiting_since.get_or_insert(now);
        let earned = Duration::from_millis(
            self.transferred
                .saturating_mul(1_000)
                .checked_div(self.rate)
                .unwrap_or(u64::MAX / 2),
        );
        let budget = GRACE.saturating_add(earned).saturating_sub(self.waited);
        waiting_since + budget.min(self.idle)
    }

    /// Ends the wait: this many bytes were transferred.
    pub(super) fn note_transfer(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.transferred = self.transferred.saturating_add(bytes as u64);
        if let Some(waiting_since) = self.waiting_since.take() {
            self.waited = self.waited.saturating_add(now().saturating_duration_since(waiting_since));
        }
    }
}

/// One timer for the deadlines of a connection, which move with every request. Moving a deadline later costs nothing:
/// the timer fires at the old time and is set again then. So a busy keep-alive connection touches the timer wheel about
/// once in its idle time instead of several times in each request.
///
/// One poll may wait for several deadlines. The timer is always set to the earliest one that was asked for since it
/// last fired.
pub(super) struct DeadlineTimer(Pin<Box<Sleep>>);

impl DeadlineTimer {
    /// The timer is first set to `at`. It must be made inside a runtime.
    pub(super) fn new(at: Instant) -> Self {
        Self(Box::pin(tokio::time::sleep_until(at.into())))
    }

    /// Ready when `deadline` has passed. Otherwise the task is woken no later than that.
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

    use super::*;
    use crate::base::clock;

    fn timeout() -> TransferTimeout {
        TransferTimeout::new(&Limits::default())
    }

    #[test]
    fn a_body_may_stand_still_for_the_idle_time_and_no_longer() {
        let (mut p, t) = (timeout(), clock::instant());
        p.note_transfer(1 << 20, || t);
        assert_eq!(p.deadline(t), t + Duration::from_secs(30));
        assert_eq!(
            p.deadline(t + Duration::from_secs(5)),
            t + Duration::from_secs(30),
            "the wait goes on"
        );
        p.note_transfer(1, || t + Duration::from_secs(5));
        let later = t + Duration::from_secs(6);
        assert_eq!(p.deadline(later), later + Duration::from_secs(30), "a new wait");
    }

    #[test]
    fn a_trickle_is_cut_off_when_its_grace_is_used_up() {
        let (mut p, mut t) = (timeout(), clock::instant());
        let start = t;
        while p.deadline(t) > t + Duration::from_secs(1) {
            t += Duration::from_secs(1);
            p.note_transfer(1, || t);
            assert!(t < start + Duration::from_secs(12), "one byte a second went on");
        }
        assert!(t >= start + Duration::from_secs(9));
    }

    #[test]
    fn a_body_at_twice_the_least_rate_is_not_cut_off() {
        let (mut p, mut t) = (timeout(), clock::instant());
        for _ in 0..3_600 {
            assert!(p.deadline(t) > t + Duration::from_secs(1));
            t += Duration::from_secs(1);
            p.note_transfer(2_048, || t);
        }
    }

    #[test]
    fn time_the_upstream_needs_is_not_the_clients() {
        let (mut p, t) = (timeout(), clock::instant());
        p.note_transfer(1, || t + Duration::from_secs(1_000));
        assert_eq!(p.deadline(t + Duration::from_secs(1_000)), t + Duration::from_secs(1_010));
    }

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_deadline_that_moved_earlier_rings_at_its_new_time() {
        let mut timer = DeadlineTimer::new(clock::instant() + LONG);
        let deadline = clock::instant() + SHORT;
        poll_fn(|cx| timer.poll_until(cx, deadline)).await;
        assert!(clock::instant() >= deadline);
    }

    #[tokio::test]
    async fn a_deadline_that_moved_later_does_not_ring_at_its_old_time() {
        let mut timer = DeadlineTimer::new(clock::instant() + SHORT);
        let deadline = clock::instant() + SHORT * 4;
        poll_fn(|cx| timer.poll_until(cx, deadline)).await;
        assert!(clock::instant() >= deadline);
    }

    #[tokio::test]
    async fn of_two_deadlines_the_earlier_one_wakes() {
        let mut timer = DeadlineTimer::new(clock::instant() + LONG);
        let (late, early) = (clock::instant() + LONG, clock::instant() + SHORT);
        let first = poll_fn(|cx| {
            if timer.poll_until(cx, late).is_ready() {
                return Poll::Ready("late");
            }
            timer.poll_until(cx, early).map(|()| "early")
        });
        assert_eq!(first.await, "early");
    }
}
