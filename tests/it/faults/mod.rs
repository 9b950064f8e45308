//! What becomes of callers while the store is down, slow, cut off or lying: the F rows of docs/threats.md, one by one.
//!
//! Run by `cargo test` with an age limit of 3 s and small loads; by `scripts/faults` with the defaults
//! of the product (30 s) and full loads. What the small run leaves out, it says.

mod chaos;
mod exchanged;
mod guesses;
mod lies;
mod lifetime;
mod load;
mod network;
mod proxy;
mod restart;
mod row;
mod scene;
mod stock;
mod trust;
mod watch;

/// A small generator (xorshift, Marsaglia 2003): the seed is printed, so a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, worker: u64) -> Self {
        Self(seed ^ (worker + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

#[test]
fn the_quick_run_says_what_it_leaves_out() {
    if scene::max_age() < std::time::Duration::from_secs(30) {
        eprintln!(
            "the fault table runs with facts of at most {:?} and small loads; scripts/faults runs it with 30 s, two minutes of flapping, \
             1,000 revocations, 100,000 requests under random faults and 1,000,000 guesses. Rows that no socket can play: wall clock \
             steps and a suspended machine (F18) are played on the clock that tests move, a suspended process here; failovers (F13) \
             are in tests/it/store.",
            scene::max_age()
        );
    }
}
