//! What a seed makes happen.

use std::rc::Rc;
use std::time::Duration;

use durward::store::redis::WaitReplicas;

use crate::cast::Cast;
use crate::chance::Chance;
use crate::database::Database;
use crate::faults::{Act, Fault};
use crate::gateway::{Guide, Settings, Suspension};
use crate::model::recovery;
use crate::paths::Flow;
use crate::sentinels::SENTINELS;
use crate::world::{Event, World};

/// When gateways have started and callers come.
const OPENING: u64 = 1_000;

/// When the first fault may begin ...
const FIRST: u64 = 1_600;

/// ... and when the last one is over.
const CALM: u64 = 9_000;

/// How long all must be well at the end.
const EVENING: u64 = 1_500;

/// Whether routes are served. What they make has random ids and keys, by which memory orders what it reads again:
/// with them two runs of a seed draw the same, and are not the same to the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    None,
    Served,
}

/// What became of a seed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: u64,
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    pub(crate) unavailable: u64,
    pub(crate) changes: u64,
    pub(crate) served: u64,
    /// Revocations whose receipts an operator was told of, and those that all had confirmed.
    pub(crate) told: (u64, u64),
    /// What happened, if a rule was broken.
    pub(crate) story: Vec<String>,
}

/// Where every simulation on a thread begins.
pub(crate) struct Stage {
    cast: Rc<Cast>,
    data: Database,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let cast = Rc::new(Cast::new());
        let settings = Settings {
            max_age: Duration::from_secs(2),
            absent_age: Duration::from_secs(1),
            wait_replicas: WaitReplicas::Count(0),
            guide: Guide::One,
            id: String::new(),
            seed: 0,
        };
        let data = World::first_data(&cast, &settings);
        Self { cast, data }
    }

    /// A world with everybody of the cast, in which nothing happens by itself.
    pub(crate) fn world(&self, gateways: usize, nodes: usize, settings: Settings, chance: Chance) -> World {
        World::new(Rc::clone(&self.cast), &self.data, gateways, nodes, settings, chance)
    }

    /// Plays a seed to its end, or to the first rule that is broken.
    pub(crate) fn play(&self, seed: u64) -> Outcome {
        self.play_with(seed, Calls::Served)
    }

    /// The same with or without served calls.
    pub(crate) fn play_with(&self, seed: u64, calls: Calls) -> Outcome {
        let mut chance = Chance::new(seed);
        let nodes = chance.pick(&[1, 2, 2, 3]);
        let guide = if nodes > 1 {
            chance.pick(&[Guide::One, Guide::Sentinels])
        } else {
            Guide::One
        };
        let ages = match guide {
            Guide::One => [1_000, 1_500, 2_500],
            Guide::Sentinels => [2_000, 2_500, 4_000],
        };
        let settings = Settings {
            max_age: Duration::from_millis(chance.pick(&ages)),
            absent_age: Duration::from_millis(chance.pick(&[300, 800])),
            wait_replicas: match nodes {
                1 => WaitReplicas::All,
                _ => chance.pick(&[WaitReplicas::Count(0), WaitReplicas::Count(1), WaitReplicas::All, WaitReplicas::All]),
            },
            guide,
            id: String::new(),
            seed: 0,
        };
        let gateways = chance.pick(&[2, 2, 3, 4]);
        let faults: Vec<(u64, u64, Fault)> = (0..chance.between(1, 6)).flat_map(|_| draw(&mut chance, gateways, guide)).collect();
        let mut world = self.world(gateways, nodes, settings, chance);
        for g in 0..gateways {
            world.after(OPENING, Event::Act(Act::Traffic(g)));
        }
        world.after(OPENING, Event::Act(Act::Operate));
        if calls == Calls::Served {
            world.after(OPENING, Event::Act(Act::Serve));
        }
        // No two machines show the same time.
        for node in &mut world.cluster.nodes {
            node.ahead = i64::try_from(world.chance.below(1_000)).unwrap() - 500;
        }
        let back_up = world.chance.between(OPENING, CALM);
        world.after(back_up, Event::Act(Act::BackUp));
        for (begin, end, fault) in faults {
            let begin = begin.min(CALM - 200);
            world.after(begin, Event::Act(Act::Begin(fault)));
            world.after(end.clamp(begin, CALM - 100), Event::Act(Act::End(fault)));
        }
        world.after(CALM, Event::Act(Act::Calm));
        let evening = CALM + recovery(guide);
        world.after(evening + EVENING / 2, Event::Act(Act::AskAll));
        world.run_until(evening + EVENING);
        if world.model.violations.is_empty() {
            world.model.judge_end(gateways, evening, world.around);
        }
        let broken = !world.model.violations.is_empty();
        Outcome {
            violations: std::mem::take(&mut world.model.violations),
            trace: world.trace,
            admitted: world.model.admitted,
            refused: world.model.refused,
            unavailable: world.model.unavailable,
            changes: world.changes,
            served: world.model.served,
            told: (world.told, world.told_all),
            story: if broken { std::mem::take(&mut world.story) } else { Vec::new() },
        }
    }
}

/// A fault, when it begins and when it ends; some do not come alone.
fn draw(chance: &mut Chance, gateways: usize, guide: Guide) -> Vec<(u64, u64, Fault)> {
    let begin = chance.between(FIRST, CALM - 1_000);
    let lasts = chance.pick(&[200, 1_000, 2_500, 4_000]);
    let end = (begin + chance.between(lasts / 2, lasts)).min(CALM - 100);
    let gateway = chance.index(gateways);
    if guide == Guide::Sentinels && chance.one_in(3) {
        return draw_failover(chance, (begin, end), gateway);
    }
    let fault = match chance.below(24) {
        0..4 => {
            let (up, down) = chance.pick(&[(Flow::Held, Flow::Held), (Flow::Held, Flow::Open), (Flow::Open, Flow::Held)]);
            Fault::Partition { gateway, up, down }
        }
        4..6 => Fault::Slow(gateway),
        6 => Fault::Reset(gateway),
        7 => Fault::Hang,
        8 => Fault::Crash,
        9..11 => Fault::Failover,
        11 => Fault::Lag,
        12 => Fault::Flush,
        13 => Fault::GoBack,
        14 => {
            let trim = Fault::Trim(usize::try_from(chance.below(3)).unwrap_or(0));
            // What is trimmed away is missed only by who could not ask for it in time.
            let (up, down) = (Flow::Held, Flow::Open);
            let held = (begin - chance.between(50, 700), begin + chance.between(50, 500));
            return vec![(begin, end, trim), (held.0, held.1, Fault::Partition { gateway, up, down })];
        }
        15 => Fault::Swap,
        16 => Fault::Suspend(gateway, Suspension::Process),
        17 => Fault::Suspend(gateway, Suspension::Machine),
        18 => Fault::WrongClock(gateway),
        19 => Fault::Planned,
        20 => Fault::ListLost,
        22 => Fault::Exchange(chance.pick(&[0, 1]), chance.pick(&[4, 6])),
        21 => Fault::EntryLost(gateway),
        _ => Fault::Restart(gateway),
    };
    vec![(begin, end, fault)]
}

/// A failover by sentinels as something goes wrong with those who must hear of it.
fn draw_failover(chance: &mut Chance, (begin, end): (u64, u64), gateway: usize) -> Vec<(u64, u64, Fault)> {
    let sentinel = chance.index(SENTINELS);
    match chance.below(4) {
        0 => vec![(begin, end, Fault::Planned)],
        1 => vec![(begin, end, Fault::CutOff { gateway, sentinel })],
        // The gateway's sentinels are held before the switch, and the old primary believes after it.
        2 => {
            let switch = begin + chance.between(0, 600);
            let fault = chance.pick(&[Fault::Planned, Fault::Failover]);
            vec![
                (begin, end, Fault::HeldSentinels(gateway)),
                (switch, switch, fault),
                (switch + chance.between(300, 4_500), end.max(switch + 300), Fault::Believe),
            ]
        }
        // Replicas lag, so that the one that is taken may not be the one that confirmed.
        _ => {
            let switch = begin + chance.between(200, 1_500);
            vec![(begin, end, Fault::Lag), (switch, switch, Fault::Planned)]
        }
    }
}
