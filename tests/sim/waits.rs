//! Commands of the simulated store that wait: for events, and for replicas.

use crate::cluster::{Cluster, Condition, Output, Waiting};
use crate::database::parse_id;
use crate::pipe::ConnId;
use crate::resp::{Command, Reply};

impl Cluster {
    /// `XREAD COUNT n BLOCK ms STREAMS key id`, in either order of the options; without them it is only tried.
    pub(crate) fn read_stream(&mut self, id: ConnId, command: &Command) {
        if command.len() < 8 {
            let blank = self.nodes[self.conns[&id].node].database.read_stream(b"", (0, 0), 1);
            return self.reply(id, &blank);
        }
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

    pub(crate) fn wait(&mut self, id: ConnId, command: &Command) {
        let number = |word: &[u8]| std::str::from_utf8(word).unwrap().parse::<u64>().unwrap();
        let waiting = Waiting::Replicas {
            wanted: usize::try_from(number(&command[1])).unwrap(),
            offset: self.nodes[self.conns[&id].node].log.len(),
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
        let replicas = self.nodes.iter().filter(|other| other.follows == Some(node));
        replicas
            .filter(|replica| replica.linked && !replica.stale && replica.condition == Condition::Up && replica.log.len() >= offset)
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

    pub(crate) fn end_wait(&mut self, now: u64, id: ConnId, reply: &Reply) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.waiting = None;
        }
        self.reply(id, reply);
        self.serve(now, id);
    }
}
