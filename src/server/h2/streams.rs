//! The streams of one HTTP/2 connection: their tasks, and which of them wait for a client that
//! does not take what it is offered.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::task::{AbortHandle, Id, JoinSet};

use crate::base::clock;
use crate::gateway::{Cut, Lifeline};
use crate::server::counters::WorkerCounters;
use crate::server::patience::Patience;
use crate::server::worker::note_end;
use crate::snapshot::Limits;
use crate::telemetry::{StreamEnd, StreamKind};

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
pub(super) struct Offer {
    /// With the client; waiting since a piece was offered that is not yet taken.
    patience: Cell<Patience>,
    cut_off: Cell<bool>,
    slow: Cell<bool>,
    task: Option<AbortHandle>,
}

impl Offer {
    pub(super) fn new(limits: &Limits, task: Option<AbortHandle>) -> Rc<Self> {
        Rc::new(Self {
            patience: Cell::new(Patience::of_answer(limits, limits.body_idle)),
            cut_off: Cell::new(false),
            slow: Cell::new(false),
            task,
        })
    }

    /// This much of the answer was handed over, or nothing yet of one that waits for the client's window.
    ///
    /// The piece counts as taken while it is waited for: nobody knows how much of it has left.
    pub(super) fn open(&self, bytes: usize) {
        let mut patience = self.patience.get();
        patience.receive(bytes, clock::instant);
        let _ = patience.deadline(clock::instant());
        self.patience.set(patience);
    }

    /// It was taken: the next is asked for.
    pub(super) fn close(&self) {
        let mut patience = self.patience.get();
        if patience.since().is_some() {
            patience.receive(0, clock::instant);
            self.patience.set(patience);
        }
    }

    /// Whether its client has kept it waiting for too long.
    fn is_slow(&self, now: Instant) -> bool {
        let mut patience = self.patience.get();
        patience.since().is_some() && patience.deadline(now) <= now
    }

    /// Ends the stream: the library resets it when its task is gone (RFC 9113, section 5.4.2).
    fn end(&self) {
        self.cut_off.set(true);
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Whether the stream was ended by us: its client was too slow, its credential died, or others waited.
    pub(super) fn was_cut_off(&self) -> bool {
        self.cut_off.get()
    }

    /// Why it was ended, if because of its client.
    pub(super) fn reason(&self) -> Option<StreamEnd> {
        self.slow.get().then_some(StreamEnd::Slow)
    }
}

impl Lifeline for Offer {
    fn kind(&self) -> StreamKind {
        StreamKind::Http2
    }

    fn stalled_since(&self) -> Option<Instant> {
        self.patience.get().since()
    }

    fn cut(&self, _: Cut) {
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
    pub(super) fn offer(&self, limits: &Limits) -> Rc<Offer> {
        let mut entries = self.0.entries.borrow_mut();
        let Some(entry) = tokio::task::try_id().and_then(|id| entries.get_mut(&id)) else {
            return Offer::new(limits, None);
        };
        let offer = Offer::new(limits, Some(entry.abort.clone()));
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

    /// Ends the streams whose clients have kept them waiting for too long; how many.
    pub(super) fn cut_off_slow(&self, now: Instant) -> usize {
        let entries = self.0.entries.borrow();
        let offers = entries.values().filter_map(|entry| entry.offer.as_ref());
        offers
            .filter(|offer| offer.is_slow(now))
            .map(|offer| {
                offer.slow.set(true);
                offer.end();
            })
            .count()
    }

    /// The connection ends since its client takes nothing: so says each stream that waits for it.
    pub(super) fn note_slow(&self) {
        let entries = self.0.entries.borrow();
        let offers = entries.values().filter_map(|entry| entry.offer.as_ref());
        for offer in offers.filter(|offer| offer.patience.get().since().is_some()) {
            offer.slow.set(true);
        }
    }
}
