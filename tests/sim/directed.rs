//! Worlds that no chance arranges: one guard each, met on purpose.

use std::time::Duration;

use crate::chance::Chance;
use crate::faults::Fault;
use crate::gateway::{Change, Settings};
use crate::plan::Stage;
use crate::world::{Flow, World};

/// Some of the cast.
const PLAIN_B: usize = 1;
const PARENT_A: usize = 3;
const CLERK_B: usize = 6;

/// A request of `key` at the first gateway at `at`; whether it was admitted.
fn ask(world: &mut World, key: usize, at: u64) -> bool {
    world.run_until(at);
    world.run_gateway(0, at);
    world.gateways[0].request(key);
    world.run_gateway(0, at + 1);
    world.run_until(at + 60);
    let (decided, admitted) = world.model.last[&(0, key)];
    assert!(decided >= at, "no answer since {decided}");
    admitted
}

#[test]
fn a_revocation_that_was_trimmed_away_unheard_is_not_missed() {
    let settings = Settings {
        max_age: Duration::from_millis(2_500),
        absent_age: Duration::from_millis(800),
        wait_replicas: 0,
        seed: 0,
    };
    let mut world = Stage::new().world(2, 1, settings, Chance::new(1));
    assert!(ask(&mut world, PARENT_A, 1_000), "its facts are remembered from here on");
    // The first gateway's questions are held back. An event ends the one that waits at the store; what
    // comes after is put into the stream and trimmed away before the gateway can ask again.
    world.begin(Fault::Partition {
        gateway: 0,
        up: Flow::Held,
        down: Flow::Open,
    });
    world.operate(1, Change::Disable(PLAIN_B));
    world.run_until(1_200);
    world.operate(1, Change::Revoke(PARENT_A));
    world.run_until(1_300);
    world.begin(Fault::Trim(0));
    world.operate(1, Change::Disable(CLERK_B));
    assert!(
        ask(&mut world, PARENT_A, 1_400),
        "the revocation has not been heard of, and the facts are young"
    );
    world.open_path(0);
    assert!(
        !ask(&mut world, PARENT_A, 1_600),
        "later events were heard, and one before them is missing"
    );
    assert_eq!(world.model.violations, Vec::<String>::new());
    assert_eq!(world.done.len(), 3, "{:?}", world.done);
}
