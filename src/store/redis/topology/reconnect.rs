//! When a gateway connects to Redis again: slots that keep gateways apart, a rate limit, and growing pauses.
//!
//! Gateways that lose their store in the same moment must not all come back in the same moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::clock::Clock;

/// Length of a slot in milliseconds. With [`SPREAD`], the attempts of two neighbours begin at least 150 ms apart. Reconnects
/// must be 100 ms apart (docs/threats.md F8); the other 50 ms are for clocks that differ.
const SLOT: u64 = 200;

/// An attempt begins at most this late in its slot, in milliseconds. Gateways that share a slot are spread over it.
const SPREAD: u64 = 50;

/// Most slots in a round: a gateway waits at most 1.6 s for its slot, so that with the longest pause a recovery stays well
/// under its five seconds. With more gateways, some share a slot.
const MOST: u64 = 8;

/// This gateway's slot among the registered gateways. Slots go by the wall clock, which is all that gateways share while
/// their store is away. A gateway whose clock is wrong has another slot, which does no harm.
pub(crate) struct ReconnectSlot {
    clock: Arc<dyn Clock>,
    /// Rank of this gateway and number of gateways, 32 bits each; zero while they are not known.
    rank: AtomicU64,
}

impl ReconnectSlot {
    pub(crate) const fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            rank: AtomicU64::new(0),
        }
    }

    /// Sets the rank of this gateway among the registered ones, as the store answered it.
    pub(crate) fn set(&self, rank: u32, gateways: u32) {
        let both = u64::from(rank) << 32 | u64::from(gateways);
        self.rank.store(both, Ordering::Relaxed);
    }

    /// Lengthens a pause until it ends in this gateway's slot. `drawn`, from 0 to 1, says how late in the slot.
    pub(crate) fn lengthen(&self, pause: Duration, drawn: f64) -> Duration {
        let both = self.rank.load(Ordering::Relaxed);
        let wall = u64::try_from(self.clock.now().wall.0).unwrap_or(0);
        let ends = wall.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let wait = until_turn(both >> 32, both & u64::from(u32::MAX), ends);
        match wait {
            0 => pause,
            _ => pause + Duration::from_millis(wait) + Duration::from_millis(SPREAD).mul_f64(drawn.clamp(0.0, 1.0)),
        }
    }
}

/// Milliseconds from `at` until the next slot of this rank begins; 0 inside the first part of that slot.
const fn until_turn(rank: u64, gateways: u64, at: u64) -> u64 {
    if gateways < 2 {
        return 0;
    }
    let turns = if gateways < MOST { gateways } else { MOST };
    let round = turns * SLOT;
    let begins = rank % turns * SLOT;
    let since = (at % round + round - begins) % round;
    if since < SPREAD { 0 } else { round - since }
}

/// A gateway connects once in this time (docs/threats.md F8).
const EVERY: Duration = Duration::from_secs(1);

/// Burst: what a start or a recovery needs, which is each connection once and a few attempts before the server is back.
const AT_ONCE: f64 = 8.0;

/// An attempt that had to wait waits up to this much longer, drawn at random, so that gateways do not come back in step.
const JITTER: Duration = Duration::from_millis(500);

/// A token bucket for the connection attempts of this gateway.
pub(crate) struct Pace {
    left: Mutex<Option<(f64, Instant)>>,
    drawn: Mutex<Backoff>,
}

impl Pace {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            left: Mutex::new(None),
            drawn: Mutex::new(Backoff::new(seed)),
        }
    }

    /// Waits for the next token, and then for this gateway's slot. A future that is dropped while it waits has used up its
    /// token.
    pub(crate) async fn wait(&self, slot: &ReconnectSlot) {
        let wait = self.reserve(clock::runtime_instant());
        if !wait.is_zero() {
            let (drawn, fraction) = {
                let mut backoff = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
                (backoff.part_of(JITTER), backoff.fraction())
            };
            tokio::time::sleep(slot.lengthen(wait + drawn, fraction)).await;
        }
    }

    /// Fills the bucket up to this many tokens, for a server to which this gateway was not connected before.
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

/// First and longest pause before the next attempt. Two seconds keep a recovery within five seconds. The jitter, from a
/// quarter of the pause to the whole, keeps gateways apart.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(2));

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

    /// The next pause: between a quarter and the whole of 400 ms, 800 ms, 1.6 s, then 2 s.
    pub(crate) fn next(&mut self) -> Duration {
        let (first, longest) = BACKOFF;
        let whole = first.saturating_mul(1 << self.attempts.min(8)).min(longest);
        self.attempts = self.attempts.saturating_add(1);
        whole / 4 + self.part_of(whole.mul_f64(0.75))
    }

    /// A random part of this.
    pub(crate) fn part_of(&mut self, whole: Duration) -> Duration {
        whole.mul_f64(self.fraction())
    }

    /// A random number from 0 to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(self.draw() % 1_000) / 1_000.0
    }

    /// The upper half of `SplitMix64`: neighbouring seeds give different pauses.
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
                    .map(|rank| {
                        let slot = ReconnectSlot::new(Arc::new(Stopped(wall)));
                        slot.set(rank, gateways);
                        // The worst case: one is late in its slot, and the next one early.
                        slot.lengthen(Duration::from_millis(300), f64::from(rank % 2)).as_millis()
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
        let slot = ReconnectSlot::new(Arc::new(Stopped(1_800_000_000_123)));
        let pause = Duration::from_millis(300);
        assert_eq!(slot.lengthen(pause, 1.0), pause);
        slot.set(0, 1);
        assert_eq!(slot.lengthen(pause, 1.0), pause);
        slot.set(1, 2);
        assert!(slot.lengthen(pause, 1.0) > pause);
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
