//! Worlds in which facts become younger although nobody reads them, and worlds in which they must not.

use std::time::Duration;

use durward::store::redis::WaitReplicas;

use crate::chance::Chance;
use crate::directed::ask_at;
use crate::faults::Fault;
use crate::gateway::{Change, Guide, Settings};
use crate::paths::Flow;
use crate::plan::Stage;
use crate::world::World;

/// Some of the cast.
const PLAIN_A: usize = 0;
const PLAIN_B: usize = 1;

const MAX_AGE: u64 = 3_000;

/// Two gateways at one server; the second one has read a key.
fn world(seed: u64) -> World {
    let settings = Settings {
        max_age: Duration::from_millis(MAX_AGE),
        absent_age: Duration::from_millis(800),
        wait_replicas: WaitReplicas::Count(0),
        guide: Guide::One,
        id: String::new(),
        seed: 0,
    };
    let mut world = Stage::new().world(2, 1, settings, Chance::new(seed));
    assert!(ask_at(&mut world, 1, PLAIN_A, 1_000), "its facts are remembered from here on");
    world
}

/// Asks for the key all the time; whether it was admitted each time.
fn is_admitted_until(world: &mut World, until: u64) -> bool {
    let mut always = true;
    while world.now < until {
        let at = world.now + 250;
        always &= ask_at(world, 1, PLAIN_A, at);
    }
    always
}

#[test]
fn a_key_that_is_in_use_is_read_once_while_nothing_goes_wrong() {
    let mut world = world(20);
    let read = world.model.found[&(1, PLAIN_A)];
    assert!(is_admitted_until(&mut world, 6 * MAX_AGE));
    // Changes of others make nobody read it either.
    world.operate(0, Change::Disable(PLAIN_B));
    assert!(is_admitted_until(&mut world, 8 * MAX_AGE));
    assert_eq!(world.model.found[&(1, PLAIN_A)], read);
    world.operate(0, Change::Revoke(PLAIN_A));
    world.run_until(world.now + 300);
    let at = world.now;
    assert!(!ask_at(&mut world, 1, PLAIN_A, at));
    assert_eq!(world.model.violations, Vec::<String>::new());
}

#[test]
fn facts_that_are_not_revalidated_end_with_their_age() {
    let mut world = world(21);
    world.around.calm_since = None;
    assert!(is_admitted_until(&mut world, 2 * MAX_AGE));
    let cut = world.now;
    world.begin(Fault::Partition {
        gateway: 1,
        up: Flow::Held,
        down: Flow::Held,
    });
    assert!(is_admitted_until(&mut world, cut + MAX_AGE / 2));
    world.run_until(cut + MAX_AGE);
    let at = world.now;
    assert!(!ask_at(&mut world, 1, PLAIN_A, at));
    world.open_path(1);
    let until = world.now + 6_000;
    is_admitted_until(&mut world, until);
    assert!(is_admitted_until(&mut world, until + 1_000), "{:?}", world.story);
    assert_eq!(world.model.violations, Vec::<String>::new());
}

#[test]
fn nothing_is_revalidated_at_a_gateway_that_is_not_registered() {
    let mut world = world(22);
    world.around.calm_since = None;
    assert!(is_admitted_until(&mut world, 2 * MAX_AGE));
    let lost = world.now;
    world.cluster.unlisted.insert(1);
    world.begin(Fault::EntryLost(1));
    world.run_until(lost + MAX_AGE + 1_500);
    let at = world.now;
    assert!(!ask_at(&mut world, 1, PLAIN_A, at), "nobody could name it to an operator");
    world.cluster.unlisted.clear();
    world.run_until(world.now + 6_000);
    let at = world.now;
    assert!(ask_at(&mut world, 1, PLAIN_A, at), "{:?}", world.story);
    assert_eq!(world.model.violations, Vec::<String>::new());
}
