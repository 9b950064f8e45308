//! What one worker has to itself: its view of the snapshot, its upstream connections, its counters.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
use crate::telemetry::{RouteSlot, Telemetry, WorkerTelemetry};
use crate::upstream::holders::{Holders, Shares};
use crate::upstream::spec::UpstreamSpec;
use crate::upstream::{UpstreamCounters, UpstreamPool};

use super::exchange::Record;
use super::hook::Tellings;
use super::live::Watch;

/// Length of a request id: 128 bits in hexadecimal, as W3C trace ids are.
pub(super) const REQUEST_ID_LEN: usize = 32;

/// One worker. `!Send`: everything in it belongs to its thread.
pub struct Worker {
    pub(super) resolver: Resolver,
    pub(super) telemetry: WorkerTelemetry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) engine: Arc<Engine>,
    pub(super) limiter: Arc<Limiter>,
    sources: Sources,
    view: RefCell<Rc<View>>,
    request_ids: RequestIds,
    pub(super) watch: Watch,
    /// Who has the requests in flight.
    pub(super) places: Holders,
    /// Calls whose service is told after the step. They go on when their client leaves.
    pub(super) tellings: Tellings,
    scratch: RefCell<Vec<Scratch>>,
    #[expect(clippy::vec_box, reason = "a record is handed along with its reply: its place must not change")]
    records: RefCell<Vec<Box<Record>>>,
}

/// What a worker is made of; `Send`, so that it can be prepared outside the worker's thread.
#[derive(Clone)]
pub struct WorkerParts {
    /// The shared snapshot.
    pub shared: Arc<SharedSnapshot>,
    /// The shared cache in front of the store.
    pub cached: Arc<CachedStore>,
    /// Peppers.
    pub peppers: Peppers,
    /// What served routes are run by.
    pub engine: Arc<Engine>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Counters and access lines.
    pub telemetry: Arc<Telemetry>,
    /// Fetches newer keys of issuers.
    pub renewal: Arc<KeyRenewal>,
    /// Rate limits of the process.
    pub limiter: Arc<Limiter>,
    /// How often open streams are judged again.
    pub stream_check: Duration,
    /// Where this worker's upstream counters are registered.
    pub upstreams: Arc<UpstreamRegistry>,
    /// This worker's part of the requests in flight, and what one caller may have of them and of an endpoint's
    /// connections.
    pub places: (usize, Shares),
    /// Most connections of this worker to services, by its share of the file descriptors.
    pub upstream_connections: usize,
    /// A number no other worker or process has, for request ids.
    pub seed: [u64; 2],
}

/// The snapshot as this worker uses it, with its own connections.
pub struct View {
    version: u64,
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Connections, in the order of the snapshot's upstreams.
    pub upstreams: Vec<Rc<UpstreamPool>>,
    /// Counter slots, in the order of the snapshot's routes.
    pub(super) route_slots: Vec<RouteSlot>,
}

impl View {
    /// The number of its snapshot.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }
}

/// Buffers of one outgoing head, reused.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) fields: Vec<u8>,
    pub(super) target: Vec<u8>,
}

impl Worker {
    /// Makes a worker in its own thread.
    #[must_use]
    pub fn new(parts: WorkerParts) -> Rc<Self> {
        let sources = Sources {
            shared: parts.shared,
            telemetry: parts.telemetry,
            upstreams: parts.upstreams,
            counters: RefCell::default(),
            shares: parts.places.1,
            connections: parts.upstream_connections,
        };
        let view = sources.adopt(&[]);
        Rc::new(Self {
            resolver: Resolver::new(parts.cached, parts.peppers, parts.clock.clone()).with_renewal(parts.renewal),
            telemetry: sources.telemetry.worker(),
            clock: parts.clock,
            engine: parts.engine,
            limiter: parts.limiter,
            sources,
            view: RefCell::new(Rc::new(view)),
            request_ids: RequestIds {
                high: parts.seed[0],
                next: Cell::new(parts.seed[1]),
            },
            watch: Watch::new(parts.stream_check),
            places: Holders::new(parts.places.0, parts.places.1),
            tellings: Tellings::default(),
            scratch: RefCell::default(),
            records: RefCell::default(),
        })
    }

    /// The current view; one comparison unless the snapshot was replaced.
    #[must_use]
    pub fn view(&self) -> Rc<View> {
        if self.view.borrow().version != self.sources.shared.version() {
            let old = self.view.borrow().clone();
            *self.view.borrow_mut() = Rc::new(self.sources.adopt(&old.upstreams));
        }
        self.view.borrow().clone()
    }

    /// The number of the newest snapshot, whether in use here or not.
    pub(super) fn version(&self) -> u64 {
        self.sources.shared.version()
    }

    /// Does what is due now and then: looks at open streams, writes access lines out, closes connections
    /// nobody uses.
    pub fn tick(&self) {
        self.tellings.reap();
        self.watch_streams();
        self.telemetry.tick();
        for upstream in &self.view.borrow().upstreams {
            upstream.sweep(crate::base::clock::instant());
        }
    }

    /// Waits until every service that is to be told of a call was told, or could not be reached.
    pub async fn settle(&self) {
        self.tellings.settle().await;
    }

    /// Ends a request in flight whose client takes nothing, for one that finds no place: whether there was one.
    #[must_use]
    pub fn relieve(&self) -> bool {
        self.end_longest_stalled(crate::base::clock::instant())
    }

    /// This worker's counters.
    #[must_use]
    pub const fn telemetry(&self) -> &WorkerTelemetry {
        &self.telemetry
    }

    /// Appends a new request id.
    pub(super) fn write_request_id(&self, out: &mut String) {
        // Hexadecimal digits are text.
        out.push_str(std::str::from_utf8(&self.request_ids.next()).unwrap_or_default());
    }

    pub(super) fn scratch(&self) -> Scratch {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn return_scratch(&self, mut scratch: Scratch) {
        scratch.fields.clear();
        scratch.target.clear();
        recycle(&mut self.scratch.borrow_mut(), scratch);
    }

    pub(super) fn record(&self) -> Box<Record> {
        self.records.borrow_mut().pop().unwrap_or_else(|| {
            let record = Box::new(Record::new());
            self.watch.add(record.live());
            record
        })
    }

    /// Takes a cleared record back.
    pub(super) fn return_record(&self, record: Box<Record>) {
        recycle(&mut self.records.borrow_mut(), record);
    }
}

/// Buffers kept for reuse by one worker; more are in use at a time only under load, and are freed after it.
const MAX_RECYCLED: usize = 256;

fn recycle<T>(kept: &mut Vec<T>, buffer: T) {
    if kept.len() < MAX_RECYCLED {
        kept.push(buffer);
    }
}

impl Scratch {
    /// Writes the target as it goes upstream: the matched path, rewritten as the route says.
    pub(super) fn write_target(&mut self, rewrite: &Rewrite, target: &RequestTarget<'_>) {
        self.target.extend_from_slice(rewrite.apply(&target.path).as_bytes());
        if let Some(query) = target.query {
            self.target.push(b'?');
            self.target.extend_from_slice(query.as_bytes());
        }
    }
}

/// What views are made from.
struct Sources {
    shared: Arc<SharedSnapshot>,
    telemetry: Arc<Telemetry>,
    upstreams: Arc<UpstreamRegistry>,
    /// This worker's counters by upstream name: an upstream that changes or comes back goes on counting.
    counters: RefCell<HashMap<Arc<str>, Arc<UpstreamCounters>>>,
    shares: Shares,
    /// Most connections to services, over all endpoints.
    connections: usize,
}

impl Sources {
    /// Takes the current snapshot into use; connections to upstreams that did not change are kept.
    fn adopt(&self, old: &[Rc<UpstreamPool>]) -> View {
        // The number is read first: a snapshot that comes between is adopted again, never missed.
        let version = self.shared.version();
        let snapshot = self.shared.load();
        let endpoints: usize = snapshot.upstreams.iter().map(|spec| spec.endpoints.len()).sum();
        let most = (self.connections / endpoints.max(1)).max(1);
        let upstreams = snapshot
            .upstreams
            .iter()
            .map(|spec| at_most(spec, most))
            .map(|spec| match old.iter().find(|pool| spec.shares_connections_with(pool.spec())) {
                Some(pool) => pool.clone(),
                None => UpstreamPool::new(spec.clone(), self.counters(&spec.name), self.shares),
            })
            .collect();
        let route_slots = snapshot.routes.iter().map(|route| self.telemetry.route_slot(&route.name)).collect();
        View {
            version,
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

/// Every worker's upstream counters by upstream name, for whoever adds them up. Touched when a
/// snapshot is adopted and when metrics are read, never by a request.
#[derive(Default)]
pub struct UpstreamRegistry(Mutex<Vec<(Arc<str>, Arc<UpstreamCounters>)>>);

impl UpstreamRegistry {
    /// New counters under this name. Counters of upstreams that are gone stay: totals never fall.
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

/// Request ids: unique, not secret. A random half for the worker, a counted half mixed so that ids do
/// not look alike.
struct RequestIds {
    high: u64,
    next: Cell<u64>,
}

impl RequestIds {
    fn next(&self) -> [u8; REQUEST_ID_LEN] {
        let count = self.next.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.next.set(count);
        // The finaliser of SplitMix64: a bijection, so that two counts never give one id.
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
