//! Servers that die, take over, believe, follow, and go back to older data.

use durward::base::principal::CredentialState;
use durward::store::codec::decode_credential;
use durward::store::redis::WaitReplicas;

use crate::cast::{KEYS, TENANTS};
use crate::cluster::{CREDENTIALS, Condition, FINGERPRINTS};
use crate::database::Database;
use crate::faults::Act;
use crate::gateway::{Change, Guide};
use crate::paths::Side;
use crate::world::{Event, Operated, World};

/// Whether the old primary is well when another one takes over: then any replica is taken, and not the one that heard
/// most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planned {
    Yes,
    No,
}

impl World {
    pub(crate) fn set_condition(&mut self, node: usize, condition: Condition) {
        self.cluster.nodes[node].condition = condition;
        if condition == Condition::Down {
            self.cluster.nodes[node].died = self.now;
        }
        if condition == Condition::Up {
            self.away &= node != self.cluster.primary;
            for conn in self.cluster.conns_to(Some(node)) {
                self.cluster.serve(self.now, conn);
            }
            self.cluster.wake(self.now);
            self.collect();
        }
    }

    pub(crate) fn kill_primary(&mut self) {
        let primary = self.cluster.primary;
        self.set_condition(primary, Condition::Down);
        self.cluster.start_again(primary);
        self.away = true;
        for conn in self.cluster.conns_to(Some(primary)) {
            self.break_conn(conn);
        }
    }

    /// The primary, a gateway and a sentinel reach each other and nobody else. The others elect another primary.
    pub(crate) fn cut_off(&mut self, gateway: usize, sentinel: usize) {
        let node = self.cluster.primary;
        self.sentinels.cut = Some(sentinel);
        self.paths[gateway].side = Some(Side { node, sentinel });
        self.model.cut_off.insert(gateway, self.now);
        let pause = self.chance.between(200, 1_500);
        self.after(pause, Event::Act(Act::Promote));
    }

    pub(crate) fn promote(&mut self, planned: Planned) {
        let old = self.cluster.primary;
        let replicas = self.cluster.replicas();
        let best = match planned {
            Planned::Yes if !replicas.is_empty() => Some(self.chance.pick(&replicas)),
            Planned::Yes => None,
            Planned::No => self.cluster.best_replica(),
        };
        let Some(best) = best else {
            self.set_condition(old, Condition::Up);
            return;
        };
        let before = self.cluster.written();
        let kept = self.cluster.promote(best);
        self.deposed = Some(old);
        self.report(format_args!("node {best} takes over from {old} with {kept} of {before} writes"));
        if kept < before {
            self.around.went_back = true;
            if self.may_lose(planned) {
                self.model.lose_after(kept);
            }
            self.model.mix_histories();
        }
        self.judge_survival(planned);
        match self.settings.guide {
            Guide::One => {
                self.away = false;
                // The old one comes back as a replica.
                self.cluster.nodes[old].condition = Condition::Up;
                self.cluster.demote(self.now, old);
                self.heal_replicas();
            }
            Guide::Sentinels => self.tell_of_failover(old, best),
        }
    }

    /// Whether acknowledged changes may be lost with this failover.
    fn may_lose(&self, planned: Planned) -> bool {
        match self.settings.wait_replicas {
            WaitReplicas::All => false,
            WaitReplicas::Count(0) => true,
            WaitReplicas::Count(awaited) => planned == Planned::Yes && awaited as usize + 1 < self.cluster.nodes.len(),
        }
    }

    /// A revocation was acknowledged by a gateway that made changes where the primary was before. Unless it was made
    /// elsewhere, nobody will know it: where all replicas are waited for, that must not happen.
    pub(crate) fn judge_strayed(&mut self, change: Change, at: u64) {
        let Change::Revoke(key) = change else { return };
        let id = self.model.callers[key].id.clone();
        if self.settings.wait_replicas == WaitReplicas::All && !self.is_revoked(&id) && !self.model.is_doubtful(key) {
            let broken = format!("the revocation of {id}, acknowledged at {at}, was made where the primary was before");
            self.model.violations.push(broken);
        }
    }

    /// Whether the primary holds this credential as revoked.
    fn is_revoked(&self, id: &str) -> bool {
        let record = self.cluster.primary().database.field(CREDENTIALS, id);
        let record = record.and_then(|record| decode_credential(record).ok());
        record.is_some_and(|record| matches!(record.state, CredentialState::Revoked { .. }))
    }

    /// Every revocation that was acknowledged is known to whoever has taken over.
    fn judge_survival(&mut self, planned: Planned) {
        // What was flushed comes back with the copy.
        if self.may_lose(planned) || !self.cluster.holds_data() {
            return;
        }
        let revocations: Vec<_> = self.model.kept_revocations().collect();
        let lost: Vec<_> = revocations.into_iter().filter(|(_, id)| !self.is_revoked(id)).collect();
        for (at, id) in lost {
            let now = self.now;
            let broken = format!("the revocation of {id}, acknowledged at {at}, is lost by the failover at {now}");
            self.model.violations.push(broken);
        }
    }

    /// One sentinel leads, another one makes the majority, the third hears of it after a while; so do the other
    /// replicas and, last, the old primary, which believes until then that it is one.
    fn tell_of_failover(&mut self, old: usize, best: usize) {
        let view = self.sentinels.elect(best);
        let mut others: Vec<usize> = (0..crate::sentinels::SENTINELS)
            .filter(|s| self.sentinels.cut != Some(*s))
            .collect();
        let mut at = self.chance.between(20, 400);
        for longest in [600, 2_500, 2_500] {
            if others.is_empty() {
                break;
            }
            let sentinel = others.swap_remove(self.chance.index(others.len()));
            self.after(at, Event::Act(Act::Hear(sentinel, view)));
            at += self.chance.between(10, longest);
        }
        for node in self.cluster.replicas_of(old) {
            let pause = self.chance.between(20, 900);
            self.after(pause, Event::Act(Act::Follow(node)));
        }
        let mut pause = self.chance.between(300, 4_000);
        if self.cluster.nodes[old].condition == Condition::Down {
            let back = self.chance.between(200, 3_000);
            self.after(back, Event::Act(Act::Return(old)));
            pause += back;
        }
        self.after(pause, Event::Act(Act::Follow(old)));
    }

    /// Nobody reaches a node that is cut off: it is told when it is reached again.
    pub(crate) fn tell_to_follow(&mut self, node: usize) {
        if self.paths.iter().any(|path| path.side.is_some_and(|side| side.node == node)) {
            self.after(300, Event::Act(Act::Follow(node)));
            return;
        }
        self.cluster.demote(self.now, node);
        self.collect();
    }

    pub(crate) fn demote_believers(&mut self) {
        for node in 0..self.cluster.nodes.len() {
            if self.cluster.believes(node) {
                self.cluster.demote(self.now, node);
            }
        }
        self.collect();
    }

    /// A change is made where the primary was before: nobody will know it.
    pub(crate) fn note_strayed(&mut self, g: usize) {
        self.strayed.insert(g, self.now);
        self.around.went_back = true;
        self.model.mix_histories();
    }

    pub(crate) fn note_operated(&mut self, gateway: usize, number: u64) {
        let begun = self.now;
        self.operated.insert(number, Operated { gateway, begun });
    }

    /// Whether this change or call, which has ended, was made where the primary was before, or may have been.
    pub(crate) fn has_strayed(&self, number: u64) -> bool {
        let Some(asked) = self.operated.get(&number) else { return false };
        self.strayed.get(&asked.gateway).is_some_and(|at| *at >= asked.begun)
    }

    pub(crate) fn heal_replicas(&mut self) {
        self.lag = (1, 30);
        for node in 0..self.cluster.nodes.len() {
            self.cluster.nodes[node].linked = true;
        }
        self.cluster.follow_primary();
        self.cluster.wake(self.now);
        self.collect();
    }

    /// Copies the data, unless there is a copy, or none.
    pub(crate) fn back_up(&mut self) {
        if self.older.is_none() && self.cluster.holds_data() {
            self.older = Some(self.cluster.primary().database.clone());
            self.older_written = self.cluster.written();
        }
    }

    pub(crate) fn go_back(&mut self, data: Option<Database>) {
        self.around.went_back = true;
        self.model.lose_after(self.older_written);
        self.model.mix_histories();
        self.cluster.replace_data(self.now, data.unwrap_or_default());
        self.model.count_anew();
        self.collect();
    }

    /// Lets the index of the store lead from each of two keys to the other.
    pub(crate) fn exchange(&mut self, one: usize, other: usize) {
        self.model.exchanged.extend([one, other]);
        self.point_at(one, other);
        self.point_at(other, one);
    }

    pub(crate) fn mend_index(&mut self) {
        for key in self.model.exchanged.clone() {
            self.point_at(key, key);
        }
    }

    fn point_at(&mut self, key: usize, at: usize) {
        if self.cluster.holds_data() {
            let entry = format!("{} {}", KEYS[at].name, TENANTS[KEYS[at].tenant.unwrap()]);
            self.cluster.inject(self.now, &["HSET", FINGERPRINTS, &self.cast.hex[key], &entry]);
            self.collect();
        }
    }
}
