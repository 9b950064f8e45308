//! Streams that stay open after they were admitted. They are reevaluated as long as they are open, and aborted when
//! their credential would not be admitted any more.
//!
//! An ordinary request pays only for moving its permit to where this file finds it. On its own tick each worker checks
//! the access records of its requests, which exist anyway: a record that has been in use for [`STREAM_AGE`] or longer
//! belongs to a stream. A check is a few comparisons. Facts are read from memory. Facts that memory does not have are
//! read from the store in the background while the stream goes on, until the facts on which it was admitted are older
//! than any facts may be.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::{BootMillis, Clock as _, Now};
use crate::base::denial::Denial;
use crate::base::principal::{Facts, Position};
use crate::decide::authorize::Permit;
use crate::decide::method::Method;
use crate::decide::route::RouteIndex;
use crate::decide::surface::SurfaceIndex;
use crate::telemetry::StreamKind;
use crate::upstream::quota::{QuotaHolder, is_stalled};

use super::worker::{SnapshotView, Worker};

mod reevaluate;

/// From this age on a request counts as a stream. Nearly every request ends earlier, and a younger one is checked when
/// it reaches this age. So a change ends a stream that was opened just before the change at most this much later than
/// any other stream.
const STREAM_AGE: Duration = Duration::from_millis(200);

/// How often a worker checks whether one of its streams is due, when nothing has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Most streams that are checked in one tick. A check takes a tenth of a microsecond and a reevaluation a few
/// microseconds, so ten thousand streams after a change delay requests by milliseconds at worst.
const MAX_CHECKS: usize = 2_048;

/// After a search that found no stalled client, the next search begins this much later. A search through every request
/// in flight for each refused request would cost more than the refusals.
const STALL_SEARCH_INTERVAL: Duration = Duration::from_millis(50);

/// Aborts a stream. The server has one for each HTTP/1 connection and each HTTP/2 stream.
pub trait StreamControl {
    /// The kind of stream, until the gateway knows better.
    fn kind(&self) -> StreamKind;
    /// Since when the client has read nothing although data is waiting for it.
    fn stalled_since(&self) -> Option<Instant>;
    /// Bytes of the request's body that have been read so far.
    fn received(&self) -> u64;
    /// Ends the request soon, in the way of the protocol.
    fn abort(&self, why: AbortReason);
}

/// Why a request is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortReason {
    /// The credential would not be admitted any more.
    Denied,
    /// The client reads nothing, and another request waits for the resources that this one holds.
    Displaced,
}

/// The part of an access record that the request and the worker's check of open streams share. It is reused with its
/// record.
#[derive(Default)]
pub(super) struct RequestState {
    pub(super) summary: RefCell<RequestSummary>,
    stream: RefCell<Option<OpenStream>>,
    /// What aborts the request. It is set when the head has arrived.
    control: RefCell<Option<Rc<dyn StreamControl>>>,
    /// Why the request is to end.
    denial: Cell<Option<Denial>>,
    /// Whether the request is to end because another one waits for its resources.
    displaced: Cell<bool>,
    /// Whether the request counts among the requests in flight.
    in_flight: Cell<bool>,
}

#[derive(Default)]
pub(super) struct RequestSummary {
    pub(super) method: Option<Method>,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) route: Option<RouteIndex>,
    pub(super) surface: Option<SurfaceIndex>,
}

/// An admitted request under a credential, from the time at which it is forwarded.
struct OpenStream {
    permit: Permit,
    /// The configuration by which it was admitted.
    view: Rc<SnapshotView>,
    surface: SurfaceIndex,
    route: RouteIndex,
    kind: StreamKind,
    since: BootMillis,
    /// The result of the last reevaluation. `None` before the request counts as a stream.
    evaluation: Option<Evaluation>,
    /// Why the stream would have ended if its route did not only report. It is not reevaluated any more.
    reported: Option<Denial>,
}

/// The result of the last reevaluation.
struct Evaluation {
    /// The newest facts that admitted the stream.
    facts: Arc<Facts>,
    /// The version of the snapshot by which it was admitted.
    version: u64,
    due_at: BootMillis,
    /// The request for newer facts that is under way.
    requested: Option<FactsRequest>,
}

#[derive(Clone, Copy)]
struct FactsRequest {
    since: BootMillis,
    requested_at: BootMillis,
}

impl RequestState {
    /// Removes everything about the request and keeps the allocations.
    pub(super) fn clear(&self) {
        let mut summary = self.summary.borrow_mut();
        summary.host.clear();
        summary.path.clear();
        (summary.method, summary.route, summary.surface) = (None, None, None);
        drop(summary);
        self.end_tracking();
        *self.control.borrow_mut() = None;
        self.denial.set(None);
        self.displaced.set(false);
    }

    /// The request has begun. It counts as in flight if `control` can abort it.
    pub(super) fn begin(&self, control: Option<&Rc<dyn StreamControl>>) {
        *self.control.borrow_mut() = control.cloned();
        self.in_flight.set(control.is_some());
    }

    /// The request goes on, but no longer counts as in flight.
    pub(super) fn leave_flight(&self) {
        self.in_flight.set(false);
    }

    /// From now on the request is checked. A request on a public route is not, since it has no credential that could
    /// become invalid.
    pub(super) fn track_stream(&self, permit: Permit, view: &Rc<SnapshotView>, kind: StreamKind, now: Now) {
        let summary = self.summary.borrow();
        let (true, Some(surface), Some(route)) = (permit.principal().is_some(), summary.surface, summary.route) else {
            return;
        };
        *self.stream.borrow_mut() = Some(OpenStream {
            permit,
            view: view.clone(),
            surface,
            route,
            kind,
            since: now.boot,
            evaluation: None,
            reported: None,
        });
    }

    /// The request has ended or is refused, so it is no longer checked.
    pub(super) fn end_tracking(&self) {
        *self.stream.borrow_mut() = None;
    }

    /// The connection has become a tunnel.
    pub(super) fn set_kind(&self, kind: StreamKind) {
        if let Some(stream) = &mut *self.stream.borrow_mut() {
            stream.kind = kind;
        }
    }

    pub(super) fn kind(&self) -> Option<StreamKind> {
        self.stream.borrow().as_ref().map(|stream| stream.kind)
    }

    /// Why the request has to end, if it has to.
    pub(super) fn denial(&self) -> Option<Denial> {
        self.denial.get()
    }

    /// Whether the request was ended because another one waited for its resources.
    pub(super) fn was_displaced(&self) -> bool {
        self.displaced.get()
    }

    /// Why the stream would have ended if its route did not only report.
    pub(super) fn reported(&self) -> Option<Denial> {
        self.stream.borrow().as_ref()?.reported
    }

    /// Bytes of the request's body that have been read so far.
    pub(super) fn received(&self) -> u64 {
        self.control.borrow().as_ref().map_or(0, |control| control.received())
    }

    fn abort(&self, why: AbortReason) {
        if let Some(control) = &*self.control.borrow() {
            control.abort(why);
        }
    }

    /// Calls `check` with the permit.
    pub(super) fn with_permit<R>(&self, check: impl FnOnce(&Permit) -> R) -> Option<R> {
        self.stream.borrow().as_ref().map(|stream| check(&stream.permit))
    }
}

impl QuotaHolder for RequestState {
    fn stalled_since(&self) -> Option<Instant> {
        if self.displaced.get() || self.denial.get().is_some() {
            return None;
        }
        self.control.borrow().as_ref()?.stalled_since()
    }

    fn displace(&self) {
        self.displaced.set(true);
        self.abort(AbortReason::Displaced);
    }
}

/// The requests of one worker, and how far the current pass over them has come.
pub(super) struct StreamWatcher {
    interval: Duration,
    requests: RefCell<Vec<Weak<RequestState>>>,
    pass: Cell<WatchPass>,
    /// Before this time no stalled client is searched for, since the last search found none.
    next_stall_search: Cell<Option<Instant>>,
}

/// One pass over all requests.
#[derive(Clone, Copy, Default)]
struct WatchPass {
    /// The newest change and the snapshot version for which the pass was begun.
    versions: (Position, u64),
    /// The next request to be checked. `None` between passes.
    position: Option<usize>,
    next: BootMillis,
    /// When the requests that were too young in the pass after a change have reached [`STREAM_AGE`].
    matured_at: Option<BootMillis>,
    open: [u64; StreamKind::ALL.len()],
    facts_pending: FactsPending,
}

/// Whether a stream waits for facts that are being read.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum FactsPending {
    #[default]
    No,
    Yes,
}

impl StreamWatcher {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            requests: RefCell::default(),
            pass: Cell::default(),
            next_stall_search: Cell::default(),
        }
    }

    /// Adds the state of a new record, which is reused from then on.
    pub(super) fn add(&self, request: &Rc<RequestState>) {
        self.requests.borrow_mut().push(Rc::downgrade(request));
    }
}

impl Worker {
    /// Checks some of the streams, if a check is due. Called on every tick.
    pub(super) fn check_streams(&self) {
        let now = self.clock.now();
        let versions = (self.resolver.cached().positions().newest(), self.version());
        let mut pass = self.watcher.pass.get();
        let mut position = match pass.position {
            Some(position) => position,
            None if versions == pass.versions && now.boot < pass.next => return,
            None => {
                self.watcher.requests.borrow_mut().retain(|request| request.strong_count() > 0);
                let matured_at = if versions == pass.versions {
                    pass.matured_at.filter(|at| now.boot < *at)
                } else {
                    Some(now.boot.plus(STREAM_AGE))
                };
                pass = WatchPass {
                    versions,
                    matured_at,
                    ..WatchPass::default()
                };
                0
            }
        };
        let view = self.view();
        let requests = self.watcher.requests.borrow();
        for request in requests.iter().skip(position).take(MAX_CHECKS).filter_map(Weak::upgrade) {
            self.check(&request, &view, now, &mut pass);
        }
        position += MAX_CHECKS;
        pass.position = (position < requests.len()).then_some(position);
        if pass.position.is_none() {
            self.telemetry.set_open_streams(pass.open);
            // Facts that were requested arrive within milliseconds in most cases.
            let wait = if pass.facts_pending == FactsPending::Yes {
                Duration::ZERO
            } else {
                CHECK_INTERVAL
            };
            let next = now.boot.plus(wait);
            pass.next = pass.matured_at.map_or(next, |at| next.min(at));
        }
        self.watcher.pass.set(pass);
    }

    /// Ends the request in flight whose client has read nothing for longest, if it has been stalled for long enough.
    /// Says whether there was one.
    pub(super) fn end_longest_stalled(&self, now: Instant) -> bool {
        if self.watcher.next_stall_search.get().is_some_and(|at| now < at) {
            return false;
        }
        let requests = self.watcher.requests.borrow();
        let stalled = requests.iter().filter_map(Weak::upgrade).filter_map(|request| {
            let since = request.stalled_since().filter(|_| request.in_flight.get())?;
            is_stalled(since, now).then_some((since, request))
        });
        let longest = stalled.min_by_key(|(since, _)| *since);
        if let Some((_, request)) = &longest {
            request.displace();
        } else {
            self.watcher.next_stall_search.set(Some(now + STALL_SEARCH_INTERVAL));
        }
        longest.is_some()
    }

    fn check(&self, request: &RequestState, view: &Rc<SnapshotView>, now: Now, pass: &mut WatchPass) {
        let Ok(mut stream) = request.stream.try_borrow_mut() else { return };
        let Some(stream) = stream.as_mut() else { return };
        if now.boot.since(stream.since) < STREAM_AGE || request.denial.get().is_some() {
            return;
        }
        if let Some(open) = pass.open.get_mut(stream.kind as usize) {
            *open += 1;
        }
        match self.reevaluate(stream, &request.summary.borrow(), view, now) {
            Ok(facts_pending) => {
                if facts_pending == FactsPending::Yes {
                    pass.facts_pending = FactsPending::Yes;
                }
            }
            Err(denial) => {
                request.denial.set(Some(denial));
                request.abort(AbortReason::Denied);
            }
        }
    }
}
