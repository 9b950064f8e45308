//! The counters of the workers, and the metrics that `/metrics` makes of them. A counter is a plain atomic that one worker writes and
//! any thread may read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::denial::DENIALS;

use super::metrics::{HistogramSample, MetricKind, Metrics, Sample};
use super::streams::{StreamCounters, StreamKind, labels};
use super::{AccessLine, RouteSlot};

/// Most route names with counters of their own; further routes are counted as `_other`. 1,024 names are 48 KiB for each worker and as many series as one dashboard bears.
pub(crate) const MAX_ROUTE_SLOTS: usize = 1_024;

/// Classes of how a request ended.
pub(crate) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];

/// Upper bounds of the duration histogram: from what a refusal takes to what the longest default
/// timeout allows.
pub(crate) const BOUNDS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// Upper bounds of the histogram of the age of facts: up to the largest `max_age` there can be.
pub(crate) const AGES: [Duration; 10] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(20),
    Duration::from_secs(25),
    Duration::from_secs(30),
    Duration::from_secs(45),
    Duration::from_secs(55),
];

/// One worker's counters, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct WorkerCounters {
    begun: AtomicU64,
    ended: AtomicU64,
    took_micros: AtomicU64,
    took: [AtomicU64; BOUNDS.len() + 1],
    facts_age_millis: AtomicU64,
    facts_age: [AtomicU64; AGES.len() + 1],
    refusals: [AtomicU64; DENIALS.len()],
    reported: [AtomicU64; DENIALS.len()],
    dropped_fields: AtomicU64,
    failed_hooks: AtomicU64,
    pub(super) streams: StreamCounters,
    requests: Box<[[AtomicU64; CLASSES.len()]]>,
}

impl WorkerCounters {
    fn new() -> Self {
        Self {
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            took_micros: AtomicU64::new(0),
            took: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            facts_age_millis: AtomicU64::new(0),
            facts_age: [const { AtomicU64::new(0) }; AGES.len() + 1],
            refusals: [const { AtomicU64::new(0) }; DENIALS.len()],
            reported: [const { AtomicU64::new(0) }; DENIALS.len()],
            dropped_fields: AtomicU64::new(0),
            failed_hooks: AtomicU64::new(0),
            streams: StreamCounters::new(),
            requests: (0..MAX_ROUTE_SLOTS).map(|_| [const { AtomicU64::new(0) }; CLASSES.len()]).collect(),
        }
    }

    pub(crate) fn begin(&self) {
        add(Some(&self.begun), 1);
    }

    pub(crate) fn fail_hook(&self) {
        add(Some(&self.failed_hooks), 1);
    }

    pub(crate) fn record(&self, line: &AccessLine<'_>) {
        add(Some(&self.ended), 1);
        let class = if line.completed {
            usize::from(line.status / 100).wrapping_sub(1).min(4)
        } else {
            5
        };
        let route = self.requests.get(usize::from(line.route_slot.0));
        add(route.and_then(|classes| classes.get(class)), 1);
        if let Some(denial) = line.denial {
            add(self.refusals.get(denial as usize), 1);
        }
        if let Some(denial) = line.reported {
            add(self.reported.get(denial as usize), 1);
        }
        if line.dropped_fields > 0 {
            add(Some(&self.dropped_fields), u64::from(line.dropped_fields));
        }
        if let Some((kind, end)) = line.ended {
            self.streams.count(kind, end);
        }
        if let Some(age) = line.facts_age {
            add(self.facts_age.get(bucket(&AGES, age)), 1);
            add(Some(&self.facts_age_millis), u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        }
        add(self.took.get(bucket(&BOUNDS, line.took)), 1);
        add(Some(&self.took_micros), u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The number of the bucket of a value: how many bounds are below it. All bounds are compared: durations vary so much that the
/// processor would mispredict the end of a search nearly every time.
fn bucket(bounds: &[Duration], value: Duration) -> usize {
    bounds.iter().map(|bound| usize::from(*bound < value)).sum()
}

/// Adds to a counter that only this thread writes: no locked instruction is needed.
fn add(counter: Option<&AtomicU64>, n: u64) {
    if let Some(counter) = counter {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// All workers' counters. The lock is taken when a worker starts, when a route is new and when
/// metrics are read.
#[derive(Debug)]
pub(crate) struct Totals {
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
    routes: Mutex<RouteNames>,
}

/// The names of routes that have counters of their own. Every worker asks for every route of a snapshot.
#[derive(Debug, Default)]
struct RouteNames {
    /// By slot.
    names: Vec<String>,
    slots: HashMap<String, usize>,
}

impl RouteNames {
    /// The slot of a name, which is new where there is room.
    fn slot(&mut self, name: &str) -> Option<usize> {
        if let Some(slot) = self.slots.get(name) {
            return Some(*slot);
        }
        if self.names.len() == MAX_ROUTE_SLOTS {
            return None;
        }
        self.names.push(name.to_owned());
        self.slots.insert(name.to_owned(), self.names.len() - 1);
        Some(self.names.len() - 1)
    }
}

impl Default for Totals {
    fn default() -> Self {
        let mut routes = RouteNames::default();
        for name in ["_none", "_other"] {
            routes.slot(name);
        }
        Self {
            workers: Mutex::new(Vec::new()),
            routes: Mutex::new(routes),
        }
    }
}

impl Totals {
    pub(crate) fn add_worker(&self) -> Arc<WorkerCounters> {
        let counters = Arc::new(WorkerCounters::new());
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&counters));
        counters
    }

    pub(crate) fn route_slot(&self, name: &str) -> RouteSlot {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = routes.slot(name).and_then(|slot| u16::try_from(slot).ok());
        // 1 is `_other`.
        RouteSlot(slot.unwrap_or(1))
    }

    pub(crate) fn in_flight(&self) -> u64 {
        // Ends are read first: a request that ends in between would make the difference negative.
        let ended = self.sum(|w| &w.ended);
        self.sum(|w| &w.begun).saturating_sub(ended)
    }

    /// Requests by route and class, without pairs that never happened.
    pub(crate) fn requests(&self) -> Vec<(String, &'static str, u64)> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner).names.clone();
        let mut found = Vec::new();
        for (slot, route) in routes.into_iter().enumerate() {
            for (class, label) in CLASSES.into_iter().enumerate() {
                let total = self.sum_of(|w| w.requests.get(slot).and_then(|classes| classes.get(class)));
                if total > 0 {
                    found.push((route.clone(), label, total));
                }
            }
        }
        found
    }

    /// Every denial with its count, zeros included: an alert on a rate needs the series to exist.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        let count = |i: usize| self.sum_of(|w| w.refusals.get(i));
        DENIALS.iter().enumerate().map(|(i, row)| (row.label, count(i))).collect()
    }

    /// Requests that were forwarded although they would be refused, by denial, without denials that never happened.
    pub(crate) fn reported(&self) -> Vec<(&'static str, u64)> {
        let count = |i: usize| self.sum_of(|w| w.reported.get(i));
        let all = DENIALS.iter().enumerate().map(|(i, row)| (row.label, count(i)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Request fields that were not forwarded because of their names (`limits.odd_names`).
    pub(crate) fn dropped_fields(&self) -> u64 {
        self.sum(|w| &w.dropped_fields)
    }

    /// Calls of hooks whose service did not answer.
    pub(crate) fn failed_hooks(&self) -> u64 {
        self.sum(|w| &w.failed_hooks)
    }

    /// Open streams of one kind.
    pub(crate) fn open_streams(&self, kind: StreamKind) -> u64 {
        self.each(|worker| worker.streams.open(kind))
    }

    /// Streams that ended, by kind and reason, without the pairs that never happened.
    pub(crate) fn ended_streams(&self) -> Vec<(StreamKind, &'static str, u64)> {
        let all = StreamKind::ALL
            .into_iter()
            .flat_map(|kind| labels().enumerate().map(move |(index, label)| (kind, index, label)));
        let counted = all.map(|(kind, index, label)| (kind, label, self.each(|worker| worker.streams.ended(kind, index))));
        counted.filter(|(_, _, count)| *count > 0).collect()
    }

    fn each(&self, figure: impl Fn(&WorkerCounters) -> u64) -> u64 {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|worker| figure(worker)).fold(0, u64::wrapping_add)
    }

    /// Sum of seconds, and the count in each bucket of [`BOUNDS`] and above.
    pub(crate) fn durations(&self) -> (Duration, Vec<u64>) {
        let buckets = (0..=BOUNDS.len()).map(|i| self.sum_of(|w| w.took.get(i))).collect();
        (Duration::from_micros(self.sum(|w| &w.took_micros)), buckets)
    }

    /// Sum, and the count in each bucket of [`AGES`] and above.
    pub(crate) fn facts_ages(&self) -> (Duration, Vec<u64>) {
        let buckets = (0..=AGES.len()).map(|i| self.sum_of(|w| w.facts_age.get(i))).collect();
        (Duration::from_millis(self.sum(|w| &w.facts_age_millis)), buckets)
    }

    fn sum(&self, counter: impl Fn(&WorkerCounters) -> &AtomicU64) -> u64 {
        self.sum_of(|w| Some(counter(w)))
    }

    fn sum_of(&self, counter: impl Fn(&WorkerCounters) -> Option<&AtomicU64>) -> u64 {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let values = workers.iter().filter_map(|w| counter(w)).map(|c| c.load(Ordering::Relaxed));
        values.fold(0, u64::wrapping_add)
    }
}

pub(crate) fn register(metrics: &Metrics, totals: &Arc<Totals>) {
    let t = Arc::clone(totals);
    metrics.family_fn(
        MetricKind::Counter,
        "durward_requests",
        "Requests by route and by class of status",
        move || {
            let count = |(route, class, value): (String, &str, u64)| Sample {
                labels: vec![("route", route), ("class", class.to_owned())],
                value,
            };
            t.requests().into_iter().map(count).collect()
        },
    );
    let t = Arc::clone(totals);
    metrics.family_fn(MetricKind::Counter, "durward_refusals", "Requests refused, by reason", move || {
        let count = |(denial, value): (&str, u64)| Sample {
            labels: vec![("denial", denial.to_owned())],
            value,
        };
        t.refusals().into_iter().map(count).collect()
    });
    let t = Arc::clone(totals);
    metrics.family_fn(
        MetricKind::Counter,
        "durward_report_only",
        "Requests forwarded without identity although they would be refused, by reason, see insecure_report_only",
        move || {
            let count = |(denial, value): (&str, u64)| Sample {
                labels: vec![("denial", denial.to_owned())],
                value,
            };
            t.reported().into_iter().map(count).collect()
        },
    );
    let t = Arc::clone(totals);
    metrics.family_fn(
        MetricKind::Counter,
        "durward_dropped_fields",
        "Request fields that were not forwarded for their odd names, see limits.odd_names",
        move || {
            vec![Sample {
                labels: Vec::new(),
                value: t.dropped_fields(),
            }]
        },
    );
    let t = Arc::clone(totals);
    metrics.histogram_fn(
        "durward_request_duration_seconds",
        "From the request head to the end of the response",
        move || {
            let (sum, counts) = t.durations();
            histogram(&BOUNDS, sum, counts)
        },
    );
    let t = Arc::clone(totals);
    metrics.histogram_fn(
        "durward_facts_age_seconds",
        "How old the facts were by which a request was judged, counted from when their read was sent; never above store.max_age",
        move || {
            let (sum, counts) = t.facts_ages();
            histogram(&AGES, sum, counts)
        },
    );
    let t = Arc::clone(totals);
    metrics.gauge_fn("durward_requests_in_flight", "Requests begun and not ended", &[], move || {
        t.in_flight()
    });
    let t = Arc::clone(totals);
    metrics.counter_fn(
        "durward_hook_failures",
        "Hooks of served routes whose service could not be asked or told",
        &[],
        move || t.failed_hooks(),
    );
    register_streams(metrics, totals);
    metrics.gauge_fn(
        "durward_build_info",
        "The version that runs",
        &[("version", env!("CARGO_PKG_VERSION"))],
        || 1,
    );
}

fn register_streams(metrics: &Metrics, totals: &Arc<Totals>) {
    let t = Arc::clone(totals);
    metrics.family_fn(
        MetricKind::Gauge,
        "durward_streams_open",
        "Requests under a credential that have been open for 200 ms or more, by kind; they are judged again until they end",
        move || {
            let row = |kind: StreamKind| Sample {
                labels: vec![("kind", kind.as_str().to_owned())],
                value: t.open_streams(kind),
            };
            StreamKind::ALL.into_iter().map(row).collect()
        },
    );
    let t = Arc::clone(totals);
    metrics.family_fn(
        MetricKind::Counter,
        "durward_streams_ended",
        "WebSockets that ended and other streams that were cut off, by reason; a denial is one whose credential died",
        move || {
            let row = |(kind, reason, value): (StreamKind, &str, u64)| Sample {
                labels: vec![("kind", kind.as_str().to_owned()), ("reason", reason.to_owned())],
                value,
            };
            t.ended_streams().into_iter().map(row).collect()
        },
    );
}

fn histogram(bounds: &[Duration], sum: Duration, counts: Vec<u64>) -> HistogramSample {
    let bounds = bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
    HistogramSample {
        sum: sum.as_secs_f64(),
        buckets: bounds.zip(counts).collect(),
    }
}
