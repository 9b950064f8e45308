//! Worlds that no chance arranges: failovers that a gateway does not hear of, and lists of gateways that lose one.

use std::time::Duration;

use durward::store::redis::WaitReplicas;

use crate::cast::{CALM, KNOWN};
use crate::chance::Chance;
use crate::cluster::GATEWAYS;
use crate::directed::ask_at;
use crate::faults::Fault;
use crate::gateway::{Change, Guide, Settings};
use crate::paths::Flow;
use crate::plan::Stage;
use crate::world::World;

/// Some of the cast.
const PLAIN_A: usize = 0;
const PLAIN_B: usize = 1;

fn settings(guide: Guide, wait_replicas: WaitReplicas, max_age: u64) -> Settings {
    Settings {
        max_age: Duration::from_millis(max_age),
        absent_age: Duration::from_millis(800),
        wait_replicas,
        guide,
        id: String::new(),
        seed: 0,
    }
}

const fn cut_off(gateway: usize) -> Fault {
    Fault::Partition {
        gateway,
        up: Flow::Held,
        down: Flow::Held,
    }
}

/// Revokes a key at the first gateway, and waits for receipts; when that was acknowledged.
fn revoke_and_wait(world: &mut World, key: usize) -> u64 {
    let told = world.told;
    world.operate_and_wait(0, Change::Revoke(key), Some(Duration::from_millis(300)));
    world.run_until(world.now + 2_000);
    assert_eq!(
        world.told,
        told + 1,
        "it was acknowledged, and its receipts told: {:?}",
        world.story
    );
    world.done.last().map(|(_, at, _)| *at).unwrap()
}

/// Asks a gateway for a key again and again; how often it was admitted.
fn ask_on(world: &mut World, g: usize, key: usize, until: u64) -> usize {
    let mut admitted = 0;
    while world.now < until {
        let at = world.now + 50;
        admitted += usize::from(ask_at(world, g, key, at));
    }
    assert_eq!(world.model.violations, Vec::<String>::new(), "{:#?}", world.story);
    admitted
}

#[test]
fn a_gateway_that_hears_no_sentinel_reads_from_an_old_primary_no_longer_than_its_age() {
    let max_age = 4_000;
    // Where all are waited for, an old primary that believes keeps changes from being acknowledged.
    let settings = settings(Guide::Sentinels, WaitReplicas::Count(1), max_age);
    let mut world = Stage::new().world(2, 3, settings, Chance::new(5));
    world.around.calm_since = None;
    assert!(ask_at(&mut world, 1, PLAIN_A, 1_000), "its facts are remembered from here on");
    world.begin(Fault::HeldSentinels(1));
    world.begin(Fault::Planned);
    let old = world.deposed.unwrap();
    // It believes again whenever a sentinel told it to follow.
    while world.now < 2_000 {
        world.run_until(world.now + 100);
        world.begin(Fault::Believe);
    }
    let mut acknowledged = None;
    while acknowledged.is_none() && world.now < 8_000 {
        world.operate(0, Change::Revoke(PLAIN_A));
        world.run_until(world.now + 300);
        world.begin(Fault::Believe);
        assert!(world.cluster.believes(old));
        let until = world.now + 100;
        ask_on(&mut world, 1, PLAIN_A, until);
        acknowledged = world.done.iter().find(|(_, _, done)| *done).map(|(_, at, _)| *at);
    }
    let acknowledged = acknowledged.unwrap_or_else(|| panic!("the new primary takes changes: {:#?}", world.story));
    assert!(acknowledged < 5_000, "while the old word is young: {acknowledged}");
    assert!(
        ask_on(&mut world, 1, PLAIN_A, acknowledged + 800) > 0,
        "it reads from the old primary"
    );
    ask_on(&mut world, 1, PLAIN_A, acknowledged + max_age + 2_000);
}

#[test]
fn whoever_was_lost_from_the_list_is_not_ruled_out() {
    type Loss = fn(&mut World);
    let losses: [(&str, Loss); 3] = [
        ("its entry", |world| world.begin(Fault::EntryLost(1))),
        ("the list", |world| world.begin(Fault::ListLost)),
        ("the list with all that tells of it", |world| {
            world.cluster.inject(world.now, &["DEL", GATEWAYS]);
            world.cluster.inject(world.now, &["HDEL", crate::cluster::META, "list"]);
            world.collect();
        }),
    ];
    for (what, lose) in losses {
        let mut world = Stage::new().world(3, 1, settings(Guide::One, WaitReplicas::All, 5_000), Chance::new(6));
        assert!(ask_at(&mut world, 1, PLAIN_A, 1_000), "its facts are remembered from here on");
        world.begin(cut_off(1));
        world.run_until(1_100);
        lose(&mut world);
        revoke_and_wait(&mut world, PLAIN_A);
        assert_eq!(world.told_all, 0, "{what}");
        let until = world.now + 2_500;
        assert!(ask_on(&mut world, 1, PLAIN_A, until) > 0, "{what}: it admits by young facts");
    }
    // The twin: nobody is lost, and everybody confirms.
    let mut world = Stage::new().world(3, 1, settings(Guide::One, WaitReplicas::All, 5_000), Chance::new(6));
    assert!(ask_at(&mut world, 1, PLAIN_A, 1_000));
    revoke_and_wait(&mut world, PLAIN_A);
    assert_eq!(world.told_all, 1, "{:?}", world.story);
}

#[test]
fn whoever_came_after_the_snapshot_that_redis_returns_from_is_not_ruled_out() {
    let mut world = Stage::new().world(3, 1, settings(Guide::One, WaitReplicas::All, 5_000), Chance::new(7));
    // Snapshot, then another gateway.
    world.run_until(1_000);
    world.model.ids[2] = "gw-late".into();
    world.back_up();
    world.begin(Fault::Restart(2));
    world.run_until(1_500);
    assert!(ask_at(&mut world, 2, PLAIN_A, 1_600), "its facts are remembered from here on");
    world.begin(Fault::Crash);
    world.begin(Fault::GoBack);
    world.begin(cut_off(2));
    world.run_until(1_800);
    world.end(Fault::Crash);
    world.run_until(4_000);
    revoke_and_wait(&mut world, PLAIN_A);
    assert_eq!(world.told_all, 0);
    let until = 6_400;
    assert!(ask_on(&mut world, 2, PLAIN_A, until) > 0, "it admits by young facts");
}

#[test]
fn a_gateway_that_could_never_be_registered_admits_nobody() {
    let mut world = Stage::new().world(2, 1, settings(Guide::One, WaitReplicas::All, 5_000), Chance::new(8));
    world.cluster.unlisted.insert(1);
    let admitted = ask_at(&mut world, 1, PLAIN_A, 1_500);
    world.begin(cut_off(1));
    revoke_and_wait(&mut world, PLAIN_A);
    let until = world.now + 1_000;
    assert_eq!(ask_on(&mut world, 1, PLAIN_A, until), 0);
    assert!(!admitted);
    // The twin: once it is registered.
    world.open_path(1);
    world.cluster.unlisted.clear();
    world.run_until(world.now + 3_000);
    let at = world.now;
    assert!(ask_at(&mut world, 1, CALM, at));
}

#[test]
fn whoever_lost_its_id_to_another_process_is_counted() {
    let mut world = Stage::new().world(3, 1, settings(Guide::One, WaitReplicas::All, 12_000), Chance::new(9));
    world.around.calm_since = None;
    assert!(ask_at(&mut world, 1, PLAIN_A, 1_000), "its facts are remembered from here on");
    world.begin(cut_off(1));
    world.run_until(7_500);
    world.model.ids[2] = world.model.ids[1].clone();
    world.begin(Fault::Restart(2));
    world.run_until(8_500);
    revoke_and_wait(&mut world, PLAIN_A);
    assert_eq!(world.told_all, 0);
    let until = 12_000;
    assert!(ask_on(&mut world, 1, PLAIN_A, until) > 0, "it admits by what it read before");
}

#[test]
fn a_change_that_one_replica_lacks_is_not_acknowledged_where_all_are_waited_for() {
    for (wait_replicas, acknowledged) in [(WaitReplicas::All, false), (WaitReplicas::Count(1), true)] {
        let mut world = Stage::new().world(2, 3, settings(Guide::Sentinels, wait_replicas, 4_000), Chance::new(10));
        world.run_until(1_500);
        world.cluster.link(2, false);
        world.operate(0, Change::Revoke(PLAIN_A));
        world.run_until(5_000);
        let (_, _, done) = world.done[0];
        assert_eq!(done, acknowledged, "{wait_replicas:?}");
        // The twin: all of them have it.
        world.cluster.link(2, true);
        world.operate(0, Change::Revoke(PLAIN_B));
        world.run_until(8_000);
        assert!(world.done[1].2, "{:?}", world.story);
    }
}

#[test]
fn an_exchanged_entry_harms_its_own_credential_only() {
    let mut world = Stage::new().world(1, 1, settings(Guide::One, WaitReplicas::All, 2_500), Chance::new(11));
    // From here on nobody may be told that the store fails, since nothing does.
    world.run_until(7_000);
    world.exchange(PLAIN_A, PLAIN_B);
    for round in 0..8 {
        for key in [PLAIN_A, PLAIN_B] {
            let at = world.now + 20;
            assert!(!ask_at(&mut world, 0, key, at));
        }
        let unknown = KNOWN + round % 2;
        let at = world.now + 20;
        assert!(!ask_at(&mut world, 0, unknown, at));
        let at = world.now + 20;
        assert!(ask_at(&mut world, 0, CALM, at));
        assert_eq!(world.model.violations, Vec::<String>::new(), "{:#?}", world.story);
    }
}
