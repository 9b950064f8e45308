//! How the servers of the simulated store follow each other.

use std::rc::Rc;

use crate::cluster::{Cluster, Condition};
use crate::database::Database;
use crate::resp::{Command, Reply};

impl Cluster {
    /// A replica repeats what its primary wrote, up to here; it may follow another one meanwhile.
    pub(crate) fn replicate(&mut self, now: u64, node: usize, from: usize, upto: usize) {
        let replica = &self.nodes[node];
        if replica.follows != Some(from) || !replica.linked || replica.condition != Condition::Up {
            return;
        }
        if replica.stale {
            self.take_over(node, from);
            return self.wake(now);
        }
        let log = &self.nodes[from].log;
        let missed: Vec<_> = log.get(replica.log.len()..upto.min(log.len())).unwrap_or_default().to_vec();
        let replica = &mut self.nodes[node];
        for command in missed {
            replica.database.call(&command);
            replica.log.push(command);
        }
        replica.database.written.clear();
        self.wake(now);
    }

    /// A replica becomes the primary; what it had not heard of is lost. The old one goes on believing that it is one,
    /// and the others go on following that. Answers how many of its writes are left.
    pub(crate) fn promote(&mut self, node: usize) -> usize {
        let old = std::mem::replace(&mut self.primary, node);
        self.begin_line(node);
        let pairs = self.nodes[old].log.iter().zip(&self.nodes[node].log);
        pairs.take_while(|(before, after)| Rc::ptr_eq(before, after)).count()
    }

    /// A replica hears its primary, or no longer.
    pub(crate) fn link(&mut self, node: usize, linked: bool) {
        self.nodes[node].linked = linked;
    }

    /// A node becomes a replica of the primary, and begins with its data if it can hear it. What it wrote by itself is
    /// lost.
    pub(crate) fn demote(&mut self, now: u64, node: usize) {
        if node == self.primary {
            return;
        }
        let believed = self.nodes[node].follows.replace(self.primary).is_none();
        self.nodes[node].stale = true;
        self.take_over(node, self.primary);
        for id in self.conns_to(Some(node)) {
            if believed && self.conns[&id].waiting.is_some() {
                let error = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
                self.end_wait(now, id, &Reply::Error(error.into()));
            }
        }
    }

    /// A node takes itself for a primary again, with the data it has.
    pub(crate) fn believe(&mut self, node: usize) {
        self.begin_line(node);
    }

    fn begin_line(&mut self, node: usize) {
        self.lines += 1;
        let line = self.lines;
        let node = &mut self.nodes[node];
        (node.follows, node.stale, node.line) = (None, false, line);
    }

    /// Whether this node is told apart from the primary by nobody who only asks it.
    pub(crate) fn believes(&self, node: usize) -> bool {
        node != self.primary && self.nodes[node].follows.is_none()
    }

    fn take_over(&mut self, node: usize, from: usize) {
        let (data, log, line) = (
            self.nodes[from].database.clone(),
            self.nodes[from].log.clone(),
            self.nodes[from].line,
        );
        let replica = &mut self.nodes[node];
        if replica.linked && replica.condition == Condition::Up {
            (replica.database, replica.log, replica.line, replica.stale) = (data, log, line, false);
        }
    }

    /// The reachable replica that has heard most.
    pub(crate) fn best_replica(&self) -> Option<usize> {
        self.replicas().into_iter().max_by_key(|node| (self.nodes[*node].log.len(), *node))
    }

    /// Those that could be promoted.
    pub(crate) fn replicas(&self) -> Vec<usize> {
        self.replicas_of(self.primary)
    }

    pub(crate) fn replicas_of(&self, primary: usize) -> Vec<usize> {
        let replica = |node: &usize| self.nodes[*node].follows == Some(primary) && self.nodes[*node].condition == Condition::Up;
        (0..self.nodes.len()).filter(replica).collect()
    }

    /// Every replica follows the primary, and begins with its data if it hears it; a node that believes to be one goes
    /// on.
    pub(crate) fn follow_primary(&mut self) {
        for node in 0..self.nodes.len() {
            if node != self.primary && self.nodes[node].follows.is_some() {
                self.nodes[node].follows = Some(self.primary);
                self.nodes[node].stale = true;
                self.take_over(node, self.primary);
            }
        }
    }

    /// The primary goes on with other data, and everybody follows it.
    pub(crate) fn replace_data(&mut self, now: u64, data: Database) {
        let primary = self.primary;
        self.begin_line(primary);
        self.nodes[primary].database = data;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.log.clear();
            node.stale = number != primary;
        }
        self.follow_primary();
        self.wake(now);
    }

    /// Somebody else writes to the primary.
    pub(crate) fn inject(&mut self, now: u64, command: &[&str]) {
        let command: Command = command.iter().map(|word| word.as_bytes().to_vec()).collect();
        let primary = self.primary;
        let node = &mut self.nodes[primary];
        if node.condition == Condition::Up {
            node.database.now = now;
            node.database.call(&command);
            self.spread(now, None, primary);
        }
    }

    /// Fields of a hash of the primary that are of this gateway.
    pub(crate) fn entries(&mut self, key: &str, id: &str) -> Vec<String> {
        let primary = self.primary;
        let Reply::List(fields) = self.nodes[primary].database.call(&[b"HKEYS".to_vec(), key.into()]) else {
            return Vec::new();
        };
        let texts = fields.into_iter().filter_map(|field| match field {
            Reply::Bulk(text) => String::from_utf8(text).ok(),
            _ => None,
        });
        texts.filter(|text| text.split('/').next() == Some(id)).collect()
    }

    /// A process that starts again is another one, and has no scripts.
    pub(crate) fn start_again(&mut self, node: usize) {
        self.nodes[node].scripts.clear();
        self.nodes[node].run += 1;
    }
}
