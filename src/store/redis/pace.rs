//! How often one gateway connects to its store: a flapping Redis must not be met by a storm.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock;

use super::link::Backoff;
use super::turn::Turn;

/// Connects of one gateway: one a second (hardening F8) ...
const EVERY: Duration = Duration::from_secs(1);

/// ... and as many at once as a start or a recovery needs: each connection once, and a try or two
/// before the server is back.
const AT_ONCE: f64 = 8.0;

/// Whoever had to wait waits this much longer at most, as drawn: gateways that lost their store in the
/// same moment must not come back in step.
const JITTER: Duration = Duration::from_millis(500);

/// Gives out the moments at which this gateway may connect.
pub(super) struct Pace {
    left: Mutex<Option<(f64, Instant)>>,
    drawn: Mutex<Backoff>,
}

impl Pace {
    /// Draws from this.
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            left: Mutex::new(None),
            drawn: Mutex::new(Backoff::new(seed)),
        }
    }

    /// Waits for the next moment, which comes in this gateway's turn. Whoever goes away while waiting has
    /// used it up.
    pub(super) async fn wait(&self, turn: &Turn) {
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
    pub(super) fn allow(&self, connects: f64) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
