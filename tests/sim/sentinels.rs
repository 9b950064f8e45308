//! Three simulated sentinels. Each has a view of its own: what it heard last, under an epoch that never goes back.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Condition, PORT, address};
use crate::pipe::ConnId;
use crate::resp::{Command, Reply, take_command};

/// What the primary is called there.
pub(crate) const SERVICE: &str = "main";

/// How many there are.
pub(crate) const SENTINELS: usize = 3;

/// How long a server is dead before sentinels call it down: longer than a majority takes to hear of a failover.
const DOWN_AFTER: u64 = 1_500;

/// Where a sentinel is reached.
pub(crate) fn sentinel_address(sentinel: usize) -> String {
    format!("10.0.1.{}", sentinel + 1)
}

/// What one of them knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) epoch: u64,
    pub(crate) primary: usize,
}

#[derive(Debug)]
struct Conn {
    sentinel: usize,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Sentinels {
    views: [View; SENTINELS],
    /// What was elected last.
    elected: View,
    /// One that hears nothing of the others.
    pub(crate) cut: Option<usize>,
    conns: BTreeMap<ConnId, Conn>,
}

impl Sentinels {
    pub(crate) const fn new() -> Self {
        Self {
            views: [View { epoch: 1, primary: 0 }; SENTINELS],
            elected: View { epoch: 1, primary: 0 },
            cut: None,
            conns: BTreeMap::new(),
        }
    }

    /// A failover makes a view, which they hear of later.
    pub(crate) const fn elect(&mut self, primary: usize) -> View {
        let epoch = self.elected.epoch + 1;
        self.elected = View { epoch, primary };
        self.elected
    }

    /// A sentinel hears of a view; an older one than its own changes nothing.
    pub(crate) fn hear(&mut self, sentinel: usize, view: View) {
        if self.cut != Some(sentinel) && view.epoch > self.views[sentinel].epoch {
            self.views[sentinel] = view;
        }
    }

    /// All hear what was elected last.
    pub(crate) fn agree(&mut self) {
        (0..SENTINELS).for_each(|sentinel| self.hear(sentinel, self.elected));
    }

    pub(crate) fn connect(&mut self, conn: ConnId, sentinel: usize) {
        let bytes = Vec::new();
        self.conns.insert(conn, Conn { sentinel, bytes });
    }

    /// The sentinel that a connection leads to.
    pub(crate) fn of(&self, conn: ConnId) -> Option<usize> {
        Some(self.conns.get(&conn)?.sentinel)
    }

    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
    }

    /// Bytes of a client have arrived; what is answered.
    pub(crate) fn receive(&mut self, now: u64, conn: ConnId, bytes: &[u8], cluster: &Cluster) -> Vec<u8> {
        let mut answer = Vec::new();
        let Some(held) = self.conns.get_mut(&conn) else { return answer };
        held.bytes.extend_from_slice(bytes);
        let sentinel = held.sentinel;
        let mut asked = std::mem::take(&mut held.bytes);
        while let Some(command) = take_command(&mut asked) {
            answer.extend(self.answer(now, sentinel, &command, cluster).encode());
        }
        if let Some(held) = self.conns.get_mut(&conn) {
            held.bytes = asked;
        }
        answer
    }

    fn answer(&self, now: u64, sentinel: usize, command: &Command, cluster: &Cluster) -> Reply {
        let word = |at: usize| command.get(at).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        match (word(0).as_slice(), word(1).as_slice()) {
            (b"CLIENT" | b"SELECT", _) => Reply::Status("OK"),
            (b"PING", _) => Reply::Status("PONG"),
            (b"SENTINEL", _) if command.get(2).is_none_or(|name| name != SERVICE.as_bytes()) => {
                Reply::Error("ERR No such master with that name".into())
            }
            (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME") => {
                let primary = self.views[sentinel].primary;
                Reply::List(vec![Reply::bulk(address(primary)), Reply::bulk(PORT.to_string())])
            }
            (b"SENTINEL", b"REPLICAS" | b"SLAVES") => self.replicas(now, sentinel, cluster),
            _ => panic!("the simulated sentinel has no {}", String::from_utf8_lossy(&command.join(&b' '))),
        }
    }

    /// Every node that it ever heard of and does not name the primary.
    fn replicas(&self, now: u64, sentinel: usize, cluster: &Cluster) -> Reply {
        let primary = self.views[sentinel].primary;
        let others = cluster.nodes.iter().enumerate().filter(|(number, _)| *number != primary);
        let told = others.map(|(number, node)| {
            let down = node.condition == Condition::Down;
            let linked = !down && node.follows == Some(primary);
            let fields = [
                ("name", format!("{}:{PORT}", address(number))),
                ("ip", address(number)),
                ("port", PORT.to_string()),
                ("runid", format!("{number:040x}")),
                (
                    "flags",
                    if down && now >= node.died + DOWN_AFTER {
                        "s_down,slave"
                    } else {
                        "slave"
                    }
                    .to_owned(),
                ),
                ("last-ok-ping-reply", "100".to_owned()),
                ("role-reported", if node.follows.is_none() { "master" } else { "slave" }.to_owned()),
                ("master-link-status", if linked { "ok" } else { "err" }.to_owned()),
                ("master-host", node.follows.map_or_else(|| "?".to_owned(), address)),
                ("master-port", PORT.to_string()),
                ("slave-priority", "100".to_owned()),
                ("slave-repl-offset", node.log.len().to_string()),
                ("replica-announced", "1".to_owned()),
            ];
            Reply::List(
                fields
                    .iter()
                    .flat_map(|(name, value)| [Reply::bulk(name), Reply::bulk(value)])
                    .collect(),
            )
        });
        Reply::List(told.collect())
    }
}
