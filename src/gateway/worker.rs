//! What belongs to one worker: its view of the snapshot, its upstream connections, its counters.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::audit::entry::EntryRules;
use crate::audit::trail::Trail;
use crate::base::clock::Clock;
use crate::base::fingerprint::Peppers;
use crate::decide::route::Rewrite;
use crate::decide::target::RequestTarget;
use crate::issue::engine::Engine;
use crate::jwks::KeyRenewal;
use crate::limit::Limiter;
use crate::resolver::Resolver;
use crate::snapshot::{SharedSnapshot, Snapshot};
use crate::store::cached::CachedStore;
use crate::store::events::Positions;
use crate::telemetry::{LineFormat, RouteSlot, Telemetry, WorkerTelemetry};
use crate::upstream::quota::{CallerQuota, QuotaShares};
use crate::upstream::spec::UpstreamSpec;
use crate::upstream::{UpstreamCounters, UpstreamPool};

use super::access_record::RecordFields;
use super::explain::Trace;
use super::hook::NotifyTasks;
use super::open_stream::StreamWatcher;
use super::recorder::RequestRecorder;

/// Length of a request id: 128 bits in hexadecimal, as W3C trace ids are.
pub(super) const REQUEST_ID_LEN: usize = 32;

/// One worker. It is `!Send`: everything in it belongs to its thread.
pub struct Worker {
    pub(super) resolver: Resolver,
    pub(super) telemetry: WorkerTelemetry,
    /// Writes the entries of the audit trail, if there is one.
    pub(super) recorder: Option<RequestRecorder>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) engine: Arc<Engine>,
    pub(super) limiter: Arc<Limiter>,
    /// Present on the worker of `explain` alone: it notes the steps of the request, sends nothing and leaves no trace elsewhere.
    pub(super) trace: Option<Trace>,
    sources: ViewSources,
    view: RefCell<Rc<SnapshotView>>,
    request_ids: RequestIds,
    pub(super) watcher: StreamWatcher,
    /// The callers of the requests in flight.
    pub(super) in_flight: CallerQuota,
    /// Calls whose service is notified after the step of the route. They go on when their client leaves.
    pub(super) notify_tasks: NotifyTasks,
    buffers: RefCell<Vec<HeadBuffers>>,
    #[expect(clippy::vec_box, reason = "a record is handed along with its reply: its place must not change")]
    records: RefCell<Vec<Box<RecordFields>>>,
}

/// What a worker is made of. It is `Send`, so it can be prepared outside the worker's thread.
#[derive(Clone)]
pub struct WorkerParts {
    pub shared: Arc<SharedSnapshot>,
    /// The cache in front of the store, shared by all workers.
    pub cached: Arc<CachedStore>,
    pub peppers: Peppers,
    /// Runs the steps of served routes.
    pub engine: Arc<Engine>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    /// The audit trail, if there is one.
    pub trail: Option<Arc<Trail>>,
    /// Fetches newer keys of external issuers.
    pub renewal: Arc<KeyRenewal>,
    /// The rate limits of the process.
    pub limiter: Arc<Limiter>,
    /// How often open streams are reevaluated.
    pub stream_check: Duration,
    /// Where this worker's upstream counters are registered.
    pub upstreams: Arc<UpstreamRegistry>,
    /// How many requests this worker may have in flight, and which share of them and of an endpoint's connections one
    /// caller may have.
    pub in_flight: (usize, QuotaShares),
    /// Most connections of this worker to upstreams, by its share of the file descriptors.
    pub upstream_connections: usize,
    /// A number that no other worker or process has, for request ids.
    pub seed: [u64; 2],
}

/// The snapshot as this worker uses it, with the worker's own connections.
pub struct SnapshotView {
    version: u64,
    pub snapshot: Arc<Snapshot>,
    /// The pools of connections, in the order of the snapshot's upstreams.
    pub upstreams: Vec<Rc<UpstreamPool>>,
    /// Counter slots, in the order of the snapshot's routes.
    pub(super) route_slots: Vec<RouteSlot>,
    /// What entries of the audit trail show of requests.
    pub(super) entry_rules: EntryRules,
}

impl SnapshotView {
    /// The version of its snapshot.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }
}

/// The buffers of one outgoing head. They are reused.
#[derive(Default)]
pub(super) struct HeadBuffers {
    pub(super) fields: Vec<u8>,
    pub(super) target: Vec<u8>,
}

impl Worker {
    /// The positions of the events that have reached this process.
    pub(super) fn positions(&self) -> &Positions {
        self.resolver.cached().positions()
    }

    /// Makes a worker on its own thread.
    #[must_use]
    pub fn new(parts: WorkerParts) -> Rc<Self> {
        Rc::new(Self::build(parts))
    }

    /// Makes the worker of `explain`. It writes no entries. Its telemetry and its counters of upstreams are read by nobody.
    pub(super) fn explaining(parts: WorkerParts) -> Rc<Self> {
        let resolver = Resolver::without_traces(parts.cached.clone(), parts.peppers.clone(), parts.clock.clone());
        let unread = WorkerParts {
            telemetry: Telemetry::new(LineFormat::Off, None),
            trail: None,
            upstreams: Arc::default(),
            ..parts
        };
        Rc::new(Self {
            resolver,
            trace: Some(Trace::default()),
            ..Self::build(unread)
        })
    }

    fn build(parts: WorkerParts) -> Self {
        let sources = ViewSources {
            shared: parts.shared,
            telemetry: parts.telemetry,
            upstreams: parts.upstreams,
            counters: RefCell::default(),
            shares: parts.in_flight.1,
            connections: parts.upstream_connections,
        };
        let view = sources.adopt(&[]);
        Self {
            resolver: Resolver::new(parts.cached, parts.peppers, parts.clock.clone()).with_renewal(parts.renewal),
            telemetry: sources.telemetry.worker(),
            recorder: parts.trail.as_ref().map(RequestRecorder::new),
            clock: parts.clock,
            engine: parts.engine,
            limiter: parts.limiter,
            trace: None,
            sources,
            view: RefCell::new(Rc::new(view)),
            request_ids: RequestIds {
                high: parts.seed[0],
                next: Cell::new(parts.seed[1]),
            },
            watcher: StreamWatcher::new(parts.stream_check),
            in_flight: CallerQuota::new(parts.in_flight.0, parts.in_flight.1),
            notify_tasks: NotifyTasks::default(),
            buffers: RefCell::default(),
            records: RefCell::default(),
        }
    }

    /// The current view. This is one comparison unless the snapshot was replaced.
    #[must_use]
    pub fn view(&self) -> Rc<SnapshotView> {
        if self.view.borrow().version != self.sources.shared.version() {
            let old = self.view.borrow().clone();
            *self.view.borrow_mut() = Rc::new(self.sources.adopt(&old.upstreams));
        }
        self.view.borrow().clone()
    }

    /// The version of the newest snapshot, which this worker may not yet use.
    pub(super) fn version(&self) -> u64 {
        self.sources.shared.version()
    }

    /// Does the periodic work: checks open streams, writes access lines out, closes connections that have been idle for
    /// too long.
    pub fn tick(&self) {
        self.notify_tasks.reap();
        self.check_streams();
        self.telemetry.tick();
        if let Some(recorder) = &self.recorder {
            recorder.tick();
        }
        for upstream in &self.view.borrow().upstreams {
            upstream.sweep(crate::base::clock::instant());
        }
    }

    /// Waits until every service was notified of its calls, or could not be reached.
    pub async fn settle(&self) {
        self.notify_tasks.settle().await;
    }

    /// Ends a request in flight whose client reads nothing, so that a new request finds a slot. Says whether there was
    /// one.
    #[must_use]
    pub fn shed_stalled(&self) -> bool {
        self.end_longest_stalled(crate::base::clock::instant())
    }

    /// Appends a new request id.
    pub(super) fn write_request_id(&self, out: &mut String) {
        // Hexadecimal digits are valid UTF-8.
        out.push_str(std::str::from_utf8(&self.request_ids.next()).unwrap_or_default());
    }

    pub(super) fn buffers(&self) -> HeadBuffers {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn return_buffers(&self, mut buffers: HeadBuffers) {
        buffers.fields.clear();
        buffers.target.clear();
        recycle(&mut self.buffers.borrow_mut(), buffers);
    }

    pub(super) fn record(&self) -> Box<RecordFields> {
        self.records.borrow_mut().pop().unwrap_or_else(|| {
            let record = Box::new(RecordFields::new());
            self.watcher.add(record.state());
            record
        })
    }

    /// Takes a cleared record back.
    pub(super) fn return_record(&self, record: Box<RecordFields>) {
        recycle(&mut self.records.borrow_mut(), record);
    }
}

/// Buffers that one worker keeps for reuse. Under load more are in use at a time; they are freed afterwards.
const MAX_RECYCLED: usize = 256;

fn recycle<T>(kept: &mut Vec<T>, buffer: T) {
    if kept.len() < MAX_RECYCLED {
        kept.push(buffer);
    }
}

impl HeadBuffers {
    /// Writes the target in the form in which it is forwarded: the matched path, rewritten as the route demands.
    pub(super) fn write_target(&mut self, rewrite: &Rewrite, target: &RequestTarget<'_>) {
        self.target.extend_from_slice(rewrite.apply(&target.path).as_bytes());
        if let Some(query) = target.query {
            self.target.push(b'?');
            self.target.extend_from_slice(query.as_bytes());
        }
    }
}

/// What views are made from.
struct ViewSources {
    shared: Arc<SharedSnapshot>,
    telemetry: Arc<Telemetry>,
    upstreams: Arc<UpstreamRegistry>,
    /// The worker's counters by upstream name, so that an upstream that changes or comes back continues its counters.
    counters: RefCell<HashMap<Arc<str>, Arc<UpstreamCounters>>>,
    shares: QuotaShares,
    /// Most connections to upstreams, over all endpoints.
    connections: usize,
}

impl ViewSources {
    /// Makes a view of the current snapshot. Connections to upstreams that did not change are kept.
    fn adopt(&self, old: &[Rc<UpstreamPool>]) -> SnapshotView {
        // The version is read first, so that a snapshot that arrives in between is adopted again and not missed.
        let version = self.shared.version();
        let snapshot = self.shared.load();
        let endpoints: usize = snapshot.upstreams.iter().map(|spec| spec.endpoints.len()).sum();
        let most = (self.connections / endpoints.max(1)).max(1);
        let old: HashMap<&str, &Rc<UpstreamPool>> = old.iter().map(|pool| (&*pool.spec().name, pool)).collect();
        let upstreams = snapshot
            .upstreams
            .iter()
            .map(|spec| at_most(spec, most))
            .map(|spec| match old.get(&*spec.name) {
                Some(pool) if spec.shares_connections_with(pool.spec()) => Rc::clone(pool),
                _ => UpstreamPool::new(spec.clone(), self.counters(&spec.name), self.shares),
            })
            .collect();
        let route_slots = snapshot.routes.iter().map(|route| self.telemetry.route_slot(&route.name)).collect();
        SnapshotView {
            version,
            entry_rules: EntryRules::new(&snapshot.audit, &snapshot.surfaces),
            snapshot,
            upstreams,
            route_slots,
        }
    }

    fn counters(&self, name: &Arc<str>) -> Arc<UpstreamCounters> {
        let mut known = self.counters.borrow_mut();
        known.entry(name.clone()).or_insert_with(|| self.upstreams.counters(name)).clone()
    }
}

/// The upstream with `max_connections` bounded by `most`.
fn at_most(spec: &Arc<UpstreamSpec>, most: usize) -> Arc<UpstreamSpec> {
    if spec.max_connections <= most {
        return Arc::clone(spec);
    }
    Arc::new(UpstreamSpec {
        max_connections: most,
        ..UpstreamSpec::clone(spec)
    })
}

/// The upstream counters of every worker by upstream name, from which metrics are summed. It is locked when a snapshot
/// is adopted and when metrics are read, never by a request.
#[derive(Default)]
pub struct UpstreamRegistry(Mutex<Vec<(Arc<str>, Arc<UpstreamCounters>)>>);

impl UpstreamRegistry {
    /// Adds new counters under this name. Counters of upstreams that no longer exist stay, so that totals never fall.
    #[must_use]
    pub fn counters(&self, name: &Arc<str>) -> Arc<UpstreamCounters> {
        let counters = Arc::new(UpstreamCounters::default());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name.clone(), counters.clone()));
        counters
    }

    /// Calls `visit` for each worker's counters of each upstream.
    pub fn visit(&self, mut visit: impl FnMut(&str, &UpstreamCounters)) {
        for (name, counters) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            visit(name, counters);
        }
    }
}

/// Makes request ids. They are unique and not secret: one half is random for each worker, the other half is a counter,
/// mixed so that ids do not look alike.
struct RequestIds {
    high: u64,
    next: Cell<u64>,
}

impl RequestIds {
    fn next(&self) -> [u8; REQUEST_ID_LEN] {
        let count = self.next.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.next.set(count);
        // The finaliser of SplitMix64 is a bijection, so two counts never give one id.
        let mut low = count;
        low = (low ^ (low >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        low = (low ^ (low >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        low ^= low >> 31;
        let mut id = [0; REQUEST_ID_LEN];
        let bytes = (u128::from(self.high) << 64 | u128::from(low)).to_be_bytes();
        for (pair, byte) in id.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [hex(byte >> 4), hex(byte & 15)];
        }
        id
    }
}

const fn hex(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_unique_hexadecimal() {
        let ids = RequestIds {
            high: 1,
            next: Cell::new(7),
        };
        let all: std::collections::HashSet<_> = (0..10_000).map(|_| ids.next()).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().flatten().all(u8::is_ascii_hexdigit));
    }
}
