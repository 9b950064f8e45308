//! Commands of the simulated store that wait: for events, and for replicas.

use crate::cluster::{Cluster, Condition, Output, Waiting};
use crate::database::{Database, parse_id};
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

    /// Answers each connection whose wait is over. After each answer it looks again: the next command of that connection may end the wait
    /// of another one, which is answered then and must not be answered twice.
    pub(crate) fn wake(&mut self, now: u64) {
        let ready = |cluster: &Self| {
            let mut up = cluster
                .conns
                .iter()
                .filter(|(_, conn)| cluster.nodes[conn.node].condition == Condition::Up);
            up.find_map(|(id, conn)| Some((*id, cluster.outcome(conn.node, conn.waiting.as_ref()?)?)))
        };
        while let Some((id, reply)) = ready(self) {
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

#[test]
fn whoever_waits_is_answered_once() {
    let mut cluster = Cluster::new(&Database::default(), 2);
    let send = |cluster: &mut Cluster, conn: ConnId, commands: &[&str]| {
        for command in commands {
            let words: Vec<Reply> = command.split(' ').map(Reply::bulk).collect();
            cluster.receive(0, conn, &Reply::List(words).encode());
        }
    };
    for conn in [1, 2] {
        assert!(cluster.connect(conn, 0));
    }
    // One write of the replica ends both waits. The first connection then writes by itself, and the simulation looks at all waits again.
    send(&mut cluster, 1, &["HSET h f 1", "WAIT 1 1000", "HSET h f 2"]);
    send(&mut cluster, 2, &["WAIT 1 1000"]);
    cluster.output.clear();
    cluster.replicate(1, 1, 0, 1);
    let answers = |conn: ConnId| {
        let of_conn = cluster.output.iter().filter_map(|output| match output {
            Output::Reply(to, bytes) if *to == conn => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        });
        of_conn.collect::<Vec<_>>()
    };
    assert_eq!(answers(1), [":1\r\n", ":0\r\n"]);
    assert_eq!(answers(2), [":1\r\n"]);
}
