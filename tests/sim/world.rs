//! One simulated world: gateways, the network between, the store, and the order in which things happen.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::cast::Cast;
use crate::chance::Chance;
use crate::cluster::{Cluster, Find, Output};
use crate::database::Database;
use crate::faults::Act;
use crate::gateway::{Answer, Change, Gateway, Report, Settings};
use crate::model::{Circumstances, Model};
use crate::paths::{Path, Target};
use crate::pipe::{Arrived, ConnId, Sent, Wires};
use crate::sentinels::Sentinels;

/// Longest time a gateway is left alone: its timers' bytes leave it that much late, as over a slow
/// network.
const TICK: u64 = 80;

/// Longest time a change may take: its deadline, and the wait for replicas.
const CHANGE: u64 = 4_500;

/// Bits of a connection's name below the number of its gateway.
pub(crate) const CONN_BITS: u32 = 32;

pub(crate) enum Event {
    Tick(usize),
    /// Lets a gateway act on what has just arrived.
    Run(usize),
    AtStore(ConnId, Sent),
    AtGateway(ConnId, Arrived),
    WaitEnds(ConnId, u64),
    Replicate {
        node: usize,
        from: usize,
        upto: usize,
    },
    Act(Act),
}

/// A change or a call that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operated {
    pub(crate) gateway: usize,
    pub(crate) begun: u64,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) chance: Chance,
    pub(crate) cast: Rc<Cast>,
    pub(crate) settings: Settings,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) wires: Vec<Arc<Wires>>,
    pub(crate) paths: Vec<Path>,
    /// Where each connection leads.
    pub(crate) targets: BTreeMap<ConnId, Target>,
    pub(crate) cluster: Cluster,
    pub(crate) sentinels: Sentinels,
    pub(crate) model: Model,
    pub(crate) around: Circumstances,
    /// Look-ups may be answered with those of others.
    pub(crate) swapped: bool,
    /// How late replicas are.
    pub(crate) lag: (u64, u64),
    /// Receipts that operators were told of, and those by which all had confirmed.
    pub(crate) told: u64,
    pub(crate) told_all: u64,
    /// The list of receipts may have lost somebody.
    pub(crate) list_lost: bool,
    /// The node that was the primary before.
    pub(crate) deposed: Option<usize>,
    /// When a gateway last made a change at a node that was the primary no more.
    pub(crate) strayed: BTreeMap<usize, u64>,
    /// The node that the store's name leads to takes no connections.
    pub(crate) away: bool,
    /// The newest look-up and when it was made, for answers that go astray.
    last_find: Option<(u64, Find)>,
    pub(crate) changes: u64,
    pub(crate) done: Vec<(Change, u64, bool)>,
    /// Everything that happened, as one number: two runs of a seed agree in it.
    pub(crate) trace: u64,
    /// A copy of the data to go back to, and how much had been written then.
    pub(crate) older: Option<Database>,
    pub(crate) older_written: usize,
    /// The copy that was restored last.
    pub(crate) spare: Option<Database>,
    /// Which gateway was asked for which change, or serves which call.
    pub(crate) operated: BTreeMap<u64, Operated>,
    /// What callers present, by their number: those of the cast, then those that were made.
    pub(crate) texts: Vec<Rc<str>>,
    /// Which gateway asked for which mark, and whether it was the first.
    pub(crate) marked: Vec<(usize, u8, Option<bool>)>,
    prepared: bool,
    /// Whether it tells what happens.
    loud: bool,
    /// What happened, without what is asked and answered all the time: two runs of a seed with served calls are not
    /// the same to the last byte, so it is kept for whoever must understand one.
    pub(crate) story: Vec<String>,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
}

impl World {
    pub(crate) fn new(cast: Rc<Cast>, data: &Database, gateways: usize, nodes: usize, settings: Settings, chance: Chance) -> Self {
        let mut world = Self {
            now: 0,
            chance,
            gateways: Vec::new(),
            wires: (0..gateways).map(|g| Arc::new(Wires::new((g as u64) << CONN_BITS))).collect(),
            paths: (0..gateways).map(|_| Path::new()).collect(),
            targets: BTreeMap::new(),
            sentinels: Sentinels::new(),
            cluster: Cluster::new(data, nodes),
            model: Model::new(&cast, gateways, &settings),
            texts: cast.texts.iter().map(|text| Rc::from(text.as_str())).collect(),
            cast,
            settings,
            swapped: false,
            around: Circumstances {
                calm_since: Some(0),
                went_back: false,
            },
            lag: (1, 30),
            told: 0,
            told_all: 0,
            list_lost: false,
            deposed: None,
            strayed: BTreeMap::new(),
            away: false,
            last_find: None,
            changes: 0,
            done: Vec::new(),
            trace: 0,
            older: None,
            older_written: 0,
            spare: None,
            operated: BTreeMap::new(),
            marked: Vec::new(),
            prepared: false,
            story: Vec::new(),
            loud: std::env::var_os("DURWARD_SIM_LOUD").is_some(),
            queue: BTreeMap::new(),
            next: 0,
        };
        for g in 0..gateways {
            let gateway = world.start_gateway(g);
            world.gateways.push(gateway);
            world.after(1, Event::Tick(g));
        }
        world
    }

    pub(crate) fn start_gateway(&mut self, g: usize) -> Gateway {
        let mut settings = self.settings.clone();
        settings.seed = self.chance.next();
        settings.id.clone_from(&self.model.ids[g]);
        Gateway::start(&self.cast, &self.wires[g], &settings, self.now)
    }

    /// The data that a simulation begins with, made by the real store.
    pub(crate) fn first_data(cast: &Rc<Cast>, settings: &Settings) -> Database {
        let mut world = Self::new(Rc::clone(cast), &Database::default(), 1, 1, settings.clone(), Chance::new(0));
        world.run_until(3_000);
        world.gateways[0].prepare();
        world.run_until(30_000);
        assert!(world.prepared, "the cast was not made");
        world.cluster.primary().database.clone()
    }

    pub(crate) fn after(&mut self, millis: u64, event: Event) {
        self.queue.insert((self.now + millis, self.next), event);
        self.next += 1;
    }

    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(((at, number), event)) = self.queue.pop_first() {
            if at > end || !self.model.violations.is_empty() {
                self.queue.insert((at, number), event);
                break;
            }
            self.now = at;
            self.handle(event);
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick(g) => {
                self.run_gateway(g, self.now);
                self.after(TICK, Event::Tick(g));
            }
            // A millisecond further: time moves only when everything that can be done is done.
            Event::Run(g) => self.run_gateway(g, self.now + 1),
            Event::AtStore(conn, sent) => self.reach_store(conn, sent),
            Event::AtGateway(conn, arrived) => self.reach_gateway(conn, arrived),
            Event::WaitEnds(conn, ticket) => {
                self.cluster.time_out(self.now, conn, ticket);
                self.collect();
            }
            Event::Replicate { node, from, upto } => {
                self.cluster.replicate(self.now, node, from, upto);
                self.collect();
            }
            Event::Act(act) => self.act(act),
        }
    }

    /// Lets a gateway live until then, and takes what it sent and said.
    pub(crate) fn run_gateway(&mut self, g: usize, until: u64) {
        self.gateways[g].run_until(until);
        self.take_from(g);
    }

    pub(crate) fn take_from(&mut self, g: usize) {
        for (conn, sent) in self.wires[g].take_sent() {
            self.send_up(g, conn, sent);
        }
        for report in self.gateways[g].take_reports() {
            match report {
                Report::Answered(answer) => self.judge(g, &answer),
                Report::Prepared => self.prepared = true,
                Report::Marked { mark, first } => self.marked.push((g, mark, first)),
                Report::Served {
                    number,
                    there,
                    at,
                    outcome,
                } => self.end_call(number, (there, at), outcome),
                Report::Confirmed {
                    change,
                    number,
                    at,
                    answered,
                    outcome,
                } => self.note_told(g, change, number, (at, answered), outcome),
                Report::Changed {
                    change,
                    number,
                    at,
                    outcome,
                } => {
                    let counter = (!self.around.went_back).then(|| self.cluster.counter());
                    let done = outcome.is_ok() && !self.has_strayed(number);
                    if outcome.is_ok() && !done {
                        self.judge_strayed(change, at);
                    }
                    self.report(format_args!(
                        "gateway {g} has made {change:?}, number {number}, at {at}: {outcome:?}, counter {counter:?}"
                    ));
                    self.judge_change(change, &outcome);
                    self.note(&[at, number, done.into()]);
                    self.model.end(change, number, at, done, counter, self.cluster.written());
                    self.done.push((change, at, done));
                }
            }
        }
    }

    /// Tells what happens, to whoever repeats a seed to understand it.
    pub(crate) fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.loud {
            println!("{:>6} {what}", self.now);
        }
    }

    /// The same of what happens once in a while.
    pub(crate) fn report(&mut self, what: std::fmt::Arguments<'_>) {
        self.tell(what);
        self.story.push(format!("{:>6} {what}", self.now));
    }

    fn judge(&mut self, g: usize, answer: &Answer) {
        self.tell(format_args!("gateway {g} {answer:?}"));
        let verdict = answer.outcome.as_ref().map_or_else(|denial| *denial as u64 + 1, |_| 0);
        self.note(&[g as u64, answer.key as u64, answer.decided, answer.applied, verdict]);
        self.model.judge(g, answer, self.around);
    }

    /// While nothing is wrong, only a rule says no.
    fn judge_change(&mut self, change: Change, outcome: &Result<(), String>) {
        if let Err(error) = outcome
            && self
                .around
                .calm_since
                .is_some_and(|since| self.now >= since + self.model.recovery + CHANGE)
            && !error.contains("is revoked and stays so")
        {
            let broken = format!("nothing is wrong, and {change:?} failed at {}: {error}", self.now);
            self.model.violations.push(broken);
        }
    }

    pub(crate) fn note(&mut self, facts: &[u64]) {
        for fact in facts {
            self.trace = (self.trace ^ fact).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
    }

    fn reach_gateway(&mut self, conn: ConnId, arrived: Arrived) {
        let g = gateway_of(conn);
        self.run_gateway(g, self.now);
        if matches!(arrived, Arrived::Astray(_)) {
            self.model.note_astray(g, self.now);
        }
        self.wires[g].arrive(conn, arrived);
        self.after(0, Event::Run(g));
    }

    /// Sends on what the store has to say.
    pub(crate) fn collect(&mut self) {
        for output in std::mem::take(&mut self.cluster.output) {
            match output {
                Output::Reply(conn, bytes) => self.send_down(conn, Arrived::Bytes(bytes)),
                Output::Found(find) => self.send_found(find),
                Output::Revalidated(conn) => self.model.note_revalidated(gateway_of(conn), self.now),
                Output::Waits { conn, ticket, millis } => self.after(millis, Event::WaitEnds(conn, ticket)),
                Output::Credentials(written) => {
                    for (id, record) in written {
                        self.report(format_args!("written: {}", String::from_utf8_lossy(&record)));
                        self.model.note_written(&id, &record, self.now);
                    }
                }
                Output::Wrote { node: from, upto } => {
                    for node in 0..self.cluster.nodes.len() {
                        if self.cluster.nodes[node].follows == Some(from) {
                            let lag = self.chance.between(self.lag.0, self.lag.1);
                            self.after(lag, Event::Replicate { node, from, upto });
                        }
                    }
                }
                Output::Strayed(conn) => self.note_strayed(gateway_of(conn)),
            }
        }
    }

    /// The answer to a look-up; while answers are swapped, now and then somebody else's.
    fn send_found(&mut self, find: Find) {
        let g = gateway_of(find.conn);
        for fingerprint in &find.fingerprints {
            self.model.note_find(g, fingerprint, self.now);
        }
        self.tell(format_args!("gateway {g} is answered {:?}", String::from_utf8_lossy(&find.reply)));
        let mut reply = Arrived::Bytes(find.reply.clone());
        if self.swapped
            && let Some((at, other)) = &self.last_find
            && self.now - at < 200
            && other
                .fingerprints
                .iter()
                .all(|fingerprint| !find.fingerprints.contains(fingerprint))
            && self.chance.one_in(3)
        {
            reply = Arrived::Astray(other.reply.clone());
        }
        self.send_down(find.conn, reply);
        self.last_find = Some((self.now, find));
    }
}

pub(crate) fn gateway_of(conn: ConnId) -> usize {
    usize::try_from(conn >> CONN_BITS).unwrap()
}
