//! What the request that a connection is serving is cut off by.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use crate::gateway::{Cut, Lifeline};
use crate::telemetry::StreamKind;

/// One for each connection: it serves one request at a time, and all of it is one task.
pub(super) struct Line {
    waker: Waker,
    cut: Cell<Option<Cut>>,
    stall: Rc<Stall>,
}

/// Since when the client of a connection has taken nothing of what is there.
#[derive(Debug, Default)]
pub(super) struct Stall(Cell<Option<Instant>>);

impl Stall {
    pub(super) fn set(&self, since: Option<Instant>) {
        self.0.set(since);
    }
}

impl Line {
    pub(super) fn new(waker: Waker, stall: Rc<Stall>) -> Rc<Self> {
        Rc::new(Self {
            waker,
            cut: Cell::new(None),
            stall,
        })
    }

    /// Why the request is to end, if it is.
    pub(super) fn cut_for(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// Another request, or what answers the one that was cut off, is not cut off with it.
    pub(super) fn renew(&self) {
        self.cut.set(None);
    }
}

impl Lifeline for Line {
    fn kind(&self) -> StreamKind {
        StreamKind::Http1
    }

    fn stalled_since(&self) -> Option<Instant> {
        self.stall.0.get()
    }

    fn cut(&self, why: Cut) {
        self.cut.set(Some(why));
        self.waker.wake_by_ref();
    }
}
