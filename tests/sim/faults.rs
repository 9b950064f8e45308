//! What goes wrong in a simulated world, what callers and operators do there, and how it ends.

use std::rc::Rc;

use durward::base::principal::MAX_ANCESTORS;

use crate::calls::Drawn;
use crate::cast::{ACCOUNTS, KEYS, KNOWN};
use crate::cluster::{Condition, EVENTS};
use crate::database::Database;
use crate::gateway::{Change, Suspension};
use crate::model::changeable;
use crate::pipe::Arrived;
use crate::served::Asked;
use crate::world::{Event, Flow, World};

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
    /// A replica takes over.
    Promote,
    /// Somebody copies the data of the store.
    BackUp,
    /// One request with each key at each gateway.
    AskAll,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No bytes pass between a gateway and the store, in the directions said.
    Partition { gateway: usize, up: Flow, down: Flow },
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

/// Most keys that are made while a seed is played.
const MADE: usize = 14;

/// Keys that callers like: a few are hot, so that they are refreshed.
const HOT: [usize; 4] = [0, 2, 4, 5];

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
                self.operate(g, change);
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
                self.begin(fault);
            }
            Act::End(fault) => self.end(fault),
            Act::Calm => self.calm_down(),
            // Its failover began before all was well again.
            Act::Promote if self.around.calm_since.is_some() => {}
            Act::Promote => self.promote(),
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

    fn traffic(&mut self, g: usize) {
        if self.gateways[g].is_suspended() {
            return;
        }
        self.run_gateway(g, self.now);
        for _ in 0..self.chance.between(1, 3) {
            let key = if self.chance.one_in(2) {
                self.chance.index(self.texts.len())
            } else {
                self.chance.pick(&HOT)
            };
            self.gateways[g].request(key, Rc::clone(&self.texts[key]));
        }
        self.after(0, Event::Run(g));
    }

    /// Mostly what makes something, and what is made is soon a caller itself; but no chain gets longer than a store
    /// takes it.
    fn draw_call(&mut self) -> Drawn {
        let asked = self.chance.pick(&[
            Asked::Child,
            Asked::Child,
            Asked::Child,
            Asked::Free,
            Asked::LogIn,
            Asked::LogIn,
            Asked::Rotate,
            Asked::Revoke,
            Asked::LogOut,
            Asked::List,
        ]);
        let made = KEYS.len()..self.texts.len();
        let sessions: Vec<usize> = made.clone().filter(|key| self.model.callers[*key].session_of.is_some()).collect();
        let full = self.texts.len() >= KEYS.len() + MADE;
        let makes = matches!(asked, Asked::Child | Asked::Free | Asked::LogIn | Asked::Rotate);
        let caller = match asked {
            Asked::LogIn if !full => self.chance.index(ACCOUNTS.len()),
            Asked::LogOut if !sessions.is_empty() => self.chance.pick(&sessions),
            _ if !made.is_empty() && self.chance.one_in(2) => KEYS.len() + self.chance.index(made.len()),
            _ => self.chance.index(KNOWN),
        };
        let deep = asked == Asked::Child && self.model.callers.get(caller).is_some_and(|caller| caller.depth() > MAX_ANCESTORS);
        Drawn {
            asked: if full && makes || deep { Asked::List } else { asked },
            caller,
            target: (!made.is_empty()).then(|| KEYS.len() + self.chance.index(made.len())),
            held: self.chance.pick(&[0, 0, 50, 400, 1_500, 3_000]),
        }
    }

    fn draw_change(&mut self) -> Change {
        let mut keys: Vec<usize> = changeable().collect();
        keys.extend(KEYS.len()..self.texts.len());
        let key = self.chance.pick(&keys);
        let account = self.chance.index(ACCOUNTS.len());
        match self.chance.below(18) {
            12 => return Change::DisableAccount(account),
            13 | 14 => return Change::EnableAccount(account),
            15 => return Change::EndSessions(account),
            16 | 17 => return Change::SetPassword(account, self.model.accounts[account].next_password()),
            _ => {}
        }
        match self.chance.below(12) {
            0..3 => Change::Revoke(key),
            3..5 => Change::Disable(key),
            5..8 => Change::Enable(key),
            8 => Change::SuspendTenant(0),
            9 => Change::ResumeTenant(0),
            10 => Change::NarrowRole,
            _ => Change::WidenRole,
        }
    }

    pub(crate) fn operate(&mut self, g: usize, change: Change) {
        if self.gateways[g].is_suspended() || !self.gateways[g].is_open() {
            return;
        }
        self.changes += 1;
        let number = self.changes;
        self.report(format_args!("gateway {g} is asked for {change:?}, number {number}"));
        if self.model.begin(change, self.changes, self.now) {
            self.run_gateway(g, self.now);
            self.gateways[g].operate(change, self.id_of(change), self.changes);
            self.operated.push((g, self.changes));
            self.after(0, Event::Run(g));
        }
    }

    pub(crate) fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Partition { gateway, up, down } => {
                // What another partition held comes before what this one lets through.
                self.open_path(gateway);
                let path = &mut self.paths[gateway];
                (path.up, path.down) = (up, down);
            }
            Fault::Slow(g) => self.paths[g].delay = self.chance.pick(&[(20, 120), (60, 200), (100, 400)]),
            Fault::Reset(g) => {
                for conn in self.cluster.conns_to(None) {
                    if crate::world::gateway_of(conn) == g {
                        self.break_conn(conn);
                    }
                }
            }
            Fault::Hang => self.condition(Condition::Hung),
            Fault::Crash => self.kill_primary(),
            Fault::Failover => {
                self.kill_primary();
                let pause = self.chance.between(200, 3_000);
                self.after(pause, Event::Act(Act::Promote));
            }
            Fault::Lag => {
                self.lag = (50, 900);
                let node = self.chance.index(self.cluster.nodes.len());
                self.cluster.nodes[node].linked = self.chance.one_in(2);
            }
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

    pub(crate) fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Partition { gateway, .. } => self.open_path(gateway),
            Fault::Slow(g) => self.paths[g].delay = (1, 12),
            Fault::Hang | Fault::Crash => self.condition(Condition::Up),
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
            Fault::Reset(_) | Fault::Failover | Fault::GoBack | Fault::Trim(_) | Fault::WrongClock(_) | Fault::Restart(_) => {}
        }
    }

    fn resume(&mut self, g: usize) {
        if self.gateways[g].is_suspended() {
            self.model.note_resumed(g, self.now);
        }
        self.gateways[g].resume(self.now);
    }

    fn break_conn(&mut self, conn: u64) {
        self.cluster.disconnect(conn);
        self.send_down(conn, Arrived::Reset);
    }

    fn condition(&mut self, condition: Condition) {
        let primary = self.cluster.primary;
        self.cluster.nodes[primary].condition = condition;
        if condition == Condition::Up {
            self.away = false;
            for conn in self.cluster.conns_to(Some(primary)) {
                self.cluster.serve(self.now, conn);
            }
            self.cluster.wake(self.now);
            self.collect();
        }
    }

    fn kill_primary(&mut self) {
        let primary = self.cluster.primary;
        self.condition(Condition::Down);
        self.cluster.forget_scripts(primary);
        self.away = true;
        for conn in self.cluster.conns_to(Some(primary)) {
            self.break_conn(conn);
        }
    }

    fn promote(&mut self) {
        let (old, Some(best)) = (self.cluster.primary, self.cluster.best_replica()) else {
            self.condition(Condition::Up);
            return;
        };
        let before = self.cluster.written();
        let kept = self.cluster.promote(self.now, best);
        if kept < before {
            self.around.went_back = true;
            if self.settings.wait_replicas == 0 {
                self.model.lose_after(kept);
            }
            self.model.mix_histories();
        }
        self.away = false;
        // The old one comes back as a replica.
        self.cluster.nodes[old].condition = Condition::Up;
        self.heal_replicas();
    }

    fn heal_replicas(&mut self) {
        self.lag = (1, 30);
        for node in &mut self.cluster.nodes {
            node.linked = true;
        }
        self.cluster.follow_primary();
        self.cluster.wake(self.now);
        self.collect();
    }

    /// Copies the data, unless there is a copy, or none.
    fn back_up(&mut self) {
        if self.older.is_none() && self.cluster.holds_data() {
            self.older = Some(self.cluster.primary().database.clone());
            self.older_written = self.cluster.written();
        }
    }

    fn go_back(&mut self, data: Option<Database>) {
        self.around.went_back = true;
        self.model.lose_after(self.older_written);
        self.model.mix_histories();
        self.cluster.replace_data(self.now, data.unwrap_or_default());
        self.model.count_anew();
        self.collect();
    }

    fn restart(&mut self, g: usize) {
        self.resume(g);
        self.take_from(g);
        let given_up: Vec<u64> = self.operated.extract_if(.., |(at, _)| *at == g).map(|(_, number)| number).collect();
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
        self.condition(Condition::Up);
        for g in 0..self.gateways.len() {
            self.resume(g);
            self.open_path(g);
            self.paths[g].delay = (1, 12);
            self.gateways[g].step_wall(0);
            self.after(0, Event::Run(g));
        }
        self.swapped = false;
        self.end(Fault::Flush);
        self.heal_replicas();
        // A replica without data was promoted after the copy had been restored: it is restored again.
        if !self.cluster.holds_data()
            && let Some(data) = self.spare.take()
        {
            self.older_written = 0;
            self.go_back(Some(data));
        }
        self.around.calm_since = Some(self.now);
    }
}
