//! The simulated store: a primary and replicas that repeat what it wrote, later or never. What servers answer; how
//! they follow each other stands in `replication.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;

use crate::database::{Database, StreamId};
use crate::lua;
use crate::pipe::ConnId;
use crate::resp::{Command, Reply, take_command};
use crate::world::gateway_of;

/// The key under which the store keeps what it knows of itself.
pub(crate) const META: &str = "{durward}:meta";

/// The stream of events.
pub(crate) const EVENTS: &str = "{durward}:events";

/// What leads from a fingerprint to a credential.
pub(crate) const FINGERPRINTS: &str = "{durward}:f";

/// The list of gateways.
pub(crate) const GATEWAYS: &str = "{durward}:g";

/// The hash of credentials.
pub(crate) const CREDENTIALS: &str = "{durward}:c";

fn is_credential(command: &Command) -> bool {
    command[0] == b"HSET" && command[1] == CREDENTIALS.as_bytes()
}

/// What only the script that registers a gateway says.
const ANNOUNCE: &[u8] = b"DUPLICATE gateway";

/// What only the script that looks credentials up says.
const FIND: &[u8] = b"local owners";

/// What only the script says that tells where the store stands.
const HEAD: &[u8] = b"local readable";

/// Where a node is reached by itself.
pub(crate) fn address(node: usize) -> String {
    format!("10.0.0.{}", node + 1)
}

/// The port of every node.
pub(crate) const PORT: u16 = 6379;

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
    /// When it died last.
    pub(crate) died: u64,
    /// What it wrote or repeated since data was last replaced.
    pub(crate) log: Vec<Rc<Command>>,
    /// The node that it takes for its primary; none of one that believes to be one itself.
    pub(crate) follows: Option<usize>,
    /// A replica that has not begun with the data of its primary yet.
    pub(crate) stale: bool,
    /// Whether a replica hears its primary.
    pub(crate) linked: bool,
    /// How far its wall clock is ahead, in milliseconds.
    pub(crate) ahead: i64,
    /// Names its process, and the line of its data, which every promotion changes.
    pub(crate) run: u64,
    pub(crate) line: u64,
    pub(crate) scripts: BTreeSet<String>,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) node: usize,
    bytes: Vec<u8>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) ticket: u64,
}

#[derive(Debug)]
pub(crate) enum Waiting {
    Stream { key: Vec<u8>, after: StreamId, count: usize },
    Replicas { wanted: usize, offset: usize },
}

/// A read of credentials that was made: by whom, of which fingerprints.
#[derive(Debug)]
pub(crate) struct Find {
    pub(crate) conn: ConnId,
    pub(crate) fingerprints: Vec<Vec<u8>>,
    pub(crate) reply: Vec<u8>,
}

/// What comes of commands.
#[derive(Debug)]
pub(crate) enum Output {
    Reply(ConnId, Vec<u8>),
    /// The answer to a look-up, which a fault may exchange for another one.
    Found(Find),
    /// The server told this gateway where the store stands, and that it may read.
    Revalidated(ConnId),
    /// The connection waits so many milliseconds at most.
    Waits {
        conn: ConnId,
        ticket: u64,
        millis: u64,
    },
    /// A node wrote; replicas of it are to hear of everything up to here.
    Wrote {
        node: usize,
        upto: usize,
    },
    /// A node that believes to be the primary made a change for this connection, and another one is the primary.
    Strayed(ConnId),
    /// The primary wrote these credentials: id and record of each.
    Credentials(Vec<(Vec<u8>, Vec<u8>)>),
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// The node that was made the primary last, and that the store's one name leads to.
    pub(crate) primary: usize,
    pub(crate) output: Vec<Output>,
    /// Lines of data that there were.
    pub(crate) lines: u64,
    /// The hashes of the scripts that look credentials up, and that register a gateway.
    find: Option<String>,
    announce: Option<String>,
    head: Option<String>,
    /// The gateways that may not be registered.
    pub(crate) unlisted: BTreeSet<usize>,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
}

impl Cluster {
    pub(crate) fn new(data: &Database, nodes: usize) -> Self {
        let node = |number: usize| Node {
            database: data.clone(),
            condition: Condition::Up,
            died: 0,
            log: Vec::new(),
            follows: (number != 0).then_some(0),
            stale: false,
            linked: true,
            ahead: 0,
            run: 1_000 * number as u64,
            line: 1,
            scripts: BTreeSet::new(),
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            primary: 0,
            output: Vec::new(),
            lines: 1,
            find: None,
            announce: None,
            head: None,
            unlisted: BTreeSet::new(),
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
        self.primary().log.len()
    }

    /// A client connects to a node; answers whether somebody listens there.
    pub(crate) fn connect(&mut self, conn: ConnId, node: usize) -> bool {
        let listens = self.nodes[node].condition != Condition::Down;
        if listens {
            let fresh = Conn {
                node,
                bytes: Vec::new(),
                waiting: None,
                ticket: 0,
            };
            self.conns.insert(conn, fresh);
        }
        listens
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
            (node.database.now, node.database.ahead, node.database.run) = (now, node.ahead, node.run);
            let node = conn.node;
            self.execute(id, &command);
            self.spread(now, Some(id), node);
        }
    }

    fn execute(&mut self, id: ConnId, command: &Command) {
        let at = self.conns[&id].node;
        let is_primary = self.nodes[at].follows.is_none();
        let name = command[0].to_ascii_uppercase();
        if name == b"INFO" {
            let info = Reply::bulk(self.info(at));
            return self.reply(id, &info);
        }
        let node = &mut self.nodes[at];
        let reply = match name.as_slice() {
            b"CLIENT" | b"SELECT" => Reply::Status("OK"),
            b"PING" => Reply::Status("PONG"),
            b"CONFIG" => Reply::List(Vec::new()),
            b"ROLE" if is_primary => Reply::List(vec![Reply::bulk("master"), Reply::Int(0), Reply::List(Vec::new())]),
            b"ROLE" => Reply::List(vec![Reply::bulk("slave"), Reply::bulk("host"), Reply::Int(6379)]),
            b"SCRIPT" => {
                let hash = lua::load(&command[2]);
                let says = |words: &[u8]| command[2].windows(words.len()).any(|text| text == words);
                if says(FIND) {
                    self.find = Some(hash.clone());
                }
                if says(ANNOUNCE) {
                    self.announce = Some(hash.clone());
                }
                if says(HEAD) {
                    self.head = Some(hash.clone());
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
                if self.announce.as_ref() == Some(&hash) && self.unlisted.contains(&gateway_of(id)) {
                    let error = "NOPERM this user has no permissions to run the 'hkeys' command";
                    return self.reply(id, &Reply::Error(error.into()));
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
                        fingerprints: args[2..].to_vec(),
                        reply: reply.encode(),
                    }));
                    return;
                }
                let is_readable = matches!(&reply, Reply::List(words) if matches!(words.last(), Some(Reply::Int(1))));
                if self.head.as_ref() == Some(&hash) && is_readable {
                    self.output.push(Output::Revalidated(id));
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

    pub(crate) fn reply(&mut self, id: ConnId, reply: &Reply) {
        self.output.push(Output::Reply(id, reply.encode()));
    }

    /// Nothing an inspection of the settings would be worried about, and the replicas that are connected: one that
    /// hears nothing is, for longer than a world lasts.
    fn info(&self, at: usize) -> String {
        let node = &self.nodes[at];
        let mut info = String::from("aof_enabled:1\r\n");
        let role = if node.follows.is_none() { "master" } else { "slave" };
        let (line, offset) = (node.line, node.log.len());
        let _ = write!(info, "role:{role}\r\nmaster_replid:{line:040x}\r\nmaster_repl_offset:{offset}\r\n");
        let replicas = |(_, other): &(usize, &Node)| other.follows == Some(at) && other.condition != Condition::Down;
        let replicas: Vec<_> = self.nodes.iter().enumerate().filter(replicas).collect();
        let _ = write!(info, "connected_slaves:{}\r\n", replicas.len());
        for (i, (number, replica)) in replicas.into_iter().enumerate() {
            let (host, offset) = (address(number), replica.log.len());
            let state = if replica.stale { "wait_bgsave" } else { "online" };
            let _ = write!(info, "slave{i}:ip={host},port={PORT},state={state},offset={offset},lag=0\r\n");
        }
        info
    }

    /// What a node wrote becomes its log, and wakes who waits for events.
    pub(crate) fn spread(&mut self, now: u64, id: Option<ConnId>, at: usize) {
        let node = &mut self.nodes[at];
        let written = std::mem::take(&mut node.database.written);
        if written.is_empty() {
            return;
        }
        if at == self.primary {
            let credentials = written.iter().filter(|command| is_credential(command));
            let credentials: Vec<_> = credentials.map(|command| (command[2].clone(), command[3].clone())).collect();
            if !credentials.is_empty() {
                self.output.push(Output::Credentials(credentials));
            }
        } else if written.iter().any(|command| command[0] == b"XADD") {
            self.output.extend(id.map(Output::Strayed));
        }
        node.log.extend(written.into_iter().map(Rc::new));
        let upto = node.log.len();
        self.output.push(Output::Wrote { node: at, upto });
        self.wake(now);
    }
}
