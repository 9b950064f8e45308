//! What the connections of one worker share.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::counters::WorkerCounters;
use super::date::DateCell;
use super::drain::DrainSignal;
use super::service::Service;
use crate::snapshot::Limits;

/// Most connections of one worker that are read for up to 30 seconds after their last answer. Each may cost 64 MiB of
/// reading. Honest clients do not cause so many refused uploads at a time, and an attacker gains little by them. Further
/// connections end after a second, and their clients may lose the answer.
const MAX_LINGERING: usize = 64;

/// One worker's service, limits, figures and signals.
pub(super) struct Context<S> {
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) drain: Rc<DrainSignal>,
    pub(super) date: DateCell,
    in_flight: Rc<Cell<usize>>,
    max_in_flight: usize,
    lingering: Rc<Cell<usize>>,
    sequence: Cell<u32>,
}

impl<S> Context<S> {
    /// `share` is this worker's part of the requests in flight.
    pub(super) fn new(service: S, limits: Limits, counters: Arc<WorkerCounters>, share: usize) -> Self {
        Self {
            service,
            limits,
            counters,
            drain: Rc::default(),
            date: DateCell::new(),
            in_flight: Rc::default(),
            max_in_flight: share,
            lingering: Rc::default(),
            sequence: Cell::new(0),
        }
    }

    /// A place among the requests in flight, if there is one left or `relieve` says that one is given up.
    fn admit(&self, relieve: impl FnOnce() -> bool) -> Option<InFlight> {
        if self.in_flight.get() >= self.max_in_flight && !relieve() {
            self.counters.overloaded.add_one();
            return None;
        }
        self.in_flight.set(self.in_flight.get() + 1);
        Some(InFlight(Some(Rc::clone(&self.in_flight))))
    }

    /// Takes one of the [`MAX_LINGERING`] places; `None` if all are taken.
    pub(super) fn linger(&self) -> Option<Lingering> {
        let others = self.lingering.get();
        if others >= MAX_LINGERING {
            return None;
        }
        self.lingering.set(others + 1);
        Some(Lingering(Rc::clone(&self.lingering)))
    }

    /// Brings the date and the published figures up to date.
    pub(super) fn refresh(&self) {
        self.date.refresh();
        self.counters.in_flight.set(self.in_flight.get() as u64);
    }

    /// The age at which the next connection ends, and the idle time it is given, each spread by
    /// ±10 % so that connections made together do not all come back together.
    pub(super) fn spread_times(&self) -> (Duration, Duration) {
        let n = self.sequence.get();
        self.sequence.set(n.wrapping_add(1));
        (spread(self.limits.connection_age, n), spread(self.limits.keep_alive, n))
    }
}

/// `base` ± 10 %, evenly over successive `n`: multiples of the golden ratio fill an interval without clusters.
fn spread(base: Duration, n: u32) -> Duration {
    const GOLDEN: u32 = 0x9E37_79B9;
    let fraction = f64::from(n.wrapping_mul(GOLDEN)) / f64::from(u32::MAX);
    base.mul_f64(0.9 + 0.2 * fraction)
}

impl<S: Service> Context<S> {
    /// A place among the requests in flight: one that is left, or that of a request whose client takes nothing.
    pub(super) fn place(&self) -> Option<InFlight> {
        self.admit(|| self.service.relieve())
    }
}

/// A request in flight; leaves when dropped.
pub(super) struct InFlight(Option<Rc<Cell<usize>>>);

impl InFlight {
    /// Leaves now.
    pub(super) fn leave(&mut self) {
        if let Some(in_flight) = self.0.take() {
            in_flight.set(in_flight.get().saturating_sub(1));
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One of the [`MAX_LINGERING`] places; given back when dropped.
pub(super) struct Lingering(Rc<Cell<usize>>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_requests_are_admitted_than_the_share_until_one_leaves() {
        let context = Context::new((), Limits::default(), Arc::default(), 2);
        let admit = || context.admit(|| false);
        let (first, _second) = (admit(), admit());
        assert!(first.is_some() && admit().is_none());
        drop(first);
        assert!(admit().is_some());
        assert_eq!(context.counters.overloaded.read(), 1);
    }

    #[test]
    fn a_request_that_makes_room_lets_another_in() {
        let context = Context::new((), Limits::default(), Arc::default(), 1);
        let mut stalled = context.admit(|| false);
        let _other = context.admit(|| true).expect("the place that is given up");
        assert!(context.admit(|| false).is_none());
        if let Some(stalled) = &mut stalled {
            stalled.leave();
        }
        drop(stalled);
        assert_eq!(context.in_flight.get(), 1, "left once");
    }

    #[test]
    fn so_many_linger_for_long_and_no_more() {
        let context = Context::new((), Limits::default(), Arc::default(), 1);
        let mut all: Vec<_> = (0..MAX_LINGERING).map(|_| context.linger().expect("a place")).collect();
        assert!(context.linger().is_none());
        all.pop();
        assert!(context.linger().is_some());
    }

    #[test]
    fn times_are_spread_by_a_tenth_and_not_all_alike() {
        let base = Duration::from_secs(100);
        let times: Vec<_> = (0..100).map(|n| spread(base, n)).collect();
        assert!(times.iter().all(|t| (90..=110).contains(&t.as_secs())));
        let early = times.iter().filter(|t| **t < base).count();
        assert!((40..=60).contains(&early), "{early}");
    }
}
