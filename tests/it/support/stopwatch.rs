//! Measures what the gateway took, without what the machine took from everybody.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use durward::base::clock;

use super::wait::pause;

/// How often the meter wants to run.
const STEP: Duration = Duration::from_millis(5);

/// A delay up to this is no loss: every timer has it.
const TOLERATED: Duration = Duration::from_millis(1);

/// Measures a time that has a bound. A machine that stands still, or runs others, for a second must not fail a test of one second:
/// the time for which a thread that only waits was kept from running does not count.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch {
    started: Instant,
    lost_before: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let meter = Meter::running();
        Self {
            started: clock::instant(),
            lost_before: meter.lost(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let elapsed = self.started.elapsed();
        elapsed.saturating_sub(Meter::running().lost().saturating_sub(self.lost_before))
    }
}

struct Meter {
    began: Instant,
    /// Microseconds.
    lost: AtomicU64,
    /// When the meter should run next, in microseconds after it began.
    due: AtomicU64,
}

impl Meter {
    /// One for the whole process, from its first use to the end.
    fn running() -> &'static Self {
        static METER: OnceLock<Meter> = OnceLock::new();
        METER.get_or_init(|| {
            std::thread::spawn(|| Self::running().run());
            Self {
                began: clock::instant(),
                lost: AtomicU64::new(0),
                due: AtomicU64::new(u64::MAX),
            }
        })
    }

    fn run(&self) {
        loop {
            let due = self.began.elapsed() + STEP;
            self.due.store(micros(due), Ordering::Relaxed);
            pause(STEP);
            let late = self.began.elapsed().saturating_sub(due);
            if late > TOLERATED {
                self.lost.fetch_add(micros(late), Ordering::Relaxed);
            }
        }
    }

    fn lost(&self) -> Duration {
        let now = micros(self.began.elapsed());
        let late = Duration::from_micros(now.saturating_sub(self.due.load(Ordering::Relaxed)));
        let now_late = if late > TOLERATED { late } else { Duration::ZERO };
        Duration::from_micros(self.lost.load(Ordering::Relaxed)) + now_late
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[test]
fn a_stopwatch_counts_what_is_waited_for() {
    let watch = Stopwatch::start();
    let (start, lost) = (clock::instant(), Meter::running().lost());
    pause(Duration::from_millis(60));
    let most = start.elapsed();
    let least = Duration::from_millis(59).saturating_sub(Meter::running().lost() - lost);
    let told = watch.elapsed();
    assert!(told >= least.min(most), "{told:?} of {most:?}");
}
