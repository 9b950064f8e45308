//! What must be true, judged from outside: a reference model of a few lines that knows the true time.

use std::collections::{BTreeMap, BTreeSet};

use durward::base::clock::UnixMillis;

use crate::cast::{ACCOUNTS, CALM, Cast, Grant, KEYS, KNOWN, TENANTS};
use crate::gateway::{Change, Guide, Settings};
use crate::ledger::{Account, Call};
use crate::receipts::Verdict;

/// How long after the last fault everything must be well again ...
const RECOVERY: u64 = 6_000;

/// ... and where sentinels lead from one primary to the next: two failovers use up the eight connects that a gateway
/// may make at once, and each of its five connections waits a second then.
const RECOVERY_ELSEWHERE: u64 = 9_000;

/// How long recovery may take where the primary is found in this way.
pub(crate) const fn recovery(guide: Guide) -> u64 {
    match guide {
        Guide::One => RECOVERY,
        Guide::Sentinels => RECOVERY_ELSEWHERE,
    }
}

/// What a change is about: a key, a tenant, the role, an account, the sessions or a password of one.
pub(crate) type Subject = usize;

pub(crate) const ROLE_SUBJECT: Subject = KNOWN + TENANTS.len();
pub(crate) const ACCOUNT_SUBJECTS: Subject = ROLE_SUBJECT + 1;
pub(crate) const SESSION_SUBJECTS: Subject = ACCOUNT_SUBJECTS + ACCOUNTS.len();
/// The first passwords; later ones, and keys that are made, get subjects as they come.
pub(crate) const PASSWORD_SUBJECTS: Subject = SESSION_SUBJECTS + ACCOUNTS.len();
const SUBJECTS: usize = PASSWORD_SUBJECTS + ACCOUNTS.len();

/// What a change does to those who depend on its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    EndsForEver,
    Ends,
    Lifts,
}

/// An acknowledged end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) at: u64,
    /// Changes the store had counted then; none once histories were mixed.
    pub(crate) counter: Option<u64>,
    /// How much the primary had written then; nothing of what is older than its data.
    pub(crate) written: usize,
    /// Once the store lost it: the gateways that had seen it, bit by bit.
    pub(crate) only: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fate {
    /// Until it is lifted.
    pub(crate) ended: Option<Ended>,
    /// For ever, unless the store loses it.
    pub(crate) revoked: Option<Ended>,
    /// A change was ever begun.
    pub(crate) touched: bool,
    /// A lifting change ended in the unknown: it may still come true.
    unsure: bool,
    /// A change is under way.
    pub(crate) busy: Option<u64>,
    /// The store lost data under that change.
    pub(crate) doubtful: bool,
}

impl Fate {
    /// Whether the store lost data under its change.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubtful)
    }

    /// Every acknowledged end of it that has not been lifted.
    fn ends(&mut self) -> [&mut Option<Ended>; 2] {
        [&mut self.ended, &mut self.revoked]
    }
}

impl Ended {
    pub(crate) const fn new(at: u64, counter: Option<u64>, written: usize) -> Self {
        Self {
            at,
            counter,
            written,
            only: None,
        }
    }

    /// An end is acknowledged: a first one, or one again that the store had lost.
    pub(crate) fn note(place: &mut Option<Self>, ended: Self) {
        if place.is_none_or(|ended| ended.only.is_some()) {
            *place = Some(ended);
        }
    }
}

/// What the simulation tells the model of the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// Since when nothing has been wrong; none while something is.
    pub(crate) calm_since: Option<u64>,
    /// The store went back to what it was before, at least once.
    pub(crate) went_back: bool,
}

/// Somebody who presents a key: of the cast, or made since.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Its record's id.
    pub(crate) id: String,
    /// None of a key that nobody was ever given.
    pub(crate) tenant: Option<usize>,
    /// Everything whose end ends it; its own comes first.
    pub(crate) subjects: Vec<Subject>,
    /// What the store finds it by.
    hex: String,
    /// The account whose session it is.
    pub(crate) session_of: Option<usize>,
}

impl Caller {
    /// How many records stand one above the other, this one included.
    pub(crate) fn depth(&self) -> usize {
        let record = |subject: &&Subject| !(KNOWN..=ROLE_SUBJECT).contains(*subject);
        self.subjects.iter().filter(record).count()
    }
}

pub(crate) struct Model {
    pub(crate) fates: Vec<Fate>,
    pub(crate) callers: Vec<Caller>,
    pub(crate) accounts: Vec<Account>,
    /// Served calls, by number.
    pub(crate) calls: BTreeMap<u64, Call>,
    /// When records that calls made were written, by id.
    pub(crate) written: BTreeMap<String, u64>,
    /// The call that named a record, by its id.
    pub(crate) names: BTreeMap<String, u64>,
    /// When each credential was revoked, as its last written record says.
    pub(crate) revocations: BTreeMap<String, UnixMillis>,
    /// What operators were told of revocations.
    pub(crate) verdicts: BTreeMap<Subject, Vec<Verdict>>,
    /// Keys whose revocation was acknowledged to an operator.
    pub(crate) revoked: BTreeSet<usize>,
    /// Keys whose entry in the index was ever exchanged for another one's.
    pub(crate) exchanged: BTreeSet<usize>,
    /// What each gateway is called.
    pub(crate) ids: Vec<String>,
    /// Gateways whose wall clocks were ever wrong ...
    pub(crate) wrong_clocks: BTreeSet<usize>,
    /// ... or far behind.
    pub(crate) behind: BTreeSet<usize>,
    /// How many callers there were when all were asked for.
    pub(crate) asked: usize,
    /// Calls that were served.
    pub(crate) served: u64,
    pub(crate) max_age: u64,
    /// How long after the last fault everything must be well again.
    pub(crate) recovery: u64,
    /// When a look-up of a key was last made for a gateway.
    pub(crate) found: BTreeMap<(usize, usize), u64>,
    /// When a server last told a gateway where the store stands: by that, facts are as young as the question.
    revalidated: BTreeMap<usize, u64>,
    /// The newest change that a gateway said it had applied, before histories were mixed.
    pub(crate) applied: BTreeMap<usize, u64>,
    /// Since when a gateway has heard of every event, one after the other.
    hears: BTreeMap<usize, u64>,
    /// When an answer to somebody else's look-up last reached a gateway.
    pub(crate) astray: BTreeMap<usize, u64>,
    /// When a gateway was last cut off, together with a primary that others replaced.
    pub(crate) cut_off: BTreeMap<usize, u64>,
    /// When a key was last answered for, and whether it was admitted.
    pub(crate) last: BTreeMap<(usize, usize), (u64, bool)>,
    pub(crate) violations: Vec<String>,
    /// Requests that were judged, by kind of outcome.
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    pub(crate) unavailable: u64,
}

impl Model {
    pub(crate) fn new(cast: &Cast, gateways: usize, settings: &Settings) -> Self {
        let callers = KEYS.iter().zip(&cast.hex).enumerate().map(|(index, (key, hex))| Caller {
            id: key.name.to_owned(),
            tenant: key.tenant,
            subjects: subjects_of(index),
            hex: hex.clone(),
            session_of: None,
        });
        Self {
            fates: vec![Fate::default(); SUBJECTS],
            callers: callers.collect(),
            accounts: (0..ACCOUNTS.len()).map(Account::new).collect(),
            calls: BTreeMap::new(),
            written: BTreeMap::new(),
            names: BTreeMap::new(),
            revocations: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            revoked: BTreeSet::new(),
            exchanged: BTreeSet::new(),
            ids: (0..gateways).map(|g| format!("gw-{g}")).collect(),
            wrong_clocks: BTreeSet::new(),
            behind: BTreeSet::new(),
            asked: KEYS.len(),
            served: 0,
            max_age: u64::try_from(settings.max_age.as_millis()).unwrap(),
            recovery: recovery(settings.guide),
            found: BTreeMap::new(),
            revalidated: BTreeMap::new(),
            applied: BTreeMap::new(),
            hears: BTreeMap::new(),
            astray: BTreeMap::new(),
            cut_off: BTreeMap::new(),
            last: BTreeMap::new(),
            violations: Vec::new(),
            admitted: 0,
            refused: 0,
            unavailable: 0,
        }
    }

    /// Whether this change may begin: one at a time for each subject, so that what is known is sure.
    pub(crate) fn begin(&mut self, change: Change, number: u64, now: u64) -> bool {
        let (subject, effect) = self.meaning(change);
        let fate = &mut self.fates[subject];
        if fate.busy.is_some() {
            return false;
        }
        fate.busy = Some(number);
        fate.touched = true;
        if effect == Effect::Lifts {
            fate.ended = None;
        }
        if let Change::EndSessions(account) | Change::SetPassword(account, _) = change {
            self.begin_log_out(account, now);
        }
        if let Change::SetPassword(account, password) = change {
            self.begin_password(account, password);
        }
        true
    }

    /// A change is over.
    pub(crate) fn end(&mut self, change: Change, number: u64, at: u64, done: bool, counter: Option<u64>, written: usize) {
        let (subject, effect) = self.meaning(change);
        let fate = &mut self.fates[subject];
        if fate.busy != Some(number) {
            return;
        }
        fate.busy = None;
        let done = done && !std::mem::take(&mut fate.doubtful);
        let ended = done.then_some(Ended::new(at, counter, written));
        match change {
            Change::Revoke(key) if done => drop(self.revoked.insert(key)),
            Change::EndSessions(account) => return self.end_log_out(account, ended),
            Change::SetPassword(account, password) => {
                self.end_log_out(account, ended);
                return self.end_password(account, password, ended);
            }
            _ => {}
        }
        let fate = &mut self.fates[subject];
        match (effect, done) {
            (Effect::Lifts, true) => {}
            (Effect::Lifts, false) => fate.unsure = true,
            (_, false) => {}
            (Effect::EndsForEver, true) => ended.into_iter().for_each(|ended| Ended::note(&mut fate.revoked, ended)),
            (Effect::Ends, true) if fate.unsure => {}
            (Effect::Ends, true) => ended.into_iter().for_each(|ended| Ended::note(&mut fate.ended, ended)),
        }
    }

    /// A gateway that stops takes its changes with it: whether they were made is not known.
    pub(crate) fn give_up(&mut self, number: u64) {
        for fate in &mut self.fates {
            if fate.busy == Some(number) {
                fate.busy = None;
                fate.unsure = true;
            }
        }
        self.give_up_log_outs();
    }

    /// The store has lost what was written after this much. What a gateway has seen end stays ended
    /// there; nobody promises more.
    pub(crate) fn lose_after(&mut self, written: usize) {
        let (applied, hears) = (&self.applied, &self.hears);
        for place in self.fates.iter_mut().flat_map(Fate::ends) {
            if let Some(ended) = place.as_mut().filter(|ended| ended.written > written && ended.only.is_none()) {
                let heard = |gateway: &usize| hears.get(gateway).is_none_or(|since| ended.at >= *since);
                let saw = |gateway: &&usize| heard(gateway) && ended.counter.is_some_and(|counter| applied[*gateway] >= counter);
                let seen = applied.keys().filter(saw).fold(0, |seen, gateway| seen | 1 << gateway);
                ended.only = Some(seen);
            }
            place.take_if(|ended| ended.only == Some(0));
        }
        for fate in &mut self.fates {
            // What was on its way may have been made before or after the loss.
            fate.doubtful = fate.busy.is_some();
        }
        // What a gateway has seen end stays so; that another password was set is no end that it keeps.
        for password in self.accounts.iter().flat_map(|account| &account.passwords) {
            self.fates[*password].revoked.take_if(|ended| ended.only.is_some());
        }
    }

    /// What is written is counted anew.
    pub(crate) fn count_anew(&mut self) {
        for ended in self.fates.iter_mut().flat_map(Fate::ends).flatten() {
            ended.written = 0;
        }
    }

    /// A gateway may miss events until now: it is told to forget its facts, but not what ended.
    pub(crate) fn note_gap(&mut self, gateway: usize, now: u64) {
        self.hears.insert(gateway, now + self.recovery);
    }

    /// An answer to somebody else's look-up reaches a gateway.
    pub(crate) fn note_astray(&mut self, gateway: usize, now: u64) {
        self.astray.insert(gateway, now);
    }

    /// A gateway that stood still goes on with what has reached it meanwhile.
    pub(crate) fn note_resumed(&mut self, gateway: usize, now: u64) {
        if let Some(at) = self.astray.get_mut(&gateway) {
            *at = now;
        }
    }

    /// A gateway starts anew: what it had seen is forgotten.
    pub(crate) fn forget_gateway(&mut self, gateway: usize, now: u64) {
        self.applied.remove(&gateway);
        self.note_gap(gateway, now);
        for place in self.fates.iter_mut().flat_map(Fate::ends) {
            if let Some(only) = place.as_mut().and_then(|ended| ended.only.as_mut()) {
                *only &= !(1 << gateway);
            }
            place.take_if(|ended| ended.only == Some(0));
        }
    }

    /// Histories are mixed from here on: counters compare no more.
    pub(crate) fn mix_histories(&mut self) {
        for ended in self.fates.iter_mut().flat_map(Fate::ends).flatten() {
            ended.counter = None;
        }
    }

    /// A server tells where the store stands.
    pub(crate) fn note_revalidated(&mut self, gateway: usize, now: u64) {
        self.revalidated.insert(gateway, now);
    }

    /// When facts of this key were last read or revalidated.
    pub(crate) fn known_at(&self, gateway: usize, key: usize) -> Option<u64> {
        let found = self.found.get(&(gateway, key)).copied()?;
        Some(found.max(self.revalidated.get(&gateway).copied().unwrap_or(0)))
    }

    /// The primary answers a look-up.
    pub(crate) fn note_find(&mut self, gateway: usize, fingerprint: &[u8], now: u64) {
        if let Some(key) = self.callers.iter().position(|caller| caller.hex.as_bytes() == fingerprint) {
            self.found.insert((gateway, key), now);
        }
    }
}

/// Everything whose end ends this key of the cast.
fn subjects_of(key: usize) -> Vec<Subject> {
    let Some(tenant) = KEYS[key].tenant else {
        return Vec::new();
    };
    let mut subjects = vec![key, KNOWN + tenant];
    subjects.extend(KEYS[key].parent);
    if KEYS[key].grant == Grant::Role {
        subjects.push(ROLE_SUBJECT);
    }
    subjects
}

impl Model {
    fn meaning(&self, change: Change) -> (Subject, Effect) {
        match change {
            Change::Revoke(key) => (self.callers[key].subjects[0], Effect::EndsForEver),
            Change::Disable(key) => (self.callers[key].subjects[0], Effect::Ends),
            Change::Enable(key) => (self.callers[key].subjects[0], Effect::Lifts),
            Change::DisableAccount(account) => (ACCOUNT_SUBJECTS + account, Effect::Ends),
            Change::EnableAccount(account) => (ACCOUNT_SUBJECTS + account, Effect::Lifts),
            Change::EndSessions(account) | Change::SetPassword(account, _) => (SESSION_SUBJECTS + account, Effect::EndsForEver),
            Change::SuspendTenant(tenant) => (KNOWN + tenant, Effect::Ends),
            Change::ResumeTenant(tenant) => (KNOWN + tenant, Effect::Lifts),
            Change::NarrowRole => (ROLE_SUBJECT, Effect::Ends),
            Change::WidenRole => (ROLE_SUBJECT, Effect::Lifts),
        }
    }

    /// Somebody more who presents a key; answers its number.
    pub(crate) fn add_caller(&mut self, id: &str, hex: String, tenant: usize, above: &[Subject], session_of: Option<usize>) -> usize {
        let mut subjects = vec![self.fates.len()];
        self.fates.push(Fate::default());
        subjects.extend(above);
        self.callers.push(Caller {
            id: id.to_owned(),
            tenant: Some(tenant),
            subjects,
            hex,
            session_of,
        });
        self.callers.len() - 1
    }
}

/// Keys that changes are about.
pub(crate) fn changeable() -> impl Iterator<Item = usize> {
    (0..KNOWN).filter(|key| *key != CALM)
}
