//! How long a client may keep us waiting, for its request body or to take its answer: a slow one must not
//! hold a connection, a stream or an upstream for ever.

use std::time::{Duration, Instant};

use crate::snapshot::Limits;

/// A body may be as slow as it likes for this long in all: a mobile client that changes networks
/// needs a few seconds, and a small body is over before.
const GRACE: Duration = Duration::from_secs(10);

/// Counts only time spent waiting for the client: a slow upstream is not the client's fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    idle: Duration,
    rate: u64,
    /// Bytes that came from the client, or that it was given.
    received: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Patience {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            idle: limits.body_idle,
            rate: limits.body_rate,
            received: 0,
            waited: Duration::ZERO,
            since: None,
        }
    }

    /// With a client that takes an answer, and may take nothing for as long as `idle`.
    pub(super) const fn of_answer(limits: &Limits, idle: Duration) -> Self {
        Self {
            idle,
            rate: limits.answer_rate,
            received: 0,
            waited: Duration::ZERO,
            since: None,
        }
    }

    /// With somebody whose rate does not matter.
    pub(super) const fn of_idle(idle: Duration) -> Self {
        Self {
            idle,
            rate: 0,
            received: 0,
            waited: Duration::ZERO,
            since: None,
        }
    }

    /// Since when it has been waited for.
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether a wait that became too long was one in which nothing at all came for the idle time.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= self.idle)
    }

    /// When a wait that goes on at `now` becomes too long: after standing still for the idle time,
    /// or when all waits together exceed what the least rate allows for the bytes received so far.
    pub(super) fn deadline(&mut self, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        let earned = Duration::from_millis(self.received.saturating_mul(1_000).checked_div(self.rate).unwrap_or(u64::MAX / 2));
        let budget = GRACE.saturating_add(earned).saturating_sub(self.waited);
        since + budget.min(self.idle)
    }

    /// Ends the wait: this many bytes came, or were taken.
    pub(super) fn receive(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.received = self.received.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(now().saturating_duration_since(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    fn patience() -> Patience {
        Patience::new(&Limits::default())
    }

    #[test]
    fn a_body_may_stand_still_for_the_idle_time_and_no_longer() {
        let (mut p, t) = (patience(), clock::instant());
        p.receive(1 << 20, || t);
        assert_eq!(p.deadline(t), t + Duration::from_secs(30));
        assert_eq!(
            p.deadline(t + Duration::from_secs(5)),
            t + Duration::from_secs(30),
            "the wait goes on"
        );
        p.receive(1, || t + Duration::from_secs(5));
        let later = t + Duration::from_secs(6);
        assert_eq!(p.deadline(later), later + Duration::from_secs(30), "a new wait");
    }

    #[test]
    fn a_trickle_is_cut_off_when_its_grace_is_used_up() {
        let (mut p, mut t) = (patience(), clock::instant());
        let start = t;
        while p.deadline(t) > t + Duration::from_secs(1) {
            t += Duration::from_secs(1);
            p.receive(1, || t);
            assert!(t < start + Duration::from_secs(12), "one byte a second went on");
        }
        assert!(t >= start + Duration::from_secs(9));
    }

    #[test]
    fn a_body_at_twice_the_least_rate_is_not_cut_off() {
        let (mut p, mut t) = (patience(), clock::instant());
        for _ in 0..3_600 {
            assert!(p.deadline(t) > t + Duration::from_secs(1));
            t += Duration::from_secs(1);
            p.receive(2_048, || t);
        }
    }

    #[test]
    fn time_the_upstream_needs_is_not_the_clients() {
        let (mut p, t) = (patience(), clock::instant());
        p.receive(1, || t + Duration::from_secs(1_000));
        assert_eq!(p.deadline(t + Duration::from_secs(1_000)), t + Duration::from_secs(1_010));
    }
}
