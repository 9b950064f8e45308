//! Entries on their way into the files: they get their numbers and their hashes here.

use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use crate::base::text::push_decimal;

use super::body::{BodyRecorder, CapturedBodies};
use super::trail::NotRecorded;
use super::tree::{Frontier, leaf_hash};

/// Who waits until an entry is on the disk.
pub(super) enum Waiter {
    Receipt(oneshot::Sender<Result<u64, NotRecorded>>),
    /// Somebody who does the next thing only when the entry is on the disk.
    Note(Sender<bool>),
}

impl Waiter {
    pub(super) fn answer(self, seq: Result<u64, NotRecorded>) {
        match self {
            Self::Receipt(receipt) => drop(receipt.send(seq)),
            Self::Note(note) => drop(note.send(seq.is_ok())),
        }
    }
}

/// A waiter with the number of its entry.
pub(super) struct WaitingFor {
    pub(super) seq: u64,
    pub(super) waiter: Waiter,
}

/// Entries with their numbers, as they are written.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    pub(super) leaves: Vec<u8>,
    pub(super) nodes: Vec<u8>,
    pub(super) bodies: Vec<u8>,
    pub(super) entries: u64,
    /// Those of them that are the writer's own.
    pub(super) own: u64,
    /// What its gap entries tell.
    pub(super) losses: Losses,
    pub(super) waiters: Vec<WaitingFor>,
}

impl Batch {
    /// Adds an entry at the end of the tree. `gateway` is what every entry begins with after its number.
    pub(super) fn add(&mut self, tree: &mut Frontier, gateway: &[u8], members: &[u8]) {
        let begin = self.begin(tree.size(), gateway, members);
        self.end(tree, begin);
    }

    /// The same with the bodies of a request.
    pub(super) fn add_with_bodies(
        &mut self,
        tree: &mut Frontier,
        gateway: &[u8],
        members: &[u8],
        bodies: CapturedBodies,
        recorder: &mut BodyRecorder,
    ) {
        let begin = self.begin(tree.size(), gateway, members);
        recorder.record(bodies, tree.size(), &mut self.lines, &mut self.bodies);
        self.end(tree, begin);
    }

    /// Begins a line, and says where.
    fn begin(&mut self, seq: u64, gateway: &[u8], members: &[u8]) -> usize {
        let begin = self.lines.len();
        let lines = &mut self.lines;
        lines.extend_from_slice(b"{\"seq\":");
        push_decimal(lines, seq);
        lines.extend_from_slice(gateway);
        lines.extend_from_slice(members);
        begin
    }

    fn end(&mut self, tree: &mut Frontier, begin: usize) {
        self.lines.push(b'}');
        let leaf = leaf_hash(&self.lines[begin..]);
        self.lines.push(b'\n');
        self.leaves.extend_from_slice(&leaf);
        if let Some(node) = tree.push(leaf) {
            self.nodes.extend_from_slice(&node);
        }
        self.entries += 1;
    }
}

/// What no entry tells yet.
#[derive(Default)]
pub(super) struct Losses {
    /// Entries that found no room on their way to the writer.
    pub(super) dropped: u64,
    /// Entries that the disk did not take.
    pub(super) lost: u64,
    /// When the first of those was lost.
    pub(super) lost_from: Option<String>,
    /// Requests that were refused since they could not be recorded.
    pub(super) refused: u64,
}

impl Losses {
    pub(super) fn add(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.lost += other.lost;
        self.lost_from = self.lost_from.take().or(other.lost_from);
        self.refused += other.refused;
    }
}
