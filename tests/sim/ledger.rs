//! What must be true of served calls: nothing is made by what has ended, and nothing made may do more than its
//! maker may now. Each write is judged at the moment at which the store makes it.

use durward::base::denial::Denial;
use durward::base::principal::{CredentialRecord, CredentialState};
use durward::store::codec::decode_credential;

use crate::cast::{ACCOUNTS, Grant, KNOWN};
use crate::model::{ACCOUNT_SUBJECTS, Circumstances, Ended, Fate, Model, PASSWORD_SUBJECTS, ROLE_SUBJECT, SESSION_SUBJECTS, Subject};
use crate::served::Asked;

/// Wall clocks of gateways that differ less than this agree about everything that the store orders.
const AGREED: i64 = 3_000;

/// A served call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) asked: Asked,
    pub(crate) gateway: usize,
    pub(crate) started: u64,
    /// Everything whose end ends the right to make this call.
    pub(crate) rests_on: Vec<Subject>,
    /// What hangs on the caller hangs on these.
    pub(crate) above: Vec<Subject>,
    pub(crate) tenant: usize,
    /// Number of the caller that it is about.
    pub(crate) target: Option<usize>,
    /// The account that logs in, or whose session logs out.
    pub(crate) account: Option<usize>,
}

/// What is known of an account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// Since when its sessions are about to be ended.
    ending: Option<u64>,
    /// Log-outs everywhere: when each began, and its acknowledgement.
    ended: Vec<(u64, Ended)>,
    /// One ended in the unknown.
    unsure: bool,
    /// Number of its password, for certain the one that was set last.
    pub(crate) password: u64,
    /// The subject of each password that it ever had, by number.
    pub(crate) passwords: Vec<Subject>,
}

impl Account {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            ending: None,
            ended: Vec::new(),
            unsure: false,
            password: 0,
            passwords: vec![PASSWORD_SUBJECTS + index],
        }
    }

    pub(crate) fn next_password(&self) -> u64 {
        self.passwords.len() as u64
    }
}

fn number_in(name: &str) -> Option<u64> {
    name.strip_prefix("call-")?.parse().ok()
}

/// What ends a session of this account besides its own end, and a log-in besides its password's.
pub(crate) fn subjects_of_account(account: usize) -> Vec<Subject> {
    let (tenant, grant) = ACCOUNTS[account];
    let mut subjects = vec![ACCOUNT_SUBJECTS + account, KNOWN + tenant];
    if grant == Grant::Role {
        subjects.push(ROLE_SUBJECT);
    }
    subjects
}

impl Model {
    // ------------------------------------------------------------------------ people

    /// A gateway's wall clock is set.
    pub(crate) fn note_clock(&mut self, gateway: usize, ahead: i64) {
        self.wrong_clocks.insert(gateway);
        if ahead < -AGREED {
            self.behind.insert(gateway);
        }
    }

    /// A change begins that ends the sessions of an account.
    pub(crate) fn begin_log_out(&mut self, account: usize, now: u64) {
        self.accounts[account].ending = Some(now);
        self.touch_sessions(account);
    }

    /// It is over.
    pub(crate) fn end_log_out(&mut self, account: usize, ended: Option<Ended>) {
        let began = self.accounts[account].ending.take();
        self.touch_sessions(account);
        match (began, ended) {
            (Some(began), Some(ended)) => {
                self.accounts[account].ended.push((began, ended));
                for caller in 0..self.callers.len() {
                    self.end_session(caller, account, began, ended);
                }
            }
            _ => self.accounts[account].unsure = true,
        }
    }

    /// A gateway took them with it.
    pub(crate) fn give_up_log_outs(&mut self) {
        for index in 0..self.accounts.len() {
            if self.accounts[index].ending.is_some() && self.fates[SESSION_SUBJECTS + index].busy.is_none() {
                self.accounts[index].ending = None;
                self.accounts[index].unsure = true;
                // Its password may have gone the same way.
                for password in self.accounts[index].passwords.clone() {
                    self.fates[password].touched = true;
                }
            }
        }
    }

    fn touch_sessions(&mut self, account: usize) {
        for caller in self.callers.iter().filter(|caller| caller.session_of == Some(account)) {
            self.fates[caller.subjects[0]].touched = true;
        }
    }

    /// A session that was written before a log-out began has ended with it.
    fn end_session(&mut self, caller: usize, account: usize, began: u64, ended: Ended) {
        let session = &self.callers[caller];
        if session.session_of == Some(account) && self.written.get(&session.id).is_some_and(|at| *at < began) {
            let fate = &mut self.fates[session.subjects[0]];
            Ended::note(&mut fate.revoked, ended);
        }
    }

    pub(crate) fn begin_password(&mut self, account: usize, password: u64) {
        let old = self.accounts[account].passwords[usize::try_from(self.accounts[account].password).unwrap()];
        self.fates[old].touched = true;
        assert_eq!(password, self.accounts[account].next_password());
        self.accounts[account].passwords.push(self.fates.len());
        self.fates.push(Fate::default());
    }

    pub(crate) fn end_password(&mut self, account: usize, password: u64, ended: Option<Ended>) {
        let place = &mut self.accounts[account];
        let old = place.passwords[usize::try_from(place.password).unwrap()];
        match ended {
            Some(ended) => {
                place.password = password;
                Ended::note(&mut self.fates[old].revoked, ended);
            }
            // Either may be the one.
            None => place
                .passwords
                .clone()
                .into_iter()
                .for_each(|password| self.fates[password].touched = true),
        }
    }

    // ------------------------------------------------------------------------ calls

    /// Whether this call may begin: what is changed is changed by one at a time.
    pub(crate) fn begin_call(&mut self, number: u64, call: Call) -> bool {
        let subject = match call.asked {
            Asked::Revoke => call.target.map(|target| self.callers[target].subjects[0]),
            Asked::LogOut => call.account.map(|account| SESSION_SUBJECTS + account),
            // Two with one name could not be told apart.
            Asked::Rotate if self.is_rotated(&call) => return false,
            _ => None,
        };
        if let Some(subject) = subject {
            let fate = &mut self.fates[subject];
            if fate.busy.is_some() {
                return false;
            }
            (fate.busy, fate.touched) = (Some(number), true);
        }
        if let (Asked::LogOut, Some(account)) = (call.asked, call.account) {
            self.begin_log_out(account, call.started);
        }
        self.calls.insert(number, call);
        true
    }

    fn is_rotated(&self, call: &Call) -> bool {
        let name = |call: &Call| call.target.and_then(|target| self.name_of(&self.callers[target].id));
        let others = self.calls.values().filter(|other| other.asked == Asked::Rotate);
        others.into_iter().any(|other| name(other) == name(call))
    }

    /// The store wrote a credential. Whatever call it was made for, its caller must be in force at this moment.
    pub(crate) fn note_written(&mut self, id: &[u8], record: &[u8], now: u64) {
        let id = String::from_utf8_lossy(id).into_owned();
        let Ok(record) = decode_credential(record) else {
            self.violations.push(format!("a record was written that cannot be read: {id}"));
            return;
        };
        let is_new = !self.written.contains_key(&id);
        let Some(number) = self.maker_of(&id, &record, is_new) else {
            return;
        };
        if is_new {
            self.written.insert(id.clone(), now);
            self.names
                .extend(record.name.as_deref().and_then(number_in).map(|named| (id.clone(), named)));
        }
        let Some(call) = self.calls.get(&number) else { return };
        if let Some(ended) = self.ended_before(call, now) {
            self.violations.push(format!(
                "call {number} ({:?} at gateway {}, from {}) was made at {now}, and its caller had ended at {}",
                call.asked, call.gateway, call.started, ended.at
            ));
        }
    }

    /// The call that a record was written for: by the name that it gave a new one, or because it alone changes the
    /// other. Nothing for what operators do.
    fn maker_of(&mut self, id: &str, record: &CredentialRecord, is_new: bool) -> Option<u64> {
        if is_new {
            let number = record.name.as_deref().and_then(number_in)?;
            // One that takes another one's place has its name.
            let rotated = |call: &Call| {
                let target = call.target.map(|target| &self.callers[target].id);
                call.asked == Asked::Rotate && target.is_some_and(|target| self.name_of(target) == Some(number))
            };
            if self.name_is_taken(number) {
                return self.calls.iter().find(|(_, call)| rotated(call)).map(|(number, _)| *number);
            }
            return Some(number);
        }
        // The same revocation written again is a gateway that gives back to the store what the store lost.
        let revoked = match record.state {
            CredentialState::Revoked { at } => self.revocations.insert(id.to_owned(), at) != Some(at),
            _ => false,
        };
        let caller = self.callers.iter().find(|caller| caller.id == id)?;
        // Whoever logs out everywhere ends its own session in the same step.
        if caller.session_of.is_some_and(|account| self.accounts[account].ending.is_some()) {
            return None;
        }
        let busy = self.fates[caller.subjects[0]]
            .busy
            .filter(|number| revoked && self.calls.contains_key(number));
        busy.filter(|number| self.calls[number].asked == Asked::Revoke)
    }

    /// The call that named this record first.
    fn name_of(&self, id: &str) -> Option<u64> {
        self.names.get(id).copied()
    }

    fn name_is_taken(&self, number: u64) -> bool {
        self.names.values().any(|named| *named == number)
    }

    /// The first acknowledged end of the caller, or of what the call is about, that this gateway must know of at the
    /// step of the write, since the store does.
    fn ended_before(&self, call: &Call, now: u64) -> Option<Ended> {
        let target = call.target.filter(|_| call.asked == Asked::Rotate);
        // It may hold less than it did and be in force.
        let target = target
            .into_iter()
            .flat_map(|target| &self.callers[target].subjects)
            .filter(|subject| **subject != ROLE_SUBJECT);
        let fates = call.rests_on.iter().chain(target).map(|subject| self.fates[*subject]);
        let mut ends = fates.flat_map(|fate| [fate.ended, fate.revoked]).flatten();
        ends.find(|ended| ended.at <= now && ended.only.is_none_or(|only| only & (1 << call.gateway) != 0))
    }

    /// A call is over; answers the number of the caller that it made.
    pub(crate) fn end_call(
        &mut self,
        number: u64,
        (there, at): (u64, u64),
        outcome: Result<Option<(&str, String)>, Denial>,
        ended: Ended,
        around: Circumstances,
    ) -> Option<usize> {
        let call = self.calls.get(&number)?.clone();
        self.served += 1;
        let subject = match call.asked {
            Asked::Revoke => call.target.map(|target| self.callers[target].subjects[0]),
            Asked::LogOut => call.account.map(|account| SESSION_SUBJECTS + account),
            _ => None,
        };
        let doubtful = subject.is_some_and(|subject| {
            let fate = &mut self.fates[subject];
            fate.busy.take_if(|busy| *busy == number);
            fate.take_doubt()
        });
        let done = outcome.is_ok() && !doubtful;
        match (call.asked, call.account) {
            (Asked::LogOut, Some(account)) => self.end_log_out(account, done.then_some(ended)),
            (Asked::Revoke, _) if done => {
                if let Some(subject) = subject {
                    Ended::note(&mut self.fates[subject].revoked, ended);
                }
            }
            _ => {}
        }
        let broken = match &outcome {
            Ok(_) => self.judge_done(&call, there),
            Err(denial) => self.judge_refused(&call, *denial, around),
        };
        if let Some(broken) = broken {
            self.violations.push(format!(
                "call {number} ({:?} at gateway {}, from {} to {at}, there at {there}): {broken}",
                call.asked, call.gateway, call.started
            ));
        }
        match outcome {
            Ok(Some((id, hex))) => self.add_made(number, &call, id, hex),
            _ => None,
        }
    }

    /// Whatever was answered was judged after the body was there.
    fn judge_done(&self, call: &Call, there: u64) -> Option<String> {
        let ended = self.ended_before(call, there)?;
        Some(format!("done, and its caller had ended at {}", ended.at))
    }

    fn judge_refused(&self, call: &Call, denial: Denial, around: Circumstances) -> Option<String> {
        let calm = around.calm_since.is_some_and(|since| call.started >= since + self.recovery);
        let subjects = call
            .rests_on
            .iter()
            .chain(call.target.iter().flat_map(|target| &self.callers[*target].subjects));
        let touched = around.went_back || subjects.into_iter().any(|subject| self.fates[*subject].touched);
        match denial {
            Denial::StoreUnavailable | Denial::CorruptRecord => calm.then(|| format!("nothing is wrong, and the answer was {denial:?}")),
            // Somebody changed what it rests on, again and again.
            Denial::Overloaded
            | Denial::RevokedCredential
            | Denial::DisabledCredential
            | Denial::InactiveTenant
            | Denial::InsufficientScope
            | Denial::WrongSecret
            | Denial::NotFound
            | Denial::UnknownCredential => (!touched).then(|| format!("nobody ended it, and the answer was {denial:?}")),
            _ => Some(format!("the answer was {denial:?}")),
        }
    }

    fn add_made(&mut self, number: u64, call: &Call, id: &str, hex: String) -> Option<usize> {
        let Some(written) = self.written.get(id).copied() else {
            self.violations
                .push(format!("call {number} was answered with {id}, which was never written"));
            return None;
        };
        let target = call.target.filter(|_| call.asked == Asked::Rotate);
        let (above, session_of) = match (call.asked, target) {
            (Asked::Rotate, Some(target)) => (self.callers[target].subjects[1..].to_vec(), self.callers[target].session_of),
            (Asked::Free, _) => (vec![KNOWN + call.tenant], None),
            _ => (call.above.clone(), call.account),
        };
        let caller = self.add_caller(id, hex, call.tenant, &above, session_of);
        if let Some(account) = session_of {
            let of_account = self.accounts[account].clone();
            for (began, ended) in &of_account.ended {
                self.end_session(caller, account, *began, *ended);
            }
            let around = of_account.ended.iter().any(|(_, ended)| written <= ended.at);
            // What is dated by a clock that is far behind may be taken for older than it is.
            let late = self.behind.contains(&call.gateway);
            if around || late || of_account.unsure || of_account.ending.is_some() {
                let own = self.callers[caller].subjects[0];
                self.fates[own].touched = true;
            }
        }
        Some(caller)
    }
}
