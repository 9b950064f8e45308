//! Worlds that no chance arranges: one guard each, met on purpose.

use std::rc::Rc;
use std::time::Duration;

use durward::store::redis::WaitReplicas;

use crate::calls::Drawn;
use crate::chance::Chance;
use crate::faults::Fault;
use crate::gateway::{Change, Guide, Settings};
use crate::paths::Flow;
use crate::plan::Stage;
use crate::served::Asked;
use crate::world::World;

/// Some of the cast.
const PLAIN_B: usize = 1;
const PARENT_A: usize = 3;
const CLERK_A: usize = 5;
const CLERK_B: usize = 6;

/// A request of `key` at the first gateway at `at`; whether it was admitted.
fn ask(world: &mut World, key: usize, at: u64) -> bool {
    ask_at(world, 0, key, at)
}

/// The same at any gateway.
pub(crate) fn ask_at(world: &mut World, g: usize, key: usize, at: u64) -> bool {
    world.run_until(at);
    world.run_gateway(g, at);
    let text = Rc::clone(&world.texts[key]);
    world.gateways[g].request(key, text);
    world.run_gateway(g, at + 1);
    // A look-up may wait until its gateway is registered again.
    for until in [60, 300] {
        world.run_until(at + until);
        if world.model.last.get(&(g, key)).is_some_and(|(decided, _)| *decided >= at) {
            break;
        }
    }
    let (decided, admitted) = world.model.last[&(g, key)];
    assert!(decided >= at, "no answer since {decided}");
    admitted
}

#[test]
fn a_revocation_that_was_trimmed_away_unheard_is_not_missed() {
    let mut world = Stage::new().world(2, 1, settings(), Chance::new(1));
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

/// The same at this moment.
fn ask_now(world: &mut World, key: usize) -> bool {
    let at = world.now;
    ask(world, key, at)
}

fn settings() -> Settings {
    Settings {
        max_age: Duration::from_millis(2_500),
        absent_age: Duration::from_millis(800),
        wait_replicas: WaitReplicas::Count(0),
        guide: Guide::One,
        id: String::new(),
        seed: 0,
    }
}

/// A call at gateway `g` at `at`, and what it made within `held` and a little more.
fn call(world: &mut World, g: usize, at: u64, drawn: Drawn) -> Option<usize> {
    world.run_until(at);
    let before = world.texts.len();
    assert!(world.serve(g, drawn), "the call has begun");
    world.run_until(at + drawn.held + 400);
    (world.texts.len() > before).then_some(before)
}

const fn log_in(account: usize) -> Drawn {
    Drawn {
        asked: Asked::LogIn,
        caller: account,
        target: None,
        held: 0,
    }
}

#[test]
fn the_store_orders_sessions_and_log_outs_whatever_the_clocks_of_gateways_say() {
    for ahead in [-2_500, -900, 2_500] {
        let mut world = Stage::new().world(2, 1, settings(), Chance::new(2));
        world.run_until(1_000);
        world.gateways[1].step_wall(ahead);
        let before = [0, 1].map(|g| call(&mut world, g, 1_100 + g as u64 * 500, log_in(1)).expect("a session"));
        for session in before {
            assert!(ask_now(&mut world, session), "{ahead}: it lives");
        }
        world.operate(1, Change::EndSessions(1));
        world.run_until(world.now + 100);
        for session in before {
            assert!(!ask_now(&mut world, session), "{ahead}: it was made before the log-out");
        }
        for g in [0, 1] {
            let at = world.now;
            let after = call(&mut world, g, at, log_in(1)).expect("a session");
            assert!(ask_now(&mut world, after), "{ahead}: made at gateway {g} after the log-out");
        }
        assert_eq!(world.model.violations, Vec::<String>::new(), "{ahead}");
    }
}

#[test]
fn a_gateway_that_hears_nothing_makes_nothing_for_what_has_ended() {
    let mut world = Stage::new().world(2, 1, settings(), Chance::new(3));
    assert!(ask(&mut world, PARENT_A, 1_000), "its facts are remembered from here on");
    let child = |held| Drawn {
        asked: Asked::Child,
        caller: PARENT_A,
        target: None,
        held,
    };
    assert!(call(&mut world, 0, 1_100, child(0)).is_some(), "the twin: made while it may");
    // One whose body is on its way, and one that comes when all is over; no event arrives meanwhile.
    world.serve(0, child(600));
    world.begin(Fault::Partition {
        gateway: 0,
        up: Flow::Open,
        down: Flow::Held,
    });
    world.operate(1, Change::Revoke(PARENT_A));
    world.run_until(world.now + 200);
    assert_eq!(world.done.len(), 1, "the revocation is acknowledged: {:?}", world.done);
    let before = world.texts.len();
    world.run_until(world.now + 300);
    world.open_path(0);
    world.run_until(world.now + 2_000);
    assert_eq!(world.texts.len(), before, "nothing was made");
    assert_eq!(world.model.violations, Vec::<String>::new());
}

#[test]
fn what_was_made_by_a_role_ends_with_it_two_levels_down() {
    let mut world = Stage::new().world(2, 1, settings(), Chance::new(4));
    let child = |caller| Drawn {
        asked: Asked::Child,
        caller,
        target: None,
        held: 0,
    };
    let first = call(&mut world, 0, 1_000, child(CLERK_A)).expect("a child");
    let second = call(&mut world, 0, 1_500, child(first)).expect("a child of it");
    assert!(ask(&mut world, second, 2_000));
    world.operate(1, Change::NarrowRole);
    world.run_until(2_300);
    for key in [CLERK_A, first, second] {
        assert!(!ask_now(&mut world, key), "{key}");
    }
    world.operate(1, Change::WidenRole);
    world.run_until(world.now + 200);
    assert!(ask_now(&mut world, second), "and comes back with it");
    assert_eq!(world.model.violations, Vec::<String>::new());
}
