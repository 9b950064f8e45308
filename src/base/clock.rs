//! The only place that reads a clock. Decisions take [`Now`] as an argument.

use std::cell::Cell;
#[cfg(any(test, feature = "internals"))]
use std::sync::Mutex;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970-01-01 UTC. This clock may step. It is used for expiry times, which others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time plus `d`, saturating.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Milliseconds of `CLOCK_BOOTTIME`. This clock never steps and goes on while the machine is suspended, so the age of
/// a fact is counted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootMillis(pub u64);

impl BootMillis {
    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This time plus `d`, saturating.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Wall clock, for expiry times.
    pub wall: UnixMillis,
    pub boot: BootMillis,
}

pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Now;
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// For how many nanoseconds the wall clock is derived from the boot clock.
const RECKONED: i64 = 1_000_000;
/// Largest distance of two readings of the clocks in nanoseconds. If they lie further apart, the thread was
/// interrupted between them, and nothing is derived from them.
const APART: i64 = 10_000;

thread_local! {
    /// The last reading of both clocks by this thread, in nanoseconds: boot clock, wall clock.
    static LAST: Cell<Option<(i64, i64)>> = const { Cell::new(None) };
}

impl Clock for SystemClock {
    /// The wall clock is read once in a millisecond and derived from the boot clock in between, since a busy worker
    /// asks forty times in a millisecond. The derived time is never ahead and at most 10 us behind: nothing expires
    /// early, and nothing is used a millisecond too long. A step of the wall clock is noticed within a millisecond.
    fn now(&self) -> Now {
        let boot = read_nanos(ClockId::Boottime);
        let wall = LAST.get().and_then(|(read_at, wall)| {
            let passed = boot - read_at;
            (0..RECKONED).contains(&passed).then_some(wall.saturating_add(passed))
        });
        Now {
            wall: UnixMillis(wall.unwrap_or_else(|| read_wall(boot)).div_euclid(NANOS_PER_MILLI)),
            boot: BootMillis(boot.div_euclid(NANOS_PER_MILLI).unsigned_abs()),
        }
    }
}

/// Reads the wall clock and remembers it with the boot clock, which was last read at `before`. The time until the
/// next reading of the boot clock is lost, never gained.
fn read_wall(before: i64) -> i64 {
    let wall = read_nanos(ClockId::Realtime);
    let after = read_nanos(ClockId::Boottime);
    LAST.set((after - before <= APART).then_some((after, wall)));
    wall
}

#[cfg(any(test, feature = "internals"))]
/// A clock for tests and simulations. It stands still until a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Now>);

#[cfg(any(test, feature = "internals"))]
impl ManualClock {
    /// Starts at `now`.
    #[must_use]
    pub const fn new(now: Now) -> Self {
        Self(Mutex::new(now))
    }

    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = Now {
            wall: now.wall.plus(by),
            boot: now.boot.plus(by),
        };
    }

    /// Steps the wall clock alone, as an operator or a time daemon may.
    pub fn step_wall(&self, to: UnixMillis) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).wall = to;
    }
}

#[cfg(any(test, feature = "internals"))]
impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Now {
        (**self).now()
    }
}

/// The monotonic instant used for deadlines of sockets and waits (never for the age of facts).
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

/// Processor time that was used since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessorTime {
    /// By all threads.
    pub process: Duration,
    /// By the thread that asks.
    pub thread: Duration,
}

/// What the process and the calling thread have used of the processors.
#[must_use]
pub fn processor_time() -> ProcessorTime {
    let read = |clock| Duration::from_nanos(read_nanos(clock).unsigned_abs());
    ProcessorTime {
        process: read(ClockId::ProcessCPUTime),
        thread: read(ClockId::ThreadCPUTime),
    }
}

/// The monotonic instant of the runtime that calls this. A simulation moves it with its timers.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn runtime_instant() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Nanoseconds; those of the wall clock fit until the year 2262.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn read_nanos(id: ClockId) -> i64 {
    let t = clock_gettime(id);
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_neither_ahead_nor_a_millisecond_behind() {
        let start = SystemClock.now().boot;
        let mut readings = 0_u32;
        loop {
            let before = read_nanos(ClockId::Realtime);
            let now = SystemClock.now();
            let after = read_nanos(ClockId::Realtime);
            let possible = (before - APART).div_euclid(NANOS_PER_MILLI)..=after.div_euclid(NANOS_PER_MILLI);
            assert!(possible.contains(&now.wall.0), "{now:?} is not in {possible:?}");
            readings += 1;
            if now.boot.since(start) >= Duration::from_millis(50) {
                break;
            }
        }
        assert!(readings > 50, "the clock was hardly ever reckoned");
    }
}
