//! What the connections of one worker share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::counters::WorkerCounters;
use super::drain::DrainSignal;
use super::service::Service;
use super::spares::Spares;
use crate::base::clock::{Clock, SystemClock};
use crate::snapshot::Limits;

/// Most connections of one worker that are read for up to 30 seconds after their last response. Each may cost 64 MiB of
/// reading. Honest clients do not cause so many refused uploads at a time, and an attacker gains little by them.
/// Further connections end after a second, and their clients may lose the response.
const MAX_LINGERING: usize = 64;

/// The service, limits, counters and signals of one worker.
pub(super) struct WorkerContext<S> {
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) drain: Rc<DrainSignal>,
    pub(super) date: DateCell,
    pub(super) spares: Spares,
    in_flight: Rc<Cell<usize>>,
    max_in_flight: usize,
    lingering: Rc<Cell<usize>>,
    sequence: Cell<u32>,
}

impl<S> WorkerContext<S> {
    /// `share` is this worker's part of the requests in flight.
    pub(super) fn new(service: S, limits: Limits, counters: Arc<WorkerCounters>, share: usize) -> Self {
        Self {
            service,
            limits,
            counters,
            drain: Rc::default(),
            date: DateCell::new(),
            spares: Spares::default(),
            in_flight: Rc::default(),
            max_in_flight: share,
            lingering: Rc::default(),
            sequence: Cell::new(0),
        }
    }

    /// Takes a slot among the requests in flight, if one is free or `shed_stalled` says that a request gave up its
    /// slot.
    fn admit(&self, shed_stalled: impl FnOnce() -> bool) -> Option<InFlightSlot> {
        if self.in_flight.get() >= self.max_in_flight && !shed_stalled() {
            self.counters.overloaded.add_one();
            return None;
        }
        self.in_flight.set(self.in_flight.get() + 1);
        Some(InFlightSlot(Some(Rc::clone(&self.in_flight))))
    }

    /// Takes one of the [`MAX_LINGERING`] slots. `None` if all are taken.
    pub(super) fn acquire_linger_slot(&self) -> Option<LingerSlot> {
        let others = self.lingering.get();
        if others >= MAX_LINGERING {
            return None;
        }
        self.lingering.set(others + 1);
        Some(LingerSlot(Rc::clone(&self.lingering)))
    }

    /// Updates the date and the published counters.
    pub(super) fn refresh(&self) {
        self.date.refresh();
        self.counters.in_flight.set(self.in_flight.get() as u64);
    }

    /// The age at which the next connection ends, and its idle timeout. Both are spread by ±10 %, so that connections
    /// that were made together do not all come back together.
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

impl<S: Service> WorkerContext<S> {
    /// Takes a slot among the requests in flight: a free one, or that of a request whose client reads nothing.
    pub(super) fn acquire_slot(&self) -> Option<InFlightSlot> {
        self.admit(|| self.service.shed_stalled())
    }
}

/// A slot among the requests in flight. Dropping it gives it back.
pub(super) struct InFlightSlot(Option<Rc<Cell<usize>>>);

impl InFlightSlot {
    pub(super) fn release(&mut self) {
        if let Some(in_flight) = self.0.take() {
            in_flight.set(in_flight.get().saturating_sub(1));
        }
    }
}

impl Drop for InFlightSlot {
    fn drop(&mut self) {
        self.release();
    }
}

/// One of the [`MAX_LINGERING`] slots. Dropping it gives it back.
pub(super) struct LingerSlot(Rc<Cell<usize>>);

impl Drop for LingerSlot {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Length of an IMF-fixdate (RFC 9110, section 5.6.7), which is always the same.
const DATE_LEN: usize = 29;

/// The `Date` field of one worker, formatted when the second changes instead of for each response. The worker's tick
/// refreshes it, so it may be one tick old.
pub(super) struct DateCell {
    second: Cell<i64>,
    text: RefCell<[u8; DATE_LEN]>,
}

impl DateCell {
    pub(super) fn new() -> Self {
        let cell = Self {
            second: Cell::new(i64::MIN),
            text: RefCell::new(*b"Thu, 01 Jan 1970 00:00:00 GMT"),
        };
        cell.refresh();
        cell
    }

    /// Formats the date again if the second has changed.
    pub(super) fn refresh(&self) {
        let second = SystemClock.now().wall.secs();
        if self.second.replace(second) == second {
            return;
        }
        if let Some(text) = imf_fixdate(second) {
            *self.text.borrow_mut() = text;
        }
    }

    /// The value of the `Date` field.
    pub(super) fn text(&self) -> [u8; DATE_LEN] {
        *self.text.borrow()
    }
}

fn imf_fixdate(second: i64) -> Option<[u8; DATE_LEN]> {
    let timestamp = jiff::Timestamp::from_second(second).ok()?;
    let text = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&timestamp)
        .ok()?;
    text.as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_requests_are_admitted_than_the_share_until_one_leaves() {
        let context = WorkerContext::new((), Limits::default(), Arc::default(), 2);
        let admit = || context.admit(|| false);
        let (first, _second) = (admit(), admit());
        assert!(first.is_some() && admit().is_none());
        drop(first);
        assert!(admit().is_some());
        assert_eq!(context.counters.overloaded.read(), 1);
    }

    #[test]
    fn a_request_that_makes_room_lets_another_in() {
        let context = WorkerContext::new((), Limits::default(), Arc::default(), 1);
        let mut stalled = context.admit(|| false);
        let _other = context.admit(|| true).expect("the place that is given up");
        assert!(context.admit(|| false).is_none());
        if let Some(stalled) = &mut stalled {
            stalled.release();
        }
        drop(stalled);
        assert_eq!(context.in_flight.get(), 1, "left once");
    }

    #[test]
    fn so_many_linger_for_long_and_no_more() {
        let context = WorkerContext::new((), Limits::default(), Arc::default(), 1);
        let mut all: Vec<_> = (0..MAX_LINGERING)
            .map(|_| context.acquire_linger_slot().expect("a place"))
            .collect();
        assert!(context.acquire_linger_slot().is_none());
        all.pop();
        assert!(context.acquire_linger_slot().is_some());
    }

    #[test]
    fn times_are_spread_by_a_tenth_and_not_all_alike() {
        let base = Duration::from_secs(100);
        let times: Vec<_> = (0..100).map(|n| spread(base, n)).collect();
        assert!(times.iter().all(|t| (90..=110).contains(&t.as_secs())));
        let early = times.iter().filter(|t| **t < base).count();
        assert!((40..=60).contains(&early), "{early}");
    }

    #[test]
    fn dates_are_imf_fixdates() {
        assert_eq!(imf_fixdate(784_111_777), Some(*b"Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(imf_fixdate(i64::MAX), None);
    }

    #[test]
    fn a_new_cell_holds_the_current_year() {
        assert_ne!(&DateCell::new().text()[12..16], b"1970");
    }
}
