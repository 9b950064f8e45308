//! Turns: gateways that lost their store in the same moment come back one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Clock;

/// Length of a turn: with [`SPREAD`], two neighbours begin at least 150 ms apart, which leaves 50 ms of the
/// 100 ms that reconnects must be apart (hardening F8) to clocks that differ.
const TURN: u64 = 200;

/// A try may begin this late in its turn, in milliseconds. Gateways that share a turn are spread over it.
const SPREAD: u64 = 50;

/// Most turns: nobody waits longer than 1.6 s for the next of its own, so that with the longest pause a
/// recovery stays well under its five seconds. Of more gateways, some share a turn.
const MOST: u64 = 8;

/// This gateway's turn among those that announce themselves. Turns go by the wall clock, which is all that
/// gateways share while their store is away; a gateway whose clock is wrong has another turn, and no harm
/// comes of it.
pub(super) struct Turn {
    clock: Arc<dyn Clock>,
    /// Place and number of gateways, 32 bits each; no gateways while nobody has said.
    place: AtomicU64,
}

impl Turn {
    pub(super) const fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            place: AtomicU64::new(0),
        }
    }

    /// The store has said which place this gateway has among so many.
    pub(super) fn set(&self, place: u32, gateways: u32) {
        let both = u64::from(place) << 32 | u64::from(gateways);
        self.place.store(both, Ordering::Relaxed);
    }

    /// A pause before another try, lengthened until it ends in this gateway's turn. `drawn` is from
    /// nought to one.
    pub(super) fn lengthen(&self, pause: Duration, drawn: f64) -> Duration {
        let both = self.place.load(Ordering::Relaxed);
        let wall = u64::try_from(self.clock.now().wall.0).unwrap_or(0);
        let ends = wall.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let wait = until_turn(both >> 32, both & u64::from(u32::MAX), ends);
        match wait {
            0 => pause,
            _ => pause + Duration::from_millis(wait) + Duration::from_millis(SPREAD).mul_f64(drawn.clamp(0.0, 1.0)),
        }
    }
}

/// Milliseconds from `at` until the next turn of a place among so many begins; nought if it is there.
const fn until_turn(place: u64, gateways: u64, at: u64) -> u64 {
    if gateways < 2 {
        return 0;
    }
    let turns = if gateways < MOST { gateways } else { MOST };
    let round = turns * TURN;
    let begins = place % turns * TURN;
    let since = (at % round + round - begins) % round;
    if since < SPREAD { 0 } else { round - since }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{BootMillis, Now, UnixMillis};

    struct Stopped(i64);

    impl Clock for Stopped {
        fn now(&self) -> Now {
            Now {
                wall: UnixMillis(self.0),
                boot: BootMillis(0),
            }
        }
    }

    #[test]
    fn gateways_whose_pauses_end_together_begin_a_hundred_milliseconds_apart() {
        for gateways in [2, 3, 8] {
            for wall in (1_800_000_000_000_i64..).step_by(37).take(100) {
                let mut tries: Vec<u128> = (0..gateways)
                    .map(|place| {
                        let turn = Turn::new(Arc::new(Stopped(wall)));
                        turn.set(place, gateways);
                        // The one that differs most: one is late in its turn, the next one early.
                        turn.lengthen(Duration::from_millis(300), f64::from(place % 2)).as_millis()
                    })
                    .collect();
                tries.sort_unstable();
                assert!(
                    tries.windows(2).all(|pair| pair[1] - pair[0] >= 150),
                    "{gateways} at {wall}: {tries:?}"
                );
                assert!(tries.iter().all(|after| (300..=300 + 1_650).contains(after)), "{tries:?}");
            }
        }
    }

    #[test]
    fn who_is_alone_or_unknown_waits_for_nobody() {
        let turn = Turn::new(Arc::new(Stopped(1_800_000_000_123)));
        let pause = Duration::from_millis(300);
        assert_eq!(turn.lengthen(pause, 1.0), pause);
        turn.set(0, 1);
        assert_eq!(turn.lengthen(pause, 1.0), pause);
        turn.set(1, 2);
        assert!(turn.lengthen(pause, 1.0) > pause);
    }
}
