//! The streams of one HTTP/2 connection: their tasks, and which of them wait for a client that does not read.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::task::{AbortHandle, Id, JoinSet};

use crate::base::clock;
use crate::gateway::{AbortReason, StreamControl};
use crate::server::counters::WorkerCounters;
use crate::server::deadline::TransferTimeout;
use crate::server::worker::note_end;
use crate::snapshot::Limits;
use crate::telemetry::{StreamEnd, StreamKind};

/// Runs the future of each stream as a task of its own, so that a panic ends only that stream, and ends all of them
/// when the connection ends. It is cloned for the library, to which it is an executor.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<StreamSet>);

#[derive(Default)]
struct StreamSet {
    tasks: RefCell<JoinSet<()>>,
    entries: RefCell<HashMap<Id, StreamEntry>>,
}

struct StreamEntry {
    abort: AbortHandle,
    handle: Option<Rc<StreamHandle>>,
}

/// What is known of a stream's client, and how the stream is ended.
pub(super) struct StreamHandle {
    /// Bounds how long the client may take to read. The wait begins when a piece is handed over that the client has not
    /// yet taken.
    timeout: Cell<TransferTimeout>,
    aborted: Cell<bool>,
    slow: Cell<bool>,
    /// Bytes of the request's body that were read.
    received: Cell<u64>,
    task: Option<AbortHandle>,
}

impl StreamHandle {
    pub(super) fn new(limits: &Limits, task: Option<AbortHandle>) -> Rc<Self> {
        Rc::new(Self {
            timeout: Cell::new(TransferTimeout::for_response(limits, limits.body_idle)),
            aborted: Cell::new(false),
            slow: Cell::new(false),
            received: Cell::new(0),
            task,
        })
    }

    /// This much of the response was handed over, or nothing yet of one that waits for the client's window.
    ///
    /// The piece counts as read while it is waited for, since the library does not tell how much of it has left.
    pub(super) fn note_handed_over(&self, bytes: usize) {
        let mut timeout = self.timeout.get();
        timeout.note_transfer(bytes, clock::instant);
        let _ = timeout.deadline(clock::instant());
        self.timeout.set(timeout);
    }

    /// So many bytes of the request's body were read in all.
    pub(super) fn set_received(&self, bytes: u64) {
        self.received.set(bytes);
    }

    /// The piece was taken: the library asks for the next one.
    pub(super) fn note_taken(&self) {
        let mut timeout = self.timeout.get();
        if timeout.waiting_since().is_some() {
            timeout.note_transfer(0, clock::instant);
            self.timeout.set(timeout);
        }
    }

    /// Whether the client has been too slow.
    fn is_slow(&self, now: Instant) -> bool {
        let mut timeout = self.timeout.get();
        timeout.waiting_since().is_some() && timeout.deadline(now) <= now
    }

    /// Ends the stream. The library resets it when its task is gone (RFC 9113, section 5.4.2).
    fn abort(&self) {
        self.aborted.set(true);
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Whether the gateway ended the stream: its client was too slow, its credential became invalid, or another request
    /// needed its resources.
    pub(super) fn was_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// Why the stream was ended, if because of its client.
    pub(super) fn reason(&self) -> Option<StreamEnd> {
        self.slow.get().then_some(StreamEnd::Slow)
    }
}

impl StreamControl for StreamHandle {
    fn kind(&self) -> StreamKind {
        StreamKind::Http2
    }

    fn stalled_since(&self) -> Option<Instant> {
        self.timeout.get().waiting_since()
    }

    fn received(&self) -> u64 {
        self.received.get()
    }

    fn abort(&self, _: AbortReason) {
        self.abort();
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        let task = async move {
            future.await;
        };
        let abort = self.0.tasks.borrow_mut().spawn_local(task);
        self.0.entries.borrow_mut().insert(abort.id(), StreamEntry { abort, handle: None });
    }
}

impl Streams {
    /// A new handle for the stream on whose task this is called.
    pub(super) fn new_handle(&self, limits: &Limits) -> Rc<StreamHandle> {
        let mut entries = self.0.entries.borrow_mut();
        let Some(entry) = tokio::task::try_id().and_then(|id| entries.get_mut(&id)) else {
            return StreamHandle::new(limits, None);
        };
        let handle = StreamHandle::new(limits, Some(entry.abort.clone()));
        entry.handle = Some(Rc::clone(&handle));
        handle
    }

    /// How many streams are being served.
    pub(super) fn len(&self) -> usize {
        self.0.entries.borrow().len()
    }

    /// Removes the streams that have ended, and wakes the task when another one ends.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>, counters: &WorkerCounters) {
        let mut tasks = self.0.tasks.borrow_mut();
        while let Poll::Ready(Some(ended)) = tasks.poll_join_next_with_id(cx) {
            let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
            self.0.entries.borrow_mut().remove(&id);
            note_end(ended.map(|_| ()), counters);
        }
    }

    /// Ends every stream. The tasks hold the connection's shared state, and with it this set, so dropping the set alone
    /// would end nothing.
    pub(super) fn abort_all(&self) {
        self.0.tasks.borrow_mut().abort_all();
    }

    /// Ends the streams whose clients have been too slow. Returns how many.
    pub(super) fn abort_slow(&self, now: Instant) -> usize {
        let entries = self.0.entries.borrow();
        let offers = entries.values().filter_map(|entry| entry.handle.as_ref());
        offers
            .filter(|handle| handle.is_slow(now))
            .map(|handle| {
                handle.slow.set(true);
                handle.abort();
            })
            .count()
    }

    /// Notes in each stream that waits for the client that the connection ends because the client reads nothing.
    pub(super) fn note_slow(&self) {
        let entries = self.0.entries.borrow();
        let offers = entries.values().filter_map(|entry| entry.handle.as_ref());
        for handle in offers.filter(|handle| handle.timeout.get().waiting_since().is_some()) {
            handle.slow.set(true);
        }
    }
}
