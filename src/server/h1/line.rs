//! What the request that a connection is serving is cut off by.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Waker;

use crate::gateway::Lifeline;
use crate::telemetry::StreamKind;

/// One for each connection: it serves one request at a time, and all of it is one task.
pub(super) struct Line {
    waker: Waker,
    cut: Cell<bool>,
}

impl Line {
    pub(super) fn new(waker: Waker) -> Rc<Self> {
        Rc::new(Self {
            waker,
            cut: Cell::new(false),
        })
    }

    /// Whether the request is to end.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Another request, or what answers the one that was cut off, is not cut off with it.
    pub(super) fn renew(&self) {
        self.cut.set(false);
    }
}

impl Lifeline for Line {
    fn kind(&self) -> StreamKind {
        StreamKind::Http1
    }

    fn cut(&self) {
        self.cut.set(true);
        self.waker.wake_by_ref();
    }
}
