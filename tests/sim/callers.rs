//! What callers and operators do in a simulated world.

use std::rc::Rc;
use std::time::Duration;

use durward::base::principal::MAX_ANCESTORS;

use crate::calls::Drawn;
use crate::cast::{ACCOUNTS, KEYS, KNOWN};
use crate::gateway::Change;
use crate::model::changeable;
use crate::served::Asked;
use crate::world::{Event, World};

/// Most keys that are made while a seed is played.
const MADE: usize = 14;

/// Keys that callers like: a few are hot, so that they are refreshed.
const HOT: [usize; 4] = [0, 2, 4, 5];

impl World {
    pub(crate) fn traffic(&mut self, g: usize) {
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
    pub(crate) fn draw_call(&mut self) -> Drawn {
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

    pub(crate) fn draw_change(&mut self) -> Change {
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
        self.operate_and_wait(g, change, None);
    }

    /// The same, and whoever asks waits for the receipts of all gateways.
    pub(crate) fn operate_and_wait(&mut self, g: usize, change: Change, wait: Option<Duration>) {
        if self.gateways[g].is_suspended() || !self.gateways[g].is_open() {
            return;
        }
        self.changes += 1;
        let number = self.changes;
        self.report(format_args!("gateway {g} is asked for {change:?}, number {number}"));
        if self.model.begin(change, self.changes, self.now) {
            self.run_gateway(g, self.now);
            self.gateways[g].operate(change, self.id_of(change), self.changes, wait);
            self.note_operated(g, self.changes);
            self.after(0, Event::Run(g));
        }
    }
}
