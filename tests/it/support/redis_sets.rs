//! Sets of real Redis processes: sentinels that watch a primary, and a cluster of three nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed, and this says where"
)]

use std::process::{Child, Command};

use rustix::process::Signal;

use super::redis::{RedisServer, free_port, signal_to, spawn_until};
use super::wait::{PATIENCE, until};

/// What sentinels call the primary.
pub(crate) const SERVICE: &str = "main";

/// Ports to try for one sentinel.
const TRIES: usize = 20;

/// Sentinels that watch one primary, and agree when more than half of them do.
pub(crate) struct Sentinels {
    processes: Vec<Child>,
    ports: Vec<u16>,
    directory: tempfile::TempDir,
}

impl Sentinels {
    /// Starts this many, and waits until each knows the primary, its replicas and the other sentinels.
    pub(crate) fn watching(primary: &RedisServer, count: usize, replicas: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut sentinels = Self {
            processes: Vec::new(),
            ports: Vec::new(),
            directory,
        };
        for i in 0..count {
            let (child, port) = (0..TRIES)
                .find_map(|_| {
                    let port = free_port();
                    let file = sentinels.directory.path().join(format!("{i}.conf"));
                    // A split vote is repeated after twice the time limit of a failover.
                    let settings = format!(
                        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {SERVICE} 127.0.0.1 {} {}\n\
                         sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 5000\n",
                        sentinels.directory.path().display(),
                        primary.port(),
                        count / 2 + 1,
                    );
                    std::fs::write(&file, settings).unwrap();
                    let mut command = Command::new("redis-server");
                    command.arg(&file).arg("--sentinel");
                    spawn_until(command, "+monitor master").map(|child| (child, port))
                })
                .expect("no sentinel started");
            sentinels.processes.push(child);
            sentinels.ports.push(port);
        }
        for i in 0..count {
            until("the sentinels to know each other and the replicas", PATIENCE, || {
                let state: Vec<String> = sentinels.ask(i, &["SENTINEL", "MASTER", SERVICE]);
                let field = |name: &str| {
                    let at = state.iter().position(|word| word == name)?;
                    state.get(at + 1)?.parse::<usize>().ok()
                };
                (field("num-other-sentinels") == Some(count - 1) && field("num-slaves") == Some(replicas)).then_some(())
            });
        }
        sentinels
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Runs one command on one of them.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, sentinel: usize, words: &[&str]) -> T {
        self.try_to_ask(sentinel, words).unwrap()
    }

    /// Makes the first of them promote a replica while the primary lives.
    pub(crate) fn promote(&self) {
        // A replica that it has just found is none it would promote yet.
        until("a replica that can be promoted", PATIENCE, || {
            self.try_to_ask::<()>(0, &["SENTINEL", "FAILOVER", SERVICE]).ok()
        });
    }

    fn try_to_ask<T: redis::FromRedisValue>(&self, sentinel: usize, words: &[&str]) -> redis::RedisResult<T> {
        let url = format!("redis://127.0.0.1:{}", self.ports[sentinel]);
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut connection)
    }

    /// Makes one hang.
    pub(crate) fn pause(&self, sentinel: usize) {
        signal_to(&self.processes[sentinel], Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self, sentinel: usize) {
        signal_to(&self.processes[sentinel], Signal::CONT);
    }

    /// Waits until all of them name this server.
    pub(crate) fn until_named(&self, server: &RedisServer) {
        for sentinel in 0..self.ports.len() {
            until("the failover", PATIENCE, || self.names(sentinel, server).then_some(()));
        }
    }

    /// Whether more than half of them name this server.
    pub(crate) fn have_named(&self, server: &RedisServer) -> bool {
        let all = self.ports.len();
        (0..all).filter(|sentinel| self.names(*sentinel, server)).count() > all / 2
    }

    fn names(&self, sentinel: usize, server: &RedisServer) -> bool {
        let named: (String, String) = self.ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        named.1 == server.port().to_string()
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Nodes that share the slots, without replicas; three of them unless one is asked for.
pub(crate) struct Cluster {
    /// The nodes, in the order of their slots.
    pub(crate) nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts the nodes and waits until all of them find the cluster complete.
    pub(crate) fn start() -> Self {
        Self::start_with_timeout(1_500)
    }

    /// The same; a node is given up after so many milliseconds.
    pub(crate) fn start_with_timeout(millis: u32) -> Self {
        Self::sharing(&[("0", "5460"), ("5461", "10922"), ("10923", "16383")], millis)
    }

    /// One node that has every slot.
    pub(crate) fn of_one() -> Self {
        Self::sharing(&[("0", "16383")], 1_500)
    }

    fn sharing(slots: &[(&str, &str)], millis: u32) -> Self {
        let mut buses = Vec::new();
        let mut nodes = Vec::new();
        for (first, last) in slots {
            let (node, bus) = start_node(millis);
            node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
            buses.push(bus);
            nodes.push(node);
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            nodes[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), bus]);
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            until("the cluster", PATIENCE, || {
                let info: String = node.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok").then_some(())
            });
        }
        cluster
    }

    /// Starts a replica of one of the nodes, and waits until all know it and it has everything.
    pub(crate) fn start_replica(&self, of: usize) -> RedisServer {
        let (node, bus) = start_node(1_500);
        let port = node.port().to_string();
        self.nodes[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        let id: String = self.nodes[of].command(&["CLUSTER", "MYID"]);
        until("the node to know its primary", PATIENCE, || {
            node.try_command::<()>(&["CLUSTER", "REPLICATE", &id]).ok()
        });
        until("the replica to have everything", PATIENCE, || {
            let info: String = node.command(&["INFO", "replication"]);
            info.contains("master_link_status:up").then_some(())
        });
        for other in &self.nodes {
            until("the others to know the replica", PATIENCE, || {
                let slots: redis::Value = other.command(&["CLUSTER", "SLOTS"]);
                format!("{slots:?}").contains(&format!("int({port})")).then_some(())
            });
        }
        node
    }

    /// The same; the replica becomes one of the nodes.
    pub(crate) fn add_replica(&mut self, of: usize) -> usize {
        let node = self.start_replica(of);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Addresses of all nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect()
    }

    /// The node that has the slot of this key.
    pub(crate) fn owner(&self, key: &str) -> usize {
        let slot: i64 = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]);
        match slot {
            0..=5_460 => 0,
            5_461..=10_922 => 1,
            _ => 2,
        }
    }

    /// Moves the slot of this key, with all its keys, from one node to another.
    pub(crate) fn move_slot(&self, key: &str, from: usize, to: usize) {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        let id = |node: &RedisServer| node.command::<String>(&["CLUSTER", "MYID"]);
        let slot = from.command::<i64>(&["CLUSTER", "KEYSLOT", key]).to_string();
        to.command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        let keys: Vec<String> = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        let port = to.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        from.command::<()>(&migrate);
        for node in [to, from] {
            node.command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
        }
    }
}

/// A node of a cluster to come, and the port of its bus.
fn start_node(timeout_millis: u32) -> (RedisServer, String) {
    let timeout = timeout_millis.to_string();
    let mut bus = String::new();
    let node = RedisServer::start_choosing(|| {
        bus = free_port().to_string();
        let words = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            &timeout,
            "--cluster-port",
            &bus,
        ];
        words.iter().map(|&word| word.to_owned()).collect()
    });
    (node, bus)
}
