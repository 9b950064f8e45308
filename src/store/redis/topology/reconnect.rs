//! Turns: gateways that lost their store in the same moment come back one after the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock;
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
pub(crate) struct Turn {
    clock: Arc<dyn Clock>,
    /// Place and number of gateways, 32 bits each; no gateways while nobody has said.
    place: AtomicU64,
}

impl Turn {
    pub(crate) const fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            place: AtomicU64::new(0),
        }
    }

    /// The store has said which place this gateway has among so many.
    pub(crate) fn set(&self, place: u32, gateways: u32) {
        let both = u64::from(place) << 32 | u64::from(gateways);
        self.place.store(both, Ordering::Relaxed);
    }

    /// A pause before another try, lengthened until it ends in this gateway's turn. `drawn` is from
    /// nought to one.
    pub(crate) fn lengthen(&self, pause: Duration, drawn: f64) -> Duration {
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

/// Connects of one gateway: one a second (hardening F8) ...
const EVERY: Duration = Duration::from_secs(1);

/// ... and as many at once as a start or a recovery needs: each connection once, and a try or two
/// before the server is back.
const AT_ONCE: f64 = 8.0;

/// Whoever had to wait waits this much longer at most, as drawn: gateways that lost their store in the
/// same moment must not come back in step.
const JITTER: Duration = Duration::from_millis(500);

/// Gives out the moments at which this gateway may connect.
pub(crate) struct Pace {
    left: Mutex<Option<(f64, Instant)>>,
    drawn: Mutex<Backoff>,
}

impl Pace {
    /// Draws from this.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            left: Mutex::new(None),
            drawn: Mutex::new(Backoff::new(seed)),
        }
    }

    /// Waits for the next moment, which comes in this gateway's turn. Whoever goes away while waiting has
    /// used it up.
    pub(crate) async fn wait(&self, turn: &Turn) {
        let wait = self.reserve(clock::runtime_instant());
        if !wait.is_zero() {
            let (drawn, fraction) = {
                let mut backoff = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
                (backoff.part_of(JITTER), backoff.fraction())
            };
            tokio::time::sleep(turn.lengthen(wait + drawn, fraction)).await;
        }
    }

    /// Allows so many connects at once from now on, for a server that was not connected to before and is not burdened yet.
    pub(crate) fn allow(&self, connects: f64) {
        if let Some((left, _)) = &mut *self.left.lock().unwrap_or_else(PoisonError::into_inner) {
            *left = left.max(connects);
        }
    }

    fn reserve(&self, now: Instant) -> Duration {
        let mut state = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, at) = state.unwrap_or((AT_ONCE, now));
        let gained = now.saturating_duration_since(at).as_secs_f64() / EVERY.as_secs_f64();
        let left = (tokens + gained).min(AT_ONCE) - 1.0;
        *state = Some((left, at.max(now)));
        EVERY.mul_f64((-left).max(0.0))
    }
}

/// First and longest pause before a connection is tried again. Two seconds keep recovery within
/// five; the jitter, from a quarter of the pause to the whole, keeps gateways apart that lost their
/// connections in the same moment.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(2));

/// Growing pauses with jitter.
pub(crate) struct Backoff {
    attempts: u32,
    random: u64,
}

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { attempts: 0, random: seed }
    }

    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Between a quarter and the whole of 400 ms, 800 ms, ... 2 s.
    pub(crate) fn next(&mut self) -> Duration {
        let (first, longest) = BACKOFF;
        let whole = first.saturating_mul(1 << self.attempts.min(8)).min(longest);
        self.attempts = self.attempts.saturating_add(1);
        whole / 4 + self.part_of(whole.mul_f64(0.75))
    }

    /// Some part of this, drawn.
    pub(crate) fn part_of(&mut self, whole: Duration) -> Duration {
        whole.mul_f64(self.fraction())
    }

    /// From nought to one, drawn.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(self.draw() % 1_000) / 1_000.0
    }

    /// `SplitMix64`, upper half: neighbouring seeds give unlike pauses.
    fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from(mixed >> 32).unwrap_or(0)
    }
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

    #[test]
    fn f8_after_a_burst_there_is_one_connect_a_second() {
        let pace = Pace::new(7);
        let start = clock::instant() + Duration::from_secs(60);
        for _ in 0..8 {
            assert_eq!(pace.reserve(start), Duration::ZERO);
        }
        assert_eq!(pace.reserve(start), EVERY);
        assert_eq!(pace.reserve(start), EVERY * 2, "each has a moment of its own");
        assert_eq!(pace.reserve(start + EVERY * 3), Duration::ZERO);
    }

    #[test]
    fn a_new_server_is_connected_to_at_once() {
        let pace = Pace::new(7);
        let start = clock::instant() + Duration::from_secs(60);
        for _ in 0..8 {
            assert_eq!(pace.reserve(start), Duration::ZERO);
        }
        pace.allow(2.0);
        assert_eq!([pace.reserve(start), pace.reserve(start)], [Duration::ZERO; 2]);
        assert_eq!(pace.reserve(start), EVERY);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_start_again() {
        let mut backoff = Backoff::new(7);
        for whole in [400, 800, 1_600, 2_000, 2_000] {
            let pause = backoff.next();
            assert!(
                (Duration::from_millis(whole / 4)..=Duration::from_millis(whole)).contains(&pause),
                "{pause:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(400));
    }
}
