//! The streams of one HTTP/2 connection: their tasks, and which of them wait for a client that
//! does not take what it is offered.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, Id, JoinSet};

use crate::base::clock;
use crate::gateway::Lifeline;
use crate::server::counters::WorkerCounters;
use crate::server::worker::note_end;
use crate::telemetry::StreamKind;

/// Runs each stream's future as a task of its own, so that a panic ends that stream only, and ends
/// them all when the connection ends. Cloned for the library, which calls it an executor.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<Inner>);

#[derive(Default)]
struct Inner {
    tasks: RefCell<JoinSet<()>>,
    entries: RefCell<HashMap<Id, Entry>>,
}

struct Entry {
    abort: AbortHandle,
    offer: Option<Rc<Offer>>,
}

/// What a stream has offered to its client, and how it is ended.
#[derive(Default)]
pub(super) struct Offer {
    /// When the piece that is not yet taken was offered.
    since: Cell<Option<Instant>>,
    cut_off: Cell<bool>,
    task: Option<AbortHandle>,
}

impl Offer {
    /// A piece of the answer was handed over.
    pub(super) fn open(&self) {
        self.since.set(Some(clock::instant()));
    }

    /// It was taken: the next is asked for.
    pub(super) fn close(&self) {
        self.since.set(None);
    }

    /// Ends the stream: the library resets it when its task is gone (RFC 9113, section 5.4.2).
    fn end(&self) {
        self.cut_off.set(true);
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Whether the stream was ended by us: its client took nothing, or its credential died.
    pub(super) fn was_cut_off(&self) -> bool {
        self.cut_off.get()
    }
}

impl Lifeline for Offer {
    fn kind(&self) -> StreamKind {
        StreamKind::Http2
    }

    fn cut(&self) {
        self.end();
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        let task = async move {
            future.await;
        };
        let abort = self.0.tasks.borrow_mut().spawn_local(task);
        self.0.entries.borrow_mut().insert(abort.id(), Entry { abort, offer: None });
    }
}

impl Streams {
    /// The offer of the stream whose task this is called on.
    pub(super) fn offer(&self) -> Rc<Offer> {
        let mut entries = self.0.entries.borrow_mut();
        let Some(entry) = tokio::task::try_id().and_then(|id| entries.get_mut(&id)) else {
            return Rc::default();
        };
        let task = Some(entry.abort.clone());
        let offer = Rc::new(Offer { task, ..Offer::default() });
        entry.offer = Some(Rc::clone(&offer));
        offer
    }

    /// How many streams are being served.
    pub(super) fn len(&self) -> usize {
        self.0.entries.borrow().len()
    }

    /// Takes the streams that have ended; wakes when another does.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>, counters: &WorkerCounters) {
        let mut tasks = self.0.tasks.borrow_mut();
        while let Poll::Ready(Some(ended)) = tasks.poll_join_next_with_id(cx) {
            let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
            self.0.entries.borrow_mut().remove(&id);
            note_end(ended.map(|_| ()), counters);
        }
    }

    /// Ends every stream. The tasks hold the connection's shared state and with it this set, so
    /// dropping the set alone would end nothing.
    pub(super) fn cut_off_all(&self) {
        self.0.tasks.borrow_mut().abort_all();
    }

    /// Ends the streams whose client has taken nothing for longer than `patience`; how many.
    pub(super) fn cut_off_stalled(&self, now: Instant, patience: Duration) -> usize {
        let entries = self.0.entries.borrow();
        let stalled = entries.values().filter(|entry| {
            let since = entry.offer.as_ref().and_then(|offer| offer.since.get());
            since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
        });
        stalled
            .map(|entry| {
                if let Some(offer) = &entry.offer {
                    offer.end();
                }
            })
            .count()
    }
}
