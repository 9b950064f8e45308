//! Served calls in a world: who calls for what, what the model must know of it, and how it ends.

use std::rc::Rc;

use durward::base::denial::Denial;
use durward::base::fingerprint::CredentialPart;
use durward::base::ids::CredentialId;

use crate::cast::{ACCOUNTS, KEYS, KNOWN, account_id, credential_id, password};
use crate::gateway::Change;
use crate::ledger::{Call, subjects_of_account};
use crate::model::{Ended, ROLE_SUBJECT};
use crate::served::{Ask, Asked, Told, Who};
use crate::world::{Event, World};

/// A call as chance draws it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drawn {
    pub(crate) asked: Asked,
    /// Number of a caller; of a log-in, of an account.
    pub(crate) caller: usize,
    pub(crate) target: Option<usize>,
    pub(crate) held: u64,
}

impl World {
    /// A call of a served route at a gateway; `false` when it could not begin.
    pub(crate) fn serve(&mut self, g: usize, ask: Drawn) -> bool {
        if self.gateways[g].is_suspended() || !self.gateways[g].is_open() {
            return false;
        }
        let Some((who, call)) = self.call_of(g, ask) else { return false };
        self.changes += 1;
        let number = self.changes;
        self.report(format_args!("gateway {g} is called, number {number}: {call:?}"));
        let target = call.target.map(|target| self.model.callers[target].id.clone());
        if !self.model.begin_call(number, call) {
            return false;
        }
        self.run_gateway(g, self.now);
        self.gateways[g].serve(Ask {
            number,
            who,
            asked: ask.asked,
            held: ask.held,
            target,
        });
        self.note_operated(g, number);
        self.after(0, Event::Run(g));
        true
    }

    /// Who calls, and what the model must know of it; nothing when that caller cannot ask for this.
    fn call_of(&self, g: usize, ask: Drawn) -> Option<(Who, Call)> {
        let (who, rests_on, above, tenant, account) = if ask.asked == Asked::LogIn {
            let account = &self.model.accounts[ask.caller];
            let number = usize::try_from(account.password).unwrap();
            let above = subjects_of_account(ask.caller);
            let mut rests_on: Vec<usize> = above.iter().copied().filter(|subject| *subject != ROLE_SUBJECT).collect();
            rests_on.push(account.passwords[number]);
            let who = Who::Account(ask.caller, Rc::from(password(account.password).expose()));
            (who, rests_on, above, ACCOUNTS[ask.caller].0, Some(ask.caller))
        } else {
            let caller = &self.model.callers[ask.caller];
            let mut rests_on = caller.subjects.clone();
            if ask.asked == Asked::LogOut {
                rests_on.retain(|subject| *subject != ROLE_SUBJECT);
                caller.session_of?;
            }
            let account = caller.session_of.filter(|_| ask.asked == Asked::LogOut);
            let who = Who::Key(Rc::clone(&self.texts[ask.caller]));
            (who, rests_on, caller.subjects.clone(), caller.tenant?, account)
        };
        if matches!(ask.asked, Asked::Rotate | Asked::Revoke) {
            let target = &self.model.callers[ask.target?];
            if ask.target? < KEYS.len() || target.tenant != Some(tenant) {
                return None;
            }
        }
        let call = Call {
            asked: ask.asked,
            gateway: g,
            started: self.now,
            rests_on,
            above,
            tenant,
            target: ask.target,
            account,
        };
        Some((who, call))
    }

    pub(crate) fn end_call(&mut self, number: u64, (there, at): (u64, u64), outcome: Result<Told, Denial>) {
        self.report(format_args!("call {number} ends at {at}, there at {there}: {outcome:?}"));
        let verdict = outcome.as_ref().map_or_else(|denial| *denial as u64 + 1, |_| 0);
        self.note(&[number, there, at, verdict]);
        // Nobody will know what was made where the primary was before.
        let outcome = if self.has_strayed(number) {
            Err(Denial::StoreUnavailable)
        } else {
            outcome
        };
        let ended = Ended::new(at, (!self.around.went_back).then(|| self.cluster.counter()), self.cluster.written());
        let surface = &self.cast.surfaces[0].name;
        let pepper = self.cast.peppers.first();
        let (made, text) = match &outcome {
            Ok(Some((id, text))) => {
                let hex = pepper.fingerprint(surface, CredentialPart::Key, text.as_bytes()).to_hex();
                (Ok(Some((id.as_str(), hex))), Some(text))
            }
            Ok(None) => (Ok(None), None),
            Err(denial) => (Err(*denial), None),
        };
        if let (Some(caller), Some(text)) = (self.model.end_call(number, (there, at), made, ended, self.around), text) {
            assert_eq!(caller, self.texts.len());
            self.texts.push(Rc::clone(text));
        }
    }

    /// The id of what a change is about.
    pub(crate) fn id_of(&self, change: Change) -> Option<CredentialId> {
        match change {
            Change::Revoke(key) | Change::Disable(key) | Change::Enable(key) if key < KNOWN => Some(credential_id(key)),
            Change::Revoke(key) | Change::Disable(key) | Change::Enable(key) => CredentialId::parse(&self.model.callers[key].id).ok(),
            Change::DisableAccount(account)
            | Change::EnableAccount(account)
            | Change::EndSessions(account)
            | Change::SetPassword(account, _) => Some(account_id(account)),
            Change::SuspendTenant(_) | Change::ResumeTenant(_) | Change::NarrowRole | Change::WidenRole => None,
        }
    }
}
