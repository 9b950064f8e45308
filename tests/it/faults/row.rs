//! One row of the fault table: what happens to the store, and what each kind of caller must be told.

use std::time::{Duration, Instant};

use durward::base::clock;

use crate::support::wait::{PATIENCE, pause, until};

use super::scene::{Caller, Scene, Which, max_age};
use super::watch::{Tick, Watch, percentile};

/// How soon after the store's return nobody may be told 503 any more.
const RECOVERY: Duration = Duration::from_secs(5);

/// What a machine under load may add to any moment that is measured here.
pub(super) const NOISE: Duration = Duration::from_secs(1);

/// How long the 99th of a hundred answers may take: the look-up deadline, and noise.
const ANSWERED: Duration = Duration::from_millis(250);

/// One fault, and what it must look like from outside.
pub(super) struct Row {
    /// As in docs/threats.md.
    pub(super) name: &'static str,
    /// Makes it happen.
    pub(super) inject: fn(&mut Scene),
    /// Lets it go on for so long.
    pub(super) hold: fn(&mut Scene, Duration),
    /// How long that is.
    pub(super) lasts: Duration,
    /// Ends it.
    pub(super) heal: fn(&mut Scene),
    /// Callers whose facts were young (H, J), also if they had been silent for longer than facts live without Redis (S).
    pub(super) known: Known,
    /// Callers whom nobody had met (U), and keys nobody made (B).
    pub(super) unknown: Unknown,
    /// The revoked key (R).
    pub(super) revoked: Revoked,
}

/// What known callers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// 200 all the time.
    Served,
    /// 200 until their facts are too old, then 503.
    UntilTooOld,
    /// 200 or 503, never anything else.
    ServedOrUnavailable,
}

/// What unknown callers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// As ever: 200, or 401 if nobody made the key.
    Served,
    /// 503.
    Unavailable,
    /// As ever, or 503.
    Either,
}

/// When a key is revoked, and what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revoked {
    /// A moment before the fault, and its event is lost: age alone ends it.
    JustBefore,
    /// During the fault, through the other gateway: within the age limit here, at once there.
    Meanwhile,
}

impl Row {
    /// A fault that lasts until the oldest facts are too old, with everything else at its strictest.
    pub(super) fn new(name: &'static str, inject: fn(&mut Scene)) -> Self {
        Self {
            name,
            inject,
            hold: |_, time| pause(time),
            lasts: max_age() + NOISE,
            heal: |scene| scene.proxy.pass(),
            known: Known::UntilTooOld,
            unknown: Unknown::Unavailable,
            revoked: Revoked::Meanwhile,
        }
    }

    /// Plays it, and judges every answer.
    pub(super) fn play(&self) -> Played {
        let mut scene = Scene::open();
        let (hot, session, silent, unseen, gone) = (scene.key(), scene.session(), scene.key(), scene.key(), scene.key());
        assert_eq!(scene.call(Which::Near, &silent).status, 200);
        let used = clock::instant();
        pause((max_age() + Duration::from_millis(200)).saturating_sub(used.elapsed()));
        let watch = |scene: &Scene, caller: &Caller| Watch::start(&scene.near, caller, Duration::from_millis(15));
        let known = [watch(&scene, &hot), watch(&scene, &session)];
        let ending = watch(&scene, &gone);
        let elsewhere = [&hot, &gone].map(|caller| Watch::start(&scene.far, caller, Duration::from_millis(15)));
        for watch in known.iter().chain(&elsewhere).chain([&ending]) {
            until("callers to be known", PATIENCE, || {
                watch.last().filter(|tick| tick.status == 200).map(drop)
            });
        }
        let mut revoked = None;
        let mut revoking = None;
        if self.revoked == Revoked::JustBefore {
            scene.proxy.lose_pushes();
            revoking = Some(clock::instant());
            scene.revoke(&gone);
            revoked = Some(clock::instant());
        }
        scene.proxy.forget();
        (self.inject)(&mut scene);
        let fault = clock::instant();
        if self.revoked == Revoked::Meanwhile {
            revoking = Some(clock::instant());
            scene.revoke(&gone);
            revoked = Some(clock::instant());
        }
        let unknown = [&silent, &unseen].map(|caller| watch(&scene, caller));
        let nobody = watch(&scene, &Caller::nobody());
        (self.hold)(&mut scene, self.lasts.saturating_sub(fault.elapsed()));
        (self.heal)(&mut scene);
        let healed = clock::instant();
        for (watch, status) in known
            .iter()
            .chain(&unknown)
            .map(|watch| (watch, 200))
            .chain([(&nobody, 401), (&ending, 401)])
        {
            until("everybody to be told the truth again", RECOVERY + NOISE, || {
                watch.last().filter(|tick| tick.at > healed && tick.status == status).map(drop)
            });
        }
        let recovery = healed.elapsed();
        let times = Times {
            fault,
            healed,
            revoking: revoking.unwrap_or(fault),
            revoked: revoked.unwrap_or(fault),
            recovered: clock::instant(),
        };
        let played = Played {
            known: known.map(since_known),
            unknown: unknown.map(Watch::finish),
            nobody: nobody.finish(),
            ending: ending.finish(),
            elsewhere: elsewhere.map(since_known),
            times,
            scene,
        };
        self.judge(&played, recovery);
        played
    }

    fn judge(&self, played: &Played, recovery: Duration) {
        let times = &played.times;
        for ticks in &played.known {
            self.judge_known(ticks, times);
        }
        let [silent, unseen] = &played.unknown;
        // Nobody has read the facts of a caller who was silent, but they were revalidated until the fault.
        self.judge_known(silent, times);
        self.judge_unknown(unseen, times, 200);
        self.judge_unknown(&played.nobody, times, 401);
        let ended = self.judge_revoked(&played.ending, times);
        self.judge_elsewhere(&played.elsewhere, times);
        let arrived = played.scene.assert_identities();
        let during = |ticks: &[Tick]| -> Vec<Duration> { times.during(ticks).map(|tick| tick.took).collect() };
        let hot = percentile(during(&played.known[0]), 99);
        let unavailable = played.unknown.iter().flat_map(|ticks| times.during(ticks));
        let unavailable: Vec<Duration> = unavailable.filter(|tick| tick.status == 503).map(|tick| tick.took).collect();
        let (middle, slowest) = (percentile(unavailable.clone(), 50), percentile(unavailable.clone(), 99));
        eprintln!(
            "{}: revoked key admitted for {ended:?} (limit {:?}); known callers p99 {hot:?}; {} times 503, median {middle:?}, p99 {slowest:?}; \
             all well {recovery:?} after the end; {} connects; {arrived} requests arrived",
            self.name,
            max_age(),
            unavailable.len(),
            played.scene.proxy.connects().len(),
        );
        assert!(hot <= ANSWERED + NOISE && slowest <= ANSWERED + NOISE, "{}", self.name);
    }

    fn judge_known(&self, ticks: &[Tick], times: &Times) {
        let oldest = times.fault + max_age();
        // Read again at half their age and a tenth, when the fault began.
        let young = times.fault + max_age().mul_f64(0.3);
        for tick in ticks {
            tick.must_be(self.name, &[200, 503]);
            let must_pass = tick.at + tick.took < young || tick.at > times.recovered || self.known == Known::Served;
            assert!(!must_pass || tick.status == 200, "{}: a known caller: {tick:?}", self.name);
            let too_old = tick.at > oldest && tick.at + tick.took < times.healed && self.known == Known::UntilTooOld;
            assert!(!too_old || tick.status == 503, "{}: too old: {tick:?}", self.name);
        }
        assert!(
            ticks.iter().any(|tick| tick.at > times.fault && tick.status == 200),
            "{}",
            self.name
        );
    }

    fn judge_unknown(&self, ticks: &[Tick], times: &Times, truth: u16) {
        let mut told = [0, 0];
        for tick in ticks {
            tick.must_be(self.name, &[truth, 503]);
            if tick.at + tick.took < times.healed {
                told[usize::from(tick.status == 503)] += 1;
            }
        }
        let [truths, refusals] = told;
        match self.unknown {
            Unknown::Served => assert_eq!(refusals, 0, "{}: {truth}", self.name),
            Unknown::Unavailable => assert!(truths == 0 && refusals > 0, "{}: {truths} times {truth}", self.name),
            Unknown::Either => {}
        }
    }

    /// Answers for how long the revoked key was admitted here.
    fn judge_revoked(&self, ticks: &[Tick], times: &Times) -> Duration {
        for tick in ticks {
            tick.must_be(self.name, &[200, 401, 503]);
            assert!(
                tick.status != 401 || tick.at + tick.took > times.revoking,
                "{}: {tick:?}",
                self.name
            );
        }
        let admitted = ticks.iter().filter(|tick| tick.status == 200).map(|tick| tick.at).max();
        let ended = admitted.map_or(Duration::ZERO, |last| last.saturating_duration_since(times.revoked));
        assert!(ended <= max_age(), "{}: a revoked key was admitted for {ended:?}", self.name);
        ended
    }

    /// The gateway that is well serves all the time, and refuses the revoked key at once.
    fn judge_elsewhere(&self, [hot, gone]: &[Vec<Tick>; 2], times: &Times) {
        if self.revoked == Revoked::JustBefore {
            return;
        }
        assert!(hot.iter().all(|tick| tick.status == 200), "{}: the other gateway", self.name);
        let admitted = gone.iter().filter(|tick| tick.status == 200).map(|tick| tick.at).max();
        let ended = admitted.map_or(Duration::ZERO, |last| last.saturating_duration_since(times.revoked));
        assert!(ended <= NOISE, "{}: admitted elsewhere for {ended:?}", self.name);
    }
}

/// The record of a caller from when it was known: before, a loaded machine may have been too slow.
fn since_known(watch: Watch) -> Vec<Tick> {
    let ticks = watch.finish();
    ticks.into_iter().skip_while(|tick| tick.status != 200).collect()
}

impl Tick {
    fn must_be(&self, name: &str, allowed: &[u16]) {
        assert!(allowed.contains(&self.status), "{name}: {self:?}");
        assert!(
            self.status != 503 || self.retry_after && self.code == "unavailable",
            "{name}: {self:?}"
        );
    }
}

/// When what happened.
pub(super) struct Times {
    pub(super) fault: Instant,
    pub(super) healed: Instant,
    /// When the revocation was asked for, and when it was acknowledged.
    pub(super) revoking: Instant,
    pub(super) revoked: Instant,
    pub(super) recovered: Instant,
}

impl Times {
    /// Answers to what was asked during the fault.
    pub(super) fn during<'t>(&self, ticks: &'t [Tick]) -> impl Iterator<Item = &'t Tick> {
        let (from, to) = (self.fault, self.healed);
        ticks.iter().filter(move |tick| tick.at >= from && tick.at < to)
    }
}

/// A row that was played: for what is particular to it.
pub(super) struct Played {
    pub(super) scene: Scene,
    pub(super) times: Times,
    pub(super) known: [Vec<Tick>; 2],
    pub(super) unknown: [Vec<Tick>; 2],
    pub(super) nobody: Vec<Tick>,
    pub(super) ending: Vec<Tick>,
    pub(super) elsewhere: [Vec<Tick>; 2],
}
