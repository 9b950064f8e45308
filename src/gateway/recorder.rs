//! One worker's end of the audit trail: writes the entries of its requests.

use std::cell::RefCell;
use std::sync::Arc;

use crate::audit::body::CapturedBodies;
use crate::audit::entry::{EntryFormatter, RequestEntry, RequestStage};
use crate::audit::trail::{DurableReceipt, Trail, WorkerTrail};

/// Writes the entries of one worker's requests. Nothing of it waits but [`DurableReceipt`].
pub(super) struct RequestRecorder {
    trail: WorkerTrail,
    formatter: RefCell<EntryFormatter>,
}

impl RequestRecorder {
    pub(super) fn new(trail: &Arc<Trail>) -> Self {
        Self {
            trail: trail.worker(),
            formatter: RefCell::default(),
        }
    }

    /// Whether there is room for the entry of a request. The room is kept until the entry is written.
    pub(super) fn admits(&self) -> bool {
        self.trail.admits()
    }

    /// Whether an answer is only sent when an entry of it is on the disk.
    pub(super) const fn waits_for_disk(&self) -> bool {
        self.trail.waits()
    }

    /// Whether a request that cannot be recorded is refused.
    pub(super) const fn refuses(&self) -> bool {
        self.trail.refuses()
    }

    /// Writes the entry of a request that has ended.
    pub(super) fn push(&self, entry: &RequestEntry<'_>, bodies: CapturedBodies) {
        let write = |out: &mut Vec<u8>| self.formatter.borrow_mut().write(RequestStage::Ended, entry, out);
        self.trail.push(write, bodies);
    }

    /// Writes the entry of a request whose answer is about to be sent.
    pub(super) fn push_answered(&self, entry: &RequestEntry<'_>) -> DurableReceipt {
        let write = |out: &mut Vec<u8>| self.formatter.borrow_mut().write(RequestStage::Answered, entry, out);
        self.trail.push_durable(write)
    }

    /// Hands written entries over. Called about every 100 ms.
    pub(super) fn tick(&self) {
        self.trail.tick();
    }
}
