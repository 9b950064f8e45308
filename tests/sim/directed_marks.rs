//! Marks that may be taken once, in worlds that no chance arranges: gateways that race, replicas that lag, failovers.

use std::time::Duration;

use durward::store::redis::WaitReplicas;

use crate::chance::Chance;
use crate::faults::Fault;
use crate::gateway::{Guide, Settings};
use crate::plan::Stage;
use crate::world::World;

fn settings(guide: Guide, wait_replicas: WaitReplicas) -> Settings {
    Settings {
        max_age: Duration::from_millis(4_000),
        absent_age: Duration::from_millis(800),
        wait_replicas,
        guide,
        id: String::new(),
        seed: 0,
    }
}

/// Asks for a mark at a gateway, now.
fn ask(world: &mut World, g: usize, mark: u8) {
    let now = world.now;
    world.run_gateway(g, now);
    world.gateways[g].take_mark(mark);
    world.run_gateway(g, now + 1);
}

/// Asks for a mark and waits for the answer: whether this gateway was the first; nothing if nobody knows.
fn take(world: &mut World, g: usize, mark: u8) -> Option<bool> {
    let before = world.marked.len();
    ask(world, g, mark);
    world.run_until(world.now + 4_900);
    assert_eq!(world.marked.len(), before + 1, "it was answered: {:?}", world.story);
    world.marked[before].2
}

#[test]
fn of_gateways_that_race_for_a_mark_one_is_the_first() {
    let mut world = Stage::new().world(3, 1, settings(Guide::One, WaitReplicas::Count(0)), Chance::new(21));
    world.run_until(1_000);
    for mark in 0..20 {
        for g in [0, 1, 2, 0] {
            ask(&mut world, g, mark);
        }
        world.run_until(world.now + 300);
    }
    assert_eq!(world.marked.len(), 80);
    for mark in 0..20 {
        let first = world
            .marked
            .iter()
            .filter(|(_, of, first)| *of == mark && *first == Some(true))
            .count();
        assert_eq!(first, 1, "{mark}: {:?}", world.marked);
    }
}

#[test]
fn a_mark_that_a_replica_lacks_admits_nobody_where_all_are_waited_for_and_one_that_all_have_survives() {
    let mut world = Stage::new().world(2, 3, settings(Guide::Sentinels, WaitReplicas::All), Chance::new(22));
    world.around.calm_since = None;
    world.run_until(1_500);
    assert_eq!(take(&mut world, 0, 1), Some(true), "all have it");
    world.cluster.link(2, false);
    assert_eq!(take(&mut world, 0, 2), None, "one replica lacks it");
    world.cluster.link(2, true);
    world.run_until(world.now + 1_000);
    world.begin(Fault::Planned);
    world.run_until(world.now + 4_000);
    for g in [1, 0] {
        assert_eq!(
            take(&mut world, g, 1),
            Some(false),
            "gateway {g}, at the server that has taken over: {:#?}",
            world.story
        );
    }
    let admitted = |world: &World, mark| {
        world
            .marked
            .iter()
            .filter(|(_, of, first)| *of == mark && *first == Some(true))
            .count()
    };
    let _ = take(&mut world, 1, 2);
    assert!(admitted(&world, 2) <= 1, "{:?}", world.marked);
    assert_eq!(take(&mut world, 1, 3), Some(true), "the twin");
}

#[test]
fn a_gateway_at_an_old_primary_takes_no_mark() {
    let mut world = Stage::new().world(2, 3, settings(Guide::Sentinels, WaitReplicas::All), Chance::new(23));
    world.around.calm_since = None;
    world.run_until(1_500);
    world.begin(Fault::HeldSentinels(1));
    world.begin(Fault::Planned);
    let old = world.deposed.expect("another server has taken over");
    let until = world.now + 4_000;
    ask(&mut world, 1, 7);
    while world.now < until {
        // It believes again whenever a sentinel told it to follow.
        world.begin(Fault::Believe);
        assert!(world.cluster.believes(old));
        world.run_until(world.now + 100);
    }
    assert!(world.marked.iter().all(|(_, _, first)| *first != Some(true)), "{:?}", world.marked);
    // All is well again. Whatever became of the first mark, nobody takes it twice.
    world.end(Fault::HeldSentinels(1));
    world.demote_believers();
    world.heal_replicas();
    world.run_until(world.now + 6_000);
    for (g, mark) in [(0, 7), (1, 7), (0, 7)] {
        let _ = take(&mut world, g, mark);
    }
    let admitted = world
        .marked
        .iter()
        .filter(|(_, of, first)| *of == 7 && *first == Some(true))
        .count();
    assert!(admitted <= 1, "{:?}", world.marked);
    assert_eq!(
        (take(&mut world, 0, 8), take(&mut world, 1, 8)),
        (Some(true), Some(false)),
        "the twin: {:#?}",
        world.story
    );
}
