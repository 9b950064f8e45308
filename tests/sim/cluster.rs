//! The simulated store: a primary and replicas that repeat what it wrote, later or never.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{Database, StreamId, parse_id};
use crate::lua;
use crate::pipe::ConnId;
use crate::resp::{Command, Reply, take_command};

/// The key under which the store keeps what it knows of itself.
pub(crate) const META: &str = "{durward}:meta";

/// The stream of events.
pub(crate) const EVENTS: &str = "{durward}:events";

/// The hash of credentials.
const CREDENTIALS: &[u8] = b"{durward}:c";

fn is_credential(command: &Command) -> bool {
    command[0] == b"HSET" && command[1] == CREDENTIALS
}

/// What only the script that looks credentials up says.
const FIND: &[u8] = b"string.match(index,";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Up,
    /// Takes bytes and answers nothing, as a stopped process.
    Hung,
    Down,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) database: Database,
    pub(crate) condition: Condition,
    /// How much of what the primary wrote it has repeated.
    pub(crate) offset: usize,
    /// Whether a replica hears the primary.
    pub(crate) linked: bool,
    /// How far its wall clock is ahead, in milliseconds.
    pub(crate) ahead: i64,
    scripts: BTreeSet<String>,
}

#[derive(Debug)]
struct Conn {
    node: usize,
    bytes: Vec<u8>,
    waiting: Option<Waiting>,
    ticket: u64,
}

#[derive(Debug)]
enum Waiting {
    Stream { key: Vec<u8>, after: StreamId, count: usize },
    Replicas { wanted: usize, offset: usize },
}

/// A read of a credential that was made: by whom, of which fingerprint.
#[derive(Debug)]
pub(crate) struct Find {
    pub(crate) conn: ConnId,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

/// What comes of commands.
#[derive(Debug)]
pub(crate) enum Output {
    Reply(ConnId, Vec<u8>),
    /// The answer to a look-up, which a fault may exchange for another one.
    Found(Find),
    /// The connection waits so many milliseconds at most.
    Waits {
        conn: ConnId,
        ticket: u64,
        millis: u64,
    },
    /// The primary wrote; replicas are to hear of everything up to here.
    Wrote(usize),
    /// The primary wrote these credentials: id and record of each.
    Credentials(Vec<(Vec<u8>, Vec<u8>)>),
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// The node that the store's name leads to.
    pub(crate) primary: usize,
    pub(crate) output: Vec<Output>,
    /// The hash of the script that looks credentials up.
    find: Option<String>,
    log: Vec<Command>,
    conns: BTreeMap<ConnId, Conn>,
}

impl Cluster {
    pub(crate) fn new(data: &Database, nodes: usize) -> Self {
        let node = || Node {
            database: data.clone(),
            condition: Condition::Up,
            offset: 0,
            linked: true,
            ahead: 0,
            scripts: BTreeSet::new(),
        };
        Self {
            nodes: (0..nodes).map(|_| node()).collect(),
            primary: 0,
            output: Vec::new(),
            find: None,
            log: Vec::new(),
            conns: BTreeMap::new(),
        }
    }

    pub(crate) fn primary(&self) -> &Node {
        &self.nodes[self.primary]
    }

    /// Whether the primary holds data of ours.
    pub(crate) fn holds_data(&self) -> bool {
        self.primary().database.field(META, "position").is_some()
    }

    /// How many changes the store counts.
    pub(crate) fn counter(&self) -> u64 {
        let position = self.primary().database.field(META, "position").map(String::from_utf8_lossy);
        position.and_then(|p| p.parse().ok()).unwrap_or(0)
    }

    /// How much was ever written, in this line of data.
    pub(crate) fn written(&self) -> usize {
        self.log.len()
    }

    pub(crate) fn connect(&mut self, conn: ConnId) {
        let conn_of_primary = Conn {
            node: self.primary,
            bytes: Vec::new(),
            waiting: None,
            ticket: 0,
        };
        self.conns.insert(conn, conn_of_primary);
    }

    pub(crate) fn is_connected(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
    }

    /// Every connection that leads to this node, or, without one, every connection.
    pub(crate) fn conns_to(&self, node: Option<usize>) -> Vec<ConnId> {
        let there = self.conns.iter().filter(|(_, conn)| node.is_none_or(|node| conn.node == node));
        there.map(|(id, _)| *id).collect()
    }

    /// Bytes of a client have arrived.
    pub(crate) fn receive(&mut self, now: u64, conn: ConnId, bytes: &[u8]) {
        if let Some(held) = self.conns.get_mut(&conn) {
            held.bytes.extend_from_slice(bytes);
            self.serve(now, conn);
        }
    }

    /// Does what a connection asks for, as far as its node can.
    pub(crate) fn serve(&mut self, now: u64, id: ConnId) {
        while let Some(conn) = self.conns.get_mut(&id) {
            let node = &mut self.nodes[conn.node];
            if conn.waiting.is_some() || node.condition != Condition::Up {
                return;
            }
            let Some(command) = take_command(&mut conn.bytes) else { return };
            (node.database.now, node.database.ahead) = (now, node.ahead);
            self.execute(id, &command);
            self.spread(now);
        }
    }

    fn execute(&mut self, id: ConnId, command: &Command) {
        let conn = &self.conns[&id];
        let is_primary = conn.node == self.primary;
        let node = &mut self.nodes[conn.node];
        let name = command[0].to_ascii_uppercase();
        let reply = match name.as_slice() {
            b"CLIENT" | b"SELECT" => Reply::Status("OK"),
            b"PING" => Reply::Status("PONG"),
            // Nothing an inspection of the settings would be worried about, or could be glad of.
            b"INFO" => Reply::bulk("aof_enabled:1\r\n"),
            b"CONFIG" => Reply::List(Vec::new()),
            b"ROLE" if is_primary => Reply::List(vec![Reply::bulk("master"), Reply::Int(0), Reply::List(Vec::new())]),
            b"ROLE" => Reply::List(vec![Reply::bulk("slave"), Reply::bulk("host"), Reply::Int(6379)]),
            b"SCRIPT" => {
                let hash = lua::load(&command[2]);
                if command[2].windows(FIND.len()).any(|text| text == FIND) {
                    self.find = Some(hash.clone());
                }
                node.scripts.insert(hash.clone());
                Reply::bulk(hash)
            }
            b"EVALSHA" => {
                let hash = String::from_utf8(command[1].clone()).unwrap();
                if !node.scripts.contains(&hash) {
                    self.reply(id, &Reply::Error("NOSCRIPT No matching script".into()));
                    return;
                }
                let keys: usize = std::str::from_utf8(&command[2]).unwrap().parse().unwrap();
                let (keys, args) = command[3..].split_at(keys);
                let before = (!is_primary).then(|| node.database.clone());
                let reply = lua::run(&hash, &mut node.database, keys, args);
                if let Some(before) = before
                    && !node.database.written.is_empty()
                {
                    node.database = before;
                    self.reply(id, &Reply::Error("READONLY You can't write against a read only replica.".into()));
                    return;
                }
                if self.find.as_ref() == Some(&hash) {
                    self.output.push(Output::Found(Find {
                        conn: id,
                        fingerprint: args[1].clone(),
                        reply: reply.encode(),
                    }));
                    return;
                }
                reply
            }
            b"XREAD" => return self.read_stream(id, command),
            b"WAIT" if is_primary => return self.wait(id, command),
            b"WAIT" => Reply::Error("ERR WAIT cannot be used with replica instances.".into()),
            _ => node.database.call(command),
        };
        self.reply(id, &reply);
    }

    fn reply(&mut self, id: ConnId, reply: &Reply) {
        self.output.push(Output::Reply(id, reply.encode()));
    }

    /// Writes of the primary become its log, and wake who waits for events.
    fn spread(&mut self, now: u64) {
        let primary = &mut self.nodes[self.primary];
        if primary.database.written.is_empty() {
            return;
        }
        let credentials = primary.database.written.iter().filter(|command| is_credential(command));
        let credentials: Vec<_> = credentials.map(|command| (command[2].clone(), command[3].clone())).collect();
        self.log.append(&mut primary.database.written);
        primary.offset = self.log.len();
        self.output.push(Output::Wrote(self.log.len()));
        if !credentials.is_empty() {
            self.output.push(Output::Credentials(credentials));
        }
        self.wake(now);
    }

    /// `XREAD COUNT n BLOCK ms STREAMS key id`, in either order of the options.
    fn read_stream(&mut self, id: ConnId, command: &Command) {
        let option = |name: &[u8]| {
            let at = command.iter().position(|word| word.eq_ignore_ascii_case(name)).unwrap();
            command[at + 1].clone()
        };
        let number = |name: &[u8]| String::from_utf8(option(name)).unwrap().parse::<u64>().unwrap();
        let waiting = Waiting::Stream {
            key: option(b"STREAMS"),
            after: parse_id(command.last().unwrap()),
            count: usize::try_from(number(b"COUNT")).unwrap(),
        };
        self.block(id, waiting, number(b"BLOCK"));
    }

    fn wait(&mut self, id: ConnId, command: &Command) {
        let number = |word: &[u8]| std::str::from_utf8(word).unwrap().parse::<u64>().unwrap();
        let waiting = Waiting::Replicas {
            wanted: usize::try_from(number(&command[1])).unwrap(),
            offset: self.log.len(),
        };
        self.block(id, waiting, number(&command[2]));
    }

    fn block(&mut self, id: ConnId, waiting: Waiting, millis: u64) {
        if let Some(reply) = self.outcome(self.conns[&id].node, &waiting) {
            self.reply(id, &reply);
            return;
        }
        let conn = self.conns.get_mut(&id).unwrap();
        conn.waiting = Some(waiting);
        conn.ticket += 1;
        let ticket = conn.ticket;
        self.output.push(Output::Waits { conn: id, ticket, millis });
    }

    /// The answer to somebody who waits, if there is one yet.
    fn outcome(&self, node: usize, waiting: &Waiting) -> Option<Reply> {
        match waiting {
            Waiting::Stream { key, after, count } => {
                let reply = self.nodes[node].database.read_stream(key, *after, *count);
                (reply != Reply::NilList).then_some(reply)
            }
            Waiting::Replicas { wanted, offset } => {
                let confirmed = self.confirmations(node, *offset);
                (confirmed >= *wanted).then_some(Reply::Int(confirmed as i64))
            }
        }
    }

    fn confirmations(&self, node: usize, offset: usize) -> usize {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        others
            .filter(|(_, other)| other.linked && other.condition == Condition::Up && other.offset >= offset)
            .count()
    }

    /// Answers everybody whose wait has an end.
    pub(crate) fn wake(&mut self, now: u64) {
        let ready: Vec<(ConnId, Reply)> = self
            .conns
            .iter()
            .filter(|(_, conn)| self.nodes[conn.node].condition == Condition::Up)
            .filter_map(|(id, conn)| Some((*id, self.outcome(conn.node, conn.waiting.as_ref()?)?)))
            .collect();
        for (id, reply) in ready {
            self.end_wait(now, id, &reply);
        }
    }

    /// A wait has lasted as long as it was to.
    pub(crate) fn time_out(&mut self, now: u64, id: ConnId, ticket: u64) {
        let Some(conn) = self.conns.get(&id) else { return };
        let reply = match &conn.waiting {
            Some(_) if conn.ticket != ticket => return,
            None => return,
            Some(Waiting::Stream { .. }) => Reply::NilList,
            Some(Waiting::Replicas { offset, .. }) => Reply::Int(self.confirmations(conn.node, *offset) as i64),
        };
        self.end_wait(now, id, &reply);
    }

    fn end_wait(&mut self, now: u64, id: ConnId, reply: &Reply) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.waiting = None;
        }
        self.reply(id, reply);
        self.serve(now, id);
    }

    /// A replica repeats what the primary wrote, up to here.
    pub(crate) fn replicate(&mut self, now: u64, node: usize, upto: usize) {
        let replica = &mut self.nodes[node];
        if node == self.primary || !replica.linked || replica.condition != Condition::Up {
            return;
        }
        for command in self.log.get(replica.offset..upto.min(self.log.len())).unwrap_or_default() {
            replica.database.call(command);
            replica.offset += 1;
        }
        replica.database.written.clear();
        self.wake(now);
    }

    /// A replica becomes the primary; what it had not heard of is lost, and the others follow it.
    /// Answers how many writes are left.
    pub(crate) fn promote(&mut self, now: u64, node: usize) -> usize {
        let demoted = self.primary;
        self.primary = node;
        for id in self.conns_to(Some(demoted)) {
            if self.conns[&id].waiting.is_some() {
                let error = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
                self.end_wait(now, id, &Reply::Error(error.into()));
            }
        }
        let kept = self.nodes[node].offset;
        self.log.truncate(kept);
        self.follow_primary();
        kept
    }

    /// The reachable replica that has heard most.
    pub(crate) fn best_replica(&self) -> Option<usize> {
        let candidates = (0..self.nodes.len()).filter(|node| *node != self.primary && self.nodes[*node].condition == Condition::Up);
        candidates.max_by_key(|node| (self.nodes[*node].offset, *node))
    }

    /// Every other node that hears the primary begins with its data.
    pub(crate) fn follow_primary(&mut self) {
        let data = self.primary().database.clone();
        let offset = self.primary().offset;
        for (i, node) in self.nodes.iter_mut().enumerate() {
            if i != self.primary && node.linked && node.condition == Condition::Up {
                node.database = data.clone();
                node.offset = offset;
            }
        }
    }

    /// The primary goes on with other data, and everybody follows it.
    pub(crate) fn replace_data(&mut self, now: u64, data: Database) {
        self.log.clear();
        self.nodes[self.primary].database = data;
        self.nodes[self.primary].offset = 0;
        for node in &mut self.nodes {
            node.offset = 0;
        }
        self.follow_primary();
        self.wake(now);
    }

    /// A process that starts again has no scripts.
    pub(crate) fn forget_scripts(&mut self, node: usize) {
        self.nodes[node].scripts.clear();
    }
}
