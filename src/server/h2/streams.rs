//! The streams of one HTTP/2 connection: their tasks, and which of them wait for a client that does not read.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::task::AbortHandle;

use crate::base::clock;
use crate::gateway::{AbortReason, StreamControl};
use crate::server::counters::WorkerCounters;
use crate::server::deadline::TransferTimeout;
use crate::server::worker::note_panic;
use crate::snapshot::Limits;
use crate::telemetry::{StreamEnd, StreamKind};

/// Runs the future of each stream as a task of its own, so that a panic ends only that stream, and ends all of them
/// when the connection ends.
#[derive(Clone)]
pub(super) struct Streams(Rc<StreamSet>);

struct StreamSet {
    counters: Arc<WorkerCounters>,
    /// The streams that are being served, by their keys.
    entries: RefCell<BTreeMap<u64, Rc<StreamHandle>>>,
    next_key: Cell<u64>,
    /// Wakes the task of the connection.
    connection: RefCell<Option<Waker>>,
}

/// What a stream's task holds until it ends, is aborted or panics. Dropping it removes the entry of the stream.
struct StreamGuard {
    set: Rc<StreamSet>,
    key: u64,
}

impl StreamGuard {
    /// Polls the future of the stream. A panic is counted and ends the stream.
    fn poll<F: Future<Output = ()>>(&self, cx: &mut Context<'_>, future: Pin<&mut F>) -> Poll<()> {
        // The future is not polled again after a panic, so nobody sees what it left half done.
        catch_unwind(AssertUnwindSafe(|| future.poll(cx))).unwrap_or_else(|_| {
            note_panic(&self.set.counters);
            Poll::Ready(())
        })
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let removed = {
            let mut entries = self.set.entries.borrow_mut();
            let removed = entries.remove(&self.key);
            removed.filter(|_| entries.is_empty())
        };
        // The time in which the connection is idle begins with the end of its last stream.
        if removed.is_some()
            && let Some(connection) = self.set.connection.borrow().as_ref()
        {
            connection.wake_by_ref();
        }
    }
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
    task: OnceCell<AbortHandle>,
}

impl StreamHandle {
    /// For a stream that has no task yet.
    pub(super) fn new(limits: &Limits) -> Rc<Self> {
        Rc::new(Self {
            timeout: Cell::new(TransferTimeout::for_response(limits, limits.body_idle)),
            aborted: Cell::new(false),
            slow: Cell::new(false),
            received: Cell::new(0),
            task: OnceCell::new(),
        })
    }

    /// The next piece of the response has so many bytes. It counts as read while it is waited for, since the library does
    /// not tell how much of it has left.
    pub(super) fn note_piece(&self, bytes: usize) {
        let mut timeout = self.timeout.get();
        timeout.note_transfer(bytes, clock::instant);
        self.timeout.set(timeout);
    }

    /// The gateway waits until the client's window has room.
    pub(super) fn note_wait(&self) {
        let mut timeout = self.timeout.get();
        let _ = timeout.deadline(clock::instant());
        self.timeout.set(timeout);
    }

    /// So many bytes of the request's body were read in all.
    pub(super) fn set_received(&self, bytes: u64) {
        self.received.set(bytes);
    }

    /// The client's window has room, or nothing is sent any more.
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
        self.end();
    }

    fn end(&self) {
        if let Some(task) = self.task.get() {
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

impl Streams {
    /// No streams yet. Panics are counted in `counters`.
    pub(super) fn new(counters: Arc<WorkerCounters>) -> Self {
        Self(Rc::new(StreamSet {
            counters,
            entries: RefCell::default(),
            next_key: Cell::new(0),
            connection: RefCell::new(None),
        }))
    }

    /// Serves a new stream on a task of its own: `serve` gets the handle of the stream and makes the future. An abort drops the
    /// future, which ends the stream.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(&self, limits: &Limits, serve: impl FnOnce(Rc<StreamHandle>) -> F) {
        let key = self.0.next_key.get();
        self.0.next_key.set(key.wrapping_add(1));
        let guard = StreamGuard {
            set: Rc::clone(&self.0),
            key,
        };
        let handle = StreamHandle::new(limits);
        // Boxed, since it is moved several times on its way to its task.
        let future = Box::pin(serve(Rc::clone(&handle)));
        let task = async move {
            // Declared before the future, so that the future is gone when the entry is removed.
            let guard = guard;
            let mut future = future;
            poll_fn(|cx| guard.poll(cx, future.as_mut())).await;
        };
        let _ = handle.task.set(tokio::task::spawn_local(task).abort_handle());
        self.0.entries.borrow_mut().insert(key, handle);
    }

    /// How many streams are being served.
    pub(super) fn len(&self) -> usize {
        self.0.entries.borrow().len()
    }

    /// Wakes this task when the last stream ends.
    pub(super) fn wake_at_end(&self, cx: &Context<'_>) {
        let mut connection = self.0.connection.borrow_mut();
        if !connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *connection = Some(cx.waker().clone());
        }
    }

    /// Ends every stream. The tasks hold the connection's shared state, and with it this set, so dropping the set alone
    /// would end nothing.
    pub(super) fn abort_all(&self) {
        for handle in self.0.entries.borrow().values() {
            handle.end();
        }
    }

    /// Ends the streams whose clients have been too slow. Returns how many.
    pub(super) fn abort_slow(&self, now: Instant) -> usize {
        let entries = self.0.entries.borrow();
        entries
            .values()
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
        for handle in entries.values().filter(|handle| handle.timeout.get().waiting_since().is_some()) {
            handle.slow.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::Ordering;

    use tokio::task::{LocalSet, yield_now};

    use super::*;
    use crate::server::drain::tests::WakeCount;

    #[tokio::test]
    async fn the_connection_is_woken_by_the_end_of_its_last_stream_however_it_ends() {
        let (counters, woken) = (Arc::<WorkerCounters>::default(), Arc::<WakeCount>::default());
        let streams = Streams::new(Arc::clone(&counters));
        streams.wake_at_end(&Context::from_waker(&Arc::clone(&woken).into()));
        let ending = async {
            let limits = Limits::default();
            streams.spawn(&limits, |_| pending());
            streams.spawn(&limits, |_| async {});
            streams.spawn(&limits, |_| async { panic!("a stream panics") });
            while streams.len() > 1 {
                yield_now().await;
            }
            assert_eq!((counters.panics.read(), woken.0.load(Ordering::Relaxed)), (1, 0));
            streams.abort_all();
            while streams.len() > 0 {
                yield_now().await;
            }
            assert_eq!((counters.panics.read(), woken.0.load(Ordering::Relaxed)), (1, 1));
        };
        LocalSet::new().run_until(ending).await;
    }

    #[tokio::test]
    async fn a_handle_ends_the_stream_for_which_it_was_made() {
        let streams = Streams::new(Arc::default());
        let ending = async {
            let limits = Limits::default();
            streams.spawn(&limits, |_| pending());
            streams.spawn(&limits, |handle| async move {
                handle.abort();
                pending().await
            });
            while streams.len() > 1 {
                yield_now().await;
            }
            let left: Vec<u64> = streams.0.entries.borrow().keys().copied().collect();
            assert_eq!(left, [0], "the other one goes on");
        };
        LocalSet::new().run_until(ending).await;
    }
}
