//! What goes wrong in a simulated world, what callers and operators do there, and how it ends.

use std::rc::Rc;
use std::time::Duration;

use crate::cluster::{Condition, EVENTS, GATEWAYS};
use crate::failover::Planned;
use crate::gateway::{Change, Suspension};
use crate::paths::Flow;
use crate::pipe::Arrived;
use crate::sentinels::View;
use crate::world::{Event, World};

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Act {
    /// Callers at a gateway, again and again.
    Traffic(usize),
    /// An operator changes something, again and again.
    Operate,
    /// Somebody calls a served route, again and again.
    Serve,
    /// A fault begins.
    Begin(Fault),
    /// A fault ends.
    End(Fault),
    /// Everything that is wrong ends.
    Calm,
    /// A replica takes over from a primary that does not answer.
    Promote,
    /// A sentinel hears who is the primary.
    Hear(usize, View),
    /// A node is told to follow the primary, or a dead one starts again.
    Follow(usize),
    Return(usize),
    /// Somebody copies the data of the store.
    BackUp,
    /// One request with each key at each gateway.
    AskAll,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No bytes pass between a gateway and the store, in the directions said.
    Partition {
        gateway: usize,
        up: Flow,
        down: Flow,
    },
    /// Bytes of a gateway are late.
    Slow(usize),
    /// Every connection of a gateway breaks.
    Reset(usize),
    /// The primary stops and goes on.
    Hang,
    /// The primary's process dies and starts again with its data.
    Crash,
    /// The primary dies, and a replica takes over.
    Failover,
    /// A replica takes over from a primary that is well, as operators ask for it: any of them.
    Planned,
    /// The primary is cut off together with a gateway and a sentinel, and a replica takes over.
    CutOff {
        gateway: usize,
        sentinel: usize,
    },
    /// The list of receipts is deleted, or an entry of it.
    ListLost,
    EntryLost(usize),
    /// The index leads from each of two keys to the other.
    Exchange(usize, usize),
    /// No bytes pass between a gateway and the sentinels.
    HeldSentinels(usize),
    /// The node that was the primary before takes itself for one again.
    Believe,
    /// Replicas hear nothing, or late.
    Lag,
    /// All data is gone; it comes back from a copy.
    Flush,
    /// The store goes back to older data.
    GoBack,
    /// The stream of events is cut to its last entries.
    Trim(usize),
    /// Answers to look-ups reach those who asked something else.
    Swap,
    /// A gateway stands still.
    Suspend(usize, Suspension),
    /// A gateway's wall clock is wrong.
    WrongClock(usize),
    /// A gateway's process dies and starts again.
    Restart(usize),
}

impl Fault {
    /// Whether the list of gateways may have lost one after it, as far as anybody can know.
    const fn may_lose_gateways(self) -> bool {
        matches!(
            self,
            Self::Crash
                | Self::Failover
                | Self::Planned
                | Self::CutOff { .. }
                | Self::Believe
                | Self::Flush
                | Self::GoBack
                | Self::ListLost
                | Self::EntryLost(_)
                | Self::Restart(_)
        )
    }
}

impl World {
    pub(crate) fn act(&mut self, act: Act) {
        if !matches!(act, Act::Traffic(_) | Act::Operate | Act::Serve) {
            self.report(format_args!("{act:?}"));
        }
        match act {
            Act::Traffic(g) => {
                self.traffic(g);
                let pause = self.chance.between(30, 250);
                self.after(pause, Event::Act(Act::Traffic(g)));
            }
            Act::Operate => {
                let change = self.draw_change();
                let g = self.chance.index(self.gateways.len());
                let waits = matches!(change, Change::Revoke(_)) && self.chance.one_in(2);
                let wait = waits.then(|| Duration::from_millis(self.chance.pick(&[0, 300, 1_500, 3_000])));
                self.operate_and_wait(g, change, wait);
                let pause = self.chance.between(100, 1_500);
                self.after(pause, Event::Act(Act::Operate));
            }
            Act::Serve => {
                let g = self.chance.index(self.gateways.len());
                let drawn = self.draw_call();
                self.serve(g, drawn);
                let pause = self.chance.between(100, 900);
                self.after(pause, Event::Act(Act::Serve));
            }
            Act::Begin(fault) => {
                self.around.calm_since = None;
                self.list_lost |= fault.may_lose_gateways();
                self.begin(fault);
            }
            Act::End(fault) => self.end(fault),
            Act::Calm => self.calm_down(),
            // Its failover began before all was well again.
            Act::Promote if self.around.calm_since.is_some() => {}
            Act::Promote => self.promote(Planned::No),
            Act::Hear(sentinel, view) => self.sentinels.hear(sentinel, view),
            Act::Follow(node) => self.tell_to_follow(node),
            Act::Return(node) => self.set_condition(node, Condition::Up),
            Act::BackUp => self.back_up(),
            Act::AskAll => {
                self.model.asked = self.texts.len();
                for g in 0..self.gateways.len() {
                    self.run_gateway(g, self.now);
                    for (key, text) in self.texts.iter().enumerate() {
                        self.gateways[g].request(key, Rc::clone(text));
                    }
                    self.after(0, Event::Run(g));
                }
            }
        }
    }

    pub(crate) fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Partition { gateway, up, down } => {
                // What another partition held comes before what this one lets through.
                self.open_path(gateway);
                let path = &mut self.paths[gateway];
                (path.up, path.down) = (up, down);
                if self.chance.one_in(2) {
                    path.sentinels = Flow::Held;
                }
            }
            Fault::Slow(g) => self.paths[g].delay = self.chance.pick(&[(20, 120), (60, 200), (100, 400)]),
            Fault::Reset(g) => {
                for conn in self.cluster.conns_to(None) {
                    if crate::world::gateway_of(conn) == g {
                        self.break_conn(conn);
                    }
                }
            }
            Fault::Hang => self.set_condition(self.cluster.primary, Condition::Hung),
            Fault::Crash => self.kill_primary(),
            Fault::Failover => {
                self.kill_primary();
                let pause = self.chance.between(200, 3_000);
                self.after(pause, Event::Act(Act::Promote));
            }
            Fault::Planned => self.promote(Planned::Yes),
            Fault::CutOff { gateway, sentinel } => self.cut_off(gateway, sentinel),
            Fault::HeldSentinels(g) => self.paths[g].sentinels = Flow::Held,
            Fault::Believe => {
                if let Some(node) = self.deposed.filter(|node| *node != self.cluster.primary) {
                    self.cluster.believe(node);
                }
            }
            Fault::Lag => {
                self.lag = (50, 900);
                let node = self.chance.index(self.cluster.nodes.len());
                let linked = self.chance.one_in(2);
                self.cluster.link(node, linked);
            }
            Fault::ListLost | Fault::EntryLost(_) | Fault::Exchange(..) | Fault::Flush | Fault::GoBack | Fault::Trim(_) => {
                self.harm_data(fault);
            }
            Fault::Swap => self.swapped = true,
            Fault::Suspend(g, how) => {
                self.run_gateway(g, self.now);
                self.gateways[g].suspend(how);
            }
            Fault::WrongClock(g) => {
                let by = self.chance.pick(&[-3_600_000, -60_000, -2_500, 2_500, 60_000, 3_600_000]);
                self.gateways[g].step_wall(by);
                self.model.note_clock(g, by);
            }
            Fault::Restart(g) => self.restart(g),
        }
    }

    /// Something happens to what the store holds.
    fn harm_data(&mut self, fault: Fault) {
        match fault {
            Fault::ListLost => {
                self.cluster.inject(self.now, &["DEL", GATEWAYS]);
                self.collect();
            }
            Fault::EntryLost(g) => {
                let entries = self.cluster.entries(GATEWAYS, &self.model.ids[g]);
                for entry in entries {
                    self.cluster.inject(self.now, &["HDEL", GATEWAYS, &entry]);
                }
                self.collect();
            }
            Fault::Exchange(one, other) => self.exchange(one, other),
            Fault::Flush => {
                self.back_up();
                if self.older.is_some() {
                    self.go_back(None);
                }
            }
            Fault::GoBack => {
                if let Some(data) = self.older.take() {
                    self.go_back(Some(data));
                }
            }
            Fault::Trim(kept) => {
                let primary = self.cluster.primary;
                self.cluster.nodes[primary].database.trim(EVENTS, kept);
                for g in 0..self.gateways.len() {
                    self.model.note_gap(g, self.now);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Partition { gateway, .. } | Fault::HeldSentinels(gateway) => self.open_path(gateway),
            Fault::CutOff { gateway, .. } => {
                self.sentinels.cut = None;
                self.sentinels.agree();
                self.open_path(gateway);
            }
            Fault::Believe => self.demote_believers(),
            Fault::Exchange(..) => self.mend_index(),
            Fault::Slow(g) => self.paths[g].delay = (1, 12),
            Fault::Hang | Fault::Crash => self.set_condition(self.cluster.primary, Condition::Up),
            Fault::Lag => self.heal_replicas(),
            Fault::Flush => {
                if let Some(data) = self.older.take() {
                    self.spare = Some(data.clone());
                    self.go_back(Some(data));
                }
            }
            Fault::Swap => self.swapped = false,
            Fault::Suspend(g, _) => {
                self.resume(g);
                self.after(0, Event::Run(g));
            }
            Fault::Reset(_)
            | Fault::Failover
            | Fault::Planned
            | Fault::ListLost
            | Fault::EntryLost(_)
            | Fault::GoBack
            | Fault::Trim(_)
            | Fault::WrongClock(_)
            | Fault::Restart(_) => {}
        }
    }

    fn resume(&mut self, g: usize) {
        if self.gateways[g].is_suspended() {
            self.model.note_resumed(g, self.now);
        }
        self.gateways[g].resume(self.now);
    }

    pub(crate) fn break_conn(&mut self, conn: u64) {
        self.cluster.disconnect(conn);
        self.send_down(conn, Arrived::Reset);
    }

    fn restart(&mut self, g: usize) {
        self.resume(g);
        self.take_from(g);
        let given_up: Vec<u64> = self
            .operated
            .extract_if(.., |_, asked| asked.gateway == g)
            .map(|(number, _)| number)
            .collect();
        for number in given_up {
            self.model.give_up(number);
        }
        self.model.forget_gateway(g, self.now);
        let fresh = self.start_gateway(g);
        drop(std::mem::replace(&mut self.gateways[g], fresh));
        self.take_from(g);
        self.after(0, Event::Run(g));
    }

    fn calm_down(&mut self) {
        for node in 0..self.cluster.nodes.len() {
            self.set_condition(node, Condition::Up);
        }
        self.sentinels.cut = None;
        self.sentinels.agree();
        for g in 0..self.gateways.len() {
            self.resume(g);
            self.open_path(g);
            self.paths[g].delay = (1, 12);
            self.gateways[g].step_wall(0);
            self.after(0, Event::Run(g));
        }
        self.swapped = false;
        self.end(Fault::Flush);
        self.demote_believers();
        self.heal_replicas();
        // A replica without data was promoted after the copy had been restored: it is restored again.
        if !self.cluster.holds_data()
            && let Some(data) = self.spare.take()
        {
            self.older_written = 0;
            self.go_back(Some(data));
        }
        self.mend_index();
        self.around.calm_since = Some(self.now);
    }
}
