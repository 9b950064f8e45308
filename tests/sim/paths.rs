//! What lies between gateways and the servers: how late bytes are, and which are kept.

use std::collections::BTreeMap;

use crate::cluster::address;
use crate::pipe::{Arrived, ConnId, Sent};
use crate::sentinels::{SENTINELS, sentinel_address};
use crate::world::{Event, World, gateway_of};

/// One direction between a gateway and the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// Bytes are kept until it opens again.
    Held,
}

/// Where a connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Whatever node is the primary.
    Store,
    Node(usize),
    Sentinel(usize),
}

/// What a gateway reaches that is cut off together with a node and a sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) node: usize,
    pub(crate) sentinel: usize,
}

/// What lies between a gateway and the servers.
pub(crate) struct Path {
    pub(crate) up: Flow,
    pub(crate) down: Flow,
    /// The same between it and every sentinel.
    pub(crate) sentinels: Flow,
    pub(crate) side: Option<Side>,
    pub(crate) delay: (u64, u64),
    held_up: Vec<(ConnId, Sent)>,
    held_down: Vec<(ConnId, Arrived)>,
    /// When the last bytes of a connection arrive, up and down: bytes do not overtake each other.
    last: BTreeMap<ConnId, (u64, u64)>,
}

impl Path {
    pub(crate) const fn new() -> Self {
        Self {
            up: Flow::Open,
            down: Flow::Open,
            sentinels: Flow::Open,
            side: None,
            delay: (1, 12),
            held_up: Vec::new(),
            held_down: Vec::new(),
            last: BTreeMap::new(),
        }
    }

    fn holds(&self, flow: Flow, target: Target) -> bool {
        match (target, self.side) {
            (Target::Sentinel(sentinel), Some(side)) if sentinel != side.sentinel => true,
            (Target::Node(node), Some(side)) if node != side.node => true,
            (Target::Sentinel(_), _) => self.sentinels == Flow::Held,
            (Target::Store | Target::Node(_), _) => flow == Flow::Held,
        }
    }
}

impl World {
    fn target_of(&self, host: &str) -> Target {
        let node = (0..self.cluster.nodes.len()).find(|node| address(*node) == host);
        let sentinel = (0..SENTINELS).find(|sentinel| sentinel_address(*sentinel) == host);
        match (node, sentinel) {
            (Some(node), _) => Target::Node(node),
            (_, Some(sentinel)) => Target::Sentinel(sentinel),
            _ => Target::Store,
        }
    }

    pub(crate) fn send_up(&mut self, g: usize, conn: ConnId, sent: Sent) {
        if let Sent::Connect(host) = &sent {
            let target = self.target_of(host);
            self.targets.insert(conn, target);
        }
        let target = self.targets[&conn];
        let path = &mut self.paths[g];
        if path.holds(path.up, target) {
            path.held_up.push((conn, sent));
            return;
        }
        let delay = self.chance.between(path.delay.0, path.delay.1);
        let last = path.last.entry(conn).or_default();
        last.0 = last.0.max(self.now + delay);
        let wait = last.0 - self.now;
        self.after(wait, Event::AtStore(conn, sent));
    }

    pub(crate) fn send_down(&mut self, conn: ConnId, arrived: Arrived) {
        let target = self.targets[&conn];
        let path = &mut self.paths[gateway_of(conn)];
        if path.holds(path.down, target) {
            path.held_down.push((conn, arrived));
            return;
        }
        let delay = self.chance.between(path.delay.0, path.delay.1);
        let last = path.last.entry(conn).or_default();
        last.1 = last.1.max(self.now + delay);
        let wait = last.1 - self.now;
        self.after(wait, Event::AtGateway(conn, arrived));
    }

    /// Lets go what was held.
    pub(crate) fn open_path(&mut self, g: usize) {
        let path = &mut self.paths[g];
        (path.up, path.down, path.sentinels, path.side) = (Flow::Open, Flow::Open, Flow::Open, None);
        let (up, down) = (std::mem::take(&mut path.held_up), std::mem::take(&mut path.held_down));
        for (conn, sent) in up {
            self.send_up(g, conn, sent);
        }
        for (conn, arrived) in down {
            self.send_down(conn, arrived);
        }
    }

    pub(crate) fn reach_store(&mut self, conn: ConnId, sent: Sent) {
        match sent {
            Sent::Connect(_) => {
                let accepted = match self.targets[&conn] {
                    Target::Store => !self.away && self.cluster.connect(conn, self.cluster.primary),
                    Target::Node(node) => self.cluster.connect(conn, node),
                    Target::Sentinel(sentinel) => {
                        self.sentinels.connect(conn, sentinel);
                        true
                    }
                };
                self.tell(format_args!(
                    "connection {conn:x} to {:?}: accepted {accepted}",
                    self.targets[&conn]
                ));
                self.send_down(conn, if accepted { Arrived::Accepted } else { Arrived::Refused });
            }
            Sent::Bytes(bytes) if self.sentinels.of(conn).is_some() => {
                let answer = self.sentinels.receive(self.now, conn, &bytes, &self.cluster);
                if !answer.is_empty() {
                    self.send_down(conn, Arrived::Bytes(answer));
                }
            }
            Sent::Bytes(bytes) => {
                if self.cluster.is_connected(conn) {
                    self.cluster.receive(self.now, conn, &bytes);
                    self.collect();
                } else {
                    self.send_down(conn, Arrived::Reset);
                }
            }
            Sent::Close => {
                self.cluster.disconnect(conn);
                self.sentinels.disconnect(conn);
            }
        }
    }
}
