//! The only place that reads a clock. Decisions take [`Now`] as an argument.

use std::cell::Cell;
use std::sync::Mutex;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970-01-01 UTC. May step; used for expiry times that others wrote.
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

/// Milliseconds of `CLOCK_BOOTTIME`: never steps and goes on while the machine is suspended, so it
/// is what the age of a fact is counted on (design 6.1, hardening C1).
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
    /// Boot clock, for ages.
    pub boot: BootMillis,
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

thread_local! {
    /// The last reading of this thread.
    static LAST: Cell<Option<Now>> = const { Cell::new(None) };
}

impl Clock for SystemClock {
    /// The wall clock is read once in each millisecond of the boot clock, which has no finer steps here: a
    /// busy worker asks forty times in one, and a step of the wall clock is noticed a millisecond later.
    fn now(&self) -> Now {
        let boot = BootMillis(read_millis(ClockId::Boottime).unsigned_abs());
        if let Some(last) = LAST.get().filter(|last| last.boot == boot) {
            return last;
        }
        let now = Now {
            wall: UnixMillis(read_millis(ClockId::Realtime)),
            boot,
        };
        LAST.set(Some(now));
        now
    }
}

/// A clock for tests and simulations: it stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Now>);

impl ManualClock {
    /// Starts at `now`.
    #[must_use]
    pub const fn new(now: Now) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves both clocks forward.
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

/// The same of the runtime this is called on: a simulation moves it with its timers.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn runtime_instant() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

fn read_millis(id: ClockId) -> i64 {
    let t = clock_gettime(id);
    t.tv_sec.saturating_mul(1000).saturating_add(t.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_goes_on_with_the_boot_clock() {
        let first = SystemClock.now();
        let later = loop {
            let now = SystemClock.now();
            if now.boot.since(first.boot) >= Duration::from_millis(20) {
                break now;
            }
        };
        let wall = read_millis(ClockId::Realtime);
        assert!((wall - 1_000..=wall).contains(&later.wall.0), "{later:?} at {wall}");
        // A step of the machine's clock meanwhile would be seen in both.
        assert_ne!(later.wall, first.wall);
    }
}
